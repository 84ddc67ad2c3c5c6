"""What the resources and functions of definitions are given: places, settings, and the engine."""

from __future__ import annotations

import os
from pathlib import Path

from . import fetch, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Fetched:
    """A file that `Context.downloadURL` brought; a context manager.

    Parameters
    ----------
    keep : bool, default True
        The file is not its user's to move.
    """

    def __init__(self, path: Path, keep: bool = True) -> None:
        self.path = path
        self.keep = keep

    def __enter__(self) -> Fetched:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.keep:
            fetch.drop(str(self.path))

    def force_delete(self) -> None:
        """Let the file be fetched anew next time."""
        self.keep = False


class Context:
    """Where data lie, what users set for them, and how files come.

    Parameters
    ----------
    path : path-like, optional
        The folder ``<data>`` (`pkgdata.catalog.places`).
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else places.root()

    @property
    def datapath(self) -> Path:
        """The folder of prepared datasets."""
        return self.path / "data"

    @property
    def cachepath(self) -> Path:
        """The folder of the user cache, where downloads lie."""
        from ..base.config import cache_dir

        return Path(cache_dir()[0])

    @property
    def settings(self) -> places.Settings:
        """Data folders, and paths that the user gave."""
        return places.Settings(self.path)

    @property
    def running_test(self) -> bool:
        """Whether pytest runs: nobody is asked then."""
        return "PYTEST_CURRENT_TEST" in os.environ

    def downloadURL(self, url: str, size: int | None = None) -> Fetched:
        """Fetch a file that no digest pins; for resources that do it themselves.

        Parameters
        ----------
        size : int, optional
            Bytes of it.

        Returns
        -------
        Fetched
            Its ``path`` is good inside a ``with`` block.
        """
        return Fetched(Path(fetch.file(url, size)))

    def dataset(self, name: str) -> Any:
        """Return a definition."""
        from .library import current

        return current().find(name)

    def repositories(self) -> list[Any]:
        """Return the repositories."""
        from .library import current

        return current().repositories()

    def repository(self, name: str) -> Any:
        """Return a repository."""
        from .library import current

        return current().repository(name)

    def datasets(self) -> list[Any]:
        """Return all definitions."""
        return [one for repository in self.repositories() for one in repository]
