"""The cache on disk: what it finds, takes in, shares between names, and repairs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import pkgdata
from pkgdata import Cache, CacheError, CacheWarning, Digest, IntegrityError
from pkgdata.base import fs, owners
from pkgdata.cache import stamps
from pkgdata.cache.objects import OBJECTS, PARTIAL, SIZES, key_of
from pkgdata.cache.partial import Partial
from pkgdata.cache.stamps import split
from pkgdata.errors import StoreError

CONTENT = b"what is cached\n" * 100
needs_modes = pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")


def sha(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


DIGEST = sha(CONTENT)


def refuse(partial) -> None:
    """Stand in for a transfer that must not happen."""
    raise AssertionError("the object was here and is fetched again")


def writes(content: bytes = CONTENT, calls: list[int] | None = None):
    """Return a transfer that brings some bytes."""

    def fill(partial) -> None:
        if calls is not None:
            calls.append(partial.offset)
        partial.restart()
        partial.offset = os.write(partial.fd, content)

    return fill


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def damage(path: str, content: bytes) -> None:
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(content)


def files_below(root: str) -> set[str]:
    return {name for name, _ in fs.walk_files(root)}


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"), lock_timeout=5)


def fill_by_hand(cache: Cache, name: str = "map.fits", size: int | None = len(CONTENT)) -> str:
    return cache.obtain(DIGEST, name, size, writes())


# -- find and obtain -----------------------------------------------------------------------


def test_nothing_is_made_before_it_is_needed(cache):
    assert cache.find(DIGEST, "map.fits") is None
    assert cache.find_tree(DIGEST) is None
    assert not os.path.exists(cache.root)


def test_obtain_once(cache):
    calls: list[int] = []
    path = cache.obtain(DIGEST, "maps/map.fits", len(CONTENT), writes(calls=calls))
    assert path == os.path.join(cache.root, OBJECTS, *split(DIGEST), "map.fits")
    assert cache.obtain(DIGEST, "maps/map.fits", len(CONTENT), refuse) == path
    assert cache.find(DIGEST, "map.fits", len(CONTENT)) == path
    assert (calls, read(path)) == ([0], CONTENT)


def test_bytes_are_on_disk_before_the_name_is(cache, monkeypatch):
    """A power loss after the rename must not show a file of zeros."""
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def call(*arguments, name=name, real=real):
            calls.append(f"{name} {os.path.basename(str(arguments[-1]))}")
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    def fill(partial) -> None:
        partial.offset = os.write(partial.fd, CONTENT)
        calls.append(f"written {partial.fd}")

    cache.obtain(DIGEST, "map.fits", len(CONTENT), fill)
    written = calls[-3].partition(" ")[2]
    assert calls[-3:] == [f"written {written}", f"fsync {written}", "replace map.fits"]


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_what_is_no_file_is_a_miss(cache, kind):
    path = cache.path(DIGEST, "map.fits")
    os.makedirs(os.path.dirname(path))
    if kind == "folder":
        os.mkdir(path)
    else:
        os.symlink("nowhere", path)
    assert cache.find(DIGEST, "map.fits") is None


def test_failed_transfer_leaves_no_object(cache):
    def fill(partial) -> None:
        partial.offset = os.write(partial.fd, CONTENT[:10])
        raise ConnectionError("lost")

    with pytest.raises(CacheError, match="lost"):
        cache.obtain(DIGEST, "map.fits", len(CONTENT), fill)
    assert files_below(os.path.join(cache.root, PARTIAL)) == {f"{key_of(DIGEST)}.part"}
    assert cache.find(DIGEST, "map.fits") is None

    calls: list[int] = []
    cache.obtain(DIGEST, "map.fits", len(CONTENT), writes(calls=calls))
    assert calls == [10], "the next one begins with the bytes that came"


def test_failure_before_the_first_byte_leaves_nothing(cache):
    def fill(partial) -> None:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        cache.obtain(DIGEST, "map.fits", None, fill)
    assert files_below(os.path.join(cache.root, PARTIAL)) == set()


def test_keyboard_interrupt_keeps_bytes_and_frees_the_lock(cache):
    def fill(partial) -> None:
        partial.offset = os.write(partial.fd, CONTENT[:7])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.obtain(DIGEST, "map.fits", None, fill)
    assert read(fill_by_hand(cache)) == CONTENT


def test_shorter_leftover_does_not_replace_a_longer_one(cache):
    bucket, key = cache.bucket(PARTIAL), key_of(DIGEST)
    short, long = Partial(bucket, key, resume=True), Partial(bucket, key, resume=True)
    for partial, count in ((short, 10), (long, 50)):
        partial.__enter__()
        partial.offset = os.write(partial.fd, CONTENT[:count])
    for partial in (long, short):
        partial.__exit__(KeyboardInterrupt)
    assert {path: os.path.getsize(os.path.join(bucket, path)) for path in os.listdir(bucket)} == {
        f"{key}.part": 50
    }


# -- two names, one object -----------------------------------------------------------------


def test_two_names_for_one_digest_are_stored_once(cache):
    first = fill_by_hand(cache, "a/one.txt")
    second = cache.obtain(DIGEST, "b/two.txt", len(CONTENT), refuse)
    assert os.path.samefile(first, second)
    assert (os.path.basename(first), os.path.basename(second)) == ("one.txt", "two.txt")


def test_two_packages_share_a_file(tmp_path, cache):
    calls: list[int] = []
    cache.obtain(DIGEST, "mine.txt", None, writes(calls=calls))
    Cache(cache.root).obtain(DIGEST, "yours.txt", len(CONTENT), writes(calls=calls))
    assert calls == [0]


def test_second_name_where_there_are_no_links(cache, monkeypatch):
    first = fill_by_hand(cache, "one.txt")

    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    second = cache.obtain(DIGEST, "two.txt", len(CONTENT), refuse)
    assert read(second) == CONTENT
    assert not os.path.samefile(first, second)
    if os.name != "nt":
        assert os.stat(second).st_mode & 0o222 == 0


def test_damaged_object_is_not_given_a_second_name(cache):
    damage(fill_by_hand(cache, "one.txt"), CONTENT[:-1])
    calls: list[int] = []
    second = cache.obtain(DIGEST, "two.txt", len(CONTENT), writes(calls=calls))
    assert (calls, read(second)) == ([0], CONTENT)


# -- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["registry has size", "no size"])
def test_truncated_object_is_repaired_and_logged(cache, caplog, size):
    path = fill_by_hand(cache, size=size)
    damage(path, CONTENT[:20])
    with caplog.at_level(logging.WARNING, "pkgdata"):
        assert cache.find(DIGEST, "map.fits", size) is None
    assert f"20 bytes instead of {len(CONTENT)}" in caplog.text
    assert fill_by_hand(cache, size=size) == path
    assert read(path) == CONTENT


def size_record(cache: Cache) -> str:
    return os.path.join(cache.root, SIZES, DIGEST.alg, f"{DIGEST.hex[:2]}.txt")


def test_size_record_is_a_line_in_a_file_of_its_neighbours(cache):
    fill_by_hand(cache, size=None)
    assert read(size_record(cache)) == f"{DIGEST.hex[2:]} {len(CONTENT)}\n".encode()
    neighbour = Digest("sha256", DIGEST.hex[:2] + "0" * 62)
    stamps.record_sizes(cache.root, [(neighbour, 7), (sha(b"elsewhere"), 9)])
    assert read(size_record(cache)).endswith(f"\n{'0' * 62} 7\n".encode())
    assert [
        stamps.recorded_size(cache.root, one) for one in (DIGEST, neighbour, sha(b"elsewhere"))
    ] == [
        len(CONTENT),
        7,
        9,
    ]
    assert stamps.recorded_size(cache.root, sha(b"never seen")) is None


LINE = f"{DIGEST.hex[2:]} {len(CONTENT)}\n".encode()


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\0\0\0",
        LINE[:-1],
        LINE[:-3],
        LINE[:40],
        LINE[:-2] + LINE,
        LINE.replace(b" ", b"  "),
        LINE.replace(b" ", b" -"),
        LINE.replace(b" ", b"\n"),
        LINE.replace(b" ", b" " + b"9" * 5000),
        b"0" + LINE,
    ],
)
def test_damaged_size_record_is_passed_over(cache, damaged):
    path = fill_by_hand(cache, size=None)
    damage(size_record(cache), damaged)
    assert stamps.recorded_size(cache.root, DIGEST) is None
    assert cache.find(DIGEST, "map.fits") == path


def test_registry_size_wins_over_the_record(cache):
    path = fill_by_hand(cache, size=None)
    damage(size_record(cache), LINE.replace(b"00", b"5"))
    assert cache.find(DIGEST, "map.fits", len(CONTENT)) == path
    assert cache.find(DIGEST, "map.fits") is None


def test_no_size_record_where_the_registry_tells(cache):
    fill_by_hand(cache)
    assert (
        files_below(os.path.join(cache.root, SIZES)) == set()
        if os.path.exists(os.path.join(cache.root, SIZES))
        else True
    )


# -- add -----------------------------------------------------------------------------------


def test_add(cache, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    path = cache.add(str(source), DIGEST, "named.bin")
    assert read(path) == CONTENT
    assert not os.path.samefile(path, source), "the source may be changed later"
    damage(path, b"short")
    assert cache.find(DIGEST, "named.bin") is None, "its length was recorded"


def test_add_verifies(cache, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(b"changed since it was hashed")
    with pytest.raises(IntegrityError) as caught:
        cache.add(str(source), DIGEST, "named.bin")
    assert caught.value.expected == str(DIGEST)
    assert caught.value.actual == str(sha(b"changed since it was hashed"))
    assert cache.find(DIGEST, "named.bin") is None
    assert files_below(os.path.join(cache.root, PARTIAL)) == set()


@pytest.mark.parametrize("left", [7, 2 * len(CONTENT)])
def test_add_after_an_interrupted_transfer(cache, tmp_path, left):
    os.makedirs(os.path.join(cache.root, PARTIAL))
    with open(os.path.join(cache.root, PARTIAL, f"{key_of(DIGEST)}.part"), "wb") as file:
        file.write(b"x" * left)
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    path = cache.add(str(source), DIGEST, "named.bin")
    assert read(path) == CONTENT
    assert cache.find(DIGEST, "named.bin") == path


class Source(io.BytesIO):
    """A stream that counts what it is asked for, and may fail."""

    def __init__(self, content: bytes, fails_at: int = -1) -> None:
        super().__init__(content)
        self.asked = 0
        self.fails_at = fails_at

    def read(self, size=-1) -> bytes:
        if self.tell() == self.fails_at:
            raise ConnectionResetError(errno.ECONNRESET, "the peer has gone")
        block = super().read(min(size, 20))
        self.asked += len(block)
        return block


def leave(cache, content: bytes) -> None:
    """Leave unfinished bytes of an earlier process."""
    Path(cache.bucket(PARTIAL), f"{key_of(DIGEST)}.part").write_bytes(content)


@pytest.mark.parametrize("left", [CONTENT[:40], CONTENT], ids=len)
def test_a_copy_resumes(cache, left):
    leave(cache, left)
    source = Source(CONTENT)
    path = cache.obtain(DIGEST, "map.fits", None, lambda part: part.fill(source, DIGEST, "map"))
    assert read(path) == CONTENT
    assert source.asked == len(CONTENT) - len(left)


def test_a_copy_that_cannot_resume_begins_again(cache):
    """What is there is of something else, or the stream is read from its start alone."""
    leave(cache, b"x" * 40)
    source = Source(CONTENT)
    path = cache.obtain(DIGEST, "map.fits", None, lambda part: part.fill(source, DIGEST, "map"))
    assert read(path) == CONTENT
    os.unlink(path)
    leave(cache, CONTENT[:40])
    source = Source(CONTENT)
    source.seekable = lambda: False
    path = cache.obtain(DIGEST, "map.fits", None, lambda part: part.fill(source, DIGEST, "map"))
    assert read(path) == CONTENT
    assert source.asked == len(CONTENT)


def test_a_source_that_fails_is_not_the_cache_that_fails(cache):
    source = Source(CONTENT, fails_at=40)
    with pytest.raises(StoreError, match=r"'map' cannot be read .*: .*the peer has gone") as caught:
        cache.obtain(DIGEST, "map.fits", None, lambda part: part.fill(source, DIGEST, "map"))
    assert caught.value.transient
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    source.fails_at = -1
    path = cache.obtain(DIGEST, "map.fits", None, lambda part: part.fill(source, DIGEST, "map"))
    assert read(path) == CONTENT
    assert source.asked == len(CONTENT), "the next one resumes"


def test_add_writes_all_that_a_short_write_leaves(cache, tmp_path, monkeypatch):
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:99])))
    assert read(cache.add(str(source), DIGEST, "named.bin")) == CONTENT


# -- trees and derived directories -----------------------------------------------------------


def test_tree_of_links(cache):
    path = fill_by_hand(cache)
    identity = sha(b"a tree")
    folder = cache.tree(identity, [("deep/er/map.fits", path)])
    assert folder == cache.find_tree(identity)
    assert os.path.samefile(os.path.join(folder, "deep", "er", "map.fits"), path)
    assert cache.tree(identity, refused()) == folder


def refused():
    raise AssertionError("the tree is here and its files are looked for")
    yield


def test_tree_copies_what_is_not_its_own(cache, tmp_path):
    outside = tmp_path / "site.bin"
    outside.write_bytes(CONTENT)
    folder = cache.tree(sha(b"a tree"), [("site.bin", str(outside))])
    outside.write_bytes(b"changed in place")
    inside = os.path.join(folder, "site.bin")
    assert read(inside) == CONTENT
    if os.name != "nt":
        assert os.stat(inside).st_mode & 0o222 == 0


def test_failed_tree_leaves_nothing(cache):
    path = fill_by_hand(cache)
    with pytest.raises(CacheError, match="no-such-file"):
        cache.tree(sha(b"a tree"), [("one", path), ("two", path + "no-such-file")])
    assert cache.find_tree(sha(b"a tree")) is None
    assert os.listdir(os.path.join(cache.root, PARTIAL)) == []


def test_derived_is_keyed_by_digest_and_recipe(cache):
    built: list[str] = []

    def build(folder: str) -> None:
        built.append(folder)
        with open(os.path.join(folder, "out.txt"), "w", encoding="utf-8") as file:
            file.write(str(len(built)))

    first = cache.derived(DIGEST, "recipe 1", build)
    assert cache.derived(DIGEST, "recipe 1", build) == first
    other = cache.derived(DIGEST, "recipe 2", build)
    assert (read(os.path.join(first, "out.txt")), len(built)) == (b"1", 2)
    assert os.path.dirname(first) == os.path.dirname(other) != first


def test_failed_build_leaves_nothing_and_may_be_tried_again(cache):
    def broken(folder: str) -> None:
        with open(os.path.join(folder, "half"), "w"):
            raise ValueError("bad archive")

    with pytest.raises(ValueError, match="bad archive"):
        cache.derived(DIGEST, "recipe", broken)
    assert os.listdir(os.path.join(cache.root, PARTIAL)) == []
    assert os.listdir(cache.derived(DIGEST, "recipe", lambda folder: None)) == []


def test_directory_that_another_process_made_meanwhile(cache):
    def build(folder: str) -> None:
        target = cache._folder("derived-v1", DIGEST)
        name = hashlib.sha256(b"recipe").hexdigest()[:16]
        os.makedirs(os.path.join(target, name, "theirs"))

    assert os.listdir(cache.derived(DIGEST, "recipe", build)) == ["theirs"]
    assert os.listdir(os.path.join(cache.root, PARTIAL)) == []


# -- what is handed out is complete ------------------------------------------------------------


def purge(path: str) -> None:
    """Remove a file as a computing centre's cleaning does."""
    fs.remove(path)


