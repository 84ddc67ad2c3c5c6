"""Variants: one definition for a family of datasets that differ along some axes.

A variant is asked for after the name, ``org.example.family[size=small,lang=fr]``, or as
``prepare_dataset(name, variant={"size": "small"})``. Axes that are left out have their defaults.
``@dataset(..., variants=...)`` takes an object or a class::

    class Sizes(AxesVariants):
        size = Axis(["small", "large"], default="small")
"""

from __future__ import annotations

import itertools
import typing

from ..errors import CatalogError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_NONE: Any = object()


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

    def __init__(
        self,
        domain: Sequence[Any] | None = None,
        *,
        default: Any = _NONE,
        type: Any = None,
        description: str | None = None,
        elide_default: bool = False,
    ) -> None:
        self.domain = None if domain is None else list(domain)
        self.default = default
        self.type = type or _common_type(self.domain)
        self.description = description
        self.elide_default = elide_default

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


def _common_type(domain: list[Any] | None) -> Any:
    found = {type(value) for value in domain or ()}
    return found.pop() if len(found) == 1 else None


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
                raise CatalogError(f"the variant must say {name!r}{values}")
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


def split_selector(name: str) -> tuple[str, str]:
    """Split ``NAME[axis=value,...]``; the selector keeps its brackets."""
    base, bracket, rest = name.partition("[")
    return base.strip(), bracket + rest
