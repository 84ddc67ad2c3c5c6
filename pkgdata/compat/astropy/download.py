"""`download_file` and `download_files_in_parallel`: unpinned URLs, in astropy's cache or temporary.

A cached answer is remembered within the process, so that the next call is one stat. Everything else
is the engine's: locks, strict checks, retries, sources in order.
"""

from __future__ import annotations

import atexit
import errno
import os
from contextvars import Context, copy_context
from os import stat as _stat
from stat import S_ISREG

from ...base import config, fs, pool
from ...base.progress import DONE, FAILED, HIT, Event, view
from ...cache import unpinned_dirs
from ...cache.unpinned import Scratch, UrlCache, is_url
from ...errors import CacheError, CacheMissingWarning, PkgdataWarning, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, Literal

    from ...base.progress import Callback
    from .fetch import UrlJob

#: Temporary files to remove when the program ends. The name is astropy's, which others read.
_tempfilestodel: list[Path] = []

#: The settings that the remembered answers depend on, and they: paths by URL and package name.
_known: tuple[object, dict[tuple[str, str], str]] = ((), {})
_watched = config.environment_reader(
    [
        *("ASTROPY_CACHE_DIR", "XDG_CACHE_HOME", "HOME", "USERPROFILE", "PKGDATA_CACHE_DIR"),
        *("PKGDATA_CONFIG", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"),
    ]
)

#: So many answers are remembered before all are forgotten.
_KNOWN_LIMIT = 10_000


def download_file(
    remote_url: str,
    cache: bool | Literal["update"] = False,
    show_progress: bool = True,
    timeout: float | None = None,
    sources: Sequence[str] | None = None,
    pkgname: str = "astropy",
    http_headers: Mapping[str, str] | None = None,
    ssl_context: Mapping[str, Any] | None = None,
    allow_insecure: bool = False,
) -> str:
    """Return the path of a file with the contents of a URL.

    Parameters
    ----------
    remote_url : str
        Also the name under which the contents are cached.
    cache : bool or ``"update"``, default False
        False gives a temporary file that is removed when the program ends; True fetches the file
        only if it is not cached; ``"update"`` fetches it again, unless the server reports that it
        has not changed.
    show_progress : bool, default True
        Draw a bar in a terminal or a notebook.
    timeout : float, optional
        Seconds to connect, and between bytes; ``conf.remote_timeout`` by default.
    sources : sequence of str, optional
        URLs to fetch the contents from, in order, instead of the URL itself. If empty, nothing is
        fetched.
    pkgname : str, default ``"astropy"``
        Whose cache.
    http_headers : mapping of str to str, optional
        Sent with HTTP requests.
    ssl_context : mapping, optional
        Arguments of `ssl.create_default_context`, and ``certfile``, ``keyfile`` and ``password`` of
        a client certificate.
    allow_insecure : bool, default False
        Continue, with a warning, if the certificate of the server cannot be verified.

    Returns
    -------
    str
        Absolute path. Do not write to a file of the cache.

    Raises
    ------
    urllib.error.URLError
        No source could serve it, or nothing may be fetched. Also a `PkgdataError`.
    KeyError
        It is not cached and ``sources`` is empty.
    ValueError
        It is not a URL, or ``cache`` is another text than ``"update"``.
    OSError
        The disk is full.
    """
    if cache is True:
        path = _remembered(remote_url, pkgname)
        if path is not None:
            return path
    elif isinstance(cache, str) and cache != "update":
        raise ValueError(f"cache is True, False or 'update', not {cache!r}")
    options = (timeout, http_headers, ssl_context, allow_insecure)
    return _download(remote_url, cache, _view(show_progress), sources, pkgname, *options)


def _remembered(url: str, pkgname: str) -> str | None:
    """Return the path of a URL that is known to be cached, if it still is."""
    basis, paths = _known
    path = paths.get((url, pkgname))
    if path is None:
        return None
    try:
        is_file = S_ISREG(_stat(path).st_mode)
    except OSError:
        return None
    return path if is_file and basis == _basis() else None


def _basis() -> object:
    return _watched(), config.state(), unpinned_dirs.state()


def _remember(url: str, pkgname: str, path: str, basis: object) -> str:
    """Remember an answer for the settings it was found under, whatever they are by now."""
    global _known
    known = _known  # another thread may replace it, for settings of its own
    if known[0] != basis or len(known[1]) >= _KNOWN_LIMIT:
        _known = known = (basis, {})
    path = os.path.abspath(path)
    known[1][url, pkgname] = path
    return path


def _view(show_progress: bool, files: int = 0) -> Callback:
    return view(config.conf.progress if show_progress else False, files)


def _download(
    url: str,
    cache: bool | str,
    show: Callback,
    sources: Sequence[str] | None,
    pkgname: str,
    *options: Any,
) -> str:
    def job() -> UrlJob:
        from .fetch import UrlJob  # loads what speaks HTTP, which a hit needs not

        return UrlJob(url, sources, pkgname, show, *options)

    if not cache:
        return _temporary(job().to_temporary())
    if not is_url(url):
        raise ValueError(f"malformed URL: {url!r}")
    basis = _basis()
    try:
        place = UrlCache(os.path.abspath(unpinned_dirs.root_of(pkgname)))
        found = None if cache == "update" else place.find(url)
        if found is None:
            os.makedirs(place.folder, exist_ok=True)
    except (OSError, CacheError) as error:
        missing = f"Cache directory cannot be read or created ({error})"
        text = f"{missing}, providing data in temporary file instead."
        return _temporary(job().to_temporary(), text)
    if found is None:
        found = job().into(place, cache == "update", _stand_in)
        if not found.startswith(os.path.join(place.folder, "")):
            return found  # what stands in for an entry that could not be made
    return _remember(url, pkgname, found, basis)


# -- temporary files -----------------------------------------------------------------------------


def _temporary(path: str, missing: str = "") -> str:
    """Let a file be removed when the program ends; warn if there should have been a cache."""
    from pathlib import Path

    path = os.path.abspath(path)
    if missing:
        warn(CacheMissingWarning(missing, path), CacheMissingWarning)
    if config.conf.delete_temporary_downloads_at_exit:
        _tempfilestodel.append(Path(path))
    return path


def _stand_in(path: str, error: OSError) -> str:
    """Keep new bytes that could not enter the cache."""
    import shutil

    with Scratch() as scratch:
        scratch.close()
        shutil.move(path, scratch.path)
    text = (
        f"Cache directory appears to be read-only ({error}), unable to import downloaded file, "
        f"providing data in temporary file {scratch.path} instead."
    )
    return _temporary(scratch.path, text)


def _deltemps() -> None:
    """Remove the temporary files, as at the end of the program."""
    while _tempfilestodel:
        path = os.fspath(_tempfilestodel.pop())
        try:
            fs.remove_tree(path) if os.path.isdir(path) else fs.remove(path)
        except OSError:
            pass  # held open by somebody, on Windows


atexit.register(_deltemps)
if hasattr(os, "register_at_fork"):
    # a child that ends must not remove its parent's files
    os.register_at_fork(after_in_child=_tempfilestodel.clear)


# -- many ----------------------------------------------------------------------------------------


def download_files_in_parallel(
    urls: Sequence[str],
    cache: bool | Literal["update"] = "update",
    show_progress: bool = True,
    timeout: float | None = None,
    sources: Mapping[str, Sequence[str]] | None = None,
    multiprocessing_start_method: str | None = None,
    pkgname: str = "astropy",
) -> list[str]:
    """Return the paths of files with the contents of URLs, fetched many at once.

    Parameters
    ----------
    urls : sequence of str
        Repeated ones are fetched once.
    cache : bool or ``"update"``, default ``"update"``
        See `download_file`. False means ``"update"``, with a warning.
    show_progress : bool, default True
        Draw a bar over all of them in a terminal or a notebook.
    timeout : float, optional
        Seconds to connect, and between bytes; ``conf.remote_timeout`` by default.
    sources : mapping of str to sequence of str, optional
        For each URL that has some, where to fetch it from instead.
    multiprocessing_start_method : str, optional
        One of Python's, accepted for compatibility. The workers are threads of this process, which
        see its temporary cache and its settings whatever the method.
    pkgname : str, default ``"astropy"``
        Whose cache.

    Returns
    -------
    list of str
        One path for each URL, in order.

    Raises
    ------
    urllib.error.URLError
        One of them could not be fetched; others may be cached by now.
    ValueError
        There is no such start method.
    """
    if multiprocessing_start_method is not None:
        import multiprocessing  # like the other imports in here: a hit needs none of them

        multiprocessing.get_context(multiprocessing_start_method)
    if not cache:
        text = "files that are fetched in parallel are cached: cache=False means 'update'"
        warn(f"Disabling the cache does not work: {text}", PkgdataWarning)
        cache = "update"
    # settings made for this thread alone hold in its workers too
    jobs = {url: copy_context() for url in urls}
    show = _view(show_progress, len(jobs))

    def work(job: tuple[str, Context]) -> str:
        url, context = job
        own = (sources or {}).get(url)
        return context.run(_each, url, cache, show, own, pkgname, timeout)

    threads = min(len(jobs), max(1, config.conf.connections))
    found = {url: path for (url, _), path in pool.each(work, jobs.items(), threads)}
    return [found[url] for url in urls]


def _each(url: str, cache: bool | str, show: Callback, *rest: Any) -> str:
    """Fetch one of many; report a hit for what was here already or came by another process."""
    states = set()

    def tell(event: Event) -> None:
        states.add(event.state)
        show(event)

    path = _download(url, cache, tell, *rest)
    if not states & {DONE, FAILED}:
        show(Event(url, HIT))
    return path


# -- room on a disk ------------------------------------------------------------------------------


def get_free_space_in_dir(path: str | os.PathLike[str], unit: Any = False) -> Any:
    """Return the free space of the disk that a folder is on.

    Parameters
    ----------
    path : path-like
        A folder.
    unit : bool or astropy unit, default False
        Return a quantity in this unit (True: bytes), which needs astropy.

    Returns
    -------
    int or astropy quantity
        Bytes, if no unit is asked for.

    Raises
    ------
    FileExistsError
        The path is a file.
    FileNotFoundError
        There is no such folder.
    """
    if not os.path.isdir(path):
        start = f"Cannot determine free space from {os.fspath(path)}"
        if os.path.isfile(path):
            raise FileExistsError(f"{start} (found a file, expected a directory)")
        raise FileNotFoundError(f"{start} (no such file or directory)")
    import shutil

    free = shutil.disk_usage(path).free
    if unit is False or unit is None:
        return free
    from astropy import units

    return units.Quantity(free, units.byte).to(units.byte if unit is True else unit)


def check_free_space_in_dir(path: str | os.PathLike[str], size: Any) -> None:
    """Check that so many bytes fit onto the disk that a folder is on.

    Parameters
    ----------
    path : path-like
        A folder.
    size : int or astropy quantity
        Bytes, if it has no unit.

    Raises
    ------
    OSError
        They do not fit, or there is no such folder.
    """
    free = get_free_space_in_dir(path, getattr(size, "unit", False))
    if free < size:
        needed, left = (
            f"{one:,} bytes" if isinstance(one, int) else str(one) for one in (size, free)
        )
        text = f"not enough free space: {needed} are needed, {left} are left"
        raise OSError(errno.ENOSPC, text, os.fspath(path))
