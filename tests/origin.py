"""A web server whose clients share one rate, as they share a real server's line; it counts bytes.

::

    with Origin(folder, rate=50e6) as origin:
        ...  # fetch origin.url + "map.fits"
        origin.sent, origin.requests
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from pkgdata.core import scan

BLOCK = 1 << 17


def package(site: Path, name: str, files: dict[str, bytes], served: Path, url: str) -> None:
    """Write files to a folder that is served, and an importable package that declares them."""
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").touch()
    (site / name / "pkgdata.toml").write_text(f'[package]\nname = "{name}"\ndataurl = "{url}"\n')
    for path, content in files.items():
        (served / path).parent.mkdir(parents=True, exist_ok=True)
        (served / path).write_bytes(content)
    scan.make(served).write(site / name / "registry.txt")


class Origin(ThreadingHTTPServer):
    """The server; a context manager. ``rate`` is bytes a second in all, endless by default."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, folder: str | os.PathLike[str], rate: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = os.fspath(folder)
        self.rate = rate
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        #: Bytes of bodies that were sent so far, and requests by method and path.
        self.sent = 0
        self.requests: list[str] = []
        self._lock = threading.Lock()
        self._free = 0.0  # when the line is free again

    def __enter__(self) -> Origin:
        # how often it looks whether to stop is how long stopping takes
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def restart(self) -> None:
        """Count from zero again."""
        with self._lock:
            self.sent, self.requests = 0, []

    def pass_on(self, count: int) -> None:
        """Wait for the turn of so many bytes, and count them."""
        with self._lock:
            self.sent += count
            now = time.monotonic()
            turn = max(now, self._free)
            self._free = turn + (count / self.rate if self.rate else 0.0)
        time.sleep(turn - now)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Origin

    def setup(self) -> None:
        super().setup()
        # what waits in buffers when a client leaves was never sent
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK)

    def do_GET(self) -> None:
        origin = self.server
        origin.requests.append(f"{self.command} {self.path}")
        path = os.path.join(origin.folder, *unquote(self.path.partition("?")[0]).split("/"))
        if not os.path.isfile(path):
            self.send_error(404)
            return
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start, end = self._begin(size)
            file.seek(start)
            while self.command == "GET" and start < end:
                block = file.read(min(BLOCK, end - start))
                origin.pass_on(len(block))
                self.wfile.write(block)
                start += len(block)

    do_HEAD = do_GET

    def _begin(self, size: int) -> tuple[int, int]:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        end = min(size, int(asked[2]) + 1) if asked and asked[2] else size
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{size}"')
        self.end_headers()
        return start, end

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""
