"""Links to other datasets, and to what the computer has already."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from ....catalog.resources.elsewhere import Elsewhere as linkpath
from ....catalog.resources.elsewhere import linkfile, linkfolder, links

__all__ = ["GlobChecker", "Links", "linkfile", "linkfolder", "linkpath", "links"]

Links = links


class GlobChecker:
    """Checks a folder by its files of a pattern: MD5 of their MD5s, by name, decompressed.

    Without a digest there must only be such files.
    """

    def __init__(self, glob: str, md5: str | None = None) -> None:
        self.glob = glob
        self.md5 = md5

    def compute(self, path: Path) -> str | None:
        """Return the digest of a folder, None if it has no such files."""
        files = sorted(one for one in path.glob(self.glob) if one.is_file())
        total = hashlib.md5(usedforsecurity=False)
        for file in files:
            total.update(_md5(file).encode())
        return total.hexdigest() if files else None

    def check(self, path: Path) -> bool:
        """Return True if a folder is right."""
        found = self.compute(path)
        return found is not None and self.md5 in (None, found)


def _md5(file: Path) -> str:
    found = hashlib.md5(usedforsecurity=False)
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as source:
        while block := source.read(1 << 20):
            found.update(block)
    return found.hexdigest()
