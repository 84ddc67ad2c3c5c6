"""What one pytest process knows of data files: which tests need which, and where they are.

`RunFiles` serves markers and fixtures, `Usage` the option ``--pkgdata-report``.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import functools
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from ...base import config, text
from ...base.config import conf
from ...base.progress import BYTES, START, Callback, Event
from ...base.report import HIT, short, tried
from ...base.urls import redact
from ...core import declaration
from ...core.package import PackageData
from ...errors import BatchError, ConfigError, OfflineError, PkgdataError

#: Package and name.
Need = tuple[str, str]
#: Package, name, kind of place, path or URL, bytes. A list, since it travels as JSON.
Row = list[Any]

#: Settings that count in an isolated test too, by variable.
_KEPT = frozenset({"PKGDATA_OFFLINE", "PKGDATA_PROGRESS"})
#: What the system says where nothing leads to the network.
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})
#: Complaints about markers that are shown.
_SHOWN = 10
_MIRROR = "mirror"
#: Methods that are wrapped: those that return files, and the one that chooses the progress bars.
_VERBS = ("get", "fetch", "tree", "_view")


class RunFiles:
    """The data files of one process of a pytest run.

    ``package`` is that of files for which none is given, searched in all that are installed if it
    is empty; a path is relative to ``root``, pytest's root directory. ``strict``: fail where a test
    would be skipped.
    """

    def __init__(self, package: str, root: str, offline: bool, strict: bool) -> None:
        self._default = os.path.join(root, package) if "/" in package else package
        self._offline = offline
        self._strict = strict
        self._folders: dict[str, PackageData] = {}
        self._owners: dict[Need, str] = {}
        self._paths: dict[Need, str] = {}
        # why nothing of a package can be fetched: another attempt would wait as long
        self._unreachable: dict[str, str] = {}
        # the run's settings while a fixture has changed them
        self._outside: _Settings | None = None

    # -- packages --------------------------------------------------------------------------

    def _data(self, package: str) -> PackageData:
        """Return the data of a package; a new declaration counts at once."""
        if "/" in package or os.sep in package:
            if package not in self._folders:
                self._folders[package] = declaration.find_package(package)
            return self._folders[package]
        found = declaration.declaration_of(self._announced.get(package, package))
        return declaration.find_package(package) if found is None else found

    @functools.cached_property
    def _announced(self) -> dict[str, str]:
        return declaration.installed()

    def owner(self, name: str, package: str | None) -> str:
        """Return the package that a file belongs to; ``package`` is as the test gives it."""
        asked = (package or "", name)
        if asked not in self._owners:
            self._owners[asked] = self._find_owner(name, package or self._default)
        return self._owners[asked]

    def _find_owner(self, name: str, package: str) -> str:
        if package:
            data = self._data(package)
            if name not in data.registry:
                data.find(name)  # shipped in the package, or an error that names close ones
            return package
        names: dict[str, list[str]] = {}
        for candidate in self._announced:
            try:
                registry = self._data(candidate).registry
            except (PkgdataError, OSError):
                continue  # another package's broken declaration does not concern these tests
            for known in registry:
                names.setdefault(known, []).append(candidate)
        owners = names.get(name, [])
        if len(owners) == 1:
            return owners[0]
        hint = "give package=..., or set pkgdata_package in pytest's configuration"
        if owners:
            problem = f"is in the registries of {' and '.join(sorted(owners))}"
            raise ConfigError(f"{name!r} {problem}", hint=hint)
        if close := difflib.get_close_matches(name, names, 3, 0.5):
            hint = f"did you mean {' or '.join(map(repr, close))}?"
        raise ConfigError(f"{name!r} is in the registry of no installed package", hint=hint)

    # -- markers ---------------------------------------------------------------------------

    def _needs(self, item: pytest.Item) -> list[Need]:
        found = []
        for mark in item.iter_markers("pkgdata"):
            good = mark.args and all(isinstance(name, str) and name for name in mark.args)
            package = mark.kwargs.get("package")
            if not good or set(mark.kwargs) - {"package"} or not isinstance(package, str | None):
                raise ConfigError(
                    f"{_written(mark)}: expected names of files, and package=... if need be"
                )
            found += [(self.owner(name, package), name) for name in mark.args]
        return list(dict.fromkeys(found))

    def collect(self, items: Iterable[pytest.Item]) -> tuple[list[Need], str]:
        """Return what tests need, and what is wrong with their markers, empty if nothing is."""
        needs: dict[Need, None] = {}
        problems: dict[str, list[str]] = {}
        for item in items:
            try:
                found = self._needs(item)
            except (PkgdataError, OSError) as error:
                problems.setdefault(str(error), []).append(item.nodeid)
                continue
            if item.get_closest_marker("skip") is None:
                needs.update(dict.fromkeys(found))
        return list(needs), _complaint(problems)

    def prefetch(self, needs: Sequence[Need]) -> Iterator[str]:
        """Fetch files, one batch for each package; yield lines for the terminal.

        What fails is reported and left to the tests.
        """
        wanted: dict[str, list[str]] = {}
        for package, name in needs:
            if (package, name) not in self._paths:
                wanted.setdefault(package, []).append(name)
        for package, names in wanted.items():
            try:
                report = tried(self._data(package).fetch, names)
            except (PkgdataError, OSError) as error:
                # declared by a test module, which the controller does not import
                yield f"pkgdata: {package} is left to the tests: {short(error)}"
                continue
            here = report.succeeded
            self._paths.update({(package, name): path for name, path in here.items()})
            size = text.size(sum(os.path.getsize(path) for path in here.values()))
            yield f"pkgdata: {len(here)} of {len(names)} files of {package} are here, {size}"
            for name, failure in report.failed.items():
                yield f"pkgdata: not {name!r}: {short(failure)}"

    # -- tests -----------------------------------------------------------------------------

    def setup(self, item: pytest.Item) -> None:
        """Fetch what a test's markers name; skip the test, or fail it, where that is impossible."""
        __tracebackhide__ = True
        for package, name in self._needs(item):
            path, reason = self._bring(package, name)
            if path is None:
                # reported for the test's line, not for this one
                raise pytest.skip.Exception(reason, _use_item_location=True)

    def file(self, name: str, package: str | None) -> str:
        """Return the path of a file; skip the test if there is no network.

        Other errors are raised: an unknown name, wrong bytes, a mirror that refuses.
        """
        __tracebackhide__ = True
        path, reason = self._bring(self.owner(name, package), name)
        if path is None:
            pytest.skip(reason)
        return path

    def _bring(self, package: str, name: str) -> tuple[str | None, str]:
        """Return the path of a file, or None and why the test is skipped; if strict, it fails."""
        __tracebackhide__ = True
        path = self._paths.get((package, name))
        if path is None or not os.path.exists(path):
            with self._shared():
                path, why = self._look(self._data(package), package, name)
            if path is None:
                reason = f"{name!r} of {package} is not here, and {why}"
                if self._strict:
                    hint = f"'pkgdata where {package} {name}' lists where it was looked for"
                    pytest.fail(f"{reason}\nHint: {hint}", pytrace=False)
                return None, reason
            self._paths[package, name] = path
        return path, ""

    def _look(self, data: PackageData, package: str, name: str) -> tuple[str | None, str]:
        why = "--pkgdata-offline was given" if self._offline else self._unreachable.get(package)
        if why is not None:
            return data.find(name), why
        try:
            return data.get(name), ""
        except OfflineError:
            return None, "pkgdata is offline"
        except PkgdataError as error:
            if not _is_unreachable(error):
                raise
            why = self._unreachable[package] = f"there is no network: {short(error)}"
            return None, why

    # -- isolation -------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Note that a fixture changes settings for a while; `conf` is restored afterwards."""
        before = _Settings()
        first, self._outside = self._outside is None, self._outside or before
        try:
            yield
        finally:
            before.restore_conf()
            if first:
                self._outside = None

    @contextlib.contextmanager
    def _shared(self) -> Iterator[None]:
        """Use the settings, and thus the cache, of the whole run inside a test that changed them.

        Other threads see them as well, for as long as it takes to find or fetch one file.
        """
        if self._outside is None:
            yield
            return
        inside = _Settings()
        self._outside.restore()
        try:
            yield
        finally:
            inside.restore()


