"""One unpinned URL: its sources as stores, the transfer, and the error when all of them fail.

The stores of a package's mirrors take no headers, TLS settings or conditions on purpose; code
written for astropy asks for them, so that a URL has a store of its own here.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import warnings
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from ...base.config import conf, is_offline, resolve
from ...base.urls import ca_bundle, redact, redact_text, rewrite, scheme
from ...cache import unpinned_dirs
from ...cache.objects import Cache
from ...cache.unpinned import UNCHANGED, Scratch, UrlCache, Validators, folder_name
from ...errors import (
    AllMirrorsFailedError,
    CacheError,
    PkgdataError,
    PkgdataWarning,
    StoreError,
    escaped,
    warn,
)
from ...stores import Body, Source, open_store
from ...stores import http as web
from ...stores.other import FtpStore
from ...stores.wire import adapter, new_session
from ...transfer.fetch import fetch, shown
from ...transfer.one import unexpected_page
from .errors import DownloadSpaceError, UrlOfflineError, failed, find_cause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    import requests

    from ...base.progress import Callback
    from ...cache.partial import Partial

#: Endings of files that are never HTML pages.
_DATA = frozenset(
    (
        *("fits", "fit", "fts", "asdf", "vot", "ecsv", "csv", "tbl", "dat", "bin", "json", "bsp"),
        *("h5", "hdf5", "hdf", "nc", "npy", "npz", "parquet", "png", "jpg", "jpeg", "tif", "tiff"),
        *("gz", "bz2", "xz", "zst", "z", "zip", "tar", "tgz", "7z"),
    )
)

#: Seconds by which a change must precede the answer for its date to distinguish two versions.
_SETTLED = 60.0


class RequestOptions(NamedTuple):
    """How a URL is requested: seconds, headers, arguments of an SSL context, unverified or not."""

    timeout: float
    headers: Mapping[str, str] | None = None
    #: Of `ssl.create_default_context`; certfile, keyfile and password are for `load_cert_chain`.
    tls: Mapping[str, Any] | None = None
    insecure: bool = False


class UrlJob:
    """One URL to fetch, from some sources instead of from itself if there are any."""

    def __init__(
        self,
        url: str,
        sources: Sequence[str] | None,
        pkgname: str,
        show: Callback,
        timeout: float | None,
        *options: Any,
    ) -> None:
        self.url = url
        self._from = [url] if sources is None else list(dict.fromkeys(sources))
        self._pkgname = pkgname
        self._show = show
        self._options = RequestOptions(
            conf.remote_timeout if timeout is None else timeout, *options
        )
        if not self._from:
            raise KeyError(
                f"{redact(url)} is not in the cache, and no source is listed to fetch it from"
            )
        if is_offline():
            why = "allow_internet is false or offline is true"
            raise UrlOfflineError(
                f"URL {redact(url)} was to be downloaded, but {why}",
                hint="'pkgdata config' shows where that is set",
                name=url,
                reason=why,
            )

    def to_temporary(self) -> str:
        """Fetch the URL into a temporary file and return its path."""
        with _explained(self.url):
            with Scratch() as partial:
                self.fill(partial)
            return partial.path

    def into(self, cache: UrlCache, update: bool, rescue: Callable[[str, OSError], str]) -> str:
        """Fetch the URL into a cache and return its path there; see `UrlCache.obtain`."""
        try:
            root = unpinned_dirs.pkgdata_root(self._pkgname)
        except CacheError:  # no home directory, but a place for the downloads
            with _explained(self.url):
                return cache.obtain(self.url, None, self.fill, update, rescue)
        validators = Validators(root, self._pkgname, folder_name(self.url))
        here = cache.find(self.url) if update else None

        def fill(partial: Partial) -> object:
            return self.fill(partial, validators, here)

        try:
            locker = Cache(root, conf.lock_timeout)
            with _explained(self.url):
                return cache.obtain(self.url, locker, fill, update, rescue)
        except CacheError as error:
            raise _as_oserror(error) from error

    def fill(
        self, partial: Partial, validators: Validators | None = None, here: str | None = None
    ) -> object:
        """Write the URL's bytes into a file; return `UNCHANGED` if the file `here` has them."""
        # without its secrets and its query, for bars and errors
        name = redact(self.url.partition("?")[0].partition("#")[0])
        with shown(name, self._show, lambda: partial.offset):
            stores = [self._open(url, validators, here) for url in self._from]
            sources = [Source(store, "") for store in stores]
            try:
                store = fetch(
                    *(name, partial, sources, None, None, self._show),
                    check=unexpected,
                    retries=_rounds(),
                ).source.store
            except UnmodifiedError as unmodified:
                if validators is not None and here is not None:
                    validators.confirm(unmodified.url, here)
                return UNCHANGED
            except AllMirrorsFailedError as error:
                raise self._failure(error, stores[0]) from error.attempts[0][1]
            except CacheError as error:
                raise _as_oserror(error) from error
            if validators is not None:
                asked = (
                    (store.asked, store.validators()) if isinstance(store, UrlStore) else ("", {})
                )
                validators.note(*asked, os.fstat(partial.fd))
            return None

    def _open(self, url: str, validators: Validators | None, here: str | None) -> Any:
        known = {}
        if validators is not None and here is not None:
            known = validators.conditions(url, here)
        return open_url(url, self._options, known)

    def _failure(self, error: AllMirrorsFailedError, first: Any) -> PkgdataError:
        attempts = list(error.attempts)
        lines = [getattr(one, "message", str(one)) for _, one in attempts]
        if len(self._from) == 1:
            hint = getattr(attempts[0][1], "hint", None)
            answer = getattr(first, "answer", {})
            facts = answer if answer.get("code", 0) >= 300 else {}
            return failed(lines[0], attempts, name=self.url, hint=hint, **facts)
        text = "\n  ".join([f"unable to open any source of {redact(self.url)}:", *lines])
        return failed(text, attempts, name=self.url, hint=error.hint)


