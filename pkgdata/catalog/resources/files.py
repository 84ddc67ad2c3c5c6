"""Single files: fetched, decompressed by their name, checked."""

from __future__ import annotations

import os
from pathlib import Path

from ...base.config import conf
from ...core import extract
from ...errors import CatalogError, IntegrityError
from .. import checks, fetch
from .base import FileResource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import IO, Any

    from ...base.hashes import Digest
    from ...core.registry import Entry

#: Endings of compressed files, and what pkgdata.core.extract calls them.
COMPRESSED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".lzma": "lzma"}


class FileDownloader(FileResource):
    """A file that is fetched, and decompressed if its address ends as compressed files do.

    With a digest it is fetched as the files of packages are: verified, resumable, stored once.

    Parameters
    ----------
    filename : str
        Its name in the dataset's folder. If it ends as the address does (``.gz``), the file stays
        compressed.
    url : str
        Any address that pkgdata can read: http, s3, gs, az, github, file, …
    size : int, optional
        Bytes to fetch.
    transforms : callable, optional
        Given an open file, returns another one to read from, instead of decompression.
    checker : FileChecker, optional
        Checks the file as it lies in the dataset's folder, after decompression.
    varname : str, optional
        See `FileResource`.
    transient : bool, default False
        See `Resource`.
    digest : str or Digest, optional
        Of the bytes that are fetched, before decompression: ``alg:hex`` or a bare SHA-256.
    mirrors : sequence of str, optional
        Further addresses of the same bytes, tried in order.
    """

    #: Whether the address alone decides on decompression.
    by_address = False

    def __init__(
        self,
        filename: str,
        url: str,
        size: int | None = None,
        transforms: Callable[[IO[bytes]], IO[bytes]] | None = None,
        checker: Any = None,
        *,
        varname: str | None = None,
        transient: bool = False,
        digest: str | Digest | None = None,
        mirrors: Sequence[str] = (),
    ) -> None:
        super().__init__(filename, varname=varname, transient=transient)
        self.url = url
        self.size = size
        self.transforms = transforms
        self.checker = checker
        self.digest = digest
        self.mirrors = tuple(mirrors)

    @property
    def compression(self) -> str | None:
        """What the fetched bytes are compressed with, if that is to be undone."""
        return None if self.transforms else compression(self.url, self.filename, self.by_address)

    @property
    def _kept(self) -> bool:
        """Whether the file is just the bytes that are fetched."""
        return self.compression is None and self.transforms is None

    def _fetched_digest(self) -> Digest | None:
        if self.digest is not None:
            return checks.parse(self.digest)
        return _digest_of(self.checker) if self._kept else None

    @property
    def final_digest(self) -> Digest | None:
        return self._fetched_digest() if self._kept else _digest_of(self.checker)

    def entries(self) -> Sequence[Entry]:
        return [fetch.entry(self, [self.url, *self.mirrors], self._fetched_digest(), self.size)]

    def _download(self, destination: Path) -> None:
        (entry,) = self.entries()
        with fetch.downloaded(entry, destination.parent) as source:
            if self._kept:
                source.place(destination)
            elif self.transforms is not None:
                transform(source.path, destination, self.transforms)
            else:
                unpacked(source.path, destination, self.compression)
            if not (self._kept and entry.digest is not None):
                self._check(source, destination)

    def _check(self, source: fetch.Download, destination: Path) -> None:
        if self.checker is None:
            return
        digest = _digest_of(self.checker)
        if digest is None:
            if self.checker.check(destination) is False:
                raise CatalogError(f"{self.checker!r} refuses {self.filename!r} from {self.url}")
            return
        try:
            checks.verify(destination, digest, self.url)
        except IntegrityError as error:
            if not self._kept and source.matches(digest):
                error.hint = (
                    "these are the digits of the compressed bytes: a checker is given the "
                    "decompressed file; write digest=... instead"
                )
            raise


def _digest_of(checker: Any) -> Digest | None:
    return checker.digest if isinstance(checker, checks.HashCheck) else None


