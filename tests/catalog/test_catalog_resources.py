"""Resources: archives, files, links, files of the user, data folders."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading

import pytest
from cataloging import one, paths_below, run, sha, tar, zipped

from pkgdata import catalog, errors
from pkgdata.catalog import places

# -- resources -------------------------------------------------------------------------------


TREE = {"top/data/a.csv": b"a", "top/data/b/c.csv": b"c", "top/other/d.csv": b"d"}

ARCHIVES = """
@dataset()
class Whole(Folder):
    PATH = ZipDownloader("files", "{url}a.zip")

@dataset()
class Part(Folder):
    PATH = TarDownloader("files", "{url}a.tar.gz", subpath="top/data", digest="{tar}")

@dataset()
class Some(Folder):
    PATH = ArchiveDownloader("files", "{url}a.zip", files=["top/other/d.csv"])

@dataset()
class Absent(Folder):
    PATH = ArchiveDownloader("files", "{url}a.zip", subpath="top/dta")

@dataset()
class AbsentFile(Folder):
    PATH = ArchiveDownloader("files", "{url}a.tar.gz", files=["top/data/A.csv"])

@dataset()
class Wrong(Folder):
    PATH = ZipDownloader("files", "{url}a.zip", checker=HashCheck("{wrong}"))

@dataset()
class NoArchive(Folder):
    PATH = ArchiveDownloader("files", "{url}text.bin")

@dataset()
class Escape(Folder):
    PATH = ZipDownloader("files", "{url}escape.zip")
"""


@pytest.fixture
def archives(plugins, data, server):
    server.contents["a.zip"] = zipped(TREE)
    server.contents["a.tar.gz"] = tar(TREE)
    server.contents["text.bin"] = b"text"
    server.contents["escape.zip"] = zipped({"../out.txt": b"x"})
    digest = sha(server.contents["a.tar.gz"])
    return one(plugins, ARCHIVES.format(url=server.url, tar=digest, wrong="0" * 32))


def test_archives_whole_in_part_and_single_files(archives, data):
    whole = archives.prepare("com.example.whole").path
    assert whole == data / "data/image/com/example/whole/files"
    # the one folder at its top is the resource
    assert paths_below(whole) == ["data/a.csv", "data/b/c.csv", "other/d.csv"]
    assert paths_below(archives.prepare("com.example.part").path) == ["a.csv", "b/c.csv"]
    assert paths_below(archives.prepare("com.example.some").path) == ["other/d.csv"]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("absent", errors.ExtractionError, "the archive has no 'top/dta'"),
        ("absent.file", errors.ExtractionError, "the archive has no 'top/data/A.csv'"),
        ("wrong", errors.IntegrityError, "expected md5:0000"),
        ("no.archive", errors.ExtractionError, "neither a zip nor a tar archive"),
        ("escape", errors.ExtractionError, "out.txt"),
    ],
)
def test_archives_that_are_wrong_leave_nothing_half_made(archives, data, name, error, text):
    with pytest.raises(error) as caught:
        archives.prepare(f"com.example.{name}")
    assert text in str(caught.value)
    assert paths_below(data) == []
    assert not list(data.rglob("*.pkgdata"))
    assert not (data.parent / "out.txt").exists()


def test_a_missing_subpath_has_close_names(archives):
    with pytest.raises(errors.ExtractionError) as caught:
        archives.prepare("com.example.absent")
    assert "'top/data'" in caught.value.hint


FILES = """
@dataset(File)
class Both(File):
    PATH = FileDownloader("a.txt", "{url}a.txt.gz", checker=HashCheck("{plain}"))

@dataset()
class Kept(File):
    PATH = FileDownloader("a.txt.gz", "{url}a.txt.gz")

@dataset()
class Mirrored(File):
    PATH = FileDownloader("b.txt", "{url}gone.txt", mirrors=["{url}b.txt"], digest="{b}")

@dataset()
class Xz(File):
    PATH = FileDownloader("x.txt", "{url}x.txt.xz")

