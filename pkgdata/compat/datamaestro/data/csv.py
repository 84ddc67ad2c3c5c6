"""Tables in text files."""

from __future__ import annotations

from typing import Any

from ....catalog import types
from . import File


class Generic(types.CSV, File):
    """A table in a text file.

    Further fields: ``separator``, which datamaestro's documentation
    calls the delimiter, and ``size``, the number of rows.
    """

    __xpmid__ = "datamaestro.data.csv.generic"

    separator: str | None = None
    size: int | None = None

    def _format(self) -> dict[str, Any]:
        return {"delimiter": self.separator or self.delimiter}


class Matrix(types.Matrix, Generic):
    """A table of numbers; fields as of `pkgdata.catalog.Matrix` and `Generic`."""

    __xpmid__ = "datamaestro.data.csv.matrix"
