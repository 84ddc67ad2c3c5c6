"""What every store promises: one suite, run on each kind.

A kind is tested by a subclass of `StoreContract` whose fixture ``store`` returns an empty store and
whose fixture ``fill`` puts content into it, by whatever way that kind of place is filled. What a
store cannot do, it lists in `unsupported`; the suite then checks that it says so.
"""

from __future__ import annotations

import io
import pickle
import threading
from pathlib import PurePath

import pytest

from pkgdata.errors import (
    BatchError,
    ConfigError,
    ObjectExistsError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
    UnsafeNameError,
    UnsupportedOperationError,
)
from pkgdata.stores import Store, codecs

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


class Pipe:
    """A file that cannot tell its length, and that gives little at a time."""

    def __init__(self, content):
        self._file = io.BytesIO(content)

    def read(self, count):
        return self._file.read(min(count, 10_000))


class StoreContract:
    """The suite."""

    #: Operations that this kind of store cannot do.
    unsupported: frozenset[str] = frozenset()
    #: What services write in parts, and read in several.
    large = 25 << 20

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

    def test_same_validator_is_resumed(self, store, fill):
        fill("a", CONTENT)
        validator = store.stat("a").validator
        with store.open("a", 1000, validator) as body:
            assert read(body) == CONTENT[body.start :]
            assert body.validator == validator

    def test_changed_object_is_read_from_its_start(self, store, fill):
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

    # -- one or many -----------------------------------------------------------------------

    def test_one_name_may_be_a_text_or_a_path(self, store, fill):
        fill("a/b.txt", b"b")
        for name in ("a/b.txt", PurePath("a/b.txt")):
            assert store.get(name) == store[name] == b"b"
            assert b"".join(map(bytes, store.cat(name))) == b"".join(store.blocks(name)) == b"b"
            assert store.size(name) == store.stat(name).size == 1
            assert store.exists(name) is True
            assert name in store
            assert [(one.name, one.content) for one in store.get([name])] == [("a/b.txt", b"b")]
            assert store.exists([name, "none"]) == {"a/b.txt": True, "none": False}

    def test_one_name_that_is_a_path_is_written_copied_and_deleted(self, store, can):
        can("write", "delete")
        path = PurePath("a/b.txt")
        store.put(path, b"[1]")
        store.put([(PurePath("c.txt"), b"c")])
        store[PurePath("d.txt")] = b"d"
        assert store.get_json(path) == [1]
        to = Store("mem://names-of-paths")
        assert list(store.transfer_to(to, path).succeeded) == ["a/b.txt"]
        assert list(to) == ["a/b.txt"]
        store.transfer_to(to, "c.txt")
        to.copy(path, PurePath("copy.txt"))
        to.move(PurePath("copy.txt"), PurePath("moved.txt"))
        assert sorted(to) == ["a/b.txt", "c.txt", "moved.txt"]
        to.delete(prefix="")
        store.delete(path)
        store.delete([PurePath("c.txt")])
        del store[PurePath("d.txt")]
        assert store.exists([path, "c.txt", "d.txt"]) == {
            "a/b.txt": False,
            "c.txt": False,
            "d.txt": False,
        }

    def test_many_are_read(self, store, fill):
        expected = {f"d/{i}": b"%d" % i * i for i in range(50)}
        for name, content in expected.items():
            fill(name, content)
        assert {result.name: result.content for result in store.get(expected)} == expected
        found = store.get(iter(expected), ordered=True)
        assert [(result.name, result.content) for result in found] == [*expected.items()]

    def test_what_cannot_be_read_of_many(self, store, fill):
        fill("here", CONTENT)
        with pytest.raises(ObjectNotFoundError, match="missing"):
            list(store.get(["here", "missing"]))
        found = {r.name: r for r in store.get(["here", "missing", "../out"], errors="return")}
        assert found["here"].content == CONTENT
        assert isinstance(found["missing"].error, ObjectNotFoundError)
        assert isinstance(found["../out"].error, UnsafeNameError)
        assert found["missing"].content is None

    @pytest.mark.parametrize(
        ("start", "stop"),
        [
            *[(0, 10), (5, 5), (7, 3), (0, 0), (None, 4), (1000, None)],
            *[(-10, None), (-10, -4), (0, -1), (-(10**9), 3), (0, 10 * len(CONTENT))],
            *[(len(CONTENT) - 3, len(CONTENT) + 9), (len(CONTENT), None)],
            *[(len(CONTENT) + 5, None), (len(CONTENT) + 5, len(CONTENT) + 9)],
        ],
    )
    def test_ranges_are_those_of_a_slice(self, store, fill, start, stop):
        fill("a b", CONTENT)
        assert store.get("a b", start=start, stop=stop) == CONTENT[start:stop]
        assert store["a b", start:stop] == CONTENT[start:stop]

    @pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 5), (3, None), (-2, None), (2, 9)])
    def test_ranges_of_nothing_are_empty(self, store, fill, start, stop):
        fill("empty", b"")
        assert store.get("empty", start=start, stop=stop) == b""

    @pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 5), (3, None), (-2, None)])
    def test_ranges_of_what_is_missing_are_errors(self, store, start, stop):
        with pytest.raises(ObjectNotFoundError):
            store.get("missing", start=start, stop=stop)

    def test_several_ranges_of_one_object(self, store, fill):
        fill("a", CONTENT)
        spans = [(0, 3), (100, 200), (50, 50), (5000, None), (10**7, None)]
        assert store.get("a", ranges=spans) == [CONTENT[first:last] for first, last in spans]
        found = store.get([("a", 0, 3), "a", ("a", 100, 200)], ordered=True)
        assert [r.content for r in found] == [CONTENT[:3], CONTENT, CONTENT[100:200]]
        assert store.threads >= 1

    def test_questions_of_one_and_of_many(self, store, fill):
        fill("here", CONTENT)
        assert (store.exists("here"), store.exists("missing")) == (True, False)
        assert store.exists(["here", "missing"]) == {"here": True, "missing": False}
        assert (store.size("here"), store.size("missing")) == (len(CONTENT), None)
        assert store.size(["here", "missing"]) == {"here": len(CONTENT), "missing": None}
        assert "here" in store
        assert "missing" not in store
        assert store["here"] == CONTENT

    def test_json(self, store, fill):
        fill("a.json", b'{"a": [1, "\xc3\xbc"]}')
        fill("bad.json", b"{")
        assert store.get_json("a.json") == {"a": [1, "ü"]}
        assert store.get_json(["a.json", "a.json"]) == [{"a": [1, "ü"]}] * 2
        with pytest.raises(StoreError, match=r"bad\.json"):
            store.get_json("bad.json")

    def test_blocks(self, store, fill):
        fill("a", CONTENT)
        assert b"".join(map(bytes, store.blocks("a"))) == CONTENT

    def test_put_in_all_forms(self, store, can, tmp_path):
        can("write")
        (tmp_path / "file").write_bytes(CONTENT)
        with open(tmp_path / "file", "rb") as file:
            store.put("from a file", file)
        store.put("from a path", tmp_path / "file")
        store.put("array", bytearray(CONTENT))
        store.put("view", memoryview(CONTENT)[1:])
        store.put("pipe", Pipe(CONTENT))
        store["item"] = CONTENT
        store.put_json("json", {"ü": None})
        expected = dict.fromkeys(("from a file", "from a path", "array", "item"), CONTENT)
        expected |= {"view": CONTENT[1:], "pipe": CONTENT}
        assert {r.name: r.content for r in store.get([*expected])} == expected
        assert store.get_json("json") == {"ü": None}

    def test_put_many(self, store, can):
        can("write", "list")
        report = store.put((f"n/{i}", b"%d" % i) for i in range(100))
        assert len(report.succeeded) == 100
        assert {r.name: r.content for r in store.get(store.list("n/"))} == {
            f"n/{i}": b"%d" % i for i in range(100)
        }

    def test_failures_of_many_are_reported_and_tried_again(self, store, can):
        can("write")
        with pytest.raises(BatchError, match="1 of 3") as caught:
            store.put([("a", b"1"), ("../b", b"2"), ("c", b"3")])
        assert (store["a"], store["c"]) == (b"1", b"3")
        assert [*caught.value.report.failed] == ["../b"]
        with pytest.raises(BatchError, match="1 of 1"):
            caught.value.report.retry()

    @pytest.mark.parametrize("content", ["text", 5, None, object()])
    def test_what_is_no_content_is_refused(self, store, can, content):
        can("write")
        with pytest.raises(ConfigError):
            store.put("a", content)
        assert "a" not in store

    def test_large_object(self, store, can):
        can("write")
        content = bytes(range(256)) * (self.large // 256)
        store.put("large", io.BytesIO(content))
        assert store.size("large") == len(content)
        assert store["large"] == content
        assert store["large", len(content) - 5 :] == content[-5:]
        assert b"".join(map(bytes, store.blocks("large"))) == content

    @pytest.mark.parametrize("size", [100, 9 << 20])
    def test_put_if_absent(self, store, can, size):
        can("write")
        store.put("a", io.BytesIO(b"1" * size), if_absent=True)
        with pytest.raises(ObjectExistsError) as caught:
            store.put("a", io.BytesIO(b"2" * size), if_absent=True)
        assert isinstance(caught.value, FileExistsError)
        assert store["a", 0:1] == b"1"

    def test_of_many_who_put_if_absent_one_succeeds(self, store, can):
        can("write", "atomic")
        outcomes = []

        def race(number):
            try:
                store.put("a", b"%d" % number, if_absent=True)
                outcomes.append(number)
            except ObjectExistsError:
                pass

        threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(outcomes) == 1
        assert store["a"] == b"%d" % outcomes[0]

    def test_touch_leaves_alone_what_is_there(self, store, can):
        can("write")
        store["a"] = CONTENT
        store.touch(["a", "b"])
        assert (store["a"], store["b"]) == (CONTENT, b"")

    @pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
    @pytest.mark.parametrize("size", [0, 1000, 9 << 20])
    def test_compression(self, store, can, encoding, size):
        can("write", "encode")
        pytest.importorskip({"gzip": "zlib", "br": "brotli", "zstd": "zstandard"}[encoding])
        content = b"0123456789" * (size // 10)
        store.put("a.txt", io.BytesIO(content), compress=encoding)
        assert store.size("a.txt") < max(100, size)
        assert store.get("a.txt") == content
        [raw] = store.get(["a.txt"], raw=True)
        assert raw.encoding == encoding
        assert codecs.decode(raw.content, encoding) == content
        with pytest.raises(UnsupportedOperationError, match="raw=True"):
            store.get("a.txt", start=1, stop=5)
        assert store.get("a.txt", start=1, stop=5, raw=True) == raw.content[1:5]

    def test_attributes_are_kept(self, store, can):
        can("write", "attributes")
        store.put("a.bin", CONTENT, content_type="image/x-test", cache_control="max-age=5")
        store.put("b.bin", CONTENT, metadata={"owner": "me"})
        store.put("page.html", CONTENT)
        found = store.stat("a.bin").attributes
        assert (found.content_type, found.cache_control) == ("image/x-test", "max-age=5")
        assert store.stat("b.bin").attributes.metadata == {"owner": "me"}
        assert store.stat("page.html").attributes.content_type == "text/html"

    # -- listing, deleting, moving ---------------------------------------------------------

    def test_listing_one_level(self, store, fill, can):
        can("list")
        for name in ("a/b/c", "a/d", "a.txt", "ab/x", "b"):
            fill(name, b"x")
        assert list(store.list(flat=True)) == ["a.txt", "a/", "ab/", "b"]
        assert list(store.list("a", flat=True)) == ["a.txt", "a/", "ab/"]
        assert list(store.list("a/", flat=True)) == ["a/b/", "a/d"]
        assert list(store.list("a/d", flat=True)) == ["a/d"]
        assert list(store.list("nothing/", flat=True)) == []

    def test_listing_by_brackets(self, store, fill, can):
        can("list")
        for name in ("x1a", "x2a", "x3a", "xb", "x1b/c"):
            fill(name, b"x")
        assert list(store.list("x[12]", expand=True)) == ["x1a", "x1b/c", "x2a"]

    def test_listing_tells_sizes(self, store, fill, can):
        can("list")
        fill("a/b", CONTENT)
        fill("a/c", b"")
        assert {n: info.size for n, info in store.scan()} == {"a/b": len(CONTENT), "a/c": 0}
        assert store.du() == (2, len(CONTENT))
        assert store.du("a/c") == (1, 0)

    def test_deleting_many(self, store, can):
        can("write", "delete", "list")
        store.put((f"d/{i}", b"x") for i in range(20))
        store.put("e", b"x")
        store.delete(["d/1", "d/2", "never there"])
        assert "d/1" not in store
        store.delete(prefix="d/1")
        assert [name for name in store if name.startswith("d/1")] == []
        del store["d/3"]
        assert list(store) == sorted(["e", *(f"d/{i}" for i in (0, 4, 5, 6, 7, 8, 9))])
        store.delete(prefix="")
        assert list(store) == []

    def test_copy_and_move(self, store, can):
        can("write", "delete")
        store.put("a b%", CONTENT, compress="gzip" if "encode" not in self.unsupported else None)
        store.copy("a b%", "deep/er/copy+ü")
        assert store["deep/er/copy+ü"] == store["a b%"] == CONTENT
        store.move("a b%", "moved")
        assert (store["moved"], "a b%" in store) == (CONTENT, False)
        store.move("moved", "moved")
        assert store["moved"] == CONTENT
        for act in (store.copy, store.move):
            with pytest.raises(ObjectNotFoundError):
                act("missing", "b")
        assert "b" not in store

    def test_transfer_from_and_to(self, store, can, tmp_path):
        can("write", "list")
        memory = Store(f"mem://{tmp_path}/transfers")
        expected = {f"d/{i} ü": b"%d" % i * 1000 for i in range(30)} | {"empty": b"", "b": CONTENT}
        memory.put(expected.items())
        memory.put("big", io.BytesIO(CONTENT * 100))
        expected["big"] = CONTENT * 100
        report = store.transfer_from(memory)
        assert set(report.succeeded) == set(expected)
        back = Store(f"mem://{tmp_path}/back")
        store.transfer_to(back, [(name, f"back/{name}") for name in expected])
        assert {r.name: r.content for r in back.get([f"back/{name}" for name in expected])} == {
            f"back/{name}": content for name, content in expected.items()
        }
        back["back/empty"] = b"kept"
        store.transfer_to(back, [("empty", "back/empty")], replace=False)
        assert back["back/empty"] == b"kept"

    def test_transfer_of_stored_bytes(self, store, can, tmp_path):
        can("write", "encode")
        memory = Store(f"mem://{tmp_path}/stored")
        memory.put("a.txt", b"a" * 10_000, compress="gzip")
        stored = memory.get("a.txt", raw=True)
        store.transfer_from(memory)
        assert store.get("a.txt", raw=True) == stored
        assert store["a.txt"] == b"a" * 10_000
        store.transfer_to(memory, [("a.txt", "plain.txt")], reencode="none")
        assert memory.get("plain.txt", raw=True) == b"a" * 10_000

    def test_pickled(self, store, fill):
        fill("a", CONTENT)
        if store.url.startswith("mem:"):
            pytest.skip("another process has another memory")
        again = pickle.loads(pickle.dumps(store))
        assert (again.url, again["a"]) == (store.url, CONTENT)
        # the process keeps it, so that its connections are used again
        getattr(again, "close", bool)()
