"""Measure how pkgdata moves objects to and from a bucket, beside libraries and command line tools.

    python scripts/bench/stores.py [--rounds N] [--only small,medium,large]
                                   [--server ceph,rclone] [--quick]

Needs ``pip install -e '.[cloud]' boto3 cloud-files``, Linux, and the commands s5cmd and rclone;
for ``--server ceph`` those of the Debian packages ceph-mon, ceph-osd and radosgw. The servers are
our own, on loopback, and keep what they hold in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common import (
    ROOT,
    Aim,
    Sample,
    aims_table,
    free_ports,
    fresh,
    header,
    interpreter,
    median,
    random_file,
    ratio,
    rounds,
    run,
    sha256,
    table,
)

sys.path.insert(0, str(ROOT))
from pkgdata.stores import Store  # of this checkout

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RESULT = Path(__file__).resolve().parent / "results" / "stores.md"
KEYS = {"AWS_ACCESS_KEY_ID": "TESTKEY123", "AWS_SECRET_ACCESS_KEY": "TESTSECRET123"}
SECRETS = {name.lower(): value for name, value in KEYS.items()}
BUCKET = "bench"

Samples = dict[str, list[Sample]]


class Work(NamedTuple):
    """How many objects of how many bytes."""

    objects: int
    length: int

    def __str__(self) -> str:
        unit, name = (MIB, "MiB") if self.length >= MIB else (KIB, "KiB")
        return f"{self.objects:,} × {self.length // unit:,} {name}"


FULL = {"small": Work(2_000, 4 * KIB), "medium": Work(200, MIB), "large": Work(1, GIB)}
QUICK = {"small": Work(200, 4 * KIB), "medium": Work(20, MIB), "large": Work(1, 64 * MIB)}

# -- what each library does: the arguments are "get" or "put", the endpoint, a folder of the bucket,
# and a local folder. Libraries put what they have in memory, and get it there; the large object is
# a file at both ends. Reading and comparing the bytes is outside the timing.

_BEGIN = """
import hashlib, os, sys, time
verb, endpoint, prefix, local = sys.argv[1:]
names = sorted(os.listdir(local))
large = len(names) == 1
path = os.path.join(local, names[0])
target = path + ".got"
def load(name):
    with open(os.path.join(local, name), "rb") as file:
        return file.read()
contents = None if large else {name: load(name) for name in names}
"""

_END = """
began = time.perf_counter()
got = put() if verb == "put" else get()
seconds = time.perf_counter() - began
if verb == "get" and not large:
    assert got == contents
elif verb == "get":
    assert os.path.getsize(target) == os.path.getsize(path)
    os.unlink(target)
report(call=seconds)
"""

OWN = """
from pathlib import Path
from pkgdata.stores import Store  # of this checkout
store = Store(f"s3://{endpoint}/bench/{prefix}")
def put():
    store.put([(names[0], Path(path))] if large else contents.items())
def get():
    if large:
        store.transfer_to(os.path.dirname(target), [(names[0], os.path.basename(target))])
    else:
        return {result.name: result.content for result in store.get(names)}
"""

BOTO = """
import boto3, concurrent.futures, botocore.config
client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                      config=botocore.config.Config(max_pool_connections=16))
pool = concurrent.futures.ThreadPoolExecutor(16)
def put():
    if large:
        client.upload_file(path, "bench", f"{prefix}/{names[0]}")
    else:
        def one(name):
            client.put_object(Bucket="bench", Key=f"{prefix}/{name}", Body=contents[name])
        list(pool.map(one, names))
def get():
    if large:
        client.download_file("bench", f"{prefix}/{names[0]}", target)
    else:
        def one(name):
            return client.get_object(Bucket="bench", Key=f"{prefix}/{name}")["Body"].read()
        return dict(zip(names, pool.map(one, names)))
"""

CLOUDFILES = """
names_of_keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
secrets = {name: os.environ.pop(name) for name in names_of_keys}  # else it wants a token too
from cloudfiles import CloudFiles
files = CloudFiles(f"s3://{endpoint}/bench/{prefix}/", secrets=secrets, progress=False)
def put():
    if large:
        with open(path, "rb") as file:
            files.put(names[0], file)
    else:
        files.puts(list(contents.items()), compress=None)
