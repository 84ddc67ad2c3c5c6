"""The imitation of Google Cloud Storage, driven by obstore as by any client."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
from datetime import datetime, timedelta, timezone

import pytest

from servers.gcs import Gcs, crc32c
from servers.signing import ask

pytestmark = pytest.mark.slow

obstore = pytest.importorskip("obstore", reason="needs obstore: pip install obstore")
GCSStore = pytest.importorskip("obstore.store").GCSStore
errors = pytest.importorskip("obstore.exceptions")

QUICK = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}
ODD = ["a b", "ü/☃", "50%", "a+b", "q?x=1&y", "#", ".hidden", "<&>'\"", "e.txt"]


def connect(gcs: Gcs, bucket: str, **config: object):
    """Return obstore's view of a bucket, with a token unless other credentials are given."""
    config = config or {"bearer_token": gcs.issue_token()}
    return GCSStore(
        bucket,
        config={"base_url": gcs.endpoint, **config},
        client_options={"allow_http": True},
        retry_config=QUICK,
    )


@pytest.fixture
def bucket(gcs):
    return gcs.make_bucket()


@pytest.fixture
def store(gcs, bucket):
    return connect(gcs, bucket)


def test_put_get_head_delete(gcs, bucket, store):
    content = random.Random(1).randbytes(100_000)
    put = obstore.put(store, "a", content, attributes={"Content-Type": "image/png", "by": "me"})
    assert put["e_tag"] == f'"{hashlib.md5(content).hexdigest()}"'
    assert put["version"] == str(gcs.buckets[bucket].blobs["a"].generation)
    got = obstore.get(store, "a")
    assert got.attributes["Content-Type"] == "image/png"
    assert got.attributes["by"] == "me"
    assert bytes(got.bytes()) == content
    head = obstore.head(store, "a")
    assert (head["size"], head["e_tag"]) == (len(content), put["e_tag"])
    obstore.delete(store, "a")
    for call in (obstore.get, obstore.head):
        with pytest.raises(FileNotFoundError):
            call(store, "a")
    assert [request.method for request in gcs.requests] == [
        "PUT", "GET", "HEAD", "DELETE", "GET", "HEAD",
    ]  # fmt: skip


def test_names(store):
    for name in ODD:
        obstore.put(store, name, name.encode())
    for name in ODD:
        assert bytes(obstore.get(store, name).bytes()) == name.encode()
    found = [entry["path"] for page in obstore.list(store) for entry in page]
    assert found == sorted(ODD, key=str.encode)


def test_ranges(store):
    obstore.put(store, "a", b"0123456789")
    assert bytes(obstore.get_range(store, "a", start=2, end=5)) == b"234"
    assert bytes(obstore.get_range(store, "a", start=8, end=99)) == b"89"
    assert [bytes(part) for part in obstore.get_ranges(store, "a", starts=[0, 9], ends=[1, 10])] \
        == [b"0", b"9"]  # fmt: skip
    assert bytes(obstore.get(store, "a", options={"range": {"suffix": 3}}).bytes()) == b"789"
    assert bytes(obstore.get(store, "a", options={"range": {"offset": 7}}).bytes()) == b"789"
    with pytest.raises(errors.BaseError, match="416"):
        obstore.get_range(store, "a", start=10, end=11)


def test_conditions(gcs, bucket, store):
    first = obstore.put(store, "a", b"one", mode="create")
    with pytest.raises(errors.AlreadyExistsError):
        obstore.put(store, "a", b"two", mode="create")
    assert gcs.buckets[bucket].blobs["a"].content == b"one"
    second = obstore.put(store, "a", b"two", mode=first)
    assert int(second["version"]) > int(first["version"])
    with pytest.raises(errors.PreconditionError):
        obstore.put(store, "a", b"three", mode=first)
    with pytest.raises(errors.NotModifiedError):
        obstore.get(store, "a", options={"if_none_match": second["e_tag"]})
    with pytest.raises(errors.PreconditionError):
        obstore.get(store, "a", options={"if_match": first["e_tag"]})
    with pytest.raises(FileNotFoundError):
        obstore.get(store, "a", options={"version": first["version"]})
    assert bytes(obstore.get(store, "a", options={"version": second["version"]}).bytes()) == b"two"


