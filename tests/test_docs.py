"""What is documented exists, and what exists is documented."""

from __future__ import annotations

import argparse
import ast
import doctest
import importlib
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import ANY

import pytest

import pkgdata
from pkgdata import cli
from pkgdata.base import config

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(pkgdata.__file__).parent
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


def commands_of(text: str) -> list[str]:
    """Return the commands of a page: those after a prompt, and those in text with arguments."""
    found = re.findall(r"^\$ (?:[A-Z_]+=\S+ )*(pkgdata .+)$", text, flags=re.M)
    found += re.findall(r"^\$ .+\| (pkgdata .+)$", text, flags=re.M)
    return [
        *found,
        *(one for one in re.findall(r"`(pkgdata \S[^`]+)`", text) if one.count(" ") > 2),
    ]


@pytest.mark.parametrize("page", ["README.md", *DOCS])
def test_commands_can_be_parsed(page):
    text = README if page == "README.md" else DOCS[page]
    for line in commands_of(text):
        words = shlex.split(line, comments=True)
        end = next((n for n, word in enumerate(words) if word in ("|", "||", "&&", "&", ">")), None)
        if "VERB" not in words and "…" not in line:
            cli.parser().parse_args(words[1:end])


def test_there_are_commands_to_parse():
    assert len(commands_of(DOCS["troubleshooting.md"])) > 20
    assert len(commands_of(README)) > 4


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_picture_shows_the_demo():
    picture = (ROOT / "docs" / "_static" / "demo.svg").read_text("utf-8")
    demo = (Path(pkgdata.__file__).parent / "cli" / "demo.py").read_text("utf-8")
    titles = re.findall(r'demo\.step\("(.+?)"', demo)
    assert titles
    assert all(f">{title} " in picture for title in titles)


@pytest.mark.parametrize("page", [name for name, text in DOCS.items() if "```pycon" in text])
def test_examples_run(page, tmp_path, monkeypatch):
    if page == "howto/catalog.md":
        pytest.skip("run with the repository that the page makes: tests/catalog")
    monkeypatch.chdir(tmp_path)
    examples = "".join(re.findall(r"^```pycon\n(.*?)^```$", DOCS[page], flags=re.M | re.S))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(examples, {}, page, page, 0)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(test, out=told.append)
    assert test.examples
    assert not told, "".join(told)


DOCSTRINGS = [
    path.relative_to(PACKAGE.parent).with_suffix("")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", DOCSTRINGS, ids=str)
def test_examples_of_docstrings_run(path):
    if path.stem == "fsspec" and find_spec("fsspec") is None:
        pytest.skip("needs fsspec: pip install fsspec")
    module = importlib.import_module(".".join(path.parts).removesuffix(".__init__"))
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS) == (0, ANY)


@pytest.mark.parametrize("page", ["README.md", *(one for one in DOCS if "decisions" not in one)])
def test_names_of_a_page_are_public(page):
    text = README if page == "README.md" else DOCS[page]
    for name in set(re.findall(r"\bpkgdata\.(\w+)[(.`]", text)) - {"toml", "txt"}:
        assert hasattr(pkgdata, name) or find_spec(f"pkgdata.{name}"), name


def test_links_of_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            if (ROOT / "scripts").is_dir() or "scripts" not in target:
                assert (page.parent / target).exists(), (page.name, target)


def test_tests_that_a_page_names_exist():
    for page in (README, *DOCS.values()):
        for name in re.findall(r"`(?:tests/\S+/)?(test_\w+\.py)`", page):
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


def test_variables_of_troubleshooting_are_settings():
    for name in re.findall(r"PKGDATA_([A-Z_]+)", TROUBLE):
        assert name.lower() in config.FIELDS or name == "CONFIG", name
