"""etcetera's form of a dataset: ``NAME.tgz``, so that each reads what the other pushed.

As etcetera 0.0.12 writes it: gzip level 9; the members begin at the dataset's root, in the order of
the directory, without a leading ``./``; empty folders and modes are kept.

It is unpacked and hashed while it is downloaded, in one pass. A member that would leave the folder,
a link that does, a device, and an archive that grows past a limit are refused. Links are not made:
what they lead to is copied, when all the rest is there.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..base import fs, hashes
from ..base.config import conf
from ..base.hashes import Digest
from ..base.progress import ended, silent
from ..core.registry import Entry, Registry
from ..errors import DatasetError, ExtractionError, StoreError, UnsafeNameError
from ..stores import codecs
from . import repository
from .pulling import BlockFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from ..base.progress import Callback
    from ..stores import Store

#: However small the archive, it may grow to this many bytes.
_ALWAYS_ALLOWED = 1_000_000_000

_BLOCK = 1 << 18


def check_links(root: str) -> None:
    """Refuse links that lead out of the dataset or nowhere: an archive of them cannot be unpacked.

    ``root`` is the dataset's folder, itself no link.
    """
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                continue
            text = os.readlink(path)
            inside = os.path.normpath(os.path.join(folder, text)).startswith(root + os.sep)
            if os.path.isabs(text) or not inside or not os.path.exists(path):
                raise DatasetError(
                    f"{path} is a link to {text}, which is not in the dataset",
                    hint="put the file there, or push in pkgdata's own form, which follows links",
                    path=path,
                )


def push(store: Store, name: str, folder: str, replace: bool, public: bool) -> int:
    """Write a dataset into a repository; return the bytes of the archive."""
    root, target = os.path.realpath(folder), repository.tgz_name(name)
    with tempfile.TemporaryDirectory(prefix="pkgdata-") as work:
        path = Path(work, repository.tgz_name("temp"))
        with tarfile.open(path, "w:gz") as archive:
            for member in os.listdir(root):
                archive.add(os.path.join(root, member), member)
        store.put(target, path, if_absent=not replace, public=public)
        return path.stat().st_size


def pull(store: Store, name: str, folder: str, show: Callback = silent) -> tuple[Registry, int]:
    """Unpack a dataset into an empty folder; return its registry and the bytes of the archive."""
    stored = repository.tgz_name(name)
    address = store.address(stored)
    size = store.stat(stored).size or 0
    limit = max(_ALWAYS_ALLOWED, int(conf.extract_limit) * size)
    unpacking = _Unpacking(folder, address, limit, show)
    with (
        contextlib.closing(store.blocks(stored)) as packed,  # type: ignore[type-var]  # a generator
        contextlib.closing(codecs.decode_blocks(packed, "gzip", address)) as blocks,
    ):
        unpacking.run(BlockFile(blocks))
    return unpacking.registry(), size


@dataclass
class _Unpacking:
    """An archive that is unpacked while it is read."""

    _folder: str
    _address: str
    _limit: int
    _show: Callback

    def __post_init__(self) -> None:
        self._left = self._limit
        self._found: dict[str, tuple[Digest, int]] = {}
        self._links: dict[str, str] = {}
        self._modes: dict[str, int] = {}

    def registry(self) -> Registry:
        """Return what was unpacked, sorted by name."""
        return Registry(Entry(name, *self._found[name]) for name in sorted(self._found))

    def run(self, source: BlockFile) -> None:
        """Unpack all of it, then what links lead to."""
        try:
            # the tar ends before its gzip, whose checksum comes last
            with tarfile.open(fileobj=source, mode="r|", bufsize=_BLOCK) as archive:  # type: ignore[call-overload]
                for info in archive:
                    self._member(archive, info)
            while source.read(_BLOCK):
                pass
        except tarfile.TarError as error:
            raise self._refused(f"cannot be read as a tar archive: {error}") from error
        except StoreError as error:
            if not isinstance(error.__cause__, (zlib.error, EOFError)):
                raise
            raise self._refused(f"cannot be read: {error.message}") from error
        except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
            problem = f"has a member that is a file and a folder: {error.filename}"
            raise self._refused(problem) from error
        self._resolve()
        for name in sorted(self._modes, reverse=True):  # a folder after what is in it
            os.chmod(self._path(name), self._modes[name])

    def _refused(self, problem: str) -> ExtractionError:
        return ExtractionError(f"{self._address} {problem}")

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, *name.split("/"))

    def _name(self, text: str) -> str:
        clean = text.rstrip("/")
        while clean.startswith("./"):
            clean = clean[2:]
        try:
            return fs.safe_name(clean)
        except UnsafeNameError as error:
            raise self._refused(f"has the member {text!r}: {error.message}") from None

    def _member(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        if info.name in (".", "./", ""):
            return
        name = self._name(info.name)
        if info.isdir():
            fs.make_dirs(self._path(name))
            self._modes[name] = info.mode & 0o777 | 0o700
        elif info.issym():
            self._links[name] = posixpath.join(posixpath.dirname(name), info.linkname)
        elif info.islnk():
            self._links[name] = info.linkname
        elif info.isreg():
            source = archive.extractfile(info)
            assert source is not None
            self._links.pop(name, None)
            with source:
                self._file(name, source)
            self._modes[name] = info.mode & 0o777 | 0o400
            try:
                os.utime(self._path(name), (info.mtime, info.mtime))
            except (OSError, OverflowError, ValueError):
                pass  # a time that this system cannot have
        else:
            raise self._refused(f"has the member {info.name!r}, which is a device or a pipe")

    def _file(self, name: str, source: IO[bytes]) -> None:
        """Write and hash a file; of several with one name the last one counts, as in tar."""
        target = self._path(name)
        fs.make_dirs(os.path.dirname(target))
        hasher, size = hashes.new("sha256"), 0
        with open(target, "wb", buffering=0) as file:
            while block := source.read(_BLOCK):
                self._left -= len(block)
                if self._left < 0:
                    raise ExtractionError(
                        f"{self._address} grows past {self._limit} bytes; refused",
                        hint="if that is right, raise the setting extract_limit",
                    )
                hasher.update(block)
                file.write(block)
                size += len(block)
        self._found[name] = Digest("sha256", hasher.hexdigest()), size
        self._show(ended(name, size))

    def _resolve(self) -> None:
        """Copy what links lead to, those first that lead to no other link."""
        while self._links:
            ready = [name for name in self._links if self._leads(name)]
            if not ready:
                first = min(self._links)
                raise self._refused(f"has the link {first!r}, which leads nowhere or in a circle")
            for name in ready:
                self._copy(name, self._target(name))
                del self._links[name]

    def _target(self, name: str) -> str:
        text = self._links[name]
        target = posixpath.normpath(text)
        if target.startswith(("/", "../")) or target in ("..", "."):
            raise self._refused(f"has the link {name!r}, which leaves the dataset")
        return target

    def _leads(self, name: str) -> bool:
        """Return True if what a link leads to is there, and complete."""
        target = self._target(name)
        below = target + "/"
        return os.path.exists(self._path(target)) and not any(
            one == target or one.startswith(below) for one in self._links
        )

    def _copy(self, name: str, target: str) -> None:
        source = self._path(target)
        if os.path.lexists(self._path(name)):
            raise self._refused(f"has the member {name!r} twice, once as a link")
        if not os.path.isdir(source):
            self._copy_file(name, source)
            return
        fs.make_dirs(self._path(name))
        for below, path in list(fs.walk_files(source)):
            self._copy_file(f"{name}/{below}", path)

    def _copy_file(self, name: str, path: str) -> None:
        mode = self._modes.get(os.path.relpath(path, self._folder).replace(os.sep, "/"))
        with open(path, "rb") as file:
            self._file(name, file)
        if mode is not None:
            self._modes[name] = mode
