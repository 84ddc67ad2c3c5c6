"""A bucket in another region: the region that the answer names is used, once.

Neither moto nor Ceph has regions. The server here answers as Amazon documents it ("Error
responses", "HeadBucket"): a request that is signed for another region gets 301 PermanentRedirect
without a Location, or 400 AuthorizationHeaderMalformed with the region in its body; the answer to
HEAD has no body; and every answer about a bucket has the header x-amz-bucket-region.
"""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import pkgdata
from pkgdata.errors import StoreError
from pkgdata.stores import Store, s3

pytest.importorskip("obstore")

_BODIES = {
    301: "<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to access "
    "must be addressed using the specified endpoint. Please send all future requests to this "
    "endpoint.</Message><Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint></Error>",
    400: "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is "
    "malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message>"
    "<Region>eu-west-1</Region></Error>",
}
_LIST = (
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false'
    "</IsTruncated><Contents><Key>a</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    '<ETag>"0cc175b9c0f1b6a831c399e269772661"</ETag><Size>1</Size></Contents></ListBucketResult>'
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        server = self.server
        self.rfile.read(int(self.headers.get("content-length") or 0))
        scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers.get("authorization", ""))
        server.asked.append((self.command, scope and scope[1]))
        status, body, extra = 200, "a", {"ETag": '"0cc175b9c0f1b6a831c399e269772661"'}
        if not scope or scope[1] != server.region:
            status, extra = server.refusal, {}
            body = _BODIES[status]
        elif "list-type" in self.path:
            body = _LIST
        elif self.path.endswith("?delete"):
            body = '<DeleteResult xmlns="x"><Deleted><Key>a</Key></Deleted></DeleteResult>'
        elif self.path.endswith("?uploads="):
            body = '<I xmlns="x"><Bucket>b</Bucket><Key>k</Key><UploadId>u</UploadId></I>'
        elif "uploadId" in self.path and self.command == "POST":
            body = '<C xmlns="x"><ETag>"e-1"</ETag></C>'
        self.send_response(status)
        self.send_header("x-amz-bucket-region", "eu-west-1")
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if status == 200 and self.command == "PUT":
            body = ""
        self.send_header("Content-Length", str(len(body)))
        for name, value in extra.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_):
        """Say nothing; the requests are recorded."""


@pytest.fixture(params=[301, 400])
def amazon(request, monkeypatch):
    """Give a server with a bucket in eu-west-1, asked by a client that believes in us-east-1."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    monkeypatch.setattr(s3, "_regions", {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.region, server.refusal, server.asked = "eu-west-1", request.param, []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(amazon):
    secrets = {"access_key_id": "AKIA", "secret_access_key": "secret"}
    return Store(f"s3://http://127.0.0.1:{amazon.server_port}/b", secrets=secrets)


_ACTS = {
    "get": lambda store: store.get("a"),
    "stat": lambda store: store.stat("a"),
    "list": lambda store: [*store],
    "list a level": lambda store: [*store.list(flat=True)],
    "put": lambda store: store.put("a", b"a"),
    "put in parts": lambda store: store.write_blocks("a", [b"a" * (9 << 20)]),
    "delete": lambda store: store.delete("a"),
    "ask": lambda store: store.ask("GET", "a"),
}


@pytest.mark.parametrize("act", _ACTS)
def test_the_region_of_the_answer_is_used(act, store, amazon):
    _ACTS[act](store)
    regions = [region for _, region in amazon.asked if region]
    assert regions.count("us-east-1") == 1  # one request failed
    assert regions[-1] == "eu-west-1"
    before = len(amazon.asked)
    store.get("a")
    assert amazon.asked[before:] == [("GET", "eu-west-1")]  # it is remembered


def test_another_store_of_the_bucket_knows_the_region(store, amazon):
    store.get("a")
    before = len(amazon.asked)
    Store(f"{store.url}/folder", secrets=store._options["secrets"]).stat("a")
    assert amazon.asked[before:] == [("HEAD", "eu-west-1")]


def test_a_region_is_followed_once(store, amazon):
    amazon.region = "mars-1"  # whatever the answers say
    with pytest.raises(StoreError) as caught:
        store.get("a")
    assert [region for _, region in amazon.asked if region] == ["us-east-1", "eu-west-1"]
    assert "cannot read: " in caught.value.message
    assert "region= or --region" in str(caught.value)


def test_anonymous_requests_follow_too(monkeypatch):
    monkeypatch.setattr(s3, "_regions", {})
    monkeypatch.setattr(s3, "_ask_region", lambda *_: "eu-west-1")
    store = Store("s3://public-bucket", anonymous=True, region="us-east-1")
    asked = []

    def request(client):
        asked.append(client.config["region"])
        if asked[-1] == "us-east-1":
            raise OSError("Error performing GET x in 1ms - BareRedirect")
        return "found"

    assert store.asking(request) == "found"
    assert asked == ["us-east-1", "eu-west-1"]


def test_amazons_endpoint_of_another_region_gives_way(monkeypatch):
    monkeypatch.setattr(s3, "_regions", {})
    store = Store("s3://b", endpoint="https://s3.us-east-1.amazonaws.com", anonymous=True)
    store._learn(f"Server returned non-2xx status code: 400: {_BODIES[400]}")
    assert store._endpoint() is None
    assert store._region() == "eu-west-1"


class _Proxy(BaseHTTPRequestHandler):
    """All of Amazon, as a proxy shows it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.path)
        here = "s3.eu-west-1.amazonaws.com" in self.path
        self.send_response(200 if here else 301)
        body = b"a" if here else _BODIES[301].encode()
        self.send_header("x-amz-bucket-region", "eu-west-1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing; the requests are recorded."""


@pytest.fixture
def proxy(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "base", ["http://s3.amazonaws.com/b/", "http://b.s3.us-east-1.amazonaws.com/"]
)
def test_a_mirror_that_is_a_public_bucket_of_another_region(proxy, tmp_path, base, monkeypatch):
    # an s3:// mirror is read by its web address, which needs neither credentials nor a library
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "cache"))
    digest = hashlib.sha256(b"a").hexdigest()
    data = pkgdata.declare("region_test", dataurl=[base], registry={"a": f"sha256:{digest}"})
    with open(data.get("a"), "rb") as file:
        assert file.read() == b"a"
    assert "s3.eu-west-1.amazonaws.com" in proxy.asked[-1]
    assert proxy.asked[-1].endswith("/a")


def test_another_server_moves_nobody_by_that_header(proxy):
    with pytest.raises(StoreError, match="301"):
        Store("http://other.example.org/b/").get("a")
    assert len(proxy.asked) == 1
