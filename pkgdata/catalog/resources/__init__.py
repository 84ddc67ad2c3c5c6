"""The kinds of resources; names are loaded when they are first used."""

from __future__ import annotations

#: Where each name lives.
_HOMES = {
    "FileResource": "base",
    "FolderResource": "base",
    "Resource": "base",
    "ValueResource": "base",
    "ConcatDownloader": "single",
    "FileDownloader": "single",
    "concatdownload": "single",
    "filedownloader": "single",
    "ArchiveDownloader": "archive",
    "TarDownloader": "archive",
    "ZipDownloader": "archive",
    "tardownloader": "archive",
    "zipdownloader": "archive",
    "FilesCopy": "multiple",
    "FilesDownloader": "multiple",
    "linkfile": "elsewhere",
    "linkfolder": "elsewhere",
    "links": "elsewhere",
    "reference": "elsewhere",
    "manual": "byhand",
    "custom_download": "custom",
    "processed": "custom",
    "wayback_documents": "wayback",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    import importlib

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
