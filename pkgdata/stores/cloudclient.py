"""The client of a bucket, on obstore: the extra ``pkgdata-cache[cloud]``.

The client is rooted at the bucket, and prefixes are ours, so that objects are copied within a
bucket by the service itself. Requests are repeated by obstore, which knows which of them may be; a
body that broke off is repeated here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from datetime import timedelta

from ..base import fs, retry
from ..base.config import conf
from ..base.hashes import Digest
from ..base.tls import ca_bundle
from ..errors import (
    ConfigError,
    MissingExtraError,
    PkgdataError,
    StoreError,
    UnsupportedOperationError,
)
from . import buckets
from .clouderrors import (
    NoSuchRangeError,
    PreconditionError,
    is_expired,
    is_unanswered,
    translate,
)
from .http import user_agent
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType
    from typing import Any

#: Requests at once: most of the time of a small object is the way there and back.
_REQUESTS = 64

#: Seconds that obstore spends on one request with all its repetitions.
_REPEATING = 180


def _obstore() -> ModuleType:
    try:
        import obstore
    except ImportError:
        raise MissingExtraError(
            "s3, gs and az need the package obstore, which is not installed",
            hint="pip install 'pkgdata-cache[cloud]'",
        ) from None
    return obstore


class CloudClient(Store):
    """The client of a bucket and its answers."""

    cloud = True
    #: The provider, for messages.
    kind = ""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._obstore = _obstore()
        #: Whether requests are signed; known once there is a client.
        self.signs = True
        #: What obstore raises; Python's own errors too.
        self.errors = (self._obstore.exceptions.BaseError, ValueError, OSError)
        self._place = buckets.BucketUrl(self._url, options.get("endpoint"))
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
            buckets.checked_endpoint(endpoint)  # obstore panics
        try:
            return self._make(self._secrets(), self._client_options(headers), self._retries())
        except PkgdataError:
            raise
        except (*self.errors, TypeError) as error:
            text = str(error).partition("\n")[0].partition("Debug source")[0]
            raise ConfigError(f"{self.url}: {text}") from None

    def _make(self, secrets: dict[str, Any], client: Any, retries: Any) -> Any:
        raise self._unsupported("connect", "")

    def _public_headers(self) -> dict[str, str]:
        raise UnsupportedOperationError(
            f"{self.url}: {self.kind} has no access rules for single objects",
            hint="make the container public",
        )

    def _secrets(self) -> dict[str, Any]:
        secrets = self._options.get("secrets")
        return {} if secrets is None or callable(secrets) else buckets.read_secrets(secrets)

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

    def _retries(self) -> dict[str, Any]:

        backoff = {
            "init_backoff": timedelta(seconds=retry.POLICY.first),
            "max_backoff": timedelta(seconds=retry.POLICY.longest),
            "base": 3,
        }
        return {
            "max_retries": int(conf.retries),
            "retry_timeout": timedelta(seconds=_REPEATING),
            "backoff": backoff,
        }

    def _signs(self, found: bool) -> bool:
        """Return True if requests are signed, given whether there are credentials."""
        anonymous = self._options.get("anonymous")
        self.signs = not anonymous if anonymous is not None else found
        return self.signs

    def _key(self, name: str) -> str:
        return self._root + fs.safe_key(name)

    @contextlib.contextmanager
    def translating(self, name: str, in_body: bool = False) -> Iterator[None]:
        """Raise the errors of this package that obstore's stand for."""
        try:
            yield
        except self.errors as error:
            raise self._translated(error, name, in_body) from None

    def _translated(self, error: Exception, name: str, in_body: bool = False) -> Exception:
        failure = self.no_keys
        if failure is not None and type(error).__name__ == "UnauthenticatedError":
            raise self._without_keys(failure) from failure
        found = translate(error, self.url, self.address(name), in_body)
        if callable(self._options.get("secrets")) and is_expired(error):
            self._clients = {}  # the next one asks for keys again
            found.transient = True  # type: ignore[attr-defined]  # such errors are StoreErrors
        return found

    def _without_keys(self, failure: Exception) -> ConfigError:
        """Return the error of keys that cannot be had; obstore would call that a refusal."""
        if isinstance(failure, ConfigError):
            return ConfigError(f"{self.url}: {failure.message}", hint=failure.hint)
        return ConfigError(
            f"{self.url}: the function that was given as secrets failed: {type(failure).__name__}"
        )

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

    def _repeatable(self, error: Exception, name: str) -> Exception:
        """Return the error of what does no harm when it is done twice."""
        found = self._translated(error, name)
        if isinstance(found, StoreError) and is_unanswered(error):
            found.transient = True
        return found


def as_md5(etag: str | None) -> Digest | None:
    """Read an ETag that is an MD5, as those of objects are that were not written in parts."""
    text = (etag or "").strip('"').lower()
    if len(text) != 32 or text.strip("0123456789abcdef"):
        return None
    return Digest("md5", text)
