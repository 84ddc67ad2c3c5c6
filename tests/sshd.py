"""A real sshd, and the real ssh, for tests of SFTP."""

from __future__ import annotations

import os
import shutil

import pytest
from publishing import need
from servers.processes import Processes, answers, free_ports

_CONF = """
Port {port}
ListenAddress 127.0.0.1
HostKey {work}/host
AuthorizedKeysFile {work}/authorized
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PidFile none
Subsystem sftp {subsystem}
"""

_CLIENT = """
Host *
  UserKnownHostsFile {work}/known
  GlobalKnownHostsFile /dev/null
  IdentityFile {work}/user
  IdentitiesOnly yes
  IdentityAgent none
"""


class Sshd:
    """A private sshd, and an ``ssh`` that finds its keys here instead of in the home directory."""

    def __init__(self, work):
        self.work = work
        self.processes = Processes(work)
        self.subsystem = "internal-sftp"

    def __enter__(self):
        need("sshd", "ssh", "ssh-keygen", install="apt-get install openssh-server openssh-client")
        if os.geteuid() != 0 and not os.path.isdir("/run/sshd"):
            pytest.skip("needs /run/sshd, which root makes")
        try:
            self.start()
        except BaseException:
            self.processes.stop()
            raise
        return self

    def __exit__(self, *_):
        self.processes.stop()

    def start(self):
        for name in ("host", "user"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.work / name)]
            self.processes.run(keygen)
        shutil.copy(self.work / "user.pub", self.work / "authorized")
        (self.port,) = free_ports(1)
        public = " ".join((self.work / "host.pub").read_text().split()[:2])
        (self.work / "known").write_text(f"[127.0.0.1]:{self.port} {public}\n")
        (self.work / "config").write_text(_CLIENT.format(work=self.work))
        conf = _CONF.format(work=self.work, port=self.port, subsystem=self.subsystem)
        (self.work / "sshd.conf").write_text(conf)
        os.makedirs("/run/sshd", exist_ok=True)  # sshd insists on it
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
        self.processes.start("sshd", [program, "-D", "-e", "-f", str(self.work / "sshd.conf")])
        self.processes.wait_until(lambda: answers(self.port), "sshd listens")
        binaries = self.work / "bin"
        binaries.mkdir()
        real = shutil.which("ssh")
        (binaries / "ssh").write_text(f'#!/bin/sh\nexec {real} -F {self.work}/config "$@"\n')
        (binaries / "ssh").chmod(0o755)
        self.path = f"{binaries}{os.pathsep}{os.environ['PATH']}"

    def url(self, folder, user=""):
        return f"sftp://{user}127.0.0.1:{self.port}{folder}"
