"""The functions with astropy's names: who calls, what is shipped, what is fetched."""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pkgdata
from pkgdata.base.config import conf
from pkgdata.core import declaration

ROOT = str(Path(pkgdata.__file__).parent.parent)

CALLS = """
import pkgdata
from pkgdata import (get_data, get_pkg_data_contents, get_pkg_data_filename,
                     get_pkg_data_filenames, get_pkg_data_fileobj, get_pkg_data_fileobjs,
                     get_pkg_data_path)

def path(*names): return get_pkg_data_path(*names)
def filename(name, **kwargs): return get_pkg_data_filename(name, **kwargs)
def short(name): return get_data(name)
def through_module(name): return pkgdata.get_pkg_data_filename(name)
def contents(name, **kwargs): return get_pkg_data_contents(name, **kwargs)
def filenames(folder, **kwargs): return list(get_pkg_data_filenames(folder, **kwargs))
def fileobj(name, **kwargs): return get_pkg_data_fileobj(name, **kwargs)
def fileobjs(folder, **kwargs): return get_pkg_data_fileobjs(folder, **kwargs)
"""


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def forget_modules(*names):
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            del sys.modules[name]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Make ``getpkg`` with a sub-package, data files, and no declaration."""
    root = tmp_path / "src" / "getpkg"
    write(root / "__init__.py", "")
    write(root / "calls.py", CALLS)
    write(root / "sub" / "__init__.py", CALLS)
    write(root / "data" / "top.txt", "top ü")
    write(root / "data" / "b.csv", "b")
    write(root / "data" / "a.csv", "a")
    write(root / "data" / "deeper" / "x.csv", "x")
    write(root / "sub" / "data" / "sub.txt", "sub")
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    monkeypatch.setattr(declaration, "_declared", {})
    yield root
    forget_modules("getpkg")


@pytest.fixture
def calls(source):
    return importlib.import_module("getpkg.calls")


@pytest.fixture
def sub(source):
    return importlib.import_module("getpkg.sub")


@pytest.fixture
def server(tmp_path):
    """Return a folder that serves as the data server, for `conf.dataurl`."""
    write(tmp_path / "server" / "remote" / "far.txt", "far away")
    with (
        conf.set_temp("dataurl", (tmp_path / "server").as_uri() + "/"),
        conf.set_temp("dataurl_mirror", ""),
    ):
        yield tmp_path / "server"


@pytest.fixture
def declared(source, tmp_path):
    """Declare ``getpkg``, with files that only its mirror has."""
    files = {"maps/m.txt": "map", "maps/n.txt": "nap", "maps/deep/o.txt": "o"}
    for name, text in files.items():
        write(tmp_path / "mirror" / name, text)
    return pkgdata.declare(
        "getpkg",
        dataurl=(tmp_path / "mirror").as_uri(),
        registry={name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()},
    )


# -- what the package ships ------------------------------------------------------------------


def test_names_are_relative_to_the_calling_module(source, calls, sub):
    top, inner = str(source / "data" / "top.txt"), str(source / "sub" / "data" / "sub.txt")
    for name in ("filename", "short", "path", "through_module"):
        assert getattr(calls, name)("data/top.txt") == top
        assert getattr(sub, name)("data/sub.txt") == inner
        assert getattr(sub, name)("../data/top.txt") == top


def test_a_package_can_be_named(source):
    path = pkgdata.get_pkg_data_filename("data/top.txt", package="getpkg")
    assert path == str(source / "data" / "top.txt")
    assert pkgdata.get_pkg_data_filename("data/sub.txt", "getpkg.sub").endswith("sub.txt")
    assert pkgdata.get_pkg_data_path("data", "none", package="getpkg") == str(
        source / "data" / "none"
    )


def test_a_script_is_served_from_its_own_folder(tmp_path):
    write(tmp_path / "dir" / "data" / "mine.txt", "mine")
    write(
        tmp_path / "dir" / "script.py", "import pkgdata\nprint(pkgdata.get_data('data/mine.txt'))"
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "dir" / "script.py")],
        cwd="/",
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "dir" / "data" / "mine.txt")


def test_contents(calls):
    assert calls.contents("data/top.txt", encoding="utf-8") == "top ü"
    assert calls.contents("data/top.txt", encoding="binary") == "top ü".encode()
    assert calls.contents("data/a.csv", cache=False) == "a"


def test_fileobj_is_a_context_manager(calls):
    with calls.fileobj("data/top.txt", encoding="binary") as file:
        assert file.read() == "top ü".encode()
    assert file.closed
    with calls.fileobj("data/top.txt", encoding="utf-8") as file:
        assert file.read() == "top ü"


def test_filenames_are_sorted_and_of_one_folder(source, calls, sub):
    names = [str(source / "data" / name) for name in ("a.csv", "b.csv", "top.txt")]
    assert calls.filenames("data") == names
    assert calls.filenames("data", pattern="*.csv") == names[:2]
    assert calls.filenames("data", pattern="*.none") == []
    assert sub.filenames("data") == [str(source / "sub" / "data" / "sub.txt")]


def test_fileobjs_are_closed_after_their_turn(calls):
    seen = []
    for file in calls.fileobjs("data", pattern="*.csv"):
        assert all(one.closed for one in seen)
        assert file.read() in "ab"
        seen.append(file)
    assert len(seen) == 2
    assert all(one.closed for one in seen)
    assert [one.read() for one in calls.fileobjs("data", pattern="a*", encoding="binary")] == [b"a"]


def test_fileobjs_find_the_caller_when_they_are_called(source, sub):
    paths = sub.fileobjs("data")  # the loop runs here, in another package
    assert [file.read() for file in paths] == ["sub"]


@pytest.mark.parametrize("name", ["../../secret.txt", "../../../etc/passwd", "/etc/passwd"])
def test_a_path_outside_of_the_package_is_refused(calls, name):
    for function in (calls.path, calls.filename, calls.contents, calls.filenames):
        with pytest.raises(RuntimeError, match="outside of the getpkg tree"):
            function(name)


def test_a_neighbour_whose_name_begins_alike_is_outside(source, calls):
    write(source.parent / "getpkgs" / "x.txt", "x")
    with pytest.raises(RuntimeError, match="outside of the getpkg tree"):
        calls.filename("../getpkgs/x.txt")


def test_a_directory_is_an_os_error(calls):
    with pytest.raises(IsADirectoryError):
        calls.filename("data")


def test_a_package_that_does_not_exist(server):
    with pytest.raises(ImportError):
        pkgdata.get_pkg_data_path("x", package="no_such_package")


# -- who calls ----------------------------------------------------------------------------------


def run(tmp_path, *words, code=None, path=""):
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, ROOT]))},
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip()


def test_executed_code_without_a_name_belongs_to_who_executes_it(source, calls):
    write(source / "runs.py", "def run(code, names):\n    exec(code, names)\n    return names")
    runs = importlib.import_module("getpkg.runs")
    code = "import pkgdata; found = pkgdata.get_data('data/top.txt')"
    assert runs.run(code, {})["found"] == str(source / "data" / "top.txt")


def test_a_library_function_is_not_taken_for_the_caller(source, calls):
    import concurrent.futures
    import functools
    import unittest.mock

    here = functools.partial(pkgdata.get_data, "data/top.txt", package="getpkg")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        assert threads.submit(here).result() == str(source / "data" / "top.txt")
        with pytest.raises(pkgdata.ConfigError, match="cannot tell whose data file") as caught:
            threads.submit(pkgdata.get_data, "data/top.txt").result()
    assert "package='mypkg'" in caught.value.hint
    assert unittest.mock.Mock(side_effect=calls.short)("data/top.txt") == here()


def test_code_of_a_module_that_cannot_be_imported_is_told_to_name_its_package(server):
    names = {"__name__": "made.up"}
    exec("import pkgdata\ndef ask(name): return pkgdata.get_data(name)", names)
    with pytest.raises(ImportError, match=r"of 'made\.up': .*package='mypkg'"):
        names["ask"]("remote/far.txt")


def test_notebooks_and_prompts_are_served_from_the_working_directory(tmp_path):
    write(tmp_path / "data" / "mine.txt", "mine")
    code = "import pkgdata; print(pkgdata.get_data('data/mine.txt'))"
    for words in (["-c", code], ["-"]):
        assert run(tmp_path, *words, code=code) == str(tmp_path / "data" / "mine.txt")


def test_a_module_that_is_run_is_served_by_its_package(source, tmp_path):
    write(source / "tool.py", "import pkgdata\nprint(pkgdata.get_data('data/top.txt'))")
    found = run(tmp_path, "-m", "getpkg.tool", path=str(source.parent))
    assert found == str(source / "data" / "top.txt")


def test_each_portion_of_a_namespace_package_is_looked_into(tmp_path, monkeypatch):
    for part in ("one", "two"):
        folder = tmp_path / part / "getns"
        write(folder / "data" / f"{part}.txt", part)
        write(folder / part / "__init__.py", CALLS)
        write(folder / part / "data" / "own.txt", part)
        monkeypatch.syspath_prepend(str(tmp_path / part))
    try:
        for part in ("one", "two"):
            path = pkgdata.get_pkg_data_filename(f"data/{part}.txt", package="getns")
            assert path == str(tmp_path / part / "getns" / "data" / f"{part}.txt")
            module = importlib.import_module(f"getns.{part}")
            assert module.contents("data/own.txt") == part
            assert module.contents(f"../data/{part}.txt") == part
            with pytest.raises(RuntimeError, match="outside of the getns tree"):
                module.path("../../x.txt")
    finally:
        forget_modules("getns")


def test_a_file_in_a_zip_archive_is_an_error_that_says_so(source, tmp_path):
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(source.rglob("*.*")):
            packed.write(path, path.relative_to(source.parent))
        packed.writestr("getpkg/asks.py", "import pkgdata\nprint(pkgdata.get_data('data/a.csv'))")
        packed.writestr("declpkg/pkgdata.toml", "")
        packed.writestr("declpkg/data/a.csv", "")
        packed.writestr("declpkg/__init__.py", "import pkgdata\npkgdata.get_data('data/a.csv')")
    for name in ("getpkg.asks", "declpkg"):
        error = run(tmp_path, "-c", f"import {name}", path=str(archive))
        assert "a.csv lies in a zip archive" in error
        assert "importlib.resources" in error


def test_paths_are_names_too(declared, calls, source):
    assert calls.filename(Path("data/top.txt")) == str(source / "data" / "top.txt")
    assert calls.filename(Path("maps/m.txt")) == declared.get("maps/m.txt")
    assert len(calls.filenames(Path("maps"))) == 2


# -- a package that declares its data --------------------------------------------------------


def test_a_declared_package_is_served_by_its_registry(declared, calls, sub, tmp_path):
    for module in (calls, sub):
        path = module.filename("maps/m.txt")
        assert path == declared.get("maps/m.txt")
        assert "objects-v1" in path
    assert calls.contents("maps/m.txt") == "map"
    with pytest.raises(pkgdata.UnknownNameError, match="is not in the registry"):
        calls.filename("maps/q.txt")


def test_what_is_shipped_comes_first(declared, source, calls):
    write(source / "maps" / "m.txt", "shipped")
    assert calls.contents("maps/m.txt") == "shipped"


def test_a_folder_that_only_the_registry_has(declared, calls):
    found = calls.filenames("maps")
    assert [os.path.basename(path) for path in found] == ["m.txt", "n.txt"]
    assert [file.read() for file in calls.fileobjs("maps", pattern="n*")] == ["nap"]
    for function in (calls.filenames, calls.fileobjs):
        with pytest.raises(FileNotFoundError, match="no data folder 'map'"):
            function("map")


def test_a_name_that_is_declared_without_being_a_package(declared, tmp_path):
    data = pkgdata.declare("my data", dataurl=declared.dataurl, registry=declared.registry)
    path = pkgdata.get_pkg_data_filename("maps/m.txt", package="my data")
    assert path == data.get("maps/m.txt")
    names = pkgdata.get_pkg_data_filenames("maps", package="my data")
    assert [os.path.basename(name) for name in names] == ["m.txt", "n.txt"]


def test_timeout_and_progress_are_passed_on(declared, calls, monkeypatch):
    seen = []
    monkeypatch.setattr(
        type(declared), "get", lambda self, name, **kwargs: seen.append((name, kwargs)) or "path"
    )
    calls.filename("maps/m.txt", show_progress=False, remote_timeout=3)
    calls.filename("maps/m.txt")
    assert seen == [
        ("maps/m.txt", {"progress": False, "timeout": 3}),
        ("maps/m.txt", {"progress": None, "timeout": None}),
    ]


# -- a package that declares nothing ---------------------------------------------------------


def test_an_undeclared_package_is_served_from_conf_dataurl(server, calls):
    path = calls.filename("remote/far.txt")
    assert Path(path).read_text() == "far away"
    (server / "remote" / "far.txt").unlink()
    assert calls.filename("remote/far.txt") == path
    assert calls.contents("remote/far.txt") == "far away"
    with pytest.raises(pkgdata.AllMirrorsFailedError):
        calls.filename("remote/none.txt")


def test_the_mirror_helps_and_the_entry_is_the_first_urls(server, calls, tmp_path):
    with (
        conf.set_temp("dataurl", (tmp_path / "down").as_uri() + "/"),
        conf.set_temp("dataurl_mirror", server.as_uri() + "/"),
    ):
        path = Path(calls.filename("remote/far.txt"))
        assert path.read_text() == "far away"
        url = (tmp_path / "down").as_uri() + "/remote/far.txt"
    assert path.name == "contents"
    assert path.with_name("url").read_text() == url
    assert path.parent.name == hashlib.md5(url.encode()).hexdigest()


def test_offline_nothing_is_fetched(server, calls):
    with conf.set_temp("allow_internet", False), pytest.raises(pkgdata.OfflineError):
        calls.filename("remote/far.txt")


def test_nothing_but_entries_lies_in_astropys_tree(server, calls, tmp_path):
    calls.filename("remote/far.txt")
    top = tmp_path / "cache" / "astropy"
    assert {path.name for path in top.rglob("*") if path.is_file()} == {"url", "contents"}
    assert os.listdir(top / "download") == ["url"]


# -- astropy reads the same tree -------------------------------------------------------------

FETCH = """
import sys, pkgdata
from pkgdata.base.config import conf
with conf.set_temp("dataurl", sys.argv[1]), conf.set_temp("dataurl_mirror", ""):
    print(pkgdata.get_pkg_data_filename(sys.argv[2], package="json"))
