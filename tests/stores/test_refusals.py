"""Bad input and credentials: a clear error each time, of our tree, that shows no secret.

Signatures and digests are refused by Ceph, the one server here that checks them.
"""

from __future__ import annotations

import datetime
import io
import json
import logging
import pickle
import sys
import traceback

import pytest
from faults import FaultServer
from servers import proxy as spoil
from servers.proxy import Proxy
from servers.signing import ask

from pkgdata.errors import (
    AccessDeniedError,
    BatchError,
    ConfigError,
    MissingExtraError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
    UnsafeNameError,
    UnsupportedOperationError,
)
from pkgdata.stores import Store, codecs, dl, open_store, providers, public

#: Stands wherever a secret does; nothing that is shown may hold it.
SESAME = "OpenSesame123"

CONTENT = bytes(range(256)) * 100

#: Above what one request writes.
LARGE = 9 << 20


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch):
    """Forget the credentials of whoever runs the tests, and repeat nothing."""
    import os

    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_STORAGE_", "AZURE_CLIENT", "CLOUDSDK_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    monkeypatch.setattr(providers, "_machine_of", lambda vendor: False)


@pytest.fixture(scope="module")
def bucket(ceph):
    return ceph.make_bucket()


def secrets_of(server, **changes):
    return {"access_key_id": server.access_key, "secret_access_key": server.secret_key, **changes}


@pytest.fixture
def good(ceph, bucket):
    """Give a store that may do everything, with an object."""
    pytest.importorskip("obstore")
    store = Store(f"s3://{ceph.endpoint}/{bucket}", secrets=secrets_of(ceph))
    store.put("a", CONTENT)
    return store


def everything_shown(error):
    """Return what anybody gets to see of an error, of its causes and of its pickle."""
    chain, shown = error, [repr(pickle.loads(pickle.dumps(error))), str(vars(error))]
    while chain is not None:
        shown += [str(chain), repr(chain), *traceback.format_exception_only(type(chain), chain)]
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return "\n".join(shown)


def refused(kind, act, *words):
    """Act, and check the error: its class, what it says, and that no secret is in it."""
    with pytest.raises(kind) as caught:
        act()
    error = caught.value
    assert isinstance(error, PkgdataError)
    shown = everything_shown(error)
    assert SESAME not in shown
    for sign in ("Debug source", "RetryError", "AWS4-HMAC-SHA256 ", "SharedKey ", "Bearer "):
        assert sign not in shown  # of a printed request
    for word in words:
        assert word in str(error)
    return error


OPERATIONS = {
    "get": lambda store: store.get("a"),
    "get a range": lambda store: store.get("a", start=5, stop=9),
    "get many": lambda store: [*store.get(["a"])],
    "stat": lambda store: store.stat("a"),
    "blocks": lambda store: [*store.blocks("a")],
    "put": lambda store: store.put("b", b"1"),
    "put in parts": lambda store: store.put("b", io.BytesIO(bytes(LARGE))),
    "put if absent": lambda store: store.put("b", b"1", if_absent=True),
    "list": lambda store: [*store.list()],
    "list a level": lambda store: [*store.list(flat=True)],
    "delete": lambda store: store.delete("a"),
    "delete many": lambda store: store.delete(["a", "b"]),
    "copy": lambda store: store.copy("a", "b"),
}

each_operation = pytest.mark.parametrize("act", OPERATIONS.values(), ids=[*OPERATIONS])


def without_body(act):
    """Say whether an operation asks by HEAD, whose answer has no body to say why."""
    return act is OPERATIONS["stat"]


