"""Datasets of this computer: `Dataset`, and how they are named, made, listed, compared, removed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..base import disk
from ..base.report import InNotebook, each_name, read_json
from ..base.text import Choice
from ..core import scan
from ..core.registry import Registry
from ..errors import DatasetError, UnknownNameError
from ..stores import Store
from . import repository, tgz
from .config import Config
from .home import Home, check, check_name, home_of, taken, unknown
from .repository import Manifest, store_of
from .transfers import Progress, pull, shown

#: Partitions that `create` makes, as etcetera does.
PARTITIONS = ("train", "test")


class Dataset(InNotebook):
    """A dataset on this computer: a mapping from partition to folder.

    Parameters
    ----------
    location : path-like
        Its directory.
    name : str, optional
        That of the directory by default.
    absent : collection of str, optional
        Partitions that it has in the repository and that were not pulled.

    Raises
    ------
    DatasetError
        The directory is no dataset.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        name: str | None = None,
        absent: Collection[str] = (),
    ) -> None:
        #: Its directory; ``root`` is the same.
        self.location = Path(location).resolve()
        check(str(self.location))
        self.name = name or self.location.name
        self._absent = frozenset(absent)
        self._meta: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Dataset {self.name} at {self.location}>"

    @property
    def root(self) -> Path:
        """Its directory."""
        return self.location

    @property
    def data(self) -> Path:
        """The directory of the partitions."""
        return self.location / "data"

    @property
    def meta(self) -> dict[str, Any]:
        """What ``meta.json`` holds; empty if there is none."""
        if self._meta is None:
            self._meta = _read_meta(str(self.file("meta.json")))
        return self._meta

    def file(self, *parts: str) -> Path:
        """Return the path of a file of the dataset.

        Parameters
        ----------
        *parts : str
            Relative to its directory.
        """
        return self.location.joinpath(*parts)

    def partitions(self) -> list[str]:
        """Return the names of the partitions, sorted."""
        return sorted(os.listdir(self.data))

    def keys(self) -> set[str]:
        """Return the names of the partitions."""
        return set(self.partitions())

    def values(self) -> Iterator[Path]:
        """Yield the folders of the partitions."""
        yield from (folder for _, folder in self.items())

    def items(self) -> Iterator[tuple[str, Path]]:
        """Yield the partitions, each with its folder."""
        for name in self.partitions():
            yield name, self.data / name

    def manifest(self) -> Registry:
        """Hash all files.

        Returns
        -------
        Registry
            Its ``digest()`` is the identity of the dataset.
        """
        return scan.make(self.location, choice=Choice(junk=True))

    def __getitem__(self, partition: str) -> Path:
        if partition in self.keys():
            return self.data / partition
        known = self.partitions()
        if partition in self._absent:
            hint = f"it was not pulled: pkgdata dataset pull {self.name} --partition {partition}"
        else:
            hint = f"it has {', '.join(known)}"
        close = difflib.get_close_matches(partition, known)
        problem = f"the dataset {self.name} has no partition {partition!r} here"
        raise UnknownNameError(problem, hint=hint, name=partition, close=close)

    def __contains__(self, partition: object) -> bool:
        return partition in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.partitions())

    def __len__(self) -> int:
        return len(self.partitions())


def _read_meta(path: str) -> dict[str, Any]:
    try:
        found = read_json(path, lambda why: DatasetError(f"{path}: {why}", path=path))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        problem = f"{path}: expected an object, found {type(found).__name__}"
        raise DatasetError(problem, hint='write {"key": "value"}', path=path)
    return found


def dataset(name: str, auto_pull: bool = False, config: Config | None = None) -> Dataset:
    """Return a dataset of this computer.

    Parameters
    ----------
    name : str
    auto_pull : bool, default False
        Pull it if it is not here.
    config : Config, optional

    Returns
    -------
    Dataset

    Raises
    ------
    UnknownNameError
        It is neither here nor, with ``auto_pull``, in the repository.
    DatasetError
        What is here under this name is no dataset.
    """
    config = config or Config.load()
    home = home_of(config)
    if auto_pull and not home.has(name):
        pull(name, config=config, ready=True)
    path, record = home.find(name), home.record(name)
    return Dataset(path, name, record.absent() if record is not None else ())


def register(
    dirname: str | os.PathLike[str],
    name: str | None = None,
    force: bool = False,
    config: Config | None = None,
) -> Dataset:
    """Give a directory of this computer a name; nothing is copied.

    Parameters
    ----------
    dirname : path-like
    name : str, optional
        That of the directory by default.
    force : bool, default False
        Replace the dataset that has the name.
    config : Config, optional

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        The directory is no dataset, or the name is taken.
    """
    folder = os.path.realpath(dirname)
    check(folder)
    name = check_name(name or os.path.basename(folder))
    home = home_of(config or Config.load())
    if os.path.realpath(home.path(name)) == folder and not os.path.islink(home.path(name)):
        raise DatasetError(f"{folder} is the dataset {name} already", path=folder)
    home.prepare()
    if not home.link(name, folder, force):
        raise taken(home, name)
    return Dataset(folder, name)


