"""Tensors in IDX files, the format of MNIST.

::

  2 bytes  zero
  1 byte   element type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
  1 byte   number of dimensions
  4 bytes  size, for each dimension
  ...      elements, the last dimension fastest

All numbers are big-endian.
"""

from __future__ import annotations

import os
import struct

from ...errors import CatalogError
from .base import Base, File
from .csv import need_numpy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: numpy's names of the element types, by the third byte.
ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Tensor(Base):
    """An array of numbers."""

    def data(self) -> Any:
        """Return the array.

        Returns
        -------
        numpy.ndarray
        """
        raise NotImplementedError(f"{type(self).__name__} has no method data()")


class IDX(Tensor, File):
    """A tensor in an IDX file."""

    def header(self) -> tuple[str, tuple[int, ...], int]:
        """Return what the beginning of the file says.

        Returns
        -------
        (str, tuple of int, int)
            numpy's name of the element type, the shape, and where the elements begin.

        Raises
        ------
        CatalogError
            It is no IDX file, or its length is not what it says.
        """
        with open(self.path, "rb") as file:
            start = file.read(4)
            zero, element, count = struct.unpack(">HBB", start) if len(start) == 4 else (1, 0, 0)
            sizes = file.read(4 * count)
            length = os.fstat(file.fileno()).st_size
        if zero or element not in ELEMENTS or len(sizes) < 4 * count:
            hint = "it is compressed" if start[:2] == b"\x1f\x8b" else None
            raise self._wrong(f"no IDX file, beginning {start!r}", hint)
        shape = struct.unpack(f">{count}I", sizes)
        kind, offset, expected = ELEMENTS[element], 4 + 4 * count, int(ELEMENTS[element][2])
        for size in shape:
            expected *= size
        if length != offset + expected:
            found = f"{length} bytes, its header says {offset + expected}"
            raise self._wrong(f"shape {'×'.join(map(str, shape))} of {kind[1:]}: {found}", None)
        return kind, shape, offset

    def _wrong(self, problem: str, hint: str | None) -> CatalogError:
        return CatalogError(f"{self.path}: {problem}", hint=hint, file=str(self.path))

    def data(self) -> Any:
        """Return the array, mapped into memory: only what is looked at is read.

        Returns
        -------
        numpy.ndarray
            Read-only.

        Raises
        ------
        CatalogError
            It is no IDX file, or its length is not what it says.
        MissingExtraError
            numpy is not installed.
        """
        numpy = need_numpy("a tensor")
        kind, shape, offset = self.header()
        if 0 in shape:  # nothing can be mapped
            return numpy.empty(shape, dtype=kind)
        array = numpy.memmap(self.path, dtype=kind, mode="r", offset=offset, shape=shape or (1,))
        return array if shape else array.reshape(())


def write_idx(path: str | os.PathLike[str], array: Any) -> None:
    """Write an array as an IDX file.

    Raises
    ------
    CatalogError
        IDX files have no such elements.
    """
    numpy = need_numpy("a tensor")
    array = numpy.asarray(array)
    wanted = f">{array.dtype.kind}{array.dtype.itemsize}"
    by_kind = {kind: element for element, kind in ELEMENTS.items()}
    if wanted not in by_kind or array.ndim > 255:
        raise CatalogError(f"an IDX file cannot hold elements of {array.dtype}")
    head = struct.pack(">HBB", 0, by_kind[wanted], array.ndim)
    with open(path, "wb") as file:
        file.write(head + struct.pack(f">{array.ndim}I", *array.shape))
        if array.size:  # a view of nothing cannot be cast
            file.write(memoryview(numpy.ascontiguousarray(array, dtype=wanted)).cast("B"))
