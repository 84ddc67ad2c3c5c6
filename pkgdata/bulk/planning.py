"""What a bulk copy or a synchronisation will do, worked out lazily from addresses and listings."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from ..base import hashes
from ..base.hashes import Digest
from ..base.text import Choice
from ..base.urls import redact
from ..errors import ConfigError, ObjectNotFoundError, StoreError
from ..stores import Info, Store
from ..stores.codecs import SUFFIXES
from ..stores.copying import Item
from ..stores.file import FileStore, TreeStore
from ..stores.objects import is_marker
from .addresses import Address, Options, Stores, is_a_folder, is_folder, names_in, parse, takes

#: MiB of the parts in which pkgdata and other tools upload large objects; of very large ones there
#: are 9,000.
_PARTS = (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512)

#: Why a synchronisation copies an object.
MISSING = "missing"
UNREADABLE = "it cannot be read"
_REASONS = {
    "": "",
    hashes.SIZE: "other size",
    hashes.DIGEST: "other digest",
    hashes.NEWER: "newer",
    hashes.UNKNOWN: "no time to compare",
}


# -- copies ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Target:
    """Where copies go; ``into`` says that the address is a folder, not the copy's own name."""

    store: Store
    address: Address
    into: bool

    @property
    def local(self) -> bool:
        """Whether it is on this computer."""
        return self.address.local

    def become_folder(self) -> None:
        """Root the store at the folder that the copy of a folder makes here.

        So the names of copies are the same before and after it exists, as a job file needs.
        """
        if self.local and not self.address.folder:
            if os.path.isfile(self.address.path):
                raise ConfigError(f"{self.address}: it is a file, no folder can be copied there")
            self.address = self.address.as_folder()
            self.store = Stores().open(self.address.base)


class Unit(NamedTuple):
    """What one source gives to copy."""

    store: Store
    address: Address
    items: Iterator[Item]
    #: Whether it is one object, named as such.
    single: bool = False
    #: Whether it is a pipe or device, which can be read only once.
    stream: bool = False


def target(stores: Stores, text: str, many: bool = False, always_folder: bool = False) -> Target:
    """Read the destination of copies.

    It must be a folder if `many` sources go there, and is one, however written, if `always_folder`.
    """
    address = parse(text)
    if address.pattern:
        raise ConfigError(f"{redact(text)}: a destination has no wildcards")
    if address.local and os.path.isfile(address.path):
        if address.folder or many or always_folder:
            raise ConfigError(f"{text}: it is a file, not a folder to copy into")
        if os.path.islink(address.path):  # the file behind it is what is replaced
            base, name = os.path.split(os.path.realpath(address.path))
            address = address._replace(base=base, name=name)
    elif many and not address.folder:
        raise ConfigError(
            f"{text}: several sources need a folder to be copied into",
            hint=f"to make a folder there, write {text}/",
        )
    if always_folder:
        address = address.as_folder()
    return Target(stores.open(address.base), address, address.folder or always_folder)


def units(
    stores: Stores,
    sources: list[Address],
    to: Target,
    *,
    recursive: bool,
    folders: bool = False,
    same: bool = False,
    choice: Choice,
) -> list[Unit]:
    """Work out what is copied where; nothing is listed before the items of a unit are taken.

    With `folders` what is written as a folder is copied, even if not recursive; with `same` an
    object may be copied onto itself, to change its compression. The choice is of names relative to
    their source.
    """
    found = []
    for source in sources:
        store = stores.open(source.base)
        if source.pattern:
            found.append(_matches(store, source, to, recursive, choice))
        elif source.folder or (recursive and is_folder(store, source)):
            if not (recursive or (folders and source.folder)):
                raise is_a_folder(source)
            found.append(_folder(store, source, to, same, choice))
        else:
            found.append(_single(store, source, to, same, choice))
    return found


def _single(store: Store, source: Address, to: Target, same: bool, choice: Choice) -> Unit:
    new = to.address.prefix + source.leaf if to.into else to.address.name
    if not same and store.same(source.name, to.store, new):
        raise ConfigError(f"{source} and {to.address.show(new)} are the same")
    stream = source.local and is_special(source.path)
    items = [(store, source.name, new)] if choice(source.leaf) else []
    return Unit(store, source, iter(items), bool(items), stream)


