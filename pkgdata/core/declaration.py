"""Where `PackageData` objects come from: `declare`, ``pkgdata.toml``, and installed packages.

A package announces itself to the command line by an entry point of the group ``pkgdata.packages``,
whose value names the package that holds ``pkgdata.toml``::

    [project.entry-points."pkgdata.packages"]
    mypkg = "mypkg"

The file is read without importing the package.
"""

from __future__ import annotations

import os
import sys

from ..base import config
from ..errors import ConfigError
from .package import PackageData

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .registry import Registry

#: The tables of pkgdata.toml; the keys of the first are keyword arguments of `declare` as well.
TABLES = {
    "package": {
        "name": "str",
        "dataurl": "str|texts",
        "registry": "str",
        "folders": "texts",
        "env": "str",
        "version": "str",
        "version_dev": "str",
        "settings": "table",
    },
    "publish": {"to": "texts", "url": "str", "public": "flag", "index": "flag"},
}

_declared: dict[str, PackageData] = {}


def declare(
    name: str,
    *,
    dataurl: str | Sequence[str] | None = None,
    registry: Registry | Mapping[str, str | None] | str | os.PathLike[str] | None = None,
    urls: Mapping[str, str] | None = None,
    folders: Sequence[str | os.PathLike[str]] | None = None,
    env: str | None = None,
    version: str | None = None,
    version_dev: str | None = None,
    **settings: Any,
) -> PackageData:
    """Declare the data of a package. No network is used and nothing is written.

    Parameters
    ----------
    name : str
        Import name of the package, or any name for a script's own data.
    dataurl : str or sequence of str, optional
        Where the files lie: base URLs in the order in which they are tried. ``{version}`` stands
        for the package's version. Schemes: ``http``, ``https``, ``file`` or a plain path,
        ``github:owner/repo@tag``, ``mem``.
    registry : path-like, Registry or mapping of name to digest, optional
        What each file must hash to. A relative path is looked for in the package, or next to
        the calling script. A digest of None means that the file is not pinned.
    urls : mapping of name to URL, optional
        Addresses of single files, as in pooch; they come before ``dataurl``.
    folders : sequence of path-like, optional
        Local folders that may hold the files as ``FOLDER/NAME``; never written to. A relative
        path is meant as for ``registry``.
    env : str, optional
        Environment variable with further folders, separated by `os.pathsep`.
    version : str, optional
        The installed version by default.
    version_dev : str, default ``"main"``
        What stands for the version of a development state, such as ``"1.2.dev3+g12ab"``, for which
        nothing is published; ``v{version}`` is replaced as a whole. ``""`` takes the version as it
        is.
    **settings
        Settings for this package alone, such as ``verify="always"`` or ``cache_dir=...``.

    Returns
    -------
    PackageData

    Raises
    ------
    ConfigError
        An argument or the package's ``pkgdata.toml`` is wrong.

    Notes
    -----
    What is not given is taken from the ``pkgdata.toml`` inside the package, if it has one.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"declare() takes the package's name first, not {name!r}")
    folder = package_folder(name)
    given: dict[str, Any] = {"dataurl": dataurl, "registry": registry, "folders": folders}
    given |= {"env": env, "version": version, "version_dev": version_dev}
    given = {key: value for key, value in given.items() if value is not None}
    data = _declare(name, None if folder else _caller_folder(), given, urls, settings)
    _declared[name] = data
    return data


def _declare(
    name: str,
    base: str | None,
    given: dict[str, Any],
    urls: Mapping[str, str] | None,
    settings: dict[str, Any],
) -> PackageData:
    """Return the data as declared; relative paths lie in the package, else in ``base``."""
    folder = package_folder(name)
    data = _make(name, folder, folder or base or os.getcwd(), given, urls, settings)
    data._recipe = _declared_elsewhere, (name, base, given, urls, settings)
    return data


def _declared_elsewhere(name: str, *arguments: Any) -> PackageData:
    """Return what another process declared; the same object if it is declared here too."""
    known = _declared.get(name)
    if known is not None and known._recipe == (_declared_elsewhere, (name, *arguments)):
        return known
    data = _declare(name, *arguments)
    # tasks of one worker share what it reads and remembers; what it declares itself has precedence
    _declared.setdefault(name, data)
    return data


def _make(
    name: str,
    folder: str | None,
    base: str,
    given: Mapping[str, Any],
    urls: Mapping[str, str] | None,
    settings: Mapping[str, Any],
) -> PackageData:
    """Join what is given with the folder's pkgdata.toml; relative paths lie in ``base``."""
    values = {**(_read_declaration(folder) if folder else {}), **given}
    values.pop("name", None)
    source = values.pop("registry", None)
    if isinstance(source, (str, os.PathLike)):
        source = os.path.join(base, source)
    elif source is None and folder and os.path.exists(os.path.join(folder, "registry.txt")):
        source = os.path.join(folder, "registry.txt")
    # the working directory must not decide which files a package is given
    values["folders"] = [
        os.path.join(base, config.expand_path(os.fspath(one))) for one in values.get("folders", ())
    ]
    values = {**values.pop("settings", {}), **values, **settings}
    return PackageData(name, registry=source, urls=urls, package_dir=folder, **values)


