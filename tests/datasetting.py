"""What the tests of datasets share: directories, and how two of them are compared."""

from __future__ import annotations

import os
from pathlib import Path

from pkgdata import datasets
from pkgdata.base import fs

FLOWER = {
    "README.md": b"# Flowers\n",
    "meta.json": b'{"classes": ["rose", "tulip"]}',
    "assets/notes.txt": b"notes",
    "data/train/a.txt": b"one" * 100,
    "data/train/deep/b.txt": b"two" * 1000,
    "data/train/deep/same as b.txt": b"two" * 1000,
    "data/val/empty.txt": b"",
    "data/val/ümläut #1 'quoted'.txt": b"three",
}


def make(folder: Path, contents: dict[str, bytes]) -> Path:
    """Write files; a name that ends in a slash is a folder without any."""
    for name, content in contents.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def read(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return what `make` would write."""
    found = {}
    for name, path in fs.walk_files(os.fspath(folder)):
        found[name] = Path(path).read_bytes()
    for path, folders, files in os.walk(folder):
        if not folders and not files:
            found[os.path.relpath(path, folder) + "/"] = b""
    return found


def registered(tmp_path: Path, config: datasets.Config, contents: dict[str, bytes]) -> Path:
    """Make a directory, and register it as ``flower``."""
    number = len(list(tmp_path.glob("source*")))
    folder = make(tmp_path / f"source{number}", contents)
    datasets.register(folder, "flower", force=True, config=config)
    return folder


def pushed(tmp_path: Path, config: datasets.Config, contents: dict[str, bytes], **options):
    """Push a directory as ``flower``, and forget it here."""
    registered(tmp_path, config, contents)
    outcome = datasets.push("flower", force=True, config=config, **options)
    datasets.purge("flower", config=config)
    return outcome


def visible(home: str | os.PathLike[str]) -> list[str]:
    """Return the names in a home that are no files of its own."""
    return sorted(name for name in os.listdir(home) if not name.startswith("."))
