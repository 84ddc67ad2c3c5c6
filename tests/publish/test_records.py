"""Registries of what DOIs hold: from imitations of Zenodo, Figshare, doi.org and a Dataverse."""

from __future__ import annotations

import hashlib
from urllib.parse import quote

import pytest
from hosts import Sleeps, items_of, make_files, publish
from servers.figshare import Figshare as FigshareServer
from servers.hosting import Asked, Hosting, Refusal, Reply, answer
from servers.zenodo import Zenodo as ZenodoServer

import pkgdata
from pkgdata import cli
from pkgdata.base.hashes import Digest
from pkgdata.core.registry import Entry, Registry
from pkgdata.errors import ConfigError, ObjectNotFoundError, RegistryError, StoreError
from pkgdata.publish import records
from pkgdata.publish.figshare import Figshare
from pkgdata.publish.zenodo import Zenodo

FILES = {"a.fits": b"A" * 3500, "dust map.fits": bytes(range(250)) * 8}


class Dataverse(Hosting):
    """A Dataverse with one dataset, and the part of doi.org that tells where DOIs lead."""

    def __init__(self) -> None:
        super().__init__("doi", "site")
        self.site = self.origin("site")
        #: Where each DOI leads.
        self.targets = {"10.7910/DVN/ABC": f"{self.site}/citation?persistentId=doi:10.7910/DVN/ABC"}
        self.contents = {1: b"# read me\n", 2: b"a,b\n1,2\n"}

    def route(self, asked: Asked) -> Reply:
        """Answer a request; see `Hosting.route`."""
        if "authorization" in asked.headers:
            raise Refusal(501, "a token is sent where none is needed")
        if asked.port == "doi":
            doi = asked.path.removeprefix("/api/handles/")
            if doi not in self.targets:
                raise Refusal(404, {"responseCode": 100, "handle": doi})
            admin = {"type": "HS_ADMIN", "data": {"value": {"index": 200}}}
            url = {"type": "URL", "data": {"format": "string", "value": self.targets[doi]}}
            return answer({"responseCode": 1, "handle": doi, "values": [admin, url]})
        if asked.path.startswith("/api/access/datafile/"):
            number = int(asked.path.rpartition("/")[2])
            if number == 2 and asked.query.get("format") != "original":
                return Reply(200, b"a\tb\n1\t2\n")
            return Reply(200, self.contents[number])
        if asked.path != "/api/datasets/:persistentId":
            raise Refusal(404, {"status": "ERROR"})
        if asked.query["persistentId"] != "doi:10.7910/DVN/ABC":
            raise Refusal(404, {"status": "ERROR", "message": "Dataset not found."})
        return answer({"status": "OK", "data": {"latestVersion": {"files": self.files()}}})

    def files(self):
        """Return the files as the service lists them; the second one is a table."""
        plain = {
            "id": 1,
            "filename": "18f-README.txt",
            "filesize": len(self.contents[1]),
            "checksum": {"type": "SHA-256", "value": hashlib.sha256(self.contents[1]).hexdigest()},
        }
        table = {
            "id": 2,
            "filename": "table.tab",
            "filesize": 9,
            "originalFileFormat": "text/csv",
            "originalFileSize": len(self.contents[2]),
            "originalFileName": "table.csv",
            "md5": hashlib.md5(self.contents[2]).hexdigest(),
        }
        return [
            {"label": "README.txt", "dataFile": plain},
            {"label": "table.tab", "directoryLabel": "tables/2026", "dataFile": table},
        ]


@pytest.fixture
def folder(tmp_path):
    return make_files(tmp_path / "data", FILES)


@pytest.fixture
def zenodo(folder, monkeypatch):
    with ZenodoServer() as server:
        monkeypatch.setitem(records.SITES, "zenodo", server.site)
        publish(folder, zenodo_place(server))
        yield server


