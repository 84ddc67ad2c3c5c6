"""Objects from one store to another, in blocks and bounded memory, stored bytes as they are.

A copy is made by the service itself where the two ends allow it, else its bytes pass through here,
one block at a time. It appears under its name only when it is complete and, where the source
reports a digest, right.
"""

from __future__ import annotations

import contextlib

from ..base import pool
from ..errors import (
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    ObjectExistsError,
    PkgdataError,
    StoreError,
)
from . import codecs
from .store import BLOCK, WHOLE, Watch
from .writing import guess_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..base.progress import Callback
    from ..base.report import Report
    from .base import Attributes, Body
    from .store import Store

    Item = tuple[Store, str, str]

#: Seconds that an interrupted call waits for copies under way to clear up behind them.
_CLEARING = 5.0

#: Bytes that a large object has in memory while it is copied from one bucket to another: four
#: ranges and four parts.
_UNDER_WAY = 96 << 20


def read_blocks(store: Store, name: str, size: int = BLOCK) -> Iterator[memoryview]:
    """Yield an object's stored bytes; see `Store.blocks`."""
    body = store.trying(lambda: store.open(name))
    return _read_on(store, name, body, size)


def _read_on(store: Store, name: str, body: Body, size: int) -> Iterator[memoryview]:
    failures, at, validator = 0, 0, body.validator
    with _Check(store, name, body, size) as check:
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

    def __init__(self, store: Store, name: str, body: Body, block: int) -> None:
        from ..base import hashes

        self._store, self._name, self._digest = store, name, body.digest
        self._size = body.size
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

    def end(self, size: int) -> None:
        if self._lane is not None:
            self._lane.finish()
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
    reencode : str, optional
        How the copy is compressed; ``"none"`` for not at all. By default as the original.
    replace : bool, default True
        False leaves alone what is there.

    Returns
    -------
    int
        Stored bytes of the original; 0 if the service copied it, or it was there.
    """
    return _copied(source, name, to, new_name, reencode, level, replace) or 0


def _copied(
    source: Store,
    name: str,
    to: Store,
    new_name: str,
    reencode: str | None,
    level: int | None,
    replace: bool,
    tell: Callable[[int, int | None], None] | None = None,
) -> int | None:
    """Copy one object as `copy_object` does; None if it was there and was left alone."""
    if not replace and to.exists(new_name):
        return None
    if reencode is None and to.trying(lambda: to.clone(new_name, source, name)):
        return 0
    return to.trying(
        lambda: _through_here(source, name, to, new_name, reencode, level, replace, tell)
    )


def _through_here(
    source: Store,
    name: str,
    to: Store,
    new_name: str,
    reencode: str | None,
    level: int | None,
    replace: bool,
    tell: Callable[[int, int | None], None] | None,
) -> int | None:
    body = source.trying(lambda: source.open(name))
    size, attributes = body.size, body.attributes
    read = _read_on(source, name, body, BLOCK if size is None else max(1, min(size, BLOCK)))
    blocks = read if tell is None else _told(read, size, tell)
    attributes, recoded = _recoded(blocks, attributes, reencode, level, source.address(name))
    if attributes.content_type is None and to.cloud:
        attributes = attributes.replaced(content_type=guess_type(new_name))
    whole = size is not None and size <= WHOLE
    try:
        with pool.ROOM.taking(3 * (size or 0) if whole else _UNDER_WAY):
            if whole:
                content = b"".join(map(bytes, recoded))
                to.write(new_name, content, attributes, not replace)
            else:
                known = size if recoded is blocks else None
                to.write_blocks(new_name, recoded, attributes, not replace, known)
    except ObjectExistsError:
        if replace:
            raise
        return None
    finally:
        read.close()  # type: ignore[attr-defined]  # a generator; lets go of the connection
        body.close()
    return size or 0


def _told(
    blocks: Iterator[memoryview], size: int | None, tell: Callable[[int, int | None], None]
) -> Iterator[memoryview]:
    """Tell of each block that passes; whoever is told may raise and so end the copy."""
    done = 0
    tell(0, size)
    for block in blocks:
        done += len(block)
        yield block
        tell(done, size)


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


class Copied:
    """What became of one of many copies.

    Parameters
    ----------
    name, target : str
        Of the original and of the copy.
    size : int or None, optional
        Bytes that passed through here; None if the copy was there and was left alone.
    began, ended : float
        By `time.monotonic`.
    """

    __slots__ = ("began", "ended", "error", "name", "size", "target")

    def __init__(
        self,
        name: str,
        target: str,
        size: int | None = None,
        error: Exception | None = None,
        began: float = 0.0,
        ended: float = 0.0,
    ) -> None:
        self.name = name
        self.target = target
        self.size = size
        self.error = error
        self.began = began
        self.ended = ended

    def __repr__(self) -> str:
        return f"<Copied {self.name} to {self.target}: {self.error or self.size}>"


class _Halt:
    """Ends the copies under way when whoever wanted them was interrupted."""

    def __init__(self) -> None:
        import threading

        self._asked = False
        self._busy = 0
        self._idle = threading.Condition()

    def __enter__(self) -> None:
        with self._idle:
            self._busy += 1

    def __exit__(self, *_: object) -> None:
        with self._idle:
            self._busy -= 1
            self._idle.notify_all()

    def check(self) -> None:
        if self._asked or pool.told_to_end():
            raise KeyboardInterrupt

    def end(self, seconds: float) -> None:
        self._asked = True
        with self._idle:
            self._idle.wait_for(lambda: not self._busy, seconds)


class _Copying:
    """How objects are copied; called with a list of them in a worker process."""

    def __init__(
        self,
        to: Store,
        reencode: str | None,
        level: int | None,
        replace: bool,
        move: bool,
        by_target: bool,
    ) -> None:
        self._to, self._move, self._by_target = to, move, by_target
        self._how = (reencode, level, replace)

    def label(self, name: str, target: str) -> str:
        return target if self._by_target else name

    def one(self, item: Item, watch: Watch, halt: _Halt) -> Copied:
        import time

        source, name, target = item
        label = self.label(name, target)

        def tell(done: int, size: int | None) -> None:
            halt.check()
            watch.moved(label, done, size)

        began = time.monotonic()
        with halt:
            halt.check()
            watch.begun(label)
            size = error = None
            try:
                size = self._carry(source, name, target, tell)
            except Exception as failure:
                error = failure
        return Copied(name, target, size, error, began, time.monotonic())

    def _carry(self, source: Store, name: str, target: str, tell: Any) -> int | None:
        to = self._to
        if not self._move:
            return _copied(source, name, to, target, *self._how, tell)
        if source.same(name, to, target):
            address = source.address(name)
            raise StoreError(f"{address} cannot be moved onto itself", url=address)
        reencode, _, replace = self._how
        if reencode is None and replace and to.adopt(target, source, name):
            return 0
        size = _copied(source, name, to, target, *self._how, tell)
        if size is not None:
            source.delete(name)
        return size

    def __call__(self, items: list[Item]) -> list[Copied]:
        watch, halt = Watch(None), _Halt()
        threads = min(len(items), _threads(items[0][0], self._to))
        with self.together():
            found = self.run(items, watch, halt, threads)
            return [_outcome(*result) for result in found]

    def run(
        self, items: Iterable[Item], watch: Watch, halt: _Halt, threads: int
    ) -> Iterator[tuple[Item, Copied | None, Exception | None]]:
        quick = self._is_quick if self._to.near else None
        return pool.run(lambda item: self.one(item, watch, halt), items, threads, quick=quick)

    @staticmethod
    def _is_quick(item: Item) -> bool:
        source, name, _ = item
        try:
            return source.near and (source.info(name).size or 0) <= BLOCK
        except (PkgdataError, OSError):
            return True  # the copy words the error

    def together(self) -> contextlib.AbstractContextManager[object]:
        """Return a context in which copies are made durable together, unless originals go."""
        return contextlib.nullcontext() if self._move else self._to.bulk()


def _outcome(item: Item, copied: Copied | None, error: Exception | None) -> Copied:
    return copied if copied is not None else Copied(item[1], item[2], None, error)


def copies(
    items: Iterable[Item],
    to: Store,
    *,
    reencode: str | None = None,
    level: int | None = None,
    replace: bool = True,
    move: bool = False,
    parallel: int = 1,
    threads: int | None = None,
    watch: Watch | None = None,
    by_target: bool = False,
) -> Iterator[Copied]:
    """Copy objects of any stores to one, and yield what became of each.

    A caller that is interrupted, or that closes the iterator, ends the copies under way; what they
    had begun is cleared up and nothing of it is under a final name.

    Parameters
    ----------
    items : iterable of (Store, str, str)
        Where an original is, its name there, and the copy's name. Taken as the work goes on.
    reencode, level, replace
        See `Store.transfer_to`.
    move : bool, default False
        Remove each original once its copy is there.
    parallel : int, default 1
        Worker processes.
    threads : int, optional
        Copies at once, where there are no worker processes.
    watch : Watch, optional
        Told of what begins, goes on and ends.
    by_target : bool, default False
        Tell of it by the copy's name; originals of several stores may have the same one.
    """
    codecs.canonical(reencode)  # a wrong word is told before anything moves
    how = _Copying(to, reencode, level, replace, move, by_target)
    watch = watch or Watch(None)
    if parallel > 1 and to.shared:
        for copied in pool.spread(how, map(_reachable, items), parallel, first=1):
            label = how.label(copied.name, copied.target)
            watch.done(label, copied.size or 0, copied.error)
            yield copied
        return
    halt = _Halt()
    found = how.run(items, watch, halt, threads or to.threads)
    try:
        with how.together():
            for result in found:
                copied = _outcome(*result)
                label = how.label(copied.name, copied.target)
                watch.done(label, copied.size or 0, copied.error)
                yield copied
    except (KeyboardInterrupt, GeneratorExit):
        halt.end(_CLEARING)
        raise
    finally:
        found.close()  # type: ignore[attr-defined]  # a generator; ends its threads


def _reachable(item: Item) -> Item:
    """Refuse a source that worker processes would find empty."""
    if not item[0].shared:
        raise ConfigError(
            f"{item[0].url} is in this process alone", hint="copy without worker processes"
        )
    return item


def job_copies(
    source: Store,
    to: Store,
    pairs: Iterable[tuple[str, str]],
    path: str,
    words: str,
    progress: bool | Callback | None = None,
    **options: Any,
) -> Iterator[Copied]:
    """Copy what a job's file says is left, and note there what is done; see `copies`.

    Parameters
    ----------
    pairs : iterable of (str, str)
        Names and the copies' names; not looked at if the file knows them already.
    path : str
        The job's file.
    words : str
        What is copied where, in words; a file that says otherwise is refused.
    **options
        See `copies`.
    """
    from .job import Job

    with Job(path, words) as shared:
        shared.plan(pairs)
        watch = Watch(progress, range(shared.left()))
        items = ((source, name, target) for name, target in shared.take())
        with contextlib.closing(copies(items, to, watch=watch, **options)) as found:  # type: ignore[type-var]
            for copied in found:
                shared.done((copied.name, copied.target), copied.error)
                yield copied


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
    reencode, level, replace, job, progress
        See `Store.transfer_to`.
    """
    codecs.canonical(reencode)  # a wrong word is told before anything moves

    def again(failed: Iterable[str]) -> Report:
        pairs = [targets[name] for name in failed]
        return transfer(
            source, to, pairs, reencode=reencode, level=level, replace=replace, progress=progress
        )

    from ..base.report import Report

    targets: dict[str, tuple[str, str]] = {}
    report = Report(again)
    wanted = map(_pair, _names(source) if names is None else names)
    options: dict[str, Any] = {
        "reencode": reencode,
        "level": level,
        "replace": replace,
        "threads": _threads(source, to),
    }
    if job is None:
        watch = Watch(progress, names or ())
        items = ((source, name, target) for name, target in wanted)
        found = copies(items, to, watch=watch, **options)
    else:
        words = f"{source.url} {to.url} {reencode}"
        found = job_copies(source, to, wanted, job, words, progress, **options)
    for copied in found:
        if copied.error is None:
            report.succeeded[copied.name] = to.address(copied.target)
        else:
            report.failed[copied.name] = copied.error
            targets[copied.name] = copied.name, copied.target
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
