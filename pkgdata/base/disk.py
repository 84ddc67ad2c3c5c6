"""What disks promise: that bytes survive a power loss, and how many more fit; temporary folders."""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable

from ..errors import CacheError

#: Errors of a full disk or an exhausted quota.
NO_SPACE = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})

#: File systems of one kernel: the holder of a lock there holds its ``flock``.
_LOCAL = frozenset({"ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs"})


def sync(path: str) -> None:
    """Wait until a file, or all that lies in a folder where `can_sync_all`, is on disk."""
    if os.path.isdir(path):
        if can_sync_all():
            sync_all(path)
        return
    writable = os.access(path, os.W_OK)
    if os.name == "nt" and not writable:
        return  # Windows wants a descriptor for writing, which a read-only file does not give
    fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _libc_syncfs() -> Callable[[int], int] | None:
    import sys

    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None
        found: Callable[[int], int] | None = getattr(libc, "syncfs", None)
    except (ImportError, OSError):
        return None
    return found


def can_sync_all() -> bool:
    """Return True if `sync_all` works here: on Linux (``syncfs``, Linux 2.6.39)."""
    return _libc_syncfs() is not None


def sync_all(folder: str) -> None:
    """Wait until all that was written to the file system of a folder is on disk."""
    syncfs = _libc_syncfs()
    fd = os.open(folder, os.O_RDONLY)
    try:
        if syncfs is None or syncfs(fd) != 0:
            raise OSError(errno.EIO, "cannot be synced", folder)
    finally:
        os.close(fd)


def free_bytes(path: str) -> int | None:
    """Return the bytes that may still be written at a path, which need not exist; None: unknown."""
    import shutil

    while True:
        try:
            return shutil.disk_usage(path).free
        except FileNotFoundError:
            path, last = os.path.dirname(path), path
            if path == last:
                return None
        except OSError:
            return None


def no_space(what: str, detail: str = "") -> CacheError:
    """Return the error for a full disk: `what` such as "for 'x' in /cache", `detail` the reason."""
    return CacheError(
        f"no space {what}{detail and ': '}{detail}",
        hint="free some ('pkgdata cache prune'), or set PKGDATA_CACHE_DIR to a larger disk",
    )


def check_space(what: str, folder: str, need: int) -> None:
    """Raise `no_space` if a folder cannot take so many bytes more."""
    free = free_bytes(folder)
    if free is not None and need > free:
        raise no_space(f"for {what} in {folder}", f"{need} bytes are needed, {free} are free")


#: Errors that say that a folder cannot be there.
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ELOOP)


def obstacle(path: str, reason: str) -> tuple[str, str]:
    """Return why a folder cannot be made, and at which of the folders above it."""
    at = path
    while not os.path.lexists(at) and os.path.dirname(at) != at:
        at = os.path.dirname(at)
    if os.path.islink(at) and not os.path.exists(at):
        return f"a link leads nowhere, to {os.readlink(at)}", at
    return (reason, path) if os.path.isdir(at) else ("a file is in the way", at)


@functools.cache
def is_local(folder: str) -> bool:
    """Return True if a folder is on a file system that no other kernel uses at the same time."""
    try:
        device = os.stat(folder).st_dev
        wanted = f" {os.major(device)}:{os.minor(device)} "
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            kinds = [line.partition(" - ")[2].split()[0] for line in mounts if wanted in line]
    except (OSError, IndexError):
        return False  # not Linux
    return bool(kinds) and _LOCAL.issuperset(kinds)


# -- temporary folders -------------------------------------------------------------------------


class temporary:
    """Give a folder that only this user may enter, until the block ends; in TMPDIR, or `near`.

    Its name is ``pkgdata-<kind>.<owner>-<8 characters>.tmp``: what killed processes have left goes
    when the next one is made.
    """

    def __init__(self, kind: str, near: str | None = None) -> None:
        self._name, self._near = f"pkgdata-{kind}", near

    def __enter__(self) -> str:
        import tempfile

        from . import owners  # a hit needs none of the two

        top = self._near or tempfile.gettempdir()
        sweep_temporary(top)
        # what is not in TMPDIR stands next to a user's own folders
        start = f"{'.' * bool(self._near)}{self._name}.{owners.token()}-"
        self._path = tempfile.mkdtemp(owners.ASIDE, start, top)
        return self._path

    def __exit__(self, *_: object) -> None:
        _discard(self._path)


def sweep_temporary(top: str) -> None:
    """Remove the folders of `temporary` that killed processes of this user have left in one."""
    from . import fs, owners

    for path in fs.listed(top):
        name = os.path.basename(path).removeprefix(".")
        if name.startswith("pkgdata-") and owners.is_aside(name) and owners.is_leftover(name):
            try:
                found = os.lstat(path)
            except OSError:
                continue  # another process was faster
            # others may write to TMPDIR, too: a link or a stranger's folder is not touched
            if stat.S_ISDIR(found.st_mode) and (fs.WINDOWS or found.st_uid == os.geteuid()):
                _discard(path)


def _discard(path: str) -> None:
    from . import fs

    try:
        fs.discard(path)
    except OSError:
        pass  # a child of ours still writes there; the next process tries again
