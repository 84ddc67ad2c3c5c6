"""Run the data access of packages that use pooch or `astropy.utils.data` on pkgdata.

    pip install '.[dialects]'
    python tests/compat/dialects/run_packages.py [package ...]

The packages' code is as released. What is changed is the module that ``import pooch`` or ``import
astropy.utils.data`` finds, and the hashes in the registries, for the files that a server on this
machine has in place of theirs. A rule of the site (``PKGDATA_REWRITE``) sends their requests to it.
Each package is run three times in fresh processes: the first must fetch every file once, the second
must make no request, and the third runs on pooch or astropy itself, over the same files, and must
make none either. The exit code is 1 if a package does otherwise or is not installed.
"""

from __future__ import annotations

import bz2
import importlib
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
sys.path[:0] = [str(CHECKOUT), str(HERE.parents[1]), str(HERE)]

GITHUB, RAW = "https://github.com/", "https://raw.githubusercontent.com/"

ENSAIO = f"{GITHUB}fatiando-data/alps-gps-velocity/releases/download/v1/"


# -- what each package is asked for, in a process of its own ---------------------------------------


def scikit_image(hashes: dict[str, str]) -> dict[str, object]:
    """Load two images, and the rest by `skimage.data.download_all`."""
    import skimage
    from skimage.data import _fetchers

    registry = _fetchers.registry  # the very mapping that was given to pooch
    for name in list(registry):
        if os.path.basename(name) not in hashes:
            del registry[name]
    registry.update({name: hashes[os.path.basename(name)] for name in registry})
    cache = Path(_fetchers._image_fetcher.abspath)
    found: dict[str, object] = {
        "eagle": skimage.data.eagle().shape,
        "brain": skimage.data.brain().shape,
    }
    skimage.data.download_all()
    found["all"] = sorted(name for name in registry if (cache / name).is_file())
    return found


def scipy(hashes: dict[str, str]) -> dict[str, object]:
    """Load the three datasets of `scipy.datasets`."""
    from scipy import datasets

    registry: Any = datasets._fetchers.data_fetcher.registry
    registry.update({name: hashes[name] for name in registry})
    return {
        "ascent": datasets.ascent().shape,
        "face": datasets.face(gray=True).shape,
        "electrocardiogram": datasets.electrocardiogram().shape,
    }


def ensaio(hashes: dict[str, str]) -> dict[str, object]:
    """Fetch a dataset; each call makes a new `Pooch`, and the file's URL is its own."""
    import ensaio
    from ensaio import _fetchers

    name = "alps-gps-velocity.csv.xz"
    _fetchers.REGISTRY[name]["v1"]["hash"] = hashes[name]
    paths = [ensaio.fetch_alps_gps(version=1) for _ in range(2)]
    return {"alps gps": os.path.relpath(paths[1], Path.home())}


def astropy(_: dict[str, str]) -> dict[str, object]:
    """Read tables of the Earth's rotation and of leap seconds, and the list of observatories."""
    from astropy.coordinates import EarthLocation
    from astropy.time import Time
    from astropy.utils import iers

    rotation = iers.IERS_A.open(iers.conf.iers_auto_url, cache=True)
    leap = iers.LeapSeconds.open(iers.conf.iers_leap_second_auto_url, cache=True)
    return {
        "UT1-UTC": round(float(rotation.ut1_utc(Time("2020-01-01")).to_value("s")), 6),
        "leap seconds": len(leap),
        "observatory": round(EarthLocation.of_site("somewhere").lat.deg),
    }


def photutils(_: dict[str, str]) -> dict[str, object]:
    """Load images: one from the first address, one from the backup, which alone has it."""
    from photutils import datasets

    return {
        "psf": datasets.load_irac_psf(1).data.shape,
        "hst": datasets.load_simulated_hst_star_image().data.shape,
        "psf 2, from the backup": datasets.load_irac_psf(2).data.shape,
    }


