"""``fetch(on=MPI.COMM_WORLD)``: one rank fetches, and MPI passes the bytes on to the other caches.

Caches count, not ranks: the ranks that share one form a group, and the first of each group, its
leader, works for it. The first of all fetches what no cache holds; ``MPI_Bcast`` takes it to the
other caches, and each hashes what it receives. Whatever happens to a rank, it takes part in every
step; at the end all learn what failed anywhere. So nobody waits for a rank that has given up.
"""

from __future__ import annotations

import io
import os
import pickle
import platform
import time
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from ..base import fs, owners
from ..base.progress import Callback
from ..base.report import HostShare, Report, each_name, tried
from ..errors import (
    CacheError,
    ConfigError,
    IntegrityError,
    MissingExtraError,
    PkgdataError,
    UnsupportedOperationError,
)

#: Bytes that go through the network at a time, that a cache takes of them at a time, and of the
#: largest file that shares a block with others.
BLOCK, PIECE, SMALL = 16 << 20, 1 << 20, 4 << 20

#: Longest seconds between two looks whether the others have come.
_LATER = 0.05

#: What a cache has of a file: nothing, a copy elsewhere on this machine that may be read, the file.
_LACKS, _READS, _HAS = 0, 1, 2


def fetch(
    data: Any,
    names: Any,
    on: Any,
    to: str | os.PathLike[str] | None,
    progress: Callback | bool | None,
) -> Report:
    """Make sure that files are in the cache of every rank of a communicator; collective."""
    if on.Is_inter():
        raise UnsupportedOperationError("nothing can be fetched on an intercommunicator of MPI")
    world = on.Dup()  # what the caller sends meanwhile must not meet what is sent here
    report = Report(lambda again: fetch(data, again, on, to, progress))
    work = _together(world, lambda: _Work(data, names))
    if world.allreduce(work.mark, op=min) != world.allreduce(work.mark, op=max):
        raise ConfigError(
            f"the ranks asked for different files of {data.name}",
            hint=f"give all the same names, and install the same version of {data.name} for all",
        )
    caches = _by_cache(world, work.cache)
    leads = caches.rank == 0
    leaders = world.Split(0 if leads else 1, world.rank)
    if leads:
        work.bring(leaders, progress)
    _meet(world)
    failed = world.allreduce(work.failed, op=lambda one, other: {**other, **one})
    found = work.look(failed, to) if leads else None
    # the paths are the same for all who share a cache, which so is asked once
    found = caches.bcast(found)
    failed = world.allreduce(found.failed, op=lambda one, other: {**other, **one})
    report.hosts = world.allreduce(work.hosts, op=_merged)
    report.failed, report.new = failed, found.new
    report.succeeded = {name: path for name, path in found.succeeded.items() if name not in failed}
    for comm in (leaders, caches, world):
        comm.Free()
    report.raise_if_failed(data.name)
    return report


def _together(comm: Any, action: Callable[[], Any]) -> Any:
    """Return what an action returns here; an error of one rank is raised by all."""
    found, error = None, None
    try:
        found = action()
    except Exception as caught:  # whatever it is, the others wait to hear of it
        error = _portable(caught)
    first = comm.allreduce(comm.size if error is None else comm.rank, op=min)
    if first < comm.size:
        raise comm.bcast(error, first)
    return found


def _portable(error: Exception) -> Exception:
    """Return an error, or what can be sent of it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        return error
    except Exception:  # another library's errors may hold anything
        return PkgdataError(f"{type(error).__name__}: {error}")


def _by_cache(world: Any, cache: tuple[object, ...]) -> Any:
    """Return the communicator of those whose cache is the same."""
    # so many as there are ranks of a group, and not of the world, exchange what they know
    rough = world.Split(zlib.crc32(repr(cache).encode()) & 0x7FFFFFFF, world.rank)
    found = rough.allgather(cache)
    exact = rough.Split(found.index(cache), world.rank)
    rough.Free()
    return exact


def _meet(comm: Any) -> None:
    """Wait until all ranks have come here; MPI's own wait would keep a processor busy."""
    request, pause = comm.Ibarrier(), 0.001
    while not request.Test():
        time.sleep(pause)
        pause = min(pause * 1.5, _LATER)


def _merged(one: dict[str, HostShare], other: dict[str, HostShare]) -> dict[str, HostShare]:
    """Return the shares of all machines; several caches of one add up."""
    merged = dict(one)
    for host, share in other.items():
        mine = merged.get(host, HostShare())
        merged[host] = HostShare(
            mine.origin + share.origin,
            mine.peers + share.peers,
            max(mine.seconds, share.seconds),
            mine.files + share.files,
        )
    return merged


