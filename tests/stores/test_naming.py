"""Bracket expressions: one text for many prefixes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkgdata.errors import ConfigError
from pkgdata.stores import Store
from pkgdata.stores.naming import MOST, expand_brackets


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [""]),
        ("plain", ["plain"]),
        ("a[b]c", ["abc"]),
        ("[ab]", ["a", "b"]),
        ("x[ab]{2}", ["xaa", "xab", "xba", "xbb"]),
        ("[ab]{1}", ["a", "b"]),
        ("a[b]{0}c", ["ac"]),
        ("[a-c]", ["a", "b", "c"]),
        ("[0-2][a-b]", ["0a", "0b", "1a", "1b", "2a", "2b"]),
        ("[ba]", ["a", "b"]),
        ("[aab]", ["a", "b"]),
        ("[a-ca-b]", ["a", "b", "c"]),
        ("[-a]", ["-", "a"]),
        ("[a-]", ["-", "a"]),
        ("[a-a]", ["a"]),
        ("[[]", ["["]),
        ("a{2}", ["a{2}"]),
        ("a]", ["a]"]),
        ("[{}]", ["{", "}"]),
        ("[äö]", ["ä", "ö"]),
        ("d/[ab]/e", ["d/a/e", "d/b/e"]),
        ("[ab]{2}[c]", ["aac", "abc", "bac", "bbc"]),
    ],
)
def test_expressions(text, found):
    assert list(expand_brackets(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        *["[", "a[", "[a", "[]", "a[]b", "[b-a]", "[a]{", "[a]{}", "[a]{x}", "[a]{-1}", "[a]{1"],
        *["[a]{2.0}", "[a]{1000}", "[a]{ 2}", "[a]{²}"],
    ],
)
def test_wrong_expressions_are_refused(text):
    with pytest.raises(ConfigError) as caught:
        list(expand_brackets(text))
    assert repr(text)[1:-1] in str(caught.value)


def test_too_many_prefixes_are_refused_before_the_first():
    assert len(list(expand_brackets("[0-9]{5}"))) == MOST
    with pytest.raises(ConfigError, match="more than"):
        expand_brackets("[0-9]{6}")
    with pytest.raises(ConfigError, match="more than"):
        expand_brackets("[a-z]{999}")


characters = st.characters(exclude_characters="[]{}-", exclude_categories=["Cs"])


@given(
    st.lists(
        st.one_of(
            st.text(characters, max_size=5),
            st.tuples(st.text(characters, min_size=1, max_size=3), st.integers(0, 2)),
        ),
        max_size=4,
    )
)
def test_any_expression(parts):
    text, choices = "", []
    for part in parts:
        if isinstance(part, str):
            text += part
            choices.append([part])
        else:
            inside, times = part
            text += f"[{inside}]{{{times}}}"
            choices += [sorted(set(inside))] * times
    expected = ["".join(each) for each in itertools.product(*choices)]
    assert list(expand_brackets(text)) == expected


def test_listing_by_an_expression(tmp_path):
    store = Store(f"mem://{tmp_path}")
    store.put((name, b"") for name in ("x1", "x2/a", "x3", "y1", "x[12]"))
    assert list(store.list("x[12]", expand=True)) == ["x1", "x2/a"]
    assert list(store.list("[xy]1", expand=True)) == ["x1", "y1"]
    assert list(store.list("x[12]")) == ["x[12]"]
    with pytest.raises(ConfigError):
        list(store.list("x[", expand=True))
