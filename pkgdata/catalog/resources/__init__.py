"""Resources: what a dataset consists of, and the steps by which it comes here.

A resource stands in a definition as an attribute of its class, or as a decorator of its function::

    DATA = FileDownloader("data.csv", "https://example.org/data.csv.gz")

    @filedownloader("data.csv", "https://example.org/data.csv.gz")

Resources may rest on others (`Resource.dependencies`). Each makes what it stands for aside, at
`Resource.transient_path`; `pkgdata.catalog.prepare` puts that into place at `Resource.path`. A new
kind derives from `FileResource` or `FolderResource` and has the method ``_download(destination)``,
or from `ValueResource` and has ``prepare()``.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from pathlib import Path

from ...base import fs
from ...errors import CatalogError
from .. import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from ...base.hashes import Digest
    from ...core.registry import Entry
    from ..definition import Definition

#: Where resources are being made, by their `id`: several threads may make the same ones.
_aside: ContextVar[Mapping[int, Path] | None] = ContextVar("pkgdata_catalog_aside", default=None)


class Resource:
    """One step of preparing a dataset.

    Parameters
    ----------
    varname : str, optional
        Its name; by default that of the attribute which it is assigned to, in a class.
    transient : bool, default False
        It is only needed to make others, and is removed when they are complete.
    """

    def __init__(self, varname: str | None = None, *, transient: bool = False) -> None:
        self.name: str = varname or ""
        self.transient = transient
        #: The definition that it belongs to.
        self.dataset: Definition | None = None
        self._named = varname is not None
        self._dependencies: list[Resource] = []

    def __repr__(self) -> str:
        owner = self.dataset.id if self.dataset is not None else "no dataset"
        return f"<{type(self).__name__} {self.name!r} of {owner}>"

    def __call__(self, dataset: Any) -> Any:
        """Belong to a definition; this is what makes a resource a decorator."""
        from ..definition import attach

        return attach(dataset, self)

    @classmethod
    def apply(cls, *args: Any, **options: Any) -> Any:
        """Make a resource.

        Parameters
        ----------
        *args, **options
            Of the class.

        Returns
        -------
        Resource
        """
        return cls(*args, **options)

    def bind(self, name: str, dataset: Definition) -> None:
        """Belong to a definition.

        Parameters
        ----------
        name : str
            Its name, unless it has one.
        dataset : Definition

        Raises
        ------
        CatalogError
            It belongs to another one, or the definition has a resource of that name.
        """
        if self.dataset is not None and self.dataset is not dataset:
            raise CatalogError(f"{self!r} cannot belong to {dataset.id} as well")
        if not self._named:
            self.name = name
        if not self.name:
            raise CatalogError(f"a resource of {dataset.id} has no name: {type(self).__name__}")
        fs.safe_name(self.name)
        other = dataset.resources.get(self.name)
        if other is not None and other is not self and not dataset.as_prepare:
            raise CatalogError(f"{dataset.id} has two resources that are named {self.name!r}")
        dataset.resources[self.name] = self
        self.dataset = dataset

    def setup(self, dataset: Definition, options: object = None) -> Any:
        """Belong to a definition and return what it will find here.

        Parameters
        ----------
        dataset : Definition
        options : object, optional
            Not used.

        Returns
        -------
        object
        """
        self.bind(self.name, dataset)
        return self.prepare()

    @property
    def owner(self) -> Definition:
        """The definition that it belongs to.

        Raises
        ------
        CatalogError
            It belongs to none.
        """
        if self.dataset is None:
            raise CatalogError(
                f"the resource {self.name or type(self).__name__!r} belongs to no dataset",
                hint="assign it in the body of a class below @dataset, or decorate a definition",
            )
        return self.dataset

    @property
    def context(self) -> Any:
        """Where the dataset's data lie, and what users set for them."""
        return self.owner.context

    @property
    def dependencies(self) -> list[Resource]:
        """Resources that must be here before it is made."""
        return self._dependencies

    @property
    def dependents(self) -> list[Resource]:
        """Resources of its definition that rest on it."""
        return [one for one in self.owner.resources.values() if self in one.dependencies]

    @property
    def variable(self) -> str:
        """The name under which a function gets it."""
        return names.argument(self.name)

    # -- where it lies -------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Where it lies once it is complete."""
        return self.owner.datapath / self.name

    @property
    def transient_path(self) -> Path:
        """Where it is to be made."""
        aside = (_aside.get() or {}).get(id(self))
        return self.owner.datapath / ".downloads" / self.path.name if aside is None else aside

    def has_files(self) -> bool:
        """Say whether it is a file or folder of its own.

        Returns
        -------
        bool
        """
        return True

    def files_present(self) -> bool:
        """Say whether its file or folder is here.

        Returns
        -------
        bool
        """
        return self.path.exists()

    @property
    def final_digest(self) -> Digest | None:
        """What its file must hash to, if that is known."""
        return None

    # -- how it comes here ---------------------------------------------------------------------

    def entries(self) -> Sequence[Entry]:
        """Return what is downloaded for it.

        Returns
        -------
        sequence of Entry
        """
        return ()

    def sources(self) -> Sequence[str]:
        """Return the addresses from which it comes, for ``pkgdata catalog check``.

        Returns
        -------
        sequence of str
        """
        return [url for entry in self.entries() for url in entry.urls]

    def make(self, destination: Path) -> None:
        """Make it at another place than where it will lie.

        Parameters
        ----------
        destination : Path
        """
        with made_at(self, destination):
            self.download(False)

    def download(self, force: bool = False) -> Any:
        """Make it at `transient_path`; kinds of resources that are new may do it otherwise.

        Parameters
        ----------
        force : bool, default False
            Make it even if it is here.

        Returns
        -------
        object
        """
        raise NotImplementedError(f"{type(self).__name__} has no method download()")

    def prepare(self) -> Any:
        """Return what a definition gets for it.

        Returns
        -------
        object
            Its path, unless a kind of resources gives something else.
        """
        return self.path


