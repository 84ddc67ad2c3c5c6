"""A headless Chromium, driven over its own pipe: no driver program and no library in between.

::

    with Chromium(tmp_path / "chromium") as browser:
        browser.open("http://127.0.0.1:8080/")
        browser.evaluate("document.title")

The protocol is that of the Chrome DevTools. The browser reaches nothing but this machine.
"""

from __future__ import annotations

import base64
import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

_FLAGS = [
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu",
    "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--disable-domain-reliability", "--no-pings",
    "--disable-extensions", "--hide-scrollbars", "--no-proxy-server", "--no-sandbox",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip

#: It reads from descriptor 3 and writes to 4, whatever ours are.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str:
    """Return the program; skip the test if there is none, or fail where one is to be."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        ask = "needs Chromium: apt-get install chromium"
        pytest.fail(ask) if os.environ.get("CI") else pytest.skip(ask)
    return found


@functools.cache
def axe() -> str:
    """Return axe-core, which checks what a page is for people who cannot see or use a mouse.

    It is at $AXE, or npm brings it; skip the test if there is no npm, or fail where it is to be.
    """
    path = os.environ.get("AXE")
    if path is None:
        if shutil.which("npm") is None:
            ask = "needs axe-core: apt-get install npm"
            pytest.fail(ask) if os.environ.get("CI") else pytest.skip(ask)
        folder = tempfile.mkdtemp(prefix="pkgdata-axe-")
        try:
            words = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", folder]
            subprocess.run([*words, "axe-core@4"], check=True, timeout=300)
            path = f"{folder}/node_modules/axe-core/axe.min.js"
            return Path(path).read_text("utf-8")
        finally:
            shutil.rmtree(folder)
    return Path(path).read_text("utf-8")


class Chromium:
    """The browser with one page; a context manager.

    Parameters
    ----------
    work : Path
        A folder for its profile and downloads; made if it is not there.
    """

    def __init__(self, work: Path) -> None:
        self._program = find_chromium()
        self._work = work
        self.downloads = work / "downloads"
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []
        self._rest = b""

    def __enter__(self) -> Chromium:
        self.downloads.mkdir(parents=True)
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        words = [self._program, *_FLAGS, f"--user-data-dir={self._work}/profile", "about:blank"]
        with open(self._work / "log", "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(to_read), str(to_write), *words],
                pass_fds=[to_read, to_write],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(self._work)},
                start_new_session=True,
            )
        os.close(to_read)
        os.close(to_write)
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended by itself
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _attach(self) -> None:
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session and not method.startswith("Browser."):
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                found: dict[str, Any] = answer["result"]
                return found
            self._events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 16)
            if not part:
                log = (self._work / "log").read_text(errors="replace")
                raise RuntimeError(f"Chromium has ended:\n{log[-2000:]}")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def wait_for(self, method: str, **wanted: Any) -> dict[str, Any]:
        """Wait for an event with these parameters, and return all of its parameters."""
        while True:
            for event in self._events:
                found: dict[str, Any] = event.get("params", {})
                if event.get("method") == method and wanted.items() <= found.items():
                    self._events.remove(event)
                    return found
            self._events.append(self._read())

    def open(self, url: str, *, script: bool = True) -> None:
        """Load a page, with JavaScript or without."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self._events.clear()
        self.call("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")

    def evaluate(self, expression: str) -> Any:
        """Return what an expression is worth in the page."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the window, and the colours that its user likes."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def serious(self, within: str = "document") -> list[str]:
        """Return what axe-core finds serious or critical in the page, each with its element."""
        self.evaluate(f"{axe()}; 0")
        # colours that are on their way from one to another have no contrast of their own
        self.evaluate("document.getAnimations().forEach(one => one.cancel()); 0")
        ask = f"axe.run({within}).then(r => r.violations)"
        found = self.call(
            "Runtime.evaluate", expression=ask, awaitPromise=True, returnByValue=True
        )["result"]["value"]
        return [
            f"{one['id']} ({one['help']}): {node['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def screenshot(self, path: Path, whole: bool = False) -> bytes:
        """Write what is seen, or the whole page, as a PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"] if whole else None
        area = {"clip": {**size, "scale": 1}, "captureBeyondViewport": True} if size else {}
        content = base64.b64decode(self.call("Page.captureScreenshot", **area)["data"])
        path.write_bytes(content)
        return content

    def press(self, key: str, text: str = "", code: int = 0) -> None:
        """Press and release a key."""
        facts = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **facts)
        self.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    def type(self, text: str) -> None:
        """Type characters where the focus is."""
        for character in text:
            self.press(character, character)

    def download(self, expression: str) -> bytes:
        """Click on an element, and return the bytes of the download that begins."""
        self.call(
            "Browser.setDownloadBehavior",
            behavior="allowAndName",
            downloadPath=str(self.downloads),
            eventsEnabled=True,
        )
        self.evaluate(f"{expression}.click()")
        begun = self.wait_for("Browser.downloadWillBegin")
        self.wait_for("Browser.downloadProgress", guid=begun["guid"], state="completed")
        return (self.downloads / begun["guid"]).read_bytes()

    def complaints(self) -> list[dict[str, Any]]:
        """Return what the browser had to say against the pages so far."""
        self.evaluate("0")
        methods = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self._events if event.get("method") in methods]
