"""pkgdata: data files for Python packages, found locally or downloaded once, always verified.

>>> import pkgdata
>>> data = pkgdata.declare("mypkg", dataurl="https://example.org/mypkg/", registry="registry.txt")
>>> path = data.get("map.fits")                                          # doctest: +SKIP

Names are loaded when they are first used: ``import pkgdata`` costs next to nothing.

PYTEST_DONT_REWRITE: programs that import pkgdata and then run pytest shall see no warning about it.
"""

from __future__ import annotations

__version__ = "0.1.0"

#: Where each public name lives.
_HOMES = {
    "declare": "core.declaration",
    "PackageData": "core.package",
    "Place": "base.report",
    "Report": "base.report",
    "Store": "stores",
    "dl": "stores",
    "Dataset": "datasets",
    "dataset": "datasets",
    "Registry": "core.registry",
    "Entry": "core.registry",
    "Digest": "base.hashes",
    "Cache": "cache.objects",
    "Event": "base.progress",
    "conf": "base.config",
    "Conf": "base.config",
    "cache_contents": "compat.astropy.contents",
    "cache_total_size": "compat.astropy.contents",
    "check_download_cache": "compat.astropy.contents",
    "check_free_space_in_dir": "compat.astropy.download",
    "clear_download_cache": "compat.astropy.contents",
    "compute_hash": "compat.astropy.contents",
    "download_file": "compat.astropy.download",
    "download_files_in_parallel": "compat.astropy.download",
    "export_download_cache": "compat.astropy.contents",
    "get_cache_dir": "cache.unpinned_dirs",
    "get_cached_urls": "compat.astropy.contents",
    "get_file_contents": "compat.astropy.readable",
    "get_free_space_in_dir": "compat.astropy.download",
    "get_readable_fileobj": "compat.astropy.readable",
    "import_download_cache": "compat.astropy.contents",
    "import_file_to_cache": "compat.astropy.contents",
    "is_url": "cache.unpinned",
    "is_url_in_cache": "compat.astropy.contents",
    "set_temp_cache": "cache.unpinned_dirs",
    "temporary_cache_dir_path": "cache.unpinned_dirs",
    "Catalog": "catalog",
    "prepare_dataset": "catalog",
    "get_data": "compat.getters",
    "get_pkg_data_contents": "compat.getters",
    "get_pkg_data_fileobj": "compat.getters",
    "get_pkg_data_fileobjs": "compat.getters",
    "get_pkg_data_filename": "compat.getters",
    "get_pkg_data_filenames": "compat.getters",
    "get_pkg_data_path": "compat.getters",
    "PkgdataError": "errors",
    "ConfigError": "errors",
    "UnsafeNameError": "errors",
    "RegistryError": "errors",
    "UnknownNameError": "errors",
    "IntegrityError": "errors",
    "StoreError": "errors",
    "ObjectNotFoundError": "errors",
    "ObjectExistsError": "errors",
    "AccessDeniedError": "errors",
    "UnsupportedOperationError": "errors",
    "MissingExtraError": "errors",
    "IncompleteTransferError": "errors",
    "AllMirrorsFailedError": "errors",
    "OfflineError": "errors",
    "CacheError": "errors",
    "CacheLockTimeoutError": "errors",
    "CacheDamaged": "errors",
    "ExtractionError": "errors",
    "DatasetError": "errors",
    "PublishError": "errors",
    "AlreadyPublishedError": "errors",
    "CatalogError": "errors",
    "UnknownDatasetError": "errors",
    "BatchError": "errors",
    "PkgdataWarning": "errors",
    "CacheWarning": "errors",
    "CacheMissingWarning": "errors",
    "FolderWarning": "errors",
}

#: pooch's processors, which `PackageData.get` carries out safely.
_POOCH = ("Unzip", "Untar", "Decompress")

#: Modules that are public names themselves.
_MODULES = ("catalog", "datasets")

#: Private names of ``astropy.utils.data`` that code outside of it reads.
_READ_BY_OTHERS = {
    "_deltemps": "compat.astropy.download",
    "_get_download_cache_loc": "compat.astropy.contents",
    "_is_url": "cache.unpinned",
    "_requires_fsspec": "compat.astropy.readable",
    "_tempfilestodel": "compat.astropy.download",
}

__all__ = [*_HOMES, *_MODULES, *_POOCH]


def __getattr__(name: str) -> object:
    import importlib

    if name in _POOCH:
        value = getattr(importlib.import_module("pooch"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        home = _HOMES.get(name) or _READ_BY_OTHERS.get(name)
        if home is None:
            raise AttributeError(f"module 'pkgdata' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
