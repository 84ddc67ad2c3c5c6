"""What a page shows of files: a small picture, the first rows of a table, how a text begins.

Pictures, FITS, HDF5, NetCDF and Parquet are read by the libraries that the publisher has installed.
A file that cannot be shown, for whatever reason, has no preview. No more is read of a file than is
shown of it, and nothing outside it: what HDF5 keeps in other files is left out. What would take too
much memory when unpacked, by the sizes that the file declares, is not read; the preview says so.
"""

from __future__ import annotations

import base64
import csv
import importlib
import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..base import text
from ..stores import codecs
from .destination import Item

#: Pixels along the longer side of a picture, rows and columns of a table, lines of a text.
_SIDE, _ROWS, _COLUMNS, _LINES = 192, 6, 8, 24

#: Characters of a cell and of a line.
_CELL, _LINE = 40, 120

#: Bytes read of a text or a table; bytes of a picture that is shown as it is, where no library
#: makes a smaller one.
_HEAD, _AS_IT_IS = 1 << 16, 100_000

#: Bytes in memory of a member of a zip, for each byte that the archive's directory has of it.
_LISTED = 16

#: Characters of all previews of a page: it is to open quickly on a phone.
_PAGE = 3_000_000

#: A scale of colours that everybody can tell apart, also in grey: dark blue, green, yellow.
_COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


