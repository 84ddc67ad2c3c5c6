"""Processes that help with a batch: thousands of small files keep one core busy with Python alone.

Helpers are forks of the program, so they begin at once and know all that it knows. A fork is safe
where the program has a single thread, on Linux; elsewhere a batch does without helpers. What is
next to do is told by tickets in a pipe, from which every process takes, and what came is told to
the program by a pipe for each helper. If a helper dies, only its unreported work is left, and the
program does that as if there had been no helper.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    Tell = Callable[[str, int, int], None]

#: Bytes that a pipe holds on Linux, and those of a ticket.
_PIPE, _TICKET = 1 << 16, 4

#: Lines and seconds after which a helper tells what it has to tell.
_LINES, _SECONDS = 64, 0.1


def may_fork() -> bool:
    """Say whether this program can be forked without harm.

    Returns
    -------
    bool
        False where it has a second thread, of Python or of any library: a lock that such a thread
        holds would stay locked for ever in the fork.
    """
    try:
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class Tickets:
    """Numbers from 0 on, each given once, to whichever process asks first.

    Parameters
    ----------
    count : int
        At most `most`.
    """

    #: More do not fit into the pipe.
    most = _PIPE // _TICKET

    def __init__(self, count: int) -> None:
        self._pipe, filled = os.pipe()
        try:
            numbers = b"".join(n.to_bytes(_TICKET, "little") for n in range(count))
            os.set_blocking(filled, False)  # a smaller pipe is an error, not an endless wait
            if os.write(filled, numbers) != len(numbers):
                raise OSError("the pipe takes too little")
        except BaseException:
            self.close()
            raise
        finally:
            os.close(filled)

    def take(self) -> int | None:
        """Return the next number; None if there is none."""
        found = os.read(self._pipe, _TICKET)
        return int.from_bytes(found, "little") if found else None

    def close(self) -> None:
        """Let go of the pipe; the other processes keep theirs."""
        os.close(self._pipe)


class Helpers:
    """Forks that do the same work as the program; a context manager that waits for their end.

    Leaving the block by an exception ends them at once.

    Parameters
    ----------
    count : int
        How many; fewer if the system allows no more.
    work : callable
        What a helper does. It is called with a function that tells the program of one thing (a
        word, a number, and a size), and with one that says whether the program has ended.
    heard : callable
        Called in the program with each thing that a helper tells, in a thread of its own.
    """

    def __init__(
        self, count: int, work: Callable[[Tell, Callable[[], bool]], None], heard: Tell
    ) -> None:
        self._count = count
        self._work = work
        self._heard = heard
        self._running: dict[int, int] = {}
        self._error: BaseException | None = None

    def __enter__(self) -> Helpers:
        import threading

        thread = threading.Thread(target=self._listen, name="pkgdata-helpers", daemon=True)
        try:
            try:
                for _ in range(self._count):
                    self._fork()
            except OSError:
                pass  # no more processes or descriptors: fewer helpers
            thread.start()
        except BaseException:
            self._end()
            self._bury()
            raise
        self._thread = thread
        return self

    def _fork(self) -> None:
        import signal

        ours, theirs = os.pipe()
        program = os.getpid()
        # Ctrl-C between the fork and what it runs would let the helper go on as the program
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            pid = os.fork()
            if pid == 0:
                _serve(self._work, theirs, program)
            self._running[ours] = pid
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _listen(self) -> None:
        import selectors

        rests = dict.fromkeys(self._running, b"")
        with selectors.DefaultSelector() as selector:
            for pipe in rests:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, _PIPE)
                    if not data:
                        selector.unregister(key.fd)
                    *lines, rests[key.fd] = (rests[key.fd] + data).split(b"\n")
                    try:
                        for line in lines:
                            word, number, size = line.split()
                            self._heard(word.decode(), int(number), int(size))
                    except BaseException as error:
                        self._error = error
                        self._end()
                        return

    def _end(self) -> None:
        import signal

        for pid in self._running.values():
            os.kill(pid, signal.SIGKILL)  # one that has ended is there until it is waited for

    def _bury(self) -> None:
        for pipe, pid in self._running.items():
            os.close(pipe)
            os.waitpid(pid, 0)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._thread.join()
        except BaseException:
            self._end()
            raise
        else:
            if error is not None:
                self._end()
        finally:
            self._thread.join()
            self._bury()
        if error is None and self._error is not None:
            raise self._error


def _serve(work: Callable[[Tell, Callable[[], bool]], None], pipe: int, program: int) -> None:
    """Do the work in a fork, and end it; never returns."""
    import signal

    try:
        # the program decides when a helper ends, and what its own handlers do is not for a fork
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        told = _Told(pipe)
        work(told, lambda: os.getppid() != program)
        told.flush()
    except BaseException:
        pass  # whatever it was, the program meets it where it does what is left
    finally:
        os._exit(0)


class _Told:
    """What a helper tells, some lines at a time."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._lines: list[str] = []
        self._last = 0.0

    def __call__(self, word: str, number: int, size: int) -> None:
        import time

        self._lines.append(f"{word} {number} {size}\n")
        if len(self._lines) >= _LINES or time.monotonic() - self._last > _SECONDS:
            self.flush()
            self._last = time.monotonic()

    def flush(self) -> None:
        rest = memoryview("".join(self._lines).encode())
        self._lines.clear()
        while rest:
            rest = rest[os.write(self._pipe, rest) :]
