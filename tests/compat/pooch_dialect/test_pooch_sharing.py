"""The pooch dialect: `retrieve`, many processes, pooch itself and pkgdata on the same files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pooch as theirs
import pytest
from faults import stall
from pooch_files import (
    BINARY,
    CONTENTS,
    MEMBERS,
    REGISTRY,
    TEXT,
    child_env,
    files_below,
    new_process,
    no_hashing,
    sha,
    written,
)
from waiting import wait_for

import pkgdata
import pkgdata.compat.pooch as pooch
from pkgdata.compat.migrate import migrate_pooch
from pkgdata.compat.pooch import place

# -- retrieve ----------------------------------------------------------------------------------


def test_retrieve_names_files_as_pooch_does(server, store):
    for url in (
        f"{server.url}a.txt",
        f"{server.url}sub/dir/b.bin?version=1#part",
        f"{server.url}a.txt?{'x' * 300}",
    ):
        original = theirs.retrieve(url, known_hash=None, path=store / "theirs")
        ours = pooch.retrieve(url, known_hash=None, path=store / "ours")
        assert os.path.relpath(ours, store / "ours") == os.path.relpath(original, store / "theirs")
        assert Path(ours).read_bytes() == Path(original).read_bytes()


@pytest.mark.parametrize(
    "url",
    [
        "https://www.example.org/2020/data.txt.gz",
        f"https://www.example.org/{'a' * 500}.txt",
        "https://www.example.org",
        "doi:10.5281/zenodo.4924875/tiny-data.txt",
        "doi:10.6084/m9.figshare.14763051.v1/tiny-data.txt",
        "ftp://example.org/a b.txt",
    ],
)
def test_unique_names_are_pooch_s(url):
    from pkgdata.compat.pooch.basics import unique_name

    assert unique_name(url) == theirs.utils.unique_file_name(url)


def test_retrieve_to_the_default_place(server):
    path = pooch.retrieve(server.url + "a.txt", sha(TEXT), fname="a.txt")
    assert path == str(theirs.os_cache("pooch").resolve() / "a.txt")


def test_retrieve_checks_keeps_and_processes(server, store, log, monkeypatch):
    url = server.url + "pack.zip"
    path = pooch.retrieve(url, sha(CONTENTS["pack.zip"]), path=store, fname="p.zip")
    assert path == str(store / "p.zip")
    no_hashing(monkeypatch)
    new_process()
    assert pooch.retrieve(url, sha(CONTENTS["pack.zip"]), path=str(store), fname="p.zip") == path
    monkeypatch.undo()
    assert len(server.requests) == 1
    found = pooch.retrieve(
        url, sha(CONTENTS["pack.zip"]), path=store, fname="p.zip", processor=pooch.Unzip(["d.txt"])
    )
    assert found == [str(store / "p.zip.unzip" / "d.txt")]
    with pytest.raises(ValueError, match="does not match the known hash"):
        pooch.retrieve(url, "0" * 64, path=store, fname="p.zip")
    assert log[-1] == f"Updating data from '{url}' to file '{path}'."


def test_retrieve_takes_mirrors(server, store):
    urls = ["http://127.0.0.1:9/a.txt", server.url + "a.txt"]
    assert Path(pooch.retrieve(urls, sha(TEXT), path=store)).read_bytes() == TEXT


def test_secrets_are_not_logged(server, store, log):
    url = f"{server.url}a.txt?token=secret"
    pooch.retrieve(url, sha(TEXT), path=store, fname="a.txt")
    assert log == [
        f"Downloading data from '{server.url}a.txt?token=***' to file '{store / 'a.txt'}'."
    ]


# -- interchange with the real pooch -----------------------------------------------------------


def test_what_pooch_has_downloaded_is_read_without_a_request(server, store):
    original = theirs.create(store, server.url, version="1.0", registry=REGISTRY)
    paths = [original.fetch(name) for name in REGISTRY]
    single = theirs.retrieve(server.url + "a.txt", known_hash=sha(TEXT), path=store)
    count = len(server.requests)
    ours = pooch.create(store, server.url, version="1.0", registry=REGISTRY)
    assert [ours.fetch(name) for name in REGISTRY] == paths
    assert pooch.retrieve(server.url + "a.txt", known_hash=sha(TEXT), path=store) == single
    assert len(server.requests) == count


def test_what_we_have_downloaded_is_read_by_pooch_without_a_request(pup, server, store):
    paths = [pup.fetch(name) for name in REGISTRY]
    single = pooch.retrieve(server.url + "a.txt", known_hash=sha(TEXT), path=store)
    pup.fetch("pack.zip", processor=pooch.Unzip())
    count = len(server.requests)
    original = theirs.create(store, server.url, registry=REGISTRY)
    assert [original.fetch(name) for name in REGISTRY] == paths
    assert theirs.retrieve(server.url + "a.txt", known_hash=sha(TEXT), path=store) == single
    assert len(original.fetch("pack.zip", processor=theirs.Unzip())) == 4
    assert len(server.requests) == count


def test_each_repairs_a_damaged_file_of_the_other(pup, server, store):
    original = theirs.create(store, server.url, registry=REGISTRY)
    for first, second in ((pup, original), (original, pup)):
        path = Path(first.fetch("a.txt"))
        path.write_bytes(b"damaged")
        second.fetch("a.txt")
        assert path.read_bytes() == TEXT


# -- many threads and processes ----------------------------------------------------------------


def test_many_threads_download_once(pup, server, store):
    found, paths = [], []
    start = threading.Barrier(6)

    def work():
        start.wait(30)
        found.append(sorted(pup.fetch("pack.zip", processor=pooch.Unzip())))
        paths.append(pup.fetch("sub/dir/b.bin"))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 6
    assert paths == [paths[0]] * 6
    assert len(found[0]) == 4
    assert sorted(request.path for request in server.requests) == ["pack.zip", "sub/dir/b.bin"]


CHILD = """
import json, logging, sys
import pkgdata.compat.pooch as pooch

