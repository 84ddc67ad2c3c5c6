"""The bulk commands: cp, mv, sync, ls, du, rm, cat, head, touch.

Most run in this process, where ``mem://`` lasts from one command to the next; those that need
signals, pipes or worker processes run as processes of their own.
"""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import pkgdata
from pkgdata import cli
from pkgdata.bulk import addresses
from pkgdata.errors import ConfigError, StoreError
from pkgdata.stores import Store
from pkgdata.stores.file import FileStore
from pkgdata.stores.memory import MemoryStore

ROOT = Path(pkgdata.__file__).parent.parent

#: Names that careless joining or quoting spoils.
NAMES = [
    "a.txt",
    "sub/b c.txt",
    "sub/per%20cent.txt",
    "sub/plus+.txt",
    "sub/ümläut-漢字.txt",
    "sub/sharp#.txt",
    "-dash",
]


class Shell:
    """Runs commands in this process, in a folder of its own."""

    def __init__(self, capsysbinary, monkeypatch, home):
        self._captured, self._patch = capsysbinary, monkeypatch
        self.home = home
        self.out = self.err = ""
        self.raw = b""

    def __call__(self, *words, stdin=b""):
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._captured.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as end:  # argparse's own way to refuse
            code = end.code
        found = self._captured.readouterr()
        self.raw, self.out, self.err = found.out, found.out.decode(errors="replace"), ""
        self.err = found.err.decode()
        return code

    def lines(self, *words, **options):
        assert self(*words, **options) == 0, self.err
        return self.out.splitlines()


@pytest.fixture
def shell(capsysbinary, monkeypatch, tmp_path):
    """Return a `Shell`; the working directory is an empty folder."""
    home = tmp_path / "here"
    home.mkdir()
    monkeypatch.chdir(home)
    return Shell(capsysbinary, monkeypatch, home)


@pytest.fixture
def mem():
    """Return the URL of an empty store of this process."""
    return f"mem://{uuid.uuid4().hex}"


def write(path, content=b"content"):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(folder):
    """Return the files of a folder with their bytes."""
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stored(url):
    store = Store(url)
    return {name: store.get(name) for name in store.list()}


def fill(folder, names=NAMES):
    for name in names:
        write(Path(folder) / name, name.encode())
    return {name: name.encode() for name in names}


# -- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "base", "name", "folder", "pattern"),
    [
        ("s3://b", "s3://b", "", True, ""),
        ("s3://b/", "s3://b", "", True, ""),
        ("s3://b/p/a b.txt", "s3://b", "p/a b.txt", False, ""),
        ("s3://b/p/%20", "s3://b", "p/%20", False, ""),
        ("s3://b/p/", "s3://b", "p", True, ""),
        ("s3://b/p/*.txt", "s3://b", "p", True, "p/*.txt"),
        ("s3://b/p?/x", "s3://b", "", True, "p?/x"),
        ("s3://https://h:9/b/p/x", "s3://https://h:9/b", "p/x", False, ""),
        ("s3://http://h/b", "s3://http://h/b", "", True, ""),
        ("az://acc.blob.core.windows.net/c/x", "az://acc.blob.core.windows.net/c", "x", False, ""),
        ("mem://m/x/y", "mem://m", "x/y", False, ""),
        ("https://h/d/a%20b.txt", "https://h/d/", "a b.txt", False, ""),
        ("https://h/d/?v=1", "https://h/d/?v=1", "", True, ""),
        ("https://h/d/x?v=*", "https://h/d/?v=*", "x", False, ""),
        ("sftp://h/d/x", "sftp://h/d", "x", False, ""),
        ("sftp://h/d/*/x", "sftp://h/d", "", True, "*/x"),
        (
            "github:o/r@v1/x.bin",
            "https://github.com/o/r/releases/download/v1/",
            "x.bin",
            False,
            "",
        ),
    ],
)
def test_address_of_a_url(text, base, name, folder, pattern):
    found = addresses.parse(text)
    assert (found.base, found.name, found.folder) == (base, name, folder)
    assert found.pattern == pattern
    assert not found.local


def test_address_of_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    for text, name, folder in [
        ("x*?.txt", "x*?.txt", False),
        ("dir", "", True),
        ("new/", "", True),
        (".", "", True),
        ("12:30.txt", "12:30.txt", False),
        ("note:1.txt", "note:1.txt", False),
        ((tmp_path / "a b%20").as_uri(), "a b%20", False),
    ]:
        found = addresses.parse(text)
        assert (found.local, found.name, found.folder) == (True, name, folder), text
        assert found.base.startswith(str(tmp_path))


@pytest.mark.parametrize("text", ["", "s3://", "s3:///x", "file://host/x", "a\0b"])
def test_a_malformed_address_is_refused(text):
    with pytest.raises(ConfigError):
        addresses.parse(text)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("p/*.txt", ["p/a.txt", "p/.txt"], ["p/q/a.txt", "p/a.txtx", "x/p/a.txt"]),
        ("p/**.txt", ["p/a.txt", "p/q/a.txt"], ["p/a.csv"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("a[b]*", ["a[b]", "a[b]x"], ["ab"]),
    ],
)
def test_wildcards(pattern, matching, other):
    match = addresses.compiled(pattern, False).fullmatch
    assert all(map(match, matching))
    assert not any(map(match, other))


def test_a_url_shows_no_password():
    shown = str(addresses.parse("https://me:secret@h/d/x"))
    assert shown == "https://***@h/d/x"


# -- cp ----------------------------------------------------------------------------------------

