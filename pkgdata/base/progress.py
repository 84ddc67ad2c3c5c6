"""Progress: what a transfer reports, and the tqdm view of it.

The library calls one function with `Event` values; whoever passes it draws. `view` is what
terminals and notebooks get: it writes to standard error and only where somebody looks.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Callback = Callable[["Event"], None]

#: States of an object's transfer.
START, BYTES, WAIT, DONE, FAILED, HIT = "start", "bytes", "wait", "done", "failed", "hit"


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


def wanted(setting: str | bool) -> bool:
    """Decide whether bars are drawn.

    Parameters
    ----------
    setting : bool or ``"auto"``
        ``"auto"`` means: standard error is a terminal, or this is a notebook.
    """
    if setting != "auto":
        return bool(setting)
    if _in_notebook():
        return True
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False  # no standard error at all (pythonw), or a closed one


def _in_notebook() -> bool:
    # ipykernel is loaded only where a Jupyter front end shows the output
    return "ipykernel" in sys.modules


def view(setting: str | bool, files: int = 0, total: int | None = None) -> Callback:
    """Return a callback that draws with tqdm, or `silent`.

    Parameters
    ----------
    files : int, default 0
        Of a batch, which gets one bar for all of them.
    total : int, optional
        Bytes of a batch, if all are known.
    """
    return Bars(files, total) if wanted(setting) else silent


class Bars:
    """Draws on standard error: one bar an object in flight, and one over a batch.

    In a batch, small objects show in the bar over all of them only.

    Parameters
    ----------
    files : int, default 0
        Of the batch; 0 if this is no batch.
    total : int, optional
        Bytes of the batch.
    """

    def __init__(self, files: int = 0, total: int | None = None) -> None:
        import threading

        self._bars: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._files = files
        self._total = total
        self._ended = 0
        self._bytes: dict[str, int] = {}
        self._overall: Any = None

    def __call__(self, event: Event) -> None:
        """Draw a report."""
        with self._lock:
            if not self._files:
                self._draw(event)
                return
            if self._overall is None:
                self._overall = self._new("all files", self._total or self._files, self._total)
            if event.name in self._bars or (event.total or 0) >= LARGE:
                self._draw(event)
            self._count(event)

    def _count(self, event: Event) -> None:
        """Move the bar over the batch."""
        ended = event.state in (DONE, FAILED, HIT)
        count = 0 if event.state == FAILED else event.done
        if event.state != WAIT and self._total is not None:
            self._overall.update(count - self._bytes.get(event.name, 0))
            self._bytes[event.name] = count
        if ended:
            self._ended += 1
            if self._total is None:
                self._overall.update(1)
            else:
                text = f"{self._ended}/{self._files} files"
                self._overall.set_postfix_str(text, refresh=False)
            if self._ended >= self._files:
                self._overall.close()

    def _draw(self, event: Event) -> None:
        if event.state in (DONE, FAILED, HIT):
            bar = self._bars.pop(event.name, None)
            if bar is not None:
                if event.state == DONE:
                    self._move(bar, event)
                bar.close()
            return
        bar = self._bars.get(event.name)
        if bar is None:
            label = os.path.basename(event.name)
            bar = self._bars[event.name] = self._new(label, event.total, event.total or 0)
        self._move(bar, event)

    @staticmethod
    def _move(bar: Any, event: Event) -> None:
        if event.total is not None and bar.total != event.total:
            bar.total = event.total
        note = f" (waiting for {event.source})" if event.state == WAIT else ""
        label = os.path.basename(event.name) + note
        if bar.desc != f"{label}: ":
            bar.set_description(label, refresh=False)
        if event.done < bar.n:
            bar.reset(event.total)
        bar.update(event.done - bar.n)

    def _new(self, label: str, total: int | None, in_bytes: int | None) -> Any:
        import importlib

        module = importlib.import_module("tqdm.auto" if _in_notebook() else "tqdm")
        units: dict[str, Any] = {"unit": "file"}
        if in_bytes is not None:
            units = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
        return module.tqdm(
            desc=label,
            total=total,
            dynamic_ncols=True,
            leave=not self._files or label == "all files",
            file=sys.stderr,
            **units,
        )
