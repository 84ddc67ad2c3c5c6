"""Many small objects over few connections: the plain case of HTTP, as fast as sockets allow.

One thread drives all connections to one server through a selector. It takes on only what is simple
and strict: ``HTTP/1.1 200`` with a ``Content-Length`` and no coding. Anything else (a
redirect, an error, a chunked or compressed body, a dropped connection) is *refused*: the object
then goes through `pkgdata.stores.http`, which knows redirects, proxies, logins and retries and
words the errors. So this module may give up at any point and nothing is lost but time.

Message syntax: RFC 9112. Requests are not pipelined; servers differ in what they make of that.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time

from ..base.urls import headers_for, tls_context
from ..stores.wire import DIGITS, PLAIN_HEAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    class Job(Protocol):
        """An object on its way."""

        target: str
        size: int

        def begin(self, size: int) -> bool:
            """Take note of the length; False refuses the object."""

        def feed(self, view: memoryview) -> None:
            """Take bytes."""

        def finish(self) -> bool:
            """Return True if the bytes are right."""

        def abandon(self) -> None:
            """Forget what came."""

    class Jobs(Protocol):
        """What is still to do; a deque will do."""

        def __len__(self) -> int: ...
        def popleft(self) -> Job: ...
        def appendleft(self, job: Any, /) -> None: ...


#: Bytes of a connection's buffer: longer bodies pass through it in pieces.
_BUFFER = 1 << 18
#: Longest head of a response that is read.
_HEAD = 1 << 14
#: A connection that brings fewer bytes in the time that it may be silent counts as silent.
_ALIVE = 1 << 10


class Server:
    """Where the objects of one run lie, and how to reach it."""

    def __init__(
        self,
        scheme: str,
        host: str,
        port: int,
        agent: str,
        rules: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        default = 443 if scheme == "https" else 80
        shown = f"[{host}]" if ":" in host else host
        self._place = f"{shown}{'' if port == default else f':{port}'}"
        self._agent = agent
        #: Headers that are configured for this server, by prefixes of URLs.
        self._rules = {
            prefix: headers
            for prefix, headers in (rules or {}).items()
            if headers_for(self._url("/"), {"/".join(prefix.split("/", 3)[:3]): headers})
        }
        self._rest = self._headers({})
        self._context: ssl.SSLContext | None = None
        if scheme == "https":
            self._context = tls_context()

    def request(self, target: str) -> bytes:
        """Return the bytes that ask for a quoted path and query."""
        rest = self._rest
        if self._rules:
            rest = self._headers(headers_for(self._url(target), self._rules))
        return b"GET " + target.encode("ascii") + rest

    def _url(self, target: str) -> str:
        return f"{self.scheme}://{self._place}{target}"

    def _headers(self, more: Mapping[str, str]) -> bytes:
        given = {"Host": self._place, "User-Agent": self._agent, "Accept-Encoding": "identity"}
        lines = [f"{name}: {text}\r\n" for name, text in {**given, **more}.items()]
        return f" HTTP/1.1\r\n{''.join(lines)}\r\n".encode("ascii")

    def connect(self, address: Any, timeout: float) -> socket.socket:
        """Return a socket that begins a connection and does not block.

        ``address`` is what an earlier connection's peer was; the first one, of None, is waited for.
        """
        if address is None:
            sock = socket.create_connection((self.host, self.port), timeout)
            sock.setblocking(False)
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.connect_ex(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            return self._context.wrap_socket(
                sock, server_hostname=self.host, do_handshake_on_connect=False
            )
        return sock


class _Connection:
    """One connection: what it is doing, and the bytes it is doing it with."""

    def __init__(self, sock: socket.socket, tls: bool, buffer: bytearray) -> None:
        self.sock = sock
        self.handshake = tls
        self.buffer = buffer
        self.view = memoryview(buffer)
        self.got = 0
        self.left = -1  # bytes of the body still to come; -1 while the head is read
        self.job: Job | None = None
        self.served = 0
        self.close_after = False
        self.heard = time.monotonic()
        self.unheard = 0  # bytes that came since then


class Run:
    """Fetch objects from one server; several runs may share ``jobs``.

    ``done`` is called with each job whose bytes are right, ``refused`` with each that has to go
    another way. ``stopped`` is asked now and then; True ends the run.
    """

    def __init__(
        self,
        server: Server,
        jobs: Jobs,
        connections: int,
        timeout: float,
        done: Callable[[Any], None],
        stopped: Callable[[], bool],
    ) -> None:
        self._server = server
        self._jobs = jobs
        self._width = connections
        self._timeout = timeout
        self._done = done
        self._stopped = stopped
        self._open: set[_Connection] = set()
        self._address: object = None
        #: Objects fetched and their bytes: they decide whether a second run is worth it.
        self.objects = self.bytes = 0

    def narrow(self, connections: int) -> None:
        """Use fewer connections; those that are too many end with their object."""
        self._width = connections

    def run(self) -> None:
        """Work until no jobs are left; on the way out every unfinished job is refused."""
        with selectors.DefaultSelector() as self._selector:
            try:
                for _ in range(min(self._width, len(self._jobs))):
                    if not self._connect():
                        break
                self._loop()
            finally:
                for connection in list(self._open):
                    self._drop(connection)

    def _connect(self, buffer: bytearray | None = None) -> bool:
        try:
            sock = self._server.connect(self._address, self._timeout)
        except OSError:
            return False
        if self._address is None:
            self._address = sock.getpeername()
        tls = self._server.scheme == "https"
        connection = _Connection(sock, tls, buffer or bytearray(_BUFFER))
        self._open.add(connection)
        # writable means connected; a first request goes out then
        self._selector.register(sock, selectors.EVENT_WRITE, connection)
        return True

    def _loop(self) -> None:
        step = min(1.0, self._timeout)
        due = time.monotonic() + step
        while self._open:
            events = self._selector.select(step)
            woke = time.monotonic()
            for key, _ in events:
                connection: _Connection = key.data
                if connection not in self._open:
                    continue
                try:
                    self._advance(connection)
                except (OSError, ValueError):
                    self._replace(connection)
            if self._stopped():
                return
            now = time.monotonic()
            if now - woke > step:
                # syncing a group took long; what the others sent meanwhile is still to be read
                for connection in self._open:
                    connection.heard += now - woke
            if now >= due:
                self._drop_silent(now)
                due = now + step / 2

    def _drop_silent(self, now: float) -> None:
        for connection in list(self._open):
            if now - connection.heard > self._timeout:
                self._drop(connection)

    def _advance(self, connection: _Connection) -> None:
        if connection.job is not None:
            self._read(connection)
        elif not connection.handshake or self._shake(connection):
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
            self._next(connection)

    def _shake(self, connection: _Connection) -> bool:
        import ssl

        try:
            connection.sock.do_handshake()  # type: ignore[attr-defined]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            reads = isinstance(error, ssl.SSLWantReadError)
            wanted = selectors.EVENT_READ if reads else selectors.EVENT_WRITE
            self._selector.modify(connection.sock, wanted, connection)
            return False
        connection.handshake = False
        return True

    def _next(self, connection: _Connection) -> None:
        """Ask for the next object, or close."""
        try:
            if len(self._open) > self._width:
                raise IndexError
            connection.job = job = self._jobs.popleft()
        except IndexError:
            self._drop(connection)
            return
        connection.got, connection.left = 0, -1
        connection.heard, connection.unheard = time.monotonic(), 0
        request = self._server.request(job.target)
        # a request is far smaller than a socket's send buffer, which is empty now
        if connection.sock.send(request) != len(request):
            raise OSError("the request was not taken whole")

    def _read(self, connection: _Connection) -> None:
        while connection.job is not None:
            try:
                count = connection.sock.recv_into(connection.view[connection.got :])
            except BlockingIOError:
                return
            except OSError as error:
                if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
                    return
                raise
            if not count:
                raise OSError("closed")
            connection.got += count
            connection.unheard += count
            if connection.unheard >= _ALIVE:
                connection.heard, connection.unheard = time.monotonic(), 0
            self._take(connection)
            if self._server.scheme != "https":
                return  # TLS may hold bytes that no selector sees; a plain socket does not

    def _take(self, connection: _Connection) -> None:
        """Make use of what is in the buffer."""
        job, start = connection.job, 0
        assert job is not None
        if connection.left < 0:
            end = connection.buffer.find(b"\r\n\r\n", 0, connection.got)
            if end < 0:
                if connection.got > _HEAD:
                    raise ValueError("the head is too long")
                return
            length, connection.close_after = parse_head(bytes(connection.view[: end + 2]))
            if not job.begin(length):
                raise ValueError("not for us")
            connection.left, start = length, end + 4
        count = connection.got - start
        if count > connection.left:
            raise ValueError("more bytes than announced")
        if count:
            job.feed(connection.view[start : connection.got])
        connection.left -= count
        connection.got = 0
        if not connection.left:
            self._end(connection, job)

    def _end(self, connection: _Connection, job: Job) -> None:
        connection.job = None
        connection.served += 1
        if job.finish():
            self.objects += 1
            self.bytes += job.size
            self._done(job)
        else:
            job.abandon()
        if connection.close_after:
            self._replace(connection)
        else:
            self._next(connection)

    def _replace(self, connection: _Connection) -> None:
        """Close a connection; open another if it had worked before."""
        job, worked = connection.job, connection.served
        untouched = job is not None and connection.left < 0 and not connection.got
        if untouched and worked and job is not None:
            # the server closed an idle connection just as it was used again: nothing was served
            connection.job = None
            self._jobs.appendleft(job)
        self._drop(connection)
        if worked and self._jobs:
            self._connect(connection.buffer)

    def _drop(self, connection: _Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(KeyError, ValueError):  # it was never registered
            self._selector.unregister(connection.sock)
        connection.sock.close()
        job, connection.job = connection.job, None
        if job is not None:
            job.abandon()


def parse_head(head: bytes) -> tuple[int, bool]:
    """Return the length of a plain response's body, and whether the connection ends after it.

    A ValueError means that it is not a plain ``200`` with one length and no coding.
    """
    if not PLAIN_HEAD.fullmatch(head):
        raise ValueError("not HTTP/1.1 200, or with odd lines")
    low = head.lower()
    if low.count(b"\r\ncontent-length:") != 1 or b"\r\ntransfer-encoding:" in low:
        raise ValueError("no plain length")
    at = low.index(b"\r\ncontent-length:") + 17
    text = low[at : low.index(b"\r\n", at)].strip()
    if not text.isdigit() or len(text) > DIGITS:
        raise ValueError("no plain length")
    coding = low.find(b"\r\ncontent-encoding:")
    if coding >= 0 and low[coding + 19 : low.index(b"\r\n", coding + 19)].strip() != b"identity":
        raise ValueError("a coding")
    return int(text), b"\r\nconnection: close\r\n" in low
