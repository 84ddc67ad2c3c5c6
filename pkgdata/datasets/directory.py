"""`Dataset`: a dataset on this computer, and the rules that make a directory one."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

from ..core import scan
from ..errors import DatasetError, UnknownNameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from ..core.registry import Registry

#: Stray files that a message names.
_NAMED = 3


def check(folder: str) -> None:
    """Raise a `DatasetError` that names the broken rule if a directory is no dataset."""
    data = os.path.join(folder, "data")
    if not os.path.isdir(folder):
        kind = "a file, not a directory" if os.path.exists(folder) else "not there"
        raise _broken(folder, f"it is {kind}")
    if not os.path.isdir(data):
        raise _broken(folder, "it must have a directory data/, and has none")
    with os.scandir(data) as found:
        kinds = {entry.name: entry.is_dir() for entry in found}
    stray = sorted(name for name, is_dir in kinds.items() if not is_dir)
    if stray:
        more = f" and {len(stray) - _NAMED} more" if len(stray) > _NAMED else ""
        names = ", ".join(f"data/{name}" for name in stray[:_NAMED])
        raise _broken(folder, f"data/ must hold directories alone, and holds {names}{more}")
    if not kinds:
        raise _broken(folder, "data/ must hold at least one partition, and is empty")


def _broken(folder: str, rule: str) -> DatasetError:
    return DatasetError(
        f"{folder} is no dataset: {rule}",
        hint="a dataset is a directory with data/PARTITION/..., such as data/train/a.jpg",
        path=folder,
    )


class Dataset:
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
        for _, folder in self.items():
            yield folder

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
        return scan.make(self.location)

    def __getitem__(self, partition: str) -> Path:
        if partition in self.keys():
            return self.data / partition
        known = self.partitions()
        if partition in self._absent:
            hint = f"it was not pulled: pkgdata dataset pull {self.name} --partition {partition}"
        else:
            hint = f"it has {', '.join(known)}"
        close = difflib.get_close_matches(partition, known)
        raise UnknownNameError(
            f"the dataset {self.name} has no partition {partition!r} here",
            hint=hint,
            name=partition,
            close=close,
        )

    def __contains__(self, partition: object) -> bool:
        return partition in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.partitions())

    def __len__(self) -> int:
        return len(self.partitions())


def _read_meta(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}", path=path) from None
    if not isinstance(found, dict):
        raise DatasetError(
            f"{path}: expected an object, found {type(found).__name__}",
            hint='write {"key": "value"}',
            path=path,
        )
    return found
