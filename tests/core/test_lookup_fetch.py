"""What lookup brings from the mirrors: files, batches, trees."""

from __future__ import annotations

import gc
import os
import stat
import threading
from pathlib import Path

import pytest
from looking import (
    CONTENT,
    DIGEST,
    FILES,
    NAME,
    fill_cache,
    posix,
    put,
    snapshot,
)

import pkgdata

# -- the mirrors -----------------------------------------------------------------------------


def test_mirrors_are_tried_in_order(project):
    put(project / "second", "top.txt", b"top")
    bases = [(project / name).as_uri() for name in ("empty", "second", "origin")]
    data = pkgdata.declare("lookpkg", dataurl=bases)
    seen = []
    data.get("top.txt", progress=lambda event: seen.append((event.state, event.source)))
    assert [source for state, source in seen if state == "start"] == bases[:2]
    assert seen[-1][0] == "done"


def test_when_all_mirrors_fail_each_is_told(project):
    bases = [(project / name).as_uri() for name in ("empty1", "empty2")]
    with pytest.raises(pkgdata.AllMirrorsFailedError) as caught:
        pkgdata.declare("lookpkg", dataurl=bases).get(NAME)
    assert caught.value.name == NAME
    assert [address for address, _ in caught.value.attempts] == [f"{one}/{NAME}" for one in bases]
    assert all(isinstance(error, FileNotFoundError) for _, error in caught.value.attempts)


@pytest.mark.parametrize("content", [CONTENT[::-1], b"", CONTENT + b"!", CONTENT[:-1]])
def test_wrong_bytes_never_enter_the_cache(project, data, content):
    put(project / "origin", content=content)
    with pytest.raises(pkgdata.PkgdataError) as caught:
        data.get(NAME)
    assert isinstance(caught.value, (pkgdata.IntegrityError, pkgdata.AllMirrorsFailedError))
    assert not (project / "cache" / "objects-v1").exists()
    assert data.find(NAME) is None


def test_a_mirror_with_wrong_bytes_is_passed_over(project):
    put(project / "bad", content=CONTENT[::-1])
    bases = [(project / name).as_uri() for name in ("bad", "origin")]
    assert Path(pkgdata.declare("lookpkg", dataurl=bases).get(NAME)).read_bytes() == CONTENT


def test_the_urls_of_one_file_come_first(project):
    put(project / "own", "other name.bin")
    data = pkgdata.declare("lookpkg", urls={NAME: (project / "own" / "other name.bin").as_uri()})
    assert [p.where for p in data.where(NAME) if p.kind == "mirror"] == [
        (project / "own" / "other name.bin").as_uri(),
        f"{(project / 'origin').as_uri()}/{NAME}",
    ]
    put(project / "origin", content=b"not asked")
    path = data.get(NAME)
    assert os.path.basename(path) == "dust map.txt"
    assert Path(path).read_bytes() == CONTENT


def test_placeholders_and_rewrites(project):
    put(project / "mirror" / "lookpkg" / "1.5", "top.txt", b"top")
    rules = {"https://example.org/": (project / "mirror").as_uri() + "/"}
    data = pkgdata.declare(
        "lookpkg", dataurl="https://example.org/{package}/{version}/", version="1.5", rewrite=rules
    )
    assert Path(data.get("top.txt")).read_bytes() == b"top"
    unknown = pkgdata.declare("lookpkg", dataurl="https://example.org/{version}/")
    with pytest.raises(pkgdata.ConfigError, match="needs the version"):
        unknown.get(NAME)


def test_without_a_dataurl(project):
    with pytest.raises(pkgdata.ConfigError, match="no dataurl says where to fetch it"):
        pkgdata.declare("nourl", registry={"a": DIGEST}).get("a")


# -- what is returned ------------------------------------------------------------------------


def test_the_path_ends_in_the_files_own_name_and_is_read_only(project, data):
    path = data.get(NAME)
    assert os.path.isabs(path)
    assert os.path.basename(path) == "dust map.txt"
    assert DIGEST[2:] in path
    assert not os.stat(path).st_mode & 0o222


def test_two_packages_share_one_object(project, data):
    uri = (project / "origin").as_uri()
    other = pkgdata.declare("other", dataurl=uri, registry={NAME: DIGEST})
    path = data.get(NAME)
    (project / "origin" / NAME).unlink()
    assert other.get(NAME) == path


def test_one_object_under_two_names_is_stored_once(project):
    uri = (project / "origin").as_uri()
    both = {NAME: DIGEST, "copy.txt": DIGEST}
    data = pkgdata.declare("other", dataurl=uri, registry=both)
    first, second = data.get(NAME), data.get("copy.txt")  # the mirror has no copy.txt
    assert os.path.samefile(first, second)
    assert os.path.basename(second) == "copy.txt"


def test_a_damaged_object_is_fetched_again(project):
    data = pkgdata.declare("lookpkg", verify="always")
    path = Path(data.get(NAME))
    path.chmod(0o644)
    path.write_bytes(CONTENT[::-1])
    with pytest.warns(pkgdata.PkgdataWarning, match="it will be fetched again"):
        assert Path(data.get(NAME)).read_bytes() == CONTENT


def test_verify_hashes_again(project, data):
    data.fetch()
    assert data.verify() == dict.fromkeys(FILES, "ok")
    path = Path(data.get("top.txt"))
    path.chmod(0o644)
    path.write_bytes(b"pot")
    Path(data.get("maps/gas.txt")).unlink()
    found = data.verify()
    assert found[NAME] == "ok"
    assert found["maps/gas.txt"] == "absent"
    assert found["top.txt"].startswith(f"{path}: expected sha256:")
    assert data.verify([NAME]) == {NAME: "ok"}


