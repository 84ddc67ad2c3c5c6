"""One file for all ranks of a job: a real Slurm of four nodes on this machine, and Open MPI.

    python scripts/bench/on_job.py [--only slurm,mpi] [--size 200] [--rate 50] [--write]

It needs root and what tests/slurm.py says. The nodes share this machine's cores and disk, so the
bytes of the origin and who is served count; the seconds are an upper bound. ``--write`` puts the
result into results/on_job.md; else it is printed alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import common

from pkgdata.base.hashes import hash_file

sys.path.insert(0, str(common.ROOT / "tests"))
tests: Any = importlib.import_module("slurm")
origins: Any = importlib.import_module("origin")

#: What each rank does; it leaves its answer in a folder. The arguments: that, and the value of on.
RANK = """
import json, os, socket, sys, time
folder, on = sys.argv[1:]
if on == "comm":
    from mpi4py import MPI
    on, rank = MPI.COMM_WORLD, MPI.COMM_WORLD.rank
    groups = int(os.environ["CACHES"])
    os.environ["PKGDATA_CACHE_DIR"] = os.path.join(os.environ["ROOT"], str(rank % groups))
else:
    rank = int(os.environ["SLURM_PROCID"])
import pkgdata
began = time.time()
try:
    path = pkgdata.declare("hpcpkg").fetch(on=on if on != "none" else None).succeeded["big.bin"]
except pkgdata.BatchError as error:
    path = "failed: " + next(type(one).__name__ for one in error.report.failed.values())
with open(os.path.join(folder, f"{rank}.json"), "w") as file:
    json.dump({"path": path, "began": began, "ended": time.time()}, file)
"""


class Outcome(NamedTuple):
    """One run: bytes of the origin over the file's, seconds, and who has the right file."""

    origin: float
    seconds: float
    ranks: str
    caches: str


class Bench:
    """A package of one file, its origin, and the runs so far."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args, self.work = args, work
        self.served, self.site = work / "served", work / "site"
        self.served.mkdir()
        self.origin = origins.Origin(self.served, args.rate * 1e6)
        files = {"big.bin": random.Random(0).randbytes(args.size * 1_000_000)}
        origins.package(self.site, "hpcpkg", files, self.served, self.origin.url)
        self.digest = hash_file(str(self.served / "big.bin"))
        self.variables = {
            "PYTHONPATH": f"{common.ROOT}{os.pathsep}{self.site}",
            "PKGDATA_CONNECTIONS": str(args.connections),
        }
        self.rank = work / "rank.py"
        self.rank.write_text(RANK)
        self.runs: dict[str, Outcome] = {}

    def answers(self) -> Path:
        """Return a fresh folder for the ranks' answers."""
        self.origin.restart()
        return common.fresh(self.work / "answers")

    def keep(self, case: str, seconds: float, ranks: int, caches: Iterable[Path]) -> None:
        """Note a run; the file of each cache is hashed."""
        told = [json.loads(path.read_text()) for path in (self.work / "answers").glob("*.json")]
        good = sum(one["path"].endswith("big.bin") for one in told)
        caches = list(caches)
        right = sum(
            any(
                hash_file(str(path)) == self.digest for path in cache.rglob("objects-v1/**/big.bin")
            )
            for cache in caches
        )
        sent = self.origin.sent / (self.args.size * 1_000_000)
        served = f"{good} of {ranks}" if ranks else ""
        self.runs[case] = Outcome(sent, seconds, served, f"{right} of {len(caches)}")
        print(case, self.runs[case], file=sys.stderr, flush=True)


def alone(bench: Bench) -> None:
    """Fetch in one process, for comparison."""
    cache = common.fresh(bench.work / "alone")
    bench.answers()
    code = "import pkgdata; pkgdata.declare('hpcpkg').fetch()"
    env = {**os.environ, **bench.variables, "PKGDATA_CACHE_DIR": str(cache)}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    bench.keep("one process", time.perf_counter() - began, 0, [cache])


# -- Slurm -----------------------------------------------------------------------------------------


def slurm(bench: Bench) -> None:
    """Run the cases of Slurm, each with empty caches."""
    with tests.Slurm(bench.work / "slurm") as cluster:
        for number, (case, on, kill) in enumerate(
            [
                ("srun, 4 nodes x 8 ranks, each node for itself", "none", False),
                ("srun, 4 nodes x 8 ranks, --on job", "job", False),
                ("the same, SIGKILL of the downloading rank", "job", True),
            ]
        ):
            _srun(bench, cluster, number, case, on, kill)
        bench.answers()
        caches = _caches(cluster, "slurm")
        command = f"{sys.executable} -m pkgdata fetch hpcpkg --on slurm"
        began = time.perf_counter()
        print(cluster.batch(command, **_places(bench, cluster, "slurm", "local")), file=sys.stderr)
        bench.keep("batch script, --on slurm", time.perf_counter() - began, 0, caches)


def _caches(cluster: Any, name: str) -> list[Path]:
    return [folder / name for folder in cluster.nodes.values()]


def _places(bench: Bench, cluster: Any, name: str, user: str) -> dict[str, str]:
    """Return the variables of a run: the user's cache is shared, or local to the node."""
    root = cluster.shared if user == "shared" else cluster.local
    return {
        **bench.variables,
        "PKGDATA_CACHE_DIR": str(root / f"user-{name}"),
        "PKGDATA_NODE_CACHE": str(cluster.local / name),
        "TMPDIR": str(cluster.local),
    }


