"""Events and the bars that draw them."""

from __future__ import annotations

import io
import threading

import pytest

from pkgdata.base.progress import (
    BYTES,
    FAILED,
    HIT,
    LARGE,
    RETRY,
    START,
    WAIT,
    Bar,
    Bars,
    Event,
    Lines,
    ended,
    silent,
    view,
)


class Drawn:
    """A bar of the user's own."""

    def __init__(self):
        self.n = 0

    def update(self, count):
        self.n += count


def test_an_ended_object_is_done_or_failed():
    assert ended("a", 3).state == "done"
    assert ended("a", 3, ValueError()).state == FAILED
    assert ended("a", 3).done == ended("a", 3).total == 3


def test_a_callable_is_its_own_view():
    assert view(print) is print
    assert view(print, setting=False) is print


@pytest.mark.parametrize(
    ("progress", "setting", "drawn"),
    [
        (None, None, False),
        (True, None, True),
        (False, None, False),
        (None, True, True),
        (None, False, False),
        (False, True, False),
        (True, False, "lines"),  # not a terminal
        ("auto", None, "lines"),
    ],
)
def test_what_the_argument_and_the_setting_ask_for(progress, setting, drawn):
    kind = {True: Bars, "lines": Lines}.get(drawn)
    found = view(progress, setting=setting)
    assert isinstance(found, kind) if kind else found is silent


def test_one_bar_counts_bytes_and_objects(capsys):
    with Bar("copied", files=2, total=30) as bar:
        bar(Event("a", START, 0, 10))
        bar(Event("a", BYTES, 5, 10))
        bar(Event("a", WAIT, 7, 10, "process 42"))
        bar(ended("a", 10))
        bar(Event("b", HIT, 20, 20))
    shown = capsys.readouterr().err
    assert "copied" in shown
    assert "30.0/30.0" in shown
    assert "2/2 files" in shown


def test_what_failed_or_begins_again_is_not_counted():
    drawn = Drawn()
    with Bar("copied", drawn=drawn) as bar:
        bar(Event("a", BYTES, 5, 10))
        bar(Event("a", START, 0, 10))
        assert drawn.n == 0
        bar(Event("a", BYTES, 8, 10))
        bar(ended("b", 3))
        assert drawn.n == 11
        bar(ended("a", 10, ValueError()))
    assert drawn.n == 3


def test_one_bar_may_count_objects_alone():
    drawn = Drawn()
    bar = Bar("listed", files=3, in_bytes=False, drawn=drawn)
    bar(Event("a", BYTES, 500, 1000))
    bar(ended("a", 1000))
    bar.update(2)
    assert drawn.n == 3


def test_a_hidden_bar_draws_nothing(capsys):
    with Bar("copied", shown=False) as bar:
        bar(ended("a", 10))
        bar.update(1)
    assert capsys.readouterr().err == ""


def test_a_batch_has_one_bar_and_large_objects_have_their_own(capsys):
    bars = Bars(files=2, total=LARGE + 5)
    bars(Event("dir/large", START, 0, LARGE))
    bars(Event("dir/large", WAIT, 0, LARGE, "process 42"))
    bars(ended("dir/large", LARGE))
    bars(ended("dir/small", 5))
    shown = capsys.readouterr().err
    assert "all files" in shown
    assert "large" in shown
    assert "small" not in shown
    assert "2/2 files" in shown


def test_a_single_object_has_a_bar(capsys):
    bars = Bars()
    bars(Event("dir/a", START, 0, None))
    bars(Event("dir/a", BYTES, 5, 10))
    bars(ended("dir/a", 10))
    shown = capsys.readouterr().err
    assert "a: 100%" in shown
    assert "all files" not in shown


def test_bytes_that_were_here_are_no_speed():
    bars = Bars()
    bars(Event("a", START, 80_000_000, 100_000_000))
    bars(Event("a", BYTES, 80_000_100, 100_000_000))
    (bar,) = bars._bars.values()
    assert bar.n == 80_000_100
    assert bar.n - bar.initial == 100
    bars(Event("a", START, 0, 100_000_000))
    assert (bar.n, bar.initial) == (0, 0), "a server that gives no ranges begins again"
    bars(Event("a", WAIT, 500, 100_000_000, "process 42"))
    assert bar.n - bar.initial == 0, "what another process brought"
    bars(ended("a", 100_000_000))


def test_over_a_batch_bytes_that_were_here_are_no_speed():
    bar = Bar("all files", files=2, total=1000)
    bar(Event("a", START, 400, 500))
    bar(Event("b", HIT, 500, 500))
    assert (bar._bar.n, bar._bar.initial) == (900, 900)
    bar(Event("a", BYTES, 450, 500))
    assert bar._bar.n - bar._bar.initial == 50
    bar(ended("a", 500))


