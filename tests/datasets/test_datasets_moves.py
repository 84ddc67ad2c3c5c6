"""Pushing and pulling in pkgdata's own form: what moves, what appears, what goes wrong."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest
from datasetting import FLOWER, make, pushed, read, registered, visible
from faults import FaultServer, forever, ignore_range, status

import pkgdata
from pkgdata import (
    AlreadyPublishedError,
    DatasetError,
    IntegrityError,
    ObjectExistsError,
    PkgdataError,
    PkgdataWarning,
    RegistryError,
    UnknownNameError,
    UnsupportedOperationError,
    datasets,
)
from pkgdata.base import retry
from pkgdata.cache.objects import OBJECTS
from pkgdata.datasets import pulling, pushing, repository
from pkgdata.stores import Store

LARGE = os.urandom((1 << 20) + 1)

#: Many small files, which fill several of the packs of these tests.
MANY = {f"data/{part}/{n:03d}.bin": os.urandom(2000) for part in ("a", "b") for n in range(50)}


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr(pushing, "PACK", 20_000)
    monkeypatch.setattr(pulling, "_GAP", 3_000)


@pytest.fixture
def config(tmp_path):
    return datasets.Config(str(tmp_path / "repo"), tmp_path / "data")


def stored(config):
    """Return the names in the repository, and their bytes."""
    return {name: info.size for name, info in config.store().scan()}


def pull(config, **options):
    datasets.pull("flower", config=config, **options)
    return read(os.path.join(config.home, "flower"))


def cached(tmp_path):
    top = tmp_path / "cache" / OBJECTS
    return list(read(top)) if top.is_dir() else []


# -- there and back --------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [None, "zstd"])
@pytest.mark.parametrize("place", ["folder", "memory"])
def test_there_and_back(tmp_path, config, compress, place):
    if compress:
        pytest.importorskip("zstandard")
    if place == "memory":
        config = config.replaced(url=f"mem://back-{compress}/prefix")
    contents = {
        **FLOWER,
        "data/val/large.bin": LARGE,
        "data/val/even.bin": bytes(3 << 20),
        "data/none/": b"",
        "empty/deep/": b"",
    }
    registered(tmp_path, config, contents)
    sent = datasets.push("flower", config=config, compress=compress)
    datasets.purge("flower", config=config)
    got = datasets.pull("flower", config=config)
    assert read(got.path) == contents
    assert (got.files, got.size) == (sent.files, sent.size)
    assert sent.files == len(contents) - 2
    assert got.digest == sent.digest == pkgdata.dataset("flower", config=config).manifest().digest()
    assert got.moved_files == len({*contents.values()}) - 1 + 1  # folders; and "" is a file's
    assert not datasets.verify("flower", config=config)
    assert not datasets.diff("flower", config=config)
    if compress:
        assert sent.moved_bytes < sent.size - (2 << 20)
        assert any(name.endswith(".zstd") for name in stored(config))


def test_a_web_server_over_a_folder_is_a_repository_to_read(tmp_path, config):
    contents = {**FLOWER, **MANY, "data/a/large.bin": LARGE}
    pushed(tmp_path, config, contents)
    with FaultServer({n: Path(config.url, n).read_bytes() for n in stored(config)}) as server:
        web = config.replaced(url=server.url)
        assert pull(web, partitions="b") == {
            name: content for name, content in contents.items() if "data/" not in name
        } | {name: content for name, content in contents.items() if name.startswith("data/b")}
        assert pull(web) == contents
        datasets.register(make(tmp_path / "own", FLOWER), "own", config=web)
        with pytest.raises(UnsupportedOperationError):
            datasets.push("own", config=web)
        with pytest.raises(UnsupportedOperationError, match="cannot be listed") as caught:
            datasets.ls(remote=True, config=web)
        assert "by its name" in caught.value.hint
        with pytest.raises(UnknownNameError, match="'nothing' is not in"):
            datasets.pull("nothing", config=web)


def test_a_server_that_knows_no_ranges_gives_parts_of_packs_too(tmp_path, config, monkeypatch):
    monkeypatch.setattr(pushing, "PACK", 1 << 20)
    pushed(tmp_path, config, MANY)
    files = {n: Path(config.url, n).read_bytes() for n in stored(config)}
    with FaultServer(files) as server:
        for name in files:
            server.script(name, forever(ignore_range()))
        web = config.replaced(url=server.url)
        wanted = {name: content for name, content in MANY.items() if name.startswith("data/b")}
        assert pull(web, partitions="b") == wanted


def test_visible_files_are_links_to_the_cache(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    pull(config)
    path = Path(config.home, "flower", "README.md")
    (other,) = (tmp_path / "cache" / OBJECTS).rglob("README.md")
    assert path.samefile(other)
    assert not path.stat().st_mode & 0o222
    assert len(cached(tmp_path)) == len({*FLOWER.values()})


def test_where_nothing_can_be_linked_files_are_copied(tmp_path, config, monkeypatch):
    pushed(tmp_path, config, FLOWER)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert pull(config) == FLOWER


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such modes")
def test_executables_stay_executable_and_other_files_of_equal_bytes_do_not_become_so(
    tmp_path, config
):
    folder = registered(tmp_path, config, {"data/p/run.sh": b"#!", "data/p/plain": b"#!"})
    (folder / "data" / "p" / "run.sh").chmod(0o4755)
    datasets.push("flower", config=config)
    datasets.purge("flower", config=config)
    pull(config)
    modes = {
        name: stat.S_IMODE(Path(config.home, "flower", "data", "p", name).stat().st_mode)
        for name in ("run.sh", "plain")
    }
    assert modes["run.sh"] == 0o555
    assert not modes["plain"] & 0o111


def test_a_dangling_link_is_not_pushed(tmp_path, config):
    folder = registered(tmp_path, config, FLOWER)
    os.symlink("nowhere", folder / "data" / "val" / "link")
    with pytest.raises(DatasetError, match="is a link that leads nowhere"):
        datasets.push("flower", config=config)
    assert datasets.ls(remote=True, config=config) == []


@pytest.mark.parametrize("form", ["pkgdata", "etcetera"])
def test_what_tools_leave_behind_and_what_is_excluded_is_not_pushed(tmp_path, config, form):
    more = {
        ".DS_Store": b"x",
        "data/p/__pycache__/m.pyc": b"x",
        ".git/refs/tags/": b"",
        ".git/a": b"",
    }
    mine = {"data/p/a.tmp": b"1", "old/b": b"2", "data/p/b.txt": b"3", "data/p/empty/": b""}
    folder = registered(tmp_path, config, {**FLOWER, **more, **mine})
    os.symlink("nowhere", folder / "old" / "dangling")
    how = {"config": config, "format": form, "force": True}
    outcome = datasets.push("flower", exclude=["*.tmp", "/old/"], **how)
    assert outcome.note.startswith("3 files left out: .DS_Store, .git/a, data/p/__pycache__/m.pyc")
    expected = {**FLOWER, "data/p/b.txt": b"3", "data/p/empty/": b""}
    assert outcome.files == len(expected) - 1
    assert sorted(datasets.diff("flower", config=config).extra) == [
        "data/p/a.tmp",
        "old/b",
        "old/dangling",
    ]
    datasets.push("flower", include=["data/"], exclude="*.tmp", **how)
    datasets.purge("flower", config=config)
    assert pull(config).keys() == {name for name in expected if name.startswith("data/")}


def test_links_are_followed(tmp_path, config):
    elsewhere = make(tmp_path / "elsewhere", {"b.txt": b"linked"})
    folder = registered(tmp_path, config, {"data/p/a.txt": b"own"})
    os.symlink(elsewhere, folder / "data" / "linked")
    datasets.push("flower", config=config)
    datasets.purge("flower", config=config)
    assert pull(config) == {"data/p/a.txt": b"own", "data/linked/b.txt": b"linked"}


# -- what the repository holds ---------------------------------------------------------------


def test_small_files_are_packed_and_large_ones_are_objects(tmp_path, config):
    outcome = pushed(tmp_path, config, {**MANY, "data/a/large.bin": LARGE})
    names = stored(config)
    packs = [name for name in names if name.startswith("flower/packs/")]
    objects = [name for name in names if name.startswith("flower/objects/")]
    assert len(packs) == 10  # of 100 files of 2,000 bytes, 20,000 to a pack
    assert len(objects) == 1
    assert names.keys() == {*packs, *objects, "flower.manifest.txt.gz"}
    assert outcome.objects == 11
    assert outcome.moved_bytes == sum(names.values())


def test_the_same_files_give_the_same_bytes(tmp_path, config):
    pushed(tmp_path, config, MANY)
    other = config.replaced(url=str(tmp_path / "other"))
    pushed(tmp_path, other, MANY)
    assert read(config.url) == read(other.url)


def test_a_second_version_moves_what_changed(tmp_path, config):
    first = pushed(tmp_path, config, MANY)
    pull(config)
    changed = {**MANY, "data/a/000.bin": b"new" * 500, "data/b/new.bin": b"more"}
    del changed["data/b/049.bin"]
    second = pushed(tmp_path, config, changed)
    assert second.digest != first.digest
    assert second.moved_files == 2
    manifest = stored(config)["flower.manifest.txt.gz"]
    assert second.moved_bytes == 1504 + manifest
    got = datasets.pull("flower", config=config)
    assert read(got.path) == changed
    assert (got.moved_files, got.moved_bytes) == (2, 1504 + manifest)


def test_a_version_without_the_cache_comes_from_the_former_one_and_the_repository(tmp_path, config):
    pushed(tmp_path, config, MANY)
    pull(config)
    changed = {**MANY, "data/a/000.bin": b"new" * 500}
    registered(tmp_path, config.replaced(home=tmp_path / "other"), changed)
    datasets.push("flower", force=True, config=config.replaced(home=tmp_path / "other"))
    pkgdata.base.fs.remove_tree(str(tmp_path / "cache"))
    spoiled = Path(config.home, "flower", "data", "a", "001.bin")
    spoiled.chmod(0o600)
    spoiled.write_bytes(bytes(2000))  # as long as it was
    got = datasets.pull("flower", force=True, config=config)
    assert read(got.path) == changed
    assert got.moved_files == 2


def test_parts_of_packs_are_read(tmp_path, config, monkeypatch):
    monkeypatch.setattr(pushing, "PACK", 1 << 20)
    pushed(tmp_path, config, MANY)
    assert len([name for name in stored(config) if "/packs/" in name]) == 1
    manifest = stored(config)["flower.manifest.txt.gz"]
    got = datasets.pull("flower", config=config, partitions="b")
    assert got.moved_bytes == 100_000 + manifest
    assert got.objects == 1


def test_a_pack_that_is_mostly_unused_is_dropped(tmp_path, config):
    pushed(tmp_path, config, MANY)
    few = {name: MANY[name] for number, name in enumerate(MANY) if number % 5 == 0}
    outcome = pushed(tmp_path, config, few)
    assert outcome.moved_files == 20
    assert outcome.objects == 2
    assert pull(config) == few


def test_pruning_removes_what_the_new_version_does_not_name(tmp_path, config):
    pushed(tmp_path, config, {**MANY, "data/a/large.bin": LARGE})
    before = stored(config)
    kept = {name: content for name, content in MANY.items() if name.startswith("data/a")}
    pushed(tmp_path, config, kept)
    assert before.keys() <= stored(config).keys()
    pushed(tmp_path, config, kept, prune=True)
    assert len(stored(config)) == 6  # five packs and the manifest
    assert pull(config) == kept


def test_what_an_interrupted_push_sent_is_not_sent_again(tmp_path, config, monkeypatch):
    registered(tmp_path, config, {**MANY, "data/a/large.bin": LARGE})
    monkeypatch.setattr(pushing.Push, "_finish", lambda *_: (_ for _ in ()).throw(OSError("cut")))
    with pytest.raises(OSError, match="cut"):
        datasets.push("flower", config=config)
    assert datasets.ls(remote=True, config=config) == []
    monkeypatch.undo()
    monkeypatch.setattr(pushing, "PACK", 20_000)
    outcome = datasets.push("flower", config=config)
    assert (outcome.moved_files, outcome.objects) == (0, 0)
    datasets.purge("flower", config=config)
    assert pull(config) == {**MANY, "data/a/large.bin": LARGE}


# -- refusals --------------------------------------------------------------------------------


def test_nothing_is_replaced_without_force(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    registered(tmp_path, config, MANY)
    before = stored(config)
    with pytest.raises(AlreadyPublishedError, match="'flower' is in the repository already"):
        datasets.push("flower", config=config)
    assert stored(config) == before
    with pytest.raises(DatasetError, match="here already") as caught:
        datasets.pull("flower", config=config)
    assert caught.value.taken
    assert pull(config, force=True) == FLOWER


def test_pulling_over_a_registered_directory_leaves_the_directory(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    folder = registered(tmp_path, config, MANY)
    assert pull(config, force=True) == FLOWER
    assert read(folder) == MANY
    assert not os.path.islink(os.path.join(config.home, "flower"))


def test_of_two_pushes_at_once_one_succeeds(tmp_path, config, monkeypatch):
    registered(tmp_path, config, FLOWER)
    other = config.replaced(home=tmp_path / "other")
    registered(tmp_path, other, MANY)
    finish = pushing.Push._finish

    def late(*arguments):
        monkeypatch.setattr(pushing.Push, "_finish", finish)
        datasets.push("flower", config=other)
        finish(*arguments)

    monkeypatch.setattr(pushing.Push, "_finish", late)
    with pytest.raises(ObjectExistsError, match="was pushed meanwhile"):
        datasets.push("flower", config=config)
    datasets.purge("flower", config=config)
    assert pull(config) == MANY


def test_an_unknown_dataset_names_similar_ones(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    with pytest.raises(UnknownNameError, match="'flowr' is not in file://") as caught:
        datasets.pull("flowr", config=config)
    assert caught.value.close == ["flower"]
    with pytest.raises(UnknownNameError, match="is not in"):
        datasets.push("flowr", config=config)


def test_a_directory_that_is_no_dataset_any_more_is_not_pushed(tmp_path, config):
    folder = registered(tmp_path, config, FLOWER)
    (folder / "data" / "stray.txt").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"holds data/stray\.txt"):
        datasets.push("flower", config=config)
    assert stored(config) == {}


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such names")
def test_a_name_that_could_not_be_pulled_is_not_pushed(tmp_path, config):
    registered(tmp_path, config, {"data/p/back\\slash": b"", **FLOWER})
    with pytest.raises(pkgdata.UnsafeNameError):
        datasets.push("flower", config=config)
    assert stored(config) == {}


@pytest.mark.parametrize("compress", [None, "zstd"])
def test_a_large_file_that_changes_during_the_push_is_not_published(
    tmp_path, config, monkeypatch, compress
):
    if compress:
        pytest.importorskip("zstandard")
    folder = registered(tmp_path, config, {"data/p/large.bin": LARGE})
    blocks = pushing.Push._blocks

    def spoil(self, entry):
        (folder / "data" / "p" / "large.bin").write_bytes(LARGE[::-1])
        yield from blocks(self, entry)

    monkeypatch.setattr(pushing.Push, "_blocks", spoil)
    with pytest.raises(DatasetError, match="changed while it was pushed"):
        datasets.push("flower", config=config, compress=compress)
    assert stored(config) == {}


def test_the_other_form_is_warned_of(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    registered(tmp_path, config, FLOWER)
    with pytest.warns(PkgdataWarning, match=r"flower\.manifest\.txt\.gz is there too .* is hidden"):
        datasets.push("flower", config=config, format="etcetera")
    with pytest.warns(PkgdataWarning, match=r"flower\.tgz is there too .* hides it"):
        datasets.push("flower", config=config, force=True)


def test_an_unknown_form_is_refused(config):
    with pytest.raises(DatasetError, match="unknown form 'zip'"):
        datasets.pull("flower", config=config, format="zip")


# -- partitions ------------------------------------------------------------------------------

PARTS = {
    "README.md": b"all",
    "data/train/a": b"1",
    "data/val/b": b"2",
    "data/test/c": b"3",
}


def of(*parts):
    return {n: c for n, c in PARTS.items() if not n.startswith("data/") or n.split("/")[1] in parts}


def test_partitions_one_after_the_other(tmp_path, config):
    digest = pushed(tmp_path, config, PARTS).digest
    assert pull(config, partitions="val") == of("val")
    ds = pkgdata.dataset("flower", config=config)
    assert ds.keys() == {"val"}
    with pytest.raises(UnknownNameError) as caught:
        ds["train"]
    assert "pkgdata dataset pull flower --partition train" in caught.value.hint
    assert not datasets.verify("flower", config=config)
    assert not datasets.diff("flower", config=config)
    with pytest.raises(DatasetError, match="here already"):
        pull(config, partitions=["val"])
    assert pull(config, partitions=["train"]) == of("train", "val")
    assert pull(config) == PARTS
    assert pkgdata.dataset("flower", config=config).manifest().digest() == digest
    with pytest.raises(DatasetError, match="here already"):
        pull(config)
    assert pull(config, partitions="test", force=True) == of("test")


def test_an_unknown_partition_is_reported(tmp_path, config):
    pushed(tmp_path, config, PARTS)
    with pytest.raises(UnknownNameError, match="no partition 'vall'") as caught:
        pull(config, partitions="vall")
    assert "test, train, val" in caught.value.hint
    assert visible(config.home) == []


@pytest.mark.parametrize("partitions", [None, "train"])
def test_partitions_of_two_versions_do_not_mix(tmp_path, config, partitions):
    pushed(tmp_path, config, PARTS)
    pull(config, partitions="val")
    other = config.replaced(home=tmp_path / "other")
    pushed(tmp_path, other, {**PARTS, "data/train/new": b"new"})
    with pytest.raises(DatasetError, match="another version"):
        pull(config, partitions=partitions)
    assert read(os.path.join(config.home, "flower")) == of("val")
    assert len(pull(config, force=True)) == len(PARTS) + 1


def test_a_part_of_a_dataset_is_not_pushed(tmp_path, config):
    pushed(tmp_path, config, PARTS)
    pull(config, partitions="val")
    with pytest.raises(DatasetError, match="are not here: test, train"):
        datasets.push("flower", force=True, config=config)


# -- auto_pull, dry runs, progress -----------------------------------------------------------


def test_auto_pull(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    with pytest.raises(UnknownNameError) as caught:
        pkgdata.dataset("flower", config=config)
    assert "pkgdata dataset pull flower" in caught.value.hint
    assert pkgdata.dataset("flower", auto_pull=True, config=config).keys() == {"train", "val"}
    other = config.replaced(url="mem://auto-pull-nothing")
    assert pkgdata.dataset("flower", auto_pull=True, config=other).keys() == {"train", "val"}


def test_dry_runs_change_nothing(tmp_path, config):
    folder = registered(tmp_path, config, {**MANY, "data/a/large.bin": LARGE})
    planned = datasets.push("flower", config=config, dry_run=True)
    assert stored(config) == {}
    done = datasets.push("flower", config=config)
    for name in ("digest", "files", "size", "moved_files", "moved_bytes", "objects"):
        assert getattr(planned, name) == getattr(done, name), name
    datasets.purge("flower", config=config)
    planned = datasets.pull("flower", config=config, dry_run=True)
    assert visible(config.home) == []
    assert cached(tmp_path) == []
    done = datasets.pull("flower", config=config)
    for name in ("digest", "files", "size", "moved_files", "moved_bytes", "objects"):
        assert getattr(planned, name) == getattr(done, name), name
    assert read(folder) == read(done.path)


def test_progress_reports_each_file(tmp_path, config):
    registered(tmp_path, config, {**FLOWER, "data/train/large.bin": LARGE})
    for call in (
        lambda show: datasets.push("flower", config=config, progress=show),
        lambda show: datasets.pull("flower", force=True, config=config, progress=show),
        lambda show: datasets.pull("flower", force=True, config=config, progress=show),
    ):
        events = []
        call(events.append)
        done = [event for event in events if event.state == "done"]
        assert len({event.name for event in done}) == len(done) >= len({*FLOWER.values()})
        # a large file reports how far it is
        assert {event.name for event in events if event.state != "done"} <= {"data/train/large.bin"}


def test_bars_are_drawn_if_asked_for(tmp_path, config, monkeypatch, capsys):
    monkeypatch.setenv("PKGDATA_PROGRESS", "1")
    registered(tmp_path, config, FLOWER)
    datasets.push("flower", config=config)
    assert "all files" in capsys.readouterr().err
    datasets.pull("flower", force=True, config=config)
    assert "all files" in capsys.readouterr().err


# -- verify, diff ----------------------------------------------------------------------------


def test_verify_finds_what_changed(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    pull(config)
    top = Path(config.home, "flower")
    (top / "README.md").unlink()
    (top / "README.md").write_bytes(b"# Flowers?\n")
    (top / "new.txt").write_bytes(b"")
    (top / "data" / "train" / "a.txt").unlink()
    found = datasets.verify("flower", config=config)
    assert (found.missing, found.extra) == (["data/train/a.txt"], ["new.txt"])
    assert list(found.changed) == ["README.md"]


def test_what_was_registered_is_verified_with_the_repository(tmp_path, config):
    folder = registered(tmp_path, config, FLOWER)
    with pytest.raises(UnknownNameError, match="nothing to compare it with"):
        datasets.verify("flower", config=config)
    datasets.push("flower", config=config)
    assert not datasets.verify("flower", config=config)
    (folder / "README.md").write_bytes(b"")
    assert datasets.verify("flower", config=config).changed.keys() == {"README.md"}


def test_diff_of_two_directories(tmp_path, config):
    registered(tmp_path, config, FLOWER)
    other = make(tmp_path / "other", {**FLOWER, "data/val/new": b"", "README.md": b"x"})
    found = datasets.diff("flower", other, config=config)
    assert (found.missing, found.extra) == (["data/val/new"], [])
    assert list(found.changed) == ["README.md"]
    found = datasets.diff(str(other), "flower", config=config)
    assert (found.missing, found.extra) == ([], ["data/val/new"])


# -- a repository that is damaged, and one that fails ----------------------------------------


@pytest.mark.parametrize("kind", ["packs", "objects"])
@pytest.mark.parametrize("compress", [None, "zstd"])
def test_wrong_bytes_are_an_error_and_nothing_is_visible(tmp_path, config, kind, compress):
    if compress:
        pytest.importorskip("zstandard")
    text = b"a line that compresses well\n" * 60_000
    contents = {**FLOWER, "data/train/large.txt": text}
    pushed(tmp_path, config, contents, compress=compress)
    for path in Path(config.url, "flower", kind).rglob("*"):
        if path.is_file():
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 255
            path.write_bytes(content)
    with pytest.raises(PkgdataError) as caught:
        pull(config)
    assert isinstance(caught.value, (IntegrityError, pkgdata.StoreError))
    assert visible(config.home) == []
    assert [name for name in os.listdir(config.home) if name.endswith(".tmp")] == []


def test_what_is_missing_in_the_repository_is_reported(tmp_path, config):
    pushed(tmp_path, config, MANY)
    next(Path(config.url, "flower", "packs").iterdir()).unlink()
    with pytest.raises(pkgdata.ObjectNotFoundError, match="/packs/"):
        pull(config)
    assert visible(config.home) == []
    # a push that replaces it mends the repository
    registered(tmp_path, config, MANY)
    assert datasets.push("flower", force=True, config=config).moved_files == 10
    assert pull(config, force=True) == MANY


def test_a_pack_that_is_cut_is_reported(tmp_path, config, monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    pushed(tmp_path, config, FLOWER)
    (pack,) = Path(config.url, "flower", "packs").iterdir()
    pack.write_bytes(pack.read_bytes()[:-1])
    with pytest.raises(pkgdata.IncompleteTransferError, match="bytes came of"):
        pull(config)


def test_a_frame_that_would_fill_the_memory_is_refused(tmp_path, config):
    zstandard = pytest.importorskip("zstandard")
    outcome = pushed(tmp_path, config, {"data/p/a.txt": b"a" * 1000}, compress="zstd")
    assert outcome.moved_files == 1
    bomb = zstandard.ZstdCompressor().compress(bytes(256 << 20))
    (pack,) = Path(config.url, "flower", "packs").iterdir()
    pack.write_bytes(bomb)
    manifest = Path(config.url, repository.manifest_name("flower"))
    text = gzip.decompress(manifest.read_bytes()).decode()
    size = text.partition("zstd=")[2].partition("\n")[0]
    text = text.replace(f"zstd={size}", f"zstd={len(bomb)}")
    text = text.replace(f"bytes={size}", f"bytes={len(bomb)}")
    manifest.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(IntegrityError, match=r"wrong bytes for 'data/p/a\.txt'"):
        pull(config)


def test_a_manifest_of_what_is_no_dataset_shows_nothing(tmp_path, config):
    pushed(tmp_path, config, {"data/p/a.txt": b"a"})
    manifest = Path(config.url, repository.manifest_name("flower"))
    text = gzip.decompress(manifest.read_bytes()).decode().replace("data/p/a.txt", "data/a.txt")
    manifest.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DatasetError, match=r"holds data/a\.txt"):
        pull(config)
    assert visible(config.home) == []
    manifest.write_bytes(b"no manifest")
    with pytest.raises(RegistryError):
        pull(config)


def test_transient_failures_are_retried(tmp_path, config, monkeypatch):
    monkeypatch.setattr(retry, "POLICY", retry.POLICY._replace(first=0.0))
    pushed(tmp_path, config, MANY)
    files = {n: Path(config.url, n).read_bytes() for n in stored(config)}
    with FaultServer(files) as server:
        for name in files:
            server.script(name, status(503))
        assert pull(config.replaced(url=server.url)) == MANY
        server.script("flower.manifest.txt.gz", forever(status(500)))
        monkeypatch.setenv("PKGDATA_RETRIES", "0")
        with pytest.raises(pkgdata.StoreError, match="500"):
            pull(config.replaced(url=server.url), force=True)
    assert read(os.path.join(config.home, "flower")) == MANY


def test_a_bucket_that_may_not_be_listed_says_403_of_what_is_not_there(tmp_path, config):
    registered(tmp_path, config, FLOWER)
    datasets.push("flower", config=config, format="etcetera")
    datasets.purge("flower", config=config)
    with FaultServer({"flower.tgz": Path(config.url, "flower.tgz").read_bytes()}) as server:
        server.script("flower.manifest.txt.gz", forever(status(403)))
        assert pull(config.replaced(url=server.url)) == FLOWER
        server.script("flower.tgz", forever(status(403)))
        with pytest.raises(pkgdata.AccessDeniedError):
            pull(config.replaced(url=server.url), force=True)


def test_a_full_disk_is_reported_before_the_first_byte(tmp_path, config, monkeypatch):
    pushed(tmp_path, config, MANY)
    monkeypatch.setattr("pkgdata.base.disk.free_bytes", lambda path: 1000)
    with pytest.raises(pkgdata.CacheError, match="200000 bytes are needed, 1000 are free"):
        pull(config)


def test_listing(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    registered(tmp_path, config, FLOWER)
    datasets.register(make(tmp_path / "b", FLOWER), "other", config=config)
    datasets.push("other", config=config, format="etcetera")
    Store(config.url)["unrelated.txt"] = b""
    Store(config.url)["deep/below.tgz"] = b""
    assert datasets.ls(remote=True, config=config) == ["flower", "other"]
    assert repository.forms(config.store()) == {
        "flower": {"pkgdata"},
        "other": {"etcetera"},
    }
