"""Warnings point at the line of the user's own code."""

from __future__ import annotations

import hashlib
import inspect

import pytest

import pkgdata


def test_a_warning_names_the_callers_line(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"wrong")
    right = tmp_path / "site"
    right.mkdir()
    (right / "a.txt").write_bytes(b"right")
    digest = hashlib.sha256(b"right").hexdigest()
    data = pkgdata.declare(
        "warned", dataurl=str(right), registry={"a.txt": digest}, folders=[folder]
    )
    with pytest.warns(pkgdata.FolderWarning) as caught:
        data.get("a.txt")
    here = inspect.currentframe().f_lineno - 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, here)
