"""A picture of a batch: when each file was in flight, on which mirror, and the bit rate."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from ..base import fs
from ..base.progress import BYTES, DONE, FAILED, START, WAIT, Event, silent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..stores.copying import Copied

_WIDTH, _LEFT, _ROW, _CHART = 960, 220, 14, 120
#: More rows than this would make an unreadable picture; the longest are drawn.
_MOST_ROWS = 400
#: Into how many steps of equal length a copy of a worker process is cut.
_STEPS = 16
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


@dataclass(slots=True)
class _Flight:
    """When one file was in flight, and from where."""

    name: str
    began: float
    ended: float
    bytes: int
    source: str = ""
    state: str = START


class Timeline:
    """A view of progress that records events, passes each on to ``then``, and draws them as SVG."""

    def __init__(
        self, then: Callable[[Event], None] = silent, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._then = then
        self._clock = clock
        self._zero = clock()
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}
        self._moved: list[tuple[float, int]] = []

    def __call__(self, event: Event) -> None:
        """Record an event."""
        self._record(event, self._clock() - self._zero)
        self._then(event)

    def add(self, copied: Copied) -> None:
        """Record a copy that has ended in a worker process, as if it had run evenly."""
        size = copied.size or 0
        for step in range(_STEPS + 1):
            state = BYTES if step else START
            if step == _STEPS:
                state = DONE if copied.error is None else FAILED
            at = copied.began + (copied.ended - copied.began) * step / _STEPS
            event = Event(copied.target, state, size * step // _STEPS, size)
            self._record(event, at - self._zero)

    def _record(self, event: Event, now: float) -> None:
        with self._lock:
            flight = self._flights.get(event.name)
            if flight is None:
                there = event.done if event.state == START else 0
                flight = self._flights[event.name] = _Flight(event.name, now, now, there)
            flight.ended = now
            flight.state = event.state
            if event.source and event.state != WAIT:
                flight.source = event.source
            if event.state in (BYTES, DONE) and event.done > flight.bytes:
                self._moved.append((now, event.done - flight.bytes))
                flight.bytes = event.done

    def svg(self) -> str:
        """Return the picture as SVG text."""
        flights = sorted(self._flights.values(), key=lambda f: f.began - f.ended)[:_MOST_ROWS]
        flights.sort(key=lambda flight: flight.began)
        span = max([f.ended for f in flights], default=0.0) or 1e-3
        sources = list(dict.fromkeys(f.source for f in flights if f.source))
        height = _CHART + 60 + _ROW * len(flights) + 16 * (len(sources) + 1)
        root = Element(
            "svg",
            {
                "xmlns": "http://www.w3.org/2000/svg",
                "viewBox": f"0 0 {_WIDTH} {height}",
                "font-family": "sans-serif",
                "font-size": "10",
            },
            width=str(_WIDTH),
            height=str(height),
        )
        _draw(root, "rect", width=_WIDTH, height=height, fill="white")
        self._chart(root, span)
        for i, flight in enumerate(flights):
            _row(root, flight, _CHART + 50 + i * _ROW, span, sources)
        for i, source in enumerate(sources):
            y = _CHART + 60 + _ROW * len(flights) + 16 * i
            _draw(root, "rect", x=10, y=y, width=10, height=10, fill=_colour(i))
            _draw(root, "text", source, x=25, y=y + 9)
        return tostring(root, encoding="unicode") + "\n"

    def _chart(self, root: Element, span: float) -> None:
        """Draw the bit rate over time."""
        slots = 120
        sums = [0] * slots
        for at, count in self._moved:
            sums[min(slots - 1, int(at / span * slots))] += count
        rates = [count * 8 * slots / span / 1e6 for count in sums]
        top = max(rates) or 1.0
        bottom, right = _CHART + 20, _WIDTH - 20
        points = " ".join(
            f"{_LEFT + (i + 0.5) / slots * (right - _LEFT):.1f},{bottom - rate / top * _CHART:.1f}"
            for i, rate in enumerate(rates)
        )
        _draw(root, "text", f"{top:.0f} Mbit/s at most", x=10, y=20)
        _draw(root, "text", f"{sum(sums) / 1e6:.1f} MB in {span:.2f} s", x=10, y=34)
        _draw(root, "line", x1=_LEFT, y1=bottom, x2=right, y2=bottom, stroke="#888")
        _draw(root, "polyline", points=points, fill="none", stroke="#333")
        _draw(root, "text", "0 s", x=_LEFT, y=bottom + 12)
        end = _draw(root, "text", f"{span:.2f} s", x=right, y=bottom + 12)
        end.set("text-anchor", "end")

    def write(self, path: str) -> None:
        """Write the picture to a file."""
        fs.write_atomic(path, self.svg().encode())


def _row(root: Element, flight: _Flight, y: int, span: float, sources: list[str]) -> None:
    scale = (_WIDTH - _LEFT - 20) / span
    x, width = _LEFT + flight.began * scale, max(1.0, (flight.ended - flight.began) * scale)
    failed = flight.state == FAILED
    index = sources.index(flight.source) if flight.source in sources else 0
    fill = "#bbbbbb" if failed else _colour(index)
    label = flight.name if len(flight.name) <= 36 else "…" + flight.name[-35:]
    title = f"{flight.name}: {flight.bytes} bytes, {flight.ended - flight.began:.3f} s"
    title += f" from {flight.source}" + (", failed" if failed else "")
    _draw(root, "text", label, x=10, y=y + 9)
    sizes = {"x": f"{x:.1f}", "width": f"{width:.1f}"}
    bar = _draw(root, "rect", y=y, height=_ROW - 3, fill=fill, **sizes)
    _draw(bar, "title", title)


def _draw(parent: Element, tag: str, text: str | None = None, **attributes: object) -> Element:
    found = SubElement(parent, tag, {key: str(value) for key, value in attributes.items()})
    found.text = text
    return found


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]
