"""``cache rm`` and ``cache why``: what is removed, what is kept, and what a file is."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from shells import write

from pkgdata import Cache, Digest
from pkgdata.cache import stamps


def test_a_file_of_the_cache_is_explained(shell, tmp_path):
    digest = Digest("sha256", hashlib.sha256(b"abc").hexdigest())
    (tmp_path / "abc").write_bytes(b"abc")
    cache = Cache(shell.lines("cache", "path")[0])
    path = cache.add(str(tmp_path / "abc"), digest, "abc")
    stamps.record_uses(cache.root, "odd name/x", [(digest, "maps/abc")])
    assert shell("cache", "why", path, "--json") == 0, shell.err
    facts = json.loads(shell.out)
    assert facts["digest"] == str(digest)
    assert facts["intact"] is True
    assert facts["packages"] == {"odd name/x": "maps/abc"}
    assert shell("cache", "why", path) == 0
    assert "pkgdata cache rm 'odd name/x' maps/abc" in shell.out
    assert shell("cache", "why", str(tmp_path)) == 1
    assert "is not in the cache" in shell.err
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(b"xyz")
    assert shell("cache", "why", path) == 0
    assert "intact  no" in " ".join(shell.out.split()).replace("intact no", "intact  no")


CONTENT = b"x" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def package(shell, name, *files):
    """Return the folder of a package whose files all have the same bytes."""
    folder = shell.home / name
    for file in files:
        write(folder / "mirror" / file, CONTENT)
    toml = f"[package]\nname = '{name}'\ndataurl = 'mirror'\n"
    write(folder / "pkgdata.toml", toml.encode())
    write(folder / "registry.txt", "".join(f"{file} {DIGEST}\n" for file in files).encode())
    return f"./{name}"


@pytest.fixture
def objects(shell):
    """Return a function that lists the files of the cache."""
    return lambda: sorted(os.path.basename(row["path"]) for row in _listed(shell))


def _listed(shell):
    assert shell("cache", "ls", "--files", "--json") == 0, shell.err
    return json.loads(shell.out)


def test_a_name_goes_while_its_bytes_have_another(shell, objects):
    assert shell("fetch", package(shell, "twins", "a.txt", "b.txt")) == 0, shell.err
    assert objects() == ["a.txt", "b.txt"]
    assert shell("cache", "rm", "twins", "a.txt") == 0, shell.err
    assert shell.err.startswith("0 files removed from ")
    assert shell.err.endswith(", 1 used under other names\n")
    assert objects() == ["a.txt", "b.txt"]
    assert shell("cache", "rm", "twins", "a.txt") == 1, "it is not known any more"
    assert "twins has no file 'a.txt'" in shell.err
    assert shell("cache", "rm", "twins", "b.txt") == 0, shell.err
    assert shell.err.startswith("2 files removed from ")
    assert "(1 kB in " in shell.err, "two names of the same bytes"
    assert objects() == []


def test_all_names_go_together(shell, objects):
    assert shell("fetch", package(shell, "twins", "a.txt", "b.txt")) == 0, shell.err
    assert shell("cache", "rm", "twins", "b.txt", "a.txt") == 0, shell.err
    assert objects() == []


def test_a_name_of_which_another_package_has_the_bytes(shell, objects):
    assert shell("fetch", package(shell, "twins", "a.txt", "b.txt")) == 0, shell.err
    assert shell("fetch", package(shell, "other", "c.txt")) == 0, shell.err
    assert shell("cache", "rm", "twins") == 0, shell.err
    assert shell.err.startswith("0 files removed from ")
    assert shell.err.endswith(", 1 used by other packages\n")
    assert len(objects()) == 3
    assert shell("cache", "why", _listed(shell)[0]["path"]) == 0
    assert [line.split()[2:] for line in shell.out.splitlines() if "used by" in line] == [
        ["other:", "c.txt"]
    ]
    assert shell("cache", "rm", "other") == 0, shell.err
    assert shell.err.startswith("3 files removed from ")


def test_every_name_is_listed_by_why(shell):
    assert shell("fetch", package(shell, "twins", "a.txt", "b.txt")) == 0, shell.err
    assert shell("cache", "why", _listed(shell)[0]["path"]) == 0
    assert [line.split()[2:] for line in shell.out.splitlines() if "used by" in line] == [
        ["twins:", "a.txt"],
        ["twins:", "b.txt"],
    ]


def test_why_of_what_is_missing_or_damaged(shell):
    assert shell("fetch", package(shell, "one", "a.txt")) == 0, shell.err
    (path,) = (row["path"] for row in _listed(shell))
    os.chmod(path, 0o644)
    write(path, b"damaged")
    assert shell("cache", "why", path) == 0
    assert "a damaged file: its bytes are not those of its digest" in shell.out
    assert f"rm -f {path}; the next use downloads it again" in shell.out
    assert "cache rm" not in shell.out
    os.remove(path)
    for words in ([], ["--json"]):
        assert shell("cache", "why", path, *words) == 1
        assert shell.out == ""
        assert f"{path} is missing: a verified file would lie there" in shell.err
        assert "Hint: pkgdata get one a.txt" in shell.err
    assert shell("cache", "why", os.path.join(os.path.dirname(path), "..", "ff" * 31, "x")) == 1
    assert "Hint: 'pkgdata cache ls --files' lists what is there" in shell.err
