"""Measure how pkgdata brings files here, beside pooch and command line tools, and write the tables.

    python scripts/bench/transfer.py [--rounds N] [--only one,small,medium,capped,far,crowd,killed]
                                     [--quick] [--dest DIR]

Needs ``pip install -e '.[bench]'``, Linux, and the commands nginx, curl, aria2c and openssl;
``far`` needs root as well. The servers are our own, on loopback, over files of random bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from common import (
    Aim,
    Nginx,
    Sample,
    aims_table,
    finish,
    fresh,
    header,
    interpreter,
    median,
    random_file,
    ratio,
    rounds,
    run,
    sha256,
    start,
    table,
)
from delay import FAR, NEAR

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "transfer.md"
MEMORY = Path("/dev/shm")
DELAY = 10  # ms each way

Samples = dict[str, list[Sample]]
Cases = dict[str, Callable[[], Sample]]
Report = tuple[list[str], list[Aim]]


class Size(NamedTuple):
    """How much is measured: bytes of the single files, numbers of the many."""

    one: int
    small: int  # of 4 KiB
    medium: int  # of 1 MiB
    capped: int
    few: int  # of the small ones, for whoever would take minutes over all of them
    shared: int
    processes: int
    killed: int


FULL = Size(GIB, 5_000, 500, 512 * MIB, 250, 200_000_000, 32, 1_000_000_000)
QUICK = Size(64 * MIB, 400, 40, 64 * MIB, 40, 20_000_000, 4, 250_000_000)


class Files(NamedTuple):
    """Files that are served below a folder's name, and their registries."""

    folder: str
    digests: dict[str, str]
    registry: Path
    sized: Path

    def first(self, count: int, bench: Bench) -> Files:
        """Return the first of them, with registries of their own."""
        chosen = dict(list(self.digests.items())[:count])
        length = (bench.served / self.folder / next(iter(chosen))).stat().st_size
        return write_registries(bench, f"{self.folder}-{count}", self.folder, chosen, length)


@dataclass
class Bench:
    """The folders, the server and how much to measure."""

    work: Path
    dest: Path
    count: int
    size: Size
    server: Nginx
    host: str = "127.0.0.1"
    prefix: list[str] = field(default_factory=list)

    @property
    def served(self) -> Path:
        """The folder that the server serves."""
        return self.work / "served"

    def url(self, files: Files, port: int) -> str:
        """Return the address below which files lie."""
        return f"http://{self.host}:{port}/{files.folder}/"


def make_files(bench: Bench, folder: str, count: int, length: int) -> Files:
    """Write random files where the server finds them; they are kept for the tables to come."""
    where = bench.served / folder
    if where.exists():
        digests = {path.name: sha256(path) for path in sorted(where.iterdir())}
    else:
        where.mkdir(parents=True)
        names = [f"file{number:05d}.bin" for number in range(count)]
        digests = {name: random_file(where / name, length) for name in names}
    return write_registries(bench, folder, folder, digests, length)


def write_registries(
    bench: Bench, label: str, folder: str, digests: dict[str, str], length: int
) -> Files:
    registry, sized = bench.work / f"{label}.txt", bench.work / f"{label}-sized.txt"
    lines = [f"{name} {digest}\n" for name, digest in digests.items()]
    registry.write_text("".join(lines))
    sized.write_text("".join(f"#: size={length}\n{line}" for line in lines))
    return Files(folder, digests, registry, sized)


# -- cases -------------------------------------------------------------------------------------

#: What each child does before it measures: `call` brings the files of a registry. The arguments
#: are the base URL, the registry and the folder they go to.
OWN = """
import os, sys, pkgdata
url, registry, dest = sys.argv[1:]
data = pkgdata.declare("bench", dataurl=url, registry=registry, cache_dir=os.path.join(dest, "c"))
names = list(data.registry)
if len(names) > 1:
    call = lambda: data.fetch(progress=False)
else:
    call = lambda: data.get(names[0], progress=False)
"""
POOCH = """
import sys, pooch
url, registry, dest = sys.argv[1:]
pooch.get_logger().setLevel("ERROR")
data = pooch.create(path=dest, base_url=url, registry=None)
data.load_registry(registry)
call = lambda: [data.fetch(name) for name in data.registry]
"""
PARFIVE = """
import sys, parfive
url, registry, dest = sys.argv[1:]
names = [line.split()[0] for line in open(registry) if line[0] != "#"]
def call():
    downloader = parfive.Downloader(progress=False)
    for name in names:
        downloader.enqueue_file(url + name, path=dest, filename=name)
    errors = downloader.download().errors
    assert not errors, errors[:1]
"""

