"""What is done with the datasets of this computer: name, make, list and remove them."""

from __future__ import annotations

import os

from ..errors import DatasetError
from . import remote as repository
from ._common import home_of, store_of, taken
from .config import Config
from .directory import Dataset, check
from .home import check_name
from .transfers import pull

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Partitions that `create` makes, as etcetera does.
PARTITIONS = ("train", "test")


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
        Take the place of the dataset that has the name.
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
    partitions: Iterable[str] = PARTITIONS,
    force: bool = False,
    config: Config | None = None,
) -> Dataset:
    """Make a dataset without files, to be filled.

    Parameters
    ----------
    name : str
    partitions : iterable of str, default ``("train", "test")``
    force : bool, default False
        Take the place of the dataset that has the name.
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
    wanted = [check_name(partition) for partition in partitions]
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
    """Remove a dataset from this computer; of a registered one the name alone.

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
        return list(remote_forms(config))
    return home_of(config).names()


def remote_forms(config: Config) -> dict[str, set[str]]:
    """List the datasets of the repository.

    Returns
    -------
    dict of str to set of str
        The forms of each.
    """
    return repository.names(store_of(config))
