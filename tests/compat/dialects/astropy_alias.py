"""Puts pkgdata in the place of `astropy.utils.data` in `sys.modules`."""

from __future__ import annotations

import importlib
import sys
import types

#: Of `astropy.config.paths`, which decides where the cache is.
PATHS = ("get_cache_dir", "get_cache_dir_path", "set_temp_cache", "temporary_cache_dir_path")


def install() -> None:
    """Alias `astropy.utils.data`, and the cache functions, for whoever imports them from now on."""
    import astropy.config
    import astropy.utils.data

    import pkgdata
    from pkgdata.cache import unpinned_dirs

    sys.modules["astropy.utils.data"] = pkgdata
    astropy.utils.data = pkgdata
    theirs = importlib.import_module("astropy.config.paths")
    paths = types.ModuleType("astropy.config.paths")
    paths.__dict__.update(vars(theirs))
    for name in PATHS:
        setattr(paths, name, getattr(unpinned_dirs, name))
    sys.modules["astropy.config.paths"] = paths
    astropy.config.paths = paths
