"""Between this computer and the repository: push and pull, in both forms."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..base.config import cache_dir, conf
from ..base.progress import DONE, WAIT, Bars, Callback, Event, signing, silent, view
from ..base.report import each_name
from ..base.text import Choice
from ..cache.objects import Cache
from ..core import scan
from ..errors import (
    AccessDeniedError,
    AlreadyPublishedError,
    DatasetError,
    PkgdataWarning,
    UnknownNameError,
    warn,
)
from ..stores import Store
from . import repository, tgz
from .config import FORMS, OWN, TGZ, Config
from .home import Home, Pulled, check, home_of, taken, unknown
from .pulling import Pull, build
from .pushing import Push
from .repository import Manifest, Outcome, store_of

Progress = bool | Callback | None


def shown(
    progress: Progress, files: int = 0, total: int | None = None, folder: str | None = None
) -> Callback:
    """Return the caller's callback, or the bar of the settings, for which ``folder`` is counted."""
    show = view(progress, files, total, conf.progress)
    if folder is not None and isinstance(show, Bars):
        show = Bars(*_measure(folder))
    return show


def _measure(folder: str, choice: Choice | None = None) -> tuple[int, int]:
    """Count the files below a folder, and their bytes."""
    count = size = 0
    for _, path in scan.files(folder, choice):
        count += 1
        try:
            size += os.path.getsize(path)
        except OSError:
            pass  # a dangling link; the code that reads it reports it
    return count, size


def _form(text: str) -> str:
    if text not in FORMS:
        raise DatasetError(f"unknown form {text!r} of a dataset: expected {' or '.join(FORMS)}")
    return text


# -- push --------------------------------------------------------------------------------------


def push(
    name: str,
    force: bool = False,
    config: Config | None = None,
    *,
    format: str | None = None,
    compress: str | None = None,
    prune: bool = False,
    exclude: str | Iterable[str] = (),
    include: str | Iterable[str] = (),
    dry_run: bool = False,
    progress: Progress = None,
) -> Outcome:
    """Put a dataset into the repository; who pulls meanwhile gets the old one or the new one.

    Parameters
    ----------
    name : str
    force : bool, default False
        Replace the dataset that has the name there.
    config : Config, optional
    format : ``"pkgdata"`` or ``"etcetera"``, optional
        That of ``config`` by default.
    compress : ``"zstd"`` or ``"none"``, optional
        Of pkgdata's form; that of ``config`` by default.
    prune : bool, default False
        Then remove from the repository what only older versions needed; a pull of one that is
        still running fails.
    exclude, include : str or iterable of str, optional
        Patterns as in a ``.gitignore`` file: names in the dataset that are not sent, and those that
        alone are. ``.git/``, ``.DS_Store``, ``Thumbs.db``, ``*~`` and ``__pycache__/`` are not sent
        unless ``exclude`` has, say, ``"!.git/"``.
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
    form = _form(format or config.format)
    home, store = home_of(config), store_of(config)
    folder, record = home.find(name), home.record(name)
    check(folder)
    if record is not None and record.absent():
        raise DatasetError(
            f"of {name!r} some partitions are not here: {', '.join(record.absent())}",
            hint=f"pkgdata.datasets.pull({name!r}) fetches them",
            command=f"pkgdata dataset pull {name} fetches them",
            path=folder,
        )
    choice = Choice(exclude, include, junk=True)
    if form == TGZ:
        return _push_tgz(store, name, folder, choice, config, force, dry_run)
    old = repository.read_manifest(store, name)
    if old is not None and not force:
        raise _published(store, name, repository.manifest_name(name))
    _warn_of_other(store, name, repository.tgz_name(name), OWN)
    outcome = Outcome(name, store.address(repository.manifest_name(name)), OWN)
    zstd, show = (compress or config.compress) == "zstd", shown(progress, folder=folder)
    before = old[0] if old else None
    pushing = Push(store, name, folder, choice, before, config.public, zstd, dry_run, show)
    pushing.run(outcome, force, prune)
    outcome.note = choice.note()
    return outcome


def _push_tgz(
    store: Store, name: str, folder: str, choice: Choice, config: Config, force: bool, dry_run: bool
) -> Outcome:
    stored = repository.tgz_name(name)
    if not force and store.exists(stored):
        raise _published(store, name, stored)
    _warn_of_other(store, name, repository.manifest_name(name), TGZ)
    tgz.check_links(os.path.realpath(folder), choice)
    outcome = Outcome(name, store.address(stored), TGZ)
    outcome.files, outcome.size = _measure(folder, choice)
    outcome.note = choice.note()
    outcome.moved_files, outcome.objects = outcome.files, 1
    if not dry_run:
        outcome.moved_bytes = tgz.push(store, name, folder, choice, force, config.public)
    return outcome


def _published(store: Store, name: str, stored: str) -> AlreadyPublishedError:
    return AlreadyPublishedError(
        f"the dataset {name!r} is in the repository already: {store.address(stored)}",
        hint="to replace it, push with force=True",
        command="to replace it, push with --force",
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
    """Fetch a dataset to this computer; it appears when all of it is here and verified.

    Parameters
    ----------
    name : str
    force : bool, default False
        Replace the dataset that has the name here.
    config : Config, optional
    partitions : str or iterable of str, optional
        These, and all that is in no partition. A later pull adds others.
    format : ``"pkgdata"`` or ``"etcetera"``, optional
        By default pkgdata's if it is there, else etcetera's.
    ready : bool, default False
        Accept a dataset that is here already, instead of raising an error.
    dry_run : bool, default False
        Transfer only the manifest.
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
    form = None if format is None else _form(format)
    home, store = home_of(config), store_of(config)
    wanted = None if partitions is None else [*each_name(partitions)]
    job = _Pulling(home, store, name, force, wanted, progress)
    if job.is_here():
        if ready:
            return job.outcome
        raise taken(home, name)
    if dry_run:
        job.plan(form)
        return job.outcome
    home.prepare()
    with home.turn(name, job.is_here, job.waits) as turn:
        job.waits_no_more()
        if not job.is_here():  # else another process was faster
            job.run(form, turn.touch)
    return job.outcome


