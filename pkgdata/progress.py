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
    """Show nothing.

    Parameters
    ----------
    _ : Event
    """


def wanted(setting: str | bool) -> bool:
    """Decide whether bars are drawn.

    Parameters
    ----------
    setting : bool or ``"auto"``
        ``"auto"`` means: standard error is a terminal, or this is a notebook.

    Returns
    -------
    bool
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


def view(setting: str | bool) -> Callback:
    """Return a callback that draws with tqdm, or `silent`.

    Parameters
    ----------
    setting : bool or ``"auto"``

    Returns
    -------
    callable
    """
    return Bars() if wanted(setting) else silent


class Bars:
    """Draws one bar an object on standard error, for as long as it is in flight."""

    def __init__(self) -> None:
        import threading

        self._bars: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Draw a report.

        Parameters
        ----------
        event : Event
        """
        with self._lock:
            if event.state in (DONE, FAILED, HIT):
                bar = self._bars.pop(event.name, None)
                if bar is not None:
                    if event.state == DONE:
                        self._move(bar, event)
                    bar.close()
                return
            bar = self._bars.get(event.name)
            if bar is None:
                bar = self._bars[event.name] = self._new(event)
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

    @staticmethod
    def _new(event: Event) -> Any:
        import importlib

        module = importlib.import_module("tqdm.auto" if _in_notebook() else "tqdm")
        return module.tqdm(
            desc=os.path.basename(event.name),
            total=event.total,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            dynamic_ncols=True,
            leave=True,
            file=sys.stderr,
        )
