"""Adopt what astropy or pooch downloaded, without downloading it again.

Both caches are read where they are by the names of the two libraries (`pkgdata.download_file`,
`pkgdata.compat.pooch`), so that a changed import line needs none of this. It is for a package that
starts to pin its files by `pkgdata.declare`, and for astropy's downloads when the place of the
cache was changed. The originals stay.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

from ..base import hashes, urls
from ..cache import unpinned_dirs
from ..cache.unpinned import UrlCache
from ..errors import IntegrityError
from ..stores import canonical
from .pooch.basics import os_cache, unique_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ..core.package import PackageData
    from ..core.registry import Entry


class Adopted(NamedTuple):
    """One file that was taken over."""

    #: In the registry; a URL if no package was named.
    name: str
    #: Path in the other library's cache.
    source: str
    #: Path in ours; None in a dry run.
    path: str | None


def migrate_astropy(
    data: PackageData | None = None,
    *,
    pkgname: str = "astropy",
    source: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> list[Adopted]:
    """Adopt what is in astropy's cache, or list it in a dry run. No network is used.

    With ``data``, that is what its registry names and what is not here yet: files that came from
    one of its URLs, and any file with the right digest. Without it, that is all downloads of
    ``pkgname``, into our cache of the same name if that is another folder. ``source`` is the
    folder with ``download/url`` in it; where astropy looks, by default.
    """
    root = unpinned_dirs.astropys_root(pkgname) if source is None else os.fspath(source)
    theirs = UrlCache(os.path.abspath(root))
    if not os.path.isdir(theirs.folder):
        return []
    if data is None:
        return list(
            _all(theirs, UrlCache(os.path.abspath(unpinned_dirs.root_of(pkgname))), dry_run)
        )
    return _missing(data, _Downloads(theirs), dry_run)


def migrate_pooch(
    data: PackageData, *, source: str | os.PathLike[str] | None = None, dry_run: bool = False
) -> list[Adopted]:
    """Adopt what is in a folder of pooch's, or list it in a dry run. No network is used.

    That is what the registry names and what is not here yet: files of that name, in the folder or
    in that of a version below it, and what ``pooch.retrieve`` fetched from its URLs. For a name
    without a digest only this version's file is accepted. ``source`` is pooch's ``path``; what
    ``pooch.os_cache`` returns for the package's name, by default.
    """
    folder = os.path.abspath(os.fspath(os_cache(data.name) if source is None else source))
    return _missing(data, _Storage(folder, data), dry_run)


# -- what is missing -----------------------------------------------------------------------------


def _missing(data: PackageData, search: _Downloads | _Storage, dry_run: bool) -> list[Adopted]:
    """Adopt the files of a registry that are not here; each file is hashed once."""
    digest_of = functools.cache(_digest_of)
    missing = [data.registry[name] for name in data.registry if data.find(name) is None]
    found = (_one(data, entry, search, digest_of, dry_run) for entry in missing)
    return [one for one in found if one is not None]


def _one(
    data: PackageData,
    entry: Entry,
    search: _Downloads | _Storage,
    digest_of: Callable[[str, str], hashes.Digest | None],
    dry_run: bool,
) -> Adopted | None:
    addresses = list(_urls_of(data, entry))
    for path in search.candidates(entry, addresses):
        if entry.digest is None:
            kept = None
            if not dry_run:
                cache = data._settings.url_cache
                cache.put(addresses[0], path, replace=False)
                kept = cache.named(addresses[0], entry.name)
            return Adopted(entry.name, path, kept)
        if digest_of(path, entry.digest.alg) != entry.digest:
            continue
        try:
            kept = None
            if not dry_run:  # never into a cache that ends with this program
                ours = data._settings.user_cache
                kept = ours.add(path, entry.digest, entry.name, entry.size)
        except IntegrityError:
            continue  # it changed just now
        return Adopted(entry.name, path, kept)
    return None


def _urls_of(data: PackageData, entry: Entry) -> Iterator[str]:
    """Yield the URLs that an entry may have been downloaded from."""
    yield from entry.urls
    for base in data.dataurl:
        values = {"version": data.version if "{version}" in base else None, "package": data.name}
        yield urls.join(canonical(urls.expand(base, values)), entry.name)


def _digest_of(path: str, alg: str) -> hashes.Digest | None:
    """Return the digest of a file; None if it cannot be read."""
    try:
        return hashes.hash_file(path, alg)
    except OSError:
        return None  # another user's, or it was removed just now


# -- where it may be -----------------------------------------------------------------------------


def _all(theirs: UrlCache, ours: UrlCache, dry_run: bool) -> Iterator[Adopted]:
    if os.path.realpath(theirs.folder) == os.path.realpath(ours.folder):
        return
    for url, path in theirs.entries():
        if ours.find(url) is None:
            yield Adopted(url, path, None if dry_run else ours.put(url, path, replace=False))


class _Downloads:
    """Looks through a cache of astropy's, by URL and by digest."""

    def __init__(self, cache: UrlCache) -> None:
        self._cache = cache
        self._sizes = dict(_sized(path for _, path in cache.entries()))

    def candidates(self, entry: Entry, addresses: list[str]) -> Iterator[str]:
        """Yield files that may be an entry's, the likeliest first."""
        named = (self._cache.find(url) for url in addresses)
        first = next((path for path in named if path is not None), None)
        if first is not None:
            yield first
        if entry.digest is not None:  # nothing else shows what another URL's bytes are
            for path, size in self._sizes.items():
                if path != first and entry.size in (None, size):
                    yield path


class _Storage:
    """Looks through a folder of pooch's, by name and by URL."""

    def __init__(self, folder: str, data: PackageData) -> None:
        self._folder = folder
        self._data = data
        try:
            with os.scandir(folder) as found:
                self._versions = sorted((one.name for one in found if one.is_dir()), reverse=True)
        except OSError:
            self._versions = []

    def candidates(self, entry: Entry, addresses: list[str]) -> Iterator[str]:
        """Yield files that may be an entry's, the likeliest first."""
        versions = self._versions
        if entry.digest is None:
            # nothing would show that another version's file is not the right one
            own = self._data.version
            versions = [one for one in versions if own and one in (own, f"v{own}")]
        below = [self._folder, *(os.path.join(self._folder, version) for version in versions)]
        paths = [os.path.join(folder, *entry.name.split("/")) for folder in below]
        paths += [os.path.join(self._folder, unique_name(url)) for url in addresses]
        for path, size in _sized(path for path in paths if os.path.isfile(path)):
            if entry.size in (None, size):
                yield path


def _sized(paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield each file that is still there with its size."""
    for path in paths:
        try:
            yield path, os.path.getsize(path)
        except OSError:
            pass  # removed just now
