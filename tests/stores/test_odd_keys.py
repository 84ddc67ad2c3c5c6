"""Buckets that hold folder markers, or keys that are the names of no files."""

from __future__ import annotations

import os

import pytest

from pkgdata import cli
from pkgdata.errors import BatchError
from pkgdata.stores import Store

pytest.importorskip("obstore")

pytestmark = pytest.mark.integration

#: As consoles and Hadoop make them, in the order of a listing.
MARKED = ["m-x", "m/", "m/a.txt", "m/sub-a", "m/sub/", "m/sub/b.txt"]
OBJECTS = [name for name in MARKED if not name.endswith("/")]


class S3Place:
    """A bucket, and objects put there as no careful client would."""

    odd = ("back\\slash", "cr\rcr", "p/.", "p/../b", "raw//b", "tab\tab", "/first")

    def __init__(self, server):
        self._server, self._bucket = server, server.make_bucket()
        self.url = f"s3://{server.endpoint}/{self._bucket}"
        secrets = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
        self.options = {"secrets": secrets}

    def put(self, key, content):
        answer = self._server.signed("PUT", f"/{self._bucket}/{key}", body=content)
        assert answer.status == 200, answer.body


class AzurePlace:
    # the service resolves "." and "..", and takes a backslash for a slash
    odd = ("raw//b", "deep//er//b")

    def __init__(self, server):
        self._server, self._container = server, server.make_container()
        self.url = f"az://{self._container}"
        secrets = {"account_name": server.account, "account_key": server.key}
        self.options = {"secrets": secrets, "endpoint": server.endpoint}

    def put(self, key, content):
        headers = {"x-ms-blob-type": "BlockBlob"}
        path = f"/{self._container}/{key}"
        answer = self._server.signed("PUT", path, headers=headers, body=content)
        assert answer.status == 201, answer.body


class GooglePlace:
    # the service allows no line's end
    odd = ("back\\slash", "p/.", "p/../b", "raw//b", "tab\tab", "/first")

    def __init__(self, server):
        self._bucket = server.make_bucket()
        self._blobs = server.buckets[self._bucket].blobs
        self.url = f"gs://{server.endpoint}/{self._bucket}"
        self.options = {"secrets": {"bearer_token": server.issue_token()}}

    def put(self, key, content):
        store = Store(self.url, **self.options)
        store.put("made", content)
        self._blobs[key] = self._blobs.pop("made")


PLACES = {"moto": S3Place, "ceph": S3Place, "azurite": AzurePlace, "gcs": GooglePlace}


@pytest.fixture(params=PLACES)
def place(request):
    return PLACES[request.param](request.getfixturevalue(request.param))


@pytest.fixture
def store(place):
    return Store(place.url, **place.options)


@pytest.fixture
def marked(place):
    for key in MARKED:
        place.put(key, b"" if key.endswith("/") else key.encode())


@pytest.fixture
def odd(place):
    for key in place.odd:
        place.put(key, b"odd")
    for key in ("good", "raw/b", "z/good"):
        place.put(key, key.encode())


@pytest.fixture
def run(place, monkeypatch, capsys):
    """Run a command with the credentials of the place."""

    def call(*words):
        capsys.readouterr()
        monkeypatch.setattr(
            "pkgdata.bulk.addresses.Store",
            lambda url, **_: Store(url, **(place.options if url == place.url else {})),
        )
        code = cli.main([*map(str, words)])
        found = capsys.readouterr()
        return code, found.out, found.err

    return call


def files(folder):
    return sorted(
        os.path.relpath(os.path.join(above, name), folder).replace(os.sep, "/")
        for above, _, names in os.walk(folder)
        for name in names
        if "home" not in above
    )


@pytest.mark.parametrize("prefix", ["", "m", "m/", "m/sub", "m/sub/"])
def test_folder_markers_are_listed_as_they_are(store, marked, prefix):
    wanted = [name for name in MARKED if name.startswith(prefix)]
    assert [*store.list(prefix)] == wanted
    assert all(info.modified for _, info in store.scan(prefix))


