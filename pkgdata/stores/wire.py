"""What comes from a web server, read strictly and within bounds, by every client of ours.

http.client and urllib3 read what they are sent with few questions: a head without an end, interim
answers for ever, a chunk whose length was cut. Here a head is checked before it is parsed, a body
in chunks is whole only with its proper end, and bytes that come too slowly are a timeout, wherever
in the message they stand. Message syntax: RFC 9112.
"""

from __future__ import annotations

import functools
import io
import re
import time

from ..base.config import conf
from ..base.urls import redact, redact_text
from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import requests

#: Seconds and bytes that a head may take, with the interim answers before it, and their number.
HEAD_SECONDS, HEAD_BYTES, INTERIM = 60.0, 1 << 16, 16

#: Bytes of the line before a chunk, and of all trailers.
_LINE, _TRAILERS = 1 << 12, 1 << 16

#: Hosts that have answered this process; and when the names of others first and last were looked up
#: without an answer, which is done again for so many seconds, and once more later.
ANSWERED: set[str | None] = set()
_unanswered: dict[str | None, tuple[float, float]] = {}
_NO_ANSWER, _LATER = 2.0, 30.0

#: Schemes that a redirect may lead to.
_WEB = ("http", "https")

#: Digits of a length, enough for all that a disk can hold.
DIGITS = 19

#: What follows the status code in its line, a line of a field, and the rest of such a line.
_REASON, _REST = rb"(?: [^\0\r\n]*)?", rb"[^\0-\x08\n-\x1f\x7f]*"
_FIELD = rb"[!#-'*+.0-9A-Z^-z|~-]+:" + _REST
#: A head without its empty last line; lines may be folded, and end without a carriage return.
#: (Compiled when it is first needed: a batch of small files gets along with the next.)
_HEAD = rb"HTTP/1\.[01] [1-9]\d\d%b\r?\n(?:%b\r?\n(?:[ \t]%b\r?\n)*)*" % (_REASON, _FIELD, _REST)
#: The head of a success that is written as all servers write it, so that one look is enough.
PLAIN_HEAD = re.compile(rb"HTTP/1\.1 200%b\r\n(?:%b\r\n)*" % (_REASON, _FIELD))

#: The line before a chunk: its length in bytes, and extensions that nobody uses.
_CHUNK = rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n"


class MalformedError(OSError, ValueError):
    """A server sends what is no HTTP, or what two readers would take for different things."""


def check_head(head: bytes) -> None:
    """Refuse a head, without its empty last line, that is not as RFC 9112 wants it."""
    if not re.fullmatch(_HEAD, head):
        raise MalformedError("the head of the answer is malformed")


def check_framing(headers: Any) -> None:
    """Refuse lengths that are none or of which there are several, and codings but chunks."""
    lengths = {text.strip() for text in headers.get_all("content-length", ())}
    codings = [text.strip().lower() for text in headers.get_all("transfer-encoding", ())]
    if len(lengths) > 1 or not all(map(is_length, lengths)):
        raise MalformedError("its Content-Length is malformed")
    if codings not in ([], ["chunked"]):
        raise MalformedError("its Transfer-Encoding is not chunked")


def is_length(text: str) -> bool:
    """Return True for a number of bytes."""
    return text.isascii() and text.isdigit() and len(text) <= DIGITS


