"""Which driver serves a URL; its module alone is imported."""

from __future__ import annotations

import importlib

from ..base import urls
from ..errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Schemes and where their drivers are.
_DRIVERS = {
    "http": "http.HttpStore",
    "https": "http.HttpStore",
    "file": "file.FileStore",
    "mem": "memory.MemoryStore",
    "s3": "providers.S3",
    "gs": "providers.Google",
    "az": "providers.Azure",
    "sftp": "sftp.SftpStore",
}

_KNOWN = "http, https, file or a plain path, s3, gs, az, sftp, github:OWNER/REPO@TAG, mem"


def find(url: str) -> type[Any]:
    """Return the class of stores that a URL belongs to."""
    home = _DRIVERS.get(urls.scheme(urls.canonical(url))) or _other(url)
    module, _, name = home.partition(".")
    found: type[Any] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    return found


def check(url: str) -> None:
    """Raise a `ConfigError` if nothing serves a URL."""
    if urls.scheme(url) not in _DRIVERS:
        _other(url)


def _other(url: str) -> str:
    """Return the driver of fsspec's protocols, if fsspec is installed and has this one."""
    kind = urls.scheme(urls.canonical(url))
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
    return "fsspec.FsspecStore"
