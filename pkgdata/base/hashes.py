"""Digests: parse once, compare as values; hash files and streams.

A digest is written ``alg:hex``; without a prefix it is SHA-256, as in pooch's registries. The
algorithms are those of :mod:`hashlib` and, where the package ``xxhash`` is installed, ``xxh32``,
``xxh64``, ``xxh128`` (= ``xxh3_128``) and ``xxh3_64``.
"""

from __future__ import annotations

import os

from . import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from queue import SimpleQueue
    from threading import Thread
    from typing import Protocol

    from ..errors import IntegrityError

    class Hasher(Protocol):
        """What every hash object offers."""

        def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
        def hexdigest(self) -> str: ...

    class Facts(Protocol):
        """What is known of a file's bytes; the time in seconds since the epoch."""

        @property
        def size(self) -> int | None: ...
        @property
        def digest(self) -> Digest | None: ...
        @property
        def modified(self) -> float | None: ...


#: Hexadecimal digits of each algorithm's digest. Known here so that parsing a registry needs
#: neither hashlib nor xxhash.
HEX_LENGTH = {
    "md5": 32,
    "sha1": 40,
    "sha224": 56,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "sha3_224": 56,
    "sha3_256": 64,
    "sha3_384": 96,
    "sha3_512": 128,
    "blake2b": 128,
    "blake2s": 64,
    "xxh32": 8,
    "xxh64": 16,
    "xxh3_64": 16,
    "xxh128": 32,
    "xxh3_128": 32,
}

#: Bytes of a stream that are hashed in line; before that a thread would cost more than it gains.
_INLINE = 4 << 20

_HEX_DIGITS = frozenset("0123456789abcdef")

#: Bytes per read. From 256 KiB to 4 MiB the speed is the same; smaller costs system calls.
BLOCK = 1 << 20

#: Bytes per read of a file's beginning: a larger buffer comes from mmap each time, which costs more
#: than reading and hashing a small file.
_FIRST = 1 << 16


