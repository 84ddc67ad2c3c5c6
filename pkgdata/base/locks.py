"""One bounded, explained way to wait for a lock.

Two kinds. A *key lock* (`KeyLock`) lets one process at a time fetch an object; it is ``flock``,
filelock's `SoftFileLock` beside it where the file system has none, and filelock's `FileLock` on
Windows. A *usage lock* (`UsageLock`) is held shared by those who add to a cache and exclusively by
those who remove from it.

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

#: The outcomes of `KeyLock.acquire`.
HELD, DONE, ALONE = "held", "done", "alone"


def flock_works(path: str) -> bool:
    """Create a lock file, mode after its folder, and say whether ``flock`` works on it.

    Raises
    ------
    OSError
        The file cannot be created or opened.
    """
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
                return os.open(path, os.O_RDWR)
        except FileNotFoundError:
            # a holder that finishes its work removes the file, perhaps between these two calls
            tries -= 1
            if not tries:
                raise


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
        if _try_flock(fd, exclusive=True) is False or not os.fstat(fd).st_nlink:
            os.close(fd)
            raise TimeoutError(self._path)
        self._fd = fd

    def release(self) -> None:
        """Give the lock back."""
        fd, self._fd = self._fd, -1
        os.close(fd)


class KeyLock:
    """A lock that one process at a time holds while it fetches one object.

    Parameters
    ----------
    path : str
        The lock file; its directory exists.
    timeout : float
        Seconds without any sign of work after which waiting ends.
    clock, sleep : callable, optional
        Stand-ins for `time.monotonic` and `time.sleep`.
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
        """Take the lock, or stop waiting for a reason.

        Parameters
        ----------
        done : callable
            Asked at each step; True ends the wait, because the holder has finished the work.
        sign : callable
            Any value that changes while the holder makes progress; a change restarts the timeout.
        waiting : callable, optional
            Called at each step with the seconds waited so far.

        Returns
        -------
        str
            `HELD`; `DONE` when ``done()`` became true; `ALONE` when the holder gave no sign of work
            for ``timeout`` seconds and the caller should go on without the lock.

        Raises
        ------
        OSError
            The lock file cannot be created.
        """
        lock = self._open()
        began = changed = self._clock()
        last, delay = sign(), 0.01
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
            self._sleep(delay)
            delay = min(delay * 1.5, 0.1)
        self._lock = lock
        return HELD

    def _open(self) -> Any:
        # choosing here is plainer than filelock's own fallback, which takes the same file name and
        # knows ENOSYS alone
        if flock_works(self.path) and not fs.WINDOWS:
            return _Flock(self.path)
        import filelock

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
    removed, or only age protects what is in use.

    Parameters
    ----------
    path : str
        The lock file; its directory exists.
    exclusive : bool
        Keep everybody else out.
    timeout : float
        Seconds to wait.
    """

    def __init__(self, path: str, exclusive: bool, timeout: float) -> None:
        self.path = path
        self.exclusive = exclusive
        self.timeout = timeout
        self._fd = -1

    def __enter__(self) -> UsageLock:
        """Take the lock.

        Raises
        ------
        CacheLockTimeoutError
            Others held it for longer than the timeout.
        """
        import time

        if fs.WINDOWS:
            return self
        self._fd = _open_lock_file(self.path)
        end = time.monotonic() + self.timeout
        try:
            while _try_flock(self._fd, self.exclusive) is False:
                if time.monotonic() > end:
                    self._give_up()
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
