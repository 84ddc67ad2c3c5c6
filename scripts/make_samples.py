#!/usr/bin/env python3
"""Make pkgdata's own sample files and their registry, the same bytes at each run.

usage: python scripts/make_samples.py

Writes ``pkgdata/data/`` (a CSV table, a PNG image, a FITS binary table, an IDX array) and
``registry.txt``. The files are made with the standard library alone; the formats are RFC 4180
(CSV), the PNG specification (W3C, third edition), the FITS standard 4.0 (binary tables, section
7.3) and that of MNIST (IDX: two zeros, type, number of dimensions, sizes, elements).
"""

from __future__ import annotations

import math
import struct
import sys
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pkgdata.core import scan  # noqa: E402 - the checkout's own, found by the line above

#: Name, right ascension and declination (degrees, J2000), visual magnitude (Hipparcos catalogue).
STARS = [
    ("Sirius", 101.2872, -16.7161, -1.46),
    ("Canopus", 95.9880, -52.6957, -0.74),
    ("Arcturus", 213.9153, 19.1824, -0.05),
    ("Vega", 279.2347, 38.7837, 0.03),
    ("Capella", 79.1723, 45.9980, 0.08),
    ("Rigel", 78.6345, -8.2016, 0.13),
    ("Procyon", 114.8255, 5.2250, 0.34),
    ("Betelgeuse", 88.7929, 7.4071, 0.42),
    ("Achernar", 24.4285, -57.2368, 0.46),
    ("Altair", 297.6958, 8.8683, 0.76),
    ("Aldebaran", 68.9802, 16.5093, 0.86),
    ("Antares", 247.3519, -26.4320, 0.96),
    ("Spica", 201.2982, -11.1613, 0.97),
    ("Pollux", 116.3290, 28.0262, 1.14),
    ("Fomalhaut", 344.4127, -29.6222, 1.16),
    ("Deneb", 310.3580, 45.2803, 1.25),
]


def csv_table() -> bytes:
    """Return the star table."""
    rows = [f"{name},{ra:.4f},{dec:.4f},{mag:.2f}" for name, ra, dec, mag in STARS]
    return "\r\n".join(["name,ra_deg,dec_deg,vmag", *rows, ""]).encode()


def png_image(side: int = 128) -> bytes:
    """Return the picture of a two-armed spiral, 8-bit grey."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = bytearray()
    for y in range(side):
        rows.append(0)  # filter type "none"
        for x in range(side):
            dx, dy = (x - side / 2 + 0.5) / side, (y - side / 2 + 0.5) / side
            radius = math.hypot(dx, 1.4 * dy)
            arm = 0.5 + 0.5 * math.cos(2 * (math.atan2(1.4 * dy, dx) - 4 * math.log(radius + 0.02)))
            light = math.exp(-radius * 30) + arm * math.exp(-radius * 7) * 0.7
            rows.append(min(255, int(255 * light)))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(rows), 9))
        + chunk(b"IEND", b"")
    )


def fits_table(rows: int = 500) -> bytes:
    """Return a FITS file with one binary table: the Planck spectrum of a 5772 K star."""

    def card(key: str, value: str | int | bool) -> bytes:
        if isinstance(value, str):
            text = f"{key:<8}= '{value:<8}'"
        else:
            shown = ("T" if value else "F") if isinstance(value, bool) else str(value)
            text = f"{key:<8}= {shown:>20}"
        return text.ljust(80).encode()

    def block(content: bytes, fill: bytes) -> bytes:
        return content + fill * (-len(content) % 2880)

    def header(cards: list[tuple[str, str | int | bool]]) -> bytes:
        return block(b"".join(card(*one) for one in cards) + b"END".ljust(80), b" ")

    primary = header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)])
    table = header(
        [
            ("XTENSION", "BINTABLE"),
            ("BITPIX", 8),
            ("NAXIS", 2),
            ("NAXIS1", 8),
            ("NAXIS2", rows),
            ("PCOUNT", 0),
            ("GCOUNT", 1),
            ("TFIELDS", 2),
            ("TTYPE1", "WAVELENGTH"),
            ("TFORM1", "E"),
            ("TUNIT1", "nm"),
            ("TTYPE2", "RADIANCE"),
            ("TFORM2", "E"),
            ("TUNIT2", "W m-3 sr-1"),
            ("EXTNAME", "SPECTRUM"),
        ]
    )
    data = b"".join(
        struct.pack(">ff", nm, planck(nm * 1e-9)) for nm in range(300, 300 + 4 * rows, 4)
    )
    return primary + table + block(data, b"\0")


def planck(wavelength: float, kelvin: float = 5772.0) -> float:
    """Return the spectral radiance of a black body (W m-3 sr-1; SI constants of 2019)."""
    h, c, k = 6.62607015e-34, 299792458.0, 1.380649e-23
    return 2 * h * c**2 / wavelength**5 / math.expm1(h * c / (wavelength * k * kelvin))


#: Which of seven segments each digit lights: top, upper left and right, middle, lower left and
#: right, bottom.
SEGMENTS = ["1110111", "0010010", "1011101", "1011011", "0111010"]
SEGMENTS += ["1101011", "1101111", "1010010", "1111111", "1111011"]


def idx_array() -> bytes:
    """Return pictures of the ten digits, 8 by 8 bytes each."""
    # row, column, and whether the segment runs down
    places = [(0, 2, False), (0, 2, True), (0, 5, True), (3, 2, False), (3, 2, True), (3, 5, True)]
    places.append((6, 2, False))
    pixels = bytearray(10 * 64)
    for digit, lit in enumerate(SEGMENTS):
        for (row, column, down), on in zip(places, lit, strict=True):
            for step in range(4 if on == "1" else 0):
                y, x = (row + step, column) if down else (row, column + step)
                pixels[64 * digit + 8 * y + x] = 255
    return struct.pack(">HBB3I", 0, 8, 3, 10, 8, 8) + bytes(pixels)


def main() -> None:
    """Write the files and the registry."""
    folder = ROOT / "pkgdata" / "data"
    folder.mkdir(exist_ok=True)
    (folder / "stars.csv").write_bytes(csv_table())
    (folder / "spiral.png").write_bytes(png_image())
    (folder / "spectrum.fits").write_bytes(fits_table())
    (folder / "digits.idx").write_bytes(idx_array())
    scan.make(folder).write(ROOT / "registry.txt")
    print((ROOT / "registry.txt").read_text(), end="")


if __name__ == "__main__":
    main()
