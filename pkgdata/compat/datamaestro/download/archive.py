"""Archives."""

from __future__ import annotations

import re
from pathlib import Path

from ....catalog import active
from ....catalog.resources import folders
from . import folder_of

__all__ = ["ArchiveDownloader", "TarDownloader", "ZipDownloader", "tardownloader", "zipdownloader"]


class ArchiveDownloader(folders.ArchiveDownloader):
    """A folder that comes as an archive; see `pkgdata.catalog.ArchiveDownloader`."""

    @property
    def path(self) -> Path:
        name = re.sub(r"\.zip$|\.tar(\.gz)?$", "", active.basename(self.url))
        return folder_of(self, self.owner.datapath / self.name, name)


class ZipDownloader(ArchiveDownloader, folders.ZipDownloader):
    """A folder that comes as a zip archive."""


class TarDownloader(ArchiveDownloader, folders.TarDownloader):
    """A folder that comes as a tar archive, compressed or not."""


zipdownloader = ZipDownloader
tardownloader = TarDownloader
