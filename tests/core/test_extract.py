"""Archives are unpacked whole, safely, or not at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import random
import stat
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from archiving import (
    ARCHIVES,
    FILES,
    ROOM,
    UNTAR,
    UNZIP,
    archives,
    assert_refused,
    bucket,
    entry,
    make_tar,
    make_zip,
    unpacked,
    zip_and_tar,
)

import pkgdata
from pkgdata.core import extract
from pkgdata.errors import ExtractionError
from pkgdata.stores import codecs

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


def test_a_tar_whose_decoder_asks_for_much_memory(serve, tmp_path):
    stored = bytearray(make_tar([entry("zeros", bytes(100))], "w:xz"))
    size = 4 * (stored[12] + 1)
    stored[stored.index(b"\x21\x01", 12) + 2] = 36  # a dictionary of 1 GiB
    stored[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(stored[12 : 12 + size - 4]))
    data = serve("x.tar.xz", bytes(stored))
    assert_refused(tmp_path, data, "x.tar.xz", UNTAR(), "Memory usage limit exceeded")


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


def test_the_directory_of_a_zip_of_too_many_members_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "x.zip"
    path.write_bytes(make_zip({f"{number}": b"" for number in range(2000)}))
    assert codecs.zip_directory(str(path)) > 2000 * 46
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("it was read"))
    with pytest.raises(ExtractionError, match="holds more than 3 members"):
        extract.unpack("Unzip", str(path), str(tmp_path), set, extract.Growth(1, 3))


def test_the_directory_of_a_large_zip_stands_elsewhere(tmp_path):
    plain = make_zip({"a": b"1"})
    end = plain.rindex(b"PK\5\6")
    size = int.from_bytes(plain[end + 12 : end + 16], "little")
    record = b"PK\6\6" + (44).to_bytes(8, "little") + bytes(28) + size.to_bytes(8, "little")
    tail = plain[end : end + 12] + b"\xff" * 4 + plain[end + 16 :]
    path = tmp_path / "x.zip"
    path.write_bytes(plain[:end] + record + bytes(28) + tail)
    assert codecs.zip_directory(str(path)) == size
    path.write_bytes(b"no zip")
    assert codecs.zip_directory(str(path)) == 0


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


def test_the_headers_of_a_tar_are_parsed_once(serve, monkeypatch):
    real, parsed = tarfile.TarInfo.frombuf, []

    def frombuf(*args):
        parsed.append(args)
        return real(*args)

    monkeypatch.setattr(tarfile.TarInfo, "frombuf", frombuf)
    for name, content, kind in ARCHIVES[4:]:
        data = serve(name, content)
        data.get(name)
        parsed.clear()
        assert unpacked(data.get(name, processor=kind())) == FILES
        assert len(parsed) == len(FILES) + 2, "and the two blocks of zeros at the end"


class Unsearched(list):
    """Names that are searched one after the other: with 300,000 members that takes hours."""

    def __contains__(self, name):
        raise AssertionError(f"a search for {name} in a list")


def test_members_are_not_searched_for_one_by_one(tmp_path):
    count = 2_000
    path = tmp_path / "x.tar"
    path.write_bytes(make_tar([entry(f"d{n // 100}/f{n}") for n in range(count)], "w"))
    extract.unpack("Untar", str(path), str(tmp_path / "ours"), Unsearched, extract.Growth.of())
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "ours")) == count


def test_many_members_may_be_asked_for(tmp_path):
    names = [f"d{n // 100}/f{n}" for n in range(20_000)]
    choose = extract._asked_for("x.tar", [*names[::2], "d7"])
    assert len(choose(names)) == 10_050


def test_a_sparse_member_of_a_tar_keeps_its_holes(serve, tmp_path):
    with open(tmp_path / "holes", "wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    (tmp_path / "after").write_bytes(b"after")
    command = ["tar", "cSf", tmp_path / "s.tar", "-C", tmp_path, "holes", "after"]
    subprocess.run(command, check=True)
    content = (tmp_path / "s.tar").read_bytes()
    found = unpacked(serve("s.tar", content).get("s.tar", processor=UNTAR()))
    assert found == {"holes": bytes(1 << 20) + b"end", "after": b"after"}


def test_a_device_in_a_folder_that_a_link_leads_to(serve, tmp_path):
    pipe = entry("d/pipe", type=tarfile.FIFOTYPE)
    members = [entry("d/a", b"a"), entry("link", type=tarfile.SYMTYPE, linkname="d"), pipe]
    data = serve("x.tgz", make_tar(members))
    assert_refused(tmp_path, data, "x.tgz", UNTAR(), "device or a pipe")
    assert unpacked(data.get("x.tgz", processor=UNTAR(members=["d/a", "link"]))) == {
        "d/a": b"a",
        "link/a": b"a",
    }


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
