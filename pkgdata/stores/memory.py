"""A store in memory, shared by all who open the same ``mem://NAME`` in this process.

As with a bucket, what follows the name is a prefix: ``mem://a`` has what ``mem://a/b`` holds too.
"""

from __future__ import annotations

import itertools
import time
from typing import NamedTuple

from ..base import fs
from ..errors import ObjectNotFoundError
from .objects import Body, Info, PieceBody, already_there
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .base import Primitives
    from .objects import Attributes, Blocks

_contents: dict[str, dict[str, Kept]] = {}

#: Numbers each write, so that a changed object has another validator.
_writes = itertools.count()


class Kept(NamedTuple):
    """One object."""

    content: bytes
    info: Info


class MemoryBody(PieceBody):
    """Bytes that are read from memory."""

    def __init__(self, kept: Kept, start: int) -> None:
        size = len(kept.content)
        super().__init__(start if start <= size else 0, size, kept.info.validator, "memory")
        self.attributes = kept.info.attributes
        self._rest = memoryview(kept.content)[self.start :]

    def _next(self, room: int) -> bytes:
        return b""


class MemoryStore(Store):
    """Names and bytes in a dictionary: ``mem://NAME/PREFIX``."""

    shared = False
    near = True

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        name, _, prefix = self._url.partition("://")[2].partition("/")
        self._objects = _contents.setdefault(name, {})
        self._root = prefix.rstrip("/") + "/" if prefix.strip("/") else ""

    def _key(self, name: str) -> str:
        return self._root + fs.safe_key(name)

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        kept = self._kept(name)
        return MemoryBody(kept, start if validator in (None, kept.info.validator) else 0)

    def _kept(self, name: str) -> Kept:
        try:
            return self._objects[self._key(name)]
        except KeyError:
            raise self.failure(ObjectNotFoundError, name, "no such object") from None

    def info(self, name: str) -> Info:
        return self._kept(name).info

    def _write(
        self, name: str, content: bytes | memoryview, kept: Attributes, if_absent: bool
    ) -> None:
        now = time.time() if kept.modified is None else kept.modified
        kept = kept.replaced(modified=now)
        said = Info(len(content), str(next(_writes)), now, attributes=kept)
        new = Kept(bytes(content), said)
        if not if_absent:
            self._objects[self._key(name)] = new
        elif self._objects.setdefault(self._key(name), new) is not new:
            raise already_there(self.address(name))

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        self._write(name, b"".join(map(bytes, blocks)), kept, if_absent)

    def scan(self, prefix: str = "", flat: bool = False) -> Iterator[tuple[str, Info]]:
        begin, skip, last = self._root + prefix, len(self._root), ""
        for key in sorted(key for key in list(self._objects) if key.startswith(begin)):
            kept, name = self._objects.get(key), key[skip:]
            head, slash, _ = name[len(prefix) :].partition("/")
            if flat and slash:
                folder = f"{prefix}{head}/"
                if folder != last:
                    yield folder, Info(None)
                last = folder
            elif kept is not None:  # else it was removed meanwhile
                yield name, kept.info

    def remove(self, name: str) -> None:
        self._objects.pop(self._key(name), None)

    def clone(self, name: str, source: Primitives, source_name: str) -> bool:
        if not isinstance(source, MemoryStore):
            return False
        kept = source._kept(source_name)
        self.write(name, kept.content, kept.info.attributes)
        return True
