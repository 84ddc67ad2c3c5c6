"""Prepare a dataset: fetch what it needs, make its files, and make its data from them.

If the files of all resources are here, nothing is fetched and no lock is taken. What is missing is
downloaded first, without the dataset's lock; under the lock each resource is made aside and
renamed. The lock only saves work: two processes that make the same resource make the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ..base import disk, fs, hashes, owners
from ..base.config import cache_dir, conf
from ..base.locks import Signs
from ..cache import staging, stamps
from ..cache.objects import Cache
from ..errors import CacheError, CatalogError, FolderWarning, PkgdataError, warn
from . import active, places
from .definition import Definition
from .resources import FileResource, FolderResource, Resource

#: Datasets that are being prepared, each for the one before it.
_stack: ContextVar[tuple[str, ...]] = ContextVar("pkgdata_catalog_stack", default=())


def prepare(
    definition: Definition, *, download: bool = True, variant: Mapping[str, Any] | None = None
) -> Any:
    """Return a dataset's data; with ``download`` what is missing is fetched first."""
    if definition.variants is not None:
        variant = definition.variants.resolve(**(variant or {}))
    elif variant:
        raise CatalogError(f"{definition.id} has no variants, but {dict(variant)!r} was asked for")
    with _not_again(definition):
        # as_prepare: its resources are known only after the function ran
        found = definition.build(variant) if definition.as_prepare else None
        if download:
            _bring(definition, False)
        return definition.build(variant) if found is None else found


def download(definition: Definition, force: bool = False) -> None:
    """Fetch the files that are missing of a dataset; all of them again with ``force``."""
    with _not_again(definition):
        if definition.as_prepare:
            definition.build(None)
        _bring(definition, force)


def _not_again(definition: Definition) -> contextlib.AbstractContextManager[None]:
    """Refuse to prepare a dataset that is being prepared: its links are cyclic."""
    above = _stack.get()
    if definition.id in above:
        circle = [*above[above.index(definition.id) :], definition.id]
        raise CatalogError(
            f"cyclic links: {' -> '.join(circle)}", file=definition.file, line=definition.line
        )
    return places.setting(_stack, (*above, definition.id))


# -- what is to be done ----------------------------------------------------------------------------


def in_order(definition: Definition) -> list[Resource]:
    """Return a dataset's resources, each after those that it depends on."""
    done: list[Resource] = []
    above: list[Resource] = []

    def visit(resource: Resource) -> None:
        if resource in done:
            return
        if resource.dataset is not definition:
            raise definition.wrong(f"it depends on {resource!r}, which is not one of its resources")
        if resource in above:
            circle = [*above[above.index(resource) :], resource]
            names = " -> ".join(one.name for one in circle)
            raise definition.wrong(f"its resources depend on one another: {names}")
        above.append(resource)
        for dependency in resource.dependencies:
            visit(dependency)
        above.pop()
        done.append(resource)

    for one in definition.resources.values():
        visit(one)
    return done


def missing(definition: Definition, force: bool = False) -> list[Resource]:
    """Return the resources to be made, in order; a transient one only if another needs it."""
    ordered = in_order(definition)
    if force:
        return ordered
    wanted: list[Resource] = []
    for resource in reversed(ordered):
        users = resource.dependents
        needed = not (resource.transient and users) or any(one in wanted for one in users)
        if needed and not is_here(resource):
            wanted.append(resource)
    return wanted[::-1]


def is_here(resource: Resource) -> bool:
    """Return True if a resource is complete. A file of known digest is hashed once (``verify``)."""
    # a link's target is prepared by its own dataset
    if not (resource.has_files() and resource.files_present()):
        return False
    digest = resource.final_digest
    if digest is None:
        return True
    path = resource.path
    found = stamps.check(str(path.parent), path.name, digest, None, conf.verify, _stamps())
    if found is not None and found[1] is not None:
        warn(f"{path}: {found[1]}; it is prepared again", FolderWarning)
        return False
    return True


def _stamps() -> stamps.Stamps:
    try:
        return stamps.Stamps(cache_dir()[0])
    except CacheError:
        return stamps.Stamps(None)


# -- doing it --------------------------------------------------------------------------------------


def _bring(definition: Definition, force: bool) -> None:
    for hook in definition.hooks.get("pre-download", ()):
        hook(definition)
    wanted = missing(definition, force)
    for one in wanted:
        if not one.has_files():
            one.download(force)
    files = [one for one in wanted if one.has_files()]
    if not files:
        return
    entries = [entry for one in files for entry in one.entries()]
    with active.session(entries):
        active.bring(definition.id, entries)
        with _turn(definition, files, force):
            for one in files:
                if force or not is_here(one):
                    _make(one, force)
            _clear(files)


def _make(resource: Resource, force: bool) -> None:
    """Make a resource aside and rename it."""
    path = resource.path
    promised = isinstance(resource, (FileResource, FolderResource))  # other kinds may make nothing
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging.sweep(str(path.parent), ".")
        aside = str(path.parent / f".{owners.unique()}{places.ASIDE}")
        with staging.folder(aside, follow=False):
            made = Path(aside, path.name)
            resource.make(made)
            if made.exists() or made.is_symlink():
                _install(made, path, force)
                _stamp(resource)
            elif promised and not resource.files_present():
                raise resource.owner.wrong(f"its resource {resource.name!r} made nothing")
    except OSError as error:
        blocked = (*fs.UNWRITABLE, errno.ENOTDIR, errno.EEXIST)
        if error.errno in blocked and not isinstance(error, PkgdataError):
            raise CatalogError(
                f"{resource.owner.id} cannot be prepared in {path.parent}: {error.strerror}",
                hint="set PKGDATA_CATALOG_DIR, or say --data, for a folder that can be written",
            ) from error
        raise


def _install(made: Path, path: Path, force: bool) -> None:
    """Rename what was made; a folder that is there is replaced as a whole."""
    disk.sync(str(made))  # what has its name shall survive a power loss
    folder = path.is_dir() and not path.is_symlink()
    if not made.is_dir():
        if folder:
            staging.take_away(str(path))
        fs.replace(str(made), str(path))
        return
    # a folder with content was made by a faster process; what begins with a dot are notes and
    # leftovers, as datamaestro leaves them
    empty = folder and all(one.name.startswith(".") for one in path.iterdir())
    if not staging.place(str(made), str(path), folder and (force or empty)) and not path.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _stamp(resource: Resource) -> None:
    """Remember that the file was verified on its way, so that the next call need not hash it."""
    digest = resource.final_digest
    if digest is not None and conf.verify == "once":
        path = resource.path
        _stamps().add(str(path.parent), path.name, os.stat(path), digest)


def _clear(made: Sequence[Resource]) -> None:
    """Remove transient resources that nothing needs any more."""
    for one in made:
        if one.transient and one.dependents and one.files_present():
            staging.take_away(str(one.path))


def _turn(
    definition: Definition, files: Sequence[Resource], force: bool
) -> contextlib.AbstractContextManager[Any]:
    """Let one process at a time make a dataset, where locks work."""
    key = hashes.short_key(str(definition.datapath))
    above = {str(one.path.parent) for one in files}

    def done() -> bool:
        return not force and all(map(is_here, files))

    def sign() -> Signs:
        return staging.growth(path for one in above for path in staging.made_under(one, "."))

    try:
        return Cache(cache_dir()[0], conf.lock_timeout).turn(f"catalog-{key}", done, sign)
    except CacheError:
        return contextlib.nullcontext()  # without a cache; the lock only saves work
