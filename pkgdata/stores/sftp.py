"""A folder of another machine, by SFTP through the program ``ssh``.

Keys, agents, aliases and jump hosts are those of ``~/.ssh``; an unknown host key is refused. The
connection is made when it is first needed, serves all threads, and is made again once it broke.
"""

from __future__ import annotations

import contextlib
import posixpath
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from ..base import fs
from ..errors import ConfigError, IncompleteTransferError, ObjectNotFoundError, StoreError
from .file import TreeStore
from .objects import Attributes, Body, Feed, Info, PieceBody, Stat
from .sftp_protocol import Connection, OpenFile

#: Permission bits of a file that everybody may read, and those that a directory then needs.
FILE_MODE, FOLDER_BITS = 0o644, 0o555


class SftpBody(PieceBody):
    """An open file of another machine."""

    def __init__(self, file: OpenFile, start: int, stop: int | None, address: str) -> None:
        super().__init__(start, file.stat.size, _validator(file.stat), "file")
        self.ranges = True
        self.attributes = Attributes(modified=file.stat.modified)
        self._file, self._address = file, address
        self._pieces = file.read(start, stop)

    def _next(self, room: int) -> bytes:
        try:
            return next(filter(None, self._pieces), b"")
        except StoreError as error:
            raise IncompleteTransferError(
                f"{self._address}: the transfer broke: {error.message}",
                url=self._address,
                expected=self.size,
            ) from error

    def close(self) -> None:
        self._file.close()


def _validator(stat: Stat) -> str | None:
    return None if stat.modified is None else f"{stat.size}-{stat.modified}"


def _info(stat: Stat) -> Info:
    return Info(stat.size, _validator(stat), stat.modified)


