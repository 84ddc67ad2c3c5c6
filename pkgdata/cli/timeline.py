"""A picture of a batch: when each file was in flight, on which mirror, and the bit rate."""

from __future__ import annotations

import time

from ..base import fs
from ..base.progress import BYTES, DONE, FAILED, START, WAIT, Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_WIDTH, _LEFT, _ROW, _CHART = 960, 220, 14, 120
#: More rows than this would make a picture that nobody can read; the longest are drawn.
_MOST_ROWS = 400
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


class _Flight:
    def __init__(self, name: str, began: float) -> None:
        self.name = name
        self.began = began
        self.ended = began
        self.source = ""
        self.state = START
        self.bytes = 0


class Timeline:
    """Records events and passes them on; draws them when asked.

    Parameters
    ----------
    then : callable
        Gets each event too.
    clock : callable, optional
        Stand-in for `time.monotonic`.
    """

    def __init__(
        self, then: Callable[[Event], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        import threading

        self._then = then
        self._clock = clock
        self._zero = clock()
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}
        self._moved: list[tuple[float, int]] = []

    def __call__(self, event: Event) -> None:
        """Record an event."""
        now = self._clock() - self._zero
        with self._lock:
            flight = self._flights.get(event.name)
            if flight is None:
                flight = self._flights[event.name] = _Flight(event.name, now)
                flight.bytes = event.done if event.state == START else 0
            flight.ended = now
            flight.state = event.state
            if event.source and event.state != WAIT:
                flight.source = event.source
            if event.state in (BYTES, DONE) and event.done > flight.bytes:
                self._moved.append((now, event.done - flight.bytes))
                flight.bytes = event.done
        self._then(event)

    def svg(self) -> str:
        """Return the picture as SVG text."""
        flights = sorted(self._flights.values(), key=lambda f: f.began - f.ended)[:_MOST_ROWS]
        flights.sort(key=lambda flight: flight.began)
        span = max([f.ended for f in flights], default=0.0) or 1e-3
        scale = (_WIDTH - _LEFT - 20) / span
        sources = list(dict.fromkeys(f.source for f in flights if f.source))
        height = _CHART + 60 + _ROW * len(flights) + 16 * (len(sources) + 1)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
            f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="10">',
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            *self._chart(span, scale),
        ]
        for i, flight in enumerate(flights):
            parts += self._row(flight, _CHART + 50 + i * _ROW, scale, sources)
        for i, source in enumerate(sources):
            y = _CHART + 60 + _ROW * len(flights) + 16 * i
            parts.append(f'<rect x="10" y="{y}" width="10" height="10" fill="{_colour(i)}"/>')
            parts.append(f'<text x="25" y="{y + 9}">{_escape(source)}</text>')
        return "\n".join([*parts, "</svg>\n"])

    def _chart(self, span: float, scale: float) -> list[str]:
        """Draw the bit rate over time."""
        slots = 120
        sums = [0] * slots
        for at, count in self._moved:
            sums[min(slots - 1, int(at / span * slots))] += count
        rates = [count * 8 * slots / span / 1e6 for count in sums]
        top = max(rates) or 1.0
        bottom = _CHART + 20
        points = " ".join(
            f"{_LEFT + (i + 0.5) * span / slots * scale:.1f},{bottom - rate / top * _CHART:.1f}"
            for i, rate in enumerate(rates)
        )
        return [
            f'<text x="10" y="20">{top:.0f} Mbit/s at most</text>',
            f'<text x="10" y="34">{sum(sums) / 1e6:.1f} MB in {span:.2f} s</text>',
            f'<line x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - 20}" y2="{bottom}" stroke="#888"/>',
            f'<polyline points="{points}" fill="none" stroke="#333"/>',
            f'<text x="{_LEFT}" y="{bottom + 12}">0 s</text>',
            f'<text x="{_WIDTH - 20}" y="{bottom + 12}" text-anchor="end">{span:.2f} s</text>',
        ]

    def _row(self, flight: _Flight, y: int, scale: float, sources: list[str]) -> list[str]:
        x, width = _LEFT + flight.began * scale, max(1.0, (flight.ended - flight.began) * scale)
        failed = flight.state == FAILED
        index = sources.index(flight.source) if flight.source in sources else 0
        fill = "#bbbbbb" if failed else _colour(index)
        label = flight.name if len(flight.name) <= 36 else "…" + flight.name[-35:]
        title = f"{flight.name}: {flight.bytes} bytes, {flight.ended - flight.began:.3f} s"
        title += f" from {flight.source}" + (", failed" if failed else "")
        return [
            f'<text x="10" y="{y + 9}">{_escape(label)}</text>',
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 3}" fill="{fill}">'
            f"<title>{_escape(title)}</title></rect>",
        ]

    def write(self, path: str) -> None:
        """Write the picture to a file.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        fs.write_atomic(path, self.svg().encode())


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _escape(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;")
