"""Encodings: what goes in comes out, and what is damaged is told."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import random
import struct
import sys
import types
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgdata.errors import ConfigError, PkgdataError, StoreError
from pkgdata.stores import Store, codecs

ENCODINGS = ["gzip", "br", "zstd", "xz", "bzip2"]
CONTENT = random.Random(3).randbytes(3000) + bytes(200_000) + b"text " * 5000


def have(encoding):
    """Skip the test if the package of an encoding is not installed."""
    module = {"br": "brotli", "zstd": "zstandard"}.get(encoding)
    if module is not None and not (encoding == "zstd" and codecs._HAS_ZSTD):
        pytest.importorskip(module)


@contextlib.contextmanager
def standard_zstd():
    """Have zstd from the standard library; before Python 3.14, from a package that is it."""
    name = "compression.zstd" if codecs._HAS_ZSTD else "backports.zstd"
    module = pytest.importorskip(name, reason=f"needs {name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codecs, "_HAS_ZSTD", True)
        patch.setitem(sys.modules, "compression", types.ModuleType("compression"))
        patch.setitem(sys.modules, "compression.zstd", module)
        yield


@pytest.fixture(params=[*ENCODINGS, "zstd of the standard library"], scope="module")
def encoding(request):
    name = request.param.partition(" ")[0]
    if name != request.param:
        with standard_zstd():
            yield name
        return
    have(name)
    yield name


def in_blocks(content, sizes):
    """Cut bytes into blocks of these sizes, again and again; empty ones may be among them."""
    view, at = memoryview(content), 0
    while at < len(content):
        for size in sizes:
            yield view[at : at + size]
            at += size


def joined(blocks):
    return b"".join(map(bytes, blocks))


# -- round trips -------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=5000), sizes=st.lists(st.integers(0, 700), min_size=1))
def test_any_bytes_in_any_blocks(encoding, content, sizes):
    if not any(sizes):
        sizes = [*sizes, 1]
    stored = joined(codecs.encode_blocks(in_blocks(content, sizes), encoding))
    assert codecs.decode(stored, encoding) == content
    assert joined(codecs.decode_blocks(in_blocks(stored, sizes), encoding)) == content
    assert codecs.decode(codecs.encode(content, encoding), encoding) == content


@pytest.mark.parametrize("level", [1, 5, 9])
def test_levels(encoding, level):
    stored = codecs.encode(CONTENT, encoding, level)
    assert codecs.decode(stored, encoding) == CONTENT
    assert len(stored) < len(CONTENT) / 10


def test_same_bytes_every_time(encoding):
    assert codecs.encode(CONTENT, encoding) == codecs.encode(CONTENT, encoding)


def test_nothing_is_something_encoded(encoding):
    stored = codecs.encode(b"", encoding)
    assert stored
    assert codecs.decode(stored, encoding) == b""
    assert joined(codecs.decode_blocks([], encoding)) == b"" if encoding != "br" else True


def test_others_read_what_we_write():
    assert gzip.decompress(codecs.encode(CONTENT, "gzip")) == CONTENT
    assert lzma.decompress(codecs.encode(CONTENT, "xz")) == CONTENT
    assert bz2.decompress(codecs.encode(CONTENT, "bzip2")) == CONTENT


def test_others_read_our_brotli_and_zstd():
    brotli, zstandard = pytest.importorskip("brotli"), pytest.importorskip("zstandard")
    assert brotli.decompress(codecs.encode(CONTENT, "br")) == CONTENT
    # in one go, which needs a frame that tells its size
    assert zstandard.ZstdDecompressor().decompress(codecs.encode(CONTENT, "zstd")) == CONTENT


def test_we_read_what_others_write():
    for level in (0, 1, 9):
        assert codecs.decode(gzip.compress(CONTENT, level), "gzip") == CONTENT
    with_name = io.BytesIO()
    with gzip.GzipFile("a name.txt", "wb", fileobj=with_name) as file:
        file.write(CONTENT)
    assert codecs.decode(with_name.getvalue(), "gzip") == CONTENT
    assert codecs.decode(lzma.compress(CONTENT, lzma.FORMAT_XZ), "xz") == CONTENT
    assert codecs.decode(lzma.compress(CONTENT, lzma.FORMAT_ALONE), "xz") == CONTENT


def test_zstd_frames_with_and_without_their_size():
    zstandard = pytest.importorskip("zstandard")
    for tells in (True, False):
        stored = zstandard.ZstdCompressor(write_content_size=tells).compress(CONTENT)
        assert codecs.decode(stored, "zstd") == CONTENT


def test_zstd_of_the_standard_library_is_that_of_others():
    zstandard = pytest.importorskip("zstandard")
    others = zstandard.ZstdCompressor(write_content_size=False).compress(CONTENT)
    with standard_zstd(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "zstandard", None)
        small = codecs.encode(CONTENT, "zstd")
        large = joined(codecs.encode_blocks([CONTENT] * 50, "zstd", 19))
        assert codecs.decode(others + small, "zstd") == 2 * CONTENT
        bomb = codecs.decode_blocks([codecs.encode(bytes(40 << 20), "zstd")], "zstd")
        assert max(map(len, bomb)) <= 1 << 20
        with pytest.raises(StoreError, match="cannot be decoded"):
            codecs.decode(b"nonsense", "zstd")
    assert zstandard.frame_content_size(small) == len(CONTENT), "readers in one go need it"
    reader = zstandard.ZstdDecompressor().stream_reader(large)
    assert reader.read() == 50 * CONTENT


def test_large_content_of_zstd_is_streamed():
    have("zstd")
    block = bytes(1 << 20)
    stored = joined(codecs.encode_blocks((block for _ in range(20)), "zstd"))
    assert len(codecs.decode(stored, "zstd")) == 20 << 20


@pytest.mark.parametrize("name", ["gzip", "zstd", "xz", "bzip2"])
@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_several_streams_in_a_row(name, size):
    have(name)
    parts = [b"first", b"", CONTENT, b"last"]
    stored = b"".join(codecs.encode(part, name) for part in parts)
    assert joined(codecs.decode_blocks(in_blocks(stored, [size]), name)) == b"".join(parts)


# -- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 5, 0.5, -1])
def test_truncated(encoding, cut):
    stored = codecs.encode(CONTENT, encoding)
    cut = int(len(stored) * cut) if isinstance(cut, float) else cut
    for blocks in ([stored[:cut]], in_blocks(stored[:cut], [11])):
        with pytest.raises(StoreError, match=rf"mem://x/a: its {encoding} bytes") as caught:
            joined(codecs.decode_blocks(blocks, encoding, "mem://x/a"))
        assert "raw=True" in caught.value.hint
        assert caught.value.url == "mem://x/a"
        assert not caught.value.transient


def test_garbage(encoding):
    for garbage in (b"not compressed at all, really not", b"\xff" * 100, b"<html></html>" * 9):
        with pytest.raises(StoreError, match="cannot be decoded"):
            codecs.decode(garbage, encoding)


def test_garbage_behind_a_stream(encoding):
    with pytest.raises(StoreError, match="cannot be decoded"):
        codecs.decode(codecs.encode(CONTENT, encoding) + b"garbage behind it", encoding)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2"])
def test_a_changed_byte_is_seen_or_does_no_harm(name, at, flip):
    """These three carry checksums; only bytes that mean nothing, as a header's time, may change."""
    stored = bytearray(codecs.encode(CONTENT, name))
    stored[at % len(stored)] ^= flip
    try:
        found = codecs.decode(bytes(stored), name)
    except StoreError:
        return  # it was seen; any other error fails the test
    assert found == CONTENT


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_garbage_is_an_error_of_ours(encoding, content):
    try:
        codecs.decode(content, encoding)
    except PkgdataError:
        pass  # anything else fails the test


