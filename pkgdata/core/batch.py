"""Many files at once: a plan, one pool of connections, and a report.

Small files of a plain web server go through `pkgdata.transfer.sockets`, many connections in one
thread, and into the cache as a `Group`. Everything else, and whatever bulk refuses, is fetched as a
single file would be, several at once, the largest first. Nothing stops because one file fails.

Two batches in two processes share the work: the name of an unfinished file tells what its owner is
bringing in, so the other leaves that file for last, and finds it in the cache then.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque

from ..base import fs, hashes, owners
from ..base.progress import DONE, HIT, START, Event, silent
from ..cache.group import Group
from ..cache.objects import PARTIAL, key_of
from ..cache.partial import owner_of
from ..errors import PkgdataError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from ..base.hashes import Hasher
    from ..base.progress import Callback
    from ..base.report import Report
    from ..cache.objects import Cache
    from ..transfer.sockets import Server
    from .registry import Entry

    T = TypeVar("T")

#: A file of more bytes is fetched alone, so that it can be resumed and split into ranges.
SMALL = 8 << 20
#: Files that are fetched alone at the same time; each may use several connections.
ALONE = 4
#: Fewer small files are fetched alone, each under its lock: there a second of the same batch in
#: another process would find nothing left to share.
FEW = 32
#: Objects after which bulk looks whether other processes have brought in what is still to do.
_LOOK_EVERY = 256
#: From this mean size on, hashing and writing are worth a second thread.
_SECOND_THREAD = 1 << 17
#: Files of this computer that a thread copies in so many seconds, and how often it must fall short
#: of that to be worth another one.
_PER_LOOK, _LOOK, _SLOW_LOOKS = 5, 0.05, 2


class _Job:
    """One small file on its way through bulk into a group."""

    __slots__ = ("_batch", "_count", "_fd", "_hasher", "entry", "path", "size", "target")

    def __init__(self, batch: Batch, entry: Entry, target: str) -> None:
        self._batch = batch
        self.entry = entry
        self.target = target
        self.path = ""
        self.size = 0
        self._fd = -1
        self._count = 0
        self._hasher: Hasher | None = None

    def begin(self, size: int) -> bool:
        """Take note of the length; False refuses the object."""
        digest, expected = self.entry.digest, self.entry.size
        if digest is None or size > SMALL or (expected is not None and size != expected):
            return False
        self.size = size
        self.path, self._fd = self._batch.group.create(digest)
        self._hasher = hashes.new(digest.alg)
        self._count = 0
        self._batch.tell(self, START, 0)
        return True

    def feed(self, view: memoryview) -> None:
        """Take bytes."""
        assert self._hasher is not None
        self._hasher.update(view)
        self._count += len(view)
        while view:
            view = view[os.write(self._fd, view) :]

    def finish(self) -> bool:
        """Say whether the bytes are right."""
        digest, hasher = self.entry.digest, self._hasher
        if hasher is None or digest is None or self._count != self.size:
            return False
        return hasher.hexdigest() == digest.hex

    def keep(self) -> None:
        """Hand the file over to the group."""
        entry, fd, self._fd = self.entry, self._fd, -1
        assert entry.digest is not None
        self._batch.group.add(
            self.path, fd, entry.digest, entry.name, self.size, entry.size is None, self
        )

    def abandon(self) -> None:
        """Forget what came."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            fs.remove(self.path)


