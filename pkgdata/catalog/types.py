"""The types of data that come with the catalog: files, folders, tables, tensors, labelled images.

Tensors are in IDX files, the format of MNIST; all its numbers are big-endian::

  2 bytes  zero
  1 byte   element type: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64
  1 byte   number of dimensions
  4 bytes  size, for each dimension
  ...      elements, the last dimension fastest

``__xpmid__`` keeps the name that a type has in JSON and in searches.
"""

from __future__ import annotations

import csv
import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import CatalogError, MissingExtraError
from .objects import Base

#: numpy's names of the element types, by the third byte.
ELEMENTS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Generic(Base):
    """An object with any fields; better types say what they hold.

    Parameters
    ----------
    **values
    """

    __xpmid__ = "pkgdata.catalog.types.base.generic"

    def __init__(self, **values: Any) -> None:
        super().__init__()
        vars(self).update(values)


class File(Base):
    """A file."""

    __xpmid__ = "pkgdata.catalog.types.base.file"

    path: Path

    def open(self, mode: str = "rb", **options: Any) -> IO[Any]:
        """Open the file.

        Parameters
        ----------
        mode : str, default ``"rb"``
        **options
            As of the function `open`.
        """
        return open(self.path, mode, **options)


class Folder(Base):
    """A folder."""

    __xpmid__ = "pkgdata.catalog.types.base.folder"

    path: Path

    def __truediv__(self, name: str) -> Path:
        return Path(self.path) / name


class CSV(File):
    """A table in a text file.

    Fields: ``path``; ``delimiter``; ``ignore``, lines before the table; ``names_row``, the row with
    the names of the columns, counted from 0 after these lines, or -1.
    """

    __xpmid__ = "pkgdata.catalog.types.csv.csv"

    delimiter: str = ","
    ignore: int = 0
    names_row: int = -1

    def _lines(self) -> Iterator[list[str]]:
        with open(self.path, encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(itertools.islice(file, self.ignore, None), **self._format())

    def _format(self) -> dict[str, Any]:
        return {"delimiter": self.delimiter}

    def columns(self) -> list[str] | None:
        """Return the names of the columns, None if no row has them."""
        if self.names_row < 0:
            return None
        return next(itertools.islice(self._lines(), self.names_row, None), [])

    def rows(self) -> Iterator[list[str]]:
        """Yield the rows below the one with the names; empty rows are left out."""
        return (row for row in itertools.islice(self._lines(), self.names_row + 1, None) if row)


class Matrix(CSV):
    """A table of numbers.

    Further fields: ``target``, name or number of the column with what is to be
    predicted; ``size_row``, a row that only says how large the table is, or -1.
    """

    __xpmid__ = "pkgdata.catalog.types.csv.matrix"

    target: str | int | None = None
    size_row: int = -1

    def data(self) -> tuple[Any, ...]:
        """Return the names of the columns and the numbers as an array.

        With a ``target`` its column is a second array. `CatalogError` if there is no such column,
        `MissingExtraError` without numpy.
        """
        numpy = _numpy("a table of numbers")
        names: list[str] = []
        rows = []
        for number, row in enumerate(self._lines()):
            if number == self.names_row:
                names = row
            elif number != self.size_row and row:
                rows.append(row)
        table = numpy.array([list(map(float, row)) for row in rows], dtype=float)
        column = self._target(names, table.shape[1] if table.ndim > 1 else 0)
        if column is None:
            return names, table
        return names, numpy.delete(table, column, axis=1), table[:, column]

    def _target(self, names: list[str], width: int) -> int | None:
        if self.target is None or self.target == "":
            return None
        if isinstance(self.target, int):
            column = self.target + width * (self.target < 0)
        else:
            column = names.index(self.target) if self.target in names else -1
        if not 0 <= column < width:
            listed = f"its columns: {', '.join(names)}"
            hint = listed if names else "names_row says which row has the names"
            raise CatalogError(f"{self.path}: no column {self.target!r}", hint=hint)
        return column


def _numpy(what: str) -> Any:
    """Return numpy, or say what it is needed for."""
    try:
        import numpy
    except ImportError as error:
        raise MissingExtraError(f"{what} needs numpy", hint="pip install numpy") from error
    return numpy


class Tensor(Base):
    """An array of numbers."""

    __xpmid__ = "pkgdata.catalog.types.tensor.tensor"

    def data(self) -> Any:
        """Return the array, a `numpy.ndarray`."""
        raise NotImplementedError(f"{type(self).__name__} has no method data()")


class IDX(Tensor, File):
    """A tensor in an IDX file."""

    __xpmid__ = "pkgdata.catalog.types.tensor.idx"

    def header(self) -> tuple[str, tuple[int, ...], int]:
        """Return numpy's name of the element type, the shape, and where the elements begin.

        `CatalogError` if it is no IDX file, or its length is not what it says.
        """
        with open(self.path, "rb") as file:
            start = file.read(4)
            zero, element, count = struct.unpack(">HBB", start) if len(start) == 4 else (1, 0, 0)
            sizes = file.read(4 * count)
            length = os.fstat(file.fileno()).st_size
        if zero or element not in ELEMENTS or len(sizes) < 4 * count:
            hint = "it is compressed" if start[:2] == b"\x1f\x8b" else None
            raise self._wrong(f"not an IDX file, it begins with {start!r}", hint)
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
        """Return the array, read-only and mapped into memory: only what is used is read.

        For the errors see `header`; `MissingExtraError` without numpy.
        """
        numpy = _numpy("a tensor")
        kind, shape, offset = self.header()
        if 0 in shape:  # nothing can be mapped
            return numpy.empty(shape, dtype=kind)
        array = numpy.memmap(self.path, dtype=kind, mode="r", offset=offset, shape=shape or (1,))
        return array if shape else array.reshape(())


class Supervised(Base):
    """What to learn from (``train``), to choose by (``validation``) and to test with (``test``)."""

    __xpmid__ = "pkgdata.catalog.types.ml.supervised"

    train: Any
    validation: Any = None
    test: Any = None

    def __class_getitem__(cls, _: Any) -> type[Supervised]:
        """Return the type itself: ``Supervised[Train, Validation, Test]`` says more to readers."""
        return cls


class FolderBased(Folder):
    """A folder with a folder of examples for each class; ``classes`` are by default their names."""

    __xpmid__ = "pkgdata.catalog.types.ml.folderbased"

    classes: Any = None

    def names(self) -> list[str]:
        """Return the names of the classes."""
        if self.classes is not None:
            return list(self.classes)
        with os.scandir(self.path) as found:
            return sorted(one.name for one in found if one.is_dir() and one.name[0] != ".")


class LabelledImages(Base):
    """Images and their labels, each a `Tensor`."""

    __xpmid__ = "pkgdata.catalog.types.ml.labelledimages"

    images: Base
    labels: Base


class ImageClassification(Base):
    """Labelled images to learn from and to test with, each `LabelledImages`."""

    __xpmid__ = "pkgdata.catalog.types.ml.imageclassification"

    train: LabelledImages
    test: LabelledImages | None = None