def test_damaged_object_of_a_store(tmp_path):
    store = Store(f"mem://{tmp_path}")
    store.put("a", CONTENT, compress="gzip")
    [stored] = store.get(["a"], raw=True)
    store.put("a", stored.content[:-9], encoding="gzip")
    with pytest.raises(StoreError, match=f"mem:.*{tmp_path.name}/a: its gzip bytes"):
        store.get("a")
    with pytest.raises(StoreError, match="too early"):
        joined(store.cat("a"))
    assert next(iter(store.get(["a"], raw=True))).content == stored.content[:-9]


def test_errors_of_the_blocks_are_not_taken_for_ours(encoding):
    class MineError(OSError):
        pass

    def blocks():
        yield codecs.encode(CONTENT, encoding)[:10]
        raise MineError

    with pytest.raises(MineError):
        joined(codecs.decode_blocks(blocks(), encoding))
    with pytest.raises(MineError):
        joined(codecs.encode_blocks(blocks(), encoding))


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "found"),
    [
        *[(None, None), ("", None), ("none", None), ("identity", None), ("NONE", None)],
        *[
            ("gzip", "gzip"),
            ("gz", "gzip"),
            ("x-gzip", "gzip"),
            ("GZip", "gzip"),
            (" gzip ", "gzip"),
        ],
        *[("br", "br"), ("brotli", "br"), ("Brotli", "br"), ("zstd", "zstd"), ("zst", "zstd")],
        *[("xz", "xz"), ("lzma", "xz"), ("bzip2", "bzip2"), ("bz2", "bzip2"), ("x-bzip2", "bzip2")],
    ],
)
def test_canonical(word, found):
    assert codecs.canonical(word) == found