def test_folder_markers_are_not_copied(store, marked, run, place, tmp_path):
    store.transfer_to(str(tmp_path / "a"))
    assert files(tmp_path / "a") == OBJECTS

    for words in (["cp", "-r"], ["sync"], ["sync"], ["mv"]):
        code, _, err = run(*words, f"{place.url}/m/", tmp_path / words[0])
        assert code == 0, err
        assert files(tmp_path / words[0]) == ["a.txt", "sub-a", "sub/b.txt"]
    # copies are moved; a marker says that there is a folder, which is still so
    assert [*store.list()] == ["m-x", "m/", "m/sub/"]


def test_ls_shows_folder_markers_as_folders_and_rm_removes_them(store, marked, run, place):
    code, out, _ = run("ls", f"{place.url}/m/")
    assert code == 0
    assert [line.rpartition("/m/")[2] for line in out.splitlines()][1:] == [
        "a.txt",
        "sub-a",
        "sub/",
        "sub/b.txt",
    ]
    code, out, err = run("rm", "-r", f"{place.url}/m/")
    assert (code, [*store.list()]) == (0, ["m-x"]), err


def test_an_odd_key_does_not_stop_the_others(store, odd, run, place, tmp_path):
    found = [*store.list()]
    assert found == sorted([*place.odd, "good", "raw/b", "z/good"])
    assert {name.partition("/")[0] for name in store.list(flat=True)} == {
        name.partition("/")[0] for name in found
    }

    with pytest.raises(BatchError) as caught:
        store.transfer_to(str(tmp_path / "a"))
    assert sorted(caught.value.report.failed) == sorted(place.odd)
    for name, error in caught.value.report.failed.items():
        assert repr(name) in str(error)
    assert (tmp_path / "a/raw/b").read_bytes() == b"raw/b"

    for words in (["cp", "-r"], ["sync"]):
        code, _, err = run(*words, f"{place.url}/", tmp_path / words[0])
        assert code == 1
        assert files(tmp_path / words[0]) == ["good", "raw/b", "z/good"]
        assert f"{len(place.odd)} failed" in err


def test_every_key_can_be_removed(store, odd, run, place):
    for key in place.odd:
        code, _, err = run("rm", f"{place.url}/{key}")
        assert code == 0, err
        assert key not in [*store.list()]
    assert [*store.list()] == ["good", "raw/b", "z/good"]


def test_odd_keys_are_removed_with_their_folder(store, odd, run, place):
    code, _, err = run("rm", "-r", f"{place.url}/raw/")
    assert code == 0, err
    assert not [*store.list("raw/")]
    store.delete(prefix="")
    assert not [*store.list()]


def test_a_listing_of_odd_keys_has_many_pages(store, place):
    store.put((f"a/{i:04}", b"" if i == 3 else b"x") for i in range(2100))
    place.put("a//", b"")
    names = sorted(["a//", *(f"a/{i:04}" for i in range(2100))])
    assert [*store.list()] == names
    assert [*store.list("a/20")] == [name for name in names if name.startswith("a/20")]


def test_keys_are_found_where_obstore_finds_them(ceph, monkeypatch):
    place = S3Place(ceph)
    place.put("a//b", b"odd")
    secrets = place.options["secrets"]
    for word, value in secrets.items():
        monkeypatch.setenv(f"AWS_{word.upper()}", value)
    assert [*Store(place.url).list()] == ["a//b"]

    asked = []

    def source():
        asked.append(1)
        return secrets

    store = Store(place.url, secrets=source)
    assert [*store.list()] == ["a//b"]
    store.delete("a//b")
    assert [*store.list()] == []
    assert len(asked) < 4


def test_a_service_account_lists_odd_keys(gcs):
    pytest.importorskip("cryptography")
    place = GooglePlace(gcs)
    place.put("a//b", b"odd")
    account = gcs.service_account()
    assert [*Store(place.url, secrets=account).list()] == ["a//b"]


def test_a_public_bucket_lists_odd_keys_without_a_signature(ceph):
    place = S3Place(ceph)
    place._bucket = ceph.make_bucket(public=True)
    place.url = f"s3://{ceph.endpoint}/{place._bucket}"
    place.put("a//b", b"odd")
    assert [*Store(place.url, anonymous=True).list()] == ["a//b"]
