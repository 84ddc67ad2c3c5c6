"""Resources that are made here, of others or by a function of the definition's author."""

from __future__ import annotations

import inspect
from pathlib import Path

from ...base import fs
from . import FileResource, FolderResource, Resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class custom_download(FolderResource):
    """A folder that a function fills.

    Parameters
    ----------
    varname : str
        Its name.
    downloader : callable
        Called as ``downloader(context, folder, force=False)`` with an empty folder, which is
        renamed when the function returns.
    transient : bool, default False
        See `Resource`.
    """

    def __init__(
        self, varname: str, downloader: Callable[..., Any], *, transient: bool = False
    ) -> None:
        super().__init__(varname, transient=transient)
        self.downloader = downloader

    def _download(self, destination: Path) -> None:
        destination.mkdir(parents=True)
        takes = inspect.signature(self.downloader).parameters
        any_name = any(one.kind is one.VAR_KEYWORD for one in takes.values())
        options = {"force": False} if "force" in takes or any_name else {}
        self.downloader(self.context, destination, **options)


class processed(FileResource):
    """A file that a function makes of other resources.

    Parameters
    ----------
    filename : str
        See `FileResource`.
    function : callable
        Called as ``function(destination, *paths)``; writes the file.
    *sources : Resource
        Whose paths it is given; these may be transient.
    varname : str, optional
        See `FileResource`.
    transient : bool, default False
        See `Resource`.
    """

    def __init__(
        self,
        filename: str,
        function: Callable[..., Any],
        *sources: Resource,
        varname: str | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(filename, varname=varname, transient=transient)
        self.function = function
        self._dependencies = list(sources)

    def _download(self, destination: Path) -> None:
        self.function(destination, *[source.path for source in self.dependencies])


class FilesCopy(FolderResource):
    """Some files of another resource, which may then be transient.

    Parameters
    ----------
    source : Resource
        A folder.
    files : mapping of str to str
        By the file's name here: its name there.
    varname : str, optional
        See `Resource`.
    """

    def __init__(
        self, source: Resource, files: Mapping[str, str], *, varname: str | None = None
    ) -> None:
        super().__init__(varname)
        self.source = source
        self.files = {fs.safe_name(name): there for name, there in files.items()}
        self._dependencies = [source]

    def _download(self, destination: Path) -> None:
        destination.mkdir(parents=True)
        for name, there in self.files.items():
            source = self.source.path / there
            if not source.is_file():
                raise self.owner.wrong(f"{self.source.name!r} has no file {there!r}")
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.link_or_copy(str(source), str(target))
