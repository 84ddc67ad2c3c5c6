"""``cp``, ``mv`` and ``sync``, and the picture that ``--timeline`` draws."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from ..base import fs, text, urls
from ..base.config import conf
from ..base.progress import BYTES, DONE, FAILED, RETRY, START, WAIT, Bar, Event, silent, wanted
from ..base.report import Tally
from ..bulk import planning
from ..bulk.addresses import Options
from ..bulk.commands import Copy, Sync, read
from ..cluster import dask
from ..errors import PkgdataError, escaped
from ..stores.copying import Copied


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    cp = text.command(commands, "cp", _cp, "copy files and objects between any places")
    _sources(cp)
    cp.add_argument(
        "-c",
        "--compression",
        choices=["same", "none", "gzip", "br", "zstd"],
        default="same",
        metavar="HOW",
        help="store the copies so: same (default), none, gzip, br, zstd",
    )
    cp.add_argument("--level", type=int, metavar="N", help="compression level")
    cp.add_argument(
        "--job",
        metavar="FILE",
        help="record progress in FILE, so that the copy can be resumed or shared",
    )
    cp.add_argument("--timeline", metavar="FILE.svg", help="draw when each object was in flight")
    cp.add_argument(
        "--on",
        metavar="SCHEDULER",
        help="copy on the workers of Dask: tcp://HOST:8786, or its scheduler.json",
    )
    _common(cp)

    about = "move files and objects"
    mv = text.command(commands, "mv", _mv, about)
    _sources(mv)
    _common(mv)
    mv.add_argument(
        "--lossy",
        action="store_true",
        help="move objects even if DST cannot keep their tags or storage class",
    )
    mv.set_defaults(job=None, timeline=None, on=None, compression="same")

    sync = text.command(commands, "sync", _sync, "make a folder equal another: copy what differs")
    sync.add_argument("source", metavar="SRC", help="folder or prefix")
    sync.add_argument("destination", metavar="DST", help="folder or prefix")
    sync.add_argument("--delete", action="store_true", help="remove what SRC does not have")
    sync.add_argument("--allow-empty", action="store_true", help="--delete even if SRC is empty")
    sync.add_argument("--checksum", action="store_true", help="compare digests; reads files")
    sync.add_argument("--size-only", action="store_true", help="compare only sizes")
    sync.add_argument("--check", action="store_true", help="like --dry-run; exit 3 if they differ")
    _common(sync, removes=True)


def _sources(parser: Any) -> None:
    parser.add_argument("sources", nargs="+", metavar="SRC", help="path or URL; - reads a list")
    text.add_null(parser)
    parser.add_argument("destination", metavar="DST", help="path or URL; - prints the contents")
    parser.add_argument("-r", "--recursive", action="store_true", help="include folders")
    parser.add_argument(
        "-n",
        "--no-clobber",
        "--if-absent",
        dest="if_absent",
        action="store_true",
        help="skip what exists in DST",
    )
    parser.add_argument("--base", metavar="DIR", help="with -: names are relative to DIR")
    parser.add_argument("--literal", action="store_true", help="* and ? are plain characters")


def _common(parser: Any, removes: bool = False) -> None:
    text.add_choice(parser, removes)
    text.add_service(parser, "read SRC without credentials")
    parser.add_argument(
        "-p", "--parallel", type=int, default=1, metavar="N", help="processes; 0: one per core"
    )
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="draw a bar")
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")


def _options(args: Namespace, move: bool = False) -> Options:
    given = {name: getattr(args, name) for name in Options._fields if hasattr(args, name)}
    given["parallel"] = args.parallel if args.parallel > 0 else os.cpu_count() or 1
    return Options(**given, service=text.service(args))._replace(move=move)


# -- cp and mv ---------------------------------------------------------------------------------


def _cp(args: Namespace) -> int:
    _check(args)
    path = args.destination
    if path == "-":
        return _write(args, sys.stdout.buffer)
    # a standard stream may be a plain file, which is to be written on and not replaced
    if path.startswith(("/dev/stdout", "/dev/stderr", "/dev/fd/")) or planning.is_special(path):
        with open(path, "wb") as file:
            return _write(args, file)
    return _copy(args, move=False)


def _mv(args: Namespace) -> int:
    _check(args)
    if args.destination == "-" or planning.is_special(args.destination):
        args.usage("mv cannot write to standard output; cp can")
    return _copy(args, move=True)


def _check(args: Namespace) -> None:
    """Refuse options that contradict each other; ends the process."""
    if "-" in args.sources and len(args.sources) > 1:
        args.usage("- must be the only SRC: it reads the list of all sources")
    if args.sources != ["-"] and (args.base is not None or args.null):
        args.usage("--base and -0 are for a list of sources (-)")
    if args.job and (len(args.sources) > 1 or args.dry_run):
        args.usage("--job takes one source and no --dry-run")
    if args.on and args.parallel != 1:
        args.usage("--on and -p exclude each other: the workers are those of the cluster")
    if args.destination == "-" and (
        args.compression not in ("same", "none")
        or any((args.job, args.timeline, args.dry_run, args.if_absent, args.on))
    ):
        args.usage("standard output gets decoded bytes, and takes none of these options")


def _write(args: Namespace, out: Any) -> int:
    for block in read(args.sources, _options(args), _listing(args), args.base):
        out.write(block)
    out.flush()
    return 0


def _listing(args: Namespace) -> Iterable[str] | None:
    return text.lines(args.null) if args.sources == ["-"] else None


def _copy(args: Namespace, move: bool) -> int:
    if not args.on:
        return _copy_with(_options(args, move), args)
    with dask.client(args.on) as client:
        return _copy_with(_options(args, move)._replace(on=client), args)


def _copy_with(options: Options, args: Namespace) -> int:
    copy = Copy(args.sources, args.destination, options, _listing(args), args.base)
    if args.dry_run:
        for old, new in copy.pairs():
            text.say(f"{old} -> {new}")
        return 0
    verb, began = "moved" if options.move else "copied", time.monotonic()
    with _bar(verb, args) as bar:
        if args.timeline:
            _run_timed(copy, bar, args.timeline, workers=options.parallel > 1 or bool(args.on))
        else:
            copy.run(bar)
    tally = copy.tally
    if copy.single and tally.errors:
        raise tally.errors[0]
    if copy.single and not (tally.done or tally.kept):
        return 0  # a pipe, whose bytes nobody counts
    return _end(copy.tally, verb, args, began)


def _bar(verb: str, args: Namespace) -> Bar:
    shown = wanted(conf.progress if args.progress is None else args.progress)
    return Bar(verb, shown=shown, delay=0 if args.progress else 0.5)


def _run_timed(copy: Copy, bar: Bar, path: str, workers: bool) -> None:
    timeline = Timeline(bar)
    try:
        if workers:  # these report a copy when it has ended
            copy.run(bar, timeline.add)
        else:
            copy.run(timeline)
    finally:
        timeline.write(path)


# -- sync --------------------------------------------------------------------------------------


def _sync(args: Namespace) -> int:
    if args.size_only and args.checksum:
        args.usage("--size-only and --checksum exclude each other")
    if not args.delete and (args.allow_empty or args.max_delete is not None):
        args.usage("--allow-empty and --max-delete belong to --delete")
    sync = Sync(
        args.source,
        args.destination,
        _options(args),
        delete=args.delete,
        allow_empty=args.allow_empty,
        max_delete=args.max_delete,
        checksum=args.checksum,
        size_only=args.size_only,
    )
    if args.dry_run or args.check:
        return _print_changes(sync, args.check)
    began = time.monotonic()
    with _bar("copied", args) as bar:
        sync.run(bar)
    note = ""
    if sync.extra and sync.tally.failed and not sync.tally.removed:
        note = "; nothing was removed, since not everything could be copied"
    return _end(sync.tally, "copied", args, began, note)


def _print_changes(sync: Sync, check: bool) -> int:
    count = 0
    for old, new, reason in sync.changes():
        count += 1
        text.say(f"copy {old} -> {new} ({reason})" if new else f"remove {old}")
    text.note(f"{count} to do, {sync.tally.unchanged} unchanged")
    return 3 if check and count else 0


def _end(tally: Tally, verb: str, args: Namespace, began: float, note: str = "") -> int:
    """Print what became of the copies."""
    if tally.failed:
        total = tally.failed + tally.done + tally.kept
        rows = [f"  {_first_line(error)}" for error in tally.errors]
        if tally.failed > len(rows):
            rows.append(f"  … and {tally.failed - len(rows)} more")
        head = f"{tally.failed} of {total} objects could not be {verb}:"
        text.error("\n".join([head, *rows]))
    line = text.closing(
        verb,
        tally.done,
        tally.bytes or None,  # copies that the service itself makes are not counted
        noun="",
        place=f"to {urls.redact(args.destination)}",
        took=time.monotonic() - began,
        removed=tally.removed,
        already_there=tally.kept,
        unchanged=tally.unchanged,
        failed=tally.failed,
    )
    text.note(line + note)
    return 1 if tally.failed else 0


def _first_line(error: Exception) -> str:
    return (error.message if isinstance(error, PkgdataError) else str(error)).partition("\n")[0]


# -- timeline -------------------------------------------------------------------------------------

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
    """When each file was in flight, from which mirror, and the bit rate, as SVG.

    It is a view of progress that records events and passes each on to ``then``.
    """

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
            if event.source and event.state not in (WAIT, RETRY):
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
    found.text = escaped(text, but="") if text else text
    return found


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]
