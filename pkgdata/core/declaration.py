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
from ..base.report import each_name, is_file
from ..errors import ConfigError, PkgdataError
from .lookup import announcements, module_of
from .package import PackageData

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from .registry import Registry

#: Keys of the table [package] that describe the data to people; what fetches them needs none.
ABOUT = ("description", "license", "citation", "homepage")

#: The tables of pkgdata.toml; the other keys of the first are also arguments of `declare`.
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
        **dict.fromkeys(ABOUT, "str"),
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
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    env: str | None = None,
    version: str | None = None,
    version_dev: str | None = None,
    **settings: Any,
) -> PackageData:
    """Declare the data of a package. No network is used and nothing is written.

    Parameters
    ----------
    name : str
        Import name of the package or of a module in it, or any name for a script's own data.
    dataurl : str or sequence of str, optional
        Where the files lie: base URLs in the order in which they are tried. ``{version}`` stands
        for the package's version. Schemes: ``http``, ``https``, ``file``, ``mem``,
        ``github:owner/repo@tag``. A plain path is a folder; a relative one is meant as for
        ``registry``.
    registry : path-like, Registry or mapping of name to digest, optional
        What each file must hash to. A relative path is looked for in the package, or next to
        the calling script. A digest of None means that the file is not pinned.
    urls : mapping of name to URL, optional
        Addresses of single files, as in pooch; they come before ``dataurl``.
    folders : path-like or sequence of path-like, optional
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
    What is not given is taken from the ``pkgdata.toml`` inside the package, if it has one; for a
    module from that of the nearest package above it, whose name the data then carry.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"declare() takes the package's name first, not {name!r}")
    given: dict[str, Any] = {"dataurl": dataurl, "registry": registry, "folders": folders}
    given |= {"env": env, "version": version, "version_dev": version_dev}
    given = {key: value for key, value in given.items() if value is not None}
    name, folder = _home(name, registry is not None)
    data = _declare(name, folder or _caller_folder(), folder, given, urls, settings)
    _declared[name] = data
    return data


def _declare(
    name: str,
    base: str,
    folder: str | None,
    given: dict[str, Any],
    urls: Mapping[str, str] | None,
    settings: dict[str, Any],
) -> PackageData:
    """Return the data as declared; relative paths lie in the package, else in ``base``."""
    data = _make(name, folder, base, given, urls, settings)
    # where the package lies on this machine is left out
    data._recipe = _declared_elsewhere, (name, None if folder else base, given, urls, settings)
    return data


def _declared_elsewhere(name: str, base: str | None, *arguments: Any) -> PackageData:
    """Return what another process declared; the same object if it is declared here too."""
    known = _declared.get(name)
    if known is not None and known._recipe == (_declared_elsewhere, (name, base, *arguments)):
        return known
    folder = None if base else _home(name, "registry" in arguments[0])[1]
    data = _declare(name, base or folder or os.getcwd(), folder, *arguments)
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
    elif source is None and folder and is_file(os.path.join(folder, "registry.txt")):
        source = os.path.join(folder, "registry.txt")
    # the working directory must not decide which files a package is given
    folders = each_name(values.get("folders", ()))
    values["folders"] = [os.path.join(base, config.expand_path(one)) for one in folders]
    dataurl = each_name(values.get("dataurl", ()))
    values["dataurl"] = [_placed(url, base) for url in dataurl]
    urls = {name: _placed(url, base) for name, url in urls.items()} if urls else urls
    values = {**values.pop("settings", {}), **values, **settings}
    return PackageData(name, registry=source, urls=urls, package_dir=folder, **values)


def _placed(url: str, base: str) -> str:
    """Return a URL; a path, which has no scheme, is relative to ``base``."""
    # a drive of Windows is one letter
    return url if ":" in url[2:] else os.path.join(base, config.expand_path(url))


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


def _home(name: str, own: bool = False) -> tuple[str, str | None]:
    """Return the nearest package from a name upwards that has a declaration, and its folder.

    Else the package that holds the name, else the name itself; ``own``: that package in any case.
    """
    # a module that is run by ``python -m`` is called __main__
    spec = getattr(sys.modules.get(name), "__spec__", None)
    package = spec.name if spec else name
    nearest: tuple[str, str | None] | None = None
    while package and not (nearest and own):
        folders = package_folders(package)
        for folder in folders:
            files = (os.path.join(folder, file) for file in ("pkgdata.toml", "registry.txt"))
            if any(map(is_file, files)):
                return package, folder
        if folders and nearest is None:
            nearest = package, folders[0]
        package = package.rpartition(".")[0]
    return nearest or (name, None)


def package_folder(name: str) -> str | None:
    """Return an importable package's folder, in a namespace package that with the declaration."""
    folders = package_folders(name)
    ours = (one for one in folders if is_file(os.path.join(one, "pkgdata.toml")))
    return next(ours, folders[0] if folders else None)


