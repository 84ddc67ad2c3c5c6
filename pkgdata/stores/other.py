"""Places that are no disk, web server or bucket: memory, fsspec's protocols, one file by FTP.

Memory: ``mem://NAME`` is shared by all who open it in this process. As with a bucket, what follows
the name is a prefix: ``mem://a`` has what ``mem://a/b`` holds too.

fsspec: whatever it has a protocol for (``ftp``, ``smb``, ``hdfs``, ``dropbox``, …). Its file
systems promise little: nothing is atomic, and errors are of all kinds. Objects are written aside
and renamed, so that no part of one is ever seen under its name.

FTP: one URL is also read without fsspec, in the clear or, where the server insists, over TLS: old
archives still serve by FTP, and code written for astropy asks them.
"""

from __future__ import annotations

import contextlib
import ftplib
import itertools
import socket
import ssl
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ..base import fs
from ..base.urls import canonical, redact, redact_text, scheme, secrets_of
from ..errors import (
    AccessDeniedError,
    ConfigError,
    IncompleteTransferError,
    MissingExtraError,
    ObjectNotFoundError,
    StoreError,
)
from .base import Primitives
from .file import TreeStore
from .naming import read_secrets
from .objects import Attributes, Blocks, Body, Feed, Info, PieceBody, already_there, stopped
from .store import Store

# -- memory ------------------------------------------------------------------------------------

_contents: dict[str, dict[str, Kept]] = {}

#: Numbers each write, so that a changed object has another validator.
_writes = itertools.count()


class Kept(NamedTuple):
    """One object."""

    content: bytes
    info: Info


class MemoryBody(PieceBody):
    """Bytes that are read from memory."""

    def __init__(self, kept: Kept, start: int) -> None:
        size = len(kept.content)
        super().__init__(start if start <= size else 0, size, kept.info.validator, "memory")
        self.attributes = kept.info.attributes
        self._rest = memoryview(kept.content)[self.start :]

    def _next(self, room: int) -> bytes:
        return b""


class MemoryStore(Store):
    """Names and bytes in a dictionary: ``mem://NAME/PREFIX``."""

    shared = False
    near = True

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        name, _, prefix = self._url.partition("://")[2].partition("/")
        self._objects = _contents.setdefault(name, {})
        self._root = prefix.rstrip("/") + "/" if prefix.strip("/") else ""

    def _key(self, name: str) -> str:
        return self._root + fs.safe_key(name)

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        kept = self._kept(name)
        return MemoryBody(kept, start if validator in (None, kept.info.validator) else 0)

    def _kept(self, name: str) -> Kept:
        try:
            return self._objects[self._key(name)]
        except KeyError:
            raise self.failure(ObjectNotFoundError, name, "no such object") from None

    def info(self, name: str) -> Info:
        return self._kept(name).info

    def _write(
        self, name: str, content: bytes | memoryview, kept: Attributes, if_absent: bool
    ) -> None:
        now = time.time() if kept.modified is None else kept.modified
        kept = kept.replaced(modified=now)
        said = Info(len(content), str(next(_writes)), now, attributes=kept)
        new = Kept(bytes(content), said)
        if not if_absent:
            self._objects[self._key(name)] = new
        elif self._objects.setdefault(self._key(name), new) is not new:
            raise already_there(self.address(name))

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        self._write(name, b"".join(map(bytes, blocks)), kept, if_absent)

    def scan(self, prefix: str = "", flat: bool = False) -> Iterator[tuple[str, Info]]:
        begin, skip, last = self._root + prefix, len(self._root), ""
        for key in sorted(key for key in list(self._objects) if key.startswith(begin)):
            kept, name = self._objects.get(key), key[skip:]
            head, slash, _ = name[len(prefix) :].partition("/")
            if flat and slash:
                folder = f"{prefix}{head}/"
                if folder != last:
                    yield folder, Info(None)
                last = folder
            elif kept is not None:  # else it was removed meanwhile
                yield name, kept.info

    def remove(self, name: str) -> None:
        self._objects.pop(self._key(name), None)

    def clone(self, name: str, source: Primitives, source_name: str) -> bool:
        if not isinstance(source, MemoryStore):
            return False
        kept = source._kept(source_name)
        self.write(name, kept.content, kept.info.attributes)
        return True


# -- fsspec ------------------------------------------------------------------------------------


