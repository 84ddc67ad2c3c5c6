"""Amazon S3 and what speaks its protocol: credentials, regions, and requests of our own.

obstore has no call for copies from other buckets, copies of large objects, tags and unfinished
uploads. These requests are signed here (AWS Signature Version 4, in the headers), with the store's
keys; without keys that can be read they are not made, and bytes pass through here.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from ..base import pool
from ..base.hashes import Digest
from ..errors import ObjectNotFoundError, StoreError, UnsupportedOperationError
from . import naming, providers
from .base import Primitives
from .cloud import CloudStore
from .cloudclient import Credentials, accepted
from .http import own_login, request
from .objects import Attributes, Blocks

#: Keys that one S3 request deletes.
_DELETED_AT_ONCE = 1000

#: Regions of buckets, by endpoint and bucket, that a service has named.
_regions: dict[tuple[str, str], str] = {}

#: Amazon's domain, and where it says of any bucket which region has it.
_AMAZON, _GLOBAL = ".amazonaws.com", "https://s3.amazonaws.com"

#: Answers about a bucket of another region, as obstore words them, and the region they name. What
#: answers HEAD has no body, and obstore keeps no headers.
_ELSEWHERE = re.compile(
    "BareRedirect|AuthorizationHeaderMalformed|PermanentRedirect|IllegalLocationConstraint"
    "|Error performing HEAD [^-]*- Server returned non-2xx status code: 400"
)
_NAMED = re.compile("<Region>([a-z0-9-]+)</Region>|expecting '([a-z0-9-]+)'")

#: What the service copies by one request, and the bytes of a part of what is larger.
_COPIED, _COPY_PART = 5 << 30, 512 << 20

#: Seconds that the service may copy without a word.
_COPYING = 900.0

#: Parts of one object that the service copies at once.
_COPIES = 8

#: Headers of an object that a copy by parts has to repeat; an ordinary one keeps them.
_KEPT = {
    "cache-control", "content-disposition", "content-encoding", "content-language",
    "content-type", "expires", "x-amz-storage-class", "x-amz-website-redirect-location",
}  # fmt: skip


class S3(CloudStore):
    """A bucket of Amazon S3, or of anything that speaks its protocol.

    Secrets are ``access_key_id``, ``secret_access_key`` and, if need be, ``session_token``, each
    with or without ``aws_`` before it.
    """

    kind, maker = "S3", "S3Store"
    # else a carriage return in a key would come as the end of a line
    listing = (*CloudStore.listing, ("encoding-type", "url"))

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._known_keys: tuple[Any, dict[str, Any] | None] = (None, None)
        self._answered = False

    def _endpoint(self) -> str | None:
        found = self._given_endpoint()
        # Amazon's endpoints are of one region each: a bucket that is in another has its own
        moved = found and _AMAZON in found and (found, self._place.bucket) in _regions
        return None if moved else found

    def _given_endpoint(self) -> str | None:
        return (
            self._place.endpoint
            or self._secrets().get("endpoint_url")
            or os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
            or providers.aws_profile().get("endpoint_url")
        )

    def _public_headers(self) -> dict[str, str]:
        return {"x-amz-acl": "public-read"}

    def _credentials(self, secrets: dict[str, Any]) -> Credentials:
        given = self._options.get("secrets")
        if self._options.get("anonymous"):
            return {}, None, False
        if given is not None:
            keys = _keys(given, secrets)
            return {}, self.asked(keys) if callable(given) else keys, True
        found = providers.aws_credentials()
        return (*(found or ({}, None)), found is not None)

    def _complete(self, config: dict[str, Any], client: dict[str, Any]) -> None:
        config["region"] = self._region(config.get("region") or self._secrets().get("region"))
        if self._options.get("request_payer"):
            config["request_payer"] = True

    def _region(self, known: str | None = None) -> str:
        place = self._given_endpoint() or "", self._place.bucket
        if place in _regions:
            return _regions[place]
        region = (
            self._options.get("region")
            or os.environ.get("AWS_REGION")
            or os.environ.get("AWS_DEFAULT_REGION")
            or known
            or providers.aws_profile().get("region")
        )
        if region:
            return str(region)
        if self._endpoint() is not None:
            return "us-east-1"  # what services of others take
        _regions[place] = _ask_region(_GLOBAL, self._place.bucket, self.timeout) or "us-east-1"
        return _regions[place]

    def _learn(self, text: str) -> None:
        if not _ELSEWHERE.search(text):
            return
        named, place = _NAMED.search(text), (self._given_endpoint() or "", self._place.bucket)
        region = (named[1] or named[2]) if named else None
        region = region or _ask_region(place[0] or _GLOBAL, place[1], self.timeout)
        with self._lock:
            if region and region != self._region():
                _regions[place] = region
                self._clients = {}

    def _before_parts(self, name: str) -> None:
        if not self._answered:
            with contextlib.suppress(StoreError):
                self.info(name)  # it may be in another region
            self._answered = True

    def is_digest(self, name: str, digest: Digest) -> bool:
        if not self.signs:
            return True
        found = self.headers_of(name)
        kind = found.get("x-amz-server-side-encryption", "")
        return not kind.startswith("aws:kms") and not any(
            key.lower().startswith("x-amz-server-side-encryption-customer") for key in found
        )

    def _check_written(self, name: str, content: bytes | memoryview, etag: str | None) -> None:
        # a signed request carries the SHA-256 of its body, and the service compares
        if not self.signs:
            super()._check_written(name, content, etag)

    # -- requests of our own -------------------------------------------------------------------

    def _keys(self) -> dict[str, Any] | None:
        """Return the keys that sign; ``{}`` if nothing is signed, None if they cannot be read."""
        client = self.client()
        if not self.signs:
            return {}
        of, known = self._known_keys
        expires = known and known.get("expires_at")
        if of is not client or (expires and expires.timestamp() < time.time() + 60):
            known = self._read_keys()
            self._known_keys = client, known
        return known

    def _read_keys(self) -> dict[str, Any] | None:
        config, source, _ = self._credentials(self._secrets())
        if source is not None:
            return dict(source())
        if config.get("access_key_id"):
            return config
        if os.environ.get("AWS_ACCESS_KEY_ID"):
            words = ("access_key_id", "secret_access_key", "session_token")
            return {word: os.environ.get(f"AWS_{word.upper()}") for word in words}
        try:
            return dict(providers.boto_provider()())  # a machine's or container's role
        except Exception:  # whatever it is: obstore reads such keys by itself, and reports
            return None

    def ask(
        self,
        method: str,
        name: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Any:
        """Send a request of our own about an object, or about the bucket if the name is empty."""
        keys = self._keys()
        if keys is None:
            raise self.failure(UnsupportedOperationError, name, "the keys cannot be read here")
        path = f"/{self._place.bucket}" + (f"/{quote(self._key(name))}" if name else "")
        with self.translating(name, harmless=True):
            return self.asking(
                lambda _: self._send(keys, method, path, query or {}, headers or {}, body)
            )

    def _send(
        self,
        keys: Mapping[str, Any],
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Any:
        region = self._region()
        base = self._endpoint() or f"https://s3.{region}{_AMAZON}"
        headers = {key.lower(): value for key, value in headers.items()}
        if self._options.get("request_payer"):
            headers["x-amz-request-payer"] = "requester"
        if keys:
            asked = _Asked(method, urlsplit(base).path + path, query, headers, body)
            headers = asked.signed(urlsplit(base).netloc, region, keys)
        found = request(
            method,
            f"{base}{path}?{_query(query)}" if query else base + path,
            headers,
            (self.timeout, max(self.timeout, _COPYING)),
            login=own_login,  # else ~/.netrc might replace the signature
            follow=False,
            data=body,
            stream=False,
        )
        return accepted(method, found)

    def own(self, method: str, key: str, query: Mapping[str, str]) -> Any | None:
        if self._keys() is None:
            return None
        return self.trying(lambda: self.ask(method, "", query))

    def all_attributes(self, name: str, attributes: Attributes) -> Attributes:
        if self._keys() is None:
            found = self.headers_of(name)
        else:
            found = self.trying(lambda: self.ask("HEAD", name)).headers
        kept = attributes.replaced(storage_class=found.get("x-amz-storage-class"))
        if int(found.get("x-amz-tagging-count") or 0):
            kept.tags = self.trying(lambda: self._tags(name))
        return kept

    def _tags(self, name: str) -> dict[str, str]:
        rows = _rows(self.ask("GET", name, {"tagging": ""}), "Tag")
        return {row["Key"]: row["Value"] for row in rows}

    def _tag(self, name: str, tags: Mapping[str, str]) -> None:
        rows = "".join(
            f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>"
            for key, value in tags.items()
        )
        body = f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()
        self._tell("PUT", name, "tagging", body)

    def _tell(self, method: str, name: str, what: str, body: bytes) -> Any:
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        return self.trying(lambda: self.ask(method, name, {what: ""}, {"content-md5": md5}, body))

    def _write_blocks(
        self, name: str, blocks: Blocks, kept: Attributes, if_absent: bool, size: int | None
    ) -> None:
        super()._write_blocks(name, blocks, kept, if_absent, size)
        if kept.tags and self._keys():
            self._tag(name, kept.tags)  # some services ignore those of an upload in parts

    # -- copies by the service -----------------------------------------------------------------

    def clone(self, name: str, source: Primitives, source_name: str) -> bool:
        if not isinstance(source, S3) or self._rights() != source._rights():
            return False
        if _service(self._endpoint()) != _service(source._endpoint()):
            return False
        if self._keys() is None:
            size = source.info(source_name).size or 0
            return size <= _COPIED and super().clone(name, source, source_name)
        try:
            head = source.ask("HEAD", source_name).headers
        except StoreError:
            source.read(source_name, 0, 1)  # the answer to HEAD has no reason in it; this one's has
            raise
        origin = {
            "x-amz-copy-source": quote(f"/{source._place.bucket}/{source._key(source_name)}"),
            "x-amz-copy-source-if-match": head["ETag"],
        }
        try:
            if int(head["Content-Length"]) > _COPIED:
                self._clone_parts(name, source, source_name, head, origin)
            else:
                kept = {k: v for k, v in head.items() if k.lower() == "x-amz-storage-class"}
                self.ask("PUT", name, headers=origin | kept)
        except StoreError as error:
            # another bucket may refuse, or be on another service's side: then it goes through here
            if error.transient or self._whose() == source._whose():
                raise
            return False
        return True

    def _clone_parts(
        self,
        name: str,
        source: S3,
        source_name: str,
        head: Mapping[str, str],
        origin: Mapping[str, str],
    ) -> None:
        size = int(head["Content-Length"])
        part = max(_COPY_PART, -(-size // 9_000))
        kept = {
            key: value
            for key, value in head.items()
            if key.lower() in _KEPT or key.lower().startswith("x-amz-meta-")
        }
        begun = _rows(self.ask("POST", name, {"uploads": ""}, kept), ".")[0]["UploadId"]

        def copy(start: int) -> tuple[int, str]:
            number = 1 + start // part
            wanted = {"x-amz-copy-source-range": f"bytes={start}-{min(start + part, size) - 1}"}
            asked = {"partNumber": str(number), "uploadId": begun}
            found = self.trying(lambda: self.ask("PUT", name, asked, {**origin, **wanted}))
            return number, _rows(found, ".")[0]["ETag"]

        try:
            parts = pool.each(copy, range(0, size, part), _COPIES, ordered=True)
            rows = "".join(
                f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
                for _, (number, etag) in parts
            )
            body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
            self.ask("POST", name, {"uploadId": begun}, body=body)
            if int(head.get("x-amz-tagging-count") or 0):
                self._tag(name, source._tags(source_name))
        except BaseException:
            self.abort(name, begun)
            raise

    # -- unfinished uploads --------------------------------------------------------------------

    def uploads(self, prefix: str = "") -> Iterator[tuple[str, str, float]]:
        more = {"uploads": "", "prefix": self._root + prefix}
        while True:
            page = self.trying(lambda: self.ask("GET", "", more))
            for row in _rows(page, "Upload"):
                began = datetime.datetime.fromisoformat(row["Initiated"].replace("Z", "+00:00"))
                yield row["Key"][len(self._root) :], row["UploadId"], began.timestamp()
            facts = _rows(page, ".")[0]
            if facts.get("IsTruncated") != "true":
                return
            more["key-marker"] = facts["NextKeyMarker"]
            more["upload-id-marker"] = facts["NextUploadIdMarker"]

    def abort(self, name: str, upload: str) -> None:
        with contextlib.suppress(ObjectNotFoundError):  # it has ended meanwhile
            self.trying(lambda: self.ask("DELETE", name, {"uploadId": upload}))

    # ------------------------------------------------------------------------------------------

    def remove_many(self, names: Iterable[str]) -> None:
        for part in pool.chunks(names, _DELETED_AT_ONCE):
            odd = [name for name in part if self._odd_key(name) is not None]
            if odd:
                self._remove_odd(odd)
            if keys := [self._key(name) for name in {*part} - {*odd}]:
                self.trying(lambda keys=keys: self._delete(keys, ""))  # type: ignore[misc]

    def _remove_odd(self, keys: list[str]) -> None:
        if self._keys() is None:
            super()._remove_odd(keys)
        spaces = {char: f"&#{ord(char)};" for char in "\t\n\r"}
        rows = [f"<Object><Key>{escape(key, spaces)}</Key></Object>" for key in keys]
        body = f"<Delete>{''.join(rows)}<Quiet>true</Quiet></Delete>".encode()
        failed = _rows(self._tell("POST", "", "delete", body), "Error")
        for row in failed:
            text = f"cannot delete it: {row.get('Code')}, {row.get('Message')}"
            raise self.failure(StoreError, row.get("Key", ""), text)


def _query(query: Mapping[str, str]) -> str:
    return "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in sorted(query.items()))


def _service(endpoint: str | None) -> str:
    """Return whose service an endpoint is of: all of Amazon's regions copy from each other."""
    return _AMAZON if endpoint is None or _AMAZON in endpoint else endpoint


