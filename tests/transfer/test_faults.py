"""What a download does when the server misbehaves: a table of faults in, requests and bytes out."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import traceback
from email.utils import formatdate
from time import time

import faults
import pytest
from faults import FaultServer, forever
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pkgdata
from pkgdata.base import hashes
from pkgdata.core.registry import Entry, Registry
from pkgdata.errors import (
    AccessDeniedError,
    AllMirrorsFailedError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
)
from pkgdata.stores import http
from pkgdata.transfer import fetch

NAME = "maps/dust.fits"
RIGHT = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
#: Large enough that a validator is noted, see ``transfer._WORTH_A_NOTE``.
BIG = random.Random(3).randbytes(3 << 20)
BIG_OTHER = random.Random(4).randbytes(3 << 20)

#: A piece that a connection must bring to be worth another one at once.
HALF = 100_000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds that would have been slept between rounds; none are."""
    found: list[float] = []
    monkeypatch.setattr(
        fetch, "first_good", functools.partial(fetch.first_good, sleep=found.append)
    )
    return found


@pytest.fixture(autouse=True)
def _closed_connections():
    yield
    for session in http._sessions.values():
        session.close()
    http._sessions.clear()


@pytest.fixture
def server():
    with FaultServer({NAME: RIGHT}) as found:
        yield found


def package(*servers, content=RIGHT, size=None, **more):
    """Declare a package whose one file is pinned, with quick and few retries."""
    digest = hashes.Digest.parse(sha256(content)) if content is not None else None
    registry = Registry([Entry(NAME, digest, size)])
    quick = {"retries": 3, "remote_timeout": 20, "stall_seconds": 20, **more}
    return pkgdata.declare(
        "mypkg", dataurl=[server.url for server in servers], registry=registry, **quick
    )


def offsets(requests):
    """Return the first byte that each request asked for."""
    ranges = [request.headers.get("range", "bytes=0-") for request in requests]
    return [int(text.removeprefix("bytes=").removesuffix("-")) for text in ranges]


def files_below(folder):
    return [os.path.join(parent, file) for parent, _, files in os.walk(folder) for file in files]


def objects(root):
    """Return the contents of all objects in a cache, each checked against its place."""
    found = []
    for path in files_below(os.path.join(root, "objects-v1")):
        with open(path, "rb") as file:
            content = file.read()
        alg, first, rest = os.path.dirname(path).split(os.sep)[-3:]
        assert (alg, first + rest) == ("sha256", sha256(content)), path
        found.append(content)
    return found


def unfinished(root):
    """Return the contents of the unfinished files in a cache."""
    found = []
    for path in files_below(os.path.join(root, "partial-v1")):
        if path.endswith(".part"):
            with open(path, "rb") as file:
                found.append(file.read())
    return found


# -- one mirror --------------------------------------------------------------------------------

OK = None
ALL_FAILED, WRONG = AllMirrorsFailedError, IntegrityError
SAME_URL = "/" + NAME


def row(label, script, asked, outcome=OK, *, waited=0, left=0):
    """A row of the table.

    ``asked`` holds the first byte that each request asks for, ``waited`` counts the waits between
    rounds, and ``left`` the bytes that stay for the next process after a failure.
    """
    return pytest.param(script, asked, outcome, waited, left, id=label)


