"""Digests are values; files are hashed as hashlib and xxhash would."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
from typing import NamedTuple

import pytest

from pkgdata.base import hashes
from pkgdata.base.hashes import HEX_LENGTH, Digest
from pkgdata.errors import MissingExtraError

HEX = hashlib.sha256(b"test").hexdigest()


def reference(alg, data):
    """Hash with the library that defines the algorithm."""
    if alg.startswith("xxh"):
        xxhash = pytest.importorskip("xxhash", reason="the package xxhash is not installed")
        return getattr(xxhash, alg)(data).hexdigest()
    return hashlib.new(alg, data).hexdigest()


def test_a_digest_without_prefix_is_sha256():
    assert Digest.parse(HEX) == Digest("sha256", HEX) == Digest.parse(f"sha256:{HEX}")


def test_upper_case_and_blanks_are_accepted():
    assert Digest.parse(f"  SHA256:{HEX.upper()}\n") == Digest("sha256", HEX)


def test_digests_are_compared_as_values():
    one, same, other = Digest("md5", "0" * 32), Digest("md5", "0" * 32), Digest("md5", "1" * 32)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != Digest("xxh128", "0" * 32)
    assert one != "md5:" + "0" * 32
    assert len({one, same, other}) == 2


def test_a_digest_cannot_be_changed():
    digest = Digest.parse(HEX)
    with pytest.raises(AttributeError, match="cannot be changed"):
        digest.hex = "0"
    with pytest.raises(AttributeError):
        digest.other = 1


@pytest.mark.parametrize("alg", HEX_LENGTH)
def test_text_and_pickle_give_the_digest_back(alg):
    digest = Digest.parse(f"{alg}:{'a1' * (HEX_LENGTH[alg] // 2)}")
    assert Digest.parse(str(digest)) == digest
    assert pickle.loads(pickle.dumps(digest)) == digest
    assert copy.deepcopy(digest) == digest
    assert repr(digest) == f"Digest('{alg}:{digest.hex}')"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "expected 64 hexadecimal digits for sha256, found ''"),
        ("abc", "expected 64 hexadecimal digits for sha256, found 'abc'"),
        (HEX[:-1], "expected 64"),
        (HEX + "0", "expected 64"),
        (HEX[:-1] + "g", "expected 64"),
        (HEX[:-1] + "٣", "expected 64"),  # a digit, not of the hexadecimal sixteen
        (f"md5:{HEX}", "expected 32 hexadecimal digits for md5"),
        (f"sha257:{HEX}", "unknown hash algorithm 'sha257' .known: md5, "),
        (f":{HEX}", "unknown hash algorithm ''"),
        (f"sha256:sha256:{HEX}", "unknown hash algorithm 'sha256:sha256'"),
        (f"0x{HEX[2:-1]}g", "expected 64"),
    ],
)
def test_bad_text_says_what_was_expected(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        Digest.parse(text)


@pytest.mark.parametrize("alg", HEX_LENGTH)
@pytest.mark.parametrize("size", [0, 1, hashes.BLOCK - 1, hashes.BLOCK, hashes.BLOCK + 1])
def test_files_hash_as_the_reference_does(tmp_path, alg, size):
    data = bytes(range(251)) * (size // 251 + 1)
    path = tmp_path / "file"
    path.write_bytes(data[:size])
    found = hashes.hash_file(path, alg)
    assert found == Digest(alg, reference(alg, data[:size]))
    assert len(found.hex) == HEX_LENGTH[alg]
    assert Digest.parse(str(found)) == found


def test_many_blocks(tmp_path):
    path = tmp_path / "file"
    data = bytes(range(256)) * 4096 * 3 + b"rest"
    path.write_bytes(data)
    assert hashes.hash_file(str(path)).hex == hashlib.sha256(data).hexdigest()


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        hashes.hash_file(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        hashes.hash_file(tmp_path)


def test_without_xxhash_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "xxhash", None)
    with pytest.raises(MissingExtraError, match="xxh64 needs the package xxhash") as caught:
        hashes.new("xxh64")
    assert caught.value.hint == "pip install 'pkgdata-cache[xxhash]'"


def test_hashers_take_every_kind_of_buffer():
    for alg in ("sha256", "md5"):
        hasher = hashes.new(alg)
        hasher.update(b"a")
        hasher.update(bytearray(b"b"))
        hasher.update(memoryview(b"xcx")[1:2])
        assert hasher.hexdigest() == reference(alg, b"abc")


@pytest.mark.parametrize("length", [0, 1, 3 << 20, 4 << 20, (4 << 20) + 1, 9 << 20])
def test_a_lane_hashes_what_it_is_handed(length):
    data = bytes(range(256)) * (length // 256) + bytes(length % 256)
    hasher, at, block = hashes.new("sha256"), 0, 1 << 20
    with hashes.Lane(hasher, block) as lane:
        while at < length:
            buffer = lane.buffer()
            assert lane.buffer() is buffer, "the same until a block is handed over"
            part = data[at : at + len(buffer)]
            buffer[: len(part)] = part
            lane.hash(buffer[: len(part)])
            at += len(part)
    assert hasher.hexdigest() == reference("sha256", data)


def test_a_lane_keeps_its_hands_off_blocks_that_lie_elsewhere():
    blocks = [bytes([number]) * (1 << 20) for number in range(12)]
    hasher = hashes.new("md5")
    with hashes.Lane(hasher, 1 << 10) as lane:
        for block in blocks:
            lane.buffer()
            lane.hash(memoryview(block))
    assert hasher.hexdigest() == reference("md5", b"".join(blocks))


class Known(NamedTuple):
    size: int | None = None
    digest: Digest | None = None
    modified: float | None = None


MD5, OTHER_MD5 = Digest("md5", "0" * 32), Digest("md5", "1" * 32)
SHA = Digest("sha256", "0" * 64)


@pytest.mark.parametrize(
    ("mine", "its", "why"),
    [
        (Known(3, MD5), Known(4, MD5), hashes.SIZE),
        (Known(3, MD5, 2.0), Known(3, MD5, 1.0), ""),
        (Known(None, MD5), Known(3, MD5), ""),
        (Known(3, MD5, 1.0), Known(3, OTHER_MD5, 1.0), hashes.DIGEST),
        (Known(3, MD5), Known(3, SHA), hashes.UNKNOWN),
        (Known(3, MD5, 2.0), Known(3, SHA, 1.0), hashes.NEWER),
        (Known(3, None, 1.5), Known(3, None, 1.25), hashes.NEWER),
        (Known(3, None, 1.5), Known(3, None, 1.0), ""),  # its clock keeps whole seconds
        (Known(3, None, 1.0), Known(3, None, 2.0), ""),
        (Known(3), Known(3, SHA, 1.0), hashes.UNKNOWN),
        (Known(), Known(), hashes.UNKNOWN),
    ],
)
def test_one_rule_says_whether_two_files_hold_the_same_bytes(mine, its, why):
    assert hashes.difference(mine, its) == why


def test_mismatch_names_both():
    error = hashes.mismatch("wrong bytes for 'a'", MD5, OTHER_MD5, name="a", source="there")
    assert str(error).startswith(f"wrong bytes for 'a': expected {MD5}, found {OTHER_MD5}")
    assert (error.name, error.source, error.expected) == ("a", "there", str(MD5))
    assert error.actual == str(OTHER_MD5)


def test_blocks_are_hashed_as_one():
    assert hashes.hash_blocks((b"ab", memoryview(b"c")), "md5") == hashes.hash_blocks(
        [b"abc"], "md5"
    )


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 25])
@pytest.mark.parametrize("step", [1, 3, 10, 100])
def test_the_etag_of_an_object_in_parts(size, step):
    content = bytes(range(size))
    parts = [content[at : at + 10] for at in range(0, size, 10)] or [b""]
    of_parts = b"".join(hashlib.md5(part).digest() for part in parts)
    blocks = (content[at : at + step] for at in range(0, size, step))
    expected = f"{hashlib.md5(of_parts).hexdigest()}-{len(parts)}"
    assert hashes.etag_in_parts(blocks, 10) == expected
