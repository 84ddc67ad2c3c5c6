"""One large object over several connections: what is asked for, what is recorded, what is kept."""

from __future__ import annotations

import hashlib
import os
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgdata.base import hashes
from pkgdata.errors import IncompleteTransferError, PkgdataError, StoreError
from pkgdata.stores import Body, Primitives, Source
from pkgdata.transfer import ranges
from pkgdata.transfer.ranges import Limits, Ranges, Span, gaps

pytestmark = pytest.mark.skipif(
    not hasattr(os, "preadv"), reason="this system has no positioned reads and writes"
)

MB = 1 << 20
CONTENT = random.Random(5).randbytes(4 * MB)
SIZE = len(CONTENT)
#: Bytes that a body gives at a time.
PIECE = 1 << 14


@pytest.fixture(autouse=True)
def small_spans(monkeypatch):
    monkeypatch.setattr(ranges, "SMALLEST", 1 << 16)


# -- spans -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("front", "later", "found"),
    [
        (0, [], [(0, 100)]),
        (30, [], [(30, 100)]),
        (100, [], []),
        (0, [(0, 100)], []),
        (0, [(10, 20)], [(0, 10), (20, 100)]),
        (10, [(50, 60), (20, 30)], [(10, 20), (30, 50), (60, 100)]),
        (10, [(20, 40), (30, 35), (40, 100)], [(10, 20)]),
        (50, [(10, 20)], [(50, 100)]),
    ],
)
def test_gaps(front, later, found):
    assert [(span.pos, span.end) for span in gaps(100, front, later)] == found


def idle(size: int, spans: list[Span], front: int = 0) -> Ranges:
    return Ranges(
        -1, size, spans, hashes.new("sha256"), front, [], Limits(), lambda *_: None, lambda _: None
    )


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(0, 60))
def test_what_is_on_disk_is_what_is_not_missing(points, front):
    points = sorted(p for p in points if p >= front)
    later = [(a, b) for a, b in zip(points[::2], points[1::2], strict=False) if a < b]
    there = set(range(front)) | {i for a, b in later for i in range(a, b)}
    reached, beyond = idle(60, gaps(60, front, later)).on_disk()
    assert set(range(reached)) | {i for a, b in beyond for i in range(a, b)} == there
    assert all(a < b for a, b in beyond)
    assert reached not in there


def test_half_of_the_longest_span_is_taken(monkeypatch):
    monkeypatch.setattr(ranges, "SMALLEST", 10)
    work = idle(100, [Span(0, 30), Span(40, 100)])
    taken = [(span.pos, span.end) for span in iter(work._take, None)]
    assert taken == [(0, 30), (40, 100), (70, 100), (15, 30), (55, 70), (85, 100)]
    assert sorted((span.pos, span.end) for span in work._spans) == [
        (0, 15),
        (15, 30),
        (40, 55),
        (55, 70),
        (70, 85),
        (85, 100),
    ]


def test_short_spans_are_not_split(monkeypatch):
    monkeypatch.setattr(ranges, "SMALLEST", 10)
    work = idle(19, [Span(0, 19)])
    assert work._take() is not None
    assert work._take() is None


# -- stores that are made up -------------------------------------------------------------------


class FakeBody(Body):
    """Some bytes of an object, in small pieces; ``before`` is called before each piece."""

    def __init__(self, content: bytes, start: int, before) -> None:
        super().__init__(start, len(content), None, "fake")
        self.ranges = True
        self.closed = False
        self._content = content
        self._at = start
        self._before = before

    def readinto(self, buffer: memoryview) -> int:
        limit = self._before(self, self._at)
        most = min(len(buffer), PIECE if limit is None else limit)
        piece = self._content[self._at : self._at + most]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        self.closed = True


class FakeStore(Primitives):
    """Serves one object and notes what it was asked for."""

    def __init__(self, name: str, content: bytes = CONTENT, before=lambda body, at: None) -> None:
        super().__init__(f"fake://{name}/")
        self.content = content
        self.before = before
        self.asked: list[tuple[int, int | None]] = []
        self.bodies: list[FakeBody] = []

    def address(self, name: str) -> str:
        return self.url + name

    def open(self, name, start=0, validator=None, stop=None) -> Body:
        self.asked.append((start, stop))
        self.bodies.append(FakeBody(self.content, start, self.before))
        return self.bodies[-1]