class Digest:
    """Algorithm plus hexadecimal value, immutable and compared as a value.

    Parameters
    ----------
    alg : str
        Name of the algorithm, one of `HEX_LENGTH`.
    hex : str
        Lower-case hexadecimal digest.
    """

    __slots__ = ("alg", "hex")
    alg: str
    hex: str

    def __init__(self, alg: str, hex: str) -> None:
        object.__setattr__(self, "alg", alg)
        object.__setattr__(self, "hex", hex)

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read ``alg:hex`` or a bare SHA-256.

        Parameters
        ----------
        text : str
            The digest as written in a registry; upper case is accepted.

        Returns
        -------
        Digest

        Raises
        ------
        ValueError
            The algorithm is unknown or the value is not hexadecimal of its length.
        """
        alg, colon, value = text.strip().lower().rpartition(":")
        if not colon:
            alg = "sha256"
        length = HEX_LENGTH.get(alg)
        if length is None:
            raise ValueError(f"unknown hash algorithm {alg!r} (known: {', '.join(HEX_LENGTH)})")
        if len(value) != length or not _HEX_DIGITS.issuperset(value):
            raise ValueError(f"expected {length} hexadecimal digits for {alg}, found {value!r}")
        return cls(alg, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Digest cannot be changed")

    def __reduce__(self) -> tuple[type[Digest], tuple[str, str]]:
        return Digest, (self.alg, self.hex)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.alg == other.alg and self.hex == other.hex

    def __hash__(self) -> int:
        return hash((self.alg, self.hex))

    def __str__(self) -> str:
        return f"{self.alg}:{self.hex}"

    def __repr__(self) -> str:
        return f"Digest({str(self)!r})"


#: Why two files differ, see `difference`.
SIZE, DIGEST, NEWER, UNKNOWN = "size", "digest", "newer", "unknown"


def difference(mine: Facts, its: Facts) -> str:
    """Return why two files need not hold the same bytes; "" if they do. The rule of all comparing.

    Two sizes that differ decide (`SIZE`); then two digests of one algorithm (`DIGEST` or ""); then
    two times (`NEWER` if mine is later, else ""). With none of them it is `UNKNOWN`: hash, or copy.
    """
    if mine.size is not None and its.size is not None and mine.size != its.size:
        return SIZE
    if mine.digest is not None and its.digest is not None and mine.digest.alg == its.digest.alg:
        return "" if mine.digest == its.digest else DIGEST
    if mine.modified is None or its.modified is None:
        return UNKNOWN
    if mine.modified == int(mine.modified) or its.modified == int(its.modified):
        later = int(mine.modified) > int(its.modified)  # a service that keeps whole seconds
    else:
        later = mine.modified > its.modified
    return NEWER if later else ""


def mismatch(
    what: str,
    expected: Digest | str,
    actual: Digest | str,
    *,
    name: str = "",
    source: str = "",
    hint: str | None = None,
) -> IntegrityError:
    """Return the error for wrong bytes: ``WHAT: expected EXPECTED, found ACTUAL``."""
    from ..errors import IntegrityError

    return IntegrityError(
        f"{what}: expected {expected}, found {actual}",
        hint=hint,
        name=name,
        source=source,
        expected=str(expected),
        actual=str(actual),
    )


def new(alg: str) -> Hasher:
    """Return a fresh hash object; `MissingExtraError` if it needs xxhash, which is not there."""
    if alg.startswith("xxh"):
        try:
            import xxhash
        except ImportError as error:
            from ..errors import MissingExtraError

            raise MissingExtraError(
                f"the hash algorithm {alg} needs the package xxhash",
                hint="pip install 'pkgdata-cache[xxhash]'",
            ) from error
        hasher: Hasher = getattr(xxhash, alg)()
        return hasher
    import hashlib

    # hashlib's own constructor takes half the time of hashlib.new(). It is no security boundary:
    # MD5 registries must work where FIPS mode forbids MD5
    made: Hasher = getattr(hashlib, alg)(usedforsecurity=False)
    return made


def short_key(text: str, alg: str = "md5") -> str:
    """Return the hexadecimal digest of a text that names a file: a path, a URL, a recipe."""
    hasher = new(alg)
    hasher.update(text.encode(errors="surrogateescape"))
    return hasher.hexdigest()


def hash_blocks(blocks: Iterable[bytes | bytearray | memoryview], alg: str = "sha256") -> Digest:
    """Hash what an iterable yields; for bytes in memory a tuple of one."""
    hasher = new(alg)
    for block in blocks:
        hasher.update(block)
    return Digest(alg, hasher.hexdigest())


def etag_in_parts(blocks: Iterable[bytes | bytearray | memoryview], part: int) -> str:
    """Return the ETag that S3 gives an object that was uploaded in parts of so many bytes."""
    digests: list[bytes] = []
    hasher, room = new("md5"), part
    for block in blocks:
        rest = memoryview(block)
        while rest:
            hasher.update(rest[:room])
            rest, room = rest[room:], room - len(rest[:room])
            if not room:
                digests.append(bytes.fromhex(hasher.hexdigest()))
                hasher, room = new("md5"), part
    if room < part or not digests:
        digests.append(bytes.fromhex(hasher.hexdigest()))
    return f"{hash_blocks(digests, 'md5').hex}-{len(digests)}"


def hash_file(path: str | os.PathLike[str], alg: str = "sha256") -> Digest:
    """Hash a file."""
    return measure_file(path, alg)[0]


def measure_file(path: str | os.PathLike[str], alg: str = "sha256") -> tuple[Digest, int]:
    """Hash a file and count its bytes, in one pass: the two belong together even while it grows."""
    hasher = new(alg)
    size = 0
    fd = fs.regular(path)
    try:
        # only an empty read is the end, as some file systems return less than was asked for; a file
        # object and a large buffer would double the time of a small file, so these come late
        while size < BLOCK and (block := os.read(fd, _FIRST)):
            hasher.update(block)
            size += len(block)
        if size >= BLOCK:
            size += _stream(fd, hasher)
    finally:
        os.close(fd)
    return Digest(alg, hasher.hexdigest()), size


def _stream(fd: int, hasher: Hasher) -> int:
    size = 0
    with open(fd, "rb", buffering=0, closefd=False) as file, Lane(hasher, BLOCK) as lane:
        while count := file.readinto(lane.buffer()):
            lane.hash(lane.buffer()[:count])
            size += count
    return size


class Lane:
    """Hashes the blocks of a stream while it is read: in line at first, then in a thread.

    A context manager; when its block ends, all that was handed over is hashed.
    """

    def __init__(self, hasher: Hasher, block: int) -> None:
        self._hasher = hasher
        self._block = block
        self._inline_left = _INLINE
        self._buffer: memoryview | None = memoryview(bytearray(min(block, 1 << 18)))
        self._thread: Thread | None = None

    def __enter__(self) -> Lane:
        return self

    def buffer(self) -> memoryview:
        """Return a buffer that nobody reads any more, the same one until a block is handed over."""
        if self._buffer is None:
            self._buffer = self._free.get()
        return self._buffer

    def hash(self, block: memoryview) -> None:
        """Take over the next block, and with it the buffer, whether or not the block lies in it."""
        if self._thread is not None:
            self._full.put((block, self.buffer()))
            self._buffer = None
            return
        self._hasher.update(block)
        self._inline_left -= len(block)
        if self._inline_left <= 0:
            self._start()

    def _start(self) -> None:
        import queue
        import threading

        self._free: SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: SimpleQueue[tuple[memoryview, memoryview] | None] = queue.SimpleQueue()
        # four: one being read into, one being hashed, two that smooth the difference
        for _ in range(4):
            self._free.put(memoryview(bytearray(self._block)))
        self._buffer = None
        self._thread = threading.Thread(target=self._work, name="pkgdata-hash", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (found := self._full.get()) is not None:
            block, buffer = found
            self._hasher.update(block)
            self._free.put(buffer)

    def finish(self) -> None:
        """Wait until all that was taken over is hashed."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._full.put(None)
            thread.join()

    def __exit__(self, *_: object) -> None:
        self.finish()


def of_headers(headers: Mapping[str, str]) -> Digest | None:
    """Read what some services report of the stored bytes: Google's and the older HTTP header."""
    import base64
    import binascii

    text = headers.get("Content-MD5", "")
    for part in headers.get("x-goog-hash", "").split(","):
        if part.strip().startswith("md5="):
            text = part.strip()[4:]
    try:
        value = base64.b64decode(text, validate=True).hex()
    except (binascii.Error, ValueError):
        return None
    return Digest("md5", value) if len(value) == 32 else None
