"""Bulk commands in processes of their own: pipes, signals, jobs and worker processes."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

import pytest
from shells import command, content_of, fill, run, stored, tree, urls, write

from pkgdata.stores import Store
from pkgdata.stores.file import FileStore


def test_a_web_server_is_a_source(shell, gate, mem):
    url = urls(gate, "a%20b").decode().strip()
    assert shell("cp", url, f"{mem}/p/") == 0, shell.err
    assert stored(mem) == {"p/a b": content_of("a%20b")}
    assert shell("cp", "-", "there", stdin=urls(gate, "d/x", "d/e/y")) == 0, shell.err
    assert tree("there") == {"x": content_of("d/x"), "e/y": content_of("d/e/y")}
    assert shell("rm", url) == 1
    assert shell("ls", f"{url}/") == 1
    assert "cannot list" in shell.err


def test_a_pipe_is_a_source(tmp_path):
    content = os.urandom(20_000_000)
    code, _, err = run("cp", "/dev/stdin", tmp_path / "x", given=content)
    assert (code, err) == (0, "")
    assert (tmp_path / "x").read_bytes() == content
    code, _, err = run("cp", "-c", "gzip", "/dev/stdin", tmp_path / "y", given=content)
    assert (code, err) == (0, "")
    assert gzip.decompress((tmp_path / "y.gz").read_bytes()) == content


def test_a_file_is_the_standard_input(tmp_path):
    write(tmp_path / "in", b"from a file")
    with (tmp_path / "in").open("rb") as file:
        code, _, err = run("cp", "/dev/stdin", tmp_path / "x", given=None, stdin=file)
    assert code == 0
    assert "1 copied to " in err
    assert (tmp_path / "x").read_bytes() == b"from a file"


def test_a_device_as_destination_is_written_to_not_replaced(tmp_path):
    write(tmp_path / "x", b"some bytes")
    assert run("cp", tmp_path / "x", "/dev/stdout")[:2] == (0, b"some bytes")
    before = os.stat("/dev/null")
    assert run("cp", tmp_path / "x", "/dev/null")[0] == 0
    after = os.stat("/dev/null")
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    os.mkfifo(tmp_path / "fifo")
    process = command("cp", tmp_path / "x", tmp_path / "fifo")
    assert (tmp_path / "fifo").read_bytes() == b"some bytes"
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    write(tmp_path / "x", b"x" * 5_000_000)
    process = command("cat", tmp_path / "x")
    assert process.stdout.read(10) == b"x" * 10
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_copy_leaves_nothing(tmp_path, gate, parallel, ending):
    target = tmp_path / "there"
    process = command("cp", "-", target, "-p", parallel)
    process.stdin.write(urls(gate, "slow"))
    process.stdin.close()
    process.stdin = None
    assert gate.reached.wait(60)
    process.send_signal(ending)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + ending
    assert err.decode().strip() == "pkgdata: interrupted"
    assert tree(target) == {}


@pytest.mark.parametrize("words", [["cp", "-", "to"], ["cp", "-", "to", "-p", "2"], ["fetch"]])
@pytest.mark.parametrize("pause", [0, 0.002, 0.02, 0.1])
def test_who_presses_ctrl_c_many_times_sees_one_line(tmp_path, gate, words, pause):
    if words == ["fetch"]:
        toml = f"[package]\nname = 'p'\ndataurl = '{urls(gate, '').decode().strip()}'\n"
        write(tmp_path / "p" / "pkgdata.toml", toml.encode())
        write(tmp_path / "p" / "registry.txt", f"slow {'0' * 64}\n".encode())
        words = ["fetch", str(tmp_path / "p")]
    process = command(*words, cwd=tmp_path, start_new_session=True)
    process.stdin.write(urls(gate, "slow"))
    process.stdin.close()
    process.stdin = None
    assert gate.reached.wait(60)
    for _ in range(4):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        time.sleep(pause)  # between the presses of a key
    _, err = process.communicate(timeout=60)
    assert err.decode().strip() == "pkgdata: interrupted"
    assert process.returncode == 130


def test_what_tidies_up_for_too_long_is_ended_by_another_ctrl_c(tmp_path):
    code = """
import sys, time
from pkgdata import cli
def run(args):
    try:
        print("on", flush=True)
        time.sleep(60)
    finally:
        time.sleep(60)
cli.importlib.import_module("pkgdata.cli.doctor")._doctor = run
sys.argv[1:] = ["doctor"]
sys.exit(cli.main())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"on\n"
    for pause in (1.2, 0):
        process.send_signal(signal.SIGINT)
        time.sleep(pause)  # the second press counts only after more than a second
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err.decode().strip()) == (130, "pkgdata: interrupted")


def test_an_interrupted_read_of_a_pipe_leaves_nothing(tmp_path):
    process = command("cp", "/dev/stdin", tmp_path / "x")
    process.stdin.write(b"x" * 9_000_000)  # more than is read at once, so that it has begun
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert [path.name for path in tmp_path.glob("x*")] == []


