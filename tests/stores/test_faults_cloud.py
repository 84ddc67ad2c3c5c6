"""What goes wrong between a store and us: it ends right, or with a clear error and no part of it.

Ceph stands behind a proxy that spoils, and so do the other clouds.
"""

from __future__ import annotations

import copy
import errno
import io
import os
import re
import signal
import threading
from importlib.metadata import version

import pytest
from failing import (
    CONTENT,
    WAYS,
    each_way,
    facts,
    leftovers,
    parts,
    ranges,
    run_apart,
    via_transfer,
)
from servers import proxy as spoil
from servers.proxy import Proxy

from pkgdata.errors import (
    AccessDeniedError,
    BatchError,
    IncompleteTransferError,
    IntegrityError,
    ObjectExistsError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
)
from pkgdata.stores import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_waits")]


def secrets_of(server):
    return {"access_key_id": server.access_key, "secret_access_key": server.secret_key}


def halves(content):
    return iter([content[: 9 << 20], content[9 << 20 :]])


def clear(error):
    """Check that an error is one of ours and says what happened, without the request."""
    assert isinstance(error, PkgdataError)
    for word in ("Debug source", "RetryError", "Authorization", "TESTSECRET"):
        assert word not in str(error)
    return error


# -- an S3 service behind a proxy --------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket(ceph):
    pytest.importorskip("obstore")
    name = ceph.make_bucket()
    store = Store(f"s3://{ceph.endpoint}/{name}/kept", secrets=secrets_of(ceph))
    store.put("a", CONTENT)
    store.write_blocks("parts", halves(parts()))  # its ETag is no MD5
    store.put("ranges", io.BytesIO(ranges()))
    return name


@pytest.fixture
def direct(ceph, bucket, tmp_path):
    """Give the store of a folder that no other test uses, reached without the proxy."""
    return Store(f"s3://{ceph.endpoint}/{bucket}/{tmp_path.name}", secrets=secrets_of(ceph))


@pytest.fixture
def proxy(ceph):
    with Proxy(ceph.endpoint) as found:
        yield found


@pytest.fixture
def kept(ceph, bucket, proxy):
    """Give a store of objects that tests only read, through the proxy."""
    return Store(f"s3://{proxy.url}/{bucket}/kept", secrets=secrets_of(ceph), timeout=20)


@pytest.fixture
def store(ceph, bucket, proxy, tmp_path):
    """Give the folder of `direct`, through the proxy."""
    return Store(f"s3://{proxy.url}/{bucket}/{tmp_path.name}", secrets=secrets_of(ceph), timeout=20)


@pytest.fixture
def impatient(ceph, bucket, proxy):
    """Give `kept` with a time limit that a stalled reply exceeds."""
    return Store(f"s3://{proxy.url}/{bucket}/kept", secrets=secrets_of(ceph), timeout=0.5)


@pytest.fixture
def uploads(ceph, bucket):
    """Return a function that lists the uploads in parts that were neither ended nor given up."""

    def find(folder):
        reply = ceph.signed("GET", f"/{bucket}", {"uploads": "", "prefix": folder})
        assert reply.status == 200
        return reply.body.count(b"<Upload>")

    return find


OBSTORE = tuple(int(part) for part in version("obstore").split(".")[:2])

PASSING = {
    "reset at once": spoil.reset(0),
    "reset early": spoil.reset(1),
    "reset in the middle": spoil.reset(1 << 20),
    "cut short": spoil.cut(),
    "no answer": spoil.hang_up(),
    "500": spoil.s3_error(500, "InternalError"),
    "503": spoil.s3_error(503, "SlowDown"),
    "503 with Retry-After": spoil.answer(503, headers={"Retry-After": "0"}),
    "429": spoil.answer(429),
}
each_passing_fault = pytest.mark.parametrize("fault", PASSING.values(), ids=[*PASSING])


