"""What ``--json`` prints is what docs/reference/commands.md says of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from pathlib import Path

import pytest
from shells import parsers, write

from pkgdata.base import text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "commands.md"
TABLE = dict(re.findall(r"^\| `([a-z -]+(?: PKG)?)` \| (.*) \|$", PAGE.read_text("utf-8"), re.M))


def test_every_command_with_json_is_in_the_table():
    known = {
        one.prog.removeprefix("pkgdata ")
        for one in parsers()
        if "--json" in one._option_string_actions
    }
    assert known == {re.sub(" PKG$| --files$", "", command) for command in TABLE}


@pytest.fixture
def found(shell):
    """Return a function that runs a command on a small package and reads its JSON."""
    (shell.home / "pkg" / "mirror").mkdir(parents=True)
    (shell.home / "pkg" / "mirror" / "a.txt").write_bytes(b"a")
    digest = hashlib.sha256(b"a").hexdigest()
    (shell.home / "pkg" / "registry.txt").write_text(f"#: size=1\na.txt {digest}\n")
    toml = "[package]\nname = 'pkg'\ndataurl = 'mirror'\n"
    (shell.home / "pkg" / "pkgdata.toml").write_text(toml)

    def run(*words):
        assert shell(*words, "--json", "-q") in (0, 3), shell.err
        assert shell.err == ""
        return json.loads(shell.out)

    run("fetch", "./pkg")
    return run


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("where", ["./pkg", "a.txt"]),
        ("fetch", ["./pkg"]),
        ("list PKG", ["./pkg"]),
        ("registry check", ["./pkg/mirror", "./pkg/registry.txt"]),
        ("publish", ["pkg/mirror", "--to", "./web"]),
        ("check", ["./pkg"]),
        ("ls", ["pkg/mirror"]),
        ("du", ["pkg"]),
        ("cache ls", []),
        ("cache ls --files", []),
        ("cache rm", ["pkg", "--dry-run"]),
        ("cache prune", ["--older-than", "0", "--dry-run"]),
        ("cache du", []),
        ("doctor", ["./pkg"]),
        ("catalog search", []),
        ("catalog repositories", []),
    ],
)
def test_its_keys_are_those_of_the_table(found, command, words):
    value = found(*command.removesuffix(" PKG").split(), *words)
    line = TABLE[command]
    if line.startswith("as `"):
        line = TABLE[line.split("`")[1]]
    told = re.findall(r"`(\w+)`", line.partition("; with")[0].partition("; so")[0])
    one = value[0] if isinstance(value, list) and value else value or {}
    lists = [inner for inner in one.values() if isinstance(inner, list)]
    rows = [row for inner in lists for row in inner if isinstance(row, dict)]
    keys = {*one, *(key for row in rows for key in row)}
    assert keys <= {*told, "hosts"}
    if keys:
        optional = {"node", "ok", "note", "wrong"}
        assert set(told) - keys <= optional


def test_why_and_config_and_list_and_head(found, shell):
    path = found("where", "./pkg", "a.txt")[-2]["where"]
    why = found("cache", "why", path)
    assert list(why) == ["path", "what", "size", "used", "digest", "packages", "intact"]
    assert isinstance(why["used"], float)
    assert found("config", "retries") == {"retries": {"value": 4, "from": "default"}}
    assert set(found("list")["pkgdata"]) == {"files", "dataurl"}
    assert found("head", "pkg/mirror/a.txt")["pkg/mirror/a.txt"]["Content-Length"] == 1
    assert found("verify", "./pkg") == {"a.txt": "ok"}


def test_names_that_are_not_utf_8_are_valid_json(shell, monkeypatch):
    name = os.fsdecode(b"b\xe9.txt")  # as Latin-1 has it
    write(shell.home / "data" / name, b"1")
    write(shell.home / "data" / "ü\u202e\U0001f30d.txt", b"2")
    names = {name, "ü\u202e\U0001f30d.txt"}
    write(shell.home / "r.txt", b"")
    head = ["head", *(f"data/{one}" for one in names)]
    for words in (["ls", "data"], head, ["registry", "check", "data", "r.txt"]):
        assert shell(*words, "--json", "-q") in (0, 3), shell.err
        told = shell.raw.decode("utf-8", "strict")
        assert r"b\udce9.txt" in told
        assert r"ü\u202e" in told
        assert names <= {os.path.basename(one) for one in _texts(json.loads(told))}
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "latin-1"))
    text.json(sorted(names))
    sys.stdout.flush()
    assert set(json.loads(sys.stdout.buffer.getvalue().decode("ascii"))) == names


def _texts(value):
    if isinstance(value, dict):
        return [one for pair in value.items() for part in pair for one in _texts(part)]
    if isinstance(value, list):
        return [one for part in value for one in _texts(part)]
    return [value] if isinstance(value, str) else []
