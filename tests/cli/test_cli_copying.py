"""cp, mv and sync, in this process, where ``mem://`` lasts from one command to the next."""

from __future__ import annotations

import gzip
import itertools
import os
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from shells import fill, stored, tree, write

from pkgdata.errors import StoreError
from pkgdata.stores import Store
from pkgdata.stores.other import MemoryStore

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
        ["cp", "x", "y", "--on", "tcp://h:1", "-p", "2"],
        ["cp", "x", "-", "--on", "tcp://h:1"],
        ["mv", "x", "y", "--on", "tcp://h:1"],
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


def tick():
    """Wait until files are newer than objects in memory: file times come from a coarser clock."""
    time.sleep(0.02)


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
    tick()
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
    tick()
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
