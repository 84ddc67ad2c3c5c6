"""The folder of the datasets on this computer.

::

  NAME/                  a dataset that was pulled or created
  NAME -> /some/folder   one that was registered
  .NAME.manifest         what a pulled one holds: its manifest, and which folder that is
  .NAME.lock             one process at a time pulls it; removed when it is there
  .NAME.<owner>.tmp/     a dataset until it is complete, or until it is removed

1. A dataset appears, is replaced and goes by a rename: whoever looks finds all of one version or
   none. Where the system can exchange two folders, there is no moment without either.
2. The manifest is written behind the dataset and names the folder's inode. If the two do not
   belong together, as after another program replaced the folder, there is no manifest.
3. A registered folder is never written to, and never removed.
4. Locks only save repeated work, as in `pkgdata.cache`.
5. What a killed process left in ``.NAME.<owner>.tmp`` the next one to write here removes.

The files beside the datasets are files, so that etcetera, which lists folders and links, does not
take them for datasets.
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import errno
import os
import sys
import time
from typing import NamedTuple
from urllib.parse import quote, unquote

from ..base import fs, locks, owners
from ..base.config import conf
from ..errors import CacheWarning, DatasetError, RegistryError, UnknownNameError, warn
from .repository import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .config import Config

#: Tries to replace a dataset that others replace and remove at the same time.
_TRIES = 20

#: Least seconds between two signs of work.
_SIGN_EVERY = 0.5


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
    """The folder of the datasets. Making one touches no disk.

    Parameters
    ----------
    lock_timeout : float, default 60
        Seconds to wait for another process that shows no sign of work.
    """

    def __init__(self, path: str, lock_timeout: float = 60.0) -> None:
        self.folder = path
        self.lock_timeout = lock_timeout

    def __repr__(self) -> str:
        return f"<Home {self.folder}>"

    # -- looking -------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Return where a dataset lies if it is here."""
        return os.path.join(self.folder, check_name(name))

    def has(self, name: str) -> bool:
        """Say whether a dataset is here, a link that leads nowhere included."""
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
        """Return where a dataset lies.

        Raises
        ------
        UnknownNameError
            It is not here; the hint names similar ones.
        DatasetError
            It was registered, and its folder is gone.
        """
        path = self.path(name)
        if os.path.isdir(path):
            return path
        if os.path.lexists(path):
            raise DatasetError(
                f"the dataset {name!r} was registered, and its folder "
                f"{os.path.realpath(path)} is gone",
                hint=f"pkgdata dataset purge {name} forgets it",
                path=path,
            )
        raise unknown(
            name, self.names(), f"is not in {self.folder}", f"pkgdata dataset pull {name}"
        )

    def record(self, name: str) -> Pulled | None:
        """Return what is known of a dataset that was pulled.

        Returns
        -------
        Pulled or None
            None for one that was not, and where the folder is another than the one pulled.
        """
        path = self._beside(name, "manifest")
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
        for name in os.listdir(self.folder):
            parts = name.rsplit(".", 2)
            if name[0] == "." and len(parts) == 3 and parts[2] == "tmp":
                owner = parts[1].rpartition("-")[0]
                if owners.is_gone(owner):
                    discard(os.path.join(self.folder, name))

    @contextlib.contextmanager
    def aside(self, name: str) -> Iterator[str]:
        """Give a folder in which a dataset is made ready; it is removed if it is still there."""
        path = self._unique(name)
        os.mkdir(path)
        try:
            yield path
        finally:
            discard(path)

    def commit(self, name: str, aside: str, record: Pulled | None, replace: bool) -> bool:
        """Give a folder, or a link, its final name.

        Parameters
        ----------
        record : Pulled or None
            To be kept beside it.
        replace : bool
            Take the place of what is there.

        Returns
        -------
        bool
            False if something is there and must stay.
        """
        identity = _identity(aside)
        if not self._place(aside, self.path(name), replace):
            return False
        if record is None:
            fs.remove(self._beside(name, "manifest"))
        else:
            self._write_record(name, identity, record)
        return True

    def _place(self, aside: str, target: str, replace: bool) -> bool:
        for _ in range(_TRIES):
            if not os.path.lexists(target):
                try:
                    os.rename(aside, target)
                    return True
                except OSError:
                    if not os.path.lexists(target):
                        raise
            elif not replace:
                return False
            elif _exchange(aside, target):
                return True
            else:
                self._make_way(target)
        raise DatasetError(
            f"{target} cannot be replaced: other programs replace it all the time", path=target
        )

    def _make_way(self, target: str) -> None:
        """Remove what is under a name by renaming it first."""
        away = self._unique(os.path.basename(target))
        try:
            os.rename(target, away)
        except FileNotFoundError:
            return  # another process was faster
        discard(away)

    def _write_record(self, name: str, identity: str, record: Pulled) -> None:
        first = f"#: here={identity}"
        if record.partitions is not None:
            first += " partitions=" + ",".join(quote(one, safe="") for one in record.partitions)
        text = f"{first}\n{record.manifest.dumps()}"
        fs.write_atomic(self._beside(name, "manifest"), text.encode(), sync=False)

    def link(self, name: str, folder: str, replace: bool) -> bool:
        """Make a name for a folder that lies elsewhere.

        Returns
        -------
        bool
            False if something is there and must stay.
        """
        aside = self._unique(name)
        os.symlink(folder, aside, target_is_directory=True)
        try:
            return self.commit(name, aside, None, replace)
        finally:
            discard(aside)

    def purge(self, name: str) -> bool:
        """Remove a dataset; of a registered one the link alone.

        Returns
        -------
        bool
            False if it was not here.
        """
        path = self.path(name)
        found = os.path.lexists(path)
        if found:
            self._make_way(path)
        fs.remove(self._beside(name, "manifest"))
        return found

    @contextlib.contextmanager
    def working_on(
        self, name: str, done: Callable[[], bool], waiting: Callable[[float], None] | None = None
    ) -> Iterator[Callable[[], None]]:
        """Let this process alone pull a dataset, where locks work.

        Parameters
        ----------
        done : callable
            True ends the wait for another process, because it has finished.
        waiting : callable, optional
            Called with the seconds waited so far.

        Yields
        ------
        callable
            To be called while the work goes on, so that those who wait see it.
        """
        path = self._beside(name, "lock")
        lock = locks.KeyLock(path, self.lock_timeout)
        if lock.acquire(done, lambda: _mtime(path), waiting) == locks.ALONE:
            warn(
                f"the lock {path} was held for {self.lock_timeout:g} s without any progress; going "
                "on without it (PKGDATA_LOCK_TIMEOUT changes the time)",
                CacheWarning,
            )
        try:
            yield _Sign(path)
        finally:
            lock.remove()
            lock.release()

    def _beside(self, name: str, kind: str) -> str:
        return os.path.join(self.folder, f".{check_name(name)}.{kind}")

    def _unique(self, name: str) -> str:
        owner = owners.unique()
        return os.path.join(self.folder, f".{name}.{owner}.tmp")


