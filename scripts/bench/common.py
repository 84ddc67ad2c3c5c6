"""What the benchmarks share: fresh processes, paired rounds, medians, tables, the machine.

The times of one case say little, since they depend on the machine and on what else it does. So the
cases of a table run one after another in each round, and what counts is the median over the rounds
of the ratio between two cases of the same round.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Sample(NamedTuple):
    """One run of one case: seconds of the whole process, of its processors, and of the call that
    it timed itself; peak memory in bytes; whatever else it reports."""

    wall: float
    cpu: float
    call: float
    rss: float
    facts: dict[str, Any]


#: Defines what a child prints as its last line. It imports nothing, as that would count in the
#: child's time. The peak is that of its own memory map: ``ru_maxrss`` would begin with the memory
#: of the process that started it.
REPORT = """
def report(**facts):
    try:
        with open("/proc/self/status") as status:
            peak = next(int(row.split()[1]) for row in status if row.startswith("VmHWM")) * 1024
    except OSError:
        peak = 0
    facts["rss"] = peak
    print("{" + ", ".join(f'"{key}": {value!r}' for key, value in facts.items()) + "}")
"""


def environment(work: Path) -> dict[str, str]:
    """Return variables that keep a child away from the user's files, settings and proxies."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PKGDATA_", "PYTHON", "XDG_")) and not key.lower().endswith("_proxy")
    }
    # byte code is written, as in an installed package, but not into this checkout
    return kept | {
        "HOME": str(work / "home"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(work / "packages")]),
        "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
    }


def run(argv: list[str], work: Path) -> Sample:
    """Run one fresh process to its end; its last line may be a report."""
    start = time.perf_counter()
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, cwd=work, env=environment(work), stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # the usage of this child and of its children
    wall = time.perf_counter() - start
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode} from {argv}")
    lines = text.splitlines()
    facts = json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else {}
    rss = facts.get("rss") or float("nan")
    cpu = usage.ru_utime + usage.ru_stime
    return Sample(wall, cpu, facts.get("call", wall), rss, facts)


def python(code: str, work: Path, *arguments: object) -> Sample:
    """Run code, which calls ``report``, in a fresh interpreter."""
    return run([sys.executable, "-c", REPORT + code, *map(str, arguments)], work)


def rounds(cases: dict[str, Callable[[], Sample]], count: int) -> dict[str, list[Sample]]:
    """Run all cases in each round, beginning with another one each time.

    One round more comes first and is dropped: it fills the page cache and writes byte code.
    """
    names = list(cases)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(count + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            sample = cases[name]()
            if number:
                samples[name].append(sample)
    return samples


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def ratio(above: Iterable[float], below: Iterable[float]) -> float:
    """Return the median over the rounds of the ratio within a round."""
    return median(a / b for a, b in zip(above, below, strict=True))


def over(samples: list[Sample], base: list[Sample]) -> list[float]:
    """Return the seconds of each round that a process took longer than the base."""
    return [one.wall - bare.wall for one, bare in zip(samples, base, strict=True)]


def table(title: str, columns: list[str], rows: list[list[object]], note: str = "") -> str:
    """Return a markdown section with one table."""
    lines = [f"## {title}", "", *([note, ""] if note else [])]
    lines += ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def header(count: int) -> str:
    """Return the versions and the machine, as a markdown list."""
    packages = ("pooch", "astropy", "platformdirs", "requests")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    openssl = _first_line(["openssl", "version"])
    sums = _first_line(["sha256sum", "--version"])
    return (
        f"- Python {platform.python_version()}, {versions}\n"
        f"- {openssl}; {sums}\n"
        f"- {platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores; "
        f"load average at the end {os.getloadavg()[0]:.1f}\n"
        f"- {time.strftime('%Y-%m-%d', time.gmtime())}, median of {count} rounds\n"
    )


def _first_line(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            rows = (row.partition(":") for row in file)
            return next(value.strip() for key, _, value in rows if key.strip() == "model name")
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"
