"""Servers for the tests of batches."""

from __future__ import annotations

import hashlib

import pytest
from batching import (
    FILES,
)
from faults import FaultServer
from looking import FILES as LOOKED_FOR
from looking import put, registry_text

import pkgdata
from pkgdata.core import declaration
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


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Make the package ``lookpkg`` with its declaration, and a folder that serves as its mirror."""
    for name, content in LOOKED_FOR.items():
        put(tmp_path / "origin", name, content)
    home = tmp_path / "src" / "lookpkg"
    put(home, "__init__.py", b"")
    put(home, "registry.txt", registry_text().encode())
    toml = (
        '[package]\nname = "lookpkg"\n'
        f"dataurl = '{(tmp_path / 'origin').as_uri()}'\n"
        f"folders = ['{tmp_path / 'predefined'}']\n"
        'env = "LOOKPKG_DATA"\n'
    )
    put(home, "pkgdata.toml", toml.encode())
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.setattr(declaration, "_declared", {})
    monkeypatch.delenv("LOOKPKG_DATA", raising=False)
    return tmp_path


@pytest.fixture
def data(project):
    return pkgdata.declare("lookpkg")
