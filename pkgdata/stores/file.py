"""A folder as a store, and what stores share that have folders.

A folder has no place for a ``Content-Encoding``: an object that is stored compressed is a file
whose name has the encoding's suffix (``.gz``, ``.br``, ``.zstd``, ``.xz``, ``.bz2``). A name that
is no file is looked for with each suffix; listings show files as they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

from ..base import disk, fs, owners, urls
from ..base.config import conf
from ..errors import (
    AccessDeniedError,
    IncompleteTransferError,
    ObjectNotFoundError,
    StoreError,
    UnsafeNameError,
)
from .base import Primitives
from .codecs import SUFFIXES
from .objects import WHOLE, Attributes, Blocks, Body, Feed, Info, already_there
from .store import Store

Rows = Callable[[str], Iterable[tuple[str, Info]]]


def walk(
    rows: Rows, prefix: str, flat: bool, shown: Callable[[str], bool]
) -> Iterator[tuple[str, Info]]:
    """Yield the sorted names of a tree that begin with a prefix.

    ``rows`` lists one folder, ``""`` or a name that ends in a slash; so end the folders in it. Of
    files that are being written those are listed that are `shown`.
    """
    folder = prefix.rpartition("/")[0]
    if folder:
        fs.safe_key(folder)
    for name, info in _level(rows, folder + "/" if folder else "", prefix, flat):
        if not owners.is_aside(name) or shown(name):
            yield name, info


def _level(rows: Rows, folder: str, prefix: str, flat: bool) -> Iterator[tuple[str, Info]]:
    # a folder stands where its files belong among the names: "a.b" < "a/b"
    for name, info in sorted(rows(folder), key=itemgetter(0)):
        is_folder, begins = name.endswith("/"), name.startswith(prefix)
        if is_folder and not flat:
            if begins or prefix.startswith(name):
                yield from _level(rows, name, prefix, flat)
        elif begins:
            yield name, info


class TreeStore(Store):
    """A folder of a file system in which nothing is atomic but a rename."""

    #: Path of the folder, which an object's name is appended to.
    root = ""

    def path(self, name: str) -> str:
        """Return the path of an object."""
        return f"{self.root}/{fs.safe_key(name)}" if name else self.root

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        path = self.path(name)
        aside = owners.aside(path)
        feed = Feed(blocks)
        try:
            self._send(aside, feed, kept)
            self._appear(aside, path, if_absent)
        except BaseException as error:
            self._forget(aside)
            if feed.failure is not None:
                raise feed.failure from None
            if isinstance(error, Exception):
                raise self._error(error, name) from error
            raise

    def scan(self, prefix: str = "", flat: bool = False) -> Iterator[tuple[str, Info]]:
        return walk(self._rows, prefix, flat, lambda _: self.shows_unfinished)

    def _rows(self, folder: str) -> Iterable[tuple[str, Info]]:
        """List one folder; see `walk`."""
        raise NotImplementedError

    def _send(self, aside: str, feed: Feed, kept: Attributes) -> None:
        """Write a new file, and the folders that it needs."""
        raise NotImplementedError

    def _appear(self, aside: str, path: str, if_absent: bool) -> None:
        """Give a file that is complete its name."""
        raise NotImplementedError

    def is_folder(self, name: str) -> bool:
        """Return True if a name is that of a folder; False too if the store cannot tell."""
        return False

    def remove_folder(self, name: str) -> None:
        """Remove a folder if it is empty, and if the store can."""

    def _forget(self, aside: str) -> None:
        """Remove a file that is not complete; errors are none of the caller's concern."""
        raise NotImplementedError


def same_names(folder: str) -> Callable[[str], str] | None:
    """Return what makes equal the names that mean one file in a folder; None if none do.

    Some file systems ignore case, some the forms in which Unicode writes a letter.
    """
    probe = owners.aside(os.path.join(folder, "\u00e9"))
    name = os.path.basename(probe)
    try:
        fs.make_dirs(folder, follow=False)
        os.close(fs.create_exclusive(probe, follow=False))
        cases = os.path.exists(os.path.join(folder, name.upper()))
        forms = os.path.exists(os.path.join(folder, "e\u0301" + name[1:]))
        fs.remove(probe)
    except OSError:
        return None  # nothing can be written there
    if not (cases or forms):
        return None

    def same(name: str) -> str:
        name = unicodedata.normalize("NFC", name) if forms else name
        return name.casefold() if cases else name

    return same


