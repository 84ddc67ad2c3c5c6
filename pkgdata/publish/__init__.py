"""Publish: upload, write the registry, prove it by downloading again.

`destination_for` maps a URL's scheme to its class and imports that module alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..base import urls
from ..base.report import each_name
from ..errors import PublishError
from ..stores import canonical
from .destination import Destination, Held, Item

__all__ = ["Destination", "Held", "Item", "destination_for", "destinations_for"]

#: Schemes and where their classes are.
_KINDS = {
    "file": ("places", "WebFolder"),
    "sftp": ("places", "SftpFolder"),
    "s3": ("places", "Bucket"),
    "gs": ("places", "Bucket"),
    "az": ("places", "Bucket"),
    "pages": ("pages", "Pages"),
    "github": ("github", "GitHub"),
    "figshare": ("figshare", "Figshare"),
    "zenodo": ("zenodo", "Zenodo"),
}

_KNOWN = (
    "/FOLDER, sftp://HOST/FOLDER, s3://BUCKET/PREFIX, gs://…, az://…, pages:OWNER/REPO, "
    "github:OWNER/REPO@TAG, figshare:, zenodo:"
)


def _of_folder(place: str) -> str:
    """Return the URL of a folder that is given as a path; any other place as it is."""
    if os.path.isabs(place) or place[:2] in ("./", "~/") or place[:3] == "../":
        return canonical(os.path.expanduser(place))
    return place


def _class_of(url: str) -> type[Destination]:
    import importlib

    kind = urls.scheme(url)
    if kind not in _KINDS:
        raise PublishError(
            f"{urls.redact(url)}: nothing is known of publishing to "
            + (f"{kind!r}" if kind else "a name"),
            hint=f"known: {_KNOWN}" + ("" if kind else f"; or did you mean the folder ./{url}?"),
        )
    module, name = _KINDS[kind]
    found: type[Destination] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found


def _options_of(cls: type[Destination]) -> set[str]:
    import inspect

    # a class passes on what its base classes take
    known = {name for base in cls.__mro__[:-1] for name in inspect.signature(base).parameters}
    return known - {"url", "options", "store"}


def destination_for(url: str, **options: Any) -> Destination:
    """Return the destination that a URL names. Nothing is contacted yet.

    Parameters
    ----------
    url : str
    **options
        Such as ``public_url``, ``public`` or ``storage_class``; those that are None are left out.

    Returns
    -------
    Destination

    Raises
    ------
    PublishError
        The scheme is unknown, the URL malformed, or an option means nothing there.
    MissingExtraError
        It needs a package that is not installed.
    """
    url = _of_folder(url)
    cls = _class_of(url)
    given = {name: value for name, value in options.items() if value is not None}
    unknown = sorted(given.keys() - _options_of(cls))
    if unknown:
        raise PublishError(f"{urls.redact(url)}: {unknown[0]} means nothing for this destination")
    address = given.get("public_url") or ""
    if urls.has_secret(address):  # it is for registries, pages and everybody's pkgdata.toml
        raise PublishError(
            f"{urls.redact(address)} holds a login or a signature, and is to be public",
            hint="name the address that everybody reads",
        )
    return cls(url, **given)


def destinations_for(
    places: str | Sequence[str], public_urls: str | Sequence[str] = (), **options: Any
) -> list[Destination]:
    """Return several destinations, each with those options that mean something there.

    Parameters
    ----------
    places : str or sequence of str
        As for `destination_for`.
    public_urls : str or sequence of str, default ()
        One for each place; or one for each that has no public address of its own, in their order.
    **options
        None means that an option is not given.

    Returns
    -------
    list of Destination

    Raises
    ------
    PublishError
        There is no place, an option means nothing at any, or the addresses do not fit.
    """
    places, public_urls = [*map(_of_folder, each_name(places))], [*each_name(public_urls)]
    if not places:
        raise PublishError(
            "nowhere to publish to",
            hint=f"name a place; known: {_KNOWN}",
            command=f"say --to DEST; known: {_KNOWN}",
        )
    given = {name: value for name, value in options.items() if value is not None}
    taken = [_options_of(_class_of(place)) for place in places]
    unknown = sorted(name for name in given if not any(name in known for known in taken))
    if unknown:
        word = unknown[0].replace("_", "-")
        raise PublishError(f"--{word} means nothing for {', '.join(map(urls.redact, places))}")
    addresses = _assigned(places, public_urls)
    return [
        destination_for(
            place,
            **{name: value for name, value in given.items() if name in known},
            **({"public_url": address} if address is not None else {}),
        )
        for place, known, address in zip(places, taken, addresses, strict=True)
    ]


def _assigned(places: Sequence[str], public_urls: list[str]) -> list[str | None]:
    """Return the public address given for each place."""
    if not public_urls:
        return [None] * len(places)
    if len(public_urls) == len(places):
        return [*public_urls]
    lacking = [place for place in places if _lacks_address(place)]
    if len(public_urls) != len(lacking):
        raise PublishError(
            f"{len(public_urls)} public addresses for {len(places)} destinations",
            hint="give one for each place, or one for each file:, sftp: and pages:….git",
            command="give --url once for each --to, or once for each file:, sftp: and pages:….git",
        )
    left = iter(public_urls)
    return [next(left) if place in lacking else None for place in places]


def _lacks_address(place: str) -> bool:
    """Return True if nothing tells where the web shows a place."""
    kind = urls.scheme(place)
    other_site = place.rstrip("/").endswith(".git") or "://" in place
    return kind in ("file", "sftp") or (kind == "pages" and other_site)
