"""What objects have next to their bytes goes with their copies, or the copy says what it loses."""

from __future__ import annotations

import gzip
import warnings

import pytest
from servers.signing import S3 as Account

from pkgdata.errors import BatchError, PkgdataWarning, StoreError
from pkgdata.stores import Store, s3
from pkgdata.stores.copying import Recipe, copies

pytest.importorskip("obstore")
pytestmark = pytest.mark.integration

KEPT = {
    "content_type": "text/csv",
    "cache_control": "max-age=60",
    "content_disposition": 'attachment; filename="a.csv"',
    "content_language": "fr",
    "metadata": {"origin": "survey"},
}
ON_S3 = {
    **KEPT,
    "encoding": "gzip",
    "storage_class": "REDUCED_REDUNDANCY",
    "tags": {"a": "1-2", "b": ""},
}


@pytest.fixture(params=["moto", "ceph"])
def account(request) -> Account:
    return request.getfixturevalue(request.param)


def bucket_of(account, **options):
    secrets = {"access_key_id": account.access_key, "secret_access_key": account.secret_key}
    return Store(f"s3://{account.endpoint}/{account.make_bucket()}", secrets=secrets, **options)


@pytest.fixture
def here(account):
    return bucket_of(account)


@pytest.fixture
def there(account):
    return bucket_of(account)


@pytest.fixture
def other_rights(account):
    """Give a bucket that the service does not copy to from here: the bytes pass through us."""
    store = bucket_of(account)
    store._options["secrets"] = dict(store._options["secrets"], region="us-east-1")
    return store


def attributes(store, name):
    found = store.all_attributes(name, store.info(name).attributes)
    return {word: getattr(found, word) for word in ON_S3}


class TestS3:
    def test_within_a_bucket(self, here):
        here.put("a", b"content", **ON_S3)
        here.transfer_to(here, [("a", "b")])
        assert attributes(here, "b") == ON_S3

    def test_to_another_bucket_by_the_service(self, here, there, monkeypatch):
        here.put("a", b"content", **ON_S3)
        monkeypatch.setattr(type(here), "open", None)  # no byte comes here
        here.transfer_to(there, ["a"])
        assert attributes(there, "a") == ON_S3

    def test_to_another_bucket_through_here(self, here, other_rights):
        here.put("a", b"content", **ON_S3)
        here.transfer_to(other_rights, ["a"])
        assert other_rights.get("a", raw=True) == b"content"
        assert attributes(other_rights, "a") == ON_S3

    def test_a_move(self, here, there):
        here.put("a", b"content", **ON_S3)
        assert [one.error for one in copies([(here, "a", "b")], there, move=True)] == [None]
        assert attributes(there, "b") == ON_S3
        assert [*here] == []

    @pytest.mark.parametrize("size", [12 << 20, (12 << 20) + 1])
    def test_larger_than_one_request_copies(self, here, there, monkeypatch, size):
        here.put("a", b"", **ON_S3)
        content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        # in parts too: Ceph ignores tags then
        kept = here.all_attributes("a", here.info("a").attributes)
        here.write_blocks("a", [content], kept)
        monkeypatch.setattr(s3, "_COPIED", 1 << 20)
        monkeypatch.setattr(s3, "_COPY_PART", 5 << 20)
        monkeypatch.setattr(type(here), "open", None)
        here.transfer_to(there, ["a"])
        monkeypatch.undo()
        assert there.get("a", raw=True) == content
        assert there.info("a").validator.strip('"').endswith("-3")
        found = attributes(there, "a")
        assert found == ON_S3
        assert [*there.uploads()] == []

    def test_a_failed_copy_by_parts_leaves_no_parts(self, here, there, monkeypatch):
        here.put("a", bytes(6 << 20))
        monkeypatch.setattr(s3, "_COPIED", 1 << 20)
        monkeypatch.setattr(s3, "_COPY_PART", 5 << 20)
        real = s3.S3.ask

        def ask(store, method, name, query=None, *args, **options):
            if "partNumber" in (query or {}):
                raise KeyboardInterrupt
            return real(store, method, name, query, *args, **options)

        monkeypatch.setattr(s3.S3, "ask", ask)
        with pytest.raises(KeyboardInterrupt):
            there.clone("a", here, "a")
        monkeypatch.undo()
        assert [*there.uploads()] == []
        assert [*there] == []

    def test_an_empty_object_and_an_odd_name(self, here, there):
        names = ["é ü+%&=~'()*!", "x" * 200, "q?x=1#y"]
        for name in names:
            here.put(name, b"")
        here.transfer_to(there, names)
        assert sorted(there) == sorted(names)

    def test_a_missing_original(self, here, there):
        with pytest.raises(BatchError, match="no such object"):
            here.transfer_to(there, ["never"])

    def test_onto_itself(self, here):
        here.put("a", b"content")
        with pytest.raises(BatchError, match="onto itself"):
            here.transfer_to(here, ["a"])
        assert here.get("a") == b"content"


