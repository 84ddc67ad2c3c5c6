"""Servers for the tests of batches."""

from __future__ import annotations

import hashlib

import pytest
from batching import (
    FILES,
)
from faults import FaultServer

import pkgdata
from pkgdata.stores import http


@pytest.fixture(autouse=True)
def _closed_connections():
    yield
    for session in http._sessions.values():
        session.close()
    http._sessions.clear()


@pytest.fixture
def server():
    with FaultServer(dict(FILES)) as found:
        yield found


@pytest.fixture
def second():
    with FaultServer(dict(FILES)) as found:
        yield found


@pytest.fixture
def serve(tmp_path):
    """Return a function that serves bytes under a name and declares them."""

    def make(name, content, **settings):
        origin = tmp_path / "origin"
        origin.mkdir(exist_ok=True)
        (origin / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return pkgdata.declare(
            "archives", dataurl=origin.as_uri(), registry={name: digest}, **settings
        )

    return make
