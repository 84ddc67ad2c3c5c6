"""Bulk commands on real services."""

from __future__ import annotations

import gzip
import json
import os
import signal

import pytest
from shells import command, fill, run, tree, write
from sshd import Sshd
from waiting import wait_for

from pkgdata.stores import Store


@pytest.fixture
def credentials(monkeypatch):
    """Return a function that makes a server's keys the environment's and gives a new bucket."""

    def use(server):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        return f"s3://{server.make_bucket()}"

    return use


@pytest.fixture(params=["ceph", "moto"])
def bucket(request, credentials):
    """Return the URL of an empty bucket, once on each server."""
    pytest.importorskip("obstore")
    return credentials(request.getfixturevalue(request.param))


@pytest.mark.integration
def test_s3_there_and_back(shell, bucket):
    expected = fill("dir")
    assert shell("cp", "-r", "dir", f"{bucket}/p ü/") == 0, shell.err
    assert shell.lines("ls", bucket, "--shortpath") == sorted(f"p ü/dir/{n}" for n in expected)
    assert shell("cp", "-r", f"{bucket}/p ü/dir/", "back", "-p", "2") == 0, shell.err
    assert tree("back") == expected
    assert shell("sync", "dir", f"{bucket}/p ü/dir", "--check", "--delete") == 0, shell.out
    assert shell("cp", f"{bucket}/p ü/dir/sub/*.txt", "some") == 0
    assert len(tree("some")) == 5
    assert shell.lines("du", "-s", f"{bucket}/p ü") == [
        f"{sum(map(len, expected.values()))}\t{bucket}/p ü"
    ]
    assert shell("rm", f"{bucket}/p ü/dir/sub/*") == 0
    assert shell.lines("ls", f"{bucket}/", "--shortpath") == ["p ü/dir/-dash", "p ü/dir/a.txt"]
    assert shell("rm", "-r", f"{bucket}/p ü") == 0
    assert shell.lines("ls", bucket) == []


@pytest.mark.integration
def test_s3_moves_compresses_and_tells(shell, bucket):
    write("page.html", b"<p>" * 1000)
    assert shell("mv", "-c", "page.html", f"{bucket}/") == 2  # mv does not change what it moves
    assert shell("cp", "-c", "gzip", "page.html", f"{bucket}/") == 0
    found = dict(line.split(": ", 1) for line in shell.lines("head", f"{bucket}/page.html"))
    assert found["Content-Type"] == "text/html"
    assert found["Content-Encoding"] == "gzip"
    assert shell("mv", f"{bucket}/page.html", f"{bucket}/moved/") == 0
    assert shell.lines("ls", bucket) == [f"{bucket}/moved/page.html"]
    assert shell("cat", f"{bucket}/moved/page.html") == 0
    assert shell.raw == b"<p>" * 1000
    assert shell("cp", "-n", "page.html", f"{bucket}/moved/page.html") == 0
    assert shell("touch", f"{bucket}/empty", f"{bucket}/moved/page.html") == 0
    assert shell.lines("cp", f"{bucket}/empty", "-") == []
    assert shell("cp", f"{bucket}/moved", "x") == 1
    assert "is a folder" in shell.err


def settled(shell, source, to, count):
    """Assert that a synchronisation finds nothing to do."""
    assert shell("sync", source, to, "--delete") == 0, shell.err
    assert f"0 copied to {to}, {count} unchanged" in shell.err


@pytest.mark.integration
def test_s3_sync_settles_in_all_directions(shell, bucket):
    fill("one", ["a", "sub/b"])
    os.utime("one/a", (1e9, 1e9))
    assert shell("sync", "one", bucket) == 0
    for source, to in (("one", bucket), (bucket, "one"), ("one", bucket)):
        settled(shell, source, to, 2)
    assert shell("sync", bucket, "two") == 0
    for source, to in ((bucket, "two"), ("two", bucket), ("two", "one"), (bucket, "two")):
        settled(shell, source, to, 2)


@pytest.mark.integration
def test_s3_sync_settles_with_objects_in_parts(shell, bucket):
    write("one/large", os.urandom((17 << 20) + 5))
    write("one/other", bytes(17 << 20))
    for name in ("large", "other"):
        os.utime(f"one/{name}", (1e9, 1e9))
    assert shell("sync", "one", bucket) == 0
    settled(shell, bucket, "one", 2)
    assert os.stat("one/large").st_mtime > 1e9
    settled(shell, bucket, "one", 2)
    with open("one/other", "r+b") as file:
        file.write(b"x")
    os.utime("one/other", (1e9, 1e9))
    assert shell("sync", bucket, "one") == 0
    assert "1 copied to one" in shell.err
    assert tree("one")["other"] == bytes(17 << 20)


