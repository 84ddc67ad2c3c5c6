"""What the hosts with a web interface share: bodies of uploads, names, limits, titles.

An upload is hashed while it is sent, and its last block is held back until the digest is right: of
a file that changes meanwhile nothing becomes visible.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ..base import hashes
from ..errors import IntegrityError, PublishError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from ..base.hashes import Digest, Hasher
    from .destination import Item

#: Bytes handed to the socket at once. A timeout counts for each piece, so that slow lines want
#: small ones.
PIECE = 1 << 17


class Sending:
    """A file as the body of a request: counted and hashed, its last block held back until right.

    Parameters
    ----------
    algorithms : sequence of str
        Hashes that are wanted afterwards, besides the item's own.
    moved : callable
        Told the bytes sent so far.
    """

    def __init__(self, item: Item, algorithms: Sequence[str], moved: Callable[[int], None]) -> None:
        self._item = item
        self._moved = moved
        self._algorithms = {item.digest.alg, *algorithms}
        #: By algorithm; complete once all is sent.
        self.digests: dict[str, Digest] = {}

    def body(self) -> Sending | bytes:
        """Return what to give to requests, which would send an empty stream in chunks."""
        return self if self._item.size else b"".join(self)

    def __len__(self) -> int:
        return self._item.size

    def __iter__(self) -> Iterator[bytes]:
        hashers = {alg: hashes.new(alg) for alg in self._algorithms}
        left = self._item.size
        self._moved(0)
        with opened(self._item) as file:
            while left:
                block = file.read(min(PIECE, left))
                if not block:
                    raise changed(self._item, "fewer bytes")
                for hasher in hashers.values():
                    hasher.update(block)
                left -= len(block)
                if not left:
                    self._finish(hashers)
                yield block
                self._moved(self._item.size - left)
            if not self._item.size:
                self._finish(hashers)

    def _finish(self, hashers: Mapping[str, Hasher]) -> None:
        self.digests = {alg: hashes.Digest(alg, made.hexdigest()) for alg, made in hashers.items()}
        actual = self.digests[self._item.digest.alg]
        if actual != self._item.digest:
            raise changed(self._item, str(actual))
        self._item.check_unchanged()


def opened(item: Item) -> BinaryIO:
    """Open an item's file.

    Raises
    ------
    PublishError
        It cannot be read.
    """
    try:
        return open(item.path, "rb")
    except OSError as error:
        raise PublishError(f"{item.path} cannot be read: {error.strerror}") from error


def changed(item: Item, actual: str) -> IntegrityError:
    """Return the error of a file that is not the one that was hashed.

    Parameters
    ----------
    actual : str
        What it is now.
    """
    return IntegrityError(
        f"{item.path} changed while it was uploaded: expected {item.digest}, found {actual}",
        hint="let no other program write to it, then run the same command again",
        name=item.name,
        source=item.path,
        expected=str(item.digest),
        actual=actual,
    )


def damaged(item: Item, where: str, expected: object, actual: object) -> IntegrityError:
    """Return the error of an upload of which the service got other bytes.

    Parameters
    ----------
    where : str
        The service's name.
    """
    return IntegrityError(
        f"{item.name}: {where} has {actual} of it, {expected} was sent; it was removed there again",
        hint="run the same command again",
        name=item.name,
        source=where,
        expected=str(expected),
        actual=str(actual),
    )


def posted_names(
    items: Sequence[Item], posted: Callable[[str], str], service: str
) -> dict[str, str]:
    """Return under which names files are posted; refuse two that would be one.

    Parameters
    ----------
    posted : callable
        Takes a name of the registry.

    Returns
    -------
    dict of str to str
        Names of the registry by posted name.
    """
    found: dict[str, str] = {}
    for item in items:
        name = posted(item.name)
        if not name:
            raise PublishError(
                f"{item.name!r}: {service} would leave nothing of this name",
                hint="rename the file; letters a-z, digits, '.', '-' and '_' stay as they are",
            )
        first = found.setdefault(name, item.name)
        if first != item.name:
            raise PublishError(
                f"{first!r} and {item.name!r} would both be {name!r} at {service}, "
                "which has no folders",
                hint="rename one of them",
            )
    return found


def check_limits(
    items: Sequence[Item], service: str, *, largest: int, most: int, where: str
) -> None:
    """Refuse what is over a service's limits.

    Parameters
    ----------
    largest : int
        Bytes that a file may have.
    most : int
        Files that one place may have.
    where : str
        What that place is called.
    """
    large = [item for item in items if item.size > largest]
    if large:
        names = ", ".join(f"{item.name} ({item.size} bytes)" for item in large[:5])
        raise PublishError(
            f"{len(large)} of the files are over {service}'s limit of {largest} bytes: {names}",
            hint="split them, or publish them elsewhere: s3://, gs:// and az:// take larger ones",
        )
    if len(items) > most:
        raise PublishError(
            f"{len(items)} files, and {service} takes {most} for each {where}",
            hint="pack them into an archive, or publish them elsewhere",
        )


def digest_of(blocks: Iterator[bytes], alg: str) -> Digest:
    """Hash what an iterator yields."""
    hasher = hashes.new(alg)
    for block in blocks:
        hasher.update(block)
    return hashes.Digest(alg, hasher.hexdigest())


def default_title(items: Sequence[Item]) -> str:
    """Return a title that the same files get again, so that a second run finds its draft."""
    from ..core.registry import Entry, Registry

    tree = Registry(Entry(item.name, item.digest) for item in items).digest()
    return f"Data files ({tree.hex[:12]})"


def basename(path: str) -> str:
    """Return what stands behind the last slash of a URL's path."""
    return urlsplit(path).path.rstrip("/").rpartition("/")[2]
