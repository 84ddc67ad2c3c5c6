"""Azurite, Microsoft's emulator of Azure Blob Storage, with its telemetry off.

::

    with Azurite(tmp_path / "azurite") as azurite:
        container = azurite.make_container()
        ...  # azurite.endpoint, azurite.account, azurite.key

It is looked for in the environment variable ``AZURITE``, among the programs, and in
``node_modules`` of the repository's folder and of the current one.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from .processes import Processes
from .signing import Azure

#: The account that Azurite documents and every installation has; it protects nothing.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_PROGRAM = "azurite-blob"
_LISTENS = re.compile(r"successfully listens on (http://\S+)")


def find_azurite() -> str | None:
    """Return the program, if there is one."""
    if named := os.environ.get("AZURITE"):
        return shutil.which(named)
    roots = [Path(__file__).resolve().parents[2], Path.cwd()]
    local = os.pathsep.join(str(root / "node_modules" / ".bin") for root in roots)
    return shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path=local)


class Azurite(Azure):
    """The emulator; a context manager.

    Parameters
    ----------
    work : Path
        A folder for its log; made if it is not there. The blobs are kept in memory.
    """

    def __init__(self, work: Path) -> None:
        super().__init__(endpoint="", account=_ACCOUNT, key=_KEY)
        self._work = work
        self._processes = Processes(work)

    @staticmethod
    def available() -> str | None:
        """Return why it cannot run here, if so."""
        if os.name == "nt":
            return "is stopped by signals, as on Linux"
        if shutil.which("node") is None or find_azurite() is None:
            return "needs azurite: apt-get install nodejs npm && npm install azurite"
        return None

    def __enter__(self) -> Azurite:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; return when it answers."""
        self._work.mkdir(parents=True, exist_ok=True)
        program = os.path.abspath(find_azurite() or _PROGRAM)
        options = ["--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
        place = ["--blobHost", "127.0.0.1", "--blobPort", "0"]
        try:
            self._processes.start("azurite", [program, *options, *place])
            self._processes.wait_until(self._listens, "Azurite listens")
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
        found = _LISTENS.search(self._processes.said("azurite"))
        if found:
            self.endpoint = f"{found[1]}/{self.account}"
        return found is not None