class FsspecBody(Body):
    """An open file of a file system of fsspec, closed with the body."""

    def __init__(self, file: Any, start: int, info: Info, address: str) -> None:
        super().__init__(start, info.size, info.validator, "file")
        self.attributes = Attributes(modified=info.modified)
        self._file, self._address = file, address
        if start:
            file.seek(start)

    def readinto(self, buffer: memoryview) -> int:
        try:
            data = self._file.read(len(buffer))
        except Exception as error:
            raise IncompleteTransferError(
                f"{self._address}: reading broke off: {type(error).__name__}",
                url=self._address,
                expected=self.size,
            ) from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()


class FsspecStore(TreeStore):
    """A folder of a file system that fsspec knows.

    Secrets are the file system's own options. Whether an object is there is asked before it is
    written: with ``if_absent``, of two who write at once both may succeed.
    """

    cloud = True  # secrets and endpoint mean something here

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        import fsspec

        secrets = self._options.get("secrets") or {}
        given: Mapping[str, Any] = read_secrets(secrets() if callable(secrets) else secrets)
        self._sent = secrets_of(self._url) | set(map(str, given.values()))
        try:
            self._files, root = fsspec.core.url_to_fs(self._url, **given)
        except ImportError as error:
            kind = scheme(self._url)
            raise MissingExtraError(
                f"{kind}: needs a package that is not installed: {error}",
                hint=f"pip install 'fsspec[{kind}]'",
            ) from None
        except (ValueError, TypeError, OSError) as error:
            said = redact_text(str(error), self._sent)
            raise ConfigError(f"{self.url}: {type(error).__name__}: {said}") from None
        self.root = str(root).rstrip("/")

    def _error(self, error: Exception, name: str) -> Exception:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
            return self.failure(ObjectNotFoundError, name, "no such object")
        if isinstance(error, PermissionError):
            return self.failure(AccessDeniedError, name, "access denied")
        said = redact_text(str(error).partition("\n")[0], self._sent)
        said = textwrap.shorten(said, 500, placeholder=" …")
        text = f"{type(error).__name__}: {said}"
        return self.failure(StoreError, name, text, transient=isinstance(error, OSError))

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        info = self.info(name)
        if start > (info.size or 0) or validator not in (None, info.validator):
            start = 0
        with self._naming(name, Exception):
            file = self._files.open(self.path(name), "rb")
            return FsspecBody(file, start, info, self.address(name))

    def info(self, name: str) -> Info:
        path = self.path(name)
        with self._naming(name, Exception):
            found = self._files.info(path)
        if found["type"] == "directory":
            raise self._error(FileNotFoundError(), name)
        return _told(found)

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        if if_absent and self.info_or_none(name) is not None:
            raise already_there(self.address(name))
        super()._write_blocks(name, blocks, kept, if_absent, size)

    def _send(self, aside: str, feed: Feed, kept: Attributes) -> None:
        self._files.makedirs(aside.rpartition("/")[0], exist_ok=True)
        with self._files.open(aside, "wb") as file:
            for block in feed:
                file.write(bytes(block))

    def _appear(self, aside: str, path: str, if_absent: bool) -> None:
        self._files.mv(aside, path)

    def _forget(self, aside: str) -> None:
        # it was not started, or the file system is gone: the first error counts
        with contextlib.suppress(Exception):
            self._files.rm_file(aside)

    def _rows(self, folder: str) -> Iterator[tuple[str, Info]]:
        try:
            found = self._files.ls(f"{self.root}/{folder}".rstrip("/") or "/", detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        except Exception as error:
            raise self._error(error, folder) from None
        for row in found:
            name = folder + row["name"].rstrip("/").rpartition("/")[2]
            yield name + "/" * (row["type"] == "directory"), _told(row)

    def remove(self, name: str) -> None:
        if self.info_or_none(name) is None:
            return
        with self._naming(name, Exception), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self.path(name))


def _told(found: Mapping[str, Any]) -> Info:
    modified: Any = next((found[k] for k in ("mtime", "modified", "created") if found.get(k)), None)
    when = modified.timestamp() if hasattr(modified, "timestamp") else modified
    validator = f"{found.get('size')}-{when}" if when is not None else None
    return Info(found.get("size"), validator, float(when) if when is not None else None)


# -- FTP without fsspec -----------------------------------------------------------------------

_PROBLEMS: tuple[type[Exception], ...] = (*ftplib.all_errors, ValueError)

#: Seconds that an answer of a server may take in all, and its lines.
_ANSWER, _LINES = 60.0, 1000


