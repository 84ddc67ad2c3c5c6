"""FTP servers that answer badly, slowly or without end, each an error of that server, in time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from pkgdata.base.urls import tls_context
from pkgdata.errors import PkgdataError
from pkgdata.stores import other

CONTENT = b"0123456789"


class Server:
    """A server for one client, which answers as a table of commands says."""

    def __init__(
        self, banner=b"220 here\r\n", size=b"500 what\r\n", end=b"226 sent\r\n", data=CONTENT
    ):
        self.banner, self.data = banner, data
        self.answers = {"USER": b"230 in\r\n", "TYPE": b"200 binary\r\n", "SIZE": size}
        self.end = end
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"ftp://127.0.0.1:{self._listening.getsockname()[1]}/file"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._listening.close()
        self._thread.join(10)

    def _say(self, client, answer):
        if answer is Ellipsis:  # one byte at a time, without end
            client.sendall(b"220-")
            while not self._stopped.wait(0.02):
                client.sendall(b"x")
        elif callable(answer):
            while not self._stopped.is_set():
                client.sendall(answer())
        else:
            client.sendall(answer)

    def _serve(self):
        with contextlib.suppress(OSError):
            client, _ = self._listening.accept()
            with client, client.makefile("rb") as lines:
                self._say(client, self.banner)
                for line in lines:
                    self._answer(client, line.decode().split()[0])

    def _answer(self, client, verb):
        if verb in ("EPSV", "PASV"):
            self._passive = socket.create_server(("127.0.0.1", 0))
            port = self._passive.getsockname()[1]
            numbers = f"127,0,0,1,{port >> 8},{port & 255}"
            client.sendall(f"227 here ({numbers})\r\n".encode())
        elif verb == "RETR":
            client.sendall(b"150 comes\r\n")
            data, _ = self._passive.accept()
            data.sendall(self.data)
            data.close()
            self._passive.close()
            self._say(client, self.end)
        else:
            self._say(client, self.answers.get(verb, b"500 what\r\n"))


def read(server):
    store = other.FtpStore(server.url, 5.0, tls_context)
    with store.open("") as body:
        buffer, found = memoryview(bytearray(100)), b""
        while count := body.readinto(buffer):
            found += buffer[:count]
        return found


@pytest.fixture(autouse=True)
def in_time(monkeypatch):
    monkeypatch.setattr(other, "_ANSWER", 1.0)
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("end", [b"226 sent\r\n", b"250 sent\r\n", b"226-sent\r\n226 all\r\n"])
def test_a_server_without_size_says_by_its_reply_that_all_was_sent(end):
    with Server(end=end) as server:
        assert read(server) == CONTENT


@pytest.mark.parametrize(
    "end",
    [b"426 broken\r\n", b"451 disk\r\n", b"200 well\r\n", b"150 comes\r\n", b"", Ellipsis],
)
def test_without_that_reply_a_file_of_unknown_size_is_not_taken_for_whole(end):
    server = Server(end=end)
    if end == b"":
        answer = server._answer

        def close(client, verb):
            answer(client, verb)
            if verb == "RETR":
                client.shutdown(socket.SHUT_RDWR)

        server._answer = close
    with server, pytest.raises(PkgdataError, match=r"127\.0\.0\.1"):
        read(server)


def test_a_server_that_tells_the_size_must_send_as_much():
    with Server(size=b"213 11\r\n") as server, pytest.raises(PkgdataError, match="10 of 11"):
        read(server)


@pytest.mark.parametrize("where", ["banner", "USER", "SIZE"])
@pytest.mark.parametrize("answer", [Ellipsis, lambda: b"220-more\r\n"], ids=["slow", "lines"])
def test_an_answer_without_end_is_an_error_of_that_server(where, answer):
    server = Server()
    if where == "banner":
        server.banner = answer
    else:
        server.answers[where] = answer
    with server, pytest.raises(PkgdataError, match=r"no whole answer in 1 s|more than 1000 lines"):
        read(server)
