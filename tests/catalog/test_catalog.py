"""Datasets by name: definitions, resources, preparation, and an MNIST of full size end to end."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import textwrap
import threading
import zipfile
from pathlib import Path

import pytest

import pkgdata
from pkgdata import catalog, errors
from pkgdata.catalog import names, places, resources
from pkgdata.testing import FaultServer, faults

HEAD = "from pkgdata.catalog import *\nimport dataclasses\nfrom pathlib import Path\n"


class Plugins:
    """A folder on the module search path, into which packages with repositories are written."""

    def __init__(self, root):
        self.lib = root / "lib"
        self.lib.mkdir()
        self.count = 0
        #: The folder of the last package.
        self.package = None

    def add(self, modules, *, name="image", package=None, group="pkgdata.repositories", init=""):
        self.count += 1
        package = package or f"plug{os.getpid()}_{self.lib.parent.name}_{self.count}"
        package = "".join(c if c.isalnum() else "_" for c in package)
        folder = self.package = self.lib / package
        folder.mkdir()
        (folder / "__init__.py").write_text(init or f'"""Things of {name}."""\n')
        for file, text in modules.items():
            self.write(package, file, text)
        info = self.lib / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        value = f"{package}:Repo" if "class Repo" in init else package
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
        return package

    def write(self, package, file, text):
        path = self.lib / package / "config" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + textwrap.dedent(text))
        return path


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    found = Plugins(tmp_path)
    monkeypatch.syspath_prepend(str(found.lib))
    return found


@pytest.fixture
def data(tmp_path, monkeypatch):
    path = tmp_path / "data"
    monkeypatch.setenv("PKGDATA_CATALOG_DIR", str(path))
    return path


@pytest.fixture
def server():
    with FaultServer({}) as found:
        yield found


def write_idx(path, array):
    """Write an array as an IDX file: its type and shape, then its elements, all big-endian."""
    array = array.astype(array.dtype.newbyteorder(">"))
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[array.dtype.str[1:]]
    head = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    path.write_bytes(head + array.tobytes())


def sha(content):
    return hashlib.sha256(content).hexdigest()


def paths_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def one(plugins, text, **options):
    """Return a catalog with one definition file, com/example.py."""
    plugins.add({"com/example.py": text}, **options)
    return catalog.Catalog()


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "name", "wanted", "expected", "alias"),
    [
        ("com.lecun", "MNIST", None, "com.lecun.mnist", None),
        ("com.lecun", "ProcessedMNIST", None, "com.lecun.processed.mnist", None),
        ("com.lecun", "my_data", None, "com.lecun.my_data", "com.lecun.my.data"),
        ("com.Lecun", "A", None, "com.lecun.a", "com.Lecun.a"),
        ("com.lecun", "A", "", "com.lecun", None),
        ("com.lecun", "A", "v2", "com.lecun.v2", None),
        ("com.lecun", "A", ".8.topics", "com.lecun.8.topics", None),
        ("com.lecun", "A", "org.example.b", "org.example.b", "com.lecun.org.example.b"),
        ("", "A", "org.example.b", "org.example.b", None),
    ],
)
def test_the_name_of_a_definition(place, name, wanted, expected, alias):
    found, aliases = names.of_definition(place, name, wanted)
    assert found == expected
    assert alias is None or alias in aliases


@pytest.mark.parametrize("wanted", ["a..b", "a/../b.c", "a.b c", ".", "..", "a.b/c"])
def test_what_is_no_name_is_refused(wanted):
    with pytest.raises(errors.CatalogError, match="is no name of a dataset"):
        names.of_definition("com.example", "f", wanted)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://yann.lecun.com/exdb/mnist/", "com.lecun.yann.exdb.mnist"),
        ("https://www.example.org/a%20b/index.html", "org.example.a_b"),
        ("https://example.org", "org.example"),
        ("https://user:pw@example.org:8080/x.php?y=1#z", "org.example.x"),
    ],
)
def test_a_page_suggests_a_name(url, name):
    assert names.of_url(url) == name


def test_a_name_that_is_not_known_brings_close_ones():
    known = ["com.lecun.mnist", "org.example.cifar", "com.lecun.emnist"]
    assert names.close_to("mnist", known)[0] == "com.lecun.mnist"
    assert "com.lecun.mnist" in names.close_to("com.lecum.mnist", known)
    assert names.close_to("nothing.alike.zzz", known) == []


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


@pytest.fixture(scope="module")
def mnist_files(tmp_path_factory):
    """Return names, arrays and gzipped IDX bytes of an MNIST of full size."""
    numpy = pytest.importorskip("numpy", reason="needs numpy")
    folder = tmp_path_factory.mktemp("mnist")
    random = numpy.random.default_rng(7)
    arrays = {
        "train-images-idx3-ubyte": random.integers(0, 256, (60_000, 28, 28), dtype="u1"),
        "train-labels-idx1-ubyte": random.integers(0, 10, (60_000,), dtype="u1"),
        "t10k-images-idx3-ubyte": random.integers(0, 256, (10_000, 28, 28), dtype="u1"),
        "t10k-labels-idx1-ubyte": random.integers(0, 10, (10_000,), dtype="u1"),
    }
    found = {}
    for name, array in arrays.items():
        write_idx(folder / name, array)
        plain = (folder / name).read_bytes()
        found[f"{name}.gz"] = (array, plain, gzip.compress(plain, 1, mtime=0))
    return found


@pytest.fixture
def mnist(plugins, data, server, mnist_files):
    server.contents.update({name: packed for name, (_, _, packed) in mnist_files.items()})
    packed = [sha(one[2]) for one in mnist_files.values()]
    plain = [sha(one[1]) for one in mnist_files.values()]
    plugins.add({"com/lecun.py": MNIST.format(url=server.url, d=packed, checks=plain)})
    return server


def test_mnist_of_full_size_from_a_name_to_arrays(mnist, data, mnist_files, monkeypatch):
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
        assert numpy.array_equal(part.data(), mnist_files[name][0])
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


def run(plugins, *words, env=None, check=True, stdin=subprocess.DEVNULL):
    """Run the command line as a process of its own."""
    root = str(Path(pkgdata.__file__).parent.parent)
    path = os.pathsep.join([str(plugins.lib), root])
    return subprocess.run(
        [sys.executable, "-m", "pkgdata", "catalog", *map(str, words)],
        env={**os.environ, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1", **(env or {})},
        capture_output=True,
        text=True,
        stdin=stdin,
        timeout=120,
        check=check,
    )


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


def test_a_pinned_download_that_is_cut_goes_on_where_it_was(mnist, data):
    mnist.script("train-images-idx3-ubyte.gz", faults.cut(20_000_000))
    ds = pkgdata.prepare_dataset("com.lecun.mnist")
    assert ds.train.images.data().shape == (60_000, 28, 28)
    ranges = [r.headers["range"] for r in mnist.requests if "range" in r.headers]
    assert any(int(one.partition("=")[2].partition("-")[0]) >= 20_000_000 for one in ranges)


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
        (b"", "no IDX file"),
        (b"\0\0\x08", "no IDX file"),
        (b"\0\0\x0a\x01\0\0\0\1\0", "no IDX file"),
        (b"\0\1\x08\x01\0\0\0\1\0", "no IDX file"),
        (b"\0\0\x08\x02\0\0\0\1", "no IDX file"),
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


# -- resources -------------------------------------------------------------------------------


def tar(files, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


TREE = {"top/data/a.csv": b"a", "top/data/b/c.csv": b"c", "top/other/d.csv": b"d"}

ARCHIVES = """
@dataset()
class Whole(Folder):
    PATH = ZipDownloader("files", "{url}a.zip")