@pytest.mark.integration
@pytest.mark.skipif(os.name == "nt", reason="sshd is started as on Unix")
def test_sftp_sync_settles_in_all_directions(shell, tmp_path, tmp_path_factory, monkeypatch):
    fill("one", ["a", "sub/b"])
    os.utime("one/a", (1e9, 1e9 + 0.9))
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        monkeypatch.setenv("PATH", server.path)
        there = server.url(str(tmp_path / "there"))
        assert shell("sync", "one", there) == 0
        assert int(os.stat(tmp_path / "there/a").st_mtime) == 10**9
        for source, to in ((there, "one"), ("one", there)):
            settled(shell, source, to, 2)
        assert shell("sync", there, "two") == 0
        for source, to in ((there, "two"), ("two", there), (there, "two")):
            settled(shell, source, to, 2)
        os.symlink("nowhere", tmp_path / "there" / "dangling")
        write("two/dangling")
        assert shell("sync", "--delete", there, "two") == 1
        assert "/dangling: no such object" in shell.err
        assert sorted(tree("two")) == ["a", "dangling", "sub/b"]


@pytest.mark.integration
@pytest.mark.skipif(os.name == "nt", reason="sshd is started as on Unix")
def test_sftp_sync_settles_where_a_folder_becomes_a_file(
    shell, tmp_path, tmp_path_factory, monkeypatch
):
    fill("one", ["a", "c/d"])
    fill("there", ["a/b/x", "a/y", "c", "e/f/g"])
    os.makedirs("there/a/empty/inside")
    os.makedirs("there/kept")
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        monkeypatch.setenv("PATH", server.path)
        there = server.url(os.path.abspath("there"))
        assert shell("sync", "one", there) == 1
        assert shell("sync", "--delete", "one", there) == 0, shell.err
        assert tree("there") == tree("one")
        assert sorted(os.listdir("there")) == ["a", "c", "kept"]  # folders that are left go too
        settled(shell, "one", there, 2)
        fill("there", ["h/x"])
        os.mkfifo("there/h/pipe")
        write("one/h")
        assert shell("sync", "--delete", "one", there) == 1
        assert sorted(os.listdir("there/h")) == ["pipe", "x"]
        os.remove("one/h")
        write("one/h/pipe", b"kept")
        os.remove("there/h/x")
        assert shell("sync", "--delete", there, "one") == 1
        assert "/h/pipe: it is a pipe, a socket or a device" in shell.err
        assert tree("one")["h/pipe"] == b"kept"


@pytest.mark.integration
def test_s3_sync_deletes_what_is_extra_only(shell, bucket):
    fill("dir", ["a", "a.b", "a0", "sub/x"])
    assert shell("sync", "dir", f"{bucket}/p") == 0
    write("dir/a", b"A")
    os.utime("dir/a", (2e9, 2e9))
    os.remove("dir/a0")
    assert shell.lines("sync", "dir", f"{bucket}/p", "--dry-run", "--delete") == [
        f"copy dir/a -> {bucket}/p/a (newer)",
        f"remove {bucket}/p/a0",
    ]
    assert shell("sync", "dir", f"{bucket}/p", "--delete", "--checksum") == 0
    assert shell("sync", f"{bucket}/p", f"{bucket}/q", "--delete") == 0
    assert shell("sync", f"{bucket}/p", f"{bucket}/q", "--check", "--delete") == 0
    assert shell("sync", f"{bucket}/q", "back", "--delete") == 0
    assert tree("back") == tree("dir")
    assert shell("sync", f"{bucket}/nothing", f"{bucket}/q", "--delete") == 1
    assert "nothing is there" in shell.err
    assert shell("sync", "s3://no-such-bucket-here", "back", "--delete", "--allow-empty") == 1
    assert "no such bucket" in shell.err
    assert tree("back") == tree("dir")


@pytest.mark.integration
def test_s3_lists_and_deletes_more_than_one_page(shell, ceph, credentials):
    pytest.importorskip("obstore")
    bucket = credentials(ceph)
    names = [f"{i:05}" for i in range(1200)]
    fill("dir", names)
    assert shell("cp", "-r", "dir/", f"{bucket}/many/") == 0, shell.err
    assert shell.lines("ls", f"{bucket}/many/", "--shortpath") == names
    assert len(shell.lines("ls", "-e", f"{bucket}/many/000[0-4]")) == 50
    assert shell("rm", "-r", f"{bucket}/many/") == 0
    assert "1200 removed" in shell.err
    assert shell.lines("ls", bucket) == []


@pytest.mark.integration
def test_s3_endpoint_and_anonymous(shell, ceph, credentials, monkeypatch):
    pytest.importorskip("obstore")
    bucket = credentials(ceph)
    write("x", b"x")
    assert shell("cp", "x", f"{bucket}/x") == 0
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert shell.lines("ls", bucket, "--endpoint", ceph.endpoint) == [f"{bucket}/x"]
    long = bucket.replace("s3://", f"s3://{ceph.endpoint}/")
    assert shell.lines("ls", long) == [f"{long}/x"]
    assert shell("cp", f"{bucket}/x", "y", "--anonymous", "--endpoint", ceph.endpoint) == 1
    assert "AccessDenied" in shell.err
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert shell("cp", f"{long}/x", "y") == 1
    assert "secret key" in shell.err
    assert "wrong" not in shell.err
    assert tree(shell.home) == {"x": b"x"}


