"""The cache of a node, in front of the user's: where it lies, and how it is filled."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from faults import FaultServer
from looking import CONTENT, FILES, NAME, ORDINARY, child, fill_cache, freeze, may_drop, posix, put

import pkgdata
from pkgdata.base import disk
from pkgdata.cache import node as node_module
from pkgdata.cache import stamps, upkeep
from pkgdata.cache.objects import Cache
from pkgdata.errors import CacheError, CacheWarning, ConfigError, IntegrityError, OfflineError


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Return the root of a node's cache that is set, not yet there."""
    monkeypatch.setenv("SLURM_TMPDIR", str(tmp_path / "nodelocal"))
    monkeypatch.setenv("PKGDATA_NODE_CACHE", "$SLURM_TMPDIR/pkgdata")
    return tmp_path / "nodelocal" / "pkgdata"


def kinds(data, name=NAME):
    return [(place.kind, place.state) for place in data.where(name)]


def is_below(path, root):
    return Path(root) in Path(path).parents


# -- where it lies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("templates", "variables", "found"),
    [
        ("$A/pkgdata:$B/pkgdata", {"A": "{top}/a", "B": "{top}/b"}, "a/pkgdata"),
        ("$A/pkgdata:$B/pkgdata", {"B": "{top}/b"}, "b/pkgdata"),
        ("$A/pkgdata:$B/pkgdata", {"A": "", "B": "{top}/b"}, "b/pkgdata"),
        ("$A/pkgdata:${B}x/$C", {"B": "{top}/b", "C": "c"}, "bx/c"),
        ("$A/pkgdata:$B/pkgdata", {}, None),
        ("$A/pkgdata", {"A": "relative"}, None),
        ("~/node", {}, "home/node"),
        ("none", {}, None),
    ],
)
def test_the_first_whose_variables_are_set_counts(
    data, tmp_path, monkeypatch, templates, variables, found
):
    for name in "ABC":
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(top=tmp_path))
    monkeypatch.setenv("PKGDATA_NODE_CACHE", templates.replace(":", os.pathsep))
    path = data.get(NAME)
    root = tmp_path / (found or "cache")
    assert is_below(path, root)
    assert Path(path).read_bytes() == CONTENT
    assert (data.node_cache and data.node_cache.root) == (found and str(root))


