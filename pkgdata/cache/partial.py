"""Bytes on their way into the cache: of one object, or of many small ones together.

A `Partial` is a file that one process alone writes to, and that the next one resumes;
`pkgdata.cache.objects` describes where they lie and rule 4, which they obey.

In a `Group` small objects are written first; then the file system is synced once; then each gets
its name: a sync of its own for each of thousands would cost more than fetching them. Rule 1 holds
as for a single object: what has its name is on disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any

from ..base import disk, fs, hashes, locks, owners
from ..base.hashes import Digest
from ..errors import CacheError, PkgdataError, StoreError
from . import staging, stamps
from .stamps import OBJECTS, PARTIAL, key_of


class Partial:
    """Unfinished bytes in a file that this process alone writes to; a context manager.

    Leaving the block by an exception puts the bytes back for the next process if they are worth it,
    else removes them.

    With `resume` it continues with bytes that an earlier process left under this key.
    """

    def __init__(self, folder: str, key: str, resume: bool) -> None:
        self._folder = folder
        self._key = key
        self._resume = resume
        #: The file.
        self.path = os.path.join(folder, f"{key}.{owners.unique()}.part")
        #: Bytes that are there, from the beginning.
        self.offset = 0
        #: Intervals that are there beyond them, after a transfer over several ranges.
        self.later: list[tuple[int, int]] = []
        self.fd = -1
        self._more = False  # whether several processes have left some

    def __enter__(self) -> Partial:
        left = sorted(unfinished(self._folder, self._key), key=lambda pair: -pair[1])
        self._more = len(left) > 1
        if not (self._resume and any(self._take(path) for path, _ in left)):
            self.fd = fs.create_exclusive(self.path, drop=_OTHERS)
        size = os.fstat(self.fd).st_size
        spans = _read_spans(self.path)
        # without a record that can be true the digest decides what the file is worth
        self.offset, self.later = spans if spans and _fit(size, *spans) else (size, [])
        return self

    def _take(self, path: str) -> bool:
        """Make the bytes of an earlier process ours; return whether that worked."""
        owner = owners.of(path)
        ended = owner is None or owners.is_gone(owner)
        if not ended and owner and owner.partition("-")[0] == owners.token().partition("-")[0]:
            return False  # it runs on this machine and still writes
        try:
            left = fs.open_plain(path, os.O_RDONLY)
        except FileNotFoundError:
            return False  # another process was faster
        except OSError as error:
            if error.errno == errno.ELOOP:
                with contextlib.suppress(OSError):  # it is not in the way of our own
                    owners.set_aside(path)
            return False
        try:
            found = os.fstat(left)
            # what others may write to they may have open, and write to after it was verified
            ours = fs.WINDOWS or (found.st_uid == os.geteuid() and not found.st_mode & _OTHERS)
            if not (ended and ours):
                self._copy(path, left)
                if ended:
                    with contextlib.suppress(OSError):  # it stays theirs
                        for one in (path, *(_next_to(path, note) for note in _NOTES)):
                            fs.remove(one)
        except OSError:
            fs.remove(self.path)  # not readable, or no space
            return False
        finally:
            os.close(left)
        return not (ended and ours) or self._rename(path, found)

    def _copy(self, path: str, source: int) -> None:
        """Copy the bytes of another user, or of one on another machine, who may still write."""
        spans = _read_spans(path)  # before the bytes, so that it never says too much
        note = _read(_next_to(path, "note"))
        self.fd = fs.create_exclusive(self.path, drop=_OTHERS)
        fs.copy_content(source, self.fd)
        if spans:
            self.record(*spans)
        if note and self._resume:
            address, _, validator = note.partition("\n")
            self.note(address, validator.strip())

    def _rename(self, path: str, found: os.stat_result) -> bool:
        try:
            os.rename(path, self.path)
            _move_notes(path, self.path)
            self.fd = fs.open_plain(self.path, os.O_RDWR)
            if os.path.samestat(found, os.fstat(self.fd)):
                return True
        except OSError:
            pass  # another process was faster
        self.close()
        fs.remove(self.path)
        return False

    def validator(self, address: str) -> str | None:
        """Return what to send as ``If-Range`` to a redacted URL; None if nothing was noted."""
        source, _, validator = (_read(_next_to(self.path, "note")) or "").partition("\n")
        return validator.strip() or None if source == address else None

    def note(self, address: str, validator: str | None) -> None:
        """Remember whose bytes these are, for `validator`."""
        if not self._resume:
            return
        fs.remove(_next_to(self.path, "note"))  # another user's may not be writable
        fd = fs.create_exclusive(_next_to(self.path, "note"))
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(f"{address}\n{validator or ''}\n")

    def record(self, front: int, later: list[tuple[int, int]]) -> None:
        """Note that the bytes before `front` and the intervals `later` are there; write first."""
        text = " ".join([str(front), *(f"{start}-{end}" for start, end in later)])
        fs.write_atomic(_next_to(self.path, "spans"), f"{text}\n".encode(), sync=False, follow=True)

    def await_other(
        self,
        look: Callable[[], str | None],
        waiting: Callable[[float, str, int], None] | None,
        timeout: float,
        stuck: set[str | None],
        size: int | None = None,
    ) -> str | None:
        """Wait for an object that another process is bringing in without holding its lock.

        That is so for the files of a batch, and where locks exclude nobody; the name of the
        unfinished file tells. The wait ends when the owner shows no sign of work for too long. It
        is then `stuck` and not waited for again, for it may hold hundreds of files.
        """
        began = changed = time.monotonic()
        work = staging.Work(
            self._folder, self._key, size, lambda who: _may_run(who) and who not in stuck
        )
        last: object = None
        while True:
            found, path = work.look(), look()
            if path is not None or not found:
                return path
            now = time.monotonic()
            if last is None:  # what another host left long ago is not waited for
                changed = now - owners.age(found[0][0], [when for _, _, when in found])
            elif found != last:
                changed = now
            last = found
            if now - changed >= timeout:
                stuck.update(owners.of(path) for path, _, _ in found)
                return None
            if waiting is not None:
                waiting(now - began, work.who, work.bytes)
            time.sleep(min(locks.pause(now - began, work.left()), changed + timeout - now))

    def restart(self) -> None:
        """Drop the bytes."""
        fs.remove(_next_to(self.path, "spans"))
        self.later = []
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self.offset = 0

    def fill(self, source: IO[bytes], digest: Digest, name: str) -> None:
        """Write the bytes of a local stream; `IntegrityError` if they are wrong.

        A stream that can be read from any place is not asked for what is here already.
        """
        origin = str(getattr(source, "name", ""))
        resumed = bool(self.offset) and _seek(source, self.offset)
        if not resumed:
            self.restart()
        actual = self._fill(source, digest.alg, name, origin)
        if actual != digest and resumed and _seek(source, 0):
            self.restart()
            actual = self._fill(source, digest.alg, name, origin)
        if actual != digest:
            self.restart()  # nobody resumes from wrong bytes
            what = f"wrong bytes for {name!r}"
            raise hashes.mismatch(what, digest, actual, name=name, source=origin)

    def _fill(self, source: IO[bytes], alg: str, name: str, origin: str) -> Digest:
        """Append what is left of a stream; return the digest of all."""
        hasher, self.later = hashes.new(alg), []
        os.lseek(self.fd, 0, os.SEEK_SET)
        for start in range(0, self.offset, 1 << 20):
            hasher.update(os.read(self.fd, min(1 << 20, self.offset - start)))
            if not start % (1 << 28):
                os.utime(self.path)  # those who wait see that we work
        while True:
            try:
                data = source.read(1 << 20)
            except PkgdataError:
                raise
            except OSError as error:  # else it would be taken for one of the cache
                text = f"{name!r} cannot be read from {origin or 'its source'}: {error}"
                raise StoreError(text, transient=isinstance(error, ConnectionError)) from error
            if not data:
                break
            hasher.update(data)
            fs.write_all(self.fd, data)
            self.offset += len(data)
        os.ftruncate(self.fd, self.offset)
        return Digest(alg, hasher.hexdigest())

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        keep = kind is not None and self._resume and bool(self.offset or self.later)
        self.close()
        if keep and not issubclass(kind or BaseException, CacheError):
            rest = os.path.join(self._folder, f"{self._key}.part")
            try:
                if _size_of(self.path) > _size_of(rest):
                    os.replace(self.path, rest)
                    _move_notes(self.path, rest)
            except OSError:
                pass  # the bytes would have been a help, no more
        try:
            fs.remove(self.path)
            for note in _NOTES:
                fs.remove(_next_to(self.path, note))
        except OSError:
            if kind is None:
                raise  # else what went wrong before is the error to report


#: What may lie next to a file of unfinished bytes: whose they are, and which of them are there.
_NOTES = ("note", "spans")


#: Permission to write that only this user has for a file that is not verified yet.
_OTHERS = 0o022


def _read(path: str) -> str | None:
    """Return the text of a small file that others may have put there; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8", opener=fs.plain) as file:
            return file.read(1 << 20)
    except (OSError, ValueError):
        return None


