"""A server, and the folder of astropy's downloads."""

from __future__ import annotations

import pytest
from downloads import CONTENT
from faults import FaultServer

from pkgdata.compat.astropy import download


@pytest.fixture(autouse=True)
def single_attempts(monkeypatch):
    """Make failures quick; tests of retries ask for them."""
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    yield
    download._deltemps()


@pytest.fixture
def server():
    with FaultServer({"a.dat": CONTENT, "b.dat": b"other"}) as found:
        yield found


@pytest.fixture
def place(tmp_path):
    """Return the folder of astropy's downloads."""
    return tmp_path / "cache" / "astropy"
