"""One FTP URL as a read-only store, in the clear or, where the server insists, over TLS.

Old archives still serve by FTP, and code written for astropy asks them; packages name web servers.
"""

from __future__ import annotations

import ftplib
from urllib.parse import unquote, urlsplit

from ..base.urls import redact
from ..errors import AccessDeniedError, IncompleteTransferError, ObjectNotFoundError, StoreError
from .objects import Body, stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

_PROBLEMS: tuple[type[Exception], ...] = (*ftplib.all_errors, ValueError)


class FtpBody(Body):
    """A file on its way over a data connection; both connections are closed with the body."""

    def __init__(
        self, ftp: ftplib.FTP, data: socket.socket, start: int, size: int | None, url: str
    ) -> None:
        super().__init__(start, size, None, "FTP")
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
            self._ftp.voidresp()  # an error if that was not all
        except _PROBLEMS as error:
            raise self._broken(str(error)) from error
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
        self._parts = urlsplit(url)
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
            raise self._translated(error) from error
        try:
            *folders, file = [unquote(part) for part in self._parts.path.lstrip("/").split("/")]
            for folder in filter(None, folders):
                ftp.cwd(folder)
            ftp.voidcmd("TYPE I")
            try:
                size = ftp.size(file)
            except ftplib.error_perm:
                size = None  # an old server that cannot tell, or no such file
            return FtpBody(ftp, ftp.transfercmd(f"RETR {file}"), 0, size, self.url)
        except _PROBLEMS as error:
            ftp.close()
            raise self._translated(error) from error

    def _connect(self) -> ftplib.FTP:
        """Log in; over TLS if the server refuses to let anyone in otherwise."""
        try:
            return self._login(ftplib.FTP(timeout=self._timeout))  # noqa: S321 - what the URL says
        except ftplib.error_perm:
            context = self._context()
            over_tls = ftplib.FTP_TLS(timeout=self._timeout, context=context)  # noqa: S321 - with TLS
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
        text = f"{self.url}: {error}"
        if isinstance(error, ftplib.error_perm):
            code = str(error)[:3]
            if code == "550":
                return ObjectNotFoundError(text, url=self.url)
            kind = AccessDeniedError if code in ("530", "532") else StoreError
            return kind(text, url=self.url)
        return StoreError(text, url=self.url, transient=not isinstance(error, ValueError))
