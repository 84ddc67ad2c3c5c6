"""How long a search of the catalog takes, over 10,000 definitions.

    python scripts/bench/catalog.py            # about two minutes
    python scripts/bench/catalog.py --quick    # 500 definitions; nothing is kept

The definitions lie in as many files as `--per-file` says, in one repository. Each case is a fresh
process; it uses no network. ``indexed`` is the daily case; ``changed`` the same after one file
changed; ``built`` without an index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from common import Aim, Sample, aims_table, environment, header, interpreter, median, run, table
from common import rounds as paired

RESULT = Path(__file__).parent / "results" / "catalog.md"

_HEAD = (
    "from pkgdata.catalog import Base, dataset, datatags, datatasks, filedownloader\n\n"
    "class Thing(Base):\n    pass\n"
)
_ONE = '''
@datatags("tag{tag}", "all")
@datatasks("task{task}")
@filedownloader("data.csv", "https://example.org/{name}.csv")
@dataset(Thing, url="https://example.org/{name}")
def {name}(data):
    """Dataset {name}.

    It is about this and that, in a few words.
    """
    return {{"path": data}}
'''

#: Times the search alone, in a process that does nothing else.
_SEARCH = """
import time
from pkgdata.catalog import Catalog
began = time.perf_counter()
found = Catalog().search("tag:tag7$", "task:task1", "repo:bench")
report(call=time.perf_counter() - began, found=len(found))
"""

_COMMAND = "import sys; from pkgdata.cli import main; sys.exit(main())"


def plugin(work: Path, count: int, per_file: int) -> Path:
    """Write a repository and return the folder of its definitions."""
    package = work / "packages" / "benchrepo"
    config = package / "config" / "org"
    config.mkdir(parents=True)
    (package / "__init__.py").write_text('"""Many datasets."""\n')
    info = work / "packages" / "benchrepo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: benchrepo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pkgdata.repositories]\nbench = benchrepo\n")
    for start in range(0, count, per_file):
        numbers = range(start, min(count, start + per_file))
        text = "".join(_ONE.format(name=f"n{n}", tag=n % 100, task=n % 10) for n in numbers)
        (config / f"file{start}.py").write_text(_HEAD + text)
    return config


def measure(work: Path, count: int, per_file: int, turns: int) -> tuple[list[object], float]:
    """Return a row of the table, and the seconds of the whole command with an index."""
    config = plugin(work, count, per_file)
    cache = work / "cache"
    env: Mapping[str, str] = {**environment(work), "PKGDATA_CACHE_DIR": str(cache)}
    search = interpreter(_SEARCH)
    command = [sys.executable, "-c", _COMMAND, "catalog", "search", "tag:tag7$", "task:task1"]

    def built() -> Sample:
        shutil.rmtree(cache, ignore_errors=True)
        return run(search, work, env)

    def changed() -> Sample:
        first = min(config.iterdir())
        found = first.stat()
        os.utime(first, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))
        return run(search, work, env)

    cases = {
        "indexed": lambda: run(search, work, env),
        "command": lambda: run([*command], work, env),
        "changed": changed,
    }
    slow = [built() for _ in range(2)]
    samples = paired(cases, turns)
    whole = median(sample.wall for sample in samples["command"])
    calls = [median(sample.call for sample in samples[name]) for name in ("indexed", "changed")]
    row: list[object] = [f"{count:,} in {-(-count // per_file):,} files", *calls, whole]
    return [*row, median(sample.call for sample in slow)], whole


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure searches of the catalog.")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--per-file", type=int, nargs="+", default=[100, 1], metavar="N")
    parser.add_argument("--quick", action="store_true", help="500 definitions; nothing is kept")
    options = parser.parse_args()
    count = 500 if options.quick else 10_000
    rows, aims = [], []
    for per_file in options.per_file:
        with tempfile.TemporaryDirectory(prefix="pkgdata-bench-") as folder:
            print(f"measuring {per_file} in a file", file=sys.stderr, flush=True)
            row, whole = measure(Path(folder), count, per_file, options.rounds)
        rows.append(row)
        aims.append(Aim(f"{row[0]}: seconds of the whole command", whole, 0.5))
    columns = [
        "definitions",
        "indexed, s",
        "one file changed, s",
        "whole command, s",
        "no index, s",
    ]
    note = "`Catalog().search(...)` alone, then `pkgdata catalog search ...` with all of its start."
    head = header(options.rounds, ("requests", "platformdirs"), (("uname", "-sr"),))
    text = "\n".join(
        [
            "# Searches of the catalog\n",
            head,
            table("Search", columns, rows, note),
            aims_table(aims),
        ]
    )
    print(text)
    if not options.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
