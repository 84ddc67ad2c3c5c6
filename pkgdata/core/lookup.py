"""A package's settings, and where they say its files may lie: the places before the network.

In order: a file shipped inside the package; the node's cache; the package's own variable; folders
of the site and user configuration; the package's predefined folders; read-only site caches; the
user cache. Looking makes no network call, takes no lock, creates no directory and writes nothing,
the stamp of a folder's file aside.

What a site's or the user's cache holds is copied into the node's when it is used, once a node.
"""

from __future__ import annotations

import _thread
import os

from ..base import config, fs
from ..base.report import ABSENT, HIT, WRONG, Place, is_file, plain_name
from ..cache.objects import Cache
from ..cache.stamps import OBJECTS, Stamps, check, note_use, record_uses
from ..errors import CacheError, CacheWarning, ConfigError, IntegrityError, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from importlib.metadata import EntryPoint
    from typing import Any, TypeVar

    from ..cache.node import NodeCache
    from ..cache.unpinned import UrlCache
    from .registry import Entry, Registry

    T = TypeVar("T")


class Settings:
    """The settings of one package; resolved again when the environment or `conf` has changed."""

    def __init__(self, name: str, declared: dict[str, Any], variables: list[str]) -> None:
        self._name = name
        self.declared = {
            key: config.convert(key, value, f"declare({name!r})") for key, value in declared.items()
        }
        self._memo: dict[str, Any] = {}
        self._basis: tuple[object, object] = ((), ())
        self._watched = config.environment_reader(
            ["PKGDATA_CONFIG", "HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"]
            + [f"PKGDATA_{key.upper()}" for key in config.FIELDS]
            + variables
        )
        #: Stands in for the user cache after that could not be written to.
        self.refuge: Cache | None = None
        self._refuge_lock = _thread.allocate_lock()
        #: Whether it may; of no use to a program that ends when the file is here.
        self.may_be_temporary = True

    def remembered(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what was made of the settings; made again if one of them may have changed."""
        basis = (self._watched(), config.state())
        if basis != self._basis:
            self._memo, self._basis = {}, basis
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = make()
        return found

    def resolve(self, name: str) -> tuple[Any, str]:
        """Return a setting and its origin."""
        if name in self.declared:
            return self.declared[name], "declare()"
        found: tuple[Any, str] = self.remembered(name, lambda: config.resolve(name))
        return found

    def __getitem__(self, name: str) -> Any:
        return self.resolve(name)[0]

    @property
    def is_offline(self) -> bool:
        """Whether nothing may be fetched."""
        declared = self.declared.get("offline")
        return config.is_offline() if declared is None else bool(declared)

    @property
    def cache(self) -> Cache:
        """The user cache, or what stands in for it."""
        return self.refuge or self.user_cache

    @property
    def user_cache(self) -> Cache:
        """The user cache, whether or not it can be written to."""
        found: Cache = self.remembered("cache", self._make_cache)
        return found

    def _make_cache(self) -> Cache:
        own = self.declared.get("cache_dir")
        path, origin = config.cache_dir() if own is None else (own, "declare()")
        return Cache(path, self["lock_timeout"], origin, self["verify"])

    @property
    def node(self) -> NodeCache | None:
        """The cache of this node, in front of all others, whether or not it is there yet."""
        found: tuple[NodeCache | None] = self.remembered("node", self._choose_node)
        return found[0]

    @property
    def node_to_fill(self) -> NodeCache | None:
        """The same if files can be put in; it is then made."""
        return self.node if self.node is not None and self.node.is_usable() else None

    def _choose_node(self) -> tuple[NodeCache | None]:
        templates, origin = self.resolve("node_cache")
        if not templates or templates == "none":
            return (None,)
        from ..cache import node  # few have one

        return (node.choose(templates, self["lock_timeout"], origin, self["verify"]),)

    def copied(self, entry: Entry, path: str) -> str | None:
        """Return the node's copy of what a slower cache holds; None if that is no good."""
        if self.node is None or entry.digest is None:
            return path
        try:
            return self.node.copy(entry.digest, entry.name, entry.size, lambda _: path)
        except CacheError:
            if os.path.lexists(path):
                raise
            return None  # it was removed just now
        except IntegrityError as error:
            warn(f"skipped {path} for {entry.name!r}: {error.message}", CacheWarning)
            try:
                fs.remove(path)
            except OSError:
                pass  # a site's cache
            return None

    def in_nearest(self, work: Callable[[Cache], T]) -> T:
        """Return what work brings into the node's cache, else as `in_cache` does."""
        node = self.node_to_fill
        if node is not None:
            try:
                return work(node)
            except CacheError as error:
                node.give_up(error.message)
        return self.in_cache(work)

    @property
    def url_cache(self) -> UrlCache:
        """The cache of unpinned files."""
        from ..cache.unpinned import UrlCache

        if self.refuge is not None:
            return UrlCache(os.path.join(self.refuge.root, self._name))
        return UrlCache(url_cache_root(self._name, self.declared.get("cache_dir")))

    def in_cache(self, work: Callable[[Cache], T]) -> T:
        """Return what work brings into the cache; a temporary one if it cannot be written to."""
        cache = None
        try:
            cache = self.cache
            return work(cache)
        except CacheError as error:
            with self._refuge_lock:
                if self.refuge in (None, cache):  # else another thread was faster
                    self._take_refuge(error)
        return work(self.cache)

    def _take_refuge(self, error: CacheError) -> None:
        """Keep files in a temporary cache from now on; raise the error again if that is no help."""
        if not getattr(error, "unwritable", False) or self.refuge is not None:
            raise error
        node = self.node_to_fill
        if node is not None:
            warn(f"{error.message}; files are kept in {node.root}", CacheWarning)
            self.refuge, self._memo = node, {}
            return
        if not self.may_be_temporary:
            text = f"nothing could be kept: {error.message}"
            raise CacheError(text, hint=error.hint, unwritable=True) from error
        import atexit
        import tempfile

        root = tempfile.mkdtemp(prefix="pkgdata-")
        if config.conf.delete_temporary_downloads_at_exit:
            owner = os.getpid()
            atexit.register(lambda: fs.remove_tree(root) if os.getpid() == owner else None)
        warn(f"{error.message}; files are kept in {root} until the program ends", CacheWarning)
        timeout = self["lock_timeout"]
        self.refuge = Cache(os.path.join(root, "cache"), timeout, "the lack of a writable cache")
        self._memo = {}  # what was made for the cache that failed


def url_cache_root(package: str, cache_dir: str | None = None) -> str:
    """Return where a package's unpinned downloads lie: in the declared cache, else astropy's."""
    if cache_dir is not None:
        return os.path.join(cache_dir, package)
    from ..cache import unpinned_dirs

    try:
        return unpinned_dirs.root_of(package)
    except ValueError:  # a name that was declared without being a package's
        return os.path.join(os.path.dirname(unpinned_dirs.root_of("pkgdata")), package)


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

    ``caches`` are pairs of a kind and a cache, without the node's; ``policy`` is the setting
    ``verify``.
    """

    def __init__(
        self,
        package_dir: str | None,
        local: Sequence[LocalFolder],
        caches: Sequence[tuple[str, Cache]],
        node: NodeCache | None,
        policy: str,
        stamps: Stamps,
    ) -> None:
        self._package_dir = package_dir
        self.local = local
        self._caches = caches
        self._node = node
        self._policy = policy
        self.stamps = stamps

    def places(self, name: Any, registry: Registry) -> Iterator[Place]:
        """Yield the places of a name, each looked into as it is asked for."""
        name = plain_name(name)
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
            if self._package_dir is not None:
                is_shipped(shipped)
            entry = registry[name]  # its error names those that are close
        # a folder whose bytes may differ from the registry is what the user wants to have
        node = [] if self._node is None or entry.digest is None else [("node cache", self._node)]
        first = self._policy not in ("size", "never")
        for kind, cache in node if first else ():
            yield self._in_cache(entry, kind, cache)
        for folder in self.local:
            yield self.in_folder(entry, folder)
        if entry.digest is not None:
            for kind, cache in (*(() if first else node), *self._caches):
                yield self._in_cache(entry, kind, cache)

    def glance(self, name: Any, registry: Registry) -> Place | None:
        """Return the first place with a file of the right size; nothing is hashed or copied."""
        node = [] if self._node is None else [("node cache", self._node)]
        caches = [(kind, Cache(one.root, verify="size")) for kind, one in (*node, *self._caches)]
        quick = Lookup(self._package_dir, self.local, caches, None, "size", self.stamps)
        return next((one for one in quick.places(name, registry) if one.state == HIT), None)

    def note_use(self, path: str) -> bool:
        """Record that a file is used, see `pkgdata.cache.stamps`; return whether it `is_far`."""
        for kind, cache in self._caches:
            if kind == "user cache" and path.startswith(cache.root + os.sep):
                note_use(cache.root, path)
        return self.is_far(path)

    def is_far(self, path: str) -> bool:
        """Return True if a path is that of an object of a slower cache than the node's."""
        return (
            self._node is not None
            and not self._node.gave_up
            and any(
                path.startswith(f"{cache.root}{os.sep}{OBJECTS}{os.sep}")
                for _, cache in self._caches
            )
        )

    def record(self, package: str, paths: Mapping[str, str], registry: Registry) -> None:
        """Record which objects of the user's cache, or copies of these, a package uses."""
        node = [] if self._node is None else [self._node.root + os.sep]
        for kind, cache in self._caches:
            if kind == "user cache":
                roots = (cache.root + os.sep, *node)
                inside = [n for n, path in paths.items() if path.startswith(roots)]
                record_uses(cache.root, package, ((registry[n].digest, n) for n in inside))

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
        wrong: list[str] = []
        path = cache.find(entry.digest, entry.name, entry.size, wrong.append)
        if path is not None:
            return Place(kind, path, HIT, "")
        path = cache.path(entry.digest, entry.name)
        if not wrong:
            return Place(kind, path, ABSENT)
        try:
            fs.remove(path)
        except OSError:
            pass  # a site's cache; it is skipped
        return Place(kind, path, WRONG, wrong[0])


def is_shipped(path: str) -> bool:
    """Return True if a package ships a file; `ConfigError` if it does, but in a zip archive."""
    if not os.path.isfile(path) and is_file(path):
        raise ConfigError(
            f"{path} lies in a zip archive, where no other program could open it",
            hint="read it with importlib.resources, or put it into the registry and on a mirror",
        )
    return os.path.isfile(path)


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
    values = {"version": version() if "{version}" in dataurl[0] else None, "package": package}
    return urls.join(canonical(urls.expand(dataurl[0], values)), entry.name)


def announcements(group: str = "pkgdata.packages") -> Iterator[tuple[EntryPoint, str | None]]:
    """Yield the entry points by which distributions announce packages, and their versions.

    In the order of the import path; a distribution whose entry points are malformed is skipped.
    """
    from importlib import metadata

    for distribution in metadata.distributions():
        try:
            points = distribution.entry_points.select(group=group)
        except (AttributeError, TypeError, ValueError):
            continue  # it would hide those of all others
        for point in points:
            yield point, distribution.version


def module_of(point: EntryPoint) -> str:
    """Return the import name that an entry point stands for; it is not imported."""
    return point.value.partition(":")[0].strip()


def version_of(name: str, folder: str | None) -> str | None:
    """Return the version of the distribution that a package comes from, or of its sources."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
    # an editable install lists none of its files, but its entry points
    for point, version in announcements():
        if module_of(point) == name:
            return version
    for distribution in metadata.packages_distributions().get(name, []):
        return metadata.version(distribution)
    return None if folder is None else _source_version(folder)


def _source_version(folder: str) -> str | None:
    """Return the version of the project in whose ``pyproject.toml`` a package's sources lie."""
    from importlib import metadata

    for _ in range(3):  # FOLDER, src/FOLDER, or src/NAMESPACE/FOLDER
        folder = os.path.dirname(folder)
        path = os.path.join(folder, "pyproject.toml")
        if os.path.exists(path):
            tables = config.read(path)
            project = tables.get("project") or tables.get("tool", {}).get("poetry", {})
            found: str | None = project.get("version")
            try:  # without a name Python 3.10 finds any distribution
                return metadata.version(project["name"]) if project.get("name") else found
            except metadata.PackageNotFoundError:
                return found
    return None


def published_as(version: str | None, version_dev: str) -> str | None:
    """Return what a version's files are published under: a development state's, as a branch's."""
    import re

    from ..base.urls import Branch

    # a local version is one too, as in pooch: tools that count commits write "1.2+3.g12ab"
    dev = re.fullmatch(r"v?\d\S*?([._-]?dev[._-]?\d*|\+\S+)", version or "", re.IGNORECASE)
    return Branch(version_dev) if dev and version_dev else version


def lookup_of(
    name: str,
    package_dir: str | None,
    env: str | None,
    folders: Sequence[str],
    settings: Settings,
    stamps: Stamps | None,
) -> Lookup:
    """Return where to look for a package's files; ``stamps`` of an earlier one stay if they fit."""
    root: str | None = None
    caches = []
    try:
        caches.append(("user cache", settings.user_cache))
        root = settings.user_cache.root
    except CacheError:
        pass  # no home directory: a hit in a folder needs none
    node = settings.node
    if settings.refuge is not None and settings.refuge.root != (node and node.root):
        caches.append(("user cache", settings.refuge))
    policy = settings["verify"]
    if policy == "owner":
        root = None  # stamps of a shared cache are not believed
    if stamps is None or stamps.root != root:
        stamps = Stamps(root)
    sites = [("site cache", Cache(path, verify=policy)) for path in settings["site_caches"]]
    variable = os.environ.get(env, "") if env else ""
    own = [
        LocalFolder("variable", os.path.abspath(config.expand_path(folder, env)), "", env or "")
        for folder in filter(None, variable.split(os.pathsep))
    ]
    configured, origin = settings.resolve("folders")
    own += [LocalFolder("configured folder", path, f"{name}/", origin) for path in configured]
    own += [LocalFolder("package folder", path) for path in folders]
    return Lookup(package_dir, own, sites + caches, node, policy, stamps)
