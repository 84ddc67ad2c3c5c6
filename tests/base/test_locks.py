"""Locks: what a wait ends with, and what happens where ``flock`` is not what it seems."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import filelock
import pytest
from flock_shim import build_shim

import pkgdata
from pkgdata import CacheLockTimeoutError
from pkgdata.base import locks
from pkgdata.base.locks import ALONE, DONE, HELD, KeyLock, UsageLock

no_flock = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")


class Time:
    """A clock that only sleeping moves, with something to happen at given moments."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []
        self.at: list[tuple[float, object]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        while self.at and self.at[0][0] <= self.now:
            self.at.pop(0)[1]()


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "key.lock")


@pytest.fixture
def held(path):
    """The lock, held by somebody else."""
    lock = KeyLock(path, 1.0)
    assert lock.acquire(never, nothing) == HELD
    yield lock
    lock.release()


def never() -> bool:
    return False


def nothing() -> None:
    return None


# -- outcomes ----------------------------------------------------------------------------------


def test_free_lock_is_held_at_once(path, time):
    lock = KeyLock(path, 60, time.clock, time.sleep)
    assert lock.acquire(never, nothing) == HELD
    assert time.sleeps == []
    lock.release()
    again = KeyLock(path, 60, time.clock, time.sleep)
    assert again.acquire(never, nothing) == HELD
    again.release()


def test_waiting_ends_after_the_timeout(path, held, time):
    told: list[float] = []
    waiting = KeyLock(path, 3, time.clock, time.sleep)
    assert waiting.acquire(never, nothing, told.append) == ALONE
    assert 3 <= time.now < 3.1
    assert told[0] == 0
    assert told == sorted(told)
    assert max(time.sleeps) <= 0.1, "a result is noticed soon"
    waiting.release()  # it holds nothing, so nothing is given back
    assert KeyLock(path, 0).acquire(never, nothing) == ALONE


def test_no_timeout_at_all_still_asks_once(path, held, time):
    assert KeyLock(path, 0, time.clock, time.sleep).acquire(never, nothing) == ALONE
    assert time.sleeps == []


def test_progress_restarts_the_timeout(path, held, time):
    """The holder writes until t = 10; the wait ends one timeout later."""
    lock = KeyLock(path, 2, time.clock, time.sleep)
    assert lock.acquire(never, lambda: min(int(time.now), 10)) == ALONE
    assert 12 <= time.now < 12.2


def test_done_ends_the_wait(path, held, time):
    lock = KeyLock(path, 60, time.clock, time.sleep)
    assert lock.acquire(lambda: time.now >= 5, nothing) == DONE
    assert 5 <= time.now < 5.2
    assert lock._lock is None


def test_released_lock_is_taken(path, held, time):
    time.at = [(4.0, held.release)]
    lock = KeyLock(path, 60, time.clock, time.sleep)
    assert lock.acquire(never, nothing) == HELD
    assert 4 <= time.now < 4.2
    lock.release()


@posix
def test_removed_lock_file_ends_the_wait(path, held, time):
    """A holder that has finished its work removes the file, then gives the lock back."""

    def finish() -> None:
        held.remove()
        held.release()

    time.at = [(4.0, finish)]
    lock = KeyLock(path, 60, time.clock, time.sleep)
    assert lock.acquire(never, nothing) == HELD
    lock.remove()
    lock.release()
    assert not os.path.exists(path)


@posix
def test_only_the_holder_removes_the_file(path, held):
    KeyLock(path, 0).remove()
    assert os.path.exists(path)


def test_threads_of_one_process_exclude_one_another(path, held):
    outcomes: list[str] = []
    thread = threading.Thread(
        target=lambda: outcomes.append(KeyLock(path, 0).acquire(never, nothing))
    )
    thread.start()
    thread.join()
    assert outcomes == [ALONE]


def test_lock_file_in_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        KeyLock(str(tmp_path / "absent" / "key.lock"), 1).acquire(never, nothing)


def test_error_that_is_no_refusal_is_raised(path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="Windows has no fcntl")
    monkeypatch.setattr(fcntl, "flock", fails_with(errno.EIO))
    with pytest.raises(OSError) as caught:
        KeyLock(path, 1).acquire(never, nothing)
    assert caught.value.errno == errno.EIO


# -- no flock ------------------------------------------------------------------------------------


