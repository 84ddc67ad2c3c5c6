"""``pkgdata://PACKAGE/NAME`` through fsspec, and through the libraries that read by it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

fsspec = pytest.importorskip("fsspec")

from pkgdata.compat.fsspec import PackageFileSystem  # noqa: E402
from pkgdata.core import declaration  # noqa: E402
from pkgdata.errors import IntegrityError  # noqa: E402

FILES = {
    "stars.csv": b"name,mag\nVega,0.03\nDeneb,1.25\n",
    "maps/a.bin": b"a" * 5000,
    "maps/deep/b.bin": b"b" * 100,
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Give a function that makes an importable package of files, served from a folder."""
    monkeypatch.setattr(declaration, "_declared", {})
    fsspec.register_implementation("pkgdata", PackageFileSystem, clobber=True)
    PackageFileSystem.clear_instance_cache()
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(files, name="readable", sizes=True):
        folder, origin = tmp_path / name, tmp_path / "origin"
        folder.mkdir()
        lines = []
        for key, content in sorted(files.items()):
            path = origin / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            lines += [f"#: size={len(content)}"] * sizes
            lines += [f"{key} sha256:{hashlib.sha256(content).hexdigest()}"]
        (folder / "__init__.py").write_text("")
        (folder / "pkgdata.toml").write_text(f'[package]\ndataurl = "{origin.as_uri()}/"\n')
        (folder / "registry.txt").write_text("\n".join(lines) + "\n")
        return origin

    return make


# -- the file system -------------------------------------------------------------------------------


def test_a_file_is_read_by_its_url_and_cached_once(package):
    origin = package(FILES)
    with fsspec.open("pkgdata://readable/stars.csv", "rt") as file:
        assert file.readline() == "name,mag\n"
    (origin / "stars.csv").unlink()
    with fsspec.open("pkgdata://readable/stars.csv") as file:
        assert file.read() == FILES["stars.csv"]
    local = fsspec.open_local("pkgdata://readable/stars.csv")
    assert Path(local).read_bytes() == FILES["stars.csv"]
    assert local.startswith(os.environ["PKGDATA_CACHE_DIR"])


def test_wrong_bytes_are_refused(package):
    origin = package(FILES)
    (origin / "stars.csv").write_bytes(FILES["stars.csv"].replace(b"Vega", b"Vaga"))
    with pytest.raises(IntegrityError), fsspec.open("pkgdata://readable/stars.csv") as file:
        file.read()


def test_listings_come_from_the_registry_alone(package):
    origin = package(FILES)
    for path in origin.rglob("*.*"):
        path.unlink()
    system = fsspec.filesystem("pkgdata")
    assert system.ls("readable", detail=False) == ["readable/maps", "readable/stars.csv"]
    assert system.find("pkgdata://readable/maps") == [
        "readable/maps/a.bin",
        "readable/maps/deep/b.bin",
    ]
    assert system.glob("pkgdata://readable/**/*.bin") == system.find("readable/maps")
    info = system.info("readable/maps/a.bin")
    assert (info["type"], info["size"]) == ("file", 5000)
    assert info["digest"] == f"sha256:{hashlib.sha256(FILES['maps/a.bin']).hexdigest()}"
    assert system.isdir("readable/maps/deep")
    assert system.isdir("readable")
    assert not system.exists("readable/maps/de")
    assert "pkgdata" in system.ls("", detail=False)


def test_an_unknown_size_is_found_out(package):
    package(FILES, sizes=False)
    system = fsspec.filesystem("pkgdata")
    assert system.size("readable/maps/a.bin") == 5000
    assert {one["size"] for one in system.ls("readable/maps/deep")} == {None}


