"""Buckets of S3, Google Cloud Storage and Azure: reading, listing, writing and copying.

Large objects are read by several ranges at once, in order: one connection to a bucket gives some
tens of megabytes a second, whatever the network could do.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ..base import fs, hashes, pool
from ..base.hashes import Digest
from ..errors import ObjectNotFoundError, StoreError, UnsupportedOperationError
from .base import Primitives
from .cloudclient import CloudClient, as_md5
from .listing import BucketListing
from .objects import Attributes, Blocks, Body, Feed, Info, PieceBody, already_there
from .writing import write_whole

#: Least bytes that a stream gives at a time: fewer cost more calls.
_CHUNK = 1 << 20

#: Bytes of a range, ranges (or parts) of one object at once, and from how many bytes on there are
#: several.
_RANGE, _AT_ONCE, LARGE = 8 << 20, 4, 32 << 20

#: Objects that are read by several ranges at once: further ones are read by one stream each.
_slots = threading.Semaphore(4)

#: Where Azure's objects keep their digest, which it does not report by itself.
SHA256 = "pkgdata_sha256"


#: obstore's words for attributes.
_WORDS = {
    "Content-Type": "content_type",
    "Content-Encoding": "encoding",
    "Cache-Control": "cache_control",
    "Content-Disposition": "content_disposition",
    "Content-Language": "content_language",
    "Storage-Class": "storage_class",
}


def attributes_of(found: Mapping[str, str], meta: Mapping[str, Any]) -> Attributes:
    """Read obstore's attributes and metadata of an object."""
    own = {_WORDS[key]: value for key, value in found.items() if key in _WORDS}
    metadata = {key: value for key, value in found.items() if key not in _WORDS and key != SHA256}
    modified = meta["last_modified"].timestamp()
    return Attributes(**own, metadata=metadata, modified=modified)  # type: ignore[arg-type]  # texts


class CloudBody(PieceBody):
    """An object's bytes as they stream in."""

    def __init__(self, result: Any, store: CloudClient, name: str, start: int) -> None:
        meta = result.meta
        super().__init__(start, meta["size"], meta["e_tag"], f"an object of {store.kind}")
        self.ranges = True
        self.attributes = attributes_of(result.attributes, meta)
        self.digest = store.digest_of(meta, result.attributes)
        self._result: Any = result
        self._stream: Iterator[bytes] = iter(())
        self._store, self._name = store, name

    def _next(self, room: int) -> Any:
        with self._store.translating(self._name, in_body=True):
            if self._result is not None:
                result, self._result = self._result, None
                first, end = result.range
                if end - first <= max(room, _CHUNK):
                    return result.bytes()  # by one call, where a stream would need several
                self._stream = iter(result.stream(min_chunk_size=_CHUNK))
            return next(self._stream, b"")

    def close(self) -> None:
        self._result, self._stream, self._rest = None, iter(()), memoryview(b"")


