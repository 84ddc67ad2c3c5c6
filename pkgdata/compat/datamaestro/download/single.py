"""Single files."""

from __future__ import annotations

from ....catalog.resources import files
from ....catalog.resources.files import ConcatDownloader, concatdownload

__all__ = [
    "ConcatDownloader",
    "FileDownloader",
    "SingleDownload",
    "concatdownload",
    "filedownloader",
]


class FileDownloader(files.FileDownloader):
    """A file that is fetched; parameters as of `pkgdata.catalog.FileDownloader`.

    It is decompressed if its address ends in ``.gz`` and the like, whatever it is to be called.
    """

    by_address = True


filedownloader = SingleDownload = FileDownloader
