"""Ten hosts that share a folder and know their own locks alone, as on Lustre with ``localflock``.

Each is a namespace with a bindfs of its own; the benchmark that starts them reports what they did.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.integration]

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "hosts.py"


@pytest.fixture
def hosts(tmp_path):
    """Run the benchmark once; return what it found."""
    lacking = [name for name in ("bindfs", "unshare") if shutil.which(name) is None]
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("needs Linux and root, for namespaces")
    if lacking:
        ask = f"needs {' and '.join(lacking)}: apt-get install bindfs util-linux"
        pytest.fail(ask) if os.environ.get("CI") else pytest.skip(ask)

    def run(*options: str, **variables: str) -> dict:
        done = subprocess.run(
            [sys.executable, str(BENCH), "--runs", "1", "--json", "--folder", tmp_path, *options],
            # bytes are counted: a busy machine makes several connections, and what is on its way
            # over one that is given up was sent in vain
            env={**os.environ, "PKGDATA_CONNECTIONS": "1", **variables},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout)
        print(found)
        assert (found["errors"], found["wrong"]) == ([], 0)
        return found

    return run


def test_one_host_downloads_for_all(hosts):
    found = hosts("--processes", "30", "--size", "40", "--rate", "20")
    assert (found["waiters"], found["left"]) == (29, [])
    assert found["origin"] <= 1.05


def test_one_host_fetches_small_files_for_all(hosts):
    found = hosts("--processes", "20", "--files", "400")
    assert (found["objects"], found["left"]) == (400, [])
    assert found["requests"] <= 420


def test_another_host_resumes_when_the_one_that_works_is_killed(hosts):
    options = "--processes", "20", "--size", "40", "--rate", "20", "--kill"
    found = hosts(*options, PKGDATA_LOCK_TIMEOUT="4")
    assert found["waiters"] >= 16
    kinds = [name.rpartition(".")[2] for name in found["left"]]
    assert kinds.count("part") == 1, "nobody knows that the other host has died"
    assert {*kinds} <= {"part", "note", "spans"}
    assert found["origin"] <= 1.1