def zenodo_place(server, url="zenodo:"):
    server.token = getattr(server, "token", None) or server.make_token()
    return Zenodo(
        url,
        token=server.token,
        endpoint=server.site,
        publish=True,
        metadata={"description": "d", "creators": [{"name": "Doe, Jane"}]},
        sleep=Sleeps(),
    )


@pytest.fixture
def figshare(folder, monkeypatch):
    with FigshareServer() as server:
        monkeypatch.setitem(records.SITES, "figshare", server.api)
        publish(folder, figshare_place(server))
        yield server


def figshare_place(server, url="figshare:"):
    server.token = getattr(server, "token", None) or server.make_token()
    return Figshare(
        url,
        token=server.token,
        endpoint=server.api,
        metadata={"description": "d", "categories": [1], "tags": ["t"]},
        sleep=Sleeps(),
    )


@pytest.fixture
def dataverse(monkeypatch):
    with Dataverse() as server:
        monkeypatch.setitem(records.SITES, "doi", server.origin("doi"))
        yield server


def md5(content):
    return Digest("md5", hashlib.md5(content).hexdigest())


def check_entries(registry, files=FILES):
    assert list(registry) == sorted(files)
    for name, content in files.items():
        assert registry[name].digest == md5(content)
        assert registry[name].size == len(content)


# -- Zenodo ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record", ["doi:10.5281/zenodo.{id}", "https://doi.org/10.5281/ZENODO.{id}/", "zenodo:{id}"]
)
def test_a_record_of_zenodo(zenodo, record):
    (one,) = zenodo.published()
    registry = records.from_record(record.format(id=one.id))
    check_entries(registry)
    base = f"{zenodo.site}/records/{one.id}/files/"
    assert registry["dust map.fits"].urls == (f"{base}dust%20map.fits?download=1",)


def test_a_number_for_all_versions_gives_the_last_one(zenodo, folder):
    (first,) = zenodo.published()
    make_files(folder, {"new.txt": b"new"})
    publish(folder, zenodo_place(zenodo, f"zenodo:{first.id}"))
    registry = records.from_record(f"doi:10.5281/zenodo.{first.concept}")
    check_entries(registry, {**FILES, "new.txt": b"new"})
    last = zenodo.published()[-1]
    assert f"/records/{last.id}/" in registry["a.fits"].urls[0]
    check_entries(records.from_record(f"zenodo:{first.id}"))


def test_the_sandbox_has_its_own_prefix(zenodo, monkeypatch):
    monkeypatch.setitem(records.SITES, "sandbox", zenodo.site)
    monkeypatch.setitem(records.SITES, "zenodo", "https://nowhere.example")
    check_entries(records.from_record(f"doi:10.5072/zenodo.{zenodo.published()[0].id}"))


def test_the_registry_serves_those_who_read(zenodo, tmp_path):
    registry = records.from_record(f"zenodo:{zenodo.published()[0].id}")
    data = pkgdata.PackageData("x", dataurl=(), registry=registry, cache_dir=tmp_path / "c")
    assert (tmp_path / data.get("dust map.fits")).read_bytes() == FILES["dust map.fits"]


def test_a_record_that_is_not_there(zenodo):
    with pytest.raises(ObjectNotFoundError, match="Zenodo answers 404"):
        records.from_record("zenodo:1")


def test_passing_troubles_are_overcome(zenodo, monkeypatch):
    waits = Sleeps()
    monkeypatch.setattr("time.sleep", waits)
    zenodo.fail("GET", "/api/records/", 503, times=2)
    check_entries(records.from_record(f"zenodo:{zenodo.published()[0].id}"))
    assert len(waits) == 2


# -- Figshare ----------------------------------------------------------------------------------


@pytest.mark.parametrize("record", ["doi:10.6084/m9.figshare.{id}", "figshare:{id}"])
def test_an_article_of_figshare(figshare, record):
    (number,) = figshare.articles
    registry = records.from_record(record.format(id=number))
    check_entries(registry)
    assert registry["a.fits"].urls == (
        f"{figshare.origin('downloads')}/files/{figshare.file('a.fits').id}",
    )