class Deaf(FakeStore):
    """Knows no ranges."""

    def open(self, name, start=0, validator=None, stop=None) -> Body:
        return super().open(name)


class Refusing(FakeStore):
    """Refuses some requests."""

    def __init__(self, name: str, transient: bool, after: int = 0) -> None:
        super().__init__(name)
        self.transient = transient
        self.after = after

    def open(self, name, start=0, validator=None, stop=None) -> Body:
        body = super().open(name, start, validator, stop)
        if len(self.asked) > self.after:
            raise StoreError(f"refused for the {len(self.asked)}th time", transient=self.transient)
        return body


class Bench:
    """A file, and what `Ranges` does to it."""

    def __init__(self, path, stores, spans=None, front=0, width=4, clock=None, **limits) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.records: list[tuple[int, list[tuple[int, int]]]] = []
        self.hasher = hashes.new("sha256")
        self.hasher.update(CONTENT[:front])
        self._turn = threading.Condition()
        self._turns = 0
        self.work = Ranges(
            self.fd,
            SIZE,
            [Span(front, SIZE)] if spans is None else spans,
            self.hasher,
            front,
            [Source(store, "object") for store in stores],
            Limits(width=width, **limits),
            self.record,
            self.steered,
            clock,
        )

    def steered(self, done: int) -> None:
        with self._turn:
            self._turns += 1
            self._turn.notify_all()

    def let_steer(self) -> None:
        """Wake who steers; return when it has looked at the clock."""
        with self._turn:
            before = self._turns
        while self._turns == before and not self.work._stop:
            with self.work._lock:
                self.work._news.notify_all()
            with self._turn:
                self._turn.wait_for(lambda: self._turns > before, 0.001)

    def record(self, front: int, later: list[tuple[int, int]]) -> None:
        """Keep what is said, if it is true."""
        for start, end in [(0, front), *later]:
            assert os.pread(self.fd, end - start, start) == CONTENT[start:end]
        self.records.append((front, later))

    def run(self, first: Body | None = None, rate: float = 0.0) -> None:
        self.work.run(first, 0.0, rate)

    def check(self) -> None:
        """All is there, hashed, and recorded."""
        assert os.pread(self.fd, SIZE + 1, 0) == CONTENT
        assert self.hasher.hexdigest() == hashlib.sha256(CONTENT).hexdigest()
        assert self.work.on_disk() == (SIZE, [])
        assert self.records[-1] == (SIZE, [])


@pytest.fixture
def bench(tmp_path):
    made = []

    def make(*stores, **more) -> Bench:
        made.append(Bench(tmp_path / f"file{len(made)}", stores, **more))
        return made[-1]

    yield make
    for one in made:
        os.close(one.fd)


@pytest.mark.parametrize("width", [1, 2, 4, 16])
def test_all_comes(bench, width):
    store = FakeStore("a")
    one = bench(store, width=width)
    one.run()
    one.check()
    assert all(body.closed for body in store.bodies)
    assert one.work.givers == {"fake://a/object"}


def test_a_body_that_is_open_already_is_used(bench, tmp_path):
    store = FakeStore("a")
    one = bench(store, width=1, front=100_000)
    os.pwrite(one.fd, CONTENT[:100_000], 0)
    one.run(store.open("object", 100_000))
    one.check()
    assert store.asked == [(100_000, None)]


def test_only_what_is_missing_is_asked_for(bench):
    store = FakeStore("a")
    later = [(MB, 2 * MB), (3 * MB, SIZE)]
    one = bench(store, spans=gaps(SIZE, 1000, later), front=1000, width=1)
    for start, end in [(0, 1000), *later]:
        os.pwrite(one.fd, CONTENT[start:end], start)
    one.run()
    one.check()
    assert store.asked == [(1000, MB), (2 * MB, 3 * MB)]


def test_nothing_is_missing_but_the_hash(bench):
    store = FakeStore("a")
    one = bench(store, spans=[], front=1000)
    os.pwrite(one.fd, CONTENT, 0)
    one.run()
    one.check()
    assert store.asked == []


