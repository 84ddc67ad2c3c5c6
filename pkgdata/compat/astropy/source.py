"""One URL as a store: with headers of the caller's, TLS settings of the caller's, and a condition.

The stores of a package's mirrors know none of these on purpose; code written for astropy asks for
them.
"""

from __future__ import annotations

import os

from ...base.config import conf
from ...base.urls import redact, rewrite, scheme
from ...errors import PkgdataError, PkgdataWarning, StoreError, warn
from ...stores import http as web
from ...stores import open_store
from .errors import find_cause

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from typing import Any

    import requests

    from ...stores import Body

#: Seconds by which a change must precede the answer for its date to tell two versions apart.
_SETTLED = 60.0


class UnmodifiedError(Exception):
    """The server answers that what we have is what it has."""


class Wish:
    """How the caller wants a URL to be asked.

    Parameters
    ----------
    timeout : float
        Seconds to connect, and between bytes.
    headers : mapping of str to str, optional
        Sent with each HTTP request.
    tls : mapping, optional
        Arguments of `ssl.create_default_context`; ``certfile``, ``keyfile`` and ``password`` are
        for `ssl.SSLContext.load_cert_chain`.
    insecure : bool, default False
        Go on, with a warning, where a certificate cannot be verified.
    """

    def __init__(
        self,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        tls: Mapping[str, Any] | None = None,
        insecure: bool = False,
    ) -> None:
        self.timeout = timeout
        # bytes are counted and kept as they are on the wire
        self.headers = {k: v for k, v in (headers or {}).items() if k.lower() != "accept-encoding"}
        self.tls = dict(tls or {})
        self.insecure = insecure
        if not self.tls.get("certfile") and {"keyfile", "password"} & set(self.tls):
            raise ValueError("ssl_context has a keyfile or password, which need a certfile as well")


def open_url(url: str, wish: Wish, condition: Mapping[str, str] | None = None) -> Any:
    """Return a URL's store. Nothing is contacted yet.

    Parameters
    ----------
    url : str
        The configured rewrites are applied to it.
    condition : mapping of str to str, optional
        Headers that ask for the bytes only if they changed.

    Returns
    -------
    Store
        One that fails when it is opened, if the URL is of no known kind.
    """
    url = rewrite(url, conf.rewrite)
    try:
        if scheme(url) in ("http", "https"):
            return UrlStore(url, wish=wish, condition=condition)
        if scheme(url) == "ftp":
            from ...stores.ftp import FtpStore

            return FtpStore(url, wish.timeout, lambda: _context(wish.tls, wish.insecure))
        return open_store(url, timeout=wish.timeout)
    except PkgdataError as error:
        return _Unknown(url, error)


class _Unknown:
    """Stands in for the store of a URL that none understands."""

    def __init__(self, url: str, error: PkgdataError) -> None:
        self.url = redact(url)
        self._error = error

    def address(self, _: str) -> str:
        return self.url

    def open(self, *_: object) -> Body:
        raise StoreError(self._error.message, url=self.url, hint=self._error.hint)


