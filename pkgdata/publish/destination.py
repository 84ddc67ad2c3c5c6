"""What a place to publish to provides; `engine` does the rest the same way for all."""

from __future__ import annotations

import getpass
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..base import hashes
from ..base.hashes import Digest
from ..base.urls import SHORTEST, redact
from ..errors import IntegrityError, PublishError

#: The name of a page next to the files.
PAGE = "index.html"


@dataclass(eq=False)
class Item:
    """A local file that is to be published.

    Parameters
    ----------
    name : str
        Name in the registry.
    path : str
        Where it is here.
    digest : Digest
    size : int
        Bytes.
    stamp : tuple of int, optional
        What `stamp_of` said of the file before it was hashed.
    """

    name: str
    path: str
    digest: Digest
    size: int
    stamp: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        self._digests: dict[str, Digest] = {}

    def digest_by(self, alg: str) -> Digest:
        """Return the file's digest by another algorithm, hashing the file if need be.

        Parameters
        ----------
        alg : str

        Returns
        -------
        Digest
        """
        if alg == self.digest.alg:
            return self.digest
        if alg not in self._digests:
            self._digests[alg] = hashes.hash_file(self.path, alg)
        return self._digests[alg]

    def check_unchanged(self) -> None:
        """Make sure that the file is still the one that was hashed.

        Raises
        ------
        IntegrityError
            It changed. A destination asks this last, before it makes visible what it was sent.
        """
        if self.stamp is None:
            return
        try:
            found = "another size or modification time"
            if stamp_of(self.path) == self.stamp:
                return
        except OSError as error:
            found = error.strerror or str(error)
        raise self.changed(found)

    def changed(self, found: str) -> IntegrityError:
        """Return the error of a file that is not the one that was hashed.

        Parameters
        ----------
        found : str
            What it is now.

        Returns
        -------
        IntegrityError
        """
        return IntegrityError(
            f"{self.path} changed while it was published: expected {self.digest}, found {found}",
            hint="let no other program write to it, then run the same command again",
            name=self.name,
            source=self.path,
            expected=str(self.digest),
            actual=found,
        )


def stamp_of(path: str) -> tuple[int, int, int]:
    """Return what changes when a file's bytes do: its inode, size and time of modification."""
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


class Held(NamedTuple):
    """A file that a destination holds already.

    Parameters
    ----------
    size : int or None
        Bytes.
    digest : Digest or None, default None
        As the service reports it, of any algorithm; None if it reports none.
    url : str or None, default None
        Public address, where it does not follow from the base URL and the name.
    """

    size: int | None
    digest: Digest | None = None
    url: str | None = None


