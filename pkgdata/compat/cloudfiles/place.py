"""What a `CloudFiles` is made with: its arguments, the store of its cloudpath, and credentials.

A folder has no place for a ``Content-Encoding``: there cloud-files, like `pkgdata.stores.file`,
keeps a compressed object in a file with a suffix. It lists such files without the suffix, and does
not append it to a name that has it already.
"""

from __future__ import annotations

import functools
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote

from ...base import pool
from ...base.progress import Bar
from ...base.report import parse_json
from ...base.urls import redact
from ...errors import AccessDeniedError, ConfigError, ObjectNotFoundError
from ...stores import Info, Store, codecs
from ...stores.file import FileStore
from ...stores.naming import read_secrets
from ...stores.reading import Get
from . import compression
from . import paths as paths_
from .exceptions import UnsupportedProtocolError
from .monitor import bar_of
from .paths import ExtractedPath

R = TypeVar("R")

_WEB = ("http", "https")
_PROTOCOLS = ("file", "gs", "s3", "az", "mem", *_WEB)

#: Google's public web addresses name the bucket, which can be listed.
_GOOGLE = "https://storage.googleapis.com"


class Arguments:
    """The arguments of a `CloudFiles`, which describes them, and what follows from its path."""

    def __init__(
        self,
        cloudpath: str,
        *,
        progress: Any = False,
        green: bool | None = None,
        secrets: Any = None,
        num_threads: int = 20,
        use_https: bool = False,
        endpoint: str | None = None,
        parallel: Any = 1,
        request_payer: str | None = None,
        locking: bool | None = None,
        lock_dir: str | None = None,
        composite_upload_threshold: int = 100_000_000,
        no_sign_request: bool = False,
    ) -> None:
        if use_https:
            cloudpath = paths_.to_https_protocol(cloudpath)
        self.cloudpath = paths_.normalize(paths_.refuse_unknown(os.fspath(cloudpath)))
        self.progress = progress
        self.green = green
        self.secrets = secrets
        self.parallel = int(parallel)
        self.request_payer = request_payer
        self.locking = locking
        self.lock_dir = lock_dir
        self.composite_upload_threshold = composite_upload_threshold
        self.no_sign_request = bool(no_sign_request)
        self._path = paths_.extract(self.cloudpath)
        if endpoint:
            self._path = self._path._replace(host=endpoint)
        self.num_threads = 0 if self.protocol == "mem" else num_threads
        self._check_payer()
        self.place = self._place()

    def _check_payer(self) -> None:
        payer, protocol = self.request_payer, self.protocol
        if payer is None or protocol == "gs" or (protocol == "s3" and payer == "requester"):
            return
        expected = "'requester' or None" if protocol == "s3" else "None"
        raise ConfigError(f"request_payer: expected {expected} for {protocol}, found {payer!r}")

    def _place(self) -> CloudPlace:
        return CloudPlace(
            self._path, self.secrets, self.request_payer, self.no_sign_request, self.threads
        )

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "place"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.place = self._place()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redact(self.cloudpath)}>"

    @property
    def protocol(self) -> str:
        """``"file"``, ``"gs"``, ``"s3"``, ``"az"``, ``"http"``, ``"https"`` or ``"mem"``."""
        return self._path.protocol

    @property
    def threads(self) -> int:
        """Requests at once, at least 1."""
        return max(1, self.num_threads)

    @property
    def _readers(self) -> int:
        return 1 if self.protocol in ("file", "mem") else self.threads

    @property
    def _writers(self) -> int:
        """Threads that write, within the store's bulk context."""
        if self.protocol not in ("file", "mem") or self.place.syncs():
            return self.threads
        # 4 KB files per second on a local disk: 4,600 by one thread, 2,700 by two, 900 by twenty,
        # which wait for the interpreter; two still hide some of the latency of a network's disk
        return min(2, self.threads)

    def clear_locks(self) -> None:
        """Do nothing: there are no lock files."""

    # -- many at once --------------------------------------------------------------------------

    def _bar(self, title: str, progress: Any, items: Any, total: int | None = None) -> Bar:
        progress = self.progress if progress is None else progress
        if progress is True and isinstance(self.progress, str):
            progress = self.progress
        return bar_of(progress, title, items, total)

    def _processes(self, parallel: Any) -> int:
        count = int(self.parallel if parallel is None else parallel)
        if count < 0:
            raise ConfigError(f"parallel must be >= 0. Got: {parallel}")
        if self.protocol == "mem":
            return 1  # other processes have other memory
        return count or os.cpu_count() or 1

    def _spread(
        self, method: str, items: Any, processes: int, bar: Bar, **options: Any
    ) -> list[Any]:
        """Call a method for all items in worker processes; return one result for each item."""
        results = []
        part = functools.partial(_part, self, method, options)
        for result in pool.spread(part, items, processes):
            bar.update(1)
            results.append(result)
        return results

    # -- names ---------------------------------------------------------------------------------

    @property
    def _module(self) -> Any:
        return os.path if self.protocol == "file" else posixpath

    @property
    def sep(self) -> str:
        """What stands between the parts of a path."""
        return str(self._module.sep)

    def abspath(self, path: str) -> str:
        """Return the cloudpath of an object.

        Parameters
        ----------
        path : str
            Its name.

        Returns
        -------
        str
        """
        return self.sep.join((paths_.asprotocolpath(self._path), path))

    def join(self, *paths: str) -> str:
        """Join parts of a path.

        Parameters
        ----------
        *paths : str

        Returns
        -------
        str
        """
        return str(self._module.join(*paths)) if paths else ""

    def dirname(self, path: str) -> str:
        """Return what is before the last slash.

        Parameters
        ----------
        path : str

        Returns
        -------
        str
        """
        return str(self._module.dirname(path))

    def basename(self, path: str) -> str:
        """Return what is behind the last slash.

        Parameters
        ----------
        path : str

        Returns
        -------
        str
        """
        return str(self._module.basename(path))


