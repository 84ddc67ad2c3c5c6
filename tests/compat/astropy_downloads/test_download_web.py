"""`download_file`: headers, settings, certificates and FTP."""

from __future__ import annotations

import ssl
from urllib.error import ContentTooShortError, URLError

import pytest
import trustme
from downloads import CONTENT, read
from faults import FaultServer
from ftpserver import FtpServer

import pkgdata
from pkgdata.base.config import conf
from pkgdata.compat.astropy import download
from pkgdata.compat.astropy.download import (
    download_file,
)

# -- headers, settings, rewrites -------------------------------------------------------------


def test_headers(server, monkeypatch, tmp_path):
    (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login me password other\n")
    wanted = {"Authorization": "Bearer mine", "X-Mine": "1", "accept-encoding": "gzip"}
    download_file(server.url + "a.dat", http_headers=wanted)
    sent = server.requests[-1].headers
    assert sent["authorization"] == "Bearer mine"
    assert sent["x-mine"] == "1"
    assert sent["accept-encoding"] == "identity"
    with conf.set_temp("default_http_user_agent", "mine"):
        download_file(server.url + "a.dat")
    sent = server.requests[-1].headers
    assert sent["user-agent"].startswith("mine ")
    assert sent["accept"] == "*/*"
    assert sent["authorization"].startswith("Basic ")  # nobody said otherwise
    download_file(server.url + "a.dat", http_headers={"User-Agent": "this"})
    assert server.requests[-1].headers["user-agent"] == "this"


def test_rewrites_apply(server, monkeypatch):
    monkeypatch.setenv("PKGDATA_REWRITE", f"https://far.example.org/={server.url}")
    url = "https://far.example.org/a.dat"
    assert read(download_file(url, cache=True)) == CONTENT
    assert pkgdata.get_cached_urls() == [url]


def test_progress_is_reported(server, monkeypatch):
    seen = []
    monkeypatch.setattr(download, "_view", lambda show, files=0: seen.append)
    download_file(server.url + "a.dat", cache=True)
    assert {event.name for event in seen} == {server.url + "a.dat"}
    assert seen[0].state == "start"
    assert (seen[-1].state, seen[-1].done) == ("done", len(CONTENT))
    seen.clear()
    with pytest.raises(URLError):
        download_file(server.url + "none.dat", cache=True)
    assert seen[-1].state == "failed"


# -- TLS -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_server(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer({"a.dat": CONTENT}, tls=context) as found:
        yield found


def test_an_unknown_certificate_says_so(tls_server):
    with pytest.raises(URLError, match="Verification of TLS/SSL certificate") as caught:
        download_file(tls_server.url + "a.dat")
    assert "allow_insecure=True" in str(caught.value)
    assert tls_server.requests == []


def test_allow_insecure_warns_and_continues(tls_server):
    with pytest.warns(pkgdata.PkgdataWarning, match="Verification of TLS/SSL") as caught:
        path = download_file(tls_server.url + "a.dat", allow_insecure=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert read(path) == CONTENT


def test_ssl_context_names_whom_to_trust(tls_server, authority, tmp_path):
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    path = download_file(tls_server.url + "a.dat", ssl_context={"cafile": str(bundle)})
    assert read(path) == CONTENT
    for other in ({"cafile": None, "capath": "/does/not/exist"}, {}):
        with pytest.raises(URLError, match="Verification of TLS/SSL certificate"):
            download_file(tls_server.url + "a.dat", ssl_context=other)


def test_ssl_context_has_a_certificate_of_ours(authority, tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    authority.cert_pem.write_to_path(bundle)
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(own)
    with FaultServer({"a.dat": CONTENT}, tls=context) as server:
        trust = {"cafile": str(bundle)}
        wanted = trust | {"certfile": str(own)}
        assert read(download_file(server.url + "a.dat", ssl_context=wanted)) == CONTENT
        with pytest.raises(URLError):
            download_file(server.url + "a.dat", ssl_context=trust)
        with pytest.raises(ValueError, match="certfile"):
            download_file(server.url + "a.dat", ssl_context={"keyfile": str(own)})


# -- FTP -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [True, False])
def test_ftp(sizes):
    with FtpServer({"pub/a b.dat": CONTENT}, sizes=sizes) as server:
        path = download_file(server.url + "pub/a%20b.dat", cache=True)
        assert read(path) == CONTENT
        assert server.commands[0] == "USER anonymous"
        assert "AUTH TLS" not in server.commands
        with pytest.raises(URLError, match="no such file"):
            download_file(server.url + "pub/none.dat")


def test_ftp_over_tls_where_the_server_insists(authority, tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with FtpServer({"a.dat": CONTENT}, tls=context) as server:
        url = server.url.replace("//", "//me:secret%40word@") + "a.dat"
        path = download_file(url, ssl_context={"cafile": str(bundle)})
        assert read(path) == CONTENT
        secure = server.commands[server.commands.index("AUTH TLS") :]
        assert "PASS secret@word" in secure
        assert "PROT P" in secure
        assert "PASS secret@word" not in server.commands[: -len(secure)]
        with pytest.raises(URLError, match="certificate"):
            download_file(url)


def test_ftp_failures(monkeypatch):
    with FtpServer({"a.dat": CONTENT}, short=1) as server:
        with pytest.raises(ContentTooShortError, match="9999 of 10000"):
            download_file(server.url + "a.dat")
        with pytest.raises(URLError):
            download_file(server.url + "a%0D%0ADELE.dat")
        assert not any("DELE" in command for command in server.commands)
    with pytest.raises(URLError):
        download_file("ftp://127.0.0.1:1/a.dat")
