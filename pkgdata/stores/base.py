"""What a driver of a store provides; what it cannot do raises `UnsupportedOperationError`.

`Primitives` moves one object at a time and knows no retries: `Store` builds everything else on it.
"""

from __future__ import annotations

from ..base.urls import canonical, redact
from ..errors import UnsupportedOperationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from ..base.hashes import Digest


class Attributes:
    """What a store keeps beside an object's bytes. A store keeps what it can of it.

    Parameters
    ----------
    content_type : str, optional
        Media type; guessed from the name by default where the store serves the web.
    encoding : str, optional
        ``"gzip"``, ``"br"`` or ``"zstd"``: how the stored bytes are compressed.
    cache_control : str, optional
        As the HTTP header.
    storage_class : str, optional
        The provider's word, such as ``"STANDARD_IA"`` or ``"NEARLINE"``.
    metadata : mapping of str to str, optional
        The user's own.
    public : bool, default False
        Readable by everybody: an ACL, which not all buckets allow; permission bits of a file, and
        of the folders that are made for it.
    """

    __slots__ = (
        "cache_control",
        "content_type",
        "encoding",
        "metadata",
        "public",
        "storage_class",
    )

    def __init__(
        self,
        content_type: str | None = None,
        encoding: str | None = None,
        cache_control: str | None = None,
        storage_class: str | None = None,
        metadata: Mapping[str, str] | None = None,
        public: bool = False,
    ) -> None:
        self.content_type = content_type
        self.encoding = encoding
        self.cache_control = cache_control
        self.storage_class = storage_class
        self.metadata = dict(metadata or {})
        self.public = public

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in self.__slots__}
        return f"Attributes({', '.join(f'{k}={v!r}' for k, v in given.items() if v)})"

    def replaced(self, **changes: Any) -> Attributes:
        """Return a copy in which some values differ.

        Parameters
        ----------
        **changes
            As for the constructor.

        Returns
        -------
        Attributes
        """
        return Attributes(**{name: getattr(self, name) for name in self.__slots__} | changes)