task = json.loads(sys.argv[1])
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage().split()[0])
pooch.get_logger().addHandler(handler)
pup = pooch.create(task["path"], task["url"], registry=task["registry"])
processor = pooch.Unzip() if task["unzip"] else None
print("ready", flush=True)
sys.stdin.readline()
found = pup.fetch(task["name"], processor=processor)
found = [found] if isinstance(found, str) else found
print(json.dumps({"log": lines, "hashes": sorted(map(pooch.file_hash, found))}), flush=True)
"""


class Child:
    """A process that fetches when it is asked to."""

    def __init__(self, server, store, name, unzip=False):
        task = {
            "path": str(store),
            "url": server.url,
            "registry": {one: sha(content) for one, content in server.contents.items()},
            "name": name,
            "unzip": unzip,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_env(),
            text=True,
        )
        # a process that hangs fails its test instead of holding up all the others
        self._alarm = threading.Timer(60, self.process.kill)
        self._alarm.start()
        assert self.process.stdout.readline() == "ready\n"

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self._alarm.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def spawn(server, store):
    children = []

    def spawn(*args, **kwargs):
        children.append(Child(server, store, *args, **kwargs))
        return children[-1]

    yield spawn
    for child in children:
        child.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="stops and kills processes by signals")
@pytest.mark.parametrize("unzip", [False, True], ids=["file", "archive"])
def test_many_processes_download_once(server, store, spawn, unzip):
    name = "pack.zip" if unzip else "sub/dir/b.bin"
    children = [spawn(name, unzip=unzip) for _ in range(6)]
    for child in children:
        child.go()
    results = [child.result() for child in children]
    lines = [line for result in results for line in result["log"]]
    assert sorted(lines) == ["Downloading", "Unzipping"][: 1 + unzip]
    assert len(server.settled()) == 1
    expected = sorted(map(sha, MEMBERS.values() if unzip else [BINARY]))
    assert all(result["hashes"] == expected for result in results)
    below = {f"pack.zip.unzip/{one}" for one in MEMBERS} if unzip else set()
    assert files_below(store) == {name} | below


@pytest.mark.parametrize("known", [sha(TEXT), None])
def test_what_another_process_fetches_meanwhile_is_used(server, store, log, monkeypatch, known):
    """It comes after we looked for the file and before we have the lock."""
    make_room = place.LocalFile.make_room

    def other_process(self):
        make_room(self)
        written(store / "a.txt", TEXT)

    monkeypatch.setattr(place.LocalFile, "make_room", other_process)
    pup = pooch.create(store, server.url, registry={"a.txt": known})
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    assert not server.requests
    assert not log


@pytest.mark.skipif(os.name == "nt", reason="stops and kills processes by signals")
def test_a_killed_download_is_resumed(server, store, spawn):
    content = os.urandom(6 << 20)
    server.contents["large.bin"] = content
    server.script("large.bin", stall(5 << 20))
    child = spawn("large.bin")
    child.go()
    assert server.stalled.wait(30)
    wait_for(lambda: sum(p.stat().st_size for p in store.glob("*.part")) >= 4 << 20)
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait()
    server.release()
    (left,) = store.glob("*.part")
    there = left.stat().st_size
    pup = pooch.create(store, server.url, registry={"large.bin": sha(content)})
    assert Path(pup.fetch("large.bin")).read_bytes() == content
    assert server.settled()[-1].headers["range"] == f"bytes={there}-"
    assert files_below(store) == {"large.bin"}


@pytest.mark.skipif(os.name == "nt", reason="stops and kills processes by signals")
def test_unpinned_bytes_of_a_killed_process_are_not_used(server, store, spawn):
    server.script("sub/dir/b.bin", stall(len(BINARY) // 2))
    child = spawn("sub/dir/b.bin")
    child.go()
    assert server.stalled.wait(30)
    wait_for(lambda: list(store.glob("sub/dir/*.part")))
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait()
    server.release()
    pup = pooch.create(store, server.url, registry={"sub/dir/b.bin": None})
    assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
    assert "range" not in server.settled()[-1].headers
    assert files_below(store) == {"sub/dir/b.bin"}


# -- moving to pkgdata -----------------------------------------------------------------------


def test_declare_takes_what_pooch_takes(server, store, tmp_path):
    urls = {"mine.txt": server.url + "a.txt"}
    registry = {**REGISTRY, "mine.txt": sha(TEXT).upper(), "loose.txt": None}
    server.contents["loose.txt"] = b"loose"
    pup = pooch.create(store, server.url, registry=registry, urls=urls)
    data = pkgdata.declare(
        "ported", dataurl=pup.base_url, registry=pup.registry, urls=pup.urls, folders=[pup.path]
    )
    fetched = {name: Path(data.get(name)).read_bytes() for name in registry}
    assert fetched == {**CONTENTS, "mine.txt": TEXT, "loose.txt": b"loose"}
    assert "a.txt" in [request.path for request in server.requests]
    assert len(data.get("pack.zip", processor=pkgdata.Unzip())) == 4


def test_declare_finds_pooch_s_files_by_naming_their_folder(server, store):
    pup = theirs.create(store, server.url, registry=REGISTRY)
    paths = [pup.fetch(name) for name in REGISTRY]
    count = len(server.requests)
    data = pkgdata.declare("ported", dataurl=server.url, registry=REGISTRY, folders=[pup.path])
    assert [data.get(name) for name in REGISTRY] == paths
    assert len(server.requests) == count


@pytest.fixture
def filled(server, tmp_path):
    """Return a folder that pooch filled: two versions, and files that were fetched by URL."""
    root = theirs.os_cache("ported")
    for version, names in (("1.0", ["a.txt", "sub/dir/b.bin"]), ("2.0", ["a.txt.gz"])):
        old = theirs.create(root, server.url, version=version, registry=REGISTRY)
        for name in names:
            old.fetch(name)
    theirs.retrieve(server.url + "a.txt.xz", REGISTRY["a.txt.xz"], path=root)
    written(root / "2.0" / "pack.zip", b"damaged")
    return root


def test_migrate_adopts_what_is_right(server, filled):
    data = pkgdata.declare("ported", dataurl=server.url, registry=REGISTRY)
    names = ["a.txt", "sub/dir/b.bin", "a.txt.gz", "a.txt.xz"]
    before, count = files_below(filled), len(server.requests)
    planned = migrate_pooch(data, dry_run=True)
    assert {one.name for one in planned} == set(names)
    assert all(one.path is None and data.find(one.name) is None for one in planned)
    adopted = migrate_pooch(data)
    assert {one.name: one.path for one in adopted} == {name: data.get(name) for name in names}
    assert all(Path(one.path).read_bytes() == CONTENTS[one.name] for one in adopted)
    assert migrate_pooch(data) == []
    assert files_below(filled) == before
    assert len(server.requests) == count


def test_migrate_takes_a_folder_and_unpinned_files(server, store):
    written(store / "loose.txt", b"loose")
    data = pkgdata.declare("ported", dataurl=server.url, registry={"loose.txt": None})
    assert migrate_pooch(data, source=store / "absent") == []
    (one,) = migrate_pooch(data, source=store)
    assert Path(data.get("loose.txt")).read_bytes() == b"loose"
    assert one.path == data.get("loose.txt")
    assert not server.requests
