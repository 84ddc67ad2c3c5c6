"""What the pages do not write down twice, and a check of the links: a small extension of Sphinx.

A comment of a page, such as ``<!-- settings -->``, is replaced while the page is read:

``<!-- commands -->``         each command, of the parser
``<!-- settings -->``         each setting, of the table of settings
``<!-- names MODULE -->``     each public name of a module that no page lists by itself
``<!-- names MODULE: A B -->``  these names alone

The functions that write the text need no Sphinx, so tests read what they return.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pkgdata import cli
from pkgdata.base import config

#: Modules whose ``__all__`` is public; tests/test_api.py wants a full docstring of each name.
MODULES = [
    "pkgdata",
    "pkgdata.stores",
    "pkgdata.datasets",
    "pkgdata.catalog",
    "pkgdata.publish",
    "pkgdata.testing",
    "pkgdata.dask",
    "pkgdata.compat.fsspec",
    "pkgdata.compat.cloudfiles",
    "pkgdata.compat.etcetera",
    "pkgdata.compat.pooch",
    "pkgdata.compat.datamaestro",
]

#: Options of every command, which the page describes once.
EVERYWHERE = ("help", "verbose", "quiet")

KINDS = {
    "str": "text",
    "path": "folder",
    "paths": "list of folders",
    "roots": "list of folders",
    "bool": "true or false",
    "int": "whole number",
    "bytes": "bytes",
    "seconds": "seconds",
    "map": "table",
    "header": "text",
    "headers": "tables",
}


def literal(text: str) -> str:
    """Return text as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#$~])", r"\\\1", " ".join(text.split()))


# -- commands ----------------------------------------------------------------------------------


