"""What holds for every name, digest, URL and text, and not only for those we thought of."""

from __future__ import annotations

import io
import os
import posixpath
import string
from urllib.parse import parse_qsl, unquote, urlsplit

import pooch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pkgdata.base import fs, hashes, urls
from pkgdata.base.hashes import HEX_LENGTH, Digest
from pkgdata.core.registry import Entry, Registry
from pkgdata.errors import RegistryError, UnsafeNameError

# -- what is drawn ---------------------------------------------------------------------------

#: Letters that have a meaning for shells, URLs, registries or file systems, more often than others.
LETTERS = st.one_of(
    st.sampled_from(" #\"'\\/.:;%?&=@$`~*|<>()[]{}!,+-_\t\n\r\0\x7f\x85\u00a0\u2028\ufeff"),
    st.sampled_from(string.ascii_letters + string.digits),
    st.characters(),
)
TEXTS = st.text(LETTERS, max_size=40)


def safe(name):
    return fs.name_problem(name, everywhere=True) is None


PARTS = st.text(
    st.one_of(
        st.sampled_from(" #\"'.:;%?&=@$`~*|<>()[]{}!,+-_\u00a0\u2028\ufeff"),
        st.sampled_from(string.ascii_letters + string.digits),
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"),
    ),
    min_size=1,
    max_size=15,
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map("/".join).filter(safe)
HEX = "0123456789abcdef"
DIGESTS = st.sampled_from(sorted(HEX_LENGTH)).flatmap(
    lambda alg: st.builds(
        Digest, st.just(alg), st.text(HEX, min_size=HEX_LENGTH[alg], max_size=HEX_LENGTH[alg])
    )
)
URL_LETTERS = string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=%"
URLS = st.text(URL_LETTERS, max_size=25).map("https://example.org/".__add__)
ENTRIES = st.builds(
    Entry,
    NAMES,
    DIGESTS,
    st.none() | st.integers(0, 10**18),
    st.lists(URLS, max_size=3).map(tuple),
)
REGISTRIES = st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry.name).map(Registry)


# -- registries ------------------------------------------------------------------------------


@given(REGISTRIES)
def test_a_registry_is_read_back_as_it_was_written(registry):
    again = Registry.parse(registry.dumps())
    assert list(again.values()) == list(registry.values())
    assert again.dumps() == registry.dumps()


@given(REGISTRIES)
def test_pooch_reads_the_same_registry(registry):
    fetcher = pooch.create(path="unused", base_url="https://example.org/", registry=None)
    fetcher.load_registry(io.StringIO(registry.dumps(), newline=None))
    expected = {
        name: entry.digest.hex if entry.digest.alg == "sha256" else str(entry.digest)
        for name, entry in registry.items()
    }
    assert fetcher.registry == expected
    assert list(fetcher.registry) == list(registry)
    assert fetcher.urls == {name: e.urls[0] for name, e in registry.items() if e.urls}


def read_all(text):
    """Parse a text and look at every entry; only documented errors may come out."""
    try:
        registry = Registry.parse(text, "file")
    except RegistryError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.file == "file"
        assert 1 <= refused.line <= text.count("\n") + 1
        assert refused.message.startswith(f"file, line {refused.line}: ")
        return None
    for name in registry:
        try:
            entry = registry[name]
        except UnsafeNameError:
            continue
        assert entry.name == name
        assert len(entry.digest.hex) == HEX_LENGTH[entry.digest.alg]
        assert entry.size is None or entry.size >= 0
    return registry


@given(TEXTS)
@example("a " + "\ud800" * 64)
@example("a :" + "0" * 64)
@example("#: size=" + "9" * 5000)
@example("\ufeffa " + "0" * 64)
def test_any_text_is_a_registry_or_a_registry_error(text):
    read_all(text)