@dataset()
class Part(Folder):
    PATH = TarDownloader("files", "{url}a.tar.gz", subpath="top/data", digest="{tar}")

@dataset()
class Some(Folder):
    PATH = ArchiveDownloader("files", "{url}a.zip", files=["top/other/d.csv"])

@dataset()
class Absent(Folder):
    PATH = ArchiveDownloader("files", "{url}a.zip", subpath="top/dta")

@dataset()
class AbsentFile(Folder):
    PATH = ArchiveDownloader("files", "{url}a.tar.gz", files=["top/data/A.csv"])

@dataset()
class Wrong(Folder):
    PATH = ZipDownloader("files", "{url}a.zip", checker=HashCheck("{wrong}"))

@dataset()
class NoArchive(Folder):
    PATH = ArchiveDownloader("files", "{url}text.bin")

@dataset()
class Escape(Folder):
    PATH = ZipDownloader("files", "{url}escape.zip")
"""


@pytest.fixture
def archives(plugins, data, server):
    server.contents["a.zip"] = zipped(TREE)
    server.contents["a.tar.gz"] = tar(TREE)
    server.contents["text.bin"] = b"text"
    server.contents["escape.zip"] = zipped({"../out.txt": b"x"})
    digest = sha(server.contents["a.tar.gz"])
    return one(plugins, ARCHIVES.format(url=server.url, tar=digest, wrong="0" * 32))


def test_archives_whole_in_part_and_single_files(archives, data):
    whole = archives.prepare("com.example.whole").path
    assert whole == data / "data/image/com/example/whole/files"
    # the one folder at its top is the resource
    assert paths_below(whole) == ["data/a.csv", "data/b/c.csv", "other/d.csv"]
    assert paths_below(archives.prepare("com.example.part").path) == ["a.csv", "b/c.csv"]
    assert paths_below(archives.prepare("com.example.some").path) == ["other/d.csv"]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("absent", errors.ExtractionError, "the archive has no 'top/dta'"),
        ("absent.file", errors.ExtractionError, "the archive has no 'top/data/A.csv'"),
        ("wrong", errors.IntegrityError, "expected md5:0000"),
        ("no.archive", errors.ExtractionError, "neither a zip nor a tar archive"),
        ("escape", errors.ExtractionError, "out.txt"),
    ],
)
def test_archives_that_are_wrong_leave_nothing_half_made(archives, data, name, error, text):
    with pytest.raises(error) as caught:
        archives.prepare(f"com.example.{name}")
    assert text in str(caught.value)
    assert paths_below(data) == []
    assert not list(data.rglob("*.pkgdata"))
    assert not (data.parent / "out.txt").exists()


def test_a_missing_subpath_has_close_names(archives):
    with pytest.raises(errors.ExtractionError) as caught:
        archives.prepare("com.example.absent")
    assert "'top/data'" in caught.value.hint


FILES = """
@dataset(File)
class Both(File):
    PATH = FileDownloader("a.txt", "{url}a.txt.gz", checker=HashCheck("{plain}"))