@pytest.mark.integration
class TestKeys:
    @each_operation
    def test_wrong_secret(self, ceph, good, bucket, act):
        secrets = secrets_of(ceph, secret_access_key=SESAME)
        store = Store(f"s3://{ceph.endpoint}/{bucket}", secrets=secrets)
        error = refused(AccessDeniedError, lambda: act(store), "Hint: ")
        if not without_body(act):
            assert "403, SignatureDoesNotMatch" in error.message
            assert "secret key" in error.hint
        assert error.url.startswith(f"s3://{ceph.endpoint}/{bucket}")
        assert isinstance(error, PermissionError)
        assert not error.transient
        assert [*good.list()] == ["a"]

    @each_operation
    def test_unknown_access_key(self, ceph, good, bucket, act):
        secrets = {"access_key_id": "NOBODY", "secret_access_key": SESAME}
        store = Store(f"s3://{ceph.endpoint}/{bucket}", secrets=secrets)
        error = refused(AccessDeniedError, lambda: act(store), "Hint: ")
        if not without_body(act):
            assert "403, InvalidAccessKeyId" in error.message
            assert "not known there" in error.hint

    @each_operation
    def test_nobody_gets_into_a_private_bucket(self, ceph, good, bucket, act):
        store = Store(f"s3://{ceph.endpoint}/{bucket}", anonymous=True)
        error = refused(AccessDeniedError, lambda: act(store), "Hint: nothing was signed")
        assert "anonymous" in error.hint
        assert good.get("a") == CONTENT

    @each_operation
    def test_bucket_that_does_not_exist(self, ceph, act):
        pytest.importorskip("obstore")
        store = Store(f"s3://{ceph.endpoint}/never-made", secrets=secrets_of(ceph))
        if without_body(act):
            refused(ObjectNotFoundError, lambda: act(store), "never-made/a")
            return
        error = refused(StoreError, lambda: act(store), "never-made: there is no such bucket")
        assert not isinstance(error, FileNotFoundError)
        assert "check its name" in error.hint

    def test_many_refusals_are_reported_individually(self, ceph, good, bucket):
        secrets = secrets_of(ceph, secret_access_key=SESAME)
        store = Store(f"s3://{ceph.endpoint}/{bucket}", secrets=secrets)
        report = refused(BatchError, lambda: store.put([("x", b"1"), ("y", b"2")])).report
        assert {type(error) for error in report.failed.values()} == {AccessDeniedError}
        found = [*store.get(["a", "b"], errors="return")]
        assert {type(result.error) for result in found} == {AccessDeniedError}
        assert SESAME not in repr((report, found))

    def test_nothing_shows_the_secret(self, ceph, good, bucket, caplog, capfd):
        caplog.set_level(logging.DEBUG)
        secrets = secrets_of(ceph, secret_access_key=SESAME, session_token=f"token-{SESAME}")
        store = Store(f"s3://{ceph.endpoint}/{bucket}", secrets=secrets)
        for act in OPERATIONS.values():
            with pytest.raises(AccessDeniedError):
                act(store)
        again = pickle.loads(pickle.dumps(store))
        shown = [repr(store), str(store), store.url, store.address("a"), repr(again), caplog.text]
        shown += [repr(store.client()), *capfd.readouterr()]
        assert SESAME not in "\n".join(shown)

    def test_signed_addresses_are_not_logged(self, ceph, good, bucket, caplog):
        caplog.set_level(logging.DEBUG)
        with Proxy(ceph.endpoint) as proxy:
            store = Store(f"s3://{proxy.url}/{bucket}", secrets=secrets_of(ceph))
            proxy.script(spoil.tamper_reply(7), method="GET")
            assert store.get("a") == CONTENT  # having asked, by a signed address, what the ETag is
            asked = [seen.target for seen in proxy.requests if seen.method == "HEAD"]
        assert len(asked) == 1
        assert "X-Amz-Signature" in asked[0]
        assert "X-Amz" not in caplog.text
        assert ceph.access_key not in caplog.text

    @pytest.mark.parametrize("spoiled", ["signature", "name", "time", "method"])
    def test_tampered_presigned_address(self, ceph, good, spoiled):
        import obstore

        url = obstore.sign(good.client(), "GET", "a", expires_in=datetime.timedelta(minutes=5))
        assert dl(url) == CONTENT
        good.put("secret", b"other")
        bad = {
            "signature": url[:-1] + ("0" if url[-1] != "0" else "1"),
            "name": url.replace("/a?", "/secret?"),
            "time": url.replace("X-Amz-Expires=300", "X-Amz-Expires=9999"),
            "method": obstore.sign(
                good.client(), "PUT", "a", expires_in=datetime.timedelta(minutes=5)
            ),
        }[spoiled]
        assert bad != url
        signature = bad.rpartition("=")[2]
        error = refused(AccessDeniedError, lambda: dl(bad), "status 403", "***", "Hint: ")
        assert signature not in everything_shown(error)
        good.delete("secret")

    def test_tampered_presigned_upload_is_refused(self, ceph, good):
        import obstore

        url = obstore.sign(good.client(), "PUT", "u", expires_in=datetime.timedelta(minutes=5))
        assert ask("PUT", url.replace("/u?", "/v?"), body=b"1").status == 403
        assert good.exists(["u", "v"]) == {"u": False, "v": False}

    @pytest.mark.parametrize("size", [1000, LARGE])
    def test_body_that_changed_on_the_way_is_refused(self, ceph, good, bucket, size):
        with Proxy(ceph.endpoint) as proxy:
            store = Store(f"s3://{proxy.url}/{bucket}", secrets=secrets_of(ceph))
            begins = [spoil.through()] if size == LARGE else []
            proxy.script(*begins, spoil.tamper_request(500), method="PUT")
            act = lambda: store.put("t", io.BytesIO(bytes(size)))  # noqa: E731
            error = refused(StoreError, act, "400, XAmzContentSHA256Mismatch", "Hint: ")
            assert "changed on the way" in error.hint
        assert "t" not in good

    def test_declared_digest_that_is_wrong_is_refused(self, ceph, bucket, good):
        headers = {"x-amz-content-sha256": "0" * 64}
        reply = ceph.signed("PUT", f"/{bucket}/d", headers=headers, body=b"other bytes")
        assert (reply.status, b"XAmzContentSHA256Mismatch" in reply.body) == (400, True)
        assert "d" not in good

    def test_dead_endpoint(self):
        pytest.importorskip("obstore")
        store = Store("s3://http://127.0.0.1:1/b", secrets={**KEYS}, timeout=5)
        error = refused(StoreError, lambda: store.get("a"), "connection refused")
        assert error.url == "s3://http://127.0.0.1:1/b/a"


