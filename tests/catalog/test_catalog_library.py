"""Repositories, the index, searching, and looking after a catalog."""

from __future__ import annotations

import contextlib
import html.parser
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from cataloging import HEAD, one, paths_below, run, zipped
from chromium import Chromium

import pkgdata
from pkgdata import catalog, errors
from pkgdata.catalog import active, index, repository, upkeep

TWO = """
@datatags("image", "digits")
@datatasks("image classification")
@dataset(ImageClassification, url="https://example.org/one")
def first():
    '''The first one.'''
    return {{}}

@datatags("text")
@filedownloader("a.txt", "{url}a.txt")
@dataset(File)
def second(a):
    '''The second one.

    With more to say.
    '''
    return {{"path": a}}
"""


@pytest.fixture
def two(plugins, data, server):
    server.contents["a.txt"] = b"hello"
    return one(plugins, TWO.format(url=server.url))


# -- searching -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "found"),
    [
        ([], ["first", "second"]),
        (["FIRST"], ["first"]),
        (["example.*s"], ["first", "second"]),
        (["tag:dig"], ["first"]),
        (["tag:^dig$"], []),
        (["task:classif"], ["first"]),
        (["repo:ima"], ["first", "second"]),
        (["repository:text"], []),
        (["type:ImageClassification"], ["first"]),
        (["type:pkgdata.catalog.types.base.file"], ["second"]),
        (["type:Base"], ["first", "second"]),
        (["type:Image"], []),
        (["type:.*Image.*"], ["first"]),
        (["tag:text", "second"], ["second"]),
        (["tag:text", "first"], []),
    ],
)
def test_search_terms(two, terms, found):
    assert [record.id for record in two.search(*terms)] == [f"com.example.{x}" for x in found]


def test_a_term_that_is_no_regular_expression(two):
    with pytest.raises(errors.CatalogError, match=r"'\(' is not a regular expression"):
        two.search("tag:(")


def test_conditions_match_definitions_as_well_as_records(two):
    found = two.find("com.example.first")
    condition = index.AndCondition(index.TagCondition("digits"), index.Condition.parse("repo:i"))
    assert condition.match(found)
    either = index.OrCondition(index.IDCondition("nothing"), index.TypeCondition("Base"))
    assert either.match(found)
    assert repr(condition) == "tag ~ digits AND repository ~ i"


def test_a_record_has_the_facts_of_a_definition(two):
    record = two.search("second")[0]
    found = record.load()
    assert (record.title, record.description) == ("The second one.", "With more to say.")
    assert (record.title, record.description) == (found.name, found.description)
    assert (record.path, record.line) == (found.file, found.line)


# -- the index -------------------------------------------------------------------------------


def loads(monkeypatch):
    """Return a list that gets the file of each definition module that is loaded."""
    found = []
    real = repository.Repository.definitions_in

    def counted(self, file):
        found.append(file)
        return real(self, file)

    monkeypatch.setattr(repository.Repository, "definitions_in", counted)
    return found


def test_searching_again_loads_nothing(plugins, data, two, monkeypatch, tmp_path):
    assert len(two.search()) == 2
    loaded = loads(monkeypatch)
    assert len(two.search()) == 2
    assert len(catalog.Catalog().search("tag:text")) == 1
    assert loaded == []
    assert len(list((tmp_path / "cache" / index.BUCKET).iterdir())) == 1


def test_the_index_needs_no_import_of_the_plugin(plugins, two):
    assert run(plugins, "search", "tag:text").stdout == "[image] com.example.second (File)\n"
    package = plugins.package / "__init__.py"
    package.write_text(package.read_text())  # the same bytes, another time: not the same file
    assert run(plugins, "search", "tag:text").stdout == "[image] com.example.second (File)\n"
    mark = package.stat()
    package.write_text("raise SystemExit('loaded')".ljust(mark.st_size)[: mark.st_size])
    os.utime(package, ns=(mark.st_atime_ns, mark.st_mtime_ns))
    assert run(plugins, "search", "tag:text").stdout == "[image] com.example.second (File)\n"


