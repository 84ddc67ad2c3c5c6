"""What definitions and resources share without importing one another.

That is the catalog at work, which `pkgdata.catalog.library` sets; the `Context` that definitions
are called with; and the notes that decorators leave.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from contextvars import ContextVar
from pathlib import Path

from ..base.config import cache_dir
from ..errors import CatalogError
from . import fetch, objects, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_current: ContextVar[Any] = ContextVar("pkgdata_catalog", default=None)

#: The catalog of all that is installed; `library` sets it.
default: Any = None


def current() -> Any:
    """Return the catalog at work, by default that of all that is installed."""
    found = _current.get()
    return default if found is None else found


@contextlib.contextmanager
def using(catalog: Any) -> Iterator[None]:
    """Let a catalog and its data folder be those at work inside a ``with`` block."""
    with places.setting(_current, catalog), places.within(catalog.data):
        yield


class CachedFile:
    """A file that `Context.downloadURL` fetched; a context manager."""

    def __init__(self, path: Path, keep: bool = True) -> None:
        self.path = path
        self.keep = keep

    def __enter__(self) -> CachedFile:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.keep:
            fetch.drop(str(self.path))

    def force_delete(self) -> None:
        """Let the file be fetched again next time."""
        self.keep = False


class Context:
    """Where data are, what users set for them, and how files are fetched."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else places.root()

    @property
    def datapath(self) -> Path:
        """The folder of prepared datasets."""
        return self.path / "data"

    @property
    def cachepath(self) -> Path:
        """The folder of the user cache, where downloads are."""
        return Path(cache_dir()[0])

    @property
    def settings(self) -> places.UserSettings:
        """Data folders, and paths that the user gave."""
        return places.UserSettings(self.path)

    @property
    def running_test(self) -> bool:
        """Whether pytest runs: the user is not asked then."""
        return "PYTEST_CURRENT_TEST" in os.environ

    def downloadURL(self, url: str, size: int | None = None) -> CachedFile:
        """Fetch a file without a digest; its path is valid inside a ``with`` block."""
        return CachedFile(Path(fetch.file(url, size)))

    def dataset(self, name: str) -> Any:
        """Return a definition."""
        return current().find(name)

    def repositories(self) -> list[Any]:
        """Return the repositories."""
        found: list[Any] = current().repositories()
        return found

    def repository(self, name: str) -> Any:
        """Return a repository."""
        return current().repository(name)

    def datasets(self) -> list[Any]:
        """Return all definitions."""
        return [one for repository in self.repositories() for one in repository]


# -- what decorators leave -------------------------------------------------------------------------

#: Where decorators leave notes on what is not a definition yet.
ATTRIBUTE = "__pkgdata_notes__"


class Notes:
    """What decorators leave on a function, class or type; a dataset's are its `Definition`."""

    def __init__(self) -> None:
        self.tags: set[str] = set()
        self.tasks: set[str] = set()
        self.loose_resources: list[Any] = []

    def add_resource(self, resource: Any) -> None:
        """Keep a resource for the definition that is made later."""
        self.loose_resources.append(resource)


class Described(Notes):
    """A definition of this library or of datamaestro: what it stands for, and where."""

    id: str

    def __init__(self, target: Any, base: Any) -> None:
        super().__init__()
        self.target = target
        self.base = base

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    @property
    def file(self) -> str | None:
        """The file that it stands in."""
        try:
            return inspect.getsourcefile(self.target)
        except TypeError:
            return None

    @property
    def line(self) -> int | None:
        """The line where it begins."""
        code = getattr(self.target, "__code__", None)
        if code is not None:
            return int(code.co_firstlineno)
        try:
            return inspect.getsourcelines(self.target)[1]
        except (OSError, TypeError):
            return None

    @property
    def types(self) -> list[str]:
        """Names of the type of its data and of what that derives from."""
        return objects.type_names(self.base)


def of_class(target: Any) -> Any:
    """Return the definition that something is or has, or None."""
    if isinstance(target, Notes):
        return target
    attribute = "__dataset__" if isinstance(target, type) else "__datamaestro_dataset__"
    found = getattr(target, "__dict__", {}).get(attribute)
    return found if isinstance(found, Notes) else None


def notes_of(target: Any) -> Notes:
    """Return where tags, tasks and resources of something are kept."""
    found = of_class(target) or getattr(target, "__dict__", {}).get(ATTRIBUTE)
    if found is None:
        found = Notes()
        try:
            setattr(target, ATTRIBUTE, found)
        except (AttributeError, TypeError):
            raise CatalogError(
                f"{target!r} is neither a dataset nor a type, and cannot be annotated"
            ) from None
    notes: Notes = found
    return notes


def in_module(name: str) -> list[Any]:
    """Return the definitions that a loaded module makes, in order; not those that it imports."""
    found = map(of_class, vars(sys.modules[name]).values())
    return list(dict.fromkeys(one for one in found if one is not None and one.module == name))
