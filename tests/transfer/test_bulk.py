"""Many small objects over few connections: whatever comes, an object is right or refused."""

from __future__ import annotations

import gc
import os
import random
import socket
import ssl
import threading
from collections import deque

import faults
import pytest
import trustme
from faults import FaultServer, forever

from pkgdata.transfer.fetch import is_direct, plain_route
from pkgdata.transfer.sockets import Run, Server, parse_head

RANDOM = random.Random(7)
#: One empty object, and some that pass through a connection's buffer in several pieces.
CONTENTS = {f"f{i:02}": RANDOM.randbytes(i * 400) for i in range(40)}
CONTENTS["f33"] = RANDOM.randbytes(700_000)
BAD = "f20"


class Job:
    """An object that is collected in memory."""

    def __init__(self, name: str, most: int = 1 << 20) -> None:
        self.name = name
        self.target = f"/{name}"
        self.size = 0
        self.most = most
        self.content = b""
        self.abandoned = 0

    def begin(self, size: int) -> bool:
        self.size, self.content = size, b""
        return size <= self.most

    def feed(self, view: memoryview) -> None:
        self.content += bytes(view)

    def finish(self) -> bool:
        return self.content == CONTENTS[self.name]

    def abandon(self) -> None:
        self.abandoned += 1


class Outcome:
    """What became of all jobs of a run."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.queue = deque(jobs)
        self.done: list[str] = []

    def run(self, server: Server, width: int = 4, timeout: float = 20.0, stopped=lambda: False):
        Run(server, self.queue, width, timeout, self.keep, stopped).run()
        self.check()
        return self

    def keep(self, job: Job) -> None:
        assert job.content == CONTENTS[job.name]
        self.done.append(job.name)

    @property
    def refused(self) -> list[str]:
        return [job.name for job in self.jobs for _ in range(job.abandoned)]

    def check(self) -> None:
        """Each job came to exactly one end."""
        left = [job.name for job in self.queue]
        assert sorted(self.done + self.refused + left) == sorted(job.name for job in self.jobs)


def outcome(first: str = "f00") -> Outcome:
    return Outcome([Job(name) for name in sorted(CONTENTS, key=lambda name: (name != first, name))])


def reach(server: FaultServer, host: str = "127.0.0.1") -> Server:
    scheme = server.url.partition(":")[0]
    return Server(scheme, host, server.port, "tests")


@pytest.fixture(autouse=True)
def no_bundles(monkeypatch):
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with FaultServer(dict(CONTENTS)) as found:
        yield found


# -- a healthy server --------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 4, 100])
def test_all_come_over_few_connections(server, width):
    found = outcome().run(reach(server), width)
    assert sorted(found.done) == sorted(CONTENTS)
    assert server.connections <= min(width, len(CONTENTS))
    assert sorted(request.path for request in server.requests) == sorted(CONTENTS)


def test_requests_are_plain(server):
    outcome().run(Server("http", "127.0.0.1", server.port, "pkgdata/1 tests"), 1)
    for request in server.settled():
        assert request.method == "GET"
        assert request.headers == {
            "host": f"127.0.0.1:{server.port}",
            "user-agent": "pkgdata/1 tests",
            "accept-encoding": "identity",
        }


@pytest.mark.parametrize(
    ("scheme", "host", "port", "shown"),
    [
        ("http", "h.example", 80, b"h.example"),
        ("http", "h.example", 443, b"h.example:443"),
        ("https", "h.example", 443, b"h.example"),
        ("https", "h.example", 8443, b"h.example:8443"),
        ("http", "::1", 80, b"[::1]"),
        ("http", "::1", 8080, b"[::1]:8080"),
    ],
)
def test_the_host_is_named_as_in_the_url(scheme, host, port, shown):
    head = Server(scheme, host, port, "a").request("/x?y=1")
    assert head.startswith(b"GET /x?y=1 HTTP/1.1\r\nHost: " + shown + b"\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = outcome().run(Server("http", "127.0.0.1", port, "tests"))
    assert (found.done, found.refused, len(found.queue)) == ([], [], len(CONTENTS))


def test_a_server_that_is_never_heard_of_again():
    """It accepts connections into its backlog and answers none of them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = outcome().run(
            Server("http", "127.0.0.1", listener.getsockname()[1], "tests"), timeout=0.2
        )
    assert found.done == []
    assert len(found.refused) == 4


