"""Commands that run in this process or in one of their own, and a server that can be held up."""

from __future__ import annotations

import http.server
import io
import os
import subprocess
import sys
from pathlib import Path

import pkgdata
from pkgdata import cli
from pkgdata.stores import Store

ROOT = Path(pkgdata.__file__).parent.parent

#: Names that careless joining or quoting spoils.
NAMES = [
    "a.txt",
    "sub/b c.txt",
    "sub/per%20cent.txt",
    "sub/plus+.txt",
    "sub/ümläut-漢字.txt",
    "sub/sharp#.txt",
    "-dash",
]


class Shell:
    """Runs commands in this process, in a folder of its own."""

    def __init__(self, capsysbinary, monkeypatch, home):
        self._captured, self._patch = capsysbinary, monkeypatch
        self.home = home
        self.out = self.err = ""
        self.raw = b""

    def __call__(self, *words, stdin=b""):
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        self._captured.readouterr()
        try:
            code = cli.main([str(word) for word in words])
        except SystemExit as end:  # argparse's own way to refuse
            code = end.code
        found = self._captured.readouterr()
        self.raw, self.out, self.err = found.out, found.out.decode(errors="replace"), ""
        self.err = found.err.decode()
        return code

    def lines(self, *words, **options):
        assert self(*words, **options) == 0, self.err
        return self.out.splitlines()


def parsers(parser=None):
    """Yield the parser of the command line and those of all its commands."""
    parser = parser or cli.parser()
    yield parser
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                yield from parsers(below)


def write(path, content=b"content"):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(folder):
    """Return the files of a folder with their bytes."""
    folder = Path(folder)
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stored(url):
    store = Store(url)
    return {name: store.get(name) for name in store.list()}


def fill(folder, names=NAMES):
    for name in names:
        write(Path(folder) / name, name.encode())
    return {name: name.encode() for name in names}


def command(*words, **options):
    """Start a command as a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pkgdata", *map(str, words)],
        env=env | options.pop("env", {}),
        stdin=options.pop("stdin", subprocess.PIPE),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        **options,
    )


def run(*words, given=b"", **options):
    process = command(*words, **options)
    out, err = process.communicate(given, timeout=60)
    return process.returncode, out or b"", err.decode()


def content_of(name):
    """Return what `Gate` serves; of the slow one so much that it is copied in blocks."""
    return f"/{name}".encode() * (4_000_000 if name == "slow" else 50_000)


class Gate(http.server.BaseHTTPRequestHandler):
    """Serves any name; of "slow" one half, and then next to nothing until it may go on."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        content = content_of(self.path[1:])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        at = len(content) // 2
        try:
            self.wfile.write(content[:at])
            if self.path == "/slow":
                self.server.reached.set()
                while not self.server.opened.wait(0.05):
                    self.wfile.write(content[at : at + 100])
                    at += 100
            self.wfile.write(content[at:])
        except OSError:
            pass  # the client is gone, which is what the tests are about


def urls(gate, *names):
    return "".join(f"http://127.0.0.1:{gate.server_port}/{name}\n" for name in names).encode()
