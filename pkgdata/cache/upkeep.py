"""Looking after a cache: list, prune, sweep, clear, carry to another machine."""

from __future__ import annotations

import errno
import os
import time
from typing import NamedTuple

from ..base import fs, owners
from ..base.hashes import Digest, hash_file, mismatch, new
from ..base.report import each_name
from ..errors import CacheError, ExtractionError
from . import objects, staging
from .objects import Cache, contents_file
from .partial import Partial
from .stamps import OBJECTS, PARTIAL, key_of, split
from .unpinned import VALIDATORS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterable, Iterator
    from typing import IO

#: Days after which unfinished bytes that nobody resumes are swept away.
PARTIAL_DAYS = 7.0


class CachedObject(NamedTuple):
    """One object of a cache: bytes, and seconds since the epoch of its last access or change."""

    name: str
    digest: Digest
    size: int
    used: float
    path: str


def _digests(cache: Cache, bucket: str) -> Iterator[tuple[Digest, str]]:
    """Yield (digest, folder) of all that a bucket holds."""
    for kind in fs.listed(cache.root, bucket):
        for first in fs.listed(kind):
            for folder in fs.listed(first):
                alg, begin, rest = folder.split(os.sep)[-3:]
                yield Digest(alg, begin + rest), folder


def _item(digest: Digest, path: str) -> CachedObject:
    found = os.stat(path)
    used = max(found.st_atime, found.st_mtime)
    return CachedObject(os.path.basename(path), digest, found.st_size, used, path)


def items(cache: Cache) -> Iterator[CachedObject]:
    """Yield every object of a cache."""
    for digest, folder in _digests(cache, OBJECTS):
        for path in fs.listed(folder):
            try:
                yield _item(digest, path)
            except OSError:
                pass  # removed meanwhile


class Space(NamedTuple):
    """What one kind of content takes."""

    files: int
    bytes: int


class Pruned(NamedTuple):
    """What was removed, or would be: folders are trees and what archives were unpacked into."""

    objects: list[CachedObject]
    folders: int
    leftovers: int

    @property
    def bytes(self) -> int:
        """Bytes of the objects; names of one digest are links to the same bytes."""
        return sum({item.digest: item.size for item in self.objects}.values())


def usage(cache: Cache) -> dict[str, Space]:
    """Return what each kind of content takes, and the total; hard links are counted once."""
    kinds = {
        "objects": OBJECTS,
        "trees": objects.TREES,
        "derived": objects.DERIVED,
        "unfinished": PARTIAL,
    }
    seen: set[tuple[int, int]] = set()
    totals = {}
    for what, bucket in kinds.items():
        top = os.path.join(cache.root, bucket)
        count = size = 0
        for _, path in fs.walk_files(top) if os.path.isdir(top) else ():
            found = os.lstat(path)
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                count, size = count + 1, size + found.st_size
        totals[what] = Space(count, size)
    totals["total"] = Space(*map(sum, zip(*totals.values(), strict=True)))
    return totals


def prune(cache: Cache, days: float, dry_run: bool = False, now: float | None = None) -> Pruned:
    """Remove what was not used for so many days, and what nobody will finish."""
    now = time.time() if now is None else now
    if not os.path.isdir(cache.root):
        return Pruned([], 0, 0)
    with cache.usage(exclusive=True):
        before = now - days * 86400
        old = [item for item in items(cache) if item.used <= before]
        folders = [
            folder
            for bucket in (objects.TREES, objects.DERIVED)
            for _, folder in _digests(cache, bucket)
            if _last_use(folder) <= before
        ]
        return _pruned(cache, old, folders, dry_run, now)


def remove(cache: Cache, chosen: Iterable[CachedObject], dry_run: bool = False) -> Pruned:
    """Remove objects, and with them what was made of them: trees, and unpacked archives."""
    with cache.usage(exclusive=True):
        old = list(chosen)
        digests = {item.digest for item in old}
        inodes = {_inode(item.path) for item in old}
        folders = [one for digest, one in _digests(cache, objects.DERIVED) if digest in digests]
        # a tree links to its objects, whose space is free when both are gone
        for _, folder in _digests(cache, objects.TREES):
            if any(_inode(path) in inodes for _, path in fs.walk_files(folder)):
                folders.append(folder)
        return _pruned(cache, old, folders, dry_run, time.time())


def _pruned(
    cache: Cache, old: list[CachedObject], folders: list[str], dry_run: bool, now: float
) -> Pruned:
    gone = {*(item.path for item in old), *folders}
    leftovers = list(_leftovers(cache, now, set(gone)))
    if not dry_run:
        for path in (*gone, *leftovers):
            fs.discard(path)
    return Pruned(old, len(folders), len(leftovers))


