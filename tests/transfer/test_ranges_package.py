"""Ranges in the download of a package: several mirrors, wrong bytes, a crash in between."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import subprocess
import sys

import faults
import pytest
from faults import FaultServer, forever

import pkgdata
from pkgdata import Digest, Entry, Registry
from pkgdata.cache import upkeep
from pkgdata.cache.objects import key_of
from pkgdata.errors import IntegrityError, PkgdataError
from pkgdata.stores import http
from pkgdata.transfer import fetch, ranges
from pkgdata.transfer import one as transfer

pytestmark = pytest.mark.skipif(
    not hasattr(os, "preadv"), reason="this system has no positioned reads and writes"
)

MB = 1 << 20
CONTENT = random.Random(5).randbytes(4 * MB)
SIZE = len(CONTENT)
#: Bytes that a body gives at a time.
PIECE = 1 << 14


@pytest.fixture(autouse=True)
def small_spans(monkeypatch):
    monkeypatch.setattr(ranges, "SMALLEST", 1 << 16)


NAME = "maps/large.bin"


def sha(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


@pytest.fixture
def at_once(monkeypatch):
    """Call each connection slow, and never sleep between rounds."""
    for limit in ("_LOOK_AFTER", "_WORTH_RANGES", "_WORTH_SECONDS"):
        monkeypatch.setattr(transfer, limit, 0)
    monkeypatch.setattr(
        fetch, "first_good", functools.partial(fetch.first_good, sleep=lambda _: None)
    )
    yield
    for session in http._sessions.values():
        session.close()
    http._sessions.clear()


@pytest.fixture
def serve():
    """Make servers that cap each connection."""
    servers = []

    def start(content: bytes = CONTENT, fault: faults.Fault | None = None) -> FaultServer:
        servers.append(FaultServer({NAME: content}))
        servers[-1].script(NAME, forever(fault or faults.slow(0.005)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def declare(*servers, size=SIZE, **more) -> pkgdata.PackageData:
    registry = Registry([Entry(NAME, sha(CONTENT), size)])
    settings = {"retries": 1, "connections": 4, "download_block_size": 1 << 16, **more}
    urls = [server.url for server in servers]
    return pkgdata.PackageData("p", dataurl=urls, registry=registry, **settings)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def span_of(request: faults.Request) -> tuple[int, int]:
    """Return the bytes that a request asks for."""
    first, _, last = request.headers.get("range", "bytes=0-")[6:].partition("-")
    return int(first), int(last) + 1 if last else SIZE


def left(data: pkgdata.PackageData) -> list[str]:
    return os.listdir(os.path.join(data.cache.root, "partial-v1"))


def test_a_capped_server_is_asked_over_several_connections(at_once, serve):
    server = serve()
    data = declare(server)
    assert read(data.get(NAME)) == CONTENT
    assert server.connections > 1
    assert len(server.requests) > 1
    assert left(data) == []


@pytest.mark.parametrize("size", [SIZE, None])
def test_two_mirrors_at_once(at_once, serve, size):
    servers = [serve(), serve()]
    assert read(declare(*servers, size=size).get(NAME)) == CONTENT
    for server in servers:
        assert server.requests


def test_a_mirror_without_ranges_helps_no_more(at_once, serve):
    good, deaf = serve(), serve(fault=faults.ignore_range())
    assert read(declare(good, deaf).get(NAME)) == CONTENT


def test_a_mirror_that_promises_ranges_and_serves_none(at_once, serve):
    """One connection brought it before there were several; it still does."""
    server = serve(fault=lambda server, request: faults.slow(0.001)(server, unranged(request)))
    assert read(declare(server, retries=0).get(NAME)) == CONTENT


def unranged(request: faults.Request) -> faults.Request:
    return faults.Request(request.method, request.target, {})


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("size", [SIZE, None])
def test_a_mirror_without_ranges_after_one_that_had_them(at_once, serve, width, size):
    """What several ranges left behind is no use to it; the file comes all the same."""
    server = serve(fault=faults.ignore_range())
    data = declare(server, connections=width, retries=0, size=size)
    leave(data, TRUE)
    assert read(data.get(NAME)) == CONTENT


def test_a_mirror_that_is_down_beside_one_that_works(at_once, serve):
    good, down = serve(), serve(fault=faults.status(503))
    assert read(declare(good, down).get(NAME)) == CONTENT


def test_faults_on_some_of_the_connections(at_once, serve):
    server = serve()
    some = [faults.slow(0.005), faults.cut(100_000), faults.status(503), faults.reset(10), None]
    server.script(NAME, *[fault or faults.hang_up() for fault in some], forever(faults.slow(0.005)))
    assert read(declare(server).get(NAME)) == CONTENT


LIE = CONTENT.translate(bytes(range(255, -1, -1)))


@pytest.mark.parametrize("order", ["liar first", "liar last"])
def test_a_lying_mirror_among_honest_ones(at_once, serve, order):
    """Bytes of several mirrors hash to nothing; then each mirror stands for itself, in order."""
    honest, liar = serve(), serve(LIE)
    servers = [liar, honest] if order == "liar first" else [honest, liar]
    data = declare(*servers)
    assert read(data.get(NAME)) == CONTENT
    assert left(data) == []
    assert honest.requests
    assert liar.requests
    wholes = [
        server for server in servers for request in server.requests if span_of(request)[0] == 0
    ]
    # the mixture, then the first mirror alone; where that one lies, the second one alone
    assert wholes.count(servers[0]) == 2
    assert wholes.count(servers[1]) == (1 if order == "liar first" else 0)


def test_all_mirrors_lie_and_each_is_named(at_once, serve):
    liars = [serve(LIE), serve(LIE[::-1])]
    data = declare(*liars)
    with pytest.raises(IntegrityError) as caught:
        data.get(NAME)
    attempts = dict(caught.value.attempts)
    assert set(attempts) == {server.link(NAME) for server in liars}
    for server, content in zip(liars, (LIE, LIE[::-1]), strict=True):
        assert attempts[server.link(NAME)].actual == str(sha(content))
    assert left(data) == []


def test_the_only_mirror_lies(at_once, serve):
    liar = serve(LIE)
    with pytest.raises(IntegrityError) as caught:
        declare(liar).get(NAME)
    assert caught.value.source == liar.link(NAME)
    assert caught.value.actual == str(sha(LIE))


# -- going on after a crash --------------------------------------------------------------------

CHILD = """
import json, os, sys
import pkgdata
from pkgdata.transfer import one as transfer, ranges

