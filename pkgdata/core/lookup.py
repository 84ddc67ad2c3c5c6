"""Where a package's files may lie on this machine: the places that are tried before the network.

In order: a file shipped inside the package; the package's own variable; folders of the site and
user configuration; the package's predefined folders; read-only site caches; the user cache. Looking
makes no network call, takes no lock, creates no directory and writes nothing, the stamp of a
folder's file aside.
"""

from __future__ import annotations

import os

from ..base import fs
from ..base.report import ABSENT, HIT, WRONG, Place
from ..cache import stamps as folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..cache.objects import Cache
    from ..cache.stamps import Stamps
    from ..cache.unpinned import UrlCache
    from .registry import Entry, Registry


class Folder:
    """One local folder.

    Parameters
    ----------
    kind : str
        See `Place`.
    below : str
        What stands before a name in it: ``"mypkg/"`` in configured folders.
    origin : str
        Which setting named it.
    """

    __slots__ = ("below", "kind", "origin", "path")

    def __init__(self, kind: str, path: str, below: str = "", origin: str = "") -> None:
        self.kind = kind
        self.path = path
        self.below = below
        self.origin = origin


class Lookup:
    """The places of one package, as its settings are now.

    Parameters
    ----------
    package_dir : str or None
        Of the installed package.
    caches : sequence of (str, Cache)
        Kind and cache.
    policy : str
        When files are checked: ``"once"``, ``"always"``, ``"size"`` or ``"never"``.
    """

    def __init__(
        self,
        package_dir: str | None,
        local: Sequence[Folder],
        caches: Sequence[tuple[str, Cache]],
        policy: str,
        stamps: Stamps,
    ) -> None:
        self._package_dir = package_dir
        self.local = local
        self._caches = caches
        self._policy = policy
        self._stamps = stamps

    def places(self, name: str, registry: Registry) -> Iterator[Place]:
        """Yield the places of a name, each looked into as it is asked for.

        Raises
        ------
        UnknownNameError
            The registry has no such name, and the package ships no such file.
        """
        entry = registry.get(name) if isinstance(name, str) else None
        if entry is None:  # the names of entries were looked at when these were made
            fs.safe_name(name)
        if self._package_dir is not None:
            inside = name if name.startswith("data/") else f"data/{name}"
            shipped = os.path.join(self._package_dir, *inside.split("/"))
            here = os.path.isfile(shipped)
            yield Place("package", shipped, HIT if here else ABSENT)
            if here and entry is None:
                return
        if entry is None:
            entry = registry[name]  # which tells of names that are close
        for folder in self.local:
            yield self.in_folder(entry, folder)
        if entry.digest is not None:
            for kind, cache in self._caches:
                yield self._in_cache(entry, kind, cache)

    def in_folder(self, entry: Entry, folder: Folder) -> Place:
        """Look into one folder."""
        name = folder.below + entry.name
        found = folders.check(
            folder.path, name, entry.digest, entry.size, self._policy, self._stamps
        )
        if found is None:
            path = os.path.join(folder.path, *name.split("/"))
            return Place(folder.kind, path, ABSENT, folder.origin)
        path, problem = found
        state = HIT if problem is None else WRONG
        return Place(folder.kind, path, state, problem or folder.origin)

    def _in_cache(self, entry: Entry, kind: str, cache: Cache) -> Place:
        assert entry.digest is not None
        path = cache.find(entry.digest, entry.name, entry.size)
        if path is None:
            return Place(kind, cache.path(entry.digest, entry.name), ABSENT)
        problem = self._recheck(path, entry) if self._policy == "always" else None
        return Place(kind, path, HIT if problem is None else WRONG, problem or "")

    @staticmethod
    def _recheck(path: str, entry: Entry) -> str | None:
        """Hash a cached object again; a damaged one is removed."""
        from ..base import hashes

        assert entry.digest is not None
        actual = hashes.hash_file(path, entry.digest.alg)
        if actual == entry.digest:
            return None
        try:
            fs.remove(path)
        except OSError:
            pass  # a site's cache; it is skipped
        return f"expected {entry.digest}, found {actual}; it will be fetched again"


def in_url_cache(url: str, cache: UrlCache) -> Place:
    """Look for an unpinned file."""
    path = cache.find(url)
    return Place("user cache", path or cache.root, HIT if path else ABSENT, "not pinned")