@pytest.mark.integration
class TestReading:
    @each_passing_fault
    @each_way
    def test_faults_that_pass(self, proxy, kept, way, fault, tmp_path):
        proxy.script(fault, method="GET")
        assert way(kept, "a", tmp_path) == CONTENT
        assert [seen.method for seen in proxy.requests].count("GET") == 2

    @each_way
    def test_faults_one_after_another(self, proxy, kept, way, tmp_path):
        several = [spoil.reset(5), spoil.s3_error(500, "InternalError"), spoil.cut(100_000)]
        proxy.script(*several, method="GET")
        assert way(kept, "a", tmp_path) == CONTENT

    @each_way
    def test_stalled_replies_are_cut_and_resumed(self, proxy, impatient, way, tmp_path):
        proxy.script(spoil.stall(1 << 20), method="GET")
        assert way(impatient, "a", tmp_path) == CONTENT
        # the rest was asked for, not all of it once more
        assert int(proxy.requests[-1].headers["range"][6:].partition("-")[0]) > 0

    @each_way
    def test_server_that_stalls_for_good(self, proxy, impatient, way, tmp_path, monkeypatch):
        monkeypatch.setenv("PKGDATA_RETRIES", "0")
        proxy.script(spoil.every(spoil.stall(0)), method="GET")
        with pytest.raises((StoreError, IncompleteTransferError, BatchError)) as caught:
            way(impatient, "a", tmp_path)
        assert "timed out" in str(clear(caught.value))
        assert not leftovers(tmp_path / "copies")

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (spoil.s3_error(500, "InternalError"), "status 500, InternalError"),
            (spoil.s3_error(503, "SlowDown"), "status 503, SlowDown"),
            (spoil.hang_up(), "closed early|reset"),
            (spoil.s3_error(403, "RequestTimeTooSkewed"), "clock"),
        ],
    )
    @each_way
    def test_faults_that_stay(self, proxy, kept, way, fault, said, tmp_path, monkeypatch):
        monkeypatch.setenv("PKGDATA_RETRIES", "1")
        proxy.script(spoil.every(fault))
        with pytest.raises((StoreError, IncompleteTransferError, BatchError)) as caught:
            way(kept, "a", tmp_path)
        error = clear(caught.value)
        assert re.search(said, str(error.report.failed["a"] if way is via_transfer else error))
        assert len(proxy.requests) <= 4
        assert not leftovers(tmp_path / "copies")

    def test_read_by_ranges(self, proxy, kept):
        at = len(ranges()) // 3
        proxy.script(spoil.reset(100), spoil.cut(), method="GET")
        assert kept.get("a", start=1000, stop=1_000_000) == CONTENT[1000:1_000_000]
        assert kept.get("a", start=-5) == CONTENT[-5:]
        assert kept.get("ranges", start=at, stop=at + 9) == ranges()[at : at + 9]

    @each_way
    def test_large_objects_by_several_ranges(self, proxy, kept, way, tmp_path):
        broken = [spoil.reset(1000), spoil.cut(3 << 20), spoil.s3_error(500, "InternalError")]
        proxy.script(spoil.through(), *broken, method="GET")
        assert facts(way(kept, "ranges", tmp_path)) == facts(ranges())
        assert threads_of_ours() == []

    def test_large_object_closed_early(self, kept):
        found = kept.blocks("ranges", 1 << 20)
        for _ in range(10):
            next(found)
        found.close()
        assert threads_of_ours() == []

    def test_one_tampered_reply_is_cured_by_another(self, proxy, kept):
        proxy.script(spoil.tamper_reply(70_000), method="GET")
        assert kept.get("a") == CONTENT

    @each_way
    def test_bytes_that_are_always_wrong_are_never_given(self, proxy, kept, way, tmp_path):
        proxy.script(spoil.every(spoil.tamper_reply(70_000)), method="GET")
        with pytest.raises((IntegrityError, BatchError)) as caught:
            way(kept, "a", tmp_path)
        error = clear(caught.value)
        if isinstance(error, BatchError):
            error = error.report.failed["a"]
        assert isinstance(error, IntegrityError)
        assert error.expected != error.actual
        assert error.expected.startswith("md5:")
        assert not leftovers(tmp_path / "copies")

    def test_transfer_of_tampered_bytes_is_tried_again_alone(self, proxy, kept, tmp_path):
        copies = Store(str(tmp_path / "copies"))
        copies.put("a", b"old")
        proxy.script(spoil.tamper_reply(5), method="GET", path="/a")
        with pytest.raises(BatchError) as caught:
            kept.transfer_to(copies, ["a", "parts"])
        report = caught.value.report
        assert isinstance(report.failed["a"], IntegrityError)
        assert ([*report.failed], copies["a"], copies["parts"]) == (["a"], b"old", parts())
        assert [*report.retry().succeeded] == ["a"]
        assert (copies["a"], copies["parts"]) == (CONTENT, parts())

    @pytest.mark.parametrize("name", ["parts", "ranges"])
    def test_object_that_changes_while_it_is_read(self, proxy, direct, ceph, bucket, name):
        content = {"parts": parts, "ranges": ranges}[name]
        direct.write_blocks(name, halves(content()))
        folder = direct.url.rpartition("/")[2]
        reader = Store(f"s3://{proxy.url}/{bucket}/{folder}", secrets=secrets_of(ceph), timeout=0.5)
        proxy.script(spoil.stall(1 << 20), method="GET")
        outcome = []

        def read():
            try:
                outcome.append(facts(b"".join(map(bytes, reader.blocks(name)))))
            except PkgdataError as error:
                outcome.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        proxy.wait_for_stall()
        direct.write_blocks(name, halves(content()[::-1]))
        thread.join()
        # never some bytes of the one and some of the other
        assert outcome[0] in (facts(content()), facts(content()[::-1])) or isinstance(
            clear(outcome[0]), (IncompleteTransferError, StoreError)
        )

    def test_missing_and_denied_are_not_asked_twice(self, proxy, kept):
        with pytest.raises(ObjectNotFoundError):
            kept.get("missing")
        proxy.script(spoil.s3_error(403, "AccessDenied"), method="GET")
        with pytest.raises(AccessDeniedError):
            kept.get("a")
        assert len(proxy.requests) == 2


