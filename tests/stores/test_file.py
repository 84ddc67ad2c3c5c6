"""Folders as stores: modes, times and names of the files that are made."""

from __future__ import annotations

import os
import stat

import pytest

from pkgdata.stores import Store
from pkgdata.stores.objects import WHOLE

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
LARGE = bytes(WHOLE + 1)
OLD = 1_234_567_890_123_456_789


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request):
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


@pytest.fixture
def shared(tmp_path):
    """A folder that everybody may write to, as /tmp."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def put(store, source):
    store.put("a/b/x", source.read_bytes())


def copy(store, source):
    Store(str(source.parent)).copy(source.name, "a/b/x", store)


def transfer(store, source):
    Store(str(source.parent)).transfer_to(store, [(source.name, "a/b/x")])


def transfer_recoded(store, source):
    Store(str(source.parent)).transfer_to(store, [(source.name, "a/b/x")], reencode="gzip")


@POSIX
@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("write", [put, copy, transfer, transfer_recoded])
def test_the_umask_decides_who_may_read_and_write_new_files(
    write, content, umask, shared, tmp_path
):
    source = tmp_path / "x"
    source.write_bytes(content)
    source.chmod(0o666)

    write(Store(str(shared)), source)

    (made,) = (shared / "a/b").iterdir()
    assert mode(made) == 0o666 & ~umask
    assert mode(shared / "a") == mode(shared / "a/b") == 0o777 & ~umask


@POSIX
@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("before", [0o755, 0o600, 0o555, 0o4711])
def test_a_copy_is_as_executable_and_as_private_as_its_original(
    content, before, umask, shared, tmp_path
):
    source = tmp_path / "run"
    source.write_bytes(content)
    source.chmod(before)

    Store(str(tmp_path)).copy("run", "a/run", Store(str(shared)))

    assert mode(shared / "a/run") == (before & 0o777 | 0o600) & ~umask


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_a_copy_has_the_time_of_its_original(content, tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, ns=(OLD, OLD))
    store, to = Store(str(tmp_path)), Store(str(tmp_path / "to"))

    store.copy("x", "x", to)
    store.transfer_to(to, ["y"], reencode="gzip")
    to.move("x", "moved")

    before = store.info("x").modified
    assert before == to.info("moved").modified == to.info("y").modified


def test_a_file_that_came_from_a_store_has_the_time_of_the_object(tmp_path):
    store = Store("mem://times-of-files")
    store["a"] = b"bytes"
    to = Store(str(tmp_path))

    store.copy("a", "a", to)

    assert to.info("a").modified == store.info("a").modified
