"""Run the tests of cloud-files against `pkgdata.compat.cloudfiles`.

    pip install '.[test]' 'cloud-files[test]==6.4.3' 'moto[server,s3]>=5'
    python tests/compat/dialects/run_cloudfiles.py [automated_test.py] [pytest argument ...]

Without a file, that of the installed release is taken from its source archive, which pip downloads.
The modules are aliased before the tests are imported. What the tests write below ``/tmp`` goes to a
folder of this run. Their imitation of S3 replaces parts of boto3; here it is a moto server on this
machine, which every client can use. cloud-files' own command line, as far as the tests call its
functions, then runs on our `CloudFiles`. The exit code is 1 if a test fails that is not listed
below, or if a listed one does not exist.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import types
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]

INTERNET = "reads from servers in the internet"
COMMAND = "starts cloud-files' command, which is its own, in another process"
LOCKS = "looks for lock files; we need none, since files are replaced by a rename"
OBJECTS = "puts an object of Python into mem://, which holds bytes here"
OTHER = "tests a module of cloud-files that has no counterpart here"
PRIVATE = "tests a class of cloud-files by its private attributes"
SIGNED = "wants no_sign_request to be ignored for a private bucket, as cloud-files does"
ACL = "reads the access rules of S3, which we do not"

#: Tests that are left out, each with its reason; a name without brackets means all its parameters.
LEFT_OUT = {
    "test_aws_credentials": OTHER,
    "test_http_read": INTERNET,
    "test_http_read_brotli_image": INTERNET,
    "test_read_write_py_objects_mem": OBJECTS,
    "test_reader_and_writer_share_a_lock": LOCKS,
    "test_lock_clearing": LOCKS,
    "test_cli_cp": COMMAND,
    "test_cli_cat": COMMAND,
    "test_cli_rm_shell": COMMAND,
    "test_xfer": COMMAND,
    "test_get_acl[s3]": ACL,
    "test_cli_move_python[s3]": SIGNED,
    "TestTransmissionMonitor": PRIVATE,
}

#: Modules of cloud-files that ours replace.
OURS = ("compression", "exceptions", "paths")


def listed_as(name: str) -> str | None:
    """Return the entry of the list that a test belongs to."""
    for entry in (name, name.partition("[")[0], name.partition("::")[0]):
        if entry in LEFT_OUT:
            return entry
    return None


# -- inside pytest, where this module is a plugin ------------------------------------------------


class Connection:
    """What the tests look into: the objects as cloud-files would name them."""

    def __init__(self, files: Any) -> None:
        self._place = files.place

    @property
    def _data(self) -> dict[str, Any]:
        from pkgdata.stores.codecs import SUFFIXES

        store = self._place.store
        encodings = {name: store.info(name).attributes.encoding for name in store.list()}
        return {
            name + SUFFIXES.get(encoding or "", ""): None for name, encoding in encodings.items()
        }

    def get_file(self, name: str) -> tuple[bytes | None, str | None, None, None]:
        return (*self._place.read(name, None, None), None, None)


def install() -> None:
    """Replace cloud-files' modules by ours."""
    from pkgdata.compat import cloudfiles as dialect

    real = importlib.import_module("cloudfiles")
    alias = types.ModuleType("cloudfiles", "An alias of pkgdata.compat.cloudfiles.")
    alias.__path__ = real.__path__
    for name in dialect.__all__:
        setattr(alias, name, getattr(dialect, name))
    sys.modules["cloudfiles"] = alias
    for name in OURS:
        sys.modules[f"cloudfiles.{name}"] = getattr(dialect, name)
    dialect.CloudFiles._get_connection = lambda self: Connection(self)


def serve(config: Any) -> None:
    """Start moto's server, and let the tests' imitation of S3 be an emptied one."""
    import moto
    from servers.moto import Moto

    server = Moto(Path(tempfile.mkdtemp(dir=os.environ["DIALECT_WORK"])))
    server.start()
    config.add_cleanup(server.stop)
    os.environ["AWS_ENDPOINT_URL"] = server.endpoint

    @contextlib.contextmanager
    def emptied() -> Iterator[None]:
        request = urllib.request.Request(f"{server.endpoint}/moto-api/reset", method="POST")
        urllib.request.urlopen(request).close()
        yield

    moto.mock_aws = emptied


