"""Interrupted transfers, credentials, and a real bucket, in cloud-files' words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cloudfiles_both import TEXT, filled
from werkzeug import Response

import pkgdata
from pkgdata.compat import cloudfiles as ours
from pkgdata.errors import (
    AccessDeniedError,
    ConfigError,
    StoreError,
)

# -- transfers that are interrupted ----------------------------------------------------------------

EXECUTE = """
import sys
from pkgdata.compat.cloudfiles import ResumableTransfer
ResumableTransfer(sys.argv[1]).execute()
"""


@pytest.mark.slow
def test_an_interrupted_transfer_is_resumed(httpserver, tmp_path):
    names = [f"n{i:02d}" for i in range(60)]
    held, release, asked = threading.Event(), threading.Event(), []

    def answer(request):
        name = request.path.rpartition("/")[2]
        asked.append(name)
        if name == "n40" and not release.is_set():
            held.set()
            release.wait(60)
        return Response(name.encode())

    for name in names:
        httpserver.expect_request(f"/{name}").respond_with_handler(answer)
    job = str(tmp_path / "job.db")
    dest = f"file://{tmp_path}/x"
    transfer = ours.ResumableTransfer(job, lease_msec=1000)
    transfer.init(httpserver.url_for("/"), dest, paths=names)
    assert len(transfer) == 60
    checkout = Path(pkgdata.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    process = subprocess.Popen([sys.executable, "-c", EXECUTE, job], env=env)
    try:
        assert held.wait(60), "the process never came to the object that is held back"
        deadline = time.monotonic() + 60
        while len(transfer) == 60:  # another process's file: nothing tells when it is written
            assert time.monotonic() < deadline, "nothing was noted as done"
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    release.set()
    done = 60 - len(transfer)
    assert 0 < done < 60
    asked.clear()
    transfer.execute()
    assert len(transfer) == 0
    assert ours.CloudFiles(dest).get(names, return_dict=True) == {
        name: name.encode() for name in names
    }
    assert len(set(asked)) == 60 - done
    transfer.close()
    assert not os.path.exists(job)
    with pytest.raises(ConfigError, match="init"):
        transfer.execute()


def test_a_transfer_that_failed_tries_again_what_failed():
    source, dest = filled(ours, "mem://b"), ours.CloudFiles("mem://c")
    transfer = ours.ResumableTransfer(os.path.join(os.environ["HOME"], "job.db"))
    transfer.init("mem://b", "mem://c", paths=["a", "later"], reencode="gzip")
    with pytest.raises(FileNotFoundError):
        transfer.execute()
    assert dest["a"] == b"1"
    source["later"] = b"x"
    transfer.execute()
    assert dest.get(["later"])[0]["compress"] == "gzip"
    transfer.init("mem://b", "mem://d")
    assert len(transfer) == 5


def test_a_file_that_is_no_job_is_refused(tmp_path):
    path = tmp_path / "job.db"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(StoreError, match="not a job"):
        ours.ResumableTransfer(str(path)).execute()


# -- credentials and S3 ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aws-secret.json", "bucket-aws-secret.json"])
def test_secrets_lie_where_cloud_files_keeps_them(name, monkeypatch, tmp_path):
    from pkgdata.compat.cloudfiles import place as places

    secrets = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "KEY", "AWS_DEFAULT_REGION": "r"}
    folder = tmp_path / "cv" / "secrets"
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(secrets))
    monkeypatch.setenv("CLOUD_VOLUME_DIR", str(tmp_path / "cv"))
    path = ours.paths.extract("s3://bucket/x")
    expected = {key.lower(): value for key, value in secrets.items() if "REGION" not in key}
    by_file = places._options(path, None, False)
    assert by_file["region"] == "r"
    assert by_file["secrets"] == expected
    given = places._options(path, json.dumps(secrets), False)
    assert {key.lower(): value for key, value in given["secrets"].items()} == expected
    assert places._options(path, secrets, True) == {"anonymous": True}
    assert secrets["AWS_DEFAULT_REGION"] == "r", "the caller's own mapping stays as it was"


@pytest.mark.integration
def test_a_real_bucket(ceph, tmp_path):
    bucket = ceph.make_bucket()
    secrets = {
        "AWS_ACCESS_KEY_ID": ceph.access_key,
        "AWS_SECRET_ACCESS_KEY": ceph.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    files = ours.CloudFiles(f"s3://{bucket}/x", endpoint=ceph.endpoint, secrets=secrets)
    files.puts(((f"dir/n{i}", bytes([i])) for i in range(30)), compress="br")
    files.put("plain", TEXT, content_type="text/plain", cache_control="no-cache")
    assert files.get(["dir/n7"])[0]["content"] == b"\x07"
    assert files.get(["plain"])[0]["compress"] == ""
    assert list(files.list(flat=True)) == ["dir/", "plain"]
    assert len(list(files.list("dir", flat=True))) == 30
    head = files.head("plain")
    assert (head["Content-Type"], head["Cache-Control"]) == ("text/plain", "no-cache")
    tokens = list(files.list(return_resume_token=True))
    assert list(files.list(resume_token=tokens[28][1])) == [name for name, _ in tokens[29:]]
    files.transfer_to(f"file://{tmp_path}/x")
    assert sorted(os.listdir(tmp_path / "x"))[-1] == "plain"
    assert (tmp_path / "x" / "dir" / "n7.br").is_file()
    assert files.delete(files.list("dir/")) == 30
    assert list(files) == ["plain"]
    wrong = {**secrets, "AWS_SECRET_ACCESS_KEY": "WRONGSECRET"}
    with pytest.raises(AccessDeniedError) as caught:
        ours.CloudFiles(f"s3://{ceph.endpoint}/{bucket}/x", secrets=wrong).get("plain")
    assert "WRONGSECRET" not in str(caught.value)
    nowhere = ours.CloudFiles(f"s3://{ceph.endpoint}/no-such-bucket-here", secrets=secrets)
    with pytest.raises(StoreError, match="no such bucket"):
        nowhere.get("plain")