def _inode(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def verify(cache: Cache) -> Iterator[tuple[str, str]]:
    """Yield (path, what is wrong) of damaged objects and of incomplete directories.

    Objects are hashed; of trees and of unpacked directories names and sizes are looked at.
    """
    for item in items(cache):
        try:
            actual = hash_file(item.path, item.digest.alg)
        except OSError as error:
            yield item.path, f"cannot be read: {error.strerror}"
            continue
        if actual != item.digest:
            yield item.path, f"expected {item.digest}, found {actual}"
    for folder, record in _directories(cache):
        contents = staging.Contents.read(record)
        if contents is None:
            yield folder, "what it must hold is not known"
        else:
            for name in contents.missing(folder):
                yield os.path.join(folder, *name.split("/")), "is missing or has another size"


def _directories(cache: Cache) -> Iterator[tuple[str, str]]:
    """Yield (directory, record of what it holds) of every tree and derived directory."""
    for digest, folder in _digests(cache, objects.TREES):
        yield folder, contents_file(cache.root, f"tree-{key_of(digest)}")
    for digest, folder in _digests(cache, objects.DERIVED):
        for path in fs.listed(folder):
            key = f"derived-{key_of(digest)}-{os.path.basename(path)}"
            yield path, contents_file(cache.root, key)


def sweep(cache: Cache, now: float | None = None) -> int:
    """Remove what killed processes left: unfinished files, lock files, empty folders.

    Unfinished bytes of an object that is not here yet stay for `PARTIAL_DAYS`, unless their
    owner still runs.
    """
    if not os.path.isdir(cache.root):
        return 0
    with cache.usage(exclusive=True):
        found = list(_leftovers(cache, time.time() if now is None else now, set()))
        for path in found:
            fs.discard(path)
        return len(found)


def _leftovers(cache: Cache, now: float, gone: set[str]) -> Iterator[str]:
    """Yield what killed processes left, and what is of no use without what will be gone."""
    kept = {
        key_of(digest)
        for digest, folder in _digests(cache, OBJECTS)
        if not gone.issuperset(fs.listed(folder))
    }
    for path in fs.listed(cache.root, PARTIAL):
        name = os.path.basename(path)
        owner = owners.of(name)
        runs = owner is not None and not owners.is_gone(owner)
        age = (now - _mtime(path)) / 86400
        useful = name.endswith((".part", ".note", ".spans")) and name.partition(".")[0] not in kept
        useful = useful and not name.startswith("url-")  # what no digest pins is not resumed
        if age > PARTIAL_DAYS or not (runs or useful):
            yield path
    known = {record for folder, record in _directories(cache) if not _is_gone(folder, gone)}
    for bucket in (OBJECTS, objects.TREES, objects.DERIVED):
        yield from _empty_folders(os.path.join(cache.root, bucket), gone)
    # a process that waits for a key holds .lock shared, so none waits now
    yield from fs.listed(cache.root, objects.LOCKS)
    yield from (path for path in fs.listed(cache.root) if path.endswith(".tmp"))
    yield from (path for path in fs.listed(cache.root, objects.CONTENTS) if path not in known)


def _is_gone(folder: str, gone: set[str]) -> bool:
    return folder in gone or os.path.dirname(folder) in gone


def _empty_folders(folder: str, gone: set[str], depth: int = 0) -> Iterator[str]:
    """Yield the folders of a bucket that will be empty, the deepest first."""
    if depth < 3:  # deeper down, an empty folder belongs to a tree
        for path in fs.listed(folder):
            if path not in gone:
                yield from _empty_folders(path, gone, depth + 1)
    readable = os.path.isdir(folder) and os.access(folder, os.R_OK)
    if depth and readable and gone.issuperset(fs.listed(folder)):
        gone.add(folder)
        yield folder


def clear(cache: Cache) -> Space:
    """Remove everything of ours and return what it took; what other releases made stays."""
    if not os.path.isdir(cache.root):
        return Space(0, 0)
    with cache.usage(exclusive=True):
        space = usage(cache)["total"]
        for bucket in (*objects.BUCKETS, VALIDATORS):
            fs.remove_tree(os.path.join(cache.root, bucket))
    return space


def export_archive(
    cache: Cache,
    path: str | os.PathLike[str],
    names_or_digests: str | Iterable[str | Digest] | None = None,
) -> list[CachedObject]:
    """Write objects into an uncompressed tar archive, verified on the way, for another machine.

    They are chosen by file names, or digests as a registry writes them; all by default. The archive
    appears when it is complete and is never overwritten.
    """
    import tarfile  # a batch, which only tidies, is spared it

    path = os.fspath(path)
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "the archive exists and is not overwritten", path)
    with cache.usage():
        chosen = _choose(cache, names_or_digests)
        with (
            fs.writing(path, if_absent=True) as fd,
            open(fd, "wb", closefd=False) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for item in chosen:
                _export_one(archive, item)
    return chosen


def _choose(cache: Cache, wanted: str | Iterable[str | Digest] | None) -> list[CachedObject]:
    """Return the objects that go by one of some names or digests, or all."""
    found = list(items(cache))
    if wanted is None:
        return found
    chosen: dict[str, CachedObject] = {}
    for text in map(str, each_name(wanted)):
        plain = text.lower().removeprefix("sha256:")
        matches = [
            item
            for item in found
            if item.name == text.rpartition("/")[2]
            or plain in (str(item.digest), str(item.digest).removeprefix("sha256:"))
        ]
        if not matches:
            raise CacheError(
                f"the cache {cache.root} holds no {text!r}",
                hint="'pkgdata cache ls' lists what it holds",
            )
        chosen.update((item.path, item) for item in matches)
    return sorted(chosen.values(), key=lambda item: item.path)


class _Reader:
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes], alg: str) -> None:
        self._file = file
        self.hasher = new(alg)

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        data = self._file.read(size)
        self.hasher.update(data)
        return data


