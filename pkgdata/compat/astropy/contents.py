"""What was downloaded without a digest: list, look up, clear, check, import.

The functions have astropy's names and meanings; the tree is described in `pkgdata.cache.unpinned`.
"""

from __future__ import annotations

import os

from ...base import fs, hashes
from ...cache import unpinned_dirs
from ...cache.unpinned import UrlCache, folder_name, is_url, read_url
from ...errors import CacheDamaged, CacheMissingWarning, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Literal

    OnMissing = Literal["ignore", "warn", "error"]


def cache_of(pkgname: str) -> UrlCache:
    """Return a package's downloads, whether or not there are any."""
    return UrlCache(os.path.abspath(unpinned_dirs.root_of(pkgname)))


def _is_there(cache: UrlCache, on_missing: str) -> bool:
    """Say whether a package has a cache; an absent one is told of as asked for."""
    if os.path.isdir(cache.folder):
        return True
    if os.path.lexists(cache.folder):
        raise NotADirectoryError(f"Data cache directory {cache.folder} is not a directory")
    _tell_missing(cache.folder, on_missing)
    return False


def _tell_missing(folder: str, on_missing: str) -> None:
    if on_missing not in ("ignore", "warn", "error"):
        raise ValueError(f"on_missing is 'ignore', 'warn' or 'error', not {on_missing!r}")
    if on_missing == "error":
        raise FileNotFoundError(f"no such file or directory: {folder}")
    if on_missing == "warn":
        warn(f"{folder} does not exist", CacheMissingWarning)


def _get_download_cache_loc(
    pkgname: str = "astropy", *, ensure_exists: bool = False, on_missing: OnMissing = "warn"
) -> Path:
    """Return the folder of a package's entries, as astropy's function of that name does."""
    from pathlib import Path

    cache = cache_of(pkgname)
    if ensure_exists:
        os.makedirs(cache.folder, exist_ok=True)
    _is_there(cache, on_missing)
    return Path(cache.folder)


# -- asking --------------------------------------------------------------------------------------


def is_url_in_cache(
    url_key: str, pkgname: str = "astropy", *, on_missing: OnMissing = "warn"
) -> bool:
    """Say whether a URL is cached.

    Parameters
    ----------
    url_key : str
    pkgname : str, default ``"astropy"``
        Whose cache.
    on_missing : str, default ``"warn"``
        What to do if there is no cache: ``"ignore"``, ``"warn"`` or ``"error"``.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        It is no URL.
    OSError
        A file is where the folder of the entries should be.
    """
    cache = cache_of(pkgname)
    return _is_there(cache, on_missing) and cache.find(checked(url_key)) is not None


def checked(url: str) -> str:
    """Return a URL as it is.

    Raises
    ------
    ValueError
        It is none that can be cached.
    """
    if not is_url(url):
        raise ValueError(f"malformed URL: {url!r}")
    return url


def cache_contents(
    pkgname: str = "astropy", *, on_missing: OnMissing = "warn"
) -> Mapping[str, str]:
    """Return the paths of all cached files by URL, as they are at this moment.

    Parameters
    ----------
    pkgname : str, default ``"astropy"``
        Whose cache.
    on_missing : str, default ``"warn"``
        What to do if there is no cache: ``"ignore"``, ``"warn"`` or ``"error"``.

    Returns
    -------
    mapping of str to str
        Read-only.

    Raises
    ------
    OSError
        A file is where the folder of the entries should be.
    """
    from types import MappingProxyType

    cache = cache_of(pkgname)
    return MappingProxyType(dict(cache.entries() if _is_there(cache, on_missing) else ()))


def get_cached_urls(pkgname: str = "astropy", *, on_missing: OnMissing = "warn") -> list[str]:
    """Return the URLs that are cached, sorted.

    Parameters
    ----------
    pkgname : str, default ``"astropy"``
        Whose cache.
    on_missing : str, default ``"warn"``
        What to do if there is no cache: ``"ignore"``, ``"warn"`` or ``"error"``.

    Returns
    -------
    list of str
    """
    return sorted(cache_contents(pkgname, on_missing=on_missing))


def cache_total_size(pkgname: str = "astropy") -> int:
    """Return the bytes that a package's downloads take.

    Parameters
    ----------
    pkgname : str, default ``"astropy"``
        Whose cache.

    Returns
    -------
    int
    """
    cache, total = cache_of(pkgname), 0
    for _, path in fs.walk_files(cache.folder) if _is_there(cache, "ignore") else ():
        try:
            total += os.stat(path).st_size
        except FileNotFoundError:
            pass  # it went in the meantime
    return total


def compute_hash(localfn: str | os.PathLike[str]) -> str:
    """Return the MD5 of a file, by which ``get_pkg_data_filename("hash/…")`` finds it.

    Parameters
    ----------
    localfn : path-like

    Returns
    -------
    str
        Hexadecimal digits.
    """
    return hashes.hash_file(localfn, "md5").hex


def find_by_hash(md5: str, pkgname: str = "astropy") -> str | None:
    """Return the cached file with some contents.

    Parameters
    ----------
    md5 : str
        Of the contents, hexadecimal.
    pkgname : str, default ``"astropy"``
        Whose cache.
    """
    paths = cache_contents(pkgname, on_missing="ignore").values()
    return next((path for path in paths if compute_hash(path) == md5.lower()), None)


