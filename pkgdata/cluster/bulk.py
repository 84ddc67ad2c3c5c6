"""Batches of items on the workers of an engine: Dask, Ray, or an executor of `concurrent.futures`.

Engines get bytes that are pickled here, so that nothing of the program around goes with them. They
may lose a batch or do it twice; its results count once, where the caller is.
"""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import queue
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor
from typing import Any, NamedTuple, TypeVar

from ..base import owners, pool
from ..base.urls import has_secret
from ..errors import ConfigError, PkgdataWarning, StoreError, warn

T = TypeVar("T")
R = TypeVar("R")

#: Items of the first batch, and of the largest.
_FIRST, _MOST = 16, 1000

#: Seconds after which a caller is told that no worker is there.
_PATIENCE = 30.0

#: Errors of engines, by name, that mean: the worker that did this ended, others go on.
_LOSSES = {"KilledWorker", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError"}

#: Seconds in which a result that is there is brought here.
_GATHER = 10.0

#: What a batch is to take, in seconds.
_SECONDS = 1.0


class _Any:
    """An executor of `concurrent.futures`: processes, threads, loky, mpi4py."""

    def __init__(self, on: Any) -> None:
        self.on = on

    def workers(self) -> int:
        """Return how many calls run at once."""
        count = getattr(self.on, "num_workers", None) or getattr(self.on, "_max_workers", None)
        return int(count or os.cpu_count() or 1)

    def submit(self, sent: bytes) -> Any:
        """Let a worker call `work`; return the future."""
        return self.on.submit(work, sent)

    def result(self, future: Any) -> Any:
        """Return what a future that has ended holds."""
        return future.result()

    def cancel(self, futures: Iterable[Any]) -> None:
        """Drop what is under way."""
        for future in futures:
            future.cancel()


class _Dask(_Any):
    """A client of Dask."""

    def workers(self) -> int:
        return len(self.on.nthreads())

    def submit(self, sent: bytes) -> Any:
        # a key of its own: the same batch, sent again, is not to be looked up
        return self.on.submit(work, sent, key=f"pkgdata-{os.urandom(8).hex()}")

    def result(self, future: Any) -> Any:
        return future.result(timeout=_GATHER)  # it waits for a batch whose result was lost

    def cancel(self, futures: Iterable[Any]) -> None:
        if futures := [*futures]:
            self.on.cancel(futures, force=True)


class _Ray(_Any):
    """The module `ray`, once it is initialised."""

    def __init__(self, on: Any) -> None:
        super().__init__(on)
        self._task = on.remote(work)
        self._refs: dict[Any, Any] = {}

    def workers(self) -> int:
        return int(self.on.cluster_resources().get("CPU", 0))

    def submit(self, sent: bytes) -> Any:
        ref = self._task.remote(sent)
        future = ref.future()
        self._refs[future] = ref
        future.add_done_callback(lambda future: self._refs.pop(future, None))
        return future

    def cancel(self, futures: Iterable[Any]) -> None:
        for future in [*futures]:
            if ref := self._refs.get(future):
                self.on.cancel(ref)


def _engine(on: Any) -> _Any:
    kinds = {kind.__module__.partition(".")[0] for kind in type(on).__mro__}
    if "distributed" in kinds and hasattr(on, "nthreads"):
        return _Dask(on)
    if getattr(on, "__name__", "") == "ray" and hasattr(on, "remote"):
        return _Ray(on)
    if isinstance(on, Executor):
        return _Any(on)
    raise ConfigError(
        f"on={on!r}: a transfer takes a Dask client, an executor of concurrent.futures, or ray",
        hint="of mpi4py, mpi4py.futures.MPIPoolExecutor; ranks of a job can share job=FILE",
    )


def is_here(on: Any) -> bool:
    """Return True if an engine's workers are certainly processes of this machine."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(on).__mro__}
    return "concurrent.futures.process.ProcessPoolExecutor" in names


def is_loss(error: Exception) -> bool:
    """Return True if an engine says by an error that the worker ended, not the function failed."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ in _LOSSES


def work(sent: bytes) -> tuple[float, bytes]:
    """Do a batch on a worker; return its seconds and the pickled outcome."""
    began = time.monotonic()
    answer = pool.answer({}, sent)
    return time.monotonic() - began, answer


def cancelled() -> Callable[[], bool]:
    """Return what tells whether the batch that this thread does is wanted no more.

    Of Dask that is known; others wait for the end of the batch.
    """
    module = sys.modules.get("distributed.worker")
    key = getattr(getattr(module, "thread_state", None), "key", None)
    if module is None or key is None:
        return lambda: False
    tasks = module.get_worker().state.tasks
    return lambda: getattr(tasks.get(key), "state", "released") not in ("executing", "long-running")


# -- stores that travel ---------------------------------------------------------------------------


class Proof(NamedTuple):
    """A file that the same folder has on every machine."""

    store: Any
    name: str
    size: int | None
    modified: float | None


@functools.lru_cache(maxsize=1000)  # a worker looks once, not for each batch
def check(proof: Proof) -> None:
    """Refuse a folder of a worker's machine that is not the one which the caller means."""
    found = proof.store.info_or_none(proof.name)
    seen = found and found.size == proof.size
    if not seen or int(found.modified or 0) != int(proof.modified or 0):
        raise ConfigError(
            f"{proof.store.url} is not on {owners.host_name()}, or is another folder there",
            hint="copy between folders that all machines share, or buckets",
        )


def refuse_secrets(store: Any) -> None:
    """Refuse to send a store that holds credentials; names of them may go."""
    # a user's name alone is none
    if isinstance(store._options.get("secrets"), Mapping) or has_secret(
        re.sub("//[^/:@]*@", "//", store._url)
    ):
        raise ConfigError(
            f"{store.url}: its secrets are not sent to other machines",
            hint="let workers find their own: in their environment, or secrets='FILE.json'",
        )


# -- batches --------------------------------------------------------------------------------------


def spread(
    function: Callable[[list[T]], list[R]],
    items: Iterable[T],
    on: Any,
    lost: Callable[[T, Exception], R],
) -> Iterator[R]:
    """Call a function for lists of items on the workers of an engine; yield its results.

    Few batches are under way, so that items are taken as the work goes on. A batch whose workers
    end is halved until the item is found that ends them; ``lost`` makes its result. What the
    function raises is raised. Closing the iterator cancels what is under way.
    """
    run = _Run(function, items, _engine(on), lost)
    try:
        yield from run.results()
    finally:
        run.engine.cancel(run.parts)


class _Run:
    """Batches on their way, those to be sent again, and how large the next one is to be."""

    def __init__(
        self, function: Any, items: Iterable[Any], engine: _Any, lost: Callable[[Any, Any], Any]
    ) -> None:
        self.engine = engine
        self.parts: dict[Any, list[Any]] = {}
        self._function, self._items, self._lost = function, iter(items), lost
        self._ahead: list[Any] = []
        self._again: deque[list[Any]] = deque()
        # whose batch of one was lost, perhaps with the worker that another batch ended; in the
        # end they are tried with nothing else under way
        self._suspects: deque[Any] = deque()
        self._trial: list[Any] = []
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._size, self._width, self._used = _FIRST, 1, False
        #: Why nothing more can be sent.
        self._closed: Exception | None = None

    def results(self) -> Iterator[Any]:
        """Yield the results of all batches, as they come."""
        while True:
            self._width = self._workers()
            while len(self.parts) < 2 * max(1, self._width) and (part := self._next()):
                yield from self._send(part)
            if not self.parts and self._suspects:
                self._trial = [self._suspects.popleft()]
                yield from self._send(self._trial)
            if not self.parts:
                return
            future = self._wait()
            yield from self._outcome(future, self.parts.pop(future))

    def _workers(self) -> int:
        try:
            return self.engine.workers()
        except Exception:  # each engine has errors of its own; what is under way tells more
            return self._width

    def _next(self) -> list[Any]:
        if self._again:
            return self._again.popleft()
        places = 2 * max(1, self._width)
        wanted = places * self._size - len(self._ahead)
        self._ahead += itertools.islice(self._items, max(0, wanted))
        # towards the end batches get smaller, so that all workers end at the same time
        size = min(self._size, max(_FIRST, len(self._ahead) // places))
        part, self._ahead = self._ahead[:size], self._ahead[size:]
        return part

    def _send(self, part: list[Any]) -> Iterator[Any]:
        """Send a batch; if the engine takes nothing any more, yield that of each item."""
        try:
            sent = pickle.dumps((self._function, part))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"this cannot be sent to workers: {error}",
                hint="a function that gives credentials must be one that workers can import",
            ) from None
        if self._closed is None:
            try:
                future = self.engine.submit(sent)
            except Exception as error:  # each engine has errors of its own
                text = f"the executor takes no more work: {error}"
                if not self._used:
                    raise ConfigError(text) from error
                self._closed = StoreError(text, hint="copy what failed with another one")
            else:
                self.parts[future], self._used = part, True
                future.add_done_callback(self._ended.put)
                return
        for item in part:
            yield self._lost(item, self._closed)

    def _wait(self) -> Any:
        """Return the next future that has ended; warn once if no worker is there."""
        patience: float | None = _PATIENCE
        while True:
            try:
                return self._ended.get(timeout=patience)
            except queue.Empty:
                if not self._workers():
                    patience = None
                    warn("no worker is there; the transfer waits until one joins", PkgdataWarning)

    def _outcome(self, future: Any, part: list[Any]) -> Iterator[Any]:
        try:
            seconds, answer = self.engine.result(future)
            value, error = pickle.loads(answer)  # noqa: S301 - the workers are the caller's own
        except ModuleNotFoundError as lack:
            raise ConfigError(
                f"a worker cannot import {lack.name}",
                hint="workers need pkgdata and its extras in the versions of the client",
            ) from lack
        except Exception as failure:  # each engine has errors of its own
            cancelled = isinstance(failure, CancelledError)
            if not (cancelled or future.done()):  # its worker ended with it; another one is at work
                self.parts[future] = part
                future.add_done_callback(self._ended.put)
                return
            # what a function raises is in the answer, so that an OSError is one of the connection
            if cancelled or isinstance(failure, OSError):
                text = "the batch was cancelled, or the scheduler ended"
                self._closed = StoreError(f"{text}: {failure}")
                self._again.append(part)
                return
            if not is_loss(failure):
                raise
            yield from self._after_loss(part, failure)
            return
        if error is not None:
            raise error
        aim = _SECONDS * (1 + self._width / 50)  # few enough batches a second for any scheduler
        fitting = int(len(part) * aim / max(seconds, 1e-3))
        self._size = max(1, min(2 * self._size, _MOST, fitting))
        yield from value

    def _after_loss(self, part: list[Any], failure: Exception) -> Iterator[Any]:
        if len(part) > 1:
            middle = len(part) // 2
            self._again += [part[:middle], part[middle:]]
        elif part is not self._trial:
            self._suspects += part
        else:
            why = f"workers that copy it end abruptly: {type(failure).__name__}: {failure}"
            yield self._lost(part[0], StoreError(why))
