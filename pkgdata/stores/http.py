"""HTTP and HTTPS as a read-only store, on requests.

requests brings proxies and TLS, `wire` reads answers. Here stand the strict rules: only 200, or 206
with the range asked for; bytes as they are on the wire; a login and the headers that are configured
for an address go to that host alone; https never falls to http; certificates are always verified.
"""

from __future__ import annotations

import contextlib
import logging
import os

from ..base.config import conf
from ..base.fs import safe_key
from ..base.hashes import of_headers
from ..base.retry import retry_after
from ..base.urls import (
    ca_bundle,
    headers_for,
    join,
    netrc_login,
    netrc_problem,
    redact,
    redact_text,
    secrets_of,
)
from ..errors import (
    AccessDeniedError,
    ConfigError,
    IncompleteTransferError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
    required,
)
from .codecs import layer
from .naming import in_its_region
from .objects import Attributes, Body, Info, stopped
from .store import Store
from .wire import (
    ANSWERED,
    MalformedError,
    cause,
    innermost,
    is_length,
    new_session,
    patience,
    reason,
    redirect_target,
    user_agent,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    import requests


#: Bytes of an answer that is read whole, unpacked: a page of a listing has a few megabytes.
_MOST_ANSWER = 64 << 20
LOGGER = logging.getLogger("pkgdata")

#: Statuses after which the same request may succeed: rate limits and transient server troubles.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

#: Seconds for which a block is filled. A fast server fills it sooner; of a slow one what has come
#: is handed on, so that it is seen to be slow and nothing is lost when it breaks off.
_PATIENCE = 0.05

#: Requests that a chain of redirects may have, and bytes of a redirect's body that are read.
_HOPS, _SMALL = 31, 1 << 16

#: Answers to a login that is wrong or unknown; 400 is Amazon S3's.
_REFUSALS = frozenset({400, 401, 403})

#: Words of ``Content-Encoding`` that mean "as it is".
_NO_ENCODINGS = frozenset({"", "identity", "aws-chunked"})

#: Headers of a caller that no other host gets.
_PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization"})

_sessions: dict[int, requests.Session] = {}


def session() -> requests.Session:
    """Return this process's session; connections are never shared across a fork."""
    pid = os.getpid()
    found = _sessions.get(pid)
    if found is None:
        _sessions.clear()
        found = _sessions[pid] = new_session()
    return found


def own_login(url: str) -> tuple[str | None, str]:
    """Return the ``Authorization`` for a login that stands in a URL."""
    from urllib.parse import unquote, urlsplit

    login, at, _ = urlsplit(url).netloc.rpartition("@")
    user, _, password = login.partition(":")
    return (_basic(unquote(user), unquote(password)) if at else None), ""


def login_of(url: str) -> tuple[str | None, str]:
    """Return the ``Authorization`` for a URL, and the entry of netrc that it is from, if it is."""
    from urllib.parse import urlsplit

    value, _ = own_login(url)
    found = netrc_login(urlsplit(url).hostname or "") if value is None else None
    return (value, "") if found is None else (_basic(*found[:2]), found[2])


def _basic(user: str, password: str) -> str:
    import base64

    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _headers_for(
    url: str, own: Mapping[str, str], login: Callable[[str], tuple[str | None, str]], moved: bool
) -> tuple[Any, str]:
    """Return the headers for one URL, and the entry of netrc that is among them, if one is."""
    from requests.structures import CaseInsensitiveDict

    given: Any = CaseInsensitiveDict({"Accept-Encoding": "identity", "User-Agent": user_agent()})
    given.update(headers_for(url, conf.headers))
    kept = {key: text for key, text in own.items() if not (moved and key.lower() in _PRIVATE)}
    given.update(kept)
    value, entry = login(url)
    if value is None or any(key.lower() == "authorization" for key in kept):
        return given, ""
    if entry and "Authorization" in given:
        return given, ""  # what is configured for this address is meant for it; netrc may be stale
    given["Authorization"] = value
    return given, entry


def _ask(
    method: str,
    url: str,
    own: Mapping[str, str],
    login: Callable[[str], tuple[str | None, str]],
    follow: bool,
    options: dict[str, Any],
) -> requests.Response:
    """Send a request, and follow redirects: each host gets what is meant for it, no other."""
    from urllib.parse import urlsplit

    import requests
    from requests import cookies as jars
    from urllib3.exceptions import HTTPError

    through = options.pop("through", None) or session()
    keep: Callable[..., None] = jars.extract_cookies_to_jar
    at, moved, entry, cookies = url, False, "", jars.RequestsCookieJar()
    for _ in range(_HOPS):
        moved = moved or (at != url and through.should_strip_auth(url, at))
        headers, used = _headers_for(at, own, login, moved)
        entry = used or entry
        verify = (ca_bundle() or True) if at[:6].lower() == "https:" else True
        response: requests.Response = through.request(
            *(method, at),
            headers=headers,
            cookies=cookies,
            auth=lambda prepared: prepared,  # else requests looks into netrc itself
            allow_redirects=False,
            **{"verify": verify, **options, "stream": True},
        )
        ANSWERED.add(urlsplit(at).hostname)
        target = redirect_target(response, at) if follow else None
        if follow and target is None and 300 <= response.status_code <= 400:
            target = in_its_region(at, response.headers.get("x-amz-bucket-region"))
        if target is None:
            vars(response)["entry"] = entry
            return response
        keep(cookies, response.request, response.raw)
        with contextlib.suppress(HTTPError, OSError):  # read, so that the connection is kept
            response.raw.read(_SMALL, decode_content=False)
        response.close()
        at, options = target, {**options, "params": None}
    raise requests.TooManyRedirects


def request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    timeout: float | tuple[float, float],
    shown: str = "",
    *,
    login: Callable[[str], tuple[str | None, str]] = login_of,
    follow: bool = True,
    **options: Any,
) -> requests.Response:
    """Send a request as all of pkgdata does; ``shown`` is the address for errors.

    ``login`` returns the ``Authorization`` for a URL and the entry of netrc that it is from. What
    that is refused for is tried without: it may be stale, or meant for something else. An entry
    that was in vain is the response's ``entry``. ``through`` may be another session.
    """
    required("requests", "http")
    from urllib3.exceptions import HTTPError

    options["timeout"] = timeout
    try:
        response = _ask(method, url, headers, login, follow, dict(options))
        LOGGER.debug("%s %s: status %s", method, shown or redact(url), response.status_code)
        vars(response)["asked"] = url
        if response.status_code in _REFUSALS and vars(response)["entry"]:
            without = _ask(method, url, headers, own_login, follow, dict(options))
            good = without.status_code < 400
            (response if good else without).close()
            response = without if good else response
        if not options.get("stream", True):
            _read_whole(response, shown or redact(url))
        return response
    except PkgdataError:
        raise
    except (OSError, HTTPError, ValueError) as error:
        # RequestException is an OSError; its text holds the URL as it is, or the headers
        raise _translate(error, shown or redact(url)) from cause(error)


