"""pkgdata: data files for Python packages, found locally or downloaded once, always verified.

>>> import pkgdata
>>> data = pkgdata.declare("mypkg", dataurl="https://example.org/mypkg/", registry="registry.txt")
>>> path = data.get("map.fits")                                          # doctest: +SKIP

Names are loaded when they are first used: ``import pkgdata`` costs next to nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

#: Where each public name lives.
_HOMES = {
    "declare": "declaration",
    "PackageData": "package",
    "Place": "report",
    "Report": "report",
    "Registry": "registry",
    "Entry": "registry",
    "Digest": "hashes",
    "Cache": "cache",
    "Event": "progress",
    "conf": "config",
    "get_data": "getters",
    "get_pkg_data_contents": "getters",
    "get_pkg_data_fileobj": "getters",
    "get_pkg_data_fileobjs": "getters",
    "get_pkg_data_filename": "getters",
    "get_pkg_data_filenames": "getters",
    "get_pkg_data_path": "getters",
    "PkgdataError": "errors",
    "ConfigError": "errors",
    "UnsafeNameError": "errors",
    "RegistryError": "errors",
    "UnknownNameError": "errors",
    "IntegrityError": "errors",
    "StoreError": "errors",
    "ObjectNotFoundError": "errors",
    "AccessDeniedError": "errors",
    "UnsupportedOperationError": "errors",
    "MissingExtraError": "errors",
    "IncompleteTransferError": "errors",
    "AllMirrorsFailedError": "errors",
    "OfflineError": "errors",
    "CacheError": "errors",
    "CacheLockTimeoutError": "errors",
    "ExtractionError": "errors",
    "BatchError": "errors",
    "PkgdataWarning": "errors",
    "CacheWarning": "errors",
    "FolderWarning": "errors",
}

#: pooch's processors, which `PackageData.get` carries out safely.
_POOCH = ("Unzip", "Untar", "Decompress")

__all__ = [*_HOMES, *_POOCH]


def __getattr__(name: str) -> object:
    import importlib

    if name in _POOCH:
        value = getattr(importlib.import_module("pooch"), name)
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'pkgdata' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