@pytest.mark.integration
class TestListing:
    @pytest.fixture(autouse=True)
    def names(self, direct):
        direct.put((f"d/{i:03}", b"x") for i in range(30))

    @pytest.mark.parametrize("how", ["deep", "flat", "by us"])
    @each_passing_fault
    def test_faults_that_pass(self, proxy, store, direct, fault, how):
        before = [spoil.through()] if how == "by us" else []
        if before:  # since obstore might mistake empty objects for folders
            direct.put((f"d/{i:03}", b"") for i in range(30))
        if fault.stop_reply is not None:
            fault = spoil.reset(200) if fault.event == "reset" else spoil.cut(200)
        proxy.script(*before, fault, method="GET")
        assert [*store.list("d/", flat=how == "flat")] == [f"d/{i:03}" for i in range(30)]
        assert len(proxy.requests) == 2 + len(before)

    def test_listing_is_resumed_where_it_broke_off(self, proxy, store, direct):
        direct.put((f"e/{i:04}", b"x") for i in range(1500))
        proxy.script(spoil.through(), spoil.reset(300), method="GET")
        assert [*store.list("e/")] == [f"e/{i:04}" for i in range(1500)]
        assert "start-after=" in proxy.requests[-1].target
        assert [seen.status for seen in proxy.requests] == [200, 200, 200]

    def test_answer_that_is_no_listing(self, proxy, store):
        proxy.script(spoil.answer(200, b"<html>Please log in"), method="GET")
        with pytest.raises(StoreError, match="invalid list response") as caught:
            [*store.list()]
        clear(caught.value)

    @pytest.mark.parametrize("many", [False, True])
    def test_deleting(self, proxy, store, direct, many):
        for fault in (spoil.lose_reply(), spoil.hang_up(), spoil.s3_error(503, "SlowDown")):
            direct.put([("x", b""), ("y", b"")])
            proxy.script(fault, method="POST")
            store.delete(["x", "y"] if many else "x")
            assert direct.exists(["x", "y"]) == {"x": False, "y": not many}


