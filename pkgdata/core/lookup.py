"""Where a package's files may lie on this machine: the places that are tried before the network.

In order: a file shipped inside the package; the package's own variable; folders of the site and
user configuration; the package's predefined folders; read-only site caches; the user cache. Looking
makes no network call, takes no lock, creates no directory and writes nothing, the stamp of a
folder's file aside.
"""

from __future__ import annotations

import os

from ..base import dirs, fs
from ..base.report import ABSENT, HIT, WRONG, Place
from ..cache.objects import Cache
from ..cache.stamps import Stamps, check
from ..errors import CacheError, ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..cache.unpinned import UrlCache
    from .registry import Entry, Registry
    from .settings import Settings


class LocalFolder:
    """A local folder: its kind as in `Place`, what stands before a name in it, and its setting."""

    __slots__ = ("below", "kind", "origin", "path")

    def __init__(self, kind: str, path: str, below: str = "", origin: str = "") -> None:
        self.kind = kind
        self.path = path
        self.below = below
        self.origin = origin


class Lookup:
    """The places of one package, as its settings are now.

    ``caches`` are pairs of a kind and a cache; ``policy`` is the setting ``verify``.
    """

    def __init__(
        self,
        package_dir: str | None,
        local: Sequence[LocalFolder],
        caches: Sequence[tuple[str, Cache]],
        policy: str,
        stamps: Stamps,
    ) -> None:
        self._package_dir = package_dir
        self.local = local
        self._caches = caches
        self._policy = policy
        self.stamps = stamps

    def places(self, name: str, registry: Registry) -> Iterator[Place]:
        """Yield the places of a name, each looked into as it is asked for."""
        entry = registry.get(name) if isinstance(name, str) else None
        if entry is None:  # the names of entries were checked when these were made
            fs.safe_name(name)
        if self._package_dir is not None:
            inside = name if name.startswith("data/") else f"data/{name}"
            shipped = os.path.join(self._package_dir, *inside.split("/"))
            here = os.path.isfile(shipped)
            yield Place("package", shipped, HIT if here else ABSENT)
            if here and entry is None:
                return
        if entry is None:
            entry = registry[name]  # its error names those that are close
        for folder in self.local:
            yield self.in_folder(entry, folder)
        if entry.digest is not None:
            for kind, cache in self._caches:
                yield self._in_cache(entry, kind, cache)

    def in_folder(self, entry: Entry, folder: LocalFolder) -> Place:
        """Look into one folder."""
        name = folder.below + entry.name
        found = check(folder.path, name, entry.digest, entry.size, self._policy, self.stamps)
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


def url_of(
    entry: Entry, package: str, dataurl: Sequence[str], version: Callable[[], str | None]
) -> str:
    """Return the URL that names an unpinned file in the cache."""
    from ..base import urls
    from ..stores import canonical

    if entry.urls:
        return entry.urls[0]
    if not dataurl:
        raise ConfigError(f"{package} has no dataurl to fetch {entry.name!r} from")
    values = {"version": version(), "package": package}
    return urls.join(canonical(urls.expand(dataurl[0], values)), entry.name)


def lookup_of(
    name: str,
    package_dir: str | None,
    env: str | None,
    folders: Sequence[str],
    settings: Settings,
    stamps: Stamps | None,
) -> Lookup:
    """Return where to look for a package's files; ``stamps`` of an earlier one stay if they fit."""
    try:
        caches = [("user cache", settings.cache)]
        root: str | None = settings.cache.root
    except CacheError:
        caches, root = [], None  # no home directory: a hit in a folder needs none
    if stamps is None or stamps.root != root:
        stamps = Stamps(root)
    sites = [("site cache", Cache(path)) for path in settings["site_caches"]]
    variable = os.environ.get(env, "") if env else ""
    own = [
        LocalFolder("variable", os.path.abspath(dirs.expand_path(folder)), "", env or "")
        for folder in filter(None, variable.split(os.pathsep))
    ]
    configured, origin = settings.resolve("folders")
    own += [LocalFolder("configured folder", path, f"{name}/", origin) for path in configured]
    own += [LocalFolder("package folder", path) for path in folders]
    return Lookup(package_dir, own, sites + caches, settings["verify"], stamps)
