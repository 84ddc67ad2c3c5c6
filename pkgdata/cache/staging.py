"""Make something next to where it goes, by one process at a time; and notice when it got lost.

The order is always the same: look, take the lock (`Turn`), look again, sweep what killed processes
left (`sweep`), make it under a name of our own (`folder`, `pkgdata.base.fs.writing`), sync, rename
(`place`). Correctness rests on the rename; a lock saves work, no more.

What a folder holds is written down when it is placed (`Contents`)::

  <nanoseconds> <folder>    of each folder its modification time
                            an empty line
  <bytes> <file>            of each file its size; names are relative, with /

Removing or adding an entry changes a folder's time, so looking again costs one stat for each
folder. Only where a time differs are the files looked at, and what is missing is made again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, NamedTuple

from ..base import disk, fs, locks, owners
from ..base.locks import Signs
from ..errors import CacheLockTimeoutError, CacheWarning, ExtractionError, PkgdataError, warn

#: Tries to replace something that others replace and remove at the same time.
_TRIES = 20
_IN_THE_WAY = (errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR)

#: How far the times of a new folder are set back, in ns, so that a change right after that shows:
#: the clock of a file system ticks every few ms, FAT's every 2 s.
_BACK = 4_000_000_000


class Turn:
    """A context manager in which this process alone works on something, where locks work.

    Without a lock file (None) it does nothing. `done` ends the wait when it returns True: another
    process has finished, look again. `sign` is what changes while another process makes progress,
    as `growth` returns it; without a change for `timeout` seconds we go on without the lock. By
    default it is the time of the lock file, which the holder changes by `touch`. `waiting` is
    called with the seconds waited so far, `left` returns those that the other still needs. A lock
    file that cannot be opened is an error unless the lock is `optional`.
    """

    def __init__(
        self,
        path: str | None,
        timeout: float,
        done: Callable[[], bool],
        sign: Callable[[], Signs] | None = None,
        waiting: Callable[[float], None] | None = None,
        optional: bool = False,
        left: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._path = path
        self._timeout = timeout
        self._done = done
        self._sign = sign or self._time
        self._waiting = waiting
        self._optional = optional
        self._left = left
        self._lock: locks.KeyLock | None = None
        self._touched = 0.0

    def _time(self) -> Signs:
        return growth([self._path or ""])

    def __enter__(self) -> Turn:
        if self._path is None:
            return self
        self._lock = locks.KeyLock(self._path, self._timeout)
        try:
            outcome = self._lock.acquire(self._done, self._sign, self._waiting, self._left)
        except OSError:
            if not self._optional:
                raise
            outcome = ""  # another user's file, perhaps; the lock saves work, no more
        if outcome == locks.ALONE:
            warn(
                f"the lock {self._path} was held for {self._timeout:g} s without any progress; "
                "continuing without it (PKGDATA_LOCK_TIMEOUT changes the time)",
                CacheWarning,
            )
        return self

    def touch(self) -> None:
        """Let those who wait see that the work goes on."""
        now = time.monotonic()
        if self._path is not None and now - self._touched >= 0.5:
            self._touched = now
            with contextlib.suppress(OSError):  # it would have helped those who wait, no more
                os.utime(self._path)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._lock is None:
            return
        if kind is None:
            # those who still wait find the result when they look again; a lock file for each
            # object would double the cache's inodes
            with contextlib.suppress(OSError):
                self._lock.remove()
        self._lock.release()


def growth(paths: Iterable[str]) -> list[tuple[str, int, int]]:
    """Return path, bytes and time (ns) of files, and of what is below folders: they grow."""
    found = []
    left = [*paths]
    while left:
        path = left.pop()
        with contextlib.suppress(OSError):  # it has its final name now
            facts = os.lstat(path)
            found.append((path, bytes_in(facts), facts.st_mtime_ns))
            if stat.S_ISDIR(facts.st_mode):
                left += fs.listed(path)
    return found


def bytes_in(facts: os.stat_result) -> int:
    """Return the bytes that a file takes, holes left out."""
    blocks: int | None = getattr(facts, "st_blocks", None)
    # a file system may compress or keep small files elsewhere; then the length is all that is known
    return facts.st_size if not blocks else min(facts.st_size, blocks * 512)


def made_under(folder: str, key: str) -> Iterator[str]:
    """Yield the paths in a folder whose names begin with a key and carry an owner."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(key) and owners.of(name) is not None:
                yield os.path.join(folder, name)


