"""The order of lookup, step by step, and what a hit does not do."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from looking import (
    CONTENT,
    DIGEST,
    NAME,
    ORDINARY,
    child,
    fill_cache,
    freeze,
    may_drop,
    posix,
    put,
    snapshot,
)

import pkgdata
from pkgdata.base.config import conf
from pkgdata.core import package

# -- the order -------------------------------------------------------------------------------


@pytest.fixture
def everywhere(project, monkeypatch):
    """Put the file into every place; return the paths, strongest first."""
    cached = [fill_cache(project, project / "site"), fill_cache(project, project / "cache")]
    monkeypatch.setenv("PKGDATA_SITE_CACHES", str(project / "site"))
    monkeypatch.setenv("PKGDATA_FOLDERS", str(project / "configured"))
    monkeypatch.setenv("LOOKPKG_DATA", os.pathsep.join(map(str, [project / "v1", project / "v2"])))
    return [
        put(project / "src" / "lookpkg" / "data"),
        put(project / "v1"),
        put(project / "v2"),
        put(project / "configured" / "lookpkg"),
        put(project / "predefined"),
        *map(Path, cached),
    ]


KINDS = [
    "package",
    "variable",
    "variable",
    "configured folder",
    "package folder",
    "site cache",
    "user cache",
]


@pytest.mark.parametrize("again", ["the same object", "a new object"])
def test_each_place_comes_before_the_next(everywhere, again):
    data = pkgdata.declare("lookpkg")
    for path in everywhere:
        assert data.find(NAME) == data.get(NAME) == str(path)
        path.unlink()
        if again == "a new object":
            data = pkgdata.declare("lookpkg")
    assert data.find(NAME) is None
    assert data.get(NAME) == str(everywhere[-1])  # the mirror fills the user cache
    assert everywhere[-1].read_bytes() == CONTENT


def test_where_lists_the_places_in_that_order(everywhere, project):
    for step in range(len(everywhere) + 1):
        places = pkgdata.declare("lookpkg").where(NAME)
        assert [place.kind for place in places] == [*KINDS, "mirror"]
        assert [place.where for place in places[:-1]] == list(map(str, everywhere))
        states = ["absent"] * step + ["found"] * (len(everywhere) - step) + ["not tried"]
        assert [place.state for place in places] == states
        if step < len(everywhere):
            everywhere[step].unlink()
    assert places[-1].where == f"{(project / 'origin').as_uri()}/{NAME}"
    assert places[1].note == "LOOKPKG_DATA"
    assert places[3].note == "PKGDATA_FOLDERS"


def test_where_writes_nothing_but_stamps_and_hides_secrets(project, monkeypatch):
    data = pkgdata.declare("lookpkg", dataurl=["https://me:geheim@example.org/?token=geheim"])
    before = snapshot(project)
    (mirror,) = [place for place in data.where(NAME) if place.kind == "mirror"]
    assert snapshot(project) == before
    assert "geheim" not in mirror.where
    assert mirror.note == ""
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    assert data.where(NAME)[-1].note == "offline"
    assert "geheim" not in repr(data)


def test_where_says_what_is_wrong(project):
    put(project / "predefined", content=b"#" * len(CONTENT))
    place = next(p for p in pkgdata.declare("lookpkg").where(NAME) if p.state == "wrong")
    assert place.kind == "package folder"
    assert DIGEST in place.note


@pytest.mark.parametrize(("level", "kind"), list(enumerate(KINDS)))
def test_a_hit_in_any_place_writes_nothing(everywhere, project, level, kind):
    for path in everywhere[:level]:
        path.unlink()
    first = pkgdata.declare("lookpkg")
    first.get(NAME)  # a folder's file is stamped once
    before = snapshot(project)
    for data in (first, pkgdata.declare("lookpkg")):
        for _ in range(2):
            assert data.get(NAME) == str(everywhere[level])
        assert data.fetch([NAME]).succeeded == {NAME: str(everywhere[level])}
    assert snapshot(project) == before, f"a hit in the {kind} wrote something"


def test_a_wrong_file_in_a_folder_sends_lookup_on(project, data):
    put(project / "predefined", content=b"wrong")
    with pytest.warns(pkgdata.FolderWarning, match=f"expected {len(CONTENT)} bytes, found 5"):
        assert data.get(NAME).startswith(str(project / "cache"))


def test_a_wrong_file_shipped_in_the_package_is_the_packages_own_affair(project, data):
    path = put(project / "src" / "lookpkg" / "data", content=b"another edition")
    assert data.get(NAME) == str(path)


def test_a_shipped_file_needs_no_registry(project, data):
    path = put(project / "src" / "lookpkg" / "data", "own.txt", b"own")
    assert data.get("own.txt") == data.get("data/own.txt") == str(path)
    assert [place.kind for place in data.where("own.txt")] == ["package"]
    with pytest.raises(pkgdata.UnknownNameError):
        data.get("none.txt")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "C:\\x", "a\0b", ""])
@pytest.mark.parametrize("method", ["get", "find", "where", "open"])
def test_unsafe_names_are_refused_before_any_path_is_built(data, name, method):
    with pytest.raises(pkgdata.UnsafeNameError):
        getattr(data, method)(name)


def test_a_relative_folder_of_the_variable_gives_an_absolute_path(project, data, monkeypatch):
    path = put(project / "relative")
    monkeypatch.chdir(project)
    monkeypatch.setenv("LOOKPKG_DATA", "relative")
    assert data.get(NAME) == str(path)
    assert data.where(NAME)[1].where == str(path)


# -- remembered answers ----------------------------------------------------------------------


def test_the_second_call_is_one_stat(project, data, monkeypatch):
    path = data.get(NAME)
    calls = []
    real = os.stat

    def counting(*args, **kwargs):
        calls.append(args[0])
        return real(*args, **kwargs)

    monkeypatch.setattr(package, "_stat", counting)
    monkeypatch.setattr(os, "stat", counting)
    monkeypatch.setattr(os, "open", None)
    monkeypatch.setattr("builtins.open", None)
    found = data.get(NAME)
    monkeypatch.undo()
    assert found == path
    assert calls == [path]


def test_a_file_that_vanished_is_noticed(project, data):
    path = data.get(NAME)
    os.unlink(path)
    assert data.get(NAME) == path
    assert Path(path).read_bytes() == CONTENT


def test_a_file_that_was_cut_short_is_noticed(project, data):
    path = Path(data.get(NAME))
    path.chmod(0o644)
    path.write_bytes(CONTENT[:5])
    assert Path(data.get(NAME)).read_bytes() == CONTENT


def test_a_changed_folder_file_of_the_same_size_is_noticed(project, data):
    path = put(project / "predefined")
    assert data.get(NAME) == str(path)
    found = path.stat()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))
    with pytest.warns(pkgdata.FolderWarning):
        assert data.get(NAME) != str(path)


@pytest.mark.parametrize(
    ("variable", "place"),
    [("LOOKPKG_DATA", ""), ("PKGDATA_FOLDERS", "lookpkg"), ("PKGDATA_CACHE_DIR", None)],
)
def test_a_changed_variable_is_noticed(project, data, monkeypatch, variable, place):
    first = data.get(NAME)
    other = project / "other"
    expected = fill_cache(project, other) if place is None else str(put(other / place))
    old = os.environ.get(variable)
    monkeypatch.setenv(variable, str(other))
    assert data.get(NAME) == expected
    if old is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, old)
    assert data.get(NAME) == first


def test_a_new_site_cache_is_noticed(project, data, monkeypatch):
    data.get(NAME)
    expected = fill_cache(project, project / "site")
    monkeypatch.setenv("PKGDATA_SITE_CACHES", str(project / "site"))
    assert data.get(NAME) == expected


def test_a_changed_policy_is_noticed(project, data, monkeypatch):
    path = put(project / "predefined", content=CONTENT[::-1])
    monkeypatch.setenv("PKGDATA_VERIFY", "size")
    assert data.get(NAME) == str(path)
    monkeypatch.setenv("PKGDATA_VERIFY", "once")
    with pytest.warns(pkgdata.FolderWarning):
        assert data.get(NAME) != str(path)


def test_a_changed_conf_is_noticed_and_so_is_its_end(project, data, monkeypatch):
    first = data.get(NAME)
    path = str(put(project / "other" / "lookpkg"))
    with conf.set_temp("folders", [str(project / "other")]):
        assert data.get(NAME) == path
    assert data.get(NAME) == first
    monkeypatch.setattr("pkgdata.base.config._process", {})
    conf.folders = [str(project / "other")]
    assert data.get(NAME) == path
    del conf.folders
    assert data.get(NAME) == first


# -- read-only places ------------------------------------------------------------------------

HIT = (
    ORDINARY
    + """
