"""etcetera's form: what is written, and that nothing bad comes out of what others wrote."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from datasetting import FLOWER, pushed, read, registered, visible
from faults import FaultServer, cut, forever

import pkgdata
from pkgdata import DatasetError, ExtractionError, datasets
from pkgdata.stores import codecs


@pytest.fixture
def config(tmp_path):
    return datasets.Config(str(tmp_path / "repo"), tmp_path / "data", format="etcetera")


def pull(config, **options):
    datasets.pull("flower", config=config, **options)
    return read(os.path.join(config.home, "flower"))


def put(config, members, spoil=lambda content: content):
    """Put an archive into the repository: of (name, content) or of `tarfile.TarInfo`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    config.store()["flower.tgz"] = spoil(buffer.getvalue())


def special(name, kind, linkname="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, linkname, mode
    return info


GOOD = ("data/train/a.txt", b"a")

# -- there and back --------------------------------------------------------------------------


def test_there_and_back(tmp_path, config):
    contents = {**FLOWER, "data/none/": b"", "empty/deep/": b"", ".hidden": b"too"}
    sent = pushed(tmp_path, config, contents)
    assert os.listdir(config.url) == ["flower.tgz"]
    assert sent.moved_bytes == os.path.getsize(Path(config.url, "flower.tgz"))
    got = datasets.pull("flower", config=config)
    assert read(got.path) == contents
    assert (got.form, got.files, got.size) == ("etcetera", sent.files, sent.size)
    assert got.digest == pkgdata.Dataset(got.path).manifest().digest()
    assert not datasets.verify("flower", config=config)
    assert not datasets.diff("flower", config=config)
    Path(got.path, "new.txt").write_bytes(b"")
    assert datasets.verify("flower", config=config).extra == ["new.txt"]
    assert datasets.diff("flower", config=config).extra == ["new.txt"]


def test_the_members_are_those_of_etcetera(tmp_path, config):
    folder = registered(tmp_path, config, {**FLOWER, "data/none/": b""})
    datasets.push("flower", config=config)
    # what its make_tgz does: the directory's own order, each with all that is below it
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w:gz") as archive:
        for path in folder.resolve().iterdir():
            archive.add(path, path.name)
    expected.seek(0)
    with (
        tarfile.open(fileobj=expected) as theirs,
        tarfile.open(Path(config.url, "flower.tgz")) as ours,
    ):
        facts = [[one.get_info() for one in archive] for archive in (ours, theirs)]
    assert facts[0] == facts[1]
    names = [one["name"] for one in facts[0]]
    assert not any(name.startswith((".", "/")) for name in names)
    assert "data/none/" in names


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such modes")
def test_modes_and_times_are_kept(tmp_path, config):
    folder = registered(tmp_path, config, FLOWER)
    (folder / "README.md").chmod(0o444)
    (folder / "meta.json").chmod(0o755)
    os.utime(folder / "meta.json", (1e9, 1e9))
    (folder / "assets").chmod(0o750)
    datasets.push("flower", config=config)
    pull(config, force=True)
    found = {
        name: stat.S_IMODE(Path(config.home, "flower", name).stat().st_mode)
        for name in ("README.md", "meta.json", "assets")
    }
    assert found == {"README.md": 0o444, "meta.json": 0o755, "assets": 0o750}
    assert Path(config.home, "flower", "meta.json").stat().st_mtime == 1e9
    datasets.purge("flower", config=config)
    assert visible(config.home) == []


def test_links_within_a_dataset_come_back_as_what_they_lead_to(tmp_path, config):
    folder = registered(tmp_path, config, FLOWER)
    os.symlink("../train/a.txt", folder / "data" / "val" / "link.txt")
    os.symlink("link.txt", folder / "data" / "val" / "again.txt")
    os.symlink("val", folder / "data" / "test")
    os.link(folder / "README.md", folder / "README.txt")
    datasets.push("flower", config=config)
    expected = read(folder)
    assert "data/test/again.txt" in expected
    assert pull(config, force=True) == expected
    assert not any(path.is_symlink() for path in Path(config.home, "flower").rglob("*"))


@pytest.mark.parametrize("text", ["/etc/hostname", "../../../outside", "nowhere"])
def test_a_link_that_nobody_could_follow_is_not_pushed(tmp_path, config, text):
    folder = registered(tmp_path, config, FLOWER)
    os.symlink(text, folder / "data" / "val" / "link")
    with pytest.raises(DatasetError, match=r"is a link to .*, which is not in the dataset"):
        datasets.push("flower", config=config)
    assert not os.path.exists(config.url)


def test_what_etcetera_pushed_is_found_without_asking_for_it(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    assert pull(config.replaced(format="pkgdata")) == FLOWER
    with pytest.raises(pkgdata.UnknownNameError):
        pull(config, format="pkgdata", force=True)


def test_a_single_partition_cannot_be_pulled(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    for dry_run in (True, False):
        with pytest.raises(DatasetError, match="one archive, of which no single"):
            datasets.pull("flower", config=config, partitions="val", dry_run=dry_run)
    assert visible(config.home) == []


def test_dry_runs_change_nothing(tmp_path, config):
    registered(tmp_path, config, FLOWER)
    planned = datasets.push("flower", config=config, dry_run=True)
    assert (planned.files, planned.moved_files) == (len(FLOWER), len(FLOWER))
    assert not os.path.exists(config.url)
    sent = datasets.push("flower", config=config)
    datasets.purge("flower", config=config)
    planned = datasets.pull("flower", config=config, dry_run=True)
    assert (planned.form, planned.moved_bytes) == ("etcetera", sent.moved_bytes)
    assert visible(config.home) == []


def test_nothing_is_replaced_without_force(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    registered(tmp_path, config, {"data/p/": b""})
    with pytest.raises(pkgdata.AlreadyPublishedError):
        datasets.push("flower", config=config)
    datasets.push("flower", force=True, config=config)
    assert pull(config, force=True) == {"data/p/": b""}


# -- archives of others ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([GOOD, ("../outside.txt", b"")], "has the member '../outside.txt'"),
        ([GOOD, ("/etc/outside.txt", b"")], "it is absolute"),
        ([GOOD, ("data/../../outside.txt", b"")], "holds the part '..'"),
        (
            [GOOD, special("data/train/l", tarfile.SYMTYPE, "a.txt"), ("data/train/l/x", b"")],
            "twice, as a link and as a folder",
        ),
        ([GOOD, special("fifo", tarfile.FIFOTYPE)], "a device or a pipe"),
        ([GOOD, special("dev", tarfile.CHRTYPE)], "a device or a pipe"),
        ([GOOD, ("data/train/a.txt/b", b"")], "a file and a folder"),
        ([GOOD, ("README.md/b", b""), ("README.md", b"")], "a file and a folder"),
    ],
)
def test_archives_that_are_refused(tmp_path, config, members, problem):
    put(config, members)
    with pytest.raises(ExtractionError) as caught:
        pull(config)
    assert problem in str(caught.value)
    assert "flower.tgz" in str(caught.value)
    assert visible(config.home) == []
    assert [name for name in os.listdir(config.home) if name.endswith(".tmp")] == []
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        ([("data/train/l", tarfile.SYMTYPE, "/etc/passwd")], "leaves the archive"),
        ([("data/train/l", tarfile.SYMTYPE, "../../../x")], "leaves the archive"),
        ([("data/train/l", tarfile.LNKTYPE, "../x")], "leaves the archive"),
        ([("l", tarfile.SYMTYPE, ".")], "leads to a folder that it is in"),
        ([("l", tarfile.SYMTYPE, "nowhere")], "leads nowhere"),
        ([("l", tarfile.SYMTYPE, "l")], "goes in a circle"),
        ([("data/l", tarfile.SYMTYPE, "../data")], "leads to a folder that it is in"),
        ([("l", tarfile.SYMTYPE, "m"), ("m", tarfile.SYMTYPE, "l")], "goes in a circle"),
    ],
)
def test_links_that_cannot_be_followed_are_skipped_with_a_warning(config, links, problem):
    put(config, [GOOD, *(special(*link) for link in links)])
    with pytest.warns(pkgdata.PkgdataWarning, match=rf"flower\.tgz has links .*{problem}"):
        assert pull(config) == {"data/train/a.txt": b"a"}