class _Ftp(ftplib.FTP):
    """A client that waits for no answer without end: each byte of it may be in time."""

    _count = 0

    def getmultiline(self) -> str:
        self._count = 0
        late = threading.Event()

        def end() -> None:
            late.set()
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]  # it is connected

        timer = threading.Timer(_ANSWER, end)
        timer.daemon = True
        timer.start()
        try:
            return super().getmultiline()
        except (EOFError, OSError):
            if late.is_set():
                raise TimeoutError(f"no whole answer in {_ANSWER:g} s") from None
            raise
        finally:
            timer.cancel()

    def getline(self) -> str:
        self._count += 1
        if self._count > _LINES:
            raise ConnectionError(f"an answer of more than {_LINES} lines")
        return super().getline()


class _FtpTls(_Ftp, ftplib.FTP_TLS):
    """The same over TLS."""


class FtpBody(Body):
    """A file on its way over a data connection; both connections are closed with the body."""

    def __init__(
        self,
        ftp: ftplib.FTP,
        data: socket.socket,
        start: int,
        size: int | None,
        url: str,
        sent: set[str],
    ) -> None:
        super().__init__(start, size, None, "FTP")
        self.sent = sent
        self._ftp = ftp
        self._data = data
        self._at = start
        self._url = url

    def readinto(self, buffer: memoryview) -> int:
        try:
            count = self._data.recv_into(buffer)
            self._at += count
            if count:
                return count
            self._end()
            said = self._ftp.voidresp()  # an error if that was not all
            if said[:3] not in ("226", "250"):
                raise ConnectionError(said)
        except _PROBLEMS as error:
            raise self._broken(redact_text(str(error), self.sent)) from None
        if self.size is not None and self._at < self.size:
            raise self._broken("the connection closed early")
        return 0

    def _end(self) -> None:
        unwrap = getattr(self._data, "unwrap", None)
        try:
            if unwrap is not None:
                unwrap()  # some servers wait for the end of TLS before they go on
        except OSError:
            pass  # others do not end it properly; their word about the whole counts
        self._data.close()

    def _broken(self, reason: str) -> IncompleteTransferError:
        return stopped(self._url, self._at, self.size, reason)

    def close(self) -> None:
        self._data.close()
        self._ftp.close()


class FtpStore:
    """One file of an FTP server; without a user in the URL the login is anonymous."""

    def __init__(self, url: str, timeout: float, context: Callable[[], ssl.SSLContext]) -> None:
        self._parts = urlsplit(canonical(url))
        self._sent = secrets_of(url)
        self._timeout = timeout
        self._context = context
        #: Address without secrets.
        self.url = redact(url)

    def address(self, _: str) -> str:
        """Return the redacted address."""
        return self.url

    def open(
        self, name: str, start: int = 0, validator: str | None = None, stop: int | None = None
    ) -> Body:
        """Open the file from its start: FTP has no validators, so nothing is resumed."""
        try:
            ftp = self._connect()
        except _PROBLEMS as error:
            raise self._translated(error) from None
        try:
            *folders, file = [unquote(part) for part in self._parts.path.lstrip("/").split("/")]
            for folder in filter(None, folders):
                ftp.cwd(folder)
            ftp.voidcmd("TYPE I")
            try:
                size = ftp.size(file)
            except ftplib.error_perm:
                size = None  # an old server that cannot tell, or no such file
            return FtpBody(ftp, ftp.transfercmd(f"RETR {file}"), 0, size, self.url, self._sent)
        except _PROBLEMS as error:
            ftp.close()
            raise self._translated(error) from None

    def _connect(self) -> ftplib.FTP:
        """Log in; over TLS if the server refuses to let anyone in otherwise."""
        try:
            return self._login(_Ftp(timeout=self._timeout))
        except ftplib.error_perm:
            context = self._context()
            over_tls = _FtpTls(timeout=self._timeout, context=context)
            found = self._login(over_tls)
            over_tls.prot_p()
            return found

    def _login(self, ftp: ftplib.FTP) -> ftplib.FTP:
        parts = self._parts
        try:
            ftp.connect(parts.hostname or "", parts.port or 0)
            ftp.login(unquote(parts.username or ""), unquote(parts.password or ""))
        except BaseException:
            ftp.close()
            raise
        return ftp

    def _translated(self, error: Exception) -> StoreError:
        text = f"{self.url}: {redact_text(str(error), self._sent)}"
        if isinstance(error, ftplib.error_perm):
            code = str(error)[:3]
            if code == "550":
                return ObjectNotFoundError(text, url=self.url)
            kind = AccessDeniedError if code in ("530", "532") else StoreError
            return kind(text, url=self.url)
        return StoreError(text, url=self.url, transient=not isinstance(error, ValueError))
