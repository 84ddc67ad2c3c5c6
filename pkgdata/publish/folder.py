"""A folder that a web server shows, such as a computing centre's portal: ``file:/web/folder``.

A file appears under its name complete and readable, and is never replaced unless that was asked
for: it is written aside, synced, given its permissions, and then linked or renamed to its name.
Small files are synced as a group, since a sync for each of thousands takes longer than copying.
"""

from __future__ import annotations

import errno
import os

from ..base import fs, owners
from ..base.urls import canonical, redact
from ..errors import AccessDeniedError, ObjectExistsError, PublishError, StoreError
from .destination import Destination, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .destination import Item

#: Bytes per read; between two of them the progress is told.
_BLOCK = 1 << 22

#: A group is synced when it has so many bytes or files.
_GROUP_BYTES, _GROUP_FILES = 1 << 26, 256

#: What a web server, which is another user, needs of files and of directories.
_FILE_BITS, _FOLDER_BITS = 0o444, 0o555


class Folder(Destination):
    """A web folder on this machine.

    Parameters
    ----------
    url : str
        ``file:/folder`` or ``file:///folder``.
    public_url : str, optional
        Where the web shows it; without it the files are read back from the folder itself.

    Raises
    ------
    PublishError
        The URL is malformed.
    """

    near = True
    shows_pages = True

    def __init__(self, url: str, public_url: str | None = None) -> None:
        super().__init__(url)
        self.root = _path_of(url)
        self._public = public_url
        self._group = _Group()
        self._leftovers: list[str] = []

    @property
    def dataurl(self) -> str:
        return self._public or canonical(self.root)

    def check(self, items: Sequence[Item]) -> None:
        top = self.root
        while not os.path.lexists(top) and os.path.dirname(top) != top:
            top = os.path.dirname(top)
        if not os.path.isdir(top):
            raise PublishError(f"{self.url}: {top} is not a directory")
        if not os.access(top, os.W_OK | os.X_OK):
            raise AccessDeniedError(f"{self.url}: {top} cannot be written to", url=self.url)

    def held(self) -> Mapping[str, Held]:
        if not os.path.isdir(self.root):
            return {}
        try:
            found = [*fs.walk_files(self.root)]
            self._leftovers = [
                path for name, path in found if owners.is_aside(name) and owners.is_leftover(name)
            ]
            complete = [pair for pair in found if not owners.is_aside(pair[0])]
            return {name: Held(os.stat(path).st_size) for name, path in complete}
        except OSError as error:
            raise self._error(error, error.filename or self.root) from error

    def same(self, item: Item, held: Held) -> bool:
        from ..base import hashes

        try:
            return hashes.hash_file(self._path(item.name), item.digest.alg) == item.digest
        except OSError as error:
            raise self._error(error, self._path(item.name)) from error

    def unfinished(self) -> bool:
        return bool(self._leftovers)

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        for path in self._leftovers:
            fs.remove(path)
        self._leftovers = []
        needed = sum(item.size for item in (*new, *replaced))
        free = fs.free_bytes(self.root)
        if free is not None and needed > free:
            raise PublishError(f"{self.url}: {needed} bytes are to be written, {free} are free")
        try:
            _make_folders(self.root, self.root)
        except OSError as error:
            raise self._error(error, self.root) from error

    def put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        target = self._path(item.name)
        try:
            _make_folders(os.path.dirname(target), self.root)
            aside = owners.aside(target)
            try:
                _copy(item, aside, moved)
                item.check_unchanged()
            except BaseException:
                fs.remove(aside)
                raise
            self._group.add(aside, target, replace, item.size)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise self._error(error, target) from error
        return Held(item.size, item.digest)

    def finish(self) -> Mapping[str, str]:
        try:
            self._group.commit()
        except OSError as error:
            raise self._error(error, error.filename2 or error.filename or self.root) from error
        return {}

    def close(self) -> None:
        self.finish()

    def advice(self) -> str | None:
        return (
            f"The web server must be able to enter every folder above {self.root} (chmod o+x), "
            "and the address given with --url must show this very folder."
        )

    def _path(self, name: str) -> str:
        return os.path.join(self.root, *fs.safe_name(name).split("/"))

    def _error(self, error: OSError, path: str) -> StoreError:
        address = f"file:{path}"
        text = f"{path}: {error.strerror or error}"
        if error.errno == errno.EEXIST:
            return ObjectExistsError(f"{path} is there already", url=address)
        if error.errno in fs.UNWRITABLE:
            return AccessDeniedError(text, url=address)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "make room on the file system, or ask for more quota" if full else None
        return StoreError(text, url=address, hint=hint)


