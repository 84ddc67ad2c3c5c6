"""``pkgdata demo``: the life of a data file, shown on this machine alone.

A small package with real sample files is made in a temporary folder, its data are published into a
web folder, and a server on the loopback interface serves them. Each step says what happened; the
demo fails unless every step did what it promises.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import logging
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..base import config, disk, fs, pool, text
from ..core import scan
from ..core.declaration import declare
from ..core.package import PackageData
from ..errors import OfflineError, PkgdataError
from . import template

#: Bytes of the one large sample: enough for a progress bar and for two processes to meet.
_LARGE = 48 << 20


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Stay quiet; the demo counts instead."""

    def do_GET(self) -> None:
        self.server.requests.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()


class _Site:
    """A web folder and the server that serves it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        handler = functools.partial(_Handler, directory=folder)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.requests: list[str] = []
        self._server.requests = self.requests  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Demo:
    """The stage: an empty folder, in which a site, a package and caches are made."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.site = _Site(self._folder("site"))
        self.rows: list[tuple[str, bool, float, str]] = []

    def _folder(self, *parts: str) -> str:
        path = os.path.join(self.root, *parts)
        os.makedirs(path, exist_ok=True)
        return path

    def _data(self, cache: str, **arguments: Any) -> PackageData:
        return declare("starpkg", **{"cache_dir": os.path.join(self.root, cache), **arguments})

    def step(self, title: str, action: Callable[[], str]) -> None:
        """Run a step, which returns what happened or raises, and remember the outcome."""
        began = time.perf_counter()
        try:
            good, what = True, action()
        except (PkgdataError, OSError, AssertionError) as error:
            good, what = False, f"{type(error).__name__}: {error}".splitlines()[0]
        self.rows.append((title, good, time.perf_counter() - began, what))
        print(f"  {'ok  ' if good else 'FAIL'} {title}", file=sys.stderr)

    # -- the steps -------------------------------------------------------------------------

    def publish(self) -> str:
        """Make the sample files, publish them and write the registry."""
        samples = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data")
        for name in sorted(os.listdir(samples)):
            shutil.copy(os.path.join(samples, name), self.site.folder)
        with open(os.path.join(self.site.folder, "skymap.bin"), "wb") as file:
            file.write(random.Random(2026).randbytes(_LARGE))  # noqa: S311 - a sample
        package = self._folder("lib", "starpkg")
        registry = scan.make(self.site.folder)
        registry.write(os.path.join(package, "registry.txt"))
        for name, content in (
            ("__init__.py", template("demo.py.txt")),
            ("pkgdata.toml", template("demo.toml.txt", url=self.site.url)),
        ):
            fs.write_atomic(os.path.join(package, name), content.encode())
        sys.path.insert(0, os.path.dirname(package))
        _check(not scan.compare(self.site.folder, registry), "the registry differs from the files")
        total = sum(entry.size or 0 for entry in registry.values())
        return f"{len(registry)} files, {text.size(total)}, hashed into registry.txt"

    def first_fetch(self) -> str:
        """Fetch everything into an empty cache."""
        data = self._data("cache")
        report = data.fetch()
        _check(len(report.succeeded) == len(data.registry), "not all files came")
        _check(len(self.site.requests) == len(data.registry), "not one request a file")
        _check(set(data.verify().values()) == {"ok"}, "a file has wrong bytes")
        return f"{len(self.site.requests)} requests, every digest verified"

    def second_fetch(self) -> str:
        """Fetch everything again."""
        before = len(self.site.requests)
        data = self._data("cache")
        data.fetch()
        path = data.get("skymap.bin")
        _check(len(self.site.requests) == before, "the network was used")
        began = time.perf_counter()
        for _ in range(1000):
            data.get("skymap.bin")
        each = (time.perf_counter() - began) * 1e3
        return f"no request; a hit takes {each:.1f} us; {os.path.basename(path)} from the cache"

    def folder_first(self) -> str:
        """Look into a predefined folder before anything else."""
        shelf = self._folder("shelf")
        shutil.copy(os.path.join(self.site.folder, "stars.csv"), shelf)
        before = len(self.site.requests)
        path = self._data("cache2", folders=[shelf]).get("stars.csv")
        _check(path == os.path.join(shelf, "stars.csv"), f"found at {path}")
        _check(len(self.site.requests) == before, "the network was used")
        return "found in the folder, verified once, no request"

    def two_processes(self) -> str:
        """Let two processes ask for one file at once."""
        before = len(self.site.requests)
        code = "import starpkg; print(starpkg.get_data('skymap.bin'))"
        env = {key: text for key, text in os.environ.items() if not key.startswith("PKGDATA_")}
        env["PKGDATA_CACHE_DIR"] = os.path.join(self.root, "cache3")
        children = [pool.python(code, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        answers = [child.communicate(timeout=120)[0].strip() for child in children]
        _check(answers[0] == answers[1] != "", f"they answered {answers}")
        asked = len(self.site.requests) - before
        _check(asked == 1, f"{asked} downloads")
        return "both got the file, one download"

    def lying_mirror(self) -> str:
        """Put a corrupted mirror first."""
        mirror = _Site(self._folder("mirror"))
        told: list[object] = []

        def tell(record: logging.LogRecord) -> bool:
            told.append(record)
            return False  # it is not printed: all goes as it should

        logger = logging.getLogger("pkgdata")
        logger.addFilter(tell)
        try:
            with open(os.path.join(mirror.folder, "spectrum.fits"), "wb") as file:
                file.write(b"?" * os.path.getsize(os.path.join(self.site.folder, "spectrum.fits")))
            data = self._data("cache4", dataurl=[mirror.url, self.site.url])
            path = data.get("spectrum.fits")
        finally:
            logger.removeFilter(tell)
            mirror.close()
        _check(len(told) == 1, f"{len(told)} warnings")
        _check(mirror.requests == ["/spectrum.fits"], "the mirror was not asked")
        with open(path, "rb") as found:
            _check(found.read(6) == b"SIMPLE", "wrong bytes in the cache")
        return "its bytes were refused; those of the next mirror are in the cache"

    def offline(self) -> str:
        """Work without a network."""
        before = len(self.site.requests)
        with config.conf.set_temp("offline", True):
            self._data("cache").get("spiral.png")
            try:
                self._data("cache5").get("spiral.png")
            except OfflineError as error:
                hint = error.hint or ""
            else:
                raise AssertionError("a missing file was found")
        _check(len(self.site.requests) == before, "the network was used")
        _check("pkgdata fetch" in hint, "the error has no hint")
        return "cached files are found; for others, the error says how to prefetch them"


def _check(good: bool, otherwise: str) -> None:
    if not good:
        raise AssertionError(otherwise)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the user's own settings and proxies out of the demo."""
    quiet = {"offline": False, "allow_internet": True, "folders": (), "site_caches": ()}
    with contextlib.ExitStack() as stack:
        for name, value in {**quiet, "rewrite": {}, "verify": "once"}.items():
            stack.enter_context(config.conf.set_temp(name, value))
        saved = {key: os.environ.get(key) for key in ("NO_PROXY", "no_proxy")}
        os.environ.update(dict.fromkeys(saved, "127.0.0.1"))
        try:
            yield
        finally:
            for key, text in saved.items():
                if text is None:
                    del os.environ[key]
                else:
                    os.environ[key] = text


def add(commands: Any) -> None:
    """Add this command to the parser."""
    about = "show the life of a file, on this machine alone"
    text.command(commands, "demo", lambda _: run(), about)


def run() -> int:
    """Run the demo and print its table; return the exit code."""
    with disk.temporary("demo") as root, _undisturbed():
        demo = Demo(root)
        demo.step("publish into a web folder", demo.publish)
        demo.step("first fetch", demo.first_fetch)
        demo.step("second fetch is a hit", demo.second_fetch)
        demo.step("predefined folder first", demo.folder_first)
        demo.step("two processes at once", demo.two_processes)
        demo.step("corrupted mirror", demo.lying_mirror)
        demo.step("offline", demo.offline)
        demo.site.close()
    print()
    text.table(
        ["STEP", "RESULT", "TIME", "WHAT HAPPENED"],
        [
            [title, "ok" if good else "FAILED", f"{seconds:.2f} s", what]
            for title, good, seconds, what in demo.rows
        ],
    )
    good = all(row[1] for row in demo.rows)
    print(f"\n{sum(row[1] for row in demo.rows)} of {len(demo.rows)} steps did what they promise")
    return 0 if good else 1
