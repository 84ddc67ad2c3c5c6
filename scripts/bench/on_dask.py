"""Work on a Dask cluster of this machine, next to one process alone.

    python scripts/bench/on_dask.py [--only copies] [--rounds 3] [--write]

All workers share this machine's cores, so the ratios are a lower bound of what machines of their
own give. ``--write`` puts the result into results/on_dask.md, that of some parts into a file of
their names; else it is printed alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
from distributed import Client, LocalCluster

import pkgdata
from pkgdata.base.progress import DONE, Event
from pkgdata.stores import Store

sys.path.insert(0, str(common.ROOT / "tests"))
origins: Any = importlib.import_module("origin")
nodes: Any = importlib.import_module("nodes")

Part = Callable[[argparse.Namespace, Path], tuple[str, list[common.Aim]]]


# -- copies of many small objects from far away --------------------------------------------------


def content(name: str, size: int) -> bytes:
    """Return what an object of a name holds."""
    part = hashlib.sha256(name.encode()).digest()
    return (part * (size // len(part) + 1))[:size]


class Far:
    """A web server in a process of its own that answers each request after a while, and counts."""

    def __init__(self, seconds: float, size: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(seconds), "--size", str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}/"

    def requests(self) -> int:
        """Return how many requests came since the last time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


async def serve(seconds: float, size: int) -> None:
    """Be the server: print the port, then the count of requests for each line that is read."""
    count = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                count += 1
                await asyncio.sleep(seconds)
                body = content(head.split(b" ", 2)[1].decode().lstrip("/"), size)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(count, flush=True)
        count = 0


def copies(args: argparse.Namespace, work: Path) -> tuple[str, list[common.Aim]]:
    """Copy small objects alone, on workers, and on workers one of which is killed."""
    far = Far(args.latency / 1e3, args.bytes)
    names = [f"{number % 50}/{number}" for number in range(args.objects)]
    runs: dict[str, list[float]] = {"alone": [], "workers": [], "killed": []}
    rows, wrong = [], 0
    try:
        for number in range(args.rounds):
            for case, seconds in runs.items():
                to = common.fresh(work / "to")
                far.requests()
                took, reported, killed = _copy(case, args.workers, far.url, to, names)
                seconds.append(took)
                asked = far.requests()
                good = sum((to / name).read_bytes() == content(name, args.bytes) for name in names)
                files = sum(len(found) for _, _, found in os.walk(to))
                once = sum(count == 1 for count in reported.values())
                rows.append([case, number + 1, took, asked, once, good, files - good, killed])
                wrong += {once, good, files} != {len(names)}
    finally:
        far.close()
    title = f"{args.objects} objects of {args.bytes} bytes at {args.latency:g} ms"
    columns = ["case", "round", "seconds", "requests", "reported once", "right", "stray", "killed"]
    note = f"One process has {16} requests under way, so has each of {args.workers} workers."
    ratio = common.ratio(runs["alone"], runs["workers"])
    aims = [
        common.Aim("copies: alone / workers", ratio, 2.3, True),
        common.Aim("copies: runs in which anything was wrong", wrong, 0),
    ]
    return common.table(title, columns, rows, note), aims


def _copy(
    case: str, workers: int, url: str, to: Path, names: list[str]
) -> tuple[float, Counter[str], int]:
    """Return the seconds, how often each object was reported, and how many workers were killed."""
    reported: Counter[str] = Counter()
    killed: list[int] = []

    def see(event: Event) -> None:
        reported[event.name] += event.state == DONE
        if case == "killed" and not killed and len(reported) > len(names) // 3:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    source = Store(url)
    if case == "alone":
        began = time.perf_counter()
        source.transfer_to(str(to), names, progress=see)
        return time.perf_counter() - began, reported, 0
    options: dict[str, Any] = {"dashboard_address": None, "host": "127.0.0.1"}
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, **options) as cluster,
        Client(cluster) as client,
    ):
        client.run(_warm)  # importing is not part of the work
        began = time.perf_counter()
        source.transfer_to(str(to), names, progress=see, on=client)
        return time.perf_counter() - began, reported, len(killed)


def _warm() -> None:
    import pkgdata.stores.http  # noqa: F401


# -- one file for workers with caches of their own ------------------------------------------------


