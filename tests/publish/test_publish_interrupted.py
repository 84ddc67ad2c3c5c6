"""Publishing is interrupted by Ctrl-C or SIGTERM: it ends at once, and the next run finishes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from publishing import command, contents, environment, make, need, run
from servers.github import GitHub as Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals"),
    pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]),
]


@pytest.fixture
def temporary(tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def interrupted(words, env, reached, sign, temporary):
    """Run the command until it gets there; interrupt it, and return its exit code."""
    process = subprocess.Popen(
        command(*words),
        env=environment({**env, "TMPDIR": str(temporary)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert reached.wait(60)
    began = time.monotonic()
    process.send_signal(sign)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert said.strip().endswith("pkgdata: interrupted"), said
    assert [*temporary.iterdir()] == []
    return process.returncode


def test_while_files_are_uploaded(tmp_path, temporary, sign, code):
    files = {f"{i}.bin": os.urandom(1 << 16) * 100 for i in range(6)}
    here = make(tmp_path / "files", files)
    with Server() as server:
        server.make_repo("org/data")
        reached, release = threading.Event(), threading.Event()

        def reading(asked, count):
            if asked.port == "uploads" and count > 1 << 20:
                reached.set()
                release.wait(60)  # the server takes no more, for longer than anybody waits

        server.reading = reading
        words = [here, "--to", "github:org/data@v1", "--endpoint", server.api]
        env = {"GITHUB_TOKEN": server.make_token()}
        known = server.connections()
        try:
            assert interrupted(words, env, reached, sign, temporary) == code
        finally:
            release.set()
        server.settle(known)
        server.reading = None
        done = run(*words, env=env)
        assert done.returncode == 0, done.stderr
        (found,) = server.repos["org/data"].releases.values()
        assert {asset.name: asset.content for asset in found.assets.values()} == files
        assert not found.draft


class Slow(BaseHTTPRequestHandler):
    """Answers nothing for a while."""

    def do_GET(self):
        self.server.reached.set()
        self.server.release.wait(60)

    def log_message(self, *_):
        pass


def test_while_files_are_read_back(tmp_path, temporary, sign, code):
    here, web = make(tmp_path / "files"), tmp_path / "web"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.reached, server.release = threading.Event(), threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    words = [here, "--to", f"file:{web}", "--url", url, "--registry", tmp_path / "registry.txt"]
    try:
        assert interrupted(words, {}, server.reached, sign, temporary) == code
    finally:
        server.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
    assert contents(web) == contents(here)
    done = run(*words[:3], "--registry", tmp_path / "registry.txt")
    assert done.returncode == 0, done.stderr


def test_while_git_pushes(tmp_path, temporary, sign, code):
    need("git", install="apt-get install git")
    here, site = make(tmp_path / "files"), tmp_path / "data.git"
    subprocess.run(["git", "init", "-q", "--bare", site], check=True)
    hook = site / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\ncat > /dev/null\ntouch {tmp_path}/reached\nexec sleep 20\n")
    hook.chmod(0o755)
    reached = threading.Event()

    def wait():
        while not (tmp_path / "reached").exists():
            time.sleep(0.05)
        reached.set()

    thread = threading.Thread(target=wait)
    thread.start()
    words = [here, "--to", f"pages:{site}", "--url", (tmp_path / "web").as_uri()]
    assert interrupted(words, {}, reached, sign, temporary) == code
    thread.join()
    hook.unlink()
    run(*words)  # what it reads back is not there: no web server shows the branch
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "-z", "gh-pages"],
        cwd=site,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {*listed.stdout.split("\0")} >= {*contents(here)} - {"registry.txt"}
