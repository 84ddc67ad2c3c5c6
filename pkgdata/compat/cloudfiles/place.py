"""What a `CloudFiles` stands on: the store of a cloudpath, its credentials, and cloud-files' rules.

A folder has no place for a ``Content-Encoding``: there cloud-files, like `pkgdata.stores.file`,
keeps a compressed object in a file with a suffix. It lists such files without the suffix, and does
not append it to a name that has it already.
"""

from __future__ import annotations

import os
import posixpath

from ...errors import AccessDeniedError, ConfigError, ObjectNotFoundError, UnsupportedOperationError
from ...stores import Store, codecs
from . import compression
from .exceptions import UnsupportedProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...stores import Info
    from .paths import ExtractedPath

_WEB = ("http", "https")
_PROTOCOLS = ("file", "gs", "s3", "az", "mem", *_WEB)

#: Google's public web addresses name the bucket, which can be listed.
_GOOGLE = "https://storage.googleapis.com"


class Place:
    """The store of a cloudpath.

    Parameters
    ----------
    secrets : dict, str or None
        cloud-files' own words, as a mapping, as JSON, or as the path of a JSON file.
    """

    def __init__(
        self,
        path: ExtractedPath,
        secrets: Any,
        request_payer: str | None,
        anonymous: bool,
        threads: int,
    ) -> None:
        self.path = path
        self.protocol = path.protocol
        self.web = path.protocol in _WEB
        #: What stands before each name: in memory all objects of a bucket lie together.
        self.prefix = ""
        if self.protocol == "mem" and path.path:
            self.prefix = f"{path.path.rstrip('/')}/"
        options = _options(path, secrets, anonymous)
        if request_payer is not None:
            options["request_payer"] = request_payer
        self.store = Store(_url(path, options), threads=threads, **options)

    def key(self, name: str) -> str:
        """Return the store's name of an object."""
        return self.prefix + name

    def target(self, name: str, encoding: str | None) -> str:
        """Return the store's name of an object to be written."""
        suffix = codecs.SUFFIXES.get(encoding or "")
        if self.protocol == "file" and suffix and posixpath.splitext(name)[1] == suffix:
            name = name[: -len(suffix)]
        return self.key(name)

    def read(
        self, name: str, start: int | None, end: int | None
    ) -> tuple[bytes | None, str | None]:
        """Read an object as it is stored.

        Returns
        -------
        (bytes or None, str or None)
            Content and encoding; None if there is no such object.
        """
        first = None if start is None else int(start)
        last = None if end is None else int(end)
        try:
            found = self.store._get_one((self.key(name), first, last), True)
        except ObjectNotFoundError:
            return None, None
        except AccessDeniedError:
            if self.web:  # what a bucket answers of a missing object to who may not list it
                return None, None
            raise
        encoding = ",".join(
            word for word in (found.encoding or "").split(",") if word.strip() != "aws-chunked"
        )
        return found.content, encoding or ("" if self.protocol == "s3" else None)

    def write(
        self, name: str, content: Any, encoding: Any, raw: bool, level: Any, **kept: Any
    ) -> int:
        """Write an object.

        Parameters
        ----------
        raw : bool
            The content is compressed already.
        **kept
            See `Store.put`.

        Returns
        -------
        int
            Its bytes before any compression, as far as they are known.
        """
        encoding = compression.canonical(encoding)
        if isinstance(content, str):
            content = content.encode()
        elif not hasattr(content, "read") and not isinstance(content, os.PathLike):
            content = memoryview(content).cast("B") if len(content) else b""
        options = {"encoding": encoding}
        if not raw:
            options = {"compress": encoding, "level": compression.level_of(encoding, level)}
        self.store.put(self.target(name, encoding), content, **options, **kept)
        return len(content) if hasattr(content, "__len__") else 0

    def info(self, name: str) -> Info | None:
        """Ask what is known of an object.

        Returns
        -------
        Info or None
            None if it is not there.
        """
        try:
            return self.store.trying(lambda: self.store.info(self.key(name)))
        except ObjectNotFoundError:
            return None
        except AccessDeniedError:
            if self.web:
                return None
            raise

    def syncs(self) -> bool:
        """Say whether each file is synced by itself, for which threads wait at once."""
        from ...stores.file import FileStore

        return isinstance(self.store, FileStore) and self.store._syncs()

    def local(self, name: str) -> str:
        """Return the path of what is in a folder."""
        return os.path.join(self.path.path or os.sep, name)

    def rows(self, prefix: str, flat: bool) -> Iterator[tuple[str, int]]:
        """List names and sizes."""
        found = self._rows(prefix, flat)
        if self.protocol == "file":
            if flat and prefix and not prefix.endswith("/") and os.path.isdir(self.local(prefix)):
                found = self._rows(f"{prefix}/", flat)
            # without their suffixes names have another order
            yield from sorted((_bare(name), size) for name, size in found)
            return
        if flat and prefix and not prefix.endswith("/"):
            head = [row for _, row in zip(range(2), found, strict=False)]
            if [name for name, _ in head] == [f"{prefix}/"]:
                yield from self._rows(f"{prefix}/", flat)
                return
            yield from head
        yield from found

    def _rows(self, prefix: str, flat: bool) -> Iterator[tuple[str, int]]:
        store = self._listed()
        for key, info in store.scan(self.prefix + prefix, flat):
            name = key[len(self.prefix) :]
            # some tools make empty objects that stand for folders
            if name and (flat or not name.endswith("/")):
                yield name, info.size or 0

    def _listed(self) -> Store:
        if self.path.host != _GOOGLE or not self.web:
            return self.store
        return Store(f"gs://{self.path.path}", anonymous=True)

    def lists(self) -> bool:
        """Say whether there is a listing."""
        try:
            next(self._rows("", True), None)
        except UnsupportedOperationError:
            return False
        return True


