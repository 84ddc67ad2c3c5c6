"""Where astropy's format lies, and temporary caches."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pkgdata
from pkgdata.cache import unpinned_dirs
from pkgdata.cache.unpinned_dirs import get_cache_dir, get_cache_dir_path, pkgdata_root, root_of


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the home directory, with nothing set."""
    for name in ("PKGDATA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    return tmp_path / "home"


# -- places ----------------------------------------------------------------------------------


def test_the_usual_place(home):
    assert root_of() == str(home / ".cache" / "astropy")
    assert root_of("mine") == str(home / ".cache" / "mine")
    assert root_of("mine.sub") == str(home / ".cache" / "mine" / "sub")
    assert not (home / ".cache").exists()


def test_the_old_place_where_only_that_exists(home):
    old = home / ".astropy" / "cache"
    old.mkdir(parents=True)
    assert root_of() == str(old)
    assert root_of("mine") == str(home / ".cache" / "mine")
    (home / ".cache" / "astropy").mkdir(parents=True)
    assert root_of() == str(home / ".cache" / "astropy")


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "ASTROPY_CACHE_DIR"])
def test_a_variable_counts_if_its_folder_exists(home, tmp_path, monkeypatch, variable):
    usual = str(home / ".cache" / "astropy")
    (tmp_path / "file").touch()
    for value in (str(tmp_path / "none"), "relative", str(tmp_path / "file"), ""):
        monkeypatch.setenv(variable, value)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "relative").mkdir(exist_ok=True)
        assert root_of() == usual
    (tmp_path / "good").mkdir()
    monkeypatch.setenv(variable, str(tmp_path / "good"))
    own = variable == "ASTROPY_CACHE_DIR"
    assert root_of() == str(tmp_path / "good" / ("" if own else "astropy")).rstrip("/")
    assert root_of("astropy.sub") == str(tmp_path / "good" / ("sub" if own else "astropy/sub"))
    expected = home / ".cache" if own else tmp_path / "good"
    assert root_of("mine") == str(expected / "mine")


def test_the_setting_moves_all_but_what_astropys_variable_names(home, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "set"))
    assert root_of() == str(tmp_path / "set" / "astropy")
    monkeypatch.setenv("ASTROPY_CACHE_DIR", str(tmp_path / "own"))
    assert root_of() == str(tmp_path / "own")
    assert root_of("mine") == str(tmp_path / "set" / "mine")
    assert unpinned_dirs.astropys_root("mine") == str(home / ".cache" / "mine")
    assert unpinned_dirs.astropys_root() == str(tmp_path / "own")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a..b", "a b", "/a", ".a"])
def test_a_name_that_is_no_packages(name):
    with pytest.raises(ValueError, match="a package name consists of"):
        root_of(name)


def test_the_folder_is_made_if_it_is_wanted(home):
    path = get_cache_dir("mine", ensure_exists=False)
    assert not os.path.exists(path)
    assert get_cache_dir("mine") == path
    assert os.path.isdir(path)
    assert get_cache_dir_path("mine") == Path(path)
    assert get_cache_dir() == str(home / ".cache" / "astropy")
    (home / ".cache" / "file").touch()
    with pytest.raises(OSError, match=r"file"):
        get_cache_dir("file")


ASK = """
import sys
if sys.argv[1] == "astropy":
    from astropy.config.paths import get_cache_dir
else:
    from pkgdata import get_cache_dir
print(get_cache_dir("astropy", ensure_exists=False))
print(get_cache_dir("mine.sub", ensure_exists=False))
"""


@pytest.mark.slow
@pytest.mark.parametrize("variable", [None, "XDG_CACHE_HOME", "ASTROPY_CACHE_DIR"])
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_astropy_names_the_same_places(home, tmp_path, monkeypatch, variable, exists, old):
    pytest.importorskip("astropy", minversion="8", reason="astropy 8 or newer is not installed")
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "folder"))
    if exists:
        (tmp_path / "folder").mkdir()
    if old:
        (home / ".astropy" / "cache").mkdir(parents=True)
    root = str(Path(pkgdata.__file__).parent.parent)
    answers = [
        subprocess.run(
            [sys.executable, "-c", ASK, which],
            env={**os.environ, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for which in ("astropy", "pkgdata")
    ]
    assert answers[0] == answers[1]


# -- temporary caches ------------------------------------------------------------------------


def test_set_temp_cache(tmp_path):
    before = root_of()
    with pkgdata.set_temp_cache(tmp_path / "one") as path:
        assert path == root_of() == str(tmp_path / "one" / "astropy")
        assert pkgdata_root() == str(tmp_path / "one" / "pkgdata")
        assert root_of("mine") == str(tmp_path / "cache" / "mine")
        with pkgdata.set_temp_cache(str(tmp_path / "two")):
            assert root_of() == str(tmp_path / "two" / "astropy")
            with pkgdata.set_temp_cache():
                assert root_of() == before
        assert root_of() == str(tmp_path / "one" / "astropy")
        get_cache_dir()
    assert root_of() == before
    assert pkgdata_root() == str(tmp_path / "cache")
    assert (tmp_path / "one").exists()


def test_it_ends_when_the_block_fails(tmp_path):
    before = root_of()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="is a file"):
        pkgdata.set_temp_cache(tmp_path / "file")
    with pytest.raises(KeyError), pkgdata.set_temp_cache(tmp_path / "one"):
        raise KeyError
    assert root_of() == before


def test_the_folder_goes_if_wanted(tmp_path):
    with pkgdata.set_temp_cache(tmp_path / "one", delete=True):
        get_cache_dir()
    assert not (tmp_path / "one").exists()


def test_as_decorators(tmp_path):
    @pkgdata.set_temp_cache(tmp_path / "one")
    def ask(number):
        """Tell."""
        return number, root_of()

    assert ask(1) == (1, str(tmp_path / "one" / "astropy"))
    assert ask(number=2)[0] == 2
    assert ask.__doc__ == "Tell."

    @pkgdata.temporary_cache_dir_path(tmp_path, namespace="mine")
    def other():
        return root_of("mine")

    assert other().startswith(str(tmp_path))
    assert root_of("mine") == str(tmp_path / "cache" / "mine")


def test_a_temporary_cache_of_one_package(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("ASTROPY_CACHE_DIR", str(tmp_path / "own"))
    how = {"namespace": "astropy", "prefix": "a-", "suffix": "-z"}
    with pkgdata.temporary_cache_dir_path(tmp_path, **how) as path:
        assert path.is_dir()
        assert path.name == "astropy"
        assert path.parent.name.startswith("a-")
        assert path.parent.name.endswith("-z")
        assert root_of() == str(path)
        with pkgdata.temporary_cache_dir_path(namespace="mine.sub", delete=False) as other:
            assert root_of("mine.sub") == str(other)
            assert root_of() == str(path)
    assert not path.parent.exists()
    assert other.exists()
    assert root_of() == str(tmp_path / "own")
    with (
        pytest.raises(ValueError, match="a package name"),
        pkgdata.temporary_cache_dir_path(namespace="../a"),
    ):
        pass


def test_it_holds_for_other_threads_which_wait_for_their_own(tmp_path):
    order = []
    began = threading.Event()

    def other():
        order.append(root_of())
        began.set()
        with pkgdata.set_temp_cache(tmp_path / "two"):
            order.append(root_of())

    with pkgdata.set_temp_cache(tmp_path / "one"):
        thread = threading.Thread(target=other)
        thread.start()
        assert began.wait(60)
        order.append("leaving")
    thread.join()
    assert order == [str(tmp_path / "one/astropy"), "leaving", str(tmp_path / "two/astropy")]
