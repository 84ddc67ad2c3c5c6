"""Adopt what astropy downloaded, without downloading it again.

Astropy's cache is read where it lies, so that mostly nothing needs to be done. What is adopted here
are the files of a package that meanwhile pins them by digests, and all of a cache whose place was
changed. The originals stay.
"""

from __future__ import annotations

import os

from . import cachedirs, hashes, urls
from .errors import IntegrityError
from .stores import canonical
from .urlcache import UrlCache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .package import PackageData
    from .registry import Entry


class Adopted:
    """One file that was taken over.

    Parameters
    ----------
    name : str
        In the registry; a URL if no package was named.
    source : str
        Path in astropy's cache.
    path : str or None
        Path in ours; None in a dry run.
    """

    __slots__ = ("name", "path", "source")

    def __init__(self, name: str, source: str, path: str | None) -> None:
        self.name = name
        self.source = source
        self.path = path

    def __repr__(self) -> str:
        return f"<Adopted {self.name}: {self.source}>"


def migrate_astropy(
    data: PackageData | None = None,
    *,
    pkgname: str = "astropy",
    source: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> list[Adopted]:
    """Take over what lies in astropy's cache. No network is used.

    Parameters
    ----------
    data : PackageData, optional
        Take over what its registry names and what is not here yet: files that were downloaded from
        one of its URLs, and any file with the right digest. Without it, all downloads are taken
        over into the cache of the same package name, if that is another folder.
    pkgname : str, default ``"astropy"``
        Whose downloads are looked through.
    source : path-like, optional
        The folder with ``download/url`` in it; where astropy looks, by default.
    dry_run : bool, default False
        Only list.

    Returns
    -------
    list of Adopted

    Raises
    ------
    CacheError
        Our cache cannot be used.
    """
    root = cachedirs.astropys_root(pkgname) if source is None else os.fspath(source)
    theirs = UrlCache(os.path.abspath(root))
    if not os.path.isdir(theirs.folder):
        return []
    if data is None:
        return list(_all(theirs, UrlCache(os.path.abspath(cachedirs.root_of(pkgname))), dry_run))
    search = _Search(theirs)
    missing = [data.registry[name] for name in data.registry if data.find(name) is None]
    found = (_one(data, entry, search, dry_run) for entry in missing)
    return [one for one in found if one is not None]


def _all(theirs: UrlCache, ours: UrlCache, dry_run: bool) -> Iterator[Adopted]:
    if os.path.realpath(theirs.folder) == os.path.realpath(ours.folder):
        return
    for url, path in theirs.entries():
        if ours.find(url) is None:
            yield Adopted(url, path, None if dry_run else ours.put(url, path, replace=False))


def _one(data: PackageData, entry: Entry, search: _Search, dry_run: bool) -> Adopted | None:
    addresses = list(_urls_of(data, entry))
    if entry.digest is None:
        path = search.by_url(addresses)
        if path is None:
            return None
        if dry_run:
            return Adopted(entry.name, path, None)
        return Adopted(entry.name, path, _put_unpinned(data, addresses[0], path))
    for path in search.candidates(addresses, entry):
        if search.digest(path, entry.digest.alg) != entry.digest:
            continue
        if dry_run:
            return Adopted(entry.name, path, None)
        try:
            kept = data.cache.add(path, entry.digest, entry.name, entry.size)
        except IntegrityError:
            continue  # it changed just now
        return Adopted(entry.name, path, kept)
    return None


def _put_unpinned(data: PackageData, url: str, path: str) -> str:
    ours: UrlCache = data._url_cache()
    return ours.put(url, path, replace=False)


def _urls_of(data: PackageData, entry: Entry) -> Iterator[str]:
    """Yield the URLs that an entry may have been downloaded from."""
    yield from entry.urls
    for base in data.dataurl:
        values = {"version": data.version if "{version}" in base else None, "package": data.name}
        yield urls.join(canonical(urls.expand(base, values)), entry.name)


class _Search:
    """Looks through a cache; hashes a file once for each algorithm, and only if it may fit."""

    def __init__(self, cache: UrlCache) -> None:
        self._cache = cache
        self._sizes = {path: os.path.getsize(path) for _, path in cache.entries()}
        self._digests: dict[tuple[str, str], hashes.Digest] = {}

    def by_url(self, addresses: list[str]) -> str | None:
        found = (self._cache.find(url) for url in addresses)
        return next((path for path in found if path is not None), None)

    def candidates(self, addresses: list[str], entry: Entry) -> Iterator[str]:
        """Yield files that may be an entry's, the likeliest first."""
        first = self.by_url(addresses)
        if first is not None:
            yield first
        for path, size in self._sizes.items():
            if path != first and entry.size in (None, size):
                yield path

    def digest(self, path: str, alg: str) -> hashes.Digest:
        key = (path, alg)
        if key not in self._digests:
            self._digests[key] = hashes.hash_file(path, alg)
        return self._digests[key]
