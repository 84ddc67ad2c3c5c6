"""The client of a bucket, on obstore: the extra ``pkgdata-cache[cloud]``; and what its errors mean.

The client is rooted at the bucket, and prefixes are ours, so that objects are copied within a
bucket by the service itself. Requests are repeated by obstore, which knows which of them may be; a
body that broke off is repeated here. The texts of its errors hold whole requests, keys and answers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
from datetime import timedelta

from ..base import fs, retry
from ..base.config import conf
from ..base.hashes import Digest
from ..base.urls import ca_bundle
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
from .http import user_agent
from .objects import already_there
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType
    from typing import Any

    Credentials = tuple[dict[str, Any], Callable[[], Any] | None, bool]

_STATUS = re.compile(r"status code: (\d{3})|Status\((\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_MESSAGE = re.compile(r"<(?:Message|Details)>([^<]{1,200})")

#: What to do about the codes that services answer.
_HINTS = {
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
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}


class NoSuchRangeError(StoreError):
    """The range begins at the object's end or behind it."""


class PreconditionError(StoreError):
    """The object is not the one that was asked for."""


def translate(error: Exception, url: str, address: str, in_body: bool) -> Exception:
    """Translate an obstore error into one of this package; ``in_body`` once bytes have come."""
    if isinstance(error, PkgdataError):
        return error  # one of ours, which Python's own classes are parents of
    text = str(error)
    if type(error) is ValueError:
        return UnsafeNameError(f"{address}: {text.partition(chr(10))[0]}", name=address)
    kind = type(error).__name__
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
    if kind in ("NotFoundError", "FileNotFoundError"):
        return ObjectNotFoundError(f"{address}: no such object", url=address)
    if kind == "AlreadyExistsError":
        return already_there(address)
    if kind == "PreconditionError":
        return PreconditionError(f"{address}: it changed", url=address)
    if status == 416 or "InvalidRange" in text or "start index" in text.lower():
        return NoSuchRangeError(f"{address}: no such range", url=address)
    if "non-partial response" in text:
        return UnsupportedOperationError(
            f"{address}: the service does not serve ranges", hint="read all of it", url=address
        )
    return _other(kind, text, code, status, address, in_body)


def is_unanswered(error: Exception) -> bool:
    """Return True if no answer came, or not all of it, and obstore did not repeat the request."""
    text = str(error)
    return not _STATUS.search(text) and ("retries: 0," in text or "list response body" in text)


def is_expired(error: Exception) -> bool:
    """Return True if keys were refused because their time is over."""
    said = _CODE.search(str(error))
    return said is not None and said[1] in ("ExpiredToken", "TokenRefreshRequired")


def _other(
    kind: str, text: str, code: str, status: int, address: str, in_body: bool
) -> StoreError | IncompleteTransferError:
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or status in (401, 403):
        said = f"status {status or 403}, {code}" if code else "access denied"
        return AccessDeniedError(
            f"{address}: {said}",
            hint=_HINTS.get(code, "check the credentials, or anonymous=True for a public bucket"),
            url=address,
        )
    reason = _reason(text, code, status)
    if in_body:
        return IncompleteTransferError(f"{address}: broke off: {reason}", url=address)
    return StoreError(f"{address}: {reason}", hint=_HINTS.get(code), url=address)


def _reason(text: str, code: str, status: int) -> str:
    """Return in few words what went wrong, without the request."""
    if status or code:
        message = _MESSAGE.search(text)
        words = [f"status {status}" if status else "", code, message[1] if message else ""]
        return ", ".join(filter(None, words))
    lower = text.lower()
    for sign, meaning in _SIGNS.items():
        if sign in lower:
            return meaning
    return "the request failed: " + text.partition("\n")[0].partition("http")[0].strip(" :")[:120]


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
            text = str(error).partition("\n")[0].partition("Debug source")[0]
            raise ConfigError(f"{self.url}: {text}") from None

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
        found = translate(error, self.url, self.address(name), in_body)
        if callable(self._options.get("secrets")) and is_expired(error):
            self._clients = {}  # the next one asks for keys again
            found.transient = True  # type: ignore[attr-defined]  # such errors are StoreErrors
        return found

    def asked(self, keys: Callable[[], Any]) -> Callable[[], Any]:
        """Wrap a source of keys, to know why it fails."""

        @functools.wraps(keys)  # its attributes too: obstore's own sources have some that it reads
        def ask() -> Any:
            try:
                found = keys()
            except Exception as error:
                self.no_keys = error
                raise
            self.no_keys = None
            return found

        return ask

    # -- requests ------------------------------------------------------------------------------

    def _get(self, name: str, options: dict[str, Any]) -> Any:
        key = self._key(name)
        with self.translating(name):
            return self._obstore.get(self.client(), key, options=options)

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

    def digest_of(self, meta: Mapping[str, Any], kept: Mapping[str, str]) -> Digest | None:
        """Return the digest that the service reports, of obstore's metadata and attributes."""
        return as_md5(meta["e_tag"])


def as_md5(etag: str | None) -> Digest | None:
    """Read an ETag that is an MD5, as those of objects are that were not written in parts."""
    text = (etag or "").strip('"').lower()
    if len(text) != 32 or text.strip("0123456789abcdef"):
        return None
    return Digest("md5", text)
