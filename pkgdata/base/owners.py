"""Who writes a file: tokens of processes, and the names of files that are being written.

::

  <target>.<owner>-<8 digits>.tmp    such a file, next to its target

The owner is `token`. A file whose owner has ended for sure is a leftover and may be removed.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Ends the names of files that are being written.
ASIDE = ".tmp"


def unique() -> str:
    """Return a name part that no other file has: ``<owner>-<8 digits>``, see `token`."""
    return f"{token()}-{os.urandom(4).hex()}"


def aside(path: str) -> str:
    """Return a new name next to a target, for its bytes until they are complete."""
    end = f".{unique()}{ASIDE}"
    if len(path) > 50:  # a part of a path has 255 bytes at most
        size = len(os.fsencode(os.path.basename(path)))
        while size + len(end) > 255:
            size -= len(os.fsencode(path[-1]))
            path = path[:-1]
    return path + end


def age(path: str, times: Iterable[int]) -> float:
    """Return how many seconds ago the latest of some times was, by the clock of a file's server."""
    probe = aside(path)
    fd = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        return max(0.0, (os.fstat(fd).st_mtime_ns - max(times, default=0)) / 1e9)
    finally:
        os.close(fd)
        os.unlink(probe)


def set_aside(path: str) -> None:
    """Rename what is in the way of a cache's file, a link or a pipe, and tell it; OSError if not.

    It is not removed: nothing is known of it. Once its name's owner has ended it is a leftover.
    """
    found = aside(path)
    try:
        os.rename(path, found)
    except FileNotFoundError:
        return  # another process was faster
    from ..errors import CacheWarning, warn

    name = os.path.basename(found)
    text = f"{path} was no plain file of ours and is not followed or used; it is {name} now"
    warn(text, CacheWarning)


def of(name: str) -> str | None:
    """Return the owner token in a name that ends in ``.<owner>-<8 digits>.<kind>``, or None."""
    place, _, rest = name.rpartition(".")[0].rpartition(".")[2].partition("-")
    pid, _, number = rest.partition("-")
    return f"{place}-{pid}" if place and pid.isdigit() and len(number) == 8 else None


def is_aside(name: str) -> bool:
    """Return True if a file's name is one that `aside` gives."""
    return name.endswith(ASIDE) and of(name) is not None


def is_leftover(name: str) -> bool:
    """Return True if a name carries the token of a process that has ended for sure."""
    owner = of(name)
    return owner is not None and is_gone(owner)


_owner: tuple[int, str] | None = None


def token() -> str:
    """Return a text that names this process: ``<place>-<pid>``.

    The place is a digest of host name, boot and process-id namespace, so that two containers on one
    host are never confused.
    """
    global _owner
    pid = os.getpid()
    if _owner is None or _owner[0] != pid:
        _owner = (pid, f"{_place()}-{pid}")
    return _owner[1]


def host_name() -> str:
    """Return the name of this machine."""
    if hasattr(os, "uname"):
        return os.uname().nodename  # importing socket would cost 8 ms
    import socket

    return socket.gethostname()


def _place() -> str:
    import hashlib

    facts = [host_name()]
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


def is_gone(owner: str) -> bool:
    """Return True if the process of a `token` has ended for sure.

    It is False when the process runs, and when it ran at another place, so that nothing is known.
    """
    place, _, pid = owner.rpartition("-")
    if place != token().rpartition("-")[0] or not pid.isdigit():
        return False
    if os.name == "nt":
        return not _windows_process_runs(int(pid))
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _is_zombie(pid)


def _is_zombie(pid: str) -> bool:
    """Return True if a process has ended and waits to be reaped by its parent.

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