def test_a_changed_a_new_and_a_removed_file_are_noticed(plugins, data, monkeypatch):
    package = plugins.add({"com/a.py": "@dataset(Base)\ndef one():\n    return {}\n"})
    plugins.write(package, "com/b.py", "@dataset(Base)\ndef two():\n    return {}\n")
    found = catalog.Catalog()
    assert [x.id for x in found.search()] == ["com.a.one", "com.b.two"]
    loaded = loads(monkeypatch)
    plugins.write(package, "com/a.py", "@dataset(Base)\ndef ore():\n    return {}\n")
    path = plugins.lib / package / "config" / "com" / "a.py"
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))  # coarse clocks show no change
    assert [x.id for x in found.search()] == ["com.a.ore", "com.b.two"]
    assert loaded == ["config/com/a.py"]
    assert found.find("com.a.ore").id == "com.a.ore"
    plugins.write(package, "org/c.py", "@dataset(Base)\ndef three():\n    return {}\n")
    (plugins.lib / package / "config/com/b.py").unlink()
    assert [x.id for x in found.search()] == ["com.a.ore", "org.c.three"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"release": "0"}', b"\xff\xfe", None])
def test_a_damaged_index_is_rebuilt(two, content, tmp_path):
    assert len(two.search()) == 2
    (file,) = (tmp_path / "cache" / index.BUCKET).iterdir()
    if content is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(content)
    # what is no file is set aside, and reported
    told = pytest.warns(errors.CacheWarning) if content is None else contextlib.nullcontext()
    with told:
        assert len(catalog.Catalog().search()) == 2


def test_without_a_writable_cache_definitions_are_loaded(two, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(tmp_path / "file"))
    assert len(catalog.Catalog().search()) == 2


# -- what does not load ----------------------------------------------------------------------

GOOD = "@dataset(Base)\ndef good():\n    return {}\n"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("def broken(:\n    pass\n", 4, "SyntaxError"),
        ("x = 1\nraise ValueError('why')\n", 5, "ValueError: why"),
        ("import not_installed_at_all\n", 4, "ModuleNotFoundError"),
        ("@dataset(Base, id='a..b')\ndef f():\n    pass\n", 4, "is not a valid dataset name"),
        (
            "@filedownloader('a.txt', 'https://h/a')\n@filedownloader('a.csv', 'https://h/b')\n"
            "@dataset(Base)\ndef f(a):\n    pass\n",
            4 if sys.version_info >= (3, 11) else 7,  # where Python says that a decorator is called
            "two resources that are named 'a'",
        ),
    ],
)
def test_a_broken_definition_is_named_and_the_others_work(plugins, data, text, line, problem):
    package = plugins.add({"com/good.py": GOOD})
    path = plugins.lib / package / "config/com/broken.py"
    path.write_text(HEAD + text)
    found = catalog.Catalog()
    with pytest.warns(errors.PkgdataWarning, match="its datasets are left out") as caught:
        assert [x.id for x in found.search()] == ["com.good.good"]
    message = str(caught[0].message)
    assert f"{path}, line {line}: " in message
    assert problem in message
    assert found.find("com.good.good").prepare().id == "com.good.good@image"
    (error,) = found.problems()
    assert (error.file, error.line) == (str(path), line)
    with pytest.raises(errors.UnknownDatasetError) as caught:
        found.find("com.broken.f")
    assert str(path) in caught.value.hint
    # once it is mended, it is there
    path.write_text(HEAD + GOOD)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert [x.id for x in found.search()] == ["com.broken.good", "com.good.good"]


@pytest.mark.parametrize("group", ["pkgdata.repositories", "datamaestro.repositories"])
def test_a_repository_that_does_not_load_is_a_warning(plugins, two, group):
    plugins.add({}, name="broken", group=group, init="import not_installed_at_all\n")
    found = catalog.Catalog()
    with pytest.warns(errors.PkgdataWarning, match="'broken'.*does not load.*not_installed"):
        assert len(found.search()) == 2
    with pytest.warns(errors.PkgdataWarning, match="'broken'"):
        assert [r.id for r in catalog.Catalog().repositories()] == ["image"]
    with pytest.raises(errors.CatalogError, match="does not load"):
        found.repository("broken")
    told = run(plugins, "search")
    assert told.stdout.count("\n") == 2
    assert "pkgdata: warning: the repository 'broken'" in told.stderr


