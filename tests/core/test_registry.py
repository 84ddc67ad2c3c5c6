"""The registry: pooch's format, SHA256SUMS, and errors that name file, line and expectation."""

from __future__ import annotations

import hashlib
import pickle

import pooch
import pytest

from pkgdata.base.hashes import HEX_LENGTH, Digest
from pkgdata.core import registry
from pkgdata.core.registry import Entry, Registry
from pkgdata.errors import RegistryError, UnknownNameError, UnsafeNameError

A, B = (hashlib.sha256(text).hexdigest() for text in (b"a", b"b"))
MD5 = hashlib.md5(b"a").hexdigest()


def pooch_reads(path):
    """Return what pooch itself makes of a registry file: digests and URLs by name."""
    fetcher = pooch.create(path=path.parent, base_url="https://example.org/", registry=None)
    fetcher.load_registry(path)
    return fetcher.registry, fetcher.urls


# -- reading ---------------------------------------------------------------------------------


def test_plain_lines():
    found = Registry.parse(f"a.txt {A}\nsub/b.txt md5:{MD5}\n")
    assert list(found) == ["a.txt", "sub/b.txt"]
    assert found["a.txt"] == Entry("a.txt", Digest("sha256", A))
    assert found["sub/b.txt"] == Entry("sub/b.txt", Digest("md5", MD5))


def test_order_is_kept():
    names = ["z", "a", "m", "b"]
    assert list(Registry.parse("".join(f"{name} {A}\n" for name in names))) == names


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n", " \n", "\n  \t\n"])
def test_blank_lines_line_ends_and_a_missing_last_one(tmp_path, newline):
    path = tmp_path / "registry.txt"
    path.write_bytes(newline.join([f"  a.txt\t{A}", f"b.txt {B}"]).encode())
    found = Registry.load(path)
    assert {name: entry.digest.hex for name, entry in found.items()} == {"a.txt": A, "b.txt": B}
    assert pooch_reads(path)[0] == {"a.txt": A, "b.txt": B}


def test_the_empty_registry():
    for text in ("", "\n\n", "# nothing yet\n"):
        assert len(Registry.parse(text)) == 0


def test_quoting_is_that_of_a_shell(tmp_path):
    path = tmp_path / "registry.txt"
    path.write_text(
        f'"with blank.csv" {A}\n'
        f"'it is \"so\".txt' {A}\n"
        f"back\\ slash.txt {A}\n"
        f'"#number.txt" {B} "https://example.org/a b"\n'
    )
    found = Registry.load(path)
    assert list(found) == ["with blank.csv", 'it is "so".txt', "back slash.txt", "#number.txt"]
    assert found["#number.txt"].urls == ("https://example.org/a b",)
    digests, urls = pooch_reads(path)
    assert list(digests) == list(found)
    assert urls == {"#number.txt": "https://example.org/a b"}


def test_comments_sizes_and_urls():
    found = Registry.parse(
        "# maps\n"
        "#: size=12 url=https://example.org/1\n"
        "#: url=https://example.org/2 later=unknown\n"
        f"a.txt {A} https://example.org/0\n"
        f"b.txt {B}\n"
        "   # indented\n"
        "#:size=99\n"  # not the mark: the blank is missing
        f"c.txt {B}\n"
    )
    expected = tuple(f"https://example.org/{i}" for i in range(3))
    assert found["a.txt"] == Entry("a.txt", Digest("sha256", A), 12, expected)
    assert found["b.txt"] == Entry("b.txt", Digest("sha256", B))
    assert found["c.txt"].size is None


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = tmp_path / "registry.txt"
    path.write_text(f"a.txt {A}\n", encoding="utf-8-sig")
    assert list(Registry.load(path)) == ["a.txt"]


@pytest.mark.parametrize("alg", HEX_LENGTH)
def test_every_algorithm(alg):
    digest = f"{alg}:{'0f' * (HEX_LENGTH[alg] // 2)}"
    assert str(Registry.parse(f"a {digest}\nb {digest}\n")["b"].digest) == digest
    assert str(Registry.parse(f"a {digest.upper()}\n")["a"].digest) == digest


def test_mixed_algorithms():
    found = Registry.parse(f"a {A}\nb md5:{MD5}\nc xxh64:{'0' * 16}\nd sha256:{B.upper()}\n")
    assert [str(entry.digest) for entry in found.values()] == [
        f"sha256:{A}",
        f"md5:{MD5}",
        f"xxh64:{'0' * 16}",
        f"sha256:{B}",
    ]


# -- SHA256SUMS and its like -----------------------------------------------------------------


