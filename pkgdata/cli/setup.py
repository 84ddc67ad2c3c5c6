"""``init``, ``check``, ``completion``: set up a package, prove its wheel, complete shells' words.

One function answers all three shells from the parser itself, so that there is no second list of
commands; package and file names are offered too.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
from argparse import Namespace
from collections.abc import Mapping
from fnmatch import fnmatch
from importlib import metadata
from typing import Any, NamedTuple

from ..base import config, disk, fs, text
from ..base.urls import redact, scheme
from ..core import extract
from ..core.declaration import find_package, installed, package_folder
from ..core.lookup import module_of
from ..core.package import PackageData
from ..errors import ConfigError, PkgdataError, PublishError, RegistryError
from ..publish import destination_for
from . import parser, template

#: Schemes of what other machines cannot reach; "" is that of a path.
_HERE = ("", "file", "mem")

#: Stands for the version while a destination is asked for its address.
_VERSION = "0version0"


def add(commands: Any) -> None:
    """Add these commands to the parser."""
    init = text.command(
        commands,
        "init",
        _init,
        "write the files that give a package data",
        description="They are pkgdata.toml, registry.txt, a helper and a workflow for GitHub; "
        "existing files are kept.",
    )
    init.add_argument("package", metavar="FOLDER", help="the package's folder: src/mypkg")
    init.add_argument("--to", action="append", metavar="DEST", help="where to publish to")
    init.add_argument(
        "--data", default="data-files", metavar="DIR", help="folder of the files in the checkout"
    )
    init.add_argument("--no-workflow", action="store_true", help="no GitHub Actions workflow")

    check = text.command(
        commands,
        "check",
        _check,
        "prove that a package or wheel has what its data need",
        description="Looks for pkgdata.toml, the registry, a digest for each of its names, the "
        "right import name, and a dataurl that others can reach. The exit code is 3 if something "
        "is missing or wrong.",
        as_json=True,
    )
    check.add_argument(
        "targets",
        nargs="+",
        metavar="PKG",
        help="installed package, wheel, sdist, or folder such as . or ./src/mypkg",
    )

    completion = text.command(
        commands,
        "completion",
        _completion,
        "print the script by which a shell completes words",
        description="bash reads it by the first of the examples, in ~/.bashrc; zsh in ~/.zshrc.",
    )
    completion.add_argument(
        "shell", choices=("bash", "fish", "zsh"), metavar="SHELL", help="bash, fish or zsh"
    )

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
    below = sorted(one.name for one in os.scandir(folder) if _has(one.path, "__init__.py"))
    if not _has(folder, "__init__.py") and (below or _has(folder, *_MARKS)):
        raise ConfigError(
            f"{args.package} has no __init__.py: it is the folder of a project, not of a package",
            hint=f"name the package: {os.path.join(folder, below[0] if below else 'src/mypkg')}",
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
    project = _project(root)
    backend = project.get("build-system", {}).get("build-backend", "setuptools.build_meta")
    # a table [project] would take the place of all that setup.cfg or setup.py says
    old = "project" not in project and _has(root, "setup.cfg", "setup.py")
    if name not in _announced_by(project).values():
        print(_announcing(name, old, project))
    print(f"for {os.path.join(folder, '__init__.py')}:\nfrom {name}._data import get_data")
    print(_shipping(name, folder, backend, old, project))
    text.note("what you have built is proved by: pkgdata check dist/*")


#: Backends that put every file of a package into the wheel, but for those that git ignores.
_ALL = (
    "hatchling", "flit", "flit_core", "pdm", "poetry", "scikit_build_core", "maturin", "uv_build",
)  # fmt: skip

_GROUP = "pkgdata.packages"
_SHIPPED = ("pkgdata.toml", "registry.txt")


def _announcing(name: str, old: bool, project: Mapping[str, Any]) -> str:
    """Return the entry point of a package, where its project has such things."""
    file, lines = "pyproject.toml", f'[project.entry-points."{_GROUP}"]\n{name} = "{name}"'
    if "project" not in project and "poetry" in project.get("tool", {}):
        lines = lines.replace("project.entry-points", "tool.poetry.plugins")
    elif old:
        file, lines = "setup.cfg", f"[options.entry_points]\n{_GROUP} =\n    {name} = {name}"
    return f"for {file}, so that 'pkgdata' finds {name}:\n{lines}"


def _shipping(name: str, folder: str, backend: str, old: bool, project: Mapping[str, Any]) -> str:
    """Return what the build needs to put the files into the wheel."""
    kind = backend.partition(".")[0].partition(":")[0]
    files = ", ".join(f'"{one}"' for one in _SHIPPED)
    if kind in _ALL:
        return f"{kind} puts both files into the wheel, unless git ignores them"
    if kind == "mesonpy":
        quoted = files.replace('"', "'")
        lines = f"py.install_sources({quoted}, '_data.py', subdir: '{name}')"
        return (
            f"for {os.path.join(folder, 'meson.build')}, so that the wheel has the files:\n{lines}"
        )
    if kind != "setuptools":
        return f"make sure that {backend} puts these files of {name} into the wheel: {files}"
    known = project.get("tool", {}).get("setuptools", {}).get("package-data", {})
    patterns = [*known.get(name, ()), *known.get("*", ())]
    if all(any(fnmatch(one, pattern) for pattern in patterns) for one in _SHIPPED):
        return "pyproject.toml puts both files into the wheel"
    file, lines = "pyproject.toml", f"[tool.setuptools.package-data]\n{name} = [{files}]"
    if old:
        file, lines = "setup.cfg", f"[options.package_data]\n{name} = {', '.join(_SHIPPED)}"
    return f"for {file}, so that the wheel has both files:\n{lines}"


def _project(folder: str) -> dict[str, Any]:
    """Return the tables of a folder's pyproject.toml; none if there is no such file."""
    path = os.path.join(folder, "pyproject.toml")
    return config.read(path) if os.path.exists(path) else {}


