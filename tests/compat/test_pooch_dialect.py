"""Code written for pooch runs on `pkgdata.compat.pooch`, in the same places and with its words."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import inspect
import io
import json
import logging
import lzma
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pooch as theirs
import pytest
import requests
from faults import FaultServer, cut, forever, lfs_pointer, other_bytes, page, stall, status

import pkgdata
import pkgdata.compat.pooch as pooch
from pkgdata.base import hashes
from pkgdata.cache import stamps
from pkgdata.compat.pooch import place
from pkgdata.migrate import migrate_pooch

TEXT = b"# data\n1 2 3\n"
BINARY = bytes(range(256)) * 1200


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


MEMBERS = {"top/a.txt": TEXT, "top/sub/b.bin": BINARY, "top/sub/c.txt": b"c", "d.txt": b"d"}
CONTENTS = {
    "a.txt": TEXT,
    "sub/dir/b.bin": BINARY,
    "pack.zip": zipped(MEMBERS),
    "pack.tar.gz": tarred(MEMBERS),
    "a.txt.gz": gzip.compress(TEXT),
    "a.txt.xz": lzma.compress(TEXT),
    "a.txt.bz2": bz2.compress(TEXT),
}
REGISTRY = {name: sha(content) for name, content in CONTENTS.items()}


@pytest.fixture
def server():
    with FaultServer(dict(CONTENTS)) as server:
        yield server


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def pup(server, store):
    return pooch.create(path=store, base_url=server.url, registry=dict(REGISTRY))


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Let pooch's logger write to standard error as it is during this test."""
    for handler in pooch.get_logger().handlers:
        monkeypatch.setattr(handler, "stream", sys.stderr)