transfer._LOOK_AFTER = transfer._WORTH_RANGES = transfer._WORTH_SECONDS = 0
ranges.SMALLEST = 1 << 16
task = json.loads(sys.argv[1])
data = pkgdata.PackageData(
    "p", dataurl=task["url"], registry=pkgdata.Registry.parse(task["list"]),
    connections=4, download_block_size=1 << 16,
)
data.get(task["name"], progress=lambda event: print(event.done, flush=True))
"""


def kill_at(server: FaultServer, done: int) -> int:
    """Let a process fetch so many bytes and kill it; return how many it said it has."""
    task = {
        "url": server.url,
        "list": Registry([Entry(NAME, sha(CONTENT), SIZE)]).dumps(),
        "name": NAME,
    }
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(task)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": checkout},
        text=True,
    )
    try:
        for line in child.stdout:
            if int(line) >= done:
                return int(line)
        raise AssertionError("the process ended before it could be killed")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_killed_in_the_middle(serve, share):
    """The next one asks for what is missing, and for little of what was there."""
    server = serve(fault=faults.slow(0.1))
    there = kill_at(server, int(share * SIZE))
    assert server.connections > 1
    before = len(server.requests)
    server.script(NAME)
    data = declare(server, connections=1)
    assert read(data.get(NAME)) == CONTENT
    asked = [span_of(request) for request in server.settled()[before:]]
    total = sum(end - start for start, end in asked)
    assert total - (SIZE - there) <= 0.12 * SIZE
    upkeep.sweep(data.cache)
    assert left(data) == []


@pytest.mark.slow
def test_killed_again_and_again(serve):
    server = serve(fault=faults.slow(0.02))
    for share in (0.2, 0.4, 0.6, 0.8):
        kill_at(server, int(share * SIZE))
    server.script(NAME)
    data = declare(server)
    assert read(data.get(NAME)) == CONTENT
    upkeep.sweep(data.cache)
    assert left(data) == []


#: Where the bytes of a broken transfer are: two pieces with a hole between them.
FRONT, LATER = MB, (2 * MB, 3 * MB)
TRUE = f"{FRONT} {LATER[0]}-{LATER[1]}\n"


def leave(data: pkgdata.PackageData, spans: str | None, content: bytes = CONTENT, tail: int = 0):
    """Leave unfinished bytes with their record, as a process that was killed."""
    data.cache.prepare()
    stem = os.path.join(data.cache.bucket("partial-v1"), key_of(sha(CONTENT)))
    with open(f"{stem}.part", "wb") as file:
        file.write(content[:FRONT])
        file.seek(LATER[0])
        file.write(content[slice(*LATER)] + bytes(tail))
    if spans is not None:
        with open(f"{stem}.spans", "wb") as file:
            file.write(spans.encode())


def test_a_true_record_is_gone_on_from(at_once, serve):
    server = serve()
    data = declare(server, connections=1)
    leave(data, TRUE)
    assert read(data.get(NAME)) == CONTENT
    assert sorted(map(span_of, server.settled())) == [(MB, 2 * MB), (3 * MB, SIZE)]


def test_bytes_without_a_beginning_are_kept_for_the_next_time(at_once, serve):
    server = serve(fault=faults.status(503))
    data = declare(server, connections=1)
    leave(data, f"0 {LATER[0]}-{LATER[1]}\n")
    with pytest.raises(PkgdataError):
        data.get(NAME)
    server.script(NAME)
    before = len(server.requests)
    assert read(data.get(NAME)) == CONTENT
    assert sorted(map(span_of, server.settled()[before:])) == [(0, 2 * MB), (3 * MB, SIZE)]


DAMAGED = {
    "absent": None,
    "empty": "",
    "torn": TRUE[:-1],
    "torn in a number": TRUE[:-3],
    "torn in the front": TRUE[:3],
    "garbage": "\0\0\0\0\n",
    "no numbers": "a b-c\n",
    "not ascii": "١ ٢-٣\n",
    "negative": "-5 10-20\n",
    "half an interval": f"{FRONT} {LATER[0]}-\n",
    "reversed": f"{FRONT} {LATER[1]}-{LATER[0]}\n",
    "unsorted": f"{MB // 2} {LATER[0]}-{LATER[1]} {MB}-{MB + 5}\n",
    "front beyond the file": f"{SIZE}\n",
    "front beyond the object": f"{SIZE * 2}\n",
    "interval beyond the file": f"{FRONT} {3 * MB}-{SIZE}\n",
    "interval beyond the object": f"{FRONT} {LATER[0]}-{2 * SIZE}\n",
    "all of the hole": f"{LATER[1]}\n",
    "some of the hole": f"{FRONT + 10} {LATER[0]}-{LATER[1]}\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("label", DAMAGED)
def test_a_damaged_record_costs_bytes_and_never_gives_wrong_ones(at_once, serve, label, size):
    server = serve(fault=faults.healthy())
    data = declare(server, size=size)
    leave(data, DAMAGED[label])
    assert read(data.get(NAME)) == CONTENT
    assert left(data) == []


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("spans", [TRUE, None])
def test_bytes_of_another_version_under_a_true_record(at_once, serve, size, spans):
    server = serve(fault=faults.healthy())
    data = declare(server, size=size)
    leave(data, spans, LIE)
    assert read(data.get(NAME)) == CONTENT


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    "spans",
    ["0 {later}\n", f"{FRONT} {{later}}\n", f"{FRONT}\n", "0\n"],
    ids=["nothing and a tail", "front and a tail", "front", "nothing"],
)
def test_nothing_is_left_behind_the_end_of_a_version_that_was_longer(at_once, serve, size, spans):
    """The object began with the same bytes and went on; its file must end where ours ends."""
    server = serve(fault=faults.altered(headers={}))
    server.contents[NAME] = CONTENT
    data = declare(server, size=size)
    leave(data, spans.format(later=f"{LATER[0]}-{LATER[1] + 2 * MB}"), tail=2 * MB)
    assert read(data.get(NAME)) == CONTENT