def test_a_killed_job_goes_on(tmp_path, gate):
    names = [f"{letter}{i:03}" for letter in "az" for i in range(20)]  # "slow" amid them
    job = ["cp", "-", tmp_path / "there", "--job", tmp_path / "job.db"]
    process = command(*job, env={"PKGDATA_CONNECTIONS": "2"})
    process.stdin.write(urls(gate, *names[:20], "slow", *names[20:]))
    process.stdin.close()
    process.stdin = None
    assert gate.reached.wait(60)
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "there" / "slow").exists()
    with contextlib.closing(sqlite3.connect(tmp_path / "job.db")) as job_file:
        (done,) = zip(*job_file.execute("select target from work where state=2"), strict=True)
    assert done
    assert "slow" not in done
    inodes = {name: os.stat(tmp_path / "there" / name).st_ino for name in done}
    gate.opened.set()
    code, _, err = run(*job, given=urls(gate, *names, "slow"))
    assert (code, err.split()[:2]) == (0, [str(41 - len(done)), "copied"])
    found = {name: data for name, data in tree(tmp_path / "there").items() if "." not in name}
    assert found == {name: content_of(name) for name in [*names, "slow"]}
    for name, inode in inodes.items():
        assert os.stat(tmp_path / "there" / name).st_ino == inode  # not copied again


def test_two_processes_share_a_job(tmp_path):
    names = [f"{i:04}" for i in range(400)]
    fill(tmp_path / "dir", names)
    words = ["cp", "-r", tmp_path / "dir", tmp_path / "there", "--job", tmp_path / "job.db"]
    processes = [command(*words) for _ in range(2)]
    told = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert sum(int(text.split()[0]) for text in told) == 400
    assert sorted(tree(tmp_path / "there")) == names


def test_worker_processes_copy_and_are_drawn(tmp_path):
    names = [f"{i:03}" for i in range(150)]
    fill(tmp_path / "dir", names)
    write(tmp_path / "dir" / "000", b"0" * 1_000_000)
    code, _, err = run(
        "cp", "-r", "-p", "2", tmp_path / "dir", tmp_path / "there", "-c", "gzip",
        "--timeline", tmp_path / "t.svg",
    )  # fmt: skip
    assert (code, err.split()[:2]) == (0, ["150", "copied"])
    found = tree(tmp_path / "there").items()
    plain = {name.removesuffix(".gz"): gzip.decompress(data) for name, data in found}
    assert plain == tree(tmp_path / "dir")
    picture = ET.parse(tmp_path / "t.svg")
    titles = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 150
    assert any(title.startswith("000: 1000000 bytes") for title in titles)


def test_worker_processes_tell_what_failed(tmp_path):
    fill(tmp_path, ["x", "y"])
    listing = "".join(f"{tmp_path}/{name}\n" for name in ("x", "gone", "y")).encode()
    code, _, err = run("cp", "-p", "2", "-", tmp_path / "there", given=listing)
    assert code == 1
    assert "1 of 3 objects could not be copied" in err
    assert sorted(tree(tmp_path / "there")) == ["x", "y"]


def test_worker_processes_end_with_their_parent(tmp_path, gate):
    process = command("cp", "-p", "2", "-", tmp_path / "there", start_new_session=True)
    process.stdin.write(urls(gate, "slow"))
    process.stdin.close()
    process.stdin = None
    assert gate.reached.wait(60)
    process.kill()
    process.stdout.read()  # the workers hold these pipes; they end when all of them have
    process.stderr.read()
    process.communicate(timeout=60)
    assert not (tmp_path / "there" / "slow").exists()


def test_large_files_are_copied_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("pkgdata.base.fs._clone", lambda *_: False)  # a disk that shares no blocks
    content = os.urandom(9 << 20)
    write(tmp_path / "one" / "x", content)
    seen = []
    source, to = Store(str(tmp_path / "one")), Store(str(tmp_path / "two"))
    source.transfer_to(to, progress=lambda event: seen.append((event.state, event.done)))
    assert tree(tmp_path / "two") == {"x": content}
    assert [done for state, done in seen if state == "bytes"] == [0, 4 << 20, 8 << 20, 9 << 20]
    assert seen[-1] == ("done", 9 << 20)


def test_a_renamed_file_is_not_read(tmp_path, monkeypatch):
    write(tmp_path / "one" / "x", b"x")
    inode = os.stat(tmp_path / "one" / "x").st_ino
    assert FileStore(str(tmp_path / "two")).adopt("y", FileStore(str(tmp_path / "one")), "x")
    assert os.stat(tmp_path / "two" / "y").st_ino == inode


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no /dev/shm here")
def test_folder_below_dev_is_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert run("cp", "-r", f"{tmp_path}/a", f"{folder}/")[0] == 0
        assert os.listdir(folder) == ["a"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["cp", "-r", "-p", "2", "{source}/", "{there}/"],
        ["mv", "-r", "-p", "2", "{source}/", "{there}/"],
        ["sync", "-p", "2", "{source}", "{there}"],
        ["demo"],
    ],
    ids=lambda words: words[0],
)
def test_what_lies_in_the_working_directory_is_never_executed(tmp_path, words):
    """Data of others may hold a `socket.py`; no process of ours may look for modules there."""
    source, folder = tmp_path / "source", tmp_path / "data"
    fill(source, [f"{n}.txt" for n in range(70)])
    for name in ("socket", "pickle", "queue", "json", "requests", "pkgdata", "starpkg"):
        write(folder / f"{name}.py", b"open('executed', 'w'); raise SystemExit(9)")
    words = [word.format(source=source, there=tmp_path / "there") for word in words]
    # as the installed command does it: the folder of the command comes first, not this one
    code = "import sys; sys.path.remove(''); from pkgdata.cli import main; raise SystemExit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    assert not (folder / "executed").exists()
