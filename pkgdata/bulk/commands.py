"""``cp``, ``mv``, ``sync`` and ``rm`` as library functions.

Progress enters as a callback, and what became of the objects comes back as a `Tally`; parsing and
printing are the caller's.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from ..base import fs
from ..base.progress import silent
from ..base.report import Tally
from ..errors import ConfigError, ObjectNotFoundError, PkgdataError
from ..stores import codecs
from ..stores.copying import Recipe, copies, job_copies
from ..stores.reading import decoded
from . import addresses, planning
from .addresses import Address, Stores, names_in
from .planning import FolderPair, Target, Unit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..base.progress import Callback
    from ..stores import Info, Store
    from ..stores.base import Driver
    from ..stores.copying import Copied, Item


#: Objects that are removed with one call.
_AT_ONCE = 1000


class Options(NamedTuple):
    """How objects are copied; the defaults are those of ``pkgdata cp``."""

    recursive: bool = False
    #: Wildcards are plain characters.
    literal: bool = False
    #: "same", "none" or the name of a compression, and its level.
    compression: str = "same"
    level: int | None = None
    #: Leave existing copies alone.
    if_absent: bool = False
    #: Remove each original once its copy is there.
    move: bool = False
    #: Worker processes.
    parallel: int = 1
    #: File that records progress, so that the copy can be resumed or shared.
    job: str | None = None
    #: Read the sources without credentials.
    anonymous: bool = False
    #: URL of the clouds' service.
    endpoint: str | None = None

    @property
    def reencode(self) -> str | None:
        """The compression of the copies; None for that of the originals."""
        return None if self.compression == "same" else self.compression

    def stores(self) -> Stores:
        """Return the stores of the sources."""
        return Stores(self.anonymous, self.endpoint)


# -- cp and mv ---------------------------------------------------------------------------------


class Copy:
    """Copies of files and objects: planned lazily, listed by `pairs` or made by `run`.

    A `listing` has paths and URLs of single objects, instead of sources; names of copies are then
    relative to the folder `base`.
    """

    def __init__(
        self,
        sources: list[str],
        destination: str,
        options: Options,
        listing: Iterable[str] | None = None,
        base: str | None = None,
    ) -> None:
        codecs.encode(b"", options.reencode)  # fails now if its library is missing
        self.tally = Tally()
        self._options = options
        self._listed = listing is not None
        stores, ends = options.stores(), Stores(None, options.endpoint)
        if listing is not None:
            self._to = planning.target(ends, destination, always_folder=True)
            self._units = [planning.listed(stores, listing, self._to, base)]
        else:
            found = [addresses.parse(text, options.literal) for text in sources]
            wild = len(found) == 1 and bool(found[0].pattern)
            self._to = planning.target(ends, destination, len(found) > 1, wild)
            self._units = planning.units(
                stores,
                found,
                self._to,
                recursive=options.recursive,
                folders=options.move,
                same=options.reencode is not None,
            )
        #: Whether one object was named as such.
        self.single = len(self._units) == 1 and self._units[0].single

    def _items(self) -> Iterator[Item]:
        return planning.checked(
            (item for unit in self._units if not unit.stream for item in unit.items),
            self._to,
            self.tally.refuse,
            several=len(self._units) > 1,
            same=self._options.reencode is not None,
            move=self._options.move,
        )

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the addresses of originals and copies, and copy nothing."""
        shown = {id(unit.store): unit.address for unit in self._units}
        for store, name, new in self._items():
            if not (self._options.if_absent and self._to.store.exists(new)):
                yield shown[id(store)].show(name), self._to.address.show(new)

    def run(
        self, progress: Callback = silent, each: Callable[[Copied], None] | None = None
    ) -> Tally:
        """Make the copies; ``each`` is called with what became of each."""
        for unit in self._units:
            if unit.stream:
                self._from_stream(unit)
        if any(not unit.stream for unit in self._units):
            for copied in _made(self._items(), self._units, self._to, self._options, progress):
                if each is not None:
                    each(copied)
                self.tally.add(copied.size, self._explained(copied))
        if self._options.move and not self.tally.failed and not self._listed:
            for unit in self._units:
                if unit.address.local and unit.address.folder:
                    _remove_empty_folders(unit.address.base, keep=unit.address.slashed)
        return self.tally

    def _explained(self, copied: Copied) -> Exception | None:
        """Return a copy's error; a better one if its source is a folder."""
        if isinstance(copied.error, ObjectNotFoundError):
            for unit in self._units:
                named = unit.single and unit.address.name == copied.name
                if named and addresses.is_folder(unit.store, unit.address):
                    return planning.is_a_folder(unit.address)
        return copied.error

    def _from_stream(self, unit: Unit) -> None:
        """Copy a pipe, which has no size and can be read only once."""
        compress = codecs.canonical(self._options.reencode)
        for _, _, new in unit.items:
            with open(unit.address.path, "rb") as file:
                level, if_absent = self._options.level, self._options.if_absent
                self._to.store.put(new, file, compress=compress, level=level, if_absent=if_absent)