def parsers(
    parser: argparse.ArgumentParser, words: str = "pkgdata", sentence: str = ""
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield each command with its sentence and parser; hidden ones have no help."""
    if words != "pkgdata":
        yield words, parser.description or sentence, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help for choice in action._choices_actions}
            for name, child in action.choices.items():
                if told.get(name) not in (None, argparse.SUPPRESS):
                    yield from parsers(child, f"{words} {name}", told[name] or "")


def argument(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[str, str]:
    """Return how an argument is written, and its meaning."""
    formatter = parser._get_formatter()
    written = formatter._format_action_invocation(action)
    meaning = formatter._expand_help(action) if action.help else ""
    return re.sub(r"\x1b\[[\d;]*m", "", written), meaning


def command(words: str, sentence: str, parser: argparse.ArgumentParser) -> str:
    """Return the section of one command."""
    depth = "#" * (words.count(" ") + 1)
    sentence = sentence[:1].upper() + sentence[1:]
    usage = re.sub(r"\x1b\[[\d;]*m", "", parser.format_usage()).removeprefix("usage: ").rstrip()
    parts = [f"({words.replace(' ', '-')})=\n{depth} {words}", literal(sentence.rstrip(".")) + "."]
    parts.append(f"```text\n{usage}\n```")
    for group in parser._action_groups:
        rows = [
            argument(parser, action)
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS
            and action.dest not in EVERYWHERE
            and not isinstance(action, argparse._SubParsersAction)
        ]
        if rows:
            title = "Arguments" if group.title == "positional arguments" else group.title or ""
            parts.append(f"**{literal(title[:1].upper() + title[1:])}**")
            parts += [f"`{written}`\n: {literal(meaning) or '–'}" for written, meaning in rows]
    if shown := cli.examples(words):
        lines = "\n".join(f"$ {line.strip().removeprefix('$ ')}" for line in shown)
        parts.append(f"**Examples**\n\n```console\n{lines}\n```")
    return "\n\n".join(filter(None, parts))


def commands() -> str:
    """Return the sections of all commands."""
    return "\n\n".join(command(*one) for one in parsers(cli.parser()))


# -- settings ----------------------------------------------------------------------------------


def kind(text: str) -> str:
    """Return the kind of a setting in words."""
    return " or ".join(KINDS.get(one) or f"`{one}`" for one in text.split("|"))


def settings() -> str:
    """Return the table of all settings."""
    rows = ["| setting | kind | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in config.FIELDS.items():
        value = field.default
        default = "none" if value in (None, (), {}) else f"`{str(value).lower()}`"
        if isinstance(value, float):
            default = f"`{value:g}`"
        # an id of its own, so that a page can lead to the row
        rows.append(
            f"| [`{name}`]{{#setting-{name.replace('_', '-')}}} | {kind(field.kind)} | {default} "
            f"| {literal(field.meaning)} |"
        )
    return "\n".join(rows)


# -- names -------------------------------------------------------------------------------------


def is_ours(value: object) -> bool:
    """Return True if pkgdata has defined it."""
    return str(getattr(value, "__module__", "")).startswith("pkgdata")


def members(cls: type) -> list[str]:
    """Return the public methods and properties of a class that are ours and documented."""
    found = []
    for one in inspect.classify_class_attrs(cls):
        kinds = ("method", "class method", "static method", "property")
        ours = not one.name.startswith("_") and is_ours(one.defining_class)
        if ours and one.kind in kinds and inspect.getdoc(getattr(cls, one.name, None)):
            found.append(one.name)
    return found


def summary(value: object) -> str:
    """Return the first paragraph of a docstring."""
    return (inspect.getdoc(value) or "").split("\n\n")[0]


def entry(module: str, name: str) -> str:
    """Return the directive that documents a public name, in reStructuredText."""
    value = getattr(importlib.import_module(module), name)
    full = f"{module}.{name}"
    if inspect.ismodule(value):
        return f".. py:data:: {full}\n\n   The module `{value.__name__}`. {summary(value)}"
    original = next((one for one in home_of(value) if one != full), None)
    if original:
        form = "class" if isinstance(value, type) else "function"
        return f".. py:{form}:: {full}\n\n   The same as `{original}`."
    if isinstance(value, type) and is_ours(value):
        is_error = issubclass(value, (Exception, Warning))
        listed = "" if is_error else f"\n   :members: {', '.join(members(value))}"
        return f".. auto{'exception' if is_error else 'class'}:: {full}{listed}"
    if inspect.isroutine(value) and is_ours(value):
        return f".. autofunction:: {full}"
    if callable(value) and not is_ours(value):
        form = "class" if isinstance(value, type) else "function"
        text = f"   ``{value.__module__}.{value.__name__}``: another library's own."
        return f".. py:{form}:: {full}\n\n{text}"
    text = re.sub(r"^", "   ", summary(value if is_ours(value) else None), flags=re.M)
    return f".. py:data:: {full}\n\n{text}"


def home_of(value: object) -> Iterator[str]:
    """Yield the name under which an object is documented in full: that of the first module."""
    for module in MODULES:
        home = importlib.import_module(module)
        for name in home.__all__:
            if getattr(home, name) is value and callable(value):
                yield f"{module}.{name}"
                return


def names(module: str, only: str = "") -> str:
    """Return the entries of a module's public names."""
    wanted = only.split() or importlib.import_module(module).__all__
    entries = "\n\n".join(entry(module, name) for name in wanted)
    return f"```{{eval-rst}}\n{entries}\n```"


# -- pages -------------------------------------------------------------------------------------

COMMENT = re.compile(r"^<!-- (commands|settings|names) ?([\w.]*)(?:: ([\w\s]+?))? -->$", re.M)


def filled(text: str) -> str:
    """Return a page with its comments replaced."""

    def made(match: re.Match[str]) -> str:
        what, module, only = match.groups()
        if what == "names":
            return names(module, only or "")
        return commands() if what == "commands" else settings()

    # what the tests take for any text
    return COMMENT.sub(made, text).replace("[...]", "…")


class Page(HTMLParser):
    """The ids and the links of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a tag has."""
        for name, value in attrs:
            if value and name == "id":
                self.ids.add(value)
            elif value and name in ("href", "src"):
                self.links.add(value)


def dead_links(folder: Path) -> Iterator[str]:
    """Yield each link inside a built site that leads nowhere, with its page."""
    pages = {
        path.resolve(): Page(path) for path in folder.rglob("*.html") if "_static" not in path.parts
    }
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            ids = pages[target].ids if target in pages else None
            if not target.is_file() or (
                parts.fragment and ids is not None and unquote(parts.fragment) not in ids
            ):
                yield f"{path.relative_to(folder.resolve())}: {link}"


def setup(app: Any) -> dict[str, bool]:
    """Join Sphinx."""
    from sphinx.util import logging

    def read(app: Any, docname: str, source: list[str]) -> None:
        source[0] = filled(source[0])

    def check(app: Any, error: Exception | None) -> None:
        if error is None and app.builder.format == "html":
            for link in dead_links(Path(app.outdir)):
                logging.getLogger(__name__).warning("dead link in %s", link)

    app.connect("source-read", read)
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