def _bare(name: str) -> str:
    base, suffix = posixpath.splitext(name)
    return base if suffix in codecs.SUFFIXES.values() else name


def _url(path: ExtractedPath, options: dict[str, Any]) -> str:
    if path.protocol not in _PROTOCOLS:
        raise UnsupportedProtocolError(
            f"{path.protocol}: only {', '.join(_PROTOCOLS)} are supported",
            hint="log in to a web server by secrets={'user': ..., 'password': ...} or ~/.netrc",
        )
    if path.protocol == "file":
        return path.path or os.sep
    if path.protocol == "mem":
        return f"mem://{path.bucket}"
    if path.protocol in _WEB:
        scheme, _, host = (path.host or "").partition("://")
        return f"{scheme}://{options.pop('login', '')}{host}/{path.path}"
    if path.host:
        options["endpoint"] = path.host
    return f"{path.protocol}://{path.bucket}/{path.path}"


def _options(path: ExtractedPath, secrets: Any, anonymous: bool) -> dict[str, Any]:
    """Return the options of a store that credentials in cloud-files' words stand for."""
    if path.protocol in ("file", "mem"):
        return {}
    if anonymous and path.protocol == "s3":
        return {"anonymous": True}
    found = _read(secrets) if secrets else _from_files(path)
    if not found:
        return {}
    if path.protocol in _WEB:
        from urllib.parse import quote

        if "user" not in found or "password" not in found:
            return {}
        return {"login": f"{quote(found['user'], safe='')}:{quote(found['password'], safe='')}@"}
    region = found.pop("AWS_DEFAULT_REGION", None)
    options = {"region": region} if region and path.protocol == "s3" else {}
    if path.protocol == "s3" and not any("access_key_id" in key.lower() for key in found):
        return options  # a region alone: the keys are wherever Amazon's own tools look
    return {**options, "secrets": found}


def _read(secrets: Any) -> dict[str, Any]:
    if isinstance(secrets, str) and secrets.lstrip().startswith("{"):
        import json

        try:
            found = json.loads(secrets)
        except ValueError:
            raise ConfigError("secrets: the text is not JSON") from None
        return dict(found)
    if isinstance(secrets, (str, os.PathLike)):
        from ...stores.buckets import read_secrets

        # the names of Amazon's settings are in capitals, those of a service account are not
        words = {"aws_default_region": "AWS_DEFAULT_REGION"}
        return {words.get(key, key): value for key, value in read_secrets(str(secrets)).items()}
    return dict(secrets)


def _from_files(path: ExtractedPath) -> dict[str, Any]:
    """Look where cloud-files keeps credentials: a file for the bucket, else one for the service."""
    service = path.alias or {"s3": "aws", "gs": "google", "az": "azure"}.get(path.protocol, "http")
    names = [f"{path.bucket}-{service}-secret.json"] if path.bucket else []
    homes = [
        os.environ.get("CLOUD_VOLUME_DIR") or os.path.expanduser("~/.cloudvolume"),
        os.environ.get("CLOUD_FILES_DIR") or os.path.expanduser("~/.cloudfiles"),
    ]
    for name in (*names, f"{service}-secret.json"):
        for home in homes:
            file = os.path.join(home, "secrets", name)
            if os.path.isfile(file):
                return _read(file)
    return {}