def test_list(gcs, bucket, store):
    names = [f"{folder}/{number:03}" for folder in "abc" for number in range(20)] + ["b", "z"]
    for name in names:
        obstore.put(store, name, b"x")
    for gcs.page in (1000, 7, 1):
        assert [e["path"] for page in obstore.list(store) for e in page] == sorted(names)
        below = [e["path"] for page in obstore.list(store, "b") for e in page]
        assert below == [f"b/{number:03}" for number in range(20)]
        after = [e["path"] for page in obstore.list(store, offset="c/018") for e in page]
        assert after == ["c/019", "z"]
        flat = obstore.list_with_delimiter(store)
        assert [e["path"] for e in flat["objects"]] == ["b", "z"]
        assert flat["common_prefixes"] == ["a", "b", "c"]


def test_multipart(gcs, bucket, store):
    content = random.Random(2).randbytes((5 << 20) + 1000)
    put = obstore.put(store, "a", content, use_multipart=True, chunk_size=5 << 20)
    assert put["e_tag"].endswith('-2"'), "it is no MD5 of the content"
    blob = gcs.buckets[bucket].blobs["a"]
    assert (blob.content == content, blob.parts) == (True, 2)
    assert gcs.buckets[bucket].uploads == {}
    reply = ask("HEAD", f"{gcs.endpoint}/{bucket}/a", bearer(gcs))
    assert "md5" not in reply.headers["x-goog-hash"]
    with pytest.raises(errors.BaseError, match="EntityTooSmall"):
        obstore.put(store, "b", bytes(3000), use_multipart=True, chunk_size=1000)
    assert "b" not in gcs.buckets[bucket].blobs
    assert gcs.buckets[bucket].uploads == {}, "the client gave the upload up"


def test_copy_and_rename(gcs, bucket, store):
    obstore.put(store, "a b/ü", b"x", attributes={"Content-Type": "image/png"})
    obstore.copy(store, "a b/ü", "c")
    assert obstore.get(store, "c").attributes["Content-Type"] == "image/png"
    with pytest.raises(errors.AlreadyExistsError):
        obstore.copy(store, "a b/ü", "c", overwrite=False)
    obstore.rename(store, "c", "d")
    assert sorted(gcs.buckets[bucket].blobs) == ["a b/ü", "d"]
    with pytest.raises(FileNotFoundError):
        obstore.copy(store, "nothing", "e")


def test_public_buckets_are_read_without_a_token(gcs):
    public, private = gcs.make_bucket(public=True), gcs.make_bucket()
    for name in (public, private):
        obstore.put(connect(gcs, name), "a", b"x")
    anonymous = connect(gcs, public, skip_signature=True)
    assert bytes(obstore.get(anonymous, "a").bytes()) == b"x"
    assert len(obstore.list(anonymous).collect()) == 1
    with pytest.raises(errors.PermissionDeniedError):
        obstore.get(connect(gcs, private, skip_signature=True), "a")
    for method in ("PUT", "DELETE"):
        assert ask(method, f"{gcs.endpoint}/{public}/a").status == 403
    reply = ask("PUT", f"{gcs.endpoint}/{private}/b", {**bearer(gcs), "x-goog-acl": "public-read"})
    assert reply.status == 200
    assert ask("GET", f"{gcs.endpoint}/{private}/b").status == 200


def bearer(gcs: Gcs) -> dict[str, str]:
    return {"Authorization": f"Bearer {gcs.issue_token()}"}


def test_refusals(gcs, bucket):
    with pytest.raises(errors.UnauthenticatedError):
        obstore.put(connect(gcs, bucket, bearer_token="guessed"), "a", b"x")
    with pytest.raises(errors.PermissionDeniedError):
        obstore.put(connect(gcs, gcs.make_bucket(readonly=True)), "a", b"x")
    with pytest.raises(errors.BaseError, match="NoSuchBucket"):
        obstore.list(connect(gcs, "no-such-bucket")).collect()
    wrong = base64.b64encode(bytes(16)).decode()
    for header in ({"Content-MD5": wrong}, {"x-goog-hash": f"md5={wrong}"},
                   {"x-goog-hash": "crc32c=AAAAAA=="}):  # fmt: skip
        reply = ask("PUT", f"{gcs.endpoint}/{bucket}/a", {**bearer(gcs), **header}, b"x")
        assert (reply.status, b"BadDigest" in reply.body) == (400, True)
    assert gcs.buckets[bucket].blobs == {}


