"""Work on a Dask cluster of this machine, next to one process alone.

    python scripts/bench/on_dask.py [--only copies] [--rounds 3] [--write]

All workers share this machine's cores, so the ratios are a lower bound of what machines of their
own give. ``--write`` puts the result into results/on_dask.md; else it is printed alone.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
from distributed import Client, LocalCluster

from pkgdata.base.progress import DONE, Event
from pkgdata.stores import Store

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
    aims = [
        common.Aim(
            "copies: alone / workers", common.ratio(runs["alone"], runs["workers"]), 2.3, True
        ),
        common.Aim(
            "copies: alone / one killed", common.ratio(runs["alone"], runs["killed"]), 2.3, True
        ),
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


# -- the program ---------------------------------------------------------------------------------

PARTS: dict[str, Part] = {"copies": copies}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write results/on_dask.md")
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
    with tempfile.TemporaryDirectory(prefix="pkgdata-bench-") as folder:
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
        (common.ROOT / "scripts/bench/results/on_dask.md").write_text(page)


if __name__ == "__main__":
    main()
