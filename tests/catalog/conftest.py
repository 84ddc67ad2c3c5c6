"""What all tests of catalogs share."""

from __future__ import annotations

import pytest
from cataloging import Plugins

from pkgdata.testing import FaultServer


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    found = Plugins(tmp_path)
    monkeypatch.syspath_prepend(str(found.lib))
    return found


@pytest.fixture
def data(tmp_path, monkeypatch):
    path = tmp_path / "data"
    monkeypatch.setenv("PKGDATA_CATALOG_DIR", str(path))
    return path


@pytest.fixture
def server():
    with FaultServer({}) as found:
        yield found
