"""`Store`: one or many objects at a time, on the primitives that each driver provides.

What is done for many at once runs in threads (``threads``, by default the setting
``connections``), and in worker processes too when ``parallel`` asks for them. What failed in
passing is tried again (setting ``retries``).
"""

from __future__ import annotations

import os

from ..base import pool, retry, urls
from ..errors import (
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    UnsupportedOperationError,
)
from .base import Attributes, Info, Primitives

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, TypeVar

    from ..base.hashes import Digest
    from ..base.progress import Callback
    from ..base.report import Report

    R = TypeVar("R")
    Content = bytes | bytearray | memoryview | os.PathLike[str] | Any

#: Up to this many bytes an object is moved as one piece; above it in blocks.
WHOLE = 8 << 20

#: Bytes of a block.
BLOCK = 4 << 20


class Result:
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

    __slots__ = ("content", "encoding", "error", "name", "start", "stop")

    def __init__(
        self,
        name: str,
        content: bytes | None = None,
        error: Exception | None = None,
        start: int | None = None,
        stop: int | None = None,
        encoding: str | None = None,
    ) -> None:
        self.name = name
        self.content = content
        self.error = error
        self.start = start
        self.stop = stop
        self.encoding = encoding

    def __repr__(self) -> str:
        found = self.error if self.error is not None else f"{len(self.content or b'')} bytes"
        return f"<Result {self.name}: {found}>"


#: Stores that this process got pickled, so that its connections are used again.
_unpickled: dict[str, Store] = {}


def _always(_: object) -> bool:
    return True


def _unpickle(cls: type[Store], url: str, options: dict[str, Any], exact: bool) -> Store:
    key = repr((cls, url, sorted(options.items(), key=str), exact))
    if key not in _unpickled:
        store = _unpickled[key] = cls(url, **options)
        store.exact = exact
    return _unpickled[key]