def child(package: str, on: str, hashes: dict[str, str]) -> None:
    import pooch_alias

    dialect = PACKAGES[package].dialect
    if on == "pkgdata":
        importlib.import_module(f"{dialect}_alias").install()
    pooch_alias.stay_local()
    found = PACKAGES[package].use(hashes)
    module, name = SHOWS[dialect]
    served_by = getattr(importlib.import_module(module), name).__module__
    print(json.dumps({"found": found, "on": served_by}, default=str))


# -- the files -------------------------------------------------------------------------------------


def files_of_scikit_image(version: str) -> dict[str, bytes]:
    import imageio.v3
    import numpy
    from skimage.data._registry import registry_urls

    base = f"{GITHUB}scikit-image/scikit-image/raw/v{version}/tests/skimage/"
    image = numpy.arange(2000, dtype="uint8").reshape(40, 50)
    volume = numpy.arange(600, dtype="uint16").reshape(6, 10, 10)
    files = {
        "data/eagle.png": imageio.v3.imwrite("<bytes>", image, extension=".png"),
        "data/brain.tiff": imageio.v3.imwrite("<bytes>", volume, extension=".tiff"),
        "data/logo.png": imageio.v3.imwrite("<bytes>", image.T, extension=".png"),
        "color/data/lab_array_a_2.npy": image.tobytes(),
    }
    return {registry_urls.get(name, base + name): content for name, content in files.items()}


def files_of_scipy(_version: str) -> dict[str, bytes]:
    import numpy

    archive = io.BytesIO()
    numpy.savez(archive, ecg=numpy.arange(1000, dtype="uint16"))
    return {
        f"{RAW}scipy/dataset-ascent/main/ascent.dat": pickle.dumps([[1, 2, 3], [4, 5, 6]]),
        f"{RAW}scipy/dataset-face/main/face.dat": bz2.compress(bytes(768 * 1024 * 3)),
        f"{RAW}scipy/dataset-ecg/main/ecg.dat": archive.getvalue(),
    }


def files_of_ensaio(_version: str) -> dict[str, bytes]:
    return {f"{ENSAIO}alps-gps-velocity.csv.xz": b"longitude,latitude\n1,2\n"}


def files_of_astropy(_version: str) -> dict[str, bytes]:
    import astropy_iers_data as tables

    site = {"name": "Somewhere", "aliases": [], "source": "", "timezone": "UTC"}
    for name, value, unit in (("longitude", 10, "degree"), ("latitude", 50, "degree")):
        site |= {name: value, f"{name}_unit": unit}
    sites = {"somewhere": {**site, "elevation": 100, "elevation_unit": "meter"}}
    return {
        "https://datacenter.iers.org/data/9/finals2000A.all": read(tables.IERS_A_FILE),
        "https://hpiers.obspm.fr/iers/bul/bulc/Leap_Second.dat": read(tables.IERS_LEAP_SECOND_FILE),
        # not at conf.dataurl, which is asked first, but at conf.dataurl_mirror
        "http://data.astropy.org/coordinates/sites.json": json.dumps(sites).encode(),
    }


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def files_of_photutils(_version: str) -> dict[str, bytes]:
    backup = f"{GITHUB}astropy/photutils-datasets/raw/main/data/"
    return {
        "http://data.astropy.org/photometry/irac_ch1_flight.fits": fits_image(10, 20),
        f"{backup}hst_wfc3ir_f160w_simulated_starfield.fits": fits_image(30, 40),
        f"{backup}irac_ch2_flight.fits": fits_image(50, 60),
    }


def fits_image(rows: int, columns: int) -> bytes:
    import numpy
    from astropy.io import fits

    file = io.BytesIO()
    fits.PrimaryHDU(numpy.ones((rows, columns), "float32")).writeto(file)
    return file.getvalue()


class Package(NamedTuple):
    """How a package is run: whose names it uses, what it is asked for, and what is served."""

    dialect: str
    use: Callable[[dict[str, str]], dict[str, object]]
    files: Callable[[str], dict[str, bytes]]