@pytest.fixture
def log():
    """Collect what is logged, as pooch's users do it."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    pooch.get_logger().addHandler(handler)
    yield records
    pooch.get_logger().removeHandler(handler)


@pytest.fixture
def naps(monkeypatch):
    """Do not wait between attempts; collect how long it would have been."""
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def new_process():
    """Forget what a process remembers of the disk."""
    place._stamps.clear()


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def no_hashing(monkeypatch):
    def hash_file(*_):
        raise AssertionError("the file was hashed again")

    monkeypatch.setattr(hashes, "hash_file", hash_file)
    monkeypatch.setattr(stamps.hashes, "hash_file", hash_file)


# -- names -------------------------------------------------------------------------------------


def test_all_public_names_of_pooch_are_here():
    names = {name for name in vars(theirs) if not name.startswith("_")} - {"test", "typing"}
    assert names <= set(dir(pooch))
    for name in names:
        assert getattr(pooch, name) is not None
    assert pooch.__version__ == theirs.__version__
    assert pooch.core.Pooch is pooch.Pooch


def test_a_star_import_gives_the_public_names():
    names = {}
    exec("from pkgdata.compat.pooch import *", names)
    assert names["Unzip"] is theirs.Unzip
    assert names["Pooch"] is pooch.Pooch


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="has no attribute 'fetch_all'"):
        _ = pooch.fetch_all


@pytest.mark.parametrize(
    "name",
    [
        "create",
        "retrieve",
        "os_cache",
        "check_version",
        "file_hash",
        "make_registry",
        "Pooch",
        "Pooch.fetch",
        "Pooch.get_url",
        "Pooch.load_registry",
        "Pooch.load_registry_from_doi",
        "Pooch.is_available",
    ],
)
def test_signatures_are_those_of_pooch(name):
    ours, original = pooch, theirs
    for part in name.split("."):
        ours, original = getattr(ours, part), getattr(original, part)

    def known(function):
        return [
            (p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()
        ]

    assert known(ours) == known(original)


def test_what_is_pooch_s_own_is_the_same_object():
    for name in ("HTTPDownloader", "FTPDownloader", "SFTPDownloader", "DOIDownloader", "Unzip"):
        assert getattr(pooch, name) is getattr(theirs, name)
    assert pooch.get_logger() is theirs.get_logger()


# -- fetch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "sub/dir/b.bin"])
def test_a_file_is_downloaded_to_its_place(pup, server, store, name):
    path = pup.fetch(name)
    assert path == str(store.joinpath(*name.split("/")))
    assert Path(path).read_bytes() == CONTENTS[name]
    assert [request.path for request in server.requests] == [name]
    assert files_below(store) == {name}  # no lock, no stamp, nothing unfinished


def test_nothing_is_touched_before_a_file_is_asked_for(pup, store):
    assert not store.exists()
    assert pup.registry_files == list(REGISTRY)
    assert pup.abspath == store
    with pytest.raises(ValueError, match=r"File 'b\.txt' is not in the registry\."):
        pup.fetch("b.txt")
    with pytest.raises(ValueError, match="not in the registry"):
        pup.get_url("b.txt")
    assert not store.exists()


def test_the_log_reads_like_pooch_s(server, store, log):
    for module in (theirs, pooch):
        shutil.rmtree(store, ignore_errors=True)
        pup = module.create(path=store, base_url=server.url, registry=REGISTRY)
        pup.fetch("a.txt")
        (store / "a.txt").write_bytes(b"changed")
        pup.fetch("a.txt")
        pup.fetch("a.txt")
        module.retrieve(server.url + "a.txt", path=store)
        module.retrieve(server.url + "a.txt", path=store)
        module.retrieve(server.url + "a.txt", known_hash=REGISTRY["a.txt"], path=store)
        pup.fetch("a.txt.gz", processor=module.Decompress())
        pup.fetch("pack.zip", processor=module.Unzip())
        pup.fetch("pack.zip", processor=module.Unzip(members=["d.txt"], extract_dir="here"))
        pup.fetch("pack.tar.gz", processor=module.Untar())
        pup.fetch("pack.tar.gz", processor=module.Untar())
    assert log[: len(log) // 2] == log[len(log) // 2 :]
    assert log[0] == f"Downloading file 'a.txt' from '{server.url}a.txt' to '{store}'."
    assert log[1].startswith("Updating file 'a.txt'")


def test_a_hit_makes_no_request_and_hashes_nothing(pup, server, store, monkeypatch):
    path = pup.fetch("sub/dir/b.bin")
    count = len(server.requests)
    no_hashing(monkeypatch)
    assert pup.fetch("sub/dir/b.bin") == path
    new_process()  # the stamp on disk tells the next one
    other = pooch.create(path=store, base_url=server.url, registry=REGISTRY)
    assert other.fetch("sub/dir/b.bin") == other.fetch("sub/dir/b.bin") == path
    assert len(server.requests) == count


def test_a_hit_loads_neither_pooch_nor_requests(pup, store):
    pup.fetch("a.txt")
    code = (
        "import sys, pkgdata.compat.pooch as pooch\n"
        f"p = pooch.create({str(store)!r}, 'https://h/', registry={{'a.txt': {sha(TEXT)!r}}})\n"
        "assert p.fetch('a.txt') == p.fetch('a.txt')\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=child_env()
    )
    assert not set(done.stdout.split()) & {"pooch", "requests", "urllib3", "tqdm", "filelock"}


def child_env(**more: str) -> dict[str, str]:
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    return {**os.environ, "PYTHONPATH": checkout, **more}


@pytest.mark.parametrize("remembered", [True, False], ids=["same process", "next process"])
@pytest.mark.parametrize("damage", ["longer", "same length", "replaced"])
def test_a_damaged_file_is_fetched_again(pup, server, store, log, damage, remembered):
    path = Path(pup.fetch("a.txt"))
    before = path.stat()
    wrong = TEXT + b"!" if damage == "longer" else TEXT.upper()
    if damage == "replaced":
        aside = path.with_name("aside")
        aside.write_bytes(wrong)
        os.utime(aside, ns=(before.st_atime_ns, before.st_mtime_ns))
        aside.replace(path)  # the same size and time; the inode tells
    else:
        path.write_bytes(wrong)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    if not remembered:
        new_process()
        pup = pooch.create(path=store, base_url=server.url, registry=REGISTRY)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    assert len(server.requests) == 2
    assert log[-1].startswith("Updating")


def test_a_touched_file_is_hashed_and_kept(pup, server):
    path = pup.fetch("a.txt")
    os.utime(path, (1, 1))
    assert pup.fetch("a.txt") == path
    assert len(server.requests) == 1


def test_who_does_not_trust_stamps_hashes_at_each_call(pup, server, monkeypatch):
    path = Path(pup.fetch("a.txt"))
    before = path.stat()
    monkeypatch.setenv("PKGDATA_VERIFY", "always")
    path.write_bytes(TEXT.upper())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    pup.fetch("a.txt")
    assert path.read_bytes() == TEXT
    assert len(server.requests) == 2


def test_a_name_that_left_the_registry_is_none(server, store):
    pup = pooch.create(store, server.url, registry={"a.txt": None})
    assert pup.fetch("a.txt") == pup.fetch("a.txt")
    del pup.registry["a.txt"]
    with pytest.raises(ValueError, match="not in the registry"):
        pup.fetch("a.txt")


def test_a_changed_registry_or_path_is_noticed_at_once(pup, server, store, tmp_path):
    pup.fetch("a.txt")
    server.contents["a.txt"] = b"second edition"
    pup.registry["a.txt"] = sha(b"second edition")
    assert Path(pup.fetch("a.txt")).read_bytes() == b"second edition"
    pup.path = tmp_path / "elsewhere"
    assert pup.fetch("a.txt") == str(tmp_path / "elsewhere" / "a.txt")
    assert len(server.requests) == 3


def test_a_relative_path_follows_the_working_directory(server, tmp_path, monkeypatch):
    pup = pooch.Pooch("rel", server.url, registry=REGISTRY)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert pup.fetch("a.txt") == pup.fetch("a.txt") == str(tmp_path / name / "rel" / "a.txt")


def test_updates_may_be_forbidden(server, store, monkeypatch):
    store.mkdir()
    (store / "a.txt").write_bytes(b"older")
    monkeypatch.setenv("MY_UPDATES", "False")
    for allowed in (False, "MY_UPDATES"):
        pup = pooch.create(store, server.url, registry=REGISTRY, allow_updates=allowed)
        with pytest.raises(ValueError, match=r"a\.txt needs to update .* updates are disallowed"):
            pup.fetch("a.txt")
    assert (store / "a.txt").read_bytes() == b"older"
    assert pooch.create(store, server.url, registry=REGISTRY, allow_updates="UNSET").allow_updates
    assert not server.requests


@pytest.mark.parametrize("wrong", ["0" * 64, "md5:" + "0" * 32, "notahash", "sha1:zz"])
def test_wrong_bytes_are_pooch_s_error_and_ours(server, store, wrong):
    messages = []
    for module in (theirs, pooch):
        pup = module.create(store, server.url, registry={"a.txt": wrong})
        with pytest.raises(ValueError) as caught:
            pup.fetch("a.txt")
        messages.append(caught.value.args[0])
    assert messages[0] == messages[1]
    assert isinstance(caught.value, pkgdata.IntegrityError)
    assert files_below(store) == set()
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_wrong_bytes_leave_the_file_that_is_there(server, store):
    store.mkdir()
    (store / "a.txt").write_bytes(b"older")
    pup = pooch.create(store, server.url, registry={"a.txt": "0" * 64})
    with pytest.raises(ValueError, match="does not match"):
        pup.fetch("a.txt")
    assert (store / "a.txt").read_bytes() == b"older"


def test_an_unknown_algorithm_is_named(server, store):
    pup = pooch.create(store, server.url, registry={"a.txt": "blah:1234"})
    with pytest.raises(ValueError, match="'blah'"):
        pup.fetch("a.txt")


@pytest.mark.parametrize("alg", ["md5", "sha1", "sha512", "blake2b", "xxh64", "SHA256"])
def test_algorithms(server, store, alg):
    digest = theirs.file_hash(_file(store / "x", TEXT), alg.lower())
    pup = pooch.create(store, server.url, registry={"a.txt": f"{alg}:{digest.upper()}"})
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    pup.fetch("a.txt")
    assert len(server.requests) == 1


def _file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_without_a_hash_is_kept_as_it_is(server, store):
    pup = pooch.create(store, server.url, registry={"a.txt": None})
    path = Path(pup.fetch("a.txt"))
    path.write_bytes(b"changed")
    assert pup.fetch("a.txt") == str(path)
    assert path.read_bytes() == b"changed"
    assert len(server.requests) == 1


@pytest.mark.parametrize(("fault", "words"), [(page, "an HTML page"), (lfs_pointer, "Git LFS")])
def test_a_page_is_not_taken_for_a_file_without_a_hash(server, store, fault, words):
    server.script("a.txt", fault())
    pup = pooch.create(store, server.url, registry={"a.txt": None})
    with pytest.raises(requests.exceptions.RequestException, match=words):
        pup.fetch("a.txt")
    assert files_below(store) == set()


@pytest.mark.parametrize("name", ["../a.txt", "/etc/a.txt", "b/../../a.txt"])
def test_a_name_that_leaves_the_storage_is_refused(server, store, name):
    pup = pooch.create(store, server.url, registry={name: sha(TEXT)})
    with pytest.raises(pkgdata.UnsafeNameError, match="it leaves"):
        pup.fetch(name)
    assert not server.requests


def test_a_directory_that_may_not_be_written_to(pup, store, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "makedirs", denied)
    with pytest.raises(PermissionError, match="Pooch could not create data cache folder"):
        pup.fetch("a.txt")


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX")
def test_a_group_shares_what_is_below_its_folder(pup, store):
    store.mkdir()
    store.chmod(0o2770)
    path = Path(pup.fetch("sub/dir/b.bin"))
    unpacked = Path(pup.fetch("pack.zip", processor=pooch.Unzip())[0])
    plain = Path(pup.fetch("a.txt.gz", processor=pooch.Decompress()))
    for file in (path, unpacked, plain):
        assert file.stat().st_mode & 0o7777 == 0o660
        assert file.parent.stat().st_mode & 0o7777 == 0o2770


def test_a_full_disk_is_an_error_of_the_system(pup, monkeypatch):
    monkeypatch.setattr("pkgdata.base.fs.free_bytes", lambda _: 3)
    with pytest.raises(OSError, match=r"no space for 'a\.txt'") as caught:
        pup.fetch("a.txt")
    assert caught.value.errno == 28
    assert "PKGDATA_CACHE_DIR" not in str(caught.value)


def test_a_user_cache_that_cannot_be_used_costs_no_more_than_time(
    server, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(_file(tmp_path / "in the way", b"")))
    pup = pooch.create(store, server.url, registry=REGISTRY)
    assert pup.fetch("a.txt", processor=lambda path, *_: path) == pup.fetch("a.txt")
    assert len(pup.fetch("pack.zip", processor=pooch.Unzip())) == 4
    assert len(server.requests) == 2


def test_a_pooch_can_be_sent_to_another_process(pup, server):
    path = pup.fetch("a.txt")
    copy = pickle.loads(pickle.dumps(pup))
    assert copy.fetch("a.txt") == path
    assert (copy.base_url, copy.registry, copy._known.keys()) == (
        pup.base_url,
        pup.registry,
        {"a.txt"},
    )
    assert len(server.requests) == 1


# -- sources -----------------------------------------------------------------------------------


def test_mirrors_are_tried_in_order(server, store):
    with FaultServer({}) as empty:
        bases = [empty.url, server.url]
        pup = pooch.create(store, bases, registry=REGISTRY)
        assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
        assert pup.base_url == bases
        assert pup.get_url("a.txt") == f"{empty.url}a.txt"
        assert len(empty.requests) == len(server.requests) == 1
        assert pup.is_available("a.txt")


def test_a_mirror_with_other_bytes_is_passed_over(server, store):
    with FaultServer({"a.txt": b"something else"}) as wrong:
        pup = pooch.create(store, [wrong.url, server.url], registry=REGISTRY)
        assert Path(pup.fetch("a.txt")).read_bytes() == TEXT


def test_versions_stand_in_every_mirror(server, store):
    server.contents["v1.2/a.txt"] = TEXT
    bases = ["http://127.0.0.1:9/{version}", server.url + "v{version}"]
    pup = pooch.create(store, bases, version="1.2", registry=REGISTRY)
    assert pup.base_url == ["http://127.0.0.1:9/1.2/", server.url + "v1.2/"]
    assert pup.fetch("a.txt") == str(store / "1.2" / "a.txt")


def test_a_file_s_own_url_replaces_the_base(server, store):
    urls = {"mine.txt": server.url + "a.txt"}
    pup = pooch.create(store, "http://127.0.0.1:9/", registry={"mine.txt": sha(TEXT)}, urls=urls)
    assert pup.get_url("mine.txt") == server.url + "a.txt"
    assert Path(pup.fetch("mine.txt")).read_bytes() == TEXT
    assert [request.path for request in server.requests] == ["a.txt"]


def test_a_derived_class_may_say_where_a_file_lies(server, store):
    class Mine(pooch.Pooch):
        def get_url(self, fname):
            return super().get_url(fname).replace("old.txt", "a.txt")

    pup = Mine(store, server.url, registry={"old.txt": sha(TEXT)})
    assert pup.is_available("old.txt")
    assert Path(pup.fetch("old.txt")).read_bytes() == TEXT
    assert {request.path for request in server.requests} == {"a.txt"}


def test_base_and_name_are_joined_as_texts(server, store):
    server.contents["get"] = TEXT
    pup = pooch.Pooch(store, server.url + "get?file=", registry={"a b.txt": sha(TEXT)})
    pup.fetch("a b.txt")
    assert [request.target for request in server.requests] == ["/get?file=a%20b.txt"]


def test_the_site_s_rules_hold(server, store, monkeypatch):
    monkeypatch.setenv("PKGDATA_REWRITE", f"https://data.example.org/={server.url}")
    pup = pooch.create(store, "https://data.example.org/", registry=REGISTRY)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT


def test_file_urls_serve(store, tmp_path):
    _file(tmp_path / "origin" / "a b.txt", TEXT)
    base = (tmp_path / "origin").as_uri() + "/"
    pup = pooch.create(store, base, registry={"a b.txt": sha(TEXT)})
    assert Path(pup.fetch("a b.txt")).read_bytes() == TEXT


def test_configured_folders_serve_also_offline(server, store, tmp_path, monkeypatch):
    _file(tmp_path / "site" / "store" / "a.txt", TEXT)
    monkeypatch.setenv("PKGDATA_FOLDERS", str(tmp_path / "site"))
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    pup = pooch.create(store, server.url, version="1.0", registry=REGISTRY)
    assert pup.fetch("a.txt") == str(store / "1.0" / "a.txt")
    with pytest.raises(pkgdata.OfflineError) as caught:
        pup.fetch("pack.zip")
    assert isinstance(caught.value, requests.exceptions.ConnectionError)
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), pkgdata.OfflineError)
    with pytest.raises(pkgdata.OfflineError):
        pup.is_available("pack.zip")
    assert not server.requests


def test_a_wrong_file_in_a_configured_folder_is_passed_over(server, store, tmp_path, monkeypatch):
    _file(tmp_path / "site" / "store" / "a.txt", b"older")
    monkeypatch.setenv("PKGDATA_FOLDERS", str(tmp_path / "site"))
    pup = pooch.create(store, server.url, registry=REGISTRY)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("some bogus URL ", "Unrecognized URL protocol"),
        ("httpup://example.org/", "unknown scheme 'httpup'"),
        ("doi://10.5281/zenodo.1/", "You must not use '//'"),
    ],
)
def test_what_is_no_url_is_a_value_error(store, base, words):
    pup = pooch.Pooch(store, base, registry=REGISTRY)
    with pytest.raises(ValueError, match=words):
        pup.fetch("a.txt")


# -- errors of the network ---------------------------------------------------------------------


@pytest.mark.parametrize("code", [404, 403, 500, 503])
def test_a_status_is_an_http_error(pup, server, code):
    server.script("a.txt", status(code))
    with pytest.raises(requests.exceptions.HTTPError, match=str(code)) as caught:
        pup.fetch("a.txt")
    assert caught.value.response.status_code == code
    assert isinstance(caught.value, pkgdata.AllMirrorsFailedError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert again.response.status_code == code
    assert len(server.requests) == 1  # once, as in pooch


def test_no_server_is_a_connection_error(store):
    with FaultServer({}) as gone:
        pass
    pup = pooch.create(store, gone.url, registry=REGISTRY)
    for action in (pup.fetch, pup.is_available):
        with pytest.raises(requests.exceptions.ConnectionError) as caught:
            action("a.txt")
        assert isinstance(caught.value, ConnectionError)
        assert isinstance(caught.value, pkgdata.AllMirrorsFailedError)


def test_silence_is_a_timeout(pup, server, monkeypatch):
    monkeypatch.setenv("PKGDATA_REMOTE_TIMEOUT", "0.2")
    server.script("a.txt", forever(stall(0)))
    with pytest.raises(requests.exceptions.RequestException):
        pup.fetch("a.txt")


def test_a_transfer_that_breaks_off_is_gone_on_with(pup, server):
    half = len(BINARY) // 2
    server.script("sub/dir/b.bin", cut(half))
    assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
    _, second = server.requests
    assert second.headers["range"] == f"bytes={half}-"


def test_a_stalled_transfer_is_cut_and_gone_on_with(pup, server, monkeypatch):
    half = len(BINARY) // 2
    monkeypatch.setenv("PKGDATA_REMOTE_TIMEOUT", "0.3")
    server.script("sub/dir/b.bin", stall(half))
    assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
    server.release()
    assert server.settled()[-1].headers["range"] == f"bytes={half}-"


def test_what_came_before_an_error_is_kept_for_the_next_call(pup, server, store):
    part = len(BINARY) // 8
    server.script("sub/dir/b.bin", cut(part))
    with pytest.raises(requests.exceptions.ConnectionError):
        pup.fetch("sub/dir/b.bin")
    assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
    assert server.requests[-1].headers["range"] == f"bytes={part}-"
    assert files_below(store) == {"sub/dir/b.bin"}


def test_retries_are_those_asked_for(server, store, log, naps):
    server.script("a.txt", status(404), other_bytes(), status(500), cut(1))
    pup = pooch.create(store, server.url, registry=REGISTRY, retry_if_failed=12)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    assert log[1] == "Failed to download 'a.txt'. Will attempt the download again 12 more times."
    assert naps == [1, 2, 3, 4]
    server.script("a.txt", forever(status(404)))
    pup.path = store / "other"
    with pytest.raises(requests.exceptions.HTTPError):
        pup.fetch("a.txt")
    assert naps[4:] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]
    assert log[-1] == "Failed to download 'a.txt'. Will attempt the download again 1 more time."


def test_the_setting_retries_adds_rounds(server, store, log, naps, monkeypatch):
    monkeypatch.setenv("PKGDATA_RETRIES", "2")
    server.script("a.txt", status(503), status(503))
    pup = pooch.create(store, server.url, registry=REGISTRY)
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    assert len(log) == 1


def test_is_available(pup, server):
    assert pup.is_available("a.txt") is True
    del server.contents["a.txt"]
    assert pup.is_available("a.txt") is False
    assert {request.method for request in server.requests} == {"HEAD"}
    with pytest.raises(ValueError, match="not in the registry"):
        pup.is_available("b.txt")
    asked = []
    assert pup.is_available("a.txt", lambda *args, check_only: asked.append(args) or True)
    assert asked == [(server.url + "a.txt", None, pup)]
    with pytest.raises(NotImplementedError, match="does not support availability checks"):
        pup.is_available("a.txt", lambda url, output_file, pooch: None)


# -- downloaders -------------------------------------------------------------------------------


def test_a_downloader_of_the_user(pup, server, store):
    calls = []

    def download(url, output_file, caller):
        calls.append((url, caller))
        assert os.path.dirname(output_file) == str(store)
        Path(output_file).write_bytes(TEXT)

    assert Path(pup.fetch("a.txt", downloader=download)).read_bytes() == TEXT
    pup.fetch("a.txt", downloader=download)
    assert calls == [(server.url + "a.txt", pup)]
    assert not server.requests
    assert files_below(store) == {"a.txt"}


def test_a_downloader_may_put_another_file_in_place(pup, tmp_path):
    def download(url, output_file, caller):
        os.replace(_file(tmp_path / "mine", TEXT), output_file)

    assert Path(pup.fetch("a.txt", downloader=download)).read_bytes() == TEXT


def test_a_downloader_that_fails_is_tried_again(server, store, log, naps):
    tries = iter([ValueError, requests.exceptions.Timeout, None, RuntimeError])

    def download(url, output_file, caller):
        with open(output_file, "ab") as file:
            file.write(TEXT)
        error = next(tries)
        if error:
            raise error("no luck")

    pup = pooch.create(store, server.url, registry=REGISTRY, retry_if_failed=2)
    assert Path(pup.fetch("a.txt", downloader=download)).read_bytes() == TEXT
    assert (len(log), naps) == (3, [1, 2])
    with pytest.raises(RuntimeError):
        pup.fetch("a.txt.gz", downloader=download)
    assert files_below(store) == {"a.txt"}


def test_a_downloader_with_wrong_bytes(pup, store):
    def download(url, output_file, caller):
        Path(output_file).write_bytes(b"wrong")

    with pytest.raises(ValueError, match=r"SHA256 hash of downloaded file \(b\.bin\)"):
        pup.fetch("sub/dir/b.bin", downloader=download)
    assert files_below(store) == set()


@pytest.mark.parametrize(
    "arguments",
    [{}, {"timeout": 5}, {"headers": {"User-Agent": "SciPy 1"}}, {"chunk_size": 7}],
    ids=str,
)
def test_pooch_s_http_downloader_is_carried_out_by_ours(pup, server, arguments):
    server.script("sub/dir/b.bin", cut(len(BINARY) // 2))
    downloader = pooch.HTTPDownloader(**arguments)
    assert Path(pup.fetch("sub/dir/b.bin", downloader=downloader)).read_bytes() == BINARY
    agents = {request.headers["user-agent"].split(" pkgdata/")[0] for request in server.requests}
    if "headers" in arguments:
        assert agents == {"SciPy 1"}
    assert all("pkgdata/" in request.headers["user-agent"] for request in server.requests)


@pytest.mark.parametrize(
    "arguments",
    [{"auth": ("me", "word")}, {"headers": {"X-Key": "1"}}, {"timeout": (1, 2)}],
    ids=str,
)
def test_with_other_arguments_it_is_pooch_s_own(pup, server, arguments):
    assert Path(pup.fetch("a.txt", downloader=pooch.HTTPDownloader(**arguments)))
    (request,) = server.requests
    assert "pkgdata/" not in request.headers["user-agent"]
    if "auth" in arguments:
        assert request.headers["authorization"].startswith("Basic ")


class Bar:
    """The least that pooch asks of a progress bar."""

    def __init__(self):
        self.total, self.count, self.calls = None, 0, []

    def update(self, count):
        self.count += count
        self.calls.append("update")

    def reset(self):
        self.count = 0
        self.calls.append("reset")

    def close(self):
        self.calls.append("close")


@pytest.mark.parametrize("through", ["fetch", "downloader"])
def test_a_progress_bar_of_the_user(pup, through):
    bar = Bar()
    if through == "fetch":
        pup.fetch("sub/dir/b.bin", progressbar=bar)
    else:
        pup.fetch("sub/dir/b.bin", downloader=pooch.HTTPDownloader(progressbar=bar))
    assert (bar.total, bar.count) == (len(BINARY), len(BINARY))
    assert bar.calls[-3:] == ["reset", "update", "close"]


def test_bars_are_drawn_when_asked_for_and_never_else(pup, capsys):
    pup.fetch("a.txt")
    assert "%" not in capsys.readouterr().err
    pup.fetch("sub/dir/b.bin", progressbar=True)
    assert "100%" in capsys.readouterr().err


class Repository:
    """What pooch makes of a DOI, without asking for it."""

    def __init__(self, server):
        self._server = server

    def download_url(self, file_name):
        return self._server.url + file_name

    def populate_registry(self, pup):
        pup.registry.update(REGISTRY)


def test_dois_are_resolved_by_pooch_and_fetched_by_ours(server, store, monkeypatch):
    asked: list[str] = []

    def find(doi, **kwargs):
        asked.append(doi)
        return Repository(server)

    monkeypatch.setattr("pooch.downloaders.doi_to_repository", find)
    pup = pooch.create(store, "doi:10.5281/zenodo.123/")
    pup.load_registry_from_doi()
    assert pup.registry == REGISTRY
    server.script("sub/dir/b.bin", cut(len(BINARY) // 2))
    for downloader in (None, pooch.DOIDownloader()):
        assert pup.fetch("sub/dir/b.bin", downloader=downloader)
        shutil.rmtree(store)
    assert asked == ["10.5281/zenodo.123/", "10.5281/zenodo.123", "10.5281/zenodo.123"]
    with pytest.raises(NotImplementedError):
        pup.is_available("a.txt")


def test_a_registry_comes_from_a_doi_alone(pup):
    with pytest.raises(ValueError, match="only implemented for DOIs"):
        pup.load_registry_from_doi()


# -- processors --------------------------------------------------------------------------------


def processors(module):
    return {
        "zip all": ("pack.zip", lambda: module.Unzip()),
        "zip one": ("pack.zip", lambda: module.Unzip(members=["top/a.txt"])),
        "zip dot": ("pack.zip", lambda: module.Unzip(members=["./top/a.txt"])),
        "zip folder": ("pack.zip", lambda: module.Unzip(members=["top/sub"])),
        "zip prefix": ("pack.zip", lambda: module.Unzip(members=["top/su"])),
        "zip two": ("pack.zip", lambda: module.Unzip(members=["d.txt", "top/sub"])),
        "zip none": ("pack.zip", lambda: module.Unzip(members=["no such"])),
        "zip empty": ("pack.zip", lambda: module.Unzip(members=[])),
        "zip into": ("pack.zip", lambda: module.Unzip(extract_dir="here")),
        "tar all": ("pack.tar.gz", lambda: module.Untar()),
        "tar folder": ("pack.tar.gz", lambda: module.Untar(members=["top/sub"])),
        "tar into": ("pack.tar.gz", lambda: module.Untar(extract_dir="deep/here")),
        "gz": ("a.txt.gz", lambda: module.Decompress()),
        "xz": ("a.txt.xz", lambda: module.Decompress(method="xz")),
        "bz2": ("a.txt.bz2", lambda: module.Decompress(method="bzip2", name="plain.txt")),
    }


@pytest.mark.parametrize("case", list(processors(pooch)))
def test_results_lie_where_pooch_puts_them(server, tmp_path, case):
    found = []
    for module, folder in ((theirs, tmp_path / "theirs"), (pooch, tmp_path / "ours")):
        name, make = processors(module)[case]
        pup = module.create(folder, server.url, registry=REGISTRY)
        for _ in range(2):
            result = pup.fetch(name, processor=make())
            paths = [result] if isinstance(result, str) else result
            here = {os.path.relpath(path, folder): Path(path).read_bytes() for path in paths}
            found.append((here, files_below(folder)))
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize("kind", ["Unzip", "Untar"])
def test_members_add_up(pup, store, kind):
    name = "pack.zip" if kind == "Unzip" else "pack.tar.gz"
    processor = getattr(pooch, kind)
    assert pup.fetch(name, processor=processor(members=["no such"])) == []
    assert len(pup.fetch(name, processor=processor(members=["d.txt"]))) == 1
    assert len(pup.fetch(name, processor=processor(members=["top/sub", "d.txt"]))) == 3
    assert len(pup.fetch(name, processor=processor())) == 4
    assert len(pup.fetch(name, processor=processor(members=["d.txt"]))) == 1


def test_a_complete_result_is_not_looked_up_in_the_archive(pup, server, monkeypatch):
    first = pup.fetch("pack.tar.gz", processor=pooch.Untar())
    new_process()
    monkeypatch.setattr(tarfile, "open", None)
    assert pup.fetch("pack.tar.gz", processor=pooch.Untar()) == first
    assert len(server.requests) == 1


def test_a_file_that_is_missing_is_unpacked_again(pup, store, log):
    paths = pup.fetch("pack.zip", processor=pooch.Unzip())
    os.remove(paths[0])
    assert pup.fetch("pack.zip", processor=pooch.Unzip()) == paths
    assert len(log) == 3
    (store / "pack.zip.unzip" / "more.txt").write_bytes(b"of the user")
    assert len(pup.fetch("pack.zip", processor=pooch.Unzip())) == 5
    assert len(log) == 3


def test_a_new_archive_is_unpacked_again(pup, server, store):
    pup.fetch("pack.zip", processor=pooch.Unzip())
    pup.fetch("a.txt.gz", processor=pooch.Decompress())
    server.contents["pack.zip"] = zipped({"d.txt": b"second"})
    server.contents["a.txt.gz"] = gzip.compress(b"second")
    for name in ("pack.zip", "a.txt.gz"):
        pup.registry[name] = sha(server.contents[name])
    pup.fetch("pack.zip", processor=pooch.Unzip())
    assert (store / "pack.zip.unzip" / "d.txt").read_bytes() == b"second"
    assert Path(pup.fetch("a.txt.gz", processor=pooch.Decompress())).read_bytes() == b"second"


def test_what_pooch_unpacked_is_taken_as_it_is(server, store, log):
    pup = theirs.create(store, server.url, registry=REGISTRY)
    before = pup.fetch("pack.zip", processor=theirs.Unzip())
    plain = pup.fetch("a.txt.gz", processor=theirs.Decompress())
    lines = len(log)
    ours = pooch.create(store, server.url, registry=REGISTRY)
    assert ours.fetch("pack.zip", processor=pooch.Unzip()) == before
    assert ours.fetch("a.txt.gz", processor=pooch.Decompress()) == plain
    assert len(log) == lines


def evil_zip(name: str) -> bytes:
    return zipped({name: b"evil"})


def evil_tar(name: str, **fields: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("Unzip", evil_zip("../../evil.txt")),
        ("Unzip", evil_zip("/evil.txt")),
        ("Untar", evil_tar("../evil.txt")),
        ("Untar", evil_tar("link", type=tarfile.SYMTYPE, linkname="/etc")),
        ("Untar", evil_tar("device", type=tarfile.CHRTYPE)),
        ("Unzip", b"no archive at all"),
    ],
)
def test_archives_that_leave_their_folder_are_refused(server, store, tmp_path, kind, content):
    server.contents["evil"] = content
    pup = pooch.create(store, server.url, registry={"evil": sha(content)})
    with pytest.raises(pkgdata.ExtractionError):
        pup.fetch("evil", processor=getattr(pooch, kind)())
    assert files_below(store) == {"evil"}
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("kind", ["Unzip", "Untar", "Decompress"])
def test_bombs_are_refused(server, store, kind, monkeypatch):
    monkeypatch.setattr("pkgdata.core.extract._ALWAYS_ALLOWED", 1000)
    monkeypatch.setenv("PKGDATA_EXTRACT_LIMIT", "10")
    zeros = bytes(1_000_000)
    content = {
        "Unzip": zipped({"zeros": zeros}),
        "Untar": tarred({"zeros": zeros}),
        "Decompress": gzip.compress(zeros),
    }[kind]
    server.contents["bomb.gz"] = content
    pup = pooch.create(store, server.url, registry={"bomb.gz": sha(content)})
    with pytest.raises(pkgdata.ExtractionError, match="grows past"):
        pup.fetch("bomb.gz", processor=getattr(pooch, kind)())
    assert files_below(store) == {"bomb.gz"}


def test_nothing_is_written_through_a_link(pup, store, tmp_path):
    """As an archive of evil that pooch itself unpacked may have left one."""
    (store / "pack.zip.unzip").mkdir(parents=True)
    (tmp_path / "victim").mkdir()
    (store / "pack.zip.unzip" / "top").symlink_to(tmp_path / "victim")
    with pytest.raises(pkgdata.ExtractionError, match="is a link"):
        pup.fetch("pack.zip", processor=pooch.Unzip())
    assert files_below(tmp_path / "victim") == set()


@pytest.mark.parametrize("method", ["auto", "bla", "zip"])
def test_methods_that_do_not_fit_have_pooch_s_words(pup, method):
    with pytest.raises(ValueError) as ours:
        pup.fetch("a.txt", processor=pooch.Decompress(method=method))
    with pytest.raises(ValueError) as original:
        theirs.Decompress(method=method)(pup.fetch("a.txt"), "download", None)
    assert ours.value.args == original.value.args


def test_a_processor_of_the_user(pup, store):
    calls = []

    def process(fname, action, caller):
        calls.append((fname, action, caller))
        return len(calls)

    assert pup.fetch("a.txt", processor=process) == 1
    assert pup.fetch("a.txt", processor=process) == 2
    (store / "a.txt").write_bytes(b"changed")
    pup.fetch("a.txt", processor=process)
    path = str(store / "a.txt")
    assert calls == [(path, "download", pup), (path, "fetch", pup), (path, "update", pup)]


def test_a_class_derived_from_pooch_s_runs_its_own_code(pup, store):
    class Mine(pooch.Unzip):
        suffix = ".mine"

    paths = pup.fetch("pack.zip", processor=Mine())
    assert {os.path.relpath(path, store) for path in paths} == {
        f"pack.zip.mine/{name}" for name in MEMBERS
    }


# -- retrieve ----------------------------------------------------------------------------------


def test_retrieve_names_files_as_pooch_does(server, store):
    for url in (
        f"{server.url}a.txt",
        f"{server.url}sub/dir/b.bin?version=1#part",
        f"{server.url}a.txt?{'x' * 300}",
    ):
        original = theirs.retrieve(url, known_hash=None, path=store / "theirs")
        ours = pooch.retrieve(url, known_hash=None, path=store / "ours")
        assert os.path.relpath(ours, store / "ours") == os.path.relpath(original, store / "theirs")
        assert Path(ours).read_bytes() == Path(original).read_bytes()


@pytest.mark.parametrize(
    "url",
    [
        "https://www.example.org/2020/data.txt.gz",
        f"https://www.example.org/{'a' * 500}.txt",
        "https://www.example.org",
        "doi:10.5281/zenodo.4924875/tiny-data.txt",
        "doi:10.6084/m9.figshare.14763051.v1/tiny-data.txt",
        "ftp://example.org/a b.txt",
    ],
)
def test_unique_names_are_pooch_s(url):
    from pkgdata.compat.pooch.utils import unique_name

    assert unique_name(url) == theirs.utils.unique_file_name(url)


def test_retrieve_to_the_default_place(server):
    path = pooch.retrieve(server.url + "a.txt", sha(TEXT), fname="a.txt")
    assert path == str(theirs.os_cache("pooch").resolve() / "a.txt")


def test_retrieve_checks_keeps_and_processes(server, store, log, monkeypatch):
    url = server.url + "pack.zip"
    path = pooch.retrieve(url, sha(CONTENTS["pack.zip"]), path=store, fname="p.zip")
    assert path == str(store / "p.zip")
    no_hashing(monkeypatch)
    new_process()
    assert pooch.retrieve(url, sha(CONTENTS["pack.zip"]), path=str(store), fname="p.zip") == path
    monkeypatch.undo()
    assert len(server.requests) == 1
    found = pooch.retrieve(
        url, sha(CONTENTS["pack.zip"]), path=store, fname="p.zip", processor=pooch.Unzip(["d.txt"])
    )
    assert found == [str(store / "p.zip.unzip" / "d.txt")]
    with pytest.raises(ValueError, match="does not match the known hash"):
        pooch.retrieve(url, "0" * 64, path=store, fname="p.zip")
    assert log[-1] == f"Updating data from '{url}' to file '{path}'."


def test_retrieve_takes_mirrors(server, store):
    urls = ["http://127.0.0.1:9/a.txt", server.url + "a.txt"]
    assert Path(pooch.retrieve(urls, sha(TEXT), path=store)).read_bytes() == TEXT


def test_secrets_are_not_logged(server, store, log):
    url = f"{server.url}a.txt?token=secret"
    pooch.retrieve(url, sha(TEXT), path=store, fname="a.txt")
    assert log == [
        f"Downloading data from '{server.url}a.txt?token=***' to file '{store / 'a.txt'}'."
    ]


# -- interchange with the real pooch -----------------------------------------------------------


def test_what_pooch_has_downloaded_is_read_without_a_request(server, store):
    original = theirs.create(store, server.url, version="1.0", registry=REGISTRY)
    paths = [original.fetch(name) for name in REGISTRY]
    single = theirs.retrieve(server.url + "a.txt", known_hash=sha(TEXT), path=store)
    count = len(server.requests)
    ours = pooch.create(store, server.url, version="1.0", registry=REGISTRY)
    assert [ours.fetch(name) for name in REGISTRY] == paths
    assert pooch.retrieve(server.url + "a.txt", known_hash=sha(TEXT), path=store) == single
    assert len(server.requests) == count


def test_what_we_have_downloaded_is_read_by_pooch_without_a_request(pup, server, store):
    paths = [pup.fetch(name) for name in REGISTRY]
    single = pooch.retrieve(server.url + "a.txt", known_hash=sha(TEXT), path=store)
    pup.fetch("pack.zip", processor=pooch.Unzip())
    count = len(server.requests)
    original = theirs.create(store, server.url, registry=REGISTRY)
    assert [original.fetch(name) for name in REGISTRY] == paths
    assert theirs.retrieve(server.url + "a.txt", known_hash=sha(TEXT), path=store) == single
    assert len(original.fetch("pack.zip", processor=theirs.Unzip())) == 4
    assert len(server.requests) == count


def test_either_repairs_what_the_other_one_s_file_became(pup, server, store):
    original = theirs.create(store, server.url, registry=REGISTRY)
    for first, second in ((pup, original), (original, pup)):
        path = Path(first.fetch("a.txt"))
        path.write_bytes(b"damaged")
        second.fetch("a.txt")
        assert path.read_bytes() == TEXT


# -- many threads and processes ----------------------------------------------------------------


def test_many_threads_download_once(pup, server, store):
    found, paths = [], []
    start = threading.Barrier(6)

    def work():
        start.wait(30)
        found.append(sorted(pup.fetch("pack.zip", processor=pooch.Unzip())))
        paths.append(pup.fetch("sub/dir/b.bin"))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 6
    assert paths == [paths[0]] * 6
    assert len(found[0]) == 4
    assert sorted(request.path for request in server.requests) == ["pack.zip", "sub/dir/b.bin"]


CHILD = """
import json, logging, sys
import pkgdata.compat.pooch as pooch

