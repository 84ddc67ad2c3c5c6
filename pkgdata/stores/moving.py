"""Objects from one store to another, in blocks and bounded memory, stored bytes as they are.

A copy is made by the service itself where the two ends allow it, else its bytes pass through here,
one block at a time. It appears under its name only when it is complete and, where the source
reports a digest, right.
"""

from __future__ import annotations

from ..errors import IncompleteTransferError, IntegrityError, ObjectExistsError
from . import codecs, pool
from .store import BLOCK, WHOLE, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..progress import Callback
    from ..report import Report
    from .base import Attributes, Body
    from .store import Store


def read_blocks(store: Store, name: str, size: int = BLOCK) -> Iterator[memoryview]:
    """Yield an object's stored bytes; see `Store.blocks`.

    Parameters
    ----------
    store : Store
    name : str
    size : int, optional

    Yields
    ------
    memoryview
    """
    body = store.trying(lambda: store.open(name))
    return _read_on(store, name, body, size)


def _read_on(store: Store, name: str, body: Body, size: int) -> Iterator[memoryview]:
    from ..config import conf

    left, at, validator = int(conf.retries), 0, body.validator
    buffer = memoryview(bytearray(size))
    check = _Check(store, name, body)
    while True:
        try:
            with body:
                if body.start != at:
                    raise _changed(store, name)
                while count := body.readinto(buffer):
                    at += count
                    check.update(buffer[:count])
                    yield buffer[:count]
            break
        except IncompleteTransferError:
            if left <= 0 or validator is None:
                raise
            left -= 1
            body = _again(store, name, at, validator)
    check.end(at)


def _again(store: Store, name: str, at: int, validator: str) -> Body:
    return store.trying(lambda: store.open(name, at, validator))


def _changed(store: Store, name: str) -> IncompleteTransferError:
    address = store.address(name)
    return IncompleteTransferError(
        f"{address}: broke off, and cannot be read on: it changed or has no ranges", url=address
    )


class _Check:
    """Compares what was read with the digest and size that the service reports."""

    def __init__(self, store: Store, name: str, body: Body) -> None:
        from .. import hashes

        self._store, self._name, self._digest = store, name, body.digest
        self._size = body.size
        self._hasher = None if body.digest is None else hashes.new(body.digest.alg)

    def update(self, block: memoryview) -> None:
        if self._hasher is not None:
            self._hasher.update(block)

    def end(self, size: int) -> None:
        address = self._store.address(self._name)
        if self._size is not None and size != self._size:
            raise IncompleteTransferError(
                f"{address}: {size} bytes came of {self._size}",
                url=address,
                expected=self._size,
                actual=size,
            )
        if self._hasher is None or self._digest is None:
            return
        actual = self._hasher.hexdigest()
        if actual != self._digest.hex and self._store.vouches(self._name, self._digest):
            raise IntegrityError(
                f"{address}: the service says {self._digest}, its bytes have {actual}",
                hint="the object is damaged there or on the way; upload it again",
                name=self._name,
                source=address,
                expected=str(self._digest),
                actual=f"{self._digest.alg}:{actual}",
            )


def copy_object(
    source: Store,
    name: str,
    to: Store,
    new_name: str,
    reencode: str | None = None,
    level: int | None = None,
    replace: bool = True,
) -> int:
    """Copy one object.

    Parameters
    ----------
    source : Store
    name : str
    to : Store
    new_name : str
    reencode : str, optional
        How the copy is compressed; ``"none"`` for not at all. By default as the original.
    level : int, optional
    replace : bool, default True
        False leaves alone what is there.

    Returns
    -------
    int
        Stored bytes of the original; 0 if the service copied it, or it was there.
    """
    if not replace and to.exists(new_name):
        return 0
    if reencode is None and to.trying(lambda: to.clone(new_name, source, name)):
        return 0
    return to.trying(lambda: _through_here(source, name, to, new_name, reencode, level, replace))