def _export_one(archive: tarfile.TarFile, item: CachedObject) -> None:
    import tarfile

    # no owner and no time: archives of the same objects are the same
    info = tarfile.TarInfo("/".join((OBJECTS, *split(item.digest), item.name)))
    info.size, info.mode = item.size, 0o444
    with open(item.path, "rb") as file:
        reader = _Reader(file, item.digest.alg)
        archive.addfile(info, reader)
    actual = Digest(item.digest.alg, reader.hasher.hexdigest())
    if actual != item.digest:
        raise mismatch(
            f"{item.path} is damaged",
            item.digest,
            actual,
            name=item.name,
            source=item.path,
            hint="remove the file; it is then fetched again",
        )


class Imported(NamedTuple):
    """What an archive brought, and how many of its objects were here already."""

    new: list[CachedObject]
    kept: int


def import_archive(cache: Cache, path: str | os.PathLike[str]) -> Imported:
    """Take over the objects of an archive that `export_archive` wrote, each one verified.

    A member that is no object is an error before anything is added; a damaged one after those
    before it were added.
    """
    import tarfile

    added, kept = [], 0
    try:
        with (
            open(path, "rb", opener=fs.regular) as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            for info, digest, name in [_checked(path, info) for info in archive.getmembers()]:
                if cache.find(digest, name, info.size) is not None:
                    kept += 1
                else:
                    added.append(_import_one(cache, archive, info, digest, name))
    except tarfile.TarError as error:
        raise ExtractionError(f"{path} cannot be read as an uncompressed tar: {error}") from error
    return Imported(added, kept)


def _checked(
    path: str | os.PathLike[str], info: tarfile.TarInfo
) -> tuple[tarfile.TarInfo, Digest, str]:
    """Return a member with its digest and name, or refuse it."""
    parts = info.name.split("/")
    try:
        if len(parts) != 5:
            raise ValueError("it is no object")
        bucket, alg, first, rest, name = parts
        digest = Digest.parse(f"{alg}:{first}{rest}")
        # whatever parses another way than it is written would be a second address of one object
        if [bucket, alg, first, rest] != [OBJECTS, *split(digest)]:
            raise ValueError("it is no object")
        fs.safe_name(name)
        if not info.isreg() or info.issparse():
            raise ValueError("it is no plain file")
    except ValueError as error:
        reason = getattr(error, "message", "") or str(error)
        raise ExtractionError(
            f"{path} has the member {info.name!r}: {reason}; refused",
            hint="only archives made by 'pkgdata cache export' can be taken over",
        ) from None
    return info, digest, name


def _import_one(
    cache: Cache, archive: tarfile.TarFile, info: tarfile.TarInfo, digest: Digest, name: str
) -> CachedObject:
    def fill(partial: Partial) -> None:
        source = archive.extractfile(info)
        if source is not None:
            with source:
                partial.fill(source, digest, name)

    # without a size the cache records one; a damaged object is found and replaced by its size
    size = info.size if os.path.exists(cache.path(digest, name)) else None
    path = cache.obtain(digest, name, size, fill)
    return _item(digest, path)


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _last_use(folder: str) -> float:
    """Return when a file below a folder was last read or changed, as the file system tells."""
    # lstat: a processor may leave a link that leads nowhere
    facts = [os.lstat(path) for _, path in fs.walk_files(folder)]
    return max((max(one.st_atime, one.st_mtime) for one in facts), default=0.0)
