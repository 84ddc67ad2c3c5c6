"""What the tests of downloads share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pkgdata

ROOT = str(Path(pkgdata.__file__).parent.parent)
CONTENT = b"0123456789" * 1000


def below(folder):
    return sorted(
        str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()
    )


def read(path):
    return Path(path).read_bytes()


def child(code, *args, env=None):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        env={**os.environ, "PYTHONPATH": ROOT, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


BRING = """
import sys, pkgdata
sys.stdin.readline()
print(pkgdata.download_file(sys.argv[1], cache=True))
"""


def start(code, *args):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *args],
        env={**os.environ, "PYTHONPATH": ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
