"""File-system tricks: names that are refused, modes that follow the folder, atomic writes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from pkgdata.base import disk, fs, owners
from pkgdata.errors import UnsafeNameError

posix = pytest.mark.skipif(os.name == "nt", reason="permission bits and links are POSIX matters")


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


# -- names -----------------------------------------------------------------------------------

BAD_NAMES = [
    ("", "not empty"),
    (None, "not empty"),
    (b"bytes", "not empty"),
    ("..", "the part '..'"),
    ("../x", "the part '..'"),
    ("a/../b", "the part '..'"),
    ("a/..", "the part '..'"),
    (".", "the part '.'"),
    ("./a", "the part '.'"),
    ("a/./b", "the part '.'"),
    ("/etc/passwd", "absolute"),
    ("//host/share", "absolute"),
    ("a//b", "the part ''"),
    ("a/", "the part ''"),
    ("c:/x", "drive letter"),
    ("a\\b", "backslash"),
    ("..\\x", "backslash"),
    ("\\\\host\\share", "backslash"),
    ("a\0b", "control character"),
    ("a\nb", "control character"),
    ("a\tb", "control character"),
    ("a\rb", "control character"),
    ("\x1b[31m", "control character"),
    ("a\x7fb", "control character"),
    ("a\x85b", "control character"),
]

#: What only some systems can hold.
NOT_EVERYWHERE = [
    ("C:x", "Windows cannot store"),
    ("C:", "Windows cannot store"),
    ("con", "device name"),
    ("NUL", "device name"),
    ("a/Aux/b", "device name"),
    ("prn.txt", "device name"),
    ("com1.tar.gz", "device name"),
    ("LPT9", "device name"),
    ("com²", "device name"),
    ("CONIN$", "device name"),
    ("con .txt", "device name"),
    ("a.", "ends in a dot or a space"),
    ("a ", "ends in a dot or a space"),
    ("a /b", "ends in a dot or a space"),
    ("a./b", "ends in a dot or a space"),
    ("...", "ends in a dot or a space"),
    ("x" * 256, "longer than 255 bytes"),
    ("ok/" + "ü" * 128, "longer than 255 bytes"),
    ("a\ud800b", "not UTF-8"),
    ("a\udcff", "not UTF-8"),
]

GOOD_NAMES = [
    "a",
    "a/b/c.txt",
    ".hidden",
    "..a",
    "a..b",
    "a b/c d",
    " leading",
    "console",
    "com10",
    "com0",
    "nul_",
    "x" * 255,
    "ü" * 127,
    "/".join("abcdef"),
    "日本.txt",
    "a\u2028b",
    "~user",
    "$HOME",
    "-rf",
    "#a",
    "😀",
]


@pytest.mark.parametrize(("name", "problem"), BAD_NAMES)
def test_a_bad_name_is_refused_with_its_reason(name, problem):
    with pytest.raises(UnsafeNameError) as caught:
        fs.safe_name(name)
    assert problem in caught.value.message
    assert repr(name) in caught.value.message
    assert caught.value.name == name
    assert caught.value.hint


@pytest.mark.parametrize(("name", "problem"), BAD_NAMES + NOT_EVERYWHERE)
def test_what_some_system_cannot_hold_is_said(name, problem):
    assert problem in fs.name_problem(name, everywhere=True)


@pytest.mark.parametrize(("name", "problem"), NOT_EVERYWHERE)
def test_windows_has_rules_of_its_own(monkeypatch, name, problem):
    monkeypatch.setattr(fs, "WINDOWS", True)
    of_windows = "bytes" not in problem and "UTF-8" not in problem
    assert (problem in (fs.name_problem(name) or "")) == of_windows
    monkeypatch.setattr(fs, "WINDOWS", False)
    assert fs.safe_name(name) == name
    assert fs.name_problem(name) is None


@pytest.mark.parametrize("name", ["a\ud800b", "a\udcff"])
def test_bytes_that_are_not_utf8_are_no_key(name):
    with pytest.raises(UnsafeNameError, match="not UTF-8"):
        fs.safe_key(name)


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_good_name_is_returned_and_can_be_stored(tmp_path, name):
    assert fs.safe_name(name) == name
    path = tmp_path / "store" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert [found for found, _ in fs.walk_files(str(tmp_path / "store"))] == [name]


@pytest.mark.parametrize("name", ["ab:c", 'a"b', "a*b", "a?b", "a<b", "a|b"])
def test_characters_that_windows_cannot_store_are_refused_there(monkeypatch, name):
    assert fs.safe_name(name) == name or os.name == "nt"
    monkeypatch.setattr(fs, "WINDOWS", True)
    with pytest.raises(UnsafeNameError, match="Windows cannot store"):
        fs.safe_name(name)


def test_names_inside_a_folder(tmp_path, monkeypatch):
    folder = str(tmp_path)
    assert fs.name_inside(folder, os.path.join(folder, "a", "b")) == "a/b"
    assert fs.name_inside(folder, os.path.join(folder, "..a")) == "..a"
    assert fs.name_inside(folder, folder) is None
    assert fs.name_inside(folder, os.path.dirname(folder)) is None
    assert fs.name_inside(folder, folder + "-other") is None
    monkeypatch.chdir(tmp_path)
    assert fs.name_inside(".", "a") == "a"


# -- modes -----------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    "bits", [0o700, 0o750, 0o755, 0o775, 0o770, 0o2775, 0o2770, 0o777, 0o1777, 0o3775]
)
def test_new_folders_and_files_follow_the_folder_above(tmp_path, bits):
    root = tmp_path / "shared"
    root.mkdir()
    root.chmod(bits)
    before = os.umask(0o077)
    try:
        fs.make_dirs(str(root / "a" / "b"))
        fd = fs.create_exclusive(str(root / "a" / "b" / "file"))
        os.close(fd)
        fs.write_atomic(str(root / "a" / "small"), b"x", follow=True)
        fs.append(str(root / "a" / "c" / "lines"), b"x")
        fs.copy(str(root / "a" / "small"), str(root / "a" / "copy"))
    finally:
        os.umask(before)
    assert mode(root / "a") == mode(root / "a" / "b") == mode(root / "a" / "c") == bits
    for name in ("b/file", "c/lines", "small", "copy"):
        assert mode(root / "a" / name) == bits & 0o666


@posix
@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_a_file_for_the_user_follows_the_umask(tmp_path, umask):
    tmp_path.chmod(0o777)
    before = os.umask(umask)
    try:
        fs.write_atomic(str(tmp_path / "registry.txt"), b"x")
        os.close(fs.create_exclusive(str(tmp_path / "other"), follow=False))
    finally:
        os.umask(before)
    assert mode(tmp_path / "registry.txt") == mode(tmp_path / "other") == 0o666 & ~umask


@posix
def test_the_group_of_a_setgid_folder_is_handed_down(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder to another group")
    root = tmp_path / "shared"
    root.mkdir()
    os.chown(root, -1, 4321)
    root.chmod(0o2775)
    fs.make_dirs(str(root / "a" / "b"))
    fs.write_atomic(str(root / "a" / "b" / "file"), b"x")
    assert os.stat(root / "a" / "b" / "file").st_gid == 4321


@posix
def test_bits_can_be_left_out(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    tmp_path.chmod(0o755)
    fs.follow_mode(str(path), 0o666, drop=0o222)
    assert mode(path) == 0o444


def test_make_dirs_accepts_what_is_there(tmp_path):
    fs.make_dirs(str(tmp_path / "a"))
    (tmp_path / "a").chmod(0o700)
    fs.make_dirs(str(tmp_path / "a"))
    assert mode(tmp_path / "a") == 0o700 or os.name == "nt"


def test_make_dirs_names_the_file_in_the_way(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError) as caught:
        fs.make_dirs(str(tmp_path / "file"))
    assert caught.value.filename == str(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        fs.make_dirs(str(tmp_path / "file" / "below"))


# -- writing ---------------------------------------------------------------------------------


def test_create_exclusive_never_opens_what_is_there(tmp_path):
    path = str(tmp_path / "file")
    fd = fs.create_exclusive(path)
    os.write(fd, b"abc")
    os.close(fd)
    with pytest.raises(FileExistsError):
        fs.create_exclusive(path)


@posix
def test_create_exclusive_does_not_follow_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        fs.create_exclusive(str(tmp_path / "link"))
    assert not (tmp_path / "elsewhere").exists()


@posix
def test_descriptors_are_not_inherited(tmp_path):
    fd = fs.create_exclusive(str(tmp_path / "file"))
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_write_atomic_replaces_whole(tmp_path):
    path = tmp_path / "file"
    for content in (b"old", b"", b"new" * 100_000):
        fs.write_atomic(str(path), content)
        assert path.read_bytes() == content
    assert [child.name for child in tmp_path.iterdir() if child.is_file()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        fs.write_atomic(str(path), b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [child.name for child in tmp_path.iterdir() if child.is_file()] == ["file"]


@posix
def test_a_writer_that_is_killed_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\n"
        "from pkgdata.base import fs as _fs\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "_fs.write_atomic(sys.argv[1], b'new')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -9
    assert path.read_bytes() == b"old"


def test_denials_that_pass_are_retried_on_windows(tmp_path, monkeypatch):
    waits, tries = [], []

    def deny_twice():
        tries.append(1)
        if len(tries) < 3:
            raise PermissionError

    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr(fs, "WINDOWS", True)
    fs.retry_denied(deny_twice)
    assert len(tries) == 3
    assert waits == [0.01, 0.02]
    tries.clear()
    with pytest.raises(PermissionError):
        fs.retry_denied(deny_twice, tries=2)


@posix
def test_a_denial_elsewhere_is_final(monkeypatch):
    tries = []

    def deny():
        tries.append(1)
        raise PermissionError

    with pytest.raises(PermissionError):
        fs.retry_denied(deny)
    assert len(tries) == 1


# -- removing, walking -----------------------------------------------------------------------


def test_remove_says_whether_it_did(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    path.chmod(0o444)
    assert fs.remove(str(path)) is True
    assert fs.remove(str(path)) is False


def test_remove_tree(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_bytes(b"")
    (tree / "a" / "b" / "file").chmod(0o444)
    (tree / "a" / "empty").mkdir()
    if os.name != "nt":
        (tree / "a" / "link").symlink_to(tmp_path / "outside")
        (tree / "dangling").symlink_to("nowhere")
    fs.remove_tree(str(tree))
    assert not tree.exists()
    assert (tmp_path / "outside" / "kept").exists()
    fs.remove_tree(str(tree))


def test_two_processes_remove_a_tree_at_once(tmp_path, monkeypatch):
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    rmdir = os.rmdir

    def too_late(path):
        rmdir(path)  # by the other one
        rmdir(path)

    monkeypatch.setattr(os, "rmdir", too_late)
    fs.remove_tree(str(tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()


def test_walk_files_is_sorted_and_uses_slashes(tmp_path):
    for name in ("b", "a/z", "a/b/c", "a.txt"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    found = list(fs.walk_files(str(tmp_path / "root")))
    assert sorted(name for name, _ in found) == ["a.txt", "a/b/c", "a/z", "b"]
    assert all(os.path.samefile(path, tmp_path / "root" / name) for name, path in found)
    assert found == list(fs.walk_files(str(tmp_path / "root")))


# -- linking ---------------------------------------------------------------------------------


def test_link_or_copy_links(tmp_path):
    (tmp_path / "source").write_bytes(b"abc")
    fs.link_or_copy(str(tmp_path / "source"), str(tmp_path / "target"))
    assert os.path.samefile(tmp_path / "source", tmp_path / "target")


def test_link_or_copy_copies_where_there_are_no_links(tmp_path, monkeypatch):
    data = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(data)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    fs.link_or_copy(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == data
    assert not os.path.samefile(tmp_path / "source", tmp_path / "target")


@posix
def test_link_or_copy_follows_a_symbolic_link(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "real").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("real")
    fs.link_or_copy(str(tmp_path / "link"), str(tmp_path / "sub" / "target"))
    assert not (tmp_path / "sub" / "target").is_symlink()
    assert (tmp_path / "sub" / "target").read_bytes() == b"abc"


@pytest.mark.parametrize("linkable", [True, False])
def test_link_or_copy_never_overwrites(tmp_path, monkeypatch, linkable):
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "target").write_bytes(b"old")
    if not linkable:
        monkeypatch.delattr(os, "link")
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError()), raising=False)
    with pytest.raises(FileExistsError):
        fs.link_or_copy(str(tmp_path / "source"), str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == b"old"


def test_a_copy_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        fs.copy(str(tmp_path / "none"), str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


def test_free_bytes_asks_the_nearest_folder_that_exists(tmp_path):
    free = disk.free_bytes(str(tmp_path / "not" / "yet" / "there"))
    assert free is not None
    assert free > 0


# -- owners ----------------------------------------------------------------------------------


def child_token(body="", **options):
    """Start a process that prints its token and waits until its input ends."""
    code = (
        "import sys\nfrom pkgdata.base import owners as _owners\n"
        f"{body}\nprint(_owners.token(), flush=True)\nsys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    return child, child.stdout.readline().strip()


def test_owner_tokens_tell_who_runs():
    assert owners.token() == owners.token()
    assert owners.token().endswith(f"-{os.getpid()}")
    assert not owners.is_gone(owners.token())
    child, token = child_token()
    with child:
        assert token.rpartition("-")[0] == owners.token().rpartition("-")[0]
        assert not owners.is_gone(token)
        child.kill()
        child.wait()
        assert owners.is_gone(token)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc of Linux")
def test_a_killed_process_that_nobody_collected_is_gone():
    child, token = child_token()
    with child:
        child.kill()
        # it has ended, and stays a zombie until it is collected
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert owners.is_gone(token)


@pytest.mark.parametrize("token", ["", "x", "elsewhere0-1", "elsewhere0-99999999", "-"])
def test_nothing_is_said_of_processes_elsewhere(token):
    assert not owners.is_gone(token)


def test_a_malformed_number_is_no_process():
    place = owners.token().rpartition("-")[0]
    for pid in ("", "x", "-1", "1.5"):
        assert not owners.is_gone(f"{place}-{pid}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_token_of_its_own():
    owners.token()
    body = (
        "import os\n_owners.token()\nread, write = os.pipe()\n"
        "if os.fork() == 0:\n    os.write(write, _owners.token().encode())\n    os._exit(0)\n"
        "assert os.read(read, 100).decode() != _owners.token()\nos.wait()\n"
    )
    child, token = child_token(body)
    child.communicate()
    assert child.returncode == 0
    assert token


def test_another_host_name_is_another_place():
    child, token = child_token("_owners.host_name = lambda: 'another'")
    with child:
        assert token.partition("-")[0] != owners.token().partition("-")[0]
        assert not owners.is_gone(token)
        child.communicate()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that takes no files")
def test_a_folder_that_cannot_be_made_anywhere_is_an_error():
    with pytest.raises(FileNotFoundError):
        fs.make_dirs("/proc/nosuch/folder")


@pytest.mark.skipif(os.name == "nt", reason="has no such files")
def test_a_pipe_or_device_is_not_replaced_by_a_file(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        with pytest.raises(OSError, match="a pipe, a socket or a device"):
            fs.write_atomic(str(path), b"text")
        assert stat.S_ISFIFO(os.stat(path).st_mode)
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")] == []
