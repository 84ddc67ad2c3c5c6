"""`PackageData`: what a library author creates. It joins registry, folders, caches and mirrors.

Places are tried in the order of `pkgdata.core.lookup`, then the mirrors. A hit makes no network
call, takes no lock, creates no directory and writes nothing, but for the copy on a node.
"""

from __future__ import annotations

import os
from os import stat as _stat

from ..base import config, report
from ..base.report import ABSENT, HIT, UNTRIED, WRONG, Place, Report, each_name, is_file, plain_name
from ..cache.objects import Cache
from ..errors import CacheError, CacheWarning, FolderWarning, OfflineError, PkgdataError, warn
from .lookup import Settings, lookup_of, published_as, url_of, version_of
from .registry import as_registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import IO, Any

    from ..base.progress import Callback
    from ..cache.stamps import Stamps
    from .download import Downloads
    from .lookup import Lookup
    from .registry import Entry, Registry

    Name = str | os.PathLike[str]

#: Variables whose change makes a remembered answer void.
_WATCHED = ["CACHE_DIR", "FOLDERS", "SITE_CACHES", "NODE_CACHE", "CONFIG", "VERIFY"]


class PackageData(report.InNotebook):
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
        version_dev: str = "main",
        package_dir: str | None = None,
        **settings: Any,
    ) -> None:
        self.name = name
        self.dataurl = tuple(each_name(dataurl))
        self.folders = tuple(os.path.abspath(config.expand_path(one)) for one in each_name(folders))
        self.env = env
        self.package_dir = package_dir
        self._version = version
        self._version_dev = version_dev
        self._registry_source = registry, urls
        self._registry: Registry | None = None
        # how another process makes it: as it was declared, with nothing of this machine in it
        given = {"dataurl": dataurl, "registry": registry, "urls": urls, "folders": folders}
        given.update(env=env, version=version, package_dir=package_dir, version_dev=version_dev)
        self._recipe: tuple[Any, ...] = _construct, (type(self), name, {**given, **settings})
        self._settings = Settings(name, settings, [env] if env else [])
        # answers by name: path, size, mtime in ns; void when what they rest on changes
        self._known: dict[Any, tuple[str, int, int]] = {}
        watched = [f"PKGDATA_{key}" for key in _WATCHED]
        self._watched = config.environment_reader(watched + ([env] if env else []))
        self._basis: tuple[object, object] = ((), ())
        self._stamps: Stamps | None = None

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
            if self._registry_source == (None, None):
                self._registry.lack = self._lack()
        return self._registry

    def _lack(self) -> str:
        if self.package_dir is None:
            return f"{self.name} has none, and is no package that could hold one"
        toml = os.path.join(self.package_dir, "pkgdata.toml")
        if is_file(toml):
            return f"{toml} names none, and no registry.txt is next to it"
        return f"{self.name} has none: no pkgdata.toml or registry.txt is in {self.package_dir}"

    @property
    def version(self) -> str | None:
        """What fills ``{version}``: the installed version unless declared.

        That of a development state, such as ``"1.2.dev3+g12ab"``, is ``version_dev``.
        """
        if self._version is None:
            self._version = version_of(self.name, self.package_dir)
        return published_as(self._version, self._version_dev)

    def setting(self, name: str) -> Any:
        """Return a setting: as declared for this package, else as configured.

        Parameters
        ----------
        name : str

        Returns
        -------
        object
        """
        return self._settings[name]

    @property
    def cache(self) -> Cache:
        """The user cache; a temporary one after the real one could not be written to."""
        return self._settings.in_cache(lambda cache: cache)

    @property
    def node_cache(self) -> Cache | None:
        """The cache of this node by the setting ``node_cache``; None if none can be used."""
        return self._settings.node_to_fill

    # -- lookup ----------------------------------------------------------------------------

    def get(
        self,
        name: Name,
        processor: Callable[[str, str, Any], Any] | None = None,
        *,
        progress: Callback | bool | None = None,
        timeout: float | None = None,
    ) -> str:
        """Return the path of a file; fetch it if it is not here.

        Parameters
        ----------
        name : str or path-like
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
        name: Name,
        processor: Callable[[str, str, Any], Any] | None,
        progress: Callback | bool | None,
        timeout: float | None,
    ) -> Any:
        path, action = self.find(name), "fetch"
        if path is not None and self._lookup().note_use(path):
            path = self._settings.copied(self.registry[name], path)
        if path is None:
            show = self._view(progress)
            path, action = self._download(self.registry[name], show, timeout), "download"
        if processor is not None:
            return self._process(processor, path, action, name)
        if self.setting("verify") != "always":
            basis = (self._watched(), config.state())
            if basis != self._basis:
                self._known.clear()
                self._basis = basis
            try:
                found = os.stat(path)
            except OSError:
                return path  # a file that no digest pins is removed at any time
            self._known[name] = (path, found.st_size, found.st_mtime_ns)
        return path

    def find(self, name: Name) -> str | None:
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
                kind = CacheWarning if place.kind.endswith("cache") else FolderWarning
                warn(f"skipped {place.where} for {name!r}: {place.note}", kind)
        return None

    def where(self, name: Name) -> list[Place]:
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
        places: list[Place] = report.Rows(self._local_places(name))
        if name in self.registry:
            note = "offline" if self._settings.is_offline else ""
            sources = self._downloads().sources(self.registry[name])
            places += [Place("mirror", source.address, UNTRIED, note) for source in sources]
        return places

    def _local_places(self, name: Name) -> Iterator[Place]:
        yield from self._lookup().places(name, self.registry)
        if name in self.registry and self.registry[name].digest is None:
            url = url_of(self.registry[name], self.name, self.dataurl, lambda: self.version)
            try:
                cache = self._settings.url_cache
            except CacheError:
                return  # no home directory: what needs the cache reports it
            path = cache.named(url, plain_name(name))
            yield Place("user cache", path or cache.root, HIT if path else ABSENT, "not pinned")

    def _lookup(self) -> Lookup:
        """Return the places to look into, as the settings are now."""
        found: Lookup = self._settings.remembered("lookup", self._make_lookup)
        return found

    def _make_lookup(self) -> Lookup:
        made = lookup_of(
            self.name, self.package_dir, self.env, self.folders, self._settings, self._stamps
        )
        self._stamps = made.stamps
        return made

    # -- bringing it here ------------------------------------------------------------------

    def _downloads(self) -> Downloads:
        from .download import Downloads

        return Downloads(self.name, self.dataurl, lambda: self.version, self._settings)

    def _view(
        self, progress: Callback | bool | None, files: int = 0, total: int | None = None
    ) -> Callback:
        """Return the callback that an argument ``progress`` asks for; pytest's report wraps it."""
        from ..base.progress import view

        return view(progress, files, total, self.setting("progress"))

    def _download(self, entry: Entry, show: Callback, timeout: float | None = None) -> str:
        if self._settings.is_offline:  # before anything that speaks HTTP is imported
            raise self._offline(entry.name)
        return self._downloads().bring(entry, show, timeout)

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

    # -- more than one file ----------------------------------------------------------------

    def fetch(
        self,
        names: Name | Iterable[Name] | None = None,
        *,
        to: str | os.PathLike[str] | None = None,
        progress: Callback | bool | None = None,
        on: Any = None,
    ) -> Report:
        """Make sure that files are here; nothing stops because one of them fails.

        Parameters
        ----------
        names : str, path-like or iterable of these, optional
            All of the registry by default.
        to : path-like, optional
            Also write them below this folder, as ``TO/PACKAGE/NAME``, so that ``TO`` serves as a
            configured folder on another machine.
        progress : callable or bool, optional
            See `get`.
        on : dask.distributed.Client, mpi4py communicator or str, optional
            Bring them to each of its machines, whose paths the report then has (``to`` too).
            ``"job"``: in step with the other ranks that srun, mpiexec, torchrun or flux started;
            ``"slurm"``: to all nodes, from a batch script; ``"mpi"``: all ranks of MPI.

        Returns
        -------
        Report

        Raises
        ------
        BatchError
            Some failed; the others are here.
        """
        if on is not None:
            from ..cluster import fetch_on

            return fetch_on(self, names, on, to, progress)
        wanted = list(dict.fromkeys(self.registry if names is None else each_name(names)))
        report = Report(lambda again: self.fetch(again, to=to, progress=progress))
        rest = self._look(wanted, report)
        if rest:
            from .download import fetch_all

            fetch_all(self, wanted, rest, report, lambda *size: self._view(progress, *size))
        self.cache.tidy()
        self._lookup().record(self.name, report.succeeded, self.registry)
        if to is not None:
            from .download import export

            export(report, os.path.join(os.fspath(to), self.name), self.registry)
        report.raise_if_failed(self.name)
        return report

    def _look(self, names: Iterable[str], report: Report) -> list[Entry]:
        """Put what is here into a report; return what is not, or not on the node."""
        rest, offline = [], self._settings.is_offline
        for name in names:
            try:
                path = self.find(name)
                if path is not None:
                    report.succeeded[name] = path
                elif offline:  # before anything that speaks HTTP is imported
                    raise self._offline(name)
                if path is None or self._lookup().note_use(path):
                    rest.append(self.registry[name])
            except (PkgdataError, OSError) as error:
                report.failed[name] = error
        return rest

    def open(self, name: Name, mode: str = "rb", **kwargs: Any) -> IO[Any]:
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

    def tree(self, prefix: Name = "") -> str:
        """Return a directory in which the files below a prefix lie side by side.

        Parameters
        ----------
        prefix : str or path-like, default ``""``
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
        start = (plain_name(prefix).strip("/") + "/").lstrip("/")
        lookup = self._lookup()
        for folder in lookup.local:
            entries = (self.registry[start + name] for name in part)
            if all(lookup.in_folder(entry, folder).state == HIT for entry in entries):
                return os.path.join(folder.path, *(folder.below + start).strip("/").split("/"))
        identity = part.digest()
        if target := (self.node_cache or self.cache).find_tree(identity):
            return target
        paths = self.fetch([start + name for name in part]).succeeded
        return self._settings.in_nearest(
            lambda cache: cache.tree(identity, ((name, paths[start + name]) for name in part))
        )

    def verify(self, names: Name | Iterable[Name] | None = None) -> dict[str, str]:
        """Hash the files that are here again, whatever was stamped.

        Parameters
        ----------
        names : str, path-like or iterable of these, optional
            All of the registry by default.

        Returns
        -------
        dict of str to str
            By name: ``"ok"``, ``"absent"``, or what is wrong.
        """
        from ..base import hashes

        result = {}
        for name in self.registry if names is None else each_name(names):
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
        self, processor: Callable[[str, str, Any], Any], path: str, action: str, name: Any
    ) -> Any:
        from ..base import hashes
        from . import extract

        digest = self.registry[name].digest if name in self.registry else None
        digest = digest or hashes.hash_file(path)
        room = extract.Growth.of(self.setting)
        return self._settings.in_nearest(
            lambda cache: extract.apply(processor, path, action, self, cache, digest, room)
        )


def _construct(kind: type[PackageData], name: str, arguments: dict[str, Any]) -> PackageData:
    return kind(name, **arguments)
