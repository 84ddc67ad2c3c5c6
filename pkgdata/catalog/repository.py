"""Repositories: packages with a tree ``config`` of definition modules, found by entry points.

A package announces its repository in the group ``pkgdata.repositories``, as a package or as a class
derived from `Repository`::

    [project.entry-points."pkgdata.repositories"]
    image = "mypackage"                     # or "mypackage:MyRepository"

    mypackage/__init__.py
    mypackage/config/com/lecun.py           # definitions com.lecun.*

Those of datamaestro's group ``datamaestro.repositories`` are taken as well
(`pkgdata.catalog.foreign`). A repository that does not load, or a module of one, is told of by a
`CatalogError` that names it; the others still work.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
import threading
import types
from pathlib import Path

from ..errors import CatalogError
from . import definition, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint
    from typing import Any

    from .definition import Definition

#: Entry-point groups, ours first.
GROUP, FOREIGN_GROUP = "pkgdata.repositories", "datamaestro.repositories"

#: Marks (time and size) of definition modules when they were loaded.
_loaded: dict[str, tuple[int, int]] = {}

#: Held while one of them is loaded; a definition may load others.
_loading = threading.RLock()

#: Repositories that were made, by their package.
_made: dict[str, Repository] = {}


class Repository:
    """A package's definitions.

    Derive from it, in the package's ``__init__.py``, to give it a name and a description; a package
    without such a class has those of its entry point and its docstring.

    Parameters
    ----------
    context : object, optional
        Not used; datamaestro's repositories are made with one.
    name : str, optional
        Its name; `NAMESPACE` by default.
    package : module, optional
        Where ``config`` lies; that of the class by default.
    """

    NAMESPACE: str = ""
    DESCRIPTION: str = ""

    def __init__(
        self,
        context: Any = None,
        *,
        name: str | None = None,
        package: types.ModuleType | None = None,
    ) -> None:
        self.module = _package_of(package or sys.modules[type(self).__module__])
        found = sys.modules[self.module]
        self.id = name or self.NAMESPACE or self.module.rpartition(".")[2]
        self.name = self.id
        self.description = self.DESCRIPTION or _first_line(found.__doc__)
        self.basedir = Path(_folder_of(found))
        self.configdir = self.basedir / "config"
        #: Modules that do not load.
        self.problems: list[CatalogError] = []
        _made[self.module] = self

    def __repr__(self) -> str:
        return f"<Repository {self.id} of {self.module}>"

    @classmethod
    def instance(cls, context: Any = None) -> Repository:
        """Return the one object of this class.

        Parameters
        ----------
        context : object, optional
            Not used.

        Returns
        -------
        Repository
        """
        found = cls.__dict__.get("INSTANCE")
        if not isinstance(found, cls):
            found = cls(context)
            cls.INSTANCE = found  # type: ignore[attr-defined]
        return found

    @classmethod
    def basemodule(cls) -> str:
        """Return the name of its package.

        Returns
        -------
        str
        """
        return cls.__module__

    def default_data(self) -> str | None:
        """Return where its data lie unless somebody says otherwise.

        Returns
        -------
        str or None
            None: where those of all repositories do.
        """
        return None

    @property
    def context(self) -> Any:
        """Where its data lie, and what users set for them."""
        from .context import Context

        return Context(places.root(self.default_data()))

    @property
    def datapath(self) -> Path:
        """The folder of its datasets' data."""
        return places.root(self.default_data()) / "data" / self.id

    @property
    def extrapath(self) -> Path:
        """The folder of further files of the package."""
        return self.basedir / "data"

    # -- its definitions -----------------------------------------------------------------------

    def files(self) -> dict[str, tuple[int, int]]:
        """Return its definition modules and their marks; see `definition_files`.

        Returns
        -------
        dict of str to (int, int)
        """
        return definition_files(str(self.basedir))

    def definitions_in(self, file: str) -> list[Definition]:
        """Load a module and return its definitions.

        Parameters
        ----------
        file : str
            Relative to the package's folder, with ``/``.

        Returns
        -------
        list of Definition

        Raises
        ------
        CatalogError
            It does not load; file and line are named.
        """
        module = self.module_of(file)
        load(module, str(self.basedir / file))
        found = definition.in_module(module)
        for one in found:
            one.place(self)
        return found

    def module_of(self, file: str) -> str:
        """Return the name of the module that a file is.

        Parameters
        ----------
        file : str

        Returns
        -------
        str
        """
        parts = file.removesuffix(".py").removesuffix("/__init__").split("/")
        return ".".join([self.module, *parts])

    def modules(self) -> Iterator[tuple[str, list[Definition]]]:
        """Yield its modules' names and their definitions; what does not load is in `problems`.

        Yields
        ------
        (str, list of Definition)
        """
        self.problems = []
        for file in self.files():
            try:
                yield self.module_of(file), self.definitions_in(file)
            except CatalogError as error:
                self.problems.append(error)

    def __iter__(self) -> Iterator[Definition]:
        for _, found in self.modules():
            yield from found

    def search(self, name: str) -> Definition | None:
        """Return the definition of a name.

        Parameters
        ----------
        name : str

        Returns
        -------
        Definition or None
        """
        return next((one for one in self if name in one.aliases), None)

    @classmethod
    def version(cls) -> str | None:
        """Return the version of its distribution.

        Returns
        -------
        str or None
        """
        from importlib import metadata

        package = cls.__module__.partition(".")[0]
        found = metadata.packages_distributions().get(package, [package])
        try:
            return metadata.version(found[0])
        except metadata.PackageNotFoundError:
            return None


