"""A resource that nobody has written yet."""

from __future__ import annotations

from typing import Any

from ....catalog.resources import ValueResource


class Todo(ValueResource):
    """A resource that is still to be written; a dataset that has one cannot be prepared."""

    def download(self, force: bool = False) -> Any:
        raise self.owner.wrong(f"its resource {self.name!r} is still to be written")
