"""Answers that are no HTTP, or come too slowly: read strictly by every client."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time

import pytest
from requests.cookies import RequestsCookieJar

import pkgdata
from pkgdata.errors import IncompleteTransferError, PkgdataError, StoreError
from pkgdata.publish.rest import Rest
from pkgdata.stores import http, open_store, wire

CONTENT = b"content"
LENGTH = b"Content-Length: 7\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = OK + LENGTH + b"\r\n" + CONTENT


@pytest.fixture(autouse=True)
def own_sessions(monkeypatch):
    monkeypatch.setattr(http, "_sessions", {})
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.5)
    with (
        pkgdata.conf.set_temp("stall_seconds", 0.5),
        pkgdata.conf.set_temp("stall_bytes", 1000),
        pkgdata.conf.set_temp("retries", 0),
    ):
        yield
    for session in http._sessions.values():
        session.close()


@contextlib.contextmanager
def serving(*answers, then=()):
    """Send one answer to each connection, and drip the rest for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopped, asked = threading.Event(), []

    def serve(answer):
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                asked.append(connection.recv(1 << 16))
                connection.sendall(answer)
                while then and not stopped.wait(0.02):
                    connection.sendall(then)

    def run():
        for answer in answers:
            serve(answer)
        listener.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", asked
    finally:
        stopped.set()
        with contextlib.suppress(OSError):  # wakes the thread, which closes it
            listener.shutdown(socket.SHUT_RDWR)


def fetch(url):
    buffer = memoryview(bytearray(1 << 16))
    with open_store(url, timeout=5).open("a.bin") as body:
        return b"".join(iter(lambda: bytes(buffer[: body.readinto(buffer)]), b""))


@pytest.mark.parametrize(
    "answer",
    [
        WHOLE,
        b"HTTP/1.1 102 Processing\r\n\r\n" + WHOLE,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
        OK + b"X-Odd: a\r\n folded\r\n" + LENGTH + b"\r\n" + CONTENT,
        WHOLE.replace(b"\r\n", b"\n"),
        b"HTTP/1.0 200\r\n\r\n" + CONTENT,
        CHUNKED + b"7;a=b\r\ncontent\r\n0\r\nX-Trailer: yes\r\n\r\n",
        CHUNKED + b"3\r\ncon\r\n0004\r\ntent\r\n0\r\n\r\n",
    ],
)
def test_right_answers(answer):
    with serving(answer) as (url, _):
        assert fetch(url) == CONTENT


MALFORMED = [
    OK + b"Content-Length: -1\r\n\r\ncontent",
    OK + b"Content-Length: 0x7\r\n\r\ncontent",
    OK + b"Content-Length:\r\n\r\ncontent",
    OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\ncontent",
    OK + b"Content-Length: 7\r\nContent-Length: 6\r\n\r\ncontent",
    OK + b"no colon here\r\n" + LENGTH + b"\r\ncontent",
    OK + b" folded\r\n" + LENGTH + b"\r\ncontent",
    OK + b"X-Odd : 1\r\n" + LENGTH + b"\r\ncontent",
    OK + b"X-Odd: \x01\r\n" + LENGTH + b"\r\ncontent",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n7\r\ncontent\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: identity, chunked\r\n\r\n7\r\ncontent\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n7\r\ncontent\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: identity\r\n\r\ncontent",
    b"HTTP/2.0 200 OK\r\n" + LENGTH + b"\r\ncontent",
    b"ICY 200 OK\r\n" + LENGTH + b"\r\ncontent",
    b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20 + WHOLE,
    OK + b"X-Long: " + b"a" * (1 << 16) + b"\r\n\r\n",
    OK + b"X: 1\r\n" * (1 << 14) + b"\r\n",
]


