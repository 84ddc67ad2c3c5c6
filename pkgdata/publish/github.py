"""Publish to the assets of a GitHub release: ``github:OWNER/REPO@TAG``.

A release that is not there is made as a draft and published when all files are there, so that
nobody meets half of it; what is added to a published release shows at once. What GitHub has of its
own:

- Assets have no folders, and GitHub rewrites unusual characters of their names. We send the name
  that it would make (`asset_name`), keep the registry's name as the asset's label, and hand out the
  address that GitHub tells.
- A file that is replaced is uploaded under another name (`_aside`), then the old one is deleted and
  the new one renamed: bytes that the public may have are given up only for complete ones. What a
  killed run has left under such a name is used or deleted by the next.
- An upload that broke may leave an asset in the state ``starter``, which is in the way of the next
  one and is deleted. After a broken connection the assets are listed before anything is decided.
- A draft is not found by its tag: all releases are searched, and of several drafts for one tag the
  oldest counts.
- An asset's ``digest`` is compared; where the server has none, as an older GitHub Enterprise, the
  bytes are read back.
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ..base.hashes import Digest, hash_blocks, short_key
from ..base.urls import join, redact
from ..errors import PublishError, StoreError
from .destination import Held, Item, Sending
from .rest import UPLOAD, Answer, has_code, status_of
from .services import Service

#: Bytes that an asset must stay below, and assets that a release may have: "About releases" in
#: GitHub's documentation.
TOO_LARGE, MOST = 2 << 30, 1000

#: Where a token is looked for.
VARIABLES = ("GITHUB_TOKEN", "GH_TOKEN")

_ASIDE = re.compile(r"pkgdata-[0-9a-f]{32}-[0-9a-f]{8,32}\.part")


def asset_name(name: str) -> str:
    """Return what GitHub makes of a name; empty if nothing is left.

    >>> asset_name("maps/dust (1).fits")
    'maps.dust.1.fits'
    """
    parts = unicodedata.normalize("NFKD", name)
    plain = "".join(char for char in parts if not unicodedata.combining(char))
    made = re.sub(r"[^A-Za-z0-9_+@-]+", ".", plain)
    if made.startswith(".") and made != ".":
        made = f"default{made}"
    return made.strip(".")


def _aside(name: str, digest: Digest | None = None) -> str:
    """Return the name of an asset that will replace another one, or what all for it begin with."""
    start = f"pkgdata-{short_key(name)}-"
    return start if digest is None else f"{start}{digest.hex[:32]}.part"


class GitHub(Service):
    """The assets of one release, ``github:OWNER/REPO@TAG``.

    ``endpoint`` is that of GitHub Enterprise, such as ``https://github.example.org/api/v3``; from
    ``GITHUB_API_URL`` if left out, which GitHub Actions sets.
    """

    service, api, holder = "GitHub", "https://api.github.com", "release"
    key, variables = "github", VARIABLES
    rights = "it needs 'contents: write' for the repository"
    headers = (("Accept", "application/vnd.github+json"), ("X-GitHub-Api-Version", "2022-11-28"))

    def __init__(self, url: str, *, endpoint: str | None = None, **options: Any) -> None:
        super().__init__(url, endpoint=endpoint or os.environ.get("GITHUB_API_URL"), **options)
        repo, _, self._tag = url.partition(":")[2].partition("@")
        self._repo = repo.strip("/")
        if not self._tag or len(self._repo.split("/")) != 2 or not all(self._repo.split("/")):
            raise PublishError(
                f"expected github:OWNER/REPO@TAG, found {redact(url)!r}",
                hint="the files become assets of the release with that tag",
            )
        self._release: Answer | None = None
        self._hidden = False
        #: Assets that are to replace others, by their names.
        self._asides: dict[str, Answer] = {}

    @property
    def dataurl(self) -> str:
        # the web site of an API: of github.com, of GitHub Enterprise, or of a host for both
        parts = urlsplit(self._rest.api)
        site = f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"
        return f"{site}/{self._repo}/releases/download/{quote(self._tag)}/"

    # -- before ------------------------------------------------------------------------------

    def _posted(self, name: str) -> str:
        return asset_name(name)

    def check(self, items: Sequence[Item]) -> None:
        empty = [item.name for item in items if not item.size]
        if empty:
            raise PublishError(
                f"{empty[0]!r} is empty, and GitHub takes no empty assets",
                hint="leave the file out, or write something into it",
            )
        self._check_limits(items, TOO_LARGE - 1, MOST)
        super().check(items)

    def _look(self) -> None:
        self._hidden = self._rest.json("GET", f"repos/{self._repo}").flag("private")
        self._release = self._find()

    def _complete(self) -> Mapping[str, Answer]:
        return {name: one for name, one in self._files.items() if one.get("state") == "uploaded"}

    def same(self, item: Item, held: Held) -> bool | None:
        return self._is_right(self._files[item.name], item)

    def unfinished(self) -> bool:
        return self._is_draft() or bool(self._leftovers())

    def _leftovers(self) -> list[Answer]:
        """Return assets that were to replace files of ours."""
        starts = tuple(map(_aside, self._items))
        return [one for name, one in self._asides.items() if name.startswith(starts)]

    # -- the release -------------------------------------------------------------------------

    def _find(self) -> Answer | None:
        """Return the release; a draft if none is published."""
        try:
            tag = quote(self._tag, safe="")
            return self._rest.json("GET", f"repos/{self._repo}/releases/tags/{tag}")
        except StoreError as error:
            if status_of(error) != 404:
                raise
        every = self._rest.pages(f"repos/{self._repo}/releases", "per_page")
        mine = [one for one in every if one.get("tag_name") == self._tag]
        return min(mine, key=lambda one: one.number("id"), default=None)

    def _find_or_make(self) -> Answer:
        draft = {"tag_name": self._tag, "name": self._tag, "draft": True}
        path = f"repos/{self._repo}/releases"
        return self._find() or self._rest.json("POST", path, json=draft, ok=(201,))

    def _is_draft(self) -> bool:
        return self._release is not None and self._release.flag("draft")

    def _list(self) -> None:
        if self._release is None:
            found = []
        else:
            found = self._rest.pages(f"{self._path}/assets", "per_page")
        asides = {one.text("name"): one for one in found if _ASIDE.fullmatch(one.text("name"))}
        with self._lock:
            self._asides = asides
            self._files = {self._name_of(one): one for one in found if one["name"] not in asides}
        self.private = self._hidden or self._release is None or self._is_draft()

    @property
    def _path(self) -> str:
        assert self._release is not None
        return f"repos/{self._repo}/releases/{self._release.number('id')}"

    def _asset(self, asset: Answer) -> str:
        return f"repos/{self._repo}/releases/assets/{asset.number('id')}"

    def _name_of(self, asset: Answer) -> str:
        """Return an asset's name in the registry: its label, if it is one that we gave."""
        label, name = asset.maybe("label"), asset.text("name")
        if label and (label in self._items or asset_name(label) == name):
            return label
        return self._names.get(name, name)

    def _held(self, asset: Answer) -> Held:
        digest = asset.digest("digest", "sha256") if asset.get("digest") else None
        return Held(asset.number("size"), digest, self._url_of(asset))

    def _url_of(self, asset: Answer) -> str | None:
        """Return an asset's public address, unless it follows from the base URL and the name."""
        address = asset.address("browser_download_url")
        if self._is_draft():
            # a draft's assets are at another address until it is published
            address = join(self.dataurl, asset.text("name"))
        usual = join(self.dataurl, self._name_of(asset))
        return None if unquote(address) == unquote(usual) else address

    # -- uploading ---------------------------------------------------------------------------

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        self._release = self._rest.repeat(self._find_or_make)
        self._list()
        if (new or replaced) and self._release.get("immutable"):
            raise PublishError(
                f"the release {self._tag} of {self._repo} is immutable",
                hint="publish the files under a new tag",
            )
        names = {item.name for item in (*new, *replaced)} | self._files.keys()
        self._check_count(len(names) + min(len(replaced), self.threads), MOST)

    def _is_right(self, asset: Answer, item: Item) -> bool:
        held = self._held(asset)
        if asset.get("state") != "uploaded" or held.size != item.size:
            return False
        if held.digest is None:
            return hash_blocks(self._read(asset), item.digest.alg) == item.digest
        return item.digest_by(held.digest.alg) == held.digest

    def _delete(self, asset: Answer) -> None:
        self._rest.request("DELETE", self._asset(asset), ok=(204, 404))
        with self._lock:
            if self._asides.pop(asset.text("name"), None) is None:
                self._files.pop(self._name_of(asset), None)

    def _upload(self, item: Item, moved: Callable[[int], None]) -> Held:
        aside = self._asides.get(_aside(item.name, item.digest))
        if aside is not None and self._is_right(aside, item):  # of a run that was killed
            return self._rename(aside, item)
        asset = self._send(item, {"name": asset_name(item.name), "label": item.name}, moved)
        with self._lock:
            self._files[item.name] = asset
        return self._held(asset)

    def _replace(self, item: Item, file: Answer, moved: Callable[[int], None]) -> Held:
        name = _aside(item.name, item.digest)
        aside = self._asides.get(name)
        if aside is not None and not self._is_right(aside, item):
            self._delete(aside)
            aside = None
        if aside is None:
            aside = self._send(item, {"name": name}, moved)
        self._delete(file)
        return self._rename(aside, item)

    def _rename(self, aside: Answer, item: Item) -> Held:
        """Give a complete asset the name that is free now, and its label."""
        names = {"name": asset_name(item.name), "label": item.name}
        with _looking_again():
            asset = self._rest.json("PATCH", self._asset(aside), json=names)
        with self._lock:
            self._asides.pop(aside.text("name"), None)
            self._files[item.name] = asset
        return self._held(asset)

    def _send(self, item: Item, names: Mapping[str, str], moved: Callable[[int], None]) -> Answer:
        assert self._release is not None
        with _looking_again(), Sending(item, moved, "sha256") as sending:
            asset = self._rest.json(
                "POST",
                self._release.text("upload_url").partition("{")[0],
                params=names,
                data=sending.body(),
                ok=(201,),
                **UPLOAD,
            )
        held, sent = self._held(asset), sending.digest("sha256")
        right = asset.get("state") == "uploaded" and held.size == item.size
        if not right or held.digest not in (None, sent):
            self._delete(asset)
            found = f"{held.digest or asset.text('state')}, {held.size} bytes"
            raise self._damaged(item, f"{sent}, {item.size} bytes", found)
        return asset

    def _make_public(self) -> None:
        for aside in self._leftovers():
            self._delete(aside)
        if self._is_draft():
            self._release = self._rest.json("PATCH", self._path, json={"draft": False})

    # -- afterwards --------------------------------------------------------------------------

    def read(self, name: str) -> Iterator[bytes]:
        return self._read(self._files[name])

    def _read(self, asset: Answer) -> Iterator[bytes]:
        return self._rest.read(self._asset(asset), headers={"Accept": "application/octet-stream"})

    def advice(self) -> str | None:
        if self._hidden:
            return (
                f"{self._repo} is a private repository: its releases are for those with a token. "
                "Make it public, or publish the files elsewhere."
            )
        if self._is_draft():
            return f"The release {self._tag} of {self._repo} is a draft, which nobody else sees."
        return None


@contextlib.contextmanager
def _looking_again() -> Iterator[None]:
    """Let a try be repeated whose name is taken: one before may have got there."""
    try:
        yield
    except StoreError as error:
        if has_code(error, "already_exists"):
            error.transient = True
        raise
