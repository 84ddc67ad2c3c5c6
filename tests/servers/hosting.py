"""What the imitations of GitHub, Figshare and Zenodo share: ports, requests, and troubles.

An imitation answers on several ports, one for each host of the service, and keeps all state in
memory. It is strict: what it does not know is answered by 501, and is an error when it is closed.
Tests make trouble for requests that they name by method and path::

    server.fail("POST", "/assets", 502)            refuse once, without doing anything
    server.cut("POST", "/assets", after=True)      do it, then lose the connection
    server.watch("PATCH", "/releases/", kill)      call a function before it is done
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class Refusal(Exception):
    """An answer that is not the wanted one."""

    def __init__(
        self, status: int, answer: object = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, answer)
        self.status, self.answer, self.headers = status, answer, dict(headers or {})


@dataclass
class Asked:
    """A request that came in."""

    port: str
    method: str
    target: str
    #: By lower-case name.
    headers: dict[str, str]
    body: bytes = b""
    #: Whether the body is as long as was said.
    whole: bool = True
    status: int = 0

    @property
    def path(self) -> str:
        """The path, quoted as it came."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The parameters, unquoted."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def json(self) -> Any:
        """Return the body, which has to say that it is JSON."""
        kind = self.headers.get("content-type", "").partition(";")[0]
        if self.body and kind != "application/json":
            raise Refusal(415, {"message": f"no JSON but {kind}"})
        return json.loads(self.body or b"{}")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Reply:
    """What is sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    #: Lose the connection instead.
    lost: bool = False


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Return JSON; None is an answer without a body."""
    body = b"" if value is None else json.dumps(value).encode()
    kind = {"Content-Type": "application/json; charset=utf-8"} if body else {}
    return Reply(status, body, {**kind, **(headers or {})})


