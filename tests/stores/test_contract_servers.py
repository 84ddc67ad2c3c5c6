"""The contract of stores, on servers: real ones where there are any."""

from __future__ import annotations

import itertools

import pytest
from contract import StoreContract
from nginx import Nginx

from pkgdata.stores import Store

pytestmark = pytest.mark.slow

pytest.importorskip("obstore")

#: So that each test has a folder of its own in one bucket: making buckets takes time.
_folders = itertools.count()


@pytest.fixture(scope="session")
def ceph_bucket(ceph):
    return ceph.make_bucket()


@pytest.fixture(scope="session")
def moto_bucket(moto):
    return moto.make_bucket()


@pytest.fixture(scope="session")
def container(azurite):
    return azurite.make_container()


class TestCeph(StoreContract):
    pytestmark = pytest.mark.integration

    @pytest.fixture
    def store(self, ceph, ceph_bucket):
        secrets = {"access_key_id": ceph.access_key, "secret_access_key": ceph.secret_key}
        return Store(f"s3://{ceph.endpoint}/{ceph_bucket}/a b+%/{next(_folders)}", secrets=secrets)


class TestMoto(StoreContract):
    pytestmark = pytest.mark.integration

    @pytest.fixture
    def store(self, moto, moto_bucket):
        secrets = {"aws_access_key_id": moto.access_key, "aws_secret_access_key": moto.secret_key}
        return Store(
            f"s3://{moto_bucket}/{next(_folders)}", secrets=secrets, endpoint=moto.endpoint
        )


class TestAzurite(StoreContract):
    pytestmark = pytest.mark.integration

    @pytest.fixture
    def store(self, azurite, container):
        secrets = {"account_name": azurite.account, "account_key": azurite.key}
        return Store(
            f"az://{container}/{next(_folders)}", secrets=secrets, endpoint=azurite.endpoint
        )


class TestGoogle(StoreContract):
    @pytest.fixture
    def store(self, gcs):
        secrets = {"bearer_token": gcs.issue_token()}
        return Store(f"gs://{gcs.make_bucket()}/below", secrets=secrets, endpoint=gcs.endpoint)


class TestNginx(StoreContract):
    pytestmark = pytest.mark.integration
    unsupported = frozenset({"write", "list", "delete"})

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "served").mkdir()
        return tmp_path / "served"

    @pytest.fixture
    def store(self, tmp_path, folder):
        with Nginx(tmp_path / "nginx", folder) as server:
            yield Store(server.url)

    @pytest.fixture
    def fill(self, folder):
        return Store(str(folder)).write
