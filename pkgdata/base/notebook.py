"""What notebooks show of objects: facts and a table, escaped. Nothing is fetched or hashed for it.

The objects are known by the names of their classes: those of the rows above are not imported here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import PkgdataError
from . import text

#: A title, facts with their labels, and a table with its head.
View = tuple[str, dict[str, object], Sequence[str], Sequence[Sequence[object]]]

#: Rows of a table; what a page of a notebook holds.
_MOST = 30

#: Characters of a cell that stays in one line.
_LONG = 36


def html(value: Any) -> str:
    """Return an object as HTML; of a list, as a table of what it holds."""
    one = value[0] if isinstance(value, list) and value else value
    view = next(_VIEWS[cls.__name__] for cls in type(one).__mro__ if cls.__name__ in _VIEWS)
    try:
        return _drawn(*view(value))
    except (PkgdataError, OSError) as error:
        return _drawn(repr(value), {"problem": error}, (), ())


def _part(name: str, **words: object) -> str:
    return text.template(__file__, f"notebook.html#{name}", **words)


def _drawn(
    title: str, facts: dict[str, object], head: Sequence[str], rows: Sequence[Sequence[object]]
) -> str:
    told = [
        _part("fact", label=text.html(label), value=text.html(value))
        for label, value in facts.items()
        if value not in (None, "", ())
    ]
    lines = [_part("row", cells="".join(map(_cell, row))) for row in rows[:_MOST]]
    if len(rows) > _MOST:
        lines.append(_part("more", width=len(head), count=len(rows) - _MOST))
    cells = "".join(_part("head", cell=text.html(cell)) for cell in head)
    return _part(
        "view",
        style=text.template(__file__, "notebook.css"),
        title=text.html(title),
        facts=_part("facts", rows="\n".join(told)) if told else "",
        table=_part("table", head=cells, rows="\n".join(lines)) if lines else "",
    )


def _cell(value: object) -> str:
    shown = str(value)
    # what is long may break anywhere; short words stay whole
    return _part("long" if len(shown) > _LONG else "cell", cell=text.html(shown))


def _size(count: int | None) -> str:
    return "" if count is None else text.size(count)


def _counted(entries: Any) -> str:
    """Return how many files a registry has, and their bytes if all are known."""
    sizes = [entry.size for entry in entries.values()]
    known = f", {text.size(sum(sizes))}" if sizes and None not in sizes else ""
    return text.counted(len(sizes), "file") + known


def _package(data: Any) -> View:
    rows: list[tuple[object, ...]] = []
    for entry in data.registry.values():
        place = data._lookup().glance(entry.name, data.registry) if len(rows) < _MOST else None
        here = f"{place.kind}: {place.where}" if place else "no"
        rows.append((entry.name, _size(entry.size), here))
    facts: dict[str, object] = {
        "files": _counted(data.registry),
        "folders": ", ".join(data.folders),
    }
    return repr(data)[1:-1], facts, ("name", "size", "here"), rows


def _registry(registry: Any) -> View:
    rows = [(one.name, _size(one.size), one.digest or "not pinned") for one in registry.values()]
    facts = {"files": _counted(registry), "from": registry.file}
    return "Registry", facts, ("name", "size", "digest"), rows


def _report(report: Any) -> View:
    failed = [(name, "failed", str(error).splitlines()[0]) for name, error in report.failed.items()]
    here = [
        (name, "new" if name in report.new else "here", path)
        for name, path in report.succeeded.items()
    ]
    facts = {
        "succeeded": len(report.succeeded),
        "failed": len(report.failed),
        "downloaded": text.speed(report.bytes, report.seconds) if report.new else "",
    }
    for host, share in report.hosts.items():
        facts[host] = (
            f"{text.counted(share.files, 'file')}, {text.size(share.origin)} from the origin, "
            f"{text.size(share.peers)} from peers, {text.seconds(share.seconds)}"
        )
    return "Report", facts, ("name", "state", "path or error"), failed + here


def _store(store: Any) -> View:
    harmless = ("anonymous", "region", "request_payer", "threads", "timeout")
    facts = {name: store._options[name] for name in harmless if name in store._options}
    return repr(store)[1:-1], facts, (), ()


def _dataset(dataset: Any) -> View:
    rows = [(name, folder) for name, folder in dataset.items()]
    facts = {"place": dataset.location, **dataset.meta}
    return f"Dataset {dataset.name}", facts, ("partition", "folder"), rows


def _found(entries: Any) -> View:
    rows = [
        (one.id, one.title, ", ".join(one.tags), one.types[0] if one.types else "", one.repository)
        for one in entries
    ]
    head = ("name", "title", "tags", "type", "repository")
    return f"{text.counted(len(rows), 'dataset')} found", {}, head, rows


def _places(places: Any) -> View:
    rows = [(one.kind, one.state, one.where, one.note) for one in places]
    return "Places, in the order of lookup", {}, ("kind", "state", "where", "note"), rows


def _conf(conf: Any) -> View:
    rows = [
        (name, ", ".join(value) if isinstance(value, tuple) else value, place)
        for name, value, place in conf._rows()
    ]
    return "Settings", {}, ("setting", "value", "from"), rows


# -- a bar, which needs no widgets ----------------------------------------------------------------


@functools.cache
def bar_class() -> Any:
    """Return tqdm's class that draws by HTML; its own needs ipywidgets, or warns."""
    import io

    import tqdm
    from IPython.display import display

    class NotebookBar(tqdm.tqdm):  # type: ignore[type-arg]  # it cannot be subscripted
        """A bar in the output of a cell."""

        def __init__(self, **options: Any) -> None:
            self._output: Any = None
            told = "{l_bar} {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"
            super().__init__(**{**options, "file": io.StringIO()}, bar_format=told)

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            """Draw the bar as it is now; an empty text takes it away."""
            line = str(self) if msg is None else msg
            total = max(self.total or 1, self.n)
            drawn = _part("bar", done=self.n, total=total, text=text.html(line)) if line else ""
            shown = {"text/plain": line, "text/html": drawn}
            if self._output is None:
                self._output = display(shown, raw=True, display_id=True)
            else:
                self._output.update(shown, raw=True)

    return NotebookBar


#: By the name of the class; of a list, that of what it holds, or of itself if it is empty.
_VIEWS: dict[str, Callable[[Any], View]] = {
    "PackageData": _package,
    "Registry": _registry,
    "Report": _report,
    "Store": _store,
    "Dataset": _dataset,
    "IndexEntry": _found,
    "Place": _places,
    "Rows": _found,
    "Conf": _conf,
}
