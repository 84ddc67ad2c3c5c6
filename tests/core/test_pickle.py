"""What crosses process boundaries: by its declaration, with nothing of this process."""

from __future__ import annotations

import copy
import hashlib
import inspect
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
from pkgdata import datasets, errors
from pkgdata.base.report import Place, Report, Tally
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


# -- stores, registries, datasets, reports, errors ----------------------------------------------

METHODS = multiprocessing.get_all_start_methods()
DUMPS = pytest.mark.parametrize(
    "dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"]
)
ERRORS = [
    one
    for one in vars(errors).values()
    if inspect.isclass(one) and issubclass(one, errors.PkgdataError)
]


def fails(which):
    raise ERRORS[which]("what failed", hint="what to do", name="a.dat", number=which)


def same(error, other):
    assert type(error) is type(other)
    assert str(error) == str(other)
    assert (error.hint, error.__dict__, error.args) == (other.hint, other.__dict__, other.args)


@pytest.mark.parametrize("method", METHODS)
def test_every_error_comes_back_from_a_worker(method):
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for which, kind in enumerate(ERRORS):
            with pytest.raises(kind) as caught:
                pool.submit(fails, which).result()
            made = kind("what failed", hint="what to do", name="a.dat", number=which)
            caught.value.__cause__ = None
            same(caught.value, made)


@DUMPS
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_keeps_attributes_and_hint(kind, dumps):
    error = kind("what failed", hint="what to do", name="a.dat", url="https://h/", expected=None)
    same(pickle.loads(dumps(error)), error)
    same(copy.copy(error), error)
    same(copy.deepcopy(error), error)


@DUMPS
def test_errors_as_they_are_raised(origin, tmp_path, dumps):
    """A batch's error has a report, which has errors, which have those of each mirror."""
    wrong = pkgdata.PackageData(
        "raised",
        dataurl=[origin.as_uri(), "http://127.0.0.1:1/"],
        registry={"a.dat": "0" * 64, "none": "1" * 64},
        retries=0,
    )
    with pytest.raises(pkgdata.BatchError) as caught:
        wrong.fetch()
    found = pickle.loads(dumps(caught.value))
    assert str(found) == str(caught.value)
    for name, error in caught.value.report.failed.items():
        again = found.report.failed[name]
        assert (type(again), str(again), again.hint) == (type(error), str(error), error.hint)
        told = [(where, type(one), str(one)) for where, one in error.attempts]
        assert [(where, type(one), str(one)) for where, one in again.attempts] == told
    with pytest.raises(pkgdata.UnsupportedOperationError):
        found.report.retry()
    with pytest.raises(FileNotFoundError) as missing:
        pkgdata.Store(origin.as_uri()).get("none")
    same(pickle.loads(dumps(missing.value)), missing.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_of_processes_reads_a_store(origin, method):
    store = pkgdata.Store(origin.as_uri())
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(store.get, ["a.dat"] * 3)) == [CONTENT] * 3


@DUMPS
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://example.org/data", {"timeout": 3.0}),
        ("s3://bucket/prefix", {"region": "eu-west-1", "endpoint": "http://127.0.0.1:1"}),
        ("gs://bucket/prefix", {"anonymous": True}),
        ("az://box/prefix", {"endpoint": "http://127.0.0.1:1/account"}),
        ("sftp://host/folder", {}),
        ("mem://shared/prefix", {"threads": 2}),
    ],
)
def test_a_store_crosses_by_its_url_and_arguments(url, options, dumps, monkeypatch):
    secrets = {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "hunter2-example",
        "AZURE_STORAGE_ACCOUNT_KEY": "aHVudGVyMi1leGFtcGxl",
        "AZURE_STORAGE_ACCOUNT_NAME": "account",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    if url.split(":")[0] in ("s3", "gs", "az"):
        pytest.importorskip("obstore")
    store = pkgdata.Store(url, **options)
    sent = dumps(store)
    again = pickle.loads(sent)
    assert (type(again), again.url) == (type(store), store.url)
    assert again._options == options
    assert len(sent) < 1000
    for secret in ("hunter2-example", "AKIAEXAMPLE", "aHVudGVyMi1leGFtcGxl"):
        assert secret.encode() not in sent


@DUMPS
def test_registries_reports_and_datasets(origin, tmp_path, dumps):
    registry = pkgdata.Registry.parse(f"# 21\na.dat {DIGEST}\nb {'0' * 64} https://h/b\n", "file")
    before = dumps(registry)
    assert dict(registry) == dict(pickle.loads(before))
    again = pickle.loads(dumps(registry))  # now its rows are entries
    assert (dict(again), again.file, again.digest()) == (
        dict(registry),
        "file",
        registry.digest(),
    )
    place = Place("mirror", "https://h/", "absent", "offline")
    assert repr(pickle.loads(dumps(place))) == repr(place)
    report = Report(print)
    report.succeeded, report.failed, report.new = {"a": "/a"}, {"b": ValueError("no")}, {"a": 1}
    found = pickle.loads(dumps(report))
    assert (found.succeeded, found.new, str(found.failed["b"])) == ({"a": "/a"}, {"a": 1}, "no")
    assert pickle.loads(dumps(Tally())).__dict__ == Tally().__dict__
    config = datasets.Config(url="s3://bucket", home=tmp_path / "home")
    made = datasets.create("flower", ["train"], config=config)
    found = pickle.loads(dumps(made))
    assert (type(found), found.name, found.location) == (type(made), made.name, made.location)
    assert pickle.loads(dumps(config)).home == config.home
