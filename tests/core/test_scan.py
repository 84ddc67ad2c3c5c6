"""Directories and registries: one made from the other, and the two compared."""

from __future__ import annotations

import hashlib
import os

import pytest

from pkgdata.base.hashes import Digest
from pkgdata.base.text import Choice
from pkgdata.core import scan
from pkgdata.core.registry import Entry, Registry
from pkgdata.errors import UnsafeNameError

FILES = {
    "b.txt": b"b",
    "a/z.bin": b"z" * 10,
    "a.txt": b"",
    "with blank/ü.txt": b"u",
    "large1": os.urandom(1 << 20),
    "large2": os.urandom((1 << 20) + 7),
    "large3": os.urandom((2 << 20) - 1),
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.mark.parametrize("workers", [None, 1, 2, 8])
@pytest.mark.parametrize("alg", ["sha256", "md5"])
def test_make(folder, workers, alg):
    seen = []
    found = scan.make(
        folder, alg, workers=workers, progress=lambda event: seen.append((event.name, event.done))
    )
    assert list(found.values()) == [
        Entry(name, Digest(alg, hashlib.new(alg, FILES[name]).hexdigest()), len(FILES[name]))
        for name in sorted(FILES)
    ]
    assert sorted(seen) == sorted((name, len(content)) for name, content in FILES.items())


def test_make_then_compare_finds_no_difference(folder, tmp_path):
    made = scan.make(str(folder))
    made.write(tmp_path / "registry.txt")
    result = scan.compare(folder, Registry.load(tmp_path / "registry.txt"))
    assert not result
    assert (result.missing, result.extra, result.changed) == ([], [], {})


def test_compare_lists_every_kind_of_difference(folder):
    registry = scan.make(folder)
    (folder / "b.txt").write_bytes(b"B")
    (folder / "a" / "z.bin").write_bytes(b"longer than before")
    (folder / "a.txt").unlink()
    (folder / "large1").unlink()
    (folder / "new").write_bytes(b"")
    (folder / "also new").write_bytes(b"")
    seen = []
    result = scan.compare(folder, registry, progress=lambda event: seen.append(event.name))
    assert result
    assert result.missing == ["a.txt", "large1"]
    assert result.extra == ["also new", "new"]
    old, new = (hashlib.sha256(text).hexdigest() for text in (b"b", b"B"))
    assert result.changed == {
        "a/z.bin": "expected 10 bytes, found 18",
        "b.txt": f"expected sha256:{old}, found sha256:{new}",
    }
    assert sorted(seen) == sorted(set(FILES) - {"a.txt", "large1"})


def test_entries_without_digest_are_compared_by_size(folder):
    registry = Registry([Entry("b.txt", None, 1), Entry("a.txt", None, 5), Entry("large1", None)])
    assert scan.compare(folder, registry).changed == {"a.txt": "expected 5 bytes, found 0"}


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert len(scan.make(tmp_path / "empty")) == 0
    assert not scan.compare(tmp_path / "empty", Registry())


@pytest.mark.parametrize("what", [scan.make, lambda folder: scan.compare(folder, Registry())])
def test_what_is_no_folder(tmp_path, what):
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "none"):
        with pytest.raises(NotADirectoryError, match=f"{name} is not a directory"):
            what(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot store such names")
@pytest.mark.parametrize("name", ["back\\slash", "line\nbreak"])
def test_a_name_that_could_not_be_fetched_is_refused(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(UnsafeNameError):
        scan.make(folder)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_links_are_followed_and_dangling_ones_are_errors(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.txt").write_bytes(b"c")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert "linked/c.txt" in scan.make(folder)
    (folder / "dangling").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        scan.make(folder)


def test_files_that_are_not_taken_are_neither_listed_nor_extra(folder):
    before = scan.make(folder)
    for name in (".DS_Store", "a/.git/HEAD", "b.csv~", "old.tmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"junk")
    choice = Choice(["*.tmp"], junk=True)
    assert scan.make(folder, choice=choice) == before
    assert not scan.compare(folder, before, choice=choice)
    assert len(scan.compare(folder, before).extra) == 4
    assert choice.note().startswith("3 files left out: .DS_Store, a/.git/HEAD, b.csv~ (")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_a_link_that_leads_nowhere_is_a_missing_file(folder):
    registry = scan.make(folder)
    name = next(iter(registry))
    (folder / name).unlink()
    (folder / name).symlink_to("nowhere")
    assert scan.compare(folder, registry).missing == [name]
