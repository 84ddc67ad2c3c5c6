"""What is tried again, how often, and after what waits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgdata.base import retry
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
    StoreError("a", transient=True, retry_after=retry.LONGEST_ASKED),
    StoreError("a", transient=True, retry_after=0.0),
    AccessDeniedError("a", transient=True),
    IncompleteTransferError("a"),
]
FINAL = [
    StoreError("a"),
    StoreError("a", retry_after=1.0),
    StoreError("a", transient=True, retry_after=retry.LONGEST_ASKED + 1),
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


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes_is_tried_again(error):
    action, waits = Action(error, error), []
    assert retry.is_passing(error)
    assert retry.retrying(action, 2, waits.append) == "done"
    assert (action.calls, len(waits)) == (3, 2)


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_stays_is_told_at_once(error):
    action, waits = Action(error), []
    assert not retry.is_passing(error)
    with pytest.raises(type(error)) as caught:
        retry.retrying(action, 5, waits.append)
    assert caught.value is error
    assert (action.calls, waits) == (1, [])


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_the_last_error_is_told(retries):
    errors = [StoreError(str(number), transient=True) for number in range(retries + 1)]
    action, waits = Action(*errors, StoreError("one too many")), []
    with pytest.raises(StoreError, match=f"^{retries}$"):
        retry.retrying(action, retries, waits.append)
    assert (action.calls, len(waits)) == (retries + 1, retries)


def test_success_needs_no_wait():
    waits = []
    assert retry.retrying(Action(), 3, waits.append) == "done"
    assert waits == []


@given(seed=st.integers(), count=st.integers(1, 20))
def test_waits_grow_at_random_within_bounds(seed, count):
    random.seed(seed)
    waits = []
    error = StoreError("a", transient=True)
    assert retry.retrying(Action(*[error] * count), count, waits.append) == "done"
    before = retry.FIRST
    for wait in waits:
        assert retry.FIRST <= wait <= min(retry.LONGEST, 3 * before)
        before = wait


@pytest.mark.parametrize("asked", [0.0, 5.0, 59.0])
def test_retry_after_is_a_lower_bound(asked):
    waits = []
    error = StoreError("a", transient=True, retry_after=asked)
    retry.retrying(Action(error), 1, waits.append)
    assert max(asked, retry.FIRST) <= waits[0] <= max(asked, 3 * retry.FIRST)


def test_two_clients_do_not_wait_alike():
    waits = []
    error = StoreError("a", transient=True)
    for _ in range(8):
        retry.retrying(Action(error), 1, waits.append)
    assert len(set(waits)) > 1


def test_stores_follow_the_setting(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    store = Store(f"mem://{tmp_path}")
    for count in (0, 3):
        monkeypatch.setenv("PKGDATA_RETRIES", str(count))
        action = Action(*[StoreError("a", transient=True)] * 9)
        with pytest.raises(StoreError):
            store.trying(action)
        assert action.calls == count + 1
    assert len(waits) == 3