class SftpStore(TreeStore):
    """A folder of another machine; a context manager that logs out.

    The URL is ``sftp://[user@]host[:port]/folder``; ``/~/`` begins a path in the home directory,
    and the host may be an alias of ``~/.ssh/config``. With ``public``, a file and the folders made
    for it become readable by everybody.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._login, self.root = _login_and_folder(self._url, self.url)
        self._lock = threading.Lock()
        #: What listings came across that the server would wait for, were it opened.
        self._special: set[str] = set()
        self._connection: Connection | None = None
        self._logout: Callable[[], object] = bool  # of no connection: nothing to do

    def __enter__(self) -> SftpStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out; the next request logs in again."""
        with self._lock:
            self._connection = None
            self._logout()

    def host(self) -> Connection:
        """Return the connection, made if there is none that works."""
        with self._lock:
            found = self._connection
            if found is None or not found.is_usable():
                self._logout()
                found = self._connection = Connection(
                    self._command(), self.url, self.timeout, _is_asked()
                )
                # also when the store is forgotten, and at the end of the process
                self._logout = weakref.finalize(self, found.close)
            return found

    def _command(self) -> list[str]:
        options = ["StrictHostKeyChecking=yes", f"ConnectTimeout={max(1, int(self.timeout))}"]
        options += ["ServerAliveInterval=15", "ServerAliveCountMax=4", "ForwardAgent=no"]
        if not _is_asked():
            options.append("BatchMode=yes")
        return ["ssh", "-T", *(word for option in options for word in ("-o", option)), *self._login]

    def _error(self, error: Exception, name: str) -> Exception:
        if isinstance(error, ObjectNotFoundError):
            return self.failure(ObjectNotFoundError, name, "no such object")
        if isinstance(error, StoreError):
            error.url = self.address(name)
        return error

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        path = self.path(name)
        if path in self._special:
            raise self.failure(StoreError, name, fs.SPECIAL)
        with self._naming(name, StoreError):
            file = self.host().open(path)
        if start > (file.stat.size or 0) or validator not in (None, _validator(file.stat)):
            start, stop = 0, None
        return SftpBody(file, start, stop, self.address(name))

    def info(self, name: str) -> Info:
        path = self.path(name)
        with self._naming(name, StoreError):
            stat = self.host().stat(path)
            if stat is None or (stat.is_folder and name):
                raise ObjectNotFoundError("")
            return _info(stat)

    def free_bytes(self) -> int | None:
        """Return the bytes that may still be written, if the server says so."""
        return self.host().free_bytes(self.root)

    def _send(self, aside: str, feed: Feed, kept: Attributes) -> None:
        host = self.host()
        try:
            host.write(aside, feed, 0)
        except ObjectNotFoundError:  # asking first would cost a round trip for each file
            if feed.failure is not None:
                raise
            self.make_folder(posixpath.dirname(aside), kept.public)
            host.write(aside, feed, 0)
        if kept.public:
            host.set_mode(aside, FILE_MODE)
        if kept.modified is not None:
            with contextlib.suppress(StoreError):  # some servers keep their own times
                host.set_time(aside, kept.modified)

    def make_folder(self, path: str, public: bool = False) -> None:
        """Make a directory and its parents; ``public`` lets a web server enter those made."""
        host = self.host()
        found = host.stat(path or ".")
        if found is not None:
            if not found.is_folder:
                raise StoreError(f"{self.url}: {path} is not a directory", url=self.url)
            return
        self.make_folder(posixpath.dirname(path), public)
        try:
            host.make_folder(path)
        except StoreError:
            if host.stat(path) is None:  # else another thread was faster
                raise
        if public:
            made = host.stat(path)
            host.set_mode(path, (made.mode if made else 0o755) | FOLDER_BITS)

    def _appear(self, aside: str, path: str, if_absent: bool) -> None:
        host = self.host()
        (host.appear if if_absent else host.replace)(aside, path)

    def _forget(self, aside: str) -> None:
        with contextlib.suppress(StoreError):
            self.host().remove(aside)

    def _rows(self, folder: str) -> list[tuple[str, Info]]:  # a link to a directory is not entered
        path = posixpath.join(self.root, folder)
        with self._naming(folder, StoreError):
            try:
                found = [*self.host().list(path)]
            except ObjectNotFoundError:
                return []
            links = [name for name, stat in found if stat.is_link]
            targets = self.host().stats(posixpath.join(path, name) for name in links)
            at = dict(zip(links, targets, strict=True))
        rows = []
        for name, stat in found:
            target = at[name] if stat.is_link else stat
            if target is None or target.is_special or (stat.is_link and target.is_folder):
                rows.append((folder + name, Info(None)))  # reading it says why it cannot be read
                if target is not None and target.is_special:
                    self._special.add(self.path(folder + name))
                continue
            rows.append((f"{folder}{name}/" if target.is_folder else folder + name, _info(target)))
        return rows

    def is_folder(self, name: str) -> bool:
        found = self.host().stat(self.path(name))
        return found is not None and found.is_folder

    def remove_folder(self, name: str) -> None:
        with contextlib.suppress(StoreError):  # something is left in it
            self.host().remove(self.path(name), folder=True)

    def remove(self, name: str) -> None:
        path = self.path(name)
        with self._naming(name, StoreError):
            try:
                self.host().remove(path)
            except StoreError:
                found = self.host().stat(path)
                if found is not None and not found.is_folder:
                    raise  # else there is no such object


def _is_asked() -> bool:
    """Return True if somebody is there whom ssh can ask."""
    return sys.stdin is not None and sys.stdin.isatty()


def _login_and_folder(url: str, shown: str) -> tuple[list[str], str]:
    """Return the words of the ssh command that name the host, and the folder there."""
    try:
        parts = urlsplit(url)
        host, port, user = parts.hostname or "", parts.port, unquote(parts.username or "")
    except ValueError:
        host, port, user = "", None, ""
    path = unquote(parts.path).rstrip("/") if host else ""
    if not host or host.startswith("-") or user.startswith("-") or path in ("", "/~"):
        raise ConfigError(f"{shown}: expected sftp://[USER@]HOST[:PORT]/FOLDER")
    if parts.password is not None:
        raise ConfigError(
            f"{shown} holds a password, which every user of this machine could read",
            hint="use a key, an agent, or let ssh ask",
        )
    words = ["-p", str(port)] if port else []
    words += ["-l", user] if user else []
    return [*words, "-s", "--", host, "sftp"], path.removeprefix("/~/")