#: What is given, and where "dir" (which holds a.txt and sub/b.txt), "one.txt" end up.
PLACES = [
    (["one.txt", "NEW"], ["NEW"]),
    (["one.txt", "NEW/"], ["NEW/one.txt"]),
    (["one.txt", "dir/a.txt", "NEW/"], ["NEW/a.txt", "NEW/one.txt"]),
    (["-r", "dir", "NEW"], ["NEW/a.txt", "NEW/sub/b.txt"]),
    (["-r", "dir", "NEW/"], ["NEW/dir/a.txt", "NEW/dir/sub/b.txt"]),
    (["-r", "dir/", "NEW"], ["NEW/a.txt", "NEW/sub/b.txt"]),
    (["-r", "dir/", "NEW/"], ["NEW/a.txt", "NEW/sub/b.txt"]),
    (["-r", "dir", "one.txt", "NEW/"], ["NEW/dir/a.txt", "NEW/dir/sub/b.txt", "NEW/one.txt"]),
    (["-r", ".", "NEW/"], ["NEW/dir/a.txt", "NEW/dir/sub/b.txt", "NEW/one.txt"]),
]


@pytest.mark.parametrize(("words", "expected"), PLACES, ids=lambda value: " ".join(value))
@pytest.mark.parametrize("cloud", [False, True], ids=["folder", "store"])
def test_where_copies_go(shell, mem, tmp_path, words, expected, cloud):
    fill(shell.home, ["one.txt", "dir/a.txt", "dir/sub/b.txt"])
    place = mem if cloud else str(tmp_path / "there")
    *rest, target = words
    assert shell("cp", *rest, target.replace("NEW", f"{place}/NEW")) == 0, shell.err
    assert sorted(stored(mem) if cloud else tree(place)) == expected


#: The same from a store, which has no folders: only a slash, or -r and what is below, tells.
SOURCES = [
    (["S/one.txt", "NEW"], ["NEW"]),
    (["S/one.txt", "NEW/"], ["NEW/one.txt"]),
    (["-r", "S/one.txt", "NEW/"], ["NEW/one.txt"]),
    (["-r", "S/dir", "NEW/"], ["NEW/dir/a.txt", "NEW/dir/sub/b.txt"]),
    (["-r", "S/dir", "NEW"], ["NEW/a.txt", "NEW/sub/b.txt"]),
    (["-r", "S/dir/", "NEW/"], ["NEW/a.txt", "NEW/sub/b.txt"]),
    (["-r", "S", "NEW/"], ["NEW/dir/a.txt", "NEW/dir/sub/b.txt", "NEW/one.txt"]),
    (["S/dir/*.txt", "NEW"], ["NEW/a.txt"]),
    (["S/**.txt", "NEW/"], ["NEW/dir/a.txt", "NEW/dir/sub/b.txt", "NEW/one.txt"]),
    (["-r", "S/d*", "NEW/"], ["NEW/dir/a.txt", "NEW/dir/sub/b.txt"]),
    (["S/*/a.tx?", "NEW/"], ["NEW/dir/a.txt"]),
]


@pytest.mark.parametrize(("words", "expected"), SOURCES, ids=lambda value: " ".join(value))
def test_where_copies_from_a_store_go(shell, mem, words, expected):
    store = Store(mem)
    for name in ["one.txt", "dir/a.txt", "dir/sub/b.txt"]:
        store[name] = name.encode()
    words = [mem + word[1:] if word.startswith("S") else word for word in words]
    assert shell("cp", *words) == 0, shell.err
    assert sorted(tree(shell.home)) == expected


def test_an_existing_folder_is_copied_into(shell):
    write("a.txt")
    (shell.home / "there").mkdir()
    assert shell("cp", "a.txt", "there") == 0
    assert shell("cp", "-r", "there", "new") == 0
    assert shell("cp", "-r", "there", "new") == 0
    assert sorted(tree("new")) == ["a.txt", "there/a.txt"]


def test_names_survive(shell, mem):
    expected = fill("dir")
    assert shell("cp", "-r", "dir/", f"{mem}/p%20 ü/") == 0, shell.err
    assert {f"p%20 ü/{name}": content for name, content in expected.items()} == stored(mem)
    assert shell("cp", "-r", f"{mem}/p%20 ü/", "back") == 0
    assert tree("back") == expected


@pytest.mark.parametrize("source", ["dir", "dir/"])
def test_a_folder_without_r_is_refused(shell, mem, source):
    fill("dir")
    write("one.txt")
    assert shell("cp", "one.txt", source, f"{mem}/") == 1
    assert "is a folder" in shell.err
    assert "-r" in shell.err
    assert stored(mem) == {}


def test_a_name_that_is_a_folder_in_a_store_is_explained(shell, mem):
    Store(mem)["p/a.txt"] = b"a"
    for word in ("p", "p/"):
        assert shell("cp", f"{mem}/{word}", "out") == 1
        assert f"{mem}/p" in shell.err
        assert "-r" in shell.err
    assert shell("cp", f"{mem}/nothing", "out") == 1
    assert "no such object" in shell.err
    assert "-r" not in shell.err
    assert tree(shell.home) == {}


def test_several_sources_need_a_folder(shell, mem):
    fill(shell.home, ["a", "b"])
    assert shell("cp", "a", "b", f"{mem}/new") == 1
    assert f"{mem}/new/" in shell.err
    assert shell("cp", "a", "b", "c") == 1
    assert shell("cp", "-r", "a", "b") == 0  # a file in place of another
    assert shell("cp", "a", "b/") == 1
    assert "a file" in shell.err
    assert tree(shell.home) == {"a": b"a", "b": b"a"}


def test_a_folder_does_not_replace_a_file(shell):
    fill("dir", ["x"])
    write("file")
    assert shell("cp", "-r", "dir", "file") == 1
    assert (shell.home / "file").read_bytes() == b"content"


