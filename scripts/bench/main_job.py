"""Measure the daily work of pkgdata beside pooch and astropy, and write the tables.

    python scripts/bench/main_job.py [--rounds N] [--only import,hit,process,load,make] [--quick]

Needs ``pip install -e '.[bench]'``, and the commands find, xargs, sha256sum and openssl. No network
is used: the caches are filled from files.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from common import (
    Aim,
    Sample,
    aims_table,
    header,
    median,
    over,
    python,
    ratio,
    rounds,
    run,
    sha256,
    table,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RESULT = Path(__file__).resolve().parent / "results" / "main_job.md"

Samples = dict[str, list[Sample]]


class Size(NamedTuple):
    """How much is measured."""

    big: int  # bytes of the large file that is hit
    lines: int  # of the registry that is loaded
    small_files: int  # of 4 KiB that are hashed
    large_files: int  # bytes of each of the four large files that are hashed


FULL = Size(GIB, 100_000, 5_000, 512 * MIB)
QUICK = Size(16 * MIB, 20_000, 1_000, 32 * MIB)


Report = tuple[list[str], list[Aim]]


def milliseconds(samples: list[Sample], field: str = "wall") -> float:
    return median(getattr(sample, field) for sample in samples) * 1e3


def megabytes(samples: list[Sample]) -> float:
    return median(sample.rss for sample in samples) / MIB


# -- import ------------------------------------------------------------------------------------

BARE = "bare Python"
IMPORTS = {
    BARE: "report()",
    "import pkgdata": "import pkgdata; report()",
    "import pkgdata; pkgdata.declare": "import pkgdata; pkgdata.declare; report()",
    "import pooch": "import pooch; report()",
    "import astropy.utils.data": "import astropy.utils.data; report()",
}


def started(code: str, work: Path, *arguments: object) -> Callable[[], Sample]:
    return lambda: python(code, work, *arguments)


def process_rows(samples: Samples, peer: str) -> list[list[object]]:
    """Return rows of whole processes: what each costs over bare Python, beside a peer."""
    base = samples[BARE]
    rows: list[list[object]] = []
    for name, found in samples.items():
        extra = over(found, base)
        rows.append(
            [
                name,
                "" if name == BARE else ratio(extra, over(samples[peer], base)),
                "" if name == BARE else median(extra) * 1e3,
                milliseconds(found),
                milliseconds(found, "cpu"),
                megabytes(found),
            ]
        )
    return rows


PROCESS_COLUMNS = ["case", "over bare / pooch's", "ms over bare", "process ms", "cpu ms", "rss MB"]


def bench_import(work: Path, count: int, size: Size) -> Report:
    samples = rounds({name: started(code, work) for name, code in IMPORTS.items()}, 3 * count)
    found = median(over(samples["import pkgdata"], samples[BARE])) * 1e3
    rows = process_rows(samples, "import pooch")
    return (
        [table("Import", PROCESS_COLUMNS, rows)],
        [Aim("`import pkgdata`, ms over bare Python", found, 5)],
    )


# -- hit ---------------------------------------------------------------------------------------

#: What each child does before it measures: `call` gives the path of a cached file.
PREPARE = {
    "pkgdata data.get": """
from demo import data
call = lambda: data.get(name)
""",
    "pkgdata data.get, node_cache": """
import os
os.environ["PKGDATA_NODE_CACHE"] = os.path.abspath("node")
from demo import data
call = lambda: data.get(name)
""",
    "pkgdata.get_pkg_data_filename": """
import pkgdata
call = lambda: pkgdata.get_pkg_data_filename(name, package="demo")
""",
    "pooch.fetch": """
from pooched import data
call = lambda: data.fetch(name)
""",
    "astropy download_file(cache=True)": """
from astropy.utils.data import download_file
call = lambda: download_file("http://127.0.0.1:9/" + name, cache=True, show_progress=False)
""",
}

#: Calls as many times as fill 20 ms, seven times, in turn with os.stat of the same path.
TIME_CALL = """
import os, statistics, time
def seconds(action, times):
    start = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - start) / times
path = str(call())
def times_of(action):
    return max(1, int(0.02 / seconds(action, 2)))
