"""``init``: the files that a package needs to have data, and to publish them."""

from __future__ import annotations

import os
import sys

from ..base import fs
from ..errors import ConfigError, PublishError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

_TOML = """\
# Where the data of {name} are, and where 'pkgdata publish' puts them.

[package]
name = "{name}"
registry = "registry.txt"
# tried in this order; 'pkgdata publish' prints the line for what it has published
dataurl = [{dataurl}]
# local folders that may hold the files, and a variable that names more of them
folders = []
env = "{variable}"

[publish]
to = [{to}]
"""

_HELPER = '''\
"""The data files of {name}: found in a local folder or the cache, or downloaded once."""

from __future__ import annotations

import pkgdata

_data = pkgdata.declare("{name}")


def get_data(name: str) -> str:
    """Return the path of a data file; fetch it if it is not here.

    Parameters
    ----------
    name : str
        Name in ``registry.txt``.

    Returns
    -------
    str
    """
    path: str = _data.get(name)
    return path
'''

_REGISTRY = """\
# The data files of {name}: name, SHA-256, and in the line above the bytes.
# Filled by 'pkgdata publish', or before it by
#   pkgdata registry make {folder} -o {package}/registry.txt
"""

_WORKFLOW = """\
# Publishes the data files of {name} when a version is tagged, and checks every week that everybody
# can still download them as the registry promises.
name: data

on:
  push:
    tags: ["v*"]
  schedule:
    - cron: "17 4 * * 1"
  workflow_dispatch:

permissions:
  contents: read

jobs:
  publish:
    if: startsWith(github.ref, 'refs/tags/')
    runs-on: ubuntu-latest
    permissions:
      contents: write # to upload to the release of the tag
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.x"
      - run: python -m pip install "pkgdata-cache[cloud]" .
      # what is published is what was committed with the version
      - run: pkgdata registry check {folder} {package}/registry.txt
      - run: pkgdata publish {folder} --package {package}
        env:
          GITHUB_TOKEN: ${{{{ github.token }}}}

  check:
    if: "!startsWith(github.ref, 'refs/tags/')"
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.x"
      - run: python -m pip install pkgdata-cache .
      - run: pkgdata publish --check --package {package}
"""

_WORKFLOW_PATH = os.path.join(".github", "workflows", "data.yml")


def add(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser(
        "init",
        help="write pkgdata.toml, registry.txt, a helper and a workflow for a package",
        description="Write the files with which a package has data. What is there already stays.",
    )
    parser.add_argument("package", metavar="FOLDER", help="the package's folder: src/mypkg")
    parser.add_argument("--to", action="append", metavar="DEST", help="where to publish to")
    parser.add_argument(
        "--data", default="data-files", metavar="DIR", help="folder of the files in the checkout"
    )
    parser.add_argument("--no-workflow", action="store_true", help="no GitHub Actions workflow")
    parser.set_defaults(run=_init)


def _init(args: Namespace) -> int:
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
    _write(os.path.join(folder, "registry.txt"), _REGISTRY.format(**known))
    _write(os.path.join(folder, "_data.py"), _HELPER.format(**known))
    if not args.no_workflow:
        _write(os.path.join(root, _WORKFLOW_PATH), _WORKFLOW.format(**known))
    print(
        f"for pyproject.toml, so that 'pkgdata' finds {name}:\n"
        f'[project.entry-points."pkgdata.packages"]\n{name} = "{name}"\n'
        f"for {os.path.join(folder, '__init__.py')}:\n"
        f"from {name}._data import get_data",
    )
    return 0


#: Stands for the version while a destination is asked for its address.
_VERSION = "0version0"


def _toml(name: str, to: list[str]) -> str:
    bases = [base for place in to if (base := _base_of(place))]
    return _TOML.format(
        name=name, variable=f"{name.upper()}_DATA", to=_listed(to), dataurl=_listed(bases)
    )


def _base_of(place: str) -> str | None:
    """Return where users will find what is published to a place, as far as that can be told."""
    from ..base.urls import scheme
    from ..publish import destination_for

    destination = destination_for(place.replace("{version}", _VERSION))
    if scheme(place) == "github":
        return place
    try:
        base = destination.dataurl
    except PublishError:
        return None  # only --url will tell
    return base and base.replace(_VERSION, "{version}")


def _listed(texts: list[str]) -> str:
    import json

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
        print(f"{path}: is there already, left alone", file=sys.stderr)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fs.write_atomic(path, text.encode())
    print(f"{path}: written", file=sys.stderr)