def each(
    function: Callable[[Any], R], items: Iterable[Any], threads: int, bar: Bar
) -> Iterator[tuple[Any, R]]:
    """Yield items with a function's results in the order of the items; the first error ends it."""
    for found in pool.each(function, items, threads, ordered=True):
        bar.update(1)
        yield found


def _part(target: Any, method: str, options: dict[str, Any], items: list[Any]) -> list[Any]:
    """Do a worker process's part; some methods return only how many items they did."""
    found = getattr(target, method)(items, parallel=1, **options)
    return found if isinstance(found, list) else [None] * len(items)


class CloudPlace:
    """The store of a cloudpath."""

    def __init__(
        self,
        path: ExtractedPath,
        secrets: Any,
        request_payer: str | None,
        anonymous: bool,
        threads: int,
    ) -> None:
        self.path = path
        self.protocol = path.protocol
        self.web = path.protocol in _WEB
        #: What stands before each name: in memory all objects of a bucket lie together.
        self.prefix = ""
        if self.protocol == "mem" and path.path:
            self.prefix = f"{path.path.rstrip('/')}/"
        options = _options(path, secrets, anonymous)
        if request_payer is not None:
            options["request_payer"] = request_payer
        self.store = Store(_url(path, options), threads=threads, **options)

    def key(self, name: str) -> str:
        """Return the store's name of an object."""
        return self.prefix + name

    def target(self, name: str, encoding: str | None) -> str:
        """Return the store's name of an object to be written."""
        suffix = codecs.SUFFIXES.get(encoding or "")
        if self.protocol == "file" and suffix and posixpath.splitext(name)[1] == suffix:
            name = name[: -len(suffix)]
        return self.key(name)

    def read(
        self, name: str, start: int | None, end: int | None
    ) -> tuple[bytes | None, str | None]:
        """Return an object's stored bytes and their encoding; None if there is no such object."""
        first, last = (None if one is None else int(one) for one in (start, end))
        found = self._unless_missing(
            lambda: Get(self.store, True).one((self.key(name), first, last))
        )
        if found is None:
            return None, None
        words = (found.encoding or "").split(",")
        encoding = ",".join(word for word in words if word.strip() != "aws-chunked")
        return found.content, encoding or ("" if self.protocol == "s3" else None)

    def _unless_missing(self, ask: Callable[[], R]) -> R | None:
        try:
            return ask()
        except ObjectNotFoundError:
            return None
        except AccessDeniedError:
            # what a bucket answers about a missing object to those who may not list it
            if self.web:
                return None
            raise

    def write(
        self, name: str, content: Any, encoding: Any, raw: bool, level: Any, **kept: Any
    ) -> int:
        """Write an object, compressed already if `raw`; return its bytes as far as known."""
        encoding = compression.canonical(encoding)
        if isinstance(content, str):
            content = content.encode()
        elif not hasattr(content, "read") and not isinstance(content, os.PathLike):
            content = memoryview(content).cast("B") if len(content) else b""
        options = {"encoding": encoding}
        if not raw:
            options = {"compress": encoding, "level": compression.level_of(encoding, level)}
        self.store.put(self.target(name, encoding), content, **options, **kept)
        return len(content) if hasattr(content, "__len__") else 0

    def info(self, name: str) -> Info | None:
        """Return what is known of an object; None if it is not there."""
        return self._unless_missing(
            lambda: self.store.trying(lambda: self.store.info(self.key(name)))
        )

    def syncs(self) -> bool:
        """Return True if each file is synced by itself, which several threads wait for at once."""
        return isinstance(self.store, FileStore) and self.store._syncs()

    def local(self, name: str) -> str:
        """Return the path of what is in a folder."""
        return os.path.join(self.path.path or os.sep, name)

    def rows(self, prefix: str, flat: bool) -> Iterator[tuple[str, int]]:
        """List names and sizes."""
        found = self._rows(prefix, flat)
        if self.protocol == "file":
            if flat and prefix and not prefix.endswith("/") and os.path.isdir(self.local(prefix)):
                found = self._rows(f"{prefix}/", flat)
            # without their suffixes names have another order
            yield from sorted((_bare(name), size) for name, size in found)
            return
        if flat and prefix and not prefix.endswith("/"):
            head = [row for _, row in zip(range(2), found, strict=False)]
            if [name for name, _ in head] == [f"{prefix}/"]:
                yield from self._rows(f"{prefix}/", flat)
                return
            yield from head
        yield from found

    def _rows(self, prefix: str, flat: bool) -> Iterator[tuple[str, int]]:
        store = self.store
        if self.web and self.path.host == _GOOGLE:
            store = Store(f"gs://{self.path.path}", anonymous=True)
        for key, info in store.scan(self.prefix + prefix, flat):
            name = key[len(self.prefix) :]
            # some tools make empty objects that stand for folders
            if name and (flat or not name.endswith("/")):
                yield name, info.size or 0