def test_nothing_is_copied_onto_itself(shell, mem):
    write("a", b"a")
    os.symlink("a", "link")
    Store(mem)["a"] = b"a"
    for source, target in [("a", "a"), ("a", "./a"), ("a", "."), ("a", "link")]:
        assert shell("cp", source, target) == 1, (source, target)
        assert "are the same" in shell.err
        assert shell("mv", source, target) == 1, (source, target)
    assert shell("mv", f"{mem}/a", f"{mem}/") == 1
    assert shell("mv", f"{mem}/a*", f"{mem}/") == 1
    assert tree(shell.home) == {"a": b"a", "link": b"a"}
    assert stored(mem) == {"a": b"a"}


def test_a_folder_is_not_copied_into_itself(shell, mem):
    fill("dir", ["x"])
    Store(mem)["p/x"] = b"x"
    os.symlink("dir", "link")
    for target in ("dir/sub/", "dir", "link/sub"):
        assert shell("cp", "-r", "dir", target) == 1
        assert "into itself" in shell.err
    assert shell("cp", "-r", f"{mem}/p", f"{mem}/p/q/") == 1
    assert shell("cp", "-r", mem, f"{mem}/p/") == 1
    assert tree("dir") == {"x": b"x"}
    assert stored(mem) == {"p/x": b"x"}


def test_wildcards_leave_out_their_own_copies(shell, mem):
    store = Store(mem)
    store["x"], store["copies/y"] = b"x", b"y"
    assert shell("cp", "-r", f"{mem}/**", f"{mem}/copies/") == 0
    assert stored(mem) == {"x": b"x", "copies/y": b"y", "copies/x": b"x"}


def test_a_link_as_destination_stays_a_link(shell):
    write("a", b"new")
    write("elsewhere/real", b"old")
    os.symlink("elsewhere/real", "link")
    assert shell("cp", "a", "link") == 0
    assert os.path.islink("link")
    assert tree("elsewhere") == {"real": b"new"}


def test_two_sources_of_one_copy(shell, mem):
    write("one/x", b"first")
    write("two/x", b"second")
    assert shell("cp", "one/x", "two/x", f"{mem}/") == 1
    assert "has the same copy" in shell.err
    assert stored(mem) == {"x": b"first"}


@pytest.mark.parametrize("option", ["-n", "--no-clobber", "--if-absent"])
@pytest.mark.parametrize("command", ["cp", "mv"])
def test_what_is_there_is_left_alone(shell, mem, option, command):
    fill("dir", ["x", "y"])
    Store(mem)["x"] = b"old"
    write("there/x", b"old")
    for target in (f"{mem}/", "there/"):
        assert shell("cp", "-r", option, "dir/", target) == 0
        assert "1 copied" in shell.err
        assert "1 already there" in shell.err
    assert stored(mem) == tree("there") == {"x": b"old", "y": b"y"}
    assert shell(command, option, "dir/x", "there/x") == 0
    assert tree("dir") == {"x": b"x", "y": b"y"}  # what was not moved is still here
    assert tree("there")["x"] == b"old"


def test_dry_run_of_cp_and_mv(shell, mem):
    fill("dir", ["x", "sub/y"])
    for command in ("cp", "mv"):
        found = shell.lines(command, "-r", "--dry-run", "dir", f"{mem}/p/")
        assert found == [f"dir/sub/y -> {mem}/p/dir/sub/y", f"dir/x -> {mem}/p/dir/x"]
    assert stored(mem) == {}
    assert len(tree("dir")) == 2


def test_what_fails_is_told_and_the_rest_is_done(shell, mem):
    fill("dir", ["x", "y"])
    listing = b"dir/x\ndir/gone\ndir/y\n"
    assert shell("cp", "-", mem, stdin=listing) == 1
    assert "1 of 3 objects could not be copied" in shell.err
    assert "gone" in shell.err
    assert "2 copied" in shell.err
    assert sorted(stored(mem)) == ["x", "y"]


def test_many_failures_are_counted(shell, mem):
    listing = b"".join(b"gone%d\n" % i for i in range(30))
    assert shell("cp", "-", mem, stdin=listing) == 1
    assert "… and 20 more" in shell.err
    assert shell.err.count("gone") == 10


def test_a_list_of_paths(shell, mem):
    expected = fill("dir")
    listing = "".join(f"dir/{name}\n" for name in ["", *expected, "sub", "a.txt"]).encode()
    assert shell("cp", "-", f"{mem}/p/", stdin=listing) == 0, shell.err
    assert {f"p/{name}": content for name, content in expected.items()} == stored(mem)
    names = "\n".join(shell.lines("ls", f"{mem}/p/"))
    assert shell("cp", "-", "back", stdin=names.encode()) == 0, shell.err
    assert tree("back") == expected


def test_a_list_keeps_names_from_the_common_folder_on(shell, mem):
    fill("dir", ["sub/x", "sub/deep/y"])
    assert shell("cp", "-", f"{mem}/one/", stdin=b"dir/sub/x\ndir/sub/deep/y\n") == 0
    assert shell("cp", "-", f"{mem}/two/", "--base", "dir", stdin=b"dir/sub/x\n") == 0
    assert sorted(stored(mem)) == ["one/deep/y", "one/x", "two/sub/x"]
    assert shell("cp", "-", mem, "--base", "dir/sub/deep", stdin=b"dir/sub/x\n") == 1
    assert "not below" in shell.err


def test_a_list_of_several_places_is_refused(shell, mem):
    write("x")
    assert shell("cp", "-", "there/", stdin=f"x\n{mem}/y\n".encode()) == 1
    assert "one bucket or server at a time" in shell.err


def test_an_empty_list_copies_nothing(shell, mem):
    assert shell("cp", "-", mem) == 0
    assert stored(mem) == {}


