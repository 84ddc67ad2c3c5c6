"""Several files in one folder."""

from __future__ import annotations

from pathlib import Path

from ...base import fs
from .. import checks, fetch
from .base import FolderResource, Resource
from .single import compression, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ...core.registry import Entry


class FilesDownloader(FolderResource):
    """A folder of files that are fetched several at once, each by its own address.

    Parameters
    ----------
    varname : str
        Its name.
    files : mapping of str to str, (str, str) or FileDownloader
        By the file's name in the folder: its address, or address and digest of what is fetched.
        Compressed files are decompressed unless their name ends as the address does.
    transient : bool, default False
        See `Resource`.
    """

    def __init__(self, varname: str, files: Mapping[str, Any], *, transient: bool = False) -> None:
        super().__init__(varname, transient=transient)
        self.files = {fs.safe_name(name): _address(source) for name, source in files.items()}

    def entries(self) -> Sequence[Entry]:
        found = []
        for number, (urls, text) in enumerate(self.files.values()):
            digest = None if text is None else checks.parse(text)
            found.append(fetch.entry(self, urls, digest, None, number))
        return found

    def _download(self, destination: Path) -> None:
        destination.mkdir(parents=True)
        for name, one in zip(self.files, self.entries(), strict=True):
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with fetch.downloaded(one, destination.parent) as source:
                method = compression(one.urls[0], name)
                if method is None:
                    source.place(target)
                else:
                    unpacked(source.path, target, method)


def _address(source: Any) -> tuple[list[str], Any]:
    """Return addresses and digest, in whatever way they are written."""
    if isinstance(source, str):
        return [source], None
    if hasattr(source, "url"):
        return [source.url, *getattr(source, "mirrors", ())], getattr(source, "digest", None)
    url, digest = source
    return [url], digest


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
        from ...errors import CatalogError

        destination.mkdir(parents=True)
        for name, there in self.files.items():
            source = self.source.path / there
            if not source.is_file():
                raise CatalogError(
                    f"{self.owner.id}: {self.source.name!r} has no file {there!r}",
                    file=self.owner.file,
                    line=self.owner.line,
                )
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.link_or_copy(str(source), str(target))
