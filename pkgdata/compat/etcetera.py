"""etcetera's names on pkgdata's engine: ``import pkgdata.compat.etcetera as etc``.

Settings are read from ``~/.etc.toml``, datasets are in ``~/.etc``, and what is pushed is
``NAME.tgz``, all as etcetera 0.0.12 has it, so that the two share datasets on a computer and in a
repository. Errors are etcetera's too: `RuntimeError` for what is missing or in the way,
`ValueError` for what is no dataset.

New is that any store is a repository, that archives are unpacked safely, that a dataset appears
when all of it is there, and that a dataset that was pushed in pkgdata's own form is pulled as well.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from .. import datasets
from ..datasets import Dataset
from ..datasets.config import TGZ, etc_file, etc_home, read_file
from ..errors import AlreadyPublishedError, ConfigError, DatasetError, UnknownNameError

__all__ = ["Config", "Dataset", "create", "dataset", "ls", "pull", "purge", "push", "register"]

__version__ = "0.0.12"


class NotHereError(UnknownNameError, RuntimeError):
    """A dataset is not on this computer, or not in the repository."""


class InTheWayError(DatasetError, RuntimeError):
    """A dataset of this name is there already."""


class NoConfigError(ConfigError, RuntimeError):
    """There is no configuration, or it names no repository."""


class Config(datasets.Config):
    """Where datasets are kept; see `pkgdata.datasets.Config`.

    Parameters
    ----------
    url : str, optional
    home : path-like, optional
        ``~/.etc`` by default.
    **conf
        As for `pkgdata.datasets.Config`.
    """

    def __init__(
        self, url: str | None = None, home: str | os.PathLike[str] | None = None, **conf: Any
    ) -> None:
        super().__init__(url, home or etc_home(), **{"format": TGZ, **conf})
        #: What was given besides these two.
        self.conf = {key: value for key, value in conf.items() if key != "origin"}

    @classmethod
    def load(cls, filename: str | os.PathLike[str] | None = None) -> Config:
        """Read a file.

        Parameters
        ----------
        filename : path-like, optional
            ``~/.etc.toml`` by default.

        Raises
        ------
        RuntimeError
            It is not there, or names no repository.
        """
        path = etc_file() if filename is None else os.fspath(filename)
        if not os.path.isfile(path):
            raise NoConfigError(
                f"there is no configuration file {path}", hint='write url = "s3://BUCKET" into it'
            )
        found = read_file(path)
        if "url" not in found:
            raise NoConfigError(f'{path} has no key "url"', hint='such as url = "s3://BUCKET"')
        return cls(**found)


def dataset(
    name: str,
    auto_pull: bool = False,
    config: datasets.Config | None = None,
    *,
    auto_install: bool = False,
) -> Dataset:
    """Return a dataset.

    Parameters
    ----------
    name : str
    auto_pull : bool, default False
        Pull it if it is not here.
    config : Config, optional
    auto_install : bool, default False
        What etcetera's README calls ``auto_pull``.

    Returns
    -------
    Dataset
    """
    config = config or Config.load()
    with _theirs():
        if (auto_pull or auto_install) and name not in datasets.ls(config=config):
            _pull(name, False, config, ready=True)
        return datasets.dataset(name, config=config)


def pull(name: str, force: bool = False, config: datasets.Config | None = None) -> None:
    """Pull a dataset, in etcetera's form if it is there, else in pkgdata's.

    Parameters
    ----------
    name : str
    force : bool, default False
    config : Config, optional
    """
    with _theirs():
        _pull(name, force, config or Config.load(), ready=False)


def _pull(name: str, force: bool, config: datasets.Config, ready: bool) -> None:
    try:
        datasets.pull(name, force, config, format=TGZ, ready=ready)
    except UnknownNameError:
        datasets.pull(name, force, config, ready=ready)


def push(name: str, force: bool = False, config: datasets.Config | None = None) -> None:
    """Push a dataset as ``NAME.tgz``.

    Parameters
    ----------
    name : str
    force : bool, default False
    config : Config, optional
    """
    with _theirs():
        datasets.push(name, force, config or Config.load(), format=TGZ)


def register(
    dirname: str | os.PathLike[str],
    name: str | None = None,
    force: bool = False,
    config: datasets.Config | None = None,
) -> None:
    """Make a directory known by a name.

    Parameters
    ----------
    dirname : path-like
    name : str, optional
    force : bool, default False
    config : Config, optional
    """
    with _theirs():
        datasets.register(dirname, name, force, config or Config.load())


def purge(name: str, config: datasets.Config | None = None) -> None:
    """Remove a dataset from this computer.

    Parameters
    ----------
    name : str
    config : Config, optional
    """
    datasets.purge(name, config or Config.load())


def create(
    name: str,
    partitions: Iterable[str] = ("train", "test"),
    force: bool = False,
    config: datasets.Config | None = None,
) -> Dataset:
    """Make a dataset without files.

    Parameters
    ----------
    name : str
    partitions : iterable of str, default ``("train", "test")``
    force : bool, default False
    config : Config, optional

    Returns
    -------
    Dataset
    """
    with _theirs():
        return datasets.create(name, partitions, force, config or Config.load())


def ls(remote: bool = False, config: datasets.Config | None = None) -> Iterator[str]:
    """Yield the names of the datasets.

    Parameters
    ----------
    remote : bool, default False
        Those of the repository.
    config : Config, optional

    Yields
    ------
    str
    """
    yield from datasets.ls(remote, config or Config.load())


@contextlib.contextmanager
def _theirs() -> Iterator[None]:
    """Raise what etcetera's callers catch."""
    try:
        yield
    except UnknownNameError as error:
        found = NotHereError(error.message, hint=error.hint, name=error.name, close=error.close)
        raise found from error
    except AlreadyPublishedError as error:
        raise InTheWayError(error.message, hint=error.hint) from error
    except DatasetError as error:
        if not error.taken:
            raise
        raise InTheWayError(error.message, hint=error.hint, path=error.path) from error
