"""Packages as they are installed: nested, in namespaces, in zip archives, incomplete, damaged."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pkgdata
from pkgdata.core import declaration
from pkgdata.errors import ConfigError, RegistryError, UnknownNameError

SUM = hashlib.sha256(b"a").hexdigest()
ROOT = str(Path(pkgdata.__file__).parent.parent)
TOML = '[package]\ndataurl = ["https://example.org/"]\n'


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Forget what a test declares."""
    monkeypatch.setattr(declaration, "_declared", {})


class Site:
    """A folder on the import path, with packages and what their distributions announce."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def write(self, name, text=""):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def package(self, name, toml=TOML, registry=f"a.txt {SUM}\n", code=None):
        """Make a package; with a dot it lies in a namespace package."""
        folder = name.replace(".", "/")
        self.write(f"{folder}/__init__.py", "raise RuntimeError" if code is None else code)
        for file, text in (("pkgdata.toml", toml), ("registry.txt", registry)):
            if text is not None:
                self.write(f"{folder}/{file}", text)
        return self.folder / folder

    def announce(self, name, value, distribution=None, group="pkgdata.packages"):
        info = f"{(distribution or name).replace('-', '_')}-1.0.dist-info"
        self.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        self.write(f"{info}/entry_points.txt", f"[{group}]\n{name} = {value}\n")

    def zipped(self, file):
        """Pack all of it, and remove it from the folder."""
        target = self.folder.parent / file
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted(self.folder.rglob("*")):
                archive.write(path, path.relative_to(self.folder))
        return target


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return Site(tmp_path / "site")


@pytest.fixture
def commands(site, tmp_path):
    """Return a function that runs a command in a process that sees the site's packages."""

    def run(*words, code=0, path=site.folder):
        done = subprocess.run(
            [sys.executable, *words] if words[0] == "-c" else [sys.executable, "-m", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path), ROOT])},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    return run


# -- names with dots --------------------------------------------------------------------------


def test_a_package_in_a_namespace_is_found_by_its_dotted_name(site):
    folder = site.package("astrons.maps")
    site.announce("astrons-maps", "astrons.maps")
    for name in ("astrons-maps", "astrons.maps"):
        data = declaration.find_package(name)
        assert (data.name, data.package_dir) == ("astrons.maps", str(folder))
        assert list(data.registry) == ["a.txt"]
    assert not {"astrons", "astrons.maps"} & sys.modules.keys()


def test_a_namespace_in_a_namespace_is_found(site):
    folder = site.package("astrons.deep.maps")
    assert declaration.find_package("astrons.deep.maps").package_dir == str(folder)
    toml = site.write("astrons/bare/pkgdata.toml", TOML)  # a namespace package itself
    assert declaration.find_package("astrons.bare").package_dir == str(toml.parent)


def test_the_portion_of_a_namespace_that_has_the_declaration_counts(site, tmp_path, monkeypatch):
    (tmp_path / "first" / "astrons").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    site.write("astrons/pkgdata.toml", TOML)
    assert declaration.find_package("astrons").package_dir == str(site.folder / "astrons")


def test_a_subpackage_has_data_of_its_own(site):
    site.package("mypkg", code="")
    inner = site.package("mypkg.sub", registry=f"b.txt {SUM}\n")
    assert declaration.find_package("mypkg.sub").package_dir == str(inner)
    assert list(declaration.find_package("mypkg").registry) == ["a.txt"]


# -- modules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["datasets.py", "sub/__init__.py", "sub/deep/data.py"])
def test_a_module_declares_the_data_of_its_package(site, module):
    folder = site.package("modpkg", code="")
    site.write("modpkg/sub/__init__.py")
    site.write("modpkg/sub/deep/__init__.py")
    name = "modpkg." + module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    data = pkgdata.declare(name, env="OTHER")
    assert (data.name, data.package_dir, data.env) == ("modpkg", str(folder), "OTHER")
    assert (data.dataurl, list(data.registry)) == (("https://example.org/",), ["a.txt"])
    assert declaration.find_package("modpkg") is data
    assert declaration.declaration_of(name) is data
    assert "modpkg" not in sys.modules


def test_a_module_may_name_a_registry_next_to_it(site):
    site.package("modpkg", registry=None, code="")
    site.write("modpkg/sums.txt", f"s.txt {SUM}\n")
    data = pkgdata.declare("modpkg.datasets", registry="sums.txt")
    assert (data.name, list(data.registry)) == ("modpkg", ["s.txt"])
    assert data.dataurl == ("https://example.org/",)


