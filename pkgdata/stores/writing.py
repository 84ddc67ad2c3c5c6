"""Writing objects: one or many, from bytes, files and paths, compressed on the way if asked for."""

from __future__ import annotations

import os

from ..base import pool
from ..errors import ConfigError, ObjectExistsError
from . import codecs
from .store import BLOCK, WHOLE, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO, Any

    from ..base.progress import Callback
    from ..base.report import Report
    from .base import Attributes
    from .store import Store


#: Bytes that a large object has in memory while it is written: its first ones and four parts.
_LARGE = 40 << 20


def guess_type(name: str) -> str:
    """Guess the media type of an object from its name.

    Returns
    -------
    str
        ``application/octet-stream`` where nothing is known, and for compressed files, so that no
        browser decodes them.
    """
    import mimetypes

    kind, encoding = mimetypes.guess_type(name, strict=False)
    return kind if kind and not encoding else "application/octet-stream"


def is_path(content: object) -> bool:
    """Say whether content is the path of a file."""
    return isinstance(content, os.PathLike)


class Put:
    """How objects are written."""

    def __init__(
        self,
        store: Store,
        attributes: Attributes,
        *,
        compress: str | None = None,
        level: int | None = None,
        if_absent: bool = False,
    ) -> None:
        self._store = store
        self._attributes = attributes
        self._compress = codecs.canonical(compress)
        self._level = level
        self._if_absent = if_absent

    def _with(self, changes: dict[str, Any]) -> Put:
        """Return one in which an item's own options stand."""
        if not changes:
            return self
        changes = dict(changes)
        mine = {
            "compress": changes.pop("compress", self._compress),
            "level": changes.pop("level", self._level),
            "if_absent": changes.pop("if_absent", self._if_absent),
        }
        try:
            attributes = self._attributes.replaced(**changes)
        except TypeError:
            unknown = ", ".join(sorted(set(changes) - set(self._attributes.__slots__)))
            raise ConfigError(f"unknown options of an object: {unknown}") from None
        return Put(self._store, attributes, **mine)

    def one(self, name: str, content: Any) -> int:
        """Write one object.

        Returns
        -------
        int
            Bytes before any compression; -1 if they were not counted.
        """
        if is_path(content):
            with open(content, "rb") as file:
                return self._file(name, file)
        if hasattr(content, "read"):
            return self._file(name, content)
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise ConfigError(
                f"{name!r}: expected bytes, a binary file or a path, "
                f"found {type(content).__name__}",
                hint="encode text first; give a path as pathlib.Path",
            )
        self._whole(name, memoryview(content).cast("B") if len(content) else b"")
        return len(content)

    def _whole(self, name: str, content: bytes | memoryview) -> None:
        store, attributes = self._store, self._attributes
        if attributes.content_type is None:
            attributes = attributes.replaced(content_type=guess_type(name))
        if self._compress:
            content = codecs.encode(content, self._compress, self._level)
            attributes = attributes.replaced(encoding=self._compress)
        write_whole(store, name, content, attributes, self._if_absent)

    def _file(self, name: str, file: IO[bytes]) -> int:
        size = _size(file, 0)
        with pool.ROOM.taking(_LARGE if size is None or size > WHOLE else 2 * size):
            return self._read(name, file)

    def _read(self, name: str, file: IO[bytes]) -> int:
        head = _head(name, file)
        if len(head) <= WHOLE:
            self._whole(name, head)
            return len(head)
        attributes = self._attributes
        if attributes.content_type is None:
            attributes = attributes.replaced(content_type=guess_type(name))
        size = _size(file, len(head))
        blocks: Iterator[bytes | memoryview] = _rest(head, file)
        if self._compress:
            blocks = codecs.encode_blocks(blocks, self._compress, self._level)
            attributes, size = attributes.replaced(encoding=self._compress), None
        self._store.write_blocks(name, blocks, attributes, self._if_absent, size)
        return -1

    def many(self, items: Iterable[Any], progress: bool | Callback | None) -> Report:
        """Write many objects at once.

        Raises
        ------
        BatchError
            Some failed.
        """
        from ..base.report import Report

        failed: list[Any] = []
        report = Report(lambda _: self.many(failed, progress))
        watch = Watch(progress, items)
        for item, size, error in self._store.at_once(self._item, items):
            name = _name(item)
            watch.done(name, max(0, size or 0), error)
            if error is None:
                report.succeeded[name] = self._store.address(name)
            else:
                report.failed[name] = error
                failed.append(item)
        report.raise_if_failed(self._store.url, "written")
        return report

    def _item(self, item: Any) -> int:
        if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
            raise ConfigError(f"expected (name, content) or (name, content, options): {item!r}")
        return self._with(item[2] if len(item) == 3 else {}).one(item[0], item[1])


def write_whole(
    store: Store,
    name: str,
    content: bytes | memoryview,
    attributes: Attributes | None,
    if_absent: bool,
) -> None:
    """Write an object that is at hand as one piece, and again while that fails in passing."""
    first = True

    def write() -> None:
        nonlocal first
        again, first = not first, False
        try:
            store.write(name, content, attributes, if_absent)
        except ObjectExistsError:
            # an answer that was lost: then the object is there and is ours
            if not again or store.read(name)[0] != bytes(content):
                raise

    store.trying(write)


def _name(item: Any) -> str:
    return str(item[0] if isinstance(item, (tuple, list)) and item else item)


def _head(name: str, file: IO[Any]) -> bytes:
    """Read up to just above `WHOLE` bytes; a pipe gives less at a time than it is asked for."""
    found: list[bytes] = []
    left = WHOLE + 1
    while left > 0 and (part := file.read(left)):
        if isinstance(part, str):
            raise ConfigError(f"{name!r}: the file is open as text", hint="open it with mode 'rb'")
        found.append(part)
        left -= len(part)
    return found[0] if len(found) == 1 else b"".join(found)


def _rest(head: bytes, file: IO[bytes]) -> Iterator[bytes | memoryview]:
    yield head
    while block := file.read(BLOCK):
        yield block


def _size(file: IO[bytes], read: int) -> int | None:
    """Return the bytes of a file, if it can tell; its position is ``read`` from where we began."""
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (OSError, AttributeError, ValueError):
        return None  # a pipe
    return end - here + read


def touch(store: Store, name: str) -> None:
    """Make an empty object where there is none."""
    try:
        Put(store, _nothing(), if_absent=True).one(name, b"")
    except ObjectExistsError:
        pass  # it is there, which is all that was asked for


def _nothing() -> Attributes:
    from .base import Attributes

    return Attributes()
