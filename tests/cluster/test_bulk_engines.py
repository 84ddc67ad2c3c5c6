"""`Store.transfer_to(on=...)` on real engines: Dask, loky, mpi4py, Ray; and `pkgdata cp --on`."""

from __future__ import annotations

import collections
import http.server
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from waiting import wait_for

from pkgdata.base.progress import DONE
from pkgdata.cluster import bulk
from pkgdata.errors import BatchError, PkgdataWarning, StoreError
from pkgdata.stores import Store

WAIT = 60
OBJECTS = 300

pytestmark = [
    pytest.mark.integration,
    # Dask and Ray leave sockets, event loops and files to the collector of garbage
    pytest.mark.filterwarnings("default"),
]


# -- Dask ------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    distributed = pytest.importorskip(
        "distributed", reason="needs Dask: pip install 'pkgdata-cache[dask]'"
    )
    monkeypatch.chdir(tmp_path)
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as found:
        yield found


@pytest.fixture
def client(cluster):
    with cluster.get_client() as found:
        yield found


def pids(client):
    return client.run(os.getpid)


def test_dask_copies_each_object_once(client, source, to, check):
    events = []
    report = source.transfer_to(to, on=client, progress=events.append)
    check(to)
    assert sorted(report.succeeded) == sorted(source)
    ended = collections.Counter(event.name for event in events if event.state == DONE)
    assert ended == collections.Counter(source)
    assert sum(share.files for share in report.hosts.values()) == 300


def test_a_killed_worker_costs_nothing_but_time(client, source, to):
    killed = []

    def kill(event):
        if event.state == DONE and not killed:
            killed.append(next(iter(pids(client).values())))
            os.kill(killed[0], signal.SIGKILL)

    report = source.transfer_to(to, on=client, progress=kill, reencode="gzip")
    assert killed
    assert sorted(report.succeeded) == sorted(source)
    assert {name: to[name] for name in source} == {name: source[name] for name in source}
    assert sorted(to) == sorted(f"{name}.gz" for name in source)


def test_an_object_that_kills_workers_fails_alone(cluster, client, source, to):
    """Every worker of the cluster gets a copy that ends it for one name."""
    from distributed import WorkerPlugin

    class Poison(WorkerPlugin):
        def setup(self, worker):
            from pkgdata.stores import copying

            def copy(self, source, name, to, new_name, tell=None, copy=copying.Recipe.copy):
                if name == "d0/102":
                    os.kill(os.getpid(), signal.SIGKILL)
                return copy(self, source, name, to, new_name, tell)

            copying.Recipe.copy = copy

    client.register_plugin(Poison())
    cluster.scheduler.allowed_failures = 0
    names = [*source][:12]
    assert "d0/102" in names
    with pytest.raises(BatchError, match="1 of 12 files") as caught:
        source.transfer_to(to, names, on=client)
    report = caught.value.report
    assert list(report.failed) == ["d0/102"]
    assert "workers that copy it end abruptly: KilledWorker" in str(report.failed["d0/102"])
    assert sorted([*report.succeeded, "d0/102"]) == sorted(names)


class Drip(http.server.BaseHTTPRequestHandler):
    """Answers at once, but `slow` drips until the client goes."""

    begun, left = threading.Event(), threading.Event()

    def do_GET(self):
        slow = self.path.endswith("slow")
        self.send_response(200)
        self.send_header("Content-Length", str((1 << 30) if slow else 1))
        self.end_headers()
        self.wfile.write(b"x")
        end = time.monotonic() + WAIT
        while slow and time.monotonic() < end:
            self.begun.set()
            try:
                self.wfile.write(bytes(1 << 16))
            except OSError:
                self.left.set()
                return
            time.sleep(0.05)

    def log_message(self, *_):
        pass


def test_ctrl_c_ends_what_dask_is_at(client, to):
    def interrupt(event):
        if event.state == DONE:
            assert Drip.begun.wait(WAIT)
            raise KeyboardInterrupt

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Drip) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            web = Store(f"http://127.0.0.1:{server.server_port}/")
            names = [*map(str, range(bulk._FIRST)), "slow"]
            with pytest.raises(KeyboardInterrupt):
                web.transfer_to(to, names, on=client, progress=interrupt)
            assert Drip.left.wait(10)
        finally:
            server.shutdown()
    assert "slow" not in to


