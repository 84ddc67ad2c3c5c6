"""Definitions: what a dataset is called, what it consists of, and what is made of it.

A function below ``@dataset`` gets the paths of its resources and returns the fields of the data
type; a class has them as attributes, and a method ``config()`` that returns an object.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import CatalogError
from . import active, objects, places
from .active import ATTRIBUTE
from .resources import Resource


class Definition(active.Described):
    """A dataset as its author describes it.

    Parameters
    ----------
    target : function or class
        What is decorated with ``@dataset``.
    base : type or None
        Type of the data.
    id : str, optional
    **facts
        As of `dataset`: ``url``, ``doi``, ``size``, ``license``, ``timestamp``, ``as_prepare``,
        ``variants``.
    """

    url: str | None = None
    doi: str | None = None
    size: int | str | None = None
    license: str | None = None
    timestamp: Any = None
    as_prepare: bool = False
    variants: Any = None

    def __init__(self, target: Any, base: Any, *, id: str | None = None, **facts: Any) -> None:
        super().__init__(target, base)
        vars(self).update(facts)
        self.version: str | None = None
        self.resources: dict[str, Resource] = {}
        self.hooks: dict[str, list[Callable[[Definition], Any]]] = {}
        self._wanted_id = id
        self._repository: Any = None
        self._name()
        self._collect()

    def __getattr__(self, name: str) -> Part:
        # a property that fails with an AttributeError leads here, too, and must not be hidden
        if name.startswith("_") or hasattr(type(self), name):
            raise AttributeError(name)
        return Part(self, (name,))

    # -- who it is -----------------------------------------------------------------------------

    def _name(self) -> None:
        module = self.target.__module__
        package, config, place = _split(module, self._repository)
        if not config and (self._wanted_id is None or "." not in self._wanted_id.strip(".")):
            raise CatalogError(
                f"{module}.{self.target.__qualname__} is a dataset without a name",
                hint="definitions are in the folder 'config' of a repository; elsewhere they need "
                "an id, such as @dataset(..., id='org.example.name')",
                file=self.file,
                line=self.line,
            )
        try:
            named = places.definition_name(place, self.target.__name__, self._wanted_id)
        except CatalogError as error:
            error.file, error.line = self.file, self.line
            raise
        self.id, aliases = named
        self.aliases: set[str] = {self.id, *aliases}
        self.module = module
        self._package = package

    def _collect(self) -> None:
        """Take over what stands on the function or class, and on the types."""
        is_class = isinstance(self.target, type)
        for cls in (*getattr(self.base, "__mro__", ()), *(self.target.__mro__ if is_class else ())):
            notes = cls.__dict__.get(ATTRIBUTE) or cls.__dict__.get("__datamaestro__")
            self.tags |= set(getattr(notes, "tags", ()))
            self.tasks |= set(getattr(notes, "tasks", ()))
        own = self.target.__dict__.get(ATTRIBUTE)
        if own is not None:
            self.tags |= own.tags
            self.tasks |= own.tasks
            for resource in own.loose_resources:
                self.add_resource(resource)
        if is_class:
            self._adopt(self.target)

    def add_resource(self, resource: Resource) -> None:
        resource.bind(resource.name, self)

    def _adopt(self, target: type) -> None:
        """Take over the resources that are attributes of the class, inherited ones as copies."""
        copies: dict[int, Resource] = {}
        for cls in reversed(target.__mro__):
            for name, value in list(vars(cls).items()):
                if not isinstance(value, Resource):
                    continue
                if cls is not target:
                    inherited, value = value, copy.copy(value)
                    value.dataset = None
                    copies[id(inherited)] = value
                    setattr(target, name, value)
                elif value.dataset is self:
                    continue  # inherited, and set above
                value.bind(name, self)
        for resource in self.resources.values():
            resource._dependencies = [copies.get(id(one), one) for one in resource._dependencies]

    @property
    def name(self) -> str:
        """What it is called in one line: the first of its docstring."""
        return " ".join(line.strip() for line in self._doc()[0]).strip()

    @property
    def description(self) -> str:
        """What its docstring says below the first paragraph."""
        return "\n".join(self._doc()[1]).strip()

    def _doc(self) -> tuple[list[str], list[str]]:
        # a class inherits no docstring here: that of its type says nothing about the dataset
        own = vars(self.target).get("__doc__")
        doc = own if isinstance(self.target, type) else self.target.__doc__
        paragraphs = inspect.cleandoc(doc or "").splitlines()
        blank = next((i for i, line in enumerate(paragraphs) if not line.strip()), len(paragraphs))
        return paragraphs[:blank], paragraphs[blank + 1 :]

    @property
    def configtype(self) -> Any:
        """The type of its data."""
        return self.base

    # -- where it belongs ----------------------------------------------------------------------

    @property
    def repository(self) -> Any:
        """The repository that it belongs to, or None."""
        if self._repository is None:
            found = self.catalog.repository_of(self.module)
            if found is not None:
                self.place(found)
        return self._repository

    def place(self, repository: Any) -> None:
        """Belong to a repository.

        Parameters
        ----------
        repository : Repository
        """
        self._repository = repository
        self._name()

    @property
    def catalog(self) -> Any:
        """The catalog at work."""
        return active.current()

    @property
    def storage(self) -> str:
        """Name of the folder of its repository's data."""
        repository = self.repository
        return repository.id if repository is not None else f"__custom__/{self._package}"

    @property
    def root(self) -> Path:
        """The folder ``<data>`` (`pkgdata.catalog.places`)."""
        repository = self.repository
        return places.root(None if repository is None else repository.default_data())

    @property
    def context(self) -> active.Context:
        """Where its data are, and what users set for them."""
        return active.Context(self.root)

    @property
    def datapath(self) -> Path:
        """The folder of its data; that of a former name, if only that one is there."""
        top = self.root / "data" / self.storage
        paths = [top.joinpath(*one.split(".")) for one in [self.id, *sorted(self.aliases)]]
        if self.version:
            paths = [path.with_suffix(f".v{self.version}") for path in paths]
        return next((path for path in paths if path.is_dir()), paths[0])

    def has_files(self) -> bool:
        """Return True if something of it is in its folder."""
        return any(one.has_files() for one in self.resources.values())

    # -- what is made of it --------------------------------------------------------------------

    def register_hook(self, name: str, hook: Callable[[Definition], Any]) -> None:
        """Have a function called with the definition at a certain moment.

        Parameters
        ----------
        name : str
            ``"pre-download"`` or ``"pre-use"``.
        hook : callable
        """
        self.hooks.setdefault(name, []).append(hook)

    def prepare(self, download: bool = False, variant: Mapping[str, Any] | None = None) -> Any:
        """Return its data, fetched first with ``download``; see `prepare_dataset`."""
        return self.catalog.prepare(self, download=download, variant=variant)

    def download(self, force: bool = False) -> bool:
        """Fetch the files that are missing; return True.

        Parameters
        ----------
        force : bool, default False
            Fetch and make all files again.
        """
        self.catalog.download(self, force=force)
        return True

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self.prepare(*args, **options)

    def build(self, variant: Mapping[str, Any] | None = None) -> Any:
        """Make its data from what is here; for the variant see `prepare_dataset`.

        `CatalogError` if that is nothing, or not of its type.
        """
        for hook in self.hooks.get("pre-use", ()):
            hook(self)
        result = self._result(variant)
        if result is None:
            raise self.wrong("it returns nothing; expected fields or an object")
        values = result if isinstance(result, dict) else getattr(result, "__dict__", {})
        for name, value in values.items():
            if isinstance(value, places.DataFolder):
                values[name] = value.resolve(self.root)
        if isinstance(result, dict):
            if not isinstance(self.base, type):
                raise self.wrong("it returns fields, but has no type: @dataset(TYPE)")
            try:
                result = objects.make(self.base, result)
            except CatalogError as error:
                raise self.wrong(error.message) from error
        selector = self.variants.format_selector(variant or {}) if self.variants else ""
        repository = self.repository
        label = None if repository is None else repository.id
        objects.give_ids(result, self.id + selector, label, self)
        return result

    def _result(self, variant: Mapping[str, Any] | None) -> Any:
        target = self.target
        options = dict(variant or {})
        if not isinstance(target, type):
            if self.as_prepare:
                return target(self, None)
            given = {one.variable: one.prepare() for one in self.resources.values()}
            return target(**given, **options)
        maker = inspect.getattr_static(target, "__create_dataset__", None)
        if maker is not None:
            return getattr(target, "__create_dataset__")(self)  # noqa: B009 -- a type has none
        if hasattr(target, "config") and not objects.is_configuration(target):
            return object.__new__(target).config(**options)
        return self._fields_of_resources()

    def _fields_of_resources(self) -> dict[str, Any]:
        """Return the fields of a type that has resources as attributes, by their names."""
        lasting = {one.name.lower(): one for one in self.resources.values() if not one.transient}
        needed = objects.field_names(self.base) if isinstance(self.base, type) else {}
        found = {
            name: lasting[name.lower()].prepare() for name in needed if name.lower() in lasting
        }
        missing = [name for name, required in needed.items() if required and name not in found]
        if missing == ["path"] and len(lasting) == 1:
            found["path"] = next(iter(lasting.values())).prepare()
        elif missing:
            raise self.wrong(
                f"nothing says what its field {missing[0]!r} is: give the class a method config(), "
                f"or a resource that is named {missing[0].upper()!r}"
            )
        return found

    def wrong(self, problem: str) -> CatalogError:
        """Return the error for a definition that does not do what it should.

        Parameters
        ----------
        problem : str
            Follows file, line and name in the message.
        """
        where = f"{self.file}, line {self.line}: " if self.file else ""
        return CatalogError(f"{where}{self.id}: {problem}", file=self.file, line=self.line)


