"""Names and texts from outside reach terminals, logs and pictures escaped."""

from __future__ import annotations

import http.server
import json
import os
import pickle
import threading
import traceback
import xml.etree.ElementTree as ET

import pytest
from shells import write

from pkgdata.base import text
from pkgdata.base.progress import Bars, Event
from pkgdata.cli.copying import Timeline
from pkgdata.errors import PkgdataWarning, StoreError, escaped, warn

#: What colours a terminal, erases its line, renames its window, and turns the direction of writing.
HOSTILE = "\x1b[31m\x1b]0;title\x07\r\x9b2J\x7f\u202ecod.exe\x00\u2066"


def obeyed(text):
    """Return the characters of a text that a terminal obeys."""
    return [c for c in text if c not in "\n\t" and escaped(c, but="") != c]


def test_text_from_outside_is_shown_escaped_in_errors_and_warnings():
    assert obeyed(HOSTILE)
    error = StoreError(f"ü 漢\n\t{HOSTILE}", hint=HOSTILE)
    assert not obeyed(str(error))
    assert not obeyed("".join(traceback.format_exception(error)))
    assert str(error).startswith(
        "ü 漢\n\t\\x1b[31m\\x1b]0;title\\x07\\r\\x9b2J\\x7f\\u202ecod.exe\\x00"
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    with pytest.warns(PkgdataWarning) as found:
        warn(HOSTILE, PkgdataWarning)
    assert not obeyed(str(found[0].message))


def test_commands_show_text_from_outside_escaped(capsys):
    rows = [[HOSTILE, "b\n"], ["a", HOSTILE]]
    text.table(["NAME", "WHAT"], rows)
    text.say(HOSTILE + "\nforged line")
    text.json({HOSTILE: HOSTILE})
    text.note(HOSTILE)
    found = capsys.readouterr()
    assert not obeyed(found.out + found.err)
    assert found.out.count("\n") == 3 + 1 + 3
    assert "forged" in found.out.splitlines()[3]
    assert json.loads(text.as_json({"ü\\": HOSTILE})) == {"ü\\": HOSTILE}


def test_bars_and_timelines_show_names_escaped(tmp_path, capsys):
    timeline = Timeline(Bars())
    for state in ("start", "bytes", "done"):
        timeline(Event(HOSTILE, state, 1, 2, f"https://{HOSTILE}/"))
    timeline.write(str(tmp_path / "t.svg"))
    assert not obeyed((tmp_path / "t.svg").read_text("utf-8"))
    assert "title" in capsys.readouterr().err.replace("\x1b[A", "")
    ET.parse(tmp_path / "t.svg")


class Hostile(http.server.BaseHTTPRequestHandler):
    """Escapes in what is said: in the page, and below /head in the head too."""

    def do_GET(self):
        content = f"<h1>{HOSTILE}</h1>".encode()
        odd = ("\x1b[2J", ";\x1b[31m") if self.path.startswith("/head") else ("", "")
        head = f"HTTP/1.1 403 no{odd[0]}\x9b\r\nContent-Length: {len(content)}\r\n"
        self.wfile.write(head.encode("latin-1"))
        self.wfile.write(f"Content-Type: text/html{odd[1]}\r\n\r\n".encode() + content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def hostile():
    server = http.server.HTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_a_server_says_is_shown_escaped(shell, hostile):
    for path, said in (("a", "403"), ("head", "the head of the answer is malformed")):
        url = f"{hostile}/{path}"
        for words in (["cp", url, "a"], ["head", url], ["cat", url]):
            assert shell(*words) == 1
            assert said in shell.err
            assert not obeyed(shell.out + shell.err), repr(shell.err)


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses such names")
def test_file_names_are_shown_escaped(shell, mem):
    name = HOSTILE.replace("\0", "").replace("/", "")
    write(f"one/{name}")
    write(f"one/{name}\nforged", b"x")
    for words in (
        ["cp", "-r", "one", mem],
        ["sync", "one", mem],
        ["sync", "one", mem, "--dry-run"],
        ["ls", "-l", "one"],
        ["ls", "--json", "one"],
        ["du", "one"],
        ["registry", "make", "one"],
        ["publish", "one", "--to", "file:there"],
        ["rm", "-r", "one", "--dry-run"],
        ["mv", "one", mem, "--dry-run"],
    ):
        shell(*words)
        assert not obeyed(shell.out + shell.err), (words, shell.err, shell.out)
        assert "\nforged" not in shell.out + shell.err, words