def test_unknown_names_suggest_similar_ones(two, plugins):
    with pytest.raises(errors.UnknownDatasetError, match=r"'com\.exmple\.first'") as caught:
        two.find("com.exmple.first")
    assert caught.value.close[0] == "com.example.first"
    assert isinstance(caught.value, KeyError)
    told = run(plugins, "prepare", "frist", check=False)
    assert told.returncode == 1
    assert "no dataset is named 'frist'" in told.stderr


def test_a_name_in_two_repositories(two, plugins, data):
    plugins.add({"com/example.py": TWO.format(url="https://h/")}, name="other")
    found = catalog.Catalog()
    with pytest.raises(errors.CatalogError, match=r"com\.example\.first is defined 2 times") as e:
        found.find("com.example.first")
    assert str(e.value).count("example.py, line ") == 2
    assert "com.example.first@image" in e.value.hint
    assert found.find("com.example.first@other").repository.id == "other"
    with pytest.raises(errors.UnknownDatasetError):
        found.find("com.example.first@third")
    assert len(found.search("first")) == 2


def test_a_name_twice_in_one_repository(plugins, data):
    plugins.add({"com/a.py": GOOD, "com/b.py": GOOD.replace("(Base)", "(Base, id='com.a.good')")})
    with pytest.raises(errors.CatalogError, match=r"com\.a\.good is defined 2 times"):
        catalog.Catalog().find("com.a.good")


def test_names_of_the_08_line_are_known(plugins, data):
    plugins.add({"com/a.py": "@dataset(Base)\ndef my_data():\n    return {}\n"})
    assert catalog.find_dataset("com.a.my.data").id == "com.a.my_data"


def test_a_module_next_to_a_folder_of_its_name(plugins, data):
    plugins.add({"com/a.py": GOOD, "com/a/b.py": GOOD, "org/__init__.py": GOOD})
    names = [x.id for x in catalog.Catalog().search()]
    assert names == ["com.a.b.good", "com.a.good", "org.good"]


# -- repositories ----------------------------------------------------------------------------

CLASS = """
from pkgdata.catalog import Repository

class Repo(Repository):
    NAMESPACE = "spec"
    DESCRIPTION = "Spectra of stars"
"""


def test_repositories_as_packages_and_as_classes(plugins, two, data):
    plugins.add({"org/a.py": GOOD}, name="entry", init=CLASS)
    found = {r.id: r for r in catalog.Catalog().repositories()}
    assert set(found) == {"image", "spec"}
    assert found["image"].description == "Things of image."
    assert found["spec"].description == "Spectra of stars"
    assert [d.id for d in found["spec"]] == ["org.a.good"]
    assert found["spec"].search("org.a.good").repository is found["spec"]
    assert found["spec"].datapath == data / "data" / "spec"
    assert catalog.Catalog().repository("spec") is catalog.Catalog().repository("entry")
    assert run(plugins, "repositories").stdout == (
        "spec: Spectra of stars\nimage: Things of image.\n"
    )
    listed = json.loads(run(plugins, "repositories", "--json").stdout)
    assert [one["datasets"] for one in listed] == [1, 2]


def test_a_catalog_of_given_repositories(plugins, two):
    other = plugins.add({"org/a.py": GOOD}, name="other")
    module = __import__(other)
    found = catalog.Catalog(repositories=[module])
    assert [x.id for x in found.search()] == ["org.a.good"]


def test_a_definition_outside_of_a_repository_needs_a_name(tmp_path, data):
    @catalog.dataset(catalog.Generic, id="org.example.mine")
    def mine():
        return {"x": 1}

    assert mine.prepare().x == 1
    assert pkgdata.prepare_dataset(mine).id == "org.example.mine"
    assert mine.datapath == data / "data/__custom__/test_catalog_library/org/example/mine"
    with pytest.raises(errors.CatalogError, match="a dataset without a name"):

        @catalog.dataset(catalog.Generic)
        def other():
            return {}


def test_info(two, plugins):
    told = run(plugins, "info", "com.example.second").stdout.splitlines()
    assert told[:2] == ["com.example.second", "The second one."]
    assert told[-1] == "With more to say."
    facts = json.loads(run(plugins, "info", "com.example.first", "--json").stdout)
    assert facts["tags"] == ["digits", "image"]
    assert facts["types"][0].endswith("ImageClassification")


