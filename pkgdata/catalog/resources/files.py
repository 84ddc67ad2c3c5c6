"""Resources that are one file: fetched, joined, from the Wayback Machine, or made of others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from ...base import fs
from ...base.hashes import Digest
from ...base.report import each_name
from ...core import extract
from ...core.registry import Entry
from ...errors import AllMirrorsFailedError, CatalogError, IntegrityError
from ...stores import codecs
from .. import active
from . import FileResource, Resource, digest_of, verify

Transform = Callable[[IO[bytes]], IO[bytes]]

#: Where snapshots of the Wayback Machine are; the setting ``rewrite`` may send it elsewhere.
ARCHIVE = "https://web.archive.org/web/"


class FileDownloader(FileResource):
    """A file that is fetched, and decompressed if its address ends as compressed files do.

    With a digest it is fetched as the files of packages are: verified, resumed, stored once.

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
        Called with an open file, returns another one to read from, instead of decompression.
    checker : FileChecker, optional
        Checks the file in the dataset's folder, after decompression.
    varname, transient
        See `FileResource`.
    digest : str or Digest, optional
        Of the bytes that are fetched, before decompression: ``alg:hex`` or a bare SHA-256.
    mirrors : str or sequence of str, optional
        More addresses of the same bytes, tried in order.
    """

    #: Whether the address alone decides on decompression.
    by_address = False

    def __init__(
        self,
        filename: str,
        url: str,
        size: int | None = None,
        transforms: Transform | None = None,
        checker: Any = None,
        *,
        varname: str | None = None,
        transient: bool = False,
        digest: str | Digest | None = None,
        mirrors: str | Sequence[str] = (),
    ) -> None:
        super().__init__(filename, varname=varname, transient=transient)
        self.url = url
        self.size = size
        self.transforms = transforms
        self.checker = checker
        self.digest = digest
        self.mirrors = tuple(each_name(mirrors))

    @property
    def compression(self) -> str | None:
        """What the fetched bytes are compressed with, if they are to be decompressed."""
        return None if self.transforms else compression(self.url, self.filename, self.by_address)

    @property
    def _kept(self) -> bool:
        """Whether the file is just the bytes that are fetched."""
        return self.compression is None and self.transforms is None

    def _fetched_digest(self) -> Digest | None:
        return digest_of(self.digest, self.checker if self._kept else None)

    @property
    def final_digest(self) -> Digest | None:
        return self._fetched_digest() if self._kept else digest_of(None, self.checker)

    def entries(self) -> Sequence[Entry]:
        return [active.entry(self, [self.url, *self.mirrors], self._fetched_digest(), self.size)]

    def _download(self, destination: Path) -> None:
        (entry,) = self.entries()
        with active.downloaded(entry, destination.parent) as source:
            if self._kept:
                source.place(destination)
            elif self.transforms is not None:
                with open(destination, "wb") as out:
                    _append(source.path, out, self.transforms)
            else:
                unpacked(source.path, destination, self.compression)
            if not (self._kept and entry.digest is not None):
                self._check(source, destination)

    def _check(self, source: active.Download, destination: Path) -> None:
        if self.checker is None:
            return
        digest = digest_of(None, self.checker)
        if digest is None:
            if self.checker.check(destination) is False:
                raise CatalogError(f"{self.checker!r} rejects {self.filename!r} from {self.url}")
            return
        try:
            verify(destination, digest, self.url)
        except IntegrityError as error:
            if not self._kept and source.matches(digest):
                error.hint = (
                    "these are the digits of the compressed bytes: a checker gets the "
                    "decompressed file; write digest=... instead"
                )
            raise


def compression(url: str, filename: str, by_address: bool = False) -> str | None:
    """Return how the bytes of an address are compressed, if they are to be decompressed.

    A file whose name has the same ending stays compressed, unless only the address decides.
    """
    ending = os.path.splitext(active.basename(url))[1].lower()
    if ending not in codecs.ENDINGS or (filename.lower().endswith(ending) and not by_address):
        return None
    return codecs.ENDINGS[ending]


def unpacked(source: str, destination: Path, method: str | None) -> None:
    """Decompress a file, within the limits of archives; without a method, copy it."""
    if method is None:
        fs.copy(source, str(destination))
    else:
        extract.decompress(source, str(destination), method, extract.Growth.of())


def _append(source: str, out: IO[bytes], change: Transform | None) -> None:
    with open(source, "rb") as file:
        shutil.copyfileobj(change(file) if change else file, out, 1 << 20)


class ConcatDownloader(FileResource):
    """Several files, or all files of a tar archive, one after the other in one file.

    Parameters
    ----------
    filename : str
        Its name in the dataset's folder.
    *urls : str
        Addresses in order; compressed ones are decompressed. A tar archive stands for its members.
    transforms : callable, optional
        Called with an open part, returns what to read instead.
    varname, transient
        See `FileResource`.
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
        self.digests = tuple(each_name(digests))
        if digests and len(digests) != len(urls):
            raise CatalogError(f"{filename!r}: {len(urls)} addresses, but {len(digests)} digests")

    def entries(self) -> Sequence[Entry]:
        digests = [digest_of(text) for text in self.digests] or [None] * len(self.urls)
        return [
            active.entry(self, [url], digest, None, number if len(self.urls) > 1 else None)
            for number, (url, digest) in enumerate(zip(self.urls, digests, strict=True))
        ]

    def _download(self, destination: Path) -> None:
        with open(destination, "wb") as out:
            for entry in self.entries():
                with active.downloaded(entry, destination.parent) as source:
                    for part in self._parts(source.path, entry.urls[0], destination.parent):
                        _append(part, out, self.transforms)

    def _parts(self, path: str, url: str, folder: Path) -> Sequence[str]:
        """Return the files that a fetched one stands for, decompressed below a folder."""
        if extract.kind_of(path) != "Untar":
            return [_plain(path, active.basename(url), folder)]
        members = folder / f"members-{os.urandom(4).hex()}"
        extract.unpack("Untar", path, str(members), lambda names: names, extract.Growth.of())
        found = sorted(fs.walk_files(str(members)))
        return [_plain(part, name, folder) for name, part in found]


