"""Code written for cloud-files runs on `pkgdata.compat.cloudfiles`, with the same results.

The stories are run on both libraries, and what they return is compared, types included.
"""

from __future__ import annotations

import bz2
import dataclasses
import datetime
import gzip
import json
import lzma
import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
import warnings
from pathlib import Path

import pytest
from werkzeug import Response

import pkgdata
from pkgdata.base import fs
from pkgdata.compat import cloudfiles as ours
from pkgdata.errors import (
    AccessDeniedError,
    ConfigError,
    IntegrityError,
    StoreError,
    UnsafeNameError,
    UnsupportedOperationError,
)
from pkgdata.stores import codecs

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it loads
        import cloudfiles as theirs
except ImportError:
    theirs = None

compares = pytest.mark.skipif(
    theirs is None, reason="needs cloud-files to compare with: pip install cloud-files"
)

TEXT = b"some_string" * 40
ENCODINGS = ["gzip", "br", "zstd", "xz", "bzip2"]


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """Begin with an empty memory, and keep both libraries away from the user's files."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "CLOUD_FILES_", "CLOUD_VOLUME_", "GOOGLE_")):
            monkeypatch.delenv(name)
    ours.clear_memory()
    monkeypatch.setattr(ours.paths, "_from_file", None)
    if theirs is not None:
        monkeypatch.setattr("cloudfiles.cloudfiles.CLOUD_FILES_DIR", str(tmp_path / "theirs"))
        monkeypatch.setattr("cloudfiles.paths.ALIAS_FILE", str(tmp_path / "aliases.json"))
        monkeypatch.setattr("cloudfiles.paths.ALIASES_FROM_FILE", None)


def needs(encoding):
    pytest.importorskip({"br": "brotli", "zstd": "zstandard"}.get(encoding, "zlib"))


# -- the same calls on both ------------------------------------------------------------------------


def filled(lib, url, **options):
    files = lib.CloudFiles(url, **options)
    files.puts([("a", b"1"), ("b", b"22"), ("dir/c", b"333"), ("dir/sub/d", TEXT)])
    return files


def beside(url, word):
    """Return another place; in memory cloud-files lists what is beside a place too."""
    return url.replace("-place", f"-place-{word}") if "-place" in url else f"{url}-{word}"


def story_get(lib, url):
    files = filled(lib, url)
    yield files.get("a")
    yield files["b"]
    yield files.get("missing")
    yield files.get({"path": "dir/c", "start": 1, "end": 2})
    yield files.get(["a", "missing", "dir/c"])
    yield files.get([{"path": "b", "start": 0, "end": 1, "tags": {"x": 1}}, {"path": "a"}])
    yield files.get("a", return_dict=True)
    yield files.get(["a", "b", "missing"], return_dict=True)
    yield files.get(name for name in ("a", "b"))
    yield files.get(("a",))
    yield files.get([])
    yield files.get("missing", raw=True)
    found, monitor = files.get(["a", "b"], return_recording=True)
    yield found, monitor.total_bytes()


def story_sugar(lib, url):
    files = filled(lib, url)
    yield files["dir/c", 0:2], files["dir/c", 1:], files["dir/c", :], files["dir/c", :2]
    yield files[["a", "b"]]
    yield files[:]
    yield files[1:3], files[:0], files[::2]
    yield list(files), "a" in files, "missing" in files
    del files["a"]
    files["e"] = b"5"
    yield list(files)
    with pytest.raises(KeyError):
        files[0:1] = files


def story_put(lib, url):
    files = lib.CloudFiles(url)
    yield files.put("a", b"1")
    yield files.put("a", b"22", compress=None, content_type="text/plain", cache_control="no-cache")
    yield files.puts([]), files.puts([("b", b"1")]), files.puts({"path": "c", "content": b"3"})
    yield files.puts((f"n{i}", bytes([i])) for i in range(5))
    with open(__file__, "rb") as file:
        yield files.put("file", file)
    yield files.put("mutable", bytearray(b"12")), files.get("mutable") == b"12"
    yield files.delete("mutable")
    yield files.get(sorted(files.list()), return_dict=True)
    with pytest.raises(ValueError, match="is not a supported compression type"):
        files.put("a", b"1", compress="nonsense")
    with pytest.raises(ValueError, match="Cannot write the same file multiple times"):
        files.puts([("a", b"1"), {"path": "a", "content": b"2"}])
    count, monitor = files.puts([("a", b"12"), ("b", b"3")], return_recording=True)
    yield count, monitor.total_bytes()


def story_compress(lib, url):
    files = lib.CloudFiles(url)
    for how in (None, "", False, True, "gzip", "br", "zstd", "xz", "lzma", "bz2", "bzip2"):
        files.put(f"x{how}", TEXT, compress=how)
        yield files.get([f"x{how}"])
        yield files.exists(f"x{how}"), files.head(f"x{how}")["Content-Encoding"]
    packed = gzip.compress(TEXT, mtime=0)
    files.puts([{"path": "raw", "content": packed, "compress": "gzip"}], raw=True)
    yield files.get("raw"), files.get(["raw"], raw=True), files.size("raw")
    yield files.get([{"path": "raw", "start": 2, "end": 4}], raw=True)
    yield sorted(files.list())
    yield files.delete("raw"), files.get("raw")


def story_json(lib, url):
    files = lib.CloudFiles(url)
    yield files.put_json("a", {"x": [1, 2.5, None, "ü"]}), files.get("a")
    yield files.put_jsons([("b", [1]), ("c", {})])
    yield files.put_jsons([{"path": "d", "content": 7}], compress="gzip")
    yield files.get_json("a"), files.get_json(["d", "b", "missing", "c"])
    yield files.get_json("missing"), files.get_json(name for name in ("c", "b"))


def story_ask(lib, url):
    files = filled(lib, url)
    files.put("empty", b"")
    yield files.exists("a"), files.exists("missing"), files.exists(["a", "missing"])
    yield files.exists([]), files.size([])
    yield files.size("dir/c"), files.size("missing"), files.size(["a", "missing", "empty"])
    yield files.size(["a", "b"], return_sum=True)
    yield sorted(files.head("a")), files.head("a")["Content-Length"]
    yield sorted(files.head(["a", "b"]))
    yield files.isdir(), files.isdir("dir"), files.isdir("missing"), files.isdir("dir/")


def story_list(lib, url):
    files = filled(lib, url)
    files.put("packed", TEXT, compress="gzip")
    for prefix in ("", "a", "d", "di", "dir", "dir/", "dir/s", "dir/sub/", "missing", "pack"):
        yield prefix, list(files.list(prefix))
    for prefix in ("", "a", "dir", "dir/", "dir/sub/", "missing", "pack"):
        yield prefix, sorted(set(files.list(prefix, flat=True)))  # in memory theirs come twice
    yield [type(row) for row in files.list(return_resume_token=True)], list(iter(files))


def story_delete(lib, url):
    files = filled(lib, url)
    yield files.delete("a"), files.delete(["b", "missing"]), files.delete("missing")
    yield list(files)
    yield files.delete(name for name in list(files))
    yield list(files)


def story_touch(lib, url):
    files = filled(lib, url)
    yield files.touch("a"), files.touch(["b", "new", "dir/new"])
    yield files.get(["a", "b", "new", "dir/new"], return_dict=True)


def story_move(lib, url):
    files = filled(lib, url)
    yield files.move("a", f"{url}/moved"), list(files)
    yield files.moves(beside(url, "other"), [("b", "sub/b2"), "dir/c"]), list(files)
    yield list(lib.CloudFiles(beside(url, "other")))


def story_transfer(lib, url):
    files = filled(lib, url)
    files.put("packed", TEXT, compress="zstd")
    dest = lib.CloudFiles(beside(url, "copy"))
    dest[:] = files
    yield dest.get(sorted(dest.list()), return_dict=True), dest.get(["packed"])
    files.transfer_to(beside(url, "two"), paths=[{"path": "a", "dest_path": "renamed"}])
    files.transfer_to(beside(url, "two"), paths=(name for name in ("b", "packed")))
    yield lib.CloudFiles(beside(url, "two")).get(["b", "packed", "renamed"])
    three = lib.CloudFiles(beside(url, "three"))
    three.transfer_from(url, ["dir/c", "packed"], reencode="br")
    yield [{**record, "content": len(record["content"])} for record in three.get(["dir/c"])]
    yield three.get(["dir/c", "packed"], return_dict=True)
    with pytest.raises(FileNotFoundError):
        files.transfer_to(three, paths=["missing"])
    files.transfer_to(three, paths=["missing", "a"], allow_missing=True)
    yield three.get("a"), not three.get("missing")


def story_one(lib, url):
    file = lib.CloudFile(f"{url}/dir/one")
    yield file.filename, file.protocol, file.sep, file.exists(), file.get()
    yield file.put(b"0123456789"), file.get(), file.size(), len(file), file[2:4], file[:]
    yield file.get([{"path": "one", "start": 1, "end": 3}])
    yield file.head()["Content-Length"], file.exists()
    yield file.join("a", "b"), file.basename("a/b"), file.dirname("a/b/c")
    file.transfer_to(f"{url}/copy")
    other = lib.CloudFile(f"{url}/third")
    other.transfer_from(f"{url}/copy")
    yield other.get(), other.put_json([1]), other.get_json(), other.get()
    file.move(f"{url}/moved")
    yield file.exists(), lib.CloudFile(f"{url}/moved").get()
    yield other.delete(), other.exists(), other.touch(), other.get()


def story_names(lib, url):
    files = lib.CloudFiles(f"{url}/x/")
    yield files.cloudpath, files.protocol, files.sep, files.abspath("a/b")
    yield files.join(), files.join("a", "b/", "c"), files.basename("a/b.c"), files.dirname("a/b.c")
    yield files.num_threads, files.progress, files.parallel, files.green, files.no_sign_request


def story_dl(lib, url):
    filled(lib, url)
    yield lib.dl(f"{url}/a")
    yield lib.dl([f"{url}/a", f"{url}/dir/c", f"{url}/missing"])
    yield lib.dl([{"path": f"{url}/dir/c", "byte_range": (1, 3)}])


def story_pickle(lib, url):
    files = filled(lib, url, num_threads=3)
    again = pickle.loads(pickle.dumps(files))
    yield again.cloudpath, again.num_threads, again["a"]


STORIES = [story for name, story in list(globals().items()) if name.startswith("story_")]


def shown(value, place):
    """Return a result with its types, and without what differs by the place."""
    if isinstance(value, dict):
        return ("dict", {key: shown(one, place) for key, one in value.items()})
    if isinstance(value, (list, tuple)):
        found = [shown(one, place) for one in value]
        if value and all(isinstance(one, dict) and "path" in one for one in value):
            found.sort(key=lambda record: str(record[1]["path"]))  # theirs come in any order
        return (type(value).__name__, found)
    if isinstance(value, str):
        return value.replace(place, "PLACE")
    return (type(value).__name__, value)


def told(lib, story, url, place):
    return [shown(result, place) for result in story(lib, url)]


@compares
@pytest.mark.filterwarnings("ignore")  # of cloud-files' own code
@pytest.mark.parametrize("protocol", ["file", "mem"])
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__[6:])
def test_both_libraries_return_the_same(story, protocol, tmp_path):
    found = {}
    for lib in (theirs, ours):
        place = f"{'ours' if lib is ours else 'theirs'}-{tmp_path.name}-place"
        url = f"file://{tmp_path}/{place}" if protocol == "file" else f"mem://{place}/x"
        found[lib] = told(lib, story, url, place)
    assert found[ours], "the story tells nothing"
    for mine, its in zip(found[ours], found[theirs], strict=True):
        assert mine == its


@compares
@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "story",
    [s for s in STORIES if s not in (story_pickle, story_names, story_dl, story_delete)],
    ids=lambda story: story.__name__[6:],
)
def test_both_libraries_return_the_same_on_s3(story, moto, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr("cloudfiles.secrets.AWS_CREDENTIALS_CACHE", {"aws": {}})
    found = {}
    for lib in (theirs, ours):
        bucket = moto.make_bucket()
        found[lib] = told(lib, story, f"s3://{moto.endpoint}/{bucket}/x", bucket)
    for mine, its in zip(found[ours], found[theirs], strict=True):
        assert mine == its


CLOUDPATHS = [
    "gs://bucket/dataset/layer",
    "gs://bucket",
    "s3://bucket/a/b/",
    "s3://https://s3.example.org:9000/bucket/a",
    "precomputed://s3://https://example.org/hello/world",
    "matrix://bucket/x",
    "file:///a/b/",
    "file://~/a",
    "a/b",
    "/a/b c%20d",
    "mem://bucket/a",
    "mem:///home/x/",
    "https://example.org/a/b",
    "graphene://http://localhost:8080/seg/1.0/vol",
    "middleauth+https://example.org/x/",
    "gs://bucket/dataset|neuroglancer-precomputed:",
    "gs://bucket/dataset|zarr2:",
    "gs://///",
    "lucifer://bucket/x",
    "s3://bucket/s3://again",
]


@compares
@pytest.mark.parametrize("path", CLOUDPATHS)
def test_paths_are_taken_apart_and_put_together_alike(path):
    found = []
    for lib, unsupported in (
        (theirs.paths, theirs.paths.UnsupportedProtocolError),
        (ours.paths, ours.exceptions.UnsupportedProtocolError),
    ):
        told = [lib.normalize(path), lib.dirname(path), lib.basename(path)]
        told += [lib.to_https_protocol(path), lib.get_protocol(path)]
        try:
            epath = lib.extract(lib.normalize(path))
        except unsupported:
            told.append("unsupported")
        else:
            told += [tuple(epath), lib.ascloudpath(epath), lib.asprotocolpath(epath)]
            told += [lib.asbucketpath(epath), tuple(lib.to_https_protocol(epath))]
        found.append(told)
    assert found[1] == found[0]


def test_aliases_are_kept_in_cloud_files_own_file(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUD_FILES_DIR", str(tmp_path / "cf"))
    ours.paths.add_persistent_alias("lab", "mem://lab/")
    try:
        ours.CloudFiles("lab://x").put("y", b"z")
        kept = json.loads((tmp_path / "cf" / "aliases.json").read_text())
        assert kept == {"lab": {"host": "mem://lab/"}}
        ours.paths.remove_alias("lab")
        monkeypatch.setattr(ours.paths, "_from_file", None)  # as in another process
        assert ours.CloudFiles("lab://x")["y"] == b"z"
    finally:
        ours.paths.remove_persistent_alias("lab")
    with pytest.raises(ours.exceptions.UnsupportedProtocolError):
        ours.CloudFiles("lab://x")
    with pytest.raises(ValueError, match="cannot be an alias"):
        ours.paths.add_alias("s3", "mem://x/")


@compares
@pytest.mark.parametrize("wanted", [None, *ENCODINGS])
def test_transcode_returns_the_same(wanted):
    packed = {None: TEXT, "gzip": gzip.compress(TEXT), "xz": lzma.compress(TEXT)}
    records = [
        {"path": str(how), "content": content, "raw": how is not None, "compress": how}
        for how, content in packed.items()
    ]
    records.append({"path": "gone", "content": None, "raw": False, "compress": None})
    found = []
    for lib in (theirs.compression, ours.compression):
        told = list(lib.transcode(records, wanted))
        told += list(lib.transcode([("tuple", TEXT)], wanted))
        for record in told:
            if record["content"] is not None:
                record["content"] = lib.decompress(record["content"], record["compress"])
        found.append(told)
    assert found[1] == found[0]
    assert records[0]["content"] == TEXT, "without in_place the records stay"


VALUES = [
    {"a": 1, "b": [True, None, 1.5, "ü\n"]},
    {1: "int", None: "none", 2.5: "float"},
    [float("nan"), float("inf"), -0.0],
    {"when": datetime.datetime(2024, 1, 2, 3, 4, 5), "day": datetime.date(2024, 1, 2)},
    uuid.UUID(int=7),
    (1, 2, 3),
]


@compares
@pytest.mark.parametrize("value", VALUES, ids=str)
def test_json_is_written_alike(value):
    from cloudfiles.lib import jsonify

    from pkgdata.compat.cloudfiles.write import jsonify as mine

    assert mine(value) == jsonify(value)


@compares
def test_json_of_numpy_and_dataclasses_is_written_alike():
    numpy = pytest.importorskip("numpy")
    from cloudfiles.lib import jsonify

    from pkgdata.compat.cloudfiles.write import jsonify as mine

    @dataclasses.dataclass
    class Point:
        x: int
        y: float

    value = {"array": numpy.arange(6).reshape(2, 3), "number": numpy.float64(2.5), "p": Point(1, 2)}
    assert mine(value) == jsonify(value)


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
def test_a_new_version_takes_the_place_of_one_compressed_otherwise(old, new, url, tmp_path):
    needs("br")
    files = ours.CloudFiles(f"file://{tmp_path}/x" if url == "file" else "mem://b")
    files.put("a", b"old", compress=old)
    files.put("a", b"new", compress=new)
    assert files["a"] == b"new"
    source = ours.CloudFiles("mem://source")
    source.put("a", b"newest", compress=new)
    source.transfer_to(files)
    assert files["a"] == b"newest"


def test_a_copy_on_disk_takes_the_place_of_a_plain_file(tmp_path):
    source, dest = (ours.CloudFiles(f"file://{tmp_path}/{name}") for name in "ab")
    source.put("x", b"new", compress="gzip")
    dest.put("x", b"old")
    source.transfer_to(dest)
    assert dest["x"] == b"new"


def test_many_are_written_where_a_disk_cannot_be_synced_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(fs, "_libc_syncfs", lambda: None)  # as on macOS and Windows
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


# -- what differs on purpose -----------------------------------------------------------------------


def test_bytes_that_cannot_be_decoded_are_an_error(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "bad.gz").write_bytes(b"not a valid gzip stream")
    (folder / "short.gz").write_bytes(gzip.compress(TEXT)[:-4])
    (folder / "short.bz2").write_bytes(b"")
    (folder / "late.bz2").write_bytes(bz2.compress(TEXT)[:-4])
    (folder / "none.br").write_bytes(b"")
    files = ours.CloudFiles(f"file://{folder}")
    for name in ("bad", "short", "late", "none"):
        with pytest.raises(ours.exceptions.DecompressionError):
            files.get(name)
        with pytest.raises(ours.exceptions.DecompressionError):
            files.get([name], return_dict=True)
        (record,) = files.get([name], raise_errors=False)
        assert isinstance(record["error"], ours.exceptions.DecompressionError)
        assert record["content"] is None
    with pytest.raises(ours.exceptions.DecompressionError):
        files.get({"path": "short", "start": 0, "end": 5})  # a part cannot be decoded
    assert files.get({"path": "short", "start": 0, "end": 2}, raw=True) == b"\x1f\x8b"


def test_results_come_in_the_order_asked_for(tmp_path):
    for url in (f"file://{tmp_path}/x", "mem://b"):
        files = ours.CloudFiles(url)
        names = [str(i) for i in range(300)]
        files.puts((name, name.encode()) for name in names)
        assert [record["path"] for record in files.get(names[::-1])] == names[::-1]
        assert [record["path"] for record in files.get(["1", "0", "1"])] == ["1", "0", "1"]
        assert list(files.exists(names[::-1])) == names[::-1]
        assert files.get_json(["7", "3", "7"]) == [7, 3, 7]


def test_one_level_is_listed_whatever_the_prefix(tmp_path):
    for url in (f"file://{tmp_path}/x", "mem://b/x"):
        files = filled(ours, url)
        assert list(files.list("d", flat=True)) == ["dir/"]
        assert list(files.list("dir", flat=True)) == ["dir/c", "dir/sub/"]
        assert list(files.list("dir/s", flat=True)) == ["dir/sub/"]
        assert list(files.list(flat=True)) == ["a", "b", "dir/"]
        assert list(ours.CloudFiles(f"{url}-beside")) == []


def test_a_range_without_bytes_is_empty(tmp_path):
    files = ours.CloudFiles(f"file://{tmp_path}/x")
    files["a"] = b"0123"
    assert files["a", 3:1] == files["a", 9:20] == files["a", 0:0] == b""
    assert files["a", -2:] == b"23"


def test_names_that_leave_the_place_are_refused(tmp_path):
    for url in (f"file://{tmp_path}/x", "mem://b/x"):
        files = ours.CloudFiles(url)
        for name in ("../a", "/etc/passwd", "a//b"):
            with pytest.raises(UnsafeNameError):
                files.put(name, b"1")
            with pytest.raises(UnsafeNameError):
                files.get(name)


def test_text_is_written_as_utf8():
    files = ours.CloudFiles("mem://b")
    files.put("a", "grün")
    assert files["a"] == "grün".encode()
    with pytest.raises(TypeError):
        files.put("set", {1, 2})


def test_a_tuple_alone_is_one_file():
    files = ours.CloudFiles("mem://b")
    assert files.puts(("a", b"1")) == 1
    assert files.put_jsons(("b", [1])) == 1
    assert files.get_json("b") == [1]


def test_allow_missing_makes_no_empty_object(tmp_path):
    source, dest = (ours.CloudFiles(f"file://{tmp_path}/{name}") for name in "ab")
    source["x"] = b"1"
    source.transfer_to(dest, paths=["gone", ("x", "y")], allow_missing=True)
    assert list(dest) == ["y"]


def test_a_sum_over_what_is_missing_is_an_error():
    files = filled(ours, "mem://b")
    with pytest.raises(FileNotFoundError, match="missing"):
        files.size(["a", "missing"], return_sum=True)


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("lucifer://bucket", {}, ours.exceptions.UnsupportedProtocolError),
        ("middleauth+https://example.org/x", {}, ours.exceptions.UnsupportedProtocolError),
        ("mem://b", {"request_payer": "requester"}, ValueError),
        ("file:///x", {"request_payer": "requester"}, ValueError),
        ("https://example.org", {"request_payer": "requester"}, ValueError),
        ("s3://b", {"request_payer": "somebody"}, ValueError),
        ("s3://b", {"secrets": "{not json"}, ConfigError),
    ],
)
def test_wrong_arguments_are_told_at_once(url, options, error):
    with pytest.raises(error):
        ours.CloudFiles(url, **options)


def test_a_negative_number_of_processes_is_refused():
    with pytest.raises(ValueError, match="parallel must be >= 0"):
        ours.CloudFiles("mem://b").get(["a"], parallel=-1)


def test_arguments_without_effect_are_taken(tmp_path):
    files = ours.CloudFiles(
        f"file://{tmp_path}/x",
        green=True,
        locking=True,
        lock_dir=str(tmp_path / "locks"),
        composite_upload_threshold=10,
        secrets={"AWS_ACCESS_KEY_ID": "x"},
        no_sign_request=True,
    )
    files.put("a", b"1" * 100)
    files.clear_locks()
    assert files.get("a", part_size=5) == b"1" * 100
    assert not (tmp_path / "locks").exists()


# -- the web ---------------------------------------------------------------------------------------


def test_the_web_is_read_and_not_written(httpserver):
    httpserver.expect_request("/d/info").respond_with_json({"x": 1})
    httpserver.expect_request("/d/packed").respond_with_data(
        gzip.compress(TEXT), headers={"Content-Encoding": "gzip", "ETag": '"5"'}
    )
    httpserver.expect_request("/d/secret").respond_with_data("", status=403)
    files = ours.CloudFiles(httpserver.url_for("/d/"))
    assert files.get_json("info") == {"x": 1}
    assert files.get(["packed"])[0]["content"] == TEXT
    assert files.get("packed", raw=True) == gzip.compress(TEXT)
    assert files.head("packed")["content-encoding"] == "gzip"
    # a bucket answers 403 of what is missing to who may not list it
    httpserver.expect_request("/d/gone").respond_with_data("", status=404)
    for name in ("secret", "gone"):
        assert files.get(name) is None
        assert files.exists(name) is False
        assert files.head(name) is None
        assert files.size(name) is None
    for action in (lambda: files.put("a", b"1"), lambda: list(files), lambda: files.delete("a")):
        with pytest.raises(UnsupportedOperationError):
            action()
    httpserver.expect_request("/d").respond_with_data("")
    assert files.isdir() is True
    assert ours.CloudFiles(httpserver.url_for("/d/info")).isdir() is False


def test_a_login_is_taken_from_the_secrets_and_never_shown(httpserver):
    def answer(request):
        login = request.authorization
        right = login is not None and (login.username, login.password) == ("me", "p@ss/word")
        return Response(b"in" if right else b"", 200 if right else 401)

    httpserver.expect_request("/x/a").respond_with_handler(answer)
    url = httpserver.url_for("/x")
    files = ours.CloudFiles(url, secrets={"user": "me", "password": "p@ss/word"})
    assert files["a"] == b"in"
    assert pickle.loads(pickle.dumps(files))["a"] == b"in"
    assert "word" not in repr(files) + files.place.store.url + files.cloudpath
    home = Path(os.environ["HOME"], ".cloudvolume", "secrets")
    home.mkdir(parents=True)
    (home / "http-secret.json").write_text('{"user": "me", "password": "p@ss/word"}')
    assert ours.CloudFiles(url)["a"] == b"in"


def test_a_wrong_checksum_is_an_error(httpserver):
    httpserver.expect_request("/a").respond_with_data(
        TEXT, headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    )
    files = ours.CloudFiles(httpserver.url_for("/"))
    with pytest.raises(IntegrityError) as caught:
        files.get("a")
    assert isinstance(caught.value, ours.exceptions.MD5IntegrityError)
    (record,) = files.get(["a"], raise_errors=False)
    assert isinstance(record["error"], IntegrityError)
    assert record["content"] is None


def test_a_download_to_disk_is_whole_or_not_there(httpserver, tmp_path):
    httpserver.expect_request("/a").respond_with_data(
        TEXT, headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    )
    with pytest.raises(IntegrityError):
        ours.CloudFiles(httpserver.url_for("/")).transfer_to(f"file://{tmp_path}/x", ["a"])
    assert [name for _, _, names in os.walk(tmp_path / "x") for name in names] == []


# -- many ------------------------------------------------------------------------------------------


def test_worker_processes_do_the_same(tmp_path):
    files = ours.CloudFiles(f"file://{tmp_path}/x")
    names = [f"n{i:03d}" for i in range(150)]
    assert files.puts([(name, name.encode()) for name in names], parallel=2) == 150
    records = files.get(names, parallel=2)
    assert {record["path"]: record["content"] for record in records} == {
        name: name.encode() for name in names
    }
    assert files.delete(names[:100], parallel=2) == 100
    assert list(files) == names[100:]


def test_memory_is_not_split_between_processes():
    files = ours.CloudFiles("mem://b", parallel=2)
    files.puts([("a", b"1"), ("b", b"2")], parallel=4)
    assert files.get(["a", "b"], return_dict=True) == {"a": b"1", "b": b"2"}


def test_bars_are_drawn_when_asked_for(capsys):
    files = ours.CloudFiles("mem://b", progress="of mine")
    files.puts([("a", b"1"), ("b", b"2")])
    assert "Upload of mine" in capsys.readouterr().err
    files.get(["a", "b"], progress=False)
    assert capsys.readouterr().err == ""

    class Counter:
        count = 0

        def update(self, count):
            self.count += count

    bar = Counter()
    files.get((name for name in "ab"), total=2, progress=bar)
    files.get_json([], total=0)
    assert bar.count == 2


def test_the_recording_tells_rates():
    files = filled(ours, "mem://b")
    _, first = files.get(["a", "b"], return_recording=True)
    second = files.transfer_to("mem://c", paths=["dir/c"])
    merged = pickle.loads(pickle.dumps(ours.TransmissionMonitor.merge([first, second])))
    assert first.total_bytes() == 3
    assert merged.total_bytes() == first.total_bytes() + second.total_bytes()
    assert sum(merged.histogram(0.5)) == merged.total_bytes()
    assert merged.total_bps() > 0
    assert merged.total_MBps() == pytest.approx(merged.total_Mbps() / 8)
    assert merged.end_unix_time() > merged.start_unix_time()
    assert ours.TransmissionMonitor.merge([]).total_bps() == 0
    with pytest.raises(ValueError, match="Resolution"):
        merged.histogram(0)


def test_the_content_type_of_copies_can_be_set():
    source = ours.CloudFiles("mem://a")
    source.put("x", TEXT, compress="gzip", content_type="text/plain")
    source.transfer_to("mem://b", content_type="image/png")
    source.transfer_to("mem://c", content_type="image/png", reencode="")
    for bucket, encoding in (("mem://b", "gzip"), ("mem://c", None)):
        files = ours.CloudFiles(bucket)
        assert files["x"] == TEXT
        assert files.head("x")["Content-Type"] == "image/png"
        assert files.head("x")["Content-Encoding"] == encoding
    assert source.head("x")["Content-Type"] == "text/plain"


def test_subtrees_are_counted(tmp_path):
    for url in (f"file://{tmp_path}/x", "mem://b/x"):
        files = filled(ours, url)
        assert files.subtree_size() == {"N": 4, "num_bytes": 6 + len(TEXT)}
        assert files.subtree_size("dir/") == {"N": 2, "num_bytes": 3 + len(TEXT)}
        assert files.subtree_size(["a", "b"]) == {"N": 2, "num_bytes": 3}
        assert list(files.list(size=True))[:2] == [("a", 1), ("b", 2)]


def test_permissions_are_told_of_files(tmp_path):
    files = filled(ours, f"file://{tmp_path}/x")
    os.chmod(tmp_path / "x" / "a", 0o640)
    assert files.get_acl(["a", "missing"])["a"] & 0o777 == 0o640
    assert files.get_acl(["a", "missing"])["missing"] is None
    assert filled(ours, "mem://b").get_acl("a") == {"a": None}
    with pytest.raises(UnsupportedOperationError):
        ours.CloudFiles("https://example.org").get_acl("a")


def test_one_file_remembers_what_it_was_told(tmp_path):
    file = ours.CloudFile(f"file://{tmp_path}/a", cache_meta=True)
    file[:] = b"123"
    assert (file.size(), file.head()["Content-Length"]) == (3, 3)
    (tmp_path / "a").write_bytes(b"12345")
    assert (file.size(), file.head()["Content-Length"]) == (3, 3)
    assert file.get([slice(1, 3), (0, 1), {"start": 4}])[2]["content"] == b"5"
    file.put(b"1234567")
    assert (file.size(), len(file)) == (7, 7)
    with pytest.raises(KeyError):
        file[0:2] = b"x"


# -- transfers that are interrupted ----------------------------------------------------------------

EXECUTE = """
import sys
from pkgdata.compat.cloudfiles import ResumableTransfer
ResumableTransfer(sys.argv[1]).execute()
"""


def test_an_interrupted_transfer_goes_on(httpserver, tmp_path):
    names = [f"n{i:02d}" for i in range(60)]
    held, release, asked = threading.Event(), threading.Event(), []

    def answer(request):
        name = request.path.rpartition("/")[2]
        asked.append(name)
        if name == "n40" and not release.is_set():
            held.set()
            release.wait(60)
        return Response(name.encode())

    for name in names:
        httpserver.expect_request(f"/{name}").respond_with_handler(answer)
    job = str(tmp_path / "job.db")
    dest = f"file://{tmp_path}/x"
    transfer = ours.ResumableTransfer(job, lease_msec=1000)
    transfer.init(httpserver.url_for("/"), dest, paths=names)
    assert len(transfer) == 60
    checkout = Path(pkgdata.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    process = subprocess.Popen([sys.executable, "-c", EXECUTE, job], env=env)
    try:
        assert held.wait(60), "the process never came to the object that is held back"
        deadline = time.monotonic() + 60
        while len(transfer) == 60:  # another process's file: nothing tells when it is written
            assert time.monotonic() < deadline, "nothing was noted as done"
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    release.set()
    done = 60 - len(transfer)
    assert 0 < done < 60
    asked.clear()
    transfer.execute()
    assert len(transfer) == 0
    assert ours.CloudFiles(dest).get(names, return_dict=True) == {
        name: name.encode() for name in names
    }
    assert len(set(asked)) == 60 - done
    transfer.close()
    assert not os.path.exists(job)
    with pytest.raises(ConfigError, match="init"):
        transfer.execute()


def test_a_transfer_that_failed_tries_again_what_failed():
    source, dest = filled(ours, "mem://b"), ours.CloudFiles("mem://c")
    transfer = ours.ResumableTransfer(os.path.join(os.environ["HOME"], "job.db"))
    transfer.init("mem://b", "mem://c", paths=["a", "later"], reencode="gzip")
    with pytest.raises(FileNotFoundError):
        transfer.execute()
    assert dest["a"] == b"1"
    source["later"] = b"x"
    transfer.execute()
    assert dest.get(["later"])[0]["compress"] == "gzip"
    transfer.init("mem://b", "mem://d")
    assert len(transfer) == 5


def test_a_file_that_is_no_job_is_refused(tmp_path):
    path = tmp_path / "job.db"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(StoreError, match="not a job"):
        ours.ResumableTransfer(str(path)).execute()


# -- credentials and S3 ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aws-secret.json", "bucket-aws-secret.json"])
def test_secrets_lie_where_cloud_files_keeps_them(name, monkeypatch, tmp_path):
    from pkgdata.compat.cloudfiles import place as places

    secrets = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "KEY", "AWS_DEFAULT_REGION": "r"}
    folder = tmp_path / "cv" / "secrets"
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(secrets))
    monkeypatch.setenv("CLOUD_VOLUME_DIR", str(tmp_path / "cv"))
    path = ours.paths.extract("s3://bucket/x")
    expected = {key.lower(): value for key, value in secrets.items() if "REGION" not in key}
    by_file = places._options(path, None, False)
    assert by_file["region"] == "r"
    assert by_file["secrets"] == expected
    given = places._options(path, json.dumps(secrets), False)
    assert {key.lower(): value for key, value in given["secrets"].items()} == expected
    assert places._options(path, secrets, True) == {"anonymous": True}
    assert secrets["AWS_DEFAULT_REGION"] == "r", "the caller's own mapping stays as it was"


@pytest.mark.integration
def test_a_real_bucket(ceph, tmp_path):
    bucket = ceph.make_bucket()
    secrets = {
        "AWS_ACCESS_KEY_ID": ceph.access_key,
        "AWS_SECRET_ACCESS_KEY": ceph.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    files = ours.CloudFiles(f"s3://{bucket}/x", endpoint=ceph.endpoint, secrets=secrets)
    files.puts(((f"dir/n{i}", bytes([i])) for i in range(30)), compress="br")
    files.put("plain", TEXT, content_type="text/plain", cache_control="no-cache")
    assert files.get(["dir/n7"])[0]["content"] == b"\x07"
    assert files.get(["plain"])[0]["compress"] == ""
    assert list(files.list(flat=True)) == ["dir/", "plain"]
    assert len(list(files.list("dir", flat=True))) == 30
    head = files.head("plain")
    assert (head["Content-Type"], head["Cache-Control"]) == ("text/plain", "no-cache")
    tokens = list(files.list(return_resume_token=True))
    assert list(files.list(resume_token=tokens[28][1])) == [name for name, _ in tokens[29:]]
    files.transfer_to(f"file://{tmp_path}/x")
    assert sorted(os.listdir(tmp_path / "x"))[-1] == "plain"
    assert (tmp_path / "x" / "dir" / "n7.br").is_file()
    assert files.delete(files.list("dir/")) == 30
    assert list(files) == ["plain"]
    wrong = {**secrets, "AWS_SECRET_ACCESS_KEY": "WRONGSECRET"}
    with pytest.raises(AccessDeniedError) as caught:
        ours.CloudFiles(f"s3://{ceph.endpoint}/{bucket}/x", secrets=wrong).get("plain")
    assert "WRONGSECRET" not in str(caught.value)
    nowhere = ours.CloudFiles(f"s3://{ceph.endpoint}/no-such-bucket-here", secrets=secrets)
    with pytest.raises(StoreError, match="no such bucket"):
        nowhere.get("plain")
