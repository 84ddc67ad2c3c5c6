"""The files of one package on their way here: from the mirrors into the cache."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..base import fs, hashes, owners
from ..base.hashes import Digest
from ..base.pool import Crew
from ..base.progress import WAIT, Callback, Event, signing
from ..base.report import Report
from ..cache import partial, staging
from ..cache.objects import Cache
from ..cache.partial import Partial
from ..cache.stamps import PARTIAL, key_of, record_uses
from ..errors import CacheError, PkgdataError
from ..stores import Source
from ..transfer.fetch import Health, Mirrors, configured, fetch, shown
from .lookup import Settings, url_of
from .registry import Entry, Registry

#: Files that are copied to a node at the same time: a network's disk answers each after a while.
_COPIES = 4


class Downloads(NamedTuple):
    """Brings the files of one package into its cache."""

    name: str
    dataurl: Sequence[str]
    version: Callable[[], str | None]
    settings: Settings

    def mirrors(self, timeout: float | None = None) -> Mirrors:
        """Return the package's mirrors; ``timeout`` in seconds, the setting by default."""
        # finding the version costs 30 ms
        version = self.version() if any("{version}" in url for url in self.dataurl) else None
        return Mirrors(
            self.dataurl,
            self.settings["rewrite"],
            self.settings["remote_timeout"] if timeout is None else timeout,
            {"version": version, "package": self.name},
            self._health(),
        )

    def _health(self) -> Health | None:
        try:
            return Health(self.settings.cache.root)
        except CacheError:
            return None  # no home directory; what needs the cache reports it

    def sources(self, entry: Entry, timeout: float | None = None) -> list[Source]:
        """Return where a file should be, in order."""
        return self.mirrors(timeout).sources(entry.name, entry.urls)

    def bring(
        self, entry: Entry, show: Callback, timeout: float | None = None, **rounds: Any
    ) -> str:
        """Fetch a file, through the user's cache into the node's; ``rounds`` as for `fetch`."""

        def bring(into: Partial | None) -> str | None:
            def working(event: Event) -> None:
                if into is not None:
                    with contextlib.suppress(OSError):  # a sign for those who wait, no more
                        os.utime(into.path)
                show(event)

            return self.bring_home(entry, working, timeout, into, **rounds)

        node, waiting = self.settings.node, _waiting(entry, show)
        if node is None or entry.digest is None:
            path = bring(None)
        else:
            path = node.copy(entry.digest, entry.name, entry.size, bring, waiting)
        assert path is not None  # it is None only of a file that is filled
        return path

    def bring_home(
        self,
        entry: Entry,
        show: Callback,
        timeout: float | None = None,
        into: Partial | None = None,
        **rounds: Any,
    ) -> str | None:
        """Fetch a file into the user's cache; None if only ``into``, the node's, can be filled."""
        settings, filled, path = self.settings, [], None

        def fill(target: Partial) -> None:
            filled.append(target)
            fetch(
                entry.name,
                target,
                self.sources(entry, timeout),
                entry.digest,
                entry.size,
                show,
                limits=configured(settings.__getitem__),
                health=self._health(),
                **{"retries": settings["retries"], **rounds},
            )

        def bring(cache: Cache) -> str | None:
            if entry.digest is None:
                url = url_of(entry, self.name, self.dataurl, self.version)
                path = settings.url_cache.obtain(url, cache, fill)
                return settings.url_cache.named(url, entry.name) or path
            if into is not None and settings.node is not None and cache.root == settings.node.root:
                fill(into)  # a home that cannot be written to
                return None
            sync, waiting = settings["durability"] != "none", _waiting(entry, show)
            path = cache.obtain(entry.digest, entry.name, entry.size, fill, waiting, sync)
            record_uses(cache.root, self.name, [(entry.digest, entry.name)], new=True)
            return path

        def size() -> int:
            return os.stat(path or filled[0].path).st_size

        # without a transfer another process was faster, or the bytes are here under another name
        with shown(entry.name, show, size, lambda: bool(filled)):
            path = settings.in_cache(bring)
        return path

    # -- what machines give one another ----------------------------------------------------

    def growing(
        self, cache: Cache, digests: Iterable[Digest]
    ) -> dict[Digest, tuple[str, list[tuple[int, int]]]]:
        """Return the files that grow in a cache, and which intervals of each are there."""
        keys = {key_of(digest): digest for digest in digests}
        found = partial.growing(os.path.join(cache.root, PARTIAL), keys)
        return {keys[key]: one for key, one in found.items()}

    def keep(
        self, cache: Cache, contents: Iterable[tuple[Entry, memoryview]]
    ) -> Iterator[tuple[Entry, bool]]:
        """Bring small files into a cache in groups; yield each, and False if its bytes are wrong.

        No two of them may have the same digest.
        """
        cache.prepare()
        with cache.usage():
            group = partial.Group(cache, lambda _, path: None, self.settings["durability"])
            try:
                for entry, content in contents:
                    assert entry.digest is not None
                    good = hashes.hash_blocks((content,), entry.digest.alg) == entry.digest
                    if good:
                        path, fd = group.create(entry.digest)
                        fs.write_all(fd, content)
                        size, record = len(content), entry.size is None
                        group.add(path, fd, entry.digest, entry.name, size, record, entry)
                    yield entry, good
            finally:
                group.flush()

    def mark(self, cache: Cache, name: str) -> tuple[str, str]:
        """Return a text that those have in common who share a cache, and what removing forgets it.

        The first of them makes a link to that text, which the others find.
        """
        text, path = owners.unique(), os.path.join(cache.root, PARTIAL, name)
        try:
            cache.prepare()
            cache.bucket(PARTIAL)
            try:
                os.symlink(text, path)
            except FileExistsError:
                text = os.readlink(path)
        except (OSError, CacheError):
            pass  # no links here, or no cache: this process is taken for the only one
        return text, path


