"""`PackageData.fetch(on=client)`: the workers of a Dask cluster, one for each cache, and a report.

Nothing is a task of Dask's: one that is bound to a worker would wait for ever once that has died.
The workers are asked to run functions, in rounds: what a round has lost is planned again with those
that are there then.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..base import owners
from ..base.progress import BYTES, DONE, FAILED, START, Callback, Event
from ..base.report import HostShare, Report, each_name, read_json
from ..errors import CacheError, ConfigError, MissingExtraError, PkgdataError, StoreError
from .peers import GRACE, PATIENCE
from .share import Found, Share

#: Rounds in which workers may be lost, and seconds that a new one is waited for in between.
ROUNDS, RESTART = 10, 5.0
#: Seconds between two looks at what another worker brings to a shared cache.
_LOOK = 0.5
#: Reports of progress a second from all workers together, and seconds between two of one at least.
REPORTS, OFTEN = 200, 0.25


def client(text: str) -> Any:
    """Return a Dask client, a context manager, for an address or the file of a scheduler."""
    try:
        from distributed import Client
        from distributed.utils import LoopRunner
    except ImportError as error:
        raise missing() from error
    try:
        address = text
        if text.endswith(".json"):  # for one that is not there, or no file, a client would wait
            found = read_json(text, ValueError)
            address = str(found.get("address") if isinstance(found, dict) else found)
        LoopRunner().run_sync(_greet, address)
        return Client(address, set_as_default=False)
    except Exception as error:  # of the file, of Dask, or of another service that answers
        raise StoreError(
            f"there is no Dask scheduler at {text}: {str(error) or 'it gives no answer'}",
            hint="give its address, such as tcp://HOST:8786, or the file of its --scheduler-file",
        ) from error


async def _greet(address: str) -> None:
    """Refuse what is no scheduler; a client that cannot connect would take a minute to end."""
    from dask import config, utils
    from distributed import Security, rpc

    async def kind() -> Any:
        keys = Security().get_connection_args("client")
        async with rpc(address, connection_args=keys) as found:
            return (await found.identity())["type"]

    # another service may wait for us to speak first
    patience = utils.parse_timedelta(config.get("distributed.comm.timeouts.connect"))
    if (found := await asyncio.wait_for(kind(), patience + 1)) != "Scheduler":
        raise ValueError(f"it is a {found}")


def missing() -> MissingExtraError:
    """Return the error of who has no Dask."""
    return MissingExtraError(
        "working on a Dask cluster needs distributed", hint="pip install 'pkgdata-cache[dask]'"
    )


def fetch(data: Any, names: Any, on: Any, to: Any, progress: Callback | bool | None) -> Any:
    """Bring files to every worker of a client; with an asynchronous one, return an awaitable."""
    names = None if names is None else [*each_name(names)]
    work = Fetch(on, data, names, to, progress)
    try:
        return on.sync(work.run)
    except KeyboardInterrupt:
        on.loop.add_callback(work.stop)
        raise


# -- on the workers --------------------------------------------------------------------------------


class Filled(NamedTuple):
    """Where a worker would put files: those with one mark share that cache."""

    host: str
    root: str
    mark: str


def shares(worker: Any) -> dict[str, Share]:
    """Return the jobs of a worker by their tokens; from now on it lets others read its files."""
    known: dict[str, Share] = worker.extensions.setdefault("pkgdata", {})

    async def pkgdata_read(token: str, **question: Any) -> Any:
        share = known.get(token)
        return await share.read(**question) if share else {}

    worker.handlers.setdefault("pkgdata_read", pkgdata_read)
    return known


async def place(
    token: str, package: str, installed: bool, sent: bytes, names: Any, dask_worker: Any
) -> Filled:
    """Begin a job on a worker; say which cache is its."""
    problem = "no package of this name can be imported there"
    try:
        data = pickle.loads(sent)  # noqa: S301 - from the client, whose code a worker runs anyway
    except Exception as error:  # whatever the import of a package may raise
        data, problem = None, str(error)
    if data is None or (installed and data.package_dir is None):
        raise ConfigError(
            f"{package} cannot be found on worker {dask_worker.address}: {problem}",
            hint=f"install {package} on every worker, as it is here",
        )
    # in a later round what has ended stays so, and what it was refused is known
    share = shares(dask_worker).setdefault(token, Share(dask_worker, token, data, names))
    return Filled(share.host, share.cache.root, await asyncio.to_thread(share.mark))


async def look(token: str, dask_worker: Any) -> Found:
    """Say what is there."""
    return await asyncio.to_thread(shares(dask_worker)[token].found)


async def bring(
    token: str, order: Any, holders: Any, to: Any, every: float, dask_worker: Any
) -> tuple[HostShare, dict[str, Exception]]:
    """Bring a worker's files to it; return what came, and what did not."""
    share = shares(dask_worker)[token]

    async def report() -> None:
        while True:
            dask_worker.log_event(token, [dask_worker.address, *share.progress()])
            await asyncio.sleep(every)

    reports = asyncio.create_task(report())
    try:
        await share.bring(order, holders, to)
    finally:
        reports.cancel()
    return share.came, share.failed


