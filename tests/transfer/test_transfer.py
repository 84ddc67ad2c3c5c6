"""One object into a file: single pass, resuming, stalls, full disks, lengths."""

from __future__ import annotations

import copy
import hashlib
import os
import random
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace

import pytest

from pkgdata.base import disk, hashes
from pkgdata.base.hashes import Digest
from pkgdata.base.progress import BYTES, START
from pkgdata.cache.partial import Partial
from pkgdata.errors import CacheError, IncompleteTransferError, IntegrityError, StoreError
from pkgdata.stores import Body, Primitives, open_store
from pkgdata.transfer import fetch as fetching
from pkgdata.transfer.one import Transfer, unexpected_page
from pkgdata.transfer.ranges import Limits

NAME = "maps/dust.fits"
CONTENT = random.Random(1).randbytes(300_000)
LARGE = random.Random(2).randbytes(10 << 20)
BROKEN = IncompleteTransferError("the line broke")


class FakeBody(Body):
    """Pieces that are handed out one a read; an exception among them is raised."""

    def __init__(self, pieces, start=0, size=None, validator=None, before_read=None):
        super().__init__(start, size, validator, "fake")
        self.pieces = list(pieces)
        self.before_read = before_read or (lambda: None)
        self.given = 0

    def readinto(self, buffer):
        self.before_read()
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise copy.copy(piece)  # one that is raised itself keeps the frames of all the tests
        count = min(len(buffer), len(piece))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self.pieces.insert(0, piece[count:])
        self.given += count
        return count


class FakeStore(Primitives):
    """Bodies that are handed out one an `open`; a function is called with the offset."""

    def __init__(self, *bodies, url="fake://store"):
        super().__init__(url)
        self.bodies = list(bodies)
        self.opened = []
        self.validators = []

    def open(self, name, start=0, validator=None, stop=None):
        self.opened.append(start)
        self.validators.append(validator)
        body = self.bodies.pop(0)
        return body(start) if callable(body) else body


def rest_of(content, *, told=True):
    """Serve a content from the offset asked for."""
    return lambda start: FakeBody([content[start:]], start, len(content) if told else None)


def digest_of(content):
    return Digest("sha256", hashlib.sha256(content).hexdigest())


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "partial"
    path.mkdir()
    return str(path)


@pytest.fixture
def target(folder):
    with Partial(folder, "key", resume=True) as found:
        yield found


@pytest.fixture
def begun(folder):
    """A target that goes on from bytes of an earlier process."""
    made = []

    def begin(content):
        with open(os.path.join(folder, "key.part"), "wb") as file:
            file.write(content)
        made.append(Partial(folder, "key", resume=True))
        return made[-1].__enter__()

    yield begin
    for partial in made:
        partial.__exit__(None, None, None)


def content_of(target):
    with open(target.path, "rb") as file:
        return file.read()


def transfer_of(target, content=CONTENT, *, size=None, digest=..., **more):
    digest = digest_of(content) if digest is ... else digest
    return Transfer(NAME, target, digest, size, **more)


# -- one pass ----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"x", CONTENT, LARGE], ids=["empty", "1", "300k", "10M"])
def test_nothing_is_read_back(target, monkeypatch, content):
    def refuse(*_):
        raise AssertionError("bytes were read back")

    for name in ("read", "pread", "readv", "preadv", "lseek"):
        monkeypatch.setattr(os, name, refuse)
    pieces = [content[i : i + 70_000] for i in range(0, len(content), 70_000)]
    store = FakeStore(FakeBody(pieces, size=len(content)))
    found = transfer_of(target, content, size=len(content)).run(store, NAME)
    monkeypatch.undo()
    assert found == digest_of(content)
    assert content_of(target) == content


@pytest.mark.parametrize(("content", "threaded"), [(CONTENT, False), (LARGE, True)])
def test_large_objects_are_hashed_in_a_thread(target, content, threaded):
    def hashers():
        return [t for t in threading.enumerate() if t.name == "pkgdata-hash"]

    seen = []
    run = transfer_of(target, content, progress=lambda _: seen.extend(hashers()))
    assert run.run(FakeStore(rest_of(content)), NAME) == digest_of(content)
    assert bool(seen) is threaded
    assert hashers() == []
    assert content_of(target) == content