def test_a_subpackage_that_gives_its_own_registry_is_no_other_package(site):
    site.package("modpkg", code="")
    site.write("modpkg/sub/__init__.py")
    site.write("modpkg/sub/sums.txt", f"s.txt {SUM}\n")
    data = pkgdata.declare("modpkg.sub", registry="sums.txt")
    assert (data.name, list(data.registry)) == ("modpkg.sub", ["s.txt"])
    again = pickle.loads(pickle.dumps(data))
    assert again is data


def test_a_module_of_a_package_without_a_declaration_stands_for_the_package(site):
    folder = site.package("modpkg", None, None, code="")
    data = pkgdata.declare("modpkg.datasets", registry={"a.txt": SUM})
    assert (data.name, data.package_dir) == ("modpkg", str(folder))


@pytest.mark.parametrize("words", [["modpkg.tool"], ["modpkg"]])
def test_a_module_that_is_run_declares_the_data_of_its_package(site, commands, words):
    site.package("modpkg", code="")
    code = "import pkgdata\ndata = pkgdata.declare(__name__)\nprint(data.name, *data.registry)"
    site.write("modpkg/tool.py", code)
    site.write("modpkg/__main__.py", code)
    assert commands(*words) == "modpkg a.txt\n"


# -- archives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zippkg", "zippkg.datasets", "zipns.maps"])
def test_a_package_in_a_zip_archive_is_declared_by_what_is_in_it(site, commands, name):
    site.package("zippkg", code="")
    site.write("zippkg/datasets.py")
    site.package("zipns.maps", toml='[package]\nregistry = "r.txt"\n', registry=None)
    site.write("zipns/maps/r.txt", f"a.txt {SUM}\n")
    archive = site.zipped("app.pyz")
    code = (
        f"import pkgdata, pickle; data = pkgdata.declare({name!r})\n"
        "print(*data.registry, *pickle.loads(pickle.dumps(data)).registry)\n"
        "try: data.get('b.txt')\n"
        "except pkgdata.UnknownNameError as error: print(error.message)"
    )
    lines = commands("-c", code, path=archive).splitlines()
    assert lines[0] == "a.txt a.txt"
    assert lines[1].startswith(f"'b.txt' is not in the registry {archive}{os.sep}")


def test_an_archive_without_a_registry_says_so(site, commands):
    site.package("zippkg", None, None, code="")
    archive = site.zipped("app.pyz")
    code = "import pkgdata; pkgdata.declare('zippkg').get('a.txt')"
    assert f"no pkgdata.toml or registry.txt is in {archive}" in commands(
        "-c", code, path=archive, code=1
    )


# -- what is missing --------------------------------------------------------------------------


@pytest.mark.parametrize("toml", [None, TOML])
def test_a_package_without_a_registry_says_so(site, toml):
    folder = site.package("barepkg", toml, None)
    data = pkgdata.declare("barepkg")
    text = f"barepkg has none: no pkgdata.toml or registry.txt is in {folder}"
    if toml is not None:
        text = f"{folder / 'pkgdata.toml'} names none, and no registry.txt is next to it"
    for ask in (data.get, data.where, data.tree, data.registry.__getitem__):
        with pytest.raises(UnknownNameError) as caught:
            ask("a.txt")
        assert caught.value.message == f"'a.txt' is not in the registry: {text}"
    with pytest.raises(pkgdata.BatchError) as failed:
        data.fetch("a.txt")
    assert text in str(failed.value.report.failed["a.txt"])


def test_a_name_that_is_no_package_says_that_it_has_no_registry():
    with pytest.raises(UnknownNameError, match="my script has none, and is no package"):
        pkgdata.declare("my script").get("a.txt")


def test_a_package_without_a_toml_says_so(site):
    folder = site.package("barepkg", None)
    site.announce("bare-pkg", "barepkg")
    for name in ("barepkg", "bare-pkg"):
        with pytest.raises(ConfigError) as caught:
            declaration.find_package(name)
        assert caught.value.message == f"barepkg has no pkgdata.toml in {folder}"
        assert "pkgdata check" in caught.value.hint


def test_a_package_that_is_announced_and_not_there_says_so(site):
    site.announce("gone-pkg", "gone.pkg")
    with pytest.raises(ConfigError) as caught:
        declaration.find_package("gone-pkg")
    assert "'gone-pkg' stands for gone.pkg, which is no package" in caught.value.message


