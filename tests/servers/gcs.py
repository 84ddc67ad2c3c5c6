"""An imitation of Google Cloud Storage's XML interface, as obstore's ``GCSStore`` speaks it.

::

    with Gcs() as gcs:
        bucket = gcs.make_bucket()
        GCSStore(bucket, config={"base_url": gcs.endpoint, "bearer_token": gcs.issue_token()},
                 client_options={"allow_http": True})

It is strict: what it does not know is answered by 501, and is an error when the server is closed,
so that a test sees it. It checks preconditions, digests, tokens and, by their signatures, the keys
of service accounts, and it reports MD5 and CRC32C as the service does. Every name in it has one
generation at a time; there are no versions.

A client without a token that writes asks Google's metadata server for one, at an address outside
this machine: set ``GCE_METADATA_HOST`` to `Gcs.host`, which plays that server too.

Tests reach into `Gcs.buckets` to see what is stored, or to damage it.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import itertools
import json
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from .signing import new_name

_CLASSES = {"STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"}
_KEPT = {"cache-control", "content-disposition", "content-encoding", "content-language"}
_TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"

#: The parameters and ``x-goog-`` headers that each kind of request may have.
_KNOWN = {
    "list": {"list-type", "prefix", "delimiter", "start-after", "continuation-token", "max-keys"},
    "read": {"generation", "x-goog-if-generation-match"},
    "write": {
        "x-goog-if-generation-match", "x-goog-storage-class", "x-goog-acl", "x-goog-hash",
    },
    "copy": {"x-goog-if-generation-match", "x-goog-copy-source"},
    "delete": {"generation", "x-goog-if-generation-match"},
    "initiate": {"uploads", "x-goog-storage-class", "x-goog-acl"},
    "part": {"partNumber", "uploadId", "x-goog-hash"},
    "complete": {"uploadId"},
    "abort": {"uploadId"},
}  # fmt: skip


class GcsError(Exception):
    """An answer that is not the wanted one."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})


@dataclass
class Asked:
    """A request that came in."""

    method: str
    target: str
    #: By lower-case name.
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0

    @property
    def path(self) -> str:
        """The path, quoted as it came."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The parameters, unquoted."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass
class Reply:
    """What is sent."""

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Blob:
    """An object. Changing `content` alone makes the service's digests wrong, as a damage would."""

    content: bytes
    #: Content type, cache control, metadata and such, by header.
    headers: dict[str, str]
    generation: int
    storage_class: str = "STANDARD"
    public: bool = False
    #: The number of parts it was put together from; 0 if it was put whole.
    parts: int = 0
    md5: bytes = b""
    crc32c: bytes = b""
    etag: str = ""
    modified: float = 0.0

    def __post_init__(self) -> None:
        self.md5 = hashlib.md5(self.content).digest()
        self.crc32c = crc32c(self.content).to_bytes(4, "big")
        self.etag = f'"{self.md5.hex()}{f"-{self.parts}" if self.parts else ""}"'
        self.modified = time.time()

    def described(self) -> list[tuple[str, str]]:
        """Return the headers that tell of it."""
        hashes = {"crc32c": self.crc32c, **({} if self.parts else {"md5": self.md5})}
        return [
            *self.headers.items(),
            ("ETag", self.etag),
            ("Last-Modified", formatdate(self.modified, usegmt=True)),
            ("x-goog-generation", str(self.generation)),
            ("x-goog-metageneration", "1"),
            ("x-goog-storage-class", self.storage_class),
            ("x-goog-stored-content-length", str(len(self.content))),
            ("x-goog-stored-content-encoding", self.headers.get("content-encoding", "identity")),
            *(("x-goog-hash", f"{name}={_base64(digest)}") for name, digest in hashes.items()),
            ("Accept-Ranges", "bytes"),
        ]


@dataclass
class Upload:
    """A multipart upload under way."""

    key: str
    asked: Asked
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Bucket:
    """A bucket; anybody may read and list a public one, and nobody may write to a read-only one."""

    public: bool = False
    readonly: bool = False
    blobs: dict[str, Blob] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)


