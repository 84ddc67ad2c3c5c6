"""Batches in several processes: they share the work, and none is held up when another ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import faults
import pytest
from batching import (
    FILES,
    MANY,
    RANDOM,
    check_here,
    check_objects,
    checkout,
    declare,
    left,
    make,
    needs_signals,
    read,
    registry,
    sha,
)
from faults import FaultServer, forever

import pkgdata
from pkgdata.base import owners
from pkgdata.base.progress import DONE
from pkgdata.cache import upkeep
from pkgdata.cache.objects import LOCKS, PARTIAL
from pkgdata.cache.stamps import key_of
from pkgdata.core import batch

pytestmark = pytest.mark.slow

CHILD = """
import json, os, sys
import pkgdata
from pkgdata.cache import partial
from pkgdata.core import batch

task = json.loads(sys.argv[1])
exec(task["patch"])

def say(**facts):
    os.write(1, (json.dumps(facts) + "\\n").encode())  # whole lines, also from two threads

def note(event):
    say(event=event.state, name=event.name, done=event.done)

data = pkgdata.PackageData(
    "p", dataurl=task["url"], registry=pkgdata.Registry.parse(task["list"]), **task["settings"]
)
say(event="ready")
sys.stdin.readline()
report = data.fetch(progress=note)
say(event="result", paths=report.succeeded)
"""


class Child:
    """One process that fetches a batch when it is told to."""

    def __init__(self, server: FaultServer, files: dict[str, bytes], patch: str, settings) -> None:
        task = {
            "url": server.url,
            "list": registry(files).dumps(),
            "patch": patch,
            "settings": {"retries": 0, "remote_timeout": 600, "connections": 4, **settings},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": checkout()},
            text=True,
        )
        # a process that hangs fails its test instead of holding up all the others
        self._alarm = threading.Timer(60, self.process.kill)
        self._alarm.start()
        self.wait_for(lambda facts: facts["event"] == "ready")

    def go(self) -> None:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def wait_for(self, wanted) -> dict:
        """Read what the process says until it is what is wanted."""
        for line in self.process.stdout:
            facts = json.loads(line)
            if wanted(facts):
                return facts
        raise AssertionError(f"the process ended: {self.process.stderr.read()}")

    def wait_for_done(self, names: set[str]) -> None:
        """Wait until these files are brought in."""
        missing = set(names)

        def last(facts) -> bool:
            if facts["event"] == DONE:
                missing.discard(facts["name"])
            return not missing

        self.wait_for(last)

    def paths(self) -> dict[str, str]:
        return self.wait_for(lambda facts: facts["event"] == "result")["paths"]

    def close(self) -> None:
        self._alarm.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def spawn(server):
    children: list[Child] = []

    def start(files=FILES, patch: str = "", **settings) -> Child:
        children.append(Child(server, files, patch, settings))
        return children[-1]

    yield start
    for child in children:
        child.close()


def check_paths(paths: dict[str, str], files: dict[str, bytes]) -> None:
    assert {name: read(path) for name, path in paths.items()} == files


def root() -> str:
    return os.environ["PKGDATA_CACHE_DIR"]


def test_two_processes_share_the_work(server, spawn):
    server.contents.update(MANY)
    children = [spawn(MANY), spawn(MANY)]
    for child in children:
        child.go()
    for child in children:
        check_paths(child.paths(), MANY)
    assert {request.path for request in server.requests} == set(MANY)
    assert len(server.requests) <= 1.25 * len(MANY)
    assert check_objects(root()) == len(MANY)
    assert left(root(), PARTIAL) == left(root(), LOCKS) == []


def test_a_crowd_asks_for_each_file_once(server, spawn):
    children = [spawn() for _ in range(20)]
    for child in children:
        child.go()
    for child in children:
        check_paths(child.paths(), FILES)
    assert len(server.requests) <= 1.2 * len(FILES)
    assert check_objects(root()) == len(FILES)
    assert left(root(), PARTIAL) == left(root(), LOCKS) == []


def test_threads_ask_for_each_file_once(server):
    files = dict(list(FILES.items())[:60])
    begin = threading.Barrier(24)

    def fetch(_) -> dict[str, str]:
        begin.wait()
        return declare(server.url, files=files).fetch().succeeded

    with ThreadPoolExecutor(24) as pool:
        for paths in pool.map(fetch, range(24)):
            check_paths(paths, files)
    assert len(server.requests) <= 1.2 * len(files)


@needs_signals
@pytest.mark.parametrize("workers", [1, 2])
def test_a_crowd_goes_on_when_those_who_work_are_killed(server, spawn, workers):
    first = [spawn(patch=TELL) for _ in range(workers)]
    names = IN_TURN
    for child, begin in zip(first, (100, 200), strict=False):
        for name in names[begin : begin + 4 * workers]:
            server.script(name, faults.stall(0))
        child.go()
    for child in first:
        child.wait_for(lambda facts: facts["event"] == "created" and facts)
    assert server.stalled.wait(30)
    others = [spawn() for _ in range(4)]
    for child in others:
        child.go()
    others[0].wait_for(lambda facts: facts["event"] == "wait")
    for child in first:
        child.process.kill()
        child.process.wait()
    server.release()
    for child in others:
        check_paths(child.paths(), FILES)
    assert left(root(), PARTIAL) == left(root(), LOCKS) == []


def dead_owner() -> str:
    """Return the name part of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{owners.token().rpartition('-')[0]}-{process.pid}-0123abcd"