class Work:
    """What others do for one key, as far as their unfinished files in a folder tell.

    A look is one request to the file system while the file that changed last goes on to change.
    ``counts`` tells which owners do.
    """

    def __init__(
        self,
        folder: str,
        key: str,
        size: int | None = None,
        counts: Callable[[str | None], bool] = lambda owner: True,
    ) -> None:
        self._folder = folder
        self._key = key
        self._size = size
        self._counts = counts
        self._path = ""
        self._last: list[tuple[str, int, int]] = []
        #: When the file was first seen, with how many bytes; and when it was seen to change.
        self._first, self._changed = (0.0, 0), 0.0
        #: Who works, in words, and the bytes that are there.
        self.who, self.bytes = _name_of(None), 0

    def look(self) -> list[tuple[str, int, int]]:
        """Return path, bytes and time in ns of what others are making."""
        now = time.monotonic()
        found = growth([self._path]) if self._path and now < self._changed + _TRUST else []
        if found and found != self._last:
            self._changed = now
        if not found:
            made = made_under(self._folder, f"{self._key}.")
            found = growth(path for path in made if self._counts(owners.of(path)))
            # the time of a file changes too while its owner hashes what it resumes
            parts = [one for one in found if one[0].endswith(".part")]
            path, size, _ = max(parts, key=lambda one: one[2], default=("", 0, 0))
            if path != self._path:
                self._path, self._first = path, (now, size)
                self.who = _name_of(owners.of(path))
            self._changed = now
            found = [one for one in parts if one[0] == path] or found
        self._last, self.bytes = found, max((size for _, size, _ in found), default=0)
        return found

    def left(self) -> float | None:
        """Return in how many seconds the file is complete if it grows as it did; None: unknown."""
        began, had = self._first
        if self._size is None or self.bytes <= had:
            return None
        return (self._size - self.bytes) * (time.monotonic() - began) / (self.bytes - had)


#: Seconds after which a file that does not change any more is looked for among the others.
_TRUST = 5.0


def _name_of(owner: str | None) -> str:
    if owner is None:
        return "another process"
    place, _, pid = owner.rpartition("-")
    here = place == owners.token().rpartition("-")[0]
    return f"process {pid}" if here else f"process {pid} of another machine"


@contextlib.contextmanager
def working(
    cache: Any,  # a Cache, whose module imports this one
    key: str,
    done: Callable[[], bool],
    waiting: Callable[[float, str, int], None] | None,
    lock: str,
    folder: str,
    size: int | None,
) -> Iterator[None]:
    """Hold the locks of a cache while this process brings one key in.

    `lock` is the file of the key's lock; what others have of it grows in `folder`, to `size` bytes.
    """

    work = Work(folder, key, size)

    def tell(seconds: float) -> None:
        if waiting is not None:
            waiting(seconds, work.who, work.bytes)

    turn = Turn(lock, cache.lock_timeout, done, work.look, waiting and tell, left=work.left)
    try:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(cache.usage())
            except CacheLockTimeoutError as error:
                warn(f"{error.message}; continuing without it", CacheWarning)
            fs.make_dirs(os.path.dirname(lock))
            held.enter_context(turn)
            yield
    except OSError as error:
        if isinstance(error, PkgdataError):
            raise
        raise cache.translate(error) from error


def sweep(folder: str, key: str = "", end: str = "") -> None:
    """Remove what killed processes left in a folder under names that begin and end so."""
    for path in made_under(folder, key):
        if path.endswith(end) and owners.is_leftover(path):
            with contextlib.suppress(OSError):  # another user's; it is not in the way
                fs.discard(path)


@contextlib.contextmanager
def folder(path: str, follow: bool = True) -> Iterator[str]:
    """Make a folder, mode after the one above or as the umask says; remove what is left of it."""
    if follow:
        fs.make_dirs(path)
    else:
        os.mkdir(path)
    try:
        yield path
    finally:
        fs.discard(path)


# -- giving a name -----------------------------------------------------------------------------


def place(made: str, target: str, replace: bool) -> bool:
    """Give a folder or link its name; return False if something is there and must stay.

    A reader finds all of the old one or all of the new one; where the system can exchange two
    folders there is no moment without either.
    """
    for _ in range(_TRIES):
        if not os.path.lexists(target):
            try:
                fs.retry_denied(lambda: os.rename(made, target))
                return True
            except OSError as error:
                # what was in the way may be gone again by now
                if error.errno not in _IN_THE_WAY and not os.path.lexists(target):
                    raise
        elif not replace:
            return False
        elif _exchange(made, target):
            return True
        else:
            take_away(target)
    raise FileExistsError(errno.EEXIST, "other programs replace it all the time", target)


def take_away(target: str, away: str | None = None) -> None:
    """Remove a file, link or folder, out of sight at once, so that nobody meets half of it."""
    above, name = os.path.split(target)
    away = away or os.path.join(above, owners.aside(f".{name.removeprefix('.')}"))
    try:
        fs.retry_denied(lambda: os.rename(target, away))
    except FileNotFoundError:
        return  # another process was faster
    fs.discard(away)


