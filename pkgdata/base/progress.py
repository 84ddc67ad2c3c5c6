"""Progress: the events that all work on files and objects reports, and the tqdm views of them.

The library calls one function with `Event` values; the caller draws. `view` turns an argument
``progress`` into that function. `Bars` draws a bar for each object, and one over a batch; `Bar`
draws one bar over everything. tqdm is imported when the first bar is drawn.
"""

from __future__ import annotations

import os
import sys

from ..errors import escaped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Callback = Callable[["Event"], None]

#: States of an object's transfer.
START, BYTES, WAIT, DONE, FAILED, HIT = "start", "bytes", "wait", "done", "failed", "hit"

_ENDED = (DONE, FAILED, HIT)

#: From this size on an object of a batch gets a bar of its own.
LARGE = 8 << 20


class Event:
    """One report.

    Parameters
    ----------
    name : str
        The object.
    state : str
        ``"start"``, ``"bytes"``, ``"wait"`` (for another process), ``"done"``, ``"failed"`` or
        ``"hit"`` (it was here already).
    done : int
        Bytes on disk so far.
    total : int or None
        Bytes in all, if known.
    source : str
        Redacted URL of the mirror, or who is waited for.
    """

    __slots__ = ("done", "name", "source", "state", "total")

    def __init__(
        self, name: str, state: str, done: int = 0, total: int | None = None, source: str = ""
    ) -> None:
        self.name = name
        self.state = state
        self.done = done
        self.total = total
        self.source = source

    def __repr__(self) -> str:
        return f"Event({self.name!r}, {self.state!r}, {self.done}/{self.total}, {self.source!r})"


def silent(_: Event) -> None:
    """Show nothing."""


def ended(name: str, size: int, error: Exception | None = None) -> Event:
    """Return the event of an object that is done, or that failed if there is an error."""
    return Event(name, DONE if error is None else FAILED, size, size)


def wanted(setting: str | bool | None) -> bool:
    """Return whether bars are drawn; with ``"auto"``, only in a terminal or a notebook."""
    if sys.stderr is None:
        return False  # pythonw, a service
    if setting != "auto":
        return bool(setting)
    if _in_notebook():
        return True
    try:
        return sys.stderr.isatty()
    except ValueError:
        return False  # it is closed


def _in_notebook() -> bool:
    # ipykernel is loaded only where a Jupyter front end shows the output
    return "ipykernel" in sys.modules


def view(
    progress: Callback | str | bool | None,
    files: int = 0,
    total: int | None = None,
    setting: str | bool | None = None,
) -> Callback:
    """Return the callback that an argument ``progress`` asks for.

    A callable is returned as it is; True draws `Bars` with tqdm; False and None show nothing. With
    the setting ``progress``, which holds if the argument is None, True draws only where somebody
    looks.
    """
    if progress is not None and callable(progress):
        return progress
    if setting is not None:
        progress = setting if progress is None else progress and "auto"
    return Bars(files, total) if wanted(progress) else silent


def aside(say: Callable[[], object]) -> None:
    """Print something while bars are drawn, which stay below it."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        say()
    else:
        with tqdm.tqdm.external_write_mode(file=sys.stderr):
            say()


class Bar:
    """One bar over all objects, in bytes or in objects; a context manager that closes it.

    The numbers of objects and bytes are given if they are known; the bar closes after the last
    object. It appears after `delay` seconds. `drawn` is the caller's own bar, which is advanced by
    its method ``update`` and never closed.
    """

    def __init__(
        self,
        title: str,
        files: int | None = None,
        total: int | None = None,
        *,
        in_bytes: bool = True,
        shown: bool = True,
        delay: float = 0,
        drawn: Any = None,
    ) -> None:
        import threading

        self._title, self._files, self._total = title, files, total
        self._in_bytes, self._shown, self._delay = in_bytes, shown, delay
        self._lock = threading.Lock()
        self._bytes: dict[str, int] = {}
        self._ended = 0
        self._bar = drawn
        self._own = drawn is None

    def __call__(self, event: Event) -> None:
        """Draw an event."""
        if not (self._shown or self._bar):
            return
        with self._lock:
            self.open()
            if self._in_bytes and event.state != WAIT:
                self._count(event)
            if event.state in _ENDED:
                self._end()

    def _count(self, event: Event) -> None:
        before = self._bytes.pop(event.name, 0)
        done = 0 if event.state == FAILED else event.done
        if event.state not in _ENDED:
            self._bytes[event.name] = done
        if self._own and event.state in (START, HIT):
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

    def update(self, count: int) -> None:
        """Advance by some objects or bytes, where there are no events."""
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


class Bars:
    """A bar for each object in flight, and one over the batch if it has several files.

    In a batch, small objects show in the bar over all of them only. `total` are its bytes, if
    known.
    """

    def __init__(self, files: int = 0, total: int | None = None) -> None:
        import threading

        self._bars: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._all = Bar("all files", files, total, in_bytes=total is not None) if files else None

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
        if event.state in _ENDED:
            bar = self._bars.pop(event.name, None)
            if bar is not None:
                if event.state == DONE:
                    self._move(bar, event)
                bar.close()
            return
        bar = self._bars.get(event.name)
        if bar is None:
            label = os.path.basename(event.name)
            bar = self._bars[event.name] = _drawn(label, event.total, True, leave=not self._all)
        self._move(bar, event)

    @staticmethod
    def _move(bar: Any, event: Event) -> None:
        if event.total is not None and bar.total != event.total:
            bar.total = event.total
        note = f" (waiting for {event.source})" if event.state == WAIT else ""
        label = escaped(os.path.basename(event.name) + note, but="")
        if bar.desc != f"{label}: ":
            bar.set_description(label, refresh=False)
        if event.done < bar.n:
            bar.reset(event.total)
            bar.initial = 0
        if event.state in (START, WAIT):
            _skip(bar, event.done - bar.n)
        bar.update(event.done - bar.n)


def _skip(bar: Any, count: int) -> None:
    """Advance a bar by bytes that were here, or came by another process: they are no speed."""
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
        try:
            self._file.write(text)
        except (OSError, ValueError):
            pass  # a pipe that nobody reads, a closed file

    def flush(self) -> None:
        try:
            self._file.flush()
        except (OSError, ValueError):
            pass


def _drawn(title: str, total: int | None, in_bytes: bool, leave: bool, delay: float = 0) -> Any:
    import importlib

    try:
        module = importlib.import_module("tqdm.auto" if _in_notebook() else "tqdm")
    except ImportError:
        return _NoBar()
    units: dict[str, Any] = {"unit": "file"}
    if in_bytes:
        units = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    return module.tqdm(
        desc=escaped(title, but=""),
        total=total,
        dynamic_ncols=True,
        leave=leave,
        file=_Screen(),
        delay=delay,
        **units,
    )
