"""`pkgdata.compat.datamaestro`: definitions written for datamaestro, by changing their imports.

The forms are those of datamaestro's documentation, of its 0.8 line and of its current one, in words
of our own. ``PKGDATA_DATAMAESTRO_DOCS`` may name the folders of unpacked source distributions of
datamaestro: then every definition of their documentation is loaded as well.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from cataloging import Plugins, paths_below, run, tar, zipped

import pkgdata
from pkgdata import catalog, errors
from pkgdata.compat import datamaestro
from pkgdata.testing import FaultServer

INIT = """
from pkgdata.compat.datamaestro.context import Repository

class Repo(Repository):
    NAMESPACE = "image"
    DESCRIPTION = "Images"
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    found = Plugins(tmp_path)
    monkeypatch.syspath_prepend(str(found.lib))
    return found


@pytest.fixture
def server():
    with FaultServer({}) as found:
        yield found


@pytest.fixture
def home(tmp_path, monkeypatch):
    path = tmp_path / "datamaestro"
    monkeypatch.setenv("DATAMAESTRO_DIR", str(path))
    return path


def changed(text):
    """Change the imports of a definition, and nothing else."""
    text = re.sub(
        r"^(\s*from|\s*import) datamaestro_image\.data\b",
        r"\1 datamaestro.data.image",
        text,
        flags=re.M,
    )
    text = re.sub(
        r"^(\s*)from experimaestro import", r"\1from datamaestro.xpm import", text, flags=re.M
    )
    return re.sub(
        r"^(\s*from|\s*import) datamaestro\b", r"\1 pkgdata.compat.datamaestro", text, flags=re.M
    )


def add(plugins, text, server=None, file="com/lecun.py", **options):
    text = changed(textwrap.dedent(text))
    if server is not None:
        text = text.replace("http://example.com/", server.url)
    options = {"group": "datamaestro.repositories", "init": INIT, **options}
    plugins.add({}, **options)
    path = plugins.package / "config" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


