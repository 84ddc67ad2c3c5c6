"""A `flock` that answers what a test wants, compiled to be preloaded."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def build_shim(folder: str | os.PathLike[str]) -> str:
    """Compile the library to preload; return its path."""
    compiler = shutil.which("gcc")
    if compiler is None:
        ask = "needs gcc: apt-get install gcc libc6-dev"
        pytest.fail(ask) if os.environ.get("CI") else pytest.skip(ask)
    source = os.path.join(os.path.dirname(__file__), "flock_shim.c")
    target = os.path.join(folder, "flock_shim.so")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", target, source], check=True
    )
    return target
