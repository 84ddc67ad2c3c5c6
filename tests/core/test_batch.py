"""Batches of real files: what comes, what is reported, and what is on disk."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading

import faults
import pytest
from batching import (
    FEW,
    FILES,
    MANY,
    check_here,
    check_objects,
    checkout,
    declare,
    left,
    make,
    needs_modes,
    read,
    registry,
    sha,
)
from faults import FaultServer, forever

import pkgdata
from pkgdata import Entry, Registry
from pkgdata.base import disk
from pkgdata.base.progress import DONE, START
from pkgdata.cache import partial, stamps
from pkgdata.cache.objects import LOCKS, OBJECTS, PARTIAL
from pkgdata.core import batch, jobs
from pkgdata.errors import (
    AccessDeniedError,
    AllMirrorsFailedError,
    BatchError,
    CacheError,
    IntegrityError,
    ObjectNotFoundError,
    OfflineError,
    StoreError,
    UnknownNameError,
)

# -- what comes --------------------------------------------------------------------------------


@pytest.mark.parametrize("sized", [True, False])
def test_all_come_over_few_connections(server, sized):
    data = declare(server.url, registry=registry(FILES, sized))
    report = data.fetch()
    check_here(report, FILES)
    assert (len(report.succeeded), report.failed) == (301, {})
    assert server.connections <= 5
    assert sorted(request.path for request in server.requests) == sorted(FILES)
    assert check_objects(data.cache.root) == len(FILES)
    assert left(data.cache.root, PARTIAL) == left(data.cache.root, LOCKS) == []
    recorded = {stamps.recorded_size(data.cache.root, sha(content)) for content in FILES.values()}
    assert recorded == ({None} if sized else {len(content) for content in FILES.values()})


def test_a_second_batch_asks_for_nothing(server):
    declare(server.url).fetch()
    server.requests.clear()
    check_here(declare(server.url).fetch(), FILES)
    assert server.requests == []


def test_what_is_here_is_not_fetched_again(server):
    data = declare(server.url)
    some = list(FILES)[::3]
    check_here(data.fetch(some), some)
    server.requests.clear()
    check_here(data.fetch(), FILES)
    assert sorted(request.path for request in server.requests) == sorted(set(FILES) - set(some))


def test_the_same_name_twice_is_one(server):
    names = [*FILES, *FILES]
    check_here(declare(server.url).fetch(names), FILES)
    assert len(server.requests) == len(FILES)


def test_one_digest_under_several_names_is_fetched_once(server):
    names = [name for name in FILES if name.startswith("maps/")]
    files = {**FILES, **{f"copies/{name}": FILES[name] for name in names}}
    report = declare(server.url, files=files).fetch()
    check_here(report, files, files)
    assert sorted(request.path for request in server.requests) == sorted(FILES)
    for name in names:
        assert os.path.samefile(report.succeeded[name], report.succeeded[f"copies/{name}"])


def test_one_digest_under_several_names_that_is_missing(server):
    files = {**FILES, "copy.bin": FILES["file000.bin"]}
    del server.contents["file000.bin"]
    with pytest.raises(BatchError) as caught:
        declare(server.url, files=files).fetch()
    assert set(caught.value.report.failed) == {"file000.bin", "copy.bin"}
    check_here(caught.value.report, set(FILES) - {"file000.bin"})


def test_entries_with_their_own_urls(server, second):
    own = {name: [second.link(name)] for name in list(FILES)[::2]}
    data = declare(server.url, registry=registry(FILES, **own))
    check_here(data.fetch(), FILES)
    assert sorted(request.path for request in second.requests) == sorted(own)
    assert sorted(request.path for request in server.requests) == sorted(set(FILES) - set(own))


def test_own_url_that_is_wrong_falls_back_to_the_mirrors(server, second):
    second.contents.clear()
    own = {name: [second.link(name)] for name in list(FILES)[::2]}
    check_here(declare(server.url, registry=registry(FILES, **own)).fetch(), FILES)
    assert sorted(request.path for request in server.requests) == sorted(FILES)


def test_files_that_go_alone_beside_those_in_bulk(server, monkeypatch):
    """What is not small, or not pinned, is fetched as a single file is."""
    monkeypatch.setattr(batch, "SMALL", 2500)
    entries = [*registry(FILES).values()]
    server.contents["unpinned.txt"] = b"as it is today"
    data = declare(server.url, registry=Registry([*entries, Entry("unpinned.txt", None)]))
    report = data.fetch()
    assert read(report.succeeded.pop("unpinned.txt")) == b"as it is today"
    check_here(report, FILES)
    assert len(server.requests) == len(FILES) + 1


def test_a_file_that_is_larger_than_the_registry_lets_expect(server, monkeypatch):
    monkeypatch.setattr(batch, "SMALL", 2500)
    report = declare(server.url, registry=registry(FILES, sized=False)).fetch()
    check_here(report, FILES)


def test_medium_files_use_a_second_thread(monkeypatch):
    files = make(60, 200_000)
    threads = set()
    feed = jobs.SmallFile.feed

    def watch(job, view) -> None:
        threads.add(threading.current_thread().name)
        feed(job, view)

    monkeypatch.setattr(jobs.SmallFile, "feed", watch)
    with FaultServer(dict(files)) as server:
        report = declare(server.url, files=files).fetch()
        check_here(report, files, files)
        assert len(server.requests) == len(files)
        assert server.connections <= 5 + 5 // 2  # those that end with their object, and the new
    assert "pkgdata-bulk" in threads


def test_progress_of_each(server):
    seen: dict[str, list[tuple[str, int]]] = {}
    lock = threading.Lock()

    def note(event) -> None:
        with lock:
            seen.setdefault(event.name, []).append((event.state, event.done))

    declare(server.url).fetch(progress=note)
    assert set(seen) == set(FILES)
    for name, states in seen.items():
        assert [state for state, _ in states if state in (START, DONE)] == [START, DONE]
        assert states[-1] == (DONE, len(FILES[name]))


# -- mirrors -----------------------------------------------------------------------------------


def test_duplicate_and_dead_mirrors(server):
    dead = "http://127.0.0.1:1/"
    data = declare(dead, dead, server.url, server.url)
    check_here(data.fetch(), FILES)
    assert sorted(request.path for request in server.requests) == sorted(FILES)
    assert server.connections <= 5


@pytest.mark.slow
def test_mirrors_that_hold_a_part_each(server, second):
    for i, name in enumerate(FILES):
        del (server, second)[i % 2].contents[name]
    check_here(declare(server.url, second.url).fetch(), FILES)


def test_a_mirror_that_lies(server, second):
    for name in FILES:
        server.script(name, forever(faults.other_bytes()))
    check_here(declare(server.url, second.url).fetch(), FILES)


def test_mirrors_that_are_not_plain(server, monkeypatch):
    """A login in the URL is for the library that knows logins; all come all the same."""
    few = dict(list(FILES.items())[:40])
    url = server.url.replace("http://", "http://me:secret@")
    check_here(declare(url, files=few).fetch(), few)
    assert {r.headers.get("authorization", "")[:6] for r in server.requests} == {"Basic "}


@pytest.mark.parametrize("port", ["0", "65536", "port"])
def test_a_mirror_with_an_impossible_port(port):
    """Each file is reported; nothing escapes from the batch as a stray error."""
    few = dict(list(FILES.items())[:40])
    with pytest.raises(BatchError) as caught:
        declare(f"http://127.0.0.1:{port}/", files=few).fetch()
    assert set(caught.value.report.failed) == set(few)


# -- failures ----------------------------------------------------------------------------------


def break_some(server: FaultServer) -> dict[str, tuple[type, type | None]]:
    """Let some files fail in their own ways; return what is told of each: error and its cause."""
    names = list(FILES)
    server.contents[names[3]] = FILES[names[3]] + b"changed"
    server.contents[names[4]] = FILES[names[4]][::-1] + b""
    del server.contents[names[50]], server.contents[names[51]]
    server.script(names[100], forever(faults.other_bytes()))
    server.script(names[101], forever(faults.page()))
    server.script(names[150], forever(faults.status(403)))
    server.script(names[200], forever(faults.status(503)))
    server.script(names[201], forever(faults.cut(1)))
    return {
        names[3]: (IntegrityError, None),
        names[4]: (IntegrityError, None),
        names[50]: (AllMirrorsFailedError, ObjectNotFoundError),
        names[51]: (AllMirrorsFailedError, ObjectNotFoundError),
        names[100]: (IntegrityError, None),
        names[101]: (IntegrityError, None),
        names[150]: (AllMirrorsFailedError, AccessDeniedError),
        names[200]: (AllMirrorsFailedError, StoreError),
        names[201]: (AllMirrorsFailedError, ConnectionError),
    }


def mend(server: FaultServer) -> None:
    server.contents.update(FILES)
    for name in FILES:
        server.script(name)


def test_failures_are_listed_exactly_and_retried_alone(server):
    expected = break_some(server)
    data = declare(server.url)
    with pytest.raises(BatchError) as caught:
        data.fetch()
    report = caught.value.report
    assert {name: type(error) for name, error in report.failed.items()} == {
        name: kind for name, (kind, _) in expected.items()
    }
    for name, (_, cause) in expected.items():
        assert name in str(report.failed[name])
        if cause is not None:
            ((_, error),) = report.failed[name].attempts
            assert isinstance(error, cause)
    check_here(report, set(FILES) - set(expected))
    assert str(caught.value).startswith("9 of 301 files of p could not be fetched:")
    assert check_objects(data.cache.root) == len(FILES) - len(expected)

    mend(server)
    server.requests.clear()
    check_here(report.retry(), expected)
    assert {request.path for request in server.requests} == set(expected)
    check_here(data.fetch(), FILES)


def test_retry_that_fails_again_lists_what_is_left(server):
    expected = break_some(server)
    with pytest.raises(BatchError) as caught:
        declare(server.url).fetch()
    mend(server)
    still = next(iter(expected))
    del server.contents[still]
    with pytest.raises(BatchError) as again:
        caught.value.report.retry()
    assert set(again.value.report.failed) == {still}
    check_here(again.value.report, set(expected) - {still})


def test_unknown_and_unsafe_names_do_not_stop_the_others(server):
    with pytest.raises(BatchError) as caught:
        declare(server.url).fetch([*FILES, "file0000.bin", "../secret"])
    failed = caught.value.report.failed
    assert set(failed) == {"file0000.bin", "../secret"}
    assert isinstance(failed["file0000.bin"], UnknownNameError)
    assert isinstance(failed["../secret"], pkgdata.UnsafeNameError)
    check_here(caught.value.report, FILES)
    assert len(server.requests) == len(FILES)


def test_a_server_that_has_nothing(server):
    server.contents.clear()
    with pytest.raises(BatchError) as caught:
        declare(server.url, retries=4).fetch()
    assert set(caught.value.report.failed) == set(FILES)
    for error in caught.value.report.failed.values():
        ((_, cause),) = error.attempts
        assert isinstance(cause, ObjectNotFoundError)
    assert "… and 291 more" in str(caught.value)


def test_nobody_listens():
    few = dict(list(FILES.items())[:40])
    with pytest.raises(BatchError) as caught:
        declare("http://127.0.0.1:1/", files=few).fetch()
    assert set(caught.value.report.failed) == set(few)


def test_a_cache_that_cannot_be_used(server, tmp_path):
    (tmp_path / "file").write_bytes(b"in the way")
    few = dict(list(FILES.items())[:40])
    with pytest.raises(BatchError) as caught:
        declare(server.url, files=few, cache_dir=str(tmp_path / "file")).fetch()
    assert {type(error) for error in caught.value.report.failed.values()} == {CacheError}
    assert set(caught.value.report.failed) == set(few)
    assert server.requests == []


OFFLINE = """
import json, sys
import pkgdata
data = pkgdata.PackageData("p", dataurl="http://127.0.0.1:1/", registry=sys.argv[1], offline=True)
try:
    data.fetch()
