"""Publishing to GitHub, Figshare and Zenodo in tests: files, the engine's steps, killed processes.

Run as a program it publishes what a JSON job says, so that a test can kill it at any moment.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pkgdata.base.hashes import hash_file
from pkgdata.publish.destination import Item
from pkgdata.publish.engine import Publication

ROOT = Path(__file__).resolve().parent.parent


class Sleeps(list):
    """Stands in for `time.sleep`: notes the seconds, and waits for nothing."""

    def __call__(self, seconds):
        self.append(seconds)


def make_files(folder, files):
    """Write files; return the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def items_of(folder):
    """Return the files of a folder as the engine would."""
    return [
        Item(path.relative_to(folder).as_posix(), str(path), hash_file(path), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def put(destination, item, replace=False):
    """Upload one file; return what is held and what was told of its progress."""
    told = []
    return destination.put(item, replace, told.append), told


def publish(folder, destination, replace=(), prove=False):
    """Publish a folder; return the number of files sent, and what was found when read back."""
    registry = folder.parent / f"{folder.name}-registry.txt"
    with Publication(str(folder), [destination], str(registry), replace) as work:
        work.plan()
        sent = work.upload()
        work.record()
        found = work.prove() if prove else []
    return sent, found


def start(kind, folder, replace=(), **options):
    """Start a process that publishes; return it."""
    job = {"kind": kind, "folder": str(folder), "replace": replace, "options": options}
    return subprocess.Popen(
        [sys.executable, __file__, json.dumps(job)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


class Killer:
    """Runs a process that publishes, and kills it with `kill -9` at some moment.

    Parameters
    ----------
    server : Hosting
    after : int, optional
        Kill when so many requests are dealt with; the last one is not answered.
    within : callable, optional
        Takes a request and the bytes of its body so far; kill when it says so.
    """

    def __init__(self, server, after=0, within=None):
        self._server = server
        self._left = after
        self._within = within
        self._process = None
        self._killed = False

    def _dealt_with(self, asked):
        self._left -= 1
        if self._left == 0:
            self._kill()

    def _reading(self, asked, count):
        if self._within(asked, count) and not self._killed:
            self._kill()

    def _kill(self):
        self._killed = True
        self._process.kill()
        self._process.wait()

    def run(self, *arguments, **options):
        """Run `start`'s process until it is killed, and the server has done with it."""
        known = self._server.connections()
        self._server.answered = self._dealt_with
        self._server.reading = self._reading if self._within else None
        self._process = start(*arguments, **options)
        _, errors = self._process.communicate(timeout=60)
        assert self._killed, errors.decode()[-2000:]
        # what it had sent may be dealt with late, and must not meet the next run's requests
        self._server.settle(known)
        self._server.answered = self._server.reading = None


def at_every_step(steps, act):
    """Call a function with each number of steps, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(act, range(1, steps + 1)))


def main():
    """Publish what the job says."""
    job = json.loads(sys.argv[1])
    module, name = job["kind"]
    cls = getattr(importlib.import_module(f"pkgdata.publish.{module}"), name)
    publish(Path(job["folder"]), cls(**job["options"]), job["replace"])


if __name__ == "__main__":
    main()
