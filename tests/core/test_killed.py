"""A process is killed at every step in turn; nothing wrong is left, and the next one succeeds.

A helper process loads the library once and forks a victim for each step. In the victim every call
that changes the disk counts, and at the chosen one it sends itself SIGKILL: before the call, after
it, or, where bytes are written, in the midst of it. The steps go on until the victim survives.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from faults import FaultServer

import pkgdata
from pkgdata import Cache, Digest, Entry, Registry
from pkgdata.base import fs
from pkgdata.cache import stamps, upkeep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL"),
]

CONTENT = os.urandom(100_000)
TREE = {f"dir/{name}": os.urandom(3000) for name in ("one.bin", "deep/two.bin")}
MEMBERS = {"in/a.txt": b"a" * 50_000, "in/deep/b.txt": b"b"}
BLOCK = "16384"

#: Far more steps than there are.
TOO_MANY = 400

#: Longer than unfinished bytes are kept for the next process.
LATER = 8 * 86400.0

HELPER = """
import json, os, signal, sys
import pooch, requests, filelock, zipfile
import pkgdata, pkgdata.core.package, pkgdata.core.extract, pkgdata.transfer.fetch
import pkgdata.stores.http

STEPS = ["open", "write", "pwrite", "fsync", "mkdir", "rename", "replace", "unlink", "rmdir",
         "chmod", "link", "close", "ftruncate"]

def arm(number, when):
    left = [number]
    def watch(name):
        real = getattr(os, name)
        def call(*arguments, **named):
            left[0] -= 1
            chosen = left[0] == -1
            if chosen and when == "amid" and name in ("write", "pwrite"):
                real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
            if chosen and when != "after":
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
    data = pkgdata.PackageData(
        "p", dataurl=task["url"], registry=pkgdata.Registry.parse(task["list"]),
        cache_dir=task["root"], connections=1, retries=0,
    )
    arm(task["number"], task["when"])
    if task["call"] == "tree":
        data.tree("dir")
    elif task["call"] == "unzip":
        data.get("pack.zip", pkgdata.Unzip())
    else:
        data.get("map.bin")

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


def sha(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


def pack() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server():
    with FaultServer({"map.bin": CONTENT, "pack.zip": pack(), **TREE}) as server:
        yield server


@pytest.fixture(scope="module")
def helper(tmp_path_factory):
    # the isolation of a single test comes too late for a process that serves them all
    home = str(tmp_path_factory.mktemp("home"))
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PKGDATA_") and not name.lower().endswith("_proxy")
    }
    env |= {"HOME": home, "XDG_CONFIG_HOME": home, "XDG_CONFIG_DIRS": home}
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    process = subprocess.Popen(
        [sys.executable, "-c", HELPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**env, "PYTHONPATH": checkout, "PKGDATA_DOWNLOAD_BLOCK_SIZE": BLOCK},
        text=True,
    )
    yield process
    process.stdin.close()
    process.wait()
    process.stdout.close()


