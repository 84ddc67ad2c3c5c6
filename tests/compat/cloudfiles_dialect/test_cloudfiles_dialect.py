"""Code written for cloud-files runs on `pkgdata.compat.cloudfiles`, with the same results.

The stories are run on both libraries, and what they return is compared, types included.
"""

from __future__ import annotations

import dataclasses
import datetime
import gzip
import json
import lzma
import pickle
import uuid

import pytest
from cloudfiles_both import ENCODINGS, TEXT, compares, filled, theirs

from pkgdata.compat import cloudfiles as ours

# -- the same calls on both ------------------------------------------------------------------------


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
