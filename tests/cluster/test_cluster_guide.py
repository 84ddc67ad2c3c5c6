"""The recipes of docs/howto/cluster.md, run word by word on the engines that they name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from origin import Origin, package
from slurm import NODES, Slurm

import pkgdata

CHECKOUT = os.path.dirname(os.path.dirname(pkgdata.__file__))
PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "cluster.md"
MEGABYTE = 1 << 20
WAIT = 120

pytestmark = [pytest.mark.slow, pytest.mark.integration]

#: What the recipes call simulation.py where it is not on the page.
SIMULATION = """
import mypkg, os, sys
total = sum(len(mypkg.data.open(name).read()) for name in mypkg.data.registry)
print("read", total, "on", os.uname().nodename, mypkg.data.get("map.fits"))
"""


def block(heading, number=0):
    """Return a block of code below a heading of the page."""
    part = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```(?:python|bash)\n(.*?)^```$", part, re.M | re.S)[number]


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """The origin of `mypkg`, which all processes find."""
    files = {"map.fits": os.urandom(8 * MEGABYTE), "empty.txt": b""}
    files.update({f"small/{number}.txt": os.urandom(1000 + number) for number in range(10)})
    served, site, programs = tmp_path / "served", tmp_path / "site", tmp_path / "programs"
    served.mkdir()
    programs.mkdir()
    (programs / "pkgdata").write_text(f'#!/bin/sh\nexec {sys.executable} -m pkgdata "$@"\n')
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    with Origin(served) as server:
        package(site, "mypkg", files, served, server.url)
        (site / "mypkg" / "__init__.py").write_text(
            "import pkgdata\ndata = pkgdata.declare(__name__)\n"
        )
        # several would also send what is under way where a busy machine takes over a range
        monkeypatch.setenv("PKGDATA_CONNECTIONS", "1")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([CHECKOUT, str(site)]))
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        server.total = sum(map(len, files.values()))
        yield server


def python(code, folder, *before):
    """Run a recipe in Python; return what it printed."""
    path = folder / "simulation.py"
    path.write_text(code)
    done = subprocess.run(
        [*before, sys.executable, str(path)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- Dask ------------------------------------------------------------------------------------------


def test_interactive_dask(origin, tmp_path):
    pytest.importorskip("distributed", reason="needs Dask: pip install 'pkgdata-cache[dask]'")
    started = []
    here = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", "scheduler.json"]
    try:
        for kind, number in [("scheduler", 0), ("worker", 1), ("worker", 2), ("worker", 3)]:
            own = {"PKGDATA_CACHE_DIR": str(tmp_path / f"cache{number}")}
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *here]
            command += ["--port", "0"] if kind == "scheduler" else ["--nthreads", "1"]
            with open(tmp_path / f"{kind}{number}.log", "w") as log:
                started.append(
                    subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **own}, stderr=log)
                )
        waits = "import distributed as d\n"
        waits += "d.Client(scheduler_file='scheduler.json').wait_for_workers(3)"
        subprocess.run([sys.executable, "-c", waits], cwd=tmp_path, timeout=WAIT, check=True)
        said = python(block("Interactive Dask"), tmp_path)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(WAIT)
    assert said.split()[-1] == str(origin.total)
    assert "peers=" in said
    assert origin.sent == origin.total


def test_dask_jobqueue(origin, tmp_path, slurm, monkeypatch):
    if find_spec("dask_jobqueue") is None:  # its import would change what Ctrl-C does here
        pytest.skip("needs dask-jobqueue: pip install dask-jobqueue")
    share(slurm, monkeypatch, tmp_path)
    # the nodes of the tests count no memory, and all have one address
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__JOB_DIRECTIVES_SKIP", '["--mem", "-t"]')
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__JOB_EXTRA_DIRECTIVES", '["--exclusive"]')
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__SCHEDULER_OPTIONS", '{"host": "127.0.0.1"}')
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__WORKER_EXTRA_ARGS", '["--host", "127.0.0.1"]')
    for name, value in slurm.environment.items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    code = block("dask-jobqueue")
    code = code.replace(
        "client = Client(cluster)\n", "client = Client(cluster)\nclient.wait_for_workers(4)\n"
    )
    said = python(code + "client.close(); cluster.close()\n", tmp_path)
    assert said.split()[-1] == str(origin.total)
    assert origin.sent == origin.total


# -- Slurm -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("slurm") / "s") as cluster:
        yield cluster


def share(slurm, monkeypatch, tmp_path, shared=True):
    """Let the nodes share a cache, or not; each has a folder for what is temporary."""
    name = tmp_path.name
    root = slurm.shared if shared else slurm.local
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(root / f"user-{name}"))
    monkeypatch.setenv("TMPDIR", str(slurm.local / f"tmp-{name}"))
    for folder in slurm.nodes.values():
        (folder / f"tmp-{name}").mkdir()
    (slurm.local / f"tmp-{name}").mkdir()  # of this machine, for sbatch


def batch(slurm, script, folder, *options):
    """Run a script of the page by sbatch; return the lines that it printed."""
    (folder / "simulation.py").write_text(SIMULATION)
    lines = f"set -e\ncd {folder}\n" + script.partition("\n")[2]
    said = slurm.batch(lines, *options, *directives(script), PATH=path(slurm))
    return [line for line in said.splitlines() if line.startswith("read")]


def path(slurm):
    """Return where programs are found, those of the recipes first."""
    return f"{os.environ['PATH']}{os.pathsep}{slurm.environment['PATH']}"


def directives(script):
    return re.findall(r"^#SBATCH (.+)$", script, re.M)


@pytest.mark.parametrize("number", [0, 1])
def test_batch_script(origin, tmp_path, slurm, monkeypatch, number):
    share(slurm, monkeypatch, tmp_path, shared=number == 0)
    lines = batch(slurm, block("A batch script with srun", number), tmp_path)
    assert len(lines) == 32
    assert {line.split()[1] for line in lines} == {str(origin.total)}
    assert {line.split()[3] for line in lines} == set(NODES)
    assert all("/tmp-" in line.split()[4] for line in lines), "read from the node's own disk"
    assert origin.sent == origin.total


def test_array_jobs(origin, tmp_path, slurm, monkeypatch):
    share(slurm, monkeypatch, tmp_path)
    origin.rate = 4e6
    lines = array(slurm, tmp_path, block("Array jobs"))
    assert {line.split()[1] for line in lines} == {str(origin.total)}
    assert origin.sent <= 1.2 * origin.total


def array(slurm, folder, script):
    """Submit an array, wait for it, and return what its tasks printed."""
    (folder / "simulation.py").write_text(SIMULATION)
    (folder / "array.sh").write_text(script)
    out = f"--output={folder}/task-%a.txt"
    slurm.run(
        "sbatch", "--wait", out, f"--chdir={folder}", str(folder / "array.sh"), PATH=path(slurm)
    )
    texts = [file.read_text() for file in folder.glob("task-*.txt")]
    assert len(texts) == 16
    return [text.splitlines()[-1] for text in texts]


def test_array_after_a_fetch(origin, tmp_path, slurm, monkeypatch):
    share(slurm, monkeypatch, tmp_path)
    (tmp_path / "simulation.py").write_text(SIMULATION)
    (tmp_path / "array.sh").write_text(block("Array jobs"))
    slurm.run("bash", "-ec", f"cd {tmp_path}\n" + block("Array jobs", 1), PATH=path(slurm))
    texts = [file.read_text() for file in tmp_path.glob("slurm-*_*.out")]
    assert len(texts) == 16
    assert {text.split()[-4] for text in texts} == {str(origin.total)}
    assert origin.sent == origin.total


# -- MPI -------------------------------------------------------------------------------------------


def test_mpiexec(origin, tmp_path, monkeypatch):
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'pkgdata-cache[mpi]'")
    if shutil.which("mpiexec") is None:
        pytest.skip("needs mpiexec: apt-get install openmpi-bin")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    said = python(block("mpiexec"), tmp_path, "mpiexec", "--oversubscribe", "-n", "4")
    assert said.split() == [str(4 * origin.total)]
    assert origin.sent == origin.total
