"""Bounded memory, whatever the size of objects and the number of names.

Each case runs in a process of its own, which tells the most memory that it has had.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
from nginx import Nginx
from servers.signing import ask

from pkgdata.stores import Store

MB, GB = 1 << 20, 1 << 30

#: What a process may have at most while it copies, and by how much it may grow while it lists.
MOST, GROWTH = 300 * MB, 50 * MB

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="the most memory of a process is told by /proc"
    ),
]

#: Stands before each program. What ``getrusage`` tells would begin with the memory of the process
#: that started it.
_HEAD = """
import json, sys
from pkgdata.stores import Store

def high():
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))

def forget():
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the mark is what there is now

def tell(**facts):
    print(json.dumps({"high": high(), **facts}))

"""


def run(code, *arguments, seconds=120):
    """Run a program; return what it told."""
    ended = subprocess.run(
        [sys.executable, "-c", _HEAD + textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PKGDATA_DURABILITY": "none",  # what is measured is memory, not the disk
        },
    )
    assert ended.returncode == 0, ended.stderr
    print(ended.stdout)  # shown with -s, or when the test fails
    return json.loads(ended.stdout)


def sparse(path, size):
    """Make a file that takes no space; its ends are marked."""
    with open(path, "wb") as file:
        file.write(b"begin")
        file.seek(size - 3)
        file.write(b"end")


def is_copy(path, size):
    with open(path, "rb") as file:
        first = file.read(5)
        file.seek(-3, os.SEEK_END)
        return (first, file.read(3), file.tell()) == (b"begin", b"end", size)


# -- large objects -----------------------------------------------------------------------------

TRANSFER = """
    from pkgdata.stores.file import FileStore
    FileStore.clone = lambda *_: False  # the file system would share or copy the bytes by itself
    source, target, secrets = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    options = lambda url: {"secrets": secrets} if url.startswith("s3:") else {}
    source, target = (Store(url, **options(url)) for url in (source, target))
    source.transfer_to(target, ["large"])
    tell(size=target.size("large"))