@pytest.mark.parametrize(
    "events",
    [
        [Event("a", START, 80, 100), Event("a", FAILED)],
        [Event("a", START, 80, 100), Event("a", BYTES, 90, 100), Event("a", FAILED)],
        [Event("a", START, 80, 100), Event("a", BYTES, 0, 100)],
        [Event("a", START, 80, 100), Event("a", RETRY, 80, 100), Event("a", START, 0, 100)],
        [Event("a", HIT, 80, 80), Event("a", START, 0, 100)],
        [Event("a", START, 80, 100), Event("a", WAIT, 10, 100, "another"), ended("a", 100)],
    ],
)
def test_no_speed_is_below_zero(clock, capsys, events):
    bar, bars, lines = Bar("all files", files=9, total=1000), Bars(), Lines("", 9, 1000)
    for event in events:
        for one in (bar, bars, lines):
            one(event)
        for drawn in (bar._bar, *bars._bars.values()):
            assert drawn.n - drawn.initial >= 0
    assert lines._bytes - lines._said_bytes >= 0
    bar.close()
    clock.after(10, lines)
    assert "-" not in capsys.readouterr().err.replace("all files:", "").rpartition("pkgdata:")[2]


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ValueError("closed file")])
def test_a_screen_that_breaks_ends_no_download(monkeypatch, error):
    class Broken(io.StringIO):
        def write(self, _):
            raise error

    monkeypatch.setattr("sys.stderr", Broken())
    bars = Bars(files=1, total=10)
    bars(Event("a", START, 0, 10))
    bars(ended("a", 10))


def test_without_a_screen_nothing_is_drawn(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    assert view(True) is silent
    assert view(None, setting="auto") is silent


# -- what is said while nothing moves -----------------------------------------------------------


class Clock:
    """Stands in for the clock of the views."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("pkgdata.base.progress.time.monotonic", lambda: self.now)

    def after(self, seconds, view):
        self.now += seconds
        view.tick(self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


URL = "https://data.example.org/maps/"


def test_off_a_terminal_a_long_transfer_has_a_line_every_ten_seconds(clock, capsys):
    lines = Lines("")
    lines(Event("map.fits", START, 20_000_000, 100_000_000, URL))  # resumed
    clock.after(9, lines)
    assert capsys.readouterr().err == ""
    lines(Event("map.fits", BYTES, 40_000_000, 100_000_000, URL))
    clock.after(1, lines)
    said = "pkgdata: map.fits: 40 MB of 100 MB, 2 MB/s, 30 s left\n"
    assert capsys.readouterr().err == said
    clock.after(10, lines)
    assert capsys.readouterr().err == (
        "pkgdata: map.fits: 40 MB of 100 MB, no answer from data.example.org for 11 s\n"
    )
    lines(ended("map.fits", 100_000_000))
    assert not lines._last


def test_a_line_about_a_batch(clock, capsys):
    lines = Lines("", 3, 300)
    lines(Event("a", HIT, 100, 100))
    lines(Event("b", START, 0, 100, URL))
    lines(ended("b", 100))
    lines(Event("c", START, 0, 100, URL))
    lines(Event("c", BYTES, 50, 100, URL))
    clock.after(10, lines)
    assert "2 of 3 files, 250 B of 300 B, 15 B/s, 3.3 s left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            Event("a", START, 0, 9, URL, 2, 5),
            "no answer from data.example.org for 12 s, try 2 of 5",
        ),
        (Event("a", RETRY, 0, 9, "h: status 503", 1, 5), "h: status 503, try 1 of 5"),
        (Event("a", WAIT, 0, 9, "process 42"), "waiting for process 42"),
        (Event("a", START, 0, 9), "no answer for 12 s"),
    ],
)
def test_a_bar_says_why_nothing_moves(clock, capsys, event, said):
    for bar in (Bars(), Bar("copied", files=1, total=9)):
        bar(event)
        clock.after(12, bar)
        assert f"a ({said}): " in capsys.readouterr().err.replace("copied (", "a (")
        bar(Event("a", BYTES, 1, 9, URL))
        clock.after(1, bar)
        bar(ended("a", 9))
        assert said not in capsys.readouterr().err.rpartition("\r")[2]


def test_quiet_draws_nothing(monkeypatch):
    monkeypatch.setattr("pkgdata.base.text.QUIET", True)
    assert view(True) is silent
    assert view(None, setting="auto") is silent


def test_one_thread_looks_at_all_views():
    lines = [Lines("") for _ in range(5)]
    for one in lines:
        one(Event("a", START, 0, 9, URL))
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("pkgdata-progress") == 1
    for one in lines:
        one(ended("a", 9))