def package_folders(name: str) -> list[str]:
    """Return the folders of an importable package, which is not imported; none of a module."""
    return [os.path.abspath(path) for path in _search(name) if not path.endswith("_hook__")]


def _search(name: str) -> list[str]:
    if name in sys.modules:
        return [*(getattr(sys.modules[name], "__path__", None) or ())]
    above, _, last = name.rpartition(".")
    path = _search(above) if above else None
    if not last.isidentifier() or path == []:
        return []
    # what importlib.util.find_spec does; importing that costs a third of a hit
    try:
        finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
        specs = (finder.find_spec(name, path) for finder in finders)
        spec = next(filter(None, specs), None)
        return [*((spec and spec.submodule_search_locations) or ())]
    except KeyError:  # a namespace package asks for the one above it, which is not imported
        return [one for part in path or () if os.path.isdir(one := os.path.join(part, last))]
    except (ImportError, ValueError):
        return []


def _read_declaration(folder: str) -> dict[str, Any]:
    """Return the checked table ``[package]`` of a folder's pkgdata.toml; empty if there is none."""
    path = os.path.join(folder, "pkgdata.toml")
    if not is_file(path):
        return {}
    found = config.read(path, TABLES).get("package", {})
    return {key: value for key, value in found.items() if key not in ABOUT}


def declaration_of(package: str) -> PackageData | None:
    """Return the data of a package or of the one above a module: as declared, else by its toml."""
    while package:
        if package in _declared:
            return _declared[package]
        folder = package_folder(package)
        if folder and is_file(os.path.join(folder, "pkgdata.toml")):
            return declare(package)
        package = package.rpartition(".")[0]
    return None


def installed() -> dict[str, str]:
    """Return the import names of the installed packages that announce data, by announced name."""
    # the first on the path is the one that is imported
    return {point.name: module_of(point) for point, _ in reversed([*announcements()])}


def announced() -> Iterator[tuple[str, PackageData | Exception]]:
    """Yield each announced name with its data, whose registry is read, or with what is wrong."""
    names = installed()
    for name in sorted(names):
        found: PackageData | Exception
        try:
            found = find_package(name, names)
            found.registry  # noqa: B018  # read now
        except (PkgdataError, OSError) as error:
            found = error
        yield name, found


def _in_folder(folder: str) -> PackageData:
    """Return the data that a folder declares, as for a package that is not installed."""
    if not is_file(os.path.join(folder, "pkgdata.toml")):
        raise ConfigError(
            f"{folder} has no pkgdata.toml",
            hint="name the folder of the package, such as src/mypkg",
        )
    name = _read_declaration(folder).get("name", os.path.basename(folder))
    data = _make(name, folder, folder, {}, None, {})
    data._recipe = _in_folder, (folder,)
    return data


def find_package(name: str, names: Mapping[str, str] | None = None) -> PackageData:
    """Return the data of an importable package, or of a folder's toml; names as of `installed`."""
    if os.sep in name or "/" in name or name == ".":
        return _in_folder(os.path.abspath(name))
    names = installed() if names is None else names
    package = names.get(name, name)
    data = declaration_of(package)
    if data is not None:
        return data
    folder = package_folder(package)
    if folder is not None:
        raise ConfigError(
            f"{package} has no pkgdata.toml in {folder}",
            hint="its wheel was built without the file, if it was to have one: 'pkgdata init' "
            "prints what the build needs, and 'pkgdata check' proves a wheel",
        )
    if name in names:
        raise ConfigError(
            f"{name!r} stands for {package}, which is no package that can be imported here",
            hint="install it again, or remove what is left of it",
        )
    known = ", ".join(sorted(names)) or "none are installed"
    raise ConfigError(
        f"{name!r} is no package with a pkgdata.toml", hint=f"packages that announce data: {known}"
    )
