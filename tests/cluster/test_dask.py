"""`PackageData.fetch(on=client)` and `pkgdata.dask` on real Dask clusters; workers are killed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from nodes import Nodes
from origin import Origin, package
from waiting import wait_for

import pkgdata
from pkgdata import cli
from pkgdata.base.progress import BYTES, DONE, FAILED, START
from pkgdata.base.report import HostShare
from pkgdata.cluster.dask import Fetch
from pkgdata.core import declaration

distributed = pytest.importorskip(
    "distributed", reason="needs Dask: pip install 'pkgdata-cache[dask]'"
)

pytestmark = [
    pytest.mark.integration,
    # Dask leaves sockets, event loops and processes to the collector of garbage
    pytest.mark.filterwarnings("default"),
]

#: How fast the origin is while workers are killed, in bytes a second, and how large its file is.
RATE, LARGE = 16e6, 32 << 20


def digests(root):
    """Return the digests of what lies in a cache, hashed again."""
    files = (path for path in Path(root, "objects-v1").rglob("*") if path.is_file())
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("site", "served"):
        (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(declaration, "_declared", {})
    # several would also send what is under way where a busy machine takes over a range
    monkeypatch.setenv("PKGDATA_CONNECTIONS", "1")
    return tmp_path


@pytest.fixture
def make(folders):
    """Return a function that makes a package, its origin and the nodes."""
    ended = []

    def made(name, files, count, rate=0.0, caches=None):
        origin = Origin(folders / "served", rate).__enter__()
        ended.append(lambda: origin.__exit__())
        package(folders / "site", name, files, folders / "served", origin.url)
        nodes = Nodes(folders, folders / "site", count, caches)
        ended.append(nodes.close)
        return pkgdata.declare(name), origin, nodes

    yield made
    for end in reversed(ended):
        end()


def expected(files):
    return sorted(hashlib.sha256(content).hexdigest() for content in files.values())


# -- everything is everywhere, and the origin is asked once ----------------------------------------

FILES = {
    "large.bin": os.urandom(20 << 20),
    "medium.bin": os.urandom(3 << 20),
    "empty.txt": b"",
    **{f"small/{number}.txt": b"%d" % number * 500 for number in range(400)},
    "same.txt": b"7" * 500,
}


def test_every_machine_has_every_file_and_the_origin_is_asked_once(make):
    data, origin, nodes = make("alldask", FILES, 4)
    events = []
    report = data.fetch(on=nodes.client, progress=events.append)
    assert sorted(report.succeeded) == sorted(FILES)
    assert sorted(report.new) == sorted(FILES)
    for number in range(4):
        assert set(digests(nodes.cache(number))) == set(expected(FILES))
    total = sum(map(len, FILES.values()))
    # a range that another connection finishes is cut, with what is on its way
    assert origin.sent <= total + (8 << 20)
    assert len(report.hosts) == 4
    shares = sorted(report.hosts.values(), key=lambda share: share.origin)
    assert [share.origin for share in shares[:3]] == [0, 0, 0]
    assert shares[3].origin == total - len(FILES["same.txt"])
    assert all(share.files == len(FILES) and share.seconds > 0 for share in shares)
    assert "4 hosts" in repr(report)
    assert {event.name for event in events if event.state == DONE} == set(report.hosts)
    sources = {event.source for event in events if event.state == BYTES and event.source}
    assert origin.url in sources
    assert sources - {origin.url} <= set(report.hosts)
    # the second time nothing comes, and a machine that lost its cache gets it from a neighbour
    origin.restart()
    again = data.fetch(on=nodes.client)
    assert [share.files for share in again.hosts.values()] == [0, 0, 0, 0]
    subprocess.run(["rm", "-rf", str(nodes.cache(2))], check=True)
    again = data.fetch(on=nodes.client)
    assert sorted(share.peers > total * 0.9 for share in again.hosts.values()) == [0, 0, 0, 1]
    assert origin.requests == []
    assert not [*Path(nodes.cache(0), "partial-v1").iterdir()]


def test_workers_that_share_a_cache_are_one_machine(folders):
    package(folders / "site", "shared", FILES, folders / "served", (folders / "served").as_uri())
    data = pkgdata.declare("shared")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        report = data.fetch(["large.bin", "small/1.txt"], on=client, to=folders / "copy")
        assert repr(report).endswith(", 1 host: 20972020 bytes from the origin, 0 from peers>")
        with pytest.raises(pkgdata.UnsupportedOperationError, match="nothing can be") as caught:
            data.fetch(on=cluster)
        assert "a cluster has get_client()" in caught.value.hint
        ((host, share),) = report.hosts.items()
        assert (share.files, share.peers) == (2, 0)
        assert host == os.uname().nodename
        assert report.succeeded["large.bin"] == str(folders / "copy" / "shared" / "large.bin")
        assert (folders / "copy" / "shared" / "small" / "1.txt").read_bytes() == b"1" * 500


def test_an_asynchronous_client_is_awaited(folders):
    package(folders / "site", "later", FILES, folders / "served", (folders / "served").as_uri())

    async def run():
        async with (
            distributed.LocalCluster(
                n_workers=1, processes=False, asynchronous=True, dashboard_address="127.0.0.1:0"
            ) as cluster,
            distributed.Client(cluster, asynchronous=True) as client,
        ):
            return await pkgdata.declare("later").fetch("medium.bin", on=client)

    assert list(asyncio.run(run()).succeeded) == ["medium.bin"]


# -- errors ----------------------------------------------------------------------------------------


def test_a_missing_file_reaches_the_client_with_its_hint(make, folders):
    data, _, nodes = make("lacking", {"a.txt": b"a", "b.txt": b"b"}, 2)
    (folders / "served" / "b.txt").unlink()
    with pytest.raises(pkgdata.BatchError, match=r"1 of 2 files of lacking") as caught:
        data.fetch(on=nodes.client)
    report = caught.value.report
    assert list(report.succeeded) == ["a.txt"]
    error = report.failed["b.txt"]
    assert isinstance(error, pkgdata.AllMirrorsFailedError)
    assert "404" in str(error.attempts[0][1])
    with pytest.raises(pkgdata.BatchError, match="unknown") as caught:
        data.fetch("unknown.txt", on=nodes.client)
    assert isinstance(caught.value.report.failed["unknown.txt"], pkgdata.UnknownNameError)


def test_a_package_that_workers_lack_or_have_otherwise(make, folders, monkeypatch):
    _, origin, nodes = make("here", {"a.txt": b"a"}, 1)
    elsewhere = folders / "elsewhere"
    package(elsewhere, "onlyhere", {"a.txt": b"a"}, folders / "served", origin.url)
    monkeypatch.syspath_prepend(str(elsewhere))
    with pytest.raises(pkgdata.ConfigError, match="onlyhere cannot be found on worker") as caught:
        pkgdata.declare("onlyhere").fetch(on=nodes.client)
    assert caught.value.hint == "install onlyhere on every worker, as it is here"
    package(elsewhere, "here", {"b.txt": b"b"}, folders / "served", origin.url)
    declaration._declared.clear()
    with pytest.raises(pkgdata.ConfigError, match=r"registry of here on .* is not the one here"):
        pkgdata.declare("here").fetch(on=nodes.client)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("tcp://{silent}", "it gives no answer"),
        ("tcp://{closed}", "Timed out"),
        ("{worker}", "it is a Worker"),
    ],
)
def test_what_answers_as_no_scheduler_ends_the_command_soon(folders, where, text):
    """A client that could not connect kept the program for a minute at its end."""
    package(folders / "site", "alone", {"a.txt": b"a"}, folders / "served", "https://example.org/")
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        closed = socket.create_server(("127.0.0.1", 0))
        names = [f"127.0.0.1:{one.getsockname()[1]}" for one in (server, closed)]
        closed.close()
        worker = ""
        if where == "{worker}":
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=1,
                    processes=False,
                    protocol="tcp://",
                    dashboard_address="127.0.0.1:0",
                    host="127.0.0.1",
                )
            )
            worker = cluster.workers[0].address
        where = where.format(silent=names[0], closed=names[1], worker=worker)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pkgdata", "fetch", "alone", "--on", where],
            env={
                **os.environ,
                "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s",
                "PYTHONPATH": os.pathsep.join([str(folders / "site"), *sys.path]),
            },
            cwd=folders,
            capture_output=True,
            text=True,
        )
        assert time.monotonic() - began < 40
    assert done.returncode == 1
    assert done.stderr.startswith(f"pkgdata: error: there is no Dask scheduler at {where}: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_scheduler_that_ends_is_named():
    class Client:
        status = "connecting"
        subscribe_topic = unsubscribe_topic = print

        async def run(self, *_, **__):
            raise distributed.comm.CommClosedError("Stream is closed")

    work = Fetch(Client(), pkgdata.PackageData("p", registry={}), None, None, None)
    with pytest.raises(pkgdata.StoreError, match="is not there any more: Stream is closed"):
        asyncio.run(work.run())


def test_a_report_that_comes_after_the_end_changes_nothing():
    events = []
    work = Fetch(None, pkgdata.PackageData("p", registry={"a": "0" * 64}), None, None, None)
    work._show, work._hosts = events.append, {"tcp://h:1": "h"}
    work._hear((0.0, ["tcp://h:1", 1, 2, ""]))
    assert work._count("tcp://h:1", (HostShare(), {}))
    work._hear((0.0, ["tcp://h:1", 2, 2, ""]))
    assert [event.state for event in events] == [START, DONE]


def fill(folder, size):
    """Mount a disk of so many bytes; return the command that takes it away."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("needs root on Linux, to mount a small disk")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to be allowed to mount a small disk")
    return ["umount", "--lazy", str(folder)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["CACHE_DIR", "NODE_CACHE"])
