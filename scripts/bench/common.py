"""What the benchmarks share: fresh processes, paired rounds, medians, tables, aims, the machine,
random files and a private nginx that serves them.

The times of one case say little, since they depend on the machine and on what else it does. So the
cases of a table run one after another in each round, and what counts is the median over the rounds
of the ratio between two cases of the same round.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]


_MIB = 1 << 20
_NONE: Mapping[str, str] = {}


class Sample(NamedTuple):
    """One run of one case: seconds of the whole process, of its processors, and of the call that
    it timed itself; peak memory in bytes; whatever else it reports."""

    wall: float
    cpu: float
    call: float
    rss: float
    facts: dict[str, Any]


#: Defines what a child prints as its last line. It imports nothing, as that would count in the
#: child's time. The peak is that of its own memory map: ``ru_maxrss`` would begin with the memory
#: of the process that started it.
REPORT = """
def report(**facts):
    try:
        with open("/proc/self/status") as status:
            peak = next(int(row.split()[1]) for row in status if row.startswith("VmHWM")) * 1024
    except OSError:
        peak = 0
    facts["rss"] = peak
    print("{" + ", ".join(f'"{key}": {value!r}' for key, value in facts.items()) + "}")
"""


def environment(work: Path) -> dict[str, str]:
    """Return variables that keep a child away from the user's files, settings and proxies."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PKGDATA_", "PYTHON", "XDG_")) and not key.lower().endswith("_proxy")
    }
    # byte code is written, as in an installed package, but not into this checkout
    return kept | {
        "HOME": str(work / "home"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(work / "packages")]),
        "PYTHONPYCACHEPREFIX": str(work / "bytecode"),
    }


def start(argv: list[str], work: Path, env: Mapping[str, str] = _NONE) -> subprocess.Popen[bytes]:
    """Start a fresh process; its input ends when the caller closes it."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=work,
        env={**environment(work), **env},
    )


def finish(process: subprocess.Popen[bytes], began: float) -> Sample:
    """Wait until a process ends; its last line may be a report."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # the usage of this child and of its children
    wall = time.perf_counter() - began
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode} from {process.args!r}")
    lines = text.splitlines()
    facts = json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else {}
    cpu = usage.ru_utime + usage.ru_stime
    return Sample(wall, cpu, facts.get("call", wall), facts.get("rss") or _peak(usage), facts)


def _peak(usage: resource.struct_rusage) -> float:
    """Return the peak memory of a tool, if it can be told: a child's begins with ours."""
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return float(usage.ru_maxrss * unit) if usage.ru_maxrss > ours else float("nan")


def run(argv: list[str], work: Path, env: Mapping[str, str] = _NONE) -> Sample:
    """Run one fresh process to its end."""
    began = time.perf_counter()
    return finish(start(argv, work, env), began)


def interpreter(code: str, *arguments: object) -> list[str]:
    """Return the command that runs code, which calls ``report``, in a fresh interpreter."""
    return [sys.executable, "-c", REPORT + code, *map(str, arguments)]


def python(code: str, work: Path, *arguments: object) -> Sample:
    """Run code, which calls ``report``, in a fresh interpreter."""
    return run(interpreter(code, *arguments), work)


