"""Processors: what is done with a file after it is fetched, such as unpacking it.

`apply` takes any callable of pooch's signature, ``processor(path, action, pooch)``. pooch's own
`Unzip`, `Untar` and `Decompress` are carried out here with their arguments, but safely: into a
directory of its own that appears only when it is complete, keyed by the archive's digest and the
members. Members that leave the directory, links that do, device files, and archives that grow past
a limit are refused.
"""

from __future__ import annotations

import errno
import os
import stat

from ..base import fs
from ..errors import ExtractionError, UnsafeNameError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    import zipfile
    from collections.abc import Callable, Collection
    from typing import IO, Any, NoReturn

    from ..base.hashes import Digest
    from ..cache.objects import Cache

    #: Called with the names of all members; returns those to unpack.
    Choose = Callable[[list[str]], Collection[str]]

#: However small the archive, it may grow to this many bytes.
_ALWAYS_ALLOWED = 1_000_000_000


def apply(
    processor: Callable[[str, str, Any], Any],
    path: str,
    action: str,
    caller: object,
    cache: Cache,
    digest: Digest,
    growth: int,
) -> Any:
    """Run a processor, of pooch's or any callable of their signature, on a fetched file.

    ``action`` and ``caller`` are passed on. An archive may grow to ``growth`` times its size, or to
    1 GB. ``Unzip`` and ``Untar`` give a list of paths, ``Decompress`` gives one.
    """
    kind = type(processor).__name__ if type(processor).__module__ == "pooch.processors" else ""
    if kind in ("Unzip", "Untar"):
        members = sorted(getattr(processor, "members", None) or ())
        inside = getattr(processor, "extract_dir", None) or ""
        if inside:
            fs.safe_name(inside)
        folder = cache.derived(
            digest,
            f"{kind} {members} {inside}",
            lambda aside: unpack(
                kind, path, os.path.join(aside, inside), _asked_for(path, members), growth
            ),
        )
        return [found for _, found in fs.walk_files(folder)]
    if kind == "Decompress":
        name = getattr(processor, "name", None) or os.path.basename(path) + ".decomp"
        method = str(getattr(processor, "method", "auto"))
        fs.safe_name(name)
        folder = cache.derived(
            digest,
            f"{kind} {method} {name}",
            lambda aside: decompress(path, os.path.join(aside, name), method, growth),
        )
        return os.path.join(folder, name)
    return processor(_workplace(path, cache, digest), action, caller)


def unpack(kind: str, path: str, folder: str, choose: Choose, growth: int) -> None:
    """Unpack an archive (``"Unzip"``, ``"Untar"``) into a folder that nobody else writes to."""
    _WORK[kind](path, folder, choose, _Budget.of(path, growth))


def names(kind: str, path: str) -> list[str]:
    """Return the names of an archive's members."""
    found: list[str] = []

    def none(names: list[str]) -> Collection[str]:
        found.extend(names)
        return ()

    _WORK[kind](path, "", none, _Budget(path, 0))
    return found


def _workplace(path: str, cache: Cache, digest: Digest) -> str:
    """Return the file under a name beside which a foreign processor may write."""
    base = os.path.basename(path)
    folder = cache.derived(
        digest, f"beside {base}", lambda aside: cache.share(path, os.path.join(aside, base))
    )
    return os.path.join(folder, base)


class _Budget:
    """Counts the bytes that an archive grows to."""

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.used = 0

    @classmethod
    def of(cls, path: str, growth: int) -> _Budget:
        return cls(path, max(_ALWAYS_ALLOWED, growth * os.path.getsize(path)))

    def add(self, count: int) -> None:
        self.used += count
        if self.used > self.limit:
            raise ExtractionError(
                f"{self.path} grows past {self.limit} bytes; refused",
                hint="if that is right, raise the setting extract_limit",
            )

    def copy(self, source: IO[bytes], target: str) -> None:
        fs.make_dirs(os.path.dirname(target))
        # of members of one name the last counts, as tar has it; the folder is ours, without links
        with open(target, "wb") as file:
            while data := source.read(1 << 20):
                self.add(len(data))
                file.write(data)
        fs.follow_mode(target, 0o666)


def _wanted(name: str, members: list[str]) -> bool:
    """Return True if a member is one of those asked for, or below a folder that is."""
    clean = os.path.normpath(name)
    chosen = (os.path.normpath(member) for member in members)
    return not members or any(clean == one or clean.startswith(one + os.sep) for one in chosen)


def _target(path: str, folder: str, name: str) -> str:
    clean = name.rstrip("/")
    while clean.startswith("./"):
        clean = clean[2:]
    try:
        fs.safe_name(clean)
    except UnsafeNameError as error:
        raise ExtractionError(f"{path} has the member {name!r}: {error.message}") from None
    return os.path.join(folder, *clean.split("/"))


