"""Folders as stores: modes, times and names of the files that are made."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import unicodedata
import uuid

import pytest

from pkgdata import cli
from pkgdata.base import owners
from pkgdata.errors import BatchError, PkgdataError
from pkgdata.stores import Store, file
from pkgdata.stores.objects import WHOLE

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
LARGE = bytes(WHOLE + 1)
OLD = 1_234_567_890_123_456_789


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request):
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


@pytest.fixture
def shared(tmp_path):
    """A folder that everybody may write to, as /tmp."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def put(store, source):
    store.put("a/b/x", source.read_bytes())


def copy(store, source):
    Store(str(source.parent)).copy(source.name, "a/b/x", store)


def transfer(store, source):
    Store(str(source.parent)).transfer_to(store, [(source.name, "a/b/x")])


def transfer_recoded(store, source):
    Store(str(source.parent)).transfer_to(store, [(source.name, "a/b/x")], reencode="gzip")


@POSIX
@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("write", [put, copy, transfer, transfer_recoded])
def test_the_umask_decides_who_may_read_and_write_new_files(
    write, content, umask, shared, tmp_path
):
    source = tmp_path / "x"
    source.write_bytes(content)
    source.chmod(0o666)

    write(Store(str(shared)), source)

    (made,) = (shared / "a/b").iterdir()
    assert mode(made) == 0o666 & ~umask
    assert mode(shared / "a") == mode(shared / "a/b") == 0o777 & ~umask


@POSIX
@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("before", [0o755, 0o600, 0o555, 0o4711])
def test_a_copy_is_as_executable_and_as_private_as_its_original(
    content, before, umask, shared, tmp_path
):
    source = tmp_path / "run"
    source.write_bytes(content)
    source.chmod(before)

    Store(str(tmp_path)).copy("run", "a/run", Store(str(shared)))

    assert mode(shared / "a/run") == (before & 0o777 | 0o600) & ~umask


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_a_copy_has_the_time_of_its_original(content, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, ns=(OLD, OLD))
    store, to = Store(str(tmp_path)), Store(str(tmp_path / "to"))

    store.copy("x", "x", to)
    store.transfer_to(to, ["y"], reencode="gzip")
    to.move("x", "moved")

    before = store.info("x").modified
    assert before == to.info("moved").modified == to.info("y").modified


def test_a_file_that_came_from_a_store_has_the_time_of_the_object(tmp_path):
    store = Store("mem://times-of-files")
    store["a"] = b"bytes"
    to = Store(str(tmp_path))

    store.copy("a", "a", to)

    assert to.info("a").modified == store.info("a").modified


# -- names -------------------------------------------------------------------------------------

#: Names that Linux and macOS hold, and Windows does not.
ODD = ["aux/t", "con.txt", "a:b", "et al./x", "blank ", "dot.", "a?b*", "C:x", "x" * 255]