@dataset()
class Kept(File):
    PATH = FileDownloader("a.txt.gz", "{url}a.txt.gz")

@dataset()
class Mirrored(File):
    PATH = FileDownloader("b.txt", "{url}gone.txt", mirrors=["{url}b.txt"], digest="{b}")

@dataset()
class Xz(File):
    PATH = FileDownloader("x.txt", "{url}x.txt.xz")

@dataset()
class Several(Folder):
    PATH = FilesDownloader("files", {{
        "a.txt": "{url}a.txt.gz", "sub/b.txt": ("{url}b.txt", "sha256:{b}")}})

@dataset()
class Joined(File):
    PATH = ConcatDownloader("all.txt", "{url}a.txt.gz", "{url}b.txt")

@dataset()
class Members(File):
    PATH = ConcatDownloader("all.txt", "{url}members.tar")

@dataset()
class Upper(File):
    RAW = FileDownloader("raw.txt", "{url}a.txt.gz", transient=True)
    PATH = processed("upper.txt", lambda to, raw: to.write_bytes(raw.read_bytes().upper()), RAW)

@dataset()
class Copied(Folder):
    ARCHIVE = ZipDownloader("archive", "{url}a.zip", transient=True)
    PATH = FilesCopy(ARCHIVE, {{"a.csv": "data/a.csv"}})

@dataset()
class CopiedWrong(Folder):
    ARCHIVE = ZipDownloader("archive", "{url}a.zip", transient=True)
    PATH = FilesCopy(ARCHIVE, {{"a.csv": "nothing.csv"}})

@dataset()
class Custom(Folder):
    PATH = custom_download("made", lambda context, folder: (folder / "x").write_text("made"))

@dataset()
class WrongPlain(File):
    PATH = FileDownloader("a.txt", "{url}a.txt.gz", checker=HashCheck("{packed}"))

@dataset()
class WrongDigest(File):
    PATH = FileDownloader("b.txt", "{url}b.txt", digest="{wrong}")

@dataset()
class NoDigest(File):
    PATH = FileDownloader("b.txt", "{url}b.txt", digest="xyz")

