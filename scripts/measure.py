"""Count what the house promises about its own size, and print it as a table.

::

    python scripts/measure.py            # the table
    python scripts/measure.py --runs     # and where equal runs of code lines stand
    python scripts/measure.py --time     # and what one hit of a whole process costs

A code line is a line that holds code: no blank, no comment alone, no docstring.
"""

from __future__ import annotations

import argparse
import ast
import collections
import importlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
import tokenize
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pkgdata"
#: What the listing may hold without counting as a room.
PLAIN = {"__init__.py", "__init__.pyi", "__main__.py", "py.typed", "pkgdata.toml", "registry.txt"}
PLAIN |= {"data", "__pycache__"}
#: Equal runs of at least so many code lines are reported.
RUN = 6
#: Dialects mirror the class names of another library.
DIALECTS = "compat"


class Source(NamedTuple):
    """One module: path, text, tree, and its code, docstring and comment lines."""

    path: Path
    lines: list[str]
    tree: ast.Module
    code: list[int]
    docstrings: int
    comments: int


def holds_code(path: Path) -> bool:
    """Return False for a folder that only holds compiled leftovers of another version."""
    return path.is_file() or any(path.rglob("*.py"))


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that docstrings cover."""
    found: set[int] = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        value = body[0].value
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            found.update(range(body[0].lineno, (body[0].end_lineno or 0) + 1))
    return found


def read(path: Path) -> Source:
    """Return a module with its lines counted by kind."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    docstrings = docstring_lines(tree)
    code: set[int] = set()
    comments: set[int] = set()
    nothing = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in nothing:
            code.update(range(token.start[0], token.end[0] + 1))
    code -= docstrings
    return Source(
        path, text.splitlines(), tree, sorted(code), len(docstrings), len(comments - code)
    )


def function_lengths(source: Source) -> list[int]:
    """Return how many code lines each function has."""
    code = set(source.code)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        len(code & set(range(node.lineno, (node.end_lineno or 0) + 1)))
        for node in ast.walk(source.tree)
        if isinstance(node, kinds)
    ]


def two_meanings(sources: list[Source]) -> dict[str, list[str]]:
    """Return the class names that more than one module defines, dialects left out."""
    seen: dict[str, list[str]] = collections.defaultdict(list)
    for source in sources:
        where = source.path.relative_to(PACKAGE)
        if where.parts[0] == DIALECTS:
            continue
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef):
                seen[node.name].append(str(where))
    return {name: places for name, places in sorted(seen.items()) if len(places) > 1}


def comparable(source: Source) -> list[tuple[int, str]]:
    """Return the code lines of a module that say something, without imports."""
    imports: set[int] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imports.update(range(node.lineno, (node.end_lineno or 0) + 1))
    found = []
    for number in source.code:
        line = source.lines[number - 1].strip()
        if number not in imports and any(letter.isalnum() for letter in line):
            found.append((number, line))
    return found


def equal_runs(sources: list[Source]) -> list[tuple[int, list[str]]]:
    """Return the maximal runs of equal code lines: how long each is, and where it stands."""
    text = [(source.path, line) for source in sources for line in comparable(source)]
    windows: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
    for at in range(len(text) - RUN + 1):
        part = text[at : at + RUN]
        if part[0][0] == part[-1][0]:
            windows[tuple(line for _, (_, line) in part)].append(at)
    found: list[tuple[int, list[str]]] = []
    done: set[tuple[int, ...]] = set()
    for places in windows.values():
        if len(places) < 2:
            continue
        begins = tuple(place - 1 for place in places) not in done
        done.add(tuple(places))
        if not begins:
            continue
        length = RUN
        while len({text[min(at + length, len(text) - 1)][1][1] for at in places}) == 1:
            length += 1
        names = [f"{text[at][0].relative_to(ROOT)}:{text[at][1][0]}" for at in places]
        found.append((length, names))
    return sorted(found, reverse=True)


def drawing() -> tuple[int, int]:
    """Return how many circles there are among the modules, and arrows against the rows."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    layers = importlib.import_module("test_layers")

    against = sum(
        len(list(layers.violations(path.read_text("utf-8"), name, path.name == "__init__.py")))
        for name, path in layers.MODULES.items()
        if name != "pkgdata"
    )
    return len(layers.circles(layers.arrows())), against


def whole_process_hit(rounds: int = 21) -> float:
    """Return how many milliseconds a process that finds one cached file needs over bare Python."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "hitpkg")
        package.mkdir()
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc"
        Path(folder, "abc.txt").write_bytes(b"abc")
        Path(package, "registry.txt").write_text(f"abc.txt {digest}\n")
        Path(package, "__init__.py").write_text(
            f"import pkgdata\ndata = pkgdata.declare(__name__, dataurl={folder!r},"
            ' registry="registry.txt")\n'
        )
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(ROOT)])}
        env |= {"PKGDATA_CACHE_DIR": str(Path(folder, "cache")), "PKGDATA_PROGRESS": "0"}
        codes = ["pass", "import hitpkg; hitpkg.data.get('abc.txt')"]
        took: list[list[float]] = [[], []]
        for _ in range(rounds):
            for code, times in zip(codes, took, strict=True):
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", code], env=env, check=True)
                times.append(time.perf_counter() - began)
    bare, hit = (statistics.median(times[1:]) for times in took)  # the first hit downloads
    return (hit - bare) * 1000


def rows(sources: list[Source]) -> list[tuple[str, object, str]]:
    """Return the rows of the table: what, found, aim."""
    lengths = sorted(length for source in sources for length in function_lengths(source))
    circles, against = drawing()
    listing = [path for path in PACKAGE.iterdir() if path.name not in PLAIN and holds_code(path)]
    tenth = lengths[len(lengths) * 9 // 10]
    spread = f"{statistics.median(lengths):.0f}/{tenth}/{lengths[-1]}"
    return [
        ("entries in the listing of pkgdata/", len(listing), "15"),
        ("lines", sum(len(source.lines) for source in sources), "41,000"),
        ("code lines", sum(len(source.code) for source in sources), "25,200"),
        ("docstring lines", sum(source.docstrings for source in sources), ""),
        ("comment lines", sum(source.comments for source in sources), ""),
        ("modules", len(sources), "165"),
        ("files above 500 lines", sum(len(source.lines) > 500 for source in sources), "0"),
        ("code lines of a function, median/p90/longest", spread, "46"),
        ("circles among modules", circles, "0"),
        ("arrows against the rows", against, "0"),
        (f"runs of {RUN} or more equal code lines", len(equal_runs(sources)), "0"),
        ("class names with two meanings", len(two_meanings(sources)), "0"),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", action="store_true", help="list the equal runs and class names")
    parser.add_argument("--time", action="store_true", help="time a hit of a whole process too")
    chosen = parser.parse_args()
    sources = [read(path) for path in sorted(PACKAGE.rglob("*.py"))]
    table = rows(sources)
    if chosen.time:
        table.append(
            ("whole process with one hit, over bare Python, ms", f"{whole_process_hit():.1f}", "8")
        )
    print("| what | found | aim |\n| --- | --: | --: |")
    for what, found, aim in table:
        shown = f"{found:,}" if isinstance(found, int) else found
        print(f"| {what} | {shown} | {'≤ ' + aim if aim not in ('', '0') else aim} |")
    if chosen.runs:
        for length, names in equal_runs(sources):
            print(f"{length} lines: {', '.join(names)}")
        for name, places in two_meanings(sources).items():
            print(f"class {name}: {', '.join(places)}")
        for source in sources:
            if len(source.lines) > 500:
                print(f"{len(source.lines)} lines: {source.path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