def test_open_reads_and_never_writes(project, data):
    with data.open("top.txt") as file:
        assert file.read() == b"top"
    with data.open("top.txt", "r", encoding="ascii") as file:
        assert file.read() == "top"
    for mode in ("w", "a", "r+", "rb+", "x"):
        with pytest.raises(ValueError, match="opened for reading"):
            data.open("top.txt", mode)


def test_names_that_no_digest_pins(project):
    uri = (project / "origin").as_uri()
    data = pkgdata.declare("free", dataurl=uri, registry={"top.txt": None})
    path = data.get("top.txt")
    assert Path(path).read_bytes() == b"top"
    assert Path(path).name == "top.txt", "pandas and others go by the ending"
    assert Path(path).resolve().parts[-4:-2] == ("download", "url")
    put(project / "origin", "top.txt", b"newer")
    assert data.get("top.txt") == pkgdata.declare("free", dataurl=uri, registry=data.registry).get(
        "top.txt"
    )
    assert [p.state for p in data.where("top.txt") if p.kind == "user cache"] == ["found"]


# -- batches and trees -----------------------------------------------------------------------


def test_fetch_brings_everything(project, data):
    report = data.fetch()
    assert set(report.succeeded) == set(FILES)
    assert report.failed == {}
    for name, path in report.succeeded.items():
        assert Path(path).read_bytes() == FILES[name]
        assert data.find(name) == path


def test_fetch_goes_on_after_a_failure_and_can_be_retried(project, data):
    (project / "origin" / "top.txt").unlink()
    with pytest.raises(pkgdata.BatchError, match="3 of 5 files of lookpkg") as caught:
        data.fetch([*FILES, "none.txt", "none.txt", "../x"])
    report = caught.value.report
    assert set(report.succeeded) == {NAME, "maps/gas.txt"}
    assert set(report.failed) == {"top.txt", "none.txt", "../x"}
    put(project / "origin", "top.txt", b"top")
    with pytest.raises(pkgdata.BatchError, match="2 of 3 files of lookpkg") as caught:
        report.retry()
    assert caught.value.report.succeeded == {"top.txt": data.find("top.txt")}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_fetch_to_a_folder_that_all_may_write_to_makes_no_file_that_all_may_write_to(project, data):
    folder = project / "usb"
    folder.mkdir()
    folder.chmod(0o777)
    umask = os.umask(0o077)
    try:
        data.fetch([NAME], to=folder)
    finally:
        os.umask(umask)
    assert (folder / "lookpkg" / NAME).stat().st_mode & 0o777 == 0o600


def test_fetch_to_a_folder_that_serves_elsewhere(project, data, monkeypatch):
    report = data.fetch([NAME, "top.txt"], to=project / "usb")
    assert report.succeeded[NAME] == str(project / "usb" / "lookpkg" / NAME)
    before = snapshot(project / "usb")
    data.fetch([NAME, "top.txt"], to=str(project / "usb"))
    assert snapshot(project / "usb") == before
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(project / "another cache"))
    monkeypatch.setenv("PKGDATA_FOLDERS", str(project / "usb"))
    assert pkgdata.declare("lookpkg").get(NAME) == str(project / "usb" / "lookpkg" / NAME)


def test_a_tree_in_the_cache(project, data):
    folder = data.tree("maps")
    assert sorted(os.listdir(folder)) == ["dust map.txt", "gas.txt"]
    before = snapshot(project)
    assert data.tree("maps/") == folder
    assert snapshot(project) == before
    whole = data.tree()
    assert Path(whole, NAME).read_bytes() == CONTENT
    with pytest.raises(pkgdata.UnknownNameError):
        data.tree("map")


def test_a_tree_that_a_folder_holds_whole_is_that_folder(project, data):
    for name, content in FILES.items():
        put(project / "predefined", name, content)
    assert data.tree("maps") == str(project / "predefined" / "maps")
    (project / "predefined" / "maps" / "gas.txt").unlink()
    assert data.tree("maps").startswith(str(project / "cache"))


@posix
def test_a_tree_of_a_folders_symbolic_links(project, data):
    put(project / "pool", "0001")
    (project / "predefined" / "maps").mkdir(parents=True)
    (project / "predefined" / NAME).symlink_to("../../pool/0001")
    folder = data.tree("maps")
    assert Path(folder, "dust map.txt").read_bytes() == CONTENT
    assert not Path(folder, "dust map.txt").is_symlink()


def test_threads_that_ask_at_once_get_one_object(project, data):
    start, seen = threading.Barrier(8, timeout=30), []

    def work():
        start.wait()
        seen.append(pkgdata.declare("lookpkg").get(NAME))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert set(seen) == {data.find(NAME)}
    assert os.listdir(project / "cache" / "partial-v1") == []


@posix
def test_no_descriptor_is_left_open(project, data):
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    data.get("top.txt")
    gc.collect()
    before = len(os.listdir(folder))
    data.get(NAME)
    with pytest.raises(pkgdata.UnknownNameError):
        data.get("none")
    gc.collect()
    assert len(os.listdir(folder)) == before


@posix
def test_objects_follow_the_mode_of_a_shared_root(project):
    root = project / "shared"
    root.mkdir()
    root.chmod(0o2775)
    path = Path(fill_cache(project, root))
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    for parent in path.parents:
        if parent == root:
            break
        assert stat.S_IMODE(parent.stat().st_mode) == 0o2775
