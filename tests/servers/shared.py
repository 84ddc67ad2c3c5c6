"""One Ceph for all the workers of a parallel test run.

Each user holds a shared lock on one file for as long as it uses the server. A keeper, a process
that belongs to nobody, runs the server and waits for the exclusive lock: it gets it when the last
user has left, and also when the users were killed, since locks end with their process. Nothing has
to be counted, and nothing is left behind.

  guard   locked by the user that looks whether a server runs, and starts one
  users   locked, shared, by each user
  keeper  locked by the keeper while it lives
  facts   how to reach the server; gone once it is being stopped
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .ceph import Ceph
from .processes import ServerError
from .signing import S3


@contextmanager
def _locked(path: Path, *, share: bool = False, wait: bool = True) -> Iterator[bool]:
    """Hold a lock on a file; yield whether it is held, which is sure if it is waited for."""
    import fcntl  # there is none on Windows, where nothing here is used

    how = (fcntl.LOCK_SH if share else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, how)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def shared_ceph(folder: Path) -> Iterator[S3]:
    """Use the server of a folder together with other processes; start it if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "users", share=True):
        with _locked(folder / "guard"):
            if not _is_kept(folder):
                _start_keeper(folder)
            endpoint = (folder / "facts").read_text()
        yield S3(endpoint)


def _is_kept(folder: Path) -> bool:
    """Say whether a server runs; a user asks, so it cannot be about to stop."""
    with _locked(folder / "keeper", wait=False) as nobody_else:
        return not nobody_else and (folder / "facts").exists()


def _start_keeper(folder: Path) -> None:
    tests = str(Path(__file__).resolve().parents[1])
    log = folder / "keeper.log"
    with open(log, "wb") as errors:
        # its output ends when the server runs, or when there will be none
        subprocess.run(
            [sys.executable, "-m", "servers.shared", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=tests,
            check=True,
        )
    if not (folder / "facts").exists():
        raise ServerError(f"the shared server did not start:\n{log.read_text(errors='replace')}")


def keep(folder: Path) -> None:
    """Run the server until its last user has left."""
    facts = folder / "facts"
    facts.unlink(missing_ok=True)
    with (
        # a predecessor, without users, may be stopping still
        _locked(folder / "keeper"),
        Ceph(folder / "ceph") as ceph,
    ):
        fresh = folder / "facts.new"
        fresh.write_text(ceph.endpoint)
        fresh.replace(facts)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        with _locked(folder / "users"):
            facts.unlink()


def main() -> None:
    """Leave the process that called, and keep a server."""
    if os.fork():
        os._exit(0)
    os.setsid()
    keep(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
