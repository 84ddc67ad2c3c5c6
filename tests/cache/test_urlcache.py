"""Astropy's tree: putting in, taking out, asking, checking, carrying; and the disk it is on."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pkgdata
from pkgdata.base import fs
from pkgdata.cache import unpinned, unpinned_dirs
from pkgdata.cache.objects import Cache
from pkgdata.cache.unpinned import UNCHANGED, Scratch, UrlCache, folder_name
from pkgdata.compat.astropy.contents import _get_download_cache_loc, find_by_hash
from pkgdata.stores import codecs

URL = "http://example.org/a.dat"
OTHER = "http://example.org/b.dat"


@pytest.fixture
def cache(tmp_path):
    return UrlCache(str(tmp_path / "cache" / "astropy"))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.dat"
    path.write_bytes(b"content")
    return str(path)


@pytest.fixture
def filled(source, tmp_path):
    """Fill the cache with two downloads; return their paths."""
    other = tmp_path / "other.dat"
    other.write_bytes(b"other")
    return [
        pkgdata.import_file_to_cache(URL, source),
        pkgdata.import_file_to_cache(OTHER, str(other)),
    ]


def written(folder, content):
    path = folder / "written.dat"
    path.write_bytes(content)
    return str(path)


def read(path):
    return Path(path).read_bytes()


def below(folder):
    return sorted(
        str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()
    )


# -- keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        *((f"{scheme}://h/a", True) for scheme in ("http", "https", "ftp", "sftp", "ssh", "file")),
        *((text, True) for text in ("HTTP://h", "file:///c:/a%20b", "file:a")),
        *((text, False) for text in ("h/a", "C:\\a\\b", "data://a", "s3://b/a", "", "http", ":")),
    ],
)
def test_what_a_url_is(text, answer):
    assert pkgdata.is_url(text) is answer


def test_the_key_is_astropys():
    # md5 of the URL, as astropy 8.0.2 computes it
    assert folder_name("http://www.astropy.org") == folder_name("HTTP://WWW.astropy.org/")
    assert folder_name("http://www.astropy.org") == "39794d62d5cc62eb20c55eb6985a62b8"


# -- putting in ------------------------------------------------------------------------------


def test_a_file_is_copied_in(cache, source, tmp_path):
    path = pkgdata.import_file_to_cache(URL, source)
    assert path == os.path.join(cache.entry(URL), "contents")
    assert read(path) == b"content"
    assert below(tmp_path / "cache") == [
        f"astropy/download/url/{folder_name(URL)}/{name}" for name in ("contents", "url")
    ]
    assert os.path.exists(source)
    assert pkgdata.import_file_to_cache(URL, source, remove_original=True) == path
    assert not os.path.exists(source)


def test_what_is_there_is_replaced_or_not(source, filled, tmp_path):
    new = tmp_path / "new"
    new.write_bytes(b"new")
    assert read(pkgdata.import_file_to_cache(URL, new, replace=False)) == b"content"
    with open(filled[0], "rb") as file:
        assert pkgdata.import_file_to_cache(URL, new) == filled[0]
        assert read(filled[0]) == b"new"
        assert file.read() == b"content"
    with pytest.raises(ValueError, match="malformed URL"):
        pkgdata.import_file_to_cache("a.dat", new)
    with pytest.raises(FileNotFoundError):
        pkgdata.import_file_to_cache(URL, tmp_path / "none")
    pkgdata.check_download_cache()


@pytest.mark.parametrize("damage", ["no contents", "no url", "a file", "a folder"])
def test_a_damaged_entry_is_a_miss_and_is_mended(cache, source, damage):
    path = pkgdata.import_file_to_cache(URL, source)
    entry = os.path.dirname(path)
    if damage in ("no contents", "a folder"):
        os.unlink(path)
    if damage == "no url":
        os.unlink(os.path.join(entry, "url"))
    if damage == "a folder":
        os.makedirs(os.path.join(path, "sub"))
    if damage == "a file":
        fs.remove_tree(entry)
        Path(entry).touch()
    assert (cache.find(URL) is None) is (damage != "no url")
    assert pkgdata.cache_contents() == {}
    with pytest.raises(pkgdata.CacheDamaged):
        pkgdata.check_download_cache()
    assert pkgdata.import_file_to_cache(URL, source) == path
    pkgdata.check_download_cache()
    assert pkgdata.cache_contents() == {URL: path}


def test_a_folder_that_cannot_be_renamed_is_moved_with_a_warning(cache, source, monkeypatch):
    def refuse(path, target):
        raise OSError(errno.EXDEV, "not on an overlay")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.warns(pkgdata.PkgdataWarning, match="not on an overlay"):
        path = pkgdata.import_file_to_cache(URL, source)
    assert read(path) == b"content"
    pkgdata.check_download_cache()
    with pytest.warns(pkgdata.PkgdataWarning, match="not on an overlay"):
        pkgdata.clear_download_cache(URL)
    assert not os.path.exists(os.path.dirname(path))
    assert os.listdir(os.path.dirname(cache.folder)) == ["url"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_modes_follow_the_root(cache, source):
    os.makedirs(cache.root)
    os.chmod(cache.root, 0o2770)
    os.chmod(source, 0o600)
    path = pkgdata.import_file_to_cache(URL, source)
    assert os.stat(path).st_mode & 0o777 == 0o660
    assert os.stat(os.path.dirname(path)).st_mode & 0o7777 == 0o2770


# -- bringing in -----------------------------------------------------------------------------


def filler(content, seen=None):
    def fill(partial):
        os.write(partial.fd, content)
        if seen is not None:
            seen.append(partial.path)

    return fill


def test_obtain_looks_first(cache, tmp_path):
    locker = Cache(str(tmp_path / "cache"))
    seen = []
    path = cache.obtain(URL, locker, filler(b"one", seen))
    assert cache.obtain(URL, locker, filler(b"two", seen)) == path
    assert read(path) == b"one"
    assert len(seen) == 1
    # where those who wait for the lock look for signs of work
    assert os.path.dirname(seen[0]) == str(tmp_path / "cache" / "partial-v1")
    assert cache.obtain(URL, locker, filler(b"two"), renew=True) == path
    assert read(path) == b"two"
    assert cache.obtain(URL, locker, lambda partial: UNCHANGED, renew=True) == path
    assert read(path) == b"two"
    assert below(tmp_path / "cache" / "partial-v1") == []


def test_bytes_are_staged_on_the_disk_of_the_cache(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(unpinned, "_on_one_disk", lambda one, other: False)
    seen = []
    cache.obtain(URL, Cache(str(tmp_path / "cache")), filler(b"one", seen))
    assert os.path.dirname(seen[0]) == os.path.dirname(cache.folder)
    assert os.listdir(os.path.dirname(cache.folder)) == ["url"]


def test_what_cannot_enter_is_rescued(cache, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "not here")

    monkeypatch.setattr(UrlCache, "put", refuse)
    told = []
    result = cache.obtain(
        URL, None, filler(b"one"), rescue=lambda path, error: told.append(read(path)) or "rescued"
    )
    assert (result, told) == ("rescued", [b"one"])
    with pytest.raises(PermissionError):
        cache.obtain(URL, None, filler(b"one"))


def test_nowhere_to_stage_but_the_temporary_folder(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert isinstance(cache._staged(URL, None), Scratch)
    path = cache.obtain(URL, None, filler(b"one"))
    assert read(path) == b"one"


KILLED = """
import os, sys
from pkgdata.cache import unpinned
unpinned.staging.place = lambda *_, **__: os._exit(0)
open(sys.argv[2], "w").close()
unpinned.UrlCache(sys.argv[1]).put("http://x.invalid/a", sys.argv[2])
"""


def test_folders_of_ended_processes_are_swept(cache, source, tmp_path):
    root = str(Path(pkgdata.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", KILLED, cache.root, str(tmp_path / "x")],
        env={**os.environ, "PYTHONPATH": root},
        check=True,
    )
    around = Path(cache.folder).parent
    (around / "rmtree-astropys").mkdir()
    (around / "a.host-1-2.tmp").mkdir()  # of another machine, for all that is known
    assert len(list(around.glob("*.*.tmp"))) == 2
    pkgdata.import_file_to_cache(URL, source)
    assert sorted(os.listdir(around)) == ["a.host-1-2.tmp", "rmtree-astropys", "url"]


# -- asking ----------------------------------------------------------------------------------


def test_what_is_cached(filled):
    assert pkgdata.get_cached_urls() == [URL, OTHER]
    contents = pkgdata.cache_contents()
    assert contents == {URL: filled[0], OTHER: filled[1]}
    with pytest.raises(TypeError):
        contents[URL] = "x"
    assert pkgdata.is_url_in_cache("HTTP://EXAMPLE.org/a.dat")
    assert not pkgdata.is_url_in_cache("http://example.org/c")
    with pytest.raises(ValueError, match="malformed URL"):
        pkgdata.is_url_in_cache("a.dat")
    assert pkgdata.cache_total_size() == len(b"content" + b"other") + len(URL) + len(OTHER)
    assert find_by_hash(pkgdata.compute_hash(filled[1])) == filled[1]
    assert find_by_hash("0" * 32) is None


def ask_all(**how):
    return [
        pkgdata.get_cached_urls(**how),
        pkgdata.is_url_in_cache(URL, **how),
        dict(pkgdata.cache_contents(**how)),
        list(_get_download_cache_loc(**how).glob("*")),
    ]


def test_a_cache_that_is_missing(cache, recwarn):
    assert ask_all(on_missing="ignore") == [[], False, {}, []]
    assert pkgdata.cache_total_size() == 0
    pkgdata.check_download_cache()
    assert not recwarn.list
    for ask in (pkgdata.get_cached_urls, pkgdata.cache_contents, pkgdata.clear_download_cache):
        with pytest.warns(pkgdata.CacheMissingWarning, match="does not exist") as caught:
            ask()
        assert caught[0].filename == __file__
        with pytest.raises(FileNotFoundError):
            ask(on_missing="error")
        with pytest.raises(ValueError, match="on_missing"):
            ask(on_missing="shrug")
    with pytest.warns(pkgdata.CacheMissingWarning):
        assert not pkgdata.is_url_in_cache(URL)
    assert not os.path.exists(cache.root)


@pytest.mark.parametrize("level", ["cache", "cache/astropy", "cache/astropy/download"])
def test_a_file_above_the_cache_means_that_there_is_none(tmp_path, level):
    obstacle = tmp_path / level
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("in the way")
    with pytest.warns(pkgdata.CacheMissingWarning):
        assert pkgdata.get_cached_urls() == []
    with pytest.raises(OSError, match=r"in the way|exists|directory"):
        pkgdata.import_file_to_cache(URL, __file__)
    pkgdata.check_download_cache()


def test_a_file_in_the_place_of_the_entries_is_an_error(cache):
    os.makedirs(os.path.dirname(cache.folder))
    Path(cache.folder).write_text("in the way")
    for ask in (
        *(pkgdata.get_cached_urls, pkgdata.cache_contents, pkgdata.cache_total_size),
        *(pkgdata.check_download_cache, lambda: pkgdata.is_url_in_cache(URL)),
    ):
        with pytest.raises(NotADirectoryError):
            ask()
    with pytest.warns(pkgdata.CacheMissingWarning, match="Not clearing data .* NotADirectoryError"):
        pkgdata.clear_download_cache()
    with pytest.warns(pkgdata.CacheMissingWarning, match="cannot be read or created"):
        path = pkgdata.download_file(Path(__file__).as_uri(), cache=True)
    assert read(path) == read(__file__)


def test_the_place_that_others_read(cache):
    path = pkgdata._get_download_cache_loc(ensure_exists=True)
    assert isinstance(path, Path)
    assert str(path) == cache.folder
    assert path.is_dir()
    assert str(
        pkgdata._get_download_cache_loc("mine", on_missing="ignore")
    ) == cache.folder.replace("astropy", "mine")


# -- taking out ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        lambda path: URL,
        lambda path: "HTTP://EXAMPLE.ORG/a.dat",
        lambda path: path,
        lambda path: os.path.join(os.path.dirname(path), "url"),
        lambda path: os.path.dirname(path),
        lambda path: os.path.dirname(path) + "/",
        lambda path: os.path.basename(os.path.dirname(path)),
        lambda path: Path(path),
        pkgdata.compute_hash,
    ],
)
def test_one_download_is_cleared_by_any_of_its_names(cache, filled, name):
    with open(filled[0], "rb") as file:
        pkgdata.clear_download_cache(name(filled[0]))
        assert file.read() == b"content"
    assert pkgdata.get_cached_urls() == [OTHER]
    assert os.listdir(os.path.dirname(cache.folder)) == ["url"]
    pkgdata.check_download_cache()


@pytest.mark.parametrize("name", [lambda _: None, lambda _: ".", lambda folder: folder])
def test_all_are_cleared(cache, filled, name):
    stray = os.path.join(os.path.dirname(cache.folder), "of somebody else")
    os.mkdir(stray)
    pkgdata.clear_download_cache(name(cache.folder))
    assert not os.path.exists(cache.folder)
    assert os.path.exists(stray)
    with pytest.warns(pkgdata.CacheMissingWarning):
        pkgdata.clear_download_cache(URL)


def test_what_is_not_there_is_cleared_silently(filled):
    for name in ("http://example.org/none", "0" * 32, "f" * 31, "contents", "none/contents"):
        pkgdata.clear_download_cache(name)
    assert len(pkgdata.get_cached_urls()) == 2


def test_the_digest_is_looked_for_in_the_right_cache(filled, source):
    path = pkgdata.import_file_to_cache(URL, source, pkgname="mine")
    pkgdata.clear_download_cache(pkgdata.compute_hash(path), pkgname="mine")
    assert not os.path.exists(path)
    assert os.path.exists(filled[0])


def test_nothing_outside_is_cleared(filled, source, tmp_path):
    for name in (
        source,
        "..",
        "../url/../x",
        "/",
        str(tmp_path / "cache" / "astropy" / "download"),
    ):
        with pytest.raises(RuntimeError, match="outside the data cache"):
            pkgdata.clear_download_cache(name)
    pkgdata.import_file_to_cache(URL, source, pkgname="mine")
    with pytest.raises(RuntimeError, match="outside"):
        pkgdata.clear_download_cache(filled[0], pkgname="mine")
    assert os.path.exists(source)
    assert len(pkgdata.get_cached_urls()) == 2


def test_what_cannot_be_removed_is_told(cache, filled, monkeypatch):
    def refuse(path, target):
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.warns(pkgdata.CacheMissingWarning, match="PermissionError.*in use"):
        pkgdata.clear_download_cache(URL)
    assert len(pkgdata.get_cached_urls()) == 2
    assert os.listdir(os.path.dirname(cache.folder)) == ["url"]


# -- checking --------------------------------------------------------------------------------


def test_a_check_names_what_is_to_be_cleared(cache, filled):
    folder = Path(cache.folder)
    stray, inner = folder / "stray", Path(filled[1]).parent / "stray"
    stray.touch()
    inner.touch()
    Path(filled[0]).unlink()
    moved = folder / ("0" * 32)
    moved.mkdir()
    (moved / "contents").touch()
    (moved / "url").write_text(OTHER)
    wrong = folder / ("1" * 32)
    wrong.mkdir()
    (wrong / "url").write_text("no URL")
    with pytest.raises(pkgdata.CacheDamaged) as caught:
        pkgdata.check_download_cache()
    error = caught.value
    assert set(error.bad_files) == {stray, inner, Path(filled[0]).parent, moved, wrong}
    assert isinstance(error, ValueError)
    assert error.bad_urls == []
    assert "Left-over non-directory" in str(error)
    assert f"but is stored in {'0' * 32}" in str(error)
    assert "is missing contents" in str(error)
    for path in error.bad_files:
        pkgdata.clear_download_cache(str(path))
    pkgdata.check_download_cache()
    assert pkgdata.get_cached_urls() == [OTHER]


# -- carrying --------------------------------------------------------------------------------


def test_export_and_import(filled, tmp_path):
    from urllib.parse import quote

    target = tmp_path / "all.zip"
    pkgdata.export_download_cache(target)
    with zipfile.ZipFile(target) as archive:
        assert sorted(archive.namelist()) == [quote(url, safe="") for url in (URL, OTHER)]
    pkgdata.import_download_cache(target, pkgname="mine")
    assert pkgdata.get_cached_urls("mine") == [URL, OTHER]
    assert read(pkgdata.cache_contents("mine")[URL]) == b"content"
    pkgdata.check_download_cache("mine")
    assert os.listdir(tmp_path / "cache" / "mine" / "download") == ["url"]


def test_part_of_it_is_carried(filled, tmp_path):
    buffer = io.BytesIO()
    pkgdata.export_download_cache(buffer, iter([URL]))
    pkgdata.import_download_cache(io.BytesIO(buffer.getvalue()), {OTHER}, pkgname="mine")
    assert pkgdata.get_cached_urls("mine", on_missing="ignore") == []
    pkgdata.import_download_cache(io.BytesIO(buffer.getvalue()), [URL], pkgname="mine")
    assert pkgdata.get_cached_urls("mine") == [URL]
    Path(filled[0]).write_bytes(b"changed")
    pkgdata.import_download_cache(io.BytesIO(buffer.getvalue()))
    assert read(filled[0]) == b"changed"
    pkgdata.import_download_cache(io.BytesIO(buffer.getvalue()), update_cache=True)
    assert read(filled[0]) == b"content"


SECRET = "https://me:sesame@example.org/s.dat"
SIGNED = "https://example.org/t.dat?X-Amz-Signature=sesame"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
@pytest.mark.parametrize("url", [SECRET, SIGNED])
@pytest.mark.parametrize("slow", [False, True], ids=["renamed", "moved file by file"])
def test_the_file_of_a_url_with_a_secret_is_for_its_user_alone(tmp_path, url, slow, monkeypatch):
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache").chmod(0o775)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    if slow:

        def refuse(*_, **__):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(unpinned.staging, "place", refuse)
        monkeypatch.setattr(unpinned, "_warn_slow", lambda _: None)
        replace = fs.replace

        def not_across(source, target):
            same = os.path.dirname(source) == os.path.dirname(target)
            (replace if same else refuse)(source, target)

        monkeypatch.setattr(unpinned.fs, "replace", not_across)
    entry = Path(pkgdata.import_file_to_cache(url, source)).parent
    plain = Path(pkgdata.import_file_to_cache(URL, source)).parent
    assert (entry / "url").stat().st_mode & 0o777 == 0o600
    assert (plain / "url").stat().st_mode & 0o044
    assert pkgdata.get_cached_urls() == sorted([URL, url])
    for path in (tmp_path / "cache").rglob("*"):
        told = path.is_file() and b"sesame" in path.read_bytes()
        assert not told or path.stat().st_mode & 0o077 == 0
        assert "sesame" not in str(path)


@pytest.mark.parametrize("url", [SECRET, SIGNED])
def test_what_holds_a_secret_is_not_exported(filled, tmp_path, url):
    pkgdata.import_file_to_cache(url, filled[0])
    target = tmp_path / "all.zip"
    with pytest.warns(pkgdata.errors.PkgdataWarning, match="a secret.* left out") as warned:
        pkgdata.export_download_cache(target)
    assert "sesame" not in str(warned[0].message)
    assert b"sesame" not in target.read_bytes()
    pkgdata.import_download_cache(target, pkgname="mine")
    assert pkgdata.get_cached_urls("mine") == [URL, OTHER]
    with pytest.raises(ValueError, match="holds a secret") as caught:
        pkgdata.export_download_cache(tmp_path / "named.zip", [URL, url])
    assert "sesame" not in str(caught.value)
    assert not (tmp_path / "named.zip").exists()


def test_an_imported_archive_may_not_grow_without_end(monkeypatch):
    monkeypatch.setattr(codecs, "_ALWAYS_ALLOWED", 1_000_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("http%3A%2F%2Fexample.org%2Fa.dat", bytes(9_000_000))
    with pytest.raises(pkgdata.ExtractionError, match="grows past"):
        pkgdata.import_download_cache(buffer, pkgname="mine")
    assert pkgdata.get_cached_urls("mine", on_missing="ignore") == []


def test_an_export_refuses_to_overwrite(filled, tmp_path):
    target = tmp_path / "all.zip"
    target.write_bytes(b"mine")
    os.utime(filled[0], (0, 0))  # ZIP knows no 1970
    with pytest.raises(FileExistsError):
        pkgdata.export_download_cache(target)
    assert target.read_bytes() == b"mine"
    with pytest.raises(KeyError):
        pkgdata.export_download_cache(target, ["http://example.org/none"], overwrite=True)
    assert target.read_bytes() == b"mine"
    pkgdata.export_download_cache(str(target), overwrite=True)
    assert zipfile.is_zipfile(target)
    assert sorted(os.listdir(tmp_path)) == ["all.zip", "cache", "home", "other.dat", "source.dat"]


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "a.dat"])
def test_a_foreign_archive_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("http%3A%2F%2Fh%2Fa", b"fine")
        archive.writestr(name, b"evil")
    with pytest.raises(ValueError, match="malformed URL"):
        pkgdata.import_download_cache(tmp_path / "evil.zip")
    assert not (tmp_path / "cache").exists()


# -- disks -----------------------------------------------------------------------------------


def test_free_space(tmp_path):
    free = pkgdata.get_free_space_in_dir(tmp_path)
    assert isinstance(free, int)
    assert free > 0
    pkgdata.check_free_space_in_dir(tmp_path, 1)
    with pytest.raises(OSError, match=r"not enough free space: 1,000,\S+ bytes are needed"):
        pkgdata.check_free_space_in_dir(str(tmp_path), 10**18)
    (tmp_path / "file").touch()
    for name, kind in (("file", FileExistsError), ("none", FileNotFoundError)):
        with pytest.raises(kind, match="Cannot determine free space from"):
            pkgdata.get_free_space_in_dir(tmp_path / name)


def test_free_space_with_units(tmp_path):
    units = pytest.importorskip("astropy.units", reason="astropy is not installed")
    assert pkgdata.get_free_space_in_dir(tmp_path, True).unit == units.byte
    assert pkgdata.get_free_space_in_dir(tmp_path, units.Mbit).unit == units.Mbit
    pkgdata.check_free_space_in_dir(tmp_path, 1 * units.byte)
    with pytest.raises(OSError, match="Ebyte are needed"):
        pkgdata.check_free_space_in_dir(tmp_path, 1 * units.Ebyte)


def test_the_hash_is_md5(source):
    assert pkgdata.compute_hash(source) == "9a0364b9e99bb480dd25e1f0284c8555"


def test_a_temporary_cache_is_used_by_all(source, tmp_path):
    with unpinned_dirs.set_temp_cache(tmp_path / "temporary"):
        path = pkgdata.import_file_to_cache(URL, source)
    assert path == str(
        tmp_path / "temporary/astropy/download/url" / unpinned.folder_name(URL) / "contents"
    )


# -- names, and renewing ------------------------------------------------------------------------


def test_a_path_ends_in_the_files_own_name(cache, tmp_path):
    path = cache.put(URL, written(tmp_path, b"new"))
    named = cache.named(URL, "tables/t.csv.gz")
    assert named.endswith("/t.csv.gz")
    assert Path(named).read_bytes() == b"new"
    assert cache.named(URL, "tables/t.csv.gz") == named
    assert sorted(os.listdir(cache.folder)) == [folder_name(URL)]
    assert sorted(os.listdir(os.path.dirname(path))) == ["contents", "url"]
    cache.put(URL, written(tmp_path, b"newer"))
    assert Path(named).read_bytes() == b"newer"
    cache.remove(cache.entry(URL))
    assert not os.path.lexists(named)
    assert cache.named(URL, "tables/t.csv.gz") is None


def test_a_name_where_links_are_a_privilege(cache, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr("os.symlink", refused)
    cache.put(URL, written(tmp_path, b"old"))
    cache.named(URL, "t.csv")
    cache.put(URL, written(tmp_path, b"new"))
    assert Path(cache.named(URL, "t.csv")).read_bytes() == b"new"
    monkeypatch.setattr("os.link", refused)
    path = cache.put(URL, written(tmp_path, b"newest"))
    assert cache.named(URL, "t.csv") == path


def test_a_moved_tree_keeps_its_names(cache, tmp_path):
    cache.put(URL, written(tmp_path, b"new"))
    named = cache.named(URL, "t.csv")
    os.rename(cache.root, tmp_path / "moved")
    assert (tmp_path / "moved" / os.path.relpath(named, cache.root)).read_bytes() == b"new"


@pytest.mark.parametrize("step", ["makedirs", "url", "contents"])
@pytest.mark.parametrize("times", [1, 1000])
def test_an_entry_that_is_removed_while_it_is_put_in(cache, source, monkeypatch, step, times):
    # another process clears it between two steps; if it never stops that is an error
    entry, left = Path(cache.entry(URL)), [times]
    monkeypatch.setattr(unpinned.staging, "place", lambda *_, **__: False)
    move, make = unpinned._move, os.makedirs

    def moved(one, other):
        if left[0] and other.endswith(step):
            left[0] -= 1
            fs.discard(str(entry))
        move(one, other)

    def made(path, *arguments, **options):
        if left[0] and step == "makedirs" and path == str(entry):
            left[0] -= 1
            make(path)
        make(path, *arguments, **options)

    monkeypatch.setattr(unpinned, "_move", moved)
    monkeypatch.setattr(os, "makedirs", made)
    if times > 1 and step != "makedirs":  # it is made once
        with pytest.raises(OSError, match=r"No such file|File exists"):
            cache.put(URL, source)
        return
    assert read(cache.put(URL, source)) == b"content"
    assert unpinned.read_url(str(entry)) == URL
    assert sorted(os.listdir(cache._around)) == ["url"]


@pytest.mark.skipif(os.name == "nt", reason="links are a privilege there, and pipes elsewhere")
@pytest.mark.parametrize("planted", ["link", "pipe", "folder"])
def test_what_is_planted_for_validators_is_neither_followed_nor_waited_for(
    cache, source, tmp_path, planted
):
    path = cache.put(URL, source)
    validators = unpinned.Validators(str(tmp_path / "cache"), "astropy", folder_name(URL))
    validators.note("https://h/a", {"If-None-Match": "x"}, os.stat(path))
    assert validators.conditions("https://h/a", path) == {"If-None-Match": "x"}
    os.rename(validators._path, tmp_path / "elsewhere")
    if planted == "link":
        os.symlink(tmp_path / "elsewhere", validators._path)
    elif planted == "pipe":
        os.mkfifo(validators._path)
    else:
        os.mkdir(validators._path)
    assert validators.conditions("https://h/a", path) == {}