def _rows(answer: Any, tag: str) -> list[dict[str, str]]:
    """Return the fields of each element of an answer; of the whole for ``.``."""
    root = ElementTree.fromstring(answer.content)  # noqa: S314 - of the service that is trusted
    found = [root] if tag == "." else [one for one in root.iter() if one.tag.endswith("}" + tag)]
    return [{field.tag.rpartition("}")[2]: field.text or "" for field in one} for one in found]


class _Asked(NamedTuple):
    """A request that is signed: Amazon's Signature Version 4, of its reference."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: dict[str, str]
    body: bytes

    def signed(self, host: str, region: str, keys: Mapping[str, Any]) -> dict[str, str]:
        """Return the headers with the signature."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(self.body).hexdigest()
        sent = {**self.headers, "x-amz-date": now, "x-amz-content-sha256": digest}
        if token := keys.get("token") or keys.get("session_token"):
            sent["x-amz-security-token"] = token
        lines = {**sent, "host": host}
        names = ";".join(sorted(lines))
        text = "".join(f"{name}:{' '.join(lines[name].split())}\n" for name in sorted(lines))
        parts = [self.method, self.path, _query(self.query), text, names, digest]
        # as requests sends headers, and as it gave those that are repeated
        whole = hashlib.sha256("\n".join(parts).encode("latin-1")).hexdigest()
        scope = f"{now[:8]}/{region}/s3/aws4_request"
        key = f"AWS4{keys['secret_access_key']}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{whole}".encode()
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys['access_key_id']}/{scope}, "
            f"SignedHeaders={names}, Signature={hmac.digest(key, to_sign, 'sha256').hex()}"
        )
        return sent


def _keys(given: Any, secrets: dict[str, Any]) -> Callable[[], Any]:
    """Return a source of keys as obstore takes it.

    Keys that are given are wrapped too: given as settings, they would be mixed with the
    environment's session token.
    """

    def keys(found: Mapping[str, Any]) -> dict[str, Any]:
        secrets = naming.read_secrets(found).items()
        known = {key.removeprefix("aws_"): value for key, value in secrets}
        known["token"] = known.get("session_token") or known.get("token")
        names = ("access_key_id", "secret_access_key")
        return providers.picked(known, names, "token")

    if callable(given):
        return lambda: keys(given())
    fixed = keys(secrets)  # now: what is missing is reported before anything is sent
    return lambda: fixed


def _ask_region(endpoint: str, bucket: str, timeout: float) -> str | None:
    """Ask a service where a bucket is, which Amazon tells everybody."""
    try:
        url = f"{endpoint}/{bucket}"
        found = request("HEAD", url, {}, timeout, login=own_login, follow=False)
        found.close()
        return found.headers.get("x-amz-bucket-region")
    except StoreError:
        return None  # the request itself will tell what is wrong with the network