@may_drop
def test_one_that_cannot_be_written_to_is_skipped_without_a_word(data, tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir(mode=0o555)
    code = ORDINARY + (
        "import sys, warnings, pkgdata\nwarnings.simplefilter('error')\n"
        "print(pkgdata.declare('lookpkg').get(sys.argv[1]))"
    )
    roots = [tmp_path / "closed" / "pkgdata", tmp_path / "open"]
    done = child(
        code,
        NAME,
        PKGDATA_NODE_CACHE=":".join(map(str, roots)),
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    assert is_below(done.stdout.strip(), roots[1])


def test_the_strongest_place_replaces_the_others(data, tmp_path, monkeypatch):
    config = put(tmp_path, "c.toml", f"node_cache = ['{tmp_path / 'file'}']".encode())
    monkeypatch.setenv("PKGDATA_CONFIG", str(config))
    assert is_below(data.get(NAME), tmp_path / "file")
    monkeypatch.setenv("PKGDATA_NODE_CACHE", "none")
    assert is_below(data.get(NAME), tmp_path / "cache")
    with pkgdata.conf.set_temp("node_cache", [tmp_path / "set"]):
        assert is_below(data.get(NAME), tmp_path / "set")


def test_a_relative_one_is_an_error(data, monkeypatch):
    monkeypatch.setenv("PKGDATA_NODE_CACHE", "scratch/pkgdata")
    with pytest.raises(ConfigError, match="expected an absolute path"):
        data.get(NAME)


@posix
def test_it_is_made_for_this_user_alone(data, node):
    old = os.umask(0)
    try:
        path = data.get(NAME)
    finally:
        os.umask(old)
    assert stat.S_IMODE(node.stat().st_mode) == stat.S_IMODE(node.parent.stat().st_mode) == 0o700
    assert not os.stat(path).st_mode & 0o077


# -- what others may have planted ---------------------------------------------------------------


as_root = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs another user")


def _plant(kind, shared, secret):
    """Put something of another user where the node's cache is to be; return its path."""
    path = shared / "me"
    if kind == "link":
        path.symlink_to(secret)
    else:
        path.mkdir(mode=0o777)
        path.chmod(0o777)
    os.chown(path, 65534, 65534, follow_symlinks=False)
    return path


@as_root
def test_a_link_of_ones_own_to_what_another_user_made_is_refused(data, tmp_path, monkeypatch):
    shared = tmp_path / "shm"
    shared.mkdir()
    shared.chmod(0o1777)
    planted = _plant("folder", shared, tmp_path)
    (tmp_path / "scratch").symlink_to(planted)
    monkeypatch.setenv("PKGDATA_NODE_CACHE", str(tmp_path / "scratch" / "pkgdata"))
    with pytest.warns(CacheWarning, match=f"{planted} belongs to another user"):
        assert is_below(data.get(NAME), tmp_path / "cache")


@as_root
@pytest.mark.parametrize("kind", ["link", "folder"])
@pytest.mark.parametrize("below", ["", "pkgdata"])
def test_what_another_user_planted_is_not_used(data, tmp_path, monkeypatch, kind, below):
    shared, secret = tmp_path / "shm", tmp_path / "secret"
    shared.mkdir()
    shared.chmod(0o1777)
    secret.mkdir(mode=0o700)
    planted = _plant(kind, shared, secret)
    monkeypatch.setenv("PKGDATA_NODE_CACHE", str(planted / below))
    with pytest.warns(CacheWarning, match=f"{planted} belongs to another user"):
        path = data.get(NAME)
    assert is_below(path, tmp_path / "cache")
    assert not list(secret.iterdir())
    assert kind == "link" or not list(planted.iterdir())


@as_root
def test_what_is_planted_after_it_was_chosen_is_not_used(data, tmp_path, monkeypatch):
    shared = tmp_path / "shm"
    shared.mkdir()
    shared.chmod(0o1777)
    monkeypatch.setenv("PKGDATA_NODE_CACHE", str(shared / "me" / "pkgdata"))
    assert data.find(NAME) is None  # chosen, and not yet there
    wrong = Cache(str(shared / "me" / "pkgdata")).path(data.registry[NAME].digest, NAME)
    put(os.path.dirname(wrong), os.path.basename(wrong), CONTENT.upper())
    os.chmod(wrong, 0o444)
    for path in (shared / "me", *(shared / "me").rglob("*")):
        os.chown(path, 65534, 65534)
    assert data.find(NAME) is None
    with pytest.warns(CacheWarning, match="belongs to another user"):
        assert Path(data.get(NAME)).read_bytes() == CONTENT


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_one_that_others_may_write_to_is_not_used(data, tmp_path, monkeypatch, mode):
    root = tmp_path / "node"
    root.mkdir()
    root.chmod(mode)
    monkeypatch.setenv("PKGDATA_NODE_CACHE", str(root))
    with pytest.warns(CacheWarning, match=r"others may change|nobody else can write"):
        assert is_below(data.get(NAME), tmp_path / "cache")
    assert not list(root.iterdir())


@posix
def test_a_folder_above_that_anyone_may_change_is_refused(data, tmp_path, monkeypatch):
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose").chmod(0o777)
    monkeypatch.setenv("PKGDATA_NODE_CACHE", str(tmp_path / "loose" / "pkgdata"))
    with pytest.warns(CacheWarning, match=f"others may change {tmp_path / 'loose'}"):
        assert is_below(data.get(NAME), tmp_path / "cache")


@posix
def test_links_of_ones_own_are_followed(data, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "scratch").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("PKGDATA_NODE_CACHE", str(tmp_path / "scratch" / "pkgdata"))
    assert is_below(data.get(NAME), tmp_path / "scratch" / "pkgdata")
    assert (tmp_path / "disk" / "pkgdata" / "CACHEDIR.TAG").is_file()


# -- the order of the places ---------------------------------------------------------------------


def test_where_names_it_after_the_package_and_before_the_folders(data, node):
    assert [kind for kind, _ in kinds(data)] == [
        "package",
        "node cache",
        "package folder",
        "user cache",
        "mirror",
    ]
    assert not node.exists()  # looking makes nothing
    data.get(NAME)
    assert kinds(data)[1] == ("node cache", "found")


@pytest.mark.parametrize("verify", ["size", "never"])
def test_a_folder_that_may_differ_is_asked_first(data, project, node, monkeypatch, verify):
    data.get(NAME)
    mine = put(project / "predefined", NAME, CONTENT.upper())
    monkeypatch.setenv("PKGDATA_VERIFY", verify)
    assert data.get(NAME) == str(mine)


def test_what_a_folder_holds_is_not_copied(data, project, node):
    mine = put(project / "predefined", NAME)
    assert data.get(NAME) == str(mine)
    assert not node.exists()


# -- filling it -----------------------------------------------------------------------------------


def test_a_download_goes_through_the_users_cache(data, project, node):
    path = data.get(NAME)
    assert is_below(path, node)
    assert is_below(pkgdata.declare("lookpkg", node_cache="none").find(NAME), project / "cache")
    shutil.rmtree(project / "origin")
    shutil.rmtree(node)  # the job ended
    assert data.get(NAME) == path
    assert Path(path).read_bytes() == CONTENT


@pytest.mark.parametrize("tier", ["user", "site"])
def test_a_slower_cache_is_copied_from_once(data, project, node, monkeypatch, tier):
    fill_cache(project, project / "site")
    name = {"user": "PKGDATA_CACHE_DIR", "site": "PKGDATA_SITE_CACHES"}[tier]
    monkeypatch.setenv(name, str(project / "site"))
    shutil.rmtree(node, ignore_errors=True)
    shutil.rmtree(project / "origin")
    path = data.get(NAME)
    assert is_below(path, node)
    shutil.rmtree(project / "site")
    assert pkgdata.declare("lookpkg").get(NAME) == path == data.find(NAME)


def test_finding_copies_nothing(data, project, node):
    fill_cache(project, project / "cache")
    shutil.rmtree(node)
    assert is_below(data.find(NAME), project / "cache")
    assert not node.exists()


def test_damage_of_a_slower_cache_is_noticed_on_the_way(data, project, node):
    path = pkgdata.declare("lookpkg", node_cache="none").get(NAME)
    os.chmod(path, 0o644)
    Path(path).write_bytes(CONTENT.upper())
    with pytest.warns(CacheWarning, match="wrong bytes"):
        copy = data.get(NAME)
    assert is_below(copy, node)
    assert Path(copy).read_bytes() == Path(path).read_bytes() == CONTENT


@pytest.mark.parametrize("many", [False, True])
def test_damage_of_a_site_cache_is_noticed_on_the_way(data, project, node, monkeypatch, many):
    path = fill_cache(project, project / "site")
    shutil.rmtree(node, ignore_errors=True)
    damaged = pkgdata.declare("lookpkg", cache_dir=str(project / "site"), node_cache="none").get(
        NAME
    )
    os.chmod(damaged, 0o644)
    Path(damaged).write_bytes(CONTENT.upper())
    monkeypatch.setenv("PKGDATA_SITE_CACHES", str(project / "site"))
    with pytest.warns(CacheWarning, match="wrong bytes"):
        path = data.fetch().succeeded[NAME] if many else data.get(NAME)
    assert Path(path).read_bytes() == CONTENT


def test_damage_that_cannot_be_replaced_is_an_error(data, project, node, monkeypatch):
    path = pkgdata.declare("lookpkg", node_cache="none").get(NAME)
    os.chmod(path, 0o644)
    Path(path).write_bytes(CONTENT.upper())
    shutil.rmtree(project / "origin")
    with pytest.warns(CacheWarning, match="wrong bytes"), pytest.raises(pkgdata.PkgdataError):
        data.get(NAME)
    assert data.find(NAME) is None


def test_offline_it_is_filled_from_the_users_cache(data, project, node, monkeypatch):
    fill_cache(project, project / "cache")
    shutil.rmtree(node)
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    assert is_below(data.get(NAME), node)
    with pytest.raises(OfflineError, match="node cache"):
        data.get("top.txt")


def test_unpinned_files_stay_where_they_are(project, node):
    data = pkgdata.declare(
        "loose", dataurl=(project / "origin").as_uri(), registry={"top.txt": None}
    )
    assert not is_below(data.get("top.txt"), node)
    assert not node.exists()


def test_a_batch_is_copied_too(data, project, node):
    report = data.fetch()
    assert set(report.succeeded) == set(report.new) == set(FILES)
    assert {name for _, name in stamps.used_by(data.cache.root)["lookpkg"]} == set(FILES)
    for name, path in report.succeeded.items():
        assert is_below(path, node)
        assert Path(path).read_bytes() == FILES[name]
    shutil.rmtree(node)
    again = data.fetch()
    assert again.succeeded == report.succeeded
    assert not again.new
    assert not [path for kind in ("partial-v1", "locks-v1") for path in (node / kind).iterdir()]


def test_a_batch_of_which_one_fails(data, project, node):
    (project / "origin" / "top.txt").unlink()
    with pytest.raises(pkgdata.errors.BatchError) as caught:
        data.fetch()
    report = caught.value.report
    assert set(report.failed) == {"top.txt"}
    assert all(is_below(path, node) for path in report.succeeded.values())


def test_exported_files_come_from_the_node(data, project, node):
    report = data.fetch([NAME], to=project / "out")
    assert Path(report.succeeded[NAME]).read_bytes() == CONTENT


def test_trees_and_unpacked_archives_lie_on_the_node(data, node):
    tree = Path(data.tree("maps"))
    assert is_below(tree, node)
    assert (tree / "gas.txt").read_bytes() == b"gas"
    inside = data.get("top.txt", processor=lambda path, *_: path)
    assert is_below(inside, node)


# -- many processes -----------------------------------------------------------------------------

CROWD = """
import sys, time, pkgdata
data = pkgdata.PackageData("crowd", dataurl=sys.argv[1], registry={"0.bin": sys.argv[2]})
while time.time() < float(sys.argv[3]):
    time.sleep(0.001)
print(data.get("0.bin") if sys.argv[4] == "get" else data.fetch().succeeded["0.bin"])
"""


@pytest.mark.parametrize("how", ["get", "fetch"])
def test_of_a_nodes_processes_one_fetches_and_one_copies(tmp_path, node, how):
    content = os.urandom(3 << 20)
    with FaultServer({"0.bin": content}) as server:
        arguments = [server.url, hashlib.sha256(content).hexdigest(), str(time.time() + 1), how]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        crowd = [
            subprocess.Popen(
                [sys.executable, "-c", CROWD, *arguments],
                env=env,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(6)
        ]
        paths = {process.communicate(timeout=60)[0].strip() for process in crowd}
        assert len(server.requests) <= 2
    (path,) = paths
    assert is_below(path, node)
    assert Path(path).read_bytes() == content
    assert not list((node / "partial-v1").iterdir())


def test_those_who_wait_see_that_the_download_goes_on(data, node, monkeypatch):
    """The download writes to the user's cache; the node's shows no growth of its own."""
    monkeypatch.setenv("PKGDATA_LOCK_TIMEOUT", "0.5")
    began = threading.Event()
    from pkgdata.core.download import Downloads

    home = Downloads.bring_home
    calls = []

    def slow(self, entry, show, *arguments, **rounds):
        calls.append(entry.name)
        began.set()
        for _ in range(15):
            time.sleep(0.1)
            show(pkgdata.base.progress.Event(entry.name, "bytes", 1, 2))
        return home(self, entry, show, *arguments, **rounds)

    monkeypatch.setattr(Downloads, "bring_home", slow)
    first = threading.Thread(target=data.get, args=(NAME,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first.start()
        began.wait(10)
        assert is_below(pkgdata.declare("lookpkg").get(NAME), node)
    first.join()
    assert calls == [NAME]


# -- what may go wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("many", [False, True])
def test_a_full_node_falls_back_with_one_warning(data, project, node, monkeypatch, many):
    free = disk.free_bytes
    monkeypatch.setattr(
        disk,
        "free_bytes",
        lambda path: 3 if is_below(path, node) or path == str(node) else free(path),
    )
    with pytest.warns(CacheWarning, match="no space for") as caught:
        paths = data.fetch().succeeded if many else {name: data.get(name) for name in FILES}
    assert len(caught) == 1
    assert "continuing without this node's cache" in str(caught[0].message)
    for name, path in paths.items():
        assert Path(path).read_bytes() == FILES[name]
    assert is_below(paths[NAME], project / "cache")
    assert not list((node / "partial-v1").iterdir())
    assert {"node cache"} <= {kind for kind, _ in kinds(data)}


def test_a_copy_that_runs_out_of_space_leaves_nothing(data, project, node, monkeypatch):
    from pkgdata.base import fs

    write = fs.write_all

    def full(fd, content):
        if is_below(os.readlink(f"/proc/self/fd/{fd}"), node / "partial-v1"):
            os.write(fd, content[:5])
            raise OSError(28, "No space left on device")
        write(fd, content)

    fill_cache(project, project / "cache")
    shutil.rmtree(node)
    monkeypatch.setattr(fs, "write_all", full)
    with pytest.warns(CacheWarning, match="No space left"):
        assert is_below(data.get(NAME), project / "cache")
    assert not list((node / "partial-v1").iterdir())


@may_drop
@pytest.mark.parametrize("how", ["get", "fetch"])
def test_it_stands_in_for_a_home_that_cannot_be_written_to(project, node, how):
    (project / "cache").mkdir()
    freeze(project / "cache")
    code = ORDINARY + (
        "import sys, pkgdata\ndata = pkgdata.declare('lookpkg')\n"
        "name, how = sys.argv[1:]\n"
        "print(data.get(name) if how == 'get' else data.fetch().succeeded[name])"
    )
    done = child(code, NAME, how, PYTHONPATH=os.pathsep.join([str(project / "src"), *sys.path]))
    assert is_below(done.stdout.strip(), node)
    assert f"files are kept in {node}" in done.stderr
    assert not list(Path(node, "partial-v1").iterdir())


@pytest.mark.parametrize("many", [False, True])
def test_what_is_removed_before_it_is_copied_is_fetched_again(
    data, project, node, monkeypatch, many
):
    there = pkgdata.declare("lookpkg", node_cache="none").get(NAME)
    usable, left = node_module.NodeCache.is_usable, [there]

    def removed(self):
        if left and (not many or node.exists()):
            os.unlink(left.pop())
        return usable(self)

    monkeypatch.setattr(node_module.NodeCache, "is_usable", removed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = data.fetch([NAME]).succeeded[NAME] if many else data.get(NAME)
    assert is_below(path, node)
    assert Path(path).read_bytes() == CONTENT
    assert not left


def test_an_error_of_the_slower_cache_is_not_the_nodes(data, project, node, monkeypatch):
    from pkgdata.core.download import Downloads

    def fails(*_, **__):
        raise CacheError("no space in the user's cache")

    monkeypatch.setattr(Downloads, "bring_home", fails)
    with pytest.raises(CacheError, match="the user's cache"):
        data.get(NAME)
    assert not node_module._failed & {str(node)}


def test_wrong_bytes_of_the_origin_reach_neither_cache(data, project, node):
    put(project / "origin", NAME, CONTENT.upper())
    with pytest.raises((IntegrityError, pkgdata.PkgdataError)):
        data.get(NAME)
    assert not list(upkeep.items(data.node_cache))
    assert not list(upkeep.items(data.cache))


def test_a_hit_neither_writes_nor_locks(data, node):
    from looking import snapshot

    data.get(NAME)
    before = snapshot(node)
    assert is_below(pkgdata.declare("lookpkg").get(NAME), node)
    assert snapshot(node) == before


@posix
def test_links_in_a_circle_are_no_node_cache(tmp_path, monkeypatch):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    monkeypatch.setenv("PKGDATA_NODE_CACHE", str(tmp_path / "one"))
    with pytest.warns(CacheWarning, match="in a circle"):
        assert pkgdata.declare("circle", registry={}).node_cache is None
