"""The SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02), spoken through the program ``ssh``.

``ssh`` brings what people have set up for a host: keys, agents, certificates, jump hosts, aliases,
known hosts; and one login serves all threads, since requests are numbered. The extensions are
OpenSSH's (its file ``PROTOCOL``): renaming onto a file, hard links, syncing, free space.
"""

from __future__ import annotations

import struct
import subprocess
import threading

from ..errors import (
    AccessDeniedError,
    ObjectExistsError,
    ObjectNotFoundError,
    PublishError,
    StoreError,
    UnsupportedOperationError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import queue
    from collections.abc import Iterable, Iterator

#: Kinds of packets.
_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE = 1, 2, 3, 4, 5, 6
_SETSTAT, _REMOVE, _MKDIR, _STAT, _RENAME = 9, 13, 14, 17, 18
_STATUS, _HANDLE, _DATA, _ATTRS, _EXTENDED, _REPLY = 101, 102, 103, 105, 200, 201

#: Codes of a status.
_OK, _EOF, _NO_SUCH_FILE, _DENIED, _UNSUPPORTED = 0, 1, 2, 3, 8

#: Flags of an open, and of attributes that are given.
_READABLE, _WRITABLE, _CREATE = 1, 2, 8
_SIZE, _OWNER, _PERMISSIONS, _TIMES = 1, 2, 4, 8

#: Bytes of a read or write, which every server takes, and how many are under way at once.
_PIECE, _WINDOW = 1 << 15, 64

#: Seconds without any answer after which the connection is given up.
_PATIENCE = 120


def _text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(raw)) + raw


class Stat:
    """What the server says of a file."""

    __slots__ = ("mode", "size")

    def __init__(self, size: int | None, mode: int | None) -> None:
        self.size = size
        self.mode = mode

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return self.mode is not None and self.mode & 0o170000 == 0o040000


def _attributes(raw: bytes) -> Stat:
    (flags,) = struct.unpack_from(">I", raw)
    size = mode = None
    at = 4
    if flags & _SIZE:
        (size,) = struct.unpack_from(">Q", raw, at)
        at += 8
    if flags & _OWNER:
        at += 8
    if flags & _PERMISSIONS:
        (mode,) = struct.unpack_from(">I", raw, at)
    return Stat(size, mode)


class Answer:
    """An answer that will come; `Connection.answer` waits for it.

    Parameters
    ----------
    path : str
        What was asked for, for errors.
    """

    __slots__ = ("_box", "path")

    def __init__(self, path: str) -> None:
        import queue

        self._box: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self.path = path