TABLE = [
    row("healthy", [], [0]),
    # the connection breaks: what came is kept; a good piece of it earns another try at once
    row("cut in headers", [faults.cut_in_headers()], [0, 0], waited=1),
    row("cut at first byte", [faults.cut(0)], [0, 0], waited=1),
    row("cut early", [faults.cut(1000)], [0, 1000], waited=1),
    row("cut mid-body", [faults.cut(HALF)], [0, HALF]),
    row("cut twice", [faults.cut(HALF), faults.cut(HALF)], [0, HALF, 2 * HALF]),
    row("one byte short", [faults.cut(-1)], [0, len(RIGHT) - 1]),
    row("reset before the body", [faults.reset(0)], [0, 0], waited=1),
    row("hang up", [faults.hang_up()] * 2, [0, 0, 0], waited=2),
    row("always cut early", [forever(faults.cut(0))], [0] * 4, ALL_FAILED, waited=3),
    row(
        "cut, then refused",
        [faults.cut(HALF), faults.status(403)],
        [0, HALF],
        ALL_FAILED,
        left=HALF,
    ),
    # lengths
    row("length too long", [faults.wrong_length(10)], [0, len(RIGHT), 0]),
    row("length too short", [faults.wrong_length(-10)], [0], WRONG),
    row("HTTP/1.0 without length", [faults.http10()], [0]),
    row("chunked", [faults.chunked()], [0]),
    row("chunked, cut", [faults.chunked(cut_at=HALF)], [0, HALF]),
    # ranges: what is not the rest of the same bytes is asked for from the start
    row("200 for a range", [faults.cut(HALF), faults.ignore_range()], [0, HALF]),
    row("other range", [faults.cut(HALF), faults.wrong_range()], [0, HALF, 0]),
    row("no Content-Range", [faults.cut(HALF), faults.no_content_range()], [0, HALF, 0]),
    row("416", [faults.cut(HALF), faults.status(416)], [0, HALF, 0]),
    row("other content when resumed", [faults.change(OTHER), faults.change(RIGHT)], [0], WRONG),
    row(
        "content mended when resumed",
        [lambda s, r: faults.cut(HALF)(s, faults.change(OTHER)(s, r) and r), faults.change(RIGHT)],
        [0, HALF, 0],
    ),
    # statuses
    row("429", [faults.status(429, retry_after=7)], [0, 0], waited=1),
    row("503", [faults.status(503, b"busy", retry_after=1)] * 2, [0, 0, 0], waited=2),
    row("429 for an hour", [faults.status(429, retry_after=3600)], [0], ALL_FAILED),
    row("500", [faults.status(500, b"oops")], [0, 0], waited=1),
    row("500 for ever", [forever(faults.status(500))], [0] * 4, ALL_FAILED, waited=3),
    row("202", [faults.status(202)], [0], ALL_FAILED),
    row("204", [faults.status(204)], [0], ALL_FAILED),
    row("403", [faults.status(403, b"no")], [0], ALL_FAILED),
    row("404", [faults.status(404, b"no")], [0], ALL_FAILED),
    row("206 unasked", [faults.status(206, RIGHT)], [0], ALL_FAILED),
    # wrong bytes are final: the same mirror would send them again
    row("empty", [faults.empty()], [0], WRONG),
    row("page", [faults.page()], [0], WRONG),
    row("LFS pointer", [faults.lfs_pointer()], [0], WRONG),
    row("lying mirror", [faults.other_bytes()], [0], WRONG),
    row("gzip applied", [faults.compressed()], [0]),
    row("redirect loop", [forever(faults.redirect(SAME_URL))], [0] * 31, ALL_FAILED),
]


@pytest.mark.parametrize(("script", "asked", "outcome", "waited", "left"), TABLE)
def test_one_mirror(server, waits, script, asked, outcome, waited, left):
    server.script(NAME, *script)
    data = package(server)
    if outcome is OK:
        with open(data.get(NAME), "rb") as file:
            assert file.read() == RIGHT
    else:
        with pytest.raises(outcome) as caught:
            data.get(NAME)
        assert type(caught.value) is outcome
    assert offsets(server.settled()) == asked
    assert len(waits) == waited
    assert objects(data.cache.root) == ([RIGHT] if outcome is OK else [])
    assert unfinished(data.cache.root) == ([RIGHT[:left]] if left else [])


def test_retry_after_is_waited_for(server, waits):
    date = formatdate(time() + 60, usegmt=True)
    server.script(NAME, faults.status(429, retry_after=7), faults.status(503, retry_after=date))
    package(server).get(NAME)
    assert waits[0] == 7
    assert 1 < waits[1] <= 60


def test_stall_is_cut_and_resumed(server):
    server.script(NAME, faults.stall(HALF))
    package(server, remote_timeout=1).get(NAME)
    assert offsets(server.requests) == [0, HALF]