@pytest.mark.slow
@pytest.mark.parametrize("record", ["doi:10.6084/m9.figshare.{id}.v1", "figshare:{id}/1"])
def test_a_version_of_an_article(figshare, folder, record):
    (number,) = figshare.articles
    make_files(folder, {f"{n}.txt": b"%d" % n for n in range(120)})
    publish(folder, figshare_place(figshare, f"figshare:{number}"))
    check_entries(records.from_record(record.format(id=number)))
    # over several pages
    assert len(records.from_record(f"figshare:{number}")) == 122


def test_links_are_left_out(figshare):
    figshare.file("a.fits").link_only = True
    registry = records.from_record(f"figshare:{next(iter(figshare.articles))}")
    assert list(registry) == ["dust map.fits"]


def test_an_institutions_own_doi(figshare, dataverse):
    (number,) = figshare.articles
    page = f"https://bath.figshare.com/articles/dataset/2026/{number}"
    dataverse.targets["10.1234/data.5"] = page
    check_entries(records.from_record("doi:10.1234/data.5"))
    dataverse.targets["10.1234/data.5"] = f"{page}/1"
    check_entries(records.from_record("doi:10.1234/data.5"))


# -- Dataverse ---------------------------------------------------------------------------------


def test_a_dataset_of_a_dataverse(dataverse, tmp_path):
    registry = records.from_record("doi:10.7910/DVN/ABC")
    assert list(registry) == ["README.txt", "tables/2026/table.csv"]
    plain, table = registry.values()
    assert plain.digest == Digest("sha256", hashlib.sha256(dataverse.contents[1]).hexdigest())
    assert plain.urls == (f"{dataverse.site}/api/access/datafile/1",)
    # of a table the digest is that of the file that was uploaded, and so is what we read
    assert table.urls == (f"{dataverse.site}/api/access/datafile/2?format=original",)
    assert (table.digest, table.size) == (md5(dataverse.contents[2]), 8)
    data = pkgdata.PackageData("x", dataurl=(), registry=registry, cache_dir=tmp_path / "c")
    path = data.get("tables/2026/table.csv")
    assert (tmp_path / path).read_bytes() == dataverse.contents[2]


def test_a_doi_of_something_else(dataverse):
    dataverse.targets["10.1000/paper"] = f"{dataverse.site}/paper.html"
    with pytest.raises(ConfigError, match="which is none of the known services"):
        records.from_record("doi:10.1000/paper")


def test_a_doi_that_is_not_registered(dataverse):
    with pytest.raises(ObjectNotFoundError, match="404"):
        records.from_record("doi:10.1000/nothing")


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("record", ["", "doi:", "10.5281/zenodo.1", "zenodo:x", "s3://bucket",
                                    "figshare:1/2/3", "doi:10.5281"])  # fmt: skip
def test_what_names_no_record(record):
    with pytest.raises(ConfigError, match="names no record"):
        records.from_record(record)


def test_a_record_without_files(zenodo):
    zenodo.published()[0].files.clear()
    with pytest.raises(RegistryError, match="shows no files"):
        records.from_record(f"zenodo:{zenodo.published()[0].id}")


def test_two_files_of_one_name(figshare):
    figshare.file("a.fits").name = "dust map.fits"
    with pytest.raises(RegistryError, match=r"two files of the name 'dust map\.fits'"):
        records.from_record(f"figshare:{next(iter(figshare.articles))}")


def test_a_name_that_could_leave_its_folder(zenodo):
    files = zenodo.published()[0].files
    files["a.fits"].name = "../../etc/passwd"
    with pytest.raises(pkgdata.UnsafeNameError):
        records.from_record(f"zenodo:{zenodo.published()[0].id}")


def test_an_answer_without_a_digest(figshare):
    figshare.file("a.fits").content = None
    figshare.file("a.fits").supplied_md5 = ""
    with pytest.raises(RegistryError, match=r"'a\.fits': the service tells no digest"):
        records.from_record(f"figshare:{next(iter(figshare.articles))}")