def test_broken_packages_are_listed_and_do_not_stop_the_others(site, commands):
    site.package("goodpkg")
    site.package("nofiles", None, None)
    site.package("badtoml", "[package\n")
    site.package("badkey", "[package]\nname = 1\n")
    site.package("badregistry", registry="a.txt\n")
    site.package("noregistry", '[package]\nregistry = "sums.txt"\n', None)
    names = ["badkey", "badregistry", "badtoml", "nofiles", "noregistry"]
    for name in [*names, "goodpkg"]:
        site.announce(name, name)
    site.announce("gone", "gonepkg")
    listed = json.loads(commands("pkgdata", "list", "--json"))
    listed.pop("pkgdata", None)  # where the project itself is installed
    assert listed.pop("goodpkg") == {"files": 1, "dataurl": ["https://example.org/"]}
    assert sorted(listed) == sorted([*names, "gone"])
    assert "line 1: expected 'name digest'" in listed["badregistry"]["broken"]
    table = commands("pkgdata", "list").splitlines()
    assert [line.split()[0] for line in table if " broken: " in line] == sorted([*names, "gone"])
    assert "badpkg" not in commands("pkgdata", "where", "a.txt")
    problem = commands("pkgdata", "where", "none.txt", code=1)
    assert "is in the registry of no installed package; broken: badkey, badregistry" in problem


# -- odd files --------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_of_windows_editors_are_read(site, begin, end):
    lines = ["# maps", "", f"a.txt\t{SUM}", "\t", f'"b  c.txt"   {SUM}  ', "  # end"]
    registry = begin + end.join(lines).encode()
    site.package("winpkg", begin + TOML.replace("\n", end).encode(), registry)
    data = declaration.find_package("winpkg")
    assert data.dataurl == ("https://example.org/",)
    assert list(data.registry) == ["a.txt", "b  c.txt"]


@pytest.mark.parametrize(
    ("registry", "problem"),
    [
        (f"a.txt {SUM}\nb\xfc.txt {SUM}\n".encode("latin-1"), "line 2: not UTF-8 text"),
        (f"a.txt {SUM}\n".encode("utf-16"), "line 1: not UTF-8 text"),
        (f"a.txt {SUM}\r\nb.txt\r\n".encode(), "line 2: expected 'name digest'"),
        (f"# x\r\na.txt {SUM} # comment\r\n".encode(), "line 2: expected 'name digest'"),
        (f"# x\r\na.txt {SUM} #comment\r\n".encode(), "line 2: expected 'name digest'"),
        (f"a.txt {SUM}\n\n'b.txt {SUM}\n".encode(), "line 3: expected 'name digest'"),
    ],
)
def test_a_malformed_registry_is_one_error_that_names_the_line(site, registry, problem):
    folder = site.package("badpkg", registry=registry)
    with pytest.raises(RegistryError) as caught:
        _ = pkgdata.declare("badpkg").registry
    assert caught.value.message.startswith(f"{folder / 'registry.txt'}, {problem}")


def test_a_toml_that_is_not_utf_8_is_an_error_that_names_the_line(site):
    folder = site.package("badpkg", TOML.encode() + b"# \xfc\n")
    with pytest.raises(ConfigError) as caught:
        pkgdata.declare("badpkg")
    text = f"{folder / 'pkgdata.toml'}: line 3: not UTF-8 text (invalid start byte)"
    assert caught.value.message == text


# -- distributions ----------------------------------------------------------------------------


def test_entry_points_are_not_run_and_malformed_ones_of_others_are_skipped(site):
    site.package("goodpkg")  # importing it raises
    site.announce("good-pkg", "goodpkg:no_such_attribute [extra]")
    site.write("odd-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    site.write("odd-1.0.dist-info/entry_points.txt", "[pkgdata.packages]\nno value\n")
    site.write("bare-1.0.dist-info/entry_points.txt", "x = y\n[")
    assert declaration.installed()["good-pkg"] == "goodpkg"


def test_of_two_distributions_with_one_name_the_first_on_the_path_counts(
    site, tmp_path, monkeypatch
):
    site.package("twopkg", toml='[package]\nversion = "1"\n')
    site.announce("twopkg", "twopkg")
    site.announce("twopkg", "twopkg", distribution="twopkg-nightly")
    second = Site(tmp_path / "second")
    second.package("twopkg2")
    second.announce("twopkg", "twopkg2")
    monkeypatch.setattr(sys, "path", [*sys.path, str(second.folder)])
    assert declaration.installed()["twopkg"] == "twopkg"
    assert declaration.find_package("twopkg").version == "1"


class Strange:
    """A finder of before Python 3.4, as some import hooks still are."""


def test_a_strange_finder_does_not_hide_packages(site, monkeypatch):
    site.package("goodpkg")
    monkeypatch.setattr(sys, "meta_path", [Strange(), *sys.meta_path])
    assert declaration.find_package("goodpkg").name == "goodpkg"