def test_a_worker_whose_disk_is_full_ends_and_says_so(make, folders, kind):
    files = {f"{number}.txt": b"%d" % number * 1000 for number in range(600)}
    files["large.bin"] = os.urandom(3 << 20)
    data, _, nodes = make("brimful", files, 2)
    unmount = fill(folders / "tiny", 1 << 20)
    address = sorted(nodes.client.scheduler_info()["workers"])[1]
    try:
        nodes.client.run(
            lambda: os.environ.update({f"PKGDATA_{kind}": str(folders / "tiny" / "c")}),
            workers=[address],
        )
        if kind == "NODE_CACHE":
            assert sorted(data.fetch(on=nodes.client).succeeded) == sorted(files)
            return
        with pytest.raises(pkgdata.BatchError) as caught:
            data.fetch(on=nodes.client)
        failed = caught.value.report.failed
        assert "large.bin" in failed
        assert 300 < len(failed) < len(files)
        assert all(isinstance(error, pkgdata.CacheError) for error in failed.values())
        assert f"tiny{os.sep}c" in str(failed["large.bin"])
    finally:
        subprocess.run(unmount, check=True)


# -- workers that die, and workers that come -------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("who", ["first", "middle"])
def test_a_killed_worker_costs_little(make, who):
    files = {"large.bin": os.urandom(LARGE), "s.txt": b"s"}
    data, origin, nodes = make("killed", files, 6, RATE)
    first, killed = set(), []

    states = {}

    def kill(event):
        states[event.name] = event.state
        if event.source.startswith("http://"):
            first.add(event.name)
            return
        far = event.done >= LARGE * 2 // 3 and event.source and not killed
        if far and (event.source in first) == (who == "first"):
            killed.append(event.source)
            threading.Thread(target=nodes.kill, args=[event.source]).start()

    began = time.monotonic()
    report = data.fetch(on=nodes.client, progress=kill)
    assert time.monotonic() - began < 120
    assert killed
    assert sorted(report.succeeded) == sorted(files)
    assert states.pop(killed[0]) == FAILED
    assert set(states.values()) == {DONE}
    for number in range(6):
        if not killed[0].endswith(f"node{number}"):
            assert digests(nodes.cache(number)) == expected(files)
    # what the system held for the dead one, on each of its connections, was sent as well
    assert origin.sent <= 1.15 * LARGE + (8 << 20)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "close"])