def test_standard_output_gets_decoded_bytes(shell, mem):
    content = bytes(range(256)) * 9
    Store(mem).put("x", content, compress="gzip")
    assert shell("cp", f"{mem}/x", "-") == 0
    assert shell.raw == content
    fill("dir", ["1", "2"])
    assert shell("cp", "-r", "dir", "-") == 0
    assert shell.raw == b"12"
    assert shell("cp", "dir", "-") == 1
    assert shell("cp", "-", "-", stdin=b"dir/2\n") == 0
    assert shell.raw == b"2"


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_compression_on_the_way(shell, mem, encoding):
    if encoding != "gzip":
        pytest.importorskip({"br": "brotli", "zstd": "zstandard"}[encoding])
    content = b"again and again " * 1000
    write("x", content)
    assert shell("cp", "-c", encoding, "x", f"{mem}/x") == 0, shell.err
    info = Store(mem).stat("x")
    assert info.attributes.encoding == encoding
    assert info.size < 500
    assert shell("cat", f"{mem}/x") == 0
    assert shell.raw == content
    assert shell("cp", "-c", "none", f"{mem}/x", "plain") == 0
    assert Path("plain").read_bytes() == content
    assert shell("cp", "-c", "none", f"{mem}/*", f"{mem}/") == 0  # in its place
    assert Store(mem).stat("x").size == len(content)


def test_same_keeps_the_encoding(shell, mem):
    Store(mem).put("x", b"x" * 1000, compress="gzip")
    assert shell("cp", f"{mem}/x", "there/") == 0
    assert gzip.decompress(Path("there/x.gz").read_bytes()) == b"x" * 1000