WORDS = st.one_of(
    TEXTS,
    PARTS,
    st.sampled_from(
        ["#:", "#", "size=1", "size=", "url=x", "size=x", '"', "'", "a b", "*a", "./a"]
    ),
    st.sampled_from([alg + ":" for alg in HEX_LENGTH] + [":", ""]).flatmap(
        lambda start: st.sampled_from([8, 32, 40, 64, 128]).map(lambda n: start + "0f" * (n // 2))
    ),
    st.sampled_from(["0" * 64, "F" * 64, "a" * 63, "1" * 32]),
)
LINES = st.lists(
    st.lists(WORDS, max_size=4).flatmap(
        lambda words: st.sampled_from([" ", "  ", "\t", " *"]).map(lambda blank: blank.join(words))
    ),
    max_size=5,
).flatmap(lambda lines: st.sampled_from(["\n", "\r\n"]).map(lambda end: end.join(lines)))


@settings(max_examples=300)
@given(LINES)
def test_any_lines_of_likely_words_are_a_registry_or_a_registry_error(text):
    read_all(text)


@given(st.lists(st.tuples(NAMES, st.binary(min_size=32, max_size=32)), min_size=1, max_size=5))
def test_sums_files_are_read(rows):
    rows = list({name: (name, value) for name, value in rows}.values())
    assume(all(not name.startswith("./") for name, _ in rows))
    registry = read_all("".join(f"{value.hex()}  {name}\n" for name, value in rows))
    assert {name: entry.digest.hex for name, entry in registry.items()} == {
        name: value.hex() for name, value in rows
    }


@given(REGISTRIES, st.randoms(use_true_random=False))
def test_the_identity_of_a_tree_does_not_depend_on_the_order(registry, chance):
    entries = [Entry(e.name, e.digest) for e in registry.values()]
    chance.shuffle(entries)
    assert Registry(entries).digest() == registry.digest()


@given(DIGESTS)
def test_a_digest_is_read_back(digest):
    assert Digest.parse(str(digest)) == digest
    assert Digest.parse(str(digest).upper()) == digest


@given(TEXTS)
def test_any_text_is_a_digest_or_a_value_error(text):
    try:
        digest = Digest.parse(text)
    except ValueError:
        return
    assert len(digest.hex) == HEX_LENGTH[digest.alg]


@given(st.binary(max_size=2000), st.sampled_from(["md5", "sha256", "blake2b"]))
def test_hashing_a_file_is_hashing_its_bytes(tmp_path_factory, content, alg):
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(content)
    hasher = hashes.new(alg)
    hasher.update(content)
    assert hashes.hash_file(path, alg).hex == hasher.hexdigest()


# -- names -----------------------------------------------------------------------------------


@settings(max_examples=300)
@given(TEXTS | st.lists(TEXTS | st.sampled_from(["..", ".", ""]), max_size=4).map("/".join))
@example("a/..")
@example("a:b")
@example("\udc80")
def test_an_accepted_name_stays_inside_its_root(name):
    try:
        accepted = fs.safe_name(name)
    except UnsafeNameError as error:
        accepted = None
        refused = error
    if accepted is None:
        assert refused.name == name
        return
    assert accepted is name
    root = os.path.abspath(os.sep + "root")
    path = os.path.join(root, *name.split("/"))
    assert path.startswith(root + os.sep)
    assert os.path.normpath(path) == path
    assert posixpath.normpath(name) == name
    assert os.path.commonpath([root, path]) == root
    assert "\0" not in path


@given(NAMES)
def test_an_accepted_name_can_be_stored_and_found_again(tmp_path_factory, name):
    root = str(tmp_path_factory.mktemp("names"))
    path = os.path.join(root, *name.split("/"))
    fs.make_dirs(os.path.dirname(path))
    fs.write_atomic(path, b"x", sync=False)
    assert [(found, where) for found, where in fs.walk_files(root)] == [(name, path)]
    assert fs.name_inside(root, path) == name
    fs.remove_tree(root)


# -- URLs ------------------------------------------------------------------------------------

HOSTS = st.sampled_from(["example.org", "example.org:8443", "10.0.0.1", "[::1]:80", "me:pw@h.org"])
PATHS = st.text(string.ascii_letters + string.digits + "-._~%/@:", max_size=20).map("/".__add__)
QUERIES = st.sampled_from(["", "?v=1", "?format=b&name=d%20e", "?path=/y/"])
BASES = st.builds(
    lambda kind, host, path, query: f"{kind}://{host}{path}{query}",
    st.sampled_from(["http", "https"]),
    HOSTS,
    PATHS | st.just(""),
    QUERIES,
)


@given(BASES, NAMES)
def test_joining_ends_in_the_name_and_keeps_the_host(base, name):
    joined = urls.join(base, name)
    before, after = urlsplit(base), urlsplit(joined)
    assert unquote(after.path).endswith("/" + name)
    assert after.path.startswith(before.path)
    assert (after.scheme, after.netloc) == (before.scheme, before.netloc)
    assert (after.query, after.fragment) == (before.query, before.fragment)
    assert joined.isascii()
    assert not any(letter.isspace() for letter in joined)
    # the part that was added has as many levels as the name
    added = after.path[len(before.path) :].lstrip("/")
    assert added.count("/") == name.count("/")


SECRET_LETTERS = string.ascii_letters + string.digits + "-._~!$'()*+,;=%"
SECRETS = st.text(SECRET_LETTERS, min_size=4, max_size=20).map(lambda text: f"QZ{text}ZQ")
KEYS = st.sampled_from(
    [
        "token",
        "access_token",
        "X-Amz-Signature",
        "X-Amz-Credential",
        "X-Amz-Security-Token",
        "X-Goog-Signature",
        "sig",
        "AWSAccessKeyId",
        "api_key",
        "apikey",
        "password",
        "client_secret",
        "Authorization",
        *("pwd", "pass", "code", "jwt", "session", "Policy", "x-ms-sas", "k", "to%6ben", ""),
    ]
)


@given(SECRETS, st.sampled_from(["https", "http", "s3", "ftp"]), PATHS, QUERIES, st.booleans())
def test_a_password_is_never_shown(secret, kind, path, query, with_user):
    user = f"me:{secret}" if with_user else secret
    shown = urls.redact(f"{kind}://{user}@example.org:80{path}{query}")
    assert secret not in shown
    assert "example.org" in shown


@given(SECRETS, st.sampled_from("/?#@"))
def test_a_password_that_should_have_been_quoted_is_not_shown_either(secret, letter):
    shown = urls.redact(f"https://me:{secret}{letter}{secret}@example.org/a")
    assert secret not in shown


@given(SECRETS, KEYS, st.sampled_from(["?", "?v=1&", "#"]), st.sampled_from(["", "&page=2"]))
def test_a_secret_of_the_query_is_never_shown(secret, key, before, after):
    shown = urls.redact(f"https://example.org/a{before}{key}={secret}{after}")
    assert secret not in shown
    assert f"{key}=***" in shown
    assert shown.endswith(after)


@given(BASES)
def test_a_url_without_secrets_is_shown_as_it_is(base):
    assume("@" not in urlsplit(base).netloc)
    assert urls.redact(base) == base
    assert dict(parse_qsl(urlsplit(base).query)) == dict(
        parse_qsl(urlsplit(urls.redact(base)).query)
    )


@given(TEXTS)
def test_any_text_can_be_redacted_and_has_a_scheme_or_none(text):
    assert isinstance(urls.redact(text), str)
    kind = urls.scheme(text)
    assert kind == "" or text.lower().startswith(kind + ":")


@given(
    BASES, st.dictionaries(BASES, st.sampled_from(["https://mirror/", "file:///m/"]), max_size=4)
)
def test_a_rewrite_replaces_one_prefix_or_nothing(url, rules):
    found = urls.rewrite(url, rules)
    matching = [prefix for prefix in rules if url.startswith(prefix)]
    if not matching:
        assert found == url
    else:
        longest = max(matching, key=len)
        assert found == rules[longest] + url[len(longest) :]
