"""Prepared data as JSON, as ``pkgdata catalog prepare`` prints it.

``normal`` is what people and shell scripts want: fields, and paths as texts. ``xpm`` adds to each
object its type (``$type``) and marks paths (``{"$type": "path", "$value": ...}``), as experimaestro
reads it; datamaestro prints both in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..errors import CatalogError
from .types import base as types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Names of the encoders.
ENCODERS = ("normal", "xpm")


def encoded(value: Any, encoder: str = "normal") -> Any:
    """Return what JSON can hold of a value.

    Raises
    ------
    CatalogError
        There is no such encoder, or something in it cannot be written.
    """
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
    if not (types.is_data(value) or hasattr(value, "__dict__")):
        raise CatalogError(f"a {type(value).__name__} cannot be written as JSON: {value!r}")
    found = {name: encoded(one, encoder) for name, one in types.fields(value).items()}
    if encoder == "xpm":
        found["$type"] = types.identifier(_class_of(value))
    return found


def _class_of(value: Any) -> type:
    """Return the type of an object; experimaestro derives from it for unfinished objects."""
    if types.is_configuration(value):
        found: type = value.__getxpmtype__().value_type
        return found
    return type(value)


def dumps(value: Any, encoder: str = "normal", indent: int | None = None) -> str:
    """Return a value as JSON."""
    import json

    return json.dumps(encoded(value, encoder), indent=indent, ensure_ascii=False)
