"""Measure hits of `pkgdata.compat.pooch` beside pooch's own, over the same files.

    python scripts/bench/dialects_pooch.py [--rounds N] [--only hit,unpacked,process] [--quick]

Needs ``pip install -e '.[bench]'``. No network is used: the storage is filled from files. It only
prints.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import Aim, aims_table, header, median, over, python, random_file, ratio, rounds, table
from main_job import BARE, FULL, KIB, MIB, QUICK, TIME_CALL, Report, Samples, Size, started

OURS, THEIRS = "pkgdata.compat.pooch", "pooch"

#: What each child does before it measures; `make` gives a fresh storage, as a module has it.
PREPARE = """
import sys
import {module} as pooch
registry = dict(pair.split("=") for pair in sys.argv[2:])
make = lambda: pooch.create(sys.argv[1], "http://127.0.0.1:9/", registry=registry)
name = next(iter(registry))
"""

#: Calls that find what is here.
CALLS = {
    "fetch": "pup = make()\ncall = lambda: pup.fetch(name)\n",
    "fetch of a new Pooch": "call = lambda: make().fetch(name)\n",
    "retrieve": """
call = lambda: pooch.retrieve(
    "http://127.0.0.1:9/" + name, known_hash=registry[name], fname=name, path=sys.argv[1]
)
""",
}

UNTAR = """
pup = make()
call = lambda: pup.fetch(name, processor=pooch.Untar())[0]
"""

COLUMNS = ["case", "/ os.stat", "times faster than pooch", "µs a call", "µs os.stat"]


def modules() -> dict[str, str]:
    return {OURS: PREPARE.format(module=OURS), THEIRS: PREPARE.format(module=THEIRS)}


def label(length: int) -> str:
    return "1 GiB" if length == FULL.big else "1 KiB" if length == KIB else f"{length // MIB} MiB"


def call_rows(samples: Samples, call: str) -> list[list[object]]:
    slow = [sample.call for sample in samples[THEIRS]]
    rows: list[list[object]] = []
    for module, found in samples.items():
        calls = [sample.call for sample in found]
        times = median(sample.facts["times"] for sample in found)
        stat = median(sample.facts["stat"] for sample in found)
        gain = ratio(slow, calls)
        rows.append([f"{module}, {call}", times, gain, median(calls) * 1e6, stat * 1e6])
    return rows


def gain_of(samples: Samples) -> float:
    slow, fast = ([sample.call for sample in samples[name]] for name in (THEIRS, OURS))
    return ratio(slow, fast)


def bench_hit(work: Path, count: int, size: Size) -> Report:
    tables, aims = [], []
    own: dict[int, float] = {}
    for length in (KIB, size.big):
        digest = random_file(work / "file.bin", length)
        rows: list[list[object]] = []
        for call, code in CALLS.items():
            cases = {
                module: started(f"{head}{code}{TIME_CALL}", work, work, f"file.bin={digest}")
                for module, head in modules().items()
            }
            samples = rounds(cases, count)
            rows += call_rows(samples, call)
            if call == "fetch":
                own[length] = median(sample.call for sample in samples[OURS])
                text = f"`Pooch.fetch` of {label(length)}, times faster than pooch's"
                aims.append(Aim(text, gain_of(samples), 3, at_least=True))
        tables.append(table(f"Hit, {label(length)}", COLUMNS, rows))
    growth = own[size.big] / own[KIB]
    aims.append(Aim(f"`Pooch.fetch` of {label(size.big)} / of 1 KiB", growth, 1.5))
    return tables, aims


def bench_unpacked(work: Path, count: int, size: Size) -> Report:
    """An archive that is unpacked already: pooch reads through it at each call."""
    digest = make_archive(work / "pack.tar.gz", members=200, length=size.big // 4096)
    cases = {
        module: started(f"{head}{UNTAR}{TIME_CALL}", work, work, f"pack.tar.gz={digest}")
        for module, head in modules().items()
    }
    samples = rounds(cases, count)
    title = f"Archive of 200 files of {size.big // 4096 // KIB} KiB, unpacked before"
    aim = Aim("`fetch` with `Untar`, times faster than pooch's", gain_of(samples), 3, at_least=True)
    return [table(title, COLUMNS, call_rows(samples, "fetch with Untar"))], [aim]


def make_archive(path: Path, members: int, length: int) -> str:
    import os

    from common import sha256

    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number in range(members):
            info = tarfile.TarInfo(f"part{number % 10}/file{number:05d}.bin")
            info.size = length
            archive.addfile(info, io.BytesIO(os.urandom(length)))
    return sha256(path)


def bench_process(work: Path, count: int, size: Size) -> Report:
    digest = random_file(work / "file.bin", KIB)
    code = "make().fetch(name)\nreport()\n"
    cases = {BARE: lambda: python("report()", work)}
    for module, head in modules().items():
        cases[module] = started(head + code, work, work, f"file.bin={digest}")
    samples = rounds(cases, 3 * count)
    extra = {name: over(samples[name], samples[BARE]) for name in (OURS, THEIRS)}
    gain = ratio(extra[THEIRS], extra[OURS])
    rows: list[list[object]] = [
        [name, ratio(extra[THEIRS], found), median(found) * 1e3] for name, found in extra.items()
    ]
    columns = ["case", "times faster than pooch", "ms over bare Python"]
    aim = Aim("a process with one hit, times faster than pooch's", gain, 3, at_least=True)
    return [table("Import and one hit of 1 KiB, a whole process", columns, rows)], [aim]


BENCHES: dict[str, Callable[[Path, int, Size], Report]] = {
    "hit": bench_hit,
    "unpacked": bench_unpacked,
    "process": bench_process,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the pooch dialect beside pooch.")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--only", default=",".join(BENCHES), help="tables, separated by commas")
    parser.add_argument("--quick", action="store_true", help="smaller files")
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = sorted(set(names) - set(BENCHES))
    if unknown or options.rounds < 1:
        parser.error(f"unknown table {unknown[0]}" if unknown else "expected at least one round")
    tables: list[str] = []
    aims: list[Aim] = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="pkgdata-bench-") as folder:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            bench = BENCHES[name]
            more, found = bench(Path(folder), options.rounds, QUICK if options.quick else FULL)
        tables += more
        aims += found
    parts = ["# The pooch dialect, measured\n", header(options.rounds, ("pooch", "requests"))]
    print("\n".join([*parts, *tables, aims_table(aims)]))


if __name__ == "__main__":
    main()
