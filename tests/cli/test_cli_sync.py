"""sync, where something cannot be read, is not there, or is in the way; what is chosen."""

from __future__ import annotations

import os
import socket

import pytest
from shells import fill, stored, tree, write

from pkgdata.base import hashes
from pkgdata.errors import BatchError
from pkgdata.stores import Info, Store
from pkgdata.stores.other import MemoryStore

# -- what cannot be read -----------------------------------------------------------------------


def links(top):
    """Make a link that leads nowhere, one to itself and one to the folder that it is in."""
    os.symlink("nowhere", f"{top}/dangling")
    os.symlink("circle", f"{top}/circle")
    os.symlink(".", f"{top}/up")


LINKS = ["circle", "dangling", "up/x"]


@pytest.fixture
def half(shell, mem):
    """Return a bucket with what a folder's links once led to, and the folder "one"."""
    store = Store(mem)
    for name in [*LINKS, "a", "old"]:
        store[name] = b"1"
    write("one/a", b"22")
    write("one/z", b"z")
    links("one")
    return mem


def test_what_cannot_be_read_is_an_error_and_nothing_is_removed(shell, half):
    assert shell("sync", "--delete", "one", half) == 1
    for name in ("circle", "dangling", "up"):
        assert f"/{name}: " in shell.err, shell.err
    assert "a link to nowhere" in shell.err
    assert "nothing was removed" in shell.err
    assert "2 copied" in shell.err
    assert "3 failed" in shell.err
    found = stored(half)
    assert sorted(found) == sorted([*LINKS, "a", "old", "z"])
    assert found["a"] == b"22"


def test_a_dry_run_removes_no_more_than_the_run(shell, half):
    assert shell("sync", "--delete", "--dry-run", "one", half) == 0
    assert "remove" not in shell.out
    assert "one/dangling" in shell.out
    assert "cannot be read" in shell.out


def test_excluded_links_are_no_errors(shell, half):
    words = [word for name in ("circle", "dangling", "up/") for word in ("--exclude", name)]
    assert shell("sync", "--delete", "one", half, *words) == 0, shell.err
    assert sorted(stored(half)) == sorted([*LINKS, "a", "z"])


def test_a_folder_that_cannot_be_read_is_an_error(shell, mem, monkeypatch):
    write("one/a")
    write("one/shut/x")
    Store(mem)["shut/x"] = b"1"
    real = os.access  # the tests may be run by root, who can read everything
    monkeypatch.setattr(os, "access", lambda path, *how: "shut" not in path and real(path, *how))
    assert shell("sync", "--delete", "one", mem) == 1
    assert "/shut: " in shell.err
    assert sorted(stored(mem)) == ["a", "shut/x"]
    assert shell("sync", "--delete", "one", mem, "--exclude", "shut/") == 0
    assert sorted(stored(mem)) == ["a", "shut/x"]


@pytest.mark.parametrize("verb", ["cp", "mv"])
def test_copies_name_what_cannot_be_read_and_go_on(shell, mem, verb):
    write("one/a")
    write("one/sub/z")
    links("one/sub")
    assert shell(verb, "-r", "one/", mem) == 1
    for name in ("circle", "dangling", "up"):
        assert f"sub/{name}: " in shell.err
    assert sorted(stored(mem)) == ["a", "sub/z"]
    assert sorted(os.listdir("one/sub"))[:2] == ["circle", "dangling"]


def test_after_a_key_that_cannot_be_a_file_nothing_is_removed(shell, mem, monkeypatch):
    Store(mem)["a"] = b"1"
    write("two/old")
    real = MemoryStore.scan
    odd = [("../b", Info(1)), ("//c", Info(1))]
    monkeypatch.setattr(MemoryStore, "scan", lambda self, *rest: iter([*odd, *real(self, *rest)]))
    assert shell("sync", "--delete", mem, "two") == 1
    assert "2 of 3 objects could not be copied" in shell.err
    assert "'../b'" in shell.err
    assert "nothing was removed" in shell.err
    assert sorted(tree("two")) == ["a", "old"]


def test_a_file_that_vanishes_during_the_listing_hides_no_other(shell, mem, monkeypatch):
    fill("one", ["a", "b", "c"])
    fill("two", ["a", "b", "c"])
    real = os.scandir

    def racing(path):
        found = [*real(path)]
        if str(path).rstrip("/").endswith("one") and os.path.exists("one/b"):
            os.remove("one/b")
        return _Entries(found)

    monkeypatch.setattr(os, "scandir", racing)
    assert shell("sync", "--delete", "one", mem) == 0
    assert sorted(stored(mem)) == ["a", "c"]


