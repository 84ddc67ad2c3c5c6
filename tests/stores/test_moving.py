"""Objects on their way: from store to store, from many threads and processes, to whoever reads."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading

import faults
import pytest
from faults import FaultServer
from servers.proxy import Proxy
from waiting import wait_for

from pkgdata.base.hashes import Digest
from pkgdata.errors import (
    BatchError,
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
)
from pkgdata.stores import Body, Store, http
from pkgdata.stores.copying import Recipe, copies
from pkgdata.stores.objects import BLOCK, WHOLE
from pkgdata.stores.reading import read_blocks

WAIT = 30
CONTENT = bytes(range(256)) * 4000
LARGE = CONTENT * 9  # above `WHOLE`
assert len(LARGE) > WHOLE


def joined(blocks):
    return b"".join(map(bytes, blocks))


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pkgdata")]


@pytest.fixture(autouse=True)
def no_threads_left():
    yield
    assert ours() == []


@pytest.fixture
def memory(tmp_path):
    return Store(f"mem://{tmp_path}/memory")


@pytest.fixture
def folder(tmp_path):
    return Store(str(tmp_path / "folder"))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(http, "_sessions", {})
    with FaultServer({}) as found:
        yield found
    for session in http._sessions.values():
        session.close()


@pytest.fixture
def proxy(ceph):
    with Proxy(ceph.endpoint) as found:
        yield found


@pytest.fixture
def bucket(ceph, proxy):
    """Give a new bucket, through a proxy that counts."""
    pytest.importorskip("obstore")
    secrets = {"access_key_id": ceph.access_key, "secret_access_key": ceph.secret_key}
    return Store(f"s3://{proxy.url}/{ceph.make_bucket()}/here", secrets=secrets, timeout=20)


# -- reading in blocks -------------------------------------------------------------------------


class Breaking(Body):
    """Gives some bytes at a time and breaks off where it is told to."""

    def __init__(self, content, start, breaks, validator, digest):
        super().__init__(start, len(content), validator, "test")
        self.content, self.at, self.breaks, self.digest = content, start, breaks, digest

    def readinto(self, buffer):
        if self.breaks and self.at >= self.breaks[0]:
            raise IncompleteTransferError(f"broke at {self.breaks.pop(0)}")
        count = min(len(buffer), 100, len(self.content) - self.at)
        buffer[:count] = self.content[self.at : self.at + count]
        self.at += count
        return count


class BreakingStore(Store):
    """Breaks off, changes, and lies, as a test says."""

    def __init__(self, url, **options):
        super().__init__(url, **options)
        self.content, self.breaks, self.opened = CONTENT[:5000], [], []
        self.validator, self.digest, self.serves_ranges = "v1", None, True

    def open(self, name, start=0, validator=None, stop=None):
        self.opened.append((start, validator))
        if not self.serves_ranges or validator not in (None, self.validator):
            start = 0
        return Breaking(self.content, start, self.breaks, self.validator, self.digest)


@pytest.fixture
def breaking(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    return BreakingStore(f"mem://{tmp_path}/breaking")


@pytest.mark.parametrize("size", [1, 99, 4096, 1 << 20])
def test_blocks_are_resumed_where_they_broke(breaking, size):
    breaking.breaks = [0, 1000, 1000, 4900]
    assert joined(read_blocks(breaking, "a", size)) == breaking.content
    asked = [start for start, _ in breaking.opened]
    assert asked == sorted(asked)
    assert (asked[0], len(asked), asked[-1] >= 4900) == (0, 5, True)
    assert [validator for _, validator in breaking.opened] == [None, "v1", "v1", "v1", "v1"]


def test_blocks_give_up_in_the_end(breaking, monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "2")
    breaking.breaks = [1000] * 9
    with pytest.raises(IncompleteTransferError, match="broke at 1000"):
        joined(read_blocks(breaking, "a"))
    assert len(breaking.opened) == 3


def test_blocks_without_a_validator_cannot_be_resumed(breaking):
    breaking.breaks, breaking.validator = [1000], None
    with pytest.raises(IncompleteTransferError, match="broke at 1000"):
        joined(read_blocks(breaking, "a"))


@pytest.mark.parametrize("change", ["validator", "ranges"])
def test_blocks_of_two_objects_are_never_joined(breaking, change):
    breaking.breaks = [1000]
    found = read_blocks(breaking, "a", 100)
    got = bytes(next(found))
    if change == "validator":
        breaking.validator, breaking.content = "v2", CONTENT[1:5001]
    else:
        breaking.serves_ranges = False
    with pytest.raises(IncompleteTransferError, match="changed or has no ranges"):
        for block in found:
            got += bytes(block)
    assert CONTENT.startswith(got)


def test_wrong_blocks_are_reported_at_the_end(breaking):
    breaking.digest = Digest("md5", "0" * 32)
    with pytest.raises(IntegrityError) as caught:
        joined(read_blocks(breaking, "a"))
    assert caught.value.expected == "md5:" + "0" * 32


@pytest.mark.slow
def test_wrong_bytes_never_stand_under_the_name(breaking, folder, memory):
    breaking.digest = Digest("md5", "0" * 32)
    for content in (CONTENT[:5000], LARGE):
        breaking.content = content
        for target in (folder, memory):
            target.put("a", b"old")
            with pytest.raises(BatchError) as caught:
                breaking.transfer_to(target, ["a"])
            assert isinstance(caught.value.report.failed["a"], IntegrityError)
            assert ([*target.list()], target["a"]) == (["a"], b"old")


def test_generator_of_blocks_that_is_closed_early(server, monkeypatch):
    server.contents["a"] = LARGE
    found = Store(server.url).blocks("a")
    next(found)
    found.close()
    assert list(found) == []


@pytest.mark.integration
def test_ranges_of_a_large_object_are_those_of_one_object(proxy, bucket):
    content = LARGE * 4  # read by several ranges
    bucket.write_blocks("a", iter([content[: 20 << 20], content[20 << 20 :]]))
    validator = bucket.stat("a").validator
    before = len(proxy.requests)
    assert joined(bucket.blocks("a")) == content
    ranges = [seen.headers for seen in proxy.requests[before:] if "range" in seen.headers]
    assert len(ranges) > 1
    assert {headers["if-match"] for headers in ranges} == {validator}


# -- by the service ----------------------------------------------------------------------------


@pytest.mark.integration
class TestServerSide:
    def asked(self, proxy, before):
        return [(seen.method, seen.received) for seen in proxy.requests[before:]]

    @pytest.mark.parametrize("content", [CONTENT, LARGE, b""], ids=["small", "large", "empty"])
    def test_copy_within_a_bucket(self, proxy, bucket, content):
        bucket.put("a", io.BytesIO(content), content_type="image/x-test", metadata={"k": "v"})
        before = len(proxy.requests)
        bucket.copy("a", "b c/ü")
        assert self.asked(proxy, before) == [("HEAD", 0), ("PUT", 0)]
        assert "x-amz-copy-source" in proxy.requests[-1].headers
        assert bucket.get("b c/ü") == content
        assert bucket.stat("b c/ü").attributes.content_type == "image/x-test"

    def test_move_and_transfer_between_prefixes(self, proxy, bucket):
        there = Store(
            bucket.url.replace("/here", "/there"), secrets=bucket._options["secrets"], timeout=20
        )
        bucket.put([("a", CONTENT), ("b", LARGE)])
        before = len(proxy.requests)
        bucket.transfer_to(there)
        bucket.move("a", "moved", there)
        assert {method for method, _ in self.asked(proxy, before)} == {"GET", "HEAD", "PUT", "POST"}
        # the listing and the word to delete are all that passes
        assert sum(received for _, received in self.asked(proxy, before)) < 1000
        assert sum(seen.sent for seen in proxy.requests[before:]) < 5000
        assert (sorted(there), list(bucket)) == (["a", "b", "moved"], ["b"])
        assert (there["moved"], there["b"]) == (CONTENT, LARGE)

    def test_with_other_rights_bytes_pass_through_here(self, proxy, bucket):
        other = Store(bucket.url, secrets=dict(bucket._options["secrets"], region="us-east-1"))
        bucket.put("a", CONTENT)
        before = len(proxy.requests)
        bucket.copy("a", "b", other)
        assert [method for method, _ in self.asked(proxy, before)] == ["GET", "HEAD", "PUT"]
        assert bucket["b"] == CONTENT

    def test_onto_itself(self, proxy, bucket):
        bucket.put("a", CONTENT)
        again = Store(bucket.url.rpartition("/")[0], secrets=bucket._options["secrets"])
        bucket.move("a", "here/a", again)  # the same object by another prefix
        assert bucket["a"] == CONTENT


# -- one copy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", CONTENT, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("pair", [*itertools.product(["memory", "folder"], repeat=2)])
def test_copy_between_kinds(content, pair, request, tmp_path):
    source = request.getfixturevalue(pair[0])
    to = Store(f"mem://{tmp_path}/to" if pair[1] == "memory" else str(tmp_path / "to"))
    source.put("a b", io.BytesIO(content))
    source.copy("a b", "d/c", to)
    assert (to["d/c"], source["a b"]) == (content, content)
    assert Recipe(replace=False).copy(source, "a b", to, "d/c") is None
    source.move("a b", "moved", to)
    assert (to["moved"], list(source)) == (content, [])


@pytest.mark.parametrize("new", ["gzip", "zstd", "none", "br"])
@pytest.mark.parametrize("old", [None, "gzip", "zstd"])
@pytest.mark.parametrize("content", [b"", CONTENT, LARGE], ids=["empty", "small", "large"])
def test_reencoding(memory, folder, old, new, content):
    for module in ("brotli", "zstandard"):
        pytest.importorskip(module)
    memory.put("a", content, compress=old)
    memory.transfer_to(folder, ["a"], reencode=new)
    suffix = {"gzip": ".gz", "zstd": ".zstd", "br": ".br", "none": ""}[new]
    assert list(folder) == [f"a{suffix}"]
    assert folder.get("a") == content


def test_copy_of_what_is_missing(memory, folder):
    for source, to in [(memory, folder), (folder, memory), (memory, memory), (folder, folder)]:
        with pytest.raises(ObjectNotFoundError) as caught:
            source.copy("missing", "b", to)
        assert caught.value.url == source.address("missing")
        assert list(to) == []


def test_replace_false_leaves_alone_what_is_there(memory, folder):
    memory.put([("a", b"new"), ("b", b"new")])
    folder.put("a", b"old")
    report = memory.transfer_to(folder, replace=False)
    assert sorted(report.succeeded) == ["a", "b"]
    assert (folder["a"], folder["b"]) == (b"old", b"new")


# -- many --------------------------------------------------------------------------------------


def filled(store, count=60):
    expected = {f"d/{number:03}": b"%d " % number * number for number in range(count)}
    store.put(expected.items())
    return expected


def contents(store):
    return {result.name: result.content for result in store.get(store.list())}


@pytest.mark.parametrize("ordered", [False, True])
def test_get_with_worker_processes(folder, ordered):
    expected = filled(folder, 200)
    asked = [*expected, ("d/100", 0, 3), "missing", "../outside"]
    found = [*folder.get(iter(asked), parallel=2, ordered=ordered, errors="return")]
    good = {(r.name, r.start): r.content for r in found if r.error is None}
    assert good == {(name, None): content for name, content in expected.items()} | {
        ("d/100", 0): b"100"
    }
    assert sorted(type(r.error).__name__ for r in found if r.error) == [
        "ObjectNotFoundError",
        "UnsafeNameError",
    ]
    if ordered:
        assert [r.name for r in found] == [a if isinstance(a, str) else a[0] for a in asked]


def test_get_with_worker_processes_raises(folder):
    filled(folder)
    with pytest.raises(ObjectNotFoundError, match="missing"):
        list(folder.get(["d/001", "missing"], parallel=2))


def test_get_with_worker_processes_closed_early(folder):
    expected = filled(folder)
    found = folder.get(itertools.cycle(expected), parallel=2)
    assert next(found).content is not None
    found.close()


@pytest.mark.integration
def test_get_with_worker_processes_from_a_bucket(bucket):
    expected = filled(bucket)
    found = {r.name: r.content for r in bucket.get(expected, parallel=2)}
    assert found == expected


def test_memory_is_not_asked_for_in_other_processes(memory, folder):
    expected = filled(memory)
    assert {r.name: r.content for r in memory.get(expected, parallel=2)} == expected
    filled(folder)
    items = ((folder, name, name) for name in expected)
    target = Store(memory.url.replace("mem:", "mem://", 1) + "/target")
    assert all(copied.error is None for copied in copies(items, target, parallel=2))
    assert contents(target) == expected
    with pytest.raises(ConfigError, match="in this process alone"):
        list(copies([(memory, "d/001", "a")], folder, parallel=2))


def test_exact_names_stay_exact_in_other_processes(folder):
    folder.put("a", b"1", compress="gzip")
    folder.exact = True
    found = list(folder.get(["a", "a.gz"], parallel=2, errors="return"))
    assert sorted(result.error is None for result in found) == [False, True]


@pytest.mark.parametrize("parallel", [1, 2])
@pytest.mark.parametrize("move", [False, True])
def test_copies(folder, tmp_path, parallel, move):
    expected = filled(folder)
    to = Store(str(tmp_path / "to"))
    items = [(folder, name, f"n/{name}") for name in [*expected, "missing"]]
    found = {copied.name: copied for copied in copies(items, to, parallel=parallel, move=move)}
    assert isinstance(found.pop("missing").error, ObjectNotFoundError)
    assert {name: copied.target for name, copied in found.items()} == {
        n: f"n/{n}" for n in expected
    }
    assert all(copied.error is None for copied in found.values())
    assert all(copied.began <= copied.ended for copied in found.values())
    assert contents(to) == {f"n/{name}": content for name, content in expected.items()}
    assert contents(folder) == ({} if move else expected)


def test_failures_are_reported_and_tried_again_alone(server, folder):
    expected = {f"n{number}": b"%d" % number for number in range(30)}
    server.contents |= expected
    server.script("n7", 404)
    server.script("n9", 403)
    with pytest.raises(BatchError, match="2 of 30") as caught:
        Store(server.url).transfer_to(folder, expected)
    report = caught.value.report
    assert sorted(report.failed) == ["n7", "n9"]
    before = len(server.requests)
    assert sorted(report.retry().succeeded) == ["n7", "n9"]
    assert len(server.requests) == before + 2
    assert contents(folder) == expected


def test_progress_of_a_transfer(memory, folder):
    memory.put([("small", CONTENT), ("large", LARGE)])
    events = []
    memory.transfer_to(folder, progress=events.append)
    for name, size in [("small", len(CONTENT)), ("large", len(LARGE))]:
        mine = [event for event in events if event.name == name]
        assert mine[0].state == "start"
        assert (mine[-1].state, mine[-1].done) == ("done", size)
        moved = [event.done for event in mine if event.state == "bytes"]
        assert moved == sorted(moved)
        assert (moved[0], moved[-1]) == (0, size)


# -- interrupted, closed, endless --------------------------------------------------------------


def test_names_that_raise(memory, folder):
    filled(memory)

    def names():
        yield "d/001"
        raise RuntimeError("the names")

    ways = [
        lambda: list(memory.get(names())),
        lambda: list(memory.get(names(), ordered=True)),
        lambda: memory.stat(names()),
        lambda: memory.delete(names()),
        lambda: memory.touch(names()),
        lambda: memory.transfer_to(folder, names()),
        lambda: memory.put((name, b"") for name in names()),
        lambda: list(copies(((memory, name, name) for name in names()), folder)),
    ]
    for way in ways:
        with pytest.raises(RuntimeError, match="the names"):
            way()


@pytest.mark.parametrize("ordered", [False, True])
def test_endless_names_and_a_slow_consumer(memory, ordered):
    memory.put("a", b"1")
    taken = itertools.count()
    found = memory.get(("a" for _ in itertools.count() if next(taken) >= 0), ordered=ordered)
    for done in range(1, 100):
        next(found)
        ahead = next(taken) - done
        assert ahead < 100 + 4 * memory.threads  # asking counts too
    found.close()


def test_endless_transfer_that_is_closed(memory, folder):
    memory.put("a", LARGE)
    found = copies(((memory, "a", f"c{number}") for number in itertools.count()), folder, threads=3)
    assert [next(found).error for _ in range(5)] == [None] * 5
    found.close()
    assert all(folder.size(name) == len(LARGE) for name in folder)
    assert not [name for name in os.listdir(folder.root) if name.endswith(".tmp")]


def test_interrupt_in_the_consumer_ends_the_workers(server):
    server.contents |= {f"n{number}": CONTENT for number in range(50)}

    def consume():
        for number, _ in enumerate(Store(server.url).get([f"n{n}" for n in range(50)])):
            if number == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    wait_for(lambda: not ours())
    assert len(server.settled()) < 50


@pytest.mark.parametrize("threads", [1, 4])
def test_interrupt_while_objects_are_copied(memory, folder, threads):
    memory.put((f"n{number}", LARGE) for number in range(5))

    def progress(event):
        if event.state == "bytes" and event.done > BLOCK:
            raise KeyboardInterrupt

    items = ((memory, f"n{number}", f"n{number}") for number in range(5))
    with pytest.raises(KeyboardInterrupt):
        list(copies(items, folder, threads=threads, show=progress))
    wait_for(lambda: not ours())
    assert os.listdir(folder.root) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="interrupts by signal")
@pytest.mark.parametrize("parallel", [1, 2])
def test_ctrl_c_at_the_terminal(server, tmp_path, parallel):
    """Nothing of what was under way is left, and nobody waits for a server that stalls."""
    server.contents |= {f"n{number}": LARGE for number in range(20)}
    server.script("n7", faults.stall(WHOLE))
    (tmp_path / "work.py").write_text(
        textwrap.dedent("""
            import sys
            from pkgdata.stores import Store
            from pkgdata.stores.copying import copies

            if __name__ == "__main__":
                source = Store(sys.argv[1], timeout=60)
                items = ((source, f"n{number}", f"n{number}") for number in range(20))
                found = copies(items, Store(sys.argv[2]), parallel=int(sys.argv[3]), threads=4)
                try:
                    for copied in found:
                        pass
                except KeyboardInterrupt:
                    print("interrupted", flush=True)
        """)
    )
    process = subprocess.Popen(
        [sys.executable, tmp_path / "work.py", server.url, tmp_path / "to", str(parallel)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )
    assert server.stalled.wait(WAIT)
    os.killpg(process.pid, signal.SIGINT)
    try:
        said = process.communicate(timeout=WAIT)[0]
    finally:
        server.release()
    assert said.strip() == "interrupted"
    found = os.listdir(tmp_path / "to") if (tmp_path / "to").exists() else []
    assert "n7" not in found
    assert all(os.path.getsize(tmp_path / "to" / n) == len(LARGE) for n in found if "." not in n)
    assert process.returncode == 0


def test_errors_of_one_do_not_hide_the_others(memory):
    expected = filled(memory)
    found = [*memory.get([*expected, "missing"], errors="return")]
    assert len(found) == len(expected) + 1
    with pytest.raises(ObjectNotFoundError):
        list(memory.get([*expected, "missing"]))
    wait_for(lambda: not ours())


def test_move_of_an_object_onto_itself_keeps_it(folder, memory):
    for store in (folder, memory):
        store.put("a", CONTENT)
        [copied] = copies([(store, "a", "a")], store, move=True)
        assert isinstance(copied.error, StoreError)
        assert store["a"] == CONTENT
