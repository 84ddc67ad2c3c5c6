"""``--pkgdata-report``: which data files a run used, where they came from, how large they are.

While it is active, methods of `PackageData` are wrapped, so that runs without the option cost
nothing. Each worker of pytest-xdist sends what it saw with the reports
of its tests.
"""

from __future__ import annotations

import functools
import os

import pytest

from ...base import text
from ...base.progress import BYTES, START
from ...base.report import HIT
from ...base.urls import redact
from ...core.package import PackageData
from ...errors import BatchError, PkgdataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ...base.progress import Callback, Event

    #: Package, name, kind of place, path or URL, bytes. A list, since it travels as JSON.
    Row = list[Any]

_MIRROR = "mirror"
#: Methods that are wrapped: those that return files, and the one that chooses the progress bars.
_VERBS = ("get", "fetch", "tree", "_view")


class Usage:
    """Counts the files that this process uses, and prints those of all processes."""

    def __init__(self, is_worker: bool) -> None:
        self._is_worker = is_worker
        self._rows: dict[tuple[str, str], Row] = {}
        self._unsent: list[Row] = []
        self._mirrors: dict[tuple[str, str], str] = {}
        self._originals = {verb: getattr(PackageData, verb) for verb in _VERBS}
        for verb, original in self._originals.items():
            setattr(PackageData, verb, self._wrapped(verb, original))

    def _wrapped(self, verb: str, original: Callable[..., Any]) -> Callable[..., Any]:

        @functools.wraps(original)
        def wrapped(data: PackageData, *args: Any, **kwargs: Any) -> Any:
            try:
                result = original(data, *args, **kwargs)
            except BatchError as error:
                self._note_all(data, error.report.succeeded)
                raise
            if verb == "_view":
                return self._learning(data, result)
            if verb == "fetch":
                self._note_all(data, result.succeeded)
            elif verb == "get":
                self._note(data, args[0] if args else kwargs["name"])
            else:
                self._note_all(data, _below(data, *args, **kwargs))
            return result

        return wrapped

    def stop(self) -> None:
        """Remove the wrappers."""
        for name, original in self._originals.items():
            setattr(PackageData, name, original)

    # -- what is used ----------------------------------------------------------------------

    def _learning(self, data: PackageData, show: Callback) -> Callback:
        """Return a callback that learns from events which mirror serves, and passes them on."""

        def learning(event: Event) -> None:
            if event.source and event.state in (START, BYTES):
                self._mirrors[data.name, event.name] = redact(event.source)
            show(event)

        return learning

    def _note_all(self, data: PackageData, names: Iterable[str]) -> None:
        for name in list(names):
            self._note(data, name)

    def _note(self, data: PackageData, name: str) -> None:
        key = (data.name, name)
        mirror = self._mirrors.pop(key, None)
        if key in self._rows and mirror is None:
            return
        try:
            place = next(place for place in data.where(name) if place.state == HIT)
            size = os.path.getsize(place.where)
        except (StopIteration, PkgdataError, OSError):
            return  # it was removed meanwhile
        kind, where = (place.kind, place.where) if mirror is None else (_MIRROR, mirror)
        row = [data.name, name, kind, where, size]
        self._unsent.append(row)
        self._add(row)

    def _add(self, row: Row) -> None:
        """Keep a row; that some process fetched the file counts more than a later hit."""
        known = self._rows.get((row[0], row[1]))
        if known is None or row[2] == _MIRROR:
            self._rows[row[0], row[1]] = row

    # -- hooks -----------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add what this worker used to its report; collect what the workers sent."""
        if self._is_worker:
            report.pkgdata_used, self._unsent = self._unsent, []
        else:
            for row in getattr(report, "pkgdata_used", ()):
                self._add(row)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table."""
        terminalreporter.write_sep("=", "data files")
        cells = [
            (kind, text.size(size), f"{package}/{name}", where)
            for package, name, kind, where, size in sorted(self._rows.values())
        ]
        widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:3]]
        for kind, size, name, where in cells:
            terminalreporter.write_line(
                f"{kind:{widths[0]}}  {size:>{widths[1]}}  {name:{widths[2]}}  {where}"
            )
        total = text.size(sum(row[4] for row in self._rows.values()))
        fetched = [row[4] for row in self._rows.values() if row[2] == _MIRROR]
        terminalreporter.write_line(
            f"{len(cells)} files, {total}; fetched: {len(fetched)}, {text.size(sum(fetched))}"
        )


def _below(data: PackageData, prefix: str = "") -> list[str]:
    """Return the names that `PackageData.tree` takes in."""
    start = prefix.strip("/") + "/" if prefix.strip("/") else ""
    return [start + name for name in data.registry.under(prefix)]