class _Group:
    """Files that are complete but for a sync, and get their names together."""

    def __init__(self) -> None:
        import threading

        self._lock = threading.Lock()
        self._files: list[tuple[str, str, bool]] = []
        self._bytes = 0

    def add(self, aside: str, target: str, replace: bool, size: int) -> None:
        with self._lock:
            self._files.append((aside, target, replace))
            self._bytes += size
            full = self._bytes >= _GROUP_BYTES or len(self._files) >= _GROUP_FILES
        if full:
            self.commit()

    def commit(self) -> None:
        with self._lock:
            files, self._files, self._bytes = self._files, [], 0
        if not files:
            return
        try:
            _sync([aside for aside, _, _ in files])
            for aside, target, replace in files:
                _appear(aside, target, replace)
        finally:
            for aside, _, _ in files:
                fs.remove(aside)


def _sync(paths: Sequence[str]) -> None:
    from ..base.config import conf

    if conf.durability == "none":
        return
    if fs.can_sync_all():
        fs.sync_all(os.path.dirname(paths[0]))
        return
    for path in paths:
        fd = os.open(path, os.O_RDWR)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _path_of(url: str) -> str:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise PublishError(f"{redact(url)}: expected file:/FOLDER with an absolute path")
    return url2pathname(parts.path).rstrip("/") or "/"


def _make_folders(path: str, root: str) -> None:
    """Make a directory and its parents, each so that a web server can enter it."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent != path:
        _make_folders(parent, root)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way", path) from None
        return
    _add_bits(path, _FOLDER_BITS)


def _add_bits(path: str, bits: int) -> None:
    if fs.WINDOWS:
        return
    mode = os.stat(path).st_mode & 0o7777
    if mode & bits != bits:
        os.chmod(path, mode | bits)


def _blocks(item: Item, moved: Callable[[int], None]) -> Iterator[memoryview]:
    # one byte more, so that a file that has grown is noticed
    buffer = memoryview(bytearray(min(_BLOCK, item.size + 1)))
    done = 0
    with open(item.path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]
            done += count
            moved(done)


def _copy(item: Item, aside: str, moved: Callable[[int], None]) -> None:
    """Copy a file, and make sure that the copy has the right bytes before anybody sees it."""
    from ..base import hashes
    from ..errors import IntegrityError

    hasher = hashes.new(item.digest.alg)
    fd = fs.create_exclusive(aside)
    try:
        for block in _blocks(item, moved):
            hasher.update(block)
            fs.write_all(fd, block)
    finally:
        os.close(fd)
    _add_bits(aside, _FILE_BITS)
    if hasher.hexdigest() != item.digest.hex:
        raise IntegrityError(
            f"{item.path} changed while it was published",
            hint="let no other program write to it, then run the same command again",
            name=item.name,
            source=item.path,
            expected=str(item.digest),
            actual=f"{item.digest.alg}:{hasher.hexdigest()}",
        )


def _appear(aside: str, target: str, replace: bool) -> None:
    """Give a complete file its name; only a link fails for certain if the name is taken."""
    if replace:
        fs.replace(aside, target)
        return
    try:
        os.link(aside, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name was free a moment ago
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "it is there already", target) from None
        fs.replace(aside, target)
