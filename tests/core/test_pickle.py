"""`PackageData` crosses process boundaries: by its declaration, with nothing of this process."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cloudpickle
import pytest

import pkgdata
from pkgdata.core import declaration

ROOT = Path(pkgdata.__file__).parent.parent
CONTENT = b"what all of them read"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Forget what a test declares."""
    monkeypatch.setattr(declaration, "_declared", {})


@pytest.fixture
def origin(tmp_path):
    folder = tmp_path / "origin"
    folder.mkdir()
    (folder / "a.dat").write_bytes(CONTENT)
    return folder


@pytest.fixture
def package(origin, tmp_path, monkeypatch):
    """Make a package that is found by its name."""
    home = tmp_path / "src" / "picpkg"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "registry.txt").write_text(f"a.dat {DIGEST}\n")
    (home / "pkgdata.toml").write_text(f'[package]\ndataurl = "{origin.as_uri()}/"\n')
    monkeypatch.syspath_prepend(str(home.parent))
    return home


def declared(origin):
    return pkgdata.declare("pic", dataurl=origin.as_uri(), registry={"a.dat": DIGEST})


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_pool_of_processes_maps_get(origin, method):
    data = declared(origin)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        paths = list(pool.map(data.get, ["a.dat"] * 3))
    assert paths == [data.get("a.dat")] * 3


def test_a_process_that_declares_it_too_has_one_object(origin, package):
    data = declared(origin)
    assert pickle.loads(pickle.dumps(data)) is data
    assert pickle.loads(pickle.dumps(data.get)).__self__ is data
    installed = pkgdata.declare("picpkg")
    assert pickle.loads(pickle.dumps(installed)) is installed


def test_another_declaration_of_the_name_is_not_mistaken_for_it(origin):
    first = declared(origin)
    sent = pickle.dumps(first)
    second = pkgdata.declare("pic", dataurl="https://example.org/", registry={"b": "0" * 64})
    found = pickle.loads(sent)
    assert list(found.registry) == ["a.dat"]
    assert declaration.declaration_of("pic") is second


def test_tasks_of_one_worker_share_what_it_remembers(origin):
    sent = pickle.dumps(declared(origin))
    declaration._declared.clear()
    assert pickle.loads(sent) is pickle.loads(sent)


def test_data_of_a_source_folder_and_of_the_class_itself(origin, package):
    folder = declaration.find_package(str(package))
    again = pickle.loads(pickle.dumps(folder))
    assert (again.name, again.dataurl, again.package_dir) == (
        "picpkg",
        folder.dataurl,
        str(package),
    )
    made = pkgdata.PackageData(
        "raw", dataurl=["https://a/", "https://b/"], registry={"a": None}, verify="size", env="RAW"
    )
    again = pickle.loads(pickle.dumps(made))
    assert (again.dataurl, again.env, list(again.registry)) == (made.dataurl, "RAW", ["a"])
    assert again.setting("verify") == "size"


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_nothing_of_this_process_is_in_the_bytes(origin, tmp_path, monkeypatch, dumps):
    monkeypatch.setenv("MY_SECRET_TOKEN", "hunter2-example")
    monkeypatch.setenv("PKGDATA_RETRIES", "7")
    data = declared(origin)
    before = dumps(data)
    data.get("a.dat")
    data.where("a.dat")
    assert data.setting("retries") == 7
    monkeypatch.setenv("UNRELATED", "x")
    after = dumps(data)
    assert after == before
    for secret in ("hunter2-example", os.environ["PKGDATA_CACHE_DIR"]):
        assert secret.encode() not in after
    assert len(after) < 1000


def test_a_worker_uses_its_own_cache_settings_and_copy_of_the_package(package, tmp_path):
    data = pkgdata.declare("picpkg", registry="registry.txt")
    data.get("a.dat")
    (tmp_path / "sent").write_bytes(pickle.dumps(data))
    elsewhere = tmp_path / "elsewhere"
    package.parent.rename(elsewhere)  # where another machine has it
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pickle, sys\n"
            "data = pickle.load(open(sys.argv[1], 'rb'))\n"
            "print(data.get('a.dat'), data.setting('retries'), data.package_dir, sep='\\n')",
            tmp_path / "sent",
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(elsewhere)]),
            "PKGDATA_CACHE_DIR": str(tmp_path / "worker"),
            "PKGDATA_RETRIES": "9",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    path, retries, folder = done.stdout.splitlines()
    assert path.startswith(str(tmp_path / "worker"))
    assert Path(path).read_bytes() == CONTENT
    assert (retries, folder) == ("9", str(elsewhere / "picpkg"))
