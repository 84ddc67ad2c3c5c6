"""Measure how pkgdata publishes, beside command line tools that only copy.

    python scripts/bench/publish.py [--rounds N] [--only bucket,folder] [--quick]

Needs ``pip install -e '.[cloud]'``, Linux, the commands s5cmd, rclone and s3cmd, and those of the
Debian packages ceph-mon, ceph-osd and radosgw. The server is our own, on loopback, and keeps what
it holds in memory; the files and the folder lie in memory too.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from common import (
    ROOT,
    Aim,
    Sample,
    aims_table,
    fresh,
    header,
    interpreter,
    median,
    random_file,
    ratio,
    rounds,
    run,
    table,
)

sys.path.insert(0, str(ROOT))
from pkgdata.core.registry import Registry  # of this checkout
from pkgdata.stores import Store

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RESULT = Path(__file__).resolve().parent / "results" / "publish.md"
KEYS = {"AWS_ACCESS_KEY_ID": "TESTKEY123", "AWS_SECRET_ACCESS_KEY": "TESTSECRET123"}
BUCKET = "bench"

Samples = dict[str, list[Sample]]


class Work(NamedTuple):
    """How many files of how many bytes."""

    files: int
    length: int

    def __str__(self) -> str:
        unit, name = (MIB, "MiB") if self.length >= MIB else (KIB, "KiB")
        return f"{self.files:,} × {self.length // unit:,} {name}"


FULL = {"small": Work(2_000, 4 * KIB), "large": Work(1, GIB)}
QUICK = {"small": Work(200, 4 * KIB), "large": Work(1, 70 * MIB)}

#: Hashes, compares, uploads and writes the registry: all but the proof, which no tool offers.
OWN = """
import sys, time
from pkgdata.publish import destinations_for
from pkgdata.publish.engine import Publication
folder, place, registry = sys.argv[1:]
with Publication(folder, destinations_for([place]), registry) as work:
    began = time.perf_counter()
    work.plan()
    planned = time.perf_counter()
    work.upload()
    work.record()
    report(plan=planned - began)
