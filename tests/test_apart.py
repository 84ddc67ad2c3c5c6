"""Tests that are marked `apart` have a process of their own, and end as others do."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a process is forked on Linux alone"
)
HERE = os.getpid()


@pytest.mark.apart
def test_it_is_another_process(tmp_path):
    assert os.getpid() != HERE
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("end", "outcome", "said"),
    [
        (lambda: 1 / 0, pytest.fail.Exception, "ZeroDivisionError"),
        (lambda: sys.exit("no"), pytest.fail.Exception, "SystemExit: no"),
        (lambda: os._exit(0), pytest.fail.Exception, "ended abruptly"),
        (lambda: pytest.skip("nothing here"), pytest.skip.Exception, "nothing here"),
    ],
)
def test_how_it_ends(request, end, outcome, said):
    item = SimpleNamespace(
        obj=end, funcargs={}, _fixtureinfo=SimpleNamespace(argnames=()), get_closest_marker=str
    )
    with pytest.raises(outcome, match=said):
        request.config.hook.pytest_pyfunc_call(pyfuncitem=item)
