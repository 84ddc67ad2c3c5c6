"""The client of the services' JSON interfaces, against real servers: redirects and waits."""

from __future__ import annotations

import ssl

import faults
import pytest
import trustme
from faults import FaultServer
from hosts import Sleeps

from pkgdata.errors import StoreError
from pkgdata.publish.rest import Rest
from pkgdata.stores import http

NAME = "api/records"
ANSWER = b'{"id": 1}'
TOKEN = "t0ken"


@pytest.fixture
def server():
    with FaultServer({NAME: ANSWER}) as found:
        yield found


@pytest.fixture
def secure(tmp_path, monkeypatch):
    """A server that speaks https, with a certificate that the client trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setattr(http, "_sessions", {})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer({NAME: ANSWER}, tls=context) as found:
        yield found
    for session in http._sessions.values():
        session.close()


def client(server, **options):
    return Rest("Service", server.url, scheme="Bearer", secret=lambda: TOKEN, rights="", **options)


# -- redirects ---------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["", "second"], ids=["at once", "after another"])
@pytest.mark.parametrize("reading", [False, True], ids=["json", "file"])
def test_a_redirect_from_https_to_http_is_refused(secure, server, through, reading):
    target = f"{server.link(NAME)}?key=sesame"
    if through:
        secure.script(NAME, faults.redirect(secure.link(through)))
    secure.script(through or NAME, faults.redirect(target))
    rest = client(secure)
    with pytest.raises(StoreError, match="redirects from https to http://") as caught:
        list(rest.read(NAME)) if reading else rest.json("GET", NAME)
    assert not caught.value.transient
    assert "sesame" not in str(caught.value)
    assert server.requests == [], "nothing is asked where anybody could listen"


def test_a_redirect_from_https_to_https_is_followed(secure):
    secure.script("moved", faults.redirect(secure.link(NAME)))
    assert client(secure).json("GET", "moved") == {"id": 1}


def test_a_redirect_from_http_to_https_is_followed_without_the_token(server, secure):
    server.script(NAME, faults.redirect(secure.link(NAME)))
    assert client(server).json("GET", NAME) == {"id": 1}
    (first,), (second,) = server.requests, secure.requests
    assert first.headers["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in second.headers


# -- waits -------------------------------------------------------------------------------------


def ask(server, *refusals):
    """Ask a server that refuses at first; return the answer, or the error, and the waits."""
    server.script(NAME, *refusals)
    sleeps = Sleeps()
    rest = client(server, sleep=sleeps, now=lambda: sum(sleeps))
    try:
        return rest.json("GET", NAME), sleeps
    except StoreError as error:
        return error, sleeps


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_is_waited_for_a_quarter_of_an_hour_and_no_longer(server, status):
    answer, sleeps = ask(server, faults.status(status, retry_after=900))
    assert answer == {"id": 1}
    assert sleeps[0] == 900
    error, sleeps = ask(server, faults.status(status, retry_after=901))
    assert isinstance(error, StoreError)
    assert error.retry_after == 901
    assert sleeps == []


def test_the_waits_of_one_request_count_together(server):
    error, sleeps = ask(server, *[faults.status(429, retry_after=400)] * 3)
    assert isinstance(error, StoreError)
    assert sleeps == [400, 400]
    assert "the rate limit ends in 400 s" in str(error)


def test_a_request_is_tried_six_times_after_waits_of_half_a_minute_at_most(server):
    error, sleeps = ask(server, *[faults.status(503)] * 6)
    assert isinstance(error, StoreError)
    assert len(sleeps) == 5
    assert all(0.5 <= wait <= 30 for wait in sleeps)


@pytest.mark.parametrize("words", [40, 1000])
def test_the_reason_of_a_refusal_is_not_cut_in_the_middle_of_a_word(server, words):
    reason = " ".join(f"word{i}end" for i in range(words))
    error, _ = ask(server, faults.status(422, reason.encode()))
    shown = str(error).partition("422, ")[2].partition("\n")[0]
    assert shown == reason if words == 40 else shown.endswith("end …")