look = lambda: os.stat(path)
calls, looks = times_of(call), times_of(look)
pairs = [(seconds(call, calls), seconds(look, looks)) for _ in range(7)]
report(
    call=statistics.median(a for a, _ in pairs),
    stat=statistics.median(b for _, b in pairs),
    times=statistics.median(a / b for a, b in pairs),
)
"""


#: Small packages, by name: the source of each, and its pkgdata.toml.
PACKAGES = {
    "demo": (
        "import pkgdata\ndata = pkgdata.declare(__name__)\n",
        '[package]\nname = "demo"\ndataurl = "{work}/pooch"\n',
    ),
    "plain": (
        "import pkgdata\n"
        'data = pkgdata.declare(__name__, dataurl="{work}/pooch", registry="registry.txt")\n',
        "",
    ),
    "pooched": (
        "import os, pooch\n"
        'data = pooch.create(path="{work}/pooch", base_url="http://127.0.0.1:9/", registry=None)\n'
        'data.load_registry(os.path.join(os.path.dirname(__file__), "registry.txt"))\n',
        "",
    ),
}


def fill_caches(work: Path, size: Size) -> None:
    """Make packages with two data files, and fill the caches of all three libraries."""
    (work / "pooch").mkdir(exist_ok=True)
    registry = ""
    for name, length in (("small.bin", KIB), ("big.bin", size.big)):
        write_file(work / "pooch" / name, length)
        registry += f"{name} {sha256(work / 'pooch' / name)}\n"
    for package, (code, toml) in PACKAGES.items():
        folder = work / "packages" / package
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(code.format(work=work))
        (folder / "registry.txt").write_text(registry)
        if toml:
            (folder / "pkgdata.toml").write_text(toml.format(work=work))
    python(FILL, work)


FILL = """
from astropy.utils.data import import_file_to_cache
from demo import data
for name in data.registry:
    data.get(name, progress=False)
    import_file_to_cache("http://127.0.0.1:9/" + name, "pooch/" + name)
report()
"""


def write_file(path: Path, length: int) -> None:
    with open(path, "wb") as file:
        for start in range(0, length, MIB):
            file.write(os.urandom(min(MIB, length - start)))


def bench_hit(work: Path, count: int, size: Size) -> Report:
    fill_caches(work, size)
    tables, aims = [], []
    for name, length in (("small.bin", KIB), ("big.bin", size.big)):
        cases = {
            peer: started(f"name = {name!r}\n{code}{TIME_CALL}", work)
            for peer, code in PREPARE.items()
        }
        samples = rounds(cases, count)
        own = [sample.call for sample in samples["pkgdata data.get"]]
        rows: list[list[object]] = []
        for peer, found in samples.items():
            times = median(sample.facts["times"] for sample in found)
            calls = [sample.call for sample in found]
            stat = median(sample.facts["stat"] for sample in found)
            rows.append(
                [peer, times, ratio(calls, own), median(calls) * 1e6, stat * 1e6, megabytes(found)]
            )
        columns = ["case", "/ os.stat", "/ data.get", "µs a call", "µs os.stat", "rss MB"]
        label = "1 GiB" if length == GIB else "1 KiB" if length == KIB else f"{length // MIB} MiB"
        tables.append(table(f"Hit within a process, {label}", columns, rows))
        times = median(sample.facts["times"] for sample in samples["pkgdata data.get"])
        aims.append(Aim(f"hit of {label}, times os.stat of the same path", times, 2.5))
    return tables, aims


# -- whole process -----------------------------------------------------------------------------

PROCESSES = {
    BARE: "report()",
    "import platformdirs alone": "import platformdirs; report()",
    "pkgdata, declared in code": "import plain; plain.data.get('small.bin'); report()",
    "pkgdata, declared in code, node_cache": """
import os
os.environ["PKGDATA_NODE_CACHE"] = os.path.abspath("node")
import plain
plain.data.get('small.bin')
report()
""",
    "pkgdata, declared in pkgdata.toml": "import demo; demo.data.get('small.bin'); report()",
    "pooch": "import pooched; pooched.data.fetch('small.bin'); report()",
    "astropy": """
from astropy.utils.data import download_file
download_file("http://127.0.0.1:9/small.bin", cache=True, show_progress=False)
report()
""",
}


def bench_process(work: Path, count: int, size: Size) -> Report:
    fill_caches(work, size._replace(big=KIB))
    samples = rounds({name: started(code, work) for name, code in PROCESSES.items()}, 3 * count)
    found = median(over(samples["pkgdata, declared in code"], samples[BARE])) * 1e3
    rows = process_rows(samples, "pooch")
    return (
        [table("Hit of a whole process", PROCESS_COLUMNS, rows)],
        [Aim("hit of a whole process, declared in code, ms over bare Python", found, 30)],
    )


# -- registry loading --------------------------------------------------------------------------

LOADERS = {
    "pkgdata": """
from pkgdata import Registry
load = lambda: Registry.load(path)
""",
    "pooch": """
import pooch
load = lambda: pooch.create(path=".", base_url="http://127.0.0.1:9/").load_registry(path)
""",
}

#: Ends with one look-up, since pkgdata reads an entry when it is asked for.
TIME_LOAD = """
import sys, time
path = sys.argv[1]
start = time.perf_counter()
found = load()
call = time.perf_counter() - start
report(call=call)
"""


def write_registry(path: Path, lines: int, sizes: bool) -> Path:
    with open(path, "w", encoding="ascii") as file:
        for number in range(lines):
            if sizes:
                file.write(f"#: size={number}\n")
            digest = hashlib.sha256(str(number).encode()).hexdigest()
            file.write(f"maps/part{number % 100:02d}/file{number:06d}.fits {digest}\n")
    return path


def bench_load(work: Path, count: int, size: Size) -> Report:
    rows: list[list[object]] = []
    aims = []
    for label, sizes in (("plain", False), ("with '#: size='", True)):
        path = write_registry(work / "large.txt", size.lines, sizes)
        cases = {name: started(code + TIME_LOAD, work, path) for name, code in LOADERS.items()}
        samples = rounds(cases, count)
        slow = [sample.call for sample in samples["pooch"]]
        for name, found in samples.items():
            gain = ratio(slow, [sample.call for sample in found])
            rows.append([f"{label}, {name}", gain, milliseconds(found, "call"), megabytes(found)])
            if not sizes and name == "pkgdata":
                text = f"{size.lines:,} lines loaded, times faster than pooch"
                aims.append(Aim(text, gain, 30, at_least=True))
    columns = ["case", "times faster than pooch", "ms", "rss MB"]
    return [table(f"Registry of {size.lines:,} lines, loaded", columns, rows)], aims


# -- registry making ---------------------------------------------------------------------------

MAKERS = {
    "pkgdata": """