TIME_CALL = """
import time
start = time.perf_counter()
call()
report(call=time.perf_counter() - start)
"""

#: For many at once: they are ready before they start, at the end of their common input.
TIME_AT_SIGNAL = """
import time
print("ready", flush=True)
sys.stdin.read()
cpu = time.process_time()
call()
report(end=time.perf_counter(), cpu=time.process_time() - cpu)
"""


def library(
    bench: Bench,
    code: str,
    files: Files,
    port: int,
    sized: bool = False,
    **settings: object,
) -> Callable[[], Sample]:
    """Return a case that runs a library in a fresh interpreter, with settings of ours."""
    argv = child(bench, code + TIME_CALL, files, port, sized)
    env = {f"PKGDATA_{key.upper()}": str(value) for key, value in settings.items()}
    return checked(bench, files, lambda: run(argv, bench.work, env))


def child(bench: Bench, code: str, files: Files, port: int, sized: bool = False) -> list[str]:
    registry = files.sized if sized else files.registry
    return bench.prefix + interpreter(code, bench.url(files, port), registry, bench.dest)


def tool(bench: Bench, files: Files, line: str) -> Callable[[], Sample]:
    """Return a case that runs a line of the shell in the destination."""
    argv = [*bench.prefix, "/bin/sh", "-c", f"cd '{bench.dest}' && {line}"]
    return checked(bench, files, lambda: run(argv, bench.work))


def checked(bench: Bench, files: Files, action: Callable[[], Sample]) -> Callable[[], Sample]:
    """Return a case that begins with an empty folder and ends with a look at every byte."""

    def case() -> Sample:
        fresh(bench.dest)
        sample = action()
        check(bench.dest, files)
        fresh(bench.dest)
        return sample

    return case


def check(dest: Path, files: Files) -> None:
    """Compare what came: a fast wrong answer is none."""
    found = {path.name: sha256(path) for path in dest.rglob("*.bin") if path.is_file()}
    if found != files.digests:
        wrong = [name for name, digest in files.digests.items() if found.get(name) != digest]
        raise RuntimeError(f"{len(wrong)} files are missing or wrong in {dest}: {wrong[:3]}")


def aria(bench: Bench, files: Files, port: int, options: str = "") -> Callable[[], Sample]:
    """Return a case of aria2c, with checksums; without what allocates the files beforehand, which
    only costs time here."""
    listed = bench.work / f"{files.registry.stem}-{port}.aria"
    url = bench.url(files, port)
    listed.write_text(
        "".join(
            f"{url}{name}\n  out={name}\n  checksum=sha-256={digest}\n"
            for name, digest in files.digests.items()
        )
    )
    line = f"aria2c --no-conf -q --file-allocation=none -d . -i '{listed}' {options}"
    return tool(bench, files, line)


def parfive_case(bench: Bench, files: Files, port: int) -> Cases:
    """Return a case of parfive, which checks nothing, if it is installed."""
    if importlib.util.find_spec("parfive") is None:
        print("parfive is left out: it is not installed", file=sys.stderr)
        return {}
    return {"parfive (unchecked)": library(bench, PARFIVE, files, port)}


def calls(samples: list[Sample]) -> list[float]:
    return [sample.call for sample in samples]


def gain(samples: Samples, case: str, rival: str) -> float:
    """Return how many times faster than a rival a case is."""
    return ratio(calls(samples[rival]), calls(samples[case]))


