"""The SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02), spoken through the program ``ssh``.

``ssh`` brings what people have set up for a host: keys, agents, certificates, jump hosts, aliases,
known hosts; and one login serves all threads, since requests are numbered. The extensions are
OpenSSH's (its file ``PROTOCOL``): renaming onto a file, hard links, syncing, free space.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import struct
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from ..errors import (
    AccessDeniedError,
    MissingExtraError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
    UnsupportedOperationError,
)
from .objects import Stat

T = TypeVar("T")

#: Kinds of packets.
_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE = 1, 2, 3, 4, 5, 6
_FSTAT, _SETSTAT, _OPENDIR, _READDIR, _REMOVE, _MKDIR, _RMDIR = 8, 9, 11, 12, 13, 14, 15
_STAT, _RENAME = 17, 18
_STATUS, _HANDLE, _DATA, _NAME, _ATTRIBUTES, _EXTENDED, _REPLY = 101, 102, 103, 104, 105, 200, 201

#: Codes of a status.
_OK, _EOF = 0, 1

_ERRORS: dict[int, type[StoreError]] = {
    2: ObjectNotFoundError, 3: AccessDeniedError, 8: UnsupportedOperationError
}  # fmt: skip

#: Flags of an open, and of attributes that are given.
_READABLE, _WRITABLE, _CREATE = 1, 2, 8
_SIZE, _OWNER, _PERMISSIONS, _TIMES, _MORE = 1, 2, 4, 8, 1 << 31

#: Bytes of a read or write, which every server takes, and how many are under way at once.
_PIECE, _WINDOW = 1 << 15, 64

#: Seconds in which a person may answer what ssh asks when it logs in.
_PATIENCE = 120

#: Bytes of a packet, of a kind and a number to what OpenSSH sends; answers for one piece.
_SHORTEST, _LONGEST, _SHARES = 5, 1 << 18, 64


def _text(value: str) -> bytes:
    raw = os.fsencode(value)
    return struct.pack(">I", len(raw)) + raw


class _Packet:
    """Takes a packet apart; a malformed one is an error of the host that sent it."""

    def __init__(self, packet: bytes, url: str) -> None:
        self.rest = memoryview(packet)
        self._url = url

    def _take(self, count: int) -> bytes:
        if count > len(self.rest):
            raise StoreError(f"{self._url}: an SFTP packet ends too early", url=self._url)
        found, self.rest = bytes(self.rest[:count]), self.rest[count:]
        return found

    def number(self, form: str = ">I") -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def text(self) -> bytes:
        return self._take(self.number())

    def stat(self) -> Stat:
        """Read attributes; those that nobody asks for are skipped."""
        flags = self.number()
        size = self.number(">Q") if flags & _SIZE else None
        if flags & _OWNER:
            self.number(">Q")
        mode = self.number() if flags & _PERMISSIONS else 0
        times = self.number(">Q") if flags & _TIMES else None
        for _ in range(self.number() if flags & _MORE else 0):
            self.text(), self.text()
        # of the two times, access and modification, the second
        return Stat(size, mode, None if times is None else times & 0xFFFFFFFF)


class Pending(NamedTuple):
    """A request that was sent; `Connection.answer` waits for its answer."""

    #: What was asked for, for errors.
    path: str
    box: queue.SimpleQueue[tuple[int, bytes] | None]


class Connection:
    """One login to a host by an ``ssh`` command; several threads may use it at once."""

    def __init__(
        self, command: list[str], url: str, timeout: float = _PATIENCE, asks: bool = False
    ) -> None:
        self._url = url
        self._timeout = timeout
        #: What the host sent in the place of SFTP.
        self._strange = ""
        self._pid = os.getpid()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the connection is
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
            )
        except FileNotFoundError:
            self._said.close()
            raise MissingExtraError(
                f"{url}: the program ssh is not installed", hint="install the OpenSSH client"
            ) from None
        # two locks: who sends may have to wait until answers are taken in
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: dict[int, Pending] = {}
        self._next = 0
        #: Whether it broke or was closed; no request is answered any more.
        self.ended = False
        self._extensions: set[bytes] = set()
        assert self._process.stdin is not None
        if os.name != "nt":
            os.set_blocking(self._process.stdin.fileno(), False)
        self._hello = Pending("", queue.SimpleQueue())
        self._reader = threading.Thread(target=self._read_on, name="pkgdata-sftp", daemon=True)
        self._reader.start()
        try:
            self._greet(max(timeout, _PATIENCE) if asks else timeout)
        except BaseException:
            self._process.kill()
            self.close()
            raise

    def close(self) -> None:
        """Log out."""
        if self._pid != os.getpid():
            return  # inherited by a fork: it is the parent's
        self.ended = True
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._reap()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()

    def _reap(self) -> None:
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def is_usable(self) -> bool:
        """Return True if requests are answered, and this process made it."""
        return not self.ended and self._pid == os.getpid()

    # -- packets -------------------------------------------------------------------------------

    def _greet(self, patience: float) -> None:
        self._write(struct.pack(">BI", _INIT, 3))
        kind, content = self._wait(self._hello, patience)
        if kind != _VERSION:
            raise self._lost()
        reader = _Packet(content, self._url)
        while reader.rest:
            self._extensions.add(reader.text())
            reader.text()

    def _write(self, packet: bytes) -> None:
        assert self._process.stdin is not None
        rest = memoryview(struct.pack(">I", len(packet)) + packet)
        while rest:
            try:
                rest = rest[os.write(self._process.stdin.fileno(), rest) :]
            except BlockingIOError:
                if not select.select([], [self._process.stdin], [], self._timeout)[1]:
                    raise self._silent(self._timeout) from None
            except (OSError, ValueError):
                raise self._lost() from None

    def _packet(self) -> bytes | None:
        assert self._process.stdout is not None
        head = self._process.stdout.read(4)
        if len(head) < 4:
            return None
        length = int.from_bytes(head, "big")
        if not _SHORTEST <= length <= _LONGEST:
            more: Any = self._process.stdout  # a buffered one
            self._strange = (head + more.peek(1)[:80]).decode(errors="replace")
            self._process.kill()
            return None
        packet = self._process.stdout.read(length)
        return packet if len(packet) == length else None

    def _read_on(self) -> None:
        """Hand each answer to the thread that waits for it, and at the end None to all of them."""
        first = self._packet()
        if first is not None:
            self._hello.box.put((first[0], first[5:]))
        while first is not None and (packet := self._packet()) is not None:
            kind, number = struct.unpack_from(">BI", packet)
            with self._lock:
                pending = self._waiting.pop(number, None)
            if pending is not None:
                pending.box.put((kind, packet[5:]))
        with self._lock:
            self.ended = True
            left = [*self._waiting.values(), self._hello]
            self._waiting.clear()
        for pending in left:
            pending.box.put(None)

    def ask(self, kind: int, *parts: bytes, path: str = "") -> Pending:
        """Send a request; the path is for errors."""
        pending = Pending(path, queue.SimpleQueue())
        with self._lock:
            if self.ended:
                raise self._lost()
            self._next += 1
            number = self._next
            self._waiting[number] = pending
        with self._sending:
            self._write(struct.pack(">BI", kind, number) + b"".join(parts))
        return pending

    def answer(self, pending: Pending, *wanted: int) -> tuple[int, bytes]:
        """Return the kind and content of an answer, which is a status unless others are wanted."""
        kind, content = self._wait(pending, self._timeout)
        if kind == _STATUS:
            self._check(content, pending.path)
        if kind not in (wanted or (_STATUS,)):
            text = f"{self._url}: {pending.path}: an answer of the kind {kind} to another question"
            raise StoreError(text, url=self._url)
        return kind, content

    def _wait(self, pending: Pending, seconds: float) -> tuple[int, bytes]:
        try:
            found = pending.box.get(timeout=seconds)
        except queue.Empty:
            raise self._silent(seconds) from None
        if found is None:
            raise self._lost()
        return found

    def _silent(self, seconds: float) -> StoreError:
        self._process.kill()
        said = f"{self._url}: no answer for {seconds:g} s"
        return StoreError(said, url=self._url, transient=True)

    def _check(self, content: bytes, path: str) -> None:
        reader = _Packet(content, self._url)
        code = reader.number()
        if code in (_OK, _EOF):
            return
        said = (reader.text() if reader.rest else b"").decode(errors="replace") or f"status {code}"
        text = f"{self._url}: {path}: {said}"
        raise _ERRORS.get(code, StoreError)(text, url=self._url)

    def _lost(self) -> StoreError:
        """Return the error of a connection that ended, in the words of ssh."""
        self.ended = True
        if self._said.closed:
            return StoreError(f"{self._url}: logged out already", url=self._url)
        self._reap()
        if self._strange:
            text = f"{self._url}: it does not speak SFTP, and sent {self._strange!r}"
            hint = "if the remote shell prints when it starts, let it do so for terminals only"
            return StoreError(text, hint=hint, url=self._url)
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 10_000))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        said = " ".join(line.strip() for line in lines[-3:]) or "the connection ended"
        text = f"{self._url}: {said}"
        lower = said.lower()
        if "host key verification failed" in lower or "identification has changed" in lower:
            hint = "compare its fingerprint with what the host's owner says, then log in by ssh"
            return AccessDeniedError(f"{self._url}: its host key is not known", hint=hint)
        if "permission denied" in lower:
            return AccessDeniedError(text, hint="log in with ssh first: keys, agent, user name")
        return StoreError(text, url=self._url, transient="resolve" not in lower)

    def has(self, extension: str) -> bool:
        """Return True if the server offers an extension."""
        return extension.encode() in self._extensions

    # -- files ---------------------------------------------------------------------------------

    def stats(self, paths: Iterable[str]) -> Iterator[Stat | None]:
        """Ask for many files at once; yield None for one that is not there."""
        for pending in self._ahead(self.ask(_STAT, _text(path), path=path) for path in paths):
            try:
                yield _Packet(self.answer(pending, _ATTRIBUTES)[1], self._url).stat()
            except ObjectNotFoundError:
                yield None

    @staticmethod
    def _ahead(requests: Iterable[T]) -> Iterator[T]:
        """Send requests some way ahead of what is taken."""
        waiting: deque[T] = deque()
        for request in requests:
            waiting.append(request)
            if len(waiting) >= _WINDOW:
                yield waiting.popleft()
        yield from waiting

    def stat(self, path: str) -> Stat | None:
        """Ask for one file."""
        return next(self.stats([path]))

    def _handle(self, path: str, flags: int) -> bytes:
        pending = self.ask(_OPEN, _text(path), struct.pack(">II", flags, 0), path=path)
        return self.answer(pending, _HANDLE)[1]

    def list(self, path: str) -> Iterator[tuple[str, Stat]]:
        """Yield what a directory holds; a symbolic link is reported as one."""
        handle = self.answer(self.ask(_OPENDIR, _text(path), path=path), _HANDLE)[1]
        try:
            while True:
                asked = self.ask(_READDIR, handle, path=path)
                kind, content = self.answer(asked, _NAME, _STATUS)
                reader = _Packet(content, self._url)
                count = reader.number() if kind == _NAME else 0
                if not count:
                    return
                for _ in range(count):
                    name, _ = os.fsdecode(reader.text()), reader.text()
                    stat = reader.stat()
                    if name not in ("", ".", "..") and "/" not in name:
                        yield name, stat
        finally:
            self.ask(_CLOSE, handle, path=path)

    def write(self, path: str, blocks: Iterable[bytes | memoryview], offset: int) -> None:
        """Write to a file from an offset on; it is made, before the first block is taken."""
        handle = self._handle(path, _WRITABLE | _CREATE)

        def sent() -> Iterator[Pending]:
            at = offset
            for block in blocks:
                view = memoryview(block)
                for start in range(0, len(view), _PIECE):
                    piece = bytes(view[start : start + _PIECE])
                    head = handle + struct.pack(">QI", at, len(piece))
                    yield self.ask(_WRITE, head, piece, path=path)
                    at += len(piece)

        try:
            for pending in self._ahead(sent()):
                self.answer(pending)
            if self.has("fsync@openssh.com"):
                self._extended("fsync@openssh.com", handle, path=path)
        finally:
            closing = self.ask(_CLOSE, handle, path=path)
        self.answer(closing)

    def open(self, path: str) -> OpenFile:
        """Open a file for reading."""
        handle = self._handle(path, _READABLE)
        try:
            asked = self.ask(_FSTAT, handle, path=path)
            stat = _Packet(self.answer(asked, _ATTRIBUTES)[1], self._url).stat()
            if stat.is_folder or stat.size is None:
                raise ObjectNotFoundError(f"{self._url}: {path}: no such file", url=self._url)
        except BaseException:
            self.ask(_CLOSE, handle, path=path)
            raise
        return OpenFile(self, path, handle, stat)

    def read(self, path: str) -> Iterator[bytes]:
        """Read a file."""
        with contextlib.closing(self.open(path)) as file:
            yield from file.read()

    def set_mode(self, path: str, mode: int) -> None:
        """Set permission bits."""
        wanted = struct.pack(">II", _PERMISSIONS, mode & 0o7777)
        self.answer(self.ask(_SETSTAT, _text(path), wanted, path=path))

    def set_time(self, path: str, modified: float) -> None:
        """Set the time of a file, in whole seconds from 1970 to 2106."""
        seconds = min(max(0, int(modified)), 0xFFFFFFFF)
        wanted = struct.pack(">III", _TIMES, seconds, seconds)
        self.answer(self.ask(_SETSTAT, _text(path), wanted, path=path))

    def make_folder(self, path: str) -> None:
        """Make a directory; its parent must be there."""
        self.answer(self.ask(_MKDIR, _text(path), struct.pack(">I", 0), path=path))

    def remove(self, path: str, folder: bool = False) -> None:
        """Remove a file, or an empty folder; a missing one is no error."""
        with contextlib.suppress(ObjectNotFoundError):
            self.answer(self.ask(_RMDIR if folder else _REMOVE, _text(path), path=path))

    def replace(self, source: str, target: str) -> None:
        """Rename onto a file, which may be there."""
        if self.has("posix-rename@openssh.com"):
            self._extended("posix-rename@openssh.com", _text(source), _text(target), path=target)
            return
        self.remove(target)
        self._rename(source, target)

    def appear(self, source: str, target: str) -> None:
        """Rename to a name that must be free."""
        try:
            if self.has("hardlink@openssh.com"):
                self._extended("hardlink@openssh.com", _text(source), _text(target), path=target)
                self.remove(source)
            else:
                self._rename(source, target)
        except StoreError as error:
            if self.stat(target) is None:
                raise
            text = f"{self._url}: {target} is there already"
            raise ObjectExistsError(text, url=self._url) from error

    def _rename(self, source: str, target: str) -> None:
        # version 3 refuses to rename onto a file
        self.answer(self.ask(_RENAME, _text(source), _text(target), path=target))

    def free_bytes(self, path: str) -> int | None:
        """Return the bytes that may still be written; None if the server does not say."""
        if not self.has("statvfs@openssh.com"):
            return None
        kind, content = self._extended("statvfs@openssh.com", _text(path), path=path)
        if kind != _REPLY:
            return None
        reader = _Packet(content, self._url)
        _, unit, _, _, available = (reader.number(">Q") for _ in range(5))
        return unit * available

    def _extended(self, name: str, *parts: bytes, path: str) -> tuple[int, bytes]:
        return self.answer(self.ask(_EXTENDED, _text(name), *parts, path=path), _STATUS, _REPLY)


class OpenFile:
    """A file that is open for reading; it stays the same one if its name gets another."""

    def __init__(self, host: Connection, path: str, handle: bytes, stat: Stat) -> None:
        self._host, self._path, self._handle = host, path, handle
        self._closed = False
        self.stat = stat

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield its bytes from one offset to another, several requests ahead of the reader."""
        size = self.stat.size or 0
        stop = size if stop is None else min(stop, size)
        pieces = (
            (at, min(_PIECE, stop - at), self._ask(at, min(_PIECE, stop - at)))
            for at in range(start, stop, _PIECE)
        )
        for piece in self._host._ahead(pieces):
            yield self._whole(*piece)

    def _ask(self, offset: int, count: int) -> Pending:
        span = struct.pack(">QI", offset, count)
        return self._host.ask(_READ, self._handle, span, path=self._path)

    def _whole(self, offset: int, count: int, pending: Pending) -> bytes:
        """Return all bytes of a piece, of which a server may give some at a time."""
        data = b""
        for _ in range(_SHARES):
            kind, content = self._host.answer(pending, _DATA, _STATUS)
            if kind != _DATA:
                return data  # the file has become shorter
            found = _Packet(content, self._host._url).text()
            data += found
            if not found or len(data) > count:
                break
            if len(data) == count:
                return data
            pending = self._ask(offset + len(data), count - len(data))
        text = f"{self._host._url}: {self._path}: other bytes than were asked for"
        raise StoreError(text, url=self._host._url)

    def close(self) -> None:
        """Give the handle back."""
        closed, self._closed = self._closed, True
        if not closed and not self._host.ended:
            with contextlib.suppress(StoreError):  # it broke: nothing is open any more
                self._host.ask(_CLOSE, self._handle, path=self._path)
