"""Kinds of resources, and what new ones derive from."""

from __future__ import annotations

from ....catalog.resources import FileResource, FolderResource, Resource, ValueResource
from ....catalog.resources.elsewhere import reference
from ....catalog.resources.made import FilesCopy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Download",
    "FileResource",
    "FilesCopy",
    "FolderResource",
    "LocalResourceMixin",
    "Reference",
    "Resource",
    "ValueResource",
    "initialized",
    "reference",
]

Reference = reference


class LocalResourceMixin:
    """Marks resources that have no source to ask for."""

    def sources(self) -> tuple[str, ...]:
        """Return the addresses from which it comes: none."""
        return ()


class Download(Resource):
    """The former base of resources: ``download()`` does all, ``prepare()`` returns the result."""

    def __init__(self, varname: str) -> None:
        super().__init__(varname)
        self.varname = varname
        self._post = False

    @property
    def definition(self) -> Any:
        """The definition that it belongs to."""
        return self.dataset

    def register(self, dataset: Any) -> Any:
        """Belong to a definition."""
        return self(dataset)

    def postinit(self) -> None:
        """Prepare the first use."""

    def has_files(self) -> bool:
        return self.hasfiles()

    def hasfiles(self) -> bool:
        """Do as `has_files`, by its former name."""
        return True

    def files_present(self) -> bool:
        return False


def initialized(method: Any) -> Any:
    """Have ``postinit()`` run once before a method."""
    import functools

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **options: Any) -> Any:
        if not self._post:
            self._post = True
            self.postinit()
        return method(self, *args, **options)

    return wrapper