class _Settings:
    """Our settings at one moment: variables, and what was assigned to `conf`."""

    def __init__(self) -> None:
        self._variables = {name: value for name, value in os.environ.items() if _is_ours(name)}
        found = config.state()[0]
        assert isinstance(found, dict)
        self._assigned = dict(found)

    def restore(self) -> None:
        """Restore them."""
        for name in list(os.environ):
            if _is_ours(name) and name not in self._variables:
                del os.environ[name]
        os.environ.update(self._variables)
        self.restore_conf()

    def restore_conf(self) -> None:
        """Restore what was assigned to `conf`."""
        conf.reset()
        for name, value in self._assigned.items():
            setattr(conf, name, value)


def _is_ours(variable: str) -> bool:
    """Return True if a variable decides where our files or settings are."""
    return variable.startswith("PKGDATA_") or variable in ("XDG_CONFIG_DIRS", "ASTROPY_CACHE_DIR")


def isolate(patch: pytest.MonkeyPatch, folder: str) -> None:
    """Give all settings their defaults, and a cache below an empty folder."""
    offline = config.is_offline()
    for name in list(os.environ):
        if _is_ours(name) and name not in _KEPT:
            patch.delenv(name)
    conf.reset()
    # neither the user's nor the site's file: the one is empty, the other in an empty folder
    os.makedirs(folder, exist_ok=True)
    own = os.path.join(folder, "config.toml")
    with open(own, "a", encoding="utf-8"):
        patch.setenv("PKGDATA_CONFIG", own)
    patch.setenv("XDG_CONFIG_DIRS", folder)
    patch.setenv("PKGDATA_CACHE_DIR", os.path.join(folder, "cache"))
    if offline:
        patch.setenv("PKGDATA_OFFLINE", "1")


