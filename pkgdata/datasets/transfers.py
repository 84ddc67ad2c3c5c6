"""Between this computer and the repository: push and pull, in both forms."""

from __future__ import annotations

import os

from ..base.progress import DONE, WAIT, Event, silent
from ..errors import (
    AccessDeniedError,
    AlreadyPublishedError,
    DatasetError,
    PkgdataWarning,
    UnknownNameError,
    warn,
)
from . import remote, tgz
from ._common import Show, form_of, home_of, measure, store_of, taken, user_cache
from .config import OWN, TGZ, Config
from .directory import check
from .home import Home, Record, unknown
from .manifest import Manifest
from .outcome import Outcome
from .pulling import Pull, build
from .pushing import Push

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..base.progress import Callback
    from ..stores import Store
    from ._common import Progress

# -- push --------------------------------------------------------------------------------------


def push(
    name: str,
    force: bool = False,
    config: Config | None = None,
    *,
    format: str | None = None,
    compress: str | None = None,
    prune: bool = False,
    dry_run: bool = False,
    progress: Progress = None,
) -> Outcome:
    """Put a dataset into the repository; whoever pulls meanwhile gets the old one or the new one.

    Parameters
    ----------
    name : str
    force : bool, default False
        Take the place of the dataset that has the name there.
    config : Config, optional
    format : ``"pkgdata"`` or ``"etcetera"``, optional
        That of ``config`` by default.
    compress : ``"zstd"`` or ``"none"``, optional
        Of pkgdata's form; that of ``config`` by default.
    prune : bool, default False
        Then remove from the repository what older versions alone needed; whoever still pulls one
        fails.
    dry_run : bool, default False
        Send nothing.
    progress : bool or callable, optional
        See `Store.get`.

    Returns
    -------
    Outcome

    Raises
    ------
    UnknownNameError
        It is not on this computer.
    DatasetError
        It is no dataset, or a part of one.
    AlreadyPublishedError
        The repository has one of this name.
    """
    config = config or Config.load()
    form = form_of(format or config.format)
    home, store = home_of(config), store_of(config)
    folder, record = home.find(name), home.record(name)
    check(folder)
    if record is not None and record.absent():
        raise DatasetError(
            f"of {name!r} some partitions are not here: {', '.join(record.absent())}",
            hint=f"pkgdata dataset pull {name} fetches them",
            path=folder,
        )
    if form == TGZ:
        return _push_tgz(store, name, folder, config, force, dry_run)
    how = "zstd" if (compress or config.compress) == "zstd" else None
    old = remote.read_manifest(store, name)
    if old is not None and not force:
        raise _published(store, name, remote.manifest_name(name))
    _warn_of_other(store, name, remote.tgz_name(name), OWN)
    outcome = Outcome(name, store.address(remote.manifest_name(name)), OWN)
    show = Show(progress, folder=folder)
    Push(
        store,
        name,
        folder,
        old[0] if old else None,
        public=config.public,
        compress=how,
        dry_run=dry_run,
        tell=show,
    ).run(outcome, force, prune)
    return outcome


def _push_tgz(
    store: Store, name: str, folder: str, config: Config, force: bool, dry_run: bool
) -> Outcome:
    stored = remote.tgz_name(name)
    if not force and store.exists(stored):
        raise _published(store, name, stored)
    _warn_of_other(store, name, remote.manifest_name(name), TGZ)
    tgz.check_links(os.path.realpath(folder))
    outcome = Outcome(name, store.address(stored), TGZ)
    outcome.files, outcome.size = measure(folder)
    outcome.moved_files, outcome.objects = outcome.files, 1
    if not dry_run:
        outcome.moved_bytes = tgz.push(store, name, folder, force, config.public)
    return outcome


def _published(store: Store, name: str, stored: str) -> AlreadyPublishedError:
    return AlreadyPublishedError(
        f"the dataset {name!r} is in the repository already: {store.address(stored)}",
        hint="to replace it, push with --force (force=True)",
        names=[name],
    )