@dataclass(slots=True)
class Preview:
    """What is shown of a file."""

    #: Shape, type, numbers of rows and the like.
    facts: str = ""
    #: A ``data:`` URL.
    image: str = ""
    #: The first one has the names of the columns.
    rows: list[list[str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    #: Why there is neither picture nor rows; it becomes one of the facts.
    why: str = ""

    def __len__(self) -> int:
        cells = sum(len(cell) for row in self.rows for cell in row)
        return len(self.facts) + len(self.image) + cells + sum(map(len, self.lines))


def previews(items: Iterable[Item]) -> dict[str, Preview]:
    """Return previews by name, as many as a page holds."""
    found: dict[str, Preview] = {}
    left = _PAGE
    for item in items:
        made = preview(item.name, item.path) if item.size else None
        if made is not None and len(made) <= left:
            found[item.name] = made
            left -= len(made)
        if left < _SIDE * _SIDE:
            break
    return found


def preview(name: str, path: str) -> Preview | None:
    """Return what is shown of a file; None if that is nothing."""
    lower = name.lower()
    packed = lower.endswith(".gz")
    make = _MAKERS.get(lower.removesuffix(".gz").rpartition(".")[2])
    if make is None or (packed and make not in (_csv, _fits, _text)):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = make(path, lower)
    except Exception as error:  # whatever a library raises: no file needs a preview
        logging.getLogger("pkgdata").debug("no preview of %s: %s", path, error)
        return None
    if found is not None and found.why and not found.image:
        found.facts = "; ".join(filter(None, [found.facts, found.why]))
    return found


def _fits_in(found: Preview, count: int) -> bool:
    """Return True if so many bytes may be unpacked; else the preview says that they are not."""
    if count > codecs.MOST_MEMORY:
        found.why = f"not shown, as {text.size(count)} would be unpacked"
    return count <= codecs.MOST_MEMORY


def _head(path: str, lower: str, size: int = _HEAD) -> bytes:
    with codecs.opened(path, "gzip" if lower.endswith(".gz") else "") as file:
        found: bytes = file.read(size)
    return found


def _library(name: str) -> Any:
    return importlib.import_module(name)


# -- pictures ----------------------------------------------------------------------------------


def _picture(path: str, lower: str) -> Preview | None:
    try:
        image_of = _library("PIL.Image")
    except ImportError:
        return _as_it_is(path)
    # other formats have decoders that few people look after
    with image_of.open(path, formats=("PNG", "JPEG")) as image:
        found = Preview(f"{image.width} × {image.height} pixels")
        # but for these a large JPEG is decoded at a smaller scale
        whole = image.format == "PNG" or "progressive" in image.info
        if whole and not _fits_in(found, 4 * image.width * image.height):
            return found
        if image.mode.startswith(("I", "F")):
            _draw(found, _library("numpy").asarray(image))
            return found
        image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
        small = _library("PIL.ImageOps").exif_transpose(image)
        small.thumbnail((_SIDE, _SIDE))
        kind = "PNG" if image.format == "PNG" else "JPEG"
        clear = small.mode in ("RGBA", "LA", "PA") or "transparency" in small.info
        out = io.BytesIO()
        small.convert("RGBA" if clear and kind == "PNG" else "RGB").save(out, kind)
    found.image = _data_url(out.getvalue(), f"image/{kind.lower()}")
    return found


def _as_it_is(path: str) -> Preview | None:
    with open(path, "rb") as file:
        content = file.read(_AS_IT_IS + 1)
    kinds = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
    kind = next((kind for start, kind in kinds.items() if content.startswith(start)), None)
    if kind is None or len(content) > _AS_IT_IS:
        return None
    return Preview("", _data_url(content, kind))


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _shape(data: Any) -> str:
    return f"{' × '.join(map(str, data.shape)) or 'one value'}, {data.dtype}"


def _draw(found: Preview, data: Any, upside_down: bool = False) -> None:
    """Add a picture of the last two dimensions of what has a shape and can be sliced."""
    shape = data.shape
    coloured = len(shape) == 3 and shape[-1] in (3, 4)
    height, width = shape[:2] if coloured else shape[-2:]
    step = max(1, -(-max(height, width) // _SIDE))
    cut = slice(None, None, step)
    index = (cut, cut, 0) if coloured else (0,) * (len(shape) - 2) + (cut, cut)
    # a chunk is unpacked whole, however little of it is asked for
    chunks = getattr(data, "chunks", None) or (1,) * len(shape)
    taken = (
        chunk * (-(-size // chunk) if at is cut or coloured else 1)
        for size, chunk, at in zip(shape, chunks, index, strict=True)
    )
    if min(height, width) > 1 and _fits_in(found, math.prod(taken) * data.dtype.itemsize):
        found.image = _plot(data[index], upside_down)


def _plot(plane: Any, upside_down: bool = False) -> str:
    """Return a picture of numbers, of whose range the lowest and highest hundredth are cut off."""
    numpy = _library("numpy")
    values = numpy.ma.filled(numpy.ma.asarray(plane).astype(float), numpy.nan)
    good = numpy.isfinite(values)
    if not good.any():
        return ""
    low, high = numpy.percentile(values[good], (1, 99))
    scaled = numpy.clip((values - low) / ((high - low) or 1), 0, 1)
    pixels = numpy.where(good, 1 + scaled * 254, 0).astype("uint8")
    if upside_down:
        pixels = pixels[::-1]
    at = numpy.linspace(0, len(_COLOURS) - 1, 255)
    steps = numpy.arange(len(_COLOURS))
    channels = [numpy.interp(at, steps, channel) for channel in zip(*_COLOURS, strict=True)]
    palette = b"\0\0\0" + numpy.stack(channels, 1).astype("uint8").tobytes()
    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    # 8 bits of a palette, whose first colour (no number) is transparent
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": palette,
        b"tRNS": b"\0",
        b"IDAT": zlib.compress(rows, 9),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    ]
    return _data_url(b"\x89PNG\r\n\x1a\n" + b"".join(chunks), "image/png")


# -- arrays ------------------------------------------------------------------------------------


def _numpy(path: str, lower: str) -> Preview:
    data = _library("numpy").load(path, mmap_mode="r", allow_pickle=False)
    found = Preview(_shape(data))
    if data.ndim > 1 and data.dtype.kind in "biuf":
        _draw(found, data)
    return found


def _fits(path: str, lower: str) -> Preview:
    """Show the header of the first unit with data, and with astropy what it holds."""
    found = Preview("FITS", lines=_cards(path, lower))
    try:
        fits = _library("astropy.io.fits")
    except ImportError:
        return found
    if lower.endswith(".gz"):
        return found  # it would be unpacked whole
    with fits.open(path, memmap=True) as units:
        for unit in islice(units, 8):
            if unit.is_image and len(unit.shape) > 1:
                found.facts = f"{' × '.join(map(str, unit.shape))} pixels"
                _draw(found, _Lazy(unit), True)
                break
            if not unit.is_image:
                names = unit.columns.names[:_COLUMNS]
                found.facts = f"{len(unit.data)} rows × {len(unit.columns)} columns"
                rows = unit.data[:_ROWS]
                found.rows = _cells([names, *([row[name] for name in names] for row in rows)])
                break
    return found


class _Lazy:
    """An image of a FITS file, of which only the pixels asked for are read."""

    def __init__(self, unit: Any) -> None:
        self.section, self.shape = unit.section, unit.shape
        self.dtype = _library("numpy").dtype(f"u{abs(unit.header['BITPIX']) // 8}")
        # of a compressed image whose tiles are not known, all may be one
        packed = hasattr(unit, "compression_type")
        self.chunks = getattr(unit, "tile_shape", unit.shape) if packed else None

    def __getitem__(self, index: Any) -> Any:
        return self.section[index]


def _cards(path: str, lower: str) -> list[str]:
    """Return the header (FITS standard 4.0, section 4: cards of 80 bytes in blocks of 2,880)."""
    head = _head(path, lower)
    if not head.startswith(b"SIMPLE"):
        raise ValueError("not FITS")
    found: list[str] = []
    for at in range(0, len(head), 2880):
        block = head[at : at + 2880].decode("ascii", "replace")
        cards = [block[start : start + 80].rstrip() for start in range(0, len(block), 80)]
        if at and cards[0].startswith("XTENSION"):
            found = []  # the first header has no data behind it
        found += cards
        empty = any(card[:9] == "NAXIS   =" and card[10:30].strip() == "0" for card in found)
        if "END" in cards and not empty:
            break
    return [card for card in found if card not in ("", "END", "COMMENT", "HISTORY")][:_LINES]


def _hdf5(path: str, lower: str) -> Preview:
    h5py = _library("h5py")
    found = Preview("HDF5")

    def visit(name: str, node: Any) -> bool | None:
        dataset = isinstance(node, h5py.Dataset)
        found.lines.append(f"{name}  {_shape(node)}"[:_LINE] if dataset else f"{name}/"[:_LINE])
        # bytes of other files of this computer may be named as a dataset's
        own = dataset and not node.external and not node.is_virtual
        if own and not found.image and node.ndim > 1 and node.dtype.kind in "iuf":
            _draw(found, node)
        return len(found.lines) >= _LINES or None  # anything but None ends the visit

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def _netcdf(path: str, lower: str) -> Preview:
    hdf5 = _head(path, lower, 4) == b"\x89HDF"
    try:
        library = _library("netCDF4")
    except ImportError:
        return _hdf5(path, lower)
    found = Preview("NetCDF")
    with library.Dataset(path) as file:
        for name, variable in islice(file.variables.items(), _LINES):
            sizes = zip(variable.dimensions, variable.shape, strict=True)
            inside = ", ".join(f"{dimension}={size}" for dimension, size in sizes)
            unit = getattr(variable, "units", "")
            found.lines.append(f"{name}({inside})  {unit}".rstrip()[:_LINE])
            drawn = variable.ndim > 1 and variable.dtype.kind in "iuf" and not found.image
            # the newer format is HDF5, whose bytes may be elsewhere
            if drawn and not hdf5:
                _draw(found, variable)
    if hdf5:
        other = preview("it.h5", path) or found
        found.image, found.why = other.image, other.why
    return found


# -- tables, archives and texts ------------------------------------------------------------------


def _cells(rows: Iterable[Iterable[Any]]) -> list[list[str]]:
    texts = [[" ".join(str(cell).split()) for cell in row] for row in rows]
    return [[t if len(t) <= _CELL else f"{t[: _CELL - 1]}…" for t in row] for row in texts]


def _csv(path: str, lower: str) -> Preview:
    content = _head(path, lower)
    whole = len(content) < _HEAD
    # a character at the end may be cut
    head = content.decode("utf-8-sig", "strict" if whole else "ignore")
    lines = head.splitlines()
    if not whole:
        lines.pop()
    lines = [line for line in lines if line and not line.startswith("#")]
    first = lines[0]
    mark = "\t" if "\t" in first else max(",;", key=first.count)
    rows = [row for row in csv.reader(lines, delimiter=mark) if row]
    count = f"{text.counted(len(rows) - 1, 'row')} × " if whole else ""
    facts = f"{count}{text.counted(len(rows[0]), 'column')}"
    return Preview(facts, rows=_cells(row[:_COLUMNS] for row in rows[: _ROWS + 1]))


def _parquet(path: str, lower: str) -> Preview:
    with _library("pyarrow.parquet").ParquetFile(path) as file:
        facts, names = file.metadata, file.schema_arrow.names
        found = Preview(f"{facts.num_rows} rows × {len(names)} columns")
        found.rows = _cells([names[:_COLUMNS]])
        group = facts.row_group(0) if facts.num_row_groups else None
        if group is not None and _fits_in(found, group.total_byte_size):
            for batch in islice(file.iter_batches(_ROWS, columns=names[:_COLUMNS]), 1):
                columns = [column.to_pylist() for column in batch.columns]
                found.rows += _cells(zip(*columns, strict=True))
    return found


def _zip(path: str, lower: str) -> Preview:
    zipfile, found = _library("zipfile"), Preview()
    if not _fits_in(found, _LISTED * codecs.zip_directory(path)):
        return found
    with zipfile.ZipFile(path) as archive:
        members = sorted(archive.infolist(), key=lambda one: one.filename)
    files = [one for one in members if not one.is_dir()]
    total = text.size(sum(one.file_size for one in files))
    found.facts = f"{text.counted(len(files), 'file')}, {total} unpacked"
    above: list[str] = []
    for one in files:
        *folders, last = one.filename.split("/")
        for depth, folder in enumerate(folders):
            if folders[: depth + 1] != above[: depth + 1]:
                found.lines.append(f"{'  ' * depth}{folder}/"[:_LINE])
        above = folders
        found.lines.append(f"{'  ' * len(folders)}{last}  {text.size(one.file_size)}"[:_LINE])
        if len(found.lines) >= _LINES:
            break
    if len(found.lines) >= _LINES:
        found.lines = [*found.lines[: _LINES - 1], "…"]
    return found


def _text(path: str, lower: str) -> Preview | None:
    head = _head(path, lower, _LINES * _LINE)
    lines = head.decode("utf-8", "ignore").splitlines()
    if b"\0" in head:
        return None
    more = ["…"] if len(lines) > _LINES // 2 else []
    return Preview(lines=[line[:_LINE] for line in lines[: _LINES // 2]] + more)


_MAKERS: dict[str, Callable[[str, str], Preview | None]] = {
    **dict.fromkeys(("png", "jpg", "jpeg"), _picture),
    **dict.fromkeys(("fits", "fit", "fts"), _fits),
    **dict.fromkeys(("h5", "hdf5", "hdf"), _hdf5),
    **dict.fromkeys(("nc", "nc4", "cdf"), _netcdf),
    **dict.fromkeys(("csv", "tsv"), _csv),
    **dict.fromkeys(("parquet", "pq"), _parquet),
    **dict.fromkeys(("txt", "md", "rst", "json", "toml", "yaml", "yml", "bib", "cff"), _text),
    "npy": _numpy,
    "npz": _zip,
    "zip": _zip,
}
