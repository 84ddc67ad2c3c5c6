"""The files of one package on one Dask worker: what it brings here, and what others read of it.

Bytes pass from worker to worker along Dask's own connections, in blocks, while the sender may still
receive the file. One worker has no other before it in the order that all of them know: it asks the
mirrors. Every other one reads from the worker above it in a tree over that order, and every one
verifies what it gets. A worker that finds those above it dead moves up in the tree; the first that
is left takes over the download. Each reads only from workers before it in the order, so that no two
wait for each other.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ..base import fs, hashes
from ..base.progress import BYTES, DONE, FAILED, HIT, START, WAIT, Event
from ..base.report import HostShare, each_name, tried
from ..errors import CacheError, IntegrityError, PkgdataError
from .peers import ANSWER, GRACE, Assembly, Lost, Peers, Refused, piece

Order = Sequence[str] | Callable[[], Awaitable[Sequence[str]]]

#: Bytes of one answer, and files in one question for small ones: of so many bytes each at most.
BLOCK, WANTS, SMALL = 8 << 20, 1000, 1 << 20
#: Workers that read from one. More would wait for its network, fewer make the tree deeper.
FAN = 2
#: Files of more than `SMALL` bytes that one worker reads at a time.
STREAMS = 4
#: Less than so many bytes are passed on only after so many seconds.
LEAST, SOON = 1 << 20, 0.1
#: Times that wrong bytes of a file are read before the mirrors are asked.
TRIES = 3


class Found(NamedTuple):
    """What is there of a cache: bytes of complete files, of others; a bit for each missing file."""

    here: int
    begun: int
    missing: int
    offline: bool
    registry: str


class Share:
    """The files of a package that one worker is to have. ``token`` names the job to others."""

    def __init__(self, worker: Any, token: str, data: Any, names: Any) -> None:
        self.worker = worker
        self.token = token
        self.data = data
        self.host = socket.gethostname()
        self.entries: dict[str, Any] = {}
        #: What no digest pins, or what the package ships: each machine gets it by itself.
        self.others: list[Any] = []
        for name in dict.fromkeys(data.registry if names is None else each_name(names)):
            entry = data.registry.get(name)
            if entry is None or entry.digest is None:
                self.others.append(name)
            else:
                self.entries[name] = entry
        self.missing: list[Any] = []
        #: Of this machine; and what the mirrors refused, which is no use asking for elsewhere.
        self.failed: dict[str, Exception] = {}
        self.refused: set[str] = set()
        self.state, self.stopped = "new", False
        self.came = HostShare()
        self._mark = ""
        self._paths: dict[str, str] = {}
        self._here, self._source = 0, ""
        self._lock = threading.Lock()
        #: Workers that have ended without what is missing here; and since when one does not answer.
        self.useless: set[str] = set()
        self.silent: dict[str, float] = {}
        self._began = time.monotonic()

    @property
    def cache(self) -> Any:
        """Where files are brought to."""
        return self.data.node_cache or self.data.cache

    def mark(self) -> str:
        """Return what those who share a cache have in common."""
        text: str
        text, self._mark = self.data._downloads().mark(self.cache, f"{self.token}.link")
        return text

    def forget(self) -> None:
        """Remove that mark, and stop what still goes on."""
        self.stopped = True
        try:
            fs.remove(self._mark)
        except OSError:
            pass  # those of programs that have ended are swept away

    def registry(self) -> str:
        """Return a text that is the same where the same files are wanted."""
        lines = [f"{entry.digest} {name}" for name, entry in self.entries.items()]
        return str(hashes.hash_blocks(("\n".join(lines).encode(errors="surrogatepass"),)))

    def found(self) -> Found:
        """Look what is there."""
        missing = {entry.name: entry for entry in self.look()}
        digests = {entry.digest for entry in missing.values()}
        begun = sum(
            end - start for _, there in self._growing(digests).values() for start, end in there
        )
        bits = sum(1 << n for n, name in enumerate(self.entries) if name in missing)
        self._here = sum(one.size or 0 for name, one in self.entries.items() if name not in missing)
        return Found(self._here, begun, bits, self.data._settings.is_offline, self.registry())

    def _growing(self, digests: set[Any]) -> dict[Any, tuple[str, list[tuple[int, int]]]]:
        """Return which files of some digests grow here, and which intervals of each are there."""
        # what the mirrors send goes through the user's cache into the node's
        growing = self.data._downloads().growing
        return {**growing(self.data.cache, digests), **growing(self.cache, digests)}

    def progress(self) -> tuple[int, int, str]:
        """Return bytes that are here, bytes in all, and whom they come from."""
        total = sum(entry.size or 0 for entry in self.entries.values())
        return self._here + self.came.origin + self.came.peers, total, self._source

    def paths(self) -> dict[str, str]:
        """Return where the files are."""
        if not self._paths:
            names = [*self.entries, *self.others]
            found = [(name, self.data.find(name)) for name in names if name not in self.failed]
            self._paths = {name: path for name, path in found if path is not None}
        return self._paths

    def look(self) -> list[Any]:
        """Note and return which files are missing and not given up."""
        given_up = self.refused.union(self.failed)
        self.missing = [
            entry
            for name, entry in self.entries.items()
            if name not in given_up and self.data.find(name) is None
        ]
        return self.missing

    # -- what others read ------------------------------------------------------------------

    async def read(self, wants: Sequence[tuple[str, Any]], wait: bool) -> Any:
        """Answer another worker: whole small files, or a block that fills a gap of a file."""
        from distributed.protocol import to_serialize

        loop, began, pause = asyncio.get_running_loop(), time.monotonic(), 0.01
        while True:
            took = time.monotonic() - began
            least = LEAST if took < SOON else 1
            parts, content = await loop.run_in_executor(None, self._read, wants, least)
            refused = [number for number, (name, _) in enumerate(wants) if name in self.refused]
            works = self.state != "ended"
            if parts or refused or not (wait and works) or took > ANSWER:
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.1)
        answer = {"parts": parts, "refused": refused, "works": works, "new": self.state == "new"}
        return {**answer, "content": to_serialize(memoryview(content))}

    def _read(
        self, wants: Sequence[tuple[str, Any]], least: int
    ) -> tuple[list[tuple[int, int, int, int | None]], bytes]:
        """Return (number of the want, offset, bytes, bytes in all if known) of each, and the bytes.

        A block of less than `least` bytes is not worth its way yet, unless it is the end of a gap.
        """
        blocks: list[bytes] = []
        room = BLOCK
        parts: list[tuple[int, int, int, int | None]] = []
        for number, gaps, path, there, total, opener in self._found(wants):
            start, end = piece(gaps, there, BLOCK, total, least) if gaps else (0, total or 0)
            if start < 0:
                continue
            if parts and end - start > room:
                break
            try:
                with open(path, "rb", buffering=0, opener=opener) as file:
                    file.seek(start)
                    data = file.read(end - start)
            except OSError:
                continue  # it got its name a moment ago, or was removed
            if len(data) == end - start:
                blocks.append(data)
                room -= len(data)
                parts.append((number, start, len(data), total))
        return parts, blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def _found(
        self, wants: Sequence[tuple[str, Any]]
    ) -> Iterator[tuple[int, Any, str, list[tuple[int, int]], int | None, Any]]:
        """Yield what is here: number, gaps, path, which intervals, bytes in all, opener."""
        growing: dict[Any, tuple[str, list[tuple[int, int]]]] | None = None
        for number, (name, gaps) in enumerate(wants):
            entry = self.entries.get(name)
            if entry is None:
                continue
            path = self.data.find(name)
            if path is not None:
                size = os.stat(path).st_size
                yield number, gaps, path, [(0, size)], size, None
                continue
            if growing is None:
                digests = {self.entries[one].digest for one, _ in wants if one in self.entries}
                growing = self._growing(digests)
            path, there = growing.get(entry.digest, ("", []))
            # a small file is passed on as a whole, and before its group gets names
            if path and (gaps or there == [(0, entry.size)]):
                yield number, gaps, path, there, entry.size, fs.plain

    # -- what it brings here ---------------------------------------------------------------

    async def bring(
        self, order: Order, holders: Sequence[tuple[str, Sequence[str]]] = (), to: Any = None
    ) -> None:
        """Bring everything here. `order` has the workers; the first may ask the mirrors.

        It asks the ``holders`` first, each for the names that it has.
        """
        loop = asyncio.get_running_loop()
        pool = ThreadPoolExecutor(2, "pkgdata-share")
        self.state, self._began = "working", time.monotonic()
        count = 0
        try:
            count = len(await loop.run_in_executor(pool, self.look))
            while self.missing and not self.stopped:
                above = await self._above(order)
                try:
                    if above:
                        peers = Peers(self, loop, above)
                        await loop.run_in_executor(pool, self._from_peers, peers, self.missing)
                    else:
                        await self._as_first(loop, pool, holders)
                except Lost:
                    await asyncio.sleep(0.3)  # the scheduler is about to miss who has died
                await loop.run_in_executor(pool, self.look)
            # the node's cache gets what was found in a slower one
            wanted = self.others or to is not None or self.data.node_cache is not None
            if wanted and not self.stopped:
                await loop.run_in_executor(pool, self.by_itself, to)
        finally:
            pool.shutdown(wait=False)
            self.state = "ended"
            given_up = self.refused.union(self.failed).intersection(self.entries)
            self.came.files = count - len(self.missing) - len(given_up)
            self.came.seconds = time.monotonic() - self._began

    async def _above(self, order: Order) -> list[str]:
        """Return the workers to read from: the next one up in the tree, then those above it."""
        known = await order() if callable(order) else order
        before = list(known[: known.index(self.worker.address)])
        if before:
            late = time.monotonic() - GRACE
            given_up = self.useless.union(one for one, since in self.silent.items() if since < late)
            alive = set(await self.worker.scheduler.ncores())
            given_up |= self.silent.keys() - alive
            before = [one for one in before if one not in given_up]
        found, at = [], len(before)
        while at > 0:
            at = (at - 1) // FAN
            found.append(before[at])
        return found

    async def _as_first(
        self, loop: Any, pool: ThreadPoolExecutor, holders: Sequence[tuple[str, Sequence[str]]]
    ) -> None:
        """Bring what is missing from workers that have it, the rest from the mirrors."""
        for address, names in holders:
            held = set(names)
            entries = [entry for entry in self.missing if entry.name in held]
            peers = Peers(self, loop, [address], wait=False)
            try:
                await loop.run_in_executor(pool, self._from_peers, peers, entries)
            except Lost:
                pass  # the next one, or the mirrors
        await loop.run_in_executor(pool, self.look)
        await loop.run_in_executor(pool, self._from_mirrors, [one.name for one in self.missing])

    def _from_mirrors(self, names: list[str]) -> None:
        if names:
            report = tried(self.data.fetch, names, progress=self._watch())
            self.failed.update(report.failed)
            for name, why in report.failed.items():
                if not isinstance(why, CacheError):
                    self.refused.add(name)

    def by_itself(self, to: Any = None, entries: bool = False) -> None:
        """Get what nobody else can give, and copy everything to a folder if that is wanted."""
        names = [*self.others]
        if entries or to is not None or self.data.node_cache is not None:
            given_up = self.refused.union(self.failed)
            names += [name for name in self.entries if name not in given_up]
        report = tried(self.data.fetch, names, to=to, progress=self._watch())
        self.failed.update(report.failed)
        if to is not None:
            self._paths = report.succeeded

    def _watch(self) -> Callable[[Event], None]:
        """Return a callback that counts the bytes that come from mirrors."""
        done: dict[str, int] = {}

        def show(event: Event) -> None:
            if self.stopped:
                raise PkgdataError("the caller has gone")
            with self._lock:
                if event.state == START:
                    done[event.name] = event.done
                elif event.state in (BYTES, DONE) and event.name in done:
                    self.came.origin += max(0, event.done - done[event.name])
                    done[event.name] = event.done
                    self._source = event.source or self._source
                elif event.state in (FAILED, HIT, WAIT):
                    done.pop(event.name, None)

        return show

    def _from_peers(self, peers: Peers, entries: list[Any]) -> None:
        """Read files from other workers; `Lost` if they cannot give all of them."""
        small: list[Any] = []
        large: list[Any] = []
        seen = set()
        for entry in entries:
            # the same bytes under another name are copied once they are here
            is_small = entry.size is not None and entry.size <= SMALL and entry.digest not in seen
            seen.add(entry.digest)
            (small if is_small else large).append(entry)
        large.sort(key=lambda entry: -(entry.size or 0))
        small.sort(key=lambda entry: entry.digest.hex)  # the order in which a batch brings them
        work: list[tuple[Any, Any]] = [(self._read_one, entry) for entry in large]
        if small:
            work.insert(0, (self._read_small, small))
        with ThreadPoolExecutor(STREAMS, "pkgdata-read") as readers:
            asked = [readers.submit(function, peers, what) for function, what in work]
        for future in asked:
            future.result()

    def _read_one(self, peers: Peers, entry: Any) -> None:
        """Read one file, block by block."""
        cache, sync = self.cache, self.data.setting("durability") != "none"

        def fill(target: Any) -> None:
            Assembly(target, entry, peers).run()

        try:
            for _ in range(TRIES):
                try:
                    cache.obtain(entry.digest, entry.name, entry.size, fill, None, sync)
                    return
                except IntegrityError:
                    time.sleep(0.5)  # the sender of wrong bytes has seen it and begins again
            self._from_mirrors([entry.name])
        except Refused:
            pass
        except (PkgdataError, OSError) as error:
            self._give_up(cache, [entry], error)

    def _give_up(self, cache: Any, entries: list[Any], error: Exception) -> None:
        """Give up what did not come; after the node's cache that is full comes the user's."""
        if cache is not self.data.cache and isinstance(error, CacheError):
            cache.give_up(error.message)
            return
        missing = {entry.name for entry in self.look()}
        self.failed.update((one.name, error) for one in entries if one.name in missing)

    def _read_small(self, peers: Peers, entries: list[Any]) -> None:
        """Read many small files, as many as one answer holds at a time."""
        cache, pending = self.cache, {entry.name: entry for entry in entries}

        def contents() -> Iterator[tuple[Any, memoryview]]:
            while pending:
                names = list(pending)[:WANTS]
                answer, at = peers.result(peers.submit([(name, None) for name in names])), 0
                for number, _, count, _ in answer["parts"]:
                    yield pending.pop(names[number]), answer["content"][at : at + count]
                    at += count
                for number in answer["refused"]:
                    self.refused.add(names[number])
                    pending.pop(names[number], None)

        tries: dict[str, int] = {}
        try:
            for entry, good in self.data._downloads().keep(cache, contents()):
                if not good:
                    tries[entry.name] = tries.get(entry.name, 0) + 1
                    if tries[entry.name] < TRIES:
                        pending[entry.name] = entry
            wrong = [name for name, count in tries.items() if count >= TRIES]
            self._from_mirrors(wrong)
        except OSError as error:
            self._give_up(cache, entries, cache.translate(error))
        except PkgdataError as error:
            self._give_up(cache, entries, error)

    def received(self, count: int, address: str) -> None:
        """Count bytes from another worker."""
        with self._lock:
            self.came.peers += count
            self._source = address