@POSIX
@pytest.mark.parametrize("name", ODD)
def test_a_folder_holds_whatever_its_disk_can_hold(name, tmp_path):
    store, to = Store(str(tmp_path / "a")), Store(str(tmp_path / "b"))
    store.put([(name, b"odd"), ("plain", b"plain")])
    assert sorted(store.list()) == sorted([name, "plain"])

    store.transfer_to(to)

    assert (tmp_path / "b" / name).read_bytes() == to[name] == b"odd"
    to.delete(name)
    assert [*to.list()] == ["plain"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are bytes on Linux alone")
def test_names_that_are_not_utf8_are_copied_between_folders_and_refused_by_buckets(tmp_path):
    (tmp_path / "a").mkdir()
    with open(os.fsencode(tmp_path) + b"/a/caf\xe9", "wb") as file:
        file.write(b"latin")
    (tmp_path / "a/plain").write_bytes(b"plain")
    store = Store(str(tmp_path / "a"))

    store.transfer_to(str(tmp_path / "b"))
    assert sorted(os.listdir(os.fsencode(tmp_path / "b"))) == [b"caf\xe9", b"plain"]

    store.transfer_to(str(tmp_path / "c"), job=str(tmp_path / "job"))
    assert sorted(os.listdir(os.fsencode(tmp_path / "c"))) == [b"caf\xe9", b"plain"]

    bucket = Store(f"mem://{uuid.uuid4().hex}")
    with pytest.raises(BatchError, match="not UTF-8") as caught:
        store.transfer_to(bucket)
    assert [*caught.value.report.failed] == ["caf\udce9"]
    assert [*bucket.list()] == ["plain"]


@POSIX
@pytest.mark.parametrize("name", ["tab\there", "line\nbreak", "return\r", "back\\slash"])
def test_a_file_whose_name_is_refused_does_not_stop_the_others(name, tmp_path):
    (tmp_path / "a").mkdir()
    for one in (name, "0", "z"):
        (tmp_path / "a" / one).write_bytes(b"x")

    with pytest.raises(BatchError) as caught:
        Store(str(tmp_path / "a")).transfer_to(str(tmp_path / "b"))

    assert [*caught.value.report.failed] == [name]
    assert sorted(os.listdir(tmp_path / "b")) == ["0", "z"]


@pytest.mark.parametrize("names", [("A.txt", "a.txt"), ("\u00e9", "e\u0301")])
@pytest.mark.parametrize("folds", [True, False])
def test_two_names_never_become_one_file_silently(names, folds, tmp_path, monkeypatch):
    def same(name):
        return unicodedata.normalize("NFC", name).casefold()

    monkeypatch.setattr(file, "same_names", lambda root: same if folds else None)
    store = Store(f"mem://{uuid.uuid4().hex}")
    store.put([(name, name.encode()) for name in (*names, "other")])

    try:
        store.transfer_to(str(tmp_path / "to"))
        failed = {}
    except BatchError as error:
        failed = error.report.failed

    assert len(failed) == folds
    assert all("is the same file on this disk" in str(error) for error in failed.values())
    assert len(os.listdir(tmp_path / "to")) == 3 - folds


def test_what_a_disk_takes_for_one_name_is_found_out_by_trying(tmp_path):
    same = file.same_names(str(tmp_path / "to"))
    (tmp_path / "to/a").touch()
    assert (same is not None and same("a") == same("A")) == (tmp_path / "to/A").exists()
    assert os.listdir(tmp_path / "to") == ["a"]


# -- what killed processes leave ---------------------------------------------------------------

KILLED = """
import os, sys
from pkgdata.stores import Store

def blocks():
    yield b"some"
    os._exit(9)

Store(sys.argv[1]).write_blocks(sys.argv[2], blocks())
"""


@pytest.fixture
def killed(tmp_path):
    """Let a process end in the middle of two files."""
    for name in ("one", "sub/two"):
        (tmp_path / "to/sub").mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-c", KILLED, str(tmp_path / "to"), name]
        assert subprocess.run(words, timeout=60, check=False).returncode == 9
    left = [path for path in (tmp_path / "to").rglob("*") if path.is_file()]
    assert [path.suffix for path in left] == [".tmp", ".tmp"]
    return tmp_path / "to"


def unfinished(folder):
    return sorted(path.name.partition(".")[0] for path in folder.rglob("*.tmp"))


def test_the_next_write_into_a_folder_removes_what_a_killed_one_left_there(killed):
    mine = owners.aside(str(killed / "sub/mine"))
    open(mine, "w").close()  # of a process that runs

    Store(str(killed)).put("sub/x", b"")

    assert unfinished(killed) == ["mine", "one"]


@pytest.mark.parametrize("words", [["sync"], ["sync", "--delete"], ["cp", "-r"], ["mv"]])
def test_the_next_command_removes_what_a_killed_one_left(killed, tmp_path, words):
    (tmp_path / "from/sub").mkdir(parents=True)
    for name in ("one", "sub/two"):
        (tmp_path / "from" / name).write_bytes(b"all")

    assert cli.main([*words, f"{tmp_path}/from/", f"{killed}/"]) == 0

    assert sorted(Store(str(killed)).list()) == ["one", "sub/two"]
    assert unfinished(killed) == []


def test_a_sync_that_copies_nothing_removes_what_a_killed_one_left(killed, tmp_path):
    (tmp_path / "from").mkdir()
    assert cli.main(["sync", f"{tmp_path}/from", str(killed)]) == 0
    assert unfinished(killed) == []


def test_ls_shows_unfinished_files_if_asked(killed, capsys):
    assert cli.main(["ls", str(killed)]) == 0
    assert capsys.readouterr().out == ""
    assert cli.main(["ls", "-a", str(killed)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [os.path.basename(line).partition(".")[0] for line in shown] == ["one", "two"]


# -- odd disks ---------------------------------------------------------------------------------


@POSIX
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    store = Store(str(tmp_path))
    to = Store(str(tmp_path / "to"))
    for act in (
        lambda: store.get("pipe"),
        lambda: store.open("pipe"),
        lambda: store.copy("pipe", "x", to),
        lambda: store.transfer_to(to, ["pipe"]),
    ):
        with pytest.raises(PkgdataError, match="it is a pipe, a socket or a device, not a file"):
            act()
    assert [*store.list()] == ["pipe"]  # it is named, as what cannot be read, not left out


@POSIX
def test_a_mount_that_allows_no_modes_and_times_is_copied_to(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for call in ("chmod", "utime", "link"):
        monkeypatch.setattr(os, call, refuse)
    (tmp_path / "a").write_bytes(b"a")
    to = Store(str(tmp_path / "to"))

    Store(str(tmp_path)).copy("a", "a", to)
    to.put("b", b"b", public=True, if_absent=True)
    Store(str(tmp_path)).transfer_to(to, [("a", "c")], reencode="gzip", replace=False)

    assert sorted(to.list()) == ["a", "b", "c.gz"]
