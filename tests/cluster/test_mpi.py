"""`fetch(on=communicator)` with Open MPI: each rank has a cache of its own, or some share one."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from origin import Origin, package

import pkgdata
from pkgdata.cluster import mpi

pytestmark = [pytest.mark.slow, pytest.mark.integration]

CHECKOUT = os.path.dirname(os.path.dirname(pkgdata.__file__))
MEGABYTE = 1 << 20


def find_mpi() -> None:
    lacking = [] if shutil.which("mpiexec") else ["apt-get install openmpi-bin"]
    if importlib.util.find_spec("mpi4py") is None:
        lacking.append("pip install mpi4py")
    if lacking:
        ask = f"needs MPI: {' and '.join(lacking)}"
        pytest.fail(ask) if os.environ.get("CI") else pytest.skip(ask)


def mpiexec(count: int, *command: str, **variables: str) -> subprocess.Popen[str]:
    """Start so many ranks of a program of Python on this computer."""
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # without these two it looks for networks and for graphics processors on each start
    quiet = {"OMPI_MCA_btl": "self,vader", "OMPI_MCA_opal_cuda_support": "0"}
    return subprocess.Popen(
        ["mpiexec", "--oversubscribe", "-n", str(count), sys.executable, *command],
        env={**os.environ, **root, **quiet, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 120) -> list[dict]:
    """Return the answers of the ranks, in order."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, err = process.communicate()
        raise AssertionError(f"some rank hangs:\n{out}\n{err}") from None
    assert process.returncode == 0, f"{out}\n{err}"
    answers = [json.loads(path.read_text()) for path in Path(os.environ["CACHES"]).glob("*.json")]
    return sorted(answers, key=lambda answer: answer["rank"])


#: Each rank fetches as one of so many machines, each with a cache; `argv` has their number.
RANK = """
import hashlib, json, os, sys, time
from mpi4py import MPI
rank, caches = MPI.COMM_WORLD.rank, int(sys.argv[1])
own = os.environ.get("OWN", "PKGDATA_CACHE_DIR")
os.environ[own] = os.path.join(os.environ["CACHES"], str(rank % caches))
import pkgdata
names = sys.argv[2:] or None
began, line = time.monotonic(), {"rank": rank}
try:
    report = pkgdata.declare("hpcpkg").fetch(names, on=MPI.COMM_WORLD)
except Exception as error:
    line.update(error=type(error).__name__, text=str(error))
    report = getattr(error, "report", None)
line["seconds"] = time.monotonic() - began
if report is not None:
    line["failed"] = {name: type(error).__name__ for name, error in report.failed.items()}
    line["hosts"] = [[one.origin, one.peers, one.files] for one in report.hosts.values()]
    line["paths"] = report.succeeded
    line["digests"] = {
        name: hashlib.sha256(open(path, "rb").read()).hexdigest()
        for name, path in report.succeeded.items()
    }
with open(os.path.join(os.environ["CACHES"], f"answer{rank}.json"), "w") as file:
    json.dump(line, file)  # mpiexec would mix up the lines that the ranks print
"""


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """An origin with a file of two blocks and more, and thousands of bytes of small ones."""
    find_mpi()
    noise = random.Random(1)
    files = {"big.bin": noise.randbytes(33 * MEGABYTE + 5), "empty.txt": b""}
    files.update({f"small/{i}.txt": noise.randbytes(1000 + i) for i in range(20)})
    served, site = tmp_path / "served", tmp_path / "site"
    served.mkdir()
    with Origin(served) as server:
        package(site, "hpcpkg", files, served, server.url)
        # several would also send what is under way where a busy machine takes over a range
        monkeypatch.setenv("PKGDATA_CONNECTIONS", "1")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([CHECKOUT, str(site)]))
        (tmp_path / "caches").mkdir()
        monkeypatch.setenv("CACHES", str(tmp_path / "caches"))
        server.total = sum(map(len, files.values()))
        yield server


def digests() -> dict[str, str]:
    """Return the digests of the registry by name."""
    site = os.environ["PYTHONPATH"].split(os.pathsep)[1]
    registry = pkgdata.Registry.parse(Path(site, "hpcpkg", "registry.txt").read_text())
    return {name: entry.digest.hex for name, entry in registry.items()}


def test_each_cache_gets_the_bytes_once(origin):
    lines = finish(mpiexec(6, "-c", RANK, "3"))
    assert [line["digests"] for line in lines] == [digests()] * 6
    assert origin.sent == origin.total, "the origin sends each file once"
    (hosts,) = lines[0]["hosts"]
    assert hosts == [origin.total, 2 * origin.total, 3 * 22]
    assert [line["paths"] for line in lines[:3]] == [line["paths"] for line in lines[3:]]
    again = finish(mpiexec(6, "-c", RANK, "3"))
    assert origin.sent == origin.total
    assert again[5]["hosts"] == [[0, 0, 0]]