def test_hash_thread_survives_a_break(target):
    middle = 7 << 20
    store = FakeStore(FakeBody([LARGE[:middle], BROKEN], size=len(LARGE)), rest_of(LARGE))
    assert transfer_of(target, LARGE).run(store, NAME) == digest_of(LARGE)
    assert store.opened == [0, middle]
    assert content_of(target) == LARGE


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_block_size_does_not_matter(target, block):
    content = CONTENT[:10_000]
    run = transfer_of(target, content, limits=Limits(block=block))
    assert run.run(FakeStore(rest_of(content)), NAME) == digest_of(content)
    assert content_of(target) == content


def test_other_algorithms(target):
    digest = Digest("md5", hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
    run = transfer_of(target, digest=digest)
    assert run.run(FakeStore(rest_of(CONTENT)), NAME) == digest


def test_progress_tells_bytes_and_total(target):
    events = []
    store = FakeStore(FakeBody([CONTENT[:1000], CONTENT[1000:2000]], size=2000))
    transfer_of(target, CONTENT[:2000], progress=events.append).run(store, NAME)
    told = [(event.state, event.done, event.total) for event in events]
    assert told == [(START, 0, None), (BYTES, 1000, 2000), (BYTES, 2000, 2000)]
    assert {event.source for event in events} == {"fake://store"}


# -- going on ----------------------------------------------------------------------------------


def test_bytes_of_an_earlier_process_are_kept(begun):
    target, store = begun(CONTENT[:1000]), FakeStore(rest_of(CONTENT))
    transfer_of(target).run(store, NAME)
    assert store.opened == [1000]
    assert content_of(target) == CONTENT


def test_bad_bytes_of_an_earlier_process_are_fetched_once_more(begun):
    target, store = begun(b"bad"), FakeStore(rest_of(CONTENT), rest_of(CONTENT))
    transfer_of(target).run(store, NAME)
    assert store.opened == [3, 0]
    assert content_of(target) == CONTENT


def test_source_that_gave_all_bytes_is_called_a_liar(begun):
    lie = b"lie" * 1000
    target, store = begun(b"bad"), FakeStore(rest_of(lie), rest_of(lie))
    with pytest.raises(IntegrityError) as caught:
        transfer_of(target).run(store, NAME)
    assert store.opened == [3, 0]
    assert caught.value.source == "fake://store/" + NAME
    assert caught.value.expected == str(digest_of(CONTENT))
    assert caught.value.actual == str(digest_of(lie))
    assert (target.offset, content_of(target)) == (0, b"")


def test_whole_object_of_an_earlier_process_is_not_fetched(begun):
    target, store = begun(CONTENT), FakeStore()
    assert transfer_of(target, size=len(CONTENT)).run(store, NAME) == digest_of(CONTENT)
    assert store.opened == []


def test_whole_object_that_is_bad_is_fetched_once_more(begun):
    target, store = begun(bytes(len(CONTENT))), FakeStore(rest_of(CONTENT))
    transfer_of(target, size=len(CONTENT)).run(store, NAME)
    assert store.opened == [0]
    assert content_of(target) == CONTENT


def test_file_that_shrank_starts_again(begun):
    target, store = begun(CONTENT[:1000]), FakeStore(rest_of(CONTENT))
    os.truncate(target.path, 500)
    transfer_of(target).run(store, NAME)
    assert store.opened == [0]
    assert content_of(target) == CONTENT


@pytest.mark.parametrize("kind", ["file", "mem"])
def test_leftover_longer_than_the_object_starts_again(begun, tmp_path, kind):
    url = (tmp_path / "mirror").as_uri() if kind == "file" else f"mem://{tmp_path}"
    store = open_store(url)
    store.write(NAME, CONTENT)
    target = begun(CONTENT + b"more")
    assert transfer_of(target).run(store, NAME) == digest_of(CONTENT)
    assert content_of(target) == CONTENT


def test_store_may_begin_at_the_start(begun):
    target = begun(b"bad")
    store = FakeStore(FakeBody([CONTENT], start=0, size=len(CONTENT)))
    transfer_of(target).run(store, NAME)
    assert store.opened == [3]
    assert content_of(target) == CONTENT


def test_good_piece_earns_a_connection_at_once(target):
    half = 100_000
    store = FakeStore(FakeBody([CONTENT[:half], BROKEN]), rest_of(CONTENT))
    transfer_of(target).run(store, NAME)
    assert store.opened == [0, half]


def test_small_piece_leaves_it_to_the_next_attempt(target):
    store = FakeStore(FakeBody([b"abc", BROKEN]), rest_of(b"abcdef"))
    run = transfer_of(target, b"abcdef")
    with pytest.raises(IncompleteTransferError):
        run.run(store, NAME)
    assert target.offset == 3
    assert run.run(store, NAME) == digest_of(b"abcdef")
    assert store.opened == [0, 3]


def test_mixed_bytes_of_two_sources_blame_nobody(target):
    bad = FakeStore(FakeBody([b"lie", BROKEN]), url="fake://bad")
    good = FakeStore(rest_of(CONTENT), rest_of(CONTENT), url="fake://good")
    run = transfer_of(target)
    with pytest.raises(IncompleteTransferError):
        run.run(bad, NAME)
    assert run.run(good, NAME) == digest_of(CONTENT)
    assert good.opened == [3, 0]


def test_object_that_changed_between_connections_blames_nobody(target):
    half = 100_000
    store = FakeStore(FakeBody([bytes(half), BROKEN]), rest_of(CONTENT), rest_of(CONTENT))
    assert transfer_of(target).run(store, NAME) == digest_of(CONTENT)
    assert store.opened == [0, half, 0]


def test_liar_that_breaks_each_time_is_called_one(target):
    half, lie = 100_000, bytes(len(CONTENT))
    store = FakeStore()
    for _ in range(2):
        store.bodies += [FakeBody([lie[:half], BROKEN]), rest_of(lie)]
    with pytest.raises(IntegrityError):
        transfer_of(target).run(store, NAME)
    assert store.opened == [0, half, 0, half]


def test_validator_of_a_large_object_is_sent_to_its_source_alone(target):
    def begin(_):
        return FakeBody([LARGE[:1000], BROKEN], size=len(LARGE), validator='"v1"')

    one = FakeStore(begin, rest_of(LARGE), url="fake://one")
    two = FakeStore(lambda start: FakeBody([BROKEN], start), url="fake://two")
    run = transfer_of(target, LARGE)
    for store in (one, two):
        with pytest.raises(IncompleteTransferError):
            run.run(store, NAME)
    run.run(one, NAME)
    assert two.validators == [None]  # those bytes are not two's
    assert one.opened == [0, 1000]


def test_unpinned_object_never_goes_on(target):
    store = FakeStore(FakeBody([CONTENT[:100_000], BROKEN]), rest_of(LARGE))
    assert transfer_of(target, digest=None).run(store, NAME) == digest_of(LARGE)
    assert store.opened == [0, 0]
    assert content_of(target) == LARGE


# -- stalls ------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


def drip(clock, piece, seconds, content=CONTENT):
    pieces = [content[i : i + piece] for i in range(0, len(content), piece)]
    return FakeBody(pieces, size=len(content), before_read=lambda: clock.advance(seconds))


def test_stall_is_seen_by_the_clock(target):
    clock = Clock()
    store = FakeStore(drip(clock, 10, 1))
    run = transfer_of(target, limits=Limits(stall_bytes=1024, stall_seconds=30), clock=clock)
    with pytest.raises(IncompleteTransferError, match="stalled at byte 300: 300 bytes in 30 s"):
        run.run(store, NAME)
    assert clock.now == 30
    assert target.offset == 300


def test_slow_but_steady_is_no_stall(target):
    clock = Clock()
    store = FakeStore(drip(clock, 1024, 30))
    run = transfer_of(target, limits=Limits(stall_bytes=1024, stall_seconds=30), clock=clock)
    assert run.run(store, NAME) == digest_of(CONTENT)


def test_stall_after_a_fast_start_is_seen(target):
    clock, steps = Clock(), iter([0.0] * 5)
    body = drip(clock, 1000, 0)
    body.before_read = lambda: clock.advance(next(steps, 31))
    run = transfer_of(target, limits=Limits(stall_bytes=1024, stall_seconds=30), clock=clock)
    with pytest.raises(IncompleteTransferError, match="stalled"):
        run.run(FakeStore(body), NAME)
    assert target.offset == 7000  # the window with the fast start passed, the next one did not


# -- lengths -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [-1, 1])
def test_other_size_is_refused_before_the_body_is_moved(target, by):
    body = FakeBody([CONTENT], size=len(CONTENT))
    with pytest.raises(IntegrityError, match=f"expected {len(CONTENT) + by} bytes") as caught:
        transfer_of(target, size=len(CONTENT) + by).run(FakeStore(body), NAME)
    assert body.given <= 64  # a look at what it is, for the message
    assert repr(CONTENT[:40]) in str(caught.value)
    assert content_of(target) == b""


def test_body_without_length_is_cut_off_at_the_size(target):
    body = FakeBody([LARGE])
    run = transfer_of(target, size=len(CONTENT), limits=Limits(block=1 << 16))
    with pytest.raises(IntegrityError, match="more than 300000 bytes"):
        run.run(FakeStore(body), NAME)
    assert len(CONTENT) < body.given <= len(CONTENT) + (1 << 16)
    assert content_of(target) == b""


def test_body_without_length_that_ends_early(target):
    store = FakeStore(FakeBody([CONTENT[:-1]]), FakeBody([], start=len(CONTENT) - 1))
    with pytest.raises(IncompleteTransferError, match="299999 of 300000 bytes") as caught:
        transfer_of(target, size=len(CONTENT)).run(store, NAME)
    assert (caught.value.expected, caught.value.actual) == (300_000, 299_999)


@pytest.mark.parametrize("digest", [digest_of(CONTENT), None])
def test_no_bytes_and_no_length_is_a_break(target, digest):
    with pytest.raises(IncompleteTransferError, match="empty response without Content-Length"):
        transfer_of(target, digest=digest).run(FakeStore(FakeBody([])), NAME)


def test_empty_object_needs_no_length(target):
    assert transfer_of(target, b"").run(FakeStore(FakeBody([])), NAME) == digest_of(b"")


# -- disks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False])
def test_space_is_checked_before_the_first_byte(target, monkeypatch, told):
    monkeypatch.setattr(disk, "free_bytes", lambda _: len(CONTENT) - 1)
    body = FakeBody([CONTENT], size=len(CONTENT) if told else None)
    run = transfer_of(target, size=None if told else len(CONTENT))
    with pytest.raises(CacheError, match="300000 bytes are needed, 299999 are free") as caught:
        run.run(FakeStore(body), NAME)
    assert body.given == 0
    assert "PKGDATA_CACHE_DIR" in caught.value.hint


def test_space_is_needed_for_the_rest_alone(begun, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1000)
    target = begun(CONTENT[:-1000])
    transfer_of(target).run(FakeStore(rest_of(CONTENT)), NAME)
    assert content_of(target) == CONTENT


def test_unknown_space_is_no_obstacle(target, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda _: None)
    transfer_of(target).run(FakeStore(rest_of(CONTENT)), NAME)


def test_full_disk_is_told_and_gives_its_bytes_back(small_disk):
    folder = str(small_disk("1m"))
    with (
        pytest.raises(CacheError, match="no space for 'maps/dust") as caught,
        Partial(folder, "key", resume=True) as target,
    ):
        transfer_of(target, LARGE).run(FakeStore(rest_of(LARGE, told=False)), NAME)
    assert folder in str(caught.value)
    assert os.listdir(folder) == []


def test_known_size_is_refused_on_a_small_disk(small_disk):
    body = FakeBody([LARGE], size=len(LARGE))
    with (
        pytest.raises(CacheError, match="bytes are needed"),
        Partial(str(small_disk("1m")), "key", resume=True) as target,
    ):
        transfer_of(target, LARGE).run(FakeStore(body), NAME)
    assert body.given == 0


_LIMITED = """
    import hashlib, os, resource, sys
    from pkgdata.errors import CacheError
    from pkgdata.base.hashes import Digest
    from pkgdata.cache.partial import Partial
    from pkgdata.stores import open_store
    from pkgdata.transfer.one import Transfer

    folder, content = sys.argv[1], bytes(8 << 20)
    store = open_store("mem://full")
    store.write("zeros", content)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    try:
        with Partial(folder, "key", resume=True) as target:
            digest = Digest("sha256", hashlib.sha256(content).hexdigest())
            Transfer("zeros", target, digest, None).run(store, "zeros")
    except CacheError as error:
        print(error.message)
    print(os.listdir(folder))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of file sizes")
def test_quota_is_told_like_a_full_disk(folder):
    command = [sys.executable, "-c", textwrap.dedent(_LIMITED), folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"no space for 'zeros' in {folder}", "[]"]


def test_write_error_is_not_blamed_on_the_source(target):
    run = transfer_of(target)
    os.close(target.fd)
    target.fd = os.open(target.path, os.O_RDONLY)
    with pytest.raises(CacheError, match="cannot write"):
        run.run(FakeStore(rest_of(CONTENT)), NAME)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a file that fails to read")
def test_read_error_is_blamed_on_the_source(target):
    # page zero is not mapped, so that reading it fails like a broken disk
    with pytest.raises(IncompleteTransferError, match="file:///proc/self/mem: reading broke off"):
        transfer_of(target).run(open_store("file:///proc/self"), "mem")


# -- what no digest vouches for ----------------------------------------------------------------

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("a.fits", b"SIMPLE  =", None),
        ("a.fits", b"<!DOCTYPE html>", "HTML page"),
        ("a.fits", b"\xef\xbb\xbf \r\n<HTML lang=en>", "HTML page"),
        ("d.ir/a.fits?x=.html", b"<html>", "HTML page"),
        ("a.html", b"<html>", None),
        ("a.xhtml", b"<!doctype html>", None),
        ("page", b"<html>", None),
        ("a.xml", b"<?xml version='1.0'?>", None),
        ("a.bin", LFS, "Git LFS pointer"),
        ("page", LFS, "Git LFS pointer"),
        ("a.fits", b"", "no bytes"),
    ],
)
def test_unexpected_page(name, head, said):
    found = unexpected_page(name, head, len(head), FakeBody([]))
    assert found is None if said is None else said in found


def test_compressed_body_is_unexpected():
    body = SimpleNamespace(encoded=True)
    assert "compressed" in unexpected_page("a.fits", b"\x1f\x8b", 2, body)


def test_unpinned_page_is_refused_and_dropped(target):
    with pytest.raises(StoreError, match="HTML page") as caught:
        transfer_of(target, digest=None).run(FakeStore(FakeBody([b"<ht", b"ml>"])), NAME)
    assert not caught.value.transient
    assert content_of(target) == b""


def test_head_is_put_together_from_small_pieces(target):
    pieces = [bytes([byte]) for byte in LFS]
    with pytest.raises(StoreError, match="Git LFS"):
        transfer_of(target, digest=None).run(FakeStore(FakeBody(pieces)), NAME)


def test_limits_have_sound_defaults():
    limits = Limits()
    assert limits.block == 1 << 20
    assert limits.stall_bytes / limits.stall_seconds < 100  # even a modem is faster
    assert limits.block <= hashes._INLINE


# -- several ranges, left by an earlier process ------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["length told", "no length"])
def test_later_bytes_are_kept_though_no_registry_tells_the_size(folder, told):
    front, start, end = 50_000, 100_000, 280_000
    there = bytearray(len(CONTENT))
    there[:front], there[start:end] = CONTENT[:front], CONTENT[start:end]
    with open(os.path.join(folder, "key.part"), "wb") as file:
        file.write(there)
    with open(os.path.join(folder, "key.spans"), "w", encoding="ascii") as file:
        file.write(f"{front} {start}-{end}\n")
    given = []

    def serve(offset):
        body = FakeBody([CONTENT[offset:]], offset, len(CONTENT) if told else None)
        given.append(body)
        return body

    store = FakeStore(*[serve] * 4)
    with Partial(folder, "key", resume=True) as target:
        assert transfer_of(target).run(store, NAME) == digest_of(CONTENT)
        assert content_of(target) == CONTENT
    asked = [front, end] if told else [front]
    assert sorted(store.opened) == asked
    missing = len(CONTENT) - front - (end - start)
    sent = sum(body.given for body in given)
    assert sent == missing if told else sent == len(CONTENT) - front


def test_a_file_that_another_process_removed_at_once_is_still_reported(tmp_path):
    seen = []
    with fetching.shown(NAME, seen.append, lambda: os.stat(tmp_path / "gone").st_size):
        pass
    assert [(event.state, event.done) for event in seen] == [("done", 0)]
