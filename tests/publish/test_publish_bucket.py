"""Publishing to buckets: Ceph, moto and Azurite are real servers, Google's is an imitation."""

from __future__ import annotations

import json
import os

import pytest
from publishing import FILES, make, publish, run, sha, states
from servers.proxy import Proxy, answer, every, s3_error, tamper_request
from servers.signing import ask

from pkgdata.core.registry import Registry
from pkgdata.errors import (
    AccessDeniedError,
    AlreadyPublishedError,
    IntegrityError,
    PublishError,
    StoreError,
    UnsupportedOperationError,
)
from pkgdata.publish import destination_for
from pkgdata.publish.engine import Publication
from pkgdata.stores import Store

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """Start without any cloud's credentials, whoever runs the tests."""
    for name in os.environ:
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("PKGDATA_RETRIES", "1")


@pytest.fixture
def keys(ceph, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ceph.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ceph.secret_key)


def place_of(ceph, bucket, endpoint=None):
    return f"s3://{endpoint or ceph.endpoint}/{bucket}/v 1"


# -- round trips -------------------------------------------------------------------------------


def test_a_public_bucket(ceph, keys, here, registry):
    bucket = ceph.make_bucket(public=True)
    place = place_of(ceph, bucket)
    done = run(here, "--to", place, "--registry", registry)
    assert done.returncode == 0, done.stderr
    assert f'dataurl = ["{ceph.endpoint}/{bucket}/v%201/"]' in done.stderr
    for name, content in FILES.items():
        assert Store(place)[name] == content
    _, sent, findings = publish(here, place, registry)
    assert sent == 0
    assert set(states(findings).values()) == {"ok"}


def test_what_the_advice_says_makes_the_files_readable(ceph, keys, here, registry):
    bucket = ceph.make_bucket()
    place = place_of(ceph, bucket)
    done = run(here, "--to", place, "--registry", registry, "--json")
    assert done.returncode == 3
    assert {row["state"] for row in json.loads(done.stdout)["files"]} == {"refused"}
    assert "put-bucket-policy" in done.stderr
    text = done.stderr
    policy = text[text.index("{") : text.index("  aws s3api put-bucket-policy")]
    reply = ceph.signed("PUT", f"/{bucket}", {"policy": ""}, body=policy.encode())
    assert reply.status // 100 == 2, reply.body
    done = run("--check", "--to", place, "--registry", registry)
    assert done.returncode == 0, done.stderr


def test_public_objects_of_a_private_bucket(ceph, keys, here, registry):
    bucket = ceph.make_bucket()
    done = run(here, "--to", place_of(ceph, bucket), "--registry", registry, "--public")
    assert done.returncode == 0, done.stderr


def test_a_page_beside_the_objects(ceph, keys, here, registry):
    bucket = ceph.make_bucket()
    words = [here, "--to", place_of(ceph, bucket), "--registry", registry, "--public", "--index"]
    for _ in range(2):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    address = f"{ceph.endpoint}/{bucket}/v%201/index.html"
    assert f"page: {address}" in done.stderr
    reply = ask("GET", address)
    assert reply.headers["content-type"] == "text/html"
    assert b"stars.csv" in reply.body


def test_the_other_versions_of_a_bucket(ceph, keys):
    bucket = ceph.make_bucket(public=True)
    top = Store(f"s3://{ceph.endpoint}/{bucket}")
    for name in ("v 0.9/index.html", "v 0.10/index.html", "v 0.8/a.txt", "w 1/index.html"):
        top[name] = b"x"
    place = destination_for(f"s3://{ceph.endpoint}/{bucket}/v 1.0")
    assert sorted(place.versions("1.0")) == ["0.10", "0.9"]
    assert place.versions("2.0") == []
    assert destination_for(f"s3://{ceph.endpoint}/{bucket}").versions(bucket) == []


def test_what_is_kept_beside_an_object(ceph, keys, here, registry):
    bucket = ceph.make_bucket(public=True)
    publish(here, place_of(ceph, bucket), registry, storage_class="REDUCED_REDUNDANCY")
    kept = ask("HEAD", f"{ceph.endpoint}/{bucket}/v%201/stars.csv").headers
    assert kept["content-type"] == "text/csv"
    assert kept["x-amz-storage-class"] == "REDUCED_REDUNDANCY"
    assert kept["x-amz-meta-sha256"] == sha(FILES["stars.csv"])


