"""The pytest plugin, in pytest runs of its own against a real server and a real installed package.

The runs load the plugin by name, with entry points left alone, so that it makes no difference
whether pkgdata is installed; one test goes through the entry point.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults import FaultServer, forever, other_bytes, status

import pkgdata

pytestmark = pytest.mark.slow

pytest_plugins = ["pytester"]

FILES = {
    "suns.csv": b"name,mag\nSirius,-1.46\n",
    "moons.csv": b"name,planet\nIo,Jupiter\n",
    "maps/dust.fits": b"SIMPLE" + bytes(range(256)) * 100,
}
#: What the test modules of users begin with.
HEAD = "import os, pytest, pkgdata\nfrom pkgdata.core.declaration import find_package\n"
#: Where the plugin's modules are: the checkout, or the installed package.
IMPORTED_FROM = str(Path(pkgdata.__file__).parent.parent)


def registry_of(files):
    return "".join(f"{name} {hashlib.sha256(data).hexdigest()}\n" for name, data in files.items())


def install(lib, name, url, files):
    """Install a package that announces data, and cannot be imported."""
    package = lib / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "pkgdata.toml").write_text(f'[package]\nname = "{name}"\ndataurl = "{url}"\n')
    (package / "registry.txt").write_text(registry_of(files))
    info = lib / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pkgdata.packages]\n{name} = {name}\n")


class Suite:
    """A user's test suite next to an installed package, ``starpkg``, and its server."""

    def __init__(self, pytester, monkeypatch, server):
        self.pytester = pytester
        self.server = server
        self.lib = pytester.path / "lib"
        install(self.lib, "starpkg", server.url, FILES)
        path = [str(self.lib), IMPORTED_FROM, os.environ.get("PYTHONPATH", "")]
        for name, value in {
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "",
            "NO_PROXY": "127.0.0.1",
            "PKGDATA_RETRIES": "0",
            "COLUMNS": "200",
        }.items():
            monkeypatch.setenv(name, value)
        self.ini("")

    def ini(self, more):
        self.pytester.makeini(f"[pytest]\nfilterwarnings = error\naddopts = -rs\n{more}\n")

    def run(self, source, *args, head=HEAD):
        """Run a test module; return the result of the pytest process."""
        self.pytester.makepyfile(test_it=head + source)
        plugins = ["-p", "pkgdata.testing.plugin", "-p", "xdist.plugin"]
        result = self.pytester.runpytest_subprocess(*plugins, *args, timeout=120)
        result.said = result.outlines + result.errlines
        return result

    def requested(self):
        return sorted(request.path for request in self.server.settled())


@pytest.fixture
def suite(pytester, monkeypatch):
    with FaultServer(dict(FILES)) as server:
        yield Suite(pytester, monkeypatch, server)


USES_BOTH = """
@pytest.mark.pkgdata("suns.csv", "maps/dust.fits")
def test_marked(pkgdata_file):
    for name in ("suns.csv", "maps/dust.fits"):
        path = pkgdata_file(name)
        assert path == find_package("starpkg").find(name)
        assert path.endswith(os.path.basename(name))

def test_by_fixture(pkgdata_file):
    with open(pkgdata_file("moons.csv", package="starpkg")) as file:
        assert file.readline() == "name,planet\\n"
"""


# -- files -----------------------------------------------------------------------------------


def test_marker_and_fixture_bring_files(suite):
    suite.run(USES_BOTH).assert_outcomes(passed=2)
    assert suite.requested() == sorted(FILES)
    suite.run(USES_BOTH, "--pkgdata-offline").assert_outcomes(passed=2)
    assert suite.requested() == sorted(FILES)


def test_a_marker_fetches_for_code_that_finds_files_by_itself(suite):
    result = suite.run(
        """
@pytest.fixture
def early():
    assert find_package("starpkg").find("suns.csv") is not None

@pytest.mark.pkgdata("suns.csv")
def test_one(early):
    pass
"""
    )
    result.assert_outcomes(passed=1)


def test_fixtures_of_any_scope_may_ask_for_files(suite):
    result = suite.run(
        """
@pytest.fixture(scope="session")
def stars(pkgdata_file):
    with open(pkgdata_file("suns.csv")) as file:
        return file.read()

def test_one(stars):
    assert "Sirius" in stars

def test_two(stars):
    assert "Sirius" in stars
"""
    )
    result.assert_outcomes(passed=2)
    assert suite.requested() == ["suns.csv"]