def _read_whole(response: requests.Response, shown: str) -> None:
    """Read an answer that is no file, such as JSON or a listing, as requests does, but not more."""
    parts, size = [], 0
    for part in response.iter_content(_SMALL):
        size += len(part)
        if size > _MOST_ANSWER:
            response.close()
            raise StoreError(f"{shown}: the answer has more than {_MOST_ANSWER} bytes", url=shown)
        parts.append(part)
    vars(response)["_content"] = b"".join(parts)


class HttpBody(Body):
    """The body of a response, raw bytes from the wire."""

    def __init__(self, response: requests.Response, url: str, start: int, name: str) -> None:
        headers = response.headers
        count, attributes = _length(headers), _attributes(headers, name)
        kind = f"status {response.status_code}, {headers.get('Content-Type', 'no type')}"
        sent = sent_for(response)
        kind = redact_text(kind, sent)
        encoded = _encoding(headers)
        if encoded:
            kind += f", Content-Encoding {encoded}"
        super().__init__(start, None if count is None else start + count, _validator(headers), kind)
        self.sent = sent
        self.encoded = encoded
        self.attributes = attributes
        self.digest = of_headers(headers) if response.status_code == 200 else None
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
        self._front = memoryview(b"")
        if encoded and attributes.encoding is None and response.status_code == 200:
            # as the name says, unless it was compressed once more on the way
            front = memoryview(bytearray(1024))
            self._front = front[: self.readinto(front)]
            attributes.encoding = layer(name, encoded, bytes(self._front))

    def readinto(self, buffer: memoryview) -> int:
        import time

        from urllib3.exceptions import HTTPError

        if self._front:
            count = min(len(buffer), len(self._front))
            buffer[:count], self._front = self._front[:count], self._front[count:]
            return count
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
            raise self._broken(reason(self._failure)) from cause(self._failure)
        if self._end is not None and self._at < self._end:
            raise self._broken("the connection closed early")
        if self._doubtful and self._at == self.start:
            raise self._broken("empty response without Content-Length")
        return 0

    def _broken(self, said: str) -> IncompleteTransferError:
        return stopped(self._url, self._at, self._end, said)

    def close(self) -> None:
        self._response.close()


def _length(headers: Any) -> int | None:
    # requests joins repeated headers with a comma; two lengths are none
    text = headers.get("Content-Length", "")
    return int(text) if is_length(text) else None


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


def _encoding(headers: Any) -> str | None:
    """Return how a server declares the bytes to be compressed."""
    text = headers.get("Content-Encoding", "").lower()
    # Amazon's word says how they were uploaded, nothing of the bytes
    words = [word for word in map(str.strip, text.split(",")) if word not in _NO_ENCODINGS]
    return {"": None, "x-gzip": "gzip"}.get(",".join(words), ",".join(words))


