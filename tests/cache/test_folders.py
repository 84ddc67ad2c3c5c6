"""Predefined folders: what each policy checks, and when a stamp spares the check."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

import pkgdata
from pkgdata.base import hashes
from pkgdata.base.hashes import Digest
from pkgdata.cache import stamps as folders
from pkgdata.cache.stamps import Stamps
from pkgdata.core.registry import Entry, Registry
from pkgdata.errors import FolderWarning

CONTENT = b"the right bytes"
WRONG = b"the wrong bytes"
DIGEST = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "a.txt").write_bytes(CONTENT)
    return path


@pytest.fixture
def hashed(monkeypatch):
    """Return the list of files that are hashed from now on."""
    real, seen = hashes.hash_file, []

    def counting(path, alg="sha256"):
        seen.append(os.path.basename(path))
        return real(path, alg)

    monkeypatch.setattr(hashes, "hash_file", counting)
    return seen


def check(folder, stamps, policy="once", size=None, digest=DIGEST, name="sub/a.txt"):
    return folders.check(str(folder), name, digest, size, policy, stamps)


def stamp_file(root):
    """Return the one file with stamps below a cache root."""
    (path,) = (root / "stamps-v1").iterdir()
    return path


# -- policies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "times"), [("once", 1), ("always", 3), ("size", 0), ("never", 0)]
)
def test_how_often_each_policy_hashes(folder, tmp_path, hashed, policy, times):
    stamps = Stamps(str(tmp_path / "root"))
    for _ in range(3):
        path, problem = check(folder, stamps, policy, len(CONTENT))
        assert problem is None
        assert os.path.samefile(path, folder / "sub" / "a.txt")
    assert len(hashed) == times


@pytest.mark.parametrize(
    ("policy", "content", "size", "problem"),
    [
        ("once", WRONG, None, "expected sha256:"),
        ("always", WRONG, None, "expected sha256:"),
        ("size", WRONG, len(CONTENT), None),
        ("never", WRONG, len(CONTENT), None),
        ("once", b"short", 15, "expected 15 bytes, found 5"),
        ("always", b"short", 15, "expected 15 bytes, found 5"),
        ("size", b"short", 15, "expected 15 bytes, found 5"),
        ("never", b"short", 15, None),
    ],
)
def test_what_each_policy_notices(folder, tmp_path, policy, content, size, problem):
    (folder / "sub" / "a.txt").write_bytes(content)
    _, found = check(folder, Stamps(str(tmp_path / "root")), policy, size)
    assert found == problem or (problem and found.startswith(problem))


def test_a_wrong_file_is_never_stamped(folder, tmp_path, hashed):
    (folder / "sub" / "a.txt").write_bytes(WRONG)
    stamps = Stamps(str(tmp_path / "root"))
    for _ in range(2):
        _, problem = check(folder, stamps)
        assert str(DIGEST) in problem
        assert hashlib.sha256(WRONG).hexdigest() in problem
    assert len(hashed) == 2
    assert not (tmp_path / "root").exists()


def test_an_unpinned_file_may_hold_anything(folder, tmp_path, hashed):
    assert check(folder, Stamps(str(tmp_path / "root")), digest=None)[1] is None
    assert hashed == []


def test_what_is_not_a_file_is_not_there(folder, tmp_path):
    stamps = Stamps(str(tmp_path / "root"))
    assert check(folder, stamps, name="none") is None
    assert check(folder, stamps, name="sub") is None
    assert check(folder, stamps, name="sub/a.txt/below") is None
    assert check(tmp_path / "no folder", stamps) is None
    assert check(f"{tmp_path}\0", stamps) is None
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        assert check(folder, stamps, name="pipe") is None


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_a_symbolic_link_is_followed(folder, tmp_path):
    (folder / "link").symlink_to("sub/a.txt")
    (folder / "dangling").symlink_to("nowhere")
    stamps = Stamps(str(tmp_path / "root"))
    assert check(folder, stamps, name="link")[1] is None
    assert check(folder, stamps, name="dangling") is None


# -- stamps ----------------------------------------------------------------------------------


def test_a_stamp_outlives_the_object_that_made_it(folder, tmp_path, hashed):
    for _ in range(3):
        assert check(folder, Stamps(str(tmp_path / "root")))[1] is None
    assert len(hashed) == 1


COUNTING = """
import sys
from pkgdata.base import hashes
from pkgdata.cache import stamps as folders
from pkgdata.base.hashes import Digest
real, count = hashes.hash_file, []
hashes.hash_file = lambda *args: (count.append(1), real(*args))[1]
for _ in range(2):
    found = folders.check(sys.argv[1], "sub/a.txt", Digest.parse(sys.argv[2]), None, "once",
                          folders.Stamps(sys.argv[3]))
    assert found[1] is None, found
