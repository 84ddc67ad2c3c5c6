"""One large object over several connections at once, from one mirror or several.

The object is a set of *spans* still to come. Each worker reads one span from its beginning, a piece
of a long one; when all are taken, a worker that is done takes the second half of the longest, so a
slow or stalled connection never holds up the end. How many workers there are is decided by
measuring: their number is raised as long as that makes the whole evidently faster, so a fast server
keeps one connection and a server that caps each connection gets as many as are allowed.

All work within a window from the contiguous front on, so that the front grows steadily and others
can use or pass on what is there while the rest comes. Whoever holds up a full window is relieved.

The hash follows the contiguous front. Bytes that came out of order are read from the page cache for
it, the only bytes that are ever read back.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..base import hashes
from ..errors import IncompleteTransferError, PkgdataError, StoreError, UnsupportedOperationError
from ..stores import Body, Source

#: Positioned reads and writes are what lets several threads share a file.
SHARES_FILES = hasattr(os, "pwrite") and hasattr(os, "preadv")
#: No span is split below this: a connection's start would cost more than it brings.
SMALLEST = 2 << 20
#: Seconds over which a number of workers is judged, how many times as many are tried next, and how
#: much faster they must be to be kept.
WINDOW, STEP, GAIN = 0.2, 4, 1.25
#: The window beyond the front: so many bytes, or what comes in so many seconds if that is more. A
#: piece is so large that a request for the next one takes little of the time.
AHEAD, AHEAD_SECONDS = 64 << 20, 2.0
#: Seconds that a piece at the front may still take while the others have nothing left to do.
PATIENCE = 1.0
#: Seconds between two records of what is on disk.
RECORD_EVERY = 0.04


class Limits(NamedTuple):
    """How long to wait and how much to hold."""

    #: Bytes per read.
    block: int = 1 << 20
    #: Fewer bytes than ``stall_bytes`` in ``stall_seconds`` cut a transfer.
    stall_bytes: int = 1024
    stall_seconds: float = 30.0
    #: Connections at once for one large object.
    width: int = 1


class Span:
    """Bytes still to come; `pos` moves towards `end`, and `end` may move down."""

    __slots__ = ("began", "busy", "end", "pos", "start")

    def __init__(self, pos: int, end: int) -> None:
        self.pos = pos
        self.end = end
        self.busy = False
        #: Where and when the worker began that is busy with it.
        self.start, self.began = pos, 0.0


def gaps(size: int, front: int, later: Sequence[tuple[int, int]]) -> list[Span]:
    """Return what is missing of an object, given what is there: a front and later intervals."""
    found, at = [], front
    for start, end in sorted(later):
        if start > at:
            found.append(Span(at, start))
        at = max(at, end)
    if at < size:
        found.append(Span(at, size))
    return found


class Ranges:
    """Fetch the missing spans of an object into a file and hash it to its end.

    ``hasher`` has taken the bytes before ``front``. The first source is trusted to serve ranges,
    the others are tried. ``record`` is called with the front and the intervals beyond it that are
    on disk, ``moved`` with their bytes.
    """

    def __init__(
        self,
        fd: int,
        size: int,
        spans: list[Span],
        hasher: hashes.Hasher,
        front: int,
        sources: Sequence[Source],
        limits: Limits,
        record: Callable[[int, list[tuple[int, int]]], None],
        moved: Callable[[int], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._fd = fd
        self._size = size
        self._spans = spans
        self._hasher = hasher
        self.front = front
        self._sources = list(sources)
        self._limits = limits
        self._record = record
        self._moved = moved
        self._clock = clock or time.monotonic
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._workers = 0
        self._want = 1
        self._ahead = AHEAD
        self._stop = False
        self._errors: list[PkgdataError] = []
        self._broken: OSError | None = None
        #: Addresses whose bytes are in the file.
        self.givers: set[str] = set()

    # -- what is where ---------------------------------------------------------------------

    def _missing(self) -> int:
        return sum(span.end - span.pos for span in self._spans)

    def on_disk(self) -> tuple[int, list[tuple[int, int]]]:
        """Return the contiguous bytes from the beginning, and the intervals beyond them."""
        with self._lock:
            open_spans = sorted((s.pos, s.end) for s in self._spans if s.pos < s.end)
        if not open_spans:
            return self._size, []
        front = open_spans[0][0]
        return front, [(span.pos, span.end) for span in gaps(self._size, front, open_spans)]

    def _take(self) -> Span | None:
        """Give a worker something to do: an idle piece, else half of the longest busy span."""
        with self._lock:
            open_spans = sorted((s for s in self._spans if s.pos < s.end), key=lambda s: s.pos)
            idle = next((span for span in open_spans if not span.busy), None)
            if idle is not None:
                piece = max(SMALLEST, self._ahead // (2 * self._want))
                end = min(idle.pos + piece, idle.end)
                if end > open_spans[0].pos + self._ahead:
                    return self._relieve(open_spans[0])
                if idle.end - end >= SMALLEST:
                    self._split(idle, end)
                return self._begin(idle)
            longest = max(open_spans, key=lambda span: span.end - span.pos, default=None)
            if longest is None or longest.end - longest.pos < 2 * SMALLEST:
                return None
            return self._begin(self._split(longest, (longest.pos + longest.end) // 2))

    def _relieve(self, front: Span) -> Span | None:
        """Take over the span at the front if it is slow; the window is full."""
        took, left = self._clock() - front.began, front.end - front.pos
        if took < PATIENCE or left * took < PATIENCE * (front.pos - front.start):
            return None
        return self._begin(self._split(front, front.pos))

    def _split(self, span: Span, at: int) -> Span:
        rest = Span(at, span.end)
        span.end = at
        self._spans.append(rest)
        return rest

    def _begin(self, span: Span) -> Span:
        span.busy, span.start, span.began = True, span.pos, self._clock()
        return span

    # -- the work --------------------------------------------------------------------------

    def run(self, first: Body | None, latency: float, rate: float) -> None:
        """Work until nothing is missing and everything is hashed.

        ``first`` is an open body at the first span's position; ``latency`` (seconds until the
        server answers) and ``rate`` (bytes a second, 0 if unknown) are those of one connection.
        """
        self._record(*self.on_disk())
        follower = threading.Thread(target=self._follow, name="pkgdata-hash", daemon=True)
        follower.start()
        try:
            if first is not None:
                self._start(self._sources[0], first)
            self._steer(max(WINDOW, 4 * latency), rate)
        finally:
            with self._lock:
                self._stop = True
                self._news.notify_all()
                while self._workers:
                    self._news.wait()
            follower.join()
            self._record(*self.on_disk())
        if self._broken is not None:
            raise self._broken
        if self._missing():
            raise self._errors[-1]

    def _start(self, source: Source, body: Body | None = None) -> bool:
        span = self._take()
        if span is None:
            return False
        with self._lock:
            self._workers += 1
        threading.Thread(
            target=self._work, args=(source, span, body), name="pkgdata-range", daemon=True
        ).start()
        return True

    def _steer(self, window: float, rate: float) -> None:
        """Add workers while that helps; keep the record; return when all is over."""
        want = self._want = min(STEP, self._limits.width)
        best, growing = rate, True
        self._ahead = max(AHEAD, int(AHEAD_SECONDS * rate))
        began, missing = self._clock(), self._missing()
        recorded = began
        while True:
            with self._lock:
                self._news.wait(0.03)
                workers, failures = self._workers, len(self._errors)
                sources = list(self._sources)
            now, left = self._clock(), self._missing()
            self._moved(self._size - left)
            if now - recorded >= RECORD_EVERY:
                recorded = now
                self._record(*self.on_disk())
            if not left or self._broken is not None or self._stop:
                return
            if now - began >= window:
                rate = (missing - left) / (now - began)
                self._ahead = max(AHEAD, int(AHEAD_SECONDS * rate))
                helped = growing and rate > GAIN * best
                if helped and want < self._limits.width:
                    want = min(STEP * want, self._limits.width)
                elif growing and not helped:
                    want = max(1, want // STEP)  # those that are too many end with their span
                growing = helped and want > self._want
                self._want, best, began, missing = want, rate, now, left
            if failures > 2 * self._limits.width or not sources:
                if not workers:
                    return
            else:
                for i in range(want - workers):
                    if not self._start(sources[(workers + i) % len(sources)]):
                        break

    def _work(self, source: Source, span: Span, body: Body | None) -> None:
        try:
            while True:
                self._bring(source, span, body)
                body = None
                enough = self._stop or self._workers > self._want
                taken = None if enough else self._take()
                if taken is None:
                    return
                span = taken
        except (StoreError, IncompleteTransferError) as error:
            with self._lock:
                self._errors.append(error)
                if not getattr(error, "transient", False) and source in self._sources:
                    self._sources.remove(source)
        except OSError as error:
            self._broken = error
        except Exception as error:  # else it would be tried for ever
            with self._lock:
                self._errors.append(StoreError(f"{source.address}: {error!r}", url=source.address))
                self._sources = [one for one in self._sources if one != source]
        finally:
            with self._lock:
                span.busy = False
                self._workers -= 1
                self._news.notify_all()

    def _bring(self, source: Source, span: Span, body: Body | None) -> None:
        with body or self._open(source, span) as body:
            self.givers.add(source.address)
            buffer = memoryview(bytearray(min(self._limits.block, 1 << 18)))
            since, mark = self._clock(), span.pos
            while not self._stop:
                room = min(len(buffer), span.end - span.pos)
                if room <= 0:
                    return
                count = body.readinto(buffer[:room])
                if not count:
                    raise self._cut(source, span, "stopped")
                self._keep(span, buffer[:count])
                now = self._clock()
                if now - since >= self._limits.stall_seconds:
                    if span.pos - mark < self._limits.stall_bytes and span.pos < span.end:
                        raise self._cut(source, span, "stalled")
                    since, mark = now, span.pos

    def _open(self, source: Source, span: Span) -> Body:
        body = source.store.open(source.name, span.pos, stop=span.end)
        if body.start != span.pos or (body.size is not None and body.size != self._size):
            body.close()
            raise UnsupportedOperationError(
                f"{source.address}: does not serve ranges of this object", url=source.address
            )
        return body

    def _cut(self, source: Source, span: Span, how: str) -> IncompleteTransferError:
        return IncompleteTransferError(
            f"{source.address}: {how} at byte {span.pos} of {self._size}",
            url=source.address,
            expected=self._size,
            actual=span.pos,
        )

    def _keep(self, span: Span, view: memoryview) -> None:
        at = span.pos
        while view:
            written = os.pwrite(self._fd, view, at)
            view, at = view[written:], at + written
        with self._lock:
            # the end may have come nearer while we read; what lies beyond it is another's now, and
            # the same bytes
            span.pos = min(at, span.end)

    def _follow(self) -> None:
        """Hash from the front on, as far as it has come."""
        buffer = memoryview(bytearray(self._limits.block))
        while True:
            reached = self.on_disk()[0]
            if self.front < reached:
                count = os.preadv(self._fd, [buffer[: reached - self.front]], self.front)
                if not count:
                    self._broken = OSError(errno.EIO, "the file became shorter than it was")
                    return
                self._hasher.update(buffer[:count])
                self.front += count
                continue
            with self._lock:
                if self.front == self._size or (self._stop and not self._workers):
                    return
                self._news.wait(0.02)