def put(folder: str, name: str, content: str = "x") -> None:
    path = os.path.join(folder, *name.split("/"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)


def test_purged_file_of_a_tree_is_linked_again(cache):
    path = fill_by_hand(cache)
    files = [("deep/er/map.fits", path), ("other.fits", path)]
    folder = cache.tree(sha(b"a tree"), files)
    purge(os.path.join(folder, "deep", "er", "map.fits"))
    assert cache.find_tree(sha(b"a tree")) is None, "a part of a tree is no tree"
    assert cache.tree(sha(b"a tree"), files) == folder
    assert files_below(folder) == {"deep/er/map.fits", "other.fits"}
    assert cache.find_tree(sha(b"a tree")) == folder
    assert os.listdir(os.path.join(cache.root, PARTIAL)) == []


@pytest.mark.parametrize("gone", ["one.txt", "deep/two.txt", "deep", "empty"])
def test_purged_part_of_a_derived_folder_is_made_again(cache, gone):
    def build(folder: str) -> None:
        put(folder, "one.txt")
        put(folder, "deep/two.txt")
        os.mkdir(os.path.join(folder, "empty"))

    folder = cache.derived(DIGEST, "recipe", build)
    path = os.path.join(folder, *gone.split("/"))
    if os.path.isdir(path):
        fs.remove_tree(path)
    else:
        purge(path)
    assert cache.derived(DIGEST, "recipe", build) == folder
    assert files_below(folder) == {"one.txt", "deep/two.txt"}
    assert sorted(os.listdir(folder)) == ["deep", "empty", "one.txt"]
    assert cache.derived(DIGEST, "recipe", refuse) == folder


def test_what_a_processor_left_next_to_its_file_stays_when_that_is_purged(cache):
    folder = cache.derived(DIGEST, "recipe", lambda folder: put(folder, "map.fits"))
    put(folder, "map.fits.result")
    assert cache.derived(DIGEST, "recipe", refuse) == folder, "an extra file does no harm"
    purge(os.path.join(folder, "map.fits"))
    cache.derived(DIGEST, "recipe", lambda folder: put(folder, "map.fits", "new"))
    assert files_below(folder) == {"map.fits", "map.fits.result"}
    purge(os.path.join(folder, "map.fits.result"))
    assert cache.derived(DIGEST, "recipe", refuse) == folder, "it is not ours to bring back"


def test_cut_file_is_noticed_when_its_folder_has_changed(cache):
    folder = cache.derived(DIGEST, "recipe", lambda folder: put(folder, "one.txt", "whole"))
    fs.remove(os.path.join(folder, "one.txt"))
    put(folder, "one.txt", "wh")
    cache.derived(DIGEST, "recipe", lambda folder: put(folder, "one.txt", "whole"))
    assert read(os.path.join(folder, "one.txt")) == b"whole"


def test_complete_folder_costs_one_stat_for_each_folder(cache, monkeypatch):
    def build(folder: str) -> None:
        for i in range(50):
            put(folder, f"sub/{i}.txt")

    folder = cache.derived(DIGEST, "recipe", build)
    stats: list[str] = []
    stat_of = os.stat

    def count(path, *args, **kwargs):
        stats.append(os.fspath(path) if not isinstance(path, int) else str(path))
        return stat_of(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", count)
    monkeypatch.setattr(os, "lstat", count)
    cache.derived(DIGEST, "recipe", refuse)
    assert sorted(stats) == [folder, os.path.join(folder, "sub")]


def test_copied_cache_whose_folders_have_other_times_is_complete(cache):
    folder = cache.derived(DIGEST, "recipe", lambda folder: put(folder, "one.txt"))
    os.utime(folder)
    assert cache.derived(DIGEST, "recipe", refuse) == folder


@pytest.mark.parametrize("text", ["", "\n", "12 .\n", "never .\n\n1 one.txt\n", "\x00"])
def test_damaged_record_of_a_folder_is_a_miss(cache, text):
    build = lambda folder: put(folder, "one.txt")  # noqa: E731 (twice the same)
    folder = cache.derived(DIGEST, "recipe", build)
    (record,) = Path(cache.root, "contents-v1").iterdir()
    record.write_text(text)
    purge(os.path.join(folder, "one.txt"))
    cache.derived(DIGEST, "recipe", build)
    assert files_below(folder) == {"one.txt"}
    assert cache.derived(DIGEST, "recipe", refuse) == folder


def test_folder_that_an_earlier_release_made_is_checked_once(cache):
    build = lambda folder: put(folder, "one.txt")  # noqa: E731 (twice the same)
    folder = cache.derived(DIGEST, "recipe", build)
    fs.remove_tree(os.path.join(cache.root, "contents-v1"))
    purge(os.path.join(folder, "one.txt"))
    assert cache.derived(DIGEST, "recipe", build) == folder
    assert files_below(folder) == {"one.txt"}
    assert cache.derived(DIGEST, "recipe", refuse) == folder


@needs_modes
def test_derived_files_are_read_only(cache):
    folder = cache.derived(DIGEST, "recipe", lambda folder: put(folder, "deep/one.txt"))
    assert os.stat(os.path.join(folder, "deep", "one.txt")).st_mode & 0o222 == 0
    assert os.stat(os.path.join(folder, "deep")).st_mode & 0o200


def test_leftovers_of_a_killed_process_go_when_the_folder_is_made(cache):
    dead = subprocess.run(
        [sys.executable, "-c", "from pkgdata.base import fs, owners; print(owners.token())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    key = f"tree-{key_of(sha(b'a tree'))}"
    put(cache.bucket(PARTIAL), f"{key}.{dead}-00000000.dir/deep/half.txt")
    cache.tree(sha(b"a tree"), [("one", fill_by_hand(cache))])
    assert os.listdir(os.path.join(cache.root, PARTIAL)) == []


# -- unfinished bytes ------------------------------------------------------------------------


def test_bytes_from_another_machine_are_copied(cache):
    bucket = cache.bucket(PARTIAL)
    theirs = os.path.join(bucket, f"{key_of(DIGEST)}.0123456789-42-deadbeef.part")
    with open(theirs, "wb") as file:
        file.write(CONTENT[:30])
    with Partial(bucket, key_of(DIGEST), resume=True) as partial:
        assert partial.offset == 30
        assert partial.path != theirs
    assert read(theirs) == CONTENT[:30], "it may still be written to"


def test_bytes_of_a_running_process_are_left_alone(cache):
    bucket = cache.bucket(PARTIAL)
    theirs = os.path.join(bucket, f"{key_of(DIGEST)}.{owners.token()}-deadbeef.part")
    with open(theirs, "wb") as file:
        file.write(CONTENT[:30])
    with Partial(bucket, key_of(DIGEST), resume=True) as partial:
        assert partial.offset == 0
    assert read(theirs) == CONTENT[:30]
    assert owners.of(theirs) == owners.token()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_killed_process_that_nobody_collects_is_gone():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    token = f"{owners.token().rpartition('-')[0]}-{child.pid}"
    try:
        assert not owners.is_gone(token)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended; still a zombie
        assert owners.is_gone(token)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
    assert owners.is_gone(token)


def test_validator_belongs_to_an_address(cache):
    with Partial(cache.bucket(PARTIAL), key_of(DIGEST), resume=True) as partial:
        partial.note("https://a.example/x", '"tag"')
        assert partial.validator("https://a.example/x") == '"tag"'
        assert partial.validator("https://b.example/x") is None


# -- who may do what -------------------------------------------------------------------------


@needs_modes
def test_modes_follow_a_shared_root(cache):
    os.mkdir(cache.root)
    os.chmod(cache.root, 0o2775)
    during: dict[str, int] = {}

    def fill(partial) -> None:
        for name, path in fs.walk_files(cache.root):
            during[name] = stat.S_IMODE(os.stat(path).st_mode)
        writes()(partial)

    umask = os.umask(0o077)
    try:
        path = cache.obtain(DIGEST, "map.fits", None, fill)
    finally:
        os.umask(umask)
    for folder, _, _ in os.walk(cache.root):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o2775, folder
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o444
    locked = {name: mode for name, mode in during.items() if "lock" in name}
    assert locked.pop(f"locks-v1/{key_of(DIGEST)}.lock.soft", 0o664) == 0o664
    assert locked == {".lock": 0o664, f"locks-v1/{key_of(DIGEST)}.lock": 0o664}
    part = next(mode for name, mode in during.items() if name.endswith(".part"))
    assert part == 0o644, "the next user copies it; nobody writes to what is verified here"


AS_NOBODY = """
import os, sys, warnings
warnings.simplefilter("error")
import pkgdata
root, registry = sys.argv[1:]
def look():
    data = pkgdata.PackageData("shared", dataurl="file:///no/", registry=registry, cache_dir=root)
    return data.get("map.fits")
look()  # loads what the interpreter needs, which the other user may not be allowed to read
os.setgid(65534); os.setuid(65534)
path = look()
with open(path, "rb") as file:
    print(path, len(file.read()))
try:
    os.mkdir(os.path.join(root, "probe"))
except PermissionError:
    print("not writable")
"""


@contextlib.contextmanager
def let_through(path: Path):
    """Let other users pass the folders above a path that pytest makes private."""
    private = [p for p in (path, *path.parents) if p.stat().st_mode & 0o001 == 0]
    top = Path(tempfile.gettempdir()).resolve()
    for folder in private:
        if not folder.resolve().is_relative_to(top) or folder.resolve() == top:
            pytest.skip(f"{folder} lets no other user through, and is not ours to change")
    modes = {folder: folder.stat().st_mode for folder in private}
    for folder, mode in modes.items():
        folder.chmod(mode | 0o011)
    try:
        yield
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="needs root, to become another user"
)
def test_read_only_root_is_read_without_a_write(cache, tmp_path):
    os.mkdir(cache.root)
    os.chmod(cache.root, 0o755)
    path = fill_by_hand(cache)
    registry = tmp_path / "registry.txt"
    registry.write_text(f"#: size={len(CONTENT)}\nmap.fits {DIGEST.hex}\n")
    before = snapshot(cache.root)
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    with let_through(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, cache.root, str(registry)],
            env={"PYTHONPATH": checkout, "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stderr, done.stdout) == ("", f"{path} {len(CONTENT)}\nnot writable\n")
    assert snapshot(cache.root) == before


def snapshot(root: str) -> dict[str, tuple[int, int]]:
    return {
        path: (os.stat(path).st_mtime_ns, os.stat(path).st_mode)
        for folder, _, files in os.walk(root)
        for path in [folder, *(os.path.join(folder, name) for name in files)]
    }


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    cache = Cache(str(tmp_path / "cache"), origin="PKGDATA_CACHE_DIR")
    with pytest.raises(CacheError, match="set by PKGDATA_CACHE_DIR") as caught:
        fill_by_hand(cache)
    assert "PKGDATA_CACHE_DIR" in caught.value.hint
    assert not caught.value.unwritable


# -- locks in use ------------------------------------------------------------------------------


def test_lock_file_that_its_holder_removes_meanwhile(cache, monkeypatch):
    """The name is there when it is to be created, and gone when it is to be opened."""
    fill_by_hand(cache)
    os.unlink(cache.path(DIGEST, "map.fits"))
    lock = os.path.join(cache.root, "locks-v1", f"{key_of(DIGEST)}.lock")
    create, left = fs.create_exclusive, [2]

    def racing(path: str, **how: int) -> int:
        if path == lock and left[0]:
            left[0] -= 1
            raise FileExistsError(errno.EEXIST, "a moment ago", path)
        return create(path, **how)

    monkeypatch.setattr(fs, "create_exclusive", racing)
    assert read(fill_by_hand(cache)) == CONTENT
    assert left == [0]


def test_removal_that_does_not_end_is_warned_of(cache):
    cache.prepare()
    with Cache(cache.root, lock_timeout=5).usage(exclusive=True):
        hurried = Cache(cache.root, lock_timeout=0)
        with pytest.warns(CacheWarning, match="continuing without it"):
            assert read(fill_by_hand(hurried)) == CONTENT


def test_waiter_is_told_who_works(cache):
    began, told = threading.Event(), threading.Event()
    seen: list[tuple[str, int]] = []

    def slow(partial) -> None:
        partial.offset = os.write(partial.fd, CONTENT)
        began.set()
        assert told.wait(30)

    def waiting(seconds: float, who: str, size: int) -> None:
        seen.append((who, size))
        told.set()

    holder = threading.Thread(target=cache.obtain, args=(DIGEST, "map.fits", None, slow))
    holder.start()
    assert began.wait(30)
    path = cache.obtain(DIGEST, "map.fits", None, refuse, waiting)
    holder.join()
    assert read(path) == CONTENT
    assert seen[0] == (f"process {os.getpid()}", len(CONTENT))
