"""The user cache: verified bytes on local disk, shared by many processes.

::

  CACHEDIR.TAG                         backup tools skip this tree
  README.txt                           what this is, how to clear it
  .lock                                shared: in use; exclusive: removal
  .claims                              each locked byte: a small file that a batch fetches
  objects-v1/<alg>/<aa>/<rest>/<name>  one file; <aa><rest> is its digest
  sizes-v1/<alg>/<aa>.txt              bytes of objects, where no registry tells
  trees-v1/<alg>/<aa>/<rest>/          directory; digest of its sorted lines
  derived-v1/<alg>/<aa>/<rest>/<key>/  what a processor made of an object
  contents-v1/<key>.txt                what such a directory holds, to notice a loss
  stamps-v1/<md5 of folder>.txt        files of predefined folders, once verified
  packages-v1/<package>.txt            digest and name of what the package brought here
  partial-v1/<key>.part                unfinished bytes of a pinned object, at rest
  partial-v1/<key>.note|spans          where they came from with If-Range, which are there
  partial-v1/<key>.<owner>.part        the same while <owner> writes them
  partial-v1/<key>.<owner>.note|spans  the same, next to it
  partial-v1/<key>.<owner>.link        a second name of an object, for a moment
  partial-v1/<key>.<owner>.dir/        a tree or derived directory until it is complete
  hosts-v1/<md5 of server>.down        a server that failed recently; old ones mean nothing
  hosts-v1/job-<md5 of files>.json     what failed for the ranks of a job; old ones mean nothing
  locks-v1/<key>.lock                  one writer per key
  locks-v1/<key>.lock.soft             who that is, for hosts that share no flock
  locks-v1/crowd-<number>.soft         whose batches work, of hosts that want the same files

1. A path in objects, trees or derived exists only after its bytes were verified. Commit is: write
   on the same file system, flush, sync, rename. There is no separate "done" flag.
2. Objects, trees and derived files never change; they are read-only. Removal needs .lock
   exclusively; a returned path is good until the next removal. What something else removed, such as
   a computing centre's purge, is missed when it is asked for, and made again in its place.
3. Readers take no key lock. Writers look, lock the key, look again, write.
4. Rule 1 gives correctness; locks only save repeated work. Where locks do nothing, the cost is
   bandwidth, never bad data: a process writes only to a file that carries its own name. It resumes
   another's unfinished bytes by renaming that file to its own name, if the other has ended for
   sure, else by copying the bytes.
5. Only pinned objects resume across processes. A resumed file that fails verification is emptied
   and fetched once more. Unpinned bytes always go to a fresh file.
6. A damaged record is a miss, not an error.
7. A hit writes nothing; pruning by age reads the file system's own times. Where a mount keeps none
   (``noatime``), the first use in a day sets the time of access.
8. A format change takes a new suffix. Releases leave suffixes they do not know alone, so two
   releases can share one root.

New files and folders take the permission bits of the folder above them, so that a group shares a
cache by making its root group-writable (``chmod g+rwxs``). Of others who may write to it the
contents of objects are believed; their links are not followed, what is no plain file is set aside,
and a name goes only to a file that this process made and no other user may write to.
"""

from __future__ import annotations

import os
import stat

from ..base import config, fs
from ..base.hashes import Digest, short_key
from ..errors import CacheError
from . import stamps
from .stamps import OBJECTS, PACKAGES, PARTIAL, SIZES, STAMPS, key_of, make_dirs_below

# a hit, which only looks, is spared what brings objects in: partial, staging, owners, locks
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from ..base.locks import Signs, UsageLock
    from .partial import Partial
    from .staging import Turn

#: A change of one's format takes the next number, and changes the tree of ``test_format.py``.
TREES, DERIVED, CONTENTS = "trees-v1", "derived-v1", "contents-v1"
LOCKS, HOSTS = "locks-v1", "hosts-v1"
BUCKETS = (OBJECTS, SIZES, STAMPS, PACKAGES, TREES, DERIVED, CONTENTS, PARTIAL, LOCKS, HOSTS)

