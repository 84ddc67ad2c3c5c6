"""Datasets in buckets: Ceph's gateway, moto, Azurite, an imitation of Google's."""

from __future__ import annotations

import itertools
import os

import pytest
from datasetting import FLOWER, pushed, read, registered
from nginx import Nginx

import pkgdata
from pkgdata import AlreadyPublishedError, datasets
from pkgdata.datasets import pushing
from pkgdata.stores import Store

pytest.importorskip("obstore")

LARGE = os.urandom(3 << 20)

CONTENTS = {
    **FLOWER,
    **{f"data/train/{number:03d}.bin": os.urandom(3000) for number in range(50)},
    "data/val/large.bin": LARGE,
    "data/none/": b"",
}

_numbers = itertools.count()


@pytest.fixture(scope="session")
def ceph_bucket(ceph):
    return ceph.make_bucket()


@pytest.fixture(scope="session")
def moto_bucket(moto):
    return moto.make_bucket()


@pytest.fixture(
    params=[
        pytest.param("ceph", marks=pytest.mark.integration),
        pytest.param("moto", marks=pytest.mark.integration),
        pytest.param("azurite", marks=pytest.mark.integration),
        "gcs",
    ]
)
def config(request, tmp_path):
    """Give a prefix of its own in a bucket of each kind."""
    prefix, home = f"below/{next(_numbers)}", tmp_path / "data"
    server = request.getfixturevalue(request.param)
    if request.param in ("ceph", "moto"):
        bucket = request.getfixturevalue(f"{request.param}_bucket")
        return datasets.Config(
            f"s3://{bucket}/{prefix}",
            home,
            endpoint_url=server.endpoint,
            aws_access_key_id=server.access_key,
            aws_access_key_secret=server.secret_key,
        )
    if request.param == "azurite":
        url, secrets = f"az://{server.make_container()}/{prefix}", {"account_name": server.account}
        secrets["account_key"] = server.key
    else:
        url, secrets = f"gs://{server.make_bucket()}/{prefix}", {}
        secrets["bearer_token"] = server.issue_token()
    return datasets.Config(url, home, endpoint_url=server.endpoint, secrets=secrets)


def test_both_forms_there_and_back(tmp_path, config, monkeypatch):
    monkeypatch.setattr(pushing, "PACK", 40_000)
    sent = pushed(tmp_path, config, CONTENTS)
    part = datasets.pull("flower", config=config, partitions="train")
    assert not any(name.startswith("data/val") for name in read(part.path))
    got = datasets.pull("flower", config=config)
    assert read(got.path) == CONTENTS
    assert got.digest == sent.digest
    changed = {**CONTENTS, "data/train/000.bin": b"changed"}
    other = config.replaced(home=tmp_path / "other")
    second = pushed(tmp_path, other, changed)
    assert (second.moved_files, second.objects) == (1, 1)
    assert datasets.diff("flower", config=config).changed.keys() == {"data/train/000.bin"}
    got = datasets.pull("flower", force=True, config=config)
    assert got.moved_files == 1
    assert read(got.path) == changed
    registered(tmp_path, config, CONTENTS)
    datasets.push("flower", force=True, config=config, compress="zstd", prune=True)
    got = datasets.pull("flower", force=True, config=config)
    assert read(got.path) == CONTENTS
    with pytest.raises(AlreadyPublishedError):
        datasets.push("flower", config=config)
    with pytest.warns(pkgdata.PkgdataWarning, match="is there too"):
        datasets.push("flower", config=config, format="etcetera")
    got = datasets.pull("flower", force=True, config=config, format="etcetera")
    assert read(got.path) == CONTENTS
    assert datasets.ls(remote=True, config=config) == ["flower"]


@pytest.mark.integration
def test_what_is_pushed_public_is_read_by_everybody(tmp_path, ceph):
    config = datasets.Config(
        f"s3://{ceph.make_bucket()}",
        tmp_path / "data",
        public=True,
        endpoint_url=ceph.endpoint,
        aws_access_key_id=ceph.access_key,
        aws_secret_access_key=ceph.secret_key,
    )
    pushed(tmp_path, config, CONTENTS)
    anonymous = datasets.Config(config.url, config.home, endpoint_url=ceph.endpoint, anonymous=True)
    got = datasets.pull("flower", config=anonymous)
    assert read(got.path) == CONTENTS
    private = config.replaced(public=False)
    registered(tmp_path, private, {**CONTENTS, "data/val/large.bin": LARGE[::-1]})
    datasets.push("flower", force=True, config=private)
    with pytest.raises(pkgdata.AccessDeniedError):
        datasets.pull("flower", force=True, config=anonymous)
    assert read(os.path.join(config.home, "flower")) != {}


@pytest.mark.integration
def test_nginx_over_a_folder_is_a_repository(tmp_path):
    folder = tmp_path / "served"
    pushed(tmp_path, datasets.Config(str(folder), tmp_path / "data"), CONTENTS)
    assert Store(str(folder)).exists("flower.manifest.txt.gz")
    with Nginx(tmp_path / "nginx", folder) as server:
        config = datasets.Config(server.url, tmp_path / "data")
        assert read(datasets.pull("flower", config=config).path) == CONTENTS
