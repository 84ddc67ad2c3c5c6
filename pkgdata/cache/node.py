"""The cache of one node: a copy on a fast local disk, or in memory, of what a slower cache holds.

It may lie where others can write too, as in /tmp and /dev/shm. So it is this user's, nobody else
may write to it, and what others could have put there on the way down to it is this user's or the
administrator's. It is made with mode 0700, so that nothing can be planted in it from then on.
"""

from __future__ import annotations

import os
import stat

from ..base import fs
from ..errors import CacheError, CacheWarning, warn
from .objects import Cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..base.hashes import Digest
    from .partial import Partial

#: Letters of the name of a variable.
_WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
#: Why one is skipped without a word: on nodes of another kind it can be used.
_UNWRITABLE = "it cannot be written to"

#: Roots that could not be filled, so that this process only looks into them.
_failed: set[str] = set()


class NodeCache(Cache):
    """A cache in front of the user's, which can be lost or full at any time."""

    def find(self, *args: Any, **kwargs: Any) -> str | None:
        try:  # each time: another user may have made it since it was chosen
            found = os.stat(self.root)
        except OSError:
            return None
        return super().find(*args, **kwargs) if _is_own(found) else None

    def is_usable(self) -> bool:
        """Return True if files can be put in; it is made if it is not there. Else warn, once."""
        if self.gave_up:
            return False
        try:
            if not os.path.isdir(self.root):
                _make_private(self.root)
            why = _problem(self.root)
        except OSError as error:
            why = error.strerror or str(error)
        if why is not None:
            self.give_up(f"the cache {self.root} cannot be used: {why}")
        return why is None

    @property
    def gave_up(self) -> bool:
        """Whether nothing can be put in any more."""
        return self.root in _failed

    def give_up(self, why: str) -> None:
        """Put nothing in from now on, and warn of it once."""
        if not self.gave_up:
            _failed.add(self.root)
            warn(f"{why}; continuing without this node's cache", CacheWarning)

    def copy(
        self,
        digest: Digest,
        name: str,
        size: int | None,
        bring: Callable[[Partial | None], str | None],
        waiting: Callable[[float, str, int], None] | None = None,
    ) -> str | None:
        """Return the path of an object's copy here, or of the original if it cannot be kept.

        Of the processes of a node one calls `bring`, which returns the path of the original, or
        None if it has filled the file that it was given. Writing to that file, or changing its
        time, is a sign of work. With None `bring` only returns a path.

        Raises
        ------
        IntegrityError
            The original has other bytes.
        """
        path: str | None = None
        at_work = False

        def fill(partial: Partial) -> None:
            nonlocal path, at_work
            at_work = True
            path = bring(partial)
            if path is None:
                at_work = False
                return
            from ..base import disk

            with open(path, "rb") as source:
                at_work = False
                try:
                    # before it is full: /dev/shm is the memory of all that run here
                    disk.check_space(repr(name), self.root, os.fstat(source.fileno()).st_size)
                    partial.fill(source, digest, name)
                except BaseException:
                    partial.restart()  # half a copy is of no use, and takes space
                    raise

        if self.is_usable():
            try:
                return self.obtain(digest, name, size, fill, waiting, sync=False)
            except CacheError as error:
                if at_work:
                    raise  # of the slower cache
                self.give_up(error.message)
        return path or bring(None)


def choose(
    templates: Sequence[str], lock_timeout: float, origin: str, verify: str
) -> NodeCache | None:
    """Return the first cache whose variables are set and that can be written to, not yet made."""
    for template in templates:
        path = _expanded(template)
        if path is not None:
            why = _problem(path)
            if why is None:
                return NodeCache(path, lock_timeout, origin, verify)
            if why != _UNWRITABLE:
                warn(f"{path} is not used as this node's cache: {why}", CacheWarning)
    return None


def _expanded(path: str) -> str | None:
    """Expand ``~`` and ``$VARIABLES`` to an absolute path; None if one is not set or empty."""
    # os.path.expandvars leaves in place what is not set, and imports re, which a hit is spared
    head, *rest = path.split("$")
    for part in rest:
        after = part.lstrip(_WORD)
        name = part[: len(part) - len(after)]
        if part.startswith("{"):
            name, _, after = part[1:].partition("}")
        value = os.environ.get(name)
        if not value:
            return None
        head += value + after
    head = os.path.expanduser(head)
    return os.path.normpath(head) if os.path.isabs(head) else None


def _is_own(found: os.stat_result) -> bool:
    """Return True if a folder is this user's, and nobody else may write to it."""
    return fs.WINDOWS or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)


def _problem(root: str) -> str | None:
    """Return why a folder, which need not be there, is no good for a cache of this user alone."""
    if fs.WINDOWS:
        return None  # its temporary folders are each user's own
    at = above = "/"
    shared = False
    parts = ["", *root.strip("/").split("/")]
    for number, part in enumerate(parts):
        at = os.path.join(at, part)
        try:
            found = os.lstat(at)
        except FileNotFoundError:
            return None if os.access(above, os.W_OK | os.X_OK) else _UNWRITABLE
        except OSError as error:
            return f"{at}: {error.strerror}"
        if shared and fs.is_foreign(found):
            return f"{at} belongs to another user"
        if stat.S_ISLNK(found.st_mode):
            real = os.path.realpath(at)
            if os.path.islink(real):
                return f"{at}: the link leads in a circle"
            return _problem(os.path.join(real, *parts[number + 1 :]))
        above, shared = at, bool(found.st_mode & 0o022)
        if shared and not found.st_mode & stat.S_ISVTX:
            return f"others may change {at}"
    if not (stat.S_ISDIR(found.st_mode) and _is_own(found)):
        return "it is no folder of this user's, to which nobody else can write"
    return None if os.access(root, os.W_OK | os.X_OK) else _UNWRITABLE


def _make_private(folder: str) -> None:
    """Make a folder and those above it, for this user alone."""
    try:
        os.mkdir(folder, 0o700)
    except FileNotFoundError:
        _make_private(os.path.dirname(folder))
        os.makedirs(folder, 0o700, exist_ok=True)
    except FileExistsError:
        pass  # another process was faster
