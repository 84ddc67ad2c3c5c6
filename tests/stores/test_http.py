"""The HTTP store: what it sends, whom it trusts, and how it names what went wrong."""

from __future__ import annotations

import base64
import gc
import os
import shutil
import socket
import ssl
import subprocess

import faults
import pytest
import trustme
from faults import FaultServer

from pkgdata.errors import (
    AccessDeniedError,
    IncompleteTransferError,
    ObjectNotFoundError,
    StoreError,
    UnsafeNameError,
)
from pkgdata.stores import http, open_store
from pkgdata.stores.http import HttpStore

NAME = "maps/dust 1.fits"
CONTENT = bytes(range(256)) * 1000
LOGIN = "Basic " + base64.b64encode(b"me:sesame").decode()


@pytest.fixture(autouse=True)
def own_sessions(monkeypatch):
    """Keep kept connections, logins and certificates of other tests and of the user away."""
    for name in ("NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(http, "_sessions", {})
    yield
    for session in http._sessions.values():
        session.close()


@pytest.fixture
def server():
    with FaultServer({NAME: CONTENT}) as found:
        yield found


@pytest.fixture
def elsewhere():
    with FaultServer({NAME: CONTENT}, host="localhost") as found:
        yield found


def read(body, block=1 << 16):
    """Read a body to its end and close it."""
    buffer = memoryview(bytearray(block))
    with body:
        return b"".join(iter(lambda: bytes(buffer[: body.readinto(buffer)]), b""))


def fetch(url, name=NAME, **more):
    return read(open_store(url, timeout=20).open(name, **more))


# -- headers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes 5-9/10", (5, 9, 10)),
        ("Bytes 5-9/*", (5, 9, None)),
        (" bytes 0-0/1 ", (0, 0, 1)),
        ("", (-1, -1, None)),
        ("bytes */10", (-1, -1, None)),
        ("bytes 5-/10", (-1, -1, None)),
        ("bytes -5/10", (-1, -1, None)),
        ("items 5-9/10", (-1, -1, None)),
        ("bytes 5-9", (-1, -1, None)),
        ("bytes ５-9/10", (-1, -1, None)),
        ("bytes 5-9/10/11", (-1, -1, None)),
    ],
)
def test_content_range(text, found):
    assert http.parse_content_range(text) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after(text, seconds):
    assert http.retry_after(text, now=10.0) == seconds


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": '"a"', "Last-Modified": "yesterday"}, '"a"'),
        ({"ETag": 'W/"a"', "Last-Modified": "yesterday"}, "yesterday"),
        ({"ETag": 'W/"a"'}, None),
        ({}, None),
    ],
)
def test_weak_validators_are_not_used(headers, validator):
    assert http._validator(headers) == validator


def test_address_quotes_the_name_and_hides_the_login():
    store = HttpStore("https://me:sesame@example.org/d?token=sesame&v=1")
    assert store.address("a b/%#é") == "https://***@example.org/d/a%20b/%25%23%C3%A9?token=***&v=1"
    assert store.address("") == store.url == "https://***@example.org/d?token=***&v=1"
    assert "sesame" not in repr(store)


# -- bodies ------------------------------------------------------------------------------------


def test_stat_asks_by_head(server):
    info = open_store(server.url).stat(NAME)
    assert (info.size, info.validator) == (len(CONTENT), server.etag(NAME))
    (request,) = server.settled()
    assert (request.method, request.sent) == ("HEAD", 0)


def test_stat_of_what_is_missing(server):
    with pytest.raises(ObjectNotFoundError, match="404") as caught:
        open_store(server.url).stat("no such")
    assert caught.value.url == server.url + "no%20such"


def test_kept_connection_serves_the_next_request(server):
    assert fetch(server.url) == fetch(server.url) == CONTENT
    assert server.connections == 1


def test_unread_body_does_not_spoil_the_next_request(server):
    server.contents[NAME] = bytes(8 << 20)
    open_store(server.url).open(NAME).close()
    server.contents[NAME] = CONTENT
    assert fetch(server.url) == CONTENT
    assert server.connections == 2


def test_body_tells_size_validator_and_kind(server):
    with open_store(server.url).open(NAME, 1000) as body:
        assert (body.start, body.size) == (1000, len(CONTENT))
        assert body.validator == server.etag(NAME)
        assert body.kind == "status 206, application/octet-stream"


def test_compressed_body_is_kept_as_it_is_on_the_wire(server):
    server.script(NAME, faults.compressed())
    with open_store(server.url).open(NAME) as body:
        assert body.encoded
        assert "Content-Encoding gzip" in body.kind
        assert body.readinto(memoryview(bytearray(2))) == 2
    assert server.settled()[0].headers["accept-encoding"] == "identity"


