"""A pipe in the place of a file is an error; what a shell hands over is read."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import subprocess
import sys
import tarfile

import pytest
from shells import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="has no such pipes")

CONTENT = b"1,2\n"


@pytest.fixture
def here(tmp_path):
    """Return a folder with a package, its data, and a pipe."""
    os.mkfifo(tmp_path / "pipe")
    digest = hashlib.sha256(CONTENT).hexdigest()
    for name in ("data", "linked", "mypkg", "odd"):
        (tmp_path / name).mkdir()
    for name in ("data", "linked"):
        (tmp_path / name / "a.csv").write_bytes(CONTENT)
    os.mkfifo(tmp_path / "linked" / "other")  # left out, but not what leads to it
    (tmp_path / "linked" / "b.csv").symlink_to("other")
    (tmp_path / "x" / "data" / "train").mkdir(parents=True)
    (tmp_path / "x" / "data" / "train" / "b.csv").symlink_to(tmp_path / "pipe")
    (tmp_path / "croissant.json").write_text(
        '{"@type": "sc:Dataset", "distribution": [{"@type": "cr:FileObject", "name": "a.csv", '
        f'"contentUrl": "https://h.example/a.csv", "sha256": "{digest}"}}]}}'
    )
    for name in ("mypkg", "odd"):
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "registry.txt").write_text(f"a.csv {digest}\n")
    (tmp_path / "mypkg" / "registry.txt").write_text(f"a.csv {digest}\n")
    (tmp_path / "mypkg" / "pkgdata.toml").write_text(
        '[package]\nname = "mypkg"\nregistry = "registry.txt"\ndataurl = "../data"\n'
    )
    os.mkfifo(tmp_path / "odd" / "pkgdata.toml")
    return tmp_path


def run(here, line, **env):
    """Run a line of bash in which `pkgdata` is ours; return code, output and errors."""
    words = [
        "bash",
        "-c",
        f'pkgdata() {{ {shlex.quote(sys.executable)} -m pkgdata "$@"; }}; {line}',
    ]
    keep = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    env = {**keep, "HOME": str(here), "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(words, cwd=here, env=env, capture_output=True, text=True, timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "pkgdata registry make linked",
        "pkgdata registry check data pipe",
        "pkgdata registry update pipe --from croissant.json",
        "pkgdata registry update --from pipe",
        "pkgdata cache import pipe",
        "pkgdata publish linked --to file:$PWD/web --registry new.txt",
        "pkgdata publish data --to file:$PWD/web --registry pipe",
        "pkgdata publish data --to zenodo: --metadata pipe",
        "pkgdata dataset push x --home $PWD --repo $PWD/repo",
        "PKGDATA_CONFIG=pipe pkgdata config",
        "PKGDATA_CONFIG=pipe pkgdata get ./mypkg a.csv",
    ],
)
def test_a_pipe_that_nobody_writes_to_is_an_error(here, line):
    done = run(here, line)
    assert done.returncode not in (0, -9), done.stdout
    assert "it is a pipe, a socket or a device, not a file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_whose_declaration_is_a_pipe(here):
    done = run(here, "pkgdata list ./odd")
    assert (done.returncode, "odd has no pkgdata.toml" in done.stderr) == (1, True)


@pytest.mark.slow
def test_a_netrc_that_is_a_pipe_is_named(here):
    code = "from pkgdata.base import urls; print(urls.netrc_problem(), urls.netrc_login('h'))"
    words = [sys.executable, "-c", code]
    env = {**os.environ, "NETRC": str(here / "pipe"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=30)
    assert "it is a pipe" in done.stdout
    assert done.stdout.endswith(" None\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "pkgdata registry check data <(cat registry.txt)",
        "pkgdata registry check data /dev/stdin <registry.txt",
        "cat registry.txt | pkgdata registry check data /dev/stdin",
        "PKGDATA_CONFIG=/dev/null NETRC=/dev/null pkgdata get ./mypkg a.csv",
        "PKGDATA_CONFIG=<(echo 'retries = 1') pkgdata config",
        "pkgdata registry update new.txt --from <(cat croissant.json)",
        "cat archive.tar >pipe & pkgdata cp pipe copy.tar && cmp copy.tar archive.tar",
        "pkgdata cache import archive.tar",
    ],
)
def test_what_a_shell_hands_over_is_read(here, line):
    with tarfile.open(here / "archive.tar", "w") as archive:
        digest = hashlib.sha256(CONTENT).hexdigest()
        info = tarfile.TarInfo(f"objects-v1/sha256/{digest[:2]}/{digest[2:]}/a.csv")
        info.size = len(CONTENT)
        archive.addfile(info, io.BytesIO(CONTENT))
    done = run(here, line)
    assert done.returncode == 0, done.stderr