def test_what_one_cache_has_already_is_not_asked_of_the_origin(origin):
    one = {"PKGDATA_CACHE_DIR": os.path.join(os.environ["CACHES"], "2")}
    fetch = "import pkgdata; pkgdata.declare('hpcpkg').fetch('big.bin')"
    subprocess.run([sys.executable, "-c", fetch], env={**os.environ, **one}, check=True)
    origin.restart()
    lines = finish(mpiexec(4, "-c", RANK, "4"))
    assert [line["digests"] for line in lines] == [digests()] * 4
    assert origin.sent == origin.total - (33 * MEGABYTE + 5)


def test_a_missing_file_is_raised_by_all_and_nobody_hangs(origin):
    os.remove(os.path.join(origin.folder, "small", "7.txt"))
    began = time.monotonic()
    lines = finish(mpiexec(8, "-c", RANK, "4"))
    assert time.monotonic() - began < 100
    assert [line["error"] for line in lines] == ["BatchError"] * 8
    assert [line["failed"] for line in lines] == [{"small/7.txt": "AllMirrorsFailedError"}] * 8
    assert max(line["seconds"] for line in lines) < 60, "a busy machine; 5 on a quiet one"
    assert {len(line["paths"]) for line in lines} == {21}, "the others are here"
    assert origin.requests.count("GET /small/7.txt") == 1


def test_an_unknown_name_is_raised_by_all(origin):
    lines = finish(mpiexec(3, "-c", RANK, "3", "small/1.txt", "nosuch.txt"))
    assert [line["failed"] for line in lines] == [{"nosuch.txt": "UnknownNameError"}] * 3


def test_a_cache_that_cannot_be_written_to_is_raised_by_all(origin, tmp_path):
    (tmp_path / "caches" / "1").write_text("a file is in the way")
    lines = finish(mpiexec(3, "-c", RANK, "3", "small/1.txt"))
    assert {line["error"] for line in lines} == {"BatchError"}
    assert [list(line["failed"].values()) for line in lines] == [["CacheError"]] * 3
    assert "a file is in the way" in lines[0]["text"]


@pytest.fixture
def shared(tmp_path):
    """Two caches that are one folder, as two machines see a shared file system."""
    if shutil.which("bindfs") is None or os.geteuid() != 0:
        pytest.skip("needs root and bindfs: apt-get install bindfs")
    views = [tmp_path / "caches" / name for name in ("1", "2")]
    (tmp_path / "shared").mkdir()
    for view in views:
        view.mkdir()
        subprocess.run(["bindfs", str(tmp_path / "shared"), str(view)], check=True)
    yield tmp_path / "shared"
    for view in views:
        subprocess.run(["umount", str(view)], check=True)


def test_caches_that_are_one_shared_folder_receive_once(origin, shared):
    lines = finish(mpiexec(3, "-c", RANK, "3"))
    assert [line["digests"] for line in lines] == [digests()] * 3
    assert lines[0]["hosts"] == [[origin.total, origin.total, 2 * 22]]
    assert max(line["seconds"] for line in lines) < 20, "none waits for the other's lock"
    assert list((shared / "partial-v1").iterdir()) == []


def test_node_caches_are_filled_through_the_network(origin, tmp_path):
    home = tmp_path / "home-cache"
    place = {"OWN": "PKGDATA_NODE_CACHE", "PKGDATA_CACHE_DIR": str(home)}
    lines = finish(mpiexec(4, "-c", RANK, "2", **place))
    assert [line["digests"] for line in lines] == [digests()] * 4
    assert origin.sent == origin.total
    assert lines[0]["hosts"] == [[origin.total, origin.total, 2 * 22]]
    assert all("/caches/1/" in path for path in lines[1]["paths"].values())
    shutil.rmtree(tmp_path / "caches" / "1")
    lines = finish(mpiexec(4, "-c", RANK, "2", **place))
    assert lines[0]["hosts"] == [[0, origin.total, 22]], "from the other node, not from the disk"


