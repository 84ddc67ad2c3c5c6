"""`download_file`: what callers of astropy's rely on."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import shutil
import tempfile
from pathlib import Path
from urllib.error import ContentTooShortError, HTTPError, URLError

import faults
import pytest
from downloads import CONTENT, below, child, read
from faults import Reply

import pkgdata
from pkgdata.base import disk, fs
from pkgdata.base.config import conf
from pkgdata.cache import unpinned_dirs
from pkgdata.compat.astropy import download
from pkgdata.compat.astropy.download import (
    _tempfilestodel,
    download_file,
)

# -- the cache -------------------------------------------------------------------------------


def test_it_is_fetched_once(server, place):
    path = download_file(server.url + "a.dat", cache=True)
    assert read(path) == CONTENT
    assert download_file(server.url + "a.dat", cache=True) == path
    assert download_file(server.url + "a.dat", cache=True, sources=[]) == path
    assert len(server.requests) == 1
    assert os.path.isabs(path)


def test_the_tree_is_astropys_and_holds_nothing_else(server, place, tmp_path):
    url = server.url + "a.dat"
    download_file(url, cache=True)
    key = hashlib.md5(url.encode()).hexdigest()
    assert below(place) == [f"download/url/{key}/contents", f"download/url/{key}/url"]
    assert (place / "download" / "url" / key / "url").read_bytes() == url.encode()
    assert os.listdir(place / "download") == ["url"]
    # what else we need is next to it
    assert below(tmp_path / "cache" / "validators-v1") == [f"astropy/{key}.json"]
    assert url not in (tmp_path / "cache/validators-v1/astropy" / f"{key}.json").read_text()
    assert below(tmp_path / "cache" / "partial-v1") == []


def test_package_names_have_caches_of_their_own(server, tmp_path):
    url = server.url + "a.dat"
    path = download_file(url, cache=True, pkgname="other.sub")
    assert path.startswith(str(tmp_path / "cache" / "other" / "sub" / "download"))
    assert not pkgdata.is_url_in_cache(url, on_missing="ignore")
    with pytest.raises(KeyError, match="not in the cache"):
        download_file(url, cache=True, sources=[])
    with pytest.raises(ValueError, match="a package name consists of"):
        download_file(url, cache=True, pkgname="../etc")


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("http://Example.com/a", "HTTP://EXAMPLE.COM/a"),
        ("http://example.com", "http://example.com/"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
        ("http://é—☃—è.com/☃", "http://É—☃—è.com/☃"),
        (
            "http://" + "a" * 300 + ".com/" + "b" * 3000,
            "http://" + "A" * 300 + ".com/" + "b" * 3000,
        ),
    ],
)
def test_keys_do_not_depend_on_how_a_host_is_written(server, one, same):
    path = download_file(one, cache=True, sources=[server.url + "a.dat"])
    assert download_file(same, cache=True, sources=[]) == path
    assert pkgdata.is_url_in_cache(same)


def test_keys_depend_on_the_path(server):
    one = download_file("http://h/thing", cache=True, sources=[server.url + "a.dat"])
    two = download_file("http://h/THING", cache=True, sources=[server.url + "b.dat"])
    assert (read(one), read(two)) == (CONTENT, b"other")


def test_the_tree_may_be_moved(server, tmp_path, monkeypatch):
    url = server.url + "a.dat"
    path = download_file(url, cache=True)
    shutil.move(tmp_path / "cache", tmp_path / "moved")
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "moved"))
    found = download_file(url, cache=True, sources=[])
    assert found == path.replace(str(tmp_path / "cache"), str(tmp_path / "moved"))
    assert pkgdata.cache_contents() == {url: found}
    download_file(url, cache="update")
    assert [r.status for r in server.requests] == [200, 200]  # a fault of 304 is not scripted
    assert "if-none-match" in server.requests[-1].headers


def test_only_urls_can_be_cached(tmp_path):
    with pytest.raises(ValueError, match="malformed URL"):
        download_file(str(tmp_path / "a"), cache=True)
    with pytest.raises(ValueError, match="'refresh'"):
        download_file("http://h/a", cache="refresh")


def test_a_remembered_answer_is_forgotten_when_it_does_not_hold(server, tmp_path, monkeypatch):
    url = server.url + "a.dat"
    path = download_file(url, cache=True)
    assert download._remembered(url, "astropy") == path
    with unpinned_dirs.set_temp_cache(tmp_path / "temporary"):
        assert download_file(url, cache=True) != path
    assert download_file(url, cache=True) == path
    with monkeypatch.context() as patch:
        patch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "elsewhere"))
        assert download_file(url, cache=True).startswith(str(tmp_path / "elsewhere"))
    pkgdata.clear_download_cache(url)
    assert download_file(url, cache=True) == path
    assert len(server.requests) == 4
    os.unlink(path)
    os.mkdir(path)
    assert download._remembered(url, "astropy") is None


def test_an_answer_is_remembered_for_the_cache_it_was_looked_for_in(server, tmp_path, monkeypatch):
    from pkgdata.compat.astropy.fetch import UrlJob

    url = server.url + "a.dat"
    temporary = unpinned_dirs.set_temp_cache(tmp_path / "temporary")
    into = UrlJob.into

    def interrupted(*args):
        path = into(*args)
        temporary.__enter__()  # as another thread may at this moment
        return path

    with monkeypatch.context() as patch:
        patch.setattr(UrlJob, "into", interrupted)
        path = download_file(url, cache=True)
    try:
        assert download_file(url, cache=True).startswith(str(tmp_path / "temporary"))
    finally:
        temporary.__exit__(None, None, None)
    assert download_file(url, cache=True) == path
    assert len(server.requests) == 2


def test_threads_with_settings_of_their_own_do_not_share_answers(server, tmp_path, monkeypatch):
    url = server.url + "a.dat"
    bases = [object(), object()]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    abspath = os.path.abspath

    def interrupted(path):
        if path == first:  # another thread answers between two steps of this one
            download._remember(url, "astropy", second, bases[1])
        return abspath(path)

    monkeypatch.setattr(download.os.path, "abspath", interrupted)
    download._remember(url, "astropy", first, bases[0])
    assert download._known == (bases[1], {(url, "astropy"): second})


def test_not_too_much_is_remembered(server, monkeypatch):
    monkeypatch.setattr(download, "_KNOWN_LIMIT", 1)
    for name in ("a.dat", "b.dat", "a.dat"):
        download_file(server.url + name, cache=True)
    assert list(download._known[1]) == [(server.url + "a.dat", "astropy")]


HIT = """
import sys, pkgdata
pkgdata.download_file(sys.argv[1], cache=True)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_hit_loads_no_library_of_the_network(server):
    url = server.url + "a.dat"
    download_file(url, cache=True)
    (loaded,) = child(HIT, url)
    assert not {"requests", "urllib3", "ssl", "filelock", "tqdm", "pooch"} & set(loaded.split())
    assert len(server.requests) == 1


