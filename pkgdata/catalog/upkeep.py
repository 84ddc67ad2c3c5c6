"""What ``pkgdata catalog`` does besides preparing: orphans, checks of sources, copies, a web page.

A copy has the layout of ``<data>`` (`pkgdata.catalog.places`), so that there
``pkgdata catalog --data DIR prepare NAME`` finds it and fetches nothing. Files that links lead to
are copied as files. The page is one file with all datasets, and a search where JavaScript runs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import urllib.parse
from contextvars import copy_context
from pathlib import Path
from typing import NamedTuple

from ..base import fs, hashes, pool, text
from ..base.config import conf
from ..base.report import Report
from ..base.urls import redact
from ..cache import staging
from ..errors import CatalogError, PkgdataError
from ..stores import Store
from ..stores.objects import Info
from ..transfer.fetch import Mirrors
from . import places
from .definition import Definition
from .prepare import missing
from .resources.elsewhere import Elsewhere, links, reference, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from ..base.progress import Callback
    from .index import IndexEntry
    from .library import Catalog


class Orphan(NamedTuple):
    """A folder that no definition owns."""

    path: Path
    repository: str
    reason: str

    def size(self) -> int:
        """Return the bytes of its files; what links lead to is not counted."""
        total = 0
        for folder, _, files in os.walk(self.path):
            for file in files:
                try:
                    total += os.lstat(os.path.join(folder, file)).st_size
                except OSError:
                    pass  # it was removed meanwhile
        return total


def orphans(catalog: Catalog) -> list[Orphan]:
    """Return the folders of data that no definition owns; `CatalogError` if that is not known."""
    with catalog.active():
        owned, known = _owned(catalog)
        found: list[Orphan] = []
        for root in {one.parent for one in known} | {places.root() / "data"}:
            for folder in _folders(root):
                if folder.name == "__custom__":
                    continue  # of scripts, which nobody lists
                if folder in known:
                    found += _below(folder, folder.name, owned)
                elif root == places.root() / "data":
                    reason = f"no repository {folder.name!r} is installed"
                    found.append(Orphan(folder, folder.name, reason))
    return sorted(found, key=lambda one: one.path)


def _owned(catalog: Catalog) -> tuple[set[Path], set[Path]]:
    """Return the folders that definitions own, and those of the repositories."""
    owned: set[Path] = set()
    known: set[Path] = set()
    for index in catalog.indexes:
        records = list(index.records())
        if index.problems:
            listed = "".join(f"\n  {one.message}" for one in index.problems)
            raise CatalogError(
                f"what {index.installed.name!r} owns is not known: it does not load{listed}",
                hint="fix it or uninstall it first: its data would be listed as orphans",
            )
        top = index.installed.repository.datapath
        known.add(top)
        for one in records:
            owned |= {top.joinpath(*name.split(".")) for name in [one.id, *one.aliases]}
    return owned, known


def _below(folder: Path, repository: str, owned: set[Path]) -> list[Orphan]:
    above = {parent for path in owned for parent in path.parents}
    found: list[Orphan] = []

    def visit(here: Path) -> None:
        for one in _folders(here):
            if one in owned:
                continue
            if one in above:
                visit(one)
            else:
                found.append(Orphan(one, repository, "no definition owns it"))

    visit(folder)
    return found


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if one.is_dir() and one.name[0] != ".")
    except OSError:
        return []


def remove(orphan: Orphan) -> None:
    """Remove an orphan: it disappears at once, then its files and empty folders go."""
    staging.take_away(str(orphan.path))
    above = orphan.path.parent
    while above.name not in ("data", "") and not any(above.iterdir()):
        above.rmdir()
        above = above.parent


# -- sources ---------------------------------------------------------------------------------------


class SourceCheck(NamedTuple):
    """Whether one source of a dataset still answers; the address is without secrets."""

    dataset: str
    resource: str
    url: str
    #: ``"ok"`` or ``"failed"``.
    status: str
    message: str
    #: Bytes, as the source says.
    size: int | None


def check(catalog: Catalog, wanted: Iterable[Any]) -> list[SourceCheck]:
    """Ask all sources of some datasets, in parallel, for the length of their files."""
    with catalog.active():
        asked = [one for definition in wanted for one in _questions(definition)]
        width = min(len(asked), conf.connections)
        # each call has its own copy of the context, which holds what `conf.set_temp` set
        calls = [(copy_context(), one) for one in asked]
        answers = pool.run(lambda call: call[0].run(_ask, call[1]), calls, width, ordered=True)
        return [_checked(one, found, error) for (_, one), found, error in answers]


def _questions(definition: Any) -> list[tuple[str, str, str, int | None]]:
    found: list[tuple[str, str, str, int | None]] = []
    for name, resource in definition.resources.items():
        sources = getattr(resource, "sources", None)
        if sources is None:  # one of datamaestro's
            found += [(definition.id, name, resource.url, None)] * hasattr(resource, "url")
            continue
        sizes = {url: entry.size for entry in resource.entries() for url in entry.urls}
        found += [(definition.id, name, url, sizes.get(url)) for url in sources()]
    return found


def _ask(question: tuple[str, str, str, int | None]) -> int | None:
    mirrors = Mirrors((), conf.rewrite, conf.remote_timeout, {})
    (source,) = mirrors.sources("", [question[2]])
    return source.store.info(source.name).size


def _checked(
    question: tuple[str, str, str, int | None], found: int | None, error: Exception | None
) -> SourceCheck:
    dataset, resource, url, size = question
    problem = ""
    if isinstance(error, (PkgdataError, OSError)):
        problem = getattr(error, "message", str(error)) or type(error).__name__
    elif error is not None:
        raise error
    elif size is not None and found is not None and found != size:
        problem = f"{found} bytes, the definition says {size}"
    status = "failed" if problem else "ok"
    return SourceCheck(dataset, resource, redact(url), status, problem, found)


# -- copies to other places ------------------------------------------------------------------------

#: ``host:path`` and ``user@host:path``, as scp has them, or just ``user@host``.
_HOST = re.compile(r"(?P<host>(?:[\w.-]+@)?[\w.-]+|(?:[\w.-]+@)?\[[0-9a-fA-F:]+\]):(?P<path>.*)")


def destination(text: str, root: Path) -> str:
    """Return the URL of a store, folder, or ``[user@]host:folder``, which is reached by SFTP."""
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

    What is there is skipped (`hashes.difference`) unless `force` is set. The report has addresses.
    """
    definition = catalog.find(dataset) if isinstance(dataset, str) else dataset
    with catalog.active():
        root = definition.root
        files = list(_files_of(definition))
        target = Store(destination(to, root)) if isinstance(to, str) else to
        return _send(files, root, target, force, progress)