"""


@dataclass
class Bench:
    """The folders, and the server if there is one."""

    work: Path
    ceph: Any = None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def sample(self, argv: Callable[[Path, str, Path], list[str]], local: Path) -> Sample:
        """Copy a folder to a place of its own, look that all of it is there, and empty it."""
        registry = self.work / "registry.txt"
        registry.unlink(missing_ok=True)
        name = f"place-{next(self.numbers)}"
        target = f"s3://{BUCKET}/{name}/" if self.ceph else str(self.work / name)
        found = run(argv(local, target, registry), self.work, self.environment())
        sizes = {path.name: path.stat().st_size for path in local.iterdir()}
        store = Store(target if not self.ceph else f"s3://{self.ceph.endpoint}/{BUCKET}/{name}")
        assert {name: info.size for name, info in store.scan()} == sizes, argv
        if registry.exists():
            assert {name: entry.size for name, entry in Registry.load(registry).items()} == sizes
        store.delete(prefix="")
        self.tidy()
        return found

    def tidy(self) -> None:
        """Let the server give back the memory of what was removed, which takes it hours else."""
        if self.ceph:
            conf = str(self.work / "ceph" / "ceph.conf")
            admin = ["radosgw-admin", "-c", conf, "-n", "client.rgw"]
            subprocess.run(
                [*admin, "gc", "process", "--include-all"], check=True, capture_output=True
            )

    def environment(self) -> dict[str, str]:
        """Return what tells the tools of the server."""
        endpoint = self.ceph.endpoint if self.ceph else ""
        return KEYS | {
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "S3_ENDPOINT_URL": endpoint,
            "RCLONE_CONFIG": "",
            "RCLONE_S3_PROVIDER": "Ceph",
            "RCLONE_S3_ENDPOINT": endpoint,
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_REGION": "us-east-1",
        }


def pkgdata(local: Path, target: str, registry: Path) -> list[str]:
    place = target if target.startswith("s3:") else f"file:{target}"
    return interpreter(OWN, local, place, registry)


def whole_command(local: Path, target: str, registry: Path) -> list[str]:
    place = target if target.startswith("s3:") else f"file:{target}"
    words = [str(local), "--to", place, "--registry", str(registry)]
    words += ["--public"] if target.startswith("s3:") else []
    return [sys.executable, "-m", "pkgdata", "publish", *words]


def s5cmd(local: Path, target: str, _: Path) -> list[str]:
    return ["s5cmd", "--log", "error", "cp", f"{local}/", target]


def rclone(local: Path, target: str, _: Path) -> list[str]:
    place = target.replace("s3://", ":s3:")
    return ["rclone", "copy", "--transfers", "32", "--checkers", "32", str(local), place]


def s3cmd(local: Path, target: str, _: Path) -> list[str]:
    host = os.environ["BENCH_HOST"]
    options = ["--no-ssl", f"--host={host}", f"--host-bucket={host}", "--region=us-east-1"]
    options += [f"--access_key={KEYS['AWS_ACCESS_KEY_ID']}"]
    options += [f"--secret_key={KEYS['AWS_SECRET_ACCESS_KEY']}"]
    return ["s3cmd", "-q", "--no-progress", *options, "put", "-r", f"{local}/", target]


def cp(local: Path, target: str, _: Path) -> list[str]:
    return ["cp", "-r", str(local), target]


OWN_CASES = {"pkgdata": pkgdata, "pkgdata publish, read back": whole_command}
CASES = {
    "bucket": {**OWN_CASES, "s5cmd": s5cmd, "rclone": rclone, "s3cmd": s3cmd},
    "folder": {**OWN_CASES, "rclone": rclone, "cp": cp},
}


def measure(bench: Bench, kind: str, size: str, work: Work, count: int) -> tuple[str, list[Aim]]:
    """Measure one size at one kind of place; return the table and the aim."""
    local = fresh(bench.work / "local")
    for number in range(work.files):
        random_file(local / f"file{number:05d}.bin", work.length)
    cases = {
        name: functools.partial(bench.sample, argv, local) for name, argv in CASES[kind].items()
    }
    samples = rounds(cases, count, seldom=["s3cmd"] if size == "small" else [])
    title = f"{work} to a {kind}"
    return as_table(title, samples, work), [aim(title, samples, kind)]


def as_table(title: str, samples: Samples, work: Work) -> str:
    mine = [sample.wall for sample in samples["pkgdata"]]
    rows: list[list[object]] = []
    for name, found in samples.items():
        seconds = [sample.wall for sample in found]
        amount = work.files if work.files > 1 else work.length / MIB
        plan = median(sample.facts.get("plan", float("nan")) for sample in found)
        cpu = median(sample.cpu for sample in found)
        rows.append(
            [name, median(seconds), amount / median(seconds), ratio(seconds, mine), plan, cpu]
        )
    unit = "files/s" if work.files > 1 else "MiB/s"
    columns = ["", "seconds", unit, "time over pkgdata's", "of it planning", "cpu seconds"]
    return table(title, columns, rows)


def aim(title: str, samples: Samples, kind: str) -> Aim:
    mine = [sample.wall for sample in samples["pkgdata"]]
    # cp neither compares nor lists: it is shown, but is no tool that publishes
    tools = [name for name in samples if not name.startswith("pkgdata") and name != "cp"]
    best = min(tools, key=lambda name: median(sample.wall for sample in samples[name]))
    found = ratio(mine, [sample.wall for sample in samples[best]])
    return Aim(f"{title}: time over that of {best}", found, 1.1)


@contextlib.contextmanager
def serving(kind: str, memory: Path) -> Iterator[Bench]:
    """Start the server, if one is needed."""
    if kind != "bucket":
        yield Bench(memory)
        return
    from tests.servers.ceph import Ceph

    with Ceph(memory / "ceph") as ceph:
        ceph.make_bucket(BUCKET)
        os.environ.update(KEYS, BENCH_HOST=ceph.endpoint.removeprefix("http://"))
        yield Bench(memory, ceph)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure publishing.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--quick", action="store_true", help="little data, for a trial")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    texts: list[str] = []
    aims: list[Aim] = []
    for kind in options.only.split(","):
        memory = Path(tempfile.mkdtemp(prefix="pkgdata-bench-", dir="/dev/shm"))
        try:
            with serving(kind, memory) as bench:
                for size, work in sizes.items():
                    text, found = measure(bench, kind, size, work, options.rounds)
                    print(text, flush=True)
                    texts.append(text)
                    aims += found
        finally:
            shutil.rmtree(memory, ignore_errors=True)
    versions = header(
        options.rounds,
        ("obstore",),
        (["s5cmd", "version"], ["rclone", "version"], ["s3cmd", "--version"]),
    )
    result = "\n".join(["# Publishing: results\n", versions, *texts, aims_table(aims)])
    print(aims_table(aims))
    if options.only == ",".join(CASES) and not options.quick:
        RESULT.write_text(result)


if __name__ == "__main__":
    main()
