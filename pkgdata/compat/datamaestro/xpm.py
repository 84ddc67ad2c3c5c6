"""What definitions take from experimaestro, without it: annotations, `Config` and `argument`.

Where experimaestro is installed, its own may be used instead; so may its configuration classes, as
types of data.
"""

from __future__ import annotations

from typing import Any

from ...catalog import objects


class _Annotation:
    """``Param[T]`` and its like: the type alone."""

    def __class_getitem__(cls, item: Any) -> Any:
        return item


class Param(_Annotation):
    """A field of an object."""


class Option(_Annotation):
    """A field that says how, not what."""


class Meta(_Annotation):
    """A field by which two objects are not distinguished."""


class Constant(_Annotation):
    """A field that does not change."""


class Config(objects.Base):
    """An object made of its fields."""


class _Field:
    """What `field` returns; its default is the field's."""

    __module__ = "experimaestro.field"

    def __init__(self, default: Any) -> None:
        self.default = default


def field(*, default: Any = None, **options: Any) -> Any:
    """Give a field a default."""
    return _Field(default)


def argument(
    name: str,
    type: Any = None,
    default: Any = objects._NONE,
    required: bool | None = None,
    **options: Any,
) -> Any:
    """Give a class a field, as a decorator."""
    if required is False and default is objects._NONE:
        default = None

    def decorate(cls: Any) -> Any:
        own = cls.__dict__.get("__arguments__", {})
        cls.__arguments__ = {**own, name: default}
        return cls

    return decorate


def constant(name: str, value: Any, **options: Any) -> Any:
    """Give a class a field that does not change, as a decorator."""
    return argument(name, default=value)


def documentation(function: Any) -> Any:
    """Return a function as it is; marks what is documented."""
    return function