#: By distribution.
PACKAGES = {
    "scikit-image": Package("pooch", scikit_image, files_of_scikit_image),
    "scipy": Package("pooch", scipy, files_of_scipy),
    "ensaio": Package("pooch", ensaio, files_of_ensaio),
    "astropy": Package("astropy", astropy, files_of_astropy),
    "photutils": Package("astropy", photutils, files_of_photutils),
}

#: A name whose home tells which library a process uses, and its home in either.
SHOWS = {"pooch": ("pooch", "Pooch"), "astropy": ("astropy.utils.data", "download_file")}
HOMES = {
    "pooch": ("pkgdata.compat.pooch", "pooch.core"),
    "astropy": ("pkgdata.compat.astropy.download", "astropy.utils.data"),
}


def hashes_of(files: dict[str, bytes]) -> dict[str, str]:
    """Return the hash of each file by the last part of its name."""
    from hashlib import sha256

    return {url.rpartition("/")[2]: sha256(content).hexdigest() for url, content in files.items()}


# -- runs ------------------------------------------------------------------------------------------


def run(package: str, files: dict[str, bytes], home: Path) -> bool:
    """Run a package three times; say whether it did as it should."""
    from faults import FaultServer

    ours, theirs = HOMES[PACKAGES[package].dialect]
    served = {url.partition("://")[2]: content for url, content in files.items()}
    with FaultServer(served) as server:
        answers, brought, counts = [], [], []
        for title, on in (("first", "pkgdata"), ("second", "pkgdata"), ("third", "original")):
            before = len(server.requests)
            answers.append(_child(package, on, hashes_of(files), home, _rules(files, server.url)))
            made = server.settled()[before:]
            counts.append(len(made))
            brought.append(sorted(one.target.lstrip("/") for one in made if one.status == 200))
            print(f"  {title} run, on {answers[-1]['on']}: {len(made)} requests")
            for request in made:
                print(f"    {request.method} {request.target} {request.status} ({request.sent} B)")
        print(f"  {json.dumps(answers[0]['found'])}")
    same = all(answer["found"] == answers[0]["found"] for answer in answers)
    as_meant = [answer["on"] for answer in answers] == [ours, ours, theirs]
    return same and as_meant and brought[0] == sorted(served) and counts[1:] == [0, 0]


def _rules(files: dict[str, bytes], server: str) -> str:
    hosts = {url.split("/")[2] for url in files} | {"www.astropy.org", "data.astropy.org"}
    return " ".join(
        f"{kind}://{host}/={server}{host}/" for host in sorted(hosts) for kind in ("http", "https")
    )


def _child(package: str, on: str, hashes: dict[str, str], home: Path, rules: str) -> dict[str, Any]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PKGDATA_", "XDG_")) and not name.lower().endswith("_proxy")
    }
    env |= {
        "HOME": str(home),
        "PKGDATA_REWRITE": rules,
        "ENSAIO_DATA_FROM_GITHUB": "true",
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(HERE)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, str(Path(__file__).resolve()), package, on, json.dumps(hashes)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main(names: list[str]) -> int:
    bad = [name for name in names if name not in PACKAGES]
    for name in names or PACKAGES:
        if name in bad:
            print(f"{name}: not a package that this script knows")
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            print(f"{name}: not installed; pip install '.[dialects]'")
            bad.append(name)
            continue
        print(f"{name} {version}")
        with tempfile.TemporaryDirectory(prefix="pkgdata-dialect-") as home:
            good = run(name, PACKAGES[name].files(version), Path(home))
        print("  as it should be" if good else "  NOT as it should be")
        bad += [] if good else [name]
    total = len(names or PACKAGES)
    print(f"{total} packages: {total - len(bad)} as they should be, {len(bad)} not")
    return 1 if bad else 0


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[2] in ("pkgdata", "original"):
        child(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:]))