def test_a_long_header_is_refused(config):
    long = special("data/train/a.txt", tarfile.XHDTYPE)
    long.size = 1 << 30
    put(config, [long])
    with pytest.raises(ExtractionError, match="headers above 65536 bytes"):
        pull(config)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-9],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-8] + bytes(8),
        lambda content: b"no archive at all, but text",
        lambda content: gzip.compress(b"no tar" * 1000),
        lambda content: gzip.compress(gzip.decompress(content)[:600]),
    ],
)
def test_archives_that_are_damaged(config, spoil):
    put(config, [(f"data/p/{number}.bin", os.urandom(700)) for number in range(20)], spoil)
    with pytest.raises(ExtractionError, match="cannot be read"):
        pull(config)
    assert visible(config.home) == []


def test_an_archive_that_grows_too_much_is_refused(config, monkeypatch):
    monkeypatch.setattr(codecs, "_ALWAYS_ALLOWED", 1 << 20)
    monkeypatch.setenv("PKGDATA_EXTRACT_LIMIT", "1")
    put(config, [GOOD, ("data/train/bomb", bytes(4 << 20))])
    with pytest.raises(ExtractionError, match="grows past 1048576 bytes; refused") as caught:
        pull(config)
    assert "extract_limit" in caught.value.hint
    monkeypatch.setenv("PKGDATA_EXTRACT_LIMIT", "5000")
    assert len(pull(config)["data/train/bomb"]) == 4 << 20