def test_no_worker_is_waited_for(cluster, client, source, to, monkeypatch, check):
    monkeypatch.setattr(bulk, "_PATIENCE", 0.3)
    cluster.scale(0)
    wait_for(lambda: not client.nthreads())
    timer = threading.Timer(1.5, cluster.scale, [2])
    timer.start()
    with pytest.warns(PkgdataWarning, match="no worker is there"):
        source.transfer_to(to, on=client)
    timer.join()
    check(to)


def test_a_scheduler_that_ends_hangs_nobody(tmp_path, source, to):
    distributed = pytest.importorskip("distributed")
    import dask

    cluster, quick = start_scheduler(tmp_path), {"distributed.comm.timeouts.connect": "2s"}
    try:
        with dask.config.set(quick), distributed.Client(scheduler_file=cluster.file) as client:
            killed = []

            def kill(event):
                if event.state == DONE and not killed:
                    cluster.scheduler.kill()
                    killed.append(True)

            with pytest.raises((BatchError, StoreError)) as caught:
                source.transfer_to(to, on=client, progress=kill, reencode="gzip")
    finally:
        cluster.stop()
    report = caught.value.report
    assert sorted([*report.succeeded, *report.failed]) == sorted(source)


# -- the command line ------------------------------------------------------------------------------


class Scheduler:
    """A scheduler and two workers, as programs that share a file."""

    def __init__(self, folder):
        self.file = str(folder / "scheduler.json")
        dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker"]
        here = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", self.file]
        env = {**os.environ, "PYTHONPATH": os.getcwd()}
        how = {"cwd": folder, "env": env, "stderr": subprocess.DEVNULL}
        self.scheduler = subprocess.Popen([*dask, *here, "--port", "0"], **how)
        small = ["--nthreads", "1", "--nworkers", "2", "--death-timeout", "20"]
        self.workers = subprocess.Popen([*worker, *here, *small], **how)

    def stop(self):
        for process in (self.workers, self.scheduler):
            process.terminate()
            process.wait(WAIT)


def start_scheduler(folder):
    found = Scheduler(folder)
    wait_for(lambda: os.path.exists(found.file))
    return found


def test_cp_on_a_scheduler(tmp_path, source, to, check):
    pytest.importorskip("distributed")
    cluster = start_scheduler(tmp_path)
    try:
        command = [sys.executable, "-m", "pkgdata", "cp", "-r", f"{source.root}/", f"{to.root}/"]
        done = subprocess.run(
            [*command, "--on", cluster.file], capture_output=True, text=True, timeout=WAIT
        )
    finally:
        cluster.stop()
    assert done.returncode == 0, done.stderr
    assert "300 copied" in done.stderr
    check(to)


# -- other executors -------------------------------------------------------------------------------


def test_loky(source, to, check):
    loky = pytest.importorskip("loky", reason="needs loky: pip install loky")
    with loky.ProcessPoolExecutor(2) as pool:
        report = source.transfer_to(to, on=pool)
    check(to)
    assert sorted(report.succeeded) == sorted(source)


MPI = """
    import sys
    from mpi4py.futures import MPICommExecutor
    from pkgdata.stores import Store

    with MPICommExecutor() as executor:
        if executor is not None:
            report = Store(sys.argv[1]).transfer_to(sys.argv[2], on=executor)
            print(len(report.succeeded), executor.num_workers)
"""


def test_mpi4py(source, to, check):
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'pkgdata-cache[mpi]'")
    if shutil.which("mpiexec") is None:
        pytest.skip("needs mpiexec: apt-get install openmpi-bin")
    run = ["mpiexec", "--oversubscribe", "-n", "3", sys.executable, "-c", textwrap.dedent(MPI)]
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        [*run, source.root, to.root],
        env={**os.environ, **allowed},
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["300", "2"]
    check(to)


def test_ray(source, to, check):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install ray")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    killed = []

    def kill(event):
        if event.state == DONE and not killed:
            killed.append(ray.get(ray.remote(lambda: os.getpid()).remote()))
            os.kill(killed[0], signal.SIGKILL)

    try:
        report = source.transfer_to(to, on=ray, progress=kill)
    finally:
        ray.shutdown()
    check(to)
    assert killed
    assert sorted(report.succeeded) == sorted(source)
