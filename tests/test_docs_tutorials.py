"""The tutorials of the docs work, word by word: each begins in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest

import pkgdata

TUTORIALS = Path(__file__).resolve().parent.parent / "docs" / "tutorials"

#: A paragraph that ends with a file's name and a colon, and the block below it; or a session.
STEP = re.compile(
    r"`(?P<file>[\w./]+)`[^`]*:\n\n```(?!console)\w+\n(?P<text>.*?)^```$|^```console\n(?P<session>.*?)^```$",
    re.M | re.S,
)


class Reader:
    """Someone who does what a page says, in a folder of their own."""

    def __init__(self, root: Path, programs: Path) -> None:
        self.folder = root / "work"
        (root / "home").mkdir(exist_ok=True)
        self.folder.mkdir()
        keep = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        self.env = {
            **keep,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(root / "home"),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip means: without
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        self.cwd, self.exports = str(self.folder), root / "exports"
        self.exports.touch()
        self.groups: list[int] = []

    def run(self, command: str) -> str:
        """Run a command as one shell would that is never left; return what it shows."""
        here = shlex.quote(str(self.exports))
        leave = f"code=$?\n(pwd; export -p) >{here}.new\nexit $code"
        child = subprocess.Popen(
            [
                "bash",
                "-c",
                f". {here}\n{command}\n{leave}",
            ],
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.groups.append(child.pid)
        shown, _ = child.communicate(timeout=120)
        assert child.returncode == 0, f"{command}\n{shown}"
        self.cwd, _, exported = Path(f"{self.exports}.new").read_text().partition("\n")
        self.exports.write_text(exported)
        return shown

    def follow(self, page: str, choose: int = 0) -> int:
        """Do all that a page says; of files of one name, write only the chosen one."""
        written: dict[str, list[str]] = {}
        for step in STEP.finditer(page):
            if step["file"]:
                written.setdefault(step["file"], []).append(step["text"])
        done = 0
        for step in STEP.finditer(page):
            if step["file"]:
                path = self.folder / step["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                texts = written[step["file"]]
                path.write_text(texts[choose % len(texts)])
                continue
            for part in re.split(r"^\$ ", step["session"], flags=re.M)[1:]:
                command, _, expected = part.partition("\n")
                if command != "pip install pkgdata-cache":  # it is, and nothing is downloaded
                    shown = self.run(command)
                    assert matches(expected, shown), f"$ {command}\n{shown}"
                    done += 1
        return done

    def close(self) -> None:
        """End what was started in the background."""
        for group in self.groups:
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass


def matches(expected: str, shown: str) -> bool:
    """Return True if a text is as told; ``[...]`` stands for anything, alone for any lines."""
    pattern = ".*".join(map(re.escape, expected.rstrip("\n").split("[...]")))
    return re.fullmatch(pattern, shown.rstrip("\n"), re.S) is not None


@pytest.fixture
def reader(tmp_path):
    """Someone with an environment in which pkgdata is installed."""
    programs = tmp_path / "venv" / "bin"
    venv.create(tmp_path / "venv", symlinks=True, with_pip=False)
    library = next((tmp_path / "venv" / "lib").iterdir()) / "site-packages"
    # what this Python has, pip and the build backends among it
    known = [str(Path(pkgdata.__file__).parent.parent)]
    for folder in filter(os.path.isdir, sys.path):
        if folder.endswith(("site-packages", "dist-packages")):
            known.append(f"import site; site.addsitedir({folder!r})")
    (library / "known.pth").write_text("\n".join(known) + "\n")
    for name, module in (("pkgdata", "pkgdata"), ("pip", "pip")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{programs}/python" -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    person = Reader(tmp_path, programs)
    yield person
    person.close()


def need(backend):
    """Skip a test if a wheel cannot be built with what is installed."""
    for module, least in ((backend, 70 if backend == "setuptools" else 1), ("pip", 1)):
        try:  # looking for pip as a module can warn, of what another test has loaded
            found = int(metadata.version(module).split(".")[0])
        except metadata.PackageNotFoundError:
            found = 0
        if found < least:
            pytest.skip(f"needs {module}: pip install -U {module}")


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="written for a POSIX shell"),
]


@pytest.mark.parametrize(("choose", "backend"), [(0, "hatchling"), (1, "setuptools")])
def test_the_author(reader, choose, backend):
    need(backend)
    page = (TUTORIALS / "author.md").read_text("utf-8")
    assert reader.follow(page, choose) > 10
    assert f'build-backend = "{backend}.' in (reader.folder / "pyproject.toml").read_text()


@pytest.mark.parametrize("backend", ["hatchling", "setuptools"])
def test_the_lines_of_the_readme(reader, backend):
    need(backend)
    text = (TUTORIALS.parents[1] / "README.md").read_text("utf-8")
    written = {step["file"]: step["text"] for step in STEP.finditer(text) if step["file"]}
    entry, shipped = (
        re.search(rf"^```toml\n(\[{table}.+?)^```", text, re.M | re.S)[1]
        for table in ("project", "tool")
    )
    project = f'[project]\nname = "mypkg"\nversion = "1.0"\n{entry}'
    if backend == "setuptools":
        project += (
            f'{shipped}[build-system]\nrequires = []\nbuild-backend = "setuptools.build_meta"\n'
        )
    else:
        project += '[build-system]\nrequires = []\nbuild-backend = "hatchling.build"\n'
    (reader.folder / "src/mypkg").mkdir(parents=True)
    for name in ("src/mypkg/pkgdata.toml", "src/mypkg/__init__.py"):
        (reader.folder / name).write_text(written[name])
    (reader.folder / "pyproject.toml").write_text(project)
    (reader.folder / "my-data").mkdir()
    (reader.folder / "my-data" / "map.fits").write_bytes(b"a map")
    (make,) = re.findall(r"^\$ (pkgdata registry make .+)$", text, re.M)
    reader.run(make)
    reader.run("pip wheel -q --no-deps -w dist . && pkgdata check dist/* && pip install -q dist/*")
    portal = "https://portal.example.org/mypkg/1.0/"
    reader.run(f"export PKGDATA_REWRITE={portal}={(reader.folder / 'my-data').as_uri()}/; cd /")
    (use,) = re.findall(r"^```python\n(import mypkg\n.+?)^```", text, re.M | re.S)
    assert reader.run(f"python -c {shlex.quote(use + 'print(content)')}").endswith("b'a map'\n")


def test_publishing(reader):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    page = (TUTORIALS / "publish.md").read_text("utf-8").replace("8765", str(port))
    assert reader.follow(page) > 10


def test_a_dataset(reader):
    assert reader.follow((TUTORIALS / "dataset.md").read_text("utf-8")) > 10


def test_what_is_told_is_compared():
    assert matches("a\n[...]\nb [...] c\n", "a\n1\n2\nb 3 c\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("[...]b\n", "a\n")