@dataclass
class _Trouble:
    error: GcsError
    method: str | None
    left: int


class Gcs:
    """The server; a context manager.

    Parameters
    ----------
    check_tokens : bool
        Whether those who write have to show a token; clients whose account says ``disable_oauth``
        have none.
    """

    def __init__(self, *, check_tokens: bool = True) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.requests: list[Asked] = []
        #: Entries of one page of a list, at most.
        self.page = 1000
        #: Bytes of each part but the last, at least.
        self.smallest_part = 5 << 20
        #: Requests that could not be understood.
        self.unknown: list[str] = []
        self._check_tokens = check_tokens
        self._tokens: dict[str, float] = {}
        self._accounts: dict[str, Any] = {}
        self._troubles: list[_Trouble] = []
        self._generations = itertools.count(1_700_000_000_000_000)
        self._lock = threading.RLock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.endpoint = f"http://{self.host}"

    def __enter__(self) -> Gcs:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.close()
        self.buckets.clear()  # the server lies in circles, and would keep them for a while
        if self.unknown and kind is None:
            raise AssertionError("\n".join(["Google Cloud Storage was asked:", *self.unknown]))

    # -- set-up ----------------------------------------------------------------------------

    def make_bucket(
        self, name: str | None = None, *, public: bool = False, readonly: bool = False
    ) -> str:
        """Make a bucket and return its name."""
        name = name or new_name()
        self.buckets[name] = Bucket(public, readonly)
        return name

    def issue_token(self, seconds: float = 3600) -> str:
        """Return a token that is good for so long; for none if it is to have expired."""
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._tokens[token] = time.time() + seconds
        return token

    def expire_tokens(self) -> None:
        """Make all tokens issued so far invalid."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    def service_account(self, email: str = "tests@project.example") -> dict[str, str]:
        """Return the JSON file of a new service account; it signs its tokens with its own key."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._accounts[email] = key.public_key()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "type": "service_account",
            "client_email": email,
            "private_key": pem.decode(),
            "private_key_id": "1",
            "gcs_base_url": self.endpoint,
        }

    def fail(
        self,
        status: int,
        code: str,
        *,
        times: int = 1,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Refuse the next requests, or the next of one method, with an error."""
        error = GcsError(status, code, "The test wants it so.", headers)
        with self._lock:
            self._troubles.append(_Trouble(error, method, times))

    # -- requests --------------------------------------------------------------------------

    def handle(self, asked: Asked) -> Reply:
        """Answer a request, and record it."""
        with self._lock:
            self.requests.append(asked)
            try:
                self._meet_trouble(asked)
                reply = self._route(asked)
            except GcsError as error:
                reply = _refusal(error)
                if error.status == 501:
                    self.unknown.append(f"{asked.method} {asked.target}: {error.message}")
            asked.status = reply.status
            return reply

    def _meet_trouble(self, asked: Asked) -> None:
        for trouble in self._troubles:
            if trouble.left and trouble.method in (None, asked.method):
                trouble.left -= 1
                raise trouble.error

    def _route(self, asked: Asked) -> Reply:
        if asked.path == _TOKEN_PATH:
            return self._token(asked)
        name, _, key = asked.path.lstrip("/").partition("/")
        bucket, key = self.buckets.get(unquote(name)), unquote(key)
        self._authenticate(asked)
        if bucket is None:
            raise GcsError(404, "NoSuchBucket", "The specified bucket does not exist.")
        kind, work = self._kind(asked, key)
        named = {header for header in asked.headers if header.startswith("x-goog-")} | set(
            asked.query
        )
        known = _KNOWN[kind]
        strange = {n for n in named - known if not n.startswith("x-goog-meta-")}
        if strange:
            raise _not_known(f"{kind} with {', '.join(sorted(strange))}")
        self._authorize(asked, bucket, key, writes=kind not in ("list", "read"))
        return work(asked, bucket, key)

    def _kind(self, asked: Asked, key: str) -> tuple[str, Callable[[Asked, Bucket, str], Reply]]:
        """Return what kind of request it is, and what answers it."""
        method, query = asked.method, asked.query
        kinds = {
            ("GET", False): [("list-type", "list", self._list)],
            ("GET", True): [("", "read", self._read)],
            ("HEAD", True): [("", "read", self._read)],
            ("PUT", True): [
                ("uploadId", "part", self._put_part),
                ("x-goog-copy-source", "copy", self._copy),
                ("", "write", self._write),
            ],
            ("POST", True): [
                ("uploads", "initiate", self._initiate),
                ("uploadId", "complete", self._complete),
            ],
            ("DELETE", True): [("uploadId", "abort", self._abort), ("", "delete", self._delete)],
        }
        for mark, kind, work in kinds.get((method, bool(key)), []):
            if not mark or mark in query or mark in asked.headers:
                return kind, work
        raise _not_known(method)

    # -- who may ---------------------------------------------------------------------------

    def _token(self, asked: Asked) -> Reply:
        if asked.method != "GET" or asked.headers.get("metadata-flavor") != "Google":
            raise GcsError(403, "Forbidden", "The header Metadata-Flavor is missing.")
        token = {"access_token": self.issue_token(), "expires_in": 3600, "token_type": "Bearer"}
        return Reply(200, json.dumps(token).encode(), [("Content-Type", "application/json")])

    def _authenticate(self, asked: Asked) -> None:
        """Refuse a token that is not good, even where none is needed."""
        shown = asked.headers.get("authorization")
        if shown is None or not self._check_tokens:
            return
        scheme, _, token = shown.partition(" ")
        good = self._tokens.get(token, 0) > time.time() or self._is_signed(token)
        if scheme != "Bearer" or not good:
            raise GcsError(401, "AuthenticationRequired", "Authentication required.")

    def _is_signed(self, token: str) -> bool:
        """Say whether it is a token that a service account made, by its signature and dates."""
        if token.count(".") != 2:
            return False
        signed, _, signature = token.rpartition(".")
        try:
            claims = json.loads(_unbase64(signed.split(".")[1]))
        except ValueError:
            return False
        key = self._accounts.get(claims.get("iss"))
        if key is None or not claims["iat"] - 60 <= time.time() < claims["exp"]:
            return False
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        try:
            key.verify(_unbase64(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    def _authorize(self, asked: Asked, bucket: Bucket, key: str, *, writes: bool) -> None:
        blob = bucket.blobs.get(key)
        public = bucket.public or (blob is not None and blob.public)
        if self._check_tokens and "authorization" not in asked.headers and (writes or not public):
            raise GcsError(403, "AccessDenied", "Anonymous caller does not have storage access.")
        if writes and bucket.readonly:
            raise GcsError(403, "AccessDenied", "The caller does not have storage.objects.create.")

    # -- objects ---------------------------------------------------------------------------

    def _find(self, asked: Asked, bucket: Bucket, key: str) -> Blob:
        blob = bucket.blobs.get(key)
        wanted = asked.query.get("generation")
        if blob is None or wanted not in (None, str(blob.generation)):
            raise GcsError(404, "NoSuchKey", "The specified key does not exist.")
        return blob

    def _check_generation(self, asked: Asked, blob: Blob | None) -> None:
        wanted = asked.headers.get("x-goog-if-generation-match")
        if wanted not in (None, str(blob.generation if blob else 0)):
            raise _precondition()

    def _read(self, asked: Asked, bucket: Bucket, key: str) -> Reply:
        blob = self._find(asked, bucket, key)
        self._check_generation(asked, blob)
        for condition in ("if-modified-since", "if-unmodified-since", "if-range"):
            if condition in asked.headers:
                raise _not_known(condition)
        if not _matches(asked.headers.get("if-match", "*"), blob.etag):
            raise _precondition()
        if _matches(asked.headers.get("if-none-match", ""), blob.etag):
            return Reply(304, b"", [("ETag", blob.etag)])
        packed = blob.headers.get("content-encoding") == "gzip"
        if packed and "gzip" not in asked.headers.get("accept-encoding", ""):
            return _unpacked(blob)
        return _ranged(asked.headers.get("range"), blob)

    def _write(self, asked: Asked, bucket: Bucket, key: str) -> Reply:
        self._check_generation(asked, bucket.blobs.get(key))
        _check_digests(asked)
        return _stored(self._store(asked, bucket, key, asked.body))

    def _store(
        self, asked: Asked, bucket: Bucket, key: str, content: bytes, parts: int = 0
    ) -> Blob:
        headers = {
            name: value
            for name, value in asked.headers.items()
            if name in _KEPT or name.startswith("x-goog-meta-")
        }
        headers["content-type"] = asked.headers.get("content-type", "application/octet-stream")
        storage_class = asked.headers.get("x-goog-storage-class", "STANDARD")
        acl = asked.headers.get("x-goog-acl", "private")
        if storage_class not in _CLASSES or acl not in ("private", "public-read"):
            raise GcsError(400, "InvalidArgument", f"Invalid argument: {storage_class}, {acl}")
        blob = Blob(
            content, headers, next(self._generations), storage_class, acl == "public-read", parts
        )
        bucket.blobs[key] = blob
        return blob

    def _copy(self, asked: Asked, bucket: Bucket, key: str) -> Reply:
        self._check_generation(asked, bucket.blobs.get(key))
        source = unquote(asked.headers["x-goog-copy-source"]).lstrip("/")
        name, _, source_key = source.partition("/")
        if name not in self.buckets or source_key not in self.buckets[name].blobs:
            raise GcsError(404, "NoSuchKey", "The specified key does not exist.")
        old = self.buckets[name].blobs[source_key]
        blob = Blob(
            old.content, dict(old.headers), next(self._generations), old.storage_class,
            parts=old.parts,
        )  # fmt: skip
        bucket.blobs[key] = blob
        lines = _tag("ETag", blob.etag) + _tag("LastModified", _iso(blob.modified))
        return _xml("CopyObjectResult", lines, [("x-goog-generation", str(blob.generation))])

    def _delete(self, asked: Asked, bucket: Bucket, key: str) -> Reply:
        blob = self._find(asked, bucket, key)
        self._check_generation(asked, blob)
        del bucket.blobs[key]
        return Reply(204)

    def _list(self, asked: Asked, bucket: Bucket, _key: str) -> Reply:
        query = asked.query
        if query["list-type"] != "2":
            raise _not_known("list-type other than 2")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "")
        if "continuation-token" in query:
            after = _unbase64(query["continuation-token"]).decode()
        limit = min(int(query.get("max-keys", self.page)), self.page)
        found: dict[str, Blob | None] = {}
        last = after
        truncated = False
        for key in sorted(bucket.blobs, key=str.encode):
            if not key.startswith(prefix) or key.encode() <= after.encode():
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            shown = key if cut < 0 else key[: cut + len(delimiter)]
            if shown in found or (shown == after and cut >= 0):
                continue  # one more below a folder that is told already
            if len(found) == limit:
                truncated = True
                break
            found[shown] = None if cut >= 0 else bucket.blobs[key]
            last = shown
        return _page(found, _base64(last.encode()) if truncated else "")

    # -- multipart uploads -----------------------------------------------------------------

    def _upload(self, asked: Asked, bucket: Bucket, key: str) -> Upload:
        upload = bucket.uploads.get(asked.query["uploadId"])
        if upload is None or upload.key != key:
            raise GcsError(404, "NoSuchUpload", "The requested upload was not found.")
        return upload

    def _initiate(self, asked: Asked, bucket: Bucket, key: str) -> Reply:
        identity = secrets.token_hex(8)
        bucket.uploads[identity] = Upload(key, asked)
        return _xml("InitiateMultipartUploadResult", _tag("UploadId", identity))

    def _put_part(self, asked: Asked, bucket: Bucket, key: str) -> Reply:
        upload = self._upload(asked, bucket, key)
        _check_digests(asked)
        number = int(asked.query["partNumber"])
        if not 1 <= number <= 10_000:
            raise GcsError(400, "InvalidArgument", "A part's number is 1 to 10000.")
        upload.parts[number] = asked.body
        return Reply(200, b"", [("ETag", _part_tag(asked.body))])

    def _complete(self, asked: Asked, bucket: Bucket, key: str) -> Reply:
        upload = self._upload(asked, bucket, key)
        named = [
            (int(part.findtext("PartNumber", "0")), part.findtext("ETag", ""))
            for part in ElementTree.fromstring(asked.body).iter("Part")
        ]
        numbers = [number for number, _ in named]
        if not named or numbers != sorted(set(numbers)):
            raise GcsError(400, "InvalidPartOrder", "The parts are not in ascending order.")
        for number, tag in named:
            part = upload.parts.get(number)
            if part is None or tag.strip('"') != _part_tag(part).strip('"'):
                raise GcsError(400, "InvalidPart", "A part was not found, or has another ETag.")
            if len(part) < self.smallest_part and number != numbers[-1]:
                raise GcsError(400, "EntityTooSmall", "A part other than the last is too small.")
        content = b"".join(upload.parts[number] for number in numbers)
        blob = self._store(upload.asked, bucket, key, content, parts=len(numbers))
        del bucket.uploads[asked.query["uploadId"]]
        generation = [("x-goog-generation", str(blob.generation))]
        return _xml("CompleteMultipartUploadResult", _tag("ETag", blob.etag), generation)

    def _abort(self, asked: Asked, bucket: Bucket, key: str) -> Reply:
        self._upload(asked, bucket, key)
        del bucket.uploads[asked.query["uploadId"]]
        return Reply(204)


# -- replies -----------------------------------------------------------------------------------


def _refusal(error: GcsError) -> Reply:
    lines = _tag("Code", error.code) + _tag("Message", error.message)
    return _xml("Error", lines, list(error.headers.items()), error.status)


def _not_known(what: str) -> GcsError:
    return GcsError(501, "NotImplemented", f"not known here: {what}")


def _precondition() -> GcsError:
    message = "At least one of the pre-conditions you specified did not hold."
    return GcsError(412, "PreconditionFailed", message)


def _tag(name: str, value: object) -> str:
    return f"<{name}>{escape(str(value))}</{name}>"


def _xml(
    name: str, lines: str, headers: list[tuple[str, str]] | None = None, status: int = 200
) -> Reply:
    body = f"<?xml version='1.0' encoding='UTF-8'?><{name}>{lines}</{name}>".encode()
    kind = ("Content-Type", "application/xml; charset=UTF-8")
    return Reply(status, body, [kind, *(headers or [])])


def _page(found: Mapping[str, Blob | None], more: str) -> Reply:
    """Answer a list: None stands for a common prefix."""
    lines = [_tag("KeyCount", len(found)), _tag("IsTruncated", str(bool(more)).lower())]
    if more:
        lines.append(_tag("NextContinuationToken", more))
    for key, blob in found.items():
        if blob is None:
            lines.append(f"<CommonPrefixes>{_tag('Prefix', key)}</CommonPrefixes>")
        else:
            facts = {
                "Key": key,
                "Generation": blob.generation,
                "LastModified": _iso(blob.modified),
                "ETag": blob.etag,
                "Size": len(blob.content),
            }
            told = "".join(_tag(name, value) for name, value in facts.items())
            lines.append(f"<Contents>{told}</Contents>")
    return _xml("ListBucketResult", "".join(lines))


def _stored(blob: Blob) -> Reply:
    wanted = ("ETag", "x-goog-generation", "x-goog-metageneration", "x-goog-hash")
    return Reply(200, b"", [pair for pair in blob.described() if pair[0] in wanted])


def _unpacked(blob: Blob) -> Reply:
    """Answer with what gzip packed, since the client has not said that it knows gzip."""
    dropped = ("content-encoding", "Accept-Ranges")
    headers = [pair for pair in blob.described() if pair[0] not in dropped]
    headers.append(("Warning", "214 UploadServer gunzipped"))
    # the service ignores a range then, and its digests are those of the stored bytes
    return Reply(200, gzip.decompress(blob.content), headers)


def _ranged(asked: str | None, blob: Blob) -> Reply:
    total = len(blob.content)
    if asked is None:
        return Reply(200, blob.content, blob.described())
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if found is None or found[0] == "bytes=-":
        raise _not_known(f"the range {asked}")
    if found[1]:
        begin, end = int(found[1]), min(int(found[2] or total) + 1, total)
    else:
        begin, end = max(0, total - int(found[2])), total
    if begin >= end:
        message = "The requested range cannot be satisfied."
        raise GcsError(416, "InvalidRange", message, {"Content-Range": f"bytes */{total}"})
    told = ("Content-Range", f"bytes {begin}-{end - 1}/{total}")
    return Reply(206, blob.content[begin:end], [*blob.described(), told])


def _matches(condition: str, etag: str) -> bool:
    return condition == "*" or etag in (part.strip() for part in condition.split(","))


def _check_digests(asked: Asked) -> None:
    """Refuse a body that is not what its digests say."""
    told = dict(
        pair.strip().split("=", 1)
        for pair in asked.headers.get("x-goog-hash", "").split(",")
        if pair
    )
    if "content-md5" in asked.headers:
        told["content-md5"] = asked.headers["content-md5"]
    md5 = _base64(hashlib.md5(asked.body).digest())
    actual = {"md5": md5, "content-md5": md5}
    if "crc32c" in told:
        actual["crc32c"] = _base64(crc32c(asked.body).to_bytes(4, "big"))
    for name, value in told.items():
        if name not in actual:
            raise _not_known(f"the digest {name}")
        if actual[name] != value:
            raise GcsError(400, "BadDigest", f"The {name} you specified is not what we received.")


def _part_tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _unbase64(text: str) -> bytes:
    """Decode either alphabet, padded or not."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_")
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _crc_table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [value >> 1 ^ (0x82F63B78 if value & 1 else 0) for value in table]
    return table


