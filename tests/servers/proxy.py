"""A proxy in front of any HTTP/1.1 server that spoils what passes through it.

::

    with Proxy(ceph.endpoint) as proxy:
        proxy.script(through(), reset(1000), method="GET")  # the second GET is reset
        proxy.script(every(answer(503, headers={"Retry-After": "1"})), method="PUT")
        ...  # use proxy.url in the place of ceph.endpoint
        [(request.method, request.status) for request in proxy.requests]

Faults speak of requests, not of connections: the proxy reads the messages of both sides, keeps
their connections, and passes bodies on as they come, so that they may be of any size. The head of a
request passes unchanged, the host included, since signatures cover it; only ``Expect`` is met here.

Byte counts that are negative count from the end, where the length is told. Nothing waits by itself:
a stalled reply goes on at `Proxy.release`. A fault that no byte has reached is an error when the
proxy is closed, as are requests that the proxy could not read.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import responses
from typing import BinaryIO
from urllib.parse import urlsplit

_PIECE = 1 << 16


@dataclass
class Seen:
    """A request that came in."""

    method: str
    target: str
    #: By lower-case name.
    headers: dict[str, str]
    #: Of the reply; 0 if the client got none.
    status: int = 0
    #: Bytes of the bodies that were passed on.
    received: int = 0
    sent: int = 0

    @property
    def path(self) -> str:
        """The path, quoted as it came."""
        return urlsplit(self.target).path


# -- faults ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request; by itself nothing does."""

    #: Status, headers and body of a reply that the server behind is not asked for.
    reply: tuple[int, Mapping[str, str], bytes] | None = None
    #: The byte of the request's body, or of the reply's, that is changed.
    tamper_request: int | None = None
    tamper_reply: int | None = None
    #: Bytes of the request's body that are passed on before both connections are reset.
    reset_request: int | None = None
    #: Bytes of the reply's body after which `event` happens: "reset", "cut" or "stall".
    stop_reply: int | None = None
    event: str = ""
    #: The server has answered, but the client is not told.
    lose_reply: bool = False
    #: Seconds before anything is done.
    delay: float = 0.0
    #: It meets all requests from this one on.
    forever: bool = False


def through() -> Fault:
    """Nothing goes wrong with this request."""
    return Fault()


