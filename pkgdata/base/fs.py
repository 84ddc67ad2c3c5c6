"""File-system tricks in one place: safe names, modes that follow the folder, atomic writing."""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

WINDOWS = os.name == "nt"

#: Device names that Windows keeps for itself, whatever the suffix.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{kind}{i}" for kind in ("com", "lpt") for i in "123456789¹²³"]
)

#: Errors that say "this directory cannot be written", as opposed to a full disk or a bad path.
UNWRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

#: Errors of opening what is no plain file: a link, a folder, a pipe that nobody reads.
NOT_PLAIN = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})

SPECIAL = "it is a pipe, a socket or a device, not a file"


def safe_name(name: str) -> str:
    """Return a relative name that a disk of this system can hold, or raise `UnsafeNameError`."""
    return _checked(name, name_problem(name))


def safe_key(name: str) -> str:
    """Return a name of Unicode that does not leave its prefix, or raise `UnsafeNameError`."""
    return _checked(name, _escape(name) or _not_unicode(name))


def _checked(name: str, problem: str | None) -> str:
    if problem is None:
        return name
    from ..errors import UnsafeNameError

    hint = "use a relative name such as 'maps/dust.fits'"
    raise UnsafeNameError(f"refused the name {name!r}: {problem}", hint=hint, name=name)


def name_problem(name: str, everywhere: bool = False) -> str | None:
    """Return why a disk of this system, or of any (`everywhere`), cannot hold a name, or None."""
    problem = _escape(name) or (_windows_problem(name) if everywhere or WINDOWS else None)
    if problem is None and everywhere:
        problem = _not_unicode(name)
        if problem is None and any(len(part.encode()) > 255 for part in name.split("/")):
            problem = "a part is longer than 255 bytes"
    return problem


def _escape(name: str) -> str | None:
    """Return why a name could leave its folder, or be two lines or two names elsewhere, or None."""
    if not isinstance(name, str) or not name:
        return "a name is a text that is not empty"
    if "\\" in name:
        return "it holds a backslash"
    if not name.isprintable() and any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in name):
        return "it holds a control character"
    if name[1:3] == ":/" and name[0].isalpha():
        return "it begins with a drive letter"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "it is absolute" if name[0] == "/" else f"it holds the part {part!r}"
    return None


def _not_unicode(name: str) -> str | None:
    odd = not name.isprintable() and any(0xD800 <= ord(c) < 0xE000 for c in name)
    return "it holds bytes that are not UTF-8" if odd else None


def _windows_problem(name: str) -> str | None:
    """Return why Windows cannot hold a name, or None."""
    if any(c in ':*?"<>|' for c in name):
        return "it holds a character that Windows cannot store"
    for part in name.split("/"):
        if part[-1] in ". ":
            return "a part ends in a dot or a space"
        if part.partition(".")[0].rstrip(" ").lower() in _DEVICES:
            return "it is a Windows device name"
    return None


def name_inside(folder: str, path: str) -> str | None:
    """Return the relative name, with ``/``, of a path below a folder; None if it is not there."""
    name = os.path.relpath(os.path.abspath(path), os.path.abspath(folder)).replace(os.sep, "/")
    return None if name.startswith("../") or name in (".", "..") else name


def make_dirs(path: str, bits: int = 0, follow: bool = True, tries: int = 20) -> None:
    """Create a directory and its missing parents, each with the mode of the one above it.

    So a group can share a cache. Without `follow` the umask decides. Each gets `bits`, too.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        if not _is_folder(path, follow):
            make_dirs(path, bits, follow)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent == path or not tries:  # of a kernel's folder, nothing can be made below it
            raise
        make_dirs(parent, bits, follow)
        make_dirs(path, bits, follow, tries - 1)
    else:
        if follow:
            follow_mode(path, 0o777)
        _add_bits(path, bits)


def _is_folder(path: str, shared: bool) -> bool:
    """Return True if a folder is there, False if another user's link or file was set aside."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(found.st_mode):
        return True
    if shared and is_foreign(found):
        from . import owners

        owners.set_aside(path)
        return False
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", path)
    return True


def _add_bits(path: str, bits: int) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode) if bits and not WINDOWS else bits
    if mode & bits != bits:
        _where_allowed(lambda: os.chmod(path, mode | bits))


def _where_allowed(action: Callable[[], None]) -> None:
    """Change a mode or time, unless that is the mount's own affair, as of exFAT and some FUSE."""
    try:
        action()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP):
            raise


def follow_mode(path: str, mask: int, drop: int = 0, fd: int = -1) -> None:
    """Give a new file (0o666) or directory (0o777) its parent's bits; safer by its descriptor."""
    if WINDOWS:
        return
    parent = os.stat(os.path.dirname(path) or ".").st_mode
    mode = parent & mask & ~drop
    if mask & 0o100:
        mode |= parent & (stat.S_ISGID | stat.S_ISVTX)
    # not allowed: another user made it first, with the same rule
    _where_allowed(lambda: os.chmod(path if fd < 0 else fd, mode))


