"""What a web server is sent: names, logins of netrc, configured headers, and who says so."""

from __future__ import annotations

import hashlib
import json
import os
from urllib.parse import unquote_plus, urlsplit

import faults
import pytest
from faults import FaultServer, Reply

import pkgdata
from pkgdata.base import config
from pkgdata.errors import AccessDeniedError, AllMirrorsFailedError, ConfigError, StoreError
from pkgdata.stores import http, open_store

NAME = "a.fits"
CONTENT = b"content"
SECRET = "Bearer sesame"


@pytest.fixture(autouse=True)
def own_sessions(monkeypatch):
    names = ("NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    for name in (*names, "ALL_PROXY", "all_proxy", "PKGDATA_HEADERS"):
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


def fetch(url, name=NAME):
    return open_store(url).get(name)


def get(url, name=NAME, **more):
    data = pkgdata.declare("asked", dataurl=url, registry={name: None}, retries=0, **more)
    with open(data.get(name), "rb") as file:
        return file.read()


def netrc(text, mode="w"):
    path = os.path.expanduser("~/.netrc")
    with open(path, mode) as file:
        file.write(text)
    os.chmod(path, 0o600)
    return path


# -- names -------------------------------------------------------------------------------------

ODD = ["a+b.fits", "a b.fits", "50%.fits", "a#b.fits", "q?x=1&y.fits", "a;b.fits", "ü☃.fits"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("decode", [unquote_plus, None], ids=["S3", "plain"])
def test_any_name_and_version_reaches_a_server_that_takes_plus_for_a_blank(server, name, decode):
    wanted = f"v1.0+g12 ä/{name}"

    def serve(_, request):
        path = urlsplit(request.target).path
        found = decode(path).lstrip("/") if decode else request.path
        return Reply(200 if found == wanted else 404, CONTENT)

    server.script(wanted, faults.forever(serve))
    assert get(server.url + "v{version}/", name, version="1.0+g12 ä") == CONTENT


# -- netrc -------------------------------------------------------------------------------------


def only_without_login(server, request):
    if "authorization" in request.headers:
        return Reply(401, b"Bad credentials")
    return Reply(200, CONTENT)


@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default"])
def test_a_stale_netrc_does_not_hide_a_public_file(server, entry):
    netrc(f"{entry} login me password expired\n")
    server.script(NAME, faults.forever(only_without_login))
    assert get(server.url) == CONTENT
    assert [request.status for request in server.requests] == [401, 200]


@pytest.mark.parametrize("code", [401, 403])
@pytest.mark.parametrize("entry", ["machine 127.0.0.1", "default"])
def test_a_login_that_was_in_vain_is_named_without_its_password(server, entry, code):
    path = netrc(f"{entry} login me password sesame\n")
    server.script(NAME, faults.forever(faults.status(code)))
    with pytest.raises(AccessDeniedError, match=f"the entry '{entry}' of") as caught:
        fetch(server.url)
    assert path in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert len(server.requests) == 2


def test_a_netrc_that_cannot_be_read_is_named_when_a_login_is_missing(server):
    path = netrc(b"machine h\xff login x password y\n", "wb")
    assert fetch(server.url) == CONTENT
    server.script(NAME, faults.status(401))
    with pytest.raises(AccessDeniedError, match="no UTF-8") as caught:
        fetch(server.url)
    assert path in str(caught.value)


def test_a_login_in_the_url_comes_before_netrc(server):
    netrc("default login me password other\n")
    assert fetch(server.url.replace("//", "//you:p%40ss@")) == CONTENT
    assert server.requests[0].headers["authorization"] == http._basic("you", "p@ss")


# -- headers of the configuration --------------------------------------------------------------


@pytest.fixture
def secret(server, monkeypatch):
    """A header for the server of the tests alone."""
    monkeypatch.setenv(
        "PKGDATA_HEADERS", json.dumps({server.url: {"authorization": SECRET, "X-Team": "maps"}})
    )


def test_configured_headers_are_sent_by_every_client(server, secret):
    files = {f"{i}.bin": b"%d" % i for i in range(40)}
    server.contents.update(files)
    assert fetch(server.url) == CONTENT
    pkgdata.download_file(server.url + NAME)
    registry = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    pkgdata.declare("many", dataurl=server.url, registry=registry).fetch()
    assert len(server.requests) == 42
    for request in server.requests:
        assert request.headers["authorization"] == SECRET
        assert request.headers["x-team"] == "maps"


def test_configured_headers_never_go_to_another_host(server, elsewhere, secret):
    server.script(NAME, faults.forever(faults.redirect(elsewhere.link(NAME))))
    assert fetch(server.url) == CONTENT
    pkgdata.download_file(server.url + NAME)
    assert len(elsewhere.requests) == 2
    for request in elsewhere.requests:
        assert not {"authorization", "x-team"} & set(request.headers)


@pytest.mark.parametrize(
    ("prefix", "path", "sent"),
    [
        ("https://h/private", "/private", True),
        ("https://h/private", "/private/a", True),
        ("https://h/private", "/private2", False),
        ("https://h/private/", "/private/a", True),
        ("https://h/private/", "/private/../a", False),
        ("https://h/private/", "/private/%2E%2e/a", False),
        ("https://h/", "/a", True),
        ("https://h", "/a", True),
        ("https://h:443", "/a", True),
        ("https://H", "/a", True),
        ("http://h", "/a", False),
        ("https://h:444", "/a", False),
        ("https://other", "/a", False),
    ],
)
def test_a_prefix_covers_what_is_below_it(prefix, path, sent):
    from pkgdata.base.urls import headers_for

    found = headers_for(f"https://h{path}", {prefix: {"A": "1"}})
    assert found == ({"A": "1"} if sent else {})


def test_the_longest_prefix_wins_and_others_add():
    from pkgdata.base.urls import headers_for

    rules = {"https://h/a/b/": {"A": "2"}, "https://h/": {"A": "1", "B": "1"}}
    assert headers_for("https://h/a/b/c", rules) == {"A": "2", "B": "1"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"https://h/": {"Authorization": "sesame\r\nX: 1"}},
        {"https://h/": {"Authorization": 1}},
        {"https://h/": {"Range": "sesame"}},
        {"https://h/": {"a:b": "sesame"}},
        {"ftp://h/": {"A": "sesame"}},
        {"https://me:sesame@h/": {"A": "1"}},
        {"https://h/": "sesame"},
    ],
)
def test_wrong_headers_are_refused_and_no_error_shows_a_value(monkeypatch, wrong):
    monkeypatch.setenv("PKGDATA_HEADERS", json.dumps(wrong))
    with pytest.raises(ConfigError, match="headers") as caught:
        _ = pkgdata.conf.headers
    assert "sesame" not in str(caught.value)


