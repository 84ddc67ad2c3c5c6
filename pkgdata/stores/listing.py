"""Listings of buckets, and the keys that obstore takes for no paths.

obstore stops a listing at a key such as ``a//b`` or ``p/../b``, and drops the slash at the end of
``m/``, an empty object that stands for a folder. Such listings are asked for by requests of our
own, signed with the store's keys; and such keys are removed by them.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urlencode, urlsplit
from xml.etree import ElementTree

from ..base import fs
from ..errors import ObjectNotFoundError, StoreError, UnsafeNameError
from .cloudclient import CloudClient, accepted
from .http import own_login, request


class BucketListing(CloudClient):
    """A bucket that lists its keys as they are, and removes any of them."""

    #: What a request of our own that lists asks for, and its words for where it goes on.
    listing: tuple[tuple[str, str], ...] = (("list-type", "2"), ("max-keys", "1000"))
    turning = ("continuation-token", "NextContinuationToken")
    #: Characters of a key that stay as they are in the path of such a request.
    plain = "/"
    #: Whether obstore leaves out the object that stands for the folder that is listed.
    hides_markers = False

    def entries(self, prefix: str, flat: bool) -> Iterator[tuple[str, Any]]:
        """Yield keys and what a listing says of each, None of a folder; sorted."""
        folder, slash, _ = prefix.rpartition("/")
        inside, wanted = self._root + folder + slash, self._root + prefix
        if inside.strip("/"):
            fs.safe_key(inside[:-1])
        for row in self._level(inside, wanted) if flat else self._below(inside, wanted):
            path = row if isinstance(row, str) else row["path"]
            if path.startswith(wanted):
                yield path, None if row is path else row
            elif path > wanted:
                return

    def _below(self, inside: str, wanted: str) -> Iterator[Any]:
        """List all below a folder by obstore, and from where it cannot be trusted by ourselves.

        It stops at a key that is no path, and drops the slash at the end of "m/", an empty object
        that stands for a folder: that is then "m", and stands behind "m-".
        """
        last = ""
        rows = self.rows(wanted) if inside and self.hides_markers else None
        if rows is not None:
            yield from rows
            return
        try:
            for part in self._parts(inside, wanted):
                paths = [last, *(row["path"] for row in part)]
                if not all(row["size"] for row in part) or paths != sorted({*paths}):
                    rows = self.rows(wanted, last)
                    if rows is not None:
                        break
                yield from part
                last = paths[-1]
        except UnsafeNameError:
            rows = self.rows(wanted, last)
            if rows is None:
                raise
        if rows is not None:
            yield from rows

    def _parts(self, inside: str, wanted: str) -> Iterator[Any]:
        """Yield the parts of a listing, resumed where it broke off."""
        # obstore lists folders only; to begin in the midst of one, the listing starts behind all
        # that sorts before what is wanted
        offset = None
        if wanted != inside:
            offset = f"{wanted[:-1]}{chr(ord(wanted[-1]) - 1)}\U0010ffff"
        found: Iterator[Any] | None = None

        def following(client: Any) -> Any:
            nonlocal found
            begun, found = found, None  # none again, should it fail
            begun = begun or iter(
                self._obstore.list(client, inside or None, offset=offset, chunk_size=1000)
            )
            part = next(begun, None)
            found = begun
            return part

        def ask() -> Any:
            with self.translating("", harmless=True):
                return self.asking(following)

        while (part := self.trying(ask)) is not None:
            yield part
            offset = part[-1]["path"] if part else offset

    def _level(self, inside: str, wanted: str) -> Iterator[Any]:
        def ask() -> Any:
            with self.translating("", harmless=True):
                return self.asking(lambda c: self._obstore.list_with_delimiter(c, inside or None))

        try:
            found = self.trying(ask)
        except UnsafeNameError:
            own = self.rows(wanted, delimiter="/")
            if own is None:
                raise
            yield from own
            return
        rows = {meta["path"]: meta for meta in found["objects"]}
        rows |= {f"{folder}/": f"{folder}/" for folder in found["common_prefixes"]}
        for path in sorted(rows):
            yield rows[path]

    # -- keys that are no paths ----------------------------------------------------------------

    def _odd_key(self, name: str) -> str | None:
        """Return the key of a name that is none of a path, in a bucket without a prefix, or None.

        Such objects are listed and removed by requests of our own, and are neither read nor
        written: "a//b" would be another object's name wherever there are folders.
        """
        try:
            fs.safe_key(name)
        except UnsafeNameError:
            if self._root or not name:
                raise
            return name
        return None

    def _remove_odd(self, keys: list[str]) -> None:
        for key in keys:
            with contextlib.suppress(ObjectNotFoundError):
                if self.own("DELETE", key, {}) is None:
                    fs.safe_key(key)  # raises

    # -- requests of our own -------------------------------------------------------------------

    def own(self, method: str, key: str, query: Mapping[str, str]) -> Any | None:
        """Ask what obstore cannot ask, of a key or the bucket; None if it alone has the keys."""
        self.client()  # finds out whether requests are signed
        path = f"/{self._place.bucket}" + (f"/{quote(key, safe=self.plain)}" if key else "")
        url = self.service().rstrip("/") + path
        asked = f"{url}?{urlencode(query, quote_via=quote)}" if query else url
        how: dict[str, Any] = {"login": own_login, "follow": False, "stream": False}

        def send() -> Any:
            headers = self.signature(method, urlsplit(url).path, query) if self.signs else {}
            if headers is None:
                return None
            with self.translating(key[len(self._root) :], harmless=True):
                return accepted(method, request(method, asked, headers, self.timeout, **how))

        return self.trying(send)

    def service(self) -> str:
        """Return the URL of the service, below which buckets are."""
        raise NotImplementedError

    def signature(self, method: str, path: str, query: Mapping[str, str]) -> dict[str, str] | None:
        """Return the headers that sign a request; None if obstore alone has the keys."""
        raise NotImplementedError

    def rows(self, wanted: str, after: str = "", delimiter: str = "") -> Iterator[Any] | None:
        """List the keys behind one, as they are; None if there are no keys for a request here.

        An object is a mapping in obstore's words, a folder a text.
        """
        query = {**dict(self.listing), "prefix": wanted}
        if delimiter:
            query["delimiter"] = delimiter
        begin = {"start-after": after} if after and "list-type" in query else {}
        first = self.own("GET", "", query | begin)
        return None if first is None else self._pages(query, first, after)

    def _pages(self, query: dict[str, str], answer: Any, after: str) -> Iterator[Any]:
        while answer is not None:
            try:
                page = ElementTree.fromstring(answer.content)  # noqa: S314 - expat bounds entities
            except ElementTree.ParseError:
                raise StoreError(f"{self.url}: invalid list response", url=self.url) from None
            quoted = page.findtext("{*}EncodingType") == "url"
            rows = (row for row in map(listed, page.iter(), itertools.repeat(quoted)) if row)
            found = {row if isinstance(row, str) else row["path"]: row for row in rows}
            yield from (found[path] for path in sorted(found) if path > after)
            token = page.findtext(f"{{*}}{self.turning[1]}")
            answer = self.own("GET", "", query | {self.turning[0]: token}) if token else None


def listed(element: ElementTree.Element, quoted: bool) -> dict[str, Any] | str | None:
    """Read a row of a listing: a folder, an object in obstore's words, or None if it is neither."""
    kind = element.tag.rpartition("}")[2]
    if kind not in ("Contents", "Blob", "CommonPrefixes", "BlobPrefix"):
        return None
    # the names' case differs between the services, as does whether properties are a level deeper
    found = {one.tag.rpartition("}")[2].lower().replace("-", ""): one for one in element.iter()}
    name = next(found[word] for word in ("key", "name", "prefix") if word in found)
    path = name.text or ""
    if quoted:
        path = unquote_plus(path)
    elif name.get("Encoded") == "true":
        path = unquote(path)
    if "Prefix" in kind:
        return path
    said = {word: (one.text or "") for word, one in found.items()}
    when = said["lastmodified"]
    iso = when[:1].isdigit()
    return {
        "path": path,
        "size": int(said.get("size") or said.get("contentlength") or 0),
        "e_tag": said.get("etag"),
        "last_modified": datetime.fromisoformat(f"{when[:19]}+00:00")
        if iso
        else parsedate_to_datetime(when),
    }
