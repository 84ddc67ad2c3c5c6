"""Processors: archives are unpacked whole, once, safely, or not at all."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import signal
import stat
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pooch
import pytest

import pkgdata
from pkgdata.cache import upkeep
from pkgdata.core import extract
from pkgdata.errors import ExtractionError
from pkgdata.stores import codecs

FILES = {"a.txt": b"a", "sub/b.txt": b"bb", "sub/deep/c.txt": b"c" * 5000, "ü/d e.txt": b""}


@pytest.fixture
def serve(tmp_path):
    """Return a function that serves bytes under a name and declares them."""

    def make(name, content, **settings):
        origin = tmp_path / "origin"
        origin.mkdir(exist_ok=True)
        (origin / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return pkgdata.declare(
            "archives", dataurl=origin.as_uri(), registry={name: digest}, **settings
        )

    return make


def make_zip(files=FILES, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def entry(name, content=b"", **facts):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def make_tar(entries, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def plain_tar(mode="w:gz"):
    return make_tar([entry(name, content) for name, content in FILES.items()], mode)


def unpacked(paths):
    """Return content by name relative to the folder that holds all of the paths."""
    top = os.path.commonpath([os.path.dirname(path) for path in paths])
    return {
        os.path.relpath(path, top).replace(os.sep, "/"): Path(path).read_bytes() for path in paths
    }


def bucket(tmp_path, name):
    """Return the names of the files of a bucket."""
    return sorted(p.name for p in (tmp_path / "cache" / name).rglob("*") if p.is_file())


def snapshot(root):
    return {
        str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino, p.lstat().st_mode)
        for p in root.rglob("*")
    }


UNZIP, UNTAR = pkgdata.Unzip, pkgdata.Untar
ROOM = extract.Growth(200, 1000)

ARCHIVES = [
    ("x.zip", make_zip(), UNZIP),
    ("stored.zip", make_zip(method=zipfile.ZIP_STORED), UNZIP),
    ("lzma.zip", make_zip(method=zipfile.ZIP_LZMA), UNZIP),
    ("bz2.zip", make_zip(method=zipfile.ZIP_BZIP2), UNZIP),
    ("x.tar", plain_tar("w"), UNTAR),
    ("x.tar.gz", plain_tar("w:gz"), UNTAR),
    ("x.tar.bz2", plain_tar("w:bz2"), UNTAR),
    ("x.tar.xz", plain_tar("w:xz"), UNTAR),
    ("x.tar.zst", codecs.encode(plain_tar("w"), "zstd"), UNTAR),
]
archives = pytest.mark.parametrize(
    ("name", "content", "kind"), ARCHIVES, ids=[name for name, _, _ in ARCHIVES]
)
zip_and_tar = pytest.mark.parametrize(
    ("name", "content", "kind"), [ARCHIVES[0], ARCHIVES[5]], ids=["zip", "tar"]
)


# -- what is unpacked ------------------------------------------------------------------------


@archives
def test_all_members(serve, name, content, kind):
    paths = serve(name, content).get(name, processor=kind())
    assert isinstance(paths, list)
    assert all(os.path.isabs(path) for path in paths)
    assert unpacked(paths) == FILES


@archives
def test_pooch_unpacks_the_same(serve, tmp_path, name, content, kind):
    if name.endswith(".zst") and sys.version_info < (3, 14):
        pytest.skip("pooch leaves it to Python, which knows zstd since 3.14")
    ours = serve(name, content).get(name, processor=kind())
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / name).write_bytes(content)
    theirs = kind()(str(tmp_path / "theirs" / name), "download", None)
    assert unpacked(ours) == unpacked(theirs)


@zip_and_tar
def test_a_purged_file_is_unpacked_again(serve, tmp_path, name, content, kind):
    data = serve(name, content)
    paths = data.get(name, processor=kind())
    os.remove(paths[0])
    assert data.get(name, processor=kind()) == paths
    assert unpacked(paths) == FILES


@zip_and_tar
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (["a.txt"], ["a.txt"]),
        (["sub"], ["sub/b.txt", "sub/deep/c.txt"]),
        (["sub/"], ["sub/b.txt", "sub/deep/c.txt"]),
        (["./sub/deep"], ["sub/deep/c.txt"]),
        (["sub/deep/c.txt", "a.txt"], ["a.txt", "sub/deep/c.txt"]),
        ([], sorted(FILES)),
        (None, sorted(FILES)),
    ],
)
def test_chosen_members(serve, tmp_path, name, content, kind, members, expected):
    paths = serve(name, content).get(name, processor=kind(members=members))
    folder = next((tmp_path / "cache" / "derived-v1").glob("*/*/*/*"))
    assert sorted(os.path.relpath(path, folder) for path in paths) == expected
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == (
        expected
    )


@zip_and_tar
def test_a_missing_member_suggests_a_close_one(serve, tmp_path, name, content, kind):
    data = serve(name, content)
    with pytest.raises(ExtractionError, match=r"has no member 'sub/b\.tx'") as caught:
        data.get(name, processor=kind(members=["a.txt", "sub/b.tx"]))
    assert "did you mean sub/b.txt" in caught.value.hint
    with pytest.raises(ExtractionError, match="has no member 'su'"):
        data.get(name, processor=kind(members=["su"]))
    assert bucket(tmp_path, "derived-v1") == []


@zip_and_tar
def test_different_members_do_not_share_a_folder(serve, name, content, kind):
    data = serve(name, content)
    one = data.get(name, processor=kind(members=["a.txt"]))
    both = data.get(name, processor=kind())
    assert len(one) == 1
    assert len(both) == len(FILES)
    assert data.get(name, processor=kind(members=["a.txt"])) == one


def test_empty_folders_are_kept(serve, tmp_path):
    content = make_tar([entry("empty", type=tarfile.DIRTYPE), entry("a", b"a")])
    (path,) = serve("x.tgz", content).get("x.tgz", processor=UNTAR())
    assert (Path(path).parent / "empty").is_dir()
    (path,) = serve("x.zip", make_zip({"empty/": b"", "a": b"a"})).get("x.zip", processor=UNZIP())
    assert (Path(path).parent / "empty").is_dir()


def test_members_that_begin_with_a_dot_and_a_slash(serve):
    entries = [
        entry(".", type=tarfile.DIRTYPE),
        entry("./sub", type=tarfile.DIRTYPE),
        entry("./sub/a.txt", b"a"),
        entry("./link", type=tarfile.SYMTYPE, linkname="sub/a.txt"),
        entry("./sub/hard", type=tarfile.LNKTYPE, linkname="./sub/a.txt"),
    ]
    paths = serve("x.tgz", make_tar(entries)).get("x.tgz", processor=UNTAR())
    assert unpacked(paths) == {"sub/a.txt": b"a", "link": b"a", "sub/hard": b"a"}


def test_of_members_of_one_name_the_last_counts(serve):
    content = make_tar([entry("a", b"old and long"), entry("a", b"new")])
    (path,) = serve("x.tgz", content).get("x.tgz", processor=UNTAR())
    assert Path(path).read_bytes() == b"new"


def test_modes_of_an_archive_are_not_taken_over(serve):
    content = make_tar([entry("a", b"a", mode=0o6777), entry("b", b"b", mode=0)])
    for path in serve("x.tgz", content).get("x.tgz", processor=UNTAR()):
        assert stat.S_IMODE(os.stat(path).st_mode) & 0o7111 == 0
        assert Path(path).read_bytes() in (b"a", b"b")


# -- what is refused -------------------------------------------------------------------------

BAD_NAMES = [
    "../x",
    "a/../../x",
    "/etc/x",
    "//x",
    "a\\..\\x",
    "C:/x",
    "a\x01b",
]


def assert_refused(tmp_path, data, name, processor, match):
    with pytest.raises(ExtractionError, match=match):
        data.get(name, processor=processor)
    assert bucket(tmp_path, "derived-v1") == []
    assert bucket(tmp_path, "partial-v1") == []
    assert not list((tmp_path / "cache" / "partial-v1").iterdir())
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "cache" / "x").exists()


@pytest.mark.parametrize("bad", BAD_NAMES)
def test_a_zip_member_with_a_bad_name(serve, tmp_path, bad):
    data = serve("x.zip", make_zip({"good": b"g", bad: b"evil"}))
    assert_refused(tmp_path, data, "x.zip", UNZIP(), "has the member")


@pytest.mark.parametrize("bad", [*BAD_NAMES, "a/.."])
def test_a_tar_member_with_a_bad_name(serve, tmp_path, bad):
    data = serve("x.tgz", make_tar([entry("good", b"g"), entry(bad, b"evil")]))
    assert_refused(tmp_path, data, "x.tgz", UNTAR(), "has the member")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret", "..", "sub/../../x"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_out_of_the_archive_is_skipped_with_a_warning(serve, target, kind):
    content = make_tar([entry("sub/a", b"a"), entry("link", type=kind, linkname=target)])
    with pytest.warns(pkgdata.PkgdataWarning, match=r"x\.tgz has links.* 'link' leaves the arch"):
        (path,) = serve("x.tgz", content).get("x.tgz", processor=UNTAR())
    assert path.endswith(os.path.join("sub", "a"))


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("nowhere/x", "leads nowhere"),
        ("sub/a/b", "leads nowhere"),
        ("l", "in a circle"),
        (".", "a folder that it is in"),
        ("sub", "'sub/up' leads to a folder that it is in"),
    ],
)
def test_a_link_that_cannot_be_followed_is_skipped_with_a_warning(serve, target, problem):
    link = {"type": tarfile.SYMTYPE, "linkname": target}
    up = entry("sub/up", type=tarfile.SYMTYPE, linkname="../sub")
    entries = [entry("sub/a", b"a"), entry("l", **link), up]
    with pytest.warns(pkgdata.PkgdataWarning, match=problem):
        paths = serve("x.tgz", make_tar(entries)).get("x.tgz", processor=UNTAR())
    assert {os.path.basename(path) for path in paths} == {"a"}


def test_a_warning_of_many_links_names_ten_and_counts_the_others(serve):
    links = [entry(f"l{i:02}", type=tarfile.SYMTYPE, linkname="annex") for i in range(15)]
    with pytest.warns(pkgdata.PkgdataWarning, match=r"'l09' leads nowhere, and 5 more$"):
        serve("x.tgz", make_tar([entry("a", b"a"), *links])).get("x.tgz", processor=UNTAR())


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([entry("l", type=tarfile.SYMTYPE, linkname="none")], "leads nowhere"),
        ([entry("l", type=tarfile.SYMTYPE, linkname="l")], "goes in a circle"),
        (
            [
                entry("l", type=tarfile.SYMTYPE, linkname="m"),
                entry("m", type=tarfile.SYMTYPE, linkname="l"),
            ],
            "goes in a circle",
        ),
        ([entry("d", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "is a device or a pipe"),
        ([entry("d", type=tarfile.BLKTYPE)], "is a device or a pipe"),
        ([entry("d", type=tarfile.FIFOTYPE)], "is a device or a pipe"),
        (
            [entry("x", b""), entry("d", type=tarfile.SYMTYPE, linkname="x"), entry("d/a", b"")],
            "twice, as a link and as a folder",
        ),
        ([entry("a", b"a"), entry("a/b", b"b")], "is a file and a folder"),
        ([entry("a/b", b"b"), entry("a", b"a")], "is a file and a folder"),
    ],
)
def test_tar_members_that_are_refused(serve, tmp_path, entries, match):
    assert_refused(tmp_path, serve("x.tgz", make_tar(entries)), "x.tgz", UNTAR(), match)


def test_links_within_the_archive_become_files(serve):
    entries = [
        entry("sub/deep/a", b"abc"),
        entry("sub/up", type=tarfile.SYMTYPE, linkname="deep/a"),
        entry("sub/deep/chain", type=tarfile.SYMTYPE, linkname="../up"),
        entry("hard", type=tarfile.LNKTYPE, linkname="sub/deep/a"),
    ]
    paths = serve("x.tgz", make_tar(entries)).get("x.tgz", processor=UNTAR())
    assert set(unpacked(paths).values()) == {b"abc"}
    assert len(paths) == 4
    assert not any(os.path.islink(path) for path in paths)
    assert len({os.stat(path).st_ino for path in paths}) == 4


def zip_with(name, content, kind):
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    buffer = io.BytesIO(make_zip({"sub/a": b"a"}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(info, content)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_in_a_zip(serve, tmp_path, kind):
    data = serve("x.zip", zip_with("device", "", kind))
    assert_refused(tmp_path, data, "x.zip", UNZIP(), "is a device or a pipe")


def test_links_in_a_zip_are_followed_or_skipped_as_in_a_tar(serve):
    data = serve("x.zip", zip_with("top/link", "../sub", stat.S_IFLNK))
    paths = data.get("x.zip", processor=UNZIP())
    assert unpacked(paths) == {"sub/a": b"a", "top/link/a": b"a"}
    data = serve("y.zip", zip_with("link", "/etc/passwd", stat.S_IFLNK))
    with pytest.warns(pkgdata.PkgdataWarning, match="'link' leaves the archive"):
        (path,) = data.get("y.zip", processor=UNZIP())
    assert Path(path).read_bytes() == b"a"


def test_backslashes_in_a_zip_are_slashes(serve):
    """Some tools of Windows write them."""
    files = {"a.txt": b"a", "sub\\": b"", "sub\\b.txt": b"bb", "sub\\deep\\c.txt": b"c"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo()
            info.filename = name  # the constructor would replace them on Windows
            archive.writestr(info, content)
    data = serve("x.zip", buffer.getvalue())
    expected = {"a.txt": b"a", "sub/b.txt": b"bb", "sub/deep/c.txt": b"c"}
    assert unpacked(data.get("x.zip", processor=UNZIP())) == expected
    (path,) = data.get("x.zip", processor=UNZIP(members=["sub/deep"]))
    assert path.endswith(os.path.join("sub", "deep", "c.txt"))


def test_a_plain_tar_whose_first_name_looks_compressed(serve):
    content = make_tar([entry("BZhang.txt", b"a")], "w")
    (path,) = serve("x.tar", content).get("x.tar", processor=UNTAR())
    assert path.endswith("BZhang.txt")


def test_doubled_slashes_and_dots_of_a_tar_are_cleaned(serve):
    entries = [entry("data//sub/a.txt", b"a"), entry("data/./b.txt", b"b"), entry("data//c/.")]
    paths = serve("x.tgz", make_tar(entries[:2])).get("x.tgz", processor=UNTAR())
    assert unpacked(paths) == {"sub/a.txt": b"a", "b.txt": b"b"}


def test_a_link_to_a_folder_stands_for_what_is_in_it(serve):
    """Links in it are followed too, each from where it really is."""
    entries = [
        entry("fit", type=tarfile.DIRTYPE),
        entry("fit/nnfit/a.dat", b"a"),
        entry("fit/nnfit/deep/b.dat", b"b"),
        entry("fit/nnfit/deep/up", type=tarfile.SYMTYPE, linkname="../a.dat"),
        entry("fit/empty", type=tarfile.DIRTYPE),
        entry("fit/postfit", type=tarfile.SYMTYPE, linkname="nnfit"),
        entry("fit/none", type=tarfile.SYMTYPE, linkname="empty"),
        entry("fit/through", type=tarfile.SYMTYPE, linkname="postfit/deep/b.dat"),
        entry("twice", b"t"),
        entry("twice", type=tarfile.LNKTYPE, linkname="twice"),
    ]
    paths = serve("x.tgz", make_tar(entries)).get("x.tgz", processor=UNTAR())
    folder = {"a.dat": b"a", "deep/b.dat": b"b", "deep/up": b"a"}
    expected = {f"fit/nnfit/{name}": content for name, content in folder.items()}
    expected |= {f"fit/postfit/{name}": content for name, content in folder.items()}
    assert unpacked(paths) == {**expected, "fit/through": b"b", "twice": b"t"}
    top = Path(os.path.commonpath(paths))
    assert list((top / "fit" / "none").iterdir()) == []
    assert not any(path.is_symlink() for path in top.rglob("*"))


def test_a_file_and_a_folder_of_one_name_in_a_zip(serve, tmp_path):
    data = serve("x.zip", make_zip({"a": b"a", "a/b": b"b"}))
    assert_refused(tmp_path, data, "x.zip", UNZIP(), "is a file and a folder")


def test_a_bad_member_that_was_not_asked_for_does_no_harm(serve):
    data = serve("x.tgz", make_tar([entry("good", b"g"), entry("../x", b"evil")]))
    (path,) = data.get("x.tgz", processor=UNTAR(members=["good"]))
    assert Path(path).read_bytes() == b"g"


# -- bombs -----------------------------------------------------------------------------------

BOMBS = [
    ("x.zip", make_zip({"zeros": bytes(1_000_000)}), UNZIP()),
    ("x.tgz", make_tar([entry("zeros", bytes(1_000_000))]), UNTAR()),
    ("x.gz", gzip.compress(bytes(1_000_000), mtime=0), pkgdata.Decompress()),
    ("x.xz", lzma.compress(bytes(1_000_000)), pkgdata.Decompress()),
    ("x.zst", codecs.encode(bytes(1_000_000), "zstd"), pkgdata.Decompress()),
    (
        "links.tgz",
        make_tar(
            [
                entry("zeros", bytes(1000)),
                *(entry(f"l{i}", type=tarfile.LNKTYPE, linkname="zeros") for i in range(999)),
            ]
        ),
        UNTAR(),
    ),
]


@pytest.mark.parametrize(("name", "content", "processor"), BOMBS, ids=[one[0] for one in BOMBS])
def test_an_archive_that_grows_past_the_limit(
    serve, tmp_path, monkeypatch, name, content, processor
):
    monkeypatch.setattr(codecs, "_ALWAYS_ALLOWED", 50_000)
    limit = max(50_000, 2 * len(content))
    data = serve(name, content, extract_limit=2)
    assert_refused(tmp_path, data, name, processor, f"grows past {limit} bytes")
    assert serve(name, content, extract_limit=20_000).get(name, processor=processor)


def test_a_bomb_is_refused_before_much_is_written(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(codecs, "_ALWAYS_ALLOWED", 50_000)
    written = []
    real = codecs.Budget.copy
    monkeypatch.setattr(codecs.Budget, "copy", lambda *args: (written.append(args[2]), real(*args)))
    files = {f"{i}": bytes(10_000) for i in range(100)}
    with pytest.raises(ExtractionError, match="grows past"):
        serve("x.zip", make_zip(files), extract_limit=1).get("x.zip", processor=UNZIP())
    assert written == []


def test_links_to_folders_of_links_do_not_multiply(serve, tmp_path):
    """442 bytes that would unpack to 111,111 files."""
    entries = [entry("0/f", b"x")]
    for level in range(1, 6):
        entries += [
            entry(f"{level}/{i}", type=tarfile.SYMTYPE, linkname=f"../{level - 1}")
            for i in range(10)
        ]
    data = serve("x.tgz", make_tar(entries))
    assert_refused(tmp_path, data, "x.tgz", UNTAR(), "links to more than 10000 files")


@zip_and_tar
def test_more_members_than_the_limit(serve, tmp_path, name, content, kind):
    data = serve(name, content, extract_members=len(FILES) - 1)
    assert_refused(tmp_path, data, name, kind(), "holds more than 3 members; refused")
    data = serve(name, content, extract_members=len(FILES))
    assert len(data.get(name, processor=kind())) == len(FILES)


def long_header(kind):
    """Return a tar of which a header says that 1 GiB of it follows, all zeros."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 1 << 30
    start = info.tobuf(tarfile.GNU_FORMAT)
    packed = zlib.compressobj(wbits=31)
    parts = [packed.compress(start)]
    parts += [packed.compress(bytes(1 << 20)) for _ in range(16)]  # more than are ever read
    return b"".join([*parts, packed.flush()])