@dataclass
class _Pulling:
    """Pulls one dataset."""

    _home: Home
    _store: Store
    _name: str
    _force: bool
    _wanted: list[str] | None
    _progress: Progress
    _waiting: Callback | None = None

    def __post_init__(self) -> None:
        self.outcome = Outcome(self._name, self._home.path(self._name), OWN)

    def is_here(self) -> bool:
        """Return True if what is wanted is here, and is not to be replaced."""
        return not self._force and self._home.has(self._name) and not self._completes()

    def waits(self, _: float) -> None:
        """Report that another process is at work."""
        self._waiting = self._waiting or shown(self._progress)
        self._waiting(Event(self._name, WAIT, 0, None, "another process"))

    def waits_no_more(self) -> None:
        """Report the end of the wait."""
        if self._waiting is not None:
            self._waiting(Event(self._name, DONE))
            self._waiting = None

    def _completes(self) -> bool:
        """Return True if the dataset is here in part, and what is wanted is not."""
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
                found = repository.read_manifest(store, name)
            except AccessDeniedError as error:
                # a bucket that may not be listed denies access to what is not there
                found, denied = None, error
            if found is not None:
                manifest, self.outcome.moved_bytes = found
                return manifest
        try:
            if form != OWN and store.exists(repository.tgz_name(name)):
                return None
        except AccessDeniedError as error:
            denied = denied or error
        if denied is not None:
            raise denied
        known = repository.known_names(store)
        raise unknown(name, known, f"is not in {store.url}", "pkgdata dataset ls -r lists them")

    def plan(self, form: str | None) -> None:
        """Fill in what would be moved."""
        manifest = self._choose(form)
        if manifest is None:
            self.outcome.form = TGZ
            self._check_whole()
            self.outcome.moved_bytes = self._store.size(repository.tgz_name(self._name)) or 0
            self.outcome.objects = 1
            return
        record = self._record(manifest)
        self._fetching(record, _user_cache()).plan(self.outcome)

    def run(self, form: str | None, sign: Callable[[], None]) -> None:
        """Fetch it and put it in place."""
        manifest = self._choose(form)
        with self._home.aside(self._name) as aside:
            if manifest is None:
                record = self._unpack(aside, sign)
            else:
                record = self._record(manifest)
                self._fetch(record, aside, sign)
            check(aside)
            # if something is there by now, another process was faster, and its result is as good
            self._home.commit(self._name, aside, record, self._force or self._completes())

    def _record(self, manifest: Manifest) -> Pulled:
        """Return what will be here, with the partitions that are here already; describe it too."""
        known = manifest.partitions()
        for one in self._wanted or ():
            if one not in known:
                problem = f"the dataset {self._name!r} has no partition {one!r}"
                hint = f"it has {', '.join(known)}"
                raise UnknownNameError(problem, hint=hint, name=one, close=[])
        former = None if self._force else self._home.record(self._name)
        digest = self.outcome.digest = manifest.registry.digest()
        if former is not None and former.manifest.registry.digest() != digest:
            raise DatasetError(
                f"the repository has another version of {self._name!r} than the one of which "
                "partitions are here",
                hint="pull with force=True to replace what is here",
                command="pull with --force to replace what is here",
                path=self._home.path(self._name),
            )
        record = Pulled(manifest)
        if self._wanted is not None:
            wanted = {*self._wanted, *((former and former.partitions) or ())}
            chosen = [one for one in known if one in wanted]
            record = Pulled(manifest, None if chosen == known else chosen)
        part = record.here()
        self.outcome.files, self.outcome.size = len(part.registry), part.size
        return record

    def _fetching(self, record: Pulled, cache: Cache, show: Callback = silent) -> Pull:
        former = self._home.record(self._name)
        here = None if former is None else (former.here().registry, self._home.path(self._name))
        return Pull(self._store, self._name, record.here(), cache, here, show)

    def _fetch(self, record: Pulled, aside: str, sign: Callable[[], None]) -> None:
        cache = _user_cache()
        with cache.usage():  # what is in the cache stays there until the links are made
            show = shown(self._progress, self.outcome.files, self.outcome.size)
            fetching = self._fetching(record, cache, signing(show, sign))
            fetching.run(self.outcome)
            build(record.here(), fetching.here, cache, aside)

    def _check_whole(self) -> None:
        if self._wanted is not None:
            raise DatasetError(
                f"the dataset {self._name!r} is stored as one archive, of which no single "
                "partition can be pulled",
                hint=f"pull all of it, or push it in the form {OWN!r}",
            )

    def _unpack(self, aside: str, sign: Callable[[], None]) -> Pulled:
        self._check_whole()
        show = signing(shown(self._progress), sign)
        registry, size = tgz.pull(self._store, self._name, aside, show)
        self.outcome.form, self.outcome.digest = TGZ, registry.digest()
        manifest = Manifest(registry)
        self.outcome.files = self.outcome.moved_files = len(registry)
        self.outcome.size, self.outcome.moved_bytes = manifest.size, size
        self.outcome.objects = 1
        return Pulled(manifest)


def _user_cache() -> Cache:
    path, origin = cache_dir()
    return Cache(path, float(conf.lock_timeout), origin)
