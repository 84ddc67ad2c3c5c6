"""`download_file` and `download_files_in_parallel`: what callers of astropy's rely on."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path
from urllib.error import ContentTooShortError, HTTPError, URLError

import faults
import pytest
import trustme
from faults import FaultServer, Reply
from ftpserver import FtpServer

import pkgdata
from pkgdata.base import fs
from pkgdata.base.config import conf
from pkgdata.cache import unpinned_dirs
from pkgdata.compat.astropy import download
from pkgdata.compat.astropy.download import (
    _tempfilestodel,
    download_file,
    download_files_in_parallel,
)

ROOT = str(Path(pkgdata.__file__).parent.parent)
CONTENT = b"0123456789" * 1000


@pytest.fixture(autouse=True)
def single_attempts(monkeypatch):
    """Make failures quick; tests of retries ask for them."""
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    yield
    download._deltemps()


@pytest.fixture
def server():
    with FaultServer({"a.dat": CONTENT, "b.dat": b"other"}) as found:
        yield found


@pytest.fixture
def place(tmp_path):
    """Return the folder of astropy's downloads."""
    return tmp_path / "cache" / "astropy"


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
    # what we need besides lies beside it
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
    from pkgdata.compat.astropy.fetch import Job

    url = server.url + "a.dat"
    temporary = unpinned_dirs.set_temp_cache(tmp_path / "temporary")
    into = Job.into

    def interrupted(*args):
        path = into(*args)
        temporary.__enter__()  # as another thread may at this moment
        return path

    with monkeypatch.context() as patch:
        patch.setattr(Job, "into", interrupted)
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


def test_sources_take_the_place_of_the_url(server):
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


def test_several_failures_are_all_told(server):
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
    monkeypatch.setattr(fs, "free_bytes", lambda path: 10)
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


def test_what_was_compressed_on_the_way_is_kept_as_it_came(server):
    import gzip

    packed = gzip.compress(CONTENT)
    server.script("a.dat", lambda s, r: Reply(200, packed, {"Content-Encoding": "gzip"}))
    path = download_file(server.url + "a.dat")
    assert read(path) == packed
    assert pkgdata.get_file_contents(path, encoding="binary") == CONTENT


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
    # asking anew went on from there
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


def test_a_condition_speaks_of_one_source(server):
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


# -- headers, settings, rewrites -------------------------------------------------------------


def test_headers(server, monkeypatch, tmp_path):
    (tmp_path / "home" / ".netrc").write_text("machine 127.0.0.1 login me password other\n")
    wanted = {"Authorization": "Bearer mine", "X-Mine": "1", "accept-encoding": "gzip"}
    download_file(server.url + "a.dat", http_headers=wanted)
    sent = server.requests[-1].headers
    assert sent["authorization"] == "Bearer mine"
    assert sent["x-mine"] == "1"
    assert sent["accept-encoding"] == "identity"
    with conf.set_temp("default_http_user_agent", "mine"):
        download_file(server.url + "a.dat")
    sent = server.requests[-1].headers
    assert sent["user-agent"].startswith("mine ")
    assert sent["accept"] == "*/*"
    assert sent["authorization"].startswith("Basic ")  # nobody said otherwise
    download_file(server.url + "a.dat", http_headers={"User-Agent": "this"})
    assert server.requests[-1].headers["user-agent"] == "this"


def test_rewrites_apply(server, monkeypatch):
    monkeypatch.setenv("PKGDATA_REWRITE", f"https://far.example.org/={server.url}")
    url = "https://far.example.org/a.dat"
    assert read(download_file(url, cache=True)) == CONTENT
    assert pkgdata.get_cached_urls() == [url]


def test_progress_is_told(server, monkeypatch):
    seen = []
    monkeypatch.setattr(download, "_view", lambda show, files=0: seen.append)
    download_file(server.url + "a.dat", cache=True)
    assert {event.name for event in seen} == {server.url + "a.dat"}
    assert seen[0].state == "start"
    assert (seen[-1].state, seen[-1].done) == ("done", len(CONTENT))
    seen.clear()
    with pytest.raises(URLError):
        download_file(server.url + "none.dat", cache=True)
    assert seen[-1].state == "failed"


