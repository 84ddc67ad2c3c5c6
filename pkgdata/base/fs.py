"""File-system tricks in one place: safe names, modes that follow the folder, atomic moves.

Nothing here knows what a cache is.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WINDOWS = os.name == "nt"

#: Device names that Windows keeps for itself, whatever the suffix.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{kind}{i}" for kind in ("com", "lpt") for i in "123456789¹²³"]
)

#: Errors that say "this directory cannot be written", as opposed to a full disk or a bad path.
UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def safe_name(name: str) -> str:
    """Check a relative name before any path is built from it.

    Parameters
    ----------
    name : str
        Relative name with ``/`` between its parts.

    Returns
    -------
    str
        The name itself.

    Raises
    ------
    UnsafeNameError
        The name is empty, absolute, has ``..``, ``.`` or empty parts, a backslash, a drive
        letter, a control character, a Windows device name, a part that ends in a dot or a space,
        or a part longer than 255 bytes.
    """
    problem = name_problem(name)
    if problem is None:
        return name
    from ..errors import UnsafeNameError

    raise UnsafeNameError(
        f"refused the name {name!r}: {problem}",
        hint="use a relative name such as 'maps/dust.fits'",
        name=name,
    )


def safe_key(name: str) -> str:
    """Check the name of an object in a store that has no folders: it must not leave its prefix.

    Parameters
    ----------
    name : str
        Relative name with ``/`` between its parts.

    Returns
    -------
    str
        The name itself.

    Raises
    ------
    UnsafeNameError
        The name is empty, absolute, has ``..``, ``.`` or empty parts, a backslash or a control
        character. What only some file systems cannot store is allowed.
    """
    problem = _key_problem(name)
    if problem is None:
        return name
    from ..errors import UnsafeNameError

    raise UnsafeNameError(
        f"refused the name {name!r}: {problem}",
        hint="use a relative name such as 'maps/dust.fits'",
        name=name,
    )


def _key_problem(name: str) -> str | None:
    if not isinstance(name, str) or not name:
        return "a name is a text that is not empty"
    if "\\" in name:
        return "it holds a backslash"
    if not name.isprintable() and any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in name):
        return "it holds a control character"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "it is absolute" if name[0] == "/" else f"it holds the part {part!r}"
    return None


def name_problem(name: str) -> str | None:
    """Say what is wrong with a relative name, or return None."""
    problem = _key_problem(name)
    if problem is not None:
        return problem
    if name[1:2] == ":" and name[0].isalpha():
        return "it begins with a drive letter"
    if WINDOWS and any(c in ':*?"<>|' for c in name):
        return "it holds a character that Windows cannot store"
    for part in name.split("/"):
        if part[-1] in ". ":
            return "a part ends in a dot or a space"
        if part.partition(".")[0].rstrip(" ").lower() in _DEVICES:
            return "it is a Windows device name"
        try:
            too_long = len(part.encode()) > 255
        except UnicodeEncodeError:
            return "it holds a lone surrogate"
        if too_long:
            return "a part is longer than 255 bytes"
    return None


def make_dirs(path: str, bits: int = 0) -> None:
    """Create a directory and its missing parents, each with the mode of the one above it.

    A group can so share a tree: whoever creates a folder, the others may write where the parent
    lets them. The first missing folder below an existing one follows that one.

    Parameters
    ----------
    bits : int, default 0
        Permission bits that each new one gets besides.

    Raises
    ------
    OSError
        A part is a file, or cannot be created.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", path) from None
        return
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent == path:
            raise
        make_dirs(parent, bits)
        make_dirs(path, bits)
        return
    follow_mode(path, 0o777)
    _add_bits(path, bits)


def _add_bits(path: str, bits: int) -> None:
    if bits and not WINDOWS:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & bits != bits:
            os.chmod(path, mode | bits)


