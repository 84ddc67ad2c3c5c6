"""The folder of the datasets on this computer.

::

  NAME/                  a dataset that was pulled or created
  NAME -> /some/folder   one that was registered
  .NAME.manifest         what a pulled one holds: its manifest, and which folder that is
  .NAME.lock             one process at a time pulls it; removed once it is here
  .NAME.<owner>.tmp/     a dataset until it is complete, or until it is removed

1. A dataset appears, is replaced and disappears by a rename: a reader finds all of one version or
   none. Where the system can exchange two folders, there is no moment without either.
2. The manifest is written after the dataset and names the folder's inode. If the two do not belong
   together, as after another program replaced the folder, there is no manifest.
3. A registered folder is never written to, and never removed.
4. Locks only save repeated work, as in `pkgdata.cache`.
5. What a killed process left in ``.NAME.<owner>.tmp`` is removed by the next one that writes here.

The files next to the datasets are files, so that etcetera, which lists folders and links, does not
take them for datasets.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple
from urllib.parse import quote, unquote

from ..base import fs, owners
from ..base.config import conf
from ..cache import staging
from ..errors import DatasetError, RegistryError, UnknownNameError
from .config import Config
from .repository import Manifest

#: Stray files that a message names.
_NAMED = 3


class Pulled(NamedTuple):
    """A dataset that was pulled: its whole manifest, and the partitions here; None for all."""

    manifest: Manifest
    partitions: list[str] | None = None

    def here(self) -> Manifest:
        """Return the manifest of what is here."""
        return self.manifest.part(self.partitions)

    def absent(self) -> list[str]:
        """Return the partitions that are not here."""
        if self.partitions is None:
            return []
        return [name for name in self.manifest.partitions() if name not in self.partitions]


class Home:
    """The folder of the datasets. Making one touches no disk."""

    def __init__(self, path: str, lock_timeout: float = 60.0) -> None:
        self.folder = path
        self.lock_timeout = lock_timeout

    # -- looking -------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Return where a dataset is if it is here."""
        return os.path.join(self.folder, check_name(name))

    def has(self, name: str) -> bool:
        """Return True if a dataset is here, or a dangling link to one."""
        return os.path.lexists(self.path(name))

    def names(self) -> list[str]:
        """Return the names of the datasets that are here, sorted."""
        try:
            with os.scandir(self.folder) as found:
                return sorted(
                    entry.name
                    for entry in found
                    if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_dir())
                )
        except FileNotFoundError:
            return []

    def find(self, name: str) -> str:
        """Return where a dataset is, or raise an error if it is not here or its folder is gone."""
        path = self.path(name)
        if os.path.isdir(path):
            return path
        if os.path.lexists(path):
            raise DatasetError(
                f"the dataset {name!r} was registered, and its folder "
                f"{os.path.realpath(path)} is gone",
                hint=f"pkgdata.datasets.purge({name!r}) forgets it",
                command=f"pkgdata dataset purge {name} forgets it",
                path=path,
            )
        where = f"is not in {self.folder}"
        raise unknown(name, self.names(), where, f"pkgdata dataset pull {name}")

    def record(self, name: str) -> Pulled | None:
        """Return what is known of a dataset that was pulled.

        None for one that was not, and where the folder is not the one that was pulled.
        """
        path = self._file(name, "manifest")
        try:
            with open(path, encoding="utf-8") as file:
                first, _, text = file.read().partition("\n")
            folder, _, partitions = first.removeprefix("#: here=").partition(" partitions=")
            if folder != _identity(self.path(name)):
                return None
            manifest = Manifest.parse(text, path)
        except (OSError, UnicodeDecodeError, RegistryError):
            return None  # a damaged record is a miss
        if not partitions:
            return Pulled(manifest)
        return Pulled(manifest, [unquote(one) for one in partitions.split(",")])

    # -- writing -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Create the folder, and remove what killed processes left in it."""
        os.makedirs(self.folder, exist_ok=True)
        staging.sweep(self.folder, ".", owners.ASIDE)

    def aside(self, name: str) -> AbstractContextManager[str]:
        """Give a folder in which a dataset is prepared; it is removed if it is still there."""
        return staging.folder(self._aside(name), follow=False)

    def commit(self, name: str, aside: str, record: Pulled | None, replace: bool) -> bool:
        """Give a folder, or a link, its final name, and keep a record next to it.

        Return False if something is there that is not to be replaced.
        """
        identity, target = _identity(aside), self.path(name)
        try:
            if not staging.place(aside, target, replace):
                return False
        except FileExistsError as error:
            problem = f"{target} cannot be replaced: {error.strerror}"
            raise DatasetError(problem, path=target) from None
        if record is None:
            fs.remove(self._file(name, "manifest"))
        else:
            self._write_record(name, identity, record)
        return True

    def _write_record(self, name: str, identity: str, record: Pulled) -> None:
        first = f"#: here={identity}"
        if record.partitions is not None:
            first += " partitions=" + ",".join(quote(one, safe="") for one in record.partitions)
        text = f"{first}\n{record.manifest.dumps()}"
        fs.write_atomic(self._file(name, "manifest"), text.encode(), sync=False)

    def link(self, name: str, folder: str, replace: bool) -> bool:
        """Make a name for a folder elsewhere; return False as `commit` does."""
        aside = self._aside(name)
        os.symlink(folder, aside, target_is_directory=True)
        try:
            return self.commit(name, aside, None, replace)
        finally:
            fs.discard(aside)

    def purge(self, name: str) -> bool:
        """Remove a dataset, of a registered one the link; return False if it was not here."""
        found = self.has(name)
        if found:
            staging.take_away(self.path(name))
        fs.remove(self._file(name, "manifest"))
        return found

    def turn(
        self, name: str, done: Callable[[], bool], waiting: Callable[[float], None]
    ) -> staging.Turn:
        """Return the context manager in which this process alone pulls a dataset."""
        lock = self._file(name, "lock")
        return staging.Turn(lock, self.lock_timeout, done, waiting=waiting)

    def _file(self, name: str, kind: str) -> str:
        return os.path.join(self.folder, f".{check_name(name)}.{kind}")

    def _aside(self, name: str) -> str:
        return owners.aside(os.path.join(self.folder, f".{check_name(name)}"))


