"""What is documented exists, and what exists is documented."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pkgdata
from pkgdata import cli
from pkgdata.base import config

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text("utf-8")
    for path in sorted((ROOT / "docs").rglob("*.md"))
}


def verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action.choices, dict):
            return dict(action.choices)
    return {}


def test_every_command_is_in_the_readme():
    block = README.split("## Command line")[1].split("## Settings")[0]
    for name in verbs(cli.parser()):
        if name != "complete-words":  # what the completion scripts call
            assert f"pkgdata {name}" in block, name


def test_every_command_of_the_readme_exists():
    known = verbs(cli.parser())
    for line in re.findall(r"^(?:\$ )?pkgdata ([a-z-]+)(?: ([a-z|]+))?", README, flags=re.M):
        name, verb = line
        if name in known and verb:
            below = verbs(known[name])
            if below:
                assert set(verb.split("|")) <= set(below), line


def test_names_in_the_readme_are_public():
    for name in set(re.findall(r"pkgdata\.(\w+)[(.`]", README)) - {"toml", "txt"}:
        assert hasattr(pkgdata, name) or find_spec(f"pkgdata.{name}"), name


def test_links_of_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            if (ROOT / "scripts").is_dir() or "scripts" not in target:
                assert (page.parent / target).exists(), (page.name, target)


def test_tests_that_the_readme_names_exist():
    for name in re.findall(r"`(test_\w+\.py)`", README):
        assert list((ROOT / "tests").rglob(name)), name


def test_the_changelog_knows_the_version():
    assert f"## {pkgdata.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


TROUBLE = DOCS["troubleshooting.md"]


def literals() -> str:
    """Return all texts of the package's code but docstrings, those of f-strings in pieces."""
    found = []
    for path in Path(pkgdata.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in docs:
                found.append(str(node.value))
    return "\n".join(found)


def test_what_troubleshooting_quotes_is_a_message_or_a_title():
    code = literals()
    titles = re.findall(r"^### (.+)$", TROUBLE, flags=re.M)
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", TROUBLE, flags=re.S)
    for quoted in re.findall(r'"([^"]+)"', prose):
        message = " ".join(quoted.split())
        if message not in titles:
            assert all(part.strip() in code for part in message.split("…")), message


def test_commands_of_troubleshooting_can_be_parsed():
    lines = re.findall(r"^\$ (?:[A-Z_]+=\S+ )?(pkgdata .+)$", TROUBLE, flags=re.M)
    lines += [line for line in re.findall(r"`(pkgdata \S[^`]+)`", TROUBLE) if line.count(" ") > 2]
    assert len(lines) > 20
    for line in lines:
        cli.parser().parse_args(shlex.split(line, comments=True)[1:])


def test_variables_of_troubleshooting_are_settings():
    for name in re.findall(r"PKGDATA_([A-Z_]+)", TROUBLE):
        assert name.lower() in config.FIELDS or name == "CONFIG", name