def get():
    if large:
        with open(target, "wb") as file:
            file.write(files.get(names[0]))
    else:
        return {found["path"]: found["content"] for found in files.get(names)}
"""


@dataclass
class Bench:
    """The server and the folders."""

    work: Path
    endpoint: str
    tidy: Callable[[], None]

    def library(self, code: str, verb: str, local: Path) -> Sample:
        """Run one of the libraries in a fresh process."""
        if verb == "put":
            with self.empty(local) as prefix:
                return self.script(code, verb, prefix, local)
        return self.script(code, verb, local.name, local)

    def script(self, code: str, verb: str, prefix: str, local: Path) -> Sample:
        command = interpreter(_BEGIN + code + _END, verb, self.endpoint, prefix, local)
        return run(command, self.work, KEYS)

    def tool(self, argv: Callable[[str, str], list[str]], verb: str, local: Path) -> Sample:
        """Run one of the tools, and compare what it got."""
        if verb == "put":
            with self.empty(local) as prefix:
                command = argv(f"{local}/", f"s3://{BUCKET}/{prefix}/")
                return run(command, self.work, self.environment())
        got = fresh(self.work / "got")
        sample = run(argv(f"s3://{BUCKET}/{local.name}/", f"{got}/"), self.work, self.environment())
        for path in local.iterdir():
            assert sha256(got / path.name) == sha256(path), path.name
        shutil.rmtree(got)
        return sample

    @contextlib.contextmanager
    def empty(self, local: Path) -> Iterator[str]:
        """Give a folder of the bucket to put into; compare the sizes, and empty it again."""
        prefix = f"put-{time.monotonic_ns()}"
        yield prefix
        store = Store(f"s3://{self.endpoint}/{BUCKET}/{prefix}", secrets=SECRETS)
        sizes = {name: info.size for name, info in store.scan()}
        assert sizes == {path.name: path.stat().st_size for path in local.iterdir()}
        store.delete(prefix="")
        self.tidy()

    def environment(self) -> dict[str, str]:
        """Return what tells the tools of the server."""
        return KEYS | {
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "S3_ENDPOINT_URL": self.endpoint,
            "RCLONE_CONFIG": "",
            "RCLONE_S3_PROVIDER": "Other",
            "RCLONE_S3_ENDPOINT": self.endpoint,
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_REGION": "us-east-1",
        }


def s5cmd(source: str, target: str) -> list[str]:
    remote = source.startswith("s3:")
    return ["s5cmd", "--log", "error", "cp", source + ("*" if remote else ""), target]


def rclone(source: str, target: str) -> list[str]:
    paths = [place.replace("s3://", ":s3:") for place in (source, target)]
    return ["rclone", "copy", "--transfers", "16", "--no-traverse", *paths]


def command_line(source: str, target: str) -> list[str]:
    return [sys.executable, "-m", "pkgdata", "cp", "-r", source, target]


LIBRARIES = {"pkgdata": OWN, "cloud-files": CLOUDFILES, "boto3": BOTO}
TOOLS = {"pkgdata cp": command_line, "s5cmd": s5cmd, "rclone": rclone}


def cases(bench: Bench, verb: str, local: Path) -> dict[str, Callable[[], Sample]]:
    """Return what is measured; all get the same objects, and put them where there are none."""
    found: dict[str, Callable[[], Sample]] = {}
    for name, code in LIBRARIES.items():
        found[name] = functools.partial(bench.library, code, verb, local)
    for name, argv in TOOLS.items():
        found[name] = functools.partial(bench.tool, argv, verb, local)
    return found


def measure(bench: Bench, server: str, kind: str, work: Work, count: int) -> tuple[str, list[Aim]]:
    """Measure putting and getting; return the tables and the aims."""
    local = fresh(bench.work / kind)
    for number in range(work.objects):
        random_file(local / f"object{number:05d}.bin", work.length)
    bench.script(OWN, "put", kind, local)
    text, aims = [], []
    for verb in ("put", "get"):
        samples = rounds(cases(bench, verb, local), count)
        text.append(as_table(f"{verb} {work}, {server}", samples, work))
        aims += aims_of(f"{verb} {work}, {server}", samples, kind)
    shutil.rmtree(local)
    return "\n".join(text), aims


def as_table(title: str, samples: Samples, work: Work) -> str:
    mine = [sample.call for sample in samples["pkgdata"]]
    rows: list[list[object]] = []
    for name, found in samples.items():
        seconds = [sample.call for sample in found]
        amount = work.objects if work.objects > 1 else work.length / MIB
        rows.append(
            [
                name,
                median(seconds),
                amount / median(seconds),
                ratio(seconds, mine),
                median(sample.cpu for sample in found),
                median(sample.rss / MIB for sample in found),
            ]
        )
    unit = "objects/s" if work.objects > 1 else "MiB/s"
    columns = ["", "seconds", unit, "time over pkgdata's", "cpu seconds", "rss MiB"]
    return table(title, columns, rows)


def aims_of(title: str, samples: Samples, kind: str) -> list[Aim]:
    calls = {name: [sample.call for sample in found] for name, found in samples.items()}
    cpu = {name: [sample.cpu for sample in found] for name, found in samples.items()}
    mine = calls["pkgdata"]
    found = [Aim(f"{title}: cpu over boto3's", ratio(cpu["pkgdata"], cpu["boto3"]), 1.0)]
    if kind != "small":
        best = min(median(calls[name]) for name in calls if not name.startswith("pkgdata"))
        return [*found, Aim(f"{title}: time over the best's", median(mine) / best, 1.0)]
    over_cloudfiles = ratio(calls["cloud-files"], mine)
    over_s5cmd = ratio(calls["s5cmd"], mine)
    return [
        *found,
        Aim(f"{title}: times as fast as cloud-files", over_cloudfiles, 6, at_least=True),
        Aim(f"{title}: times as fast as s5cmd", over_s5cmd, 1.2, at_least=True),
    ]


# -- servers -----------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(server: str, work: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Start a server with an empty bucket; yield its address, and what gives back its memory."""
    if server == "ceph":
        from tests.servers.ceph import Ceph

        with Ceph(work / "ceph") as ceph:
            ceph.make_bucket(BUCKET)
            # what was removed would stay in memory for hours
            collect = ["radosgw-admin", "-c", str(work / "ceph" / "ceph.conf"), "-n", "client.rgw"]
            collect += ["gc", "process", "--include-all"]

            def tidy() -> None:
                subprocess.run(collect, check=True, capture_output=True)

            yield ceph.endpoint, tidy
        return
    [port] = free_ports(1)
    (work / "objects" / BUCKET).mkdir(parents=True)
    argv = ["rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", str(work / "objects")]
    argv += ["--auth-key", ",".join(KEYS.values()), "--log-level", "ERROR"]
    process = subprocess.Popen(argv, env={**os.environ, "RCLONE_CONFIG": ""})
    try:
        wait_for(port)
        yield f"http://127.0.0.1:{port}", lambda: None
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Return when something listens at a port."""
    import socket

    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise RuntimeError(f"nothing listens at port {port}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure transfers to and from buckets.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(FULL))
    parser.add_argument("--server", default="rclone,ceph")
    parser.add_argument("--quick", action="store_true", help="little data, for a trial")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    texts: list[str] = []
    aims: list[Aim] = []
    for server in options.server.split(","):
        memory = Path(tempfile.mkdtemp(prefix="pkgdata-bench-", dir="/dev/shm"))
        try:
            with serving(server, memory) as (endpoint, tidy):
                bench = Bench(memory, endpoint, tidy)
                for kind in options.only.split(","):
                    text, found = measure(bench, server, kind, sizes[kind], options.rounds)
                    print(text, flush=True)
                    texts.append(text)
                    aims += found
        finally:
            shutil.rmtree(memory, ignore_errors=True)
    versions = header(
        options.rounds,
        ("obstore", "boto3", "cloud-files"),
        (["s5cmd", "version"], ["rclone", "version"]),
    )
    result = "\n".join(["# Stores: results\n", versions, *texts, aims_table(aims)])
    print(aims_table(aims))
    complete = (options.only, options.server) == (",".join(FULL), "rclone,ceph")
    if complete and not options.quick:
        RESULT.write_text(result)


if __name__ == "__main__":
    main()
