"""Types of data: an MNIST of full size end to end, IDX files, tables, any class."""

from __future__ import annotations

import dataclasses
import gzip
import json
import struct
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from cataloging import one, paths_below, run, sha

import pkgdata
from pkgdata import catalog, errors
from pkgdata.testing import faults


def write_idx(path, array):
    """Write an array as an IDX file: its type and shape, then its elements, all big-endian."""
    array = array.astype(array.dtype.newbyteorder(">"), copy=False)
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[array.dtype.str[1:]]
    head = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    with open(path, "wb") as file:
        file.write(head)
        array.tofile(file)


# -- an MNIST of full size -------------------------------------------------------------------

MNIST = """
@datatags("image")
@datatasks("image classification")
@filedownloader("train_images.idx", "{url}train-images-idx3-ubyte.gz", digest="{d[0]}")
@filedownloader("train_labels.idx", "{url}train-labels-idx1-ubyte.gz",
    checker=HashCheck("sha256", "{checks[1]}"))
@filedownloader("test_images.idx", "{url}t10k-images-idx3-ubyte.gz", digest="{d[2]}")
@filedownloader("test_labels.idx", "{url}t10k-labels-idx1-ubyte.gz")
@dataset(ImageClassification, url="http://yann.lecun.com/exdb/mnist/")
def mnist(train_images, train_labels, test_images, test_labels):
    '''Handwritten digits.

    60,000 to learn from, 10,000 to test with.
    '''
    return {{
        "train": LabelledImages(images=IDX(path=train_images), labels=IDX(path=train_labels)),
        "test": LabelledImages(images=IDX(path=test_images), labels=IDX(path=test_labels)),
    }}
"""


class Idx(NamedTuple):
    """An IDX file: what it holds, by its digests, and its gzipped bytes."""

    elements: str
    plain: str
    packed: bytes


def mnist_files(folder, train, test, period):
    """Return names and files of an MNIST; `period` elements are random, then they come again."""
    numpy = pytest.importorskip("numpy", reason="needs numpy")
    random, found = numpy.random.default_rng(7), {}
    for name, values, shape in [
        ("train-images-idx3-ubyte", 256, (train, 28, 28)),
        ("train-labels-idx1-ubyte", 10, (train,)),
        ("t10k-images-idx3-ubyte", 256, (test, 28, 28)),
        ("t10k-labels-idx1-ubyte", 10, (test,)),
    ]:
        array = numpy.resize(random.integers(0, values, (period,), dtype="u1"), shape)
        write_idx(folder / name, array)
        elements = sha(array)
        del array  # one copy of 47 MB at a time
        plain = (folder / name).read_bytes()
        found[f"{name}.gz"] = Idx(elements, sha(plain), gzip.compress(plain, 1, mtime=0))
    return found


def serve(plugins, server, files):
    server.contents.update({name: one.packed for name, one in files.items()})
    packed = [sha(one.packed) for one in files.values()]
    plain = [one.plain for one in files.values()]
    plugins.add({"com/lecun.py": MNIST.format(url=server.url, d=packed, checks=plain)})


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """Return the files of an MNIST of full size, of which the packed ones are small."""
    return mnist_files(tmp_path_factory.mktemp("mnist"), 60_000, 10_000, 9973)


@pytest.fixture
def mnist(plugins, server, full_size):
    serve(plugins, server, full_size)
    return server


@pytest.mark.slow
def test_mnist_of_full_size_from_a_name_to_arrays(mnist, data, full_size, monkeypatch):
    import numpy

    ds = pkgdata.prepare_dataset("com.lecun.mnist")
    images = ds.train.images.data()
    assert images.shape == (60_000, 28, 28)
    assert images.dtype == numpy.dtype("uint8")
    assert isinstance(images, numpy.memmap)
    assert not images.flags.writeable
    for part, name in [
        (ds.train.images, "train-images-idx3-ubyte.gz"),
        (ds.train.labels, "train-labels-idx1-ubyte.gz"),
        (ds.test.images, "t10k-images-idx3-ubyte.gz"),
        (ds.test.labels, "t10k-labels-idx1-ubyte.gz"),
    ]:
        assert sha(part.data()) == full_size[name].elements
    assert (ds.id, ds.train.images.id) == (
        "com.lecun.mnist@image",
        "com.lecun.mnist.train.images@image",
    )
    assert ds.dataset_information()["name"] == "Handwritten digits."
    assert paths_below(data) == [
        f"data/image/com/lecun/mnist/{one}_{kind}.idx"
        for one in ("test", "train")
        for kind in ("images", "labels")
    ]
    # the second call needs no network, and asks nobody
    asked = len(mnist.requests)
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    again = pkgdata.prepare_dataset("com.lecun.mnist")
    assert again == ds
    assert len(mnist.requests) == asked


@pytest.mark.slow
def test_mnist_by_the_command_line(plugins, mnist, data):
    found = json.loads(run(plugins, "prepare", "com.lecun.mnist").stdout)
    folder = data / "data/image/com/lecun/mnist"
    assert found == {
        "id": "com.lecun.mnist@image",
        **{
            part: {
                "id": f"com.lecun.mnist.{part}@image",
                **{
                    kind: {
                        "id": f"com.lecun.mnist.{part}.{kind}@image",
                        "path": str(folder / f"{part}_{kind}.idx"),
                    }
                    for kind in ("images", "labels")
                },
            }
            for part in ("train", "test")
        },
    }
    asked = len(mnist.requests)
    again = run(plugins, "prepare", "com.lecun.mnist", "--encoder", "xpm").stdout
    assert json.loads(again)["train"]["images"] == {
        "id": "com.lecun.mnist.train.images@image",
        "path": {"$type": "path", "$value": str(folder / "train_images.idx")},
        "$type": "pkgdata.catalog.types.tensor.idx",
    }
    assert len(mnist.requests) == asked