def _attributes(headers: Any, name: str) -> Attributes:
    return Attributes(
        content_type=headers.get("Content-Type"),
        encoding=layer(name, _encoding(headers)),
        cache_control=headers.get("Cache-Control"),
        modified=_modified(headers),
        content_disposition=headers.get("Content-Disposition"),
        content_language=headers.get("Content-Language"),
    )


class HttpStore(Store):
    """What a web server serves below a URL; a login in it becomes an ``Authorization`` header."""

    web = True

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
        if name:
            safe_key(name)  # ".." would be resolved before it is sent, and leave the base
        return request(method, self._full(name), headers, self.timeout, self.address(name))

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
        address, path = self.address(name), name or self._url
        try:
            status = response.status_code
            if ranged and (
                status == 416 or (status == 206 and not _goes_on(response, start, stop))
            ):
                # else one interruption would end all: this server gets ranges wrong
                response.close()
                return self.open(name)
            if ranged and status == 206:
                body = HttpBody(response, address, start, path)
                # the length of a part says nothing about the whole
                body.size = parse_content_range(response.headers.get("Content-Range", ""))[2]
                return body
            if status != 200:
                raise _status_error(response, address)
            return HttpBody(response, address, 0, path)
        except BaseException:
            response.close()
            raise

    def info(self, name: str) -> Info:
        response = self._request("HEAD", name, {})
        response.close()
        if response.status_code != 200:
            raise _status_error(response, self.address(name))
        found = response.headers
        kept = _attributes(found, name or self._url)
        return Info(_length(found), _validator(found), kept.modified, of_headers(found), kept)


def _goes_on(response: requests.Response, start: int, stop: int | None) -> bool:
    """Return True if a 206 holds all bytes from one on, to the end or to where it was asked."""
    first, last, total = parse_content_range(response.headers.get("Content-Range", ""))
    ends = {total, stop} if total is None or stop is None else {min(total, stop)}
    return first == start and (None in ends or last + 1 in ends)


def parse_content_range(text: str) -> tuple[int, int, int | None]:
    """Read ``bytes FIRST-LAST/TOTAL`` (RFC 9110, section 14.4); ``(-1, -1, None)`` if malformed."""
    unit, _, rest = text.strip().partition(" ")
    span, _, total = rest.partition("/")
    first, _, last = span.partition("-")
    numbers = (first, last) if total == "*" else (first, last, total)
    if unit.lower() != "bytes" or not all(map(is_length, numbers)):
        return -1, -1, None
    return int(first), int(last), None if total == "*" else int(total)


def sent_for(response: requests.Response) -> set[str]:
    """Return the secrets that were sent to get a response, which the server may repeat."""
    asked = vars(response).get("asked", response.url)
    return secrets_of(asked) | secrets_of(response.url, response.request.headers)


def _status_error(response: requests.Response, address: str) -> StoreError:
    status = response.status_code
    said = redact_text(response.reason or "", sent_for(response))
    text = f"{address}: status {status} {said}".rstrip()
    if status in (404, 410):
        return ObjectNotFoundError(text, url=address)
    if status in (401, 403):
        return AccessDeniedError(text, url=address, hint=_login_hint(response))
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


def _login_hint(response: requests.Response) -> str:
    entry = vars(response).get("entry")
    if entry:
        return f"{entry} was sent, and refused, as was a request without it; correct or remove it"
    problem = netrc_problem()
    if problem:
        return f"{problem}, so that it was not used; check that the file is public"
    return "check that the file is public, or put the login into ~/.netrc"


def _translate(error: Exception, address: str) -> StoreError:
    """Turn what requests raises into our tree, and mark what is worth a retry."""
    import requests
    import urllib3.exceptions

    lib = requests.exceptions
    words = reason(error)
    permanent = (lib.SSLError, lib.TooManyRedirects, ValueError)
    malformed = isinstance(innermost(error), MalformedError)
    hint = None
    if isinstance(error, lib.SSLError):
        hint = "behind an intercepting proxy set REQUESTS_CA_BUNDLE to its certificate; "
        hint += "verification is never turned off"
    elif isinstance(error, lib.ProxyError):
        hint = "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    elif "resolve" in words or "Name or service" in words:
        hint = "check the network connection and the host name"
    elif "SOCKS" in words:
        hint = "ALL_PROXY or HTTPS_PROXY names a SOCKS proxy: pip install 'requests[socks]', or "
        hint += "set it to an HTTP proxy"
    passing = (requests.RequestException, urllib3.exceptions.HTTPError)
    transient = isinstance(error, passing) and not isinstance(error, permanent) and not malformed
    said = f"{address}: {words}"
    return StoreError(said, url=address, transient=transient, patience=patience(error), hint=hint)
