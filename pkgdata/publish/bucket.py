"""A bucket of S3, Google or Azure: ``s3://bucket/prefix``, ``gs://…``, ``az://…``.

Each request carries the digest of what it sends, which the service checks, and an object appears
when all of it has arrived. Its SHA-256 is kept beside it as metadata, since the services report an
MD5 at best, and nothing of what was sent in parts.
"""

from __future__ import annotations

import os

from ..errors import ObjectExistsError, PublishError, StoreError
from ..stores import Attributes, Store, public
from ..stores.buckets import Place, web_address
from ..stores.writing import Put
from .destination import Destination, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from io import FileIO
    from typing import Any

    from .destination import Item

#: Under this name the digest is kept with each object.
_SHA256 = "sha256"

#: Objects are listed as long as they are not many more than what is published.
_LISTED = 10_000

_S3_ADVICE = """\
Not everybody can read the files. Let them, by a bucket policy such as

{policy}

  aws s3api put-bucket-policy --bucket {bucket} --policy file://policy.json

(first allow public policies: aws s3api delete-public-access-block --bucket {bucket}), and for web
pages of other hosts by CORS rules:

{cors}

  aws s3api put-bucket-cors --bucket {bucket} --cors-configuration file://cors.json

Where the bucket allows ACLs, 'pkgdata publish --public' gives one to each object instead."""

_GS_ADVICE = """\
Not everybody can read the files. Let them, and pages of other hosts too:

  gcloud storage buckets add-iam-policy-binding gs://{bucket} \\
    --member=allUsers --role=roles/storage.objectViewer
  gcloud storage buckets update gs://{bucket} --cors-file=cors.json

with cors.json:

{cors}"""

_AZ_ADVICE = """\
Not everybody can read the files. Let them, and pages of other hosts too:

  az storage container set-permission --name {bucket} --public-access blob
  az storage cors add --services b --methods GET HEAD --origins '*' --allowed-headers Range \\
    --exposed-headers Content-Range,ETag --max-age 3600"""