def compare(title: str, samples: Samples, rivals: Mapping[str, str], note: str = "") -> str:
    """Return a table: the ratios to each rival first, then what it took."""
    columns = ["case", *(f"× {shown}" for shown in rivals)]
    columns += ["seconds", "process seconds", "cpu seconds", "rss MB"]
    rows: list[list[object]] = []
    for name, found in samples.items():
        ratios = [gain(samples, name, rival) for rival in rivals.values()]
        spent = [median(getattr(sample, key) for sample in found) for key in ("wall", "cpu")]
        rows.append([name, *ratios, median(calls(found)), *spent, megabytes(found)])
    return table(title, columns, rows, note)


def megabytes(samples: list[Sample]) -> float:
    return median(sample.rss for sample in samples) / MIB


def bytes_shown(length: int) -> str:
    return f"{length // MIB:,} MiB" if length < GIB else f"{length // GIB} GiB"


# -- one ---------------------------------------------------------------------------------------


def bench_one(bench: Bench) -> Report:
    files = make_files(bench, "one", 1, bench.size.one)
    ((name, digest),) = files.digests.items()
    port = bench.server.fast
    curl = f"curl -sf -o {name} {bench.url(files, port)}{name}"
    cases = {
        "pkgdata": library(bench, OWN, files, port),
        "pooch": library(bench, POOCH, files, port),
        "curl -o && openssl dgst": tool(
            bench, files, f"{curl} && openssl dgst -sha256 {name} | grep -q {digest}"
        ),
        "aria2c": aria(bench, files, port),
    }
    samples = rounds(cases, bench.count)
    rivals = {"pooch": "pooch", "curl && openssl": "curl -o && openssl dgst", "aria2c": "aria2c"}
    title = f"One file of {bytes_shown(bench.size.one)}"
    aims = [
        Aim(f"{title}: × pooch", gain(samples, "pkgdata", "pooch"), 6.5, True),
        Aim(
            f"{title}: × curl && openssl dgst",
            gain(samples, "pkgdata", "curl -o && openssl dgst"),
            1.6,
            True,
        ),
        Aim(f"{title}: rss MB", megabytes(samples["pkgdata"]), 60),
    ]
    return [compare(title, samples, rivals)], aims


# -- many --------------------------------------------------------------------------------------

ARIA = "aria2c -j16"


def bench_small(bench: Bench) -> Report:
    files = make_files(bench, "small", bench.size.small, 4 * KIB)
    port = bench.server.fast
    cases = {
        "pkgdata": library(bench, OWN, files, port, sized=True),
        "pkgdata, durability none": library(bench, OWN, files, port, sized=True, durability="none"),
        "pkgdata, registry without sizes": library(bench, OWN, files, port),
        "pooch": library(bench, POOCH, files, port),
        ARIA: aria(bench, files, port, "-j16"),
    }
    samples = rounds(cases, bench.count)
    title = f"{bench.size.small:,} files of 4 KiB"
    aims = [
        Aim(f"{title}: pkgdata, × {rival}", gain(samples, "pkgdata", rival), limit, True)
        for rival, limit in (("pooch", 8), (ARIA, 1))
    ]
    note = (
        "Durability is batch where nothing else is said: synced before the files get their names."
    )
    return [compare(title, samples, {"pooch": "pooch", "aria2c": ARIA}, note)], aims


def bench_medium(bench: Bench) -> Report:
    files = make_files(bench, "medium", bench.size.medium, MIB)
    port = bench.server.fast
    cases = {
        "pkgdata": library(bench, OWN, files, port, sized=True),
        "pkgdata, durability none": library(bench, OWN, files, port, sized=True, durability="none"),
        "pooch": library(bench, POOCH, files, port),
        ARIA: aria(bench, files, port, "-j16"),
        **parfive_case(bench, files, port),
    }
    samples = rounds(cases, bench.count)
    title = f"{bench.size.medium} files of 1 MiB"
    aims = [
        Aim(f"{title}: pkgdata, × {rival}", gain(samples, "pkgdata", rival), limit, True)
        for rival, limit in (("pooch", 6), (ARIA, 3))
    ]
    return [compare(title, samples, {"pooch": "pooch", "aria2c": ARIA})], aims


