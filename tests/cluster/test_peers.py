"""A file that is put together of blocks from other workers, in any order."""

from __future__ import annotations

import os
import random
from types import SimpleNamespace

import pytest

import pkgdata
from pkgdata.base.hashes import hash_blocks
from pkgdata.cache.partial import Partial, growing
from pkgdata.cluster.peers import Assembly, merged, piece
from pkgdata.core.registry import Entry

SIZE = 5000
CONTENT = random.Random(5).randbytes(SIZE)


class Workers:
    """Stand in for other workers, which have more and more of a file."""

    def __init__(self, *steps, content=CONTENT, stop=99):
        self._steps, self._content, self._stop = list(steps), content, stop
        self.asked = []
        self.share = SimpleNamespace(refused=set())

    def submit(self, wants):
        ((_, gaps),) = wants
        self.asked.append(gaps)
        while self._steps:
            total = SIZE if self._steps[0] == [(0, SIZE)] else None
            found = piece(gaps, self._steps[0], 700, total, 1)
            if found != (-1, -1):
                return *found, total
            del self._steps[0]
        return -1, -1, None

    def result(self, future):
        if len(self.asked) > self._stop:
            raise KeyboardInterrupt
        start, end, total = future
        parts = [(0, start, end - start, total)]
        return {"refused": [], "parts": parts, "content": self._content[start:end]}


def partial(folder):
    return Partial(str(folder), "sha256-00", resume=True)


def entry(size=SIZE):
    return Entry("a", hash_blocks((CONTENT,)), size)


def test_pieces_fill_gaps_from_the_front():
    assert piece([(10, 20)], [(0, 5), (15, 30)], 100, None, 1) == (15, 20)
    assert piece([(10, None)], [(0, 30)], 100, None, 1) == (10, 30)
    assert piece([(10, None)], [(0, 30)], 5, None, 1) == (10, 15)
    assert piece([(10, 100)], [(0, 12)], 50, 100, 10) == (-1, -1)
    assert piece([(10, 100)], [(0, 100)], 500, 100, 1000) == (10, 100)
    assert piece([(0, None)], [(0, 0)], 5, 0, 1) == (0, 0)
    assert piece([(0, 5)], [], 5, None, 1) == (-1, -1)


def test_intervals_are_merged():
    assert merged([], 0, 0) == [(0, 0)]
    assert merged([(0, 5), (10, 15)], 5, 10) == [(0, 15)]
    assert merged([(0, 5), (20, 25)], 10, 15) == [(0, 5), (10, 15), (20, 25)]


@pytest.mark.parametrize("size", [SIZE, None])
def test_a_file_is_read_in_order(tmp_path, size):
    with partial(tmp_path) as target:
        Assembly(target, entry(size), Workers([(0, 5000)])).run()
        assert target.offset == 5000
        assert os.pread(target.fd, 9999, 0) == CONTENT


def test_blocks_that_come_out_of_order_are_recorded_and_hashed_in_theirs(tmp_path):
    workers = Workers([(0, 300), (4000, 4500)], [(0, 300), (2000, 4500)], [(0, 5000)])
    with partial(tmp_path) as target:
        Assembly(target, entry(), workers).run()
        assert (target.offset, target.later) == (5000, [])
        assert os.pread(target.fd, 9999, 0) == CONTENT
    assert workers.asked[2] == [(300, 4000), (4500, 5000)]


def test_what_an_attempt_left_is_kept_and_seen_by_others(tmp_path):
    first = Workers([(0, 300), (4000, 4500)], stop=2)
    with pytest.raises(KeyboardInterrupt), partial(tmp_path) as target:
        Assembly(target, entry(), first).run()
    ((path, there),) = growing(str(tmp_path), {"sha256-00"}).values()
    assert (path, there) == (str(tmp_path / "sha256-00.part"), [(0, 300), (4000, 4500)])
    second = Workers([(0, 5000)])
    with partial(tmp_path) as target:
        Assembly(target, entry(), second).run()
        assert os.pread(target.fd, 9999, 0) == CONTENT
    assert second.asked[0] == [(300, 4000), (4500, 5000)]


def test_wrong_bytes_are_dropped(tmp_path):
    wrong = Workers([(0, 5000)], content=bytes(5000))
    with partial(tmp_path) as target:
        with pytest.raises(pkgdata.IntegrityError, match="wrong bytes for 'a' from other workers"):
            Assembly(target, entry(), wrong).run()
        assert os.fstat(target.fd).st_size == target.offset == 0
