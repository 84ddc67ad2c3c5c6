"""The server for authors of packages: `pkgdata.testing`, and that pkgdata copes with its faults.

Only what others rely on is tested here; the tests of transfers use every fault.
"""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request

import pytest

import pkgdata
from pkgdata.cache.objects import OBJECTS
from pkgdata.testing import FaultServer, Reply, ServedFolder, ci_key, faults

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def server():
    with FaultServer({"a b.bin": CONTENT, "other.bin": b"other"}) as found:
        yield found


def fetch(url, **headers):
    """Return status, body and headers of a request by Python's own client."""
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def statuses(server):
    return [request.status for request in server.settled()]


# -- health ----------------------------------------------------------------------------------


def test_contents_are_served(server):
    status, body, headers = fetch(server.link("a b.bin"))
    assert (status, body) == (200, CONTENT)
    assert headers["ETag"] == server.etag("a b.bin")
    assert fetch(server.url + "nothing")[0] == 404
    (first, second) = server.settled()
    assert (first.path, first.sent) == ("a b.bin", len(CONTENT))
    assert second.path == "nothing"


def test_ranges_are_served(server):
    url = server.link("a b.bin")
    status, body, headers = fetch(url, Range="bytes=10-19")
    assert (status, body) == (206, CONTENT[10:20])
    assert headers["Content-Range"] == f"bytes 10-19/{len(CONTENT)}"
    assert fetch(url, Range="bytes=10-19", **{"If-Range": '"old"'})[0] == 200
    assert fetch(url, Range=f"bytes={len(CONTENT)}-")[0] == 416


def test_a_folder_is_served_and_written_through(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "one.txt").write_bytes(b"one")
    (tmp_path / "outside.txt").write_bytes(b"secret")
    with FaultServer({}) as server:
        server.serve(tmp_path / "sub")
        assert fetch(server.url + "one.txt")[1] == b"one"
        assert fetch(server.url + "../outside.txt")[0] == 404
        assert fetch(server.url + "%2e%2e/outside.txt")[0] == 404
        server.contents["deeper/two.txt"] = b"two"
        assert (tmp_path / "sub" / "deeper" / "two.txt").read_bytes() == b"two"
        assert sorted(server.contents) == ["deeper/two.txt", "one.txt"]
        assert len(server.contents) == 2
        del server.contents["one.txt"]
        assert fetch(server.url + "one.txt")[0] == 404
        with pytest.raises(KeyError):
            server.contents["../new.txt"] = b"new"
    assert not (tmp_path / "new.txt").exists()


def test_the_registry_of_what_is_served(server):
    data = pkgdata.declare("mine", dataurl=server.url, registry=server.registry(), retries=0)
    assert list(data.registry) == ["a b.bin", "other.bin"]
    with data.open("a b.bin") as file:
        assert file.read() == CONTENT


# -- faults ----------------------------------------------------------------------------------


def test_each_request_uses_up_one_fault(server):
    server.script("other.bin", 500, faults.status(429, retry_after=7), faults.healthy())
    url = server.url + "other.bin"
    assert fetch(url)[0] == 500
    status, _, headers = fetch(url)
    assert (status, headers["Retry-After"]) == (429, "7")
    assert [fetch(url)[:2] for _ in range(2)] == [(200, b"other")] * 2
    assert fetch(server.link("a b.bin"))[0] == 200


def test_a_fault_may_last(server):
    server.script("other.bin", 503, faults.forever(faults.status(404)))
    assert [fetch(server.url + "other.bin")[0] for _ in range(4)] == [503, 404, 404, 404]
    server.script("other.bin")
    assert fetch(server.url + "other.bin")[0] == 200


@pytest.mark.parametrize(("at", "sent"), [(0, 0), (1000, 1000), (-1, len(CONTENT) - 1)])
def test_cut(server, at, sent):
    server.script("a b.bin", faults.cut(at))
    with pytest.raises(http.client.IncompleteRead) as caught:
        fetch(server.link("a b.bin"))
    assert caught.value.partial == CONTENT[:sent]
    assert server.settled()[0].sent == sent


def test_a_connection_without_an_answer(server):
    server.script("other.bin", faults.hang_up())
    with pytest.raises(http.client.RemoteDisconnected):
        fetch(server.url + "other.bin")


def test_wrong_bytes_of_the_right_length(server):
    server.script("other.bin", faults.other_bytes())
    status, body, _ = fetch(server.url + "other.bin")
    assert (status, len(body), body == b"other") == (200, 5, False)


