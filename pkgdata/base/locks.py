"""One bounded, explained way to wait for a lock.

Three kinds. A *key lock* (`KeyLock`) lets one process at a time fetch an object; it is ``flock``
and a note that names the holder, and filelock's `FileLock` on Windows. A *usage lock* (`UsageLock`)
is held shared by those who add to a cache and exclusively by those who remove from it. *Claims*
(`Claims`) are thousands of locks that take no file each.

``flock`` ends with its process, but on some network file systems (Lustre with ``localflock``, some
NFS) each host knows its own alone, others have none or grant it to everybody. The note, a file that
only one can create, is seen by all, but stays when its process is killed: it is believed as long as
that process runs or its work grows. One process of each host waits for the note, and the others of
that host for ``flock``.

What is not promised: that a lock excludes anyone. Callers stay correct without it; a lock only
saves repeated work. Lock objects are made per call and never inherited, so a forked process cannot
release its parent's lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import CacheLockTimeoutError
from . import disk, fs, notes, owners

#: What changes while others work: path, bytes and time in ns of each file.
Signs = Iterable[tuple[str, int, int]]

#: What ``flock`` answers where the file system (Lustre without ``-o flock``, some NFS and FUSE)
#: has none.
_NO_FLOCK = frozenset(
    {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)}
)

#: Errors that say that something else than a plain file, or another user's, has a lock's name.
_NO_FILE = fs.NOT_PLAIN | {errno.EACCES, errno.EPERM}

#: What ``flock`` answers if another holds it, or a server is disturbed: it is asked again later.
_REFUSED = frozenset({errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EINTR})

#: What NFS and FUSE say of a file that another host has removed.
_REMOVED = frozenset({errno.ENOENT, getattr(errno, "ESTALE", errno.ENOENT)})

#: Seconds of waiting after which it is logged.
_PATIENCE = 5.0

#: Seconds between two looks at what others do, at first and at most.
_SOON, _LATER = 0.01, 2.0

#: Seconds that the others of a host give the one that is to take over from another host.
_GRACE = 5.0

#: Seconds after which one of those who put their name in place of a dead one's finds that it stays.
_SETTLED = 0.15

#: The outcomes of `KeyLock.acquire`.
HELD, DONE, ALONE = "held", "done", "alone"


def _in_the_way(path: str, error: OSError) -> None:
    """Set aside what cannot be used as a lock file; raise the error of opening it if not."""
    if error.errno == errno.ELOOP and os.path.islink(path) and not fs.is_foreign(os.lstat(path)):
        reason = "the lock file is a symbolic link, which is not followed; remove it"
        raise OSError(errno.ELOOP, reason, path) from None
    try:
        owners.set_aside(path)
    except OSError:
        raise error from None


def _open_lock_file(path: str, tries: int = 50) -> int:
    """Open a lock file; create it, mode after its folder, if it is not there."""
    while True:
        try:
            try:
                return fs.create_exclusive(path)
            except FileExistsError:
                return fs.open_plain(path, os.O_RDWR)
        except OSError as error:
            tries -= 1
            # a holder that finishes its work removes the file, perhaps between these two calls
            removed = error.errno in _REMOVED
            if not tries or not (removed or error.errno in _NO_FILE):
                raise
            # in a shared folder another user could so have us open a file of ours, or wait
            if not removed:
                _in_the_way(path, error)


def _explain(path: str) -> None:
    import logging

    logging.getLogger("pkgdata").warning(
        "waiting for the lock %s, which another process holds (PKGDATA_LOCK_TIMEOUT sets how long)",
        path,
    )


def _try_flock(fd: int, exclusive: bool, once: bool = False) -> bool | None:
    """Return True if granted, False if another holds it, None if there is no ``flock`` here."""
    try:
        import fcntl
    except ImportError:
        return None
    how = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    try:
        (_flock_once if once else fcntl.flock)(fd, how)
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return None
        if error.errno in _REFUSED:
            return False
        raise
    return True


#: What `worth` returns.
GOOD, NONE, USELESS = "they work", "this file system has none", "they exclude nobody"


def worth(path: str) -> str:
    """Return what locks are worth where a new file lies: `GOOD`, `NONE` or `USELESS`."""
    first, second = (os.open(path, os.O_CREAT | os.O_RDWR, 0o600) for _ in range(2))
    try:
        if not _try_flock(first, True):
            return NONE
        return USELESS if _try_flock(second, True) else GOOD
    finally:
        os.close(first)
        os.close(second)


def _server(path: str) -> tuple[bool, ...]:
    """Return (True,), the `once` of `_try_flock`, where a server decides on locks, else nothing."""
    return () if disk.is_local(os.path.dirname(path)) else (True,)


def _flock_once(fd: int, how: int) -> None:
    """Call ``flock`` once: Python's repeats it as long as a server answers EINTR."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).flock(fd, how):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _is_there(fd: int) -> bool:
    """Return True if a lock file still has its name."""
    try:
        return os.fstat(fd).st_nlink > 0
    except OSError as error:
        if error.errno in _REMOVED:
            return False
        raise