@pytest.mark.integration
class TestPublic:
    def test_public_bucket_is_read_whatever_keys_are_about(self, ceph, monkeypatch):
        pytest.importorskip("obstore")
        bucket = ceph.make_bucket(public=True)
        owner = Store(f"s3://{ceph.endpoint}/{bucket}", secrets=secrets_of(ceph))
        owner.put("d/a b.txt", CONTENT)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "STALE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SESAME)
        url = f"s3://{ceph.endpoint}/{bucket}/d"
        assert open_store(url).get("a b.txt") == CONTENT
        assert Store(public(url)).get("a b.txt") == CONTENT
        nobody = Store(url, anonymous=True)
        assert (nobody.get("a b.txt"), [*nobody.list()]) == (CONTENT, ["a b.txt"])
        assert dl(f"{url}/a b.txt", anonymous=True) == CONTENT
        refused(AccessDeniedError, lambda: Store(url).get("a b.txt"), "InvalidAccessKeyId")

    @pytest.mark.parametrize("size", [100, LARGE])
    def test_public_object_in_a_private_bucket(self, ceph, good, bucket, size):
        good.put("open", io.BytesIO(bytes(size)), public=True)
        nobody = Store(f"s3://{ceph.endpoint}/{bucket}", anonymous=True)
        assert nobody.get("open") == bytes(size)
        refused(AccessDeniedError, lambda: nobody.get("a"))
        good.delete("open")

    def test_anonymous_write_to_google_is_refused_before_it_is_sent(self, gcs):
        pytest.importorskip("obstore")
        store = Store(f"gs://{gcs.make_bucket()}", anonymous=True, endpoint=gcs.endpoint)
        for act in ("put", "delete", "put in parts", "copy"):
            refused(UnsupportedOperationError, lambda act=act: OPERATIONS[act](store), "anonymous")

    def test_azure_has_no_public_objects(self, azurite):
        pytest.importorskip("obstore")
        secrets = {"account_name": azurite.account, "account_key": azurite.key}
        store = Store(
            f"az://{azurite.make_container()}", secrets=secrets, endpoint=azurite.endpoint
        )
        act = lambda: store.put("a", b"1", public=True)  # noqa: E731
        refused(UnsupportedOperationError, act, "Azure has no access rules", "container public")


# -- other clouds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "kind"),
    [("get", AccessDeniedError), ("put", AccessDeniedError), ("list", AccessDeniedError)],
)
def test_wrong_token_of_google(gcs, act, kind):
    pytest.importorskip("obstore")
    store = Store(
        f"gs://{gcs.make_bucket()}", secrets={"bearer_token": SESAME}, endpoint=gcs.endpoint
    )
    refused(kind, lambda: OPERATIONS[act](store), "status 401", "Hint: ")