def answer(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """Answer in the server's place."""
    return Fault(reply=(status, dict(headers or {}), body))


def s3_error(status: int, code: str, message: str = "said the proxy") -> Fault:
    """Answer like S3: 400 ``ExpiredToken``, 503 ``SlowDown``, 500 ``InternalError``."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return answer(status, body, {"Content-Type": "application/xml"})


def hang_up() -> Fault:
    """Close the connection without any answer; the server behind is not asked."""
    return answer(0)


def lose_reply() -> Fault:
    """Let the server do what it is asked, then reset the client's connection."""
    return Fault(lose_reply=True)


def tamper_request(at: int) -> Fault:
    """Change a byte of the body that is sent to the server."""
    return Fault(tamper_request=at)


def tamper_reply(at: int) -> Fault:
    """Change a byte of the body that the server sends."""
    return Fault(tamper_reply=at)


def reset_request(at: int) -> Fault:
    """Reset both connections after so many bytes of the request's body."""
    return Fault(reset_request=at)


def reset(at: int) -> Fault:
    """Reset the client's connection after so many bytes of the reply's body."""
    return Fault(stop_reply=at, event="reset")


def cut(at: int = -1) -> Fault:
    """Close the client's connection after so many bytes of the reply's body; -1: one byte short."""
    return Fault(stop_reply=at, event="cut")


def stall(at: int) -> Fault:
    """Send nothing after so many bytes of the reply's body, until the proxy is released."""
    return Fault(stop_reply=at, event="stall")


def delay(seconds: float) -> Fault:
    """Wait before the request is passed on."""
    return Fault(delay=seconds)


def every(fault: Fault) -> Fault:
    """Meet every request from this one on with a fault."""
    return replace(fault, forever=True)


@dataclass
class _Script:
    method: str | None
    path: str
    faults: list[Fault] = field(default_factory=list)

    def next(self, seen: Seen) -> Fault | None:
        """Use up a fault, if the request is one of those meant."""
        if not self.faults or self.method not in (None, seen.method) or self.path not in seen.path:
            return None
        return self.faults[0] if self.faults[0].forever else self.faults.pop(0)


# -- proxy -------------------------------------------------------------------------------------


class Proxy:
    """The proxy; a context manager.

    Parameters
    ----------
    behind : str
        The URL of the server, such as ``http://127.0.0.1:8080`` or one with a path.
    """

    def __init__(self, behind: str) -> None:
        parts = urlsplit(behind)
        if parts.scheme != "http" or parts.port is None:
            raise ValueError(f"{behind} is not http://host:port")
        self.address = (parts.hostname or "", parts.port)
        self.requests: list[Seen] = []
        self.connections = 0
        #: What went wrong that nobody asked for.
        self.broken: list[str] = []
        self.closing = threading.Event()
        self._released = threading.Event()
        self._scripts: list[_Script] = []
        self._lock = threading.Lock()
        self._stalled = threading.Semaphore(0)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{parts.path}"

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if self.broken and kind is None:
            raise AssertionError("\n".join(["the proxy:", *self.broken]))

    def close(self) -> None:
        """Close all connections, and wait until nothing of it runs."""
        self.closing.set()
        self._released.set()
        # wakes the thread that accepts, which closing the socket does not do everywhere
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._threads[0].join()
        self._listener.close()
        with self._lock:
            for connection in self._open:
                _shut(connection)
        for thread in self._threads:
            thread.join()

    def script(self, *faults: Fault, method: str | None = None, path: str = "") -> None:
        """Meet the next requests with faults, one each; earlier scripts come first.

        Parameters
        ----------
        method : str, optional
            Only requests of this method count.
        path : str
            Only requests whose quoted path contains this count.
        """
        with self._lock:
            self._scripts.append(_Script(method, path, list(faults)))

    def heal(self) -> None:
        """Forget what was scripted."""
        with self._lock:
            self._scripts.clear()

    def wait_for_stall(self, timeout: float = 30) -> None:
        """Wait until a reply has stalled."""
        if not self._stalled.acquire(timeout=timeout):
            raise TimeoutError("no reply has stalled")

    def release(self) -> None:
        """Let all stalled replies go on, those to come included."""
        self._released.set()

    # -- for the conversations -------------------------------------------------------------

    def note(self, seen: Seen) -> Fault:
        """Record a request; return what is to happen to it."""
        with self._lock:
            self.requests.append(seen)
            met = (script.next(seen) for script in self._scripts)
            return next((fault for fault in met if fault is not None), Fault())

    def stall(self) -> None:
        """Wait until the release."""
        self._stalled.release()
        self._released.wait()

    def track(self, connection: socket.socket, *, is_open: bool) -> None:
        """Remember a connection as long as it is open."""
        with self._lock:
            (self._open.add if is_open else self._open.discard)(connection)

    # -- connections -----------------------------------------------------------------------

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="proxy")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.closing.is_set():
                connection.close()
                return
            self.connections += 1
            self._start(self._talk, connection)

    def _talk(self, connection: socket.socket) -> None:
        conversation = _Conversation(self, _Peer(self, connection))
        try:
            while conversation.exchange():
                pass
        except (OSError, EOFError):
            pass  # one of the two left
        except Exception as error:
            self.broken.append(f"{type(error).__name__}: {error}")
        finally:
            conversation.close()