def listed(*parts: str) -> list[str]:
    """Return the paths in a folder, sorted; none if it is not there or cannot be read."""
    top = os.path.join(*parts)
    try:
        return [os.path.join(top, name) for name in sorted(os.listdir(top))]
    except OSError:
        return []


def walk_files(root: str) -> Iterator[tuple[str, str]]:
    """Yield (relative name with ``/``, path) of every file below a directory, sorted by name.

    OSError is raised if a folder cannot be read, or a link leads back to a folder above it.
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
            # of a link in a circle, `is_dir` raises
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                folders.append((f"{prefix}{entry.name}/", entry.path, above))
            elif entry.is_symlink() or entry.is_file():  # opening a named pipe would wait forever
                yield prefix + entry.name, entry.path
        stack.extend(reversed(folders))


#: How files are opened: without `O_NONBLOCK` one would wait until somebody writes into a pipe.
READING = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def plain(path: str, flags: int) -> int:
    """Open what others may have put there, with no link followed and no pipe waited for."""
    return os.open(path, flags | READING | getattr(os, "O_NOFOLLOW", 0), 0o666)


def regular(path: str | os.PathLike[str], flags: int = 0) -> int:
    """Open a user's file, to read it; OSError for a pipe or device that no shell handed over."""
    fd = os.open(path, flags | READING)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # of a folder the read is the error
        return fd
    os.close(fd)
    # "<(command)" is a pipe, too, and the null device is the usual word for an empty file
    handed = os.fspath(path).startswith(("/dev/fd/", "/dev/stdin", "/proc/"))
    if handed or os.path.realpath(path) == os.devnull:
        return os.open(path, flags)
    raise OSError(errno.EINVAL, SPECIAL, path)


def open_plain(path: str, flags: int) -> int:
    """Open a plain file of one name as `plain` does; OSError if it is anything else."""
    fd = plain(path, flags)
    try:
        found = os.fstat(fd)
        # a second name could be that of a file elsewhere; a file without one was removed just now
        if stat.S_ISREG(found.st_mode) and found.st_nlink < 2:
            return fd
        raise OSError(errno.ELOOP, "it is no plain file of one name", path)
    except BaseException:
        os.close(fd)
        raise


def is_foreign(found: os.stat_result) -> bool:
    """Return True if something belongs neither to this user nor to the administrator."""
    return not WINDOWS and found.st_uid not in (0, os.geteuid())


def create_exclusive(path: str, follow: bool = True, mode: int = 0o666, drop: int = 0) -> int:
    """Create a new file, mode after its folder or as the umask says; return its descriptor."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags, mode & ~drop)
    try:
        if follow:
            follow_mode(path, 0o666, drop, fd)
        return fd
    except BaseException:
        os.close(fd)
        raise


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write all of a block; the system may take less at a time."""
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]


class writing:
    """Write a file through a descriptor, so that readers see the old content or the new.

    If the block raises, nothing is left behind. With `if_absent` a file that is there raises
    FileExistsError; with `sync` the bytes survive a power loss; with `follow` the mode follows the
    folder, as in a shared cache, else it is `mode` without the umask; `bits` are permission bits to
    add. The file gets the time `modified`, in nanoseconds since the epoch, if there is one.
    """

    def __init__(
        self,
        path: str,
        sync: bool = True,
        follow: bool = False,
        if_absent: bool = False,
        bits: int = 0,
        mode: int = 0o666,
        modified: int | None = None,
    ) -> None:
        from . import owners  # a hit writes nothing and needs no owner

        self._path, self._aside = path, owners.aside(path)
        self._sync, self._follow, self._if_absent = sync, follow, if_absent
        self._mode = mode & 0o777 | 0o600  # the owner can replace a copy of a read-only file
        self._bits, self._modified = bits, modified

    def __enter__(self) -> int:
        there = not self._follow and os.path.exists(self._path)  # a cache sets it aside
        if there and not os.path.isfile(self._path) and not os.path.isdir(self._path):
            raise OSError(errno.EINVAL, SPECIAL, self._path)
        self._fd = create_exclusive(self._aside, self._follow, self._mode)
        return self._fd

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            try:
                if kind is None and self._sync:
                    os.fsync(self._fd)
            finally:
                os.close(self._fd)
            if kind is None:
                _add_bits(self._aside, self._bits)
                if (when := self._modified) is not None:
                    _where_allowed(lambda: os.utime(self._aside, ns=(when, when)))
                if self._follow and not self._if_absent:
                    install(self._aside, self._path)
                else:
                    appear(self._aside, self._path, self._if_absent)
        except BaseException:
            remove(self._aside)
            raise
        if kind is not None:
            remove(self._aside)


def appear(source: str, target: str, if_absent: bool) -> None:
    """Rename a complete file; with ``if_absent`` what is there raises FileExistsError."""
    if if_absent:
        try:
            os.link(source, target)  # the one way to rename that never replaces
            remove(source)
            return
        except FileExistsError:
            raise
        except OSError:
            # a file system without links: an empty file claims the name
            os.close(create_exclusive(target, follow=False))
    replace(source, target)


