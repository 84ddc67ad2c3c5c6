"""`get_readable_fileobj`: what is opened, how it is decompressed, what is left behind."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import lzma
import os
import sys
import tempfile
import types
from pathlib import Path
from urllib.error import URLError

import faults
import pytest
from faults import FaultServer

import pkgdata
from pkgdata.compat.astropy import readable
from pkgdata.compat.astropy.readable import get_file_contents, get_readable_fileobj
from pkgdata.errors import ExtractionError
from pkgdata.stores import codecs

TEXT = "first line\nzweite Zeile: ü\n" * 500
DATA = TEXT.encode()
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "plain": bytes}


@pytest.fixture(params=sorted(PACK))
def packed(request, tmp_path):
    """Write a file whose name does not tell how it is compressed."""
    path = tmp_path / "file.dat"
    path.write_bytes(PACK[request.param](DATA))
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Return the folder of temporary files, for this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


# -- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("encoding", ["binary", "ascii"])
def test_what_expands_without_end_is_refused(tmp_path, monkeypatch, temporary, kind, encoding):
    monkeypatch.setattr(codecs, "_ALWAYS_ALLOWED", 5_000_000)
    monkeypatch.setenv("PKGDATA_EXTRACT_LIMIT", "1")
    pack = {**PACK, "zst": lambda data: codecs.encode(data, "zstd")}[kind]
    path = tmp_path / "file.dat"
    path.write_bytes(pack(bytes(5_000_000)))
    with get_readable_fileobj(path, encoding=encoding) as file:
        for _ in range(3):  # again and again, as often as one likes
            file.seek(0)
            assert len(file.read()) == 5_000_000
    path.write_bytes(pack(bytes(9_000_000)))
    with (
        pytest.raises(ExtractionError, match=r"file\.dat grows past 5000000 bytes") as caught,
        get_readable_fileobj(path, encoding=encoding) as file,
    ):
        file.read()
    assert "extract_limit" in caught.value.hint
    assert os.listdir(temporary) == []


def test_the_first_bytes_tell_the_format(packed, temporary):
    for name in (str(packed), packed):
        with get_readable_fileobj(name, encoding="binary") as file:
            assert file.readline() == DATA.splitlines(keepends=True)[0]
            assert file.read(5) == DATA[11:16]
            file.seek(0)
            assert file.read() == DATA
        assert file.closed
    assert os.listdir(temporary) == []


def test_text(packed, temporary):
    with get_readable_fileobj(packed, encoding="utf-8") as file:
        assert file.readline() == "first line\n"
        file.seek(0)
        assert file.read() == TEXT
        assert list(file) == []
    assert file.closed
    assert get_file_contents(packed, encoding="latin-1") == DATA.decode("latin-1")
    assert os.listdir(temporary) == []


def test_text_in_the_systems_encoding(tmp_path):
    (tmp_path / "a").write_text("plain")
    assert get_file_contents(tmp_path / "a") == "plain"


def test_open_files_stay_open(packed):
    with open(packed, "rb") as mine:
        with get_readable_fileobj(mine, encoding="binary") as file:
            assert file.read() == DATA
        assert not mine.closed
        mine.seek(0)
        with get_readable_fileobj(mine, encoding="utf-8") as file:
            assert file.read() == TEXT
        del file
        assert not mine.closed
    memory = io.BytesIO(packed.read_bytes())
    assert get_file_contents(memory, encoding="utf-8") == TEXT
    assert not memory.closed


def test_one_within_another(packed):
    with get_readable_fileobj(packed, encoding="binary") as outer:
        with get_readable_fileobj(outer, encoding="utf-8") as inner:
            inner.seek(1)
        outer.seek(1)
    assert outer.closed
    assert inner.closed


def test_a_stream_that_cannot_seek():
    class Stream:
        def __init__(self):
            self.file = io.BytesIO(gzip.compress(DATA))

        def read(self, size=-1):
            return self.file.read(size)

    class Path:
        def read(self):
            return "text"

        def read_binary(self):
            return DATA

    assert get_file_contents(Stream(), encoding="binary") == DATA
    assert get_file_contents(Path(), encoding="utf-8") == TEXT


def test_a_text_file_cannot_be_decoded(tmp_path):
    (tmp_path / "a").write_text("text")
    with open(tmp_path / "a") as mine, get_readable_fileobj(mine) as file:
        with pytest.raises(TypeError, match="open it as 'rb'"):
            file.read()
        with pytest.raises(TypeError, match="open it as 'rb'"):
            file.read(1)
    with open(tmp_path / "a") as mine:
        assert get_file_contents(mine, encoding="binary") == "text"


@pytest.mark.parametrize(
    "broken",
    [
        b"\x1f\x8b\x08invalid",
        b"BZhinvalid",
        b"\xfd7zXZ\x00invalid",
        gzip.compress(DATA, mtime=0)[:11],  # else each xdist worker would call the test otherwise
        bz2.compress(DATA)[:20],
        lzma.compress(DATA)[:20],
        b"\x1f\x8b",
        b"B",
        b"",
    ],
)
def test_a_broken_archive_is_handed_over_as_it_is(tmp_path, temporary, broken):
    (tmp_path / "broken").write_bytes(broken)
    assert get_file_contents(tmp_path / "broken", encoding="binary") == broken
    assert get_file_contents(tmp_path / "broken", encoding="latin-1") == broken.decode("latin-1")
    assert os.listdir(temporary) == []


def test_what_breaks_later_is_an_error(tmp_path):
    (tmp_path / "broken").write_bytes(gzip.compress(os.urandom(100_000))[:-1000])
    with pytest.raises(EOFError):
        get_file_contents(tmp_path / "broken", encoding="binary")


# -- formats of optional packages ------------------------------------------------------------


class FakeZstd:
    """Stands in for the package zstandard: a magic number, then bytes as they are."""

    class ZstdError(Exception):
        pass

    class ZstdDecompressor:
        def stream_reader(self, file, closefd, read_across_frames):
            assert closefd is False
            assert read_across_frames is True
            assert file.read(4) == b"\x28\xb5\x2f\xfd"
            rest = file.read()
            if rest.startswith(b"broken"):
                raise FakeZstd.ZstdError("broken")
            return io.BytesIO(rest)


@pytest.fixture
def zstd(monkeypatch):
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "zstandard", FakeZstd)


def test_zstd(tmp_path, temporary, zstd):
    (tmp_path / "a").write_bytes(b"\x28\xb5\x2f\xfd" + DATA)
    with get_readable_fileobj(tmp_path / "a", encoding="utf-8") as file:
        assert file.read() == TEXT
        file.seek(6)
        assert file.readline() == "line\n"
    (tmp_path / "a").write_bytes(b"\x28\xb5\x2f\xfdbroken")
    assert get_file_contents(tmp_path / "a", encoding="binary") == b"\x28\xb5\x2f\xfdbroken"
    assert os.listdir(temporary) == []


def real_zstd():
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name).compress
        except ModuleNotFoundError:
            pass
    try:
        return importlib.import_module("zstandard").ZstdCompressor().compress
    except ModuleNotFoundError:
        return None


@pytest.mark.skipif(real_zstd() is None, reason="neither Python 3.14 nor zstandard is here")
def test_zstd_itself(tmp_path):
    (tmp_path / "a").write_bytes(real_zstd()(DATA))
    assert get_file_contents(tmp_path / "a", encoding="utf-8") == TEXT


def test_lzw(tmp_path, monkeypatch):
    class LZWFile(io.BytesIO):
        def __init__(self, file):
            content = file.read()[3:]
            if content == b"invalid":
                raise ValueError("broken")
            super().__init__(content)

    monkeypatch.setitem(sys.modules, "uncompresspy", types.SimpleNamespace(LZWFile=LZWFile))
    (tmp_path / "a").write_bytes(b"\x1f\x9d\x90" + DATA)
    assert get_file_contents(tmp_path / "a", encoding="utf-8") == TEXT
    (tmp_path / "a").write_bytes(b"\x1f\x9d\x90invalid")
    assert get_file_contents(tmp_path / "a", encoding="binary") == b"\x1f\x9d\x90invalid"


@pytest.mark.skipif(not importlib.util.find_spec("uncompresspy"), reason="no uncompresspy here")
def test_lzw_itself():
    astropy = pytest.importorskip("astropy.utils.tests", reason="astropy is not installed")
    file = Path(astropy.__file__).parent / "data" / "local.dat.Z"
    assert "CONTENT" in get_file_contents(file, encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "module", "pip"),
    [
        (b"\x28\xb5\x2f\xfd", "zstandard", "zstandard"),
        (b"\x1f\x9d\x90", "uncompresspy", "uncompresspy"),
        (bz2.compress(DATA), "bz2", "a Python that has it"),
    ],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, content, module, pip):
    for name in ("compression.zstd", "backports.zstd", module):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModuleNotFoundError, match=module) as caught:
        get_file_contents(tmp_path / "a")
    assert isinstance(caught.value, pkgdata.MissingExtraError)
    assert caught.value.hint == f"pip install {pip}"


# -- URLs ------------------------------------------------------------------------------------


@pytest.fixture
def server():
    with FaultServer({"a.gz": gzip.compress(DATA)}) as found:
        yield found


def test_a_url_leaves_no_temporary_file(server, temporary):
    before = list(pkgdata._tempfilestodel)
    with get_readable_fileobj(server.url + "a.gz", encoding="utf-8") as file:
        assert file.read() == TEXT
        assert len(os.listdir(temporary)) == 1
    assert os.listdir(temporary) == []
    assert pkgdata._tempfilestodel == before
    with pytest.raises(KeyError), get_readable_fileobj(server.url + "a.gz"):
        raise KeyError
    assert os.listdir(temporary) == []


def test_a_url_is_cached_if_wanted(server, temporary):
    url = "http://h/a.gz"
    how = {"cache": True, "sources": [server.url + "a.gz"], "http_headers": {"X-Mine": "1"}}
    for _ in range(2):
        assert get_file_contents(url, "utf-8", show_progress=False, **how) == TEXT
    (request,) = server.requests
    assert request.headers["x-mine"] == "1"
    assert pkgdata.get_cached_urls() == [url]
    assert os.listdir(temporary) == []


def test_a_url_that_fails(server, temporary, monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    server.script("a.gz", faults.stall(5))
    with pytest.raises(URLError):
        get_file_contents(server.url + "a.gz", remote_timeout=0.05)
    server.release()
    with pytest.raises(URLError):
        get_file_contents(server.url + "none")
    assert os.listdir(temporary) == []


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        get_file_contents(tmp_path / "none")


def test_a_file_may_outlive_the_block(tmp_path):
    (tmp_path / "a").write_bytes(DATA)
    with get_readable_fileobj(tmp_path / "a", encoding="binary", close_files=False) as file:
        file.read(3)
    assert not file.closed
    assert file.read() == DATA[3:]
    with get_readable_fileobj(tmp_path / "a", encoding="utf-8", close_files=False) as text:
        text.read(3)
    assert text.read() == TEXT[3:]
    file.close()
    text.buffer.raw._file.close()
    assert text.closed


# -- fsspec ----------------------------------------------------------------------------------


def test_fsspec(tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    with fsspec.open("memory://bucket/a.gz", "wb") as file:
        file.write(gzip.compress(DATA))
    name = "memory://bucket/a.gz"
    assert get_file_contents(name, encoding="utf-8", use_fsspec=True) == TEXT
    own = fsspec.filesystem("memory")
    how = {"use_fsspec": True, "fsspec_filesystem": own, "fsspec_kwargs": {"mode": "rb"}}
    assert get_file_contents("/bucket/a.gz", encoding="utf-8", **how) == TEXT
    with pytest.raises(TypeError, match="must be a string"):
        get_file_contents(io.BytesIO(), use_fsspec=True)
    # a local file is not sent there by itself
    (tmp_path / "a").write_bytes(DATA)
    assert get_file_contents(str(tmp_path / "a"), encoding="utf-8", use_fsspec=False) == TEXT


def test_buckets_go_to_fsspec_by_themselves(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for name in ("s3://bucket/a", "gs://bucket/a"):
        with pytest.raises(ModuleNotFoundError, match="fsspec"):
            get_file_contents(name)


def test_every_format_has_a_reader():
    assert len(readable._FORMATS) == 5
