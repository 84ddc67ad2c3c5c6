"""Repositories of datamaestro itself, where it is installed and their definitions load.

Their definitions remain objects of datamaestro; the two classes here give them the interface of
ours. What they download comes through our engine, which replaces the one function by which all of
datamaestro's resources fetch, ``Context.downloadURL``. Their data lie where datamaestro keeps them.
"""

from __future__ import annotations

import importlib
import inspect
import os
from pathlib import Path

from ..errors import CatalogError
from . import objects, places
from .active import Context
from .repository import definition_files, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


def datamaestro_folder() -> str:
    """Return datamaestro's data folder: ``DATAMAESTRO_DIR``, else ``~/datamaestro``."""
    return os.path.expanduser(os.environ.get("DATAMAESTRO_DIR") or "~/datamaestro")


class ForeignRepository:
    """A repository of datamaestro, by its class and the name of its entry point."""

    def __init__(self, repository: Any, name: str) -> None:
        self._own = repository.instance()
        self.id: str = getattr(self._own, "id", name)
        self.name = self.id
        self.description = str(getattr(repository, "DESCRIPTION", ""))
        self.module: str = repository.__module__
        self.basedir = Path(inspect.getabsfile(repository)).parent
        self.problems: list[CatalogError] = []

    def __repr__(self) -> str:
        return f"<ForeignRepository {self.id} of {self.module}>"

    def default_data(self) -> str:
        """Return where its data lie by default."""
        return datamaestro_folder()

    @property
    def datapath(self) -> Path:
        """The folder of its datasets' data."""
        return places.root(self.default_data()) / "data" / self.id

    def files(self) -> dict[str, tuple[int, int]]:
        """Return its definition modules and their marks."""
        return definition_files(str(self.basedir))

    def definitions_in(self, file: str) -> list[ForeignDefinition]:
        """Load a module and return its definitions."""
        parts = file.removesuffix(".py").removesuffix("/__init__").split("/")
        found = load(".".join([self.module, *parts]), str(self.basedir / file))
        datasets = importlib.import_module("datamaestro.context").Datasets(found)
        return [ForeignDefinition(one, self) for one in datasets]

    def __iter__(self) -> Iterator[ForeignDefinition]:
        files = self.files()
        if not files:
            yield from (ForeignDefinition(one, self) for one in self._own)
        for file in files:
            yield from self.definitions_in(file)


class ForeignDefinition:
    """A definition of datamaestro."""

    def __init__(self, definition: Any, repository: ForeignRepository) -> None:
        self.own = definition
        self.repository = repository
        self.id: str = definition.id
        self.aliases: set[str] = set(definition.aliases)
        self.name: str = definition.name or ""
        self.description: str = definition.description or ""
        self.tags: set[str] = set(definition.tags)
        self.tasks: set[str] = set(definition.tasks)
        self.url: str | None = definition.url
        self.variants: Any = getattr(definition, "variants", None)
        self.base: Any = definition.configtype

    def __repr__(self) -> str:
        return f"<ForeignDefinition {self.id}>"

    @property
    def types(self) -> list[str]:
        """Names of the type of its data and of what that derives from."""
        return objects.type_names(self.base)

    @property
    def file(self) -> str | None:
        """The file that it stands in."""
        try:
            return inspect.getsourcefile(self.own.t)
        except TypeError:
            return None

    @property
    def line(self) -> int | None:
        """The line where it begins."""
        try:
            return inspect.getsourcelines(self.own.t)[1]
        except (OSError, TypeError):
            return None

    @property
    def resources(self) -> dict[str, Any]:
        """What it consists of."""
        return dict(self.own.resources)

    @property
    def root(self) -> Path:
        """The folder ``<data>``."""
        return places.root(datamaestro_folder())

    @property
    def storage(self) -> str:
        """Name of the folder of its repository's data."""
        return self.repository.id

    @property
    def datapath(self) -> Path:
        """The folder of its data."""
        return self.root / "data" / self.repository.id / Path(*self.id.split("."))

    def _ready(self) -> None:
        """Make it fetch through our engine, into the chosen folder."""
        context = self.own.context
        context._path = self.root
        context.downloadURL = Context(self.root).downloadURL
        self.root.mkdir(parents=True, exist_ok=True)

    def prepare(self, download: bool = False, variant: Mapping[str, Any] | None = None) -> Any:
        """Return its data; with ``download`` what is missing is fetched first."""
        if download:
            self.download()
        self._ready()
        options = {} if variant is None else {"variant_kwargs": dict(variant)}
        return self.own.prepare(download=False, **options)

    def download(self, force: bool = False) -> bool:
        """Fetch the files that are missing."""
        self._ready()
        if self.own.download(force) is False:
            cause = getattr(self.own, "_download_error", None)
            reason = getattr(cause, "__cause__", None) or cause
            raise CatalogError(
                f"datamaestro could not fetch {self.id}" + (f": {reason}" if reason else "")
            ) from reason
        return True