def follow_mode(path: str, mask: int, drop: int = 0) -> None:
    """Give a new file or directory the permission bits of its parent.

    Parameters
    ----------
    mask : int
        Bits to take over: 0o777 for a directory, 0o666 for a file.
    drop : int, default 0
        Bits to leave out after all.
    """
    if WINDOWS:
        return
    parent = os.stat(os.path.dirname(path) or ".").st_mode
    mode = parent & mask & ~drop
    if mask & 0o100:
        mode |= parent & (stat.S_ISGID | stat.S_ISVTX)
    try:
        os.chmod(path, mode)
    except PermissionError:
        pass  # another user made it first, with the same rule


def create_exclusive(path: str, follow: bool = True) -> int:
    """Create a new file for reading and writing and return its descriptor.

    Parameters
    ----------
    follow : bool, default True
        Mode after its parent; else as the umask says.

    Raises
    ------
    FileExistsError
        The path exists.
    OSError
        It cannot be created.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0), 0o666)
    try:
        if follow:
            follow_mode(path, 0o666)
    except BaseException:
        os.close(fd)
        raise
    return fd


def retry_denied(action: Callable[[], None], tries: int = 10) -> None:
    """Run an action again while Windows denies it because a scanner has the file open.

    Parameters
    ----------
    tries : int, default 10
        The waits double from 10 ms, so ten tries last about five seconds in all.

    Raises
    ------
    PermissionError
        It is still denied.
    """
    for i in range(tries):
        try:
            action()
            return
        except PermissionError:
            if not WINDOWS or i == tries - 1:
                raise
            import time

            time.sleep(min(0.01 * 2**i, 1.0))


def replace(source: str, target: str) -> None:
    """Rename onto a target, atomically, with Windows' passing denials retried.

    Parameters
    ----------
    source, target : str
        On the same file system.
    """
    retry_denied(lambda: os.replace(source, target))


def write_atomic(path: str, content: bytes, sync: bool = True, follow: bool = False) -> None:
    """Write a small file so that readers see the old content or the new, never a part.

    Parameters
    ----------
    sync : bool, default True
        Make it survive a power loss.
    follow : bool, default False
        Mode after the folder, for a shared tree; else as the umask says.
    """
    write_blocks(path, (content,), sync, follow)


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write all of a block; the system may take less at a time.

    Raises
    ------
    OSError
        The disk is full, or fails.
    """
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_blocks(
    path: str,
    blocks: Iterable[bytes | memoryview],
    sync: bool = True,
    follow: bool = False,
    if_absent: bool = False,
    bits: int = 0,
) -> None:
    """Write a file block by block so that readers see the old content or the new, never a part.

    Parameters
    ----------
    blocks : iterable of bytes-like
        If it raises, nothing is left behind.
    sync : bool, default True
        Make it survive a power loss.
    follow : bool, default False
        Mode after the folder, for a shared tree; else as the umask says.
    if_absent : bool, default False
        Refuse to replace what is there.
    bits : int, default 0
        Permission bits that the file gets besides.

    Raises
    ------
    FileExistsError
        The path exists and ``if_absent`` is set.
    """
    aside = f"{path}.{owner_token()}-{os.urandom(4).hex()}{ASIDE}"
    fd = create_exclusive(aside, follow)
    try:
        try:
            for block in blocks:
                write_all(fd, block)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        _add_bits(aside, bits)
        if if_absent:
            _appear(aside, path)
        else:
            replace(aside, path)
    except BaseException:
        remove(aside)
        raise