# -- where data lie --------------------------------------------------------------------------


def test_three_ways_to_set_the_data_folder(two, plugins, data, tmp_path, monkeypatch):
    assert str(pkgdata.prepare_dataset("com.example.second").path).startswith(str(data))
    there = pkgdata.prepare_dataset("com.example.second", tmp_path / "there")
    assert str(there.path).startswith(str(tmp_path / "there"))
    given = json.loads(
        run(plugins, "--data", tmp_path / "cli", "prepare", "com.example.second").stdout
    )
    assert given["path"] == str(tmp_path / "cli/data/image/com/example/second/a.txt")
    monkeypatch.delenv("PKGDATA_CATALOG_DIR")
    ours = pkgdata.prepare_dataset("com.example.second")
    assert str(ours.path).startswith(str(tmp_path / "home"))
    assert "pkgdata" in ours.path.parts


def test_without_downloads_it_says_where_files_would_be(two, plugins, data, server):
    found = json.loads(run(plugins, "prepare", "com.example.second", "--no-downloads").stdout)
    assert found["path"] == str(data / "data/image/com/example/second/a.txt")
    assert server.requests == []


# -- orphans ---------------------------------------------------------------------------------


@pytest.fixture
def with_orphans(two, data):
    two.prepare("com.example.second")
    for name in ("image/com/example/old", "image/org/gone/deep", "nobody/x"):
        (data / "data" / name).mkdir(parents=True)
        (data / "data" / name / "file").write_bytes(bytes(1000))
    return two


def test_orphans_are_what_no_definition_owns(with_orphans, data, plugins):
    found = upkeep.orphans(with_orphans)
    below = [one.path.relative_to(data / "data").as_posix() for one in found]
    assert below == ["image/com/example/old", "image/org", "nobody"]
    assert found[2].reason == "no repository 'nobody' is installed"
    told = run(plugins, "orphans", "--size").stdout.splitlines()
    assert told[0] == f"1 kB\t{data}/data/image/com/example/old".replace("1 kB", "1 kB")
    assert run(plugins, "orphans").stdout.splitlines() == [str(one.path) for one in found]


def test_orphans_are_removed_after_a_question(with_orphans, data, plugins):
    refused = run(plugins, "orphans", "--remove", check=False)
    assert refused.returncode == 2
    assert "no terminal to ask on" in refused.stderr
    assert (data / "data/nobody/x/file").exists()
    done = run(plugins, "orphans", "--remove", "--yes")
    assert "3 folders removed" in done.stderr
    assert paths_below(data / "data") == ["image/com/example/second/a.txt"]
    assert run(plugins, "orphans").stdout == ""


def test_no_orphans_are_guessed_where_definitions_do_not_load(with_orphans, data, plugins):
    package = plugins.package
    (package / "config/com/broken.py").write_text("def f(:")
    with pytest.raises(errors.CatalogError, match="owns is not known"):
        upkeep.orphans(catalog.Catalog())
    refused = run(plugins, "orphans", "--remove", "--yes", check=False)
    assert refused.returncode == 1
    assert (data / "data/nobody/x/file").exists()


def test_a_dataset_below_another_one_is_no_orphan(plugins, data):
    plugins.add({"com/a.py": GOOD.replace("(Base)", "(Base, id='')"), "com/a/b.py": GOOD})
    for name in ("com/a/b/good", "com/a/files"):
        (data / "data/image" / name).mkdir(parents=True)
    assert upkeep.orphans(catalog.Catalog()) == []


# -- check -----------------------------------------------------------------------------------

CHECKED = """
@filedownloader("a.txt", "{url}a.txt", size=5)
@filedownloader("b.txt", "{url}gone.txt", mirrors=["{url}a.txt"])
@filedownloader("c.txt", "{url}a.txt", size=6)
@dataset(File)
def checked(a, b, c):
    return {{"path": a}}
"""