def _files_of(definition: Any) -> Iterator[tuple[Path, str]]:
    """Yield (path here, name there) of all that a dataset consists of."""
    if isinstance(definition, Definition):
        absent = [one.name for one in missing(definition) if one.has_files()]
        if absent:
            raise CatalogError(
                f"{definition.id} is not prepared here: {', '.join(absent)} is missing",
                hint=f"pkgdata.prepare_dataset({definition.id!r})",
                command=f"pkgdata catalog prepare {definition.id}",
            )
    folder = definition.datapath
    base = f"data/{definition.storage}/{'/'.join(definition.id.split('.'))}"
    for resource in definition.resources.values():
        if isinstance(resource, reference):
            yield from _files_of(resource.target())
        elif isinstance(resource, links) and resource.target is not None:
            yield from _files_of(resolve(resource.target, definition))
        elif isinstance(resource, Elsewhere) and resource.path.parent != folder:
            yield from _files_below(resource.path, f"{base}/{resource.name}")
    if folder.is_dir():
        yield from _files_below(folder, base)


def _files_below(path: Path, name: str) -> Iterator[tuple[Path, str]]:
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
    """Leave out what is there with the same bytes, by the rule of all comparing."""
    there = target.stat([name for _, name in wanted]) if wanted else {}

    def is_there(path: Path, its: Info | None) -> bool:
        found = path.stat()
        mine = Info(found.st_size, None, found.st_mtime)
        return its is not None and not hashes.difference(mine, its)

    return [(path, name) for path, name in wanted if not is_there(path, there[name])]


