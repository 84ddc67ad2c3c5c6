"""`Base`, the fields of objects of any type, and how they are written as JSON.

A type lists its fields as annotations, as dataclasses do; its objects are made with keyword
arguments, by ``Corpus(path=...)`` or, as for experimaestro, ``Corpus.C(path=...)``. Each has an
``id``, such as ``com.example.corpus@text``, that the catalog sets.

JSON comes in two forms: ``normal``, with paths as texts, for people and scripts; and ``xpm``, where
each object has its type (``$type``) and paths are marked (``{"$type": "path", "$value": ...}``), as
experimaestro reads it and datamaestro prints it.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ..base.text import as_json
from ..errors import CatalogError

_NONE = object()


class _ClassItself:
    """``Type.C``: the type, as experimaestro's users call it when they make an object."""

    def __get__(self, instance: object, owner: type) -> type:
        return owner


class Base:
    """An object of a dataset.

    Parameters
    ----------
    **values
        Its fields; `TypeError` if one without a default is missing, or there is no such field.
    """

    __xpmid__ = "pkgdata.catalog.types.base.base"

    id: str = ""

    C = _ClassItself()

    def __init__(self, **values: Any) -> None:
        for name, default in _declared(type(self)).items():
            if name in values:
                value = values.pop(name)
            elif default is _NONE:
                raise TypeError(f"{type(self).__name__} needs the field {name!r}")
            else:
                value = copy.copy(default)
            setattr(self, name, value)
        if values:
            known = ", ".join(_declared(type(self)))
            raise TypeError(
                f"{type(self).__name__} has no field {next(iter(values))!r} (it has {known})"
            )

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in fields(self).items())
        return f"{type(self).__name__}({inside})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = object.__hash__

    @property
    def definition(self) -> Any:
        """The definition that made it, or None."""
        return self.__dict__.get("__datamaestro_dataset__")

    def dataset_information(self) -> dict[str, Any]:
        """Return ``id``, ``name`` and ``description`` of its definition."""
        made_by = self.definition
        return {
            "id": self.id,
            "name": made_by.name if made_by is not None else "",
            "description": made_by.description if made_by is not None else "",
        }

    def download(self) -> None:
        """Fetch the files of its dataset that are missing."""
        if self.definition is not None:
            self.definition.download()

    def prepare(self, *args: Any, **options: Any) -> Any:
        """Fetch the files of its dataset that are missing and return it.

        Parameters
        ----------
        *args, **options
        """
        self.download()
        return self


# -- fields ----------------------------------------------------------------------------------------


def _annotations(cls: type) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)


def _is_class_variable(annotation: Any) -> bool:
    text = annotation if isinstance(annotation, str) else str(annotation)
    return text.removeprefix("typing.").startswith("ClassVar")


def _default(cls: type, name: str) -> Any:
    value = cls.__dict__.get(name, _NONE)
    if isinstance(value, dataclasses.Field):
        if value.default_factory is not dataclasses.MISSING:
            return value.default_factory()
        return _NONE if value.default is dataclasses.MISSING else value.default
    if type(value).__module__.startswith("experimaestro") and hasattr(value, "default"):
        return value.default  # field(default=..., ignore_default=True)
    return value


def _declared(cls: type) -> dict[str, Any]:
    """Return the fields of a type, with their defaults; what has none comes with `_NONE`."""
    found: dict[str, Any] = {}
    for one in reversed(cls.__mro__):
        for name, annotation in _annotations(one).items():
            if name.startswith("_") or _is_class_variable(annotation):
                continue
            default = _default(one, name)
            found[name] = found.get(name, _NONE) if default is _NONE else default
        declared = one.__dict__.get("__arguments__", {})  # of datamaestro's @argument
        found.update(declared)
    return found


def field_names(cls: type) -> dict[str, bool]:
    """Return the fields of a type, as far as it says, and whether each must be given."""
    if is_configuration(cls):
        arguments = cls.__getxpmtype__().arguments  # type: ignore[attr-defined]
        return {name: bool(one.required) for name, one in arguments.items() if name != "id"}
    if dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        return {
            one.name: one.default is missing and one.default_factory is missing
            for one in dataclasses.fields(cls)
            if one.name != "id"
        }
    if issubclass(cls, Base):
        return {name: value is _NONE for name, value in _declared(cls).items() if name != "id"}
    return {}


def is_configuration(value: Any) -> bool:
    """Return True for a configuration class of experimaestro, or an object of one."""
    module = sys.modules.get("experimaestro")
    config = getattr(module, "Config", None)
    if not isinstance(config, type):
        return False
    return issubclass(value, config) if isinstance(value, type) else isinstance(value, config)