class Bucket(Destination):
    """A bucket, or a prefix in one.

    Parameters
    ----------
    url : str
        See `Store`; the endpoint may stand in it.
    public_url : str, optional
        Where everybody reads it, if that is not the bucket's own address: a CDN.
    public : bool, default False
        Make each object readable by everybody (an ACL; not all buckets allow one).
    storage_class : str, optional
        The provider's word.
    api_url : str, optional
        Endpoint of the service, where it is not the provider's own.

    Raises
    ------
    ConfigError
        The URL is malformed.
    MissingExtraError
        The package ``obstore`` is missing.
    """

    #: A bucket takes more requests at once than a small service does.
    threads = 64
    shows_pages = True

    def __init__(
        self,
        url: str,
        public_url: str | None = None,
        public: bool = False,
        storage_class: str | None = None,
        api_url: str | None = None,
    ) -> None:
        super().__init__(url)
        self._given = url
        self._public_url = public_url
        self._public = public
        self._class = storage_class
        self._store = Store(url, endpoint=api_url)
        self._place = Place(url, api_url)
        self._names: list[str] = []
        # some services know no conditional writes; the listing has shown that the name is free
        self._conditional = True

    @property
    def dataurl(self) -> str:
        if self._public_url is not None:
            return self._public_url
        place, endpoint = self._place, self._store._endpoint()  # type: ignore[attr-defined]
        if endpoint:
            prefix = f"/{place.prefix}" if place.prefix else ""
            return web_address(f"{place.kind}://{endpoint}/{place.bucket}{prefix}")
        return public(self._given) if place.kind == "az" else self._given.rstrip("/") + "/"

    def check(self, items: Sequence[Item]) -> None:
        from ..base import fs

        self._names = [fs.safe_key(item.name) for item in items]
        client: Any = self._store.client(self._public)  # type: ignore[attr-defined]
        if client.config.get("skip_signature"):
            raise PublishError(
                f"{self.url}: no credentials to write with",
                hint="set the provider's variables (such as AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY), or log in with its own tool",
            )

    def held(self) -> Mapping[str, Held]:
        found: dict[str, Held] = {}
        for name, info in self._store.scan():
            found[name] = Held(info.size, info.digest)
            if len(found) > _LISTED + 4 * len(self._names):
                return self._asked()  # of many others, listing all takes longer than asking
        return found

    def _asked(self) -> dict[str, Held]:
        found = self._store.stat(self._names)
        return {
            name: Held(info.size, info.digest) for name, info in found.items() if info is not None
        }

    def same(self, item: Item, held: Held) -> bool:
        if held.digest is not None and item.digest_by(held.digest.alg) == held.digest:
            return True
        metadata = self._store.stat(item.name).attributes.metadata
        kept = {key.lower(): value.lower() for key, value in metadata.items()}.get(_SHA256)
        if kept and item.digest.alg == "sha256":
            return bool(kept == item.digest.hex)
        if held.digest is not None and self._store.vouches(item.name, held.digest):
            return False
        return self._hash(item) == item.digest.hex

    def _hash(self, item: Item) -> str:
        from ..base import hashes

        hasher = hashes.new(item.digest.alg)
        for block in self._store.blocks(item.name):
            hasher.update(block)
        return hasher.hexdigest()

    def put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        absent = self._conditional and not replace
        try:
            self._put(item, absent, moved)
        except StoreError as error:
            if not absent or not _knows_no_condition(error):
                raise
            self._conditional = False
            self._put(item, False, moved)
        return Held(item.size, item.digest)

    def _put(self, item: Item, if_absent: bool, moved: Callable[[int], None]) -> None:
        attributes = Attributes(
            storage_class=self._class,
            metadata={_SHA256: item.digest.hex} if item.digest.alg == "sha256" else None,
            public=self._public,
        )
        with open(item.path, "rb", buffering=0) as file:
            reading = _Reading(item, file, moved)
            Put(self._store, attributes, if_absent=if_absent).one(item.name, reading)

    def read(self, name: str) -> Iterator[bytes]:
        yield from map(bytes, self._store.blocks(name))

    def advice(self) -> str:
        import json

        place = self._place
        if place.kind == "az":
            return _AZ_ADVICE.format(bucket=place.bucket)
        if place.kind == "gs":
            rules: Any = [
                {
                    "origin": ["*"],
                    "method": ["GET", "HEAD"],
                    "responseHeader": ["Content-Range", "ETag"],
                    "maxAgeSeconds": 3600,
                }
            ]
            return _GS_ADVICE.format(bucket=place.bucket, cors=json.dumps(rules, indent=2))
        rules = {
            "CORSRules": [
                {
                    "AllowedOrigins": ["*"],
                    "AllowedMethods": ["GET", "HEAD"],
                    "AllowedHeaders": ["Range"],
                    "ExposeHeaders": ["Content-Range", "ETag"],
                    "MaxAgeSeconds": 3600,
                }
            ]
        }
        return _S3_ADVICE.format(
            bucket=place.bucket,
            policy=json.dumps(self.policy(), indent=2),
            cors=json.dumps(rules, indent=2),
        )

    def policy(self) -> dict[str, Any]:
        """Return the bucket policy with which everybody may read what is below the prefix."""
        prefix = f"{self._place.prefix}/" if self._place.prefix else ""
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{self._place.bucket}/{prefix}*"],
        }
        return {"Version": "2012-10-17", "Statement": [statement]}


def _knows_no_condition(error: StoreError) -> bool:
    return not isinstance(error, ObjectExistsError) and (
        "NotImplemented" in str(error) or "status 501" in str(error)
    )


class _Reading:
    """A file that tells how far it was read, and whether it changed before its end is handed over.

    An object is not made before the last byte was read, so that a changed file makes none.
    """

    def __init__(self, item: Item, file: FileIO, moved: Callable[[int], None]) -> None:
        self._item = item
        self._file = file
        self._moved = moved
        self._left = item.size

    def read(self, count: int = -1) -> bytes:
        data = self._whole(count)
        self._left -= len(data)
        if self._left <= 0 or not data:
            self._item.check_unchanged()
        self._moved(self._item.size - self._left)
        return data

    def _whole(self, count: int) -> bytes:
        """Read as many bytes as were asked for, of which one call gives 2 GB at most."""
        parts, size = [], 0
        while size < count and (part := self._file.read(count - size)):
            parts.append(part)
            size += len(part)
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)