def fails_with(number: int):
    def flock(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    return flock


@posix
@pytest.mark.parametrize("number", no_flock, ids=errno.errorcode.get)
def test_soft_lock_where_there_is_no_flock(path, time, monkeypatch, number):
    import fcntl

    monkeypatch.setattr(fcntl, "flock", fails_with(number))
    assert not locks.flock_works(path)
    lock = KeyLock(path, 60)
    assert lock.acquire(never, nothing) == HELD
    assert isinstance(lock._lock, filelock.SoftFileLock)
    assert os.path.exists(path + ".soft")
    second = KeyLock(path, 3, time.clock, time.sleep)
    assert second.acquire(never, nothing) == ALONE
    lock.release()
    assert not os.path.exists(path + ".soft")
    assert KeyLock(path, 60).acquire(never, nothing) == HELD


@posix
@pytest.mark.parametrize("number", no_flock, ids=errno.errorcode.get)
def test_usage_lock_protects_nothing_where_there_is_no_flock(path, monkeypatch, number):
    import fcntl

    monkeypatch.setattr(fcntl, "flock", fails_with(number))
    with UsageLock(path, exclusive=True, timeout=0), UsageLock(path, exclusive=True, timeout=0):
        pass


HOLD_AND_DIE = """
import fcntl, os, signal, sys
def flock(fd, operation):
    raise OSError(38, "no flock")
fcntl.flock = flock
from pkgdata.base.locks import KeyLock
lock = KeyLock(sys.argv[1], 1)
assert lock.acquire(lambda: False, lambda: None) == "held"
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": checkout, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@posix
@pytest.mark.skipif(
    tuple(map(int, filelock.__version__.split(".")[:2])) < (3, 22),
    reason="filelock 3.22 was the first to break the soft lock of a dead process",
)
def test_soft_lock_of_a_killed_process_is_taken(path, monkeypatch):
    import fcntl

    assert run(HOLD_AND_DIE, path).returncode == -9
    assert os.path.exists(path + ".soft")
    monkeypatch.setattr(fcntl, "flock", fails_with(errno.ENOSYS))
    lock = KeyLock(path, 30)
    assert lock.acquire(never, nothing) == HELD
    lock.release()


# -- the usage lock --------------------------------------------------------------------------------


@posix
def test_usage_is_shared(path):
    removing, using = UsageLock(path, True, 0), UsageLock(path, False, 0)
    refused = pytest.raises(CacheLockTimeoutError, match="programs that use it")
    with using, UsageLock(path, False, 0), refused:
        removing.__enter__()
    refused = pytest.raises(CacheLockTimeoutError, match="a program that removes files")
    with removing, refused:
        using.__enter__()
    with removing:
        pass


@posix
def test_usage_lock_closes_its_file(path):
    before = os.listdir("/dev/fd")
    with UsageLock(path, True, 0):
        for exclusive in (True, False):
            with pytest.raises(CacheLockTimeoutError):
                UsageLock(path, exclusive, 0).__enter__()
    assert len(os.listdir("/dev/fd")) == len(before)


# -- the same for real: the C library's flock answers as told --------------------------------------

PROBE = """
import sys
import filelock
from pkgdata.base.locks import KeyLock, UsageLock, flock_works
path = sys.argv[1]
lock, second = KeyLock(path, 0), KeyLock(path, 0)
print(flock_works(path), lock.acquire(lambda: False, lambda: 0), type(lock._lock).__name__)
print(second.acquire(lambda: False, lambda: 0))
with UsageLock(path + ".usage", True, 0):
    try:
        UsageLock(path + ".usage", True, 0).__enter__()
        print("everybody")
    except TimeoutError:
        print("one")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="the shim is preloaded as on Linux")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", ["True held _Flock", "alone", "one"]),
        ("granted", ["True held _Flock", "held", "everybody"]),
        ("ENOSYS", ["False held SoftFileLock", "alone", "everybody"]),
        ("ENOLCK", ["False held SoftFileLock", "alone", "everybody"]),
    ],
)
def test_flock_as_the_system_answers(shim, path, answer, expected):
    done = run(PROBE, path, LD_PRELOAD=shim, FLOCK_SHIM=answer)
    assert (done.stderr, done.stdout.splitlines()) == ("", expected)


@posix
@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOENT])
def test_a_lock_file_that_was_removed_on_a_server_is_no_error(path, monkeypatch, code):
    """NFS and FUSE answer so for a file that has lost its name; the next turn makes another."""
    lock, real, calls = locks._Flock(path), os.fstat, []

    def fstat(fd: int) -> os.stat_result:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(code, os.strerror(code))
        return real(fd)

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(TimeoutError):
        lock.acquire(blocking=False)
    lock.acquire(blocking=False)
    lock.release()


# -- links, and explaining -----------------------------------------------------------------------


@posix
@pytest.mark.parametrize("kind", ["key", "usage"])
def test_a_symbolic_link_is_not_followed(tmp_path, path, kind):
    (tmp_path / "victim").write_bytes(b"")
    os.symlink(tmp_path / "victim", path)
    with pytest.raises(OSError, match="is a symbolic link, which is not followed; remove it"):
        if kind == "key":
            KeyLock(path, 1.0).acquire(never, nothing)
        else:
            UsageLock(path, exclusive=False, timeout=1.0).__enter__()
    assert os.path.islink(path)


def test_a_long_wait_is_logged_once(path, held, time, caplog):
    lock = KeyLock(path, 60.0, time.clock, time.sleep)
    time.at.append((20.0, held.release))
    assert lock.acquire(never, nothing) == HELD
    lock.release()
    (record,) = caplog.records
    assert f"waiting for the lock {path}" in record.getMessage()


def test_a_wait_that_is_shown_is_not_logged(path, held, time, caplog):
    lock = KeyLock(path, 60.0, time.clock, time.sleep)
    time.at.append((20.0, held.release))
    assert lock.acquire(never, nothing, lambda seconds: None) == HELD
    lock.release()
    assert caplog.records == []
