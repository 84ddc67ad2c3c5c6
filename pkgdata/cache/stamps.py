"""Predefined local folders: their files are checked once, and the result is stamped.

A stamp says that a file of this device, inode, size and modification time had this digest. It is
one line of a text file in the user cache, appended in a single write; a line that was torn by a
crash does not equal any file's facts, so it costs one more check and never a wrong answer. Where
nothing can be written the stamp lives in the process.
"""

from __future__ import annotations

import os
import stat

from ..base import fs, hashes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.hashes import Digest

_BUCKET = "stamps-v1"


class Stamps:
    """The files of predefined folders that were verified before.

    Parameters
    ----------
    root : str or None
        Root of the user cache; None keeps stamps in the process.
    """

    def __init__(self, root: str | None) -> None:
        self.root = root
        self._known: dict[str, dict[str, str]] = {}

    def _file(self, folder: str) -> str:
        return os.path.join(self.root or "", _BUCKET, f"{hashes.short_key(folder)}.txt")

    def _load(self, folder: str) -> dict[str, str]:
        known = self._known.get(folder)
        if known is None:
            known = self._known[folder] = {}
            if self.root is not None:
                try:
                    with open(self._file(folder), encoding="utf-8", errors="replace") as file:
                        for line in file:
                            facts, _, name = line.rstrip("\n").partition(" ")
                            known[name] = facts
                except OSError:
                    pass
        return known

    @staticmethod
    def _facts(found: os.stat_result, digest: Digest) -> str:
        numbers = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        return f"{digest},{','.join(map(str, numbers))}"

    def has(self, folder: str, name: str, found: os.stat_result, digest: Digest) -> bool:
        """Say whether this very file was verified before.

        Parameters
        ----------
        name : str
            Relative to the folder.
        """
        return self._load(folder).get(name) == self._facts(found, digest)

    def add(self, folder: str, name: str, found: os.stat_result, digest: Digest) -> None:
        """Remember that this file has this digest."""
        facts = self._facts(found, digest)
        self._load(folder)[name] = facts
        if self.root is None:
            return
        try:
            os.makedirs(self.root, exist_ok=True)
            fs.append(self._file(folder), f"{facts} {name}\n".encode())
        except OSError:
            pass  # a read-only or full cache: the stamp lives as long as the process


def check(
    folder: str,
    name: str,
    digest: Digest | None,
    size: int | None,
    policy: str,
    stamps: Stamps,
) -> tuple[str, str | None] | None:
    """Look for a file in a folder and check it.

    Parameters
    ----------
    name : str
        Relative to the folder.
    digest : Digest or None
        None: any bytes are right.
    policy : str
        ``"once"``, ``"always"``, ``"size"`` or ``"never"``.

    Returns
    -------
    (str, str or None) or None
        Path and what is wrong with it, if anything; None if there is no such file.
    """
    path = os.path.join(folder, *name.split("/"))
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    if digest is None or policy == "never":
        return path, None
    if size is not None and found.st_size != size:
        return path, f"expected {size} bytes, found {found.st_size}"
    if policy == "size" or (policy == "once" and stamps.has(folder, name, found, digest)):
        return path, None
    try:
        actual = hashes.hash_file(path, digest.alg)
    except OSError as error:
        return path, f"cannot be read: {error.strerror}"
    if actual != digest:
        return path, f"expected {digest}, found {actual}"
    if policy == "once":
        stamps.add(folder, name, found, digest)
    return path, None
