"""Objects from one store to another, in blocks and bounded memory, stored bytes as they are.

A copy is made by the service itself where the two ends allow it, else its bytes pass through here,
one block at a time. It appears under its name only when it is complete and, where the source
reports a digest, right.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..base import owners, pool, progress
from ..base.progress import BYTES, START, Callback, Event
from ..base.report import HostShare, Report, each_name, one_name, plain_name
from ..errors import ConfigError, ObjectExistsError, PkgdataError, PkgdataWarning, StoreError, warn
from . import codecs
from .base import Driver
from .objects import BLOCK, UNREADABLE, WHOLE, Attributes, is_marker
from .reading import length, read_on
from .writing import guess_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cluster import bulk

Item = tuple[Driver, str, str]
Tell = Callable[[int, int | None], None]

#: Seconds that an interrupted call waits for copies under way to clear up behind them.
_CLEARING = 5.0

#: Bytes that a large object has in memory while it is copied from one bucket to another: four
#: ranges and four parts.
_UNDER_WAY = 96 << 20


class Recipe(NamedTuple):
    """How objects are copied: compressed as the original, or otherwise; ``"none"`` for not."""

    reencode: str | None = None
    level: int | None = None
    #: False leaves alone what is there.
    replace: bool = True
    #: Whether it is an error if attributes cannot be kept, as when the original is removed.
    strict: bool = False

    def copy(
        self, source: Driver, name: str, to: Driver, new_name: str, tell: Tell | None = None
    ) -> int | None:
        """Copy one object; return the bytes that passed through here, None if it was there."""
        if not self.replace and to.info_or_none(new_name) is not None:
            return None
        if self.reencode is None and source.same(name, to, new_name):
            address = source.address(name)
            raise StoreError(f"{address} cannot be copied onto itself", url=address)
        if self.reencode is None and to.trying(lambda: to.clone(new_name, source, name)):
            # a bucket would have to be asked for the size of what it has copied by itself
            return (source.info(name).size or 0) if source.near else 0
        return to.trying(lambda: self._through_here(source, name, to, new_name, tell))

    def _through_here(
        self, source: Driver, name: str, to: Driver, new_name: str, tell: Tell | None
    ) -> int | None:
        body = source.trying(lambda: source.open(name))
        size = body.size
        read = read_on(source, name, body, BLOCK if size is None else max(1, min(size, BLOCK)))
        blocks = read if tell is None else _told(read, size, tell)
        # what a web server compresses on the way is a file of its name here, not of another
        encoded = body.attributes.encoding in codecs.SUFFIXES and self.reencode is None
        how = self._replace(reencode="none") if encoded and source.web and to.near else self
        kept = self._kept(source, name, body.attributes, to)
        if source.cloud and to.suffixed:  # `x.csv.gz` declared as gzip is that file
            kept = kept.replaced(encoding=codecs.layer(name, kept.encoding))
        attributes, recoded = how._recoded(blocks, kept, source.address(name))
        if attributes.content_type is None and to.cloud:
            attributes = attributes.replaced(content_type=guess_type(new_name))
        whole = size is not None and size <= WHOLE and (recoded is blocks or how is self)
        try:
            with pool.ROOM.taking(3 * (size or 0) if whole else _UNDER_WAY):
                if whole:
                    content = b"".join(map(bytes, recoded))
                    to.write(new_name, content, attributes, not self.replace)
                else:
                    known = size if recoded is blocks else None
                    to.write_blocks(new_name, recoded, attributes, not self.replace, known)
        except ObjectExistsError:
            if self.replace:
                raise
            return None
        finally:
            read.close()  # type: ignore[attr-defined]  # a generator; lets go of the connection
            body.close()
        return size or 0

    def _kept(self, source: Driver, name: str, attributes: Attributes, to: Driver) -> Attributes:
        """Return an object's attributes as the copy keeps them, from one bucket to another."""
        ask = getattr(source, "all_attributes", None)  # buckets have it
        if ask is None or not to.cloud:
            return attributes
        kept: Attributes = ask(name, attributes)
        lost = []
        if kept.storage_class and type(source) is not type(to):
            lost.append(f"storage class {kept.storage_class}")
            kept = kept.replaced(storage_class=None)
        if kept.tags and (kept.tags == UNREADABLE or not getattr(to, "has_tags", False)):
            lost.append("tags")
            kept = kept.replaced(tags=None)
        if lost and self.strict:
            address, what = source.address(name), " and ".join(lost)
            raise StoreError(
                f"{address}: {to.url} cannot keep its {what}; it was not moved",
                hint="mv --lossy moves it without; cp copies it",
                url=address,
            )
        if lost:
            what = " and ".join(lost)
            warn(f"{source.url}: {what} of objects cannot be kept in {to.url}", PkgdataWarning)
        return kept

    def _recoded(
        self, blocks: Iterator[memoryview], attributes: Attributes, address: str
    ) -> tuple[Attributes, Iterator[Any]]:
        new = codecs.canonical(self.reencode)
        if self.reencode is None or new == attributes.encoding:
            return attributes, blocks
        plain = codecs.decode_blocks(blocks, attributes.encoding, address)
        return attributes.replaced(encoding=new), codecs.encode_blocks(plain, new, self.level)