@pytest.mark.parametrize(
    "words",
    [
        ["cp", "x"],
        ["cp", "-", "y", "z"],
        ["cp", "x", "y", "-c", "rar"],
        ["cp", "x", "y", "--base", "z"],
        ["cp", "x", "-", "-c", "gzip"],
        ["cp", "x", "-", "--dry-run"],
        ["cp", "x", "y", "z/", "--job", "j"],
        ["mv", "x", "-"],
        ["sync", "x", "y", "--allow-empty"],
        ["sync", "x", "y", "--size-only", "--checksum"],
        ["ls"],
        ["ls", "x", "-r", "--flat"],
        ["cat", "x", "y", "--range", "0-1"],
        ["cat", "x", "--range", "-"],
        ["cat", "x", "--range", "1:2"],
        ["rm", "-", "x"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(shell, words):
    assert shell(*words) == 2
    assert "usage: pkgdata" in shell.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["cp", "nosuch://h/x", "y"], "unknown scheme"),
        (["cp", "x", "s3://"], "expected s3://BUCKET"),
        (["cp", "x", "mem://m/*.txt"], "no wildcards"),
        (["cp", "mem://m/../x", "y"], "refused the name"),
        (["cp", "x", "https://127.0.0.1:1/x"], "cannot write"),
        (["cp", "-r", "https://127.0.0.1:1/x/", "y"], "cannot list"),
        (["cp", "mem://m/*.nothing", "y"], "nothing matches"),
        (["touch", "dir/"], "is a folder"),
        (["head", "mem://m/"], "is a folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_input_is_one_clear_error(shell, words, text):
    write("x")
    assert shell(*words) == 1
    assert shell.err.startswith("pkgdata: error: ")
    assert text in shell.err
    assert "Traceback" not in shell.err


def test_the_timeline_shows_each_copy(shell, mem):
    fill("dir", ["x", "sub/y"])
    assert shell("cp", "-r", "dir/", f"{mem}/p/", "--timeline", "t.svg") == 0
    titles = [node.text for node in ET.parse("t.svg").iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(title.partition(":")[0] for title in titles) == ["p/sub/y", "p/x"]


def test_the_bar_counts_bytes_and_files(shell, mem):
    fill("dir", ["x", "sub/y"])
    assert shell("cp", "-r", "dir", mem, "--progress") == 0
    assert "2 files" in shell.err
    assert shell("cp", "-r", "dir", mem, "--no-progress") == 0
    assert "files" not in shell.err


def test_the_same_job_is_not_done_twice(shell, mem):
    fill("dir", ["x", "y"])
    for copied in ("2 copied", "0 copied"):
        assert shell("cp", "-r", "dir", mem, "--job", "job.db") == 0
        assert copied in shell.err
    assert shell("cp", "-r", "dir", f"{mem}/other/", "--job", "job.db") == 1
    assert "another job" in shell.err


# -- mv ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cloud", [False, True], ids=["folder", "store"])
def test_mv_moves_and_leaves_no_empty_folders(shell, mem, tmp_path, cloud):
    place = mem if cloud else str(tmp_path / "there")
    expected = fill("dir")
    assert shell("mv", "dir", f"{place}/") == 0, shell.err
    found = stored(mem) if cloud else tree(place)
    assert found == {f"dir/{name}": content for name, content in expected.items()}
    assert os.listdir(shell.home) == []
    assert shell("mv", f"{place}/dir/a.txt", "back.txt") == 0
    assert shell("mv", f"{place}/dir/", "back/") == 0
    assert len(tree("back")) == len(expected) - 1
    assert (stored(mem) if cloud else tree(place)) == {}


def test_mv_within_a_store(shell, mem):
    Store(mem)["a"] = b"a"
    assert shell("mv", f"{mem}/a", f"{mem}/b") == 0
    assert stored(mem) == {"b": b"a"}


def test_mv_keeps_what_could_not_be_moved(shell, mem, monkeypatch):
    fill("dir", ["good", "bad"])
    real = MemoryStore.write

    def write_some(self, name, *rest):
        if name.endswith("bad"):
            raise StoreError("the store is full")
        return real(self, name, *rest)

    monkeypatch.setattr(MemoryStore, "write", write_some)
    assert shell("mv", "dir/", f"{mem}/") == 1
    assert "the store is full" in shell.err
    assert tree("dir") == {"bad": b"bad"}
    assert stored(mem) == {"good": b"good"}


def test_mv_leaves_what_a_link_leads_to(shell, mem):
    write("shared/x", b"x")
    write("dir/y", b"y")
    os.symlink("../shared", "dir/link")
    assert shell("mv", "dir", f"{mem}/") == 1
    assert "behind a link to another folder" in shell.err
    assert tree("shared") == {"x": b"x"}
    assert stored(mem) == {"dir/y": b"y"}


def test_store_move_keeps_a_file_that_has_two_paths(tmp_path):
    write(tmp_path / "real" / "x", b"x")
    os.symlink("real", tmp_path / "link")
    Store(str(tmp_path / "real")).move("x", "x", Store(str(tmp_path / "link")))
    assert tree(tmp_path / "real") == {"x": b"x"}


# -- sync --------------------------------------------------------------------------------------


def test_sync_copies_what_is_missing_or_differs(shell, mem):
    fill("dir", ["a", "b/c", "b/d"])
    assert shell("sync", "dir", f"{mem}/p") == 0
    assert "3 copied" in shell.err
    assert shell("sync", "dir/", f"{mem}/p/") == 0
    assert "0 copied" in shell.err
    assert "3 unchanged" in shell.err
    write("dir/a", b"longer")
    write("dir/new", b"new")
    Store(mem)["p/extra"] = b"extra"
    assert shell("sync", "dir", f"{mem}/p", "--dry-run") == 0
    assert shell.err == "2 to do, 2 unchanged\n"
    assert shell.lines("sync", "dir", f"{mem}/p", "--dry-run") == [
        f"copy dir/a -> {mem}/p/a (other size)",
        f"copy dir/new -> {mem}/p/new (missing)",
    ]
    assert shell("sync", "dir", f"{mem}/p") == 0
    expected = {f"p/{name}": content for name, content in tree("dir").items()}
    assert stored(mem) == {**expected, "p/extra": b"extra"}
    assert shell("sync", "dir", f"{mem}/p", "--delete") == 0
    assert "1 removed" in shell.err
    assert stored(mem) == expected


def test_sync_tells_by_time_what_has_the_same_size(shell):
    write("one/a", b"1")
    assert shell("sync", "one", "two") == 0
    write("one/a", b"2")
    os.utime("one/a", (2e9, 2e9))
    assert shell.lines("sync", "one", "two", "--dry-run") == ["copy one/a -> two/a (newer)"]
    assert shell("sync", "one", "two", "--size-only", "--check") == 0
    os.utime("one/a", (1e9, 1e9))
    assert shell("sync", "one", "two", "--check") == 0  # older: seen only by reading
    assert shell("sync", "one", "two", "--check", "--checksum") == 3
    assert "(other digest)" in shell.out
    assert shell("sync", "one", "two", "--checksum") == 0
    assert tree("two") == {"a": b"2"}


@pytest.mark.parametrize("names", [["a", "a.b", "a/b", "a0", "b"], ["a-/x", "a/x", "a", "a!"]])
def test_sync_compares_names_in_the_order_of_listings(shell, mem, names):
    content = {name: name.encode() for name in names if not any(
        other.startswith(f"{name}/") for other in names
    )}  # fmt: skip
    for name, data in content.items():
        write(Path("dir") / name, data)
    for _ in range(2):
        assert shell("sync", "dir", mem, "--delete") == 0
        assert stored(mem) == content
    assert shell("sync", mem, "back") == 0
    assert shell("sync", mem, "back", "--check", "--delete") == 0


def test_sync_does_not_delete_after_an_empty_source(shell):
    write("two/a")
    (shell.home / "one").mkdir()
    assert shell("sync", "one", "two") == 0
    for option in ([], ["--dry-run"]):
        assert shell("sync", "one", "two", "--delete", *option) == 1
        assert "is empty" in shell.err
    assert tree("two") == {"a": b"content"}
    assert shell("sync", "one", "two", "--delete", "--allow-empty", "--dry-run") == 0
    assert shell.out == "remove two/a\n"
    assert shell("sync", "one", "two", "--delete", "--allow-empty") == 0
    assert tree("two") == {}


def test_sync_does_not_delete_after_a_listing_that_failed(shell, mem, monkeypatch):
    store = Store(mem)
    store["a"] = store["z"] = b"1"
    write("two/b")
    real = MemoryStore.scan

    def breaks(self, prefix="", flat=False):
        yield from itertools.islice(real(self, prefix, flat), 1)
        raise StoreError("the listing broke off")

    monkeypatch.setattr(MemoryStore, "scan", breaks)
    assert shell("sync", mem, "two", "--delete", "--allow-empty") == 1
    assert "the listing broke off" in shell.err
    assert "b" in tree("two")


def test_sync_does_not_delete_after_a_copy_that_failed(shell, mem, monkeypatch):
    store = Store(mem)
    store["a"] = b"1"
    write("two/b")
    failing = StoreError("cannot be read")

    def refuse(*_, **__):
        raise failing

    monkeypatch.setattr(MemoryStore, "open", refuse)
    assert shell("sync", mem, "two", "--delete") == 1
    assert "nothing was removed" in shell.err
    assert tree("two") == {"b": b"content"}


def test_sync_refuses_a_listing_that_is_not_sorted(shell, mem, monkeypatch):
    store = Store(mem)
    store["a"] = store["b"] = b"1"
    write("two/b", b"1")
    real = MemoryStore.scan
    monkeypatch.setattr(MemoryStore, "scan", lambda self, *rest: iter([*real(self, *rest)][::-1]))
    assert shell("sync", mem, "two", "--delete") == 1
    assert "not sorted" in shell.err
    assert "b" in tree("two")


def test_sync_knows_its_compressed_copies(shell, mem):
    Store(mem).put("a.txt", b"a" * 100, compress="gzip")
    for _ in range(2):
        assert shell("sync", mem, "two", "--delete") == 0
        assert list(tree("two")) == ["a.txt.gz"]
    assert "1 unchanged" in shell.err
    write("two/other.txt.gz")
    assert shell("sync", mem, "two", "--delete") == 0
    assert list(tree("two")) == ["a.txt.gz"]


def test_sync_removes_emptied_folders_but_nothing_behind_a_link(shell):
    write("one/a")
    write("two/old/deep/x")
    write("elsewhere/y")
    (shell.home / "two" / "empty").mkdir()
    os.symlink("../elsewhere", "two/link")
    assert shell("sync", "one", "two", "--delete") == 0
    assert "1 removed" in shell.err
    assert sorted(os.listdir("two")) == ["a", "empty", "link"]
    assert tree("elsewhere") == {"y": b"content"}


@pytest.mark.parametrize(
    ("source", "to", "text"),
    [
        ("one", "one", "inside the other"),
        ("one", "one/sub", "inside the other"),
        ("one/sub", "one", "inside the other"),
        ("nowhere", "two", "no such folder"),
        ("one/a", "two", "it is a file"),
        ("one", "one/a", "it is a file"),
        ("M/p", "M/p/q", "into itself"),
        ("M/p/q", "M/p", "into itself"),
    ],
)
def test_sync_refuses(shell, mem, source, to, text):
    write("one/a")
    write("one/sub/b")
    Store(mem)["p/q/x"] = b"x"
    words = [word.replace("M", mem) for word in (source, to)]
    assert shell("sync", *words, "--delete") == 1
    assert text in shell.err
    assert len(tree("one")) == 2
    assert len(stored(mem)) == 1


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


# -- processes, pipes, signals -----------------------------------------------------------------


def command(*words, **options):
    """Start a command as a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pkgdata", *map(str, words)],
        env=env | options.pop("env", {}),
        stdin=options.pop("stdin", subprocess.PIPE),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **options,
    )


def run(*words, given=b"", **options):
    process = command(*words, **options)
    out, err = process.communicate(given, timeout=60)
    return process.returncode, out or b"", err.decode()


def content_of(name):
    """Return what `Gate` serves; of the slow one so much that it is copied in blocks."""
    return f"/{name}".encode() * (4_000_000 if name == "slow" else 50_000)


class Gate(http.server.BaseHTTPRequestHandler):
    """Serves any name; of "slow" one half, and then next to nothing until it may go on."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        content = content_of(self.path[1:])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        at = len(content) // 2
        try:
            self.wfile.write(content[:at])
            if self.path == "/slow":
                self.server.reached.set()
                while not self.server.opened.wait(0.05):
                    self.wfile.write(content[at : at + 100])
                    at += 100
            self.wfile.write(content[at:])
        except OSError:
            pass  # the client is gone, which is what the tests are about


@pytest.fixture
def gate():
    """Return a server of which ``reached`` and ``opened`` tell about its slow object."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    server.daemon_threads = True
    server.reached, server.opened = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.opened.set()
    server.shutdown()
    server.server_close()
    thread.join()


def urls(gate, *names):
    return "".join(f"http://127.0.0.1:{gate.server_port}/{name}\n" for name in names).encode()


def test_a_web_server_is_a_source(shell, gate, mem):
    url = urls(gate, "a%20b").decode().strip()
    assert shell("cp", url, f"{mem}/p/") == 0, shell.err
    assert stored(mem) == {"p/a b": content_of("a%20b")}
    assert shell("cp", "-", "there", stdin=urls(gate, "d/x", "d/e/y")) == 0, shell.err
    assert tree("there") == {"x": content_of("d/x"), "e/y": content_of("d/e/y")}
    assert shell("rm", url) == 1
    assert shell("ls", f"{url}/") == 1
    assert "cannot list" in shell.err


def test_a_pipe_is_a_source(tmp_path):
    content = os.urandom(20_000_000)
    code, _, err = run("cp", "/dev/stdin", tmp_path / "x", given=content)
    assert (code, err) == (0, "")
    assert (tmp_path / "x").read_bytes() == content
    code, _, err = run("cp", "-c", "gzip", "/dev/stdin", tmp_path / "y", given=content)
    assert (code, err) == (0, "")
    assert gzip.decompress((tmp_path / "y.gz").read_bytes()) == content


def test_a_file_is_the_standard_input(tmp_path):
    write(tmp_path / "in", b"from a file")
    with (tmp_path / "in").open("rb") as file:
        code, _, err = run("cp", "/dev/stdin", tmp_path / "x", given=None, stdin=file)
    assert (code, err) == (0, "")
    assert (tmp_path / "x").read_bytes() == b"from a file"


def test_a_device_as_destination_is_written_to_not_replaced(tmp_path):
    write(tmp_path / "x", b"some bytes")
    assert run("cp", tmp_path / "x", "/dev/stdout")[:2] == (0, b"some bytes")
    before = os.stat("/dev/null")
    assert run("cp", tmp_path / "x", "/dev/null")[0] == 0
    after = os.stat("/dev/null")
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    os.mkfifo(tmp_path / "fifo")
    process = command("cp", tmp_path / "x", tmp_path / "fifo")
    assert (tmp_path / "fifo").read_bytes() == b"some bytes"
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    write(tmp_path / "x", b"x" * 5_000_000)
    process = command("cat", tmp_path / "x")
    assert process.stdout.read(10) == b"x" * 10
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize("parallel", [1, 2])
def test_an_interrupted_copy_leaves_nothing(tmp_path, gate, parallel):
    target = tmp_path / "there"
    process = command("cp", "-", target, "-p", parallel)
    process.stdin.write(urls(gate, "slow"))
    process.stdin.close()
    process.stdin = None
    assert gate.reached.wait(60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode().strip() == "pkgdata: interrupted"
    assert tree(target) == {}


def test_an_interrupted_read_of_a_pipe_leaves_nothing(tmp_path):
    process = command("cp", "/dev/stdin", tmp_path / "x")
    process.stdin.write(b"x" * 9_000_000)  # more than is read at once, so that it has begun
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert [path.name for path in tmp_path.glob("x*")] == []


def test_a_killed_job_goes_on(tmp_path, gate):
    names = [f"{letter}{i:03}" for letter in "az" for i in range(20)]  # "slow" amid them
    job = ["cp", "-", tmp_path / "there", "--job", tmp_path / "job.db"]
    process = command(*job, env={"PKGDATA_CONNECTIONS": "2"})
    process.stdin.write(urls(gate, *names[:20], "slow", *names[20:]))
    process.stdin.close()
    process.stdin = None
    assert gate.reached.wait(60)
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "there" / "slow").exists()
    with contextlib.closing(sqlite3.connect(tmp_path / "job.db")) as job_file:
        (done,) = zip(*job_file.execute("select target from work where state=2"), strict=True)
    assert done
    assert "slow" not in done
    inodes = {name: os.stat(tmp_path / "there" / name).st_ino for name in done}
    gate.opened.set()
    code, _, err = run(*job, given=urls(gate, *names, "slow"))
    assert (code, err.split()[:2]) == (0, [str(41 - len(done)), "copied"])
    found = {name: data for name, data in tree(tmp_path / "there").items() if "." not in name}
    assert found == {name: content_of(name) for name in [*names, "slow"]}
    for name, inode in inodes.items():
        assert os.stat(tmp_path / "there" / name).st_ino == inode  # not copied again


def test_two_processes_share_a_job(tmp_path):
    names = [f"{i:04}" for i in range(400)]
    fill(tmp_path / "dir", names)
    words = ["cp", "-r", tmp_path / "dir", tmp_path / "there", "--job", tmp_path / "job.db"]
    processes = [command(*words) for _ in range(2)]
    told = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert sum(int(text.split()[0]) for text in told) == 400
    assert sorted(tree(tmp_path / "there")) == names


def test_worker_processes_copy_and_are_drawn(tmp_path):
    names = [f"{i:03}" for i in range(150)]
    fill(tmp_path / "dir", names)
    write(tmp_path / "dir" / "000", b"0" * 1_000_000)
    code, _, err = run(
        "cp", "-r", "-p", "2", tmp_path / "dir", tmp_path / "there", "-c", "gzip",
        "--timeline", tmp_path / "t.svg",
    )  # fmt: skip
    assert (code, err.split()[:2]) == (0, ["150", "copied"])
    found = tree(tmp_path / "there").items()
    plain = {name.removesuffix(".gz"): gzip.decompress(data) for name, data in found}
    assert plain == tree(tmp_path / "dir")
    picture = ET.parse(tmp_path / "t.svg")
    titles = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 150
    assert any(title.startswith("000: 1000000 bytes") for title in titles)


def test_worker_processes_tell_what_failed(tmp_path):
    fill(tmp_path, ["x", "y"])
    listing = "".join(f"{tmp_path}/{name}\n" for name in ("x", "gone", "y")).encode()
    code, _, err = run("cp", "-p", "2", "-", tmp_path / "there", given=listing)
    assert code == 1
    assert "1 of 3 objects could not be copied" in err
    assert sorted(tree(tmp_path / "there")) == ["x", "y"]


def test_worker_processes_end_with_their_parent(tmp_path, gate):
    process = command("cp", "-p", "2", "-", tmp_path / "there", start_new_session=True)
    process.stdin.write(urls(gate, "slow"))
    process.stdin.close()
    process.stdin = None
    assert gate.reached.wait(60)
    process.kill()
    process.stdout.read()  # the workers hold these pipes; they end when all of them have
    process.stderr.read()
    process.communicate(timeout=60)
    assert not (tmp_path / "there" / "slow").exists()


def test_large_files_are_copied_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("pkgdata.base.fs._clone", lambda *_: False)  # a disk that shares no blocks
    content = os.urandom(9 << 20)
    write(tmp_path / "one" / "x", content)
    seen = []
    source, to = Store(str(tmp_path / "one")), Store(str(tmp_path / "two"))
    source.transfer_to(to, progress=lambda event: seen.append((event.state, event.done)))
    assert tree(tmp_path / "two") == {"x": content}
    assert [done for state, done in seen if state == "bytes"] == [0, 4 << 20, 8 << 20, 9 << 20]
    assert seen[-1] == ("done", 9 << 20)


def test_a_renamed_file_is_not_read(tmp_path, monkeypatch):
    write(tmp_path / "one" / "x", b"x")
    inode = os.stat(tmp_path / "one" / "x").st_ino
    assert FileStore(str(tmp_path / "two")).adopt("y", FileStore(str(tmp_path / "one")), "x")
    assert os.stat(tmp_path / "two" / "y").st_ino == inode


# -- real services -----------------------------------------------------------------------------


@pytest.fixture
def credentials(monkeypatch):
    """Return a function that makes a server's keys the environment's and gives a new bucket."""

    def use(server):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        return f"s3://{server.make_bucket()}"

    return use


@pytest.fixture(params=["ceph", "moto"])
def bucket(request, credentials):
    """Return the URL of an empty bucket, once on each server."""
    pytest.importorskip("obstore")
    return credentials(request.getfixturevalue(request.param))


@pytest.mark.integration
def test_s3_there_and_back(shell, bucket):
    expected = fill("dir")
    assert shell("cp", "-r", "dir", f"{bucket}/p ü/") == 0, shell.err
    assert shell.lines("ls", bucket, "--shortpath") == sorted(f"p ü/dir/{n}" for n in expected)
    assert shell("cp", "-r", f"{bucket}/p ü/dir/", "back", "-p", "2") == 0, shell.err
    assert tree("back") == expected
    assert shell("sync", "dir", f"{bucket}/p ü/dir", "--check", "--delete") == 0, shell.out
    assert shell("cp", f"{bucket}/p ü/dir/sub/*.txt", "some") == 0
    assert len(tree("some")) == 5
    assert shell.lines("du", "-s", f"{bucket}/p ü") == [
        f"{sum(map(len, expected.values()))}\t{bucket}/p ü"
    ]
    assert shell("rm", f"{bucket}/p ü/dir/sub/*") == 0
    assert shell.lines("ls", f"{bucket}/", "--shortpath") == ["p ü/dir/-dash", "p ü/dir/a.txt"]
    assert shell("rm", "-r", f"{bucket}/p ü") == 0
    assert shell.lines("ls", bucket) == []


@pytest.mark.integration
def test_s3_moves_compresses_and_tells(shell, bucket):
    write("page.html", b"<p>" * 1000)
    assert shell("mv", "-c", "page.html", f"{bucket}/") == 2  # mv does not change what it moves
    assert shell("cp", "-c", "gzip", "page.html", f"{bucket}/") == 0
    found = dict(line.split(": ", 1) for line in shell.lines("head", f"{bucket}/page.html"))
    assert found["Content-Type"] == "text/html"
    assert found["Content-Encoding"] == "gzip"
    assert shell("mv", f"{bucket}/page.html", f"{bucket}/moved/") == 0
    assert shell.lines("ls", bucket) == [f"{bucket}/moved/page.html"]
    assert shell("cat", f"{bucket}/moved/page.html") == 0
    assert shell.raw == b"<p>" * 1000
    assert shell("cp", "-n", "page.html", f"{bucket}/moved/page.html") == 0
    assert shell("touch", f"{bucket}/empty", f"{bucket}/moved/page.html") == 0
    assert shell.lines("cp", f"{bucket}/empty", "-") == []
    assert shell("cp", f"{bucket}/moved", "x") == 1
    assert "is a folder" in shell.err


@pytest.mark.integration
def test_s3_sync_deletes_what_is_extra_only(shell, bucket):
    fill("dir", ["a", "a.b", "a0", "sub/x"])
    assert shell("sync", "dir", f"{bucket}/p") == 0
    write("dir/a", b"A")
    os.utime("dir/a", (2e9, 2e9))
    os.remove("dir/a0")
    assert shell.lines("sync", "dir", f"{bucket}/p", "--dry-run", "--delete") == [
        f"copy dir/a -> {bucket}/p/a (newer)",
        f"remove {bucket}/p/a0",
    ]
    assert shell("sync", "dir", f"{bucket}/p", "--delete", "--checksum") == 0
    assert shell("sync", f"{bucket}/p", f"{bucket}/q", "--delete") == 0
    assert shell("sync", f"{bucket}/p", f"{bucket}/q", "--check", "--delete") == 0
    assert shell("sync", f"{bucket}/q", "back", "--delete") == 0
    assert tree("back") == tree("dir")
    assert shell("sync", f"{bucket}/nothing", f"{bucket}/q", "--delete") == 1
    assert "is empty" in shell.err
    assert shell("sync", "s3://no-such-bucket-here", "back", "--delete", "--allow-empty") == 1
    assert "no such bucket" in shell.err
    assert tree("back") == tree("dir")


@pytest.mark.integration
def test_s3_lists_and_deletes_more_than_one_page(shell, ceph, credentials):
    pytest.importorskip("obstore")
    bucket = credentials(ceph)
    names = [f"{i:05}" for i in range(1200)]
    fill("dir", names)
    assert shell("cp", "-r", "dir/", f"{bucket}/many/") == 0, shell.err
    assert shell.lines("ls", f"{bucket}/many/", "--shortpath") == names
    assert len(shell.lines("ls", "-e", f"{bucket}/many/000[0-4]")) == 50
    assert shell("rm", "-r", f"{bucket}/many/") == 0
    assert "1200 removed" in shell.err
    assert shell.lines("ls", bucket) == []


@pytest.mark.integration
def test_s3_endpoint_and_anonymous(shell, ceph, credentials, monkeypatch):
    pytest.importorskip("obstore")
    bucket = credentials(ceph)
    write("x", b"x")
    assert shell("cp", "x", f"{bucket}/x") == 0
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert shell.lines("ls", bucket, "--endpoint", ceph.endpoint) == [f"{bucket}/x"]
    long = bucket.replace("s3://", f"s3://{ceph.endpoint}/")
    assert shell.lines("ls", long) == [f"{long}/x"]
    assert shell("cp", f"{bucket}/x", "y", "--anonymous", "--endpoint", ceph.endpoint) == 1
    assert "AccessDenied" in shell.err
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert shell("cp", f"{long}/x", "y") == 1
    assert "secret key" in shell.err
    assert "wrong" not in shell.err
    assert tree(shell.home) == {"x": b"x"}


@pytest.mark.integration
def test_s3_pipes_in_parts_and_leaves_nothing_when_interrupted(tmp_path, ceph, credentials):
    pytest.importorskip("obstore")
    bucket = credentials(ceph)
    content = os.urandom(1 << 20) * 40
    code, _, err = run("cp", "/dev/stdin", f"{bucket}/x", given=content)
    assert (code, err) == (0, "")
    code, out, _ = run("cat", f"{bucket}/x")
    assert (code, out) == (0, content)
    process = command("cp", "/dev/stdin", f"{bucket}/y")
    process.stdin.write(content)
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert run("ls", bucket)[1].decode().split() == [f"{bucket}/x"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm here")
def test_folder_below_dev_is_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert run("cp", "-r", f"{tmp_path}/a", f"{folder}/")[0] == 0
        assert os.listdir(folder) == ["a"]