def test_an_interrupted_client_leaves_no_bars_and_ctrl_c_ends_the_downloads(make, how):
    data, origin, nodes = make("interrupted", {"large.bin": os.urandom(LARGE)}, 3, RATE / 8)
    states, stopped = {}, []
    client = distributed.Client(nodes.cluster, set_as_default=False)

    def stop(event):
        if event.state == BYTES and event.done > 2 << 20 and not stopped:
            stopped.append(how)
            if how == "close":
                threading.Thread(target=client.close).start()
            else:
                os.kill(os.getpid(), signal.SIGINT)
        states[event.name] = event.state

    with pytest.raises(KeyboardInterrupt if how == "Ctrl-C" else Exception):
        data.fetch(on=client, progress=stop)
    wait_for(lambda: set(states.values()) == {FAILED})
    time.sleep(2)  # a report that comes late must not open a bar again
    assert set(states.values()) == {FAILED}
    if how == "Ctrl-C":
        before = origin.sent
        time.sleep(2)  # in which workers that go on would get more than that
        assert origin.sent - before < 1 << 20
        client.close()
    origin.rate = 0.0
    assert list(data.fetch(on=nodes.client).succeeded) == ["large.bin"]
    assert origin.sent < 1.5 * LARGE


@pytest.mark.slow
def test_a_late_worker_is_served_by_a_neighbour(make):
    from pkgdata.dask import Stage

    files = {"large.bin": os.urandom(9 << 20), "s.txt": b"s", "t.txt": b"t"}
    _, origin, nodes = make("staged", files, 3)
    nodes.client.register_plugin(Stage("staged"))
    for number in range(3):
        assert digests(nodes.cache(number)) == expected(files)
    assert origin.sent == sum(map(len, files.values()))
    origin.restart()
    nodes.add(3)
    assert digests(nodes.cache(3)) == expected(files)
    assert origin.requests == []
    assert nodes.client.submit(pkgdata.declare("staged").get, "s.txt").result()


