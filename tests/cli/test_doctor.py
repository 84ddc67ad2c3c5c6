"""``doctor``: every finding is a row that says what to do, and none hides the others."""

from __future__ import annotations

import json

import pytest


def test_the_doctor_as_json(shell, monkeypatch):
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    assert shell("doctor", "--json", "-q", "nosuchpkg") == 3
    assert shell.err == ""
    found = {one["what"]: one for one in json.loads(shell.out)}
    assert all(list(one) == ["state", "what", "found", "advice"] for one in found.values())
    assert found["network"]["state"] == "note"
    assert found["nosuchpkg"]["state"] == "wrong"
    assert found["cache"]["state"] == found["locks"]["state"] == "ok"


@pytest.mark.parametrize("bad", ["locks", "space", "cache"])
def test_the_doctor_says_what_to_do_about_the_cache(shell, monkeypatch, bad, tmp_path):
    if bad == "locks":
        monkeypatch.setattr("pkgdata.base.locks._try_flock", lambda fd, *_: True)
    elif bad == "space":
        monkeypatch.setattr("pkgdata.base.disk.free_bytes", lambda path: 1000)
    else:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    code = shell("doctor", "--json")
    rows = [one for one in json.loads(shell.out) if one["state"] != "ok"]
    expected = {"locks": "twice", "space": "pkgdata cache prune", "cache": "PKGDATA_CACHE_DIR"}
    assert expected[bad] in rows[-1]["advice"]
    assert code == (3 if bad == "cache" else 0)


def test_doctor_shows_no_login_of_a_proxy(shell, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "me:hush-hush@proxy.example.org:1")
    shell("doctor")
    assert "***@proxy.example.org:1" in shell.out
    assert "hush" not in shell.out + shell.err


@pytest.fixture
def wrong(shell):
    """Return a function that returns what the doctor finds wrong, by what it is about."""

    def found(*words):
        assert shell("doctor", "--json", "-q", *words) == 3, shell.err
        rows = [one for one in json.loads(shell.out) if one["state"] == "wrong"]
        assert all(one["advice"] for one in rows)
        return {one["found"]: one["what"] for one in rows}

    return found


def test_each_wrong_setting_is_a_row_and_the_rest_is_checked(wrong, shell, monkeypatch, tmp_path):
    file = tmp_path / "home" / "xdg_config_home" / "pkgdata" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(
        f"retries = -1\nverfy = 'once'\nsite_caches = ['{tmp_path}/gone']\nconnections = 'x'\n"
    )
    for name, text in (("OFFLINE", "maybe"), ("HEADERS", "[1]"), ("FOLDERS", "a"), ("LOCK", "1")):
        monkeypatch.setenv(f"PKGDATA_{name}", text)
    settings = [found for found, what in wrong("pkgdata").items() if what == "setting"]
    starts = [
        f"{file}: retries = -1: ",
        f"{file}: unknown key 'verfy'",
        f"{file}: connections = 'x': ",
        "PKGDATA_OFFLINE: offline = 'maybe': ",
        "PKGDATA_HEADERS: headers: ",
        "PKGDATA_FOLDERS: folders = 'a': ",
    ]
    assert len(settings) == len(starts)
    assert all(any(one.startswith(start) for one in settings) for start in starts)
    rows = {one["what"]: one for one in json.loads(shell.out)}
    assert rows["site cache"]["found"].startswith(f"{tmp_path}/gone is not there (set by user file")
    assert rows["cache"]["state"] == rows["pkgdata"]["state"] == rows["locks"]["state"] == "ok"
    assert rows["variable"]["found"] == "PKGDATA_LOCK is no setting"
    # the doctor alone leaves out what is wrong
    assert shell("config") == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("a folder", "cannot be read: Is a directory"),
        ("no TOML", "Invalid value"),
        ("gone", "there is no such file"),
        ("a variable", "expected $NOWHERE to be set"),
    ],
)
def test_a_configuration_file_that_cannot_be_read(wrong, monkeypatch, tmp_path, kind, said):
    path = tmp_path / "config.toml"
    if kind == "a folder":
        path.mkdir()
    elif kind == "no TOML":
        path.write_text("a = [")
    monkeypatch.setenv("PKGDATA_CONFIG", "$NOWHERE/c.toml" if kind == "a variable" else str(path))
    monkeypatch.setenv("PKGDATA_RETRIES", "often")
    (first, second) = sorted(wrong(), key=lambda found: "PKGDATA_RETRIES" in found)
    assert said.lower() in first.lower()
    assert second.startswith("PKGDATA_RETRIES: ")


@pytest.mark.parametrize(
    ("variable", "what"),
    [("CACHE_DIR", "cache"), ("SITE_CACHES", "site cache"), ("FOLDERS", "folder")],
)
def test_a_link_that_leads_nowhere_is_a_row(wrong, monkeypatch, tmp_path, variable, what):
    (tmp_path / "link").symlink_to(tmp_path / "purged")
    monkeypatch.setenv(f"PKGDATA_{variable}", str(tmp_path / "link" / "x"))
    ((found, about),) = wrong().items()
    assert about == what
    assert f"a link leads nowhere, to {tmp_path}/purged: {tmp_path}/link" in found


def test_packages_that_cannot_be_read_do_not_hide_others(wrong, tmp_path, shell):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "pkgdata.toml").write_text("[package]\nname = 3\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "pkgdata.toml").write_text("[package.settings]\nretries = 'x'\n")
    found = wrong(f"{tmp_path}/bad", f"{tmp_path}/odd", "nosuchpkg", "pkgdata")
    assert [*found.values()] == [f"{tmp_path}/bad", f"{tmp_path}/odd", "nosuchpkg"]
    assert json.loads(shell.out)[-1]["what"] == "pkgdata"
