"""Small objects that are brought in together: written one by one, synced once, then renamed.

A sync of its own for each of thousands of small files would cost more than fetching them. Here all
are written first; then the file system is synced once; then each gets its name. Rule 1 of
`pkgdata.cache` holds as for a single object: what has its name is on disk.
"""

from __future__ import annotations

import os
import time

from ..base import fs, owners
from . import stamps
from .objects import OBJECTS, PARTIAL, key_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..base.hashes import Digest
    from .objects import Cache

#: Objects, bytes and seconds after which a group is brought in: a crash loses no more than that,
#: and nobody who wants one of them waits for longer.
MOST, MOST_BYTES, MOST_SECONDS = 1024, 256 << 20, 2.0


class Group:
    """Verified objects on their way into a cache, which its usage lock keeps from removal.

    `brought` is called with the tag and the path of each object that is in the cache. Durability is
    "batch": one sync before the renames of a group; "each": one for each object; "none", so that a
    power loss may leave an object empty under its name.
    """

    def __init__(self, cache: Cache, brought: Callable[[Any, str], None], durability: str) -> None:
        self._cache = cache
        self._brought = brought
        self._partial = cache.bucket(PARTIAL)
        self._objects = cache.bucket(OBJECTS)
        self._each = durability == "each" or (durability == "batch" and not fs.can_sync_all())
        self._once = durability == "batch" and not self._each
        self._owner = owners.unique()
        self._file_mode = os.stat(self._partial).st_mode & 0o444
        self._folder_mode = os.stat(self._objects).st_mode & 0o7777
        self._strict: bool | None = None
        self._strict_folders: bool | None = None
        self._folders: set[str] = set()
        self._waiting: list[tuple[str, str, str, Any]] = []
        self._sizes: list[tuple[Digest, int]] = []
        self._bytes = 0
        self._since = 0.0

    def create(self, digest: Digest) -> tuple[str, int]:
        """Open a new file for an object's bytes; return its path and descriptor."""
        path = os.path.join(self._partial, f"{key_of(digest)}.{self._owner}.part")
        return path, fs.create_exclusive(path, follow=False, mode=self._file_mode)

    def add(
        self, path: str, fd: int, digest: Digest, name: str, size: int, record: bool, tag: object
    ) -> None:
        """Take over a file whose bytes were verified, and close it.

        The size is recorded if no registry tells it.
        """
        try:
            if self._strict is None:
                # whether the umask is stricter than the cache's folder; the same for all
                self._strict = os.fstat(fd).st_mode & 0o777 != self._file_mode
            if self._strict:
                os.chmod(path, self._file_mode)
            if self._each:
                os.fsync(fd)
        except BaseException:
            fs.remove(path)
            raise
        finally:
            os.close(fd)
        target = self._cache.path(digest, name)
        self._waiting.append((path, digest.alg, target, tag))
        if record:
            self._sizes.append((digest, size))
        self._bytes += size
        if len(self._waiting) == 1:
            self._since = time.monotonic()
        full = len(self._waiting) >= MOST or self._bytes >= MOST_BYTES
        if not self._once or full or time.monotonic() - self._since >= MOST_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring in what is waiting; after an error those before it are here."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        found, self._sizes = self._sizes, []
        try:
            if waiting and self._once:
                fs.sync_all(self._partial)
            if found:
                stamps.record_sizes(self._cache.root, found)
            while waiting:
                path, alg, target, tag = waiting[-1]
                self._bring(path, alg, target)
                waiting.pop()
                self._brought(tag, target)
        finally:
            for path, *_ in waiting:
                fs.remove(path)  # an error ended it; nobody would go on with these

    def _bring(self, path: str, alg: str, target: str) -> None:
        folder = os.path.dirname(target)
        above = os.path.dirname(folder)
        if above not in self._folders:
            self._make(os.path.join(self._objects, alg))
            self._make(above)
            self._folders.add(above)
        self._make(folder)
        fs.replace(path, target)

    def _make(self, folder: str) -> None:
        try:
            os.mkdir(folder, self._folder_mode)
        except FileExistsError:
            return
        if self._strict_folders is None:
            # a umask that takes nothing from the files may take something from the folders
            self._strict_folders = os.stat(folder).st_mode & 0o7777 != self._folder_mode
        if self._strict_folders:
            os.chmod(folder, self._folder_mode)
