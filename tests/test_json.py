"""JSON and TOML that somebody else wrote: each reader names what it read, whatever is in there."""

from __future__ import annotations

import contextlib
import gzip
import http.server as http_server
import json
import os
import threading

import pytest

import pkgdata
from pkgdata.base import report, urls
from pkgdata.base.config import read
from pkgdata.catalog import index, places
from pkgdata.cli import main
from pkgdata.compat import cloudfiles
from pkgdata.compat.cloudfiles import paths
from pkgdata.compat.cloudfiles.place import _read
from pkgdata.datasets import operations, repository
from pkgdata.errors import (
    CatalogError,
    ConfigError,
    DatasetError,
    PkgdataError,
    RegistryError,
    StoreError,
)
from pkgdata.publish.rest import Rest, parsed
from pkgdata.stores import Store, http
from pkgdata.stores.job import Job
from pkgdata.stores.naming import read_secrets

#: What no reader takes, and what its error says of it.
BAD = {
    "deep list": (b"[" * 100_000, "nested too deeply"),
    "deep table": (b'{"a":' * 100_000, "nested too deeply"),
    "no JSON": (b"<html>", "not JSON"),
    "no UTF-8": (b'{"a": "\xff\xfe"}', "not JSON"),
    "digits": (b'{"a": ' + b"7" * 5000 + b"}", "not JSON"),
    "long": (b'{"a": "' + b"b" * 700_000 + b'"}', "more than 600000 bytes"),
}
every = pytest.mark.parametrize("kind", BAD)


@pytest.fixture(autouse=True)
def _few_bytes(monkeypatch):
    monkeypatch.setattr(report, "MOST_JSON", 600_000)
    monkeypatch.setattr(report.parse_json, "__defaults__", (600_000,))


def settings_of_datamaestro(path):
    file = places.UserSettings(os.path.dirname(path))
    file.file = path
    return file._load()


def aliases(path):
    paths._alias_file = lambda: path
    paths._from_file = None
    return paths._read_aliases()


#: What reads a file: the function, and the kind of its error.
FILES = {
    "secrets": (read_secrets, ConfigError),
    "metadata of a dataset": (operations._read_meta, DatasetError),
    "settings of datamaestro": (settings_of_datamaestro, CatalogError),
    "aliases of cloud-files": (aliases, ConfigError),
}


@every
@pytest.mark.parametrize("reader", FILES)
def test_an_error_names_the_file(tmp_path, monkeypatch, reader, kind):
    monkeypatch.setattr(paths, "_alias_file", paths._alias_file)
    monkeypatch.setattr(paths, "_from_file", None)
    content, said = BAD[kind]
    path = tmp_path / "found.json"
    path.write_bytes(content)
    function, error = FILES[reader]
    with pytest.raises(error) as caught:
        function(str(path))
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"[]", b'{"a": 1}', b'{"a": {}}', b'"text"'])
def test_aliases_of_another_form(tmp_path, monkeypatch, content):
    path = tmp_path / "aliases.json"
    path.write_bytes(content)
    monkeypatch.setattr(paths, "_alias_file", lambda: str(path))
    monkeypatch.setattr(paths, "_from_file", None)
    with pytest.raises(ConfigError, match=f"{path}: expected"):
        paths._read_aliases()


def test_secrets_with_the_mark_of_windows_editors(tmp_path):
    path = tmp_path / "secrets.json"
    path.write_bytes(b'\xef\xbb\xbf{"Token": "x"}')
    assert read_secrets(str(path)) == {"token": "x"}


@every
def test_secrets_as_a_text(kind):
    content = BAD[kind][0].decode(errors="replace")
    with pytest.raises(ConfigError, match="secrets: the text is not JSON"):
        _read("{" + content)


