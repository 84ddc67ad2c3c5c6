"""The picture of a batch: what is recorded, and that it can be drawn."""

from __future__ import annotations

import hashlib
import threading
import xml.etree.ElementTree as ElementTree

import pytest
from faults import FaultServer

import pkgdata
from pkgdata import Digest, Registry
from pkgdata.base.progress import BYTES, DONE, FAILED, HIT, START, WAIT, Event
from pkgdata.cli import copying
from pkgdata.cli.copying import Timeline
from pkgdata.core.registry import Entry
from pkgdata.stores import http

SVG = "{http://www.w3.org/2000/svg}"
MIRRORS = ("https://one.example/", "https://two.example/")


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def play(*events: tuple[float, Event]) -> tuple[Timeline, list[Event]]:
    """Let events happen at times; return the record and what was passed on."""
    clock, passed = Clock(), []
    found = Timeline(passed.append, clock)
    for at, event in events:
        clock.now = 100.0 + at
        found(event)
    return found, passed


def parse(found: Timeline) -> ElementTree.Element:
    root = ElementTree.fromstring(found.svg())
    assert root.tag == f"{SVG}svg"
    return root


def titles(root: ElementTree.Element) -> list[str]:
    return [title.text for title in root.iter(f"{SVG}title")]


def texts(root: ElementTree.Element) -> list[str]:
    return [text.text for text in root.iter(f"{SVG}text")]


def bars(root: ElementTree.Element) -> list[ElementTree.Element]:
    """Return the bars of the files, which alone have a title."""
    return [rect for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]


