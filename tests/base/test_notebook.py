"""What notebooks show: escaped tables for which nothing is fetched, hashed or written."""

from __future__ import annotations

import hashlib
from html.parser import HTMLParser

import pytest
from cataloging import Plugins
from chromium import Chromium
from notebooks import executed, written

import pkgdata
from pkgdata.base import hashes
from pkgdata.base.report import HostShare, Report

EVIL = "<script>alert('x')</script>&\u202e"


class Checked(HTMLParser):
    """The text of HTML whose tags are closed in order; scripts and handlers are refused."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text = [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "img", "iframe")
        assert not any(name.startswith("on") for name, _ in attrs)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += " " + data.strip()


def shown(value):
    """Return the text that a notebook shows of an object."""
    return " ".join(Checked(value._repr_html_()).text.split())


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "here.txt").write_bytes(b"here")
    registry = pkgdata.Registry.parse(
        f"#: size=4\nhere.txt {digest(b'here')}\n#: size=2000\nfar.bin {digest(b'far')}\n"
    )
    return pkgdata.declare(
        "showpkg",
        dataurl="https://user:password@data.example.org/v1/",
        registry=registry,
        folders=[folder],
        verify="always",
    )


def test_a_package_says_what_is_here_and_hashes_nothing(data, tmp_path, monkeypatch):
    def refused(*_):
        raise AssertionError("a file was hashed")

    monkeypatch.setattr(hashes, "hash_file", refused)
    text = shown(data)
    assert "PackageData showpkg: https://***@data.example.org/v1/ files" in text
    assert "2 files, 2 kB" in text
    assert f"here.txt 4 B package folder: {tmp_path / 'shelf' / 'here.txt'}" in text
    assert "far.bin 2 kB no" in text
    assert "password" not in text
    assert not (tmp_path / "cache").exists()


def test_a_file_in_the_cache_is_here(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.txt").write_bytes(b"a")
    data = pkgdata.declare(
        "showpkg", dataurl=tmp_path.joinpath("web").as_uri(), registry={"a.txt": digest(b"a")}
    )
    assert "a.txt no" in shown(data)
    path = data.get("a.txt")
    assert f"a.txt user cache: {path}" in shown(data)


def test_many_files_are_a_short_table():
    names = [f"{number:04}.txt" for number in range(1000)]
    registry = pkgdata.Registry.parse("".join(f"{name} {digest(b'')}\n" for name in names))
    text = shown(registry)
    assert "0029.txt" in text
    assert "0030.txt" not in text
    assert text.endswith("… and 970 more")


def test_a_package_whose_registry_is_missing_shows_the_problem(tmp_path):
    data = pkgdata.declare("showpkg", dataurl="https://h/", registry=tmp_path / "gone.txt")
    assert "problem" in shown(data)
    assert "gone.txt" in shown(data)


def test_the_places_of_a_file(data):
    places = data.where("here.txt")
    assert isinstance(places, list)
    text = shown(places)
    assert "package folder found" in text
    assert "mirror not tried https://***@data.example.org/v1/here.txt" in text


def test_a_report_shows_failures_first():
    report = Report(lambda names: report)
    report.succeeded["a.txt"] = "/data/a.txt"
    report.new["a.txt"] = 1000
    report.failed["b.txt"] = pkgdata.StoreError(f"{EVIL} is down\nmore")
    report.hosts["n1"] = HostShare(1000, 500, 2.0, 3)
    text = shown(report)
    assert text.index("b.txt failed") < text.index("a.txt new /data/a.txt")
    assert "n1 3 files, 1 kB from the origin, 500 B from peers, 2 s" in text


def test_a_store_shows_no_secrets_and_asks_nothing():
    store = pkgdata.Store("https://me:password@127.0.0.1:9/", timeout=3, threads=2)
    text = shown(store)
    assert "HttpStore https://***@127.0.0.1:9/" in text
    assert "threads 2" in text
    assert "password" not in store._repr_html_()


def test_a_dataset_shows_its_partitions(tmp_path):
    (tmp_path / "flower" / "data" / "train").mkdir(parents=True)
    (tmp_path / "flower" / "meta.json").write_text('{"licence": "<b>CC0</b>"}')
    text = shown(pkgdata.Dataset(tmp_path / "flower"))
    assert "Dataset flower" in text
    assert "licence <b>CC0</b>" in text
    assert f"train {tmp_path / 'flower' / 'data' / 'train'}" in text


def test_a_search_of_the_catalog(tmp_path, monkeypatch):
    plugins = Plugins(tmp_path)
    monkeypatch.syspath_prepend(str(plugins.lib))
    plugins.add(
        {"org.py": '@datatags("stars")\n@dataset(File)\ndef sky():\n    """All <b>sky</b>."""\n'}
    )
    found = pkgdata.Catalog().search("sky")
    assert isinstance(found, list)
    assert "1 dataset found" in shown(found)
    assert "org.sky All <b>sky</b>. stars pkgdata.catalog" in shown(found)
    assert "0 datasets found" in shown(pkgdata.Catalog().search("nothing-like-it"))


def test_settings_show_where_they_come_from_and_no_secrets(monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "7")
    monkeypatch.setenv("PKGDATA_HEADERS", '{"https://h/": {"Authorization": "Bearer hidden"}}')
    text = shown(pkgdata.conf)
    assert "retries 7 PKGDATA_RETRIES" in text
    assert "hidden" not in text


def test_everything_is_escaped():
    registry = pkgdata.Registry([pkgdata.Entry("a&b.txt", None, 1, ())])
    registry.file = EVIL
    html = registry._repr_html_()
    assert "<script" not in html
    assert "\u202e" not in html
    assert "a&amp;b.txt" in html
    assert EVIL[:8] in shown(registry)


@pytest.mark.integration
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_executed_notebook_can_be_read_in_both_themes(tmp_path, theme):
    book = executed(tmp_path)
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert sum("text/html" in one.get("data", {}) for one in outputs) == 8
    assert [one.output_type for one in outputs if one.output_type == "stream"] == []  # no warning
    (bar,) = (
        one.data for one in outputs if "<progress" in one.get("data", {}).get("text/html", "")
    )
    assert "100%" in bar["text/plain"]
    page = written(book, tmp_path / "page.html", theme)
    with Chromium(tmp_path / "chromium") as browser:
        for width in (1280, 390):
            browser.resize(width, 900, dark=theme == "dark")
            browser.open(page.as_uri())
            assert browser.evaluate("document.querySelectorAll('.pkgdata td').length") > 20
            assert browser.serious("'.pkgdata'") == []