task = json.loads(sys.argv[1])
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage().split()[0])
pooch.get_logger().addHandler(handler)
pup = pooch.create(task["path"], task["url"], registry=task["registry"])
processor = pooch.Unzip() if task["unzip"] else None
print("ready", flush=True)
sys.stdin.readline()
found = pup.fetch(task["name"], processor=processor)
found = [found] if isinstance(found, str) else found
print(json.dumps({"log": lines, "hashes": sorted(map(pooch.file_hash, found))}), flush=True)
"""


class Child:
    """A process that fetches when it is told to."""

    def __init__(self, server, store, name, unzip=False):
        task = {
            "path": str(store),
            "url": server.url,
            "registry": {one: sha(content) for one, content in server.contents.items()},
            "name": name,
            "unzip": unzip,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_env(),
            text=True,
        )
        # a process that hangs fails its test instead of holding up all the others
        self._alarm = threading.Timer(60, self.process.kill)
        self._alarm.start()
        assert self.process.stdout.readline() == "ready\n"

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def result(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self._alarm.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def spawn(server, store):
    children = []

    def spawn(*args, **kwargs):
        children.append(Child(server, store, *args, **kwargs))
        return children[-1]

    yield spawn
    for child in children:
        child.close()


@pytest.mark.skipif(os.name == "nt", reason="stops and kills processes by signals")
@pytest.mark.parametrize("unzip", [False, True], ids=["file", "archive"])
def test_many_processes_download_once(server, store, spawn, unzip):
    name = "pack.zip" if unzip else "sub/dir/b.bin"
    children = [spawn(name, unzip=unzip) for _ in range(6)]
    for child in children:
        child.go()
    results = [child.result() for child in children]
    lines = [line for result in results for line in result["log"]]
    assert sorted(lines) == ["Downloading", "Unzipping"][: 1 + unzip]
    assert len(server.settled()) == 1
    expected = sorted(map(sha, MEMBERS.values() if unzip else [BINARY]))
    assert all(result["hashes"] == expected for result in results)
    below = {f"pack.zip.unzip/{one}" for one in MEMBERS} if unzip else set()
    assert files_below(store) == {name} | below


@pytest.mark.parametrize("known", [sha(TEXT), None])
def test_what_another_process_brings_in_the_meantime_is_taken(
    server, store, log, monkeypatch, known
):
    """It comes after we looked for the file and before we have the lock."""
    make_room = place.LocalFile.make_room

    def other_process(self):
        make_room(self)
        _file(store / "a.txt", TEXT)

    monkeypatch.setattr(place.LocalFile, "make_room", other_process)
    pup = pooch.create(store, server.url, registry={"a.txt": known})
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    assert not server.requests
    assert not log


@pytest.mark.skipif(os.name == "nt", reason="stops and kills processes by signals")
def test_a_killed_download_is_gone_on_with(server, store, spawn):
    content = os.urandom(6 << 20)
    server.contents["large.bin"] = content
    server.script("large.bin", stall(5 << 20))
    child = spawn("large.bin")
    child.go()
    assert server.stalled.wait(30)
    wait_for(lambda: sum(p.stat().st_size for p in store.glob("*.part")) >= 4 << 20)
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait()
    server.release()
    (left,) = store.glob("*.part")
    there = left.stat().st_size
    pup = pooch.create(store, server.url, registry={"large.bin": sha(content)})
    assert Path(pup.fetch("large.bin")).read_bytes() == content
    assert server.settled()[-1].headers["range"] == f"bytes={there}-"
    assert files_below(store) == {"large.bin"}


def wait_for(condition):
    """Wait until a condition holds that no event tells of: bytes on disk of another process."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        threading.Event().wait(0.01)