async def paths(token: str, dask_worker: Any) -> dict[str, str]:
    """Return where the files of a worker are."""
    return await asyncio.to_thread(shares(dask_worker)[token].paths)


async def forget(token: str, dask_worker: Any) -> None:
    """End a job on a worker."""
    share = shares(dask_worker).pop(token, None)
    if share is not None:
        share.forget()


# -- on the client ---------------------------------------------------------------------------------


class Fetch:
    """One `fetch` on a cluster."""

    def __init__(self, on: Any, data: Any, names: Any, to: Any, progress: Any) -> None:
        self._client = on
        self._data = data
        self._names = names
        self._to = to
        self._progress = progress
        # the mark of a cache has this name, and is removed with those of programs that have ended
        self._token = f"cluster.{owners.unique()}"
        self._show: Callback | None = None
        self._hosts: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        #: Workers whose end was told: a report that comes later is of the past.
        self._over: set[str] = set()
        self._task: asyncio.Task[Any] | None = None
        self._total = 0
        self._pinned = [*Share(None, "", data, names).entries]
        self._report = Report(lambda names: fetch(data, names, on, to, progress))

    async def run(self) -> Report:
        """Bring everything to everybody."""
        self._client.subscribe_topic(self._token, self._hear)
        self._task = asyncio.current_task()
        try:
            await self._rounds()
        except OSError as error:
            if isinstance(error, PkgdataError):
                raise
            why = f"the scheduler of {self._client!r} is not there any more: {error}"
            raise StoreError(why, hint="the same call resumes on another cluster") from error
        finally:
            for lost in self._heard.keys() - self._over:
                self._end(lost, FAILED)
            if self._client.status == "running":
                self._client.unsubscribe_topic(self._token)
                await self._call(forget, None)
        self._report.raise_if_failed(self._data.name)
        return self._report

    def stop(self) -> None:
        """End it, on the workers too."""
        if self._task is not None:
            self._task.cancel()

    async def _call(self, function: Any, workers: list[str] | None, **arguments: Any) -> Any:
        """Run a function on workers; return what each gave or raised."""
        return await self._client.run(
            function, token=self._token, workers=workers, on_error="return", **arguments
        )

    async def _rounds(self) -> None:
        ready: list[str] = []
        complete: set[str] = set()
        lost: set[str] = set()
        most = 0
        for number in range(ROUNDS):
            if number:
                await self._restarted(lost, most)
            places = await self._places()
            most = max(most, len(places))
            caches: dict[str, str] = {}
            for address in sorted(places, key=lambda one: (one not in ready, one)):
                caches.setdefault(places[address].mark, address)
            new = [address for mark, address in caches.items() if mark not in complete]
            if not new:
                break
            self._name(places, caches.values())
            found = await self._look(new)
            ready = [address for address in ready if address in places]
            done = await self._bring(ready, found)
            ready += done
            complete.update(places[address].mark for address in done)
            lost = {*new} - {*done}
            if not lost:
                break
        else:
            raise StoreError(f"workers of {self._client!r} were lost in {ROUNDS} rounds in a row")
        await self._find_paths(ready)

    async def _alive(self) -> set[str]:
        """Return the workers that the scheduler has."""
        return set(await self._client.scheduler.ncores())

    async def _restarted(self, lost: set[str], count: int) -> None:
        """Wait until lost workers are missed, and a little for new ones of their nannies."""
        until = time.monotonic() + RESTART
        while time.monotonic() < until:
            alive = await self._alive()
            if not alive & lost and len(alive) >= count:
                break
            await asyncio.sleep(0.2)

    async def _places(self) -> dict[str, Filled]:
        data = self._data
        about = {"package": data.name, "installed": data.package_dir is not None}
        sent = pickle.dumps(data)
        answers = await self._call(place, None, **about, sent=sent, names=self._names)
        if not answers:
            raise ConfigError(
                f"{self._client!r} has no workers", hint="wait for them: client.wait_for_workers(1)"
            )
        places = {}
        for address, answer in answers.items():
            if isinstance(answer, Filled):
                places[address] = answer
            elif isinstance(answer, ImportError):
                raise ConfigError(
                    f"pkgdata is not installed on worker {address}: {answer}",
                    hint="install pkgdata-cache[dask] on every worker",
                )
            elif not isinstance(answer, OSError) or isinstance(answer, PkgdataError):
                raise answer
        return places

    def _name(self, places: dict[str, Filled], chosen: Iterable[str]) -> None:
        """Name the machines for people: by the host, with the cache if it has several."""
        hosts = [places[address].host for address in chosen]
        for address, found in places.items():
            several = hosts.count(found.host) > 1
            self._hosts[address] = f"{found.host}:{found.root}" if several else found.host

    async def _look(self, workers: list[str]) -> dict[str, Found]:
        """Return what is there; a worker that has died in between comes again in the next round."""
        found: dict[str, Found] = {}
        mine = Share(None, "", self._data, self._names).registry()
        for address, answer in (await self._call(look, workers)).items():
            if isinstance(answer, Found):
                found[address] = answer
                if answer.registry != mine:
                    raise ConfigError(
                        f"the registry of {self._data.name} on {self._hosts[address]} is not the "
                        "one here",
                        hint=f"install the same version of {self._data.name} on every worker",
                    )
            elif not isinstance(answer, OSError) or isinstance(answer, PkgdataError):
                raise answer
        return found

    async def _bring(self, ready: list[str], found: dict[str, Found]) -> list[str]:
        """Let workers bring their files; return those that have ended."""
        if not found:
            return []
        sizes = {name: self._data.registry[name].size or 0 for name in self._pinned}
        if self._show is None:
            self._total = sum(sizes.values())
            self._show = self._data._view(self._progress, len(found), self._total * len(found))
        # those that have everything, then who has most of it: that one asks the mirrors
        order = sorted(
            found, key=lambda one: (found[one].offline, -found[one].here - found[one].begun, one)
        )
        order.sort(key=lambda one: bool(found[one].missing))
        order = ready + order
        holders = self._holders(order[0], found)
        every = max(OFTEN, len(found) / REPORTS)
        for one in found.values():
            new = {name: sizes[name] for n, name in enumerate(self._pinned) if one.missing >> n & 1}
            self._report.new.update(new)
        calls = {}
        for address in found:
            first = holders if address == order[0] else []
            call = self._call(
                bring, [address], order=order, holders=first, to=self._to, every=every
            )
            calls[asyncio.ensure_future(call)] = address
        done = await self._ended(calls, every)
        return [address for address in order if address in done]

    def _holders(self, first: str, found: dict[str, Found]) -> list[tuple[str, list[str]]]:
        """Return which other workers have what the first one lacks."""
        lacks = found[first].missing if first in found else 0
        holders = []
        for address, one in found.items():
            held = lacks & ~one.missing
            if held:
                lacks &= ~held
                names = [name for n, name in enumerate(self._pinned) if held >> n & 1]
                holders.append((address, names))
        return holders

    async def _ended(self, calls: dict[Any, str], every: float) -> set[str]:
        """Wait for workers, but not for those that are not heard of any more."""
        began, done = time.monotonic(), set()
        try:
            while calls:
                ended, _ = await asyncio.wait(calls, timeout=5.0, return_when="FIRST_COMPLETED")
                for task in ended:
                    address = calls.pop(task)
                    if self._count(address, (await task).get(address)):
                        done.add(address)
                late = time.monotonic() - PATIENCE - 3 * every
                for task, address in list(calls.items()):
                    if max(self._heard.get(address, 0.0), began) < late:
                        task.cancel()
                        del calls[task]
        finally:
            for task in calls:
                task.cancel()
        return done

    def _count(self, address: str, answer: Any) -> bool:
        """Add what came of a worker to the report; return False if it was lost."""
        host = self._hosts[address]
        if answer is None or (isinstance(answer, OSError) and not isinstance(answer, PkgdataError)):
            return False
        if isinstance(answer, Exception):
            answer = HostShare(), dict.fromkeys(self._pinned, answer)
        came, failed = answer
        for name, error in failed.items():
            if isinstance(error, CacheError):
                error.message = f"on {host}: {error.message}"
            self._report.failed.setdefault(name, error)
        known = self._report.hosts.get(host, HostShare())
        came.origin, came.peers = came.origin + known.origin, came.peers + known.peers
        self._report.hosts[host] = came
        self._end(address, FAILED if failed else DONE)
        return True

    def _end(self, address: str, state: str) -> None:
        self._over.add(address)
        self._tell(address, state, self._total, self._total)

    async def _find_paths(self, ready: list[str]) -> None:
        """Put the paths on the first machine that answers into the report."""
        alive = await self._alive()
        for address in ready:
            if address not in alive:
                continue  # connecting to it would take long
            found = (await self._call(paths, [address])).get(address)
            if isinstance(found, dict):
                failed = self._report.failed
                self._report.succeeded = {n: path for n, path in found.items() if n not in failed}
                break

    def _hear(self, event: Any) -> None:
        """Take a report of progress of a worker."""
        address, done, total, source = event[1]
        if address in self._over:
            return
        self._tell(address, BYTES if address in self._heard else START, done, total, source)
        self._heard[address] = time.monotonic()

    def _tell(
        self, address: str, state: str, done: int, total: int | None = None, source: str = ""
    ) -> None:
        if self._show is not None:
            source = self._hosts.get(source, source)
            self._show(Event(self._hosts.get(address, address), state, done, total, source))


