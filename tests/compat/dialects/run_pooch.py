"""Run the tests that pooch ships against `pkgdata.compat.pooch`.

    python tests/compat/dialects/run_pooch.py [pytest arguments]

The modules are aliased before pooch's tests are imported. The files that the tests fetch from
GitHub lie in pooch's wheel; a server on this machine has them, so most of the tests that pooch
marks ``network`` run too. Connections that leave the machine are refused. The exit code is 1 if a
test fails that is not listed below, or if one is listed that does not exist.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]

REPOSITORY = "asks the servers of figshare, Zenodo, Dataverse or doi.org"
FTP = "needs the FTP server of the plugin pytest-localftpserver; FTPDownloader is pooch's own"
PRIVATE = "puts another function in the place of pooch.core.hash_matches, a private name"
GITHUB = "counts the bytes of GitHub's compressed answer; HTTPDownloader is pooch's own"

#: Tests that are left out, each with its reason; a name without brackets means all its parameters.
LEFT_OUT = {
    "test_core.py::test_pooch_custom_url[figshare]": REPOSITORY,
    "test_core.py::test_pooch_custom_url[zenodo]": REPOSITORY,
    "test_core.py::test_pooch_custom_url[dataverse]": REPOSITORY,
    "test_core.py::test_pooch_download[figshare]": REPOSITORY,
    "test_core.py::test_pooch_download[zenodo]": REPOSITORY,
    "test_core.py::test_pooch_download[dataverse]": REPOSITORY,
    "test_core.py::test_load_registry_from_doi": REPOSITORY,
    "test_core.py::test_load_registry_from_doi_zenodo_with_slash": REPOSITORY,
    "test_core.py::test_pooch_download_retry_off_by_default": PRIVATE,
    "test_core.py::test_pooch_download_retry": PRIVATE,
    "test_core.py::test_pooch_download_retry_fails_eventually": PRIVATE,
    "test_core.py::test_check_availability_on_ftp": FTP,
    "test_downloaders.py::test_invalid_doi_repository": REPOSITORY,
    "test_downloaders.py::test_doi_url_not_found": REPOSITORY,
    "test_downloaders.py::test_figshare_url_file_not_found": REPOSITORY,
    "test_downloaders.py::test_doi_downloader": REPOSITORY,
    "test_downloaders.py::test_zenodo_downloader_with_slash_in_fname": REPOSITORY,
    "test_downloaders.py::test_figshare_unspecified_version": REPOSITORY,
    "test_downloaders.py::test_figshare_data_repository_versions": REPOSITORY,
    "test_downloaders.py::test_ftp_downloader": FTP,
    "test_downloaders.py::test_downloader_progressbar[figshare]": REPOSITORY,
    "test_downloaders.py::test_downloader_progressbar_ftp": FTP,
    "test_downloaders.py::test_downloader_arbitrary_progressbar": GITHUB,
}

#: Where pooch's own tests fetch from.
GITHUB_RAW = "https://github.com/fatiando/pooch/raw/"


def short_name(node: str) -> str:
    """Return ``file::test[parameters]`` of a test, without the folders of the file."""
    path, _, test = node.partition("::")
    return f"{path.rpartition('/')[2]}::{test}"


# -- inside pytest, where this module is a plugin ------------------------------------------------


class Plugin:
    """Leaves out what is listed and counts the rest."""

    def __init__(self, result: str) -> None:
        self._result = result
        self._facts: dict[str, Any] = {"outcomes": {}, "left_out": [], "unknown": []}

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        kept, out, seen = [], [], set()
        for item in items:
            name = short_name(item.nodeid)
            listed = {name, name.partition("[")[0]} & set(LEFT_OUT)
            seen |= listed
            (out if listed else kept).append(item)
        items[:] = kept
        tested = sys.modules["pooch.tests.test_core"].__dict__["Pooch"]
        assert tested.__module__ == "pkgdata.compat.pooch", "the tests have found another Pooch"
        config.hook.pytest_deselected(items=out)
        self._facts["left_out"] = [short_name(item.nodeid) for item in out]
        self._facts["unknown"] = sorted(set(LEFT_OUT) - seen)

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcomes = self._facts["outcomes"]
        name = short_name(report.nodeid)
        if report.when == "call" or report.outcome != "passed":
            failed = "failed" in (report.outcome, outcomes.get(name))
            outcomes[name] = "failed" if failed else report.outcome

    def pytest_sessionfinish(self) -> None:
        Path(self._result).write_text(json.dumps(self._facts), encoding="utf-8")


def pytest_configure(config: Any) -> None:
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    import pooch_alias

    real = Path(sys.modules["pooch"].__file__ or "") if "pooch" in sys.modules else None
    assert real is None, "pooch was imported before it could be aliased"
    pooch_alias.install()
    pooch_alias.stay_local()
    server = _serve()
    config.add_cleanup(server.close)  # before the interpreter waits for its threads
    config.addinivalue_line("markers", "network: fetches")
    config.addinivalue_line("markers", "figshare: fetches from figshare")
    config.pluginmanager.register(Plugin(os.environ["DIALECT_RESULT"]))


def _serve() -> Any:
    """Serve what the tests fetch from GitHub, and send them here; return the server."""
    import importlib

    from faults import FaultServer

    utils = importlib.import_module("pooch.tests.utils")
    data = Path(utils.__file__).parent / "data"
    contents = {
        f"{path.relative_to(data.parents[2]).as_posix()}": path.read_bytes()
        for path in data.rglob("*")
        if path.is_file()
    }
    store = data / "store"  # as the folder "data" of the repository
    for path in store.rglob("*.txt"):
        contents[f"data/{path.relative_to(store).as_posix()}"] = path.read_bytes()
    server = FaultServer(contents)
    utils.pooch_test_url = lambda: f"{server.url}pooch/tests/data/"
    version = importlib.import_module("pooch").__version__
    os.environ["PKGDATA_REWRITE"] = f"{GITHUB_RAW}{version}/={server.url}"
    return server


# -- outside -------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    spec = find_spec("pooch")
    if spec is None or spec.origin is None:
        print("pooch is not installed")
        return 1
    with tempfile.TemporaryDirectory(prefix="pkgdata-dialect-") as work:
        facts = _run(Path(work), str(Path(spec.origin).parent / "tests"), arguments)
    if not facts:
        return 1
    return _report(facts)


def _run(work: Path, tests: str, arguments: list[str]) -> dict[str, Any]:
    (work / "pytest.ini").write_text("[pytest]\n")
    result = work / "result.json"
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PKGDATA_") and not name.lower().endswith("_proxy")
    }
    env |= {
        "HOME": str(work),
        "XDG_CACHE_HOME": str(work / "xdg"),
        "PKGDATA_CACHE_DIR": str(work / "cache"),
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(HERE)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DIALECT_RESULT": str(result),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-c", str(work / "pytest.ini")]
    command += ["-p", "run_pooch", "-p", "no:cacheprovider", tests, *arguments]
    subprocess.run(command, cwd=work, env=env, check=False)
    return json.loads(result.read_text()) if result.exists() else {}


def _report(facts: dict[str, Any]) -> int:
    outcomes = facts["outcomes"]
    for reason in dict.fromkeys(LEFT_OUT.values()):
        names = [name for name in facts["left_out"] if _reason(name) == reason]
        print(f"\nleft out, {reason}:")
        print("\n".join(f"  {name}" for name in names))
    print()
    for file in sorted({name.partition("::")[0] for name in outcomes}):
        found = [out for name, out in outcomes.items() if name.startswith(f"{file}::")]
        print(f"{file}: " + ", ".join(f"{found.count(one)} {one}" for one in sorted(set(found))))
    counts = {one: list(outcomes.values()).count(one) for one in ("passed", "skipped", "failed")}
    total = len(outcomes) + len(facts["left_out"])
    print(
        f"\n{total} tests of pooch: {counts['passed']} passed, {counts['failed']} failed, "
        f"{counts['skipped']} skipped, {len(facts['left_out'])} left out"
    )
    for name in facts["unknown"]:
        print(f"listed, but there is no such test: {name}")
    return 1 if counts["failed"] or facts["unknown"] or not counts["passed"] else 0


def _reason(name: str) -> str:
    return LEFT_OUT.get(name) or LEFT_OUT[name.partition("[")[0]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