def _made(
    items: Iterable[Item], units: list[Unit], to: Target, options: Options, progress: Callback
) -> Iterator[Copied]:
    """Copy items and yield what became of each."""
    how: dict[str, Any] = {
        "recipe": Recipe(options.reencode, options.level, not options.if_absent),
        "move": options.move,
        "parallel": options.parallel,
        "threads": _threads(units, to),
        "by_target": True,
    }
    if not options.job:
        return copies(items, to.store, show=progress, **how)
    ends = [end.path if end.local else str(end) for end in (units[0].address, to.address)]
    words = " ".join([*ends, options.compression, *(["if absent"] if options.if_absent else [])])
    pairs = ((name, new) for _, name, new in items)
    return job_copies(units[0].store, to.store, pairs, options.job, words, progress, **how)


def _threads(units: list[Unit], to: Target) -> int:
    """Return how many copies run at once: as many as the services allow; a disk has no limit."""
    ends = [(unit.store, unit.address.local) for unit in units] + [(to.store, to.local)]
    remote = [store.threads for store, local in ends if not local]
    if not remote and len(units) == 1 and units[0].single:
        return 1  # without a thread, Ctrl-C clears up in the middle of a file
    return min(remote) if remote else to.store.threads


def objects(
    stores: Stores, sources: Iterable[Address], recursive: bool = False
) -> Iterator[tuple[Store, str]]:
    """Yield the objects that addresses name, in their order; folders only if recursive."""
    for source in sources:
        store = stores.open(source.base)
        if source.pattern or source.folder or (recursive and addresses.is_folder(store, source)):
            if not (recursive or source.pattern):
                raise planning.is_a_folder(source)
            count = 0
            for name, _ in names_in(store, source, recursive):
                count += 1
                yield store, name
            if not count:
                raise ObjectNotFoundError(f"{source}: nothing matches", url=str(source))
        else:
            yield store, source.name


def read(
    sources: list[str],
    options: Options,
    listing: Iterable[str] | None = None,
    base: str | None = None,
) -> Iterator[memoryview]:
    """Yield the decoded bytes of objects, one after the other; see `Copy` for the arguments."""
    stores = options.stores()
    if listing is not None:
        items = planning.listed(stores, listing, None, base).items
        found: Iterable[tuple[Driver, str]] = ((store, name) for store, name, _ in items)
    else:
        parsed = [addresses.parse(text, options.literal) for text in sources]
        found = objects(stores, parsed, options.recursive)
    for store, name in found:
        yield from decoded(store, name)


# -- sync --------------------------------------------------------------------------------------