def _listed(name: str, entry: os.DirEntry[str]) -> Iterator[tuple[str, Info]]:
    """Yield a file, or what cannot be read as one: to leave it out silently would be a loss."""
    try:
        if entry.is_file():
            found = entry.stat()
            yield name, Info(found.st_size, _validator(found), found.st_mtime)
            return
    except OSError:
        pass  # it was removed just now, or is a link in a circle or to where nobody may look
    if os.path.lexists(entry.path):
        yield name, Info(None)  # a pipe, a socket, a device


def _remove_leftovers(paths: Iterable[str]) -> None:
    for path in paths:
        if owners.is_aside(path) and owners.is_leftover(path):
            with contextlib.suppress(OSError):
                fs.remove(path)


class FileBody(Body):
    """An open file; its descriptor is closed with the body."""

    def __init__(self, fd: int, start: int, address: str, encoding: str | None = None) -> None:
        found = os.fstat(fd)
        super().__init__(start, found.st_size, _validator(found), "file")
        self._fd = fd
        self._address = address
        self.attributes = Attributes(
            encoding=encoding, modified=found.st_mtime, mode=found.st_mode & 0o777
        )
        os.lseek(fd, start, os.SEEK_SET)

    def readinto(self, buffer: memoryview) -> int:
        try:
            if hasattr(os, "readv"):
                return os.readv(self._fd, [buffer])
            data = os.read(self._fd, len(buffer))
        except OSError as error:
            text = f"{self._address}: reading broke off: {error.strerror or error}"
            raise IncompleteTransferError(text, url=self._address, expected=self.size) from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _where_link_leads(path: str) -> str:
    if not os.path.islink(path):
        return ""
    return f"; it is a link to {os.readlink(path)}"