def test_two_runs_share_the_jobs(server):
    found = outcome()
    runs = [Run(reach(server), found.queue, 2, 20.0, found.keep, lambda: False) for _ in range(2)]
    threads = [threading.Thread(target=run.run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.check()
    assert sorted(found.done) == sorted(CONTENTS)
    assert sum(run.objects for run in runs) == len(CONTENTS)
    assert sum(run.bytes for run in runs) == sum(map(len, CONTENTS.values()))
    assert server.connections <= 4


def test_narrowing_ends_connections_and_loses_nothing(server):
    found = outcome()
    widths = []

    def keep(job: Job) -> None:
        found.keep(job)
        run.narrow(1)
        widths.append(len(run._open))

    run = Run(reach(server), found.queue, 8, 20.0, keep, lambda: False)
    run.run()
    found.check()
    assert sorted(found.done) == sorted(CONTENTS)
    assert widths[0] <= 8
    assert widths[-1] == 1


def test_stopping_ends_the_run_at_once(server):
    server.script("f05", forever(faults.stall_before_headers()))
    found = outcome()
    found.run(reach(server), width=1, stopped=server.stalled.is_set)
    assert found.done == ["f00", "f01", "f02", "f03", "f04"]
    assert found.refused == ["f05"]


def test_an_error_of_the_caller_ends_the_run_and_refuses_what_is_in_flight(server):
    found = outcome()

    def keep(job: Job) -> None:
        raise KeyboardInterrupt

    run = Run(reach(server), found.queue, 4, 20.0, keep, lambda: False)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert not run._open
    assert len(found.refused) + len(found.queue) == len(CONTENTS) - 1


# -- faults ------------------------------------------------------------------------------------

RIGHT, REFUSED, EITHER = "right", "refused", "either"


def headed(**headers: str) -> faults.Fault:
    """Answer well, with more headers."""

    def fault(server: FaultServer, request: faults.Request) -> faults.Reply:
        reply = server.healthy(request)
        reply.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return reply

    return fault


def closing() -> faults.Fault:
    def fault(server: FaultServer, request: faults.Request) -> faults.Reply:
        reply = headed(Connection="close")(server, request)
        reply.close_after = True
        return reply

    return fault


FAULTS = {
    "cut in headers": (faults.cut_in_headers(), REFUSED),
    "cut at first byte": (faults.cut(0), REFUSED),
    "cut mid-body": (faults.cut(3000), REFUSED),
    "one byte short": (faults.cut(-1), REFUSED),
    "reset mid-body": (faults.reset(3000), REFUSED),
    "reset before the body": (faults.reset(0), REFUSED),
    # a server may close a kept connection at any time, so on a used one it is asked again
    "hang up": (faults.hang_up(), EITHER),
    "stall": (faults.stall(3000), REFUSED),
    "stall, but for a byte now and then": (faults.drip(3000, 0.02), REFUSED),
    "stall before headers": (faults.stall_before_headers(), REFUSED),
    "drip": (faults.drip(-30, 0.001), RIGHT),
    "length too long": (faults.wrong_length(10), REFUSED),
    "length too short": (faults.wrong_length(-10), REFUSED),
    "206": (faults.status(206, CONTENTS[BAD]), REFUSED),
    "200 again": (faults.status(200, CONTENTS[BAD]), RIGHT),
    "201": (faults.status(201, CONTENTS[BAD]), REFUSED),
    "204": (faults.status(204), REFUSED),
    "304": (faults.status(304), REFUSED),
    "404": (faults.status(404, b"no"), REFUSED),
    "403": (faults.status(403, b"no"), REFUSED),
    "401": (faults.status(401, headers={"WWW-Authenticate": "Basic"}), REFUSED),
    "416": (faults.status(416, headers={"Content-Range": "bytes */8000"}), REFUSED),
    "429": (faults.status(429, b"slow down", retry_after=1), REFUSED),
    "500": (faults.status(500, CONTENTS[BAD]), REFUSED),
    "503": (faults.status(503, b"busy", retry_after=1), REFUSED),
    "chunked": (faults.chunked(), REFUSED),
    "chunked, cut": (faults.chunked(cut_at=3000), REFUSED),
    "gzip applied": (faults.compressed(), REFUSED),
    "coding named, not applied": (headed(Content_Encoding="gzip"), REFUSED),
    "identity named": (headed(content_encoding=" Identity"), RIGHT),
    "HTTP/1.0": (faults.http10(), REFUSED),
    "HTTP/1.0 with length": (faults.altered(version="HTTP/1.0"), REFUSED),
    "no length": (faults.altered(framing="close"), REFUSED),
    "redirect": (faults.redirect("/f21"), REFUSED),
    "permanent redirect": (faults.redirect("/f21", 308), REFUSED),
    "close after the reply": (faults.close_after(), RIGHT),
    "close is announced": (closing(), RIGHT),
    "close is announced, not done": (headed(Connection="close"), RIGHT),
    "other bytes": (faults.other_bytes(), REFUSED),
    "page": (faults.page(), REFUSED),
    "LFS pointer": (faults.lfs_pointer(), REFUSED),
    "empty": (faults.empty(), REFUSED),
    "other object": (faults.status(200, CONTENTS["f21"]), REFUSED),
    "long head": (headed(X_Long="x" * 40_000), EITHER),
    "longer than wanted": (faults.status(200, bytes((1 << 20) + 1)), REFUSED),
}


@pytest.mark.slow
@pytest.mark.parametrize("first", [BAD, "f00"], ids=["fresh connection", "used connection"])
@pytest.mark.parametrize("label", FAULTS)
def test_one_fault(server, label, first):
    fault, expected = FAULTS[label]
    server.script(BAD, fault)
    timeout = 0.3 if "stall" in label else 20.0
    found = outcome(first).run(reach(server), timeout=timeout)
    assert not found.queue
    if expected != EITHER:
        assert (BAD in found.done) == (expected == RIGHT)
    assert set(found.done) | {BAD} == set(CONTENTS), "all others came"


# a stall takes the timeout, and one such object is tested above
@pytest.mark.parametrize("label", [label for label in FAULTS if "stall" not in label])
def test_all_are_faulty(server, label):
    fault, expected = FAULTS[label]
    for name in CONTENTS:
        server.script(name, forever(fault))
    found = outcome(BAD).run(reach(server))
    assert BAD not in [job.name for job in found.queue]
    assert (BAD in found.done) <= (expected != REFUSED)


def test_a_server_that_closes_after_each_reply(server):
    for name in CONTENTS:
        server.script(name, faults.close_after())
    found = outcome().run(reach(server))
    assert sorted(found.done) == sorted(CONTENTS)


def test_a_server_that_takes_each_first_request_only(server):
    """It closes without a word when it is asked again, so each object costs a connection."""
    asked: set[str] = set()

    def fault(server: FaultServer, request: faults.Request) -> faults.Reply:
        thread = threading.current_thread()
        if thread.name in asked:
            return faults.Reply(0)
        asked.add(thread.name)
        thread.name = f"talked-{len(asked)}"
        asked.add(thread.name)
        asked.discard("faults-talk")
        return server.healthy(request)

    for name in CONTENTS:
        server.script(name, forever(fault))
    found = outcome().run(reach(server), width=2)
    assert sorted(found.done) == sorted(CONTENTS)


# -- bytes as they come ------------------------------------------------------------------------


class Scripted:
    """A server that answers the n-th request of its one connection by the n-th bytes."""

    def __init__(self, *replies: bytes, step: int = 1 << 20, hold: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._replies = replies
        self._step = step
        self._leave = threading.Event()
        if not hold:
            self._leave.set()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as lines:
            for reply in self._replies:
                while lines.readline().strip():
                    pass
                for at in range(0, len(reply), self._step):
                    connection.sendall(reply[at : at + self._step])
            self._leave.wait()

    def __enter__(self) -> Server:
        return Server("http", "127.0.0.1", self._listener.getsockname()[1], "tests")

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join()
        self._listener.close()


def reply(name: str, head: bytes = b"") -> bytes:
    content = CONTENTS[name]
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(content), content)


def some(*names: str) -> Outcome:
    return Outcome([Job(name) for name in names])


def test_heads_and_bodies_in_single_bytes():
    with Scripted(reply("f01"), reply("f00"), reply("f02"), step=1) as server:
        found = some("f01", "f00", "f02").run(server, width=1)
    assert found.done == ["f01", "f00", "f02"]


def test_bytes_that_nobody_asked_for():
    with Scripted(reply("f01") + reply("f02")) as server:
        found = some("f01", "f02").run(server, width=1)
    assert found.done == []
    assert found.refused == ["f01"]


def test_a_late_surplus_spoils_only_who_comes_next():
    with Scripted(reply("f00"), b"surplus" + reply("f01")) as server:
        found = some("f00", "f01").run(server, width=1)
    assert (found.done, found.refused) == (["f00"], ["f01"])


def test_a_head_that_does_not_end():
    """It is given up by its length, long before the time is up."""
    with Scripted(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 4000, hold=True) as server:
        found = some("f01").run(server, timeout=600)
    assert found.refused == ["f01"]


def test_an_informational_reply_first():
    with Scripted(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply("f01")) as server:
        found = some("f01").run(server, width=1)
    assert found.refused == ["f01"]


# -- certificates ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority):
    """Make HTTPS servers with a certificate for a name."""
    servers = []

    def start(name: str = "localhost") -> FaultServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        servers.append(FaultServer(dict(CONTENTS), host="localhost", tls=context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
    gc.collect()  # OpenSSL's objects for a failed handshake hold the socket a little longer


@pytest.fixture
def bundle(authority, tmp_path):
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_tls(secure, bundle, monkeypatch, variable):
    monkeypatch.setenv(variable, bundle)
    server = secure()
    found = outcome().run(reach(server, "localhost"))
    assert sorted(found.done) == sorted(CONTENTS)
    assert server.connections <= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "label", ["cut mid-body", "one byte short", "length too short", "close after the reply", "503"]
)
def test_faults_over_tls(secure, bundle, monkeypatch, label):
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    server = secure()
    fault, expected = FAULTS[label]
    server.script(BAD, fault)
    found = outcome().run(reach(server, "localhost"))
    assert (BAD in found.done) == (expected == RIGHT)
    assert set(found.done) | {BAD} == set(CONTENTS)


def test_unknown_authority(secure):
    server = secure()
    found = outcome().run(reach(server, "localhost"))
    assert found.done == []
    assert server.requests == []


def test_certificate_of_another_host(secure, bundle, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    server = secure("elsewhere.example")
    found = outcome().run(reach(server, "localhost"))
    assert found.done == []
    assert server.requests == []


def test_an_empty_folder_of_certificates_trusts_nobody(secure, tmp_path, monkeypatch):
    (tmp_path / "certificates").mkdir()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificates"))
    server = secure()
    assert outcome().run(reach(server, "localhost")).done == []
    assert server.requests == []


def test_a_plain_server_where_tls_is_expected(server, bundle, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    found = outcome().run(Server("https", "localhost", server.port, "tests"), timeout=0.5)
    assert found.done == []


# -- heads -------------------------------------------------------------------------------------


def head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


OK = "HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (head(OK, "Content-Length: 5"), (5, False)),
        (head("HTTP/1.1 200", "Content-Length: 5"), (5, False)),
        (head("HTTP/1.1 200 Fine by me", "content-length:0"), (0, False)),
        (head(OK, "CONTENT-LENGTH:   007  "), (7, False)),
        (head(OK, "Connection: close", "Content-Length: 5"), (5, True)),
        (head(OK, "Content-Length: 5", "connection: Close"), (5, True)),
        (head(OK, "Content-Length: 5", "Connection: keep-alive"), (5, False)),
        (head(OK, "Content-Encoding: identity", "Content-Length: 5"), (5, False)),
        (head(OK, "X-Content-Length: 9", "Content-Length: 5"), (5, False)),
        (head(OK, "X: content-length: 9", "Content-Length: 5"), (5, False)),
        (head(OK, f"Content-Length: {1 << 60}"), (1 << 60, False)),
    ],
)
def test_plain_heads(given, found):
    assert parse_head(given) == found


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"\r\n",
        b"HTTP/1.1 200",
        b"garbage\r\n",
        head(OK),
        head("HTTP/1.1 2000 OK", "Content-Length: 5"),
        head("HTTP/1.1 20 OK", "Content-Length: 5"),
        head("HTTP/1.1 206 Partial Content", "Content-Length: 5"),
        head("HTTP/1.1 404 Not Found", "Content-Length: 5"),
        head("HTTP/1.1  200 OK", "Content-Length: 5"),
        head("HTTP/1.0 200 OK", "Content-Length: 5"),
        head("HTTP/2 200 OK", "Content-Length: 5"),
        head("ICY 200 OK", "Content-Length: 5"),
        head(OK, "Content-Length: 5", "Content-Length: 5"),
        head(OK, "Content-Length: 5", "content-length: 6"),
        head(OK, "Content-Length: 5, 5"),
        head(OK, "Content-Length: -5"),
        head(OK, "Content-Length: +5"),
        head(OK, "Content-Length: 5.0"),
        head(OK, "Content-Length: 0x5"),
        head(OK, "Content-Length: 5 5"),
        head(OK, "Content-Length: 1_000"),
        head(OK, "Content-Length: ²"),
        head(OK, "Content-Length:"),
        head(OK, "Content-Length: " + "9" * 5000),
        head(OK, "Content-Length : 5"),
        head(OK, "Content-Length: 5", "Transfer-Encoding: chunked"),
        head(OK, "Transfer-Encoding: identity", "Content-Length: 5"),
        head(OK, "Transfer-Encoding: chunked"),
        head(OK, "Content-Encoding: gzip", "Content-Length: 5"),
        head(OK, "Content-Length: 5", "Content-Encoding: gzip, identity"),
        # a folded line is part of the one before it (RFC 9112, section 5.2)
        head(OK, "Content-Length: 5", " 6"),
        head(OK, "Content-Length: 5", "\t6"),
        head(OK, "X: y", " Content-Length: 5"),
        head(OK, "Content-Length: 5\nTransfer-Encoding: chunked"),
        head(OK, "Content-Length: 5\rx"),
    ],
)
def test_heads_that_are_refused(given):
    with pytest.raises(ValueError):
        parse_head(given)


# -- routes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://h.example/a/b.fits", (("http", "h.example", 80), "/a/b.fits")),
        ("https://h.example/a", (("https", "h.example", 443), "/a")),
        ("HTTPS://H.Example/A", (("https", "h.example", 443), "/A")),
        ("http://h.example", (("http", "h.example", 80), "/")),
        ("http://h.example:8080/", (("http", "h.example", 8080), "/")),
        ("http://h.example:/a", (("http", "h.example", 80), "/a")),
        ("http://h.example:65535/a", (("http", "h.example", 65535), "/a")),
        ("http://h.example/a?b=c&d", (("http", "h.example", 80), "/a?b=c&d")),
        ("http://h.example/a#part", (("http", "h.example", 80), "/a")),
        ("http://h.example/a%20b%0D%0A", (("http", "h.example", 80), "/a%20b%0D%0A")),
        ("http://[::1]:8080/a", (("http", "::1", 8080), "/a")),
        ("http://127.0.0.1/a", (("http", "127.0.0.1", 80), "/a")),
        # who has a login, or is anything but plain, goes the other way
        ("http://me:secret@h.example/a", None),
        ("http://me@h.example/a", None),
        ("http://@h.example/a", None),
        ("ftp://h.example/a", None),
        ("s3://bucket/a", None),
        ("mem://name", None),
        ("file:///a", None),
        ("/a/b", None),
        ("", None),
        ("http:///a", None),
        ("http://h.example/ü", None),
        ("http://hé.example/a", None),
        ("http://h.example/a b", None),
        ("http://h.example/a\x7fb", None),
        ("http://h.example:0/a", None),
        ("http://h.example:65536/a", None),
        ("http://h.example:port/a", None),
        ("http://[::1/a", None),
    ],
)
def test_plain_routes(url, found):
    assert plain_route(url) == found