@pytest.mark.integration
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_s3_pipes_in_parts_and_leaves_nothing_when_interrupted(tmp_path, ceph, credentials, ending):
    pytest.importorskip("obstore")
    bucket = credentials(ceph)
    content = os.urandom(1 << 20) * 40
    code, _, err = run("cp", "/dev/stdin", f"{bucket}/x", given=content)
    assert (code, err) == (0, "")
    code, out, _ = run("cat", f"{bucket}/x")
    assert (code, out) == (0, content)
    process = command("cp", "/dev/stdin", f"{bucket}/y")
    process.stdin.write(content)
    process.stdin.flush()
    wait_for_uploads(bucket, 1)
    process.send_signal(ending)
    process.communicate(timeout=60)
    assert process.returncode == 128 + ending
    assert run("ls", bucket)[1].decode().split() == [f"{bucket}/x"]
    assert run("ls", "--uploads", bucket)[1] == b""


def wait_for_uploads(bucket, count):
    store = Store(bucket)
    wait_for(lambda: len([*store.uploads()]) == count)


@pytest.mark.integration
def test_s3_uploads_of_a_killed_process_are_listed_and_removed(tmp_path, ceph, credentials):
    pytest.importorskip("obstore")
    bucket = credentials(ceph)
    for name in ("p/é", "q"):
        process = command("cp", "/dev/stdin", f"{bucket}/{name}")
        process.stdin.write(bytes(40 << 20))
        process.stdin.flush()
        wait_for_uploads(bucket, 1 if name == "p/é" else 2)
        process.kill()
        process.communicate(timeout=60)
    assert run("ls", bucket)[1] == b""
    code, out, _ = run("ls", "--uploads", bucket)
    assert (code, out.decode().split()) == (0, [f"{bucket}/p/é", f"{bucket}/q"])
    code, out, _ = run("ls", "--uploads", "-l", f"{bucket}/p/")
    assert (code, out.decode().split()[-1]) == (0, f"{bucket}/p/é")
    assert out.decode().split()[1][:2] == "20"  # when it began
    code, out, _ = run("rm", "--uploads", "--dry-run", "-r", bucket)
    assert len(out.split()) == 2
    assert run("rm", "--uploads", f"{bucket}/p/é")[0] == 0
    assert run("ls", "--uploads", bucket)[1].decode().split() == [f"{bucket}/q"]
    assert run("rm", "--uploads", bucket)[0] == 1  # a folder needs -r
    assert run("rm", "--uploads", "-r", bucket)[0] == 0
    assert run("ls", "--uploads", bucket)[1] == b""
    code, _, err = run("ls", "--uploads", str(tmp_path))
    assert code == 1
    assert "buckets" in err


@pytest.mark.integration
def test_a_move_that_would_lose_tags_wants_a_word(shell, moto, gcs, credentials, monkeypatch):
    pytest.importorskip("obstore")
    bucket = credentials(moto)
    Store(bucket).put("x", b"x", tags={"a": "1"})
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(gcs.service_account()))
    there = f"gs://{gcs.endpoint}/{gcs.make_bucket()}"
    assert shell("mv", f"{bucket}/x", f"{there}/x") == 1
    assert "cannot keep its tags" in shell.err
    assert "--lossy" in shell.err
    assert shell.lines("ls", bucket) == [f"{bucket}/x"]
    code, _, err = run("mv", "--lossy", f"{bucket}/x", f"{there}/x")
    assert code == 0
    assert "warning: " in err
    assert "tags of objects cannot be kept" in err
    assert shell.lines("ls", bucket) == []


@pytest.mark.integration
def test_datasets_have_the_options_of_buckets(shell, ceph, credentials, monkeypatch):
    pytest.importorskip("obstore")
    bucket = credentials(ceph)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    words = ["--repo", bucket, "--endpoint", ceph.endpoint, "--region", "us-east-1"]
    assert shell("dataset", "ls", "-r", *words) == 0, shell.err
    assert shell("dataset", "ls", "-r", "--anonymous", *words) == 1
    assert "nothing was signed" in shell.err


@pytest.mark.integration
def test_s3_a_name_that_says_how_it_is_compressed_says_it_once(shell, bucket):
    """Uploaders set Content-Encoding on files that are compressed by name too."""
    plain = b"a,b\n" * 1000
    write("x.csv", plain)
    assert shell("cp", "-c", "gzip", "x.csv", f"{bucket}/x.csv") == 0
    assert shell("cp", f"{bucket}/x.csv", f"{bucket}/x.csv.gz") == 0  # gzip as attribute and name
    assert shell("cp", f"{bucket}/x.csv.gz", "here.csv.gz") == 0, shell.err
    assert shell("cp", f"{bucket}/x.csv.gz", "there/") == 0, shell.err
    assert sorted(tree("there")) == ["x.csv.gz"]
    for name in ("here.csv.gz", "there/x.csv.gz"):
        with open(name, "rb") as file:
            assert gzip.decompress(file.read()) == plain
