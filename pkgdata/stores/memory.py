"""A store in memory, shared by all who open the same ``mem://NAME`` in this process."""

from __future__ import annotations

from .. import _fs
from ..errors import ObjectNotFoundError
from .base import Body, Info, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_contents: dict[str, dict[str, bytes]] = {}


class MemoryBody(Body):
    """Bytes that are read from memory.

    Parameters
    ----------
    content : bytes
    start : int
        First byte wanted.
    """

    def __init__(self, content: bytes, start: int) -> None:
        super().__init__(start if start <= len(content) else 0, len(content), None, "memory")
        self._rest = memoryview(content)[self.start :]

    def readinto(self, buffer: memoryview) -> int:
        """Read on; see `Body.readinto`.

        Parameters
        ----------
        buffer : memoryview

        Returns
        -------
        int
        """
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class MemoryStore(Store):
    """Names and bytes in a dictionary.

    Parameters
    ----------
    url : str
        ``mem://NAME``.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._objects = _contents.setdefault(url.rstrip("/"), {})

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        """Open an object; see `Store.open`.

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
        return MemoryBody(self._content(name), start)

    def _content(self, name: str) -> bytes:
        try:
            return self._objects[_fs.safe_name(name)]
        except KeyError:
            address = self.address(name)
            raise ObjectNotFoundError(f"{address}: no such object", url=address) from None

    def stat(self, name: str) -> Info:
        """Return the size; see `Store.stat`.

        Parameters
        ----------
        name : str

        Returns
        -------
        Info
        """
        return Info(len(self._content(name)))

    def write(self, name: str, content: bytes) -> None:
        """Keep bytes; see `Store.write`.

        Parameters
        ----------
        name : str
        content : bytes
        """
        self._objects[_fs.safe_name(name)] = bytes(content)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the names; see `Store.list`.

        Parameters
        ----------
        prefix : str

        Yields
        ------
        str
        """
        return iter(sorted(name for name in self._objects if name.startswith(prefix)))

    def delete(self, name: str) -> None:
        """Forget an object; see `Store.delete`.

        Parameters
        ----------
        name : str
        """
        self._objects.pop(_fs.safe_name(name), None)
