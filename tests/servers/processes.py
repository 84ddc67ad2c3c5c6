"""The programs that a server consists of: started, waited for, and stopped for certain.

Each program runs in the foreground with its output in ``<work>/<name>.log``. Linux kills it when
the thread that started it ends, even if that was by ``kill -9``, so start servers from the main
thread. Elsewhere a killed test run may leave programs behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

_TAIL = 3000


class ServerError(RuntimeError):
    """A server did not start, or refused what its set-up needs."""


class Processes:
    """Programs that live and die together.

    Parameters
    ----------
    work : Path
        The folder for their logs, and their home.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a program that goes on until it is stopped."""
        wrapper = shutil.which("setpriv")
        bound = [wrapper, "--pdeathsig", "KILL", "--"] if wrapper else []
        with open(self.log(name), "ab") as log:
            self._running[name] = subprocess.Popen(
                [*bound, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self._work,
                # else Ctrl-C at the terminal reaches it, and it stops before its clients
                start_new_session=True,
            )

    def run(self, command: Sequence[str], seconds: float = 30) -> str:
        """Run a program to its end; return what it printed."""
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=self._environment(),
                cwd=self._work,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            said = (error.stderr or b"").decode(errors="replace")
            raise self.error(
                f"{command[0]} did not end in {seconds:g} s: {said[-_TAIL:]}"
            ) from None
        if ended.returncode:
            said = (ended.stdout + ended.stderr).decode(errors="replace")[-_TAIL:]
            raise self.error(f"{' '.join(command)} failed: {said}")
        return ended.stdout.decode()

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until something is so; raise as soon as one of the programs has ended."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise self.error(f"{what}: not within {seconds:g} s")
            for name, process in self._running.items():
                try:
                    # nothing tells when a server is ready, so the pause waits for its end
                    process.wait(0.02 / len(self._running))
                except subprocess.TimeoutExpired:
                    continue
                raise self.error(f"{what}: {name} ended with status {process.returncode}")

    def error(self, message: str) -> ServerError:
        """Return an error that shows the end of each log."""
        logs = [f"--- {name}\n{self.said(name)[-_TAIL:]}" for name in self._running]
        return ServerError("\n".join([message, *logs]))

    def log(self, name: str) -> Path:
        """Return where a program's output goes."""
        return self._work / f"{name}.log"

    def said(self, name: str) -> str:
        """Return a program's output so far."""
        return self.log(name).read_text(errors="replace")

    def pids(self) -> dict[str, int]:
        """Return the processes by name."""
        return {name: process.pid for name, process in self._running.items()}

    def stop(self) -> None:
        """Kill all of them, the last started first; nothing they keep is wanted."""
        with ExitStack() as each:  # one that cannot be killed keeps no other alive
            for process in self._running.values():
                each.callback(_kill, process)
        self._running.clear()

    def _environment(self) -> Mapping[str, str]:
        """Return an environment without proxies, and with a home of their own."""
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        return {**kept, "HOME": str(self._work), "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended by itself
    process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody uses at the moment."""
    with ExitStack() as probes:
        sockets = [
            probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [probe.getsockname()[1] for probe in sockets]


def answers(port: int) -> bool:
    """Say whether something listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
