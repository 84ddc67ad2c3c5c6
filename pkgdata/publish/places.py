"""Places that a store writes: a web folder here or on another machine, and buckets.

A file appears under its name complete, and is never replaced unless that was asked for: the store
sees to it. A web server, which is another user, may read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import posixpath
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..base import disk, fs, owners, text
from ..base.config import conf
from ..base.hashes import hash_blocks
from ..base.urls import canonical, file_path, redact
from ..errors import (
    AccessDeniedError,
    IntegrityError,
    MissingExtraError,
    ObjectExistsError,
    PkgdataError,
    PublishError,
    StoreError,
)
from ..stores import Store, public
from ..stores.file import FileStore
from ..stores.naming import BucketUrl, web_address
from ..stores.sftp import SftpStore
from .destination import PAGE, Destination, Held, Item, Sending

#: Under this name the digest is kept with each object, since buckets report an MD5 at best, and
#: none of what was sent in parts.
_SHA256 = "sha256"

#: Objects are listed as long as they are not many more than what is published.
_LISTED = 10_000

#: Other versions that a page names.
_VERSIONS = 50

#: Files and bytes in a folder that are synced at once: a sync for each of thousands of small files
#: takes longer than copying them.
_GROUP_FILES, _GROUP_BYTES = 1024, 256 << 20

#: Bytes of one write over SFTP, between two of which progress is reported.
_SFTP_PIECE = 1 << 15


class StorePlace(Destination):
    """What a store holds."""

    shows_pages = True

    def __init__(self, url: str, store: Store, public_url: str | None) -> None:
        super().__init__(url)
        self._store = store
        store.exact = True  # "a" and "a.gz" are two files
        self._public_url = public_url
        self._items: Sequence[Item] = ()

    def check(self, items: Sequence[Item]) -> None:
        self._items = items

    def held(self) -> Mapping[str, Held]:
        names = [*(item.name for item in self._items), PAGE]
        found = self._store.stat(names)
        return {
            name: Held(info.size, info.digest) for name, info in found.items() if info is not None
        }

    def same(self, item: Item, held: Held) -> bool:
        return hash_blocks(self.read(item.name), item.digest.alg) == item.digest

    def unfinished(self) -> bool:
        return bool(self._leftovers())

    def _leftovers(self) -> Sequence[str]:
        """Return the names of files that a killed run has left."""
        return [*self._store.leftovers()]

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        for name in self._leftovers():
            self._store.remove(name)
        needed = sum(item.size for item in (*new, *replaced))
        free = self._store.free_bytes()
        if free is not None and needed > free:
            raise PublishError(
                f"no space at {self.url}: {needed} bytes are to be written, {free} are free",
                hint="free some on that disk; what is already there is not sent again",
            )

    def put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        with Sending(item, moved) as sending:
            self._write(item, sending, replace)
        return Held(item.size, item.digest)

    def _write(self, item: Item, sending: Sending, replace: bool) -> None:
        self._store.put(item.name, sending, public=True, if_absent=not replace)

    def read(self, name: str) -> Iterator[bytes]:
        yield from map(bytes, self._store.blocks(name))

    def versions(self, version: str) -> list[str]:
        store = self._store
        above, _, last = store._url.rstrip("/").rpartition("/")
        if version not in last or above.endswith(":/"):
            return []
        before, _, after = last.partition(version)
        try:
            with contextlib.ExitStack() as stack:
                parent = type(store)(f"{above}/", **store._options)
                if isinstance(parent, SftpStore):
                    stack.enter_context(parent)
                inside = [name.removesuffix("/") for name in parent.list(before, flat=True)]
                folders = [name for name in inside if name != last and name.endswith(after)]
                others = [name.removeprefix(before).removesuffix(after) for name in folders]
                others = [name for name in others if name[:1].isdigit()][-_VERSIONS:]
                there = parent.exists([f"{before}{name}{after}/{PAGE}" for name in others])
        except (PkgdataError, OSError) as error:
            # who may write a folder may not be allowed to list the one above
            logging.getLogger("pkgdata").debug("no other versions of %s: %s", self.url, error)
            return []
        return [name for name in others if there[f"{before}{name}{after}/{PAGE}"]]

    def _web_advice(self, root: str) -> str:
        return (
            f"The web server must be able to enter every folder above {root} (chmod o+x), "
            "and the address given with --url must show this very folder."
        )


class WebFolder(StorePlace):
    """A folder that a web server shows: ``file:/folder`` or ``file:///folder``.

    Without ``public_url`` the files are read back from the folder itself. Files are written aside,
    synced together, and then get their names.
    """

    near = True
    _store: FileStore

    def __init__(self, url: str, public_url: str | None = None) -> None:
        path = file_path(url)
        if path is None or not os.path.isabs(path):
            raise PublishError(f"{redact(url)}: expected file:/FOLDER with an absolute path")
        self.root = path.rstrip("/") or "/"
        super().__init__(url, FileStore(canonical(self.root)), public_url)
        self._bulk = contextlib.ExitStack()
        self._lock = threading.Lock()
        #: Files without a name yet: name aside, name, whether it may be replaced.
        self._group: list[tuple[str, str, bool]] = []
        self._bytes = 0

    @property
    def dataurl(self) -> str:
        return self._public_url or canonical(self.root)

    def check(self, items: Sequence[Item]) -> None:
        super().check(items)
        top = self.root
        while not os.path.lexists(top) and os.path.dirname(top) != top:
            top = os.path.dirname(top)
        if not os.path.isdir(top):
            raise PublishError(f"{self.url}: {top} is not a directory")
        if not os.access(top, os.W_OK | os.X_OK):
            raise AccessDeniedError(f"{self.url}: {top} cannot be written to", url=self.url)

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        super().begin(new, replaced)
        self._bulk.enter_context(self._store.bulk())

    def _write(self, item: Item, sending: Sending, replace: bool) -> None:
        aside = posixpath.join(posixpath.dirname(item.name), owners.aside(""))
        self._store.put(aside, sending, public=True)
        with self._lock:
            self._group.append((aside, item.name, replace))
            self._bytes += item.size
            full = len(self._group) >= _GROUP_FILES or self._bytes >= _GROUP_BYTES
        if full:
            self._sync_group()

    def _sync_group(self) -> None:
        with self._lock:
            group, self._group, self._bytes = self._group, [], 0
        name = ""
        try:
            if group and conf.durability == "batch" and disk.can_sync_all():
                disk.sync_all(self.root)  # else the store has synced each
            while group:
                aside, name, replace = group[-1]
                fs.appear(self._path(aside), self._path(name), not replace)
                group.pop()
        except OSError as error:
            raise self._store._error(error, name) from error
        finally:
            for aside, *_ in group:
                fs.remove(self._path(aside))

    def _path(self, name: str) -> str:
        return os.path.join(self.root, *name.split("/"))

    def finish(self) -> Mapping[str, str]:
        try:
            self._sync_group()
        finally:
            self._bulk.close()
        return {}

    def close(self) -> None:
        self.finish()

    def advice(self) -> str:
        return self._web_advice(self.root)


class SftpFolder(StorePlace):
    """A web folder of another machine: ``sftp://[user@]host[:port]/folder``; see `SftpStore`.

    A file is written aside under a name that its digest decides, so that a later run resumes what
    an interrupted one has sent.
    """

    _store: SftpStore

    def __init__(self, url: str, public_url: str | None = None) -> None:
        super().__init__(url, SftpStore(url), public_url)

    @property
    def dataurl(self) -> str:
        """Public base URL.

        Raises
        ------
        PublishError
            None was given.
        """
        return self._shown_at(self._public_url)

    def check(self, items: Sequence[Item]) -> None:
        super().check(items)
        _ = self.dataurl
        try:
            self._store.host()
        except MissingExtraError as error:
            raise PublishError(error.message, hint=error.hint) from None

    def _leftovers(self) -> Sequence[str]:
        # a killed run may have given a file its name and not removed the one aside
        asides = {_aside(item): item.name for item in self._items}
        found = self._store.stat([*asides])
        there = [aside for aside, info in found.items() if info is not None]
        complete = self._store.stat([asides[aside] for aside in there])
        return [aside for aside in there if complete[asides[aside]] is not None]

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        self._store.make_folder(self._store.root, True)
        super().begin(new, replaced)

    def _write(self, item: Item, sending: Sending, replace: bool) -> None:
        store, host = self._store, self._store.host()
        target, aside = store.path(item.name), store.path(_aside(item))
        store.make_folder(posixpath.dirname(target), True)
        self._send(item, sending, aside)
        host.set_mode(aside, 0o644)
        item.check_unchanged()
        (host.replace if replace else host.appear)(aside, target)

    def _send(self, item: Item, sending: Sending, aside: str) -> None:
        host = self._store.host()
        there = host.stat(aside)
        sent = (there.size or 0) if there is not None else 0
        if sent > item.size:
            host.remove(aside)
            sent = 0
        sending.restart(sent)
        host.write(aside, iter(lambda: sending.read(_SFTP_PIECE), b""), sent)
        found = host.stat(aside)
        good = found is not None and found.size == item.size
        # what another run has sent was never compared with anything
        if good and (not sent or hash_blocks(host.read(aside), item.digest.alg) == item.digest):
            return
        host.remove(aside)
        raise IntegrityError(
            f"{self.url}: {item.name!r} did not arrive as it was sent",
            hint="it was removed there; run the same command again",
            name=item.name,
            source=self.url,
            expected=f"{item.size} bytes, {item.digest}",
            actual=f"{found.size if found is not None else 0} bytes",
        )

    def advice(self) -> str:
        return self._web_advice(self._store.root)

    def close(self) -> None:
        self._store.close()


def _aside(item: Item) -> str:
    """Return the name of a file that is not complete: the same in every run, and never too long."""
    key = hashlib.sha256(f"{item.digest} {item.name}".encode()).hexdigest()
    return posixpath.join(posixpath.dirname(item.name), f".pkgdata-{key[:32]}.part")


class Bucket(StorePlace):
    """A bucket, or a prefix in one: ``s3://bucket/prefix``, ``gs://…``, ``az://…``; see `Store`.

    ``public_url`` is where everybody reads it, if that is not the bucket's own address: a CDN.
    ``public`` gives each object an ACL; the rest is as for `Store`.
    """

    #: A bucket takes more requests at once than a small service does.
    threads = 64

    def __init__(
        self,
        url: str,
        public_url: str | None = None,
        public: bool = False,
        storage_class: str | None = None,
        endpoint: str | None = None,
        region: str | None = None,
        request_payer: str | None = None,
    ) -> None:
        store = Store(url, endpoint=endpoint, region=region, request_payer=request_payer)
        super().__init__(url, store, public_url)
        self._given = url
        self._public = public
        self._class = storage_class
        self._place = BucketUrl(url, endpoint)
        # some services know no conditional writes; the listing has shown that the name is free
        self._conditional = True

    @property
    def dataurl(self) -> str:
        if self._public_url is not None:
            return self._public_url
        place, endpoint = self._place, self._store._endpoint()  # type: ignore[attr-defined]
        if endpoint:
            prefix = f"/{place.prefix}" if place.prefix else ""
            return web_address(f"{place.kind}://{endpoint}/{place.bucket}{prefix}")
        return public(self._given) if place.kind == "az" else self._given.rstrip("/") + "/"

    def check(self, items: Sequence[Item]) -> None:
        super().check(items)
        for item in items:
            fs.safe_key(item.name)
        client: Any = self._store.client(self._public)  # type: ignore[attr-defined]
        if client.config.get("skip_signature"):
            raise PublishError(
                f"{self.url}: no credentials to write with",
                hint="set the provider's variables (such as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY), or log in with its own tool",
            )

    def held(self) -> Mapping[str, Held]:
        found: dict[str, Held] = {}
        for name, info in self._store.scan():
            found[name] = Held(info.size, info.digest)
            if len(found) > _LISTED + 4 * len(self._items):
                return super().held()  # of many others, listing all takes longer than asking
        return found

    def same(self, item: Item, held: Held) -> bool:
        if held.digest is not None and item.digest_by(held.digest.alg) == held.digest:
            return True
        metadata = self._store.stat(item.name).attributes.metadata
        kept = {key.lower(): value.lower() for key, value in metadata.items()}.get(_SHA256)
        if kept and item.digest.alg == "sha256":
            return bool(kept == item.digest.hex)
        if held.digest is not None and self._store.is_digest(item.name, held.digest):
            return False
        return super().same(item, held)

    def _write(self, item: Item, sending: Sending, replace: bool) -> None:
        kept = {_SHA256: item.digest.hex} if item.digest.alg == "sha256" else None
        absent = self._conditional and not replace
        while True:
            try:
                self._store.put(
                    item.name,
                    sending,
                    storage_class=self._class,
                    metadata=kept,
                    public=self._public,
                    if_absent=absent,
                )
                return
            except StoreError as error:
                if not absent or not _knows_no_condition(error):
                    raise
            self._conditional = absent = False
            sending.restart()

    def advice(self) -> str:
        prefix = f"{self._place.prefix}/" if self._place.prefix else ""
        file, quoted = f"{self._place.kind}.txt", json.dumps(prefix)[1:-1]
        said = text.template(__file__, file, bucket=self._place.bucket, prefix=quoted)
        return said.rstrip("\n")


def _knows_no_condition(error: StoreError) -> bool:
    return not isinstance(error, ObjectExistsError) and (
        "NotImplemented" in str(error) or "status 501" in str(error)
    )