class Paced(io.RawIOBase):
    """A raw stream in which bytes must come at a pace: first a head in time, then a rate.

    Only the time in which bytes are waited for counts, not what the reader does in between.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._head = True
        self._waited = 0.0
        self._came = 0
        self._seconds, self._bytes = float(conf.stall_seconds), int(conf.stall_bytes)

    def begin_body(self) -> None:
        """Ask for a rate from now on."""
        self._head, self._waited, self._came = False, 0.0, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return int(self._raw.fileno())

    def readinto(self, buffer: Any) -> Any:
        """Read what has come; TimeoutError if that is too slow."""
        began = time.monotonic()
        count = self._raw.readinto(buffer)
        self._waited += time.monotonic() - began
        self._came += count or 0
        if self._head:
            if self._waited > HEAD_SECONDS and count:
                raise TimeoutError(f"the head of the answer takes more than {HEAD_SECONDS:g} s")
        elif self._waited >= self._seconds:
            if self._came < self._bytes and count:
                raise TimeoutError(f"{self._came} bytes in {self._seconds:g} s")
            self._waited, self._came = 0.0, 0
        return count

    def close(self) -> None:
        """Close the stream."""
        if not self.closed:
            self._raw.close()
        super().close()


class Strict:
    """What makes an answer of http.client, whose import is not worth it here, a checked one."""

    # of http.client's HTTPResponse
    chunk_left: Any
    fp: Any
    headers: Any
    _close_conn: Any
    _safe_read: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._paced = Paced(self.fp.detach())
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        """Read the head."""
        if getattr(self, "headers", None) is not None:
            return
        head: Any = io.BytesIO(self._final_head())
        stream, self.fp = self.fp, head
        try:
            super().begin()  # type: ignore[misc]  # of the class that this is mixed into
        finally:
            self.fp = stream
        self._paced.begin_body()
        check_framing(self.headers)

    def _final_head(self) -> bytes:
        """Read heads until one that is not interim; an empty one if nothing came."""
        left = HEAD_BYTES
        for _ in range(INTERIM):
            lines: list[bytes] = []
            while (line := self.fp.readline(left + 1)) not in (b"\r\n", b"\n"):
                left -= len(line)
                if left < 0:
                    raise MalformedError("the head of the answer is too long")
                if not line and not lines:
                    return b""
                if not line.endswith(b"\n"):
                    raise ConnectionResetError("the head of the answer ends too early")
                lines.append(line)
            head = b"".join(lines)
            check_head(head)
            if head[9:10] != b"1" or head[9:12] == b"101":
                return bytes(head + line)
        raise MalformedError("too many interim answers")

    def _get_chunk_left(self) -> int | None:
        left: int | None = self.chunk_left
        if not left:
            if left is not None and self._safe_read(2) != b"\r\n":
                raise MalformedError("a chunk does not end where it should")
            left = self._read_next_chunk_size() or None
            if left is None:
                self._read_and_discard_trailer()
                self._close_conn()
            self.chunk_left = left
        return left

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(_LINE + 1)
        found = re.fullmatch(_CHUNK, line)
        if found is None:
            raise MalformedError("the length of a chunk is cut or malformed")
        return int(found[1], 16)

    def _read_and_discard_trailer(self) -> None:
        left = _TRAILERS
        while (line := self.fp.readline(left + 1)) not in (b"\r\n", b"\n"):
            left -= len(line)
            if left < 0 or not line.endswith(b"\n"):
                raise MalformedError("the end of the chunks is cut or too long")


@functools.cache
def adapter() -> type[requests.adapters.HTTPAdapter]:
    """Return the class of transport adapters whose answers are read strictly."""
    import http.client

    import requests.adapters
    from urllib3 import connection, connectionpool

    class Answer(Strict, http.client.HTTPResponse):
        """An answer whose head, chunks and pace are checked."""

    class Plain(connection.HTTPConnection):
        """A connection whose answers are checked."""

        response_class = Answer

    class Secure(connection.HTTPSConnection):
        """A connection over TLS whose answers are checked."""

        response_class = Answer

    class PlainPool(connectionpool.HTTPConnectionPool):
        """Connections to one server."""

        ConnectionCls = Plain

    class SecurePool(connectionpool.HTTPSConnectionPool):
        """Connections over TLS to one server."""

        ConnectionCls = Secure

    pools = {"http": PlainPool, "https": SecurePool}

    class Adapter(requests.adapters.HTTPAdapter):
        """A transport whose answers are read strictly."""

        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
            found = super().proxy_manager_for(*args, **options)
            if type(found).__name__ == "ProxyManager":  # a SOCKS proxy has connections of its own
                found.pool_classes_by_scheme = pools
            return found

    return Adapter


def user_agent() -> str:
    """Return the ``User-Agent`` of all requests: the setting, else what names us."""
    from .. import __version__

    ours = f"pkgdata/{__version__} (+https://pypi.org/project/pkgdata-cache/)"
    agent: str = conf.default_http_user_agent
    return conf.user_agent or (ours if agent == "pkgdata" else f"{agent} {ours}".lstrip())


def new_session() -> requests.Session:
    """Return a session that keeps no cookies and follows no redirect by itself."""
    import http.cookiejar

    import requests

    class Session(requests.Session):
        """A session that leaves redirects alone: it would read all of their bodies."""

        def get_redirect_target(self, resp: requests.Response) -> None:
            return None

    found = Session()
    # every call has its own, which cannot grow for ever or be seen by other threads
    found.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
    transport = adapter()(pool_maxsize=64, max_retries=0)
    found.mount("https://", transport)
    found.mount("http://", transport)
    return found


def redirect_target(response: requests.Response, at: str) -> str | None:
    """Return where an answer leads, parsed by the parser that connects; None if nowhere."""
    from urllib.parse import urljoin

    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    if not response.is_redirect:
        return None
    # http.client decodes headers as Latin-1; some servers send UTF-8
    text = response.headers["location"].encode("latin-1").decode("utf-8", "replace")
    secure, hint = at[:6].lower() == "https:", None
    try:
        target = urljoin(at, text)
        found = parse_url(target)
        if text.isprintable() and found.host and found.scheme in (("https",) if secure else _WEB):
            return target
        shown = redact(target) if text.isprintable() else "what is no address"
    except (ValueError, LocationParseError):
        found, shown = None, "what is no address"
    response.close()
    if secure and found and found.scheme == "http":
        hint = "ask the server's owner to redirect to https"
    words = "redirects from https to" if hint else "redirects to"
    raise StoreError(f"{redact(at)} {words} {shown}; refused", hint=hint, url=redact(at))


def innermost(error: BaseException) -> BaseException:
    """Return the first of the errors that led to one."""
    import urllib3.exceptions

    while not isinstance(error, urllib3.exceptions.NameResolutionError):
        causes = (getattr(error, "reason", None), *error.args[:1])
        causes += (error.__cause__, error.__context__)
        inner = next((one for one in causes if isinstance(one, BaseException)), None)
        if inner is None:
            break
        error = inner
    return error


def patience(error: BaseException) -> float | None:
    """Return for how long a retry is worth it, in seconds; None if no host's name is the reason.

    A name that was never reached is unknown, or there is no network: neither changes soon.
    """
    import socket

    import urllib3.exceptions

    seen = innermost(error)
    if not isinstance(seen, urllib3.exceptions.NameResolutionError):
        return None
    host = getattr(getattr(seen, "conn", None), "host", None)
    if host in ANSWERED:
        return None
    if getattr(seen.__cause__, "errno", 0) != socket.EAI_AGAIN:
        return 0.0
    now = time.monotonic()
    first, last = _unanswered.get(host, (now, now))
    first = now if now - last > _LATER else first
    _unanswered[host] = first, now
    return max(0.0, first + _NO_ANSWER - now)


def cause(error: Exception) -> BaseException | None:
    """Return what failed by its type and in our words, and the system's own error behind it.

    The texts of requests and urllib3 hold whole URLs and headers, and tracebacks print them.
    """
    import requests

    inner: BaseException | None = innermost(error)
    if not isinstance(inner, OSError):  # it is urllib3's of a name that is not known
        inner = inner and inner.__cause__
    is_system = isinstance(inner, OSError) and (inner.errno or isinstance(inner, TimeoutError))
    inner = inner if is_system and not isinstance(inner, requests.RequestException) else None
    if not isinstance(error, requests.RequestException):
        return inner
    found = type(error)(reason(error))
    found.__cause__ = inner
    return found


def _unknown(error: BaseException) -> str:
    import socket

    again = getattr(error.__cause__, "errno", 0) == socket.EAI_AGAIN
    return "there seems to be no network" if again else "no such host is known here"


def reason(error: BaseException) -> str:
    """Return in few words why a connection failed, without the URL that libraries print in full."""
    import requests
    import urllib3.exceptions

    seen = innermost(error)
    table: tuple[tuple[type[BaseException], str], ...] = (
        (urllib3.exceptions.NameResolutionError, f"cannot resolve the host name; {_unknown(seen)}"),
        (requests.exceptions.ConnectTimeout, "timed out while connecting"),
        (requests.exceptions.Timeout, "timed out while waiting for bytes"),
        (TimeoutError, "timed out while waiting for bytes"),
        (requests.exceptions.TooManyRedirects, "too many redirects"),
        (requests.exceptions.InvalidHeader, "a header holds a character that none may hold"),
    )
    for kind, words in table:
        if isinstance(seen, kind) or isinstance(error, kind):
            return words
    if isinstance(seen, MalformedError):
        return str(seen)
    if isinstance(seen, OSError):
        return seen.strerror or redact_text(str(seen))
    return type(seen).__name__
