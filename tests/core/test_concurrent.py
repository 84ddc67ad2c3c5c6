"""Real processes on one cache: one works, the others wait, and the bytes are always right."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import zipfile

import pytest
from faults import FaultServer, Request, forever, stall

import pkgdata
from pkgdata import Digest, Entry, Registry
from pkgdata.base import fs
from pkgdata.cache.objects import LOCKS, OBJECTS, PARTIAL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="stops and kills processes by signals"),
]

CONTENT = bytes(range(256)) * 12_000
HALF = len(CONTENT) // 2
#: On disk for sure when the server stops at the half: the rest may be in a block that is not full.
THERE = 1 << 20

#: A server that stops for a while is waited for.
SETTINGS = {"PKGDATA_RETRIES": "0", "PKGDATA_REMOTE_TIMEOUT": "60"}

#: What each process runs: it says what it does, one JSON text a line.
CHILD = """
import hashlib, json, os, signal, sys, warnings
import pkgdata
from pkgdata.base import fs as _fs, locks

task = json.loads(sys.argv[1])
exec(task["patch"])

def say(**facts):
    print(json.dumps(facts), flush=True)

def note(event):
    say(event=event.state, done=event.done, who=event.source)

def read(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()

data = pkgdata.PackageData("p", dataurl=task["url"], registry=pkgdata.Registry.parse(task["list"]))
say(event="ready")
sys.stdin.readline()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        if task["call"] == "tree":
            found = [path for _, path in _fs.walk_files(data.tree(task["name"]))]
        elif task["call"] == "unzip":
            found = data.get(task["name"], pkgdata.Unzip())
        else:
            found = [data.get(task["name"], progress=note)]
        say(event="result", paths=found, hashes=[read(path) for path in found],
            warnings=[f"{one.category.__name__}: {one.message}" for one in caught])
    except BaseException as error:
        say(event="error", error=repr(error))
"""


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def listing(contents: dict[str, bytes]) -> str:
    entries = [Entry(name, Digest("sha256", sha(c)), len(c)) for name, c in contents.items()]
    return Registry(entries).dumps()


class Child:
    """One process that asks for one thing when it is told to."""

    def __init__(self, server: FaultServer, name: str, call: str, patch: str, **env: str) -> None:
        task = {
            "url": server.url,
            "name": name,
            "call": call,
            "patch": patch,
            "list": listing(server.contents),
        }
        checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": checkout, **SETTINGS, **env},
            text=True,
        )
        # a process that hangs fails its test instead of holding up all the others
        self._alarm = threading.Timer(60, self.process.kill)
        self._alarm.start()

    def go(self) -> None:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def wait_for(self, event: str, done: int = 0) -> dict:
        """Read what the process says up to an event; return its facts."""
        said = []
        for line in self.process.stdout:
            facts = json.loads(line)
            said.append(facts)
            if facts["event"] == event and facts.get("done", 0) >= done:
                return facts
        raise AssertionError(f"no {event!r} came; the process said {said[-5:]}")

    def result(self) -> dict:
        return self.wait_for("result")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self._alarm.cancel()
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def server():
    with FaultServer({"map.bin": CONTENT}) as server:
        yield server


@pytest.fixture
def spawn(server):
    """Start some processes; they are ready, and wait for ``go``."""
    children: list[Child] = []

    def start(
        count: int, name: str = "map.bin", call: str = "get", patch: str = "", **env: str
    ) -> list[Child]:
        new = [Child(server, name, call, patch, **env) for _ in range(count)]
        children.extend(new)
        for child in new:
            child.wait_for("ready")
        return new

    yield start
    for child in children:
        child.close()


def files(bucket: str) -> list[str]:
    """Return the names of the files in a bucket of the cache."""
    top = os.path.join(os.environ["PKGDATA_CACHE_DIR"], bucket)
    return [name for name, _ in fs.walk_files(top)] if os.path.isdir(top) else []


def fetch_half(server: FaultServer, child: Child) -> None:
    """Let a process begin; return when it has half of the file on disk."""
    server.script("map.bin", stall(HALF))
    child.go()
    child.wait_for("bytes", THERE)


def start_waiting(children: list[Child]) -> None:
    for child in children:
        child.go()
    for child in children:
        child.wait_for("wait")


# -- locks that work ---------------------------------------------------------------------------


def test_one_of_many_downloads(server, spawn):
    holder, *waiters = spawn(8)
    fetch_half(server, holder)
    start_waiting(waiters)
    server.release()
    results = [child.result() for child in (holder, *waiters)]
    assert len(server.requests) == 1
    assert {tuple(result["hashes"]) for result in results} == {(sha(CONTENT),)}
    assert {tuple(result["paths"]) for result in results} == {(results[0]["paths"][0],)}
    assert [result["warnings"] for result in results] == [[]] * 8


def test_nothing_but_the_object_is_left(server, spawn):
    children = spawn(4)
    for child in children:
        child.go()
    for child in children:
        assert child.result()["hashes"] == [sha(CONTENT)]
    for child in children:
        assert child.process.wait() == 0
    assert len(server.requests) == 1
    assert [name.rpartition("/")[2] for name in files(OBJECTS)] == ["map.bin"]
    assert files(PARTIAL) == []
    assert files(LOCKS) == []


def test_waiting_processes_are_told_who_works(server, spawn):
    holder, waiter = spawn(2)
    fetch_half(server, holder)
    waiter.go()
    told = waiter.wait_for("wait", THERE)
    assert told["who"] == f"process {holder.process.pid}"
    server.release()
    assert waiter.result()["hashes"] == [sha(CONTENT)]


def test_two_threads_of_one_process(server):
    data = pkgdata.PackageData(
        "p", dataurl=server.url, registry=Registry.parse(listing(server.contents))
    )
    waits = threading.Event()
    found: list[str] = []

    def note(event) -> None:
        if event.state == "wait":
            waits.set()

    def get() -> None:
        found.append(data.get("map.bin", progress=note))

    server.script("map.bin", stall(HALF))
    threads = [threading.Thread(target=get) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert waits.wait(30)
    server.release()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert found[0] == found[1]
    with open(found[0], "rb") as file:
        assert file.read() == CONTENT


def test_two_names_of_one_object_are_downloaded_once(server, spawn):
    server.contents["other.bin"] = CONTENT
    holder, other = [*spawn(1), *spawn(1, name="other.bin")]
    fetch_half(server, holder)
    start_waiting([other])
    server.release()
    (first,), (second,) = holder.result()["paths"], other.result()["paths"]
    assert os.path.samefile(first, second)
    assert os.path.basename(second) == "other.bin"
    assert len(server.requests) == 1


def test_result_is_read_the_moment_it_is_there(server, spawn):
    """The holder stops right after its rename, with the lock in its hand."""
    stop = """
move = _fs.replace
def replace(source, target):
    move(source, target)
    if "objects-v1" in target:
        os.kill(os.getpid(), signal.SIGSTOP)
_fs.replace = replace
"""
    env = {"PKGDATA_LOCK_TIMEOUT": "600"}  # far longer than the test is allowed to take
    (holder,) = spawn(1, patch=stop, **env)
    (waiter,) = spawn(1, **env)
    fetch_half(server, holder)
    start_waiting([waiter])
    server.release()
    result = waiter.result()
    assert (result["hashes"], result["warnings"]) == ([sha(CONTENT)], [])
    os.kill(holder.process.pid, signal.SIGCONT)
    assert holder.result()["hashes"] == [sha(CONTENT)]
    assert len(server.requests) == 1


SMALL_OBJECTS = """
import hashlib, os, sys
from pkgdata import Cache, Digest

cache = Cache(sys.argv[1])
sys.stdin.readline()
for i in range(150):
    content = str(i).encode() * 50

    def fill(partial):
        partial.restart()
        partial.offset = os.write(partial.fd, content)

    digest = Digest("sha256", hashlib.sha256(content).hexdigest())
    with open(cache.obtain(digest, "x", None, fill), "rb") as file:
        assert file.read() == content
"""


def test_many_small_objects(tmp_path):
    """Lock files come and go all the time, under the hands of those who open them."""
    root = str(tmp_path / "cache")
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SMALL_OBJECTS, root],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": checkout},
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * 8
    assert len(files(OBJECTS)) == 150
    assert files(PARTIAL) == files(LOCKS) == []


# -- locks that do nothing -----------------------------------------------------------------------


def test_lock_that_is_never_granted(server, spawn):
    patch = "locks._Named.take = lambda self: False"
    children = spawn(4, patch=patch, PKGDATA_LOCK_TIMEOUT="0.2")
    for child in children:
        child.go()
    results = [child.result() for child in children]
    assert {tuple(result["hashes"]) for result in results} == {(sha(CONTENT),)}
    alone = [result for result in results if result["warnings"]]
    assert alone
    assert 1 <= len(server.requests) <= len(alone), "only who gave up waiting has downloaded"
    assert "without any progress" in alone[0]["warnings"][0]
    assert files(PARTIAL) == []


#: Some network file systems answer like that.
GRANTED = "locks._try_flock = lambda fd, *_: True"


def check_results(children: list[Child]) -> None:
    for child in children:
        result = child.result()
        assert (result["hashes"], result["warnings"]) == ([sha(CONTENT)], [])
    assert len(files(OBJECTS)) == 1
    assert files(PARTIAL) == []


def test_lock_that_is_granted_to_everybody(server, spawn):
    """Who begins at the same moment may work twice; the unfinished file holds the others back."""
    server.script("map.bin", forever(stall(HALF)))
    children = spawn(4, patch=GRANTED)
    for child in children:
        child.go()
    assert server.stalled.wait(30)
    server.release()
    check_results(children)
    assert 1 <= len(server.requests) <= 4, "the cost is bandwidth, no more"


def test_unfinished_file_is_waited_for_where_locks_do_nothing(server, spawn):
    holder, *others = children = spawn(4, patch=GRANTED)
    fetch_half(server, holder)
    for child in others:
        child.go()
    for child in others:
        assert child.wait_for("wait", THERE)["who"] == f"process {holder.process.pid}"
    server.release()
    check_results(children)
    assert len(server.requests) == 1


NO_WAITING = """
from pkgdata.cache import partial
partial.Partial.await_other = lambda self, look, *_: look()
from pkgdata.base import notes
notes.Note.take = lambda self, locked=False: True
"""


def test_everybody_begins_at_once_where_locks_do_nothing(server, spawn):
    """All have looked before the first has begun; each has a file of its own."""
    server.script("map.bin", forever(stall(HALF)))
    children = spawn(4, patch=f"{GRANTED}\n{NO_WAITING}")
    for child in children:
        child.go()
    for child in children:
        child.wait_for("bytes", THERE)  # now all of them are writing
    server.release()
    check_results(children)
    assert len(server.requests) == 4


def test_stuck_owner_is_waited_for_no_longer_where_locks_do_nothing(server, spawn):
    (holder,) = spawn(1, patch=GRANTED)
    (waiter,) = spawn(1, patch=GRANTED, PKGDATA_LOCK_TIMEOUT="0.3")
    fetch_half(server, holder)
    os.kill(holder.process.pid, signal.SIGSTOP)
    waiter.go()
    assert waiter.result()["hashes"] == [sha(CONTENT)]
    assert "range" not in server.requests[1].headers, "the other's file is left alone"
    os.kill(holder.process.pid, signal.SIGCONT)
    server.release()
    assert holder.result()["hashes"] == [sha(CONTENT)]
    assert files(PARTIAL) == []


def test_killed_owner_ends_the_wait_where_locks_do_nothing(server, spawn):
    (holder,) = spawn(1, patch=GRANTED)
    (waiter,) = spawn(1, patch=GRANTED)
    fetch_half(server, holder)
    start_waiting([waiter])
    holder.kill()
    assert waiter.result()["hashes"] == [sha(CONTENT)]
    resumed_at(server.requests[1])


# -- holders that do not finish --------------------------------------------------------------------


def test_one_goes_on_from_the_bytes_of_a_killed_process(server, spawn):
    holder, *waiters = spawn(4)
    fetch_half(server, holder)
    start_waiting(waiters)
    holder.kill()
    results = [child.result() for child in waiters]
    assert {tuple(result["hashes"]) for result in results} == {(sha(CONTENT),)}
    server.release()
    first, second = server.settled()
    assert "range" not in first.headers
    begin = resumed_at(second)
    assert second.headers["if-range"] == server.etag("map.bin")
    assert (second.status, second.sent) == (206, len(CONTENT) - begin)
    assert files(PARTIAL) == []


def resumed_at(request: Request) -> int:
    """Return the byte from which a request goes on: what the process before it had on disk."""
    begin = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert THERE <= begin <= HALF
    return begin


def test_bytes_of_other_content_are_dropped(server, spawn):
    """Bytes are left that no digest ever vouched for; the whole file is fetched in the end."""
    server.contents["map.bin"] = CONTENT[::-1]
    (holder,) = spawn(1)
    fetch_half(server, holder)
    holder.kill()
    top = os.path.join(os.environ["PKGDATA_CACHE_DIR"], PARTIAL)
    for name in files(PARTIAL):
        right = f"sha256-{sha(CONTENT)[:40]}.{name.partition('.')[2]}"
        os.rename(os.path.join(top, name), os.path.join(top, right))
    server.contents["map.bin"] = CONTENT
    (other,) = spawn(1)
    other.go()
    assert other.result()["hashes"] == [sha(CONTENT)]
    resumed_at(server.requests[1])
    assert server.requests[1].status == 200, "If-Range told the server that the file has changed"
    assert files(PARTIAL) == []


def test_stuck_process_is_waited_for_no_longer_than_the_timeout(server, spawn):
    (holder,) = spawn(1)
    (waiter,) = spawn(1, PKGDATA_LOCK_TIMEOUT="0.3")
    fetch_half(server, holder)
    os.kill(holder.process.pid, signal.SIGSTOP)
    waiter.go()
    result = waiter.result()
    assert result["hashes"] == [sha(CONTENT)]
    (warning,) = result["warnings"]
    assert warning.startswith("CacheWarning: the lock ")
    assert "held for 0.3 s without any progress" in warning
    assert "range" not in server.requests[1].headers, "the other's file is left alone"
    os.kill(holder.process.pid, signal.SIGCONT)
    server.release()
    assert holder.result()["hashes"] == [sha(CONTENT)]
    assert files(PARTIAL) == []


def test_error_of_one_lets_the_next_one_try(server, spawn):
    server.script("map.bin", stall(HALF))
    holder, waiter = spawn(2)
    holder.go()
    holder.wait_for("bytes", THERE)
    start_waiting([waiter])
    holder.process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in holder.wait_for("error")["error"]
    assert waiter.result()["hashes"] == [sha(CONTENT)]
    resumed_at(server.requests[1])


# -- directories ---------------------------------------------------------------------------------


def test_tree_by_many_at_once(server, spawn):
    contents = {f"dir/{name}.txt": name.encode() * 1000 for name in "abc"}
    server.contents.update(contents)
    children = spawn(4, name="dir", call="tree")
    for child in children:
        child.go()
    results = [child.result() for child in children]
    expected = [sha(content) for content in contents.values()]
    assert [result["hashes"] for result in results] == [expected] * 4
    assert len({tuple(result["paths"]) for result in results}) == 1
    assert sorted(r.path for r in server.requests) == sorted(contents)
    assert files(PARTIAL) == []


def test_unpacking_by_many_at_once(server, spawn):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in "abc":
            archive.writestr(f"in/{name}.txt", name * 1000)
    server.contents["pack.zip"] = buffer.getvalue()
    children = spawn(4, name="pack.zip", call="unzip")
    for child in children:
        child.go()
    results = [child.result() for child in children]
    expected = [sha(name.encode() * 1000) for name in "abc"]
    assert [result["hashes"] for result in results] == [expected] * 4
    assert len(server.requests) == 1
    assert files(PARTIAL) == []