class _Peer:
    """One connection, with what is read from it."""

    def __init__(self, proxy: Proxy, connection: socket.socket) -> None:
        self._proxy = proxy
        self._connection = connection
        # heads and bodies are sent one after the other; they shall not wait for each other
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream: BinaryIO = connection.makefile("rb")
        self._reset = False
        proxy.track(connection, is_open=True)

    def send(self, content: bytes) -> None:
        self._connection.sendall(content)

    def left(self) -> bool:
        """Say whether the other side has closed it, or has spoken out of turn."""
        return bool(select.select([self._connection], [], [], 0)[0])

    def reset(self) -> None:
        """Make closing send a reset, by a linger time of zero."""
        linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._reset = True

    def close(self) -> None:
        self._proxy.track(self._connection, is_open=False)
        if not self._reset:
            _shut(self._connection)
        self.stream.close()
        self._connection.close()


@dataclass
class _Head:
    """The first line and the headers of a message."""

    first: str
    headers: list[tuple[str, str]]

    @classmethod
    def read(cls, stream: BinaryIO) -> _Head | None:
        first = stream.readline()
        if not first.strip():
            return None
        headers = []
        while (line := stream.readline()) not in (b"\r\n", b"\n"):
            if not line:
                raise EOFError
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        return cls(first.decode("latin-1").strip(), headers)

    def raw(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    def closes(self) -> bool:
        """Say whether the connection ends with this message."""
        return (self.get("connection") or "").lower() == "close" or "HTTP/1.0" in self.first


@dataclass
class _Body:
    """The body of a message, and how its end is told."""

    stream: BinaryIO
    #: None if it is not told.
    length: int | None
    chunked: bool = False

    @classmethod
    def of(cls, head: _Head, stream: BinaryIO, otherwise: int | None) -> _Body:
        if (head.get("transfer-encoding") or "").lower() == "chunked":
            return cls(stream, None, chunked=True)
        length = head.get("content-length")
        return cls(stream, otherwise if length is None else int(length))

    def offset(self, at: int | None) -> int | None:
        """Return where a byte count that may be negative falls."""
        if at is None or at >= 0:
            return at
        if self.length is None:
            raise ValueError(f"{at} from the end of a body whose length is not told")
        return self.length + at

    def pieces(self) -> Iterator[bytes]:
        if self.chunked:
            yield from self._chunks()
            return
        left = self.length
        while left is None or left > 0:
            piece = self.stream.read1(_PIECE if left is None else min(left, _PIECE))  # type: ignore[attr-defined]
            if not piece:
                if left is None:
                    return
                raise EOFError
            if left is not None:
                left -= len(piece)
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.stream.readline().partition(b";")[0] or b"x", 16):
            piece = self.stream.read(size)
            if len(piece) < size:
                raise EOFError
            yield piece
            self.stream.readline()
        while self.stream.readline().strip():
            pass  # fields behind the body, which nobody reads here

    def framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(piece), piece) if self.chunked else piece

    def end(self) -> bytes:
        return b"0\r\n\r\n" if self.chunked else b""


def _altered(pieces: Iterable[bytes], at: int | None) -> Iterator[bytes]:
    """Change one byte on the way."""
    done = 0
    for piece in pieces:
        begin, done = done, done + len(piece)
        if at is not None and begin <= at < done:
            where = at - begin
            at = None
            piece = piece[:where] + bytes([piece[where] ^ 0xFF]) + piece[where + 1 :]
        yield piece
    if at is not None:
        raise ValueError(f"no byte {at} to change in a body of {done}")


def _split(pieces: Iterable[bytes], at: int | None) -> Iterator[bytes | None]:
    """Yield None where so many bytes have passed."""
    done = 0
    if at == 0:
        yield None
        at = None
    for piece in pieces:
        begin, done = done, done + len(piece)
        if at is not None and begin < at <= done:
            yield piece[: at - begin]
            yield None
            piece = piece[at - begin :]
            at = None
        yield piece
    if at is not None:
        raise ValueError(f"no byte {at} to stop at in a body of {done}")


