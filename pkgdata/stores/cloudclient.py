"""The client of a bucket, on obstore: the extra ``pkgdata-cache[cloud]``; and what its errors mean.

The client is rooted at the bucket, and prefixes are ours, so that objects are copied within a
bucket by the service itself. Requests are repeated by obstore, which knows which of them may be; a
body that broke off is repeated here. The texts of its errors hold whole requests, keys and answers.
"""

from __future__ import annotations

import contextlib
import functools
import html
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from types import ModuleType
from typing import Any

from ..base import fs, retry
from ..base.config import conf
from ..base.hashes import Digest
from ..base.urls import ca_bundle, redact_text, tls_context
from ..errors import (
    AccessDeniedError,
    ConfigError,
    IncompleteTransferError,
    MissingExtraError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
    UnsafeNameError,
    UnsupportedOperationError,
)
from . import naming
from .objects import already_there
from .store import Store
from .wire import user_agent

Credentials = tuple[dict[str, Any], Callable[[], Any] | None, bool]

_STATUS = re.compile(r"status code: (\d{3})|Status\((\d{3})|status: (\d{3})")
_CODE = re.compile(r"(?:<Code>|\(code: )([A-Za-z0-9]+)(?:</Code>|\))")
_MESSAGE = re.compile(r"(?:<(?:Message|Details)>|failed for key .*?: )([^<]+?)(?:<| \(code)")
#: The object that was not deleted, of the many of a request.
_UNDELETED = re.compile(r"DeleteObjects request failed for key (.*): .*? \(code: ", re.DOTALL)
#: What came of a request, behind obstore's words about the request itself.
_ANSWER = re.compile(r"status code: (?:\d{3}[^:\n]*): (.*?)(?:\n\nDebug source|\Z)", re.DOTALL)
_REQUEST = re.compile(
    r"(?:Error performing|Error while sending|performing) ([A-Z]{3,6}|list request)\b"
)
_PREAMBLE = re.compile(
    r"Error performing [A-Z]+ \S+ in [^ ]+(?:, after .*?retry_timeout: \S+)? *- "
)

#: What was done, by obstore's word for it.
_VERBS = {
    "GET": "read", "HEAD": "look it up", "PUT": "write", "POST": "write", "DELETE": "delete",
    "list request": "list",
}  # fmt: skip

#: Characters of an answer that is no error of the service's own, such as a proxy's page.
_PAGE = 500

#: What to do about the codes that services answer.
_HINTS = {
    "AccessDenied": "these credentials may not do that there; ask the bucket's owner, or read a "
    "public bucket with anonymous=True (--anonymous)",
    "AllAccessDisabled": "the bucket's owner has closed it",
    "AuthorizationHeaderMalformed": "give the bucket's region: region= or --region",
    "PermanentRedirect": "give the bucket's region: region= or --region",
    "IllegalLocationConstraintException": "give the bucket's region: region= or --region",
    "EntityTooLarge": "the service takes no object of this size by one request",
    "InvalidStorageClass": "the bucket does not know this storage class",
    "UserProjectMissing": "who reads pays: request_payer= or --request-payer PROJECT",
    "SignatureDoesNotMatch": "the secret key is not the one that belongs to the access key",
    "AuthenticationFailed": "the account's key is wrong, or this computer's clock",
    "InvalidAccessKeyId": "the access key is not known there; check the profile and the endpoint",
    "ExpiredToken": "log in again: the session's token has expired",
    "InvalidToken": "log in again: the session's token is not accepted",
    "RequestTimeTooSkewed": "set this computer's clock",
    "XAmzContentSHA256Mismatch": "the bytes changed on the way; try again",
    "BadDigest": "the bytes changed on the way; try again",
    "AccessControlListNotSupported": "this bucket takes no ACL; give it a bucket policy instead",
    "QuotaExceeded": "the bucket is full",
}
#: What went wrong, by words of an error without an answer; the first that is found counts.
_SIGNS = {
    "dns error": "cannot resolve the host name",
    "failed to lookup": "cannot resolve the host name",
    "connection refused": "connection refused",
    "certificate": "the server's certificate is not trusted; see SSL_CERT_FILE",
    "connection reset": "the connection was reset",
    "end of file before message": "the connection closed early",
    "connection closed": "the connection closed early",
    "broken pipe": "the connection closed early",
    "incompletemessage": "the connection closed early",
    "timed out": "timed out while waiting for bytes",
    "timedout": "timed out while waiting for bytes",
    "credential": "no usable credentials",
    "token": "no usable credentials",
}
#: What a conflict means that the object is there; obstore takes every conflict for that.
_EXISTS = {"", "BlobAlreadyExists", "ConditionalRequestConflict"}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}


class NoSuchRangeError(StoreError):
    """The range begins at the object's end or behind it."""


