"""What is tried again, how often, and after what waits."""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgdata.base.retry import POLICY
from pkgdata.errors import (
    AccessDeniedError,
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    StoreError,
)
from pkgdata.stores import Store

PASSING = [
    StoreError("a", transient=True),
    StoreError("a", transient=True, retry_after=120.0),
    StoreError("a", transient=True, retry_after=0.0),
    AccessDeniedError("a", transient=True),
    IncompleteTransferError("a"),
]
FINAL = [
    StoreError("a"),
    StoreError("a", retry_after=1.0),
    StoreError("a", transient=True, retry_after=120.5),
    ObjectNotFoundError("a"),
    AccessDeniedError("a"),
    IntegrityError("a"),
    ConfigError("a"),
    OSError("a"),
    RuntimeError("a"),
]


class Action:
    """Fails with each error in turn, then succeeds; counts its calls."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def retrying(action, retries, sleep=None):
    return POLICY._replace(retries=retries, sleep=sleep).call(action)


def test_the_waits_and_the_cap():
    """A server may hold a process up for two minutes, never for hours."""
    assert (POLICY.first, POLICY.longest, POLICY.longest_asked) == (0.25, 20.0, 120.0)


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes_is_tried_again(error):
    action, waits = Action(error, error), []
    assert POLICY.may_help(error)
    assert retrying(action, 2, waits.append) == "done"
    assert (action.calls, len(waits)) == (3, 2)


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_stays_is_told_at_once(error):
    action, waits = Action(error), []
    assert not POLICY.may_help(error)
    with pytest.raises(type(error)) as caught:
        retrying(action, 5, waits.append)
    assert caught.value is error
    assert (action.calls, waits) == (1, [])


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_the_last_error_is_told(retries):
    errors = [StoreError(str(number), transient=True) for number in range(retries + 1)]
    action, waits = Action(*errors, StoreError("one too many")), []
    with pytest.raises(StoreError, match=f"^{retries}$"):
        retrying(action, retries, waits.append)
    assert (action.calls, len(waits)) == (retries + 1, retries)


def test_success_needs_no_wait():
    waits = []
    assert retrying(Action(), 3, waits.append) == "done"
    assert waits == []


@given(seed=st.integers(), count=st.integers(1, 20))
def test_waits_grow_at_random_within_bounds(seed, count):
    random.seed(seed)
    waits = []
    error = StoreError("a", transient=True)
    assert retrying(Action(*[error] * count), count, waits.append) == "done"
    before = POLICY.first
    for wait in waits:
        assert POLICY.first <= wait <= min(POLICY.longest, 3 * before)
        before = wait


@pytest.mark.parametrize("asked", [0.0, 5.0, 119.0])
def test_retry_after_is_a_lower_bound(asked):
    waits = []
    error = StoreError("a", transient=True, retry_after=asked)
    retrying(Action(error), 1, waits.append)
    assert max(asked, POLICY.first) <= waits[0] <= max(asked, 3 * POLICY.first)


def test_two_clients_do_not_wait_alike():
    waits = []
    error = StoreError("a", transient=True)
    for _ in range(8):
        retrying(Action(error), 1, waits.append)
    assert len(set(waits)) > 1


def test_the_number_of_retries_is_asked_for_at_a_failure_alone():
    asked = []

    def retries():
        asked.append(1)
        return 3

    errors = [StoreError("a", transient=True)] * 2
    assert retrying(Action(), retries) == "done"
    assert asked == []
    assert retrying(Action(*errors), retries, lambda _: None) == "done"
    assert asked == [1]


def test_stores_follow_the_setting(tmp_path, monkeypatch):
    waits, own = [], threading.current_thread()

    def sleep(seconds):
        if threading.current_thread() is own:  # what an earlier test started may wait, too
            waits.append(seconds)

    monkeypatch.setattr("time.sleep", sleep)
    store = Store(f"mem://{tmp_path}")
    for count in (0, 3):
        monkeypatch.setenv("PKGDATA_RETRIES", str(count))
        action = Action(*[StoreError("a", transient=True)] * 9)
        with pytest.raises(StoreError):
            store.trying(action)
        assert action.calls == count + 1
    assert len(waits) == 3


def test_patience_bounds_the_waits():
    errors = [StoreError("a", transient=True, patience=left) for left in (0.3, 0.1, 0.0)]
    action, waits = Action(*errors), []
    with pytest.raises(StoreError):
        retrying(action, 50, waits.append)
    assert action.calls == 3
    assert 0.25 <= waits[0] <= 0.3
    assert waits[1] == 0.1
