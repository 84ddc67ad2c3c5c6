"""Archives."""

from __future__ import annotations

import re
from pathlib import Path

from ....catalog import fetch
from ....catalog.resources import archives
from . import _layout

__all__ = [
    "ArchiveDownloader",
    "TarDownloader",
    "ZipDownloader",
    "tardownloader",
    "zipdownloader",
]


class ArchiveDownloader(archives.ArchiveDownloader):
    """A folder that comes as an archive; see `pkgdata.catalog.ArchiveDownloader`."""

    @property
    def path(self) -> Path:
        name = re.sub(r"\.zip$|\.tar(\.gz)?$", "", fetch.basename(self.url))
        return _layout.found(self, self.owner.datapath / self.name, name)


class ZipDownloader(ArchiveDownloader, archives.ZipDownloader):
    """A folder that comes as a zip archive."""


class TarDownloader(ArchiveDownloader, archives.TarDownloader):
    """A folder that comes as a tar archive, compressed or not."""


zipdownloader = ZipDownloader
tardownloader = TarDownloader
