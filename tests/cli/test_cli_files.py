"""``get``, ``fetch`` and ``list``: what is kept, and lines that say what happened."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shells import ROOT, write

#: Makes permission bits count for root too: without its capabilities root is an ordinary user.
ORDINARY = """
import os, sys
if os.geteuid() == 0:
    import ctypes
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0
from pkgdata.cli import main
sys.exit(main())
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="homes of Linux")


@pytest.fixture
def package(tmp_path):
    """Return the folder of a package with two files."""
    files = {"a.txt": b"a" * 1000, "b.txt": b"b" * 500}
    for name, content in files.items():
        write(tmp_path / "site" / name, content)
    lines = [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in files.items()]
    write(tmp_path / "pkg" / "registry.txt", "\n".join(lines).encode())
    write(
        tmp_path / "pkg" / "pkgdata.toml",
        f'[package]\nname = "kept"\ndataurl = "{(tmp_path / "site").as_uri()}/"\n'
        'registry = "registry.txt"\n'.encode(),
    )
    return str(tmp_path / "pkg")


def run(*words, check=True, **variables):
    """Run a command as an ordinary user; a variable that is None is taken away."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    env = {key: str(value) for key, value in env.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", ORDINARY, *map(str, words)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert not check or done.returncode == 0, done.stderr
    return done


def unusable(kind, tmp_path):
    """Return the environment of a user whose cache cannot be used, and what the message names."""
    none = {"PKGDATA_CACHE_DIR": None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None}
    home = tmp_path / "somebody"
    if kind == "no such home":
        (tmp_path / "users").mkdir(mode=0o555)
        return {**none, "HOME": f"{tmp_path}/users/nobody"}, f"{tmp_path}/users/nobody"
    if kind == "home is no folder":
        return {**none, "HOME": "/dev/null"}, "a file is in the way: /dev/null"
    if kind == "link to a purged scratch":
        home.mkdir()
        (home / ".cache").symlink_to(tmp_path / "scratch")
        return {**none, "HOME": str(home)}, f"leads nowhere, to {tmp_path}/scratch: {home}/.cache"
    if kind == "another group's cache":
        (tmp_path / "shared").mkdir()
        write(tmp_path / "shared" / "CACHEDIR.TAG")
        (tmp_path / "shared").chmod(0o555)
        return {"PKGDATA_CACHE_DIR": str(tmp_path / "shared")}, f"{tmp_path}/shared"
    raise AssertionError(kind)


KINDS = [
    "no such home",
    "home is no folder",
    "link to a purged scratch",
    "another group's cache",
]


@linux
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", [("get",), ("fetch",)])
def test_a_command_that_can_keep_nothing_fails_and_says_where_it_tried(
    kind, verb, package, tmp_path
):
    variables, where = unusable(kind, tmp_path)
    (tmp_path / "tmp").mkdir()
    names = ["a.txt"] if verb == ("get",) else []
    done = run(*verb, package, *names, check=False, TMPDIR=tmp_path / "tmp", **variables)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("nothing could be kept: the cache ") == 1
    assert where in done.stderr
    assert "PKGDATA_CACHE_DIR" in done.stderr
    assert os.listdir(tmp_path / "tmp") == []


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_fetch_to_a_folder_needs_no_cache(kind, package, tmp_path):
    variables, _ = unusable(kind, tmp_path)
    (tmp_path / "out").mkdir()
    done = run("fetch", package, "--to", tmp_path / "out", **variables)
    assert f"2 files in {tmp_path}/out/kept" in done.stderr
    assert sorted(os.listdir(tmp_path / "out" / "kept")) == ["a.txt", "b.txt"]


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_shown_without_a_usable_home(kind, tmp_path):
    variables, _ = unusable(kind, tmp_path)
    assert "retries" in run("config", **variables).stdout
    assert run("config", "cache_dir", **variables).stdout.strip()


def test_the_closing_line_of_fetch(package, tmp_path):
    place = tmp_path / "cache"
    first = run("fetch", package, "a.txt").stderr
    assert first.startswith(f"1 file of kept fetched into {place} (1 kB in ")
    second = run("fetch", package).stderr
    assert second.startswith(f"1 file of kept fetched into {place} (500 B in ")
    assert second.endswith("s), 1 already there\n")
    assert run("fetch", package).stderr == "0 files of kept fetched, 2 already there\n"
    out = tmp_path / "out"
    copied = run("fetch", package, "--to", out)
    assert copied.stderr == f"0 files of kept fetched, 2 already there; 2 files in {out}/kept\n"
    assert copied.stdout == f"export PKGDATA_FOLDERS={out}\n"
    more = run("fetch", package, "--to", out, PKGDATA_FOLDERS="/data").stdout
    assert more == f"export PKGDATA_FOLDERS={out}:$PKGDATA_FOLDERS\n"


@pytest.mark.parametrize("words", [["get", "a.txt"], ["fetch"]])
def test_bytes_that_an_earlier_command_brought_are_no_speed(words, package, tmp_path):
    digest = hashlib.sha256(b"a" * 1000).hexdigest()
    write(tmp_path / "cache" / "partial-v1" / f"sha256-{digest[:40]}.part", b"a" * 600)
    verb, *names = words
    said = run(verb, package, *names).stderr
    total = "400 B in " if verb == "get" else "(900 B in "
    assert total in said


@pytest.mark.slow
def test_the_closing_lines_of_the_cache(package, tmp_path):
    place = tmp_path / "cache"
    run("fetch", package)
    dry = run("cache", "prune", "--older-than", "0", "--dry-run").stderr
    assert dry.startswith(f"2 files would be removed from {place} (1.5 kB), ")
    archive = tmp_path / "all.tar"
    assert f"2 files written to {archive} (1.5 kB in " in run("cache", "export", archive).stderr
    again = run("cache", "import", archive).stderr
    assert again == f"0 files imported into {place}, 2 already there\n"
    assert f"2 files removed from {place} (1.5 kB in " in run("cache", "clear", "--yes").stderr
    assert run("cache", "clear", "--yes").stderr == f"0 files removed from {place}\n"
    first = run("cache", "import", archive).stderr
    assert first.startswith(f"2 files imported into {place} (1.5 kB in ")


def test_fetch_as_json(package):
    found = json.loads(run("fetch", package, "--json").stdout)
    assert list(found) == ["succeeded", "failed", "new", "bytes", "seconds"]
    assert found["new"] == {"a.txt": 1000, "b.txt": 500}
    assert found["bytes"] == 1500
    assert 0 < found["seconds"] < 60


@linux
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_adopted_into_a_cache_that_cannot_be_kept(kind, package, tmp_path):
    write(tmp_path / "old" / "a.txt", b"a" * 1000)
    variables, _ = unusable(kind, tmp_path)
    words = ("migrate", "--from", "pooch", package, "--source", tmp_path / "old")
    done = run(*words, check=False, **variables)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr


def announce(folder, name, *files):
    """Install a package with some files of one byte."""
    write(folder / name / "__init__.py", b"")
    toml = f"[package]\nname = '{name}'\ndataurl = 'mirror'\n"
    write(folder / name / "pkgdata.toml", toml.encode())
    digest = hashlib.sha256(b"1").hexdigest()
    write(folder / name / "registry.txt", "".join(f"{f} {digest}\n" for f in files).encode())
    for file in files:
        write(folder / name / "mirror" / file, b"1")
    info = folder / f"{name}-1.0.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode())
    write(info / "entry_points.txt", f"[pkgdata.packages]\n{name} = {name}\n".encode())


def test_a_name_of_the_samples_too_is_that_of_the_users_package(shell, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    assert shell.lines("get", "stars.csv")[0].endswith("pkgdata/data/stars.csv")
    announce(tmp_path / "lib", "starmaps", "stars.csv", "mine.csv")
    (path,) = shell.lines("get", "stars.csv")
    assert Path(path).read_bytes() == b"1"
    assert any("starmaps/mirror" in line for line in shell.lines("where", "stars.csv"))
    announce(tmp_path / "lib", "moonmaps", "stars.csv")
    assert shell("get", "stars.csv") == 1
    assert "'stars.csv' is in the registry of moonmaps, starmaps\n" in shell.err


def test_a_package_where_a_name_is_expected(shell, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "lib")
    announce(tmp_path / "lib", "starmaps", "stars.csv")
    for verb in ("get", "where"):
        assert shell(verb, "starmaps") == 1
        assert (
            f"Hint: starmaps is a package: pkgdata {verb} starmaps NAME, or for all of its files: "
            "pkgdata fetch starmaps\n"
        ) in shell.err
    assert shell("get", "nosuch.csv") == 1
    assert "Hint: name the package: pkgdata get PKG nosuch.csv" in shell.err
