"""`Repository`, `Context` and `prepare_dataset` as datamaestro has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ...base.config import conf
from ...catalog import active, library, places, repository
from ...catalog.definition import Definition
from ...catalog.repository import datamaestro_folder


class Repository(repository.Repository):
    """A package with a tree ``config`` of definitions, whose data are in datamaestro's folder."""

    def default_data(self) -> str | None:
        return datamaestro_folder()


class BaseRepository(Repository):
    """A repository that lists its definitions itself, by ``__iter__``."""

    def files(self) -> dict[str, tuple[int, int]]:
        return {}


class Context(active.Context):
    """Where data are, and what users set; by default in datamaestro's folder."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        super().__init__(places.root(datamaestro_folder()) if path is None else path)

    @staticmethod
    def instance() -> Context:
        """Return the context of this user."""
        return Context()

    @staticmethod
    def frompath(path: str | os.PathLike[str]) -> Any:
        """Keep data in a folder inside a ``with`` block."""
        return places.within(path)

    def dataset(self, name: str) -> Definition:
        return find_dataset(name, self)


def _catalog(where: Any) -> library.Catalog:
    """Return a catalog whose data are where the caller says, else where datamaestro keeps them."""
    if isinstance(where, library.Catalog):
        return where
    path = getattr(where, "path", where)
    if path is None and conf.catalog_dir is None:
        path = datamaestro_folder()
    now = active.current()
    return library.Catalog(path or now.data, ask=now.ask, told=now.told)


def prepare_dataset(
    dataset_id: Any,
    context: Any = None,
    *,
    variant: Mapping[str, Any] | None = None,
    download: bool | None = None,
) -> Any:
    """Fetch what is missing of a dataset, unless ``download`` is False, and return its data."""
    wanted = download is not False
    return _catalog(context).prepare(dataset_id, download=wanted, variant=variant)


def get_dataset(dataset_id: Any, *, variant: Mapping[str, Any] | None = None) -> Any:
    """Return a dataset's data as they are here; nothing is fetched."""
    return prepare_dataset(dataset_id, variant=variant, download=False)


def find_dataset(dataset_id: str, context: Any = None) -> Definition:
    """Return a definition."""
    return _catalog(context).find(dataset_id)


class ResolvablePath:
    """A path that only a computer's settings know: ``path(context)``."""

    @staticmethod
    def resolve(context: Any, path: Any) -> Path:
        """Return a path, resolved if it must be."""
        return Path(path(context)) if callable(path) else Path(path)

    def __call__(self, context: Any) -> Path:
        raise NotImplementedError(f"{type(self).__name__} has no method __call__(context)")


class DatafolderPath(places.DataFolder, ResolvablePath):  # type: ignore[misc]  # two kinds of resolve()
    """A path below a folder that each computer has elsewhere."""

    def __call__(self, context: Any) -> Path:
        return places.DataFolder.resolve(self, context.path)


class Datasets:
    """The definitions of a module."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    @property
    def title(self) -> str:
        """The first paragraph of its docstring."""
        return " ".join((self.module.__doc__ or "").strip().partition("\n\n")[0].split("\n"))

    @property
    def description(self) -> str:
        """What its docstring says below that."""
        return (self.module.__doc__ or "").strip().partition("\n\n")[2]

    def __iter__(self) -> Iterator[Definition]:
        return iter(active.in_module(self.module.__name__))
