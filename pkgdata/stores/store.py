"""`Store`: one or many objects at a time, on the primitives that each driver provides.

What is done for many at once runs in threads (``threads``, by default the setting
``connections``), and in worker processes too when ``parallel`` asks for them. Transient failures
are retried (setting ``retries``).
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from ..base import pool, urls
from ..base.config import conf
from ..base.progress import Callback, ended, view
from ..base.report import InNotebook, Report, each_name, one_name, plain_name
from ..errors import ConfigError, ObjectExistsError
from . import copying, naming, writing
from .objects import Attributes, Result
from .reading import Get, ReadableStore

Content = bytes | bytearray | memoryview | os.PathLike[str] | Any


class Store(InNotebook, ReadableStore):
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

    def __new__(cls, url: str | os.PathLike[str] = "", **options: Any) -> Store:
        if cls is Store:
            cls = naming.find(os.fspath(url))
        return object.__new__(cls)

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
        content_disposition: str | None = None,
        content_language: str | None = None,
        tags: Mapping[str, str] | None = None,
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
        content_disposition, content_language, tags
            See `Attributes`.

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
        kept = Attributes(
            content_type, encoding, cache_control, storage_class, metadata, public,
            content_disposition=content_disposition, content_language=content_language, tags=tags,
        )  # fmt: skip
        put = writing.Put(self, kept, compress, level, if_absent)
        name = one_name(names)
        if name is not None:
            if content is None:
                raise ConfigError(f"put({name!r}): no content")
            put.one(name, content)
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
        options = {"content_type": "application/json", **options}
        import json  # few need it, and its import takes as long as opening a folder

        if one_name(names) is not None:
            return self.put(names, json.dumps(value).encode(), **options)
        return self.put(((name, json.dumps(value).encode()) for name, value in names), **options)

    def touch(self, names: str | Iterable[str]) -> None:
        """Make empty objects where there are none; others stay as they are.

        Parameters
        ----------
        names : str or iterable of str
        """
        put = writing.Put(self, Attributes(), if_absent=True)

        def make(name: str) -> None:
            with contextlib.suppress(ObjectExistsError):  # that it is there is all that was asked
                put.one(name, b"")

        deque(self._each(make, names), 0)

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
        name = one_name(names)
        if name is None:
            self.remove_many(each_name(names))
        else:
            self.trying(lambda: self.remove(name))

    def remove_many(self, names: Iterable[str]) -> None:
        """Remove many objects; a primitive for `delete` where the service has bulk requests.

        Parameters
        ----------
        names : iterable of str
        """
        deque(self._each(lambda name: self.trying(lambda: self.remove(name)), names), 0)

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
        copying.AS_IT_IS.copy(self, plain_name(name), to or self, plain_name(new_name))

    def move(self, name: str, new_name: str, to: Store | None = None) -> None:
        """Copy an object, then remove the original; it stays where its tags would be lost.

        Parameters
        ----------
        name : str
        new_name : str
        to : Store, optional
            This store by default.
        """
        to, name, new_name = to or self, plain_name(name), plain_name(new_name)
        if self.same(name, to, new_name):
            return  # removing the original would remove the copy
        copying.Recipe(strict=True).copy(self, name, to, new_name)
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
        on: Any = None,
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
            Path of a file that records what is done. It lets an interrupted call be resumed, and
            several processes that name the same file share the work.
        progress : bool or callable, optional
            See `get`.
        on : dask.distributed.Client, concurrent.futures.Executor or the module ray, optional
            Whose workers make the copies, with their own credentials. The stores must be reached
            from their machines.

        Returns
        -------
        Report
            With ``on``, ``hosts`` has what each machine copied.

        Raises
        ------
        BatchError
            Some objects could not be copied; ``error.report.retry()`` retries these.
        ConfigError
            With ``on``: a store is in this process or on this machine alone, or holds secrets.
        """
        to = Store(to) if isinstance(to, (str, os.PathLike)) else to
        recipe = copying.Recipe(reencode, level, replace)
        return copying.transfer(self, to, names, recipe, job, progress, on)

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
        source = Store(source) if isinstance(source, (str, os.PathLike)) else source
        return source.transfer_to(self, *args, **options)

    # -- sugar ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return self.list()

    def __contains__(self, name: object) -> bool:
        return one_name(name) is not None and bool(self.exists(name))

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
        elif one_name(key) is not None:
            self.put(key, value)
        else:
            raise ConfigError("store[name] = content, or store[:] = another store")

    def __delitem__(self, key: str | Iterable[str]) -> None:
        self.delete(key)


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
        return Get(store, raw).one(name)._replace(name=address)

    address = one_name(addresses)
    if address is not None:
        return read(address).content
    addresses, results = [*each_name(addresses)], []
    show = view(progress, len(addresses))
    threads = max(1, int(conf.connections))
    for address, result, error in pool.run(read, addresses, threads, ordered=True):
        found = result or Result(address, None, error)
        show(ended(address, len(found.content or b""), error))
        if error is not None and errors == "raise":
            raise error
        results.append(found)
    return results


def split(address: str) -> tuple[str, str]:
    """Cut the URL of an object into its folder's and its name there."""
    kind = urls.scheme(address)
    head, _, query = address.partition("?") if kind in ("http", "https") else (address, "", "")
    base, slash, name = head.rpartition("/")
    if not slash or not name or base.endswith(":/"):
        raise ConfigError(f"{urls.redact(address)}: expected the URL of an object")
    if kind in ("http", "https", "file"):
        name = unquote(name)
    return f"{base}/" + (f"?{query}" if query else ""), name
