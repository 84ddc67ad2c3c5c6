"""Bulk copies that are interrupted, shared and taken up again: each object once, none forgotten."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import faults
import pytest
from faults import FaultServer

from pkgdata.base import owners
from pkgdata.errors import BatchError, ConfigError, ObjectNotFoundError, StoreError
from pkgdata.stores import Store, http, job
from pkgdata.stores.job import DONE, FAILED, TAKEN, WAITING, Job

NAMES = [f"d/{number:03}" for number in range(100)]
CONTENTS = {name: name.encode() * 50 for name in NAMES}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http, "_sessions", {})
    with FaultServer(dict(CONTENTS)) as found:
        yield found
    for session in http._sessions.values():
        session.close()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "transfer.job")


@pytest.fixture
def copies(tmp_path):
    return Store(str(tmp_path / "copies"))


def gets(server):
    return Counter(request.path for request in server.settled() if request.method == "GET")


def all_there(copies):
    assert {result.name: result.content for result in copies.get(copies.list())} == CONTENTS


def states(path):
    db = sqlite3.connect(path)
    try:
        return Counter(state for (state,) in db.execute("select state from work"))
    finally:
        db.close()


#: Copies with a job: the URL of the source, the folder, the job's file.
PROGRAM = """
    import sys
    from pkgdata.stores import Store
    url, folder, path, *names = sys.argv[1:]
    if not names:
        names = [f"d/{number:03}" for number in range(100)]
    report = Store(url, timeout=30).transfer_to(folder, names, job=path)
    print(len(report.succeeded))
