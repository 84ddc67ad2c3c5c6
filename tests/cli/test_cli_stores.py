"""ls, du, rm, cat, head and touch, in this process."""

from __future__ import annotations

import errno
import gzip
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from shells import fill, stored, tree, write

import pkgdata
from pkgdata.stores import Store
from pkgdata.stores.other import MemoryStore

# -- ls and du ---------------------------------------------------------------------------------


@pytest.fixture
def listed(shell, mem):
    """Return a store with some objects and a folder with the same."""
    for name in ["p/a.txt", "p/ab.csv", "p/b/c.txt", "q.txt"]:
        Store(mem)[name] = b"12345"
        write(Path("dir") / name, b"12345")
    return mem


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([""], ["p/a.txt", "p/ab.csv", "p/b/c.txt", "q.txt"]),
        (["p/"], ["p/a.txt", "p/ab.csv", "p/b/c.txt"]),
        (["p/a"], ["p/a.txt", "p/ab.csv"]),
        (["p/a", "--shortpath"], ["a.txt", "ab.csv"]),
        (["p/", "--shortpath"], ["a.txt", "ab.csv", "b/c.txt"]),
        (["p/", "--flat"], ["p/a.txt", "p/ab.csv", "p/b/"]),
        (["--flat"], ["p/", "q.txt"]),
        (["p/*.txt"], ["p/a.txt"]),
        (["**.txt"], ["p/a.txt", "p/b/c.txt", "q.txt"]),
        (["*", "--flat"], ["p/", "q.txt"]),
        (["-e", "p/[ab]"], ["p/a.txt", "p/ab.csv", "p/b/c.txt"]),
        (["-e", "[pq]{1}", "--shortpath"], ["p/a.txt", "p/ab.csv", "p/b/c.txt", "q.txt"]),
        (["-e", "[pq][/.]*.txt"], ["p/a.txt"]),
        (["-e", "p/[a-c]/", "--shortpath"], ["b/c.txt"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_ls(shell, listed, words, expected):
    words = list(words)
    place = next((i for i, word in enumerate(words) if not word.startswith("-")), None)
    if place is None:
        words.insert(0, "")
        place = 0
    words[place] = f"{listed}/{words[place]}"
    short = "--shortpath" in words
    assert shell.lines("ls", *words) == [name if short else f"{listed}/{name}" for name in expected]


def test_ls_of_folders_and_files(shell, listed):
    assert shell.lines("ls", "dir/p") == ["dir/p/a.txt", "dir/p/ab.csv", "dir/p/b/c.txt"]
    assert shell.lines("ls", "dir/", "--flat") == ["dir/p/", "dir/q.txt"]
    assert shell.lines("ls", "dir/q.txt") == ["dir/q.txt"]
    assert shell.lines("ls", "-e", "dir/p/[ab]") == ["dir/p/a.txt", "dir/p/ab.csv", "dir/p/b/c.txt"]
    assert shell.lines("ls", "-", stdin=b"dir/q.txt\ndir/p/b/\n") == ["dir/q.txt", "dir/p/b/c.txt"]


def test_ls_of_nothing_is_an_error(shell, mem, listed):
    for place in (f"{listed}/x", f"{listed}/x/", f"{listed}/x*", "nowhere", "nowhere/"):
        assert shell("ls", place) == 1, place
        assert shell.out == ""
    assert shell.lines("ls", f"{mem}-empty") == []


def test_ls_prints_json_and_long_lines(shell, listed):
    found = json.loads("\n".join(shell.lines("ls", f"{listed}/p/", "--json")))
    names = ["p/a.txt", "p/ab.csv", "p/b/c.txt"]
    assert [row["name"] for row in found] == [f"{listed}/{name}" for name in names]
    assert {row["size"] for row in found} == {5}
    assert shell("ls", f"{listed}/none/", "--json") == 1
    assert json.loads(shell.out) == []
    row = shell.lines("ls", "-l", "dir/q.txt")[0]
    size, day, hour, name = row.split()
    assert (size, name) == ("5", "dir/q.txt")
    assert (len(day), len(hour)) == (10, 5)


def test_ls_prints_each_name_as_it_comes(shell, mem, monkeypatch):
    printed = []
    monkeypatch.setattr("pkgdata.base.text.say", printed.append)
    behind = []

    def endless(self, prefix="", flat=False):
        for i in range(50_000):
            behind.append(i - len(printed))
            yield f"{i:09}", pkgdata.stores.Info(1)

    monkeypatch.setattr(MemoryStore, "scan", endless)
    assert shell("ls", mem) == 0
    assert len(printed) == 50_000
    assert max(behind) == 0


def test_ls_escapes_control_characters(shell):
    write("dir/a\x1b[31mred")
    assert shell.lines("ls", "dir") == ["dir/a\\x1b[31mred"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_ls_prints_names_that_are_not_utf_8_as_they_are(shell):
    os.mkdir("dir")
    os.close(os.open(b"dir/\xff", os.O_CREAT))
    assert shell("ls", "dir") == 0
    assert shell.raw == b"dir/\xff\n"


def test_du(shell, listed):
    assert shell.lines("du", f"{listed}/p/") == [
        f"5\t{listed}/p/a.txt",
        f"5\t{listed}/p/ab.csv",
        f"5\t{listed}/p/b/c.txt",
    ]
    assert shell.lines("du", "-shc", "-N", f"{listed}/p", "dir") == [
        f"15 B\t{listed}/p",
        "20 B\tdir",
        "35 B\ttotal",
        "7\tobjects",
    ]
    assert shell.lines("du", "-s", f"{listed}/q.txt") == [f"5\t{listed}/q.txt"]
    assert json.loads("".join(shell.lines("du", "--json", f"{listed}/*.txt"))) == {
        "paths": [{"path": f"{listed}/*.txt", "bytes": 5, "objects": 1}],
        "bytes": 5,
        "objects": 1,
    }
    for place in ("nowhere", f"{listed}/nothing", f"{listed}/nothing/"):
        assert shell("du", place) == 1, place


# -- rm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["p/a.txt"], ["p/ab.csv", "p/b/c.txt", "q.txt"]),
        (["p/*.txt"], ["p/ab.csv", "p/b/c.txt", "q.txt"]),
        (["-r", "p/*"], ["q.txt"]),
        (["-r", "p"], ["q.txt"]),
        (["-r", "p/"], ["q.txt"]),
        (["-r", "q.txt"], ["p/a.txt", "p/ab.csv", "p/b/c.txt"]),
        (["-r", "--yes", ""], []),
        (["-f", "nothing"], ["p/a.txt", "p/ab.csv", "p/b/c.txt", "q.txt"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_rm(shell, listed, words, left):
    words = [f"{listed}/{word}" if not word.startswith("-") else word for word in words]
    before = [*stored(listed)]
    assert shell("rm", *words, "--dry-run") == 0
    assert shell.out.splitlines() == [f"{listed}/{n}" for n in before if n not in left]
    assert [*stored(listed)] == before
    assert shell("rm", *words) == 0
    assert [*stored(listed)] == left


@pytest.mark.parametrize("word", ["nothing", "nothing/*", "p/", "p", "", "nothing/"])
def test_rm_refuses(shell, listed, word):
    before = stored(listed)
    recursive = ["-r"] if word in ("", "nothing/") else []
    assert shell("rm", *recursive, f"{listed}/{word}") == 1
    assert shell.err.startswith("pkgdata: error: ")
    assert stored(listed) == before


def test_rm_takes_wildcards_literally_if_told(shell, listed):
    Store(listed)["p/*"] = b"star"
    assert shell("rm", "--literal", f"{listed}/p/*") == 0
    assert [*stored(listed)] == ["p/a.txt", "p/ab.csv", "p/b/c.txt", "q.txt"]


def test_rm_of_files(shell):
    fill("dir", ["a", "b", "c"])
    assert shell("rm", "dir/a", "dir/nothing", "dir/b") == 1  # the rest is done
    assert "no such file" in shell.err
    assert tree("dir") == {"c": b"c"}
    assert shell("rm", "dir") == 1
    assert shell("rm", "-r", "dir") == 0
    assert not os.path.exists("dir")
    for word in (".", "..", "/", "./"):
        assert shell("rm", "-r", word) == 1, word
        assert "refused" in shell.err


def test_rm_does_not_follow_links(shell):
    write("elsewhere/x")
    write("dir/a")
    os.symlink("../elsewhere", "dir/link")
    os.symlink("elsewhere", "link")
    assert shell("rm", "link") == 0
    assert shell("rm", "-r", "--dry-run", "dir") == 0
    assert shell.out.splitlines() == ["dir/a", "dir/link"]
    assert shell("rm", "-r", "dir") == 0
    assert os.listdir(shell.home) == ["elsewhere"]
    assert tree("elsewhere") == {"x": b"content"}


@pytest.mark.parametrize("pattern", ["**", "*", "**/*", "?**", "", "/"])
def test_rm_of_a_whole_bucket_wants_r_and_a_yes(shell, mem, monkeypatch, pattern):
    store = Store(mem)
    store["a"] = store["d/b"] = b"1"
    place = f"{mem}/{pattern}" if pattern else mem
    if pattern != "*":  # which is one level without -r
        assert shell("rm", "--yes", place) == 1
        assert "-r" in shell.err
    assert shell("rm", "-r", place) == 1
    assert "a whole bucket; nothing of it was removed" in shell.err
    answers = iter(["n", "y"])
    monkeypatch.setattr("pkgdata.base.text.ask", lambda question: next(answers) == "n")
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("pkgdata.cli.stores.sys", terminal)
    assert shell("rm", "-r", place) == 1
    assert len(stored(mem)) == 2
    assert shell("rm", "-r", place) == 0
    assert "2 removed" in shell.err
    assert stored(mem) == {}


def test_rm_counts_what_it_removed(shell, mem):
    store = Store(mem)
    store["a"] = b"1"
    assert shell("rm", "-f", f"{mem}/a", f"{mem}/nothing", "nothing") == 0
    assert shell.err.startswith("1 removed (in ")
    assert shell("rm", "-f", f"{mem}/nothing", f"{mem}/no/**", "nothing") == 0
    assert shell.err == "0 removed\n"
    assert shell("rm", "-", stdin=f"{mem}/nothing\n".encode()) == 0
    assert shell.err.startswith("1 removed, or were not there")


def test_rm_counts_nothing_that_could_not_be_removed(shell, monkeypatch):
    fill("dir", ["a", "b", "c"])
    real = os.unlink

    def busy(path, **_):
        if str(path).endswith("b"):
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        real(path)

    monkeypatch.setattr(os, "unlink", busy)
    assert shell("rm", "-r", "dir") == 1
    assert "2 removed" in shell.err
    assert "1 failed" in shell.err
    assert "dir/b" in shell.err
    assert list(tree("dir")) == ["b"]


def test_rm_of_a_list(shell, listed):
    lines = f"{listed}/p/a.txt\n{listed}/nothing\ndir/q.txt\ndir\n".encode()
    assert shell("rm", "-", stdin=lines) == 0
    assert [*stored(listed)] == ["p/ab.csv", "p/b/c.txt", "q.txt"]
    assert sorted(tree("dir")) == ["p/a.txt", "p/ab.csv", "p/b/c.txt"]


# -- cat, head, touch --------------------------------------------------------------------------


def test_cat(shell, mem):
    store = Store(mem)
    store["1"], store["2"] = b"one\xff", b"two"
    assert shell("cat", f"{mem}/2", f"{mem}/1") == 0
    assert shell.raw == b"twoone\xff"
    assert shell("cat", f"{mem}/*") == 0
    assert shell.raw == b"one\xfftwo"
    assert shell("cat", "-", stdin=f"{mem}/2\n".encode()) == 0
    assert shell.raw == b"two"
    assert shell("cat", f"{mem}/3") == 1


@pytest.mark.parametrize(
    ("span", "expected"),
    [("0-3", b"012"), ("3-", b"3456789"), ("-2", b"01"), ("8-20", b"89"), ("20-30", b"")],
)
def test_cat_range(shell, span, expected):
    write("x", b"0123456789")
    assert shell("cat", f"--range={span}", "x") == 0
    assert shell.raw == expected


def test_cat_of_stored_bytes(shell, mem):
    Store(mem).put("x", b"x" * 100, compress="gzip")
    assert shell("cat", "--raw", f"{mem}/x") == 0
    assert gzip.decompress(shell.raw) == b"x" * 100
    assert shell("cat", "-r", "0-2", f"{mem}/x") == 1  # no part of it can be decoded
    assert shell("cat", "--raw", "-r", "0-2", f"{mem}/x") == 0
    assert shell.raw == b"\x1f\x8b"


def test_a_long_range_is_read_in_pieces(shell, monkeypatch):
    content = os.urandom(1000)
    write("x", content)
    monkeypatch.setattr("pkgdata.cli.stores._PIECE", 64)
    assert shell("cat", "-r", "10-990", "x") == 0
    assert shell.raw == content[10:990]
    assert shell("cat", "-r", "10-", "x") == 0
    assert shell.raw == content[10:]


def test_head(shell, mem):
    Store(mem).put("x.json", b"{}" * 50, compress="gzip", cache_control="no-cache")
    found = dict(line.split(": ", 1) for line in shell.lines("head", f"{mem}/x.json"))
    assert found["Content-Type"] == "application/json"
    assert found["Content-Encoding"] == "gzip"
    assert found["Cache-Control"] == "no-cache"
    assert 0 < int(found["Content-Length"]) < 50
    write("a", b"12345")
    several = shell.lines("head", "a", f"{mem}/*")
    assert several[:2] == ["a", "  Content-Length: 5"]
    assert f"{mem}/x.json" in several
    assert shell("head", "--json", "a", f"{mem}/nothing") == 1
    found = json.loads(shell.out)
    assert found["a"]["Content-Length"] == 5
    assert found[f"{mem}/nothing"] is None


def test_touch_makes_what_is_not_there(shell, mem):
    Store(mem)["old"] = b"old"
    write("kept", b"kept")
    assert shell("touch", f"{mem}/old", f"{mem}/new*", "kept", "sub/new") == 0
    assert stored(mem) == {"old": b"old", "new*": b""}
    assert tree(shell.home) == {"kept": b"kept", "sub/new": b""}