class Info:
    """What a store knows of an object without reading it.

    Parameters
    ----------
    size : int or None
        Bytes as they are stored.
    validator : str or None
        Strong ETag or modification date, as HTTP's ``If-Range`` takes it.
    modified : float or None
        Seconds since the epoch.
    digest : Digest or None
        Of the stored bytes, where the service reports one.
    attributes : Attributes, optional
        A listing leaves them out.
    """

    __slots__ = ("attributes", "digest", "modified", "size", "validator")

    def __init__(
        self,
        size: int | None,
        validator: str | None = None,
        modified: float | None = None,
        digest: Digest | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        self.size = size
        self.validator = validator
        self.modified = modified
        self.digest = digest
        self.attributes = attributes or Attributes()

    def __repr__(self) -> str:
        return f"Info(size={self.size}, digest={self.digest}, {self.attributes})"


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
        #: What the store keeps beside the bytes.
        self.attributes = Attributes()
        #: Of the whole stored object, where the service reports one.
        self.digest: Digest | None = None

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

    def read(self, buffer: memoryview) -> memoryview:
        """Return the next bytes: in a buffer, or where they are already; empty at the end.

        Parameters
        ----------
        buffer : memoryview
            As many bytes as it holds are the most that are given.

        Returns
        -------
        memoryview

        Raises
        ------
        StoreError, IncompleteTransferError
            The transfer broke.
        """
        return buffer[: self.readinto(buffer)]

    def close(self) -> None:
        """Let go of the connection or file."""

    def _unsupported(self) -> Exception:
        return UnsupportedOperationError(f"{type(self).__name__} cannot be read")

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Feed:
    """Blocks on their way into a store, and the error of their source, if one failed."""

    def __init__(self, blocks: Iterable[bytes | memoryview]) -> None:
        self._blocks = iter(blocks)
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return self

    def __next__(self) -> bytes | memoryview:
        try:
            return next(self._blocks)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise


class Primitives:
    """One object at a time, in a place that holds bytes under names.

    Parameters
    ----------
    url : str
        Base URL; it may hold credentials and is shown redacted only.
    """

    def __init__(self, url: str) -> None:
        self._url = canonical(url)
        #: Base URL without secrets.
        self.url = redact(self._url)
        #: Whether a name means the object of exactly this name, never a compressed one beside it.
        self.exact = False

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

    def info(self, name: str) -> Info:
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

    def write(
        self,
        name: str,
        content: bytes | memoryview,
        attributes: Attributes | None = None,
        if_absent: bool = False,
    ) -> None:
        """Store bytes under a name, all or nothing.

        Parameters
        ----------
        name : str
        content : bytes-like
        attributes : Attributes, optional
        if_absent : bool, default False
            Refuse to replace.

        Raises
        ------
        ObjectExistsError
            It is there, and ``if_absent`` is set.
        StoreError
        """
        raise self._unsupported("write", name)

    def write_blocks(
        self,
        name: str,
        blocks: Iterable[bytes | memoryview],
        attributes: Attributes | None = None,
        if_absent: bool = False,
        size: int | None = None,
    ) -> None:
        """Store bytes that come in blocks, in bounded memory, all or nothing.

        Parameters
        ----------
        name : str
        blocks : iterable of bytes-like
            Of any lengths. If it raises, nothing is stored.
        attributes : Attributes, optional
        if_absent : bool, default False
            Refuse to replace.
        size : int, optional
            Bytes in all, if known.

        Raises
        ------
        ObjectExistsError
            It is there, and ``if_absent`` is set.
        StoreError
        """
        raise self._unsupported("write", name)

    def scan(self, prefix: str = "", flat: bool = False) -> Iterator[tuple[str, Info]]:
        """Yield names, sorted, and what the listing tells of each.

        Parameters
        ----------
        prefix : str
            Any beginning of names, not only whole folders.
        flat : bool, default False
            One level only; the levels below show as names that end in ``/``.

        Yields
        ------
        (str, Info)
        """
        raise self._unsupported("list", prefix)

    def remove(self, name: str) -> None:
        """Remove an object; a missing one is no error.

        Parameters
        ----------
        name : str
        """
        raise self._unsupported("delete", name)

    def clone(self, name: str, source: Primitives, source_name: str) -> bool:
        """Copy an object without its bytes coming here, attributes included.

        Parameters
        ----------
        name : str
            The copy.
        source : Primitives
            Where the original is.
        source_name : str

        Returns
        -------
        bool
            False if the two places cannot do that; nothing was done then.
        """
        return False

    def adopt(self, name: str, source: Primitives, source_name: str) -> bool:
        """Take an object over by renaming it.

        Parameters
        ----------
        name : str
            Its new name here.
        source : Primitives
            Where it is.
        source_name : str

        Returns
        -------
        bool
            False if the two places cannot do that; nothing was done then.
        """
        return False

    def same(self, name: str, other: Primitives, other_name: str) -> bool:
        """Say whether two names mean one object.

        Parameters
        ----------
        name : str
        other : Primitives
        other_name : str

        Returns
        -------
        bool
        """
        return self.address(name) == other.address(other_name)

    def free_bytes(self) -> int | None:
        """Return the bytes that can still be written; None if that is not known.

        Returns
        -------
        int or None
        """
        return None

    def leftovers(self) -> Iterator[str]:
        """Yield the names of unfinished files that nobody will finish; `remove` takes them.

        Yields
        ------
        str
        """
        return iter(())

    def bulk(self) -> contextlib.AbstractContextManager[object]:
        """Return a context within which many objects are written and made durable together.

        Returns
        -------
        context manager
        """
        import contextlib

        return contextlib.nullcontext()

    def _unsupported(self, verb: str, name: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{type(self).__name__} cannot {verb}: {self.address(name)}", url=self.address(name)
        )


class Source:
    """One place that should hold an object.

    Parameters
    ----------
    store : Primitives
    name : str
        Name within the store; ``""`` if the store's URL is the object's own.
    """

    __slots__ = ("name", "store")

    def __init__(self, store: Primitives, name: str) -> None:
        self.store = store
        self.name = name

    @property
    def address(self) -> str:
        """Redacted URL of the object."""
        return self.store.address(self.name)
