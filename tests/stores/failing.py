"""What the tests of faults read and write, how they read it, and what must not be left."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import textwrap

import pytest

CONTENT = random.Random(11).randbytes(3 << 20)


def parts() -> bytes:
    """Return what is written in parts; kept, it would be 20 MB in every process of a run."""
    return random.Random(12).randbytes(20 << 20)


def ranges() -> bytes:
    """Return what is read by several ranges at once."""
    return parts() + CONTENT * 5


def facts(content: bytes) -> tuple[int, str]:
    """Return what tells large contents apart, so that a test holds one of them at a time."""
    return len(content), hashlib.sha256(content).hexdigest()


def via_get(store, name, tmp_path):
    return store.get(name)


def via_blocks(store, name, tmp_path):
    return b"".join(map(bytes, store.blocks(name)))


def via_transfer(store, name, tmp_path):
    store.transfer_to(str(tmp_path / "copies"), [name])
    [found] = os.listdir(tmp_path / "copies")
    return (tmp_path / "copies" / found).read_bytes()


WAYS = {"get": via_get, "blocks": via_blocks, "transfer": via_transfer}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=[*WAYS])


def leftovers(folder):
    """Return what is below a folder, files that are not finished included."""
    return [*folder.rglob("*")] if folder.exists() else []


def run_apart(code, *arguments):
    """Start a Python program."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
