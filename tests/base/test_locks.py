"""Locks: what a wait ends with, and what happens where ``flock`` is not what it seems."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading

import pytest
from flock_shim import build_shim

import pkgdata
from pkgdata import CacheLockTimeoutError
from pkgdata.base import disk, fs, locks, owners
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

    def lock(self, path: str, timeout: float = 60) -> KeyLock:
        return KeyLock(path, timeout, self.clock, self.sleep)

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


def nothing() -> tuple[()]:
    return ()


# -- outcomes ----------------------------------------------------------------------------------


def test_free_lock_is_held_at_once(path, time):
    lock = time.lock(path)
    assert lock.acquire(never, nothing) == HELD
    assert time.sleeps == []
    lock.release()
    again = time.lock(path)
    assert again.acquire(never, nothing) == HELD
    again.release()


def test_waiting_ends_after_the_timeout(path, held, time):
    told: list[float] = []
    waiting = time.lock(path, 3)
    assert waiting.acquire(never, nothing, told.append) == ALONE
    assert 3 <= time.now < 3.1
    assert told[0] == 0
    assert told == sorted(told)
    assert max(time.sleeps) <= 0.9, "a result is noticed soon, by what the wait has taken"
    assert max(time.sleeps[:8]) <= 0.05, "and that of a short wait at once"
    waiting.release()  # it holds nothing, so nothing is given back
    assert KeyLock(path, 0).acquire(never, nothing) == ALONE


def test_no_timeout_at_all_still_asks_once(path, held, time):
    assert time.lock(path, 0).acquire(never, nothing) == ALONE
    assert time.sleeps == []


def test_progress_restarts_the_timeout(path, held, time):
    """The holder writes until t = 10; the wait ends one timeout later."""
    lock = time.lock(path, 2)
    assert lock.acquire(never, lambda: [("part", min(int(time.now), 10), 0)]) == ALONE
    assert 12 <= time.now < 15


def test_done_ends_the_wait(path, held, time):
    lock = time.lock(path)
    assert lock.acquire(lambda: time.now >= 5, nothing) == DONE
    assert 5 <= time.now < 6.5
    assert lock._lock is None


def test_released_lock_is_taken(path, held, time):
    time.at = [(4.0, held.release)]
    lock = time.lock(path)
    assert lock.acquire(never, nothing) == HELD
    assert 4 <= time.now < 5.3
    lock.release()


@posix
def test_removed_lock_file_ends_the_wait(path, held, time):
    """A holder that has finished its work removes the file, then gives the lock back."""

    def finish() -> None:
        held.remove()
        held.release()

    time.at = [(4.0, finish)]
    lock = time.lock(path)
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
    lock = KeyLock(path, 60)
    assert lock.acquire(never, nothing) == HELD
    second = time.lock(path, 3)
    assert second.acquire(lambda: time.now > 2, nothing) == DONE
    assert note(path).startswith(owners.token())
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
assert lock.acquire(lambda: False, tuple) == "held"
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
from pkgdata.base.locks import KeyLock, UsageLock
path, looks = sys.argv[1], []
lock, second = KeyLock(path, 10), KeyLock(path, 10)
print(lock.acquire(lambda: False, tuple))
print(second.acquire(lambda: looks.append(1) or len(looks) > 3, tuple))
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
        ("", ["held", "done", "one"]),
        ("granted", ["held", "held", "everybody"]),
        ("ENOSYS", ["held", "done", "everybody"]),
        ("ENOLCK", ["held", "done", "everybody"]),
    ],
)
def test_flock_as_the_system_answers(shim, path, answer, expected):
    done = run(PROBE, path, LD_PRELOAD=shim, FLOCK_SHIM=answer)
    assert (done.stderr, done.stdout.splitlines()) == ("", expected)


INTERRUPTED = """
import sys
from pkgdata.base import disk
from pkgdata.base.locks import KeyLock, UsageLock
disk.is_local = lambda place: False
print(KeyLock(sys.argv[1], 0.2).acquire(lambda: False, tuple))
try:
    UsageLock(sys.argv[1] + ".usage", True, 0.2).__enter__()
