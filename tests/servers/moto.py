"""moto's S3 server, an imitation in Python that pip installs.

::

    with Moto(tmp_path / "moto") as moto:
        bucket = moto.make_bucket()
        ...  # moto.endpoint, moto.access_key, moto.secret_key

It accepts wrong signatures and wrong digests: nothing about them can be tested with it. A process
of its own keeps its warnings and its threads away from the tests.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from .processes import Processes
from .signing import S3

_LISTENS = re.compile(r"Running on (http://[\w.]+:\d+)")


class Moto(S3):
    """The server; a context manager.

    Parameters
    ----------
    work : Path
        A folder for its log; made if it is not there. The objects are kept in memory.
    """

    def __init__(self, work: Path) -> None:
        super().__init__(endpoint="")
        self._work = work
        self._processes = Processes(work)

    @staticmethod
    def available() -> str | None:
        """Return why it cannot run here, if so."""
        if os.name == "nt":
            return "is stopped by signals, as on Linux"
        if any(importlib.util.find_spec(name) is None for name in ("moto", "flask")):
            return "needs moto's server: pip install 'moto[server,s3]'"
        return None

    def __enter__(self) -> Moto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; return when it answers."""
        self._work.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        try:
            self._processes.start("moto", command)
            self._processes.wait_until(self._listens, "moto listens")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it; what it held is gone."""
        self._processes.stop()

    def pids(self) -> dict[str, int]:
        """Return its processes by name."""
        return self._processes.pids()

    def _listens(self) -> bool:
        found = _LISTENS.search(self._processes.said("moto"))
        if found:
            self.endpoint = found[1]
        return found is not None
