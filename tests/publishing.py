"""What the tests of publishing share: folders of files, and runs of the engine and the command."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pkgdata
from pkgdata.publish import destinations_for
from pkgdata.publish.engine import Publication

CHECKOUT = Path(pkgdata.__file__).parent.parent

#: Names that are awkward for shells, URLs and services.
FILES = {
    "stars.csv": b"name,mag\nSirius,-1.46\n",
    "maps/dust map.fits": b"SIMPLE" + bytes(range(256)) * 100,
    "maps/ä+b%20&c=#d.bin": b"\0\1\2",
    "empty.dat": b"",
}


def make(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def publish(folder, places, registry, *, replace=(), urls=(), **options):
    """Do all steps; return the publication, the files sent, and the findings."""
    destinations = destinations_for(
        [places] if isinstance(places, str) else places, urls, **options
    )
    with Publication(str(folder), destinations, str(registry), replace) as work:
        work.plan()
        sent = work.upload()
        work.record()
        return work, sent, work.prove()


def states(findings) -> dict[str, str]:
    return {one.entry.name: one.state for one in findings}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "pkgdata", "publish", *map(str, words)]


def environment(extra=None) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", **(extra or {})}


def run(*words: object, env=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        env=environment(env),
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def run_json(*words: object, env=None) -> dict:
    done = run(*words, "--json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def need(*programs: str, install: str) -> None:
    """Skip the test if a program is not here, or fail where it is to be."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/usr/lib/git-core"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if missing:
        reason = f"needs {', '.join(missing)}: {install}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
