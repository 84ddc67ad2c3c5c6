"""``completion``: what the shells offer after a tab.

One function answers all three shells from the parser itself, so that there is no second list of
commands; package and file names are offered too.
"""

from __future__ import annotations

import argparse

from ..core.declaration import find_package, installed
from ..errors import PkgdataError
from . import parser, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

_SHELLS = ("bash", "fish", "zsh")


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    parser = commands.add_parser(
        "completion",
        help="print the completion script of a shell",
        description='bash: eval "$(pkgdata completion bash)" in ~/.bashrc; zsh the same in '
        "~/.zshrc; fish: pkgdata completion fish > ~/.config/fish/completions/pkgdata.fish",
    )
    parser.add_argument("shell", choices=_SHELLS)
    parser.set_defaults(run=_completion)

    words = commands.add_parser("complete-words")
    words.add_argument("words", nargs="*")
    words.set_defaults(run=_words)


def _completion(args: Namespace) -> None:
    print(template(f"completion.{args.shell}"), end="")


def _words(args: Namespace) -> None:
    *before, current = args.words or [""]
    print("\n".join(candidates(before, current)))


def candidates(before: list[str], current: str) -> list[str]:
    """Return what may replace the word ``current`` after the complete words before it."""
    level: argparse.ArgumentParser = parser()
    rest = list(before)
    while rest and (verbs := _verbs(level)):
        word = rest.pop(0)
        if word in verbs:
            level = verbs[word]
    verbs = _verbs(level)
    if current.startswith("-"):
        found = [o for action in level._actions for o in action.option_strings]
    elif verbs:
        found = [name for name in verbs if name != "complete-words"]
    else:
        found = _values(level, [word for word in rest if not word.startswith("-")])
    return sorted(word for word in found if word.startswith(current))


def _verbs(level: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in level._actions:
        if isinstance(action.choices, dict):
            return dict(action.choices)
    return {}


def _values(level: argparse.ArgumentParser, given: list[str]) -> list[str]:
    """Return packages for the first place and the package's files for the next ones."""
    positional = [action for action in level._actions if not action.option_strings]
    for action in positional:
        if action.choices:
            return [str(choice) for choice in action.choices]
    if not positional or positional[0].dest != "package":
        return []
    if not given:
        return sorted(installed())
    try:
        return list(find_package(given[0]).registry)
    except (PkgdataError, OSError):
        return []