def _next_to(path: str, kind: str) -> str:
    return f"{path.removesuffix('.part')}.{kind}"


def _move_notes(source: str, target: str) -> None:
    for kind in _NOTES:
        try:
            os.replace(_next_to(source, kind), _next_to(target, kind))
        except OSError:
            fs.remove(_next_to(target, kind))  # that of other bytes would mislead


def _read_spans(path: str) -> tuple[int, list[tuple[int, int]]] | None:
    """Return what `Partial.record` wrote; None if there is nothing or it is damaged."""
    text = _read(_next_to(path, "spans")) or ""
    try:
        front, *later = text.split()
        if not text.endswith("\n"):
            return None
        pairs = [(int(start), int(end)) for start, _, end in (p.partition("-") for p in later)]
        return int(front), pairs
    except ValueError:
        return None


def _fit(size: int, front: int, later: list[tuple[int, int]]) -> bool:
    """Return True if a file of so many bytes can hold what a record says."""
    at = front
    for start, end in later:
        if not at <= start < end:
            return False
        at = end
    return front >= 0 and at <= size


def _size_of(path: str) -> int:
    """Return the bytes that a file takes, holes left out; -1 if it is not there."""
    try:
        return staging.bytes_in(os.lstat(path))
    except OSError:
        return -1