@pytest.fixture
def kill_at_every_step(server, helper, tmp_path):
    """Yield a fresh cache root after each death, until the victim survives.

    A stride takes every so-manieth step; ``before`` and ``after`` then begin at different ones.
    """

    def steps(call: str, when: str, entries: list[Entry], stride: int = 1):
        for number in itertools.count(stride // 2 if when == "after" else 0, stride):
            assert number < TOO_MANY
            root = str(tmp_path / f"killed-{number}")
            task = {
                "url": server.url,
                "list": Registry(entries).dumps(),
                "root": root,
                "call": call,
                "when": when,
                "number": number,
            }
            helper.stdin.write(json.dumps(task) + "\n")
            helper.stdin.flush()
            status = int(helper.stdout.readline())
            assert status in (0, -9)
            yield number, root
            if status == 0:
                return

    return steps


def next_caller(server: FaultServer, root: str, entries: list[Entry]) -> pkgdata.PackageData:
    return pkgdata.PackageData(
        "p", dataurl=server.url, registry=Registry(entries), cache_dir=root, retries=0
    )


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def check_objects(root: str) -> None:
    """Each object is what its path says: no half of a file, under no name."""
    for item in upkeep.items(Cache(root)):
        assert sha(read(item.path)) == item.digest, item.path


def left_after_sweep(root: str, now: float | None = None) -> set[str]:
    """Return the files and empty folders that stay in the buckets, but for the explanations."""
    upkeep.sweep(Cache(root), now=now)
    check_objects(root)
    explained = {"CACHEDIR.TAG", "README.txt", ".lock"}
    found = set()
    for folder, folders, files in os.walk(root):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        found |= {f"{relative}/{name}".removeprefix("./") for name in files}
        if not folders and not files and "/" in relative:
            found.add(relative + "/")
    # which package has used what is recorded before the rest, and true whatever happens
    return {one for one in found - explained if not one.startswith(stamps.PACKAGES)}


def objects(contents: dict[str, bytes]) -> set[str]:
    return {
        f"objects-v1/{at(sha(content))}/{name.rpartition('/')[2]}"
        for name, content in contents.items()
    }


def at(digest: Digest) -> str:
    return f"{digest.alg}/{digest.hex[:2]}/{digest.hex[2:]}"


@pytest.mark.parametrize(
    ("when", "size"),
    [("before", len(CONTENT)), ("after", len(CONTENT))]
    + [(when, None) for when in ("before", "amid", "after")],
)
def test_get(kill_at_every_step, server, tmp_path, when, size):
    entries = [Entry("map.bin", sha(CONTENT), size)]
    golden = objects({"map.bin": CONTENT})
    if size is None:
        golden.add(f"sizes-v1/sha256/{sha(CONTENT).hex[:2]}.txt")
    deaths = there = 0
    for _, root in kill_at_every_step("get", when, entries):
        deaths += 1
        check_objects(root)
        if os.path.exists(root):
            copy = f"{root}-copy"
            shutil.copytree(root, copy)
            # nobody ever asks again: all or nothing, the size aside, which is true whatever happens
            left = left_after_sweep(copy, os.stat(root).st_mtime + LATER)
            there_of_it = {name for name in left if not name.startswith("sizes-v1")}
            assert there_of_it in (set(), objects({"map.bin": CONTENT}))
            assert not there_of_it or left == golden
            assert stamps.recorded_size(root, sha(CONTENT)) in (None, len(CONTENT))
            there += os.path.exists(Cache(root).path(sha(CONTENT), "map.bin"))
        assert read(next_caller(server, root, entries).get("map.bin")) == CONTENT
        assert left_after_sweep(root) == golden
    assert deaths > 15, "the wrapped calls are those that the library uses"
    assert there >= 2, "some victims died after the file was there"


def test_bytes_of_the_killed_are_used(kill_at_every_step, server):
    """Once blocks were written, some next caller asks for the rest alone."""
    entries = [Entry("map.bin", sha(CONTENT), len(CONTENT))]
    begins = set()
    for _, root in kill_at_every_step("get", "before", entries):
        seen = len(server.requests)
        next_caller(server, root, entries).get("map.bin")
        for request in server.requests[seen:]:
            begins.add(int(request.headers.get("range", "bytes=0-")[6:-1]))
    assert 0 in begins
    assert len(begins) > 3
    assert max(begins) > len(CONTENT) // 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_tree(kill_at_every_step, server, when):
    entries = [Entry(name, sha(content), len(content)) for name, content in TREE.items()]
    identity = Registry(entries).under("dir").digest()
    golden = objects(TREE) | {f"trees-v1/{at(identity)}/{name[4:]}" for name in TREE}
    golden.add(f"contents-v1/tree-sha256-{identity.hex[:40]}.txt")
    for _, root in kill_at_every_step("tree", when, entries, stride=3):
        check_objects(root)
        found = Cache(root).find_tree(identity)
        if found is not None:
            check_folder(found, {name[4:]: content for name, content in TREE.items()})
        folder = next_caller(server, root, entries).tree("dir")
        check_folder(folder, {name[4:]: content for name, content in TREE.items()})
        assert left_after_sweep(root) == golden


def check_folder(folder: str, contents: dict[str, bytes]) -> None:
    assert {name: read(path) for name, path in fs.walk_files(folder)} == contents


@pytest.mark.parametrize("when", ["before", "after"])
def test_unpacking(kill_at_every_step, server, when):
    entries = [Entry("pack.zip", sha(pack()), len(pack()))]
    recipe = hashlib.sha256(b"Unzip [] ").hexdigest()[:16]
    inside = f"derived-v1/{at(sha(pack()))}/{recipe}"
    golden = objects({"pack.zip": pack()}) | {f"{inside}/{name}" for name in MEMBERS}
    golden.add(f"contents-v1/derived-sha256-{sha(pack()).hex[:40]}-{recipe}.txt")
    for _, root in kill_at_every_step("unzip", when, entries, stride=3):
        check_objects(root)
        if os.path.isdir(os.path.join(root, inside)):
            check_folder(os.path.join(root, inside), MEMBERS)
        paths = next_caller(server, root, entries).get("pack.zip", pkgdata.Unzip())
        assert [read(path) for path in paths] == list(MEMBERS.values())
        assert left_after_sweep(root) == golden