def transfer(name: str, begin: float, end: float, size: int, source: str = MIRRORS[0]):
    return [
        (begin, Event(name, START, 0, size, source)),
        ((begin + end) / 2, Event(name, BYTES, size // 2, size, source)),
        (end, Event(name, DONE, size, size)),
    ]


def test_nothing_happened():
    found, passed = play()
    root = parse(found)
    assert passed == []
    assert bars(root) == []
    assert "0.0 MB in 0.00 s" in texts(root)


def test_events_are_passed_on_as_they_are():
    events = transfer("a", 0, 1, 100)
    _, passed = play(*events)
    assert passed == [event for _, event in events]


def test_each_file_is_a_bar_from_its_begin_to_its_end():
    found, _ = play(
        *transfer("a.fits", 0, 2, 3_000_000), *transfer("b.fits", 2, 4, 1_000_000, MIRRORS[1])
    )
    root = parse(found)
    assert titles(root) == [
        f"a.fits: 3000000 bytes, 2.000 s from {MIRRORS[0]}",
        f"b.fits: 1000000 bytes, 2.000 s from {MIRRORS[1]}",
    ]
    first, second = bars(root)
    assert float(first.get("x")) + float(first.get("width")) == pytest.approx(
        float(second.get("x")), abs=0.2
    )
    assert float(first.get("width")) == pytest.approx(float(second.get("width")), abs=0.2)
    assert first.get("fill") != second.get("fill"), "each mirror has its colour"
    assert {"4.0 MB in 4.00 s", *MIRRORS} <= set(texts(root))


def test_failures_are_grey_and_say_so():
    found, _ = play(
        (0, Event("a", START, 0, 10, MIRRORS[0])),
        (1, Event("a", FAILED)),
        *transfer("b", 1, 2, 10),
    )
    failed, good = bars(parse(found))
    assert failed.get("fill") == "#bbbbbb" != good.get("fill")
    assert failed.find(f"{SVG}title").text.endswith(", failed")


def test_resumed_bytes_are_not_counted_again():
    found, _ = play(
        (0, Event("a", START, 1_000_000, 3_000_000, MIRRORS[0])),
        (1, Event("a", BYTES, 2_000_000, 3_000_000, MIRRORS[0])),
        (2, Event("a", DONE, 3_000_000, 3_000_000)),
    )
    assert "2.0 MB in 2.00 s" in texts(parse(found))


def test_bytes_that_are_fetched_again_do_not_count_backwards():
    found, _ = play(
        (0, Event("a", START, 0, 2_000_000, MIRRORS[0])),
        (1, Event("a", BYTES, 1_500_000, 2_000_000, MIRRORS[0])),
        (2, Event("a", START, 0, 2_000_000, MIRRORS[1])),
        (3, Event("a", BYTES, 500_000, 2_000_000, MIRRORS[1])),
        (4, Event("a", DONE, 2_000_000, 2_000_000)),
    )
    root = parse(found)
    assert "2.0 MB in 4.00 s" in texts(root)
    assert titles(root) == [f"a: 2000000 bytes, 4.000 s from {MIRRORS[1]}"]


def test_who_is_waited_for_is_no_mirror():
    found, _ = play(
        (0, Event("a", WAIT, 5, 10, "process 42")),
        (1, Event("a", DONE, 10, 10)),
        (1, Event("b", HIT)),
    )
    root = parse(found)
    assert not any("process 42" in text for text in titles(root) + texts(root))


@pytest.mark.parametrize(
    "name",
    [
        "a<b>&\"c'.fits",
        "]]>.txt",
        "<!-- -->",
        "maps/ü/名前.fits",
        "&amp;",
        "x" * 500,
        "deep/" * 40 + "<end>.txt",
    ],
)
def test_names_and_mirrors_are_escaped(name):
    source = "https://h.example/?a=1&b=<2>"
    root = parse(play(*transfer(name, 0, 1, 10, source))[0])
    assert titles(root) == [f"{name}: 10 bytes, 1.000 s from {source}"]
    (label,) = [
        text for text in texts(root) if text.lstrip("…") and name.endswith(text.lstrip("…"))
    ]
    assert len(label) <= 36
    assert source in texts(root)


def test_of_very_many_the_longest_are_drawn(monkeypatch):
    monkeypatch.setattr(copying, "_MOST_ROWS", 5)
    events = [event for i in range(50) for event in transfer(f"f{i:02}", i, i + 1 + i % 10, 10)]
    drawn = titles(parse(play(*sorted(events, key=lambda pair: pair[0]))[0]))
    assert [title[:3] for title in drawn] == ["f09", "f19", "f29", "f39", "f49"]


def test_a_picture_is_no_larger_than_its_frame():
    root = parse(play(*(e for i in range(30) for e in transfer(f"f{i}", i, i + 3, 10)))[0])
    width, height = float(root.get("width")), float(root.get("height"))
    assert root.get("viewBox") == f"0 0 {width:g} {height:g}"
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("x", 0)) + float(rect.get("width")) <= width
        assert float(rect.get("y", 0)) + float(rect.get("height")) <= height
    (line,) = root.iter(f"{SVG}polyline")
    for point in line.get("points").split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= width
        assert 0 <= y <= height


def test_many_threads_at_once(tmp_path):
    counted = []
    found = Timeline(counted.append)

    def work(number: int) -> None:
        for done in range(200):
            found(Event(f"f{number}", BYTES, done, 200, MIRRORS[number % 2]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1600
    assert all(": 199 bytes" in title for title in titles(parse(found)))
    found.write(str(tmp_path / "batch.svg"))
    assert (tmp_path / "batch.svg").read_bytes() == found.svg().encode()


def test_a_real_batch():
    files = {f"dir & co/file <{i}>.bin": bytes([i]) * 5000 for i in range(60)}
    entries = [
        Entry(name, Digest("sha256", hashlib.sha256(c).hexdigest()), len(c))
        for name, c in files.items()
    ]
    with FaultServer(dict(files)) as server:
        data = pkgdata.PackageData("p", dataurl=server.url, registry=Registry(entries))
        found = Timeline(lambda event: None)
        data.fetch(progress=found)
        root = parse(found)
    for session in http._sessions.values():
        session.close()
    http._sessions.clear()
    assert len(bars(root)) == len(files)
    assert {title.partition(": ")[0] for title in titles(root)} == set(files)
    assert all(": 5000 bytes" in title and server.url in title for title in titles(root))
    assert any(text.startswith("0.3 MB in ") for text in texts(root))


def test_why_a_source_failed_is_no_source():
    timeline = Timeline()
    timeline(Event("a", "start", 0, 9, "https://one/"))
    timeline(Event("a", "retry", 0, 9, "one: status 503", 1, 5))
    timeline(Event("a", "done", 9, 9))
    assert "https://one/" in timeline.svg()
    assert "503" not in timeline.svg()
