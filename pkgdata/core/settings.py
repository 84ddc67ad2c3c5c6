"""A package's settings as they are now: as declared, else as configured, and what rests on them."""

from __future__ import annotations

import os

from ..base import config, dirs, fs
from ..cache.objects import Cache
from ..errors import CacheError, CacheWarning, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..cache.unpinned import UrlCache


class Settings:
    """The settings of one package; resolved again when the environment or `conf` has changed."""

    def __init__(self, name: str, declared: dict[str, Any], variables: list[str]) -> None:
        self._name = name
        self.declared = {
            key: config.convert(key, value, f"declare({name!r})") for key, value in declared.items()
        }
        self._memo: dict[str, Any] = {}
        self._basis: tuple[object, object] = ((), ())
        self._watched = dirs.environment_reader(
            ["PKGDATA_CONFIG", "HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"]
            + [f"PKGDATA_{key.upper()}" for key in config.FIELDS]
            + variables
        )
        #: Stands in for the user cache after that could not be written to.
        self.refuge: Cache | None = None

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
        if self.refuge is not None:
            return self.refuge
        found: Cache = self.remembered("cache", self._make_cache)
        return found

    def _make_cache(self) -> Cache:
        if "cache_dir" in self.declared:
            return Cache(self.declared["cache_dir"], self["lock_timeout"], "declare()")
        path, origin = config.cache_dir()
        return Cache(path, self["lock_timeout"], origin)

    @property
    def url_cache(self) -> UrlCache:
        """The cache of unpinned files."""
        from ..cache.unpinned import UrlCache

        if self.refuge is not None:
            return UrlCache(os.path.join(self.refuge.root, self._name))
        return UrlCache(url_cache_root(self._name, self.declared.get("cache_dir")))

    def take_refuge(self, error: CacheError) -> None:
        """Keep files in a temporary cache from now on; raise the error again if that is no help."""
        if not getattr(error, "unwritable", False) or self.refuge is not None:
            raise error
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