@pytest.mark.parametrize("word", ["rar", "deflate", "gzip, br", "gzip2", "*", "same"])
def test_unknown_words(word):
    with pytest.raises(ConfigError, match="unknown encoding") as caught:
        codecs.canonical(word)
    for known in (*ENCODINGS, "none"):
        assert known in caught.value.hint
    for function in (codecs.encode, codecs.decode):
        with pytest.raises(ConfigError):
            function(b"", word)


def test_no_encoding_leaves_bytes_alone():
    for word in (None, "none", "identity"):
        assert codecs.encode(CONTENT, word) == codecs.decode(CONTENT, word) == CONTENT
        blocks = [b"1", b"2"]
        assert list(codecs.decode_blocks(blocks, word)) == blocks
        assert list(codecs.encode_blocks(blocks, word)) == blocks


def test_suffixes():
    assert set(codecs.SUFFIXES) == set(ENCODINGS)
    assert len(set(codecs.SUFFIXES.values())) == len(ENCODINGS)


# -- memory ------------------------------------------------------------------------------------


ZEROS = bytes(1 << 20)


def greedy(count=100):
    """Return xz bytes that ask for a dictionary of 1 GiB (The .xz File Format, 3.1 and 5.3.1)."""
    stored = bytearray(lzma.compress(bytes(count)))
    size = 4 * (stored[12] + 1)
    stored[stored.index(b"\x21\x01", 12) + 2] = 36
    stored[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(stored[12 : 12 + size - 4]))
    return bytes(stored)


def test_xz_that_asks_for_much_memory_is_refused(tmp_path):
    assert lzma.decompress(greedy()) == bytes(100), "it is well made"
    with pytest.raises(StoreError, match="Memory usage limit"):
        codecs.decode(greedy(), "xz")
    # the first stream is modest
    (tmp_path / "a.xz").write_bytes(lzma.compress(b"1") + greedy())
    with (
        codecs.opened(str(tmp_path / "a.xz"), "xz") as file,
        pytest.raises(StoreError, match="Memory usage limit"),
    ):
        while file.read(1 << 20):
            pass


def test_streams_of_xz_with_padding_between_and_behind_them(tmp_path):
    content = lzma.compress(b"1") + bytes(8) + lzma.compress(b"2") + bytes(2_000_000)
    assert codecs.decode(content, "xz") == b"12"
    (tmp_path / "a.xz").write_bytes(content)
    with codecs.opened(str(tmp_path / "a.xz"), "xz") as file:
        assert (file.read(1) + file.read(1), file.read(1)) == (b"12", b"")


def test_zstd_that_asks_for_much_memory_is_refused():
    zstandard = pytest.importorskip("zstandard")
    far = zstandard.ZstdCompressionParameters(window_log=29)
    coder = zstandard.ZstdCompressor(compression_params=far).compressobj()
    content = coder.compress(bytes(1000)) + coder.flush()
    with pytest.raises(StoreError, match="memory"):
        codecs.decode(content, "zstd")


@pytest.mark.slow
def test_few_bytes_that_stand_for_many_are_decoded_in_pieces(encoding):
    """A kilobyte of compressed bytes may stand for gigabytes, and comes as one block."""
    if encoding == "br" and not hasattr(
        __import__("brotli").Decompressor(), "can_accept_more_data"
    ):
        pytest.skip("needs Brotli 1.2, which bounds what a decoder gives")
    count = 128
    stored = joined(codecs.encode_blocks((ZEROS for _ in range(count)), encoding, 1))
    assert len(stored) < 4 << 20
    total = longest = 0
    for block in codecs.decode_blocks([stored], encoding):
        total += len(block)
        longest = max(longest, len(block))
    assert total == count << 20
    assert longest <= 33 << 20


def test_gzip_of_which_the_end_is_held_back():
    """What the decoder keeps when a piece is full is given, too."""
    for size in range((1 << 20) - 3, (1 << 20) + 260, 37):
        stored = codecs.encode(bytes(size), "gzip")
        assert len(codecs.decode(stored, "gzip")) == size
        assert len(joined(codecs.decode_blocks(in_blocks(stored, [1]), "gzip"))) == size
