"""Move a prepared dataset to another computer or bucket.

What arrives has the layout of ``<data>`` (`pkgdata.catalog.places`), so that there
``pkgdata catalog --data DIR prepare NAME`` finds it and fetches nothing. Files that links lead to
are copied as files. Repeating an interrupted call resumes it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..base import fs
from ..base.report import Report
from ..errors import CatalogError
from ..stores import Store
from . import places
from .definition import Definition
from .prepare import missing
from .resources.elsewhere import Elsewhere, links, reference, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..base.progress import Callback
    from .library import Catalog

#: ``host:path`` and ``user@host:path``, as scp has them, or just ``user@host``.
_HOST = re.compile(r"(?P<host>(?:[\w.-]+@)?[\w.-]+|(?:[\w.-]+@)?\[[0-9a-fA-F:]+\]):(?P<path>.*)")


def destination(text: str, root: Path) -> str:
    """Return the URL of a store, folder, or ``[user@]host:folder``, another computer by SFTP.

    ``user@host`` alone means the same folder as here, which is ``root``.
    """
    if "://" in text or os.sep in text.partition(":")[0] or os.path.isdir(text):
        return text
    match = _HOST.fullmatch(text if ":" in text else f"{text}:" if "@" in text else "")
    if match is None or (len(match["host"]) == 1 and fs.WINDOWS):
        return text
    folder = match["path"] or str(root)
    below_home = "" if folder.startswith("/") else "/~/"
    return f"sftp://{match['host']}{below_home}{folder.removeprefix('~/')}"


def copy(
    catalog: Catalog,
    dataset: Any,
    to: str | Store,
    *,
    force: bool = False,
    progress: bool | Callback | None = None,
) -> Report:
    """Copy a prepared dataset, and those that it links to, to a place (see `destination`).

    What has the same size there is left alone, unless ``force`` is set. The report has the names
    and addresses of what is there now.
    """
    definition = catalog.find(dataset) if isinstance(dataset, str) else dataset
    with catalog.active():
        root = definition.root
        files = list(_files(definition))
        target = Store(destination(to, root)) if isinstance(to, str) else to
        return _send(files, root, target, force, progress)


def _files(definition: Any) -> Iterator[tuple[Path, str]]:
    """Yield (path here, name there) of all that a dataset consists of."""
    if isinstance(definition, Definition):
        absent = [one.name for one in missing(definition) if one.has_files()]
        if absent:
            raise CatalogError(
                f"{definition.id} is not prepared here: {', '.join(absent)} is missing",
                hint=f"pkgdata catalog prepare {definition.id}",
            )
    folder = definition.datapath
    base = f"data/{definition.storage}/{'/'.join(definition.id.split('.'))}"
    for resource in definition.resources.values():
        if isinstance(resource, reference):
            yield from _files(resource.target())
        elif isinstance(resource, links) and resource.target is not None:
            yield from _files(resolve(resource.target, definition))
        elif isinstance(resource, Elsewhere) and resource.path.parent != folder:
            yield from _below(resource.path, f"{base}/{resource.name}")
    if folder.is_dir():
        yield from _below(folder, base)


def _below(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        yield path, name
        return
    for relative, source in fs.walk_files(str(path)):
        if not any(places.is_aside(part) for part in relative.split("/")):
            yield Path(source), f"{name}/{relative}"


def _send(
    wanted: list[tuple[Path, str]],
    root: Path,
    target: Store,
    force: bool,
    progress: bool | Callback | None,
) -> Report:
    """Copy files that are not there; those below one folder in one go."""

    def again(names: Iterable[str]) -> Report:
        chosen = set(names)
        return _send([one for one in wanted if one[1] in chosen], root, target, True, progress)

    total = Report(again)
    total.succeeded.update({name: target.address(name) for _, name in wanted})
    groups: dict[Path, list[tuple[str, str]]] = {}
    for path, name in wanted if force else _absent(wanted, target):
        top = root if path.is_relative_to(root) else path.parent
        groups.setdefault(top, []).append((path.relative_to(top).as_posix(), name))
    for top, pairs in groups.items():
        Store(str(top)).transfer_to(target, pairs, progress=progress)
    return total


def _absent(wanted: list[tuple[Path, str]], target: Store) -> list[tuple[Path, str]]:
    """Leave out what is there with the same size: objects appear whole or not at all."""
    there = target.size([name for _, name in wanted]) if wanted else {}
    return [(path, name) for path, name in wanted if there.get(name) != os.path.getsize(path)]
