"""What the operations share: where things are, and how progress is told."""

from __future__ import annotations

import os

from ..base import fs, urls
from ..base.config import cache_dir, conf, is_offline
from ..base.progress import DONE, Event, silent, view
from ..cache.objects import Cache
from ..errors import DatasetError, OfflineError
from .config import FORMS
from .home import Home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.progress import Callback
    from ..stores import Store
    from .config import Config

    Progress = bool | Callback | None


def home_of(config: Config) -> Home:
    """Return the folder of the datasets on this computer."""
    return Home(config.home, float(conf.lock_timeout))


def store_of(config: Config) -> Store:
    """Return the repository, unless it may not be asked."""
    store = config.store()
    if is_offline() and urls.scheme(store.url) not in ("file", "mem"):
        raise OfflineError(
            f"{store.url}: pkgdata is offline",
            hint="unset PKGDATA_OFFLINE, or use what 'pkgdata dataset ls' lists",
            name=store.url,
        )
    return store


def user_cache() -> Cache:
    """Return the cache that the files of datasets are in."""
    path, origin = cache_dir()
    return Cache(path, float(conf.lock_timeout), origin)


def form_of(text: str) -> str:
    """Return the word for a form, if it is one."""
    if text not in FORMS:
        raise DatasetError(f"unknown form {text!r} of a dataset: expected {' or '.join(FORMS)}")
    return text


def taken(home: Home, name: str) -> DatasetError:
    """Return the error for a name that a dataset of this computer has."""
    path = home.path(name)
    return DatasetError(
        f"there is a dataset {name!r} here already: {path}",
        hint="--force (force=True) replaces it",
        path=path,
        taken=True,
    )


def measure(folder: str) -> tuple[int, int]:
    """Count the files below a folder, and their bytes."""
    count = size = 0
    for _, path in fs.walk_files(folder):
        count += 1
        try:
            size += os.path.getsize(path)
        except OSError:
            pass  # a link that leads nowhere; whoever reads it says so
    return count, size


class Show:
    """Tells a progress callback of each file; draws as the settings say if there is none."""

    def __init__(
        self,
        progress: Progress,
        files: int = 0,
        total: int | None = None,
        folder: str | None = None,
    ) -> None:
        if callable(progress):
            self._tell: Callback = progress
            return
        setting = conf.progress if progress is None else "auto" if progress else False
        if folder is not None and view(setting, 1, 1) is not silent:
            files, total = measure(folder)
        self._tell = view(setting, files, total)

    def __call__(self, name: str, size: int) -> None:
        if self._tell is not silent:
            self._tell(Event(name, DONE, size, size))

    def event(self, event: Event) -> None:
        """Tell of a large file that is on its way, or that another process is waited for."""
        self._tell(event)
