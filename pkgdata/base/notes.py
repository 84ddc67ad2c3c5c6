"""Who works on something: a file that all hosts of a network file system see, unlike a lock.

Only one can create it (``O_EXCL``), on all file systems. It does not end with its process, so it
counts while that process runs, or, if that is one of another host, while its work grows.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

from . import fs, owners


class Note:
    """A file that names its holder."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._me = owners.unique()
        self._wrote = False
        #: Inode and time of the note of another, and when that was seen to change.
        self._seen, self._changed = (0, 0), 0.0
        #: Whom it names; and whether we replaced it just now.
        self.holder, self.unsure = "", False

    def take(self, locked: bool = False) -> bool:
        """Return True if it names us now, or cannot be written here.

        `locked` tells that nobody else of this machine could do the same.
        """
        facts = self._facts() if self.holder else None
        if facts is None:
            try:
                self._write(self._path)
                return True
            except FileExistsError:
                facts = self._facts()
            except OSError:
                return True  # a disk that is full, perhaps; it saves work, no more
        if facts is not None and facts != self._seen:
            self._seen, self.holder = facts, self._read()
        if self.holder == self._me:
            return True
        ended = self.is_here() and owners.is_gone(self.holder.rpartition("-")[0])
        return ended and self.take_over() and locked

    def _facts(self) -> tuple[int, int] | None:
        try:
            found = os.lstat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _write(self, path: str) -> None:
        fd = fs.create_exclusive(path)
        try:
            os.write(fd, self._me.encode())
            self._wrote = True
        except OSError:
            fs.remove(path)
            raise
        finally:
            os.close(fd)

    def _read(self) -> str:
        try:
            with open(self._path, encoding="utf-8", opener=fs.plain) as file:
                return file.read(1 << 10) or "nobody"
        except (OSError, ValueError):
            return "nobody"  # removed just now, another user's, or something else

    def is_here(self) -> bool:
        """Return True if it names a process of this machine."""
        return self.holder.partition("-")[0] == owners.token().partition("-")[0]

    def idle(self, times: Iterable[int] = ()) -> float:
        """Return for how many seconds the one for whom we wait has shown no sign of work.

        Such signs are the time of the note and those that are given, in ns.
        """
        if not self.holder:
            return 0.0  # it is waited for by another process of this host, which looks closer
        try:
            return owners.age(self._path, [self._seen[1], *times])
        except OSError:
            return 0.0

    def take_over(self) -> bool:
        """Let it name us instead of another; return False if it cannot.

        Others may do so at the same moment: who is named at the next look has it.
        """
        if not self.holder:
            return False
        new = owners.aside(self._path)
        try:
            self._write(new)
            if os.path.isdir(self._path):
                owners.set_aside(self._path)
            if self._facts() in (None, self._seen):  # else another was faster
                os.replace(new, self._path)
        except OSError:
            return False  # another user's, in a folder where it is not ours to remove
        finally:
            fs.remove(new)
        self.unsure = True
        return True

    def is_turn(self, timeout: float) -> bool:
        """Return True if no other host works; one that did not `touch` it for so long does not."""
        seen = self._seen
        if self.take() or self.is_here():
            return True
        now = time.monotonic()
        if seen != self._seen:
            self._changed = now - (0.0 if any(seen) else self.idle())
        if now - self._changed >= timeout:
            self.take_over()
        return False

    def touch(self) -> None:
        """Show that work goes on; take it if the one of this machine who had it has ended."""
        now = time.monotonic()
        if now - self._changed >= 1.0:
            self._changed = now
            with contextlib.suppress(OSError):  # it would have helped those who wait, no more
                if self._wrote or self.take():
                    os.utime(self._path)

    def release(self) -> None:
        """Remove it, unless another has taken over."""
        wrote, self._wrote, self.holder = self._wrote, False, ""
        if wrote and self._read() == self._me:
            fs.remove(self._path)
