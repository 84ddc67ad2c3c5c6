"""Measure how often hosts that share a folder fetch a file, where each knows its flock alone.

    python scripts/bench/hosts.py [--processes 10 100 1000] [--hosts 10] [--runs 3] [--files N]

A host is a namespace of mounts, names and processes, which sees the folder through a bindfs of its
own: a lock that one takes is unknown to the others, as on Lustre with ``localflock``. All processes
of a host are forked from one that has imported the library, wait for one signal, and call ``get``
or, with ``--files``, ``fetch`` of so many small files. The origin gives one rate to all of them and
counts what it sends. Needs root, Linux, ``apt-get install bindfs``, and strace with ``--strace``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import pkgdata  # noqa: E402 - the checkout's
from pkgdata.base import hashes, owners  # noqa: E402
from tests.origin import Origin  # noqa: E402

RESULT = Path(__file__).resolve().parent / "results" / "hosts.md"

#: Starts one host: a name, a mount, and the process that becomes the first of the namespace.
HOST = """
hostname "$1"
[ "$2" = "$3" ] || bindfs "$2" "$3" > /dev/null
shift 3
exec "$@"
"""


# -- one host ----------------------------------------------------------------------------------


def host(task: dict[str, Any]) -> None:
    """Fork the processes of a host, let them begin at a signal, print what each reports."""
    import ctypes  # noqa: F401 - what a miss imports is not measured

    warm(task)
    gc.freeze()
    begin, go = os.pipe()
    reports, report = os.pipe()
    children = []
    for number in range(task["count"]):
        pid = os.fork()
        if not pid:
            os.close(go)
            os.read(begin, 1)
            if task["strace"] and number == task["count"] - 1:
                time.sleep(0.5)  # what waits is counted, not what works
            one(task, report)
        children.append(pid)
    os.close(report)
    print(owners.token().partition("-")[0], flush=True)
    sys.stdin.readline()
    os.close(go)
    traced = trace(children[-1], task["count"]) if task["strace"] else None
    with os.fdopen(reports) as lines:
        found = [json.loads(line) for line in lines]
    for pid in children:
        os.waitpid(pid, 0)
    if traced is not None:
        calls = file_calls(traced)
        for one_found in found:
            if one_found["pid"] == children[-1]:
                one_found["calls"] = calls
    print(json.dumps(found), flush=True)


def package(task: dict[str, Any]) -> pkgdata.PackageData:
    return pkgdata.PackageData("p", dataurl=task["url"], registry=task["registry"])


def warm(task: dict[str, Any]) -> None:
    """Load what a miss loads, with a cache of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a").write_bytes(b"a")
        digest = hashes.hash_file(os.path.join(folder, "a"))
        entry = pkgdata.Entry("a", digest, 1)
        os.environ["PKGDATA_CACHE_DIR"] = os.path.join(folder, "cache")
        base = Path(folder).as_uri() + "/"
        pkgdata.PackageData("w", dataurl=base, registry=pkgdata.Registry([entry])).get("a")
    os.environ["PKGDATA_CACHE_DIR"] = task["cache"]