@pytest.mark.skipif(os.name == "nt", reason="a lock file may be in use there")
def test_what_dead_processes_left_is_taken_and_swept(server):
    gone, names = dead_owner(), list(FILES)
    for bucket in (PARTIAL, LOCKS):
        os.makedirs(os.path.join(root(), bucket))
    for number, name in enumerate(names[:80]):
        content = FILES[name] if number < 50 else FILES[name][:-1] or b"other"
        place = os.path.join(root(), PARTIAL, f"{key_of(sha(FILES[name]))}.{gone}")
        with open(f"{place}.part", "wb") as file:
            file.write(content)
        with open(f"{place}.note", "w") as note:
            note.write("http://example.org/\n\n")
    with open(os.path.join(root(), LOCKS, f"{key_of(sha(FILES[names[0]]))}.lock"), "w"):
        pass
    other = os.path.join(root(), PARTIAL, f"{key_of(sha(b'to be resumed'))}.{gone}.part")
    with open(other, "wb") as file:
        file.write(b"to be")
    check_here(declare(server.url).fetch(), FILES)
    assert {r.path for r in server.requests} == set(names[50:])
    assert left(root(), PARTIAL) == [os.path.basename(other)]
    assert left(root(), LOCKS) == []


def test_what_the_dead_left_goes_even_if_all_is_here(server, tmp_path):
    data, gone, name = declare(server.url), dead_owner(), next(iter(FILES))
    data.fetch(to=tmp_path)
    part = os.path.join(root(), PARTIAL, f"{key_of(sha(FILES[name]))}.{gone}.part")
    beside = tmp_path / data.name / f"{name}.{gone}{owners.ASIDE}"
    for path in (part, beside):
        with open(path, "wb") as file:
            file.write(b"some")
    data.fetch(to=tmp_path)
    assert left(root(), PARTIAL) == []
    assert not beside.exists()
    check_here(data.fetch(), FILES)


@pytest.mark.skipif(os.name == "nt", reason="a link needs a right there")
def test_a_planted_part_is_not_followed(server, tmp_path):
    mine = tmp_path / "mine"
    mine.write_bytes(next(iter(FILES.values())))
    os.makedirs(os.path.join(root(), PARTIAL))
    for kind, make_it in (("part", os.symlink), ("part", None)):
        name = list(FILES)[0 if make_it else 1]
        path = os.path.join(root(), PARTIAL, f"{key_of(sha(FILES[name]))}.{dead_owner()}.{kind}")
        make_it(mine, path) if make_it else os.mkfifo(path)
    check_here(declare(server.url).fetch(), FILES)
    assert len(server.requests) == len(FILES)
    assert mine.read_bytes() == next(iter(FILES.values()))
    assert left(root(), PARTIAL) == []


#: The order in which a batch asks for them: by the first bytes of their digests.
IN_TURN = sorted(FILES, key=lambda name: sha(FILES[name]).hex[:2])

#: Says when a file is begun: from then on others see who brings it in.
TELL = """
create = partial.Group.create
def told(self, digest):
    found = create(self, digest)
    say(event="created")
    return found
partial.Group.create = told
"""


def hold_first(server: FaultServer, child: Child, names: list[str]) -> None:
    """Start a process; return when it holds these files, unfinished, while the server stalls."""
    for name in names:
        server.script(name, faults.stall(0))
    child.go()
    begun = IN_TURN.index(names[-1]) + 1
    for _ in range(begun):
        child.wait_for(lambda facts: facts["event"] == "created")


def test_the_second_waits_for_nothing_that_it_can_do_itself(server, spawn):
    first, other = spawn(patch=TELL), spawn()
    held = IN_TURN[:4]
    hold_first(server, first, held)
    other.go()
    other.wait_for_done(set(FILES) - set(held))  # and the first one still stalls
    other.wait_for(lambda facts: facts["event"] == "wait" and facts["name"] in held)
    assert len(server.requests) == len(FILES)
    server.release()
    for child in (first, other):
        check_paths(child.paths(), FILES)
    assert len(server.requests) == len(FILES), "what the first one held came from the first one"


@needs_signals
def test_a_stopped_process_is_given_up_as_a_whole(server, spawn):
    """It has brought in a hundred files that have no name yet; one wait is enough for all."""
    first, other = spawn(patch=TELL), spawn(lock_timeout=0.5)
    hold_first(server, first, IN_TURN[100:104])
    os.kill(first.process.pid, signal.SIGSTOP)
    other.go()
    waited_for = set()

    def result(facts) -> bool:
        if facts["event"] == "wait":
            waited_for.add(facts["name"])
        return facts["event"] == "result"

    check_paths(other.wait_for(result)["paths"], FILES)
    assert 1 <= len(waited_for) <= batch.ALONE
    os.kill(first.process.pid, signal.SIGCONT)
    server.release()
    check_paths(first.paths(), FILES)
    assert check_objects(root()) == len(FILES)


