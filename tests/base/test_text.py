"""Lines for people: sizes, durations, and the line that ends a command."""

from __future__ import annotations

import pytest

from pkgdata.base import text


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0.0123, "0.012 s"), (0.4, "0.4 s"), (12.3, "12 s"), (200, "3 min 20 s"), (7260, "2 h 1 min")],
)
def test_durations_for_people(count, shown):
    assert text.seconds(count) == shown


def test_the_closing_line_counts_what_happened():
    line = text.closing(
        *("fetched", 2, 25600),
        noun="file of planck",
        place="into /cache",
        took=0.4,
        already_there=3,
        failed=1,
    )
    first, rest = line.split("), ")
    assert first == "2 files of planck fetched into /cache (25.6 kB in 0.4 s, 64 kB/s"
    assert rest == "3 already there, 1 failed"


def test_the_closing_line_of_nothing_has_no_size_and_no_time():
    line = text.closing("fetched", 0, 0, place="into /cache", took=0.4, already_there=2, failed=0)
    assert line == "0 files fetched into /cache, 2 already there"


def test_one_file_is_no_files():
    assert text.closing("removed", 1, 5) == "1 file removed (5 B)"
    assert text.closing("copied", 1, noun="") == "1 copied"
