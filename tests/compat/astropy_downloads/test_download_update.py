"""`download_file`: updates, offline use, and caches that cannot be used."""

from __future__ import annotations

import os
import time
from email.utils import formatdate
from pathlib import Path
from urllib.error import URLError

import faults
import pytest
from downloads import CONTENT, read
from faults import Reply

import pkgdata
from pkgdata.base.config import conf
from pkgdata.compat.astropy.download import (
    _tempfilestodel,
    download_file,
)

# -- update ----------------------------------------------------------------------------------


def conditional(headers):
    """Make a fault: the file has these headers; 304 to who knows them."""

    def fault(server, request):
        reply = server.whole(request)
        reply.headers.pop("ETag")
        reply.headers.update(headers)
        known = {
            "if-none-match": headers.get("ETag"),
            "if-modified-since": headers.get("Last-Modified"),
        }
        if any(value and request.headers.get(name) == value for name, value in known.items()):
            return Reply(304, b"", {"ETag": headers.get("ETag", "")}, framing="none")
        return reply

    return fault


def dates(age):
    now = time.time()
    return {
        "Date": formatdate(now, usegmt=True),
        "Last-Modified": formatdate(now - age, usegmt=True),
    }


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({"ETag": '"one"'}, True),
        ({"ETag": 'W/"one"'}, False),
        (dates(3600), True),
        (dates(1), False),
        ({"Last-Modified": "yesterday"}, False),
        ({}, False),
    ],
)
def test_update_asks_whether_it_changed(server, headers, asked):
    url = server.url + "a.dat"
    server.script("a.dat", *[conditional(headers)] * 4)
    path = download_file(url, cache=True)
    os.utime(path, (1, 1))  # as long as nothing is known of this time, all is fetched
    assert download_file(url, cache="update") == path
    first = os.stat(path)
    assert download_file(url, cache="update") == path
    assert [r.status for r in server.requests] == [200, 200, 304 if asked else 200]
    assert read(path) == CONTENT
    assert os.stat(path).st_mtime_ns >= first.st_mtime_ns
    # asking again resumed there
    download_file(url, cache="update")
    assert server.requests[-1].status == (304 if asked else 200)


def test_update_brings_what_changed(server):
    url = server.url + "a.dat"
    path = download_file(url, cache=True)
    server.contents["a.dat"] = b"new"
    assert read(download_file(url, cache=True)) == CONTENT
    with open(path, "rb") as file:
        assert download_file(url, cache="update") == path
        assert file.read() == CONTENT  # who reads goes on with what was there
    assert read(path) == b"new"


def test_a_condition_holds_for_one_source(server):
    url = "http://h/a.dat"
    download_file(url, cache=True, sources=[server.url + "a.dat"])
    download_file(url, cache="update", sources=[server.url + "b.dat"])
    download_file(url, cache="update", sources=[server.url + "b.dat"])
    asked = [r.headers.get("if-none-match") for r in server.requests]
    assert asked == [None, None, server.etag("b.dat")]


@pytest.mark.parametrize("damage", ["{", "[]", '{"source": 1}', "", None])
def test_a_damaged_note_is_none(server, tmp_path, damage):
    url = server.url + "a.dat"
    path = download_file(url, cache=True)
    (note,) = (tmp_path / "cache" / "validators-v1").rglob("*.json")
    note.unlink() if damage is None else note.write_text(damage)
    assert download_file(url, cache="update") == path
    assert "if-none-match" not in server.requests[-1].headers


def test_a_failed_update_keeps_what_is_there(server, place):
    url = server.url + "a.dat"
    path = download_file(url, cache=True)
    server.contents["a.dat"] = b"new"
    for fault in (faults.status(404), faults.cut(1), faults.hang_up()):
        server.script("a.dat", fault)
        with pytest.raises(URLError):
            download_file(url, cache="update")
        assert read(path) == CONTENT
    pkgdata.check_download_cache()
    assert os.listdir(place / "download") == ["url"]


