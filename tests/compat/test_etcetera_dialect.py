"""``pkgdata.compat.etcetera``, and etcetera 0.0.12 itself on the same repository and folder."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from datasetting import FLOWER, make, read

import pkgdata
import pkgdata.compat.etcetera as etc
from pkgdata import datasets


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home" / ".etc.toml").write_text(f'url = "{(tmp_path / "repo").as_uri()}"\n')
    return tmp_path / "home"


@pytest.fixture
def flower(tmp_path):
    return make(tmp_path / "flower", FLOWER)


# -- the names -------------------------------------------------------------------------------


def test_its_quick_start(home, flower):
    etc.register(flower)
    assert list(etc.ls()) == ["flower"]
    assert (home / ".etc" / "flower").is_symlink()
    dataset = etc.dataset("flower")
    assert dataset.keys() == {"train", "val"}
    assert sorted(path.name for path in dataset["train"].iterdir()) == ["a.txt", "deep"]
    assert dataset.meta == json.loads(FLOWER["meta.json"])
    etc.push("flower")
    assert list(etc.ls(remote=True)) == ["flower"]
    etc.purge("flower")
    assert list(etc.ls()) == []
    assert etc.dataset("flower", auto_pull=True).root == home / ".etc" / "flower"
    assert read(home / ".etc" / "flower") == FLOWER
    etc.purge("flower")
    assert etc.dataset("flower", auto_install=True).partitions() == ["train", "val"]


def test_what_is_pushed_is_a_tgz(tmp_path, home, flower):
    etc.register(flower, "other")
    etc.push("other")
    assert os.listdir(tmp_path / "repo") == ["other.tgz"]


def test_our_own_form_is_pulled_too(home, flower):
    etc.register(flower)
    datasets.push("flower", config=datasets.Config.load())
    etc.purge("flower")
    etc.pull("flower")
    assert read(home / ".etc" / "flower") == FLOWER


def test_errors_are_what_its_callers_catch(home, flower, tmp_path):
    with pytest.raises(RuntimeError, match="'flower' is not in"):
        etc.dataset("flower")
    with pytest.raises(ValueError, match="'flower' is not in"):
        etc.pull("flower")
    etc.register(flower)
    with pytest.raises(RuntimeError, match="here already"):
        etc.register(flower)
    etc.register(flower, force=True)
    etc.push("flower")
    with pytest.raises(RuntimeError, match="in the repository already"):
        etc.push("flower")
    etc.push("flower", force=True)
    with pytest.raises(RuntimeError, match="here already"):
        etc.pull("flower")
    etc.pull("flower", force=True)
    with pytest.raises(ValueError, match="is no dataset"):
        etc.register(tmp_path)
    with pytest.raises(ValueError, match="no partition 'x'"):
        etc.dataset("flower")["x"]
    assert etc.create("new").keys() == {"train", "test"}
    with pytest.raises(RuntimeError):
        etc.create("new")
    etc.create("new", ["one"], force=True)


def test_a_missing_configuration_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="no configuration file"):
        etc.dataset("flower")
    (tmp_path / "home" / ".etc.toml").write_text("public = true\n")
    with pytest.raises(RuntimeError, match='no key "url"'):
        etc.pull("flower")


def test_a_configuration_in_code(tmp_path, flower):
    config = etc.Config(str(tmp_path / "repo"), home=tmp_path / "here", public=True)
    assert (config.url, config.home) == (str(tmp_path / "repo"), str(tmp_path / "here"))
    assert config.conf == {"public": True}
    etc.register(flower, "sample", config=config)
    etc.push("sample", config=config)
    etc.purge("sample", config=config)
    assert etc.dataset("sample", auto_pull=True, config=config).keys() == {"train", "val"}
    assert etc.Config("s3://x").home == str(tmp_path / "home" / ".etc")


def test_our_names_use_its_place_as_well(home, flower):
    etc.register(flower)
    assert datasets.ls() == ["flower"]
    assert pkgdata.dataset("flower").root == flower.resolve()


# -- etcetera itself -------------------------------------------------------------------------

THEIRS = """
import sys, json
import etcetera
verb, name, *rest = json.loads(sys.argv[1])
found = getattr(etcetera, verb)(*([name] if name else []), **(rest[0] if rest else {}))
print(json.dumps(sorted(found) if verb == "ls" else None))
"""


@pytest.fixture
def theirs():
    """Give a function that calls one of etcetera's, in a process of its own."""
    missing = [name for name in ("etcetera", "boto3") if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: pip install 'etcetera[s3]==0.0.12'")
    assert metadata.version("etcetera") == "0.0.12"

    def call(*task):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", THEIRS, json.dumps(task)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        return json.loads(done.stdout)

    return call


@pytest.fixture(params=["ceph", "moto"])
def bucket(request, tmp_path, monkeypatch):
    """Give both of them one ``~/.etc.toml`` with a bucket of a real server."""
    server = request.getfixturevalue(request.param)
    (tmp_path / "home" / ".etc.toml").write_text(
        f'url = "s3://{server.make_bucket()}"\n'
        f'endpoint_url = "{server.endpoint}"\n'
        f'aws_access_key_id = "{server.access_key}"\n'
        f'aws_access_key_secret = "{server.secret_key}"\n'
    )
    monkeypatch.setenv("AWS_DEFAULT_REGION", server.region)
    return server


EMPTY = {"data/none/": b"", "empty/": b""}


@pytest.fixture
def contents():
    return {**FLOWER, **EMPTY, "data/train/large.bin": os.urandom(9 << 20)}


def modes(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mode
        for path in Path(folder).rglob("*")
        if not path.is_symlink()
    }


@pytest.mark.integration
@pytest.mark.parametrize("pusher", ["etcetera", "pkgdata", "dialect"])
def test_each_reads_what_the_other_pushed(tmp_path, bucket, theirs, contents, pusher):
    home = tmp_path / "home" / ".etc"
    folder = make(tmp_path / "flower", contents)
    (folder / "README.md").chmod(0o600)
    (folder / "assets" / "notes.txt").chmod(0o755)
    (folder / "data" / "val").chmod(0o750)
    if pusher == "etcetera":
        theirs("register", str(folder), {"name": "flower"})
        theirs("push", "flower")
        theirs("purge", "flower")
        datasets.pull("flower")
    else:
        etc.register(folder)
        if pusher == "pkgdata":
            datasets.push("flower", format="etcetera")
        else:
            etc.push("flower")
        etc.purge("flower")
        theirs("pull", "flower")
    assert read(home / "flower") == contents
    assert modes(home / "flower") == modes(folder)
    assert theirs("ls", None) == list(etc.ls()) == datasets.ls() == ["flower"]
    assert theirs("ls", None, {"remote": True}) == datasets.ls(remote=True) == ["flower"]
    assert pkgdata.dataset("flower").keys() == {"none", "train", "val"}


@pytest.mark.integration
def test_they_share_the_folder_on_a_computer(tmp_path, bucket, theirs):
    home = tmp_path / "home" / ".etc"
    folder = make(tmp_path / "flower", FLOWER)
    etc.register(folder)
    theirs("push", "flower")
    theirs("purge", "flower")
    datasets.pull("flower")
    assert not datasets.verify("flower")
    assert theirs("ls", None) == ["flower"]
    theirs("pull", "flower", {"force": True})  # replaces the folder behind our back
    (home / "flower" / "README.md").write_bytes(b"edited")
    assert datasets.verify("flower").changed.keys() == {"README.md"}
    etc.pull("flower", force=True)
    assert read(home / "flower") == FLOWER
    theirs("create", "new")
    assert datasets.ls() == ["flower", "new"]
    datasets.purge("new")
    theirs("purge", "flower")
    assert datasets.ls() == []
    assert read(folder) == FLOWER


@pytest.mark.integration
def test_the_archives_have_the_same_members(tmp_path, bucket, theirs, contents):
    import io
    import tarfile

    folder = make(tmp_path / "flower", contents)
    etc.register(folder)
    store = datasets.Config.load().store()
    found = []
    for push in (lambda: theirs("push", "flower"), lambda: etc.push("flower", force=True)):
        push()
        with tarfile.open(fileobj=io.BytesIO(store["flower.tgz"])) as archive:
            found.append([member.get_info() for member in archive])
    assert found[0] == found[1]
    assert {one["name"] for one in found[0]} >= set(EMPTY)