def _warn_of_other(store: Store, name: str, stored: str, form: str) -> None:
    if store.exists(stored):
        effect = "hides it from pkgdata" if form == OWN else "is hidden from pkgdata by it"
        warn(
            f"{store.address(stored)} is there too and stays as it is; what is pushed now {effect}",
            PkgdataWarning,
        )


# -- pull --------------------------------------------------------------------------------------


def pull(
    name: str,
    force: bool = False,
    config: Config | None = None,
    *,
    partitions: str | Iterable[str] | None = None,
    format: str | None = None,
    ready: bool = False,
    dry_run: bool = False,
    progress: Progress = None,
) -> Outcome:
    """Bring a dataset to this computer; it appears when all of it is here and verified.

    Parameters
    ----------
    name : str
    force : bool, default False
        Take the place of the dataset that has the name here.
    config : Config, optional
    partitions : str or iterable of str, optional
        These, and all that is in no partition. A later pull adds others.
    format : ``"pkgdata"`` or ``"etcetera"``, optional
        By default pkgdata's if it is there, else etcetera's.
    ready : bool, default False
        That the name is taken is no error.
    dry_run : bool, default False
        Move nothing but the manifest.
    progress : bool or callable, optional
        See `Store.get`.

    Returns
    -------
    Outcome

    Raises
    ------
    UnknownNameError
        The repository has no such dataset, or no such partition.
    DatasetError
        The name is taken here.
    IntegrityError, ExtractionError
        The repository has other bytes than it promises; nothing is visible here.
    """
    config = config or Config.load()
    form = None if format is None else form_of(format)
    home, store = home_of(config), store_of(config)
    wanted = [partitions] if isinstance(partitions, str) else partitions
    job = _Pulling(home, store, name, force, None if wanted is None else list(wanted), progress)
    if job.is_here():
        if ready:
            return job.outcome
        raise taken(home, name)
    if dry_run:
        job.plan(form)
        return job.outcome
    home.prepare()
    with home.working_on(name, job.is_here, job.waits) as sign:
        job.waits_no_more()
        if not job.is_here():  # else another process was faster
            job.run(form, sign)
    return job.outcome


