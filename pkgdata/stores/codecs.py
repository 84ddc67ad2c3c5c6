"""Encodings of stored bytes: gzip, br (Brotli), zstd, xz and bzip2, whole or in a stream.

br and zstd are the extra ``pkgdata-cache[compress]``; the others are in the standard library.
"""

from __future__ import annotations

from ..errors import ConfigError, MissingExtraError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import Any

#: What a store without ``Content-Encoding`` appends to a name, by encoding.
SUFFIXES = {"gzip": ".gz", "br": ".br", "zstd": ".zstd", "xz": ".xz", "bzip2": ".bz2"}

#: Bytes that are decoded at a time: a few compressed ones may stand for gigabytes.
_PIECE = 1 << 20

#: Compressed bytes that are decoded at a time, where the decoder cannot be told to stop: in zstd a
#: kilobyte stands for 32 MB at most.
_MOST_AT_ONCE = {"zstd": 1 << 10}

#: Words that mean "as it is".
_NONE = ("", "none", "identity", None)

#: gzip's compromise; Brotli's default of 11 is some fifty times slower than 5.
_LEVELS = {"gzip": 6, "br": 5, "zstd": 3, "xz": 6, "bzip2": 9}

#: Other words for an encoding.
_WORDS = {
    "gz": "gzip",
    "x-gzip": "gzip",
    "brotli": "br",
    "zst": "zstd",
    "lzma": "xz",
    "bz2": "bzip2",
    "x-bzip2": "bzip2",
}

#: Content up to this length becomes a zstd frame that says how long it is: readers that decode in
#: one go, cloud-files among them, refuse a frame that does not.
_SIZED = 8 << 20


def canonical(encoding: str | None) -> str | None:
    """Return the word that ``Content-Encoding`` has for an encoding."""
    if encoding in _NONE:
        return None
    assert encoding is not None
    word = encoding.strip().lower()
    word = _WORDS.get(word, word)
    if word in _NONE:
        return None
    if word not in SUFFIXES:
        raise ConfigError(
            f"unknown encoding {encoding!r}", hint=f"known: {', '.join(SUFFIXES)}, none"
        )
    return word


#: Modules of the standard library whose decompressors take one stream each, as zlib's does.
_STANDARD = {"xz": "lzma", "bzip2": "bz2"}


def _module(encoding: str) -> ModuleType:
    import importlib

    name = {"br": "brotli", "zstd": "zstandard"}.get(encoding) or _STANDARD[encoding]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"the encoding {encoding} needs the package {name}, which is not installed",
            hint="pip install 'pkgdata-cache[compress]'",
        ) from None