class _Entries(list):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_links_that_lead_nowhere_in_the_destination_are_replaced_or_left(shell):
    write("one/dangling", b"new")
    (shell.home / "two").mkdir()
    links("two")
    assert shell("sync", "--delete", "one", "two") == 0, shell.err
    assert sorted(os.listdir("two")) == ["circle", "dangling", "up"]
    assert (shell.home / "two/dangling").read_bytes() == b"new"


# -- what is not there -------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--delete"], ["--dry-run"], ["--check"]])
def test_a_source_that_is_nothing_is_an_error(shell, mem, more):
    Store(mem)["one.txt"] = b"1"
    write("data/old")
    for name in ("mistyped", "mistyped/", "one.tx"):
        assert shell("sync", f"{mem}/{name}", "data", *more) == 1
        assert f"{mem}/{name.rstrip('/')}" in shell.err
        assert "nothing is there" in shell.err
    assert shell("sync", f"{mem}/one.txt", "data", *more) == 1
    assert "one.txt is an object; cp copies it" in shell.err
    assert sorted(tree("data")) == ["old"]


def test_an_empty_bucket_is_no_error(shell, mem):
    assert shell("sync", mem, "data") == 0
    write("data/old")
    assert shell("sync", mem, "data", "--delete") == 1
    assert shell("sync", f"{mem}/p", "data", "--delete", "--allow-empty") == 0
    assert tree("data") == {}


# -- what is in the way ------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["local", "bucket"])
@pytest.mark.parametrize("source", ["local", "bucket"])
@pytest.mark.parametrize("becomes", ["folder", "file"])
def test_a_file_that_became_a_folder_or_the_reverse_settles(shell, mem, source, target, becomes):
    store = Store(f"{mem}-source")
    if becomes == "folder":
        now, before = ["a.txt", "d/x", "d/y/z"], ["a.txt", "d"]
    else:
        now, before = ["a.txt", "d"], ["a.txt", "d-", "d/x", "d/y/z"]
    for name in now:
        store[name] = b"now"
        if source == "local":
            write(f"one/{name}", b"now")
    place = "two" if target == "local" else mem
    for name in before:
        Store(mem)[name] = b"before"
        if target == "local":
            write(f"two/{name}", b"before")
    where = "one" if source == "local" else store.url
    assert shell("sync", "--delete", where, place) == 0, shell.err
    assert f"{len(before) - 1} removed" in shell.err
    assert "failed" not in shell.err
    assert sorted(tree("two") if target == "local" else stored(mem)) == now
    assert shell("sync", "--delete", where, place) == 0
    assert f"0 copied to {place}, {len(now)} unchanged" in shell.err


def test_an_empty_folder_gives_way_to_a_file(shell):
    write("one/d")
    (shell.home / "two/d/e").mkdir(parents=True)
    assert shell("sync", "one", "two") == 1
    assert shell("sync", "--delete", "one", "two") == 0
    assert tree("two") == {"d": b"content"}


def test_what_is_in_the_way_stays_if_the_original_cannot_be_read(shell):
    (shell.home / "one/d").mkdir(parents=True)
    os.symlink("nowhere", "one/d/x")
    os.symlink("nowhere", "one/e")
    write("two/d")
    write("two/e/x")
    assert shell("sync", "--delete", "one", "two") == 1
    assert "nothing was removed" in shell.err
    assert sorted(tree("two")) == ["d", "e/x"]


def test_what_is_in_the_way_stays_without_delete(shell):
    write("one/d/x")
    write("two/d")
    assert shell("sync", "one", "two") == 1
    assert tree("two") == {"d": b"content"}


# -- what is chosen ----------------------------------------------------------------------------


