"""Checking files, JSON, and small helpers."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from typing import Any

from ...catalog.active import CachedFile
from ...catalog.objects import encoded
from ...catalog.resources import FileChecker, HashCheck

__all__ = ["CachedFile", "FileChecker", "HashCheck", "JsonEncoder", "XPMEncoder", "deprecated"]


class JsonEncoder(json.JSONEncoder):
    """Writes data as ``pkgdata catalog prepare`` does."""

    _name = "normal"

    def default(self, o: Any) -> Any:
        """Return what JSON can hold of an object."""
        return encoded(o, self._name)


class XPMEncoder(JsonEncoder):
    """The same with types, for experimaestro."""

    _name = "xpm"


def deprecated(message: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that logs, when it is called, that it is deprecated."""

    @functools.wraps(function, updated=())
    def wrapped(*args: Any, **options: Any) -> Any:
        logging.getLogger("pkgdata").warning(message)
        return function(*args, **options)

    return wrapped
