"""Datasets to learn from."""

from __future__ import annotations

from ....catalog import types
from . import Base, Folder


class Supervised(types.Supervised, Base):
    """What to learn from, what to choose by, and what to test with."""

    __xpmid__ = "datamaestro.data.ml.supervised"


class FolderBased(types.FolderBased, Folder):
    """A folder with a folder of examples for each class."""

    __xpmid__ = "datamaestro.data.ml.folderbased"
