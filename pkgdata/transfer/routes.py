"""Which objects plain requests reach: those of `pkgdata.transfer.sockets`, and how."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

from ..base import urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .mirrors import Mirrors

    #: Scheme, host and port of a server, and the target of the request to it.
    Route = tuple[tuple[str, str, int], str]


class Routes:
    """How the objects of some mirrors are reached."""

    def __init__(self, mirrors: Mirrors) -> None:
        self._mirrors = mirrors
        self._direct: dict[str, bool] = {}
        bases = mirrors.bases()
        self._bases = [urls.join(base, "") if base[:4] == "http" else base for base in bases]
        self._reached = [self._reach(base) for base in self._bases]

    def _reach(self, url: str) -> Route | None:
        found = plain_route(url)
        if found is None:
            return None
        host = found[0][1]
        if host not in self._direct:
            self._direct[host] = is_direct(host)
        return found if self._direct[host] else None

    def route(self, name: str, own: Sequence[str], turn: int) -> Route | None:
        """Return how the n-th source of an object is reached; None if not by plain requests.

        ``own`` are the addresses of this object alone, which come first.
        """
        if turn < len(own):
            return self._reach(self._mirrors.resolved(own[turn]))
        turn -= len(own)
        found = self._reached[turn] if turn < len(self._reached) else None
        if found is None:
            return None
        if "?" in found[1]:
            return self._reach(urls.join(self._bases[turn], name))
        # the rest of the URL is the same for all of them
        return found[0], found[1] + urls.quote_name(name)


def plain_route(url: str) -> Route | None:
    """Return how a quoted URL is reached; None if it holds a login or is not plain."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None  # a bad port or bracket; a single fetch words it
    if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or port == 0:
        return None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not (url.isascii() and target.isprintable()) or " " in target:
        return None
    return (parts.scheme, host, port or (443 if parts.scheme == "https" else 80)), target


def is_direct(host: str) -> bool:
    """Return True if a server is reached without a proxy and without a login from ``netrc``."""
    names = [f"{kind}_proxy" for kind in ("http", "https", "all")]
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in names):
        return False
    if sys.platform in ("darwin", "win32"):
        import urllib.request

        if urllib.request.getproxies():
            return False
    return not _netrc_knows(host)


def _netrc_knows(host: str) -> bool:
    named = os.environ.get("NETRC")
    paths = [named] if named else ["~/.netrc", "~/_netrc"]
    for path in map(os.path.expanduser, paths):
        if os.path.exists(path):
            import netrc

            try:
                return netrc.netrc(path).authenticators(host) is not None
            except (netrc.NetrcParseError, OSError, UnicodeDecodeError):
                return True  # requests decides what to make of it
    return False
