"""What the fuzzers share: arguments, a folder and settings of their own, the loop, the table."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

#: Runs a case, given the seed, its number, an empty folder and what is counted by kind; returns
#: what was found, in words.
Case = Callable[[int, int, Path, dict[str, Counter[str]]], str]


def run(about: str, case: Case, what: str, kinds: Iterable[str], columns: list[str]) -> int:
    """Run cases until the time is over; print the table and the findings; return the exit code."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="only this one")
    args = parser.parse_args()
    counts: dict[str, Counter[str]] = {name: Counter() for name in kinds}
    findings = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as top:
        cache = str(Path(top) / "cache")
        os.environ.update(PKGDATA_CACHE_DIR=cache, PKGDATA_CONFIG=os.devnull, HOME=top)
        warnings.simplefilter("ignore")
        number, end = args.case or 0, time.monotonic() + args.seconds
        while True:
            found = case(args.seed, number, Path(top), counts)
            findings += [found] if found else []
            number += 1
            if args.case is not None or time.monotonic() > end:
                break
    columns = ["tried", *columns]
    print(f"| {what} (seed {args.seed}) | {' | '.join(columns)} |")
    print("|" + " --- |" * (len(columns) + 1))
    for name, count in counts.items():
        print(f"| {name} | {' | '.join(str(count[column]) for column in columns)} |")
    print("\n".join(findings[:20]))
    return int(bool(findings))
