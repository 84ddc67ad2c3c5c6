"""``cp``, ``mv``, ``sync`` and ``rm`` as library functions.

Progress enters as a callback, and what became of the objects comes back as a `Tally`; parsing and
printing are the caller's.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..base import fs
from ..base.progress import Callback, silent
from ..base.report import Tally, each_name
from ..base.text import Choice, counted
from ..errors import ConfigError, ObjectNotFoundError, PkgdataError
from ..stores import codecs
from ..stores.base import Driver
from ..stores.copying import Copied, Item, Recipe, copies, job_copies
from ..stores.file import FileStore, TreeStore
from ..stores.reading import decoded
from . import addresses, planning
from .addresses import Address, Options, Stores, names_in
from .planning import FolderPair, Target, Unit

#: Objects that are removed with one call.
_AT_ONCE = 1000


# -- cp and mv ---------------------------------------------------------------------------------


class Copy:
    """Copies of files and objects: planned lazily, listed by `pairs` or made by `run`.

    A `listing` has paths and URLs of single objects, instead of sources; names of copies are then
    relative to the folder `base`.
    """

    def __init__(
        self,
        sources: str | Iterable[str],
        destination: str,
        options: Options,
        listing: Iterable[str] | None = None,
        base: str | None = None,
    ) -> None:
        codecs.encode(b"", options.reencode)  # fails now if its library is missing
        self.tally = Tally()
        self._options = options
        self._listed = listing is not None
        stores, ends = options.stores(), options.ends()
        if listing is not None:
            self._to = planning.target(ends, destination, always_folder=True)
            self._units = [planning.listed(stores, listing, self._to, base, options.choice)]
        else:
            found = [addresses.parse(text, options.literal) for text in each_name(sources)]
            wild = len(found) == 1 and bool(found[0].pattern)
            self._to = planning.target(ends, destination, len(found) > 1, wild)
            self._units = planning.units(
                stores,
                found,
                self._to,
                recursive=options.recursive,
                folders=options.move,
                same=options.reencode is not None,
                choice=options.choice,
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
                    addresses.remove_empty_folders(unit.address.base, keep=unit.address.slashed)
        return self.tally

    def _explained(self, copied: Copied) -> Exception | None:
        """Return a copy's error; a better one if its source is a folder."""
        if isinstance(copied.error, ObjectNotFoundError):
            for unit in self._units:
                named = unit.single and unit.address.name == copied.name
                if named and addresses.is_folder(unit.store, unit.address):
                    return addresses.is_a_folder(unit.address)
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
        "recipe": Recipe(
            options.reencode,
            options.level,
            replace=not options.if_absent,
            strict=options.move and not options.lossy,
        ),
        "move": options.move,
        "parallel": options.parallel,
        "on": options.on,
        "threads": _threads(units, to),
        "by_target": True,
    }
    if not options.job:
        return copies(items, to.store, show=progress, **how)
    ends = [end.path if end.local else str(end) for end in (units[0].address, to.address)]
    words = [*ends, options.compression, *(["if absent"] if options.if_absent else [])]
    words += [f"{kind} {one}" for kind in ("exclude", "include") for one in getattr(options, kind)]
    pairs = ((name, new) for _, name, new in items)
    return job_copies(
        units[0].store, to.store, pairs, options.job, " ".join(words), progress, **how
    )


def _threads(units: list[Unit], to: Target) -> int:
    """Return how many copies run at once: as many as the services allow; a disk has no limit."""
    ends = [(unit.store, unit.address.local) for unit in units] + [(to.store, to.local)]
    remote = [store.threads for store, local in ends if not local]
    if not remote and len(units) == 1 and units[0].single:
        return 1  # without a thread, Ctrl-C clears up in the middle of a file
    return min(remote) if remote else to.store.threads


def read(
    sources: str | Iterable[str],
    options: Options,
    listing: Iterable[str] | None = None,
    base: str | None = None,
) -> Iterator[memoryview]:
    """Yield the decoded bytes of objects, one after the other; see `Copy` for the arguments."""
    stores = options.stores()
    if listing is not None:
        items = planning.listed(stores, listing, None, base, options.choice).items
        found: Iterable[tuple[Driver, str]] = ((store, name) for store, name, _ in items)
    else:
        parsed = [addresses.parse(text, options.literal) for text in each_name(sources)]
        found = addresses.objects(stores, parsed, options.recursive, options.choice)
    for store, name in found:
        yield from decoded(store, name)


# -- sync --------------------------------------------------------------------------------------