def _appear(aside: str, path: str) -> None:
    """Give a complete file its name, which must be free; only a link fails for certain if not."""
    try:
        os.link(aside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        replace(aside, path)
    else:
        remove(aside)


#: Ends the names of files that are being written.
ASIDE = ".tmp"


def is_aside(name: str) -> bool:
    """Say whether a file's name is one that `write_blocks` gives to a file it has not finished."""
    _, _, pid_and_number = name.removesuffix(ASIDE).rpartition(".")[2].partition("-")
    pid, _, number = pid_and_number.partition("-")
    return name.endswith(ASIDE) and pid.isdigit() and len(number) == 8


def leftovers(root: str) -> Iterator[str]:
    """Yield the names below a folder of unfinished files whose writer is gone from this machine."""
    for name, _ in walk_files(root):
        if is_aside(name):
            owner = name.removesuffix(ASIDE).rpartition(".")[2].rpartition("-")[0]
            if owner_is_gone(owner):
                yield name


def remove(path: str) -> bool:
    """Remove a file, read-only or not; a missing one is no error.

    Returns
    -------
    bool
        Whether this call removed it.
    """
    try:
        if WINDOWS:
            os.chmod(path, 0o666)
        retry_denied(lambda: os.unlink(path))
    except FileNotFoundError:
        return False
    return True


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, read-only files included; missing is no error."""
    for folder, directories, files in os.walk(path, topdown=False):
        for name in files:
            remove(os.path.join(folder, name))
        for name in directories:
            child = os.path.join(folder, name)
            if os.path.islink(child):
                os.unlink(child)
            else:
                os.rmdir(child)
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass


def append(path: str, content: bytes) -> None:
    """Append to a small shared file in one write, creating it and its folders, mode after them.

    Raises
    ------
    OSError
        It cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        make_dirs(os.path.dirname(path))
        fd = os.open(path, flags | os.O_CREAT, 0o666)
        follow_mode(path, 0o666)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def _libc_syncfs() -> Callable[[int], int] | None:
    import sys

    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        found: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
    except (ImportError, OSError, AttributeError):
        return None
    return found


def can_sync_all() -> bool:
    """Say whether `sync_all` works here: on Linux (``syncfs``, Linux 2.6.39)."""
    return _libc_syncfs() is not None


def sync_all(folder: str) -> None:
    """Wait until all that was written to the file system of a folder is on disk.

    Raises
    ------
    OSError
        The system could not write it.
    """
    syncfs = _libc_syncfs()
    fd = os.open(folder, os.O_RDONLY)
    try:
        if syncfs is None or syncfs(fd) != 0:
            raise OSError(errno.EIO, "cannot be synced", folder)
    finally:
        os.close(fd)


def walk_files(root: str) -> Iterator[tuple[str, str]]:
    """Yield (relative name with ``/``, path) of every file below a directory, sorted by name.

    Raises
    ------
    OSError
        A folder cannot be read, or a link leads back to a folder above it.
    """
    stack: list[tuple[str, str, tuple[tuple[int, int], ...]]] = [("", root, ())]
    while stack:
        prefix, folder, above = stack.pop()
        info = os.stat(folder)
        if (info.st_dev, info.st_ino) in above:
            raise OSError(errno.ELOOP, "a link leads back to a folder above it", folder)
        above = (*above, (info.st_dev, info.st_ino))
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        folders = []
        for entry in entries:
            if entry.is_dir():
                folders.append((f"{prefix}{entry.name}/", entry.path, above))
            elif entry.is_file() or entry.is_symlink():  # opening a named pipe would wait forever
                yield prefix + entry.name, entry.path
        stack.extend(reversed(folders))


def name_inside(folder: str, path: str) -> str | None:
    """Return the relative name, with ``/``, of a path below a folder; None if it is not there."""
    name = os.path.relpath(os.path.abspath(path), os.path.abspath(folder)).replace(os.sep, "/")
    return None if name.startswith("../") or name in (".", "..") else name


def link_or_copy(source: str, target: str) -> None:
    """Make a second name for a file's bytes: hard link, else clone, else copy.

    Parameters
    ----------
    target : str
        Must not exist.

    Raises
    ------
    FileExistsError
        The target exists.
    OSError
        The bytes cannot be read or written.
    """
    try:
        # a link to a symbolic link would share its text, which leads elsewhere from another folder
        os.link(os.path.realpath(source), target)
        return
    except FileExistsError:
        raise
    except OSError:
        pass  # another file system, or one without links
    copy(source, target)


def copy(source: str, target: str) -> None:
    """Copy a file's bytes to a new file, sharing blocks where the file system can.

    Parameters
    ----------
    target : str
        Must not exist.
    """
    import shutil

    fd = create_exclusive(target)
    try:
        with open(source, "rb") as read, os.fdopen(fd, "wb") as write:
            if not _clone(read.fileno(), write.fileno()):
                shutil.copyfileobj(read, write, 1 << 20)
    except BaseException:
        remove(target)
        raise


def clone_atomic(source: str, target: str) -> bool:
    """Make a file that shares the blocks of another, as `copy_atomic` does, where that is possible.

    Returns
    -------
    bool
        False if the file system cannot share blocks; nothing was done then.
    """
    aside = f"{target}.{owner_token()}-{os.urandom(4).hex()}{ASIDE}"
    fd = create_exclusive(aside)
    try:
        with open(source, "rb") as read, os.fdopen(fd, "wb") as write:
            shared = _clone(read.fileno(), write.fileno())
            if shared:
                os.fsync(write.fileno())
        if shared:
            replace(aside, target)
        else:
            remove(aside)
    except BaseException:
        remove(aside)
        raise
    return shared


def copy_atomic(source: str, target: str, sync: bool = True) -> None:
    """Copy a file so that readers see the old content of the target or the new, never a part.

    Parameters
    ----------
    sync : bool, default True
        Make it survive a power loss.
    """
    aside = f"{target}.{owner_token()}-{os.urandom(4).hex()}{ASIDE}"
    try:
        copy(source, aside)
        if sync:
            fd = os.open(aside, os.O_RDWR)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        replace(aside, target)
    except BaseException:
        remove(aside)
        raise


def _clone(source: int, target: int) -> bool:
    """Share the blocks of one file with another (Linux FICLONE: btrfs, xfs, bcachefs)."""
    try:
        import fcntl

        fcntl.ioctl(target, 0x40049409, source)  # FICLONE, linux/fs.h
    except (ImportError, OSError):
        return False
    return True


def free_bytes(path: str) -> int | None:
    """Return the bytes that this user may still write at a path, or None if unknown.

    Parameters
    ----------
    path : str
        The path or its nearest existing parent is asked.
    """
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


_owner: tuple[int, str] | None = None


def owner_token() -> str:
    """Return a text that names this process: ``<place>-<pid>``.

    The place is a digest of host name, boot and process-id namespace, so that two containers on one
    host are never taken for each other.
    """
    global _owner
    pid = os.getpid()
    if _owner is None or _owner[0] != pid:
        _owner = (pid, f"{_place()}-{pid}")
    return _owner[1]


def _host_name() -> str:
    if hasattr(os, "uname"):
        return os.uname().nodename  # importing socket would cost 8 ms
    import socket

    return socket.gethostname()


def _place() -> str:
    import hashlib

    facts = [_host_name()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            if os.path.islink(path):
                facts.append(os.readlink(path))
            else:
                with open(path, encoding="ascii") as file:
                    facts.append(file.read().strip())
        except OSError:
            facts.append("")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:10]


def owner_is_gone(token: str) -> bool:
    """Say whether the process of an `owner_token` has ended for sure.

    Returns
    -------
    bool
        False when it runs, and when it ran at another place so that nothing can be said.
    """
    place, _, pid = token.rpartition("-")
    if place != owner_token().rpartition("-")[0] or not pid.isdigit():
        return False
    if WINDOWS:
        return not _windows_process_runs(int(pid))
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _is_zombie(pid)


def _is_zombie(pid: str) -> bool:
    """Say whether a process was killed and only waits to be collected by its parent.

    In a container without an init process that can last for ever.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def _windows_process_runs(pid: int) -> bool:
    # os.kill(pid, 0) would end the process on Windows
    import ctypes

    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return bool(kernel.GetLastError() == 5)  # ERROR_ACCESS_DENIED: it runs, as someone else
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE
