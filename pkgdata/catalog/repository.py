"""Repositories: packages with a tree ``config`` of definition modules, found by entry points.

The group is ``pkgdata.repositories``, its value a package or a class derived from `Repository`::

    [project.entry-points."pkgdata.repositories"]
    image = "mypackage"                     # or "mypackage:MyRepository"

A repository that does not load, or a module of one, is reported by a `CatalogError` that names it;
the others still work.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import CatalogError
from . import active, places
from .active import Context
from .definition import Definition

#: Marks (time and size) of definition modules when they were loaded.
_loaded: dict[str, tuple[int, int]] = {}

#: Held while one of them is loaded; a definition may load others.
_loading = threading.RLock()

#: Repositories that were made, by their package.
made: dict[str, Repository] = {}


class Repository:
    """A package's definitions.

    Derive from it, in the package's ``__init__.py``, to give it a name and a description; a package
    without such a class has those of its entry point and its docstring.

    Parameters
    ----------
    context : object, optional
        Not used; datamaestro's repositories are made with one.
    name : str, optional
        `NAMESPACE` by default.
    package : module, optional
        Where ``config`` is; by default that of the class.
    """

    NAMESPACE: str = ""
    DESCRIPTION: str = ""

    def __init__(
        self, context: Any = None, *, name: str | None = None, package: ModuleType | None = None
    ) -> None:
        self.module = package_of(package or sys.modules[type(self).__module__])
        found = sys.modules[self.module]
        self.id = name or self.NAMESPACE or self.module.rpartition(".")[2]
        self.name = self.id
        self.description = self.DESCRIPTION or (found.__doc__ or "").strip().partition("\n")[0]
        self.basedir = Path(folder_of(found))
        self.configdir = self.basedir / "config"
        #: Modules that do not load.
        self.problems: list[CatalogError] = []
        made[self.module] = self

    def __repr__(self) -> str:
        return f"<Repository {self.id} of {self.module}>"

    @classmethod
    def instance(cls, context: Any = None) -> Repository:
        """Return the one object of this class; for ``context`` see `Repository`."""
        found = cls.__dict__.get("INSTANCE")
        if not isinstance(found, cls):
            found = cls(context)
            cls.INSTANCE = found  # type: ignore[attr-defined]
        return found

    @classmethod
    def basemodule(cls) -> str:
        """Return the name of its package."""
        return cls.__module__

    def default_data(self) -> str | None:
        """Return the default folder of its data; None: that of all repositories."""
        return None

    @property
    def context(self) -> Context:
        """Where its data are, and what users set for them."""
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
        """Return its definition modules, each with its time of change (ns) and size (bytes)."""
        return definition_files(str(self.basedir))

    def definitions_in(self, file: str) -> list[Definition]:
        """Load a module and return its definitions, in order; `CatalogError` if it does not load.

        Parameters
        ----------
        file : str
            Relative to the package's folder, with ``/``.
        """
        module = self._module_of(file)
        load(module, str(self.basedir / file))
        found: list[Definition] = active.in_module(module)
        for one in found:
            one.place(self)
        return found

    def _module_of(self, file: str) -> str:
        """Return the dotted name of the module that a file is."""
        parts = file.removesuffix(".py").removesuffix("/__init__").split("/")
        return ".".join([self.module, *parts])

    def modules(self) -> Iterator[tuple[str, list[Definition]]]:
        """Yield its modules' names and definitions; what does not load is in `problems`."""
        self.problems = []
        for file in self.files():
            try:
                yield self._module_of(file), self.definitions_in(file)
            except CatalogError as error:
                self.problems.append(error)

    def __iter__(self) -> Iterator[Definition]:
        for _, found in self.modules():
            yield from found

    def search(self, name: str) -> Definition | None:
        """Return the definition of a name, or None.

        Parameters
        ----------
        name : str
            Its name or a former one.
        """
        return next((one for one in self if name in one.aliases), None)

    @classmethod
    def version(cls) -> str | None:
        """Return the version of its distribution, None if it is not installed as one."""
        package = cls.__module__.partition(".")[0]
        found = metadata.packages_distributions().get(package, [package])
        try:
            return metadata.version(found[0])
        except metadata.PackageNotFoundError:
            return None


def package_of(module: ModuleType) -> str:
    """Return the name of the package that a module is or belongs to."""
    return module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]


def folder_of(module: ModuleType) -> str:
    """Return the folder of a package."""
    if module.__file__:
        return os.path.dirname(os.path.abspath(module.__file__))
    return next(iter(module.__path__))


def definition_files(folder: str) -> dict[str, tuple[int, int]]:
    """Return the modules below a package's ``config``, each with its time of change and size."""
    found: dict[str, tuple[int, int]] = {}
    for here, folders, files in os.walk(os.path.join(folder, "config"), followlinks=True):
        folders[:] = [one for one in folders if one[0] != "." and one != "__pycache__"]
        for file in files:
            if file.endswith(".py") and file[0] != ".":
                path = os.path.join(here, file)
                found[path[len(folder) + 1 :].replace(os.sep, "/")] = mark(path)
    return dict(sorted(found.items()))


def mark(path: str) -> tuple[int, int]:
    """Return a file's time of change (ns) and size (bytes), by which a change is noticed."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def load(module: str, file: str) -> ModuleType:
    """Load a definition module; again, if its file changed since."""
    # a module that another thread begins to import is in sys.modules already, without definitions
    with _loading:
        try:
            now = mark(file)
            found = sys.modules.get(module)
            if found is None:
                found = _first_time(module, file)
            elif _loaded.get(module, now) != now:
                found = _again(found, file)
        except Exception as error:  # whatever an author's module raises
            raise problem(file, error) from error
        _loaded[module] = now
        return found


def _first_time(module: str, file: str) -> ModuleType:
    for newer in (False, True):
        if newer:  # the file may be newer than the last look into its folder, which is kept
            importlib.invalidate_caches()
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
    # a module is next to a folder of its name: only one of them can be imported by name
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


def _again(module: ModuleType, file: str) -> ModuleType:
    """Run a changed module again. Its bytecode may be stale: that goes by seconds."""
    with open(file, "rb") as source:
        code = compile(source.read(), file, "exec", dont_inherit=True)
    for name in [name for name in vars(module) if not name.startswith("__")]:
        delattr(module, name)
    exec(code, vars(module))  # noqa: S102 - definitions are code, which the user has added
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


def known(package: str) -> Repository | None:
    """Return the repository that was made of a package, if that is still the same package."""
    found, module = made.get(package), sys.modules.get(package)
    same = found is not None and module is not None and str(found.basedir) == folder_of(module)
    return found if same else None


# -- repositories of datamaestro -------------------------------------------------------------------
#
# Where datamaestro is installed, their definitions remain its objects; two classes give them the
# interface of ours. What they download comes through our engine, which replaces the one function by
# which all of datamaestro's resources fetch, ``Context.downloadURL``.


def datamaestro_folder() -> str:
    """Return datamaestro's data folder: ``DATAMAESTRO_DIR``, else ``~/datamaestro``."""
    return os.path.expanduser(os.environ.get("DATAMAESTRO_DIR") or "~/datamaestro")


class ForeignRepository(Repository):
    """A repository of datamaestro, by its class and the name of its entry point."""

    def __init__(self, repository: Any, name: str) -> None:
        self._own = repository.instance()
        self.id = self.name = getattr(self._own, "id", name)
        self.description = str(getattr(repository, "DESCRIPTION", ""))
        self.module = repository.__module__
        self.basedir = Path(inspect.getabsfile(repository)).parent
        self.problems = []

    def default_data(self) -> str:
        return datamaestro_folder()

    def definitions_in(self, file: str) -> list[Any]:
        found = load(self._module_of(file), str(self.basedir / file))
        datasets = importlib.import_module("datamaestro.context").Datasets(found)
        return [ForeignDefinition(one, self) for one in datasets]

    def __iter__(self) -> Iterator[Any]:
        files = self.files()
        if not files:
            yield from (ForeignDefinition(one, self) for one in self._own)
        for file in files:
            yield from self.definitions_in(file)


class ForeignDefinition(active.Described):
    """A definition of datamaestro."""

    def __init__(self, definition: Any, repository: ForeignRepository) -> None:
        super().__init__(definition.t, definition.configtype)
        self.own = definition
        self.repository = repository
        self.id: str = definition.id
        self.aliases: set[str] = set(definition.aliases)
        self.name: str = definition.name or ""
        self.description: str = definition.description or ""
        self.tags = set(definition.tags)
        self.tasks = set(definition.tasks)
        self.url: str | None = definition.url
        self.variants: Any = getattr(definition, "variants", None)

    @property
    def resources(self) -> dict[str, Any]:
        """What it consists of."""
        return dict(self.own.resources)

    @property
    def root(self) -> Path:
        """The folder ``<data>``."""
        return places.root(datamaestro_folder())

    @property
    def storage(self) -> str:
        """Name of the folder of its repository's data."""
        return self.repository.id

    @property
    def datapath(self) -> Path:
        """The folder of its data."""
        return self.root / "data" / self.repository.id / Path(*self.id.split("."))

    def _ready(self) -> None:
        """Make it fetch through our engine, into the chosen folder."""
        context = self.own.context
        context._path = self.root
        context.downloadURL = Context(self.root).downloadURL
        self.root.mkdir(parents=True, exist_ok=True)

    def prepare(self, download: bool = False, variant: Mapping[str, Any] | None = None) -> Any:
        """Return its data; with ``download`` what is missing is fetched first."""
        if download:
            self.download()
        self._ready()
        options = {} if variant is None else {"variant_kwargs": dict(variant)}
        return self.own.prepare(download=False, **options)

    def download(self, force: bool = False) -> bool:
        """Fetch the files that are missing."""
        self._ready()
        if self.own.download(force) is False:
            cause = getattr(self.own, "_download_error", None)
            reason = getattr(cause, "__cause__", None) or cause
            raise CatalogError(
                f"datamaestro could not fetch {self.id}" + (f": {reason}" if reason else "")
            ) from reason
        return True