_TABLE = _crc_table()


def crc32c(content: bytes) -> int:
    """Return the CRC32C of some bytes, in plain Python; it takes its time for millions."""
    value = 0xFFFFFFFF
    for byte in content:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


# -- connections -------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers)
        if "transfer-encoding" in headers:
            self._pass_over_chunks()
            reply = _refusal(GcsError(411, "MissingContentLength", "Tell the length."))
        else:
            asked.body = self.rfile.read(int(headers.get("content-length", 0)))
            reply = self.server.gcs.handle(asked)
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def _pass_over_chunks(self) -> None:
        """Read a body that is refused: what is left unread turns the reply into a reset."""
        while size := int(self.rfile.readline().partition(b";")[0] or b"0", 16):
            self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # fields behind the body

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what the library's server could not read, or a method of no other kind."""
        self.server.gcs.unknown.append(f"{self.requestline}: {code} {message}")
        super().send_error(code, message, explain)

    def log_message(self, *_: object) -> None:
        """Say nothing; the requests are recorded."""


class _Server(ThreadingHTTPServer):
    # closing waits for the threads, whose connections it has ended
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, gcs: Gcs) -> None:
        self.gcs = gcs
        self._open: set[Any] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # else the client left, as clients may
            self.gcs.unknown.append(repr(error))

    def close(self) -> None:
        """End all connections, and wait until nothing of it runs."""
        for request in list(self._open):
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already
        self.server_close()