def _caller_folder() -> str:
    """Return the folder of the first file outside pkgdata on the stack."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    frame: Any = sys._getframe(1)
    while frame is not None:
        file: str | None = frame.f_globals.get("__file__")
        if file is None:
            break  # typed at a prompt or in a notebook: relative means relative to there
        if not os.path.abspath(file).startswith(here + os.sep):
            return os.path.dirname(os.path.abspath(file))
        frame = frame.f_back
    return os.getcwd()


def package_folder(name: str) -> str | None:
    """Return the folder of an importable package, without importing it."""
    module = sys.modules.get(name)
    paths = getattr(module, "__path__", None)
    if module is None and name.isidentifier():
        # what importlib.util.find_spec does; importing that costs a third of a hit
        try:
            specs = (finder.find_spec(name, None) for finder in sys.meta_path)
            spec = next(filter(None, specs), None)
        except (ImportError, ValueError):
            spec = None
        paths = spec.submodule_search_locations if spec else None
    folders: list[str] = list(paths or ())
    for path in folders:
        if os.path.isdir(path):
            return os.path.abspath(path)
    return None


def _read_declaration(folder: str) -> dict[str, Any]:
    """Return the checked table ``[package]`` of a folder's pkgdata.toml; empty if there is none."""
    path = os.path.join(folder, "pkgdata.toml")
    if not os.path.exists(path):
        return {}
    found: dict[str, Any] = config.read(path, TABLES).get("package", {})
    return found


def declaration_of(package: str) -> PackageData | None:
    """Return the data of a package or of the one above a module: as declared, else by its toml."""
    while package:
        if package in _declared:
            return _declared[package]
        folder = package_folder(package)
        if folder and os.path.exists(os.path.join(folder, "pkgdata.toml")):
            return declare(package)
        package = package.rpartition(".")[0]
    return None


def installed() -> dict[str, str]:
    """Return the import names of the installed packages that announce data, by announced name."""
    from importlib import metadata

    points = metadata.entry_points(group="pkgdata.packages")
    return {point.name: point.value.partition(":")[0] for point in points}


def _in_folder(folder: str) -> PackageData:
    """Return the data that a folder declares, as for a package that is not installed."""
    if not os.path.exists(os.path.join(folder, "pkgdata.toml")):
        raise ConfigError(
            f"{folder} has no pkgdata.toml",
            hint="name the folder of the package, such as src/mypkg",
        )
    name = _read_declaration(folder).get("name", os.path.basename(folder))
    data = _make(name, folder, folder, {}, None, {})
    data._recipe = _in_folder, (folder,)
    return data


def find_package(name: str) -> PackageData:
    """Return the data of an installed or importable package, or of a folder's pkgdata.toml."""
    if os.sep in name or "/" in name or name == ".":
        return _in_folder(os.path.abspath(name))
    names = installed()
    data = declaration_of(names.get(name, name))
    if data is not None:
        return data
    folder = package_folder(names.get(name, name))
    if folder is not None:
        raise ConfigError(
            f"{name} has no pkgdata.toml in {folder}",
            hint="its wheel was built without the file, if it was to have one: 'pkgdata init' "
            "prints what the build needs, and 'pkgdata check' proves a wheel",
        )
    known = ", ".join(sorted(names)) or "none are installed"
    raise ConfigError(
        f"{name!r} is no package with a pkgdata.toml",
        hint=f"packages that announce data: {known}",
    )
