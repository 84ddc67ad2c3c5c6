"""Many files at once: which of them go which way, how many at a time, and in what order.

Small files of a plain web server go through `pkgdata.transfer.sockets`, many connections in one
thread, and into the cache as a `Group`. Everything else, and what bulk refuses, is fetched as a
single file is, several at once, the largest first. Nothing stops because one file fails.

Batches share the work, in threads and processes. Small files fall into 256 sections, by the first
byte of their digests, as the cache's folders do. A batch claims a section (`base.locks.Claims`)
right before it asks for the first of its files, leaves for last what others have claimed, and then
finds that in the cache; what its claimant could not bring, it claims itself. A lock for each file
would cost a tenth of the time that fetching it takes.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from ..base import disk, fs, locks, notes, text
from ..base.config import conf
from ..base.pool import Crew
from ..base.progress import DONE, HIT, START, WAIT, Callback, Event, silent
from ..base.report import Report
from ..cache import partial
from ..cache.objects import LOCKS, Cache
from ..cache.stamps import CLAIMS, OBJECTS, PARTIAL, key_of
from ..errors import PkgdataError
from ..stores.wire import user_agent
from ..transfer.fetch import Mirrors, Routes, report
from ..transfer.sockets import Run, Server
from .jobs import Queue, SmallFile
from .lookup import Settings
from .registry import Entry

#: A file of more bytes is fetched alone, so that it can be resumed and split into ranges.
SMALL = 8 << 20
#: Files that are fetched alone at the same time; each may use several connections.
ALONE = 4
#: Fewer small files are fetched alone, each under its lock: there a second of the same batch in
#: another process would find nothing left to share.
FEW = 32
#: Batches of the same files that work at the same time. Two share the work well; more would be
#: slower, by what each has to load.
_WORKERS = 2
#: How often others are looked at more closely in the time that they may show no sign of work.
_SIGNS = 20
#: From this mean size on, hashing and writing are worth a second thread.
_SECOND_THREAD = 1 << 17
#: Files of this computer that a thread copies in so many seconds, and how often it must fall short
#: of that to be worth another one.
_PER_LOOK, _LOOK, _SLOW_LOOKS = 5, 0.05, 2


def _section(entry: Entry) -> str:
    assert entry.digest is not None  # others are fetched alone
    return f"{entry.digest.alg}{os.sep}{entry.digest.hex[:2]}"


class Batch:
    """Fetch files of one package, none of which is here; ``report`` is filled.

    ``one`` fetches a single entry: it takes the entry, a progress callback and the ``rounds`` of
    `pkgdata.transfer.fetch`, and returns the path. ``crowd`` is a number of 32 bits that those have
    in common who want the same files.
    """

    def __init__(
        self,
        entries: list[Entry],
        cache: Cache,
        report: Report,
        one: Callable[..., str],
        mirrors: Mirrors,
        settings: Settings,
        crowd: int = 0,
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
        self._logs = text.is_logged(20)  # INFO
        #: Bytes of the largest file that goes through bulk.
        self.largest = SMALL
        self._crowd = (1 << 32) + crowd * _WORKERS
        self._lock = threading.Lock()
        #: Bytes of files that are resumed, by name.
        self._left: dict[str, int] = {}
        #: Of the server that bulk asks now.
        self.url = ""
        #: Set to end everything early.
        self.stopped = threading.Event()
        #: Locks of sections, once there is bulk; by section the files that are not done yet, and
        #: of those that are ours what the cache had then; and what others have claimed.
        self._claims: locks.Claims | None = None
        self._note: notes.Note | None = None
        self._open: dict[str, set[str]] = {}
        self._ours: dict[str, set[str]] = {}
        self._theirs: list[Entry] = []
        #: Whether they are waited for; and whether this is one of the few of a crowd that work.
        self._patient, self._works = True, False

    # -- one file --------------------------------------------------------------------------

    def _pause(self, seconds: float) -> None:
        """Wait between two rounds of a file, or end when the batch does."""
        if self.stopped.wait(seconds):
            raise KeyboardInterrupt

    def _shown(self, event: Event) -> None:
        """Report progress of a file that is fetched alone, or end when the batch does."""
        if self.stopped.is_set():
            raise KeyboardInterrupt
        if event.state == START:  # what an earlier process has left; a mirror may begin again at 0
            here = self._left.get(event.name, event.done)
            self._left[event.name] = min(here, event.done)
        if event.state == DONE:
            self._report.new[event.name] = event.done - self._left.pop(event.name, 0)
        self._show(event)

    def tell(self, job: SmallFile, state: str, done: int) -> None:
        """Report progress of bulk, in bytes."""
        self._show(Event(job.entry.name, state, done, job.size, self.url))

    def succeed(self, entry: Entry, path: str | None = None, new: int | None = None) -> None:
        """Put an entry into the report; ``path`` is its place, ``new`` the bytes that came."""
        if new is not None:
            self._report.new[entry.name] = new
        if path is None:
            assert entry.digest is not None
            path = self._cache.path(entry.digest, entry.name)
        self._report.succeeded[entry.name] = path

    def _begin(self) -> bool:
        """Return True if this batch is one of the few among those that fetch the same files.

        They are of one host: others may not see their locks.
        """
        if not self._works and self._claims is not None:
            ours = any(self._claims.take(self._crowd + i) for i in range(_WORKERS))
            timeout = self._cache.lock_timeout
            self._works = ours and (self._note is None or self._note.is_turn(timeout))
        return self._works

    def claim(self, entry: Entry) -> str:
        """Return DONE if an entry has come into the cache, WAIT if it is another's, else START."""
        digest, section = entry.digest, _section(entry)
        assert digest is not None
        here = self._ours.get(section)
        if (
            here is None
            and self._works
            and (not self._claims or self._claims.take(int(section[-2:], 16)))
        ):
            # one look at a folder instead of one at each file
            paths = fs.listed(self._cache.root, OBJECTS, section)
            here = self._ours[section] = {os.path.basename(path) for path in paths}
        if here is not None and digest.hex[2:] not in here:
            return START
        if not self._cache.find(digest, entry.name, entry.size):
            return START if here is not None or not self._patient else WAIT
        self._drop(entry)
        self.succeed(entry)
        self._show(Event(entry.name, HIT, entry.size or 0, entry.size or 0, self.url))
        return DONE

    def _drop(self, entry: Entry) -> None:
        """Give a section back when all of its files are done."""
        if self._claims is not None and entry.digest is not None:
            section = _section(entry)
            left = self._open.get(section)
            if left is not None:
                left.discard(entry.name)
                if not left and self._ours.pop(section, None) is not None:
                    self._claims.drop(int(section[-2:], 16))

    def _brought(self, job: SmallFile, path: str) -> None:
        self.succeed(job.entry, path, job.size)
        self._drop(job.entry)
        if self._note is not None:
            self._note.touch()

    def done(self, job: SmallFile) -> None:
        """Take over a job whose bytes are right."""
        self.tell(job, DONE, job.size)
        if self._logs:
            report(job.entry.name, self.url, job.size, time.monotonic() - job.began)
        with self._lock:
            job.keep()

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
        finally:
            self._drop(entry)

    def _in_turn(self, entries: deque[Entry]) -> None:
        while entries:
            try:
                entry = entries.popleft()
            except IndexError:
                return  # another thread was faster
            self._alone(entry)

    def _add_turns(self, pool: Crew, entries: deque[Entry]) -> None:
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
        pool = Crew(ALONE)
        large.sort(key=lambda entry: -(entry.size or 0))
        try:
            pool.add(self._alone, large)
            small = self._join(small)
            while small:
                self._spread(pool, self._over_mirrors(small))
                small = self._wait()
            pool.wait()
            pool.add(self._alone, again)
            pool.wait()
        except BaseException:
            self.stopped.set()
            pool.cancel()
            raise
        finally:
            if self._note is not None:
                self._note.release()
            if self._claims is not None:
                self._claims.close()

    def _join(self, entries: list[Entry]) -> list[Entry]:
        """Return small files once this batch may work on them; the others' are waited for."""
        if len(entries) >= FEW:
            try:
                self._cache.prepare()
                self._claims = locks.Claims(os.path.join(self._cache.root, CLAIMS))
                folder = self._cache.bucket(LOCKS)
                if not disk.is_local(folder):
                    self._note = notes.Note(os.path.join(folder, f"crowd-{self._crowd:x}.soft"))
                for entry in entries:
                    self._open.setdefault(_section(entry), set()).add(entry.name)
            except OSError:
                pass  # what is wrong with the cache is worded by a single fetch
            else:
                if not self._begin():
                    self._theirs = entries
                    return self._wait()
        self._works = True
        return entries

    def _spread(self, pool: Crew, entries: list[Entry]) -> None:
        """Fetch small files that bulk has not brought, each for itself."""
        near: deque[Entry] = deque()
        far: list[Entry] = []
        here = self._mirrors.is_near()
        for entry in entries:
            is_near = self._mirrors.is_near(entry.urls) if entry.urls else here
            (near if is_near else far).append(entry)
        pool.add(self._alone, far)
        pool.add(functools.partial(self._add_turns, pool), [near])

    def _wait(self) -> list[Entry]:
        """Wait for what others have claimed; return what this batch has to fetch after all.

        That is also so if they show no sign of work for too long.
        """
        began = changed = looked = time.monotonic()
        patience, total = self._cache.lock_timeout, len(self._theirs)
        first: str | None = None
        last: list[tuple[str | None, int]] | None = None
        while self._theirs and not self.stopped.is_set():
            # all of them are looked at only if one of them has changed: there may be thousands
            self._begin()
            entry = self._theirs.pop()
            state = self.claim(entry)
            if state != WAIT:
                states = [(one, self.claim(one)) for one in self._theirs]
                self._theirs = [one for one, each in states if each == WAIT]
                free = [one for one, each in [(entry, state), *states] if each == START]
                if free:
                    return free
                changed, first = time.monotonic(), None
                continue
            self._theirs.insert(0, entry)
            now, first = time.monotonic(), first or entry.name
            if now - looked >= patience / _SIGNS:
                keys = {key_of(one.digest) for one in self._theirs if one.digest is not None}
                signs, looked = partial.busy(self._cache.bucket(PARTIAL), keys), now
                if signs != last:
                    last, changed = signs, now
            if now - changed >= patience:
                # each file that they hold would cost as long a wait
                self._cache.stuck.update(owner for owner, _ in last or ())
                self._patient = False
                free, self._theirs = self._theirs, []
                return free
            self._show(Event(first, WAIT, 0, None, "another process"))
            done = total - len(self._theirs)
            left = (now - began) * len(self._theirs) / done if done else None
            self.stopped.wait(locks.pause(now - began, left))
        return []

    def _over_mirrors(self, entries: list[Entry]) -> list[Entry]:
        """Fetch in bulk from one mirror after the other; return what is left."""
        routes, turn, alone = Routes(self._mirrors), 0, []
        while len(entries) >= FEW and not self.stopped.is_set():
            by_server: dict[tuple[str, str, int], list[SmallFile]] = {}
            for entry in entries:
                route = routes.route(entry.name, entry.urls, turn)
                if route is None:
                    alone.append(entry)
                else:
                    by_server.setdefault(route[0], []).append(SmallFile(self, entry, route[1]))
            entries = []
            for key, jobs in by_server.items():
                if len(jobs) < FEW:
                    alone += [job.entry for job in jobs]
                else:
                    entries += self._in_bulk(key, jobs, alone)
            turn += 1
        return alone + entries

    def _in_bulk(
        self, key: tuple[str, str, int], jobs: list[SmallFile], alone: list[Entry]
    ) -> list[Entry]:
        """Fetch from one server; return what it did not give.

        What single fetches of other processes are bringing is added to ``alone``.
        """
        try:
            self._cache.prepare()
            self.url = f"{key[0]}://{key[1]}:{key[2]}/"
            server = Server(*key, user_agent(), conf.headers)
            queue = Queue(self, jobs, self._cache.bucket(PARTIAL))
            with self._cache.usage():
                self.group = partial.Group(self._cache, self._brought, self._durability)
                try:
                    self._run_bulk(server, queue)
                finally:
                    self.group.flush()
            alone += [job.entry for job in queue.alone]
            self._theirs += [job.entry for job in queue.left]
        except (OSError, PkgdataError):
            # what is wrong with the cache or the server is worded by a single fetch
            alone += [job.entry for job in jobs if job.entry.name not in self._report.succeeded]
            return []
        done = {*self._report.succeeded, *(j.entry.name for j in (*queue.left, *queue.alone))}
        return [job.entry for job in jobs if job.entry.name not in done]

    def _run_bulk(self, server: Server, queue: Queue) -> None:
        try:
            queue.appendleft(queue.popleft())
        except IndexError:
            return  # all is claimed by others; a server is spared the connections of a crowd
        second: list[threading.Thread] = []

        def new(width: int) -> Run:
            return Run(server, queue, width, self._timeout, done, self.stopped.is_set)

        def done(job: SmallFile) -> None:
            self.done(job)
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
