"""Brings the bytes of a file for pooch's users: by pkgdata's transfer, or by their own callable."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from ...base import config, hashes
from ...base import urls as texts
from ...base.progress import DONE, FAILED, START, Event, silent, view
from ...errors import AllMirrorsFailedError, PkgdataError
from ...stores import Source, canonical, open_store
from ...transfer import fetch
from ...transfer.fetch import Health
from . import basics
from .basics import pooch_module
from .place import settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ...base.hashes import Digest
    from ...base.progress import Callback
    from ...cache.partial import Partial
    from .place import LocalFile

    #: Base URL and name.
    Address = tuple[str, str]


# -- the two ways to bring a file --------------------------------------------------------------


@dataclass
class Call:
    """Fills a `Partial` by a callable of the user: ``downloader(url, output_file, pooch)``."""

    _file: LocalFile
    _url: str
    _downloader: Callable[..., Any]
    _caller: object
    _retries: int
    resume = False
    found = None

    def __call__(self, partial: Partial) -> None:
        """Run it and verify what came."""
        partial.close()  # the callable opens the file itself, or replaces it
        _retrying(self._retries, self._file.base, lambda: self._once(partial.path))

    def _once(self, path: str) -> None:
        with open(path, "wb"):
            pass  # nothing of an attempt that failed
        self._downloader(self._url, path, self._caller)
        expected = self._file.digest
        if expected is None:
            return
        actual = hashes.hash_file(path, expected.alg)
        if actual != expected:
            what = f"wrong bytes for {self._file.name!r}"
            error = hashes.mismatch(what, expected, actual, name=self._file.name, source=self._url)
            raise basics.mismatch(self._file.base, self._file.known or "", error)


@dataclass
class Engine:
    """Fills a `Partial` by pkgdata's transfer; the sources are asked for at the first attempt."""

    _file: LocalFile
    _sources: Callable[[], Sequence[Source]]
    #: As given to pooch: a truth value or a progress bar.
    _progressbar: object
    _retries: int
    #: First words of the ``User-Agent``.
    _agent: str | None = None
    #: Of the bytes that came, where no hash is known.
    found: Digest | None = None

    @property
    def resume(self) -> bool:
        """Whether bytes that were left behind are of use: a hash must tell if they are right."""
        return self._file.digest is not None

    def __call__(self, partial: Partial) -> None:
        """Fetch and verify the bytes."""
        show = _progress(self._progressbar)
        agent = config.conf.set_temp("default_http_user_agent", self._agent or "")
        with (
            fetch.shown(self._file.name, show, lambda: os.fstat(partial.fd).st_size),
            agent if self._agent else contextlib.nullcontext(),
        ):
            _retrying(self._retries, self._file.base, lambda: self._once(partial, show))

    def _once(self, partial: Partial, show: Callback) -> None:
        file = self._file
        retries, origin = config.resolve("retries")
        if origin == "default":
            retries = 0  # pooch tries once by default; further rounds are for those who ask
        rounds = {"retries": retries, "health": _health()}
        try:
            sources = self._sources()
            fetched = fetch.fetch(file.name, partial, sources, file.digest, None, show, **rounds)
            self.found = fetched.digest
        except PkgdataError as error:
            made = basics.translated(error, file.base, file.known)
            if made is error:
                raise
            raise made from error


def _retrying(count: int, name: str, attempt: Callable[[], None]) -> None:
    """Try ``count`` times more, as ``retry_if_failed`` says, with pooch's waits and words."""
    for number in range(count + 1):
        try:
            attempt()
            return
        except Exception as error:
            left = count - number
            if not left or not _worth_retrying(error):
                raise
            text = "Failed to download '%s'. Will attempt the download again %d more time%s."
            basics.logger().info(text, name, left, "s" if left > 1 else "")
            time.sleep(min(number + 1, 10))


def _worth_retrying(error: Exception) -> bool:
    import requests.exceptions

    return isinstance(error, (ValueError, requests.exceptions.RequestException))


def _health() -> Health | None:
    """Return what is known of servers that are down."""
    root = settings()[1]
    return None if root is None else Health(root)


# -- which of the two, and from where ----------------------------------------------------------


def filler(
    file: LocalFile,
    urls: Sequence[Address],
    downloader: Callable[..., Any] | None,
    progressbar: Any,
    retries: int,
    caller: object,
    project: str,
) -> Engine | Call:
    """Return what brings the bytes of a file from one of several addresses.

    pooch's own downloaders of HTTP and of DOIs are replaced by the engine, unless they were given
    arguments for requests that it does not know. ``caller`` is the `Pooch`; ``project`` is the name
    below which configured folders keep such files.
    """
    local = _local_sources(project, file.name)
    if config.is_offline():
        if not local:
            raise basics.no_network(file.name, file.folder)
        return Engine(file, lambda: local, progressbar, retries)
    url = "".join(urls[0])
    kind = texts.scheme(url)
    if downloader is None and kind in ("", "ftp", "sftp"):
        downloader = pooch_module("downloaders").choose_downloader(url, progressbar=progressbar)
    timeout = agent = None
    if downloader is not None:
        if not _is_plain(downloader, kind):
            return Call(file, url, downloader, caller, retries)
        progressbar = getattr(downloader, "progressbar", False)
        if kind != "doi":
            given = getattr(downloader, "kwargs", {})
            timeout, agent = given.get("timeout"), next(iter(_headers(given).values()), None)

    def sources() -> list[Source]:
        resolved = [_resolved(base, name) for base, name in urls]
        return local + _sources_of(resolved, timeout)

    if kind != "doi":
        sources()  # a malformed URL is reported before anything is started
    return Engine(file, sources, progressbar, retries, agent)


