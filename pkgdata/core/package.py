"""`PackageData`: what a library author creates. It joins registry, folders, cache and mirrors.

Lookup order: a file shipped inside the package; the package's own variable; folders of the site and
user configuration; the package's predefined folders; read-only site caches; the user cache; the
mirrors. A hit makes no network call, takes no lock, creates no directory and writes nothing.
"""

from __future__ import annotations

import os
from os import stat as _stat

from ..base import config, dirs, fs
from ..base.report import ABSENT, HIT, UNTRIED, WRONG, Place, Report
from ..cache.objects import Cache
from ..errors import CacheError, CacheWarning, FolderWarning, OfflineError, PkgdataError, warn
from .registry import as_registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import IO, Any

    from ..base.progress import Callback
    from ..cache.partial import Partial
    from ..cache.stamps import Stamps
    from ..cache.unpinned import UrlCache
    from ..transfer.mirrors import Health, Mirrors
    from .lookup import Folder, Lookup
    from .registry import Entry, Registry

#: Variables whose change makes a remembered answer void.
_WATCHED = ["CACHE_DIR", "FOLDERS", "SITE_CACHES", "CONFIG", "VERIFY"]


class PackageData:
    """The data files of one package. Making one touches no disk and no network.

    `pkgdata.declare` is the usual way to make one and describes the parameters.
    """

    def __init__(
        self,
        name: str,
        *,
        dataurl: str | Sequence[str] = (),
        registry: Registry | Mapping[str, str | None] | str | os.PathLike[str] | None = None,
        urls: Mapping[str, str] | None = None,
        folders: Sequence[str | os.PathLike[str]] = (),
        env: str | None = None,
        version: str | None = None,
        package_dir: str | None = None,
        **settings: Any,
    ) -> None:
        self.name = name
        self.dataurl = (dataurl,) if isinstance(dataurl, str) else tuple(dataurl)
        self.folders = tuple(
            os.path.abspath(dirs.expand_path(os.fspath(folder))) for folder in folders
        )
        self.env = env
        self.package_dir = package_dir
        self._version = version
        self._registry_source = registry, urls
        self._registry: Registry | None = None
        # how another process makes it: as it was declared, with nothing of this machine in it
        self._recipe: tuple[Callable[..., PackageData], tuple[Any, ...]] = (
            _construct,
            (
                type(self),
                name,
                {
                    "dataurl": dataurl,
                    "registry": registry,
                    "urls": urls,
                    "folders": folders,
                    "env": env,
                    "version": version,
                    "package_dir": package_dir,
                    **settings,
                },
            ),
        )
        self._settings = {
            key: config.convert(key, value, f"declare({name!r})") for key, value in settings.items()
        }
        # answers by name: path, size, mtime in ns; void when what they rest on changes
        self._known: dict[str, tuple[str, int, int]] = {}
        self._watched = dirs.environment_reader(
            [f"PKGDATA_{key}" for key in _WATCHED] + ([env] if env else [])
        )
        self._basis: tuple[object, object] = ((), ())
        # settings as resolved and what was made of them, void when any variable of ours changes
        self._memo: dict[str, Any] = {}
        self._memo_basis: tuple[object, object] = ((), ())
        self._all_watched = dirs.environment_reader(
            ["PKGDATA_CONFIG", "HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"]
            + [f"PKGDATA_{key.upper()}" for key in config.FIELDS]
            + ([env] if env else [])
        )
        self._stamps: Stamps | None = None
        self._refuge: Cache | None = None

    def __repr__(self) -> str:
        from ..base.urls import redact

        return f"<PackageData {self.name}: {', '.join(map(redact, self.dataurl)) or 'no dataurl'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return self._recipe

    # -- what it consists of ---------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """The registry, a mapping from name to `Entry`; read when first needed."""
        if self._registry is None:
            self._registry = as_registry(*self._registry_source)
        return self._registry

    @property
    def version(self) -> str | None:
        """The version that fills ``{version}``; the installed one unless declared."""
        if self._version is None:
            from importlib import metadata

            try:
                self._version = metadata.version(self.name)
            except metadata.PackageNotFoundError:
                for distribution in metadata.packages_distributions().get(self.name, []):
                    self._version = metadata.version(distribution)
        return self._version

    def setting(self, name: str) -> Any:
        """Return a setting: as declared for this package, else as configured.

        Parameters
        ----------
        name : str

        Returns
        -------
        object
        """
        return self._resolved(name)[0]

    def _resolved(self, name: str) -> tuple[Any, str]:
        """Return a setting and its origin, resolved again if the environment or `conf` changed."""
        if name in self._settings:
            return self._settings[name], "declare()"
        self._refresh()
        found: tuple[Any, str] | None = self._memo.get(name)
        if found is None:
            found = self._memo[name] = config.resolve(name)
        return found

    def _refresh(self) -> None:
        basis = (self._all_watched(), config.state())
        if basis != self._memo_basis:
            self._memo, self._memo_basis = {}, basis

    @property
    def cache(self) -> Cache:
        """The user cache; a temporary one after the real one could not be written to."""
        if self._refuge is not None:
            return self._refuge
        self._refresh()
        found: Cache | None = self._memo.get("cache")
        if found is None:
            if "cache_dir" in self._settings:
                path, origin = self._settings["cache_dir"], "declare()"
            else:
                path, origin = config.cache_dir()
            found = self._memo["cache"] = Cache(path, self.setting("lock_timeout"), origin)
        return found

    # -- lookup ----------------------------------------------------------------------------

    def get(
        self,
        name: str,
        processor: Callable[[str, str, Any], Any] | None = None,
        *,
        progress: Callback | bool | None = None,
        timeout: float | None = None,
    ) -> str:
        """Return the path of a file; fetch it if it is not here.

        Parameters
        ----------
        name : str
            Name in the registry, or of a file shipped in the package's ``data`` folder.
        processor : callable, optional
            Called as ``processor(path, action, self)``; its result is returned instead. pooch's
            ``Unzip``, ``Untar`` and ``Decompress`` are carried out safely.
        progress : callable or bool, optional
            Called with each `pkgdata.base.progress.Event`; True or False draws bars or not.
            By default the setting ``progress`` decides.
        timeout : float, optional
            Seconds to connect, and between bytes; the setting ``remote_timeout`` by default.

        Returns
        -------
        str
            Absolute path, ending in the file's own name. Do not write to the file.

        Raises
        ------
        UnknownNameError
            The registry has no such name.
        UnsafeNameError
            The name could leave its folder.
        OfflineError
            It is not here and the network may not be used.
        IntegrityError
            The mirrors have other bytes.
        AllMirrorsFailedError
            No mirror could serve it.
        CacheError
            The cache cannot be used.
        """
        known = self._known.get(name)
        if known is not None and processor is None:
            path, size, mtime = known
            try:
                found = _stat(path)
            except OSError:
                pass
            else:
                if (
                    found.st_size == size
                    and found.st_mtime_ns == mtime
                    and self._basis == (self._watched(), config.state())
                ):
                    return path
        result: str = self._get(name, processor, progress, timeout)
        return result

    def _get(
        self,
        name: str,
        processor: Callable[[str, str, Any], Any] | None,
        progress: Callback | bool | None,
        timeout: float | None,
    ) -> Any:
        path, action = self.find(name), "fetch"
        if path is None:
            show = self._show(progress)
            path, action = self._download(self.registry[name], show, timeout), "download"
        if processor is not None:
            return self._process(processor, path, action, name)
        if self.setting("verify") != "always":
            basis = (self._watched(), config.state())
            if basis != self._basis:
                self._known.clear()
                self._basis = basis
            found = os.stat(path)
            self._known[name] = (path, found.st_size, found.st_mtime_ns)
        return path

    def find(self, name: str) -> str | None:
        """Return the path of a file that is here, or None; never uses the network.

        Parameters
        ----------
        name : str

        Returns
        -------
        str or None

        Raises
        ------
        UnknownNameError
            The registry has no such name.
        """
        for place in self._local_places(name):
            if place.state == HIT:
                return place.where
            if place.state == WRONG:
                _warn_folder(name, place)
        return None

    def where(self, name: str) -> list[Place]:
        """List every place that lookup tries, in order, and what it finds there.

        Parameters
        ----------
        name : str

        Returns
        -------
        list of Place

        Raises
        ------
        UnknownNameError
            The registry has no such name.
        """
        places = list(self._local_places(name))
        if name in self.registry:
            note = "offline" if self._is_offline() else ""
            entry = self.registry[name]
            sources = self._mirrors().sources(name, entry.urls)
            places += [Place("mirror", source.address, UNTRIED, note) for source in sources]
        return places

    def _local_places(self, name: str) -> Iterator[Place]:
        yield from self._lookup().places(name, self.registry)
        if name in self.registry and self.registry[name].digest is None:
            from .lookup import in_url_cache

            yield in_url_cache(self._url_of(self.registry[name]), self._url_cache())

    def _lookup(self) -> Lookup:
        """Return the places to look into; made again if a setting may have changed."""
        self._refresh()
        found = self._memo.get("lookup")
        if found is None:
            from ..cache.stamps import Stamps
            from .lookup import Lookup

            try:
                caches = [("user cache", self.cache)]
                root: str | None = self.cache.root
            except CacheError:
                caches, root = [], None  # no home directory: a hit in a folder needs none
            if self._stamps is None or self._stamps.root != root:
                self._stamps = Stamps(root)
            sites = [("site cache", Cache(path)) for path in self.setting("site_caches")]
            found = self._memo["lookup"] = Lookup(
                self.package_dir,
                list(self._folders()),
                sites + caches,
                self.setting("verify"),
                self._stamps,
            )
        lookup: Lookup = found
        return lookup

    def _folders(self) -> Iterator[Folder]:
        """Yield the local folders in the order of lookup."""
        from .lookup import Folder

        if self.env:
            for folder in filter(None, os.environ.get(self.env, "").split(os.pathsep)):
                yield Folder("variable", os.path.abspath(dirs.expand_path(folder)), "", self.env)
        configured, origin = self._resolved("folders")
        for folder in configured:
            yield Folder("configured folder", folder, f"{self.name}/", origin)
        for folder in self.folders:
            yield Folder("package folder", folder)

    # -- bringing it here ------------------------------------------------------------------

    def _mirrors(self, timeout: float | None = None) -> Mirrors:
        from ..transfer.mirrors import Mirrors

        # finding the version costs 30 ms
        version = self.version if any("{version}" in url for url in self.dataurl) else None
        return Mirrors(
            self.dataurl,
            self.setting("rewrite"),
            self.setting("remote_timeout") if timeout is None else timeout,
            {"version": version, "package": self.name},
            self._health(),
        )

    def _health(self) -> Health | None:
        from ..transfer.mirrors import Health

        try:
            return Health(self.cache.root)
        except CacheError:
            return None  # no home directory; what needs the cache reports it

    def _is_offline(self) -> bool:
        declared = self._settings.get("offline")
        return config.is_offline() if declared is None else bool(declared)

    def _offline(self, name: str) -> OfflineError:
        searched = "\n".join(
            f"  {place.kind}: {place.where} ({place.state})" for place in self._local_places(name)
        )
        return OfflineError(
            f"{name!r} of {self.name} is not here and pkgdata is offline; looked in\n{searched}",
            hint=f"on a machine with network run 'pkgdata fetch {self.name} {name} --to DIR' and "
            "add DIR to PKGDATA_FOLDERS here",
            name=name,
        )

    def _download(
        self, entry: Entry, show: Callback, timeout: float | None = None, **rounds: Any
    ) -> str:
        """Fetch a file into the cache; ``rounds`` as for `first_good`."""
        if self._is_offline():  # before anything that speaks HTTP is imported
            raise self._offline(entry.name)
        from ..base.progress import WAIT, Event
        from ..transfer.fetch import fetch, shown
        from ..transfer.limits import configured

        def fill(partial: Partial) -> None:
            fetch(
                entry.name,
                partial,
                self._mirrors(timeout).sources(entry.name, entry.urls),
                entry.digest,
                entry.size,
                show,
                limits=configured(self.setting),
                health=self._health(),
                **{"retries": self.setting("retries"), **rounds},
            )

        def waiting(_: float, who: str, size: int) -> None:
            show(Event(entry.name, WAIT, size, entry.size, who))

        def bring() -> str:
            if entry.digest is None:
                return self._url_cache().obtain(self._url_of(entry), self.cache, fill)
            sync = self.setting("durability") != "none"
            return self.cache.obtain(entry.digest, entry.name, entry.size, fill, waiting, sync)

        with shown(entry.name, show, lambda: os.stat(path).st_size):
            try:
                path = bring()
            except CacheError as error:
                if not getattr(error, "unwritable", False) or self._refuge is not None:
                    raise
                self._refuge = _temporary_cache(error, self.setting("lock_timeout"))
                self._memo = {}  # what was made for the cache that failed
                path = bring()
        return path

    def _url_of(self, entry: Entry) -> str:
        """Return the URL that names an unpinned file in the cache."""
        from ..base import urls
        from ..stores import canonical

        if entry.urls:
            return entry.urls[0]
        if not self.dataurl:
            from ..errors import ConfigError

            raise ConfigError(f"{self.name} has no dataurl to fetch {entry.name!r} from")
        values = {"version": self.version, "package": self.name}
        return urls.join(canonical(urls.expand(self.dataurl[0], values)), entry.name)

    def _url_cache(self) -> UrlCache:
        from ..cache.unpinned import UrlCache

        if self._refuge is not None:
            return UrlCache(os.path.join(self._refuge.root, self.name))
        return UrlCache(url_cache_root(self.name, self._settings.get("cache_dir")))

    # -- more than one file ----------------------------------------------------------------

    def fetch(
        self,
        names: Iterable[str] | None = None,
        *,
        to: str | os.PathLike[str] | None = None,
        progress: Callback | bool | None = None,
    ) -> Report:
        """Make sure that files are here; nothing stops because one of them fails.

        Parameters
        ----------
        names : iterable of str, optional
            All of the registry by default.
        to : path-like, optional
            Also write them below this folder, as ``TO/PACKAGE/NAME``, so that ``TO`` serves as a
            configured folder on another machine.
        progress : callable or bool, optional
            See `get`.

        Returns
        -------
        Report

        Raises
        ------
        BatchError
            Some failed; the others are here.
        """
        wanted = list(dict.fromkeys(self.registry if names is None else names))
        report = Report(lambda again: self.fetch(again, to=to, progress=progress))
        missing = []
        for name in wanted:
            try:
                path = self.find(name)
                if path is None:
                    missing.append(self.registry[name])
                else:
                    report.succeeded[name] = path
            except (PkgdataError, OSError) as error:
                report.failed[name] = error
        if missing:
            sizes = [entry.size for entry in missing]
            total = None if None in sizes else sum(size or 0 for size in sizes)
            show = self._show(progress, len(missing), total)
            self._bring_all(missing, report, show)
        if to is not None:
            self._export_all(report, os.fspath(to))
        report.raise_if_failed(self.name)
        return report

    def _bring_all(self, entries: list[Entry], report: Report, show: Callback) -> None:
        if self._is_offline():
            for entry in entries:
                report.failed[entry.name] = self._offline(entry.name)
            return
        from .batch import Batch

        batch = Batch(
            entries, self.cache, report, self._download, self._mirrors(), self.setting, show
        )
        batch.run()

    def _export_all(self, report: Report, to: str) -> None:
        for name, path in list(report.succeeded.items()):
            try:
                report.succeeded[name] = self._export(name, path, to)
            except OSError as error:
                del report.succeeded[name]
                report.failed[name] = error

    def _export(self, name: str, path: str, to: str) -> str:
        target = os.path.join(to, self.name, *name.split("/"))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not self._is_same(name, path, target):
            fs.copy_atomic(path, target, sync=False)
        return target

    def _is_same(self, name: str, path: str, target: str) -> bool:
        from ..base import hashes

        if not os.path.isfile(target) or os.path.getsize(target) != os.path.getsize(path):
            return False
        digest = self.registry[name].digest if name in self.registry else None
        digest = digest or hashes.hash_file(path)
        return hashes.hash_file(target, digest.alg) == digest

    def open(self, name: str, mode: str = "rb", **kwargs: Any) -> IO[Any]:
        """Open a file for reading; fetch it if it is not here.

        Parameters
        ----------
        name : str
        mode : str, default ``"rb"``
            ``"rb"``, ``"r"`` or ``"rt"``.
        **kwargs
            For `open`, such as ``encoding``.

        Returns
        -------
        file object

        Raises
        ------
        ValueError
            The mode would write.
        """
        if mode not in ("r", "rb", "rt"):
            raise ValueError(f"data files are opened for reading, not with mode {mode!r}")
        return open(self.get(name), mode, **kwargs)

    def tree(self, prefix: str = "") -> str:
        """Return a directory in which the files below a prefix lie side by side.

        Parameters
        ----------
        prefix : str, default ``""``
            Folder in the registry; its own name is left out of the directory.

        Returns
        -------
        str
            A folder of the site or user, if one holds them all; else a directory in the cache,
            made of hard links where possible.

        Raises
        ------
        UnknownNameError
            Nothing lies below the prefix.
        BatchError
            Some files could not be fetched.
        """
        part = self.registry.under(prefix)
        start = prefix.strip("/") + "/" if prefix.strip("/") else ""
        lookup = self._lookup()
        for folder in lookup.local:
            entries = (self.registry[start + name] for name in part)
            if all(lookup.in_folder(entry, folder).state == HIT for entry in entries):
                return os.path.join(folder.path, *(folder.below + start).strip("/").split("/"))
        identity = part.digest()
        target = self.cache.find_tree(identity)
        if target is not None:
            return target
        paths = self.fetch([start + name for name in part]).succeeded
        return self.cache.tree(identity, ((name, paths[start + name]) for name in part))

    def verify(self, names: Iterable[str] | None = None) -> dict[str, str]:
        """Hash the files that are here again, whatever was stamped.

        Parameters
        ----------
        names : iterable of str, optional
            All of the registry by default.

        Returns
        -------
        dict of str to str
            By name: ``"ok"``, ``"absent"``, or what is wrong.
        """
        from ..base import hashes

        result = {}
        for name in self.registry if names is None else names:
            entry = self.registry[name]
            path = self.find(name)
            if path is None:
                result[name] = ABSENT
                continue
            actual = entry.digest and hashes.hash_file(path, entry.digest.alg)
            wrong = f"{path}: expected {entry.digest}, found {actual}"
            result[name] = "ok" if actual == entry.digest else wrong
        return result

    def _process(
        self, processor: Callable[[str, str, Any], Any], path: str, action: str, name: str
    ) -> Any:
        from ..base import hashes
        from . import extract

        digest = self.registry[name].digest if name in self.registry else None
        return extract.apply(
            processor,
            path,
            action,
            self,
            self.cache,
            digest or hashes.hash_file(path),
            self.setting("extract_limit"),
        )

    def _show(
        self, progress: Callback | bool | None, files: int = 0, total: int | None = None
    ) -> Callback:
        from ..base.progress import view

        return view(progress, files, total, self.setting("progress"))