def test_an_answer_that_is_no_json(zenodo, monkeypatch):
    monkeypatch.setattr("time.sleep", Sleeps())
    monkeypatch.setattr(zenodo, "route", lambda asked: Reply(200, b"<html>Down</html>"))
    with pytest.raises(StoreError, match="no JSON: '<html>Down"):
        records.from_record("zenodo:1")


# -- into a registry ---------------------------------------------------------------------------

A = Entry("a", md5(b"a"), 1, ("https://zenodo.example/a",))
SHA = Digest("sha256", hashlib.sha256(b"a").hexdigest())


def test_new_names_are_added_and_the_others_stay():
    old = Registry([Entry("z", SHA, 7), Entry("b", SHA)])
    changes = records.update(old, Registry([A]))
    assert list(changes.registry) == ["z", "b", "a"]
    assert changes.registry["a"] == A
    assert (changes.added, changes.placed) == (["a"], [])


def test_a_stronger_digest_stays_and_the_address_is_added():
    old = Registry([Entry("a", SHA, None, ("https://here.example/a",))])
    changes = records.update(old, Registry([A]))
    urls = ("https://here.example/a", "https://zenodo.example/a")
    assert changes.registry["a"] == Entry("a", SHA, 1, urls)
    assert (changes.added, changes.placed) == ([], ["a"])
    again = records.update(changes.registry, Registry([A]))
    assert again.registry == changes.registry
    assert (again.added, again.placed) == ([], [])


@pytest.mark.parametrize("old", [Entry("a", md5(b"other")), Entry("a", SHA, 2)])
def test_other_bytes_are_refused(old):
    with pytest.raises(RegistryError, match=r"a: .* in the registry, .* in the record"):
        records.update(Registry([old]), Registry([A]))


def run(capsys, *arguments):
    code = cli.main([*map(str, arguments)])
    return code, capsys.readouterr()


def test_the_command_fills_a_registry(zenodo, tmp_path, capsys):
    file = tmp_path / "registry.txt"
    file.write_text(f"# ours\nz {SHA.hex}\n")
    record = f"zenodo:{zenodo.published()[0].id}"
    code, told = run(capsys, "registry", "update", file, "--from", record)
    assert (code, told.out) == (0, "")
    assert told.err == f"{file}: 2 new, 0 with a new address, 0 unchanged\n"
    assert file.read_text().startswith(f"# ours\nz {SHA.hex}\n")
    check_entries(records.from_record(record))
    assert set(Registry.load(file)) == {"z", *FILES}
    before = file.read_bytes()
    _, told = run(capsys, "registry", "update", file, "--from", record)
    assert told.err == f"{file}: 0 new, 0 with a new address, 2 unchanged\n"
    assert file.read_bytes() == before


def test_the_command_makes_a_registry(zenodo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "registry", "update", "--from", f"zenodo:{zenodo.published()[0].id}")[0] == 0
    check_entries(Registry.load("registry.txt"))


def test_the_command_names_what_is_wrong(zenodo, tmp_path, capsys):
    file = tmp_path / "registry.txt"
    file.write_text(f"a.fits {md5(b'other')}\n")
    record = f"zenodo:{zenodo.published()[0].id}"
    code, told = run(capsys, "registry", "update", file, "--from", record)
    assert code != 0
    assert "a.fits: md5:" in told.err
    assert file.read_text() == f"a.fits {md5(b'other')}\n"


def test_what_was_published_is_what_the_record_tells(zenodo, folder):
    """The names, sizes and digests of a record are those of the files that were sent."""
    registry = records.from_record(f"zenodo:{zenodo.published()[0].id}")
    for item in items_of(folder):
        assert registry[item.name].digest == item.digest_by("md5")
        assert registry[item.name].size == item.size
        assert quote(item.name) in registry[item.name].urls[0]