def _headers(given: dict[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in (given.get("headers") or {}).items()}


def _is_plain(downloader: Any, kind: str) -> bool:
    """Return True if the engine does what one of pooch's own downloaders would do."""
    if type(downloader).__module__ != "pooch.downloaders":
        return False
    name, given = type(downloader).__name__, downloader.__dict__.get("kwargs", {})
    if name == "HTTPDownloader" and kind in ("http", "https"):
        known = set(given) <= {"timeout", "headers"} and set(_headers(given)) <= {"user-agent"}
        return known and isinstance(given.get("timeout", 1), (int, float))
    plain = name == "DOIDownloader" and kind == "doi" and not given
    return plain and downloader.headers == pooch_module("downloaders").REQUESTS_HEADERS


def _resolved(base: str, name: str) -> Address:
    """Return where a file is that a DOI names."""
    if not base.startswith("doi:"):
        return base, name
    parsed = pooch_module("utils").parse_url(base + name)
    downloader = pooch_module("downloaders").DOIDownloader()
    found = repository(parsed["netloc"], downloader)
    return found.download_url(parsed["path"].removeprefix("/")), ""


def repository(doi: str, downloader: Any) -> Any:
    """Return pooch's view of the data repository behind a DOI."""
    return pooch_module("downloaders").doi_to_repository(
        doi, headers=downloader.headers, timeout=downloader.timeout, **downloader.kwargs
    )


def available(
    name: str,
    url: str,
    urls: Sequence[Address],
    downloader: Callable[..., Any] | None,
    caller: object,
) -> bool:
    """Return whether a file can be downloaded."""
    if config.is_offline():
        raise basics.no_network(name, url)
    if downloader is None and texts.scheme(url) in ("", "ftp", "sftp", "doi"):
        downloader = pooch_module("downloaders").choose_downloader(url)
    if downloader is None:
        return _any_has(name, _sources_of(urls, None))
    try:
        return bool(downloader(url, None, caller, check_only=True))
    except TypeError as error:
        raise NotImplementedError(
            f"Downloader '{downloader}' does not support availability checks."
        ) from error


def _any_has(name: str, sources: Sequence[Source]) -> bool:
    failed = None
    for source in sources:
        try:
            source.store.info(source.name)
            return True
        except PkgdataError as error:
            if not basics.status_of(error):
                failed = failed or (source.address, error)
    if failed is not None:
        text = f"cannot ask for {name!r}: {failed[1].message}"
        unanswered = AllMirrorsFailedError(text, name=name, attempts=[failed])
        raise basics.translated(unanswered, name, None) from failed[1]
    return False


def shown(url: str) -> str:
    """Return a URL for the log: as it is, without secrets."""
    return texts.redact(url) if any(c in url for c in "@=?") else url


def _sources_of(urls: Sequence[Address], timeout: float | None) -> list[Source]:
    """Return the sources of a file, with the site's rules applied.

    Over HTTP base and name are joined as text, as pooch does. ``timeout`` is in seconds, to connect
    and between bytes; the setting by default.
    """
    rules = config.conf.rewrite
    seconds = config.conf.remote_timeout if timeout is None else timeout
    found: dict[str, Source] = {}
    for base, name in urls:
        if texts.scheme(base) in ("http", "https"):
            base, name = base + name, ""
        store = open_store(texts.rewrite(canonical(base), rules), seconds)
        found.setdefault(store.address(name), Source(store, name))
    known = _health()
    listed = list(found.values())
    return listed if known is None else sorted(listed, key=lambda one: known.is_down(one.store.url))


def _local_sources(project: str, name: str) -> list[Source]:
    """Return the configured folders that hold a file of a project."""
    found = []
    for folder in config.conf.folders:
        path = os.path.join(folder, project, *name.split("/"))
        if project and os.path.isfile(path):
            found.append(Source(open_store(Path(os.path.abspath(path)).as_uri()), ""))
    return found


# -- progress ----------------------------------------------------------------------------------


def _progress(progressbar: Any) -> Callback:
    if progressbar is True:
        return view(True)
    return _TheirBar(progressbar) if progressbar else silent


class _TheirBar:
    """Advances a progress bar object of the user: ``total``, ``update``, ``reset``, ``close``."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._done = 0

    def __call__(self, event: Event) -> None:
        bar = self._bar
        if event.state == FAILED:
            return
        if event.state == START or event.total is not None:
            bar.total = event.total or 0
        if event.state == DONE:
            # as pooch ends it, whatever was counted before
            bar.reset()
            bar.update(event.done)
            bar.close()
            return
        if event.done < self._done:
            bar.reset()
            self._done = 0
        if event.done > self._done:
            bar.update(event.done - self._done)
            self._done = event.done
