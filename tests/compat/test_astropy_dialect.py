"""`import pkgdata as data` in astropy's place: the same names, and one cache for both."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults import FaultServer

import pkgdata

pytestmark = pytest.mark.slow

ROOT = Path(pkgdata.__file__).parent.parent

#: Public names of ``astropy.utils.data`` 8, and those of its configuration paths.
_NAMES = """
cache_contents cache_total_size check_download_cache check_free_space_in_dir clear_download_cache
compute_hash conf Conf download_file download_files_in_parallel export_download_cache
get_cached_urls get_file_contents get_free_space_in_dir get_pkg_data_contents get_pkg_data_filename
get_pkg_data_filenames get_pkg_data_fileobj get_pkg_data_fileobjs get_pkg_data_path
get_readable_fileobj import_download_cache import_file_to_cache is_url is_url_in_cache
CacheMissingWarning CacheDamaged set_temp_cache temporary_cache_dir_path get_cache_dir
"""
NAMES = _NAMES.split()


@pytest.fixture
def astropy():
    return pytest.importorskip(
        "astropy", minversion="8", reason="astropy 8 or newer is not installed"
    )


@pytest.fixture
def server():
    contents = {"a.dat": b"a" * 1000, "b/ü.dat": b"b", "c": b"c"}
    with FaultServer(contents) as found:
        yield found


@pytest.fixture
def shared(monkeypatch, tmp_path):
    """Let both look where both look by default."""
    monkeypatch.delenv("PKGDATA_CACHE_DIR")
    home = tmp_path / "xdg"
    home.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_public(name):
    assert name in pkgdata.__all__
    assert hasattr(pkgdata, name)


def test_no_name_of_astropys_is_missing(astropy):
    from astropy.utils import data

    assert set(data.__all__) <= set(NAMES)
    read_by_others = ("_get_download_cache_loc", "_tempfilestodel", "_deltemps")
    for name in (*read_by_others, "_is_url", "_requires_fsspec"):  # the last two by astropy.io.fits
        assert hasattr(data, name)
        assert hasattr(pkgdata, name)
        assert name not in pkgdata.__all__


def test_the_dialects_module_passes_the_same_names_on():
    from pkgdata.compat import astropy as data

    names = {*pkgdata.__all__, *pkgdata._READ_BY_OTHERS}
    assert all(getattr(data, name) is getattr(pkgdata, name) for name in names)
    assert set(pkgdata.__all__) <= set(dir(data))
    # and type checkers see them
    tree = ast.parse(Path(data.__file__).with_suffix(".pyi").read_text())
    lines = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert {line.module for line in lines} == {"pkgdata"}
    found = [alias for line in lines for alias in line.names]
    assert {one.asname for one in found if one.asname == one.name} == {*names, "__all__"}


@pytest.mark.parametrize("name", [name for name in NAMES if name[0].islower() and name != "conf"])
def test_the_signature_is_astropys(astropy, name):
    from astropy.config import paths
    from astropy.utils import data

    def shape(function):
        found = inspect.signature(function).parameters.values()
        return [(one.name, one.kind, one.default) for one in found]

    theirs = getattr(data, name, None) or getattr(paths, name)
    assert shape(getattr(pkgdata, name)) == shape(theirs)


def test_the_settings_are_astropys(astropy):
    from astropy.utils import data

    for name in data.Conf():
        theirs, ours = getattr(data.conf, name), getattr(pkgdata.conf, name)
        assert type(theirs) is type(ours)
        with pkgdata.conf.set_temp(name, theirs):
            assert getattr(pkgdata.Conf(), name) == theirs
    for name in ("dataurl", "dataurl_mirror", "remote_timeout", "allow_internet"):
        assert getattr(data.conf, name) == getattr(pkgdata.conf, name)
    pkgdata.conf.remote_timeout = 3
    pkgdata.conf.reset("remote_timeout")
    assert pkgdata.conf.remote_timeout == 10
    pkgdata.conf.remote_timeout = pkgdata.conf.retries = 3
    pkgdata.conf.reload()
    assert (pkgdata.conf.remote_timeout, pkgdata.conf.retries) == (10, 4)


def test_warnings_and_errors_are_of_astropys_kinds():
    assert issubclass(pkgdata.CacheMissingWarning, Warning)
    assert issubclass(pkgdata.CacheDamaged, ValueError)


# -- data of packages ------------------------------------------------------------------------


@pytest.fixture
def remote(server, monkeypatch):
    server.contents["near/x.dat"] = b"x"
    server.contents["far/y.dat"] = b"y"
    with (
        pkgdata.conf.set_temp("dataurl", server.url + "near/"),
        pkgdata.conf.set_temp("dataurl_mirror", server.url + "far/"),
    ):
        yield server


def test_dataurl_and_its_mirror(remote):
    for name in ("x.dat", "y.dat"):
        path = pkgdata.get_pkg_data_filename(name, package="json")
        assert Path(path).read_bytes() == name[:1].encode()
    assert pkgdata.get_cached_urls() == [remote.url + "near/x.dat", remote.url + "near/y.dat"]
    with pytest.raises(OSError, match="unable to open any source"):
        pkgdata.get_pkg_data_filename("z.dat", package="json")


def test_a_file_that_is_not_kept(remote):
    before = list(pkgdata._tempfilestodel)
    with pkgdata.get_pkg_data_fileobj("y.dat", package="json", cache=False) as file:
        assert file.read() == "y"
    assert pkgdata.get_pkg_data_contents("y.dat", "json", encoding="binary", cache=False) == b"y"
    assert pkgdata.get_cached_urls(on_missing="ignore") == []
    assert pkgdata._tempfilestodel == before


def test_a_file_by_its_hash(remote):
    path = pkgdata.get_pkg_data_filename("x.dat", package="json")
    name = "hash/" + pkgdata.compute_hash(path)
    assert pkgdata.get_pkg_data_filename(name, package="json") == path
    count = len(remote.requests)
    remote.contents["near/hash/0123"] = b"by hash"
    assert pkgdata.get_pkg_data_contents("hash/0123", package="json") == "by hash"
    assert len(remote.requests) == count + 1


def test_a_declared_package_may_have_a_folder_of_that_name(tmp_path):
    import hashlib

    (tmp_path / "hash").mkdir()
    (tmp_path / "hash" / "a").write_bytes(b"mine")
    registry = {"hash/a": hashlib.sha256(b"mine").hexdigest()}
    pkgdata.declare("with_hash", dataurl=str(tmp_path), registry=registry)
    path = pkgdata.get_pkg_data_filename("hash/a", package="with_hash")
    assert Path(path).read_bytes() == b"mine"


def test_compressed_files_of_a_package_are_opened(tmp_path, monkeypatch):
    import gzip

    folder = tmp_path / "src" / "packed_pkg"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "a.txt").write_bytes(gzip.compress(b"inside"))
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    assert pkgdata.get_pkg_data_contents("a.txt", package="packed_pkg") == "inside"
    files = pkgdata.get_pkg_data_fileobjs(".", package="packed_pkg", pattern="*.txt")
    assert [file.read() for file in files] == ["inside"]


# -- one cache for both ----------------------------------------------------------------------

FILL = """
import sys
{imports}
for url in sys.argv[1:]:
    print(data.download_file(url, cache=True, show_progress=False, pkgname={pkgname!r}))
