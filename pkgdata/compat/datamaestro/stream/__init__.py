"""What is done with a file's bytes on their way."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any


class Transform:
    """Makes a file to read from another one: ``transform(fileobj)``."""

    @staticmethod
    def createFromPath(path: Path) -> Transform:
        """Return what a file's name asks for."""
        return Gunzip() if path.suffix == ".gz" else Identity()

    def path(self, path: Path) -> Path:
        """Return the name of what it makes."""
        return path

    def __call__(self, input: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no method __call__(fileobj)")


class Identity(Transform):
    """The file itself."""

    def __call__(self, input: Any) -> Any:
        return input


class Gunzip(Transform):
    """What gzip compressed."""

    def __call__(self, input: Any) -> Any:
        return gzip.GzipFile(fileobj=input)

    def path(self, path: Path) -> Path:
        return path.with_suffix("") if path.suffix == ".gz" else path


class TransformList(Transform):
    """One after the other."""

    def __init__(self, *transforms: Transform) -> None:
        self.list = list(transforms)

    def append(self, item: Transform) -> None:
        """Add one."""
        self.list.append(item)

    def path(self, path: Path) -> Path:
        for one in self.list:
            path = one.path(path)
        return path

    def __call__(self, input: Any) -> Any:
        for one in self.list:
            input = one(input)
        return input
