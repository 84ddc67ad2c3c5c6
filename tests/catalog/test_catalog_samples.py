"""pkgdata's own samples: a repository that works offline right after the installation."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest

import pkgdata
from pkgdata import catalog, cli
from pkgdata.catalog import index

NAMES = ["pkgdata.digits", "pkgdata.spiral", "pkgdata.stars"]


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Let the samples be the only repository, also where they are not installed."""
    own = [
        index.Installed(one.name, one.value, index.GROUP, one)
        for one in entry_points(group=index.GROUP)
        if one.value == index.SAMPLES
    ]
    if not own:
        pytest.skip("pkgdata was installed before it had samples: pip install -e .")
    monkeypatch.setattr(index, "installed", lambda: own)
    monkeypatch.setenv("PKGDATA_CATALOG_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")


def test_the_samples_are_found_and_prepared_without_a_network(capsys):
    assert cli.main(["catalog", "search"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == NAMES
    assert cli.main(["catalog", "search", "tag:image"]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    for name in NAMES:
        assert cli.main(["catalog", "prepare", name]) == 0
    assert "digits.idx" in capsys.readouterr().out


def test_they_are_what_they_say():
    stars = pkgdata.prepare_dataset("pkgdata.stars")
    assert stars.columns() == ["name", "ra_deg", "dec_deg", "vmag"]
    assert next(stars.rows())[0] == "Sirius"
    assert Path(pkgdata.prepare_dataset("pkgdata.spiral").path).read_bytes()[1:4] == b"PNG"
    numpy = pytest.importorskip("numpy")
    digits = pkgdata.prepare_dataset("pkgdata.digits").data()
    assert digits.shape == (10, 8, 8)
    assert set(numpy.unique(digits)) == {0, 255}


def test_a_search_that_finds_nothing_says_what_to_do(capsys, monkeypatch):
    assert cli.main(["catalog", "search", "zzz"]) == 0
    assert "nothing matches; 'pkgdata catalog search'" in capsys.readouterr().err
    monkeypatch.setattr(index, "installed", list)
    assert cli.main(["catalog", "search"]) == 0
    assert "an entry point of the group pkgdata.repositories" in capsys.readouterr().err
    assert catalog.Catalog().search() == []


def test_next_to_another_repository_they_are_not_listed(monkeypatch):
    monkeypatch.undo()
    (ours,) = [one for one in entry_points(group=index.GROUP) if one.value == index.SAMPLES]
    other = type(ours)("sky", "sky_datasets", index.GROUP)
    found = [(ours, "1"), (other, "1")]
    monkeypatch.setattr(index, "announcements", lambda group: iter(found))
    assert [one.name for one in index.installed()] == ["sky"]
