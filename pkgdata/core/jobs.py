"""The small files of a batch on their way through bulk, and the order in which they go.

`Any` stands for `pkgdata.core.batch.Batch`, whose module imports this one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from ..base import fs, hashes
from ..base.progress import START, WAIT
from ..cache import partial
from ..cache.stamps import key_of
from .registry import Entry


class SmallFile:
    """One small file on its way through bulk into a group."""

    __slots__ = (
        *("_batch", "_count", "_fd", "_hasher"),
        *("began", "digest", "entry", "path", "size", "target"),
    )

    def __init__(self, batch: Any, entry: Entry, target: str) -> None:
        assert entry.digest is not None  # others are fetched alone
        self._batch = batch
        self.entry = entry
        self.digest = entry.digest
        self.target = target
        self.path = ""
        self.size = 0
        self._fd = -1
        self._count = 0
        self._hasher: hashes.Hasher | None = None

    def begin(self, size: int) -> bool:
        """Open a file for so many bytes; return False if it is no such file after all."""
        if size > self._batch.largest or self.entry.size not in (None, size):
            return False
        self.size = size
        self.path, self._fd = self._batch.group.create(self.digest)
        self._hasher = hashes.new(self.digest.alg)
        self._count, self.began = 0, time.monotonic()
        self._batch.tell(self, START, 0)
        return True

    def feed(self, view: memoryview) -> None:
        """Hash bytes and write them."""
        assert self._hasher is not None
        self._hasher.update(view)
        self._count += len(view)
        while view:
            view = view[os.write(self._fd, view) :]

    def finish(self) -> bool:
        """Return True if the bytes are right."""
        hasher = self._hasher
        assert hasher is not None
        return self._count == self.size and hasher.hexdigest() == self.digest.hex

    def keep(self) -> None:
        """Hand the file over to the group."""
        entry, fd, self._fd = self.entry, self._fd, -1
        self._batch.group.add(
            self.path, fd, self.digest, entry.name, self.size, entry.size is None, self
        )

    def adopt(self, path: str) -> bool:
        """Return True if a file holds the right bytes, which are copied and verified on the way."""
        try:
            with os.fdopen(fs.open_plain(path, os.O_RDONLY), "rb") as file:
                if not self.begin(os.fstat(file.fileno()).st_size):
                    return False
                self.feed(memoryview(file.read()))
        except OSError:
            self.abandon()  # removed by another process, or not readable
            return False
        good = self.finish()
        if not good:
            self.abandon()
        return good

    def abandon(self) -> None:
        """Remove what was written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            fs.remove(self.path)


class Queue:
    """The jobs of bulk; what others are fetching is put off, what the dead left is taken over."""

    def __init__(self, batch: Any, jobs: Iterable[SmallFile], folder: str) -> None:
        self._batch = batch
        self._jobs = deque(sorted(jobs, key=lambda job: job.digest.hex[:2]))
        self._lock = threading.Lock()
        #: What other batches have claimed when its turn came, and what is fetched without a claim.
        self.left: list[SmallFile] = []
        self.alone: list[SmallFile] = []
        # single fetches of others take no claims; their files tell
        self._dead, self._busy = partial.standing(folder)

    def __len__(self) -> int:
        return len(self._jobs)

    def popleft(self) -> SmallFile:
        """Return the next one that is to be asked for; IndexError if there is none."""
        with self._lock:
            while True:
                job = self._jobs.popleft()
                state = self._batch.claim(job.entry)
                if state == WAIT:
                    self.left.append(job)
                elif state == START and key_of(job.digest) in self._busy:
                    self.alone.append(job)
                elif state == START and not self._adopt(job):
                    return job

    def appendleft(self, job: SmallFile) -> None:
        """Take one back that was not brought."""
        self._jobs.appendleft(job)

    def _adopt(self, job: SmallFile) -> bool:
        """Take the bytes that a dead process left, if they are whole."""
        if not any(map(job.adopt, self._dead.get(key_of(job.digest), ()))):
            return False
        self._batch.done(job)
        return True