def test_excluded_names_are_left_alone_at_both_ends(shell, mem):
    fill("one", ["a.csv", "a.tmp", "sub/b.csv"])
    store = Store(mem)
    store["old.tmp"] = store["old.csv"] = b"1"
    assert shell("sync", "--delete", "--exclude", "*.tmp", "one", mem) == 0
    assert sorted(stored(mem)) == ["a.csv", "old.tmp", "sub/b.csv"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--exclude", "*.tmp"], ["a.csv", "sub/b.csv"]),
        (["--exclude", "/sub/"], ["a.csv", "a.tmp"]),
        (["--include", "*.csv"], ["a.csv", "sub/b.csv"]),
        (["--exclude", "*", "--include", "*.csv"], ["a.csv", "sub/b.csv"]),
        (["--include", "*.csv", "--exclude", "sub/"], ["a.csv"]),
        (["--exclude", "*.csv", "--exclude", "!/a.csv"], ["a.csv", "a.tmp"]),
    ],
)
def test_what_is_copied_can_be_chosen(shell, mem, options, expected):
    fill("one", ["a.csv", "a.tmp", "sub/b.csv"])
    for source in (["-r", "one/"], ["-r", f"{mem}-source/"], ["-r", f"{mem}-source/**"]):
        if source[1] != "one/":
            for name in ("a.csv", "a.tmp", "sub/b.csv"):
                Store(f"{mem}-source")[name] = b"1"
        target = f"{mem}-{len(source[1])}"
        assert shell("cp", *source, target, *options) == 0, shell.err
        assert sorted(stored(target)) == expected
    lines = b"one/a.csv\none/a.tmp\none/sub/b.csv\n"
    assert shell("cp", "-", f"{mem}-list", *options, stdin=lines) == 0
    assert sorted(stored(f"{mem}-list")) == expected


def test_what_is_written_to_standard_output_can_be_chosen(shell, mem):
    for name in ("p/a", "p/b.tmp", "p/c"):
        Store(mem)[name] = name[2:].encode()
    assert shell("cp", "-r", f"{mem}/p", "-", "--exclude", "*.tmp") == 0
    assert shell.raw == b"ac"
    assert shell("cp", f"{mem}/p/*", "-", "--include", "*.tmp") == 0
    assert shell.raw == b"b.tmp"


def test_what_is_moved_and_removed_can_be_chosen(shell, mem):
    fill("one", ["a.csv", "a.tmp", "sub/b.tmp"])
    assert shell("mv", "one", f"{mem}/", "--include", "*.csv") == 0
    assert sorted(tree("one")) == ["a.tmp", "sub/b.tmp"]
    assert shell("rm", "-r", "one", "--exclude", "sub/") == 0
    assert "1 removed" in shell.err
    assert sorted(tree("one")) == ["sub/b.tmp"]
    Store(mem)["b"] = b""
    assert shell("rm", "-r", f"{mem}/**", "--yes", "--exclude", "one/") == 0
    assert sorted(stored(mem)) == ["one/a.csv"]


def test_a_pattern_that_is_none_is_refused(shell, mem):
    assert shell("rm", "-r", "--yes", mem, "--exclude", "") == 1
    assert "pattern" in shell.err


def test_no_more_is_removed_than_was_allowed(shell, mem):
    for place, made in ((mem, stored), ("one", tree)):
        for name in ("a", "b", "c"):
            Store(mem)[name] = b"1"
        fill("one", ["a", "b", "c"])
        words = ["rm", "-r", "--yes", place, "--max-delete"]
        assert shell(*words, "2") == 1
        assert "more than 2 objects would be removed; nothing was removed" in shell.err
        assert len(made(place)) == 3
        assert shell(*words, "3") == 0
        assert "3 removed" in shell.err
    (shell.home / "one").mkdir()
    write("one/new")
    fill("two", ["a", "b"])
    assert shell("sync", "--delete", "one", "two", "--max-delete", "1") == 1
    assert sorted(tree("two")) == ["a", "b", "new"]
    assert shell("sync", "--delete", "one", "two", "--max-delete", "1", "--dry-run") == 1
    assert "remove two/a\nremove two/b\n" in shell.out


# -- lists -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\0", ""])
def test_lists_with_nul_bytes(shell, mem, end):
    names = ["-a  b", "#ü.txt"]
    fill("one", names)
    given = "\0".join(f"one/{name}" for name in names) + end
    assert shell("cp", "-0", "-", mem, "--base", "one", stdin=given.encode()) == 0, shell.err
    assert sorted(stored(mem)) == sorted(names)
    assert shell("rm", "-0", "-", stdin=given.encode()) == 0
    assert tree("one") == {}
    assert shell("cp", "-0", "one", mem) == 2


# -- times -------------------------------------------------------------------------------------


