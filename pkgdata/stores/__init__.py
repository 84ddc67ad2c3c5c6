"""Stores: places that hold bytes under names, behind one interface.

`open_store` maps a URL's scheme to its module and imports that module alone.
"""

from __future__ import annotations

import os

from .. import urls
from ..errors import ConfigError
from .base import Body, Info, Source, Store

__all__ = ["Body", "Info", "Source", "Store", "canonical", "open_store"]


def canonical(url: str) -> str:
    """Turn a shorthand into the URL that serves it.

    ``github:owner/repo@tag`` is the release's asset folder; a plain path becomes a ``file:`` URL.

    Parameters
    ----------
    url : str

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        The shorthand is malformed.
    """
    kind = urls.scheme(url)
    if kind == "github":
        repo, at, tag = url.partition(":")[2].partition("@")
        if not at or not tag or len(repo.strip("/").split("/")) != 2:
            raise ConfigError(f"expected github:OWNER/REPO@TAG, found {urls.redact(url)!r}")
        from urllib.parse import quote

        return f"https://github.com/{repo.strip('/')}/releases/download/{quote(tag)}/"
    if kind == "":
        import pathlib

        return pathlib.Path(os.path.abspath(os.path.expanduser(url))).as_uri()
    return url


def open_store(url: str, timeout: float = 10.0) -> Store:
    """Return the store of a URL. Nothing is contacted yet.

    Parameters
    ----------
    url : str
        ``http:``, ``https:``, ``file:``, a plain path, ``github:owner/repo@tag`` or ``mem:``.
    timeout : float, default 10
        Seconds to wait for a connection, and for the next bytes.

    Returns
    -------
    Store

    Raises
    ------
    ConfigError
        The scheme is unknown or the URL malformed.
    """
    url = canonical(url)
    kind = urls.scheme(url)
    if kind in ("http", "https"):
        from .http import HttpStore

        return HttpStore(url, timeout)
    if kind == "file":
        from .file import FileStore

        return FileStore(url)
    if kind == "mem":
        from .memory import MemoryStore

        return MemoryStore(url)
    raise ConfigError(
        f"cannot read from {urls.redact(url)}: unknown scheme {kind!r}",
        hint="known: http, https, file or a plain path, github:OWNER/REPO@TAG, mem",
    )
