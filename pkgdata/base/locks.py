"""One bounded, explained way to wait for a lock.

Three kinds. A *key lock* (`KeyLock`) lets one process at a time fetch an object; it is ``flock``,
filelock's `SoftFileLock` next to it where the file system has none, and filelock's `FileLock` on
Windows. A *usage lock* (`UsageLock`) is held shared by those who add to a cache and exclusively by
those who remove from it. *Claims* (`Claims`) are thousands of locks that take no file each.

What is not promised: that a lock excludes anyone. Some network file systems grant ``flock`` to
everybody. Callers stay correct without it; a lock only saves repeated work. Lock objects are made
per call and never inherited, so a forked process cannot release its parent's lock.
"""

from __future__ import annotations

import errno
import os

from ..errors import CacheLockTimeoutError
from . import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: What ``flock`` answers where the file system (Lustre without ``-o flock``, some NFS and FUSE)
#: has none.
_NO_FLOCK = frozenset(
    {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP)}
)

#: Errors that say that something else than a plain file, or another user's, has a lock's name.
_NO_FILE = fs.NOT_PLAIN | {errno.EACCES, errno.EPERM}

#: Seconds of waiting after which it is logged.
_PATIENCE = 5.0

#: The outcomes of `KeyLock.acquire`.
HELD, DONE, ALONE = "held", "done", "alone"


def _in_the_way(path: str, error: OSError) -> None:
    """Set aside what cannot be used as a lock file; raise the error of opening it if not."""
    if error.errno == errno.ELOOP and os.path.islink(path) and not fs.is_foreign(os.lstat(path)):
        reason = "the lock file is a symbolic link, which is not followed; remove it"
        raise OSError(errno.ELOOP, reason, path) from None
    from . import owners

    try:
        owners.set_aside(path)
    except OSError:
        raise error from None


def flock_works(path: str) -> bool:
    """Create a lock file, mode after its folder; return whether ``flock`` works on it."""
    fd = _open_lock_file(path)
    try:
        return fs.WINDOWS or _try_flock(fd, exclusive=True) is not None
    finally:
        os.close(fd)


def _open_lock_file(path: str, tries: int = 50) -> int:
    """Open a lock file; create it, mode after its folder, if it is not there."""
    while True:
        try:
            try:
                return fs.create_exclusive(path)
            except FileExistsError:
                return fs.open_plain(path, os.O_RDWR)
        except FileNotFoundError:
            # a holder that finishes its work removes the file, perhaps between these two calls
            tries -= 1
            if not tries:
                raise
        except OSError as error:
            # in a shared folder another user could so have us open a file of ours, or wait
            tries -= 1
            if not tries or error.errno not in _NO_FILE:
                raise
            _in_the_way(path, error)


def _explain(path: str) -> None:
    import logging

    logging.getLogger("pkgdata").warning(
        "waiting for the lock %s, which another process holds (PKGDATA_LOCK_TIMEOUT sets how long)",
        path,
    )


def _try_flock(fd: int, exclusive: bool) -> bool | None:
    """Return True if granted, False if another holds it, None if there is no ``flock`` here."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return None
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
            return False
        raise
    return True


def _is_there(fd: int) -> bool:
    """Return True if a lock file still has its name."""
    try:
        return os.fstat(fd).st_nlink > 0
    except OSError as error:
        if error.errno in (errno.ENOENT, getattr(errno, "ESTALE", errno.ENOENT)):
            return False  # what FUSE and NFS say of it
        raise


class _Flock:
    """``flock`` with the two methods of filelock that are used here.

    Two calls do here, and importing filelock costs some 50 ms at each first fetch of a process.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def acquire(self, *, blocking: bool) -> None:
        """Take the lock, or raise TimeoutError at once."""
        fd = _open_lock_file(self._path)
        # a file that was removed while we waited for it guards nothing
        if _try_flock(fd, exclusive=True) is False or not _is_there(fd):
            os.close(fd)
            raise TimeoutError(self._path)
        self._fd = fd

    def release(self) -> None:
        """Give the lock back."""
        fd, self._fd = self._fd, -1
        os.close(fd)


def remove_free(path: str) -> None:
    """Remove a lock file that nobody holds; those who wait for it make another."""
    if not fs.WINDOWS and path.endswith(".lock"):
        lock = _Flock(path)
        try:
            lock.acquire(blocking=False)
        except TimeoutError:
            return
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
        sign: Callable[[], object],
        waiting: Callable[[float], None] | None = None,
    ) -> str:
        """Take the lock, or stop waiting for a reason, and return which.

        The reason is `HELD`; `DONE` when ``done()`` became true, because the holder has finished
        the work; `ALONE` when ``sign()`` did not change for ``timeout`` seconds, so that the caller
        should go on without the lock. ``waiting`` is called at each step with the seconds waited;
        without it a longer wait is logged.
        """
        lock = self._open()
        if lock is None:
            return ALONE
        began = changed = self._clock()
        last, delay, explained = sign(), 0.01, False
        while not self._try(lock):
            if done():
                return DONE
            now, seen = self._clock(), sign()
            if seen != last:
                last, changed = seen, now
            if now - changed >= self.timeout:
                return ALONE
            if waiting is not None:
                waiting(now - began)
            elif not explained and now - began >= _PATIENCE:
                explained = True
                _explain(self.path)
            self._sleep(delay)
            delay = min(delay * 1.5, 0.1)
        self._lock = lock
        return HELD

    def _open(self) -> Any:
        # choosing here is plainer than filelock's own fallback, which takes the same file name and
        # knows ENOSYS alone
        if flock_works(self.path) and not fs.WINDOWS:
            return _Flock(self.path)
        try:
            import filelock
        except ImportError:  # nothing that is right depends on a lock
            return None
        if fs.WINDOWS:
            return filelock.FileLock(self.path, thread_local=False)
        # the soft lock breaks the marker of a dead process of this host; one of another host is
        # waited for no longer than the timeout
        return filelock.SoftFileLock(self.path + ".soft", thread_local=False)

    @staticmethod
    def _try(lock: Any) -> bool:
        try:
            lock.acquire(blocking=False)
        except TimeoutError:  # filelock's own is one
            return False
        return True

    def remove(self) -> None:
        """Remove the lock file if the lock is held; a wait for it ends as if it were released."""
        if self._lock is not None and not fs.WINDOWS:
            fs.remove(self.path)

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
            while _try_flock(self._fd, self.exclusive) is False:
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
