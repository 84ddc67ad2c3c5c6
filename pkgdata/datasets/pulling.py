"""Pulling in pkgdata's own form: into the cache what it lacks, then a folder of links to that.

Each file is compared with its digest while it is written, and is in the cache from then on: a pull
that was interrupted goes on from there, and a second version fetches what changed.
"""

from __future__ import annotations

import contextlib
import os
import threading

from ..base import fs, hashes, pool
from ..base.config import conf
from ..base.hashes import Digest
from ..base.progress import silent
from ..cache.group import Group
from ..cache.objects import OBJECTS, split
from ..errors import CacheError, IncompleteTransferError, IntegrityError, StoreError
from ..stores import codecs
from . import remote
from .manifest import located

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..base.progress import Callback
    from ..cache.objects import Cache
    from ..cache.partial import Partial
    from ..core.registry import Entry, Registry
    from ..stores import Body, Store
    from .manifest import Manifest, Spot
    from .outcome import Outcome

    #: An entry and where its bytes lie.
    Wanted = tuple[Entry, Spot]

#: Bytes between two wanted files of a pack that are read along: a request of its own costs more.
_GAP = 128 << 10

#: Bytes that are read of a pack at a time.
_BLOCK = 1 << 20

#: Packs that are read at once, and large files; each of these may use several connections.
_PACKS, _ALONE = 8, 2


class Span:
    """A piece of a pack that is read as a whole.

    Parameters
    ----------
    pack : int
        Number of the pack.
    start : int
        First byte.
    """

    __slots__ = ("members", "pack", "start", "stop")

    def __init__(self, pack: int, start: int) -> None:
        self.pack = pack
        self.start = self.stop = start
        self.members: list[Wanted] = []

    def add(self, entry: Entry, spot: Spot) -> None:
        """Take in a file, which lies behind those that are in it."""
        self.members.append((entry, spot))
        self.stop = max(self.stop, spot.offset + _stored(entry, spot))


def _stored(entry: Entry, spot: Spot) -> int:
    return (entry.size or 0) if spot.zstd is None else spot.zstd


def spans(wanted: Iterable[Wanted]) -> list[Span]:
    """Return what is to be read of packs to get some files.

    Parameters
    ----------
    wanted : iterable of (Entry, Spot)
        All of them in packs.
    """
    found: list[Span] = []
    for entry, spot in sorted(wanted, key=lambda one: (one[1].pack or 0, one[1].offset)):
        assert spot.pack is not None
        last = found[-1] if found else None
        if last is None or last.pack != spot.pack or spot.offset > last.stop + _GAP:
            found.append(Span(spot.pack, spot.offset))
        found[-1].add(entry, spot)
    return found