@pytest.mark.integration
class TestWriting:
    @pytest.mark.parametrize(
        "fault",
        [
            *[spoil.reset_request(0), spoil.reset_request(100_000), spoil.lose_reply()],
            *[spoil.hang_up(), spoil.s3_error(500, "InternalError"), spoil.answer(503)],
        ],
    )
    def test_faults_that_pass(self, proxy, store, direct, fault):
        proxy.script(fault, method="PUT")
        store.put("a", CONTENT)
        assert direct.get("a") == CONTENT
        assert len(proxy.requests) == 2

    @pytest.mark.parametrize("fault", [spoil.reset_request(9), spoil.answer(500)])
    def test_faults_that_stay(self, proxy, store, direct, fault, monkeypatch):
        monkeypatch.setenv("PKGDATA_RETRIES", "1")
        direct.put("a", b"old")
        proxy.script(spoil.every(fault), method="PUT")
        with pytest.raises(StoreError) as caught:
            store.put("a", CONTENT)
        clear(caught.value)
        assert direct.get("a") == b"old"

    def test_body_that_changes_on_the_way_is_refused(self, proxy, store, direct):
        direct.put("a", b"old")
        proxy.script(spoil.tamper_request(9), method="PUT")
        with pytest.raises(StoreError, match="SHA256Mismatch"):
            store.put("a", CONTENT)
        assert direct.get("a") == b"old"

    @pytest.mark.parametrize(
        "content", [bytes, parts, lambda: CONTENT], ids=["empty", "large", "small"]
    )
    def test_lost_answer_to_a_conditional_write(self, proxy, store, direct, content):
        proxy.script(spoil.lose_reply(), method="PUT")
        store.put("a", io.BytesIO(content()), if_absent=True)  # what is there then is our own
        assert direct.get("a") == content()

    def test_lost_answer_where_another_was_quicker(self, proxy, store, direct):
        direct.put("a", b"another's")
        proxy.script(spoil.lose_reply(), method="PUT")
        with pytest.raises(ObjectExistsError):
            store.put("a", CONTENT, if_absent=True)
        assert direct.get("a") == b"another's"

    def test_lost_answer_to_a_touch(self, proxy, store, direct):
        proxy.script(spoil.lose_reply(), method="PUT")
        store.touch("a")
        assert direct.get("a") == b""

    def test_lost_answer_to_a_copy(self, proxy, store, direct):
        direct.put("a", CONTENT)
        proxy.script(spoil.lose_reply(), method="PUT")
        store.move("a", "b")
        assert (direct.get("b"), "a" in direct) == (CONTENT, False)


PART_FAULTS = {
    "reset": spoil.reset_request(1000),
    "lost answer": spoil.lose_reply(),
    "500": spoil.s3_error(500, "InternalError"),
    "503": spoil.s3_error(503, "SlowDown"),
}


