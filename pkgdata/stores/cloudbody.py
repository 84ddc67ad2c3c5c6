"""Bodies of objects in buckets: as one stream, and large ones by several ranges at once, in order.

One connection to a bucket gives some tens of megabytes a second, whatever the network could do.
"""

from __future__ import annotations

import threading

from ..base import pool
from ..errors import StoreError
from .objects import Attributes, Body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from .cloudclient import CloudClient

#: Least bytes that a stream gives at a time: fewer cost more calls.
_CHUNK = 1 << 20

#: Bytes of a range, ranges of one object at once, and from how many bytes on there are several.
_RANGE, _AT_ONCE, LARGE = 8 << 20, 4, 32 << 20

#: Objects that are read by several ranges at once: further ones are read by one stream each.
_slots = threading.Semaphore(4)

#: Where Azure's objects keep their digest, which it does not report by itself.
SHA256 = "pkgdata_sha256"


def attributes_of(found: Mapping[str, str]) -> Attributes:
    """Read obstore's attributes of an object."""
    known = {
        "Content-Type": "content_type",
        "Content-Encoding": "encoding",
        "Cache-Control": "cache_control",
        "Storage-Class": "storage_class",
    }
    own = {known[key]: value for key, value in found.items() if key in known}
    metadata = {
        key: value
        for key, value in found.items()
        if key not in known and not key.startswith("Content-") and key != SHA256
    }
    return Attributes(**own, metadata=metadata)  # type: ignore[arg-type]  # texts, all of them


class CloudBody(Body):
    """An object's bytes as they stream in."""

    def __init__(self, result: Any, store: CloudClient, name: str, start: int) -> None:
        meta = result.meta
        super().__init__(start, meta["size"], meta["e_tag"], f"an object of {store.kind}")
        self.ranges = True
        self.attributes = attributes_of(result.attributes)
        self.digest = store.digest_of(meta, result.attributes)
        self._result: Any = result
        self._stream: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._store, self._name = store, name

    def readinto(self, buffer: memoryview) -> int:
        found = self.read(buffer)
        buffer[: len(found)] = found
        return len(found)

    def read(self, buffer: memoryview) -> memoryview:
        return self._give(len(buffer))

    def _give(self, room: int) -> memoryview:
        if not self._rest:
            with self._store.translating(self._name, in_body=True):
                self._rest = memoryview(self._next(room))
        found, self._rest = self._rest[:room], self._rest[room:]
        return found

    def _next(self, room: int) -> Any:
        if self._stream is None and self._result is None:
            return b""
        if self._stream is None:
            result, self._result = self._result, None
            first, end = result.range
            if end - first <= max(room, _CHUNK):
                self._stream = iter(())
                return result.bytes()  # by one call, where a stream would need several
            self._stream = iter(result.stream(min_chunk_size=_CHUNK))
        return next(self._stream, b"")

    def close(self) -> None:
        self._result, self._stream, self._rest = None, None, memoryview(b"")


class LargeBody(CloudBody):
    """A large object: its first range by the stream that is open, the rest by ranges ahead.

    Where the service does not serve ranges, the stream goes on to the end.
    """

    def __init__(self, result: Any, store: CloudClient, name: str, start: int) -> None:
        super().__init__(result, store, name, start)
        self._at, self._turn = start, start + _RANGE
        self._end: int = result.range[1]
        self._parts: Any = None
        self._has_slot = False

    @property
    def _streams(self) -> bool:
        return self._parts is None

    def _give(self, room: int) -> memoryview:
        if self._streams and self._at == self._turn:
            self._branch()
        if self._streams:
            if self._at < self._turn:
                room = min(room, self._turn - self._at)
            found = super()._give(room)
            self._at += len(found)
            return found
        if not self._rest:
            self._rest = memoryview(self._part(next(self._parts, None)))
        return super()._give(room) if self._rest else memoryview(b"")

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
        self._result, self._stream = None, None
        self._rest, self._parts = memoryview(self._part(first)), parts

    def _fetch(self, start: int) -> Any:
        stop = min(start + _RANGE, self._end)

        def read() -> Any:
            found = self._store.part(self._name, start, stop, self.validator)
            if found is None:
                address = self._store.address(self._name)
                raise StoreError(f"{address}: it changed while it was read", url=address)
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
