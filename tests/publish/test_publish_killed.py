"""Publishing is killed at every step and run again: the same final state, and nothing sent twice.

Into a folder: a helper forks a victim for each step; in it every call that changes the disk counts,
and at the chosen one it sends itself SIGKILL. To a bucket: a proxy before a real server holds back
an answer, and the process that waits for it is killed.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys

import pytest
from publishing import CHECKOUT, command, contents, environment, make, publish, run
from servers.proxy import Proxy, stall, through

from pkgdata.core.registry import Registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL"),
]

FILES = {"a.txt": b"a", "maps/b.bin": b"b" * 70_000, "maps/deep/c.bin": b"c" * 10}
OLD = "# kept\nold.txt " + "0" * 64 + "\n"

#: Far more steps than there are.
TOO_MANY = 400

HELPER = """
import json, os, signal, sys
import pkgdata.publish.engine, pkgdata.publish.places, pkgdata.base.config, pkgdata.base.pool
import concurrent.futures.thread, queue, tempfile, shlex
from pkgdata.publish import destination_for
from pkgdata.publish.engine import Publication

STEPS = ["open", "write", "fsync", "mkdir", "rename", "replace", "unlink", "chmod", "link", "close"]

def arm(number, when):
    left = [number]
    def watch(name):
        real = getattr(os, name)
        def call(*arguments, **named):
            left[0] -= 1
            chosen = left[0] == -1
            if chosen and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*arguments, **named)
            finally:
                if chosen:
                    os.kill(os.getpid(), signal.SIGKILL)
        setattr(os, name, call)
    for name in STEPS:
        watch(name)

def victim(task):
    arm(task["number"], task["when"])
    place = destination_for("file:" + task["web"])
    with Publication(task["files"], [place], task["registry"], task["replace"]) as work:
        work.plan()
        work.upload()
        work.record()

for line in sys.stdin:
    pid = os.fork()
    if not pid:
        try:
            victim(json.loads(line))
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def helper(tmp_path_factory):
    # the isolation of a single test comes too late for a process that serves them all
    home = str(tmp_path_factory.mktemp("home"))
    env = {key: value for key, value in os.environ.items() if not key.startswith("PKGDATA_")}
    env |= {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CONFIG_DIRS": home}
    process = subprocess.Popen(
        [sys.executable, "-c", HELPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**env, "PYTHONPATH": str(CHECKOUT), "PKGDATA_DURABILITY": "none"},
        text=True,
    )
    yield process
    process.stdin.close()
    process.wait()
    process.stdout.close()


def inodes(folder):
    return {name: os.stat(folder / name).st_ino for name in contents(folder)}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("replace", [[], ["a.txt"]], ids=["new", "replacing"])
def test_a_folder(tmp_path, helper, when, replace, monkeypatch):
    """After each death only whole files have names, and the registry is the old one or the new."""
    monkeypatch.setenv("PKGDATA_DURABILITY", "none")  # of no use here, and slow on a busy disk
    here = make(tmp_path / "files", FILES)
    died = 0
    for number in itertools.count():
        assert number < TOO_MANY
        web, registry = tmp_path / f"web-{number}", tmp_path / f"registry-{number}.txt"
        registry.write_text(OLD)
        if replace:
            make(web, {"a.txt": b"A"})
        task = {
            "files": str(here),
            "web": str(web),
            "registry": str(registry),
            "number": number,
            "when": when,
            "replace": replace,
        }
        helper.stdin.write(json.dumps(task) + "\n")
        helper.stdin.flush()
        code = int(helper.stdout.readline())
        if code == 0:
            break
        assert code == -signal.SIGKILL
        died += 1
        check_after_death(web, registry)
        kept = {name: inode for name, inode in inodes(web).items() if name in FILES}
        whole = {name for name in kept if (web / name).read_bytes() == FILES[name]}
        publish_rest(here, web, registry, replace)
        now = inodes(web)
        assert contents(web) == FILES, "no file is missing, and no unfinished one is left"
        assert {name: now[name] for name in whole} == {name: kept[name] for name in whole}
        check_final(registry)
    assert died > 15
    assert contents(web) == FILES
    check_final(registry)


def check_after_death(web, registry):
    if web.exists():
        for name, content in contents(web).items():
            assert name.endswith(".tmp") or content in (FILES[name], b"A"), name
    text = registry.read_text()
    if text != OLD:
        check_final(registry)


def publish_rest(here, web, registry, replace):
    from pkgdata.publish import destination_for
    from pkgdata.publish.engine import Publication

    with Publication(str(here), [destination_for(f"file:{web}")], str(registry), replace) as work:
        work.plan()
        work.upload()
        work.record()


def check_final(registry):
    found = Registry.load(registry)
    assert registry.read_text().startswith(OLD)
    assert set(found) == {*FILES, "old.txt"}
    assert all(found[name].size == len(content) for name, content in FILES.items())


# -- a bucket ----------------------------------------------------------------------------------


def several(large: bool) -> dict[str, bytes]:
    """Return an object that is sent in parts, or more files than are sent at once."""
    if large:
        return {"a.bin": b"a", "large.bin": b"l" * (65 << 20)}
    return {f"{i:02}.bin": bytes([i]) * 100 for i in range(40)}


@pytest.fixture
def bucket(ceph, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": ceph.access_key,
        "AWS_SECRET_ACCESS_KEY": ceph.secret_key,
        "AWS_REGION": ceph.region,
    }.items():
        monkeypatch.setenv(name, value)
    name = ceph.make_bucket(public=True)
    with Proxy(ceph.endpoint) as proxy:
        yield proxy, f"s3://{proxy.url}/{name}/v1"


def kill_when_stalled(proxy, words):
    """Start the command, wait until an answer is held back, and kill it."""
    process = subprocess.Popen(
        command(*words),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        proxy.wait_for_stall()
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == -signal.SIGKILL
    proxy.release()
    proxy.heal()


def stored(proxy) -> list[str]:
    """Return the objects that the server has stored, once for each time."""
    return [
        request.path.rpartition("/")[2]
        for request in proxy.requests
        if request.status == 200
        and (
            (request.method == "PUT" and "partNumber" not in request.target)
            or (request.method == "POST" and "uploadId" in request.target)
        )
    ]


@pytest.mark.parametrize(
    ("large", "method", "path", "passed"),
    [
        (False, "GET", "", 0),  # while it looks at what is there
        (False, "PUT", "00.bin", 0),  # stored, but this was not told
        (False, "PUT", "17.bin", 0),
        (False, "PUT", "39.bin", 0),
        (False, "GET", "05.bin", 0),  # the registry is written, and all is read back
        (True, "PUT", "large.bin", 3),  # a part of it is stored
        (True, "POST", "large.bin", 1),  # put together, but this was not told
    ],
)
def test_a_bucket(tmp_path, bucket, large, method, path, passed):
    proxy, place = bucket
    files = several(large)
    here, registry = make(tmp_path / "files", files), tmp_path / "registry.txt"
    words = [here, "--to", place, "--registry", registry]
    proxy.script(*[through()] * passed, stall(0), method=method, path=path)
    kill_when_stalled(proxy, words)
    assert registry.exists() == (path == "05.bin")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert sorted(stored(proxy)) == sorted(files), "each is stored, and none of them twice"
    assert set(Registry.load(registry)) == set(files)
    _, sent, findings = publish(here, place, registry)
    assert sent == 0
    assert {one.state for one in findings} == {"ok"}