import sys, pkgdata
try:
    open(os.path.join(sys.argv[2], "probe"), "x")
    raise SystemExit("the tree can be written to, so this test would show nothing")
except PermissionError:
    pass
data = pkgdata.declare("lookpkg")
print(data.get(sys.argv[1]))
print(data.get(sys.argv[1]))
"""
)


@may_drop
@pytest.mark.parametrize("place", ["site", "cache", "predefined"])
def test_a_hit_in_a_read_only_tree(project, place):
    if place == "predefined":
        path = str(put(project / place))
    else:
        path = fill_cache(project, project / place)
    freeze(project / place)
    before = snapshot(project / place)
    done = child(
        HIT,
        NAME,
        project / place,
        PYTHONPATH=os.pathsep.join([str(project / "src"), str(Path(pkgdata.__file__).parents[1])]),
        PKGDATA_SITE_CACHES=project / "site",
    )
    assert done.stdout.splitlines() == [path, path]
    assert done.stderr == ""
    assert snapshot(project / place) == before


@may_drop
def test_a_read_only_stamp_place_keeps_the_stamp_in_the_process(project):
    put(project / "predefined")
    (project / "cache").mkdir(mode=0o555)
    code = HIT.replace(
        "data =",
        "from pkgdata.base import hashes\nreal, count = hashes.hash_file, []\n"
        "hashes.hash_file = lambda *args: (count.append(1), real(*args))[1]\ndata =",
    )
    code += (
        "data._known.clear()\nprint(data.get(sys.argv[1]))\nprint(len(count))\n"
        "assert not os.listdir(sys.argv[2])"
    )
    path = os.pathsep.join([str(project / "src"), str(Path(pkgdata.__file__).parents[1])])
    done = child(code, NAME, project / "cache", PYTHONPATH=path)
    assert done.stdout.splitlines() == [str(project / "predefined" / NAME)] * 3 + ["1"]


FETCH = (
    ORDINARY
    + """