@dataset()
class Several(Folder):
    PATH = FilesDownloader("files", {{
        "a.txt": "{url}a.txt.gz", "sub/b.txt": ("{url}b.txt", "sha256:{b}")}})

@dataset()
class Joined(File):
    PATH = ConcatDownloader("all.txt", "{url}a.txt.gz", "{url}b.txt")

@dataset()
class Members(File):
    PATH = ConcatDownloader("all.txt", "{url}members.tar")

@dataset()
class Upper(File):
    RAW = FileDownloader("raw.txt", "{url}a.txt.gz", transient=True)
    PATH = processed("upper.txt", lambda to, raw: to.write_bytes(raw.read_bytes().upper()), RAW)

@dataset()
class Copied(Folder):
    ARCHIVE = ZipDownloader("archive", "{url}a.zip", transient=True)
    PATH = FilesCopy(ARCHIVE, {{"a.csv": "data/a.csv"}})

@dataset()
class CopiedWrong(Folder):
    ARCHIVE = ZipDownloader("archive", "{url}a.zip", transient=True)
    PATH = FilesCopy(ARCHIVE, {{"a.csv": "nothing.csv"}})

@dataset()
class Custom(Folder):
    PATH = custom_download("made", lambda context, folder: (folder / "x").write_text("made"))

@dataset()
class WrongPlain(File):
    PATH = FileDownloader("a.txt", "{url}a.txt.gz", checker=HashCheck("{packed}"))

@dataset()
class WrongDigest(File):
    PATH = FileDownloader("b.txt", "{url}b.txt", digest="{wrong}")

@dataset()
class NoDigest(File):
    PATH = FileDownloader("b.txt", "{url}b.txt", digest="xyz")

@dataset()
class OwnCheck(File):
    class Small(FileChecker):
        def check(self, path):
            return path.stat().st_size < 2

    PATH = FileDownloader("b.txt", "{url}b.txt", checker=Small())
