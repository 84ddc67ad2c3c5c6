"""Where a file of pooch's users comes from, and who of `_pooch_bring` brings it."""

from __future__ import annotations

import os

from ...base import config
from ...base import urls as texts
from ...errors import AllMirrorsFailedError, PkgdataError
from . import errors
from .bring import Call, Engine, health, pooch_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ...stores import Source
    from .place import Spot


def filler(
    spot: Spot,
    urls: Sequence[tuple[str, str]],
    downloader: Callable[..., Any] | None,
    progressbar: Any,
    retries: int,
    caller: object,
    project: str,
) -> Engine | Call:
    """Return who brings the bytes of a file.

    pooch's own downloaders of HTTP and of DOIs are carried out by the engine, unless they were
    given arguments for requests that it does not know.

    Parameters
    ----------
    urls : sequence of (str, str)
        Base URL and name, in order.
    caller : object
        The `Pooch`.
    project : str
        Below which name configured folders keep such files.

    Raises
    ------
    ValueError
        The URL is of a kind that neither knows.
    OfflineError
        The network may not be used.
    """
    local = local_sources(project, spot.name)
    if config.is_offline():
        if not local:
            raise errors.no_network(spot.name, spot.folder)
        return Engine(spot, lambda: local, progressbar, retries)
    url = "".join(urls[0])
    kind = texts.scheme(url)
    if downloader is None and kind in ("", "ftp", "sftp"):
        downloader = pooch_module("downloaders").choose_downloader(url, progressbar=progressbar)
    timeout = agent = None
    if downloader is not None:
        if not _is_plain(downloader, kind):
            return Call(spot, url, downloader, caller, retries)
        progressbar = getattr(downloader, "progressbar", False)
        if kind != "doi":
            given = getattr(downloader, "kwargs", {})
            timeout, agent = given.get("timeout"), next(iter(_headers(given).values()), None)

    def sources() -> list[Source]:
        resolved = [_resolved(base, name) for base, name in urls]
        return local + sources_of(resolved, timeout)

    if kind != "doi":
        sources()  # a URL that cannot be right is told before anything is begun
    return Engine(spot, sources, progressbar, retries, agent)


def _headers(given: dict[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in (given.get("headers") or {}).items()}


def _is_plain(downloader: Any, kind: str) -> bool:
    """Say whether the engine does what one of pooch's own downloaders would do."""
    if type(downloader).__module__ != "pooch.downloaders":
        return False
    name, given = type(downloader).__name__, downloader.__dict__.get("kwargs", {})
    if name == "HTTPDownloader" and kind in ("http", "https"):
        known = set(given) <= {"timeout", "headers"} and set(_headers(given)) <= {"user-agent"}
        return known and isinstance(given.get("timeout", 1), (int, float))
    plain = name == "DOIDownloader" and kind == "doi" and not given
    return plain and downloader.headers == pooch_module("downloaders").REQUESTS_HEADERS


def _resolved(base: str, name: str) -> tuple[str, str]:
    """Return where a file lies that a DOI names."""
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
    urls: Sequence[tuple[str, str]],
    downloader: Callable[..., Any] | None,
    caller: object,
) -> bool:
    """Say whether a file can be downloaded.

    Parameters
    ----------
    urls : sequence of (str, str)
        Base URL and name, in order.
    caller : object
        The `Pooch`.

    Raises
    ------
    NotImplementedError
        The downloader cannot tell.
    """
    if config.is_offline():
        raise errors.no_network(name, url)
    if downloader is None and texts.scheme(url) in ("", "ftp", "sftp", "doi"):
        downloader = pooch_module("downloaders").choose_downloader(url)
    if downloader is None:
        return _any_has(name, sources_of(urls, None))
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
            if not errors.status_of(error):
                failed = failed or (source.address, error)
    if failed is not None:
        text = f"cannot ask for {name!r}: {failed[1].message}"
        unanswered = AllMirrorsFailedError(text, name=name, attempts=[failed])
        raise errors.translated(unanswered, name, None) from failed[1]
    return False


def shown(url: str) -> str:
    """Return a URL for the log: as it is, without secrets."""
    return texts.redact(url) if "@" in url or "=" in url else url


def sources_of(urls: Sequence[tuple[str, str]], timeout: float | None) -> list[Source]:
    """Return the sources of a file, with the site's rules applied.

    Parameters
    ----------
    urls : sequence of (str, str)
        Base URL and name; over HTTP the two are joined as text, as pooch does.
    timeout : float or None
        Seconds to connect, and between bytes; the setting by default.

    Raises
    ------
    ConfigError
        A URL is malformed or of a kind that pkgdata does not know.
    """
    from ...stores import Source, canonical, open_store

    rules = config.conf.rewrite
    seconds = config.conf.remote_timeout if timeout is None else timeout
    found: dict[str, Source] = {}
    for base, name in urls:
        if texts.scheme(base) in ("http", "https"):
            base, name = base + name, ""
        store = open_store(texts.rewrite(canonical(base), rules), seconds)
        found.setdefault(store.address(name), Source(store, name))
    known = health()
    listed = list(found.values())
    return listed if known is None else sorted(listed, key=lambda one: known.is_down(one.store.url))


def local_sources(project: str, name: str) -> list[Source]:
    """Return the configured folders that hold a file of a project."""
    from pathlib import Path

    from ...stores import Source, open_store

    found = []
    for folder in config.conf.folders:
        path = os.path.join(folder, project, *name.split("/"))
        if project and os.path.isfile(path):
            found.append(Source(open_store(Path(os.path.abspath(path)).as_uri()), ""))
    return found
