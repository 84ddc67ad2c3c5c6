"""Progress: the events that all work on files and objects reports, and the views of them.

The library calls one function with `Event` values; the caller draws. `view` turns an argument
``progress`` into that function. `Bars` draws a bar for each object, and one over a batch; `Bar`
draws one bar over everything; off a terminal `Lines` prints a line every ten seconds. tqdm is
imported when the first bar is drawn.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from ..errors import escaped
from . import text

Callback = Callable[["Event"], None]

#: States of an object's transfer.
START, BYTES, WAIT, RETRY = "start", "bytes", "wait", "retry"
DONE, FAILED, HIT = _ENDED = "done", "failed", "hit"

#: Seconds without a byte after which a view says so, and between the lines of `Lines`.
_SILENCE, _EVERY = 5.0, 10.0

#: From this size on an object of a batch gets a bar of its own.
LARGE = 8 << 20


class Event:
    """One report.

    Parameters
    ----------
    name : str
        The object.
    state : str
        ``"start"``, ``"bytes"``, ``"wait"`` (for another process), ``"retry"`` (a source has
        failed, others or another attempt follow), ``"done"``, ``"failed"`` or ``"hit"`` (it was
        here already).
    done : int
        Bytes on disk so far.
    total : int or None
        Bytes in all, if known.
    source : str
        Redacted URL of the mirror, or who is waited for, or why the source failed.
    attempt, attempts : int
        How often this source was asked, and how often it is asked at most.
    """

    __slots__ = ("attempt", "attempts", "done", "name", "source", "state", "total")

    def __init__(
        self,
        name: str,
        state: str,
        done: int = 0,
        total: int | None = None,
        source: str = "",
        attempt: int = 1,
        attempts: int = 1,
    ) -> None:
        self.name, self.state, self.source = name, state, source
        self.done, self.total = done, total
        self.attempt, self.attempts = attempt, attempts

    def __repr__(self) -> str:
        return f"Event({self.name!r}, {self.state!r}, {self.done}/{self.total}, {self.source!r})"


def silent(_: Event) -> None:
    """Show nothing."""


def signing(show: Callback, sign: Callable[[], object]) -> Callback:
    """Return a callback that also calls ``sign``: others who wait see that there is work."""

    def shown(event: Event) -> None:
        sign()
        show(event)

    return shown


def ended(name: str, size: int, error: Exception | None = None) -> Event:
    """Return the event of an object that is done, or that failed if there is an error."""
    return Event(name, DONE if error is None else FAILED, size, size)


def wanted(setting: str | bool | None) -> str:
    """Return "bars", "lines" or ""; with ``"auto"``, bars only in a terminal or a notebook."""
    if sys.stderr is None or text.QUIET:
        return ""  # pythonw, a service; -q
    if setting != "auto":
        return "bars" if setting else ""
    try:
        return "bars" if _in_notebook() or sys.stderr.isatty() else "lines"
    except ValueError:
        return ""  # it is closed


def _in_notebook() -> bool:
    # loaded only where a front end shows the output; what runs notebooks loads other parts of it
    return "ipykernel.kernelapp" in sys.modules


def view(
    progress: Callback | str | bool | None,
    files: int = 0,
    total: int | None = None,
    setting: str | bool | None = None,
) -> Callback:
    """Return the callback that an argument ``progress`` asks for.

    A callable is returned as it is; True draws `Bars` with tqdm; False and None show nothing. With
    the setting ``progress``, which holds if the argument is None, True draws only where somebody
    looks, and prints `Lines` elsewhere.
    """
    if progress is not None and callable(progress):
        return progress
    if setting is not None:
        progress = setting if progress is None else progress and "auto"
    how = wanted(progress)
    if how == "lines":
        return Lines("", files, total)
    return Bars(files, total) if how else silent


def aside(say: Callable[[], object]) -> None:
    """Print something while bars are drawn, which stay below it."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        say()
    else:
        with tqdm.tqdm.external_write_mode(file=sys.stderr):
            say()


#: Views with something in flight, and the thread that looks at them.
_views: weakref.WeakSet[_View] = weakref.WeakSet()
_guard = threading.Lock()
_clock: threading.Thread | None = None