def make(cls: Any, values: Mapping[str, Any]) -> Any:
    """Make an object of any type from its fields."""
    maker = cls.C if is_configuration(cls) else cls
    try:
        return maker(**values)
    except TypeError as error:
        raise CatalogError(f"no {cls.__name__} can be made of {sorted(values)}: {error}") from error


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of an object, its ``id`` first."""
    if is_configuration(value):
        pairs = value.__xpm__.xpmvalues()
        return {argument.name: one for argument, one in pairs}
    if dataclasses.is_dataclass(value):
        found = {one.name: getattr(value, one.name, None) for one in dataclasses.fields(value)}
    elif isinstance(value, Base):
        found = {name: getattr(value, name, None) for name in _declared(type(value))}
        found |= {name: one for name, one in vars(value).items() if not name.startswith("_")}
    else:
        found = {name: one for name, one in vars(value).items() if not name.startswith("_")}
    own = found.pop("id", None) or getattr(value, "id", None)
    return {"id": own, **found} if own else found


def is_data(value: Any) -> bool:
    """Return True for an object of a dataset, as opposed to a plain value."""
    if isinstance(value, type):
        return False
    return isinstance(value, Base) or dataclasses.is_dataclass(value) or is_configuration(value)


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the objects of a dataset that another one holds, with the ends of their names."""
    found = value.__xpm__.values if is_configuration(value) else fields(value)
    for name, one in found.items():
        if is_data(one):
            yield name, one
        elif isinstance(one, (list, tuple)):
            yield from ((f"{name}.{i}", item) for i, item in enumerate(one) if is_data(item))
        elif isinstance(one, Mapping):
            yield from ((f"{name}.{key}", item) for key, item in one.items() if is_data(item))


def give_ids(value: Any, name: str, repository: str | None, made_by: Any) -> None:
    """Name an object and its parts; one that has an id belongs to another dataset and keeps it."""
    if not is_data(value) or _belongs(value):
        return
    if not _names_itself(type(value)):
        _set(value, "id", f"{name}@{repository}" if repository else name)
    _set(value, "__datamaestro_dataset__", made_by)
    for end, part in parts(value):
        give_ids(part, f"{name}.{end}", repository, made_by)


def _names_itself(cls: type) -> bool:
    """Return True if a type has a field ``id`` of its own, which means something else."""
    return dataclasses.is_dataclass(cls) and any(
        one.name == "id" for one in dataclasses.fields(cls)
    )


def _belongs(value: Any) -> bool:
    if getattr(value, "__dict__", {}).get("__datamaestro_dataset__") is not None:
        return True
    if _names_itself(type(value)):
        return False
    try:
        return bool(value.id)
    except (AttributeError, KeyError):  # the second is experimaestro's way to say: not set
        return False


def _set(value: Any, name: str, to: Any) -> None:
    try:
        if name == "__datamaestro_dataset__":
            value.__dict__[name] = to
        elif dataclasses.is_dataclass(value):
            object.__setattr__(value, name, to)  # a frozen one, too
        else:
            setattr(value, name, to)
    except AttributeError:
        pass  # a class with slots, or a configuration without an id: it lives without


def type_names(cls: Any) -> list[str]:
    """Return the full names of a type and its bases, each with its experimaestro identifier."""
    found = []
    for one in getattr(cls, "__mro__", ()):
        if one is object or one.__module__ in ("typing", "abc"):
            continue
        full, short = f"{one.__module__}.{one.__qualname__}", identifier(one)
        found += [full] if short == full.lower() else [full, short]
    return list(dict.fromkeys(found))


def identifier(cls: type) -> str:
    """Return the name of a type as experimaestro writes it."""
    if is_configuration(cls):
        return str(cls.__getxpmtype__().identifier)  # type: ignore[attr-defined]
    chosen = cls.__dict__.get("__xpmid__")
    return str(chosen) if chosen else f"{cls.__module__}.{cls.__qualname__}".lower()


# -- as JSON ---------------------------------------------------------------------------------------

#: Names of the encoders.
ENCODERS = ("normal", "xpm")


def encoded(value: Any, encoder: str = "normal") -> Any:
    """Return what JSON can hold of a value."""
    if encoder not in ENCODERS:
        raise CatalogError(f"no encoder {encoder!r}", hint=f"known: {', '.join(ENCODERS)}")
    if isinstance(value, os.PathLike):
        path = os.path.realpath(os.fspath(value))
        return path if encoder == "normal" else {"$type": "path", "$value": path}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): encoded(one, encoder) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [encoded(one, encoder) for one in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # a number of numpy
        return value.item()
    return _object(value, encoder)


def _object(value: Any, encoder: str) -> dict[str, Any]:
    if not (is_data(value) or hasattr(value, "__dict__")):
        raise CatalogError(f"a {type(value).__name__} cannot be written as JSON: {value!r}")
    found = {name: encoded(one, encoder) for name, one in fields(value).items()}
    if encoder == "xpm":
        found["$type"] = identifier(_class_of(value))
    return found


def _class_of(value: Any) -> type:
    """Return the type of an object; experimaestro derives from it for unfinished objects."""
    if is_configuration(value):
        found: type = value.__getxpmtype__().value_type
        return found
    return type(value)


def dumps(value: Any, encoder: str = "normal", indent: int | None = None) -> str:
    """Return a value as JSON."""
    return as_json(encoded(value, encoder), indent=indent)
