"""The pooch dialect: where bytes come from, and what goes wrong on the way."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest
import requests
from faults import FaultServer, cut, forever, other_bytes, stall, status
from pooch_files import BINARY, REGISTRY, TEXT, files_below, sha, written

import pkgdata
import pkgdata.compat.pooch as pooch

# -- sources -----------------------------------------------------------------------------------


def test_mirrors_are_tried_in_order(server, store):
    with FaultServer({}) as empty:
        bases = [empty.url, server.url]
        pup = pooch.create(store, bases, registry=REGISTRY)
        assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
        assert pup.base_url == bases
        assert pup.get_url("a.txt") == f"{empty.url}a.txt"
        assert len(empty.requests) == len(server.requests) == 1
        assert pup.is_available("a.txt")


def test_a_mirror_with_other_bytes_is_skipped(server, store):
    with FaultServer({"a.txt": b"something else"}) as wrong:
        pup = pooch.create(store, [wrong.url, server.url], registry=REGISTRY)
        assert Path(pup.fetch("a.txt")).read_bytes() == TEXT


def test_every_mirror_has_the_version(server, store):
    server.contents["v1.2/a.txt"] = TEXT
    bases = ["http://127.0.0.1:9/{version}", server.url + "v{version}"]
    pup = pooch.create(store, bases, version="1.2", registry=REGISTRY)
    assert pup.base_url == ["http://127.0.0.1:9/1.2/", server.url + "v1.2/"]
    assert pup.fetch("a.txt") == str(store / "1.2" / "a.txt")


def test_a_file_s_own_url_replaces_the_base(server, store):
    urls = {"mine.txt": server.url + "a.txt"}
    pup = pooch.create(store, "http://127.0.0.1:9/", registry={"mine.txt": sha(TEXT)}, urls=urls)
    assert pup.get_url("mine.txt") == server.url + "a.txt"
    assert Path(pup.fetch("mine.txt")).read_bytes() == TEXT
    assert [request.path for request in server.requests] == ["a.txt"]


def test_a_derived_class_may_choose_the_url_of_a_file(server, store):
    class Mine(pooch.Pooch):
        def get_url(self, fname):
            return super().get_url(fname).replace("old.txt", "a.txt")

    pup = Mine(store, server.url, registry={"old.txt": sha(TEXT)})
    assert pup.is_available("old.txt")
    assert Path(pup.fetch("old.txt")).read_bytes() == TEXT
    assert {request.path for request in server.requests} == {"a.txt"}


def test_base_and_name_are_joined_as_texts(server, store):
    server.contents["get"] = TEXT
    pup = pooch.Pooch(store, server.url + "get?file=", registry={"a b.txt": sha(TEXT)})
    pup.fetch("a b.txt")
    assert [request.target for request in server.requests] == ["/get?file=a%20b.txt"]


def test_the_site_s_rewrite_rules_apply(server, store, monkeypatch):
    monkeypatch.setenv("PKGDATA_REWRITE", f"https://data.example.org/={server.url}")
    pup = pooch.create(store, "https://data.example.org/", registry=REGISTRY)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT


def test_file_urls_serve(store, tmp_path):
    written(tmp_path / "origin" / "a b.txt", TEXT)
    base = (tmp_path / "origin").as_uri() + "/"
    pup = pooch.create(store, base, registry={"a b.txt": sha(TEXT)})
    assert Path(pup.fetch("a b.txt")).read_bytes() == TEXT


def test_configured_folders_serve_also_offline(server, store, tmp_path, monkeypatch):
    written(tmp_path / "site" / "store" / "a.txt", TEXT)
    monkeypatch.setenv("PKGDATA_FOLDERS", str(tmp_path / "site"))
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    pup = pooch.create(store, server.url, version="1.0", registry=REGISTRY)
    assert pup.fetch("a.txt") == str(store / "1.0" / "a.txt")
    with pytest.raises(pkgdata.OfflineError) as caught:
        pup.fetch("pack.zip")
    assert isinstance(caught.value, requests.exceptions.ConnectionError)
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), pkgdata.OfflineError)
    with pytest.raises(pkgdata.OfflineError):
        pup.is_available("pack.zip")
    assert not server.requests


def test_a_wrong_file_in_a_configured_folder_is_skipped(server, store, tmp_path, monkeypatch):
    written(tmp_path / "site" / "store" / "a.txt", b"older")
    monkeypatch.setenv("PKGDATA_FOLDERS", str(tmp_path / "site"))
    pup = pooch.create(store, server.url, registry=REGISTRY)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("some bogus URL ", "Unrecognized URL protocol"),
        ("httpup://example.org/", "unknown scheme 'httpup'"),
        ("doi://10.5281/zenodo.1/", "You must not use '//'"),
    ],
)
def test_what_is_no_url_is_a_value_error(store, base, words):
    pup = pooch.Pooch(store, base, registry=REGISTRY)
    with pytest.raises(ValueError, match=words):
        pup.fetch("a.txt")


# -- errors of the network ---------------------------------------------------------------------


@pytest.mark.parametrize("code", [404, 403, 500, 503])
def test_a_status_is_an_http_error(pup, server, code):
    server.script("a.txt", status(code))
    with pytest.raises(requests.exceptions.HTTPError, match=str(code)) as caught:
        pup.fetch("a.txt")
    assert caught.value.response.status_code == code
    assert isinstance(caught.value, pkgdata.AllMirrorsFailedError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert again.response.status_code == code
    assert len(server.requests) == 1  # once, as in pooch


def test_no_server_is_a_connection_error(store):
    with FaultServer({}) as gone:
        pass
    pup = pooch.create(store, gone.url, registry=REGISTRY)
    for action in (pup.fetch, pup.is_available):
        with pytest.raises(requests.exceptions.ConnectionError) as caught:
            action("a.txt")
        assert isinstance(caught.value, ConnectionError)
        assert isinstance(caught.value, pkgdata.AllMirrorsFailedError)


def test_silence_is_a_timeout(pup, server, monkeypatch):
    monkeypatch.setenv("PKGDATA_REMOTE_TIMEOUT", "0.2")
    server.script("a.txt", forever(stall(0)))
    with pytest.raises(requests.exceptions.RequestException):
        pup.fetch("a.txt")


def test_a_broken_transfer_is_resumed(pup, server):
    half = len(BINARY) // 2
    server.script("sub/dir/b.bin", cut(half))
    assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
    _, second = server.requests
    assert second.headers["range"] == f"bytes={half}-"


def test_a_stalled_transfer_is_cut_and_resumed(pup, server, monkeypatch):
    half = len(BINARY) // 2
    monkeypatch.setenv("PKGDATA_REMOTE_TIMEOUT", "0.3")
    server.script("sub/dir/b.bin", stall(half))
    assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
    server.release()
    assert server.settled()[-1].headers["range"] == f"bytes={half}-"


def test_what_came_before_an_error_is_kept_for_the_next_call(pup, server, store):
    part = len(BINARY) // 8
    server.script("sub/dir/b.bin", cut(part))
    with pytest.raises(requests.exceptions.ConnectionError):
        pup.fetch("sub/dir/b.bin")
    assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
    assert server.requests[-1].headers["range"] == f"bytes={part}-"
    assert files_below(store) == {"sub/dir/b.bin"}


def test_retries_are_those_asked_for(server, store, log, naps):
    server.script("a.txt", status(404), other_bytes(), status(500), cut(1))
    pup = pooch.create(store, server.url, registry=REGISTRY, retry_if_failed=12)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    assert log[1] == "Failed to download 'a.txt'. Will attempt the download again 12 more times."
    assert naps == [1, 2, 3, 4]
    server.script("a.txt", forever(status(404)))
    pup.path = store / "other"
    with pytest.raises(requests.exceptions.HTTPError):
        pup.fetch("a.txt")
    assert naps[4:] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]
    assert log[-1] == "Failed to download 'a.txt'. Will attempt the download again 1 more time."


def test_the_setting_retries_adds_rounds(server, store, log, naps, monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "2")
    server.script("a.txt", status(503), status(503))
    pup = pooch.create(store, server.url, registry=REGISTRY)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    assert len(log) == 1


def test_is_available(pup, server):
    assert pup.is_available("a.txt") is True
    del server.contents["a.txt"]
    assert pup.is_available("a.txt") is False
    assert {request.method for request in server.requests} == {"HEAD"}
    with pytest.raises(ValueError, match="not in the registry"):
        pup.is_available("b.txt")
    asked = []
    assert pup.is_available("a.txt", lambda *args, check_only: asked.append(args) or True)
    assert asked == [(server.url + "a.txt", None, pup)]
    with pytest.raises(NotImplementedError, match="does not support availability checks"):
        pup.is_available("a.txt", lambda url, output_file, pooch: None)


# -- downloaders -------------------------------------------------------------------------------


def test_a_downloader_of_the_user(pup, server, store):
    calls = []

    def download(url, output_file, caller):
        calls.append((url, caller))
        assert os.path.dirname(output_file) == str(store)
        Path(output_file).write_bytes(TEXT)

    assert Path(pup.fetch("a.txt", downloader=download)).read_bytes() == TEXT
    pup.fetch("a.txt", downloader=download)
    assert calls == [(server.url + "a.txt", pup)]
    assert not server.requests
    assert files_below(store) == {"a.txt"}


def test_a_downloader_may_put_another_file_in_place(pup, tmp_path):
    def download(url, output_file, caller):
        os.replace(written(tmp_path / "mine", TEXT), output_file)

    assert Path(pup.fetch("a.txt", downloader=download)).read_bytes() == TEXT


def test_a_downloader_that_fails_is_retried(server, store, log, naps):
    tries = iter([ValueError, requests.exceptions.Timeout, None, RuntimeError])

    def download(url, output_file, caller):
        with open(output_file, "ab") as file:
            file.write(TEXT)
        error = next(tries)
        if error:
            raise error("no luck")

    pup = pooch.create(store, server.url, registry=REGISTRY, retry_if_failed=2)
    assert Path(pup.fetch("a.txt", downloader=download)).read_bytes() == TEXT
    assert (len(log), naps) == (3, [1, 2])
    with pytest.raises(RuntimeError):
        pup.fetch("a.txt.gz", downloader=download)
    assert files_below(store) == {"a.txt"}


def test_a_downloader_with_wrong_bytes(pup, store):
    def download(url, output_file, caller):
        Path(output_file).write_bytes(b"wrong")

    with pytest.raises(ValueError, match=r"SHA256 hash of downloaded file \(b\.bin\)"):
        pup.fetch("sub/dir/b.bin", downloader=download)
    assert files_below(store) == set()


@pytest.mark.parametrize(
    "arguments",
    [{}, {"timeout": 5}, {"headers": {"User-Agent": "SciPy 1"}}, {"chunk_size": 7}],
    ids=str,
)
def test_our_transfer_replaces_pooch_s_http_downloader(pup, server, arguments):
    server.script("sub/dir/b.bin", cut(len(BINARY) // 2))
    downloader = pooch.HTTPDownloader(**arguments)
    assert Path(pup.fetch("sub/dir/b.bin", downloader=downloader)).read_bytes() == BINARY
    agents = {request.headers["user-agent"].split(" pkgdata/")[0] for request in server.requests}
    if "headers" in arguments:
        assert agents == {"SciPy 1"}
    assert all("pkgdata/" in request.headers["user-agent"] for request in server.requests)


@pytest.mark.parametrize(
    "arguments",
    [{"auth": ("me", "word")}, {"headers": {"X-Key": "1"}}, {"timeout": (1, 2)}],
    ids=str,
)
def test_with_other_arguments_it_is_pooch_s_own(pup, server, arguments):
    assert Path(pup.fetch("a.txt", downloader=pooch.HTTPDownloader(**arguments)))
    (request,) = server.requests
    assert "pkgdata/" not in request.headers["user-agent"]
    if "auth" in arguments:
        assert request.headers["authorization"].startswith("Basic ")


class Bar:
    """The least that pooch asks of a progress bar."""

    def __init__(self):
        self.total, self.count, self.calls = None, 0, []

    def update(self, count):
        self.count += count
        self.calls.append("update")

    def reset(self):
        self.count = 0
        self.calls.append("reset")

    def close(self):
        self.calls.append("close")


@pytest.mark.parametrize("through", ["fetch", "downloader"])
def test_a_progress_bar_of_the_user(pup, through):
    bar = Bar()
    if through == "fetch":
        pup.fetch("sub/dir/b.bin", progressbar=bar)
    else:
        pup.fetch("sub/dir/b.bin", downloader=pooch.HTTPDownloader(progressbar=bar))
    assert (bar.total, bar.count) == (len(BINARY), len(BINARY))
    assert bar.calls[-3:] == ["reset", "update", "close"]


def test_bars_are_drawn_only_when_asked_for(pup, capsys):
    pup.fetch("a.txt")
    assert "%" not in capsys.readouterr().err
    pup.fetch("sub/dir/b.bin", progressbar=True)
    assert "100%" in capsys.readouterr().err


class Repository:
    """What pooch makes of a DOI, without asking for it."""

    def __init__(self, server):
        self._server = server

    def download_url(self, file_name):
        return self._server.url + file_name

    def populate_registry(self, pup):
        pup.registry.update(REGISTRY)


def test_dois_are_resolved_by_pooch_and_fetched_by_ours(server, store, monkeypatch):
    asked: list[str] = []

    def find(doi, **kwargs):
        asked.append(doi)
        return Repository(server)

    monkeypatch.setattr("pooch.downloaders.doi_to_repository", find)
    pup = pooch.create(store, "doi:10.5281/zenodo.123/")
    pup.load_registry_from_doi()
    assert pup.registry == REGISTRY
    server.script("sub/dir/b.bin", cut(len(BINARY) // 2))
    for downloader in (None, pooch.DOIDownloader()):
        assert pup.fetch("sub/dir/b.bin", downloader=downloader)
        shutil.rmtree(store)
    assert asked == ["10.5281/zenodo.123/", "10.5281/zenodo.123", "10.5281/zenodo.123"]
    with pytest.raises(NotImplementedError):
        pup.is_available("a.txt")


def test_a_registry_is_loaded_only_from_a_doi(pup):
    with pytest.raises(ValueError, match="only implemented for DOIs"):
        pup.load_registry_from_doi()
