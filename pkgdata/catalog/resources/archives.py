"""Archives: fetched and unpacked safely, whole, or a folder of them, or some files."""

from __future__ import annotations

import difflib
import os
import tarfile
import zipfile
from pathlib import Path

from ...base.config import conf
from ...core import extract
from ...errors import CatalogError, ExtractionError
from .. import fetch
from . import FolderResource, HashCheck, digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Any

    from ...base.hashes import Digest
    from ...core.registry import Entry


class ArchiveDownloader(FolderResource):
    """A folder that comes as a zip or tar archive, whichever its bytes say.

    If all that is unpacked lies in one folder, that folder is the resource.

    Parameters
    ----------
    varname : str
        Its name.
    url : str
        Of the archive; see `FileDownloader`.
    subpath : str, optional
        Folder in the archive; only what is below it is unpacked, and it becomes the resource.
    checker : FileChecker, optional
        Checks the archive.
    files : collection of str, optional
        Names in the archive; nothing else is unpacked.
    size : int, optional
        Bytes to fetch.
    transient : bool, default False
        See `Resource`.
    digest : str or Digest, optional
        Of the archive: ``alg:hex`` or a bare SHA-256.
    mirrors : sequence of str, optional
        Further addresses of the same bytes, tried in order.
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
        mirrors: Sequence[str] = (),
    ) -> None:
        super().__init__(varname, transient=transient)
        self.url = url
        self.subpath = subpath.strip("/") if subpath else None
        self.checker = checker
        self.files = None if files is None else frozenset(files)
        self.size = size
        self.digest = digest
        self.mirrors = tuple(mirrors)

    def entries(self) -> Sequence[Entry]:
        digest = digest_of(self.digest, self.checker)
        return [fetch.entry(self, [self.url, *self.mirrors], digest, self.size)]

    def _download(self, destination: Path) -> None:
        (entry,) = self.entries()
        with fetch.downloaded(entry, destination.parent) as source:
            if self.checker is not None and not isinstance(self.checker, HashCheck):
                self._check(source.path)
            unpacked = destination.parent / f"{destination.name}.unpacked"
            kind = self._kind or kind_of(source.path)
            extract.unpack(kind, source.path, str(unpacked), self._choose, conf.extract_limit)
        folder = unpacked / self.subpath if self.subpath else unpacked
        if folder.is_file():
            raise ExtractionError(f"{self.url}: {self.subpath!r} is a file, not a folder")
        folder.mkdir(parents=True, exist_ok=True)  # an archive may be empty
        os.rename(_only_folder(folder), destination)

    def _check(self, path: str) -> None:
        if self.checker.check(Path(path)) is False:
            raise CatalogError(f"{self.checker!r} refuses {self.url}")

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
    """Return all folders that an archive's files lie in."""
    parts = [name.split("/") for name in names]
    return {"/".join(one[:count]) for one in parts for count in range(1, len(one) + 1)}


def _only_folder(folder: Path) -> Path:
    """Return the one folder that a folder holds, if that is all; else the folder."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def kind_of(path: str) -> str:
    """Return what kind of archive a file is, by its bytes, as `pkgdata.core.extract` names it."""
    if zipfile.is_zipfile(path):
        return "Unzip"
    if tarfile.is_tarfile(path):
        return "Untar"
    raise ExtractionError(f"{path} is neither a zip nor a tar archive")


class ZipDownloader(ArchiveDownloader):
    """A folder that comes as a zip archive; parameters as of `ArchiveDownloader`."""

    _kind = "Unzip"


class TarDownloader(ArchiveDownloader):
    """A folder that comes as a tar archive, compressed or not; see `ArchiveDownloader`."""

    _kind = "Untar"


zipdownloader = ZipDownloader
tardownloader = TarDownloader
