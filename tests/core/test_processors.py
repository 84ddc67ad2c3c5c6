"""Processors: what is made of a file is made once, whole, and kept; foreign callables run too."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pooch
import pytest
from archiving import (
    ARCHIVES,
    FILES,
    UNTAR,
    UNZIP,
    assert_refused,
    bucket,
    make_zip,
    plain_tar,
    snapshot,
    unpacked,
    zip_and_tar,
)

import pkgdata
from pkgdata.cache import upkeep
from pkgdata.errors import ExtractionError
from pkgdata.stores import codecs

# -- decompress ------------------------------------------------------------------------------

COMPRESSED = [
    ("t.txt.gz", gzip.compress(b"text" * 1000, mtime=0), "gzip"),
    ("t.txt.xz", lzma.compress(b"text" * 1000), "xz"),
    ("t.txt.xz", lzma.compress(b"text" * 1000), "lzma"),
    ("t.txt.bz2", bz2.compress(b"text" * 1000), "bzip2"),
    ("t.txt.zst", codecs.encode(b"text" * 1000, "zstd"), "zstd"),
]
compressed = pytest.mark.parametrize(("name", "content", "method"), COMPRESSED)


@compressed
@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("own", [None, "own name.txt"])
def test_decompress(serve, name, content, method, auto, own):
    processor = pkgdata.Decompress(method="auto" if auto else method, name=own)
    path = serve(name, content).get(name, processor=processor)
    assert os.path.basename(path) == (own or name + ".decomp")
    assert Path(path).read_bytes() == b"text" * 1000


def test_decompress_without_a_suffix_needs_the_method(serve, tmp_path):
    content = gzip.compress(b"text", mtime=0)
    data = serve("plain", content)
    assert_refused(tmp_path, data, "plain", pkgdata.Decompress(), "cannot tell how")
    assert_refused(tmp_path, data, "plain", pkgdata.Decompress(method="lz4"), "known: gzip")
    path = data.get("plain", processor=pkgdata.Decompress(method="gzip"))
    assert Path(path).read_bytes() == b"text"


@pytest.mark.parametrize(
    ("name", "content", "use"),
    [("x.zip", make_zip(), "pkgdata.Unzip()"), ("x.tar", plain_tar("w"), "pkgdata.Untar()")],
)
def test_decompress_of_an_archive_says_what_unpacks_it(serve, name, content, use):
    with pytest.raises(ExtractionError, match="cannot tell how") as caught:
        serve(name, content).get(name, processor=pkgdata.Decompress())
    assert use in caught.value.hint


@pytest.mark.parametrize("name", ["x.tar.zst", "t.txt.zst"])
def test_zstd_without_its_package_names_the_extra(serve, monkeypatch, name):
    by_name = {one[0]: one[1] for one in [*ARCHIVES, *COMPRESSED]}
    processor = UNTAR() if "tar" in name else pkgdata.Decompress()
    for module in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(pkgdata.MissingExtraError, match="needs the package zstandard") as caught:
        serve(name, by_name[name]).get(name, processor=processor)
    assert caught.value.hint == "pip install 'pkgdata-cache[compress]'"


@compressed
def test_damaged_compressed_files(serve, tmp_path, name, content, method):
    for damaged in (content[:-5], b"no such thing", content[:20] + b"\0\0\0\0" + content[24:]):
        data = serve(name, damaged)
        assert_refused(tmp_path, data, name, pkgdata.Decompress(), f"{name} cannot be read as")


@pytest.mark.parametrize("bad", ["../x", "/x"])
def test_decompress_into_a_bad_name(serve, tmp_path, bad):
    data = serve(*COMPRESSED[0][:2])
    with pytest.raises(pkgdata.UnsafeNameError):
        data.get("t.txt.gz", processor=pkgdata.Decompress(name=bad))
    assert bucket(tmp_path, "derived-v1") == []


# -- once, and whole -------------------------------------------------------------------------


@zip_and_tar
def test_the_second_call_does_no_work(serve, tmp_path, monkeypatch, name, content, kind):
    data = serve(name, content)
    first = data.get(name, processor=kind())
    before = snapshot(tmp_path)
    monkeypatch.setattr(codecs.Budget, "copy", None)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    monkeypatch.setattr(tarfile, "open", None)
    assert data.get(name, processor=kind()) == first
    assert serve_again(data).get(name, processor=kind()) == first
    assert snapshot(tmp_path) == before


def serve_again(data):
    return pkgdata.declare(data.name, dataurl=data.dataurl, registry=data.registry)


def test_offline_what_was_unpacked_is_found(serve, monkeypatch):
    data = serve("x.zip", make_zip())
    first = data.get("x.zip", processor=UNZIP())
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    assert serve_again(data).get("x.zip", processor=UNZIP()) == first


CHILD = """
import os, signal, sys
import pkgdata
from pkgdata.stores import codecs
real, count, kill_at = codecs.Budget.copy, [], int(sys.argv[3])
def copy(self, source, target):
    if len(count) == kill_at:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    count.append(1)
    real(self, source, target)