def _construct(kind: type[PackageData], name: str, arguments: dict[str, Any]) -> PackageData:
    return kind(name, **arguments)


def url_cache_root(package: str, cache_dir: str | None = None) -> str:
    """Return where a package's unpinned downloads lie: in the declared cache, else astropy's."""
    if cache_dir is not None:
        return os.path.join(cache_dir, package)
    from ..cache import unpinned_dirs

    try:
        return unpinned_dirs.root_of(package)
    except ValueError:  # a name that was declared without being a package's
        return os.path.join(os.path.dirname(unpinned_dirs.root_of("pkgdata")), package)


def _temporary_cache(error: CacheError, lock_timeout: float) -> Cache:
    import atexit
    import tempfile

    root = tempfile.mkdtemp(prefix="pkgdata-")
    if config.conf.delete_temporary_downloads_at_exit:
        owner = os.getpid()
        atexit.register(lambda: fs.remove_tree(root) if os.getpid() == owner else None)
    warn(f"{error.message}; files are kept in {root} until the program ends", CacheWarning)
    return Cache(os.path.join(root, "cache"), lock_timeout, "the lack of a writable cache")


def _warn_folder(name: str, place: Place) -> None:
    kind = CacheWarning if place.kind.endswith("cache") else FolderWarning
    warn(f"skipped {place.where} for {name!r}: {place.note}", kind)
