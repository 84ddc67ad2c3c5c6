"""What the tests of the pooch dialect share: files, and what a new process knows of them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pkgdata
from pkgdata.base import hashes
from pkgdata.cache import stamps
from pkgdata.compat.pooch import place

TEXT = b"# data\n1 2 3\n"
BINARY = bytes(range(256)) * 1200


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


MEMBERS = {"top/a.txt": TEXT, "top/sub/b.bin": BINARY, "top/sub/c.txt": b"c", "d.txt": b"d"}
CONTENTS = {
    "a.txt": TEXT,
    "sub/dir/b.bin": BINARY,
    "pack.zip": zipped(MEMBERS),
    "pack.tar.gz": tarred(MEMBERS),
    "a.txt.gz": gzip.compress(TEXT),
    "a.txt.xz": lzma.compress(TEXT),
    "a.txt.bz2": bz2.compress(TEXT),
}
REGISTRY = {name: sha(content) for name, content in CONTENTS.items()}


def new_process():
    """Forget what a process remembers of the disk."""
    place._stamps.clear()


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def no_hashing(monkeypatch):
    def hash_file(*_):
        raise AssertionError("the file was hashed again")

    monkeypatch.setattr(hashes, "hash_file", hash_file)
    monkeypatch.setattr(stamps.hashes, "hash_file", hash_file)


def child_env(**more: str) -> dict[str, str]:
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    return {**os.environ, "PYTHONPATH": checkout, **more}


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
