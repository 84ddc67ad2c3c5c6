"""Where astropy's format lies: ``<cache>/<pkgname>``, and how to point it elsewhere for a time.

The rule is astropy 8's, so that what it downloaded is found: a temporary cache; for astropy itself
``ASTROPY_CACHE_DIR``; ``XDG_CACHE_HOME``; ``~/.cache``, or the old ``~/.<pkgname>/cache`` where
only that exists. A variable that names no existing folder by its full path is skipped. Between
the first two and the others stands the setting ``cache_dir``, if somebody set it: then everything
that is cached lies there. The folder is ``~/.cache`` on every system, as it is for astropy.
"""

from __future__ import annotations

import os

from ..base import config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from threading import RLock
    from types import TracebackType
    from typing import Any

#: Temporary caches by package name. Replaced whole, never changed, so that readers need no lock.
_overrides: dict[str, str] = {}
_lock: RLock | None = None


def _guard() -> RLock:
    """Return the lock that lets one thread at a time hold a temporary cache."""
    global _lock
    if _lock is None:
        import threading

        _lock = threading.RLock()
    return _lock


def state() -> object:
    """Return a value that changes identity with every change of a temporary cache."""
    return _overrides


def override(pkgname: str = "astropy") -> str | None:
    """Return the temporary cache of a package, if one is set."""
    return _overrides.get(pkgname)


def parts_of(pkgname: str) -> list[str]:
    """Split a dotted package name into the folders it stands for, or raise ValueError."""
    parts = pkgname.split(".")
    if not all(part.replace("_", "a").replace("-", "a").isalnum() for part in parts):
        raise ValueError(
            f"a package name consists of letters, digits, '_', '-' and dots; found {pkgname!r}"
        )
    return parts


def _folder_of(variable: str) -> str | None:
    """Return the existing folder that a variable names by its full path."""
    path = os.environ.get(variable, "")
    return path if os.path.isabs(path) and os.path.isdir(path) else None


def root_of(pkgname: str = "astropy") -> str:
    """Return a package's folder for unpinned downloads; nothing is created.

    `CacheError` if this user has no home directory and nothing is set.
    """
    parts = parts_of(pkgname)
    temporary = _overrides.get(pkgname)
    if temporary is not None:
        return os.path.join(temporary, *parts)
    own = parts[0] == "astropy" and _folder_of("ASTROPY_CACHE_DIR")
    path, where = (None, "default") if own else config.resolve("cache_dir")
    if where != "default" and path is not None:
        return os.path.join(path, *parts)
    return astropys_root(pkgname)


def astropys_root(pkgname: str = "astropy") -> str:
    """Return where astropy itself keeps a package's downloads, whatever is set for pkgdata."""
    parts = parts_of(pkgname)
    own = _folder_of("ASTROPY_CACHE_DIR") if parts[0] == "astropy" else None
    if own is not None:
        return os.path.join(own, *parts[1:])
    user = _folder_of("XDG_CACHE_HOME")
    if user is not None:
        return os.path.join(user, *parts)
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        return os.path.join(config.user_cache(), *parts)  # which tells that there is none
    usual = os.path.join(home, ".cache", *parts)
    old = os.path.join(home, f".{pkgname}", "cache")
    return old if os.path.isdir(old) and not os.path.exists(usual) else usual


def pkgdata_root(pkgname: str = "astropy") -> str:
    """Return the root of the cache where locks and validators of a package's downloads lie."""
    temporary = _overrides.get(pkgname)
    return config.cache_dir()[0] if temporary is None else os.path.join(temporary, "pkgdata")


def get_cache_dir(rootname: str = "astropy", *, ensure_exists: bool = True) -> str:
    """Return a package's cache folder, as astropy places it.

    Parameters
    ----------
    rootname : str, default ``"astropy"``
    ensure_exists : bool, default True
        Create it if it is missing.

    Returns
    -------
    str

    Raises
    ------
    OSError
        It cannot be created.
    """
    path = os.path.abspath(root_of(rootname))
    if ensure_exists:
        os.makedirs(path, exist_ok=True)
    return path


def get_cache_dir_path(rootname: str = "astropy", *, ensure_exists: bool = True) -> Path:
    """Return what `get_cache_dir` does, as a `pathlib.Path`."""
    from pathlib import Path

    return Path(get_cache_dir(rootname, ensure_exists=ensure_exists))


class set_temp_cache:
    """Keep astropy's downloads elsewhere, inside a ``with`` block or a decorated function.

    It holds for all threads; while one is inside, another one that wants to enter waits.

    Parameters
    ----------
    path : path-like, optional
        ``<path>/astropy`` is used then. None means the usual place, whatever was set around it.
    delete : bool, default False
        Remove the folder in the end.

    Raises
    ------
    FileExistsError
        The path is a file.
    """

    def __init__(self, path: os.PathLike[str] | str | None = None, delete: bool = False) -> None:
        if path is not None and os.path.isfile(path):
            raise FileExistsError(f"{path} is a file and cannot be used as a directory")
        self._path = None if path is None else os.path.realpath(path)
        self._delete = delete

    def __enter__(self) -> str:
        global _overrides
        _guard().acquire()
        self._before = _overrides
        changed = {name: path for name, path in _overrides.items() if name != "astropy"}
        if self._path is not None:
            changed["astropy"] = self._path
        _overrides = changed
        return root_of("astropy")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _overrides
        try:
            if self._delete and self._path is not None:
                import shutil

                shutil.rmtree(self._path)
        finally:
            _overrides = self._before
            _guard().release()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function, so that it runs inside the block."""
        import functools

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with set_temp_cache(self._path, self._delete):
                return function(*args, **kwargs)

        return inside


def temporary_cache_dir_path(
    dir_: os.PathLike[str] | str | None = None,
    /,
    *,
    namespace: str,
    suffix: str | None = None,
    prefix: str | None = None,
    delete: bool = True,
) -> AbstractContextManager[Path]:
    """Make a temporary cache for one package, inside a ``with`` block or a decorated function.

    It stands before every variable and setting, for all threads; while one is inside, another one
    that wants to enter waits.

    Parameters
    ----------
    dir_ : path-like, optional
        Where the temporary folder is made.
    namespace : str
        The package name; dots separate folders.
    suffix : str, optional
    prefix : str, optional
    delete : bool, default True
        Remove the folder in the end.

    Returns
    -------
    context manager
        Gives the package's new cache folder.

    Raises
    ------
    ValueError
        The namespace is no package's name.
    """
    import contextlib

    @contextlib.contextmanager
    def temporary() -> Iterator[Path]:
        global _overrides
        import pathlib
        import tempfile

        parts = parts_of(namespace)
        with _guard():
            top = tempfile.mkdtemp(suffix, prefix, None if dir_ is None else os.fspath(dir_))
            before = _overrides
            _overrides = {**_overrides, namespace: top}
            try:
                path = pathlib.Path(top, *parts)
                path.mkdir(parents=True)
                yield path
            finally:
                _overrides = before
                if delete:
                    import shutil

                    shutil.rmtree(top, ignore_errors=True)

    return temporary()