class _Conversation:
    """One client's connection, and the one to the server behind that serves it."""

    def __init__(self, proxy: Proxy, client: _Peer) -> None:
        self._proxy = proxy
        self._client = client
        self._server: _Peer | None = None

    def close(self) -> None:
        self._client.close()
        self._hang_up()

    def exchange(self) -> bool:
        """Pass on one request and its reply; say whether the connection is kept."""
        head = _Head.read(self._client.stream)
        if head is None:
            return False
        method, target, _ = head.first.split(" ", 2)
        seen = Seen(method, target, {name.lower(): value for name, value in head.headers})
        fault = self._proxy.note(seen)
        if fault.delay:
            self._proxy.closing.wait(fault.delay)
        if fault.reply is None or fault.reply[0]:
            self._meet_expectation(head)
        body = _Body.of(head, self._client.stream, otherwise=0)
        if fault.reply is not None:
            return self._answer(seen, body, *fault.reply) and not head.closes()
        server = self._connected()
        if not self._pass_request(server, seen, head, body, fault):
            return False
        return self._pass_reply(server, seen, fault) and not head.closes()

    def _meet_expectation(self, head: _Head) -> None:
        """Tell a client that waits for the word to send its body; the server is not asked."""
        if (head.get("expect") or "").lower() == "100-continue":
            head.headers = [pair for pair in head.headers if pair[0].lower() != "expect"]
            self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(
        self, seen: Seen, body: _Body, status: int, headers: Mapping[str, str], content: bytes
    ) -> bool:
        if not status:
            return False
        for _ in body.pieces():
            pass  # else closing would reset the connection, and the reply might get lost
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(content)}", "", ""]
        shown = b"" if seen.method == "HEAD" else content
        seen.status, seen.sent = status, len(shown)
        self._client.send("\r\n".join(lines).encode("latin-1") + shown)
        return True

    def _connected(self) -> _Peer:
        """Return the connection to the server, a new one if the last was given up there."""
        if self._server is not None and self._server.left():
            self._hang_up()
        if self._server is None:
            connection = socket.create_connection(self._proxy.address, timeout=60)
            connection.settimeout(None)
            self._server = _Peer(self._proxy, connection)
        return self._server

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _pass_request(
        self, server: _Peer, seen: Seen, head: _Head, body: _Body, fault: Fault
    ) -> bool:
        """Send the request; say whether there will be a reply."""
        server.send(head.raw())
        refused = False
        altered = _altered(body.pieces(), body.offset(fault.tamper_request))
        for piece in _split(altered, body.offset(fault.reset_request)):
            if piece is None:
                server.reset()
                self._client.reset()
                return False
            seen.received += len(piece)
            try:
                if piece and not refused:
                    server.send(body.framed(piece))
            except OSError:
                refused = True  # its reply says why; the client has to finish to read it
        if not refused:
            server.send(body.end())
        return True

    def _pass_reply(self, server: _Peer, seen: Seen, fault: Fault) -> bool:
        """Send the reply; say whether both connections can go on."""
        head = _Head.read(server.stream)
        while head is not None and head.first.split(" ")[1].startswith("1"):
            head = _Head.read(server.stream)
        if head is None:
            return False
        status = int(head.first.split(" ")[1])
        bodiless = seen.method == "HEAD" or status in (204, 304)
        body = _Body(server.stream, 0) if bodiless else _Body.of(head, server.stream, None)
        if fault.lose_reply:
            for _ in body.pieces():
                pass
            self._client.reset()
            return False
        seen.status = status
        self._client.send(head.raw())
        whole = self._pass_body(seen, body, fault)
        if head.closes():
            self._hang_up()
        return whole and not head.closes() and (body.chunked or body.length is not None)

    def _pass_body(self, seen: Seen, body: _Body, fault: Fault) -> bool:
        altered = _altered(body.pieces(), body.offset(fault.tamper_reply))
        for piece in _split(altered, body.offset(fault.stop_reply)):
            if piece is None:
                if fault.event != "stall":
                    if fault.event == "reset":
                        self._client.reset()
                    return False
                self._proxy.stall()
            elif piece:
                self._client.send(body.framed(piece))
                seen.sent += len(piece)
        self._client.send(body.end())
        return True


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already