def test_copies_of_links_count_too(config, monkeypatch):
    monkeypatch.setattr(codecs, "_ALWAYS_ALLOWED", 1 << 20)
    monkeypatch.setenv("PKGDATA_EXTRACT_LIMIT", "1")
    links = [special(f"data/train/{n}", tarfile.SYMTYPE, "large") for n in range(3)]
    put(config, [("data/train/large", bytes(400_000)), *links])
    with pytest.raises(ExtractionError, match="grows past"):
        pull(config)


def test_an_archive_of_what_is_no_dataset_shows_nothing(config):
    put(config, [("flower/data/train/a.txt", b"a")])
    with pytest.raises(DatasetError, match="must have a directory data/"):
        pull(config)
    assert visible(config.home) == []


def test_what_other_programs_write_is_read(config):
    put(
        config,
        [
            special("./", tarfile.DIRTYPE, mode=0o755),
            special("./data/", tarfile.DIRTYPE, mode=0o755),
            ("./data/train/a.txt", b"first"),
            ("./data/train/a.txt", b"the last one counts"),
        ],
    )
    assert pull(config) == {"data/train/a.txt": b"the last one counts"}


def test_a_transfer_that_breaks_is_resumed(config, tmp_path):
    contents = {f"data/p/{number}.bin": os.urandom(50_000) for number in range(10)}
    pushed(tmp_path, config, contents)
    content = Path(config.url, "flower.tgz").read_bytes()
    with FaultServer({"flower.tgz": content}) as server:
        server.script("flower.tgz", cut(200_000))
        assert pull(config.replaced(url=server.url)) == contents
        server.script("flower.tgz", forever(cut(1000)))
        with pytest.raises(pkgdata.IncompleteTransferError):
            pull(config.replaced(url=server.url), force=True)
    assert read(os.path.join(config.home, "flower")) == contents


def test_an_archive_is_read_once_and_kept_nowhere_else(tmp_path, config):
    pushed(tmp_path, config, FLOWER)
    with FaultServer({"flower.tgz": Path(config.url, "flower.tgz").read_bytes()}) as server:
        pull(config.replaced(url=server.url))
        gets = [r.path for r in server.requests if r.method == "GET"]
    assert gets == ["flower.manifest.txt.gz", "flower.tgz"]
    assert not (tmp_path / "cache").exists()
