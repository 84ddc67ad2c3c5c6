"""Data types: `Base`, files and folders."""

from __future__ import annotations

from ....catalog import objects, types
from ..definitions import AbstractDataset
from ..xpm import Meta, Param, argument, documentation

__all__ = [
    "AbstractDataset",
    "Base",
    "File",
    "Folder",
    "Generic",
    "Meta",
    "Param",
    "argument",
    "documentation",
]


class Base(objects.Base):
    """An object of a dataset."""

    __xpmid__ = "datamaestro.data.base"


class Generic(types.Generic, Base):
    """An object with any fields."""

    __xpmid__ = "datamaestro.data.generic"


class File(types.File, Base):
    """A file."""

    __xpmid__ = "datamaestro.data.file"


class Folder(types.Folder, Base):
    """A folder."""

    __xpmid__ = "datamaestro.data.folder"