def hold_first(bench, until, before=lambda body, at: None) -> tuple[Bench, FakeStore]:
    """Return a bench whose first body gives a piece, then waits until so many bytes are there."""
    gate = threading.Event()

    def hold(body: FakeBody, at: int) -> None:
        before(body, at)
        if body is store.bodies[0] and at:
            assert gate.wait(30)

    def moved(done: int) -> None:
        record(done)
        if done >= until:
            gate.set()

    store = FakeStore("a", before=hold)
    one = bench(store)
    record, one.work._moved = one.work._moved, moved
    return one, store


def test_a_slow_connection_does_not_hold_up_the_end(bench):
    """It reads no more until all is there but what is too short to be taken from it."""
    one, store = hold_first(bench, SIZE - 2 * ranges.SMALLEST)
    one.run()
    one.check()
    assert len(store.asked) > 3


def test_all_work_close_behind_the_front(bench, monkeypatch):
    """Others can follow while it grows, also if one connection is slower than the rest."""
    monkeypatch.setattr(ranges, "AHEAD", MB)
    monkeypatch.setattr(ranges, "AHEAD_SECONDS", 0.0)  # however fast it is
    far = []
    one, _ = hold_first(bench, MB // 2, lambda body, at: far.append(at - one.work.on_disk()[0]))
    one.run()
    one.check()
    assert MB // 4 < max(far) <= MB


def test_whoever_holds_up_the_others_is_relieved(bench, monkeypatch):
    """The first connection reads no more until all is there; then it finds that nothing is left."""
    monkeypatch.setattr(ranges, "AHEAD", MB)
    monkeypatch.setattr(ranges, "PATIENCE", 0.0)
    one, _ = hold_first(bench, SIZE)
    one.run()
    one.check()
    assert one.work._errors == []


def test_a_stalled_connection_is_given_up_and_its_span_taken_over(bench):
    ticks = [0.0]

    def before(body: FakeBody, at: int) -> int | None:
        if body is not store.bodies[0]:
            return None
        ticks[0] += 10  # a byte in ten seconds
        return 1

    store = FakeStore("a", before=before)
    one = bench(store, clock=lambda: ticks[0], stall_bytes=1024, stall_seconds=30)
    one.run()
    one.check()
    (error,) = one.work._errors
    assert isinstance(error, IncompleteTransferError)
    assert "stalled at byte" in str(error)
    assert error.actual in [start for start, _ in store.asked[1:]]


def test_a_connection_that_breaks_is_replaced(bench):
    def before(body: FakeBody, at: int) -> int | None:
        return 0 if body is store.bodies[0] and at > 100_000 else None

    store = FakeStore("a", before=before)
    one = bench(store)
    one.run()
    one.check()
    (error,) = one.work._errors
    assert "stopped at byte" in str(error)
    assert error.actual in [start for start, _ in store.asked[1:]]


# -- several mirrors ---------------------------------------------------------------------------


def together(stores: list[FakeStore]):
    """Return what makes each piece wait until every store was asked for something."""
    turn = threading.Condition()

    def before(body: FakeBody, at: int) -> None:
        with turn:
            turn.notify_all()
            assert turn.wait_for(lambda: all(store.asked for store in stores), 30)

    return before


def test_mirrors_share_the_work(bench):
    stores = [FakeStore(name) for name in "abc"]
    before = together(stores)
    for store in stores:
        store.before = before
    one = bench(*stores)
    one.run()
    one.check()
    assert one.work.givers == {f"fake://{name}/object" for name in "abc"}


@pytest.mark.parametrize(
    "kind",
    [
        Deaf,
        lambda name: Refusing(name, transient=False),
        lambda name: FakeStore(name, CONTENT + b"more"),
        lambda name: FakeStore(name, CONTENT[:-1]),
    ],
    ids=["deaf", "refusing", "longer", "shorter"],
)
def test_a_mirror_that_does_not_serve_ranges_of_it_is_dropped(bench, kind):
    good, other = FakeStore("a"), kind("other")
    good.before = together([good, other])
    one = bench(good, other)
    one.run()
    one.check()
    assert one.work.givers == {"fake://a/object"}
    assert [source.store for source in one.work._sources] == [good]
    assert 1 <= len(other.asked) <= 4, "no more often than there were connections"


def test_an_unexpected_exception_of_a_source_is_a_failure_like_another(bench):
    class Odd(FakeStore):
        """Fails in a way that nobody thought of."""

        def open(self, name, start=0, validator=None, stop=None) -> Body:
            super().open(name, start, validator, stop)
            raise ValueError("5,000 digits")

    odd = Odd("odd")
    with pytest.raises(StoreError, match="5,000 digits"):
        bench(odd).run()
    assert len(odd.asked) <= 4
    one = bench(FakeStore("a"), Odd("other"))
    one.run()
    one.check()


def test_all_mirrors_refuse(bench):
    stores = [Refusing(name, transient=False) for name in "ab"]
    one = bench(*stores)
    with pytest.raises(StoreError, match="refused for the") as caught:
        one.run()
    assert caught.value is one.work._errors[-1]
    assert one.records[-1] == (0, [])
    assert one.work.givers == set()


def test_all_refuse_after_a_while(bench):
    """What came stays, and is recorded; the error is the last one."""
    store = Refusing("a", transient=False, after=3)

    def before(body: FakeBody, at: int) -> int | None:
        return 0 if at - body.start > 100_000 else None

    store.before = before
    one = bench(store)
    with pytest.raises(PkgdataError) as caught:
        one.run()
    assert caught.value is one.work._errors[-1]
    front, later = one.records[-1]
    assert front + sum(end - start for start, end in later) > 300_000
    assert (front, later) == one.work.on_disk()


def test_passing_refusals_are_tried_again_for_so_long(bench):
    store = Refusing("a", transient=True)
    one = bench(store)
    with pytest.raises(StoreError, match="refused for the"):
        one.run()
    assert 2 * 4 < len(store.asked) <= 2 * 4 + 4 + 1


def test_a_file_that_cannot_be_written(bench, tmp_path):
    one = bench(FakeStore("a"))
    one.work._fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError):
            one.run()
    finally:
        os.close(one.work._fd)


