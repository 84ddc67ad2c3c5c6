"""Datasets to learn from."""

from __future__ import annotations

from ....catalog.types import ml
from . import Base, Folder


class Supervised(ml.Supervised, Base):
    """What to learn from, what to choose by, and what to test with."""

    __xpmid__ = "datamaestro.data.ml.supervised"


class FolderBased(ml.FolderBased, Folder):
    """A folder with a folder of examples for each class."""

    __xpmid__ = "datamaestro.data.ml.folderbased"
