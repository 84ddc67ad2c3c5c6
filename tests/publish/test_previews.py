"""What a page shows of files: pictures, rows, headers, trees; and what it must never show."""

from __future__ import annotations

import base64
import gzip
import html
import logging
import struct
import types
import zipfile
import zlib

import pytest
from publishing import CHECKOUT

from pkgdata import Digest, Entry
from pkgdata.publish import landing, previews
from pkgdata.publish.previews import Preview, preview
from pkgdata.stores import codecs

DATA = CHECKOUT / "pkgdata" / "data"


def size_of(image):
    """Return width and height of a PNG in a ``data:`` URL, all of whose chunks are right."""
    head, _, content = image.partition(",")
    assert head == "data:image/png;base64"
    png = base64.b64decode(content)
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind_and_body = png[at + 4 : at + 8 + length]
        assert png[at + 8 + length : at + 12 + length] == struct.pack(
            ">I", zlib.crc32(kind_and_body)
        )
        at += 12 + length
    return struct.unpack(">II", png[16:24])


def made(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return preview(name, str(path))


def test_the_first_rows_of_a_table(tmp_path):
    found = preview("stars.csv", str(DATA / "stars.csv"))
    assert found.facts == "16 rows × 4 columns"
    assert found.rows[0] == ["name", "ra_deg", "dec_deg", "vmag"]
    assert [row[0] for row in found.rows[1:]] == [
        "Sirius", "Canopus", "Arcturus", "Vega", "Capella", "Rigel"
    ]  # fmt: skip
    packed = made(tmp_path, "a.tsv.gz", gzip.compress(b"a\tb\n1\tx;y\n"))
    assert packed.rows == [["a", "b"], ["1", "x;y"]]
    large = made(tmp_path, "a.csv", b"a,b\n" + "1,ä\n".encode() * 50_000)
    assert large.facts == "2 columns", "only the beginning is read"
    wide = made(tmp_path, "b.csv", ",".join(["x" * 100] * 99).encode())
    assert (len(wide.rows[0]), len(wide.rows[0][0])) == (8, 40)


def test_the_header_of_fits_without_any_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "astropy.io.fits", None)
    found = preview("x.fits", str(DATA / "spectrum.fits"))
    assert found.lines[0].startswith("XTENSION= 'BINTABLE'"), "that of the unit with the data"
    assert found.rows == []


def test_the_tree_of_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("maps/low/b.txt", "maps/low/a.txt", "maps/c.txt", "top.txt"):
            archive.writestr(name, "x" * 1000)
    found = preview("a.zip", str(tmp_path / "a.zip"))
    assert found.facts == "4 files, 4 kB unpacked"
    assert found.lines == [
        "maps/", "  c.txt  1 kB", "  low/", "    a.txt  1 kB", "    b.txt  1 kB", "top.txt  1 kB"
    ]  # fmt: skip


def test_how_a_text_begins(tmp_path):
    assert made(tmp_path, "a.md", b"# T\n\nwords\n").lines == ["# T", "", "words"]
    assert made(tmp_path, "b.txt", b"x\n" * 100).lines == ["x"] * 12 + ["…"]
    assert made(tmp_path, "c.txt", b"MZ\0\0") is None


@pytest.mark.parametrize(
    "name", ["a.csv", "a.fits", "a.zip", "a.png", "a.npy", "a.h5", "a.nc", "a.pq"]
)
def test_what_cannot_be_read_has_no_preview(tmp_path, name, caplog):
    caplog.set_level(logging.DEBUG, "pkgdata")
    assert made(tmp_path, name, b"\xff\xfenonsense") is None
    assert made(tmp_path, f"{name}.gz", b"\x1f\x8bnonsense") is None


