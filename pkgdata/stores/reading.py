"""Reading objects: one, ranges, many, and one in blocks; compared with the service's own digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from ..base import hashes, pool, progress
from ..base.hashes import Digest
from ..base.progress import Callback
from ..base.report import each_name, one_name, parse_json, plain_name
from ..errors import (
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    StoreError,
    UnsupportedOperationError,
)
from . import codecs
from .base import Driver
from .naming import expand_brackets
from .objects import BLOCK, Body, Info, Result

R = TypeVar("R")


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
        if not whole:
            text = f"a range of an object that is stored as {encoding} cannot be decoded"
            all_of_it = "read all of it, or its stored bytes with"
            command, hint = f"{all_of_it} --raw", f"{all_of_it} raw=True"
            raise self.store.failure(
                UnsupportedOperationError, name, text, hint=hint, command=command
            )
        return codecs.decode(content, encoding, self.store.address(name))

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
    """Parse an object, of any size: it is here already."""
    return parse_json(content, lambda why: store.failure(StoreError, name, why), most=None)


def _span(item: Any) -> tuple[str, int | None, int | None]:
    name = one_name(item)
    if name is not None:
        return name, None, None
    name, start, stop = item
    return plain_name(name), start, stop


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
                        text = "broke off, and cannot be resumed: it changed or has no ranges"
                        raise store.failure(IncompleteTransferError, name, text)
                    while block := body.read(check.buffer()):
                        at += len(block)
                        check.update(block)
                        yield block
                break
            except IncompleteTransferError:
                if validator is None or failures >= store.retries():
                    raise
                failures += 1
                body = store.trying(partial(store.open, name, at, validator))
        check.end(store, name, at)


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
        if self._size is not None and size != self._size:
            text, wanted = f"{size} bytes came of {self._size}", self._size
            raise store.failure(IncompleteTransferError, name, text, expected=wanted, actual=size)
        if self._hasher is None or self._digest is None:
            return
        actual = Digest(self._digest.alg, self._hasher.hexdigest())
        if actual != self._digest and store.is_digest(name, self._digest):
            raise _damaged(store, name, self._digest, actual)


class ReadableStore(Driver):
    """A place whose objects are read, asked for and listed, one or many at a time."""

    def _each(self, function: Callable[[str], R], names: Iterable[str]) -> Iterator[tuple[str, R]]:
        """Call a function for each name at once; the first error ends it."""
        for name, value, error in self.at_once(function, each_name(names)):
            if error is not None:
                raise error
            yield name, value  # type: ignore[misc]  # without an error there is a value

    def get(
        self,
        names: Any,
        *,
        start: int | None = None,
        stop: int | None = None,
        ranges: Sequence[tuple[int, int | None]] | None = None,
        raw: bool = False,
        ordered: bool = False,
        errors: str = "raise",
        parallel: int = 1,
        progress: bool | Callback | None = None,
    ) -> Any:
        """Read one object, ranges of one, or many.

        Parameters
        ----------
        names : str, or iterable of str or (str, int or None, int or None)
            One name, or many; a tuple asks for a range of bytes as a slice does.
        start, stop : int, optional
            Range of the one object, as a slice: negative counts from the end, and what lies past
            the end is empty.
        ranges : sequence of (int, int or None), optional
            Several ranges of the one object.
        raw : bool, default False
            Stored bytes as they are, else what they decode to. A range of an object that is stored
            compressed is possible only raw.
        ordered : bool, default False
            Of many: in the order asked for, else as they come.
        errors : ``"raise"`` or ``"return"``, default ``"raise"``
            Of many: what to do with an object that cannot be read.
        parallel : int, default 1
            Worker processes, for many.
        progress : bool or callable, optional
            True draws with tqdm; a callable gets each `Event`.

        Returns
        -------
        bytes, list of bytes, or iterator of Result
            For one name; for several ranges of it; for many names.

        Raises
        ------
        ObjectNotFoundError, AccessDeniedError, StoreError
            The object cannot be read.
        IntegrityError
            Its bytes are not what the service's own checksum says, also when read again.
        """
        get, name = Get(self, raw), one_name(names)
        if name is not None:
            if ranges is not None:
                asked = [(name, first, last) for first, last in ranges]
                found = get.many(asked, True, "raise", 1, progress)
                return [result.content for result in found]
            return get.one((name, start, stop)).content
        if start is not None or stop is not None or ranges is not None:
            raise ConfigError("a range belongs to one name; for many give (name, start, stop)")
        return get.many(each_name(names), ordered, errors, parallel, progress)

    def get_json(self, names: Any, **options: Any) -> Any:
        """Read JSON.

        Parameters
        ----------
        names : str or iterable of str
        **options
            See `get`.

        Returns
        -------
        object or list
            For many names a list in their order.

        Raises
        ------
        StoreError
            An object holds no JSON.
        """
        name = one_name(names)
        if name is not None:
            return as_json(self, name, self.get(name, **options))
        found = self.get(names, **options, ordered=True)
        return [as_json(self, result.name, result.content) for result in found]

    def blocks(self, name: str, size: int = BLOCK) -> Iterator[memoryview]:
        """Yield an object's stored bytes; a broken transfer is resumed where it broke.

        Parameters
        ----------
        name : str
        size : int
            Bytes of a block, which is valid until the next one is asked for.

        Yields
        ------
        memoryview

        Raises
        ------
        IncompleteTransferError
            It broke too often, or the object changed meanwhile.
        """
        return read_blocks(self, plain_name(name), size)

    def cat(self, names: str | Iterable[str]) -> Iterator[memoryview]:
        """Yield the decoded bytes of objects, one after another, in bounded memory.

        Parameters
        ----------
        names : str or iterable of str

        Yields
        ------
        bytes-like
        """
        for name in each_name(names):
            yield from decoded(self, name)

    # -- asking --------------------------------------------------------------------------------

    def stat(self, names: Any) -> Any:
        """Return what a store knows of objects: size, digest, content type and so on.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        Info, or dict of str to Info or None
            Of many, None for one that is not there.

        Raises
        ------
        ObjectNotFoundError
            The one object is not there.
        """
        name = one_name(names)
        if name is not None:
            return self.trying(lambda: self.info(name))
        return dict(self._each(self.info_or_none, names))

    head = stat

    def _of_each(self, names: Any, said: Callable[[Info | None], Any]) -> Any:
        """Return what a function says of one object, or a dictionary of many."""
        name = one_name(names)
        if name is not None:
            return said(self.info_or_none(name))
        return {name: said(info) for name, info in self.stat(names).items()}

    def exists(self, names: Any) -> Any:
        """Return whether objects are there.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        bool, or dict of str to bool
        """
        return self._of_each(names, lambda info: info is not None)

    def size(self, names: Any) -> Any:
        """Return the bytes of objects as they are stored.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        int or None, or dict of str to int or None
            None where there is no object.
        """
        return self._of_each(names, lambda info: getattr(info, "size", None))

    def list(self, prefix: str = "", *, flat: bool = False, expand: bool = False) -> Iterator[str]:
        """Yield names, sorted, as the store lists them.

        Parameters
        ----------
        prefix : str, default ""
            Any beginning of names.
        flat : bool, default False
            One level only; the levels below show as names that end in ``/``.
        expand : bool, default False
            Read ``[ab]{2}`` in the prefix as each of ``aa``, ``ab``, ``ba``, ``bb``.

        Yields
        ------
        str
        """
        if expand:
            for one in expand_brackets(prefix):
                yield from self.list(one, flat=flat)
            return
        for name, _ in self.scan(prefix, flat):
            yield name

    def du(self, prefix: str = "") -> tuple[int, int]:
        """Count what is below a prefix.

        Parameters
        ----------
        prefix : str, default ""

        Returns
        -------
        (int, int)
            Objects, and their bytes as stored.
        """
        count = total = 0
        for _, info in self.scan(prefix):
            count += 1
            total += info.size or 0
        return count, total