LONG = [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]


@pytest.mark.parametrize("kind", LONG)
def test_a_long_header_is_refused_before_it_is_read(serve, tmp_path, kind):
    data = serve("x.tgz", long_header(kind))
    data.get("x.tgz")
    tracemalloc.start()
    try:
        assert_refused(tmp_path, data, "x.tgz", UNTAR(), "with headers above 65536 bytes")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_headers_without_end_are_refused(serve, tmp_path):
    buffer = io.BytesIO()
    for _ in range(2000):  # each says that the next one is still of the same member
        buffer.write(tarfile.TarInfo.create_pax_global_header({"comment": "x"}))
    with pytest.raises(ExtractionError, match="with headers above 65536 bytes"):
        serve("x.tar", buffer.getvalue()).get("x.tar", processor=UNTAR())
    names = [entry(f"{'d/' * 2000}{number}") for number in range(200)]
    data = serve("y.tgz", make_tar(names), extract_members=200)
    assert_refused(tmp_path, data, "y.tgz", UNTAR(), "holds more than 200 members|folders")


def test_long_names_are_unpacked(serve):
    name = "/".join(["a" * 200] * 4)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", format=form) as archive:
            info, content = entry(name, b"a")
            archive.addfile(info, io.BytesIO(content))
        (path,) = serve("x.tgz", buffer.getvalue()).get("x.tgz", processor=UNTAR())
        assert Path(path).read_bytes() == b"a"


