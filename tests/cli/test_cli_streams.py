"""Standard streams that are closed, break, or have an encoding that cannot say everything."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys

import pytest
from shells import ROOT, write

NAME = "ümläut-漢字.txt"

COMMANDS = [
    ("list",),
    ("list", "PKG"),
    ("list", "PKG", "--json"),
    ("where", "PKG", NAME),
    ("get", "PKG", NAME),
    ("get", "PKG", "none-漢"),
    ("fetch", "PKG"),
    ("fetch", "PKG", "--to", "out"),
    ("verify", "PKG"),
    ("cache", "ls"),
    ("cache", "prune", "--older-than", "0", "--dry-run"),
    ("cache", "clear"),
    ("config",),
    ("ci-key", "PKG"),
    ("cp", "site/ümläut-漢字.txt", "copy-漢.txt"),
    ("cp", "-r", "--dry-run", "site/", "there"),
    ("sync", "site/", "there", "--dry-run"),
    ("ls", "site/"),
    ("ls", "--json", "site/"),
    ("du", "site/"),
    ("rm", "-r", "site/", "--dry-run"),
    ("cat", "site/ümläut-漢字.txt"),
    ("registry", "make", "site"),
    ("publish", "site", "--to", "file:web", "--dry-run"),
    ("migrate", "--from", "pooch", "PKG"),
    ("dataset", "list"),
    ("catalog", "search"),
    ("completion", "bash"),
    ("--help",),
    ("fetch", "--help"),
    ("no-such-command-漢",),
]

#: Those of the fast tests: data, an error, a download, the parser's own words.
FEW = [("list", "PKG"), ("get", "PKG", "none-漢"), ("fetch", "PKG"), ("--help",)]
each_command = pytest.mark.parametrize(
    "words",
    [pytest.param(one, marks=[] if one in FEW else pytest.mark.slow) for one in COMMANDS],
    ids=" ".join,
)

ENCODINGS = {
    "a code page of Windows": {"PYTHONIOENCODING": "cp1252"},
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def make(tmp_path):
    """Make a package with a file whose name is not ASCII; its files lie near."""
    content = b"content"
    write(tmp_path / "site" / NAME, content)
    digest = hashlib.sha256(content).hexdigest()
    write(tmp_path / "pkg" / "registry.txt", f"{NAME} {digest}\n".encode())
    write(
        tmp_path / "pkg" / "pkgdata.toml",
        f'[package]\nname = "streams"\ndataurl = "{(tmp_path / "site").as_uri()}/"\n'.encode(),
    )
    return str(tmp_path / "pkg")


@pytest.fixture
def package(tmp_path):
    return make(tmp_path)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """Return a function that tells the exit code of a command with the usual streams."""
    package = make(tmp_path_factory.mktemp("usual"))
    return functools.cache(lambda words: run(words, package).returncode)


def run(words, package, *, shell="", env=(), **options):
    words = [package if word == "PKG" else word for word in words]
    command = [sys.executable, "-m", "pkgdata", *words]
    if shell:
        command = ["sh", "-c", f'"$@" {shell}', "sh", *command]
    done = subprocess.run(
        command,
        cwd=os.path.dirname(package),
        env={**os.environ, "PYTHONPATH": str(ROOT), **dict(env)},
        check=False,
        timeout=60,
        **{"stdin": subprocess.DEVNULL, "capture_output": True, **options},
    )
    for told in (done.stdout or b"", done.stderr or b""):
        assert b"Traceback" not in told, told.decode(errors="replace")
        assert b"Exception ignored" not in told, told.decode(errors="replace")
    return done


@pytest.mark.skipif(os.name == "nt", reason="locales of Linux and macOS")
@pytest.mark.parametrize("encoding", ENCODINGS)
@each_command
def test_any_encoding_will_do(words, encoding, package, usual):
    done = run(words, package, env=ENCODINGS[encoding])
    assert done.returncode in (0, 1, 2, 3)
    if encoding == "a code page of Windows":
        assert done.returncode == usual(words)
        told = (done.stdout + done.stderr).decode("cp1252" if words[0] != "cat" else "utf-8")
        assert "漢" not in told
    elif done.returncode == 1 and b"encoding of this locale" in done.stderr:
        assert b"PYTHONUTF8" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell's redirections")
@pytest.mark.parametrize("shell", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@each_command
def test_streams_that_are_closed(words, shell, package, usual):
    done = run(words, package, shell=shell)
    assert done.returncode == usual(words)
    if shell == "2>&-":
        assert b"pkgdata: error" not in done.stdout, "messages must not turn into data"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_output_that_cannot_be_written_is_an_error(package):
    with open("/dev/full", "wb") as full:
        done = run(
            ("list", "PKG"), package, stdout=full, stderr=subprocess.PIPE, capture_output=False
        )
    assert done.returncode == 1
    assert b"pkgdata: error: " in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a pipe of POSIX")
def test_work_goes_on_when_nobody_reads_the_messages(package):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(
            *(("fetch", "PKG", "--to", "out"), package),
            env={"PKGDATA_PROGRESS": "1"},
            stderr=writer,
            capture_output=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert os.listdir(os.path.join(os.path.dirname(package), "out", "streams")) == [NAME]
