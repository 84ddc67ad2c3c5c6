"""`Catalog`: all definitions that are installed, to be found and prepared."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from ..base.report import Rows
from ..errors import CatalogError, PkgdataWarning, UnknownDatasetError, warn
from . import active, index, places, prepare
from .active import of_class
from .definition import Definition
from .index import Index, IndexEntry, Installed
from .repository import Repository


class Catalog:
    """The definitions of some repositories. Making one loads and reads nothing.

    Parameters
    ----------
    data : path-like, optional
        The folder ``<data>`` (`pkgdata.catalog.places`).
    repositories : iterable of Repository, or of classes or packages, optional
        By default all that installed packages announce.
    ask : callable, optional
        Called with a question, returns the user's answer: where files are that cannot be fetched.
    told : mapping of str to str, optional
        Answers given in advance, by ``<resource>`` or ``<dataset>/<resource>``.
    """

    def __init__(
        self,
        data: str | os.PathLike[str] | None = None,
        repositories: Iterable[Any] | None = None,
        *,
        ask: Callable[[str], str] | None = None,
        told: Mapping[str, str] | None = None,
    ) -> None:
        self.data = None if data is None else os.path.abspath(os.path.expanduser(os.fspath(data)))
        self.ask = ask
        self.told = dict(told or {})
        self._given = None if repositories is None else [_given(one) for one in repositories]
        self._path: tuple[str, ...] = ()
        self._indexes: list[Index] = []
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"<Catalog of {len(self.indexes)} repositories>"

    @property
    def indexes(self) -> list[Index]:
        """What is known of each repository; read again when the module search path changes."""
        path = tuple(sys.path)
        if not self._indexes or (self._given is None and path != self._path):
            self._path = path
            found = index.installed() if self._given is None else self._given
            self._indexes = [Index(one) for one in found]
        return self._indexes

    def active(self) -> AbstractContextManager[None]:
        """Make this the catalog at work inside a ``with`` block, for this thread or task alone."""
        return active.using(self)

    # -- repositories --------------------------------------------------------------------------

    def repositories(self) -> list[Any]:
        """Return the repositories, loaded; one that does not load is a warning that names it."""
        found = []
        for one in self.indexes:
            try:
                found.append(one.installed.repository)
            except CatalogError as error:
                self._warn(error)
        return found

    def repository(self, name: str) -> Any:
        """Return a repository, loaded; `CatalogError` if there is none, or it does not load.

        Parameters
        ----------
        name : str
            Its own name, or that of its entry point.
        """
        for one in self.indexes:
            if one.installed.name == name:
                return one.installed.repository
        found = {one.id: one for one in self.repositories()}
        if name in found:
            return found[name]
        known = ", ".join(sorted(found)) or "none"
        raise CatalogError(f"no repository {name!r} is installed", hint=f"installed: {known}")

    def repository_of(self, module: str) -> Repository | None:
        """Return the installed repository of a definition module, or None.

        Parameters
        ----------
        module : str
            Its dotted name.
        """
        return index.of_module(module)

    def problems(self) -> list[CatalogError]:
        """Return what did not load at the last search; each error names file and line."""
        return [problem for one in self.indexes for problem in one.problems]

    def _warn(self, error: CatalogError) -> None:
        if error.message not in self._warned:
            self._warned.add(error.message)
            warn(f"{error.message}; its datasets are left out", PkgdataWarning)

    # -- definitions ---------------------------------------------------------------------------

    def records(self) -> Iterator[IndexEntry]:
        """Yield what the index knows of each definition; `problems` reports what does not load."""
        for one in self.indexes:
            yield from one.records()

    def search(self, *terms: str) -> list[IndexEntry]:
        """Return the index entries of the definitions that match all terms, sorted by name.

        What does not load is a warning that names file and line.

        Parameters
        ----------
        *terms : str
            See `pkgdata.catalog.index`; `CatalogError` for what is no regular expression.
        """
        wanted = index.all_of(terms)
        found = sorted(filter(wanted.match, self.records()), key=lambda one: one.id)
        for problem in self.problems():
            self._warn(problem)
        return Rows(found)

    def find(self, name: str) -> Definition:
        """Return a definition, loaded; for the errors see `find_dataset`.

        Parameters
        ----------
        name : str
            Its name or a former one; ``NAME@REPOSITORY`` where two repositories have it. A selector
            of variants after it is ignored.
        """
        base, repository = places.split_repository(places.split_selector(name)[0])
        known = list(self.records())
        wanted = [one for one in known if repository in (None, one.repository)]
        found = [one for one in wanted if one.id == base]
        found = found or [one for one in wanted if base in one.aliases]
        if not found:
            raise self._unknown(name, base, [one.id for one in known])
        if len(found) > 1:
            raise _twice(base, found)
        with self.active():
            return found[0].load()

    def _unknown(self, name: str, base: str, known: list[str]) -> UnknownDatasetError:
        close = places.close_names(base, known)
        if close:
            hint = f"did you mean {' or '.join(close)}?"
        else:
            hint = f"{len(known)} are known; {{}} lists them"
        problems = self.problems()
        if problems:
            listed = "".join(f"\n  {one.message}" for one in problems)
            hint += f" What does not load:{listed}"
        return UnknownDatasetError(
            f"no dataset is named {name!r}",
            hint=hint.replace("{}", "Catalog().search()"),
            command=hint.replace("{}", "'pkgdata catalog search'"),
            name=base,
            close=close,
        )

    # -- data ----------------------------------------------------------------------------------

    def prepare(
        self, dataset: Any, *, download: bool = True, variant: Mapping[str, Any] | None = None
    ) -> Any:
        """Fetch what is missing of a dataset and return its data; see `prepare_dataset`.

        A name may have a selector: ``org.example.family[size=small]``.
        """
        definition = self._definition(dataset)
        selector = places.split_selector(dataset)[1] if isinstance(dataset, str) else ""
        if selector:
            if variant is not None:
                raise CatalogError(f"{dataset!r} already selects a variant")
            if definition.variants is None:
                raise CatalogError(f"{definition.id} has no variants, but {selector} was asked for")
            variant = definition.variants.parse_selector(selector)
        with self.active():
            if isinstance(definition, Definition):
                return prepare.prepare(definition, download=download, variant=variant)
            return definition.prepare(download, variant)

    def download(self, dataset: Any, *, force: bool = False) -> Definition:
        """Fetch the missing files of a dataset, or all with ``force``; return its definition.

        Parameters
        ----------
        dataset : str, Definition, or its class or data
        force : bool, default False
        """
        found = self._definition(dataset)
        with self.active():
            if isinstance(found, Definition):
                prepare.download(found, force)
            else:
                found.download(force)
        definition: Definition = found
        return definition

    def _definition(self, dataset: Any) -> Any:
        if isinstance(dataset, str):
            return self.find(dataset)
        found = of_class(dataset)
        if found is None and hasattr(dataset, "prepare") and hasattr(dataset, "id"):
            return dataset  # one of another library
        if found is None:
            raise CatalogError(f"{dataset!r} is not a dataset")
        return found


def _given(one: Any) -> Installed:
    if isinstance(one, type) and issubclass(one, Repository):
        one = one.instance()
    elif not hasattr(one, "definitions_in"):
        one = Repository(package=one)
    return Installed(one.id, one.module, loaded=one)


def _twice(name: str, found: list[IndexEntry]) -> CatalogError:
    listed = "".join(
        f"\n  {one.repository}: {one.path}" + (f", line {one.line}" if one.line else "")
        for one in found
    )
    if len({one.repository for one in found}) == len(found):
        hint = f"say which one: {name}@{found[0].repository}"
    else:
        hint = "report it to the repository's authors"
    return CatalogError(
        f"{name} is defined {len(found)} times{listed}",
        hint=hint,
        file=found[0].path,
        line=found[0].line,
    )


active.default = Catalog()


def _catalog_of(context: Any) -> Catalog:
    if context is None:
        catalog: Catalog = active.current()
        return catalog
    if isinstance(context, Catalog):
        return context
    return Catalog(getattr(context, "path", context))


def prepare_dataset(
    dataset: Any,
    context: Any = None,
    *,
    variant: Mapping[str, Any] | None = None,
    download: bool | None = None,
) -> Any:
    """Fetch what is missing of a dataset and return what its definition makes of it.

    Parameters
    ----------
    dataset : str, or a definition, its class or data
        Qualified name, such as ``com.lecun.mnist``.
    context : path-like, Catalog or Context, optional
        Where data are; see `pkgdata.catalog.places`.
    variant : mapping, optional
        Values by the names of axes.
    download : bool, optional
        False: fetch nothing.

    Raises
    ------
    UnknownDatasetError
        There is no such dataset; ``close`` lists similar names.
    CatalogError
        Its definition is wrong.
    PkgdataError
        It cannot be fetched, or the bytes are not what the definition says.
    """
    wanted = download is not False
    return _catalog_of(context).prepare(dataset, download=wanted, variant=variant)


def get_dataset(
    dataset: Any, context: Any = None, *, variant: Mapping[str, Any] | None = None
) -> Any:
    """Return a dataset's data as they are here; for the parameters see `prepare_dataset`."""
    return prepare_dataset(dataset, context, variant=variant, download=False)


def find_dataset(dataset: str, context: Any = None) -> Definition:
    """Return a definition, loaded.

    Parameters
    ----------
    dataset : str
        Qualified name.
    context : path-like, Catalog or Context, optional
        See `prepare_dataset`.

    Raises
    ------
    UnknownDatasetError
        There is no such dataset; ``close`` lists similar names.
    CatalogError
        Two repositories have it, or it does not load.
    """
    return _catalog_of(context).find(dataset)
