"""A folder of another machine as a store, with a real sshd: the contract, and what is its own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys

import pytest
from contract import StoreContract
from sshd import Sshd

from pkgdata.errors import (
    AccessDeniedError,
    IncompleteTransferError,
    MissingExtraError,
    ObjectExistsError,
    StoreError,
)
from pkgdata.stores import Store, open_store
from pkgdata.stores.sftp import SftpStore
from pkgdata.stores.sftp_protocol import Connection

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="sshd is started as on Unix"),
]

LARGE = bytes(range(256)) * 20_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "there"


@pytest.fixture
def store(server, folder, monkeypatch):
    monkeypatch.setenv("PATH", server.path)
    with Store(server.url(str(folder))) as found:
        yield found


class TestSftpStore(StoreContract):
    unsupported = frozenset({"attributes", "encode"})

    @pytest.fixture
    def store(self, server, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", server.path)
        with Store(server.url(f"{tmp_path}/a%20b%25")) as found:
            yield found


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_nothing_is_contacted_before_the_first_operation():
    assert isinstance(open_store("sftp://no.such.host.invalid/x"), SftpStore)
    assert isinstance(pickle.loads(pickle.dumps(Store("sftp://nowhere.invalid/x"))), SftpStore)


@pytest.mark.parametrize("public", [False, True])
def test_modes_of_what_everybody_shall_read(store, folder, public):
    old = os.umask(0o077)
    try:
        store.put("a/b/c.txt", b"x", public=public)
    finally:
        os.umask(old)
    wanted = 0o555 if public else 0
    for path in (folder, folder / "a", folder / "a" / "b"):
        assert not public or path.stat().st_mode & wanted == wanted
    assert not public or (folder / "a/b/c.txt").stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_nothing(store, folder):
    store["a"] = b"old"

    def blocks():
        yield LARGE
        assert list(store) == ["a"]
        raise ZeroDivisionError

    for name in ("a", "b", "new/c"):
        with pytest.raises(ZeroDivisionError):
            store.write_blocks(name, blocks())
    assert store["a"] == b"old"
    assert names(folder) == ["a", "new"]


def test_what_is_there_is_not_replaced(store, folder):
    store["a"] = b"old"
    with pytest.raises(ObjectExistsError):
        store.put("a", b"new", if_absent=True)
    assert names(folder) == ["a"]


def test_a_file_in_the_way_of_a_folder(store):
    store["a"] = b"file"
    with pytest.raises(StoreError, match="is not a directory"):
        store["a/b"] = b"below"
    with pytest.raises(StoreError):
        store.write("", b"x")


def test_links_are_followed_to_files_alone(store, folder, tmp_path):
    store["d/a"] = b"abc"
    (folder / "b").symlink_to(folder / "d" / "a")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to(folder / "gone")
    sizes = {name: info.size for name, info in store.scan()}
    assert sizes == {"b": 3, "d/a": 3, "dangling": None, "loop": None}
    assert store["b"] == b"abc"
    for name in ("dangling", "loop"):
        with pytest.raises(StoreError, match=name):
            store[name]


def test_reading_is_resumed_after_the_connection_broke(store):
    store["a"] = LARGE
    found = b""
    for number, block in enumerate(store.blocks("a", 1 << 18)):
        found += block
        if number == 2:
            store.host()._process.kill()
    assert found == LARGE


def test_a_changed_file_is_not_read_on(store, monkeypatch):
    store["a"] = LARGE
    blocks = store.blocks("a", 1 << 18)
    next(blocks)
    store.host()._process.kill()
    store["a"] = LARGE[:-1]
    with pytest.raises(IncompleteTransferError):
        for _ in blocks:
            pass


def test_a_connection_that_broke_is_made_again(store):
    store["a"] = b"1"
    store.host()._process.kill()
    assert store["a"] == b"1"


def _read_in_fork(store, queue):
    queue.put(store["a"])


def test_a_fork_logs_in_for_itself(store):
    store["a"] = LARGE
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_in_fork, args=(store, queue))
    child.start()
    assert queue.get(timeout=60) == LARGE
    child.join()
    assert store["a"] == LARGE


def test_a_server_without_extensions(store, monkeypatch):
    monkeypatch.setattr(Connection, "has", lambda self, extension: False)
    for content in (b"1", b"2"):
        store["d/a"] = content
    with pytest.raises(ObjectExistsError):
        store.put("d/a", b"3", if_absent=True)
    assert store["d/a"] == b"2"
    assert store.free_bytes() is None


def test_many_in_worker_processes(store, tmp_path):
    store.put((f"d/{i}", b"%d" % i) for i in range(200))
    found = store.get([f"d/{i}" for i in range(200)], parallel=2)
    assert {result.name: result.content for result in found} == {
        f"d/{i}": b"%d" % i for i in range(200)
    }


def test_copies_from_and_to_this_machine(store, folder, tmp_path):
    here = Store(str(tmp_path / "here"))
    here.put([("a", b"1"), ("d/large", LARGE)])
    store.transfer_from(here)
    assert (folder / "d" / "large").read_bytes() == LARGE
    store.transfer_to(Store(str(tmp_path / "back")))
    assert (tmp_path / "back" / "d" / "large").read_bytes() == LARGE


def test_free_bytes(store):
    store["a"] = b"1"
    assert store.free_bytes() > 0


def test_an_unknown_host_is_refused(server, store, folder):
    with (
        Store(f"sftp://localhost:{server.port}{folder}") as other,
        pytest.raises(AccessDeniedError, match="host key is not known"),
    ):
        other.put("a", b"1")
    assert not folder.exists()


def test_a_host_that_is_down(store, monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    with pytest.raises(StoreError, match="Connection refused") as caught:
        Store("sftp://127.0.0.1:9/web").get("a")
    assert caught.value.transient


def test_without_ssh(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="ssh is not installed"):
        Store("sftp://host/web").get("a")