class Destination:
    """A place that files are published to.

    The engine calls, in this order: `check`, `held`, `same` for each file that is there with the
    right size, then, unless nothing is new or `unfinished`, `begin`, `put` from several threads
    and `finish`; at last `close`. Every step may be interrupted and the whole repeated.

    Parameters
    ----------
    url : str
        As the user gave it, such as ``github:owner/repo@tag``.
    """

    #: Recommended number of concurrent uploads.
    threads = 4
    #: Whether it lies on this computer, most likely: small files need no waiting for.
    near = False
    #: Whether a page ``index.html`` next to the files is shown to visitors.
    shows_pages = False
    #: Seconds after `finish` within which the public may not see the files yet.
    delay = 0.0
    #: Whether only who has a token may read the files, as in a private repository or a draft; known
    #: after `held` and again after `finish`. `read` proves them then.
    private = False

    #: Persistent identifier of the files, where the service gives one; known after `finish`.
    doi: str | None = None

    def __init__(self, url: str) -> None:
        #: Without secrets, for messages.
        self.url = redact(url)

    @property
    def dataurl(self) -> str | None:
        """Public base URL of the files; None if each file has its own address."""
        raise NotImplementedError

    def _shown_at(self, address: str | None) -> str:
        """Return where the web shows the files, which the user has to say of some places."""
        if address is None:
            raise PublishError(
                f"{self.url} does not say where the web shows the files",
                hint="say so by public_url='https://…'",
                command="say so with --url https://…",
            )
        return address

    def check(self, items: Sequence[Item]) -> None:
        """Refuse, before anything is sent, what the service would refuse or rewrite.

        Parameters
        ----------
        items : sequence of Item
            All files of the registry, those that are there already included.

        Raises
        ------
        PublishError
        """

    def held(self) -> Mapping[str, Held]:
        """Return what the place holds under its final name, and complete.

        Returns
        -------
        mapping of str to Held
            By name in the registry. Broken uploads are left out.

        Raises
        ------
        AccessDeniedError, StoreError
        """
        raise NotImplementedError

    def same(self, item: Item, held: Held) -> bool | None:
        """Return whether a file that is there, of the right size, has the item's bytes.

        Parameters
        ----------
        item : Item
        held : Held
            Its own, from `held`.

        Returns
        -------
        bool or None
            None if that cannot be told; then the download afterwards decides.
        """
        if held.digest is None:
            return None
        return item.digest_by(held.digest.alg) == held.digest

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        """Prepare to receive files, such as by making a release's draft.

        Parameters
        ----------
        new : sequence of Item
        replaced : sequence of Item
            What the user asked to replace by name.
        """

    def put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        """Upload one file, verify what the service reports of it, and return where it is.

        Parameters
        ----------
        item : Item
        replace : bool
            Whether another file of this name may be replaced.
        moved : callable
            Gets the bytes sent so far.

        Returns
        -------
        Held

        Raises
        ------
        IntegrityError
            The service got other bytes, or the file changed while it was uploaded.
        StoreError
        """
        raise NotImplementedError

    def finish(self) -> Mapping[str, str]:
        """Make visible what was uploaded, such as by publishing the draft.

        Returns
        -------
        mapping of str to str
            Public address by name, for the files that have one that is not base URL and name.
        """
        return {}

    def unfinished(self) -> bool:
        """Return True if `finish` has work to do though no file is to be uploaded.

        Asked after `held`. A draft that an interrupted run has filled still wants to be published;
        `begin`, with empty lists, and `finish` do so.

        Returns
        -------
        bool
        """
        return False

    def read(self, name: str) -> Iterator[bytes]:
        """Read a file back with credentials, where `private` says that nobody else may.

        Parameters
        ----------
        name : str

        Returns
        -------
        iterator of bytes

        Raises
        ------
        StoreError
        """
        raise NotImplementedError

    def versions(self, version: str) -> list[str]:
        """Return the other versions whose files, with a page, are next to those of a version.

        Parameters
        ----------
        version : str
            That of the files here.

        Returns
        -------
        list of str
        """
        return []

    def advice(self) -> str | None:
        """Return what to tell a user who finds that the files cannot be read without credentials.

        Returns
        -------
        str or None
        """
        return None

    def close(self) -> None:
        """Let go of connections and temporary files, whatever happened before."""


#: Bytes handed to the socket at once. A timeout counts for each piece, so that slow lines want
#: small ones.
PIECE = 1 << 17


