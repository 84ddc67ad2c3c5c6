"""Decompression."""

from __future__ import annotations

from pathlib import Path

from . import Transform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Gunzip(Transform):
    """What gzip compressed."""

    def __call__(self, input: Any) -> Any:
        import gzip

        return gzip.GzipFile(fileobj=input)

    def path(self, path: Path) -> Path:
        return path.with_suffix("") if path.suffix == ".gz" else path