except pkgdata.BatchError as error:
    print(json.dumps({name: type(e).__name__ for name, e in error.report.failed.items()}))
print(json.dumps(sorted(sys.modules)))
"""


def test_offline_all_fail_before_anything_that_speaks_http_is_loaded(tmp_path):
    path = tmp_path / "registry.txt"
    path.write_text(registry(FILES).dumps(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(path)],
        env={**os.environ, "PYTHONPATH": checkout()},
        stdout=subprocess.PIPE,
        check=True,
    )
    failed, modules = map(json.loads, done.stdout.splitlines())
    assert failed == dict.fromkeys(FILES, OfflineError.__name__)
    assert {"requests", "urllib3", "http.client", "ssl", "socket"}.isdisjoint(modules)


# -- what is on disk ---------------------------------------------------------------------------


@needs_modes
@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_modes_follow_a_shared_root(server, umask):
    data = declare(server.url, registry=registry(FILES, sized=False))
    os.mkdir(data.cache.root)
    os.chmod(data.cache.root, 0o2775)
    before = os.umask(umask)
    try:
        data.fetch()
    finally:
        os.umask(before)
    for folder, _, files in os.walk(data.cache.root):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o2775, folder
        for name in files:
            mode = stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)
            assert mode == (0o444 if OBJECTS in folder else 0o664), os.path.join(folder, name)


@pytest.fixture
def steps(monkeypatch):
    """Record every sync, and every rename of an object into its place."""
    found: list[str] = []
    fsync, sync_all, replace = os.fsync, disk.sync_all, os.replace

    def watch_fsync(fd: int) -> None:
        found.append("fsync")
        fsync(fd)

    def watch_sync_all(folder: str) -> None:
        found.append("sync_all")
        sync_all(folder)

    def watch_replace(source: str, target: str) -> None:
        if OBJECTS in target:
            found.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(disk, "sync_all", watch_sync_all)
    monkeypatch.setattr(os, "replace", watch_replace)
    monkeypatch.setattr(partial, "MOST", 50)
    return found


@pytest.mark.skipif(not disk.can_sync_all(), reason="this system has no syncfs")
def test_a_batch_syncs_each_group_once_before_it_is_renamed(server, steps):
    declare(server.url, files=FEW).fetch()
    of_a_group = ["sync_all"] + ["rename"] * 50
    assert steps == of_a_group + of_a_group + of_a_group[:21]


@pytest.mark.skipif(not disk.can_sync_all(), reason="this system has no syncfs")
def test_a_group_ends_by_its_bytes_too(server, steps, monkeypatch):
    monkeypatch.setattr(partial, "MOST_BYTES", 1)
    declare(server.url, files=FEW).fetch()
    assert steps == ["sync_all", "rename"] * len(FEW)


def test_each_file_synced_by_itself(server, steps):
    declare(server.url, files=FEW, durability="each").fetch()
    assert steps == ["fsync", "rename"] * len(FEW)


def test_each_is_what_a_batch_falls_back_to(server, steps, monkeypatch):
    monkeypatch.setattr(disk, "can_sync_all", lambda: False)
    declare(server.url, files=FEW).fetch()
    assert steps == ["fsync", "rename"] * len(FEW)


def test_nothing_synced(server, steps):
    declare(server.url, files=FEW, durability="none").fetch()
    assert steps == ["rename"] * len(FEW)


def failing(real, chosen):
    """Return a stand-in that raises at the chosen calls."""
    calls = [0]

    def call(*arguments):
        calls[0] += 1
        if chosen(calls[0], *arguments):
            raise OSError(5, "Input/output error")
        return real(*arguments)

    return call


@pytest.mark.parametrize(
    ("module", "name", "chosen", "durability"),
    [
        (os, "fsync", lambda n, fd: n == 7, "each"),
        (disk, "sync_all", lambda n, folder: n == 2, "batch"),
        (disk, "sync_all", lambda n, folder: n == 3, "batch"),
        (os, "replace", lambda n, source, target: OBJECTS in target and n == 60, "batch"),
        (stamps, "record_sizes", lambda n, root, facts: n == 1, "batch"),
    ],
    ids=["fsync", "sync of the second group", "sync of the last group", "rename", "sizes"],
)
def test_a_disk_that_fails_once(server, monkeypatch, module, name, chosen, durability):
    """What could not be brought in with its group is fetched again; nothing is claimed before."""
    if name == "sync_all" and not disk.can_sync_all():
        pytest.skip("this system has no syncfs")
    monkeypatch.setattr(partial, "MOST", 50)
    monkeypatch.setattr(module, name, failing(getattr(module, name), chosen))
    data = declare(server.url, registry=registry(FEW, sized=False), durability=durability)
    report = data.fetch()
    check_here(report, FEW)
    assert check_objects(data.cache.root) == len(FEW)
    assert left(data.cache.root, PARTIAL) == []


def test_a_disk_that_fails_for_ever(server, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(os.fsync, lambda n, fd: True))
    data = declare(server.url, files=FEW, durability="each")
    with pytest.raises(BatchError) as caught:
        data.fetch()
    assert set(caught.value.report.failed) == set(FEW)
    assert {type(error) for error in caught.value.report.failed.values()} == {CacheError}
    assert check_objects(data.cache.root) == 0


@pytest.mark.slow
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("most", [10, 1024])
def test_disk_full_in_the_middle(small_disk, monkeypatch, sized, most):
    folder = small_disk("4m")
    monkeypatch.setattr(partial, "MOST", most)
    files = make(150, 40_000)
    with FaultServer(dict(files)) as server:
        data = declare(server.url, cache_dir=str(folder / "cache"), registry=registry(files, sized))
        with pytest.raises(BatchError) as caught:
            data.fetch()
        report = caught.value.report
        assert set(report.failed) | set(report.succeeded) == set(files)
        assert {type(error) for error in report.failed.values()} == {CacheError}
        for name, error in report.failed.items():
            assert "no space" in str(error), name
        check_here(report, set(files) - set(report.failed), files)
        assert check_objects(data.cache.root) == len(report.succeeded) > 20
        small_disk("32m")
        check_here(report.retry(), report.failed, files)
        check_here(data.fetch(), files, files)


@pytest.mark.parametrize(("durability", "count"), [("batch", 1), ("each", 1), ("none", 0)])
def test_a_single_file(server, steps, durability, count):
    name = next(iter(FEW))
    declare(server.url, files=FEW, durability=durability).get(name)
    assert steps == ["fsync"] * count + ["rename"]


@pytest.mark.parametrize("pinned", [True, False])
def test_fetch_to_replaces_what_an_earlier_release_left_there(server, tmp_path, pinned):
    name = next(iter(FEW))
    known = registry(FEW) if pinned else {name: None}
    data = declare(server.url, registry=known, cache_dir=str(tmp_path / "cache"))
    left_there = tmp_path / "usb" / "p" / name
    left_there.parent.mkdir(parents=True)
    left_there.write_bytes(bytes(len(FEW[name])))
    assert data.fetch([name], to=tmp_path / "usb").succeeded == {name: str(left_there)}
    assert left_there.read_bytes() == FEW[name]


# -- files of this computer ---------------------------------------------------------------------


@pytest.fixture
def web_folder(tmp_path):
    folder = tmp_path / "web"
    for name, content in MANY.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def threads_of(monkeypatch, hold: threading.Event | None = None) -> set[str]:
    """Note which threads fetch files alone; the first one is held until it is let go."""
    seen: set[str] = set()
    alone = batch.Batch._alone

    def noted(self, entry):
        first = not seen
        seen.add(threading.current_thread().name + str(threading.get_ident()))
        if first and hold is not None:
            assert hold.wait(30)
        alone(self, entry)

    monkeypatch.setattr(batch.Batch, "_alone", noted)
    return seen


@pytest.mark.slow
def test_small_files_of_a_folder_come_one_after_another(web_folder, monkeypatch):
    monkeypatch.setattr(batch, "_PER_LOOK", 0)  # no computer is too slow for this
    seen = threads_of(monkeypatch)
    check_here(declare(f"file://{web_folder}", files=MANY).fetch(), MANY, MANY)
    assert len(seen) == 1


@pytest.mark.slow
def test_more_threads_come_while_a_folder_is_slow(web_folder, monkeypatch):
    hold = threading.Event()
    seen = threads_of(monkeypatch, hold)
    data = declare(f"file://{web_folder}", files=MANY)

    def show(event):
        if event.state == DONE:
            hold.set()  # another thread has done one while the first is held

    check_here(data.fetch(progress=show), MANY, MANY)
    assert 2 <= len(seen) <= batch.ALONE - 1
