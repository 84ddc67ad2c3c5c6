"""What authors of definitions write: ``@dataset`` and its kin, the class `Dataset`, and variants.

The forms are datamaestro's, those of its 0.8 line and of its current one (docs/howto/catalog.md
shows both); decorators may stand in any order. A variant of a dataset is selected after its name,
``org.example.family[size=small,lang=fr]``; axes that are left out have their defaults::

    class Sizes(AxesVariants):
        size = Axis(["small", "large"], default="small")
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import CatalogError
from . import active
from . import library as library  # sets `active.default`, which definitions are prepared by
from .definition import Definition


class _DataPath:
    """``MyDataset.data_path``: the folder of its data."""

    def __get__(self, instance: object, owner: type) -> Path:
        found = active.of_class(owner)
        if found is None:
            raise AttributeError(f"{owner.__name__} is no dataset: @dataset is missing")
        return Path(found.datapath)


class DefinitionClass:
    """A definition as a class: its resources are attributes, ``config()`` returns the data."""

    data_path = _DataPath()

    def config(self) -> Any:
        """Return the data."""
        raise NotImplementedError(f"{type(self).__name__} has no method config()")


#: The name in definitions; datamaestro's, too.
Dataset = DefinitionClass


class dataset:
    """Make a definition from the function or class below.

    Parameters
    ----------
    base : type, optional
        Type of the data; by default what the function, or the method ``config()``, is annotated to
        return. A class below ``@metadataset`` stands for its type, and gives its tags and tasks.
    id : str, optional
        Its name, by default that of its place: a whole name (``org.example.custom``), an end after
        the module's name (``.v2`` or ``v2``), or ``""`` for the module's name alone.
    url, doi : str, optional
        A page and a paper about it.
    size : int or str, optional
        How large it is: bytes, or words.
    license : str, optional
        The conditions of its use: an identifier of SPDX, a name or an address.
    timestamp : object, optional
        Which state of a dataset that changes.
    as_prepare : bool, default False
        The function gets the definition, and creates its resources itself.
    variants : Variants, optional
        How its variants differ; see `Variants`.
    """

    def __init__(
        self,
        base: Any = None,
        *,
        id: str | None = None,
        url: str | None = None,
        doi: str | None = None,
        size: int | str | None = None,
        license: str | None = None,
        timestamp: Any = None,
        as_prepare: bool = False,
        variants: Any = None,
    ) -> None:
        self.meta = base.__dict__.get("__metadataset__") if isinstance(base, type) else None
        self.base = base if self.meta is None else self.meta.base
        self._notes_of = base
        self._options = {
            "id": id,
            "url": url,
            "doi": doi,
            "size": size,
            "license": license,
            "timestamp": timestamp,
            "as_prepare": as_prepare,
            "variants": variants() if isinstance(variants, type) else variants,
        }

    def __call__(self, target: Any) -> Any:
        if active.of_class(target) is not None:
            raise CatalogError(f"{target!r} is a dataset already")
        if not (isinstance(target, type) or inspect.isfunction(target)):
            raise CatalogError(f"@dataset decorates a function or a class, not {target!r}")
        base = _inferred(target) if self.base is None else self.base
        made = Definition(target, base, **self._options)
        if self.meta is not None:
            own = active.notes_of(self._notes_of)
            made.tags |= own.tags | self.meta.tags
            made.tasks |= own.tasks | self.meta.tasks
            made.url = made.url or self.meta.url
        if isinstance(target, type):
            target.__dataset__ = made  # type: ignore[attr-defined]
            return target
        return made


def _inferred(target: Any) -> Any:
    """Return the type that a function or ``config()`` says that it returns, or the class itself."""
    is_class = isinstance(target, type)
    function = getattr(target, "config", None) if is_class else target
    if is_class and (function is None or function is Dataset.config):
        return target if not issubclass(target, Dataset) else None
    try:
        found = typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None  # a name that exists for type checkers alone
    return typing.get_origin(found) or found


class metadataset:
    """Mark a class as the description that several datasets share.

    Parameters
    ----------
    base : type, optional
        Type of their data.
    url : str, optional
        A page about them.
    """

    def __init__(self, base: Any = None, *, url: str | None = None) -> None:
        self.base = base
        self.url = url
        self.tags: set[str] = set()
        self.tasks: set[str] = set()

    def __call__(self, target: Any) -> Any:
        for cls in getattr(self.base, "__mro__", ()):
            own = cls.__dict__.get(active.ATTRIBUTE)
            self.tags |= getattr(own, "tags", set())
            self.tasks |= getattr(own, "tasks", set())
        target.__metadataset__ = self
        return target


class datatags:
    """Label a dataset, or all datasets of a type, with what they are about.

    Parameters
    ----------
    *tags : str
        Words or short phrases.
    """

    _kind = "tags"

    def __init__(self, *tags: str) -> None:
        self.words = tags

    def __call__(self, target: Any) -> Any:
        getattr(active.notes_of(target), self._kind).update(self.words)
        return target


class datatasks(datatags):
    """Label a dataset, or all datasets of a type, with what they are for.

    Parameters
    ----------
    *tasks : str
        Words or short phrases.
    """

    _kind = "tasks"

    def __init__(self, *tasks: str) -> None:
        super().__init__(*tasks)


def hook(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn a function of a definition and more arguments into a decorator with these arguments.

    Parameters
    ----------
    name : str
        When the definition calls it: ``"pre-download"`` or ``"pre-use"``.
    """

    def annotate(function: Callable[..., Any]) -> Callable[..., Any]:
        def collect(*args: Any, **options: Any) -> Any:
            def decorate(target: Any) -> Any:
                found = active.of_class(target)
                if found is None:
                    raise CatalogError(f"{function.__name__} must stand above @dataset")
                found.register_hook(name, lambda one: function(one, *args, **options))
                return target

            return decorate

        return collect

    return annotate