# -- workers that come later -----------------------------------------------------------------------


async def stage(worker: Any, data: Any, names: Any, wait: float) -> None:
    """Bring a package's files to a worker that starts; return when they are there, or later.

    The scheduler's log of the topic holds in which order workers came, and whose cache is whose:
    the first of those who share one fills it, and the others wait for that.
    """
    topic = f"pkgdata-stage-{data.name}"
    share = shares(worker)[topic] = Share(worker, topic, data, names)
    mark = await asyncio.to_thread(share.mark)
    await worker.scheduler.log_event(topic=topic, msg=(worker.address, mark))

    async def leaders() -> list[str]:
        events = [
            (stamp, *message) for stamp, message in await worker.scheduler.events(topic=topic)
        ]
        alive = {*await worker.scheduler.ncores(), worker.address}
        recent = max(stamp for stamp, *_ in events) - PATIENCE  # they may not be registered yet
        came = {one: (stamp, mark) for stamp, one, mark in reversed(events)}
        first: dict[str, str] = {}
        for one, (stamp, mark) in sorted(came.items(), key=lambda item: item[1]):
            if one in alive or stamp > recent:
                first.setdefault(mark, one)
        return list(first.values())

    async def order() -> list[str]:
        found = await leaders()
        return found if worker.address in found else [*found, worker.address]

    async def bring() -> None:
        last, changed = None, time.monotonic()
        while worker.address not in await leaders():
            found = await asyncio.to_thread(share.found)
            if found != last:
                last, changed = found, time.monotonic()
            if not found.missing or time.monotonic() - changed > GRACE:
                # what the first one cannot bring is asked for here, and fails here, too
                await asyncio.to_thread(share.by_itself, None, True)
                return
            await asyncio.sleep(_LOOK)
        await share.bring(order)

    task = asyncio.create_task(bring())
    await asyncio.wait([task], timeout=wait)
    if task.done():
        task.result()
        report = Report(lambda names: data.fetch(names))
        report.succeeded, report.failed = share.paths(), share.failed
        report.raise_if_failed(data.name)