def _announced_by(project: Mapping[str, Any]) -> dict[str, str]:
    """Return the entry points by which a project announces packages with data."""
    found = project.get("project", {}).get("entry-points", {})
    found = {**project.get("tool", {}).get("poetry", {}).get("plugins", {}), **found}
    return {name: str(value).partition(":")[0] for name, value in found.get(_GROUP, {}).items()}


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


_MARKS = ("pyproject.toml", "setup.cfg", "setup.py", ".git")


def _project_root(folder: str) -> str:
    """Return the folder above with the project's files or the repository, else the parent."""
    above = [str(path) for path in pathlib.Path(os.path.abspath(folder)).parents]
    for path in above:
        if _has(path, *_MARKS):
            return path
    return above[0]


def _write(path: str, content: str) -> None:
    if os.path.exists(path):
        text.note(f"{path}: exists already, kept")
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fs.write_atomic(path, content.encode())
    text.note(f"{path}: written")


# -- check -------------------------------------------------------------------------------------


class Fact(NamedTuple):
    """What was found of one part of a package: its state, ``"ok"`` if it is right."""

    state: str
    package: str
    what: str


def _check(args: Namespace) -> int:
    found = [fact for target in args.targets for fact in _facts(target)]
    rows = [[fact.state, fact.package, fact.what] for fact in found]
    value = [fact._asdict() for fact in found]
    text.json_or_table(args.json, value, ["STATE", "PACKAGE", "WHAT"], rows)
    if any(fact.state == "missing" for fact in found):
        text.note("'pkgdata init FOLDER' prints what the build needs to put the files into a wheel")
    if any(fact.what.startswith("dataurl: ") for fact in found):
        text.note(
            "who installs it on another machine downloads from dataurl in pkgdata.toml: write "
            "https://HOST/FOLDER there, or what 'pkgdata publish' prints, and build again"
        )
    return 0 if all(fact.state == "ok" for fact in found) else 3