def merge(made: str, target: str, keep: Callable[[str], bool] = lambda name: False) -> None:
    """Move the files of a folder into another one, but for those whose relative names stay."""
    for path, directories, files in os.walk(made):
        inside = os.path.relpath(path, made)
        for name in directories:
            below = os.path.normpath(os.path.join(target, inside, name))
            if os.path.islink(below) and not fs.is_foreign(os.lstat(below)):
                # left by another program; what is behind it is not ours to change
                raise ExtractionError(f"{below} is a link; refused to write through it")
            fs.make_dirs(below)
        for name in files:
            file = os.path.normpath(os.path.join(inside, name))
            if not keep(file):
                fs.replace(os.path.join(path, name), os.path.join(target, file))


#: ``renameat2`` of Linux: paths are relative to the working directory; swap the two.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(one: str, other: str) -> bool:
    """Swap two directory entries in one step; return False where the system cannot."""
    import ctypes
    import sys

    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOENT, errno.EPERM):
        return False  # not on this file system, or the other one has gone meanwhile
    raise OSError(code, os.strerror(code), other)


# -- what is handed out is complete ------------------------------------------------------------


class Contents(NamedTuple):
    """What a folder must hold: its folders, "." among them, and the size of each file."""

    folders: list[str]
    files: dict[str, int]

    @classmethod
    def of(cls, top: str) -> Contents:
        """List a folder."""
        found = cls([], {})
        for path, _, names in os.walk(top):
            inside = os.path.relpath(path, top).replace(os.sep, "/")
            found.folders.append(inside)
            for name in names:
                file = name if inside == "." else f"{inside}/{name}"
                found.files[file] = _size(top, file)
        return found

    @classmethod
    def read(cls, record: str) -> Contents | None:
        """Return what was written down; None if nothing was, or it is damaged."""
        try:
            with _opened(record) as file:
                folders, middle, files = file.read().partition("\n\n")
            pairs = [line.partition(" ") for line in files.split("\n")[:-1]]
            found = cls([x.partition(" ")[2] for x in folders.split("\n")], {})
            found.files.update((name, int(size)) for size, _, name in pairs)
        except (OSError, ValueError):
            return None
        return found if middle and found.folders[0] == "." else None

    def write(self, top: str, record: str) -> None:
        """Write it down, together with the folders' times."""
        lines = [f"{os.stat(_below(top, one)).st_mtime_ns} {one}\n" for one in self.folders]
        lines += ["\n", *(f"{size} {name}\n" for name, size in self.files.items())]
        text = "".join(lines).encode(errors="surrogateescape")
        fs.write_atomic(record, text, sync=False, follow=True)

    def missing(self, top: str) -> list[str]:
        """Return the folders and files that are not there, or not with their size."""
        gone = [one for one in self.folders if not os.path.isdir(_below(top, one))]
        return gone + [name for name, size in self.files.items() if _size(top, name) != size]


def _opened(record: str) -> IO[str]:
    return open(record, encoding="utf-8", errors="surrogateescape", newline="\n", opener=fs.plain)


def is_complete(top: str, record: str) -> bool:
    """Return True if a folder holds all that was written down; a damaged record is a miss."""
    try:
        with _opened(record) as file:
            if _unchanged(top, file):
                return True
    except (OSError, ValueError):
        return False
    found = Contents.read(record)
    if found is None or found.missing(top):
        return False
    with contextlib.suppress(OSError):
        # an extra file, or a copied cache; a time that is not of just now tells again next time
        times = [os.stat(_below(top, one)).st_mtime_ns for one in found.folders]
        if time.time_ns() - max(times) > _BACK:
            found.write(top, record)
    return True


def _unchanged(top: str, lines: Iterator[str]) -> bool:
    seen = False
    for line in lines:
        if line == "\n":
            return seen
        when, _, name = line[:-1].partition(" ")
        if os.stat(_below(top, name)).st_mtime_ns != int(when):
            return False
        seen = True
    return False


def settle(made: str, target: str, record: str, sync: bool) -> None:
    """Give a folder that was just made its name, or fill the gaps of the one that has it."""
    found = Contents.of(made)
    for name in found.files:
        path = _below(made, name)
        if not os.path.islink(path):
            fs.follow_mode(path, 0o666, drop=0o222)  # as objects are
    if sync:
        disk.sync(made)
    _set_back(made, found.folders)
    fs.make_dirs(os.path.dirname(target))
    if os.path.lexists(target):
        fs.make_dirs(target)  # another user's link is set aside
    if not place(made, target, replace=False):
        sizes = found.files
        merge(made, target, lambda file: _size(target, file) == sizes[file.replace(os.sep, "/")])
        _set_back(target, found.folders)
    found.write(target, record)


def _set_back(top: str, folders: list[str]) -> None:
    for one in folders:
        facts = os.stat(_below(top, one))
        with contextlib.suppress(OSError):  # another user's folder
            os.utime(_below(top, one), ns=(facts.st_atime_ns, facts.st_mtime_ns - _BACK))


def _below(top: str, name: str) -> str:
    return top if name == "." else os.path.join(top, *name.split("/"))


def _size(top: str, name: str) -> int:
    try:
        return os.lstat(_below(top, name)).st_size
    except OSError:
        return -1