def test_a_small_picture_is_shown_as_it_is_without_a_library(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    found = preview("spiral.png", str(DATA / "spiral.png"))
    assert size_of(found.image) == (128, 128)
    assert made(tmp_path, "a.png", b"<svg>") is None, "only what begins like a picture"
    assert made(tmp_path, "a.jpg", b"\xff\xd8\xff" + bytes(200_000)) is None


def test_a_page_holds_so_much(tmp_path, monkeypatch):
    class Item:
        size, path = 1, str(DATA / "spiral.png")

        def __init__(self, name):
            self.name = name

    monkeypatch.setattr(previews, "_PAGE", 100_000)
    monkeypatch.setattr(previews, "_picture", lambda *_: Preview(image="x" * 40_000))
    monkeypatch.setitem(previews._MAKERS, "png", previews._picture)
    found = previews.previews([Item(f"{number}.png") for number in range(9)])
    assert [*found] == ["0.png", "1.png"]


def test_all_that_is_shown_is_escaped(tmp_path):
    evil = "</pre></script><script>alert(1)</script>\"'&\u202e"
    shown = Preview(evil, "data:image/png;base64,AA==", [[evil], [evil]], [evil])
    about = landing.About(evil, evil, evil, evil, f"javascript:{evil}", evil, evil, [(evil, evil)])
    name = evil.replace("/", "_")
    entry = Entry(name, Digest("sha256", "0" * 64), 1)
    found = landing.page(about, [entry], "https://host/x/", {name: shown})
    assert "<script>alert" not in found
    assert "\u202e" not in found.replace(f'data-name="{html.escape(name)}"', "")
    assert 'href="javascript:' not in found
    assert found.count("<script") == 2, "the metadata and ours"


class Pieces:
    """What has chunks, and must not be read."""

    dtype = types.SimpleNamespace(itemsize=8)

    def __init__(self, shape, chunks):
        self.shape, self.chunks = shape, chunks

    def __getitem__(self, _):
        pytest.fail("it was read")


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((4, 4), (1 << 14, 1 << 14)),  # one chunk is 2 GB
        ((1000, 1000, 1000), (1000, 100, 100)),  # a plane has a part of each of 100 chunks
        ((1 << 13, 1 << 13), None),
        ((4, 4, 3), (1 << 13, 1 << 13, 1)),
    ],
)
def test_what_takes_much_memory_is_not_unpacked(shape, chunks):
    found = Preview("HDF5")
    previews._draw(found, Pieces(shape, chunks))
    assert found.image == ""
    assert found.why.startswith("not shown, as ")


def test_a_directory_of_many_members_is_not_read(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}.txt", "")
    before = preview("a.zip", str(tmp_path / "a.zip"))
    assert before.facts == "100 files, 0 B unpacked"
    monkeypatch.setattr(codecs, "MOST_MEMORY", 60_000)
    found = preview("a.zip", str(tmp_path / "a.zip"))
    assert (found.facts, found.lines) == ("not shown, as 83 kB would be unpacked", [])


# -- with the libraries that a publisher may have -------------------------------------------------


def library(test):
    return pytest.mark.integration(pytest.mark.apart(test))


@library
def test_pictures(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (1000, 500), "red").save(tmp_path / "a.png")
    found = preview("a.png", str(tmp_path / "a.png"))
    assert (found.facts, size_of(found.image)) == ("1000 × 500 pixels", (192, 96))
    image.new("L", (400, 800)).save(tmp_path / "a.jpg")
    found = preview("a.JPG", str(tmp_path / "a.jpg"))
    assert found.image.startswith("data:image/jpeg;base64,")
    image.new("I;16", (300, 300)).save(tmp_path / "b.png")
    assert size_of(preview("b.png", str(tmp_path / "b.png")).image) == (150, 150)
    image.new("RGB", (10, 10)).save(tmp_path / "c.gif")
    assert made(tmp_path, "c.png", (tmp_path / "c.gif").read_bytes()) is None, "not another decoder"


@library
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_large_pictures_that_would_be_decoded_whole(tmp_path, monkeypatch, kind):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (1000, 500), "red").save(tmp_path / f"a.{kind}", progressive=True)
    monkeypatch.setattr(codecs, "MOST_MEMORY", 1_000_000)
    found = preview(f"a.{kind}", str(tmp_path / f"a.{kind}"))
    assert found.facts == "1000 × 500 pixels; not shown, as 2 MB would be unpacked"
    image.new("RGB", (1000, 500), "red").save(tmp_path / "a.jpg")
    assert preview("a.jpg", str(tmp_path / "a.jpg")).image, "read at a smaller scale"


