"""Measure how a dataset directory is pushed and pulled, beside etcetera.

    python scripts/bench/datasets.py [--rounds N] [--files N] [--work DIR]

Needs ``pip install -e '.[cloud]' 'etcetera[s3]==0.0.12'`` and the Debian packages ceph-mon,
ceph-osd and radosgw. A dataset of 20,000 files of 50 kB, 1 GB in all, that do not compress (as
images), is pushed and pulled, then a second version of which 1 % differs. Each round has a server
of its own, on loopback, with its objects in memory; all files are in memory too (``--work`` moves
them). At the peak that takes 6 GB.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from common import (
    ROOT,
    Aim,
    Sample,
    aims_table,
    fresh,
    header,
    interpreter,
    median,
    ratio,
    run,
    table,
)

sys.path.insert(0, str(ROOT))
from tests.servers.ceph import Ceph

LENGTH = 50_000
RESULT = Path(__file__).resolve().parent / "results" / "datasets.md"
MIB = 1 << 20

#: Arguments: what to do, the endpoint, the bucket, the folder of the datasets.
ETCETERA = """
import sys, time
import etcetera
verb, endpoint, bucket, home = sys.argv[1:]
config = etcetera.Config(f"s3://{bucket}", home, endpoint_url=endpoint)
began = time.perf_counter()
getattr(etcetera, verb)("flower", force=True, config=config)
report(call=time.perf_counter() - began)
"""

PKGDATA = """
import sys, time
from pkgdata import datasets
verb, endpoint, bucket, home = sys.argv[1:]
config = datasets.Config(f"s3://{bucket}", home, endpoint_url=endpoint)
began = time.perf_counter()
done = getattr(datasets, verb)("flower", force=True, config=config)
report(call=time.perf_counter() - began, moved=done.moved_bytes, objects=done.objects)
"""

CASES = {"etcetera": ETCETERA, "pkgdata": PKGDATA}
STEPS = {
    "push": "push, first version",
    "pull": "pull, first version",
    "push2": "push, 1 % changed",
    "pull2": "pull, 1 % changed",
}

Samples = dict[tuple[str, str], list[Sample]]


class Bench:
    """Where a round takes place."""

    def __init__(self, work: Path, endpoint: str) -> None:
        self.work = work
        self.endpoint = endpoint
        self.env = {
            "AWS_ACCESS_KEY_ID": "TESTKEY123",
            "AWS_SECRET_ACCESS_KEY": "TESTSECRET123",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PKGDATA_CACHE_DIR": str(work / "cache"),
            "PKGDATA_PROGRESS": "0",
            "TMPDIR": str(work / "tmp"),
            # etcetera may be installed elsewhere
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }

    def run(self, case: str, verb: str, home: Path) -> Sample:
        argv = interpreter(CASES[case], verb, self.endpoint, case, home)
        return run(argv, self.work, self.env)


def make(folder: Path, files: int) -> None:
    """Make the first version: ten folders of classes in each of two partitions."""
    for number in range(files):
        part = "val" if number % 5 == 0 else "train"
        path = folder / "data" / part / f"class{number % 10}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(LENGTH))


def change(folder: Path) -> None:
    """Make the second version: other bytes in every hundredth file, chosen at random."""
    found = sorted(folder.rglob("*.jpg"))
    for path in random.Random(1).sample(found, len(found) // 100):
        path.write_bytes(os.urandom(LENGTH))


def one_round(work: Path, files: int, number: int, samples: Samples) -> None:
    source = fresh(work / "source")
    make(source, files)
    pushing = fresh(work / "pushing")
    (pushing / "flower").symlink_to(source)
    fresh(work / "tmp")
    fresh(work / "cache")
    names = list(CASES)
    order = names if number % 2 else names[::-1]
    with Ceph(work / "ceph") as ceph:
        bench = Bench(work, ceph.endpoint)
        for name in names:
            ceph.make_bucket(name)
        for version in ("", "2"):
            if version:
                change(source)
            for verb in ("push", "pull"):
                for name in order:
                    home = pushing if verb == "push" else work / f"pulled-{name}"
                    sample = bench.run(name, verb, home)
                    if number:
                        samples.setdefault((verb + version, name), []).append(sample)
            check(source, work, files)
    for name in names:
        shutil.rmtree(work / f"pulled-{name}")


def check(source: Path, work: Path, files: int) -> None:
    """Compare what was pulled with what was pushed, outside of the timing."""
    found = sorted(source.rglob("*.jpg"))
    assert len(found) == files
    for path in found[:: max(1, files // 500)]:
        for name in CASES:
            other = work / f"pulled-{name}" / "flower" / path.relative_to(source)
            if other.read_bytes() != path.read_bytes():
                raise RuntimeError(f"{other} is not what was pushed")


def as_table(samples: Samples, size: int) -> str:
    rows: list[list[object]] = []
    for step, title in STEPS.items():
        theirs, mine = ([s.call for s in samples[step, name]] for name in CASES)
        for name in CASES:
            found = samples[step, name]
            moved = [s.facts.get("moved", size) for s in found]
            rows.append(
                [
                    f"{title}: {name}",
                    median(s.call for s in found),
                    ratio(theirs, mine) if name == "pkgdata" else 1.0,
                    median(s.cpu for s in found),
                    median(s.rss / MIB for s in found),
                    100 * median(moved) / size,
                ]
            )
    columns = ["", "seconds", "times as fast", "cpu seconds", "rss MiB", "% of the bytes moved"]
    return table("A dataset of many files", columns, rows)


def aims(samples: Samples, size: int) -> list[Aim]:
    calls = {key: [sample.call for sample in found] for key, found in samples.items()}
    pull = ratio(calls["pull", "etcetera"], calls["pull", "pkgdata"])
    share = {
        step: 100 * median(s.facts["moved"] for s in samples[step, "pkgdata"]) / size
        for step in ("push2", "pull2")
    }
    return [
        Aim("first pull: times as fast as etcetera", pull, 3, at_least=True),
        # 1 % of the files, and the manifest, of which the digests are most
        Aim("push of a version with 1 % changed: % of the bytes", share["push2"], 1.2),
        Aim("pull of a version with 1 % changed: % of the bytes", share["pull2"], 1.2),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure datasets beside etcetera.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--work", default="/dev/shm", help="where the files are")
    options = parser.parse_args()
    samples: Samples = {}
    work = Path(tempfile.mkdtemp(prefix="pkgdata-bench-", dir=options.work))
    try:
        for number in range(options.rounds + 1):  # the first one does not count
            one_round(work, options.files, number, samples)
            print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    size = options.files * LENGTH
    found = as_table(samples, size)
    print(found)
    print(aims_table(aims(samples, size)))
    packages = ("etcetera", "boto3", "obstore")
    versions = header(options.rounds, packages, (["radosgw", "--version"],))
    note = f"{options.files:,} files of {LENGTH:,} bytes; files and objects in memory.\n"
    result = "\n".join(
        ["# Datasets: results\n", versions, note, found, aims_table(aims(samples, size))]
    )
    if options.files == 20_000:
        RESULT.write_text(result)


if __name__ == "__main__":
    main()
