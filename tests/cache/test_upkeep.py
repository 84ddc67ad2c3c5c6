"""Looking after a cache: list, prune, sweep, clear, and carry to another machine."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

import pkgdata
from pkgdata import Cache, CacheError, CacheLockTimeoutError, Digest, IntegrityError
from pkgdata.base import fs, locks, owners
from pkgdata.cache import stamps, upkeep
from pkgdata.cache.objects import LOCKS, PARTIAL, SIZES, TREES, key_of
from pkgdata.cache.stamps import split
from pkgdata.errors import ExtractionError

DAY = 86400.0
NOW = 2_000_000_000.0

needs_flock = pytest.mark.skipif(os.name == "nt", reason="Windows has no usage lock")


def sha(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


def put(cache: Cache, content: bytes, name: str, used_days_ago: float = 0.0) -> str:
    """Bring an object in and say when it was used last."""

    def fill(partial) -> None:
        partial.offset = os.write(partial.fd, content)

    path = cache.obtain(sha(content), name, None, fill)
    when = NOW - used_days_ago * DAY
    os.utime(path, (when, when - 5 * DAY))
    return path


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def names(found: list[upkeep.CachedObject]) -> list[str]:
    return sorted(item.name for item in found)


def paths_below(root: str) -> set[str]:
    """Return all files and folders below a root."""
    return {
        os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
        for folder, folders, files in os.walk(root)
        for name in folders + files
    }


@pytest.fixture
def cache(tmp_path):
    return Cache(str(tmp_path / "cache"), lock_timeout=30)


@pytest.fixture
def other(tmp_path):
    return Cache(str(tmp_path / "other"), lock_timeout=30)


# -- items and usage -------------------------------------------------------------------------


def test_items(cache):
    first = put(cache, b"one", "one.txt", used_days_ago=3)
    put(cache, b"three", "three.txt")
    found = {item.name: item for item in upkeep.items(cache)}
    assert set(found) == {"one.txt", "three.txt"}
    one = found["one.txt"]
    assert (one.digest, one.path, one.size) == (sha(b"one"), first, 3)
    assert one.used == NOW - 3 * DAY


def test_items_of_no_cache(cache):
    assert list(upkeep.items(cache)) == []
    assert not os.path.exists(cache.root)


def test_usage_counts_hard_links_once(cache):
    path = put(cache, b"12345", "one.txt")
    put(cache, b"12345", "second.txt")
    cache.tree(sha(b"tree"), [("one.txt", path)])
    totals = upkeep.usage(cache)
    none = (0, 0)
    assert totals == {
        "objects": (1, 5),
        "trees": none,
        "derived": none,
        "unfinished": none,
        "total": (1, 5),
    }


# -- prune -------------------------------------------------------------------------------------


def test_prune_by_age(cache):
    old = put(cache, b"old", "old.txt", used_days_ago=90)
    new = put(cache, b"new", "new.txt", used_days_ago=10)
    dead = os.path.join(cache.root, LOCKS, "x.lock")
    leave(cache, f"{LOCKS}/x.lock")
    listed = upkeep.prune(cache, 30, dry_run=True, now=NOW)
    assert names(listed.objects) == ["old.txt"]
    assert os.path.exists(dead)
    assert os.path.exists(old)
    assert upkeep.prune(cache, 30, now=NOW) == listed, "a dry run counts what would be removed"
    assert not os.path.exists(dead)
    assert os.path.exists(new)
    assert not os.path.exists(os.path.dirname(old)), "its empty folder goes too"
    # the size of an object never changes, so it may stay, and does
    assert [stamps.recorded_size(cache.root, sha(content)) for content in (b"old", b"new")] == [
        3,
        3,
    ]


def test_prune_goes_by_access_or_change_whichever_is_later(cache):
    path = put(cache, b"read lately", "a.txt")
    os.utime(path, (NOW - DAY, NOW - 400 * DAY))
    other = put(cache, b"fetched lately", "b.txt")
    os.utime(other, (NOW - 400 * DAY, NOW - DAY))
    assert upkeep.prune(cache, 30, now=NOW) == ([], 0, 0)


def test_prune_takes_trees_and_derived_directories(cache):
    path = put(cache, b"old", "old.txt")
    identity = sha(b"tree")
    tree = cache.tree(identity, [("old.txt", path)])
    derived = cache.derived(sha(b"old"), "recipe", lambda folder: put_link(folder))
    for folder in (tree, derived):
        for _, inside in fs.walk_files(folder):
            os.utime(inside, (NOW - 90 * DAY, NOW - 90 * DAY), follow_symlinks=False)
    os.utime(path, (NOW - 90 * DAY, NOW - 90 * DAY))
    upkeep.prune(cache, 30, now=NOW)
    assert paths_below(cache.root) == left_after_all(b"old")


@pytest.mark.parametrize("noatime", [True, False])
def test_use_counts_where_the_mount_keeps_no_times_of_access(cache, monkeypatch, noatime):
    monkeypatch.setattr(stamps, "_keeps_times", {cache.root: not noatime})
    path = put(cache, b"old", "old.txt")
    tree = cache.tree(sha(b"tree"), [("old.txt", path)])
    folder = cache.derived(sha(b"old"), "recipe", write)
    now = time.time()
    files = [path, os.path.join(tree, "old.txt"), os.path.join(folder, "made")]
    for file in files:
        os.utime(file, (now - 90 * DAY, now - 90 * DAY))
    stamps.note_use(cache.root, path)
    assert cache.find_tree(sha(b"tree"))
    assert cache.derived(sha(b"old"), "recipe", write) == folder
    for file in files:
        found = os.stat(file)
        assert (found.st_atime > now - DAY) is noatime
        assert found.st_mtime < now - 89 * DAY, "what tells that a file is the same stays"
    assert bool(upkeep.prune(cache, 30).objects) is not noatime
    before = os.stat(path).st_atime_ns if noatime else 0
    stamps.note_use(cache.root, path)
    assert not noatime or os.stat(path).st_atime_ns == before, "once a day is enough"


@pytest.mark.parametrize("verb", ["get", "fetch", "open", "list"])
def test_a_file_that_a_package_uses_is_not_old(cache, monkeypatch, verb):
    monkeypatch.setattr(stamps, "_keeps_times", {cache.root: False})
    path = put(cache, b"old", "old.txt", used_days_ago=90)
    os.utime(path, (time.time() - 90 * DAY, time.time() - 90 * DAY))
    data = pkgdata.PackageData("x", registry={"old.txt": str(sha(b"old"))}, cache_dir=cache.root)
    used = {
        "get": lambda: data.get("old.txt"),
        "fetch": data.fetch,
        "open": lambda: data.open("old.txt").close(),
        "list": lambda: data.find("old.txt"),
    }
    used[verb]()
    assert bool(upkeep.prune(cache, 30).objects) is (verb == "list"), "to look is not to use"


def write(folder: str) -> None:
    with open(os.path.join(folder, "made"), "wb") as file:
        file.write(b"made")


def put_link(folder: str) -> None:
    """Leave a link that leads nowhere, as a foreign processor may."""
    os.symlink("nowhere", os.path.join(folder, "link"))


def left_after_all(content: bytes) -> set[str]:
    return (
        {"CACHEDIR.TAG", "README.txt", ".lock", "locks-v1", "partial-v1"}
        | {f"{bucket}-v1" for bucket in ("objects", "trees", "derived", "contents")}
        | {SIZES, f"{SIZES}/sha256", f"{SIZES}/sha256/{sha(content).hex[:2]}.txt"}
    )


def test_prune_keeps_a_tree_in_use_though_its_objects_are_old(cache):
    path = put(cache, b"old", "old.txt")
    tree = cache.tree(sha(b"tree"), [("sub/old.txt", path)])
    os.utime(path, (NOW - DAY, NOW - 90 * DAY))
    upkeep.prune(cache, 30, now=NOW)
    assert read(os.path.join(tree, "sub", "old.txt")) == b"old"


def test_verify_finds_damage_and_gaps(cache):
    path, other = put(cache, b"12345", "one.txt"), put(cache, b"abc", "two.txt")
    cache.tree(sha(b"tree"), [("sub/one.txt", path)])

    def build(folder: str) -> None:
        with open(os.path.join(folder, "out.txt"), "w") as file:
            file.write("out")

    derived = cache.derived(sha(b"12345"), "recipe", build)
    assert list(upkeep.verify(cache)) == []
    fs.remove(os.path.join(derived, "out.txt"))
    fs.remove_tree(os.path.join(cache.find_tree(sha(b"tree")), "sub"))
    os.chmod(other, 0o644)
    Path(other).write_bytes(b"abd")
    before = paths_below(cache.root)
    found = {os.path.relpath(where, cache.root): what for where, what in upkeep.verify(cache)}
    kinds = sorted((name.partition(os.sep)[0], os.path.basename(name)) for name in found)
    assert kinds == [
        ("derived-v1", "out.txt"),
        ("objects-v1", "two.txt"),
        ("trees-v1", "one.txt"),
        ("trees-v1", "sub"),
    ]
    wrong = found[os.path.relpath(other, cache.root)]
    assert wrong == f"expected {sha(b'abc')}, found {sha(b'abd')}"
    assert paths_below(cache.root) == before, "nothing is changed"


def test_verify_names_a_directory_of_unknown_contents(cache):
    folder = cache.derived(sha(b"x"), "recipe", lambda aside: os.mkdir(f"{aside}/empty"))
    fs.remove_tree(os.path.join(cache.root, "contents-v1"))
    assert list(upkeep.verify(cache)) == [(folder, "what it must hold is not known")]


def test_prune_of_no_cache_creates_none(cache):
    assert upkeep.prune(cache, 0) == ([], 0, 0)
    assert upkeep.sweep(cache) == 0
    assert upkeep.clear(cache) == (0, 0)
    assert not os.path.exists(cache.root)


# -- sweep -------------------------------------------------------------------------------------


def gone_owner() -> str:
    """Return the token of a process of this machine that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return f"{owners.token().rpartition('-')[0]}-{child.pid}"