def _srun(bench: Bench, cluster: Any, number: int, case: str, on: str, kill: bool) -> None:
    name = f"run{number}"
    places = _places(bench, cluster, name, "local" if on == "none" else "shared")
    command = ["-N4", "--ntasks-per-node=8", sys.executable, str(bench.rank)]
    began = time.perf_counter()
    process = cluster.popen("srun", *command, str(bench.answers()), on, **places)
    if kill:
        os.kill(_downloading(bench, cluster.site / f"user-{name}"), signal.SIGKILL)
    _, said = process.communicate(timeout=300)
    seconds = time.perf_counter() - began
    if process.returncode and not kill:
        raise RuntimeError(said)
    bench.keep(case, seconds, 31 if kill else 32, _caches(cluster, name))


def _downloading(bench: Bench, cache: Path) -> int:
    """Return the process that has fetched three quarters of the file into a cache."""
    while True:
        for path in cache.glob("partial-v1/*.part"):
            try:
                done = path.stat().st_blocks * 512
            except FileNotFoundError:
                continue
            if done > 0.75e6 * bench.args.size and path.name.count(".") == 2:
                return int(path.name.split(".")[1].split("-")[1])
        time.sleep(0.01)


# -- MPI -------------------------------------------------------------------------------------------


def mpi(bench: Bench) -> None:
    """Run the cases of Open MPI, each with empty caches."""
    for case, groups in (
        ("mpiexec -n 16, one cache", 1),
        ("mpiexec -n 16, 4 caches", 4),
        ("mpiexec -n 16, 16 caches", 16),
    ):
        seconds, root = _mpiexec(bench, groups)
        bench.keep(case, seconds, 16, [root / str(number) for number in range(groups)])
    (bench.served / "big.bin").rename(bench.work / "away.bin")
    seconds, _ = _mpiexec(bench, 4)
    (bench.work / "away.bin").rename(bench.served / "big.bin")
    told = [json.loads(path.read_text()) for path in (bench.work / "answers").glob("*.json")]
    raised = sum(one["path"] == "failed: AllMirrorsFailedError" for one in told)
    latest = max(one["ended"] - one["began"] for one in told)
    case = "mpiexec -n 16, a missing file"
    bench.runs[case] = Outcome(0, latest, f"raised on {raised} of 16", "")


def _mpiexec(bench: Bench, groups: int) -> tuple[float, Path]:
    root = common.fresh(bench.work / "mpi")
    env = {**os.environ, **bench.variables, "CACHES": str(groups), "ROOT": str(root)}
    env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    env.update(OMPI_MCA_btl="self,vader", OMPI_MCA_opal_cuda_support="0")
    command = ["mpiexec", "--oversubscribe", "-n", "16", sys.executable, str(bench.rank)]
    began = time.perf_counter()
    subprocess.run([*command, str(bench.answers()), "comm"], env=env, check=True, timeout=300)
    return time.perf_counter() - began, root


# -- the program -----------------------------------------------------------------------------------


def aims(runs: dict[str, Outcome]) -> list[common.Aim]:
    """Return what counts of the runs that were made."""
    found = []
    for case, run in runs.items():
        if case.endswith("itself") or case == "one process":
            continue
        if case.endswith("missing file"):
            found.append(common.Aim(f"{case}: seconds until the last has raised", run.seconds, 5))
            continue
        most = 1.05 if "SIGKILL" in case else 1.01
        found.append(common.Aim(f"{case}: bytes of the origin over the file's", run.origin, most))
        lacking = [text for text in (run.ranks, run.caches) if text and not _all(text)]
        found.append(common.Aim(f"{case}: not all ranks or caches are served", len(lacking), 0))
    return found


def _all(text: str) -> bool:
    some, _, total = text.partition(" of ")
    return some == total


def main() -> None:
    parts: dict[str, Any] = {"slurm": slurm, "mpi": mpi}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(parts), help="parts, with commas between")
    parser.add_argument("--size", type=int, default=200, help="of the file, in MB")
    parser.add_argument("--rate", type=float, default=50, help="of the origin in all, in MB/s")
    parser.add_argument("--connections", type=int, default=1, help="for the file (default: 1)")
    parser.add_argument("--write", action="store_true", help="write results/on_job.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pkgdata-bench-") as folder:
        bench = Bench(args, Path(folder))
        with bench.origin:
            alone(bench)
            for name in args.only.split(","):
                parts[name](bench)
    rows = [[case, *run] for case, run in bench.runs.items()]
    title = f"A file of {args.size} MB, an origin of {args.rate:g} MB/s in all"
    columns = [
        "case",
        "origin bytes / file",
        "seconds",
        "ranks served",
        "caches with the right file",
    ]
    note = (
        "Seconds are those of the whole command; of a missing file, until the last rank raised. "
        f"Connections for a file: {args.connections}; with more, the ends that a busy machine's "
        "ranges cut off are sent, too."
    )
    tools = [("slurmd", "-V"), ("mpiexec", "--version")]
    head = "# In the ranks of a job\n\n" + common.header(1, ["mpi4py", "requests"], tools)
    table = common.table(title, columns, rows, note)
    page = "\n".join([head, table, common.aims_table(aims(bench.runs))])
    print(page)
    if args.write:
        (common.ROOT / "scripts/bench/results/on_job.md").write_text(page)


if __name__ == "__main__":
    main()
