"""Many calls at once: every item once, in bounded memory, and nothing left behind at the end."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_for

from pkgdata.base import pool
from pkgdata.errors import StoreError

WAIT = 30


class Broke(Exception):
    """What a function or an iterable of a test raises."""


def ours():
    return [thread for thread in threading.enumerate() if thread.name == "pkgdata-store"]


@pytest.fixture(autouse=True)
def no_threads_left():
    yield
    assert ours() == []


def double(number):
    return 2 * number


def double_all(numbers):
    return [2 * number for number in numbers]


def pid_of_each(numbers):
    return [(number, os.getpid()) for number in numbers]


def fail_at_seven(numbers):
    if 7 in numbers:
        raise Broke("seven")
    return numbers


def end_at_seven(numbers):
    if 7 in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    return numbers


# -- threads -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 60),
    threads=st.integers(0, 9),
    ordered=st.booleans(),
    ahead=st.integers(1, 3),
)
def test_each_item_once(count, threads, ordered, ahead):
    found = list(pool.run(double, iter(range(count)), threads, ordered, ahead))
    expected = [(number, 2 * number, None) for number in range(count)]
    assert (found if ordered else sorted(found)) == expected


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_failures_are_results_too(threads):
    def odd(number):
        if number % 2:
            raise Broke(str(number))
        return number

    found = {item: (value, error) for item, value, error in pool.run(odd, range(20), threads)}
    for item, (value, error) in found.items():
        assert (value is None, isinstance(error, Broke)) == (bool(item % 2),) * 2
    assert len(found) == 20


def test_as_many_at_once_as_there_are_threads():
    barrier = threading.Barrier(5)
    for _ in pool.run(lambda _: barrier.wait(WAIT), range(10), 5):
        pass  # a barrier for five is passed by five at once alone
    assert not barrier.broken


def test_results_come_as_they_are_completed():
    first = threading.Event()

    def act(number):
        if number == 0:
            assert first.wait(WAIT)
        return number

    found = pool.run(act, range(5), 2)
    assert {next(found)[0] for _ in range(4)} == {1, 2, 3, 4}
    first.set()
    assert [item for item, _, _ in found] == [0]


def test_order_where_the_first_one_is_the_slowest():
    first = threading.Event()
    begun = []

    def act(number):
        begun.append(number)
        if number == 0:
            assert first.wait(WAIT)
        elif number == 7:
            first.set()
        return number

    assert [item for item, _, _ in pool.run(act, range(50), 4, ordered=True)] == list(range(50))
    assert sorted(begun) == list(range(50))


@pytest.mark.parametrize("ordered", [False, True])
def test_slow_reader_holds_the_work_back(ordered):
    taken = itertools.count()
    most = 0

    def endless():
        for number in itertools.count():
            next(taken)
            yield number

    found = pool.run(double, endless(), 4, ordered, ahead=2)
    for done in range(1, 200):
        next(found)
        most = max(most, next(taken) - 2 * done)  # asking counts one too
    assert most <= 2 * 4 + 1  # under way and waiting
    found.close()


def test_memory_stays_bounded_behind_a_slow_first_one():
    """In order, the results behind one that is slow must not pile up."""
    first, calls = threading.Event(), itertools.count()
    full = threading.Event()

    def act(number):
        if number == 0:
            assert first.wait(WAIT)
        elif next(calls) >= 2 * 4 - 2:  # as many as there is room for, the first one aside
            full.set()
        return number

    found = pool.run(act, itertools.count(), 4, ordered=True, ahead=2)
    threading.Thread(target=lambda: (full.wait(WAIT), first.set())).start()
    assert next(found)[0] == 0
    assert next(calls) <= 2 * 4
    found.close()


@pytest.mark.parametrize("after", [0, 1, 30])
@pytest.mark.parametrize("threads", [1, 2, 6])
@pytest.mark.parametrize("ordered", [False, True])
def test_what_the_iterable_raises_reaches_the_caller(after, threads, ordered):
    def items():
        yield from range(after)
        raise Broke("the names")

    with pytest.raises(Broke, match="the names"):
        for _ in pool.run(double, items(), threads, ordered):
            pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("threads", [1, 4])
def test_what_ends_a_program_ends_the_work(error, threads):
    def act(number):
        if number == 5:
            raise error
        return number

    with pytest.raises(error):
        for _ in pool.run(act, itertools.count(), threads):
            pass
    wait_for(lambda: not ours())


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("taken", [0, 1, 20])
def test_closing_early_ends_the_threads(threads, taken):
    found = pool.run(double, itertools.count(), threads)
    for _ in range(taken):
        next(found)
    found.close()
    assert ours() == []
    assert list(found) == []


def test_closing_while_the_workers_wait_for_room():
    started = threading.Semaphore(0)

    def act(number):
        started.release()
        return number

    found = pool.run(act, itertools.count(), 4, ahead=2)
    next(found)
    for _ in range(8):  # there is no room for a ninth
        assert started.acquire(timeout=WAIT)
    found.close()
    assert ours() == []


def test_closing_waits_for_what_is_under_way():
    inside, go_on, ended = threading.Event(), threading.Event(), []

    def act(number):
        if number:
            inside.set()
            assert go_on.wait(WAIT)
            ended.append(number)
        return number

    found = pool.run(act, iter([0, 1]), 2)
    next(found)
    assert inside.wait(WAIT)
    threading.Timer(0, go_on.set).start()
    found.close()
    assert ended == [1]


def test_error_of_the_consumer_ends_the_threads():
    def consume():
        for item, _, _ in pool.run(double, itertools.count(), 4):
            if item > 10:
                raise Broke("enough")

    with pytest.raises(Broke, match="enough"):
        consume()
    wait_for(lambda: not ours())


def test_interrupted_while_it_waits_for_a_result():
    """Ctrl-C does not wait for calls under way."""
    code = """
        import os, signal, threading, time
        from pkgdata.base import pool
        begun = threading.Event()
        def stuck(number):
            begun.set()
            threading.Event().wait()
        def interrupt():
            begun.wait()
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            for _ in pool.run(stuck, range(10), 4):
                pass
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    ended = run_apart(code)
    assert (ended.returncode, ended.stdout.strip()) == (0, "interrupted")


