"""Servers for the tests of batches."""

from __future__ import annotations

import pytest
from batching import (
    FILES,
)
from faults import FaultServer

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
