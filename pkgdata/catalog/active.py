"""What definitions and resources share without importing one another.

That is the catalog at work, which `pkgdata.catalog.library` sets; the `Context` that definitions
are called with; the notes that decorators leave; and the downloads of a dataset.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ..base import fs, hashes
from ..base.config import cache_dir
from ..base.hashes import Digest
from ..cache.unpinned import UrlCache
from ..core.lookup import url_cache_root
from ..core.package import PackageData
from ..core.registry import Entry, Registry
from ..errors import BatchError, CatalogError, OfflineError
from . import objects, places

_current: ContextVar[Any] = ContextVar("pkgdata_catalog", default=None)

#: Python's parser of syntax trees is not safe in threads (CPython issue 106905).
_PARSING = threading.Lock()

#: The catalog of all that is installed; `library` sets it.
default: Any = None


def current() -> Any:
    """Return the catalog at work, by default that of all that is installed."""
    found = _current.get()
    return default if found is None else found


@contextlib.contextmanager
def using(catalog: Any) -> Iterator[None]:
    """Let a catalog and its data folder be those at work inside a ``with`` block."""
    with places.setting(_current, catalog), places.within(catalog.data):
        yield


class CachedFile:
    """A file that `Context.downloadURL` fetched; a context manager."""

    def __init__(self, path: Path, keep: bool = True) -> None:
        self.path = path
        self.keep = keep

    def __enter__(self) -> CachedFile:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.keep:
            drop(str(self.path))

    def force_delete(self) -> None:
        """Let the file be fetched again next time."""
        self.keep = False


class Context:
    """Where data are, what users set for them, and how files are fetched."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else places.root()

    @property
    def datapath(self) -> Path:
        """The folder of prepared datasets."""
        return self.path / "data"

    @property
    def cachepath(self) -> Path:
        """The folder of the user cache, where downloads are."""
        return Path(cache_dir()[0])

    @property
    def settings(self) -> places.UserSettings:
        """Data folders, and paths that the user gave."""
        return places.UserSettings(self.path)

    @property
    def running_test(self) -> bool:
        """Whether pytest runs: the user is not asked then."""
        return "PYTEST_CURRENT_TEST" in os.environ

    def downloadURL(self, url: str, size: int | None = None) -> CachedFile:
        """Fetch a file without a digest; its path is valid inside a ``with`` block."""
        return CachedFile(Path(file(url, size)))

    def dataset(self, name: str) -> Any:
        """Return a definition."""
        return current().find(name)

    def repositories(self) -> list[Any]:
        """Return the repositories."""
        found: list[Any] = current().repositories()
        return found

    def repository(self, name: str) -> Any:
        """Return a repository."""
        return current().repository(name)

    def datasets(self) -> list[Any]:
        """Return all definitions."""
        return [one for repository in self.repositories() for one in repository]


# -- what decorators leave -------------------------------------------------------------------------

#: Where decorators leave notes on what is not a definition yet.
ATTRIBUTE = "__pkgdata_notes__"


class Notes:
    """What decorators leave on a function, class or type; a dataset's are its `Definition`."""

    def __init__(self) -> None:
        self.tags: set[str] = set()
        self.tasks: set[str] = set()
        self.loose_resources: list[Any] = []

    def add_resource(self, resource: Any) -> None:
        """Keep a resource for the definition that is made later."""
        self.loose_resources.append(resource)


class Described(Notes):
    """A definition of this library or of datamaestro: what it stands for, and where."""

    id: str

    def __init__(self, target: Any, base: Any) -> None:
        super().__init__()
        self.target = target
        self.base = base

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def file(self) -> str | None:
        """The file that it stands in."""
        try:
            return inspect.getsourcefile(self.target)
        except TypeError:
            return None

    @property
    def line(self) -> int | None:
        """The line where it begins."""
        code = getattr(self.target, "__code__", None)
        if code is not None:
            return int(code.co_firstlineno)
        try:
            with _PARSING:
                return inspect.getsourcelines(self.target)[1]
        except (OSError, TypeError):
            return None

    @property
    def types(self) -> list[str]:
        """Names of the type of its data and of what that derives from."""
        return objects.type_names(self.base)


def of_class(target: Any) -> Any:
    """Return the definition that something is or has, or None."""
    if isinstance(target, Notes):
        return target
    attribute = "__dataset__" if isinstance(target, type) else "__datamaestro_dataset__"
    found = getattr(target, "__dict__", {}).get(attribute)
    return found if isinstance(found, Notes) else None


def notes_of(target: Any) -> Notes:
    """Return where tags, tasks and resources of something are kept."""
    found = of_class(target) or getattr(target, "__dict__", {}).get(ATTRIBUTE)
    if found is None:
        found = Notes()
        try:
            setattr(target, ATTRIBUTE, found)
        except (AttributeError, TypeError):
            raise CatalogError(
                f"{target!r} is neither a dataset nor a type, and cannot be annotated"
            ) from None
    notes: Notes = found
    return notes


def in_module(name: str) -> list[Any]:
    """Return the definitions that a loaded module makes, in order; not those that it imports."""
    found = map(of_class, vars(sys.modules[name]).values())
    return list(dict.fromkeys(one for one in found if one is not None and one.module == name))


# -- downloads ------------------------------------------------------------------------------------
# Each is an entry of a package's registry: a definition's files are fetched as any package's are,
# verified, resumed, locked, from mirrors in order, and through the site's folders
# (FOLDER/pkgdata.catalog/<repository>/<id as path>/<resource>/<file>). What has a digest stays in
# the cache; what has none is dropped once the prepared file is made.