@pytest.mark.parametrize("alg", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("mark", ["  ", " *"])
def test_sums_files(alg, mark):
    one, two = (hashlib.new(alg, text).hexdigest() for text in (b"a", b"b"))
    text = f"{one}{mark}./a.txt\n\n{two.upper()}{mark}sub/it's a 'b' #1.txt\r\n"
    found = Registry.parse(text)
    assert {name: str(entry.digest) for name, entry in found.items()} == {
        "a.txt": f"{alg}:{one}",
        "sub/it's a 'b' #1.txt": f"{alg}:{two}",
    }


def test_sums_with_one_apostrophe():
    assert list(Registry.parse(f"{A}  it's.txt\n")) == ["it's.txt"]


def test_a_malformed_line_of_a_sums_file_is_named():
    with pytest.raises(
        RegistryError, match="SHA256SUMS, line 3: expected 'sha256 digest"
    ) as caught:
        Registry.parse(f"{A}  a\n{B}  b\n{B[:-1]}  c\n", "SHA256SUMS")
    assert (caught.value.file, caught.value.line) == ("SHA256SUMS", 3)


def test_a_sums_file_with_two_digests_for_one_name_is_refused():
    with pytest.raises(RegistryError, match="line 2: 'a' stands above with another digest"):
        Registry.parse(f"{A}  a\n{B}  a\n")
    assert len(Registry.parse(f"{A}  a\n{A}  ./a\n")) == 1


def test_a_file_whose_name_is_a_digest_is_no_sums_file():
    found = Registry.parse(f"{MD5} {A}\n")
    assert found[MD5].digest == Digest("sha256", A)


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("a.txt\n", 1, "expected 'name digest' or 'name digest url', found 'a.txt'"),
        (f"a {A}\n\nb {A} url more\n", 3, "expected 'name digest' or 'name digest url'"),
        (f"a {A}\nb {A[:-1]}\n", 2, "expected 64 hexadecimal digits for sha256"),
        (f"aa {A}\na bad\n", 2, "found 'bad', found 'a bad'"),
        (f"'a b' {A}\n'c d' bad\n", 2, "found 'bad'"),
        (f"# a bad\n  # a bad\na bad\nb {A}\n", 3, "found 'bad'"),
        (f"a {A}\nb sha257:{A}\n", 2, "unknown hash algorithm 'sha257'"),
        (f"a :{A}\n", 1, "unknown hash algorithm ''"),
        (f"a {A}\nb md5:{A}\n", 2, "expected 32 hexadecimal digits for md5"),
        (f"'a {A}\n", 1, "No closing quotation"),
        (f"a {A}\nb {A}\\\n", 2, "No escaped character"),
        (f"#: size=many\na {A}\n", 1, "expected 'size=' and a number of bytes, found 'size=many'"),
        (f"#: size=-1\na {A}\n", 1, "expected 'size='"),
        (f"#: size=٣\na {A}\n", 1, "expected 'size='"),
        (f"#: size={'9' * 5000}\na {A}\n", 1, "expected 'size='"),
        ("a " + "\ud800" * 64, 1, "expected 64 hexadecimal digits"),
        (f"a bad\na {A}\n", 1, "expected 64 hexadecimal digits"),
        (f"a {A}\na {A}\u00a0x\na bad\n", 3, "expected 64 hexadecimal digits"),
    ],
)
def test_a_malformed_line_is_named(text, line, expected):
    with pytest.raises(RegistryError) as caught:
        Registry.parse(text, "/data/registry.txt")
    assert caught.value.message.startswith(f"/data/registry.txt, line {line}: ")
    assert expected in caught.value.message
    assert (caught.value.file, caught.value.line) == ("/data/registry.txt", line)


def test_a_name_twice_with_two_digests_is_refused():
    with pytest.raises(RegistryError, match="line 3: 'a' stands on line 1 with another digest"):
        Registry.parse(f"a {A}\nb {B}\n'a' {B}\n")


def test_a_name_twice_with_one_digest_is_one_entry():
    found = Registry.parse(f"a {A}\na sha256:{A.upper()}\n")
    assert list(found) == ["a"]
    assert found["a"].digest.hex == A


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(RegistryError, match=r"none\.txt") as caught:
        Registry.load(tmp_path / "none.txt")
    assert "pkgdata registry make" in caught.value.hint
    assert caught.value.file == str(tmp_path / "none.txt")


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "registry.txt"
    path.write_bytes(b"a.txt \xff\xfe\n")
    with pytest.raises(RegistryError, match="not UTF-8 text"):
        Registry.load(path)


def test_an_unknown_name_suggests_close_ones():
    found = Registry.parse(f"maps/dust.fits {A}\nmaps/gas.fits {B}\n", "r.txt")
    with pytest.raises(
        UnknownNameError, match=r"'maps/dsut.fits' is not in the registry r\.txt"
    ) as e:
        found["maps/dsut.fits"]
    assert e.value.name == "maps/dsut.fits"
    assert e.value.close[0] == "maps/dust.fits"
    assert "did you mean 'maps/dust.fits'" in e.value.hint
    with pytest.raises(KeyError) as e:
        found["quite different"]
    assert e.value.hint == "it has 2 names; 'pkgdata list' shows them"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", '""'])
def test_an_unsafe_name_is_refused_when_it_is_asked_for(name):
    found = Registry.parse(f"{name} {A}\n")
    with pytest.raises(UnsafeNameError):
        found[next(iter(found))]
    with pytest.raises(UnsafeNameError):
        found.dumps()


def test_entries_with_unsafe_names_cannot_be_made_into_a_registry():
    with pytest.raises(UnsafeNameError, match=r"it holds the part '\.\.'"):
        Registry([Entry("../x", Digest("sha256", A))])