class Plugin:
    """Leaves out what is listed and counts the rest."""

    def __init__(self, result: str) -> None:
        self._result = result
        self._facts: dict[str, Any] = {"outcomes": {}, "left_out": {}, "unknown": []}

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        kept, out = [], []
        for item in items:
            name = item.nodeid.partition("::")[2]
            entry = listed_as(name)
            (kept if entry is None else out).append(item)
            if entry is not None:
                self._facts["left_out"][name] = entry
        items[:] = kept
        config.hook.pytest_deselected(items=out)
        self._facts["unknown"] = sorted(set(LEFT_OUT) - set(self._facts["left_out"].values()))

    def pytest_runtest_logreport(self, report: Any) -> None:
        outcomes, name = self._facts["outcomes"], report.nodeid.partition("::")[2]
        if report.when == "call" or report.outcome != "passed":
            failed = "failed" in (report.outcome, outcomes.get(name))
            outcomes[name] = "failed" if failed else report.outcome

    def pytest_sessionfinish(self) -> None:
        Path(self._result).write_text(json.dumps(self._facts), encoding="utf-8")


def pytest_configure(config: Any) -> None:
    sys.path[:0] = [str(CHECKOUT), str(HERE.parents[1])]
    assert "cloudfiles" not in sys.modules, "cloud-files was imported before it could be aliased"
    install()
    serve(config)
    config.pluginmanager.register(Plugin(os.environ["DIALECT_RESULT"]))


# -- outside -------------------------------------------------------------------------------------


def source(work: Path) -> str:
    """Return the text of the installed release's tests."""
    release = f"cloud-files=={metadata.version('cloud-files')}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(work), release]
    subprocess.run(command, check=True)
    (archive,) = work.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        for member in members:
            if member.name.endswith("/automated_test.py"):
                file = members.extractfile(member)
                assert file is not None
                return file.read().decode()
    raise SystemExit(f"{archive.name} has no automated_test.py")


def main(arguments: list[str]) -> int:
    if find_spec("cloudfiles") is None:
        print("cloud-files is not installed")
        return 1
    with tempfile.TemporaryDirectory(prefix="pkgdata-dialect-") as folder:
        work = Path(folder)
        if arguments and arguments[0].endswith(".py"):
            text = Path(arguments.pop(0)).read_text(encoding="utf-8")
        else:
            text = source(work)
        (work / "tmp").mkdir()
        tests = work / "test_cloudfiles.py"
        tests.write_text(text.replace("/tmp/", f"{work}/tmp/"), encoding="utf-8")
        facts = run(work, tests, arguments)
    return report(facts) if facts else 1


def run(work: Path, tests: Path, arguments: list[str]) -> dict[str, Any]:
    (work / "pytest.ini").write_text("[pytest]\n")
    result = work / "result.json"
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PKGDATA_", "AWS_")) and not name.lower().endswith("_proxy")
    }
    env |= {
        "HOME": str(work),
        "XDG_CACHE_HOME": str(work / "xdg"),
        "CLOUD_FILES_DIR": str(work / "cloudfiles"),
        "CLOUD_VOLUME_DIR": str(work / "cloudvolume"),
        "PKGDATA_CACHE_DIR": str(work / "cache"),
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(HERE)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DIALECT_RESULT": str(result),
        "DIALECT_WORK": str(work),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(work / "pytest.ini")]
    command += ["-p", "run_cloudfiles", "-p", "no:cacheprovider", str(tests), *arguments]
    subprocess.run(command, cwd=work, env=env, check=False)
    return json.loads(result.read_text()) if result.exists() else {}


def report(facts: dict[str, Any]) -> int:
    outcomes, left_out = facts["outcomes"], facts["left_out"]
    for reason in dict.fromkeys(LEFT_OUT.values()):
        names = [name for name, entry in left_out.items() if LEFT_OUT[entry] == reason]
        print(f"\nleft out, {reason}:")
        print("\n".join(f"  {name}" for name in names))
    counts = {one: list(outcomes.values()).count(one) for one in ("passed", "skipped", "failed")}
    print(
        f"\n{len(outcomes) + len(left_out)} tests of cloud-files: {counts['passed']} passed, "
        f"{counts['failed']} failed, {counts['skipped']} skipped, {len(left_out)} left out"
    )
    for name in facts["unknown"]:
        print(f"listed, but there is no such test: {name}")
    return 1 if counts["failed"] or facts["unknown"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
