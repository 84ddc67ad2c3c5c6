"""What stores say of objects, and objects on their way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..base.hashes import Digest
from ..errors import (
    IncompleteTransferError,
    ObjectExistsError,
    StoreError,
    UnsupportedOperationError,
)

Blocks = Iterable[bytes | memoryview]

#: Up to this many bytes an object is moved as one piece; above it in blocks.
WHOLE = 8 << 20

#: Bytes of a block.
BLOCK = 4 << 20


class Attributes:
    """What a store keeps next to an object's bytes. A store keeps what it can of it.

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
    modified : float, optional
        Time of the content, in seconds since the epoch, that a file gets; most others have the time
        of the writing.
    mode : int, optional
        Permission bits of the original, which a copy that is a file gets as far as the umask lets.
    content_disposition, content_language : str, optional
        As the HTTP headers.
    tags : mapping of str to str, optional
        Of S3 and Azure. Reading leaves out the tags and the storage class; copies ask for them.
    """

    __slots__ = (
        "cache_control", "content_disposition", "content_language", "content_type", "encoding",
        "metadata", "mode", "modified", "public", "storage_class", "tags",
    )  # fmt: skip

    def __init__(
        self,
        content_type: str | None = None,
        encoding: str | None = None,
        cache_control: str | None = None,
        storage_class: str | None = None,
        metadata: Mapping[str, str] | None = None,
        public: bool = False,
        modified: float | None = None,
        mode: int | None = None,
        content_disposition: str | None = None,
        content_language: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.content_type = content_type
        self.encoding = encoding
        self.cache_control = cache_control
        self.storage_class = storage_class
        self.metadata = dict(metadata or {})
        self.public = public
        self.modified = modified
        self.mode = mode
        self.content_disposition, self.content_language = content_disposition, content_language
        self.tags = dict(tags or {})

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


#: Tags of which no more is known than that there are some; no service has a tag without a name.
UNREADABLE = {"": ""}


class Info(NamedTuple):
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

    size: int | None
    validator: str | None = None
    modified: float | None = None
    digest: Digest | None = None
    attributes: Attributes = Attributes()


class Stat(NamedTuple):
    """What another machine says of a file: bytes, mode, and seconds since the epoch."""

    size: int | None
    mode: int
    modified: int | None

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return self.mode & 0o170000 == 0o040000

    @property
    def is_special(self) -> bool:
        """Whether it is a pipe, a socket or a device."""
        return self.mode & 0o170000 not in (0, 0o040000, 0o100000, 0o120000)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link, of which only listings tell."""
        return self.mode & 0o170000 == 0o120000


def is_marker(name: str, info: Info) -> bool:
    """Return True for an empty object that some tools make as a folder, and for a folder."""
    return name.endswith("/") and not info.size


class Result(NamedTuple):
    """What became of one of many reads.

    Parameters
    ----------
    name : str
    content : bytes or None
        None if it failed.
    error : Exception or None
    start, stop : int or None
        The range that was asked for.
    encoding : str or None
        Of ``content``, when it was asked for raw.
    """

    name: str
    content: bytes | None = None
    error: Exception | None = None
    start: int | None = None
    stop: int | None = None
    encoding: str | None = None


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
        #: What the store keeps next to the bytes.
        self.attributes = Attributes()
        #: How a server declares the bytes to be compressed, whatever the name says.
        self.encoded: str | None = None
        #: Of the whole stored object, where the service reports one.
        self.digest: Digest | None = None
        #: Secrets that were sent to get it: a server may repeat them.
        self.sent: Collection[str] = ()

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
        raise UnsupportedOperationError(f"{type(self).__name__} cannot be read")

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

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PieceBody(Body):
    """A body whose bytes come in pieces of the source's choosing; they are handed on uncopied."""

    _rest = memoryview(b"")

    def _next(self, room: int) -> Any:
        """Return the next piece, empty at the end; the reader wants ``room`` bytes."""
        raise NotImplementedError

    def read(self, buffer: memoryview) -> memoryview:
        return self._give(len(buffer))

    def _give(self, room: int) -> memoryview:
        if not self._rest:
            self._rest = memoryview(self._next(room))
        found, self._rest = self._rest[:room], self._rest[room:]
        return found

    def readinto(self, buffer: memoryview) -> int:
        found = self.read(buffer)
        buffer[: len(found)] = found
        return len(found)


class Feed:
    """Blocks on their way into a store, and the error of their source, if one failed."""

    def __init__(self, blocks: Blocks) -> None:
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


def counted(blocks: Blocks, size: int, address: str) -> Iterator[bytes | memoryview]:
    """Yield blocks; raise if they are not as many bytes as was said."""
    left = size
    for block in blocks:
        left -= len(block)
        if left < 0:
            break
        yield block
    if left:
        found = f"only {size - left}" if left > 0 else "more"
        raise StoreError(
            f"{address}: expected {size} bytes, found {found}; nothing was stored",
            hint="the original changed while it was read; try again",
            url=address,
        )


def stopped(url: str, at: int, end: int | None, reason: str) -> IncompleteTransferError:
    """Return the error of a transfer that broke off at a byte."""
    of = "" if end is None else f" of {end}"
    text = f"{url}: stopped at byte {at}{of}: {reason}"
    return IncompleteTransferError(text, url=url, expected=end, actual=at)


def already_there(address: str) -> ObjectExistsError:
    """Return the error of an object that is not to be replaced."""
    return ObjectExistsError(f"{address}: it is there already", url=address)
