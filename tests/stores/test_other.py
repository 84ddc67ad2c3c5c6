"""The file systems of fsspec: two that need no server, one that fails on purpose."""

from __future__ import annotations

import io
import os
import pickle
import sys

import pytest

from pkgdata.errors import (
    AccessDeniedError,
    ConfigError,
    IncompleteTransferError,
    MissingExtraError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
)
from pkgdata.stores import Store
from pkgdata.stores.other import FsspecStore

registry = pytest.importorskip("fsspec.registry")
memory_files = pytest.importorskip("fsspec.implementations.memory")
from fsspec.implementations.local import LocalFileSystem  # noqa: E402

CONTENT = bytes(range(256)) * 100
LARGE = CONTENT * 340


@pytest.fixture(params=["memory", "local"])
def store(request, tmp_path):
    if request.param == "local":
        yield Store(f"local://{tmp_path}/folder")
        return
    yield Store(f"memory://{tmp_path}/folder")
    memory_files.MemoryFileSystem.store.clear()
    memory_files.MemoryFileSystem.pseudo_dirs[:] = [""]


def test_it_is_used_for_what_we_have_no_driver_for(store):
    assert isinstance(store, FsspecStore)
    assert store.url in repr(store)


def test_reading_and_writing(store):
    store.put([("a b%.txt", CONTENT), ("d/e/ü", b""), ("d/large", io.BytesIO(LARGE))])
    assert list(store) == ["a b%.txt", "d/e/ü", "d/large"]
    assert list(store.list(flat=True)) == ["a b%.txt", "d/"]
    assert list(store.list("d/", flat=True)) == ["d/e/", "d/large"]
    assert list(store.list("d/l")) == ["d/large"]
    assert list(store.list("nothing/")) == []
    assert (store["a b%.txt"], store["d/e/ü"], store["d/large"]) == (CONTENT, b"", LARGE)
    assert store["d/large", 1000:2000] == LARGE[1000:2000]
    assert store.get("d/large", start=-7) == LARGE[-7:]
    assert b"".join(map(bytes, store.blocks("d/large"))) == LARGE
    assert store.size(["d/large", "missing"]) == {"d/large": len(LARGE), "missing": None}
    assert store.du("d/") == (2, len(LARGE))
    store.delete(["a b%.txt", "missing"])
    store.delete(prefix="d/")
    assert list(store) == []


def test_missing_objects(store):
    store.put("d/a", CONTENT)
    for name in ("missing", "d", "d/a/below", "no/folder"):
        for ask in (store.open, store.stat, store.get):
            with pytest.raises(ObjectNotFoundError) as caught:
                ask(name)
            assert caught.value.url == store.address(name)


def test_if_absent(store):
    for content in (b"1", LARGE):
        store.put("a", io.BytesIO(content), if_absent=True)
        with pytest.raises(ObjectExistsError):
            store.put("a", io.BytesIO(content), if_absent=True)
        store.delete("a")


def test_transfers(store, tmp_path):
    store.put([("a", CONTENT), ("d/b", LARGE)])
    other = Store(f"mem://{tmp_path}/other")
    store.transfer_to(other)
    assert {r.name: r.content for r in other.get(other.list())} == {"a": CONTENT, "d/b": LARGE}
    other.put("c", b"3", compress="gzip")
    store.transfer_from(other, ["c"], reencode="none")
    store.copy("a", "a2")
    store.move("d/b", "moved")
    assert list(store) == ["a", "a2", "c", "moved"]
    assert (store["a2"], store["c"], store["moved"]) == (CONTENT, b"3", LARGE)


def test_changed_object_is_not_read_on(store):
    store.put("a", CONTENT)
    info = store.stat("a")
    store.put("a", CONTENT + b"more")
    with store.open("a", 100, info.validator) as body:
        assert body.start == (0 if info.validator else 100)


def test_pickled(store):
    store.put("a", CONTENT)
    assert pickle.loads(pickle.dumps(store))["a"] == CONTENT


def test_objects_are_written_aside(store, monkeypatch):
    """No part of an object is ever seen under its name, nor listed while it is written."""
    seen = []

    def blocks():
        yield LARGE
        seen.append((list(store), store.exists("a")))
        yield b"end"

    store.write_blocks("a", blocks())
    assert seen == [([], False)]
    assert store.size("a") == len(LARGE) + 3


