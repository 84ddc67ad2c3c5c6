"""Lines for people: sizes, durations, and the line that ends a command."""

from __future__ import annotations

import os
import sys

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


# -- tables ---------------------------------------------------------------------------------------

ROWS = [
    [
        "ok",
        "12.3 MB",
        "https://data.example.org/a/rather/long/path/to/the/maps",
        "maps/dust map.fits",
    ],
    [
        "wrong",
        "5 B",
        "file:///x",
        "expected 22 bytes, found 26; it is fetched again from elsewhere",
    ],
]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [50, 80, 200])
def test_a_table_fits_the_terminal_and_loses_nothing(columns, monkeypatch):
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    with open(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        text.table(["STATE", "SIZE", "MIRROR", "NAME"], ROWS)
        terminal.write("the end")
        terminal.flush()
        monkeypatch.undo()
        found = b""
        while not found.endswith(b"the end"):  # a terminal gives what has arrived so far
            found += os.read(ours, 100_000)
    os.close(ours)
    lines = found.decode().removesuffix("the end").splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].split() == ["STATE", "SIZE", "MIRROR", "NAME"]
    shown = "".join("".join(lines).split())
    assert len(shown) == sum(
        len("".join("".join(row).split())) for row in [*ROWS, lines[0].split()]
    )
    if columns == 200:
        assert len(lines) == 3


def test_what_a_program_reads_is_not_wrapped(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    text.table(["STATE", "SIZE", "MIRROR", "NAME"], ROWS)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_units_are_the_same_in_bars_and_in_lines(capsys):
    from pkgdata.base.progress import Bar, Event

    with Bar("copied", files=1, total=25_000_000) as bar:
        bar(Event("a", "done", 25_000_000, 25_000_000))
    assert "25.0M/25.0M" in capsys.readouterr().err
    assert text.size(25_000_000) == "25 MB"