class _Sign:
    """Touches a lock file, now and then."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._last = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last >= _SIGN_EVERY:
            self._last = now
            try:
                os.utime(self._path)
            except OSError:
                pass  # it would have helped those who wait, no more


def home_of(config: Config) -> Home:
    """Return the folder of the datasets on this computer."""
    return Home(config.home, float(conf.lock_timeout))


def taken(home: Home, name: str) -> DatasetError:
    """Return the error for a name that a dataset of this computer has."""
    path = home.path(name)
    return DatasetError(
        f"there is a dataset {name!r} here already: {path}",
        hint="--force (force=True) replaces it",
        path=path,
        taken=True,
    )


def check_name(name: str) -> str:
    """Make sure that a text can name a dataset.

    Returns
    -------
    str
        The name itself.

    Raises
    ------
    DatasetError
        It is no plain file name.
    """
    problem = fs.name_problem(name)
    hint = "a name such as flower"
    if problem is None and "/" in name:
        problem = "it holds a slash"
        hint = "what comes before the slash belongs to the URL of the repository"
    elif problem is None and name[0] == ".":
        problem = "it begins with a dot"
    if problem is not None:
        raise DatasetError(f"{name!r} cannot name a dataset: {problem}", hint=hint)
    return name


def unknown(name: str, known: list[str], where: str, otherwise: str) -> UnknownNameError:
    """Return the error for a dataset that is not there.

    Parameters
    ----------
    known : list of str
        Those that are.
    where : str
        Such as ``"is not in FOLDER"``.
    otherwise : str
        What to do, if no name is similar.
    """
    close = difflib.get_close_matches(name, known, 3, 0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else otherwise
    return UnknownNameError(f"the dataset {name!r} {where}", hint=hint, name=name, close=close)


def discard(path: str) -> None:
    """Remove a folder with all that is in it, or a link and not what it leads to.

    Parameters
    ----------
    path : str
        Missing is no error.
    """
    if os.path.islink(path):
        os.unlink(path)
        return
    try:
        fs.remove_tree(path)
    except PermissionError:
        # a pulled folder may be read-only, as tar keeps modes
        os.chmod(path, 0o700)
        for folder, below, _ in os.walk(path):
            for one in below:
                if not os.path.islink(os.path.join(folder, one)):
                    os.chmod(os.path.join(folder, one), 0o700)
        fs.remove_tree(path)


def _identity(path: str) -> str:
    """Return what tells a folder from one that replaces it; a rename changes nothing of it."""
    found = os.lstat(path)
    return f"{found.st_dev}-{found.st_ino}"


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


#: ``renameat2`` of Linux: paths are relative to the working directory; swap the two.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def _exchange(one: str, other: str) -> bool:
    """Swap two directory entries in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    if ctypes.get_errno() in (errno.EINVAL, errno.ENOSYS, errno.ENOENT, errno.EPERM):
        return False  # not on this file system, or the other one has gone meanwhile
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), other)
