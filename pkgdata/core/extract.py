"""Archives and compressed files are unpacked safely: within limits, and never out of their folder.

`apply` takes any callable of pooch's signature, ``processor(path, action, pooch)``. pooch's own
`Unzip`, `Untar` and `Decompress` are carried out here with their arguments: into a directory of its
own that appears only when it is complete, keyed by the archive's digest and the members.

1. Members that leave the folder and devices refuse the archive.
2. Links are never made. What they lead to is copied, folders too; a link that leaves the archive,
   leads nowhere or into itself is skipped with a warning.
3. Bytes, members and the length of a tar's headers have limits; what links stand for counts.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import posixpath
import stat
import types
from typing import NamedTuple

from .. import errors
from ..base import fs
from ..base.config import conf
from ..errors import ExtractionError
from ..stores import codecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    import zipfile
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import IO, Any

    from ..base.hashes import Digest
    from ..cache.objects import Cache

    #: Called with the names of all members; returns those to unpack.
    Choose = Callable[[list[str]], Collection[str]]

    #: Members, and what opens one by its number, which must grow from call to call.
    Archive = tuple[list["Member"], Callable[[int], IO[bytes]]]

#: Bytes that the headers of one tar member may have, which are in memory: name, link, pax values.
_LONGEST_HEADER = 1 << 16

#: Characters that names may have on average, and their folders: all of them are in memory.
_LONG_NAMES = 256


class Growth(NamedTuple):
    """How much an archive may become, by the settings ``extract_limit`` and ``extract_members``."""

    factor: int
    members: int

    @classmethod
    def of(cls, setting: Callable[[str], Any] = conf.__getattr__) -> Growth:
        """Return what settings allow, those of `conf` by default."""
        return cls(setting("extract_limit"), setting("extract_members"))


def apply(
    processor: Callable[[str, str, Any], Any],
    path: str,
    action: str,
    caller: object,
    cache: Cache,
    digest: Digest,
    growth: Growth,
) -> Any:
    """Run a processor, of pooch's or any callable of their signature, on a fetched file.

    ``action`` and ``caller`` are passed on. ``Unzip`` and ``Untar`` give a list of paths,
    ``Decompress`` gives one.
    """
    kind = type(processor).__name__ if type(processor).__module__ == "pooch.processors" else ""
    if kind in _READERS:
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


def unpack(kind: str, path: str, folder: str, choose: Choose, growth: Growth) -> None:
    """Unpack an archive (``"Unzip"``, ``"Untar"``) into a folder that nobody else writes to."""
    with guarded(kind, path), _READERS[kind](path, growth) as (found, opened):
        chosen = set(choose([member.name for member in found]))
        if not chosen:
            return
        tree = Tree(path, found, growth)
        for number, member in enumerate(found):
            if member.name in chosen:
                tree.choose(number, member)
        tree.report(not tree.made and not tree.empty)
        budget = codecs.Budget.of(path, growth.factor)
        if sum(found[number].size for number in tree.made.values()) > budget.limit:
            budget.add(budget.limit + 1)  # refused before anything is written
        for name in tree.empty:
            fs.make_dirs(os.path.join(folder, *name.split("/")))
        number, target = -1, ""
        for name, following in sorted(tree.made.items(), key=lambda made: made[1]):
            # what links lead to stands under several names, and is read once
            same = following == number
            with open(target, "rb") if same else opened(following) as source:
                number, target = following, os.path.join(folder, *name.split("/"))
                budget.copy(source, target)


def decompress(path: str, target: str, method: str, growth: Growth) -> None:
    """Decompress a file; by its suffix if ``method`` is ``"auto"``."""
    found = codecs.method_of(path, method)
    if found is None:
        kind = kind_of(path)
        known = ", ".join([*codecs.SUFFIXES, *codecs.ENDINGS])
        raise ExtractionError(
            f"cannot tell how {path} is compressed (known: {known})",
            hint=f"it is an archive: use pkgdata.{kind}() instead" if kind else None,
        )
    with guarded(found, path), codecs.opened(path, found) as source:
        codecs.Budget.of(path, growth.factor).copy(source, target)


def names(kind: str, path: str) -> list[str]:
    """Return the names of an archive's members."""
    with guarded(kind, path), _READERS[kind](path, Growth.of()) as (found, _):
        return [member.name for member in found]


