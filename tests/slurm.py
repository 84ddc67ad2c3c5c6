"""A real Slurm on this computer: four nodes with host names, disks and file locks of their own.

::

    with Slurm(tmp_path / "slurm") as slurm:
        slurm.srun("-N4", "-n32", sys.executable, "task.py", SOME_VARIABLE="value")
        slurm.local      # the path of a folder of its own on each node
        slurm.nodes      # these folders as seen from outside: {"n1": Path, ...}
        slurm.shared     # the path of a folder that the nodes share
        slurm.site       # this folder as seen from outside

Each ``slurmd`` lives in its own mount and UTS namespaces, and sees the shared folder through its
own FUSE mount. So ``flock`` there is known to one node alone, as on Lustre mounted with
``-o localflock``.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

NODES = ("n1", "n2", "n3", "n4")

_CONF = """
ClusterName=hpc
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={work}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmUser=root
SlurmdUser=root
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool-%n
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd-%n.pid
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd-%n.log
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
{nodes}
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=64 State=UNKNOWN"

#: What runs in the namespaces of a node; it ends as slurmd, so that its process is slurmd's.
_START = """
set -e
hostname "$1"
mount --bind "$2/hosts" /etc/hosts
mount --bind "$2/nodes/$1" "$2/local"
bindfs -f "$2/site" "$2/shared" >"$2/bindfs-$1.log" 2>&1 &
echo $! >"$2/bindfs-$1.pid"
for try in $(seq 500); do mountpoint -q "$2/shared" && break; sleep 0.01; done
exec slurmd -D -f "$2/slurm.conf" -N "$1"
"""


def find_slurm() -> None:
    """Skip the test where Slurm cannot run, with the reason; fail where it is to run."""
    tools = {"slurmctld": "slurm-wlm", "munged": "munge", "bindfs": "bindfs", "unshare": ""}
    lacking = [tools[name] for name in tools if shutil.which(name, path=_PATH) is None]
    if lacking:
        ask = f"needs Slurm: apt-get install {' '.join(lacking)}"
        pytest.fail(ask) if os.environ.get("CI") else pytest.skip(ask)
    if os.geteuid() != 0:
        pytest.skip("needs root, for the mounts of Slurm's nodes")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse, for the shared folder of Slurm's nodes")
    probe = ["unshare", "--mount", "--uts", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs mounts of its own for each node: {done.stderr.strip()}")


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class Slurm:
    """The cluster; a context manager. ``work`` is an empty folder with a short path."""

    def __init__(self, work: str | os.PathLike[str]) -> None:
        find_slurm()
        self.work = Path(work)
        self.local, self.shared = self.work / "local", self.work / "shared"
        self.site = self.work / "site"
        self.nodes = {name: self.work / "nodes" / name for name in NODES}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            "PATH": _PATH,
            "SLURM_CONF": str(self.work / "slurm.conf"),
            "LANG": "C.UTF-8",
        }

    def __enter__(self) -> Slurm:
        for name in ("local", "shared", "site", "state"):
            (self.work / name).mkdir(parents=True)
        for folder in self.nodes.values():
            folder.mkdir(parents=True)
        here = f"127.0.0.1 localhost {socket.gethostname()} {' '.join(NODES)}\n"
        (self.work / "hosts").write_text(here)
        ports = _free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        nodes = [
            _NODE.format(name=name, host=host, port=port)
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        conf = _CONF.format(work=self.work, host=host, ports=ports, nodes="\n".join(nodes))
        (self.work / "slurm.conf").write_text(conf)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        work = self.work
        key = work / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = [f"--{name}-file={work}/munge.{name}" for name in ("key", "log", "pid", "seed")]
        # a folder of tests has an owner and bits that munged finds unsafe: hence --force
        self._run("munged", "--foreground", "--force", f"--socket={work}/munge.socket", *files)
        self._wait(lambda: (work / "munge.socket").exists())
        self._run("slurmctld", "-D", "-f", str(work / "slurm.conf"))
        for name in NODES:
            node = ["bash", "-c", _START, "bash", name, str(work)]
            self._run("unshare", "--mount", "--uts", *node)
        self._wait(lambda: self._all_idle())

    def _all_idle(self) -> bool:
        said = self.run("sinfo", "-h", "-o", "%T %D", check=False).stdout.split()
        return said == ["idle", str(len(NODES))]

    def _run(self, *command: str) -> None:
        log = open(self.work / f"{command[0]}-{len(self._processes)}.out", "wb")  # noqa: SIM115
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C stops the tests, which then stop these
        )
        log.close()
        self._processes.append(process)

    def _wait(self, ready, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not ready():
            ended = [one for one in self._processes if one.poll() is not None]
            if ended or time.monotonic() > end:
                raise RuntimeError(f"Slurm did not start:\n{self.logs()}")
            time.sleep(0.02)

    def logs(self) -> str:
        """Return the last lines of every log."""
        files = [*self.work.glob("*.out"), *self.work.glob("*.log"), self.work / "munge.log"]
        return "\n".join(
            f"{file.name}:\n{file.read_text(errors='replace')[-800:]}"
            for file in files
            if file.exists()
        )

    def __exit__(self, *_: object) -> None:
        if len(self._processes) > 1:
            # else tasks of jobs would outlive the tests
            self.run("scancel", "--user=root", check=False)
            self._wait_for_no_job()
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for file in self.work.glob("bindfs-*.pid"):
            try:
                os.kill(int(file.read_text()), signal.SIGTERM)  # it keeps the namespace alive
            except (ProcessLookupError, ValueError):
                pass

    def _wait_for_no_job(self) -> None:
        for _ in range(500):
            done = self.run("squeue", "-h", check=False)
            if done.returncode or not done.stdout.strip():
                return
            time.sleep(0.02)

    # -- programs --------------------------------------------------------------------------

    def popen(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Start a program that finds this Slurm, with its output on pipes."""
        return subprocess.Popen(
            command,
            env={**os.environ, **self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.work,
        )

    def run(
        self, *command: str, check: bool = True, timeout: float = 120, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program that finds this Slurm; return what it printed."""
        process = self.popen(*command, **variables)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{command} took more than {timeout} s:\n{out}\n{err}") from None
        assert not check or process.returncode == 0, f"{command}:\n{out}\n{err}\n{self.logs()}"
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def srun(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run tasks on the nodes; the first arguments are srun's own."""
        return self.run("srun", *arguments, **variables)

    def batch(self, script: str, *options: str, **variables: str) -> str:
        """Run a batch script on all nodes to its end; return what it printed."""
        path, out = self.work / "batch.sh", self.work / "batch.txt"
        path.write_text(f"#!/bin/bash\n{script}\n")
        command = [
            "sbatch",
            "--parsable",
            f"-N{len(NODES)}",
            f"--output={out}",
            *options,
            str(path),
        ]
        job = self.run(*command, **variables).stdout.strip()
        state, end = "", time.monotonic() + 120
        while state in ("", "PENDING", "RUNNING", "COMPLETING"):  # sbatch --wait looks every 10 s
            assert time.monotonic() < end, f"{script}:\n{out.read_text()}\n{self.logs()}"
            time.sleep(0.05)
            about = self.run("scontrol", "-o", "show", "job", job).stdout
            state = about.partition("JobState=")[2].split()[0]
        said = out.read_text() if out.exists() else ""
        assert state == "COMPLETED", f"{script}: {state}\n{said}"
        return said


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