def test_check_asks_all_sources(plugins, data, server):
    server.contents["a.txt"] = b"hello"
    found = one(plugins, CHECKED.format(url=server.url))
    answers = upkeep.check(found, [found.find("com.example.checked")])
    states = {(x.resource, x.url.rpartition("/")[2]): x.status for x in answers}
    assert states == {
        ("a", "a.txt"): "ok",
        ("b", "gone.txt"): "failed",
        ("b", "a.txt"): "ok",
        ("c", "a.txt"): "failed",
    }
    assert all(request.method == "HEAD" for request in server.requests)
    told = run(plugins, "check", "checked", "-o", data.parent / "out.json", check=False)
    assert told.returncode == 3
    assert "4 sources checked, 2 failed" in told.stderr
    rows = json.loads((data.parent / "out.json").read_text())
    assert {row["message"] for row in rows if row["resource"] == "c"} == {
        "5 bytes, the definition says 6"
    }


# -- new definitions -------------------------------------------------------------------------


@pytest.mark.slow
def test_create_dataset_writes_a_definition_that_loads(two, plugins, data):
    package = plugins.package
    told = run(plugins, "create-dataset", "https://data.example.org/stars/2024-b/").stdout.strip()
    assert told == str(package / "config/org/example/data/stars/_2024_b.py")
    assert "org.example.data.stars.2024-b" in [x.id for x in catalog.Catalog().search()]
    run(plugins, "create-dataset", "image", "org.example.galaxies")
    found = catalog.find_dataset("org.example.galaxies")
    assert found.name == "org.example.galaxies"
    again = run(plugins, "create-dataset", "image", "org.example.galaxies", check=False)
    assert again.returncode == 1
    assert "already exists" in again.stderr
    assert run(plugins, "create-dataset", "a..b", check=False).returncode == 1
    assert run(plugins, "create-dataset", "nobody", "a.b", check=False).returncode == 1


@pytest.mark.slow
def test_data_folders_by_the_command_line(two, plugins, data, tmp_path):
    run(plugins, "datafolders", "set", "big", tmp_path)
    assert run(plugins, "datafolders", "list").stdout == f"big\t{tmp_path}\n"
    assert json.loads((data / "settings.json").read_text()) == {
        "datafolders": {"big": str(tmp_path)}
    }
    (data / "settings.json").write_text('{"datafolders": {"big": "$CENTRE_DATA/big"}}')
    wrong = run(plugins, "datafolders", "list", check=False)
    assert (
        "settings.json: big = '$CENTRE_DATA/big': expected $CENTRE_DATA to be set" in wrong.stderr
    )
    wrong = run(plugins, "datafolders", "set", "big", tmp_path / "absent", check=False)
    assert wrong.returncode == 1


# -- copies ----------------------------------------------------------------------------------

COPIED = """
@filedownloader("a.txt", "{url}a.txt")
@dataset(File)
def base(a):
    return {{"path": a}}

@reference("base", reference="com.example.base")
@manual("mine")
@zipdownloader("files", "{url}a.zip")
@dataset(Generic)
def whole(base, mine, files):
    return {{"base": base, "mine": mine, "files": files}}
"""

EXPECTED = [
    "data/image/com/example/base/a.txt",
    "data/image/com/example/whole/files/a.csv",
    "data/image/com/example/whole/files/b/c.csv",
    "data/image/com/example/whole/mine",
]


@pytest.fixture
def copied(plugins, data, server, tmp_path):
    server.contents["a.txt"] = b"hello"
    server.contents["a.zip"] = zipped({"a.csv": b"a", "b/c.csv": b"c"})
    (tmp_path / "mine.txt").write_bytes(b"mine")
    found = one(plugins, COPIED.format(url=server.url))
    found.told["mine"] = str(tmp_path / "mine.txt")
    return found


def test_a_copy_is_found_where_it_is(copied, tmp_path, monkeypatch, server):
    with pytest.raises(errors.CatalogError, match="is not prepared here: files is missing"):
        upkeep.copy(copied, "com.example.whole", str(tmp_path / "to"))
    copied.prepare("com.example.whole")
    report = upkeep.copy(copied, "com.example.whole", str(tmp_path / "to"))
    assert sorted(report.succeeded) == EXPECTED == paths_below(tmp_path / "to")
    asked = len(server.requests)
    monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    ds = pkgdata.prepare_dataset("com.example.whole", tmp_path / "to")
    assert ds.base.path.read_bytes() == b"hello"
    assert Path(ds.mine).read_bytes() == b"mine"
    assert str(ds.mine).startswith(str(tmp_path / "to"))
    assert len(server.requests) == asked


