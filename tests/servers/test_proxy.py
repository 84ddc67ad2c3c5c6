"""Each fault of the proxy, seen from both of its sides."""

from __future__ import annotations

import http.client
import threading

import pytest
from faults import FaultServer, chunked, forever, http10

from servers.gcs import Gcs
from servers.proxy import (
    Proxy,
    answer,
    cut,
    delay,
    every,
    hang_up,
    lose_reply,
    reset,
    reset_request,
    s3_error,
    stall,
    tamper_reply,
    tamper_request,
    through,
)
from servers.signing import ask

pytestmark = pytest.mark.slow

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def gcs():
    with Gcs(check_tokens=False) as server:
        server.make_bucket("bucket")
        yield server


@pytest.fixture
def proxy(gcs):
    with Proxy(gcs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def url(proxy):
    return f"{proxy.url}/bucket/a"


@pytest.fixture
def blobs(gcs):
    return gcs.buckets["bucket"].blobs


@pytest.fixture
def stored(gcs, blobs):
    """An object that the proxy has not seen."""
    assert ask("PUT", f"{gcs.endpoint}/bucket/a", body=CONTENT).status == 200
    return blobs["a"]


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 0xFF
    return bytes(changed)


def test_nothing_changes_on_the_way(gcs, proxy, url, blobs):
    put = ask("PUT", url, {"Content-Type": "image/png"}, CONTENT)
    got = ask("GET", url, {"Range": "bytes=5-9"})
    assert (put.status, blobs["a"].content == CONTENT) == (200, True)
    assert (got.status, got.body, got.headers["content-type"]) == (206, CONTENT[5:10], "image/png")
    head = ask("HEAD", url)
    assert (head.status, head.headers["content-length"]) == (200, str(len(CONTENT)))
    assert ask("DELETE", url).status == 204
    assert [(seen.method, seen.path, seen.status) for seen in proxy.requests] == [
        ("PUT", "/bucket/a", 200), ("GET", "/bucket/a", 206), ("HEAD", "/bucket/a", 200),
        ("DELETE", "/bucket/a", 204),
    ]  # fmt: skip
    assert [(seen.received, seen.sent) for seen in proxy.requests[:2]] == [
        (len(CONTENT), 0),
        (0, 5),
    ]
    hosts = {request.headers["host"] for request in gcs.requests}
    assert hosts == {f"127.0.0.1:{proxy.port}"}, "as the client sent it: signatures cover it"


def test_connections_are_kept(proxy, stored):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    proxy.script(through(), answer(503), through())
    found = []
    for _ in range(4):
        connection.request("GET", "/bucket/a")
        reply = connection.getresponse()
        found.append((reply.status, reply.read() == CONTENT))
    connection.close()
    assert found == [(200, True), (503, False), (200, True), (200, True)]
    assert (proxy.connections, len(proxy.requests)) == (1, 4)


def test_chunks_both_ways():
    with FaultServer({"a": CONTENT}) as behind, Proxy(behind.url) as proxy:
        behind.script("a", forever(chunked()))
        proxy.script(through(), tamper_reply(100_000), reset(100_000))
        assert ask("GET", f"{proxy.url}a").body == CONTENT
        assert ask("GET", f"{proxy.url}a").body == flipped(CONTENT, 100_000)
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            ask("GET", f"{proxy.url}a")


def test_chunks_of_a_request_arrive_as_chunks(gcs, proxy, url):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    connection.request("PUT", "/bucket/a", body=iter([b"one", b"two"]), encode_chunked=True)
    assert connection.getresponse().status == 411, "the server behind wants a length"
    connection.close()
    assert proxy.requests[0].received == 6


def test_a_body_that_ends_with_the_connection():
    with FaultServer({"a": CONTENT}) as behind, Proxy(behind.url) as proxy:
        behind.script("a", forever(http10()))
        for _ in range(2):
            assert ask("GET", f"{proxy.url}a").body == CONTENT


def test_expectations_are_met(proxy, url, blobs):
    assert ask("PUT", url, {"Expect": "100-continue"}, CONTENT).status == 200
    assert blobs["a"].content == CONTENT


@pytest.mark.parametrize("at", [0, 70_000, -1])
def test_tampered_request(proxy, url, blobs, at):
    proxy.script(tamper_request(at))
    assert ask("PUT", url, body=CONTENT).status == 200
    assert blobs["a"].content == flipped(CONTENT, at)


@pytest.mark.parametrize("at", [0, 70_000, -1])
def test_tampered_reply(proxy, url, stored, at):
    proxy.script(tamper_reply(at))
    reply = ask("GET", url)
    assert (reply.body, reply.headers["etag"]) == (flipped(CONTENT, at), stored.etag)
    assert ask("GET", url).body == CONTENT


@pytest.mark.parametrize("at", [0, 70_000])
def test_reset(proxy, url, stored, at):
    proxy.script(reset(at))
    # the reset may overtake the bytes before it
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        ask("GET", url)
    assert [(seen.status, seen.sent) for seen in proxy.requests] == [(200, at)]


@pytest.mark.parametrize("at", [0, 70_000, -1])
def test_cut(proxy, url, stored, at):
    proxy.script(cut(at))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask("GET", url)
    assert len(caught.value.partial) == at % len(CONTENT)


def test_stall(proxy, url, stored):
    proxy.script(stall(70_000))
    found = []
    client = threading.Thread(target=lambda: found.append(ask("GET", url)))
    client.start()
    proxy.wait_for_stall()
    assert (found, proxy.requests[0].sent) == ([], 70_000)
    proxy.release()
    client.join()
    assert found[0].body == CONTENT


def test_a_stall_ends_with_the_proxy(gcs, stored):
    broken = []

    def client():
        try:
            ask("GET", f"{proxy.url}/bucket/a")
        except (OSError, http.client.HTTPException) as error:
            broken.append(error)

    with Proxy(gcs.endpoint) as proxy:
        proxy.script(stall(10))
        thread = threading.Thread(target=client)
        thread.start()
        proxy.wait_for_stall()
        assert broken == []
    thread.join(30)
    assert not thread.is_alive(), "the client still waits"


@pytest.mark.parametrize("at", [0, 70_000])
def test_reset_request(proxy, url, blobs, at):
    proxy.script(reset_request(at))
    with pytest.raises(OSError):
        ask("PUT", url, body=CONTENT * 20)
    assert (proxy.requests[0].received, proxy.requests[0].status) == (at, 0)
    assert ask("PUT", url, body=b"again").status == 200
    assert blobs["a"].content == b"again"


def test_lost_reply(proxy, url, blobs):
    proxy.script(lose_reply())
    with pytest.raises((OSError, http.client.HTTPException)):
        ask("PUT", url, body=CONTENT)
    assert blobs["a"].content == CONTENT, "the server has done it"
    assert proxy.requests[0].status == 0


def test_answers_of_its_own(gcs, proxy, url):
    proxy.script(
        answer(429, b"slowly", {"Retry-After": "3"}), s3_error(400, "ExpiredToken"), hang_up()
    )
    first = ask("PUT", url, body=CONTENT)
    assert (first.status, first.headers["retry-after"], first.body) == (429, "3", b"slowly")
    second = ask("GET", url)
    assert (second.status, b"<Code>ExpiredToken</Code>" in second.body) == (400, True)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask("GET", url)
    assert gcs.requests == []
    assert [seen.status for seen in proxy.requests] == [429, 400, 0]


def test_which_requests_are_met(proxy, url, stored):
    proxy.script(through(), answer(500), method="GET")
    proxy.script(every(answer(503)), path="/bucket/", method="HEAD")
    proxy.script(every(answer(500)), path="/elsewhere/")
    assert [ask("GET", url).status for _ in range(3)] == [200, 500, 200]
    assert [ask("HEAD", url).status for _ in range(3)] == [503, 503, 503]
    proxy.heal()
    assert ask("HEAD", url).status == 200


def test_delay(proxy, url, stored, monkeypatch):
    waits = []
    monkeypatch.setattr(proxy.closing, "wait", waits.append)
    proxy.script(through(), delay(12.5))
    assert [ask("GET", url).status for _ in range(3)] == [200, 200, 200]
    assert waits == [12.5]


@pytest.mark.parametrize("fault", [tamper_reply(len(CONTENT)), cut(len(CONTENT) + 1)])
def test_a_fault_that_does_nothing_is_an_error(gcs, stored, fault):
    with pytest.raises(AssertionError, match="no byte"), Proxy(gcs.endpoint) as proxy:
        proxy.script(fault)
        try:
            ask("GET", f"{proxy.url}/bucket/a")
        except (OSError, http.client.HTTPException):
            pass  # the client may or may not notice; the test has to


def test_a_server_that_is_not_there():
    with Gcs() as gone:
        pass
    with Proxy(gone.endpoint) as proxy, pytest.raises((OSError, http.client.HTTPException)):
        ask("GET", f"{proxy.url}/bucket/a")