def _through_here(
    source: Store,
    name: str,
    to: Store,
    new_name: str,
    reencode: str | None,
    level: int | None,
    replace: bool,
) -> int:
    body = source.trying(lambda: source.open(name))
    size, attributes = body.size, body.attributes
    blocks = _read_on(source, name, body, BLOCK if size is None else max(1, min(size, BLOCK)))
    attributes, recoded = _recoded(blocks, attributes, reencode, level, source.address(name))
    try:
        if size is not None and size <= WHOLE:
            content = b"".join(map(bytes, recoded))
            to.write(new_name, content, attributes, not replace)
        else:
            known = size if recoded is blocks else None
            to.write_blocks(new_name, recoded, attributes, not replace, known)
    except ObjectExistsError:
        if replace:
            raise
    finally:
        blocks.close()  # type: ignore[attr-defined]  # a generator; lets go of the connection
        body.close()
    return size or 0


def _recoded(
    blocks: Iterator[memoryview],
    attributes: Attributes,
    reencode: str | None,
    level: int | None,
    address: str,
) -> tuple[Attributes, Iterator[Any]]:
    if reencode is None:
        return attributes, blocks
    new = codecs.canonical(reencode)
    if new == attributes.encoding:
        return attributes, blocks
    plain = codecs.decode_blocks(blocks, attributes.encoding, address)
    return attributes.replaced(encoding=new), codecs.encode_blocks(plain, new, level)


def transfer(
    source: Store,
    to: Store,
    names: Iterable[Any] | None,
    *,
    reencode: str | None = None,
    level: int | None = None,
    replace: bool = True,
    job: str | None = None,
    progress: bool | Callback | None = None,
) -> Report:
    """Copy many objects; see `Store.transfer_to`.

    Parameters
    ----------
    source, to : Store
    names : iterable or None
    reencode, level, replace, job, progress
        See `Store.transfer_to`.

    Returns
    -------
    Report
    """
    codecs.canonical(reencode)  # a wrong word is told before anything moves

    def copy(pair: tuple[str, str]) -> int:
        return copy_object(source, pair[0], to, pair[1], reencode, level, replace)

    def again(failed: Iterable[str]) -> Report:
        pairs = [targets[name] for name in failed]
        return transfer(
            source, to, pairs, reencode=reencode, level=level, replace=replace, progress=progress
        )

    from ..report import Report

    targets: dict[str, tuple[str, str]] = {}
    report = Report(again)
    wanted = map(_pair, _names(source) if names is None else names)
    if job is None:
        watch, results = Watch(progress, names or ()), pool.run(copy, wanted, _threads(source, to))
        for pair, size, error in results:
            watch.done(pair[0], size or 0, error)
            if error is None:
                report.succeeded[pair[0]] = to.address(pair[1])
            else:
                report.failed[pair[0]], targets[pair[0]] = error, pair
    else:
        from .job import Job

        with Job(job, f"{source.url} {to.url} {reencode}") as shared:
            shared.plan(wanted)
            watch = Watch(progress, range(shared.left()))
            for pair, size, error in pool.run(copy, shared.take(), _threads(source, to)):
                shared.done(pair, error)
                watch.done(pair[0], size or 0, error)
                if error is None:
                    report.succeeded[pair[0]] = to.address(pair[1])
                else:
                    report.failed[pair[0]], targets[pair[0]] = error, pair
    report.raise_if_failed(to.url, "copied")
    return report


def _threads(source: Store, to: Store) -> int:
    return min(source.threads, to.threads)


def _names(source: Store) -> Iterator[str]:
    """List what there is to copy; some tools make empty objects that stand for folders."""
    return (name for name in source.list() if not name.endswith("/"))


def _pair(item: Any) -> tuple[str, str]:
    if isinstance(item, str):
        return item, item
    name, new_name = item
    return name, new_name
