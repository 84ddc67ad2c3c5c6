"""What GitHub, Figshare and Zenodo share: a place is found or made, filled, and made public."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..base.urls import redact
from ..core.registry import Entry, Registry
from ..errors import AlreadyPublishedError, IntegrityError, PublishError, StoreError
from .destination import Destination, Held, Item, checked_token, find_token
from .rest import Answer, Rest, status_of


class Service(Destination):
    """A place of a service with a web interface.

    ``token`` is looked for in the environment and the keyring if it is left out, ``endpoint`` is
    the interface of another instance, ``timeout`` the seconds to connect and to wait for an answer;
    ``sleep`` and ``now`` stand in for `time.sleep` and `time.time`.
    """

    #: Of the service: its name, its interface, the word before the token in the header, what the
    #: token has to be allowed, and what holds the files.
    service, api, scheme, rights, holder = "", "", "Bearer", "", ""
    #: Where a token is looked for: its name in a keyring, and variables of the environment.
    key: str = ""
    variables: tuple[str, ...] = ()
    #: Sent with every request.
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        endpoint: str | None = None,
        timeout: float | None = None,
        sleep: Callable[[float], object] | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(url)
        if token:
            checked_token(token, f"the token for {self.service}")
        self._rest = Rest(
            self.service,
            endpoint or self.api,
            scheme=self.scheme,
            secret=lambda: token or find_token(self.key, self.variables) or "",
            rights=self.rights,
            headers=dict(self.headers),
            timeout=timeout,
            sleep=sleep,
            now=now,
        )
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        #: Names of the registry by those at the service.
        self._names: dict[str, str] = {}
        #: What the service says of each file, by its name in the registry.
        self._files: dict[str, Answer] = {}

    def _posted(self, name: str) -> str:
        """Return what a file is called at the service, which has no folders."""
        return name.replace("/", "_")

    def check(self, items: Sequence[Item]) -> None:
        self._names = {}
        for item in items:
            name = self._posted(item.name)
            if not name:
                raise PublishError(
                    f"{item.name!r}: {self.service} would leave nothing of this name",
                    hint="rename the file; letters a-z, digits, '.', '-' and '_' stay as they are",
                )
            first = self._names.setdefault(name, item.name)
            if first != item.name:
                raise PublishError(
                    f"{first!r} and {item.name!r} would both be {name!r} at {self.service}, "
                    "which has no folders",
                    hint="rename one of them",
                )
        self._items = {item.name: item for item in items}

    def _check_limits(self, items: Sequence[Item], largest: int, most: int) -> None:
        large = [item for item in items if item.size > largest]
        if large:
            names = ", ".join(f"{item.name} ({item.size} bytes)" for item in large[:5])
            raise PublishError(
                f"{len(large)} of the files are over {self.service}'s limit of {largest} bytes: "
                f"{names}",
                hint="split them, or publish them elsewhere: s3://, gs:// and az:// take larger "
                "ones",
            )
        self._check_count(len(items), most)

    def _check_count(self, count: int, most: int) -> None:
        if count > most:
            raise PublishError(
                f"the {self.holder} would have {count} files, and {self.service} takes {most} for "
                f"each {self.holder}",
                hint="pack them into an archive, or publish them elsewhere",
            )

    def held(self) -> Mapping[str, Held]:
        self._look()
        self._list()
        return {name: self._held(file) for name, file in self._complete().items()}

    def _look(self) -> None:
        """Get the facts of the place, if there is one."""
        raise NotImplementedError

    def _list(self) -> None:
        """Get the files again."""
        raise NotImplementedError

    def _complete(self) -> Mapping[str, Answer]:
        """Return the files that are there whole, by their names in the registry."""
        return self._files

    def _held(self, file: Answer) -> Held:
        raise NotImplementedError

    def put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        first = True

        def step() -> Held:
            nonlocal first
            if not first:
                self._list()  # the last try may have left something, or everything
            first = False
            return self._put(item, replace, moved)

        return self._rest.repeat(step)

    def _put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        """Upload a file unless it is there; what is in its way and may not stay goes."""
        file = self._files.get(item.name)
        if file is not None:
            if self._is_right(file, item):
                return self._held(file)
            if item.name in self._complete():
                if not replace:
                    held = self._held(file)
                    raise self._other_bytes(item, held.digest or held.size)
                return self._replace(item, file, moved)
            self._delete(file)
        return self._upload(item, moved)

    def _replace(self, item: Item, file: Answer, moved: Callable[[int], None]) -> Held:
        """Upload a file in the place of another, which only a draft may lack meanwhile."""
        self._delete(file)
        return self._upload(item, moved)

    def _is_right(self, file: Answer, item: Item) -> bool:
        held = self._held(file)
        return held.size == item.size and bool(self.same(item, held))

    def _delete(self, file: Answer) -> None:
        raise NotImplementedError

    def _upload(self, item: Item, moved: Callable[[int], None]) -> Held:
        raise NotImplementedError

    def _other_bytes(self, item: Item, found: object) -> AlreadyPublishedError:
        return AlreadyPublishedError(
            f"{item.name!r} has other bytes at {self.url}: {found}",
            hint="somebody else may publish too; published bytes do not change",
            names=[item.name],
        )

    def _damaged(self, item: Item, sent: object, found: object) -> IntegrityError:
        """Return the error of an upload of which the service got other bytes."""
        return IntegrityError(
            f"{item.name}: {self.service} has {found} of it, {sent} was sent; it was removed there "
            "again",
            hint="run the same command again",
            name=item.name,
            source=self.service,
            expected=str(sent),
            actual=str(found),
        )

    def finish(self) -> Mapping[str, str]:
        self._list()
        self._check_complete()
        if self.unfinished():
            self._rest.repeat(self._make_public)
            self._list()  # the addresses may have changed
        return self._own_urls()

    def _make_public(self) -> None:
        raise NotImplementedError

    def _check_complete(self) -> None:
        """Make sure that everything is there before it is made public."""
        missing = sorted(self._items.keys() - self._complete().keys())
        if missing:
            raise PublishError(
                f"{len(missing)} files are not at {self.url}, {missing[0]!r} among them; "
                f"the {self.holder} stays as it is",
                hint="run the same command again",
            )

    def _own_urls(self) -> dict[str, str]:
        held = {name: self._held(file) for name, file in self._complete().items()}
        return {name: one.url for name, one in held.items() if one.url and name in self._items}


class NumberedService(Service):
    """A new or known article or record, which is named by its number.

    ``publish`` makes it public when all files are there; ``title`` and ``metadata`` are those of a
    new one. Without a title it gets one that is made of the files' digests.
    """

    def __init__(
        self,
        url: str,
        *,
        publish: bool = False,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(url, **options)
        kind, _, text = url.partition(":")
        if text and not (text.isascii() and text.isdigit()):
            raise PublishError(
                f"expected {kind}: or {kind}:{self.holder.upper()}, found {redact(url)!r}",
                hint=f"the {self.holder} is named by its number, without a version",
            )
        self._id = int(text) if text else None
        self._publish = publish
        self._metadata = dict(metadata or {})
        self._title = self._metadata.pop("title", None) if title is None else title

    def check(self, items: Sequence[Item]) -> None:
        super().check(items)
        if self._title is None:
            # the same files get it again, so that a second run finds its draft
            tree = Registry(Entry(item.name, item.digest) for item in items).digest()
            self._title = f"Data files ({tree.hex[:12]})"

    def _ask_to_publish(self, path: str, ok: int, again: str) -> None:
        try:
            self._rest.request("POST", path, ok=(ok,))
        except StoreError as error:
            if status_of(error) != 400:
                raise
            raise PublishError(
                f"{self.service} does not publish {self.url}: {error.message}",
                hint=f"fill in what is missing on its page, then run the same command {again}",
            ) from None

    def _keep_id(self, number: int) -> None:
        self._id = number
        self.url = f"{self.url.partition(':')[0]}:{number}"


def basename(path: str) -> str:
    """Return what stands behind the last slash of a URL's path."""
    return path.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]
