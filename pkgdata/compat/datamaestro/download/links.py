"""Links to other datasets, and to what the computer has already."""

from __future__ import annotations

import gzip
from pathlib import Path

from ....base import hashes
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
        digests = (_md5(file).encode() for file in files)
        return hashes.hash_blocks(digests, "md5").hex if files else None

    def check(self, path: Path) -> bool:
        """Return True if a folder is right."""
        found = self.compute(path)
        return found is not None and self.md5 in (None, found)


def _md5(file: Path) -> str:
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as source:
        return hashes.hash_blocks(iter(lambda: source.read(hashes.BLOCK), b""), "md5").hex
