"""Publish to a record on Zenodo: ``zenodo:`` for a new one, or ``zenodo:RECORD``.

A new record's draft is found again by its title, which is made of the files' digests unless one is
given: an interrupted run goes on with the draft that it made. What Zenodo has of its own:

- A published record never changes. More files make a new version of it, whose draft begins with
  the files of the last one; there is one such draft at a time, and a second run finds it.
- Publishing cannot be undone, so it has to be asked for; else the draft is left to be looked at.
- There are no folders: a ``/`` in a name becomes ``_``, and such a file's address is recorded.
- Uploads cannot be resumed; the MD5 that the service computes is compared.

What is not promised: a draft is searched for in an index that lags by seconds. A run that begins at
once after one that was killed while it made the draft may make another.
"""

from __future__ import annotations

from urllib.parse import quote

from ..base.hashes import Digest
from ..base.urls import join, redact
from ..errors import AlreadyPublishedError, PublishError, StoreError
from . import tokens, uploads
from .destination import Destination, Held
from .rest import UPLOAD_TIMEOUT, Rest, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from .destination import Item

#: Bytes of a record, and of each file, and files of a record: the quickstart of Zenodo's interface.
LARGEST, MOST = 50 * 10**9, 100

#: Where a token is looked for; the test service has accounts of its own.
VARIABLES = ("ZENODO_TOKEN",)
SANDBOX_VARIABLES = ("ZENODO_SANDBOX_TOKEN", "ZENODO_TOKEN")

#: The service and the one for tests.
SITE, SANDBOX = "https://zenodo.org", "https://sandbox.zenodo.org"

_DRAFTS = "api/deposit/depositions"

#: Looks at a record that is being published, and the seconds between them.
_LOOKS, _PAUSE = 60, 2.0


