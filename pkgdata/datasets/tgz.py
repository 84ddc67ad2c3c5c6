"""etcetera's form of a dataset: ``NAME.tgz``, so that each reads what the other pushed.

As etcetera 0.0.12 writes it: gzip level 9; the members begin at the dataset's root, in the order of
the directory, without a leading ``./``; empty folders and modes are kept.

It is unpacked and hashed while it is downloaded, in one pass, by the rules of
`pkgdata.core.extract`. What links lead to is copied when all the rest is there.
"""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..base import disk, fs, hashes
from ..base.hashes import Digest
from ..base.progress import Callback, ended, silent
from ..base.text import Choice
from ..core import extract
from ..core.registry import Entry, Registry
from ..errors import DatasetError
from ..stores import Store, codecs
from . import repository

_BLOCK = 1 << 18


def _members(root: str, choice: Choice, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and name of each folder, file and link that is taken, in tarfile's order."""
    found = os.listdir(os.path.join(root, above))
    for leaf in sorted(found) if above else found:
        name = above + leaf
        path = os.path.join(root, name)
        is_folder = os.path.isdir(path) and not os.path.islink(path)
        if choice(f"{name}/" if is_folder else name):
            yield path, name
        if is_folder:
            yield from _members(root, choice, f"{name}/")


def check_links(root: str, choice: Choice) -> None:
    """Refuse links that lead out of the dataset or nowhere: an archive of them cannot be unpacked.

    ``root`` is the dataset's folder, itself no link.
    """
    for path, _ in _members(root, choice):
        if not os.path.islink(path):
            continue
        text = os.readlink(path)
        target = os.path.normpath(os.path.join(os.path.dirname(path), text))
        inside = target.startswith(root + os.sep)
        if os.path.isabs(text) or not inside or not os.path.exists(path):
            raise DatasetError(
                f"{path} is a link to {text}, which is not in the dataset",
                hint="put the file there, or push in pkgdata's own form, which follows links",
                path=path,
            )


def push(store: Store, name: str, folder: str, choice: Choice, replace: bool, public: bool) -> int:
    """Write a dataset into a repository; return the bytes of the archive."""
    root, target = os.path.realpath(folder), repository.tgz_name(name)
    with disk.temporary("dataset") as work:
        path = Path(work, repository.tgz_name("temp"))
        with tarfile.open(path, "w:gz") as archive:
            for member, inside in _members(root, choice):
                archive.add(member, inside, recursive=False)
        store.put(target, path, if_absent=not replace, public=public)
        return path.stat().st_size


def pull(store: Store, name: str, folder: str, show: Callback = silent) -> tuple[Registry, int]:
    """Unpack a dataset into an empty folder; return its registry and the bytes of the archive."""
    stored = repository.tgz_name(name)
    address = store.address(stored)
    size = store.stat(stored).size or 0
    room = extract.Growth.of()
    unpacking = _Unpacking(folder, codecs.Budget.of(address, room.factor, size), room, show)
    with (
        contextlib.closing(store.blocks(stored)) as packed,  # type: ignore[type-var]  # a generator
        contextlib.closing(codecs.decode_blocks(packed, "gzip", address)) as blocks,
    ):
        unpacking.run(codecs.BlockFile(blocks))
    return unpacking.registry(), size


@dataclass
class _Unpacking:
    """An archive that is unpacked while it is read."""

    _folder: str
    _budget: codecs.Budget
    _room: extract.Growth
    _show: Callback

    def __post_init__(self) -> None:
        self._members: list[extract.Member] = []
        self._found: dict[str, tuple[Digest, int]] = {}
        self._modes: dict[str, int] = {}

    def registry(self) -> Registry:
        """Return what was unpacked, sorted by name."""
        return Registry(Entry(name, *self._found[name]) for name in sorted(self._found))

    def run(self, source: codecs.BlockFile) -> None:
        """Unpack all of it, then what links lead to."""
        address = self._budget.path
        with extract.guarded("Untar", address):
            for member, info, opened in extract.tar_members(source, address, self._room):
                self._member(member, info, opened)
            while source.read(_BLOCK):
                pass  # the tar ends before its gzip, whose checksum comes last
            self._copy_what_links_lead_to()
        for name in sorted(self._modes, reverse=True):  # a folder after what is in it
            os.chmod(self._path(name), self._modes[name])

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, *name.split("/"))

    def _member(
        self, member: extract.Member, info: tarfile.TarInfo, opened: Callable[[], IO[bytes]]
    ) -> None:
        self._members.append(member)
        name = extract.checked_name(self._budget.path, member)
        if member.folder and name:
            fs.make_dirs(self._path(name))
            self._modes[name] = info.mode & 0o777 | 0o700
        elif info.isreg():
            with opened() as source:
                self._file(name, source)
            self._modes[name] = info.mode & 0o777 | 0o400
            try:
                os.utime(self._path(name), (info.mtime, info.mtime))
            except (OSError, OverflowError, ValueError):
                pass  # a time that this system cannot have

    def _file(self, name: str, source: IO[bytes]) -> None:
        """Write and hash a file; of several with one name the last one counts, as in tar."""
        hasher, before = hashes.new("sha256"), self._budget.used
        self._budget.copy(source, self._path(name), hasher.update)
        size = self._budget.used - before
        self._found[name] = Digest("sha256", hasher.hexdigest()), size
        self._show(ended(name, size))

    def _copy_what_links_lead_to(self) -> None:
        contents = extract.Tree(self._budget.path, self._members, self._room)
        for number, member in enumerate(self._members):
            if member.link is not None:
                contents.choose(number, member)
        contents.report(alone=not self._found)
        for name in contents.empty:
            fs.make_dirs(self._path(name))
        for name, number in contents.made.items():
            known = extract.checked_name(self._budget.path, self._members[number])
            with open(self._path(known), "rb") as file:
                self._file(name, file)
            self._modes[name] = self._modes[known]
