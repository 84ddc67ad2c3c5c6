"""Measure pkgdata in the place of the libraries whose names it offers, and write the tables.

    python scripts/bench/dialects.py [--rounds N] [--only astropy] [--quick]

Needs ``pip install -e '.[bench]'``. No network is used: the caches are filled from files. A further
dialect is one more function in `BENCHES`.
"""

from __future__ import annotations

import argparse
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
    python,
    random_file,
    ratio,
    rounds,
    table,
)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RESULT = Path(__file__).resolve().parent / "results" / "dialects.md"

Report = tuple[list[str], list[Aim]]


class Size(NamedTuple):
    """How much is measured."""

    big: int  # bytes of the large file that is hit


FULL = Size(GIB)
QUICK = Size(16 * MIB)

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


def label(length: int) -> str:
    """Return a length in words."""
    if length >= GIB:
        return f"{length // GIB} GiB"
    return f"{length // MIB} MiB" if length >= MIB else f"{length // KIB} KiB"


def hit_rows(samples: dict[str, list[Sample]], base: str) -> list[list[object]]:
    """Return the rows of a table of hits; each is set against one of the cases."""
    own = [sample.call for sample in samples[base]]
    return [
        [
            name,
            ratio([sample.call for sample in found], own),
            median(sample.facts["times"] for sample in found),
            median(sample.call for sample in found) * 1e6,
            median(sample.facts["stat"] for sample in found) * 1e6,
            median(sample.rss for sample in found) / MIB,
        ]
        for name, found in samples.items()
    ]


# -- astropy -------------------------------------------------------------------------------------

_URL = "http://127.0.0.1:9/"
_CALL = "call = lambda: download_file({url!r}, cache=True, show_progress=False)"
ASTROPY = {
    "pkgdata": "from pkgdata import download_file\n",
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
    columns = ["case", "/ pkgdata", "/ os.stat", "µs a call", "µs os.stat", "rss MB"]
    for length in (KIB, size.big):
        url = f"{_URL}{length}.bin"
        random_file(work / "source", length)
        python(FILL, work, url, work / "source")
        cases = {name: _hit(code, url, work) for name, code in ASTROPY.items()}
        samples = rounds(cases, count)
        check_same(samples)
        title = f"download_file(url, cache=True), a hit of {label(length)}"
        tables.append(table(title, columns, hit_rows(samples, "pkgdata")))
        calls = {name: [sample.call for sample in found] for name, found in samples.items()}
        faster = ratio(calls["astropy"], calls["pkgdata"])
        aims.append(Aim(f"{title}: times faster than astropy's", faster, 3, at_least=True))
    return tables, aims


def _hit(code: str, url: str, work: Path) -> Callable[[], Sample]:
    return lambda: python(code + _CALL.format(url=url) + TIME_CALL, work)


def check_same(samples: dict[str, list[Sample]]) -> None:
    """Make sure that all cases gave the same file: a fast wrong answer is none."""
    files = {sample.facts["file"] for found in samples.values() for sample in found}
    if len(files) != 1:
        raise RuntimeError(f"the cases gave different files: {files}")


# -- all -----------------------------------------------------------------------------------------

BENCHES: dict[str, Callable[[Path, int, Size], Report]] = {"astropy": bench_astropy}


def main() -> None:
    """Measure what is asked for and print the tables."""
    parser = argparse.ArgumentParser(description="Measure pkgdata in the place of other libraries.")
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