def _package_of(module: types.ModuleType) -> str:
    return module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]


def _folder_of(module: types.ModuleType) -> str:
    if module.__file__:
        return os.path.dirname(os.path.abspath(module.__file__))
    return next(iter(module.__path__))


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def definition_files(folder: str) -> dict[str, tuple[int, int]]:
    """Return the modules below a package's ``config``, by their names relative to the package.

    Returns
    -------
    dict of str to (int, int)
        Of each its time of change in ns and its size.
    """
    found: dict[str, tuple[int, int]] = {}
    stack = [("config/", os.path.join(folder, "config"))]
    while stack:
        prefix, here = stack.pop()
        try:
            entries = list(os.scandir(here))
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir():
                stack.append((f"{prefix}{entry.name}/", entry.path))
            elif entry.name.endswith(".py"):
                info = entry.stat()
                found[prefix + entry.name] = (info.st_mtime_ns, info.st_size)
    return dict(sorted(found.items()))


def load(module: str, file: str) -> types.ModuleType:
    """Load a definition module; anew, if its file changed since.

    Parameters
    ----------
    module : str
        Its name.

    Raises
    ------
    CatalogError
        It does not load; file and line are named.
    """
    # a module that another thread begins to import is in sys.modules already, without definitions
    with _loading:
        return _load(module, file)


def _load(module: str, file: str) -> types.ModuleType:
    try:
        info = os.stat(file)
        mark = (info.st_mtime_ns, info.st_size)
        known = sys.modules.get(module)
        if known is not None and _loaded.get(module, mark) == mark:
            found = known
        elif known is not None:
            found = _again(known, file)
        else:
            found = _first_time(module, file)
    except Exception as error:  # whatever an author's module raises
        raise problem(file, error) from error
    _loaded[module] = mark
    return found