import sys, warnings, pkgdata
warnings.simplefilter("always")
data = pkgdata.declare("lookpkg")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    paths = [data.get(name) for name in ("maps/dust map.txt", "top.txt", "top.txt")]
print(len(caught), caught[0].category.__name__, caught[0].filename)
print(caught[0].message)
for path in paths:
    print(open(path).read())
    print(path)
"""
)


@may_drop
@pytest.mark.parametrize("keep", [None, "0"])
def test_an_unwritable_cache_makes_a_temporary_file_and_one_warning(project, keep):
    (project / "cache").mkdir(mode=0o555)
    (project / "tmp").mkdir()
    path = os.pathsep.join([str(project / "src"), str(Path(pkgdata.__file__).parents[1])])
    done = child(
        FETCH,
        PYTHONPATH=path,
        TMPDIR=project / "tmp",
        PKGDATA_DELETE_TEMPORARY_DOWNLOADS_AT_EXIT=keep,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "1 CacheWarning <string>"
    assert str(project / "cache") in lines[1]
    assert "files are kept in" in lines[1]
    assert lines[2::2] == [CONTENT.decode(), "top", "top"]
    assert all(path.startswith(str(project / "tmp")) for path in lines[3::2])
    assert lines[3].endswith("dust map.txt")
    assert os.listdir(project / "cache") == []
    assert bool(os.listdir(project / "tmp")) == (keep == "0")


@may_drop
def test_an_unwritable_cache_and_an_unpinned_file(project):
    (project / "cache").mkdir(mode=0o555)
    (project / "tmp").mkdir()
    code = ORDINARY + (
        "import sys, pkgdata, warnings\nwarnings.simplefilter('ignore')\n"
        "data = pkgdata.declare('free', dataurl=sys.argv[1], registry={'top.txt': None})\n"
        "print(open(data.get('top.txt')).read(), data.get('top.txt'))\n"
    )
    done = child(code, (project / "origin").as_uri(), TMPDIR=project / "tmp")
    content, path = done.stdout.split()
    assert content == "top"
    assert path.startswith(str(project / "tmp"))
    assert os.listdir(project / "tmp") == []


@pytest.mark.parametrize("where", ["cache", "cache/objects-v1", "cache/partial-v1"])
def test_a_file_in_the_way_is_named(project, data, where):
    put(project, where, b"in the way")
    with pytest.raises(pkgdata.CacheError) as caught:
        data.get(NAME)
    assert "cannot be used" in caught.value.message
    assert str(project / "cache") in caught.value.message
    assert "PKGDATA_CACHE_DIR" in str(caught.value)
    assert (project / where).read_bytes() == b"in the way"


NO_HOME = """
import pwd, sys
def nobody(uid):
    raise KeyError(uid)