@dataset()
class OwnCheck(File):
    class Small(FileChecker):
        def check(self, path):
            return path.stat().st_size < 2

    PATH = FileDownloader("b.txt", "{url}b.txt", checker=Small())
"""


@pytest.fixture
def files(plugins, data, server):
    import lzma

    plain, b = b"hello\n", b"world\n"
    packed = gzip.compress(plain)
    server.contents.update(
        {
            "a.txt.gz": packed,
            "b.txt": b,
            "x.txt.xz": lzma.compress(plain),
            "a.zip": zipped(TREE),
            "members.tar": tar({"2.txt.gz": packed, "1.txt": b"first\n"}, "w"),
        }
    )
    facts = {
        "plain": hashlib.md5(plain, usedforsecurity=False).hexdigest(),
        "packed": hashlib.md5(packed, usedforsecurity=False).hexdigest(),
        "b": sha(b),
        "wrong": "0" * 64,
    }
    return one(plugins, FILES.format(url=server.url, **facts))


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("both", "a.txt", b"hello\n"),
        ("mirrored", "b.txt", b"world\n"),
        ("xz", "x.txt", b"hello\n"),
        ("joined", "all.txt", b"hello\nworld\n"),
        ("members", "all.txt", b"first\nhello\n"),
        ("upper", "upper.txt", b"HELLO\n"),
    ],
)
def test_single_files(files, data, server, name, file, content):
    path = files.prepare(f"com.example.{name}").path
    assert path == data / f"data/image/com/example/{name}/{file}"
    assert path.read_bytes() == content
    # intermediates are gone, and so is what no digest pins
    assert paths_below(data) == [f"data/image/com/example/{name}/{file}"]
    asked = len(server.requests)
    assert files.prepare(f"com.example.{name}").path == path
    assert len(server.requests) == asked


def test_a_file_that_is_to_stay_compressed(files, server):
    path = files.prepare("com.example.kept").path
    assert path.read_bytes() == server.contents["a.txt.gz"]


def test_several_files_and_copies_of_some(files, data):
    assert paths_below(files.prepare("com.example.several").path) == ["a.txt", "sub/b.txt"]
    assert paths_below(files.prepare("com.example.copied").path) == ["a.csv"]
    assert not (data / "data/image/com/example/copied/archive").exists()
    with pytest.raises(errors.CatalogError, match=r"'archive' has no file 'nothing.csv'"):
        files.prepare("com.example.copied.wrong")
    assert paths_below(files.prepare("com.example.custom").path) == ["x"]


def test_pinned_bytes_lie_in_the_cache_and_unpinned_ones_do_not(files, tmp_path):
    files.prepare("com.example.mirrored")
    files.prepare("com.example.both")
    below = paths_below(tmp_path / "cache")
    assert [one for one in below if one.startswith("objects-v1/")] != []
    assert not [one for one in below if one.endswith("contents")]


def test_a_digest_of_the_compressed_bytes_gets_a_hint(files, data):
    with pytest.raises(errors.IntegrityError, match=r"wrong bytes for 'a\.txt'") as caught:
        files.prepare("com.example.wrong.plain")
    assert "digest=" in caught.value.hint
    assert paths_below(data) == []


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("wrong.digest", errors.IntegrityError, "expected sha256:0000"),
        ("no.digest", errors.CatalogError, "'xyz' is no digest"),
        ("own.check", errors.CatalogError, "refuses 'b.txt'"),
    ],
)
def test_files_that_are_wrong_leave_nothing_half_made(files, data, name, error, text):
    with pytest.raises(error, match=text):
        files.prepare(f"com.example.{name}")
    assert paths_below(data) == []


def test_a_prepared_file_that_was_damaged_is_made_again(files, server):
    path = files.prepare("com.example.mirrored").path
    path.unlink()
    path.write_bytes(b"damaged!")
    with pytest.warns(errors.FolderWarning, match="it is prepared again"):
        assert files.prepare("com.example.mirrored").path.read_bytes() == b"world\n"


def test_force_makes_files_again(files, server):
    path = files.prepare("com.example.kept").path
    server.contents["a.txt.gz"] = gzip.compress(b"newer")
    assert files.prepare("com.example.kept").path.read_bytes() != server.contents["a.txt.gz"]
    files.download("com.example.kept", force=True)
    assert path.read_bytes() == server.contents["a.txt.gz"]


def test_offline_it_says_what_is_missing(files, monkeypatch, server):
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    with pytest.raises(errors.OfflineError, match=r"com\.example\.several is not prepared here"):
        files.prepare("com.example.several")
    with pytest.raises(errors.OfflineError) as caught:
        files.prepare("com.example.both")
    assert "pkgdata catalog prepare com.example.both" in caught.value.hint
    assert server.requests == []


def test_a_site_folder_serves_downloads_too(files, tmp_path, monkeypatch, server):
    name = "pkgdata.catalog/image/com/example/mirrored/b/gone.txt"
    path = tmp_path / "site" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"world\n")
    monkeypatch.setenv("PKGDATA_FOLDERS", str(tmp_path / "site"))
    definition = files.find("com.example.mirrored")
    (entry,) = definition.resources["PATH"].entries()
    target = tmp_path / "site" / "pkgdata.catalog" / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"world\n")
    assert files.prepare("com.example.mirrored").path.read_bytes() == b"world\n"
    assert server.requests == []


def test_a_data_folder_that_cannot_be_written(files, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        errors.CatalogError, match=r"com\.example\.both cannot be prepared"
    ) as caught:
        catalog.prepare_dataset("com.example.both", tmp_path / "file")
    assert "PKGDATA_CATALOG_DIR" in caught.value.hint


@pytest.mark.parametrize("name", ["../a.txt", "/a.txt", "a/../../b", ""])
def test_files_do_not_leave_their_folder(name):
    with pytest.raises(errors.UnsafeNameError):
        catalog.FileDownloader(name, "https://example.org/a.txt")


# -- links, manual, data folders -------------------------------------------------------------

LINKS = """
@dataset(id=".base")
class Documents(File):
    PATH = FileDownloader("a.txt", "{url}a.txt")