def _told(blocks: Iterator[memoryview], size: int | None, tell: Tell) -> Iterator[memoryview]:
    """Report each block that passes; the callback may raise and so end the copy."""
    done = 0
    tell(0, size)
    for block in blocks:
        done += len(block)
        yield block
        tell(done, size)


#: Stored bytes as they are; what is there is replaced.
AS_IT_IS = Recipe()


class Copied(NamedTuple):
    """What became of one of many copies: its size is None if it was there and left alone."""

    name: str
    target: str
    size: int | None = None
    error: Exception | None = None
    #: By `time.monotonic`.
    began: float = 0.0
    ended: float = 0.0
    #: The machine that made it, if that may be another one.
    host: str = ""


class _Halt:
    """Ends the copies under way when their caller is interrupted."""

    def __init__(self, ended: Callable[[], bool] = pool.told_to_end) -> None:
        self._asked = False
        self._ended = ended
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
        if self._asked or self._ended():
            raise KeyboardInterrupt

    def end(self, seconds: float) -> None:
        self._asked = True
        with self._idle:
            self._idle.wait_for(lambda: not self._busy, seconds)


class _Copying(NamedTuple):
    """Copies to one store."""

    to: Driver
    recipe: Recipe
    move: bool = False
    by_target: bool = False
    #: What makes equal the names that mean one object in `to`, and the names written so far by it.
    same_names: Callable[[str], str] | None = None
    written: dict[str, str] | None = None
    #: What workers on other machines must find in the folders of this one.
    proofs: Sequence[bulk.Proof] = ()

    def label(self, name: str, target: str) -> str:
        return target if self.by_target else name

    def one(self, item: Item, show: Callback, halt: _Halt) -> Copied:
        source, name, target = item
        label = self.label(name, target)

        def tell(done: int, size: int | None) -> None:
            halt.check()
            show(Event(label, BYTES, done, size))

        began = time.monotonic()
        with halt:
            halt.check()
            show(Event(label, START))
            size = error = None
            try:
                size = self._carry(source, name, target, tell)
            except Exception as failure:
                error = failure
        return Copied(name, target, size, error, began, time.monotonic())

    def _carry(self, source: Driver, name: str, target: str, tell: Tell) -> int | None:
        to, recipe = self.to, self.recipe
        if self.same_names is not None and self.written is not None:
            first = self.written.setdefault(self.same_names(target), target)
            if first != target:
                address = to.address(target)
                text = f"{address}: {first!r} is the same file on this disk, and was copied"
                raise ObjectExistsError(text, hint="copy it under another name", url=address)
        if not self.move:
            return recipe.copy(source, name, to, target, tell)
        if source.same(name, to, target):
            address = source.address(name)
            raise StoreError(f"{address} cannot be moved onto itself", url=address)
        if recipe.reencode is None and recipe.replace and to.adopt(target, source, name):
            return 0
        size = recipe.copy(source, name, to, target, tell)
        if size is not None:
            source.trying(lambda: source.remove(name))
        return size

    def in_worker(self, items: list[Item], halt: _Halt | None = None) -> list[Copied]:
        """Copy what a worker process is given."""
        threads = min(len(items), items[0][0].threads, self.to.threads)
        with self.together():
            found = self.run(items, progress.silent, halt or _Halt(), threads)
            return [_outcome(*result) for result in found]

    def elsewhere(self, items: list[Item]) -> list[Copied]:
        """Copy what a worker of an engine is given; times are by the clock on the wall."""
        from ..cluster import bulk  # it loads concurrent.futures, which a download is spared

        for proof in self.proofs:
            bulk.check(proof)
        made, ahead = self.in_worker(items, _Halt(bulk.cancelled())), time.time() - time.monotonic()
        return [_shifted(copied, ahead, owners.host_name()) for copied in made]

    def run(
        self, items: Iterable[Item], show: Callback, halt: _Halt, threads: int
    ) -> Iterator[tuple[Item, Copied | None, Exception | None]]:
        quick = self._is_quick if self.to.near else None
        return pool.run(lambda item: self.one(item, show, halt), items, threads, quick=quick)

    @staticmethod
    def _is_quick(item: Item) -> bool:
        source, name, _ = item
        try:
            return source.near and (source.info(name).size or 0) <= BLOCK
        except (PkgdataError, OSError):
            return True  # the copy words the error

    def together(self) -> contextlib.AbstractContextManager[object]:
        """Return a context in which copies are made durable together, unless originals go."""
        return contextlib.nullcontext() if self.move else self.to.bulk()