class PreconditionError(StoreError):
    """The object is not the one that was asked for."""


class Refusal(OSError):
    """The answer to a request of our own, in obstore's words."""


def translate(
    error: Exception,
    url: str,
    address: str,
    in_body: bool,
    signs: bool = True,
    sent: Collection[str] = (),
) -> Exception:
    """Translate an obstore error into one of this package; ``in_body`` once bytes have come."""
    if isinstance(error, PkgdataError):
        return error  # one of ours, which Python's own classes are parents of
    text = redact_text(str(error), sent)
    if type(error) is ValueError:
        return UnsafeNameError(f"{address}: {text.partition(chr(10))[0]}", name=address)
    kind = type(error).__name__
    if kind == "InvalidPathError":
        return UnsafeNameError(f"{address}: {text.partition(chr(10))[0]}", name=address)
    said = _CODE.search(text)
    code = said[1] if said else ""
    found = _STATUS.search(text)
    status = int(next(filter(None, found.groups()))) if found else 0
    if code in _NO_BUCKET:
        return StoreError(
            f"{url}: there is no such bucket",
            hint="check its name and the endpoint; buckets are not made by writing to them",
            url=address,
        )
    if kind in ("NotFoundError", "FileNotFoundError") or (kind == "Refusal" and status == 404):
        return ObjectNotFoundError(f"{address}: no such object", url=address)
    if kind == "AlreadyExistsError" and (status != 409 or code in _EXISTS):
        return already_there(address)
    if kind == "PreconditionError" or (kind == "Refusal" and status == 412):
        return PreconditionError(f"{address}: it changed", url=address)
    if status == 416 or "InvalidRange" in text or "start index" in text.lower():
        return NoSuchRangeError(f"{address}: no such range", url=address)
    if "non-partial response" in text:
        return UnsupportedOperationError(
            f"{address}: the service does not serve ranges", hint="read all of it", url=address
        )
    return _other(kind, text, code, status, address, in_body, signs)


def accepted(method: str, answer: Any) -> Any:
    """Return the answer to a request of our own, or raise what it refuses as obstore would."""
    late = answer.status_code == 200 and b"<Error>" in answer.content[:300]
    if answer.status_code < 300 and not late:
        return answer
    status = 500 if late else answer.status_code
    bare = "BareRedirect" if status in (301, 307) else ""
    raise Refusal(
        f"Error performing {method} x - Server returned non-2xx status code: "
        f"{status} {bare}: {answer.text}"
    )


def is_unanswered(error: Exception) -> bool:
    """Return True if no answer came, or not all of it, and obstore did not repeat the request."""
    text = str(error)
    return not _STATUS.search(text) and ("retries: 0," in text or "list response body" in text)


def is_expired(error: Exception) -> bool:
    """Return True if keys were refused because their time is over."""
    said = _CODE.search(str(error))
    return said is not None and said[1] in ("ExpiredToken", "TokenRefreshRequired")


def _other(
    kind: str, text: str, code: str, status: int, address: str, in_body: bool, signs: bool
) -> StoreError | IncompleteTransferError:
    reason, hint = _reason(text, code, status), _HINTS.get(code)
    if in_body:
        return IncompleteTransferError(f"{address}: broke off: {reason}", url=address)
    asked = _REQUEST.search(text)
    verb = _VERBS.get(asked[1], "reach it") if asked else "reach it"
    if _UNDELETED.search(text):
        verb = "delete"
    said = f"{address}: cannot {verb}: {reason}"
    denied = kind in ("PermissionDeniedError", "UnauthenticatedError") or code == "AccessDenied"
    if denied or status in (401, 403):
        if not signs:
            hint = (
                "nothing was signed: set the provider's variables or profile, give secrets=, "
                "or leave out anonymous"
            )
        return AccessDeniedError(said, hint=hint or _HINTS["AccessDenied"], url=address)
    if "BareRedirect" in text:
        hint = _HINTS["PermanentRedirect"]
    again = kind == "Refusal" and (status >= 500 or status == 429)
    return StoreError(said, hint=hint, url=address, transient=again)


