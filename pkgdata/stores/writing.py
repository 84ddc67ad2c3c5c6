"""Writing objects: one or many, from bytes, files and paths, compressed on the way if asked for."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

from ..base import pool, progress
from ..base.progress import Callback
from ..base.report import Report, plain_name
from ..errors import ConfigError, ObjectExistsError
from . import codecs
from .base import Driver
from .objects import BLOCK, WHOLE, Attributes
from .reading import length

#: Bytes that a large object has in memory while it is written: its first ones and four parts.
_LARGE = 40 << 20


def guess_type(name: str) -> str:
    """Guess the media type of an object from its name."""
    import mimetypes  # readers do not need it

    kind, encoding = mimetypes.guess_type(name, strict=False)
    # a compressed file is no text: else a browser would decode it
    return kind if kind and not encoding else "application/octet-stream"


class Put(NamedTuple):
    """How objects are written."""

    store: Driver
    attributes: Attributes
    compress: str | None = None
    level: int | None = None
    if_absent: bool = False

    def _with(self, changes: dict[str, Any]) -> Put:
        """Return one with an item's own options; what is left is of `Attributes`."""
        mine = {key: changes[key] for key in ("compress", "level", "if_absent") if key in changes}
        rest = {key: changes[key] for key in changes if key not in mine}
        try:
            return self._replace(attributes=self.attributes.replaced(**rest), **mine)
        except TypeError:
            unknown = ", ".join(sorted(set(rest) - set(self.attributes.__slots__)))
            raise ConfigError(f"unknown options of an object: {unknown}") from None

    def one(self, name: str, content: Any) -> int:
        """Write one object; return its bytes before any compression, -1 if not counted."""
        if isinstance(content, os.PathLike):
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

    def _kept(self, name: str) -> tuple[Attributes, str | None]:
        """Return what is kept next to the bytes, and how these are to be compressed."""
        kept, compress = self.attributes, codecs.canonical(self.compress)
        if kept.content_type is None:
            kept = kept.replaced(content_type=guess_type(name))
        return kept.replaced(encoding=compress) if compress else kept, compress

    def _whole(self, name: str, content: bytes | memoryview) -> None:
        kept, compress = self._kept(name)
        if compress:
            content = codecs.encode(content, compress, self.level)
        write_whole(self.store, name, content, kept, self.if_absent)

    def _file(self, name: str, file: IO[bytes]) -> int:
        size = _size(file, 0)
        with pool.ROOM.taking(_LARGE if size is None or size > WHOLE else 2 * size):
            head = _head(name, file)
            if len(head) <= WHOLE:
                self._whole(name, head)
                return len(head)
            kept, compress = self._kept(name)
            rest = itertools.chain([head], iter(lambda: file.read(BLOCK), b""))
            blocks = codecs.encode_blocks(rest, compress, self.level)
            size = None if compress else _size(file, len(head))
            self.store.write_blocks(name, blocks, kept, self.if_absent, size)
            return -1

    def many(self, items: Iterable[Any], shown: bool | Callback | None) -> Report:
        """Write many objects at once."""
        codecs.canonical(self.compress)  # an unknown encoding is reported before anything moves
        failed: list[Any] = []
        report = Report(lambda _: self.many(failed, shown))
        show = progress.view(shown, length(items))
        for item, size, error in self.store.at_once(self._item, items):
            name = str(plain_name(item[0] if isinstance(item, (tuple, list)) and item else item))
            show(progress.ended(name, max(0, size or 0), error))
            if error is None:
                report.succeeded[name] = self.store.address(name)
            else:
                report.failed[name] = error
                failed.append(item)
        report.raise_if_failed(self.store.url, "written")
        return report

    def _item(self, item: Any) -> int:
        if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
            raise ConfigError(f"expected (name, content) or (name, content, options): {item!r}")
        return self._with(item[2] if len(item) == 3 else {}).one(plain_name(item[0]), item[1])


def write_whole(
    store: Driver,
    name: str,
    content: bytes | memoryview,
    attributes: Attributes | None,
    if_absent: bool,
) -> None:
    """Write an object that is at hand as one piece, and retry it."""
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


def _size(file: IO[bytes], read: int) -> int | None:
    """Return the bytes of a file, if it can tell; its position is ``read`` from where we began."""
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (OSError, AttributeError, ValueError):
        return None  # a pipe
    return end - here + read