def test_missing_bucket_of_google(gcs):
    pytest.importorskip("obstore")
    store = Store("gs://never-made", secrets={"token": gcs.issue_token()}, endpoint=gcs.endpoint)
    for act in ("get", "put", "list", "delete"):
        refused(StoreError, lambda act=act: OPERATIONS[act](store), "there is no such bucket")


def test_google_secrets_of_no_use(gcs):
    pytest.importorskip("obstore")
    store = Store("gs://bucket", secrets={"private_key": SESAME}, endpoint=gcs.endpoint)
    refused(ConfigError, lambda: store.get("a"), "gs://bucket")


@pytest.mark.integration
def test_wrong_key_and_missing_container_of_azure(azurite):
    pytest.importorskip("obstore")
    container = azurite.make_container()
    key = azurite.key[:8][::-1] + azurite.key[8:]
    wrong = Store(
        f"az://{container}",
        secrets={"account_name": azurite.account, "account_key": key},
        endpoint=azurite.endpoint,
    )
    for act in ("get", "put", "list", "delete"):
        error = refused(AccessDeniedError, lambda act=act: OPERATIONS[act](wrong), "Hint: ")
        assert key not in everything_shown(error)
    secrets = {"account_name": azurite.account, "account_key": azurite.key}
    missing = Store("az://never-made", secrets=secrets, endpoint=azurite.endpoint)
    for act in ("get", "put", "list"):
        refused(StoreError, lambda act=act: OPERATIONS[act](missing), "there is no such bucket")


def test_azure_key_that_is_none():
    pytest.importorskip("obstore")
    secrets = {"account_name": "account", "account_key": f"{SESAME}!"}
    store = Store("az://container", secrets=secrets, endpoint="http://127.0.0.1:1")
    refused(ConfigError, lambda: store.get("a"), "az://container", "Access Key")


def test_azure_account_that_nobody_named():
    pytest.importorskip("obstore")
    error = refused(ConfigError, lambda: Store("az://c/p").get("a"), "which account")
    assert "az://ACCOUNT.blob.core.windows.net" in error.hint
    refused(ConfigError, lambda: public("az://c/p"), "which account")


# -- URLs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *["s3://", "s3:///a", "s3:b", "s3://b?x=1", "s3://b:80/", "s3://b#f", "s3://b c/x"],
        *[f"s3://user:{SESAME}@b", f"s3://user:{SESAME}@b/p", f"s3://b/p?sig={SESAME}"],
        *["s3://https://", "s3://https://h", "s3://https://h/", "s3://https://h:99999/b"],
        *[f"s3://https://user:{SESAME}@h/b", f"s3://https://h/b?token={SESAME}", "s3://ü/x"],
        *["gs://", "gs://-/x", f"gs://u:{SESAME}@b", "az://", f"az://u:{SESAME}@c"],
        *["az://account.blob.core.windows.net", "az://account.blob.core.windows.net/"],
        *["github:owner", "github:owner/repo", f"gopher://u:{SESAME}@h/x", "nosuch+x://h/"],
        *[f"https://u:{SESAME}@[::1", "S3://"],
    ],
)
def test_malformed_urls(url):
    pytest.importorskip("obstore")
    error = refused(ConfigError, lambda: Store(url))
    assert error.hint or "expected" in error.message
    assert isinstance(error, ValueError)


def test_unknown_scheme_tells_what_is_known():
    error = refused(ConfigError, lambda: Store("gopher://h/x"), "unknown scheme 'gopher'", "Hint:")
    for known in ("s3", "gs", "az", "http", "mem", "github:OWNER/REPO@TAG"):
        assert known in error.hint


@pytest.mark.parametrize(
    "endpoint",
    [f"http://u:{SESAME}@h", "h:9000", "not a url", "http://h h", "http://h:99999", "ftp://h"],
)
@pytest.mark.parametrize("way", ["option", "environment"])
def test_malformed_endpoints(endpoint, way, monkeypatch):
    pytest.importorskip("obstore")
    options = {"endpoint": endpoint} if way == "option" else {}
    if way == "environment":
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    refused(
        ConfigError, lambda: Store("s3://b", secrets={**KEYS}, **options).get("a"), "an endpoint"
    )


@pytest.mark.parametrize("url", ["http://", "http:///x", "https://u:pw@h:notaport/"])
def test_web_address_without_a_host(url):
    error = refused(StoreError, lambda: Store(url).get("a"))
    assert not error.transient
    assert "pw" not in everything_shown(error)


