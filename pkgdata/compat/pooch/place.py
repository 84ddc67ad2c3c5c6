"""Files where pooch keeps them, and what its own processors make of them.

::

  PATH/NAME                          the file; this is pooch's format, and all of it
  PATH/.../pkgdata-<key>.<owner>.part    unfinished bytes next to NAME, while <owner> writes them
  PATH/.../pkgdata-<key>.part            the same at rest, until a download resumes them
  NAME.unzip/ NAME.untar/ NAME.decomp    results of `Unzip`, `Untar` and `Decompress`, unless named
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

from ...base import config, disk, fs, hashes, owners
from ...base.hashes import Digest
from ...cache import staging
from ...cache import stamps as folders
from ...cache.objects import Cache
from ...cache.partial import Partial, unfinished
from ...cache.stamps import Stamps
from ...core import extract
from ...errors import CacheError, UnsafeNameError
from ...stores import codecs
from .basics import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any, Protocol

    from ...base.locks import Signs

    class Filler(Protocol):
        """Writes the right bytes into a `Partial`."""

        @property
        def resume(self) -> bool:
            """Whether bytes that an earlier attempt left are of use."""

        def __call__(self, partial: Partial) -> None: ...


#: What is in the stamp of a file whose hash is not known.
UNPINNED = Digest("sha256", "")

_VERBS = {"download": "Downloading", "update": "Updating"}

_stamps: dict[str | None, Stamps] = {}

_variables = ["PKGDATA_VERIFY", "PKGDATA_CACHE_DIR", "PKGDATA_CONFIG", "HOME"]
_variables += [f"XDG_{kind}" for kind in ("CACHE_HOME", "CONFIG_HOME", "CONFIG_DIRS")]
_watched = config.environment_reader(_variables)
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
    path: str, done: Callable[[], bool], sign: Callable[[], Signs] = lambda: ()
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

    def bring(self, action: str, announce: Callable[[str], None], fill: Filler) -> None:
        """Put the file in place, unless another process does so while we wait for it.

        ``action`` is what `look` returned; ``announce`` is called with pooch's verb before the
        download; ``fill`` writes the right bytes into a `Partial`.
        """
        self.make_room()
        here, key = os.path.dirname(self.path), work_key(self.base)
        before = self.seen

        def changed() -> bool:
            return facts(self.path) != before

        def sign() -> Signs:
            return staging.growth(path for path, _ in unfinished(here, key))

        with turn(self.path, changed, sign):
            if changed() and self.look(fresh=True) == "fetch":
                return
            announce(_VERBS[action])
            self._write(here, key, fill)

    def _write(self, here: str, key: str, fill: Filler) -> None:
        with contextlib.ExitStack() as stack:
            try:
                partial = stack.enter_context(Partial(here, key, fill.resume))
            except PermissionError as error:
                raise self._denied(error, "write to") from error
            fill(partial)
            disk.sync(partial.path)
            fs.follow_mode(partial.path, 0o666, fd=partial.fd)  # verified: a group may write to it
            partial.close()
            found = os.stat(partial.path)  # a rename changes none of it
            fs.replace(partial.path, self.path)
        self._stamp(found)
        staging.sweep(here, f"{key}.")
        for kind in ("part", "note", "spans"):
            fs.remove(os.path.join(here, f"{key}.{kind}"))  # at rest, from an earlier attempt


# -- processors --------------------------------------------------------------------------------

# pooch's own are carried out safely where pooch puts their results: aside and renamed into place,
# by one process at a time. A stamp with the facts of the archive says that a result is complete, so
# that a later call need not open the archive again. Any other callable, and so every class derived
# from pooch's, is called as it is.


def apply(processor: Callable[..., Any], file: LocalFile, action: str, caller: object) -> Any:
    """Run a processor on a file that is in place: ``processor(fname, action, caller)``."""
    kind = type(processor).__name__ if type(processor).__module__ == "pooch.processors" else ""
    if kind in ("Unzip", "Untar"):
        return _Archive(kind, processor, file, action).files()
    if kind == "Decompress":
        return _decompressed(processor, file, action)
    return processor(file.path, action, caller)


def _made(target: str, find: Callable[[bool], Any], make: Callable[[str], Any]) -> Any:
    """Return what ``find`` finds, else what ``make`` builds, in one process at a time.

    ``find`` is asked again, with fresh stamps, after the wait for the lock; ``make`` takes the
    beginning of the names of unfinished files.
    """
    found = find(False)
    if found is not None:
        return found
    above, key = os.path.split(target)
    start = os.path.join(above, work_key(key))
    os.makedirs(above, exist_ok=True)

    def sign() -> Signs:
        return staging.growth(staging.made_under(above, f"{work_key(key)}."))

    with turn(target, lambda: False, sign):
        found = find(True)
        if found is None:  # else another process was faster
            found = make(f"{start}.{owners.unique()}")
            staging.sweep(above, f"{work_key(key)}.")
    return found


class _Archive:
    """An archive and the folder that it is unpacked into."""

    def __init__(self, kind: str, processor: Any, file: LocalFile, action: str) -> None:
        self._kind = kind
        self._digest = file.digest or UNPINNED
        self._path = file.path
        self._action = action
        self._members: list[str] | None = processor.members
        inside = processor.extract_dir
        if inside is None:
            inside = file.base + processor.suffix
        self._folder = os.path.join(os.path.dirname(file.path), inside)

    def find(self, fresh: bool) -> list[str] | None:
        """Return the unpacked files if they are all here."""
        found = self._listing()
        if stamps(fresh).has(self._folder, self._key(found), os.stat(self._path), self._digest):
            return found
        return None if fresh or self._must_unpack() else self._stamp()

    def files(self) -> list[str]:
        """Return the unpacked files; unpack the archive if they are not all here."""
        found: list[str] = _made(self._folder, self.find, self._unpack)
        return found

    def _listing(self) -> list[str]:
        """Return what is in the folder, of the members asked for, in pooch's order."""
        wanted = None if self._members is None else [os.path.normpath(m) for m in self._members]
        found = []
        for path, _, files in os.walk(self._folder):
            for name in files:
                full = os.path.join(path, name)
                if wanted is None or _begins(os.path.relpath(full, self._folder), wanted):
                    found.append(full)
        return found

    def _key(self, found: list[str]) -> str:
        names = sorted(os.path.relpath(path, self._folder) for path in found)
        return f"{self._kind} {short(repr(self._members))} {short(repr(names))}"

    def _stamp(self) -> list[str]:
        found = self._listing()
        stamps().add(self._folder, self._key(found), os.stat(self._path), self._digest)
        return found

    def _must_unpack(self) -> bool:
        if self._action in ("update", "download") or not os.path.isdir(self._folder):
            return True
        members = self._members or extract.names(self._kind, self._path)
        return not all(os.path.exists(os.path.join(self._folder, one)) for one in members)

    def _unpack(self, start: str) -> list[str]:
        self._log()
        with staging.folder(f"{start}.dir") as aside:
            extract.unpack(self._kind, self._path, aside, self._choose, extract.Growth.of())
            if not staging.place(aside, self._folder, replace=False):
                staging.merge(aside, self._folder)  # next to what other members left there
        return self._stamp()

    def _choose(self, names: list[str]) -> Collection[str]:
        if self._members is None:
            return set(names)
        wanted = [os.path.normpath(member) for member in self._members]
        return {name for name in names if _begins(os.path.normpath(name), wanted)}

    def _log(self) -> None:
        if self._members is None:
            verb = "Unzipping" if self._kind == "Unzip" else "Untarring"
            logger().info("%s contents of '%s' to '%s'", verb, self._path, self._folder)
        for member in self._members or ():
            logger().info("Extracting '%s' from '%s' to '%s'", member, self._path, self._folder)