@contextlib.contextmanager
def made_at(resource: Resource, destination: Path) -> Iterator[None]:
    """Let a resource be made at a place, in this thread or task."""
    token = _aside.set({**(_aside.get() or {}), id(resource): destination})
    try:
        yield
    finally:
        _aside.reset(token)


class _Made(Resource):
    """A resource that one method makes at a given place."""

    def download(self, force: bool = False) -> Any:
        destination = self.transient_path
        destination.parent.mkdir(parents=True, exist_ok=True)
        self._download(destination)

    def _download(self, destination: Path) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no method _download(destination)")


class FileResource(_Made):
    """A resource that is one file.

    Parameters
    ----------
    filename : str
        Of the file in the dataset's folder; up to its first dot it is the resource's name.
    varname : str, optional
        Its name, if it is to be another one.
    transient : bool, default False
        See `Resource`.
    """

    def __init__(
        self, filename: str, *, varname: str | None = None, transient: bool = False
    ) -> None:
        fs.safe_name(filename)
        super().__init__(varname or names.file_variable(filename) or filename, transient=transient)
        self._named = varname is not None
        self.filename = filename

    @property
    def path(self) -> Path:
        return self.owner.datapath / self.filename

    def files_present(self) -> bool:
        return self.path.is_file()

    def stream(self) -> Any:
        """Open the file for reading.

        Returns
        -------
        file object
        """
        return self.path.open("rb")


class FolderResource(_Made):
    """A resource that is a folder."""

    def files_present(self) -> bool:
        return self.path.is_dir()


class ValueResource(Resource):
    """A resource that is no file: ``prepare()`` returns it."""

    def has_files(self) -> bool:
        """Say that it is no file.

        Returns
        -------
        bool
            False.
        """
        return False

    def download(self, force: bool = False) -> Any:
        """Do nothing: a value comes when it is asked for."""
