"""The folder of a cache: what explains it, what its errors mean, what dead processes left in it."""

from __future__ import annotations

import os

from ..base import disk, fs, locks, owners
from ..errors import CacheError
from .stamps import OBJECTS

_TAG = """Signature: 8a477f597d28d172789f06886806bc55
# This file marks a cache directory made by pkgdata; backup tools may skip it.
# See https://bford.info/cachedir/
"""
_README = """This folder is the cache of pkgdata, a Python package that fetches data files.

All files here can be fetched again. To see and to clear them:

    pkgdata cache ls
    pkgdata cache prune --older-than 90
    pkgdata cache clear

Do not change files in place: several packages may share one.
"""


def prepare(root: str) -> None:
    """Create a root with its two explanatory files."""
    # umask decides on the root; who wants to share it sets its mode, which all below follows
    os.makedirs(root, exist_ok=True)
    for name, text in (("README.txt", _README), ("CACHEDIR.TAG", _TAG)):
        fs.write_atomic(os.path.join(root, name), text.encode(), sync=False, follow=True)


def unusable(root: str, origin: str, error: OSError) -> CacheError:
    """Return what an error of the system means for a cache that a setting named."""
    where = f" (set by {origin})" if origin not in ("", "default") else ""
    found = error.strerror or str(error)
    if error.errno in disk.NO_SPACE:
        return disk.no_space(f"in the cache {root}{where}", found)
    path = error.filename or root
    if error.errno in disk.NO_FOLDER:
        found, path = disk.obstacle(path, found)
    # a home that cannot be used is nobody's choice; a folder that somebody set is to be right
    no_home = origin == "default" and error.errno in disk.NO_FOLDER
    return CacheError(
        f"the cache {root}{where} cannot be used: {found}" + (f": {path}" if path != root else ""),
        hint="set PKGDATA_CACHE_DIR to a folder that can be written",
        unwritable=no_home or error.errno in fs.UNWRITABLE,
    )


def tidy(root: str, left: list[str]) -> None:
    """Remove of unfinished and lock files those that nobody needs.

    What may be resumed stays; `pkgdata.cache.upkeep.sweep` removes more.
    """
    for path in left:
        key, owner = os.path.basename(path).partition(".")[0], owners.of(path)
        try:
            if path.endswith(".lock"):
                locks.remove_free(path)
            elif (owner is None or owners.is_gone(owner)) and _has(root, key):
                fs.discard(path)
        except OSError:
            pass  # another user's; it is not in the way


def _has(root: str, key: str) -> bool:
    """Return True if an object is here with this key, which shortens its digest."""
    alg, _, digits = key.partition("-")
    found = fs.listed(root, OBJECTS, alg, digits[:2])
    return any(os.path.basename(path).startswith(digits[2:]) for path in found)