print(len(count))
"""


def test_one_process_hashes_for_all_others(folder, tmp_path):
    command = [sys.executable, "-c", COUNTING, str(folder), str(DIGEST), str(tmp_path / "root")]
    found = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(3)
    ]
    assert found == ["1", "0", "0"]


def test_processes_that_start_at_once_all_end_with_whole_lines(folder, tmp_path):
    command = [sys.executable, "-c", COUNTING, str(folder), str(DIGEST), str(tmp_path / "root")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    counts = [int(child.communicate()[0]) for child in children]
    assert {child.returncode for child in children} == {0}
    assert 1 <= sum(counts) <= 4
    lines = stamp_file(tmp_path / "root").read_text().splitlines()
    assert len(lines) == sum(counts)
    assert set(lines) == {lines[0]}


def change_mtime(path):
    found = os.stat(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def change_size(path):
    found = os.stat(path)
    with path.open("ab") as file:
        file.write(b"!")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def change_inode(path):
    found = os.stat(path)
    other = path.with_name("other")
    other.write_bytes(WRONG)
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize(
    ("change", "right"), [(change_mtime, True), (change_size, False), (change_inode, False)]
)
def test_a_change_of_the_file_voids_its_stamp(folder, tmp_path, hashed, change, right):
    stamps = Stamps(str(tmp_path / "root"))
    check(folder, stamps)
    change(folder / "sub" / "a.txt")
    _, problem = check(folder, stamps)
    assert (problem is None) == right
    assert len(hashed) == 2
    check(folder, Stamps(str(tmp_path / "root")))
    assert len(hashed) == (2 if right else 3)


def test_another_digest_is_not_vouched_for(folder, tmp_path):
    stamps = Stamps(str(tmp_path / "root"))
    check(folder, stamps)
    other = Digest("sha256", "0" * 64)
    assert check(folder, stamps, digest=other)[1].startswith(f"expected {other}")


def test_names_with_blanks_are_stamped(folder, tmp_path, hashed):
    (folder / "with a blank.txt").write_bytes(CONTENT)
    for _ in range(2):
        check(folder, Stamps(str(tmp_path / "root")), name="with a blank.txt")
    assert len(hashed) == 1


@pytest.mark.parametrize("keep", [0, 1, 20, 80, -1])
def test_a_torn_line_costs_one_check_and_no_more(folder, tmp_path, hashed, keep):
    root = tmp_path / "root"
    check(folder, Stamps(str(root)))
    path = stamp_file(root)
    path.write_bytes(path.read_bytes()[:keep])
    for _ in range(3):
        assert check(folder, Stamps(str(root)))[1] is None
    # the line after a torn one is glued to it; the one after that is whole
    assert len(hashed) <= 3
    hashed.clear()
    assert check(folder, Stamps(str(root)))[1] is None
    assert hashed == []


def test_rubbish_among_the_stamps_is_harmless(folder, tmp_path, hashed):
    root = tmp_path / "root"
    check(folder, Stamps(str(root)))
    path = stamp_file(root)
    path.write_bytes(b"\xff\xfe\0\n\n \nsub/a.txt\n" + path.read_bytes() + b"x sub/b.txt\n")
    assert check(folder, Stamps(str(root)))[1] is None
    assert len(hashed) == 1


def test_a_stamp_of_a_wrong_file_is_not_believed_for_another(folder, tmp_path, hashed):
    """A line that claims the right digest for facts of another file does not match."""
    root = tmp_path / "root"
    check(folder, Stamps(str(root)))
    (folder / "sub" / "b.txt").write_bytes(WRONG)
    path = stamp_file(root)
    path.write_text(path.read_text() + path.read_text().replace("a.txt", "b.txt"))
    assert check(folder, Stamps(str(root)), name="sub/b.txt")[1] is not None
    assert len(hashed) == 2


@pytest.mark.parametrize("root", [None, "a file"])
def test_where_nothing_can_be_written_the_stamp_lives_in_the_process(
    folder, tmp_path, hashed, root
):
    if root is not None:
        (tmp_path / "in the way").write_bytes(b"")
        root = str(tmp_path / "in the way" / "cache")
    stamps = Stamps(root)
    for _ in range(3):
        assert check(folder, stamps)[1] is None
    assert len(hashed) == 1
    check(folder, Stamps(root))
    assert len(hashed) == 2


# -- as lookup uses them ---------------------------------------------------------------------


def declared(tmp_path, *places, **settings):
    registry = Registry([Entry("sub/a.txt", DIGEST)])
    return pkgdata.declare(
        "foldertest", registry=registry, folders=[str(place) for place in places], **settings
    )


def test_a_mismatch_warns_with_both_digests_and_the_next_place_is_tried(folder, tmp_path):
    bad = tmp_path / "bad"
    (bad / "sub").mkdir(parents=True)
    (bad / "sub" / "a.txt").write_bytes(WRONG)
    data = declared(tmp_path, bad, folder)
    with pytest.warns(FolderWarning) as caught:
        path = data.get("sub/a.txt")
    assert os.path.samefile(path, folder / "sub" / "a.txt")
    (message,) = [str(one.message) for one in caught]
    assert str(DIGEST) in message
    assert hashlib.sha256(WRONG).hexdigest() in message
    assert str(bad) in message
    assert caught[0].filename == __file__


def test_the_stamp_spares_the_second_package_object_too(folder, tmp_path, hashed):
    for _ in range(2):
        declared(tmp_path, folder).get("sub/a.txt")
    assert hashed == ["a.txt"]


def test_always_hashes_at_every_call(folder, tmp_path, hashed):
    data = declared(tmp_path, folder, verify="always")
    for _ in range(3):
        data.get("sub/a.txt")
    assert len(hashed) == 3


def test_the_only_thing_written_is_the_stamp(folder, tmp_path):
    before = sorted(folder.rglob("*"))
    declared(tmp_path, folder).get("sub/a.txt")
    assert sorted(folder.rglob("*")) == before
    cache = tmp_path / "cache"
    assert [path.parent.name for path in cache.rglob("*") if path.is_file()] == ["stamps-v1"]


def test_a_changed_folder_file_is_noticed_by_the_next_call(folder, tmp_path):
    data = declared(tmp_path, folder)
    data.get("sub/a.txt")
    (folder / "sub" / "a.txt").write_bytes(WRONG + b"!")
    with (
        pytest.warns(FolderWarning, match="skipped"),
        pytest.raises(pkgdata.ConfigError, match="no dataurl says where to fetch it"),
    ):
        data.get("sub/a.txt")
