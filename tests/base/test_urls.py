"""URLs: joined, filled in, rewritten, and shown without their secrets."""

from __future__ import annotations

import os

import pytest

from pkgdata.base import urls
from pkgdata.errors import ConfigError, StoreError


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
        (
            "https://h/a?pwd=1&k=2&jwt=3&Policy=4&page=5",
            "https://h/a?pwd=***&k=***&jwt=***&Policy=***&page=5",
        ),
        ("https://h/a?s3cret", "https://h/a?***"),
        ("https://h/a?path=/b?token=1", "https://h/a?path=***"),
        ("https://h/a?file=b%3Ftoken%3D1", "https://h/a?file=***"),
        ("https://me:1/2@example.org/a", "https:***"),
        ("https://me:1#2@example.org", "https:***"),
        ("https://me:p@s/w@example.org/a", "https:***"),
        ("https://example.org:80/a@b.csv", "https://example.org:80/a@b.csv"),
        ("s3://bucket/?.csv", "s3://bucket/?.csv"),
        ("https://h/a#access_token=1", "https://h/a#access_token=***"),
        ("https://h/package@1.0/a", "https://h/package@1.0/a"),
        ("https://h/a;token=1/b.csv", "https://h/a;token=***/b.csv"),
        ("https://h/a;v=1;k=2;jsessionid=3?v=1", "https://h/a;v=1;k=***;jsessionid=***?v=1"),
        ("https://h/a;%74oken=1", "https://h/a;%74oken=***"),
        ("https://h/access_token=1/year=2020/b", "https://h/access_token=***/year=2020/b"),
        ("https://h/web/https://me:pw@o/a", "https://h/web/https://***@o/a"),
        ("s3://bucket/key=5/a;b=1;sig=2", "s3://bucket/key=5/a;b=1;sig=***"),
        ("s3://https://h/bucket/a;sig=2", "s3://https://h/bucket/a;sig=***"),
        ("/plain/a;b=1;token=2.csv", "/plain/a;b=1;token=***"),
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


@pytest.mark.parametrize("letter", ["/", "#", "?"])
@pytest.mark.parametrize("begin", ["s3cret", "12"])
@pytest.mark.parametrize("kind", ["https", "ftp", "s3://https"])
def test_a_password_that_would_be_cut_in_two_is_refused_and_not_shown(kind, begin, letter):
    with pytest.raises(ConfigError) as caught:
        urls.canonical(f"{kind}://me:{begin}{letter}MARKER@example.org/data/")
    assert "MARKER" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "%2F" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://minio:9000/a@b.csv", "https://h.org:8443/pkg@1.0/a", "https://me:p%2Fw@h.org/a@b/c"],
)
def test_an_at_sign_in_a_path_is_no_login(url):
    assert urls.canonical(url) == url


def test_what_was_sent_is_hidden_in_a_text_also_quoted_cut_or_as_a_login():
    sent = urls.secrets_of(
        "https://me:s3cr%2Fet@h/a;j=parameter?k=MARKER&v=1",
        {"Authorization": "Basic bWU6aGlkZGVu", "X-Own": "own1"},
    )
    text = "/a?k=MARKER&v=1 s3cr/et s3cr%2Fet bWU6aGlkZGVu hidden own1 parameter MARK"
    assert urls.redact_text(text, sent) == "/a?k=***&v=1" + " ***" * 7


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://me:pw@h/a?jwt=1, no", "GET https://***@h/a?jwt=*** no"),
        ("with url: /a?access_token=MARKER (Caused", "with url: /a?access_token=*** (Caused"),
        ("{'Authorization': 'Bearer MARKER', 'a': 'b'}", "{'Authorization': '***', 'a': 'b'}"),
        ('{"api_key": "a b"}', '{"api_key": "***"}'),
        ("no such file: a/b.csv", "no such file: a/b.csv"),
        ("GET /a;jsessionid=MARKER HTTP/1.1", "GET /a;jsessionid=*** HTTP/1.1"),
        ("at https://h/a;k=MARKER, no", "at https://h/a;k=*** no"),
    ],
)
def test_secrets_are_hidden_in_texts_of_libraries_and_servers(text, shown):
    assert urls.redact_text(text) == shown


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


@pytest.mark.skipif(os.name == "nt", reason="has no such pipes")
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_are_not_read_from_a_pipe_that_nobody_writes_to(tmp_path, monkeypatch, name):
    os.mkfifo(tmp_path / "pipe")
    for one in urls._CA_NAMES:
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setenv(name, str(tmp_path / "pipe"))
    with pytest.raises(StoreError, match=f"{name}=.*nothing that can be read is there"):
        urls.ca_bundle()