@pytest.mark.parametrize("name", ["x.csv.gz", "x.csv"])
def test_the_encoding_of_a_compressed_name_is_kept_in_memory(here, tmp_path, name):
    memory, folder = Store(f"mem://kept-{tmp_path.name}"), Store(tmp_path.as_uri())
    stored = gzip.compress(b"a,b")
    here.put(name, stored, encoding="gzip")
    for to in (memory, folder):
        Recipe().copy(here, name, to, name)
    assert memory.info(name).attributes.encoding == "gzip"
    assert memory.get(name) == here.get(name) == b"a,b"
    assert memory.get(name, raw=True) == stored
    assert (tmp_path / "x.csv.gz").read_bytes() == stored
    Recipe().copy(memory, name, here, f"back/{name}")
    assert attributes(here, f"back/{name}")["encoding"] == "gzip"


class TestUploads:
    def test_are_listed_and_removed(self, account, here):
        names = [f"p/{i} é" for i in range(3)] + ["q"]
        for name in names:
            account.signed("POST", f"/{here.url.rpartition('/')[2]}/{name}", {"uploads": ""})
        assert sorted(name for name, _, _ in here.uploads()) == sorted(names)
        found = [*here.uploads("p/")]
        assert len(found) == 3
        assert found[0][2] > 0  # when it began; moto's clock stands still
        for name, upload, _ in found:
            here.abort(name, upload)
        assert [name for name, _, _ in here.uploads()] == ["q"]
        here.abort(found[0][0], found[0][1])  # twice does no harm

    def test_other_clouds_say_what_becomes_of_them(self, gcs, azurite):
        google = Store("gs://b", endpoint=gcs.endpoint, secrets={"bearer_token": gcs.issue_token()})
        with pytest.raises(StoreError, match="AbortIncompleteMultipartUpload"):
            [*google.uploads()]
        secrets = {"account_name": azurite.account, "account_key": azurite.key}
        azure = Store("az://c", endpoint=azurite.endpoint, secrets=secrets)
        with pytest.raises(StoreError, match="after a week"):
            [*azure.uploads()]


class TestOtherClouds:
    @pytest.fixture
    def google(self, gcs):
        secrets = {"bearer_token": gcs.issue_token()}
        return Store(f"gs://{gcs.make_bucket()}", secrets=secrets, endpoint=gcs.endpoint)

    @pytest.fixture
    def azure(self, azurite):
        secrets = {"account_name": azurite.account, "account_key": azurite.key}
        return Store(f"az://{azurite.make_container()}", secrets=secrets, endpoint=azurite.endpoint)

    @pytest.mark.parametrize("end", ["google", "azure"])
    def test_headers_and_metadata_go_from_s3_and_back(self, request, moto, end):
        here, other = bucket_of(moto), request.getfixturevalue(end)
        here.put("a", b"content", **KEPT)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            here.transfer_to(other, ["a"])
            other.transfer_to(here, [("a", "b")])
        assert {word: attributes(here, "b")[word] for word in KEPT} == KEPT

    @pytest.mark.parametrize("end", ["google", "azure"])
    def test_within_a_bucket(self, request, end):
        store = request.getfixturevalue(end)
        store.put("a", b"content", encoding="gzip", **KEPT)
        store.transfer_to(store, [("a", "b")])
        found = attributes(store, "b")
        assert {word: found[word] for word in KEPT} == KEPT
        assert found["encoding"] == "gzip"

    def test_what_cannot_be_kept_is_said(self, moto, google):
        here = bucket_of(moto)
        here.put("a", b"content", **ON_S3)
        with pytest.warns(PkgdataWarning, match="REDUCED_REDUNDANCY and tags of objects cannot"):
            here.transfer_to(google, ["a"])
        assert google.get("a", raw=True) == b"content"

    def test_a_move_keeps_the_original_then(self, moto, google):
        here = bucket_of(moto)
        here.put("a", b"content", tags={"a": "1"})
        strict = Recipe(strict=True)
        (copied,) = copies([(here, "a", "a")], google, strict, move=True)
        assert "cannot keep its tags; it was not moved" in str(copied.error)
        assert [*here] == ["a"]
        assert [*google] == []

    def test_azure_keeps_the_tier(self, azure):
        azure.put("a", b"content", storage_class="Cool", **KEPT)
        azure.transfer_to(azure, [("a", "b")])
        found = attributes(azure, "b")
        assert found["storage_class"] == "Cool"
        assert {word: found[word] for word in KEPT} == KEPT

    def test_azure_gets_tags_but_does_not_let_them_be_read(self, moto, azure):
        here = bucket_of(moto)
        here.put("a", b"content", tags={"a": "1"})
        here.transfer_to(azure, ["a"])
        assert azure.headers_of("a")["x-ms-tag-count"] == "1"
        with pytest.warns(PkgdataWarning, match="tags of objects cannot be kept"):
            azure.transfer_to(azure, [("a", "b")])
        (copied,) = copies([(azure, "a", "c")], azure, Recipe(strict=True), move=True)
        assert "cannot keep its tags" in str(copied.error)
        assert sorted(azure) == ["a", "b"]