@library
def test_arrays(tmp_path):
    numpy = pytest.importorskip("numpy")
    numpy.save(tmp_path / "a.npy", numpy.linspace(0, 1, 400 * 300).reshape(2, 200, 300))
    found = preview("a.npy", str(tmp_path / "a.npy"))
    assert (found.facts, size_of(found.image)) == ("2 × 200 × 300, float64", (150, 100))
    numpy.save(tmp_path / "a.npy", numpy.full((20, 20), numpy.nan))
    assert preview("a.npy", str(tmp_path / "a.npy")).image == ""
    numpy.save(tmp_path / "a.npy", numpy.array([object()]), allow_pickle=True)
    assert preview("a.npy", str(tmp_path / "a.npy")) is None, "nothing is unpickled"


@library
def test_fits(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    numpy = pytest.importorskip("numpy")
    pixels = numpy.arange(400 * 200, dtype="int16").reshape(400, 200)
    fits.PrimaryHDU(pixels).writeto(tmp_path / "a.fits")
    found = preview("a.fits", str(tmp_path / "a.fits"))
    assert (found.facts, size_of(found.image)) == ("400 × 200 pixels", (67, 134))
    assert found.lines[0].startswith("SIMPLE  =")
    found = preview("x.fits", str(DATA / "spectrum.fits"))
    assert found.facts == "500 rows × 2 columns"
    assert len(found.rows) == 7


@library
def test_tiles_of_fits(tmp_path, monkeypatch):
    fits = pytest.importorskip("astropy.io.fits")
    numpy = pytest.importorskip("numpy")
    path = str(tmp_path / "a.fits")
    pixels = numpy.zeros((1000, 4, 400), dtype="int16")
    fits.CompImageHDU(pixels, tile_shape=(1000, 1, 100)).writeto(path)
    assert preview("a.fits", path).image
    monkeypatch.setattr(codecs, "MOST_MEMORY", 3_000_000)
    found = preview("a.fits", path)
    assert found.facts == "1000 × 4 × 400 pixels; not shown, as 3.2 MB would be unpacked"
    assert found.image == ""


@library
def test_hdf5_and_nothing_of_other_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(range(256)) * 16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/density"] = [[1.0, 2.0], [3.0, 4.0]]
        file["link"] = h5py.ExternalLink("b.h5", "/x")
    found = preview("a.h5", str(tmp_path / "a.h5"))
    assert found.lines == ["run/", "run/density  2 × 2, float64"]
    assert size_of(found.image) == (2, 2)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("x", (64, 64), "u1", external=[(str(tmp_path / "secret"), 0, 4096)])
    assert preview("b.h5", str(tmp_path / "b.h5")).image == ""
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("x", (4, 4), "u1", maxshape=(None, None), chunks=(1 << 15, 1 << 15))
    found = preview("c.h5", str(tmp_path / "c.h5"))
    assert (found.facts, found.image) == ("HDF5; not shown, as 1.07 GB would be unpacked", "")


@library
@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC"])
def test_netcdf(tmp_path, kind):
    library = pytest.importorskip("netCDF4")
    with library.Dataset(tmp_path / "a.nc", "w", format=kind) as file:
        file.createDimension("lat", 4)
        file.createDimension("lon", 8)
        variable = file.createVariable("sst", "f4", ("lat", "lon"))
        variable.units = "K"
        variable[:] = 280.0
    found = preview("a.nc", str(tmp_path / "a.nc"))
    assert found.lines == ["sst(lat=4, lon=8)  K"]
    assert kind == "NETCDF4" or size_of(found.image) == (8, 4)


@library
def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        pyarrow.table({"a": range(100), "b": ["x y"] * 100}), tmp_path / "a.parquet"
    )
    found = preview("a.parquet", str(tmp_path / "a.parquet"))
    assert found.facts == "100 rows × 2 columns"
    assert found.rows[:3] == [["a", "b"], ["0", "x y"], ["1", "x y"]]
    assert len(found.rows) == 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codecs, "MOST_MEMORY", 100)
        found = preview("a.parquet", str(tmp_path / "a.parquet"))
    assert found.facts.startswith("100 rows × 2 columns; not shown, as ")
    assert len(found.rows) == 1