class _Work:
    """What one rank does; `bring` is the leaders' part, and collective among them."""

    def __init__(self, data: Any, names: Any) -> None:
        self._data = data
        self._began = time.monotonic()
        # a set has another order in each process
        self._names: list[str] = sorted(
            {*(data.registry if names is None else each_name(names))}, key=str
        )
        known = data.registry
        digests = [known[name].digest for name in self._names if name in known]
        text = "\n".join(map(str, [data.name, *self._names, *digests]))
        #: The same for all who want the same files.
        self.mark = zlib.crc32(text.encode(errors="replace"))
        self._target = data.node_cache or data.cache
        self.cache = _identity(self._target.root)
        self._new: dict[str, int] = {}
        self.failed: dict[str, Exception] = {}
        self.hosts: dict[str, HostShare] = {}

    def bring(self, comm: Any, progress: Callback | bool | None) -> None:
        """Bring the files into the caches of all leaders."""
        share = HostShare()
        plan = self._plan(comm)
        nobody = [name for name, (_, best, _) in plan.items() if best == _LACKS]
        if nobody:
            if comm.rank == 0:
                self._fetch(nobody, progress)
                share.origin = sum(self._new.values())
            _meet(comm)
            plan = self._plan(comm)  # a shared file system has brought it to others, too
        wanted = {n: -first for n, (least, best, first) in plan.items() if least < _HAS and best}
        if wanted:
            mine = {name for name in wanted if self._state(name)[0] < _HAS}
            if not self._first_of_folder(comm, bool(mine)):
                mine = set()
            for source in sorted(set(wanted.values())):
                names = [name for name in wanted if wanted[name] == source]
                self._pass_on(comm, source, names, mine)
            _meet(comm)  # who shares a folder with a receiver finds there what came
        share.peers = sum(self._new.values()) - share.origin
        share.files, share.seconds = len(self._new), time.monotonic() - self._began
        self.hosts[platform.node()] = share

    def look(self, failed: dict[str, Exception], to: str | os.PathLike[str] | None) -> Report:
        """Return the report of what is here now, with the failures of all."""
        good = [name for name in self._names if name not in failed]
        report = self._fetched(good, to, False)
        report.new = {**report.new, **self._new}
        report.failed = {**failed, **report.failed}
        return report

    def _fetch(self, names: list[str], progress: Callback | bool | None) -> None:
        report = self._fetched(names, None, progress)
        self._new.update(report.new)
        self.failed.update(report.failed)

    def _fetched(self, names: list[str], to: Any, progress: Callback | bool | None) -> Report:
        report = Report(lambda again: report)
        try:
            report = tried(self._data.fetch, names, to=to, progress=progress)
            report.failed = {name: _portable(one) for name, one in report.failed.items()}
        except Exception as error:  # whatever it is, the others wait for this rank
            report.failed = dict.fromkeys(names, _portable(error))
        return report

    def _plan(self, comm: Any) -> dict[str, tuple[int, int, int]]:
        """Return by name the least and best that any cache has, and minus the first of the best."""
        found: list[tuple[int, tuple[int, int]]] = []
        for name in self._names:
            state = self._state(name)[0]
            found.append((state, (state, -comm.rank)))
        total = comm.allreduce(
            found,
            op=lambda one, other: [
                (min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True)
            ],
        )
        return {n: (least, *best) for n, (least, best) in zip(self._names, total, strict=True)}

    def _state(self, name: str) -> tuple[int, str]:
        """Return what this cache has of a file, and where."""
        entry = self._data.registry.get(name)
        if entry is not None and entry.digest is None:
            return _HAS, ""  # nobody could tell whether its bytes are right: each fetches its own
        if name in self.failed:
            return _LACKS, ""
        try:
            path = self._data.find(name)
        except Exception as error:  # whatever it is, the others wait for this rank
            self.failed[name] = _portable(error)
            return _LACKS, ""
        if path is None:
            return _LACKS, ""
        # what lies in the user's cache goes to the node's through the network, not from one disk
        user = self._data.cache
        far = user is not self._target and path.startswith(user.root + os.sep)
        return (_READS if far else _HAS), path

    def _first_of_folder(self, comm: Any, wants: bool) -> bool:
        """Return True for one of those whose caches are one folder, on a shared file system.

        They would wait for each other's lock on what they receive together.
        """
        job = comm.bcast(owners.unique())
        text = path = ""
        if wants:
            text, path = self._data._downloads().mark(self._target, f"{job}.link")
        first = comm.allgather(text).index(text) == comm.rank
        try:
            fs.discard(path)
        except OSError:
            pass  # not made, or not here; who cannot write here reports it when it receives
        return wants and first

    def _pass_on(self, comm: Any, source: int, names: list[str], mine: set[str]) -> None:
        """Send files to all leaders, or receive those of them that are `mine`."""
        packs = self._packs(names) if comm.rank == source else None
        while True:
            file, pack = next(packs, (None, None)) if packs else (None, None)
            pack = comm.bcast(pack, source)
            if pack is None:
                return
            stream = _Stream(comm, source, sum(size for _, size in pack), file)
            wanted = mine.intersection(name for name, _ in pack)
            try:
                if wanted and len(pack) == 1:
                    for name in wanted:
                        if keep(self._data, self._data.registry[name], stream):
                            self._new[name] = stream.size
                elif wanted:
                    self._keep_small(pack, wanted, stream)
            except Exception as error:  # the others send and receive on
                self._give_up(wanted, error)
            stream.drain()
            if stream.error is not None:
                self.failed.update({name: stream.error for name, _ in pack})

    def _give_up(self, names: set[str], error: Exception) -> None:
        """Give up what did not come; what a full node's cache lacks is fetched in the end."""
        lacking = {name for name in names if self._state(name)[0] < _HAS}
        for name in lacking:
            self._new.pop(name, None)
        if isinstance(error, OSError) and not isinstance(error, PkgdataError):
            error = self._target.translate(error)
        if self._target is not self._data.cache and isinstance(error, CacheError):
            self._target.give_up(error.message)
        else:
            self.failed.update(dict.fromkeys(lacking, _portable(error)))

    def _packs(self, names: list[str]) -> Iterator[tuple[IO[bytes], list[tuple[str, int]]]]:
        """Yield what is sent at once, with names and sizes: a large file, or many small ones."""
        pack: list[tuple[str, int]] = []
        content = bytearray()
        for name in names:
            try:
                with open(self._state(name)[1], "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    if size > SMALL:
                        yield file, [(name, size)]
                        continue
                    content += file.read()
                    pack.append((name, size))
            except OSError as error:
                self.failed[name] = error
            if len(content) > BLOCK - SMALL:
                yield io.BytesIO(content), pack
                pack, content = [], bytearray()
        if pack:
            yield io.BytesIO(content), pack

    def _keep_small(self, pack: list[tuple[str, int]], wanted: set[str], stream: _Stream) -> None:
        """Take small files into the cache, in a group."""
        content = memoryview(b"".join(iter(lambda: stream.read(PIECE), b"")))
        found: dict[Any, tuple[Any, memoryview]] = {}
        for name, size in pack:
            entry = self._data.registry[name]
            if name in wanted:  # a second of the same bytes is found by its digest later
                found.setdefault(entry.digest, (entry, content[:size]))
            content = content[size:]
        for entry, good in self._data._downloads().keep(self._target, found.values()):
            if good:
                self._new[entry.name] = len(found[entry.digest][1])
            else:
                self.failed[entry.name] = IntegrityError(f"wrong bytes for {entry.name!r} came")


def keep(data: Any, entry: Any, source: Any) -> bool:
    """Take a file's bytes into the nearest cache, verified on the way; False if it is full."""
    node = data.node_cache

    def fill(partial: Any) -> None:
        partial.fill(source, entry.digest, entry.name)

    sync = node is None and data.setting("durability") != "none"
    try:
        (node or data.cache).obtain(entry.digest, entry.name, entry.size, fill, sync=sync)
    except CacheError as error:
        if node is None:
            raise
        node.give_up(error.message)  # the user's cache stands in from now on
        return False
    return True


class _Stream:
    """Bytes on their way from one rank, which has them as a file, to all; some only drain it."""

    def __init__(self, comm: Any, source: int, size: int, file: IO[bytes] | None) -> None:
        self._comm, self._source, self._file = comm, source, file
        self.name = f"rank {source}"
        self.error: Exception | None = None
        #: Bytes in all.
        self.size = self._left = size
        self._buffer = memoryview(bytearray(min(BLOCK, size)))
        self._block = self._buffer[:0]

    def read(self, _: int) -> memoryview:
        """Return the next bytes; none at the end."""
        if not self._block:
            self._block = self._buffer[: min(BLOCK, self._left)]
            if self._block:
                self._next()
        piece, self._block = self._block[:PIECE], self._block[PIECE:]
        return piece

    def _next(self) -> None:
        self._left -= len(self._block)
        if self._file is not None:
            try:
                if self._file.readinto(self._block) != len(self._block):  # type: ignore[attr-defined] # a raw file
                    raise OSError(f"what {self.name} sends has become shorter")
            except OSError as error:
                self.error = error  # the others find that the digest is wrong
        self._comm.Bcast(self._block, self._source)

    def drain(self) -> None:
        """Send or receive what is left."""
        while self.read(PIECE):
            pass


def _identity(root: str) -> tuple[object, ...]:
    """Return what is the same for two cache roots of a machine if they are one folder."""
    below: list[str] = []
    while True:
        try:
            found = os.stat(root)
            return platform.node(), found.st_dev, found.st_ino, *below
        except FileNotFoundError:
            root, name = os.path.split(root)
            below.append(name)


def world() -> Any:
    """Return the communicator of all ranks."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise MissingExtraError(
            f"on='mpi' needs mpi4py: {error}", hint="pip install 'pkgdata-cache[mpi]'"
        ) from None
    return MPI.COMM_WORLD
