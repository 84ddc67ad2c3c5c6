"""The files of one package on their way here: from the mirrors into the cache."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..base import fs, hashes, owners
from ..base.progress import WAIT, Event
from ..cache import staging
from ..errors import CacheError
from ..transfer.fetch import Health, Mirrors, configured, fetch, shown
from .lookup import url_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..base.hashes import Digest
    from ..base.progress import Callback
    from ..base.report import Report
    from ..cache.objects import Cache
    from ..cache.partial import Partial
    from ..stores import Source
    from .lookup import Settings
    from .registry import Entry, Registry


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
        """Fetch a file into the cache; ``rounds`` as for `fetch`."""
        settings, filled = self.settings, []

        def fill(partial: Partial) -> None:
            filled.append(partial)
            fetch(
                entry.name,
                partial,
                self.sources(entry, timeout),
                entry.digest,
                entry.size,
                show,
                limits=configured(settings.__getitem__),
                health=self._health(),
                **{"retries": settings["retries"], **rounds},
            )

        def waiting(_: float, who: str, size: int) -> None:
            show(Event(entry.name, WAIT, size, entry.size, who))

        def bring(cache: Cache) -> str:
            if entry.digest is None:
                url = url_of(entry, self.name, self.dataurl, self.version)
                path = settings.url_cache.obtain(url, cache, fill)
                return settings.url_cache.named(url, entry.name) or path
            sync = settings["durability"] != "none"
            return cache.obtain(entry.digest, entry.name, entry.size, fill, waiting, sync)

        # without a transfer another process was faster, or the bytes are here under another name
        with shown(entry.name, show, lambda: os.stat(path).st_size, lambda: bool(filled)):
            path = settings.in_cache(bring)
        return path


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