def write_atomic(path: str, content: bytes, sync: bool = True, follow: bool = False) -> None:
    """Write a small file as `writing` does."""
    write_blocks(path, (content,), sync=sync, follow=follow)


def write_blocks(path: str, blocks: Iterable[bytes | memoryview], **how: Any) -> None:
    """Write a file block by block as `writing` does; if `blocks` raises, nothing is left behind."""
    with writing(path, **how) as fd:
        for block in blocks:
            write_all(fd, block)


def append(path: str, content: bytes) -> None:
    """Append to a small shared file in one write, creating it and its folders, mode after them."""
    flags = os.O_WRONLY | os.O_APPEND
    try:
        fd = open_plain(path, flags)
    except OSError as error:
        if error.errno != errno.ENOENT:
            if error.errno not in NOT_PLAIN:
                raise
            from . import owners

            owners.set_aside(path)
        make_dirs(os.path.dirname(path))
        fd = open_plain(path, flags | os.O_CREAT)
        follow_mode(path, 0o666, 0, fd)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def retry_denied(action: Callable[[], None], tries: int = 10) -> None:
    """Run an action again, for 5 s, while Windows denies it because a scanner has the file open."""
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
    """Rename onto a target of the same file system, atomically; see `retry_denied`."""
    retry_denied(lambda: os.replace(source, target))


def install(source: str, target: str) -> None:
    """Rename onto a target in a cache; a folder in its place is set aside."""
    try:
        replace(source, target)
    except IsADirectoryError:
        from . import owners

        owners.set_aside(target)
        replace(source, target)


def remove(path: str) -> bool:
    """Remove a file, read-only or not; return whether it was there."""
    try:
        if WINDOWS:
            os.chmod(path, 0o666)  # noqa: S103 - clears a flag; Windows has no other bits
        retry_denied(lambda: os.unlink(path))
        return True
    except FileNotFoundError:
        return False


def remove_tree(path: str) -> None:
    """Remove a directory and all below it, read-only files included; missing is no error."""
    for folder, directories, files in os.walk(path, topdown=False):
        for name in files:
            remove(os.path.join(folder, name))
        for name in directories:
            _remove_folder(os.path.join(folder, name))
    _remove_folder(path)


def _remove_folder(path: str) -> None:
    """Remove an empty folder, or a link to one."""
    try:
        os.unlink(path) if os.path.islink(path) else os.rmdir(path)
    except FileNotFoundError:
        pass  # another process removes the same tree, as what a killed one left


def discard(path: str) -> None:
    """Remove a file, a link or a folder with all below it; missing is no error."""
    if os.path.islink(path) or not os.path.isdir(path):
        remove(path)
        return
    try:
        remove_tree(path)
    except PermissionError:
        # folders may be read-only, as tar keeps modes
        os.chmod(path, 0o700)
        for folder, below, _ in os.walk(path):
            for one in below:
                if not os.path.islink(os.path.join(folder, one)):
                    os.chmod(os.path.join(folder, one), 0o700)
        remove_tree(path)


def link_or_copy(source: str, target: str) -> None:
    """Make a second name, not there yet, for a file's bytes: hard link, else clone, else copy."""
    try:
        # a link to a symbolic link would share its text, which leads elsewhere from another folder
        os.link(os.path.realpath(source), target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        copy(source, target)


def copy(source: str, target: str) -> None:
    """Copy a file's bytes to a new file, sharing blocks where the file system can."""
    fd = create_exclusive(target)
    try:
        with open(source, "rb") as read:
            copy_content(read.fileno(), fd)
    except BaseException:
        remove(target)
        raise
    finally:
        os.close(fd)


def copy_atomic(
    source: str, target: str, sync: bool = True, alike: bool = False, by_blocks: bool = True
) -> bool:
    """Copy a file as `writing` does, if `alike` with the source's mode and time.

    Return False, with nothing done, if not `by_blocks` and the file system cannot share blocks.
    """
    try:
        with open(source, "rb") as read:
            found = os.fstat(read.fileno())
            mode, modified = (found.st_mode, found.st_mtime_ns) if alike else (0o666, None)
            with writing(target, sync, mode=mode, modified=modified) as fd:
                if by_blocks:
                    copy_content(read.fileno(), fd)
                elif not _clone(read.fileno(), fd):
                    raise NotImplementedError  # so that `writing` leaves nothing behind
        return True
    except NotImplementedError:
        return False


def copy_content(source: int, target: int) -> None:
    """Copy an open file to a new one, sharing blocks where the file system can."""
    if not _clone(source, target):
        while block := os.read(source, 1 << 20):
            write_all(target, block)


def _clone(source: int, target: int) -> bool:
    """Share the blocks of one file with another (Linux FICLONE: btrfs, xfs, bcachefs)."""
    try:
        import fcntl

        fcntl.ioctl(target, 0x40049409, source)  # FICLONE, linux/fs.h
        return True
    except (ImportError, OSError):
        return False
