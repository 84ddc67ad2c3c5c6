"""What was downloaded without a digest: list, look up, clear, check, export, import.

The functions have astropy's names and meanings; the tree is described in `pkgdata.cache.unpinned`.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

from ...base import fs, hashes
from ...base.urls import has_secret, redact
from ...cache import unpinned_dirs
from ...cache.unpinned import Scratch, UrlCache, folder_name, is_url, read_url
from ...errors import CacheDamaged, CacheMissingWarning, PkgdataWarning, warn
from ...stores import codecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from typing import IO, Any, Literal

    OnMissing = Literal["ignore", "warn", "error"]


def cache_of(pkgname: str) -> UrlCache:
    """Return a package's downloads, whether or not there are any."""
    return UrlCache(os.path.abspath(unpinned_dirs.root_of(pkgname)))


def _is_there(cache: UrlCache, on_missing: str) -> bool:
    """Return whether a package has a cache; a missing one is reported as asked for."""
    if os.path.isdir(cache.folder):
        return True
    if os.path.lexists(cache.folder):
        raise NotADirectoryError(f"Data cache directory {cache.folder} is not a directory")
    _report_missing(cache.folder, on_missing)
    return False


def _report_missing(folder: str, on_missing: str) -> None:
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
    cache = cache_of(pkgname)
    if ensure_exists:
        os.makedirs(cache.folder, exist_ok=True)
    _is_there(cache, on_missing)
    return Path(cache.folder)


# -- asking --------------------------------------------------------------------------------------


def is_url_in_cache(
    url_key: str, pkgname: str = "astropy", *, on_missing: OnMissing = "warn"
) -> bool:
    """Return whether a URL is cached.

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
        It is not a URL.
    OSError
        A file is where the folder of the entries should be.
    """
    cache = cache_of(pkgname)
    return _is_there(cache, on_missing) and cache.find(checked(url_key)) is not None


def checked(url: str) -> str:
    """Return a URL unchanged; one that cannot be cached is a ValueError."""
    if not is_url(url):
        raise ValueError(f"malformed URL: {redact(url)!r}")
    return url


def cache_contents(
    pkgname: str = "astropy", *, on_missing: OnMissing = "warn"
) -> Mapping[str, str]:
    """Return the paths of all files that are cached at this moment, by URL.

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
            pass  # removed in the meantime
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
    """Return the cached file with contents of an MD5, if there is one."""
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
        cache; or the MD5 of the contents. All, by default. A missing one is no error.
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
    if not os.path.lexists(cache.folder):
        _report_missing(cache.folder, on_missing)
        return
    try:
        _is_there(cache, "ignore")  # or a file is in the folder's place
        _clear(cache, hashorurl, pkgname)
    except OSError as error:
        text = f"Not clearing data from cache - problem arose {type(error).__name__}: {error}"
        warn(text, CacheMissingWarning)


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
    """Check that there is nothing but complete entries in a package's cache.

    Parameters
    ----------
    pkgname : str, default ``"astropy"``
        Whose cache. One that does not exist is in order.

    Raises
    ------
    CacheDamaged
        ``bad_files`` lists what to call `clear_download_cache` with.
    OSError
        A file is where the folder of the entries should be.
    """
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
        file = os.path.join(path, "url")
        if os.path.isfile(file) and not os.access(file, os.R_OK):
            return  # another user's, with a secret in it
        yield os.path.join(path, "url"), f"Problem with URL file {os.path.join(path, 'url')}"
    elif not is_url(url):
        yield path, f"Malformed URL: {redact(url)}"
    elif folder_name(url) != name:
        yield path, f"URL hashes to {folder_name(url)} but is stored in {name}"
    if not os.path.isfile(os.path.join(path, "contents")):
        yield path, f"URL {url and redact(url)} with hash {name} is missing contents"


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
        Replace contents that are cached; otherwise they stay.

    Returns
    -------
    str
        Path in the cache.

    Raises
    ------
    ValueError
        It is not a URL.
    OSError
        The file cannot be read, or the cache cannot be written to.
    """
    path = cache_of(pkgname).put(checked(url_key), os.fspath(filename), replace=replace)
    if remove_original:
        os.remove(filename)
    return path


