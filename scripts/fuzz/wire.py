"""Answers of a web server, damaged at random, for every client of ours.

    python scripts/fuzz/wire.py [--seconds 60] [--seed 1] [--case N]

A server on loopback sends right answers (with a length, chunked, compressed, redirected, after
interim ones) with random damage: cut, bytes changed, removed, doubled or put in, odd lengths and
headers, in random pieces. Each client asks for a file. Right is: the bytes that the digest names,
or an error of pkgdata. `wrong` counts other bytes, and without a digest what a cut answer left;
`strange` counts other exceptions; `hung` counts calls that did not end in time. A finding prints
its number, and ``--case N`` repeats it alone. The exit code is 1 if there is one.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Seconds of silence that a client bears (its setting), and after which a call counts as hung.
SILENCE, PATIENCE = 0.4, 20.0


class Answer(NamedTuple):
    """Bytes to send, the cuts between pieces, and how the connection ends."""

    data: bytes
    pieces: list[int]
    stays: bool
    #: Whether bytes are missing at its end, and nothing else.
    cut: bool
    whole: bool


def answer(rng: random.Random, content: bytes, url: str) -> Answer:
    """Return an answer that is right but for some damage."""
    kind = rng.choice(["length", "length", "chunked", "chunked", "gzip", "moved", "interim"])
    head, body = b"HTTP/1.1 200 OK\r\n", content
    fields = [b"Content-Type: application/octet-stream"]
    if kind == "gzip":
        body = gzip.compress(content, mtime=0)
        fields.append(b"Content-Encoding: gzip")
    if kind == "chunked":
        size = rng.choice([1, 7, 100, 4096])
        parts = [body[i : i + size] for i in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        body += b"0\r\n" + rng.choice([b"", b"X-Trailer: yes\r\n"]) + b"\r\n"
        fields.append(b"Transfer-Encoding: chunked")
    else:
        fields.append(b"Content-Length: %d" % len(body))
    if kind == "moved":
        head, body = b"HTTP/1.1 302 Found\r\n", b""
        fields[-1:] = [b"Content-Length: 0", b"Location: " + url.encode()]
    if kind == "interim":
        head = rng.choice([b"100 Continue", b"103 Early Hints", b"102 Processing"])
        head = b"HTTP/1.1 " + head + b"\r\n\r\nHTTP/1.1 200 OK\r\n"
    rng.shuffle(fields)
    data = head + b"\r\n".join(fields) + b"\r\n\r\n" + body
    whole, damaged = data, data
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        damaged = rng.choice(DAMAGE)(rng, damaged)
    cut = damaged != whole and whole.startswith(damaged)
    pieces = sorted(rng.randrange(len(damaged) + 1) for _ in range(rng.choice([0, 0, 1, 3])))
    return Answer(damaged, pieces, rng.random() < 0.1, cut, damaged == whole)


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _change(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(min(len(data), 300) + 1)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _remove(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(min(len(data), 300) + 1)
    return data[:at] + data[at + rng.randrange(1, 9) :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(min(len(data), 300) + 1)
    odd = [b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"9" * 50, b"-", b"f" * 20, b"\x85", b"\x1f"]
    return data[:at] + rng.choice(odd) * rng.choice([1, 1, 3]) + data[at:]


def _field(rng: random.Random, data: bytes) -> bytes:
    """Put a header of a dangerous kind in, first or last."""
    odd = [
        b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 0x35", b"Content-Length:",
        b"Content-Length: " + b"9" * 5000, b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity",
        b"Content-Range: bytes 0-4/" + b"9" * 5000, b"Content-Encoding: gzip", b"no colon here",
        b" folded: line", b"Location: http://[::1/", b"Location: ht\ttp://127.0.0.1/",
        b"Retry-After: " + b"9" * 400, b"ETag: \xff\xfe", b"Set-Cookie: " + b"a" * 4000,
        b"Content-Disposition: attachment; filename=\"\x1b[31m\"", b"Connection: close",
    ]  # fmt: skip
    start, _, rest = data.partition(b"\r\n")
    if rng.random() < 0.5:
        return start + b"\r\n" + rng.choice(odd) + b"\r\n" + rest
    top, _, body = rest.partition(b"\r\n\r\n")
    return start + b"\r\n" + top + b"\r\n" + rng.choice(odd) + b"\r\n\r\n" + body


def _status(rng: random.Random, data: bytes) -> bytes:
    code = rng.choice([b"204", b"206", b"304", b"404", b"416", b"429", b"503", b"199", b"700"])
    return data[:9] + code + data[12:]


def _double(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[max(0, at - rng.randrange(200)) :]


DAMAGE: list[Callable[[random.Random, bytes], bytes]] = [
    *(_cut, _cut, _change, _remove, _insert, _field, _field, _status, _double)
]


class Server:
    """Sends to each request the next answer of the case in hand; the last one again and again."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answers: list[Answer] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(PATIENCE)
            try:
                asked = b""
                while True:
                    while b"\r\n\r\n" not in asked:
                        block = connection.recv(65536)
                        if not block:
                            return
                        asked += block
                    asked = asked.partition(b"\r\n\r\n")[2]
                    if not self._answer(connection):
                        return
            except OSError:
                return  # the client has gone

    def _answer(self, connection: socket.socket) -> bool:
        with self._lock:
            found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        start = 0
        for at in [*found.pieces, len(found.data)]:
            connection.sendall(found.data[start:at])
            start = at
            if found.pieces:
                time.sleep(0.002)
        if found.stays:
            time.sleep(2 * SILENCE)
        return found.whole and not found.stays


