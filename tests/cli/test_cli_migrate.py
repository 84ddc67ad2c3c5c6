"""``pkgdata migrate``, over caches that pooch and astropy themselves have filled.

``scripts/migrate.txt`` tells the story of one package; here are the usual places of the caches, and
all packages at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

import pkgdata
from pkgdata import cli
from pkgdata.cli import cache

CONTENTS = {"a.txt": b"aaa\n", "maps/b c.fits": b"bbbb\n"}
NOWHERE = "http://127.0.0.1:9/"


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Return the folder in which both libraries keep their caches."""
    home = tmp_path / "theirs"
    home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.delenv("ASTROPY_CACHE_DIR", raising=False)
    return home


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Let only the packages that a test makes be installed; return the function that makes one."""
    made = {}
    monkeypatch.setattr(cache, "installed", lambda: made)

    def make(name, registry, dataurl=NOWHERE):
        folder = tmp_path / "lib" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "registry.txt").write_text(registry)
        (folder / "pkgdata.toml").write_text(
            f'[package]\nname = "{name}"\ndataurl = "{dataurl}"\nregistry = "registry.txt"\n'
        )
        monkeypatch.syspath_prepend(tmp_path / "lib")  # makes Python forget what was not there
        made[name] = name
        return name

    return make


REGISTRY = "".join(f'"{name}" {sha(content)}\n' for name, content in CONTENTS.items())


def run(capsys, *words):
    """Return exit code, standard output and standard error of a command."""
    capsys.readouterr()  # what pooch logged
    code = cli.main(["migrate", *words])
    found = capsys.readouterr()
    return code, found.out, found.err


def fill_pooch(tmp_path, name, version=None):
    """Let pooch fetch its files, from another folder, into its usual place."""
    import pooch

    site = tmp_path / "site"
    for file, content in CONTENTS.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_bytes(content)

    def copy(url, output, _):
        Path(output).write_bytes((site / url.removeprefix(NOWHERE)).read_bytes())

    pup = pooch.create(
        pooch.os_cache(name), NOWHERE, version, registry={k: sha(v) for k, v in CONTENTS.items()}
    )
    return [pup.fetch(file, downloader=copy) for file in CONTENTS]


def test_files_are_found_where_pooch_keeps_them(tmp_path, caches, packages, capsys):
    package = packages("poochpkg", REGISTRY)
    paths = fill_pooch(tmp_path, package, version="1.5")
    assert all(path.startswith(str(caches)) for path in paths)
    code, out, _ = run(capsys, "--from", "pooch", package, "--json")
    assert code == 0
    listed = json.loads(out)
    assert [one["source"] for one in listed] == paths
    assert {one["name"]: Path(one["path"]).read_bytes() for one in listed} == CONTENTS
    data = pkgdata.declare(package, offline=True)
    assert [data.get(name) for name in CONTENTS] == [one["path"] for one in listed]
    assert all(os.path.exists(path) for path in paths)


def test_files_are_found_where_astropy_keeps_them(tmp_path, caches, packages, capsys):
    theirs = pytest.importorskip("astropy.utils.data", reason="needs astropy")
    package = packages("starpkg", REGISTRY)
    for number, content in enumerate(CONTENTS.values()):
        (tmp_path / "file").write_bytes(content)
        theirs.import_file_to_cache(f"{NOWHERE}{number}", tmp_path / "file")
    code, out, err = run(capsys, "--from", "astropy", package, "--dry-run")
    assert code == 0, err
    assert "2 files would be adopted (9 B)" in err
    assert str(caches / "astropy") in out
    assert not (tmp_path / "cache").exists()
    assert run(capsys, "--from", "astropy", package)[0] == 0
    data = pkgdata.declare(package, offline=True)
    assert {name: Path(data.get(name)).read_bytes() for name in CONTENTS} == CONTENTS


def test_all_packages_are_looked_through(tmp_path, caches, packages, capsys):
    for name in ("onepkg", "twopkg"):
        packages(name, REGISTRY)
    packages("emptypkg", f"c.txt {sha(b'c')}\n")
    fill_pooch(tmp_path, "onepkg")
    code, out, err = run(capsys, "--from", "pooch", "--json")
    assert code == 0
    assert {(one["package"], one["name"]) for one in json.loads(out)} >= {("onepkg", "a.txt")}
    # the second package names the same bytes, which are here by now
    assert "2 files adopted (9 B), 1 not found there, still to be fetched" in err


def test_a_package_that_is_broken_does_not_stop_the_others(tmp_path, caches, packages, capsys):
    packages("apkg", "a.txt no-digest\n")
    packages("zpkg", REGISTRY)
    fill_pooch(tmp_path, "zpkg")
    code, out, err = run(capsys, "--from", "pooch", "--json")
    assert code == 1
    assert "apkg is skipped" in err
    assert [one["package"] for one in json.loads(out)] == ["zpkg", "zpkg"]
    assert run(capsys, "--from", "pooch", "apkg")[0] == 1


def test_all_urls_of_a_cache_that_moved(tmp_path, caches, packages, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delenv("PKGDATA_CACHE_DIR")
        (tmp_path / "file").write_bytes(b"aaa\n")
        for pkgname in ("astropy", "sunpy"):
            pkgdata.import_file_to_cache(NOWHERE + "x", tmp_path / "file", pkgname=pkgname)
        code, out, err = run(capsys, "--from", "astropy")
        assert (code, out) == (0, "")
        assert err.startswith(f"{caches / 'astropy'}: pkgdata reads astropy's downloads where they")
    assert pkgdata.get_cached_urls("sunpy", on_missing="ignore") == []
    code, out, _ = run(capsys, "--from", "astropy", "--pkgname", "sunpy")
    assert code == 0
    assert [line.split()[2:4] for line in out.splitlines()[:1]] == [["NAME", "FROM"]]
    assert out.splitlines()[1].split()[2:4] == ["sunpy", NOWHERE + "x"]
    assert pkgdata.get_cached_urls("sunpy") == [NOWHERE + "x"]
    assert pkgdata.get_cached_urls(on_missing="ignore") == []


def test_nothing_to_migrate(caches, packages, capsys):
    packages("starpkg", REGISTRY)
    code, out, err = run(capsys, "--from", "pooch")
    assert (code, out) == (0, "")
    assert err == "0 files adopted, 2 not found there, still to be fetched\n"
    assert run(capsys, "--from", "astropy", "--json")[1] == "[]\n"


def test_a_cache_that_cannot_be_written_to_is_an_error(
    tmp_path, caches, packages, capsys, monkeypatch
):
    packages("starpkg", REGISTRY)
    fill_pooch(tmp_path, "starpkg")
    (tmp_path / "blocked").write_text("")
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "blocked"))
    code, out, err = run(capsys, "--from", "pooch", "starpkg")
    assert (code, out) == (1, "")
    assert err.startswith("pkgdata: error: ")
