"""Whatever fsspec has a protocol for (``ftp``, ``smb``, ``hdfs``, ``dropbox``, …).

fsspec's file systems promise little: nothing is atomic, and errors are of all kinds. Objects are
written aside and renamed, so that no part of one is ever seen under its name.
"""

from __future__ import annotations

import contextlib

from ..base.urls import scheme
from ..errors import (
    AccessDeniedError,
    ConfigError,
    IncompleteTransferError,
    MissingExtraError,
    ObjectNotFoundError,
    StoreError,
)
from .file import TreeStore
from .naming import read_secrets
from .objects import Attributes, Body, Info, already_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from .objects import Blocks, Feed


class FsspecBody(Body):
    """An open file of a file system of fsspec, closed with the body."""

    def __init__(self, file: Any, start: int, info: Info, address: str) -> None:
        super().__init__(start, info.size, info.validator, "file")
        self.attributes = Attributes(modified=info.modified)
        self._file, self._address = file, address
        if start:
            file.seek(start)

    def readinto(self, buffer: memoryview) -> int:
        try:
            data = self._file.read(len(buffer))
        except Exception as error:
            raise IncompleteTransferError(
                f"{self._address}: reading broke off: {type(error).__name__}",
                url=self._address,
                expected=self.size,
            ) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()


class FsspecStore(TreeStore):
    """A folder of a file system that fsspec knows.

    Secrets are the file system's own options. Whether an object is there is asked before it is
    written: with ``if_absent``, of two who write at once both may succeed.
    """

    cloud = True  # secrets and endpoint mean something here

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        import fsspec

        secrets = self._options.get("secrets") or {}
        given: Mapping[str, Any] = read_secrets(secrets() if callable(secrets) else secrets)
        try:
            self._files, root = fsspec.core.url_to_fs(self._url, **given)
        except ImportError as error:
            kind = scheme(self._url)
            raise MissingExtraError(
                f"{kind}: needs a package that is not installed: {error}",
                hint=f"pip install 'fsspec[{kind}]'",
            ) from None
        except (ValueError, TypeError, OSError) as error:
            raise ConfigError(f"{self.url}: {type(error).__name__}: {error}") from None
        self.root = str(root).rstrip("/")

    def _error(self, error: Exception, name: str) -> Exception:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
            return self.failure(ObjectNotFoundError, name, "no such object")
        if isinstance(error, PermissionError):
            return self.failure(AccessDeniedError, name, "access denied")
        text = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        return self.failure(StoreError, name, text, transient=isinstance(error, OSError))

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        info = self.info(name)
        if start > (info.size or 0) or validator not in (None, info.validator):
            start = 0
        with self._naming(name, Exception):
            file = self._files.open(self.path(name), "rb")
            return FsspecBody(file, start, info, self.address(name))

    def info(self, name: str) -> Info:
        path = self.path(name)
        with self._naming(name, Exception):
            found = self._files.info(path)
        if found["type"] == "directory":
            raise self._error(FileNotFoundError(), name)
        return _told(found)

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        if if_absent and self.info_or_none(name) is not None:
            raise already_there(self.address(name))
        super()._write_blocks(name, blocks, kept, if_absent, size)

    def _send(self, aside: str, feed: Feed, kept: Attributes) -> None:
        self._files.makedirs(aside.rpartition("/")[0], exist_ok=True)
        with self._files.open(aside, "wb") as file:
            for block in feed:
                file.write(bytes(block))

    def _appear(self, aside: str, path: str, if_absent: bool) -> None:
        self._files.mv(aside, path)

    def _forget(self, aside: str) -> None:
        # it was not started, or the file system is gone: the first error counts
        with contextlib.suppress(Exception):
            self._files.rm_file(aside)

    def _rows(self, folder: str) -> Iterator[tuple[str, Info]]:
        try:
            found = self._files.ls(f"{self.root}/{folder}".rstrip("/") or "/", detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        except Exception as error:
            raise self._error(error, folder) from error
        for row in found:
            name = folder + row["name"].rstrip("/").rpartition("/")[2]
            yield name + "/" * (row["type"] == "directory"), _told(row)

    def remove(self, name: str) -> None:
        if self.info_or_none(name) is None:
            return
        with self._naming(name, Exception), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self.path(name))


def _told(found: Mapping[str, Any]) -> Info:
    modified: Any = next((found[k] for k in ("mtime", "modified", "created") if found.get(k)), None)
    when = modified.timestamp() if hasattr(modified, "timestamp") else modified
    validator = f"{found.get('size')}-{when}" if when is not None else None
    return Info(found.get("size"), validator, float(when) if when is not None else None)
