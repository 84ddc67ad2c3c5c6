"""Each real server starts, answers, refuses what it should, and leaves nothing behind."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from servers import azurite as azurite_module
from servers import ceph as ceph_module
from servers.azurite import Azurite
from servers.ceph import Ceph
from servers.fixtures import need
from servers.moto import Moto
from servers.processes import Processes, ServerError, free_ports
from servers.proxy import Proxy, tamper_request
from servers.shared import shared_ceph
from servers.signing import S3, Azure, ask

pytestmark = [pytest.mark.slow, pytest.mark.integration]

obstore = pytest.importorskip("obstore", reason="needs obstore: pip install obstore")
stores = pytest.importorskip("obstore.store")
errors = pytest.importorskip("obstore.exceptions")

TESTS = Path(__file__).resolve().parents[1]
QUICK = {"max_retries": 0, "retry_timeout": timedelta(seconds=30)}
PLAIN = {"client_options": {"allow_http": True}, "retry_config": QUICK}


def s3(server: S3, bucket: str, **config: object):
    """Return obstore's view of a bucket."""
    keys = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    config = {"endpoint": server.endpoint, "region": server.region, **(config or keys)}
    return stores.S3Store(bucket, config=config, **PLAIN)


def azure(server: Azure, container: str, **config: object):
    """Return obstore's view of a container."""
    config = {"account_name": server.account, **(config or {"account_key": server.key})}
    return stores.AzureStore(container, config={"endpoint": server.endpoint, **config}, **PLAIN)


def put_get_list(store) -> None:
    """Do what every store does."""
    content = random.Random(3).randbytes((5 << 20) + 100)
    obstore.put(store, "a b/ü+%", b"0123456789")
    obstore.put(store, "large", content, use_multipart=True, chunk_size=5 << 20)
    assert bytes(obstore.get_range(store, "a b/ü+%", start=2, end=5)) == b"234"
    assert bytes(obstore.get(store, "large").bytes()) == content
    assert [e["path"] for page in obstore.list(store) for e in page] == ["a b/ü+%", "large"]
    with pytest.raises(errors.AlreadyExistsError):
        obstore.put(store, "large", b"", mode="create")
    obstore.delete(store, "large")
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "large")


@pytest.mark.parametrize("name", ["ceph", "moto"])
def test_s3(name, request):
    server = request.getfixturevalue(name)
    put_get_list(s3(server, server.make_bucket()))


def test_azure(azurite):
    put_get_list(azure(azurite, azurite.make_container()))


# -- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ceph", "moto"])
def test_public_and_private_buckets(name, request):
    server = request.getfixturevalue(name)
    public, private = server.make_bucket(public=True), server.make_bucket()
    for bucket in (public, private):
        obstore.put(s3(server, bucket), "a", b"x")
    anonymous = s3(server, public, skip_signature=True)
    assert bytes(obstore.get(anonymous, "a").bytes()) == b"x"
    assert len(obstore.list(anonymous).collect()) == 1
    with pytest.raises(errors.PermissionDeniedError):
        obstore.get(s3(server, private, skip_signature=True), "a")


def test_public_and_private_containers(azurite):
    public, private = azurite.make_container(public=True), azurite.make_container()
    for container in (public, private):
        obstore.put(azure(azurite, container), "a", b"x")
    anonymous = azure(azurite, public, skip_signature=True)
    assert bytes(obstore.get(anonymous, "a").bytes()) == b"x"
    assert len(obstore.list(anonymous).collect()) == 1
    # Azure does not tell strangers whether there is such a container
    with pytest.raises((FileNotFoundError, errors.PermissionDeniedError)):
        obstore.get(azure(azurite, private, skip_signature=True), "a")


def test_ceph_refuses_a_wrong_secret(ceph):
    bucket = ceph.make_bucket()
    stranger = S3(ceph.endpoint, secret_key="another")
    with pytest.raises(errors.BaseError, match="SignatureDoesNotMatch"):
        obstore.put(s3(stranger, bucket), "a", b"x")
    with pytest.raises(ServerError, match="SignatureDoesNotMatch"):
        stranger.make_bucket()


def test_azurite_refuses_a_wrong_key(azurite):
    container = azurite.make_container()
    wrong = base64.b64encode(bytes(64)).decode()
    with pytest.raises((errors.PermissionDeniedError, errors.UnauthenticatedError)):
        obstore.put(azure(azurite, container, account_key=wrong), "a", b"x")


def test_ceph_refuses_a_tampered_link(ceph):
    store = s3(ceph, ceph.make_bucket())
    obstore.put(store, "a", b"x")
    url = obstore.sign(store, "GET", "a", timedelta(minutes=5))
    assert ask("GET", url).body == b"x"
    changed = url[:-1] + ("1" if url[-1] == "0" else "0")
    assert ask("GET", changed).status == 403
    assert ask("GET", url.replace("X-Amz-Expires=300", "X-Amz-Expires=301")).status == 403


