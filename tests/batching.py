"""Files and checks for the tests of batches."""

from __future__ import annotations

import hashlib
import os
import random

import pytest

import pkgdata
from pkgdata import Digest, Entry, Registry
from pkgdata.base import fs
from pkgdata.cache import upkeep

RANDOM = random.Random(11)
needs_signals = pytest.mark.skipif(os.name == "nt", reason="stops and kills processes by signals")
needs_modes = pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")


def make(count: int, length: int = 0) -> dict[str, bytes]:
    """Return small files, all different, some in folders."""
    folders = ("", "maps/", "maps/a b/", "tables/ü/")
    return {
        f"{folders[i % 4]}file{i:03}.bin": RANDOM.randbytes(length or RANDOM.randrange(1, 3000))
        for i in range(count)
    }


FILES = make(300)
EMPTY = "maps/empty.bin"
FILES[EMPTY] = b""
#: Enough for bulk, and a few that are quick.
MANY = make(400)
FEW = dict(list(FILES.items())[:120])


def sha(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


def registry(files: dict[str, bytes], sized: bool = True, **urls: list[str]) -> Registry:
    return Registry(
        [
            Entry(name, sha(c), len(c) if sized else None, tuple(urls.get(name, ())))
            for name, c in files.items()
        ]
    )


def declare(*urls: str, files: dict[str, bytes] = FILES, **more) -> pkgdata.PackageData:
    quick = {"retries": 0, "remote_timeout": 20, "connections": 5, **more}
    quick.setdefault("registry", registry(files))
    return pkgdata.PackageData("p", dataurl=urls, **quick)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def check_here(report, names, files: dict[str, bytes] = FILES) -> None:
    """These names and no others are in the report, and right on disk."""
    assert set(report.succeeded) == set(names)
    for name, path in report.succeeded.items():
        assert read(path) == files[name], name
        assert os.path.basename(path) == os.path.basename(name)


def check_objects(root: str) -> int:
    """Each object is what its path says; return how many there are."""
    items = list(upkeep.items(pkgdata.Cache(root)))
    for item in items:
        assert sha(read(item.path)) == item.digest, item.path
    return len(items)


def left(root: str, bucket: str) -> list[str]:
    path = os.path.join(root, bucket)
    return [name for name, _ in fs.walk_files(path)] if os.path.isdir(path) else []


def checkout() -> str:
    return os.path.dirname(os.path.dirname(pkgdata.__file__))