def leave(cache: Cache, name: str, age_days: float = 0.0) -> str:
    path = os.path.join(cache.root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"left")
    os.utime(path, (NOW - age_days * DAY, NOW - age_days * DAY))
    return path


def test_sweep_removes_what_killed_processes_left(cache):
    put(cache, b"here", "here.txt")
    dead, here, absent = gone_owner(), key_of(sha(b"here")), key_of(sha(b"absent"))
    stray = [
        f"{PARTIAL}/{here}.part",
        f"{PARTIAL}/{here}.note",
        f"{PARTIAL}/{here}.{dead}-00000000.part",
        f"{PARTIAL}/{here}.{dead}-00000000.link",
        f"{PARTIAL}/tree-{absent}.{dead}-00000000.dir/sub/file",
        f"{PARTIAL}/{absent}.{dead}-11111111.link",
        f"{PARTIAL}/sha256-{'0' * 40}.part",
        f"{LOCKS}/{absent}.lock",
        f"{LOCKS}/{absent}.lock.soft",
        f"README.txt.{dead}-00000000.tmp",
        f"{PARTIAL}/{here}.spans",
        f"{PARTIAL}/{here}.{dead}-00000000.note",
        f"{PARTIAL}/{here}.{dead}-00000000.spans",
    ]
    old = stray[6]
    kept = [
        f"{PARTIAL}/{absent}.part",
        f"{PARTIAL}/{absent}.note",
        f"{PARTIAL}/{absent}.spans",
        f"{PARTIAL}/{absent}.{dead}-22222222.part",
        f"{PARTIAL}/{absent}.{dead}-22222222.spans",
        f"{SIZES}/sha256/ab.txt",
        f"{PARTIAL}/{here}.{owners.token()}-00000000.part",
        f"{PARTIAL}/tree-{absent}.{owners.token()}-00000000.dir/file",
    ]
    before = {name for name, _ in fs.walk_files(cache.root)}
    for name in stray + kept:
        path = leave(cache, name, age_days=8 if name == old else 1)
        if ".dir/" in name:
            os.utime(os.path.dirname(path), (NOW, NOW))
    empty = ["objects-v1/sha256/12/34", "trees-v1/md5/56/78"]
    for folder in empty:
        os.makedirs(os.path.join(cache.root, folder))
    assert upkeep.sweep(cache, now=NOW) >= len(stray)
    assert {name for name, _ in fs.walk_files(cache.root)} == before | set(kept)
    assert not any(os.path.exists(os.path.join(cache.root, name)) for name in empty)
    assert upkeep.sweep(cache, now=NOW) == 0, "nothing is left for the second time"
    assert read(cache.find(sha(b"here"), "here.txt")) == b"here"