def pause(waited: float, left: float | None = None) -> float:
    """Return the seconds until the next look, after some of waiting.

    ``left`` is how many the others still need, as far as their growth tells. A look costs a network
    file system some requests, so it is the rarer the longer the wait will be.
    """
    wanted = waited / 4 if left is None else max(left / 2, waited / 32, min(waited, 0.05))
    # a crowd that was started at once does not look at once
    spread = 0.8 + 0.4 * (os.getpid() * 0.618 % 1)
    return min(max(wanted, _SOON), _LATER) * spread


class _Named:
    """A key lock: ``flock``, and a note that says who has it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        #: Not empty where a server decides; and what ``flock`` answered last.
        self._server = _server(path)
        self._flock: bool | None = False
        self.note = notes.Note(f"{path}.soft")

    def take(self, alone: bool = False) -> bool:
        """Return True if we have the lock now; of ``flock`` `alone`, without the note.

        What we have of it is kept for the next try, so that one process of a host asks the server.
        """
        if self._fd < 0:
            self._fd, self._flock = _open_lock_file(self._path), False
        if self._flock is False:
            self._flock = _try_flock(self._fd, True, *self._server)
            if self._flock is False:
                return False
            if not _is_there(self._fd):  # what was removed while we waited for it guards nothing
                self._close()
                return False
        # on a local disk flock is enough: it ends with the process that held it
        enough = alone or (self._flock is True and not self._server)
        return enough or self.note.take(self._flock is True)

    def leads(self) -> bool:
        """Return True if no other process of this host watches those of other hosts."""
        return self._flock is not False or not self._server

    def remove(self) -> None:
        """Remove the lock file."""
        fs.remove(self._path)

    def release(self) -> None:
        """Give the lock back."""
        try:
            self.note.release()
        finally:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Native:
    """A key lock of Windows."""

    def __init__(self, path: str) -> None:
        import filelock

        self.note = notes.Note("")  # nobody's
        self._lock = filelock.FileLock(path, thread_local=False)
        self.release = self._lock.release

    def take(self) -> bool:
        try:
            self._lock.acquire(blocking=False)
        except TimeoutError:  # filelock's own is one
            return False
        return True

    def leads(self) -> bool:
        return True

    def remove(self) -> None:
        """Leave the file: an open one cannot be removed."""


def remove_free(path: str) -> None:
    """Remove a lock file that nobody holds; those who wait for it make another."""
    if not fs.WINDOWS and path.endswith(".lock"):
        lock = _Named(path)
        if lock.take(alone=True):
            fs.remove(path)
        lock.release()


class KeyLock:
    """A lock that one process at a time holds while it fetches an object.

    The directory of `path` exists; waiting ends after `timeout` seconds without any sign of work.
    `clock` and `sleep` stand in for `time.monotonic` and `time.sleep`.
    """

    def __init__(
        self,
        path: str,
        timeout: float,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        import time

        self.path = path
        self.timeout = timeout
        self._clock = clock or time.monotonic
        self._sleep = sleep or time.sleep
        self._lock: Any = None

    def acquire(
        self,
        done: Callable[[], bool],
        sign: Callable[[], Signs],
        waiting: Callable[[float], None] | None = None,
        left: Callable[[], float | None] = lambda: None,
    ) -> str:
        """Take the lock, or stop waiting for a reason, and return which.

        The reason is `HELD`; `DONE` when ``done()`` became true, because the holder has finished
        the work; `ALONE` when ``sign()`` did not change for ``timeout`` seconds, so that the caller
        should go on without the lock. ``waiting`` is called at each step with the seconds waited;
        without it a longer wait is logged. ``left`` are the seconds that the holder still needs.
        """
        outcome = ALONE
        try:
            lock = _Native(self.path) if fs.WINDOWS else _Named(self.path)
        except ImportError:
            return ALONE  # without filelock; nothing that is right depends on a lock
        try:
            outcome = self._wait(lock, done, sign, waiting, left)
        finally:
            if outcome == HELD:
                self._lock = lock
            else:
                lock.release()
        return outcome

    def _wait(
        self,
        lock: Any,
        done: Callable[[], bool],
        sign: Callable[[], Signs],
        waiting: Callable[[float], None] | None,
        left: Callable[[], float | None],
    ) -> str:
        began = changed = self._clock()
        last: list[tuple[str, int, int]] | None = None
        note, known, explained = lock.note, "", False
        while not lock.take():
            now, seen = self._clock(), [*sign()]
            grows = last is not None and seen != last
            if grows:
                changed = now
            # while the same files grow they are not done: that saves a request
            if (
                not (grows and [one[0] for one in seen] == [one[0] for one in last or ()])
                and done()
            ):
                return DONE
            if note.holder != known:
                # one of another host may have been killed long ago: that costs nobody a timeout
                known, changed = note.holder, now - note.idle(when for _, _, when in seen)
            last = seen
            patience = self.timeout if lock.leads() else self.timeout + min(self.timeout, _GRACE)
            if now - changed >= patience:
                if not note.take_over():
                    return ALONE
                changed = now
            if waiting is not None:
                waiting(now - began)
            elif not explained and now - began >= _PATIENCE:
                explained = True
                _explain(self.path)
            delay = max(_SOON, min(pause(now - began, left()), changed + patience - now))
            self._sleep(_SETTLED if note.unsure else delay)
            note.unsure = False
        return HELD

    def remove(self) -> None:
        """Remove the lock file if the lock is held; a wait for it ends as if it were released."""
        if self._lock is not None:
            self._lock.remove()

    def release(self) -> None:
        """Give the lock back if it is held."""
        if self._lock is not None:
            lock, self._lock = self._lock, None
            lock.release()


class UsageLock:
    """A lock that is held shared while a cache is added to, exclusively while it is cleared.

    On Windows, and where there is no ``flock``, it protects nothing: there an open file cannot be
    removed, or only age protects what is in use. Entering it raises `CacheLockTimeoutError` if
    others hold it for longer than `timeout` seconds.
    """

    def __init__(self, path: str, exclusive: bool, timeout: float) -> None:
        self.path = path
        self.exclusive = exclusive
        self.timeout = timeout
        self._fd = -1

    def __enter__(self) -> UsageLock:
        import time

        if fs.WINDOWS:
            return self
        self._fd = _open_lock_file(self.path)
        began, explained = time.monotonic(), False
        try:
            server = _server(self.path)
            while _try_flock(self._fd, self.exclusive, *server) is False:
                waited = time.monotonic() - began
                if waited > self.timeout:
                    self._give_up()
                if not explained and waited >= _PATIENCE:
                    explained = True
                    _explain(self.path)
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _give_up(self) -> None:
        others = "programs that use it" if self.exclusive else "a program that removes files"
        raise CacheLockTimeoutError(
            f"waited {self.timeout:g} s for the cache lock {self.path}, held by {others}",
            hint="try again when they have ended, or set PKGDATA_LOCK_TIMEOUT to wait longer",
            path=self.path,
        )

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Claims:
    """What one batch is fetching: numbered bytes of a file, each locked by one `Claims` at a time.

    A lock belongs to this object, not to the process, so that threads exclude each other too, where
    there are such locks: on Linux. Elsewhere processes exclude each other, and where there are no
    locks at all everything is granted. They end with the process.
    """

    def __init__(self, path: str) -> None:
        self._fd = -1
        if fs.WINDOWS:
            return
        import fcntl
        import struct
        import sys

        self._fd, self._fcntl = _open_lock_file(path), fcntl
        # a batch asks twice for each of thousands of files: what does not change is worked out once
        linux = sys.platform == "linux" and struct.calcsize("P") == 8
        self._pack = struct.Struct("hhqqi0q").pack if linux else None

    def take(self, number: int) -> bool:
        """Return False if another has claimed a number; ours may be claimed again."""
        return fs.WINDOWS or self._lock(self._fcntl.F_WRLCK, number, 1)

    def drop(self, number: int, count: int = 1) -> None:
        """Give numbers back, from one on; 0 means all of them."""
        if self._fd >= 0:
            self._lock(self._fcntl.F_UNLCK, number, count)

    def close(self) -> None:
        """Give everything back."""
        if self._fd >= 0:
            self.drop(0, 0)  # a forked process may have the file open for longer
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _lock(self, kind: int, number: int, count: int) -> bool:
        fcntl = self._fcntl
        try:
            if self._pack is not None:
                facts = self._pack(kind, os.SEEK_SET, number, count, 0)
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, facts)
            else:
                how = fcntl.LOCK_UN if kind == fcntl.F_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
                fcntl.lockf(self._fd, how, count, number)
        except OSError as error:
            return error.errno not in (errno.EAGAIN, errno.EACCES)
        return True