def _seek(source: IO[bytes], at: int) -> bool:
    """Return True if a stream can be read from a place, where it is now."""
    try:
        return source.seekable() and source.seek(at) == at
    except (OSError, ValueError, AttributeError):
        return False


def unfinished(folder: str, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield (path, bytes) of the unfinished files of a key, or of all."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.endswith(".part") and name.startswith(key + "." if key else ""):
            path = os.path.join(folder, name)
            size = _size_of(path)
            if size >= 0:
                yield path, size


def busy(folder: str, keys: set[str]) -> list[tuple[str | None, int]]:
    """Return (owner, bytes) of the unfinished files of some keys: a sign of work if it changes."""
    found = ((os.path.basename(path).partition(".")[0], path, n) for path, n in unfinished(folder))
    return [(owners.of(path), size) for key, path, size in found if key in keys]


def growing(folder: str, keys: Collection[str]) -> dict[str, tuple[str, list[tuple[int, int]]]]:
    """Return by key the largest unfinished file, and which intervals of it are there."""
    found: dict[str, tuple[str, list[tuple[int, int]]]] = {}
    most: dict[str, int] = {}
    for path, size in unfinished(folder):
        key = os.path.basename(path).partition(".")[0]
        if key in keys and size > most.get(key, -1):
            front, later = _read_spans(path) or (size, [])
            found[key], most[key] = (path, [(0, front), *later]), size
    return found


def standing(folder: str) -> tuple[dict[str, list[str]], set[str]]:
    """Return by key the unfinished files that nobody works on, and the keys of all others."""
    dead: dict[str, list[str]] = {}
    works: set[str] = set()
    me = f".{owners.token()}-"
    gone: dict[str | None, bool] = {None: True}
    for path in fs.listed(folder):
        name = os.path.basename(path)
        if me not in name:  # our own may be a thousand
            owner, key = owners.of(name), name.partition(".")[0]
            if owner not in gone:
                gone[owner] = owners.is_gone(owner or "")
            if not gone[owner]:
                works.add(key)
            elif name.endswith(".part"):
                dead.setdefault(key, []).append(path)
    return dead, works


def _may_run(owner: str | None) -> bool:
    """Return True if an unfinished file belongs to another process that may be at work."""
    return owner is not None and owner != owners.token() and not owners.is_gone(owner)


# -- many small ones together ----------------------------------------------------------------------

#: Objects, bytes and seconds after which a group is brought in: a crash loses no more than that,
#: and nobody who wants one of them waits for longer.
MOST, MOST_BYTES, MOST_SECONDS = 1024, 256 << 20, 2.0


class Group:
    """Verified objects on their way into a cache, which its usage lock keeps from removal.

    `brought` is called with the tag and the path of each object that is in the cache. Durability is
    "batch": one sync before the renames of a group; "each": one for each object; "none", so that a
    power loss may leave an object empty under its name.
    """

    def __init__(self, cache: Any, brought: Callable[[Any, str], None], durability: str) -> None:
        self._cache = cache
        self._brought = brought
        self._partial = cache.bucket(PARTIAL)
        self._objects = cache.bucket(OBJECTS)
        self._each = durability == "each" or (durability == "batch" and not disk.can_sync_all())
        self._once = durability == "batch" and not self._each
        self._owner = owners.unique()
        self._file_mode = os.stat(self._partial).st_mode & 0o444
        self._folder_mode = os.stat(self._objects).st_mode & 0o7777
        self._strict: bool | None = None
        self._strict_folders: bool | None = None
        self._folders: set[str] = set()
        self._waiting: list[tuple[str, str, Any]] = []
        self._sizes: list[tuple[Digest, int]] = []
        self._bytes = 0
        self._since = 0.0

    def create(self, digest: Digest) -> tuple[str, int]:
        """Open a new file for an object's bytes; return its path and descriptor."""
        path = os.path.join(self._partial, f"{key_of(digest)}.{self._owner}.part")
        return path, fs.create_exclusive(path, follow=False, mode=self._file_mode)

    def add(
        self, path: str, fd: int, digest: Digest, name: str, size: int, record: bool, tag: object
    ) -> None:
        """Take over a file whose bytes were verified, and close it.

        The size is recorded if no registry tells it.
        """
        try:
            if self._strict is None:
                # whether the umask is stricter than the cache's folder; the same for all
                self._strict = os.fstat(fd).st_mode & 0o777 != self._file_mode
            if self._strict:
                os.chmod(path if fs.WINDOWS else fd, self._file_mode)
            if self._each:
                os.fsync(fd)
        except BaseException:
            fs.remove(path)
            raise
        finally:
            os.close(fd)
        target = self._cache.path(digest, name)
        self._waiting.append((path, target, tag))
        if record:
            self._sizes.append((digest, size))
        self._bytes += size
        if len(self._waiting) == 1:
            self._since = time.monotonic()
        full = len(self._waiting) >= MOST or self._bytes >= MOST_BYTES
        if not self._once or full or time.monotonic() - self._since >= MOST_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring in what is waiting; after an error those before it are here."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        found, self._sizes = self._sizes, []
        try:
            if waiting and self._once:
                disk.sync_all(self._partial)
            if found:
                stamps.record_sizes(self._cache.root, found)
            while waiting:
                path, target, tag = waiting[-1]
                self._bring(path, target)
                waiting.pop()
                self._brought(tag, target)
        finally:
            for path, *_ in waiting:
                fs.remove(path)  # an error ended it; nobody would go on with these

    def _bring(self, path: str, target: str) -> None:
        folder = target.rpartition(os.sep)[0]
        above = folder.rpartition(os.sep)[0]
        if above not in self._folders:
            for one in (os.path.dirname(above), above):
                self._make(one)
            self._folders.add(above)
        self._make(folder)
        fs.install(path, target)

    def _make(self, folder: str) -> None:
        try:
            os.mkdir(folder, self._folder_mode)
        except FileExistsError:
            fs.make_dirs(folder)  # what another user put there is set aside
            return
        if self._strict_folders is None:
            # a umask that takes nothing from the files may take something from the folders
            self._strict_folders = os.stat(folder).st_mode & 0o7777 != self._folder_mode
        if self._strict_folders:
            os.chmod(folder, self._folder_mode)
