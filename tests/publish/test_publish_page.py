"""The landing page: its text for itself, and in a real browser, wide, narrow and by keyboard."""

from __future__ import annotations

import hashlib
import html
import html.parser
import json
import os
import subprocess
import sys
import warnings
from urllib.parse import unquote

import pytest
from chromium import Chromium
from nginx import Nginx
from publishing import FILES, contents, environment, make, publish, run, sha

import pkgdata
import pkgdata.core.declaration
from pkgdata import Digest, Entry
from pkgdata.errors import PublishError
from pkgdata.publish import destination_for, landing
from pkgdata.publish.engine import Publication
from pkgdata.publish.landing import About

ODD = {**FILES, "<b>&\"'.txt": b"odd", "ab:c.txt": b"colon", "large.bin": bytes(2_500_000)}


def entries(files=ODD):
    return [
        Entry(name, Digest("sha256", sha(content)), len(content))
        for name, content in sorted(files.items())
    ]


class Reader(html.parser.HTMLParser):
    """Collects the links and the text of a page, and checks that every element is closed."""

    VOID = ("meta", "br", "input", "img")

    def __init__(self, text):
        super().__init__()
        self.links, self.files, self.text, self.open, self.sources = [], [], "", [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.sources += [found[name] for name in ("src",) if name in found]
        if tag == "a":
            (self.files if "download" in found else self.links).append(found["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def test_all_is_in_the_text_itself():
    found = Reader(landing.page(About("my <data>"), entries(), "https://host/x/"))
    assert [unquote(link) for link in found.files] == [f"./{name}" for name in sorted(ODD)]
    for name, content in ODD.items():
        assert name in found.text
        assert f"sha256:{sha(content)}" in found.text
    assert "2.5 MB" in found.text
    assert "my <data>" in found.text
    assert not found.sources, "nothing is loaded from elsewhere"


def test_the_snippet_runs(tmp_path):
    make(tmp_path / "web", ODD)
    found = Reader(landing.page(About("my <data>"), entries(), (tmp_path / "web").as_uri()))
    snippet = found.text[found.text.index("import pkgdata") :].split("Copy")[0]
    names = {}
    exec(snippet, names)
    with open(names["path"], "rb") as file:
        assert file.read() == ODD[min(ODD)]
    assert isinstance(names["data"], pkgdata.PackageData)


def test_a_page_of_somebody_else_is_not_replaced(tmp_path):
    here = make(tmp_path / "files")
    make(tmp_path / "web", {"index.html": b"<html>mine</html>"})
    done = run(here, "--to", f"file:{tmp_path / 'web'}", "--index")
    assert done.returncode == 1
    assert "pkgdata did not write" in done.stderr
    assert contents(tmp_path / "web") == {"index.html": b"<html>mine</html>"}


def test_an_index_among_the_files(tmp_path):
    here = make(tmp_path / "files", {**FILES, "index.html": b"data"})
    done = run(here, "--to", f"file:{tmp_path / 'web'}", "--index")
    assert done.returncode == 1
    assert "has an index.html of its own" in done.stderr
    assert not (tmp_path / "web").exists()


def test_our_own_page_is_made_anew(tmp_path):
    here, registry = make(tmp_path / "files"), tmp_path / "registry.txt"
    place = destination_for(f"file:{tmp_path / 'web'}")
    for number in range(2):
        make(here, {f"more-{number}": b""})
        with Publication(str(here), [place], str(registry)) as work:
            work.plan()
            work.check_page()
            work.upload()
            work.record()
            assert work.add_page("t") == [(tmp_path / "web" / "index.html").as_uri()]
    assert "more-1" in (tmp_path / "web" / "index.html").read_text("utf-8")
    assert "index.html" not in registry.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["--replace", "stars.csv"], ["--replace", "stars.csv", "--index"]]
)
def test_the_page_names_the_digest_of_a_file_that_is_replaced(tmp_path, words):
    here, web = make(tmp_path / "files"), tmp_path / "web"
    assert run(here, "--to", f"file:{web}", "--index").returncode == 0
    make(here, {"stars.csv": b"new"})
    done = run(here, "--to", f"file:{web}", *words)
    assert done.returncode == 0, done.stderr
    assert f"page: {web.as_uri()}/index.html" in done.stderr
    text = (web / "index.html").read_text("utf-8")
    assert sha(b"new") in text
    assert sha(FILES["stars.csv"]) not in text


def test_the_page_still_lists_the_files_of_an_earlier_run(tmp_path):
    web, registry = tmp_path / "web", tmp_path / "registry.txt"
    words = ["--to", f"file:{web}", "--registry", registry]
    assert run(make(tmp_path / "files", ODD), *words, "--index").returncode == 0
    assert run(make(tmp_path / "more", {"more.txt": b"more"}), *words).returncode == 0
    found = Reader((web / "index.html").read_text("utf-8"))
    assert {unquote(link) for link in found.files} == {f"./{name}" for name in [*ODD, "more.txt"]}


def test_a_page_of_somebody_else_stays_and_is_no_reason_to_stop(tmp_path):
    here, web = (
        make(tmp_path / "files"),
        make(tmp_path / "web", {"index.html": b"<html>mine</html>"}),
    )
    done = run(here, "--to", f"file:{web}")
    assert done.returncode == 0, done.stderr
    assert (web / "index.html").read_bytes() == b"<html>mine</html>"


def test_no_page_where_nobody_would_see_it(monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_TOKEN", "x")
    done = run(make(tmp_path / "files"), "--to", "github:me/it@v1", "--index")
    assert done.returncode == 1
    assert "none of these destinations shows an index.html" in done.stderr


def test_a_page_of_a_place_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    make(tmp_path / "web", {"index.html": b"?"})
    place = destination_for(f"file:{tmp_path / 'web'}", public_url="http://127.0.0.1:9/")
    with pytest.raises((PublishError, OSError)):
        landing.check_page(place)


# -- in a browser ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("browser") / "chromium") as browser:
        yield browser


@pytest.fixture
def site(tmp_path):
    here = make(tmp_path / "files", ODD)
    web = tmp_path / "web"
    place = destination_for(f"file:{web}")
    types = "types { text/html html; }"
    with (
        Nginx(tmp_path / "nginx", web, types) as server,
        Publication(str(here), [place], str(tmp_path / "registry.txt")) as work,
    ):
        work.plan()
        work.upload()
        work.record()
        place._public_url = server.url
        work.add_page("Maps of the sky")
        yield server.url, web


SHOWN = "[...document.querySelectorAll('.files > tbody > tr')].filter(r => r.checkVisibility())"
NAMES = f"{SHOWN}.map(r => r.querySelector('a').textContent)"


@pytest.mark.integration
def test_links_download_the_right_bytes(browser, site):
    browser.resize(1200, 900)
    browser.open(f"{site[0]}index.html")
    assert sorted(browser.evaluate(NAMES)) == sorted(ODD)
    for name, content in ODD.items():
        wanted = json.dumps(name)
        link = f"[...document.querySelectorAll('a')].find(a => a.textContent === {wanted})"
        assert browser.download(link) == content, name
    assert browser.complaints() == []


@pytest.mark.integration
def test_the_search(browser, site):
    browser.resize(1200, 900)
    browser.open(f"{site[0]}index.html")
    assert browser.evaluate("document.getElementById('count').textContent") == "7 of 7 files"
    browser.press("/", "/")
    assert browser.evaluate("document.activeElement.id") == "search"
    assert browser.evaluate("document.activeElement.value") == ""
    browser.type("maps DUST")
    assert browser.evaluate(NAMES) == ["maps/dust map.fits"]
    assert browser.evaluate("document.getElementById('count').textContent") == "1 of 7 files"
    browser.press("Escape", code=27)
    assert len(browser.evaluate(NAMES)) == len(ODD)
    browser.type(sha(b"odd")[:12])
    assert browser.evaluate(NAMES) == ["<b>&\"'.txt"]


@pytest.mark.integration
def test_the_keyboard_reaches_everything(browser, site):
    browser.resize(1200, 900)
    browser.open(f"{site[0]}index.html")
    seen = []
    for _ in range(40):
        browser.press("Tab", code=9)
        active = "document.activeElement"
        seen.append(browser.evaluate(f"{active}.id || {active}.textContent"))
        if seen[-1] in ODD:
            outline = browser.evaluate(f"getComputedStyle({active}).outlineStyle")
            assert outline == "solid", "it can be seen where the focus is"
    assert "search" in seen
    assert set(ODD) <= set(seen)


@pytest.mark.integration
@pytest.mark.parametrize(("width", "height"), [(1200, 900), (360, 740)], ids=["wide", "narrow"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_layouts(browser, site, tmp_path, width, height, dark):
    browser.resize(width, height, dark=dark)
    browser.open(f"{site[0]}index.html")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    display = browser.evaluate("getComputedStyle(document.querySelector('tbody td')).display")
    assert display == ("block" if width < 500 else "table-cell")
    # every size is read beside its name, not cut off
    boxes = browser.evaluate(
        f"{SHOWN}.map(r => [...r.children].map(c => c.getBoundingClientRect()))"
        ".map(r => r.map(b => [b.left, b.right]))"
    )
    assert all(0 <= left <= right <= width for row in boxes for left, right in row)
    picture = browser.screenshot(tmp_path / f"page-{width}-{'dark' if dark else 'light'}.png")
    assert picture.startswith(b"\x89PNG")
    background = browser.evaluate("getComputedStyle(document.documentElement).colorScheme")
    assert background == "light dark"


@pytest.mark.integration
def test_without_javascript(browser, site):
    browser.resize(1200, 900)
    browser.open(f"{site[0]}index.html", script=False)
    # scripts of ours still run in the page for the test; those of the page itself do not
    assert browser.evaluate("document.getElementById('tools').checkVisibility()") is False
    assert sorted(browser.evaluate(NAMES)) == sorted(ODD)
    assert sha(ODD["stars.csv"]) in browser.evaluate("document.body.innerText")


@pytest.mark.integration
def test_without_a_server(browser, site):
    browser.resize(1200, 900)
    browser.open((site[1] / "index.html").as_uri())
    assert sorted(browser.evaluate(NAMES)) == sorted(ODD)
    browser.press("/", "/")
    browser.type("stars")
    assert browser.evaluate(NAMES) == ["stars.csv"]
    link = "document.querySelector('tr[data-name]:not([hidden]) a')"
    assert browser.download(link) == ODD["stars.csv"]


@pytest.mark.integration
def test_the_snippet_is_copied(browser, site):
    browser.resize(1200, 900)
    browser.open(f"{site[0]}index.html")
    # what is put on the clipboard can be read only by a window that has the focus
    browser.evaluate("navigator.clipboard.writeText = async text => { window.copied = text; }")
    button = "document.querySelector('#panel-python .copy')"
    browser.evaluate(f"{button}.click()")
    assert f"dataurl='{site[0]}'" in browser.evaluate("window.copied")
    assert browser.evaluate(f"{button}.textContent") == "Copied"


def test_a_title_is_the_folder_or_the_package(tmp_path):
    here = make(tmp_path / "my files")
    assert run(here, "--to", f"file:{tmp_path / 'web'}", "--index").returncode == 0
    assert "<title>my files</title>" in (tmp_path / "web" / "index.html").read_text("utf-8")
    assert publish(here, f"file:{tmp_path / 'web'}", here / "registry.txt")[1] == 0


# -- what it says of the whole -------------------------------------------------------------------


def package(folder, to, **keys):
    """Make a package whose data are published with a page."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    toml = "\n".join(["[package]", 'name = "sky"', *lines, "[publish]", "index = true"])
    make(folder, {"pkgdata.toml": f'{toml}\nto = ["{to}"]\n'.encode(), "__init__.py": b""})
    return folder


ABOUT = {
    "description": "Maps of the sky & more.",
    "license": "CC-BY-4.0",
    "citation": "Doe, J. (2026). https://doi.org/10.5281/zenodo.7654321.",
    "homepage": "https://example.org/sky/",
}


@pytest.mark.slow
def test_description_licence_citation_homepage_and_versions(tmp_path):
    here = make(tmp_path / "files")
    make(tmp_path / "web", {"v0.9/index.html": b"", "v0.8/x": b"", "old/index.html": b""})
    for version in ("1.9", "1.10"):
        where = package(
            tmp_path / "sky", f"file:{tmp_path}/web/v{{version}}", version=version, **ABOUT
        )
        done = run(here, "--package", where)
        assert done.returncode == 0, done.stderr
    text = (tmp_path / "web" / "v1.10" / "index.html").read_text("utf-8")
    found = Reader(text)
    for words in ("Maps of the sky & more.", "CC-BY-4.0", "Doe, J. (2026)", "example.org/sky"):
        assert words in found.text
    assert "https://spdx.org/licenses/CC-BY-4.0.html" in found.links
    assert "https://doi.org/10.5281/zenodo.7654321" in found.links
    others = [link for link in found.links if link.startswith("../")]
    assert others == ["../v1.9/index.html", "../v0.9/index.html"], "those with a page, newest first"
    data = pkgdata.core.declaration.find_package(str(where))
    assert data.version == "1.10", "what describes the data is no argument of theirs"


def test_a_link_that_is_a_script_is_none():
    about = About("t", license="javascript:alert(1)", homepage="javascript:alert(1)")
    found = Reader(landing.page(about, entries(), "https://host/x/"))
    assert not [link for link in found.links if "javascript" in link]


def metadata(text):
    body = text.partition('<script type="application/ld+json">')[2].partition("</script>")[0]
    return json.loads(body)


def test_the_metadata_are_those_of_the_files(tmp_path):
    here = make(tmp_path / "files", ODD)
    (tmp_path / "files" / "registry.txt").write_text(
        f"stars.csv md5:{hashlib.md5(ODD['stars.csv']).hexdigest()}\n"
    )
    assert run(here, "--to", f"file:{tmp_path / 'web'}", "--index").returncode == 0
    found = metadata((tmp_path / "web" / "index.html").read_text("utf-8"))
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    files = {one["name"]: one for one in found["distribution"]}
    assert files.keys() == ODD.keys()
    for name, content in ODD.items():
        assert files[name]["sha256"] == sha(content)
        assert files[name]["contentSize"] == f"{len(content)} B"
        assert unquote(files[name]["contentUrl"]) == f"./{name}", "it is not served yet"


def test_a_folder_that_is_not_served_yet(tmp_path):
    here, web = make(tmp_path / "files", ODD), tmp_path / "web"
    done = run(here, "--to", f"file:{web}", "--index")
    assert done.returncode == 0
    text = (web / "index.html").read_text("utf-8")
    assert str(tmp_path) not in text, "nothing of this machine"
    assert "https://HOST/FOLDER/" in text
    assert f"{web.as_uri()} only serves this machine" in done.stderr
    assert "publish again with --url URL" in done.stderr


@pytest.mark.integration
def test_the_page_of_a_folder_that_is_served_later(tmp_path, browser):
    here, web = make(tmp_path / "files", ODD), tmp_path / "web"
    assert run(here, "--to", f"file:{web}", "--index").returncode == 0
    with Nginx(tmp_path / "nginx", web, "types { text/html html; }") as server:
        browser.open(f"{server.url}index.html")
        code = browser.evaluate("document.querySelector('#panel-python code').textContent")
        assert f"dataurl='{server.url}'" in code
        done = run(here, "--to", f"file:{web}", "--url", server.url)
        assert done.returncode == 0
        assert "only serves this machine" not in done.stderr
        assert server.url in (web / "index.html").read_text("utf-8"), "the page is made again"
        found = metadata((web / "index.html").read_text("utf-8"))
        assert {one["contentUrl"].startswith(server.url) for one in found["distribution"]} == {True}


def test_a_folder_that_is_not_read_back_is_no_dataurl(tmp_path):
    here, web, other = make(tmp_path / "files"), tmp_path / "web", tmp_path / "other"
    other.mkdir()
    done = run(here, "--to", f"file:{web}", "--url", other.as_uri(), "--index")
    assert done.returncode == 3
    assert "dataurl" not in done.stderr
    assert "only serves" not in done.stderr
    done = run(here, "--to", f"file:{web}", "--url", other.as_uri(), "--json")
    assert json.loads(done.stdout)["dataurl"] == []


@pytest.mark.apart
@pytest.mark.integration
def test_the_metadata_are_croissant(tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant", reason="pip install mlcroissant")
    about = About("sky", **ABOUT, version="1.2.0")
    text = landing.page(about, entries(), "https://host/x/")
    path = tmp_path / "croissant.json"
    path.write_text(json.dumps(metadata(text)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = mlcroissant.Dataset(str(path)).metadata
    assert not found.ctx.issues.errors
    assert (found.name, found.license, found.version) == (
        "sky", ["https://spdx.org/licenses/CC-BY-4.0.html"], "1.2.0"
    )  # fmt: skip
    assert found.cite_as == ABOUT["citation"]
    files = {one.name: one.sha256 for one in found.distribution}
    assert files == {name: sha(content) for name, content in ODD.items()}


@pytest.mark.integration
def test_the_lines_for_every_tool_fetch_the_file(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (site[1] / "index.html").read_text("utf-8")
    parts = [part.partition("</code>")[0] for part in text.split("<code>")[1:]]
    python, shell, pooch, curl = map(html.unescape, parts)
    first, content = min(ODD), ODD[min(ODD)]
    for code in (python, pooch):
        names = {}
        exec(code, names)
        with open(names["path"], "rb") as file:
            assert file.read() == content
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pkgdata").write_text(f'#!/bin/sh\nexec {sys.executable} -m pkgdata "$@"\n')
    (tmp_path / "bin" / "pkgdata").chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    for code in (shell.partition("\n")[2], curl):
        (tmp_path / first).unlink(missing_ok=True)
        done = subprocess.run(
            ["sh", "-ec", code], env=environment({"PATH": path}), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / first).read_bytes() == content