def _begins(name: str, wanted: list[str]) -> bool:
    return any(name.startswith(one) for one in wanted)  # as texts: pooch does not stop at a slash


def _decompressed(processor: Any, file: LocalFile, action: str) -> str:
    """Return the decompressed file; make it if it is not here."""
    above, own = os.path.split(file.path)
    name = f"{own}.decomp" if processor.name is None else processor.name
    target = os.path.join(above, name)
    key, digest, archive = f"Decompress {name}", file.digest or UNPINNED, os.stat(file.path)

    def find(fresh: bool) -> str | None:
        if not os.path.exists(target):
            return None
        trusted = action == "fetch" and not fresh
        return target if trusted or stamps(fresh).has(above, key, archive, digest) else None

    def make(start: str) -> str:
        text = "Decompressing '%s' to '%s' using method '%s'."
        logger().info(text, file.path, target, processor.method)
        if codecs.method_of(file.path, processor.method) is None:
            processor._compression_module(file.path)  # raises in pooch's words
        aside = f"{start}.part"
        try:
            extract.decompress(file.path, aside, processor.method, extract.Growth.of())
            fs.replace(aside, target)
        finally:
            fs.remove(aside)
        stamps().add(above, key, archive, digest)
        return target

    made: str = _made(target, find, make)
    return made
