"""HTTP and HTTPS as a read-only store, on requests.

requests brings proxies, ``netrc``, CA bundles and the dropping of ``Authorization`` when a redirect
leaves the host. Here stand the strict rules: only 200, or 206 with the range asked for; bytes as
they are on the wire; https never falls to http; certificates are always verified.
"""

from __future__ import annotations

import os

from ..base.fs import safe_key
from ..base.retry import retry_after
from ..base.urls import ca_bundle, join, redact
from ..errors import (
    AccessDeniedError,
    ConfigError,
    IncompleteTransferError,
    ObjectNotFoundError,
    StoreError,
)
from .objects import Attributes, Body, Info, stopped
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import requests

    from ..base.hashes import Digest

#: Statuses after which the same request may succeed: rate limits and transient server troubles.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

#: Seconds for which a block is filled. A fast server fills it sooner; of a slow one what has come
#: is handed on, so that it is seen to be slow and nothing is lost when it breaks off.
_PATIENCE = 0.05


_sessions: dict[int, requests.Session] = {}


def new_session() -> requests.Session:
    """Return a session that never follows a redirect from https to http."""
    import requests.adapters

    class Session(requests.Session):
        """A session that never follows a redirect from https to http."""

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            target = super().get_redirect_target(resp)
            if target and resp.url.startswith("https:") and target.lower().startswith("http:"):
                resp.close()
                raise StoreError(
                    f"{redact(resp.url)} redirects from https to {redact(target)}; refused",
                    hint="ask the server's owner to redirect to https",
                    url=redact(resp.url),
                )
            return target

    found = Session()
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=64, max_retries=0)
    found.mount("https://", adapter)
    found.mount("http://", adapter)
    return found


def session() -> requests.Session:
    """Return this process's session; connections are never shared across a fork."""
    pid = os.getpid()
    found = _sessions.get(pid)
    if found is None:
        _sessions.clear()
        found = _sessions[pid] = new_session()
    return found


class HttpBody(Body):
    """The body of a response, raw bytes from the wire."""

    def __init__(self, response: requests.Response, url: str, start: int) -> None:
        headers = response.headers
        count, attributes = _length(headers), _attributes(headers)
        kind = f"status {response.status_code}, {headers.get('Content-Type', 'no type')}"
        self.encoded = attributes.encoding is not None
        if self.encoded:
            kind += f", Content-Encoding {attributes.encoding}"
        super().__init__(start, None if count is None else start + count, _validator(headers), kind)
        self.attributes = attributes
        self.digest = _digest(headers) if response.status_code == 200 else None
        self.ranges = response.status_code == 206 or headers.get("Accept-Ranges") == "bytes"
        self._response = response
        self._raw = response.raw
        self._url = url
        self._end = self.size
        self._at = start
        self._failure: Exception | None = None
        framed = "Content-Length" in headers or "Transfer-Encoding" in headers
        #: Headers that were cut off look like those of a body that the connection's end ends.
        self._doubtful = not framed and response.raw.version == 11

    def readinto(self, buffer: memoryview) -> int:
        import time

        from urllib3.exceptions import HTTPError

        end, count = time.monotonic() + _PATIENCE, 0
        try:
            while count < len(buffer) and self._failure is None:
                data = self._raw.read1(len(buffer) - count)
                buffer[count : count + len(data)] = data
                count += len(data)
                if not data or time.monotonic() > end:
                    break
        except (HTTPError, OSError) as error:
            self._failure = error  # raised once the bytes before it are handed over
        self._at += count
        if count:
            return count
        if self._failure is not None:
            raise self._broken(_reason(self._failure)) from self._failure
        if self._end is not None and self._at < self._end:
            raise self._broken("the connection closed early")
        if self._doubtful and self._at == self.start:
            raise self._broken("empty response without Content-Length")
        return 0

    def _broken(self, reason: str) -> IncompleteTransferError:
        return stopped(self._url, self._at, self._end, reason)

    def close(self) -> None:
        self._response.close()


