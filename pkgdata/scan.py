"""Directories and registries: make one from the other, and compare the two."""

from __future__ import annotations

import os

from . import _fs, hashes
from .registry import Entry, Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Files from this size on are hashed in threads; below it the interpreter lock makes two threads
#: slower than one.
_LARGE = 1 << 20


def make(
    folder: str | os.PathLike[str],
    alg: str = "sha256",
    *,
    workers: int | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> Registry:
    """Make the registry of a directory: every file below it, hashed.

    Parameters
    ----------
    folder : path-like
    alg : str, default ``"sha256"``
    workers : int, optional
        Threads for large files; the number of cores by default, at most 8.
    progress : callable, optional
        Called with (name, bytes) after each file.

    Returns
    -------
    Registry
        Sorted by name, with sizes.

    Raises
    ------
    UnsafeNameError
        A file's name could not be fetched safely.
    OSError
        The directory or a file cannot be read.
    """
    root = os.fspath(folder)
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{root} is not a directory")
    files = [
        (_fs.safe_name(name), path, os.stat(path).st_size) for name, path in _fs.walk_files(root)
    ]
    return Registry(_hash_all(files, alg, workers or min(8, os.cpu_count() or 1), progress))


def _hash_all(
    files: list[tuple[str, str, int]],
    alg: str,
    workers: int,
    progress: Callable[[str, int], None] | None,
) -> list[Entry]:
    def one(item: tuple[str, str, int]) -> Entry:
        name, path, size = item
        entry = Entry(name, hashes.hash_file(path, alg), size)
        if progress is not None:
            progress(name, size)
        return entry

    large = sorted((item for item in files if item[2] >= _LARGE), key=lambda item: -item[2])
    entries = [one(item) for item in files if item[2] < _LARGE]
    if len(large) < 2 or workers < 2:
        entries += map(one, large)
    else:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(workers, "pkgdata-hash") as pool:
            entries += pool.map(one, large)
    return sorted(entries, key=lambda entry: entry.name)


class Comparison:
    """How a directory and a registry differ.

    Attributes
    ----------
    missing : list of str
        In the registry, not in the directory.
    extra : list of str
        In the directory, not in the registry.
    changed : dict of str to str
        What differs, by name.
    """

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.extra: list[str] = []
        self.changed: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.changed)


def compare(
    folder: str | os.PathLike[str],
    registry: Registry,
    *,
    progress: Callable[[str, int], None] | None = None,
) -> Comparison:
    """Compare a directory with a registry.

    Parameters
    ----------
    folder : path-like
    registry : Registry
    progress : callable, optional
        Called with (name, bytes) after each file.

    Returns
    -------
    Comparison
        True if they differ.

    Raises
    ------
    OSError
        The directory or a file cannot be read.
    """
    root = os.fspath(folder)
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{root} is not a directory")
    result = Comparison()
    here = dict(_fs.walk_files(root))
    result.extra = sorted(set(here) - set(registry))
    for entry in registry.values():
        path = here.get(entry.name)
        if path is None:
            result.missing.append(entry.name)
            continue
        size = os.path.getsize(path)
        if entry.size is not None and size != entry.size:
            result.changed[entry.name] = f"expected {entry.size} bytes, found {size}"
        elif entry.digest is not None:
            actual = hashes.hash_file(path, entry.digest.alg)
            if actual != entry.digest:
                result.changed[entry.name] = f"expected {entry.digest}, found {actual}"
        if progress is not None:
            progress(entry.name, size)
    return result
