"""Fixtures for the commands on files and objects."""

import http.server
import threading
import uuid

import pytest
from shells import Gate, Shell


@pytest.fixture
def shell(capsysbinary, monkeypatch, tmp_path):
    """Return a `Shell`; the working directory is an empty folder."""
    home = tmp_path / "here"
    home.mkdir()
    monkeypatch.chdir(home)
    return Shell(capsysbinary, monkeypatch, home)


@pytest.fixture
def mem():
    """Return the URL of an empty store of this process."""
    return f"mem://{uuid.uuid4().hex}"


@pytest.fixture
def gate():
    """Return a server of which ``reached`` and ``opened`` tell about its slow object."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    server.daemon_threads = True
    server.reached, server.opened = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.opened.set()
    server.shutdown()
    server.server_close()
    thread.join()