class LargeBody(CloudBody):
    """A large object: its first range by the stream that is open, the rest by ranges ahead.

    Where the service does not serve ranges, the stream serves all of it.
    """

    def __init__(self, result: Any, store: CloudClient, name: str, start: int) -> None:
        super().__init__(result, store, name, start)
        self._at, self._turn = start, start + _RANGE
        self._end: int = result.range[1]
        self._parts: Any = None
        self._has_slot = False

    def _give(self, room: int) -> memoryview:
        if self._parts is None and self._at == self._turn:
            self._branch()
        if self._parts is None:
            if self._at < self._turn:
                room = min(room, self._turn - self._at)
            found = super()._give(room)
            self._at += len(found)
            return found
        if not self._rest:
            self._rest = memoryview(self._part(next(self._parts, None)))
        return super()._give(room)

    def _branch(self) -> None:
        """Go over to ranges, if there is a slot and the first of them comes."""
        self._turn = -1
        self._has_slot = _slots.acquire(blocking=False)
        if not self._has_slot:
            return
        starts = range(self._at, self._end, _RANGE)
        parts: Any = pool.run(self._fetch, starts, _AT_ONCE, ordered=True, ahead=1)
        first = next(parts, None)
        if first is None or first[2] is not None:
            parts.close()
            self._let_go()
            return
        self._result, self._stream = None, iter(())
        self._rest, self._parts = memoryview(self._part(first)), parts

    def _fetch(self, start: int) -> Any:
        stop = min(start + _RANGE, self._end)

        def read() -> Any:
            found = self._store.part(self._name, start, stop, self.validator)
            if found is None:
                raise self._store.failure(StoreError, self._name, "it changed while it was read")
            with self._store.translating(self._name, in_body=True):
                return found.bytes()  # a buffer of obstore's own: a copy would double it

        return self._store.trying(read)

    @staticmethod
    def _part(result: Any) -> Any:
        if result is None:
            return b""
        _, content, error = result
        if error is not None:
            raise error
        return content

    def _let_go(self) -> None:
        if self._has_slot:
            self._has_slot = False
            _slots.release()

    def close(self) -> None:
        super().close()
        if self._parts is not None:
            self._parts.close()  # stays, and gives nothing more
        self._let_go()


#: Least bytes of a part of a multipart upload; more when there would be over 9,000 of them, since
#: S3 takes 10,000.
_PART, _PARTS = 8 << 20, 9_000

#: Blocks of one object that wait for their upload.
_WAITING = 2

#: Above this an object is not written by one request, and whether it is there is asked before.
_SINGLE = 64 << 20