# -- capped ------------------------------------------------------------------------------------


def bench_capped(bench: Bench) -> Report:
    files = make_files(bench, "capped", 1, bench.size.capped)
    port, rival = bench.server.capped, "aria2c -x16"
    cases = {
        "pkgdata": library(bench, OWN, files, port),
        "pkgdata, 32 connections": library(bench, OWN, files, port, connections=32),
        "pooch": library(bench, POOCH, files, port),
        rival: aria(bench, files, port, "-x16 -s16 -k1M"),
        **parfive_case(bench, files, port),
    }
    samples = rounds(cases, bench.count, seldom=["pooch"])
    title = f"One file of {bytes_shown(bench.size.capped)}, 20 MB/s a connection"
    aims = [
        Aim(f"{title}: × pooch", gain(samples, "pkgdata", "pooch"), 8, True),
        Aim(
            f"{title}: × aria2c -x16, 32 connections",
            gain(samples, "pkgdata, 32 connections", rival),
            1,
            True,
        ),
    ]
    note = "One round of pooch: its time is that of the cap."
    return [compare(title, samples, {"pooch": "pooch", "aria2c -x16": rival}, note)], aims


# -- far ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def far_away(bench: Bench) -> Iterator[Bench]:
    """Run a server whose packets are delayed, in a network namespace that ends with the block."""
    argv = ["unshare", "--net", sys.executable, str(HERE / "delay.py"), str(DELAY)]
    network = start(argv, bench.work)
    try:
        if network.stdout is None or network.stdout.readline() != b"ready\n":
            raise RuntimeError("the delaying network did not start")
        prefix = ["nsenter", f"--net=/proc/{network.pid}/ns/net", "--"]
        with Nginx(bench.work / "far", bench.served, NEAR, prefix) as server:
            yield Bench(bench.work, bench.dest, bench.count, bench.size, server, FAR, prefix)
    finally:
        finish(network, time.perf_counter())


def share_of(case: Callable[[], Sample], times: float) -> Callable[[], Sample]:
    """Return a case whose call counts so many times, as it brings a share of the files."""

    def scaled() -> Sample:
        sample = case()
        return sample._replace(call=sample.call * times)

    return scaled


def bench_far(bench: Bench) -> Report:
    if os.geteuid():
        print("far is left out: only root may make a network namespace", file=sys.stderr)
        return [], []
    files = make_files(bench, "small", bench.size.small, 4 * KIB)
    few = files.first(bench.size.few, bench)
    pooch = f"pooch, from {bench.size.few} of them"
    with far_away(bench) as away:
        port = away.server.fast
        serial = library(away, POOCH, few, port)
        cases = {
            "pkgdata": library(away, OWN, files, port, sized=True),
            "pkgdata, 64 connections": library(away, OWN, files, port, sized=True, connections=64),
            pooch: share_of(serial, len(files.digests) / len(few.digests)),
            ARIA: aria(away, files, port, "-j16"),
        }
        samples = rounds(cases, bench.count, seldom=[pooch])
    title = f"{bench.size.small:,} files of 4 KiB, round trips of {2 * DELAY} ms"
    aims = [
        Aim(f"{title}: × aria2c", gain(samples, "pkgdata", ARIA), 1, True),
        Aim(
            f"{title}: × aria2c, 64 connections",
            gain(samples, "pkgdata, 64 connections", ARIA),
            3.5,
            True,
        ),
    ]
    note = "pooch brings a share, once, and its seconds are scaled; the other figures are not."
    return [compare(title, samples, {"pooch": pooch, "aria2c": ARIA}, note)], aims


# -- crowd -------------------------------------------------------------------------------------