def rounds(
    cases: Mapping[str, Callable[[], Sample]], count: int, seldom: Collection[str] = ()
) -> dict[str, list[Sample]]:
    """Run all cases in each round, beginning with another one each time.

    One round more comes first and is dropped: it fills the page cache and writes byte code. What
    takes very long may run in the first counted round alone.
    """
    names = list(cases)
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for number in range(count + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if name in seldom and number != 1:
                continue
            sample = cases[name]()
            if number:
                samples[name].append(sample)
    return samples


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def ratio(above: Iterable[float], below: Iterable[float]) -> float:
    """Return the median over the rounds that both ran in of the ratio within a round."""
    return median(a / b for a, b in zip(above, below, strict=False))


def over(samples: list[Sample], base: list[Sample]) -> list[float]:
    """Return the seconds of each round that a process took longer than the base."""
    return [one.wall - bare.wall for one, bare in zip(samples, base, strict=True)]


def table(title: str, columns: list[str], rows: list[list[object]], note: str = "") -> str:
    """Return a markdown section with one table."""
    lines = [f"## {title}", "", *([note, ""] if note else [])]
    lines += ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if value != value:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


class Aim(NamedTuple):
    """What a table was to show, and what it shows."""

    text: str
    found: float
    limit: float
    at_least: bool = False

    def row(self) -> list[object]:
        """Return the aim's row in the last table."""
        met = self.found >= self.limit if self.at_least else self.found <= self.limit
        sign = "≥" if self.at_least else "≤"
        return [self.text, f"{sign} {self.limit:g}", self.found, "met" if met else "missed"]


def aims_table(aims: Iterable[Aim]) -> str:
    """Return the last table."""
    return table("Aims", ["what", "aim", "found", ""], [aim.row() for aim in aims])


def header(
    count: int,
    packages: Sequence[str] = ("pooch", "astropy", "platformdirs", "requests"),
    tools: Sequence[Sequence[str]] = (("openssl", "version"), ("sha256sum", "--version")),
) -> str:
    """Return the versions and the machine, as a markdown list."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    programs = "; ".join(_first_line(argv) for argv in tools)
    return (
        f"- Python {platform.python_version()}, {versions}\n"
        + (f"- {programs}\n" if programs else "")
        + f"- {platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores; "
        f"load average at the end {os.getloadavg()[0]:.1f}\n"
        f"- {time.strftime('%Y-%m-%d', time.gmtime())}, median of {count} rounds\n"
    )


def _first_line(argv: Sequence[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return (done.stdout or done.stderr).splitlines()[0].partition(" (")[0]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            rows = (row.partition(":") for row in file)
            return next(value.strip() for key, _, value in rows if key.strip() == "model name")
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


# -- files and the server that has them --------------------------------------------------------


def random_file(path: Path, length: int) -> str:
    """Write a file of random bytes and return its SHA-256."""
    hasher = hashlib.sha256()
    with open(path, "wb") as file:
        for at in range(0, length, _MIB):
            block = os.urandom(min(_MIB, length - at))
            hasher.update(block)
            file.write(block)
    return hasher.hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_MIB):
            hasher.update(block)
    return hasher.hexdigest()


def fresh(folder: Path) -> Path:
    """Make a folder that is empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


#: Close to what a distribution installs. The capped and the logged server note what they sent.
_NGINX = """
daemon off;
user {user};
worker_processes auto;
pid {work}/nginx.pid;
error_log {work}/error.log error;
events {{ worker_connections 768; }}
http {{
    default_type application/octet-stream;
    root {root};
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 65;
    log_format sent '$request_method $status $body_bytes_sent';
    access_log off;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{ listen {host}:{fast}; }}
    server {{ listen {host}:{logged}; access_log {work}/access.log sent; }}
    server {{ listen {host}:{capped}; access_log {work}/access.log sent; limit_rate 20m; }}
}}
"""


class Nginx:
    """A private nginx on three ports: `fast`, `logged`, and `capped` at 20 MB/s a connection.

    Parameters
    ----------
    work : Path
        Folder for what it writes; made if it is not there.
    root : Path
        What is served.
    host : str
        Address it listens at.
    prefix : list of str
        Command that runs it elsewhere, as in another network namespace.
    """

    def __init__(
        self, work: Path, root: Path, host: str = "127.0.0.1", prefix: Sequence[str] = ()
    ) -> None:
        self._work = work
        self._root = root
        self._host = host
        self._prefix = list(prefix)
        self.fast, self.logged, self.capped = free_ports(3)

    def __enter__(self) -> Nginx:
        self._work.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; return when it listens."""
        import pwd

        conf, pid = self._work / "nginx.conf", self._work / "nginx.pid"
        conf.write_text(
            _NGINX.format(
                user=pwd.getpwuid(os.getuid()).pw_name,  # who may read the files
                work=self._work,
                root=self._root,
                host=self._host,
                fast=self.fast,
                logged=self.logged,
                capped=self.capped,
            )
        )
        program = shutil.which("nginx") or "/usr/sbin/nginx"  # often not on a user's path
        errors = self._work / "error.log"
        pid.unlink(missing_ok=True)
        command = [*self._prefix, program, "-e", str(errors), "-c", str(conf)]
        self._process = subprocess.Popen(command)
        while not pid.exists():  # written once it listens; a port may be out of our reach
            if self._process.poll() is not None:
                raise RuntimeError(f"nginx did not start: see {errors}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it; whatever it was sending is cut off and noted."""
        self._process.terminate()
        self._process.wait()

    def sent(self) -> list[int]:
        """Return how many bytes it sent for each request it answered on the noting ports."""
        lines = (self._work / "access.log").read_text().splitlines()
        return [int(line.split()[2]) for line in lines if line.startswith("GET ")]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