class Pull:
    """The files of a dataset on their way into the cache.

    Parameters
    ----------
    name : str
        Of the dataset.
    manifest : Manifest
        Of what is wanted.
    former : (Registry, str), optional
        Another version of it on this computer, and its folder.
    tell : callable, optional
        Called with the name and the bytes of each file that is here.
    show : callable, optional
        Called with an `Event` while a large file comes.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        manifest: Manifest,
        cache: Cache,
        former: tuple[Registry, str] | None = None,
        tell: Callable[[str, int], None] | None = None,
        show: Callback = silent,
    ) -> None:
        self._store = store
        self._name = name
        self._manifest = manifest
        self._cache = cache
        self._tell = tell or (lambda _, __: None)
        self._show = show
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
        """Look into the cache, and into the folder of another version."""
        others: dict[Digest, str] = {}
        if former is not None:
            registry, folder = former
            for entry in registry.values():
                if entry.digest is not None:
                    others[entry.digest] = os.path.join(folder, *entry.name.split("/"))
        listed: dict[str, set[str]] = {}
        self._missing: list[Wanted] = []
        for entry, spot in located(self._manifest):
            assert entry.digest is not None
            path = self._held(entry, entry.digest, listed)
            if path is not None:
                self.here[entry.digest] = path
                continue
            if entry.digest in others and _length(others[entry.digest]) == entry.size:
                self._local[entry.digest] = others[entry.digest]
            self._missing.append((entry, spot))

    def _held(self, entry: Entry, digest: Digest, listed: dict[str, set[str]]) -> str | None:
        """Return where the cache has an object, under whatever name."""
        alg, first, rest = split(digest)
        key = f"{alg}/{first}"
        if key not in listed:
            # asking for each of thousands that are not there would take longer
            listed[key] = set(_names(os.path.join(self._cache.root, OBJECTS, alg, first)))
        if rest not in listed[key]:
            return None
        found = self._cache.find(digest, entry.name, entry.size)
        if found is None:
            for name in _names(os.path.dirname(self._cache.path(digest, entry.name))):
                found = found or self._cache.find(digest, name, entry.size)
        return found

    def plan(self, outcome: Outcome) -> None:
        """Say what would be moved.

        Parameters
        ----------
        outcome : Outcome
            Filled.
        """
        far = [one for one in self._missing if one[0].digest not in self._local]
        pieces = spans(one for one in far if one[1].pack is not None)
        alone = [one for one in far if one[1].pack is None]
        outcome.moved_files = len(far)
        outcome.objects = len(pieces) + len(alone)
        outcome.moved_bytes += sum(span.stop - span.start for span in pieces)
        outcome.moved_bytes += sum(_stored(*one) for one in alone)

    # -- bringing the rest ---------------------------------------------------------------------

    def run(self, outcome: Outcome) -> None:
        """Bring all that is missing into the cache, which is kept from removal meanwhile.

        Parameters
        ----------
        outcome : Outcome
            Filled.

        Raises
        ------
        IntegrityError
            The repository has other bytes than the manifest says.
        """
        cache, durability = self._cache, str(conf.durability)
        self._group = Group(cache, lambda tag, path: self.here.__setitem__(tag, path), durability)
        for entry, _ in located(self._manifest):
            if entry.digest in self.here:
                self._tell(entry.name, entry.size or 0)
        self._check_space()
        try:
            rest = self._from_here()
            outcome.moved_files = len(rest)
            pieces = spans(one for one in rest if one[1].pack is not None)
            alone = [one for one in rest if one[1].pack is None]
            outcome.objects = len(pieces) + len(alone)
            self._all(self._piece, pieces, min(_PACKS, self._store.threads))
        finally:
            with self._lock:
                self._group.flush()  # what came stays for the next time
        self._all(self._alone, alone, _ALONE)
        outcome.moved_bytes += self._moved

    def _check_space(self) -> None:
        need = sum(entry.size or 0 for entry, _ in self._missing)
        free = fs.free_bytes(self._cache.root)
        if free is not None and free < need:
            raise CacheError(
                f"no space for the dataset {self._name!r} in {self._cache.root}: {need} bytes are "
                f"needed, {free} are free",
                hint="free some ('pkgdata cache prune'), or set PKGDATA_CACHE_DIR to a larger disk",
            )

    def _all(self, action: Callable[[Any], None], items: list[Any], threads: int) -> None:
        with contextlib.closing(pool.run(action, items, threads)) as found:  # type: ignore[type-var]
            for _, _, error in found:
                if error is not None:
                    raise error

    def _from_here(self) -> list[Wanted]:
        """Take over the unchanged files of another version; return what is still missing."""
        rest = []
        for entry, spot in self._missing:
            path = self._local.get(entry.digest) if entry.digest is not None else None
            if path is None or not self._take(entry, path):
                rest.append((entry, spot))
        return rest

    def _take(self, entry: Entry, path: str) -> bool:
        assert entry.digest is not None
        try:
            if (entry.size or 0) > remote.LARGE:
                self.here[entry.digest] = self._cache.add(
                    path, entry.digest, entry.name, entry.size
                )
            else:
                with open(path, "rb") as file:
                    self._keep(entry, file.read())
        except (OSError, IntegrityError):
            return False  # somebody changed it: then it comes from the repository
        self._tell(entry.name, entry.size or 0)
        return True

    def _piece(self, span: Span) -> None:
        """Bring the files of a piece of a pack."""
        digest, size = self._manifest.packs[span.pack]
        name = remote.pack_name(self._name, digest)
        for left in (1, 0):
            content = self._store.trying(lambda: self._read(name, span, size))
            try:
                self._cut(span, content, name)
                break
            except IntegrityError:
                if not left:
                    raise

    def _read(self, name: str, span: Span, size: int) -> memoryview:
        whole = span.start == 0 and span.stop == size
        wanted = span.stop - span.start
        count = 0
        # one buffer for each thread: new memory for each pack would cost as much as its digests
        if len(getattr(self._buffers, "own", b"")) < wanted:
            self._buffers.own = bytearray(wanted)
        buffer = memoryview(self._buffers.own)[:wanted]
        with self._store.open(name, span.start, None, None if whole else span.stop) as body:
            if body.start != span.start:
                self._pass_over(body, span.start - body.start)
            while part := buffer[count : count + _BLOCK]:
                got = body.readinto(part)
                if not got:
                    break
                count += got
        with self._lock:
            self._moved += count
        if count != wanted:
            address = self._store.address(name)
            raise IncompleteTransferError(
                f"{address}: {count} bytes came of {wanted}",
                url=address,
                expected=wanted,
                actual=count,
            )
        return buffer

    def _pass_over(self, body: Body, count: int) -> None:
        """Read on to where a range begins, from a server that knows no ranges."""
        waste = memoryview(bytearray(_BLOCK))
        while count > 0:
            got = body.readinto(waste[: min(count, _BLOCK)])
            if not got:
                return
            count -= got
            with self._lock:
                self._moved += got

    def _cut(self, span: Span, content: memoryview, name: str) -> None:
        for entry, spot in span.members:
            assert entry.digest is not None
            start = spot.offset - span.start
            part: bytes | memoryview = content[start : start + _stored(entry, spot)]
            if spot.zstd is not None:
                part = self._decoded(part, entry, name)
            self._keep(entry, part, self._store.address(name))
            self._tell(entry.name, entry.size or 0)

    def _decoded(self, part: bytes | memoryview, entry: Entry, name: str) -> bytes:
        address = self._store.address(name)
        found, size = [], 0
        try:
            for block in codecs.decode_blocks([part], "zstd", address):
                size += len(block)
                found.append(bytes(block))
                if size > (entry.size or 0):
                    break  # whatever this is, it shall not fill the memory
        except StoreError as error:
            raise _wrong(entry, address, error.message) from error
        return b"".join(found)

    def _keep(self, entry: Entry, content: bytes | memoryview, source: str = "") -> None:
        """Compare bytes with their digest, and write them."""
        digest, group = entry.digest, self._group
        assert digest is not None
        assert group is not None
        hasher = hashes.new(digest.alg)
        hasher.update(content)
        actual = hasher.hexdigest()
        if actual != digest.hex:
            raise _wrong(entry, source, f"{digest.alg}:{actual}")
        if digest in self._kept:
            return  # at the first try
        path, fd = group.create(digest)
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(fd, left) :]
        except BaseException:
            os.close(fd)
            fs.remove(path)
            raise
        with self._lock:
            group.add(path, fd, digest, entry.name, len(content), False, digest)
            self._kept.add(digest)

    # -- large files ---------------------------------------------------------------------------

    def _alone(self, one: Wanted) -> None:
        """Bring a large file; its bytes so far stay for the next time."""
        entry, spot = one
        assert entry.digest is not None
        name = remote.object_name(self._name, entry.digest, spot.zstd is not None)

        def fill(partial: Partial) -> None:
            before = partial.offset
            if spot.zstd is None:
                self._transfer(entry, name, partial)
            else:
                self._unpack(entry, name, partial)
            with self._lock:
                self._moved += partial.offset - before if spot.zstd is None else spot.zstd

        self.here[entry.digest] = self._cache.obtain(entry.digest, entry.name, entry.size, fill)
        self._tell(entry.name, entry.size or 0)

    def _transfer(self, entry: Entry, name: str, partial: Partial) -> None:
        from ..stores import Source
        from ..transfer.limits import Limits
        from ..transfer.mirrors import first_good
        from ..transfer.one import Transfer

        limits = Limits(
            conf.download_block_size, conf.stall_bytes, conf.stall_seconds, conf.connections
        )
        transfer = Transfer(entry.name, partial, entry.digest, entry.size, limits, self._show)
        first_good(
            entry.name,
            [Source(self._store, name)],
            lambda source: transfer.run(source.store, source.name),
            int(conf.retries),
        )

    def _unpack(self, entry: Entry, name: str, partial: Partial) -> None:
        blocks = codecs.decode_blocks(self._store.blocks(name), "zstd", self._store.address(name))
        assert entry.digest is not None
        with Reading(blocks, entry.size) as source:
            partial.fill(source, entry.digest, entry.name)  # type: ignore[arg-type]


class Reading:
    """Blocks, read as a file; a context manager.

    Parameters
    ----------
    blocks : iterator of bytes-like
        Each is valid until the next one is asked for.
    limit : int, optional
        More bytes than this are too many by one, which a digest will notice, and are not asked for.
    """

    def __init__(self, blocks: Iterator[bytes | memoryview], limit: int | None = None) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")
        self._limit = limit
        #: Bytes read so far.
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most so many; none at the end.

        Parameters
        ----------
        size : int, default -1
            Negative for what is at hand.
        """
        while not self._rest:
            if self._limit is not None and self.count > self._limit:
                return b""
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = memoryview(block if isinstance(block, bytes) else bytes(block))
        size = len(self._rest) if size < 0 else size
        part, self._rest = self._rest[:size], self._rest[size:]
        self.count += len(part)
        return bytes(part)

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()  # a generator; lets go of the connection


def _wrong(entry: Entry, source: str, actual: str) -> IntegrityError:
    return IntegrityError(
        f"wrong bytes for {entry.name!r} from {source}: expected {entry.digest}, found {actual}",
        hint="the repository is damaged; push the dataset again, with --force",
        name=entry.name,
        source=source,
        expected=str(entry.digest),
        actual=actual,
    )


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
    """Make the folder of a dataset of hard links to the cache, else clones, else copies.

    Parameters
    ----------
    here : dict of Digest to str
        Paths in the cache.
    folder : str
        Empty.
    """
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
            # the one in the cache is shared with whoever has it without the right to run it
            fs.copy(here[entry.digest], target)
            os.chmod(target, mode & ~0o222)
            continue
        try:
            os.link(here[entry.digest], target)
        except FileExistsError:
            raise
        except OSError:  # another file system, or too many links
            cache.share(here[entry.digest], target)