class CloudStore(BucketListing):
    """What the buckets of all three clouds have in common."""

    # -- reading -------------------------------------------------------------------------------

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
        with self.translating(name, in_body=True):
            content = result.bytes().to_bytes()
        kept = result.attributes
        meta = result.meta
        return content, attributes_of(kept, meta), self.digest_of(meta, kept)

    def info(self, name: str) -> Info:
        if (key := self._odd_key(name)) is not None:
            rows = self.rows(key)
            row: Any = next(rows, None) if rows is not None else fs.safe_key(name)
            if row is None or row["path"] != key:
                raise self.failure(ObjectNotFoundError, name, "no such object")
            return self._told(row)
        result = self._get(name, {"head": True})
        return self._told(result.meta, result.attributes)

    def _told(self, meta: Mapping[str, Any], kept: Mapping[str, str] | None = None) -> Info:
        attributes, digest = attributes_of(kept or {}, meta), self.digest_of(meta, kept or {})
        return Info(meta["size"], meta["e_tag"], attributes.modified, digest, attributes)

    def scan(self, prefix: str = "", flat: bool = False) -> Iterator[tuple[str, Info]]:
        skip = len(self._root)
        for path, row in self.entries(prefix, flat):
            yield path[skip:], Info(None) if row is None else self._told(row)

    # -- writing -------------------------------------------------------------------------------

    def _write(
        self, name: str, content: bytes | memoryview, kept: Attributes, if_absent: bool
    ) -> None:
        key = self._key(name)
        self._before_writing(name)
        # whether it was written is asked, where nothing is replaced: trying twice does no harm
        with self.translating(name, harmless=if_absent):
            found = self.asking(
                lambda client: self._obstore.put(
                    client,
                    key,
                    bytes(content),  # obstore does not take Python's own memoryviews of all kinds
                    attributes=self._headers(kept, content),
                    tags=kept.tags or None,
                    mode="create" if if_absent else "overwrite",
                    use_multipart=False,
                ),
                kept.public,
            )
        self._check_written(name, content, found["e_tag"])

    def _before_writing(self, name: str) -> None:
        """Refuse what the client would take a wrong way."""

    def _before_parts(self, name: str) -> None:
        """Learn what an answer may teach: blocks that have begun to flow cannot be sent again."""

    def _check_written(self, name: str, content: bytes | memoryview, etag: str | None) -> None:
        """Compare with the digest that the service answers, unless it checked what it was sent."""
        digest = as_md5(etag)
        if digest is None:
            return
        sent = hashes.hash_blocks((content,), "md5")
        if sent != digest and self.is_digest(name, digest):
            raise hashes.mismatch(
                f"{self.address(name)}: the service got other bytes than were sent",
                sent,
                digest,
                source=self.address(name),
                hint="put it again",
            )

    def _headers(self, kept: Attributes, content: bytes | memoryview | None) -> dict[str, str]:
        """Return obstore's words for what is kept next to the bytes."""
        found = {word: getattr(kept, name) for word, name in _WORDS.items()} | kept.metadata
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
        self._before_parts(name)
        part = max(_PART, -(-(size or 0) // _PARTS))
        client, headers = self.client(kept.public), self._headers(kept, None)
        feed = Feed(blocks)

        def upload(parts: Iterator[bytes]) -> None:
            self._obstore.put(
                client,
                key,
                parts,
                attributes=headers,
                tags=kept.tags or None,
                use_multipart=True,
                chunk_size=part if size is not None else 4 * part,
                max_concurrency=_AT_ONCE,
            )

        try:
            _handed_over(feed, upload)
        except self.errors as error:
            if feed.failure is not None:
                raise
            raise self._translated(error, name, False) from None

    def remove(self, name: str) -> None:
        if (key := self._odd_key(name)) is None:
            self._delete(self._key(name), name)
        else:
            self._remove_odd([key])

    def _delete(self, keys: str | list[str], name: str) -> None:
        self._before_writing(name)
        # Google and Azure answer that there is none
        with contextlib.suppress(ObjectNotFoundError), self.translating(name, harmless=True):
            self.asking(lambda client: self._obstore.delete(client, keys))

    def clone(self, name: str, source: Primitives, source_name: str) -> bool:
        if not isinstance(source, CloudStore) or not self._shares(source):
            return False
        self._before_writing(name)
        with self.translating(source_name):
            here, there = self._key(name), source._key(source_name)
            self.asking(lambda client: self._obstore.copy(client, there, here))
        return True

    def all_attributes(self, name: str, attributes: Attributes) -> Attributes:
        """Return an object's attributes with those that reading it left out, as a copy needs."""
        return attributes

    #: What becomes of the parts of an upload whose process was killed.
    uploads_end = ""
    #: Whether objects have tags there.
    has_tags = True

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str, float]]:
        """Yield the uploads in parts that nobody ended: name, identifier, when each began."""
        raise self.failure(
            UnsupportedOperationError,
            prefix,
            f"{self.kind} does not list unfinished uploads here",
            hint=self.uploads_end,
        )

    def abort(self, name: str, upload: str) -> None:
        """Remove the parts of an unfinished upload."""
        raise self._unsupported("end uploads", name)

    def same(self, name: str, other: Primitives, other_name: str) -> bool:
        return (
            isinstance(other, CloudStore)
            and self._whose() == other._whose()
            and self._key(name) == other._key(other_name)
        )

    def _shares(self, other: CloudStore) -> bool:
        """Return True if another store is of the same bucket, with the same rights."""
        return self._whose() == other._whose() and self._rights() == other._rights()

    def _rights(self) -> list[Any]:
        return [self._options.get(name) for name in ("secrets", "anonymous")]

    def _whose(self) -> tuple[str, str, str | None]:
        return self._place.kind, self._place.bucket, self._endpoint()


def _all_of(body: Body, size: int) -> bytes:
    """Read a body of known size."""
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
        while not waiting.empty():  # makes room for the block that is just handed over
            waiting.get()

    worker = threading.Thread(target=work, name="pkgdata-upload", daemon=True)
    worker.start()
    try:
        for block in blocks:
            if ended.is_set():
                break
            # a copy: the maker of the blocks uses one buffer again and again
            waiting.put(bytes(block))
        waiting.put(None)
    except BaseException:
        waiting.put(_GivenUp())
        worker.join()
        raise
    worker.join()
    if failures:
        raise failures[0]
