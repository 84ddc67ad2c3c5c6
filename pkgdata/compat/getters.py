"""Module-level functions with astropy's names: `get_pkg_data_filename` and its kin.

A package that declares its data is served by its `PackageData`. For any other package the file is
looked for inside the package and then fetched, unpinned, from ``conf.dataurl``, as astropy does.
"""

from __future__ import annotations

import os
import sys

from ..base.config import conf
from ..base.report import plain_name
from ..core.declaration import declaration_of, package_folders
from ..core.lookup import is_shipped
from ..errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from typing import IO, Any


def caller_package() -> str:
    """Return the package of the first frame that is a caller's own; `ConfigError` if none is.

    Returns
    -------
    str
        ``"__main__"`` for a script.
    """
    frame: Any = sys._getframe(1)
    while frame is not None:
        # code that is executed without a name belongs to who executes it
        name = str(frame.f_globals.get("__name__") or "pkgdata")
        top = name.partition(".")[0]
        if top != "pkgdata" and top not in sys.stdlib_module_names:
            return str(frame.f_globals.get("__package__") or name)
        frame = frame.f_back
    raise ConfigError(
        "cannot tell whose data file is meant: no package's code is among the callers",
        hint="name the package: package='mypkg'",
    )


def get_pkg_data_path(*path: str, package: str | None = None) -> str:
    """Return a path inside a package, whether or not something is there.

    Parameters
    ----------
    *path : str
        Parts of the path, relative to the package.
    package : str, optional
        The caller's by default.

    Returns
    -------
    str

    Raises
    ------
    RuntimeError
        The path leaves the root of the top-level package.
    """
    package = package or caller_package()
    root_name = package.partition(".")[0]
    folders = _module_folders(package)
    roots = folders if package == root_name else _module_folders(root_name)
    paths = [os.path.normpath(os.path.join(base, *path)) for base in folders]
    inside = [full for full in paths if any(os.path.commonpath([full, r]) == r for r in roots)]
    if not inside:
        raise RuntimeError(
            f"attempted to get a local data file outside of the {root_name} tree: {paths[0]}"
        )
    # only a namespace package has several; a hit asks the disk no more than it must
    return inside[0] if len(inside) == 1 else next(filter(os.path.exists, inside), inside[0])


def _module_folders(name: str) -> list[str]:
    """Return the folder of a module's file; all of a namespace package, which has none."""
    import importlib

    try:
        module = sys.modules.get(name) or importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"cannot look for data files of {name!r}: {error.msg}; name the package, "
            "as in package='mypkg'",
            name=name,
        ) from None
    file = getattr(module, "__file__", None)
    return (
        [os.path.abspath(os.path.dirname(file))] if file else package_folders(name) or [os.getcwd()]
    )


def get_pkg_data_filename(
    data_name: str,
    package: str | None = None,
    show_progress: bool = True,
    remote_timeout: float | None = None,
) -> str:
    """Return the path of a package's data file; fetch it if it is not here.

    Parameters
    ----------
    data_name : str
        Name relative to the package, or in its registry; or ``hash/`` and the MD5 of a file that
        was downloaded, or that ``conf.dataurl`` has.
    package : str, optional
        The caller's by default.
    show_progress : bool, default True
        Draw a bar where somebody looks.
    remote_timeout : float, optional
        Seconds; ``conf.remote_timeout`` by default.

    Returns
    -------
    str

    Raises
    ------
    UnknownNameError
        The package's registry has no such name.
    AllMirrorsFailedError
        No mirror could serve it; an `urllib.error.URLError` if the package declares nothing.
    OSError
        It is a directory.
    RuntimeError
        The name leads out of the package.
    """
    package, data_name = package or caller_package(), plain_name(data_name)
    shipped = _shipped(data_name, package)
    if shipped is not None:
        return shipped
    data = declaration_of(package)
    if data is None or (data_name.startswith("hash/") and data_name not in data.registry):
        return _undeclared(data_name, show_progress, remote_timeout)
    progress = None if show_progress else False
    return data.get(data_name, progress=progress, timeout=remote_timeout)


def _shipped(data_name: str, package: str) -> str | None:
    try:
        path = get_pkg_data_path(os.path.normpath(data_name), package=package)
    except ImportError:
        if declaration_of(package) is None:
            raise
        return None  # under a name that is no package
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a directory of the package, not a data file")
    if os.path.isfile(path):
        return path
    if declaration_of(package) is None:
        is_shipped(path)  # an error if it is in a zip archive, since no mirror has it
    return None


def _undeclared_urls(name: str) -> tuple[str, list[str]]:
    """Return the URL of a file of astropy's own servers, and where it can be fetched from."""
    primary, mirror = conf.dataurl, conf.dataurl_mirror
    return primary + name, [base + name for base in (primary, mirror) if base]


