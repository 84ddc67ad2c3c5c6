"""What stores that have folders share: listing level by level, writing aside and renaming."""

from __future__ import annotations

from operator import itemgetter

from ..base import fs, owners
from .objects import Feed, Info
from .store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .objects import Attributes, Blocks

    Rows = Callable[[str], Iterable[tuple[str, Info]]]


def walk(rows: Rows, prefix: str, flat: bool) -> Iterator[tuple[str, Info]]:
    """Yield the sorted names of a tree that begin with a prefix.

    ``rows`` lists one folder, ``""`` or a name that ends in a slash; so end the folders in it.
    """
    folder = prefix.rpartition("/")[0]
    if folder:
        fs.safe_key(folder)
    return _level(rows, folder + "/" if folder else "", prefix, flat)


def _level(rows: Rows, folder: str, prefix: str, flat: bool) -> Iterator[tuple[str, Info]]:
    # a folder stands where its files belong among the names: "a.b" < "a/b"
    for name, info in sorted(rows(folder), key=itemgetter(0)):
        if not name.endswith("/"):
            if name.startswith(prefix) and not owners.is_aside(name):
                yield name, info
        elif flat:
            if name.startswith(prefix):
                yield name, info
        elif name.startswith(prefix) or prefix.startswith(name):
            yield from _level(rows, name, prefix, flat)


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

    def _send(self, aside: str, feed: Feed, kept: Attributes) -> None:
        """Write a new file, and the folders that it needs."""
        raise NotImplementedError

    def _appear(self, aside: str, path: str, if_absent: bool) -> None:
        """Give a file that is complete its name."""
        raise NotImplementedError

    def _forget(self, aside: str) -> None:
        """Remove a file that is not complete; errors are none of the caller's concern."""
        raise NotImplementedError

    def _error(self, error: Exception, name: str) -> Exception:
        """Translate an error into one of this package that names the object's address."""
        raise NotImplementedError