def test_unfinished_bytes_are_swept_after_a_week(cache):
    cache.prepare()
    part = leave(cache, f"{PARTIAL}/{key_of(sha(b'absent'))}.part", age_days=6)
    upkeep.sweep(cache, now=NOW)
    assert os.path.exists(part)
    upkeep.sweep(cache, now=NOW + 2 * DAY)
    assert not os.path.exists(part)


def test_sweep_leaves_empty_folders_of_trees(cache):
    folder = cache.derived(sha(b"x"), "recipe", lambda aside: os.mkdir(f"{aside}/empty"))
    upkeep.sweep(cache)
    assert os.path.isdir(os.path.join(folder, "empty"))


# -- clear -------------------------------------------------------------------------------------


def test_clear_leaves_what_other_releases_made(cache):
    path = put(cache, b"12345", "one.txt")
    cache.tree(sha(b"tree"), [("one.txt", path)])
    theirs = ["objects-v2/sha256/ab/cd/file", "sizes-v0/x", "otherpkg/download/url/ab/contents"]
    for name in theirs:
        leave(cache, name)
    assert upkeep.clear(cache) == (1, 5)
    files = {name for name, _ in fs.walk_files(cache.root)}
    assert files == {"CACHEDIR.TAG", "README.txt", ".lock", *theirs}
    assert {name for name in os.listdir(cache.root) if name.endswith("-v1")} == set()
    assert put(cache, b"12345", "one.txt") == path, "the cache works on"


