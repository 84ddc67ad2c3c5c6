"""The workers that a Dask worker reads from, and a file that is put together of their blocks."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from ..base import fs, hashes

Intervals = Sequence[tuple[int, int]]

#: Seconds in which a worker answers, if only that it has nothing new; that it may take to begin;
#: and that one which gives no answer is waited for while the scheduler takes it for alive.
ANSWER, PATIENCE, GRACE = 1.0, 60.0, 15.0
#: Bytes that are read back at once, to be hashed; and how many gaps of a file others are told.
_BACK, _GAPS = 1 << 20, 16


class Lost(Exception):
    """No worker gives what is missing; those above are dead, or could not get it."""


class Refused(Exception):
    """The mirrors have refused a file to the worker that asked them."""


class Peers:
    """The workers that one reads from, in order; what is asked is asked from its threads."""

    def __init__(self, share: Any, loop: Any, addresses: list[str], wait: bool = True) -> None:
        self.share = share
        self._loop = loop
        self._addresses = addresses
        self._wait = wait
        self._gone: set[str] = set()
        self._began = time.monotonic()

    def submit(self, wants: list[tuple[str, Any]]) -> Any:
        """Ask; return a future of the answer."""
        return asyncio.run_coroutine_threadsafe(self._ask(wants), self._loop)

    def result(self, future: Any) -> Any:
        """Return an answer that has something; `Lost` if no worker has."""
        while not futures.wait([future], ANSWER).done:
            if not self._loop.is_running():
                raise Lost  # this worker is closed
        return future.result()

    async def _ask(self, wants: list[tuple[str, Any]]) -> Any:
        while True:
            for address in self._addresses:
                if address in self._gone:
                    continue
                answer = await self._call(address, wants)
                if answer and (answer["parts"] or answer["refused"]):
                    self.share.received(len(answer["content"]), address)
                    return answer
                late = time.monotonic() - self._began > PATIENCE
                if answer and self._wait and answer["works"] and not (late and answer["new"]):
                    break  # it is asked again
                self._gone.add(address)
                if answer is not None and self._wait:
                    self.share.useless.add(address)
            else:
                raise Lost

    async def _call(self, address: str, wants: list[tuple[str, Any]]) -> Any:
        """Return an answer; nothing if that worker does not know of the job, None without one."""
        share = self.share
        question = {"token": share.token, "wants": wants, "wait": self._wait}
        peer = share.worker.rpc(address)
        try:
            answer = await asyncio.wait_for(peer.pkgdata_read(**question), GRACE)
        except (OSError, asyncio.TimeoutError):
            share.silent.setdefault(address, time.monotonic())
            return None
        share.silent.pop(address, None)
        return answer or {}


def piece(
    gaps: Sequence[tuple[int, int | None]],
    there: Intervals,
    most: int,
    total: int | None,
    least: int,
) -> tuple[int, int]:
    """Return the first interval that fills a gap; (-1, -1) if none does, or if it is too small.

    A gap without end ends with the file, of `total` bytes if it is complete or its size known.
    """
    for start, end in gaps:
        for front, back in there:
            low, high = max(start, front), back if end is None else min(end, back)
            high = min(high, low + most)
            if high - low >= least or (low < high and high in (end, total)):
                return low, high
            if low == high == total:
                return low, high  # it is empty, or complete without the other's knowing
    return -1, -1


def merged(there: Intervals, start: int, end: int) -> list[tuple[int, int]]:
    """Return intervals in order, none of which touch, with one more."""
    found = [(0, 0)]
    for low, high in sorted([*there, (start, end)]):
        if low <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found


class Assembly:
    """A file that comes in blocks of any order; others may read it meanwhile by its record.

    `target` is the cache's unfinished file; what an earlier attempt left in it is kept.
    """

    def __init__(self, target: Any, entry: Any, peers: Peers) -> None:
        self._target = target
        self._entry = entry
        self._peers = peers
        self._size: int | None = entry.size
        #: What is on disk, or has come and is being written.
        self._there = merged(target.later, 0, target.offset)
        self._hasher = hashes.new(entry.digest.alg)
        self._hashed = 0
        #: Whether there is a record of what is there; without one it is all before the end.
        self._recorded = bool(target.later)

    def run(self) -> None:
        """Fill the file; `IntegrityError` if it ends with wrong bytes, which are dropped."""
        self._hash_back()
        asked = self._ask()
        while asked is not None:
            answer = self._peers.result(asked)
            if answer["refused"]:
                self._peers.share.refused.add(self._entry.name)
                raise Refused
            _, start, count, total = answer["parts"][0]
            self._size = total if self._size is None else self._size
            self._there = merged(self._there, start, start + count)
            asked = self._ask()  # it comes while these bytes are written and hashed
            self._write(start, memoryview(answer["content"]))
        self._end()

    def _ask(self) -> Any:
        """Ask for what is missing; None if nothing is."""
        ends = [end for _, end in self._there]
        starts = [*(start for start, _ in self._there[1:]), self._size]
        gaps = [pair for pair in zip(ends, starts, strict=True) if pair[0] != pair[1]]
        return self._peers.submit([(self._entry.name, gaps[:_GAPS])]) if gaps else None

    def _write(self, start: int, block: memoryview) -> None:
        target = self._target
        if start > target.offset and not self._recorded:
            target.record(target.offset, [])  # else all before the end would be taken for there
            self._recorded = True
        os.lseek(target.fd, start, os.SEEK_SET)
        fs.write_all(target.fd, block)
        if start == self._hashed:
            self._hasher.update(block)
            self._hashed += len(block)
        (_, target.offset), *target.later = merged(
            [(0, target.offset), *target.later], start, start + len(block)
        )
        if self._recorded:
            target.record(target.offset, target.later)
        self._hash_back()

    def _hash_back(self) -> None:
        """Hash from the file what came before its turn."""
        os.lseek(self._target.fd, self._hashed, os.SEEK_SET)
        while self._hashed < self._target.offset:
            block = os.read(self._target.fd, min(_BACK, self._target.offset - self._hashed))
            if not block:
                return  # it is shorter than it was, so that the digest is wrong
            self._hasher.update(block)
            self._hashed += len(block)

    def _end(self) -> None:
        target, entry = self._target, self._entry
        os.ftruncate(target.fd, target.offset)  # an earlier attempt may have left more
        found = hashes.Digest(entry.digest.alg, self._hasher.hexdigest())
        if found != entry.digest:
            target.restart()
            what = f"wrong bytes for {entry.name!r} from other workers"
            raise hashes.mismatch(what, entry.digest, found, name=entry.name)