def test_slow_drip_after_a_fast_start_is_cut_and_resumed(server):
    server.contents[NAME] = content = RIGHT[: HALF + 2000]
    server.script(NAME, faults.drip(HALF))
    package(server, content=content, stall_seconds=0.2, stall_bytes=1024).get(NAME)
    first, second = offsets(server.settled())
    assert first == 0
    assert HALF <= second < HALF + 1024


def test_stall_before_the_headers_ends_at_the_timeout(waits):
    with FaultServer({NAME: RIGHT}) as server:
        server.script(NAME, faults.stall_before_headers())
        package(server, remote_timeout=0.5).get(NAME)
        assert offsets(server.requests) == [0, 0]
        assert len(waits) == 1


def test_large_object_resumes_under_its_validator(server):
    server.contents[NAME] = BIG
    server.script(NAME, faults.cut(2 << 20))
    package(server, content=BIG).get(NAME)
    second = server.settled()[1]
    assert second.status == 206
    assert second.headers["range"] == f"bytes={2 << 20}-"
    assert second.headers["if-range"] == server.etag(NAME)


def test_changed_etag_starts_again(server):
    server.contents[NAME] = BIG_OTHER
    server.script(NAME, faults.cut(2 << 20), faults.change(BIG))
    data = package(server, content=BIG)
    data.get(NAME)
    assert [request.status for request in server.settled()] == [200, 200]
    assert offsets(server.requests) == [0, 2 << 20]
    assert objects(data.cache.root) == [BIG]


def test_connection_closed_between_requests():
    contents = {"a": RIGHT, "b": OTHER}
    with FaultServer(contents) as server:
        server.script("a", faults.close_after())
        registry = {name: sha256(content) for name, content in contents.items()}
        data = pkgdata.declare("mypkg", dataurl=server.url, registry=registry)
        data.get("a")
        server.settled()
        with open(data.get("b"), "rb") as file:
            assert file.read() == OTHER


def test_every_request_asks_for_identity_and_names_us(server):
    server.script(NAME, faults.cut(HALF))
    package(server).get(NAME)
    for request in server.settled():
        assert request.headers["accept-encoding"] == "identity"
        assert f"pkgdata/{pkgdata.__version__}" in request.headers["user-agent"]
        assert "authorization" not in request.headers


# -- the size that the registry tells ----------------------------------------------------------


@pytest.mark.parametrize("by", [-10, 10])
def test_other_length_is_refused_before_the_body(server, by):
    server.contents[NAME] = bytes(64 << 20)
    data = package(server, size=(64 << 20) + by)
    with pytest.raises(IntegrityError, match=f"expected {(64 << 20) + by} bytes"):
        data.get(NAME)
    http._sessions.clear()
    (request,) = server.settled()
    assert request.sent < 16 << 20
    assert objects(data.cache.root) == unfinished(data.cache.root) == []


def test_endless_body_is_cut_off_at_the_size(server):
    server.contents[NAME] = bytes(64 << 20)
    server.script(NAME, faults.chunked())
    data = package(server, size=len(RIGHT))
    with pytest.raises(IntegrityError, match="more than 300000 bytes"):
        data.get(NAME)
    (request,) = server.settled()
    assert request.sent < 16 << 20
    assert objects(data.cache.root) == unfinished(data.cache.root) == []


def test_short_body_of_known_size_is_incomplete(server):
    server.script(NAME, forever(faults.http10()))
    server.contents[NAME] = RIGHT[:-1]
    with pytest.raises(AllMirrorsFailedError) as caught:
        package(server, size=len(RIGHT), retries=1).get(NAME)
    ((_, error),) = caught.value.attempts
    assert isinstance(error, IncompleteTransferError)
    assert (error.expected, error.actual) == (len(RIGHT), len(RIGHT) - 1)


# -- two mirrors -------------------------------------------------------------------------------


@pytest.fixture
def second():
    with FaultServer({NAME: RIGHT}) as found:
        yield found


def pair(label, first, then, asked, outcome=OK, *, waited=0):
    return pytest.param(first, then, asked, outcome, waited, id=label)


