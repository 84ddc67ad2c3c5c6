"""Resources that are elsewhere: other datasets, and what the computer or its user has already."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...base import fs, owners
from ...errors import CatalogError
from .. import places
from ..active import of_class
from ..definition import Definition, Part
from . import Resource, ValueResource, parse_digest, verify


def resolve(target: Any, wanted_by: Definition) -> Any:
    """Return the definition that a name or class stands for; anything else as it is."""
    if isinstance(target, str):
        return wanted_by.catalog.find(target)
    found = of_class(target)
    return target if found is None else found


class reference(ValueResource):
    """Another dataset, which is prepared first; the definition gets its data.

    Parameters
    ----------
    first : object, optional
        The dataset: its definition, class or name. With ``reference``, the name of this resource.
    reference : object, optional
        The dataset.
    varname : str, optional
        See `Resource`.
    """

    def __init__(
        self, first: Any = None, reference: Any = None, *, varname: str | None = None
    ) -> None:
        if reference is None:
            reference = first
        elif first is not None:
            varname = first
        if reference is None:
            raise CatalogError("a reference needs a dataset")
        super().__init__(varname)
        self.reference = reference

    def target(self) -> Any:
        """Return the definition that it stands for, of this library or of datamaestro."""
        return resolve(self.reference, self.owner)

    def download(self, force: bool = False) -> Any:
        self.target().download(force)

    def prepare(self) -> Any:
        return self.target().prepare(download=False)

    def config(self) -> Any:
        """Datamaestro's other name of `prepare`."""
        return self.prepare()


class links(Resource):
    """Other datasets, by name: their data, or symbolic links to their folders.

    Parameters
    ----------
    varname : str
        Its name.
    target : object, optional
        One dataset; the definition gets its data, as from `reference`.
    transient : bool, default False
        See `Resource`.
    **targets
        Datasets by the names of links in this dataset's folder, which the definition gets.
    """

    def __init__(
        self, varname: str, target: Any = None, *, transient: bool = False, **targets: Any
    ) -> None:
        super().__init__(varname, transient=transient)
        self.target = target
        self.links = targets

    @property
    def path(self) -> Path:
        return Path(self.owner.datapath)

    def has_files(self) -> bool:
        return False

    def download(self, force: bool = False) -> Any:
        if self.target is not None:
            resolve(self.target, self.owner).download(force)
        for name, target in self.links.items():
            found = resolve(target, self.owner)
            if not isinstance(found, (str, os.PathLike)):
                found.download(force)
            make_link(_place_of(found), self.path / name)

    def prepare(self) -> Any:
        if self.target is None:
            return self.path
        return resolve(self.target, self.owner).prepare(download=False)


def _place_of(found: Any) -> Path:
    """Return the folder of a dataset, the path of a part of one, or the path that a link is."""
    if isinstance(found, Definition):
        return found.datapath
    value = found() if isinstance(found, Part) else found
    return Path(getattr(value, "path", value))


def make_link(target: Path, link: Path) -> None:
    """Make a symbolic link, whole or not at all; one that leads elsewhere is replaced."""
    if link.is_symlink():
        if os.readlink(link) == str(target):
            return
    elif link.exists():
        raise CatalogError(f"{link} is in the way of a link to {target}")
    link.parent.mkdir(parents=True, exist_ok=True)
    aside = link.parent / owners.aside(link.name)
    os.symlink(target, aside, target_is_directory=target.is_dir())
    fs.replace(str(aside), str(link))


