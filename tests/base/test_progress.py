"""Events and the bars that draw them."""

from __future__ import annotations

import io

import pytest

from pkgdata.base.progress import (
    BYTES,
    FAILED,
    HIT,
    LARGE,
    START,
    WAIT,
    Bar,
    Bars,
    Event,
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
        (True, False, False),  # not a terminal
        ("auto", None, False),
    ],
)
def test_what_the_argument_and_the_setting_ask_for(progress, setting, drawn):
    assert isinstance(view(progress, setting=setting), Bars) is drawn
    assert (view(progress, setting=setting) is silent) is not drawn


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