IDX = b"\0\0\x08\x02" + bytes([0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(6))
LABELS = b"\0\0\x08\x01" + bytes([0, 0, 0, 2]) + b"\1\2"

LINE_08 = """
from datamaestro_image.data import ImageClassification, LabelledImages, Base, IDXImage
from datamaestro.data.ml import Supervised
from datamaestro.data.tensor import IDX
from datamaestro.download.single import filedownloader
from datamaestro.definitions import argument, datatasks, datatags, dataset

@datatags("digits")
@datatasks("image classification")
@filedownloader("train_images.idx", "http://example.com/train-images-idx3-ubyte.gz")
@filedownloader("train_labels.idx", "http://example.com/train-labels-idx1-ubyte.gz")
@dataset(
  ImageClassification,
  url="http://yann.lecun.com/exdb/mnist/",
)
def MNIST(train_images, train_labels):
  '''Digits written by hand

  A description of them.
  '''
  return {
    "train": LabelledImages(images=IDXImage(path=train_images), labels=IDX(path=train_labels)),
    "test": LabelledImages(images=IDXImage(path=train_images), labels=IDX(path=train_labels)),
  }
"""

CURRENT_LINE = """
from datamaestro_image.data import ImageClassification, LabelledImages
from datamaestro.data.tensor import IDX
from datamaestro.download.single import FileDownloader
from datamaestro.definitions import Dataset, dataset, datatags, datatasks

@datatags("digits")
@datatasks("image classification")
@dataset(url="http://yann.lecun.com/exdb/mnist/")
class MNIST(Dataset):
    '''Digits written by hand

    A description of them.
    '''

    TRAIN_IMAGES = FileDownloader("train_images.idx", "http://example.com/train-images-idx3-ubyte.gz")
    TRAIN_LABELS = FileDownloader("train_labels.idx", "http://example.com/train-labels-idx1-ubyte.gz")

    def config(self) -> ImageClassification:
        return ImageClassification.C(
            train=LabelledImages(
                images=IDX(path=self.TRAIN_IMAGES.path), labels=IDX(path=self.TRAIN_LABELS.path)
            ),
            test=LabelledImages(
                images=IDX(path=self.TRAIN_IMAGES.path), labels=IDX(path=self.TRAIN_LABELS.path)
            ),
        )
"""


@pytest.fixture
def served(server):
    server.contents["train-images-idx3-ubyte.gz"] = gzip.compress(IDX)
    server.contents["train-labels-idx1-ubyte.gz"] = gzip.compress(LABELS)
    return server


@pytest.mark.parametrize("text", [LINE_08, CURRENT_LINE], ids=["0.8", "current"])
def test_both_lines_of_datamaestro(plugins, served, home, text):
    numpy = pytest.importorskip("numpy", reason="needs numpy")
    add(plugins, text, served)
    ds = datamaestro.prepare_dataset("com.lecun.mnist")
    assert numpy.array_equal(ds.train.images.data(), [[0, 1, 2], [3, 4, 5]])
    assert ds.train.labels.id == "com.lecun.mnist.train.labels@image"
    # where datamaestro has it
    files = paths_below(home)
    assert files == [f"data/image/com/lecun/mnist/train_{x}.idx" for x in ("images", "labels")]
    # pkgdata's own functions find it there as well
    assert pkgdata.prepare_dataset("com.lecun.mnist") == ds
    assert len(served.requests) == 2
    found = datamaestro.find_dataset("com.lecun.mnist")
    assert (found.name, found.description) == ("Digits written by hand", "A description of them.")
    assert found.url == "http://yann.lecun.com/exdb/mnist/"
    assert found.tags == {"digits"}
    told = run(plugins, "search", "tag:digits", "task:image").stdout
    assert told == "[image] com.lecun.mnist (ImageClassification)\n"


def test_its_json_is_that_of_datamaestro(plugins, served, home):
    add(plugins, LINE_08, served)
    folder = home / "data/image/com/lecun/mnist"

    def part(name):
        return {
            "id": f"com.lecun.mnist.{name}@image",
            "images": {
                "id": f"com.lecun.mnist.{name}.images@image",
                "path": {"$type": "path", "$value": str(folder / "train_images.idx")},
                "$type": "datamaestro_image.data.idximage",
            },
            "labels": {
                "id": f"com.lecun.mnist.{name}.labels@image",
                "path": {"$type": "path", "$value": str(folder / "train_labels.idx")},
                "$type": "datamaestro.data.tensor.idx",
            },
            "$type": "datamaestro_image.data.labelledimages",
        }

    found = run(plugins, "prepare", "com.lecun.mnist", "--encoder", "xpm").stdout
    assert json.loads(found) == {
        "id": "com.lecun.mnist@image",
        "train": part("train"),
        "test": part("test"),
        "$type": "datamaestro_image.data.imageclassification",
    }


def test_what_datamaestro_downloaded_is_found(plugins, served, home):
    add(plugins, LINE_08, served)
    folder = home / "data/image/com/lecun/mnist"
    folder.mkdir(parents=True)
    (folder / "train_images.idx").write_bytes(IDX)
    (folder / "train_labels.idx").write_bytes(LABELS)
    assert datamaestro.prepare_dataset("com.lecun.mnist").train.images.path.read_bytes() == IDX
    assert served.requests == []


def test_the_folder_is_datamaestros_unless_somebody_says_otherwise(
    plugins, served, tmp_path, monkeypatch
):
    add(plugins, LINE_08, served)
    monkeypatch.delenv("DATAMAESTRO_DIR", raising=False)
    assert datamaestro.Context.instance().datapath == tmp_path / "home/datamaestro/data"
    path = datamaestro.prepare_dataset("com.lecun.mnist").train.images.path
    assert path.is_relative_to(tmp_path / "home/datamaestro/data/image")
    there = datamaestro.prepare_dataset("com.lecun.mnist", context=tmp_path / "there")
    assert there.train.images.path.is_relative_to(tmp_path / "there/data/image")
    monkeypatch.setenv("PKGDATA_CATALOG_DIR", str(tmp_path / "ours"))
    ours = datamaestro.prepare_dataset("com.lecun.mnist").train.images.path
    assert ours.is_relative_to(tmp_path / "ours")


ARCHIVES = """
from pathlib import Path
from datamaestro.data import Base, Folder
from datamaestro.download.archive import zipdownloader, tardownloader, ZipDownloader, TarDownloader
from datamaestro.download import FilesCopy
from datamaestro.definitions import AbstractDataset, Dataset, dataset
from datamaestro.utils import HashCheck
from experimaestro import Param

class MyData(Base):
    path: Param[Path]
    size: Param[int] = 3

@zipdownloader("data", "http://example.com/archive.zip")
@dataset(MyData)
def zipped_dataset(data):
    return MyData(path=data / "a.csv")

@dataset(url="http://example.com")
class TarDataset(MyData):
    DATA = TarDownloader(
        "data", "http://example.com/archive.tar.gz", subpath="top/sub",
        checker=HashCheck("sha256", "@SHA@"),
    )

    @classmethod
    def __create_dataset__(cls, dataset: AbstractDataset):
        return cls.C(path=cls.DATA.path / "b.csv")

@dataset(url="http://example.com")
class Copied(Dataset):
    ARCHIVE = ZipDownloader("data", "http://example.com/archive.zip", transient=True)
    FILES = FilesCopy(ARCHIVE, {"renamed.csv": "a.csv"})

    def config(self) -> MyData:
        return MyData.C(path=self.FILES.path / "renamed.csv")
"""


@pytest.fixture
def archived(plugins, server, home):
    tree = {"top/a.csv": b"a", "top/sub/b.csv": b"b"}
    server.contents["archive.zip"] = zipped({"a.csv": b"a"})
    server.contents["archive.tar.gz"] = tar(tree)
    sha = hashlib.sha256(server.contents["archive.tar.gz"]).hexdigest()
    add(plugins, ARCHIVES.replace("@SHA@", sha), server, file="com/example.py")
    return server


def test_archives(archived, home):
    assert datamaestro.prepare_dataset("com.example.zipped_dataset").path.read_bytes() == b"a"
    assert datamaestro.prepare_dataset("com.example.tar.dataset").path.read_bytes() == b"b"
    assert datamaestro.prepare_dataset("com.example.copied").path.read_bytes() == b"a"
    assert paths_below(home / "data/image/com/example") == [
        "copied/FILES/renamed.csv",
        "tar/dataset/data/b.csv",
        "zipped_dataset/data/a.csv",
    ]


@pytest.mark.parametrize("name", ["zipped_dataset", "zipped/dataset"])
def test_an_archive_that_datamaestro_unpacked_is_found(archived, home, name):
    folder = home / "data/image/com/example" / name  # the second is what the 0.8 line calls it
    folder.mkdir(parents=True)
    (folder / ".state.json").write_text("{}")
    (folder / "a.csv").write_bytes(b"from datamaestro")
    found = datamaestro.prepare_dataset("com.example.zipped_dataset")
    assert found.path.read_bytes() == b"from datamaestro"
    assert archived.requests == []


def test_notes_alone_are_no_archive(archived, home):
    folder = home / "data/image/com/example/zipped_dataset"
    folder.mkdir(parents=True)
    (folder / ".state.json").write_text("{}")
    assert datamaestro.prepare_dataset("com.example.zipped_dataset").path.read_bytes() == b"a"


MORE = """
from pathlib import Path
from datamaestro.context import DatafolderPath
from datamaestro.data import Base, File, Generic
from datamaestro.data.csv import Generic as CSV, Matrix
from datamaestro.data.ml import FolderBased, Supervised
from datamaestro.definitions import (
    Dataset, Meta, Option, Param, argument, dataset, datatags, datatasks, hook, metadata,
    metadataset)
from datamaestro.download import Download, FileResource, Resource, ValueResource, reference
from datamaestro.download.custom import custom_download
from datamaestro.download.links import linkfile, linkfolder, links
from datamaestro.download.manual import linkfolder as manual_linkfolder
from datamaestro.download.multiple import Datasets, List
from datamaestro.download.single import FileDownloader, concatdownload, filedownloader
from datamaestro.download.wayback import wayback_documents
from datamaestro.stream import TransformList
from datamaestro.stream.compress import Gunzip
from datamaestro.stream.lines import Filter, Replace
from datamaestro.variants import AxesVariants, Axis

@datatags("trec")
@datatasks("retrieval")
class IRDataset(Base):
    documents: Param[File]
    limit: Meta[int] = 7

@datatags("adhoc")
@metadataset(IRDataset)
class TRECBase:
    pass

@filedownloader("documents.txt", "http://example.com/a.txt.gz")
@dataset(File)
def documents(documents) -> File:
    return {"path": documents}

@reference("docs", documents)
@dataset(TRECBase, url="http://trec")
def robust(docs):
    return {"documents": docs}

@dataset(TRECBase, id=".8.topics")
class Topics(Dataset):
    DOCS = reference(documents)
    def config(self) -> IRDataset:
        return IRDataset.C(documents=self.DOCS.config())

class Upper(FileResource):
    def __init__(self, filename, source, **kw):
        super().__init__(filename, **kw)
        self._dependencies = [source]
    def _download(self, destination):
        destination.write_bytes(self.dependencies[0].path.read_bytes().upper())
    @classmethod
    def from_file(cls, source):
        return cls("upper.txt", source)

@dataset(url="http://example.com")
class Processed(File):
    RAW = FileDownloader("raw.gz", "http://example.com/a.txt.gz", transient=True)
    PATH = Upper.from_file(RAW)

class Old(Download):
    def __init__(self, varname, text):
        super().__init__(varname)
        self.text = text
    def prepare(self):
        return self.definition.datapath / "old.txt"
    def download(self, force=False):
        if force or not self.prepare().is_file():
            self.prepare().parent.mkdir(parents=True, exist_ok=True)
            self.prepare().write_text(self.text)

@Old("old", "from old times")
@dataset(File)
def old(old):
    return File(path=old)

@filedownloader("lines.txt", "http://example.com/lines.txt.gz",
    transforms=TransformList(Gunzip(), Filter("keep"), Replace("keep", "kept")))
@dataset(File)
def lines(lines):
    return File(path=lines)

@List("files", {"a.txt": "http://example.com/a.txt.gz", "__note__": "left out"})
@dataset(FolderBased)
def many(files):
    return {"path": files, "classes": ["x"]}

@Datasets("all", {"docs": documents})
@dataset(Generic)
def linked(all):
    return {"folder": all}

@argument("names_row", type=int, default=-1)
@argument("rows", type=int)
class Table(CSV):
    pass

@filedownloader("t.csv", "http://example.com/t.csv")
@dataset(Table)
def table(t):
    return {"path": t, "rows": 2, "separator": ";", "names_row": 0}

@dataset(File)
def in_folder():
    return {"path": DatafolderPath("mydata", "sub/file.txt")}

def fill(context, root, *, force=False):
    (root / "x").write_text("x")

@custom_download("data", downloader=fill)
@dataset(Generic)
def custom(data):
    return {"path": data}

@hook("pre-use")
def remember(definition, what):
    definition.remembered = what

@remember("agreed")
@metadata(tags=["one"], tasks="two")
@dataset(Generic)
def hooked():
    return {}

class Sizes(AxesVariants):
    size = Axis(["s", "l"], default="s")

@dataset(variants=Sizes)
class Family(Dataset):
    def config(self, size) -> Generic:
        return Generic(size=size)
"""


@pytest.fixture
def more(plugins, server, home):
    server.contents["a.txt.gz"] = gzip.compress(b"text\n")
    server.contents["lines.txt.gz"] = gzip.compress(b"keep 1\ndrop 2\nkeep 3\n")
    server.contents["t.csv"] = b"a;b\n1;2\n3;4\n"
    add(plugins, MORE, server, file="org/trec.py")
    return lambda name: datamaestro.prepare_dataset(f"org.trec.{name}")


def test_references_metadatasets_and_ids(more):
    assert more("robust").documents.path.read_bytes() == b"text\n"
    assert more("8.topics").documents == more("documents")
    for name in ("robust", "8.topics"):
        found = datamaestro.find_dataset(f"org.trec.{name}")
        assert found.tags == {"trec", "adhoc"}
        assert found.tasks == {"retrieval"}
    assert more("robust").limit == 7


def test_resources_of_ones_own(more, home):
    assert more("processed").path.read_bytes() == b"TEXT\n"
    assert not (home / "data/image/org/trec/processed/raw.gz").exists()
    assert more("old").path.read_text() == "from old times"
    assert more("lines").path.read_bytes() == b"kept 1\nkept 3\n"
    assert (more("custom").path / "x").read_text() == "x"


def test_several_files_links_and_tables(more, home):
    assert paths_below(more("many").path) == ["a.txt"]
    assert more("many").names() == ["x"]
    assert (more("linked").folder / "docs" / "documents.txt").read_bytes() == b"text\n"
    table = more("table")
    assert table.columns() == ["a", "b"]
    assert table.rows == 2
    settings = datamaestro.Context.instance().settings
    (home / "big/sub").mkdir(parents=True)
    settings.set_datafolder("mydata", home / "big")
    assert more("in_folder").path == home / "big/sub/file.txt"


def test_hooks_metadata_and_variants(more):
    more("hooked")
    found = datamaestro.find_dataset("org.trec.hooked")
    assert found.remembered == "agreed"
    assert (found.tags, found.tasks) == ({"one"}, {"two"})
    assert more("family[size=l]").size == "l"


def test_agreements(plugins, home):
    text = """
    from datamaestro.annotations.agreement import useragreement
    from datamaestro.data import Generic
    from datamaestro.definitions import dataset

    @useragreement("Only for good")
    @dataset(Generic)
    def licensed():
        return {}
    """
    add(plugins, text, file="org/a.py")
    with pytest.raises(errors.CatalogError, match="Only for good"):
        datamaestro.prepare_dataset("org.a.licensed")
    asked = []
    agreeing = catalog.Catalog(ask=lambda question: asked.append(question) or "yes\n")
    assert agreeing.prepare("org.a.licensed").id == "org.a.licensed@image"
    assert agreeing.prepare("org.a.licensed")
    assert len(asked) == 1  # and remembered
    assert datamaestro.prepare_dataset("org.a.licensed")


def test_repositories_that_list_their_definitions(plugins, home):
    init = """
from pkgdata.compat.datamaestro import BaseRepository
from pkgdata.compat.datamaestro.data import Generic
from pkgdata.compat.datamaestro.definitions import dataset

@dataset(Generic, id="org.made.up")
def made():
    return {"x": 1}

class Repo(BaseRepository):
    NAMESPACE = "made"
    DESCRIPTION = "Made up"

    def __iter__(self):
        made.place(self)
        yield made
"""
    plugins.add({}, name="made", group="datamaestro.repositories", init=init)
    assert datamaestro.prepare_dataset("org.made.up").id == "org.made.up@made"
    assert [x.repository for x in catalog.Catalog().search("made")] == ["made"]


NAMES = {
    "": "Context Repository BaseRepository get_dataset prepare_dataset dataset metadata Dataset "
    "Base",
    ".context": "Context Repository DatafolderPath ResolvablePath Datasets prepare_dataset "
    "get_dataset find_dataset",
    ".definitions": "AbstractDataset DatasetWrapper DatasetAnnotation DataAnnotation Dataset "
    "dataset datatags datatasks metadataset metadata hook FutureAttr Param Option Meta Config "
    "argument",
    ".data": "Base Generic File Folder",
    ".data.csv": "Generic Matrix",
    ".data.tensor": "Tensor IDX",
    ".data.ml": "Supervised FolderBased",
    ".data.huggingface": "HuggingFaceDataset DatasetHuggingFace",
    ".download": "Download Resource FileResource FolderResource ValueResource FilesCopy reference "
    "Reference initialized",
    ".download.single": "filedownloader FileDownloader concatdownload ConcatDownloader "
    "SingleDownload",
    ".download.archive": "zipdownloader tardownloader ZipDownloader TarDownloader "
    "ArchiveDownloader",
    ".download.multiple": "List Datasets",
    ".download.links": "links linkfolder linkfile linkpath Links GlobChecker",
    ".download.manual": "linkfolder",
    ".download.custom": "custom_download Downloader",
    ".download.wayback": "wayback_documents",
    ".download.huggingface": "HFDownloader",
    ".download.todo": "Todo",
    ".search": "Condition AndCondition OrCondition TagCondition TaskCondition RepositoryCondition "
    "IDCondition TypeCondition",
    ".stream": "Transform Identity TransformList",
    ".stream.compress": "Gunzip",
    ".stream.lines": "Replace Filter",
    ".utils": "FileChecker HashCheck CachedFile JsonEncoder XPMEncoder deprecated",
    ".variants": "Axis AxesVariants Variants split_id_selector",
    ".annotations.agreement": "useragreement",
}


@pytest.mark.parametrize("module", NAMES)
def test_module_paths_and_names(module):
    found = importlib.import_module(f"pkgdata.compat.datamaestro{module}")
    for name in NAMES[module].split():
        assert hasattr(found, name), name
    if importlib.util.find_spec("datamaestro") is not None:
        theirs = importlib.import_module(f"datamaestro{module}")
        for name in NAMES[module].split():
            assert hasattr(theirs, name) or name in ("Config", "argument", "find_dataset"), name


# -- every definition of datamaestro's documentation -----------------------------------------

DOCS = [one for one in os.environ.get("PKGDATA_DATAMAESTRO_DOCS", "").split(os.pathsep) if one]

#: What the documentation's examples take for granted; the names mean nothing in particular.
PREAMBLE = """
from pathlib import Path
from pkgdata.compat.datamaestro.data import *
from pkgdata.compat.datamaestro.data.image import *
from pkgdata.compat.datamaestro.data.tensor import *
from pkgdata.compat.datamaestro.definitions import *
from pkgdata.compat.datamaestro.download import *
from pkgdata.compat.datamaestro.download.archive import *
from pkgdata.compat.datamaestro.download.single import *

class MyType(Base):
    pass

MyData = CSVData = ExtendedData = QADataset = TaskData = IRDataset = MyDataType = MyType

class MyProcessor(FileResource):
    @classmethod
    def from_file(cls, source):
        return cls("processed")

@dataset(MyType, id="org.example.other")
def other_dataset():
    return {}

DocumentsDataset = other_dataset
CONFIGS = ["agnews"]
"""


def blocks(folder):
    """Yield the Python code of a documentation, file by file."""
    for path in sorted([*Path(folder).glob("*.md"), *Path(folder).glob("docs/source/**/*.*")]):
        if path.suffix not in (".md", ".rst"):
            continue
        text = path.read_text("utf-8")
        found = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
        directive = r"^\.\. code-block::(?: python)?\n(?:    :.*\n)*\n((?:(?:    .*)?\n)+)"
        found += [textwrap.dedent(one) for one in re.findall(directive, text + "\n", re.M)]
        for number, block in enumerate(found):
            if re.search(r"^\s*@(dataset|\w*downloader|datatags|metadataset)", block, re.M):
                yield f"{path.relative_to(folder)}-{number}", block


CASES = [
    pytest.param(block, id=f"{Path(folder).name}-{name}")
    for folder in DOCS
    for name, block in blocks(folder)
]


def indented(block):
    """Indent the body of a function that the documentation of the 0.8 line prints without."""
    return re.sub(
        r'(def MNIST\(.*\):\n)("""(?s:.*)\n\})',
        lambda m: m[1] + textwrap.indent(m[2], "    "),
        block,
    )


@pytest.mark.skipif(not DOCS, reason="PKGDATA_DATAMAESTRO_DOCS names no source distributions")
@pytest.mark.parametrize("block", CASES)
def test_a_definition_of_the_documentation_loads(plugins, home, block):
    text = PREAMBLE + indented(changed(block)).replace("FileDownloader(...)", "Resource()")
    add(plugins, text, file="com/example.py")
    found = catalog.Catalog()
    assert found.search() or not re.search(r"^@dataset", block, re.M)
    assert found.problems() == []


# -- datamaestro itself ----------------------------------------------------------------------

THEIRS = """
import sys, json
import pkgdata
from pkgdata import catalog
found = catalog.Catalog()
print(json.dumps([[x.repository, x.id, x.tags] for x in found.search()]))
print(found.find("com.lecun.mnist").name)
ds = found.prepare("com.lecun.mnist")
from pkgdata.catalog.objects import dumps
print(dumps(ds))
print(dumps(ds, "xpm"))
"""

PROGRAM = os.environ.get("PKGDATA_DATAMAESTRO_PYTHON", "")


@pytest.mark.skipif(not PROGRAM, reason="PKGDATA_DATAMAESTRO_PYTHON names no Python that has it")
@pytest.mark.parametrize("text", [LINE_08, CURRENT_LINE], ids=["0.8", "current"])
def test_repositories_of_datamaestro_itself(plugins, served, home, text):
    types = """
from datamaestro.data import Base
from datamaestro.data.tensor import IDX
from experimaestro import Param

class IDXImage(IDX):
    pass

class LabelledImages(Base):
    images: Param[IDX]
    labels: Param[IDX]

class ImageClassification(Base):
    train: Param[LabelledImages]
    test: Param[LabelledImages]
"""
    text = text.replace("datamaestro_image.data", "theirs.types").replace("argument, ", "")
    text = text.replace("IDXImage(path", "IDXImage.C(path").replace("IDX(path", "IDX.C(path")
    text = text.replace("LabelledImages(images", "LabelledImages.C(images")
    text = text.replace("LabelledImages(\n", "LabelledImages.C(\n")
    text = text.replace("http://example.com/", served.url)
    init = "from datamaestro.context import Repository\n\nclass Repo(Repository):\n"
    init += "    NAMESPACE = 'image'\n    DESCRIPTION = 'Theirs'\n"
    options = {"package": "theirs", "group": "datamaestro.repositories", "init": init}
    plugins.add({}, **options)
    (plugins.package / "types.py").write_text(types)
    for name in ("", "com/"):
        (plugins.package / "config" / name).mkdir(exist_ok=True)
        (plugins.package / "config" / name / "__init__.py").write_text("")
    (plugins.package / "config/com/lecun.py").write_text(text)
    root = str(Path(pkgdata.__file__).parent.parent)
    done = subprocess.run(
        [PROGRAM, "-c", THEIRS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(plugins.lib), root])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listed, name, normal, typed = done.stdout.splitlines()[-4:]
    assert json.loads(listed) == [["image", "com.lecun.mnist", ["digits"]]]
    assert name == "Digits written by hand"
    images = json.loads(normal)["train"]["images"]
    assert images["path"] == str(home / "data/image/com/lecun/mnist/train_images.idx")
    assert Path(images["path"]).read_bytes() == IDX
    assert images["id"] == "com.lecun.mnist.train.images@image"
    assert json.loads(typed)["train"]["labels"]["$type"] == "datamaestro.data.tensor.idx"
    assert json.loads(typed)["$type"] == "theirs.types.imageclassification"
    # what came, came through our engine
    assert all("pkgdata" in request.headers["user-agent"] for request in served.requests)


XPM = """
import json, sys
from experimaestro import Config, Param, field
from pathlib import Path
from pkgdata import catalog
from pkgdata.catalog.objects import encoded

class Part(Config):
    path: Param[Path]
    count: Param[int] = field(default=2, ignore_default=True)

class Whole(Config):
    left: Param[Part]

@catalog.dataset(Whole, id="org.example.whole")
def whole():
    return {"left": Part.C(path=Path("/tmp"))}

class Plain(catalog.Base):
    path: Param[Path]
    count: Param[int] = field(default=2, ignore_default=True)

found = whole.prepare()
print(json.dumps(encoded(found, "xpm")), Plain(path=Path("/tmp")).count, isinstance(found, Whole))
"""


@pytest.mark.skipif(not PROGRAM, reason="PKGDATA_DATAMAESTRO_PYTHON names no Python that has it")
def test_configurations_of_experimaestro_are_types(tmp_path):
    root = str(Path(pkgdata.__file__).parent.parent)
    (tmp_path / "script.py").write_text(XPM)
    done = subprocess.run(
        [PROGRAM, str(tmp_path / "script.py")],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written, count, is_whole = done.stdout.rsplit(maxsplit=2)
    assert (count, is_whole) == ("2", "True")
    part = {"path": {"$type": "path", "$value": "/tmp"}, "count": 2, "$type": "__main__.part"}
    assert json.loads(written) == {"left": part, "$type": "__main__.whole"}


def test_nothing_here_needs_experimaestro():
    code = "import sys\nsys.modules['experimaestro'] = None\nsys.modules['datamaestro'] = None\n"
    code += "".join(f"import pkgdata.compat.datamaestro{name}\n" for name in NAMES)
    root = str(Path(pkgdata.__file__).parent.parent)
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, check=True)