def home_of(config: Config) -> Home:
    """Return the folder of the datasets on this computer."""
    return Home(config.home, float(conf.lock_timeout))


def taken(home: Home, name: str) -> DatasetError:
    """Return the error for a name that a dataset of this computer has."""
    path = home.path(name)
    return DatasetError(
        f"there is a dataset {name!r} here already: {path}",
        hint="force=True replaces it",
        command="--force replaces it",
        path=path,
        taken=True,
    )


def check_name(name: str) -> str:
    """Return a text that can name a dataset, or raise an error."""
    problem = fs.name_problem(name, everywhere=True)
    hint = "a name such as flower"
    if problem is None and "/" in name:
        problem = "it holds a slash"
        hint = "what comes before the slash belongs to the URL of the repository"
    elif problem is None and name[0] == ".":
        problem = "it begins with a dot"
    if problem is not None:
        raise DatasetError(f"{name!r} cannot name a dataset: {problem}", hint=hint)
    return name


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


def unknown(name: str, known: list[str], where: str, otherwise: str) -> UnknownNameError:
    """Return the error for a dataset that is not there.

    ``where`` is such as ``"is not in FOLDER"``; ``otherwise`` is the hint if no name is similar.
    """
    close = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else otherwise
    return UnknownNameError(f"the dataset {name!r} {where}", hint=hint, name=name, close=close)


def _identity(path: str) -> str:
    """Return what distinguishes a folder from one that replaces it; a rename does not change it."""
    found = os.lstat(path)
    return f"{found.st_dev}-{found.st_ino}"