@every
def test_an_object_of_a_store(tmp_path, kind):
    content, said = BAD[kind]
    (tmp_path / "a.json").write_bytes(content)
    store = Store(tmp_path.as_uri())
    if kind == "long":  # the user's own object, which is in memory already
        assert store.get_json("a.json") == json.loads(content)
        return
    with pytest.raises(StoreError, match=said) as caught:
        store.get_json("a.json")
    assert "a.json" in str(caught.value)
    with pytest.raises(json.JSONDecodeError, match=f"a.json: {said}"):
        cloudfiles.CloudFiles(tmp_path.as_uri()).get_json("a.json")


@every
def test_the_answer_of_a_service(kind):
    content = BAD[kind][0].decode(errors="replace")
    if kind == "no UTF-8":
        return  # replaced, it is JSON
    with pytest.raises(StoreError, match="https://h/x: Zenodo answered with"):
        parsed(content, "https://h/x: Zenodo", "https://h/x")


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_an_answer_without_end_is_an_error_of_the_host(monkeypatch, coding):
    monkeypatch.setattr(http, "_MOST_ANSWER", 1 << 20)
    body = b" " * (8 << 20) + b"{}"

    class Handler(http_server.BaseHTTPRequestHandler):
        def do_GET(self):
            sent = gzip.compress(body) if coding == "gzip" else body
            self.send_response(200)
            self.send_header("Content-Encoding", coding)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(sent)

        def log_message(self, *_):
            pass

    server = http_server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        rest = Rest("Service", url, scheme="Bearer", secret=lambda: "", rights="")
        with pytest.raises(StoreError, match="more than 1048576 bytes") as caught:
            rest.json("GET", "x")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert f"{url}/x: the answer has" in str(caught.value)


@every
def test_metadata_of_publish(tmp_path, capsys, kind):
    content, said = BAD[kind]
    path = tmp_path / "more.json"
    path.write_bytes(content)
    assert main(["publish", str(tmp_path), "--to", "zenodo", "--metadata", str(path)]) == 1
    told = capsys.readouterr().err
    assert f"{path}: " in told
    assert said in told


@every
def test_headers_of_the_environment(monkeypatch, kind):
    monkeypatch.setenv("PKGDATA_HEADERS", BAD[kind][0].decode(errors="surrogateescape"))
    with pytest.raises(PkgdataError, match="PKGDATA_HEADERS"):
        pkgdata.conf.headers  # noqa: B018
    if kind == "no UTF-8":
        return  # as a text it is JSON, of another form
    with pytest.raises(ValueError, match=r"^(nested|not JSON|it has)"):
        urls.checked_headers(BAD[kind][0].decode(errors="surrogateescape"))


def test_a_long_toml_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("pkgdata.base.report.MOST_TOML", 1000)
    path = tmp_path / "pkgdata.toml"
    path.write_bytes(b'a = "' + b"b" * 1000 + b'"')
    with pytest.raises(ConfigError, match=f"{path}: it has more than 1000 bytes"):
        read(str(path))


def test_a_manifest_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(repository, "_STORED", 1000)
    (tmp_path / repository.manifest_name("sky")).write_bytes(os.urandom(2000))
    with pytest.raises(RegistryError, match="has more than 1000 bytes"):
        repository.read_manifest(Store(tmp_path.as_uri()), "sky")


@every
def test_an_index_of_the_catalog_that_is_damaged_counts_as_none(tmp_path, monkeypatch, kind):
    path = tmp_path / "index.json"
    path.write_bytes(BAD[kind][0])
    monkeypatch.setattr(index.Index, "file", str(path))
    assert index.Index(None)._load() == {}


@every
def test_a_job_of_cloud_files(tmp_path, kind):
    content, said = BAD[kind]
    if kind == "no UTF-8":
        said = "expected source"
    transfer = cloudfiles.ResumableTransfer(str(tmp_path / "job.db"))
    with Job(transfer.db_path, content.decode(errors="replace")):
        pass
    with pytest.raises(StoreError, match=f"{transfer.db_path}: not a job: .*{said.split()[0]}"):
        transfer.execute()
