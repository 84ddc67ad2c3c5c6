"""`fetch(on="job")` and ``on="slurm"``: places by environment, and a real Slurm of four nodes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from origin import Origin, package
from slurm import NODES, Slurm

import pkgdata
from pkgdata.cache.objects import Cache
from pkgdata.cluster import job

CHECKOUT = os.path.dirname(os.path.dirname(pkgdata.__file__))
MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("", None),
        ("SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0", (0, 0)),
        ("SLURM_PROCID=9 SLURM_LOCALID=1 SLURM_NODEID=1", (9, 1)),
        ("SLURM_PROCID=2 SLURM_LOCALID=2 SLURM_NODEID=0", (2, 0)),
        ("SLURM_PROCID=4 SLURM_LOCALID=1 SLURM_NODEID=0", (4, 0)),  # dealt out in turn
        ("OMPI_COMM_WORLD_RANK=3 OMPI_COMM_WORLD_LOCAL_RANK=3", (3, 0)),
        (
            "OMPI_COMM_WORLD_RANK=17 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=8 "
            "SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0",
            (17, 2),
        ),
        ("PMI_RANK=5 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=4", (5, 1)),
        ("PALS_RANKID=5 PALS_LOCAL_RANKID=1 PALS_NODEID=3", (5, 3)),
        ("FLUX_TASK_RANK=1 FLUX_TASK_LOCAL_ID=0", (1, 1)),
        ("RANK=6 LOCAL_RANK=2 LOCAL_WORLD_SIZE=4 GROUP_RANK=1", (6, 1)),
        ("RANK=6", None),  # a name that anything may have
    ],
)
def test_the_environment_tells_who_begins(environment, expected):
    assert job.seat(dict(pair.split("=") for pair in environment.split())) == expected


def test_alone_it_is_as_without(tmp_path, monkeypatch):
    for row in job._VARIABLES:
        for name in filter(None, row):
            monkeypatch.delenv(name, raising=False)
    (tmp_path / "served").mkdir()
    with Origin(tmp_path / "served") as origin:
        files = {"a.txt": b"a", "b/c.txt": b"c"}
        package(tmp_path / "site", "hpcpkg", files, tmp_path / "served", origin.url)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        report = pkgdata.declare("hpcpkg").fetch(on="job", to=tmp_path / "out")
        assert sorted(report.succeeded) == ["a.txt", "b/c.txt"]
        assert report.hosts == {}
        assert (tmp_path / "out" / "hpcpkg" / "b" / "c.txt").read_bytes() == b"c"
        assert not list(Path(os.environ["PKGDATA_CACHE_DIR"]).glob("hosts-v1/*"))


@pytest.fixture
def second_node(tmp_path, monkeypatch):
    """This process is the first rank of a second node, that shares a cache with the first one."""
    for name, value in {"PROCID": "4", "LOCALID": "0", "NODEID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(job.disk, "is_local", lambda _: False)
    monkeypatch.setattr(job, "PATIENCE", 0.2)
    monkeypatch.setattr(job, "LATER", 0.1)


def test_a_second_node_begins_when_nobody_else_does(second_node, tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.txt").write_bytes(b"a")
    (tmp_path / "served" / "unpinned.txt").write_bytes(b"b")
    with Origin(tmp_path / "served") as origin:
        digest = hashlib.sha256(b"a").hexdigest()
        registry = {"a.txt": digest, "unpinned.txt": None}
        data = pkgdata.PackageData("p", dataurl=origin.url, registry=registry)
        report = data.fetch(on="job")
        assert sorted(report.succeeded) == ["a.txt", "unpinned.txt"]
        (share,) = report.hosts.values()
        assert (share.origin, share.files) == (2, 2)


def test_offline_nobody_is_waited_for(second_node, monkeypatch):
    monkeypatch.setattr(job, "PATIENCE", 100)
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    data = pkgdata.PackageData("p", dataurl="http://127.0.0.1:9/", registry={"a": "0" * 64})
    with pytest.raises(pkgdata.BatchError) as caught:
        data.fetch(on="job")
    assert isinstance(caught.value.report.failed["a"], pkgdata.OfflineError)


def test_each_node_fetches_for_itself_into_a_cache_of_its_own(second_node, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "PATIENCE", 100)
    monkeypatch.setattr(job.disk, "is_local", lambda _: True)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a.txt").write_bytes(b"a")
    with Origin(tmp_path / "served") as origin:
        registry = {"a.txt": hashlib.sha256(b"a").hexdigest()}
        data = pkgdata.PackageData("p", dataurl=origin.url, registry=registry)
        with pytest.warns(pkgdata.CacheWarning, match="each node downloads for itself"):
            data.fetch(on="job")


def test_slurm_without_an_allocation_says_so(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    data = pkgdata.PackageData("p", registry={"a": "0" * 64})
    with pytest.raises(pkgdata.ConfigError, match="needs an allocation") as caught:
        data.fetch(on="slurm")
    assert "sbatch" in caught.value.hint


def test_a_rank_learns_what_failed_on_another_node(tmp_path):
    path = tmp_path / "hosts-v1" / "job-x.json"
    first, second = job._Note(str(path)), job._Note(str(path))
    assert not second.is_new()
    first.write({"a.txt": pkgdata.PkgdataError("404 for a.txt")})
    assert second.is_new()
    assert [*second.failures()] == ["a.txt"]
    assert "404 for a.txt" in str(second.failures()["a.txt"])
    assert not job._Note(str(path)).is_new(), "what is from an earlier job concerns nobody"
    path.write_text('{"a.t')
    assert second.failures() == {}


# -- real nodes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("slurm") / "s") as cluster:
        yield cluster


@pytest.fixture
def origin(slurm, tmp_path, monkeypatch):
    """An origin of a package, whose users share a cache and have one of their own on each node."""
    noise = random.Random(2)
    files = {"big.bin": noise.randbytes(20 * MEGABYTE), "empty.txt": b""}
    files.update({f"small/{i}.txt": noise.randbytes(1000 + i) for i in range(40)})
    served, site = tmp_path / "served", tmp_path / "site"
    served.mkdir()
    name = f"hpc{os.urandom(4).hex()}"
    with Origin(served) as server:
        package(site, name, files, served, server.url)
        # several would also send what is under way where a busy machine takes over a range
        monkeypatch.setenv("PKGDATA_CONNECTIONS", "1")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([CHECKOUT, str(site)]))
        monkeypatch.setenv("TMPDIR", str(slurm.local))
        monkeypatch.setenv("PKGDATA_CACHE_DIR", str(slurm.shared / name))
        monkeypatch.setenv("PKGDATA_NODE_CACHE", str(slurm.local / name))
        server.total = sum(map(len, files.values()))
        server.name, server.count = name, len(files)
        yield server


def command(origin, on, *more):
    return [sys.executable, "-m", "pkgdata", "fetch", origin.name, "--on", on, *more]


def right_files(slurm, origin):
    """Return how many files each node's own cache has, all of them hashed."""
    text = Path(os.environ["PYTHONPATH"].split(os.pathsep)[1], origin.name, "registry.txt")
    registry = pkgdata.Registry.parse(text.read_text())
    found = []
    for folder in slurm.nodes.values():
        cache = Cache(str(folder / origin.name), verify="always")
        paths = [cache.find(one.digest, one.name, one.size) for one in registry.values()]
        found.append(len(paths) - paths.count(None))
    return found


