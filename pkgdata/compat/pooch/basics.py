"""What pooch offers besides downloading: names, places, hashes, registries, and its errors.

pooch passes on the errors of requests, and raises `ValueError` for wrong bytes. Each error here
is one of ours as well, so that ``.attempts``, ``.hint`` and the rest are there, and those that mean
"no connection" are Python's own `ConnectionError` too. The classes that need requests are made when
they are first used.
"""

from __future__ import annotations

import builtins
import errno
import functools
import importlib
import os
import sys

from ...base import config, hashes
from ...errors import (
    AccessDeniedError,
    AllMirrorsFailedError,
    CacheError,
    IntegrityError,
    ObjectNotFoundError,
    OfflineError,
    PkgdataError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

#: Errors of requests that a failed download may be, the most specific first.
_KINDS = (
    "HTTPError",
    "ConnectTimeout",
    "ReadTimeout",
    "SSLError",
    "ProxyError",
    "TooManyRedirects",
    "ConnectionError",
    "RequestException",
)


def logger() -> Any:
    """Return pooch's logger, which is not in the tree of `logging`."""
    return pooch_module("utils").get_logger()


@functools.cache
def pooch_module(name: str) -> Any:
    """Return a module of pooch.

    Only the submodule is imported, and once, so that ``sys.modules["pooch"]`` may be ours.
    """
    return importlib.import_module(f"pooch.{name}")


# -- names, places, hashes, registries -----------------------------------------------------------


def words(text: str) -> list[str]:
    """Split a line of a registry as a shell would."""
    if text.isascii() and text.isprintable() and not any(mark in text for mark in "\"'\\"):
        return text.split()  # the same, and a hundred times faster
    import shlex

    return shlex.split(text)


def joined(path: Any) -> str:
    """Return a path given as a text, a path or its parts."""
    return os.path.join(*path) if isinstance(path, (list, tuple)) else str(path)


def location(path: Any, env: str | None = None, version: str | None = None) -> Path:
    """Return the folder of a storage; a variable may replace it, a version is appended."""
    from pathlib import Path

    chosen = joined((os.environ.get(env) if env else None) or path)
    if version is not None:
        chosen = os.path.join(chosen, version)
    return Path(os.path.expanduser(chosen))


def unique_name(url: str) -> str:
    """Return pooch's name for a URL: MD5 of the URL, a dash, the URL's last part."""
    from urllib.parse import urlsplit

    digest = hashes.short_key(url)
    last = (url if url.startswith("doi:") else urlsplit(url).path).split("/")[-1]
    return f"{digest}-{last[-(255 - len(digest) - 1) :]}"


def os_cache(project: str) -> Path:
    """Return the folder of a project in the user's cache folder.

    Parameters
    ----------
    project : str

    Returns
    -------
    pathlib.Path
    """
    from pathlib import Path

    if sys.platform == "linux":
        try:
            return Path(config.user_cache(), project)
        except CacheError:
            pass  # without a home directory pooch's answer is a path that cannot be used
    import platformdirs

    return Path(platformdirs.user_cache_dir(project))


def check_version(version: str, fallback: str = "master") -> str:
    """Return a version, or the fallback if it is one of development.

    Parameters
    ----------
    version : str
        As PEP 440 has it.
    fallback : str, default ``"master"``

    Returns
    -------
    str

    Raises
    ------
    packaging.version.InvalidVersion
        It is no version.
    """
    from packaging.version import Version

    return version if Version(version).local is None else fallback


def file_hash(fname: str | os.PathLike[str], alg: str = "sha256") -> str:
    """Return the hash of a file in hexadecimal digits.

    Parameters
    ----------
    fname : path-like
    alg : str, default ``"sha256"``

    Returns
    -------
    str

    Raises
    ------
    ValueError
        The algorithm is not known.
    """
    if alg in hashes.HEX_LENGTH:
        return hashes.hash_file(fname, alg).hex
    found: str = pooch_module("hashes").file_hash(fname, alg)  # what OpenSSL has beyond ours
    return found


def make_registry(
    directory: str | os.PathLike[str], output: str | os.PathLike[str], recursive: bool = True
) -> None:
    """Write the registry of a directory: a name and its SHA-256 a line.

    Parameters
    ----------
    directory : path-like
    output : path-like
    recursive : bool, default True
        Go into subdirectories.
    """
    import shlex

    from ...core import scan

    folder = os.fspath(directory)
    if recursive:
        found = {entry.name: entry.digest for entry in scan.make(folder).values()}
    else:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
        found = {name: hashes.hash_file(os.path.join(folder, name)) for name in names}
    with open(output, "w", encoding="utf-8") as file:
        for name, digest in found.items():
            file.write(f"{shlex.quote(name)} {digest.hex if digest else ''}\n")


# -- errors --------------------------------------------------------------------------------------


class HashMismatchError(IntegrityError, ValueError):
    """The bytes that came do not hash to the known hash."""


def __getattr__(name: str) -> Any:
    """Make a class when it is first asked for; pickled errors find it here too."""
    if name not in (*_KINDS, "NoNetworkError"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import requests.exceptions

    theirs = "ConnectionError" if name == "NoNetworkError" else name
    ours = OfflineError if name == "NoNetworkError" else AllMirrorsFailedError
    base = getattr(requests.exceptions, theirs)
    bases: tuple[type, ...] = (ours, base)
    if issubclass(base, requests.exceptions.ConnectionError):
        bases += (builtins.ConnectionError,)  # the plain name may be that of our own class
    doc = f"A download failed; also requests' `{theirs}`."
    made = type(name, bases, {"__module__": __name__, "__doc__": doc})
    globals()[name] = made
    return made


def mismatch(name: str, known: str, error: IntegrityError) -> HashMismatchError:
    """Return the error for wrong bytes in pooch's words; ``known`` is as in the registry."""
    algorithm = known.rpartition(":")[0] or "sha256"
    return HashMismatchError(
        f"{algorithm.upper()} hash of downloaded file ({name}) does not match the known hash: "
        f"expected {known} but got {error.actual.rpartition(':')[2]}. Deleted download for safety. "
        "The downloaded file may have been corrupted or the known hash may be outdated.",
        name=error.name,
        source=error.source,
        expected=error.expected,
        actual=error.actual,
        attempts=error.attempts,
    )


def translated(error: PkgdataError, name: str, known: str | None) -> Exception:
    """Return what code written for pooch catches; ``known`` is the hash as in the registry."""
    if isinstance(error, IntegrityError):
        return mismatch(name, known or "", error)
    if isinstance(error, CacheError):
        # the message about a cache is true of the user's folder; its hint is not
        cause = error.__cause__
        code = cause.errno if isinstance(cause, OSError) else errno.ENOSPC
        return OSError(code, error.message)
    if not isinstance(error, AllMirrorsFailedError) or not error.attempts:
        return error
    first = error.attempts[0][1]
    if isinstance(first, IntegrityError):
        return mismatch(name, known or "", first)
    status = status_of(first)
    made: Exception = __getattr__(_kind(first, status))(
        error.message, hint=error.hint, name=error.name, attempts=error.attempts
    )
    if status:
        _add_response(made, status, first)
    return made


def status_of(error: Exception) -> int:
    """Return the HTTP status behind an error, else 0."""
    import re

    found = re.search(r": status (\d{3})\b", getattr(error, "message", ""))
    if found:
        return int(found[1])
    if isinstance(error, ObjectNotFoundError):
        return 404
    return 403 if isinstance(error, AccessDeniedError) else 0


def _kind(error: Exception, status: int) -> str:
    import requests.exceptions

    if status:
        return "HTTPError"
    cause = error.__cause__
    for kind in _KINDS:
        if isinstance(cause, getattr(requests.exceptions, kind)):
            return kind
    # a connection that broke or stalled has no exception of requests behind it
    return "ConnectionError" if getattr(error, "transient", False) else "RequestException"


def _add_response(made: Any, status: int, error: Exception) -> None:
    import requests

    made.response = requests.Response()
    made.response.status_code = status
    made.response.url = getattr(error, "url", "")


def no_network(name: str, folder: str) -> OfflineError:
    """Return the error for a file that is not here while the network may not be used."""
    made: OfflineError = __getattr__("NoNetworkError")(
        f"{name!r} is not in {folder} as the registry has it, and pkgdata is offline",
        hint="put the file there, or a folder with it into PKGDATA_FOLDERS",
        name=name,
    )
    return made
