"""Errors of buckets: one whole line with what failed, the words of the service, what to do."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pkgdata.errors import AccessDeniedError, IntegrityError, StoreError
from pkgdata.stores import Store, s3

pytest.importorskip("obstore")

LONG = "The reason of the service. " * 40


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.asked.append(self.headers)
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_):
        """Say nothing; the requests are recorded."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    monkeypatch.setattr(s3, "_regions", {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.asked, server.headers = [], {}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def store_of(server, **options):
    options.setdefault("secrets", {"access_key_id": "AKIA", "secret_access_key": "secret"})
    if options.get("anonymous"):
        del options["secrets"]
    return Store(f"s3://http://127.0.0.1:{server.server_port}/bucket", **options)


def error(code, message=LONG):
    return f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"


@pytest.mark.parametrize(
    ("status", "code", "todo"),
    [
        (403, "AccessDenied", "may not do that"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "ExpiredToken", "log in again"),
        (403, "InvalidAccessKeyId", "not known there"),
        (403, "SignatureDoesNotMatch", "secret key"),
        (400, "AuthorizationHeaderMalformed", "--region"),
        (400, "EntityTooLarge", "this size"),
        (409, "BrandNewCode", None),
    ],
)
@pytest.mark.parametrize(
    ("verb", "act"),
    [
        ("read", lambda store: store.get("a")),
        ("write", lambda store: store.put("a", b"x")),
        ("list", lambda store: [*store]),
        ("write", lambda store: store.ask("PUT", "a")),
    ],
)
def test_one_whole_line_and_what_to_do(server, status, code, todo, verb, act):
    server.answer = status, error(code)
    with pytest.raises(StoreError) as caught:
        act(store_of(server))
    head, *hint = str(caught.value).split("\n")
    assert f"127.0.0.1:{server.server_port}/bucket" in head
    assert f": cannot {verb}: status {status}, {code}, The reason" in head
    assert LONG.strip(" .") in head
    assert hint == [] if todo is None else todo in hint[0]


def test_without_credentials_the_hint_says_so(server):
    server.answer = 403, error("AccessDenied", "Access Denied.")
    with pytest.raises(AccessDeniedError, match="nothing was signed: set the provider's"):
        store_of(server, anonymous=True).get("a")


def test_a_page_of_a_proxy_is_shown_as_text(server):
    server.answer = 502, "<html><title>Bad\ngateway</title></html>"
    with pytest.raises(StoreError, match="cannot read: status 502, Bad gateway"):
        store_of(server).get("a")


def test_a_missing_bucket(server):
    server.answer = 404, error("NoSuchBucket")
    with pytest.raises(StoreError, match="there is no such bucket"):
        store_of(server).ask("GET", "a")


def test_who_pays_is_sent_with_every_request(server):
    server.answer = 403, error("AccessDenied")
    store = store_of(server, request_payer="requester")
    for act in (lambda: store.get("a"), lambda: store.ask("GET", "a"), lambda: [*store]):
        with pytest.raises(AccessDeniedError):
            act()
    assert [headers["x-amz-request-payer"] for headers in server.asked] == ["requester"] * 3


@pytest.mark.parametrize("key", ["aws:kms", "aws:kms:dsse", None])
def test_the_etag_of_an_object_that_a_key_encrypts_is_no_digest(server, key):
    server.answer = 200, "content"
    server.headers = {"ETag": f'"{"0" * 32}"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    if key:
        server.headers["x-amz-server-side-encryption"] = key
        assert store_of(server).get("a") == b"content"
    else:
        with pytest.raises(IntegrityError):
            store_of(server).get("a")


# -- on a real service -------------------------------------------------------------------------


@pytest.fixture(params=["moto", "ceph"])
def account(request):
    return request.getfixturevalue(request.param)


@pytest.mark.integration
def test_what_may_not_be_deleted_is_named(account):
    bucket = account.make_bucket()
    secrets = {"access_key_id": account.access_key, "secret_access_key": account.secret_key}
    store = Store(f"s3://{account.endpoint}/{bucket}/p", secrets=secrets)
    store.put([("kept", b"1"), ("gone", b"2")])
    resource = f"arn:aws:s3:::{bucket}/p/kept"
    rule = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": resource}
    policy = {"Version": "2012-10-17", "Statement": [rule]}
    account.signed("PUT", f"/{bucket}", {"policy": ""}, body=json.dumps(policy).encode())
    for names in ("kept", ["gone", "kept"]):
        with pytest.raises(AccessDeniedError, match="/p/kept: cannot delete: AccessDenied"):
            store.delete(names)
    assert [*store] == ["kept"]


@pytest.mark.integration
def test_a_deleted_object_of_a_versioned_bucket_is_gone_and_no_damage(account):
    bucket = account.make_bucket()
    rule = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    account.signed("PUT", f"/{bucket}", {"versioning": ""}, body=rule.encode())
    secrets = {"access_key_id": account.access_key, "secret_access_key": account.secret_key}
    store = Store(f"s3://{account.endpoint}/{bucket}", secrets=secrets)
    store["a"] = b"1"
    store["a"] = b"2"
    assert store["a"] == b"2"
    store.copy("a", "b")
    del store["a"]
    assert [*store] == ["b"]
    assert "a" not in store


class _Lies(io.BytesIO):
    """A file that says that it is longer or shorter than it is."""

    said = 0

    def seek(self, offset, whence=0):
        found = super().seek(offset, whence)
        return self.said if whence == 2 else found


@pytest.mark.integration
@pytest.mark.parametrize("said", [30 << 20, 15 << 20])
def test_a_wrong_length_stores_nothing(account, said):
    secrets = {"access_key_id": account.access_key, "secret_access_key": account.secret_key}
    store = Store(f"s3://{account.endpoint}/{account.make_bucket()}", secrets=secrets)
    file = _Lies(bytes(20 << 20))
    file.said = said
    with pytest.raises(StoreError, match=f"a: expected {said} bytes, found .*nothing was stored"):
        store.put("a", file)
    assert [*store] == []
    assert [*store.uploads()] == []
