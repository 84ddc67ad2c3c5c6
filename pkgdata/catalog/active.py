"""What is at work: the catalog in which definitions find others, and the `Context` they are given.

`pkgdata.catalog.library` puts its catalogs here, so that definitions need not import it.
"""

from __future__ import annotations

import contextlib
import os
from contextvars import ContextVar
from pathlib import Path

from ..base.config import cache_dir
from . import fetch, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_current: ContextVar[Any] = ContextVar("pkgdata_catalog", default=None)

#: The catalog of all that is installed; `library` sets it.
default: Any = None


def current() -> Any:
    """Return the catalog at work, by default that of all that is installed."""
    found = _current.get()
    return default if found is None else found


@contextlib.contextmanager
def using(catalog: Any) -> Iterator[None]:
    """Let a catalog and its data folder be those at work inside a ``with`` block."""
    token = _current.set(catalog)
    try:
        with places.within(catalog.data):
            yield
    finally:
        _current.reset(token)


class CachedFile:
    """A file that `Context.downloadURL` fetched; a context manager."""

    def __init__(self, path: Path, keep: bool = True) -> None:
        self.path = path
        self.keep = keep

    def __enter__(self) -> CachedFile:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.keep:
            fetch.drop(str(self.path))

    def force_delete(self) -> None:
        """Let the file be fetched again next time."""
        self.keep = False


class Context:
    """Where data lie, what users set for them, and how files are fetched."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else places.root()

    @property
    def datapath(self) -> Path:
        """The folder of prepared datasets."""
        return self.path / "data"

    @property
    def cachepath(self) -> Path:
        """The folder of the user cache, where downloads lie."""
        return Path(cache_dir()[0])

    @property
    def settings(self) -> places.UserSettings:
        """Data folders, and paths that the user gave."""
        return places.UserSettings(self.path)

    @property
    def running_test(self) -> bool:
        """Whether pytest runs: the user is not asked then."""
        return "PYTEST_CURRENT_TEST" in os.environ

    def downloadURL(self, url: str, size: int | None = None) -> CachedFile:
        """Fetch a file without a digest, for resources that do it themselves.

        The path of the result is valid inside a ``with`` block.
        """
        return CachedFile(Path(fetch.file(url, size)))

    def dataset(self, name: str) -> Any:
        """Return a definition."""
        return current().find(name)

    def repositories(self) -> list[Any]:
        """Return the repositories."""
        found: list[Any] = current().repositories()
        return found

    def repository(self, name: str) -> Any:
        """Return a repository."""
        return current().repository(name)

    def datasets(self) -> list[Any]:
        """Return all definitions."""
        return [one for repository in self.repositories() for one in repository]
