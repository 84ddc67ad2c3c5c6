"""Datasets and what they ought to be: verify one, compare two."""

from __future__ import annotations

import os

from ..core import scan
from . import remote, tgz
from ._common import Show, home_of, store_of
from .config import Config
from .directory import check
from .home import Home, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.registry import Registry
    from ..stores import Store
    from ._common import Progress


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
    if record is None:
        promised = _remote_registry(store_of(config), name, None)
    else:
        promised = record.here().registry
    total = sum(entry.size or 0 for entry in promised.values())
    show = Show(progress, files=len(promised), total=total)
    return scan.compare(folder, promised, progress=show)


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
        parts = None if record is None else record.partitions
        promised = _remote_registry(store_of(config), name, parts)
    else:
        promised = scan.make(_folder_of(home, os.fspath(other)))
    return scan.compare(folder, promised, progress=Show(progress, folder=folder))


def _folder_of(home: Home, text: str) -> str:
    """Return the folder of a dataset by its name, or by a path that holds a separator."""
    is_path = os.sep in text or "/" in text or text in (".", "..")
    folder = os.path.abspath(text) if is_path else home.find(text)
    check(folder)
    return folder


def _remote_registry(store: Store, name: str, partitions: list[str] | None) -> Registry:
    found = remote.read_manifest(store, name)
    if found is not None:
        return found[0].part(partitions).registry
    if store.exists(remote.tgz_name(name)):
        return tgz.manifest(store, name)
    raise unknown(
        name,
        remote.known_names(store),
        f"is not in {store.url}, so there is nothing to compare it with",
        "pkgdata dataset push puts it there",
    )
