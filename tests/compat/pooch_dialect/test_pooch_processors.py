"""The pooch dialect: archives and compressed files."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pooch as theirs
import pytest
from pooch_files import MEMBERS, REGISTRY, files_below, new_process, sha, tarred, zipped

import pkgdata
import pkgdata.compat.pooch as pooch
from pkgdata.stores import codecs

# -- processors --------------------------------------------------------------------------------


def processors(module):
    return {
        "zip all": ("pack.zip", lambda: module.Unzip()),
        "zip one": ("pack.zip", lambda: module.Unzip(members=["top/a.txt"])),
        "zip dot": ("pack.zip", lambda: module.Unzip(members=["./top/a.txt"])),
        "zip folder": ("pack.zip", lambda: module.Unzip(members=["top/sub"])),
        "zip prefix": ("pack.zip", lambda: module.Unzip(members=["top/su"])),
        "zip two": ("pack.zip", lambda: module.Unzip(members=["d.txt", "top/sub"])),
        "zip none": ("pack.zip", lambda: module.Unzip(members=["no such"])),
        "zip empty": ("pack.zip", lambda: module.Unzip(members=[])),
        "zip into": ("pack.zip", lambda: module.Unzip(extract_dir="here")),
        "tar all": ("pack.tar.gz", lambda: module.Untar()),
        "tar folder": ("pack.tar.gz", lambda: module.Untar(members=["top/sub"])),
        "tar into": ("pack.tar.gz", lambda: module.Untar(extract_dir="deep/here")),
        "gz": ("a.txt.gz", lambda: module.Decompress()),
        "xz": ("a.txt.xz", lambda: module.Decompress(method="xz")),
        "bz2": ("a.txt.bz2", lambda: module.Decompress(method="bzip2", name="plain.txt")),
    }


@pytest.mark.parametrize("case", list(processors(pooch)))
def test_results_are_where_pooch_puts_them(server, tmp_path, case):
    found = []
    for module, folder in ((theirs, tmp_path / "theirs"), (pooch, tmp_path / "ours")):
        name, make = processors(module)[case]
        pup = module.create(folder, server.url, registry=REGISTRY)
        for _ in range(2):
            result = pup.fetch(name, processor=make())
            paths = [result] if isinstance(result, str) else result
            here = {os.path.relpath(path, folder): Path(path).read_bytes() for path in paths}
            found.append((here, files_below(folder)))
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize("kind", ["Unzip", "Untar"])
def test_members_add_up(pup, store, kind):
    name = "pack.zip" if kind == "Unzip" else "pack.tar.gz"
    processor = getattr(pooch, kind)
    assert pup.fetch(name, processor=processor(members=["no such"])) == []
    assert len(pup.fetch(name, processor=processor(members=["d.txt"]))) == 1
    assert len(pup.fetch(name, processor=processor(members=["top/sub", "d.txt"]))) == 3
    assert len(pup.fetch(name, processor=processor())) == 4
    assert len(pup.fetch(name, processor=processor(members=["d.txt"]))) == 1


def test_a_complete_result_is_not_looked_up_in_the_archive(pup, server, monkeypatch):
    first = pup.fetch("pack.tar.gz", processor=pooch.Untar())
    new_process()
    monkeypatch.setattr(tarfile, "open", None)
    assert pup.fetch("pack.tar.gz", processor=pooch.Untar()) == first
    assert len(server.requests) == 1


def test_a_file_that_is_missing_is_unpacked_again(pup, store, log):
    paths = pup.fetch("pack.zip", processor=pooch.Unzip())
    os.remove(paths[0])
    assert pup.fetch("pack.zip", processor=pooch.Unzip()) == paths
    assert len(log) == 3
    (store / "pack.zip.unzip" / "more.txt").write_bytes(b"of the user")
    assert len(pup.fetch("pack.zip", processor=pooch.Unzip())) == 5
    assert len(log) == 3


def test_a_new_archive_is_unpacked_again(pup, server, store):
    pup.fetch("pack.zip", processor=pooch.Unzip())
    pup.fetch("a.txt.gz", processor=pooch.Decompress())
    server.contents["pack.zip"] = zipped({"d.txt": b"second"})
    server.contents["a.txt.gz"] = gzip.compress(b"second")
    for name in ("pack.zip", "a.txt.gz"):
        pup.registry[name] = sha(server.contents[name])
    pup.fetch("pack.zip", processor=pooch.Unzip())
    assert (store / "pack.zip.unzip" / "d.txt").read_bytes() == b"second"
    assert Path(pup.fetch("a.txt.gz", processor=pooch.Decompress())).read_bytes() == b"second"


def test_what_pooch_unpacked_is_taken_as_it_is(server, store, log):
    pup = theirs.create(store, server.url, registry=REGISTRY)
    before = pup.fetch("pack.zip", processor=theirs.Unzip())
    plain = pup.fetch("a.txt.gz", processor=theirs.Decompress())
    lines = len(log)
    ours = pooch.create(store, server.url, registry=REGISTRY)
    assert ours.fetch("pack.zip", processor=pooch.Unzip()) == before
    assert ours.fetch("a.txt.gz", processor=pooch.Decompress()) == plain
    assert len(log) == lines


def evil_zip(name: str) -> bytes:
    return zipped({name: b"evil"})


def evil_tar(name: str, **fields: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("Unzip", evil_zip("../../evil.txt")),
        ("Unzip", evil_zip("/evil.txt")),
        ("Untar", evil_tar("../evil.txt")),
        ("Untar", evil_tar("link", type=tarfile.SYMTYPE, linkname="/etc")),
        ("Untar", evil_tar("device", type=tarfile.CHRTYPE)),
        ("Unzip", b"no archive at all"),
    ],
)
def test_archives_that_leave_their_folder_are_refused(server, store, tmp_path, kind, content):
    server.contents["evil"] = content
    pup = pooch.create(store, server.url, registry={"evil": sha(content)})
    with pytest.raises(pkgdata.ExtractionError):
        pup.fetch("evil", processor=getattr(pooch, kind)())
    assert files_below(store) == {"evil"}
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("kind", ["Unzip", "Untar", "Decompress"])
def test_bombs_are_refused(server, store, kind, monkeypatch):
    monkeypatch.setattr("pkgdata.stores.codecs._ALWAYS_ALLOWED", 1000)
    monkeypatch.setenv("PKGDATA_EXTRACT_LIMIT", "10")
    zeros = bytes(1_000_000)
    content = {
        "Unzip": zipped({"zeros": zeros}),
        "Untar": tarred({"zeros": zeros}),
        "Decompress": gzip.compress(zeros),
    }[kind]
    server.contents["bomb.gz"] = content
    pup = pooch.create(store, server.url, registry={"bomb.gz": sha(content)})
    with pytest.raises(pkgdata.ExtractionError, match="grows past"):
        pup.fetch("bomb.gz", processor=getattr(pooch, kind)())
    assert files_below(store) == {"bomb.gz"}


def test_zstd_and_links_that_lead_nowhere(server, store):
    """Which pooch itself refuses or leaves as dangling links."""
    packed = codecs.encode(b"plain", "zstd")
    link = tarfile.TarInfo("top/link")
    link.type, link.linkname = tarfile.SYMTYPE, "nowhere"
    buffer = io.BytesIO(gzip.decompress(tarred({"top/a.txt": b"a"})))
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        archive.addfile(link)
    archived = codecs.encode(buffer.getvalue(), "zstd")
    server.contents |= {"a.txt.zst": packed, "a.tar.zst": archived}
    registry = {"a.txt.zst": sha(packed), "a.tar.zst": sha(archived)}
    pup = pooch.create(store, server.url, registry=registry)
    path = pup.fetch("a.txt.zst", processor=pooch.Decompress())
    assert Path(path).read_bytes() == b"plain"
    with pytest.warns(pkgdata.PkgdataWarning, match="'top/link' leads nowhere"):
        (path,) = pup.fetch("a.tar.zst", processor=pooch.Untar())
    assert Path(path).read_bytes() == b"a"


def test_nothing_is_written_through_a_link(pup, store, tmp_path):
    """As an archive of evil that pooch itself unpacked may have left one."""
    (store / "pack.zip.unzip").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (store / "pack.zip.unzip" / "top").symlink_to(tmp_path / "victim")
    with pytest.raises(pkgdata.ExtractionError, match="is a link"):
        pup.fetch("pack.zip", processor=pooch.Unzip())
    assert files_below(tmp_path / "victim") == set()


@pytest.mark.parametrize("method", ["auto", "bla", "zip"])
def test_unknown_methods_are_reported_in_pooch_s_words(pup, method):
    with pytest.raises(ValueError) as ours:
        pup.fetch("a.txt", processor=pooch.Decompress(method=method))
    with pytest.raises(ValueError) as original:
        theirs.Decompress(method=method)(pup.fetch("a.txt"), "download", None)
    assert ours.value.args == original.value.args


def test_a_processor_of_the_user(pup, store):
    calls = []

    def process(fname, action, caller):
        calls.append((fname, action, caller))
        return len(calls)

    assert pup.fetch("a.txt", processor=process) == 1
    assert pup.fetch("a.txt", processor=process) == 2
    (store / "a.txt").write_bytes(b"changed")
    pup.fetch("a.txt", processor=process)
    path = str(store / "a.txt")
    assert calls == [(path, "download", pup), (path, "fetch", pup), (path, "update", pup)]


def test_a_class_derived_from_pooch_s_runs_its_own_code(pup, store):
    class Mine(pooch.Unzip):
        suffix = ".mine"

    paths = pup.fetch("pack.zip", processor=Mine())
    assert {os.path.relpath(path, store) for path in paths} == {
        f"pack.zip.mine/{name}" for name in MEMBERS
    }
