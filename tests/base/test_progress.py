"""Events and the bars that draw them."""

from __future__ import annotations

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
