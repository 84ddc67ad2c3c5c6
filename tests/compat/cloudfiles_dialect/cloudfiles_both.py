"""Both libraries, where cloud-files is installed, and what their tests share."""

from __future__ import annotations

import warnings

import pytest

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that it loads
        import cloudfiles as theirs
except ImportError:
    theirs = None

compares = pytest.mark.skipif(
    theirs is None, reason="needs cloud-files to compare with: pip install cloud-files"
)

TEXT = b"some_string" * 40
ENCODINGS = ["gzip", "br", "zstd", "xz", "bzip2"]


def needs(encoding):
    pytest.importorskip({"br": "brotli", "zstd": "zstandard"}.get(encoding, "zlib"))


def filled(lib, url, **options):
    files = lib.CloudFiles(url, **options)
    files.puts([("a", b"1"), ("b", b"22"), ("dir/c", b"333"), ("dir/sub/d", TEXT)])
    return files
