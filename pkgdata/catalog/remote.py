"""A folder of another computer, to copy prepared datasets to: the store behind ``host:folder``.

It speaks SFTP through the ``ssh`` program, so keys, aliases and agents are the user's own, and host
keys are checked strictly. Files are written aside and renamed, so that none is ever seen in part.
"""

from __future__ import annotations

import posixpath
import threading

from ..base import fs, owners
from ..errors import ObjectNotFoundError, PublishError
from ..publish.sftp import command_and_folder
from ..stores import Attributes, Info, Store
from ..stores.sftp_protocol import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: The most bytes of one write.
_PIECE = 1 << 15


class RemoteFolder(Store):
    """A folder of another computer, by SFTP; a context manager that logs out.

    Parameters
    ----------
    url : str
        ``sftp://[user@]host[:port]/folder``; ``/~/`` begins a path in the home directory.

    Raises
    ------
    PublishError
        The URL is malformed.
    """

    shared = False

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._command, self._root = command_and_folder(url)
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._folders: set[str] = set()

    def __enter__(self) -> RemoteFolder:
        return self

    def __exit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _host(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = Connection(self._command, self.url)
            return self._connection

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, fs.safe_name(name))

    def info(self, name: str) -> Info:
        found = self._host().stat(self._path(name))
        if found is None or found.is_folder:
            address = self.address(name)
            raise ObjectNotFoundError(f"{address}: no such file", url=address)
        return Info(found.size)

    def write(
        self,
        name: str,
        content: bytes | memoryview,
        attributes: Attributes | None = None,
        if_absent: bool = False,
    ) -> None:
        """Write a file, all or nothing; see `Store`.

        Parameters
        ----------
        attributes : Attributes, optional
            Nothing of it can be kept.
        """
        self.write_blocks(name, (content,), attributes, if_absent)

    def write_blocks(
        self,
        name: str,
        blocks: Iterable[bytes | memoryview],
        attributes: Attributes | None = None,
        if_absent: bool = False,
        size: int | None = None,
    ) -> None:
        path = self._path(name)
        self._make_folder(posixpath.dirname(path))
        host = self._host()
        aside = owners.aside(path)
        try:
            host.write(aside, _pieces(blocks), 0)
            (host.appear if if_absent else host.replace)(aside, path)
        except BaseException:
            host.remove(aside)
            raise

    def _make_folder(self, path: str) -> None:
        with self._lock:
            if path in self._folders:
                return
        host = self._host()
        if path not in ("", "/") and host.stat(path) is None:
            self._make_folder(posixpath.dirname(path))
            try:
                host.make_folder(path)
            except PublishError:
                raise
            except OSError:
                if host.stat(path) is None:  # else another thread was faster
                    raise
        with self._lock:
            self._folders.add(path)


def _pieces(blocks: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    for block in blocks:
        view = memoryview(block)
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]