# -- variants --------------------------------------------------------------------------------------

_NONE: Any = object()


@dataclasses.dataclass(eq=False, repr=False)
class Axis:
    """One way in which variants differ.

    Parameters
    ----------
    domain : sequence, optional
        Its values; by default any of the type.
    default : object, optional
        The value if none is asked for; without a default one must be.
    type : type, optional
        Of the values, by default of those in the domain. ``Optional[T]`` allows ``null``.
    description : str, optional
        For ``pkgdata catalog info``.
    elide_default : bool, default False
        Leave it out of the name of a variant that has the default.
    """

    domain: Sequence[Any] | None = None
    _: dataclasses.KW_ONLY
    default: Any = _NONE
    type: Any = None
    description: str | None = None
    elide_default: bool = False

    def __post_init__(self) -> None:
        if self.domain is not None:
            self.domain = list(self.domain)
        if not self.type:
            kinds = {one.__class__ for one in self.domain or ()}
            self.type = kinds.pop() if len(kinds) == 1 else None

    @property
    def has_default(self) -> bool:
        """Whether a variant need not say its value."""
        return self.default is not _NONE

    @property
    def enumerable(self) -> bool:
        """Whether its values can be listed."""
        return self.domain is not None

    def coerce(self, raw: Any) -> Any:
        """Turn a text into a value of the axis's type; `ValueError` if it is none.

        Parameters
        ----------
        raw : object
            Anything but a text is returned as it is.
        """
        return _coerced(raw, self.type)

    def validate(self, value: Any) -> None:
        """Raise `ValueError` for what is not in the domain, if there is one.

        Parameters
        ----------
        value : object
        """
        if self.domain is not None and value not in self.domain:
            raise ValueError(f"expected one of {', '.join(map(repr, self.domain))}")