def _outcome(item: Item, copied: Copied | None, error: Exception | None) -> Copied:
    return copied if copied is not None else Copied(item[1], item[2], None, error)


def _on_workers(on: Any, items: Iterable[Item], how: _Copying) -> Iterator[Copied]:
    """Make copies on the workers of an engine, and yield what became of each."""
    from ..cluster import bulk

    proofs: list[bulk.Proof] = []
    here, known, ahead = bulk.is_here(on), set(), time.time() - time.monotonic()

    def sendable(item: Item) -> Item:
        source, name, _ = _reachable(item)
        if source not in known:
            if not here:
                bulk.refuse_secrets(source)
            found = source.info_or_none(name) if source.near else None
            if found is not None:
                proofs.append(bulk.Proof(source, name, found.size, found.modified))
            if found is not None or not source.near:
                known.add(source)
        return item

    def lost(item: Item, error: Exception) -> Copied:
        now = time.time()
        return Copied(item[1], item[2], None, error, now, now)

    probe = owners.aside("here")
    sendable((how.to, probe, probe))
    try:
        if how.to.near:
            how.to.write(probe, b"")
            sendable((how.to, probe, probe))
        function = how._replace(proofs=proofs).elsewhere
        made = bulk.spread(function, map(sendable, items), on, lost)
        with contextlib.closing(made) as found:  # type: ignore[type-var]
            for copied in found:
                yield _shifted(copied, -ahead, copied.host)
    finally:
        if how.to.near:
            how.to.remove(probe)


def _shifted(copied: Copied, seconds: float, host: str) -> Copied:
    began, ended = copied.began + seconds, copied.ended + seconds
    return copied._replace(began=began, ended=ended, host=host)