@needs_signals
@pytest.mark.parametrize("after", [1, 40, 150, 299])
def test_killed_in_the_middle(server, spawn, after):
    child = spawn(patch="partial.MOST = 16; pkgdata.conf.default_http_user_agent = 'victim'")
    child.go()
    for _ in range(after):
        child.wait_for(lambda facts: facts["event"] == DONE)
    child.process.kill()
    child.process.wait()
    there = check_objects(root())
    assert after - 16 <= there, "no more than the last group is lost"
    check_here(declare(server.url).fetch(), FILES)
    ours = [r for r in server.requests if "victim" not in r.headers["user-agent"]]
    assert len(ours) <= len(FILES) - there
    upkeep.sweep(pkgdata.Cache(root()))
    assert left(root(), PARTIAL) == []
    assert check_objects(root()) == len(FILES)


@needs_signals
def test_what_is_killed_in_a_batch_is_not_waited_for(server, spawn):
    first, other = spawn(patch=TELL), spawn()
    held = IN_TURN[:4]
    hold_first(server, first, held)
    other.go()
    other.wait_for(lambda facts: facts["event"] == "wait" and facts["name"] in held)
    first.process.kill()
    first.process.wait()
    check_paths(other.paths(), FILES)


LARGE = {f"large{i}.bin": RANDOM.randbytes(20_000) for i in range(3)}


def interrupt(child: Child) -> None:
    """Send Ctrl-C; the process ends on its own, long before the 600 seconds of its timeout."""
    child.process.send_signal(signal.SIGINT)
    _, said = child.process.communicate(timeout=30)
    assert child.process.returncode == -signal.SIGINT
    assert said.rstrip().endswith("KeyboardInterrupt")
    check_objects(root())


@needs_signals
def test_ctrl_c_in_bulk(server, spawn):
    child = spawn(patch=TELL)
    hold_first(server, child, IN_TURN[100:104])
    interrupt(child)
    assert check_objects(root()) == 100, "what came before is brought in"
    server.release()
    check_here(declare(server.url).fetch(), FILES)
    upkeep.sweep(pkgdata.Cache(root()))
    assert left(root(), PARTIAL) == left(root(), LOCKS) == []


@needs_signals
def test_ctrl_c_with_a_second_thread(server, spawn):
    files = make(60, 200_000)
    server.contents.update(files)
    child = spawn(files)
    in_turn = sorted(files, key=lambda name: sha(files[name]).hex[:2])
    for name in in_turn[30:34]:
        server.script(name, faults.stall(100_000))
    child.go()
    child.wait_for_done(set(in_turn[:30]))
    interrupt(child)
    assert 20 <= check_objects(root()) < len(files)


@needs_signals
def test_ctrl_c_with_files_that_go_alone(server, spawn):
    server.contents.update(LARGE)
    child = spawn(LARGE, patch="batch.SMALL = 10_000")
    for name in LARGE:
        server.script(name, faults.stall(10_000))
    child.go()
    assert server.stalled.wait(30)
    interrupt(child)
    server.release()
    check_here(declare(server.url, files=LARGE).fetch(), LARGE, LARGE)


@needs_signals
def test_ctrl_c_while_servers_ask_for_patience(server, spawn):
    server.contents.update(LARGE)
    child = spawn(LARGE, retries=3)
    asked = threading.Semaphore(0)

    def busy(server: FaultServer, request: faults.Request) -> faults.Reply:
        asked.release()
        return faults.Reply(503, b"", {"Retry-After": "110"})

    for name in LARGE:
        server.script(name, forever(busy))
    child.go()
    for _ in LARGE:
        assert asked.acquire(timeout=30)
    interrupt(child)


@needs_signals
def test_ctrl_c_while_another_process_is_waited_for(server, spawn):
    first, other = spawn(patch=TELL), spawn()
    hold_first(server, first, IN_TURN[:4])
    other.go()
    other.wait_for(lambda facts: facts["event"] == "wait")
    interrupt(other)
    assert check_objects(root()) == len(FILES) - 4
    server.release()
    check_paths(first.paths(), FILES)


def test_who_does_not_log_does_not_load_logging(tmp_path):
    files = make(50)
    code = (
        "import sys, pkgdata\n"
        "data = pkgdata.PackageData('p', dataurl=sys.argv[1], registry=sys.argv[2])\n"
        "assert len(data.fetch().new) == 50\n"
        "print([name for name in ('logging', 'traceback', 'requests') if name in sys.modules])\n"
    )
    (tmp_path / "registry.txt").write_text(registry(files).dumps())
    with FaultServer(dict(files)) as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path / "registry.txt")]
        env = {**os.environ, "PYTHONPATH": checkout()}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
