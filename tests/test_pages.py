"""The pages that pkgdata writes: nothing serious for axe-core, on a screen and on a phone."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from chromium import Chromium, axe

SCRIPT = Path(__file__).parent.parent / "scripts" / "screenshots.py"

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def script():
    if not SCRIPT.exists():
        pytest.skip("the scripts are in a checkout alone")
    spec = importlib.util.spec_from_file_location("screenshots", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    axe()
    with Chromium(tmp_path_factory.mktemp("browser") / "chromium") as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(script, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("pages")
        patch.setenv("PKGDATA_CACHE_DIR", str(folder / "cache"))
        return dict(script.pages(folder))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "narrow"])
@pytest.mark.parametrize("name", ["landing", "catalog", "docs"])
def test_nothing_serious(browser, script, pages, name, size, dark):
    if name not in pages:
        pytest.skip("scripts/docs has not built the docs")
    width, height = script.SIZES[size]
    browser.resize(width, height, dark=dark)
    browser.open(pages[name])
    # what is folded is looked at, too
    browser.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.serious() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    # the theme of the docs asks a web server for a list of versions
    assert name == "docs" or browser.complaints() == []


def test_axe_finds_what_is_wrong(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<html><body><img src='data:,'><p style='color:#ccc'>pale</p></body></html>")
    browser.open(path.as_uri())
    found = "\n".join(browser.serious())
    for rule in ("image-alt", "color-contrast", "html-has-lang"):
        assert rule in found