# -- removal and programs in use ------------------------------------------------------------------

HOLDER = """
import sys
from pkgdata import Cache
with Cache(sys.argv[1]).usage():
    print("in use", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def program(cache):
    """A real process that uses the cache until a line is sent to it."""
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, cache.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": checkout},
    )
    assert child.stdout.readline() == b"in use\n"
    yield child
    child.kill()
    child.communicate()


@needs_flock
@pytest.mark.parametrize(
    "remove", [upkeep.clear, upkeep.sweep, lambda cache: upkeep.prune(cache, 0)]
)
def test_removal_gives_up_while_a_program_uses_the_cache(cache, program, remove):
    path = put(cache, b"12345", "one.txt")
    with pytest.raises(CacheLockTimeoutError, match="held by programs that use it") as caught:
        remove(Cache(cache.root, lock_timeout=0))
    assert caught.value.path == os.path.join(cache.root, ".lock")
    assert isinstance(caught.value, TimeoutError)
    assert "PKGDATA_LOCK_TIMEOUT" in caught.value.hint
    assert os.path.exists(path)


@needs_flock
def test_removal_waits_for_the_program_to_end(cache, program, monkeypatch):
    put(cache, b"12345", "one.txt")
    refused = threading.Event()
    real = locks._try_flock

    def watched(fd: int, exclusive: bool):
        granted = real(fd, exclusive)
        if exclusive and granted is False and not refused.is_set():
            refused.set()
            program.stdin.write(b"\n")
            program.stdin.flush()
        return granted

    monkeypatch.setattr(locks, "_try_flock", watched)
    assert upkeep.clear(cache) == (1, 5)
    assert refused.is_set()


@needs_flock
def test_a_killed_program_keeps_nobody_out(cache, program):
    put(cache, b"12345", "one.txt")
    program.kill()
    program.wait()
    assert upkeep.clear(cache) == (1, 5)


# -- export and import -----------------------------------------------------------------------


def rewrite(source: str, target: str, change) -> None:
    """Copy an archive with its members changed: change(info, content) gives members."""
    with tarfile.open(source) as read_from, tarfile.open(target, "w") as write_to:
        for info in read_from.getmembers():
            for changed, content in change(info, read_from.extractfile(info).read()):
                changed.size = len(content) if changed.isreg() else 0
                write_to.addfile(changed, io.BytesIO(content))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_the_umask_decides_who_reads_an_exported_archive(cache, tmp_path):
    put(cache, b"one", "one.txt")
    tmp_path.chmod(0o777)
    umask = os.umask(0o077)
    try:
        upkeep.export_archive(cache, tmp_path / "carry.tar")
    finally:
        os.umask(umask)
    assert (tmp_path / "carry.tar").stat().st_mode & 0o777 == 0o600


def test_export_and_import(cache, other, tmp_path):
    contents = {"one.txt": b"one", "two ü.txt": b"two", "x" * 200 + ".txt": b"3" * 70_000}
    for name, content in contents.items():
        put(cache, content, name)
    archive = tmp_path / "carry.tar"
    assert names(upkeep.export_archive(cache, archive)) == sorted(contents)
    with tarfile.open(archive, "r:") as file:
        assert sorted(file.getnames()) == sorted(
            "/".join(("objects-v1", *split(sha(content)), name))
            for name, content in contents.items()
        )
    assert names(upkeep.import_archive(other, archive).new) == sorted(contents)
    for name, content in contents.items():
        assert read(other.find(sha(content), name)) == content
        assert stamps.recorded_size(other.root, sha(content)) == len(content)
    assert upkeep.import_archive(other, archive) == ([], len(contents)), "all of it is here"


def test_archives_of_the_same_objects_are_the_same(cache, tmp_path):
    put(cache, b"one", "one.txt", used_days_ago=1)
    upkeep.export_archive(cache, tmp_path / "a.tar")
    put(cache, b"one", "one.txt", used_days_ago=2)
    upkeep.export_archive(cache, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize(
    "asked",
    [
        ["one.txt"],
        ["maps/one.txt"],
        [sha(b"one")],
        [f"sha256:{sha(b'one').hex.upper()}"],
        [sha(b"one").hex, "one.txt"],
    ],
    ids=["name", "registry name", "Digest", "digest text", "twice"],
)
def test_export_of_some(cache, tmp_path, asked):
    put(cache, b"one", "one.txt")
    put(cache, b"two", "two.txt")
    assert names(upkeep.export_archive(cache, tmp_path / "a.tar", asked)) == ["one.txt"]


def test_export_of_what_is_not_here(cache, tmp_path):
    put(cache, b"one", "one.txt")
    with pytest.raises(CacheError, match=r"holds no 'absent\.txt'"):
        upkeep.export_archive(cache, tmp_path / "a.tar", ["one.txt", "absent.txt"])
    assert not (tmp_path / "a.tar").exists()


def test_export_refuses_to_overwrite(cache, tmp_path):
    put(cache, b"one", "one.txt")
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="not overwritten"):
        upkeep.export_archive(cache, archive)
    assert archive.read_bytes() == b"precious"


def test_export_refuses_what_appears_meanwhile(cache, tmp_path, monkeypatch):
    put(cache, b"one", "one.txt")
    archive = tmp_path / "a.tar"
    sync = os.fsync

    def late(fd: int) -> None:
        sync(fd)
        archive.write_bytes(b"precious")

    monkeypatch.setattr(os, "fsync", late)
    with pytest.raises(FileExistsError):
        upkeep.export_archive(cache, archive)
    assert archive.read_bytes() == b"precious"
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")] == []


@pytest.mark.parametrize("now", [b"oNe", b"on"], ids=["changed", "shorter"])
def test_export_refuses_a_damaged_object(cache, tmp_path, now):
    path = put(cache, b"one", "one.txt")
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(now)
    with pytest.raises(IntegrityError, match="is damaged"):
        upkeep.export_archive(cache, tmp_path / "a.tar")
    assert os.listdir(tmp_path / "cache" / "objects-v1" / "sha256") != []
    assert [name for name in os.listdir(tmp_path) if "tar" in name] == []


@pytest.fixture
def archive(cache, tmp_path):
    """An archive of two objects, whose members come in the order of their digests."""
    for content in (b"one", b"two"):
        put(cache, content, f"{content.decode()}.txt")
    path = str(tmp_path / "good.tar")
    upkeep.export_archive(cache, path)
    return path


def object_name(content: bytes, name: str) -> str:
    return "/".join(("objects-v1", *split(sha(content)), name))


@pytest.mark.parametrize(
    "surplus",
    [
        member("../../evil.txt"),
        member("/etc/evil.txt"),
        member("objects-v1/sha256/ab/cd/evil.txt"),
        member("README.txt"),
        member(object_name(b"x", "..")),
        member(object_name(b"x", "a\\b")),
        member(object_name(b"x", "evil.txt").replace("sha256", "SHA256")),
        member(object_name(b"x", "evil.txt").replace("objects-v1", "objects-v2")),
        member(object_name(b"x", "evil.txt").replace("/sha256/", "/sha256//")),
        member(object_name(b"x", "deep/evil.txt")),
        member(object_name(b"x", "link.txt"), tarfile.SYMTYPE, "/etc/passwd"),
        member(object_name(b"x", "link.txt"), tarfile.LNKTYPE, object_name(b"one", "one.txt")),
        member(object_name(b"x", "pipe"), tarfile.FIFOTYPE),
        member("objects-v1", tarfile.DIRTYPE),
    ],
    ids=lambda info: f"{info.type.decode()} {info.name[:22]}{info.name[-9:]}",
)
def test_import_refuses_other_members_before_anything_is_added(other, archive, tmp_path, surplus):
    bad = str(tmp_path / "bad.tar")
    members = iter([(surplus, b"x")])
    rewrite(archive, bad, lambda info, content: [(info, content), *members])
    with pytest.raises(ExtractionError, match="refused"):
        upkeep.import_archive(other, bad)
    assert not os.path.exists(other.root)


def test_import_verifies_each_member(other, archive, tmp_path):
    bad = str(tmp_path / "bad.tar")
    last = max(object_name(content, f"{content.decode()}.txt") for content in (b"one", b"two"))

    def change(info, content):
        return [(info, b"bad" if info.name == last else content)]

    rewrite(archive, bad, change)
    with pytest.raises(IntegrityError, match="wrong bytes"):
        upkeep.import_archive(other, bad)
    found = list(upkeep.items(other))
    assert len(found) == 1, "the one before it was added, whole"
    assert sha(read(found[0].path)) == found[0].digest
    assert os.listdir(os.path.join(other.root, PARTIAL)) == []
    assert len(upkeep.import_archive(other, archive).new) == 1, "the good archive brings the rest"


def test_import_repairs_a_truncated_object(other, archive):
    upkeep.import_archive(other, archive)
    path = other.path(sha(b"one"), "one.txt")
    os.chmod(path, 0o644)
    os.truncate(path, 1)
    assert names(upkeep.import_archive(other, archive).new) == ["one.txt"]
    assert read(path) == b"one"


@pytest.mark.parametrize("kind", ["cut", "compressed", "no tar", "empty file"])
def test_import_of_what_is_no_whole_archive(other, archive, tmp_path, kind):
    whole = read(archive)
    if kind == "compressed":
        import gzip

        whole = gzip.compress(whole, mtime=0)
    bad = {"cut": whole[:600], "compressed": whole, "no tar": b"x" * 4096, "empty file": b""}[kind]
    path = tmp_path / "bad.tar"
    path.write_bytes(bad)
    with pytest.raises(ExtractionError, match="cannot be read as an uncompressed tar"):
        upkeep.import_archive(other, path)
    assert list(upkeep.items(other)) == []


def test_import_of_nothing(other, tmp_path):
    with pytest.raises(FileNotFoundError):
        upkeep.import_archive(other, tmp_path / "absent.tar")


@needs_flock
def test_export_keeps_removal_out(cache, tmp_path, monkeypatch):
    put(cache, b"one", "one.txt")
    tried: list[type] = []
    export_one = upkeep._export_one

    def while_exporting(archive, item) -> None:
        with pytest.raises(CacheLockTimeoutError):
            upkeep.clear(Cache(cache.root, lock_timeout=0))
        tried.append(type(item))
        export_one(archive, item)

    monkeypatch.setattr(upkeep, "_export_one", while_exporting)
    upkeep.export_archive(cache, tmp_path / "a.tar")
    assert tried == [upkeep.CachedObject]
    assert not os.path.exists(os.path.join(cache.root, TREES))
