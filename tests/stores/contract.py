"""What every store promises: one suite, run on each kind.

A kind is tested by a subclass of `StoreContract` whose fixture ``store`` returns an empty store and
whose fixture ``fill`` puts content into it, by whatever way that kind of place is filled. What a
store cannot do, it lists in `unsupported`; the suite then checks that it says so.
"""

from __future__ import annotations

import pytest

from pkgdata.errors import (
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
    UnsafeNameError,
    UnsupportedOperationError,
)

CONTENT = bytes(range(256)) * 400

#: Names that are legal everywhere and that careless joining or quoting spoils.
NAMES = [
    "plain.txt",
    "a/b/c.txt",
    "with blank.txt",
    "per%cent.txt",
    "quoted%20already.txt",
    "a+b.txt",
    "sharp#1.txt",
    "semi;colon,comma.txt",
    "and&equals=.txt",
    "at@tilde~(1)!$'.txt",
    "ümläut-Ω-漢字-🛰.txt",
    "combining-e\u0301.txt",
    "-dash",
    ".hidden",
    "UPPER.txt",
    "dots..inside.txt",
]

UNSAFE = ["../outside.txt", "a/../../outside.txt", "..", "/etc/passwd", "a//b", "a\\b", "a/./b"]


def read(body, block=1 << 14):
    """Read a body to its end and close it."""
    buffer = memoryview(bytearray(block))
    with body:
        return b"".join(iter(lambda: bytes(buffer[: body.readinto(buffer)]), b""))