@pytest.mark.parametrize("by", [3, -3])
def test_wrong_length(server, by):
    server.script("other.bin", faults.wrong_length(by))
    if by > 0:
        with pytest.raises(http.client.IncompleteRead):
            fetch(server.url + "other.bin")
    else:
        assert fetch(server.url + "other.bin")[1] == b"ot"


def test_a_stalled_reply_waits_for_the_release(server):
    server.script("a b.bin", faults.stall(1000))
    found = []
    client = threading.Thread(target=lambda: found.append(fetch(server.link("a b.bin"))))
    client.start()
    assert server.stalled.wait(30)
    with pytest.raises(TimeoutError, match="still under way"):
        server.settled(timeout=0)
    assert server.requests[0].sent == 1000
    server.release()
    client.join(30)
    assert found[0][1] == CONTENT


def test_closing_ends_what_is_stalled():
    with FaultServer({"a": CONTENT}) as server:
        server.script("a", faults.stall(10))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/a")
        assert server.stalled.wait(30)
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=30).connect()


def test_slow_and_drip_send_all_of_it(server):
    server.script("a b.bin", faults.slow(0.001), faults.drip(-5, pause=0.001))
    assert [fetch(server.link("a b.bin"))[1] for _ in range(2)] == [CONTENT, CONTENT]


def test_a_fault_of_ones_own(server):
    def shy(server, request):
        if "authorization" in request.headers:
            return server.healthy(request)
        return Reply(401, b"who are you?", {"WWW-Authenticate": "Basic"})

    server.script("other.bin", faults.forever(shy))
    assert fetch(server.url + "other.bin")[:2] == (401, b"who are you?")
    assert fetch(server.url + "other.bin", Authorization="Basic eDp5")[0] == 200
    server.script("other.bin", faults.altered(headers={"X-Answer": "42"}))
    assert fetch(server.url + "other.bin")[2]["X-Answer"] == "42"


# -- pkgdata against it ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        ([500], [500, 200]),
        ([faults.cut(1000)], [200, 206]),
        ([faults.hang_up()], [0, 200]),
    ],
    ids=["500", "cut", "hang-up"],
)
def test_pkgdata_gets_the_file_in_the_end(server, spoil, seen, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)  # between two rounds over the mirrors
    server.script("a b.bin", *spoil)
    data = pkgdata.declare("mine", dataurl=server.url, registry=server.registry(), retries=1)
    with data.open("a b.bin") as file:
        assert file.read() == CONTENT
    assert statuses(server) == seen


def test_another_mirror_helps_against_wrong_bytes(server, tmp_path):
    (tmp_path / "a b.bin").write_bytes(CONTENT)
    server.script("a b.bin", faults.forever(faults.other_bytes()))
    with FaultServer(ServedFolder(tmp_path)) as good:
        urls = [server.url, good.url]
        data = pkgdata.declare("mine", dataurl=urls, registry=good.registry(), retries=0)
        with data.open("a b.bin") as file:
            assert file.read() == CONTENT
        assert statuses(good) == [200]


# -- keys ------------------------------------------------------------------------------------


def key_of(registry, name="keypkg"):
    pkgdata.declare(name, registry=registry)
    return ci_key(name)


def test_a_key_names_the_format_of_the_cache_and_the_package():
    # that it stays the same from release to release keeps people's CI caches warm
    key = key_of({"a": "md5:" + "0" * 32})
    assert key == f"pkgdata-{OBJECTS}-keypkg-9973db166811cc37948155a5ae2ed1d1"


def test_a_key_follows_names_and_digests_alone():
    one, two = "md5:" + "1" * 32, "md5:" + "2" * 32
    key = key_of({"a": one, "b": two})
    assert key == key_of({"b": two, "a": one})
    assert key == key_of(
        pkgdata.Registry.parse(f"#: size=3\nb {two} http://x.example/b\na {one}\n")
    )
    others = [{"a": one}, {"a": two, "b": two}, {"a": one, "c": two}, {"a": one, "b": None}]
    assert len({key, *map(key_of, others)}) == 5


def test_a_key_of_several_packages_does_not_depend_on_their_order():
    first, second = key_of({"a": None}, "keypkg1"), key_of({"a": None}, "keypkg2")
    both = ci_key("keypkg2", "keypkg1")
    assert both == ci_key("keypkg1", "keypkg2")
    assert both.startswith(f"pkgdata-{OBJECTS}-keypkg1-keypkg2-")
    assert len({first[-32:], second[-32:], both[-32:]}) == 3


@pytest.mark.parametrize(
    "name", ["FaultServer", "ServedFolder", "Reply", "Request", "ci_key", "faults"]
)
def test_public_names_are_documented(name):
    from pkgdata import testing

    assert name in testing.__all__
    assert getattr(testing, name).__doc__
