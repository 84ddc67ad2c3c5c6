"""Declarations: read from ``pkgdata.toml`` without importing the package, checked, and cheap."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import pkgdata
from pkgdata.core import declaration
from pkgdata.errors import ConfigError

SUM = hashlib.sha256(b"a").hexdigest()
ROOT = str(Path(pkgdata.__file__).parent.parent)


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Forget what a test declares."""
    monkeypatch.setattr(declaration, "_declared", {})


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that makes a package which must not be imported; it returns the folder."""
    monkeypatch.syspath_prepend(str(tmp_path / "src"))

    def write(name="decpkg", toml=None, registry=f"a.txt {SUM}\n", **files):
        folder = tmp_path / "src" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
        if toml is not None:
            (folder / "pkgdata.toml").write_text(toml, encoding="utf-8")
        if registry is not None:
            (folder / "registry.txt").write_text(registry)
        for file, text in files.items():
            (folder / file).write_text(text)
        return folder

    return write


def test_the_declaration_is_read_without_importing_the_package(make):
    folder = make(
        toml='[package]\nname = "decpkg"\ndataurl = ["https://a/{version}/", "https://b/"]\n'
        'registry = "registry.txt"\nfolders = ["/site/decpkg", "~/decpkg"]\nenv = "DECPKG_DATA"\n'
        'version = "2.0"\n[package.settings]\nverify = "size"\nretries = 1\n'
        '[publish]\nto = ["github:org/decpkg@v{version}"]\npublic = true\n'
    )
    data = pkgdata.declare("decpkg")
    assert data.name == "decpkg"
    assert data.dataurl == ("https://a/{version}/", "https://b/")
    assert data.folders == ("/site/decpkg", os.path.expanduser("~/decpkg"))
    assert (data.env, data.version) == ("DECPKG_DATA", "2.0")
    assert (data.setting("verify"), data.setting("retries")) == ("size", 1)
    assert data.package_dir == str(folder)
    assert list(data.registry) == ["a.txt"]
    assert "decpkg" not in sys.modules


def test_arguments_are_stronger_than_the_file(make):
    make(
        toml='[package]\ndataurl = "https://a/"\nfolders = ["/a"]\nenv = "A"\nversion = "1"\n'
        '[package.settings]\nverify = "size"\nretries = 1\n'
    )
    data = pkgdata.declare(
        "decpkg",
        dataurl="https://b/",
        registry={"b.txt": SUM},
        folders=[Path("/b")],
        env="B",
        version="2",
        verify="never",
    )
    assert (data.dataurl, data.folders, data.env) == (("https://b/",), ("/b",), "B")
    assert (data.version, list(data.registry)) == ("2", ["b.txt"])
    assert (data.setting("verify"), data.setting("retries")) == ("never", 1)


@pytest.mark.parametrize("toml", [None, "", '[package]\nname = "decpkg"\n', "[publish]\n"])
def test_registry_txt_is_found_without_being_named(make, toml):
    make(toml=toml)
    assert list(pkgdata.declare("decpkg").registry) == ["a.txt"]


def test_a_registry_of_another_name_lies_relative_to_the_package(make, tmp_path):
    make(toml='[package]\nregistry = "sums.txt"\n', **{"sums.txt": f"b.txt {SUM}\n"})
    assert list(pkgdata.declare("decpkg").registry) == ["b.txt"]
    (tmp_path / "absolute.txt").write_text(f"c.txt {SUM}\n")
    data = pkgdata.declare("decpkg", registry=tmp_path / "absolute.txt")
    assert list(data.registry) == ["c.txt"]


def test_a_missing_registry_is_an_error_when_it_is_needed(make, tmp_path):
    data = pkgdata.declare("nopkg", registry=tmp_path / "none.txt")
    with pytest.raises(pkgdata.RegistryError, match=r"none\.txt"):
        data.get("a.txt")
    assert len(pkgdata.declare("nopkg").registry) == 0


def test_a_script_finds_its_registry_beside_itself(tmp_path):
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "sums.txt").write_text(f"mine.txt {SUM}\n")
    (tmp_path / "sums.txt").write_text(f"foreign.txt {SUM}\n")
    (tmp_path / "script" / "main.py").write_text(
        "import pkgdata\nprint(*pkgdata.declare('my script', registry='sums.txt').registry)\n"
    )
    done = subprocess.run(
        [sys.executable, "script/main.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "mine.txt"


def test_a_relative_folder_lies_in_the_package_and_not_where_the_program_runs(
    make, tmp_path, monkeypatch
):
    folder = make(toml="[package]\nfolders = ['local', '~/mine', '/absolute/']\n")
    monkeypatch.chdir(tmp_path)
    data = pkgdata.declare("decpkg")
    assert data.folders == (str(folder / "local"), os.path.expanduser("~/mine"), "/absolute")
    here = os.path.dirname(os.path.abspath(__file__))
    assert pkgdata.declare("nopkg", folders=["x"]).folders == (os.path.join(here, "x"),)


def test_a_dataurl_without_a_scheme_is_a_folder_next_to_the_declaring_file(
    make, tmp_path, monkeypatch
):
    folder = make(toml="[package]\ndataurl = ['mirror', '~/mine', 'https://h/x', '/absolute']\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.txt").write_bytes(b"wrong: of the working directory")
    data = pkgdata.declare("decpkg")
    mine = os.path.expanduser("~/mine")
    assert data.dataurl == (str(folder / "mirror"), mine, "https://h/x", "/absolute")
    (folder / "mirror").mkdir()
    (folder / "mirror" / "a.txt").write_bytes(b"a")
    assert Path(data.get("a.txt")).read_bytes() == b"a"
    here = os.path.dirname(os.path.abspath(__file__))
    urls = {"b.txt": "near/b.txt", "c.txt": "https://h/c.txt"}
    found = pkgdata.declare("nopkg", dataurl="x", registry=dict.fromkeys(urls), urls=urls)
    assert found.dataurl == (os.path.join(here, "x"),)
    assert found.registry["b.txt"].urls == (os.path.join(here, "near/b.txt"),)
    assert found.registry["c.txt"].urls == ("https://h/c.txt",)


@pytest.mark.parametrize(
    "given",
    [
        {"dataurl": "mirror", "registry": {"a.txt": SUM}},
        {"dataurl": "https://h/", "registry": {"a.txt": SUM}, "rewrite": {"https://h/": "mirror/"}},
    ],
)
def test_the_working_directory_is_no_mirror(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "a.txt").write_bytes(b"a")
    data = pkgdata.PackageData("bare", **given)
    with pytest.raises(ConfigError, match="is no URL and no absolute path of a folder"):
        data.get("a.txt")


def test_one_folder_or_address_may_be_a_text_or_a_path(make, tmp_path):
    for folders in (tmp_path / "x", str(tmp_path / "x"), [tmp_path / "x"]):
        data = pkgdata.declare("one data", folders=folders, dataurl=tmp_path / "mirror")
        assert (data.folders, data.dataurl) == ((str(tmp_path / "x"),), (str(tmp_path / "mirror"),))
    with pkgdata.conf.set_temp("site_caches", tmp_path / "site"):
        assert pkgdata.conf.site_caches == (str(tmp_path / "site"),)


# -- errors ----------------------------------------------------------------------------------


#: What tomllib says of lists without end; tomli counts them.
DEEP = "recursion" if sys.version_info >= (3, 11) else "nested"


@pytest.mark.parametrize(
    ("toml", "message", "hint"),
    [
        ("[packge]\n", "unknown key 'packge'", "did you mean package?"),
        ("package = 1\n", "package = 1: expected a table", None),
        ("[package]\ndaturl = 'x'\n", "[package]: unknown key 'daturl'", "did you mean dataurl?"),
        ("[publish]\nyes = 1\n", "[publish]: unknown key 'yes'", "known: to, url, public, index"),
        ("[package]\ndataurl = 1\n", "dataurl = 1: expected a text or a list of texts", None),
        ("[package]\ndataurl = [1]\n", "dataurl = [1]: expected a text or a list of texts", None),
        ("[package]\nregistry = []\n", "registry = []: expected a text", None),
        ("[package]\nfolders = '/a'\n", "folders = '/a': expected a list of texts", None),
        ("[package]\nenv = true\n", "env = True: expected a text", None),
        ("[package]\nversion = 1.0\n", "version = 1.0: expected a text", None),
        ("[package]\nsettings = 1\n", "settings = 1: expected a table", None),
        ("[publish]\npublic = 'yes'\n", "public = 'yes': expected true or false", None),
        ("[package\n", "Expected", "fix the TOML syntax"),
        ("[package]\nfolders = " + "[" * 5000, DEEP, "fix the TOML syntax"),
    ],
)
def test_a_wrong_file_is_named_with_what_was_expected(make, toml, message, hint):
    folder = make(toml=toml)
    with pytest.raises(ConfigError) as caught:
        pkgdata.declare("decpkg")
    assert caught.value.message.startswith(str(folder / "pkgdata.toml"))
    assert message in caught.value.message
    assert hint is None or caught.value.hint == hint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("verfy = 'once'", "unknown key 'verfy'"),
        ("verify = 'sometimes'", "verify = 'sometimes': expected one of once, always, size"),
        ("retries = -1", "retries = -1: expected at least 0"),
    ],
)
def test_wrong_settings_of_a_package(make, settings, message):
    make(toml=f"[package.settings]\n{settings}\n")
    with pytest.raises(ConfigError, match=r"declare\('decpkg'\)") as caught:
        pkgdata.declare("decpkg")
    assert message in caught.value.message


@pytest.mark.parametrize("name", ["", None, 1, ["a"]])
def test_the_name_comes_first(name):
    with pytest.raises(ConfigError, match="takes the package's name first"):
        pkgdata.declare(name)


# -- what declaring does not do --------------------------------------------------------------

AUDIT = """
import encodings.utf_8_sig, os, sys, tomllib, pkgdata, pkgdata.core.declaration
pkgdata.declare("warmup", dataurl="https://example.org/", registry={}).registry
seen = []
def hook(event, args):
    if event == "open" or event.split(".")[0] in ("socket", "subprocess", "shutil", "urllib"):
        seen.append((event, args[0]))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.chmod",
                   "os.utime", "os.truncate", "os.scandir"):
        seen.append((event, args[0]))