class Failing(LocalFileSystem):
    """Fails as it is told to."""

    protocol = "failing"
    cachable = False
    error: Exception = OSError("never set")
    where = ""

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).removeprefix("failing://"))  # old fsspec keeps it

    def _fail(self, where):
        if type(self).where == where:
            raise type(self).error

    def _open(self, path, mode="rb", **options):
        self._fail("open")
        file = super()._open(path, mode=mode, **options)
        if type(self).where == "read":
            file.read = lambda count=-1: self._fail("read")
        if type(self).where == "write" and "w" in mode:
            file.write = lambda data: self._fail("write")
        return file

    def info(self, path, **options):
        self._fail("info")
        return super().info(path, **options)

    def ls(self, path, detail=False, **options):
        self._fail("ls")
        return super().ls(path, detail, **options)

    def rm_file(self, path):
        self._fail("rm")
        super().rm_file(path)

    def mv(self, path1, path2, **options):
        self._fail("mv")
        super().mv(path1, path2, **options)


@pytest.fixture
def failing(tmp_path, monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    monkeypatch.setitem(registry._registry, "failing", Failing)
    store = Store(f"failing://{tmp_path}/folder")
    store.put("a", CONTENT)

    def fail(where, error):
        monkeypatch.setattr(Failing, "where", where)
        monkeypatch.setattr(Failing, "error", error)

    store.fail = fail
    return store


@pytest.mark.parametrize(
    ("error", "kind", "transient"),
    [
        (PermissionError("no"), AccessDeniedError, False),
        (FileNotFoundError("no"), ObjectNotFoundError, False),
        (TimeoutError("slow"), StoreError, True),
        (OSError("broken"), StoreError, True),
        (RuntimeError("odd\nand more lines"), StoreError, False),
        (KeyError("odd"), StoreError, False),
    ],
)
@pytest.mark.parametrize("where", ["info", "open", "ls", "rm", "write", "mv"])
def test_errors_become_ours(failing, error, kind, transient, where):
    failing.fail(where, error)
    act = {
        "info": lambda: failing.stat("a"),
        "open": lambda: failing.get("a"),
        "ls": lambda: list(failing.list()),
        "rm": lambda: failing.delete("a"),
        "write": lambda: failing.put("a", b"new"),
        "mv": lambda: failing.put("a", b"new"),
    }[where]
    if isinstance(error, FileNotFoundError) and where in ("ls", "rm"):
        act()  # nothing is there: nothing to list or to remove
    else:
        with pytest.raises(kind) as caught:
            act()
        assert type(caught.value) is kind
        assert caught.value.transient == transient
        assert failing.url in str(caught.value)
        assert "more lines" not in str(caught.value)
    failing.fail("", error)
    assert failing["a"] == CONTENT


def test_read_that_breaks_is_reported(failing):
    failing.fail("read", OSError("gone"))
    with pytest.raises(IncompleteTransferError, match="reading broke off: OSError"):
        failing.get("a")


def test_nothing_is_left_of_a_write_that_fails(failing, tmp_path):
    for where in ("write", "mv"):
        failing.fail(where, OSError("full"))
        with pytest.raises(StoreError, match="full"):
            failing.put("b", CONTENT)
        assert os.listdir(tmp_path / "folder") == ["a"]


def test_secrets_are_the_options_of_the_file_system(tmp_path):
    store = Store(f"local://{tmp_path}", secrets={"auto_mkdir": True})
    assert store._files.auto_mkdir
    assert Store(f"local://{tmp_path}", secrets=lambda: {"auto_mkdir": True})._files.auto_mkdir
    with pytest.raises(ConfigError, match="mapping"):
        Store(f"local://{tmp_path}", secrets=5)


def test_options_that_a_file_system_refuses(monkeypatch):
    def refuse(self, *args, **options):
        raise ValueError("Unknown option")

    monkeypatch.setattr(Failing, "__init__", refuse)
    monkeypatch.setitem(registry._registry, "failing", Failing)
    with pytest.raises(ConfigError, match="Unknown option") as caught:
        Store("failing://u:sesame@h/x", secrets={"password": "sesame"})
    assert "sesame" not in str(caught.value)


def test_missing_fsspec(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.registry", None)
    with pytest.raises(ConfigError, match="unknown scheme 'smb'") as caught:
        Store("smb://h/x")
    assert "pip install fsspec" in caught.value.hint


def test_missing_package_of_a_file_system(monkeypatch):
    monkeypatch.setitem(sys.modules, "smbclient", None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.smb", raising=False)
    with pytest.raises(MissingExtraError, match="smbprotocol") as caught:
        Store("smb://u:sesame@h/x")
    assert "sesame" not in str(caught.value)
    assert caught.value.hint == "pip install 'fsspec[smb]'"