def test_address_of_no_object():
    for url in ("s3://b/", "http://h/", f"https://u:{SESAME}@h/a/", "mem://x/", "nothing"):
        refused(ConfigError, lambda url=url: dl(url), "expected the URL of an object")


@pytest.mark.parametrize("option", ["secrets", "endpoint", "region"])
@pytest.mark.parametrize("url", ["/tmp/x", "http://h/", "mem://x", "file:///tmp/x"])
def test_options_that_mean_nothing_here(url, option):
    value = {"access_key_id": SESAME} if option == "secrets" else SESAME
    refused(ConfigError, lambda: Store(url, **{option: value}), f"{option} means nothing")


# -- names -------------------------------------------------------------------------------------

UNSAFE = ["../a", "a/../../b", "..", "/etc/passwd", "a//b", "a/./b", "a\\..\\b", "a\0b"]


@pytest.mark.slow
@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_escape_the_prefix(name):
    pytest.importorskip("obstore")
    # no server is there: the names are refused before anybody is asked
    store = Store("s3://http://127.0.0.1:1/b/prefix", secrets={**KEYS})
    ways = [
        lambda: store.get(name),
        lambda: [*store.get([name])],
        lambda: store.get(name, start=1, stop=3),
        lambda: store.stat(name),
        lambda: store.exists(name),
        lambda: store.put(name, b"1"),
        lambda: store.put(name, io.BytesIO(bytes(LARGE))),
        lambda: store.put(name, b"1", if_absent=True),
        lambda: store.delete(name),
        lambda: store.delete([name]),
        lambda: store.copy(name, "b"),
        lambda: store.copy("b", name),
        lambda: store.move("b", name),
        lambda: store.touch(name),
        lambda: [*store.blocks(name)],
        lambda: store[name],
    ]
    for act in ways:
        refused(UnsafeNameError, act)


@pytest.mark.parametrize("prefix", ["../", "a/../b/", "//", "a//"])
def test_prefixes_that_escape(prefix, tmp_path):
    pytest.importorskip("obstore")
    (tmp_path / "folder").mkdir()
    for url in ("s3://http://127.0.0.1:1/b/prefix", str(tmp_path / "folder")):
        store = Store(url, **({"secrets": KEYS} if url.startswith("s3") else {}))
        refused(UnsafeNameError, lambda store=store: [*store.list(prefix)])
        refused(UnsafeNameError, lambda store=store: store.delete(prefix=prefix))


@pytest.mark.parametrize("url", ["s3://b/../c", "s3://b/a//c", "s3://b/./c"])
def test_stores_whose_own_prefix_escapes(url):
    pytest.importorskip("obstore")
    store = Store(url, secrets={**KEYS}, endpoint="http://127.0.0.1:1")
    refused(UnsafeNameError, lambda: store.get("a"))
    refused(UnsafeNameError, lambda: store.put("a", b"1"))
    refused(UnsafeNameError, lambda: [*store.list()])


def test_name_that_escapes_among_many(tmp_path):
    store = Store(str(tmp_path / "folder"))
    store.put("a", b"1")
    (tmp_path / "outside").write_bytes(b"2")
    found = {r.name: r for r in store.get(["a", "../outside"], errors="return")}
    assert isinstance(found["../outside"].error, UnsafeNameError)
    assert found["a"].content == b"1"
    report = refused(BatchError, lambda: store.put([("../outside", b"3"), ("b", b"4")])).report
    assert isinstance(report.failed["../outside"], UnsafeNameError)
    assert ((tmp_path / "outside").read_bytes(), store["b"]) == (b"2", b"4")


# -- what a store cannot do --------------------------------------------------------------------


def test_web_server_asked_to_write(tmp_path):
    with FaultServer({"a": CONTENT}) as server:
        store = Store(server.url)
        source = Store(f"mem://{tmp_path}")
        source.put("b", b"1")
        ways = {
            "write": lambda: store.put("b", b"1"),
            "delete": lambda: store.delete("a"),
            "list": lambda: [*store.list()],
        }
        for verb, act in ways.items():
            error = refused(UnsupportedOperationError, act, f"cannot {verb}: {server.url}")
            assert not error.transient
        refused(UnsupportedOperationError, lambda: store.put("b", io.BytesIO(bytes(LARGE))))
        report = refused(BatchError, lambda: source.transfer_to(store)).report
        assert isinstance(report.failed["b"], UnsupportedOperationError)
        assert {request.method for request in server.requests} <= {"GET", "HEAD"}


