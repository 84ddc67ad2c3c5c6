"""pooch's own processors, carried out safely where pooch puts their results.

``Unzip`` and ``Untar`` fill ``NAME.unzip/`` and ``NAME.untar/``, or the folder they were given;
``Decompress`` writes ``NAME.decomp``, or the name it was given. Results are built aside and
renamed into place, by one process at a time. A stamp with the facts of the archive says that a
result is complete, so that a later call need not open the archive again. Any other callable, and so
every class derived from pooch's, is called as it is.
"""

from __future__ import annotations

import os

from ...base import config, fs, owners
from ...cache import staging
from ...core import extract
from .bring import logger
from .place import UNPINNED, LocalFile, short, stamps, turn, work_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any


def apply(processor: Callable[..., Any], file: LocalFile, action: str, caller: object) -> Any:
    """Run a processor on a file that is in place: ``processor(fname, action, caller)``."""
    kind = type(processor).__name__ if type(processor).__module__ == "pooch.processors" else ""
    if kind in ("Unzip", "Untar"):
        return _Archive(kind, processor, file, action).files()
    if kind == "Decompress":
        return _decompressed(processor, file, action)
    return processor(file.path, action, caller)


def _aside(folder: str, key: str, kind: str) -> str:
    return os.path.join(folder, f"{key}.{owners.unique()}.{kind}")


def _turn(target: str, folder: str, key: str) -> staging.Turn:
    """Let this process alone build something under a key in a folder."""
    return turn(
        target, lambda: False, lambda: staging.growth(staging.made_under(folder, f"{key}."))
    )


class _Archive:
    """An archive and the folder that it is unpacked into."""

    def __init__(self, kind: str, processor: Any, file: LocalFile, action: str) -> None:
        self._kind = kind
        self._file = file
        self._path = file.path
        self._action = action
        self._members: list[str] | None = processor.members
        inside = processor.extract_dir
        above = os.path.dirname(file.path)
        self._folder = (
            file.path + processor.suffix if inside is None else os.path.join(above, inside)
        )

    def files(self) -> list[str]:
        """Return the unpacked files; unpack the archive if they are not all here."""
        found = self._listing()
        if self._is_complete(found):
            return found
        if not self._must_unpack():
            return self._stamp()
        above, key = os.path.dirname(self._folder), work_key(os.path.basename(self._folder))
        os.makedirs(above, exist_ok=True)
        with _turn(self._folder, above, key):
            found = self._listing()
            if self._is_complete(found, fresh=True):  # another process was faster
                return found
            self._unpack(above, key)
            return self._stamp()

    def _listing(self) -> list[str]:
        """Return what is in the folder, of the members asked for, in pooch's order."""
        wanted = None if self._members is None else [os.path.normpath(m) for m in self._members]
        found = []
        for path, _, files in os.walk(self._folder):
            for name in files:
                full = os.path.join(path, name)
                if wanted is None or _begins(os.path.relpath(full, self._folder), wanted):
                    found.append(full)
        return found

    def _key(self, found: list[str]) -> str:
        names = sorted(os.path.relpath(path, self._folder) for path in found)
        return f"{self._kind} {short(repr(self._members))} {short(repr(names))}"

    def _is_complete(self, found: list[str], fresh: bool = False) -> bool:
        digest = self._file.digest or UNPINNED
        archive = os.stat(self._path)
        return stamps(fresh).has(self._folder, self._key(found), archive, digest)

    def _stamp(self) -> list[str]:
        found = self._listing()
        digest = self._file.digest or UNPINNED
        stamps().add(self._folder, self._key(found), os.stat(self._path), digest)
        return found

    def _must_unpack(self) -> bool:
        if self._action in ("update", "download") or not os.path.isdir(self._folder):
            return True
        members = self._members or extract.names(self._kind, self._path)
        return not all(os.path.exists(os.path.join(self._folder, one)) for one in members)

    def _unpack(self, above: str, key: str) -> None:
        self._log()
        with staging.folder(_aside(above, key, "dir")) as aside:
            extract.unpack(self._kind, self._path, aside, self._choose, config.conf.extract_limit)
            if not staging.place(aside, self._folder, replace=False):
                staging.merge(aside, self._folder)  # next to what other members left there
        staging.sweep(above, f"{key}.")

    def _choose(self, names: list[str]) -> Collection[str]:
        if self._members is None:
            return set(names)
        wanted = [os.path.normpath(member) for member in self._members]
        return {name for name in names if _begins(os.path.normpath(name), wanted)}

    def _log(self) -> None:
        if self._members is None:
            verb = "Unzipping" if self._kind == "Unzip" else "Untarring"
            logger().info("%s contents of '%s' to '%s'", verb, self._path, self._folder)
        for member in self._members or ():
            logger().info("Extracting '%s' from '%s' to '%s'", member, self._path, self._folder)


def _begins(name: str, wanted: list[str]) -> bool:
    return any(name.startswith(one) for one in wanted)  # as texts: pooch does not stop at a slash


def _decompressed(processor: Any, file: LocalFile, action: str) -> str:
    """Return the decompressed file; make it if it is not here."""
    path = file.path
    above = os.path.dirname(path)
    name = os.path.basename(path) + ".decomp" if processor.name is None else processor.name
    target = os.path.join(above, name)
    key, digest, archive = f"Decompress {name}", file.digest or UNPINNED, os.stat(path)
    if action == "fetch" and os.path.exists(target):
        return target

    def complete(fresh: bool) -> bool:
        return os.path.exists(target) and stamps(fresh).has(above, key, archive, digest)

    if complete(fresh=False):
        return target
    start = work_key(name)
    with _turn(target, above, start):
        if complete(fresh=True):  # another process was faster
            return target
        logger().info(
            "Decompressing '%s' to '%s' using method '%s'.", path, target, processor.method
        )
        processor._compression_module(path)  # a method or suffix it does not know: pooch's words
        aside = _aside(above, start, "part")
        try:
            extract.decompress(path, aside, processor.method, config.conf.extract_limit)
            fs.replace(aside, target)
        finally:
            fs.remove(aside)
        stamps().add(above, key, archive, digest)
        staging.sweep(above, f"{start}.")
    return target
