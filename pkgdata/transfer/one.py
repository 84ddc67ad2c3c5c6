"""Move one object from a store into a file, in one pass: bytes are hashed while they are written.

Nothing is read back, except the bytes that an earlier process left behind. The caller owns the
file, which no other process writes to; that is what makes a digest of the bytes *received* a
statement about the bytes *on disk*.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from ..base import disk, hashes
from ..base.config import conf
from ..base.hashes import Digest
from ..base.progress import BYTES, START, Event, silent
from ..base.urls import quoted
from ..errors import (
    CacheError,
    IncompleteTransferError,
    IntegrityError,
    MissingExtraError,
    StoreError,
    UnsupportedOperationError,
)
from ..stores import Body, Primitives, Source, codecs
from .ranges import SHARES_FILES, Limits, Ranges, gaps


class Receiver(Protocol):
    """A file that this process alone writes to."""

    path: str
    fd: int
    offset: int
    later: list[tuple[int, int]]

    def validator(self, address: str) -> str | None:
        """Return what was noted of a source."""

    def note(self, address: str, validator: str | None) -> None:
        """Note by what a source tells versions apart."""

    def record(self, front: int, later: list[tuple[int, int]]) -> None:
        """Record which bytes are there."""

    def restart(self) -> None:
        """Begin again, without any bytes."""


#: A connection that broke is opened again at once if it brought at least this many new bytes.
_WORTH_GOING_ON = 1 << 16

#: A smaller object is resumed without a validator; if it changed, it is fetched from its start.
_WORTH_A_NOTE = 1 << 20

#: One connection is judged after so many seconds, and called slow if the rest, of at least so many
#: bytes, would take it so many seconds more.
_LOOK_AFTER, _WORTH_RANGES, _WORTH_SECONDS = 0.2, 8 << 20, 2.0

#: What is compressed on the way may decode to so many bytes, or to the setting extract_limit.
_MOST = 1 << 30

#: Bytes of an earlier process that are hashed between two touches of the file.
_SIGN_EVERY = 256 << 20

_PAGE_STARTS = (b"<!doctype html", b"<html")
_PAGE_SUFFIXES = (".html", ".htm", ".xhtml")
_LFS_START = b"version https://git-lfs.github.com/spec/"


class Transfer:
    """One object on its way into a file; survives any number of attempts.

    Bytes below ``target.offset`` are there already. A digest of None accepts any bytes, if
    ``check`` does. ``others`` may serve ranges of the object as well, while one connection is slow.
    """

    def __init__(
        self,
        name: str,
        target: Receiver,
        digest: Digest | None,
        size: int | None,
        limits: Limits | None = None,
        progress: Callable[[Event], None] = silent,
        clock: Callable[[], float] | None = None,
        others: Sequence[Source] = (),
        check: Callable[[str, bytes, int, Body], str | None] | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.digest = digest
        #: Of the object; ``size`` is that of the bytes on the wire, which may be compressed.
        self._wanted = self.size = size
        self._encoding: str | None = None
        self.limits = limits or Limits()
        self.progress = progress
        self.clock = clock or time.monotonic
        self.others = others
        #: How often the present source was asked, and how often at most, for events.
        self.attempt = self.attempts = 1
        self._check = check or unexpected_page
        self.head = b""
        self._kind = ""
        self._sent: Collection[str] = ()
        self._may_split = SHARES_FILES and self.limits.width > 1
        self._latency = self._rate = 0.0
        # whose bytes are in the file, one for each connection: if there is more than one, a wrong
        # digest does not yet say who lied, for the object may have changed in between
        self._givers: list[str] = []
        self._hasher = self._new_hasher()
        if target.offset:
            self._givers.append("an earlier process")
            self._hash_what_is_there()

    def _new_hasher(self) -> hashes.Hasher:
        return hashes.new(self.digest.alg if self.digest else "sha256")

    def _hash_what_is_there(self) -> None:
        os.lseek(self.target.fd, 0, os.SEEK_SET)
        left = self.target.offset
        while left:
            data = os.read(self.target.fd, min(left, self.limits.block))
            if not data:  # shorter than it was a moment ago
                self._restart()
                return
            self._hasher.update(data)
            left -= len(data)
            if left % _SIGN_EVERY < len(data):
                os.utime(self.target.path)  # those that wait for our lock see that we work

    def _restart(self) -> None:
        self.target.restart()
        self._hasher = self._new_hasher()
        self._givers.clear()
        self.head = b""

    def run(self, store: Primitives, name: str) -> Digest:
        """Fetch the missing bytes from one store, verify the whole and return its digest.

        An `IntegrityError` means that wrong bytes came, all of them from this store. After an
        `IncompleteTransferError` or `StoreError` what came stays in the file for the next attempt.
        """
        fresh = False
        while True:
            self._bring(store, name)
            address = store.address(name)
            if self.digest not in (None, self._digest()) and self._encoding in codecs.SUFFIXES:
                with contextlib.suppress(StoreError, MissingExtraError):  # they are wrong, then
                    self._decode(self._encoding, address)
            found = self._digest()
            if self.digest is None or found == self.digest:
                # an earlier process may have left more, of a version that was longer
                if os.fstat(self.target.fd).st_size > self.target.offset:
                    os.ftruncate(self.target.fd, self.target.offset)
                return found
            alone = fresh or self._givers == [address]
            error = self._refused(address, str(self.digest), str(found))
            if alone:
                raise error
            # now from this store alone, so that a wrong digest has one cause
            fresh, self.others = True, ()

    def _digest(self) -> Digest:
        alg = self.digest.alg if self.digest else "sha256"
        return hashes.Digest(alg, self._hasher.hexdigest())

    def _bring(self, store: Primitives, name: str) -> None:
        """Open the store as often as each connection brings something new."""
        best = self._on_disk()
        while True:
            try:
                return self._connect(store, name)
            except UnsupportedOperationError:
                if not (self._may_split or self.target.later):
                    raise
                self._forget_later()  # this mirror serves no ranges, though another did
            except IncompleteTransferError:
                if self._on_disk() < best + _WORTH_GOING_ON:
                    raise
                best = self._on_disk()

    def _forget_later(self) -> None:
        """Resume from the front alone, over one connection."""
        self._may_split = False
        if self.target.later:
            os.ftruncate(self.target.fd, self.target.offset)
            self.target.later = []
            self.target.record(self.target.offset, [])

    def _on_disk(self) -> int:
        return self.target.offset + sum(end - start for start, end in self.target.later)

    def _connect(self, store: Primitives, name: str) -> None:
        address = store.address(name)
        if self.digest is None:
            self._restart()  # nothing would tell the bytes of two versions apart
        offset = self.target.offset
        if offset and offset == self.size:
            return  # all of it was there; the digest decides
        tries = self.attempt, self.attempts
        self.progress(Event(self.name, START, self._on_disk(), self.size, store.url, *tries))
        if self.target.later and self.size is not None:
            self._over_ranges(store, name, None, self.size)
            return
        asked = self.clock()
        with store.open(name, offset, self.target.validator(address)) as body:
            self._latency = self.clock() - asked
            if body.start != offset:
                self._restart()
            self._givers.append(address)
            self._encoding, self._sent = body.encoded, body.sent
            self.size = body.size if body.encoded else self._wanted
            self._check_size(body, address)
            if body.size is None or body.size > _WORTH_A_NOTE:
                self.target.note(address, body.validator)
            self._check_space(body)
            if self.target.later and body.size is None:
                self._forget_later()  # without a length nothing tells where the gaps end
            try:
                # what is there beyond the front must not be fetched over again
                too_slow = bool(self.target.later) or self._pump(body, store.url)
            except OSError as error:
                raise self._translate(error) from error
            if too_slow and body.size is not None:
                self._over_ranges(store, name, body, body.size)
            self._check_end(body, address)

    def _event(self, done: int, size: int | None, source: str) -> Event:
        return Event(self.name, BYTES, done, size, source, self.attempt, self.attempts)

    def _check_size(self, body: Body, address: str) -> None:
        """Refuse at once what cannot be the object, before its bytes are moved."""
        if self.size is not None and body.size is not None and body.size != self.size:
            start = bytearray(64)
            if body.start == 0:
                self.head = bytes(start[: body.readinto(memoryview(start))])
            raise self._refused(address, f"{self.size} bytes", f"{body.size} bytes", body)

    def _check_space(self, body: Body) -> None:
        size = body.size if self.size is None else self.size
        if size is not None:
            folder = os.path.dirname(self.target.path)
            disk.check_space(repr(self.name), folder, size - self.target.offset)

    def _translate(self, error: OSError) -> Exception:
        if isinstance(error, (StoreError, IncompleteTransferError)):
            return error
        if error.errno in disk.NO_SPACE or error.errno == errno.EFBIG:
            return disk.no_space(f"for {self.name!r} in {os.path.dirname(self.target.path)}")
        return CacheError(f"cannot write {self.target.path}: {error.strerror or error}")

    def _check_end(self, body: Body, address: str) -> None:
        at, kind = self.target.offset, body.kind
        if self.size is not None and at < self.size:
            raise IncompleteTransferError(
                f"{address}: {at} of {self.size} bytes came ({kind})",
                url=address,
                expected=self.size,
                actual=at,
            )
        if not at and body.size is None and self._digest() != self.digest:
            # http.client takes headers that were cut short for whole ones
            raise IncompleteTransferError(
                f"{address}: empty response without Content-Length ({kind})", url=address
            )
        self._kind = kind
        if self.digest is None:
            if body.encoded in codecs.SUFFIXES:
                layer = codecs.layer(self.name, body.encoded, next(self._stored(1024), b""))
                if layer:
                    self._decode(layer, address)
                body.encoded = None
            problem = self._check(self.name, self.head, self.target.offset, body)
            if problem:
                self._restart()
                raise StoreError(f"{address}: {problem} ({kind})", url=address)

    def _stored(self, block: int = 1 << 20) -> Iterator[bytes]:
        """Yield the bytes of the file."""
        os.lseek(self.target.fd, 0, os.SEEK_SET)
        while data := os.read(self.target.fd, block):
            yield data

    def _decode(self, encoding: str | None, address: str) -> None:
        """Let the file hold what its bytes decode to, if that is what is pinned or nothing is."""
        import tempfile  # 4 ms that few transfers need

        hasher, folder = self._new_hasher(), os.path.dirname(self.target.path)
        most = self._wanted or max(_MOST, conf.extract_limit * self.target.offset)
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for block in codecs.decode_blocks(self._stored(), encoding, address):
                    hasher.update(block)
                    file.write(block)
                    if file.tell() > most:
                        text = f"{address}: its {encoding} bytes decode to more than {most}"
                        raise StoreError(text, url=address)
                if self.digest is not None and hasher.hexdigest() != self.digest.hex:
                    return
                file.seek(0)
                self.target.restart()
                self.head = file.read(64)
                file.seek(0)
                while data := file.read(1 << 20):
                    _write_all(self.target.fd, memoryview(data), self.target.offset)
                    self.target.offset += len(data)
                self._hasher = hasher
        except OSError as error:
            raise self._translate(error) from error

    def _refused(
        self, address: str, expected: str, actual: str, body: Body | None = None
    ) -> IntegrityError:
        """Forget the wrong bytes that came; return the error that names them."""
        kind = body.kind if body else self._kind
        size = f"{body.size if body else self.target.offset} bytes"
        error = hashes.mismatch(
            f"wrong bytes for {self.name!r} from {address} "
            f"({size}, {kind}, beginning {quoted(self.head, self._sent)})",
            expected,
            actual,
            name=self.name,
            source=address,
            hint="the mirror holds something else; tell its owner, or update the registry",
        )
        self._restart()
        return error

    def _over_ranges(self, store: Primitives, name: str, body: Body | None, size: int) -> None:
        """Fetch the rest over several connections, as many as prove to help."""
        first = Source(store, name)
        others = [source for source in self.others if source.address != first.address]
        url, target = store.url, self.target
        ranges = Ranges(
            target.fd,
            size,
            gaps(size, target.offset, target.later),
            self._hasher,
            target.offset,
            [first, *others],
            self.limits,
            target.record,
            lambda done: self.progress(self._event(done, size, url)),
            self.clock,
        )
        try:
            ranges.run(body, self._latency, self._rate)
        except OSError as error:
            raise self._translate(error) from error
        finally:
            target.offset, target.later = ranges.on_disk()
            self._givers += ranges.givers

    def _is_slow(self, body: Body, size: int | None, began: float, start: int) -> bool:
        """Return True if the first moments of this connection make more of them worth a try."""
        if not self._may_split or size is None or not body.ranges or self.digest is None:
            return False
        took, left = self.clock() - began, size - self.target.offset
        self._rate = (self.target.offset - start) / max(took, 1e-9)
        if took < _LOOK_AFTER or left < _WORTH_RANGES:
            return False
        return left > _WORTH_SECONDS * self._rate

    def _pump(self, body: Body, source: str) -> bool:
        """Read, write and hash until the end of the body, or until it proves slow (True)."""
        size = body.size if self.size is None else self.size
        window, since = 0, self.clock()
        began, start = since, self.target.offset
        with hashes.Lane(self._hasher, self.limits.block) as lane:
            while True:
                block = body.read(lane.buffer())
                count = len(block)
                if not count:
                    return False
                if len(self.head) < 64 and self.target.offset < 64:
                    self.head += bytes(block[:64])
                _write_all(self.target.fd, block, self.target.offset)
                lane.hash(block)
                self.target.offset += count
                self.progress(self._event(self.target.offset, size, source))
                if self.size is not None and self.target.offset > self.size:
                    lane.finish()
                    raise self._refused(
                        source, f"{self.size} bytes", f"more than {self.size} bytes", body
                    )
                if self._is_slow(body, size, began, start):
                    return True
                window += count
                now = self.clock()
                if now - since >= self.limits.stall_seconds:
                    if window < self.limits.stall_bytes and self.target.offset != size:
                        raise self._stalled(source, window)
                    window, since = 0, now

    def _stalled(self, source: str, window: int) -> IncompleteTransferError:
        return IncompleteTransferError(
            f"{source}: {self.name!r} stalled at byte {self.target.offset}: {window} bytes in "
            f"{self.limits.stall_seconds:g} s",
            url=source,
            expected=self.size,
            actual=self.target.offset,
        )


def _write_all(fd: int, view: memoryview, offset: int) -> None:
    if hasattr(os, "pwrite"):
        while view:
            count = os.pwrite(fd, view, offset)
            view, offset = view[count:], offset + count
    else:
        os.lseek(fd, offset, os.SEEK_SET)
        while view:
            view = view[os.write(fd, view) :]


def unexpected_page(name: str, head: bytes, size: int, body: Body) -> str | None:
    """Return why bytes without a digest cannot be what was asked for, by their head and size."""
    base = name.partition("?")[0].rpartition("/")[2]
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if size == 0:
        return "the server sent no bytes"
    if start.startswith(_LFS_START):
        return "the server sent a Git LFS pointer instead of the file"
    if start.startswith(_PAGE_STARTS) and "." in base and not base.endswith(_PAGE_SUFFIXES):
        return f"the server sent an HTML page, beginning {quoted(head, body.sent)}"
    if body.encoded:
        return "the server compressed the file though it was asked not to"
    return None
