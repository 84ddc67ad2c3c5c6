"""What is copied on engines, and to where."""

from __future__ import annotations

import pytest

from pkgdata.stores import Store


@pytest.fixture
def source(tmp_path, request):
    """Return a folder of 100 objects, or of as many as the module says."""
    store = Store(str(tmp_path / "source"))
    for number in range(getattr(request.module, "OBJECTS", 100)):
        store[f"d{number % 3}/{number}"] = b"%d" % number * 1000
    return store


@pytest.fixture
def to(tmp_path):
    return Store(str(tmp_path / "to"))


@pytest.fixture
def check(source):
    """Return a function that looks whether a store holds what was copied, and no more."""

    def compare(to, names=source):
        assert {name: to[name] for name in to} == {name: source[name] for name in names}

    return compare
