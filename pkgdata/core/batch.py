"""Many files at once: which of them go which way, how many at a time, and in what order.

Small files of a plain web server go through `pkgdata.transfer.sockets`, many connections in one
thread, and into the cache as a `Group`. Everything else, and what bulk refuses, is fetched as a
single file is, several at once, the largest first. Nothing stops because one file fails.

Two batches in two processes share the work: the name of an unfinished file shows what its owner is
fetching, so the other leaves that file for last, and then finds it in the cache.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import deque

from ..base import fs, hashes, owners
from ..base.config import conf
from ..base.progress import DONE, HIT, START, Event, silent
from ..cache.partial import Group
from ..cache.stamps import PARTIAL, key_of
from ..errors import PkgdataError
from ..stores.wire import user_agent
from ..transfer.fetch import Routes
from ..transfer.sockets import Run, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from ..base.hashes import Digest, Hasher
    from ..base.progress import Callback
    from ..base.report import Report
    from ..cache.objects import Cache
    from ..transfer.fetch import Mirrors
    from .lookup import Settings
    from .registry import Entry, Registry

    T = TypeVar("T")

#: A file of more bytes is fetched alone, so that it can be resumed and split into ranges.
SMALL = 8 << 20
#: Files that are fetched alone at the same time; each may use several connections.
ALONE = 4
#: Fewer small files are fetched alone, each under its lock: there a second of the same batch in
#: another process would find nothing left to share.
FEW = 32
#: Objects after which bulk looks for what other processes have fetched meanwhile.
_LOOK_EVERY = 256
#: From this mean size on, hashing and writing are worth a second thread.
_SECOND_THREAD = 1 << 17
#: Files of this computer that a thread copies in so many seconds, and how often it must fall short
#: of that to be worth another one.
_PER_LOOK, _LOOK, _SLOW_LOOKS = 5, 0.05, 2


class _Job:
    """One small file on its way through bulk into a group."""

    __slots__ = ("_batch", "_count", "_fd", "_hasher", "digest", "entry", "path", "size", "target")

    def __init__(self, batch: Batch, entry: Entry, target: str) -> None:
        assert entry.digest is not None  # others are fetched alone
        self._batch = batch
        self.entry = entry
        self.digest = entry.digest
        self.target = target
        self.path = ""
        self.size = 0
        self._fd = -1
        self._count = 0
        self._hasher: Hasher | None = None

    def begin(self, size: int) -> bool:
        if size > SMALL or self.entry.size not in (None, size):
            return False
        self.size = size
        self.path, self._fd = self._batch.group.create(self.digest)
        self._hasher = hashes.new(self.digest.alg)
        self._count = 0
        self._batch.tell(self, START, 0)
        return True

    def feed(self, view: memoryview) -> None:
        assert self._hasher is not None
        self._hasher.update(view)
        self._count += len(view)
        while view:
            view = view[os.write(self._fd, view) :]

    def finish(self) -> bool:
        hasher = self._hasher
        assert hasher is not None
        return self._count == self.size and hasher.hexdigest() == self.digest.hex

    def keep(self) -> None:
        """Hand the file over to the group."""
        entry, fd, self._fd = self.entry, self._fd, -1
        self._batch.group.add(
            self.path, fd, self.digest, entry.name, self.size, entry.size is None, self
        )

    def abandon(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            fs.remove(self.path)


class _Queue:
    """The jobs of bulk; those that another process is fetching are put off."""

    def __init__(self, batch: Batch, jobs: Iterable[_Job], folder: str) -> None:
        self._batch = batch
        self._jobs = deque(jobs)
        self._folder = folder
        self._until_look = 0
        self._shuffled = False
        self._others: set[str] = set()
        self._lock = threading.Lock()
        #: What others were fetching when its turn came.
        self.left: list[_Job] = []
        self._look()
        self._until_look = FEW // 4  # a process that started with us shows soon

    def __len__(self) -> int:
        return len(self._jobs)

    def _look(self) -> None:
        me = f".{owners.token()}-"
        # our own are left out: there may be a thousand
        found = [(name, owners.of(name)) for name in os.listdir(self._folder) if me not in name]
        running = {one for one in {owner for _, owner in found} if one and not owners.is_gone(one)}
        self._others = {name.partition(".")[0] for name, owner in found if owner in running}
        # towards the end two processes meet more often
        self._until_look = max(1, min(_LOOK_EVERY, len(self._jobs) // 8))
        if self._others and not self._shuffled:
            # in the order of the other process we would fetch what it is fetching, to the end
            import random

            random.shuffle(self._jobs)
            self._shuffled = True

    def popleft(self) -> _Job:
        with self._lock:
            while True:
                job = self._jobs.popleft()
                self._until_look -= 1
                if self._until_look <= 0:
                    self._look()
                if self._batch.is_here(job.entry):
                    # another process fetched it, and may have ended since
                    job.size = job.entry.size or 0
                    self._batch.succeed(job.entry)
                    self._batch.tell(job, HIT, job.size)
                elif key_of(job.digest) in self._others:
                    self.left.append(job)
                else:
                    return job

    def appendleft(self, job: _Job) -> None:
        self._jobs.appendleft(job)


class Batch:
    """Fetch files of one package, none of which is here; ``report`` is filled.

    ``one`` fetches a single entry: it takes the entry, a progress callback and the ``rounds`` of
    `pkgdata.transfer.fetch`, and returns the path.
    """

    def __init__(
        self,
        entries: list[Entry],
        cache: Cache,
        report: Report,
        one: Callable[..., str],
        mirrors: Mirrors,
        settings: Settings,
    ) -> None:
        self._entries = entries
        self._cache = cache
        self._report = report
        self._one = one
        self._mirrors = mirrors
        self._connections: int = settings["connections"]
        self._timeout: float = settings["remote_timeout"]
        self._durability: str = settings["durability"]
        self._retries: int = settings["retries"]
        self._show: Callback = silent
        self._lock = threading.Lock()
        #: Of the server that bulk asks now.
        self.url = ""
        #: Set to end everything early.
        self.stopped = threading.Event()

    # -- one file --------------------------------------------------------------------------

    def _pause(self, seconds: float) -> None:
        """Wait between two rounds of a file, or end when the batch does."""
        if self.stopped.wait(seconds):
            raise KeyboardInterrupt

    def _shown(self, event: Event) -> None:
        """Report progress of a file that is fetched alone, or end when the batch does."""
        if self.stopped.is_set():
            raise KeyboardInterrupt
        if event.state == DONE:
            self._report.new[event.name] = event.done
        self._show(event)

    def tell(self, job: _Job, state: str, done: int) -> None:
        """Report progress of bulk, in bytes."""
        if self._show is not silent:
            self._show(Event(job.entry.name, state, done, job.size, self.url))

    def is_here(self, entry: Entry) -> bool:
        """Return True if an entry has come into the cache."""
        digest = entry.digest
        return digest is not None and bool(self._cache.find(digest, entry.name, entry.size))

    def succeed(self, entry: Entry, path: str | None = None, new: int | None = None) -> None:
        """Put an entry into the report; ``path`` is its place in the cache by default.

        ``new`` are its bytes, if this batch brought it.
        """
        if new is not None:
            self._report.new[entry.name] = new
        if path is None:
            assert entry.digest is not None
            path = self._cache.path(entry.digest, entry.name)
        self._report.succeeded[entry.name] = path

    def _alone(self, entry: Entry) -> None:
        if self.stopped.is_set():
            return
        # when one after another has failed, the rest is not worth waiting for
        patient = len(self._report.failed) < max(10, len(self._entries) // 20)
        retries = self._retries if patient else 0
        try:
            path = self._one(entry, self._shown, retries=retries, sleep=self._pause)
            self.succeed(entry, path)
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
        """Let one thread copy small files of this computer, and more while that is slow."""
        # threads that a local disk does not need slow each other down; a network's disk takes its
        # time, and so does a file that another process holds
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

    def run(self, view: Callable[[int, int | None], Callback]) -> None:
        """Fetch everything; errors go into the report.

        ``view`` takes the number of files and their bytes, if known, and returns the callback.

        Ctrl-C cuts the transfers in flight; what they brought stays for the next time.
        """
        sizes = [entry.size for entry in self._entries]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        self._show = view(len(sizes), total)
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
            near: deque[Entry] = deque()
            far: list[Entry] = []
            here = self._mirrors.is_near()
            for entry in rest:
                is_near = self._mirrors.is_near(entry.urls) if entry.urls else here
                (near if is_near else far).append(entry)
            pool.add(self._alone, far)
            pool.add(functools.partial(self._add_turns, pool), [near])
            pool.wait()
            pool.add(self._alone, again)
            pool.wait()
        except BaseException:
            self.stopped.set()
            pool.cancel()
            raise

    def _over_mirrors(self, entries: list[Entry]) -> list[Entry]:
        """Fetch in bulk from one mirror after the other; return what is left."""
        routes, turn, alone = Routes(self._mirrors), 0, []
        while len(entries) >= FEW and not self.stopped.is_set():
            by_server: dict[tuple[str, str, int], list[_Job]] = {}
            for entry in entries:
                route = routes.route(entry.name, entry.urls, turn)
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
        """Fetch from one server; return what it did not give.

        What other processes are fetching is added to ``alone``.
        """
        try:
            self._cache.prepare()
            self.url = f"{key[0]}://{key[1]}:{key[2]}/"
            server = Server(*key, user_agent(), conf.headers)
            queue = _Queue(self, jobs, self._cache.bucket(PARTIAL))
            with self._cache.usage():
                self.group = Group(
                    self._cache,
                    lambda job, path: self.succeed(job.entry, path, job.size),
                    self._durability,
                )
                try:
                    self._run_bulk(server, queue)
                finally:
                    self.group.flush()
            alone += [job.entry for job in queue.left]
        except (OSError, PkgdataError):
            # what is wrong with the cache or the server is worded by a single fetch
            alone += [job.entry for job in jobs if job.entry.name not in self._report.succeeded]
            return []
        done = {*self._report.succeeded, *(job.entry.name for job in queue.left)}
        return [job.entry for job in jobs if job.entry.name not in done]

    def _run_bulk(self, server: Server, queue: _Queue) -> None:
        second: list[threading.Thread] = []

        def new(width: int) -> Run:
            return Run(server, queue, width, self._timeout, done, self.stopped.is_set)

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


def export(report: Report, folder: str, registry: Registry) -> None:
    """Write what was fetched below a folder; what is there stays if it has the same bytes."""
    for name, path in list(report.succeeded.items()):
        target = os.path.join(folder, *name.split("/"))
        entry = registry.get(name)
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not _is_same(path, target, entry and entry.digest):
                fs.copy_atomic(path, target, sync=False)
            report.succeeded[name] = target
        except OSError as error:
            del report.succeeded[name]
            report.failed[name] = error


def _is_same(path: str, target: str, digest: Digest | None) -> bool:
    if not os.path.isfile(target) or os.path.getsize(target) != os.path.getsize(path):
        return False
    digest = digest or hashes.hash_file(path)
    return hashes.hash_file(target, digest.alg) == digest


class _Pool:
    """A few threads, made when they are needed, each working in its caller's context."""

    # the program does not wait for them at its end, as it would for those of concurrent.futures:
    # after Ctrl-C one may read from a silent server for as long as its timeout lasts

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