"""
ASK = """
import sys
from astropy.utils import data
url = sys.argv[1] + sys.argv[2]
print(data.is_url_in_cache(url))
print(data.cache_contents()[url])
with data.conf.set_temp("allow_internet", False):
    print(data.download_file(url, cache=True))
data.check_download_cache()
"""
BRING = """
import sys
from astropy.utils import data
print(data.download_file(sys.argv[1] + sys.argv[2], cache=True, show_progress=False))
"""


def child(code, *args):
    env = {**os.environ, "PYTHONPATH": ROOT}
    del env["PKGDATA_CACHE_DIR"]  # astropy looks where both look by default
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def astropy_cache():
    pytest.importorskip("astropy", minversion="8", reason="astropy 8 or newer is not installed")
    home = Path(os.environ["XDG_CACHE_HOME"])
    home.mkdir()  # astropy passes over one that does not exist
    return home / "astropy"


@pytest.mark.parametrize("own", [False, True])
def test_astropy_finds_what_pkgdata_fetched(server, astropy_cache, tmp_path, monkeypatch, own):
    if own:
        astropy_cache = tmp_path / "own"
        astropy_cache.mkdir()
        monkeypatch.setenv("ASTROPY_CACHE_DIR", str(astropy_cache))
    base = server.as_uri() + "/"
    (path,) = child(FETCH, base, "remote/far.txt")
    assert path.startswith(str(astropy_cache))
    assert child(ASK, base, "remote/far.txt") == ["True", path, path]


@pytest.mark.slow
def test_pkgdata_finds_what_astropy_fetched(server, astropy_cache):
    base = server.as_uri() + "/"
    (path,) = child(BRING, base, "remote/far.txt")
    (server / "remote" / "far.txt").unlink()
    assert child(FETCH, base, "remote/far.txt") == [path]
