"""URLs: joined, filled in, rewritten, and shown without their secrets."""

from __future__ import annotations

import pytest

from pkgdata.base import urls
from pkgdata.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("https://example.org/a", "https"),
        ("HTTP://EXAMPLE.ORG", "http"),
        ("s3://bucket/a", "s3"),
        ("github:org/repo@v1", "github"),
        ("git+ssh://host/x", "git+ssh"),
        ("mem://a", "mem"),
        ("file:///tmp/a", "file"),
        ("/tmp/a", ""),
        ("relative/a:b", ""),
        ("C:\\data", ""),
        ("c:/data", ""),
        ("C:", ""),
        ("", ""),
        ("no colon", ""),
        ("1x:y", ""),
        ("a b:c", ""),
        ("//host/share", ""),
    ],
)
def test_scheme(url, scheme):
    assert urls.scheme(url) == scheme


@pytest.mark.parametrize(
    ("base", "name", "joined"),
    [
        ("https://h/d/", "a.txt", "https://h/d/a.txt"),
        ("https://h/d", "a.txt", "https://h/d/a.txt"),
        ("https://h", "a.txt", "https://h/a.txt"),
        ("https://h/d/", "a/b c.txt", "https://h/d/a/b%20c.txt"),
        ("https://h/d/", "a#b?c%d.txt", "https://h/d/a%23b%3Fc%25d.txt"),
        ("https://h/d?v=1&w=2", "a.txt", "https://h/d/a.txt?v=1&w=2"),
        ("https://h/d/#part", "a.txt", "https://h/d/a.txt#part"),
        ("https://h/ä/", "ü.txt", "https://h/ä/%C3%BC.txt"),
        ("https://h/", "a+b=(c),;:@!$&'*~-_.x", "https://h/a%2Bb=(c),;:@!$&'*~-_.x"),
        ("https://me:pw@h:81/d", "a", "https://me:pw@h:81/d/a"),
        ("file:///tmp/x", "a b", "file:///tmp/x/a%20b"),
        ("mem://store", "a", "mem://store/a"),
        ("https://h/d//", "a", "https://h/d//a"),
    ],
)
def test_join(base, name, joined):
    assert urls.join(base, name) == joined


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a?v=1#part", "https://h/a?v=1#part"),
        ("https://me:pw@h/a", "https://***@h/a"),
        ("https://token@h:8443/a", "https://***@h:8443/a"),
        ("https://me:p@ss@h/a", "https://***@h/a"),
        ("https://me:p/w@h/a", "https:***"),
        ("https://h/a?X-Amz-Signature=1&v=2", "https://h/a?X-Amz-Signature=***&v=2"),
        ("https://h/a?sig=1&se=2", "https://h/a?sig=***&se=2"),
        ("https://h/a?access_token=1", "https://h/a?access_token=***"),
        ("https://h/a?AWSAccessKeyId=1", "https://h/a?AWSAccessKeyId=***"),
        ("https://h/a?PASSWORD=x=y", "https://h/a?PASSWORD=***"),
        ("https://h/a#access_token=1", "https://h/a#access_token=***"),
        ("https://h/package@1.0/a", "https://h/package@1.0/a"),
        ("github:org/repo@v1", "github:org/repo@v1"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("s3://", "s3://"),
        ("/plain/path", "/plain/path"),
        ("https://[broken/a?token=1", "https:***"),
        ("//[broken", "url:***"),
    ],
)
def test_redact(url, shown):
    assert urls.redact(url) == shown


def test_expand_fills_every_placeholder():
    values = {"version": "1.2", "package": "mypkg"}
    found = urls.expand("https://h/{package}/{version}/{package}", values)
    assert found == "https://h/mypkg/1.2/mypkg"
    assert urls.expand("https://h/", {}) == "https://h/"


def test_a_value_that_is_not_needed_may_be_unknown():
    assert urls.expand("https://h/{package}", {"version": None, "package": "p"}) == "https://h/p"


def test_a_value_that_is_not_known_names_the_remedy():
    with pytest.raises(ConfigError, match="needs the version, which is not known") as caught:
        urls.expand("https://me:pw@h/{version}/", {"version": None})
    assert "version=..." in caught.value.hint
    assert "pw" not in str(caught.value)


def test_an_unknown_placeholder_is_refused():
    with pytest.raises(ConfigError, match="placeholder other than version, package"):
        urls.expand("https://h/{vresion}/", {"version": "1", "package": "p"})


def test_the_longest_matching_rule_wins():
    rules = {
        "https://h/": "https://mirror/",
        "https://h/big/": "file:///scratch/",
        "https://other/": "https://no/",
    }
    assert urls.rewrite("https://h/big/a", rules) == "file:///scratch/a"
    assert urls.rewrite("https://h/small", rules) == "https://mirror/small"
    assert urls.rewrite("https://else/a", rules) == "https://else/a"
    assert urls.rewrite("https://h/a", {}) == "https://h/a"


def test_a_rewritten_url_is_not_rewritten_again():
    assert urls.rewrite("https://a/x", {"https://a/": "https://b/", "https://b/": "c"}) == (
        "https://b/x"
    )
