"""Run astropy's own tests of `astropy.utils.data` on pkgdata.

    python tests/compat/dialects/run_astropy.py [argument of pytest ...]

Takes the test file that ships in astropy's wheel and aliases, before it is imported,
``astropy.utils.data`` to pkgdata, the cache functions of ``astropy.config.paths`` to ours, and
``AstropyWarning``, from which astropy's warnings derive, to ours. Connections to other machines are
refused. Prints the counts. The exit code is 1 if a test fails that is not in the list below, or if
one of the list does not exist.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

_INTERNET = "needs the internet"
_OPENER = "replaces the private _build_urlopener; test_download.py has lengths that are wrong"
_RMTREE = "replaces the private _rmtree; test_urlcache.py has folders that cannot be removed"

#: Tests that are left out, each with its reason.
LEFT_OUT = {
    "test_download_nocache_from_internet": _INTERNET,
    "test_download_noprogress": _INTERNET,
    "test_download_cache": _INTERNET,
    "test_download_certificate_verification_failed": _INTERNET,
    "test_download_parallel_from_internet_works": _INTERNET,
    "test_url_nocache": _INTERNET,
    "test_find_invalid": _INTERNET,
    "test_data_noastropy_fallback": _INTERNET,
    "test_invalid_location_download_raises_urlerror": _INTERNET,
    "test_is_url_in_cache_remote": _INTERNET,
    "test_ftp_tls_auto": _INTERNET,
    "test_download_ftp_file_properly_handles_socket_error": _INTERNET,
    "test_all_get_readable_fileobj_fsspec": _INTERNET,
    "test_download_file_wrong_size": _OPENER,
    "test_removal_of_open_files_windows": _RMTREE,
    "test_update_of_open_files_windows": _RMTREE,
}

# -- inside pytest: this file is its plugin ------------------------------------------------------


def alias() -> None:
    """Put pkgdata in astropy's place for whoever imports it from now on."""
    import astropy.utils.exceptions
    import astropy_alias

    import pkgdata

    astropy_alias.install()
    astropy.utils.exceptions.AstropyWarning = pkgdata.PkgdataWarning


def block_network() -> None:
    """Refuse connections to other machines."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            *("127.0.0.1", "::1", "localhost"),
        ):
            raise OSError(f"a test tried to reach {address[0]}")
        return connect(self, address)

    def lookup(host, *args, **kwargs):
        if host not in ("127.0.0.1", "::1", "localhost", None):
            raise socket.gaierror(socket.EAI_NONAME, f"a test tried to look up {host}")
        return resolve(host, *args, **kwargs)

    resolve = socket.getaddrinfo
    socket.socket.connect = guarded
    socket.getaddrinfo = lookup


def pytest_configure(config):
    config.addinivalue_line("markers", "remote_data: needs the internet")
    config.addinivalue_line("markers", "slow: takes long")
    alias()
    block_network()


def _name(item) -> str:
    return getattr(item, "originalname", None) or item.name


def pytest_collection_modifyitems(config, items):
    chosen = [item for item in items if _name(item) not in LEFT_OUT]
    names = {_name(item) for item in items}
    note(collected=len(items), unknown=sorted(set(LEFT_OUT) - names))
    note(remote=sorted({_name(i) for i in chosen if i.get_closest_marker("remote_data")}))
    items[:] = chosen


def pytest_terminal_summary(terminalreporter):
    stats = terminalreporter.stats
    found = {
        kind: [report.nodeid for report in stats.get(kind, [])] for kind in ("failed", "error")
    }
    counts = {
        kind: len(stats.get(kind, [])) for kind in ("passed", "skipped", "xfailed", "xpassed")
    }
    reasons = [str(report.longrepr[2]) for report in stats.get("skipped", [])]
    note(**found, **counts, reasons=reasons)


def note(**facts: object) -> None:
    """Add facts to the file that the outer process reads."""
    path = Path(os.environ["PKGDATA_DIALECT_REPORT"])
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | facts))


# -- outside: run pytest, read what it noted -----------------------------------------------------


def run(arguments: list[str]) -> tuple[int, dict]:
    """Run astropy's file in a process of its own; return the exit code and the facts."""
    import astropy.utils.tests

    file = Path(astropy.utils.tests.__file__).parent / "test_data.py"
    with tempfile.TemporaryDirectory(prefix="pkgdata-dialect-") as folder:
        work = Path(folder)
        (work / "home").mkdir()
        (work / "pytest.ini").write_text("[pytest]\nxfail_strict = false\n")
        inherited = filter(None, [os.environ.get("PYTHONPATH")])
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PKGDATA_", "XDG_"))}
        env = kept | {
            "HOME": str(work / "home"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent), *inherited]),
            "PKGDATA_DIALECT_REPORT": str(work / "report.json"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "run_astropy"]
        command += ["-p", "no:cacheprovider", "-c", str(work / "pytest.ini"), "--rootdir", folder]
        command += ["--basetemp", str(work / "tmp"), str(file), *arguments]
        done = subprocess.run(command, cwd=folder, env=env, check=False)
        report = work / "report.json"
        return done.returncode, json.loads(report.read_text()) if report.exists() else {}


def main() -> int:
    """Run the tests and judge."""
    code, facts = run(sys.argv[1:])
    if not facts:
        print(f"pytest did not get far: exit code {code}")
        return 1
    bad = facts.get("failed", []) + facts.get("error", [])
    print(f"astropy {metadata.version('astropy')}, its tests of astropy.utils.data on pkgdata:")
    left = facts["collected"] - sum(
        len(facts[kind]) if isinstance(facts[kind], list) else facts[kind]
        for kind in ("passed", "skipped", "xfailed", "xpassed", "failed", "error")
    )
    print(f"{facts['collected']} tests: {facts['passed']} passed, {len(bad)} failed,")
    print(f"{facts['skipped']} skipped, {facts['xfailed']} expected to fail, {left} left out")
    for reason, count in Counter(facts["reasons"]).items():
        print(f"  {count} skipped: {reason}")
    for reason, count in Counter(LEFT_OUT.values()).items():
        print(f"  {count} functions left out: {reason}")
    problems = [f"failed: {name}" for name in bad]
    problems += [f"left out, but there is no such test: {name}" for name in facts["unknown"]]
    problems += [f"needs the internet, but is not in the list: {name}" for name in facts["remote"]]
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems or code != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