def test_bytes_before_a_break_are_handed_over(server):
    server.script(NAME, faults.chunked(cut_at=1000))
    buffer = memoryview(bytearray(1 << 20))
    with open_store(server.url).open(NAME) as body:
        assert body.readinto(buffer) == 1000
        for _ in range(2):  # and a body that broke stays broken
            with pytest.raises(IncompleteTransferError) as caught:
                body.readinto(buffer)
            assert caught.value.actual == 1000


def test_repeated_lengths_count_as_none(server):
    server.script(NAME, faults.altered(framing="close", headers={"Content-Length": "9, 10"}))
    with pytest.raises(StoreError):
        fetch(server.url)


@pytest.mark.parametrize("code", [401, 403])
def test_refusals_point_at_netrc(server, code):
    server.script(NAME, faults.status(code))
    with pytest.raises(AccessDeniedError, match="netrc"):
        fetch(server.url)


@pytest.mark.parametrize(
    ("code", "transient"),
    [(408, True), (425, True), (429, True), (500, True), (503, True), (400, False), (501, False)],
)
def test_statuses_worth_a_retry(server, code, transient):
    server.script(NAME, faults.status(code, retry_after=3))
    with pytest.raises(StoreError) as caught:
        fetch(server.url)
    assert caught.value.transient is transient
    assert caught.value.retry_after == 3


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd"])
def test_names_that_leave_the_base_are_refused(server, name):
    store = open_store(server.url + "public/")
    for ask in (store.open, store.stat):
        with pytest.raises(UnsafeNameError):
            ask(name)
    assert server.requests == []


# -- connections -------------------------------------------------------------------------------


def test_refused_connection_is_transient():
    with FaultServer({}) as gone:
        url = gone.url
    with pytest.raises(StoreError, match="refused") as caught:
        fetch(url)
    assert caught.value.transient


