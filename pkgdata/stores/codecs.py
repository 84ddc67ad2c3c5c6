"""Encodings of stored bytes: gzip, br (Brotli), zstd, xz and bzip2, whole or in a stream.

br and zstd are the extra ``pkgdata-cache[compress]``; the others are in the standard library, and
since Python 3.14 zstd is, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from types import ModuleType
from typing import IO, Any

from ..base import fs
from ..base.config import conf
from ..errors import ConfigError, ExtractionError, MissingExtraError, StoreError

#: What a store without ``Content-Encoding`` appends to a name, by encoding.
SUFFIXES = {"gzip": ".gz", "br": ".br", "zstd": ".zstd", "xz": ".xz", "bzip2": ".bz2"}

#: Bytes that are decoded at a time: a few compressed ones may stand for gigabytes.
_PIECE = 1 << 20

#: Compressed bytes that are decoded at a time by the package zstandard, which cannot be told to
#: stop: a kilobyte stands for 32 MB at most.
_ZSTD_AT_ONCE = 1 << 10

#: Bytes of memory that a decoder may take, or a piece of a file of which a part is shown: what is
#: declared above that is refused. ``xz -9`` takes 65 MB; zstd refuses more than 128 MB by itself.
MOST_MEMORY = 1 << 28

#: Words that mean "as it is".
_NONE = ("", "none", "identity")

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


#: Endings of names that say how the bytes are compressed, and how such bytes begin.
_ENDINGS = {
    "gzip": (".gz", ".tgz", ".svgz", ".taz"),
    "br": (".br",),
    "zstd": (".zst", ".zstd", ".tzst"),
    "xz": (".xz", ".txz"),
    "bzip2": (".bz2", ".tbz2", ".tbz"),
}
_STARTS = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "xz": b"\xfd7zXZ", "bzip2": b"BZh"}


def layer(name: str, encoding: str | None, head: bytes = b"") -> str | None:
    """Return the encoding to take off an object, so that it is compressed once if its name says so.

    Web servers declare ``x.csv.gz`` as gzip, whose bytes are the file. ``head`` is how it begins:
    it tells whether the bytes were compressed once more on the way.
    """
    if encoding not in SUFFIXES or not name.lower().partition("?")[0].endswith(_ENDINGS[encoding]):
        return encoding
    try:
        inside = next(filter(None, decode_blocks([head], encoding)), b"")
    except (StoreError, MissingExtraError):
        return None
    start = _STARTS.get(encoding)
    return encoding if start and bytes(inside[:8]).startswith(start) else None


def canonical(encoding: str | None) -> str | None:
    """Return the word that ``Content-Encoding`` has for an encoding."""
    word = (encoding or "").strip().lower()
    word = _WORDS.get(word, word)
    if word in _NONE:
        return None
    if word not in SUFFIXES:
        hint = f"known: {', '.join(SUFFIXES)}, none"
        raise ConfigError(f"unknown encoding {encoding!r}", hint=hint)
    return word


#: The module of each encoding, and its error; bzip2 has none of its own.
_MODULES = {"gzip": "zlib", "br": "brotli", "zstd": "zstandard", "xz": "lzma", "bzip2": "bz2"}
_ERRORS = {"gzip": "error", "br": "error", "zstd": "ZstdError", "xz": "LZMAError"}

#: Whether the standard library has zstd, as ``compression.zstd``; it is like that of xz.
_HAS_ZSTD = sys.version_info >= (3, 14)

#: It asks zlib for a gzip header, which then holds no name and no time: same bytes every time.
_GZIP = 16 + 15


def _module(encoding: str) -> ModuleType:
    import importlib

    name = _MODULES[encoding]
    if encoding == "zstd" and _HAS_ZSTD:
        try:
            return importlib.import_module("compression.zstd")
        except ImportError:
            pass  # Python was built without it
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"the encoding {encoding} needs the package {name}, which is not installed",
            hint="pip install 'pkgdata-cache[compress]'",
        ) from None


def _encoder(
    encoding: str, level: int | None
) -> tuple[Callable[[Any], bytes], Callable[[], bytes]]:
    level = _LEVELS[encoding] if level is None else level
    module = _module(encoding)
    if encoding == "br":
        brotli = module.Compressor(quality=level)
        return lambda data: brotli.process(bytes(data)), brotli.finish
    if encoding == "gzip":
        found = module.compressobj(level, module.DEFLATED, _GZIP)
    elif encoding == "xz":
        found = module.LZMACompressor(preset=level)
    elif encoding == "bzip2":
        found = module.BZ2Compressor(level)
    else:
        found = module.ZstdCompressor(level=level)
        found = found.compressobj() if hasattr(found, "compressobj") else found
    return found.compress, found.flush


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
    add, end = _encoder(encoding, level)
    if encoding == "zstd":
        head, blocks = _head(blocks)
        if len(head) <= _SIZED:
            level, module = _LEVELS["zstd"] if level is None else level, _module("zstd")
            if hasattr(module, "compress"):
                yield module.compress(bytes(head), level)
            else:
                yield module.ZstdCompressor(level=level).compress(bytes(head))
            return
        yield add(head)
        del head
    for block in blocks:
        if data := add(block):
            yield data
    yield end()


def _head(blocks: Iterable[bytes | memoryview]) -> tuple[bytearray, Iterator[bytes | memoryview]]:
    """Return the first blocks, up to more than a frame that says its length, and the others."""
    rest, head = iter(blocks), bytearray()
    for block in rest:
        head += block
        if len(head) > _SIZED:
            break
    return head, rest


def decode(content: bytes, encoding: str | None, address: str = "") -> bytes:
    """Decompress bytes; the address is the redacted URL of the object, for errors."""
    if canonical(encoding) is None:
        return content
    return b"".join(decode_blocks([content], encoding, address))


def decode_blocks(
    blocks: Iterable[bytes | memoryview], encoding: str | None, address: str = ""
) -> Generator[bytes | memoryview, None, None]:
    """Decompress bytes that come in blocks."""
    encoding = canonical(encoding)
    if encoding is None:
        yield from blocks
        return
    decoded = _decode_brotli(blocks) if encoding == "br" else _decode_members(blocks, encoding)
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

    own = _ERRORS.get(encoding)
    return (zlib.error, EOFError, *([getattr(_module(encoding), own)] if own else ()))


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

    most, module = _PIECE, _module(encoding)
    new: Callable[[], Any] = {
        "gzip": lambda: module.decompressobj(_GZIP),
        "xz": lambda: module.LZMADecompressor(memlimit=MOST_MEMORY),
        "bzip2": lambda: module.BZ2Decompressor(),
        "zstd": lambda: module.ZstdDecompressor(),
    }[encoding]
    if encoding == "zstd" and not hasattr(module.ZstdDecompressor, "needs_input"):
        new, most = (lambda: module.ZstdDecompressor().decompressobj()), _ZSTD_AT_ONCE
    decoder, begun = new(), False
    for block in blocks:
        data, hungry = memoryview(bytes(block)), True
        while data or not hungry:
            if decoder.eof:
                # padding between streams, see The .xz File Format, section 2.2
                if encoding == "xz" and not data[0]:
                    data = memoryview(bytes(data).lstrip(b"\0"))
                    continue
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
    if not hasattr(decoder, "needs_input") and encoding == "zstd":
        part = decoder.decompress(taken)
        return part, len(decoder.unused_data) if decoder.eof else 0, True
    part = decoder.decompress(taken, _PIECE)
    if decoder.eof:
        return part, len(decoder.unused_data), True
    if encoding == "gzip":
        return part, len(decoder.unconsumed_tail), len(part) < _PIECE
    return part, 0, decoder.needs_input


# -- files ---------------------------------------------------------------------------------------

#: Encodings by the endings of names, as people write them too.
ENDINGS = {suffix: encoding for encoding, suffix in SUFFIXES.items()}
ENDINGS |= {".zst": "zstd", ".lzma": "xz"}

#: A file that is written whole.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)

#: However small the archive, it may grow to this many bytes.
_ALWAYS_ALLOWED = 1_000_000_000


class Budget:
    """Counts the bytes that an archive or a compressed file grows to."""

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self.limit = limit
        self.used = 0
        self._modes: dict[str, int] = {}  # of the files of each folder

    @classmethod
    def of(cls, path: str, factor: int | None = None, size: int | None = None) -> Budget:
        """Return how much a file may grow to: by `extract_limit`, and its own size, by default."""
        factor = conf.extract_limit if factor is None else factor
        size = os.path.getsize(path) if size is None else size
        return cls(path, max(_ALWAYS_ALLOWED, factor * size))

    def add(self, count: int) -> None:
        """Count bytes; raise if they are too many."""
        self.used += count
        if self.used > self.limit:
            raise ExtractionError(
                f"{self.path} grows past {self.limit} bytes; refused",
                hint="if that is right, raise the setting extract_limit",
            )

    def blocks(self, source: IO[bytes]) -> Iterator[bytes]:
        """Yield the rest of a file, and count it."""
        while data := source.read(_PIECE):
            self.add(len(data))
            yield data

    def copy(self, source: IO[bytes], target: str, update: Callable[[bytes], Any] = len) -> None:
        """Write a file; ``update`` gets its blocks too, to hash them."""
        folder = os.path.dirname(target)
        if folder not in self._modes:
            fs.make_dirs(folder)
            self._modes[folder] = os.stat(folder).st_mode & 0o666
        # of members of one name the last counts, as tar has it; the folder is ours, without links
        fd = os.open(target, _NEW, 0o666)
        try:
            for data in self.blocks(source):
                update(data)
                fs.write_all(fd, data)
            right = os.fstat(fd).st_mode & 0o777 == self._modes[folder]
        finally:
            os.close(fd)
        if not right:
            fs.follow_mode(target, 0o666)


def method_of(path: str, method: str) -> str | None:
    """Return how a file is compressed, by its ending if `method` is ``"auto"``; None if unknown."""
    if method == "auto":
        return ENDINGS.get(os.path.splitext(path)[1].lower())
    word = _WORDS.get(method, method)
    return word if word in SUFFIXES else None


def packed_by(path: str) -> str:
    """Return what a tar is compressed with, by its first bytes; empty if by nothing."""
    with open(path, "rb") as file:
        start = file.read(262)
    known = [method for method, magic in _STARTS.items() if start.startswith(magic)]
    known += ["xz"] if start.startswith(b"]\0\0") else []  # without a container
    return known[0] if known and start[257:] != b"ustar" else ""


def zip_directory(path: str) -> int:
    """Return the bytes of a zip's directory (APPNOTE 6.3.10, 4.3.14 and 4.3.16); 0 without one."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - (1 << 16) - 100))
        tail = file.read()
    start, large = tail.rfind(b"PK\5\6"), tail.rfind(b"PK\6\6")
    size = int.from_bytes(tail[start + 12 : start + 16], "little") if start >= 0 else 0
    if size == 0xFFFFFFFF and large >= 0:
        return int.from_bytes(tail[large + 40 : large + 48], "little")
    return size


