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
from pkgdata import mirrors
from pkgdata.errors import (
    AccessDeniedError,
    AllMirrorsFailedError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
)
from pkgdata.registry import Entry, Registry
from pkgdata.stores import http

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
        mirrors, "first_good", functools.partial(mirrors.first_good, sleep=found.append)
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
    digest = pkgdata.hashes.Digest.parse(sha256(content)) if content is not None else None
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
    row("gzip applied", [faults.compressed()], [0], WRONG),
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