class Store(Primitives):
    """A place that holds bytes under names.

    Nothing is contacted before the first operation.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``, ``s3://https://endpoint/bucket/prefix``, ``gs://bucket/prefix``,
        ``az://container/prefix``, ``https://host/path``, ``file:///folder`` or a plain path,
        ``sftp://[user@]host[:port]/folder``, ``mem://name``, ``github:owner/repo@tag``, or any
        protocol of fsspec.
    secrets : mapping, str or callable, optional
        Credentials: a mapping in the provider's own words (such as ``access_key_id`` and
        ``secret_access_key``), the path of a JSON file that holds one, or, for keys that expire,
        a function that returns one with ``expires_at``. By default the provider's own chain.
    anonymous : bool, optional
        True never signs. By default requests are signed where credentials are found.
    endpoint : str, optional
        URL of the service, where it is not the provider's own.
    timeout : float, optional
        Seconds to connect, and between bytes; by default the setting ``remote_timeout``.
    threads : int, optional
        Requests at once; by default the setting ``connections``.
    region : str, optional
        Of the bucket; found out by default.
    request_payer : str, optional
        ``"requester"`` (S3) or a project (Google): who pays for the requests.

    Raises
    ------
    ConfigError
        The URL is malformed or of an unknown scheme.
    MissingExtraError
        The scheme needs a package that is not installed.

    Examples
    --------
    >>> store = Store("mem://example")
    >>> store["a/b.txt"] = b"hello"
    >>> store["a/b.txt", 0:4]
    b'hell'
    >>> store.get("a/b.txt"), list(store), "c" in store
    (b'hello', ['a/b.txt'], False)
    """

    #: Whether credentials, endpoint and region mean anything here.
    cloud = False
    #: Whether other processes see the same objects; if not, none of them are asked to help.
    shared = True
    #: Whether it lies on this computer, most likely: small objects need no waiting for.
    near = False

    def __new__(cls, url: str = "", **options: Any) -> Store:
        if cls is Store:
            from . import driver

            cls = driver(url)
        return object.__new__(cls)

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

    # -- one or many ---------------------------------------------------------------------------

    @property
    def threads(self) -> int:
        """Requests at once."""
        if self._threads is not None:
            return self._threads
        from ..base.config import conf

        return max(1, int(conf.connections))

    @property
    def timeout(self) -> float:
        """Seconds to connect, and between bytes."""
        if self._timeout is not None:
            return self._timeout
        from ..base.config import conf

        return float(conf.remote_timeout)

    def trying(self, action: Callable[[], R]) -> R:
        """Call an action, and again while it fails in passing (setting ``retries``).

        Parameters
        ----------
        action : callable

        Returns
        -------
        object
        """
        return retry.POLICY._replace(retries=self.retries).call(action)

    def retries(self) -> int:
        """Return how often what fails in passing is tried again.

        Returns
        -------
        int
        """
        from ..base.config import conf

        return int(conf.retries)

    def at_once(
        self, function: Callable[[Any], R], items: Iterable[Any], ordered: bool = False
    ) -> Iterator[tuple[Any, R | None, Exception | None]]:
        """Call a function for each item, as many at once as is good for this store.

        Parameters
        ----------
        function : callable
        items : iterable
        ordered : bool, default False

        Returns
        -------
        iterator
            See `pkgdata.base.pool.run`.
        """
        quick = _always if self.near else None
        return pool.run(function, items, self.threads, ordered, quick=quick)

    def _each(
        self,
        function: Callable[[str], R],
        names: Iterable[str],
        progress: bool | Callback | None = None,
    ) -> Iterator[tuple[str, R]]:
        """Call a function for each name at once; the first error ends it."""
        watch = Watch(progress, names)
        for name, value, error in self.at_once(function, names):
            watch.done(name, 0, error)
            if error is not None:
                raise error
            yield name, value  # type: ignore[misc]  # without an error there is a value

    # -- reading -------------------------------------------------------------------------------

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

    def get(
        self,
        names: Any,
        *,
        start: int | None = None,
        stop: int | None = None,
        ranges: Sequence[tuple[int, int | None]] | None = None,
        raw: bool = False,
        ordered: bool = False,
        errors: str = "raise",
        parallel: int = 1,
        progress: bool | Callback | None = None,
    ) -> Any:
        """Read one object, ranges of one, or many.

        Parameters
        ----------
        names : str, or iterable of str or (str, int or None, int or None)
            One name, or many; a tuple asks for a range of bytes as a slice does.
        start, stop : int, optional
            Range of the one object, as a slice: negative counts from the end, and what lies past
            the end is empty.
        ranges : sequence of (int, int or None), optional
            Several ranges of the one object.
        raw : bool, default False
            Stored bytes as they are, else what they decode to. A range of an object that is stored
            compressed is possible only raw.
        ordered : bool, default False
            Of many: in the order asked for, else as they come.
        errors : ``"raise"`` or ``"return"``, default ``"raise"``
            Of many: what to do with an object that cannot be read.
        parallel : int, default 1
            Worker processes, for many.
        progress : bool or callable, optional
            True draws with tqdm; a callable gets each `Event`.

        Returns
        -------
        bytes, list of bytes, or iterator of Result
            For one name; for several ranges of it; for many names.

        Raises
        ------
        ObjectNotFoundError, AccessDeniedError, StoreError
            The object cannot be read.
        IntegrityError
            Its bytes are not what the service's own checksum says, also when read again.
        """
        if isinstance(names, str):
            if ranges is not None:
                asked = [(names, first, last) for first, last in ranges]
                found = self._get_many(asked, raw, True, "raise", 1, progress)
                return [result.content for result in found]
            return self._get_one((names, start, stop), raw).content
        if start is not None or stop is not None or ranges is not None:
            raise ConfigError("a range belongs to one name; for many give (name, start, stop)")
        return self._get_many(names, raw, ordered, errors, parallel, progress)

    def _get_many(
        self,
        asked: Iterable[Any],
        raw: bool,
        ordered: bool,
        errors: str,
        parallel: int,
        progress: bool | Callback | None,
    ) -> Iterator[Result]:
        if errors not in ("raise", "return"):
            raise ConfigError(f"errors={errors!r}: expected 'raise' or 'return'")
        watch = Watch(progress, asked)
        for result in self._results(asked, raw, ordered, parallel):
            watch.done(result.name, len(result.content or b""), result.error)
            if result.error is not None and errors == "raise":
                raise result.error
            yield result

    def _results(
        self, asked: Iterable[Any], raw: bool, ordered: bool, parallel: int
    ) -> Iterator[Result]:
        if parallel > 1 and not ordered and self.shared:
            yield from pool.spread(_GetList(self, raw), asked, parallel)
            return
        found = self.at_once(lambda item: self._get_one(item, raw), asked, ordered)
        for item, result, error in found:
            yield result if result is not None else _failed(item, error)

    def _get_one(self, item: Any, raw: bool) -> Result:
        name, start, stop = _span(item)
        if (start or 0) < 0 or (stop or 0) < 0:
            size = self.trying(lambda: self.info(name)).size
            start, stop, _ = slice(start, stop).indices(size or 0)
        first = start or 0
        if stop is not None and stop <= first:
            self.trying(lambda: self.info(name))  # nothing to read, but it must be there
            return Result(name, b"", None, start, stop)
        whole = not first and stop is None
        content, attributes, digest = self.trying(lambda: self.read(name, first, stop))
        if whole and digest is not None:
            content = self._checked(name, content, digest)
        encoding = attributes.encoding
        if encoding and not raw:
            content = self._decoded(name, content, encoding, whole)
            encoding = None
        return Result(name, content, None, start, stop, encoding)

    def _decoded(self, name: str, content: bytes, encoding: str, whole: bool) -> bytes:
        from . import codecs

        if encoding not in codecs.SUFFIXES:
            return content  # such as Amazon's "aws-chunked", which says nothing of the bytes
        if not whole:
            raise UnsupportedOperationError(
                f"{self.address(name)}: a range of an object that is stored as {encoding} cannot "
                "be decoded",
                hint="read all of it, or its stored bytes with raw=True",
                url=self.address(name),
            )
        return codecs.decode(content, encoding, self.address(name))

    def _checked(self, name: str, content: bytes, digest: Digest) -> bytes:
        """Compare with the service's checksum; a transmission error is cured by reading again."""
        for left in (1, 0):
            actual = _hash(content, digest.alg)
            if actual == digest.hex or not self.vouches(name, digest):
                return content
            if left:
                content = self.trying(lambda: self.read(name))[0]
        address = self.address(name)
        raise IntegrityError(
            f"{address}: the service says {digest.alg} {digest.hex}, its bytes have {actual}",
            hint="the object is damaged there or on the way; upload it again",
            name=name,
            source=address,
            expected=str(digest),
            actual=f"{digest.alg}:{actual}",
        )

    def vouches(self, name: str, digest: Digest) -> bool:
        """Say whether what looks like a digest of the object is one; asked when it differs.

        Parameters
        ----------
        name : str
        digest : Digest

        Returns
        -------
        bool
        """
        return True

    def get_json(self, names: Any, **options: Any) -> Any:
        """Read JSON.

        Parameters
        ----------
        names : str or iterable of str
        **options
            See `get`.

        Returns
        -------
        object or list
            For many names a list in their order.

        Raises
        ------
        StoreError
            An object holds no JSON.
        """
        if isinstance(names, str):
            return self._json(names, self.get(names, **options))
        found = self.get(names, **options, ordered=True)
        return [self._json(result.name, result.content) for result in found]

    def _json(self, name: str, content: bytes) -> Any:
        import json

        from ..errors import StoreError

        try:
            return json.loads(content)
        except ValueError as error:
            address = self.address(name)
            raise StoreError(f"{address}: not JSON: {error}", url=address) from error

    def blocks(self, name: str, size: int = BLOCK) -> Iterator[memoryview]:
        """Yield an object's stored bytes; a broken transfer goes on where it broke.

        Parameters
        ----------
        name : str
        size : int
            Bytes of a block, which is valid until the next one is asked for.

        Yields
        ------
        memoryview

        Raises
        ------
        IncompleteTransferError
            It broke too often, or the object changed meanwhile.
        """
        from .copying import read_blocks

        return read_blocks(self, name, size)

    def cat(self, names: str | Iterable[str]) -> Iterator[memoryview]:
        """Yield the decoded bytes of objects, one after another, in bounded memory.

        Parameters
        ----------
        names : str or iterable of str

        Yields
        ------
        bytes-like
        """
        from .codecs import decode_blocks

        for name in [names] if isinstance(names, str) else names:
            encoding = self.trying(lambda name=name: self.info(name)).attributes.encoding  # type: ignore[misc]
            yield from decode_blocks(self.blocks(name), encoding, self.address(name))  # type: ignore[misc]

    # -- asking --------------------------------------------------------------------------------

    def stat(self, names: Any) -> Any:
        """Ask what a store knows of objects: size, digest, content type and so on.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        Info, or dict of str to Info or None
            Of many, None for one that is not there.

        Raises
        ------
        ObjectNotFoundError
            The one object is not there.
        """
        if isinstance(names, str):
            return self.trying(lambda: self.info(names))
        return dict(self._each(self._info_or_none, names))

    head = stat

    def _info_or_none(self, name: str) -> Info | None:
        try:
            return self.trying(lambda: self.info(name))
        except ObjectNotFoundError:
            return None

    def exists(self, names: Any) -> Any:
        """Say whether objects are there.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        bool, or dict of str to bool
        """
        if isinstance(names, str):
            return self._info_or_none(names) is not None
        return {name: info is not None for name, info in self.stat(names).items()}

    def size(self, names: Any) -> Any:
        """Return the bytes of objects as they are stored.

        Parameters
        ----------
        names : str or iterable of str

        Returns
        -------
        int or None, or dict of str to int or None
            None where there is no object.
        """
        if isinstance(names, str):
            info = self._info_or_none(names)
            return None if info is None else info.size
        return {
            name: None if info is None else info.size for name, info in self.stat(names).items()
        }

    def list(self, prefix: str = "", *, flat: bool = False, expand: bool = False) -> Iterator[str]:
        """Yield names, sorted, as the store lists them.

        Parameters
        ----------
        prefix : str, default ""
            Any beginning of names.
        flat : bool, default False
            One level only; the levels below show as names that end in ``/``.
        expand : bool, default False
            Read ``[ab]{2}`` in the prefix as each of ``aa``, ``ab``, ``ba``, ``bb``.

        Yields
        ------
        str
        """
        if expand:
            from .naming import expand_brackets

            for one in expand_brackets(prefix):
                yield from self.list(one, flat=flat)
            return
        for name, _ in self.scan(prefix, flat):
            yield name

    def du(self, prefix: str = "") -> tuple[int, int]:
        """Count what is below a prefix.

        Parameters
        ----------
        prefix : str, default ""

        Returns
        -------
        (int, int)
            Objects, and their bytes as stored.
        """
        count = total = 0
        for _, info in self.scan(prefix):
            count += 1
            total += info.size or 0
        return count, total

    # -- writing -------------------------------------------------------------------------------

    def put(
        self,
        names: Any,
        content: Content | None = None,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        storage_class: str | None = None,
        metadata: Mapping[str, str] | None = None,
        public: bool = False,
        compress: str | None = None,
        level: int | None = None,
        encoding: str | None = None,
        if_absent: bool = False,
        progress: bool | Callback | None = None,
    ) -> Report | None:
        """Write one object or many.

        Parameters
        ----------
        names : str, or iterable of (str, content) or (str, content, mapping)
            One name, or many with their content and, if wanted, options of their own.
        content : bytes-like, binary file object or path
            Of the one object. Files of any size are read in blocks.
        content_type, cache_control, storage_class, metadata, public
            See `Attributes`. The content type is guessed from the name by default.
        compress : str, optional
            ``"gzip"``, ``"br"`` or ``"zstd"``: store it compressed.
        level : int, optional
            Of the compression.
        encoding : str, optional
            How the content is compressed already.
        if_absent : bool, default False
            Refuse to replace; of two who do so at once, one succeeds.
        progress : bool or callable, optional
            See `get`.

        Returns
        -------
        Report or None
            For many.

        Raises
        ------
        ObjectExistsError
            It is there, and ``if_absent`` is set.
        BatchError
            Some of many failed; ``error.report`` says which and can ``retry()``.
        StoreError
        """
        from .writing import Put

        put = Put(
            self,
            Attributes(content_type, encoding, cache_control, storage_class, metadata, public),
            compress=compress,
            level=level,
            if_absent=if_absent,
        )
        if isinstance(names, str):
            if content is None:
                raise ConfigError(f"put({names!r}): no content")
            put.one(names, content)
            return None
        return put.many(names, progress)

    def put_json(self, names: Any, value: Any = None, **options: Any) -> Report | None:
        """Write JSON.

        Parameters
        ----------
        names : str, or iterable of (str, object)
        value : object
            Of the one object.
        **options
            See `put`; the content type is ``application/json``.

        Returns
        -------
        Report or None
            See `put`.
        """
        import json

        options = {"content_type": "application/json", **options}
        if isinstance(names, str):
            return self.put(names, json.dumps(value).encode(), **options)
        return self.put(((name, json.dumps(value).encode()) for name, value in names), **options)

    def touch(self, names: str | Iterable[str]) -> None:
        """Make empty objects where there are none; others stay as they are.

        Parameters
        ----------
        names : str or iterable of str
        """
        from .writing import touch

        for _ in self._each(lambda n: touch(self, n), [names] if isinstance(names, str) else names):
            pass

    def delete(self, names: Any = (), *, prefix: str | None = None) -> None:
        """Remove objects; what is not there is no error.

        Parameters
        ----------
        names : str or iterable of str
        prefix : str, optional
            All that begin with it instead; ``""`` empties the store.
        """
        if prefix is not None:
            names = self.list(prefix)
        elif isinstance(names, str):
            self.trying(lambda: self.remove(names))
            return
        self.remove_many(names)

    def remove_many(self, names: Iterable[str]) -> None:
        """Remove many objects; a primitive for `delete` where the service has bulk requests.

        Parameters
        ----------
        names : iterable of str
        """
        for _ in self._each(lambda name: self.trying(lambda: self.remove(name)), names):
            pass

    # -- moving --------------------------------------------------------------------------------

    def copy(self, name: str, new_name: str, to: Store | None = None) -> None:
        """Copy an object, by the service itself where the two ends allow it.

        Parameters
        ----------
        name : str
        new_name : str
        to : Store, optional
            This store by default.
        """
        from .copying import copy_object

        copy_object(self, name, to or self, new_name)

    def move(self, name: str, new_name: str, to: Store | None = None) -> None:
        """Copy an object, then remove the original.

        Parameters
        ----------
        name : str
        new_name : str
        to : Store, optional
            This store by default.
        """
        to = to or self
        if self.same(name, to, new_name):
            return  # removing the original would remove the copy
        self.copy(name, new_name, to)
        self.delete(name)

    def transfer_to(
        self,
        to: Store | str,
        names: Iterable[Any] | None = None,
        *,
        reencode: str | None = None,
        level: int | None = None,
        replace: bool = True,
        job: str | None = None,
        progress: bool | Callback | None = None,
    ) -> Report:
        """Copy many objects to another store, in bounded memory, stored bytes as they are.

        Parameters
        ----------
        to : Store or str
        names : iterable of str or (str, str), optional
            Names, or pairs of a name and the copy's name; everything by default.
        reencode : str, optional
            ``"gzip"``, ``"br"``, ``"zstd"`` or ``"none"``: how the copies are compressed.
        level : int, optional
            Of the compression.
        replace : bool, default True
            False leaves alone what is there.
        job : str, optional
            Path of a file that keeps count of what is done. A call that was interrupted goes on
            from it, and several processes that name the same file share the work.
        progress : bool or callable, optional
            See `get`.

        Returns
        -------
        Report

        Raises
        ------
        BatchError
            Some objects could not be copied; ``error.report.retry()`` tries these again.
        """
        from .copying import transfer

        to = Store(to) if isinstance(to, str) else to
        return transfer(
            self,
            to,
            names,
            reencode=reencode,
            level=level,
            replace=replace,
            job=job,
            progress=progress,
        )

    def transfer_from(self, source: Store | str, *args: Any, **options: Any) -> Report:
        """Copy many objects from another store.

        Parameters
        ----------
        source : Store or str
        *args, **options
            See `transfer_to`.

        Returns
        -------
        Report
        """
        source = Store(source) if isinstance(source, str) else source
        return source.transfer_to(self, *args, **options)

    # -- sugar ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return self.list()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.exists(name))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], slice):
            name, span = key
            if span.step not in (None, 1):
                raise ConfigError(f"{name!r}: a range of bytes has no step")
            return self.get(name, start=span.start, stop=span.stop)
        if isinstance(key, slice):
            return [*self.get([*self.list()][key], ordered=True)]
        return self.get(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if key == slice(None):
            if isinstance(value, Store):
                self.transfer_from(value)
            else:
                self.put(value)
        elif isinstance(key, str):
            self.put(key, value)
        else:
            raise ConfigError("store[name] = content, or store[:] = another store")

    def __delitem__(self, key: str | Iterable[str]) -> None:
        self.delete(key)


class _GetList:
    """Reads a list of objects in a worker process."""

    def __init__(self, store: Store, raw: bool) -> None:
        self._store = store
        self._raw = raw

    def __call__(self, asked: builtins.list[Any]) -> builtins.list[Result]:
        return [*self._store._results(asked, self._raw, False, 1)]


def _span(item: Any) -> tuple[str, int | None, int | None]:
    if isinstance(item, str):
        return item, None, None
    name, start, stop = item
    return name, start, stop


def _failed(item: Any, error: Exception | None) -> Result:
    try:
        name, start, stop = _span(item)
    except (TypeError, ValueError):
        wrong = ConfigError(f"expected a name or (name, start, stop), found {item!r}")
        return Result(str(item), None, wrong)
    return Result(name, None, error, start, stop)


def _hash(content: bytes, alg: str) -> str:
    from ..base import hashes

    hasher = hashes.new(alg)
    hasher.update(content)
    return hasher.hexdigest()


class Watch:
    """Tells a progress callback of each object; draws if asked to.

    Parameters
    ----------
    items : iterable
        What is worked on; its length is the total, if it has one.
    """

    def __init__(self, progress: bool | Callback | None, items: Any = ()) -> None:
        self._callback: Callback | None
        if progress is True:
            from ..base.progress import view

            self._callback = view(True, len(items) if hasattr(items, "__len__") else 0)
        else:
            self._callback = progress or None

    def begun(self, name: str) -> None:
        """Tell that an object is in flight."""
        if self._callback is not None:
            from ..base.progress import START, Event

            self._callback(Event(name, START))

    def moved(self, name: str, done: int, size: int | None) -> None:
        """Tell how far an object is.

        Parameters
        ----------
        done : int
            Bytes so far.
        size : int or None
            Its bytes.
        """
        if self._callback is not None:
            from ..base.progress import BYTES, Event

            self._callback(Event(name, BYTES, done, size))

    def done(self, name: str, size: int, error: Exception | None) -> None:
        """Tell of one object.

        Parameters
        ----------
        size : int
            Its bytes.
        """
        if self._callback is not None:
            from ..base.progress import DONE, FAILED, Event

            self._callback(Event(name, DONE if error is None else FAILED, size, size))


def dl(
    addresses: str | Iterable[str],
    *,
    anonymous: bool | None = None,
    raw: bool = False,
    errors: str = "raise",
    progress: bool | Callback | None = None,
) -> Any:
    """Read objects by their full URLs, from any stores at once.

    Parameters
    ----------
    addresses : str or iterable of str
    anonymous, raw, errors, progress
        See `Store` and `Store.get`.

    Returns
    -------
    bytes, or list of Result
        In the order of the URLs, with these as names.
    """
    stores: dict[str, Store] = {}

    def read(address: str) -> Result:
        base, name = split(address)
        store = stores.get(base)
        if store is None:
            store = stores[base] = Store(base, anonymous=anonymous)
        result = store._get_one(name, raw)
        result.name = address
        return result

    if isinstance(addresses, str):
        return read(addresses).content
    from ..base.config import conf

    addresses = [*addresses]
    watch, results = Watch(progress, addresses), []
    threads = max(1, int(conf.connections))
    for address, result, error in pool.run(read, addresses, threads, ordered=True):
        found = result or Result(address, None, error)
        watch.done(address, len(found.content or b""), error)
        if error is not None and errors == "raise":
            raise error
        results.append(found)
    return results


def split(address: str) -> tuple[str, str]:
    """Cut the URL of an object into its folder's and its name there.

    Raises
    ------
    ConfigError
        The URL names a folder.
    """
    from urllib.parse import unquote

    head, _, query = (
        address.partition("?")
        if urls.scheme(address) in ("http", "https")
        else (
            address,
            "",
            "",
        )
    )
    base, slash, name = head.rpartition("/")
    if not slash or not name or base.endswith(":/"):
        raise ConfigError(f"{urls.redact(address)}: expected the URL of an object")
    if urls.scheme(address) in ("http", "https", "file"):
        name = unquote(name)
    return f"{base}/" + (f"?{query}" if query else ""), name


__all__ = ["BLOCK", "WHOLE", "IncompleteTransferError", "Result", "Store", "dl", "split"]