def is_special(path: str) -> bool:
    """Return whether a path is a pipe or a device, such as ``/dev/stdin``."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _folder(store: Store, source: Address, to: Target, same: bool, choice: Choice) -> Unit:
    to.become_folder()
    top = to.address.prefix
    if to.into and not source.slashed and source.leaf:
        top += f"{source.leaf}/"
    in_place = _place(store, source, source.prefix) == _place(to.store, to.address, top)
    if not (same and in_place):  # else each object gets another compression where it is
        refuse_inside(store, source, to, top)
    cut = len(source.prefix)
    found = names_in(store, source)
    taken = (name for name, info in found if takes(choice, name[cut:], info))
    items = ((store, name, top + name[cut:]) for name in taken)
    return Unit(store, source, items)


def _place(store: Store, address: Address, prefix: str) -> str:
    """Return a text that begins with another folder's if this folder is inside that one."""
    if address.local:
        return os.path.join(os.path.realpath(os.path.join(address.base, prefix)), "")
    return f"{store.url.rstrip('/')}/{prefix}"


def refuse_inside(store: Store, source: Address, to: Target, top: str) -> None:
    """Refuse to copy a folder into itself, to the prefix ``top``, which would never end."""
    if source.local != to.local:
        return
    here = _place(store, source, source.prefix)
    if _place(to.store, to.address, top).startswith(here):
        raise ConfigError(f"{source} cannot be copied into itself: {to.address.show(top)}")


def _matches(store: Store, source: Address, to: Target, recursive: bool, choice: Choice) -> Unit:
    top = to.address.prefix
    if not to.into:
        raise ConfigError(f"{to.address}: wildcards need a folder to be copied into")
    cut = len(source.prefix)
    here = _place(store, source, "")
    inside = _place(to.store, to.address, top)
    # names in the destination are the copies, or existed before
    mine = inside[len(here) :] if not to.local and inside.startswith(here) else ""
    if mine == source.prefix:
        mine = ""  # each onto itself, which `checked` refuses, or which changes the compression

    def items() -> Iterator[Item]:
        count = 0
        for name, info in names_in(store, source, recursive):
            count += 1
            if takes(choice, name[cut:], info) and not (mine and name.startswith(mine)):
                yield store, name, top + name[cut:]
        if not count:
            raise ObjectNotFoundError(f"{source}: nothing matches", url=str(source))

    return Unit(store, source, items())


def listed(
    stores: Stores, lines: Iterable[str], to: Target | None, base: str | None, choice: Choice
) -> Unit:
    """Work out what a list of paths or URLs gives to copy; folders in it are skipped.

    Names are relative to the folder that all of them have in common, or to ``base``; with a base,
    the list need not be read as a whole before the copies begin.
    """
    top = to.address.prefix if to is not None else ""
    if base is not None:
        place, folder = _rooted(parse(base.rstrip("/") + "/", literal=True))
        paths = _below_base(lines, place, folder)
    else:
        found, place, folder = _common(lines)
        paths = iter(found)
    root = place if place else folder.rstrip("/") or "/"
    store, cut = stores.open(root), len(folder)
    skip = cut if not place else 0
    address = Address(root, "", True, True, root, local=not place)
    items = ((store, path[skip:], top + path[cut:]) for path in paths if choice(path[cut:]))
    return Unit(store, address, items)


def _rooted(address: Address) -> tuple[str, str]:
    """Return the bucket or server of an address ("" for this computer) and all of its path."""
    end = "/" if address.folder and address.name else ""
    if address.local:
        path = address.path.replace(os.sep, "/")
        return "", path.rstrip("/") + "/" if address.folder else path
    parts = urlsplit(address.base)
    if parts.scheme not in ("http", "https"):
        return address.base, address.name + end
    place = urlunsplit(parts._replace(path="/"))
    return place, unquote(parts.path).lstrip("/") + address.name