def test_an_interrupted_copy_is_resumed(copied, tmp_path):
    copied.prepare("com.example.whole")
    upkeep.copy(copied, "com.example.whole", str(tmp_path / "to"))
    kept = tmp_path / "to" / EXPECTED[0]
    later = time.time_ns() + 10**12
    os.utime(kept, ns=(later, later))
    (tmp_path / "to" / EXPECTED[1]).unlink()
    (tmp_path / "to" / EXPECTED[2]).write_bytes(b"cut off here")
    stale = tmp_path / "to" / EXPECTED[3]
    mine = stale.read_bytes()
    stale.write_bytes(bytes(len(mine)))  # of the same size, and older
    os.utime(stale, ns=(1, 1))
    upkeep.copy(copied, "com.example.whole", str(tmp_path / "to"))
    assert paths_below(tmp_path / "to") == EXPECTED
    assert (tmp_path / "to" / EXPECTED[2]).read_bytes() == b"c"
    assert stale.read_bytes() == mine
    assert kept.stat().st_mtime_ns == later  # left alone
    upkeep.copy(copied, "com.example.whole", str(tmp_path / "to"), force=True)
    assert kept.stat().st_mtime_ns != later


@pytest.mark.integration
def test_a_copy_to_a_bucket(copied, ceph, plugins, monkeypatch):
    pytest.importorskip("obstore", reason="needs obstore")
    copied.prepare("com.example.whole")
    bucket = ceph.make_bucket()
    secrets = {"aws_access_key_id": ceph.access_key, "aws_secret_access_key": ceph.secret_key}
    store = pkgdata.Store(f"s3://{bucket}/data sets", secrets=secrets, endpoint=ceph.endpoint)
    upkeep.copy(copied, "com.example.whole", store)
    assert sorted(store) == EXPECTED
    assert store[EXPECTED[0]] == b"hello"
    # by the command line, with the environment's keys; what is there is left alone
    for name, value in secrets.items():
        monkeypatch.setenv(name.upper(), value)
    store.delete(EXPECTED[0])
    where = f"s3://{ceph.endpoint}/{bucket}/data sets"
    told = run(plugins, "copy", "com.example.whole", where)
    assert "4 files in s3://" in told.stderr
    assert sorted(store) == EXPECTED


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/x", "s3://bucket/x"),
        ("./here", "./here"),
        ("me@host:/srv/data", "sftp://me@host/srv/data"),
        ("host:data", "sftp://host/~/data"),
        ("host:~/data", "sftp://host/~/data"),
        ("me@host", "sftp://me@host/the/root"),
        ("folder", "folder"),
    ],
)
def test_hosts_are_named_as_scp_has_them(text, url):
    assert upkeep.destination(text, Path("/the/root")) == url


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="sshd is started as on Unix")
def test_a_copy_to_another_computer(copied, tmp_path, monkeypatch):
    from sshd import Sshd

    copied.prepare("com.example.whole")
    work = tmp_path / "sshd"
    work.mkdir()
    with Sshd(work) as server:
        monkeypatch.setenv("PATH", server.path)
        for _ in range(2):  # the second time there is nothing to do
            upkeep.copy(copied, "com.example.whole", server.url(f"{tmp_path}/far away"))
            assert paths_below(tmp_path / "far away") == EXPECTED
    assert (tmp_path / "far away" / EXPECTED[0]).read_bytes() == b"hello"


# -- the page --------------------------------------------------------------------------------

ODD = """
@datatags("a b", "c++", "<i>")
@datatasks("find \\"it\\"")
@dataset(Base, url="javascript:alert(1)", size=1_500_000, license="CC0-1.0 <b>")
def odd():
    '''A <b>bold</b> & "quoted" one.

    </script><script>document.title = "gone"</script>
    '''
    return {}
"""