def kind_of(path: str) -> str | None:
    """Return ``"Unzip"`` for a zip archive, ``"Untar"`` for a tar, by the bytes; else None."""
    import zipfile

    try:  # tar first: one that ends with a zip looks like a zip
        with guarded("Untar", path), codecs.opened(path, codecs.packed_by(path)) as file:
            next(tar_members(file, path, Growth.of()), None)
    except ExtractionError:
        return "Unzip" if zipfile.is_zipfile(path) else None
    return "Untar"


def _workplace(path: str, cache: Cache, digest: Digest) -> str:
    """Return the file under a name beside which a foreign processor may write."""
    base = os.path.basename(path)
    folder = cache.derived(
        digest, f"beside {base}", lambda aside: cache.share(path, os.path.join(aside, base))
    )
    return os.path.join(folder, base)


def _too_many(path: str, problem: str) -> ExtractionError:
    hint = "if that is right, raise the setting extract_members"
    return ExtractionError(f"{path} {problem}; refused", hint=hint)


def _asked_for(path: str, members: list[str]) -> Choose:
    """Return the choice of the members asked for, and below them; one not there is an error."""
    wanted = {os.path.normpath(member): member for member in members}
    depths = {len(clean.split(os.sep)) for clean in wanted}

    def choose(names: list[str]) -> Collection[str]:
        missing, chosen = dict(wanted), set[str]()
        for name in names if members else ():
            parts = os.path.normpath(name).split(os.sep)
            for above in {os.sep.join(parts[:depth]) for depth in depths} & wanted.keys():
                missing.pop(above, None)
                chosen.add(name)
        for member in missing.values():
            import difflib

            close = difflib.get_close_matches(member, names, 3)
            raise ExtractionError(
                f"{path} has no member {member!r}",
                hint=f"did you mean {' or '.join(close)}?" if close else None,
            )
        return chosen if members else names

    return choose


# -- members, and what links lead to ---------------------------------------------------------------


class Member(NamedTuple):
    """What an archive says of one of its members; ``link`` begins at the archive's root."""

    name: str
    size: int = 0
    folder: bool = False
    link: str | None = None
    odd: bool = False


def _clean(name: str) -> str:
    """Return a name without empty parts and dots; empty for the root."""
    start = "/" if name.startswith("/") else ""
    return start + "/".join(part for part in name.split("/") if part not in ("", "."))


def checked_name(path: str, member: Member) -> str:
    """Return the clean name of a member, empty for the root; raise if it refuses the archive."""
    name = _clean(member.name)
    problem = ", which is a device or a pipe" if member.odd else ""
    try:
        if name:
            fs.safe_name(name)
    except errors.UnsafeNameError as error:
        problem = f": {error.message}"
    if problem:
        raise ExtractionError(f"{path} has the member {member.name!r}{problem}")
    return name


