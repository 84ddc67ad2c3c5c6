"""Publish to a record on Zenodo: ``zenodo:`` for a new one, or ``zenodo:RECORD``.

A new record's draft is found again by its title, which is made of the files' digests unless one is
given: an interrupted run resumes with the draft that it made. What Zenodo has of its own:

- A published record never changes. More files make a new version of it, whose draft begins with
  the files of the last one; there is one such draft at a time, and a second run finds it.
- Publishing cannot be undone, so it has to be asked for; else the draft is left to be looked at.
- There are no folders: a ``/`` in a name becomes ``_``, and such a file's address is recorded.
- Uploads cannot be resumed; the MD5 that the service computes is compared.

What is not promised: a draft is searched for in an index that lags by seconds. A run that begins at
once after one that was killed while it made the draft may make another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from ..base.urls import join
from ..errors import PublishError, StoreError
from .destination import Held, Item, Sending
from .rest import UPLOAD, Answer
from .services import NumberedService, basename

#: Bytes of a record, and of each file, and files of a record: the quickstart of Zenodo's interface.
LARGEST, MOST = 50 * 10**9, 100

#: Where a token is looked for; the test service has accounts of its own.
VARIABLES: tuple[str, ...] = ("ZENODO_TOKEN",)
SANDBOX_VARIABLES = ("ZENODO_SANDBOX_TOKEN", "ZENODO_TOKEN")

#: The service and the one for tests.
SITE, SANDBOX = "https://zenodo.org", "https://sandbox.zenodo.org"

_DRAFTS = "api/deposit/depositions"

#: Looks at a record that is being published, and the seconds between them.
_LOOKS, _PAUSE = 60, 2.0


class Zenodo(NumberedService):
    """One record, or the draft of one: ``zenodo:`` for a new one, or ``zenodo:RECORD``.

    Further fields of a new record, without which Zenodo publishes none, are such as ``creators``
    and ``description``. ``sandbox`` uses the test service, whose records may be removed;
    ``publish`` cannot be undone.
    """

    service, api, holder = "Zenodo", SITE, "record"
    key, variables = "zenodo", VARIABLES
    rights = "it needs the scopes deposit:write and deposit:actions"
    #: What is published takes a moment to be served.
    delay = 60.0

    def __init__(
        self, url: str, *, sandbox: bool = False, endpoint: str | None = None, **options: Any
    ) -> None:
        if sandbox:
            self.api, self.key, self.variables = SANDBOX, "zenodo-sandbox", SANDBOX_VARIABLES
        site = (endpoint or self.api).rstrip("/").removesuffix("/api")
        super().__init__(url, endpoint=site, **options)
        #: The draft, or the published record if there is no draft.
        self._record: Answer | None = None

    @property
    def dataurl(self) -> str | None:
        number = self._id if self._record is None else self._record.number("id")
        if number is None:
            return None
        return f"{self._rest.api}/records/{number}/files/?download=1"

    # -- before ------------------------------------------------------------------------------

    def check(self, items: Sequence[Item]) -> None:
        self._check_limits(items, LARGEST, MOST)
        self._check_total(sum(item.size for item in items))
        super().check(items)

    def _check_total(self, total: int) -> None:
        if total > LARGEST:
            raise PublishError(
                f"{total} bytes in all, and Zenodo takes {LARGEST} for each record",
                hint="spread the files over several records, or publish them elsewhere",
            )

    def unfinished(self) -> bool:
        return self._publish and self._is_draft()

    # -- the record --------------------------------------------------------------------------

    def _deposition(self, number: int) -> Answer:
        return self._rest.json("GET", f"{_DRAFTS}/{number}")

    @property
    def _path(self) -> str:
        assert self._record is not None
        return f"{_DRAFTS}/{self._record.number('id')}"

    def _look(self) -> None:
        # the draft of the next version comes first
        number = self._search() if self._id is None else self._id
        record = None if number is None else self._deposition(number)
        if record is not None and record.flag("submitted"):
            # versions are made of the last one alone
            latest = _linked(record, "latest")
            if latest is not None and latest != record.number("id"):
                record = self._deposition(latest)
            draft = _linked(record, "latest_draft")
            if draft is not None and draft != record.number("id"):
                found = self._deposition(draft)
                record = record if found.flag("submitted") else found
        self._keep(record)

    def _search(self) -> int | None:
        """Return the number of our draft, or else of our last record, with the title."""
        every = self._rest.pages(_DRAFTS, "size", sort="mostrecent")
        mine = [one for one in every if one.get("title") == self._title]
        mine.sort(key=lambda one: (not one.flag("submitted"), one.number("id")))
        return mine[-1].number("id") if mine else None

    def _keep(self, record: Answer | None) -> None:
        self._record = record
        self.private = record is None or self._is_draft()
        if record is not None:
            self._keep_id(record.number("id"))
            reserved = record.inner("metadata").inner("prereserve_doi")
            self.doi = record.maybe("doi") or reserved.maybe("doi")

    def _is_draft(self) -> bool:
        return self._record is not None and not self._record.flag("submitted")

    def _look_or_make(self) -> None:
        self._look()
        if self._record is None:
            fields = {"title": self._title, "upload_type": "dataset", **self._metadata}
            made = self._rest.json("POST", _DRAFTS, json={"metadata": fields}, ok=(201,))
            self._keep(made)

    def _make_version(self) -> None:
        """Make the draft of a new version; asked twice, the service names the same draft."""
        path = f"{self._path}/actions/newversion"
        answer = self._rest.json("POST", path, ok=(201,), again=True)
        draft = _linked(answer, "latest_draft")
        if draft is None or f"{_DRAFTS}/{draft}" == self._path:
            raise StoreError(f"{self.url}: Zenodo made no draft of a new version", url=self.url)
        self._keep(self._deposition(draft))

    def _list(self) -> None:
        found = []
        if self._record is not None:
            found = self._rest.rows(f"{self._path}/files")
        with self._lock:
            self._files = {
                self._names.get(file.text("filename"), file.text("filename")): file
                for file in found
                if file.get("checksum")
            }

    def _held(self, file: Answer) -> Held:
        # the two interfaces of the service write numbers and checksums each in its own way
        size = file.number("filesize" if "filesize" in file else "size")
        return Held(size, file.digest("checksum", "md5"), self._url_of(file))

    def _url_of(self, file: Answer) -> str | None:
        posted = file.text("filename" if "filename" in file else "key")
        if posted == self._names.get(posted, posted) or self.dataurl is None:
            return None
        return join(self.dataurl, posted)

    # -- uploading ---------------------------------------------------------------------------

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        before = dict(self._files)
        self._rest.repeat(self._look_or_make)
        if not self._is_draft() and (new or replaced):
            self._make_version()
        self._list()
        lost = sorted(before.keys() & self._items.keys() - self._files.keys())
        if lost:
            raise PublishError(
                f"the draft {self.url} lacks {len(lost)} files of the last version, {lost[0]!r} "
                "among them",
                hint="run the same command again: it uploads them too",
            )
        wanted = {item.name for item in (*new, *replaced)}
        self._check_count(len(wanted | self._files.keys()), MOST)
        kept = [file for name, file in self._files.items() if name not in wanted]
        sent = sum(self._items[name].size for name in wanted if name in self._items)
        self._check_total(sent + sum(self._held(file).size or 0 for file in kept))

    def _delete(self, file: Answer) -> None:
        path = f"{self._path}/files/{quote(file.text('id'), safe='')}"
        self._rest.request("DELETE", path, ok=(204, 404))

    def _upload(self, item: Item, moved: Callable[[int], None]) -> Held:
        assert self._record is not None
        with Sending(item, moved, "md5") as sending:
            made = self._rest.json(
                "PUT", self._at(item.name), data=sending.body(), ok=(200, 201), **UPLOAD
            )
        held, sent = self._held(made), sending.digest("md5")
        if held.digest != sent or held.size != item.size:
            self._list()
            if item.name in self._files:
                self._delete(self._files[item.name])
            raise self._damaged(item, sent, held.digest)
        return held

    # -- after -------------------------------------------------------------------------------

    def _make_public(self) -> None:
        assert self._record is not None
        number = self._record.number("id")
        self._keep(self._deposition(number))
        if self._is_draft():
            again = f"with {self.url}: {self._page()}"
            self._ask_to_publish(f"{self._path}/actions/publish", 202, again)
        for _ in range(_LOOKS):
            self._keep(self._deposition(number))
            if not self._is_draft():
                return
            self._rest.sleep(_PAUSE)
        raise PublishError(
            f"{self.url} was accepted but does not show as published",
            hint=f"look at {self._page()}, then run the same command again",
        )

    def _page(self) -> str:
        assert self._record is not None
        links = self._record.inner("links")
        return links.maybe("latest_draft_html") or links.maybe("html") or self._rest.api

    def _at(self, name: str) -> str:
        assert self._record is not None
        return join(self._record.table("links").address("bucket"), self._posted(name))

    def read(self, name: str) -> Iterator[bytes]:
        link = self._files[name].inner("links").maybe("download")
        return self._rest.read(link or self._at(name))

    def advice(self) -> str | None:
        if not self._is_draft():
            return None
        return (
            f"The record is a draft: look at {self._page()}, then run the same command with "
            f"{self.url} and --publish, which cannot be undone."
        )


def _linked(record: Answer, link: str) -> int | None:
    """Return the number of a record to which a link leads; the link itself is never followed."""
    number = basename(record.inner("links").maybe(link) or "")
    return int(number) if number.isascii() and number.isdigit() else None