# -- offline ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "value"), [("allow_internet", False), ("offline", True)])
def test_offline_is_a_urlerror_and_asks_nobody(server, tmp_path, setting, value):
    (tmp_path / "a").write_bytes(b"a")
    cached = download_file(server.url + "b.dat", cache=True)
    with conf.set_temp(setting, value):
        for url in (server.url + "a.dat", (tmp_path / "a").as_uri()):
            for cache in (False, True, "update"):
                with pytest.raises(URLError, match="allow_internet") as caught:
                    download_file(url, cache=cache)
                assert isinstance(caught.value, pkgdata.OfflineError)
        assert download_file(server.url + "b.dat", cache=True) == cached
    assert len(server.requests) == 1


# -- an unusable cache -----------------------------------------------------------------------


@pytest.mark.parametrize("level", ["cache", "cache/astropy", "cache/astropy/download"])
def test_a_file_in_the_way_is_a_warning_and_a_temporary_file(server, tmp_path, level):
    obstacle = tmp_path / level
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("in the way")
    with pytest.warns(pkgdata.CacheMissingWarning, match="cannot be read or created") as caught:
        path = download_file(server.url + "a.dat", cache=True)
    assert caught[0].message.args[1] == path
    assert caught[0].filename == __file__
    assert read(path) == CONTENT
    assert Path(path) in _tempfilestodel
    assert obstacle.read_text() == "in the way"


def test_a_cache_that_cannot_be_written_to(server, place, monkeypatch):
    import errno

    kept = download_file(server.url + "b.dat", cache=True)

    def refuse(path, mode=None):
        raise OSError(errno.EPERM, "no folders today")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.warns(pkgdata.CacheMissingWarning, match="appears to be read-only") as caught:
        path = download_file(server.url + "a.dat", cache=True)
    assert caught[0].message.args[1] == path
    assert read(path) == CONTENT
    assert Path(path) in _tempfilestodel
    assert len(server.requests) == 2  # what came was kept, not fetched again
    with pytest.warns(pkgdata.CacheMissingWarning, match="appears to be read-only"):
        path = download_file(server.url + "b.dat", cache="update")
    assert path != kept
    assert download_file(server.url + "b.dat", cache=True) == kept
    assert pkgdata.get_cached_urls() == [server.url + "b.dat"]


def test_a_read_only_cache(server, tmp_path):
    kept = download_file(server.url + "b.dat", cache=True)
    folders = [Path(top) for top, _, _ in os.walk(tmp_path / "cache")]
    for folder in folders:
        folder.chmod(0o500)
    try:
        if os.access(tmp_path / "cache", os.W_OK):
            pytest.skip("this user may write to any folder")
        assert download_file(server.url + "b.dat", cache=True) == kept
        assert pkgdata.get_cached_urls() == [server.url + "b.dat"]
        for name, how in (("a.dat", True), ("b.dat", "update")):
            with pytest.warns(pkgdata.CacheMissingWarning, match="appears to be read-only"):
                path = download_file(server.url + name, cache=how)
            assert read(path) == server.contents[name]
            assert not path.startswith(str(tmp_path / "cache"))
        with pytest.raises(PermissionError):
            pkgdata.import_file_to_cache("http://h/a", __file__)
        with pytest.warns(pkgdata.CacheMissingWarning, match="Not clearing"):
            pkgdata.clear_download_cache()
        pkgdata.check_download_cache()
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert download_file(server.url + "b.dat", cache=True) == kept


def test_locks_that_cannot_be_made_are_done_without(server, tmp_path, monkeypatch):
    own = tmp_path / "astropys"
    own.mkdir()
    monkeypatch.setenv("ASTROPY_CACHE_DIR", str(own))
    (tmp_path / "cache").write_text("in the way of the locks")
    path = download_file(server.url + "a.dat", cache=True)
    assert path.startswith(str(own))
    assert read(path) == CONTENT
    assert download_file(server.url + "a.dat", cache="update") == path
    assert os.listdir(own / "download") == ["url"]


def test_no_home_directory(server, tmp_path, monkeypatch):
    monkeypatch.delenv("PKGDATA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without HOME and passwd
    with pytest.warns(pkgdata.CacheMissingWarning, match="no home directory"):
        assert read(download_file(server.url + "a.dat", cache=True)) == CONTENT
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("ASTROPY_CACHE_DIR", str(own))
    assert download_file(server.url + "a.dat", cache=True).startswith(str(own))