@pytest.mark.skipif(os.name == "nt", reason="stops and kills processes by signals")
def test_unpinned_bytes_of_a_killed_process_are_not_used(server, store, spawn):
    server.script("sub/dir/b.bin", stall(len(BINARY) // 2))
    child = spawn("sub/dir/b.bin")
    child.go()
    assert server.stalled.wait(30)
    wait_for(lambda: list(store.glob("sub/dir/*.part")))
    os.kill(child.process.pid, signal.SIGKILL)
    child.process.wait()
    server.release()
    pup = pooch.create(store, server.url, registry={"sub/dir/b.bin": None})
    assert Path(pup.fetch("sub/dir/b.bin")).read_bytes() == BINARY
    assert "range" not in server.settled()[-1].headers
    assert files_below(store) == {"sub/dir/b.bin"}


# -- beside downloading ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "rel", "base_url": "https://h"},
        {"path": ["a", "b"], "base_url": "https://h//"},
        {"path": "~/x", "base_url": "https://h/{version}/", "version": "1.2"},
        {"path": "x", "base_url": "https://h/{version}", "version": "1.2+3.gabc"},
        {
            "path": "x",
            "base_url": "https://h/{version}",
            "version": "v1.2+3",
            "version_dev": "main",
        },
        {"path": "x", "base_url": "https://h/{version}/"},
        {"path": "x", "base_url": "https://h/", "env": "MY_DATA", "version": "2"},
        {"path": "x", "base_url": "https://h/", "env": "NOT_SET", "version": "2"},
        {"path": "x", "base_url": "https://h/", "retry_if_failed": 3, "urls": {"a": "b"}},
    ],
    ids=str,
)
def test_create_fills_in_what_pooch_fills_in(arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_DATA", str(tmp_path / "mine"))
    ours, original = pooch.create(**arguments), theirs.create(**arguments)
    for name in ("path", "abspath", "base_url", "registry", "urls", "retry_if_failed"):
        assert getattr(ours, name) == getattr(original, name), name


def test_a_version_that_is_none_is_refused(store):
    from packaging.version import InvalidVersion

    with pytest.raises(InvalidVersion):
        pooch.create(store, "https://h/", version="one")


def test_the_registry_is_the_caller_s_own_mapping(store):
    registry = {"a.txt": sha(TEXT)}
    pup = pooch.Pooch(store, "https://h/", registry)
    pup.registry["b.txt"] = "0" * 64
    assert registry.keys() == {"a.txt", "b.txt"}


@pytest.mark.parametrize(
    "text",
    [
        "a.txt 0123ABC\n\n# comment\n  b.txt md5:00 https://h/b?x=1\n",
        "'with blank.txt' 00\n\"other one\" 11\nback\\ slash.txt 22\n",
        "#: size=12\na.txt 00\r\n\tb.txt\t11\t\n",
        "na\xa0me.txt 00\nпривет.txt 11\n",
        "a.txt 00\na.txt 11\na#b.txt 22\n",
        "",
    ],
)
@pytest.mark.parametrize("how", ["path", "text", "bytes"])
def test_registries_are_read_as_pooch_reads_them(tmp_path, text, how):
    file = _file(tmp_path / "registry.txt", text.encode())
    found = []
    for module in (theirs, pooch):
        pup = module.Pooch("", "", urls={"z": "zz"})
        if how == "path":
            pup.load_registry(file)
        else:
            with open(file, **({"mode": "rb"} if how == "bytes" else {"encoding": "utf-8"})) as fin:
                pup.load_registry(fin)
        found.append((pup.registry, pup.urls))
    assert found[0] == found[1]


@pytest.mark.parametrize("line", ["alone", "one two three four"])
def test_a_malformed_registry_has_pooch_s_words(tmp_path, line):
    file = _file(tmp_path / "registry.txt", f"a.txt 00\n{line}\n".encode())
    messages = []
    for module in (theirs, pooch):
        with pytest.raises(OSError) as caught:
            module.Pooch("", "").load_registry(file)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_os_cache_is_pooch_s(monkeypatch):
    assert pooch.os_cache("my project") == theirs.os_cache("my project")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert pooch.os_cache("x") == theirs.os_cache("x")


@pytest.mark.parametrize("version", ["0.1", "v1.2", "0.1a10", "0.1+111.9hdg36", "1.0.dev3"])
def test_check_version_is_pooch_s(version):
    for fallback in ("master", "dev"):
        assert pooch.check_version(version, fallback) == theirs.check_version(version, fallback)


@pytest.mark.parametrize("alg", ["sha256", "md5", "blake2b", "xxh3_64", "sha512_256"])
def test_file_hash_is_pooch_s(tmp_path, alg):
    path = _file(tmp_path / "a", BINARY)
    assert pooch.file_hash(path, alg) == theirs.file_hash(path, alg)


def test_file_hash_of_an_unknown_kind(tmp_path):
    with pytest.raises(ValueError, match="'blah'"):
        pooch.file_hash(_file(tmp_path / "a", b""), "blah")


@pytest.mark.parametrize("recursive", [True, False])
def test_make_registry_is_pooch_s(tmp_path, recursive):
    for name in ("b.txt", "a/b.txt", "a.txt", ".hidden", "a/c/d.bin"):
        _file(tmp_path / "data" / name, name.encode())
    for module in (theirs, pooch):
        module.make_registry(tmp_path / "data", tmp_path / module.__name__, recursive)
    assert (tmp_path / "pooch").read_text() == (tmp_path / "pkgdata.compat.pooch").read_text()


def test_names_with_blanks_can_be_read_back(tmp_path):
    _file(tmp_path / "data" / "it's a name.txt", TEXT)
    pooch.make_registry(tmp_path / "data", tmp_path / "registry.txt")
    for module in (theirs, pooch):
        pup = module.Pooch("", "")
        pup.load_registry(tmp_path / "registry.txt")
        assert pup.registry == {"it's a name.txt": sha(TEXT)}


# -- going on to pkgdata -----------------------------------------------------------------------


def test_declare_takes_what_pooch_takes(server, store, tmp_path):
    urls = {"mine.txt": server.url + "a.txt"}
    registry = {**REGISTRY, "mine.txt": sha(TEXT).upper(), "loose.txt": None}
    server.contents["loose.txt"] = b"loose"
    pup = pooch.create(store, server.url, registry=registry, urls=urls)
    data = pkgdata.declare(
        "ported", dataurl=pup.base_url, registry=pup.registry, urls=pup.urls, folders=[pup.path]
    )
    fetched = {name: Path(data.get(name)).read_bytes() for name in registry}
    assert fetched == {**CONTENTS, "mine.txt": TEXT, "loose.txt": b"loose"}
    assert "a.txt" in [request.path for request in server.requests]
    assert len(data.get("pack.zip", processor=pkgdata.Unzip())) == 4


def test_declare_finds_pooch_s_files_by_naming_their_folder(server, store):
    pup = theirs.create(store, server.url, registry=REGISTRY)
    paths = [pup.fetch(name) for name in REGISTRY]
    count = len(server.requests)
    data = pkgdata.declare("ported", dataurl=server.url, registry=REGISTRY, folders=[pup.path])
    assert [data.get(name) for name in REGISTRY] == paths
    assert len(server.requests) == count


@pytest.fixture
def filled(server, tmp_path):
    """Return a folder that pooch filled: two versions, and files that were fetched by URL."""
    root = theirs.os_cache("ported")
    for version, names in (("1.0", ["a.txt", "sub/dir/b.bin"]), ("2.0", ["a.txt.gz"])):
        old = theirs.create(root, server.url, version=version, registry=REGISTRY)
        for name in names:
            old.fetch(name)
    theirs.retrieve(server.url + "a.txt.xz", REGISTRY["a.txt.xz"], path=root)
    _file(root / "2.0" / "pack.zip", b"damaged")
    return root


def test_migrate_adopts_what_is_right(server, filled):
    data = pkgdata.declare("ported", dataurl=server.url, registry=REGISTRY)
    names = ["a.txt", "sub/dir/b.bin", "a.txt.gz", "a.txt.xz"]
    before, count = files_below(filled), len(server.requests)
    planned = migrate_pooch(data, dry_run=True)
    assert {one.name for one in planned} == set(names)
    assert all(one.path is None and data.find(one.name) is None for one in planned)
    adopted = migrate_pooch(data)
    assert {one.name: one.path for one in adopted} == {name: data.get(name) for name in names}
    assert all(Path(one.path).read_bytes() == CONTENTS[one.name] for one in adopted)
    assert migrate_pooch(data) == []
    assert files_below(filled) == before
    assert len(server.requests) == count


def test_migrate_takes_a_folder_and_unpinned_files(server, store):
    _file(store / "loose.txt", b"loose")
    data = pkgdata.declare("ported", dataurl=server.url, registry={"loose.txt": None})
    assert migrate_pooch(data, source=store / "absent") == []
    (one,) = migrate_pooch(data, source=store)
    assert Path(data.get("loose.txt")).read_bytes() == b"loose"
    assert one.path == data.get("loose.txt")
    assert not server.requests
