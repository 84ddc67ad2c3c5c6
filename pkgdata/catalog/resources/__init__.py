"""Resources: what a dataset consists of, how it is made, and how it is checked.

A resource is an attribute of a definition's class, or a decorator of its function. It makes its
file or folder at `Resource.transient_path`; `pkgdata.catalog.prepare` renames that to
`Resource.path`. A new kind derives from `FileResource` or `FolderResource` and has the method
``_download(destination)``, or derives from `ValueResource` and has ``prepare()``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ...base import fs, hashes
from ...base.hashes import Digest
from ...core.registry import Entry
from ...errors import CatalogError
from .. import active, places

#: Where resources are being made, by their `id`: several threads may make the same ones.
_aside: ContextVar[Mapping[int, Path] | None] = ContextVar("pkgdata_catalog_aside", default=None)


class Resource:
    """One step of preparing a dataset.

    Parameters
    ----------
    varname : str, optional
        Its name; by default that of the class attribute that it is assigned to.
    transient : bool, default False
        It is only needed to make others, and is removed when they are complete.
    """

    def __init__(self, varname: str | None = None, *, transient: bool = False) -> None:
        self.name: str = varname or ""
        self.transient = transient
        #: The definition that it belongs to.
        self.dataset: Any = None
        self._named = varname is not None
        self._dependencies: list[Resource] = []

    def __repr__(self) -> str:
        owner = self.dataset.id if self.dataset is not None else "no dataset"
        return f"<{type(self).__name__} {self.name!r} of {owner}>"

    def __call__(self, dataset: Any) -> Any:
        """Be a decorator: belong to the definition that is below or made later."""
        active.notes_of(dataset).add_resource(self)
        return dataset

    @classmethod
    def apply(cls, *args: Any, **options: Any) -> Any:
        """Make a resource; for the arguments see `Resource`."""
        return cls(*args, **options)

    def bind(self, name: str, dataset: Any) -> None:
        """Belong to a definition; `CatalogError` if it belongs to another, or the name is taken.

        Parameters
        ----------
        name : str
            Its name, unless it has one.
        dataset : Definition
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

    def setup(self, dataset: Any, options: object = None) -> Any:
        """Belong to a definition and return what it gets for this resource; see `bind`."""
        self.bind(self.name, dataset)
        return self.prepare()

    @property
    def owner(self) -> Any:
        """The definition that it belongs to; a `CatalogError` if there is none."""
        if self.dataset is None:
            raise CatalogError(
                f"the resource {self.name or type(self).__name__!r} belongs to no dataset",
                hint="assign it in the body of a class below @dataset, or decorate a definition",
            )
        return self.dataset

    @property
    def context(self) -> Any:
        """Where the dataset's data are, and what users set for them."""
        return self.owner.context

    @property
    def dependencies(self) -> list[Resource]:
        """Resources that must be here before it is made."""
        return self._dependencies

    @property
    def dependents(self) -> list[Resource]:
        """Resources of its definition that depend on it."""
        return [one for one in self.owner.resources.values() if self in one.dependencies]

    @property
    def variable(self) -> str:
        """The name under which a function gets it."""
        return self.name if self.name.isidentifier() else re.sub(r"\W", "_", self.name)

    @property
    def path(self) -> Path:
        """Where it is once it is complete."""
        return Path(self.owner.datapath, self.name)

    @property
    def transient_path(self) -> Path:
        """Where it is to be made."""
        aside = (_aside.get() or {}).get(id(self))
        return self.owner.datapath / ".downloads" / self.path.name if aside is None else aside

    def has_files(self) -> bool:
        """Return True if it is a file or folder of its own."""
        return True

    def files_present(self) -> bool:
        """Return True if its file or folder is here."""
        return self.path.exists()

    @property
    def final_digest(self) -> Digest | None:
        """What its file must hash to, if that is known."""
        return None

    def entries(self) -> Sequence[Entry]:
        """Return what is downloaded for it."""
        return ()

    def sources(self) -> Sequence[str]:
        """Return the addresses that it is fetched from, for ``pkgdata catalog check``."""
        return [url for entry in self.entries() for url in entry.urls]

    def make(self, destination: Path) -> None:
        """Make it at another place than `path`.

        Parameters
        ----------
        destination : Path
            Does not exist yet.
        """
        with made_at(self, destination):
            self.download(False)

    def download(self, force: bool = False) -> Any:
        """Make it at `transient_path`, or at `path` if it has no files of its own.

        Parameters
        ----------
        force : bool, default False
            Make it even if it is here.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method download()")

    def prepare(self) -> Any:
        """Return what a definition gets for it; its path, unless its kind says otherwise."""
        return self.path


def made_at(resource: Resource, destination: Path) -> AbstractContextManager[None]:
    """Set where a resource is made, in this thread or task."""
    return places.setting(_aside, {**(_aside.get() or {}), id(resource): destination})


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
        Its name in the dataset's folder; up to its first dot it is the resource's name.
    varname : str, optional
        Another name for the resource.
    transient : bool, default False
        See `Resource`.
    """

    def __init__(
        self, filename: str, *, varname: str | None = None, transient: bool = False
    ) -> None:
        fs.safe_name(filename)
        super().__init__(varname or filename.partition(".")[0] or filename, transient=transient)
        self._named = varname is not None
        self.filename = filename

    @property
    def path(self) -> Path:
        return Path(self.owner.datapath, self.filename)

    def files_present(self) -> bool:
        return self.path.is_file()

    def stream(self) -> Any:
        """Open the file for reading."""
        return self.path.open("rb")