def crowd(bench: Bench, files: Files, code: str, count: int) -> Callable[[], Sample]:
    """Return a case of many processes that want one file at the same moment."""
    argv = child(bench, code + TIME_AT_SIGNAL, files, bench.server.logged)

    def action() -> Sample:
        before = bench.server.sent()
        crowd = [start(argv, bench.work) for _ in range(count)]
        for process in crowd:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise RuntimeError("a process of the crowd did not get ready")
        began = time.perf_counter()
        for process in crowd:
            assert process.stdin is not None
            process.stdin.close()
        ends = [finish(process, began) for process in crowd]
        sent = bench.server.sent()[len(before) :]
        return Sample(
            wall=max(one.facts["end"] for one in ends) - began,
            call=max(one.facts["end"] for one in ends) - began,
            cpu=sum(one.facts["cpu"] for one in ends),
            rss=max(one.rss for one in ends),
            facts={"requests": len(sent), "bytes": sum(sent)},
        )

    return checked(bench, files, action)


def bench_crowd(bench: Bench) -> Report:
    length, many = bench.size.shared, bench.size.processes
    files = make_files(bench, "crowd", 1, length)
    own, single, pooch = (
        f"pkgdata, {many} processes",
        "pkgdata, 1 process",
        f"pooch, {many} processes",
    )
    cases = {
        single: crowd(bench, files, OWN, 1),
        own: crowd(bench, files, OWN, many),
        pooch: crowd(bench, files, POOCH, many),
    }
    samples = rounds(cases, bench.count, seldom=[pooch])
    rows: list[list[object]] = []
    for name, found in samples.items():
        rows.append(
            [
                name,
                ratio(calls(found), calls(samples[single])),
                median(sample.facts["bytes"] for sample in found) / length,
                median(sample.facts["requests"] for sample in found),
                median(calls(found)),
                median(sample.cpu for sample in found),
                megabytes(found),
            ]
        )
    title = f"{many} processes want one file of {length / 1e6:.0f} MB"
    columns = ["case", "time / one process's", "downloads", "requests", "seconds", "cpu seconds"]
    most = max(sample.facts["bytes"] for sample in samples[own]) / length
    aims = [
        Aim(f"{title}: downloads, the most in any round", most, 1),
        Aim(
            f"{title}: time / one process's", ratio(calls(samples[own]), calls(samples[single])), 2
        ),
    ]
    note = "Downloads are the bytes that the server sent, in files. One round of pooch."
    return [table(title, [*columns, "largest rss MB"], rows, note)], aims


# -- killed ------------------------------------------------------------------------------------


def killed(bench: Bench, files: Files, argv: list[str], length: int) -> Callable[[], Sample]:
    """Return a case that is killed when nine tenths are on disk, and runs again."""

    def action() -> Sample:
        victim = start(argv, bench.work)
        while on_disk(bench.dest) < 0.9 * length and victim.poll() is None:
            time.sleep(0.001)  # nothing tells of bytes that reach a file
        victim.kill()
        share = on_disk(bench.dest) / length
        for pipe in (victim.stdin, victim.stdout):
            assert pipe is not None
            pipe.close()
        if victim.wait() == 0:
            raise RuntimeError("it was done before it was killed")
        # what was cut off is noted by the time the server has ended
        bench.server.stop()
        before = len(bench.server.sent())
        bench.server.start()
        sample = run(argv, bench.work)
        again = sum(bench.server.sent()[before:]) / length
        return sample._replace(facts={"again": again, "share": share})

    return checked(bench, files, action)