codecs.Budget.copy = copy
data = pkgdata.declare("archives", dataurl=sys.argv[1], registry={"x.tgz": sys.argv[2]})
data.get("x.tgz")
print("ready", flush=True)
sys.stdin.readline()
paths = data.get("x.tgz", processor=pkgdata.Untar())
print(len(count))
print(*paths, sep="\\n")
"""


def start(data, kill_at=-1):
    digest = data.registry["x.tgz"].digest.hex
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, data.dataurl[0], digest, str(kill_at)],
        env={**os.environ, "PYTHONPATH": str(Path(pkgdata.__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_at_once_unpack_once(serve, tmp_path):
    data = serve("x.tgz", plain_tar())
    data.get("x.tgz")
    children = [start(data) for _ in range(3)]
    for process in children:  # all wait at the gate; open it
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate()[0].splitlines() for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    assert sorted(int(lines[0]) for lines in results) == [0, 0, len(FILES)]
    assert results[0][1:] == results[1][1:] == results[2][1:]
    assert unpacked(results[0][1:]) == FILES
    assert list((tmp_path / "cache" / "partial-v1").iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kill_at", [0, 2])
def test_a_process_that_is_killed_leaves_nothing_half_made(serve, tmp_path, kill_at):
    data = serve("x.tgz", plain_tar())
    process = start(data, kill_at)
    process.communicate("\n")
    assert process.returncode == -signal.SIGKILL
    assert bucket(tmp_path, "derived-v1") == []
    assert bucket(tmp_path, "partial-v1") != []
    assert unpacked(data.get("x.tgz", processor=UNTAR())) == FILES
    assert bucket(tmp_path, "partial-v1") == [], "what it left is swept away by the next one"
    assert upkeep.sweep(data.cache) == 0
    assert unpacked(data.get("x.tgz", processor=UNTAR())) == FILES


# -- foreign processors ----------------------------------------------------------------------


def test_a_foreign_callable_gets_pooch_s_signature(serve):
    data = serve("x.bin", b"content")
    calls = []

    def processor(*args):
        calls.append(args)
        return {"any": "result"}

    assert data.get("x.bin", processor=processor) == {"any": "result"}
    assert data.get("x.bin", processor=processor) == {"any": "result"}
    (first, action1, caller1), (second, action2, caller2) = calls
    assert (action1, action2) == ("download", "fetch")
    assert caller1 is caller2 is data
    assert first == second
    assert os.path.basename(first) == "x.bin"
    assert Path(first).read_bytes() == b"content"


def test_a_foreign_callable_may_write_beside_the_file(serve, tmp_path):
    data = serve("x.bin", b"content")
    data.get("x.bin")
    before = snapshot(tmp_path / "cache" / "objects-v1")
    made = []

    def processor(fname, action, _):
        target = Path(fname + ".upper")
        if not target.exists():
            made.append(action)
            target.write_bytes(Path(fname).read_bytes().upper())
        return str(target)

    for _ in range(2):
        assert Path(data.get("x.bin", processor=processor)).read_bytes() == b"CONTENT"
    assert made == ["fetch"]
    after = snapshot(tmp_path / "cache" / "objects-v1")
    assert after.keys() == before.keys()
    assert bucket(tmp_path, "objects-v1") == ["x.bin"]
    assert data.get("x.bin").startswith(str(tmp_path / "cache" / "objects-v1"))


def test_a_foreign_callable_never_writes_into_a_predefined_folder(serve, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "x.bin").write_bytes(b"content")
    data = serve("x.bin", b"content", folders=[str(tmp_path / "site")])

    def processor(fname, action, _):
        assert action == "fetch"
        Path(fname + ".new").write_bytes(b"")
        return fname

    path = data.get("x.bin", processor=processor)
    assert os.listdir(tmp_path / "site") == ["x.bin"]
    assert path.startswith(str(tmp_path / "cache"))


def test_a_class_derived_from_pooch_s_runs_its_own_code(serve):
    class Mine(pooch.Unzip):
        def __call__(self, fname, action, caller):
            return sorted(
                os.path.basename(path) for path in super().__call__(fname, action, caller)
            )

    data = serve("x.zip", make_zip())
    for _ in range(2):
        found = data.get("x.zip", processor=Mine())
        assert found == sorted(name.rpartition("/")[2] for name in FILES)


def test_an_error_of_a_foreign_callable_comes_through(serve):
    def processor(fname, action, caller):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        serve("x.bin", b"content").get("x.bin", processor=processor)


def test_a_shipped_file_can_be_processed(tmp_path, monkeypatch):
    folder = tmp_path / "src" / "extpkg" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "x.zip").write_bytes(make_zip())
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    paths = pkgdata.declare("extpkg").get("x.zip", processor=UNZIP())
    assert unpacked(paths) == FILES
    assert os.listdir(folder) == ["x.zip"]