@dataclass
class _Trouble:
    method: str
    path: str
    left: int
    skip: int
    refusal: Refusal | None = None
    lost_before: bool = False
    lost_after: bool = False
    call: Callable[[Asked], object] | None = None

    def meets(self, asked: Asked) -> bool:
        if not self.left or asked.method != self.method or not re.search(self.path, asked.path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.left -= 1
        return True


class Hosting:
    """A service; a context manager.

    Parameters
    ----------
    *ports : str
        Names of its hosts.
    """

    def __init__(self, *ports: str) -> None:
        self.requests: list[Asked] = []
        #: What was asked against the rules, or not understood.
        self.complaints: list[str] = []
        self.lock = threading.RLock()
        #: Told of each connection that ends.
        self.closed = threading.Condition()
        #: Called with a request and the bytes of its body so far, as they come.
        self.reading: Callable[[Asked, int], object] | None = None
        #: Called with a request that is dealt with, before it is answered.
        self.answered: Callable[[Asked], object] | None = None
        #: Parts of paths whose uploads are stored with a bit turned over.
        self.damaging: list[str] = []
        self._troubles: list[_Trouble] = []
        self._servers = {name: _Server(self, name) for name in ports}
        self._threads = [
            threading.Thread(target=server.serve_forever, args=(0.01,))
            for server in self._servers.values()
        ]

    def origin(self, name: str, host: str = "127.0.0.1") -> str:
        """Return the URL of one of its hosts."""
        return f"http://{host}:{self._servers[name].server_port}"

    def __enter__(self) -> Any:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for server in self._servers.values():
            server.shutdown()
        for thread in self._threads:
            thread.join()
        for server in self._servers.values():
            server.close()
        if self.complaints and kind is None:
            raise AssertionError("\n".join([f"{type(self).__name__} complains:", *self.complaints]))

    def connections(self) -> set[Any]:
        """Return the connections that are open."""
        return set().union(*(server.open for server in self._servers.values()))

    def settle(self, known: set[Any]) -> None:
        """Wait until all connections but some are dealt with, as those of a client that is gone."""
        for server in self._servers.values():
            # connections are accepted in their order, so the earlier ones are when this one ends
            with socket.create_connection(server.server_address[:2], timeout=30) as last:
                last.shutdown(socket.SHUT_WR)
                last.recv(1)
        with self.closed:
            done = self.closed.wait_for(lambda: not self.connections() - known, timeout=30)
        if not done:
            raise AssertionError("a connection of a client that is gone does not end")

    # -- troubles --------------------------------------------------------------------------

    def fail(
        self,
        method: str,
        path: str,
        status: int,
        value: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        times: int = 1,
        skip: int = 0,
    ) -> None:
        """Refuse the next requests whose path has such a part, but for so many of them."""
        refusal = Refusal(status, value, headers)
        self._troubles.append(_Trouble(method, path, times, skip, refusal))

    def cut(
        self, method: str, path: str, *, after: bool = False, times: int = 1, skip: int = 0
    ) -> None:
        """Lose the connection, with nothing done or after all is done."""
        self._troubles.append(
            _Trouble(method, path, times, skip, lost_before=not after, lost_after=after)
        )

    def watch(
        self, method: str, path: str, call: Callable[[Asked], object], *, skip: int = 0
    ) -> None:
        """Call a function before a request is dealt with."""
        self._troubles.append(_Trouble(method, path, 1, skip, call=call))

    # -- requests --------------------------------------------------------------------------

    def handle(self, asked: Asked) -> Reply:
        """Answer a request, and record it."""
        met = [trouble for trouble in self._troubles if trouble.meets(asked)]
        for trouble in met:
            if trouble.call is not None:
                trouble.call(asked)
        if asked.body and any(part in asked.target for part in self.damaging):
            asked.body = bytes([asked.body[0] ^ 1]) + asked.body[1:]
        with self.lock:
            self.requests.append(asked)
            if any(trouble.lost_before for trouble in met):
                return Reply(0, lost=True)
            reply = self._answer(asked, met)
            asked.status = reply.status
            reply.lost = reply.lost or any(trouble.lost_after for trouble in met)
        if self.answered is not None:
            self.answered(asked)
        return reply

    def _answer(self, asked: Asked, met: list[_Trouble]) -> Reply:
        try:
            for trouble in met:
                if trouble.refusal is not None:
                    raise trouble.refusal
            if not asked.whole:
                self.broken(asked)
                return Reply(0, lost=True)
            return self.route(asked)
        except Refusal as refusal:
            if refusal.status == 501:
                self.complaints.append(f"{asked}: {refusal.answer}")
            return answer(refusal.answer, refusal.status, refusal.headers)
        except Exception as error:
            self.complaints.append(f"{asked}: {error!r}")
            return answer({"message": repr(error)}, 500)

    def route(self, asked: Asked) -> Reply:
        """Answer a request."""
        raise NotImplementedError

    def broken(self, asked: Asked) -> None:
        """Deal with a request whose body did not come whole; it is forgotten by default."""

    def asked(self, method: str, path: str) -> list[Asked]:
        """Return the requests so far of a method, whose path has such a part."""
        return [one for one in self.requests if one.method == method and re.search(path, one.path)]


def page(entries: list[Any], number: int, size: int) -> list[Any]:
    """Return one page of a list; pages count from 1."""
    return entries[(number - 1) * size : number * size]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.server.name, self.command, self.path, headers)
        if "transfer-encoding" in headers:
            self.server.hosting.complaints.append(f"{asked}: a body without its length")
        length = int(headers.get("content-length", 0))
        asked.body = self._read(asked, length)
        asked.whole = len(asked.body) == length
        reply = self.server.hosting.handle(asked)
        if reply.lost:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _read(self, asked: Asked, length: int) -> bytes:
        blocks: list[bytes] = []
        while length:
            try:
                block = self.rfile.read1(min(length, 1 << 20))
            except OSError:
                break  # the client was killed
            if not block:
                break
            blocks.append(block)
            length -= len(block)
            if self.server.hosting.reading is not None:
                self.server.hosting.reading(asked, sum(map(len, blocks)))
        return b"".join(blocks)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _handle

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what the library's server could not read."""
        self.server.hosting.complaints.append(f"{self.requestline}: {code} {message}")
        super().send_error(code, message, explain)

    def log_message(self, *_: object) -> None:
        """Say nothing; the requests are recorded."""


class _Server(ThreadingHTTPServer):
    # closing waits for the threads, whose connections it has ended
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, hosting: Hosting, name: str) -> None:
        self.hosting = hosting
        self.name = name
        self.open: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        # so that an upload of some megabytes is still being sent while its beginning is read
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        super().server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.hosting.closed:
            self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self.hosting.closed:
            self.open.discard(request)
            self.hosting.closed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # else the client left, as clients may
            self.hosting.complaints.append(repr(error))

    def close(self) -> None:
        """End all connections, and wait until nothing of it runs."""
        for request in list(self.open):
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already
        self.server_close()
