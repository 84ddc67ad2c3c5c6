"""A web folder of another machine: ``sftp://[user@]host[:port]/folder``.

A file is written aside under a name that its digest decides, so that a later run goes on from what
an interrupted one has sent; it gets its own name when it is complete, and never the name of another
file. Host keys are checked strictly: an unknown host is refused.
"""

from __future__ import annotations

import posixpath
import threading

from ..base import fs
from ..base.urls import redact
from ..errors import AccessDeniedError, IntegrityError, MissingExtraError, PublishError, StoreError
from ..stores.sftp_protocol import Connection
from .destination import Destination, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .destination import Item

#: Bytes of one write.
_BLOCK = 1 << 15

#: Permission bits that a web server needs of files and of directories.
_FILE_BITS, _FOLDER_BITS = 0o444, 0o555


class Sftp(Destination):
    """A folder of another machine.

    Parameters
    ----------
    url : str
        ``sftp://[user@]host[:port]/folder``; ``/~/`` begins a path in the home directory. The host
        may be an alias of ``~/.ssh/config``.
    public_url : str, optional
        Where the web shows it. It is needed, but not to look at what is there.

    Raises
    ------
    PublishError
        The URL is malformed.
    """

    shows_pages = True

    def __init__(self, url: str, public_url: str | None = None) -> None:
        super().__init__(url)
        self._command, self.root = command_and_folder(url)
        self._public = public_url
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._items: list[Item] = []
        self._leftovers: list[str] = []
        self._folders: set[str] = set()

    @property
    def dataurl(self) -> str:
        """Public base URL.

        Raises
        ------
        PublishError
            None was given.
        """
        if self._public is None:
            raise PublishError(
                f"{self.url} does not say where the web shows the files",
                hint="say so with --url https://…",
            )
        return self._public

    def check(self, items: Sequence[Item]) -> None:
        self._items = [*items]
        _ = self.dataurl
        self._host()

    def held(self) -> Mapping[str, Held]:
        from .page import NAME

        names = [*(item.name for item in self._items), NAME]
        stats = self._host().stats(map(self._path, names))
        found = {
            name: Held(stat.size)
            for name, stat in zip(names, stats, strict=True)
            if stat is not None
        }
        # a killed run may have given a file its name and not removed the one aside
        asides = [self._aside(item) for item in self._items if item.name in found]
        there = self._host().stats(asides)
        self._leftovers = [path for path, stat in zip(asides, there, strict=True) if stat]
        return found

    def unfinished(self) -> bool:
        return bool(self._leftovers)

    def same(self, item: Item, held: Held) -> bool:
        return self._hash(self._path(item.name), item) == item.digest.hex

    def _hash(self, path: str, item: Item) -> str:
        from ..base import hashes

        hasher = hashes.new(item.digest.alg)
        for block in self._host().read(path):
            hasher.update(block)
        return hasher.hexdigest()

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        self._make_folder(self.root)
        for path in self._leftovers:
            self._host().remove(path)
        self._leftovers = []
        needed = sum(item.size for item in (*new, *replaced))
        free = self._host().free_bytes(self.root)
        if free is not None and needed > free:
            raise PublishError(f"{self.url}: {needed} bytes are to be written, {free} are free")

    def put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        host, target = self._host(), self._path(item.name)
        self._make_folder(posixpath.dirname(target))
        aside = self._aside(item)
        self._send(host, item, aside, moved)
        host.set_mode(aside, _FILE_BITS | 0o200)
        item.check_unchanged()
        if replace:
            host.replace(aside, target)
        else:
            host.appear(aside, target)
        return Held(item.size, item.digest)

    def _send(self, host: Connection, item: Item, aside: str, moved: Callable[[int], None]) -> None:
        there = host.stat(aside)
        sent = 0 if there is None or there.size is None else there.size
        if sent > item.size:
            host.remove(aside)
            sent = 0
        host.write(aside, _blocks(item, sent, moved), sent)
        found = host.stat(aside)
        good = found is not None and found.size == item.size
        # what another run has sent was never compared with anything
        if good and (not sent or self._hash(aside, item) == item.digest.hex):
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

    def _make_folder(self, path: str) -> None:
        """Make a directory and its parents, each so that a web server can enter it."""
        with self._lock:
            if path in self._folders or path in ("", "/"):
                return
        host = self._host()
        found = host.stat(path)
        if found is None:
            self._make_folder(posixpath.dirname(path))
            try:
                host.make_folder(path)
            except StoreError:
                if host.stat(path) is None:  # else another thread was quicker
                    raise
            made = host.stat(path)
            host.set_mode(path, (made.mode if made and made.mode else 0o755) | _FOLDER_BITS)
        elif not found.is_folder:
            raise PublishError(f"{self.url}: {path} is not a directory")
        with self._lock:
            self._folders.add(path)

    def read(self, name: str) -> Iterator[bytes]:
        return self._host().read(self._path(name))

    def advice(self) -> str:
        return (
            f"The web server must be able to enter every folder above {self.root} (chmod o+x), "
            "and the address given with --url must show this very folder."
        )

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _host(self) -> Connection:
        with self._lock:
            if self._connection is None:
                try:
                    self._connection = Connection(self._command, self.url)
                except MissingExtraError as error:
                    raise PublishError(error.message, hint=error.hint) from None
            return self._connection

    def _path(self, name: str) -> str:
        return posixpath.join(self.root, fs.safe_name(name))

    def _aside(self, item: Item) -> str:
        return posixpath.join(posixpath.dirname(self._path(item.name)), _aside(item))