#: The package whose files the catalog's downloads are.
PACKAGE = "pkgdata.catalog"

#: The package of the dataset that is being prepared: a cache that cannot be written to is replaced
#: by a temporary one for all its files together.
_package: ContextVar[PackageData | None] = ContextVar("pkgdata_catalog_package", default=None)


def basename(url: str) -> str:
    """Return the name of the file that an address ends in, ``""`` if it ends in none."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _clean(part: str) -> str:
    return re.sub(r"[^\w.+=@-]+", "_", part)


def _file_name(url: str) -> str:
    return _clean(basename(url)).strip("._") or "data"


def entry(
    resource: Any,
    urls: Sequence[str],
    digest: Digest | None,
    size: int | None = None,
    number: int | None = None,
) -> Entry:
    """Return the entry of a file; ``number`` distinguishes those of one resource."""
    owner = resource.owner
    parts = [owner.storage, *owner.id.split("."), resource.name]
    parts += [] if number is None else [str(number)]
    name = "/".join([*map(_clean, parts), _file_name(urls[0])])
    if fs.name_problem(name, everywhere=True) is not None:  # such as a device name of Windows
        name = "/".join(f"_{part}" for part in name.split("/"))
    return Entry(name, digest, size, tuple(urls))


@contextlib.contextmanager
def session(entries: Iterable[Entry]) -> Iterator[PackageData]:
    """Keep one package for all downloads of a dataset."""
    package = PackageData(PACKAGE, registry=Registry(entries))
    with places.setting(_package, package):
        yield package


def bring(dataset: str, entries: Sequence[Entry]) -> None:
    """Download several files at once; if only one fails, its own error is raised."""
    if not entries:
        return
    package = _package.get() or PackageData(PACKAGE, registry=Registry(entries))
    names = [one.name for one in entries]
    try:
        if len(names) == 1:
            package.get(names[0])
        else:
            package.fetch(names)
    except BatchError as error:
        failed = list(error.report.failed.values())
        offline = [one for one in failed if isinstance(one, OfflineError)]
        if offline:
            raise _offline(dataset, offline[0]) from None
        if len(failed) == 1:
            raise failed[0] from None
        raise
    except OfflineError as error:
        raise _offline(dataset, error) from None


def _offline(dataset: str, error: OfflineError) -> OfflineError:
    looked = "".join(error.message.partition("; looked in")[1:])
    return OfflineError(
        f"{dataset} is not prepared here and pkgdata is offline{looked}",
        hint=f"prepare it on a machine with network: pkgdata catalog prepare {dataset}; "
        "'pkgdata catalog copy' brings it here",
        name=error.name,
    )


class Download(NamedTuple):
    """Fetched bytes and the digest that pins them, if one does."""

    path: str
    digest: Digest | None

    def place(self, target: Path) -> None:
        """Give them a name at another place, which must be free: a link where possible."""
        if self.digest is None:
            os.rename(self.path, target)  # it is a name of our own, for this purpose
            return
        package = _package.get() or PackageData(PACKAGE)
        package.cache.share(self.path, str(target))

    def matches(self, digest: Digest) -> bool:
        """Return True if they have a digest."""
        return hashes.hash_file(self.path, digest.alg) == digest


@contextlib.contextmanager
def downloaded(one: Entry, folder: Path) -> Iterator[Download]:
    """Fetch the bytes of an entry, if they are not here, and give them inside a ``with`` block.

    What no digest pins is dropped afterwards, also after an error, so that the next attempt does
    not meet the same wrong bytes. The folder is on the disk of what is to be made, and only this
    process writes to it.
    """
    package = _package.get()
    if package is None or one.name not in package.registry:
        package = PackageData(PACKAGE, registry=Registry([one]))
    if one.digest is not None:
        yield Download(package.get(one.name), one.digest)
        return
    # another process may need the same address and drop it at any time; a name of our own keeps it
    own = os.path.join(folder, f"download-{os.urandom(4).hex()}")
    path = _held(package, one.name, own)
    try:
        yield Download(own, None)
    finally:
        fs.remove(own)
        drop(path)


def _held(package: PackageData, name: str, own: str, tries: int = 10) -> str:
    """Fetch a file and give it a second name; return the first."""
    while True:
        try:
            path = os.path.realpath(package.get(name))  # the file's own name may be a link
            (fs.link_or_copy if _in_cache(path) else fs.copy)(path, own)
            return path
        except FileNotFoundError:
            tries -= 1
            if not tries:
                raise


def _in_cache(path: str) -> UrlCache | None:
    """Return the cache of unpinned downloads if a path is there, and not in a site's folder."""
    cache = UrlCache(url_cache_root(PACKAGE))
    above = os.path.dirname(os.path.dirname(path))
    return cache if above == os.path.realpath(cache.folder) else None


def drop(path: str) -> None:
    """Remove a download that no digest pins from the cache; one of a site's folder stays."""
    path = os.path.realpath(path)
    cache = _in_cache(path)
    if cache is not None:
        cache.remove(os.path.dirname(path))


def file(url: str, size: int | None = None) -> str:
    """Fetch a file without a digest that belongs to no resource; return its path in the cache."""
    name = _file_name(url)
    package = PackageData(PACKAGE, registry=Registry([Entry(f"url/{name}", None, size, (url,))]))
    return package.get(f"url/{name}")