def _nanoseconds(seconds: float) -> int:
    return int(seconds // 1) * 10**9 + round(seconds % 1 * 1e9)  # the product would be rounded


def _no_file(found: os.stat_result) -> str:
    return "it is a directory, not a file" if stat.S_ISDIR(found.st_mode) else fs.SPECIAL


def _validator(found: os.stat_result) -> str:
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"


class FileStore(Store):
    """The files below a folder, or one file when the name is empty.

    ``localhost`` may stand as the URL's host. Of attributes the encoding is kept, as a suffix, and
    ``public``, mode and time. New files and folders have the modes that the umask lets them have:
    following the folder above is for shared caches.
    """

    near = suffixed = True

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        path = urls.file_path(self._url)
        if path is None:
            raise StoreError(
                f"{self.url}: a file URL names no other host", hint="write file:///folder"
            )
        self.root = path.rstrip("/") or "/"
        #: Bulk writes under way, and whether each file is synced in them.
        self._bulk, self._syncs_each = 0, False
        #: Folders that were swept, and files not complete that listings came across.
        self._swept: set[str] = set()
        self._unfinished: list[str] = []

    def _path(self, name: str) -> str:
        return os.path.join(self.root, *fs.safe_name(name).split("/")) if name else self.root

    def _find(self, name: str) -> tuple[str, Attributes]:
        """Return the path of an object, which may have the suffix of an encoding."""
        path = self._path(name)
        if not self.exact and not os.path.isfile(path):
            for encoding, suffix in SUFFIXES.items():
                if os.path.isfile(path + suffix):
                    return path + suffix, Attributes(encoding=encoding)
        return path, Attributes()

    def _error(self, error: Exception, name: str) -> StoreError:
        assert isinstance(error, OSError)
        address = self.address(name)
        reason = fs.SPECIAL if error.errno == errno.ENXIO else error.strerror or error
        text = f"{address}: {reason}"
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
            text += _where_link_leads(self._path(name))
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return ObjectNotFoundError(text, url=address)
        if error.errno == errno.EEXIST:
            return already_there(address)
        if error.errno in fs.UNWRITABLE:
            return AccessDeniedError(text, url=address)
        return StoreError(text, url=address, transient=error.errno in (errno.EIO, errno.ESTALE))

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        path, attributes = self._find(name)
        with self._naming(name):
            fd = os.open(path, fs.READING)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise self._error(OSError(errno.EISDIR, _no_file(found)), name)
            if start > found.st_size or validator not in (None, _validator(found)):
                start = 0
            return FileBody(fd, start, self.address(name), attributes.encoding)
        except BaseException:
            os.close(fd)
            raise

    def info(self, name: str) -> Info:
        path, attributes = self._find(name)
        with self._naming(name):
            found = os.stat(path)
        if stat.S_ISDIR(found.st_mode) and name:
            raise self._error(OSError(errno.ENOENT, _no_file(found)), name)
        return Info(found.st_size, _validator(found), found.st_mtime, attributes=attributes)

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        plain = self._path(name)
        path = plain + SUFFIXES.get(kept.encoding or "", "")
        if if_absent and self._stands(name, path):
            raise self._error(OSError(errno.EEXIST, ""), name)
        self._sweep(os.path.dirname(path))
        file_bits, folder_bits = (0o444, 0o555) if kept.public else (0, 0)
        how = {"sync": self._syncs(), "if_absent": if_absent, "bits": file_bits}
        if kept.mode is not None:
            how["mode"] = kept.mode
        if kept.modified is not None:
            how["modified"] = _nanoseconds(kept.modified)
        feed = Feed(blocks)
        try:
            try:
                fs.write_blocks(path, feed, **how)
            except FileNotFoundError:  # asking first would cost a call for each file
                if feed.failure is not None:
                    raise  # the blocks are used up: a second try would write an empty file
                fs.make_dirs(os.path.dirname(path), folder_bits, follow=False)
                fs.write_blocks(path, feed, **how)
            self._uncover(plain, path)
        except OSError as error:
            if feed.failure is not None:
                raise
            raise self._error(error, name) from error

    def set_time(self, name: str, modified: float) -> None:
        """Set when a file was modified, in seconds since the epoch."""
        with self._naming(name):
            os.utime(self._find(name)[0], ns=(_nanoseconds(modified),) * 2)

    def _stands(self, name: str, path: str) -> bool:
        """Return True if an object is there in another file than the one to be written."""
        found = self._find(name)[0]
        # for the one to be written the write itself looks, so that of two at once one succeeds
        return not self.exact and found != path and os.path.isfile(found)

    def _uncover(self, plain: str, path: str) -> None:
        """Remove what would be found before the file that was written: what it replaces."""
        for suffix in ("", *SUFFIXES.values()):
            if plain + suffix == path:
                return
            try:
                fs.remove(plain + suffix)
            except OSError:
                if not os.path.isdir(plain + suffix):
                    raise

    def _syncs(self) -> bool:
        if self._bulk:
            return self._syncs_each
        return str(conf.durability) != "none"

    def same_names(self) -> Callable[[str], str] | None:
        self._sweep(self.root)  # of a file that was made to find out, too
        return same_names(self.root)

    def free_bytes(self) -> int | None:
        return disk.free_bytes(self.root)

    def leftovers(self) -> Iterator[str]:
        found = fs.walk_files(self.root) if os.path.isdir(self.root) else ()
        return (name for name, _ in found if owners.is_aside(name) and owners.is_leftover(name))

    def _is_shown(self, name: str) -> bool:
        self._unfinished.append(os.path.join(self.root, name))
        return self.shows_unfinished

    def _sweep(self, folder: str) -> None:
        """Remove what killed processes left in a folder, before it is written to first."""
        if folder not in self._swept:
            self._swept.add(folder)
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                _remove_leftovers([entry.path for entry in entries])

    @contextlib.contextmanager
    def bulk(self) -> Iterator[None]:
        """Count the bulk writes under way; the end of one syncs all of the folder, and sweeps."""
        together = disk.can_sync_all()
        self._syncs_each = conf.durability in (("each",) if together else ("each", "batch"))
        self._bulk += 1
        try:
            yield
        finally:
            self._bulk -= 1
            _remove_leftovers(self._unfinished)
            if together and conf.durability == "batch" and os.path.isdir(self.root):
                disk.sync_all(self.root)

    def scan(self, prefix: str = "", flat: bool = False) -> Iterator[tuple[str, Info]]:
        chains: dict[str, list[os.stat_result]] = {}  # the folders above each, and itself

        def rows(folder: str) -> Iterator[tuple[str, Info]]:
            try:
                path = os.path.join(self.root, *folder.split("/"))
                above = chains.pop(folder, None) or [os.stat(path)]
                with os.scandir(path) as found:
                    entries = [*found]
            except (FileNotFoundError, NotADirectoryError):
                return  # no folder: nothing begins with this
            for entry in entries:
                name = folder + entry.name
                # of a link in a circle, `is_dir` raises
                if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                    here = entry.stat()
                    readable = os.access(entry.path, os.R_OK | os.X_OK)
                    if readable and not any(os.path.samestat(here, other) for other in above):
                        chains[f"{name}/"] = [*above, here]
                        yield f"{name}/", Info(None)
                    elif name.startswith(prefix):
                        yield name, Info(None)  # reading it will say why
                elif name.startswith(prefix):
                    yield from _listed(name, entry)

        try:
            yield from walk(rows, prefix, flat, self._is_shown)
        except OSError as error:
            raise error if isinstance(error, StoreError) else self._error(error, prefix) from error

    def is_folder(self, name: str) -> bool:
        """Return True if a name is that of a folder."""
        return os.path.isdir(self._path(name))

    def remove_folder(self, name: str) -> None:
        """Remove a folder if it is empty."""
        with contextlib.suppress(OSError):  # something is left in it
            os.rmdir(self._path(name))

    def remove(self, name: str) -> None:
        path, _ = self._find(name)
        try:
            fs.remove(path)
        except (NotADirectoryError, IsADirectoryError):
            pass  # a part of the name is a file, or all of it a folder: there is no such object
        except OSError as error:
            if os.path.isdir(path):
                return  # how macOS and Windows say the same
            raise self._error(error, name) from error

    def clone(self, name: str, source: Primitives, source_name: str) -> bool:
        if not isinstance(source, FileStore):
            return False
        origin, attributes = source._find(source_name)
        target = self._path(name) + SUFFIXES.get(attributes.encoding or "", "")
        # what cannot be read is the source's error, not ours
        with source.open(source_name) as body:
            large = (body.size or 0) > WHOLE
        with self._naming(name):
            fs.make_dirs(os.path.dirname(target), follow=False)
            self._sweep(os.path.dirname(target))
            if os.path.exists(target) and os.path.samefile(origin, target):
                return True
            # else in blocks, so that it is seen how far it is, and it can be ended
            if not fs.copy_atomic(origin, target, self._syncs(), alike=True, by_blocks=not large):
                return False
            self._uncover(self._path(name), target)
        return True

    def adopt(self, name: str, source: Primitives, source_name: str) -> bool:
        if not isinstance(source, FileStore):
            return False
        origin, attributes = source._find(source_name)
        target = self._path(name) + SUFFIXES.get(attributes.encoding or "", "")
        if not os.path.isfile(origin):
            return False  # the copy words the error
        try:
            fs.make_dirs(os.path.dirname(target), follow=False)
            self._sweep(os.path.dirname(target))
            fs.replace(origin, target)
            self._uncover(self._path(name), target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise self._error(error, name) from error
        return True

    def same(self, name: str, other: Primitives, other_name: str) -> bool:
        if not isinstance(other, FileStore):
            return False
        try:
            return os.path.samefile(self._find(name)[0], other._find(other_name)[0])
        except (OSError, UnsafeNameError):
            return False  # one of them is not there