# -- temporary files -------------------------------------------------------------------------


def test_without_a_cache_it_is_a_temporary_file(server, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = download_file(server.url + "a.dat")
    assert read(path) == CONTENT
    assert os.path.dirname(path) == str(tmp_path)
    assert Path(path) in _tempfilestodel
    assert os.stat(path).st_mode & 0o077 == 0
    with conf.set_temp("delete_temporary_downloads_at_exit", False):
        kept = download_file(server.url + "a.dat")
    assert Path(kept) not in _tempfilestodel
    pkgdata._deltemps()
    assert not os.path.exists(path)
    assert os.path.exists(kept)


AT_EXIT = """
import os, sys, pkgdata
path = pkgdata.download_file(sys.argv[1])
if hasattr(os, "fork"):
    pid = os.fork()
    if not pid:
        sys.exit()  # a child that ends leaves its parent's files alone
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert os.path.exists(path)
print(path)
"""


def test_it_goes_when_the_program_ends(server, tmp_path):
    (path,) = child(AT_EXIT, server.url + "a.dat", env={"TMPDIR": str(tmp_path)})
    assert path.startswith(str(tmp_path))
    assert not os.path.exists(path)


def test_a_failure_leaves_no_temporary_file(server, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server.script("a.dat", faults.cut(100))
    with pytest.raises(URLError):
        download_file(server.url + "a.dat")
    assert not list(tmp_path.glob("*download*"))


# -- sources ---------------------------------------------------------------------------------


def test_sources_replace_the_url(server):
    url = server.url + "a.dat"
    path = download_file(url, cache=True, sources=[server.url + "none.dat", server.url + "b.dat"])
    assert read(path) == b"other"
    assert [r.path for r in server.requests] == ["none.dat", "b.dat"]
    assert pkgdata.get_cached_urls() == [url]


def test_no_sources_means_nothing_is_fetched(server):
    for cache in (False, True, "update"):
        with pytest.raises(KeyError):
            download_file(server.url + "a.dat", cache=cache, sources=[])
    assert server.requests == []


def test_file_urls(tmp_path):
    source = tmp_path / "a b#ü.dat"
    source.write_bytes(CONTENT)
    for cache in (False, True):
        path = download_file(source.as_uri(), cache=cache)
        assert read(path) == CONTENT
        assert path != str(source)
    assert source.exists()


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("kind", ["missing", "folder", "host", "scheme", "port"])
def test_what_cannot_be_fetched_is_a_urlerror(tmp_path, kind, cache):
    url = {
        "missing": (tmp_path / "none").as_uri(),
        "folder": tmp_path.as_uri(),
        "host": "file://elsewhere/a",
        "scheme": "sftp://127.0.0.1/a",
        "port": "http://127.0.0.1:1/a",
    }[kind]
    for sources in (None, [url, url + "2"]):
        with pytest.raises(URLError) as caught:
            download_file(url, cache=cache, sources=sources)
        assert isinstance(caught.value, pkgdata.AllMirrorsFailedError)
        assert len(caught.value.attempts) == (2 if sources else 1)
    assert pkgdata.get_cached_urls(on_missing="ignore") == []


# -- what an error tells ---------------------------------------------------------------------


def test_a_status_is_an_httperror(server):
    with pytest.raises(HTTPError) as caught:
        download_file(server.url + "none.dat")
    error = caught.value
    assert (error.code, error.msg, error.url) == (404, "Not Found", server.url + "none.dat")
    assert error.headers["Content-Type"] == "text/plain"
    assert error.read() == b""
    assert not hasattr(error, "no_such_name")
    error.close()
    assert server.url + "none.dat" in str(error)


def test_the_kind_of_a_single_failure(server):
    url = server.url + "a.dat"
    server.script("a.dat", faults.cut(-1), faults.wrong_length(1), faults.stall(10))
    for _ in range(2):
        with pytest.raises(ContentTooShortError):
            download_file(url)
    with pytest.raises(TimeoutError) as caught:
        download_file(url, timeout=0.05)
    server.release()
    assert isinstance(caught.value, URLError)
    with pytest.raises(URLError) as refused:
        download_file("http://127.0.0.1:1/a")
    assert isinstance(refused.value.reason, OSError)


def test_several_failures_are_all_reported(server):
    with pytest.raises(URLError, match="unable to open any source") as caught:
        download_file("http://h/a", sources=[server.url + "x", "http://127.0.0.1:1/y"])
    assert not isinstance(caught.value, HTTPError)
    assert server.url + "x: status 404" in str(caught.value)
    assert "http://127.0.0.1:1/y" in str(caught.value)


def test_errors_cross_processes_and_hide_secrets(server):
    with pytest.raises(HTTPError) as caught:
        download_file(server.url.replace("//", "//me:pw@") + "none?token=12345")
    assert "pw" not in str(caught.value)
    assert "12345" not in str(caught.value)
    back = pickle.loads(pickle.dumps(caught.value))
    assert (type(back), str(back), back.code) == (
        type(caught.value),
        str(caught.value),
        404,
    )


def test_a_server_in_trouble_is_asked_once_more(server, monkeypatch):
    monkeypatch.delenv("PKGDATA_RETRIES")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.script("a.dat", faults.status(503))
    assert read(download_file(server.url + "a.dat")) == CONTENT
    server.script("a.dat", *[faults.status(503)] * 3)
    with pytest.raises(HTTPError) as caught:
        download_file(server.url + "a.dat")
    assert caught.value.code == 503
    assert len(server.requests) == 4


def test_a_full_disk_is_an_oserror(server, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda path: 10)
    for cache in (False, True):
        with pytest.raises(OSError, match="no space") as caught:
            download_file(server.url + "a.dat", cache=cache)
        assert isinstance(caught.value, pkgdata.CacheError)
        assert not isinstance(caught.value, URLError)


# -- what is taken for the contents ----------------------------------------------------------


@pytest.mark.parametrize("name", ["index.php", "", "v1.0", "page"])
def test_a_page_is_taken_where_the_name_is_not_that_of_data(server, name):
    server.contents[name] = faults.PAGE
    assert read(download_file(server.url + name)) == faults.PAGE


@pytest.mark.parametrize("content", [faults.PAGE, faults.LFS_POINTER])
def test_a_page_is_refused_in_place_of_data(server, content):
    server.contents["m.fits"] = content
    with pytest.raises(URLError, match=r"HTML page|LFS pointer"):
        download_file(server.url + "m.fits", cache=True)


def test_an_empty_file_is_one_if_its_length_says_so(server, tmp_path):
    server.contents["empty"] = b""
    (tmp_path / "empty.fits").touch()
    for url in (server.url + "empty", (tmp_path / "empty.fits").as_uri()):
        assert read(download_file(url, cache=True)) == b""
    server.script("empty", faults.altered(framing="close"))
    with pytest.raises(URLError):
        download_file(server.url + "empty", cache="update")


def test_what_was_compressed_on_the_way_is_the_file_of_its_name(server):
    import gzip

    packed = gzip.compress(CONTENT)
    server.script("a.dat", lambda s, r: Reply(200, packed, {"Content-Encoding": "gzip"}))
    path = download_file(server.url + "a.dat")
    assert read(path) == CONTENT
    assert pkgdata.get_file_contents(path, encoding="binary") == CONTENT


# -- disks that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [True, False, "update"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_no_file_is_explained(server, place, monkeypatch, cache, code):
    def full(path="a temporary name", *_, **__):
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(tempfile, "mkstemp", full)
    monkeypatch.setattr(fs, "create_exclusive", full)
    with pytest.raises(pkgdata.CacheError, match=os.strerror(code)) as caught:
        download_file(server.url + "a.dat", cache=cache)
    assert isinstance(caught.value, OSError)
    assert caught.value.hint
    assert "a.dat" in str(caught.value) or "cache" in str(caught.value)


@pytest.mark.parametrize("cache", [True, False])
def test_a_file_that_cannot_be_removed_hides_no_error(server, place, monkeypatch, cache):
    real = os.unlink

    def fails(path, **_):
        if os.path.isfile(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        real(path)

    monkeypatch.setattr(os, "unlink", fails)
    with pytest.raises(HTTPError, match="404"):
        download_file(server.url + "missing.dat", cache=cache)