@pytest.mark.slow
def test_workers_of_a_stage_that_share_a_cache_ask_once(make):
    from pkgdata.dask import Stage

    files = {"large.bin": os.urandom(9 << 20), "s.txt": b"s", "t.txt": b"t"}
    _, origin, nodes = make("stagedtogether", files, 4, caches=2)
    began = time.monotonic()
    nodes.client.register_plugin(Stage("stagedtogether"))
    assert time.monotonic() - began < 50, "nobody waits for another's patience to end"
    for number in range(2):
        assert digests(nodes.cache(number)) == expected(files)
    assert origin.sent == sum(map(len, files.values()))


def test_a_stage_tells_what_it_cannot_bring(make):
    from pkgdata.dask import Stage

    _, _, nodes = make("unstaged", {"a.txt": b"a"}, 1)
    with pytest.raises(pkgdata.BatchError, match=r"no\.txt"):
        nodes.client.register_plugin(Stage("unstaged", "no.txt"))
    with pytest.raises(pkgdata.ConfigError, match="nosuchpackage"):
        nodes.client.register_plugin(Stage("nosuchpackage"))


@pytest.mark.slow
def test_preloading_brings_files_before_the_first_task(make, folders):
    files = {"a.txt": b"a", "b.txt": b"b"}
    _, origin, nodes = make("preloaded", files, 0)
    words = [nodes.cluster.scheduler_address, "--preload", "pkgdata.dask", "preloaded"]
    root = folders / "late"
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", *words, "--no-dashboard"],
        env={
            **os.environ,
            "PKGDATA_CACHE_DIR": str(root),
            "PYTHONPATH": os.pathsep.join([str(folders / "site"), *sys.path]),
        },
        cwd=folders,
        stderr=subprocess.DEVNULL,
    )
    try:
        nodes.client.wait_for_workers(1, timeout=60)
        (path,) = nodes.client.run(pkgdata.declare("preloaded").find, "b.txt").values()
        assert path.startswith(str(root))
        assert digests(root) == expected(files)
        assert origin.sent == 2
    finally:
        process.terminate()
        process.wait()


# -- what Dask makes of a package's data -----------------------------------------------------------


def test_tokens_repeat_and_hold_nothing_of_the_environment(folders, monkeypatch):
    from dask.base import tokenize

    package(
        folders / "site", "tokened", {"a.txt": b"a"}, folders / "served", "https://example.org/"
    )
    data = pkgdata.declare("tokened")
    before = tokenize(data), tokenize(data.get)
    monkeypatch.setenv("UNRELATED_SECRET", "hunter2-example")
    data.where("a.txt")
    assert (tokenize(data), tokenize(data.get)) == before
    code = (
        "import pkgdata; from dask.base import tokenize\n"
        "data = pkgdata.declare('tokened'); print(tokenize(data), tokenize(data.get))"
    )
    path = os.pathsep.join([str(folders / "site"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert tuple(done.stdout.split()) == before
    raw = pkgdata.PackageData("raw", dataurl="https://h/", registry={"a": "0" * 64})
    assert tokenize(raw) == tokenize(pickle.loads(pickle.dumps(raw)))
    assert tokenize(raw) != tokenize(pkgdata.PackageData("raw", registry={"a": "1" * 64}))
    sent = distributed.protocol.serialize(data.get)
    assert b"hunter2-example" not in b"".join(bytes(frame) for frame in sent[1])


def test_a_text_is_a_scheduler_and_a_timeline_has_rows_of_hosts(make, folders, capsys):
    data, _, nodes = make("textual", {"a.txt": b"a"}, 1)
    assert list(data.fetch(on=nodes.cluster.scheduler_address).succeeded) == ["a.txt"]
    file = folders / "scheduler.json"
    nodes.client.write_scheduler_file(str(file))
    assert list(data.fetch(on=str(file)).hosts) == [os.uname().nodename]
    words = ["fetch", "textual", "--on", str(file), "--timeline", str(folders / "hosts.svg")]
    nodes.add(1)
    assert cli.main(words) == 0
    line = capsys.readouterr().err.strip()
    assert line.startswith("1 file of textual fetched (1 B in ")
    assert line.endswith("; to 2 machines: 0 B from the origin, 1 B from each other")
    rows = (folders / "hosts.svg").read_text()
    assert f"{os.uname().nodename}:{nodes.cache(1)}"[-20:] in rows
    with pytest.raises(pkgdata.StoreError, match=r"no Dask scheduler at .*absent\.json"):
        data.fetch(on=str(folders / "absent.json"))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["nosuch", "tcp://nosuch", "pipe.json", "list.json", "none.json"])
def test_what_is_no_scheduler_ends_the_command(tmp_path, text):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "none.json").write_text("{}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"1")
    words = [sys.executable, "-m", "pkgdata", "cp", "-r", "data", "out", "--on", text]
    env = {**os.environ, "PYTHONPATH": str(Path(pkgdata.__file__).parent.parent)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"there is no Dask scheduler at {text}" in done.stderr
