"""A web server or a disk fails a store: it ends right, or with a clear error and no part of it."""

from __future__ import annotations

import io
import os

import faults
import pytest
from failing import (
    CONTENT,
    each_way,
    leftovers,
    parts,
    ranges,
    run_apart,
    via_blocks,
    via_get,
    via_transfer,
)
from faults import FaultServer

from pkgdata.errors import BatchError, IncompleteTransferError, ObjectNotFoundError, StoreError
from pkgdata.stores import Store, http

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_waits")]


# -- a web server ------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http, "_sessions", {})
    with FaultServer({"a": CONTENT}) as found:
        yield found
    for session in http._sessions.values():
        session.close()


WEB = {
    "reset": lambda: faults.reset(1000),
    "cut": lambda: faults.cut(2_000_000),
    "cut at once": lambda: faults.cut(0),
    "cut in the headers": faults.cut_in_headers,
    "no answer": faults.hang_up,
    "500": lambda: faults.status(500),
    "503": lambda: faults.status(503, retry_after=0),
}


class TestWeb:
    @pytest.mark.parametrize("fault", WEB.values(), ids=[*WEB])
    @each_way
    def test_faults_that_pass(self, server, way, fault, tmp_path):
        server.script("a", fault())
        assert way(Store(server.url, timeout=20), "a", tmp_path) == CONTENT

    @each_way
    def test_stalled_replies_are_cut_and_resumed(self, server, way, tmp_path):
        server.script("a", faults.stall(1 << 20))
        assert way(Store(server.url, timeout=0.5), "a", tmp_path) == CONTENT

    def test_reading_on_asks_for_the_rest_alone(self, server):
        server.script("a", faults.cut(2_000_000))
        assert via_blocks(Store(server.url, timeout=20), "a", None) == CONTENT
        first, second = server.settled()
        assert second.headers["range"] == "bytes=2000000-"
        assert second.headers["if-range"]
        assert (first.sent, second.sent) == (2_000_000, len(CONTENT) - 2_000_000)

    def test_blocks_of_an_object_that_changes(self, server):
        server.script("a", faults.cut(2_000_000), faults.change(CONTENT[::-1]))
        with pytest.raises(IncompleteTransferError, match="it changed"):
            via_blocks(Store(server.url, timeout=20), "a", None)

    @pytest.mark.parametrize("way", [via_get, via_transfer])
    def test_object_that_changes_is_read_again(self, server, way, tmp_path):
        server.script("a", faults.cut(2_000_000), faults.change(CONTENT[::-1]))
        assert way(Store(server.url, timeout=20), "a", tmp_path) == CONTENT[::-1]

    def test_blocks_of_a_server_without_ranges(self, server):
        server.script("a", faults.cut(2_000_000), faults.forever(faults.ignore_range()))
        with pytest.raises(IncompleteTransferError, match="has no ranges"):
            via_blocks(Store(server.url, timeout=20), "a", None)

    @pytest.mark.parametrize("kind", ["file", "local", "mem"])
    def test_object_that_is_gone_in_the_midst(self, server, kind, tmp_path, monkeypatch):
        if kind == "local":
            pytest.importorskip("fsspec")
        url = {"file": str(tmp_path / "f"), "local": f"local://{tmp_path}/f", "mem": "mem://gone"}
        target = Store(url[kind])
        for name in ("a", "b/c"):  # whose folder there is and is not
            server.contents["a"] = ranges()
            server.script("a", faults.cut(10 << 20), faults.forever(faults.status(404)))
            with pytest.raises(BatchError) as caught:
                Store(server.url, timeout=20).transfer_to(target, [("a", name)])
            assert isinstance(caught.value.report.failed["a"], ObjectNotFoundError)
            assert server.url in str(caught.value)
            assert [*target.list()] == []

    def test_source_that_breaks_off_for_good(self, server, tmp_path, monkeypatch):
        monkeypatch.setenv("PKGDATA_RETRIES", "1")
        server.contents["a"] = ranges()
        server.script("a", faults.forever(faults.cut(10 << 20)))
        with pytest.raises(BatchError) as caught:
            Store(server.url, timeout=20).transfer_to(str(tmp_path / "copies"), ["a"])
        error = caught.value.report.failed["a"]
        assert isinstance(error, IncompleteTransferError)  # of the source, not of the folder
        assert server.url in str(error)
        assert not leftovers(tmp_path / "copies")

    def test_wrong_length(self, server, tmp_path, monkeypatch):
        monkeypatch.setenv("PKGDATA_RETRIES", "1")
        server.script("a", faults.forever(faults.wrong_length(5)))
        for way in (via_get, via_blocks, via_transfer):
            with pytest.raises((IncompleteTransferError, BatchError)):
                way(Store(server.url, timeout=20), "a", tmp_path)
        assert not leftovers(tmp_path / "copies")


# -- disks -------------------------------------------------------------------------------------


def test_full_disk(small_disk, server, tmp_path):
    server.contents["small"] = b"small"
    folder = small_disk("1m")
    target = Store(str(folder), threads=1)  # else the small one comes while the disk is full
    target.put("a", b"old")
    with pytest.raises(BatchError) as caught:
        Store(server.url, timeout=20, threads=1).transfer_to(target, ["a", "small"])
    error = caught.value.report.failed["a"]
    assert isinstance(error, StoreError)
    assert "No space left on device" in str(error)
    assert error.url == f"{target.url}/a"
    assert not error.transient
    assert {name: target[name] for name in target} == {"a": b"old", "small": b"small"}
    assert sorted(os.listdir(folder)) == ["a", "small"]
    with pytest.raises(StoreError, match="No space left"):
        target.put("b", CONTENT)
    with pytest.raises(BatchError, match="No space left"):
        target.put([("b", io.BytesIO(parts())), ("c", CONTENT)])
    assert sorted(os.listdir(folder)) == ["a", "small"]


@pytest.mark.skipif(os.name == "nt", reason="limits of a process are POSIX")
def test_file_that_may_not_grow(server, tmp_path):
    code = """
        import resource, sys
        from pkgdata.errors import BatchError, StoreError
        from pkgdata.stores import Store
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            Store(sys.argv[1]).transfer_to(sys.argv[2], ["a"])
        except BatchError as error:
            assert isinstance(error.report.failed["a"], StoreError)
            print(error)
    """
    process = run_apart(code, server.url, str(tmp_path / "copies"))
    said = process.communicate(timeout=60)[0].decode()
    assert "File too large" in said
    assert not leftovers(tmp_path / "copies")


def test_file_that_shrinks_while_it_is_read(tmp_path):
    (tmp_path / "d").mkdir()
    content = parts()
    (tmp_path / "d" / "a").write_bytes(content)
    found = Store(str(tmp_path / "d")).blocks("a")
    next(found)
    os.truncate(tmp_path / "d" / "a", 5 << 20)
    with pytest.raises(IncompleteTransferError, match=f"of {len(content)}"):
        list(found)


def test_folder_where_a_file_is(tmp_path):
    store = Store(str(tmp_path / "d"))
    store.put("a", b"1")
    for content in (b"2", io.BytesIO(parts())):
        with pytest.raises(StoreError) as caught:
            store.put("a/b", content)
        assert caught.value.url == store.address("a/b")
    assert ([*store.list()], store["a"]) == (["a"], b"1")
