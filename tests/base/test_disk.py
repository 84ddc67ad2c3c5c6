"""Temporary folders: what a killed process has left goes with the next run, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from publishing import CHECKOUT

from pkgdata.base import disk, owners

posix = pytest.mark.skipif(os.name == "nt", reason="has no such signals and links")


@pytest.fixture
def top(tmp_path):
    """Return a folder for temporary ones."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def dead():
    """Return the token of a process that has ended."""
    code = "from pkgdata.base import owners; print(owners.token())"
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    words = [sys.executable, "-c", code]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout.strip()


def names(folder, kind="pkgdata-"):
    return [one for one in os.listdir(folder) if one.startswith((kind, f".{kind}"))]


def command(top, *words):
    env = {**os.environ, "TMPDIR": str(top), "PYTHONPATH": str(CHECKOUT)}
    words = [sys.executable, "-m", "pkgdata", *map(str, words)]
    return subprocess.Popen(words, cwd=top.parent, env=env, stdout=subprocess.PIPE, stderr=-2)


def wait_for(top, kind, process):
    for _ in range(6000):
        if found := names(top, kind):
            return found
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.005)
    pytest.fail("it made no temporary folder")


@pytest.fixture
def wheel(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("a/__init__.py", "")
    return tmp_path / "a.whl"


@posix
@pytest.mark.slow
@pytest.mark.parametrize("verb", ["demo", "publish"])
def test_the_folder_of_a_killed_run_goes_with_the_next(tmp_path, top, wheel, verb):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("1,2\n")
    more, kind = ((), "pkgdata-demo"), (("data", "--to", f"file:{tmp_path}/web"), "pkgdata-check")
    words, kind = kind if verb == "publish" else more
    with command(top, verb, *words) as running:
        (left,) = wait_for(top, kind, running)
        # it is stopped, but lives: its folder is not touched
        running.send_signal(signal.SIGSTOP)
        with command(top, "check", wheel) as other:
            other.communicate(timeout=60)
        assert left in names(top)
        running.kill()
    assert left in names(top)
    with command(top, "check", wheel) as other:
        other.communicate(timeout=60)
    assert left not in names(top)


def test_a_folder_is_ones_own_and_goes(top):
    with disk.temporary("test", str(top)) as path:
        assert os.path.isdir(path)
        assert owners.of(path) == owners.token()
        assert os.name == "nt" or os.stat(path).st_mode & 0o777 == 0o700
        with disk.temporary("test", str(top)) as other:
            assert other != path
            assert len(names(top)) == 2, "what a living process has made stays"
    assert names(top) == []


@posix
def test_only_ones_own_folders_of_dead_processes_are_removed(tmp_path, top, dead, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("mine")
    gone = top / f"pkgdata-check.{dead}-aaaaaaaa.tmp"
    (gone / "below").mkdir(parents=True)
    (gone / "link").symlink_to(elsewhere)
    (gone / "below").chmod(0o500)
    link = top / f"pkgdata-check.{dead}-bbbbbbbb.tmp"
    link.symlink_to(elsewhere)
    kept = [
        f"pkgdata-check.{dead}-cccccccc",  # not the whole name
        f"other-check.{dead}-cccccccc.tmp",
        f"pkgdata-check.{owners.token()}-cccccccc.tmp",
        f"pkgdata-check.0123456789-{dead.rpartition('-')[2]}-cccccccc.tmp",  # of another machine
        "pkgdata-check-abcdefgh",
    ]
    for name in kept:
        (top / name).mkdir()
    (top / f"pkgdata-check.{dead}-dddddddd.tmp").write_text("a file")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        disk.sweep_temporary(str(top))
    assert gone.exists(), "another user's"
    disk.sweep_temporary(str(top))
    assert not gone.exists()
    assert link.is_symlink()
    assert (elsewhere / "kept").read_text() == "mine"
    assert len(os.listdir(top)) == len(kept) + 2