def settled(shell, source, to, count):
    """Assert that a synchronisation finds nothing to do."""
    assert shell("sync", source, to, "--delete") == 0, shell.err
    assert f"0 copied to {to}, {count} unchanged" in shell.err


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_after_one_sync_there_is_nothing_to_do_in_any_direction(shell, mem, kind):
    expected = fill("one")
    os.utime("one/a.txt", (1e9, 1e9 + 0.123456789))
    there, count = "there" if kind == "folder" else mem, len(expected)
    assert shell("sync", "one", there) == 0
    for source, to in (("one", there), (there, "one"), ("one", there)):
        settled(shell, source, to, count)
    assert shell("sync", there, "back") == 0
    for source, to in ((there, "back"), ("back", there), ("back", "one"), (there, "back")):
        settled(shell, source, to, count)
    assert os.stat("back/a.txt").st_mtime == os.stat("one/a.txt").st_mtime
    write("back/a.txt", b"newer")
    assert shell("sync", "back", there) == 0
    assert "1 copied" in shell.err


def test_what_only_looks_newer_is_compared_by_the_digest_that_is_known(shell, mem, monkeypatch):
    store = Store(mem)
    fill("one", ["a", "b"])
    for name in ("a", "b"):
        store[name] = name.encode()
        os.utime(f"one/{name}", (1e9, 1e9))
    write("one/b", b"x")
    os.utime("one/b", (1e9, 1e9))
    real = MemoryStore.scan

    def digests(self, *rest):
        for name, info in real(self, *rest):
            yield name, info._replace(digest=hashes.hash_blocks([self[name]], "md5"))

    monkeypatch.setattr(MemoryStore, "scan", digests)
    assert shell("sync", mem, "one", "--dry-run") == 0
    assert shell.out == f"copy {mem}/b -> one/b (newer)\n"
    assert os.stat("one/a").st_mtime == 1e9
    assert shell("sync", mem, "one") == 0
    assert "1 copied to one" in shell.err
    assert os.stat("one/a").st_mtime > 1e9, "so that it is not hashed the next time"
    os.utime("one/a")
    settled(shell, "one", mem, 2)


# -- what is neither a file nor a folder -------------------------------------------------------


def special(kind, path):
    """Make a pipe or a socket."""
    if kind == "pipe":
        os.mkfifo(path)
        return
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # a socket's path has 107 bytes at most


specials = pytest.mark.skipif(os.name == "nt", reason="there are no pipes and sockets in folders")


@specials
@pytest.mark.parametrize("kind", ["pipe", "socket"])
@pytest.mark.parametrize("to", ["two", "mem"])
def test_a_pipe_or_socket_is_named_and_its_namesake_stays(shell, mem, kind, to):
    to = mem if to == "mem" else to
    write("one/a", b"a")
    special(kind, "one/odd")
    os.symlink("odd", "one/link")
    kept = {"odd": b"kept", "old": b"old", "link": b"kept"}
    for name, content in kept.items():
        Store(to if to == mem else os.path.abspath(to)).put(name, content)
    assert shell("sync", "--delete", "one", to) == 1
    for name in ("odd", "link"):
        assert f"one/{name}: it is a pipe, a socket or a device, not a file" in shell.err
    assert "nothing was removed" in shell.err
    found = stored(to) if to == mem else tree(to)
    assert found == {**kept, "a": b"a"}


@specials
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_copy_of_a_folder_names_its_pipes_and_sockets(shell, mem, kind):
    write("one/a", b"a")
    special(kind, "one/odd")
    assert shell("cp", "-r", "one/", f"{mem}/") == 1
    assert "one/odd: it is a pipe, a socket or a device, not a file" in shell.err
    assert stored(mem) == {"a": b"a"}
    assert shell("cp", "-r", "--exclude", "odd", "one/", f"{mem}/") == 0
    with pytest.raises(BatchError) as caught:
        Store("one").transfer_to(MemoryStore("mem://other-specials"))
    assert set(caught.value.report.failed) == {"odd"}


@specials
def test_a_pipe_in_the_destination_is_not_removed(shell):
    write("one/a", b"a")
    write("two/x/extra", b"a")
    os.mkfifo("two/x/odd")
    assert shell("sync", "--delete", "one", "two") == 0
    assert os.listdir("two/x") == ["odd"]
    write("one/x", b"x")
    os.remove("two/x/odd")
    os.mkfifo("two/x/odd")
    assert shell("sync", "--delete", "one", "two") == 1
    assert os.listdir("two/x") == ["odd"]