def test_a_small_archive_may_grow_much(serve):
    data = serve("x.tgz", make_tar([entry("zeros", bytes(5_000_000))]), extract_limit=1)
    (path,) = data.get("x.tgz", processor=UNTAR())
    assert os.path.getsize(path) == 5_000_000


# -- damage ----------------------------------------------------------------------------------


@archives
def test_a_truncated_archive(serve, tmp_path, name, content, kind):
    whole = len(content.rstrip(b"\0"))  # a plain tar is padded with blocks of zeros
    for keep in (1, whole // 3, whole * 3 // 4):
        data = serve(name, content[:keep])
        assert_refused(tmp_path, data, name, kind(), "cannot be read as a")


@archives
def test_damage_gives_an_extraction_error_or_the_right_files(serve, tmp_path, name, content, kind):
    """Whatever byte is flipped: never another error, never half of the members."""
    chance = random.Random(name)
    outcomes = set()
    for position in chance.sample(range(len(content)), min(60, len(content))):
        damaged = bytearray(content)
        damaged[position] ^= 1 << chance.randrange(8)
        (tmp_path / "file").write_bytes(damaged)
        digest = pkgdata.Digest("sha256", hashlib.sha256(damaged).hexdigest())
        cache = pkgdata.Cache(str(tmp_path / "cache"))
        try:
            paths = extract.apply(
                kind(), str(tmp_path / "file"), "fetch", None, cache, digest, ROOM
            )
        except ExtractionError:
            outcomes.add("refused")
            continue
        outcomes.add("unpacked")
        assert len(paths) <= len(FILES)
    assert "refused" in outcomes
    assert list((tmp_path / "cache" / "partial-v1").iterdir()) == []


def test_an_encrypted_zip(serve, tmp_path):
    content = bytearray(make_zip({"a": b"secret"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    data = serve("x.zip", bytes(content))
    assert_refused(tmp_path, data, "x.zip", UNZIP(), "encrypted")


def test_what_is_no_archive_at_all(serve, tmp_path):
    assert_refused(tmp_path, serve("x.zip", b"text"), "x.zip", UNZIP(), "as a zip archive")
    assert_refused(tmp_path, serve("x.tar", b"text"), "x.tar", UNTAR(), "as a tar archive")


def test_a_full_disk_is_not_blamed_on_the_archive(serve, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(codecs.Budget, "copy", full)
    for name, content, kind in (ARCHIVES[0], ARCHIVES[5]):
        with pytest.raises(pkgdata.CacheError, match="No space left on device"):
            serve(name, content).get(name, processor=kind())


# -- decompress ------------------------------------------------------------------------------

COMPRESSED = [
    ("t.txt.gz", gzip.compress(b"text" * 1000, mtime=0), "gzip"),
    ("t.txt.xz", lzma.compress(b"text" * 1000), "xz"),
    ("t.txt.xz", lzma.compress(b"text" * 1000), "lzma"),
    ("t.txt.bz2", bz2.compress(b"text" * 1000), "bzip2"),
    ("t.txt.zst", codecs.encode(b"text" * 1000, "zstd"), "zstd"),
]
compressed = pytest.mark.parametrize(("name", "content", "method"), COMPRESSED)


@compressed
@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("own", [None, "own name.txt"])
def test_decompress(serve, name, content, method, auto, own):
    processor = pkgdata.Decompress(method="auto" if auto else method, name=own)
    path = serve(name, content).get(name, processor=processor)
    assert os.path.basename(path) == (own or name + ".decomp")
    assert Path(path).read_bytes() == b"text" * 1000


def test_decompress_without_a_suffix_needs_the_method(serve, tmp_path):
    content = gzip.compress(b"text", mtime=0)
    data = serve("plain", content)
    assert_refused(tmp_path, data, "plain", pkgdata.Decompress(), "cannot tell how")
    assert_refused(tmp_path, data, "plain", pkgdata.Decompress(method="lz4"), "known: gzip")
    path = data.get("plain", processor=pkgdata.Decompress(method="gzip"))
    assert Path(path).read_bytes() == b"text"


@pytest.mark.parametrize(
    ("name", "content", "use"),
    [("x.zip", make_zip(), "pkgdata.Unzip()"), ("x.tar", plain_tar("w"), "pkgdata.Untar()")],
)
def test_decompress_of_an_archive_says_what_unpacks_it(serve, name, content, use):
    with pytest.raises(ExtractionError, match="cannot tell how") as caught:
        serve(name, content).get(name, processor=pkgdata.Decompress())
    assert use in caught.value.hint


@pytest.mark.parametrize("name", ["x.tar.zst", "t.txt.zst"])
def test_zstd_without_its_package_names_the_extra(serve, monkeypatch, name):
    by_name = {one[0]: one[1] for one in [*ARCHIVES, *COMPRESSED]}
    processor = UNTAR() if "tar" in name else pkgdata.Decompress()
    for module in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(pkgdata.MissingExtraError, match="needs the package zstandard") as caught:
        serve(name, by_name[name]).get(name, processor=processor)
    assert caught.value.hint == "pip install 'pkgdata-cache[compress]'"


@compressed
def test_damaged_compressed_files(serve, tmp_path, name, content, method):
    for damaged in (content[:-5], b"no such thing", content[:20] + b"\0\0\0\0" + content[24:]):
        data = serve(name, damaged)
        assert_refused(tmp_path, data, name, pkgdata.Decompress(), f"{name} cannot be read as")


@pytest.mark.parametrize("bad", ["../x", "/x"])
def test_decompress_into_a_bad_name(serve, tmp_path, bad):
    data = serve(*COMPRESSED[0][:2])
    with pytest.raises(pkgdata.UnsafeNameError):
        data.get("t.txt.gz", processor=pkgdata.Decompress(name=bad))
    assert bucket(tmp_path, "derived-v1") == []


# -- once, and whole -------------------------------------------------------------------------


@zip_and_tar
def test_the_second_call_does_no_work(serve, tmp_path, monkeypatch, name, content, kind):
    data = serve(name, content)
    first = data.get(name, processor=kind())
    before = snapshot(tmp_path)
    monkeypatch.setattr(codecs.Budget, "copy", None)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    monkeypatch.setattr(tarfile, "open", None)
    assert data.get(name, processor=kind()) == first
    assert serve_again(data).get(name, processor=kind()) == first
    assert snapshot(tmp_path) == before


def serve_again(data):
    return pkgdata.declare(data.name, dataurl=data.dataurl, registry=data.registry)


def test_offline_what_was_unpacked_is_found(serve, monkeypatch):
    data = serve("x.zip", make_zip())
    first = data.get("x.zip", processor=UNZIP())
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    assert serve_again(data).get("x.zip", processor=UNZIP()) == first


CHILD = """
import os, signal, sys
import pkgdata
from pkgdata.stores import codecs
real, count, kill_at = codecs.Budget.copy, [], int(sys.argv[3])
def copy(self, source, target):
    if len(count) == kill_at:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    count.append(1)
    real(self, source, target)
codecs.Budget.copy = copy
data = pkgdata.declare("archives", dataurl=sys.argv[1], registry={"x.tgz": sys.argv[2]})
data.get("x.tgz")
print("ready", flush=True)
sys.stdin.readline()
paths = data.get("x.tgz", processor=pkgdata.Untar())
print(len(count))
print(*paths, sep="\\n")
"""


def start(data, kill_at=-1):
    digest = data.registry["x.tgz"].digest.hex
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, data.dataurl[0], digest, str(kill_at)],
        env={**os.environ, "PYTHONPATH": str(Path(pkgdata.__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_at_once_unpack_once(serve, tmp_path):
    data = serve("x.tgz", plain_tar())
    data.get("x.tgz")
    children = [start(data) for _ in range(3)]
    for process in children:  # all wait at the gate; open it
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate()[0].splitlines() for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    assert sorted(int(lines[0]) for lines in results) == [0, 0, len(FILES)]
    assert results[0][1:] == results[1][1:] == results[2][1:]
    assert unpacked(results[0][1:]) == FILES
    assert list((tmp_path / "cache" / "partial-v1").iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kill_at", [0, 2])
def test_a_process_that_is_killed_leaves_nothing_half_made(serve, tmp_path, kill_at):
    data = serve("x.tgz", plain_tar())
    process = start(data, kill_at)
    process.communicate("\n")
    assert process.returncode == -signal.SIGKILL
    assert bucket(tmp_path, "derived-v1") == []
    assert bucket(tmp_path, "partial-v1") != []
    assert unpacked(data.get("x.tgz", processor=UNTAR())) == FILES
    assert bucket(tmp_path, "partial-v1") == [], "what it left is swept away by the next one"
    assert upkeep.sweep(data.cache) == 0
    assert unpacked(data.get("x.tgz", processor=UNTAR())) == FILES


# -- foreign processors ----------------------------------------------------------------------


def test_a_foreign_callable_gets_pooch_s_signature(serve):
    data = serve("x.bin", b"content")
    calls = []

    def processor(*args):
        calls.append(args)
        return {"any": "result"}

    assert data.get("x.bin", processor=processor) == {"any": "result"}
    assert data.get("x.bin", processor=processor) == {"any": "result"}
    (first, action1, caller1), (second, action2, caller2) = calls
    assert (action1, action2) == ("download", "fetch")
    assert caller1 is caller2 is data
    assert first == second
    assert os.path.basename(first) == "x.bin"
    assert Path(first).read_bytes() == b"content"


def test_a_foreign_callable_may_write_beside_the_file(serve, tmp_path):
    data = serve("x.bin", b"content")
    data.get("x.bin")
    before = snapshot(tmp_path / "cache" / "objects-v1")
    made = []

    def processor(fname, action, _):
        target = Path(fname + ".upper")
        if not target.exists():
            made.append(action)
            target.write_bytes(Path(fname).read_bytes().upper())
        return str(target)

    for _ in range(2):
        assert Path(data.get("x.bin", processor=processor)).read_bytes() == b"CONTENT"
    assert made == ["fetch"]
    after = snapshot(tmp_path / "cache" / "objects-v1")
    assert after.keys() == before.keys()
    assert bucket(tmp_path, "objects-v1") == ["x.bin"]
    assert data.get("x.bin").startswith(str(tmp_path / "cache" / "objects-v1"))


def test_a_foreign_callable_never_writes_into_a_predefined_folder(serve, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "x.bin").write_bytes(b"content")
    data = serve("x.bin", b"content", folders=[str(tmp_path / "site")])

    def processor(fname, action, _):
        assert action == "fetch"
        Path(fname + ".new").write_bytes(b"")
        return fname

    path = data.get("x.bin", processor=processor)
    assert os.listdir(tmp_path / "site") == ["x.bin"]
    assert path.startswith(str(tmp_path / "cache"))


def test_a_class_derived_from_pooch_s_runs_its_own_code(serve):
    class Mine(pooch.Unzip):
        def __call__(self, fname, action, caller):
            return sorted(
                os.path.basename(path) for path in super().__call__(fname, action, caller)
            )

    data = serve("x.zip", make_zip())
    for _ in range(2):
        found = data.get("x.zip", processor=Mine())
        assert found == sorted(name.rpartition("/")[2] for name in FILES)


def test_an_error_of_a_foreign_callable_comes_through(serve):
    def processor(fname, action, caller):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        serve("x.bin", b"content").get("x.bin", processor=processor)


def test_a_shipped_file_can_be_processed(tmp_path, monkeypatch):
    folder = tmp_path / "src" / "extpkg" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "x.zip").write_bytes(make_zip())
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    paths = pkgdata.declare("extpkg").get("x.zip", processor=UNZIP())
    assert unpacked(paths) == FILES
    assert os.listdir(folder) == ["x.zip"]