def _plain(path: str, name: str, folder: Path) -> str:
    method = codecs.ENDINGS.get(os.path.splitext(name)[1].lower())
    if method is None:
        return path
    target = folder / f"plain-{os.urandom(4).hex()}"
    unpacked(path, target, method)
    return str(target)


class wayback_documents(FileResource):
    """One file as it was at a time, or many pages as a file of JSON lines.

    Parameters
    ----------
    varname : str
        Its name. Where ``url`` is a function, the time comes first instead, as datamaestro has it.
    url : str or callable
        Address; or a function that returns addresses: each becomes a line with ``url``,
        ``contents`` and, if there is no snapshot, ``available: false``.
    name : str, optional
        Its name, where the time came first.
    timestamp : str, optional
        ``YYYYMMDD`` and more digits.
    filename : str, optional
        In the dataset's folder; by default the address's, or ``<name>.jsonl``.
    digest : str or Digest, optional
        Of the one file.
    transient : bool, default False
        See `Resource`.
    urls_fn : callable, optional
        datamaestro's name for ``url``, if it is a function.
    """

    def __init__(
        self,
        varname: str = "",
        url: str | Callable[[], Iterable[str]] = "",
        name: str | None = None,
        *,
        timestamp: str | None = None,
        filename: str | None = None,
        digest: Any = None,
        transient: bool = False,
        urls_fn: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        url = urls_fn or url
        if callable(url):
            timestamp, varname = timestamp or varname, name or "documents"
            filename = filename or f"{varname}.jsonl"
        else:
            filename = filename or active.basename(url) or varname
        super().__init__(filename, varname=varname or None, transient=transient)
        self._named = not callable(url) or name is not None
        self.url = url
        self.timestamp = timestamp or ""
        self.digest = digest

    def _snapshot(self, url: str, digest: Digest | None = None, number: int | None = None) -> Entry:
        # "id_" asks for the bytes without the archive's own frame; the nearest snapshot is answered
        return active.entry(self, [f"{ARCHIVE}{self.timestamp}id_/{url}"], digest, None, number)

    def entries(self) -> Sequence[Entry]:
        return () if callable(self.url) else [self._snapshot(self.url, digest_of(self.digest))]

    def _download(self, destination: Path) -> None:
        if not callable(self.url):
            (entry,) = self.entries()
            with active.downloaded(entry, destination.parent) as source:
                source.place(destination)
            return
        with open(destination, "w", encoding="utf-8") as out:
            for number, url in enumerate(dict.fromkeys(self.url())):
                out.write(json.dumps(self._page(number, url, destination.parent)) + "\n")

    def _page(self, number: int, url: str, folder: Path) -> dict[str, Any]:
        entry = self._snapshot(url, None, number)
        try:
            with active.downloaded(entry, folder) as source:
                text = Path(source.path).read_text("utf-8", errors="replace")
        except AllMirrorsFailedError as error:
            return {"url": url, "available": False, "reason": error.message}
        return {"url": url, "id": entry.urls[0], "contents": text}


class processed(FileResource):
    """A file that a function makes of other resources.

    Parameters
    ----------
    filename : str
        See `FileResource`.
    function : callable
        Called as ``function(destination, *paths)``; writes the file.
    *sources : Resource
        Whose paths it gets; these may be transient.
    varname, transient
        See `FileResource`.
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


filedownloader = FileDownloader
concatdownload = ConcatDownloader
