"""Adopt what pooch downloaded, without downloading it again.

`pkgdata.compat.pooch` reads pooch's files where they lie, so that a change of the import line needs
none of this. It is for a package that goes on to `pkgdata.declare`. The originals stay.
"""

from __future__ import annotations

import os

from .. import hashes, urls
from ..errors import IntegrityError
from ..migrate_astropy import Adopted
from ..stores import canonical
from ._pooch_utils import os_cache, unique_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..package import PackageData
    from ..registry import Entry


def migrate_pooch(
    data: PackageData,
    *,
    source: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
) -> list[Adopted]:
    """Take over what lies in a folder of pooch's. No network is used.

    Parameters
    ----------
    data : PackageData
        What its registry names and what is not here yet is taken over: files of that name, in the
        folder or in that of a version below it, and what ``pooch.retrieve`` fetched from its URLs.
    source : path-like, optional
        pooch's ``path``; what ``pooch.os_cache`` says for the package's name, by default.
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
    folder = os.path.abspath(os.fspath(os_cache(data.name) if source is None else source))
    missing = [data.registry[name] for name in data.registry if data.find(name) is None]
    found = (_one(data, entry, folder, dry_run) for entry in missing)
    return [one for one in found if one is not None]


def _one(data: PackageData, entry: Entry, folder: str, dry_run: bool) -> Adopted | None:
    addresses = list(_urls_of(data, entry))
    for path in _candidates(folder, entry, addresses):
        if entry.digest is None:
            kept = None if dry_run else data._url_cache().put(addresses[0], path, replace=False)
            return Adopted(entry.name, path, kept)
        if hashes.hash_file(path, entry.digest.alg) != entry.digest:
            continue
        try:
            kept = None if dry_run else data.cache.add(path, entry.digest, entry.name, entry.size)
        except IntegrityError:
            continue  # it changed just now
        return Adopted(entry.name, path, kept)
    return None


def _candidates(folder: str, entry: Entry, addresses: list[str]) -> Iterator[str]:
    """Yield files that may be an entry's, the likeliest first."""
    try:
        with os.scandir(folder) as found:
            versions = sorted(one.path for one in found if one.is_dir())
    except OSError:
        return
    parts = entry.name.split("/")
    paths = [os.path.join(one, *parts) for one in (folder, *reversed(versions))]
    paths += [os.path.join(folder, unique_name(url)) for url in addresses]
    for path in paths:
        if os.path.isfile(path) and entry.size in (None, os.path.getsize(path)):
            yield path


def _urls_of(data: PackageData, entry: Entry) -> Iterator[str]:
    """Yield the URLs that an entry may have been downloaded from."""
    yield from entry.urls
    for base in data.dataurl:
        values = {"version": data.version if "{version}" in base else None, "package": data.name}
        yield urls.join(canonical(urls.expand(base, values)), entry.name)
