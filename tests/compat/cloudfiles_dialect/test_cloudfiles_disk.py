"""cloud-files and its dialect on one disk: each reads what the other wrote."""

from __future__ import annotations

import os

import pytest
from cloudfiles_both import ENCODINGS, TEXT, compares, needs, theirs

import pkgdata
from pkgdata.base import disk
from pkgdata.compat import cloudfiles as ours
from pkgdata.stores import codecs

# -- on one disk -----------------------------------------------------------------------------------


@compares
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("writer", ["theirs", "ours"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_reads_what_the_other_has_compressed(encoding, writer, tmp_path):
    url = f"file://{tmp_path}/x"
    first, second = (theirs, ours) if writer == "theirs" else (ours, theirs)
    suffix = codecs.SUFFIXES[encoding]
    first.CloudFiles(url).puts(
        [("a", TEXT), ("dir/b", b"x"), (f"has{suffix}", TEXT)], compress=encoding
    )
    assert sorted(os.listdir(tmp_path / "x")) == sorted([f"a{suffix}", "dir", f"has{suffix}"])
    files = second.CloudFiles(url)
    assert list(files) == ["a", "dir/b", "has"]
    assert files.get(["a", "dir/b", "has"], return_dict=True) == {
        "a": TEXT,
        "dir/b": b"x",
        "has": TEXT,
    }
    assert files.get(["a"])[0]["compress"] == encoding
    files.delete(["a", "has"])
    assert os.listdir(tmp_path / "x") == ["dir"]


@compares
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_reencoded_copy_is_read_by_cloud_files(encoding, tmp_path):
    source = ours.CloudFiles(f"file://{tmp_path}/a")
    source.puts([("x", TEXT), ("y", TEXT * 10)], compress="gzip")
    source.transfer_to(f"file://{tmp_path}/b", reencode=encoding)
    assert theirs.CloudFiles(f"file://{tmp_path}/b").get(["x", "y"], return_dict=True) == {
        "x": TEXT,
        "y": TEXT * 10,
    }


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pkgdatas_own_stores_read_it_too(encoding, tmp_path):
    needs(encoding)
    for url in (f"file://{tmp_path}/x", "mem://shared"):
        ours.CloudFiles(url).put("a", TEXT, compress=encoding)
        store = pkgdata.Store(url)
        assert store["a"] == TEXT
        store.put("b", TEXT, compress=encoding)
        assert ours.CloudFiles(url).get(["b"])[0] == {
            "path": "b",
            "content": TEXT,
            "byte_range": (None, None),
            "error": None,
            "compress": encoding,
            "raw": False,
            "tags": None,
        }


@pytest.mark.parametrize("url", ["file", "mem"])
@pytest.mark.parametrize("old", ["gzip", "zstd", None])
@pytest.mark.parametrize("new", [None, "gzip", "br", "xz"])
def test_a_new_version_replaces_one_compressed_otherwise(old, new, url, tmp_path):
    needs("br")
    files = ours.CloudFiles(f"file://{tmp_path}/x" if url == "file" else "mem://b")
    files.put("a", b"old", compress=old)
    files.put("a", b"new", compress=new)
    assert files["a"] == b"new"
    source = ours.CloudFiles("mem://source")
    source.put("a", b"newest", compress=new)
    source.transfer_to(files)
    assert files["a"] == b"newest"


def test_a_copy_on_disk_replaces_a_plain_file(tmp_path):
    source, dest = (ours.CloudFiles(f"file://{tmp_path}/{name}") for name in "ab")
    source.put("x", b"new", compress="gzip")
    dest.put("x", b"old")
    source.transfer_to(dest)
    assert dest["x"] == b"new"


def test_many_are_written_where_a_disk_cannot_be_synced_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_libc_syncfs", lambda: None)  # as on macOS and Windows
    files = ours.CloudFiles(f"file://{tmp_path}/x")
    assert files.puts([("a", b"1"), ("b", b"2")]) == 2
    assert list(files) == ["a", "b"]


def test_touch_leaves_a_compressed_object_alone(tmp_path):
    files = ours.CloudFiles(f"file://{tmp_path}/x")
    files.put("a", TEXT, compress="gzip")
    files.touch(["a", {"path": "b"}])
    assert files["a"] == TEXT
    assert sorted(os.listdir(tmp_path / "x")) == ["a.gz", "b"]


def test_moved_files_keep_their_encoding_and_no_suffix_is_doubled(tmp_path):
    files = ours.CloudFiles(f"file://{tmp_path}/x")
    files.puts([("a", TEXT), ("b", TEXT)], compress="gzip")
    (tmp_path / "folder").mkdir()
    files.move("a", f"file://{tmp_path}/folder")
    files.move("b", f"file://{tmp_path}/other/b.gz")
    assert os.listdir(tmp_path / "folder") == ["a.gz"]
    assert os.listdir(tmp_path / "other") == ["b.gz"]
    assert os.listdir(tmp_path / "x") == []
