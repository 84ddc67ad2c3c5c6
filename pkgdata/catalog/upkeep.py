"""Looking after a catalog: orphans, sources that still answer, new definition files."""

from __future__ import annotations

import os
from pathlib import Path

from ..base import fs
from ..base.config import conf
from ..errors import CatalogError, PkgdataError
from . import names, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from .library import Catalog


class Orphan:
    """A folder that no definition owns."""

    def __init__(self, path: Path, repository: str, reason: str) -> None:
        self.path = path
        self.repository = repository
        self.reason = reason

    def __repr__(self) -> str:
        return f"<Orphan {self.path}>"

    def size(self) -> int:
        """Return the bytes of its files; what links lead to is not counted."""
        total = 0
        for folder, _, files in os.walk(self.path):
            for file in files:
                try:
                    total += os.lstat(os.path.join(folder, file)).st_size
                except OSError:
                    pass  # it went a moment ago
        return total


def orphans(catalog: Catalog) -> list[Orphan]:
    """Return the folders of data that no definition owns.

    Nothing is said of the data of repositories that do not load as a whole: what they own is not
    known.

    Raises
    ------
    CatalogError
        A repository, or a definition, does not load.
    """
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
                f"what {index.installed.name!r} owns is not known, for it does not load{listed}",
                hint="mend it or uninstall it first: its data would be taken for orphans",
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
        with os.scandir(folder) as entries:
            return sorted(
                Path(one.path) for one in entries if one.is_dir() and not one.name.startswith(".")
            )
    except OSError:
        return []


def remove(orphan: Orphan) -> None:
    """Remove an orphan: it disappears at once, then its files and empty folders go."""
    path = orphan.path
    if path.is_symlink():
        path.unlink()
        return
    aside = path.parent / f".{fs.owner_token()}-{os.urandom(4).hex()}{places.ASIDE}"
    os.rename(path, aside)
    fs.remove_tree(str(aside))
    above = path.parent
    while above.name not in ("data", "") and not any(above.iterdir()):
        above.rmdir()
        above = above.parent


# -- sources ---------------------------------------------------------------------------------------


class Answer:
    """Whether one source of a dataset still answers.

    Parameters
    ----------
    dataset, resource, url : str
        The address without secrets.
    status : str
        ``"ok"`` or ``"failed"``.
    size : int or None
        Bytes, as the source says.
    """

    def __init__(
        self, dataset: str, resource: str, url: str, status: str, message: str, size: int | None
    ) -> None:
        self.dataset = dataset
        self.resource = resource
        self.url = url
        self.status = status
        self.message = message
        self.size = size

    def __repr__(self) -> str:
        return f"<Answer {self.dataset}/{self.resource} {self.url}: {self.status}>"


def check(
    catalog: Catalog, wanted: Iterable[Any], tell: Callable[[Answer], None] | None = None
) -> list[Answer]:
    """Ask all sources of some datasets whether they still have what definitions say; in parallel.

    Nothing is downloaded. A source that gives another length than the definition has failed.

    Parameters
    ----------
    tell : callable, optional
        Given each answer as it comes.

    Returns
    -------
    list of Answer
        In the order of datasets and resources.
    """
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    with catalog.active():
        asked = [one for definition in wanted for one in _questions(definition)]
        width = max(1, min(len(asked) or 1, conf.connections))
        with ThreadPoolExecutor(width, thread_name_prefix="pkgdata-check") as workers:
            futures = [workers.submit(copy_context().run, _ask, one) for one in asked]
            found = []
            for future in futures:
                answer = future.result()
                if tell is not None:
                    tell(answer)
                found.append(answer)
    return found


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


def _ask(question: tuple[str, str, str, int | None]) -> Answer:
    from ..base.urls import redact
    from ..transfer.mirrors import Mirrors

    dataset, resource, url, size = question
    shown = redact(url)
    try:
        mirrors = Mirrors((), conf.rewrite, conf.remote_timeout, {})
        (source,) = mirrors.sources("", [url])
        found = source.store.info(source.name).size
    except (PkgdataError, OSError) as error:
        text = getattr(error, "message", str(error))
        return Answer(dataset, resource, shown, "failed", text, None)
    if size is not None and found is not None and found != size:
        text = f"{found} bytes, the definition says {size}"
        return Answer(dataset, resource, shown, "failed", text, found)
    return Answer(dataset, resource, shown, "ok", "", found)


# -- new definitions -------------------------------------------------------------------------------

_TEMPLATE = '''"""{title}."""

from pkgdata.catalog import Base, dataset, datatags, datatasks, filedownloader


@datatags("what it is about")
@datatasks("what it is for")
@filedownloader("data.csv", "{url}")
@dataset(Base, id="", url="{url}")
def {function}(data):
    """{title}

    What it holds, where it comes from, whom to cite.
    """
    return {{}}
'''


def create(repository: Any, name_or_url: str) -> Path:
    """Write a new definition file into a repository, to be filled in.

    Parameters
    ----------
    name_or_url : str
        Name of the dataset, or the address of a page about it, which gives the name.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    CatalogError
        It is there already, cannot be written, or the name is none.
    """
    url = name_or_url if "://" in name_or_url else "https://example.org/"
    name = names.of_url(name_or_url) if "://" in name_or_url else names.check(name_or_url)
    parts = [
        part if part.isidentifier() else f"_{part}".replace("-", "_") for part in name.split(".")
    ]
    wanted = '""' if parts == name.split(".") else f'"{name}"'
    path = Path(repository.basedir, "config", *parts).with_suffix(".py")
    if path.exists():
        raise CatalogError(f"{path} is there already; it is left as it is", file=str(path))
    text = _TEMPLATE.format(title=name, url=url.replace('"', "%22"), function=parts[-1])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.write_blocks(str(path), [text.replace('id=""', f"id={wanted}").encode()], if_absent=True)
    except FileExistsError:
        raise CatalogError(f"{path} is there already; it is left as it is") from None
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror or error}") from error
    return path
