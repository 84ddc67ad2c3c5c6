"""Several files, several datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....catalog.resources.elsewhere import links
from ....catalog.resources.folders import FilesDownloader

__all__ = ["Datasets", "FilesDownloader", "List"]


class List(FilesDownloader):
    """A folder of files, each by its own address; names that begin with ``__`` are left out."""

    def __init__(self, varname: str, files: Mapping[str, Any], *, transient: bool = False) -> None:
        wanted = {name: one for name, one in files.items() if not name.startswith("__")}
        super().__init__(varname, wanted, transient=transient)


class Datasets(links):
    """Links to other datasets; names that begin with ``__`` are left out."""

    def __init__(self, varname: str, datasets: Mapping[str, Any]) -> None:
        wanted = {name: one for name, one in datasets.items() if not name.startswith("__")}
        super().__init__(varname, **wanted)
