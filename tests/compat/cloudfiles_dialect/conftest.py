"""An empty memory for each test, and no files of the user's."""

from __future__ import annotations

import os

import pytest
from cloudfiles_both import theirs

from pkgdata.compat import cloudfiles as ours


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """Begin with an empty memory, and keep both libraries away from the user's files."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "CLOUD_FILES_", "CLOUD_VOLUME_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # cloud-files makes folders for cloudpaths that it does not know
    ours.clear_memory()
    monkeypatch.setattr(ours.paths, "_from_file", None)
    if theirs is not None:
        monkeypatch.setattr("cloudfiles.cloudfiles.CLOUD_FILES_DIR", str(tmp_path / "theirs"))
        monkeypatch.setattr("cloudfiles.paths.ALIAS_FILE", str(tmp_path / "aliases.json"))
        monkeypatch.setattr("cloudfiles.paths.ALIASES_FROM_FILE", None)