def unexpected(name: str, head: bytes, size: int, body: Body) -> str | None:
    """Return why bytes cannot be the URL's; more patient than `unexpected_page`.

    A file may be empty if its length says so, and HTML unless its name is that of data.
    """
    if size == 0:
        return None if body.size == 0 else "the server sent no bytes"
    file = name.partition("://")[2].partition("/")[2].rpartition("/")[2]
    ending = file.rpartition(".")[2].lower()
    page = body.kind == "file" or ending not in _DATA
    # how the bytes are compressed that are left is the caller's business
    return unexpected_page("page.html" if page else file, head, size, Body(0, None))


def _as_oserror(error: CacheError) -> CacheError:
    """Return the error for a disk that is full or fails, as one that is an OSError too."""
    if isinstance(error, OSError):
        return error
    return DownloadSpaceError(error.message, hint=error.hint)


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Translate what the system says of the file that a URL is written to."""
    try:
        yield
    except OSError as error:
        if isinstance(error, PkgdataError):
            raise
        why = f"{error.strerror or error}{': ' if error.filename else ''}{error.filename or ''}"
        raise DownloadSpaceError(
            f"{redact(url)} cannot be kept on this disk: {why}",
            hint="look whether it is full (df), also of files (df -i), or fails (dmesg); "
            "TMPDIR and XDG_CACHE_HOME name others",
        ) from error


def _rounds() -> int:
    """Return how often all sources are tried again; once by default.

    Callers who know astropy expect an error after one timeout, not after five.
    """
    retries, where = resolve("retries")
    return 1 if where == "default" else int(retries)


# -- a URL as a store ----------------------------------------------------------------------------


class UnmodifiedError(Exception):
    """The server answers that what we have is what it has."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


def open_url(url: str, options: RequestOptions, condition: Mapping[str, str]) -> Any:
    """Return a URL's store; condition: headers that ask for the bytes only if they changed.

    Of an unknown kind of URL it is one that fails when it is opened.
    """
    asked, url = url, rewrite(url, conf.rewrite)
    tls = dict(options.tls or {})
    if not tls.get("certfile") and {"keyfile", "password"} & set(tls):
        raise ValueError("ssl_context has a keyfile or password, which need a certfile as well")
    try:
        if scheme(url) in ("http", "https"):
            return UrlStore(url, asked=asked, options=options, condition=condition)
        if scheme(url) == "ftp":
            return FtpStore(url, options.timeout, lambda: _context(tls, options.insecure))
        return open_store(url, timeout=options.timeout)
    except PkgdataError as error:
        return _Unknown(url, error)