@pytest.mark.parametrize("lower", ["http_proxy", "https_proxy", "all_proxy"])
@pytest.mark.parametrize("upper", [False, True])
def test_behind_a_proxy_nothing_is_direct(monkeypatch, lower, upper):
    assert is_direct("h.example")
    monkeypatch.setenv(lower.upper() if upper else lower, "http://proxy.example:3128")
    assert not is_direct("h.example")


def test_an_empty_proxy_is_none(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "")
    assert is_direct("h.example")


@pytest.mark.parametrize("place", ["~/.netrc", "~/_netrc", "NETRC"])
def test_hosts_with_a_login_are_not_direct(monkeypatch, tmp_path, place):
    path = os.path.expanduser(place)
    if place == "NETRC":
        path = str(tmp_path / "logins")
        monkeypatch.setenv("NETRC", path)
    with open(path, "w") as file:
        file.write("machine h.example login me password secret\n")
    assert not is_direct("h.example")
    assert is_direct("other.example")
    with open(path, "a") as file:
        file.write("default login anonymous password x\n")
    assert not is_direct("other.example")


@pytest.mark.parametrize("content", [b"machine\n", b"nonsense here\n", b"machine h\xff login x\n"])
def test_a_netrc_that_cannot_be_read_is_left_to_requests(content):
    with open(os.path.expanduser("~/.netrc"), "wb") as file:
        file.write(content)
    assert not is_direct("h.example")


def test_netrc_that_is_named_but_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    assert is_direct("h.example")