@pytest.mark.parametrize("names", [["a", "b"], iter(["a"])])
def test_range_of_many(tmp_path, names):
    refused(ConfigError, lambda: Store(str(tmp_path)).get(names, start=1), "a range belongs to one")


def test_wrong_arguments(tmp_path):
    store = Store(f"mem://{tmp_path}")
    store.put("a", b"1")
    refused(ConfigError, lambda: [*store.get(["a"], errors="ignore")], "'raise' or 'return'")
    refused(ConfigError, lambda: store["a", 0:5:2], "no step")
    refused(ConfigError, lambda: store.put("a", b"", compress="rar"), "unknown encoding", "gzip")
    refused(ConfigError, lambda: store.put("a"), "no content")
    refused(ConfigError, lambda: store.transfer_to(store, reencode="rar"), "unknown encoding")
    report = refused(BatchError, lambda: store.put([("b", b"", {"colour": "red"})])).report
    assert "colour" in str(report.failed["b"])
    found = [*store.get([("a", 1)], errors="return")]
    assert isinstance(found[0].error, ConfigError)


# -- missing packages --------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["s3://b/p", "gs://b", "az://account.blob.core.windows.net/c"])
def test_missing_obstore(url, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    error = refused(MissingExtraError, lambda: Store(url), "obstore", "Hint: ")
    assert error.hint == "pip install 'pkgdata-cache[cloud]'"
    assert isinstance(error, ImportError)


def test_public_bucket_needs_no_obstore(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert open_store("s3://b/p").url == "https://b.s3.amazonaws.com/p/"


@pytest.mark.parametrize(("encoding", "module"), [("br", "brotli"), ("zstd", "zstandard")])
def test_missing_codec(encoding, module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    store = Store(f"mem://{tmp_path}")
    ways = [
        lambda: codecs.encode(b"1", encoding),
        lambda: codecs.decode(b"1", encoding),
        lambda: store.put("a", b"1", compress=encoding),
    ]
    for act in ways:
        error = refused(MissingExtraError, act, module)
        assert error.hint == "pip install 'pkgdata-cache[compress]'"
    store.put("stored", b"1", encoding=encoding)
    refused(MissingExtraError, lambda: store.get("stored"), module)
    assert next(iter(store.get(["stored"], raw=True))).content == b"1"


# -- secrets -----------------------------------------------------------------------------------

KEYS = {"access_key_id": "KEY", "secret_access_key": SESAME}


def at_nowhere(secrets, kind="s3"):
    """Return a store at a port where nobody listens: whoever gets that far had good secrets."""
    pytest.importorskip("obstore")
    return Store(f"{kind}://bucket", secrets=secrets, endpoint="http://127.0.0.1:1", timeout=5)


def test_secrets_files(tmp_path):
    path = tmp_path / "secrets.json"
    missing = refused(ConfigError, lambda: at_nowhere(str(path)).get("a"), "No such file")
    assert str(path) in missing.message
    for content, said in [(SESAME, "not JSON"), (f'["{SESAME}"]', "found list"), ("\xff", "not")]:
        path.write_bytes(content.encode("latin-1"))
        refused(ConfigError, lambda: at_nowhere(str(path)).get("a"), said)
    path.write_text(json.dumps({"access_key_id": SESAME}))
    refused(ConfigError, lambda: at_nowhere(path).get("a"), "secret_access_key is missing")
    path.write_text(json.dumps({f"AWS_{key.upper()}": value for key, value in KEYS.items()}))
    refused(StoreError, lambda: at_nowhere(path).get("a"), "connection refused")


@pytest.mark.parametrize("secrets", [5, [SESAME], {"user": SESAME}, {}])
def test_secrets_of_no_use(secrets):
    refused(ConfigError, lambda: at_nowhere(secrets).get("a"), "secrets: ")


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_function_that_cannot_give_secrets(kind):
    def fail():
        raise RuntimeError("cannot log in")

    error = refused(ConfigError, lambda: at_nowhere(fail, kind).get("a"), "secrets", "RuntimeError")
    assert isinstance(error.__cause__, RuntimeError)
    for answer, said in [(None, "mapping, found NoneType"), ({"x": SESAME}, "is missing")]:
        refused(ConfigError, lambda answer=answer: at_nowhere(lambda: answer, kind).get("a"), said)


@pytest.mark.integration
class TestSources:
    """Where the keys come from, and which win."""

    @pytest.fixture
    def reads(self, ceph, good, bucket):
        """Return a function that tells whether a store with these options gets the object."""

        def read(**options):
            store = Store(f"s3://{bucket}", endpoint=ceph.endpoint, **options)
            return store.get("a") == CONTENT

        return read

    def test_mapping(self, ceph, reads):
        assert reads(secrets=secrets_of(ceph))
        upper = {f"AWS_{key.upper()}": value for key, value in secrets_of(ceph).items()}
        assert reads(secrets=upper)

    def test_file(self, ceph, reads, tmp_path):
        (tmp_path / "secrets.json").write_text(json.dumps(secrets_of(ceph)))
        assert reads(secrets=str(tmp_path / "secrets.json"))
        assert reads(secrets=tmp_path / "secrets.json")

    def test_function(self, ceph, reads):
        assert reads(secrets=lambda: secrets_of(ceph))

    def test_environment(self, ceph, reads, monkeypatch):
        with pytest.raises(AccessDeniedError):
            reads()  # without keys nothing is signed
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ceph.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ceph.secret_key)
        assert reads()

    def test_profile(self, ceph, reads, tmp_path, monkeypatch):
        folder = tmp_path / "home" / ".aws"
        folder.mkdir()
        (folder / "credentials").write_text(
            f"[default]\naws_access_key_id = STALE\naws_secret_access_key = {SESAME}\n"
            f"[work]\naws_access_key_id = {ceph.access_key}\n"
            f"aws_secret_access_key = {ceph.secret_key}\n"
        )
        (folder / "config").write_text(f"[profile work]\nendpoint_url = {ceph.endpoint}\n")
        with pytest.raises(AccessDeniedError, match="InvalidAccessKeyId"):
            reads()
        monkeypatch.setenv("AWS_PROFILE", "work")
        assert reads()

    def test_endpoint_of_a_profile(self, ceph, good, bucket, tmp_path, monkeypatch):
        (tmp_path / "config").write_text(
            f"[default]\nendpoint_url = {ceph.endpoint}\nregion = us-east-1\n"
            f"aws_access_key_id = {ceph.access_key}\naws_secret_access_key = {ceph.secret_key}\n"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        assert Store(f"s3://{bucket}").get("a") == CONTENT

    def test_given_keys_are_not_mixed_with_the_environment(self, ceph, good, bucket, monkeypatch):
        for name, value in [("ACCESS_KEY_ID", "STALE"), ("SECRET_ACCESS_KEY", SESAME)]:
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.setenv("AWS_SESSION_TOKEN", SESAME)
        with Proxy(ceph.endpoint) as proxy:
            for secrets in (secrets_of(ceph), lambda: secrets_of(ceph)):
                store = Store(f"s3://{bucket}", endpoint=proxy.url, secrets=secrets)
                assert store.get("a") == CONTENT
            assert not any("x-amz-security-token" in seen.headers for seen in proxy.requests)
            with pytest.raises(AccessDeniedError):
                Store(f"s3://{bucket}", endpoint=proxy.url, anonymous=True).get("a")
            assert "authorization" not in proxy.requests[-1].headers

    def test_session_token_that_is_given_is_sent(self, ceph, good, bucket):
        with Proxy(ceph.endpoint) as proxy:
            secrets = secrets_of(ceph, session_token="a-token")
            assert Store(f"s3://{bucket}", endpoint=proxy.url, secrets=secrets).get("a") == CONTENT
            assert proxy.requests[0].headers["x-amz-security-token"] == "a-token"

    def test_keys_whose_time_is_over_are_asked_for_again(self, ceph, good, bucket):
        asked = []

        def keys():
            asked.append(True)
            now = datetime.datetime.now(datetime.timezone.utc)
            return secrets_of(ceph, expires_at=now - datetime.timedelta(seconds=1))

        store = Store(f"s3://{bucket}", endpoint=ceph.endpoint, secrets=keys)
        for count in (1, 2, 3):
            assert store.get("a") == CONTENT
            assert len(asked) == count

    def test_keys_that_last_are_asked_for_once(self, ceph, good, bucket):
        asked = []

        def keys():
            asked.append(True)
            now = datetime.datetime.now(datetime.timezone.utc)
            return secrets_of(ceph, expires_at=now + datetime.timedelta(hours=1))

        store = Store(f"s3://{bucket}", endpoint=ceph.endpoint, secrets=keys)
        assert [store.get("a") for _ in range(3)] == [CONTENT] * 3
        assert len(asked) == 1

    def test_keys_that_the_service_calls_expired_are_asked_for_again(
        self, ceph, good, bucket, monkeypatch
    ):
        monkeypatch.setenv("PKGDATA_RETRIES", "2")
        asked = []

        def keys():
            asked.append(True)
            return secrets_of(ceph)

        with Proxy(ceph.endpoint) as proxy:
            store = Store(f"s3://{bucket}", endpoint=proxy.url, secrets=keys)
            proxy.script(spoil.s3_error(400, "ExpiredToken"), method="GET")
            assert store.get("a") == CONTENT
            assert len(asked) == 2
            proxy.script(spoil.s3_error(400, "ExpiredToken"), method="PUT")
            store.put("b", b"1")
            assert len(asked) == 3
        good.delete("b")

    def test_expired_keys_that_nobody_renews(self, ceph, good, bucket, monkeypatch):
        monkeypatch.setenv("PKGDATA_RETRIES", "2")
        with Proxy(ceph.endpoint) as proxy:
            secrets = secrets_of(ceph, session_token=SESAME)
            store = Store(f"s3://{bucket}", endpoint=proxy.url, secrets=secrets)
            proxy.script(spoil.every(spoil.s3_error(400, "ExpiredToken")))
            error = refused(StoreError, lambda: store.get("a"), "ExpiredToken")
            assert "log in again" in error.hint
            assert len(proxy.requests) == 1


def profiles(monkeypatch, tmp_path, config="", credentials=""):
    """Write Amazon's two files."""
    for name, text in (("config", config), ("shared_credentials", credentials)):
        (tmp_path / name).write_text(text)
        monkeypatch.setenv(f"AWS_{name.upper()}_FILE", str(tmp_path / name))


def test_profile_that_is_not_there(monkeypatch, tmp_path):
    pytest.importorskip("obstore")
    profiles(monkeypatch, tmp_path, "[profile other]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_PROFILE", "work")
    refused(ConfigError, lambda: Store("s3://b").get("a"), "AWS_PROFILE", "'work'")


def test_profile_file_that_cannot_be_parsed(monkeypatch, tmp_path):
    pytest.importorskip("obstore")
    profiles(monkeypatch, tmp_path, f"{SESAME}\n[default]\n")
    refused(ConfigError, lambda: Store("s3://b").get("a"), "cannot be parsed")


@pytest.mark.parametrize(
    "settings",
    [
        "sso_session = work",
        "role_arn = arn:aws:iam::1:role/r\nsource_profile = default",
        "credential_process = /bin/keys",
    ],
)
def test_profile_that_needs_amazons_library(monkeypatch, tmp_path, settings):
    pytest.importorskip("obstore")
    monkeypatch.setitem(sys.modules, "boto3", None)
    profiles(monkeypatch, tmp_path, f"[default]\nregion = eu-west-1\n{settings}\n")
    error = refused(MissingExtraError, lambda: Store("s3://b").get("a"), "boto3")
    assert error.hint == "pip install boto3"


def test_what_a_profile_says(monkeypatch, tmp_path):
    profiles(
        monkeypatch,
        tmp_path,
        "[profile work]\nregion = eu-west-1\n[default]\nregion = us-west-2\n",
        f"[work]\naws_access_key_id = KEY\naws_secret_access_key = {SESAME}\n"
        "aws_session_token = token\n",
    )
    assert providers.aws_credentials() is None  # the default profile has no keys
    monkeypatch.setenv("AWS_PROFILE", "work")
    settings = {
        "region": "eu-west-1",
        "access_key_id": "KEY",
        "secret_access_key": SESAME,
        "session_token": "token",
    }
    assert providers.aws_credentials() == (settings, None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OTHER")
    assert providers.aws_credentials() == ({}, None)  # the environment wins


def test_where_google_and_azure_credentials_are(monkeypatch, tmp_path):
    assert not providers.google_credentials()
    assert not providers.azure_credentials()
    folder = tmp_path / "gcloud"
    folder.mkdir()
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(folder))
    assert not providers.google_credentials()
    (folder / "application_default_credentials.json").write_text("{}")
    assert providers.google_credentials()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", SESAME)
    assert providers.azure_credentials()
