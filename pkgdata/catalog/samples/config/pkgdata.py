"""The sample files that lie in ``pkgdata/data``, as datasets ``pkgdata.NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pkgdata.catalog import CSV, IDX, File, dataset, datatags, datatasks, linkfile

_DATA = Path(__file__).resolve().parents[3] / "data"


@datatags("table", "stars", "astronomy")
@datatasks("regression")
@linkfile("stars", _DATA / "stars.csv")
@dataset(CSV)
def stars(stars: Path) -> dict[str, Any]:
    """The brightest stars.

    Names, right ascension and declination (degrees, J2000), and visual magnitude (Hipparcos).
    """
    return {"path": stars, "names_row": 0}


@datatags("image", "astronomy")
@linkfile("spiral", _DATA / "spiral.png")
@dataset(File)
def spiral(spiral: Path) -> dict[str, Any]:
    """A spiral with two arms.

    128 by 128 pixels of 8-bit grey, as PNG.
    """
    return {"path": spiral}


@datatags("array", "image", "digits")
@datatasks("classification")
@linkfile("digits", _DATA / "digits.idx")
@dataset(IDX)
def digits(digits: Path) -> dict[str, Any]:
    """The ten digits, as pictures.

    An array of 10 by 8 by 8 bytes, in the format of MNIST.
    """
    return {"path": digits}