class Tree:
    """The files that an archive's names stand for, once links are followed."""

    def __init__(self, path: str, members: Sequence[Member], growth: Growth) -> None:
        self.made: dict[str, int] = {}  # names to write; the number of the member with the bytes
        self.empty: list[str] = []  # folders
        self._path = path
        self._files: dict[str, int] = {}
        self._links: dict[str, str] = {}
        self._folders: dict[str, list[str]] = {"": []}
        self._skipped: dict[str, str] = {}
        # links to folders that hold links multiply: 442 bytes can stand for 111,111 files
        self._left = self._most = max(len(members), growth.members // 100)
        self._letters = growth.members * _LONG_NAMES
        for number, member in enumerate(members):
            name = _clean(member.name)
            if name and not name.startswith("/") and ".." not in name.split("/"):
                self._add(number, member, name)

    def _add(self, number: int, member: Member, name: str) -> None:
        if member.link is not None and name in self._files and _clean(member.link) == name:
            return  # a file that was packed twice is a hard link to itself
        self._files.pop(name, None)  # of members of one name the last one counts
        self._links.pop(name, None)
        if member.link is not None:
            self._links[name] = member.link
        elif not member.folder and not member.odd:
            self._files[name] = number
        if member.folder:
            self._folders.setdefault(name, [])
        while name:
            above, _, base = name.rpartition("/")
            known = above in self._folders
            self._folders.setdefault(above, []).append(base)
            self._letters -= 0 if known else len(above)
            if self._letters < 0:
                raise _too_many(self._path, "has too many folders below folders")
            name = "" if known else above

    def choose(self, number: int, member: Member) -> None:
        """Take a member, with all that it leads to."""
        name = checked_name(self._path, member)
        if member.folder and name:
            self.empty.append(name)
        elif name in self._links:
            self._follow(name)
        elif self._files.get(name) == number:
            self.made[name] = number

    def _follow(self, link: str) -> None:
        """Give a link, and links in what it leads to, the files that they stand for."""
        todo: list[tuple[str, str, tuple[str, ...]]] = [(link, link, ())]
        while todo:
            new, name, inside = todo.pop()
            if name in self._links:
                found = self._led_to(name, inside)
                if found is None:
                    continue
                name, inside = found, (*inside, found)
            self._left -= 1
            if self._left < 0:
                raise _too_many(self._path, f"has links to more than {self._most} files")
            if name in self._files:
                self.made[new] = self._files[name]
            elif name in self._folders:  # else it is a device, which is none of ours
                self.empty.append(new)
                below = dict.fromkeys(self._folders[name])
                todo += [(f"{new}/{one}", f"{name}/{one}", inside) for one in below]

    def _led_to(self, link: str, inside: tuple[str, ...]) -> str | None:
        """Return the file or folder that a link leads to; None if the link is to be skipped."""
        if link in self._folders:
            problem = f"has the member {link!r} twice, as a link and as a folder"
            raise ExtractionError(f"{self._path} {problem}")
        found, problem = self._real(link)
        if not problem and (found in inside or f"{link}/".startswith(f"{found}/") or not found):
            problem = "leads to a folder that it is in"
        if problem:
            self._skipped[link] = problem
        return None if problem else found

    def _real(self, name: str) -> tuple[str, str]:
        """Return where a name leads to, links in it followed, and what is wrong with that."""
        todo, done, links = name.split("/")[::-1], list[str](), 0
        while todo:
            part = todo.pop()
            if part == ".." and not done:
                return "", "leaves the archive"
            if part == "..":
                done.pop()
            elif part not in ("", "."):
                done.append(part)
            here = "/".join(done)
            if here in self._links:
                links += 1
                if links > 40 or self._links[here].startswith("/"):
                    return "", "goes in a circle" if links > 40 else "leaves the archive"
                todo += self._links[here].split("/")[::-1]
                done = []
            elif here not in self._folders and (here not in self._files or todo):
                return "", "leads nowhere"
        return "/".join(done), ""

    def report(self, alone: bool) -> None:
        """Warn of the links that were skipped; where they are alone, that is an error."""
        if not self._skipped:
            return
        shown = [f"{name!r} {problem}" for name, problem in list(self._skipped.items())[:10]]
        more = [f"and {len(self._skipped) - 10} more"] if len(self._skipped) > 10 else []
        text = f"{self._path} has links that are skipped: {', '.join(shown + more)}"
        if alone:
            raise ExtractionError(text)
        errors.warn(text, errors.PkgdataWarning)


# -- zip and tar -----------------------------------------------------------------------------------


def _damages() -> tuple[type[Exception], ...]:
    """Return what reading a damaged archive or compressed file raises."""
    import lzma
    import struct
    import tarfile
    import zipfile
    import zlib

    own = (zipfile.BadZipFile, tarfile.TarError, struct.error, lzma.LZMAError, zlib.error)
    return (*own, EOFError, OSError, RuntimeError, ValueError)


class guarded:
    """Raise that an archive is damaged for what reading it raises, but not for the disk's own."""

    def __init__(self, kind: str, path: str) -> None:
        self._what = {"Unzip": "a zip archive", "Untar": "a tar archive"}.get(kind, kind)
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, *rest: object) -> None:
        if error is None:
            return
        if type(error.__cause__).__name__ in ("error", "EOFError", "LZMAError", "ZstdError"):
            error = error.__cause__  # of a codec's StoreError
        elif isinstance(error, errors.PkgdataError) or not isinstance(error, _damages()):
            return
        problem = f"cannot be read as {self._what}: {error}"
        if isinstance(error, (NotADirectoryError, IsADirectoryError, FileExistsError)):
            problem = f"has a member that is a file and a folder: {error.filename}"
        # EINVAL comes of a damaged offset, which sends the reader before the start
        elif getattr(error, "errno", None) not in (None, errno.EINVAL, errno.ENAMETOOLONG):
            return
        raise ExtractionError(f"{self._path} {problem}") from error