class Reader(html.parser.HTMLParser):
    """Collects the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.text, self.inside = "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.text += data


@pytest.fixture
def page(two, plugins, tmp_path):
    plugins.write(plugins.package.name, "org/odd.py", ODD)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "other.txt").write_text("stays")
    told = run(plugins, "site", tmp_path / "site", "--title", "Data & <more>")
    assert "3 datasets in" in told.stderr
    assert (tmp_path / "site" / "other.txt").exists()
    return (tmp_path / "site" / "index.html").read_text("utf-8")


def test_the_page_has_all_in_its_text(page):
    text = Reader(page).text
    for words in ("Data & <more>", "com.example.first", "With more to say.", "3 datasets", "c++"):
        assert words in text
    assert 'document.title = "gone"' in text  # as text
    assert "Size 1.5 MB" in text
    assert "Licence CC0-1.0 <b>" in text
    assert "prepare_dataset('org.odd.odd')" in text
    assert "javascript:" not in page
    assert "com.example.second" in text


def test_a_size_is_that_of_the_resources_if_all_have_one(two, plugins):
    plugins.write(
        plugins.package.name,
        "org/sizes.py",
        """
        @filedownloader("b", "mem://x/b", size=20)
        @filedownloader("a", "mem://x/a", size=100)
        @dataset(Base)
        def both(): return {}

        @filedownloader("b", "mem://x/b")
        @filedownloader("a", "mem://x/a", size=100)
        @dataset(Base)
        def one(): return {}
        """,
    )
    found = {one.id: one.size for one in two.search("org.sizes")}
    assert found == {"org.sizes.both": 120, "org.sizes.one": None}


@pytest.mark.slow
def test_the_page_in_a_browser(page, tmp_path):
    shutil.copy(tmp_path / "site/index.html", tmp_path / "index.html")
    url = (tmp_path / "index.html").as_uri()
    shown = "[...document.querySelectorAll('article:not([hidden])')].map((a) => a.id)"
    with Chromium(tmp_path / "chromium") as browser:
        browser.open(url, script=False)
        assert browser.evaluate("document.querySelectorAll('article').length") == 3
        assert browser.evaluate("document.getElementById('search').hidden") is True
        browser.open(url)
        assert browser.evaluate("document.title") == "Data & <more>"
        assert browser.evaluate("document.activeElement.id") == "terms"
        browser.type("tag:image")
        assert browser.evaluate(shown) == ["com.example.first@image"]
        assert browser.evaluate("document.getElementById('count').textContent") == (
            "1 of 3 datasets"
        )
        for terms, expected in [
            ("example", ["com.example.first@image", "com.example.second@image"]),
            ("example tag:text", ["com.example.second@image"]),
            ("type:file", ["com.example.second@image"]),
            ("type:fil", []),
            ("repo:ima task:classification", ["com.example.first@image"]),
            ('task:"image classif"', ["com.example.first@image"]),
            ("tag:c++", ["org.odd.odd@image"]),
            ("(", []),
            ("BOLD quoted", ["org.odd.odd@image"]),
            ('"bold quoted"', []),
            ("cc0", ["org.odd.odd@image"]),
            ("prepare_dataset", []),
            ("", ["com.example.first@image", "com.example.second@image", "org.odd.odd@image"]),
        ]:
            browser.evaluate(
                f"input.value = {json.dumps(terms)}; input.dispatchEvent(new Event('input')); 0"
            )
            assert browser.evaluate(shown) == expected, terms
        # a click on a tag searches for it, and the address keeps the search
        for mark in ("a b", "c++", "<i>", 'find "it"'):
            click = f"[...document.querySelectorAll('.mark')].find((m) => m.innerText === {mark!r})"
            browser.evaluate(f"{click}.click(); 0")
            assert browser.evaluate(shown) == ["org.odd.odd@image"], mark
        address = browser.evaluate("location.href")
        browser.open("about:blank")
        browser.open(address)
        assert browser.evaluate(shown) == ["org.odd.odd@image"]


def test_a_page_that_cannot_be_written(two, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.CatalogError, match="cannot be written"):
        upkeep.write_site(two, tmp_path / "file", "x")


def test_contexts_choose_the_catalog(two, data, tmp_path):
    ours = catalog.Catalog(tmp_path / "x")
    with ours.active():
        assert active.current() is ours
        assert catalog.get_dataset("com.example.second").path.is_relative_to(tmp_path / "x")
    assert active.current() is not ours
    assert catalog.get_dataset("com.example.second", ours).path.is_relative_to(tmp_path / "x")
    with pytest.raises(errors.CatalogError, match="is not a dataset"):
        ours.prepare(3)
