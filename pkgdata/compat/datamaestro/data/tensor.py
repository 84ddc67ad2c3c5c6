"""Tensors."""

from __future__ import annotations

from ....catalog import types
from . import Base, File


class Tensor(types.Tensor, Base):
    """An array of numbers."""

    __xpmid__ = "datamaestro.data.tensor.tensor"


class IDX(types.IDX, Tensor, File):
    """A tensor in an IDX file."""

    __xpmid__ = "datamaestro.data.tensor.idx"
