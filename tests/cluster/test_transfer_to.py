"""`Store.transfer_to(on=...)`: batches of names on executors of every kind, and what they lose."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
import pickle
import signal
import socket
import threading

import pytest

from pkgdata.base.progress import DONE
from pkgdata.cluster import bulk
from pkgdata.errors import BatchError, ConfigError, ObjectNotFoundError
from pkgdata.stores import Store, copying


class Executor(concurrent.futures.Executor):
    """Runs what it is given at once and here; `meddle` is called before, and may raise."""

    num_workers = 2

    def __init__(self, meddle=lambda items: None, times=1):
        self.meddle, self.times, self.sizes, self.sent = meddle, times, [], []

    def submit(self, function, /, *arguments, **options):
        future = concurrent.futures.Future()
        (sent,) = arguments
        self.sent.append(sent)
        _, items = pickle.loads(sent)
        self.sizes.append(len(items))
        try:
            self.meddle(items)
            for _ in range(self.times):
                found = function(*arguments)
            future.set_result(found)
        except Exception as error:
            future.set_exception(error)
        return future


def names_of(items):
    return [name for _, name, _ in items]


class Loss(concurrent.futures.BrokenExecutor):
    """What Dask calls KilledWorker: the executor lives, the batch is lost."""


@pytest.fixture(autouse=True)
def losses(monkeypatch):
    monkeypatch.setattr(bulk, "_LOSSES", {*bulk._LOSSES, "Loss"})


# -- what is copied, and reported ------------------------------------------------------------------


def test_processes_copy_each_object_once(source, to, check):
    events = []
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        report = source.transfer_to(to, on=pool, progress=events.append)
    check(to)
    assert sorted(report.succeeded) == sorted(source)
    assert report.failed == {}
    ended = collections.Counter(event.name for event in events if event.state == DONE)
    assert ended == collections.Counter(source)
    (host,) = report.hosts
    assert host == socket.gethostname()
    assert report.hosts[host].files == 100
    total = sum(len(source[name]) for name in source)
    assert report.hosts[host].origin in (0, total)  # 0 if the disk itself copied


def test_threads_do_too(source, to, check):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        source.transfer_to(to, on=pool)
    check(to)


def test_names_pairs_compression_and_what_is_there(source, to):
    to["new/1"] = b"old"
    pairs = [(name, f"new/{name[3:]}") for name in source]
    report = source.transfer_to(to, pairs, on=Executor(), replace=False)
    assert sorted(report.succeeded) == sorted(source)
    assert to["new/1"] == b"old"
    assert to["new/2"] == source["d2/2"]
    source.transfer_to(to, ["d0/0"], on=Executor(), reencode="gzip")
    assert os.path.exists(f"{to.root}/d0/0.gz")


def test_failures_come_back_and_are_retried_there(source, to):
    engine = Executor()
    with pytest.raises(BatchError, match="1 of 3 files") as caught:
        source.transfer_to(to, ["d0/0", "missing", "d1/1"], on=engine)
    report = caught.value.report
    assert isinstance(report.failed["missing"], ObjectNotFoundError)
    source["missing"] = b"now"
    before = len(engine.sent)
    assert list(report.retry().succeeded) == ["missing"]
    assert len(engine.sent) == before + 1
    assert to["missing"] == b"now"


def test_a_batch_done_twice_does_no_harm_and_counts_once(source, to, check):
    events = []
    report = source.transfer_to(to, on=Executor(times=2), progress=events.append)
    check(to)
    assert len(report.succeeded) == sum(event.state == DONE for event in events) == 100
    assert report.hosts[socket.gethostname()].files == 100


def test_a_job_is_resumed_elsewhere(source, to, tmp_path, check):
    def fail(items):
        raise RuntimeError("the engine has a fault of its own")

    job = str(tmp_path / "job")
    with pytest.raises(RuntimeError, match="fault of its own"):
        source.transfer_to(to, job=job, on=Executor(fail))
    source.transfer_to(to, job=job, on=Executor())
    check(to)


# -- what workers lose -----------------------------------------------------------------------------


def test_a_batch_that_kills_workers_is_halved(source, to, check):
    def kill(items):
        if "d1/40" in names_of(items):
            raise Loss("it died")

    engine = Executor(kill)
    with pytest.raises(BatchError, match="1 of 100 files") as caught:
        source.transfer_to(to, on=engine)
    report = caught.value.report
    assert list(report.failed) == ["d1/40"]
    assert "workers that copy it end abruptly" in str(report.failed["d1/40"])
    assert len(report.succeeded) == 99
    check(to, [name for name in source if name != "d1/40"])


def test_a_killed_process_of_a_pool_fails_what_is_left_and_hides_nothing(
    source, to, monkeypatch, check
):
    def copy(self, source, name, to, new_name, tell=None, copy=copying.Recipe.copy):
        if name == "d1/40":
            os.kill(os.getpid(), signal.SIGKILL)
        return copy(self, source, name, to, new_name, tell)

    monkeypatch.setattr(copying.Recipe, "copy", copy)
    context = multiprocessing.get_context("fork")
    pool = concurrent.futures.ProcessPoolExecutor(2, context)
    with pool, pytest.raises(BatchError) as caught:
        source.transfer_to(to, on=pool)
    report = caught.value.report
    assert "d1/40" in report.failed
    assert sorted([*report.succeeded, *report.failed]) == sorted(source)
    assert "takes no more work" in str(report.failed["d1/40"])
    for name in report.succeeded:
        assert to[name] == source[name]
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="takes no more work"):
        report.retry()
    source.transfer_to(to, report.failed, on=Executor())
    check(to)


def test_a_result_that_was_lost_with_its_worker_is_waited_for(source, to, check):
    class Late(concurrent.futures.Future):
        lost = 0

        def done(self):
            return self.lost != 1

        def result(self, timeout=None):
            self.lost += 1
            if self.lost == 1:
                raise TimeoutError("not here yet")
            return super().result(timeout)

    class Engine(Executor):
        def submit(self, function, /, *arguments, **options):
            future = Late()
            future.set_result(super().submit(function, *arguments).result())
            return future

    report = source.transfer_to(to, on=Engine())
    check(to)
    assert sorted(report.succeeded) == sorted(source)


def test_a_lost_connection_to_the_engine_fails_what_is_left(source, to):
    class Lost(concurrent.futures.Future):
        def result(self, timeout=None):
            raise OSError("Timed out trying to connect")

    class Engine(Executor):
        def submit(self, function, /, *arguments, **options):
            future = Lost()
            future.set_result(None)
            return future

    with pytest.raises(BatchError, match="Timed out trying to connect") as caught:
        source.transfer_to(to, on=Engine())
    assert sorted(caught.value.report.failed) == sorted(source)


def test_workers_without_pkgdata_are_told_of(source, to):
    def lacks(items):
        raise ModuleNotFoundError("No module named 'pkgdata'", name="pkgdata")

    with pytest.raises(ConfigError, match="a worker cannot import pkgdata"):
        source.transfer_to(to, on=Executor(lacks))


def test_ctrl_c_cancels(source, to):
    class Waiting(Executor):
        def submit(self, function, /, *arguments, **options):
            if not self.sent:
                return super().submit(function, *arguments)
            futures.append(concurrent.futures.Future())
            return futures[-1]

    def interrupt(event):
        raise KeyboardInterrupt

    futures = []
    with pytest.raises(KeyboardInterrupt):
        source.transfer_to(to, on=Waiting(), progress=interrupt)
    assert futures
    assert all(future.cancelled() for future in futures)


# -- how much is under way -------------------------------------------------------------------------


def test_few_batches_are_under_way_whatever_the_number_of_names():
    taken = itertools.count()
    items = ((next(taken), "a", "a") for _ in itertools.repeat(None))
    found = bulk.spread(_same, items, Executor(), _lost)
    for _ in range(1000):
        next(found)
    found.close()
    assert next(taken) < 1000 + 2 * 2 * 2 * bulk._MOST


def _same(items):
    return items


def _lost(item, error):
    return item, error


def test_batches_grow_while_they_are_quick():
    engine = Executor()
    assert sum(1 for _ in bulk.spread(_same, ((n, "", "") for n in range(20_000)), engine, _lost))
    assert engine.sizes[0] == bulk._FIRST
    assert max(engine.sizes) == bulk._MOST


def test_no_thread_is_left(source, to):
    source.transfer_to(to, on=Executor())
    assert [thread for thread in threading.enumerate() if thread.name.startswith("pkgdata")] == []


# -- what travels ----------------------------------------------------------------------------------


def test_no_variable_of_the_sender_travels(source, to, monkeypatch):
    for name in ("MY_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AZURE_STORAGE_KEY"):
        monkeypatch.setenv(name, "hunter2-example")
    pytest.importorskip("obstore")
    engine = Executor()
    source.transfer_to(to, on=engine)
    bucket = Store("s3://bucket/prefix", region="eu-west-1")
    sent = pickle.dumps((copying._Copying(bucket, copying.AS_IT_IS), [(bucket, "a", "a")]))
    assert not any(b"hunter2" in one for one in [*engine.sent, sent])
    assert b"s3://bucket/prefix" in sent


def secrets():
    return {}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://bucket/p", {"secrets": {"access_key_id": "a", "secret_access_key": "s"}}),
        ("https://user:password@example.org/", {}),
        ("https://example.org/?sig=abcdef", {}),
    ],
)
def test_secrets_are_not_sent(source, to, url, options):
    engine = Executor()
    with pytest.raises(ConfigError, match="its secrets are not sent to other machines"):
        Store(url, **options).transfer_to(to, ["a"], on=engine)
    assert engine.sent == []


@pytest.mark.integration
def test_secrets_may_go_to_processes_of_this_machine(ceph, source, check):
    secrets = {"access_key_id": ceph.access_key, "secret_access_key": ceph.secret_key}
    bucket = Store(f"s3://{ceph.endpoint}/{ceph.make_bucket()}/here", secrets=secrets)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        source.transfer_to(bucket, on=pool)
    check(bucket)


def test_what_names_its_secrets_travels(to):
    bulk.refuse_secrets(Store("sftp://someone@example.org/folder"))
    bulk.refuse_secrets(Store("s3://bucket/p", secrets="/home/me/keys.json"))
    bulk.refuse_secrets(Store("s3://bucket/p", secrets=secrets))
    bulk.refuse_secrets(Store("github:owner/repo@v1"))
    with pytest.raises(ConfigError, match="cannot be sent to workers"):
        Store("s3://bucket/p", secrets=lambda: {"a": "b"}).transfer_to(to, ["a"], on=Executor())


def test_memory_is_refused(source, tmp_path):
    memory = Store(f"mem://{tmp_path}/memory")
    memory["a"] = b"a"
    for one, other in ((memory, source), (source, memory)):
        with pytest.raises(ConfigError, match="in this process alone"):
            one.transfer_to(other, on=Executor())


def test_a_folder_that_a_worker_does_not_have_is_refused(source, to, tmp_path):
    def leave(items):
        os.rename(tmp_path / "source", tmp_path / "away")

    with pytest.raises(ConfigError, match=r"source is not on \w+.* or is another folder there"):
        source.transfer_to(to, on=Executor(leave))
    assert [*to] == []


def test_another_folder_of_the_same_name_is_refused(source, to, tmp_path):
    def swap(items):
        os.rename(tmp_path / "source", tmp_path / "away")
        for name in names_of(items):
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"another")

    with pytest.raises(ConfigError, match="is another folder there"):
        source.transfer_to(to, on=Executor(swap))


def test_a_destination_that_is_another_on_the_worker_is_refused(source, to, tmp_path):
    def swap(items):
        os.rename(tmp_path / "to", tmp_path / "away")
        (tmp_path / "to").mkdir()

    with pytest.raises(ConfigError, match="to is not on"):
        source.transfer_to(to, on=Executor(swap))
    assert os.listdir(tmp_path / "to") == []


def test_nothing_of_the_check_stays(source, to):
    source.transfer_to(to, on=Executor())
    assert not [name for _, _, names in os.walk(to.root) for name in names if ".tmp" in name]


# -- what is no engine -----------------------------------------------------------------------------


@pytest.mark.parametrize("on", [3, "job", object(), {}])
def test_what_is_no_engine_is_refused(source, to, on):
    with pytest.raises(ConfigError, match=r"on=.* takes a Dask client"):
        source.transfer_to(to, on=on)


def test_an_executor_that_was_shut_down_is_refused(source, to):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(ConfigError, match="takes no more work"):
        source.transfer_to(to, on=pool)