class UrlStore(web.HttpStore):
    """One HTTP URL, asked as the caller wishes."""

    def __init__(self, url: str, *, wish: Wish, condition: Mapping[str, str] | None = None) -> None:
        super().__init__(url, timeout=wish.timeout)
        self.exact = True  # bytes as they come
        self._wish = wish
        self._condition = dict(condition or {})
        #: ``code``, ``msg``, ``headers`` and ``url`` of the last answer.
        self.answer: dict[str, Any] = {}

    def validators(self) -> dict[str, str]:
        """Return the headers that ask whether the object is still as it came last.

        Returns
        -------
        dict of str to str
            Empty if the server gave nothing to ask with.
        """
        headers = self.answer.get("headers") or {}
        etag = headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            return {"If-None-Match": etag}
        changed = headers.get("Last-Modified", "")
        return {"If-Modified-Since": changed} if _is_settled(changed, headers) else {}

    def _request(self, method: str, name: str, headers: dict[str, str]) -> requests.Response:
        extra = {"Accept": "*/*", **self._wish.headers, **self._condition, **headers}
        try:
            response = self._send(method, name, extra, False)
        except StoreError as error:
            if not _is_unverified(error):
                raise
            text = (
                f"Verification of TLS/SSL certificate at {self.url} failed: the server is "
                "misconfigured, or the certificates of this machine are out of date; "
                "'pip install -U certifi' may help"
            )
            if not self._wish.insecure:
                raise StoreError(
                    f"{text} ({error.message})",
                    url=self.url,
                    hint="allow_insecure=True goes on all the same; know what that means",
                ) from error
            warn(f"{text}. Going on without, as allow_insecure=True says.", PkgdataWarning)
            response = self._send(method, name, extra, True)
        self._note(response)
        return response

    def _send(
        self, method: str, name: str, headers: dict[str, str], insecure: bool
    ) -> requests.Response:
        login = any(key.lower() == "authorization" for key in headers)
        if not (self._wish.tls or insecure or login):
            return super()._request(method, name, headers)
        from urllib3.exceptions import HTTPError

        agent = {"Accept-Encoding": "identity", "User-Agent": web.user_agent()}
        try:
            return _session(self._wish.tls, insecure).request(
                method,
                self._full(name),
                headers={**agent, **headers},
                # a login of the caller's stands before that of ~/.netrc
                auth=(lambda request: request) if login else None,
                stream=True,
                allow_redirects=True,
                timeout=(self.timeout, self.timeout),
            )
        except StoreError:
            raise
        except (OSError, HTTPError, UnicodeError) as error:
            raise web._translate(error, self.address(name)) from error

    def _note(self, response: requests.Response) -> None:
        self.answer = {
            "code": response.status_code,
            "msg": response.reason or "",
            "headers": response.headers,
            "url": response.url,
        }
        if response.status_code == 304 and self._condition:
            response.close()
            raise UnmodifiedError(self.url)


def _is_unverified(error: StoreError) -> bool:
    import ssl

    return find_cause(error, ssl.SSLCertVerificationError) is not None


def _is_settled(changed: str, headers: Mapping[str, str]) -> bool:
    """Say whether a date of change tells versions apart: a second has room for several."""
    from email.utils import parsedate_to_datetime

    try:
        before = parsedate_to_datetime(changed).timestamp()
        return parsedate_to_datetime(headers.get("Date", "")).timestamp() - before >= _SETTLED
    except (ValueError, TypeError):
        return False


# -- TLS -----------------------------------------------------------------------------------------

_sessions: dict[object, requests.Session] = {}


def _session(tls: Mapping[str, Any], insecure: bool) -> requests.Session:
    """Return this process's session for some TLS settings."""
    key = (os.getpid(), insecure, tuple(sorted((k, str(v)) for k, v in tls.items())))
    found = _sessions.get(key)
    if found is None:
        found = web._session_class()()
        found.mount("https://", _adapter(_context(tls, insecure), insecure))
        _sessions[key] = found
    return found


def _context(tls: Mapping[str, Any], insecure: bool) -> ssl.SSLContext:
    import ssl

    wanted = dict(tls)
    chain = {key: wanted.pop(key) for key in ("certfile", "keyfile", "password") if key in wanted}
    if "cafile" not in wanted:
        import certifi

        bundle = web._ca_bundle()
        wanted["cafile"] = bundle if isinstance(bundle, str) else certifi.where()
    context = ssl.create_default_context(**wanted)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if chain:
        context.load_cert_chain(**chain)
    return context


def _adapter(context: ssl.SSLContext, insecure: bool) -> Any:
    import warnings

    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import InsecureRequestWarning

    class Adapter(HTTPAdapter):
        """Leaves all decisions about certificates to one context."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, ssl_context=context, **kwargs)

        def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
            return super().proxy_manager_for(proxy, ssl_context=context, **kwargs)

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            conn.cert_reqs = "CERT_NONE" if insecure else "CERT_REQUIRED"
            conn.ca_certs = conn.ca_cert_dir = None

        def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
            with warnings.catch_warnings():
                if insecure:  # we warned, at the caller's line
                    warnings.simplefilter("ignore", InsecureRequestWarning)
                return super().send(request, *args, **{**kwargs, "verify": not insecure})

    return Adapter()
