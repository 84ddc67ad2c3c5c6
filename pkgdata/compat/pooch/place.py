"""Files where pooch keeps them.

::

  PATH/NAME                          the file; this is pooch's format, and all of it
  PATH/.../pkgdata-<key>.<owner>.part    unfinished bytes next to NAME, while <owner> writes them
  PATH/.../pkgdata-<key>.part            the same at rest, until a download resumes them
  <user cache>/stamps-v1/            which files were verified, as for predefined folders
  <user cache>/locks-v1/place-<key>.lock one writer per file

1. A file appears under its name after its bytes were verified, by a rename.
2. A file whose inode, size and modification time are those of its stamp is not hashed again.
3. As in the cache, correctness rests on the rename alone: where locks or stamps cannot be kept, the
   cost is a repeated download or hash.
"""

from __future__ import annotations

import contextlib
import os

from ...base import config, dirs, fs, hashes
from ...base.hashes import Digest
from ...cache import staging
from ...cache import stamps as folders
from ...cache.objects import Cache
from ...cache.partial import Partial, unfinished
from ...cache.stamps import Stamps
from ...errors import CacheError, UnsafeNameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: What is in the stamp of a file whose hash is not known.
UNPINNED = Digest("sha256", "")

_VERBS = {"download": "Downloading", "update": "Updating"}

_stamps: dict[str | None, Stamps] = {}

_watched = dirs.environment_reader(
    [
        "PKGDATA_VERIFY",
        "PKGDATA_CACHE_DIR",
        "PKGDATA_CONFIG",
        "HOME",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_CONFIG_DIRS",
    ]
)
# policy and root of the cache, valid until a variable or `pkgdata.conf` changes
_resolved: tuple[object, str, str | None] = (None, "", None)


def settings() -> tuple[str, str | None]:
    """Return when a file is checked, and the root of the user cache.

    There is no root without a home directory; then stamps are kept in the process, and there are
    no locks.
    """
    global _resolved
    basis, policy, root = _resolved
    now = (_watched(), config.state())
    if basis != now:
        try:
            root = config.cache_dir()[0]
        except CacheError:
            root = None
        policy = config.conf.verify
        _resolved = now, policy, root
    return policy, root


def stamps(fresh: bool = False) -> Stamps:
    """Return the stamps of the user cache; ``fresh`` ones include those of other processes."""
    root = settings()[1]
    # where nothing can be read back, what this process knows is all there is
    if root not in _stamps or (fresh and root is not None and os.access(root, os.W_OK)):
        _stamps[root] = Stamps(root)
    return _stamps[root]


def parse_hash(known: str | None) -> Digest | None:
    """Read a hash as a pooch registry has it.

    The value need not be well formed: then no bytes match it, and the error says so.
    """
    if known is None:
        return None
    alg, _, value = known.strip().lower().rpartition(":")
    alg = alg or "sha256"
    if alg not in hashes.HEX_LENGTH:
        known_ones = ", ".join(hashes.HEX_LENGTH)
        raise ValueError(f"Algorithm '{alg}' is not available (known: {known_ones})")
    return Digest(alg, value)


def facts(path: str) -> tuple[int, ...] | None:
    """Return what distinguishes two versions of a file; None if it is not there."""
    try:
        return _facts(os.stat(path))
    except OSError:
        return None


def _facts(found: os.stat_result) -> tuple[int, ...]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def turn(
    path: str, done: Callable[[], bool], sign: Callable[[], object] = lambda: None
) -> staging.Turn:
    """Return the context manager in which this process alone works on a path.

    The lock is in the user cache; without a cache that can be written to there is none.
    """
    root, timeout = settings()[1], config.conf.lock_timeout
    if root is None:
        return staging.Turn(None, timeout, done)
    return Cache(root, timeout).turn(f"place-{short(path)}", done, sign)


def short(text: str) -> str:
    """Return a short key of a path or name."""
    return hashes.short_key(text)[:24]


