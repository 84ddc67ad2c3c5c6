"""A folder of files, the folder that a web server shows, and the registry of what is published."""

from __future__ import annotations

import pytest
from publishing import make


@pytest.fixture
def here(tmp_path):
    return make(tmp_path / "files")


@pytest.fixture
def web(tmp_path):
    return tmp_path / "web"


@pytest.fixture
def registry(tmp_path):
    return tmp_path / "registry.txt"
