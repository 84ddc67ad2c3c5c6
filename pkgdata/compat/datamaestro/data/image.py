"""Images to learn from, by the names of datamaestro's repository of images."""

from __future__ import annotations

from ....catalog import types
from . import Base
from .tensor import IDX

__all__ = ["Base", "IDXImage", "ImageClassification", "LabelledImages"]


class IDXImage(IDX):
    """Images in an IDX file."""

    __xpmid__ = "datamaestro_image.data.idximage"


class LabelledImages(types.LabelledImages, Base):
    """Images and their labels."""

    __xpmid__ = "datamaestro_image.data.labelledimages"


class ImageClassification(types.ImageClassification, Base):
    """Labelled images to learn from and to test with."""

    __xpmid__ = "datamaestro_image.data.imageclassification"