def copies(
    items: Iterable[Item],
    to: Driver,
    recipe: Recipe = AS_IT_IS,
    *,
    move: bool = False,
    parallel: int = 1,
    on: Any = None,
    threads: int | None = None,
    show: Callback = progress.silent,
    by_target: bool = False,
) -> Iterator[Copied]:
    """Copy objects of any stores to one, and yield what became of each.

    An item is where an original is, its name there, and the copy's name; items are taken as the
    work goes on. ``move`` removes each original once its copy is there; ``parallel`` counts worker
    processes, ``on`` is an engine with workers, ``threads`` counts copies at once where there are
    none. Progress is reported by the name of the original, or ``by_target``: originals of several
    stores may have the same one.

    A caller that is interrupted, or that closes the iterator, ends the copies under way; what they
    have written so far is removed, and nothing of it is under a final name.
    """
    codecs.canonical(recipe.reencode)  # an unknown encoding is reported before anything moves
    items = iter(items)
    begin = [*itertools.islice(items, 2)]
    same = to.same_names() if len(begin) > 1 else None
    how, halt = _Copying(to, recipe, move, by_target, same, {}), _Halt()
    items = itertools.chain(begin, items)
    if on is not None:
        _reachable((to, "", ""))
    spreads = (parallel > 1 or on is not None) and same is None and to.shared
    found: Any
    if not spreads:
        found = how.run(items, show, halt, threads or to.threads)
    elif on is not None:
        found = _on_workers(on, items, how)
    else:
        found = pool.spread(how.in_worker, map(_reachable, items), parallel, first=1)
    try:
        with contextlib.nullcontext() if spreads else how.together():
            for result in found:
                copied = result if spreads else _outcome(*result)
                label = how.label(copied.name, copied.target)
                show(progress.ended(label, copied.size or 0, copied.error))
                yield copied
    except (KeyboardInterrupt, GeneratorExit):
        halt.end(_CLEARING)
        raise
    finally:
        found.close()  # a generator; ends its threads


def _reachable(item: Item) -> Item:
    """Refuse a source that worker processes would find empty."""
    if not item[0].shared:
        raise ConfigError(
            f"{item[0].url} is in this process alone", hint="copy without worker processes"
        )
    return item


def job_copies(
    source: Driver,
    to: Driver,
    pairs: Iterable[tuple[str, str]],
    path: str,
    words: str,
    shown: bool | Callback | None = None,
    **options: Any,
) -> Iterator[Copied]:
    """Copy what the file of a job says is left, and note there what is done; see `copies`.

    The pairs of names are read only if the file does not know them already; ``words`` say what is
    copied where, and a file that says otherwise is refused.
    """
    from .job import Job  # it needs sqlite3, which some builds of Python lack

    with Job(path, words) as shared:
        shared.plan(pairs)
        show = progress.view(shown, shared.left())
        items = ((source, name, target) for name, target in shared.take())
        with contextlib.closing(copies(items, to, show=show, **options)) as found:  # type: ignore[type-var]
            for copied in found:
                shared.done((copied.name, copied.target), copied.error)
                yield copied


def transfer(
    source: Driver,
    to: Driver,
    names: Iterable[Any] | None,
    recipe: Recipe,
    job: str | None = None,
    shown: bool | Callback | None = None,
    on: Any = None,
) -> Report:
    """Copy many objects; see `Store.transfer_to`."""
    codecs.canonical(recipe.reencode)  # an unknown encoding is reported before anything moves

    def again(failed: Iterable[str]) -> Report:
        return transfer(source, to, [targets[name] for name in failed], recipe, None, shown, on)

    targets: dict[str, tuple[str, str]] = {}
    report = Report(again)
    if names is None:  # some tools make empty objects that stand for folders
        wanted = ((name, name) for name, info in source.scan() if not is_marker(name, info))
    else:
        names = each_name(names)
        wanted = (_pair(item) for item in names)
    threads = min(source.threads, to.threads)
    if job is None:
        show = progress.view(shown, length(names))
        items = ((source, name, target) for name, target in wanted)
        found = copies(items, to, recipe, threads=threads, show=show, on=on)
    else:
        words = f"{source.url} {to.url} {recipe.reencode}"
        how = {"recipe": recipe, "threads": threads, "on": on}
        found = job_copies(source, to, wanted, job, words, shown, **how)
    began = time.monotonic()
    for copied in found:
        if copied.error is None:
            report.succeeded[copied.name] = to.address(copied.target)
            if copied.host:
                share = report.hosts.setdefault(copied.host, HostShare())
                share.origin += copied.size or 0
                share.files += copied.size is not None
                share.seconds = max(share.seconds, copied.ended - began)
        else:
            report.failed[copied.name] = copied.error
            targets[copied.name] = copied.name, copied.target
    report.raise_if_failed(to.url, "copied")
    return report


def _pair(item: Any) -> tuple[str, str]:
    name = one_name(item)
    if name is not None:
        return name, name
    name, new_name = item
    return plain_name(name), plain_name(new_name)