PAIRS = [
    pair("first is healthy", [], [], ([0], [])),
    pair("first is down", [faults.hang_up()], [], ([0], [0])),
    pair("first lacks it", [faults.status(404)], [], ([0], [0])),
    pair("first lies", [faults.other_bytes()], [], ([0], [0])),
    pair("first is cut", [faults.cut(1000)], [], ([0], [1000])),
    # who lied is not known until one source has given all bytes
    pair(
        "first lies and is cut",
        [lambda s, r: faults.altered(body=OTHER, cut_at=1000)(s, r)],
        [],
        ([0], [1000, 0]),
    ),
    pair("both are busy", [faults.status(503)], [faults.status(503)], ([0, 0], [0]), waited=1),
    # what is final is not asked again
    pair("busy, absent", [faults.status(503)], [faults.status(404)], ([0, 0], [0]), waited=1),
    pair("absent, wrong", [faults.status(404)], [faults.page()], ([0], [0]), WRONG),
    pair("wrong, wrong", [faults.page()], [faults.empty()], ([0], [0]), WRONG),
    pair(
        "wrong, down for ever",
        [faults.page()],
        [forever(faults.status(500))],
        ([0], [0] * 4),
        ALL_FAILED,
        waited=3,
    ),
]


@pytest.mark.parametrize(("first", "then", "asked", "outcome", "waited"), PAIRS)
def test_two_mirrors(server, second, waits, first, then, asked, outcome, waited):
    server.script(NAME, *first)
    second.script(NAME, *then)
    data = package(server, second)
    if outcome is OK:
        data.get(NAME)
    else:
        with pytest.raises(outcome) as caught:
            data.get(NAME)
        assert len(caught.value.attempts) == 2
    assert (offsets(server.settled()), offsets(second.settled())) == asked
    assert len(waits) == waited
    assert objects(data.cache.root) == ([RIGHT] if outcome is OK else [])


# -- names that are not pinned -----------------------------------------------------------------


def downloads(root):
    return files_below(os.path.join(root, "mypkg"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(faults.page(), "HTML page", id="page"),
        pytest.param(faults.lfs_pointer(), "Git LFS pointer", id="LFS pointer"),
        pytest.param(faults.empty(), "no bytes", id="empty"),
        pytest.param(faults.cut(1000), "stopped at byte 1000 of 300000", id="short"),
        pytest.param(faults.chunked(cut_at=1000), "stopped at byte 1000", id="short chunks"),
        pytest.param(faults.cut_in_headers(), "ends too early", id="short headers"),
        pytest.param(faults.status(202), "status 202", id="202"),
    ],
)
def test_unpinned_names_refuse_what_cannot_be_the_file(server, fault, said):
    server.script(NAME, forever(fault))
    data = package(server, content=None, retries=1)
    with pytest.raises(AllMirrorsFailedError, match=said):
        data.get(NAME)
    assert downloads(data.cache.root) == []
    assert objects(data.cache.root) == unfinished(data.cache.root) == []


def test_unpinned_page_is_taken_where_one_is_expected(server):
    server.contents["index.html"] = faults.PAGE
    data = pkgdata.declare("mypkg", dataurl=server.url, registry={"index.html": None})
    with open(data.get("index.html"), "rb") as file:
        assert file.read() == faults.PAGE


def test_unpinned_name_never_mixes_two_versions(server):
    server.script(NAME, faults.cut(HALF), faults.change(OTHER))
    with open(package(server, content=None).get(NAME), "rb") as file:
        assert file.read() == OTHER
    assert offsets(server.settled()) == [0, 0]