"""


def start(server, copies, path, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), server.url, copies.root, path],
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **environment,
        },
    )


# -- whole transfers ---------------------------------------------------------------------------


def test_transfer_with_a_job(server, copies, path):
    source = Store(server.url)
    report = source.transfer_to(copies, NAMES, job=path)
    assert set(report.succeeded) == set(NAMES)
    all_there(copies)
    assert gets(server) == dict.fromkeys(NAMES, 1)
    assert source.transfer_to(copies, NAMES, job=path).succeeded == {}  # all of it is done
    assert gets(server) == dict.fromkeys(NAMES, 1)


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
@pytest.mark.parametrize("connections", [1, 8])
def test_killed_in_the_midst(server, copies, path, connections):
    server.script(NAMES[40], faults.stall(10))
    process = start(server, copies, path, PKGDATA_CONNECTIONS=str(connections))
    assert server.stalled.wait(60)
    process.kill()
    process.communicate()
    server.release()
    before = gets(server)
    done = states(path)[DONE]
    assert NAMES[40] not in copies
    report = Store(server.url).transfer_to(copies, NAMES, job=path)
    all_there(copies)
    assert len(report.succeeded) == len(NAMES) - done
    twice = {name for name, count in gets(server).items() if count > 1}
    if connections == 1:
        assert (done, twice) == (40, {NAMES[40]})
    # at most what was under way, or had just come, is copied once more
    assert len(twice) <= 2 * connections + 1
    assert twice <= set(before)
    assert states(path) == {DONE: len(NAMES)}


def test_two_processes_share_the_work(server, copies, path):
    processes = [start(server, copies, path, PKGDATA_CONNECTIONS="2") for _ in range(2)]
    done = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(done) == len(NAMES)
    all_there(copies)
    assert gets(server) == dict.fromkeys(NAMES, 1)


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_what_a_killed_process_held_is_done_by_the_others(server, copies, path):
    server.script(NAMES[3], faults.stall(0))
    victim = start(server, copies, path, PKGDATA_CONNECTIONS="1")
    assert server.stalled.wait(60)
    other = start(server, copies, path, PKGDATA_CONNECTIONS="1")
    victim.kill()
    victim.communicate()
    server.release()
    other.communicate(timeout=60)
    Store(server.url).transfer_to(copies, NAMES, job=path)
    all_there(copies)
    assert states(path) == {DONE: len(NAMES)}


def test_failures_are_reported_and_tried_again_alone(server, copies, path):
    bad = [NAMES[7], NAMES[70]]
    for name in bad:
        del server.contents[name]
    with pytest.raises(BatchError, match="2 of 100") as caught:
        Store(server.url).transfer_to(copies, NAMES, job=path)
    report = caught.value.report
    assert sorted(report.failed) == bad
    assert all(isinstance(error, ObjectNotFoundError) for error in report.failed.values())
    assert states(path) == {DONE: 98, FAILED: 2}
    server.contents |= CONTENTS
    before = gets(server)
    again = Store(server.url).transfer_to(copies, NAMES, job=path)
    assert sorted(again.succeeded) == bad
    assert gets(server) - before == dict.fromkeys(bad, 1)
    all_there(copies)


def test_retry_of_a_report(server, copies, path):
    server.script(NAMES[7], 404)
    with pytest.raises(BatchError) as caught:
        Store(server.url).transfer_to(copies, NAMES, job=path)
    assert [*caught.value.report.retry().succeeded] == [NAMES[7]]
    all_there(copies)


def test_interrupted_and_taken_up_again(server, copies, path):
    """Ctrl-C leaves a job that goes on where it stopped."""
    seen = []

    def progress(event):
        seen.append(event)
        if event.name == NAMES[20] and event.state == "start":
            raise KeyboardInterrupt

    source = Store(server.url, threads=1)
    with pytest.raises(KeyboardInterrupt):
        source.transfer_to(copies, NAMES, job=path, progress=progress)
    assert states(path) == {DONE: 20, WAITING: 80}
    before = gets(server)
    source.transfer_to(copies, NAMES, job=path)
    all_there(copies)
    assert gets(server) - before == dict.fromkeys(NAMES[20:], 1)


def test_names_of_the_first_call_stay_those_of_the_job(server, copies, path):
    Store(server.url).transfer_to(copies, NAMES[:5], job=path)
    Store(server.url).transfer_to(copies, NAMES, job=path)
    assert list(copies) == NAMES[:5]


def test_planning_that_was_interrupted_is_done_again(server, copies, path):
    def names():
        yield from NAMES[:50]
        raise RuntimeError("the listing broke off")

    with pytest.raises(RuntimeError, match="the listing broke off"):
        Store(server.url).transfer_to(copies, names(), job=path)
    Store(server.url).transfer_to(copies, NAMES, job=path)
    all_there(copies)


def test_pairs_of_names(server, copies, path):
    Store(server.url).transfer_to(copies, [(NAMES[0], "other/name")], job=path)
    assert list(copies) == ["other/name"]


# -- the file ----------------------------------------------------------------------------------


def test_file_of_another_job_is_refused(server, copies, path, tmp_path):
    Store(server.url).transfer_to(copies, NAMES[:1], job=path)
    other = str(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="of another job") as caught:
        Store(server.url).transfer_to(other, NAMES[:1], job=path)
    assert "elsewhere" in str(caught.value)
    assert "remove this one" in caught.value.hint
    assert not os.path.exists(other)
    with pytest.raises(ConfigError, match="of another job"):
        Store(server.url).transfer_to(copies, NAMES[:1], job=path, reencode="gzip")


def test_file_shows_no_secret(server, copies, path):
    url = server.url.replace("http://", "http://me:sesame@")
    Store(url).transfer_to(copies, NAMES[:1], job=path)
    with open(path, "rb") as file:
        assert b"sesame" not in file.read()
    assert states(path) == {DONE: 1}


@pytest.mark.parametrize("content", [b"no database, but long enough to be one" * 99, b"\0" * 5000])
def test_damaged_file_is_reported(server, copies, path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(StoreError, match=r"transfer\.job: cannot keep a job") as caught:
        Store(server.url).transfer_to(copies, NAMES, job=path)
    assert "remove it" in caught.value.hint
    assert gets(server) == {}
    with open(path, "rb") as file:
        assert file.read() == content  # somebody's file, perhaps


@pytest.mark.parametrize("begin", [1000, 4096, 9000])
def test_file_that_is_damaged_within(server, copies, path, begin):
    with Job(path, f"{server.url} {copies.url} None") as shared:
        shared.plan((name, name) for name in NAMES)
    db = sqlite3.connect(path)
    db.execute("pragma wal_checkpoint(truncate)")
    db.execute("pragma journal_mode=delete")
    db.close()
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(begin)
        file.write(b"\xff" * (end - begin))
    with pytest.raises(StoreError, match=r"transfer\.job: cannot keep a job"):
        Store(server.url).transfer_to(copies, NAMES, job=path)


def test_file_that_cannot_be_made(server, copies, tmp_path):
    for path in (tmp_path / "no" / "such" / "folder", tmp_path):
        with pytest.raises(StoreError, match="cannot keep a job"):
            Store(server.url).transfer_to(copies, NAMES, job=str(path))


def test_a_full_disk_is_named_as_such(path):
    with Job(path, "a b") as job:
        job._db.execute("pragma max_page_count = 8")  # as if the disk had no more room
        with pytest.raises(
            StoreError, match=r"transfer\.job: no space for a job: .* is full"
        ) as caught:
            job.plan(pairs(5000))
    assert "free some" in caught.value.hint
    assert "remove" not in caught.value.hint


# -- who does what -----------------------------------------------------------------------------


def pairs(count):
    return [(f"n{number}", f"t{number}") for number in range(count)]


def test_work_is_handed_out_once(path):
    with Job(path, "a b") as one, Job(path, "a b") as two:
        one.plan(pairs(100))
        two.plan(iter([]))  # not looked at
        first, second = one.take(), two.take()
        taken = [next(first) for _ in range(40)] + [next(second) for _ in range(30)]
        for pair in taken:
            one.done(pair, None)
        rest = [*second, *first]
        assert sorted([*taken, *rest]) == sorted(pairs(100))
        assert one.left() == 30


def test_the_same_new_file_may_be_opened_by_many_at_once(tmp_path):
    barrier = Barrier(4)

    def work(number):
        barrier.wait(60)
        with Job(str(tmp_path / str(number)), "a b") as job:
            job.plan(pairs(5))
            taken = [*job.take()]
            for pair in taken:
                job.done(pair, None)
            return taken

    with ThreadPoolExecutor(4) as threads:
        for number in range(40):
            found = [one.result() for one in [threads.submit(work, number) for _ in range(4)]]
            assert sorted(pair for taken in found for pair in taken) == pairs(5)


def test_an_object_may_be_copied_to_several_names(path):
    wanted = [("a", "x"), ("a", "y"), ("b", "x/b")]
    with Job(path, "a b") as one:
        one.plan([*wanted, *wanted])
        taken = [*one.take()]
        assert sorted(taken) == wanted
        one.done(("a", "x"), None)
        assert one.left() == 2
    with Job(path, "a b") as two:
        assert sorted(two.take()) == wanted[1:]


def test_what_was_taken_and_not_done_is_anybodys_again(path):
    with Job(path, "a") as one:
        one.plan(pairs(3))
        taken = one.take()
        one.done(next(taken), None)
    with Job(path, "a") as two:
        two.plan(pairs(3))
        assert two.left() == 2
        assert len([*two.take()]) == 2


def test_what_a_process_holds_that_runs_is_left_to_it(path):
    with Job(path, "a") as one:
        one.plan(pairs(3))
        next(one.take())
        with Job(path, "a") as two:
            two.plan(pairs(3))
            assert [*two.take()] == []


@pytest.mark.parametrize(
    "owner",
    [
        # of this very process, but of no job that it has: one before it had the same number
        lambda: f"00000000.{job._started(os.getpid())}.{owners.token()}",
        # a process of that number runs, but began at another time
        lambda: f"00000000.1.{owners.token().rpartition('-')[0]}-{os.getppid()}",
        # none of that number runs
        lambda: f"00000000.1.{owners.token().rpartition('-')[0]}-{2**22 + 5}",
    ],
)
def test_what_the_dead_hold_is_taken_up(path, owner):
    with Job(path, "a") as one:
        one.plan(pairs(3))
    db = sqlite3.connect(path)
    with db:
        db.execute("update work set state=?, owner=?", (TAKEN, owner()))
    db.close()
    with Job(path, "a") as two:
        two.plan(pairs(3))
        assert sorted(two.take()) == pairs(3)


def test_what_another_machine_holds_is_left_to_it(path):
    with Job(path, "a") as one:
        one.plan(pairs(3))
    db = sqlite3.connect(path)
    with db:
        db.execute("update work set state=?, owner='00000000.1.elsewhere-1'", (TAKEN,))
    db.close()
    with Job(path, "a") as two:
        two.plan(pairs(3))
        assert [*two.take()] == []
        assert two.left() == 3


def test_many_names_are_planned_in_parts(path):
    with Job(path, "a") as shared:
        shared.plan((f"n{number}", "t") for number in range(2500))
        assert shared.left() == 2500
        assert len({name for name, _ in shared.take()}) == 2500
