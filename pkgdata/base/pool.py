"""Many calls at once: bounded, streamed, from any iterable, in threads or in processes too.

Threads take the next item themselves, so that nothing is read ahead of the work, and results wait
in a bounded queue, so that a slow reader holds the work back instead of filling the memory.
"""

from __future__ import annotations

import contextlib

from ..errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    import threading
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")
    R = TypeVar("R")

#: Items that a worker process gets at a time.
CHUNK = 64

#: Calls under way and results that wait, per thread.
_AHEAD = 2

#: Calls that take more seconds are worth a thread; so then are this many more, at first and at
#: most.
_SLOW, _WINDOW, _WIDEST = 0.002, 64, 4096

_END = object()


class Room:
    """Bytes of memory that many threads share: each waits until there is enough for it."""

    def __init__(self, size: int) -> None:
        import threading

        self._size = self._left = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        """Have some of it for a while; never more than all of it."""
        amount = min(amount, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


#: For the bytes of objects on their way, however many are moved at once.
ROOM = Room(192 << 20)


class _Feed:
    """The items, handed out one at a time with their numbers."""

    def __init__(self, items: Iterable[Any], room: threading.Semaphore) -> None:
        import threading

        self._items = enumerate(items)
        self._lock = threading.Lock()
        self._room = room
        self.stopped = False

    def take(self) -> Any:
        self._room.acquire()
        with self._lock:
            return _END if self.stopped else next(self._items, _END)


def _work(feed: _Feed, function: Callable[[Any], Any], put: Callable[[Any], None]) -> None:
    while True:
        try:
            taken = feed.take()
        except BaseException as error:  # the iterable's own: raised where the results are read
            feed.stopped = True
            put((-1, None, None, error))
            break
        if taken is _END:
            break
        number, item = taken
        try:
            put((number, item, function(item), None))
        except BaseException as error:
            put((number, item, None, error))
    put(_END)


def run(
    function: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    ordered: bool = False,
    ahead: int = _AHEAD,
    quick: Callable[[T], bool] | None = None,
) -> Iterator[tuple[T, R | None, Exception | None]]:
    """Call a function for each item, several at once; yield the item, the result and the error.

    Items are taken as the work goes on and may be endless; what the iterable itself raises is
    raised. Results come as they are completed, or ``ordered``; ``ahead`` calls and results per
    thread wait to be taken. ``quick`` means that a call may take less time than a thread costs:
    such calls are made here, until they prove slow. Closing the iterator ends the work.
    """
    if threads <= 1:
        yield from _serial(function, items)
    elif quick is None:
        yield from _threaded(function, items, threads, ordered, ahead)
    else:
        yield from _by_need(function, items, threads, ordered, ahead, quick)


def each(
    function: Callable[[T], R], items: Iterable[T], threads: int, **options: Any
) -> Iterator[tuple[T, R]]:
    """Do as `run` does, with its options, but raise the first error, which ends the work."""
    with contextlib.closing(run(function, items, threads, **options)) as found:  # type: ignore[type-var]
        for item, value, error in found:
            if error is not None:
                raise error
            yield item, value  # type: ignore[misc]  # without an error there is a value


def _by_need(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    threads: int,
    ordered: bool,
    ahead: int,
    quick: Callable[[Any], bool],
) -> Iterator[Any]:
    """Go on here while calls are quick, and with threads for a while when they are not.

    Threads that read and write small files of a local disk fight for the interpreter: sixteen took
    six times as long as one. On a network's disk they save the time of the way there and back.
    """
    import itertools
    import time

    found, window, slow = iter(items), _WINDOW, 0
    for item in found:
        first: tuple[Any, ...] = (item,)
        if quick(item):
            began = time.perf_counter()
            [result] = _serial(function, first)
            # one alone may have done something for all those before it
            slow = slow + 1 if time.perf_counter() - began > _SLOW else 0
            yield result
            if slow < 2:
                window = max(_WINDOW, window - 1)
                continue
            first = ()
        part = itertools.chain(first, itertools.islice(found, window))
        yield from _threaded(function, part, threads, ordered, ahead)
        window, slow = min(2 * window, _WIDEST), 1


def _serial(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        try:
            value = function(item)
        except Exception as error:
            yield item, None, error
        else:
            yield item, value, None


def _threaded(
    function: Callable[[Any], Any], items: Iterable[Any], threads: int, ordered: bool, ahead: int
) -> Iterator[Any]:
    import queue
    import threading

    room = threading.Semaphore(ahead * threads)
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()
    feed = _Feed(items, room)
    workers = [
        threading.Thread(
            target=_work, args=(feed, function, results.put), name="pkgdata-store", daemon=True
        )
        for _ in range(threads)
    ]
    left = 0
    waiting: dict[int, Any] = {}
    due = 0
    try:
        for worker in workers:
            worker.start()
            left += 1
        while left:
            result = results.get()
            if result is _END:
                left -= 1
                room.release()  # who ends has taken room for nothing
                continue
            if result[0] < 0 or isinstance(result[3], (KeyboardInterrupt, SystemExit)):
                raise result[3]
            waiting[result[0]] = result
            while waiting and (not ordered or due in waiting):
                # room is given only now: else a slow first result would let the others pile up
                yield waiting.pop(due if ordered else result[0])[1:]
                room.release()
                due += 1
    except KeyboardInterrupt:
        left = 0  # who interrupts does not want to wait for what is under way
        raise
    finally:
        feed.stopped = True
        for _ in workers:
            room.release()
        while left:
            if results.get() is _END:
                left -= 1


class Crew:
    """A few threads, made when they are needed, each working in its caller's context."""

    # the program does not wait for them at its end, as it would for those of concurrent.futures:
    # after Ctrl-C one may read from a silent server for as long as its timeout lasts

    def __init__(self, width: int) -> None:
        self._width = width
        import collections
        import threading

        self._news = threading.Condition()
        self._tasks: collections.deque[Callable[[], object]] = collections.deque()
        self._threads = 0
        self._error: BaseException | None = None

    def add(self, action: Callable[[T], object], items: list[T]) -> None:
        """Call a function with each of some items, in threads."""
        import contextvars
        import functools
        import threading

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
        """Wait until all is done; raise the first error, which drops what was not begun."""
        with self._news:
            while self._threads:
                self._news.wait()
            if self._error is not None:
                raise self._error

    def cancel(self) -> None:
        """Drop what was not begun."""
        with self._news:
            self._tasks.clear()


def chunks(items: Iterable[T], size: int = CHUNK, most: int = 0) -> Iterator[list[T]]:
    """Cut an iterable into lists, each twice as long as the one before it, up to ``most``."""
    import itertools

    found = iter(items)
    while part := list(itertools.islice(found, size)):
        yield part
        size = max(size, min(2 * size, most))


def told_to_end() -> bool:
    """Return True if this is a worker process whose parent wants no more of it."""
    return bool(_told_to_end)


#: Not empty once that is so; a signal handler must take no lock.
_told_to_end: list[int] = []


def python(code: str, **options: Any) -> subprocess.Popen[Any]:
    """Start Python on some code; every process of ours begins here.

    It finds what this process finds, but nothing in the working directory, which Python would look
    into first: a folder that holds data may hold anybody's ``socket.py``.
    """
    import os
    import signal
    import subprocess
    import sys

    ours = os.path.abspath(os.path.join(__file__, "..", "..", ".."))
    # `python -m` and `python` alone put that folder first
    found = sys.path[1:] if sys.path[:1] in ([""], [os.getcwd()]) else sys.path
    path = [place for place in found if place]
    path += [ours] * (ours not in path)
    words = [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{code}"]
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return subprocess.Popen(words, **options)
    # Ctrl-C reaches it too, from its very start; the parent alone reacts, and ends it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(words, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """A process that calls what it is sent, one call after the other."""

    def __init__(self) -> None:
        import subprocess
        import threading

        code = f"from {__name__} import serve; serve()"
        self._busy = threading.Lock()
        self._process: Any = python(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(self, function: Callable[[Any], R], part: Any) -> R:
        """Return what a function returns there for a part; raise what it raises there."""
        import pickle
        from multiprocessing.spawn import get_preparation_data

        sent = pickle.dumps((function, part))
        # what the user's own program defines is found there only once that was imported
        main = get_preparation_data("pkgdata") if b"__main__" in sent else {}
        main = {key: main[key] for key in main if key.startswith("init_main")}
        try:
            with self._busy:
                pickle.dump((main, sent), self._process.stdin)
                self._process.stdin.flush()
                value, error = pickle.loads(pickle.load(self._process.stdout))  # noqa: S301 - our child
        except (OSError, EOFError, pickle.UnpicklingError):
            raise StoreError(
                "a worker process ended abruptly",
                hint="perhaps there was no memory left; try fewer processes",
            ) from None
        if error is not None:
            raise error
        found: R = value
        return found

    def terminate(self) -> None:
        """Let it end what it is at, and take no more."""
        self._process.terminate()

    def close(self) -> None:
        """End it, once it is idle."""
        with self._busy, contextlib.suppress(OSError):  # it has ended
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def serve() -> None:
    """Be a worker process: take calls from standard input, and answer on standard output."""
    import os
    import pickle
    import queue
    import signal
    import sys
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where `python` cannot block it
    signal.signal(signal.SIGTERM, lambda number, _: _told_to_end.append(number))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints must not stand among the answers
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    working = threading.Event()

    def take() -> None:
        with contextlib.suppress(EOFError):
            while True:
                calls.put(pickle.load(sys.stdin.buffer))  # noqa: S301 - from our parent
        if working.is_set():
            os._exit(1)  # nobody waits for the answer: the parent is gone
        calls.put(None)

    threading.Thread(target=take, daemon=True).start()
    while (call := calls.get()) is not None:
        working.set()
        found = answer(*call)
        working.clear()
        pickle.dump(found, answers)
        answers.flush()


def answer(main: dict[str, Any], sent: bytes) -> bytes:
    """Make a call that was sent; return its value and its error, one of them None, pickled."""
    import pickle
    from multiprocessing.spawn import prepare

    value = error = None
    try:
        prepare(main)
        function, part = pickle.loads(sent)  # noqa: S301 - from our parent
        value = function(part)
    except BaseException as problem:  # what ends a program ends the parent's work
        error = problem
    try:
        return pickle.dumps((value, error))
    except Exception as problem:  # whatever an error of another library holds
        text = f"{type(error or problem).__name__}: {error or problem}"
        return pickle.dumps((None, StoreError(text)))


def spread(
    function: Callable[[list[T]], list[R]], items: Iterable[T], processes: int, first: int = CHUNK
) -> Iterator[R]:
    """Call a function for lists of items in worker processes; yield its results in any order.

    Function, items and results are pickled. The lists begin with ``first`` items and grow, so that
    few items are shared out too.
    """
    import queue

    workers: list[_Worker] = []
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()

    def call(part: list[T]) -> list[R]:
        try:
            worker = idle.get_nowait()
        except queue.Empty:
            worker = _Worker()
            workers.append(worker)
        found = worker.call(function, part)
        idle.put(worker)  # not after an error: what it answers next may belong to that call
        return found

    try:
        with contextlib.closing(each(call, chunks(items, first, CHUNK), processes)) as found:  # type: ignore[type-var]
            try:
                for _, results in found:
                    yield from results
            except BaseException:
                for worker in workers:
                    worker.terminate()
                raise
    finally:
        for worker in workers:
            worker.close()