sys.addaudithook(hook)
data = pkgdata.declare("decpkg", folders=[sys.argv[1]])
declared = list(seen)
data.registry
print(*{os.path.basename(str(name)) for event, name in declared})
print(*{os.path.basename(str(name)) for event, name in seen})
print(*{event for event, name in seen})
print("decpkg" in sys.modules)
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the code names tomllib, new in Python 3.11")
def test_declaring_reads_its_two_files_and_touches_nothing_else(make, tmp_path):
    folder = make(toml='[package]\ndataurl = "https://example.org/"\n')
    done = subprocess.run(
        [sys.executable, "-c", AUDIT, str(tmp_path / "none")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder.parent), ROOT])},
        capture_output=True,
        text=True,
        check=True,
    )
    first, both, events, imported = done.stdout.splitlines()
    assert first == "pkgdata.toml"
    assert set(both.split()) == {"pkgdata.toml", "registry.txt"}
    assert events == "open"
    assert imported == "False"
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "none").exists()


# -- finding packages ------------------------------------------------------------------------


@pytest.fixture
def installed(make, tmp_path):
    """Install the package as the distribution ``dec-dist`` that announces it as ``decname``."""
    make(toml='[package]\ndataurl = "https://example.org/{version}/"\n')
    info = tmp_path / "src" / "dec_dist-3.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dec-dist\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text("[pkgdata.packages]\ndecname = decpkg\n")
    (info / "top_level.txt").write_text("decpkg\n")
    (info / "RECORD").write_text("")
    return info