def test_a_file_sent_in_parts_is_known_again(ceph, keys, tmp_path, registry):
    here = make(tmp_path / "large", {"large.bin": os.urandom(1 << 20) * 66})
    place = place_of(ceph, ceph.make_bucket(public=True))
    publish(here, place, registry)
    info = Store(place).stat("large.bin")
    assert info.digest is None, "the service tells no digest of it"
    _, sent, findings = publish(here, place, registry)
    assert sent == 0
    assert states(findings) == {"large.bin": "ok"}
    (here / "large.bin").write_bytes(bytes(66 << 20))
    registry.unlink()
    with pytest.raises(AlreadyPublishedError):
        publish(here, place, registry)


def test_moto(moto, monkeypatch, here, registry):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_key)
    bucket = moto.make_bucket(public=True)
    place = f"s3://{bucket}/v1"
    _, sent, findings = publish(here, place, registry, endpoint=moto.endpoint, public=True)
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}
    assert publish(here, place, registry, endpoint=moto.endpoint, public=True)[1] == 0


def test_azurite(azurite, monkeypatch, here, registry):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", azurite.account)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", azurite.key)
    place = f"az://{azurite.make_container(public=True)}/v1"
    work, sent, findings = publish(here, place, registry, endpoint=azurite.endpoint)
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}
    assert work.plans[0].destination.dataurl.startswith(f"{azurite.endpoint}/")
    assert publish(here, place, registry, endpoint=azurite.endpoint)[1] == 0
    with pytest.raises(UnsupportedOperationError, match="make the container public"):
        publish(here, place, registry, endpoint=azurite.endpoint, public=True)


def test_azurite_in_private(azurite, monkeypatch, here, registry):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", azurite.account)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", azurite.key)
    place = f"az://{azurite.make_container()}/v1"
    done = run(here, "--to", place, "--registry", registry, "--endpoint", azurite.endpoint)
    assert done.returncode == 3
    assert "az storage container set-permission" in done.stderr


@pytest.fixture
def account(gcs, tmp_path, monkeypatch):
    pytest.importorskip("cryptography", reason="signs the keys of Google's service accounts")
    path = tmp_path / "account.json"
    path.write_text(json.dumps(gcs.service_account()))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(path))
    monkeypatch.setenv("GCE_METADATA_HOST", gcs.host)


def test_google(gcs, account, here, registry):
    place = f"gs://{gcs.make_bucket(public=True)}/v1"
    _, sent, findings = publish(here, place, registry, endpoint=gcs.endpoint)
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}
    assert publish(here, place, registry, endpoint=gcs.endpoint)[1] == 0


def test_google_in_private(gcs, account, here, registry):
    place = f"gs://{gcs.make_bucket()}/v1"
    done = run(here, "--to", place, "--registry", registry, "--endpoint", gcs.endpoint)
    assert done.returncode == 3
    assert "add-iam-policy-binding" in done.stderr


# -- what is refused ---------------------------------------------------------------------------


def test_no_credentials(ceph, here, registry):
    done = run(here, "--to", place_of(ceph, ceph.make_bucket(public=True)), "--registry", registry)
    assert done.returncode == 1
    assert "no credentials to write with" in done.stderr
    assert not registry.exists()


def test_wrong_credentials(ceph, keys, monkeypatch, here, registry):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-secret")
    done = run(here, "--to", place_of(ceph, ceph.make_bucket()), "--registry", registry)
    assert done.returncode == 1
    assert "SignatureDoesNotMatch" in done.stderr
    assert "wrong-and-secret" not in done.stderr


def test_no_such_bucket(ceph, keys, here, registry):
    with pytest.raises(StoreError, match="no such bucket"):
        publish(here, place_of(ceph, "nosuch-bucket"), registry)


def test_a_host_that_is_down(keys, here, registry):
    with pytest.raises(StoreError, match="connection refused"):
        publish(here, "s3://http://127.0.0.1:9/bucket/v1", registry)
    assert not registry.exists()


@pytest.mark.parametrize("content", [b"others of another size", FILES["stars.csv"][::-1]])
def test_what_is_there_is_not_replaced(ceph, keys, here, registry, content):
    place = place_of(ceph, ceph.make_bucket(public=True))
    Store(place)["stars.csv"] = content
    with pytest.raises(AlreadyPublishedError, match=r"stars\.csv"):
        publish(here, place, registry)
    assert list(Store(place)) == ["stars.csv"]
    _, sent, findings = publish(here, place, registry, replace=["stars.csv"])
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}