"""
ASK = """
import sys
{imports}
data.conf.allow_internet = False
data.check_download_cache(pkgname={pkgname!r})
print(*data.get_cached_urls(pkgname={pkgname!r}), sep="\\n")
for url in sys.argv[1:]:
    assert data.is_url_in_cache(url, pkgname={pkgname!r})
    path = data.download_file(url, cache=True, pkgname={pkgname!r})
    print(path)
    print(data.compute_hash(path))
data.clear_download_cache(sys.argv[1], pkgname={pkgname!r})
print(len(data.cache_contents(pkgname={pkgname!r})))
"""
IMPORTS = {"astropy": "from astropy.utils import data", "pkgdata": "import pkgdata as data"}


def run(code, which, pkgname, *urls):
    done = subprocess.run(
        [sys.executable, "-c", code.format(imports=IMPORTS[which], pkgname=pkgname), *urls],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("pkgname", ["astropy", "mine.sub"])
@pytest.mark.parametrize(("one", "other"), [("astropy", "pkgdata"), ("pkgdata", "astropy")])
def test_what_the_one_filled_the_other_reads(astropy, server, shared, one, other, pkgname):
    urls = [server.link(name) for name in server.contents]
    urls[0] = urls[0].replace("http://127.0.0.1", "HTTP://127.0.0.1")
    paths = run(FILL, one, pkgname, *urls)
    count = len(server.requests)
    listed = run(ASK, other, pkgname, *urls)
    assert listed[:3] == sorted(urls)
    assert listed[3:-1:2] == paths
    assert listed[-1] == "2"
    assert len(server.requests) == count == 3
    assert run(FILL, one, pkgname, *urls[1:]) == paths[1:]
    assert len(server.requests) == 3
    assert os.path.commonpath([*paths, str(shared)]) == str(shared)


CARRY_OUT = "import sys\n{imports}\ndata.export_download_cache(sys.argv[1])"
CARRY_IN = "import sys\n{imports}\ndata.import_download_cache(sys.argv[1], pkgname='copy')"


@pytest.mark.parametrize(("one", "other"), [("astropy", "pkgdata"), ("pkgdata", "astropy")])
def test_what_the_one_exports_the_other_imports(astropy, server, shared, tmp_path, one, other):
    urls = [server.link(name) for name in server.contents]
    run(FILL, one, "astropy", *urls)
    run(CARRY_OUT, one, "", str(tmp_path / "all.zip"))
    run(CARRY_IN, other, "", str(tmp_path / "all.zip"))
    assert pkgdata.get_cached_urls("copy") == sorted(urls)


# -- astropy's own tests ---------------------------------------------------------------------


def test_astropys_own_tests_pass(astropy, tmp_path):
    script = Path(__file__).parent / "dialects" / "run_astropy.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout


def test_a_wrong_list_is_noticed(astropy, tmp_path):
    folder = Path(__file__).parent / "dialects"
    text = (folder / "run_astropy.py").read_text()
    start = "LEFT_OUT = {"
    (tmp_path / "run_astropy.py").write_text(
        text.replace(start, f'{start}\n    "test_that_is_none": "reason",')
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run_astropy.py"), "-k", "test_string_is_url_check"],
        env={
            **os.environ,
            "TMPDIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "there is no such test: test_that_is_none" in done.stdout
