"""Publish: hash and compare, upload, write the registry, and prove it by downloading again.

The steps stand in this order, so that an end at any point does no harm::

    plan       nothing is written; what would change published bytes is refused
    upload     a file appears under its name only when it is complete
    record     the registry names only what is there: written aside, synced, renamed
    prove      every file is downloaded without credentials, and its digest compared

A run after an interruption finds at the destination what was uploaded: no file is sent twice, and
no notes have to be kept here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from ..base import hashes, pool, text, urls
from ..base.hashes import Digest
from ..base.progress import BYTES, DONE, START, Callback, Event, silent
from ..core.registry import Entry, Registry
from ..errors import ObjectExistsError, PkgdataError, PublishError
from ..stores import public
from . import landing, plan, readback
from .destination import PAGE, Destination, Held, Item
from .landing import About
from .plan import Plan
from .previews import previews
from .readback import OK, Finding, Mirror

#: Takes the stage, the number of files and their bytes; returns what gets each event.
Show = Callable[[str, int, int], Callback]

#: Seconds between two looks at a place that shows files with a delay.
_PAUSE = 5.0


def _nobody(*_: object) -> Callback:
    return silent


class Publication:
    """The files of a folder on their way to destinations; a context manager.

    The bytes of names in ``replace`` may be replaced. ``show`` takes ``"hashing"``, ``"uploading"``
    or ``"reading back"``, the number of files and their bytes; it returns what gets each `Event`.
    By default the ``choice`` is all but junk.
    """

    def __init__(
        self,
        folder: str,
        destinations: Sequence[Destination],
        registry_file: str,
        replace: Collection[str] = (),
        show: Show = _nobody,
        choice: text.Choice | None = None,
    ) -> None:
        self._folder = folder
        self._destinations = destinations
        self._file = registry_file
        self._replace = frozenset(replace)
        self._show = show
        self._choice = choice or text.Choice(junk=True)
        self.items: list[Item] = []
        self.plans: list[Plan] = []
        self.registry: Registry = plan.load_registry(registry_file)

    def __enter__(self) -> Publication:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        failed: list[Exception] = []
        for destination in self._destinations:
            try:
                destination.close()
            except (PkgdataError, OSError) as error:
                failed.append(error)
        if failed and kind is None:  # else what went wrong before says more
            raise failed[0]

    # -- 1 -------------------------------------------------------------------------------------

    def plan(self) -> list[Plan]:
        """Hash the files and compare them with the registry and every destination."""
        files, total = plan.measure(self._folder, self._file, self._choice)
        show = self._show("hashing", files, total)
        self.items = plan.collect(self._folder, self._file, self._choice, show)
        plan.check_registry(self.items, self.registry, self._replace)
        for destination in self._destinations:
            destination.check(self.items)
        self.plans = [
            plan.compare(destination, self.items, self._replace)
            for destination in self._destinations
        ]
        return self.plans

    def refuse(self) -> None:
        """Make sure that no published bytes would change."""
        for one in self.plans:
            plan.refuse(one.differs, one.destination.url)

    # -- 2 -------------------------------------------------------------------------------------

    def upload(self) -> int:
        """Send what is new, and make it visible; return the number of files sent."""
        self.refuse()
        sent = [len(one.to_send) for one in self.plans]
        total = sum(item.size for one in self.plans for item in one.to_send)
        show = self._show("uploading", sum(sent), total)
        for one in self.plans:
            if one.to_send or one.destination.unfinished():
                began = time.monotonic()
                self._upload_to(one, show)
                one.took = time.monotonic() - began
        return sum(sent)

    def _upload_to(self, one: Plan, show: Callback) -> None:
        destination, items = one.destination, one.to_send
        destination.begin(one.new, one.replaced)
        one.urls.update(_send(destination, items, {item.name for item in one.replaced}, show))
        for item in self.items:
            item.check_unchanged()
        one.urls.update(destination.finish())

    # -- 3 -------------------------------------------------------------------------------------

    def record(self) -> bool:
        """Write the registry, what others have added included; return whether it has changed."""
        own: dict[str, list[str]] = {}
        for one in self.plans:
            for name, url in one.urls.items():
                own.setdefault(name, []).append(url)
        before = plan.load_registry(self._file)  # others may have written to it while we uploaded
        self.registry = plan.merged(self.items, before, own, self._replace)
        return plan.write_registry(self._file, before, self.registry)

    # -- 4 -------------------------------------------------------------------------------------

    def _mirrors(self, one: Plan) -> list[Mirror]:
        place, base = one.destination.url, one.destination.dataurl
        below, own = [], []
        for item in self.items:
            url = one.urls.get(item.name)
            if url is not None:
                own.append(Entry(item.name, item.digest, item.size, (url,)))
            elif base is not None:
                below.append(Entry(item.name, item.digest, item.size))
            else:
                raise PublishError(f"{place} does not tell where {item.name!r} is")
        found = [Mirror(place, base, below)] if below else []
        # apart, lest a file whose own address fails is found below the base URL
        return found + ([Mirror(place, None, own)] if own else [])

    def prove(self, patience: float = 1.0) -> list[Finding]:
        """Download every file from every destination as anybody would, and compare digests.

        Files that do not show yet are waited for, ``patience`` times the destination's own delay.
        """
        files, total = len(self.items), sum(item.size for item in self.items)
        count = len(self.plans)
        show = self._show("reading back", files * count, total * count)
        found: list[Finding] = []
        for one in self.plans:
            destination = one.destination
            if destination.private:
                found += [self._read_privately(destination, item, show) for item in self.items]
                continue
            for mirror in self._mirrors(one):
                found += _settled(mirror, destination.delay * patience, show)
        return found

    def _read_privately(self, destination: Destination, item: Item, show: Callback) -> Finding:
        """Read with our own credentials what nobody else may see, such as a draft."""
        entry = Entry(item.name, item.digest, item.size)
        hasher, size = hashes.new(item.digest.alg), 0
        try:
            for block in destination.read(item.name):
                hasher.update(block)
                size += len(block)
                show(Event(item.name, BYTES, size, item.size))
        except (PkgdataError, OSError) as error:
            note = str(error).splitlines()[0]
            return Finding(destination.url, entry, readback.UNREACHABLE, note)
        show(Event(item.name, DONE, size, item.size))
        actual = Digest(item.digest.alg, hasher.hexdigest())
        if actual != item.digest:
            note = f"expected {item.digest}, found {actual}"
            return Finding(destination.url, entry, readback.WRONG, note)
        return Finding(destination.url, entry, OK, "read with credentials: it is not public")

    # -- 5 -------------------------------------------------------------------------------------

    def check_page(self, wanted: bool = True) -> None:
        """Find the pages of earlier runs; if one is wanted, it may replace nobody else's."""
        if wanted and any(item.name == PAGE for item in self.items):
            raise PublishError(f"--index: {self._folder} has an {PAGE} of its own")
        for one in self.plans:
            if one.has_page:
                try:
                    one.page = landing.check_page(one.destination)
                except PublishError:
                    if wanted:
                        raise

    def add_page(self, about: About | str, wanted: bool = True) -> list[str]:
        """Put an ``index.html`` next to the files; return its address at each destination.

        That of an earlier run is made again, wanted or not: what it says of the files is to stay
        true.
        """
        about = About(about) if isinstance(about, str) else about
        sums = {item.name: item.digest for item in self.items}
        doi = next((one.destination.doi for one in self.plans if one.destination.doi), "")
        found, shown = [], None
        for one in self.plans:
            base = one.destination.dataurl
            if base is None or not (one.page or (wanted and one.destination.shows_pages)):
                continue
            shown = previews(self.items) if shown is None else shown
            names = sums.keys() | landing.listed(one.page)
            entries = [entry for name, entry in self.registry.items() if name in names]
            # a path of this machine says nothing to visitors
            known = None if urls.scheme(base) == "file" else base
            content = landing.page(about.at(one.destination, doi), entries, known, shown, sums)
            if content != one.page:
                landing.publish_page(one.destination, content)
            found.append(urls.join(public(base), PAGE))
        return found