@pytest.mark.parametrize("how", ["option", "variable"])
def test_offline_skips_what_is_not_here(suite, monkeypatch, how):
    args = []
    if how == "option":
        args = ["--pkgdata-offline"]
    else:
        monkeypatch.setenv("PKGDATA_OFFLINE", "1")
    result = suite.run(USES_BOTH, *args)
    result.assert_outcomes(skipped=2)
    why = "--pkgdata-offline was given" if how == "option" else "pkgdata is offline"
    lines = "\n".join(result.outlines)
    assert f"test_it.py:4: 'suns.csv' of starpkg is not here, and {why}" in lines
    assert f"'moons.csv' of starpkg is not here, and {why}" in lines
    assert suite.requested() == []


def test_the_option_holds_against_what_tests_configure_and_for_child_processes(suite):
    result = suite.run(
        """
import subprocess, sys

def test_configured(pkgdata_file, monkeypatch):
    pkgdata.conf.offline = False
    monkeypatch.delenv("PKGDATA_OFFLINE")
    pkgdata_file("suns.csv")

def test_child():
    code = "import pkgdata; print(pkgdata.conf.offline)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\\n"
""",
        "--pkgdata-offline",
    )
    result.assert_outcomes(skipped=1, passed=1)
    assert suite.requested() == []


def test_strict_fails_instead(suite):
    result = suite.run(USES_BOTH, "--pkgdata-offline", "--pkgdata-strict")
    result.assert_outcomes(errors=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "'suns.csv' of starpkg is not here, and --pkgdata-offline was given",
            "Hint: 'pkgdata where starpkg suns.csv' lists where it was looked for",
        ]
    )


NO_NETWORK = """
import socket

asked = []

@pytest.fixture(scope="session", autouse=True)
def no_network():
    def getaddrinfo(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        patch.setenv("PKGDATA_REWRITE", os.environ["SERVER"] + "=http://data.example.org/")
        yield

def test_one(pkgdata_file):
    pkgdata_file("suns.csv")

def test_two(pkgdata_file):
    pkgdata_file("moons.csv")

def test_only_the_first_asked():
    assert set(asked) == {"data.example.org"}
    assert len(asked) == 1
"""


def test_a_machine_without_network_skips_and_asks_once(suite, monkeypatch):
    monkeypatch.setenv("SERVER", suite.server.url)
    result = suite.run(NO_NETWORK)
    result.assert_outcomes(skipped=2, passed=1)
    result.stdout.fnmatch_lines(["SKIPPED*'suns.csv' of starpkg*, and there is no network: *"])
    result = suite.run(NO_NETWORK, "--pkgdata-strict")
    result.assert_outcomes(failed=2, passed=1)


def test_a_failing_mirror_is_no_reason_to_skip(suite):
    suite.server.script("suns.csv", forever(other_bytes()))
    suite.server.script("moons.csv", forever(status(404)))
    suite.server.script("maps/dust.fits", forever(status(503)))
    result = suite.run(
        """
@pytest.mark.parametrize("name", ["suns.csv", "moons.csv", "maps/dust.fits"])
def test_one(pkgdata_file, name):
    pkgdata_file(name)
"""
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["E *IntegrityError: *", "E *AllMirrorsFailedError: *moons.csv*"])


# -- whose file it is ------------------------------------------------------------------------


def test_the_configuration_may_name_the_package(suite):
    install(suite.lib, "moonpkg", suite.server.url, {"moons.csv": FILES["moons.csv"]})
    source = """
@pytest.mark.pkgdata("moons.csv")
def test_one(pkgdata_file):
    assert pkgdata_file("moons.csv").endswith("moons.csv")
"""
    result = suite.run(source)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: test_it.py::test_one: 'moons.csv' is in the registries of moonpkg and starpkg"
        in (result.errlines)
    )
    suite.ini("pkgdata_package = moonpkg")
    suite.run(source, "--pkgdata-report").assert_outcomes(passed=1)
    suite.ini("pkgdata_package = ./lib/starpkg")  # from the root, wherever pytest is started
    suite.run(source, "--rootdir", suite.pytester.path).assert_outcomes(passed=1)
    assert suite.requested() == ["moons.csv"]


