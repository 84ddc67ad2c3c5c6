"""Compression in cloud-files' words: its module ``compression``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import ConfigError, StoreError
from ...stores import codecs
from .exceptions import DecompressionError, UnsupportedCompressionType
from .monitor import bar_of
from .paths import listed

#: What ``compress=`` may be.
COMPRESSION_TYPES = (
    *(None, False, True, ""),
    *("bz2", "bzip2", "gzip", "br", "zstd", "xz", "lzma"),
)


def normalize_encoding(encoding: Any) -> str | None:
    """Return cloud-files' word for an encoding; True means gzip."""
    if isinstance(encoding, str):
        encoding = encoding.lower()
    if encoding in (None, False, "", 0):
        return None
    return "gzip" if encoding in (True, 1) else str(encoding)


def canonical(encoding: Any) -> str | None:
    """Return the word of ``Content-Encoding`` for an encoding."""
    try:
        return codecs.canonical(normalize_encoding(encoding))
    except ConfigError:
        known = ", ".join(COMPRESSION_TYPES[4:])
        raise UnsupportedCompressionType(
            f"{encoding} is not a supported compression type.", hint=f"known: None, {known}"
        ) from None


def level_of(encoding: str | None, level: int | None) -> int | None:
    """Return a level, or the one that cloud-files takes by default."""
    return 9 if encoding == "gzip" and level is None else level


def compress(content: Any, method: Any = "gzip", compress_level: int | None = None) -> Any:
    """Compress bytes."""
    encoding = canonical(method)
    if encoding is None:
        return content
    return codecs.encode(content, encoding, level_of(encoding, compress_level))


def decompress(content: Any, encoding: str | None, filename: str = "N/A") -> Any:
    """Decompress bytes; the file's name is for the error."""
    found = canonical(encoding)
    if found is None:
        return content
    if not content:
        raise DecompressionError(f"File contains zero bytes: {filename}")
    if found == "gzip" and bytes(content[:2]) != b"\x1f\x8b":
        raise DecompressionError(f"{filename}: not in gzip format")
    try:
        return codecs.decode(content, found, filename)
    except StoreError as error:
        raise DecompressionError(error.message, hint=error.hint) from error


def transcode(
    files: Any,
    encoding: Any,
    level: int | None = None,
    progress: Any = False,
    in_place: Any = False,
) -> Iterator[dict[str, Any]]:
    """Change how the contents of records are compressed.

    Parameters
    ----------
    files : dict, or iterable of dict or (str, bytes)
        Records as `CloudFiles.get` returns them, or pairs of name and plain content.
    encoding : str, bool or None
        The new encoding. A raw record that has it already is passed on unchanged.
    level : int, optional
        Of compression; by default 9 for gzip and the encoding's own for others.
    progress : bool or str, default False
        Draw a bar; a text is shown next to it.
    in_place : bool, default False
        Change the records themselves.

    Yields
    ------
    dict
        The record with its new ``"content"`` and ``"compress"``; ``"raw"`` is True.

    Raises
    ------
    UnsupportedCompressionType
        The encoding is not known.
    DecompressionError
        A content is not in the encoding that its record names, or is cut short.
    """
    wanted = normalize_encoding(encoding)
    canonical(wanted)  # report a wrong word before the first record is read
    with bar_of(progress, "Transcoding", files) as bar:
        for file in listed(files)[0]:
            bar.update(1)
            yield _transcoded(file, wanted, level, bool(in_place))


def _transcoded(file: Any, wanted: str | None, level: int | None, in_place: bool) -> dict[str, Any]:
    if isinstance(file, tuple):
        file = {"path": file[0], "content": file[1], "compress": None, "raw": False}
    record: dict[str, Any] = file if in_place else dict(file)
    content, raw = record["content"], record.get("raw", False)
    if content is None or (raw and canonical(record["compress"]) == canonical(wanted)):
        return record
    if raw:
        content = decompress(content, record["compress"], record["path"])
    record.update(raw=True, compress=wanted, content=compress(content, wanted, level))
    return record