class _Unknown:
    """Stands in for the store of a URL of an unknown kind."""

    def __init__(self, url: str, error: PkgdataError) -> None:
        self.url = redact(url)
        self._error = error

    def address(self, _: str) -> str:
        return self.url

    def open(self, *_: object) -> Body:
        raise StoreError(self._error.message, url=self.url, hint=self._error.hint)


class UrlStore(web.HttpStore):
    """One HTTP URL, requested with the caller's options; `asked` is it before any rewrite."""

    def __init__(
        self, url: str, *, asked: str, options: RequestOptions, condition: Mapping[str, str]
    ) -> None:
        super().__init__(url, timeout=options.timeout)
        self.exact = True  # bytes as they come
        self.asked = asked
        self._tls = dict(options.tls or {})
        self._insecure = options.insecure
        # bytes are counted and kept as they are on the wire
        given = (options.headers or {}).items()
        self._headers = {key: text for key, text in given if key.lower() != "accept-encoding"}
        self._condition = condition
        #: ``code``, ``msg``, ``headers`` and ``url`` of the last answer.
        self.answer: dict[str, Any] = {}

    def validators(self) -> dict[str, str]:
        """Return the headers that ask whether the object has changed, if there are any."""
        headers = self.answer.get("headers") or {}
        etag = headers.get("ETag", "")
        if etag and not etag.startswith("W/"):
            return {"If-None-Match": etag}
        changed = headers.get("Last-Modified", "")
        return {"If-Modified-Since": changed} if _is_settled(changed, headers) else {}

    def _request(self, method: str, name: str, headers: dict[str, str]) -> requests.Response:
        extra = {"Accept": "*/*", **self._headers, **self._condition, **headers}
        try:
            response = self._send(method, name, extra, False)
        except StoreError as error:
            if find_cause(error, ssl.SSLCertVerificationError) is None:
                raise
            text = (
                f"Verification of TLS/SSL certificate at {self.url} failed: the server is "
                "misconfigured, or the certificates of this machine are out of date; "
                "'pip install -U certifi' may help"
            )
            if not self._insecure:
                raise StoreError(
                    f"{text} ({error.message})",
                    url=self.url,
                    hint="allow_insecure=True continues without verification; know what that means",
                ) from error
            warn(f"{text}. Continuing without, as allow_insecure=True says.", PkgdataWarning)
            response = self._send(method, name, extra, True)
        self._note(response)
        return response

    def _send(
        self, method: str, name: str, headers: dict[str, str], insecure: bool
    ) -> requests.Response:
        how: dict[str, Any] = {}
        if self._tls or insecure:
            # the context decides about certificates
            how = {"through": _session(self._tls, insecure), "verify": True}
        return web.request(
            *(method, self._full(name), headers, self.timeout, self.address(name)), **how
        )

    def _note(self, response: requests.Response) -> None:
        self.answer = {
            "code": response.status_code,
            "msg": escaped(redact_text(response.reason or "", web.sent_for(response)), but=""),
            "headers": response.headers,
            "url": response.url,
        }
        if response.status_code == 304 and self._condition:
            response.close()
            raise UnmodifiedError(self.asked)


def _is_settled(changed: str, headers: Mapping[str, str]) -> bool:
    """Return True if a date of change distinguishes versions: one second can have several."""
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
        found = new_session()
        found.mount("https://", _adapter(_context(tls, insecure), insecure))
        _sessions[key] = found
    return found


def _context(tls: Mapping[str, Any], insecure: bool) -> ssl.SSLContext:
    wanted = dict(tls)
    chain = {key: wanted.pop(key) for key in ("certfile", "keyfile", "password") if key in wanted}
    if "cafile" not in wanted:
        import certifi

        bundle = ca_bundle() or certifi.where()
        wanted.setdefault("capath" if os.path.isdir(bundle) else "cafile", bundle)
    context = ssl.create_default_context(**wanted)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if chain:
        context.load_cert_chain(**chain)
    return context


def _adapter(context: ssl.SSLContext, insecure: bool) -> Any:
    from urllib3.exceptions import InsecureRequestWarning

    # the base is made at the first call, since requests is imported late
    class Adapter(adapter()):  # type: ignore[misc]
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
                found: requests.Response = super().send(
                    request, *args, **{**kwargs, "verify": not insecure}
                )
                return found

    return Adapter()