"""


@pytest.mark.integration
def test_file_to_file_4_gb(tmp_path):
    (tmp_path / "from").mkdir()
    sparse(tmp_path / "from" / "large", 4 * GB)
    found = run(TRANSFER, tmp_path / "from", tmp_path / "to", "{}")
    assert found["size"] == 4 * GB
    assert found["high"] < MOST
    assert is_copy(tmp_path / "to" / "large", 4 * GB)
    os.unlink(tmp_path / "to" / "large")  # pytest keeps folders


@pytest.mark.integration
def test_web_to_file_5_gb(tmp_path):
    (tmp_path / "from").mkdir()
    sparse(tmp_path / "from" / "large", 5 * GB)
    with Nginx(tmp_path / "nginx", tmp_path / "from") as server:
        found = run(TRANSFER, server.url, tmp_path / "to", "{}")
        assert found["high"] < MOST
        assert is_copy(tmp_path / "to" / "large", 5 * GB)
        os.unlink(tmp_path / "to" / "large")
        # a range of what is far larger than the memory
        assert Store(server.url).get("large", start=5 * GB - 3) == b"end"
        assert Store(server.url).size("large") == 5 * GB


@pytest.mark.integration
def test_file_to_ceph_and_back_1_gb(ceph, tmp_path):
    pytest.importorskip("obstore")
    keys = {"access_key_id": ceph.access_key, "secret_access_key": ceph.secret_key}
    url = f"s3://{ceph.endpoint}/{ceph.make_bucket()}"
    (tmp_path / "from").mkdir()
    sparse(tmp_path / "from" / "large", GB)
    store = Store(url, secrets=keys)
    try:
        there = run(TRANSFER, tmp_path / "from", url, json.dumps(keys))
        back = run(TRANSFER, url, tmp_path / "back", json.dumps(keys))
    finally:
        store.delete(prefix="")  # its memory is this machine's
    assert (there["size"], back["size"]) == (GB, GB)
    assert there["high"] < MOST
    assert back["high"] < MOST
    assert is_copy(tmp_path / "back" / "large", GB)
    os.unlink(tmp_path / "back" / "large")


@pytest.mark.integration
def test_many_large_objects_at_once(ceph, tmp_path):
    """Threads do not multiply the memory: there are far more of them than there is room."""
    pytest.importorskip("obstore")
    keys = {"access_key_id": ceph.access_key, "secret_access_key": ceph.secret_key}
    url = f"s3://{ceph.endpoint}/{ceph.make_bucket()}"
    (tmp_path / "from").mkdir()
    for number in range(24):
        sparse(tmp_path / "from" / f"large{number}", 40 * MB)
    code = """
        source, target = Store(sys.argv[1]), Store(sys.argv[2], secrets=json.loads(sys.argv[3]))
        source.transfer_to(target)
        there = high()
        target.transfer_to(sys.argv[4])
        tell(there=there)
    """
    store = Store(url, secrets=keys)
    try:
        found = run(code, tmp_path / "from", url, json.dumps(keys), tmp_path / "back")
    finally:
        store.delete(prefix="")
    assert found["there"] < MOST, found
    assert found["high"] < MOST, found
    assert all(is_copy(tmp_path / "back" / f"large{n}", 40 * MB) for n in range(24))


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br"])
def test_few_stored_bytes_that_stand_for_many(tmp_path, encoding):
    """A file of a few kilobytes may decode to more than the memory."""
    module = pytest.importorskip({"gzip": "zlib", "zstd": "zstandard", "br": "brotli"}[encoding])
    if encoding == "br" and not hasattr(module.Decompressor, "can_accept_more_data"):
        pytest.skip("needs Brotli 1.2, which bounds what a decoder gives")
    code = """
        from pkgdata.stores import codecs
        zeros = bytes(1 << 20)
        with open(sys.argv[1] + "/a" + codecs.SUFFIXES[sys.argv[2]], "wb") as file:
            for block in codecs.encode_blocks((zeros for _ in range(1024)), sys.argv[2], 1):
                file.write(block)
        store = Store(sys.argv[1])
        tell(size=sum(map(len, store.cat("a"))))
    """
    found = run(code, tmp_path, encoding)
    assert found["size"] == GB
    assert found["high"] < MOST


# -- many names --------------------------------------------------------------------------------


def test_listing_a_million_names_in_memory():
    code = """
        from pkgdata.stores.other import Kept
        from pkgdata.stores import Info
        store = Store("mem://million")
        kept = Kept(b"", Info(0))
        store._objects.update((f"n/{number:07}", kept) for number in range(1_000_000))
        forget()
        before = high()
        names = store.list("n/")
        first = next(names)
        count = 1 + sum(1 for _ in names)
        tell(growth=high() - before, count=count, first=first)
    """
    found = run(code)
    assert (found["count"], found["first"]) == (1_000_000, "n/0000000")
    assert found["growth"] < GROWTH


#: A bucket that has a million objects, as far as its listings tell.
_BUCKET = """
    import sys
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from urllib.parse import parse_qs, urlsplit

    TOTAL = 1_000_000
    ROW = (
        "<Contents><Key>n/%07d</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>5</Size></Contents>"
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        asked = 0

        def do_GET(self):
            if self.path == "/asked":
                self.answer(b"%d" % Handler.asked)
                return
            Handler.asked += 1
            asked = parse_qs(urlsplit(self.path).query)
            start = int(asked.get("continuation-token", ["0"])[0])
            stop = min(start + 1000, TOTAL)
            more = stop < TOTAL
            body = "<ListBucketResult><IsTruncated>%s</IsTruncated>" % str(more).lower()
            if more:
                body += "<NextContinuationToken>%d</NextContinuationToken>" % stop
            body += "".join(map(ROW.__mod__, range(start, stop))) + "</ListBucketResult>"
            self.answer(body.encode())

        def answer(self, body):
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
"""


@pytest.fixture
def million():
    """Give the endpoint of the bucket of a million objects."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_BUCKET)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.integration
def test_listing_a_million_names_of_a_bucket(million):
    pytest.importorskip("obstore")
    code = """
        store = Store("s3://bucket", endpoint=sys.argv[1], anonymous=True)
        names = store.list()
        first = next(names)
        before = high()
        for count, name in enumerate(names, 2):
            pass
        tell(growth=high() - before, count=count, first=first, last=name)
    """
    found = run(code, million)
    assert (found["first"], found["last"]) == ("n/0000000", "n/0999999")
    assert found["count"] == 1_000_000
    assert found["growth"] < GROWTH
    assert found["high"] < MOST


@pytest.mark.integration
def test_first_names_of_a_million_come_at_once(million):
    """A listing that is not read to its end asks for no more than it needs."""
    pytest.importorskip("obstore")
    code = """
        store = Store("s3://bucket", endpoint=sys.argv[1], anonymous=True)
        names = store.list()
        found = [next(names) for _ in range(1500)]
        names.close()
        tell(last=found[-1])
    """
    assert run(code, million)["last"] == "n/0001499"
    assert int(ask("GET", f"{million}/asked").body) < 20  # of a thousand


MANY = """
    secrets = json.loads(sys.argv[2])
    store = Store(sys.argv[1], **({"secrets": secrets} if secrets else {}))
    names = [f"d{number % 10}/n{number:05}" for number in range(10_000)]
    store.put((name, name.encode()) for name in names)
    forget()
    before = high()
    listed = list(store.list())
    du = store.du()
    right = sum(result.content == result.name.encode() for result in store.get(iter(listed)))
    growth = high() - before
    store.delete(prefix="d1/")
    left = sum(1 for _ in store.list())
    store.delete(prefix="")
    tell(
        growth=growth, listed=listed == sorted(names), right=right, du=du, left=left,
        rest=list(store.list()),
    )
"""


def many(url, secrets=None):
    found = run(MANY, url, json.dumps(secrets))
    assert found.pop("high") < MOST
    assert found.pop("growth") < GROWTH
    assert found == {
        "listed": True,
        "right": 10_000,
        "du": [10_000, 90_000],
        "left": 9000,
        "rest": [],
    }


def test_ten_thousand_names_in_memory():
    many("mem://many")


def test_ten_thousand_files(tmp_path):
    many(tmp_path / "many")


@pytest.mark.integration
def test_ten_thousand_objects_of_a_bucket(ceph):
    pytest.importorskip("obstore")
    keys = {"access_key_id": ceph.access_key, "secret_access_key": ceph.secret_key}
    many(f"s3://{ceph.endpoint}/{ceph.make_bucket()}/p", keys)