_SEP = os.sep  # plain joining: names here are clean, and a batch asks thousands of times


def contents_file(root: str, key: str) -> str:
    """Return the file that says what a tree or a derived directory holds."""
    return os.path.join(root, CONTENTS, f"{key}.txt")


class Cache:
    """A cache root. Making one touches no disk.

    Parameters
    ----------
    root : str
    lock_timeout : float, default 60
        Seconds to wait for another process that shows no sign of work.
    origin : str, default ``""``
        Which setting named the root, for errors.
    verify : str, default ``"once"``
        Which objects `find` hashes, as the setting ``verify`` says.
    """

    def __init__(
        self, root: str, lock_timeout: float = 60.0, origin: str = "", verify: str = "once"
    ) -> None:
        self.root = root
        self.lock_timeout = lock_timeout
        self.origin = origin
        self._verify = verify
        self._checks = stamps.Checks(root, verify)
        #: Processes that showed no sign of work for too long, on whatever object.
        self.stuck: set[str | None] = set()

    def __repr__(self) -> str:
        return f"<Cache {self.root}>"

    def _folder(self, bucket: str, digest: Digest) -> str:
        first, rest = digest.hex[:2], digest.hex[2:]
        return f"{self.root}{_SEP}{bucket}{_SEP}{digest.alg}{_SEP}{first}{_SEP}{rest}"

    def path(self, digest: Digest, name: str) -> str:
        """Return where an object lies if it is here.

        Parameters
        ----------
        digest : Digest
        name : str
            Its name; the last part counts.
        """
        return f"{self._folder(OBJECTS, digest)}{_SEP}{name.rpartition('/')[2]}"

    def find(
        self,
        digest: Digest,
        name: str,
        size: int | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> str | None:
        """Return the path of an object; None if it is not here or is wrong. No lock.

        Parameters
        ----------
        digest : Digest
        name : str
        size : int, optional
            Bytes it must have.
        tell : callable, optional
            Called with what is wrong with one that was hashed.
        """
        path = self.path(digest, name)
        try:
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode) and not fs.is_foreign(found):
                found = os.stat(path)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        expected = stamps.recorded_size(self.root, digest) if size is None else size
        if expected is not None and found.st_size != expected:
            import logging

            text = "%s has %d bytes instead of %d; it is fetched again"
            logging.getLogger("pkgdata").warning(text, path, found.st_size, expected)
            return None
        if self._verify == "once" and not found.st_mode & 0o022:
            return path
        problem = self._checks.problem(path, found, digest)
        if problem and tell:
            tell(problem)
        return None if problem else path

    def obtain(
        self,
        digest: Digest,
        name: str,
        size: int | None,
        fill: Callable[[Partial], object],
        waiting: Callable[[float, str, int], None] | None = None,
        sync: bool = True,
    ) -> str:
        """Return an object's path; bring it in if it is not here.

        Parameters
        ----------
        digest : Digest
        name : str
        size : int or None
        fill : callable
            Called with a `Partial`; writes the object's bytes into it and verifies them.
        waiting : callable, optional
            Called while another process works on it, with seconds, who, and bytes so far.
        sync : bool, default True
            Make it survive a power loss, which else may leave an empty file.

        Raises
        ------
        CacheError
            The cache cannot be used; ``unwritable`` is set if it may not be written to.
        """

        def look() -> str | None:
            return self.find(digest, name, size)

        waited = False

        def done() -> bool:
            nonlocal waited
            waited = True
            return look() is not None

        path = look()
        if path is None:
            from .partial import Partial

            with self.working_on(key_of(digest), done, waiting, size):
                path = look()
                if path is None and waited:
                    # a client of NFS remembers for a minute what was not there, if nobody makes it
                    make_dirs_below(self.root, os.path.dirname(self.path(digest, name)))
                    path = look()
                path = path or self._under_other_name(digest, name, size)
                if path is None:
                    partial = Partial(self.bucket(PARTIAL), key_of(digest), resume=True)
                    path = partial.await_other(look, waiting, self.lock_timeout, self.stuck, size)
                    if path is None:
                        with partial:
                            fill(partial)
                            path = self._commit(partial, digest, name, size, sync)
        return path

    def add(self, source: str, digest: Digest, name: str, size: int | None = None) -> str:
        """Copy a local file into the cache and verify it on the way; return its path here.

        Parameters
        ----------
        source : str
        digest : Digest
            What the file hashes to.
        name : str
        size : int, optional

        Raises
        ------
        IntegrityError
            The file hashes to something else.
        """

        def fill(partial: Partial) -> None:
            with open(source, "rb", opener=fs.regular) as file:
                partial.fill(file, digest, name)

        return self.obtain(digest, name, size, fill)

    def bucket(self, name: str) -> str:
        """Return the folder of a bucket; create it if it is not here.

        Parameters
        ----------
        name : str

        Returns
        -------
        str
        """
        path = os.path.join(self.root, name)
        fs.make_dirs(path)
        return path

    def prepare(self) -> None:
        """Create the root with its two explanatory files.

        Raises
        ------
        CacheError
            It cannot be created.
        """
        if not os.path.exists(os.path.join(self.root, "CACHEDIR.TAG")):
            from . import root

            root.prepare(self.root)

    def translate(self, error: OSError) -> CacheError:
        """Return what an error of the system means for the cache.

        Parameters
        ----------
        error : OSError
        """
        from . import root

        return root.unusable(self.root, self.origin, error)

    def working_on(
        self,
        key: str,
        done: Callable[[], bool],
        waiting: Callable[[float, str, int], None] | None,
        size: int | None = None,
    ) -> AbstractContextManager[None]:
        """Return a context manager in which this process alone works on a key, where locks work.

        Entering it raises `CacheError` if the cache cannot be used.

        Parameters
        ----------
        key : str
        done : callable
            True ends the wait for another process, because it has finished.
        waiting : callable or None
            See `obtain`.
        size : int, optional
            Bytes that the other process brings in, to tell how long it takes.
        """
        from .staging import working

        lock = os.path.join(self.root, LOCKS, f"{key}.lock")
        folder = os.path.join(self.root, PARTIAL)
        return working(self, key, done, waiting, lock, folder, size)

    def turn(
        self, key: str, done: Callable[[], bool], sign: Callable[[], Signs] | None = None
    ) -> Turn:
        """Return a context manager for work outside of the cache, whose lock lies here if it can.

        Parameters
        ----------
        key : str
        done : callable
            True ends the wait for another process, because it has finished.
        sign : callable, optional
            What changes while another process makes progress, as `staging.growth` returns it.
        """
        from . import staging

        try:
            self.prepare()
            path = os.path.join(self.bucket(LOCKS), f"{key}.lock")
        except OSError:
            path = None  # a cache that cannot be written to; a lock only saves work
        return staging.Turn(path, self.lock_timeout, done, sign, optional=True)

    def _under_other_name(self, digest: Digest, name: str, size: int | None) -> str | None:
        """Give an object that is here a second name."""
        from ..base import owners

        folder = self._folder(OBJECTS, digest)
        try:
            others = [] if os.path.islink(folder) else sorted(os.listdir(folder))
        except OSError:
            return None
        for other in others:
            source = self.find(digest, other, size)
            if source is not None and other != name.rpartition("/")[2]:
                target = self.path(digest, name)
                aside = os.path.join(
                    self.bucket(PARTIAL), f"{key_of(digest)}.{owners.unique()}.link"
                )
                self.share(source, aside)
                fs.install(aside, target)
                return target
        return None

    def share(self, source: str, target: str) -> None:
        """Give an object a second name; copy any other file, which its owner may change later.

        Parameters
        ----------
        source : str
        target : str
            Must not exist.
        """
        ours = source.startswith(os.path.join(self.root, OBJECTS, ""))
        (fs.link_or_copy if ours else fs.copy)(source, target)
        fs.follow_mode(target, 0o666, drop=0o222)

    def _commit(
        self, partial: Partial, digest: Digest, name: str, size: int | None, sync: bool
    ) -> str:
        target = self.path(digest, name)
        if sync:
            os.fsync(partial.fd)
        make_dirs_below(self.root, os.path.dirname(target))
        if size is None:
            stamps.record_sizes(self.root, [(digest, partial.offset)])
        fs.follow_mode(partial.path, 0o666, drop=0o222, fd=partial.fd)
        partial.close()
        fs.install(partial.path, target)
        return target

    def tree(self, digest: Digest, files: Iterable[tuple[str, str]]) -> str:
        """Return a directory in which files lie side by side.

        Parameters
        ----------
        digest : Digest
            Identity of the tree.
        files : iterable of (str, str)
            Relative name and path of each file's verified bytes; read only if the tree is not here.
        """

        def build(folder: str) -> None:
            for name, source in files:
                target = os.path.join(folder, *name.split("/"))
                fs.make_dirs(os.path.dirname(target))
                self.share(source, target)

        key = f"tree-{key_of(digest)}"
        return self._directory(self._folder(TREES, digest), key, build, sync=False)

    def find_tree(self, digest: Digest) -> str | None:
        """Return the directory of a tree if all of it is here.

        Parameters
        ----------
        digest : Digest
            Identity of the tree.
        """
        from . import staging

        path = self._folder(TREES, digest)
        record = contents_file(self.root, f"tree-{key_of(digest)}")
        if not staging.is_complete(path, record):
            return None
        stamps.note_use(self.root, path)
        return path

    def derived(self, digest: Digest, recipe: str, build: Callable[[str], None]) -> str:
        """Return the directory that a processor made of an object; make it if it is not here.

        Parameters
        ----------
        digest : Digest
            Of the object.
        recipe : str
            Which processor, with what arguments.
        build : callable
            Called with an empty directory to fill.
        """
        short = short_key(recipe, "sha256")[:16]
        target = os.path.join(self._folder(DERIVED, digest), short)
        return self._directory(target, f"derived-{key_of(digest)}-{short}", build, sync=True)

    def _directory(self, target: str, key: str, build: Callable[[str], None], sync: bool) -> str:
        from ..base import owners
        from . import staging

        record = contents_file(self.root, key)

        def here() -> bool:
            return staging.is_complete(target, record)

        if here():
            stamps.note_use(self.root, target)
            return target
        with self.working_on(key, here, None):
            if not here():
                self.bucket(CONTENTS)
                make_dirs_below(self.root, os.path.dirname(target))
                partial = self.bucket(PARTIAL)
                staging.sweep(partial, f"{key}.")
                aside = os.path.join(partial, f"{key}.{owners.unique()}.dir")
                with staging.folder(aside):
                    build(aside)
                    sync = sync and config.conf.durability != "none"
                    staging.settle(aside, target, record, sync)
        return target

    def tidy(self) -> None:
        """Remove what dead processes left of objects that are here now, and their lock files."""
        # also after a fetch that found all: the one before may have been killed after its last file
        left = [*fs.listed(self.root, PARTIAL), *fs.listed(self.root, LOCKS)]
        if left:
            from . import root

            root.tidy(self.root, left)

    def usage(self, exclusive: bool = False) -> UsageLock:
        """Return the lock that keeps files from being removed; a context manager.

        Entering it raises `CacheLockTimeoutError` if others do not finish in time.

        Parameters
        ----------
        exclusive : bool, default False
            Keep every other program out, in order to remove files.
        """
        try:
            self.prepare()
        except OSError as error:
            raise self.translate(error) from error
        from ..base.locks import UsageLock

        return UsageLock(os.path.join(self.root, ".lock"), exclusive, self.lock_timeout)
