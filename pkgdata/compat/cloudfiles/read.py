"""Reading objects and asking about them, in cloud-files' words."""

from __future__ import annotations

import base64
import builtins
import datetime
import itertools
import json
import os
import posixpath
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

from ...base import pool
from ...base.report import parse_json
from ...errors import ObjectNotFoundError, UnsupportedOperationError
from ...stores import Info
from . import compression
from . import paths as paths_
from .monitor import IOEnum, TransmissionMonitor, recorded
from .paths import listed
from .place import Arguments, each


class Reading(Arguments):
    """The calls that leave objects as they are."""

    def get(
        self,
        paths: Any,
        *,
        total: int | None = None,
        raw: bool = False,
        progress: Any = None,
        parallel: Any = None,
        return_dict: bool = False,
        raise_errors: bool = True,
        part_size: int | None = None,
        return_recording: bool = False,
    ) -> Any:
        """Read one object or many.

        Parameters
        ----------
        paths : str or dict, or iterable of them
            A mapping has ``"path"`` and may have ``"start"``, ``"end"`` and ``"tags"``; tags are
            passed through.
        total : int, optional
            Length of an iterable that has none, for the bar.
        raw : bool, default False
            Return stored bytes as they are.
        progress : bool, str or tqdm, optional
            Draw a bar, by default as this object does; a text is shown next to it.
        parallel : int, optional
            Worker processes, by default those of this object.
        return_dict : bool, default False
            Return contents by their paths; an error is raised.
        raise_errors : bool, default True
            Raise an error instead of returning it in its record.
        part_size : int, optional
            Accepted without effect: the MD5 of an object that was sent in parts is unknown.
        return_recording : bool, default False
            Return a `TransmissionMonitor` too.

        Returns
        -------
        bytes or None, list of dict, or dict
            For one, for many, for ``return_dict``. Records are in the order asked for, unless
            worker processes make them; the content of a missing object is None.

        Raises
        ------
        DecompressionError
            Stored bytes are not in the encoding that the object names.
        IntegrityError
            They do not match the checksum that the service reports.
        StoreError
            An object cannot be read.
        """
        asked, many = listed(paths)
        raise_errors = raise_errors or return_dict or not many
        monitor = TransmissionMonitor(IOEnum.RX)
        count = self._processes(parallel) if many else 1
        records: builtins.list[dict[str, Any]]
        with self._bar("Download", progress if many else False, asked, total) as bar:
            if count > 1:
                options = {"raw": raw, "raise_errors": raise_errors, "return_recording": False}
                records = self._spread("get", asked, count, bar, **options)
            else:

                def download(item: Any) -> dict[str, Any]:
                    return self._record(item, raw, raise_errors, monitor)

                records = [record for _, record in each(download, asked, self._readers, bar)]
        found: Any = records if many else records[0]["content"]
        if return_dict:
            found = {record["path"]: record["content"] for record in records}
        return (found, monitor) if return_recording else found

    def _record(
        self, item: Any, raw: bool, raise_errors: bool, monitor: TransmissionMonitor
    ) -> dict[str, Any]:
        asked: dict[str, Any] = {"path": item} if isinstance(item, str) else item
        path, start, end = asked["path"], asked.get("start"), asked.get("end")
        content, encoding, error = None, None, None
        try:
            with recorded(monitor) as end_io:
                stored, encoding = self.place.read(path, start, end)
                end_io(len(stored or b""))
            if stored is not None and not raw:
                stored = compression.decompress(stored, encoding, path)
            content = stored
        except Exception as caught:
            if raise_errors:
                raise
            error = caught
        return {
            "path": path,
            "content": content,
            "byte_range": (start, end),
            "error": error,
            "compress": encoding,
            "raw": raw,
            "tags": asked.get("tags"),
        }

    def get_json(self, paths: Any, total: int | None = None) -> Any:
        """Read one or many objects that hold JSON.

        Parameters
        ----------
        paths, total
            See `get`.

        Returns
        -------
        object, or list
            In the order asked for; None for a missing object.
        """
        asked, many = listed(paths)
        with self._bar("Downloading JSON", None, asked, total) as bar:
            parts = (self.get(part, progress=bar, parallel=1) for part in pool.chunks(asked))
            records = list(itertools.chain.from_iterable(parts))
        found = [None if one["content"] is None else _as_json(**one) for one in records]
        return found if many else found[0]

    # -- asking --------------------------------------------------------------------------------

    def _ask(self, title: str, paths: Any, total: int | None, progress: Any, ask: Any) -> Any:
        asked, many = listed(paths)
        with self._bar(title, progress, asked, total) as bar:
            found = dict(each(ask, asked, self.threads, bar))
        return found if many else next(iter(found.values()))

    def exists(self, paths: Any, total: int | None = None, progress: Any = None) -> Any:
        """Return whether objects exist; on ``file://`` a folder does too.

        Parameters
        ----------
        paths : str, or iterable of str
        total, progress
            See `get`.

        Returns
        -------
        bool, or dict of str to bool
        """
        return self._ask("Exists", paths, total, progress, self._is_there)

    def _is_there(self, name: str) -> bool:
        if self.place.info(name) is not None:
            return True
        return self.protocol == "file" and os.path.isdir(self.place.local(name))

    def size(
        self, paths: Any, total: int | None = None, progress: Any = None, return_sum: bool = False
    ) -> Any:
        """Return the bytes of objects as they are stored.

        Parameters
        ----------
        paths : str, or iterable of str
        total, progress
            See `get`.
        return_sum : bool
            Return their sum; all of them must exist.

        Returns
        -------
        int or None, or dict of str to int or None
            None for a missing object.

        Raises
        ------
        ObjectNotFoundError
            One of those to be summed is missing.
        """

        def ask(name: str) -> int | None:
            info = self.place.info(name)
            if info is None and return_sum:
                address = self.place.store.address(self.place.key(name))
                raise ObjectNotFoundError(f"{address}: no such object", url=address)
            return None if info is None else info.size

        found = self._ask("Measuring Sizes", paths, total, progress, ask)
        if return_sum:
            return sum(found.values()) if listed(paths)[1] else found
        return found

    def head(self, paths: Any, total: int | None = None, progress: Any = None) -> Any:
        """Return what is known of objects, by the names of HTTP's headers.

        Parameters
        ----------
        paths : str, or iterable of str
        total, progress
            See `get`.

        Returns
        -------
        dict or None, or dict of str to dict or None
            None for a missing object.
        """
        return self._ask("Head", paths, total, progress, lambda n: self._head(self.place.info(n)))

    def _head(self, info: Info | None) -> Any:
        if info is None:
            return None
        kept, md5, modified = info.attributes, None, None
        local = self.protocol == "file"
        if info.digest is not None and info.digest.alg == "md5":
            md5 = base64.b64encode(bytes.fromhex(info.digest.hex)).decode()
        if info.modified is not None:
            modified = datetime.datetime.fromtimestamp(info.modified, datetime.timezone.utc)
        found: dict[str, Any] = {
            "Cache-Control": kept.cache_control,
            "Content-Length": info.size,
            "Content-Type": kept.content_type,
            "ETag": info.validator if self.protocol in ("s3", "gs", "az") else None,
            "Last-Modified": modified.replace(tzinfo=None) if local and modified else modified,
            "Content-Md5": md5,
            "Content-Encoding": kept.encoding,
            "Content-Disposition": None,
            "Content-Language": None,
            "Storage-Class": kept.storage_class,
        }
        if self.place.web:
            from requests.structures import CaseInsensitiveDict

            found["Last-Modified"] = formatdate(info.modified, usegmt=True) if modified else None
            return CaseInsensitiveDict({k: str(v) for k, v in found.items() if v is not None})
        google = ("Content-Crc32c", "Component-Count")
        more = google if self.protocol == "gs" else ("Request-Charged", "Parts-Count")
        return {**found, **dict.fromkeys(more)}

    def get_acl(
        self,
        paths: Any,
        total: int | None = None,
        progress: Any = None,
        return_recording: bool = False,
    ) -> Any:
        """Return the permissions of files.

        Parameters
        ----------
        paths : str, or iterable of str
        total, progress
            See `get`.
        return_recording : bool

        Returns
        -------
        dict of str to int or None
            As `os.stat` has them; None for a missing file, and in memory.

        Raises
        ------
        UnsupportedOperationError
            Elsewhere.
        """

        def ask(name: str) -> int | None:
            if self.protocol == "mem" or self.place.info(name) is None:
                return None
            # only a FileStore has it, and only that is asked
            return os.stat(self.place.store._find(name)[0]).st_mode  # type: ignore[attr-defined]

        if self.protocol not in ("file", "mem"):
            url = self.place.store.url
            raise UnsupportedOperationError(f"{url}: access rules are not read", url=url)
        found = self._ask("Fetching ACLs", listed(paths)[0], total, progress, ask)
        return (found, TransmissionMonitor(IOEnum.RX)) if return_recording else found

    def isdir(self, prefix: str = "") -> bool:
        """Return whether a folder exists or, except on ``file://``, anything below a prefix.

        Parameters
        ----------
        prefix : str

        Returns
        -------
        bool
        """
        if self.protocol == "file":
            return os.path.isdir(self.place.local(prefix))
        if (prefix or paths_.ascloudpath(self._path)).endswith("/"):
            return True
        try:
            return next(self.list(prefix), None) is not None
        except UnsupportedOperationError:
            base, name = posixpath.split(self.cloudpath)
            return not type(self)(base, secrets=self.secrets).exists(name)

    def list(
        self,
        prefix: str = "",
        flat: bool = False,
        size: bool = False,
        return_resume_token: bool = False,
        resume_token: str | None = None,
    ) -> Iterator[Any]:
        """Yield names, sorted.

        Parameters
        ----------
        prefix : str
            Of names; it need not be a whole folder.
        flat : bool, default False
            One level only; the levels below are yielded as names that end in ``/``.
        size : bool, default False
            Yield the bytes as stored too.
        return_resume_token : bool, default False
            Yield a token too that resumes the listing behind the name; None where listing is quick.
        resume_token : str, optional
            Yield only what is behind the name that this token came with.

        Yields
        ------
        str, or tuple
        """
        local = self.protocol in ("file", "mem")
        for name, count in self.place.rows(prefix, flat):
            if resume_token is not None and name <= resume_token:
                continue
            row: tuple[Any, ...] = (name, count) if size else (name,)
            if return_resume_token:
                row += (None if local else name,)
            yield row if len(row) > 1 else name

    def subtree_size(self, prefix: Any = "") -> dict[str, int]:
        """Count the objects below prefixes, and their bytes as stored.

        Parameters
        ----------
        prefix : str, or iterable of str

        Returns
        -------
        dict
            ``"N"`` and ``"num_bytes"``.
        """
        sizes = [count for one in listed(prefix)[0] for _, count in self.place.rows(one, False)]
        return {"N": len(sizes), "num_bytes": sum(sizes)}


def _as_json(path: str, content: bytes, **_: Any) -> Any:
    return parse_json(content, lambda why: json.JSONDecodeError(f"{path}: {why}", "", 0), most=None)