@pytest.mark.integration
class TestWritingInParts:
    @pytest.fixture
    def folder(self, store):
        return store.url.rpartition("/")[2]

    @pytest.mark.parametrize("fault", PART_FAULTS.values(), ids=[*PART_FAULTS])
    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_faults_that_pass(self, proxy, store, direct, folder, uploads, fault, method):
        if method == "POST" and fault.reset_request is not None:
            fault = spoil.hang_up()
        proxy.script(spoil.through(), fault, method=method)  # a part, or the word that ends it
        store.put("p", io.BytesIO(parts()))
        assert direct.get("p") == parts()
        assert uploads(folder) == 0

    @pytest.mark.skipif(
        OBSTORE < (0, 12), reason="before 0.12 obstore does not abort an upload that failed"
    )
    @pytest.mark.parametrize(
        ("method", "fault"),
        [
            ("PUT", spoil.reset_request(1000)),
            ("PUT", spoil.s3_error(500, "InternalError")),
            ("PUT", spoil.tamper_request(1000)),
            ("POST", spoil.s3_error(500, "InternalError")),
        ],
    )
    @pytest.mark.parametrize("old", [b"old", None])
    def test_uploads_that_fail_are_given_up(
        self, proxy, store, direct, folder, uploads, method, fault, old, monkeypatch
    ):
        monkeypatch.setenv("PKGDATA_RETRIES", "1")
        if old is not None:
            direct.put("p", old)
        proxy.script(spoil.through(), spoil.every(fault), method=method)
        with pytest.raises(StoreError) as caught:
            store.put("p", io.BytesIO(parts()))
        clear(caught.value)
        assert (direct.get("p") if old is not None else [*direct.list()]) == (old or [])
        assert uploads(folder) == 0

    def test_large_transfer_from_one_bucket_to_another(self, kept, ceph):
        other = Store(f"s3://{ceph.endpoint}/{ceph.make_bucket()}", secrets=secrets_of(ceph))
        kept.transfer_to(other, ["parts", "ranges", "a"])
        assert {r.name: facts(r.content) for r in other.get(["parts", "ranges", "a"])} == {
            "parts": facts(parts()),
            "ranges": facts(ranges()),
            "a": facts(CONTENT),
        }
        kept.transfer_to(other, ["ranges"], reencode="gzip")
        assert facts(other.get("ranges")) == facts(ranges())

    def test_large_transfer_that_breaks_at_its_source(
        self, proxy, kept, direct, folder, uploads, monkeypatch
    ):
        monkeypatch.setenv("PKGDATA_RETRIES", "1")
        proxy.script(spoil.reset(12 << 20), spoil.every(spoil.answer(500)), method="GET")
        with pytest.raises(BatchError) as caught:
            kept.transfer_to(direct, ["parts"])
        clear(caught.value.report.failed["parts"])
        assert [*direct.list()] == []
        assert uploads(folder) == 0
        proxy.heal()
        caught.value.report.retry()
        assert direct.get("parts") == parts()

    @pytest.mark.skipif(os.name == "nt", reason="kills by signal")
    def test_killed_in_the_midst(self, proxy, ceph, bucket, direct, folder):
        proxy.script(spoil.through(), spoil.every(spoil.stall(0)), method="PUT")
        code = """
            import io, sys
            from pkgdata.stores import Store
            keys = {"access_key_id": sys.argv[2], "secret_access_key": sys.argv[3]}
            Store(sys.argv[1], secrets=keys).put("p", io.BytesIO(bytes(40 << 20)))
        """
        url = f"s3://{proxy.url}/{bucket}/{folder}"
        process = run_apart(code, url, ceph.access_key, ceph.secret_key)
        proxy.wait_for_stall()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert [*direct.list()] == []
        assert "p" not in direct


# -- the other clouds --------------------------------------------------------------------------


@pytest.fixture
def google(gcs):
    """Give a proxy before the imitation of Google, and stores behind and before it."""
    pytest.importorskip("obstore")
    with Proxy(gcs.endpoint) as proxy:
        bucket, secrets = gcs.make_bucket(), {"token": gcs.issue_token()}
        yield (
            proxy,
            Store(f"gs://{bucket}", secrets=secrets, endpoint=proxy.url, timeout=20),
            Store(f"gs://{bucket}", secrets=secrets, endpoint=gcs.endpoint),
        )


@pytest.fixture
def azure(azurite):
    """Give a proxy before Azurite, and stores behind and before it."""
    pytest.importorskip("obstore")
    with Proxy(azurite.endpoint) as proxy:
        container = azurite.make_container()
        secrets = {"account_name": azurite.account, "account_key": azurite.key}
        yield (
            proxy,
            Store(f"az://{container}", secrets=secrets, endpoint=proxy.url, timeout=20),
            Store(f"az://{container}", secrets=secrets, endpoint=azurite.endpoint),
        )