class Connection:
    """One login to a host; every method may be called by several threads at once.

    Parameters
    ----------
    command : list of str
        The ``ssh`` command that starts the subsystem.
    url : str
        Redacted, for errors.

    Raises
    ------
    AccessDeniedError, StoreError
        The host is not known, does not let us in, or cannot be reached.
    """

    def __init__(self, command: list[str], url: str) -> None:
        import tempfile

        self._url = url
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the connection is
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
            )
        except FileNotFoundError:
            self._said.close()
            raise PublishError(
                f"{url}: the program ssh is not installed", hint="install the OpenSSH client"
            ) from None
        # two locks: who sends may have to wait until answers are taken in
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: dict[int, Answer] = {}
        self._next = 0
        self._ended = False
        self._extensions: set[bytes] = set()
        try:
            self._greet()
        except BaseException:
            self.close()
            raise
        self._reader = threading.Thread(target=self._read_on, name="pkgdata-sftp", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Log out."""
        import contextlib

        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        reader = getattr(self, "_reader", None)
        if reader is not None:
            reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()

    # -- packets -------------------------------------------------------------------------------

    def _greet(self) -> None:
        self._write(struct.pack(">BI", _INIT, 3))
        packet = self._packet()
        if packet is None or packet[0] != _VERSION:
            raise self._lost()
        at = 5
        while at < len(packet):
            (length,) = struct.unpack_from(">I", packet, at)
            self._extensions.add(packet[at + 4 : at + 4 + length])
            at += 4 + length
            (length,) = struct.unpack_from(">I", packet, at)
            at += 4 + length

    def _write(self, packet: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack(">I", len(packet)) + packet)
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._lost() from None

    def _packet(self) -> bytes | None:
        assert self._process.stdout is not None
        head = self._process.stdout.read(4)
        if len(head) < 4:
            return None
        (length,) = struct.unpack(">I", head)
        packet = self._process.stdout.read(length)
        return packet if len(packet) == length else None

    def _read_on(self) -> None:
        """Hand each answer to who waits for it; at the end tell all of them that none will come."""
        while (packet := self._packet()) is not None:
            kind, number = struct.unpack_from(">BI", packet)
            with self._lock:
                answer = self._waiting.pop(number, None)
            if answer is not None:
                answer._box.put((kind, packet[5:]))
        with self._lock:
            self._ended = True
            left = [*self._waiting.values()]
            self._waiting.clear()
        for answer in left:
            answer._box.put(None)

    def ask(self, kind: int, *parts: bytes, path: str = "") -> Answer:
        """Send a request.

        Parameters
        ----------
        path : str
            For errors.
        """
        answer = Answer(path)
        with self._lock:
            if self._ended:
                raise self._lost()
            self._next += 1
            number = self._next
            self._waiting[number] = answer
        with self._sending:
            self._write(struct.pack(">BI", kind, number) + b"".join(parts))
        return answer

    def answer(self, answer: Answer) -> tuple[int, bytes]:
        """Wait for an answer.

        Returns
        -------
        (int, bytes)
            Kind and content.

        Raises
        ------
        StoreError
            It says that the request failed, or none came.
        """
        import queue

        try:
            found = answer._box.get(timeout=_PATIENCE)
        except queue.Empty:
            self._process.kill()
            raise StoreError(
                f"{self._url}: no answer for {_PATIENCE} s", url=self._url, transient=True
            ) from None
        if found is None:
            raise self._lost()
        kind, content = found
        if kind == _STATUS:
            self._check(content, answer.path)
        return kind, content

    def _check(self, content: bytes, path: str) -> None:
        (code,) = struct.unpack_from(">I", content)
        if code in (_OK, _EOF):
            return
        (length,) = struct.unpack_from(">I", content, 4)
        said = content[8 : 8 + length].decode(errors="replace") or f"status {code}"
        text = f"{self._url}: {path}: {said}"
        kinds: dict[int, type[StoreError]] = {
            _NO_SUCH_FILE: ObjectNotFoundError,
            _DENIED: AccessDeniedError,
            _UNSUPPORTED: UnsupportedOperationError,
        }
        raise kinds.get(code, StoreError)(text, url=self._url)

    def _lost(self) -> StoreError:
        """Return the error of a connection that ended, in the words of ssh."""
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.seek(0)
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
        """Say whether the server offers an extension."""
        return extension.encode() in self._extensions

    # -- files ---------------------------------------------------------------------------------

    def stats(self, paths: Iterable[str]) -> Iterator[Stat | None]:
        """Ask for many files at once.

        Yields
        ------
        Stat or None
            None for one that is not there.
        """
        waiting: list[Answer] = []
        for path in paths:
            waiting.append(self.ask(_STAT, _text(path), path=path))
            if len(waiting) >= _WINDOW:
                yield self._stat(waiting.pop(0))
        for answer in waiting:
            yield self._stat(answer)

    def _stat(self, answer: Answer) -> Stat | None:
        try:
            return _attributes(self.answer(answer)[1])
        except ObjectNotFoundError:
            return None

    def stat(self, path: str) -> Stat | None:
        """Ask for one file."""
        (found,) = self.stats([path])
        return found

    def _handle(self, path: str, flags: int) -> bytes:
        answer = self.ask(_OPEN, _text(path), struct.pack(">II", flags, 0), path=path)
        return self.answer(answer)[1]

    def write(self, path: str, blocks: Iterable[bytes | memoryview], offset: int) -> None:
        """Write to a file from an offset on; it is made if it is not there.

        Parameters
        ----------
        blocks : iterable of bytes-like
            Each of at most 32 KiB.
        """
        handle = self._handle(path, _WRITABLE | _CREATE)
        waiting: list[Answer] = []
        try:
            for block in blocks:
                head = handle + struct.pack(">QI", offset, len(block))
                waiting.append(self.ask(_WRITE, head, bytes(block), path=path))
                offset += len(block)
                if len(waiting) >= _WINDOW:
                    self.answer(waiting.pop(0))
            for answer in waiting:
                self.answer(answer)
            if self.has("fsync@openssh.com"):
                self._extended("fsync@openssh.com", handle, path=path)
        finally:
            closing = self.ask(_CLOSE, handle, path=path)
        self.answer(closing)

    def read(self, path: str) -> Iterator[bytes]:
        """Read a file."""
        found = self.stat(path)
        if found is None or found.size is None:
            raise ObjectNotFoundError(f"{self._url}: {path}: no such file", url=self._url)
        handle = self._handle(path, _READABLE)
        try:
            waiting: list[tuple[int, int, Answer]] = []
            for offset in range(0, found.size, _PIECE):
                count = min(_PIECE, found.size - offset)
                waiting.append((offset, count, self._read(handle, offset, count, path)))
                if len(waiting) >= _WINDOW:
                    yield self._whole(handle, path, *waiting.pop(0))
            for one in waiting:
                yield self._whole(handle, path, *one)
        finally:
            self.ask(_CLOSE, handle, path=path)

    def _read(self, handle: bytes, offset: int, count: int, path: str) -> Answer:
        return self.ask(_READ, handle, struct.pack(">QI", offset, count), path=path)

    def _whole(self, handle: bytes, path: str, offset: int, count: int, answer: Answer) -> bytes:
        """Return all bytes of a piece, of which a server may give some at a time."""
        data = b""
        while True:
            kind, content = self.answer(answer)
            if kind != _DATA:
                return data  # the file has become shorter
            data += content[4:]
            if len(data) >= count:
                return data
            answer = self._read(handle, offset + len(data), count - len(data), path)

    def set_mode(self, path: str, mode: int) -> None:
        """Set permission bits."""
        wanted = struct.pack(">II", _PERMISSIONS, mode & 0o7777)
        self.answer(self.ask(_SETSTAT, _text(path), wanted, path=path))

    def make_folder(self, path: str) -> None:
        """Make a directory."""
        self.answer(self.ask(_MKDIR, _text(path), struct.pack(">I", 0), path=path))

    def remove(self, path: str) -> None:
        """Remove a file; a missing one is no error."""
        try:
            self.answer(self.ask(_REMOVE, _text(path), path=path))
        except ObjectNotFoundError:
            pass

    def replace(self, source: str, target: str) -> None:
        """Rename onto a file, which may be there."""
        if self.has("posix-rename@openssh.com"):
            self._extended("posix-rename@openssh.com", _text(source), _text(target), path=target)
            return
        self.remove(target)
        self._rename(source, target)

    def appear(self, source: str, target: str) -> None:
        """Rename to a name that must be free.

        Raises
        ------
        ObjectExistsError
            It is not.
        """
        try:
            if self.has("hardlink@openssh.com"):
                self._extended("hardlink@openssh.com", _text(source), _text(target), path=target)
                self.remove(source)
            else:
                self._rename(source, target)
        except StoreError as error:
            if self.stat(target) is None:
                raise
            raise ObjectExistsError(
                f"{self._url}: {target} is there already", url=self._url
            ) from error

    def _rename(self, source: str, target: str) -> None:
        # version 3 refuses to rename onto a file
        self.answer(self.ask(_RENAME, _text(source), _text(target), path=target))

    def free_bytes(self, path: str) -> int | None:
        """Return the bytes that may still be written; None if the server does not tell."""
        if not self.has("statvfs@openssh.com"):
            return None
        kind, content = self._extended("statvfs@openssh.com", _text(path), path=path)
        if kind != _REPLY:
            return None
        _, unit, _, _, available = struct.unpack_from(">5Q", content)
        return int(unit * available)

    def _extended(self, name: str, *parts: bytes, path: str) -> tuple[int, bytes]:
        return self.answer(self.ask(_EXTENDED, _text(name), *parts, path=path))
