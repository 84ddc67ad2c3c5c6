"""Errors that are ours and also what code written for pooch catches.

pooch passes on the errors of requests, and raises `ValueError` for wrong bytes. Each class here
is one of ours as well, so that ``.attempts``, ``.hint`` and the rest are there, and those that mean
"no connection" are Python's own `ConnectionError` too. The classes that need requests are made when
they are first used.
"""

from __future__ import annotations

import builtins
import errno
import re

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
    from typing import Any

    from ... import errors

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

_STATUS = re.compile(r": status (\d{3})\b")


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
    if isinstance(error, ObjectNotFoundError):
        default = 404
    else:
        default = 403 if isinstance(error, AccessDeniedError) else 0
    found = _STATUS.search(getattr(error, "message", ""))
    return int(found[1]) if found else default


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


def no_network(name: str, folder: str) -> errors.OfflineError:
    """Return the error for a file that is not here while the network may not be used."""
    made: errors.OfflineError = __getattr__("NoNetworkError")(
        f"{name!r} is not in {folder} as the registry has it, and pkgdata is offline",
        hint="put the file there, or a folder with it into PKGDATA_FOLDERS",
        name=name,
    )
    return made