def _facts(target: str) -> list[Fact]:
    """Look into an archive, a folder or an installed package."""
    if os.path.isfile(target):
        kind = "Unzip" if target.endswith((".whl", ".zip")) else "Untar"
        with disk.temporary("check") as folder:
            extract.unpack(kind, target, folder, set, extract.Growth.of())
            return _facts_below(folder, target)
    if os.sep in target or "/" in target or target == ".":
        return _facts_below(os.path.abspath(target), target)
    name = installed().get(target, target)
    found = package_folder(name)
    if found is None:
        raise ConfigError(f"{target!r} is no installed package, wheel, sdist or folder")
    return _facts_of(name, found)


def _facts_below(folder: str, target: str) -> list[Fact]:
    """Find the packages below a folder: a package itself, unpacked, or with sources in ``src``."""
    if not os.path.isdir(folder):
        raise ConfigError(f"{target} does not exist")
    if _has(folder, "pkgdata.toml") or _has(folder, "__init__.py"):
        return _facts_of(os.path.basename(folder), folder)
    tops = [one.path for one in os.scandir(folder) if one.is_dir()]
    top = tops[0] if len(tops) == 1 and _has(tops[0], "pyproject.toml", "PKG-INFO") else folder
    bases = [base for base in (top, os.path.join(top, "src")) if os.path.isdir(base)]
    announced = set(_announced_by(_project(top)).values())
    for dist in metadata.distributions(path=bases):
        announced.update(map(module_of, dist.entry_points.select(group=_GROUP)))
    found: dict[str, str] = {}
    for base in bases:
        names = sorted(one.name for one in os.scandir(base) if one.name.isidentifier())
        for name in [*announced, *names]:
            path = os.path.join(base, *name.split("."))
            wanted = name in announced and os.path.isdir(path)
            if wanted or _has(path, "pkgdata.toml"):
                found[name] = path
    lost = [Fact("wrong", name, "announced, but not there") for name in announced - found.keys()]
    if not found and not lost:
        return [Fact("missing", target, "a package with a pkgdata.toml, or an entry point")]
    return [fact for name, path in found.items() for fact in _facts_of(name, path)] + lost


def _has(folder: str, *names: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in names)


def _facts_of(name: str, folder: str) -> list[Fact]:
    if not _has(folder, "pkgdata.toml"):
        lost = [one for one in _SHIPPED if not _has(folder, one)]
        return [Fact("missing", name, one) for one in lost]
    try:
        data = find_package(folder)
    except ConfigError as error:
        return [Fact("wrong", name, str(error.message))]
    found = [Fact("ok", name, "pkgdata.toml")]
    if data.name != name:
        found = [Fact("wrong", name, f"pkgdata.toml has the name {data.name!r}")]
    try:
        registry = data.registry
    except RegistryError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return [*found, Fact("missing", name, os.path.basename(error.file or ""))]
        return [*found, Fact("wrong", name, error.message)]
    if registry.file is None:
        return [*found, Fact("missing", name, "registry.txt")]
    file, count = os.path.basename(registry.file), text.counted(len(registry), "name")
    bare = [entry.name for entry in registry.values() if entry.digest is None]
    if bare:
        what = f"{file}: {text.counted(len(bare), 'name')} without a digest, such as {bare[0]!r}"
        return [*found, Fact("wrong", name, what)]
    found.append(Fact("ok" if registry else "empty", name, f"{file}: {count}"))
    why = _out_of_reach(data, folder)
    return [*found, Fact("wrong", name, why)] if why else found


def _out_of_reach(data: PackageData, folder: str) -> str | None:
    """Return why others could not download what a package does not ship; None if they can."""
    top = os.path.join(folder, "")
    inside = [url for url in data.dataurl if os.path.normpath(url).startswith(top)]
    near = [url for url in data.dataurl if scheme(url) in _HERE and url not in inside]
    if len(near) + len(inside) < len(data.dataurl):
        return None
    for entry in data.registry.values():
        shipped = [os.path.join(folder, "data", entry.name.removeprefix("data/"))]
        shipped += [os.path.join(url, entry.name) for url in inside]
        if any(map(os.path.isfile, shipped)) or any(scheme(one) not in _HERE for one in entry.urls):
            continue
        if near:
            return f"dataurl: {redact(near[0])} is on this machine alone"
        return f"dataurl: there is none to download {entry.name!r} from"
    return None


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
