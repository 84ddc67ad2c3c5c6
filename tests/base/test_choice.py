"""Which names are taken: patterns as in a .gitignore file."""

import pytest

from pkgdata.base.text import Choice
from pkgdata.errors import ConfigError

NAMES = [
    "a.csv",
    "b.tmp",
    "old/a.csv",
    "old/b.tmp",
    "sub/old/c.csv",
    "keep.tmp",
    "#x#",
    "a [1].csv",
]

CHOICES = [
    ((), (), NAMES),
    (["*.tmp"], (), ["a.csv", "old/a.csv", "sub/old/c.csv", "#x#", "a [1].csv"]),
    ("*.tmp", (), ["a.csv", "old/a.csv", "sub/old/c.csv", "#x#", "a [1].csv"]),
    (["/old/"], (), ["a.csv", "b.tmp", "sub/old/c.csv", "keep.tmp", "#x#", "a [1].csv"]),
    (["old/", "*.tmp", "!keep.tmp"], (), ["a.csv", "keep.tmp", "#x#", "a [1].csv"]),
    ((), ["*.tmp"], ["b.tmp", "old/b.tmp", "keep.tmp"]),
    ((), "old/", ["old/a.csv", "old/b.tmp", "sub/old/c.csv"]),
    (["*.tmp"], ["old/"], ["old/a.csv", "sub/old/c.csv"]),
    (["*"], ["*.tmp"], ["b.tmp", "old/b.tmp", "keep.tmp"]),
    (["#*"], ["#*", "sub/**"], ["sub/old/c.csv"]),
    (["**/a*.csv"], (), ["b.tmp", "old/b.tmp", "sub/old/c.csv", "keep.tmp", "#x#"]),
    ([r"a \[1\].csv"], ["*.csv"], ["a.csv", "old/a.csv", "sub/old/c.csv"]),
]


@pytest.mark.parametrize(("exclude", "include", "expected"), CHOICES)
def test_the_names_that_are_taken(exclude, include, expected):
    assert [*filter(Choice(exclude, include), NAMES)] == expected


JUNK = [".git/config", "sub/.git/HEAD", ".DS_Store", "d/Thumbs.db", "a.csv~", "m/__pycache__/m.pyc"]


def test_junk_is_left_out_where_that_is_wanted_and_said():
    choice = Choice(junk=True)
    assert [*filter(choice, [*JUNK, ".gitignore", "git/x"])] == [".gitignore", "git/x"]
    assert choice.note().startswith("6 files left out: .DS_Store, .git/config, a.csv~ and 3 more")
    assert [*filter(Choice(), JUNK)] == JUNK
    assert Choice().note() == ""


def test_junk_can_be_taken_by_name():
    assert [*filter(Choice(["!.git/"], junk=True), JUNK)] == JUNK[:2]
    assert [*filter(Choice(include=["sub/"], junk=True), JUNK)] == []
    assert [*filter(Choice(["!*"], junk=True), JUNK)] == JUNK


@pytest.mark.parametrize("line", ["", " ", "!", "a\\"])
def test_what_is_no_pattern_is_refused(line):
    with pytest.raises(ConfigError, match="pattern"):
        Choice([line])