class _Queue:
    """The jobs of bulk; passes over what another process is bringing in."""

    def __init__(self, batch: Batch, jobs: Iterable[_Job], folder: str) -> None:
        self._batch = batch
        self._jobs = deque(jobs)
        self._folder = folder
        self._until_look = 0
        self._shuffled = False
        self._others: set[str] = set()
        self._lock = threading.Lock()
        #: What others were bringing in when its turn came.
        self.left: list[_Job] = []
        self._look()
        self._until_look = FEW // 4  # who started with us shows soon

    def __len__(self) -> int:
        return len(self._jobs)

    def _look(self) -> None:
        me = f".{owners.token()}-"
        self._others.clear()
        gone: dict[str, bool] = {}
        for name in os.listdir(self._folder):
            if me in name:
                continue  # ours, and there may be a thousand
            owner = owner_of(name)
            if owner is None:
                continue
            if owner not in gone:
                gone[owner] = owners.is_gone(owner)
            if not gone[owner]:
                self._others.add(name.partition(".")[0])
        # towards the end two processes meet more often
        self._until_look = max(1, min(_LOOK_EVERY, len(self._jobs) // 8))
        if self._others and not self._shuffled:
            # in the order of the other one we would run after it, or side by side, for ever
            import random

            random.shuffle(self._jobs)
            self._shuffled = True

    def popleft(self) -> _Job:
        """Return the next job; IndexError if there is none."""
        with self._lock:
            while True:
                job = self._jobs.popleft()
                self._until_look -= 1
                if self._until_look <= 0:
                    self._look()
                if self._batch.is_here(job.entry):
                    # another process brought it, and may have ended since
                    job.size = job.entry.size or 0
                    self._batch.succeed(job.entry)
                    self._batch.tell(job, HIT, job.size)
                elif self._batch.key(job.entry) in self._others:
                    self.left.append(job)
                else:
                    return job

    def appendleft(self, job: _Job) -> None:
        """Put a job back."""
        self._jobs.appendleft(job)


class Batch:
    """Fetch files of one package.

    Parameters
    ----------
    entries : list of Entry
        None of them is here.
    report : Report
        Filled with what became of each.
    one : callable
        Fetches one entry alone and returns its path; called with the entry and whether passing
        failures are worth further rounds.
    route : callable
        Called with an entry and the number of a mirror; returns (server key, request target) if
        bulk may take it on, else None.
    near : callable
        Called with an entry; says whether it lies on this computer, most likely.
    server : callable
        Makes the `Server` of a server key.
    connections : int
        To one server at once.
    timeout : float
        Seconds to connect, and between bytes.
    durability : str
        See `Group`.
    show : callable
        Progress.
    """

    def __init__(
        self,
        entries: list[Entry],
        cache: Cache,
        report: Report,
        one: Callable[[Entry, bool], str],
        route: Callable[[Entry, int], tuple[tuple[str, str, int], str] | None],
        near: Callable[[Entry], bool],
        server: Callable[[tuple[str, str, int]], Server],
        connections: int,
        timeout: float,
        durability: str,
        show: Callback,
    ) -> None:
        self._entries = entries
        self._cache = cache
        self._report = report
        self._one = one
        self._route = route
        self._near = near
        self._server = server
        self._connections = connections
        self._timeout = timeout
        self._durability = durability
        self._show = show
        self._lock = threading.Lock()
        #: Of the server that bulk asks now.
        self.url = ""
        #: Set to end everything early.
        self.stopped = threading.Event()

    # -- one file --------------------------------------------------------------------------

    def key(self, entry: Entry) -> str:
        """Return the name under which others see that an entry is being brought in."""
        return key_of(entry.digest) if entry.digest else ""

    def pause(self, seconds: float) -> None:
        """Wait between two rounds of a file, or end when the batch does.

        Raises
        ------
        KeyboardInterrupt
            The batch was stopped.
        """
        if self.stopped.wait(seconds):
            raise KeyboardInterrupt

    def tell(self, job: _Job, state: str, done: int) -> None:
        """Report progress of bulk.

        Parameters
        ----------
        done : int
            Bytes.
        """
        if self._show is not silent:
            self._show(Event(job.entry.name, state, done, job.size, self.url))

    def is_here(self, entry: Entry) -> bool:
        """Say whether an entry has come into the cache."""
        digest = entry.digest
        return digest is not None and bool(self._cache.find(digest, entry.name, entry.size))

    def succeed(self, entry: Entry, path: str | None = None) -> None:
        """Put an entry into the report.

        Parameters
        ----------
        path : str, optional
            Where it is; its place in the cache by default.
        """
        assert path is not None or entry.digest is not None
        if path is None and entry.digest is not None:
            path = self._cache.path(entry.digest, entry.name)
        self._report.succeeded[entry.name] = path or ""

    def _alone(self, entry: Entry) -> None:
        if self.stopped.is_set():
            return
        # when one after another has failed, the rest is not worth waiting for
        patient = len(self._report.failed) < max(10, len(self._entries) // 20)
        try:
            self.succeed(entry, self._one(entry, patient))
        except (PkgdataError, OSError) as error:
            with self._lock:
                self._report.failed[entry.name] = error

    def _in_turn(self, entries: deque[Entry]) -> None:
        while entries:
            try:
                entry = entries.popleft()
            except IndexError:
                return  # another thread was faster
            self._alone(entry)

    def _add_turns(self, pool: _Pool, entries: deque[Entry]) -> None:
        """Let one thread copy small files of this computer, and more while that is slow.

        More than are needed would only get in each other's way; but a network's disk takes its
        time, and so does a file that another process holds.
        """
        if not entries:
            return
        pool.add(self._in_turn, [entries])
        turns, slow, left = 1, 0, len(entries)
        while entries and turns < ALONE - 1 and not self.stopped.wait(_LOOK):
            slow = slow + 1 if left - len(entries) < _PER_LOOK * turns else 0
            if slow == _SLOW_LOOKS:
                pool.add(self._in_turn, [entries])
                turns, slow = turns + 1, 0
            left = len(entries)

    # -- the whole -------------------------------------------------------------------------

    def run(self) -> None:
        """Fetch everything; errors go into the report.

        Raises
        ------
        KeyboardInterrupt
            Transfers in flight are cut; what they brought stays for the next time.
        """
        first: list[Entry] = []
        again: list[Entry] = []
        seen: set[object] = set()
        for entry in self._entries:
            # the same bytes under another name come from the cache once they are there
            (again if entry.digest in seen else first).append(entry)
            if entry.digest is not None:
                seen.add(entry.digest)
        small = [e for e in first if e.digest is not None and (e.size or 0) <= SMALL]
        large = [e for e in first if e.digest is None or (e.size or 0) > SMALL]
        pool = _Pool(ALONE)
        large.sort(key=lambda entry: -(entry.size or 0))
        try:
            pool.add(self._alone, large)
            rest = self._over_mirrors(small)
            pool.add(self._alone, [entry for entry in rest if not self._near(entry)])
            near = deque(entry for entry in rest if self._near(entry))
            pool.add(functools.partial(self._add_turns, pool), [near])
            pool.wait()
            pool.add(self._alone, again)
            pool.wait()
        except BaseException:
            self.stopped.set()
            pool.cancel()
            raise

    def _over_mirrors(self, entries: list[Entry]) -> list[Entry]:
        """Bring in what is plain from one mirror after the other; return what is left."""
        turn, alone = 0, []
        while len(entries) >= FEW and not self.stopped.is_set():
            by_server: dict[tuple[str, str, int], list[_Job]] = {}
            for entry in entries:
                route = self._route(entry, turn)
                if route is None:
                    alone.append(entry)
                else:
                    by_server.setdefault(route[0], []).append(_Job(self, entry, route[1]))
            entries = []
            for key, jobs in by_server.items():
                if len(jobs) < FEW:
                    alone += [job.entry for job in jobs]
                else:
                    entries += self._in_bulk(key, jobs, alone)
            turn += 1
        return alone + entries

    def _in_bulk(
        self, key: tuple[str, str, int], jobs: list[_Job], alone: list[Entry]
    ) -> list[Entry]:
        """Bring in what is plain; return the entries that this server did not give.

        What other processes are bringing in is added to ``alone``.
        """
        try:
            self._cache.prepare()
            self.url = f"{key[0]}://{key[1]}:{key[2]}/"
            server = self._server(key)
            queue = _Queue(self, jobs, self._cache.bucket(PARTIAL))
            with self._cache.usage():
                self.group = Group(
                    self._cache, lambda job, path: self.succeed(job.entry, path), self._durability
                )
                try:
                    self._run_bulk(server, queue)
                finally:
                    self.group.flush()
            alone += [job.entry for job in queue.left]
            others = {job.entry.name for job in queue.left}
        except (OSError, PkgdataError):
            # whatever is wrong with the cache or the server: a single fetch will word it
            alone += [job.entry for job in jobs if job.entry.name not in self._report.succeeded]
            return []
        done = self._report.succeeded
        return [j.entry for j in jobs if j.entry.name not in done and j.entry.name not in others]

    def _run_bulk(self, server: Server, queue: _Queue) -> None:
        from ..transfer.sockets import Run

        second: list[threading.Thread] = []

        def new(width: int) -> Run:
            return Run(server, queue, width, self._timeout, done, refused, self.stopped.is_set)

        def refused(_: _Job) -> None:
            """It is not in the report, which is how it is found."""

        def done(job: _Job) -> None:
            self.tell(job, DONE, job.size)
            with self._lock:
                job.keep()
            if not second and first.objects == 8 and first.bytes > 8 * _SECOND_THREAD:
                first.narrow(self._connections - half)
                thread = threading.Thread(target=new(half).run, name="pkgdata-bulk", daemon=True)
                second.append(thread)
                thread.start()

        half = self._connections // 2 or 1
        first = new(self._connections)
        try:
            first.run()
        except BaseException:
            self.stopped.set()
            raise
        finally:
            for thread in second:
                thread.join()


class _Pool:
    """A few threads, made when they are needed, each working in its caller's context.

    The program does not wait for them at its end, as it would for those of `concurrent.futures`:
    after Ctrl-C one may read from a silent server for as long as its timeout lasts.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._news = threading.Condition()
        self._tasks: deque[Callable[[], object]] = deque()
        self._threads = 0
        self._error: BaseException | None = None

    def add(self, action: Callable[[T], None], items: list[T]) -> None:
        import contextvars

        with self._news:
            for item in items:
                run = contextvars.copy_context().run
                self._tasks.append(functools.partial(run, action, item))
            new = min(self._width - self._threads, len(items))  # who has no work has ended
            self._threads += new
        for _ in range(new):
            threading.Thread(target=self._work, name="pkgdata-fetch", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._news:
                if not self._tasks:
                    self._threads -= 1
                    self._news.notify_all()
                    return
                task = self._tasks.popleft()
            try:
                task()
            except BaseException as error:
                with self._news:
                    self._error = self._error or error
                    self._tasks.clear()

    def wait(self) -> None:
        with self._news:
            while self._threads:
                self._news.wait()
            if self._error is not None:
                raise self._error

    def cancel(self) -> None:
        with self._news:
            self._tasks.clear()