def _length(headers: Any) -> int | None:
    # requests joins repeated headers with a comma; two lengths are none
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _validator(headers: Any) -> str | None:
    etag: str | None = headers.get("ETag")
    if etag and not etag.startswith("W/"):  # weak ones may not stand in If-Range, RFC 9110 13.1.5
        return etag
    modified: str | None = headers.get("Last-Modified")
    return modified


def _modified(headers: Any) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(headers.get("Last-Modified", "")).timestamp()
    except (ValueError, TypeError):
        return None


def _attributes(headers: Any) -> Attributes:
    encoding = headers.get("Content-Encoding", "").strip().lower()
    return Attributes(
        content_type=headers.get("Content-Type"),
        encoding={"x-gzip": "gzip", "identity": None, "": None}.get(encoding, encoding),
        cache_control=headers.get("Cache-Control"),
        modified=_modified(headers),
    )


def _digest(headers: Any) -> Digest | None:
    """Read what some services report of the stored bytes: Google's and the older HTTP header."""
    import base64
    import binascii

    from ..base.hashes import Digest

    text = headers.get("Content-MD5", "")
    for part in headers.get("x-goog-hash", "").split(","):
        if part.strip().startswith("md5="):
            text = part.strip()[4:]
    try:
        value = base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return None
    return Digest("md5", value) if len(value) == 32 else None