def _waiting(entry: Entry, show: Callback) -> Callable[[float, str, int], None]:
    return lambda _, who, size: show(Event(entry.name, WAIT, size, entry.size, who))


def fetch_all(
    data: Any,  # a PackageData, whose module imports this one
    names: Iterable[str],
    entries: list[Entry],
    report: Report,
    view: Callable[..., Callback],
) -> None:
    """Fetch the entries that a report lacks, and copy to the node what lies in slower caches.

    Batches of the same names on one node do so one after the other: the next finds it there.
    """
    import zlib

    crowd = zlib.crc32("\n".join(names).encode(errors="surrogatepass"))
    node = data.node_cache
    if node is None:
        _fetch_missing(data, entries, report, view, crowd)
        return
    with node.turn(f"fetch-{crowd:08x}", lambda: False) as turn:
        entries = data._look([entry.name for entry in entries], report)
        _fetch_missing(
            data, entries, report, lambda *sizes: signing(view(*sizes), turn.touch), crowd
        )
        crew = Crew(_COPIES)
        crew.add(functools.partial(_copy, data, report, turn), entries)
        crew.wait()
        node.tidy()


def _fetch_missing(
    data: Any, entries: list[Entry], report: Report, view: Callable[..., Callback], crowd: int
) -> None:
    missing = [entry for entry in entries if entry.name not in report.succeeded]
    if missing:
        from .batch import Batch  # a single file is spared what it loads

        downloads = data._downloads()
        settings, mirrors = data._settings, downloads.mirrors()
        batch = Batch(missing, data.cache, report, downloads.bring_home, mirrors, settings, crowd)
        batch.run(view)


def _copy(data: Any, report: Report, turn: staging.Turn, entry: Entry) -> None:
    """Copy a file to the node if it lies in a slower cache; fetch it if it is damaged there."""
    path = report.succeeded.get(entry.name)
    if path is None or not data._lookup().is_far(path):
        return
    try:
        copied = data._settings.copied(entry, path)
        report.succeeded[entry.name] = copied or data.get(entry.name)
    except (PkgdataError, OSError) as error:
        report.failed[entry.name] = error
        del report.succeeded[entry.name]
    turn.touch()


def export(report: Report, folder: str, registry: Registry) -> None:
    """Write what was fetched below a folder; what is there stays if it has the same bytes."""
    swept = set()
    for name, path in list(report.succeeded.items()):
        target = os.path.join(folder, *name.split("/"))
        entry, above = registry.get(name), os.path.dirname(target)
        try:
            os.makedirs(above, exist_ok=True)
            if above not in swept:
                staging.sweep(above, end=owners.ASIDE)
                swept.add(above)
            if not _is_same(path, target, entry and entry.digest):
                fs.copy_atomic(path, target, sync=False)
            report.succeeded[name] = target
        except OSError as error:
            del report.succeeded[name]
            report.failed[name] = error


def _is_same(path: str, target: str, digest: Digest | None) -> bool:
    if not os.path.isfile(target) or os.path.getsize(target) != os.path.getsize(path):
        return False
    digest = digest or hashes.hash_file(path)
    return hashes.hash_file(target, digest.alg) == digest
