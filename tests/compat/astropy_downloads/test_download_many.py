"""`download_files_in_parallel`, and many processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from urllib.error import HTTPError, URLError

import faults
import pytest
from downloads import BRING, CONTENT, below, read, start

import pkgdata
from pkgdata.base.config import conf
from pkgdata.cache import unpinned_dirs
from pkgdata.compat.astropy import download
from pkgdata.compat.astropy.download import (
    download_file,
    download_files_in_parallel,
)

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


def test_a_failure_among_many_is_raised(server):
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


@pytest.mark.parametrize("changed", [True, False])
def test_many_that_update_at_once_take_what_one_of_them_renewed(server, changed):
    url = server.url + "a.dat"
    download_file(url, cache=True)
    if changed:
        server.contents["a.dat"] = b"new"
    server.requests.clear()
    server.script("a.dat", faults.stall(0))
    processes = [start(BRING.replace("cache=True", "cache='update'"), url) for _ in range(4)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert server.stalled.wait(60)
    time.sleep(1)  # by now all of them wait
    server.release()
    paths = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert read(paths.pop()) == (b"new" if changed else CONTENT)
    assert len(server.requests) == 1
    download_file(url, cache="update")
    assert len(server.requests) == 2, "what came before a call is not what it asks for"


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("cache", [True, "update"])
def test_ctrl_c_ends_it_within_a_second(server, cache):
    names = ["a.dat", "b.dat"]
    for name in names:
        server.script(name, faults.stall(3))
    urls = [server.url + name for name in names]
    code = f"import pkgdata; pkgdata.download_files_in_parallel({urls}, {cache!r}, timeout=60)"
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(server.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=20)[1].rstrip().endswith("KeyboardInterrupt")
    assert time.monotonic() - began < 1.5
    server.release()