def _paths(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line:
            yield _rooted(parse(line, literal=True))


def _common(lines: Iterable[str]) -> tuple[list[str], str, str]:
    """Read a list: the objects' paths, where they are, and the folder that they have in common."""
    paths: dict[str, None] = {}  # without duplicates, in order
    place, common = None, ""
    for where, path in _paths(lines):
        if place is None:
            place, common = where, path.rpartition("/")[0] + "/"
        if where != place:
            raise ConfigError(
                f"the list names {place or 'this computer'} and {where or 'this computer'}",
                hint="copy from one bucket or server at a time",
            )
        while not path.startswith(common):
            common = common.rstrip("/").rpartition("/")[0] + "/"
            if common == "/" and not path.startswith("/"):
                common = ""
        if not path.endswith("/") and path:
            paths[path] = None
    return [*paths], place or "", common if paths else "/"


def _below_base(lines: Iterable[str], place: str, folder: str) -> Iterator[str]:
    for where, path in _paths(lines):
        if where != place or not path.startswith(folder):
            raise ConfigError(f"{path} of the list is not below {folder}")
        if not path.endswith("/"):
            yield path


def checked(
    items: Iterable[Item],
    to: Target,
    refuse: Callable[[Exception], None],
    *,
    several: bool,
    same: bool,
    move: bool,
) -> Iterator[Item]:
    """Leave out harmful copies, onto one another and onto their own originals.

    `refuse` is called with the error of each. Items of `several` sources may have the same copy;
    with `same` an object may be copied onto itself; if originals are to `move`, those behind links
    to other folders are left out.
    """
    seen: dict[str, str] = {}
    for store, name, new in items:
        origin = store.address(name)
        problem = ""
        if not same and store.same(name, to.store, new):
            problem = "it would be copied onto itself"
        elif several and seen.setdefault(new, origin) != origin:
            problem = f"{seen[new]} has the same copy, {new!r}"
        elif move and isinstance(store, FileStore) and behind_link(store.root, name):
            problem = "it is behind a link to another folder, and stays there"
        if problem:
            refuse(ConfigError(f"{origin}: {problem}"))
        else:
            yield store, name, new


def behind_link(root: str, name: str) -> bool:
    """Return whether a link to a folder leads to a file, so that the file belongs elsewhere."""
    path = root
    for part in name.split("/")[:-1]:
        path = os.path.join(path, part)
        if os.path.islink(path):
            return True
    return False


# -- synchronisation ---------------------------------------------------------------------------


def two_folders(source_text: str, destination: str, options: Options) -> tuple[Address, Target]:
    """Read the ends of a synchronisation, of which none is inside the other."""
    source = parse(source_text, literal=True)
    if source.local and not os.path.isdir(source.path):
        what = "it is a file; cp copies it" if os.path.exists(source.path) else "no such folder"
        raise ConfigError(f"{source_text}: {what}")
    ends = options.ends()
    to = target(ends, destination, always_folder=True)
    if source.local and to.local:
        one, two = (os.path.join(os.path.realpath(x.path), "") for x in (source, to.address))
        if one.startswith(two) or two.startswith(one):
            raise ConfigError(f"{source.path} and {to.address.path}: one is inside the other")
    elif not source.local:
        store = ends.open(source.base)
        back = Target(store, source, True)
        refuse_inside(store, source, to, to.address.prefix)
        refuse_inside(to.store, to.address, back, source.prefix)
    return source, to


class FolderPair:
    """Two folders, compared name by name: listed once, in the same order, never held as a whole.

    With `checksum` the bytes are read where only one side has a digest; with `size_only` objects of
    the same size are the same. Names that are not of the `choice` are left alone on both sides.
    """

    def __init__(
        self,
        source: Store,
        source_prefix: str,
        to: Store,
        to_prefix: str,
        choice: Choice,
        checksum: bool = False,
        size_only: bool = False,
    ) -> None:
        self._source, self._from = source, source_prefix
        self._to, self._into = to, to_prefix
        self._choice, self._checksum, self._size_only = choice, checksum, size_only
        # a folder keeps a compressed object as a file with a suffix; see `FileStore`
        self._suffixed = isinstance(to, FileStore) and not isinstance(source, FileStore)
        #: Objects of the source that were listed.
        self.originals = 0
        self.unchanged = 0
        #: Whether the files of the destination may be given the times of their originals.
        self.settle = False

    def changes(self) -> Iterator[tuple[str, str]]:
        """Yield the relative name of each difference and why it is copied; "" if it is extra."""
        rows = _sorted(self._to, self._into)
        # what leads nowhere there is not compared: the copy replaces it
        theirs = ((n, i) for n, i in rows if i.size is not None and self._choice(n))
        there = next(theirs, None)
        for name, info in _sorted(self._source, self._from):
            self.originals += 1
            if not takes(self._choice, name, info):
                continue
            while there is not None and there[0] < name:
                yield there[0], ""
                there = next(theirs, None)
            if there is not None and there[0] == name:
                reason = self._reason(name, info, there[1])
                there = next(theirs, None)
            else:
                reason = self._reason_if_compressed(name, info)
            if reason:
                yield name, reason
            else:
                self.unchanged += 1
        while there is not None:
            yield there[0], ""
            there = next(theirs, None)

    def is_extra(self, name: str) -> bool:
        """Return whether a file is not the compressed copy of an object of the source either."""
        plain = next((name.removesuffix(s) for s in SUFFIXES.values() if name.endswith(s)), "")
        return not (self._suffixed and plain and self._source.exists(self._from + plain))

    def _reason_if_compressed(self, name: str, info: Info) -> str:
        if self._unreadable(info):
            return UNREADABLE
        if not self._suffixed:
            return MISSING
        try:
            return self._reason(name, info, self._to.info(self._into + name))
        except (ObjectNotFoundError, ValueError):
            return MISSING  # or a name that cannot be a file's, which the copy will report

    def _unreadable(self, info: Info) -> bool:
        return info.size is None and isinstance(self._source, (FileStore, TreeStore))

    def _reason(self, name: str, mine: Info, its: Info) -> str:
        if self._unreadable(mine):
            return UNREADABLE
        if mine.size is None or mine.size != its.size:
            return _REASONS[hashes.SIZE]
        if self._size_only:
            return ""
        one, two = self._digests(name, mine.digest, its.digest)
        different = hashes.difference(mine._replace(digest=one), its._replace(digest=two))
        if different in (hashes.NEWER, hashes.UNKNOWN) and self._is_same(name, mine, its):
            return ""
        return _REASONS[different]

    def _is_same(self, name: str, mine: Info, its: Info) -> bool:
        """Return whether a file has the digest that a service reports: it costs less than a copy.

        So what was copied up is not copied down, since it is newer there. If `settle`, the file of
        the destination gets the time of its original, and need not be hashed the next time.
        """
        old, new = self._from + name, self._into + name
        if isinstance(self._to, FileStore):
            same = _has_digest(self._to, new, self._source, old, mine)
            if same and self.settle and mine.modified is not None:
                self._to.set_time(new, mine.modified)
            return same
        near = isinstance(self._source, FileStore)
        return near and _has_digest(self._source, old, self._to, new, its)

    def _digests(
        self, name: str, mine: Digest | None, its: Digest | None
    ) -> tuple[Digest | None, Digest | None]:
        """Return the digests to compare; none if they differ and may be out of date."""
        old, new = self._from + name, self._into + name
        if self._checksum:
            mine = mine or (its and hashes.hash_blocks(self._source.blocks(old), its.alg))
            its = its or (mine and hashes.hash_blocks(self._to.blocks(new), mine.alg))
            mine = mine or hashes.hash_blocks(self._source.blocks(old))
            its = its or hashes.hash_blocks(self._to.blocks(new), mine.alg)
        if mine is None or its is None or mine.alg != its.alg or mine == its:
            return mine, its
        known = self._source.is_digest(old, mine) and self._to.is_digest(new, its)
        return (mine, its) if known else (None, None)


def _has_digest(near: Store, name: str, far: Store, far_name: str, info: Info) -> bool:
    etag = (info.validator or "").strip('"')
    if far.cloud and info.size and re.fullmatch("[0-9a-f]{32}-[0-9]{1,5}", etag):
        count = int(etag.partition("-")[2])
        sizes = {size << 20 for size in _PARTS} | {-(-info.size // 9_000)}
        known = (size for size in sizes if -(-info.size // size) == count)
        return any(hashes.etag_in_parts(near.blocks(name), size) == etag for size in known)
    digest = info.digest or (far.info(far_name).digest if far.cloud else None)
    return digest is not None and hashes.hash_blocks(near.blocks(name), digest.alg) == digest


def _sorted(store: Store, prefix: str) -> Iterator[tuple[str, Info]]:
    """List a folder, and refuse a listing that cannot be compared in one pass."""
    last, cut = "", len(prefix)
    for name, info in store.scan(prefix):
        if is_marker(name, info):
            continue
        if name <= last:
            raise StoreError(f"{store.url}: its listing is not sorted: {last!r}, {name!r}")
        last = name
        yield name[cut:], info