def on_disk(folder: Path) -> int:
    """Return the bytes that files take, without the holes of those that come in ranges."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_blocks * 512 if path.is_file() else 0
    return total


def bench_killed(bench: Bench) -> Report:
    length = bench.size.killed
    files = make_files(bench, "killed", 1, length)
    (name,) = files.digests
    logged, capped = bench.server.logged, bench.server.capped
    url = f"{bench.url(files, logged)}{name}"
    aria = f"exec aria2c --no-conf -q -c --file-allocation=none -d '{bench.dest}' {url}"
    lines = {
        "pkgdata": child(bench, OWN + TIME_CALL, files, logged),
        "pkgdata, 20 MB/s a connection": child(bench, OWN + TIME_CALL, files, capped),
        "pooch": child(bench, POOCH + TIME_CALL, files, logged),
        "aria2c -c (unchecked)": ["/bin/sh", "-c", aria],
    }
    cases = {label: killed(bench, files, argv, length) for label, argv in lines.items()}
    samples = rounds(cases, min(bench.count, 3), seldom=["pooch"])
    rows: list[list[object]] = []
    for label, found in samples.items():
        again = [100 * sample.facts["again"] for sample in found]
        share = median(100 * sample.facts["share"] for sample in found)
        spent = [median(getattr(sample, key) for sample in found) for key in ("wall", "cpu")]
        rows.append([label, median(again), max(again), share, *spent, megabytes(found)])
    title = f"Killed at nine tenths of {length / 1e9:g} GB, and run again"
    columns = ["case", "% sent again", "at most", "% on disk", "process seconds", "cpu seconds"]
    aims = [
        Aim(f"{title}, {label}: % sent again, at most", row[2], 12)  # type: ignore[arg-type]
        for label, row in zip(lines, rows, strict=True)
        if label.startswith("pkgdata")
    ]
    note = "The times are those of the second run. At most three rounds; one of pooch."
    return [table(title, [*columns, "rss MB"], rows, note)], aims


# -- all ---------------------------------------------------------------------------------------

BENCHES: dict[str, Callable[[Bench], Report]] = {
    "one": bench_one,
    "small": bench_small,
    "medium": bench_medium,
    "capped": bench_capped,
    "far": bench_far,
    "crowd": bench_crowd,
    "killed": bench_killed,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure pkgdata's transfers beside others'.")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--only", default=",".join(BENCHES), help="tables, separated by commas")
    parser.add_argument("--quick", action="store_true", help="smaller files; nothing is kept")
    parser.add_argument("--dest", type=Path, help="folder the files go to; default in memory")
    options = parser.parse_args()
    options.only = options.only.split(",")
    unknown = sorted(set(options.only) - set(BENCHES))
    if unknown or options.rounds < 1:
        parser.error(f"unknown table {unknown[0]}" if unknown else "expected at least one round")
    return options


def measure(options: argparse.Namespace, work: Path, dest: Path) -> Report:
    """Run the tables that are asked for."""
    tables: list[str] = []
    aims: list[Aim] = []
    size = QUICK if options.quick else FULL
    with Nginx(work / "server", work / "served") as server:
        bench = Bench(work, dest, options.rounds, size, server)
        touch_memory(dest, size.one)
        for name in options.only:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            began = time.perf_counter()
            more, found = BENCHES[name](bench)
            print(f"  {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
            tables += more
            aims += found
    return tables, aims


def touch_memory(dest: Path, length: int) -> None:
    """Fill and empty the destination once: a virtual machine's first use of memory is slow."""
    with open(fresh(dest) / "fill", "wb") as file:
        for _ in range(0, 2 * length, MIB):
            file.write(bytes(MIB))
    fresh(dest)


def versions(options: argparse.Namespace) -> str:
    packages = ["pooch", "requests", "urllib3"]
    packages += ["parfive"] if importlib.util.find_spec("parfive") else []
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    tools = [[nginx, "-v"], ["curl", "--version"], ["aria2c", "--version"], ["openssl", "version"]]
    where = options.dest or "memory (tmpfs)"
    return header(options.rounds, packages, tools) + f"- files go to {where}\n"


def main() -> None:
    options = arguments()
    base = MEMORY if MEMORY.is_dir() else None
    with contextlib.ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="pkgdata-bench-", dir=base)
        work = Path(stack.enter_context(made))
        (work / "served").mkdir()
        (work / "home").mkdir()
        dest = work / "dest"
        if options.dest:
            options.dest.mkdir(parents=True, exist_ok=True)
            other = tempfile.TemporaryDirectory(prefix="pkgdata-bench-", dir=options.dest)
            dest = Path(stack.enter_context(other)) / "dest"
        tables, aims = measure(options, work, dest)
    text = "\n".join(["# Transfers, measured\n", versions(options), *tables, aims_table(aims)])
    print(text)
    if not options.quick and not options.dest and set(options.only) == set(BENCHES):
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