# -- clearing ------------------------------------------------------------------------------------


def clear_download_cache(
    hashorurl: str | None = None, pkgname: str = "astropy", *, on_missing: OnMissing = "warn"
) -> None:
    """Remove one download, or all of a package's.

    Parameters
    ----------
    hashorurl : str, optional
        A URL; the path of its ``contents`` or ``url`` file or of the folder of both, within the
        cache; or the MD5 of the contents. All, by default. What is not there is no error.
    pkgname : str, default ``"astropy"``
        Whose cache.
    on_missing : str, default ``"warn"``
        What to do if there is no cache: ``"ignore"``, ``"warn"`` or ``"error"``.

    Raises
    ------
    RuntimeError
        The path is not within the cache.
    FileNotFoundError
        There is no cache, and ``on_missing`` is ``"error"``.

    Warns
    -----
    CacheMissingWarning
        It could not be removed.
    """
    cache = cache_of(pkgname)
    try:
        if not os.path.isdir(cache.folder) and not os.path.lexists(cache.folder):
            missing = True
        else:
            missing = not _is_there(cache, "ignore")
            _clear(cache, hashorurl, pkgname)
    except OSError as error:
        text = f"Not clearing data from cache - problem arose {type(error).__name__}: {error}"
        warn(text, CacheMissingWarning)
        return
    if missing:
        _tell_missing(cache.folder, on_missing)


def _clear(cache: UrlCache, wanted: str | None, pkgname: str) -> None:
    if wanted is None:
        cache.remove(cache.folder)
        return
    wanted = os.fspath(wanted)
    if is_url(wanted):
        cache.remove(cache.entry(wanted))
        return
    path = os.path.normpath(os.path.join(cache.folder, wanted))
    below = os.path.relpath(path, cache.folder)
    if below.startswith(".."):
        raise RuntimeError(
            f"attempted to use clear_download_cache on the path {path} outside the data cache "
            f"directory {cache.folder}"
        )
    folder, name = os.path.split(below)
    if name in ("url", "contents") and folder:
        path = os.path.dirname(path)  # one of an entry's two files stands for both
    if os.path.lexists(path):
        cache.remove(path)
    elif len(wanted) == hashes.HEX_LENGTH["md5"]:
        found = find_by_hash(wanted, pkgname)
        if found is not None:
            cache.remove(os.path.dirname(found))


# -- checking ------------------------------------------------------------------------------------


def check_download_cache(pkgname: str = "astropy") -> None:
    """Make sure that nothing but whole entries lies in a package's cache.

    Parameters
    ----------
    pkgname : str, default ``"astropy"``
        Whose cache. One that does not exist is in order.

    Raises
    ------
    CacheDamaged
        ``bad_files`` lists what `clear_download_cache` should be called with.
    OSError
        A file is where the folder of the entries should be.
    """
    from pathlib import Path

    cache = cache_of(pkgname)
    problems: dict[str, str] = {}
    for name in sorted(os.listdir(cache.folder)) if _is_there(cache, "ignore") else ():
        problems.update(_problems(os.path.join(cache.folder, name), name))
    if problems:
        raise CacheDamaged(
            *dict.fromkeys(problems.values()), bad_files=[Path(path) for path in sorted(problems)]
        )


def _problems(path: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield (path, what is wrong with it) for one thing in the folder of the entries."""
    if not os.path.isdir(path):
        yield path, f"Left-over non-directory {path} in cache"
        return
    for file in os.listdir(path):
        if file not in ("url", "contents"):
            yield os.path.join(path, file), f"Unexpected file {os.path.join(path, file)}"
    url = read_url(path)
    if url is None:
        yield os.path.join(path, "url"), f"Problem with URL file {os.path.join(path, 'url')}"
    elif not is_url(url):
        yield path, f"Malformed URL: {url}"
    elif folder_name(url) != name:
        yield path, f"URL hashes to {folder_name(url)} but is stored in {name}"
    if not os.path.isfile(os.path.join(path, "contents")):
        yield path, f"URL {url} with hash {name} is missing contents"


# -- bringing in ---------------------------------------------------------------------------------


def import_file_to_cache(
    url_key: str,
    filename: str | os.PathLike[str],
    remove_original: bool = False,
    pkgname: str = "astropy",
    *,
    replace: bool = True,
) -> str:
    """Put a local file into the cache as the contents of a URL.

    Parameters
    ----------
    url_key : str
    filename : path-like
    remove_original : bool, default False
        Remove the file afterwards.
    pkgname : str, default ``"astropy"``
        Whose cache.
    replace : bool, default True
        Take the place of contents that are cached; otherwise they stay.

    Returns
    -------
    str
        Path in the cache.

    Raises
    ------
    ValueError
        It is no URL.
    OSError
        The file cannot be read, or the cache cannot be written to.
    """
    path = cache_of(pkgname).put(checked(url_key), os.fspath(filename), replace=replace)
    if remove_original:
        os.remove(filename)
    return path