class Task(Base):
    documents: File
    extra: str = ""

@dataset()
class ByClass(Dataset):
    DOCS = reference(Documents)
    def config(self) -> Task:
        return Task(documents=self.DOCS.config(), extra=str(ByClass.data_path))

@reference("docs", reference="com.example.base")
@dataset(Task)
def by_name(docs):
    return {{"documents": docs}}

@dataset()
class Linked(Folder):
    PATH = links("links", docs="com.example.base", same=Documents)

@dataset()
class A(Dataset):
    B = links("b", "com.example.b")
    def config(self) -> Task:
        return Task(documents=self.B.prepare())

@dataset()
class B(Dataset):
    A = reference("com.example.a")
    def config(self) -> Task:
        return Task(documents=self.A.prepare())

@dataset()
class Circle(Folder):
    X = processed("x", lambda to, one: None)
    PATH = processed("y", lambda to, one: None, X)
    X._dependencies = [PATH]

@dataset()
class Signed(File):
    PATH = manual("corpus", "Sign the form at https://example.org/form", digest="{digest}")

@dataset()
class Shared(Folder):
    PATH = linkfolder("shared", [Path("/nonexistent/x"), DataFolder("big", "sub")])

@dataset()
class SharedFile(File):
    PATH = linkfile("one", "big", "sub/one.csv")

@dataset(Folder)
def in_data_folder():
    return {{"path": DataFolder("big", "sub")}}

@dataset(File)
def gone() -> File:
    return None
