"""Measure pkgdata as a replacement of the libraries whose names it offers, and write the tables.

    python scripts/bench/dialects.py [--rounds N] [--only astropy,pooch,unpacked,process] [--quick]

Needs ``pip install -e '.[bench]'``. No network is used: the caches are filled from files. A further
table is one more function in `BENCHES`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
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
    random_file,
    ratio,
    rounds,
    sha256,
    table,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RESULT = Path(__file__).resolve().parent / "results" / "dialects.md"

Report = tuple[list[str], list[Aim]]
Samples = dict[str, list[Sample]]


class Size(NamedTuple):
    """How much is measured."""

    big: int  # bytes of the large file that is hit
    member: int  # bytes of each of the 200 files of the archive


FULL = Size(GIB, 256 * KIB)
QUICK = Size(16 * MIB, 4 * KIB)

#: Calls as many times as fill 20 ms, seven times, in turn with os.stat of the same path. `call` is
#: defined before; it gives the path of a cached file.
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
    file=look().st_ino,
)
"""

COLUMNS = ["case", "/ pkgdata", "/ os.stat", "µs a call", "µs os.stat", "rss MB"]


def label(length: int) -> str:
    """Return a length in words."""
    if length >= GIB:
        return f"{length // GIB} GiB"
    return f"{length // MIB} MiB" if length >= MIB else f"{length // KIB} KiB"


def started(code: str, work: Path, *arguments: object) -> Callable[[], Sample]:
    return lambda: python(code, work, *arguments)


def hit_rows(samples: Samples, what: str = "") -> list[list[object]]:
    """Return the rows of a table of hits, each set against pkgdata's."""
    own = [sample.call for sample in samples[OURS]]
    return [
        [
            f"{name}, {what}" if what else name,
            ratio([sample.call for sample in found], own),
            median(sample.facts["times"] for sample in found),
            median(sample.call for sample in found) * 1e6,
            median(sample.facts["stat"] for sample in found) * 1e6,
            median(sample.rss for sample in found) / MIB,
        ]
        for name, found in samples.items()
    ]


def gain_of(samples: Samples, theirs: str) -> float:
    """Return how many times faster than the original we are."""
    slow, fast = ([sample.call for sample in samples[name]] for name in (theirs, OURS))
    return ratio(slow, fast)


def times_faster(text: str, gain: float) -> Aim:
    return Aim(f"{text}, times faster", gain, 3, at_least=True)


def check_same(samples: Samples) -> None:
    """Make sure that all cases gave the same file: a fast wrong answer is none."""
    files = {sample.facts["file"] for found in samples.values() for sample in found}
    if len(files) != 1:
        raise RuntimeError(f"the cases gave different files: {files}")


OURS = "pkgdata"

# -- astropy -------------------------------------------------------------------------------------

_URL = "http://127.0.0.1:9/"
_CALL = "call = lambda: download_file({url!r}, cache=True, show_progress=False)"
ASTROPY = {
    OURS: "from pkgdata import download_file\n",
    "astropy": "from astropy.utils.data import download_file\n",
}
#: Both find it there: it is one cache.
FILL = """
import sys
from astropy.utils.data import import_file_to_cache
import_file_to_cache(sys.argv[1], sys.argv[2], remove_original=True)
report()
"""


def bench_astropy(work: Path, count: int, size: Size) -> Report:
    """Measure a hit of ``download_file(url, cache=True)``."""
    tables, aims = [], []
    for length in (KIB, size.big):
        url = f"{_URL}{length}.bin"
        random_file(work / "source", length)
        python(FILL, work, url, work / "source")
        call = _CALL.format(url=url) + TIME_CALL
        samples = rounds(
            {name: started(code + call, work) for name, code in ASTROPY.items()}, count
        )
        check_same(samples)
        title = f"`download_file(url, cache=True)`, a hit of {label(length)}"
        tables.append(table(title, COLUMNS, hit_rows(samples)))
        aims.append(times_faster(f"{title}, than astropy's", gain_of(samples, "astropy")))
    return tables, aims


# -- pooch ---------------------------------------------------------------------------------------

