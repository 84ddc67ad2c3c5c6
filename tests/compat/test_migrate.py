"""What astropy and pooch downloaded is adopted without a request."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

import pkgdata
from pkgdata.compat.migrate import migrate_astropy, migrate_pooch

BASE = "http://127.0.0.1:9/data/{version}/"
FILES = {"maps/a.fits": b"aaa", "maps/b c.fits": b"bbbb", "c.txt": b"cc"}


def sha(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Return the cache that astropy would use, with some downloads."""
    home = tmp_path / "theirs"
    home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    with monkeypatch.context() as patch:
        patch.delenv("PKGDATA_CACHE_DIR")
        for url, content in {
            "http://127.0.0.1:9/data/1/maps/a.fits": b"aaa",
            "http://127.0.0.1:9/data/1/maps/b%20c.fits": b"old!",
            "http://elsewhere.example.org/b": b"bbbb",
            "http://127.0.0.1:9/data/1/c.txt": b"cc",
        }.items():
            (tmp_path / "source").write_bytes(content)
            pkgdata.import_file_to_cache(url, tmp_path / "source")
    return home / "astropy"


@pytest.fixture
def data():
    registry = {name: sha(content) for name, content in FILES.items()}
    return pkgdata.PackageData(
        "mine", dataurl=BASE, version="1", registry=registry | {"d": sha(b"d")}, offline=True
    )


def test_pinned_files_are_adopted_by_url_and_by_digest(theirs, data):
    listed = migrate_astropy(data, dry_run=True)
    assert [one.name for one in listed] == list(FILES)
    assert all(one.path is None for one in listed)
    assert data.find("maps/a.fits") is None
    adopted = migrate_astropy(data)
    assert {one.name: Path(one.path).read_bytes() for one in adopted} == FILES
    assert all(Path(one.source).exists() for one in adopted)
    assert all(one.source.startswith(str(theirs)) for one in adopted)
    for name in FILES:
        assert data.get(name) == next(one.path for one in adopted if one.name == name)
    assert "maps/a.fits" in repr(adopted[0])
    assert migrate_astropy(data) == []
    with pytest.raises(pkgdata.OfflineError):
        data.get("d")


def test_a_size_in_the_registry_saves_hashing(theirs, monkeypatch):
    from pkgdata.base import hashes

    data = pkgdata.PackageData(
        "mine",
        registry=pkgdata.Registry([pkgdata.Entry("x", pkgdata.Digest("sha256", sha(b"bbbb")), 4)]),
    )
    hashed = []
    hash_file = hashes.hash_file
    monkeypatch.setattr(
        hashes, "hash_file", lambda path, alg: hashed.append(path) or hash_file(path, alg)
    )
    assert len(migrate_astropy(data)) == 1
    assert {os.path.getsize(path) for path in hashed} == {4}


def test_unpinned_files_are_adopted_by_url(theirs):
    data = pkgdata.PackageData(
        "mine", dataurl=BASE, version="1", registry={"c.txt": None, "none": None}, offline=True
    )
    (listed,) = migrate_astropy(data, dry_run=True)
    assert (listed.name, listed.path) == ("c.txt", None)
    (adopted,) = migrate_astropy(data)
    assert data.get("c.txt") == adopted.path
    assert Path(adopted.path).read_bytes() == b"cc"


def test_a_cache_that_moved_is_adopted_whole(theirs, tmp_path):
    assert len(migrate_astropy(dry_run=True)) == 4
    assert pkgdata.get_cached_urls(on_missing="ignore") == []
    adopted = migrate_astropy()
    assert sorted(one.name for one in adopted) == pkgdata.get_cached_urls()
    assert all(one.path.startswith(str(tmp_path / "cache" / "astropy")) for one in adopted)
    pkgdata.check_download_cache()
    assert migrate_astropy() == []


def test_nothing_to_adopt(tmp_path, monkeypatch, data, theirs):
    assert migrate_astropy(data, source=tmp_path / "none") == []
    monkeypatch.setenv("ASTROPY_CACHE_DIR", str(theirs))
    assert migrate_astropy() == []  # it is one and the same
    assert migrate_astropy(pkgname="other") == []


def test_a_file_that_cannot_be_read_is_skipped(theirs, data, monkeypatch):
    from pkgdata.base import hashes

    hash_file = hashes.hash_file

    def failing(path, alg="sha256"):
        if Path(path).read_bytes() == b"aaa":
            raise PermissionError(13, "Permission denied", path)
        return hash_file(path, alg)

    monkeypatch.setattr(hashes, "hash_file", failing)
    assert [one.name for one in migrate_astropy(data)] == ["maps/b c.fits", "c.txt"]


def test_a_file_that_changes_meanwhile_is_skipped(theirs, data, monkeypatch):
    from pkgdata.base import hashes

    hash_file = hashes.hash_file

    def changing(path, alg="sha256"):
        found = hash_file(path, alg)
        if found.hex == sha(b"aaa"):
            Path(path).write_bytes(b"new")
        return found

    monkeypatch.setattr(hashes, "hash_file", changing)
    assert [one.name for one in migrate_astropy(data)] == ["maps/b c.fits", "c.txt"]
    assert data.find("maps/a.fits") is None


# -- pooch: compat/pooch_dialect has the files that pooch itself made -----------------------------


@pytest.fixture
def storage(tmp_path):
    """Return a folder of pooch's with two versions of one name."""
    folder = tmp_path / "storage"
    for version in ("1.0", "v2.0"):
        (folder / version).mkdir(parents=True)
        (folder / version / "a.txt").write_text(version)
    return folder


@pytest.mark.parametrize(("version", "taken"), [("1.0", "1.0"), ("2.0", "v2.0"), ("3.0", None)])
def test_without_a_digest_only_the_own_version_is_adopted(storage, version, taken):
    data = pkgdata.PackageData("mine", dataurl=BASE, version=version, registry={"a.txt": None})
    adopted = migrate_pooch(data, source=storage)
    assert [Path(one.path).read_text() for one in adopted] == ([taken] if taken else [])


def test_a_digest_finds_its_file_in_any_version(storage):
    data = pkgdata.PackageData("mine", version="3.0", registry={"a.txt": sha(b"1.0")})
    (adopted,) = migrate_pooch(data, source=storage)
    assert adopted.source == str(storage / "1.0" / "a.txt")
    assert data.get("a.txt") == adopted.path
