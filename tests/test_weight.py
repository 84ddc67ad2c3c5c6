"""Without its dependencies (pip install --no-deps) the package serves what needs no network."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pkgdata

CHECKOUT = Path(pkgdata.__file__).parent.parent

#: What pyproject.toml names, and what that needs.
DEPENDENCIES = (
    "filelock", "pathspec", "platformdirs", "pooch", "requests", "tqdm", "urllib3",
    "brotli", "certifi", "charset_normalizer", "idna", "obstore", "xxhash", "zstandard",
)  # fmt: skip

#: Makes them as if they were not installed.
BARE = f"""
import sys
for name in {DEPENDENCIES!r}:
    sys.modules[name] = None
"""

CONTENT = b"a,b\n1,2\n"

SERVES = """
import os, sys
import pkgdata

data = pkgdata.declare("bare")
path = data.get("a.csv")                       # a file: mirror
assert data.get("a.csv") == path               # a hit
assert os.environ["PKGDATA_CACHE_DIR"] in path
with data.open("a.csv") as file:
    assert file.read() == b"a,b\\n1,2\\n"
assert data.verify() == {"a.csv": "ok", "sub/b.csv": "absent"}
report = data.fetch(to="out", progress=True)
assert report.succeeded.keys() == {"a.csv", "sub/b.csv"}
os.environ["PKGDATA_CACHE_DIR"] = os.devnull   # folders need no cache
os.environ["PKGDATA_FOLDERS"] = os.path.abspath("out")
there = pkgdata.declare("bare").get("sub/b.csv")
assert there == os.path.abspath(os.path.join("out", "bare", "sub", "b.csv")), there
assert pkgdata.get_pkg_data_filename("a.csv", package="bare").startswith(os.path.abspath("out"))
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module}
print("served")
"""

ASKS = """
import pkgdata
from pkgdata.errors import MissingExtraError

digests = {"a": "0" * 64, "b": "1" * 64}
data = pkgdata.declare("web", dataurl="https://127.0.0.1:9/", registry=digests)
try:
    data.get("a")
except MissingExtraError as error:
    print(error)
try:
    data.fetch()
except pkgdata.BatchError as error:
    print({type(one).__name__ for one in error.report.failed.values()}, error)
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("a.csv", "sub/b.csv"):
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
    package = tmp_path / "bare"
    package.mkdir()
    digest = hashlib.sha256(CONTENT).hexdigest()
    (package / "__init__.py").write_text("")
    (package / "registry.txt").write_text(f"a.csv {digest}\nsub/b.csv {digest}\n")
    url = (tmp_path / "site").as_uri()
    (package / "pkgdata.toml").write_text(f'[package]\nname = "bare"\ndataurl = "{url}/"\n')
    return tmp_path


def run(folder, code, python=sys.executable, path=CHECKOUT):
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PKGDATA_")},
        "PKGDATA_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), path and str(path)])),
        "PYTHONWARNINGS": "error",
    }
    words = [python, "-c", code]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


needs_toml = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 needs tomli for TOML"
)


@needs_toml
def test_hits_folders_and_mirrors_of_files_need_nothing(folder):
    done = run(folder, BARE + SERVES)
    assert done.stdout == "served\n"
    assert "Traceback" not in done.stderr


def test_http_says_what_is_missing(folder):
    done = run(folder, BARE + ASKS)
    assert "http needs the package requests, which is not installed" in done.stdout
    assert "pip install requests" in done.stdout
    assert "{'MissingExtraError'}" in done.stdout


@needs_toml
@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_the_one_that_is_needed_is_named(folder, platform):
    code = f"""
import sys
import pkgdata
from pkgdata.base import config
from pkgdata.errors import MissingExtraError

sys.platform = {platform!r}
for action in (lambda: pkgdata.declare("bare").get("a.csv"), config.user_cache):
    try:
        action()
    except MissingExtraError as error:
        print(error)
"""
    done = run(folder, BARE + code)
    named = "finding the folders of a user needs the package platformdirs, which is not installed"
    assert done.stdout.count(named) == 2
    assert done.stdout.count("pip install platformdirs") == 2


@needs_toml
def test_another_mirror_helps(folder):
    toml = folder / "bare" / "pkgdata.toml"
    toml.write_text(
        re.sub(r'dataurl = (".*")', r'dataurl = ["https://127.0.0.1:9/", \1]', toml.read_text())
    )
    assert run(folder, BARE + SERVES).stdout == "served\n"


def test_patterns_and_the_command_line_say_what_is_missing(folder):
    code = "import pkgdata.cli, sys\nsys.exit(pkgdata.cli.main(['registry', 'make', 'site']) != 1)"
    done = run(folder, BARE + code)
    assert "needs the package pathspec, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr


@needs_toml
def test_the_command_line_serves_too(folder):
    code = "import pkgdata.cli, sys\nsys.exit(pkgdata.cli.main(['get', './bare', 'a.csv']))"
    path = run(folder, BARE + code).stdout.strip()
    assert Path(path).read_bytes() == CONTENT


@pytest.mark.integration
@needs_toml
def test_the_wheel_without_its_dependencies(folder):
    root = Path(__file__).parent.parent
    if not (root / "pkgdata" / "__init__.py").exists():
        pytest.skip("there is no checkout to build a wheel from")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    built = folder / "dist"
    words = ["wheel", "--no-deps", "-w", built, root]
    if importlib.util.find_spec("hatchling"):
        words.append("--no-build-isolation")
    subprocess.run([*pip, *map(str, words)], check=True)
    (wheel,) = built.iterdir()
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    words = ["-m", "pip", "-q", "install", "--no-deps", "--no-index", wheel]
    subprocess.run([python, *map(str, words)], check=True)
    assert run(folder, SERVES, str(python), None).stdout == "served\n"
    assert "needs the package requests" in run(folder, ASKS, str(python), None).stdout