@pytest.mark.parametrize("kind", ["NODE_CACHE", "CACHE_DIR"])
def test_a_rank_whose_disk_is_full(origin, tmp_path, kind):
    tiny = tmp_path / "caches" / "1"
    tiny.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(tiny)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to be allowed to mount a small disk")
    place = {"OWN": f"PKGDATA_{kind}", "PKGDATA_CACHE_DIR": str(tmp_path / "home-cache")}
    try:
        lines = finish(mpiexec(2, "-c", RANK, "2", **place), 60)
    finally:
        subprocess.run(["umount", "--lazy", str(tiny)], check=True)
    if kind == "NODE_CACHE":
        assert [line["digests"] for line in lines] == [digests()] * 2
        assert origin.sent == origin.total
    else:
        assert [line["error"] for line in lines] == ["BatchError"] * 2
        assert set(lines[0]["failed"].values()) == {"CacheError"}
        assert 1 < len(lines[0]["failed"]) < 22


def test_a_full_node_cache_is_no_failure(tmp_path):
    entry = pkgdata.Entry("a.txt", pkgdata.Digest("sha256", hashlib.sha256(b"a").hexdigest()), 1)

    class Full(pkgdata.Cache):
        given_up = False

        def obtain(self, *_, **__):
            raise pkgdata.CacheError("no space")

        def give_up(self, why):
            data.node_cache, self.given_up = None, True

    class Data:
        node_cache = Full(str(tmp_path / "node"))
        cache = pkgdata.Cache(str(tmp_path / "user"))
        setting = staticmethod(pkgdata.conf.__getattr__)

    data = Data()
    full = data.node_cache
    assert not mpi.keep(data, entry, io.BytesIO(b"a"))
    assert full.given_up
    assert mpi.keep(data, entry, io.BytesIO(b"a"))
    assert Path(data.cache.find(entry.digest, "a.txt")).read_bytes() == b"a"
    with pytest.raises(pkgdata.IntegrityError):
        mpi.keep(
            data, pkgdata.Entry("b.txt", pkgdata.Digest("sha256", "0" * 64), 1), io.BytesIO(b"a")
        )


def test_the_command_speaks_once(origin):
    process = mpiexec(3, "-m", "pkgdata", "fetch", "hpcpkg", "--on", "mpi")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{out}{err}".count("to 1 machine: ") == 1
    assert origin.sent == origin.total


def test_without_mpi4py_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    data = pkgdata.PackageData("p", registry={"a": "0" * 64})
    with pytest.raises(pkgdata.MissingExtraError, match="needs mpi4py") as caught:
        data.fetch(on="mpi")
    assert "pkgdata-cache[mpi]" in caught.value.hint


def test_ranks_that_want_different_files_are_told(origin):
    other = RANK.replace("names = ", "names = ['empty.txt'] if rank else ")
    lines = finish(mpiexec(3, "-c", other, "1", "small/1.txt"))
    assert [line["error"] for line in lines] == ["ConfigError"] * 3


def test_ranks_that_name_the_same_files_in_another_order_agree(origin):
    other = RANK.replace("names = ", "names = {'empty.txt', 'small/1.txt'} if rank else ")
    for seed in ("1", "2", "3"):  # of a set's order
        lines = finish(
            mpiexec(3, "-c", other, "1", "small/1.txt", "empty.txt", PYTHONHASHSEED=seed)
        )
        assert [len(line["digests"]) for line in lines] == [2] * 3


def test_ranks_with_other_versions_of_the_package_are_told(origin):
    older = "pkgdata.PackageData('hpcpkg', registry={'small/1.txt': '0' * 64})"
    other = RANK.replace(
        "pkgdata.declare('hpcpkg')".replace("'", '"'),
        f"({older} if rank == 1 else pkgdata.declare('hpcpkg'))",
    )
    assert older in other
    lines = finish(mpiexec(3, "-c", other, "3", "small/1.txt"), seconds=60)
    assert [line["error"] for line in lines] == ["ConfigError"] * 3


def large(path):
    try:
        return path.stat().st_blocks * 512 > 20 * MEGABYTE
    except FileNotFoundError:
        return False  # it is complete


def test_a_killed_rank_leaves_no_wrong_file_and_the_next_job_resumes(origin, tmp_path):
    origin.rate = 20e6
    process = mpiexec(4, "-c", RANK, "4")
    parts = tmp_path / "caches" / "0" / "partial-v1"
    while not (found := [one for one in parts.glob("*.part") if large(one)]):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(int(found[0].name.split(".")[1].split("-")[1]), 9)
    process.communicate(timeout=30)
    assert process.returncode != 0, "MPI ends the job"
    objects = [path for path in tmp_path.glob("caches/*/objects-v1/**/*") if path.is_file()]
    assert not any(path.name == "big.bin" for path in objects)
    origin.rate, before = 0.0, origin.sent
    lines = finish(mpiexec(4, "-c", RANK, "4"))
    assert [line["digests"] for line in lines] == [digests()] * 4
    assert origin.sent - before < origin.total - 10 * MEGABYTE
