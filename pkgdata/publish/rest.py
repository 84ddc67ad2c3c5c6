"""One small client for the JSON interfaces of GitHub, Figshare and Zenodo.

1. The token goes into the ``Authorization`` header alone, and to hosts of the service alone: a host
   that an answer names (for uploads, say) must be the service's own, and a redirect elsewhere is
   followed without it. Errors and logs never hold it, nor an address that is a secret itself.
2. A transient refusal is retried, a bounded number of times, after waits that
   grow and that no two clients share. A ``POST`` is not: it may have been obeyed before the
   connection broke. `Rest.repeat` calls a step that looks first what is there.
3. A rate limit holds all threads of the client. It is waited for as long as the service asks,
   within `PATIENCE`; beyond that, the error says when to run the command again.
4. What answers hold is read by its kind: what is missing or another is an error of the service.
"""

from __future__ import annotations

import functools
import logging
import reprlib
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..base import hashes, retry
from ..base.config import conf
from ..base.hashes import Digest
from ..base.report import parse_json
from ..base.urls import redact
from ..errors import (
    AccessDeniedError,
    IncompleteTransferError,
    ObjectNotFoundError,
    PublishError,
    StoreError,
)
from ..stores import http
from ..stores.http import TRANSIENT
from ..stores.wire import redirect_target
from .destination import hide

TYPE_CHECKING = False
if TYPE_CHECKING:
    import requests

K = TypeVar("K")
R = TypeVar("R")

#: Seconds that the rate limits of one request are waited for, in all.
PATIENCE = 900.0

#: Seconds to wait where a service limits the rate but does not say for how long; GitHub's
#: documentation asks for at least a minute.
UNTOLD = 60.0

#: Further tries of a request or step.
RETRIES = 5

#: Services take longer to recover than servers of files do.
_POLICY = retry.Policy(RETRIES, first=0.5, longest=30.0, longest_asked=PATIENCE)

#: What the upload of a file adds to a request. A step around it looks what has arrived.
UPLOAD: dict[str, Any] = {
    "headers": {"Content-Type": "application/octet-stream"},
    # seconds: the service may hash and copy all of it before it answers
    "timeout": 900.0,
    "again": False,
}

#: Characters of a refusal's reason that are shown, in whole words.
_MOST = 2000

#: Entries that are asked for in one page of a list, and pages.
_PAGE, _PAGES = 100, 1000

_HINTS = {
    401: "the token is wrong or has expired",
    403: "the token lacks a permission that this needs",
    404: "check the name; a token that may not see it is answered like this too",
}


