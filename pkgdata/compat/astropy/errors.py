"""Errors that are ours and urllib's at once, for those who catch what astropy raises.

They are not in `pkgdata.errors` because urllib's classes take ten milliseconds to load.
"""

from __future__ import annotations

from urllib.error import ContentTooShortError, HTTPError, URLError

from ...errors import (
    AllMirrorsFailedError,
    CacheError,
    IncompleteTransferError,
    MissingExtraError,
    OfflineError,
    escaped,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class UrlFailedError(AllMirrorsFailedError, URLError):
    """A URL could not be fetched from any of its sources; ``reason`` is the first one's failure."""

    reason: Any = ""
    filename: Any = None

    def __init__(self, message: str, *, hint: str | None = None, **facts: Any) -> None:
        # urllib's constructors want other arguments, each class its own
        self.message = escaped(message)
        BaseException.__init__(self, self.message)
        self.hint = hint and escaped(hint)
        self.__dict__.update(facts)


class UrlTimeoutError(UrlFailedError, TimeoutError):
    """The only source did not answer in time."""


class UrlTooShortError(UrlFailedError, ContentTooShortError):
    """The only source sent fewer bytes than it had announced, or broke off."""

    content: Any = None


class UrlStatusError(UrlFailedError, HTTPError):
    """The only source answered with an HTTP status that is an error."""

    code: int = 0
    url: str = ""
    hdrs: Any = None
    headers: Any = None
    msg: str = ""
    fp: Any = None

    def __getattr__(self, name: str) -> Any:
        # urllib's class hands unknown names on to the body of the answer, which is closed
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def read(self, *_: object) -> bytes:
        """Return nothing: the body of the answer is not kept."""
        return b""

    def close(self) -> None:
        """Do nothing: the connection was given back."""


class UrlOfflineError(OfflineError, URLError):
    """Nothing may be fetched because ``allow_internet`` is false or ``offline`` is true."""

    reason: Any = ""
    filename: Any = None


class DownloadSpaceError(CacheError, OSError):
    """A download does not fit onto the disk, or cannot be written to it."""


class MissingModuleError(MissingExtraError, ModuleNotFoundError):
    """A package that reads one format is not installed; the hint names the pip command."""


def is_timeout(error: BaseException) -> bool:
    """Return True if a source's failure was that it took too long."""
    return find_cause(error, TimeoutError) is not None or "timed out" in str(error)


def find_cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Return the first error of a kind among those that led to one."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        if isinstance(one, kind):
            return one
        seen.append(one)
        # libraries of the network keep the cause as an attribute or an argument
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return None


def failed(message: str, attempts: list[tuple[str, Exception]], **facts: Any) -> UrlFailedError:
    """Return the error for sources that all failed, for a single one of its kind.

    Attempts are redacted URLs with failures, the most useful first; facts are ``code``, ``headers``
    and ``url`` of an HTTP answer, ``name`` and ``hint``.
    """
    first = attempts[0][1] if attempts else None
    reason = find_cause(first, OSError) if first is not None else None
    facts = {"attempts": attempts, "reason": reason or first or message, **facts}
    if len(attempts) == 1 and first is not None:
        if facts.get("code"):
            return UrlStatusError(message, **facts)
        if is_timeout(first):
            return UrlTimeoutError(message, **facts)
        if isinstance(first, IncompleteTransferError):
            return UrlTooShortError(message, **facts)
    for name in ("code", "headers", "url", "msg", "hdrs"):
        facts.pop(name, None)
    return UrlFailedError(message, **facts)
