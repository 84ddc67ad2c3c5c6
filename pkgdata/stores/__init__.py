"""Stores: places that hold bytes under names, behind one interface.

`driver` maps a URL's scheme to its class and imports that module alone.
"""

from __future__ import annotations

from ..base import urls
from ..base.urls import canonical
from ..errors import ConfigError
from . import naming
from .base import Primitives, Source
from .objects import Attributes, Body, Info, Result
from .store import Store, dl

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
    found: type[Store] = naming.find(url)
    return found


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
    return naming.web_address(url)


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
    try:
        naming.check(url)
    except ConfigError as error:
        raise ConfigError(f"cannot read from {error.message}", hint=error.hint) from None
    store = Store(url, timeout=timeout)
    store.exact = True
    return store
