"""The documentation site builds without a warning, and has every public name, command and key."""

from __future__ import annotations

import argparse
import builtins
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pkgdata
from pkgdata import cli, errors
from pkgdata.base import config
from pkgdata.core import declaration

DOCS = Path(__file__).resolve().parent.parent / "docs"
SPEC = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
generated = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generated)

NAMES = [(m, n) for m in generated.MODULES for n in importlib.import_module(m).__all__]


def page(name):
    """Return a page of the reference with its comments replaced, as Sphinx reads it."""
    return generated.filled((DOCS / "reference" / name).read_text("utf-8"))


@pytest.fixture(scope="module")
def reference():
    return "\n".join(page(path.name) for path in (DOCS / "reference").glob("*.md"))


def test_every_public_name_has_its_entry(reference):
    entries = re.findall(r"^\.\. (?:auto|py:)\w+:: ([\w.]+)$", reference, re.M)
    assert sorted(entries) == sorted(f"{module}.{name}" for module, name in NAMES)


def commands(parser, words=("pkgdata",)):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield " ".join([*words, name])
                yield from commands(child, (*words, name))


def test_every_command_and_option_has_its_entry():
    text = page("commands.md")
    sections = dict(re.findall(r"^#+ (pkgdata .+?)\n(.*?)(?=^\(|\Z)", text, re.M | re.S))
    known = list(commands(cli.parser()))
    assert sorted(sections) == sorted(set(known) - {"pkgdata complete-words"})
    for words, sentence, parser in generated.parsers(cli.parser()):
        assert sentence, f"{words} has no sentence"
        for action in parser._actions:
            if action.help != argparse.SUPPRESS:
                once = action.dest in generated.EVERYWHERE
                for option in action.option_strings:
                    assert option in (text if once else sections[words]), (words, option)


def test_every_setting_has_its_entry():
    rows = re.findall(r"^\| \[`(\w+)`\]\{#setting-[\w-]+\} \| (.+)$", page("settings.md"), re.M)
    assert [name for name, _ in rows] == list(config.FIELDS)
    for name, row in rows:
        assert generated.literal(config.FIELDS[name].meaning) in row


@pytest.mark.parametrize("table", declaration.TABLES)
def test_every_key_of_the_declaration_has_its_entry(table):
    section = page("pkgdata-toml.md").split(f"## `[{table}]`\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == list(declaration.TABLES[table])


def test_every_error_says_when():
    rows = re.findall(r"^\| `(\w+)` \|(?: (?:`(\w+)`)? ?\|)? .{10,}\|$", page("errors.md"), re.M)
    known = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, (errors.PkgdataError, Warning))
    ]
    assert [name for name, _ in rows] == [name for name in known if name != "PkgdataError"]
    for name, builtin in rows:
        if builtin:
            assert issubclass(getattr(errors, name), getattr(builtins, builtin))


def test_text_of_parsers_is_shown_as_it_is():
    assert generated.literal("a *b*  <c>\n[d] `e`") == r"a \*b\* \<c\> \[d\] \`e\`"


def test_dead_links_are_found(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.html").write_text(
        '<a id="here" href="#here"><a href="b/c.html#there"><img src="https://example.org/x.png">'
        '<a href="#gone"><a href="b/c.html#gone"><img src="no.png"><a href="b/c.html?q=1">'
    )
    (tmp_path / "b" / "c.html").write_text('<p id="there"><a href="../a.html">')
    found = list(generated.dead_links(tmp_path))
    assert found == ["a.html: #gone", "a.html: b/c.html#gone", "a.html: no.png"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site, or take the one that PKGDATA_SITE names."""
    built = os.environ.get("PKGDATA_SITE")
    if built:
        return Path(built)
    if importlib.util.find_spec("pydata_sphinx_theme") is None:
        pytest.skip("needs Sphinx: pip install '.[docs]'")
    if not (DOCS.parent / "CONTRIBUTING.md").is_file():
        pytest.skip("the site takes pages from a checkout")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-b", "html"]
    path = {"PYTHONPATH": str(Path(pkgdata.__file__).parent.parent)}
    done = subprocess.run(
        [*command, str(DOCS), str(folder)],
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_without_a_warning_or_a_dead_link(site):
    reads = pytest.importorskip(
        "sphinx.util.inventory", reason="needs Sphinx: pip install '.[docs]'"
    )
    with open(site / "objects.inv", "rb") as file:
        inventory = reads.InventoryFile.load(file, "", lambda base, path: path)
    known = {name for kind, found in inventory.items() if kind.startswith("py:") for name in found}
    assert {f"{module}.{name}" for module, name in NAMES} <= known
    ids = generated.Page(site / "reference" / "commands.html").ids
    told = {words for words, *_ in generated.parsers(cli.parser())}
    assert {words.replace(" ", "-") for words in told} <= ids
    settings = generated.Page(site / "reference" / "settings.html").ids
    assert {f"setting-{name.replace('_', '-')}" for name in config.FIELDS} <= settings
    assert list(generated.dead_links(site)) == []