@contextlib.contextmanager
def _zip(path: str, growth: Growth) -> Iterator[Archive]:
    import zipfile

    if codecs.zip_directory(path) // (46 + _LONG_NAMES) <= growth.members:  # it is read whole
        with zipfile.ZipFile(path) as archive:
            if len(infos := archive.infolist()) <= growth.members:
                members = [_zip_member(archive, info) for info in infos]
                yield members, lambda number: archive.open(infos[number])
                return
    raise _too_many(path, f"holds more than {growth.members} members")


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = info.filename.replace("\\", "/")  # which some tools of Windows write
    kind = stat.S_IFMT(info.external_attr >> 16)
    link = None
    if kind == stat.S_IFLNK and info.file_size <= _LONGEST_HEADER:
        link = posixpath.join(posixpath.dirname(name), os.fsdecode(archive.read(info)))
    odd = link is None and kind not in (0, stat.S_IFREG, stat.S_IFDIR)
    return Member(name, info.file_size, name.endswith("/"), link, odd)


@contextlib.contextmanager
def _tar(path: str, growth: Growth) -> Iterator[Archive]:
    import tarfile

    packed = codecs.packed_by(path)
    members: list[Member] = []
    starts: list[int] = []
    sparse: dict[int, tarfile.TarInfo] = {}
    with codecs.opened(path, packed) as file:
        for member, info, _ in tar_members(file, path, growth):
            if info.issparse():
                sparse[len(members)] = info
            members.append(member)
            starts.append(info.offset_data)
    with codecs.opened(path, packed) as file:
        whole: Any = types.SimpleNamespace(fileobj=_TarBytes(file, path, header=None))

        def opened(number: int) -> IO[bytes]:
            # parsing the headers again would take as long as all the rest
            info = tarfile.TarInfo()
            info.size, info.offset_data = members[number].size, starts[number]
            return tarfile.ExFileObject(whole, sparse.get(number, info))

        yield members, opened


_READERS = {"Unzip": _zip, "Untar": _tar}


class _TarBytes:
    """The bytes of a tar, read forwards; ``header`` is how many a member's headers may still be."""

    def __init__(self, file: Any, path: str, header: int | None = _LONGEST_HEADER) -> None:
        self.header = header
        self._file = file
        self._path = path
        self._seek = getattr(file, "seek", None)
        self._at = 0

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        if self.header is not None:
            self.header -= size
            if self.header < 0:
                problem = f"has a member with headers above {_LONGEST_HEADER} bytes; refused"
                raise ExtractionError(f"{self._path} {problem}")
        found = b""
        while len(found) < size and (block := self._file.read(size - len(found))):
            found += block
        self._at += len(found)
        return found

    def seek(self, offset: int) -> None:
        if self._seek is not None and offset != self._at:
            self._at = self._seek(offset)
        elif offset < self._at:
            raise ValueError("its members do not stand one after the other")
        while self._at < offset and (block := self._file.read(min(1 << 20, offset - self._at))):
            self._at += len(block)


def tar_members(
    file: Any, path: str, growth: Growth
) -> Iterator[tuple[Member, tarfile.TarInfo, Callable[[], IO[bytes]]]]:
    """Yield the members of a tar that is read forwards, and what opens each until the next."""
    import tarfile

    source, count, letters = _TarBytes(file, path), 0, 0
    # the source has all that tarfile calls, and less than its type asks for
    with tarfile.open(fileobj=source, mode="r:") as archive:  # type: ignore[call-overload]
        while (info := archive.next()) is not None:
            source.header = None
            archive.members.clear()  # a million of them would fill the memory
            info.pax_headers = {}
            count += 1
            letters += len(info.name) + len(info.linkname)
            if max(count, letters // _LONG_NAMES) > growth.members:
                raise _too_many(path, f"holds more than {growth.members} members")
            link = info.linkname if info.islnk() else None
            if info.issym():
                link = posixpath.join(posixpath.dirname(info.name), info.linkname)
            odd = link is None and not info.isdir() and not info.isreg()
            member = Member(info.name, info.size * info.isreg(), info.isdir(), link, odd)
            yield member, info, functools.partial(archive.extractfile, info)
            source.header = _LONGEST_HEADER