def test_unpinned_name_never_mixes_two_mirrors(server, second):
    second.contents[NAME] = OTHER
    server.script(NAME, faults.cut(HALF), faults.hang_up())
    with open(package(server, second, content=None).get(NAME), "rb") as file:
        assert file.read() == OTHER


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.status(403), AccessDeniedError),
        (faults.status(404), ObjectNotFoundError),
        (faults.status(500), StoreError),
        (faults.hang_up(), StoreError),
        (faults.cut(1000), IncompleteTransferError),
        (faults.other_bytes(), IntegrityError),
        (faults.redirect(f"/{NAME}?token=sesame"), StoreError),
    ],
    ids=["403", "404", "500", "hang up", "cut", "wrong bytes", "redirect loop"],
)
def test_errors_hold_no_secrets(server, fault, kind):
    server.script(NAME, forever(fault))
    url = server.url.replace("//", "//user:sesame@") + "?token=sesame"
    data = pkgdata.declare("mypkg", dataurl=url, registry={NAME: sha256(RIGHT)}, retries=0)
    with pytest.raises(PkgdataError) as caught:
        data.get(NAME)
    error = caught.value
    cause = error if kind is IntegrityError else error.attempts[0][1]
    assert isinstance(cause, kind)
    shown = [str(error), repr(error), repr(data), *map(str, getattr(error, "attempts", []))]
    shown += traceback.format_exception(error)
    assert "token=***" in str(error)
    assert not [text for text in shown if "sesame" in text]
    for path in files_below(data.cache.root):
        with open(path, "rb") as file:
            assert b"sesame" not in file.read()


# -- an end by force ---------------------------------------------------------------------------

_CHILD = """
    import sys
    import pkgdata

    url, digest, name = sys.argv[1:]
    data = pkgdata.declare("mypkg", dataurl=url, registry={name: digest}, remote_timeout=60)
    data.get(name, progress=lambda event: print(event.done, flush=True))
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_download_is_gone_on_with(server):
    server.contents[NAME] = BIG
    server.script(NAME, faults.stall(2 << 20))
    command = [sys.executable, "-c", textwrap.dedent(_CHILD), server.url, sha256(BIG), NAME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) == 2 << 20:
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    data = package(server, content=BIG)
    assert unfinished(data.cache.root) == [BIG[: 2 << 20]]
    data.get(NAME)
    assert offsets(server.requests) == [0, 2 << 20]
    assert server.requests[1].headers["if-range"] == server.etag(NAME)
    assert objects(data.cache.root) == [BIG]
    assert unfinished(data.cache.root) == []


def test_failed_download_is_gone_on_with(server):
    server.script(NAME, faults.cut(HALF), faults.status(403))
    with pytest.raises(AllMirrorsFailedError):
        package(server).get(NAME)
    package(server).get(NAME)
    assert offsets(server.settled()) == [0, HALF, HALF]


# -- any sequence of faults --------------------------------------------------------------------

_SIZE = len(RIGHT)
_places = st.sampled_from([0, 1, 1000, 65536, HALF, _SIZE - 1, -1])
_faults = st.one_of(
    st.builds(faults.cut, _places),
    st.builds(faults.reset, _places),
    st.builds(faults.chunked, st.one_of(st.none(), _places)),
    st.builds(faults.wrong_length, st.sampled_from([-1000, -1, 1, 1000])),
    st.builds(faults.wrong_range, st.sampled_from([1, 1000])),
    st.builds(faults.change, st.sampled_from([RIGHT, OTHER])),
    st.builds(faults.status, st.sampled_from([202, 204, 403, 404, 416, 429, 500, 503])),
    st.sampled_from(
        [
            faults.healthy(),
            faults.cut_in_headers(),
            faults.hang_up(),
            faults.close_after(),
            faults.no_content_range(),
            faults.ignore_range(),
            faults.empty(),
            faults.page(),
            faults.other_bytes(),
            faults.compressed(),
            faults.http10(),
        ]
    ),
)
_scripts = st.lists(_faults, max_size=6)


@settings(
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(first=_scripts, then=_scripts, size=st.sampled_from([None, _SIZE]))
def test_right_bytes_or_an_error_whatever_happens(
    server, second, tmp_path_factory, first, then, size
):
    root = tmp_path_factory.mktemp("cache")
    for mirror, script in ((server, first), (second, then)):
        mirror.contents[NAME] = RIGHT
        mirror.script(NAME, *script)
    for _ in range(2):  # the second goes on with what the first left behind
        data = package(server, second, size=size, cache_dir=str(root))
        try:
            path = data.get(NAME)
        except PkgdataError:
            assert objects(root) == []
        else:
            with open(path, "rb") as file:
                assert file.read() == RIGHT
            assert objects(root) == [RIGHT]
            assert unfinished(root) == []
