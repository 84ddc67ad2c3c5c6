"""No secret is shown anywhere: each kind of secret, in each command, wherever text leaves it."""

from __future__ import annotations

import http.server
import json
import logging
import pickle
import re
import sys
import threading
import traceback
import urllib.parse

import pytest

import pkgdata
from pkgdata import cli, datasets
from pkgdata.base import urls
from pkgdata.compat import astropy, pooch
from pkgdata.datasets import Config
from pkgdata.stores import Store

#: The secret, in which no letter must be quoted, so that it is found wherever it stands.
MARKER = "Qx7mArKeRzV"


class Echo(http.server.BaseHTTPRequestHandler):
    """Says back all it was sent: in the reason, the headers, and the body."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        told = f"{self.path} {' '.join(self.headers.values())}"
        plain = urllib.parse.unquote(told)
        if self.server.mode == "breaks":
            self.connection.shutdown(2)
            self.close_connection = True
            return
        said = self.server.mode in ("refuses", "wrong bytes")  # else it is an object's own content
        body = f"{plain} {told}".encode() * 3 if said else b"x" * 200
        self.send_response(403 if self.server.mode == "refuses" else 200, told)
        self.send_header("Content-Type", f"text/{told}" if said else "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def echo():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    server.place = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def _header(place, patch, home):
    rules = {f"http://{place}/": {"Authorization": f"Bearer {MARKER}", "X-Own": MARKER}}
    patch.setenv("PKGDATA_HEADERS", json.dumps(rules))
    return f"http://{place}/"


def _netrc(place, patch, home):
    path = home / "home" / ".netrc"
    path.write_text(f"machine 127.0.0.1 login me password {MARKER}\n")
    path.chmod(0o600)
    return f"http://{place}/"


def _proxy(place, patch, home):
    patch.setenv("http_proxy", f"http://me:{MARKER}@{place}")
    patch.setenv("no_proxy", "")
    return "http://data.example.org/"


def _bucket(place, patch, home):
    pytest.importorskip("obstore")
    patch.setenv("AWS_ACCESS_KEY_ID", "me")
    patch.setenv("AWS_SECRET_ACCESS_KEY", MARKER)
    patch.setenv("AWS_SESSION_TOKEN", MARKER)
    patch.setenv("AWS_REGION", "us-east-1")
    return f"s3://http://{place}/bucket/"


SIGNED = f"?X-Amz-Credential={MARKER}&X-Amz-Date=1&X-Amz-Signature={MARKER}"

#: Each prepares the environment and returns the URL of a folder.
KINDS = {
    "login": lambda place, *_: f"http://me:{MARKER}@{place}/",
    "login without a password": lambda place, *_: f"http://{MARKER}@{place}/",
    "login with a slash": lambda place, *_: f"http://me:1/{MARKER}@data.example.org/a/",
    "known name in the query": lambda place, *_: f"http://{place}/?access_token={MARKER}",
    "unknown name in the query": lambda place, *_: f"http://{place}/?k={MARKER}",
    "query without a name": lambda place, *_: f"http://{place}/?{MARKER}",
    "parameter of the path": lambda place, *_: f"http://{place}/a;token={MARKER}/",
    "session in the path": lambda place, *_: f"http://{place}/a;jsessionid={MARKER}/b/",
    "unknown parameter of the path": lambda place, *_: f"http://{place}/a;k={MARKER}/",
    "part of the path": lambda place, *_: f"http://{place}/sig={MARKER}/",
    "signed URL": lambda place, *_: f"http://{place}/{SIGNED}",
    "header": _header,
    "netrc": _netrc,
    "proxy": _proxy,
    "keys of a bucket": _bucket,
}

MODES = ("refuses", pytest.param("pretends", marks=pytest.mark.slow), "breaks")


class Scene:
    """A package, a folder and a secret, and all that is shown of what is done with them."""

    def __init__(self, kind, root, echo, patch, capsysbinary, caplog):
        self.root, self.captured, self.log = root, capsysbinary, caplog
        self.shown = []
        self.url = KINDS[kind](echo.place, patch, root)
        patch.setenv("PKGDATA_RETRIES", "0")
        patch.setenv("PKGDATA_REMOTE_TIMEOUT", "2")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.chdir(root)
        lib = root / "lib"
        package = lib / "shown"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "registry.txt").write_text("a.csv sha256:" + "0" * 64 + "\n")
        (package / "pkgdata.toml").write_text(
            f'[package]\nname = "shown"\ndataurl = "{self.url}"\nregistry = "registry.txt"\n'
        )
        info = lib / "shown-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shown\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[pkgdata.packages]\nshown = shown\n")
        patch.syspath_prepend(str(lib))
        (root / "data").mkdir()
        (root / "data" / "a.csv").write_text("1,2\n")
        self.inputs = {p for p in root.rglob("*") if p.is_file()}
        caplog.set_level(logging.DEBUG, "pkgdata")

    def command(self, *words):
        """Run a command in this process."""
        self.act(lambda: cli.main([str(word) for word in words]))

    def act(self, action):
        try:
            self.shown.append(repr(action()))
        except (Exception, SystemExit) as error:
            self.shown.append("".join(traceback.format_exception(error)))
            self.shown += [repr(pickle.loads(pickle.dumps(error)))] if _is_ours(error) else []

    def check(self):
        """Look for the secret in output, tracebacks, the log, and in files that were written."""
        out, err = self.captured.readouterr()
        shown = [*self.shown, out.decode(), err.decode(), self.log.text]
        for path in self.root.rglob("*"):
            # an unpinned file is kept next to its URL, as it is, for the user alone
            if path.is_file() and path not in self.inputs and path.name != "url":
                shown.append(path.read_bytes().decode("latin-1"))
        text = "\n".join(shown)
        assert MARKER not in text, _around(text)
        return text


def _is_ours(error):
    return isinstance(error, pkgdata.errors.PkgdataError)


def _around(text):
    return [text[max(0, m.start() - 150) : m.end() + 60] for m in re.finditer(MARKER, text)][:3]


@pytest.fixture(params=list(KINDS))
def scene(request, tmp_path, echo, monkeypatch, capsysbinary, caplog):
    yield Scene(request.param, tmp_path, echo, monkeypatch, capsysbinary, caplog)
    for name in [n for n in sys.modules if n == "shown"]:
        del sys.modules[name]


# a login with a slash cannot be joined
def joined(url, name):
    return url + name if "data.example.org" in url else urls.join(url, name)


def library(scene):
    """What a program does, and its traceback."""
    data = pkgdata.declare("shown", dataurl=scene.url, registry={"a.csv": "sha256:" + "0" * 64})
    free = pkgdata.declare("shown", dataurl=scene.url, registry={"a.csv": None})
    one = joined(scene.url, "a.csv")
    yield lambda: data.get("a.csv")
    yield lambda: data.fetch()
    yield lambda: data.where("a.csv")
    yield lambda: data.verify()
    yield lambda: free.get("a.csv")
    yield lambda: data
    yield lambda: Store(scene.url).get("a.csv")
    yield lambda: list(Store(scene.url).list())
    yield lambda: Store(scene.url).put("a.csv", b"1")
    yield lambda: Store(scene.url).info("a.csv")
    yield lambda: astropy.download_file(one, cache=False)
    yield lambda: pooch.retrieve(one, known_hash=None, path=str(scene.root / "pooch"))
    config = Config(url=scene.url, home=scene.root / "sets")
    yield lambda: datasets.pull("x", config=config)
    yield lambda: config


def commands(scene):
    """The commands, each with the output that it can write."""
    one, job = joined(scene.url, "a.csv"), str(scene.root / "job")
    yield "get", "shown", "a.csv"
    yield "fetch", "shown"
    yield "fetch", "shown", "--timeline", str(scene.root / "f.svg")
    yield "where", "shown", "a.csv"
    yield "list"
    yield "list", "shown"
    yield "list", "shown", "--json"
    yield "doctor", "shown"
    yield "doctor", "shown", "--json"
    yield "where", "shown", "a.csv", "--json"
    yield "verify", "shown"
    yield ("config",)
    yield "cp", one, "out"
    yield "cp", "-r", "data", scene.url
    yield "cp", "-r", scene.url, "out2", "--job", job
    yield "cp", "-r", "data", scene.url, "--job", job + "2", "--timeline", str(scene.root / "t.svg")
    yield "sync", "data", scene.url
    yield "sync", scene.url, "out3"
    yield "ls", scene.url
    yield "ls", "--json", scene.url
    yield "cat", one
    yield "head", one
    yield "rm", one
    yield "publish", "data", "--to", scene.url
    yield "publish", "data", "--to", str(scene.root / "site"), "--url", scene.url, "--page"
    yield "registry", "check", "shown"
    yield "dataset", "push", "x", "--home", "data", "--repo", scene.url
    yield "dataset", "pull", "x", "--home", "data", "--repo", scene.url
    yield "dataset", "ls", "--repo", scene.url
    yield "catalog", "prepare", "shown.none"


@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_shown_by_a_program_that_fails(scene, echo, mode):
    echo.mode = mode
    for action in library(scene):
        scene.act(action)
    assert "Error" in scene.check()


@pytest.mark.parametrize("mode", MODES)
def test_no_secret_is_shown_by_a_command(scene, echo, mode):
    echo.mode = mode
    for words in commands(scene):
        scene.command(*words)
    assert "shown" in scene.check()


def test_no_secret_is_shown_of_wrong_bytes_that_repeat_it(scene, echo):
    echo.mode = "wrong bytes"
    data = pkgdata.declare("shown", dataurl=scene.url, registry={"a.csv": "sha256:" + "0" * 64})
    for action in (lambda: data.get("a.csv"), data.fetch, data.verify):
        scene.act(action)
    for words in (("get", "shown", "a.csv"), ("fetch", "shown"), ("verify", "shown")):
        scene.command(*words)
    assert "Error" in scene.check()