class _Pulling:
    """One dataset on its way to this computer."""

    def __init__(
        self,
        home: Home,
        store: Store,
        name: str,
        force: bool,
        wanted: list[str] | None,
        progress: Progress,
    ) -> None:
        self._home, self._store, self._name = home, store, name
        self._force = force
        self._wanted = wanted
        self._progress = progress
        self._waiting: Show | None = None
        self.outcome = Outcome(name, home.path(name), OWN)

    def is_here(self) -> bool:
        """Say whether there is nothing to do: what is wanted is here, and is not to be replaced."""
        return not self._force and self._home.has(self._name) and not self._completes()

    def waits(self, _: float) -> None:
        """Tell that another process is at work."""
        self._waiting = self._waiting or Show(self._progress)
        self._waiting.event(Event(self._name, WAIT, 0, None, "another process"))

    def waits_no_more(self) -> None:
        """Tell that it is no longer waited for."""
        if self._waiting is not None:
            self._waiting.event(Event(self._name, DONE))
            self._waiting = None

    def _completes(self) -> bool:
        """Say whether the dataset is here in part, and what is wanted is not."""
        record = self._home.record(self._name)
        if record is None:
            return False
        absent = record.absent()
        return bool(absent) and (self._wanted is None or not {*self._wanted}.isdisjoint(absent))

    def _choose(self, form: str | None) -> Manifest | None:
        """Return the manifest of a dataset in pkgdata's form; None if it is in etcetera's."""
        store, name = self._store, self._name
        denied = None
        if form != TGZ:
            try:
                found = remote.read_manifest(store, name)
            except AccessDeniedError as error:
                # a bucket that may not be listed says so of what is not there
                found, denied = None, error
            if found is not None:
                manifest, self.outcome.moved_bytes = found
                return manifest
        try:
            if form != OWN and store.exists(remote.tgz_name(name)):
                return None
        except AccessDeniedError as error:
            denied = denied or error
        if denied is not None:
            raise denied
        known = remote.known_names(store)
        raise unknown(name, known, f"is not in {store.url}", "pkgdata dataset ls -r lists them")

    def plan(self, form: str | None) -> None:
        """Say what would be moved."""
        manifest = self._choose(form)
        if manifest is None:
            self.outcome.form = TGZ
            self._check_whole()
            self.outcome.moved_bytes = self._store.size(remote.tgz_name(self._name)) or 0
            self.outcome.objects = 1
            return
        record = self._record(manifest)
        self._describe(record)
        self._fetching(record).plan(self.outcome)

    def run(self, form: str | None, sign: Callable[[], None]) -> None:
        """Bring it."""
        manifest = self._choose(form)
        with self._home.aside(self._name) as aside:
            if manifest is None:
                record = self._unpack(aside, sign)
            else:
                record = self._record(manifest)
                self._describe(record)
                self._fetch(record, aside, sign)
            check(aside)
            # if something stands there by now, another process was faster, and is as good
            self._home.commit(self._name, aside, record, self._force or self._completes())

    def _record(self, manifest: Manifest) -> Record:
        """Return what will be here: what is wanted, and the partitions that are here already."""
        known = manifest.partitions()
        for one in self._wanted or ():
            if one not in known:
                raise UnknownNameError(
                    f"the dataset {self._name!r} has no partition {one!r}",
                    hint=f"it has {', '.join(known)}",
                    name=one,
                    close=[],
                )
        former = None if self._force else self._home.record(self._name)
        if former is not None:
            self._check_version(former, manifest)
        if self._wanted is None:
            return Record(manifest)
        wanted = {*self._wanted, *((former and former.partitions) or ())}
        chosen = [one for one in known if one in wanted]
        return Record(manifest, None if chosen == known else chosen)

    def _check_version(self, former: Record, manifest: Manifest) -> None:
        if former.manifest.registry.digest() != manifest.registry.digest():
            raise DatasetError(
                f"the repository has another version of {self._name!r} than the one of which "
                "partitions are here",
                hint="pull with --force (force=True) to replace what is here",
                path=self._home.path(self._name),
            )

    def _describe(self, record: Record) -> None:
        part = record.here()
        self.outcome.digest = record.manifest.registry.digest()
        self.outcome.files, self.outcome.size = len(part.registry), part.size

    def _fetching(
        self,
        record: Record,
        tell: Callable[[str, int], None] | None = None,
        show: Callback = silent,
    ) -> Pull:
        former = self._home.record(self._name)
        here = None if former is None else (former.here().registry, self._home.path(self._name))
        return Pull(self._store, self._name, record.here(), user_cache(), here, tell, show)

    def _fetch(self, record: Record, aside: str, sign: Callable[[], None]) -> None:
        cache = user_cache()
        with cache.usage():  # what is in the cache stays there until the links are made
            show = Show(self._progress, total=self.outcome.size, files=self.outcome.files)

            def tell(name: str, size: int) -> None:
                sign()
                show(name, size)

            def watch(event: Event) -> None:
                sign()
                show.event(event)

            fetching = self._fetching(record, tell, watch)
            fetching.run(self.outcome)
            build(record.here(), fetching.here, cache, aside)

    def _check_whole(self) -> None:
        if self._wanted is not None:
            raise DatasetError(
                f"the dataset {self._name!r} is stored as one archive, of which no single "
                "partition can be pulled",
                hint=f"pull all of it, or push it in the form {OWN!r}",
            )

    def _unpack(self, aside: str, sign: Callable[[], None]) -> Record:
        self._check_whole()
        show = Show(self._progress)

        def tell(name: str, size: int) -> None:
            sign()
            show(name, size)

        registry, size = tgz.pull(self._store, self._name, aside, tell)
        self.outcome.form, self.outcome.digest = TGZ, registry.digest()
        self.outcome.files = self.outcome.moved_files = len(registry)
        self.outcome.size = sum(entry.size or 0 for entry in registry.values())
        self.outcome.moved_bytes, self.outcome.objects = size, 1
        return Record(Manifest(registry, {}, [], [], {}))