def test_an_interrupted_pinned_download_is_resumed(plugins, server, data, tmp_path):
    serve(plugins, server, mnist_files(tmp_path, 6000, 10, 6000 * 28 * 28))
    server.script("train-images-idx3-ubyte.gz", faults.cut(4_000_000))
    ds = pkgdata.prepare_dataset("com.lecun.mnist")
    assert ds.train.images.data().shape == (6000, 28, 28)
    ranges = [r.headers["range"] for r in server.requests if "range" in r.headers]
    assert any(int(one.partition("=")[2].partition("-")[0]) >= 4_000_000 for one in ranges)


# -- IDX -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["u1", "i1", ">i2", ">i4", ">f4", ">f8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (0,), (2, 0, 3), (1, 1, 1, 5)])
def test_every_element_type_and_shape_of_idx_files(tmp_path, kind, shape):
    numpy = pytest.importorskip("numpy", reason="needs numpy")
    array = numpy.arange(-3, numpy.prod(shape, dtype=int) - 3).astype(kind).reshape(shape)
    write_idx(tmp_path / "a", array)
    found = catalog.IDX(path=tmp_path / "a").data()
    assert found.shape == shape
    assert found.dtype == numpy.dtype(kind)
    assert numpy.array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\0\0\x0a\x01\0\0\0\1\0", "not an IDX file"),
        (b"\0\1\x08\x01\0\0\0\1\0", "not an IDX file"),
        (b"\0\0\x08\x02\0\0\0\1", "not an IDX file"),
        (gzip.compress(b"x", mtime=0), "it is compressed"),
        (b"\0\0\x08\x01\0\0\0\2\0", "9 bytes, its header says 10"),
        (b"\0\0\x08\x01\0\0\0\1\0\0", "10 bytes, its header says 9"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", "its header says"),
    ],
)
def test_what_is_no_idx_file(tmp_path, content, problem):
    pytest.importorskip("numpy", reason="needs numpy")
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(errors.CatalogError, match="a: ") as caught:
        catalog.IDX(path=tmp_path / "a").data()
    assert problem in str(caught.value)


def test_without_numpy_a_tensor_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    (tmp_path / "a").write_bytes(b"\0\0\x08\x01\0\0\0\1\7")
    found = catalog.IDX(path=tmp_path / "a")
    assert found.header() == (">u1", (1,), 8)
    with pytest.raises(errors.MissingExtraError, match="a tensor needs numpy"):
        found.data()


def test_tables(tmp_path):
    numpy = pytest.importorskip("numpy", reason="needs numpy")
    (tmp_path / "t.csv").write_text("# made by\na;b;y\n1;2;0\n3;4;1\n\n")
    table = catalog.CSV(path=tmp_path / "t.csv", delimiter=";", ignore=1, names_row=0)
    assert table.columns() == ["a", "b", "y"]
    assert list(table.rows()) == [["1", "2", "0"], ["3", "4", "1"]]
    facts = {"path": tmp_path / "t.csv", "delimiter": ";", "ignore": 1, "names_row": 0}
    for target in ("y", -1, 2):
        columns, values, targets = catalog.Matrix(**facts, target=target).data()
        assert columns == ["a", "b", "y"]
        assert numpy.array_equal(values, [[1, 2], [3, 4]])
        assert numpy.array_equal(targets, [0, 1])
    with pytest.raises(errors.CatalogError, match="no column 'z'"):
        catalog.Matrix(**facts, target="z").data()


# -- types -----------------------------------------------------------------------------------


def test_types_take_keywords_and_say_what_is_wrong():
    class Corpus(catalog.Base):
        path: Path
        words: list[str] = []  # noqa: RUF012 -- as types are written
        encoding: str = "utf-8"

    found = Corpus.C(path=Path("a"))
    assert (found.path, found.encoding) == (Path("a"), "utf-8")
    found.words.append("x")
    assert Corpus(path=Path("a")).words == []  # a default is not shared
    with pytest.raises(TypeError, match="needs the field 'path'"):
        Corpus()
    with pytest.raises(TypeError, match="no field 'pth'"):
        Corpus(path=1, pth=2)


DATACLASSES = """
@dataclasses.dataclass(frozen=True)
class Text:
    path: Path
    lines: int = 0

@dataclasses.dataclass
class Pair:
    left: Text
    right: Text
    others: list = dataclasses.field(default_factory=list)

class Plain:
    def __init__(self, path):
        self.path = path

@filedownloader("a.txt", "{url}a.txt")
@dataset(Pair)
def pair(a):
    return {{"left": Text(a), "right": Text(a, 2), "others": [Text(a)]}}

@filedownloader("a.txt", "{url}a.txt")
@dataset()
def plain(a) -> Plain:
    return Plain(a)
"""


def test_dataclasses_and_plain_classes_are_types(plugins, data, server):
    server.contents["a.txt"] = b"hello"
    found = one(plugins, DATACLASSES.format(url=server.url))
    pair = found.prepare("com.example.pair")
    assert pair.left.path.read_bytes() == b"hello"
    assert dataclasses.is_dataclass(pair)
    from pkgdata.catalog.objects import encoded

    written = encoded(pair)
    path = str(data / "data/image/com/example/pair/a.txt")
    assert written["id"] == "com.example.pair@image"
    assert written["left"] == {"id": "com.example.pair.left@image", "path": path, "lines": 0}
    assert written["others"][0]["id"] == "com.example.pair.others.0@image"
    plain = found.prepare("com.example.plain")
    assert plain.path.read_bytes() == b"hello"
    assert encoded(plain) == {"path": str(data / "data/image/com/example/plain/a.txt")}