# -- new definitions -------------------------------------------------------------------------------


def create(repository: Any, name_or_url: str) -> Path:
    """Write a new definition file, named after a page's address or by a name; return its path."""
    url = name_or_url if "://" in name_or_url else "https://example.org/"
    name = places.url_name(name_or_url) if "://" in name_or_url else places.check_name(name_or_url)
    parts = [
        part if part.isidentifier() else f"_{part}".replace("-", "_") for part in name.split(".")
    ]
    wanted = '""' if parts == name.split(".") else f'"{name}"'
    path = Path(repository.basedir, "config", *parts).with_suffix(".py")
    url = url.replace('"', "%22")
    known = {"title": name, "url": url, "function": parts[-1], "id": wanted}
    content = text.template(__file__, "definition.py.txt", **known)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.write_blocks(str(path), [content.encode()], if_absent=True)
    except FileExistsError:
        problem = f"{path} already exists and is left as it is"
        raise CatalogError(problem, file=str(path)) from None
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


# -- the page --------------------------------------------------------------------------------------


def page(title: str, records: Iterable[IndexEntry]) -> str:
    """Return the page."""
    cards = [_card(one) for one in records]
    return text.page(
        *(__file__, "site.html", "site.css", "site.js"),
        title=text.html(title),
        count=text.counted(len(cards), "dataset"),
        cards="\n".join(cards),
    )


def _card(one: IndexEntry) -> str:
    keys = ("id", "tags", "tasks", "types", "repository")
    facts = json.dumps({key: getattr(one, key) for key in keys}, ensure_ascii=False)
    return _part(
        "card",
        anchor=text.html(f"{one.id}@{one.repository}"),
        facts=text.html(facts),
        name=text.html(one.id),
        code=text.html(repr(one.id)),
        word=text.html(shlex.quote(one.id)),
        meta="\n".join(_meta(one)),
        title=_part("title", text=text.html(one.title)) if one.title else "",
        text=_part("text", text=text.html(one.description)) if one.description else "",
        marks="".join([*_marks("tag", one.tags), *_marks("task", one.tasks)]),
    )


def _part(name: str, /, **words: object) -> str:
    return text.template(__file__, f"card.html#{name}", **words)


def _meta(one: IndexEntry) -> Iterator[str]:
    kind = one.types[0].rpartition(".")[2] if one.types else ""
    size = text.size(one.size) if isinstance(one.size, int) else one.size
    known = {
        "Repository": one.repository,
        "Type": kind,
        "Size": size,
        "Licence": one.license,
        "Variants": ", ".join(one.variants),
    }
    for label, value in known.items():
        if value:
            yield _part("fact", label=label, value=text.html(value))
    if one.url and one.url.startswith(("http://", "https://")):
        shown = one.url.partition("://")[2].removesuffix("/")
        yield _part("link", href=text.html(one.url), value=text.html(shown))


def _marks(kind: str, values: Sequence[str]) -> Iterator[str]:
    for value in values:
        term = f'{kind}:"{value}"' if " " in value or '"' in value else f"{kind}:{value}"
        href = "#?" + urllib.parse.quote(term)
        yield _part("mark", term=text.html(term), href=href, text=text.html(value))


def write_site(catalog: Catalog, folder: str | os.PathLike[str], title: str) -> tuple[int, Path]:
    """Write the page of a catalog as ``index.html``; return the number of datasets and its path."""
    records = catalog.search()
    path = Path(folder, "index.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.write_atomic(str(path), page(title, records).encode())
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror or error}") from error
    return len(records), path