class Bench:
    """A package of one file, its origin, and a cluster for each number of workers."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.size, self.work = args.megabytes * 1_000_000, work
        self.site = common.fresh(work / "site")
        served = common.fresh(work / "served")
        self.origin = origins.Origin(served, args.rate * 1e6)
        content = random.Random(0).randbytes(self.size)
        self.digest = hashlib.sha256(content).hexdigest()
        origins.package(self.site, "benchpkg", {"big.bin": content}, served, self.origin.url)
        sys.path.insert(0, str(self.site))

    def alone(self) -> float:
        """Return the seconds of one download by one process."""
        cache = common.fresh(self.work / "alone")
        code = (
            "import time, pkgdata.core.batch, pkgdata.stores.http\n"
            "data = pkgdata.declare('benchpkg'); began = time.perf_counter(); data.fetch()\n"
            "report(call=time.perf_counter() - began)"
        )
        path = os.pathsep.join([str(common.ROOT), str(self.site)])
        env = {"PKGDATA_CACHE_DIR": str(cache), "PYTHONPATH": path}
        return common.run(common.interpreter(code), self.work, env).call

    def fetch(
        self, cluster: Any, count: int, kill: str = ""
    ) -> tuple[float, float, int, int, bool]:
        """Return origin over size, seconds, caches that have it, wrong files, whether killed."""
        cluster.whole()
        for number in range(count):
            shutil.rmtree(cluster.cache(number), ignore_errors=True)
        cluster.client.run(_warm)
        self.origin.restart()
        first: set[str] = set()
        killed: list[str] = []

        def see(event: Event) -> None:
            """Kill a worker when one that reads from it has two thirds."""
            if event.source.startswith("http://"):
                first.add(event.name)
                return
            far = event.source and event.done > self.size * 2 // 3 and kill and not killed
            if far and (event.source in first) == (kill == "first"):
                killed.append(event.source)
                threading.Thread(target=cluster.kill, args=killed).start()

        began = time.perf_counter()
        pkgdata.declare("benchpkg").fetch(on=cluster.client, progress=see)
        took = time.perf_counter() - began
        served = wrong = 0
        for number in range(count):
            for path in cluster.cache(number).rglob("objects-v1/**/big.bin"):
                good = common.sha256(path) == self.digest
                served, wrong = served + good, wrong + (not good)
        return self.origin.sent / self.size, took, served, wrong, bool(killed)


COLUMNS = [
    "workers",
    "killed",
    "run",
    "origin / size",
    "seconds",
    "one download",
    "caches",
    "wrong",
]


def files(args: argparse.Namespace, work: Path) -> tuple[str, list[common.Aim]]:
    """Bring one file to workers with caches of their own."""
    rows: list[list[object]] = []
    aims: list[common.Aim] = []
    with (bench := Bench(args, work)).origin:
        for count in map(int, args.counts.split(",")):
            cluster = nodes.Nodes(work, bench.site, count)
            ratios, sent, least = [], [], count
            for number in range(args.rounds):
                alone = bench.alone()
                origin, took, served, wrong, _ = bench.fetch(cluster, count)
                rows.append([count, "", number + 1, origin, took, alone, served, wrong])
                print(*rows[-1], file=sys.stderr, flush=True)
                ratios.append(took / alone)
                sent.append(origin)
                least = min(least, served - wrong)
            cluster.close()
            aims.append(common.Aim(f"{count} workers: origin / size", max(sent), 1.05))
            limit = 2.5 if count <= 4 else 3.5
            text = f"{count} workers: time / one download"
            aims.append(common.Aim(text, common.median(ratios), limit))
            aims.append(common.Aim(f"{count} workers: caches that have it", least, count, True))
    note = f"{args.megabytes} MB from an origin of {args.rate:g} MB/s in all."
    return common.table("One file for workers with own caches", COLUMNS, rows, note), aims


def kills(args: argparse.Namespace, work: Path) -> tuple[str, list[common.Aim]]:
    """Kill the worker that downloads, or one in the middle of the tree, in each run."""
    rows: list[list[object]] = []
    aims: list[common.Aim] = []
    count = 6
    with (bench := Bench(args, work)).origin:
        cluster = nodes.Nodes(work, bench.site, count)
        for kill in ("first", "middle"):
            sent, least, wrong = [], count, 0
            for number in range(args.kills):
                origin, took, served, bad, killed = bench.fetch(cluster, count, kill)
                rows.append(
                    [count, kill if killed else "", number + 1, origin, took, "", served, bad]
                )
                print(*rows[-1], file=sys.stderr, flush=True)
                sent.append(origin)
                least, wrong = min(least, served), wrong + bad
            aims.append(common.Aim(f"{kill} killed: origin / size, worst", max(sent), 1.15))
            text = f"{kill} killed: caches that have it, of {count - 1} survivors"
            aims.append(common.Aim(text, least, count - 1, True))
            aims.append(common.Aim(f"{kill} killed: wrong files", wrong, 0))
        cluster.close()
    return common.table("Workers that are killed", COLUMNS, rows), aims


# -- the program ---------------------------------------------------------------------------------

PARTS: dict[str, Part] = {"files": files, "kills": kills, "copies": copies}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write results/on_dask.md")
    parser.add_argument("--megabytes", type=int, default=200, help="files, kills: of the file")
    parser.add_argument("--rate", type=float, default=50, help="files, kills: origin, MB/s")
    parser.add_argument("--counts", default="4,8,16", help="files: numbers of workers")
    parser.add_argument("--kills", type=int, default=20, help="kills: runs of each kind")
    parser.add_argument("--objects", type=int, default=4000, help="copies: how many")
    parser.add_argument("--bytes", type=int, default=10_000, help="copies: of each object")
    parser.add_argument("--latency", type=float, default=60, help="copies: milliseconds")
    parser.add_argument("--workers", type=int, default=4, help="copies: workers")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        asyncio.run(serve(args.serve, args.size))
        return
    texts, aims = [], []
    # in memory where that can be: all machines of the cluster are one disk here
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="pkgdata-bench-", dir=memory) as folder:
        for name in args.only.split(","):
            text, found = PARTS[name](args, Path(folder))
            texts.append(text)
            aims += found
    head = "# On a Dask cluster of one machine\n\n" + common.header(
        args.rounds, ["distributed", "requests"], []
    )
    page = "\n".join([head, *texts, common.aims_table(aims)])
    print(page)
    if args.write:
        part = "" if args.only == ",".join(PARTS) else f"_{args.only.replace(',', '_')}"
        (common.ROOT / f"scripts/bench/results/on_dask{part}.md").write_text(page)


if __name__ == "__main__":
    main()