class Sync:
    """Makes a folder the same as another one: listed by `changes` or done by `run`.

    With `delete` it removes what the source does not have, unless that is more than `max_delete`,
    and with `allow_empty` even if that is all. For `checksum` and `size_only` see `FolderPair`.
    """

    def __init__(
        self,
        source: str,
        destination: str,
        options: Options,
        *,
        delete: bool = False,
        allow_empty: bool = False,
        max_delete: int | None = None,
        checksum: bool = False,
        size_only: bool = False,
    ) -> None:
        self.tally = Tally()
        self._options, self._delete, self._allow_empty = options, delete, allow_empty
        self._max_delete = max_delete
        self._source, self._to = planning.two_folders(source, destination, options)
        self._store = options.stores().open(self._source.base)
        self._into = self._to.address.prefix
        ends = self._store, self._source.prefix, self._to.store, self._into
        self._pair = FolderPair(*ends, options.choice, checksum, size_only)
        #: What the source does not have, if it is to be removed.
        self.extra: list[str] = []

    def _differing(self) -> Iterator[tuple[str, str]]:
        """Yield what is to be copied, and why; keep what is extra for the end."""
        for name, reason in self._pair.changes():
            if reason:
                yield name, reason
            elif self._delete:
                self.extra.append(name)

        if not (self._pair.originals or self._source.local or self._allow_empty):
            self._explain_nothing()

    def _explain_nothing(self) -> None:
        """Raise if the source's name is that of nothing; an empty bucket is no error."""
        name = self._source.name
        if name and not self._source.slashed and self._store.exists(name):
            raise ConfigError(f"{self._source} is an object; cp copies it")
        if name:
            raise addresses.nothing_at(self._source)

    def changes(self) -> Iterator[tuple[str, str, str]]:
        """Yield what would be copied and removed: address, address of the copy or "", reason."""
        to = self._to.address
        readable = True
        for name, reason in self._differing():
            readable = readable and reason != planning.UNREADABLE
            old = self._source.show(self._source.prefix + name)
            yield old, to.show(self._into + name), reason
        for name in self._removable() if readable else ():
            self.tally.removed += 1
            yield to.show(self._into + name), "", ""
        _limit(self.tally.removed, self._max_delete, f" from {to}")
        self.tally.unchanged = self._pair.unchanged

    def run(self, progress: Callback = silent) -> Tally:
        """Copy, then remove what is extra unless a copy failed, then copy what it blocked."""
        self._pair.settle = True
        names, failed = (name for name, _ in self._differing()), []
        for copied in self._copied(names, progress):
            if copied.error is None or not self._delete:
                self.tally.add(copied.size, copied.error)
            else:
                failed.append(copied)
        blocked = [*self._blocked(failed)]
        if not self.tally.failed:
            extra = [*self._removable()]
            _limit(len(extra), self._max_delete, f" from {self._to.address}")
            self.tally.removed = self._remove(extra, blocked)
            for copied in self._copied(iter(blocked), progress):
                self.tally.add(copied.size, copied.error)
        self.tally.unchanged = self._pair.unchanged
        return self.tally

    def _copied(self, names: Iterator[str], progress: Callback) -> Iterator[Copied]:
        items = ((self._store, self._source.prefix + n, self._into + n) for n in names)
        unit = Unit(self._store, self._source, iter(()))
        return _made(items, [unit], self._to, self._options, progress)

    def _blocked(self, failed: list[Copied]) -> Iterator[str]:
        """Yield the names whose copies failed only since something extra is in the way.

        That is a file where a folder is to be, or the reverse. Other failures are counted, and so
        are originals that cannot be read: nothing is to be removed for them.
        """
        extra = set(self.extra) if failed else set()
        for copied in failed:
            name = copied.target[len(self._into) :]
            above = {name[:at] for at, letter in enumerate(name) if letter == "/"}
            try:
                if above & extra or self._holds_only(name, extra):
                    self._store.open(copied.name).close()
                    yield name
                    continue
                error = copied.error
            except (PkgdataError, OSError) as failure:
                error = failure
            self.tally.add(None, error)

    def _holds_only(self, name: str, extra: set[str]) -> bool:
        """Return whether a name is a folder's, in which nothing is but what is extra."""
        store, new, cut = self._to.store, self._into + name, len(self._into)
        if not (isinstance(store, (FileStore, TreeStore)) and store.is_folder(new)):
            return False
        return {below[cut:] for below, _ in store.scan(f"{new}/")} <= extra

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

    def _remove(self, names: list[str], blocked: list[str]) -> int:
        store, found = self._to.store, [self._into + name for name in names]
        store.remove_many(found)
        if isinstance(store, (FileStore, TreeStore)):
            addresses.remove_empty_parents(store, self._into, found)
            for name in blocked:
                addresses.remove_empty(store, self._into + name)
        return len(names)


def _limit(count: int, most: int | None, where: str = "") -> None:
    """Refuse to remove more than was allowed."""
    if most is not None and count > most:
        raise ConfigError(
            f"more than {counted(most, 'object')} would be removed{where}; nothing was removed",
            hint="see what with --dry-run, and raise --max-delete",
        )


# -- rm ----------------------------------------------------------------------------------------


