"""Looking after a cache: list, prune, sweep, clear, carry to another machine."""

from __future__ import annotations

import os

from . import _fs
from .cache import (
    DERIVED,
    LOCKS,
    OBJECTS,
    PARTIAL,
    SIZES,
    STAMPS,
    TREES,
    Cache,
    key_of,
    listdir,
    split,
)
from .hashes import Digest
from .partial import owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Days after which unfinished bytes that nobody goes on with are swept away.
PARTIAL_DAYS = 7.0


class Item:
    """One object of a cache.

    Parameters
    ----------
    digest : Digest
    name : str
        Its file name.
    path : str
    size : int
        Bytes.
    used : float
        Seconds since the epoch: last access or change, whichever is later.
    """

    __slots__ = ("digest", "name", "path", "size", "used")

    def __init__(self, digest: Digest, name: str, path: str, size: int, used: float) -> None:
        self.digest = digest
        self.name = name
        self.path = path
        self.size = size
        self.used = used


def items(cache: Cache) -> Iterator[Item]:
    """Yield every object of a cache.

    Parameters
    ----------
    cache : Cache

    Yields
    ------
    Item
    """
    for digest, folder in cache.digests(OBJECTS):
        for name in listdir(folder):
            path = os.path.join(folder, name)
            try:
                found = os.stat(path)
            except OSError:
                continue
            yield Item(digest, name, path, found.st_size, max(found.st_atime, found.st_mtime))


def prune(
    cache: Cache, days: float, dry_run: bool = False, now: float | None = None
) -> tuple[list[Item], int]:
    """Remove what was not used for a time, and what nobody will finish.

    Parameters
    ----------
    cache : Cache
    days : float
        Objects used less recently than this are removed, with their trees and derived files.
    dry_run : bool, default False
        Only list.
    now : float, optional
        Seconds since the epoch.

    Returns
    -------
    (list of Item, int)
        Objects, and the number of leftovers swept.

    Raises
    ------
    CacheLockTimeoutError
        The cache is in use.
    """
    import time

    now = time.time() if now is None else now
    if not os.path.isdir(cache.root):
        return [], 0
    with cache.usage(exclusive=True):
        old = [item for item in items(cache) if item.used <= now - days * 86400]
        if dry_run:
            return old, 0
        for item in old:
            _fs.remove(item.path)
            _fs.remove(os.path.join(cache.root, SIZES, *split(item.digest)))
        for bucket in (TREES, DERIVED):
            for _, folder in list(cache.digests(bucket)):
                if _last_use(folder) <= now - days * 86400:
                    _fs.remove_tree(folder)
        return old, _sweep(cache, now)


def sweep(cache: Cache, now: float | None = None) -> int:
    """Remove what killed processes left: unfinished files, lock files, empty folders.

    Unfinished bytes of an object that is not here yet stay for `PARTIAL_DAYS`, unless their
    owner still runs.

    Parameters
    ----------
    cache : Cache
    now : float, optional
        Seconds since the epoch.

    Returns
    -------
    int
        Files and folders removed.
    """
    import time

    if not os.path.isdir(cache.root):
        return 0
    with cache.usage(exclusive=True):
        return _sweep(cache, time.time() if now is None else now)


def _sweep(cache: Cache, now: float) -> int:
    count = 0
    here = {key_of(digest) for digest, folder in cache.digests(OBJECTS) if listdir(folder)}
    for name in listdir(os.path.join(cache.root, PARTIAL)):
        path = os.path.join(cache.root, PARTIAL, name)
        owner = owner_of(path)
        runs = owner is not None and not _fs.owner_is_gone(owner)
        age = (now - _mtime(path)) / 86400
        useful = name.endswith((".part", ".note")) and name.partition(".")[0] not in here
        if age > PARTIAL_DAYS or not (runs or useful):
            _fs.remove_tree(path) if os.path.isdir(path) else _fs.remove(path)
            count += 1
    for name in listdir(os.path.join(cache.root, LOCKS)):
        # whoever waits for a key holds .lock shared, so nobody waits now
        count += _fs.remove(os.path.join(cache.root, LOCKS, name))
    for name in listdir(cache.root):
        if name.endswith(".tmp"):
            count += _fs.remove(os.path.join(cache.root, name))
    for bucket in (OBJECTS, SIZES, TREES, DERIVED):
        count += _remove_leftovers(os.path.join(cache.root, bucket))
    return count


def clear(cache: Cache) -> int:
    """Remove everything of ours; what other releases made stays.

    Parameters
    ----------
    cache : Cache

    Returns
    -------
    int
        Bytes removed.

    Raises
    ------
    CacheLockTimeoutError
        The cache is in use.
    """
    if not os.path.isdir(cache.root):
        return 0
    with cache.usage(exclusive=True):
        size = sum(item.size for item in items(cache))
        for bucket in (OBJECTS, SIZES, TREES, DERIVED, STAMPS, PARTIAL, LOCKS):
            _fs.remove_tree(os.path.join(cache.root, bucket))
    return size


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _last_use(folder: str) -> float:
    """Return when a file below a folder was last read or changed, as the file system tells."""
    latest = 0.0
    for _, path in _fs.walk_files(folder):
        found = os.stat(path)
        latest = max(latest, found.st_atime, found.st_mtime)
    return latest


def _remove_leftovers(top: str) -> int:
    """Remove temporary files and empty folders below a bucket, the deepest first."""
    count, depth = 0, top.count(os.sep)
    for folder, _, files in os.walk(top, topdown=False):
        for name in files:
            if name.endswith(".tmp"):
                count += _fs.remove(os.path.join(folder, name))
        # deeper down, an empty folder belongs to a tree
        if folder != top and folder.count(os.sep) - depth <= 3 and not os.listdir(folder):
            os.rmdir(folder)
            count += 1
    return count