class Sync:
    """Makes a folder the same as another one: listed by `changes` or done by `run`.

    With `delete` it removes what the source does not have, and with `allow_empty` even if that is
    all. For `checksum` and `size_only` see `FolderPair`.
    """

    def __init__(
        self,
        source: str,
        destination: str,
        options: Options,
        *,
        delete: bool = False,
        allow_empty: bool = False,
        checksum: bool = False,
        size_only: bool = False,
    ) -> None:
        self.tally = Tally()
        self._options, self._delete, self._allow_empty = options, delete, allow_empty
        self._source, self._to = _two_folders(source, destination, options)
        self._store = options.stores().open(self._source.base)
        self._into = self._to.address.prefix
        self._pair = FolderPair(
            self._store, self._source.prefix, self._to.store, self._into, checksum, size_only
        )
        #: What the source does not have, if it is to be removed.
        self.extra: list[str] = []

    def _differing(self) -> Iterator[tuple[str, str]]:
        """Yield what is to be copied, and why; keep what is extra for the end."""
        for name, reason in self._pair.changes():
            if reason:
                yield name, reason
            elif self._delete:
                self.extra.append(name)

    def changes(self) -> Iterator[tuple[str, str, str]]:
        """Yield what would be copied and removed: address, address of the copy or "", reason."""
        to = self._to.address
        for name, reason in self._differing():
            old = self._source.show(self._source.prefix + name)
            yield old, to.show(self._into + name), reason
        for name in self._removable():
            yield to.show(self._into + name), "", ""
        self.tally.unchanged = self._pair.unchanged

    def run(self, progress: Callback = silent) -> Tally:
        """Copy, then remove what is extra unless a copy failed."""
        prefix = self._source.prefix
        items = ((self._store, prefix + n, self._into + n) for n, _ in self._differing())
        unit = Unit(self._store, self._source, iter(()))
        for copied in _made(items, [unit], self._to, self._options, progress):
            self.tally.add(copied.size, copied.error)
        if not self.tally.failed:
            self.tally.removed = self._remove([*self._removable()])
        self.tally.unchanged = self._pair.unchanged
        return self.tally

    def _removable(self) -> Iterator[str]:
        """Yield what is removed: neither a compressed copy nor what is behind a link."""
        if self.extra and not (self._pair.originals or self._allow_empty):
            raise ConfigError(
                f"{self._source} is empty; nothing was removed",
                hint="--allow-empty, if everything in the destination is to be removed",
            )
        for name in self.extra:
            if self._to.local and planning.behind_link(self._to.address.path, name):
                continue
            if self._pair.is_extra(name):
                yield name

    def _remove(self, names: list[str]) -> int:
        self._to.store.remove_many(self._into + name for name in names)
        if self._to.local:
            for name in names:
                _remove_empty_parents(self._to.address.path, name)
        return len(names)


def _two_folders(source_text: str, destination: str, options: Options) -> tuple[Address, Target]:
    source = addresses.parse(source_text, literal=True)
    if source.local and not os.path.isdir(source.path):
        what = "it is a file; cp copies it" if os.path.exists(source.path) else "no such folder"
        raise ConfigError(f"{source_text}: {what}")
    ends = Stores(None, options.endpoint)
    to = planning.target(ends, destination, always_folder=True)
    if source.local and to.local:
        one, two = (os.path.join(os.path.realpath(x.path), "") for x in (source, to.address))
        if one.startswith(two) or two.startswith(one):
            raise ConfigError(f"{source.path} and {to.address.path}: one is inside the other")
    elif not source.local:
        store = ends.open(source.base)
        back = Target(store, source, True)
        planning.refuse_inside(store, source, to, to.address.prefix)
        planning.refuse_inside(to.store, to.address, back, source.prefix)
    return source, to


def _remove_empty_folders(root: str, keep: bool) -> None:
    """Remove the empty folders below a folder, and the folder itself unless it is kept."""
    for folder, _, _ in os.walk(root, topdown=False):
        if keep and folder == root:
            return
        with contextlib.suppress(OSError):  # something is left in it
            os.rmdir(folder)


def _remove_empty_parents(root: str, name: str) -> None:
    """Remove the folders below ``root`` that a removed file has left empty."""
    parts = name.split("/")[:-1]
    with contextlib.suppress(OSError):  # something is left in it
        while parts:
            os.rmdir(os.path.join(root, *parts))
            parts.pop()


# -- rm ----------------------------------------------------------------------------------------


