"""A Ceph RADOS gateway on this machine: one monitor, one memory store, one S3 frontend.

::

    with Ceph(tmp_path / "ceph") as ceph:
        bucket = ceph.make_bucket()
        ...  # ceph.endpoint, ceph.access_key, ceph.secret_key

It needs neither systemd nor root, keeps all objects in memory, and starts in about two seconds.
By hand, from the repository's folder: ``python -m tests.servers.ceph``.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import uuid
from http.client import HTTPException
from pathlib import Path

from .processes import Processes, ServerError, answers, free_ports
from .signing import S3

_PROGRAMS = [
    "ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin",
]  # fmt: skip
_INSTALL = "apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common"

_CONF = """
[global]
fsid = {fsid}
mon host = {addresses}
keyring = {work}/keyring
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
run dir = {work}
admin socket =
pid file =
log file = {work}/$name.log
# else a client of before 2021 would have to be let in, and the cluster warns about that
auth allow insecure global id reclaim = false
# one copy of everything, on one store, in as few groups as can be
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
# a disk that is nearly full is no reason to refuse: nothing is kept on it
mon data avail crit = 1
# for the sake of large clusters a monitor collects changes for a second: most of the start, else
paxos propose interval = 0.05
paxos min wait = 0.01
# a client that was quicker than the store looks again after five seconds, else
objecter tick interval = 0.2
osd objectstore = memstore
memstore device bytes = 17179869184
[mon.a]
mon data = {work}/mon
[osd.0]
osd data = {work}/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw dns name = localhost
rgw enable usage log = false
"""

_FOLDERS = ("mon", "osd")
_TAKEN = ("Address already in use", "status 98")  # EADDRINUSE

#: Who may do what in the cluster.
_KEYS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.rgw": {"mon": "allow rwx", "osd": "allow rwx"},
}


class Ceph(S3):
    """The gateway; a context manager.

    Parameters
    ----------
    work : Path
        An empty folder for its configuration, keys and logs; made if it is not there.
    """

    def __init__(self, work: Path) -> None:
        super().__init__(endpoint="")
        self._work = work
        self._processes = Processes(work)

    @staticmethod
    def available() -> str | None:
        """Return why it cannot run here, if so."""
        missing = [program for program in _PROGRAMS if shutil.which(program) is None]
        return f"needs {', '.join(missing)}: {_INSTALL}" if missing else None

    def __enter__(self) -> Ceph:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; return when it answers and the account is there."""
        for left in (2, 1, 0):
            try:
                self._start()
                return
            except BaseException as error:
                self.stop()
                # the ports were free when they were chosen; somebody was quicker to take one
                if not (
                    left
                    and isinstance(error, ServerError)
                    and any(one in str(error) for one in _TAKEN)
                ):
                    raise

    def stop(self) -> None:
        """Stop it; what it held is gone, its logs stay."""
        self._processes.stop()
        for folder in _FOLDERS:  # 40 MB, mostly space that the monitor takes in advance
            shutil.rmtree(self._work / folder, ignore_errors=True)

    def pids(self) -> dict[str, int]:
        """Return its processes by name."""
        return self._processes.pids()

    def _start(self) -> None:
        shutil.rmtree(self._work, ignore_errors=True)
        for folder in _FOLDERS:
            (self._work / folder).mkdir(parents=True)
        *monitor, port = free_ports(3)
        addresses = "[v2:127.0.0.1:{},v1:127.0.0.1:{}]".format(*monitor)
        fsid = str(uuid.uuid4())
        conf = _CONF.format(fsid=fsid, addresses=addresses, work=self._work, port=port)
        (self._work / "ceph.conf").write_text(conf)
        self._start_monitor(fsid, addresses)
        # tools wait half a minute for a monitor that could not start
        self._processes.wait_until(lambda: answers(monitor[0]), "the monitor listens")
        self._start_store()
        self._make_account(fsid)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._start_gateway(fsid)

    def _start_monitor(self, fsid: str, addresses: str) -> None:
        keyring = str(self._work / "keyring")
        monmap = str(self._work / "monmap")
        for new, (name, caps) in enumerate(_KEYS.items()):
            given = [word for what, may in caps.items() for word in ("--cap", what, may)]
            create = [] if new else ["--create-keyring"]
            self._run("ceph-authtool", keyring, *create, "--gen-key", "-n", name, *given)
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", addresses, monmap)
        command = self._command("ceph-mon", "-i", "a")
        self._run(*command, "--mkfs", "--monmap", monmap, "--keyring", keyring)
        self._processes.start("mon.a", [*command, "-f"])

    def _start_store(self) -> None:
        identity = str(uuid.uuid4())
        self._run(*self._command("ceph", "--connect-timeout", "30", "osd", "new", identity, "0"))
        command = self._command("ceph-osd", "-i", "0")
        keyring = str(self._work / "keyring")
        self._run(*command, "--mkfs", "--osd-uuid", identity, "--keyring", keyring)
        self._processes.start("osd.0", [*command, "-f"])

    def _make_account(self, name: str) -> None:
        """Make the account and the storage class, which the gateway reads when it starts."""
        admin = [*self._command("radosgw-admin"), "-n", "client.rgw"]
        keys = ["--access-key", self.access_key, "--secret", self.secret_key]
        self._run(*admin, "user", "create", "--uid", "test", "--display-name", name, *keys)
        storage = ["--placement-id", "default-placement", "--storage-class", "REDUCED_REDUNDANCY"]
        self._run(*admin, "zonegroup", "placement", "add", "--rgw-zonegroup", "default", *storage)
        pool = ["--data-pool", "default.rgw.reduced.data"]
        self._run(*admin, "zone", "placement", "add", "--rgw-zone", "default", *storage, *pool)

    def _start_gateway(self, name: str) -> None:
        command = self._command("radosgw", "-n", "client.rgw", "-f")
        self._processes.start("client.rgw", command)

        def answers_as_ours() -> bool:
            """Say whether it is ours, by the account's name: another server may have the port."""
            try:
                return name.encode() in self.signed("GET", "/").body
            except (OSError, HTTPException):
                return False

        self._processes.wait_until(answers_as_ours, "the gateway answers")

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, "-c", str(self._work / "ceph.conf"), *arguments]

    def _run(self, *command: str) -> None:
        self._processes.run(command, seconds=60)


def main() -> None:
    """Run one until Ctrl-C."""
    if reason := Ceph.available():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as work, Ceph(Path(work) / "ceph") as ceph:
        print(f"endpoint    {ceph.endpoint}")
        print(f"access key  {ceph.access_key}")
        print(f"secret key  {ceph.secret_key}", flush=True)
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, lambda *_: None)
        signal.pause()


if __name__ == "__main__":
    main()