def _coerced(raw: Any, kind: Any) -> Any:
    if not isinstance(raw, str) or kind is None:
        return raw
    choices = typing.get_args(kind)
    if type(None) in choices:
        if raw.lower() in ("null", "none"):
            return None
        return _coerced(raw, next(one for one in choices if one is not type(None)))
    if kind is bool:
        if raw.lower() not in ("true", "false"):
            raise ValueError("expected true or false")
        return raw.lower() == "true"
    return kind(raw)


class Variants:
    """How a family's variants are named; derive from it where axes do not fit."""

    def resolve(self, **chosen: Any) -> dict[str, Any]:
        """Return a value for each axis, defaults filled in.

        `CatalogError` if there is no such axis or value, or one is missing.

        Parameters
        ----------
        **chosen
            Values by the names of axes.
        """
        raise NotImplementedError

    def parse_selector(self, selector: str) -> dict[str, Any]:
        """Return the texts of ``[key=value,...]`` by the names of axes; else `CatalogError`.

        Parameters
        ----------
        selector : str
            With its brackets.
        """
        raise NotImplementedError

    def format_selector(self, chosen: Mapping[str, Any]) -> str:
        """Return ``[key=value,...]``, axes sorted by name, the same for the same variant.

        Parameters
        ----------
        chosen : mapping
            See `resolve`.
        """
        raise NotImplementedError

    def enumerate(self) -> Iterator[dict[str, Any]]:
        """Yield the variants that can be listed, as from `resolve`."""
        raise NotImplementedError


class AxesVariants(Variants):
    """All combinations of some axes, given as attributes of a class or as arguments.

    Parameters
    ----------
    **axes : Axis
        Added to those of the class.
    """

    def __init__(self, **axes: Axis) -> None:
        of_class = {
            name: value
            for cls in reversed(type(self).__mro__)
            for name, value in vars(cls).items()
            if isinstance(value, Axis)
        }
        self.axes: dict[str, Axis] = {**of_class, **axes}

    def resolve(self, **chosen: Any) -> dict[str, Any]:
        for name in chosen:
            if name not in self.axes:
                known = ", ".join(self.axes)
                raise CatalogError(f"no axis {name!r} of variants", hint=f"known: {known}")
        found = {}
        for name, axis in self.axes.items():
            if name not in chosen and not axis.has_default:
                values = f" (one of {', '.join(map(str, axis.domain))})" if axis.domain else ""
                raise CatalogError(f"the variant needs a value of {name!r}{values}")
            value = chosen.get(name, axis.default)
            try:
                value = axis.coerce(value)
                if name in chosen:
                    axis.validate(value)
            except ValueError as error:
                raise CatalogError(f"{name} = {chosen[name]!r}: {error}") from None
            found[name] = value
        return found

    def parse_selector(self, selector: str) -> dict[str, Any]:
        if not (selector.startswith("[") and selector.endswith("]")):
            raise CatalogError(f"{selector!r}: expected [axis=value,...]")
        found: dict[str, Any] = {}
        for piece in filter(str.strip, selector[1:-1].split(",")):
            name, equals, value = piece.partition("=")
            if not equals or name.strip() in found:
                raise CatalogError(f"{selector!r}: expected [axis=value,...], found {piece!r}")
            found[name.strip()] = value.strip()
        return found

    def format_selector(self, chosen: Mapping[str, Any]) -> str:
        values = self.resolve(**chosen)
        pieces = [
            f"{name}={_written(value)}"
            for name, value in sorted(values.items())
            if not (self.axes[name].elide_default and value == self.axes[name].default)
        ]
        return f"[{','.join(pieces)}]" if pieces else ""

    def enumerate(self) -> Iterator[dict[str, Any]]:
        axes = self.axes.items()
        domains = [[axis.default] if axis.domain is None else axis.domain for _, axis in axes]
        for values in itertools.product(*domains):
            yield dict(zip(self.axes, values, strict=True))


def _written(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
