"""A loopback HTTP/1.1 server that fails on request.

It serves given contents properly (``Range``, ``If-Range``, ``ETag``, ``HEAD``, kept connections)
and records every request. A path may be scripted with the faults of `pkgdata.testing.faults`; each
request to it uses up one, and once they are used up the server is healthy again::

    with FaultServer({"map.fits": content}) as server:
        server.script("map.fits", faults.cut(1000), 503)
        ...  # fetch server.url + "map.fits" three times
        [request.status for request in server.requests]  # [200, 503, 200]

The server never waits by itself: a stalled reply continues at `FaultServer.release`. It answers a
proxy's requests (``GET http://host/path``) by their path, so it serves as a recording proxy too.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from http.client import responses
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

Fault = Callable[["FaultServer", "Request"], "Reply"]

_PIECE = 1 << 16


@dataclass
class Request:
    """What a client asked, and how much of the body it was sent.

    Attributes
    ----------
    method, target : str
    headers : dict of str to str
        By lower-case name.
    status : int
        Of the reply; 0 before it.
    sent : int
        Bytes of the body.
    """

    method: str
    target: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0

    @property
    def path(self) -> str:
        """The path, unquoted and without its leading slash."""
        return unquote(urlsplit(self.target).path).lstrip("/")


@dataclass
class Reply:
    """What is sent, and where it goes wrong.

    Attributes
    ----------
    status : int
    body : bytes-like
    headers : dict of str to str
    version : str
    framing : str
        How the end of the body is announced: ``"length"``, ``"chunked"`` or ``"close"``.
    length_error : int
        Added to the announced length.
    cut_head : bool
        Send half of the headers and close.
    cut_at : int or None
        Body bytes after which the connection is closed.
    reset : bool
        Close by a reset, which may overtake bytes that were sent.
    stall_at : int or None
        Body bytes after which nothing is sent until the release.
    drip_at : int or None
        Body bytes after which the rest comes one by one.
    drip_pause : float
        Seconds between those bytes.
    pause : float
        Seconds after each piece of the body.
    close_after : bool
        Close after the reply without announcing it.
    """

    status: int
    body: bytes | memoryview = b""
    headers: dict[str, str] = field(default_factory=dict)
    version: str = "HTTP/1.1"
    framing: str = "length"
    length_error: int = 0
    cut_head: bool = False
    cut_at: int | None = None
    reset: bool = False
    stall_at: int | None = None
    drip_at: int | None = None
    drip_pause: float = 0.0
    pause: float = 0.0
    close_after: bool = False


class ServedFolder(MutableMapping[str, bytes]):
    """The files below a folder as contents to serve; setting one writes it.

    Parameters
    ----------
    root : path-like
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(root)

    def _path(self, name: str) -> str:
        path = os.path.realpath(os.path.join(self._root, name))
        if not path.startswith(self._root + os.sep):
            raise KeyError(name)
        return path

    def __getitem__(self, name: str) -> bytes:
        try:
            with open(self._path(name), "rb") as file:
                return file.read()
        except OSError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, content: bytes) -> None:
        path = self._path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    def __delitem__(self, name: str) -> None:
        os.unlink(self._path(name))

    def __iter__(self) -> Iterator[str]:
        for folder, _, files in os.walk(self._root):
            for file in files:
                path = os.path.relpath(os.path.join(folder, file), self._root)
                yield path.replace(os.sep, "/")

    def __len__(self) -> int:
        return sum(1 for _ in self)


