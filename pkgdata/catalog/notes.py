"""What decorators leave on a function, class or type: tags, tasks, resources, its definition.

This module imports nothing of the catalog, so that resources can be decorators without knowing what
a `Definition` is.
"""

from __future__ import annotations

import sys

from ..errors import CatalogError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Where decorators leave notes on what is not a definition yet.
ATTRIBUTE = "__pkgdata_notes__"


class Notes:
    """Tags, tasks and resources; those of a dataset are its `Definition`."""

    def __init__(self) -> None:
        self.tags: set[str] = set()
        self.tasks: set[str] = set()
        self.loose_resources: list[Any] = []

    def add_resource(self, resource: Any) -> None:
        """Keep a resource for the definition that is made later."""
        self.loose_resources.append(resource)


def of_class(target: Any) -> Any:
    """Return the definition that something is or has, or None."""
    if isinstance(target, Notes):
        return target
    attribute = "__dataset__" if isinstance(target, type) else "__datamaestro_dataset__"
    found = getattr(target, "__dict__", {}).get(attribute)
    return found if isinstance(found, Notes) else None


def notes_of(target: Any) -> Notes:
    """Return where tags, tasks and resources of something are kept."""
    found = of_class(target) or getattr(target, "__dict__", {}).get(ATTRIBUTE)
    if found is None:
        found = Notes()
        try:
            setattr(target, ATTRIBUTE, found)
        except (AttributeError, TypeError):
            raise CatalogError(
                f"{target!r} is neither a dataset nor a type, and cannot be annotated"
            ) from None
    notes: Notes = found
    return notes


def in_module(name: str) -> list[Any]:
    """Return the definitions that a loaded module makes, in order; not those that it imports."""
    found = map(of_class, vars(sys.modules[name]).values())
    return list(dict.fromkeys(one for one in found if one is not None and one.module == name))
