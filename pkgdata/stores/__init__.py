"""Stores: places that hold bytes under names, behind one interface.

`driver` maps a URL's scheme to its class and imports that module alone.
"""

from __future__ import annotations

from ..base import urls
from ..base.urls import canonical
from ..errors import ConfigError
from .base import Attributes, Body, Info, Primitives, Source
from .store import Result, Store, dl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Attributes",
    "Body",
    "Info",
    "Primitives",
    "Result",
    "Source",
    "Store",
    "canonical",
    "dl",
    "driver",
    "open_store",
    "public",
]

#: Schemes and where their drivers are.
_DRIVERS = {
    "http": ("http", "HttpStore"),
    "https": ("http", "HttpStore"),
    "file": ("file", "FileStore"),
    "mem": ("memory", "MemoryStore"),
    "s3": ("providers", "S3"),
    "gs": ("providers", "Google"),
    "az": ("providers", "Azure"),
    "sftp": ("sftp", "SftpStore"),
}

_KNOWN = "http, https, file or a plain path, s3, gs, az, sftp, github:OWNER/REPO@TAG, mem"


def driver(url: str) -> type[Store]:
    """Return the class of stores that a URL belongs to.

    Parameters
    ----------
    url : str

    Returns
    -------
    type

    Raises
    ------
    ConfigError
        The scheme is unknown.
    MissingExtraError
        Its package is not installed.
    """
    import importlib

    kind = urls.scheme(canonical(url))
    if kind not in _DRIVERS:
        return _other(kind, url)
    module, name = _DRIVERS[kind]
    found: type[Store] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found


def _other(kind: str, url: str) -> type[Store]:
    """Return the driver for fsspec's protocols, if fsspec is installed and knows this one."""
    try:
        from fsspec.registry import known_implementations, registry
    except ImportError:
        known: Any = ()
        hint = f"known: {_KNOWN}; with fsspec installed (pip install fsspec), its protocols too"
    else:
        known = {*known_implementations, *registry}
        hint = f"known: {_KNOWN}, and the protocols of fsspec"
    if kind not in known:
        raise ConfigError(f"{urls.redact(url)}: unknown scheme {kind!r}", hint=hint)
    from .fsspec import FsspecStore

    return FsspecStore


def public(url: str) -> str:
    """Return the plain web address at which a public bucket is read, without a signature.

    Parameters
    ----------
    url : str
        Any URL; what is no bucket comes back as it is, shorthands resolved.

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        The URL is malformed.
    """
    url = canonical(url)
    if urls.scheme(url) not in ("s3", "gs", "az"):
        return url
    from .buckets import web_address

    return web_address(url)


def open_store(url: str, timeout: float | None = None) -> Store:
    """Return the store from which a package's files are read: a bucket by its public web address.

    Nothing is contacted yet.

    Parameters
    ----------
    url : str
        See `Store`.
    timeout : float, optional
        Seconds to wait for a connection, and for the next bytes.

    Returns
    -------
    Store

    Raises
    ------
    ConfigError
        The scheme is unknown or the URL malformed.
    """
    url = public(url)
    kind = urls.scheme(url)
    if kind not in _DRIVERS:
        try:
            _other(kind, url)
        except ConfigError as error:
            raise ConfigError(f"cannot read from {error.message}", hint=error.hint) from None
    store = Store(url, timeout=timeout)
    store.exact = True
    return store
