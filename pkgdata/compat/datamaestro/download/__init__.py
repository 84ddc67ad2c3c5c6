"""Kinds of resources, and what new ones derive from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ....catalog.resources import FileResource, FolderResource, Resource, ValueResource
from ....catalog.resources.elsewhere import reference
from ....catalog.resources.folders import FilesCopy

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

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **options: Any) -> Any:
        if not self._post:
            self._post = True
            self.postinit()
        return method(self, *args, **options)

    return wrapper


def folder_of(resource: Resource, own: Path, name: str) -> Path:
    """Return the path of a folder: pkgdata's own, unless only datamaestro's is there.

    datamaestro unpacks an archive into the dataset's own folder if that is its only resource, else
    into one of the given name.
    """
    if own.exists():
        return own
    folder = resource.owner.datapath
    if len(resource.owner.resources) > 1:
        theirs = folder / name
        return theirs if theirs.is_dir() else own
    return folder if _has_content(resource, folder) else own


def _has_content(resource: Resource, folder: Path) -> bool:
    """Return True if a dataset's folder holds more than notes, and folders of other datasets."""
    if not folder.is_dir():
        return False
    names = [one.name for one in folder.iterdir() if not one.name.startswith(".")]
    if not names:
        return False
    prefix = f"{resource.owner.id}."
    below = {
        one.id[len(prefix) :].partition(".")[0]
        for one in resource.owner.catalog.records()
        if one.id.startswith(prefix)
    }
    return not below.issuperset(names)