def command_and_folder(url: str) -> tuple[list[str], str]:
    """Return the ssh command and the folder that a URL means.

    Parameters
    ----------
    url : str
        ``sftp://[user@]host[:port]/folder``.

    Raises
    ------
    PublishError
        The URL is malformed, or holds a password.
    """
    import sys
    from urllib.parse import unquote, urlsplit

    from ..base.config import conf

    try:
        parts = urlsplit(url)
        host, port, user = parts.hostname or "", parts.port, unquote(parts.username or "")
    except ValueError:
        host, port, user = "", None, ""
    path = unquote(parts.path).rstrip("/") if host else ""
    if not host or host.startswith("-") or user.startswith("-") or path in ("", "/~"):
        raise PublishError(f"{redact(url)}: expected sftp://[USER@]HOST[:PORT]/FOLDER")
    if parts.password is not None:
        raise PublishError(
            f"{redact(url)} holds a password, which every user of this machine could read",
            hint="use a key, an agent, or let ssh ask",
        )
    options = ["StrictHostKeyChecking=yes", f"ConnectTimeout={max(1, int(conf.remote_timeout))}"]
    options += ["ServerAliveInterval=15", "ServerAliveCountMax=4", "ForwardAgent=no"]
    if sys.stdin is None or not sys.stdin.isatty():
        options.append("BatchMode=yes")  # nobody is there to be asked
    command = ["ssh", "-T", *(word for option in options for word in ("-o", option))]
    command += ["-p", str(port)] if port else []
    command += ["-l", user] if user else []
    return [*command, "-s", "--", host, "sftp"], path.removeprefix("/~/")


def _aside(item: Item) -> str:
    """Return the name of a file that is not complete: the same in every run, and never too long."""
    import hashlib

    key = hashlib.sha256(f"{item.digest} {item.name}".encode()).hexdigest()
    return f".pkgdata-{key[:32]}.part"


def _blocks(item: Item, start: int, moved: Callable[[int], None]) -> Iterator[bytes]:
    done = start
    try:
        with open(item.path, "rb") as file:
            file.seek(start)
            while block := file.read(_BLOCK):
                yield block
                done += len(block)
                moved(done)
    except PermissionError as error:
        raise AccessDeniedError(f"{item.path}: {error.strerror}") from error
