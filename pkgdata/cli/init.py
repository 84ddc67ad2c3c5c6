"""``init``: the files that a package needs to have data, and to publish them."""

from __future__ import annotations

import json
import os
import sys

from ..base import fs
from ..base.urls import scheme
from ..errors import ConfigError, PublishError
from ..publish import destination_for
from . import template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

_WORKFLOW_PATH = os.path.join(".github", "workflows", "data.yml")


def add(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser(
        "init",
        help="write pkgdata.toml, registry.txt, a helper and a workflow for a package",
        description="Write the files that a package needs to have data. Existing files are kept.",
    )
    parser.add_argument("package", metavar="FOLDER", help="the package's folder: src/mypkg")
    parser.add_argument("--to", action="append", metavar="DEST", help="where to publish to")
    parser.add_argument(
        "--data", default="data-files", metavar="DIR", help="folder of the files in the checkout"
    )
    parser.add_argument("--no-workflow", action="store_true", help="no GitHub Actions workflow")
    parser.set_defaults(run=_init)


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
        _write(os.path.join(root, _WORKFLOW_PATH), template("workflow.yml", **known))
    print(
        f"for pyproject.toml, so that 'pkgdata' finds {name}:\n"
        f'[project.entry-points."pkgdata.packages"]\n{name} = "{name}"\n'
        f"for {os.path.join(folder, '__init__.py')}:\n"
        f"from {name}._data import get_data",
    )


#: Stands for the version while a destination is asked for its address.
_VERSION = "0version0"


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
    return ", ".join(json.dumps(text, ensure_ascii=False) for text in texts)


def _project_root(folder: str) -> str:
    """Return the folder above with the ``pyproject.toml`` or the repository, else the parent."""
    start = os.path.dirname(os.path.abspath(folder))
    path = start
    while True:
        if any(os.path.exists(os.path.join(path, mark)) for mark in ("pyproject.toml", ".git")):
            return path
        parent = os.path.dirname(path)
        if parent == path:
            return start
        path = parent


def _write(path: str, text: str) -> None:
    if os.path.exists(path):
        print(f"{path}: exists already, kept", file=sys.stderr)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fs.write_atomic(path, text.encode())
    print(f"{path}: written", file=sys.stderr)
