"""Unfinished bytes: files that one process alone writes to, and how the next one goes on.

`pkgdata.cache` describes where they lie and rule 4, which they obey.
"""

from __future__ import annotations

import os

from ..base import fs, hashes, owners
from ..base.hashes import Digest
from ..errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO


class Partial:
    """Unfinished bytes in a file that this process alone writes to; a context manager.

    Leaving the block by an exception puts the bytes back for the next process if they are worth it,
    else removes them.

    Parameters
    ----------
    folder : str
        The bucket for unfinished bytes.
    key : str
        What they will be.
    resume : bool
        Go on from bytes that an earlier process left.
    """

    def __init__(self, folder: str, key: str, resume: bool) -> None:

        self._folder = folder
        self._key = key
        self._resume = resume
        owner = owners.unique()
        #: The file.
        self.path = os.path.join(folder, f"{key}.{owner}.part")
        #: Bytes that are there, from the beginning.
        self.offset = 0
        #: Intervals that are there beyond them, after a transfer over several ranges.
        self.later: list[tuple[int, int]] = []
        self.fd = -1

    def __enter__(self) -> Partial:
        if not (self._resume and any(self._take(path) for path in self._left_behind())):
            self.fd = fs.create_exclusive(self.path)
        size = os.fstat(self.fd).st_size
        spans = _read_spans(self.path)
        # without a record that can be true the digest decides what the file is worth
        self.offset, self.later = spans if spans and _fit(size, *spans) else (size, [])
        return self

    def _left_behind(self) -> list[str]:
        found = [path for path, _ in unfinished(self._folder, self._key)]
        return sorted(found, key=_size_of, reverse=True)

    def _take(self, path: str) -> bool:
        """Make the bytes of an earlier process ours; say whether that worked."""
        owner = owner_of(path)
        try:
            if owner is None or owners.is_gone(owner):
                os.rename(path, self.path)
                _move_notes(path, self.path)
                self.fd = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            elif owner.partition("-")[0] == owners.token().partition("-")[0]:
                return False  # it runs on this machine and still writes
            else:
                # on another machine: whether it still writes cannot be known, so its file is left
                # alone and its bytes are copied
                spans = _read_spans(path)  # before the bytes, so that it never says too much
                fs.copy(path, self.path)
                self.fd = os.open(self.path, os.O_RDWR)
                if spans:
                    self.record(*spans)
        except OSError:
            fs.remove(self.path)  # another process was faster, or may not be read
            return False
        return True

    def validator(self, address: str) -> str | None:
        """Return what to send as ``If-Range`` to an address.

        Parameters
        ----------
        address : str
            Redacted URL.

        Returns
        -------
        str or None
            None if the bytes came from elsewhere or nothing was noted.
        """
        try:
            with open(_beside(self.path, "note"), encoding="utf-8") as file:
                source, _, validator = file.read().partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        return validator.strip() or None if source == address else None

    def note(self, address: str, validator: str | None) -> None:
        """Remember whose bytes these are, for `validator`."""
        if not self._resume:
            return
        fs.remove(_beside(self.path, "note"))  # another user's may not be writable
        fd = fs.create_exclusive(_beside(self.path, "note"))
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(f"{address}\n{validator or ''}\n")

    def record(self, front: int, later: list[tuple[int, int]]) -> None:
        """Keep beside the file which of its bytes are there; called after they were written.

        Parameters
        ----------
        front : int
            Bytes from the beginning.
        later : list of (int, int)
            Intervals beyond them.
        """
        text = " ".join([str(front), *(f"{start}-{end}" for start, end in later)])
        fs.write_atomic(_beside(self.path, "spans"), f"{text}\n".encode(), sync=False, follow=True)

    def restart(self) -> None:
        """Drop the bytes."""
        fs.remove(_beside(self.path, "spans"))
        self.later = []
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self.offset = 0

    def fill(self, source: IO[bytes], digest: Digest, name: str) -> None:
        """Write the bytes of a local stream, from the start, and verify them.

        Parameters
        ----------
        digest : Digest
            What they must hash to.
        name : str
            The object, for errors.

        Raises
        ------
        IntegrityError
            They hash to something else.
        """
        self.restart()
        hasher = hashes.new(digest.alg)
        while data := source.read(1 << 20):
            hasher.update(data)
            fs.write_all(self.fd, data)
            self.offset += len(data)
        actual = Digest(digest.alg, hasher.hexdigest())
        if actual != digest:
            self.restart()  # nobody resumes from wrong bytes
            origin = str(getattr(source, "name", ""))
            what = f"wrong bytes for {name!r}"
            raise hashes.mismatch(what, digest, actual, name=name, source=origin)

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        keep = kind is not None and self._resume and bool(self.offset or self.later)
        self.close()
        if keep and not issubclass(kind or BaseException, CacheError):
            rest = os.path.join(self._folder, f"{self._key}.part")
            try:
                if _size_of(self.path) > _size_of(rest):
                    os.replace(self.path, rest)
                    _move_notes(self.path, rest)
            except OSError:
                pass  # the bytes would have been a help, no more
        fs.remove(self.path)
        for note in _NOTES:
            fs.remove(_beside(self.path, note))


#: What may lie beside a file of unfinished bytes: whose they are, and which of them are there.
_NOTES = ("note", "spans")


def _beside(path: str, kind: str) -> str:
    return f"{path.removesuffix('.part')}.{kind}"


def _move_notes(source: str, target: str) -> None:
    for kind in _NOTES:
        try:
            os.replace(_beside(source, kind), _beside(target, kind))
        except OSError:
            fs.remove(_beside(target, kind))  # that of other bytes would mislead


def _read_spans(path: str) -> tuple[int, list[tuple[int, int]]] | None:
    """Return what `Partial.record` wrote; None if there is nothing or it is damaged."""
    try:
        with open(_beside(path, "spans"), encoding="ascii") as file:
            text = file.read()
        front, *later = text.split()
        if not text.endswith("\n"):
            return None
        pairs = [(int(start), int(end)) for start, _, end in (p.partition("-") for p in later)]
        return int(front), pairs
    except (OSError, ValueError):
        return None


def _fit(size: int, front: int, later: list[tuple[int, int]]) -> bool:
    """Say whether a file of so many bytes can hold what a record says."""
    at = front
    for start, end in later:
        if not at <= start < end:
            return False
        at = end
    return front >= 0 and at <= size


def _size_of(path: str) -> int:
    """Return the bytes that a file takes, holes left out; -1 if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return -1
    blocks: int | None = getattr(found, "st_blocks", None)
    # a file system may compress or keep small files elsewhere; then the length is all that is known
    return found.st_size if not blocks else min(found.st_size, blocks * 512)


def owner_of(path: str) -> str | None:
    """Return the owner token in the name of an unfinished file; None if it is at rest."""
    parts = os.path.basename(path).split(".")
    return parts[1].rpartition("-")[0] if len(parts) > 2 else None


def unfinished(folder: str, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield (path, bytes) of the unfinished files of a key.

    Parameters
    ----------
    key : str, optional
        All, if left out.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if name.endswith(".part") and name.startswith(key + "." if key else ""):
            path = os.path.join(folder, name)
            size = _size_of(path)
            if size >= 0:
                yield path, size
