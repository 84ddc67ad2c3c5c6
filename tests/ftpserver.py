"""A loopback FTP server, just large enough for `ftplib`: login, CWD, SIZE, passive RETR, AUTH TLS.

::

    with FtpServer({"pub/a.txt": b"content"}) as server:
        server.url  # ftp://127.0.0.1:PORT/
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping


class FtpServer:
    """The server; a context manager that listens from its making to the end of the block.

    Parameters
    ----------
    contents : mapping of str to bytes
        By path without a leading slash.
    tls : ssl.SSLContext, optional
        Let nobody in who does not ask for TLS.
    short : int, default 0
        Leave out so many bytes at the end of each file.
    sizes : bool, default True
        Know the command SIZE.
    """

    def __init__(
        self,
        contents: Mapping[str, bytes],
        tls: ssl.SSLContext | None = None,
        short: int = 0,
        sizes: bool = True,
    ) -> None:
        self.contents = contents
        self.short = short
        self.sizes = sizes
        self.tls = tls
        #: Every command line so far.
        self.commands: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"ftp://127.0.0.1:{self.port}/"
        self._closing = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> FtpServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing:
                connection.close()
                return
            thread = threading.Thread(target=_Talk(self, connection).run)
            self._threads.append(thread)
            thread.start()


class _Talk:
    """One control connection."""

    def __init__(self, server: FtpServer, connection: socket.socket) -> None:
        self.server = server
        self.connection = connection
        self.folder: list[str] = []
        self.secure = False
        self.passive: socket.socket | None = None

    def run(self) -> None:
        try:
            self.say("220 hello")
            while line := self.line():
                self.server.commands.append(line)
                word, _, rest = line.partition(" ")
                self.answer(word.upper(), rest)
        except (OSError, ValueError):
            pass  # the client left
        finally:
            self.connection.close()
            if self.passive is not None:
                self.passive.close()

    def say(self, text: str) -> None:
        self.connection.sendall(f"{text}\r\n".encode())

    def line(self) -> str:
        data = b""
        while not data.endswith(b"\n"):
            byte = self.connection.recv(1)
            if not byte:
                return ""
            data += byte
        return data.decode().strip()

    def answer(self, word: str, rest: str) -> None:
        server = self.server
        if word == "AUTH" and server.tls is not None:
            self.say("234 go on")
            self.connection = server.tls.wrap_socket(self.connection, server_side=True)
            self.secure = True
        elif word in ("USER", "PASS"):
            self.login(word, rest)
        elif word == "CWD":
            self.folder.append(rest)
            self.say("250 done")
        elif word == "SIZE" and server.sizes and self.found(rest) is not None:
            self.say(f"213 {len(self.found(rest) or b'')}")
        elif word == "EPSV" or word == "PASV":
            self.listen(word)
        elif word == "RETR":
            self.send(rest)
        elif word in ("TYPE", "PBSZ", "PROT", "NOOP"):
            self.say("200 done")
        else:
            self.say("550 no")

    def login(self, word: str, rest: str) -> None:
        if self.server.tls is not None and not self.secure:
            self.say("530 use TLS")
        elif word == "PASS" and rest == "wrong":
            self.say("530 not you")
        else:
            self.say("331 and the password?" if word == "USER" else "230 welcome")

    def found(self, name: str) -> bytes | None:
        return self.server.contents.get("/".join([*self.folder, name]))

    def listen(self, word: str) -> None:
        self.passive = socket.create_server(("127.0.0.1", 0))
        port = self.passive.getsockname()[1]
        numbers = f"127,0,0,1,{port >> 8},{port & 255}"
        self.say(f"229 (|||{port}|)" if word == "EPSV" else f"227 ({numbers})")

    def send(self, name: str) -> None:
        content = self.found(name)
        if content is None or self.passive is None:
            self.say("550 no such file")
            return
        data, _ = self.passive.accept()
        self.say("150 here it comes")
        if self.secure and self.server.tls is not None:
            data = self.server.tls.wrap_socket(data, server_side=True)
        with data:
            data.sendall(content[: len(content) - self.server.short])
            if isinstance(data, ssl.SSLSocket):
                data.unwrap().close()
        self.say("226 that was all")
