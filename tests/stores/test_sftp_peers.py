"""Hosts that speak SFTP badly, slowly or not at all: each is an error of that host, in time."""

from __future__ import annotations

import sys
import time

import pytest

from pkgdata.errors import StoreError
from pkgdata.stores.sftp_protocol import Connection

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ssh is played by a program")

#: A host whose answers are the pieces of a script: `send(kind, number, content)` and such.
PEER = """
import os, struct, sys, time

def raw(content):
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()

def packet(content):
    raw(struct.pack(">I", len(content)) + content)

def send(kind, number, content=b""):
    packet(struct.pack(">BI", kind, number) + content)

def text(content):
    return struct.pack(">I", len(content)) + content

def take():
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        os._exit(0)
    found = sys.stdin.buffer.read(int.from_bytes(head, "big"))
    return found[0], int.from_bytes(found[1:5], "big")

def wait():
    sys.stdin.buffer.read()  # until the connection is closed, which else waits for this process

def hello():
    take()
    packet(struct.pack(">BI", 2, 3))

def opened(size=10):
    kind, number = take()
    send(102, number, text(b"h"))
    kind, number = take()
    send(105, number, struct.pack(">IQ", 1, size))

"""

TIMEOUT = 1.0


@pytest.fixture
def play():
    """Return what connects to a host that does as a script says."""
    found = []

    def connect(script):
        command = [sys.executable, "-c", PEER + script]
        found.append(Connection(command, "sftp://host/folder", TIMEOUT))
        return found[-1]

    yield connect
    for connection in found:
        connection.close()


@pytest.fixture(autouse=True)
def in_time():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raw(b'Welcome to the cluster!\\n'); hello(); time.sleep(60)", "Welcome to the cluster!"),
        ("raw(bytes(8)); time.sleep(60)", "does not speak SFTP"),
        ("raw(b'\\xff' * 100); time.sleep(60)", "does not speak SFTP"),
        ("take(); packet(b'\\x02'); time.sleep(60)", "does not speak SFTP"),
        ("time.sleep(60)", "no answer for 1 s"),
        ("take(); raw(b'\\0\\0\\0\\x09'); time.sleep(60)", "no answer for 1 s"),
        (
            "take(); packet(bytes([2, 0, 0, 0, 3]) + b'\\0\\0\\xff\\0abc'); time.sleep(60)",
            "too early",
        ),
        ("pass", "the connection ended"),
    ],
    ids=["bashrc", "zero", "huge", "short", "silence", "part", "extension", "end"],
)
def test_a_host_that_greets_wrongly(play, script, said):
    with pytest.raises(StoreError, match=said) as caught:
        play(script)
    assert "sftp://host/folder" in str(caught.value)


def test_what_a_remote_shell_prints_is_named_with_a_hint(play):
    with pytest.raises(StoreError, match=r"'hi from \.bashrc") as caught:
        play("raw(b'hi from .bashrc\\n'); time.sleep(60)")
    assert "remote shell prints" in caught.value.hint


STAT = {
    "short": "kind, n = take(); send(105, n, b'\\0\\0')",
    "text of 4 GB": "kind, n = take(); send(105, n, struct.pack('>III', 1 << 31, 1, 0xffffffff))",
    "extensions": "kind, n = take(); send(105, n, struct.pack('>II', 1 << 31, 0xffffffff))",
    "another kind": "kind, n = take(); send(103, n, text(b'x'))",
    "success": "kind, n = take(); send(101, n, struct.pack('>I', 0))",
    "wrong number": "kind, n = take(); send(105, n + 7, bytes(4)); time.sleep(60)",
    "chatter": "kind, n = take()\nwhile True: send(105, 99, bytes(4)); time.sleep(0.01)",
    "silence": "take(); time.sleep(60)",
    "zero": "take(); raw(bytes(4)); time.sleep(60)",
    "huge": "take(); raw(b'\\x7f\\xff\\xff\\xff'); time.sleep(60)",
    "status cut off": "kind, n = take(); send(101, n, b'\\0')",
    "status without words": "kind, n = take(); send(101, n, struct.pack('>I', 4))",
}


@pytest.mark.parametrize("script", STAT.values(), ids=STAT)
def test_a_host_that_answers_wrongly(play, script):
    connection = play("hello()\n" + script + "\nwait()")
    with pytest.raises(StoreError, match="sftp://host/folder"):
        connection.stat("/a")


READ = {
    "nothing": "send(103, n, text(b''))",
    "more than asked": "send(103, n, text(b'x' * 11))",
    "one byte at a time": "send(103, n, text(b'x'))",
    "another length": "send(103, n, struct.pack('>I', 10) + b'x')",
    "another kind": "send(105, n, bytes(4))",
    "silence": "time.sleep(60)",
}


@pytest.mark.parametrize("script", READ.values(), ids=READ)
def test_a_host_that_gives_other_bytes_than_were_asked_for(play, script):
    connection = play(f"hello(); opened(1000)\nwhile True:\n  kind, n = take()\n  {script}")
    with pytest.raises(StoreError, match="sftp://host/folder"):
        b"".join(connection.open("/a").read(0, 10 if "11" in script else 1000))


@pytest.mark.parametrize("count", [0, 0xFFFFFFFF])
def test_a_listing_of_no_names_or_too_few_ends(play, count):
    script = f"""
hello(); kind, n = take(); send(102, n, text(b'h'))
while True:
    kind, n = take(); send(104, n, struct.pack('>I', {count}))
"""
    connection = play(script)
    if count:
        with pytest.raises(StoreError, match="too early"):
            [*connection.list("/")]
    else:
        assert [*connection.list("/")] == []


def test_names_that_lead_elsewhere_are_no_names_of_a_folder(play):
    script = """
hello(); kind, n = take(); send(102, n, text(b'h'))
kind, n = take()
names = [b"../up", b"", b"/etc/passwd", b"..", b"good"]
rows = b"".join(text(name) + text(b"") + bytes(4) for name in names)
send(104, n, struct.pack('>I', len(names)) + rows)
kind, n = take(); send(101, n, struct.pack('>I', 1))
wait()
"""
    assert [name for name, _ in play(script).list("/")] == ["good"]


def test_a_host_that_takes_nothing_is_given_up(play):
    connection = play("hello(); kind, n = take(); send(102, n, text(b'h')); time.sleep(60)")
    with pytest.raises(StoreError, match="sftp://host/folder"):
        connection.write("/a", [bytes(1 << 22)], 0)