@pytest.mark.parametrize("answer", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_head_is_an_error_of_that_source(answer):
    with serving(answer) as (url, _), pytest.raises((StoreError, IncompleteTransferError)):
        fetch(url)
    with serving(answer) as (bad, _), serving(WHOLE) as (good, _):
        registry = {"a.bin": hashlib.sha256(CONTENT).hexdigest()}
        data = pkgdata.declare("mirrored", dataurl=[bad, good], registry=registry)
        with open(data.get("a.bin"), "rb") as file:
            assert file.read() == CONTENT


@pytest.mark.parametrize(
    "body",
    [
        b"7\r\ncontent\r\n",
        b"7\r\ncontent\r\n0\r\n",
        b"7\r\ncontent\r\n0",
        b"7\r\nconte",
        b"7",
        b"7\r\ncontentXX0\r\n\r\n",
        b"-7\r\ncontent\r\n0\r\n\r\n",
        b"0x7\r\ncontent\r\n0\r\n\r\n",
        b"7 7\r\ncontent\r\n0\r\n\r\n",
        b"7_0\r\ncontent\r\n0\r\n\r\n",
        b"\r\ncontent",
        b"7;" + b"a" * 5000 + b"\r\ncontent\r\n0\r\n\r\n",
        b"7\r\ncontent\r\n0\r\n" + b"A: 1\r\n" * 20000 + b"\r\n",
    ],
)
def test_chunks_without_their_proper_end_are_never_whole(body):
    with serving(CHUNKED + body) as (url, _), pytest.raises(IncompleteTransferError):
        fetch(url)


def test_every_cut_of_a_chunked_answer_is_an_error():
    body = b"10\r\n" + b"x" * 16 + b"\r\n12\r\n" + b"y" * 18 + b"\r\n0\r\n\r\n"
    cuts = [CHUNKED + body[:end] for end in range(len(body))]
    with serving(*cuts) as (url, _):
        for _ in cuts:
            with pytest.raises(IncompleteTransferError):
                fetch(url)


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (b"HTTP/1.1 20", b"0"),
        (OK + b"X-Slow: ", b"a"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"[:1]),
        (CHUNKED, b"0"),
        (CHUNKED + b"7;", b"a"),
        (CHUNKED + b"7\r\ncontent\r\n0\r\nX: ", b"a"),
        (OK + b"Content-Length: 9999999\r\n\r\n", b"a"),
        (OK + b"\r\n", b"a"),
    ],
)
def test_one_byte_after_the_other_for_ever_is_a_timeout(answer, then):
    began = time.monotonic()
    with serving(answer, then=then) as (url, _):
        with pytest.raises(
            (StoreError, IncompleteTransferError), match=r"timed out|head"
        ) as caught:
            fetch(url)
        assert caught.value.transient
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    "target",
    [
        b"http://[::1/",
        b"//[",
        b"http://x:y@[/",
        b"ht\ttp://127.0.0.1/",
        b"\x01http://127.0.0.1/",
        b"\x0chttp://127.0.0.1/",
        b"\x1fhttp://127.0.0.1/",
        b"gopher://127.0.0.1/",
        b"http:///a",
        b"http://127.0.0.1:99999/",
    ],
)
@pytest.mark.parametrize("client", ["store", "download_file", "publish"])
def test_a_redirect_to_no_clean_address_is_refused(target, client):
    moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + target + b"\r\n\r\n"
    with serving(moved, moved) as (url, asked):
        with pytest.raises(PkgdataError):
            if client == "store":
                fetch(url)
            elif client == "publish":
                rest = Rest("Test", url, scheme="token", secret=str, rights="", sleep=len)
                rest.request("GET", "a", again=False)
            else:
                pkgdata.download_file(url + "a.bin")
        assert len(asked) <= 2


def test_the_body_of_a_redirect_is_not_read_for_ever():
    with serving(b"") as (elsewhere, _):
        pass
    moved = b"HTTP/1.1 302 Found\r\nLocation: " + elsewhere.encode() + b"\r\n\r\n"
    began = time.monotonic()
    with serving(moved, then=b"x" * (1 << 16)) as (url, _), pytest.raises(StoreError):
        fetch(url)
    assert time.monotonic() - began < 4


def test_cookies_are_kept_for_one_call_and_the_host_that_set_them():
    here = b"HTTP/1.1 302 Found\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\nLocation: /b\r\n"
    here += b"Connection: close\r\n\r\n"
    ending = WHOLE.replace(LENGTH, LENGTH + b"Connection: close\r\n")
    with serving(here, ending, ending) as (url, asked):
        assert fetch(url) == fetch(url) == CONTENT
        assert [b"a=1" in one for one in asked] == [False, True, False]
    assert len(http.session().cookies) == 0
    assert isinstance(http.session().cookies, RequestsCookieJar)


def test_lengths_of_thousands_of_digits_are_none():
    digits = "9" * 5000
    assert http.parse_content_range(f"bytes 0-4/{digits}") == (-1, -1, None)
