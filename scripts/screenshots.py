#!/usr/bin/env python3
"""Take pictures of the pages that pkgdata writes, wide and narrow, light and dark.

usage: python scripts/screenshots.py [FOLDER]       (default: build/screenshots)

The pages: a landing page with previews, a catalog, a notebook, and the front page of the docs if
scripts/docs has built them. Needs Chromium, and what the extra [integration] has for the previews.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from pkgdata import catalog  # noqa: E402 - the checkout's own, found by the line above
from pkgdata.catalog import upkeep  # noqa: E402
from pkgdata.publish import destinations_for  # noqa: E402
from pkgdata.publish.engine import Publication  # noqa: E402
from pkgdata.publish.landing import About  # noqa: E402

#: Width and height of a window in pixels, by name.
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}

#: The front page of the site, where scripts/docs leaves it; $PKGDATA_SITE is another folder.
DOCS = Path(os.environ.get("PKGDATA_SITE", ROOT / "docs" / "_build" / "html")) / "index.html"

ABOUT = About(
    "Maps of the sky",
    "Synthetic maps, tables and spectra of a small survey: one file of every kind that this page "
    "can show.",
    "CC-BY-4.0",
    "Doe, J. and Roe, R. (2026). Maps of the sky. https://doi.org/10.5281/zenodo.1234567",
    "https://example.org/sky/",
    "1.2",
)

#: Definitions of a made-up repository.
DATASETS = '''
from pkgdata.catalog import CSV, Base, File, dataset, datatags, datatasks, filedownloader

def a(name, size):
    return filedownloader(name, f"https://data.example.org/{name}", size=size)

@datatags("stars", "photometry")
@datatasks("regression")
@a("stars.csv", 48_211)
@dataset(CSV, license="CC-BY-4.0", url="https://example.org/stars")
def bright_stars():
    """Bright stars

    Positions and magnitudes of the 9,110 stars that can be seen without a telescope.
    """

@datatags("galaxies", "image")
@datatasks("image classification")
@a("galaxies.zip", 1_890_000_000)
@dataset(File, license="CC0-1.0", url="https://example.org/galaxies")
def galaxies():
    """Pictures of galaxies

    61,578 galaxies, each with the answers of some forty people who were asked for its shape.
    """

@datatags("time series", "stars")
@datatasks("anomaly detection")
@a("light-curves.parquet", 7_300_000)
@dataset(File, license="MIT", url="https://example.org/curves")
def light_curves():
    """Light curves of variable stars"""

@datatags("map", "dust")
@a("dust.fits", 201_331_200)
@dataset(File, license="BSD-3-Clause", size=201_331_200)
def dust():
    """Emission of dust

    All sky, in HEALPix with 2048 pixels a side.
    """

@datatags("text")
@dataset(Base, url="https://example.org/a/very/long/address/of/a/page/that/has/to/break/somewhere")
def abstracts():
    """Abstracts of papers"""
'''


def files(folder: Path) -> None:
    """Write one file of each kind; those whose library is not installed are left out."""
    samples = ROOT / "pkgdata" / "data"
    for name in ("stars.csv", "spiral.png", "spectrum.fits"):
        shutil.copy(samples / name, folder / name)
    (folder / "README.md").write_text("# Maps of the sky\n\nOne file of every kind.\n", "utf-8")
    with zipfile.ZipFile(folder / "runs.zip", "w") as archive:
        for name in ("low/1.txt", "low/2.txt", "high/settings/1.json", "README"):
            archive.writestr(zipfile.ZipInfo(name), "x" * 1234)
    for write in (_numpy, _fits, _hdf5, _netcdf, _parquet):
        try:
            write(folder)
        except ImportError as error:
            print(f"left out: {error}")


def _waves(height: int = 300, width: int = 400) -> Any:
    import numpy

    y, x = numpy.mgrid[-3 : 3 : height * 1j, -4 : 4 : width * 1j]
    return numpy.exp(-(x**2 + y**2) / 4) * numpy.cos(4 * numpy.hypot(x - 1, y)), x, y


def _numpy(folder: Path) -> None:
    import numpy

    _, x, y = _waves()
    numpy.save(folder / "field.npy", numpy.sin(2 * x) * numpy.cos(3 * y))


def _fits(folder: Path) -> None:
    from astropy.io import fits

    unit = fits.PrimaryHDU(_waves()[0].astype("float32"))
    unit.header["OBJECT"], unit.header["BUNIT"] = "Nebula", "Jy"
    unit.writeto(folder / "nebula.fits")


def _hdf5(folder: Path) -> None:
    import h5py
    import numpy

    _, x, y = _waves()
    with h5py.File(folder / "simulation.h5", "w", track_order=True) as file:
        file["run/density"] = numpy.sin(x * y)
        file["run/time"] = numpy.arange(5)


def _netcdf(folder: Path) -> None:
    import netCDF4

    with netCDF4.Dataset(folder / "temperature.nc", "w") as file:
        file.createDimension("lat", 90)
        file.createDimension("lon", 180)
        found = file.createVariable("t2m", "f4", ("lat", "lon"))
        found.units = "K"
        rows = [[math.cos((row - 45) / 30) for _ in range(180)] for row in range(90)]
        found[:] = [
            [280 + 20 * value + 4 * math.sin(at / 12 + index / 9) for at, value in enumerate(row)]
            for index, row in enumerate(rows)
        ]


def _parquet(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {"id": range(1000), "band": ["g", "r"] * 500, "flux": [n / 7 for n in range(1000)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "sources.parquet")


def landing(folder: Path) -> Path:
    """Publish files with a page, next to one of an older version; return the page."""
    (folder / "files").mkdir()
    files(folder / "files")
    (folder / "web" / "v1.1").mkdir(parents=True)
    (folder / "web" / "v1.1" / "index.html").write_text("older", "utf-8")
    places = destinations_for(f"file:{folder}/web/v1.2", "https://data.example.org/sky/v1.2/")
    registry = str(folder / "registry.txt")
    with Publication(str(folder / "files"), places, registry) as work:
        work.plan()
        work.upload()
        work.record()
        work.add_page(ABOUT)
    return folder / "web" / "v1.2" / "index.html"


def datasets(folder: Path) -> Path:
    """Write the page of a made-up repository; return it."""
    package = folder / "sky_datasets"
    (package / "config" / "org").mkdir(parents=True)
    for path in (package, package / "config", package / "config" / "org"):
        (path / "__init__.py").write_text("", "utf-8")
    (package / "config" / "org" / "example.py").write_text(DATASETS, "utf-8")
    sys.path.insert(0, str(folder))
    try:
        import sky_datasets

        found = catalog.Catalog(folder / "data", [sky_datasets])
        return upkeep.write_site(found, folder / "site", "Datasets of the sky")[1]
    finally:
        sys.path.remove(str(folder))


def docs(folder: Path) -> Path:
    """Return the front page of the docs, if they are built."""
    return DOCS


def notebook(folder: Path) -> Path:
    """Execute a notebook and return its page; two, as its colours are those of a theme."""
    if None in map(find_spec, ("ipykernel", "nbconvert")):
        raise ImportError("No module named 'nbconvert'")
    from notebooks import executed, written

    book = executed(folder)
    written(book, folder / "dark.html", "dark")
    page: Path = written(book, folder / "light.html", "light")
    return page


#: What each page is made by.
PAGES: dict[str, Callable[[Path], Path]] = {
    "landing": landing,
    "catalog": datasets,
    "docs": docs,
    "notebook": notebook,
}


def pages(folder: Path) -> Iterator[tuple[str, str]]:
    """Make the pages in a folder; yield their names and addresses."""
    for name, make in PAGES.items():
        (folder / name).mkdir()
        try:
            path = make(folder / name)
        except ImportError as error:
            print(f"left out: {error}")
            continue
        if path.exists():
            yield name, path.as_uri()


def main() -> int:
    """Take all pictures."""
    from chromium import Chromium

    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "screenshots")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        os.environ["PKGDATA_CACHE_DIR"] = f"{work}/cache"
        (Path(work) / "pages").mkdir()
        with Chromium(Path(work) / "chromium") as browser:
            for name, url in pages(Path(work) / "pages"):
                for size, (width, height) in SIZES.items():
                    for dark in (False, True):
                        browser.resize(width, height, dark=dark)
                        browser.open(url.replace("light.html", "dark.html") if dark else url)
                        path = out / f"{name}-{size}{'-dark' if dark else ''}.png"
                        browser.screenshot(path, whole=True)
                        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