def create(
    name: str,
    partitions: str | Iterable[str] = PARTITIONS,
    force: bool = False,
    config: Config | None = None,
) -> Dataset:
    """Make a dataset without files, to be filled.

    Parameters
    ----------
    name : str
    partitions : str or iterable of str, default ``("train", "test")``
    force : bool, default False
        Replace the dataset that has the name.
    config : Config, optional

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        The name is taken, or there is no partition.
    """
    home = home_of(config or Config.load())
    wanted = [check_name(partition) for partition in each_name(partitions)]
    if not wanted:
        raise DatasetError(f"the dataset {name!r} would have no partition; it needs one at least")
    home.path(name)
    home.prepare()
    with home.aside(name) as aside:
        for partition in wanted:
            os.makedirs(os.path.join(aside, "data", partition), exist_ok=True)
        if not home.commit(name, aside, None, force):
            raise taken(home, name)
    return Dataset(home.path(name), name)


def purge(name: str, config: Config | None = None, *, dry_run: bool = False) -> str | None:
    """Remove a dataset from this computer; of a registered one only the name.

    Parameters
    ----------
    name : str
    config : Config, optional
    dry_run : bool, default False

    Returns
    -------
    str or None
        Where it was; None if it was not here, which is no error.
    """
    home = home_of(config or Config.load())
    path = home.path(name)
    if not os.path.isdir(home.folder):
        return None
    if dry_run:
        return path if home.has(name) else None
    home.prepare()
    return path if home.purge(name) else None


def ls(remote: bool = False, config: Config | None = None) -> list[str]:
    """List datasets.

    Parameters
    ----------
    remote : bool, default False
        Those of the repository, instead of those of this computer.
    config : Config, optional

    Returns
    -------
    list of str
        Their names, sorted.

    Raises
    ------
    UnsupportedOperationError
        The repository cannot be listed.
    """
    config = config or Config.load()
    if remote:
        return list(repository.forms(store_of(config)))
    return home_of(config).names()


def verify(
    name: str, config: Config | None = None, *, progress: Progress = None
) -> scan.Comparison:
    """Hash the files of a dataset again, and compare them with what was pulled.

    Parameters
    ----------
    name : str
        One that was created or registered is compared with the repository.
    config : Config, optional
    progress : bool or callable, optional
        See `Store.get`.

    Returns
    -------
    Comparison
        True if they differ.

    Raises
    ------
    DatasetError
        It is no dataset any more, or there is nothing to compare it with.
    """
    config = config or Config.load()
    home = home_of(config)
    folder, record = home.find(name), home.record(name)
    check(folder)
    promised = record.here() if record else _remote_manifest(store_of(config), name, None)
    show = shown(progress, len(promised.registry), promised.size)
    return scan.compare(folder, promised.registry, choice=Choice(junk=True), progress=show)


def diff(
    name: str,
    other: str | os.PathLike[str] | None = None,
    config: Config | None = None,
    *,
    progress: Progress = None,
) -> scan.Comparison:
    """Compare a dataset of this computer with another one.

    Parameters
    ----------
    name : str
        Of the dataset, or the path of a directory.
    other : str or path-like, optional
        Likewise; by default what the repository has under the name.
    config : Config, optional
    progress : bool or callable, optional
        See `Store.get`.

    Returns
    -------
    Comparison
        What is missing and what is extra here; true if they differ.
    """
    config = config or Config.load()
    home = home_of(config)
    folder = _folder_of(home, name)
    if other is None:
        record = home.record(name)
        parts = record.partitions if record else None
        promised = _remote_manifest(store_of(config), name, parts).registry
    else:
        promised = scan.make(_folder_of(home, os.fspath(other)), choice=Choice(junk=True))
    show = shown(progress, folder=folder)
    return scan.compare(folder, promised, choice=Choice(junk=True), progress=show)


def _folder_of(home: Home, text: str) -> str:
    """Return the folder of a dataset by its name, or by a path that holds a separator."""
    is_path = os.sep in text or "/" in text or text in (".", "..")
    folder = os.path.abspath(text) if is_path else home.find(text)
    check(folder)
    return folder


def _remote_manifest(store: Store, name: str, partitions: list[str] | None) -> Manifest:
    found = repository.read_manifest(store, name)
    if found is not None:
        return found[0].part(partitions)
    if store.exists(repository.tgz_name(name)):
        with disk.temporary("dataset") as work:
            return Manifest(tgz.pull(store, name, work)[0])
    problem = f"is not in {store.url}, so there is nothing to compare it with"
    hint = "pkgdata dataset push puts it there"
    raise unknown(name, repository.known_names(store), problem, hint)
