"""Tables in text files."""

from __future__ import annotations

import itertools

from .base import File

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class CSV(File):
    """A table in a text file.

    Fields: ``path``; ``delimiter``; ``ignore``, lines before the table; ``names_row``, the row with
    the names of the columns, counted from 0 behind these lines, or -1.
    """

    delimiter: str = ","
    ignore: int = 0
    names_row: int = -1

    def _lines(self) -> Iterator[list[str]]:
        import csv

        with open(self.path, encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(itertools.islice(file, self.ignore, None), **self._format())

    def _format(self) -> dict[str, Any]:
        return {"delimiter": self.delimiter}

    def columns(self) -> list[str] | None:
        """Return the names of the columns.

        Returns
        -------
        list of str or None
            None if no row has them.
        """
        if self.names_row < 0:
            return None
        return next(itertools.islice(self._lines(), self.names_row, None), [])

    def rows(self) -> Iterator[list[str]]:
        """Yield the rows below that with the names; empty ones are left out.

        Yields
        ------
        list of str
        """
        return (row for row in itertools.islice(self._lines(), self.names_row + 1, None) if row)


class Matrix(CSV):
    """A table of numbers.

    Fields besides those of `CSV`: ``target``, name or number of the column with what is to be
    predicted; ``size_row``, a row that only tells how large the table is, or -1.
    """

    target: str | int | None = None
    size_row: int = -1

    def data(self) -> tuple[Any, ...]:
        """Return the names of the columns and the numbers.

        Returns
        -------
        (list of str, numpy.ndarray) or (list of str, numpy.ndarray, numpy.ndarray)
            With a ``target`` its column comes by itself, at the end.

        Raises
        ------
        CatalogError
            There is no such column.
        MissingExtraError
            numpy is not installed.
        """
        numpy = need_numpy("a table of numbers")
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
        from ...errors import CatalogError

        if self.target is None or self.target == "":
            return None
        if isinstance(self.target, int):
            column = self.target + width * (self.target < 0)
        else:
            column = names.index(self.target) if self.target in names else -1
        if not 0 <= column < width:
            raise CatalogError(
                f"{self.path}: no column {self.target!r}",
                hint=f"its columns: {', '.join(names)}" if names else "names_row tells the names",
            )
        return column


def need_numpy(what: str) -> Any:
    """Return numpy.

    Parameters
    ----------
    what : str
        What it is needed for.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import numpy
    except ImportError as error:
        from ...errors import MissingExtraError

        raise MissingExtraError(f"{what} needs numpy", hint="pip install numpy") from error
    return numpy
