"""What every store offers; what it cannot do raises `UnsupportedOperationError`."""

from __future__ import annotations

from ..errors import UnsupportedOperationError
from ..urls import redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Info:
    """What a store knows of an object without reading it.

    Parameters
    ----------
    size : int or None
        Bytes.
    validator : str or None
        Strong ETag or modification date, as HTTP's ``If-Range`` takes it.
    """

    __slots__ = ("size", "validator")

    def __init__(self, size: int | None, validator: str | None = None) -> None:
        self.size = size
        self.validator = validator


class Body:
    """An open object, from one byte on; a context manager.

    Parameters
    ----------
    start : int
        Offset of the first byte that `readinto` gives.
    size : int or None
        Bytes of the whole object, if the store says so.
    validator : str or None
        See `Info`.
    kind : str
        Media type and status in words, for error messages.
    """

    def __init__(
        self, start: int, size: int | None, validator: str | None = None, kind: str = ""
    ) -> None:
        self.start = start
        self.size = size
        self.validator = validator
        self.kind = kind
        #: Whether the store is known to serve parts of the object.
        self.ranges = False

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer as far as bytes are at hand; 0 at the end.

        Parameters
        ----------
        buffer : memoryview

        Returns
        -------
        int
            Bytes written into the buffer.

        Raises
        ------
        StoreError, IncompleteTransferError
            The transfer broke.
        """
        raise self._unsupported()

    def close(self) -> None:
        """Let go of the connection or file."""

    def _unsupported(self) -> Exception:
        return UnsupportedOperationError(f"{type(self).__name__} cannot be read")

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Store:
    """A place that holds bytes under names.

    Parameters
    ----------
    url : str
        Base URL; it may hold credentials and is shown redacted only.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        #: Base URL without secrets.
        self.url = redact(url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    def address(self, name: str) -> str:
        """Return the redacted address of an object, for messages.

        Parameters
        ----------
        name : str

        Returns
        -------
        str
        """
        return f"{self.url.rstrip('/')}/{name}" if name else self.url

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        """Open an object for reading.

        Parameters
        ----------
        name : str
            ``""`` means the base URL itself.
        start : int, default 0
            First byte wanted. The store may begin at 0 all the same; `Body.start` tells.
        validator : str, optional
            Go on from ``start`` only if the object still has it, else begin at 0.
        stop : int, optional
            Bytes from here on are not wanted; a store may give them all the same.

        Returns
        -------
        Body

        Raises
        ------
        ObjectNotFoundError, AccessDeniedError, StoreError
        """
        raise self._unsupported("read", name)

    def stat(self, name: str) -> Info:
        """Ask for the size and validator of an object.

        Parameters
        ----------
        name : str

        Returns
        -------
        Info

        Raises
        ------
        ObjectNotFoundError, AccessDeniedError, StoreError
        """
        raise self._unsupported("stat", name)

    def write(self, name: str, content: bytes) -> None:
        """Store bytes under a name, all or nothing.

        Parameters
        ----------
        name : str
        content : bytes

        Raises
        ------
        StoreError
        """
        raise self._unsupported("write", name)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the names that begin with a prefix, sorted.

        Parameters
        ----------
        prefix : str

        Yields
        ------
        str
        """
        raise self._unsupported("list", prefix)

    def delete(self, name: str) -> None:
        """Remove an object; a missing one is no error.

        Parameters
        ----------
        name : str
        """
        raise self._unsupported("delete", name)

    def _unsupported(self, verb: str, name: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{type(self).__name__} cannot {verb}: {self.address(name)}", url=self.address(name)
        )


class Source:
    """One place that should hold an object.

    Parameters
    ----------
    store : Store
    name : str
        Name within the store; ``""`` if the store's URL is the object's own.
    """

    __slots__ = ("name", "store")

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name

    @property
    def address(self) -> str:
        """Redacted URL of the object."""
        return self.store.address(self.name)