def compression(url: str, filename: str, by_address: bool = False) -> str | None:
    """Return how an address says that its bytes are compressed, if that is to be undone.

    Parameters
    ----------
    filename : str
        What the file is to be called; with the same ending it stays compressed.
    by_address : bool, default False
        Whatever it is to be called.
    """
    ending = os.path.splitext(fetch.basename(url))[1].lower()
    if ending not in COMPRESSED or (filename.lower().endswith(ending) and not by_address):
        return None
    return COMPRESSED[ending]


def unpacked(source: str, destination: Path, method: str | None) -> None:
    """Decompress a file to a place, within the setting ``extract_limit``.

    Parameters
    ----------
    method : str or None
        As `pkgdata.core.extract.decompress` names it; None copies.
    """
    if method is None:
        from ...base import fs

        fs.copy(source, str(destination))
    else:
        extract.decompress(source, str(destination), method, conf.extract_limit)


def transform(source: str, destination: Path, change: Callable[[IO[bytes]], IO[bytes]]) -> None:
    """Write what a transformation makes of a file.

    Parameters
    ----------
    change : callable
        Given an open file, returns another one to read from.
    """
    import shutil

    with open(source, "rb") as file, open(destination, "wb") as out:
        shutil.copyfileobj(change(file), out, 1 << 20)


class ConcatDownloader(FileResource):
    """Several files, or all files of a tar archive, one after the other in one file.

    Parameters
    ----------
    filename : str
        Of the file in the dataset's folder.
    *urls : str
        Addresses in order; compressed ones are decompressed. A tar archive stands for its members.
    transforms : callable, optional
        Given an open part, returns what to read instead.
    varname : str, optional
        See `FileResource`.
    transient : bool, default False
        See `Resource`.
    digests : sequence of str, optional
        Of the bytes that are fetched, in the order of the addresses.
    """

    def __init__(
        self,
        filename: str,
        *urls: str,
        transforms: Any = None,
        varname: str | None = None,
        transient: bool = False,
        digests: Sequence[str] = (),
    ) -> None:
        super().__init__(filename, varname=varname, transient=transient)
        self.urls = urls
        self.transforms = transforms
        self.digests = tuple(digests)
        if digests and len(digests) != len(urls):
            raise CatalogError(f"{filename!r}: {len(urls)} addresses, but {len(digests)} digests")

    def entries(self) -> Sequence[Entry]:
        digests: list[Digest | None] = [checks.parse(text) for text in self.digests]
        digests = digests or [None] * len(self.urls)
        return [
            fetch.entry(self, [url], digest, None, number if len(self.urls) > 1 else None)
            for number, (url, digest) in enumerate(zip(self.urls, digests, strict=True))
        ]

    def _download(self, destination: Path) -> None:
        import shutil

        with open(destination, "wb") as out:
            for entry in self.entries():
                with fetch.downloaded(entry, destination.parent) as source:
                    for part in self._parts(source.path, entry.urls[0], destination.parent):
                        with open(part, "rb") as file:
                            change = self.transforms
                            shutil.copyfileobj(change(file) if change else file, out, 1 << 20)

    def _parts(self, path: str, url: str, folder: Path) -> Sequence[str]:
        """Return the files that a fetched one stands for, decompressed below a folder."""
        import tarfile

        from ...base import fs

        if not tarfile.is_tarfile(path):
            return [_plain(path, fetch.basename(url), folder)]
        members = folder / f"members-{os.urandom(4).hex()}"
        extract.unpack("Untar", path, str(members), lambda names: names, conf.extract_limit)
        found = sorted(fs.walk_files(str(members)))
        return [_plain(part, name, folder) for name, part in found]


def _plain(path: str, name: str, folder: Path) -> str:
    method = COMPRESSED.get(os.path.splitext(name)[1].lower())
    if method is None:
        return path
    target = folder / f"plain-{os.urandom(4).hex()}"
    unpacked(path, target, method)
    return str(target)


filedownloader = FileDownloader
concatdownload = ConcatDownloader