@pytest.mark.slow
@pytest.mark.integration
class TestSlurm:
    def test_ranks_of_srun_ask_the_origin_once(self, slurm, origin):
        done = slurm.srun("-N4", "--ntasks-per-node=8", *command(origin, "job"))
        assert right_files(slurm, origin) == [origin.count] * 4
        assert origin.sent == origin.total, "the origin sends each file once"
        assert len(done.stderr.splitlines()) <= 6, "those who only waited print nothing"
        slurm.srun("-N4", "--ntasks-per-node=8", *command(origin, "job"))
        assert origin.sent == origin.total, "nor does it in the next job"

    @pytest.mark.parametrize("call", ["get('big.bin')", "fetch()"])
    def test_a_script_that_knows_of_no_job_fetches_once_a_node(self, slurm, origin, call):
        code = f"import pkgdata; pkgdata.declare({origin.name!r}).{call}"
        done = slurm.srun("-N4", "--ntasks-per-node=8", sys.executable, "-c", code)
        assert "Error" not in done.stderr  # a busy machine may say that it waits
        assert right_files(slurm, origin) == [origin.count if call == "fetch()" else 1] * 4
        assert origin.sent <= 1.2 * origin.total, "nodes find it in the cache that they share"

    def test_a_killed_rank_is_replaced(self, slurm, origin):
        origin.rate = 10e6
        tasks = slurm.popen("srun", "-N4", "--ntasks-per-node=4", *command(origin, "job"))
        victim = downloading(slurm.site / origin.name)
        os.kill(victim, signal.SIGKILL)
        origin.rate = 0.0
        out, err = tasks.communicate(timeout=120)
        assert tasks.returncode != 0, "srun tells of the killed task"
        assert err.count("Killed") == 1, f"{out}\n{err}"
        assert "Traceback" not in err
        assert right_files(slurm, origin) == [origin.count] * 4
        assert origin.sent < 1.5 * origin.total

    def test_the_first_node_is_replaced(self, slurm, origin, monkeypatch):
        """Each node has one rank here, and takes over when nothing grows any more."""
        origin.rate = 10e6
        tasks = slurm.popen("srun", "-N4", "--ntasks-per-node=1", *command(origin, "job"))
        os.kill(downloading(slurm.site / origin.name), signal.SIGKILL)
        origin.rate = 0.0
        _, err = tasks.communicate(timeout=120)
        assert err.count("Killed") == 1, err
        assert sorted(right_files(slurm, origin))[1:] == [origin.count] * 3
        assert origin.sent < 1.5 * origin.total

    def test_what_fails_on_the_first_node_fails_on_all_at_once(self, slurm, origin):
        os.remove(os.path.join(origin.folder, "small", "7.txt"))
        origin.rate = 5e6  # all ranks are there before it is known
        began = time.monotonic()
        done = slurm.run("srun", "-N4", "--ntasks-per-node=4", *command(origin, "job"), check=False)
        assert time.monotonic() - began < 58, "nobody waited for a lock, up to 60 s"
        assert done.returncode == 1
        assert done.stderr.count("  small/7.txt: ") == 16, done.stderr
        # each of the two that began asks with the others of the batch, and once alone
        assert origin.requests.count("GET /small/7.txt") <= 4, "the other nodes do not ask"
        assert right_files(slurm, origin) == [origin.count - 1] * 4

    def test_sbcast_takes_the_files_to_all_nodes(self, slurm, origin, monkeypatch):
        monkeypatch.setenv("PKGDATA_CACHE_DIR", str(slurm.local / f"user-{origin.name}"))
        said = slurm.batch(" ".join(command(origin, "slurm", "--json")), f"-J{origin.name}")
        answer = json.loads(said)
        assert len(answer["succeeded"]) == origin.count
        assert right_files(slurm, origin) == [origin.count] * 4
        assert origin.sent == origin.total
        assert {n: one["origin"] for n, one in answer["hosts"].items()} == {
            "n1": origin.total, "n2": 0, "n3": 0, "n4": 0
        }  # fmt: skip
        assert [answer["hosts"][name]["peers"] for name in NODES[1:]] == [origin.total] * 3
        again = json.loads(slurm.batch(" ".join(command(origin, "slurm", "--json"))))
        assert origin.sent == origin.total
        assert sum(one["peers"] for one in again["hosts"].values()) == 0, "all have it already"

    def test_sbcast_that_fails_says_why(self, slurm, origin, monkeypatch):
        monkeypatch.setenv("PKGDATA_CACHE_DIR", str(slurm.local / f"user-{origin.name}"))
        monkeypatch.setenv("TMPDIR", str(slurm.shared))  # all nodes write to one and the same file
        script = " ".join(command(origin, "slurm")) + "; echo exit code $?"
        said = slurm.batch(script)
        assert "sbcast could not copy" in said
        assert "TMPDIR" in said
        assert "exit code 1" in said


def downloading(cache):
    """Return the process that has fetched some of the large file."""
    for _ in range(1000):
        for path in cache.glob("partial-v1/*.part"):
            try:
                if path.stat().st_blocks * 512 > 4 * MEGABYTE and path.name.count(".") == 2:
                    return int(path.name.split(".")[1].split("-")[1])
            except FileNotFoundError:
                pass  # it is complete
        time.sleep(0.02)
    raise AssertionError("nobody downloads")
