"""Pulling in pkgdata's own form: into the cache what it lacks, then a folder of links to that.

Each file is compared with its digest while it is written, and stays in the cache: an interrupted
pull is resumed from there, and a second version fetches what changed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from dataclasses import InitVar, dataclass
from typing import NamedTuple

from ..base import disk, fs, hashes, pool
from ..base.config import conf
from ..base.hashes import Digest
from ..base.progress import Callback, ended, silent
from ..cache.objects import Cache
from ..cache.partial import Group, Partial
from ..cache.stamps import OBJECTS, split
from ..core.registry import Entry, Registry
from ..errors import IncompleteTransferError, IntegrityError, StoreError
from ..stores import Body, Source, Store, codecs
from ..transfer.fetch import fetch
from . import repository
from .repository import Manifest, Outcome, Spot

#: An entry, its digest, and where its bytes are.
Wanted = tuple[Entry, Digest, Spot]

#: Bytes between two wanted files of a pack that are read too: another request would cost more.
_GAP = 128 << 10

#: Bytes that are read of a pack at a time.
_BLOCK = 1 << 20

#: Packs that are read at once, and large files; each of these may use several connections.
_PACKS, _ALONE = 8, 2


class Piece(NamedTuple):
    """A range of a pack that is read as a whole, and the files in it."""

    pack: int
    start: int
    stop: int
    members: list[Wanted]


def pieces(wanted: Iterable[Wanted]) -> list[Piece]:
    """Return what is to be read of packs to get some files, all of them in packs."""
    found: list[Piece] = []
    for one in sorted(wanted, key=lambda one: (one[2].pack or 0, one[2].offset)):
        entry, _, spot = one
        assert spot.pack is not None
        stop = spot.offset + spot.stored(entry.size)
        last = found[-1] if found else None
        if last is None or last.pack != spot.pack or spot.offset > last.stop + _GAP:
            found.append(Piece(spot.pack, spot.offset, stop, [one]))
        else:
            last.members.append(one)
            found[-1] = last._replace(stop=max(last.stop, stop))
    return found


@dataclass
class Pull:
    """Fetches the wanted files of a dataset into the cache.

    ``former`` is another version of it on this computer, and its folder.
    """

    _store: Store
    _name: str
    _manifest: Manifest
    _cache: Cache
    former: InitVar[tuple[Registry, str] | None] = None
    _show: Callback = silent

    def __post_init__(self, former: tuple[Registry, str] | None) -> None:
        self._lock = threading.Lock()
        self._group: Group | None = None
        self._kept: set[Digest] = set()
        self._buffers = threading.local()
        self._moved = 0
        #: Paths in the cache.
        self.here: dict[Digest, str] = {}
        self._local: dict[Digest, str] = {}
        self._find(former)

    # -- what is here already ------------------------------------------------------------------

    def _find(self, former: tuple[Registry, str] | None) -> None:
        """Search the cache, and the folder of another version."""
        others: dict[Digest | None, str] = {}
        if former is not None:
            entries, folder = former[0].values(), former[1]
            others = {one.digest: os.path.join(folder, *one.name.split("/")) for one in entries}
        listed: dict[str, set[str]] = {}
        self._missing: list[Wanted] = []
        for entry, digest, spot in self._manifest.located():
            path = self._held(entry, digest, listed)
            if path is not None:
                self.here[digest] = path
                continue
            if digest in others and _length(others[digest]) == entry.size:
                self._local[digest] = others[digest]
            self._missing.append((entry, digest, spot))

    def _held(self, entry: Entry, digest: Digest, listed: dict[str, set[str]]) -> str | None:
        """Return where the cache has an object, under any name."""
        alg, first, rest = split(digest)
        key = f"{alg}/{first}"
        if key not in listed:
            # looking for each of thousands that are not there would take longer
            listed[key] = set(_names(os.path.join(self._cache.root, OBJECTS, alg, first)))
        if rest not in listed[key]:
            return None
        found = self._cache.find(digest, entry.name, entry.size)
        if found is None:
            for name in _names(os.path.dirname(self._cache.path(digest, entry.name))):
                found = found or self._cache.find(digest, name, entry.size)
        return found

    def plan(self, outcome: Outcome) -> None:
        """Fill in what would be moved."""
        wanted = [one for one in self._missing if one[1] not in self._local]
        packed, alone = self._sort(wanted, outcome)
        outcome.moved_bytes += sum(piece.stop - piece.start for piece in packed)
        outcome.moved_bytes += sum(spot.stored(entry.size) for entry, _, spot in alone)

    def _sort(self, wanted: list[Wanted], outcome: Outcome) -> tuple[list[Piece], list[Wanted]]:
        """Return what is read of packs, and the objects of their own; count both."""
        packed = pieces(one for one in wanted if one[2].pack is not None)
        alone = [one for one in wanted if one[2].pack is None]
        outcome.moved_files, outcome.objects = len(wanted), len(packed) + len(alone)
        return packed, alone

    # -- fetching the rest ---------------------------------------------------------------------

    def run(self, outcome: Outcome) -> None:
        """Fetch all that is missing into the cache; fill in what was moved."""
        cache, durability = self._cache, str(conf.durability)
        self._group = Group(cache, lambda tag, path: self.here.__setitem__(tag, path), durability)
        for entry, digest, _ in self._manifest.located():
            if digest in self.here:
                self._tell(entry)
        need = sum(entry.size or 0 for entry, _, _ in self._missing)
        disk.check_space(f"the dataset {self._name!r}", cache.root, need)
        try:
            rest = [one for one in self._missing if not self._take(*one[:2])]
            packed, alone = self._sort(rest, outcome)
            for _ in pool.each(self._piece, packed, min(_PACKS, self._store.threads)):
                pass
        finally:
            with self._lock:
                self._group.flush()  # what came stays for the next time
        for _ in pool.each(self._alone, alone, _ALONE):
            pass
        outcome.moved_bytes += self._moved

    def _tell(self, entry: Entry) -> None:
        self._show(ended(entry.name, entry.size or 0))

    def _take(self, entry: Entry, digest: Digest) -> bool:
        """Use an unchanged file of another version; return False if it must be fetched."""
        path = self._local.get(digest)
        if path is None:
            return False
        try:
            if (entry.size or 0) > repository.LARGE:
                self.here[digest] = self._cache.add(path, digest, entry.name, entry.size)
            else:
                with open(path, "rb") as file:
                    self._keep(entry, digest, file.read())
        except (OSError, IntegrityError):
            return False  # it was changed: then it comes from the repository
        self._tell(entry)
        return True

    def _piece(self, piece: Piece) -> None:
        """Fetch the files of a piece of a pack; wrong bytes are fetched once more."""
        digest, size = self._manifest.packs[piece.pack]
        name = repository.pack_name(self._name, digest)
        for left in (1, 0):
            content = self._store.trying(lambda: self._read(name, piece, size))
            try:
                self._cut(piece, content, name)
                break
            except IntegrityError:
                if not left:
                    raise

    def _read(self, name: str, piece: Piece, size: int) -> memoryview:
        whole = piece.start == 0 and piece.stop == size
        wanted = piece.stop - piece.start
        count = 0
        # one buffer for each thread: new memory for each pack would cost as much as its digests
        if len(getattr(self._buffers, "own", b"")) < wanted:
            self._buffers.own = bytearray(wanted)
        buffer = memoryview(self._buffers.own)[:wanted]
        with self._store.open(name, piece.start, None, None if whole else piece.stop) as body:
            if body.start != piece.start:
                self._skip(body, piece.start - body.start)
            while part := buffer[count : count + _BLOCK]:
                got = body.readinto(part)
                if not got:
                    break
                count += got
        with self._lock:
            self._moved += count
        if count != wanted:
            address = self._store.address(name)
            problem = f"{address}: {count} bytes came of {wanted}"
            raise IncompleteTransferError(problem, url=address, expected=wanted, actual=count)
        return buffer

    def _skip(self, body: Body, count: int) -> None:
        """Read up to where a range begins, from a server that knows no ranges."""
        waste = memoryview(bytearray(_BLOCK))
        while count > 0:
            got = body.readinto(waste[: min(count, _BLOCK)])
            if not got:
                return
            count -= got
            with self._lock:
                self._moved += got

    def _cut(self, piece: Piece, content: memoryview, name: str) -> None:
        address = self._store.address(name)
        for entry, digest, spot in piece.members:
            start = spot.offset - piece.start
            part: bytes | memoryview = content[start : start + spot.stored(entry.size)]
            if spot.zstd is not None:
                part = self._decoded(part, entry, address)
            self._keep(entry, digest, part, address)
            self._tell(entry)

    def _decoded(self, part: bytes | memoryview, entry: Entry, address: str) -> bytes:
        try:
            return repository.decoded(part, "zstd", entry.size or 0, address)
        except StoreError as error:
            raise _wrong(entry, address, error.message) from error

    def _keep(
        self, entry: Entry, digest: Digest, content: bytes | memoryview, source: str = ""
    ) -> None:
        """Compare bytes with their digest, and write them."""
        group = self._group
        assert group is not None
        actual = hashes.hash_blocks((content,), digest.alg)
        if actual != digest:
            raise _wrong(entry, source, str(actual))
        if digest in self._kept:
            return  # by the first attempt
        path, fd = group.create(digest)
        try:
            fs.write_all(fd, content)
        except BaseException:
            os.close(fd)
            fs.remove(path)
            raise
        with self._lock:
            group.add(path, fd, digest, entry.name, len(content), False, digest)
            self._kept.add(digest)

    # -- large files ---------------------------------------------------------------------------

    def _alone(self, one: Wanted) -> None:
        """Fetch a large file; if that is interrupted, the next pull resumes it."""
        entry, digest, spot = one
        name = repository.object_name(self._name, digest, spot.zstd is not None)

        def fill(partial: Partial) -> None:
            before = partial.offset
            if spot.zstd is None:
                sources = [Source(self._store, name)]
                fetch(entry.name, partial, sources, digest, entry.size, self._show)
            else:
                self._decompress(entry, digest, name, partial)
            with self._lock:
                self._moved += partial.offset - before if spot.zstd is None else spot.zstd

        self.here[digest] = self._cache.obtain(digest, entry.name, entry.size, fill)
        self._tell(entry)

    def _decompress(self, entry: Entry, digest: Digest, name: str, partial: Partial) -> None:
        blocks = codecs.decode_blocks(self._store.blocks(name), "zstd", self._store.address(name))
        with contextlib.closing(blocks):  # releases the connection
            # it reads as a file does, and is none
            partial.fill(codecs.BlockFile(blocks, entry.size), digest, entry.name)  # type: ignore[arg-type]


def _wrong(entry: Entry, source: str, actual: str) -> IntegrityError:
    what, name = f"wrong bytes for {entry.name!r} from {source}", entry.name
    hint = "the repository is damaged; push the dataset again, with --force"
    return hashes.mismatch(what, str(entry.digest), actual, name=name, source=source, hint=hint)


def _length(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def build(manifest: Manifest, here: dict[Digest, str], cache: Cache, folder: str) -> None:
    """Fill the folder of a dataset with hard links to the cache, else clones, else copies."""
    made: set[str] = set()
    for name in manifest.folders:
        fs.make_dirs(os.path.join(folder, *name.split("/")))
    for entry in manifest.entries:
        assert entry.digest is not None
        target = os.path.join(folder, *entry.name.split("/"))
        above = os.path.dirname(target)
        if above not in made:
            fs.make_dirs(above)
            made.add(above)
        mode = manifest.modes.get(entry.name)
        if mode is not None:
            # a copy: the file in the cache is shared with datasets in which it is not executable
            fs.copy(here[entry.digest], target)
            os.chmod(target, mode & ~0o222)
            continue
        try:
            os.link(here[entry.digest], target)
        except FileExistsError:
            raise
        except OSError:  # another file system, or too many links
            cache.share(here[entry.digest], target)