def _gzip_encoder(level: int) -> tuple[Callable[[Any], bytes], Callable[[], bytes]]:
    import zlib

    # 16 asks zlib for a gzip header, which then holds no name and no time: same bytes every time
    encoder = zlib.compressobj(level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return encoder.compress, encoder.flush


def _encoder(
    encoding: str, level: int | None
) -> tuple[Callable[[Any], bytes], Callable[[], bytes]]:
    level = _LEVELS[encoding] if level is None else level
    if encoding == "gzip":
        return _gzip_encoder(level)
    module = _module(encoding)
    if encoding == "xz":
        xz = module.LZMACompressor(preset=level)
        return xz.compress, xz.flush
    if encoding == "bzip2":
        bzip2 = module.BZ2Compressor(level)
        return bzip2.compress, bzip2.flush
    if encoding == "br":
        brotli = module.Compressor(quality=level)
        return lambda data: brotli.process(bytes(data)), brotli.finish
    zstd = module.ZstdCompressor(level=level).compressobj()
    return zstd.compress, zstd.flush


def encode(content: bytes | memoryview, encoding: str | None, level: int | None = None) -> bytes:
    """Compress bytes; the level is on the encoder's scale: zstd to 22, br to 11, others to 9."""
    return b"".join(encode_blocks([content], encoding, level))


def encode_blocks(
    blocks: Iterable[bytes | memoryview], encoding: str | None, level: int | None = None
) -> Iterator[bytes | memoryview]:
    """Compress bytes that come in blocks."""
    encoding = canonical(encoding)
    if encoding is None:
        yield from blocks
        return
    if encoding == "zstd":
        yield from _encode_zstd(blocks, level)
        return
    add, end = _encoder(encoding, level)
    for block in blocks:
        if data := add(block):
            yield data
    yield end()


def _encode_zstd(blocks: Iterable[bytes | memoryview], level: int | None) -> Iterator[bytes]:
    """Compress bytes, in a frame that says how many they are if these are not too many to wait."""
    rest, head = iter(blocks), bytearray()
    for block in rest:
        head += block
        if len(head) > _SIZED:
            break
    else:
        level = _LEVELS["zstd"] if level is None else level
        yield _module("zstd").ZstdCompressor(level=level).compress(bytes(head))
        return
    add, end = _encoder("zstd", level)
    yield add(head)
    del head
    for block in rest:
        if data := add(block):
            yield data
    yield end()


def decode(content: bytes, encoding: str | None, address: str = "") -> bytes:
    """Decompress bytes; the address is the redacted URL of the object, for errors."""
    if canonical(encoding) is None:
        return content
    return b"".join(decode_blocks([content], encoding, address))


def decode_blocks(
    blocks: Iterable[bytes | memoryview], encoding: str | None, address: str = ""
) -> Iterator[bytes | memoryview]:
    """Decompress bytes that come in blocks."""
    encoding = canonical(encoding)
    if encoding is None:
        yield from blocks
        return
    if encoding == "br":
        decoded = _decode_brotli(blocks)
    else:
        decoded = _decode_members(blocks, encoding)
    try:
        yield from decoded
    except _codec_errors(encoding) as error:
        raise StoreError(
            f"{address or 'the object'}: its {encoding} bytes cannot be decoded: {error}",
            hint="raw=True gives the stored bytes as they are",
            url=address,
        ) from error


def _codec_errors(encoding: str) -> tuple[type[Exception], ...]:
    import zlib

    found: list[type[Exception]] = [zlib.error, EOFError]
    names = {"br": "error", "zstd": "ZstdError", "xz": "LZMAError"}
    if encoding in names:
        found.append(getattr(_module(encoding), names[encoding]))
    return tuple(found)


def _decode_brotli(blocks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    decoder = _module("br").Decompressor()
    bounded = hasattr(decoder, "can_accept_more_data")  # since Brotli 1.2
    limit = {"output_buffer_limit": _PIECE} if bounded else {}
    for block in blocks:
        part = decoder.process(bytes(block), **limit)
        yield part
        while bounded and not decoder.is_finished():
            if not part and decoder.can_accept_more_data():
                break  # what was held back is given too
            part = decoder.process(b"", **limit)
            yield part
    if not decoder.is_finished():
        raise EOFError("they end too early")


def _decode_members(blocks: Iterable[bytes | memoryview], encoding: str) -> Iterator[bytes]:
    """Decode what may be several streams in a row: all but br."""
    import zlib

    most = _MOST_AT_ONCE.get(encoding, _PIECE)

    def new() -> Any:
        if encoding == "gzip":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        module = _module(encoding)
        if encoding == "xz":
            return module.LZMADecompressor()
        if encoding == "bzip2":
            return module.BZ2Decompressor()
        return module.ZstdDecompressor().decompressobj()

    decoder, begun = new(), False
    for block in blocks:
        data, hungry = memoryview(bytes(block)), True
        while data or not hungry:
            if decoder.eof:
                decoder = new()
            begun = True
            taken = data[:most] if hungry else data[:0]
            try:
                part, left, hungry = _step(decoder, taken, encoding)
            except OSError as error:  # bzip2's; one that is raised by the blocks is none of ours
                raise zlib.error(str(error)) from error
            yield part
            data = data[len(taken) - left :]
    if begun and not decoder.eof:
        raise EOFError("they end too early")


def _step(decoder: Any, taken: memoryview, encoding: str) -> tuple[bytes, int, bool]:
    """Feed a decoder; return what it gives, how much it left, and whether it wants more."""
    if encoding == "zstd":
        part = decoder.decompress(taken)
        return part, len(decoder.unused_data) if decoder.eof else 0, True
    part = decoder.decompress(taken, _PIECE)
    if decoder.eof:
        return part, len(decoder.unused_data), True
    if encoding == "gzip":
        return part, len(decoder.unconsumed_tail), len(part) < _PIECE
    return part, 0, decoder.needs_input