class Sending:
    """A file that is read to be sent: counted and hashed, its last bytes held back until right.

    Of a file that changes meanwhile nothing becomes visible. A context manager; ``moved`` gets the
    bytes read so far.
    """

    def __init__(self, item: Item, moved: Callable[[int], None], *algorithms: str) -> None:
        self._item, self._moved = item, moved
        self._algorithms = {item.digest.alg, *algorithms}
        try:
            self._file = open(item.path, "rb", buffering=0)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise PublishError(f"{item.path} cannot be read: {error.strerror}") from error
        if os.fstat(self._file.fileno()).st_size != item.size:
            self._file.close()
            raise item.changed("another size")  # a service would wait for bytes that are not there
        self.restart()

    def __enter__(self) -> Sending:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def restart(self, start: int = 0) -> None:
        """Read again, from a byte on; a part's digest is not known, and the place verifies it."""
        self._at = self._file.seek(start)
        self._hashers = {} if start else {alg: hashes.new(alg) for alg in self._algorithms}

    def read(self, count: int) -> bytes:
        """Return as many bytes as are asked for, fewer only at the end."""
        parts, size = [], 0
        while size < count and (part := self._file.read(count - size)):  # a call gives 2 GB at most
            parts.append(part)
            size += len(part)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        for hasher in self._hashers.values():
            hasher.update(data)
        self._at += size
        if self._at >= self._item.size or not data:
            self._check()
        if data:
            self._moved(self._at)
        return data

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset, such as the end to learn the size; reading goes on where it was."""
        return self._file.seek(offset, whence)

    def digest(self, alg: str) -> Digest:
        """Return the digest of what was read, from the first byte on."""
        return hashes.Digest(alg, self._hashers[alg].hexdigest())

    def _check(self) -> None:
        if self._at != self._item.size:
            raise self._item.changed("another size")
        if self._hashers and (found := self.digest(self._item.digest.alg)) != self._item.digest:
            raise self._item.changed(str(found))
        self._item.check_unchanged()

    def body(self, length: int | None = None) -> RequestBody | bytes:
        """Return the next bytes, or all, as requests takes them; an empty stream as ``b""``."""
        length = self._item.size if length is None else length
        self._moved(self._at)
        return RequestBody(self, self._at, length) if length else self.read(1)


class RequestBody:
    """A number of bytes of a file as the body of a request, which may be sent again."""

    def __init__(self, sending: Sending, start: int, length: int) -> None:
        self._sending, self._start, self._length = sending, start, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        self._sending.restart(self._start)
        left = self._length
        while left and (block := self._sending.read(min(PIECE, left))):
            left -= len(block)
            yield block


# -- tokens ----------------------------------------------------------------------------------------

# They come from the environment, a keyring or a prompt. Never from the command line's arguments,
# which every user of the machine can read.

#: The name under which a keyring keeps the tokens, each for its service.
KEYRING = "pkgdata"

#: Tokens that were typed, so that nobody is asked twice.
_typed: dict[str, str] = {}

#: Every token that was found, to be hidden.
_found: set[str] = set()


def find_token(service: str, variables: Sequence[str], *, needed: bool = True) -> str | None:
    """Return a service's token, from the first variable that is set, or a keyring.

    If one is needed and there is none, it is asked for on the terminal.
    """
    for name in variables:
        if os.environ.get(name, "").strip():
            return checked_token(os.environ[name].strip(), name)
    token = _from_keyring(service) or _typed.get(service)
    if token is None and needed:
        token = _typed[service] = _ask(service, variables)
    return None if token is None else checked_token(token, f"the token for {service}")


def checked_token(token: str, origin: str) -> str:
    """Refuse what could not stand in a header, before an HTTP library shows it in its error."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise PublishError(f"{origin} holds a blank or a character that no token has")
    if len(token) >= SHORTEST:
        _found.add(token)
    return token


def _from_keyring(service: str) -> str | None:
    try:
        keyring = importlib.import_module("keyring")
        errors = importlib.import_module("keyring.errors")
    except ImportError:
        return None
    try:
        found: str | None = keyring.get_password(KEYRING, service)
    except errors.KeyringError:
        return None  # no backend, or a locked one: as if there were none
    return (found or "").strip() or None


def _ask(service: str, variables: Sequence[str]) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        try:
            typed = getpass.getpass(f"Token for {service} (it will not be shown): ").strip()
        except EOFError:
            typed = ""
        if typed:
            return typed
    raise PublishError(
        f"no token for {service}",
        hint=f"set {' or '.join(variables)}, or keep it in a keyring: "
        f"pip install keyring && keyring set {KEYRING} {service}",
    )


def hide(text: str) -> str:
    """Take every token that was found out of a text."""
    for token in sorted(_found, key=len, reverse=True):
        text = text.replace(token, "***")
    return text
