"""The command line, told as stories: ``tests/cli/scripts/*.txt`` hold commands and what they print.

A line ``$ command`` runs a command in the story's own folder; the lines below it are what it
prints: standard output as it is, standard error behind ``! ``, an exit code but 0 behind ``? ``.
``[TMP]``, ``[URL]`` and ``[DATE]`` stand for what differs from run to run, ``[...]`` for any text
within a line.

Commands: ``pkgdata ...`` as a process of its own, with ``NAME=VALUE`` before it as environment;
``write FILE TEXT``, ``append FILE TEXT``, ``rm FILE``, ``copy FROM TO``, ``stop-server``.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pkgdata
from pkgdata import cli

pytestmark = pytest.mark.slow

STORIES = sorted((Path(__file__).parent / "scripts").glob("*.txt"))


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


class Stage:
    """The folder in which a story is told: a site, a server, and a package that declares it."""

    def __init__(self, root: Path):
        self.root = root
        site = root / "site"
        (site / "maps").mkdir(parents=True)
        (site / "stars.csv").write_text("name,mag\nSirius,-1.46\n")
        (site / "maps" / "dust map.fits").write_bytes(b"SIMPLE" + bytes(range(256)) * 100)
        handler = functools.partial(Handler, directory=str(site))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        package = root / "lib" / "starpkg"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
        (package / "pkgdata.toml").write_text(
            f'[package]\nname = "starpkg"\ndataurl = "{self.url}/"\nregistry = "registry.txt"\n'
        )
        info = root / "lib" / "starpkg-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: starpkg\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[pkgdata.packages]\nstarpkg = starpkg\n")
        path = [str(root / "lib"), os.environ.get("PYTHONPATH", "")]
        here = Path(__file__).resolve().parents[2]
        if Path(pkgdata.__file__).is_relative_to(here):
            path.insert(1, str(here))  # run from the checkout, not installed
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUTF8": "1",
            "COLUMNS": "100",
            "NO_PROXY": "127.0.0.1",
        }

    def close(self):
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()
            self.server = None

    def run(self, line: str) -> list[str]:
        words = shlex.split(line)
        env = dict(self.env)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            env[name] = value.replace("[TMP]", str(self.root))
        words = [word.replace("[TMP]", str(self.root)) for word in words]
        if words[0] == "pkgdata":
            return self.pkgdata(words[1:], env)
        getattr(self, "do_" + words[0].replace("-", "_"))(*words[1:])
        return []

    def do_write(self, file, text, mode="w"):
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as target:
            target.write(text.replace("\\n", "\n"))

    def do_append(self, file, text):
        self.do_write(file, text, "a")

    def do_rm(self, file):
        path = self.root / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def do_copy(self, source, target):
        (self.root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.root / source, self.root / target)

    def do_stop_server(self):
        self.close()

    def pkgdata(self, words, env) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "pkgdata", *words],
            env=env,
            cwd=self.root,
            capture_output=True,
            text=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        lines = done.stdout.splitlines() + [f"! {line}" for line in done.stderr.splitlines()]
        if done.returncode:
            lines.append(f"? {done.returncode}")
        return [self.mask(line) for line in lines]

    def mask(self, line: str) -> str:
        line = line.replace(str(self.root), "[TMP]").replace(self.url, "[URL]")
        line = line.replace("\\", "/") if os.name == "nt" else line
        return re.sub(r"\d{4}-\d\d-\d\d", "[DATE]", line)


def matches(expected: str, found: str) -> bool:
    pattern = ".*".join(map(re.escape, expected.split("[...]")))
    return re.fullmatch(pattern, found) is not None


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_story(story, tmp_path):
    stage = Stage(tmp_path / "stage")
    try:
        text = story.read_text("utf-8")
        lines = [line for line in text.splitlines() if not line.startswith("# ")]
        while lines:
            line = lines.pop(0)
            if not line.strip():
                continue
            assert line.startswith("$ "), f"expected a command, found {line!r}"
            found = stage.run(line[2:])
            expected = []
            while lines and lines[0].strip() and not lines[0].startswith("$ "):
                expected.append(lines.pop(0))
            good = len(found) == len(expected) and all(map(matches, expected, found))
            told = "\n".join([line, *found])
            assert good, f"{story.name}: expected\n" + "\n".join([line, *expected]) + f"\n\n{told}"
    finally:
        stage.close()


def test_there_are_stories():
    assert len(STORIES) >= 5


def test_output_into_a_closed_pipe_is_no_error(tmp_path):
    stage = Stage(tmp_path / "stage")
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "pkgdata", "config"],
            env=stage.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        child.stdout.close()
        assert child.stderr.read() == b""
        child.stderr.close()
        child.wait(30)
    finally:
        stage.close()


@pytest.mark.parametrize(
    ("before", "current", "offered"),
    [
        ([], "", ["cache", "completion", "config", "demo", "fetch", "get"]),
        ([], "ca", ["cache"]),
        (["cache"], "p", ["path", "prune"]),
        (["cache", "prune"], "--dry", ["--dry-run"]),
        (["completion"], "", ["bash", "fish", "zsh"]),
    ],
)
def test_completion_offers(before, current, offered):
    from pkgdata.cli.setup import candidates

    found = candidates(before, current)
    assert set(offered) <= set(found)
    assert all(word.startswith(current) for word in found)
    assert "complete-words" not in found


@pytest.mark.parametrize("module", cli.MODULES)
def test_each_command_is_in_the_module_that_is_loaded_for_it(module):
    for command in cli.MODULES[module]:
        (action,) = [a for a in cli.parser(command)._actions if a.dest == "command"]
        assert set(action.choices) == set(cli.MODULES[module])


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_the_completion_script():
    script = subprocess.run(
        [sys.executable, "-m", "pkgdata", "completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
