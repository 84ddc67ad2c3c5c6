"""Small clients for setting up buckets and for asking what a proper client would never ask.

The tests drive `pkgdata` and obstore; these make the buckets, and the requests that are wrong on
purpose, without a cloud's library.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import formatdate
from urllib.parse import quote, urlsplit

from .processes import ServerError


@dataclass
class Answer:
    """What a server said."""

    status: int
    #: By lower-case name.
    headers: dict[str, str]
    body: bytes


def ask(
    method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Answer:
    """Send one request, as it is."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, target or "/", body, dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


def new_name() -> str:
    """Return a name for a bucket that nobody else has."""
    return f"test-{uuid.uuid4().hex[:16]}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


@dataclass
class S3:
    """An S3 server and an account there."""

    endpoint: str
    access_key: str = "TESTKEY123"
    secret_key: str = "TESTSECRET123"
    region: str = "us-east-1"

    def signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send a request with an AWS Signature of version 4; own headers win over the made ones."""
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        path = quote(path, safe="/-_.~")
        asked = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}"
            for name, value in sorted((query or {}).items())
        )
        sent = {
            "host": urlsplit(self.endpoint).netloc,
            "x-amz-date": now,
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        }
        sent.update((name.lower(), value) for name, value in (headers or {}).items())
        names = ";".join(sorted(sent))
        lines = "".join(f"{name}:{sent[name].strip()}\n" for name in sorted(sent))
        canonical = "\n".join([method, path, asked, lines, names, sent["x-amz-content-sha256"]])
        scope = f"{now[:8]}/{self.region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = _hmac(key, part)
        signature = _hmac(key, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}").hex()
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope},"
            f"SignedHeaders={names},Signature={signature}"
        )
        return ask(method, f"{self.endpoint}{path}{'?' if asked else ''}{asked}", sent, body)

    def make_bucket(self, name: str | None = None, *, public: bool = False) -> str:
        """Make a bucket and return its name; anybody may read and list a public one."""
        name = name or new_name()
        _expect(200, self.signed("PUT", f"/{name}"), f"making the bucket {name}")
        if public:
            resource = f"arn:aws:s3:::{name}"
            allowed = {"s3:GetObject": f"{resource}/*", "s3:ListBucket": resource}
            policy = {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Principal": "*", "Action": [action], "Resource": [what]}
                    for action, what in allowed.items()
                ],
            }
            reply = self.signed("PUT", f"/{name}", {"policy": ""}, body=json.dumps(policy).encode())
            _expect(2, reply, f"making the bucket {name} public")
        return name


#: The service version whose signature `Azure.signed` makes.
_AZURE_VERSION = "2021-08-06"


@dataclass
class Azure:
    """An Azure Blob server and an account there."""

    endpoint: str
    account: str
    key: str

    def signed(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send a request with a SharedKey signature; ``path`` is below the account."""
        sent = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _AZURE_VERSION}
        sent.update((name.lower(), value) for name, value in (headers or {}).items())
        standard = [
            "content-encoding", "content-language", "content-length", "content-md5",
            "content-type", "date", "if-modified-since", "if-match", "if-none-match",
            "if-unmodified-since", "range",
        ]  # fmt: skip
        length = {"content-length": str(len(body)) if body else ""}
        lines = [method, *({**sent, **length}.get(name, "") for name in standard)]
        lines += [f"{name}:{sent[name]}" for name in sorted(sent) if name.startswith("x-ms-")]
        # the account stands twice: as the owner, and in the path of the endpoint
        lines.append(f"/{self.account}{urlsplit(self.endpoint).path}{quote(path)}")
        lines += [f"{name}:{value}" for name, value in sorted((query or {}).items())]
        key = base64.b64decode(self.key)
        signature = base64.b64encode(_hmac(key, "\n".join(lines))).decode()
        sent["authorization"] = f"SharedKey {self.account}:{signature}"
        asked = "&".join(f"{name}={quote(value)}" for name, value in (query or {}).items())
        url = f"{self.endpoint}{quote(path)}{'?' if asked else ''}{asked}"
        return ask(method, url, sent, body)

    def make_container(self, name: str | None = None, *, public: bool = False) -> str:
        """Make a container and return its name; anybody may read and list a public one."""
        name = name or new_name()
        access = {"x-ms-blob-public-access": "container"} if public else {}
        reply = self.signed("PUT", f"/{name}", {"restype": "container"}, access)
        _expect(201, reply, f"making the container {name}")
        return name


def _expect(status: int, answer: Answer, what: str) -> None:
    """Raise unless the status is the one given, or of the class given (2 for 2xx)."""
    if status not in (answer.status, answer.status // 100):
        said = answer.body.decode(errors="replace")
        raise ServerError(f"{what}: the server answered {answer.status}: {said}")