class Removal:
    """Removes files and objects, many objects with one request.

    `report` is called with the address of each that is removed, or with "" and an error. With
    `recursive` folders are removed too, and with `whole` all of a bucket; with `force` a missing
    object is no error; with `listed` addresses are of single objects, and some may be missing.
    """

    def __init__(
        self,
        stores: Stores,
        report: Callable[[str, Exception | None], None],
        *,
        recursive: bool = False,
        force: bool = False,
        whole: bool = False,
        dry_run: bool = False,
        listed: bool = False,
    ) -> None:
        self.tally = Tally()
        self._stores, self._report = stores, report
        self._recursive, self._force, self._whole = recursive, force, whole
        self._dry_run, self._listed = dry_run, listed
        self._waiting: dict[str, list[str]] = {}

    def run(self, found: Iterable[Address]) -> Tally:
        """Remove all that addresses mean."""
        for address in found:
            try:
                self._remove(address)
            except (PkgdataError, OSError) as error:
                self._fail(error)
        self._flush()
        return self.tally

    def _remove(self, address: Address) -> None:
        if address.local and (not address.folder or os.path.islink(address.path)):
            self._file(address)
        elif address.local:
            if not self._listed:  # a list of files names their folders, too
                self._tree(address)
        elif address.pattern:
            store = self._stores.open(address.base)
            self._many(address, names_in(store, address, self._recursive))
        elif address.folder or (
            self._recursive and addresses.is_folder(self._stores.open(address.base), address)
        ):
            self._folder(address)
        else:
            self._object(address)

    def _file(self, address: Address) -> None:
        if not os.path.lexists(address.path):
            if not (self._force or self._listed):
                raise ObjectNotFoundError(f"{address}: no such file", url=address.path)
            return
        self._count(str(address))
        if not self._dry_run:
            fs.remove(address.path)

    def _tree(self, address: Address) -> None:
        """Remove a local folder; links are removed, not what they lead to."""
        if not self._recursive:
            raise planning.is_a_folder(address)
        named_by_dots = os.path.basename(address.shown) in (".", "..")
        if named_by_dots or os.path.dirname(address.base) == address.base:
            raise ConfigError(f"{address}: refused to remove this folder")
        if not os.path.isdir(address.base):
            if self._force:
                return
            raise ObjectNotFoundError(f"{address}: no such folder", url=address.path)
        for path in _files_below(address.base):
            self._count(address.show(os.path.relpath(path, address.base)))
        if not self._dry_run:
            fs.remove_tree(address.base)

    def _folder(self, address: Address) -> None:
        if not self._recursive:
            raise planning.is_a_folder(address)
        if not (address.name or self._whole or self._dry_run):
            raise ConfigError(
                f"{address} is a whole bucket; nothing of it was removed",
                hint="--yes, if all of it is to be removed",
            )
        self._many(address, names_in(self._stores.open(address.base), address))

    def _many(self, address: Address, found: Iterable[tuple[str, Info]]) -> None:
        count = 0
        for name, _ in found:
            count += 1
            self._later(address, name)
        if not count and not self._force:
            raise addresses.nothing_at(address)

    def _object(self, address: Address) -> None:
        quiet = self._force or self._listed
        # where it may be missing, asking would only cost a request: removing it is no error
        asked = self._dry_run or not quiet
        if asked and not self._stores.open(address.base).exists(address.name):
            if quiet:
                return
            raise ObjectNotFoundError(f"{address}: no such object", url=str(address))
        self._later(address, address.name)

    def _later(self, address: Address, name: str) -> None:
        self._count(address.show(name))
        waiting = self._waiting.setdefault(address.base, [])
        waiting.append(name)
        if len(waiting) >= _AT_ONCE:
            self._flush()

    def _count(self, name: str) -> None:
        self.tally.removed += 1
        self._report(name, None)

    def _flush(self) -> None:
        for base, names in self._waiting.items():
            if names and not self._dry_run:
                try:
                    self._stores.open(base).remove_many(names)
                except PkgdataError as error:
                    self.tally.removed -= len(names)
                    self._fail(error)
        self._waiting.clear()

    def _fail(self, error: Exception) -> None:
        self.tally.refuse(error)
        self._report("", error)


def _files_below(root: str) -> Iterator[str]:
    """Yield the path of each file and link below a folder; links are not followed."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted(files + links):
            yield os.path.join(folder, name)
