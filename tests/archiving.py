"""Archives for tests, and what came out of them."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

import pkgdata
from pkgdata.core import extract
from pkgdata.errors import ExtractionError
from pkgdata.stores import codecs

FILES = {"a.txt": b"a", "sub/b.txt": b"bb", "sub/deep/c.txt": b"c" * 5000, "ü/d e.txt": b""}


def make_zip(files=FILES, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def entry(name, content=b"", **facts):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def make_tar(entries, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def plain_tar(mode="w:gz"):
    return make_tar([entry(name, content) for name, content in FILES.items()], mode)


def unpacked(paths):
    """Return content by name relative to the folder that holds all of the paths."""
    top = os.path.commonpath([os.path.dirname(path) for path in paths])
    return {
        os.path.relpath(path, top).replace(os.sep, "/"): Path(path).read_bytes() for path in paths
    }


def bucket(tmp_path, name):
    """Return the names of the files of a bucket."""
    return sorted(p.name for p in (tmp_path / "cache" / name).rglob("*") if p.is_file())


def snapshot(root):
    return {
        str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino, p.lstat().st_mode)
        for p in root.rglob("*")
    }


UNZIP, UNTAR = pkgdata.Unzip, pkgdata.Untar
ROOM = extract.Growth(200, 1000)

ARCHIVES = [
    ("x.zip", make_zip(), UNZIP),
    ("stored.zip", make_zip(method=zipfile.ZIP_STORED), UNZIP),
    ("lzma.zip", make_zip(method=zipfile.ZIP_LZMA), UNZIP),
    ("bz2.zip", make_zip(method=zipfile.ZIP_BZIP2), UNZIP),
    ("x.tar", plain_tar("w"), UNTAR),
    ("x.tar.gz", plain_tar("w:gz"), UNTAR),
    ("x.tar.bz2", plain_tar("w:bz2"), UNTAR),
    ("x.tar.xz", plain_tar("w:xz"), UNTAR),
    ("x.tar.zst", codecs.encode(plain_tar("w"), "zstd"), UNTAR),
]
archives = pytest.mark.parametrize(
    ("name", "content", "kind"), ARCHIVES, ids=[name for name, _, _ in ARCHIVES]
)
zip_and_tar = pytest.mark.parametrize(
    ("name", "content", "kind"), [ARCHIVES[0], ARCHIVES[5]], ids=["zip", "tar"]
)


def assert_refused(tmp_path, data, name, processor, match):
    with pytest.raises(ExtractionError, match=match):
        data.get(name, processor=processor)
    assert bucket(tmp_path, "derived-v1") == []
    assert bucket(tmp_path, "partial-v1") == []
    assert not list((tmp_path / "cache" / "partial-v1").iterdir())
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "cache" / "x").exists()