class StoreContract:
    """The suite."""

    #: Operations that this kind of store cannot do.
    unsupported: frozenset[str] = frozenset()

    @pytest.fixture
    def store(self):
        """Return an empty store."""
        raise NotImplementedError

    @pytest.fixture
    def fill(self, store):
        """Return a function of name and content that puts an object there."""
        return store.write

    @pytest.fixture
    def can(self):
        """Return a function that skips the test where the store lacks an operation."""

        def need(*verbs):
            missing = self.unsupported.intersection(verbs)
            if missing:
                pytest.skip(f"this store cannot {' or '.join(sorted(missing))}")

        return need

    # -- reading ---------------------------------------------------------------------------

    @pytest.mark.parametrize("name", NAMES)
    def test_what_was_put_is_read(self, store, fill, name):
        fill(name, CONTENT)
        fill("another.txt", b"another")
        with store.open(name) as body:
            assert body.start == 0
            assert body.size == len(CONTENT)
            assert read(body) == CONTENT

    def test_empty_object(self, store, fill):
        fill("empty", b"")
        with store.open("empty") as body:
            assert (body.start, body.size) == (0, 0)
            assert read(body) == b""

    def test_end_stays_the_end(self, store, fill):
        fill("a", b"abc")
        buffer = memoryview(bytearray(10))
        with store.open("a") as body:
            while body.readinto(buffer):
                pass
            assert body.readinto(buffer) == 0

    def test_buffer_beyond_the_count_is_left_alone(self, store, fill):
        fill("a", b"abc")
        buffer = bytearray(b"-" * 10)
        with store.open("a") as body:
            count = body.readinto(memoryview(buffer))
        assert buffer == b"abc"[:count] + b"-" * (10 - count)

    @pytest.mark.parametrize("block", [1, 7, 1 << 20])
    def test_any_buffer_will_do(self, store, fill, block):
        fill("a", CONTENT[:5000])
        assert read(store.open("a"), block) == CONTENT[:5000]

    def test_two_bodies_do_not_disturb_each_other(self, store, fill):
        fill("a", CONTENT)
        buffer = memoryview(bytearray(100))
        with store.open("a") as one, store.open("a", 1000) as two:
            one.readinto(buffer)
            two.readinto(buffer)
            assert bytes(buffer) == CONTENT[1000:1100]
            one.readinto(buffer)
            assert bytes(buffer) == CONTENT[100:200]

    def test_closing_twice_is_no_error(self, store, fill):
        fill("a", CONTENT)
        body = store.open("a")
        body.close()
        body.close()

    def test_kind_says_what_it_is(self, store, fill):
        fill("a", CONTENT)
        with store.open("a") as body:
            assert body.kind

    # -- ranges ----------------------------------------------------------------------------

    @pytest.mark.parametrize("start", [1, 1000, len(CONTENT) - 1])
    def test_reading_from_a_byte_on(self, store, fill, start):
        fill("a", CONTENT)
        with store.open("a", start) as body:
            assert body.start in (0, start)
            assert body.size == len(CONTENT)
            assert read(body) == CONTENT[body.start :]

    @pytest.mark.parametrize("beyond", [0, 1, 1000])
    def test_start_at_the_end_or_past_it(self, store, fill, beyond):
        fill("a", CONTENT)
        start = len(CONTENT) + beyond
        with store.open("a", start) as body:
            # there is no byte to go on from: all of it, or at the very end none
            assert body.start == 0 or (body.start == start and not beyond)
            assert read(body) == CONTENT[body.start :]

    def test_start_in_an_empty_object(self, store, fill):
        fill("empty", b"")
        with store.open("empty", 5) as body:
            assert body.start == 0
            assert read(body) == b""

    def test_same_validator_goes_on(self, store, fill):
        fill("a", CONTENT)
        validator = store.stat("a").validator
        with store.open("a", 1000, validator) as body:
            assert read(body) == CONTENT[body.start :]
            assert body.validator == validator

    def test_changed_object_is_begun_anew(self, store, fill):
        fill("a", CONTENT)
        validator = store.stat("a").validator
        if validator is None:
            pytest.skip("this store has no validators")
        fill("a", CONTENT[::-1] + b"more")
        with store.open("a", 1000, validator) as body:
            assert body.start == 0
            assert read(body) == CONTENT[::-1] + b"more"

    # -- asking ----------------------------------------------------------------------------

    @pytest.mark.parametrize("content", [b"", b"a", CONTENT])
    def test_stat_tells_the_size(self, store, fill, content):
        fill("a b/c", content)
        assert store.stat("a b/c").size == len(content)

    @pytest.mark.parametrize("name", ["missing", "missing/too", "here/below", "her"])
    def test_missing_objects(self, store, fill, name):
        fill("here", CONTENT)
        for ask in (store.open, store.stat):
            with pytest.raises(ObjectNotFoundError) as caught:
                ask(name)
            assert caught.value.url == store.address(name)
            assert not caught.value.transient
            assert isinstance(caught.value, FileNotFoundError)

    @pytest.mark.parametrize("name", UNSAFE)
    def test_names_that_leave_the_store_are_refused(self, store, fill, name):
        fill("a", CONTENT)
        for ask in (store.open, store.stat):
            with pytest.raises(UnsafeNameError):
                ask(name)

    def test_folder_is_no_object(self, store, fill):
        fill("folder/a", CONTENT)
        with pytest.raises(StoreError):
            store.open("folder")

    def test_addresses_are_shown_without_secrets(self, store):
        for name in ("", *NAMES):
            assert store.address(name).startswith(store.url.rstrip("/").partition("?")[0])
        assert store.url in repr(store)

    # -- writing ---------------------------------------------------------------------------

    def test_writing_replaces(self, store, can):
        can("write")
        store.write("a", CONTENT)
        store.write("a", b"short")
        assert read(store.open("a")) == b"short"

    def test_what_is_written_is_a_copy(self, store, can):
        can("write")
        content = bytearray(b"abc")
        store.write("a", content)
        content[:] = b"xyz"
        assert read(store.open("a")) == b"abc"

    @pytest.mark.parametrize("name", UNSAFE)
    def test_writing_outside_is_refused(self, store, can, name):
        can("write")
        with pytest.raises(UnsafeNameError):
            store.write(name, CONTENT)

    def test_deleting(self, store, can):
        can("write", "delete")
        store.write("a b", CONTENT)
        store.write("b", CONTENT)
        store.delete("a b")
        with pytest.raises(ObjectNotFoundError):
            store.stat("a b")
        assert store.stat("b").size == len(CONTENT)

    @pytest.mark.parametrize("name", ["missing", "missing/too", "here/below"])
    def test_deleting_what_is_missing_is_no_error(self, store, fill, can, name):
        can("delete")
        fill("here", CONTENT)
        store.delete(name)
        assert read(store.open("here")) == CONTENT

    @pytest.mark.parametrize("name", UNSAFE)
    def test_deleting_outside_is_refused(self, store, can, name):
        can("delete")
        with pytest.raises(UnsafeNameError):
            store.delete(name)

    def test_listing_is_sorted(self, store, fill, can):
        can("list")
        for name in NAMES:
            fill(name, b"x")
        assert list(store.list()) == sorted(NAMES)

    @pytest.mark.parametrize(
        ("prefix", "found"),
        [
            ("", ["a/b/c", "a/bd", "ab"]),
            ("a", ["a/b/c", "a/bd", "ab"]),
            ("a/", ["a/b/c", "a/bd"]),
            ("a/b", ["a/b/c", "a/bd"]),
            ("c", []),
        ],
    )
    def test_listing_by_prefix(self, store, fill, can, prefix, found):
        can("list")
        for name in ("ab", "a/bd", "a/b/c"):
            fill(name, b"x")
        assert list(store.list(prefix)) == found

    def test_listing_an_empty_store(self, store, can):
        can("list")
        assert list(store.list()) == []

    # -- what cannot be done ---------------------------------------------------------------

    @pytest.mark.parametrize("verb", ["write", "list", "delete"])
    def test_unsupported_operations_say_so(self, store, fill, verb):
        fill("a", CONTENT)
        act = {
            "write": lambda: store.write("b", CONTENT),
            "list": lambda: list(store.list()),
            "delete": lambda: store.delete("a"),
        }[verb]
        if verb in self.unsupported:
            with pytest.raises(UnsupportedOperationError, match=f"cannot {verb}") as caught:
                act()
            assert isinstance(caught.value, PkgdataError)
            assert read(store.open("a")) == CONTENT
        else:
            act()
