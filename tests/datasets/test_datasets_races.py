"""Real processes that pull, purge, push and die: nobody ever sees a part of a dataset."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from datasetting import make, pushed, read, registered, visible
from faults import FaultServer, stall

import pkgdata
from pkgdata import datasets
from pkgdata.datasets import pushing, repository

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="kills processes by signals"),
]

MANY = {f"data/{part}/{n:03d}.bin": os.urandom(2000) for part in ("a", "b") for n in range(40)}
PACKS = 8  # of 20,000 bytes

#: What each process runs: one order a line, one answer a line.
CHILD = """
import json, os, signal, sys, traceback
import pkgdata
from pkgdata import datasets
from pkgdata.cache import partial
from pkgdata.datasets import pulling

task = json.loads(sys.argv[1])
exec(task["patch"])
config = datasets.Config(task["url"], task["home"])

def say(**facts):
    os.write(1, json.dumps(facts).encode() + b"\\n")  # one call: threads say something too

def note(event):
    say(event=event.state, name=event.name, done=event.done)

def pull(force=True):
    return datasets.pull("flower", force, config, progress=note)

say(event="ready")
for line in sys.stdin:
    try:
        found = eval(line)
        say(event="result", value=getattr(found, "moved_files", None))
    except BaseException as error:
        say(event="error", error=repr(error), trace=traceback.format_exc())
"""


class Child:
    """A process that does what it is asked to, on one home and one repository."""

    def __init__(self, config, patch="", **env):
        task = {"url": config.url, "home": config.home, "patch": patch}
        checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": checkout, "PKGDATA_REMOTE_TIMEOUT": "60", **env},
            text=True,
        )
        # a process that hangs fails its test instead of holding up all the others
        self._alarm = threading.Timer(60, self.process.kill)
        self._alarm.start()

    def order(self, code):
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()

    def wait_for(self, *events, done=0):
        said = []
        for line in self.process.stdout:
            facts = json.loads(line)
            said.append(facts)
            if facts["event"] in events and facts.get("done", 0) >= done:
                return facts
        raise AssertionError(f"none of {events} came; the process said {said[-5:]}")

    def result(self):
        facts = self.wait_for("result", "error")
        assert facts["event"] == "result", facts
        return facts["value"]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self._alarm.cancel()
        self.process.kill()
        self.process.wait()
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it never read the last request
        self.process.stdout.close()


@pytest.fixture
def spawn():
    children = []

    def start(config, **options):
        children.append(Child(config, **options))
        children[-1].wait_for("ready")
        return children[-1]

    yield start
    for child in children:
        child.close()


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(pushing, "PACK", 20_000)
    return datasets.Config(str(tmp_path / "repo"), tmp_path / "data")


@pytest.fixture
def server(tmp_path, config):
    pushed(tmp_path, config, MANY)
    files = {name: Path(config.url, name).read_bytes() for name in config.store().list()}
    with FaultServer(files) as server:
        yield server


def packs_asked(server):
    return [r.path for r in server.requests if r.method == "GET" and "/packs/" in r.path]


# -- one is killed ---------------------------------------------------------------------------

#: Each file is brought into the cache at once, and one pack is read after the other.
EAGER = "partial.MOST = 1; pulling._PACKS = 1"


def stall_at_pack(server, config, number):
    """Let the server stand still in the midst of a pack."""
    manifest, _ = repository.read_manifest(config.store(), "flower")
    server.script(repository.pack_name("flower", manifest.packs[number][0]), stall(10_000))


def leftovers(config):
    return [name for name in os.listdir(config.home) if name.endswith(".tmp")]


def test_a_pull_that_is_killed_shows_nothing_and_is_resumed(config, server, spawn):
    web = config.replaced(url=server.url)
    stall_at_pack(server, config, 5)
    child = spawn(web, patch=EAGER)
    child.order("pull()")
    for _ in range(5 * 10):
        child.wait_for("done")
    assert server.stalled.wait(60)
    child.kill()
    server.release()
    assert visible(web.home) == []
    assert len(leftovers(web)) == 1
    before = len(packs_asked(server))
    assert before == 6
    outcome = datasets.pull("flower", config=web)
    assert len(packs_asked(server)) == before + PACKS - 5
    assert outcome.moved_files == len(MANY) - 50
    assert read(outcome.path) == MANY
    assert leftovers(web) == []


def test_a_large_file_is_resumed(tmp_path, config, server, spawn):
    content = os.urandom(4 << 20)
    pushed(tmp_path, config, {**MANY, "data/b/large.bin": content})
    (name,) = (name for name in config.store().list() if "/objects/" in name)
    for new in config.store().list():
        server.contents[new] = Path(config.url, new).read_bytes()
    web = config.replaced(url=server.url)
    server.script(name, stall(3 << 20))
    child = spawn(web)
    child.order("pull()")
    child.wait_for("bytes", done=2 << 20)
    child.kill()
    server.release()
    assert visible(web.home) == []
    before = len(packs_asked(server))
    outcome = datasets.pull("flower", config=web)
    assert len(packs_asked(server)) == before  # all of them were here
    asked = [r for r in server.requests if r.path == name and r.method == "GET"]
    assert "range" in asked[-1].headers
    assert outcome.moved_bytes < 3 << 20
    assert Path(outcome.path, "data", "b", "large.bin").read_bytes() == content


def test_a_killed_process_that_replaces_leaves_the_former_version(tmp_path, config, server, spawn):
    web = config.replaced(url=server.url)
    former = {"data/a/old.txt": b"old"}
    registered(tmp_path, web, former)
    datasets.register(make(Path(web.home, "flower").resolve(), {}), "flower", True, web)
    stall_at_pack(server, config, 2)
    child = spawn(web)
    child.order("pull()")
    assert server.stalled.wait(60)
    child.kill()
    server.release()
    assert read(Path(web.home, "flower")) == former
    assert read(datasets.pull("flower", True, web).path) == MANY


# -- several at once -------------------------------------------------------------------------


def test_of_several_that_pull_at_once_one_downloads(config, server, spawn):
    web = config.replaced(url=server.url)
    stall_at_pack(server, config, 3)
    first, *others = (spawn(web) for _ in range(3))
    first.order("pull(force=False)")
    assert server.stalled.wait(60)
    for child in others:
        child.order("pull(force=False)")
        assert child.wait_for("wait", "error")["event"] == "wait"
    server.release()
    assert first.result() == len(MANY)
    for child in others:
        assert child.result() == 0
    assert len(packs_asked(server)) == PACKS
    assert read(Path(web.home, "flower")) == MANY
    left = {name for name in os.listdir(web.home) if name.startswith(".")}
    assert left == {".flower.manifest"}


def test_a_process_that_waits_for_a_killed_one_takes_over(config, server, spawn):
    web = config.replaced(url=server.url)
    stall_at_pack(server, config, 5)
    first, second = spawn(web, patch=EAGER), spawn(web)
    first.order("pull()")
    for _ in range(5 * 10):
        first.wait_for("done")
    assert server.stalled.wait(60)
    second.order("pull(force=False)")
    assert second.wait_for("wait", "error")["event"] == "wait"
    first.kill()
    server.release()
    assert second.result() == len(MANY) - 50
    assert read(Path(web.home, "flower")) == MANY


#: Looks at the dataset until it is asked to end: what is there must be all of one version. What is
#: seen while the folder is renamed does not count; its identity shows that.
READER = """
import select
versions = [set(map(tuple, version)) for version in json.loads(sys.stdin.readline())]
import hashlib, os
path = os.path.join(config.home, "flower")

