"""``docs/howto/catalog.md``: the guide makes a repository that works, word by word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pkgdata
from pkgdata import catalog
from pkgdata.base import config
from pkgdata.testing import FaultServer

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "howto" / "catalog.md").read_text("utf-8")

#: A line that is nothing but a file's name, and the block below it.
FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)
BLOCK = r"^```{}\n(.*?)^```$"

STARS = b"name,mag\nSirius,-1.46\nCanopus,-0.74\n"


def matches(expected, found):
    """Say whether a line is as told, where ``[...]`` stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, expected.split("[...]"))), found) is not None


@pytest.fixture
def sky(tmp_path, monkeypatch):
    """Make the package of the guide, as ``pip install -e .`` would."""
    folder = tmp_path / "sky-datasets"
    files = FILE.findall(GUIDE)
    assert [name for name, _ in files] == [
        "pyproject.toml",
        "sky_datasets/__init__.py",
        "sky_datasets/types.py",
        "sky_datasets/config/org/example.py",
    ]
    for name, text in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    project = config.read(str(folder / "pyproject.toml"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    with FaultServer({"stars.csv": STARS}) as server:
        monkeypatch.setenv("PKGDATA_REWRITE", f"https://data.example.org/={server.url}")
        yield folder
    for name in [one for one in sys.modules if one.partition(".")[0] == "sky_datasets"]:
        del sys.modules[name]


def test_the_repository_of_the_guide_works(sky):
    (session,) = re.findall(BLOCK.format("console"), GUIDE, re.M | re.S)
    path = [str(sky), str(Path(pkgdata.__file__).parent.parent)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "NO_PROXY": "127.0.0.1"}
    commands = re.split(r"^\$ ", session, flags=re.M)[1:]
    assert len(commands) == 4
    for text in commands:
        command, *expected = text.rstrip("\n").split("\n")
        words = shlex.split(command)
        assert words[0] == "pkgdata"
        done = subprocess.run(
            [sys.executable, "-m", *words],
            env=env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        found = done.stdout.rstrip("\n").split("\n")
        assert len(found) == len(expected), done.stdout
        assert all(map(matches, expected, found)), done.stdout


def test_the_session_of_the_guide_works(sky):
    (session,) = re.findall(BLOCK.format("pycon"), GUIDE, re.M | re.S)
    lines = session.splitlines()
    names = {}
    for number, line in enumerate(lines):
        if line.startswith(">>> import"):
            exec(line[4:], names)
        elif line.startswith(">>> "):
            assert repr(eval(line[4:], names)) == lines[number + 1]
    assert "pkgdata" in names


def test_the_other_definitions_of_the_guide_load(sky):
    blocks = re.findall(BLOCK.format("python"), GUIDE, re.M | re.S)
    (as_class,) = (one for one in blocks if "class BrightStars" in one)
    (repository,) = (one for one in blocks if "class Sky(" in one)
    head = "from pkgdata.catalog import *\nfrom sky_datasets.types import Stars\n"
    (sky / "sky_datasets/config/org/other.py").write_text(head + as_class)
    found = catalog.Catalog()
    assert found.find("org.other.bright.stars").types[0] == "sky_datasets.types.Stars"
    init = sky / "sky_datasets/__init__.py"
    init.write_text(init.read_text() + repository)
    code = "import sky_datasets as s; print(s.Sky.instance().id, s.Sky.instance().description)"
    path = os.pathsep.join([str(sky), str(Path(pkgdata.__file__).parent.parent)])
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "sky Tables of stars\n"


def test_every_resource_and_command_of_the_guide_exists():
    table = GUIDE.split("| resource | is |")[1].split("\n\n")[0]
    for name in re.findall(r"`(\w+)[(`]", table):
        assert hasattr(catalog, name), name
    import argparse

    from pkgdata import cli

    def verbs(parser):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                return action.choices
        return {}

    block = GUIDE.split("## Command line")[1].split("```")[1]
    for verb in verbs(verbs(cli.parser())["catalog"]):
        assert re.search(rf"\b{verb}\b", block), verb
