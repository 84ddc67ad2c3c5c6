"""Publish to an article on Figshare: ``figshare:`` for a new one, or ``figshare:ARTICLE``.

A new article is found again by its title, which is made of the files' digests unless one is given:
an interrupted run goes on with the article that it made. What Figshare has of its own:

- A file is sent in parts that the upload service chooses, from the first byte to the last one
  inclusive. A part that is locked or fails is sent again; those that are complete never are, not
  even by another run.
- The file is put together after the last part. We wait until the service tells the MD5 that it has
  computed, and compare.
- Files have numbers, and no folders: each has an address of its own, and a ``/`` in its name
  becomes ``_``. Two files may have one name; the newest complete one counts.
- An older file is removed only when the one that replaces it is complete, and the article is
  published last, so that the public sees the old files or the new.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..base.hashes import Digest
from ..errors import (
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    PublishError,
    StoreError,
)
from .destination import Held, Item, Sending
from .rest import UPLOAD, Answer, status_of
from .services import NumberedService, basename

#: Where a token is looked for.
VARIABLES = ("FIGSHARE_TOKEN",)

#: Rounds over the parts of a file without any progress before we give up.
_ROUNDS = 8

#: Looks at a file that is being put together, and the seconds between them: at first and at most.
_LOOKS, _FIRST_LOOK, _LONGEST_LOOK = 240, 1.0, 10.0

_SHOWN = "Figshare's upload service"


class Figshare(NumberedService):
    """One article: ``figshare:`` for a new one, or ``figshare:ARTICLE``.

    Further fields of a new article, without which Figshare publishes none, are such as
    ``description``, ``categories``, ``tags``, ``authors`` and ``license``.
    """

    service, api, scheme, holder = "Figshare", "https://api.figshare.com/v2", "token", "article"
    key, variables = "figshare", VARIABLES
    rights = "make a personal token in your account's applications"
    #: They ask for about one request a second.
    threads = 2
    #: What is published takes a moment to be served.
    delay = 60.0

    def __init__(self, url: str, *, publish: bool = True, **options: Any) -> None:
        super().__init__(url, publish=publish, **options)
        self._article: Answer | None = None
        #: All files, also those of one name and those that are not complete.
        self._every: list[Answer] = []

    @property
    def dataurl(self) -> None:
        return None

    # -- before ------------------------------------------------------------------------------

    def check(self, items: Sequence[Item]) -> None:
        super().check(items)
        assert self._title is not None
        if not 3 <= len(self._title) <= 1000:
            raise PublishError("a title on Figshare has 3 to 1000 characters")

    def unfinished(self) -> bool:
        return self._publish and self._is_changed()

    # -- the article -------------------------------------------------------------------------

    @property
    def _path(self) -> str:
        return f"account/articles/{self._id}"

    def _look(self) -> None:
        if self._id is None:
            every = self._rest.pages("account/articles", "page_size")
            mine = [one.number("id") for one in every if one.get("title") == self._title]
            if not mine:
                self._article, self.private = None, True
                return
            self._keep_id(min(mine))
        self._article = self._rest.json("GET", self._path)
        self.doi = self._article.maybe("doi")

    def _look_or_make(self) -> None:
        self._look()
        if self._article is None:
            fields = {"title": self._title, "defined_type": "dataset", **self._metadata}
            made = self._rest.json("POST", "account/articles", json=fields, ok=(201,))
            self._keep_id(_number(made))
            self._look()

    def _list(self) -> None:
        found: list[Answer] = []
        if self._article is not None:
            found = self._rest.pages(f"{self._path}/files", "page_size")
        with self._lock:
            self._every = found
        public = self._article is not None and self._article.get("is_public", False)
        self.private = not public or self._is_changed()

    def _complete(self) -> Mapping[str, Answer]:
        ordered = sorted(self._every, key=lambda file: file.number("id"))
        return {self._name_of(file): file for file in ordered if _is_complete(file)}

    def _name_of(self, file: Answer) -> str:
        name = file.text("name")
        return self._names.get(name, name)

    def _is_changed(self) -> bool:
        """Return True if a complete file of ours waits to become public."""
        return any(
            not file.get("is_attached_to_public_version", False)
            for name, file in self._complete().items()
            if name in self._items
        )

    def _held(self, file: Answer) -> Held:
        digest = file.digest("computed_md5", "md5")
        return Held(file.number("size"), digest, file.address("download_url"))

    # -- uploading ---------------------------------------------------------------------------

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        self._rest.repeat(self._look_or_make)
        self._list()

    def _put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        md5 = item.digest_by("md5")
        item.check_unchanged()
        right = self._right(item, md5, replace)
        if right is not None and _is_complete(right):
            return self._held(right)
        if right is None:
            return self._send(item, self._initiate(item, md5), md5, moved)
        try:
            return self._send(item, right, md5, moved)
        except IntegrityError:  # of parts that an earlier run sent, perhaps
            return self._send(item, self._initiate(item, md5), md5, moved)

    def _right(self, item: Item, md5: Digest, replace: bool) -> Answer | None:
        """Return the file with the item's bytes, started or complete; drop other started ones."""
        found = None
        for file in [one for one in self._every if self._name_of(one) == item.name]:
            own = file.get("computed_md5") or file.get("supplied_md5")
            if own == md5.hex and file.number("size") == item.size and not _has_failed(file):
                found = file
            elif not _is_complete(file) and not file.get("is_link_only"):
                self._delete(file)
            elif not replace:
                raise self._other_bytes(item, f"md5:{own}")
        return found

    def _delete(self, file: Answer) -> None:
        self._rest.request("DELETE", f"{self._path}/files/{file.number('id')}", ok=(204, 404))

    def _file(self, number: int) -> Answer:
        return self._rest.json("GET", f"{self._path}/files/{number}")

    def _initiate(self, item: Item, md5: Digest) -> Answer:
        fields = {"name": self._posted(item.name), "size": item.size, "md5": md5.hex}
        made = self._rest.json("POST", f"{self._path}/files", json=fields, ok=(201,))
        file = self._file(_number(made))
        with self._lock:
            self._every.append(file)
        return file

    def _send(self, item: Item, file: Answer, md5: Digest, moved: Callable[[int], None]) -> Held:
        number = file.number("id")
        if file.get("status") == "created":
            self._send_parts(item, file, moved)
            item.check_unchanged()
            # a try before may have got this far, so what is refused is looked at again
            self._rest.request("POST", f"{self._path}/files/{number}", ok=(202,))
        ready = self._wait_for(item, number)
        held = self._held(ready)
        if held.digest != md5 or held.size != item.size:
            self._delete(ready)
            raise self._damaged(item, md5, held.digest)
        with self._lock:
            self._every = [one for one in self._every if one.number("id") != number] + [ready]
        return held

    def _wait_for(self, item: Item, number: int) -> Answer:
        """Wait until the parts are put together and the MD5 is computed."""
        pause = _FIRST_LOOK
        for _ in range(_LOOKS):
            file = self._file(number)
            if _is_complete(file):
                return file
            if _has_failed(file):
                raise _gone(item, "could not put its parts together")
            self._rest.sleep(pause)
            pause = min(_LONGEST_LOOK, pause * 1.5)
        raise PublishError(
            f"{item.name!r}: Figshare still puts its parts together; it was looked at {_LOOKS} "
            "times",
            hint="run the same command again later: nothing is sent twice",
        )

    # -- parts -------------------------------------------------------------------------------

    def _send_parts(self, item: Item, file: Answer, moved: Callable[[int], None]) -> None:
        """Send the parts that are not complete, again and again while there is progress."""
        url = self._upload_url(file)
        pause, rounds, before = _FIRST_LOOK, _ROUNDS, None
        while True:
            info = self._upload_info(item, file, url)
            waiting = [one for one in info.tables("parts") if one.get("status") != "COMPLETE"]
            if info.get("status") == "COMPLETED" or not waiting:
                return
            if before is not None:
                rounds = _ROUNDS if len(waiting) < before else rounds - 1
                if not rounds:
                    raise IncompleteTransferError(
                        f"{item.name!r}: {len(waiting)} parts are not taken by {_SHOWN}",
                        url=self.url,
                        transient=False,
                        hint="run the same command again later: complete parts are not sent again",
                    )
                self._rest.sleep(pause)
                pause = min(_LONGEST_LOOK, pause * 1.5)
            before = len(waiting)
            done = item.size - sum(map(_length, waiting))
            self._round(item, url, waiting, done, moved)

    def _upload_info(self, item: Item, file: Answer, url: str) -> Answer:
        """Return what the upload service knows; drop a file whose upload it has given up."""
        info = None
        with contextlib.suppress(ObjectNotFoundError):
            info = self._rest.json("GET", url, shown=_SHOWN)
        if info is None or info.get("status") == "ABORTED":
            self._delete(file)
            raise _gone(item, "has dropped the upload")
        return info

    def _round(
        self,
        item: Item,
        url: str,
        waiting: Sequence[Answer],
        done: int,
        moved: Callable[[int], None],
    ) -> None:
        """Send each part once; transient failures are left for the next round."""
        for part in waiting:
            start, length = part.number("startOffset"), _length(part)
            if not 0 < length <= item.size - start:
                raise part.wrong("endOffset", f"a part of the {item.size} bytes")

            def counted(at: int, shift: int = done - start) -> None:
                moved(at + shift)

            try:
                with Sending(item, counted) as sending:
                    sending.restart(start)
                    self._rest.request(
                        "PUT",
                        f"{url}/{part.number('partNo')}",
                        data=sending.body(length),
                        shown=_SHOWN,
                        **UPLOAD,
                    )
            except StoreError as error:
                # 409 is a part that is locked: by a connection that broke, or by another run
                if not error.transient and status_of(error) != 409:
                    raise
                continue
            done += length
            moved(done)

    def _upload_url(self, file: Answer) -> str:
        """Return the address of an upload, which is a secret: errors name it by `_SHOWN`."""
        url, token = file.text("upload_url").rstrip("/"), file.text("upload_token")
        return url if token in url else f"{url}/upload/{token}"

    # -- after -------------------------------------------------------------------------------

    def finish(self) -> Mapping[str, str]:
        self._rest.repeat(self._finish)
        return self._own_urls()

    def _finish(self) -> None:
        self._look()
        self._list()
        self._check_complete()
        newest = self._complete()
        for file in self._every:
            successor = newest.get(self._name_of(file))
            if (
                successor is not None
                and file.number("id") < successor.number("id")
                and not successor.get("is_attached_to_public_version")
            ):
                self._delete(file)
        if self._publish and self._is_changed():
            self._make_public()

    def _make_public(self) -> None:
        self._ask_to_publish(f"{self._path}/publish", 201, f"again: {self._page()}")
        self._look()
        self._list()

    def _page(self) -> str:
        page = None if self._article is None else self._article.maybe("url_private_html")
        return page or "https://figshare.com/account"

    def read(self, name: str) -> Iterator[bytes]:
        return self._rest.read(self._complete()[name].address("download_url"))

    def advice(self) -> str | None:
        if not self.private or self._article is None:
            return None
        return f"The article {self._id} is not public yet: look at {self._page()}."


def _length(part: Answer) -> int:
    return part.number("endOffset") - part.number("startOffset") + 1


def _is_complete(file: Answer) -> bool:
    return bool(file.get("computed_md5")) and file.get("status") in ("available", None)


def _has_failed(file: Answer) -> bool:
    return str(file.get("status") or "").endswith(("failure", "failed", "aborted"))


def _number(made: Answer) -> int:
    """Return the number of what was made, the last part of its address."""
    return Answer(made.origin, made.shown, {"id": basename(made.text("location"))}).number("id")


def _gone(item: Item, what: str) -> StoreError:
    """Return the error of an upload that has to begin again."""
    return StoreError(f"{item.name!r}: Figshare {what}", url="figshare:", transient=True)