#: What each child does before it measures; `make` gives a fresh storage, as a module has it.
PREPARE = """
import sys
import {module} as pooch
registry = dict(pair.split("=") for pair in sys.argv[2:])
make = lambda: pooch.create(sys.argv[1], "http://127.0.0.1:9/", registry=registry)
name = next(iter(registry))
"""
POOCH = {
    OURS: PREPARE.format(module="pkgdata.compat.pooch"),
    "pooch": PREPARE.format(module="pooch"),
}

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
call = lambda: sorted(pup.fetch(name, processor=pooch.Untar()))[0]
"""


def _pooch_rounds(code: str, work: Path, file: str, digest: str, count: int) -> Samples:
    argument = f"{file}={digest}"
    cases = {
        name: started(head + code + TIME_CALL, work, work, argument) for name, head in POOCH.items()
    }
    samples = rounds(cases, count)
    check_same(samples)
    return samples


def bench_pooch(work: Path, count: int, size: Size) -> Report:
    """Measure hits, which make pooch hash the file."""
    tables, aims = [], []
    own: dict[int, list[float]] = {}
    for length in (KIB, size.big):
        digest = random_file(work / "file.bin", length)
        rows: list[list[object]] = []
        for call, code in CALLS.items():
            samples = _pooch_rounds(code, work, "file.bin", digest, count)
            rows += hit_rows(samples, call)
            if call == "fetch":
                own[length] = [sample.call for sample in samples[OURS]]
                text = f"`Pooch.fetch`, a hit of {label(length)}, than pooch's"
                aims.append(times_faster(text, gain_of(samples, "pooch")))
        tables.append(
            table(f"`Pooch.fetch` and `retrieve`, hits of {label(length)}", COLUMNS, rows)
        )
    growth = ratio(own[size.big], own[KIB])
    aims.append(Aim(f"our `Pooch.fetch` of {label(size.big)} / of 1 KiB", growth, 1.5))
    return tables, aims


def bench_unpacked(work: Path, count: int, size: Size) -> Report:
    """Measure an archive that is unpacked already: pooch reads through it at each call."""
    digest = make_archive(work / "pack.tar.gz", 200, size.member)
    samples = _pooch_rounds(UNTAR, work, "pack.tar.gz", digest, count)
    title = f"`Pooch.fetch` with `Untar`, 200 files of {label(size.member)} unpacked before"
    aim = times_faster("`Pooch.fetch` with `Untar`, than pooch's", gain_of(samples, "pooch"))
    return [table(title, COLUMNS, hit_rows(samples))], [aim]


def make_archive(path: Path, members: int, length: int) -> str:
    """Write a compressed archive of random bytes and return its SHA-256."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number in range(members):
            info = tarfile.TarInfo(f"part{number % 10}/file{number:05d}.bin")
            info.size = length
            archive.addfile(info, io.BytesIO(os.urandom(length)))
    return sha256(path)


def bench_process(work: Path, count: int, size: Size) -> Report:
    """Measure whole processes that import and have one hit."""
    digest, url = random_file(work / "file.bin", KIB), f"{_URL}file.bin"
    (work / "source").write_bytes((work / "file.bin").read_bytes())
    python(FILL, work, url, work / "source")
    cases = {
        "download_file": {
            name: started(f"{code}{_CALL.format(url=url)}\ncall()\nreport()\n", work)
            for name, code in ASTROPY.items()
        },
        "Pooch.fetch": {
            name: started(head + "make().fetch(name)\nreport()\n", work, work, f"file.bin={digest}")
            for name, head in POOCH.items()
        },
    }
    rows: list[list[object]] = []
    aims = []
    for call, pair in cases.items():
        samples = rounds({"bare": started("report()", work), **pair}, 3 * count)
        extra = {name: over(samples[name], samples["bare"]) for name in pair}
        for name, found in extra.items():
            rows.append([f"{name}, {call}", ratio(found, extra[OURS]), median(found) * 1e3])
            if name != OURS:
                text = f"a process with one hit by `{call}`, than {name}'s"
                aims.append(times_faster(text, ratio(found, extra[OURS])))
    columns = ["case", "/ pkgdata", "ms over bare Python"]
    return [table("Import and one hit of 1 KiB, a whole process", columns, rows)], aims


# -- all -----------------------------------------------------------------------------------------

BENCHES: dict[str, Callable[[Path, int, Size], Report]] = {
    "astropy": bench_astropy,
    "pooch": bench_pooch,
    "unpacked": bench_unpacked,
    "process": bench_process,
}


def main() -> None:
    """Measure what is asked for and print the tables."""
    parser = argparse.ArgumentParser(
        description="Measure pkgdata as a replacement of other libraries."
    )
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--only", default=",".join(BENCHES), help="tables, separated by commas")
    parser.add_argument("--quick", action="store_true", help="smaller files; nothing is kept")
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
            size = QUICK if options.quick else FULL
            more, found = BENCHES[name](Path(folder), options.rounds, size)
        tables += more
        aims += found
    tables.append(aims_table(aims))
    text = "\n".join(["# In the place of other libraries\n", header(options.rounds), *tables])
    print(text)
    if not options.quick and set(names) == set(BENCHES):
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
