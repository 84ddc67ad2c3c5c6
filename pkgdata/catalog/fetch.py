"""From a resource to the engine: what is downloaded is an entry of a package's registry.

So a definition's files are fetched as any package's are: verified while they come, resumed, locked,
from mirrors in order, under the rules of offline mode, and through the site's folders
(``FOLDER/pkgdata.catalog/<repository>/<id as path>/<resource>/<file>``). What a digest pins lies
in the cache by its digest and stays there; what none pins is dropped once the prepared file is
made, so that it is fetched anew when somebody asks for it again.
"""

from __future__ import annotations

import contextlib
import os
import re
from contextvars import ContextVar

from ..base import fs, hashes
from ..core.package import PackageData, url_cache_root
from ..core.registry import Entry, Registry
from ..errors import BatchError, OfflineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from ..base.hashes import Digest
    from ..cache.unpinned import UrlCache
    from .resources.base import Resource

#: The package whose files the catalog's downloads are.
PACKAGE = "pkgdata.catalog"

#: The package of the dataset that is being prepared: a cache that cannot be written to is replaced
#: by a temporary one for all its files together.
_package: ContextVar[PackageData | None] = ContextVar("pkgdata_catalog_package", default=None)


def basename(url: str) -> str:
    """Return the name of the file that an address ends in.

    Returns
    -------
    str
        ``""`` if it ends in none.
    """
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(url).path).rpartition("/")[2]


def entry(
    resource: Resource,
    urls: Sequence[str],
    digest: Digest | None,
    size: int | None = None,
    number: int | None = None,
) -> Entry:
    """Return what the engine is asked for.

    Parameters
    ----------
    urls : sequence of str
        Addresses of the same bytes, in order.
    number : int, optional
        Tells the files of one resource apart.
    """
    owner = resource.owner
    file = re.sub(r"[^\w.+=@-]+", "_", basename(urls[0])).strip("._") or "data"
    parts = [owner.storage, *owner.id.split("."), resource.name]
    parts += [] if number is None else [str(number)]
    name = "/".join(re.sub(r"[^\w.+=@-]+", "_", part) for part in [*parts, file])
    if fs.name_problem(name) is not None:  # such as a device name of Windows
        name = "/".join(f"_{part}" for part in name.split("/"))
    return Entry(name, digest, size, tuple(urls))


@contextlib.contextmanager
def session(entries: Iterable[Entry]) -> Iterator[PackageData]:
    """Keep one package for all downloads of a dataset."""
    package = PackageData(PACKAGE, registry=Registry(entries))
    token = _package.set(package)
    try:
        yield package
    finally:
        _package.reset(token)


def bring(dataset: str, entries: Sequence[Entry]) -> None:
    """Download what is not here, several at once.

    Parameters
    ----------
    dataset : str
        For errors.

    Raises
    ------
    OfflineError
        Something is missing and the network may not be used.
    BatchError
        Several could not be fetched. If it is one alone, its own error.
    """
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


class Download:
    """Bytes that came.

    Parameters
    ----------
    digest : Digest or None
        What pins them.
    """

    def __init__(self, path: str, digest: Digest | None) -> None:
        self.path = path
        self.digest = digest

    def place(self, target: Path) -> None:
        """Give them a name at another place: a link where possible, else a copy.

        Parameters
        ----------
        target : Path
            Must not exist.
        """
        if self.digest is None:
            os.rename(self.path, target)  # it is a name of our own, for this purpose
            return
        package = _package.get() or PackageData(PACKAGE)
        package.cache.share(self.path, str(target))

    def matches(self, digest: Digest) -> bool:
        """Say whether they have a digest."""
        return hashes.hash_file(self.path, digest.alg) == digest


@contextlib.contextmanager
def downloaded(one: Entry, folder: Path) -> Iterator[Download]:
    """Give the bytes of an entry, fetched if they are not here.

    When the block ends, well or badly, what no digest pins is dropped: the next attempt shall not
    meet the same wrong bytes.

    Parameters
    ----------
    folder : Path
        Nobody else writes to it, and it is on the disk of what is to be made.
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
        path = package.get(name)
        try:
            (fs.link_or_copy if _in_cache(path) else fs.copy)(path, own)
            return path
        except FileNotFoundError:
            tries -= 1
            if not tries:
                raise


def _in_cache(path: str) -> UrlCache | None:
    """Return the cache of unpinned downloads if a path lies there, and not in a site's folder."""
    from ..cache.unpinned import UrlCache

    cache = UrlCache(url_cache_root(PACKAGE))
    return cache if os.path.dirname(os.path.dirname(path)) == cache.folder else None


def drop(path: str) -> None:
    """Remove a download that no digest pins from the cache; one of a site's folder stays."""
    cache = _in_cache(path)
    if cache is not None:
        cache.remove(os.path.dirname(path))


def file(url: str, size: int | None = None) -> str:
    """Fetch a file that no digest pins and that belongs to no resource.

    Returns
    -------
    str
        Its path in the cache.
    """
    name = re.sub(r"[^\w.+=@-]+", "_", basename(url)).strip("._") or "data"
    package = PackageData(PACKAGE, registry=Registry([Entry(f"url/{name}", None, size, (url,))]))
    return package.get(f"url/{name}")