# -- the clients ---------------------------------------------------------------------------------


def pinned(url: str, name: str, content: bytes) -> bytes:
    """A file with a digest, alone."""
    with open(_package(url, name, content).get(name), "rb") as file:
        return file.read()


def batch(url: str, name: str, content: bytes) -> bytes:
    """Small files with digests, over plain sockets."""
    package = _package(url, name, content)
    package.fetch([name])
    with open(package.get(name), "rb") as file:
        return file.read()


def unpinned(url: str, name: str, content: bytes) -> bytes:
    """A file without a digest."""
    from pkgdata.compat.astropy import download_file

    with open(download_file(url + name, cache=False, show_progress=False), "rb") as file:
        return file.read()


def store(url: str, name: str, content: bytes) -> bytes:
    """An object of a web store."""
    from pkgdata.stores import Store

    return bytes(Store(url).get(name))


def _package(url: str, name: str, content: bytes) -> Any:
    from pkgdata import PackageData
    from pkgdata.base.hashes import Digest
    from pkgdata.core.registry import Entry, Registry

    digest = hashlib.sha256(content).hexdigest()
    entry = Entry(name, Digest("sha256", digest), len(content))
    return PackageData("fuzzed", dataurl=[url], registry=Registry([entry]))


CLIENTS = {"pinned": pinned, "batch": batch, "unpinned": unpinned, "store": store}


def one_case(seed: int, number: int, server: Server, counts: dict[str, Counter[str]]) -> str:
    """Run a case; return what was found, in words."""
    from pkgdata.errors import PkgdataError

    rng = random.Random(f"{seed}-{number}")
    client = rng.choice(list(CLIENTS))
    content = rng.randbytes(rng.choice([1, 50, 3000, 70_000]))
    url, name = f"http://127.0.0.1:{server.port}/", f"file{seed}-{number}.bin"
    answers = [answer(rng, content, url + name) for _ in range(rng.choice([1, 2, 2]))]
    server.answers = [*answers]  # it takes them out
    result: list[object] = []

    def call() -> None:
        try:
            result.append(CLIENTS[client](url, name, content))
        except PkgdataError as error:
            result.append(error)
        except BaseException as error:
            result.append((error, traceback.format_exc()))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    count = counts[client]
    count["tried"] += 1
    if not result:
        count["hung"] += 1
        return f"case {number}, {client}: no end in {PATIENCE:.0f} s"
    found = result[0]
    if isinstance(found, tuple):
        count["strange"] += 1
        return f"case {number}, {client}: {found[0]!r}\n{found[1]}"
    digest_or_cut = client in ("pinned", "batch") or all(a.cut for a in answers)
    if isinstance(found, bytes) and digest_or_cut and found != content:
        count["wrong"] += 1
        return f"case {number}, {client}: {len(found)} bytes of {len(content)} are taken as right"
    count["right bytes" if found == content else "error"] += 1
    return ""


def main() -> int:
    """Run cases until the time is over."""
    server = Server()
    os.environ.update(
        PKGDATA_REMOTE_TIMEOUT=str(SILENCE), PKGDATA_RETRIES="0", PKGDATA_PROGRESS="0"
    )

    def case(seed: int, number: int, _: Path, counts: dict[str, Counter[str]]) -> str:
        return one_case(seed, number, server, counts)

    columns = ["right bytes", "error", "wrong", "strange", "hung"]
    return cases.run(__doc__ or "", case, "client", CLIENTS, columns)


if __name__ == "__main__":
    sys.exit(main())