from pkgdata import scan
make = lambda folder, path: scan.make(folder).write(path)
""",
    "pooch.make_registry": "from pooch import make_registry as make",
}

TIME_MAKE = """
import sys, time
start = time.perf_counter()
make(*sys.argv[1:])
report(call=time.perf_counter() - start)
"""


def piped(folder: Path, batch: int, command: str, work: Path) -> Callable[[], Sample]:
    find = f"find {shlex.quote(str(folder))} -type f -print0"
    line = f"{find} | xargs -0 -P2 -n{batch} {command} > {shlex.quote(str(work / 'sums.txt'))}"
    return lambda: run(["/bin/sh", "-c", line], work)


def check_same(work: Path) -> None:
    """Compare what the cases wrote: a fast wrong answer is none."""
    lines = [
        {line for line in (work / f"{name}.txt").read_text().splitlines() if line[0] != "#"}
        for name in ("pkgdata", "pooch")
    ]
    if lines[0] != lines[1]:
        raise RuntimeError("pkgdata and pooch made different registries")


def make_cases(work: Path, folder: Path, batch: int) -> dict[str, Callable[[], Sample]]:
    outputs = {name: work / f"{name.partition('.')[0]}.txt" for name in MAKERS}
    cases = {
        name: started(f"{code}\n{TIME_MAKE}", work, folder, outputs[name])
        for name, code in MAKERS.items()
    }
    for command in ("sha256sum", "openssl dgst -sha256"):
        label = f"find, xargs -P2 -n{batch} {command}"
        cases[label] = piped(folder, batch, command, work)
    return cases


def bench_make(work: Path, count: int, size: Size) -> Report:
    tables, aims = [], []
    columns = ["case", "seconds / pkgdata's", "seconds", "process seconds", "cpu seconds", "rss MB"]
    kinds = (
        ("small", size.small_files, 4 * KIB, 256, ["pooch.make_registry", "sha256sum"]),
        ("large", 4, size.large_files, 1, ["pooch.make_registry", "openssl"]),
    )
    for kind, files, length, batch, rivals in kinds:
        folder = make_files(work / kind, files, length)
        samples = rounds(make_cases(work, folder, batch), count)
        check_same(work)
        own = [sample.call for sample in samples["pkgdata"]]
        rows: list[list[object]] = []
        for name, found in samples.items():
            calls = [sample.call for sample in found]
            spent = [median(getattr(s, field) for s in found) for field in ("wall", "cpu")]
            rows.append([name, ratio(calls, own), median(calls), *spent, megabytes(found)])
        shown = f"{length // MIB} MiB" if length >= MIB else f"{length // KIB} KiB"
        title = f"Registry made of {files:,} files of {shown}"
        tables.append(table(title, columns, rows))
        for rival in rivals:
            name = next(name for name in samples if rival in name)
            slower = ratio(own, [sample.call for sample in samples[name]])
            aims.append(Aim(f"{title}: time / {rival}'s", slower, 1))
    return tables, aims


def make_files(folder: Path, files: int, length: int) -> Path:
    for number in range(files):
        path = folder / f"part{number % 10}" / f"file{number:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, length)
    return folder


# -- all ---------------------------------------------------------------------------------------

BENCHES: dict[str, Callable[[Path, int, Size], Report]] = {
    "import": bench_import,
    "hit": bench_hit,
    "process": bench_process,
    "load": bench_load,
    "make": bench_make,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure pkgdata beside pooch and astropy.")
    parser.add_argument("--rounds", type=int, default=5, help="default 5; start-ups take 3 times")
    parser.add_argument("--only", default=",".join(BENCHES), help="tables, separated by commas")
    parser.add_argument("--quick", action="store_true", help="smaller files; nothing is kept")
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = sorted(set(names) - set(BENCHES))
    if unknown or options.rounds < 1:
        parser.error(f"unknown table {unknown[0]}" if unknown else "expected at least one round")
    size = QUICK if options.quick else FULL
    tables: list[str] = []
    aims: list[Aim] = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="pkgdata-bench-") as folder:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            more, found = BENCHES[name](Path(folder), options.rounds, size)
        tables += more
        aims += found
    tables.append(aims_table(aims))
    text = "\n".join(["# The daily work, measured\n", header(options.rounds), *tables])
    print(text)
    if not options.quick and set(names) == set(BENCHES):
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