# -- archives for another machine -----------------------------------------------------------------


def export_download_cache(
    filename_or_obj: str | os.PathLike[str] | IO[bytes],
    urls: Iterable[str] | None = None,
    overwrite: bool = False,
    pkgname: str = "astropy",
) -> None:
    """Write downloads into a ZIP archive; a member's name is the quoted URL.

    Parameters
    ----------
    filename_or_obj : path-like or binary file
    urls : iterable of str, optional
        All that are cached, by default.
    overwrite : bool, default False
        Replace an archive that exists.
    pkgname : str, default ``"astropy"``
        Whose cache.

    Raises
    ------
    KeyError
        A URL is not cached; nothing is written then.
    ValueError
        A URL that is named holds a secret; nothing is written then.
    FileExistsError
        The archive exists.

    Warns
    -----
    PkgdataWarning
        A download is left out, as its URL holds a secret.
    """
    cache = cache_of(pkgname)
    members: dict[str, str] = {}
    for url in get_cached_urls(pkgname) if urls is None else urls:
        if has_secret(url):
            problem = f"{redact(url)} holds a secret, which the archive would hand on"
            if urls is not None:
                raise ValueError(problem)
            warn(f"{problem}; it is left out", PkgdataWarning)
            continue
        path = cache.find(checked(url))
        if path is None:
            raise KeyError(f"{redact(url)} is not in the cache of {pkgname}")
        members[quote(url, safe="")] = path
    if not isinstance(filename_or_obj, (str, os.PathLike)):
        _write_archive(filename_or_obj, members)
        return
    target = os.fspath(filename_or_obj)
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(f"the archive exists and is not overwritten: {target}")
    with fs.writing(target, if_absent=not overwrite) as fd, open(fd, "wb", closefd=False) as file:
        _write_archive(file, members)


def _write_archive(file: IO[bytes], members: Mapping[str, str]) -> None:
    with zipfile.ZipFile(file, "w", strict_timestamps=False) as archive:  # 1980 at the earliest
        for name, path in members.items():
            archive.write(path, name)


def import_download_cache(
    filename_or_obj: str | os.PathLike[str] | IO[bytes],
    urls: Container[str] | None = None,
    update_cache: bool = False,
    pkgname: str = "astropy",
) -> None:
    """Import the downloads of an archive that `export_download_cache` wrote.

    Parameters
    ----------
    filename_or_obj : path-like or binary file
    urls : container of str, optional
        All of the archive's, by default.
    update_cache : bool, default False
        Replace what is cached.
    pkgname : str, default ``"astropy"``
        Whose cache.

    Raises
    ------
    ValueError
        A member's name is not a URL; nothing is imported then.
    ExtractionError
        More comes out of it than the setting ``extract_limit`` allows.
    """
    cache = cache_of(pkgname)
    with zipfile.ZipFile(filename_or_obj, "r") as archive:
        named = [(unquote(info.filename), info) for info in archive.infolist()]
        chosen: list[tuple[str, Any]] = [
            (checked(url), info) for url, info in named if urls is None or url in urls
        ]
        packed = sum(info.compress_size for _, info in chosen)
        budget = codecs.Budget.of(str(archive.filename), size=packed)
        for url, info in chosen:
            if not update_cache and cache.find(url) is not None:
                continue
            with Scratch() as scratch, archive.open(info) as source:
                for block in budget.blocks(source):
                    fs.write_all(scratch.fd, block)
            try:
                cache.put(url, scratch.path, replace=update_cache, move=True)
            finally:
                fs.remove(scratch.path)
