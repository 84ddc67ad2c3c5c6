"""What obstore's errors mean: its own texts hold whole requests, keys and answers."""

from __future__ import annotations

import re

from ..errors import (
    AccessDeniedError,
    IncompleteTransferError,
    ObjectNotFoundError,
    PkgdataError,
    StoreError,
    UnsafeNameError,
    UnsupportedOperationError,
)
from .objects import already_there

_STATUS = re.compile(r"status code: (\d{3})|Status\((\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_MESSAGE = re.compile(r"<(?:Message|Details)>([^<]{1,200})")

#: What to do about the codes that services answer.
_HINTS = {
    "SignatureDoesNotMatch": "the secret key is not the one that belongs to the access key",
    "AuthenticationFailed": "the account's key is wrong, or this computer's clock",
    "InvalidAccessKeyId": "the access key is not known there; check the profile and the endpoint",
    "ExpiredToken": "log in again: the session's token has expired",
    "InvalidToken": "log in again: the session's token is not accepted",
    "RequestTimeTooSkewed": "set this computer's clock",
    "XAmzContentSHA256Mismatch": "the bytes changed on the way; try again",
    "BadDigest": "the bytes changed on the way; try again",
    "AccessControlListNotSupported": "this bucket takes no ACL; give it a bucket policy instead",
    "QuotaExceeded": "the bucket is full",
}
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}


class NoSuchRangeError(StoreError):
    """The range begins at the object's end or behind it."""


class PreconditionError(StoreError):
    """The object is not the one that was asked for."""


def translate(error: Exception, url: str, address: str, in_body: bool) -> Exception:
    """Translate an obstore error into one of this package; ``in_body`` once bytes have come."""
    if isinstance(error, PkgdataError):
        return error  # one of ours, which Python's own classes are parents of
    text = str(error)
    if type(error) is ValueError:
        return UnsafeNameError(f"{address}: {text.partition(chr(10))[0]}", name=address)
    kind = type(error).__name__
    said = _CODE.search(text)
    code = said[1] if said else ""
    found = _STATUS.search(text)
    status = int(next(filter(None, found.groups()))) if found else 0
    if code in _NO_BUCKET:
        return StoreError(
            f"{url}: there is no such bucket",
            hint="check its name and the endpoint; buckets are not made by writing to them",
            url=address,
        )
    if kind in ("NotFoundError", "FileNotFoundError"):
        return ObjectNotFoundError(f"{address}: no such object", url=address)
    if kind == "AlreadyExistsError":
        return already_there(address)
    if kind == "PreconditionError":
        return PreconditionError(f"{address}: it changed", url=address)
    if status == 416 or "InvalidRange" in text or "start index" in text.lower():
        return NoSuchRangeError(f"{address}: no such range", url=address)
    if "non-partial response" in text:
        return UnsupportedOperationError(
            f"{address}: the service does not serve ranges", hint="read all of it", url=address
        )
    return _other(kind, text, code, status, address, in_body)


def is_unanswered(error: Exception) -> bool:
    """Return True if no answer came, or not all of it, and obstore did not repeat the request."""
    text = str(error)
    return not _STATUS.search(text) and ("retries: 0," in text or "list response body" in text)


def is_expired(error: Exception) -> bool:
    """Return True if keys were refused because their time is over."""
    said = _CODE.search(str(error))
    return said is not None and said[1] in ("ExpiredToken", "TokenRefreshRequired")


def _other(
    kind: str, text: str, code: str, status: int, address: str, in_body: bool
) -> StoreError | IncompleteTransferError:
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or status in (401, 403):
        said = f"status {status or 403}, {code}" if code else "access denied"
        return AccessDeniedError(
            f"{address}: {said}",
            hint=_HINTS.get(code, "check the credentials, or anonymous=True for a public bucket"),
            url=address,
        )
    reason = _reason(text, code, status)
    if in_body:
        return IncompleteTransferError(f"{address}: broke off: {reason}", url=address)
    return StoreError(f"{address}: {reason}", hint=_HINTS.get(code), url=address)


def _reason(text: str, code: str, status: int) -> str:
    """Return in few words what went wrong, without the request."""
    if status or code:
        message = _MESSAGE.search(text)
        words = [f"status {status}" if status else "", code, message[1] if message else ""]
        return ", ".join(filter(None, words))
    lower = text.lower()
    for sign, words_ in (
        ("dns error", "cannot resolve the host name"),
        ("failed to lookup", "cannot resolve the host name"),
        ("connection refused", "connection refused"),
        ("certificate", "the server's certificate is not trusted; see SSL_CERT_FILE"),
        ("connection reset", "the connection was reset"),
        ("end of file before message", "the connection closed early"),
        ("connection closed", "the connection closed early"),
        ("broken pipe", "the connection closed early"),
        ("incompletemessage", "the connection closed early"),
        ("timed out", "timed out while waiting for bytes"),
        ("timedout", "timed out while waiting for bytes"),
    ):
        if sign in lower:
            return words_
    if "credential" in lower or "token" in lower:
        return "no usable credentials"
    return "the request failed: " + text.partition("\n")[0].partition("http")[0].strip(" :")[:120]
