"""Reading objects: one, ranges, many, and one in blocks; compared with the service's own digest."""

from __future__ import annotations

import json
from typing import NamedTuple

from ..base import hashes, pool, progress
from ..base.hashes import Digest
from ..errors import (
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    StoreError,
    UnsupportedOperationError,
)
from . import codecs
from .objects import BLOCK, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..base.progress import Callback
    from .base import Driver
    from .objects import Body


class Get(NamedTuple):
    """How objects are read."""

    store: Driver
    raw: bool

    def in_worker(self, asked: list[Any]) -> list[Result]:
        """Read what a worker process is given."""
        return [*self._results(asked, False, 1)]

    def many(
        self,
        asked: Iterable[Any],
        ordered: bool,
        errors: str,
        parallel: int,
        shown: bool | Callback | None,
    ) -> Iterator[Result]:
        """Read many objects at once."""
        if errors not in ("raise", "return"):
            raise ConfigError(f"errors={errors!r}: expected 'raise' or 'return'")
        show = progress.view(shown, length(asked))
        for result in self._results(asked, ordered, parallel):
            show(progress.ended(result.name, len(result.content or b""), result.error))
            if result.error is not None and errors == "raise":
                raise result.error
            yield result

    def _results(self, asked: Iterable[Any], ordered: bool, parallel: int) -> Iterator[Result]:
        if parallel > 1 and not ordered and self.store.shared:
            yield from pool.spread(self.in_worker, asked, parallel)
            return
        for item, result, error in self.store.at_once(self.one, asked, ordered):
            yield result if result is not None else _failed(item, error)

    def one(self, item: Any) -> Result:
        """Read an object, or a range of one: a name, or a tuple of name, start and stop."""
        store, (name, start, stop) = self.store, _span(item)
        if (start or 0) < 0 or (stop or 0) < 0:
            size = store.trying(lambda: store.info(name)).size
            start, stop, _ = slice(start, stop).indices(size or 0)
        first = start or 0
        if stop is not None and stop <= first:
            store.trying(lambda: store.info(name))  # nothing to read, but it must be there
            return Result(name, b"", None, start, stop)
        whole = not first and stop is None
        content, attributes, digest = store.trying(lambda: store.read(name, first, stop))
        if whole and digest is not None:
            content = self._checked(name, content, digest)
        encoding = attributes.encoding
        if encoding and not self.raw:
            content = self._decoded(name, content, encoding, whole)
            encoding = None
        return Result(name, content, None, start, stop, encoding)

    def _decoded(self, name: str, content: bytes, encoding: str, whole: bool) -> bytes:
        if encoding not in codecs.SUFFIXES:
            return content  # such as Amazon's "aws-chunked", which says nothing of the bytes
        address = self.store.address(name)
        if not whole:
            raise UnsupportedOperationError(
                f"{address}: a range of an object that is stored as {encoding} cannot be decoded",
                hint="read all of it, or its stored bytes with raw=True",
                url=address,
            )
        return codecs.decode(content, encoding, address)

    def _checked(self, name: str, content: bytes, digest: Digest) -> bytes:
        """Compare with the service's digest; a transmission error is cured by reading again."""
        for left in (1, 0):
            actual = hashes.hash_blocks((content,), digest.alg)
            if actual == digest or not self.store.is_digest(name, digest):
                return content
            if left:
                content = self.store.trying(lambda: self.store.read(name))[0]
        raise _damaged(self.store, name, digest, actual)


def length(items: Any) -> int:
    """Return how many there are, if that is known."""
    return len(items) if hasattr(items, "__len__") else 0


def _damaged(store: Driver, name: str, digest: Digest, actual: Digest) -> IntegrityError:
    address = store.address(name)
    hint = "the object is damaged there or on the way; upload it again"
    return hashes.mismatch(
        f"{address}: not the digest that the service reports",
        digest,
        actual,
        name=name,
        source=address,
        hint=hint,
    )


def as_json(store: Driver, name: str, content: bytes) -> Any:
    """Parse an object."""
    try:
        return json.loads(content)
    except ValueError as error:
        address = store.address(name)
        raise StoreError(f"{address}: not JSON: {error}", url=address) from error


def _span(item: Any) -> tuple[str, int | None, int | None]:
    if isinstance(item, str):
        return item, None, None
    name, start, stop = item
    return name, start, stop


def _failed(item: Any, error: Exception | None) -> Result:
    try:
        name, start, stop = _span(item)
    except (TypeError, ValueError):
        wrong = ConfigError(f"expected a name or (name, start, stop), found {item!r}")
        return Result(str(item), None, wrong)
    return Result(name, None, error, start, stop)


def read_blocks(store: Driver, name: str, size: int = BLOCK) -> Iterator[memoryview]:
    """Yield an object's stored bytes; see `Store.blocks`."""
    body = store.trying(lambda: store.open(name))
    return read_on(store, name, body, size)


def decoded(store: Driver, name: str) -> Iterator[Any]:
    """Yield the decoded bytes of an object in blocks."""
    encoding = store.trying(lambda: store.info(name)).attributes.encoding
    return codecs.decode_blocks(read_blocks(store, name), encoding, store.address(name))


def read_on(store: Driver, name: str, body: Body, size: int) -> Iterator[memoryview]:
    """Yield the bytes of an open object; a broken transfer is resumed where it broke."""
    failures, at, validator = 0, 0, body.validator
    with _Check(body, size) as check:
        while True:
            try:
                with body:
                    if body.start != at:
                        raise _changed(store, name)
                    while block := body.read(check.buffer()):
                        at += len(block)
                        check.update(block)
                        yield block
                break
            except IncompleteTransferError:
                if validator is None or failures >= store.retries():
                    raise
                failures += 1
                body = _again(store, name, at, validator)
        check.end(store, name, at)


def _again(store: Driver, name: str, at: int, validator: str) -> Body:
    return store.trying(lambda: store.open(name, at, validator))


def _changed(store: Driver, name: str) -> IncompleteTransferError:
    address = store.address(name)
    return IncompleteTransferError(
        f"{address}: broke off, and cannot be resumed: it changed or has no ranges", url=address
    )


class _Check:
    """Compares what was read with the digest and size that the service reports."""

    def __init__(self, body: Body, block: int) -> None:
        self._digest, self._size = body.digest, body.size
        self._hasher = None if body.digest is None else hashes.new(body.digest.alg)
        self._lane = None if self._hasher is None else hashes.Lane(self._hasher, block)
        self._buffer = memoryview(bytearray(block if self._lane is None else 0))

    def __enter__(self) -> _Check:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lane is not None:
            self._lane.finish()

    def buffer(self) -> memoryview:
        return self._buffer if self._lane is None else self._lane.buffer()

    def update(self, block: memoryview) -> None:
        if self._lane is not None:
            self._lane.hash(block)

    def end(self, store: Driver, name: str, size: int) -> None:
        if self._lane is not None:
            self._lane.finish()
        address = store.address(name)
        if self._size is not None and size != self._size:
            raise IncompleteTransferError(
                f"{address}: {size} bytes came of {self._size}",
                url=address,
                expected=self._size,
                actual=size,
            )
        if self._hasher is None or self._digest is None:
            return
        actual = Digest(self._digest.alg, self._hasher.hexdigest())
        if actual != self._digest and store.is_digest(name, self._digest):
            raise _damaged(store, name, self._digest, actual)