def one(task: dict[str, Any], report: int) -> None:
    """Fetch, and report in one line of a pipe."""
    states: set[str] = set()
    data = package(task)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    facts: dict[str, Any] = {"pid": os.getpid(), "error": ""}
    try:
        if task["files"]:
            found = data.fetch(progress=lambda event: states.add(event.state))
            assert len(found.succeeded) == task["files"], found.failed
        else:
            path = data.get("map.bin", progress=lambda event: states.add(event.state))
            assert os.path.getsize(path) == task["size"]
    except BaseException as error:
        facts["error"] = f"{type(error).__name__}: {error}"[:300]
    after = resource.getrusage(resource.RUSAGE_SELF)
    facts["seconds"] = time.perf_counter() - began
    facts["cpu"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    facts["waited"] = "bytes" not in states
    os.write(report, (json.dumps(facts) + "\n").encode())
    os._exit(0)


#: Seconds after which the calls of a process are counted: then it waits.
SETTLED = 2.0  # and as many more as a crowd takes to get there, 10 for 1,000


def trace(pid: int, crowd: int) -> tuple[subprocess.Popen[bytes], str]:
    time.sleep(SETTLED + crowd / 10)
    path = f"/tmp/pkgdata-strace-{os.uname().nodename}-{os.getppid()}-{time.time_ns()}"
    process = subprocess.Popen(
        [
            "strace",
            *os.environ.get("STRACE", "-c").split(),
            "-f",
            "-p",
            str(pid),
            "-e",
            "trace=%file,%desc",
            "-o",
            path,
        ],
        stderr=subprocess.DEVNULL,
    )
    return process, path


def file_calls(traced: tuple[subprocess.Popen[bytes], str]) -> dict[str, int]:
    """Return how often each call on files was made; waiting for time or a pipe is none."""
    process, path = traced
    process.wait()
    rows = re.findall(
        r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", Path(path).read_text(), re.M
    )
    os.unlink(path)
    return {name: int(count) for count, name in rows if name not in ("total", "poll", "pselect6")}


# -- all of them -------------------------------------------------------------------------------


def run(options: argparse.Namespace, processes: int, work: Path, origin: Origin) -> dict[str, Any]:
    """Let all hosts fetch into an empty folder; return what they and the origin report."""
    back, mount = work / f"back-{time.time_ns()}", work / "mount"
    back.mkdir()
    mount.mkdir(exist_ok=True)
    shared = options.flock == "shared"
    task = {
        "url": origin.url,
        "registry": str(work / "registry.txt"),
        "cache": str((back if shared else mount) / "cache"),
        "size": options.size * 1_000_000,
        "files": options.files,
    }
    started = []
    try:
        for number in range(options.hosts):
            count = processes // options.hosts + (number < processes % options.hosts)
            if count:
                task |= {"count": count, "strace": options.strace and number == options.hosts - 1}
                started.append(Host(task, f"host{number}", back, back if shared else mount))
        places = {process.answer().strip(): process for process in started}
        assert len(places) == len(started)
        origin.restart()
        began = time.perf_counter()
        for process in started:
            process.go()
        if options.kill:
            victim = worker(back, origin, task["size"] // 2)
            places[victim].end()
            started.remove(places[victim])
        found = [one for process in started for one in json.loads(process.answer())]
        seconds = time.perf_counter() - began
    finally:
        for process in started:
            process.end()
    sizes = options.files * SMALL if options.files else task["size"]
    paths = [p for p in (back / "cache" / "objects-v1").rglob("*") if p.is_file()]
    wrong = [p for p in paths if hashes.hash_file(p).hex != "".join(p.parts[-3:-1])]
    left = sorted(
        str(p.relative_to(back))
        for b in ("partial-v1", "locks-v1")
        for p in (back / "cache" / b).rglob("*")
    )
    subprocess.run(["rm", "-rf", str(back)], check=True)
    waiters = [one for one in found if one["waited"]]
    settled = SETTLED + processes // options.hosts / 10
    return {
        "processes": processes,
        "origin": origin.sent / sizes,
        "requests": len(origin.requests),
        "seconds": max(one["seconds"] for one in found),
        "wall": seconds,
        "worked": [one["seconds"] for one in found if not one["waited"]],
        "errors": [one["error"] for one in found if one["error"]]
        + ["lost"] * (sum(process.count for process in started) - len(found)),
        "objects": len(paths),
        "wrong": len(wrong),
        "left": left,
        "waiters": len(waiters),
        "cpu": sum(one["cpu"] for one in waiters),
        "calls": [(one["calls"], one["seconds"] - settled) for one in found if "calls" in one],
    }


def worker(back: Path, origin: Origin, after: int) -> str:
    """Return which host downloads when the origin has sent so many bytes."""
    while origin.sent < after:
        time.sleep(0.01)
    parts = (back / "cache" / "partial-v1").glob("*.part")
    newest = max(parts, key=lambda path: path.stat().st_mtime_ns)
    return str(owners.of(newest.name)).partition("-")[0]


class Host:
    """One host, started."""

    def __init__(self, task: dict[str, Any], name: str, back: Path, mount: Path) -> None:
        self.count = task["count"]
        unshare = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        shell = ["bash", "-c", HOST, "host", name, str(back), str(mount)]
        self._process = subprocess.Popen(
            [*unshare, *shell, sys.executable, __file__, "--host", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


SMALL = 10_000


def make(options: argparse.Namespace, work: Path) -> None:
    """Write what the origin serves, and its registry."""
    served, entries = work / "served", []
    served.mkdir()
    for name, size in (
        [(f"{i}.bin", SMALL) for i in range(options.files)]
        if options.files
        else [("map.bin", options.size * 1_000_000)]
    ):
        path = served / name
        path.write_bytes(os.urandom(size))
        entries.append(pkgdata.Entry(name, hashes.hash_file(path), size))
    (work / "registry.txt").write_text(pkgdata.Registry(entries).dumps())


def row(found: dict[str, Any]) -> str:
    calls = ", ".join(f"{sum(c.values()) / s:.1f}/s of {s:.0f} s" for c, s in found["calls"])
    return (
        f"| {found['processes']} | {found['origin']:.2f} | {found['requests']} | "
        f"{found['seconds']:.1f} | {len(found['errors'])} | {found['wrong']} | "
        f"{found['waiters']} | {found['cpu']:.1f} | {calls} |"
    )


HEAD = """\
| processes | origin bytes, of the files | requests | seconds until the last | failed | wrong | \
waiters | their cpu, s | file calls of one |
| --: | --: | --: | --: | --: | --: | --: | --: | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=200, help="million bytes of the one file")
    parser.add_argument("--files", type=int, default=0, help="that many of 10 kB instead, by fetch")
    parser.add_argument("--rate", type=float, default=50, help="million bytes a second, in all")
    parser.add_argument("--flock", choices=["host", "shared"], default="host", help="who knows it")
    parser.add_argument("--strace", action="store_true", help="count the calls of one process")
    parser.add_argument("--kill", action="store_true", help="the host that works, at the half")
    parser.add_argument("--json", action="store_true", help="print one object for each run")
    parser.add_argument("--folder", help="where to work, a temporary folder by default")
    parser.add_argument("--host", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        host(json.loads(options.host))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        work = Path(folder)
        make(options, work)
        with Origin(work / "served", options.rate * 1e6) as origin:
            if not options.json:
                print(HEAD)
            for processes in options.processes:
                for _ in range(options.runs):
                    found = run(options, processes, work, origin)
                    print(json.dumps(found) if options.json else row(found), flush=True)
                    for error in found["errors"][:3]:
                        print(f"    {error}", file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