def work_key(name: str) -> str:
    """Return the prefix of the names of unfinished files and folders."""
    return f"pkgdata-{short(name)}"


class LocalFile:
    """One file of a storage: its path and its hash.

    ``folder`` is the storage, an absolute path; ``known`` is the hash as the registry has it.
    """

    def __init__(self, folder: str, name: str, known: str | None) -> None:
        self.folder = folder
        self.name = name
        self.known = known
        self.path = os.path.join(folder, *name.split("/"))
        self.digest = parse_hash(known)
        #: Facts of the file at the last look.
        self.seen: tuple[int, ...] | None = None
        # names may come from a repository's answer, not only from the author
        harmless = ".." not in name and name[:1] != "/" and not fs.WINDOWS
        if not harmless and (os.path.isabs(name) or not fs.name_inside(folder, self.path)):
            raise UnsafeNameError(f"refused the name {name!r}: it leaves {folder}", name=name)

    @property
    def base(self) -> str:
        """The name without its folders."""
        return os.path.basename(self.path)

    def look(self, fresh: bool = False) -> str:
        """Return what is to be done: pooch's ``"fetch"``, ``"download"`` or ``"update"``.

        ``fresh``: another process may have stamped it just now.
        """
        self.seen = facts(self.path)  # first: a later change is noticed
        if self.digest is None:
            return "fetch" if self.seen else "download"
        found = folders.check(
            self.folder, self.name, self.digest, None, settings()[0], stamps(fresh)
        )
        if found is None:
            return "download"
        return "fetch" if found[1] is None else "update"

    def _stamp(self, found: os.stat_result) -> None:
        """Remember that the file was verified."""
        self.seen = _facts(found)
        if self.digest is not None and settings()[0] == "once":
            stamps().add(self.folder, self.name, found, self.digest)

    def make_room(self) -> None:
        """Create the folders, with pooch's words where that is not allowed."""
        verb = "write to" if os.path.exists(self.folder) else "create"
        try:
            os.makedirs(self.folder, exist_ok=True)
            fs.make_dirs(os.path.dirname(self.path))  # with the modes of what is above
        except PermissionError as error:
            raise self._denied(error, verb) from error

    def _denied(self, error: OSError, verb: str) -> PermissionError:
        return PermissionError(
            f"{error} | Pooch could not {verb} data cache folder '{self.folder}'. "
            "Will not be able to download data files."
        )

    def bring(
        self,
        action: str,
        announce: Callable[[str], None],
        fill: Callable[[Partial], object],
        resume: bool,
    ) -> None:
        """Put the file in place, unless another process does so while we wait for it.

        ``action`` is what `look` returned; ``announce`` is called with pooch's verb before the
        download; ``fill`` writes the right bytes into a `Partial`.
        """
        self.make_room()
        here, key = os.path.dirname(self.path), work_key(self.base)
        before = self.seen

        def changed() -> bool:
            return facts(self.path) != before

        def sign() -> object:
            return staging.growth(path for path, _ in unfinished(here, key))

        with turn(self.path, changed, sign):
            if changed() and self.look(fresh=True) == "fetch":
                return
            announce(_VERBS[action])
            self._write(here, key, fill, resume)

    def _write(self, here: str, key: str, fill: Callable[[Partial], object], resume: bool) -> None:
        with contextlib.ExitStack() as stack:
            try:
                partial = stack.enter_context(Partial(here, key, resume))
            except PermissionError as error:
                raise self._denied(error, "write to") from error
            fill(partial)
            fs.sync(partial.path)
            partial.close()
            found = os.stat(partial.path)  # a rename changes none of it
            fs.replace(partial.path, self.path)
        self._stamp(found)
        staging.sweep(here, f"{key}.")
        for kind in ("part", "note", "spans"):
            fs.remove(os.path.join(here, f"{key}.{kind}"))  # at rest, from an earlier attempt