def check(mirrors: Sequence[Mirror], show: Show = _nobody) -> list[Finding]:
    """Download every file of every mirror without credentials, and compare digests."""
    entries = [entry for mirror in mirrors for entry in mirror.entries]
    callback = show("reading back", len(entries), sum(entry.size or 0 for entry in entries))
    return [finding for mirror in mirrors for finding in readback.read_back(mirror, callback)]


def _settled(mirror: Mirror, delay: float, show: Callback) -> list[Finding]:
    """Read back; where a place shows its files late, look again for those that are not there."""
    end = time.monotonic() + delay
    found = {one.entry.name: one for one in readback.read_back(mirror, show)}
    while time.monotonic() < end:
        late = [one.entry for one in found.values() if one.state != OK]
        if not late:
            break
        time.sleep(min(_PAUSE, delay))
        again = Mirror(mirror.name, mirror.dataurl, late)
        found |= {one.entry.name: one for one in readback.read_back(again, show)}
    return [*found.values()]


#: Bytes of a file that takes longer than handing it to a thread.
_SMALL = 1 << 20


class _Stopped(Exception):
    """Another file has failed, and this one need not go on."""


def _send(
    destination: Destination, items: Sequence[Item], replaced: Collection[str], show: Callback
) -> dict[str, str]:
    """Upload files in threads; the first failure ends it. Return addresses by name."""
    found: dict[str, str] = {}
    failed: list[tuple[Item, Exception]] = []

    def put(item: Item) -> Held:
        if failed:
            raise _Stopped
        show(Event(item.name, START, 0, item.size, destination.url))
        item.check_unchanged()

        def moved(size: int) -> None:
            if failed:
                raise _Stopped
            show(Event(item.name, BYTES, size, item.size, destination.url))

        held = destination.put(item, item.name in replaced, moved)
        show(Event(item.name, DONE, item.size, item.size, destination.url))
        return held

    done, width = 0, min(destination.threads, len(items))
    quick = (lambda item: item.size <= _SMALL) if destination.near else None
    for item, held, error in pool.run(put, items, width, quick=quick):
        if error is None:
            done += 1
            if held is not None and held.url is not None:
                found[item.name] = held.url
        elif not isinstance(error, _Stopped):
            failed.append((item, error))
    if failed:
        raise _failure(destination, *failed[0], done, len(items))
    return found


def _failure(
    destination: Destination, item: Item, error: Exception, done: int, total: int
) -> Exception:
    """Return the error of an upload that stopped, with what is known of how to go on."""
    if not isinstance(error, (PkgdataError, OSError)):
        return error
    again = "run the same command again: it resumes there"
    if isinstance(error, ObjectExistsError):
        reason, hint = "somebody else has just published it", again
    else:
        reason = error.message if isinstance(error, PkgdataError) else str(error)
        hint = "\n".join(filter(None, [getattr(error, "hint", None), again]))
    failure = PublishError(
        f"{item.name!r} could not be published to {destination.url}: {reason}\n"
        f"{done} of {total} files were uploaded",
        hint=hint,
    )
    failure.__cause__ = error
    return failure
