"""Text, line by line."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from . import Transform


class _Lines(io.RawIOBase):
    """Reads what a function makes of each line of a file."""

    def __init__(self, source: Any, change: Callable[[str], str]) -> None:
        self._source, self._change = source, change
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target, done = memoryview(buffer).cast("B"), 0
        while done < len(target):
            if not self._rest:
                line = self._source.readline()
                if not line:
                    break
                self._rest = memoryview(self._change(line.decode("utf-8")).encode("utf-8"))
            piece = self._rest[: len(target) - done]
            target[done : done + len(piece)] = piece
            self._rest = self._rest[len(piece) :]
            done += len(piece)
        return done


class Replace(Transform):
    """Replaces a pattern in each line."""

    def __init__(self, pattern: str, replacement: str) -> None:
        self.re = re.compile(pattern)
        self.repl = replacement

    def __call__(self, input: Any) -> Any:
        return _Lines(input, lambda line: self.re.sub(self.repl, line))


class Filter(Transform):
    """Keeps the lines that match a pattern."""

    def __init__(self, pattern: str) -> None:
        self.re = re.compile(pattern)

    def __call__(self, input: Any) -> Any:
        return _Lines(input, lambda line: line if self.re.search(line) else "")