def _asked_for(path: str, members: list[str]) -> Choose:
    """Return the choice of the members asked for; one that is not there is an error."""

    def choose(names: list[str]) -> Collection[str]:
        for member in members:
            if not any(_wanted(name, [member]) for name in names):
                import difflib

                close = difflib.get_close_matches(member, names, 3)
                raise ExtractionError(
                    f"{path} has no member {member!r}",
                    hint=f"did you mean {' or '.join(close)}?" if close else None,
                )
        return {name for name in names if _wanted(name, members)}

    return choose


def _damages(*own: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what reading a damaged archive raises, and the errors of its kind."""
    import lzma
    import zlib

    return *own, EOFError, OSError, ValueError, lzma.LZMAError, zlib.error


def _unreadable(path: str, kind: str, error: Exception) -> NoReturn:
    """Raise that the archive is damaged, unless the error is the disk's own."""
    problem = f"cannot be read as {kind}: {error}"
    if isinstance(error, (NotADirectoryError, IsADirectoryError)):
        problem = f"has a member that is a file and a folder: {error.filename}"
    elif getattr(error, "errno", None) not in (None, errno.EINVAL):
        raise error  # EINVAL comes of a damaged offset, which sends the reader before the start
    raise ExtractionError(f"{path} {problem}") from error


def _unzip(path: str, folder: str, choose: Choose, budget: _Budget) -> None:
    import struct
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = choose([info.filename for info in infos])
            chosen = [info for info in infos if info.filename in names]
            if sum(info.file_size for info in chosen) > budget.limit:
                budget.add(budget.limit + 1)  # refused before anything is written
            for info in chosen:
                _unzip_one(archive, info, folder, budget)
    except _damages(zipfile.BadZipFile, RuntimeError, struct.error) as error:
        _unreadable(path, "a zip archive", error)


def _unzip_one(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: str, budget: _Budget
) -> None:
    target = _target(budget.path, folder, info.filename)
    mode = info.external_attr >> 16
    if info.is_dir():
        fs.make_dirs(target)
    elif mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ExtractionError(f"{budget.path}: the member {info.filename!r} is a link or a device")
    else:
        with archive.open(info) as source:
            budget.copy(source, target)


def _untar(path: str, folder: str, choose: Choose, budget: _Budget) -> None:
    import tarfile

    try:
        with tarfile.open(path) as archive:
            infos = archive.getmembers()
            names = choose([info.name for info in infos])
            # a link may say "a" for the member "./a"
            by_name = {os.path.normpath(info.name): info for info in infos}
            for info in infos:
                if info.name in names:
                    _untar_one(archive, info, by_name, folder, budget)
    except _damages(tarfile.TarError) as error:
        _unreadable(path, "a tar archive", error)


def _untar_one(
    archive: tarfile.TarFile,
    info: tarfile.TarInfo,
    by_name: dict[str, tarfile.TarInfo],
    folder: str,
    budget: _Budget,
) -> None:
    if info.name.strip("./") == "":
        return
    target = _target(budget.path, folder, info.name)
    if info.isdir():
        fs.make_dirs(target)
        return
    if info.issym() or info.islnk():
        info = _link_target(by_name, info, budget.path)
    if not info.isfile():
        raise ExtractionError(f"{budget.path}: the member {info.name!r} is no file")
    source = archive.extractfile(info)
    if source is not None:
        with source:
            budget.copy(source, target)


def _link_target(
    by_name: dict[str, tarfile.TarInfo], info: tarfile.TarInfo, path: str
) -> tarfile.TarInfo:
    """Return the member whose bytes a link stands for; they are copied, links are never made."""
    for _ in range(40):
        base = os.path.dirname(info.name) if info.issym() else ""
        name = os.path.normpath(os.path.join(base, info.linkname))
        if name.split(os.sep)[0] == ".." or os.path.isabs(info.linkname):
            raise ExtractionError(f"{path}: the link {info.name!r} leaves the archive")
        try:
            info = by_name[name]
        except KeyError:
            raise ExtractionError(f"{path}: the link {info.name!r} leads nowhere") from None
        if not (info.issym() or info.islnk()):
            return info
    raise ExtractionError(f"{path}: the link {info.name!r} goes in a circle")


_WORK = {"Unzip": _unzip, "Untar": _untar}

_SUFFIXES = {".xz": "lzma", ".gz": "gzip", ".bz2": "bzip2"}
_MODULES = {"lzma": "lzma", "xz": "lzma", "gzip": "gzip", "bzip2": "bz2"}


def decompress(path: str, target: str, method: str, growth: int) -> None:
    """Decompress a file; by its suffix if ``method`` is ``"auto"``."""
    import importlib

    if method == "auto":
        method = _SUFFIXES.get(os.path.splitext(path)[1].lower(), method)
    if method not in _MODULES:
        known = ", ".join([*_MODULES, *_SUFFIXES])
        raise ExtractionError(f"cannot tell how {path} is compressed (known: {known})")
    try:
        with importlib.import_module(_MODULES[method]).open(path) as source:
            _Budget.of(path, growth).copy(source, target)
    except _damages() as error:
        _unreadable(path, method, error)