class Zenodo(Destination):
    """One record, or the draft of one.

    Parameters
    ----------
    url : str
        ``zenodo:`` or ``zenodo:RECORD``.
    token : str, optional
        From ``ZENODO_TOKEN`` (with `sandbox`, first ``ZENODO_SANDBOX_TOKEN``) if left out.
    api_url : str, optional
        Site of another instance.
    sandbox : bool, default False
        Use the test service, whose records may be removed.
    publish : bool, default False
        Publish the record when all files are there; this cannot be undone.
    title : str, optional
        Of a new record.
    metadata : mapping, optional
        Further fields of a new record, such as ``creators`` and ``description``, without which
        Zenodo publishes none.
    timeout : float, optional
        Seconds to connect, and to wait for an answer.
    sleep, now : callable, optional
        Stand-ins for `time.sleep` and `time.time`.

    Raises
    ------
    PublishError
        The URL is malformed.
    """

    #: What is published takes a moment to be served.
    delay = 60.0

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        api_url: str | None = None,
        sandbox: bool = False,
        publish: bool = False,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        sleep: Callable[[float], object] | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        import threading
        import time

        super().__init__(url)
        text = url.partition(":")[2]
        if text and not (text.isascii() and text.isdigit()):
            raise PublishError(
                f"expected zenodo: or zenodo:RECORD, found {redact(url)!r}",
                hint="a record is named by its number, the last part of its address",
            )
        self._id = int(text) if text else None
        self._publish = publish
        self._metadata = dict(metadata or {})
        # without one, made of the files' digests
        self._title = self._metadata.pop("title", None) if title is None else title
        self._sleep = time.sleep if sleep is None else sleep
        site = (api_url or (SANDBOX if sandbox else SITE)).rstrip("/").removesuffix("/api")
        names = SANDBOX_VARIABLES if sandbox else VARIABLES
        service = "zenodo-sandbox" if sandbox else "zenodo"
        self._rest = Rest(
            "Zenodo",
            site,
            scheme="Bearer",
            secret=lambda: token or tokens.find(service, names) or "",
            rights="it needs the scopes deposit:write and deposit:actions",
            timeout=timeout,
            sleep=sleep,
            now=now,
        )
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        self._names: dict[str, str] = {}
        #: The draft, or the published record if there is no draft.
        self._record: dict[str, Any] | None = None
        #: Files by their names in the registry.
        self._files: dict[str, dict[str, Any]] = {}

    @property
    def dataurl(self) -> str | None:
        number = self._id if self._record is None else self._record["id"]
        if number is None:
            return None
        return f"{self._rest.api}/records/{number}/files/?download=1"

    # -- before ------------------------------------------------------------------------------

    def check(self, items: Sequence[Item]) -> None:
        uploads.check_limits(items, "Zenodo", largest=LARGEST, most=MOST, where="record")
        self._check_total(sum(item.size for item in items))
        self._names = uploads.posted_names(items, _posted, "Zenodo")
        self._items = {item.name: item for item in items}
        if self._title is None:
            self._title = uploads.default_title(items)

    def _check_total(self, total: int) -> None:
        if total > LARGEST:
            raise PublishError(
                f"{total} bytes in all, and Zenodo takes {LARGEST} for each record",
                hint="spread the files over several records, or publish them elsewhere",
            )

    def held(self) -> Mapping[str, Held]:
        self._look()
        self._list()
        return {name: self._held(file) for name, file in self._files.items()}

    def unfinished(self) -> bool:
        return self._publish and self._is_draft()

    # -- the record --------------------------------------------------------------------------

    def _deposition(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self._rest.json("GET", f"{_DRAFTS}/{number}")
        return found

    def _look(self) -> None:
        """Learn of the record, if there is one: the draft of its next version comes first."""
        number = self._search() if self._id is None else self._id
        record = None if number is None else self._deposition(number)
        if record is not None and record["submitted"]:
            # versions are made of the last one alone
            latest = _linked(record, "latest")
            if latest is not None and latest != record["id"]:
                record = self._deposition(latest)
            draft = _linked(record, "latest_draft")
            if draft is not None and draft != record["id"]:
                found = self._deposition(draft)
                record = record if found["submitted"] else found
        self._keep(record)

    def _search(self) -> int | None:
        """Return the number of our draft, or else of our last record, with the title."""
        every = self._rest.pages(_DRAFTS, "page", "size", sort="mostrecent")
        mine = [one for one in every if one.get("title") == self._title]
        mine.sort(key=lambda one: (not one["submitted"], int(one["id"])))
        return int(mine[-1]["id"]) if mine else None

    def _keep(self, record: dict[str, Any] | None) -> None:
        self._record = record
        self.private = record is None or self._is_draft()
        if record is not None:
            self._id = int(record["id"])
            self.url = f"zenodo:{self._id}"
            reserved = record.get("metadata", {}).get("prereserve_doi") or {}
            self.doi = record.get("doi") or reserved.get("doi") or None

    def _is_draft(self) -> bool:
        return self._record is not None and not self._record["submitted"]

    def _look_or_make(self) -> None:
        self._look()
        if self._record is None:
            fields = {"title": self._title, "upload_type": "dataset", **self._metadata}
            made = self._rest.json("POST", _DRAFTS, json={"metadata": fields}, ok=(201,))
            self._keep(made)

    def _make_version(self) -> None:
        """Make the draft of a new version; asked twice, the service names the same draft."""
        assert self._record is not None
        path = f"{_DRAFTS}/{self._record['id']}/actions/newversion"
        answer = self._rest.json("POST", path, ok=(201,), again=True)
        draft = _linked(answer, "latest_draft")
        if draft is None or draft == self._record["id"]:
            raise StoreError(f"{self.url}: Zenodo made no draft of a new version", url=self.url)
        self._keep(self._deposition(draft))

    def _list(self) -> None:
        """Learn the files anew."""
        found = []
        if self._record is not None:
            found = self._rest.json("GET", f"{_DRAFTS}/{self._record['id']}/files")
        with self._lock:
            self._files = {
                self._names.get(file["filename"], file["filename"]): file
                for file in found
                if file.get("checksum")
            }

    def _held(self, file: Mapping[str, Any]) -> Held:
        # the two interfaces of the service write numbers and checksums each in its own way
        size = file["filesize"] if "filesize" in file else file["size"]
        digest = Digest("md5", str(file["checksum"]).removeprefix("md5:"))
        return Held(int(float(size)), digest, self._url_of(file))

    def _url_of(self, file: Mapping[str, Any]) -> str | None:
        posted: str = file["filename"] if "filename" in file else file["key"]
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
        count = len(wanted | self._files.keys())
        if count > MOST:
            raise PublishError(
                f"the record would have {count} files, and Zenodo takes {MOST}",
                hint="pack the files into an archive, or remove some from the draft",
            )
        kept = [file for name, file in self._files.items() if name not in wanted]
        sent = sum(self._items[name].size for name in wanted if name in self._items)
        self._check_total(sent + sum(self._held(file).size or 0 for file in kept))

    def put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        first = True

        def step() -> Held:
            nonlocal first
            if not first:
                self._list()  # the last try may have arrived
            first = False
            file = self._files.get(item.name)
            if file is not None and self._is_right(file, item, replace):
                return self._held(file)
            return self._upload(item, moved)

        return self._rest.repeat(step)

    def _is_right(self, file: Mapping[str, Any], item: Item, replace: bool) -> bool:
        """Say whether a file has the item's bytes; delete it if it may not stay."""
        held = self._held(file)
        if held.size == item.size and self.same(item, held):
            return True
        if not replace:
            raise AlreadyPublishedError(
                f"{item.name!r} has other bytes at {self.url}: {held.digest}",
                hint="somebody else may publish too; published bytes do not change",
                names=[item.name],
            )
        self._delete(file["id"])
        return False

    def _delete(self, number: str) -> None:
        assert self._record is not None
        path = f"{_DRAFTS}/{self._record['id']}/files/{quote(str(number), safe='')}"
        self._rest.request("DELETE", path, ok=(204, 404))

    def _upload(self, item: Item, moved: Callable[[int], None]) -> Held:
        assert self._record is not None
        sending = uploads.Sending(item, ["md5"], moved)
        made = self._rest.json(
            "PUT",
            join(self._record["links"]["bucket"], _posted(item.name)),
            data=sending.body(),
            headers={"Content-Type": "application/octet-stream"},
            ok=(200, 201),
            # the step before it looks whether the last try has arrived
            again=False,
            timeout=UPLOAD_TIMEOUT,
        )
        held, sent = self._held(made), sending.digests["md5"]
        if held.digest != sent or held.size != item.size:
            self._list()
            if item.name in self._files:
                self._delete(self._files[item.name]["id"])
            raise uploads.damaged(item, "Zenodo", sent, held.digest)
        return held

    # -- after -------------------------------------------------------------------------------

    def finish(self) -> Mapping[str, str]:
        self._list()
        missing = sorted(self._items.keys() - self._files.keys())
        if missing:
            raise PublishError(
                f"{len(missing)} files are not at {self.url}, {missing[0]!r} among them; "
                "the draft stays as it is",
                hint="run the same command again",
            )
        if self._publish and self._is_draft():
            self._rest.repeat(self._make_public)
            self._list()
        held = {name: self._held(file) for name, file in self._files.items()}
        return {name: one.url for name, one in held.items() if one.url and name in self._items}

    def _make_public(self) -> None:
        assert self._record is not None
        number = int(self._record["id"])
        self._keep(self._deposition(number))
        if self._is_draft():
            try:
                path = f"{_DRAFTS}/{number}/actions/publish"
                self._rest.request("POST", path, ok=(202,))
            except StoreError as error:
                if status_of(error) != 400:
                    raise
                raise PublishError(
                    f"Zenodo does not publish {self.url}: {error.message}",
                    hint="fill in what is missing on its page, then run the same command with "
                    f"{self.url}: {self._page()}",
                ) from None
        for _ in range(_LOOKS):
            self._keep(self._deposition(number))
            if not self._is_draft():
                return
            self._sleep(_PAUSE)
        raise PublishError(
            f"{self.url} was accepted but does not show as published",
            hint=f"look at {self._page()}, then run the same command again",
        )

    def _page(self) -> str:
        links: dict[str, str] = (self._record or {}).get("links", {})
        return links.get("latest_draft_html") or links.get("html") or self._rest.api

    def read(self, name: str) -> Iterator[bytes]:
        assert self._record is not None
        link = self._files[name].get("links", {}).get("download")
        return self._rest.read(link or join(self._record["links"]["bucket"], _posted(name)))

    def advice(self) -> str | None:
        if not self._is_draft():
            return None
        return (
            f"The record is a draft: look at {self._page()}, then run the same command with "
            f"{self.url} and --publish, which cannot be undone."
        )


def _linked(record: Mapping[str, Any], link: str) -> int | None:
    """Return the number of a record to which a link leads; the link itself is never followed."""
    number = uploads.basename(record.get("links", {}).get(link) or "")
    return int(number) if number.isascii() and number.isdigit() else None


def _posted(name: str) -> str:
    return name.replace("/", "_")