def _is_unreachable(error: PkgdataError) -> bool:
    """Return True if this machine seems to have no network: no mirror was found or reachable."""
    attempts = getattr(error, "attempts", ())
    return bool(attempts) and all(_has_no_route(one) for _, one in attempts)


def _has_no_route(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _NO_ROUTE:
            return True
        error = error.__cause__ or error.__context__
    return False


def _written(mark: pytest.Mark) -> str:
    words = [*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())]
    return f"@pytest.mark.pkgdata({', '.join(words)})"


def _complaint(problems: dict[str, list[str]]) -> str:
    lines = []
    for problem, tests in list(problems.items())[:_SHOWN]:
        more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
        lines.append(f"{tests[0]}{more}: " + problem.replace("\n", "\n  "))
    if len(problems) > _SHOWN:
        lines.append(f"… and {len(problems) - _SHOWN} more")
    return "\n".join(lines)


# -- the report ---------------------------------------------------------------------------------

# While it is active, methods of `PackageData` are wrapped, so that runs without the option cost
# nothing. Each worker of pytest-xdist sends what it saw with the reports of its tests.


class Usage:
    """Counts the files that this process uses, and prints those of all processes."""

    def __init__(self, is_worker: bool) -> None:
        self._is_worker = is_worker
        self._rows: dict[tuple[str, str], Row] = {}
        self._unsent: list[Row] = []
        self._mirrors: dict[tuple[str, str], str] = {}
        patch = pytest.MonkeyPatch()
        for verb in _VERBS:
            patch.setattr(PackageData, verb, self._wrapped(verb, getattr(PackageData, verb)))
        #: Removes the wrappers.
        self.stop = patch.undo

    def _wrapped(self, verb: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapped(data: PackageData, *args: Any, **kwargs: Any) -> Any:
            try:
                result = original(data, *args, **kwargs)
            except BatchError as error:
                self._note_all(data, error.report.succeeded)
                raise
            if verb == "_view":
                return self._learning(data, result)
            if verb == "fetch":
                self._note_all(data, result.succeeded)
            elif verb == "get":
                self._note(data, args[0] if args else kwargs["name"])
            else:
                self._note_all(data, _below(data, *args, **kwargs))
            return result

        return wrapped

    # -- what is used ----------------------------------------------------------------------

    def _learning(self, data: PackageData, show: Callback) -> Callback:
        """Return a callback that learns from events which mirror serves, and passes them on."""

        def learning(event: Event) -> None:
            if event.source and event.state in (START, BYTES):
                self._mirrors[data.name, event.name] = redact(event.source)
            show(event)

        return learning

    def _note_all(self, data: PackageData, names: Iterable[str]) -> None:
        for name in list(names):
            self._note(data, name)

    def _note(self, data: PackageData, name: str) -> None:
        key = (data.name, name)
        mirror = self._mirrors.pop(key, None)
        if key in self._rows and mirror is None:
            return
        try:
            place = next(place for place in data.where(name) if place.state == HIT)
            size = os.path.getsize(place.where)
        except (StopIteration, PkgdataError, OSError):
            return  # it was removed meanwhile
        kind, where = (place.kind, place.where) if mirror is None else (_MIRROR, mirror)
        row = [data.name, name, kind, where, size]
        self._unsent.append(row)
        self._add(row)

    def _add(self, row: Row) -> None:
        """Keep a row; that some process fetched the file counts more than a later hit."""
        known = self._rows.get((row[0], row[1]))
        if known is None or row[2] == _MIRROR:
            self._rows[row[0], row[1]] = row

    # -- hooks -----------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add what this worker used to its report; collect what the workers sent."""
        if self._is_worker:
            report.pkgdata_used, self._unsent = self._unsent, []
        else:
            for row in getattr(report, "pkgdata_used", ()):
                self._add(row)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the table."""
        terminalreporter.write_sep("=", "data files")
        cells = [
            (kind, text.size(size), f"{package}/{name}", where)
            for package, name, kind, where, size in sorted(self._rows.values())
        ]
        widths = [max(map(len, column)) for column in list(zip(*cells, strict=True))[:3]]
        for kind, size, name, where in cells:
            terminalreporter.write_line(
                f"{kind:{widths[0]}}  {size:>{widths[1]}}  {name:{widths[2]}}  {where}"
            )
        total = text.size(sum(row[4] for row in self._rows.values()))
        fetched = [row[4] for row in self._rows.values() if row[2] == _MIRROR]
        terminalreporter.write_line(
            f"{len(cells)} files, {total}; fetched: {len(fetched)}, {text.size(sum(fetched))}"
        )


def _below(data: PackageData, prefix: str = "") -> list[str]:
    """Return the names that `PackageData.tree` takes in."""
    start = prefix.strip("/") + "/" if prefix.strip("/") else ""
    return [start + name for name in data.registry.under(prefix)]