def _undeclared(name: str, show_progress: bool, timeout: float | None) -> str:
    """Return the path of a file of astropy's own servers, where an undeclared package's are."""
    from .astropy.download import download_file

    if name.startswith("hash/"):
        from .astropy.contents import find_by_hash

        found = find_by_hash(name.partition("/")[2])
        if found is not None:
            return found
    url, sources = _undeclared_urls(name)
    return download_file(url, True, show_progress, timeout, sources)


def get_data(name: str, package: str | None = None) -> str:
    """Return the path of a package's data file; short for `get_pkg_data_filename`.

    Parameters
    ----------
    name : str
    package : str, optional
        The caller's by default.

    Returns
    -------
    str
    """
    return get_pkg_data_filename(name, package or caller_package())


def get_pkg_data_fileobj(
    data_name: str, package: str | None = None, encoding: str | None = None, cache: bool = True
) -> AbstractContextManager[IO[Any]]:
    """Open a package's data file, decompressed if need be; fetch it if it is not here.

    Parameters
    ----------
    data_name : str
    package : str, optional
        The caller's by default.
    encoding : str, optional
        ``"binary"`` for bytes, else the text encoding; the system's by default.
    cache : bool, default True
        Keep what is fetched for a package that declares nothing; for others it is always kept.

    Returns
    -------
    context manager
        Gives an open file, see `get_readable_fileobj`.
    """
    from .astropy.readable import get_readable_fileobj

    package = package or caller_package()
    temporary = not cache and declaration_of(package) is None
    if temporary and _shipped(data_name, package) is None:
        path, sources = _undeclared_urls(data_name)
        return get_readable_fileobj(path, encoding, sources=sources)
    return get_readable_fileobj(get_pkg_data_filename(data_name, package), encoding)


def get_pkg_data_contents(
    data_name: str, package: str | None = None, encoding: str | None = None, cache: bool = True
) -> Any:
    """Return the contents of a package's data file.

    Parameters
    ----------
    data_name, package, encoding, cache
        See `get_pkg_data_fileobj`.

    Returns
    -------
    str or bytes
    """
    with get_pkg_data_fileobj(data_name, package or caller_package(), encoding, cache) as file:
        return file.read()


def get_pkg_data_filenames(
    datadir: str, package: str | None = None, pattern: str = "*"
) -> Iterator[str]:
    """Yield the paths of the data files in a folder of a package.

    Parameters
    ----------
    datadir : str
        Relative to the package. Where the package ships no such folder, the registry's names below
        it are fetched.
    package : str, optional
        The caller's by default.
    pattern : str, default ``"*"``
        Shell pattern of the file names.

    Yields
    ------
    str

    Raises
    ------
    OSError
        There is no such folder.
    """
    import fnmatch

    package, datadir = package or caller_package(), plain_name(datadir)
    data = declaration_of(package)
    try:
        path = get_pkg_data_path(datadir, package=package)
    except ImportError:
        if data is None:
            raise
        path = ""
    if os.path.isdir(path):
        names = sorted(fnmatch.filter(os.listdir(path), pattern))
        full = (os.path.join(path, name) for name in names)
        return iter([one for one in full if os.path.isfile(one)])
    start = datadir.strip("/") + "/"
    below = [name for name in (data.registry if data else ()) if name.startswith(start)]
    if not below or data is None:
        raise FileNotFoundError(f"{package} has no data folder {datadir!r}")
    chosen = [name for name in below if fnmatch.fnmatch(name.rpartition("/")[2], pattern)]
    return iter([data.get(name) for name in chosen if "/" not in name[len(start) :]])


def get_pkg_data_fileobjs(
    datadir: str, package: str | None = None, pattern: str = "*", encoding: str | None = None
) -> Iterator[IO[Any]]:
    """Yield the open data files in a folder of a package; each is closed after its turn.

    Parameters
    ----------
    datadir : str
    package : str, optional
        The caller's by default.
    pattern : str, default ``"*"``
    encoding : str, optional
        ``"binary"`` for bytes, else the text encoding.

    Yields
    ------
    file object
    """
    # found now: when the generator runs, the caller's frame may be another one
    paths = get_pkg_data_filenames(datadir, package or caller_package(), pattern)
    return _open_each(paths, encoding)


def _open_each(paths: Iterator[str], encoding: str | None) -> Iterator[IO[Any]]:
    from .astropy.readable import get_readable_fileobj

    for path in paths:
        with get_readable_fileobj(path, encoding) as file:
            yield file


__all__ = [
    "get_data",
    "get_pkg_data_contents",
    "get_pkg_data_filename",
    "get_pkg_data_filenames",
    "get_pkg_data_fileobj",
    "get_pkg_data_fileobjs",
    "get_pkg_data_path",
]