def _reason(text: str, code: str, status: int) -> str:
    """Return what went wrong in one line, without the request, which may hold keys."""
    if status or code:
        message, answer = _MESSAGE.search(text), _ANSWER.search(text)
        words = message[1] if message else ""
        if not code and answer:  # a page, or plain text
            words = re.sub(r"<[^>]*>", " ", answer[1])[:_PAGE]
        shown = (f"status {status}" if status else "", code, html.unescape(words).rstrip(" .\n"))
        return _line(", ".join(filter(None, shown)))
    lower = text.lower()
    for sign, meaning in _SIGNS.items():
        if sign in lower:
            return meaning
    said = _PREAMBLE.split(text.partition("\n\nDebug source")[0])[-1]
    return "the request failed: " + _line(re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", said))


def _line(text: str) -> str:
    return " ".join(text.split())


#: How the names of variables begin that obstore reads.
_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_")

#: Requests at once: most of the time of a small object is the way there and back.
_REQUESTS = 64

#: Seconds that obstore spends on one request with all its repetitions.
_REPEATING = 180


def _obstore() -> ModuleType:
    try:
        import obstore.store
    except ImportError:
        raise MissingExtraError(
            "s3, gs and az need the package obstore, which is not installed",
            hint="pip install 'pkgdata-cache[cloud]'",
        ) from None
    return obstore


class CloudClient(Store):
    """The client of a bucket and its answers."""

    cloud = True
    #: The provider, for messages, its class in obstore, and the word for its endpoint there.
    kind, maker, endpoint_word = "", "", "endpoint"
    #: How an address is signed for HEAD; Azure signs rights, of which obstore gives HEAD none.
    signed_method = "HEAD"

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._obstore = _obstore()
        #: Whether requests are signed; known once there is a client.
        self.signs = True
        #: What obstore raises; Python's own errors too.
        self.errors = (self._obstore.exceptions.BaseError, ValueError, OSError)
        self._place = naming.BucketUrl(self._url, options.get("endpoint"))
        self._root = f"{self._place.prefix}/" if self._place.prefix else ""
        self._clients: dict[bool, Any] = {}
        #: What is signed with, or shown to the service.
        self._used: Any = {}
        #: What the source of keys failed with when it was last asked.
        self.no_keys: Exception | None = None
        self._lock = threading.Lock()

    @property
    def threads(self) -> int:
        return self._threads if self._threads is not None else max(_REQUESTS, super().threads)

    # -- the client ----------------------------------------------------------------------------

    def client(self, public: bool = False) -> Any:
        """Return obstore's client; if public, one whose objects everybody may read."""
        found = self._clients.get(public)
        if found is None:
            with self._lock:
                found = self._clients.get(public) or self._connect(public)
                self._clients[public] = found
        return found

    def _connect(self, public: bool) -> Any:
        headers = self._public_headers() if public else {}
        if endpoint := self._endpoint():
            naming.checked_endpoint(endpoint)  # obstore panics
        try:
            config, provider, found = self._credentials(self._secrets())
            self._used = dict(config)
            anonymous = self._options.get("anonymous")
            self.signs = found if anonymous is None else not anonymous
            if not self.signs:
                config, provider = {"skip_signature": True}, None
            if endpoint:
                config[self.endpoint_word] = endpoint
            options = self._client_options(headers)
            self._complete(config, options)
            return getattr(self._obstore.store, self.maker)(
                self._place.bucket,
                config=config,
                client_options=options,
                retry_config={
                    "max_retries": int(conf.retries),
                    "retry_timeout": timedelta(seconds=_REPEATING),
                    "backoff": {
                        "init_backoff": timedelta(seconds=retry.POLICY.first),
                        "max_backoff": timedelta(seconds=retry.POLICY.longest),
                        "base": 3,
                    },
                },
                credential_provider=provider,
            )
        except PkgdataError:
            raise
        except (*self.errors, TypeError) as error:
            text = redact_text(str(error), self._sent(self._secrets()))
            text = text.partition("\n")[0].partition("Debug source")[0]
            raise ConfigError(f"{self.url}: {text}") from None

    def _sent(self, keys: Mapping[str, Any]) -> set[str]:
        """Return secrets that a service may repeat, also those of the environment."""
        found = {key: value for key, value in os.environ.items() if key.startswith(_CLOUDS)}
        found.update(keys or {})
        public = ("account", "region", "endpoint", "expir", "tenant", "profile")
        return {str(v) for k, v in found.items() if v and not any(w in k.lower() for w in public)}

    def _credentials(self, secrets: dict[str, Any]) -> Credentials:
        """Return settings with credentials, a source of them, and whether there are any."""
        raise NotImplementedError

    def _complete(self, config: dict[str, Any], client: dict[str, Any]) -> None:
        """Add to the settings what is wanted of those who do not sign too."""
        raise NotImplementedError

    def _public_headers(self) -> dict[str, str]:
        raise UnsupportedOperationError(
            f"{self.url}: {self.kind} has no access rules for single objects",
            hint="make the container public",
        )

    def _secrets(self) -> dict[str, Any]:
        secrets = self._options.get("secrets")
        return {} if secrets is None or callable(secrets) else naming.read_secrets(secrets)

    def _client_options(self, headers: dict[str, str]) -> dict[str, Any]:
        options: dict[str, Any] = {
            "connect_timeout": timedelta(seconds=self.timeout),
            # of the silence between bytes; the default, of the whole, would cut large objects off
            "read_timeout": timedelta(seconds=self.timeout),
            "timeout": timedelta(days=7),
            "user_agent": user_agent(),
        }
        if (self._endpoint() or "").startswith("http://"):
            options["allow_http"] = True
        if headers:
            options["default_headers"] = headers
        path = ca_bundle()
        if path and os.path.isfile(path):
            with open(path, "rb") as file:
                options["root_certificate"] = file.read()
        return options

    def _endpoint(self) -> str | None:
        return self._place.endpoint

    def _key(self, name: str) -> str:
        return self._root + fs.safe_key(name)

    @contextlib.contextmanager
    def translating(
        self, name: str, in_body: bool = False, harmless: bool = False
    ) -> Iterator[None]:
        """Translate obstore's errors; what is ``harmless`` when done twice may be retried."""
        try:
            yield
        except self.errors as error:
            found = self._translated(error, name, in_body)
            if harmless and isinstance(found, StoreError) and is_unanswered(error):
                found.transient = True
            raise found from None

    def _translated(self, error: Exception, name: str, in_body: bool) -> Exception:
        failure = self.no_keys
        if failure is not None and type(error).__name__ == "UnauthenticatedError":
            # obstore would call keys that cannot be had a refusal
            if isinstance(failure, ConfigError):
                raise ConfigError(f"{self.url}: {failure.message}", hint=failure.hint) from failure
            what = type(failure).__name__
            text = f"{self.url}: the function that was given as secrets failed: {what}"
            raise ConfigError(text) from failure
        if undeleted := _UNDELETED.search(str(error)):
            name = undeleted[1].removeprefix(self._root)
        sent = self._sent(self._used)
        found = translate(error, self.url, self.address(name), in_body, self.signs, sent)
        if callable(self._options.get("secrets")) and is_expired(error):
            self._clients = {}  # the next one asks for keys again
            found.transient = True  # type: ignore[attr-defined]  # such errors are StoreErrors
        return found

    def asked(self, keys: Callable[[], Any]) -> Callable[[], Any]:
        """Wrap a source of keys, to know why it fails."""

        @functools.wraps(keys)  # its attributes too: obstore's own sources have some that it reads
        def ask() -> Any:
            try:
                self._used = found = keys()
            except Exception as error:
                self.no_keys = error
                raise
            self.no_keys = None
            return found

        return ask

    # -- requests ------------------------------------------------------------------------------

    def asking(self, request: Callable[[Any], Any], public: bool = False) -> Any:
        """Send a request of a client; once more if the answer shows that another client is due."""
        client = self.client(public)
        try:
            return request(client)
        except self.errors as error:
            self._learn(str(error))
            if self.client(public) is client:
                raise
            return request(self.client(public))

    def _learn(self, text: str) -> None:
        """Take from an error what the next client should do otherwise, and drop this one."""

    def _get(self, name: str, options: dict[str, Any]) -> Any:
        key = self._key(name)
        with self.translating(name):
            return self.asking(lambda client: self._obstore.get(client, key, options=options))

    def part(
        self, name: str, start: int, stop: int | None, validator: str | None = None
    ) -> Any | None:
        """Ask for a range of an object; None if it has no bytes, or the object another ETag."""
        options: dict[str, Any] = {}
        if start or stop is not None:
            options["range"] = {"offset": start} if stop is None else (start, stop)
            if validator:
                options["if_match"] = validator
        try:
            return self._get(name, options)
        except (NoSuchRangeError, PreconditionError):
            return None

    def headers_of(self, name: str) -> Mapping[str, str]:
        """Return the headers of an object that obstore does not pass on; none if that failed."""
        import http.client
        import urllib.error
        import urllib.request

        # the signed address never leaves this call, which is why it is not asked for by requests,
        # which logs addresses
        try:
            url = self._obstore.sign(
                self.client(), self.signed_method, self._key(name), expires_in=timedelta(minutes=5)
            )
            request = urllib.request.Request(url, method="HEAD")
            context = tls_context() if url.startswith("https:") else None
            with urllib.request.urlopen(request, timeout=self.timeout, context=context) as answer:
                found: Mapping[str, str] = answer.headers
                return found
        except (*self.errors, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            return {}

    def digest_of(self, meta: Mapping[str, Any], kept: Mapping[str, str]) -> Digest | None:
        """Return the digest that the service reports, of obstore's metadata and attributes."""
        return as_md5(meta["e_tag"])


def as_md5(etag: str | None) -> Digest | None:
    """Read an ETag that is an MD5, as those of objects are that were not written in parts."""
    text = (etag or "").strip('"').lower()
    if len(text) != 32 or text.strip("0123456789abcdef"):
        return None
    return Digest("md5", text)
