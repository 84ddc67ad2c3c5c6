"""Fixtures shared by all tests."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import traceback
import warnings

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from servers.fixtures import azurite, ceph, gcs, moto

from pkgdata.base import retry

__all__ = ["azurite", "ceph", "gcs", "isolated", "moto"]

settings.register_profile(
    "pkgdata",
    max_examples=80,
    deadline=None,  # no test depends on how fast the machine is
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("pkgdata")
# hypothesis keeps a cache beside the sources, from collection on, unless there is nowhere to put it
set_hypothesis_home_dir(os.devnull)
if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):  # glibc
    # blocks from 1 MiB on go back to the system when they are freed; else glibc raises that limit
    # to the largest block freed so far, and the heap of each thread keeps what a test has freed
    ctypes.CDLL(None).mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD
# each of a thousand processes would compile the package, and each worker rewrite all the tests
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# `nohup pytest &` ignores Ctrl-C, and what a test starts would inherit that: it could not be
# interrupted, and would run on into the next test
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def _collect():
    """Free what a module's tests made: servers and their contents lie in circles."""
    yield
    gc.collect()


def pytest_collection_finish():
    """Keep what the collection made out of later searches for garbage: it stays to the end."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name gzip's bytes by their length: they hold the time, and xdist's workers compare names."""
    return f"gzip-{len(val)}" if isinstance(val, bytes) and val[:2] == b"\x1f\x8b" else None


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Keep every test away from the user's files, settings and proxies; begin with empty memory."""
    for name in list(os.environ):
        if name.startswith("PKGDATA_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.delenv("ASTROPY_CACHE_DIR", raising=False)
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PKGDATA_PROGRESS", "0")
    if "pkgdata.stores.other" in sys.modules:  # mem:// is kept as long as the process
        for objects in sys.modules["pkgdata.stores.other"]._contents.values():
            objects.clear()


@pytest.fixture
def short_waits(monkeypatch):
    """Wait a hundredth of the time before something is tried again."""
    usual = retry.POLICY
    quick = usual._replace(first=usual.first / 100, longest=usual.longest / 100)
    monkeypatch.setattr(retry, "POLICY", quick)


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a file system of a size such as "4m", or changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() or not shutil.which("mount"):
        pytest.skip("needs root on Linux, to mount a small file system")

    def mount(size: str):
        how = f"remount,size={size}" if os.path.ismount(folder) else f"size={size},mode=755"
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _run(item, said) -> None:
    names = item._fixtureinfo.argnames
    try:
        item.obj(**{name: item.funcargs[name] for name in names})
        said.send(("passed", ""))
    except pytest.skip.Exception as reason:
        said.send(("skipped", str(reason)))
    except BaseException:
        said.send(("failed", traceback.format_exc()))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is marked `apart` in a process of its own, which ends with what it loaded."""
    if sys.platform != "linux" or pyfuncitem.get_closest_marker("apart") is None:
        return None
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # the other threads are not needed there
        process = fork.Process(target=_run, args=(pyfuncitem, there))
        process.start()
    there.close()
    with here:
        try:
            outcome, text = here.recv()
        except EOFError:
            outcome, text = "failed", "the process ended abruptly"
    process.join()
    process.close()
    if outcome == "skipped":
        pytest.skip(text)
    if outcome == "failed":
        pytest.fail(text, pytrace=False)
    return True


def _peak() -> float:
    """Return the most memory that this process has taken, in MiB; 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


_peaks: list[float] = []


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak"] = _peak()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    _peaks.append(getattr(node, "workeroutput", {}).get("peak", 0))


def pytest_terminal_summary(terminalreporter):
    """Show the peak of pytest's own memory: a test that keeps what it made shows here."""
    found = ", ".join(f"{peak:.0f} MiB" for peak in [_peak(), *_peaks])
    terminalreporter.write_line(f"peak memory of pytest itself, and of its workers: {found}")