"""


@pytest.fixture
def linked(plugins, data, server):
    server.contents["a.txt"] = b"documents"
    return one(plugins, LINKS.format(url=server.url, digest=sha(b"corpus")))


def test_links_to_other_datasets(linked, data):
    task = linked.prepare("com.example.by.class")
    assert task.documents.path.read_bytes() == b"documents"
    assert task.documents.id == "com.example.base@image"  # it belongs to the other dataset
    assert task.extra == str(data / "data/image/com/example/by/class")
    assert linked.prepare("com.example.by_name").documents == task.documents
    folder = linked.prepare("com.example.linked").path
    assert sorted(os.listdir(folder)) == ["docs", "same"]
    assert (folder / "docs" / "a.txt").read_bytes() == b"documents"


def test_cyclic_links_are_told_as_such(linked, data):
    with pytest.raises(errors.CatalogError, match="cyclic links") as caught:
        linked.prepare("com.example.a")
    assert "com.example.a -> com.example.b -> com.example.a" in str(caught.value)
    with pytest.raises(errors.CatalogError, match="depend on one another: "):
        linked.prepare("com.example.circle")
    assert paths_below(data) == []


def test_manual_files_are_asked_for_once(linked, tmp_path, plugins):
    with pytest.raises(errors.CatalogError, match="the file or folder 'corpus'") as caught:
        linked.prepare("com.example.signed")
    assert "https://example.org/form" in caught.value.hint
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"not it")
    asked = []

    def ask(question):
        asked.append(question)
        return f"{mine}\n"

    asking = catalog.Catalog(ask=ask)
    with pytest.raises(errors.IntegrityError, match=r"wrong bytes for 'mine\.txt'"):
        asking.prepare("com.example.signed")
    mine.write_bytes(b"corpus")
    assert asking.prepare("com.example.signed").path == mine
    assert len(asked) == 2
    assert "https://example.org/form" in asked[0]
    assert linked.prepare("com.example.signed").path == mine  # remembered
    found = run(plugins, "prepare", "com.example.signed").stdout
    assert json.loads(found)["path"] == str(mine)


def test_the_command_line_takes_the_path_of_a_manual_file(linked, tmp_path, plugins):
    (tmp_path / "mine.txt").write_bytes(b"corpus")
    refused = run(plugins, "prepare", "com.example.signed", check=False)
    assert refused.returncode == 1
    assert "--path corpus=PATH" in refused.stderr
    given = f"corpus={tmp_path / 'mine.txt'}"
    run(plugins, "download", "com.example.signed", "--path", given)
    assert linked.prepare("com.example.signed").path == tmp_path / "mine.txt"


def test_data_folders(linked, tmp_path, data):
    with pytest.raises(errors.CatalogError, match="the data folder 'big' is not set"):
        linked.prepare("com.example.shared")
    (tmp_path / "big" / "sub").mkdir(parents=True)
    (tmp_path / "big" / "sub" / "one.csv").write_text("1")
    settings = places.UserSettings(data)
    with pytest.raises(errors.CatalogError, match="is no folder"):
        settings.set_datafolder("big", tmp_path / "absent")
    settings.set_datafolder("big", tmp_path / "big")
    assert (linked.prepare("com.example.shared").path / "one.csv").read_text() == "1"
    assert linked.prepare("com.example.shared.file").path.read_text() == "1"
    assert linked.prepare("com.example.in_data_folder").path == tmp_path / "big" / "sub"


def test_a_definition_that_returns_nothing_is_named_with_its_line(linked):
    with pytest.raises(
        errors.CatalogError, match=r"example\.py, line \d+: com\.example\.gone"
    ) as e:
        linked.prepare("com.example.gone")
    assert e.value.file.endswith("example.py")
    assert e.value.line > 3


WAYBACK = """
@dataset()
class OneFile(File):
    PATH = wayback_documents("data", "http://gone.example/data.csv", timestamp="20200101")

@dataset()
class Pages(File):
    PATH = wayback_documents("20200101", lambda: ["http://gone.example/a", "http://no/b"])
"""


def test_what_is_gone_comes_from_the_archive(plugins, data, server, monkeypatch):
    monkeypatch.setenv("PKGDATA_REWRITE", f"https://web.archive.org/web/={server.url}")
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    server.contents["20200101id_/http://gone.example/data.csv"] = b"1,2\n"
    server.contents["20200101id_/http://gone.example/a"] = b"a page"
    found = one(plugins, WAYBACK)
    assert found.prepare("com.example.one.file").path.read_bytes() == b"1,2\n"
    lines = found.prepare("com.example.pages").path.read_text().splitlines()
    first, second = map(json.loads, lines)
    assert (first["url"], first["contents"]) == ("http://gone.example/a", "a page")
    assert (second["url"], second["available"]) == ("http://no/b", False)


VARIANTS = """
class Sizes(AxesVariants):
    size = Axis(["small", "large"], default="small")
    lang = Axis(type=str)

@dataset(variants=Sizes)
class Family(Dataset):
    def config(self, size, lang) -> Generic:
        return Generic(size=size, lang=lang)