def opened(path: str, encoding: str) -> Any:
    """Open a file to read it once, decoded unless the encoding is empty."""
    import importlib

    if not encoding:
        return open(path, "rb")
    names = {"gzip": "gzip", "bzip2": "bz2", "zstd": "compression.zstd"}
    try:
        return importlib.import_module(names[encoding]).open(path)
    except (KeyError, ModuleNotFoundError):  # zstd is in Python since 3.14; xz has no limit there
        return _Decoded(path, encoding)


class BlockFile:
    """Blocks, read as a file.

    Each block is valid until the next one is asked for. Beyond ``limit`` bytes no more are asked
    for: one too many is enough for a digest to notice.
    """

    def __init__(self, blocks: Iterator[bytes | memoryview], limit: int | None = None) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")
        self._limit = limit
        self._count = 0

    def read(self, size: int = -1) -> bytes:
        """Return at most so many of the next bytes; none at the end."""
        while not self._rest:
            if self._limit is not None and self._count > self._limit:
                return b""
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = memoryview(block if isinstance(block, bytes) else bytes(block))
        size = len(self._rest) if size < 0 else size
        part, self._rest = self._rest[:size], self._rest[size:]
        self._count += len(part)
        return bytes(part)


class _Decoded(BlockFile):
    """A file in an encoding that Python's own modules do not open."""

    def __init__(self, path: str, encoding: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed at the end of the with block
        blocks = iter(lambda: self._file.read(_PIECE), b"")
        super().__init__(decode_blocks(blocks, encoding, path))

    def __enter__(self) -> _Decoded:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