# -- TLS -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls_server(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer({"a.dat": CONTENT}, tls=context) as found:
        yield found


def test_an_unknown_certificate_says_so(tls_server):
    with pytest.raises(URLError, match="Verification of TLS/SSL certificate") as caught:
        download_file(tls_server.url + "a.dat")
    assert "allow_insecure=True" in str(caught.value)
    assert tls_server.requests == []


def test_allow_insecure_warns_and_goes_on(tls_server):
    with pytest.warns(pkgdata.PkgdataWarning, match="Verification of TLS/SSL") as caught:
        path = download_file(tls_server.url + "a.dat", allow_insecure=True)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert read(path) == CONTENT


def test_ssl_context_names_whom_to_trust(tls_server, authority, tmp_path):
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    path = download_file(tls_server.url + "a.dat", ssl_context={"cafile": str(bundle)})
    assert read(path) == CONTENT
    for other in ({"cafile": None, "capath": "/does/not/exist"}, {}):
        with pytest.raises(URLError, match="Verification of TLS/SSL certificate"):
            download_file(tls_server.url + "a.dat", ssl_context=other)


def test_ssl_context_has_a_certificate_of_ours(authority, tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    authority.cert_pem.write_to_path(bundle)
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(own)
    with FaultServer({"a.dat": CONTENT}, tls=context) as server:
        trust = {"cafile": str(bundle)}
        wanted = trust | {"certfile": str(own)}
        assert read(download_file(server.url + "a.dat", ssl_context=wanted)) == CONTENT
        with pytest.raises(URLError):
            download_file(server.url + "a.dat", ssl_context=trust)
        with pytest.raises(ValueError, match="certfile"):
            download_file(server.url + "a.dat", ssl_context={"keyfile": str(own)})


# -- FTP -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [True, False])
def test_ftp(sizes):
    with FtpServer({"pub/a b.dat": CONTENT}, sizes=sizes) as server:
        path = download_file(server.url + "pub/a%20b.dat", cache=True)
        assert read(path) == CONTENT
        assert server.commands[0] == "USER anonymous"
        assert "AUTH TLS" not in server.commands
        with pytest.raises(URLError, match="no such file"):
            download_file(server.url + "pub/none.dat")


def test_ftp_over_tls_where_the_server_insists(authority, tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    with FtpServer({"a.dat": CONTENT}, tls=context) as server:
        url = server.url.replace("//", "//me:secret%40word@") + "a.dat"
        path = download_file(url, ssl_context={"cafile": str(bundle)})
        assert read(path) == CONTENT
        secure = server.commands[server.commands.index("AUTH TLS") :]
        assert "PASS secret@word" in secure
        assert "PROT P" in secure
        assert "PASS secret@word" not in server.commands[: -len(secure)]
        with pytest.raises(URLError, match="certificate"):
            download_file(url)


def test_ftp_failures(monkeypatch):
    with FtpServer({"a.dat": CONTENT}, short=1) as server:
        with pytest.raises(ContentTooShortError, match="9999 of 10000"):
            download_file(server.url + "a.dat")
        with pytest.raises(URLError):
            download_file(server.url + "a%0D%0ADELE.dat")
        assert not any("DELE" in command for command in server.commands)
    with pytest.raises(URLError):
        download_file("ftp://127.0.0.1:1/a.dat")


# -- many ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [None, "fork", "spawn"])
def test_many_in_a_temporary_cache(server, tmp_path, method):
    urls = [server.url + name for name in ("a.dat", "b.dat", "a.dat")]
    with unpinned_dirs.temporary_cache_dir_path(namespace="astropy") as place:
        paths = download_files_in_parallel(urls, multiprocessing_start_method=method)
        assert [read(path) for path in paths] == [CONTENT, b"other", CONTENT]
        assert all(path.startswith(str(place)) for path in paths)
        assert pkgdata.get_cached_urls() == sorted(set(urls))
    assert sorted(r.path for r in server.requests) == ["a.dat", "b.dat"]
    assert pkgdata.get_cached_urls(on_missing="ignore") == []


def test_workers_see_the_settings_of_the_caller(server, monkeypatch):
    monkeypatch.setenv("PKGDATA_CONNECTIONS", "2")
    urls = [server.url + "a.dat", server.url + "b.dat"]
    with conf.set_temp("allow_internet", False), pytest.raises(URLError, match="allow_internet"):
        download_files_in_parallel(urls)
    with conf.set_temp("default_http_user_agent", "of-this-thread"):
        download_files_in_parallel(urls, cache=True)
    assert all(r.headers["user-agent"].startswith("of-this-thread") for r in server.requests)
    assert len(server.requests) == 2


def test_sources_of_many(server):
    sources = {"http://h/1": [server.url + "none", server.url + "a.dat"], "http://h/2": []}
    (path,) = download_files_in_parallel(["http://h/1"], sources=sources, pkgname="mine")
    assert read(path) == CONTENT
    assert pkgdata.get_cached_urls("mine") == ["http://h/1"]
    with pytest.raises(KeyError):
        download_files_in_parallel(["http://h/2"], sources=sources)


def test_update_is_the_default_of_many(server):
    url = server.url + "a.dat"
    download_files_in_parallel([url])
    server.contents["a.dat"] = b"new"
    (path,) = download_files_in_parallel([url], cache=True)
    assert read(path) == CONTENT
    with pytest.warns(pkgdata.PkgdataWarning, match="Disabling the cache does not work"):
        (path,) = download_files_in_parallel([url], cache=False)
    assert read(path) == b"new"


def test_a_failure_among_many_is_told(server):
    urls = [server.url + name for name in ("none.dat", "a.dat", "b.dat")]
    with pytest.raises(HTTPError):
        download_files_in_parallel(urls)
    pkgdata.check_download_cache()


def test_no_files_and_no_such_method():
    assert download_files_in_parallel([]) == []
    with pytest.raises(ValueError, match="cannot find context"):
        download_files_in_parallel([], multiprocessing_start_method="teleport")


def test_one_bar_over_all(server, monkeypatch):
    seen = []
    monkeypatch.setattr(download, "_view", lambda show, files=0: seen.append(files) or seen.append)
    urls = [server.url + "a.dat", server.url + "b.dat", server.url + "a.dat"]
    download_files_in_parallel(urls[:1], cache=True)
    seen.clear()
    download_files_in_parallel(urls, cache=True)
    assert seen[0] == 2
    ended = [event.name for event in seen[1:] if event.state in ("done", "hit", "failed")]
    assert len(ended) == 2


# -- many processes --------------------------------------------------------------------------

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


def test_many_processes_fetch_once(server):
    server.script("a.dat", faults.stall(5000))
    url = server.url + "a.dat"
    processes = [start(BRING, url) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert server.stalled.wait(60)
    server.release()
    paths = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(paths) == 1
    assert read(paths.pop()) == CONTENT
    assert len(server.requests) == 1


def test_threads_that_update_do_not_disturb_each_other(server, place):
    url = server.url + "a.dat"
    download_file(url, cache=True)
    server.contents["a.dat"] = b"new"
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(download_file(url, cache="update")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {read(path) for path in paths} == {b"new"}
    pkgdata.check_download_cache()
    assert os.listdir(place / "download") == ["url"]


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_download_leaves_nothing_behind(server, place, tmp_path):
    server.script("a.dat", faults.stall(5000))
    url = server.url + "a.dat"
    process = start(BRING, url)
    process.stdin.write("go\n")
    process.stdin.flush()
    assert server.stalled.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert below(place) == []
    assert len(below(tmp_path / "cache" / "partial-v1")) == 1
    server.release()
    assert read(download_file(url, cache=True)) == CONTENT
    assert below(tmp_path / "cache" / "partial-v1") == []
    pkgdata.check_download_cache()