@pytest.fixture(params=["google", pytest.param("azure", marks=pytest.mark.integration)])
def cloud(request):
    return request.getfixturevalue(request.param)


class TestOtherClouds:
    @pytest.mark.parametrize("fault", [spoil.reset(1000), spoil.cut(), spoil.answer(503)])
    def test_reading(self, cloud, fault, tmp_path):
        proxy, store, direct = cloud
        direct.put("a", CONTENT)
        for way in WAYS.values():
            proxy.script(fault, method="GET")
            assert way(store, "a", tmp_path) == CONTENT

    def test_tampered_replies(self, cloud):
        proxy, store, direct = cloud
        direct.put("a", CONTENT)
        proxy.script(spoil.tamper_reply(1000), method="GET")
        assert store.get("a") == CONTENT
        proxy.script(spoil.every(spoil.tamper_reply(1000)), method="GET")
        with pytest.raises(IntegrityError) as caught:
            store.get("a")
        clear(caught.value)

    def test_conditional_write_whose_answer_is_lost(self, cloud):
        proxy, store, direct = cloud
        proxy.script(spoil.lose_reply(), method="PUT")
        store.put("a", CONTENT, if_absent=True)
        assert direct.get("a") == CONTENT
        with pytest.raises(ObjectExistsError):
            store.put("a", CONTENT, if_absent=True)

    def test_upload_in_parts_that_fails(self, cloud, monkeypatch):
        monkeypatch.setenv("PKGDATA_RETRIES", "1")
        proxy, store, direct = cloud
        proxy.script(spoil.through(), spoil.every(spoil.answer(500)), method="PUT")
        with pytest.raises(StoreError) as caught:
            store.put("p", io.BytesIO(parts()))
        clear(caught.value)
        assert [*direct.list()] == []
        proxy.heal()
        proxy.script(spoil.through(), spoil.reset_request(1000), method="PUT")
        store.put("p", io.BytesIO(parts()))
        assert direct.get("p") == parts()


# -- blocks that fail by themselves ------------------------------------------------------------


@pytest.fixture(
    params=["file", "local", "mem", "google", pytest.param("s3", marks=pytest.mark.integration)]
)
def target(request, tmp_path):
    """Give stores of all kinds."""
    if request.param == "s3":
        return request.getfixturevalue("direct")
    if request.param == "google":
        return request.getfixturevalue("google")[2]
    if request.param == "local":
        pytest.importorskip("fsspec")
        return Store(f"local://{tmp_path}/target")
    return Store(str(tmp_path / "target") if request.param == "file" else f"mem://{tmp_path}")


class Stop(BaseException):
    """No `Exception`, like `KeyboardInterrupt`."""


@pytest.mark.parametrize(
    "error",
    [
        *[RuntimeError("mine"), OSError(errno.EIO, "mine"), FileNotFoundError("mine"), Stop()],
        *[ObjectNotFoundError("mine", url="x"), IncompleteTransferError("mine"), ValueError("m")],
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("after", [0, 12 << 20])
def test_what_the_blocks_raise_comes_through(target, error, after):
    error = copy.copy(error)  # the parameter stays, and would keep the frames with all their bytes
    target.put("d/old", b"old")

    def blocks():
        yield bytes(after)
        raise error

    for name in ("d/old", "new/er"):
        with pytest.raises(type(error)) as caught:
            target.write_blocks(name, blocks())
        assert caught.value is error
    assert [*target.list()] == ["d/old"]
    assert target.get("d/old") == b"old"


# -- a full disk ---------------------------------------------------------------------------------


@pytest.mark.integration
def test_full_disk_under_a_download_from_a_bucket(small_disk, kept):
    folder = small_disk("1m")
    with pytest.raises(BatchError, match="No space left on device"):
        kept.transfer_to(str(folder), ["a", "parts", "ranges"])
    assert os.listdir(folder) == []


def threads_of_ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pkgdata")]