def test_a_package_may_be_declared_by_a_conftest(suite):
    suite.pytester.makeconftest(
        f"""
import pkgdata
pkgdata.declare("mine", dataurl={suite.server.url!r}, registry={{"suns.csv": None}})
"""
    )
    result = suite.run(
        """
@pytest.mark.pkgdata("suns.csv", package="mine")
def test_one(pkgdata_file):
    with open(pkgdata_file("suns.csv", "mine")) as file:
        assert "Sirius" in file.read()
"""
    )
    result.assert_outcomes(passed=1)


WRONG = """
@pytest.mark.pkgdata("sun.csv", package="starpkg")
def test_name():
    pass

@pytest.mark.pkgdata("sun.csv", package="starpkg")
def test_name_again():
    pass

@pytest.mark.pkgdata("suns.csv", package="nopkg")
def test_package():
    pass

@pytest.mark.pkgdata("dust.fits")
def test_anywhere():
    pass

@pytest.mark.pkgdata(package="starpkg")
def test_no_name():
    pass

@pytest.mark.pkgdata("suns.csv", pkg="starpkg")
def test_word():
    pass

@pytest.mark.pkgdata("suns.csv", 3)
def test_kind():
    pass
"""


@pytest.mark.parametrize("args", [(), ("-n4", "--pkgdata-prefetch")], ids=["alone", "xdist"])
def test_wrong_markers_are_usage_errors(suite, args):
    result = suite.run(WRONG, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = """\
ERROR: test_it.py::test_name and 1 more: 'sun.csv' is not in the registry *
  Hint: did you mean 'suns.csv' *
test_it.py::test_package: 'nopkg' is no package with a pkgdata.toml
  Hint: packages that announce data: *starpkg*
test_it.py::test_anywhere: 'dust.fits' is in the registry of no installed package
  Hint: did you mean *'maps/dust.fits'*
test_it.py::test_no_name: @pytest.mark.pkgdata(package='starpkg'): expected names of files, *
test_it.py::test_word: @pytest.mark.pkgdata('suns.csv', pkg='starpkg'): expected *
test_it.py::test_kind: @pytest.mark.pkgdata('suns.csv', 3): expected names of files, *
"""
    result.stderr.fnmatch_lines(expected.splitlines(), consecutive=True)
    assert "passed" not in "\n".join(result.outlines)
    assert suite.requested() == []


def test_many_complaints_are_cut_short(suite):
    tests = "".join(
        f"@pytest.mark.pkgdata('wrong{n}', package='starpkg')\ndef test_{n}():\n    pass\n"
        for n in range(13)
    )
    result = suite.run(tests)
    assert "… and 3 more" in result.errlines
    assert "test_12" not in "\n".join(result.errlines)


def test_an_unknown_name_in_a_test_fails_it(suite):
    result = suite.run(
        """
def test_one(pkgdata_file):
    pkgdata_file("suns.cvs", package="starpkg")
"""
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *Hint: did you mean 'suns.csv'*"])


# -- prefetch --------------------------------------------------------------------------------

ALL_HERE = """
@pytest.mark.parametrize("number", range(8))
@pytest.mark.pkgdata("suns.csv", "maps/dust.fits")
def test_all_were_fetched_before(number):
    data = find_package("starpkg")
    assert None not in [data.find(name) for name in data.registry]

@pytest.mark.pkgdata("moons.csv", package="starpkg")
def test_another():
    test_all_were_fetched_before(0)

@pytest.mark.skip(reason="of its own")
@pytest.mark.pkgdata("moons.csv", package="starpkg")
def test_skipped():
    pass
"""


@pytest.mark.parametrize("args", [(), ("-n4",)], ids=["alone", "xdist"])
def test_prefetch_runs_once_before_the_first_test(suite, args):
    result = suite.run(ALL_HERE, "--pkgdata-prefetch", *args)
    result.assert_outcomes(passed=9, skipped=1)
    assert "pkgdata: 3 of 3 files of starpkg are here, 25.7 kB" in result.outlines
    assert suite.requested() == sorted(FILES)
    result = suite.run(ALL_HERE, "--pkgdata-prefetch", *args, "--pkgdata-offline")
    result.assert_outcomes(passed=9, skipped=1)
    assert suite.requested() == sorted(FILES)


def test_prefetch_fetches_what_the_selected_tests_need(suite):
    result = suite.run(ALL_HERE, "--pkgdata-prefetch", "--collect-only", "-k", "another or skipped")
    assert result.ret == 0
    assert "pkgdata: 1 of 1 files of starpkg are here, 23 B" in result.outlines
    assert suite.requested() == ["moons.csv"]


def test_without_prefetch_workers_share_one_download(suite):
    result = suite.run(
        """
@pytest.mark.parametrize("number", range(8))
@pytest.mark.pkgdata("maps/dust.fits")
def test_one(number):
    pass
""",
        "-n4",
    )
    result.assert_outcomes(passed=8)
    assert suite.requested() == ["maps/dust.fits"]


def test_prefetch_leaves_what_fails_to_the_tests(suite):
    suite.server.script("suns.csv", forever(status(404)))
    result = suite.run(ALL_HERE.replace("range(8)", "range(1)"), "--pkgdata-prefetch")
    result.assert_outcomes(errors=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "pkgdata: 2 of 3 files of starpkg are here, 25.6 kB",
            "pkgdata: not 'suns.csv': *404*",
        ]
    )


def test_prefetch_leaves_what_the_controller_does_not_know_to_the_tests(suite):
    result = suite.run(
        f"""
pkgdata.declare("mine", dataurl={suite.server.url!r}, registry={{"suns.csv": None}})

@pytest.mark.pkgdata("suns.csv", package="mine")
def test_one():
    pass
""",
        "-n1",
        "--pkgdata-prefetch",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["pkgdata: mine is left to the tests: 'mine' is no package*"])
    assert suite.requested() == ["suns.csv"]


# -- report ----------------------------------------------------------------------------------

USES_ALL = """
@pytest.mark.pkgdata("suns.csv")
def test_marked(pkgdata_file):
    pkgdata_file("suns.csv")

def test_own_ways():
    data = find_package("starpkg")
    data.tree("maps")
    with data.open("moons.csv") as file:
        assert file.readline() == b"name,planet\\n"
"""


def rows(result):
    lines = result.outlines
    start = next(n for n, line in enumerate(lines) if " data files " in line)
    end = next(n for n, line in enumerate(lines) if "; fetched: " in line)
    return [" ".join(line.split()) for line in lines[start + 1 : end + 1]]


@pytest.mark.parametrize("args", [(), ("-n4",), ("-n4", "--pkgdata-prefetch")])
def test_the_report_lists_files_and_where_they_came_from(suite, args):
    result = suite.run(USES_ALL, "--pkgdata-report", *args)
    result.assert_outcomes(passed=2)
    url = suite.server.url
    assert rows(result) == [
        f"mirror 25.6 kB starpkg/maps/dust.fits {url}",
        f"mirror 23 B starpkg/moons.csv {url}",
        f"mirror 22 B starpkg/suns.csv {url}",
        "3 files, 25.7 kB; fetched: 3, 25.7 kB",
    ]


def test_the_report_distinguishes_caches_folders_and_mirrors(suite, monkeypatch):
    suite.run(USES_ALL).assert_outcomes(passed=2)
    folder = suite.pytester.path / "folder"
    (folder / "starpkg").mkdir(parents=True)
    (folder / "starpkg" / "moons.csv").write_bytes(FILES["moons.csv"])
    monkeypatch.setenv("PKGDATA_FOLDERS", str(folder))
    result = suite.run(USES_ALL, "--pkgdata-report")
    dust, moons, stars, total = rows(result)
    cache = os.environ["PKGDATA_CACHE_DIR"]
    assert dust.startswith(f"user cache 25.6 kB starpkg/maps/dust.fits {cache}")
    assert moons.endswith(str(folder / "starpkg" / "moons.csv"))
    assert moons.startswith("configured folder 23 B starpkg/moons.csv ")
    assert stars.startswith(f"user cache 22 B starpkg/suns.csv {cache}")
    assert total == "3 files, 25.7 kB; fetched: 0, 0 B"


def test_the_report_of_a_batch_that_failed_in_part(suite):
    suite.server.script("suns.csv", forever(status(404)))
    result = suite.run(
        """
def test_one():
    with pytest.raises(pkgdata.BatchError):
        find_package("starpkg").fetch()
""",
        "--pkgdata-report",
    )
    result.assert_outcomes(passed=1)
    assert [row.split()[-2] for row in rows(result)[:-1]] == [
        "starpkg/maps/dust.fits",
        "starpkg/moons.csv",
    ]


@pytest.mark.parametrize("args", [(), ("--pkgdata-report",)])
def test_a_batch_draws_the_same_bars_with_and_without_the_report(suite, args):
    result = suite.run(
        """
import tqdm

class Drawn(tqdm.tqdm):
    titles = []
    def __init__(self, *args, **kwargs):
        self.titles.append(kwargs["desc"])
        super().__init__(*args, **kwargs)

def test_batch_and_single_file(monkeypatch):
    monkeypatch.setattr(tqdm, "tqdm", Drawn)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    data = find_package("starpkg")
    data.fetch(["suns.csv", "maps/dust.fits"], progress=True)
    assert Drawn.titles == ["all files"]
    data.get("moons.csv", progress=True)
    assert Drawn.titles == ["all files", "moons.csv"]
""",
        *args,
    )
    result.assert_outcomes(passed=1)
    assert not args or rows(result)[-1] == "3 files, 25.7 kB; fetched: 3, 25.7 kB"


def test_a_report_without_files(suite):
    result = suite.run("def test_one(): pass", "--pkgdata-report")
    assert rows(result) == ["0 files, 0 B; fetched: 0, 0 B"]


# -- the isolated cache ----------------------------------------------------------------------


def test_each_test_has_a_cache_of_its_own(suite, monkeypatch):
    folder = suite.pytester.path / "folder"
    (folder / "starpkg").mkdir(parents=True)
    (folder / "starpkg" / "suns.csv").write_bytes(FILES["suns.csv"])
    config = suite.pytester.path / "config.toml"
    config.write_text("retries = 9\n")
    monkeypatch.setenv("PKGDATA_FOLDERS", str(folder))
    monkeypatch.setenv("PKGDATA_CONFIG", str(config))
    monkeypatch.setenv("ASTROPY_CACHE_DIR", str(folder))
    result = suite.run(
        """
import subprocess, sys

data = find_package("starpkg")
outside = os.environ["PKGDATA_CACHE_DIR"]
pkgdata.conf.connections = 3

@pytest.mark.parametrize("number", range(2))
def test_empty_at_first(pkgdata_cache, number):
    assert not pkgdata_cache.exists()
    assert data.find("suns.csv") is None
    assert data.get("suns.csv").startswith(str(pkgdata_cache))
    pkgdata.conf.lock_timeout = 7

def test_child_processes_use_it(pkgdata_cache):
    done = subprocess.run(
        [sys.executable, "-m", "pkgdata", "cache", "path"], capture_output=True, text=True
    )
    assert done.stdout.strip() == str(pkgdata_cache)

def test_settings_have_their_defaults(pkgdata_cache):
    conf = pkgdata.conf
    assert (conf.retries, conf.connections, conf.folders) == (4, 16, ())
    assert "ASTROPY_CACHE_DIR" not in os.environ

def test_a_test_may_set_variables_and_ask_for_shared_files(
    pkgdata_cache, pkgdata_file, monkeypatch
):
    monkeypatch.setenv("PKGDATA_FOLDERS", "/elsewhere")
    monkeypatch.setenv("PKGDATA_CACHE_DIR", str(pkgdata_cache / "deeper"))
    pkgdata.conf.lock_timeout = 7
    assert pkgdata_file("moons.csv").startswith(outside)
    assert pkgdata.conf.folders == ("/elsewhere",)
    assert pkgdata.conf.lock_timeout == 7
    assert not pkgdata_cache.exists()

def test_afterwards_all_is_as_before():
    assert data.cache.root == outside
    conf = pkgdata.conf
    assert (conf.retries, conf.connections, conf.lock_timeout) == (0, 3, 60)
    assert os.environ["ASTROPY_CACHE_DIR"] == os.environ["PKGDATA_FOLDERS"]
    assert data.find("suns.csv").endswith(os.path.join("folder", "starpkg", "suns.csv"))
""",
    )
    result.assert_outcomes(passed=6)
    assert suite.requested() == ["moons.csv", "suns.csv", "suns.csv"]


@pytest.mark.parametrize(
    "order", ["pkgdata_cache, pkgdata_server", "pkgdata_server, pkgdata_cache"]
)
def test_the_server_is_reached_offline_and_past_proxies(suite, monkeypatch, order):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
    monkeypatch.delenv("NO_PROXY")
    result = suite.run(
        f"""
def test_one({order}, pkgdata_file):
    pkgdata_server.contents["a.txt"] = b"a"
    data = pkgdata.declare("mine", dataurl=pkgdata_server.url, registry=pkgdata_server.registry())
    pkgdata_server.script("a.txt", 404)
    with pytest.raises(pkgdata.AllMirrorsFailedError):
        data.get("a.txt")
    assert data.get("a.txt").startswith(str(pkgdata_cache))
    assert [request.status for request in pkgdata_server.requests] == [404, 200]
    pkgdata_file("suns.csv", package="starpkg")

def test_offline_again(pkgdata_cache):
    assert pkgdata.conf.offline
    assert "no_proxy" not in os.environ
""",
        "--pkgdata-offline",
    )
    result.assert_outcomes(skipped=1, passed=1)
    assert "--pkgdata-offline was given" in "\n".join(result.outlines)


def test_the_example_of_the_documentation_runs(suite):
    docs = Path(__file__).resolve().parents[2] / "docs" / "howto" / "testing.md"
    section = docs.read_text("utf-8").split("## Testing your own downloads")[1]
    example = section.split("```python\n")[1].split("```")[0]
    suite.run(example).assert_outcomes(passed=1)


# -- runs that do not use it -----------------------------------------------------------------

UNUSED = """
import sys

def test_one():
    ours = {name for name in sys.modules if name.partition(".")[0] == "pkgdata"}
    assert ours <= {"pkgdata", "pkgdata.testing", "pkgdata.testing.plugin"}
"""


@pytest.mark.parametrize("args", [(), ("-n2",)], ids=["alone", "xdist"])
def test_a_run_that_does_not_use_it_shows_and_loads_nothing_of_it(suite, args):
    result = suite.run(UNUSED, *args, head="")
    result.assert_outcomes(passed=1)
    assert "pkgdata" not in "\n".join(result.said).replace("pkgdata.testing.plugin", "")


@pytest.fixture
def entry_point(suite, monkeypatch):
    """Install the plugin as a distribution does, whether or not pkgdata itself is installed."""
    info = suite.lib / "pkgdata_stand_in-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pkgdata-stand-in\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\npkgdata = pkgdata.testing.plugin\n")
    # pytest wants to rewrite the assertions of the files listed here
    (info / "RECORD").write_text("pkgdata/__init__.py,,\n")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    suite.pytester.makepyfile(test_it=UNUSED)
    return suite.pytester


def test_the_entry_point_loads_it(entry_point):
    result = entry_point.runpytest_subprocess("--strict-markers", "--fixtures")
    result.stdout.fnmatch_lines(["pkgdata_file [[]session scope[]] -- *"])
    result = entry_point.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.pkgdata(*names, package=None): the test needs *"])


def test_a_program_may_import_pkgdata_and_then_run_pytest(entry_point):
    code = "import sys, pkgdata, pytest; sys.exit(pytest.main(['test_it.py']))"
    result = entry_point.run(sys.executable, "-W", "error", "-c", code, timeout=120)
    result.assert_outcomes(passed=1, warnings=0)


def test_the_project_declares_the_entry_point():
    config = Path(__file__).resolve().parents[2] / "pyproject.toml"
    text = config.read_text("utf-8").split("[project.entry-points.pytest11]\n")[1]
    assert text.splitlines()[0] == 'pkgdata = "pkgdata.testing.plugin"'


def test_importing_the_plugin_loads_nothing_that_pytest_does_not():
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport pkgdata.testing.plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": IMPORTED_FROM},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["pkgdata", "pkgdata.testing", "pkgdata.testing.plugin"]