def test_items_that_are_taken_one_at_a_time():
    """Generators may not be entered by two threads at once."""
    inside = threading.Lock()

    def items():
        for number in range(500):
            assert inside.acquire(blocking=False)
            inside.release()
            yield number

    assert len(list(pool.run(double, items(), 8))) == 500


def test_pools_within_pools():
    def inner(number):
        return sum(value for _, value, _ in pool.run(double, range(number), 3))

    found = {item: value for item, value, _ in pool.run(inner, range(10), 3)}
    assert found == {number: number * (number - 1) for number in range(10)}


# -- memory that is shared ---------------------------------------------------------------------


def test_room_is_waited_for():
    room, order = pool.Room(10), []
    inside, leave = threading.Event(), threading.Event()

    def take(name, amount, wait):
        with room.taking(amount):
            order.append(name)
            if wait:
                inside.set()
                assert leave.wait(WAIT)

    first = threading.Thread(target=take, args=("first", 8, True))
    first.start()
    assert inside.wait(WAIT)
    take("small", 2, False)
    second = threading.Thread(target=take, args=("second", 3, False))
    second.start()
    assert order == ["first", "small"]
    leave.set()
    first.join()
    second.join()
    assert order == ["first", "small", "second"]


def test_who_wants_more_than_there_is_gets_all_of_it():
    room = pool.Room(10)
    with room.taking(1000):
        pass
    with pytest.raises(Broke), room.taking(10):
        raise Broke
    with room.taking(10):  # was given back
        pass


# -- lists -------------------------------------------------------------------------------------


@given(count=st.integers(0, 300), size=st.integers(1, 70), most=st.one_of(st.just(0), st.just(64)))
def test_chunks(count, size, most):
    found = list(pool.chunks(iter(range(count)), size, most))
    assert [number for part in found for number in part] == list(range(count))
    assert all(found)
    assert all(len(part) <= max(size, most) for part in found)


def test_chunks_grow():
    assert [len(part) for part in pool.chunks(range(100), 1, 16)] == [
        1,
        2,
        4,
        8,
        16,
        16,
        16,
        16,
        16,
        5,
    ]


def test_chunks_take_no_more_than_they_give():
    taken = []
    found = pool.chunks((taken.append(n) or n for n in itertools.count()), 3)
    assert next(found) == [0, 1, 2]
    assert taken == [0, 1, 2]


# -- processes ---------------------------------------------------------------------------------


def test_worker_processes():
    found = list(pool.spread(pid_of_each, range(200), 2, first=1))
    assert sorted(number for number, _ in found) == list(range(200))
    assert os.getpid() not in {pid for _, pid in found}


def test_no_items_for_worker_processes():
    assert list(pool.spread(double_all, [], 2)) == []


def test_endless_items_for_worker_processes():
    taken = itertools.count()
    found = pool.spread(double_all, (next(taken) for _ in itertools.count()), 2, first=1)
    assert len([next(found) for _ in range(5)]) == 5
    found.close()
    assert next(taken) <= 10 * pool.CHUNK
    assert no_children()


def test_error_in_a_worker_process_reaches_the_caller():
    with pytest.raises(Broke, match="seven"):
        list(pool.spread(fail_at_seven, range(20), 2, first=1))
    assert no_children()


def test_error_of_the_items_reaches_the_caller():
    def items():
        yield 1
        raise Broke("the names")

    with pytest.raises(Broke, match="the names"):
        list(pool.spread(double_all, items(), 2, first=1))
    assert no_children()


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_worker_process_that_is_killed_is_told():
    with pytest.raises(StoreError, match="a worker process ended abruptly") as caught:
        list(pool.spread(end_at_seven, range(40), 2, first=1))
    assert "fewer processes" in caught.value.hint
    assert no_children()