class HttpStore(Store):
    """What a web server serves below a URL; a login in it becomes an ``Authorization`` header."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        from urllib.parse import urlsplit

        try:
            urlsplit(self._url)
        except ValueError as error:
            raise ConfigError(f"{self.url}: {error}", hint="write https://HOST/PATH") from None

    def address(self, name: str) -> str:
        return redact(self._full(name))

    def _full(self, name: str) -> str:
        return join(self._url, name) if name else self._url

    def _request(self, method: str, name: str, headers: dict[str, str]) -> requests.Response:
        import requests
        from urllib3.exceptions import HTTPError

        if name:
            safe_key(name)  # ".." would be resolved before it is sent, and leave the base
        address = self.address(name)
        headers = {
            "Accept-Encoding": "identity",
            "User-Agent": f"{user_agent()} {requests.utils.default_user_agent()}",
            **headers,
        }
        try:
            return session().request(
                method,
                self._full(name),
                headers=headers,
                stream=True,
                allow_redirects=True,
                timeout=(self.timeout, self.timeout),
                verify=ca_bundle() or True,
            )
        except StoreError:
            raise
        except (OSError, HTTPError, UnicodeError) as error:
            # RequestException is an OSError; a missing CA bundle is a plain one
            # the text of a malformed URL's error holds the URL as it is, with its password
            cause = None if isinstance(error, ValueError) else error
            raise _translate(error, address) from cause

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        headers = {}
        ranged = bool(start) or stop is not None
        if ranged:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            if validator:
                headers["If-Range"] = validator
        response = self._request("GET", name, headers)
        address = self.address(name)
        try:
            status = response.status_code
            if ranged and (
                status == 416 or (status == 206 and not _goes_on(response, start, stop))
            ):
                # else one interruption would end all: this server gets ranges wrong
                response.close()
                return self.open(name)
            if ranged and status == 206:
                body = HttpBody(response, address, start)
                # the length of a part says nothing about the whole
                body.size = parse_content_range(response.headers.get("Content-Range", ""))[2]
                return body
            if status != 200:
                raise _status_error(response, address)
            return HttpBody(response, address, 0)
        except BaseException:
            response.close()
            raise

    def info(self, name: str) -> Info:
        response = self._request("HEAD", name, {})
        response.close()
        if response.status_code != 200:
            raise _status_error(response, self.address(name))
        found = response.headers
        kept = _attributes(found)
        return Info(_length(found), _validator(found), kept.modified, _digest(found), kept)


def _goes_on(response: requests.Response, start: int, stop: int | None) -> bool:
    """Return True if a 206 holds all bytes from one on, to the end or to where it was asked."""
    first, last, total = parse_content_range(response.headers.get("Content-Range", ""))
    ends = {total, stop} if total is None or stop is None else {min(total, stop)}
    return first == start and (None in ends or last + 1 in ends)


def user_agent() -> str:
    """Return the words of the ``User-Agent`` that name us."""
    from .. import __version__
    from ..base.config import conf

    agent = conf.default_http_user_agent
    return f"pkgdata/{__version__}" if agent == "pkgdata" else f"{agent} pkgdata/{__version__}"


def parse_content_range(text: str) -> tuple[int, int, int | None]:
    """Read ``bytes FIRST-LAST/TOTAL`` (RFC 9110, section 14.4); ``(-1, -1, None)`` if malformed."""
    unit, _, rest = text.strip().partition(" ")
    span, _, total = rest.partition("/")
    first, _, last = span.partition("-")
    numbers = (first, last) if total == "*" else (first, last, total)
    if unit.lower() != "bytes" or not all(n.isascii() and n.isdigit() for n in numbers):
        return -1, -1, None
    return int(first), int(last), None if total == "*" else int(total)


def _status_error(response: requests.Response, address: str) -> StoreError:
    status = response.status_code
    text = f"{address}: status {status} {response.reason or ''}".rstrip()
    if status in (404, 410):
        return ObjectNotFoundError(text, url=address)
    if status in (401, 403):
        return AccessDeniedError(
            text, url=address, hint="check that the file is public, or put the login into ~/.netrc"
        )
    hint = None
    if 200 <= status < 300:
        text += ", where 200 is expected"
        hint = "the server has no finished file at this address; try its direct download link"
    return StoreError(
        text,
        url=address,
        transient=status in TRANSIENT,
        retry_after=retry_after(response.headers.get("Retry-After")),
        hint=hint,
    )


def _translate(error: Exception, address: str) -> StoreError:
    """Turn what requests raises into our tree, and mark what is worth a retry."""
    import requests
    import urllib3.exceptions

    lib = requests.exceptions
    reason = _reason(error)
    permanent = (lib.SSLError, lib.TooManyRedirects, ValueError)
    hint = None
    if isinstance(error, lib.SSLError):
        hint = "behind an intercepting proxy set REQUESTS_CA_BUNDLE to its certificate; "
        hint += "verification is never turned off"
    elif isinstance(error, lib.ProxyError):
        hint = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    elif "resolve" in reason or "Name or service" in reason:
        hint = "check the network connection and the host name"
    passing = (requests.RequestException, urllib3.exceptions.HTTPError)
    transient = isinstance(error, passing) and not isinstance(error, permanent)
    return StoreError(f"{address}: {reason}", url=address, transient=transient, hint=hint)


def _reason(error: BaseException) -> str:
    """Return in few words why a connection failed, without the URL that libraries print in full."""
    import requests
    import urllib3.exceptions

    seen = error  # becomes the innermost cause
    while not isinstance(seen, urllib3.exceptions.NameResolutionError):
        causes = (getattr(seen, "reason", None), *seen.args[:1], seen.__cause__, seen.__context__)
        inner = next((one for one in causes if isinstance(one, BaseException)), None)
        if inner is None:
            break
        seen = inner
    table: tuple[tuple[type[BaseException], str], ...] = (
        (urllib3.exceptions.NameResolutionError, "cannot resolve the host name"),
        (requests.exceptions.ConnectTimeout, "timed out while connecting"),
        (requests.exceptions.Timeout, "timed out while waiting for bytes"),
        (TimeoutError, "timed out while waiting for bytes"),
        (requests.exceptions.TooManyRedirects, "too many redirects"),
    )
    for kind, words in table:
        if isinstance(seen, kind) or isinstance(error, kind):
            return words
    if isinstance(seen, OSError):
        return seen.strerror or redact(str(seen))
    return type(seen).__name__
