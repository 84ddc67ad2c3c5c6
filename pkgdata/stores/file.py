"""A folder as a store."""

from __future__ import annotations

import errno
import os

from .. import _fs
from ..errors import (
    AccessDeniedError,
    IncompleteTransferError,
    ObjectNotFoundError,
    StoreError,
)
from .base import Body, Info, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class FileBody(Body):
    """An open file.

    Parameters
    ----------
    fd : int
        Its descriptor, closed with the body.
    start : int
        First byte wanted.
    address : str
        Redacted address, for errors.
    """

    def __init__(self, fd: int, start: int, address: str) -> None:
        found = os.fstat(fd)
        super().__init__(start, found.st_size, _validator(found), "file")
        self._fd = fd
        self._address = address
        os.lseek(fd, start, os.SEEK_SET)

    def readinto(self, buffer: memoryview) -> int:
        """Read on; see `Body.readinto`.

        Parameters
        ----------
        buffer : memoryview

        Returns
        -------
        int

        Raises
        ------
        IncompleteTransferError
            The disk or file server failed.
        """
        try:
            if hasattr(os, "readv"):
                return os.readv(self._fd, [buffer])
            data = os.read(self._fd, len(buffer))
        except OSError as error:
            text = f"{self._address}: cannot be read on: {error.strerror or error}"
            raise IncompleteTransferError(text, url=self._address, expected=self.size) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _validator(found: os.stat_result) -> str:
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"


class FileStore(Store):
    """The files below a folder, or one file when the name is empty.

    Parameters
    ----------
    url : str
        ``file:///folder``; ``localhost`` may stand as its host.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise StoreError(
                f"{self.url}: a file URL names no other host", hint="write file:///folder"
            )
        self.root = url2pathname(parts.path).rstrip("/") or "/"

    def _path(self, name: str) -> str:
        return os.path.join(self.root, *_fs.safe_name(name).split("/")) if name else self.root

    def _error(self, error: OSError, name: str) -> StoreError:
        address = self.address(name)
        text = f"{address}: {error.strerror or error}"
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return ObjectNotFoundError(text, url=address)
        if error.errno in _fs.UNWRITABLE:
            return AccessDeniedError(text, url=address)
        return StoreError(text, url=address, transient=error.errno in (errno.EIO, errno.ESTALE))

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        """Open a file; see `Store.open`.

        Parameters
        ----------
        name : str
        start : int, default 0
        validator : str, optional
        stop : int, optional
            Not needed here: the reader closes when it has what it wants.

        Returns
        -------
        Body
        """
        try:
            fd = os.open(self._path(name), os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise self._error(error, name) from error
        try:
            found = os.fstat(fd)
            if (found.st_mode & 0o170000) == 0o040000:
                raise self._error(OSError(errno.EISDIR, "it is a directory"), name)
            if start > found.st_size or validator not in (None, _validator(found)):
                start = 0
            return FileBody(fd, start, self.address(name))
        except BaseException:
            os.close(fd)
            raise

    def stat(self, name: str) -> Info:
        """Return size and validator; see `Store.stat`.

        Parameters
        ----------
        name : str

        Returns
        -------
        Info
        """
        try:
            found = os.stat(self._path(name))
        except OSError as error:
            raise self._error(error, name) from error
        return Info(found.st_size, _validator(found))

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole; see `Store.write`.

        Parameters
        ----------
        name : str
        content : bytes
        """
        path = self._path(name)
        try:
            _fs.make_dirs(os.path.dirname(path))
            _fs.write_atomic(path, content)
        except OSError as error:
            raise self._error(error, name) from error

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the names of the files; see `Store.list`.

        Parameters
        ----------
        prefix : str

        Yields
        ------
        str
        """
        if os.path.isdir(self.root):
            names = sorted(name for name, _ in _fs.walk_files(self.root))
            yield from (name for name in names if name.startswith(prefix))

    def delete(self, name: str) -> None:
        """Remove a file; see `Store.delete`.

        Parameters
        ----------
        name : str
        """
        try:
            _fs.remove(self._path(name))
        except NotADirectoryError:
            pass  # a part of the name is a file, so that nothing lies below it
        except OSError as error:
            raise self._error(error, name) from error
