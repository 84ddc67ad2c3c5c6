"""Resources that a function makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ....catalog.resources import folders
from . import folder_of

__all__ = ["Downloader", "custom_download"]


class Downloader(Protocol):
    """A function that fills a folder."""

    def __call__(self, context: Any, root: Path, *, force: bool = False) -> Any: ...


class custom_download(folders.custom_download):
    """A folder that a function fills; see `pkgdata.catalog.custom_download`."""

    @property
    def path(self) -> Path:
        return folder_of(self, self.owner.datapath / self.name, self.name)
