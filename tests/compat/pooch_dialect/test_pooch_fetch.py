"""The pooch dialect: names, `Pooch.fetch`, and what needs no download."""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pooch as theirs
import pytest
import requests
from faults import lfs_pointer, page
from pooch_files import (
    BINARY,
    CONTENTS,
    REGISTRY,
    TEXT,
    child_env,
    files_below,
    new_process,
    no_hashing,
    sha,
    written,
)

import pkgdata
import pkgdata.compat.pooch as pooch

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


@pytest.mark.parametrize("name", ["downloaders", "hashes", "processors", "utils"])
def test_modules_that_users_look_into_are_those_of_pooch(name):
    assert getattr(pooch, name) is importlib.import_module(f"pooch.{name}")


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
    new_process()  # the next one reads the stamp on disk
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
        aside.replace(path)  # the same size and time, another inode
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


def test_verify_always_hashes_at_each_call(pup, server, monkeypatch):
    path = Path(pup.fetch("a.txt"))
    before = path.stat()
    monkeypatch.setenv("PKGDATA_VERIFY", "always")
    path.write_bytes(TEXT.upper())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    pup.fetch("a.txt")
    assert path.read_bytes() == TEXT
    assert len(server.requests) == 2


def test_a_name_removed_from_the_registry_is_unknown(server, store):
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
    digest = theirs.file_hash(written(store / "x", TEXT), alg.lower())
    pup = pooch.create(store, server.url, registry={"a.txt": f"{alg}:{digest.upper()}"})
    assert Path(pup.fetch("a.txt")).read_bytes() == TEXT
    pup.fetch("a.txt")
    assert len(server.requests) == 1


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
    monkeypatch.setattr("pkgdata.base.disk.free_bytes", lambda _: 3)
    with pytest.raises(OSError, match=r"no space for 'a\.txt'") as caught:
        pup.fetch("a.txt")
    assert caught.value.errno == 28
    assert "PKGDATA_CACHE_DIR" not in str(caught.value)


def test_a_user_cache_that_cannot_be_used_costs_no_more_than_time(
    server, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(written(tmp_path / "in the way", b"")))
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


# -- besides downloading ------------------------------------------------------------------------


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


def test_what_is_no_version_is_refused(store):
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
    file = written(tmp_path / "registry.txt", text.encode())
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
    file = written(tmp_path / "registry.txt", f"a.txt 00\n{line}\n".encode())
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
    path = written(tmp_path / "a", BINARY)
    assert pooch.file_hash(path, alg) == theirs.file_hash(path, alg)


def test_file_hash_of_an_unknown_kind(tmp_path):
    with pytest.raises(ValueError, match="'blah'"):
        pooch.file_hash(written(tmp_path / "a", b""), "blah")


@pytest.mark.parametrize("recursive", [True, False])
def test_make_registry_is_pooch_s(tmp_path, recursive):
    for name in ("b.txt", "a/b.txt", "a.txt", ".hidden", "a/c/d.bin"):
        written(tmp_path / "data" / name, name.encode())
    for module in (theirs, pooch):
        module.make_registry(tmp_path / "data", tmp_path / module.__name__, recursive)
    assert (tmp_path / "pooch").read_text() == (tmp_path / "pkgdata.compat.pooch").read_text()


def test_names_with_blanks_can_be_read_back(tmp_path):
    written(tmp_path / "data" / "it's a name.txt", TEXT)
    pooch.make_registry(tmp_path / "data", tmp_path / "registry.txt")
    for module in (theirs, pooch):
        pup = module.Pooch("", "")
        pup.load_registry(tmp_path / "registry.txt")
        assert pup.registry == {"it's a name.txt": sha(TEXT)}
