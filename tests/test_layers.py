"""The drawing of the architecture holds, and importing the package costs next to nothing.

Imports of every kind count: at the top of a module, inside a function, and for type checkers alone.
They point down the rows of folders, and no module reaches itself through them.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pkgdata

ROOT = Path(pkgdata.__file__).parent

#: The rows of folders, top row first; docs/explanation/architecture.md says why each is there.
DRAWING = """
__main__
cli
dask
compat
catalog publish datasets testing
core
transfer bulk
stores cache
cluster
base
errors
"""
ROWS = [row.split() for row in DRAWING.strip().splitlines()]
LEVEL = {part: len(ROWS) - number for number, row in enumerate(ROWS) for part in row}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def part_of(module):
    """Return the folder or top module that a module belongs to; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def targets(node, module, is_package):
    """Yield the modules of pkgdata that an import statement loads."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "pkgdata")
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            here = module.split(".")
            up = here[: len(here) - node.level + bool(is_package)]
            base = ".".join([*up, *filter(None, [node.module])])
        if base.split(".")[0] == "pkgdata":
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base


def imports(source, module, is_package):
    for node in ast.walk(ast.parse(source)):
        for target in targets(node, module, is_package):
            yield node.lineno, target


def violations(source, module, is_package):
    here = part_of(module)
    for line, target in imports(source, module, is_package):
        there = part_of(target)
        if there in ("", here):  # the package itself holds the version and lazy names alone
            continue
        if there not in LEVEL:
            yield f"{module}, line {line}: {there} has no place in the drawing"
        elif LEVEL[there] >= LEVEL[here]:
            yield f"{module}, line {line}: {here} imports {there}, which is not below it"


def arrows():
    """Return for each module the modules that it imports; the package itself left out."""
    found = {}
    for name, path in MODULES.items():
        source = path.read_text(encoding="utf-8")
        reached = {target for _, target in imports(source, name, path.name == "__init__.py")}
        found[name] = sorted((reached & MODULES.keys()) - {name, "pkgdata"})
    return found


def circles(graph):
    """Return the groups of modules that reach one another (Tarjan's strongly connected parts)."""
    number, low, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in graph[node]:
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            at = stack.index(node)
            group = sorted(stack[at:])
            del stack[at:]
            if len(group) > 1:
                found.append(group)

    for node in graph:
        if node not in number:
            visit(node)
    return found


@pytest.mark.parametrize("module", [name for name in MODULES if name != "pkgdata"])
def test_imports_point_down_the_rows(module):
    assert part_of(module) in LEVEL, f"{module} has no place in the drawing of {__file__}"
    path = MODULES[module]
    source = path.read_text(encoding="utf-8")
    broken = list(violations(source, module, path.name == "__init__.py"))
    assert not broken, "these imports break the drawing:\n" + "\n".join(broken)


def test_no_module_reaches_itself():
    assert circles(arrows()) == []


def test_this_test_notices_circles():
    graph = {"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": []}
    assert circles(graph) == [["b", "c"]]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ..core import package", "imports core"),
        ("def f():\n    from ..transfer.fetch import Mirrors", "imports transfer"),
        ("import pkgdata.dask", "imports dask"),
        ("from pkgdata.core.batch import Batch", "imports core"),
        ("from .. import stores", "imports stores"),  # of the same row
        ("from ..nowhere import x", "nowhere has no place"),
        ("if TYPE_CHECKING:\n    from ..core.package import P", "imports core"),
        ("class A:\n    try:\n        from .. import cli\n    except E: pass", "imports cli"),
    ],
)
def test_this_test_notices_a_broken_drawing(source, found):
    (problem,) = violations(source, "pkgdata.cache.objects", False)
    assert problem.startswith("pkgdata.cache.objects, line ")
    assert found in problem


def test_this_test_accepts_what_the_drawing_allows():
    source = (
        "from ..base import fs, hashes\nfrom .partial import Partial\nfrom .. import __version__\n"
        "import os\nfrom collections import abc\nfrom ..errors import CacheError\n"
    )
    assert list(violations(source, "pkgdata.cache.objects", False)) == []
    assert list(violations("from .base import Store", "pkgdata.stores", True)) == []


def test_the_package_itself_imports_nothing():
    source = (ROOT / "__init__.py").read_text(encoding="utf-8")
    names = {ast.unparse(node) for node in ast.parse(source).body if isinstance(node, ast.Import)}
    assert names == set()
    assert list(imports(source, "pkgdata", True)) == []


# -- what an import costs --------------------------------------------------------------------

HEAVY = {
    "asyncio",
    "collections.abc",
    "filelock",
    "hashlib",
    "importlib.metadata",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "platformdirs",
    "pooch",
    "re",
    "requests",
    "shutil",
    "socket",
    "tempfile",
    "threading",
    "tomllib",
    "tqdm",
    "typing",
    "urllib.parse",
    "urllib3",
}


def loaded(code, *flags):
    """Return the modules that a fresh process has loaded after some code."""
    done = subprocess.run(
        [sys.executable, *flags, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def bare():
    """Return what Python itself loads, start-up files of installed packages left out."""
    return loaded("", "-S")


def test_importing_the_package_loads_it_alone(bare):
    assert loaded("import pkgdata", "-S") - bare <= {"pkgdata", "__future__"}


@pytest.mark.parametrize(
    "code",
    [
        "import pkgdata; dir(pkgdata), pkgdata.__version__, pkgdata.__all__",
        "import pkgdata; pkgdata.OfflineError, pkgdata.FolderWarning, pkgdata.Digest",
        "import pkgdata; pkgdata.Registry.parse('a ' + '0' * 64)['a'].digest",
        "import pkgdata; pkgdata.PackageData('x', dataurl='https://h/', registry={'a': None})",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_used(bare, code):
    assert (loaded(code, "-S") - bare) & HEAVY == set()


@pytest.mark.parametrize("module", ["requests", "tqdm", "pooch", "filelock"])
def test_no_module_loads_a_dependency_when_it_is_imported(module):
    names = [
        name
        for name in MODULES
        if part_of(name) not in ("cli", "__main__") and name != "pkgdata.stores.http"
    ]
    found = loaded("".join(f"import {name}\n" for name in names))
    assert not {name for name in found if name.partition(".")[0] == module}


def test_a_hit_loads_no_library_of_the_network(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_bytes(b"a")
    code = (
        "import hashlib, pkgdata\n"
        "data = pkgdata.declare('hit', dataurl='https://example.org/', verify='once',\n"
        "    registry={'a.txt': hashlib.sha256(b'a').hexdigest()},\n"
        f"    folders=[{str(tmp_path / 'folder')!r}])\n"
        "assert data.get('a.txt') == data.get('a.txt')\n"
    )
    found = {name.partition(".")[0] for name in loaded(code)}
    assert found.isdisjoint(
        {"requests", "urllib3", "http", "ssl", "filelock", "tqdm", "pooch", "asyncio", "logging"}
    )


def test_no_two_test_files_have_one_name():
    """Pytest imports them by their names alone, and would collect neither."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert {name for name in names if names.count(name) > 1} == set()
