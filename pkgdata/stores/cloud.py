"""Buckets of S3, Google Cloud Storage and Azure, on obstore: the extra ``pkgdata-cache[cloud]``.

The client is rooted at the bucket, and prefixes are ours, so that objects are copied within a
bucket by the service itself. Requests are repeated by obstore, which knows which of them may be; a
body that broke off is repeated here.
"""

from __future__ import annotations

import os
import threading

from ..base import fs, retry
from ..errors import (
    ConfigError,
    MissingExtraError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
    UnsupportedOperationError,
)
from . import buckets
from .cloudbody import LARGE, CloudBody, LargeBody, attributes_of
from .objects import Attributes, Body, Feed, Info, already_there
from .store import Store
from .writing import write_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType
    from typing import Any

    from ..base.hashes import Digest
    from .base import Primitives
    from .objects import Blocks

#: Least bytes of a part of a multipart upload; more when there would be over 9,000 of them, since
#: S3 takes 10,000.
_PART, _PARTS = 8 << 20, 9_000

#: Parts of one object that are under way at once.
_AT_ONCE = 4

#: Blocks of one object that wait for their upload.
_WAITING = 2

#: Above this an object is not written by one request, and whether it is there is asked before.
_SINGLE = 64 << 20

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


class CloudStore(Store):
    """What the buckets of all three clouds have in common.

    Parameters
    ----------
    **options
        See `Store`.
    """

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
        self._place = buckets.Place(self._url, options.get("endpoint"))
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
        """Return obstore's client, made when it is first needed.

        Parameters
        ----------
        public : bool, default False
            One that makes what it writes readable by everybody.
        """
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
        from datetime import timedelta

        from .http import user_agent

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
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
            path = os.environ.get(name)
            if path and os.path.isfile(path):
                with open(path, "rb") as file:
                    options["root_certificate"] = file.read()
                break
        return options

    def _endpoint(self) -> str | None:
        return self._place.endpoint

    def _retries(self) -> dict[str, Any]:
        from datetime import timedelta

        from ..base.config import conf

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
        """Say whether requests are signed, given whether there are credentials."""
        anonymous = self._options.get("anonymous")
        self.signs = not anonymous if anonymous is not None else found
        return self.signs

    def _key(self, name: str) -> str:
        return self._root + fs.safe_key(name)

    def translated(self, error: Exception, name: str, in_body: bool = False) -> Exception:
        """Return the error of our tree that obstore's stands for.

        Parameters
        ----------
        in_body : bool, default False
            Whether it broke off in the middle of an object.
        """
        from .clouderrors import is_expired, translate

        failure = self.no_keys
        if failure is not None and type(error).__name__ == "UnauthenticatedError":
            raise self._without_keys(failure) from failure
        told = translate(error, self, self.address(name), in_body)
        if callable(self._options.get("secrets")) and is_expired(error):
            self._clients = {}  # the next one asks for keys anew
            told.transient = True  # type: ignore[attr-defined]  # such errors are StoreErrors
        return told

    def _without_keys(self, failure: Exception) -> ConfigError:
        """Return the error of keys that cannot be had; obstore would call that a refusal."""
        if isinstance(failure, ConfigError):
            return ConfigError(f"{self.url}: {failure.message}", hint=failure.hint)
        return ConfigError(
            f"{self.url}: the function that was given as secrets failed: {type(failure).__name__}"
        )

    def asked(self, keys: Callable[[], Any]) -> Callable[[], Any]:
        """Wrap a source of keys, to know why it fails."""

        import functools

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

    # -- reading -------------------------------------------------------------------------------

    def _get(self, name: str, options: dict[str, Any]) -> Any:
        key = self._key(name)
        try:
            return self._obstore.get(self.client(), key, options=options)
        except self.errors as error:
            raise self.translated(error, name) from None

    def part(
        self, name: str, start: int, stop: int | None, validator: str | None = None
    ) -> Any | None:
        """Ask for a range of an object.

        Parameters
        ----------
        validator : str, optional
            ETag that the object must have.

        Returns
        -------
        obstore.GetResult or None
            None if the range has no bytes, or the object has another ETag.
        """
        from .clouderrors import NoSuchRangeError, PreconditionError

        options: dict[str, Any] = {}
        if start or stop is not None:
            options["range"] = {"offset": start} if stop is None else (start, stop)
            if validator:
                options["if_match"] = validator
        try:
            return self._get(name, options)
        except (NoSuchRangeError, PreconditionError):
            return None

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        try:
            result = self.part(name, start, stop, validator)
        except UnsupportedOperationError:  # no ranges there
            result = None
        if result is not None:
            return self._body(result, name, start)
        return self._body(self.part(name, 0, None), name, 0)

    def _body(self, result: Any, name: str, start: int) -> CloudBody:
        first, end = result.range
        return (LargeBody if end - first >= LARGE else CloudBody)(result, self, name, start)

    def read(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> tuple[bytes, Attributes, Digest | None]:
        result = self.part(name, start, stop)
        if result is None:  # past the end
            return b"", self.info(name).attributes, None
        first, end = result.range
        if end - first >= LARGE:
            with self._body(result, name, start) as body:
                return _all_of(body, end - first), body.attributes, body.digest
        try:
            content = result.bytes().to_bytes()
        except self.errors as error:
            raise self.translated(error, name, in_body=True) from None
        kept = result.attributes
        return content, attributes_of(kept), self.digest_of(result.meta, kept)

    def info(self, name: str) -> Info:
        result = self._get(name, {"head": True})
        return self._told(result.meta, result.attributes)

    def _told(self, meta: Mapping[str, Any], kept: Mapping[str, str] | None = None) -> Info:
        modified, digest = meta["last_modified"].timestamp(), self.digest_of(meta, kept or {})
        attributes = attributes_of(kept or {})
        return Info(meta["size"], meta["e_tag"], modified, digest, attributes)

    def digest_of(self, meta: Mapping[str, Any], kept: Mapping[str, str]) -> Digest | None:
        """Return what the service reports of all of an object's bytes.

        Parameters
        ----------
        meta : mapping
            obstore's ``ObjectMeta``.
        kept : mapping
            obstore's ``Attributes``; a listing has none.
        """
        return as_md5(meta["e_tag"])

    def scan(self, prefix: str = "", flat: bool = False) -> Iterator[tuple[str, Info]]:
        folder, slash, _ = prefix.rpartition("/")
        if folder:
            fs.safe_key(folder)
        inside = self._root + folder + slash
        wanted, skip = self._root + prefix, len(self._root)
        try:
            for row in self._level(inside, wanted) if flat else self._below(inside, wanted):
                path = row if isinstance(row, str) else row["path"]
                if path.startswith(wanted):
                    yield path[skip:], Info(None) if row is path else self._told(row)
                elif path > wanted:
                    return
        except self.errors as error:
            raise self.translated(error, "") from None

    def _below(self, inside: str, wanted: str) -> Iterator[Any]:
        # obstore lists folders only; to begin in the midst of one, the listing starts behind all
        # that sorts before what is wanted
        offset = None
        if wanted != inside:
            offset = f"{wanted[:-1]}{chr(ord(wanted[-1]) - 1)}\U0010ffff"
        for part in self._parts(inside, offset):
            yield from part

    def _parts(self, inside: str, offset: str | None) -> Iterator[Any]:
        """Yield the parts of a listing, which goes on where it broke off."""
        found: Iterator[Any] | None = None

        def following() -> Any:
            nonlocal found
            if found is None:
                client, folder = self.client(), inside or None
                found = iter(self._obstore.list(client, folder, offset=offset, chunk_size=1000))
            try:
                return next(found, None)
            except self.errors as error:
                found = None
                raise self._repeatable(error, "") from None

        while (part := self.trying(following)) is not None:
            yield part
            offset = part[-1]["path"] if part else offset

    def _repeatable(self, error: Exception, name: str) -> Exception:
        """Return the error of what does no harm when it is done twice."""
        from .clouderrors import is_unanswered

        told = self.translated(error, name)
        if isinstance(told, StoreError) and is_unanswered(error):
            told.transient = True
        return told

    def _level(self, inside: str, wanted: str) -> Iterator[Any]:
        def ask() -> Any:
            try:
                return self._obstore.list_with_delimiter(self.client(), inside or None)
            except self.errors as error:
                raise self._repeatable(error, "") from None

        found = self.trying(ask)
        rows = {meta["path"]: meta for meta in found["objects"]}
        rows |= {f"{folder}/": f"{folder}/" for folder in found["common_prefixes"]}
        for path in sorted(rows):
            yield rows[path]

    # -- writing -------------------------------------------------------------------------------

    def _write(
        self, name: str, content: bytes | memoryview, kept: Attributes, if_absent: bool
    ) -> None:
        key = self._key(name)
        self._before_writing(name)
        try:
            found = self._obstore.put(
                self.client(kept.public),
                key,
                bytes(content),  # obstore does not take Python's own memoryviews of all kinds
                attributes=self._headers(kept, content),
                mode="create" if if_absent else "overwrite",
                use_multipart=False,
            )
        except self.errors as error:
            if if_absent:  # the caller can tell whether it was done
                raise self._repeatable(error, name) from None
            raise self.translated(error, name) from None
        self._check_written(name, content, found["e_tag"])

    def _before_writing(self, name: str) -> None:
        """Refuse what the client would take a wrong way."""

    def _check_written(self, name: str, content: bytes | memoryview, etag: str | None) -> None:
        """Compare with the digest that the service answers, unless it checked what it was sent."""
        digest = as_md5(etag)
        if digest is None:
            return
        from ..base import hashes

        hasher = hashes.new("md5")
        hasher.update(content)
        actual = hasher.hexdigest()
        if actual != digest.hex and self.is_digest(name, digest):
            from .clouderrors import damaged

            raise damaged(self.address(name), digest, actual)

    def _headers(self, kept: Attributes, content: bytes | memoryview | None) -> dict[str, str]:
        """Return obstore's words for what is kept next to the bytes."""
        found = {
            "Content-Type": kept.content_type,
            "Content-Encoding": kept.encoding,
            "Cache-Control": kept.cache_control,
            "Storage-Class": kept.storage_class,
            **kept.metadata,
        }
        return {key: value for key, value in found.items() if value}

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        # no service answers whether an object is there when its last part arrives: a large one is
        # asked for before the first part is sent
        if if_absent and size is not None and size <= _SINGLE:
            write_whole(self, name, b"".join(map(bytes, blocks)), kept, True)
            return
        if if_absent and self.info_or_none(name) is not None:
            raise already_there(self.address(name))
        key = self._key(name)
        self._before_writing(name)
        part = max(_PART, -(-(size or 0) // _PARTS))
        client, headers = self.client(kept.public), self._headers(kept, None)
        feed = Feed(blocks)

        def upload(parts: Iterator[bytes]) -> None:
            self._obstore.put(
                client,
                key,
                parts,
                attributes=headers,
                use_multipart=True,
                chunk_size=part if size is not None else 4 * part,
                max_concurrency=_AT_ONCE,
            )

        try:
            _handed_over(feed, upload)
        except self.errors as error:
            if feed.failure is not None:
                raise
            raise self.translated(error, name) from None

    def remove(self, name: str) -> None:
        self._delete(self._key(name), name)

    def _delete(self, keys: str | list[str], name: str) -> None:
        self._before_writing(name)
        try:
            self._obstore.delete(self.client(), keys)
        except self.errors as error:
            told = self._repeatable(error, name)
            if not isinstance(told, ObjectNotFoundError):  # which Google and Azure answer
                raise told from None

    def clone(self, name: str, source: Primitives, source_name: str) -> bool:
        if not isinstance(source, CloudStore) or not self._shares(source):
            return False
        self._before_writing(name)
        try:
            self._obstore.copy(self.client(), source._key(source_name), self._key(name))
        except self.errors as error:
            raise self.translated(error, source_name) from None
        return True

    def same(self, name: str, other: Primitives, other_name: str) -> bool:
        if not isinstance(other, CloudStore):
            return False
        mine, its = self._place, other._place
        return (mine.kind, mine.bucket, self._endpoint(), self._key(name)) == (
            its.kind,
            its.bucket,
            other._endpoint(),
            other._key(other_name),
        )

    def _shares(self, other: CloudStore) -> bool:
        """Say whether another store is of the same bucket, with the same rights."""
        mine, its = self._place, other._place
        return (
            (mine.kind, mine.bucket) == (its.kind, its.bucket)
            and self._endpoint() == other._endpoint()
            and all(
                self._options.get(key) == other._options.get(key)
                for key in ("secrets", "anonymous")
            )
        )


def _all_of(body: Body, size: int) -> bytes:
    """Read as many bytes as are told to come."""
    found = memoryview(bytearray(size))
    at = 0
    while count := body.readinto(found[at:]):
        at += count
    return bytes(found[:at])


class _GivenUp(Exception):
    """Makes obstore abort an upload whose blocks have failed."""


def _handed_over(
    blocks: Iterable[bytes | memoryview], upload: Callable[[Iterator[bytes]], None]
) -> None:
    """Call a function with blocks, in a thread of its own: raise what they or it fails with.

    obstore takes blocks in the midst of its own runtime, where it cannot be called: blocks that
    come from another bucket have to be read outside of it.
    """
    import queue

    waiting: queue.Queue[bytes | _GivenUp | None] = queue.Queue(_WAITING)
    failures: list[BaseException] = []
    ended = threading.Event()

    def taken() -> Iterator[bytes]:
        while (block := waiting.get()) is not None:
            if isinstance(block, _GivenUp):
                raise block
            yield block

    def work() -> None:
        try:
            upload(taken())
        except BaseException as error:
            failures.append(error)
        ended.set()
        while not waiting.empty():  # makes room for who is about to hand over the next one
            waiting.get()

    worker = threading.Thread(target=work, name="pkgdata-upload", daemon=True)
    worker.start()
    try:
        for block in blocks:
            if ended.is_set():
                break
            # a copy: who makes the blocks uses one buffer again and again
            waiting.put(bytes(block))
        waiting.put(None)
    except BaseException:
        waiting.put(_GivenUp())
        worker.join()
        raise
    worker.join()
    if failures:
        raise failures[0]


def as_md5(etag: str | None) -> Digest | None:
    """Read an ETag that is an MD5, as those of objects are that were not written in parts."""
    text = (etag or "").strip('"').lower()
    if len(text) != 32 or text.strip("0123456789abcdef"):
        return None
    from ..base.hashes import Digest

    return Digest("md5", text)
