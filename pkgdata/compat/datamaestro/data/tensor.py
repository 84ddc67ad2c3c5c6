"""Tensors."""

from __future__ import annotations

from ....catalog.types import tensor
from . import Base, File


class Tensor(tensor.Tensor, Base):
    """An array of numbers."""

    __xpmid__ = "datamaestro.data.tensor.tensor"


class IDX(tensor.IDX, Tensor, File):
    """A tensor in an IDX file."""

    __xpmid__ = "datamaestro.data.tensor.idx"