def test_unknown_host_is_named(monkeypatch):
    def resolve(*_args, **_more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(StoreError, match="cannot resolve the host name") as caught:
        fetch("http://data.example.org/")
    assert caught.value.transient
    assert "network connection" in caught.value.hint


@pytest.mark.parametrize(
    ("code", "said", "patience"),
    [
        (socket.EAI_NONAME, "no such host is known here", 0.0),
        (socket.EAI_AGAIN, "there seems to be no network", 2.0),
    ],
)
def test_a_host_without_an_address_is_not_asked_for_long(server, code, said, patience):
    fetch(server.url)
    with pytest.MonkeyPatch.context() as patch:

        def resolve(*_args, **_more):
            raise socket.gaierror(code, "no")

        patch.setattr(socket, "getaddrinfo", resolve)
        with pytest.raises(StoreError, match=f"cannot resolve the host name; {said}") as caught:
            fetch("http://data.example.org/")
        assert caught.value.patience == pytest.approx(patience, abs=0.1)
        http.session().close()  # the connection that is kept
        with pytest.raises(StoreError, match="cannot resolve the host name") as caught:
            fetch(server.url)
        assert caught.value.patience is None, "it has answered before"


def test_the_patience_with_a_name_server_is_that_of_the_process(monkeypatch):
    def resolve(*_args, **_more):
        raise socket.gaierror(socket.EAI_AGAIN, "no")

    def patience():
        with pytest.raises(StoreError) as caught:
            fetch("http://patience.example.org/")
        return caught.value.patience

    now = 1000.0
    monkeypatch.setattr("pkgdata.stores.wire.time.monotonic", lambda: now)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = []
    for seconds in (0, 0.5, 1.0, 1.0, 20, 31):
        now += seconds
        found.append(patience())
    assert found == [2.0, 1.5, 0.5, 0.0, 0.0, 2.0]


def test_malformed_url_is_final():
    with pytest.raises(StoreError) as caught:
        fetch("http:///nowhere/")
    assert not caught.value.transient


def test_another_process_has_its_own_session(monkeypatch):
    first = http.session()
    assert http.session() is first
    monkeypatch.setattr(http.os, "getpid", lambda: 1)
    assert http.session() is not first


# -- redirects and logins ----------------------------------------------------------------------


def test_login_in_the_url_is_sent(server):
    assert fetch(server.url.replace("//", "//me:sesame@")) == CONTENT
    assert server.requests[0].headers["authorization"] == LOGIN


def test_login_is_dropped_when_a_redirect_leaves_the_host(server, elsewhere):
    server.script(NAME, faults.redirect(elsewhere.link(NAME)))
    assert fetch(server.url.replace("//", "//me:sesame@")) == CONTENT
    assert server.requests[0].headers["authorization"] == LOGIN
    assert "authorization" not in elsewhere.requests[0].headers


def test_login_is_kept_when_a_redirect_stays(server):
    server.contents["moved"] = CONTENT
    server.script(NAME, faults.redirect("/moved"))
    assert fetch(server.url.replace("//", "//me:sesame@")) == CONTENT
    assert server.requests[1].headers["authorization"] == LOGIN


def test_range_survives_a_redirect(server, elsewhere):
    server.script(NAME, faults.redirect(elsewhere.link(NAME), 307))
    assert fetch(server.url, start=1000) == CONTENT[1000:]
    assert elsewhere.requests[0].status == 206


def test_netrc_login_is_sent_to_its_host_alone(server, elsewhere, tmp_path):
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password sesame\n")
    netrc.chmod(0o600)
    server.script(NAME, faults.redirect(elsewhere.link(NAME)))
    assert fetch(server.url) == CONTENT
    assert server.requests[0].headers["authorization"] == LOGIN
    assert "authorization" not in elsewhere.requests[0].headers


def test_too_many_redirects_are_final(server):
    server.script(NAME, faults.forever(faults.redirect("/maps/dust%201.fits")))
    with pytest.raises(StoreError, match="too many redirects") as caught:
        fetch(server.url)
    assert not caught.value.transient


def test_redirect_to_a_local_file_is_refused(server, tmp_path):
    (tmp_path / "secret").write_bytes(CONTENT)
    server.script(NAME, faults.redirect((tmp_path / "secret").as_uri()))
    with pytest.raises(StoreError):
        fetch(server.url)


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority; its certificate's path and a server's TLS context."""
    made = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    made.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(context)
    return str(path), context


@pytest.fixture
def secure(authority):
    with FaultServer({NAME: CONTENT}, tls=authority[1]) as found:
        yield found


def test_unknown_certificate_is_refused(secure):
    with pytest.raises(StoreError, match="certificate") as caught:
        fetch(secure.url)
    assert not caught.value.transient
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint
    assert secure.settled() == []


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificate_of_the_environment_is_trusted(secure, authority, monkeypatch, variable):
    monkeypatch.setenv(variable, authority[0])
    assert fetch(secure.url) == CONTENT


def test_certificates_in_a_folder_of_the_environment_are_trusted(secure, authority, monkeypatch):
    folder = os.path.join(os.path.dirname(authority[0]), "hashed")
    os.makedirs(folder, exist_ok=True)
    shutil.copy(authority[0], folder)
    subprocess.run(["openssl", "rehash", folder], check=True)
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([folder + "-absent", folder]))
    assert fetch(secure.url) == CONTENT


def test_requests_own_variable_comes_before_openssl_s(secure, authority, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority[0])
    assert fetch(secure.url) == CONTENT


def test_certificate_for_another_host_is_refused(authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority[0])
    with (
        FaultServer({NAME: CONTENT}, host="localhost", tls=authority[1]) as server,
        pytest.raises(StoreError, match="localhost"),
    ):
        fetch(server.url)


def test_missing_ca_bundle_is_reported(secure, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(StoreError, match=r"none\.pem") as caught:
        fetch(secure.url)
    assert secure.requests == []
    assert not caught.value.transient


def test_https_never_falls_to_http(secure, server, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority[0])
    secure.script(NAME, faults.redirect(server.link(NAME) + "?token=sesame"))
    with pytest.raises(StoreError, match="redirects from https to http") as caught:
        fetch(secure.url)
    assert not caught.value.transient
    assert "sesame" not in str(caught.value)
    assert server.requests == []
    gc.collect()  # a connection left open would warn now


def test_http_may_rise_to_https(secure, server, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", authority[0])
    server.script(NAME, faults.redirect(secure.link(NAME)))
    assert fetch(server.url) == CONTENT
    assert len(secure.requests) == 1


# -- proxies -----------------------------------------------------------------------------------


def test_proxy_of_the_environment_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:sesame@"))
    server.contents[f"files/{NAME}"] = CONTENT
    assert fetch("http://data.example.org/files/") == CONTENT
    (request,) = server.settled()
    assert request.target == "http://data.example.org/files/maps/dust%201.fits"
    assert request.headers["proxy-authorization"] == LOGIN
    assert "authorization" not in request.headers


def test_no_proxy_is_obeyed(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch(server.url) == CONTENT


def test_broken_proxy_is_named_without_its_login(monkeypatch):
    with FaultServer({}) as gone:
        monkeypatch.setenv("http_proxy", gone.url.replace("//", "//me:sesame@"))
    with pytest.raises(StoreError, match="HTTP_PROXY") as caught:
        fetch("http://data.example.org/")
    assert caught.value.transient
    assert "sesame" not in str(caught.value)