@pytest.mark.parametrize("way", [["-c", "import work; work.main()"], ["work.py"]])
def test_a_stranger_s_module_in_the_working_directory_is_not_run(tmp_path, way):
    """Neither where a script runs, nor where `python -c` puts that folder first."""
    ours, folder = tmp_path / "ours", tmp_path / "data"
    for made in (ours, folder):
        made.mkdir()
    (ours / "work.py").write_text(
        textwrap.dedent("""
            import multiprocessing.spawn, pickle, queue, signal, socket, sys, threading
            from pkgdata.base import pool

            def main():
                sys.path.insert(0, "")  # as in an interactive Python, which has imported these
                print(list(pool.spread(sorted, [3], 2, first=1)))

            if __name__ == "__main__":
                main()
        """)
    )
    for name in ("socket", "pickle", "queue", "signal", "multiprocessing", "threading"):
        (folder / f"{name}.py").write_text("open('executed', 'w'); raise SystemExit(9)")
    way = [str(ours / part) if part.endswith(".py") else part for part in way]
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(ours), environment()["PYTHONPATH"]])}
    if way[0] == "-c":  # the parent itself must not look there
        way[1] = f"import sys; sys.path.remove(''); {way[1]}"
    done = subprocess.run(
        [sys.executable, *way], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("[3]\n", 0), done.stderr
    assert not (folder / "executed").exists()


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_program_without_a_guard_can_use_worker_processes(tmp_path):
    program = "from pkgdata.base import pool\nprint(list(pool.spread(sorted, [3, 1], 2, first=1)))"
    (tmp_path / "plain.py").write_text(program)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "plain.py")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert sorted(done.stdout.strip()) == sorted("[3, 1]"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_worker_processes_never_outlive_their_parent(tmp_path):
    (tmp_path / "work.py").write_text(
        textwrap.dedent("""
            import os, sys, threading
            from pkgdata.base import pool

            def hang(items):
                os.write(2, f"{os.getpid()}\\n".encode())
                threading.Event().wait()

            if __name__ == "__main__":
                list(pool.spread(hang, range(10), 2, first=1))
        """)
    )
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "work.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # what a worker prints goes to standard error
        text=True,
        env=environment(),
    )
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.communicate()  # ends when nobody has the pipe open any more
    wait_for(lambda: not any(is_running(pid) for pid in workers))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


STARTED = []


@pytest.fixture(autouse=True)
def started(monkeypatch):
    """Remember each process that the pool starts."""
    start = pool.python
    STARTED.clear()
    monkeypatch.setattr(
        pool, "python", lambda *a, **k: STARTED.append(start(*a, **k)) or STARTED[-1]
    )


def no_children():
    return STARTED and all(child.poll() is not None for child in STARTED)


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def run_apart(code):
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())


# -- quick calls -------------------------------------------------------------------------------


def by_need(function, items, ordered=False, quick=lambda item: True):
    return pool.run(function, items, 4, ordered, quick=quick)


def thread_of(_):
    return threading.current_thread().name


def test_quick_calls_need_no_thread(monkeypatch):
    monkeypatch.setattr(pool, "_SLOW", WAIT)
    found = [*by_need(thread_of, range(1000))]
    assert [item for item, _, _ in found] == [*range(1000)]
    assert {name for _, name, _ in found} == {threading.current_thread().name}


@pytest.mark.parametrize("ordered", [True, False])
def test_slow_calls_get_threads(monkeypatch, ordered):
    monkeypatch.setattr(pool, "_SLOW", -1.0)
    found = [*by_need(thread_of, range(1000), ordered)]
    assert sorted(item for item, _, _ in found) == [*range(1000)]
    if ordered:
        assert [item for item, _, _ in found] == [*range(1000)]
    here = [item for item, name, _ in found if name == threading.current_thread().name]
    assert here[:2] == [0, 1], "a single slow one does not count"
    assert 3 <= len(here) < 20


def test_what_is_known_to_be_slow_gets_a_thread_at_once(monkeypatch):
    monkeypatch.setattr(pool, "_SLOW", WAIT)
    monkeypatch.setattr(pool, "_WINDOW", 3)
    found = {item: name for item, name, _ in by_need(thread_of, range(20), quick=lambda i: i != 5)}
    elsewhere = [item for item, name in found.items() if name == "pkgdata-store"]
    assert sorted(found) == [*range(20)]
    assert sorted(elsewhere) == [5, 6, 7, 8]


@given(st.lists(st.integers(0, 9), max_size=60), st.booleans(), st.booleans())
def test_each_item_once_whatever_is_quick(numbers, ordered, slow):
    def one(item):
        if item == 7:
            raise Broke("seven")
        return 2 * item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_SLOW", -1.0 if slow else WAIT)
        patch.setattr(pool, "_WINDOW", 4)
        found = [*by_need(one, iter(numbers), ordered, lambda item: item % 3)]
    assert sorted(item for item, _, _ in found) == sorted(numbers)
    assert all(isinstance(error, Broke) == (item == 7) for item, _, error in found)
    assert all(value == 2 * item for item, value, error in found if error is None)
    if ordered:
        assert [item for item, _, _ in found] == numbers


def test_an_iterable_that_fails_among_quick_calls():
    def items():
        yield from range(5)
        raise Broke("items")

    found = by_need(double, items())
    assert [next(found)[1] for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(Broke):
        next(found)
