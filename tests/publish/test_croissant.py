"""Croissant of Hugging Face, Kaggle, OpenML, a Dataverse and our own pages becomes a registry."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from publishing import make, run
from servers.hosting import Asked, Hosting, Refusal, Reply, answer

from pkgdata import Registry, cli
from pkgdata.errors import ConfigError, PkgdataWarning, RegistryError, StoreError
from pkgdata.publish import records

TOLD = Path(__file__).parent.parent / "data" / "croissant"


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"


def rows(registry):
    return {one.name: (str(one.digest), one.size, one.urls) for one in registry.values()}


def test_kaggle():
    found = records.from_record(str(TOLD / "kaggle.json"))
    url = "https://www.kaggle.com/api/v1/datasets/download/org/sky?datasetVersionNumber=4"
    assert rows(found) == {"archive.zip": (md5(b"zip"), None, (url,))}, "a rounded size is none"
    assert found.about["license"] == "https://creativecommons.org/licenses/by/4.0/"


def test_openml():
    found = records.from_record(str(TOLD / "openml.json"))
    url = "https://data.openml.org/datasets/0000/0061/dataset_61.pq"
    assert rows(found) == {"dataset_61.pq": (md5(b"pq"), None, (url,))}
    assert found.about["citation"] == "https://example.org/paper"


def test_a_dataverse():
    found = records.from_record(str(TOLD / "dataverse.json"))
    base = "https://dataverse.example.edu/api/access/datafile"
    assert rows(found) == {
        "doc/README.md": (md5(b"readme"), 28, (f"{base}/5",)),
        "data/auto.dta": (md5(b"dta"), 6443, (f"{base}/6?format=original",)),
    }


class HuggingFace(Hosting):
    """The part of the hub that lists a repository, in two pages, and serves Croissant."""

    def __init__(self) -> None:
        super().__init__("site")
        self.site = self.origin("site")
        text = (TOLD / "huggingface.json").read_text().replace("https://huggingface.co", self.site)
        self.croissant = text

    def route(self, asked: Asked) -> Reply:
        if asked.path == "/api/datasets/org/sky/croissant":
            return Reply(200, self.croissant.encode())
        if "/tree/refs" not in asked.path:
            raise Refusal(404, {})
        lfs = {"oid": hashlib.sha256(b"1").hexdigest(), "size": 1, "pointerSize": 130}
        if "cursor" in asked.query:
            row = {"type": "file", "path": "default/train/small.parquet", "oid": "a", "size": 3}
            return answer([row])
        rows = [
            {"type": "directory", "path": "default", "oid": "b", "size": 0},
            {
                "type": "file",
                "path": "default/train/0 0.parquet",
                "oid": "c",
                "size": 1,
                "lfs": lfs,
            },
            {"type": "file", "path": "other/x.parquet", "oid": "d", "size": 1, "lfs": lfs},
        ]
        reply = answer(rows)
        following = f"<{self.site}{asked.path}?recursive=true&cursor=x>"
        reply.headers["Link"] = f'{following}; rel="next"'
        return reply


def test_hugging_face(monkeypatch):
    with HuggingFace() as server:
        monkeypatch.setitem(records.SITES, "huggingface", server.site)
        with pytest.warns(PkgdataWarning, match="1 small files are left out"):
            found = records.from_record(f"{server.site}/api/datasets/org/sky/croissant")
        base = f"{server.site}/datasets/org/sky/resolve/refs%2Fconvert%2Fparquet"
        url = f"{base}/default/train/0%200.parquet"
        digest = f"sha256:{hashlib.sha256(b'1').hexdigest()}"
        assert rows(found) == {"default/train/0 0.parquet": (digest, 1, (url,))}
        monkeypatch.setitem(records.SITES, "huggingface", "https://huggingface.co")
        with pytest.raises(ConfigError, match="none of Hugging Face"):
            records.from_record(f"{server.site}/api/datasets/org/sky/croissant")


def test_our_own_page_tells_the_registry_again(tmp_path, capsys):
    here = make(tmp_path / "files")
    url = "https://host/sky/"
    place = ["--to", f"file:{tmp_path / 'web'}", "--index"]
    assert run(here, *place).returncode == 0
    page = tmp_path / "web" / "index.html"
    page.write_text(
        page.read_text("utf-8").replace('"contentUrl":"./', f'"contentUrl":"{url}'), "utf-8"
    )
    registry = tmp_path / "again.txt"
    assert cli.main(["registry", "update", str(registry), "--from", str(page)]) == 0
    told = capsys.readouterr().err
    assert "4 new" in told
    assert 'description = "4 files of files"' in told
    published = Registry.load(here / "registry.txt")
    found = Registry.load(registry)
    assert {n: (e.digest, e.size) for n, e in found.items()} == {
        n: (e.digest, e.size) for n, e in published.items()
    }
    assert all(entry.urls[0].startswith(url) for entry in found.values())


def test_addresses_next_to_a_page_that_is_read_where_it_is_served(tmp_path, httpserver):
    here = make(tmp_path / "files")
    assert run(here, "--to", f"file:{tmp_path / 'web'}", "--index").returncode == 0
    page = (tmp_path / "web" / "index.html").read_bytes()
    httpserver.expect_request("/sky/index.html").respond_with_data(page, content_type="text/html")
    found = records.from_record(httpserver.url_for("/sky/index.html"))
    assert found["stars.csv"].urls == (httpserver.url_for("/sky/stars.csv"),)
    assert len(found) == 4
    with (
        pytest.warns(PkgdataWarning, match="left out"),
        pytest.raises(RegistryError, match="shows no files"),
    ):
        records.from_record(str(tmp_path / "web" / "index.html"))


def damaged(tmp_path, **changes):
    facts = json.loads((TOLD / "dataverse.json").read_text())
    path = tmp_path / "croissant.json"
    path.write_text(json.dumps({**facts, **changes}))
    return str(path)


FILE = {"@type": "cr:FileObject", "name": "a.csv", "contentUrl": "https://h/a.csv", "md5": "0" * 32}


@pytest.mark.parametrize(
    ("distribution", "error", "words"),
    [
        ([], RegistryError, "shows no files"),
        ("https://h/", RegistryError, "shows no files"),
        ([{**FILE, "containedIn": {"@id": "x.zip"}}], RegistryError, "shows no files"),
        ([FILE, FILE], RegistryError, "two files of the name"),
        ([{**FILE, "name": "../a"}], ValueError, r"\.\."),
        ([{**FILE, "name": 3}], StoreError, "expected a text of 'name'"),
        ([{**FILE, "contentUrl": "javascript://x"}], StoreError, "a web address"),
        ([{**FILE, "contentUrl": "file:///etc/passwd"}], StoreError, "a web address"),
    ],
)
def test_what_is_damaged_is_named(tmp_path, distribution, error, words):
    with pytest.raises(error, match=words):
        records.from_record(damaged(tmp_path, distribution=distribution))


@pytest.mark.parametrize(
    "change",
    [
        {"md5": "x"},
        {"md5": "AA=="},
        {"md5": 3},
        {"contentUrl": "a.csv"},
        {"contentUrl": "https://[::1/b.csv"},
    ],
)
def test_a_file_without_a_digest_or_an_address_is_left_out(tmp_path, change):
    files = [FILE, {**FILE, "name": "b.csv", **change}]
    with pytest.warns(PkgdataWarning, match=r"left out.*b\.csv"):
        found = records.from_record(damaged(tmp_path, distribution=files))
    assert [*found] == ["a.csv"]


def test_a_page_of_many_beginnings_is_read_in_little_time(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<script type="application/ld+json">' * 50_000)  # by the square it is minutes
    with pytest.raises(RegistryError):
        records.from_record(str(page))


def test_size_and_depth_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "croissant.json"
    path.write_text('{"distribution":' + "[" * 200_000)
    with pytest.raises(RegistryError, match="nested too deeply"):
        records.from_record(str(path))
    path.write_text("{}")
    with pytest.raises(RegistryError, match="no Croissant"):
        records.from_record(str(path))
    monkeypatch.setattr(records, "MOST_JSON", 100)
    path.write_text(" " * 200)
    with pytest.raises(RegistryError, match="more than 100 bytes"):
        records.from_record(str(path))