pwd.getpwuid = nobody
import pkgdata
data = pkgdata.declare("x", dataurl=sys.argv[1], registry={"top.txt": sys.argv[2]},
                       folders=sys.argv[3:])
try:
    print(data.get("top.txt"))
except pkgdata.CacheError as error:
    print("CacheError", error)
"""


@posix
def test_without_a_home_directory(project):
    bare = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PKGDATA_CACHE_DIR"])
    args = [(project / "origin").as_uri(), hashlib.sha256(b"top").hexdigest()]
    done = child(NO_HOME, *args, **bare)
    assert done.stdout.endswith("top.txt\n")
    assert not os.path.exists(done.stdout.strip()), "temporary, as with a home that is read-only"
    assert "this user has no home directory to keep a cache in; files are kept" in done.stderr
    # a folder's file is served all the same
    done = child(NO_HOME, *args, project / "origin", **bare)
    assert done.stdout.strip() == str(project / "origin" / "top.txt")


# -- offline ---------------------------------------------------------------------------------

OFFLINE = """
import sys, pkgdata
data = pkgdata.declare("x", dataurl="https://example.org/", registry={"a.txt": sys.argv[1]},
                       folders=["/nonexistent/folder"])
try:
    data.get("a.txt")
except pkgdata.OfflineError as error:
    print(error.name)
    print(error, file=sys.stderr)
print(*{name.partition(".")[0] for name in sys.modules})
"""


@pytest.mark.parametrize("variable", ["PKGDATA_OFFLINE", "PKGDATA_ALLOW_INTERNET"])
def test_offline_mode_loads_no_library_of_the_network(tmp_path, variable):
    value = "1" if variable == "PKGDATA_OFFLINE" else "0"
    done = child(OFFLINE, DIGEST, **{variable: value})
    name, modules = done.stdout.splitlines()
    assert name == "a.txt"
    network = {"requests", "urllib3", "http", "ssl", "tqdm", "pooch", "filelock", "_ssl"}
    assert network.isdisjoint(modules.split())
    assert "package folder: /nonexistent/folder/a.txt (absent)" in done.stderr
    assert "user cache: " in done.stderr
    assert "pkgdata fetch x a.txt --to DIR" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_offline_mode_serves_what_is_here(project, data, monkeypatch):
    path = data.get(NAME)
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    assert pkgdata.declare("lookpkg").get(NAME) == path
    with pytest.raises(pkgdata.OfflineError):
        pkgdata.declare("lookpkg").get("top.txt")


def test_a_package_may_be_offline_by_itself(project):
    with pytest.raises(pkgdata.OfflineError):
        pkgdata.declare("lookpkg", offline=True).get(NAME)
    with conf.set_temp("offline", True):
        assert pkgdata.declare("lookpkg", offline=False).get(NAME)