"""


@pytest.fixture
def files(plugins, data, server):
    import lzma

    plain, b = b"hello\n", b"world\n"
    packed = gzip.compress(plain)
    server.contents.update(
        {
            "a.txt.gz": packed,
            "b.txt": b,
            "x.txt.xz": lzma.compress(plain),
            "a.zip": zipped(TREE),
            "members.tar": tar({"2.txt.gz": packed, "1.txt": b"first\n"}, "w"),
        }
    )
    facts = {
        "plain": hashlib.md5(plain, usedforsecurity=False).hexdigest(),
        "packed": hashlib.md5(packed, usedforsecurity=False).hexdigest(),
        "b": sha(b),
        "wrong": "0" * 64,
    }
    return one(plugins, FILES.format(url=server.url, **facts))


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("both", "a.txt", b"hello\n"),
        ("mirrored", "b.txt", b"world\n"),
        ("xz", "x.txt", b"hello\n"),
        ("joined", "all.txt", b"hello\nworld\n"),
        ("members", "all.txt", b"first\nhello\n"),
        ("upper", "upper.txt", b"HELLO\n"),
    ],
)
def test_single_files(files, data, server, name, file, content):
    path = files.prepare(f"com.example.{name}").path
    assert path == data / f"data/image/com/example/{name}/{file}"
    assert path.read_bytes() == content
    # intermediates are gone, and so is what no digest pins
    assert paths_below(data) == [f"data/image/com/example/{name}/{file}"]
    asked = len(server.requests)
    assert files.prepare(f"com.example.{name}").path == path
    assert len(server.requests) == asked


def test_a_file_that_is_to_stay_compressed(files, server):
    path = files.prepare("com.example.kept").path
    assert path.read_bytes() == server.contents["a.txt.gz"]


def test_several_files_and_copies_of_some(files, data):
    assert paths_below(files.prepare("com.example.several").path) == ["a.txt", "sub/b.txt"]
    assert paths_below(files.prepare("com.example.copied").path) == ["a.csv"]
    assert not (data / "data/image/com/example/copied/archive").exists()
    with pytest.raises(errors.CatalogError, match=r"'archive' has no file 'nothing.csv'"):
        files.prepare("com.example.copied.wrong")
    assert paths_below(files.prepare("com.example.custom").path) == ["x"]


def test_pinned_bytes_are_in_the_cache_and_unpinned_ones_are_not(files, tmp_path):
    files.prepare("com.example.mirrored")
    files.prepare("com.example.both")
    below = paths_below(tmp_path / "cache")
    assert [one for one in below if one.startswith("objects-v1/")] != []
    assert not [one for one in below if one.endswith("contents")]


def test_a_digest_of_the_compressed_bytes_gets_a_hint(files, data):
    with pytest.raises(errors.IntegrityError, match=r"wrong bytes for 'a\.txt'") as caught:
        files.prepare("com.example.wrong.plain")
    assert "digest=" in caught.value.hint
    assert paths_below(data) == []


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("wrong.digest", errors.IntegrityError, "expected sha256:0000"),
        ("no.digest", errors.CatalogError, "'xyz' is not a digest"),
        ("own.check", errors.CatalogError, "rejects 'b.txt'"),
    ],
)
def test_files_that_are_wrong_leave_nothing_half_made(files, data, name, error, text):
    with pytest.raises(error, match=text):
        files.prepare(f"com.example.{name}")
    assert paths_below(data) == []


def test_a_prepared_file_that_was_damaged_is_made_again(files, server):
    path = files.prepare("com.example.mirrored").path
    path.unlink()
    path.write_bytes(b"damaged!")
    with pytest.warns(errors.FolderWarning, match="it is prepared again"):
        assert files.prepare("com.example.mirrored").path.read_bytes() == b"world\n"


def test_force_makes_files_again(files, server):
    path = files.prepare("com.example.kept").path
    server.contents["a.txt.gz"] = gzip.compress(b"newer")
    assert files.prepare("com.example.kept").path.read_bytes() != server.contents["a.txt.gz"]
    files.download("com.example.kept", force=True)
    assert path.read_bytes() == server.contents["a.txt.gz"]


def test_offline_it_says_what_is_missing(files, monkeypatch, server):
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    with pytest.raises(errors.OfflineError, match=r"com\.example\.several is not prepared here"):
        files.prepare("com.example.several")
    with pytest.raises(errors.OfflineError) as caught:
        files.prepare("com.example.both")
    assert "pkgdata catalog prepare com.example.both" in caught.value.hint
    assert server.requests == []


def test_a_site_folder_serves_downloads_too(files, tmp_path, monkeypatch, server):
    name = "pkgdata.catalog/image/com/example/mirrored/b/gone.txt"
    path = tmp_path / "site" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"world\n")
    monkeypatch.setenv("PKGDATA_FOLDERS", str(tmp_path / "site"))
    definition = files.find("com.example.mirrored")
    (entry,) = definition.resources["PATH"].entries()
    target = tmp_path / "site" / "pkgdata.catalog" / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"world\n")
    assert files.prepare("com.example.mirrored").path.read_bytes() == b"world\n"
    assert server.requests == []


def test_a_data_folder_that_cannot_be_written(files, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        errors.CatalogError, match=r"com\.example\.both cannot be prepared"
    ) as caught:
        catalog.prepare_dataset("com.example.both", tmp_path / "file")
    assert "PKGDATA_CATALOG_DIR" in caught.value.hint


def test_a_file_in_the_way_of_a_folder_stays(files, data):
    folder = data / "data/image/com/example/several"
    folder.mkdir(parents=True)
    name = next(iter(files.find("com.example.several").resources))
    (folder / name).write_text("mine")
    with pytest.raises(errors.CatalogError, match="cannot be prepared in"):
        files.prepare("com.example.several")
    assert (folder / name).read_text() == "mine"
    assert paths_below(folder) == [name]


@pytest.mark.parametrize("name", ["../a.txt", "/a.txt", "a/../../b", ""])
def test_files_do_not_leave_their_folder(name):
    with pytest.raises(errors.UnsafeNameError):
        catalog.FileDownloader(name, "https://example.org/a.txt")


def test_threads_prepare_one_dataset(files, data):
    results = []

    def work():
        results.append(files.prepare("com.example.several").path)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len(set(results)) == 1
    assert not list(data.rglob("*.pkgdata"))


# -- links, manual, data folders -------------------------------------------------------------

LINKS = """
@dataset(id=".base")
class Documents(File):
    PATH = FileDownloader("a.txt", "{url}a.txt")

