"""The pytest plugin: a marker, options and fixtures for tests that need data files.

Every pytest run of every environment with pkgdata loads this module, so it holds the hooks and
fixtures alone, and imports the rest of pkgdata where a test or an option asks for it.
"""

from __future__ import annotations

import os

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from .. import FaultServer
    from .run import RunFiles

_RUN: pytest.StashKey[RunFiles] = pytest.StashKey()
#: Key of the channel on which a worker of pytest-xdist sends its controller what tests need.
_CHANNEL = "pkgdata_needs"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("pkgdata", "data files (pkgdata)")
    for name, text in {
        "prefetch": "fetch what the markers name, once, before the first test",
        "offline": "use no network; tests whose files are not here are skipped",
        "strict": "fail, instead of skip, tests whose files are not here",
        "report": "list the files that were used, where they came from and their sizes",
    }.items():
        group.addoption(f"--pkgdata-{name}", action="store_true", help=text)
    parser.addini("pkgdata_package", "package of files for which none is given", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and do what the options ask for."""
    config.addinivalue_line(
        "markers",
        "pkgdata(*names, package=None): the test needs these data files; it is skipped if they "
        "are not here and cannot be fetched",
    )
    if config.getoption("pkgdata_offline", False):
        patch = pytest.MonkeyPatch()
        patch.setenv("PKGDATA_OFFLINE", "1")  # for child processes too
        config.add_cleanup(patch.undo)
    if config.getoption("pkgdata_report", False):
        from .run import Usage

        usage = Usage(is_worker=hasattr(config, "workerinput"))
        config.pluginmanager.register(usage, "pkgdata-usage")
        config.add_cleanup(usage.stop)


def _run(config: pytest.Config) -> RunFiles:
    run = config.stash.get(_RUN, None)
    if run is None:
        from .run import RunFiles

        run = config.stash[_RUN] = RunFiles(
            package=config.getini("pkgdata_package"),
            root=str(config.rootpath),
            offline=config.getoption("pkgdata_offline", False),
            strict=config.getoption("pkgdata_strict", False),
        )
    return run


# -- before the tests ------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Check the markers of the tests, and prefetch what they name."""
    config = session.config
    marked = [item for item in session.items if item.get_closest_marker("pkgdata") is not None]
    needs, problems = _run(config).collect(marked) if marked else ([], "")
    channel = getattr(config, "workerinput", {}).get(_CHANNEL)
    if channel is not None:
        # only the controller fetches, and reports what is wrong
        channel.send((needs, problems))
    else:
        _prepare(config, needs, problems)


def _prepare(config: pytest.Config, needs: Sequence[tuple[str, str]], problems: str) -> None:
    if problems:
        raise pytest.UsageError(problems)
    if needs and config.getoption("pkgdata_prefetch", False):
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        for line in _run(config).prefetch(needs):
            if reporter is not None:
                reporter.write_line(line)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give a worker of pytest-xdist a channel to send what its tests need."""
    node.workerinput[_CHANNEL] = node.gateway.newchannel()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    """Prefetch what a worker's tests need; no test starts before this returns."""
    # it was sent before the message that led here, so it has arrived
    needs, problems = node.workerinput[_CHANNEL].receive(timeout=60)
    _prepare(node.config, needs, problems)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fetch the files that a test's markers name, before its fixtures start."""
    # pytest has handled its own marks that skip a test before this
    if item.get_closest_marker("pkgdata") is not None:
        _run(item.config).setup(item)


# -- fixtures --------------------------------------------------------------------------------


@pytest.fixture(scope="session", name="pkgdata_file")
def _file(pytestconfig: pytest.Config) -> Callable[..., str]:
    """Return a function: pkgdata_file(name, package=None) is the path of a data file.

    The file is fetched if it is not here. If there is no network, the test is skipped, or fails
    with --pkgdata-strict. The user's own cache is used, even in a test that has an isolated one.
    """
    run = _run(pytestconfig)

    def pkgdata_file(name: str, package: str | None = None) -> str:
        __tracebackhide__ = True
        return run.file(name, package)

    return pkgdata_file


@pytest.fixture(name="pkgdata_cache")
def _cache(
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """Give the test an empty cache of its own; the value is its pathlib.Path.

    Settings have their defaults, whatever files and PKGDATA_* variables say; only offline mode
    stays. A test may set variables after that. Child processes inherit all of it.
    """
    from .run import isolate

    folder = tmp_path_factory.mktemp("pkgdata_cache")
    with _run(pytestconfig).changing():
        isolate(monkeypatch, str(folder))
        yield folder / "cache"


@pytest.fixture(name="pkgdata_server")
def _server(
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FaultServer]:
    """Give the test an HTTP server on this machine that can be made to fail.

    Its files are those of a new folder: pkgdata_server.contents["a.txt"] = b"..." writes one, and
    pkgdata_server.serve(folder) serves another folder. pkgdata_server.url is the address, and
    pkgdata_server.script("a.txt", faults.cut(10), 503) makes the next two requests fail.

    Offline mode is lifted in the test, since this is no network.
    """
    from .. import FaultServer, ServedFolder

    contents = ServedFolder(tmp_path_factory.mktemp("pkgdata_server"))
    with _run(pytestconfig).changing(), FaultServer(contents) as server:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1", prepend="," if os.environ.get(name) else None)
        monkeypatch.setenv("PKGDATA_OFFLINE", "0")
        yield server
