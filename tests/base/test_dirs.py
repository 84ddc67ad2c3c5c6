"""The places of this machine: on Linux worked out here, elsewhere asked of platformdirs."""

from __future__ import annotations

import os
import sys

import platformdirs
import pytest

from pkgdata.base import config

ENVIRONMENTS = [
    {},
    {"XDG_CACHE_HOME": "/somewhere/cache", "XDG_CONFIG_HOME": "/somewhere/config"},
    {"XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""},
    {"XDG_CONFIG_DIRS": "/opt/xdg:/etc/xdg"},
    {"XDG_CONFIG_DIRS": ""},
    {"HOME": "/other/home"},
]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs is asked")
@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda env: ",".join(env) or "none")
def test_the_same_places_as_platformdirs(monkeypatch, environment):
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    user = platformdirs.user_config_dir("pkgdata", appauthor=False)
    sites = platformdirs.site_config_dir("pkgdata", appauthor=False, multipath=True)
    expected = [("user", user), *(("site", site) for site in sites.split(os.pathsep))]
    assert config.user_cache() == platformdirs.user_cache_dir()
    assert config.config_files() == [(kind, f"{path}/config.toml") for kind, path in expected]


def test_elsewhere_platformdirs_is_asked(monkeypatch, tmp_path):
    here = str(tmp_path)
    monkeypatch.setattr(config, "_xdg_alone", lambda: False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda: here)
    monkeypatch.setattr(platformdirs, "user_config_dir", lambda *_, **__: here)
    monkeypatch.setattr(platformdirs, "site_config_dir", lambda *_, **__: here)
    assert config.user_cache() == here
    file = os.path.join(here, "config.toml")
    assert config.config_files() == [("user", file), ("site", file)]


def test_a_relative_folder_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert os.path.isabs(config.user_cache())