class FaultServer:
    """The server; a context manager that listens from its making to the end of the block.

    Parameters
    ----------
    contents : mapping of str to bytes
        What is served, by path without a leading slash; may be changed at any time.
    host : str, default ``"127.0.0.1"``
        Name by which `url` calls the server; it listens on 127.0.0.1 always.
    tls : ssl.SSLContext, optional
        Speak HTTPS.
    """

    def __init__(
        self,
        contents: MutableMapping[str, bytes],
        *,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.contents = contents
        #: Every request so far, in the order of arrival.
        self.requests: list[Request] = []
        #: How many connections were made so far.
        self.connections = 0
        #: Set once a reply stalls.
        self.stalled = threading.Event()
        self._tls = tls
        self._scripts: dict[str, list[Fault | int]] = {}
        self._released = threading.Event()
        self._closing = threading.Event()
        self._change = threading.Condition()
        self._busy = 0
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: Base URL, ending in a slash.
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}/"
        self._threads = [threading.Thread(target=self._accept, name="faults-accept")]
        self._threads[0].start()

    def __enter__(self) -> FaultServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and threads."""
        self._closing.set()
        self._released.set()
        # closing a listener does not wake its accept() everywhere; a connection does
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._threads[0].join()
        self._listener.close()
        with self._change:
            for connection in self._open:
                _shut(connection)
        for thread in self._threads[1:]:
            thread.join()

    def serve(self, folder: str | os.PathLike[str]) -> None:
        """Serve the files below a folder from now on.

        Parameters
        ----------
        folder : path-like
        """
        self.contents = ServedFolder(folder)

    def registry(self) -> dict[str, str]:
        """Hash what is served now, for the argument ``registry`` of `pkgdata.declare`.

        Returns
        -------
        dict of str to str
            Digest by name.
        """
        return {
            name: f"sha256:{hashlib.sha256(self.contents[name]).hexdigest()}"
            for name in sorted(self.contents)
        }

    def script(self, path: str, *faults: Fault | int) -> None:
        """Let the next requests to a path meet these faults, one each.

        Parameters
        ----------
        path : str
            Without a leading slash.
        *faults
            What `pkgdata.testing.faults` makes; a number is an answer with that status.
        """
        with self._change:
            self._scripts[path] = list(faults)

    def stall(self) -> None:
        """Wait for the release; for faults."""
        self.stalled.set()
        self._released.wait()

    def release(self) -> None:
        """Let stalled replies go on."""
        self._released.set()

    def settled(self, timeout: float = 30.0) -> list[Request]:
        """Wait until no reply is under way.

        Parameters
        ----------
        timeout : float, default 30
            Seconds.

        Returns
        -------
        list of Request
            Those so far.

        Raises
        ------
        TimeoutError
            A reply is still under way, perhaps a stalled one.
        """
        with self._change:
            if not self._change.wait_for(lambda: not self._busy, timeout):
                raise TimeoutError("a reply is still under way")
            return list(self.requests)

    def etag(self, path: str) -> str:
        """Return the ETag of what a path holds now.

        Parameters
        ----------
        path : str
        """
        return f'"{hashlib.sha256(self.contents[path]).hexdigest()[:16]}"'

    def link(self, path: str) -> str:
        """Return the URL of a path.

        Parameters
        ----------
        path : str
            Without a leading slash.
        """
        return self.url + quote(path)

    # -- replies of a healthy server -------------------------------------------------------

    def whole(self, request: Request) -> Reply:
        """Answer with all bytes, or 404.

        Parameters
        ----------
        request : Request
        """
        try:
            body = self.contents[request.path]
        except KeyError:
            return Reply(404, b"no such file\n", {"Content-Type": "text/plain"})
        kind = "application/octet-stream"
        headers = {"ETag": self.etag(request.path), "Accept-Ranges": "bytes", "Content-Type": kind}
        return Reply(200, body, headers)

    def healthy(self, request: Request) -> Reply:
        """Answer as RFC 9110 wants it.

        Parameters
        ----------
        request : Request
        """
        reply = self.whole(request)
        asked = request.headers.get("range", "")
        condition = request.headers.get("if-range")
        if reply.status != 200 or request.method != "GET" or not asked.startswith("bytes="):
            return reply
        if condition is not None and condition != reply.headers["ETag"]:
            return reply
        total = len(reply.body)
        span = _span(asked.removeprefix("bytes="), total)
        if span is None:
            return Reply(416, b"", {"Content-Range": f"bytes */{total}"})
        first, end = span
        reply.status = 206
        reply.body = memoryview(reply.body)[first:end]
        reply.headers["Content-Range"] = f"bytes {first}-{end - 1}/{total}"
        return reply

    # -- connections -----------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            # a head and its body are sent one after the other; neither shall wait
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._closing.is_set():
                connection.close()
                return
            with self._change:
                self._open.add(connection)
                self.connections += 1
            thread = threading.Thread(target=self._talk, args=(connection,), name="faults-talk")
            self._threads.append(thread)
            thread.start()

    def _talk(self, plain: socket.socket) -> None:
        """Answer the requests of one connection until one of the two sides ends it."""
        connection = plain
        try:
            if self._tls:
                connection = self._tls.wrap_socket(plain, server_side=True)
                with self._change:
                    self._open.add(connection)
            with connection.makefile("rb") as lines:
                while (request := _read_request(lines)) and self._serve(connection, request):
                    pass
        except (OSError, ValueError):
            pass  # the client left, or does not trust our certificate
        finally:
            with self._change:
                self._open -= {plain, connection}
            _shut(connection)
            connection.close()

    def _serve(self, connection: socket.socket, request: Request) -> bool:
        """Send one reply; return True if the connection is kept."""
        with self._change:
            self.requests.append(request)
            self._busy += 1
            script = self._scripts.get(request.path)
            fault = script[0] if script else None
            if script and not getattr(fault, "lasting", False):
                del script[0]
        try:
            if isinstance(fault, int):
                reply = Reply(fault)
            else:
                reply = fault(self, request) if fault else self.healthy(request)
            request.status = reply.status
            return self._send(connection, request, reply)
        finally:
            with self._change:
                self._busy -= 1
                self._change.notify_all()

    def _send(self, connection: socket.socket, request: Request, reply: Reply) -> bool:
        if not reply.status:
            return False
        head = _head(reply)
        if reply.cut_head:
            connection.sendall(head[: len(head) // 2])
            return False
        connection.sendall(head)
        whole = True
        if request.method != "HEAD" and reply.status != 204:
            whole = self._send_body(connection, request, reply)
        if reply.reset:
            # with a linger time of zero, closing sends a reset
            linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            connection.close()
        return whole and reply.framing != "close" and not reply.close_after

    def _send_body(self, connection: socket.socket, request: Request, reply: Reply) -> bool:
        """Send the body with its faults; return True if all of it was meant to be sent."""
        total = len(reply.body)
        end, stall_at, drip_at = (
            None if at is None else at if at >= 0 else total + at
            for at in (reply.cut_at, reply.stall_at, reply.drip_at)
        )
        stops = [stop for stop in (stall_at, drip_at) if stop is not None]
        last = total if end is None else min(end, total)
        at = 0
        while at < last or at == stall_at:
            if at == stall_at:
                stall_at = None
                self.stall()
                continue
            dripping = drip_at is not None and at >= drip_at
            if dripping and self._closing.wait(reply.drip_pause):
                return False
            limits = [last, at + (1 if dripping else _PIECE), *(s for s in stops if s > at)]
            piece = memoryview(reply.body)[at : min(limits)]
            connection.sendall(_chunk(piece) if reply.framing == "chunked" else piece)
            at += len(piece)
            request.sent = at
            if reply.pause and self._closing.wait(reply.pause):
                return False
        if end is None and reply.framing == "chunked":
            connection.sendall(b"0\r\n\r\n")
        return end is None


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already


def _read_request(lines: BinaryIO) -> Request | None:
    first = lines.readline()
    if not first.strip():
        return None
    method, target, _ = first.decode("latin-1").split(" ", 2)
    headers = {}
    while (line := lines.readline()) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    lines.read(int(headers.get("content-length", 0)))
    return Request(method, target, headers)


def _span(text: str, total: int) -> tuple[int, int] | None:
    """Read one range of a ``Range`` header as first byte and end; None if it cannot be served."""
    first, _, last = text.partition("-")
    if not first:
        begin, end = max(0, total - int(last)), total
    else:
        begin, end = int(first), min(int(last) + 1, total) if last else total
    return (begin, end) if begin < end else None


def _head(reply: Reply) -> bytes:
    headers = dict(reply.headers)
    if reply.framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    elif reply.framing == "length" and reply.status != 204:
        headers["Content-Length"] = str(len(reply.body) + reply.length_error)
    lines = [f"{reply.version} {reply.status} {responses.get(reply.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _chunk(piece: memoryview) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)
