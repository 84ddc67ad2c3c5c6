"""Pages and files that are gone, from the Internet Archive's Wayback Machine."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import AllMirrorsFailedError
from .. import checks, fetch
from .base import FileResource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from ...core.registry import Entry

#: Where snapshots are; the setting ``rewrite`` may send it elsewhere. ``id_`` asks for the bytes as
#: they were, without the archive's own frame, and the nearest snapshot to a time is answered.
ARCHIVE = "https://web.archive.org/web/"


def snapshot(url: str, timestamp: str) -> str:
    """Return the address of a snapshot.

    Parameters
    ----------
    url : str
        What was there then.
    timestamp : str
        ``YYYYMMDD`` and more digits.
    """
    return f"{ARCHIVE}{timestamp}id_/{url}"


class wayback_documents(FileResource):
    """One file as it was at a time, or many pages as a file of JSON lines.

    Parameters
    ----------
    varname : str
        Its name. Where ``url`` is a function, the time comes first instead, as datamaestro has it.
    url : str or callable
        Address; or a function that returns addresses: each becomes a line with ``url``,
        ``contents`` and, if there is no snapshot, ``available: false``.
    name : str, optional
        Its name, where the time came first.
    timestamp : str, optional
        ``YYYYMMDD`` and more digits.
    filename : str, optional
        Of the file in the dataset's folder; by default the address's, or ``<name>.jsonl``.
    digest : str or Digest, optional
        Of the one file.
    transient : bool, default False
        See `Resource`.
    urls_fn : callable, optional
        datamaestro's name for ``url``, if it is a function.
    """

    def __init__(
        self,
        varname: str = "",
        url: str | Callable[[], Iterable[str]] = "",
        name: str | None = None,
        *,
        timestamp: str | None = None,
        filename: str | None = None,
        digest: Any = None,
        transient: bool = False,
        urls_fn: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        url = urls_fn or url
        if callable(url):
            timestamp, varname = timestamp or varname, name or "documents"
            filename = filename or f"{varname}.jsonl"
        else:
            filename = filename or fetch.basename(url) or varname
        super().__init__(filename, varname=varname or None, transient=transient)
        self._named = not callable(url) or name is not None
        self.url = url
        self.timestamp = timestamp or ""
        self.digest = digest

    def entries(self) -> Sequence[Entry]:
        if callable(self.url):
            return ()
        digest = None if self.digest is None else checks.parse(self.digest)
        return [fetch.entry(self, [snapshot(self.url, self.timestamp)], digest)]

    def _download(self, destination: Path) -> None:
        if not callable(self.url):
            (entry,) = self.entries()
            with fetch.downloaded(entry, destination.parent) as source:
                source.place(destination)
            return
        with open(destination, "w", encoding="utf-8") as out:
            for number, url in enumerate(dict.fromkeys(self.url())):
                out.write(json.dumps(self._page(number, url, destination.parent)) + "\n")

    def _page(self, number: int, url: str, folder: Path) -> dict[str, Any]:
        entry = fetch.entry(self, [snapshot(url, self.timestamp)], None, None, number)
        try:
            with fetch.downloaded(entry, folder) as source:
                text = Path(source.path).read_text("utf-8", errors="replace")
        except AllMirrorsFailedError as error:
            return {"url": url, "available": False, "reason": error.message}
        return {"url": url, "id": entry.urls[0], "contents": text}
