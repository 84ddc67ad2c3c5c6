"""Download what was published as any user would: a fresh process, cache and `PackageData`.

The process gets an environment with no credentials in it and a home of its own, so that no cloud
key, ``netrc``, token, local folder or setting of the publisher can help. What a network needs
is kept: proxies and certificates. Files are fetched some at a time and removed again, so that
little disk is needed.

`main` is what that process runs: it reads a job as JSON, and writes a line of JSON for every file,
and for the bytes in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..base import disk, fs, pool, urls
from ..base.config import conf
from ..base.progress import BYTES, DONE, FAILED, Callback, Event
from ..base.report import tried
from ..core.package import PackageData
from ..core.registry import Entry, Registry
from ..errors import AccessDeniedError, IntegrityError, ObjectNotFoundError, PublishError

#: States of a file on a mirror.
OK, ABSENT, WRONG, REFUSED, UNREACHABLE = "ok", "absent", "wrong", "refused", "failed"

#: Variables that say how the network is reached, not who somebody is.
_KEPT = (
    "PATH", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "PYTHONPATH", "PYTHONHOME",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip

#: Files are removed again after about this many bytes.
_AT_ONCE = 1 << 30


class Mirror:
    """A place that must serve files, as a user sees it, but for ``optional`` ones.

    Without a ``dataurl`` the entries have addresses of their own.
    """

    def __init__(
        self, name: str, dataurl: str | None, entries: Sequence[Entry], optional: Iterable[str] = ()
    ) -> None:
        self.name = urls.redact(name)
        # a relative path means one from here, not from where the other process runs
        plain = dataurl is not None and urls.scheme(dataurl) == ""
        self.dataurl = urls.canonical(dataurl) if dataurl is not None and plain else dataurl
        self.entries = entries
        self.optional = frozenset(optional)


class Finding(NamedTuple):
    """What became of reading one file back; ``note`` is what is wrong."""

    mirror: str
    entry: Entry
    #: One of the states above.
    state: str
    note: str = ""


def mirrors_of(dataurl: Sequence[str], registry: Registry) -> list[Mirror]:
    """Return every place from which a registry's files are to be had.

    A file with addresses of its own need not be below the base URLs; but what is there
    must be right.
    """
    pinned = [entry for entry in registry.values() if entry.digest is not None]
    bare = [Entry(entry.name, entry.digest, entry.size) for entry in pinned]
    own = [entry.name for entry in pinned if entry.urls]
    found = [Mirror(base, base, bare, own) for base in dataurl]
    hosts: dict[str, list[Entry]] = {}
    for entry in pinned:
        for url in entry.urls:
            alone = Entry(entry.name, entry.digest, entry.size, (url,))
            hosts.setdefault(host_of(url), []).append(alone)
    return found + [Mirror(host, None, entries) for host, entries in hosts.items()]


def host_of(url: str) -> str:
    """Return the scheme and host of a URL, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def clean_environment(home: str) -> dict[str, str]:
    """Return an environment in which nobody is known; ``home`` is an empty folder."""
    kept = {key: value for key, value in os.environ.items() if key.upper() in _KEPT}
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = [checkout, kept.get("PYTHONPATH", "")]
    return kept | {
        "HOME": home,
        "USERPROFILE": home,
        "XDG_CONFIG_HOME": home,
        "XDG_CONFIG_DIRS": home,
        "NETRC": os.path.join(home, "netrc"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }


def read_back(mirror: Mirror, progress: Callback) -> list[Finding]:
    """Download every file of a mirror without credentials and compare the digests, in order."""
    with disk.temporary("check") as work:
        found = dict(_run(mirror, work, progress))
    by_name = {entry.name: entry for entry in mirror.entries}
    missing = [name for name in by_name if name not in found]
    if missing:
        raise PublishError(f"reading back from {mirror.name} ended before {missing[0]!r}")
    return [_finding(mirror, entry, *found[name]) for name, entry in by_name.items()]


def _finding(mirror: Mirror, entry: Entry, state: str, note: str) -> Finding:
    if state == ABSENT and entry.name in mirror.optional:
        return Finding(mirror.name, entry, OK, "not there, but has an address of its own")
    return Finding(mirror.name, entry, state, note)


def _run(mirror: Mirror, work: str, progress: Callback) -> Iterator[tuple[str, tuple[str, str]]]:
    home = os.path.join(work, "home")
    os.mkdir(home)
    job = {
        "dataurl": mirror.dataurl,
        "registry": Registry(mirror.entries).dumps(),
        "cache": os.path.join(work, "cache"),
        # how long we wait says nothing of who we are
        "settings": {name: getattr(conf, name) for name in ("retries", "remote_timeout")},
    }
    log = os.path.join(work, "log")
    with open(log, "wb") as errors:
        process = pool.python(
            "from pkgdata.publish.readback import main; main()",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=clean_environment(home),
            cwd=home,
            text=True,
            encoding="utf-8",
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdout:
            with contextlib.suppress(BrokenPipeError):  # it has died; what it said comes below
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
            for line in process.stdout:
                told = json.loads(line)
                progress(_event(told, mirror.name))
                if told["state"] != BYTES:
                    yield told["name"], (told["state"], told["note"])
            process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    if process.returncode:
        with open(log, encoding="utf-8", errors="replace") as errors_told:
            said = errors_told.read().strip()[-500:]
        raise PublishError(f"reading back from {mirror.name} failed: {said}")


def _event(told: Mapping[str, Any], mirror: str) -> Event:
    state = {OK: DONE, BYTES: BYTES}.get(told["state"], FAILED)
    return Event(told["name"], state, told["done"], told["total"], mirror)


# -- the process that reads --------------------------------------------------------------------


def main() -> None:
    """Read a job from standard input and do it."""
    job = json.loads(sys.stdin.readline())
    _end_with_parent()
    out = sys.stdout
    sys.stdout = sys.stderr

    def tell(
        name: str, state: str, done: int = 0, total: int | None = None, note: str = ""
    ) -> None:
        row = {"name": name, "state": state, "done": done, "total": total, "note": note}
        out.write(json.dumps(row) + "\n")
        out.flush()

    do(job, tell)


def _end_with_parent() -> None:
    """End when the input does: the process that asked is gone then, and nobody needs the answer."""

    def watch() -> None:
        # not through sys.stdin, whose lock would be in the way of a normal end
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def do(job: Mapping[str, Any], tell: Callable[..., None]) -> None:
    """Fetch files in portions, each into a cache of its own that is removed again."""
    registry = Registry.parse(job["registry"])
    for number, names in enumerate(_portions(registry)):
        root = f"{job['cache']}-{number}"
        part = Registry(registry[name] for name in names)
        _fetch(job["dataurl"], part, root, job.get("settings", {}), tell)
        fs.remove_tree(root)


def _portions(registry: Registry) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for entry in registry.values():
        names.append(entry.name)
        size += entry.size or 0
        if size >= _AT_ONCE:
            yield names
            names, size = [], 0
    if names:
        yield names


def _fetch(
    dataurl: str | None,
    registry: Registry,
    root: str,
    settings: Mapping[str, Any],
    tell: Callable[..., None],
) -> None:
    data = PackageData(
        "published",
        dataurl=(dataurl,) if dataurl else (),
        registry=registry,
        cache_dir=root,
        durability="none",
        progress=False,
        offline=False,
        rewrite={},
        site_caches=(),
        **settings,
    )
    told = 0.0

    def show(event: Event) -> None:
        nonlocal told
        if event.state == BYTES and time.monotonic() > told + 0.1:
            told = time.monotonic()
            tell(event.name, BYTES, event.done, event.total)

    report = tried(data.fetch, progress=show)
    for name, entry in registry.items():
        if name in report.succeeded:
            tell(name, OK, entry.size or 0, entry.size)
        else:
            state, note = _what_failed(report.failed[name])
            tell(name, state, 0, entry.size, note)


def _what_failed(error: Exception) -> tuple[str, str]:
    inner = next((one for _, one in getattr(error, "attempts", ())), error)
    note = str(inner).splitlines()[0]
    for kind, state in (
        (IntegrityError, WRONG),
        (ObjectNotFoundError, ABSENT),
        (AccessDeniedError, REFUSED),
    ):
        if isinstance(inner, kind) or isinstance(error, kind):
            return state, note
    return UNREACHABLE, note


if __name__ == "__main__":
    main()