def test_headers_of_a_file_are_shown_by_their_names_alone(monkeypatch, tmp_path, capsys):
    file = tmp_path / "config.toml"
    file.write_text(f'[headers."https://h/x/"]\nAuthorization = "{SECRET}"\n')
    monkeypatch.setenv("PKGDATA_CONFIG", str(file))
    assert pkgdata.conf.headers == {"https://h/x/": {"Authorization": SECRET}}
    from pkgdata.cli import main

    for command in (["config"], ["config", "headers"], ["config", "--json"]):
        main(command)
    said = capsys.readouterr().out
    assert said.count("Authorization") == 3
    assert "sesame" not in said


# -- the agent ---------------------------------------------------------------------------------


def test_the_agent_is_ours_and_can_be_set(server):
    fetch(server.url)
    agent = server.requests[-1].headers["user-agent"]
    assert agent.startswith(f"pkgdata/{pkgdata.__version__} (+https://")
    assert "python-requests" not in agent
    with pkgdata.conf.set_temp("user_agent", "survey/3 (mailto:me@example.org)"):
        fetch(server.url)
    assert server.requests[-1].headers["user-agent"] == "survey/3 (mailto:me@example.org)"
    for wrong in ("two\nlines", "ü"):
        with pytest.raises(ConfigError, match="user_agent"):
            pkgdata.conf.user_agent = wrong
    assert config.FIELDS["user_agent"].default is None


# -- the environment ---------------------------------------------------------------------------

VARIABLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("client", [fetch, get, "download_file"])
def test_certificates_that_are_not_there_are_named(monkeypatch, tmp_path, variable, client):
    monkeypatch.setenv(variable, str(tmp_path / "absent"))
    with pytest.raises((StoreError, AllMirrorsFailedError, OSError)) as caught:
        if client == "download_file":
            pkgdata.download_file("https://localhost:1/a")
        else:
            client("https://localhost:1/")
    said = str(caught.value)
    assert f"{variable}={tmp_path / 'absent'}" in said
    assert "try again" not in said
    assert not getattr(caught.value, "transient", False)


def test_certificates_that_are_not_there_matter_only_to_https(server, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent"))
    assert fetch(server.url) == CONTENT


def test_a_socks_proxy_without_its_library_is_named(server, monkeypatch):
    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", no_socks)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(AllMirrorsFailedError, match=r"requests\[socks\]") as caught:
        get(server.url)
    assert "try again" not in str(caught.value)


def no_socks(*_, **__):
    from requests.exceptions import InvalidSchema

    raise InvalidSchema("Missing dependencies for SOCKS support.")