def test_installed_packages_announce_themselves(installed):
    assert declaration.installed()["decname"] == "decpkg"
    for name in ("decname", "decpkg"):
        assert declaration.find_package(name).name == "decpkg"
    assert "decpkg" not in sys.modules


def test_the_version_is_that_of_the_distribution_that_holds_the_package(installed):
    assert pkgdata.declare("decpkg").version == "3.1"
    assert pkgdata.declare("decpkg", version="4").version == "4"
    assert pkgdata.declare("not installed").version is None


def test_the_version_of_an_editable_install_with_another_name(installed):
    # its RECORD names a .pth file and none of the package, and there is no top_level.txt
    (installed / "top_level.txt").unlink()
    assert pkgdata.declare("decpkg").version == "3.1"
    (installed / "entry_points.txt").unlink()
    assert pkgdata.declare("decpkg").version is None


PROJECTS = {
    "installed": ('[project]\nname = "dec-dist"\ndynamic = ["version"]\n', "3.1"),
    "not installed": ('[project]\nname = "dec-other"\nversion = "5.0"\n', "5.0"),
    "poetry": ('[tool.poetry]\nname = "dec-other"\nversion = "6.0"\n', "6.0"),
    "nothing known": ('[project]\nname = "dec-other"\ndynamic = ["version"]\n', None),
    "no project": ("[tool.ruff]\n", None),
}