class Task(Base):
    documents: File
    extra: str = ""

@dataset()
class ByClass(Dataset):
    DOCS = reference(Documents)
    def config(self) -> Task:
        return Task(documents=self.DOCS.config(), extra=str(ByClass.data_path))

@reference("docs", reference="com.example.base")
@dataset(Task)
def by_name(docs):
    return {{"documents": docs}}

@dataset()
class Linked(Folder):
    PATH = links("links", docs="com.example.base", same=Documents)

@dataset()
class A(Dataset):
    B = links("b", "com.example.b")
    def config(self) -> Task:
        return Task(documents=self.B.prepare())

@dataset()
class B(Dataset):
    A = reference("com.example.a")
    def config(self) -> Task:
        return Task(documents=self.A.prepare())

@dataset()
class Circle(Folder):
    X = processed("x", lambda to, one: None)
    PATH = processed("y", lambda to, one: None, X)
    X._dependencies = [PATH]

@dataset()
class Signed(File):
    PATH = manual("corpus", "Sign the form at https://example.org/form", digest="{digest}")

@dataset()
class Shared(Folder):
    PATH = linkfolder("shared", [Path("/nonexistent/x"), DataFolder("big", "sub")])

@dataset()
class SharedFile(File):
    PATH = linkfile("one", "big", "sub/one.csv")

@dataset(Folder)
def in_data_folder():
    return {{"path": DataFolder("big", "sub")}}

@dataset(File)
def gone() -> File:
    return None