def test_an_expired_token_is_renewed(gcs, bucket):
    given = []

    def provider():
        given.append(gcs.issue_token())
        # what is nearly over is asked for anew before each use
        return {"token": given[-1], "expires_at": datetime.now(timezone.utc)}

    store = GCSStore(
        bucket,
        config={"base_url": gcs.endpoint},
        credential_provider=provider,
        client_options={"allow_http": True},
        retry_config=QUICK,
    )
    obstore.put(store, "a", b"x")
    gcs.expire_tokens()
    assert bytes(obstore.get(store, "a").bytes()) == b"x"
    assert len(given) == 2
    old = connect(gcs, bucket)
    gcs.expire_tokens()
    with pytest.raises(errors.UnauthenticatedError):
        obstore.get(old, "a")


def test_service_account(gcs, bucket):
    account = gcs.service_account()
    store = connect(gcs, bucket, service_account_key=json.dumps(account))
    obstore.put(store, "a", b"x")
    with Gcs() as elsewhere:
        other = elsewhere.service_account(account["client_email"])
    stranger = connect(gcs, bucket, service_account_key=json.dumps(other))
    with pytest.raises(errors.UnauthenticatedError):
        obstore.get(stranger, "a")


def test_metadata_server(gcs, bucket, monkeypatch):
    monkeypatch.setenv("GCE_METADATA_HOST", gcs.host)
    store = GCSStore(bucket, config={"base_url": gcs.endpoint}, client_options={"allow_http": True})
    obstore.put(store, "a", b"x")
    assert [request.path.count("/token") for request in gcs.requests] == [1, 0]


def test_without_tokens():
    with Gcs(check_tokens=False) as gcs:
        account = {"disable_oauth": True, "client_email": "", "private_key": ""}
        account |= {"private_key_id": "", "gcs_base_url": gcs.endpoint}
        store = connect(gcs, gcs.make_bucket(), service_account_key=json.dumps(account))
        obstore.put(store, "a", b"x")
        assert bytes(obstore.get(store, "a").bytes()) == b"x"


def test_digests_are_told(gcs, bucket, store):
    obstore.put(store, "a", b"123456789")
    assert crc32c(b"123456789") == 0xE3069283, "the check value of the standard"
    url = f"{gcs.endpoint}/{bucket}/a"
    told = ask("HEAD", url, bearer(gcs)).headers
    assert gcs.buckets[bucket].blobs["a"].described().count(("x-goog-hash", "crc32c=4waSgw==")) == 1
    assert told["etag"] == '"25f9e794323b453885f5181f1b624d0b"'
    gcs.buckets[bucket].blobs["a"].content = b"damaged!!"
    damaged = ask("GET", url, bearer(gcs))
    assert (damaged.body, damaged.headers["etag"]) == (b"damaged!!", told["etag"])


def test_gzip_is_unpacked_for_those_who_do_not_know_it(gcs, bucket, store):
    packed = gzip.compress(b"plain", mtime=0)
    obstore.put(store, "a", packed, attributes={"Content-Encoding": "gzip"})
    url = f"{gcs.endpoint}/{bucket}/a"
    assert ask("GET", url, bearer(gcs)).body == b"plain"
    stored = ask("GET", url, {**bearer(gcs), "Accept-Encoding": "gzip"})
    assert (stored.body, stored.headers["content-encoding"]) == (packed, "gzip")


def test_troubles(gcs, bucket, store):
    gcs.fail(503, "ServiceUnavailable", times=2, method="GET", headers={"Retry-After": "1"})
    obstore.put(store, "a", b"x")
    for _ in range(2):
        with pytest.raises(errors.BaseError, match="503"):
            obstore.get(store, "a")
    assert bytes(obstore.get(store, "a").bytes()) == b"x"
    gcs.fail(429, "TooManyRequests", headers={"Retry-After": "7"})
    reply = ask("GET", f"{gcs.endpoint}/{bucket}/a", bearer(gcs))
    assert (reply.status, reply.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("PUT", "/{bucket}/a", {"x-goog-encryption-key": "k"}),
        ("GET", "/{bucket}/a?acl", {}),
        ("GET", "/{bucket}", {}),
        ("PATCH", "/{bucket}/a", {}),
        ("GET", "/{bucket}/a", {"Range": "bytes=0-1,3-4"}),
    ],
)
def test_what_it_does_not_know_is_an_error(method, target, headers):
    with pytest.raises(AssertionError, match="was asked"), Gcs() as gcs:
        bucket = gcs.make_bucket()
        url = f"{gcs.endpoint}/{bucket}/a"
        assert ask("PUT", url, bearer(gcs), b"0123456789").status == 200
        url = gcs.endpoint + target.format(bucket=bucket)
        assert ask(method, url, {**bearer(gcs), **headers}).status == 501
