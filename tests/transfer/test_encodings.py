"""Servers that declare or apply a compression: a file has the bytes that its name says."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import random

import faults
import pytest
from faults import FaultServer

import pkgdata
from pkgdata import Store
from pkgdata.cli import main
from pkgdata.errors import AllMirrorsFailedError, IntegrityError
from pkgdata.stores import codecs
from pkgdata.transfer import one, ranges

PLAIN = b"x,y\n1,2\n" * 1000
PACKED = gzip.compress(PLAIN, mtime=0)
TWICE = gzip.compress(PACKED, mtime=0)

#: Name, bytes as they are sent, and the file of that name.
CASES = [
    ("t.csv.gz", PACKED, PACKED),  # Apache's AddEncoding, or metadata of S3
    ("t.csv", PACKED, PLAIN),  # compressed on the way, or stored so
    ("t.csv.gz", TWICE, PACKED),  # compressed on the way, though it was already
    ("t.tgz", PACKED, PACKED),
]


@pytest.fixture
def server():
    with FaultServer({}) as found:
        yield found


def encoded(encoding="gzip", **changes):
    """Declare an encoding of what is served, whole or in ranges."""

    def fault(server, request):
        reply = faults.altered(**changes)(server, request)
        reply.headers["Content-Encoding"] = encoding
        return reply

    return fault


def serve(server, name, content, encoding="gzip", **changes):
    server.contents[name] = content
    server.script(name, faults.forever(encoded(encoding, **changes)))


def sha(content):
    return hashlib.sha256(content).hexdigest()


def get(server, name, digest=None, size=None, **more):
    entry = pkgdata.Entry(name, pkgdata.Digest("sha256", digest) if digest else None, size)
    registry = pkgdata.Registry([entry])
    data = pkgdata.declare("encoded", dataurl=server.url, registry=registry, retries=0, **more)
    with open(data.get(name), "rb") as file:
        return file.read()


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "gzip, aws-chunked"])
@pytest.mark.parametrize(("name", "sent", "file"), CASES)
def test_an_unpinned_file_is_as_its_name_says(server, name, sent, file, encoding):
    serve(server, name, sent, encoding)
    assert get(server, name) == file


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("pinned", [PLAIN, PACKED])
@pytest.mark.parametrize("sized", [True, False])
def test_a_digest_of_the_sent_or_of_the_decoded_bytes_is_accepted(server, pinned, sized, framing):
    serve(server, "t.csv", PACKED, **({} if framing == "length" else {"framing": framing}))
    size = len(pinned) if sized else None
    assert get(server, "t.csv", sha(pinned), size) == pinned


def test_other_bytes_than_the_pinned_are_refused(server):
    serve(server, "t.csv", PACKED)
    with pytest.raises(IntegrityError, match="Content-Encoding gzip"):
        get(server, "t.csv", sha(b"other"))


def test_what_is_not_compressed_as_declared_is_refused_or_as_its_name_says(server):
    serve(server, "t.csv", PLAIN)
    with pytest.raises(AllMirrorsFailedError, match="cannot be decoded"):
        get(server, "t.csv")
    serve(server, "t.dat", PLAIN, "deflate")
    with pytest.raises(AllMirrorsFailedError, match="compressed the file"):
        get(server, "t.dat")
    serve(server, "u.csv", PLAIN, "aws-chunked")
    assert get(server, "u.csv") == PLAIN


def test_a_compressed_page_is_refused_like_a_plain_one(server):
    serve(server, "t.csv", gzip.compress(b"<!doctype html><p>log in"))
    with pytest.raises(AllMirrorsFailedError, match="HTML page"):
        get(server, "t.csv")


def test_a_small_file_does_not_decode_to_gigabytes(server, monkeypatch):
    monkeypatch.setattr(one, "_MOST", 1000)
    serve(server, "t.csv", gzip.compress(bytes(1 << 20)))
    with pytest.raises(AllMirrorsFailedError, match="decode to more than"):
        get(server, "t.csv", extract_limit=1)


def test_a_compressed_file_is_resumed(server):
    packed = gzip.compress(bytes(range(256)) * 40000, compresslevel=0)
    server.contents["t.csv"] = packed
    server.script("t.csv", encoded(cut_at=2_000_000), faults.forever(encoded()))
    plain = gzip.decompress(packed)
    assert get(server, "t.csv", sha(plain)) == plain
    assert [r.status for r in server.requests] == [200, 206]


def test_a_batch_takes_them_as_single_files(server):
    names = [f"{i}.csv" for i in range(40)]
    for name in names:
        serve(server, name, PACKED)
    registry = {name: sha(PLAIN) for name in names}
    data = pkgdata.declare("many", dataurl=server.url, registry=registry)
    assert len(data.fetch().succeeded) == 40


@pytest.mark.parametrize(("name", "sent", "file"), CASES)
def test_download_file_has_the_bytes_that_the_name_says(server, name, sent, file):
    serve(server, name, sent)
    with open(pkgdata.download_file(server.url + name), "rb") as opened:
        assert opened.read() == file


@pytest.mark.parametrize(("name", "sent", "file"), CASES)
def test_stores_read_and_copy_them_so(server, name, sent, file, tmp_path):
    serve(server, name, sent)
    assert Store(server.url).get(name) == file
    assert main(["cp", server.url + name, str(tmp_path / "out/here")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["here"]
    assert (tmp_path / "out/here").read_bytes() == file


def test_a_file_and_its_compressed_form_do_not_end_in_one_file(server, tmp_path):
    serve(server, "t.csv", gzip.compress(b"first"))
    serve(server, "t.csv.gz", PACKED)
    for name in ("t.csv", "t.csv.gz"):
        assert main(["cp", server.url + name, f"{tmp_path}/out/"]) == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {"t.csv": b"first", "t.csv.gz": PACKED}


@pytest.mark.parametrize(
    ("name", "encoding", "head", "layer"),
    [
        ("a", "gzip", b"", "gzip"),
        ("a.gz", "gzip", PACKED[:1024], None),
        ("a.GZ?v=1", "gzip", PACKED[:1024], None),
        ("a.gz", "gzip", TWICE[:1024], "gzip"),
        ("a.gz", "gzip", b"no gzip", None),
        ("a.gz", "bzip2", bz2.compress(PLAIN), "bzip2"),
        ("a.tbz2", "bzip2", bz2.compress(PLAIN), None),
        ("a.br", "br", b"", None),
        ("a", "deflate", b"", "deflate"),
        ("a", None, b"", None),
    ],
)
def test_the_layer_to_take_off(name, encoding, head, layer):
    assert codecs.layer(name, encoding, head) == layer


def test_ranges_of_a_compressed_file_are_put_together_and_decoded(server, monkeypatch):
    for name, value in (("_LOOK_AFTER", 0.0), ("_WORTH_RANGES", 1 << 16), ("_WORTH_SECONDS", 0.0)):
        monkeypatch.setattr(one, name, value)
    monkeypatch.setattr(ranges, "SMALLEST", 1 << 16)
    plain = random.Random(1).randbytes(4 << 20)
    server.contents["t.csv"] = gzip.compress(plain, compresslevel=1)
    server.script("t.csv", faults.forever(encoded(pause=0.005)))
    assert get(server, "t.csv", sha(plain)) == plain
    assert any(request.status == 206 for request in server.requests)