def test_parts_and_copies(package, tmp_path):
    package(FILES)
    system = fsspec.filesystem("pkgdata")
    assert system.cat_file("pkgdata://readable/maps/a.bin", 10, 14) == b"aaaa"
    assert system.cat("readable/maps/*.bin") == {"readable/maps/a.bin": FILES["maps/a.bin"]}
    system.get("pkgdata://readable/maps", str(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got" / "deep" / "b.bin").read_bytes() == FILES["maps/deep/b.bin"]


def test_a_file_that_ships_with_the_package(package, tmp_path):
    package(FILES)
    (tmp_path / "readable" / "data").mkdir()
    (tmp_path / "readable" / "data" / "shipped.txt").write_text("here")
    with fsspec.open("pkgdata://readable/shipped.txt", "rt") as file:
        assert file.read() == "here"
    assert fsspec.filesystem("pkgdata").size("readable/shipped.txt") == 4


@pytest.mark.parametrize(
    "path", ["readable/nothing", "readable/maps", "readable", "", "./x", "../x", "no_such_pkg_/x"]
)
def test_what_is_no_file_is_not_found(package, path):
    package(FILES)
    system = fsspec.filesystem("pkgdata")
    with pytest.raises(FileNotFoundError):
        system.open(f"pkgdata://{path}")


def test_the_names_that_are_close_are_told(package):
    package(FILES)
    with pytest.raises(FileNotFoundError, match=r"did you mean 'stars\.csv'"):
        fsspec.filesystem("pkgdata").info("readable/star.csv")


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b"])
def test_nothing_is_written(package, mode):
    package(FILES)
    with pytest.raises(OSError, match="read-only"):
        fsspec.filesystem("pkgdata").open("readable/stars.csv", mode)


def test_the_key_of_a_file_is_its_digest(package):
    package(FILES)
    system = fsspec.filesystem("pkgdata")
    assert hashlib.sha256(FILES["stars.csv"]).hexdigest() in system.ukey("readable/stars.csv")


def test_the_entry_point_leads_here():
    toml = Path(__file__).parents[2].joinpath("pyproject.toml").read_text()
    line = 'pkgdata = "pkgdata.compat.fsspec:PackageFileSystem"'
    assert f'[project.entry-points."fsspec.specs"]\n{line}' in toml


# -- libraries -------------------------------------------------------------------------------------


def library(test):
    return pytest.mark.integration(pytest.mark.apart(test))


@library
def test_pandas_reads_csv_and_parquet(package):
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    table = pandas.DataFrame({"name": ["Vega", "Deneb"], "mag": [0.03, 1.25]})
    package({"stars.csv": FILES["stars.csv"], "stars.parquet": table.to_parquet()})
    pandas.testing.assert_frame_equal(pandas.read_csv("pkgdata://readable/stars.csv"), table)
    found = pandas.read_parquet("pkgdata://readable/stars.parquet")
    pandas.testing.assert_frame_equal(found, table)


@library
def test_polars_reads_csv_and_parquet(package):
    polars = pytest.importorskip("polars", reason="needs polars: pip install polars")
    import io

    table, out = polars.DataFrame({"name": ["Vega", "Deneb"], "mag": [0.03, 1.25]}), io.BytesIO()
    table.write_parquet(out)
    package({"stars.csv": FILES["stars.csv"], "stars.parquet": out.getvalue()})
    local = fsspec.open_local("pkgdata://readable/stars.csv")
    assert polars.read_csv(local).equals(table)  # polars 2 itself knows no URLs of fsspec
    with fsspec.open("pkgdata://readable/stars.parquet") as file:
        assert polars.read_parquet(file).equals(table)
    local = fsspec.open_local("pkgdata://readable/stars.parquet")
    assert polars.scan_parquet(local).collect().equals(table)


def cube():
    xarray = pytest.importorskip("xarray", reason="needs xarray: pip install xarray")
    return xarray.Dataset({"t": (("y", "x"), [[1.0, 2.0], [3.0, 4.0]])}, {"x": [10, 20]})


@library
@pytest.mark.filterwarnings("ignore")  # those of the libraries
def test_xarray_reads_netcdf(package, tmp_path):
    pytest.importorskip("netCDF4", reason="needs netCDF4: pip install netCDF4")
    pytest.importorskip("h5netcdf", reason="needs h5netcdf: pip install h5netcdf")
    import xarray

    wanted = cube()
    wanted.to_netcdf(tmp_path / "cube.nc", engine="netcdf4")
    package({"cube.nc": (tmp_path / "cube.nc").read_bytes()})
    local = fsspec.open_local("pkgdata://readable/cube.nc")
    with xarray.open_dataset(local, engine="netcdf4") as found:
        assert found.identical(wanted)
    with (
        fsspec.open("pkgdata://readable/cube.nc") as file,
        xarray.open_dataset(file, engine="h5netcdf") as found,
    ):
        assert found.identical(wanted)


@library
@pytest.mark.filterwarnings("ignore")  # those of the libraries
@pytest.mark.parametrize("consolidated", [False, True])
def test_xarray_reads_zarr(package, tmp_path, consolidated):
    pytest.importorskip("zarr", reason="needs zarr: pip install zarr")
    import xarray

    wanted = cube()
    wanted.to_zarr(tmp_path / "cube.zarr", consolidated=consolidated)
    files = [path for path in (tmp_path / "cube.zarr").rglob("*") if path.is_file()]
    package({str(path.relative_to(tmp_path)): path.read_bytes() for path in files})
    found = xarray.open_zarr("pkgdata://readable/cube.zarr", consolidated=consolidated)
    assert found.load().identical(wanted)


@library
@pytest.mark.filterwarnings("ignore")  # those of the libraries
def test_dask_reads_many(package, tmp_path):
    frames = pytest.importorskip("dask.dataframe", reason="needs pip install 'dask[dataframe]'")
    head = b"name,mag\n"
    package({f"part{n}.csv": head + b"Vega,%d\n" % n for n in range(4)})
    table = frames.read_csv("pkgdata://readable/part*.csv", blocksize=None)
    assert table.npartitions == 4
    assert table["mag"].sum().compute(scheduler="sync") == 6


@library
def test_dask_workers_find_the_package_themselves(package, tmp_path):
    """The URL crosses to other processes; each uses its own cache."""
    package(FILES)
    code = (
        "import fsspec, pickle, sys; from pkgdata.compat.fsspec import PackageFileSystem\n"
        "fsspec.register_implementation('pkgdata', PackageFileSystem, clobber=True)\n"
        "with pickle.load(sys.stdin.buffer) as file: print(file.name); print(len(file.read()))"
    )
    import pickle

    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(fsspec.open("pkgdata://readable/maps/a.bin")),
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path}:{os.getcwd()}",
            "PKGDATA_CACHE_DIR": str(tmp_path / "own"),
        },
        capture_output=True,
        check=True,
    )
    path, size = done.stdout.decode().split()
    assert path.startswith(str(tmp_path / "own"))
    assert size == "5000"


@library
@pytest.mark.filterwarnings("ignore")  # those of the libraries
def test_intake_reads(package):
    readers = pytest.importorskip("intake.readers", reason="needs intake: pip install intake")
    pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    package(FILES)
    source = readers.datatypes.CSV(url="pkgdata://readable/stars.csv")
    found = readers.readers.PandasCSV(source).read()
    assert list(found["name"]) == ["Vega", "Deneb"]
