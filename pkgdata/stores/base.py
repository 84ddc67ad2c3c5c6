"""What a driver of a store provides; what it cannot do raises `UnsupportedOperationError`.

`Primitives` moves one object at a time and knows no retries. `Driver` adds what stores are opened
with, threads and retries; reading, writing and copying stand on it, and `Store` on them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from ..base import pool, retry
from ..base.config import conf
from ..base.hashes import Digest
from ..base.urls import canonical, redact
from ..errors import ConfigError, ObjectNotFoundError, PkgdataError, UnsupportedOperationError
from .objects import BLOCK, Attributes, Blocks, Body, Info, counted

E = TypeVar("E", bound=PkgdataError)
R = TypeVar("R")


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
        #: Whether a name means the object of exactly this name, never a compressed one next to it.
        self.exact = False
        #: Whether listings show files that are being written, or were by a process that ended.
        self.shows_unfinished = False

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
            First byte wanted. The store may begin at 0 all the same; see `Body.start`.
        validator : str, optional
            Begin at ``start`` only if the object still has it, else at 0.
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
        """Return what is known of an object.

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
        self._write(name, content, attributes or Attributes(), if_absent)

    def write_blocks(
        self,
        name: str,
        blocks: Blocks,
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
            Bytes in all, if known; if there are more or fewer, nothing is stored.

        Raises
        ------
        ObjectExistsError
            It is there, and ``if_absent`` is set.
        StoreError
        """
        if size is not None:
            blocks = counted(blocks, size, self.address(name))
        self._write_blocks(name, blocks, attributes or Attributes(), if_absent, size)

    def _write(
        self, name: str, content: bytes | memoryview, kept: Attributes, if_absent: bool
    ) -> None:
        self._write_blocks(name, (content,), kept, if_absent, len(content))

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        raise self._unsupported("write", name)

    def scan(self, prefix: str = "", flat: bool = False) -> Iterator[tuple[str, Info]]:
        """Yield names, sorted, and what the listing says of each.

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
        """Return True if two names mean one object.

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

    def same_names(self) -> Callable[[str], str] | None:
        """Return what makes equal the names that mean one object here; None if none do.

        Returns
        -------
        callable or None
        """
        return None

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
        return contextlib.nullcontext()

    def failure(self, kind: type[E], name: str, text: str, **facts: Any) -> E:
        """Return an error about an object, with its address.

        Parameters
        ----------
        kind : type
            Class of the error.
        name : str
        text : str
        **facts
            Further arguments of the error, such as ``hint``.

        Returns
        -------
        PkgdataError
        """
        address = self.address(name)
        return kind(f"{address}: {text}", url=address, **facts)

    def _error(self, error: Exception, name: str) -> Exception:
        """Return what an error of the store's own means for an object."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _naming(self, name: str, kind: type[Exception] = OSError) -> Iterator[None]:
        """Let errors of the store's own name the object's address."""
        try:
            yield
        except kind as error:
            # errors of libraries, of any class, may print what they were given
            raise self._error(error, name) from (None if kind is Exception else error)

    def _unsupported(self, verb: str, name: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{type(self).__name__} cannot {verb}: {self.address(name)}", url=self.address(name)
        )


class Source(NamedTuple):
    """One place that should hold an object.

    Parameters
    ----------
    store : Primitives
    name : str
        Name within the store; ``""`` if the store's URL is the object's own.
    """

    store: Primitives
    name: str

    @property
    def address(self) -> str:
        """Redacted URL of the object."""
        return self.store.address(self.name)


#: Stores that this process got pickled, so that its connections are used again.
_unpickled: dict[str, Driver] = {}


def _unpickle(cls: type[Driver], url: str, options: dict[str, Any], exact: bool) -> Driver:
    key = repr((cls, url, sorted(options.items(), key=str), exact))
    if key not in _unpickled:
        store = _unpickled[key] = cls(url, **options)
        store.exact = exact
    return _unpickled[key]


class Driver(Primitives):
    """A place that is opened with options, asked by several threads, and asked again."""

    #: Whether credentials, endpoint and region mean anything here.
    cloud = False
    #: Whether it is a web server, which may compress an object on the way.
    web = False
    #: Whether other processes see the same objects; if not, none of them are asked to help.
    shared = True
    #: Whether it lies on this computer, most likely: small objects need no waiting for.
    near = False
    #: Whether it has no other place for an encoding than the end of a name.
    suffixed = False

    def __init__(
        self,
        url: str,
        *,
        secrets: Mapping[str, Any] | str | Callable[[], Mapping[str, Any]] | None = None,
        anonymous: bool | None = None,
        endpoint: str | None = None,
        timeout: float | None = None,
        threads: int | None = None,
        region: str | None = None,
        request_payer: str | None = None,
    ) -> None:
        super().__init__(url)
        options: dict[str, Any] = {
            "secrets": secrets,
            "anonymous": anonymous,
            "endpoint": endpoint,
            "timeout": timeout,
            "threads": threads,
            "region": region,
            "request_payer": request_payer,
        }
        self._options = {key: value for key, value in options.items() if value is not None}
        if not self.cloud:
            wrong = [name for name in ("secrets", "endpoint", "region") if name in self._options]
            if wrong:
                raise ConfigError(f"{self.url}: {wrong[0]} means nothing for this kind of store")
        self._timeout = timeout
        self._threads = threads

    def __reduce__(self) -> Any:
        return _unpickle, (type(self), self._url, self._options, self.exact)

    @property
    def threads(self) -> int:
        """Requests at once."""
        return max(1, int(conf.connections)) if self._threads is None else self._threads

    @property
    def timeout(self) -> float:
        """Seconds to connect, and between bytes."""
        return float(conf.remote_timeout) if self._timeout is None else self._timeout

    def trying(self, action: Callable[[], R]) -> R:
        """Call an action, and retry it while it fails transiently (setting ``retries``).

        Parameters
        ----------
        action : callable

        Returns
        -------
        object
        """
        return retry.POLICY._replace(retries=self.retries).call(action)

    def retries(self) -> int:
        """Return how often a transient failure is retried."""
        return int(conf.retries)

    def at_once(
        self, function: Callable[[Any], R], items: Iterable[Any], ordered: bool = False
    ) -> Iterator[tuple[Any, R | None, Exception | None]]:
        """Call a function for each item, as many at once as suit this store; see `pool.run`.

        Parameters
        ----------
        function : callable
        items : iterable
        ordered : bool, default False
        """
        quick = (lambda _: True) if self.near else None
        return pool.run(function, items, self.threads, ordered, quick=quick)

    def read(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> tuple[bytes, Attributes, Digest | None]:
        """Read an object or a range of it, as it is stored; a primitive for `get`.

        Parameters
        ----------
        name : str
        start : int, default 0
        stop : int, optional

        Returns
        -------
        (bytes, Attributes, Digest or None)
            The digest that the service reports of all of the object.
        """
        with self.open(name, start, None, stop) as body:
            if start and body.size is not None and start >= body.size:
                return b"", body.attributes, body.digest
            skip, wanted = start - body.start, None if stop is None else stop - start
            parts, buffer = [], memoryview(bytearray(min(BLOCK, body.size or 1 << 16) or 1))
            while wanted is None or wanted > 0:
                count = body.readinto(buffer)
                if not count:
                    break
                part = bytes(buffer[min(skip, count) : count])
                skip -= min(skip, count)
                parts.append(part if wanted is None else part[:wanted])
                wanted = None if wanted is None else wanted - len(part)
            return b"".join(parts), body.attributes, body.digest

    def is_digest(self, name: str, digest: Digest) -> bool:
        """Return True if what looks like a digest of the object is one; asked when it differs.

        Parameters
        ----------
        name : str
        digest : Digest

        Returns
        -------
        bool
        """
        return True

    def info_or_none(self, name: str) -> Info | None:
        """Return what is known of an object; None if it is not there.

        Parameters
        ----------
        name : str
        """
        try:
            return self.trying(lambda: self.info(name))
        except ObjectNotFoundError:
            return None