def test_ceph_refuses_wrong_digests(ceph):
    bucket = ceph.make_bucket()
    wrong = {
        "BadDigest": {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="},
        "XAmzContentSHA256Mismatch": {"x-amz-content-sha256": hashlib.sha256(b"y").hexdigest()},
    }
    for code, headers in wrong.items():
        reply = ceph.signed("PUT", f"/{bucket}/a", headers=headers, body=b"x")
        assert (reply.status, f"<Code>{code}</Code>".encode() in reply.body) == (400, True)
    assert ceph.signed("HEAD", f"/{bucket}/a").status == 404


def test_ceph_refuses_what_was_tampered_with_on_the_way(ceph):
    bucket = ceph.make_bucket()
    with Proxy(ceph.endpoint) as proxy:
        proxy.script(tamper_request(0), method="PUT")
        with pytest.raises(errors.BaseError, match="SHA256Mismatch"):
            obstore.put(s3(S3(proxy.url), bucket), "a", b"0123")
        obstore.put(s3(S3(proxy.url), bucket), "a", b"0123")
    assert bytes(obstore.get(s3(ceph, bucket), "a").bytes()) == b"0123"


def test_ceph_knows_the_storage_class(ceph):
    bucket = ceph.make_bucket()
    for name, found in (("REDUCED_REDUNDANCY", 200), ("NO_SUCH_CLASS", 400)):
        reply = ceph.signed("PUT", f"/{bucket}/a", headers={"x-amz-storage-class": name}, body=b"x")
        assert reply.status == found
    told = ceph.signed("HEAD", f"/{bucket}/a").headers
    assert told["x-amz-storage-class"] == "REDUCED_REDUNDANCY"


# -- life and death ----------------------------------------------------------------------------


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_the_end(pids: list[int]) -> None:
    """Wait until processes that are not ours have ended."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([handle], [], [], 60)[0], f"process {pid} still runs"
        os.close(handle)


linux = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="only Linux ends a program with the one that started it"
)


@linux
@pytest.mark.parametrize("kind", [Ceph, Azurite, Moto])
def test_nothing_is_left_of_a_server_that_was_stopped(kind, tmp_path):
    need(kind)
    with kind(tmp_path / "state") as server:
        pids = list(server.pids().values())
        assert all(map(is_running, pids))
    assert not any(map(is_running, pids))


STARTS = """
import os, signal, sys
from pathlib import Path
from servers.{module} import {kind}
with {kind}(Path(sys.argv[1])) as server:
    print(*server.pids().values(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@linux
@pytest.mark.parametrize("kind", [Ceph, Azurite, Moto])
def test_nothing_is_left_of_a_run_that_was_killed(kind, tmp_path):
    need(kind)
    code = STARTS.format(module=kind.__module__.rpartition(".")[2], kind=kind.__name__)
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "state")], cwd=TESTS, stdout=subprocess.PIPE
    )
    assert said.returncode == -signal.SIGKILL
    pids = [int(word) for word in said.stdout.split()]
    assert pids
    wait_for_the_end(pids)


def test_a_failed_start_shows_the_log_and_leaves_nothing(tmp_path, monkeypatch):
    need(Ceph)
    started = []

    class Watched(Processes):
        def stop(self) -> None:
            started.extend(self.pids().values())
            super().stop()

    monkeypatch.setattr(ceph_module, "Processes", Watched)
    conf = ceph_module._CONF.replace("beast endpoint=127.0.0.1", "beast endpoint=no-address")
    monkeypatch.setattr(ceph_module, "_CONF", conf)
    with pytest.raises(ServerError, match=r"(?s)client.rgw ended.*--- mon\.a\n.+--- client\.rgw"):
        Ceph(tmp_path / "state").start()
    assert len(started) == 3
    assert not any(map(is_running, started))


def test_a_port_that_was_taken_is_left_alone(tmp_path, monkeypatch, ceph):
    taken = int(ceph.endpoint.rpartition(":")[2])
    asked = []

    def ports(count: int) -> list[int]:
        asked.append(count)
        return [*free_ports(count - 1), taken] if len(asked) == 1 else free_ports(count)

    monkeypatch.setattr(ceph_module, "free_ports", ports)
    with Ceph(tmp_path / "state") as other:
        assert other.endpoint != ceph.endpoint
    assert asked == [3, 3]


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("AZURITE", raising=False)
    assert "radosgw" in Ceph.available()
    assert "apt-get install" in Ceph.available()
    monkeypatch.setattr(azurite_module, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    monkeypatch.chdir(tmp_path)
    assert "npm install azurite" in Azurite.available()


# -- one server for several processes ----------------------------------------------------------

USER = """
import sys
from pathlib import Path
from servers.shared import shared_ceph
with shared_ceph(Path(sys.argv[1])) as server:
    print(server.endpoint, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def user(folder: Path):
    """Run a process that uses the shared server until it is told to leave."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def daemons(folder: Path) -> list[int]:
    """Return the processes that name a folder, the keeper among them; not the users."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(bytes(folder) in word for word in words) and USER.encode() not in words:
            found.append(int(path.parent.name))
    return found


@linux
def test_users_share_one_server_which_ends_with_the_last(tmp_path):
    need(Ceph)
    folder = tmp_path / "shared"
    with user(folder) as first, user(folder) as second:
        endpoint = first.stdout.readline().strip()
        assert second.stdout.readline().strip() == endpoint != ""
        running = daemons(folder)
        assert len(running) == 4, "a keeper, a monitor, a store and a gateway"
        first.communicate("leave\n")
        with shared_ceph(folder) as server:
            assert server.endpoint == endpoint
            server.make_bucket()
        second.kill()  # one that is killed has left as well
    wait_for_the_end(running)
    assert daemons(folder) == []


@linux
def test_a_server_whose_keeper_was_killed_is_started_anew(tmp_path):
    need(Ceph)
    folder = tmp_path / "shared"
    with user(folder) as first:
        first.stdout.readline()
        running = daemons(folder)
        (keeper,) = (
            pid for pid in running if b"servers.shared" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(keeper, signal.SIGKILL)
        wait_for_the_end(running)
        with shared_ceph(folder) as server:
            server.make_bucket()
            running = daemons(folder)
    wait_for_the_end(running)
