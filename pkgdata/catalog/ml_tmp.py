"""Datasets to learn from."""

from __future__ import annotations

from .base import Base, Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Supervised(Base):
    """What to learn from, what to choose by, and what to test with.

    Fields: ``train``, ``validation`` and ``test``; the last two may be missing.
    """

    train: Any
    validation: Any = None
    test: Any = None

    def __class_getitem__(cls, _: Any) -> type[Supervised]:
        """Return the type itself: ``Supervised[Train, Validation, Test]`` says more to readers."""
        return cls


class FolderBased(Folder):
    """A folder with a folder of examples for each class.

    Fields: ``path`` and ``classes``; by default the names of the folders.
    """

    classes: Any = None

    def names(self) -> list[str]:
        """Return the names of the classes.

        Returns
        -------
        list of str
        """
        import os

        if self.classes is not None:
            return list(self.classes)
        with os.scandir(self.path) as found:
            return sorted(one.name for one in found if one.is_dir() and one.name[0] != ".")


class LabelledImages(Base):
    """Images and their labels, each a `Tensor`."""

    images: Base
    labels: Base


class ImageClassification(Base):
    """Labelled images to learn from and to test with, each `LabelledImages`."""

    train: LabelledImages
    test: LabelledImages | None = None
