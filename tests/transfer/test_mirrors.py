"""The order of sources, the waits between rounds, and what is told when all fail."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgdata.base.retry import POLICY
from pkgdata.errors import (
    AccessDeniedError,
    AllMirrorsFailedError,
    ConfigError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    OfflineError,
    StoreError,
)
from pkgdata.stores import Primitives
from pkgdata.transfer.fetch import Mirrors, Source, first_good

NAME = "maps/dust.fits"


def busy(after=None):
    return StoreError("busy", transient=True, retry_after=after)


ABSENT = ObjectNotFoundError("absent")
DENIED = AccessDeniedError("denied", hint="log in")
BROKEN = StoreError("broken")
WRONG = IntegrityError("wrong", hint="tell", source="there", expected="a", actual="b")


class Play:
    """Sources that fail as written, then work; keeps what was asked and slept."""

    def __init__(self, **scripts):
        self.scripts = {name: list(script) for name, script in scripts.items()}
        self.sources = [Source(Primitives(f"fake://{name}"), NAME) for name in scripts]
        self.asked = []
        self.slept = []

    def attempt(self, source):
        name = source.store.url.removeprefix("fake://")
        self.asked.append(name)
        script = self.scripts[name]
        if script:
            raise script.pop(0)
        return name

    def run(self, retries=4, uniform=lambda low, high: low):
        return first_good(NAME, self.sources, self.attempt, retries, self.slept.append, uniform)


def nameless(patience):
    return StoreError("cannot resolve", transient=True, patience=patience)


# -- rounds ------------------------------------------------------------------------------------


def test_first_source_is_enough():
    play = Play(a=[], b=[])
    assert play.run() == "a"
    assert (play.asked, play.slept) == (["a"], [])


@pytest.mark.parametrize("error", [busy(), ABSENT, DENIED, BROKEN, WRONG])
def test_any_failure_leads_to_the_next_source_without_a_wait(error):
    play = Play(a=[error], b=[])
    assert play.run() == "b"
    assert (play.asked, play.slept) == (["a", "b"], [])


def test_incomplete_transfers_are_tried_again():
    play = Play(a=[IncompleteTransferError("cut")])
    assert play.run() == "a"
    assert len(play.slept) == 1


def test_rounds_keep_the_order():
    play = Play(a=[busy(), busy()], b=[busy(), busy()], c=[busy(), busy()])
    assert play.run() == "a"
    assert play.asked == ["a", "b", "c"] * 2 + ["a"]


@pytest.mark.parametrize("final", [ABSENT, DENIED, BROKEN, WRONG])
def test_final_failures_are_not_asked_again(final):
    play = Play(a=[final], b=[busy(), busy()])
    assert play.run() == "b"
    assert play.asked == ["a", "b", "b", "b"]


def test_no_wait_follows_the_last_round():
    play = Play(a=[busy()] * 9)
    with pytest.raises(AllMirrorsFailedError):
        play.run(retries=2)
    assert (len(play.asked), len(play.slept)) == (3, 2)


def test_no_wait_where_nothing_may_help():
    play = Play(a=[ABSENT], b=[DENIED])
    with pytest.raises(AllMirrorsFailedError):
        play.run()
    assert play.slept == []


@pytest.mark.parametrize("error", [ValueError("a bug"), OfflineError("off"), KeyboardInterrupt()])
def test_what_is_no_failure_of_a_source_is_passed_on(error):
    play = Play(a=[error], b=[])
    with pytest.raises(type(error)):
        play.run()
    assert play.asked == ["a"]


# -- waits -------------------------------------------------------------------------------------


@settings(database=None)
@given(seed=st.integers(), rounds=st.integers(1, 40))
def test_waits_follow_decorrelated_jitter(seed, rounds):
    play, bounds, rng = Play(a=[busy()] * rounds), [], random.Random(seed)

    def uniform(low, high):
        bounds.append((low, high))
        return rng.uniform(low, high)

    play.run(rounds, uniform)
    assert len(play.slept) == rounds
    last = POLICY.first
    for (low, high), wait in zip(bounds, play.slept, strict=True):
        assert low == POLICY.first
        assert high == last * 3
        assert POLICY.first <= wait <= min(POLICY.longest, high)
        last = wait


def test_waits_are_capped():
    play = Play(a=[busy()] * 10)
    play.run(10, lambda _, high: high)
    assert play.slept[:3] == [0.75, 2.25, 6.75]
    assert set(play.slept[3:]) == {POLICY.longest}


def test_retry_after_is_the_least_wait():
    play = Play(a=[busy(after=50), busy(after=0.001)])
    play.run()
    assert play.slept == [50, POLICY.first]


def test_retry_after_up_to_the_cap_is_obeyed():
    play = Play(a=[busy(after=POLICY.longest_asked)])
    play.run()
    assert play.slept == [POLICY.longest_asked]


def test_retry_after_beyond_the_cap_is_final():
    play = Play(a=[busy(after=POLICY.longest_asked + 1)], b=[busy()])
    assert play.run() == "b"
    assert play.asked == ["a", "b", "b"]


def test_source_is_left_alone_until_its_retry_after():
    play = Play(a=[busy(after=60)], b=[busy()] * 9)
    assert play.run(retries=4) == "a"
    assert play.asked == ["a", "b", "b", "b", "b", "a"]
    assert sum(play.slept) == 60  # the last round waits for all


def test_quick_source_is_asked_while_another_waits():
    play = Play(a=[busy(after=60)], b=[busy(), busy()])
    assert play.run(retries=4) == "b"
    assert sum(play.slept) < 60


@settings(database=None)
@given(
    afters=st.lists(st.floats(0, POLICY.longest_asked), min_size=1, max_size=4),
    others=st.integers(0, 6),
)
def test_retry_after_is_never_undercut(afters, others):
    play, due = Play(a=[busy(after) for after in afters], b=[busy()] * others), 0.0

    def attempt(source):
        nonlocal due
        if source is play.sources[0]:
            now, script = sum(play.slept), play.scripts["a"]
            assert now >= due - 1e-6
            due = now + (script[0].retry_after if script else 0.0)
        return play.attempt(source)

    found = first_good(NAME, play.sources, attempt, 6, play.slept.append, lambda low, _: low)
    assert not play.scripts[found]


# -- verdicts ----------------------------------------------------------------------------------


def test_a_name_that_is_not_resolved_is_not_waited_for_long():
    play = Play(one=[nameless(0.0)] * 9, two=[*map(nameless, (2.0, 1.0, 0.0))])
    with pytest.raises(AllMirrorsFailedError):
        play.run(retries=8, uniform=lambda low, high: high)
    assert play.asked == ["one", "two", "two", "two"]
    assert play.slept == [0.75, 1.0]


def test_another_mirror_is_waited_for_as_ever():
    play = Play(one=[nameless(2.0), nameless(0.0)], two=[busy()] * 4)
    assert play.run(uniform=lambda low, high: high) == "two"
    assert sum(play.slept) > 10
    assert play.asked.count("one") == 2


def verdict(**scripts):
    with pytest.raises((IntegrityError, AllMirrorsFailedError, ConfigError)) as caught:
        Play(**{name: [error] * 9 for name, error in scripts.items()}).run(retries=1)
    return caught.value


def test_most_useful_failure_comes_first():
    error = verdict(a=ABSENT, b=busy(), c=BROKEN, d=DENIED, e=WRONG)
    assert [kind for _, kind in error.attempts] == [
        WRONG,
        DENIED,
        BROKEN,
        error.attempts[3][1],
        ABSENT,
    ]
    assert error.attempts[3][1].transient
    lines = str(error).splitlines()
    assert lines[0] == f"cannot fetch {NAME!r} from any of 5 mirrors:"
    assert [line.strip() for line in lines[1:6]] == ["wrong", "denied", "broken", "busy", "absent"]
    assert error.hint == "tell"
    assert error.name == NAME


def test_attempts_name_their_addresses():
    error = verdict(a=ABSENT, b=DENIED)
    assert error.attempts == [(f"fake://b/{NAME}", DENIED), (f"fake://a/{NAME}", ABSENT)]


def test_last_failure_of_a_source_counts_once():
    play = Play(a=[busy(), ABSENT])
    with pytest.raises(AllMirrorsFailedError, match="from 1 mirror:") as caught:
        play.run()
    assert caught.value.attempts == [(f"fake://a/{NAME}", ABSENT)]


def test_absent_everywhere_points_at_the_authors():
    assert "tell the package's authors" in verdict(a=ABSENT, b=ABSENT).hint
    assert "try again later" in verdict(a=ABSENT, b=busy()).hint


def test_wrong_bytes_of_the_only_source_are_raised_as_they_are():
    assert verdict(a=WRONG) is WRONG


def test_wrong_bytes_everywhere_list_all():
    error = verdict(a=ABSENT, b=WRONG)
    assert isinstance(error, IntegrityError)
    assert (error.source, error.expected, error.actual) == ("there", "a", "b")
    assert len(error.attempts) == 2
    assert "absent" in str(error)


def test_wrong_bytes_are_no_verdict_while_another_may_recover():
    assert isinstance(verdict(a=WRONG, b=busy()), AllMirrorsFailedError)


def test_no_sources_is_a_matter_of_configuration():
    assert "dataurl" in verdict().hint


# -- where an object should be -----------------------------------------------------------------


def addresses(bases, *, rules=None, own=(), name=NAME, **values):
    found = Mirrors(bases, rules or {}, 1.0, values).sources(name, own)
    return [source.address for source in found]


def test_sources_keep_the_order_and_own_addresses_come_first():
    found = addresses(["http://b.org/x/", "http://a.org"], own=["http://c.org/other?v=1"])
    assert found == [
        "http://c.org/other?v=1",
        f"http://b.org/x/{NAME}",
        f"http://a.org/{NAME}",
    ]


def test_duplicates_count_once():
    bases = ["http://a.org/x", "http://b.org/", "http://a.org/x/", "http://a.org/x"]
    own = [f"http://b.org/{NAME}"]
    assert addresses(bases, own=own) == [f"http://b.org/{NAME}", f"http://a.org/x/{NAME}"]


def test_rewritten_urls_that_coincide_count_once():
    rules = {"http://a.org/": "http://site.example/", "http://b.org/": "http://site.example/"}
    found = addresses(["http://a.org/", "http://b.org/"], rules=rules)
    assert found == [f"http://site.example/{NAME}"]


def test_placeholders_are_filled():
    found = addresses(["http://a.org/{package}/{version}/"], version="1.2", package="mypkg")
    assert found == [f"http://a.org/mypkg/1.2/{NAME}"]


def test_unknown_version_is_told():
    with pytest.raises(ConfigError, match="needs the version") as caught:
        addresses(["http://me:sesame@a.org/{version}/"], version=None)
    assert "sesame" not in str(caught.value)


def test_unknown_placeholder_is_told():
    with pytest.raises(ConfigError, match="placeholder"):
        addresses(["http://a.org/{flavour}/"], version="1")


def test_version_is_not_needed_where_no_placeholder_is():
    assert addresses(["http://a.org/"], version=None) == [f"http://a.org/{NAME}"]


def test_longest_rule_wins():
    rules = {"http://a.org/": "http://short.org/", "http://a.org/x/": "http://long.org/"}
    assert addresses(["http://a.org/x/"], rules=rules) == [f"http://long.org/{NAME}"]
    assert addresses(["http://a.org/y/"], rules=rules) == [f"http://short.org/y/{NAME}"]


def test_rules_apply_to_own_addresses_and_may_lead_to_a_folder(tmp_path):
    rules = {"https://a.org/": f"{tmp_path.as_uri()}/"}
    found = addresses([], rules=rules, own=["https://a.org/d/m.fits"])
    assert found == [f"{tmp_path.as_uri()}/d/m.fits"]


def test_addresses_hide_secrets_but_requests_keep_them():
    (source,) = Mirrors(["http://me:sesame@a.org/?token=sesame"], {}, 1.0, {}).sources(NAME)
    assert source.address == f"http://***@a.org/{NAME}?token=***"
    assert source.store._full(source.name) == f"http://me:sesame@a.org/{NAME}?token=sesame"


def test_timeout_reaches_the_store():
    (source,) = Mirrors(["http://a.org/"], {}, 7.0, {}).sources(NAME)
    assert source.store.timeout == 7.0


def test_unknown_scheme_is_told():
    with pytest.raises(ConfigError, match="gopher"):
        addresses(["gopher://a.org/"])