def test_a_file_that_became_shorter(bench):
    """What was said to be there is not; it is an error, and no endless wait."""
    one = bench(FakeStore("a"), spans=gaps(SIZE, 0, [(3 * MB, SIZE)]))
    one.work._record = lambda front, later: None  # it could not be true here
    with pytest.raises(OSError, match="shorter"):
        one.work.run(None, 0.0, 0.0)


# -- the record --------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4, 16])
def test_the_record_never_says_more_than_is_written(bench, monkeypatch, width):
    monkeypatch.setattr(ranges, "RECORD_EVERY", 0.0)
    store = FakeStore("a")
    one = bench(store, width=width)

    store.before = lambda body, at: one.let_steer()
    one.run()
    one.check()
    assert len(one.records) > 10
    if width > 1:
        assert any(later for _, later in one.records)
    counts = [front + sum(b - a for a, b in later) for front, later in one.records]
    assert counts == sorted(counts)


# -- how many connections ----------------------------------------------------------------------


class Pace:
    """A clock that moves with the bytes, as fast as a made-up server is."""

    def __init__(self, rate_of) -> None:
        self.now = 0.0
        self.active: set[FakeBody] = set()
        self.most = 0
        self._rate_of = rate_of
        self._lock = threading.Lock()
        self.bench: Bench | None = None

    def clock(self) -> float:
        return self.now

    def before(self, body: FakeBody, at: int) -> None:
        with self._lock:
            self.active = {one for one in self.active if not one.closed} | {body}
            self.most = max(self.most, len(self.active))
            self.now += PIECE / self._rate_of(len(self.active))
        self.bench.let_steer()


def paced(bench, rate_of, width: int) -> Pace:
    pace = Pace(rate_of)
    pace.bench = bench(FakeStore("a", before=pace.before), width=width, clock=pace.clock)
    pace.bench.run(rate=rate_of(1))
    pace.bench.check()
    return pace


def test_no_more_connections_where_they_do_not_help(bench):
    """The line is full with one: four are tried, then one goes on."""
    pace = paced(bench, lambda count: MB, width=64)
    assert pace.most <= ranges.STEP
    assert pace.bench.work._want == 1


def test_as_many_connections_as_help(bench):
    """Each connection is capped by the server."""
    pace = paced(bench, lambda count: MB * count, width=16)
    assert pace.most > ranges.STEP
    assert pace.most <= 16


def test_connections_that_were_too_many_end(bench):
    """Four help, sixteen bring no more."""
    pace = paced(bench, lambda count: MB * min(count, 4), width=64)
    assert ranges.STEP < pace.most <= ranges.STEP**2
    assert pace.bench.work._want == ranges.STEP