class Removal:
    """Removes files and objects, many objects with one request.

    `report` is called with the address of each that is removed, or with "" and an error. With
    `recursive` folders are removed too, and all of a bucket if `whole`, called with its address,
    agrees; with `force` a missing object is no error; with `listed` addresses are of single
    objects, and some may be missing. Only names of the `choice` are removed, and nothing if they
    are more than `max_delete`.
    """

    def __init__(
        self,
        stores: Stores,
        report: Callable[[str, Exception | None], None],
        *,
        recursive: bool = False,
        force: bool = False,
        whole: Callable[[Address], bool] = lambda _: False,
        dry_run: bool = False,
        listed: bool = False,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        max_delete: int | None = None,
    ) -> None:
        self.tally = Tally()
        #: Whether objects were removed without asking whether they are there.
        self.unasked = False
        self._stores, self._report = stores, report
        self._recursive, self._force, self._whole = recursive, force, whole
        self._dry_run, self._listed, self._most = dry_run, listed, max_delete
        self._choice = Choice(exclude, include)
        self._folders: list[str] = []
        self._waiting: dict[Address, list[str]] = {}

    def run(self, found: Iterable[Address]) -> Tally:
        """Remove all that addresses mean."""
        items = self._items(found)
        if self._most is not None:
            first = [*itertools.islice(items, self._most + 1)]
            _limit(len(first), self._most)
            items = iter(first)
        for address, name in items:
            if address.local:
                self._remove_file(address, name)
            else:
                waiting = self._waiting.setdefault(address, [])
                waiting.append(name)
                if len(waiting) >= _AT_ONCE:
                    self._flush()
        self._flush()
        for folder in self._folders:
            addresses.remove_empty_folders(folder, keep=False)
        return self.tally

    def _items(self, found: Iterable[Address]) -> Iterator[tuple[Address, str]]:
        """Yield what is to be removed: an address of its store or folder, and the name there."""
        for address in found:
            try:
                yield from self._named(address)
            except (PkgdataError, OSError) as error:
                self._fail(error)

    def _named(self, address: Address) -> Iterator[tuple[Address, str]]:
        if address.local and (not address.folder or os.path.islink(address.path)):
            if os.path.lexists(address.path):
                if self._choice(os.path.basename(address.path)):
                    yield address, address.name
            elif not (self._force or self._listed):
                raise ObjectNotFoundError(f"{address}: no such file", url=address.path)
        elif address.local:
            if not self._listed:  # a list of files names their folders, too
                yield from self._tree(address)
        elif (
            address.pattern
            or address.folder
            or (self._recursive and addresses.is_folder(self._stores.open(address.base), address))
        ):
            yield from self._many(address)
        else:
            yield from self._object(address)

    def _tree(self, address: Address) -> Iterator[tuple[Address, str]]:
        """Yield the files of a local folder, and links, but not what these lead to."""
        if not self._recursive:
            raise addresses.is_a_folder(address)
        named_by_dots = os.path.basename(address.shown) in (".", "..")
        if named_by_dots or os.path.dirname(address.base) == address.base:
            raise ConfigError(f"{address}: refused to remove this folder")
        if not os.path.isdir(address.base):
            if self._force:
                return
            raise ObjectNotFoundError(f"{address}: no such folder", url=address.path)
        for path in addresses.files_below(address.base):
            name = os.path.relpath(path, address.base)
            if self._choice(name.replace(os.sep, "/")):
                yield address, name
        if not self._dry_run:
            self._folders.append(address.base)

    def _many(self, address: Address) -> Iterator[tuple[Address, str]]:
        store = self._stores.open(address.base)
        # "*" alone takes one level, unless what is below its matches goes too
        everything = not address.pattern.strip("*?/") and (
            self._recursive or "**" in address.pattern or not address.pattern
        )
        if not self._recursive and (not address.pattern or (everything and not address.name)):
            raise addresses.is_a_folder(address)
        if everything and not (address.name or self._dry_run or self._whole(address)):
            raise ConfigError(
                f"{address} is a whole bucket; nothing of it was removed",
                hint="--yes, if all of it is to be removed",
            )
        count, cut = 0, len(address.prefix)
        for name, info in names_in(store, address, self._recursive, markers=True):
            count += 1
            if addresses.takes(self._choice, name[cut:], info):
                yield address, name
        if not count and not self._force:
            raise addresses.nothing_at(address)

    def _object(self, address: Address) -> Iterator[tuple[Address, str]]:
        # of a long list, asking would cost a request for each: removing what is missing is no error
        if self._listed and not self._dry_run:
            self.unasked = True
            yield address, address.name
        elif self._stores.open(address.base).exists(address.name):
            if self._choice(address.leaf):
                yield address, address.name
        elif not (self._force or self._listed):
            raise ObjectNotFoundError(f"{address}: no such object", url=str(address))

    def _remove_file(self, address: Address, name: str) -> None:
        try:
            if not self._dry_run:
                fs.remove(os.path.join(address.base, name) if name else address.base)
        except OSError as error:
            self._fail(error)
        else:
            self._count(address, name)

    def _count(self, address: Address, name: str) -> None:
        self.tally.removed += 1
        self._report(address.show(name), None)

    def _flush(self) -> None:
        for address, names in self._waiting.items():
            try:
                if not self._dry_run:
                    self._stores.open(address.base).remove_many(names)
            except PkgdataError as error:
                self._fail(error)
                names = [name for name in names if not self._stores.open(address.base).exists(name)]
            for name in names:
                self._count(address, name)
        self._waiting.clear()

    def _fail(self, error: Exception) -> None:
        self.tally.refuse(error)
        self._report("", error)