class Elsewhere(Resource):
    """A file or folder that a computer has already, searched for, else asked for and remembered."""

    #: What it is, for messages.
    kind = "file or folder"

    def __init__(
        self, varname: str, proposals: Any = (), *, transient: bool = False, checker: Any = None
    ) -> None:
        super().__init__(varname, transient=transient)
        single = isinstance(proposals, (str, os.PathLike)) or hasattr(proposals, "resolve")
        self.proposals: Iterable[Any] = [proposals] if single else list(proposals)
        self.checker = checker

    @property
    def how_to_get_it(self) -> str:
        """Instructions for the user, if there are any."""
        return ""

    @property
    def key(self) -> str:
        """Under which the user's answer is remembered."""
        return f"{self.owner.id}/{self.name}"

    @property
    def path(self) -> Path:
        here = Path(self.owner.datapath, self.name)
        if not os.path.lexists(here):
            told = places.UserSettings(self.owner.root).paths.get(self.key)
            if told is not None:
                return Path(told)
        return here

    def has_files(self) -> bool:
        return False

    def files_present(self) -> bool:
        return self._is_right(self.path)

    def _is_right(self, path: Path) -> bool:
        exists = {"file": path.is_file, "folder": path.is_dir}.get(self.kind, path.exists)
        return exists() and (self.checker is None or self.checker.check(path) is not False)

    def download(self, force: bool = False) -> Any:
        if self.files_present() and not force:
            return
        tried = []
        for proposal in self.proposals:
            try:
                path = self._where(proposal)
            except CatalogError as error:
                tried.append(error.message)
                continue
            if self._is_right(path):
                make_link(path, self.owner.datapath / self.name)
                return
            tried.append(f"{path}: no such {self.kind}")
        self._remember(self._asked(tried))

    def _where(self, proposal: Any) -> Path:
        if isinstance(proposal, places.DataFolder):
            return proposal.resolve(self.owner.root)
        if isinstance(proposal, os.PathLike):
            return Path(proposal)
        if callable(proposal):  # datamaestro's resolvable paths
            return Path(proposal(self.context))
        path = os.path.expanduser(str(proposal))
        if os.path.isabs(path) or os.sep in path:
            return Path(path)
        return places.DataFolder(path).resolve(self.owner.root)

    def _asked(self, tried: list[str]) -> Path:
        owner, how = self.owner, self.how_to_get_it
        told = owner.catalog.told.get(self.key) or owner.catalog.told.get(self.name)
        ask: Callable[[str], str] | None = owner.catalog.ask
        if told is None and ask is not None:
            question = f"Path of the {self.kind} {self.name!r} of {owner.id}: "
            told = ask("\n".join(filter(None, [how, question]))).strip()
        if not told:
            listed = "".join(f"\n  {line}" for line in tried)
            first = f"{how}; then " if how else ""
            raise CatalogError(
                f"{owner.id} needs the {self.kind} {self.name!r}, which cannot be fetched{listed}",
                hint=f"{first}say where it is: "
                f"pkgdata catalog download {owner.id} --path {self.name}=PATH",
            )
        path = Path(os.path.abspath(os.path.expanduser(told)))
        if not self._is_right(path):
            raise CatalogError(f"{owner.id}: {path} is not the {self.kind} {self.name!r}")
        return path

    def _remember(self, path: Path) -> None:
        here = self.owner.datapath / self.name
        if here.is_symlink():  # it led to what is no longer there
            here.unlink()
        places.UserSettings(self.owner.root).set_path(self.key, path)


class linkfolder(Elsewhere):
    """A folder that the computer has already; parameters as of `linkfile`, without ``path``."""

    kind = "folder"


class linkfile(Elsewhere):
    """A file that the computer has already.

    Parameters
    ----------
    varname : str
        Its name.
    proposals : path, DataFolder, or sequence of them
        Where it may be. A plain word is the key of a data folder, if ``path`` follows.
    path : str, optional
        Below the data folder.
    transient : bool, default False
        See `Resource`.
    checker : object, optional
        Its method ``check(path)`` returns False for a wrong file.
    """

    kind = "file"

    def __init__(
        self,
        varname: str,
        proposals: Any = (),
        path: str | None = None,
        *,
        transient: bool = False,
        checker: Any = None,
    ) -> None:
        if path is not None:
            proposals = places.DataFolder(proposals, path)
        super().__init__(varname, proposals, transient=transient, checker=checker)


class manual(Elsewhere):
    """A file or folder that the user must get; its path is asked once and remembered.

    Parameters
    ----------
    varname : str
        Its name.
    instructions : str, default ``""``
        How to get it: "sign the form at …".
    url : str, optional
        A page that says more.
    digest : str or Digest, optional
        Of the file: ``alg:hex`` or a bare SHA-256.
    transient : bool, default False
        See `Resource`.
    """

    def __init__(
        self,
        varname: str,
        instructions: str = "",
        *,
        url: str | None = None,
        digest: Any = None,
        transient: bool = False,
    ) -> None:
        super().__init__(varname, (), transient=transient)
        self.instructions = instructions
        self.url = url
        self.digest = digest

    @property
    def how_to_get_it(self) -> str:
        return " ".join(filter(None, [self.instructions.strip(), self.url]))

    def _remember(self, path: Path) -> None:
        if self.digest is not None:
            verify(path, parse_digest(self.digest), str(path))
        super()._remember(path)
