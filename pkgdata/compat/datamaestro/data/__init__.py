"""Data types: `Base`, files and folders."""

from __future__ import annotations

from ....catalog.types import base
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


class Base(base.Base):
    """An object of a dataset."""

    __xpmid__ = "datamaestro.data.base"


class Generic(base.Generic, Base):
    """An object with any fields."""

    __xpmid__ = "datamaestro.data.generic"


class File(base.File, Base):
    """A file."""

    __xpmid__ = "datamaestro.data.file"


class Folder(base.Folder, Base):
    """A folder."""

    __xpmid__ = "datamaestro.data.folder"