@pytest.mark.parametrize("case", PROJECTS)
def test_the_version_of_a_checkout_is_in_its_pyproject(installed, tmp_path, case):
    for name in ("top_level.txt", "entry_points.txt"):
        (installed / name).unlink()
    text, version = PROJECTS[case]
    (tmp_path / "pyproject.toml").write_text(text)
    assert declaration.find_package(f"{tmp_path}/src/decpkg").version == version


@pytest.mark.parametrize(
    ("version", "template", "url"),
    [
        ("1.2", "https://h/v{version}/", "https://h/v1.2/"),
        ("1.2rc1", "https://h/v{version}/", "https://h/v1.2rc1/"),
        ("1.2.dev3+g12ab", "https://h/{version}/", "https://h/main/"),
        ("1.2.dev3", "https://h/raw/v{version}/data/", "https://h/raw/main/data/"),
        ("1.2+3.g12ab.dirty", "https://h/{version}/", "https://h/main/"),
        ("v1.2.dev3", "https://h/dev{version}/", "https://h/devmain/"),
        ("dev", "https://h/v{version}/", "https://h/vdev/"),
    ],
)
def test_a_development_version_is_looked_for_on_a_branch(version, template, url):
    data = pkgdata.declare("devpkg", dataurl=template, registry={"a": None}, version=version)
    assert [place.where for place in data.where("a") if place.kind == "mirror"] == [f"{url}a"]


def test_what_stands_for_a_development_version_can_be_said(make):
    make(toml='[package]\nversion = "1.2.dev3"\nversion_dev = "master"\n')
    assert pkgdata.declare("decpkg").version == "master"
    assert pkgdata.declare("decpkg", version_dev="next").version == "next"
    assert pkgdata.declare("decpkg", version_dev="").version == "1.2.dev3"
    assert pickle.loads(pickle.dumps(pkgdata.declare("decpkg"))).version == "master"


def test_a_name_without_declaration_lists_those_that_have_one(installed):
    with pytest.raises(ConfigError, match="'nopkg' is no package") as caught:
        declaration.find_package("nopkg")
    assert "decname" in caught.value.hint
    with pytest.raises(ConfigError):
        declaration.find_package("../decpkg")


def test_a_module_is_served_by_the_package_above_it(make):
    make(toml="[package]\n")
    found = declaration.declaration_of("decpkg.sub.module")
    assert found is not None
    assert found.name == "decpkg"
    assert declaration.declaration_of("decpkg") is found
    assert declaration.declaration_of("decpkgx") is None
    assert declaration.declaration_of("") is None


def test_what_the_process_declared_comes_before_the_file(make):
    make(toml='[package]\nversion = "1"\n')
    mine = pkgdata.declare("decpkg", version="2")
    assert declaration.find_package("decpkg") is mine


def test_a_package_without_a_file_is_not_declared(make):
    make(toml=None)
    assert declaration.declaration_of("decpkg") is None


@pytest.mark.parametrize(
    "name", ["my script", "a-b", "a/b", "json", "sys", "os.path", "..", "nopkg.sub"]
)
def test_any_name_can_be_declared(name):
    data = pkgdata.declare(name, dataurl="https://example.org/", registry={"a.txt": SUM})
    assert data.name == name
    assert repr(data) == f"<PackageData {name}: https://example.org/>"
    assert repr(pkgdata.declare(name)) == f"<PackageData {name}: no dataurl>"


def test_a_namespace_package(tmp_path, monkeypatch):
    (tmp_path / "one" / "nspkg").mkdir(parents=True)
    (tmp_path / "one" / "nspkg" / "pkgdata.toml").write_text('[package]\nversion = "7"\n')
    monkeypatch.syspath_prepend(str(tmp_path / "one"))
    assert pkgdata.declare("nspkg").version == "7"


def test_the_public_name_stays_the_function_whatever_is_imported():
    import pkgdata.compat.getters
    import pkgdata.core.declaration

    assert callable(pkgdata.declare)
    assert pkgdata.declare is pkgdata.core.declaration.declare
