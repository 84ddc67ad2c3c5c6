"""A private nginx: its own configuration, port, logs and folder, stopped at the end.

::

    with Nginx(tmp_path / "nginx", folder) as server:
        ...  # fetch server.url + "map.fits"
        [(hit.path, hit.status, hit.sent) for hit in server.hits()]
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_CONF = """
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log warn;
{user}
events {{ worker_connections 256; }}
http {{
    types {{ }}
    default_type application/octet-stream;
    sendfile on;
    # status, body bytes sent, range asked for, path
    log_format bytes '$status $body_bytes_sent "$http_range" $uri';
    access_log {work}/access.log bytes;
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        {settings}
    }}
}}
"""


@dataclass
class Hit:
    """One request that nginx has answered."""

    status: int
    sent: int
    range: str
    path: str


def find_nginx() -> str:
    """Return the program; skip the test if there is none, or fail where one is to be."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        ask = "needs nginx: apt-get install nginx-light"
        if os.environ.get("CI"):
            pytest.fail(ask)
        pytest.skip(ask)
    return found


class Nginx:
    """The server; a context manager.

    Parameters
    ----------
    work : path-like
        An empty folder for what nginx writes; made if it is not there.
    folder : path-like
        What is served.
    settings : str, optional
        Further directives of the server, such as ``limit_rate 1m;``.
    """

    def __init__(
        self, work: str | os.PathLike[str], folder: str | os.PathLike[str], settings: str = ""
    ) -> None:
        self._program = find_nginx()
        self._work = Path(work)
        self._folder = Path(folder)
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._set_port()

    def _set_port(self) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Nginx:
        self._work.mkdir(parents=True, exist_ok=True)
        for name in ("error.log", "access.log"):
            (self._work / name).touch()
        for left in range(4, -1, -1):
            try:
                self.start()
                break
            except RuntimeError as error:
                if not left or "Address already in use" not in str(error):
                    raise
                self._set_port()  # another process of the tests was faster
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, settings: str | None = None) -> None:
        """Start it, with other settings if they are given; return when it answers."""
        if settings is not None:
            self._settings = settings
        conf = self._work / "nginx.conf"
        conf.write_text(
            _CONF.format(
                work=self._work,
                folder=self._folder,
                port=self.port,
                settings=self._settings,
                # else the workers become another user, who may not read the folders of tests
                user="user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else "",
            )
        )
        command = [self._program, "-e", str(self._work / "error.log"), "-c", str(conf)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                # its output ends, which makes it readable, when it gives up
                if select.select([self._process.stdout], [], [], 0.02)[0]:
                    break
        self._process.kill()
        said = self._process.communicate()[0].decode(errors="replace")
        log = (self._work / "error.log").read_text()
        raise RuntimeError(f"nginx did not start:\n{said}\n{log}")

    def stop(self) -> None:
        """Stop it; what it was sending is cut off."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None

    def restart(self, settings: str = "") -> None:
        """Start it anew with other settings; all it was sending is cut off, and logged."""
        self.stop()
        self.start(settings)

    def hits(self) -> list[Hit]:
        """Return the answered requests so far, in the order in which they ended."""
        found = []
        for line in (self._work / "access.log").read_text().splitlines():
            status, sent, rest = line.split(" ", 2)
            wanted, _, path = rest.removeprefix('"').partition('" ')
            found.append(Hit(int(status), int(sent), "" if wanted == "-" else wanted, path))
        return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