def _first_time(module: str, file: str) -> types.ModuleType:
    for newer in (False, True):
        if newer:  # the file may be newer than the last look into its folder, which is kept
            importlib.invalidate_caches()
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
    # a module stands beside a folder of its name: only one of them can be imported by name
    spec = importlib.util.spec_from_file_location(module, file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[module] = found
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[module]
        raise
    return found


def _again(module: types.ModuleType, file: str) -> types.ModuleType:
    """Run a changed module again. Its bytecode may be stale: that goes by seconds."""
    with open(file, "rb") as source:
        code = compile(source.read(), file, "exec", dont_inherit=True)
    for name in [name for name in vars(module) if not name.startswith("__")]:
        delattr(module, name)
    exec(code, vars(module))
    return module


def problem(file: str, error: Exception) -> CatalogError:
    """Return the error for a definition module that does not load."""
    line: int | None = getattr(error, "line", None) if isinstance(error, CatalogError) else None
    text = str(getattr(error, "message", "")) or str(error)
    if isinstance(error, SyntaxError):
        file, line, text = error.filename or file, error.lineno, error.msg
    elif line is None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == file:
                line = trace.tb_lineno
            trace = trace.tb_next
    kind = "" if isinstance(error, CatalogError) else f"{type(error).__name__}: "
    where = file if line is None else f"{file}, line {line}"
    if text.startswith(where):
        return CatalogError(text, file=file, line=line)
    return CatalogError(f"{where}: {kind}{text}", file=file, line=line)


# -- what is installed -----------------------------------------------------------------------------


class Installed:
    """A repository that an entry point announces. It is loaded when that is needed, not before.

    Parameters
    ----------
    name : str
        Of the entry point.
    value : str
        ``package`` or ``package:Class``.
    repository : object, optional
        The repository, if it is loaded.
    """

    def __init__(
        self,
        name: str,
        value: str,
        group: str = GROUP,
        entry: EntryPoint | None = None,
        repository: Any = None,
    ) -> None:
        self.name = name
        self.value = value
        self.group = group
        self._entry = entry
        self._repository = repository

    def __repr__(self) -> str:
        return f"<Installed {self.group}: {self.name} = {self.value}>"

    @property
    def package(self) -> str:
        """The package that the entry point names."""
        return self.value.partition(":")[0].strip()

    @functools.cached_property
    def folder(self) -> str | None:
        """The folder of its package, found without loading it; None if it is not there."""
        if self._repository is not None:
            return str(self._repository.basedir)
        try:
            spec = importlib.util.find_spec(self.package)
        except (ImportError, ValueError, AttributeError):
            return None
        if spec is None:
            return None
        if spec.origin:
            return os.path.dirname(os.path.abspath(spec.origin))
        return next(iter(spec.submodule_search_locations or ()), None)

    @property
    def repository(self) -> Any:
        """The repository, loaded.

        Raises
        ------
        CatalogError
            It does not load.
        """
        if self._repository is None:
            try:
                self._repository = self._load()
            except CatalogError:
                raise
            except Exception as error:  # whatever a foreign package raises when it is imported
                raise CatalogError(
                    f"the repository {self.name!r} ({self.group}: {self.value}) does not load: "
                    f"{type(error).__name__}: {error}",
                    hint=_missing_package(error),
                ) from error
        return self._repository

    def _load(self) -> Any:
        assert self._entry is not None
        found = self._entry.load()
        if isinstance(found, types.ModuleType):
            return _known(_package_of(found)) or Repository(name=self.name, package=found)
        if isinstance(found, Repository):
            return found
        if isinstance(found, type) and issubclass(found, Repository):
            return found.instance()
        if isinstance(found, type) and hasattr(found, "instance"):
            from .foreign import ForeignRepository

            return ForeignRepository(found, self.name)
        raise TypeError(f"{found!r} is neither a package nor a Repository")


def _known(package: str) -> Repository | None:
    """Return the repository that was made of a package, if that is still the same package."""
    made, module = _made.get(package), sys.modules.get(package)
    same = made is not None and module is not None and str(made.basedir) == _folder_of(module)
    return made if same else None


def _missing_package(error: Exception) -> str | None:
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return f"the package {name!r} is not installed" if name else None


def installed() -> list[Installed]:
    """Return the repositories that installed packages announce, by name."""
    from importlib import metadata

    found: dict[tuple[str, str], Installed] = {}
    for group in (GROUP, FOREIGN_GROUP):
        for entry in metadata.entry_points(group=group):
            one = Installed(entry.name, entry.value, group, entry)
            # a package may be announced to both
            found.setdefault((entry.name, one.package), one)
    return sorted(found.values(), key=lambda one: one.name)


@functools.lru_cache(4)
def _packages(path: tuple[str, ...]) -> list[Installed]:
    return installed()


def of_module(module: str) -> Repository | None:
    """Return the repository that a module belongs to."""
    for package in _made:
        if f"{module}.".startswith(f"{package}.config."):
            made = _known(package)
            if made is not None:
                return made
    for one in _packages(tuple(sys.path)):
        if f"{module}.".startswith(f"{one.package}.config.") and one.group == GROUP:
            found = one.repository
            return found if isinstance(found, Repository) else None
    return None
