"""Addresses: what an argument of a bulk command means."""

from __future__ import annotations

import pytest

from pkgdata.bulk import addresses
from pkgdata.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "base", "name", "folder", "pattern"),
    [
        ("s3://b", "s3://b", "", True, ""),
        ("s3://b/", "s3://b", "", True, ""),
        ("s3://b/p/a b.txt", "s3://b", "p/a b.txt", False, ""),
        ("s3://b/p/%20", "s3://b", "p/%20", False, ""),
        ("s3://b/p/", "s3://b", "p", True, ""),
        ("s3://b/p/*.txt", "s3://b", "p", True, "p/*.txt"),
        ("s3://b/p?/x", "s3://b", "", True, "p?/x"),
        ("s3://https://h:9/b/p/x", "s3://https://h:9/b", "p/x", False, ""),
        ("s3://http://h/b", "s3://http://h/b", "", True, ""),
        ("az://acc.blob.core.windows.net/c/x", "az://acc.blob.core.windows.net/c", "x", False, ""),
        ("mem://m/x/y", "mem://m", "x/y", False, ""),
        ("https://h/d/a%20b.txt", "https://h/d/", "a b.txt", False, ""),
        ("https://h/d/?v=1", "https://h/d/?v=1", "", True, ""),
        ("https://h/d/x?v=*", "https://h/d/?v=*", "x", False, ""),
        ("sftp://h/d/x", "sftp://h/d", "x", False, ""),
        ("sftp://h/d/*/x", "sftp://h/d", "", True, "*/x"),
        (
            "github:o/r@v1/x.bin",
            "https://github.com/o/r/releases/download/v1/",
            "x.bin",
            False,
            "",
        ),
    ],
)
def test_address_of_a_url(text, base, name, folder, pattern):
    found = addresses.parse(text)
    assert (found.base, found.name, found.folder) == (base, name, folder)
    assert found.pattern == pattern
    assert not found.local


def test_address_of_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir").mkdir()
    for text, name, folder in [
        ("x*?.txt", "x*?.txt", False),
        ("dir", "", True),
        ("new/", "", True),
        (".", "", True),
        ("12:30.txt", "12:30.txt", False),
        ("note:1.txt", "note:1.txt", False),
        ((tmp_path / "a b%20").as_uri(), "a b%20", False),
    ]:
        found = addresses.parse(text)
        assert (found.local, found.name, found.folder) == (True, name, folder), text
        assert found.base.startswith(str(tmp_path))


@pytest.mark.parametrize("text", ["", "s3://", "s3:///x", "file://host/x", "a\0b"])
def test_a_malformed_address_is_refused(text):
    with pytest.raises(ConfigError):
        addresses.parse(text)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("p/*.txt", ["p/a.txt", "p/.txt"], ["p/q/a.txt", "p/a.txtx", "x/p/a.txt"]),
        ("p/**.txt", ["p/a.txt", "p/q/a.txt"], ["p/a.csv"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["ax"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("a[b]*", ["a[b]", "a[b]x"], ["ab"]),
    ],
)
def test_wildcards(pattern, matching, other):
    match = addresses.compiled(pattern, False).fullmatch
    assert all(map(match, matching))
    assert not any(map(match, other))


def test_a_url_shows_no_password():
    shown = str(addresses.parse("https://me:secret@h/d/x"))
    assert shown == "https://***@h/d/x"