def _bare(name: str) -> str:
    base, suffix = posixpath.splitext(name)
    return base if suffix in codecs.SUFFIXES.values() else name


def _url(path: ExtractedPath, options: dict[str, Any]) -> str:
    if path.protocol not in _PROTOCOLS:
        raise UnsupportedProtocolError(
            f"{path.protocol}: only {', '.join(_PROTOCOLS)} are supported",
            hint="log in to a web server by secrets={'user': ..., 'password': ...} or ~/.netrc",
        )
    if path.protocol == "file":
        return path.path or os.sep
    if path.protocol == "mem":
        return f"mem://{path.bucket}"
    if path.protocol in _WEB:
        scheme, _, host = (path.host or "").partition("://")
        return f"{scheme}://{options.pop('login', '')}{host}/{path.path}"
    if path.host:
        options["endpoint"] = path.host
    return f"{path.protocol}://{path.bucket}/{path.path}"


# -- credentials ---------------------------------------------------------------------------------


def _options(path: ExtractedPath, secrets: Any, anonymous: bool) -> dict[str, Any]:
    """Return a store's options for credentials in cloud-files' words."""
    if path.protocol in ("file", "mem"):
        return {}
    if anonymous and path.protocol == "s3":
        return {"anonymous": True}
    found = _read(secrets) if secrets else _from_files(path)
    if path.protocol in _WEB:
        if "user" not in found or "password" not in found:
            return {}
        return {"login": f"{quote(found['user'], safe='')}:{quote(found['password'], safe='')}@"}
    region = found.pop("AWS_DEFAULT_REGION", None)
    options = {"region": region} if region and path.protocol == "s3" else {}
    if path.protocol == "s3" and not any("access_key_id" in key.lower() for key in found):
        return options  # a region alone: the keys are wherever Amazon's own tools look
    return {**options, "secrets": found} if found else options


def _read(secrets: Any) -> dict[str, Any]:
    """Read a mapping, the text of a JSON object, or the path of a file with one."""
    if isinstance(secrets, str) and secrets.lstrip().startswith("{"):
        return dict(parse_json(secrets, lambda _: ConfigError("secrets: the text is not JSON")))
    if isinstance(secrets, (str, os.PathLike)):
        # the names of Amazon's settings are in capitals, those of a service account are not
        words = {"aws_default_region": "AWS_DEFAULT_REGION"}
        return {words.get(key, key): value for key, value in read_secrets(str(secrets)).items()}
    return dict(secrets)


def _from_files(path: ExtractedPath) -> dict[str, Any]:
    """Look where cloud-files keeps credentials: a file for the bucket, else one for the service."""
    service = path.alias or {"s3": "aws", "gs": "google", "az": "azure"}.get(path.protocol, "http")
    names = [f"{path.bucket}-{service}-secret.json"] if path.bucket else []
    homes = [
        os.environ.get("CLOUD_VOLUME_DIR") or os.path.expanduser("~/.cloudvolume"),
        os.environ.get("CLOUD_FILES_DIR") or os.path.expanduser("~/.cloudfiles"),
    ]
    for name in (*names, f"{service}-secret.json"):
        for home in homes:
            file = os.path.join(home, "secrets", name)
            if os.path.isfile(file):
                return _read(file)
    return {}