class _View:
    """What is in flight, and what it did last; `tick` is called every second while there is any."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._last: dict[str, tuple[float, Event]] = {}
        self._watched = False

    def _note(self, event: Event) -> None:
        if event.state in _ENDED:
            self._last.pop(event.name, None)
        else:
            self._last[event.name] = time.monotonic(), event
        if self._last and not self._watched:
            self._watch()

    def _watch(self) -> None:
        global _clock
        with _guard:
            self._watched = True
            _views.add(self)
            if _clock is None or not _clock.is_alive():  # after a fork it is not
                _clock = threading.Thread(target=_tick, name="pkgdata-progress", daemon=True)
                _clock.start()

    def rest(self) -> None:
        """Do without the thread if nothing is in flight. It asks: files come and go too fast."""
        with self._lock:
            if not self._last:
                with _guard:
                    _views.discard(self)
                self._watched = False

    def tick(self, now: float) -> None:
        """Say what can be said without an event."""

    def _silence(self, now: float, name: str | None = None) -> str:
        """Return why nothing moves: of one object, or if that is so of all in flight."""
        found = [last for one, last in self._last.items() if name in (None, one)]
        since, event = max(found, key=lambda pair: pair[0], default=(now, None))
        if event is None or event.state == WAIT:
            return f"waiting for {event.source}" if event else ""
        tries = f", try {event.attempt} of {event.attempts}" if event.attempts > 1 else ""
        if event.state == RETRY:
            return f"{event.source}{tries}"
        if now - since < _SILENCE:
            return ""
        host = event.source.split("/")[2] if "://" in event.source else ""
        return f"no answer{host and f' from {host}'} for {now - since:.0f} s{tries}"


def _tick() -> None:
    """Call `tick` of all views, until for a while none has anything in flight."""
    global _clock
    idle = 0
    while True:
        time.sleep(1)
        with _guard:
            views = [*_views]
            idle = 0 if views else idle + 1
            if idle == 3:
                _clock = None
                return
        for one in views:
            one.tick(time.monotonic())
            one.rest()


def _new_guard() -> None:
    global _guard
    _guard = threading.Lock()  # the thread may have held it at the fork
    for one in _views:
        one._watched = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_guard)


class Lines(_View):
    """A line every ten seconds about all that is in flight, where no bars are drawn."""

    def __init__(self, title: str, files: int | None = None, total: int | None = None) -> None:
        super().__init__()
        self._title, self._files, self._total = title, files, total
        self._sizes: dict[str, int] = {}
        self._ended = self._bytes = self._said_bytes = 0
        self._said = time.monotonic()
        self._named = ""

    def __call__(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            if not self._last and not self._ended:
                self._said = time.monotonic()
            self._note(event)
            before = self._sizes.pop(event.name, 0)
            done = before if event.state in (WAIT, RETRY) else event.done
            done = 0 if event.state == FAILED else done
            self._bytes += done - before
            if event.state in (START, HIT) or done < before:
                self._said_bytes += done - before  # here before, or taken back: they are no speed
            if event.state in _ENDED:
                self._ended += 1
            else:
                self._sizes[event.name] = done
                self._named = event.name
                if not (self._files or self._title):
                    self._total = event.total

    def update(self, count: int) -> None:
        """Advance by some objects, where there are no events."""
        self._ended += count

    def tick(self, now: float) -> None:
        with self._lock:
            if now - self._said >= _EVERY:
                text.complain(f"pkgdata: {self._line(now)}")
                self._said, self._said_bytes = now, self._bytes

    def _line(self, now: float) -> str:
        rate = (self._bytes - self._said_bytes) / (now - self._said)
        facts = []
        if self._files or self._title:
            of = f"{self._ended} of {self._files}" if self._files else f"{self._ended}"
            facts = [f"{of} files"]
        total = f" of {text.size(self._total)}" if self._total else ""
        facts.append(f"{text.size(self._bytes)}{total}")
        if rate > 0:
            facts.append(f"{text.size(rate)}/s")
            if self._total:
                facts.append(f"{text.seconds((self._total - self._bytes) / rate)} left")
        why = self._silence(now)
        title = self._title or ("" if self._files else self._named)
        return f"{title}{title and ': '}{', '.join([*facts, why] if why else facts)}"


class Bar(_View):
    """One bar over all objects, in bytes or in objects; a context manager that closes it.

    The numbers of objects and bytes are given if they are known; the bar closes after the last
    object. It appears after `delay` seconds. `drawn` is the caller's own bar, which is advanced by
    its method ``update`` and never closed. `shown` is what `wanted` returns, or a truth value.
    """

    def __init__(
        self,
        title: str,
        files: int | None = None,
        total: int | None = None,
        *,
        in_bytes: bool = True,
        shown: bool | str = True,
        delay: float = 0,
        drawn: Any = None,
    ) -> None:
        super().__init__()
        self._lines = Lines(title, files, total) if shown == "lines" else None
        shown = bool(shown) and not self._lines
        self._title, self._files, self._total = title, files, total
        self._in_bytes, self._shown, self._delay = in_bytes, shown, delay
        self._bytes: dict[str, int] = {}
        self._ended = 0
        self._bar, self._own = drawn, drawn is None

    def __call__(self, event: Event) -> None:
        """Draw an event."""
        if self._lines:
            self._lines(event)
        if not (self._shown or self._bar):
            return
        with self._lock:
            self.open()
            self._note(event)
            if self._in_bytes and event.state not in (WAIT, RETRY):
                self._count(event)
            if event.state in _ENDED:
                self._end()

    def _count(self, event: Event) -> None:
        before = self._bytes.pop(event.name, 0)
        done = 0 if event.state == FAILED else event.done
        if event.state not in _ENDED:
            self._bytes[event.name] = done
        if self._own and (event.state in (START, HIT) or done < before):
            _skip(self._bar, done - before)
        else:
            self._bar.update(done - before)

    def _end(self) -> None:
        self._ended += 1
        if not self._in_bytes:
            self._bar.update(1)
        elif self._own:
            of = f"/{self._files}" if self._files else ""
            self._bar.set_postfix_str(f"{self._ended}{of} files", refresh=False)
        if self._files and self._ended >= self._files:
            self.close()

    def open(self) -> None:
        """Draw the empty bar, if it is not there yet."""
        if self._bar is None and self._shown:
            total = self._total if self._in_bytes else self._files
            self._bar = _drawn(self._title, total, self._in_bytes, leave=True, delay=self._delay)

    def tick(self, now: float) -> None:
        with self._lock:
            if self._own and self._bar is not None:
                _describe(self._bar, self._title, self._silence(now))

    def update(self, count: int) -> None:
        """Advance by some objects or bytes, where there are no events."""
        if self._lines:
            self._lines.update(count)
        self.open()
        if self._bar is not None:
            self._bar.update(count)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._own and self._bar is not None:
            self._bar.refresh()
            self._bar.close()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Bars(_View):
    """A bar for each object in flight, and one over a batch, which alone shows the small ones."""

    def __init__(self, files: int = 0, total: int | None = None) -> None:
        super().__init__()
        self._bars: dict[str, Any] = {}
        batch = files > 1
        self._all = Bar("all files", files, total, in_bytes=total is not None) if batch else None

    def __call__(self, event: Event) -> None:
        """Draw an event."""
        with self._lock:
            if self._all is None:
                self._draw(event)
                return
            self._all.open()  # before, and so above, those of single objects
            if event.name in self._bars or (event.total or 0) >= LARGE:
                self._draw(event)
            self._all(event)

    def _draw(self, event: Event) -> None:
        self._note(event)
        if event.state in _ENDED:
            if (bar := self._bars.pop(event.name, None)) is not None:
                if event.state == DONE:
                    self._move(bar, event)
                bar.close()
            return
        bar = self._bars.get(event.name)
        if bar is None:
            label = os.path.basename(event.name)
            bar = self._bars[event.name] = _drawn(label, event.total, True, leave=not self._all)
        self._move(bar, event)

    def tick(self, now: float) -> None:
        with self._lock:
            for name, bar in self._bars.items():
                _describe(bar, os.path.basename(name), self._silence(now, name))

    def _move(self, bar: Any, event: Event) -> None:
        if event.total is not None and bar.total != event.total:
            bar.total = event.total
        if event.state == RETRY:
            return
        if event.state != BYTES:
            why = self._silence(time.monotonic(), event.name)
            _describe(bar, os.path.basename(event.name), why)
        if event.done < bar.n:
            bar.reset(event.total)
            bar.initial = 0
        if event.state in (START, WAIT):
            _skip(bar, event.done - bar.n)
        bar.update(event.done - bar.n)


def _describe(bar: Any, label: str, why: str) -> None:
    label = escaped(f"{label} ({why})" if why else label, but="")
    if bar.desc != f"{label}: ":
        bar.set_description(label)


def _skip(bar: Any, count: int) -> None:
    """Move a bar by bytes that are no speed: were here, came to others, or are taken back."""
    bar.initial += count
    bar.n += count
    bar.last_print_n += count
    if not bar.delay:
        bar.refresh()


class _NoBar:
    """A bar of which nothing is seen, where tqdm is not installed."""

    n = total = initial = last_print_n = 0
    delay, desc = 1, ""

    def _nothing(self, *_: object, **__: object) -> None:
        pass

    update = reset = refresh = close = set_description = set_postfix_str = _nothing


class _Screen:
    """Standard error while it can be written to: its end must not end what a bar is drawn of."""

    def __init__(self) -> None:
        self._file: Any = sys.stderr

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> None:
        self._try(self._file.write, text)

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, action: Callable[..., object], *given: str) -> None:
        try:
            action(*given)
        except (OSError, ValueError):
            pass  # a pipe that nobody reads, a closed file


def _drawn(title: str, total: int | None, in_bytes: bool, leave: bool, delay: float = 0) -> Any:
    try:
        import tqdm
    except ImportError:
        return _NoBar()
    kind = tqdm.tqdm
    if _in_notebook():
        from . import notebook

        kind = notebook.bar_class()
    how: dict[str, Any] = {"unit": "file"}
    if in_bytes:
        how = {"unit": "B", "unit_scale": True, "unit_divisor": 1000}
    how.update(dynamic_ncols=True, leave=leave, file=_Screen(), delay=delay)
    return kind(desc=escaped(title, but=""), total=total, **how)