class FolderResource(_Made):
    """A resource that is a folder."""

    def files_present(self) -> bool:
        return self.path.is_dir()


class ValueResource(Resource):
    """A resource that is no file: ``prepare()`` returns it."""

    def has_files(self) -> bool:
        return False

    def download(self, force: bool = False) -> Any:
        """Do nothing: a value is made when it is asked for."""


# -- checks ----------------------------------------------------------------------------------------


class FileChecker:
    """Checks a file after it is complete; subclass it for checks other than digests."""

    def check(self, path: Path) -> Any:
        """Check a file: return False, or raise, if it is wrong.

        Parameters
        ----------
        path : Path
            The complete file.
        """
        raise NotImplementedError


class HashCheck(FileChecker):
    """Checks a file by its digest, in any of the ways that definitions write one.

    The text is parsed when a file is checked, so that a definition with a wrong digest still loads.

    Parameters
    ----------
    hashstr : str
        The digest in hexadecimal, or as ``alg:hex``, or the name of an algorithm.
    hasherfn : callable or str, optional
        A function of `hashlib` or its name, MD5 by default; the digest, after an algorithm.

    Examples
    --------
    >>> HashCheck("md5", "0cc175b9c0f1b6a831c399e269772661").digest
    Digest('md5:0cc175b9c0f1b6a831c399e269772661')
    """

    def __init__(self, hashstr: str, hasherfn: Any = None) -> None:
        self.hashstr = hashstr
        self.hasherfn = hasherfn

    @property
    def digest(self) -> Digest:
        """The digest, parsed; a `CatalogError` if the text is no digest."""
        first, second = self.hashstr.strip(), self.hasherfn
        if isinstance(second, str) and first.lower().replace("-", "") in hashes.HEX_LENGTH:
            return parse_digest(f"{first.lower().replace('-', '')}:{second}")
        if second is None:
            alg = "" if ":" in first else "md5:"
        else:
            alg = f"{second if isinstance(second, str) else second().name}:"
        return parse_digest(alg + first)

    def check(self, path: Path) -> bool:
        verify(path, self.digest, str(path))
        return True


def parse_digest(text: str | Digest) -> Digest:
    """Read a digest of a definition: ``alg:hex`` or a bare SHA-256."""
    if isinstance(text, Digest):
        return text
    try:
        return Digest.parse(re.sub(r"\s", "", text))
    except ValueError as error:
        raise CatalogError(f"{text!r} is not a digest: {error}") from None


def digest_of(text: str | Digest | None, checker: Any = None) -> Digest | None:
    """Return the digest that a definition states, alone or as a `HashCheck`."""
    if text is not None:
        return parse_digest(text)
    return checker.digest if isinstance(checker, HashCheck) else None


def verify(path: str | os.PathLike[str], digest: Digest, source: str) -> None:
    """Compare a file with a digest; ``source`` is where it came from."""
    actual = hashes.hash_file(path, digest.alg)
    if actual != digest:
        name = Path(path).name
        raise hashes.mismatch(
            f"wrong bytes for {name!r} from {source}",
            digest,
            actual,
            name=name,
            source=source,
            hint="the source changed, or the definition is wrong; report it to its authors",
        )