def _split(module: str, repository: Any) -> tuple[str, bool, str]:
    """Return package, whether it has a part ``config``, and what follows that."""
    if repository is not None and f"{module}.".startswith(f"{repository.module}.config."):
        return repository.module, True, module[len(repository.module) + len(".config.") :]
    before, config, place = f".{module}.".partition(".config.")
    return before.strip(".").partition(".")[0] or "config", bool(config), place.rstrip(".")


class Part:
    """A part of a dataset's data, by attribute names; links may point to it before it exists."""

    def __init__(self, definition: Definition, keys: tuple[str, ...]) -> None:
        self._definition = definition
        self._keys = keys

    def __repr__(self) -> str:
        return f"<part {'.'.join(self._keys)} of {self._definition.id}>"

    def __getattr__(self, name: str) -> Part:
        if name.startswith("_"):
            raise AttributeError(name)
        return Part(self._definition, (*self._keys, name))

    def download(self, force: bool = False) -> None:
        """Fetch what is missing of the dataset."""
        self._definition.download(force)

    def prepare(self, download: bool = False) -> Any:
        """Return the part; with ``download`` what is missing is fetched first."""
        found = self._definition.prepare(download)
        for key in self._keys:
            found = getattr(found, key)
        return found

    def __call__(self) -> Any:
        return self.prepare()
