"""One name may be given as such wherever names are taken: a text or a path, never its letters."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import pkgdata
from pkgdata import datasets
from pkgdata.base import report
from pkgdata.bulk import commands
from pkgdata.cache import upkeep
from pkgdata.catalog import filedownloader
from pkgdata.publish import destinations_for
from pkgdata.stores import Store, dl

FILES = {"maps.zip": b"a", "sub/b.txt": b"b"}
NAMES = ["sub/b.txt", Path("sub/b.txt"), Path("sub", "b.txt")]


@pytest.fixture
def data(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "mirror" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    return pkgdata.declare("names data", dataurl=tmp_path / "mirror", registry=sums)


@pytest.mark.parametrize("name", NAMES)
def test_a_package_takes_one_name_as_a_text_or_a_path(data, name):
    path = data.get(name)
    assert Path(path).read_bytes() == b"b"
    assert data.get(name) == data.find(name) == path
    with data.open(name) as file:
        assert file.read() == b"b"
    assert [place.where for place in data.where(name)] == [p.where for p in data.where("sub/b.txt")]
    for names in (name, [name], iter([name])):
        assert data.fetch(names).succeeded == {"sub/b.txt": path}
    assert data.verify(name) == data.verify([name]) == {"sub/b.txt": "ok"}
    assert Path(data.tree(Path(name).parent), "b.txt").read_bytes() == b"b"


@pytest.mark.parametrize("name", NAMES)
def test_a_registry_takes_a_name_as_a_text_or_a_path(data, name):
    registry = data.registry
    assert registry[name].name == "sub/b.txt"
    assert registry.get(name) == registry["sub/b.txt"]
    assert name in registry
    assert Path("none") not in registry
    assert list(registry.under(Path("sub"))) == ["b.txt"]
    with pytest.raises(pkgdata.UnknownNameError, match=r"'maps\.zi' is not in"):
        registry[Path("maps.zi")]


def test_a_path_that_leaves_its_folder_is_refused(data):
    for name in (Path("../b.txt"), Path("/b.txt")):
        with pytest.raises(pkgdata.UnsafeNameError):
            data.get(name)


@pytest.mark.parametrize("name", [3, None, b"maps.zip", ["maps.zip"]])
def test_what_is_no_name_is_refused(data, name):
    with pytest.raises((pkgdata.UnsafeNameError, TypeError)):
        data.get(name)


def test_names_are_one_or_many():
    assert report.one_name("a/b") == report.one_name(Path("a") / "b") == "a/b"
    assert report.one_name(["a"]) is None
    assert [*report.each_name(Path("a"))] == [*report.each_name("a")] == ["a"]
    assert [*report.each_name([Path("a"), "b", ("c", 1, 2)])] == ["a", "b", ("c", 1, 2)]


# -- in the other rooms ----------------------------------------------------------------------------


def test_a_store_and_an_address_may_be_a_path(tmp_path):
    store = Store(tmp_path / "store")
    store.put("a.txt", b"a")
    assert dl(tmp_path / "store" / "a.txt") == b"a"
    assert [one.content for one in dl([tmp_path / "store" / "a.txt"])] == [b"a"]
    store.transfer_to(tmp_path / "copy", "a.txt")
    assert (tmp_path / "copy" / "a.txt").read_bytes() == b"a"
    found = Store(tmp_path / "again").transfer_from(tmp_path / "copy", Path("a.txt"))
    assert list(found.succeeded) == ["a.txt"]


def test_a_dataset_takes_one_partition(tmp_path):
    config = datasets.Config(str(tmp_path / "repo"), tmp_path / "data")
    made = datasets.create("one", "train", config=config)
    assert list(made) == ["train"]
    (made["train"] / "a.txt").write_bytes(b"a")
    datasets.push("one", config=config)
    datasets.purge("one", config=config)
    datasets.pull("one", config=config, partitions="train")
    assert (datasets.dataset("one", config=config)["train"] / "a.txt").read_bytes() == b"a"


def test_bulk_takes_one_source(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a")
    for source in (str(tmp_path / "a.txt"), tmp_path / "a.txt"):
        assert b"".join(map(bytes, commands.read(source, commands.Options()))) == b"a"
        copy = commands.Copy(source, str(tmp_path / "copy.txt"), commands.Options())
        assert len(list(copy.pairs())) == 1


def test_publishing_takes_one_place_and_one_address(tmp_path):
    (one,) = destinations_for(f"file:{tmp_path}", "https://example.org/")
    assert one.url.startswith("file:")


def test_the_cache_exports_one_object(data, tmp_path):
    data.fetch()
    for number, name in enumerate(["maps.zip", Path("maps.zip"), ["maps.zip"]]):
        written = upkeep.export_archive(data.cache, tmp_path / f"{number}.tar", name)
        assert [one.name for one in written] == ["maps.zip"]


def test_a_resource_takes_one_mirror():
    made = filedownloader("a", "https://one.example.org/a.txt", mirrors="https://two.example.org/a")
    assert made.mirrors == ("https://two.example.org/a",)
