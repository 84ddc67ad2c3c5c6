"""Datasets by name: names, processes and threads, digests, public names."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cataloging import one, paths_below, sha

import pkgdata
from pkgdata import catalog, errors
from pkgdata.catalog import places, resources

# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "name", "wanted", "expected", "alias"),
    [
        ("com.lecun", "MNIST", None, "com.lecun.mnist", None),
        ("com.lecun", "ProcessedMNIST", None, "com.lecun.processed.mnist", None),
        ("com.lecun", "my_data", None, "com.lecun.my_data", "com.lecun.my.data"),
        ("com.Lecun", "A", None, "com.lecun.a", "com.Lecun.a"),
        ("com.lecun", "A", "", "com.lecun", None),
        ("com.lecun", "A", "v2", "com.lecun.v2", None),
        ("com.lecun", "A", ".8.topics", "com.lecun.8.topics", None),
        ("com.lecun", "A", "org.example.b", "org.example.b", "com.lecun.org.example.b"),
        ("", "A", "org.example.b", "org.example.b", None),
    ],
)
def test_the_name_of_a_definition(place, name, wanted, expected, alias):
    found, aliases = places.definition_name(place, name, wanted)
    assert found == expected
    assert alias is None or alias in aliases


@pytest.mark.parametrize("wanted", ["a..b", "a/../b.c", "a.b c", ".", "..", "a.b/c"])
def test_what_is_no_name_is_refused(wanted):
    with pytest.raises(errors.CatalogError, match="is not a valid dataset name"):
        places.definition_name("com.example", "f", wanted)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://yann.lecun.com/exdb/mnist/", "com.lecun.yann.exdb.mnist"),
        ("https://www.example.org/a%20b/index.html", "org.example.a_b"),
        ("https://example.org", "org.example"),
        ("https://user:pw@example.org:8080/x.php?y=1#z", "org.example.x"),
    ],
)
def test_a_page_suggests_a_name(url, name):
    assert places.url_name(url) == name


def test_an_unknown_name_suggests_similar_ones():
    known = ["com.lecun.mnist", "org.example.cifar", "com.lecun.emnist"]
    assert places.close_names("mnist", known)[0] == "com.lecun.mnist"
    assert "com.lecun.mnist" in places.close_names("com.lecum.mnist", known)
    assert places.close_names("nothing.alike.zzz", known) == []


# -- processes -------------------------------------------------------------------------------

SLOW = """
@dataset()
class Slow(Folder):
    PATH = custom_download("made", lambda context, folder: fill(folder))

def fill(folder):
    import os, sys
    (folder / "a").write_text("a")
    print("half", flush=True)
    sys.stdin.read()
    (folder / "b").write_text("b")
"""

CHILD = """
import pkgdata
path = pkgdata.prepare_dataset("com.example.slow").path
print(sorted(one.name for one in path.iterdir()), flush=True)
"""


def child(plugins):
    root = str(Path(pkgdata.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(plugins.lib), root])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name == "nt", reason="kills as on Unix")
def test_a_killed_process_leaves_nothing_under_the_name(plugins, data):
    one(plugins, SLOW)
    first = child(plugins)
    assert first.stdout.readline() == "half\n"
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    target = data / "data/image/com/example/slow/made"
    assert not target.exists()
    assert list(target.parent.glob(".*.pkgdata"))  # what it left behind
    second = child(plugins)
    out, _ = second.communicate("")
    assert out == "half\n['a', 'b']\n"
    assert paths_below(target.parent) == ["made/a", "made/b"]  # and that is swept


@pytest.mark.skipif(os.name == "nt", reason="flock")
def test_two_processes_make_a_dataset_once(plugins, data):
    one(plugins, SLOW)
    first = child(plugins)
    assert first.stdout.readline() == "half\n"
    second = child(plugins)  # waits for the first
    first.stdin.close()
    assert first.stdout.read() == "['a', 'b']\n"
    second.stdin.close()
    assert second.stdout.read() == "['a', 'b']\n"  # and made nothing itself
    for process in (first, second):
        process.stdout.close()
        assert process.wait(60) == 0


# -- digests ---------------------------------------------------------------------------------


def test_the_ways_to_write_a_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    md5 = hashlib.md5(b"a", usedforsecurity=False).hexdigest()
    for check in (
        catalog.HashCheck(md5),
        catalog.HashCheck("md5", md5),
        catalog.HashCheck(sha(b"a"), hashlib.sha256),
        catalog.HashCheck("SHA-256", sha(b"a").upper()),
        catalog.HashCheck(sha(b"a"), "sha256"),
        catalog.HashCheck(f"sha256:{sha(b'a')}"),
    ):
        assert check.check(tmp_path / "a") is True
    wrong = catalog.HashCheck("md5", "0" * 32)
    with pytest.raises(errors.IntegrityError, match="wrong bytes"):
        wrong.check(tmp_path / "a")
    with pytest.raises(errors.CatalogError, match="is not a digest"):
        _ = catalog.HashCheck("abc123...").digest
    assert resources.parse_digest(f"md5:{md5}").alg == "md5"


def test_public_names_resolve():
    for name in catalog.__all__:
        assert getattr(catalog, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'datset'"):
        _ = catalog.datset
    assert pkgdata.catalog is catalog


def test_type_checkers_know_the_public_names():
    import ast

    stub = Path(catalog.__file__).with_suffix(".pyi").read_text()
    found = {}
    for node in ast.parse(stub).body[1:]:
        for alias in node.names:
            assert alias.asname == alias.name
            found[alias.name] = f"pkgdata.catalog.{node.module}"
    assert set(found) == set(catalog.__all__)
    for name, module in found.items():
        assert getattr(catalog, name).__module__ == module, name


def test_a_definition_needs_no_import_but_its_decorator():
    code = (
        "from pkgdata.catalog import dataset\n"
        "class Pair:\n    def __init__(self, a): self.a = a\n"
        "@dataset(Pair, id='org.example.pair')\ndef pair(): return {'a': 3}\n"
        "print(pair.prepare().a, pair.catalog.told, pair.context.datapath.name)\n"
    )
    root = str(Path(pkgdata.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.split() == [b"3", b"{}", b"data"]