def test_what_others_put_there_meanwhile_is_not_replaced(ceph, keys, here, registry):
    place = place_of(ceph, ceph.make_bucket())
    with Publication(str(here), [destination_for(place)], str(registry)) as work:
        work.plan()
        Store(place)["stars.csv"] = b"theirs"
        with pytest.raises(PublishError, match="somebody else has just published"):
            work.upload()
    assert Store(place)["stars.csv"] == b"theirs"


def test_no_right_to_write(ceph, keys, here, registry):
    with Proxy(ceph.endpoint) as proxy:
        place = place_of(ceph, ceph.make_bucket(), proxy.url)
        proxy.script(every(s3_error(403, "AccessDenied")), method="PUT")
        with pytest.raises(PublishError, match="AccessDenied") as caught:
            publish(here, place, registry)
    assert isinstance(caught.value.__cause__, AccessDeniedError)
    assert not registry.exists()


def test_a_full_bucket_is_a_stop_that_can_be_resumed(ceph, keys, here, registry):
    with Proxy(ceph.endpoint) as proxy:
        place = place_of(ceph, ceph.make_bucket(public=True), proxy.url)
        proxy.script(every(s3_error(403, "QuotaExceeded")), method="PUT", path="stars")
        with pytest.raises(PublishError, match="QuotaExceeded"):
            publish(here, place, registry)
        there = set(Store(place))
        proxy.heal()
        _, sent, _ = publish(here, place, registry)
    assert "stars.csv" not in there
    assert sent == len(FILES) - len(there)


def test_bytes_that_change_on_the_way_are_not_stored(ceph, keys, here, registry):
    with Proxy(ceph.endpoint) as proxy:
        place = place_of(ceph, ceph.make_bucket(), proxy.url)
        proxy.script(every(tamper_request(3)), method="PUT", path="stars")
        with pytest.raises(PublishError, match="stars"):
            publish(here, place, registry)
        assert "stars.csv" not in Store(place)


def test_a_file_that_changes_while_it_is_sent_in_parts(ceph, keys, tmp_path, registry):
    here = make(tmp_path / "large", {"large.bin": bytes(66 << 20)})
    place = place_of(ceph, ceph.make_bucket())
    destination = destination_for(place)
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        (item,) = work.items

        def meddle(sent):
            if sent < item.size:
                os.utime(item.path, ns=(1, 1))

        with pytest.raises(IntegrityError, match="changed while it was published"):
            destination.put(item, False, meddle)
    assert list(Store(place)) == []


def test_a_service_without_conditional_writes(ceph, keys, here, registry):
    with Proxy(ceph.endpoint) as proxy:
        place = place_of(ceph, ceph.make_bucket(public=True), proxy.url)
        refusal = s3_error(501, "NotImplemented")
        # the client itself tries once more what fails with such a status
        proxy.script(refusal, refusal, method="PUT", path="stars")
        _, sent, findings = publish(here, place, registry)
        asked = [r for r in proxy.requests if r.method == "PUT" and "stars" in r.path]
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}
    assert [("if-none-match" in request.headers) for request in asked] == [True, True, False]


def test_passing_troubles_are_overcome(ceph, keys, here, registry):
    with Proxy(ceph.endpoint) as proxy:
        place = place_of(ceph, ceph.make_bucket(public=True), proxy.url)
        proxy.script(answer(503, headers={"Retry-After": "0"}), method="PUT", path="stars")
        _, sent, _ = publish(here, place, registry)
    assert sent == len(FILES)
    assert set(Registry.load(registry)) == set(FILES)


def test_a_bucket_with_very_much_else_in_it(ceph, keys, here, registry, monkeypatch):
    from pkgdata.publish import places as module

    monkeypatch.setattr(module, "_LISTED", -4 * len(FILES))
    place = place_of(ceph, ceph.make_bucket(public=True))
    Store(place)["other.bin"] = b"o"
    publish(here, place, registry)
    assert publish(here, place, registry)[1] == 0


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("s3://bucket/v1", "s3://bucket/v1/"),
        ("s3://https://s3.example.org/bucket/v1", "https://s3.example.org/bucket/v1/"),
        ("gs://bucket", "gs://bucket/"),
        (
            "az://me.blob.core.windows.net/box/v1",
            "https://me.blob.core.windows.net/box/v1/",
        ),
    ],
)
def test_the_public_address_needs_nothing_of_our_environment(url, base):
    assert destination_for(url).dataurl == base
    assert destination_for(url, public_url="https://cdn.example/").dataurl == "https://cdn.example/"


def test_an_endpoint_of_the_environment_is_in_the_public_address(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    assert destination_for("s3://bucket/v1").dataurl == "https://s3.example.org/bucket/v1/"