# -- writing ---------------------------------------------------------------------------------

ENTRIES = [
    Entry("plain.txt", Digest("sha256", A)),
    Entry("maps/with blank.csv", Digest("md5", MD5), 12),
    Entry("it's.txt", Digest("xxh64", "0" * 16), 0, ("https://example.org/?a=1&b='2'",)),
    Entry("#number", Digest("sha512", "1" * 128), None, ("https://h/1", "https://h/2", "mem://3")),
    Entry("grüße/日本.txt", Digest("sha256", B), 1 << 40),
    Entry("$HOME `x` ~.txt", Digest("blake2b", "2" * 128)),
    Entry("\ufeffmark", Digest("sha256", B)),
]


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "registry.txt"
    Registry(ENTRIES).write(path)
    found = Registry.load(path)
    assert list(found.values()) == ENTRIES
    assert found.dumps() == path.read_text(encoding="utf-8")
    assert [child.name for child in tmp_path.iterdir() if child.is_file()] == ["registry.txt"]


def test_what_is_written_is_read_by_pooch(tmp_path):
    path = tmp_path / "registry.txt"
    Registry(ENTRIES).write(path)
    digests, urls = pooch_reads(path)
    assert digests == {
        entry.name: entry.digest.hex if entry.digest.alg == "sha256" else str(entry.digest)
        for entry in ENTRIES
    }
    assert urls == {entry.name: entry.urls[0] for entry in ENTRIES if entry.urls}


def test_an_unpinned_name_cannot_be_written():
    with pytest.raises(RegistryError, match="'a' has no digest"):
        Registry([Entry("a", None)]).dumps()


# -- as a mapping ----------------------------------------------------------------------------


def test_mapping():
    found = Registry.parse(f"a {A}\nb {B}\n", "r.txt")
    assert len(found) == 2
    assert "a" in found
    assert "c" not in found
    assert found.get("c") is None
    assert [entry.name for entry in found.values()] == ["a", "b"]
    assert repr(found) == "<Registry of 2 names from r.txt>"
    assert pickle.loads(pickle.dumps(found)).dumps() == found.dumps()


def test_entries_are_values():
    one = Entry("a", Digest("sha256", A), 1, ("u",))
    assert one == Entry("a", Digest("sha256", A), 1, ("u",))
    assert len({one, Entry("a", Digest("sha256", A), 1, ("u",))}) == 1
    assert one != Entry("a", Digest("sha256", A), 2, ("u",))
    assert repr(one) == f"Entry('a', sha256:{A}, size=1, urls=('u',))"


def test_under_gives_relative_names():
    found = Registry.parse(f"maps/a {A}\nmaps/deep/b {B} mem://b\nmapsx {A}\n")
    for prefix in ("maps", "maps/", "/maps"):
        part = found.under(prefix)
        assert list(part) == ["a", "deep/b"]
        assert part["deep/b"].urls == ("mem://b",)
    assert list(found.under("")) == list(found)
    with pytest.raises(UnknownNameError, match="'map' is not in the registry"):
        found.under("map")


def test_the_digest_of_a_tree_depends_on_names_and_digests_alone():
    one = Registry.parse(f"a {A}\n#: size=3\nb {B} https://h/\n")
    two = Registry.parse(f"b {B}\na {A}\n")
    assert one.digest() == two.digest()
    lines = "".join(sorted([f"sha256:{A}  a\n", f"sha256:{B}  b\n"]))
    assert one.digest() == Digest("sha256", hashlib.sha256(lines.encode()).hexdigest())
    assert one.digest() != Registry.parse(f"a {A}\nc {B}\n").digest()


def test_pooch_mappings(tmp_path):
    found = registry.as_registry({"a": A, "b": None, "c": f"md5:{MD5}"}, {"a": "https://h/x"})
    assert found["a"] == Entry("a", Digest("sha256", A), None, ("https://h/x",))
    assert found["b"].digest is None
    assert registry.as_registry(found) is found
    assert len(registry.as_registry(None)) == 0
    path = tmp_path / "registry.txt"
    path.write_text(f"a {A}\n")
    assert list(registry.as_registry(path)) == ["a"]
    with pytest.raises(RegistryError, match="the digest of 'a': expected 64"):
        registry.as_registry({"a": "bad"})


@pytest.mark.slow
def test_a_hundred_thousand_lines(tmp_path):
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(100_000)]
    path = tmp_path / "registry.txt"
    path.write_text("".join(f"dir{i % 100}/file{i} {one}\n" for i, one in enumerate(digests)))
    found = Registry.load(path)
    assert len(found) == 100_000
    assert found["dir99/file99999"].digest.hex == digests[99_999]
    with path.open("a") as file:
        file.write(f"dir0/file0 {digests[1]}\n")
    with pytest.raises(RegistryError, match="line 100001: 'dir0/file0' stands on line 1"):
        Registry.load(path)


def test_an_error_shows_the_beginning_of_a_long_line():
    with pytest.raises(RegistryError, match=r"found 'a{200}\.\.\.'$"):
        Registry.parse("a" * 10_000_000)