except TimeoutError:
    print("nobody")
"""


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="the shim is preloaded as on Linux")
def test_a_server_that_interrupts_again_and_again_costs_the_timeout(shim, path):
    done = run(INTERRUPTED, path, LD_PRELOAD=shim, FLOCK_SHIM="EINTR")
    assert (done.stderr, done.stdout.splitlines()) == ("", ["alone", "nobody"])


@posix
@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOENT])
def test_a_lock_file_that_was_removed_on_a_server_is_no_error(path, monkeypatch, code):
    """NFS and FUSE answer so for a file that has lost its name; the next turn makes another."""
    lock, real, calls = locks._Named(path), os.fstat, []

    def fstat(fd: int) -> os.stat_result:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(code, os.strerror(code))
        return real(fd)

    monkeypatch.setattr(os, "fstat", fstat)
    assert not lock.take()
    assert lock.take()
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
    lock = time.lock(path)
    time.at.append((20.0, held.release))
    assert lock.acquire(never, nothing) == HELD
    lock.release()
    (record,) = caplog.records
    assert f"waiting for the lock {path}" in record.getMessage()


def test_a_wait_that_is_shown_is_not_logged(path, held, time, caplog):
    lock = time.lock(path)
    time.at.append((20.0, held.release))
    assert lock.acquire(never, nothing, lambda seconds: None) == HELD
    lock.release()
    assert caplog.records == []


# -- hosts that do not see each other's flock ------------------------------------------------------

ELSEWHERE = "0123456789-42-deadbeef"


def note(path: str) -> str:
    with open(path + ".soft", encoding="ascii") as file:
        return file.read()


def write(path: str, who: str) -> None:
    with open(path + ".soft", "w", encoding="ascii") as file:
        file.write(who)


@pytest.fixture
def shared(path, monkeypatch):
    """Let another host hold the lock, on a file system on which each knows its own flock alone."""
    monkeypatch.setattr(disk, "is_local", lambda folder: False)
    write(path, ELSEWHERE)
    return path


def growing(clock: Time) -> list[tuple[str, int, int]]:
    return [("part", int(clock.now * 10), 0)]


@posix
def test_another_host_is_waited_for_while_its_work_grows(shared, time):
    lock = time.lock(shared, 2)
    time.at = [(20.0, lambda: os.unlink(shared + ".soft"))]
    assert lock.acquire(never, lambda: growing(time)) == HELD
    assert 20 <= time.now <= 22.5
    assert note(shared).startswith(owners.token())
    lock.release()
    assert not os.path.exists(shared + ".soft")


@posix
def test_another_host_that_shows_no_sign_of_work_is_replaced(shared, time):
    lock = time.lock(shared, 2)
    assert lock.acquire(never, nothing) == HELD
    assert 2 <= time.now < 2.5
    assert note(shared).startswith(owners.token())


@posix
def test_a_host_that_died_long_ago_costs_no_timeout(shared, time):
    """Not even if its name is older than its last bytes."""
    os.utime(shared + ".soft", (1e9, 1e9))
    lock = time.lock(shared)
    assert lock.acquire(never, lambda: [("part", 9, 10**18)]) == HELD
    assert time.now < 0.5


@posix
def test_a_host_that_died_a_moment_ago_costs_what_is_left_of_the_timeout(shared, time):
    now = os.lstat(shared + ".soft").st_mtime
    os.utime(shared + ".soft", (now - 20, now - 20))
    lock = time.lock(shared)
    assert lock.acquire(never, nothing) == HELD
    assert 35 < time.now < 42


@posix
@pytest.mark.parametrize("blind", [True, False])
def test_of_two_that_replace_a_dead_host_one_has_the_lock(shared, time, monkeypatch, blind):
    """The other comes a moment later: it looks again, or could not know yet."""
    monkeypatch.setattr(locks, "_try_flock", lambda fd, *_: True)
    late = locks._Named(shared)
    late.take()

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if note(shared) != ELSEWHERE and late.note.holder == ELSEWHERE:  # a moment later
            if blind:
                late.note._seen = late.note._facts()
            assert late.note.take_over()
            assert late.take() == blind

    lock = KeyLock(shared, 60, time.clock, sleep)
    assert lock.acquire(lambda: time.now > 90, nothing) == (DONE if blind else HELD)
    late.release()


@posix
def test_one_process_of_a_host_waits_for_the_other_hosts(shared, time, monkeypatch):
    first, second = locks._Named(shared), locks._Named(shared)
    assert not first.take()
    assert not second.take()
    asked: list[str] = []
    lstat = os.lstat
    monkeypatch.setattr(os, "lstat", lambda path: asked.append(path) or lstat(path))
    assert not second.take()
    assert asked == []
    assert not first.take()
    assert asked == [shared + ".soft"]
    first.release()
    second.release()


@posix
def test_the_others_of_a_host_leave_it_to_one_to_take_over(shared, time):
    first = locks._Named(shared)
    assert not first.take()
    lock = time.lock(shared)
    assert lock.acquire(never, nothing) == ALONE
    assert 65 <= time.now < 66
    first.release()


@posix
def test_on_a_local_disk_whoever_has_flock_has_the_lock(path, time, monkeypatch):
    """A container that was killed has left its name; it has another namespace of processes."""
    monkeypatch.setattr(disk, "is_local", lambda folder: True)
    write(path, ELSEWHERE)
    lock = time.lock(path)
    assert lock.acquire(never, nothing) == HELD
    assert time.sleeps == []
    lock.release()


@posix
def test_a_name_that_another_put_in_place_of_ours_stays(path, monkeypatch):
    monkeypatch.setattr(disk, "is_local", lambda folder: False)
    lock = KeyLock(path, 60)
    assert lock.acquire(never, nothing) == HELD
    os.unlink(path + ".soft")
    write(path, ELSEWHERE)
    lock.release()
    assert note(path) == ELSEWHERE


@posix
def test_where_no_note_can_be_written_flock_is_the_lock(path, time, monkeypatch):
    monkeypatch.setattr(disk, "is_local", lambda folder: False)
    create = fs.create_exclusive

    def full(name: str, **how: int) -> int:
        if name.endswith(".soft"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return create(name, **how)

    monkeypatch.setattr(fs, "create_exclusive", full)
    lock, second = KeyLock(path, 60), time.lock(path, 3)
    assert lock.acquire(never, nothing) == HELD
    assert second.acquire(never, nothing) == ALONE
    lock.release()


@posix
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
@pytest.mark.filterwarnings("ignore:.* was no plain file of ours")
def test_what_another_planted_costs_no_more_than_the_timeout(path, time, monkeypatch, kind):
    monkeypatch.setattr(disk, "is_local", lambda folder: False)
    plant = {
        "file": lambda name: write(path, "x" * 9999),
        "folder": os.mkdir,
        "link": lambda name: os.symlink("/etc/hostname", name),
    }
    plant[kind](path + ".soft")
    lock = time.lock(path, 3)
    assert lock.acquire(never, nothing) == HELD
    assert time.now < 4
    lock.release()


@posix
def test_the_kind_of_a_file_system_is_known():
    assert not disk.is_local("/proc")
    assert not disk.is_local("/absent")


def test_a_look_is_the_rarer_the_longer_the_wait_will_be():
    assert locks.pause(0) < 0.02
    assert locks.pause(60) > 1.5, "three requests a look are fewer than three a second"
    assert locks.pause(5, left=60) > 1.5
    assert locks.pause(5, left=0.1) < 0.2, "the end is noticed at once"
    assert locks.pause(600, left=0) < 2.5
