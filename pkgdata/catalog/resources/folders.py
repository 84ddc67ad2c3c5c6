"""Resources that are folders: unpacked archives, files fetched one by one, copied, or made."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...base import fs
from ...base.hashes import Digest
from ...base.report import each_name
from ...core import extract
from ...core.registry import Entry
from ...errors import CatalogError, ExtractionError
from .. import active
from . import FolderResource, HashCheck, Resource, digest_of
from .files import compression, unpacked


class ArchiveDownloader(FolderResource):
    """A folder that comes as a zip or tar archive, whichever its bytes say.

    If all that is unpacked is in one folder, that folder is the resource.

    Parameters
    ----------
    varname : str
        Its name.
    url : str
        Of the archive; see `FileDownloader`.
    subpath : str, optional
        Folder in the archive that becomes the resource; only what is below it is unpacked.
    checker : FileChecker, optional
        Checks the archive.
    files : collection of str, optional
        Names in the archive; nothing else is unpacked.
    size, transient, digest, mirrors
        See `FileDownloader`; they are of the archive.
    """

    _kind: str | None = None

    def __init__(
        self,
        varname: str,
        url: str,
        subpath: str | None = None,
        checker: Any = None,
        files: Collection[str] | None = None,
        *,
        size: int | None = None,
        transient: bool = False,
        digest: str | Digest | None = None,
        mirrors: str | Sequence[str] = (),
    ) -> None:
        super().__init__(varname, transient=transient)
        self.url = url
        self.subpath = subpath.strip("/") if subpath else None
        self.checker = checker
        self.files = None if files is None else frozenset(files)
        self.size = size
        self.digest = digest
        self.mirrors = tuple(each_name(mirrors))

    def entries(self) -> Sequence[Entry]:
        digest = digest_of(self.digest, self.checker)
        return [active.entry(self, [self.url, *self.mirrors], digest, self.size)]

    def _download(self, destination: Path) -> None:
        (entry,) = self.entries()
        with active.downloaded(entry, destination.parent) as source:
            custom = self.checker is not None and not isinstance(self.checker, HashCheck)
            if custom and self.checker.check(Path(source.path)) is False:
                raise CatalogError(f"{self.checker!r} rejects {self.url}")
            aside = destination.parent / f"{destination.name}.unpacked"
            kind = self._kind or extract.kind_of(source.path)
            if kind is None:
                raise ExtractionError(f"{self.url} is neither a zip nor a tar archive")
            extract.unpack(kind, source.path, str(aside), self._choose, extract.Growth.of())
        folder = aside / self.subpath if self.subpath else aside
        if folder.is_file():
            raise ExtractionError(f"{self.url}: {self.subpath!r} is a file, not a folder")
        folder.mkdir(parents=True, exist_ok=True)  # an archive may be empty
        os.rename(_only_folder(folder), destination)

    def _choose(self, names: list[str]) -> Collection[str]:
        clean = {name: _clean(name) for name in names}
        chosen = list(names)
        if self.subpath:
            below = f"{self.subpath}/"
            chosen = [n for n in chosen if f"{clean[n]}/".startswith(below)]
            if not chosen:
                raise self._missing(self.subpath, _folders(clean.values()))
        if self.files is not None:
            for file in sorted(self.files - set(clean.values()) - set(names)):
                raise self._missing(file, clean.values())
            chosen = [n for n in chosen if n in self.files or clean[n] in self.files]
        return set(chosen)

    def _missing(self, wanted: str, found: Iterable[str]) -> ExtractionError:
        close = difflib.get_close_matches(wanted, list(found), 3)
        return ExtractionError(
            f"{self.url}: the archive has no {wanted!r}",
            hint=f"did you mean {' or '.join(map(repr, close))}?" if close else None,
        )


def _clean(name: str) -> str:
    return os.path.normpath(name).replace(os.sep, "/")


def _folders(names: Iterable[str]) -> set[str]:
    """Return all folders of an archive's files."""
    parts = [name.split("/") for name in names]
    return {"/".join(one[:count]) for one in parts for count in range(1, len(one) + 1)}


def _only_folder(folder: Path) -> Path:
    """Return the one folder that a folder holds, if that is all; else the folder."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


class ZipDownloader(ArchiveDownloader):
    """A folder that comes as a zip archive; parameters as of `ArchiveDownloader`."""

    _kind = "Unzip"


class TarDownloader(ArchiveDownloader):
    """A folder that comes as a tar archive, compressed or not; see `ArchiveDownloader`."""

    _kind = "Untar"


class FilesDownloader(FolderResource):
    """A folder of files that are fetched several at once, each from its own address.

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
        return [
            active.entry(self, urls, digest_of(text), None, number)
            for number, (urls, text) in enumerate(self.files.values())
        ]

    def _download(self, destination: Path) -> None:
        destination.mkdir(parents=True)
        for name, one in zip(self.files, self.entries(), strict=True):
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with active.downloaded(one, destination.parent) as source:
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


class custom_download(FolderResource):
    """A folder that a function fills.

    Parameters
    ----------
    varname : str
        Its name.
    downloader : callable
        Called as ``downloader(context, folder, force=False)`` with an empty folder.
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


zipdownloader = ZipDownloader
tardownloader = TarDownloader
