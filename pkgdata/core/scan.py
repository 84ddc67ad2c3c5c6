"""Directories and registries: make one from the other, and compare the two."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from ..base import fs, hashes, pool
from ..base.hashes import Digest
from ..base.progress import Callback, ended, silent
from ..base.text import Choice
from .registry import Entry, Registry

Job = tuple[str, str, str]  # name, path, algorithm

#: Files from this size on are hashed in threads; below it, handing a file to a thread and fighting
#: over the interpreter lock cost more than a second core brings.
_LARGE = 1 << 18


def make(
    folder: str | os.PathLike[str],
    alg: str = "sha256",
    *,
    choice: Choice | None = None,
    workers: int | None = None,
    progress: Callback = silent,
) -> Registry:
    """Make the registry of a directory: the files below it, hashed, sorted by name.

    All of them, or those that the choice takes. ``workers`` are threads for large files: the usable
    cores by default, at most 8. Progress is reported at the end of each file.
    """
    # all names are checked before the first byte is read
    jobs = [(fs.safe_key(fs.safe_name(name)), path, alg) for name, path in files(folder, choice)]
    found = _measure(jobs, workers or _cores(), progress)
    return Registry(Entry(name, *found[name]) for name in sorted(found))


class Comparison(NamedTuple):
    """How a directory and a registry differ; true if they do."""

    #: Names in the registry that the directory has not.
    missing: list[str]
    #: Names in the directory that the registry has not.
    extra: list[str]
    #: What differs, by name.
    changed: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.changed)


def compare(
    folder: str | os.PathLike[str],
    registry: Registry,
    *,
    choice: Choice | None = None,
    progress: Callback = silent,
) -> Comparison:
    """Compare a directory with a registry; what the choice does not take is not extra."""
    here = dict(files(folder))
    extra = sorted(name for name in here.keys() - set(registry) if choice is None or choice(name))
    result = Comparison([], extra, {})
    jobs, pinned = [], []
    for entry in registry.values():
        path = here.get(entry.name)
        if path is None or not os.path.exists(path):  # or a link that leads nowhere
            result.missing.append(entry.name)
            continue
        size = os.stat(path).st_size
        if entry.size is not None and size != entry.size:
            result.changed[entry.name] = f"expected {entry.size} bytes, found {size}"
        elif entry.digest is not None:
            jobs.append((entry.name, path, entry.digest.alg))
            pinned.append((entry.name, entry.digest))
            continue  # reported when it is hashed
        progress(ended(entry.name, size))
    found = _measure(jobs, _cores(), progress)
    for name, digest in pinned:
        actual = found[name][0]
        if actual != digest:
            result.changed[name] = f"expected {digest}, found {actual}"
    return result


def files(
    folder: str | os.PathLike[str], choice: Choice | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the name and path of each file that a choice takes, sorted."""
    root = os.fspath(folder)
    if not os.path.isdir(root):
        raise NotADirectoryError(f"{root} is not a directory")
    return ((n, path) for n, path in fs.walk_files(root) if choice is None or choice(n))


def _cores() -> int:
    """Return how many threads may hash."""
    try:  # the cores that this process may use: a job on a shared machine often has only a few
        return min(8, len(os.sched_getaffinity(0)))
    except AttributeError:  # macOS and Windows
        return min(8, os.cpu_count() or 1)


def _measure(jobs: list[Job], workers: int, progress: Callback) -> dict[str, tuple[Digest, int]]:
    """Hash small files at once, then large ones in threads; return (digest, bytes) by name."""
    done: dict[str, tuple[Digest, int]] = {}
    large = []
    for job in jobs:
        name, path, _ = job
        size = os.stat(path).st_size
        if size >= _LARGE:
            large.append((size, job))
        else:
            done[name] = _hash(job)
            progress(ended(name, done[name][1]))
    # the largest first: started last, it would keep one core busy while the others idle
    large.sort(key=lambda item: -item[0])
    jobs = [job for _, job in large]
    for (name, *_), result in pool.each(_hash, jobs, min(workers, len(large))):
        done[name] = result
        progress(ended(name, result[1]))
    return done


def _hash(job: Job) -> tuple[Digest, int]:
    _, path, alg = job
    return hashes.measure_file(path, alg)
