"""Fixtures of the servers, one each for all tests of a run; ``tests/conftest.py`` imports them.

Tests share the server, so each makes its own bucket: ``ceph.make_bucket()`` returns a new name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .azurite import Azurite
from .ceph import Ceph
from .gcs import Gcs
from .moto import Moto
from .shared import shared_ceph
from .signing import S3


def need(server: type[Ceph] | type[Azurite] | type[Moto]) -> None:
    """Skip the test if a server cannot run here, or fail where it is to run."""
    if reason := server.available():
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Give a Ceph RADOS gateway, one for all the workers of pytest-xdist."""
    need(Ceph)
    if "PYTEST_XDIST_WORKER" in os.environ:
        # the folder above a worker's own is the run's
        with shared_ceph(tmp_path_factory.getbasetemp().parent / "shared-ceph") as server:
            yield server
    else:
        with Ceph(tmp_path_factory.mktemp("ceph") / "state") as server:
            yield server


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Give an Azurite."""
    need(Azurite)
    with Azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """Give a moto server."""
    need(Moto)
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def gcs() -> Iterator[Gcs]:
    """Give an empty imitation of Google Cloud Storage."""
    with Gcs() as server:
        yield server