class Rest:
    """A JSON interface.

    ``scheme`` is the word before the token in the ``Authorization`` header; ``secret`` returns the
    token and is asked when the first request needs it; ``rights`` is what the token must be allowed
    to do, for hints.
    """

    def __init__(
        self,
        service: str,
        api: str,
        *,
        scheme: str,
        secret: Callable[[], str],
        rights: str,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        sleep: Callable[[float], object] | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.service = service
        self.api = api.rstrip("/")
        self.timeout = max(30.0, conf.remote_timeout) if timeout is None else timeout
        self._scheme = scheme
        self._secret = secret
        self._rights = rights
        self._headers = dict(headers or {})
        self.sleep = time.sleep if sleep is None else sleep
        self._now = time.time if now is None else now
        #: Until when the service wants to be left alone, in seconds since the epoch.
        self._limited_until = 0.0
        parts = urlsplit(self.api)
        if parts.scheme != "https" and not is_loopback(parts.hostname):
            raise PublishError(
                f"{redact(api)} is no https address, and a token would be sent in the clear",
                hint="give the address of the interface, such as https://host/api/v3",
            )

    # -- one request -------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        ok: Collection[int] = (200,),
        again: bool | None = None,
        **options: Any,
    ) -> requests.Response:
        """Send a request, and retry it if it may be sent twice; all but a ``POST`` may.

        Statuses in ``ok`` are no errors; those of others have ``status`` and ``details``. Options:
        ``params``, ``json``, ``data``, ``headers``, ``stream``, ``timeout``, ``anonymous``, and
        ``shown``, how errors name the address.
        """
        may = method != "POST" if again is None else again
        return self.repeat(lambda: self._once(method, path, ok, options), may)

    def json(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request and return the table that is its answer; see `request`."""
        return self._answer(method, path, options).table("")

    def rows(self, path: str, **options: Any) -> list[Answer]:
        """Return a list of tables that is served at once."""
        return self._answer("GET", path, options).tables("")

    def linked(self, path: str, **options: Any) -> tuple[list[Answer], str | None]:
        """Return a list of tables, and the address of the next part where there is one."""
        response, shown = self.request("GET", path, **options), self._shown(path, options)
        rows = parsed(response.text, f"{shown}: {self.service}", shown).tables("")
        return rows, response.links.get("next", {}).get("url")

    def _answer(self, method: str, path: str, options: Mapping[str, Any]) -> Answer:
        response, shown = self.request(method, path, **options), self._shown(path, options)
        return parsed(response.text, f"{shown}: {self.service}", shown)

    def pages(self, path: str, size: str, anonymous: bool = False, **params: Any) -> list[Answer]:
        """Return a list that is served in pages; ``size`` names the parameter for their length."""
        # each id once, since entries move between pages while they are read
        found: dict[int, Answer] = {}
        for number in range(1, _PAGES + 1):
            asked = {**params, "page": number, size: _PAGE}
            part = self.rows(path, params=asked, anonymous=anonymous)
            known = len(found)
            found.update((entry.number("id"), entry) for entry in part)
            # a service that knows no pages serves everything at once
            if len(part) < _PAGE or len(found) == known:
                return [*found.values()]
        shown = self._shown(path, {})
        raise StoreError(f"{shown}: {self.service} lists more than {_PAGES} pages", url=shown)

    def read(self, path: str, **options: Any) -> Iterator[bytes]:
        """Yield the bytes of a file, wherever the service redirects to."""
        from urllib3.exceptions import HTTPError

        response = self.request("GET", path, stream=True, **options)
        shown = self._shown(path, options)
        try:
            yield from iter(lambda: response.raw.read1(hashes.BLOCK), b"")
        except (HTTPError, OSError) as error:
            raise IncompleteTransferError(f"{shown}: {type(error).__name__}", url=shown) from None
        finally:
            response.close()

    # -- repeating ---------------------------------------------------------------------------

    def repeat(self, step: Callable[[], R], may_again: bool = True) -> R:
        """Call a step that looks first what is there, until it succeeds or fails for good."""
        policy, wait, left = _POLICY, _POLICY.first, RETRIES
        while True:
            try:
                return step()
            except (StoreError, IncompleteTransferError) as error:
                limited = getattr(error, "limited", False)
                spent = getattr(error, "spent", False)
                if spent or not error.transient or not (may_again or limited):
                    raise
                if not left or not policy.may_help(error):
                    error.__dict__["spent"] = True  # a step around this request stops too
                    raise
                asked = retry.asked(error)
            left -= 1
            policy = policy._replace(longest_asked=policy.longest_asked - asked)
            wait = policy.following(wait)
            self._wait(max(wait, asked), limited)

    def _wait(self, seconds: float, limited: bool) -> None:
        if limited:
            self._limited_until = max(self._limited_until, self._now() + seconds)
            logging.getLogger("pkgdata").warning(
                "%s limits the rate of requests; waiting %.0f s as it asks", self.service, seconds
            )
        self.sleep(seconds)

    # -- the wire ----------------------------------------------------------------------------

    def _once(
        self, method: str, path: str, ok: Collection[int], options: Mapping[str, Any]
    ) -> requests.Response:
        held = self._limited_until - self._now()
        if held > 0:
            self.sleep(held)  # another thread met the limit
        url = self.address(path)
        response = self._send(method, url, options)
        target = redirect_target(response, url) if method not in ("GET", "HEAD") else None
        if target is not None:
            response.close()
            raise StoreError(
                f"{redact(url)} has moved to {redact(target)}",
                hint="give the new name, as what is written must not follow a redirect",
                url=redact(url),
            )
        if response.status_code in ok:
            return response
        try:
            raise self._refusal(response, self._shown(path, options))
        finally:
            response.close()

    def address(self, path: str) -> str:
        """Return the URL of a path; a whole URL has to be one of the service's own."""
        if "://" not in path:
            return f"{self.api}/{path.lstrip('/')}"
        if not self._is_own(path):
            try:
                host = urlsplit(path).hostname
            except ValueError:
                host = None
            raise StoreError(
                f"{self.service} names the host {host!r}, which is none of its own; refused",
                hint="the token goes nowhere but to the service itself",
                url=redact(path),
            )
        return path

    def _is_own(self, url: str) -> bool:
        """Return True for the service's own host, and for ``api.x.org`` any below ``x.org``."""
        api = urlsplit(self.api)
        try:
            other = urlsplit(url)
            same_port = other.port == api.port
        except ValueError:
            return False
        home, host = api.hostname or "", other.hostname or ""
        if other.scheme != api.scheme or other.username is not None:
            return False
        if not same_port and not is_loopback(host):
            return False
        family = home.removeprefix("api.")
        return host == home or (family != home and f".{host}".endswith(f".{family}"))

    def _send(self, method: str, url: str, options: Mapping[str, Any]) -> requests.Response:
        anonymous = bool(options.get("anonymous"))
        sent: dict[str, Any] = {key: options.get(key) for key in ("params", "json", "data")}
        headers = {"Accept": "application/json", **self._headers, **(options.get("headers") or {})}
        try:
            return http.request(
                *(method, url, headers),
                (self.timeout, options.get("timeout", self.timeout)),
                self._shown(url, options),
                login=lambda at: (None if anonymous else self._authorization(at), ""),
                follow=method in ("GET", "HEAD"),
                stream=bool(options.get("stream")),
                **sent,
            )
        except StoreError as error:
            raise error from None  # what requests raises holds the address whole

    def _authorization(self, url: str) -> str | None:
        return f"{self._scheme} {self._secret()}" if self._is_own(url) else None

    def _shown(self, path: str, options: Mapping[str, Any]) -> str:
        shown: str | None = options.get("shown")
        return shown or redact(path if "://" in path else f"{self.api}/{path.lstrip('/')}")

    # -- refusals ----------------------------------------------------------------------------

    def _refusal(self, response: requests.Response, shown: str) -> StoreError:
        status = response.status_code
        message, details = _said(response)
        limited, asked = self._limit(response, message)
        text = f"{shown}: {self.service} answers {status}"
        told = hide("; ".join(filter(None, [message, *map(_detail, details)])))
        if told:
            text += f", {textwrap.shorten(told, _MOST, placeholder=' …')}"
        hint = _HINTS.get(status)
        if hint:
            hint += f"; {self._rights}"
        kinds = {401: AccessDeniedError, 403: AccessDeniedError, 404: ObjectNotFoundError}
        kind = StoreError if limited else kinds.get(status, StoreError)
        if limited:
            hint = f"the rate limit ends in {asked:.0f} s; run the same command again after that"
        return kind(
            text,
            hint=hint,
            url=shown,
            transient=limited or status in TRANSIENT,
            retry_after=asked,
            limited=limited,
            status=status,
            details=details,
        )

    def _limit(self, response: requests.Response, message: str) -> tuple[bool, float | None]:
        """Return whether a refusal is a rate limit, and the seconds that it asks to wait."""
        headers = response.headers
        asked = retry.retry_after(headers.get("Retry-After"), self._now())
        used_up = headers.get("X-RateLimit-Remaining") == "0"
        words = "rate limit" in message.lower()
        if response.status_code != 429 and not (
            response.status_code == 403 and (used_up or words or asked is not None)
        ):
            return False, asked
        reset = headers.get("X-RateLimit-Reset", "")
        if asked is None and used_up and reset.isascii() and reset.isdigit():
            asked = max(0.0, float(reset) - self._now()) + 1.0
        return True, UNTOLD if asked is None else asked


class Answer(dict[str, Any]):
    """A table of a service's answer; what is not as documented is an error of that service."""

    def __init__(self, origin: str, shown: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.origin, self.shown = origin, shown

    def _get(self, key: str, kind: type[K], what: str) -> K:
        value = self.get(key)
        if isinstance(value, kind):
            return value
        raise self.wrong(key, what)

    def wrong(self, key: str, what: str) -> StoreError:
        """Return the error of a value that is another than expected, or is not there."""
        told = f"of {key!r} " if key else ""
        found = f"found {reprlib.repr(self[key])}" if key in self else "it is not there"
        return StoreError(
            f"{self.origin} answers with something else than is documented: expected {what} "
            f"{told}and {hide(found)}",
            hint="another server, or another version of the interface, may answer there",
            url=self.shown,
            unexpected=True,
        )

    def text(self, key: str) -> str:
        """Return a text."""
        value = self._get(key, str, "a text")
        if not value or any("\ud800" <= c < "\ue000" for c in value):
            raise self.wrong(key, "a text")
        return value

    def maybe(self, key: str) -> str | None:
        """Return a text that may be left out, null or empty."""
        return self.text(key) if self.get(key) else None

    def number(self, key: str) -> int:
        """Return a whole number; some services write it as text, or with a decimal point."""
        value: Any = self.get(key)
        try:
            number = value if isinstance(value, int) else int(float(value))
        except (TypeError, ValueError, OverflowError):
            number = -1
        if number < 0:
            raise self.wrong(key, "a number")
        return number

    def flag(self, key: str) -> bool:
        """Return true or false."""
        return self._get(key, bool, "true or false")

    def address(self, key: str) -> str:
        """Return a web address, which can stand in a line of a registry."""
        value = self.text(key)
        try:
            good = bool(urlsplit(value).hostname) and value.startswith(("https://", "http://"))
        except ValueError:
            good = False
        if not good or not value.isprintable() or " " in value:
            raise self.wrong(key, "a web address")
        return value

    def digest(self, key: str, alg: str) -> Digest:
        """Return a digest; ``alg`` is its algorithm where the text does not name one."""
        value = self.text(key)
        try:
            return Digest.parse(value if ":" in value else f"{alg}:{value}")
        except ValueError:
            raise self.wrong(key, "a digest") from None

    def table(self, key: str) -> Answer:
        """Return a table."""
        return self._get(key, Answer, "a table")

    def inner(self, key: str) -> Answer:
        """Return a table that may be left out: an empty one then."""
        value = self.get(key)
        return value if isinstance(value, Answer) else Answer(self.origin, self.shown, {})

    def tables(self, key: str) -> list[Answer]:
        """Return a list of tables."""
        found: list[Any] = self._get(key, list, "a list of tables")
        if not all(isinstance(one, Answer) for one in found):
            raise self.wrong(key, "a list of tables")
        return found


def parsed(content: str, origin: str, shown: str) -> Answer:
    """Return JSON as a table, whose only value has an empty name; errors name its origin."""

    def wrong(why: str) -> StoreError:
        said = hide(textwrap.shorten(content[:1000], 200, placeholder=" …"))
        why = "something that is no JSON" if why.startswith("not JSON") else f"JSON, but {why}"
        return StoreError(f"{origin} answered with {why}: {said!r}", url=shown, transient=True)

    found = parse_json(content, wrong, object_hook=functools.partial(Answer, origin, shown))
    return Answer(origin, shown, {"": found})


def is_loopback(host: str | None) -> bool:
    """Return True if a host is this machine, where nobody listens on the way."""
    return host in ("localhost", "::1") or (host or "").startswith("127.")


def _said(response: requests.Response) -> tuple[str, list[Any]]:
    """Return what a refusal says: its message and its details."""
    try:
        answer = parse_json(response.text, ValueError)
    except ValueError:
        return " ".join(response.text.split()), []
    if not isinstance(answer, dict):
        return "", []
    details = answer.get("errors") or answer.get("data") or []
    if isinstance(details, dict):
        details = [{"field": key, "message": value} for key, value in details.items()]
    return str(answer.get("message") or ""), details if isinstance(details, list) else [details]


def _detail(detail: Any) -> str:
    if not isinstance(detail, dict):
        return str(detail)
    words = [detail.get("field"), detail.get("code"), detail.get("message")]
    return " ".join(str(word) for word in words if word)


def status_of(error: BaseException) -> int:
    """Return the status with which a service refused; 0 if the error is another."""
    found: int = getattr(error, "status", 0)
    return found


def has_code(error: BaseException, code: str) -> bool:
    """Return True if a refusal's details have a code, such as ``already_exists``."""
    details = getattr(error, "details", ())
    return any(isinstance(detail, dict) and detail.get("code") == code for detail in details)
