"""Directories and registries: make one from the other, and compare the two."""

from __future__ import annotations

import os

from ..base import fs, hashes
from .registry import Entry, Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..base.hashes import Digest

    Progress = Callable[[str, int], None]
    Job = tuple[str, str, str]  # name, path, algorithm

#: Files from this size on are hashed in threads; below it, handing a file to a thread and fighting
#: over the interpreter lock cost more than a second core brings.
_LARGE = 1 << 18


def make(
    folder: str | os.PathLike[str],
    alg: str = "sha256",
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Registry:
    """Make the registry of a directory: every file below it, hashed.

    Parameters
    ----------
    workers : int, optional
        Threads for large files; the number of usable cores by default, at most 8.
    progress : callable, optional
        Called with (name, bytes) after each file, in the caller's thread.

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
    # all names are checked before the first byte is read
    jobs = [(fs.safe_name(name), path, alg) for name, path in _files(folder)]
    found = _measure(jobs, workers or _cores(), progress)
    return Registry(Entry(name, *found[name]) for name in sorted(found))


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
    progress: Progress | None = None,
) -> Comparison:
    """Compare a directory with a registry.

    Parameters
    ----------
    progress : callable, optional
        Called with (name, bytes) after each file, in the caller's thread.

    Returns
    -------
    Comparison
        True if they differ.

    Raises
    ------
    OSError
        The directory or a file cannot be read.
    """
    here = dict(_files(folder))
    result = Comparison()
    result.extra = sorted(set(here) - set(registry))
    jobs, pinned = [], []
    for entry in registry.values():
        path = here.get(entry.name)
        if path is None:
            result.missing.append(entry.name)
            continue
        size = os.stat(path).st_size
        if entry.size is not None and size != entry.size:
            result.changed[entry.name] = f"expected {entry.size} bytes, found {size}"
        elif entry.digest is not None:
            jobs.append((entry.name, path, entry.digest.alg))
            pinned.append((entry.name, entry.digest))
            continue  # reported when it is hashed
        if progress is not None:
            progress(entry.name, size)
    found = _measure(jobs, _cores(), progress)
    for name, digest in pinned:
        actual = found[name][0]
        if actual != digest:
            result.changed[name] = f"expected {digest}, found {actual}"
    return result


def _files(folder: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    root = os.fspath(folder)
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{root} is not a directory")
    return fs.walk_files(root)


def _cores() -> int:
    """Return how many threads may hash: the cores this process may use, of which a job on a shared
    machine often has a few alone."""
    try:
        return min(8, len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS and Windows
        return min(8, os.cpu_count() or 1)


def _measure(
    jobs: list[Job], workers: int, progress: Progress | None
) -> dict[str, tuple[Digest, int]]:
    """Hash files; return (digest, bytes) by name."""
    done = {}
    for name, digest, size in _results(jobs, workers):
        done[name] = (digest, size)
        if progress is not None:
            progress(name, size)
    return done


def _results(jobs: list[Job], workers: int) -> Iterator[tuple[str, Digest, int]]:
    """Hash small files at once, then large ones in threads."""
    large = []
    for job in jobs:
        name, path, alg = job
        digest, size = hashes.measure_small(path, alg, _LARGE)
        if digest is None:
            large.append((size, job))
        else:
            yield name, digest, size
    # the largest first: begun last, it would keep one core busy while the others idle
    large.sort(key=lambda item: -item[0])
    yield from _in_threads([job for _, job in large], workers)


def _in_threads(jobs: list[Job], workers: int) -> Iterator[tuple[str, Digest, int]]:
    workers = min(workers, len(jobs))
    if workers < 2:
        yield from map(_one, jobs)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(workers, "pkgdata-hash")
    try:
        yield from pool.map(_one, jobs)
    finally:
        pool.shutdown(cancel_futures=True)  # after an error the rest need not be read


def _one(job: Job) -> tuple[str, Digest, int]:
    name, path, alg = job
    return name, *hashes.measure_file(path, alg)