def identity():
    found = os.stat(path)
    return found.st_ino, found.st_ctime_ns

def look():
    before = identity()
    found = set()
    for folder, _, files in os.walk(path, onerror=lambda error: (_ for _ in ()).throw(error)):
        for name in files:
            full = os.path.join(folder, name)
            with open(full, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            found.add((os.path.relpath(full, path), digest))
    return found if identity() == before else None

def watch():
    last = None
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            found = look()
        except FileNotFoundError:
            continue
        if found is not None and versions.index(found) != last:
            last = versions.index(found)
            say(event="seen", version=last)
"""


def as_pairs(contents):
    return sorted((name, hashlib.sha256(content).hexdigest()) for name, content in contents.items())


def test_two_pull_one_pushes_one_purges_and_some_are_killed(tmp_path, config, spawn):
    versions = [
        {name: content[:100] + bytes([number]) for name, content in MANY.items() if "/a/" in name}
        for number in (1, 2)
    ]
    pushed(tmp_path, config, versions[0])
    homes = [tmp_path / f"version{number}" for number in (0, 1)]
    for number, version in enumerate(versions):
        registered(tmp_path, config.replaced(home=homes[number]), version)
    reader = spawn(config, patch="")
    reader.order(f"exec({READER!r}, globals())")
    reader.order(json.dumps([as_pairs(version) for version in versions]))
    reader.result()
    reader.order("watch()")
    pullers = [spawn(config) for _ in range(2)]
    purger, pusher = spawn(config), spawn(config)
    for _ in range(6):
        victim = spawn(config)
        victim.order("pull()")
        pusher.order(
            "[datasets.push('flower', True, config.replaced(home=home)) "
            f"for home in {[str(home) for home in homes]!r}]"
        )
        for puller in pullers:
            puller.order("[pull() for _ in range(2)][-1]")
        purger.order("[datasets.purge('flower', config) for _ in range(3)]")
        victim.wait_for("done", "result", "error")
        victim.kill()
        pusher.result()
        for child in (*pullers, purger):
            child.result()
    final = datasets.pull("flower", True, config)
    seen = {"version": None}
    while seen["version"] != 1:
        seen = reader.wait_for("seen", "error")
        assert seen["event"] == "seen", seen
    reader.order("end")
    assert reader.wait_for("result", "error", "seen")["event"] != "error"
    assert read(final.path) == versions[1]
    assert not datasets.verify("flower", config=config)
    assert leftovers(config) == []


def test_threads_of_one_process_pull_at_once(config, server):
    web = config.replaced(url=server.url)
    found = []

    def pull():
        found.append(datasets.pull("flower", ready=True, config=web).name)

    threads = [threading.Thread(target=pull) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["flower"] * 4
    assert read(Path(web.home, "flower")) == MANY
    assert len(packs_asked(server)) == PACKS