"""


@pytest.fixture
def linked(plugins, data, server):
    server.contents["a.txt"] = b"documents"
    return one(plugins, LINKS.format(url=server.url, digest=sha(b"corpus")))


def test_links_to_other_datasets(linked, data):
    task = linked.prepare("com.example.by.class")
    assert task.documents.path.read_bytes() == b"documents"
    assert task.documents.id == "com.example.base@image"  # it belongs to the other dataset
    assert task.extra == str(data / "data/image/com/example/by/class")
    assert linked.prepare("com.example.by_name").documents == task.documents
    folder = linked.prepare("com.example.linked").path
    assert sorted(os.listdir(folder)) == ["docs", "same"]
    assert (folder / "docs" / "a.txt").read_bytes() == b"documents"


def test_cyclic_links_are_reported(linked, data):
    with pytest.raises(errors.CatalogError, match="cyclic links") as caught:
        linked.prepare("com.example.a")
    assert "com.example.a -> com.example.b -> com.example.a" in str(caught.value)
    with pytest.raises(errors.CatalogError, match="depend on one another: "):
        linked.prepare("com.example.circle")
    assert paths_below(data) == []


def test_manual_files_are_asked_for_once(linked, tmp_path, plugins):
    with pytest.raises(errors.CatalogError, match="the file or folder 'corpus'") as caught:
        linked.prepare("com.example.signed")
    assert "https://example.org/form" in caught.value.hint
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"not it")
    asked = []

    def ask(question):
        asked.append(question)
        return f"{mine}\n"

    asking = catalog.Catalog(ask=ask)
    with pytest.raises(errors.IntegrityError, match=r"wrong bytes for 'mine\.txt'"):
        asking.prepare("com.example.signed")
    mine.write_bytes(b"corpus")
    assert asking.prepare("com.example.signed").path == mine
    assert len(asked) == 2
    assert "https://example.org/form" in asked[0]
    assert linked.prepare("com.example.signed").path == mine  # remembered
    found = run(plugins, "prepare", "com.example.signed").stdout
    assert json.loads(found)["path"] == str(mine)


def test_the_command_line_takes_the_path_of_a_manual_file(linked, tmp_path, plugins):
    (tmp_path / "mine.txt").write_bytes(b"corpus")
    refused = run(plugins, "prepare", "com.example.signed", check=False)
    assert refused.returncode == 1
    assert "--path corpus=PATH" in refused.stderr
    given = f"corpus={tmp_path / 'mine.txt'}"
    run(plugins, "download", "com.example.signed", "--path", given)
    assert linked.prepare("com.example.signed").path == tmp_path / "mine.txt"


def test_data_folders(linked, tmp_path, data):
    with pytest.raises(errors.CatalogError, match="the data folder 'big' is not set"):
        linked.prepare("com.example.shared")
    (tmp_path / "big" / "sub").mkdir(parents=True)
    (tmp_path / "big" / "sub" / "one.csv").write_text("1")
    settings = places.UserSettings(data)
    with pytest.raises(errors.CatalogError, match="is no folder"):
        settings.set_datafolder("big", tmp_path / "absent")
    settings.set_datafolder("big", tmp_path / "big")
    assert (linked.prepare("com.example.shared").path / "one.csv").read_text() == "1"
    assert linked.prepare("com.example.shared.file").path.read_text() == "1"
    assert linked.prepare("com.example.in_data_folder").path == tmp_path / "big" / "sub"


def test_a_definition_that_returns_nothing_is_named_with_its_line(linked):
    with pytest.raises(
        errors.CatalogError, match=r"example\.py, line \d+: com\.example\.gone"
    ) as e:
        linked.prepare("com.example.gone")
    assert e.value.file.endswith("example.py")
    assert e.value.line > 3


WAYBACK = """
@dataset()
class OneFile(File):
    PATH = wayback_documents("data", "http://gone.example/data.csv", timestamp="20200101")

@dataset()
class Pages(File):
    PATH = wayback_documents("20200101", lambda: ["http://gone.example/a", "http://no/b"])
"""


def test_what_is_gone_comes_from_the_archive(plugins, data, server, monkeypatch):
    monkeypatch.setenv("PKGDATA_REWRITE", f"https://web.archive.org/web/={server.url}")
    monkeypatch.setenv("PKGDATA_RETRIES", "0")
    server.contents["20200101id_/http://gone.example/data.csv"] = b"1,2\n"
    server.contents["20200101id_/http://gone.example/a"] = b"a page"
    found = one(plugins, WAYBACK)
    assert found.prepare("com.example.one.file").path.read_bytes() == b"1,2\n"
    lines = found.prepare("com.example.pages").path.read_text().splitlines()
    first, second = map(json.loads, lines)
    assert (first["url"], first["contents"]) == ("http://gone.example/a", "a page")
    assert (second["url"], second["available"]) == ("http://no/b", False)


VARIANTS = """
class Sizes(AxesVariants):
    size = Axis(["small", "large"], default="small")
    lang = Axis(type=str)

@dataset(variants=Sizes)
class Family(Dataset):
    def config(self, size, lang) -> Generic:
        return Generic(size=size, lang=lang)
"""


def test_variants(plugins, data):
    found = one(plugins, VARIANTS)
    ds = found.prepare("com.example.family[lang=fr]")
    assert (ds.size, ds.lang) == ("small", "fr")
    assert ds.id == "com.example.family[lang=fr,size=small]@image"
    assert found.prepare("com.example.family", variant={"lang": "de", "size": "large"}).lang == "de"
    for selector, problem in [
        ("", "the variant needs a value of 'lang'"),
        ("[lang=fr,size=huge]", "expected one of 'small', 'large'"),
        ("[lang=fr,x=1]", "no axis 'x'"),
        ("[lang", "expected"),
    ]:
        with pytest.raises(errors.CatalogError, match=problem):
            found.prepare(f"com.example.family{selector}")
