"""What can go wrong with a reply of `FaultServer`.

A fault is a function of the server and a request that returns a `Reply`, mostly the healthy one
with a field changed, so that a new fault is one line::

    server.script("map.fits", cut(1000))                     # the connection breaks
    server.script("map.fits", status(500))                   # 500, then 200
    server.script("map.fits", forever(status(404)))          # 404 from now on
    server.script("map.fits", altered(headers={"X-A": "1"})) # one of your own

Byte counts that are negative count from the end.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping

from .server import Fault, FaultServer, Reply, Request

PAGE = b"<!DOCTYPE html>\n<html><title>Please log in</title></html>\n"
LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)


def altered(**changes: object) -> Fault:
    """Make a fault: the healthy reply with some fields of `Reply` changed.

    A value may be a function of the healthy reply.
    """

    def fault(server: FaultServer, request: Request) -> Reply:
        reply = server.healthy(request)
        for name, value in changes.items():
            setattr(reply, name, value(reply) if callable(value) else value)
        return reply

    return fault


def healthy() -> Fault:
    """Nothing goes wrong with this request."""
    return altered()


def cut_in_headers() -> Fault:
    """Close the connection in the middle of the headers."""
    return altered(cut_head=True)


def cut(at: int) -> Fault:
    """Close the connection after so many bytes of the body; -1 leaves one byte out."""
    return altered(cut_at=at)


def reset(at: int) -> Fault:
    """Reset the connection after so many bytes of the body."""
    return altered(cut_at=at, reset=True)


def stall(at: int) -> Fault:
    """Send nothing after so many bytes of the body, until the server is released."""
    return altered(stall_at=at)


def stall_before_headers() -> Fault:
    """Send nothing at all until the server is released, then close the connection."""

    def fault(server: FaultServer, _request: Request) -> Reply:
        server.stall()
        return Reply(0)

    return fault


def drip(at: int, pause: float = 0.01) -> Fault:
    """Send the body after so many bytes byte by byte, with a pause (seconds) between two."""
    return altered(drip_at=at, drip_pause=pause)


def slow(pause: float) -> Fault:
    """Send the body in pieces of 64 KB, each followed by a pause in seconds: a limited speed."""
    return altered(pause=pause)


def close_after() -> Fault:
    """Answer properly, then close the connection although it should be kept."""
    return altered(close_after=True)


def hang_up() -> Fault:
    """Close the connection without any answer."""
    return lambda _server, _request: Reply(0)


def wrong_length(by: int) -> Fault:
    """Announce a ``Content-Length`` that exceeds the body by so many bytes, negative for fewer."""
    # where fewer bytes come than were announced, only the end of the connection shows it
    return altered(length_error=by, close_after=True)


def wrong_range(shift: int = 1) -> Fault:
    """Answer a range request by 206 with a range that begins so many bytes later."""

    def fault(server: FaultServer, request: Request) -> Reply:
        reply = server.healthy(request)
        if reply.status == 206:
            content = server.contents[request.path]
            begin = len(content) - len(reply.body) + shift
            reply.body = memoryview(content)[begin:]
            reply.headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        return reply

    return fault


def no_content_range() -> Fault:
    """Answer a range request by 206 without a ``Content-Range``."""

    def others(reply: Reply) -> dict[str, str]:
        return {name: text for name, text in reply.headers.items() if name != "Content-Range"}

    return altered(headers=others)


def ignore_range() -> Fault:
    """Answer a range request by 200 and the whole body."""
    return lambda server, request: server.whole(request)


def change(content: bytes) -> Fault:
    """Hold other content, with another ETag, from this request on."""

    def fault(server: FaultServer, request: Request) -> Reply:
        server.contents[request.path] = content
        return server.healthy(request)

    return fault


def status(
    code: int,
    body: bytes = b"",
    *,
    retry_after: object = None,
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """Answer with a status; ``retry_after`` is seconds or an HTTP date."""
    more = dict(headers or {})
    if retry_after is not None:
        more["Retry-After"] = str(retry_after)
    # each request gets its own copy, since sending adds to the headers
    return lambda _server, _request: Reply(code, body, dict(more))


def empty() -> Fault:
    """Answer 200 with no bytes."""
    return status(200)


def page() -> Fault:
    """Answer 200 with a login page."""
    return status(200, PAGE, headers={"Content-Type": "text/html"})


def lfs_pointer() -> Fault:
    """Answer 200 with a Git LFS pointer."""
    return status(200, LFS_POINTER, headers={"Content-Type": "text/plain"})


def other_bytes() -> Fault:
    """Send other bytes of the same length, like a damaged mirror."""
    return altered(body=lambda reply: bytes(byte ^ 0xFF for byte in bytes(reply.body)))


def compressed() -> Fault:
    """Apply gzip although identity was asked for."""

    def fault(server: FaultServer, request: Request) -> Reply:
        reply = server.whole(request)
        reply.body = gzip.compress(bytes(reply.body), mtime=0)
        reply.headers["Content-Encoding"] = "gzip"
        return reply

    return fault


def http10() -> Fault:
    """Answer in HTTP/1.0 without a length; the end of the connection ends the body."""
    return altered(version="HTTP/1.0", framing="close")


def chunked(cut_at: int | None = None) -> Fault:
    """Answer in chunks, without a length; close the connection after ``cut_at`` bytes."""
    return altered(framing="chunked", cut_at=cut_at)


def redirect(to: str, code: int = 302) -> Fault:
    """Redirect to a URL; to the request's own for a loop."""
    return status(code, headers={"Location": to})


def forever(fault: Fault) -> Fault:
    """Apply a fault to every request from this one on."""

    def lasting(server: FaultServer, request: Request) -> Reply:
        return fault(server, request)

    lasting.lasting = True  # type: ignore[attr-defined]  # `FaultServer` looks for this
    return lasting