"""


def test_variants(plugins, data):
    found = one(plugins, VARIANTS)
    ds = found.prepare("com.example.family[lang=fr]")
    assert (ds.size, ds.lang) == ("small", "fr")
    assert ds.id == "com.example.family[lang=fr,size=small]@image"
    assert found.prepare("com.example.family", variant={"lang": "de", "size": "large"}).lang == "de"
    for selector, problem in [
        ("", "the variant must say 'lang'"),
        ("[lang=fr,size=huge]", "expected one of 'small', 'large'"),
        ("[lang=fr,x=1]", "no axis 'x'"),
        ("[lang", "expected"),
    ]:
        with pytest.raises(errors.CatalogError, match=problem):
            found.prepare(f"com.example.family{selector}")


# -- processes -------------------------------------------------------------------------------

SLOW = """
@dataset()
class Slow(Folder):
    PATH = custom_download("made", lambda context, folder: fill(folder))

def fill(folder):
    import os, sys
    (folder / "a").write_text("a")
    print("half", flush=True)
    sys.stdin.read()
    (folder / "b").write_text("b")
"""

CHILD = """
import pkgdata
path = pkgdata.prepare_dataset("com.example.slow").path
print(sorted(one.name for one in path.iterdir()), flush=True)
"""


def child(plugins):
    root = str(Path(pkgdata.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(plugins.lib), root])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name == "nt", reason="kills as on Unix")
def test_a_killed_process_leaves_nothing_under_the_name(plugins, data):
    one(plugins, SLOW)
    first = child(plugins)
    assert first.stdout.readline() == "half\n"
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    target = data / "data/image/com/example/slow/made"
    assert not target.exists()
    assert list(target.parent.glob(".*.pkgdata"))  # what it left behind
    second = child(plugins)
    out, _ = second.communicate("")
    assert out == "half\n['a', 'b']\n"
    assert paths_below(target.parent) == ["made/a", "made/b"]  # and that is swept


@pytest.mark.skipif(os.name == "nt", reason="flock")
def test_two_processes_make_a_dataset_once(plugins, data):
    one(plugins, SLOW)
    first = child(plugins)
    assert first.stdout.readline() == "half\n"
    second = child(plugins)  # waits for the first
    first.stdin.close()
    assert first.stdout.read() == "['a', 'b']\n"
    second.stdin.close()
    assert second.stdout.read() == "['a', 'b']\n"  # and made nothing itself
    for process in (first, second):
        process.stdout.close()
        assert process.wait(60) == 0


def test_threads_prepare_one_dataset(files, data):
    results = []

    def work():
        results.append(files.prepare("com.example.several").path)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len(set(results)) == 1
    assert not list(data.rglob("*.pkgdata"))


# -- digests ---------------------------------------------------------------------------------


def test_the_ways_to_write_a_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    md5 = hashlib.md5(b"a", usedforsecurity=False).hexdigest()
    for check in (
        catalog.HashCheck(md5),
        catalog.HashCheck("md5", md5),
        catalog.HashCheck(sha(b"a"), hashlib.sha256),
        catalog.HashCheck("SHA-256", sha(b"a").upper()),
        catalog.HashCheck(sha(b"a"), "sha256"),
        catalog.HashCheck(f"sha256:{sha(b'a')}"),
    ):
        assert check.check(tmp_path / "a") is True
    wrong = catalog.HashCheck("md5", "0" * 32)
    with pytest.raises(errors.IntegrityError, match="wrong bytes"):
        wrong.check(tmp_path / "a")
    with pytest.raises(errors.CatalogError, match="is no digest"):
        _ = catalog.HashCheck("abc123...").digest
    assert resources.parse_digest(f"md5:{md5}").alg == "md5"


def test_public_names_resolve():
    for name in catalog.__all__:
        assert getattr(catalog, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'datset'"):
        _ = catalog.datset
    assert pkgdata.catalog is catalog


def test_type_checkers_know_the_public_names():
    import ast

    stub = Path(catalog.__file__).with_suffix(".pyi").read_text()
    found = {}
    for node in ast.parse(stub).body[1:]:
        for alias in node.names:
            assert alias.asname == alias.name
            found[alias.name] = f"pkgdata.catalog.{node.module}"
    assert set(found) == set(catalog.__all__)
    for name, module in found.items():
        assert getattr(catalog, name).__module__ == module, name
