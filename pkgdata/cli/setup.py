"""``init``, ``completion``: files that set up a package, and what the shells offer after a tab.

One function answers all three shells from the parser itself, so that there is no second list of
commands; package and file names are offered too.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib

from ..base import fs, text
from ..base.urls import scheme
from ..core.declaration import find_package, installed
from ..errors import ConfigError, PkgdataError, PublishError
from ..publish import destination_for
from . import parser, template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

#: Stands for the version while a destination is asked for its address.
_VERSION = "0version0"


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    init = text.command(
        commands,
        "init",
        _init,
        "write pkgdata.toml, registry.txt, a helper and a workflow for a package",
        description="Write the files that a package needs to have data. Existing files are kept.",
    )
    init.add_argument("package", metavar="FOLDER", help="the package's folder: src/mypkg")
    init.add_argument("--to", action="append", metavar="DEST", help="where to publish to")
    init.add_argument(
        "--data", default="data-files", metavar="DIR", help="folder of the files in the checkout"
    )
    init.add_argument("--no-workflow", action="store_true", help="no GitHub Actions workflow")

    completion = text.command(
        commands,
        "completion",
        _completion,
        "print the completion script of a shell",
        description='bash: eval "$(pkgdata completion bash)" in ~/.bashrc; zsh the same in '
        "~/.zshrc; fish: pkgdata completion fish > ~/.config/fish/completions/pkgdata.fish",
    )
    completion.add_argument("shell", choices=("bash", "fish", "zsh"))

    words = commands.add_parser("complete-words")
    words.add_argument("words", nargs="*")
    words.set_defaults(run=_words)


# -- init --------------------------------------------------------------------------------------


def _init(args: Namespace) -> None:
    folder = os.path.normpath(args.package)
    name = os.path.basename(os.path.abspath(folder))
    if not os.path.isdir(folder) or not name.isidentifier():
        raise ConfigError(
            f"{args.package} is not the folder of a package",
            hint="name the folder with its __init__.py, such as src/mypkg",
        )
    root = _project_root(folder)
    relative = os.path.relpath(os.path.abspath(folder), root).replace(os.sep, "/")
    known = {"name": name, "package": f"./{relative}", "folder": args.data}
    _write(os.path.join(folder, "pkgdata.toml"), _toml(name, args.to or []))
    _write(os.path.join(folder, "registry.txt"), template("registry.txt", **known))
    _write(os.path.join(folder, "_data.py"), template("helper.py.txt", **known))
    if not args.no_workflow:
        workflow = os.path.join(root, ".github", "workflows", "data.yml")
        _write(workflow, template("workflow.yml", **known))
    print(
        f"for pyproject.toml, so that 'pkgdata' finds {name}:\n"
        f'[project.entry-points."pkgdata.packages"]\n{name} = "{name}"\n'
        f"for {os.path.join(folder, '__init__.py')}:\n"
        f"from {name}._data import get_data",
    )


def _toml(name: str, to: list[str]) -> str:
    bases = [base for place in to if (base := _base_of(place))]
    return template(
        "pkgdata.toml.txt",
        name=name,
        variable=f"{name.upper()}_DATA",
        to=_listed(to),
        dataurl=_listed(bases),
    )


def _base_of(place: str) -> str | None:
    """Return where users will find what is published to a place, if that is known."""
    destination = destination_for(place.replace("{version}", _VERSION))
    if scheme(place) == "github":
        return place
    try:
        base = destination.dataurl
    except PublishError:
        return None  # only --url will tell
    return base and base.replace(_VERSION, "{version}")


def _listed(texts: list[str]) -> str:
    return ", ".join(json.dumps(one, ensure_ascii=False) for one in texts)


def _project_root(folder: str) -> str:
    """Return the folder above with the ``pyproject.toml`` or the repository, else the parent."""
    above = [str(path) for path in pathlib.Path(os.path.abspath(folder)).parents]
    for path in above:
        if any(os.path.exists(os.path.join(path, mark)) for mark in ("pyproject.toml", ".git")):
            return path
    return above[0]


def _write(path: str, content: str) -> None:
    if os.path.exists(path):
        text.note(f"{path}: exists already, kept")
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fs.write_atomic(path, content.encode())
    text.note(f"{path}: written")


# -- completion --------------------------------------------------------------------------------


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
