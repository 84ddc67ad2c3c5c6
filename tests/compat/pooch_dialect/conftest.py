"""Fixtures of the tests of the pooch dialect."""

from __future__ import annotations

import logging
import sys
import time

import pytest
from faults import FaultServer
from pooch_files import CONTENTS, REGISTRY

import pkgdata.compat.pooch as pooch


@pytest.fixture
def server():
    with FaultServer(dict(CONTENTS)) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def pup(server, store):
    return pooch.create(path=store, base_url=server.url, registry=dict(REGISTRY))


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Let pooch's logger write to standard error as it is during this test."""
    for handler in pooch.get_logger().handlers:
        monkeypatch.setattr(handler, "stream", sys.stderr)


@pytest.fixture
def log():
    """Collect what is logged, as pooch's users do it."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    pooch.get_logger().addHandler(handler)
    yield records
    pooch.get_logger().removeHandler(handler)


@pytest.fixture
def naps(monkeypatch):
    """Do not wait between attempts; collect how long it would have been."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found
