"""`CloudFiles`, the objects below a cloudpath; `CloudFile`, one of them; `ResumableTransfer`."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from ...base import fs, pool
from ...base.report import parse_json
from ...errors import ConfigError, StoreError
from ...stores.job import Job
from . import paths as paths_
from .monitor import TransmissionMonitor, bar_of
from .place import each
from .read import Reading
from .write import ObjectCopy, Writing, jsonify, moved, pairs

_SLICE = "We only support the complete set slice. `:`. Got: "


class CloudFiles(Reading, Writing):
    """The objects below a cloudpath.

    Nothing is contacted before the first operation.

    Parameters
    ----------
    cloudpath : str
        ``gs://bucket/dir``, ``s3://bucket/dir``, ``s3://https://endpoint/bucket/dir``,
        ``file://dir`` or a plain path, ``https://host/dir``, ``mem://bucket/dir``, or one that
        begins with an alias; ``az://container/dir`` is new.
    progress : bool or str, default False
        Draw bars; a text is shown next to them.
    green : bool, optional
        Accepted without effect: the threads here are few, and most of the work is done outside
        Python.
    secrets : dict or str, optional
        As for cloud-files; by default the files it keeps them in, then the provider's own chain.
    num_threads : int, default 20
        Requests at once. What is in memory or on a local disk is read by one thread.
    use_https : bool, default False
        Read a public bucket by its web address.
    endpoint : str, optional
        Of S3 or a service with its protocol.
    parallel : int, default 1
        Worker processes; 0 for one per processor.
    request_payer : str, optional
        ``"requester"`` (S3) or a project (Google).
    locking, lock_dir
        Accepted without effect: a file is replaced by a rename, so that no reader sees a part of
        it.
    composite_upload_threshold : int
        Accepted without effect: objects above 8 MiB are sent in parts, in bounded memory.
    no_sign_request : bool, default False
        Read a public bucket of S3 without a signature.

    Raises
    ------
    UnsupportedProtocolError
        The cloudpath is of no known kind.
    """

    def _other(self, other: Any) -> CloudFiles:
        if isinstance(other, CloudFiles):
            return other
        return CloudFiles(other, green=self.green, num_threads=self.num_threads or 20)

    def transfer_to(
        self,
        cf_dest: Any,
        paths: Any = None,
        block_size: int = 64,
        reencode: Any = None,
        content_type: str | None = None,
        allow_missing: bool = False,
        progress: Any = None,
        resumable: bool = False,
    ) -> TransmissionMonitor:
        """Copy objects to another place, stored bytes as they are, in bounded memory.

        Parameters
        ----------
        cf_dest : CloudFiles or str
        paths : iterable of str, (str, str) or dict, optional
            Names, or with the copy's: pairs, or ``"path"`` and ``"dest_path"``. All by default.
        block_size : int
            Accepted without effect: nothing waits for a block to be full.
        reencode : str, optional
            How the copies are compressed; ``""`` for not at all.
        content_type : str, optional
            Of the copies; by default that of the originals.
        allow_missing : bool, default False
            Skip what is missing.
        progress : bool or str, optional
            See `get`.
        resumable : bool
            Accepted without effect: an interrupted transfer of an object is resumed within the
            call; `ResumableTransfer` resumes in a later one.

        Returns
        -------
        TransmissionMonitor

        Raises
        ------
        ObjectNotFoundError
            An object is missing, unless ``allow_missing``.
        """
        dest = self._other(cf_dest)
        paths = self.list() if paths is None else paths
        copy = ObjectCopy(self.place, dest.place, reencode, content_type, allow_missing)
        local = {self.protocol, dest.protocol} <= {"file", "mem"}
        with dest._bar("Transferring", progress, paths) as bar, dest.place.store.bulk():
            threads = dest._writers if local else max(self.threads, dest.threads)
            for _ in each(copy.one, pairs(paths), threads, bar):
                pass
        return copy.monitor

    def transfer_from(self, cf_src: Any, *args: Any, **options: Any) -> TransmissionMonitor:
        """Copy objects from another place.

        Parameters
        ----------
        cf_src : CloudFiles or str
        *args, **options
            See `transfer_to`.

        Returns
        -------
        TransmissionMonitor
        """
        return self._other(cf_src).transfer_to(self, *args, **options)

    def move(self, src: str, dest: str) -> None:
        """Move an object.

        Parameters
        ----------
        src : str
            Its name.
        dest : str
            Cloudpath of the object or, if it ends in a slash or is a folder of this computer, of
            where to put it.
        """
        path = paths_.asprotocolpath(paths_.extract(dest))
        base = paths_.basename(path) or paths_.basename(src)
        self.moves(paths_.dirname(path), [(src, base)], progress=False)

    def moves(
        self,
        cf_dest: Any,
        paths: Iterable[Any],
        block_size: int = 64,
        total: int | None = None,
        progress: Any = None,
    ) -> None:
        """Move objects: each is copied, then removed.

        Parameters
        ----------
        cf_dest : CloudFiles or str
        paths : iterable of str or (str, str)
            Names, or with the new ones.
        block_size : int
            Accepted without effect.
        total, progress
            See `get`.
        """
        move = functools.partial(moved, self.place, self._other(cf_dest).place)
        with self._bar("Moving", progress, paths, total) as bar:
            for _ in each(move, pairs(paths), self.threads, bar):
                pass

    # -- sugar ---------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], slice):
            return self.get({"path": key[0], "start": key[1].start, "end": key[1].stop})
        if isinstance(key, slice):
            return self.get(itertools.islice(self.list(), key.start, key.stop, key.step))
        return self.get(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(value, CloudFiles):
            self.put(key, value)
        elif key == slice(None):
            self.transfer_from(value)
        else:
            raise KeyError(f"{_SLICE}{key}")

    def __delitem__(self, key: Any) -> None:
        self.delete(key)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.place.info(name) is not None

    def __iter__(self) -> Iterator[str]:
        return self.list()


class CloudFile:
    """One object.

    Parameters
    ----------
    path : str
        Its cloudpath.
    cache_meta : bool, default False
        Ask for `head` and `size` only once.
    secrets, composite_upload_threshold, locking, lock_dir, endpoint, no_sign_request
        See `CloudFiles`.
    request_payer, use_https
        See `CloudFiles`.
    """

    def __init__(
        self,
        path: str,
        *,
        cache_meta: bool = False,
        secrets: Any = None,
        composite_upload_threshold: int = 100_000_000,
        locking: bool = True,
        lock_dir: str | None = None,
        endpoint: str | None = None,
        no_sign_request: bool = False,
        request_payer: str | None = None,
        use_https: bool = False,
    ) -> None:
        options = dict(locals())
        del options["self"], options["path"], options["cache_meta"]
        path = paths_.normalize(paths_.refuse_unknown(path))
        self.cf = CloudFiles(paths_.dirname(path), **options)
        self.filename = paths_.basename(path)
        self.cache_meta = cache_meta
        self._size: int | None = None
        self._head: Any = None

    def __repr__(self) -> str:
        return f"<CloudFile {self.cf.place.store.address(self.cf.place.key(self.filename))}>"

    @property
    def sep(self) -> str:
        """What stands between the parts of a path."""
        return self.cf.sep

    @property
    def protocol(self) -> str:
        """``"file"``, ``"gs"``, ``"s3"``, ``"az"``, ``"http"``, ``"https"`` or ``"mem"``."""
        return self.cf.protocol

    @property
    def lock_dir(self) -> str | None:
        """What was given; there are no lock files."""
        return self.cf.lock_dir

    def clear_locks(self) -> None:
        """Do nothing: there are no lock files."""

    def delete(self) -> int:
        """Remove it; see `CloudFiles`."""
        self._forget()
        return self.cf.delete(self.filename)

    def exists(self) -> bool:
        """Return whether it exists; see `CloudFiles`."""
        return bool(self.cf.exists(self.filename))

    def get(self, ranges: Any = None, raw: bool = False) -> Any:
        """Read it, or parts of it.

        Parameters
        ----------
        ranges : iterable of slice, (int, int) or dict, optional
            Of its bytes; a mapping has ``"start"`` and ``"end"``.
        raw : bool, default False
            Return stored bytes as they are.

        Returns
        -------
        bytes or None, or list of dict
            All of it, None if it does not exist; or one record for each range, see `CloudFiles`.
        """
        if ranges is None:
            found = self.cf.get(self.filename, raw=raw)
            if raw and found is not None:
                self._size = len(found)
            return found
        return self.cf.get([self._range(one) for one in ranges], raw=raw)

    def _range(self, one: Any) -> dict[str, Any]:
        if isinstance(one, dict):
            return {"path": self.filename, **one}
        start, end = (one.start, one.stop) if isinstance(one, slice) else one
        return {"path": self.filename, "start": start, "end": end}

    def get_json(self) -> Any:
        """Read it as JSON; see `CloudFiles`."""
        return self.cf.get_json(self.filename)

    def get_acl(self) -> Any:
        """Return the permissions of a file; see `CloudFiles`."""
        return self.cf.get_acl(self.filename)

    def put(self, content: Any, *args: Any, **kwargs: Any) -> int:
        """Write it; see `CloudFiles`."""
        self._forget()
        return self.cf.put(self.filename, content, *args, **kwargs)

    def put_json(self, content: Any, *args: Any, **kwargs: Any) -> int:
        """Write it as JSON; the arguments are those of its `put`, see `CloudFiles`."""
        if not args:
            kwargs["content_type"] = "application/json"
        return self.put(jsonify(content), *args, **kwargs)

    def _forget(self) -> None:
        self._size = self._head = None

    def head(self) -> Any:
        """Return what is known of it, by the names of HTTP's headers; see `CloudFiles`."""
        if self._head is None or not self.cache_meta:
            self._head = self.cf.head(self.filename)
        return self._head

    def size(self) -> Any:
        """Return its bytes as stored, None if it does not exist; see `CloudFiles`."""
        if self._size is None or not self.cache_meta:
            self._size = self.cf.size(self.filename)
        return self._size

    def transfer_to(self, cloudpath: str, reencode: Any = None) -> None:
        """Copy it.

        Parameters
        ----------
        cloudpath : str
            Of the copy.
        reencode : str, optional
            How the copy is compressed; ``""`` for not at all.
        """
        there = CloudFile(cloudpath)
        self.cf.transfer_to(there.cf, [(self.filename, there.filename)], reencode=reencode)

    def transfer_from(self, cloudpath: str, reencode: Any = None) -> None:
        """Make it a copy of another object.

        Parameters
        ----------
        cloudpath : str
            Of the original.
        reencode : str, optional
            How the copy is compressed; ``""`` for not at all.
        """
        self._forget()
        there = CloudFile(cloudpath)
        self.cf.transfer_from(there.cf, [(there.filename, self.filename)], reencode=reencode)

    def touch(self) -> None:
        """Create it, empty, if it does not exist."""
        self._forget()
        self.cf.touch(self.filename)

    def move(self, dest: str) -> None:
        """Move it; see `CloudFiles`."""
        self.cf.move(self.filename, dest)

    def join(self, *args: str) -> str:
        """Join parts of a path; see `CloudFiles`."""
        return self.cf.join(*args)

    def dirname(self, path: str) -> str:
        """Return what is before the last slash; see `CloudFiles`."""
        return self.cf.dirname(path)

    def basename(self, path: str) -> str:
        """Return what is behind the last slash; see `CloudFiles`."""
        return self.cf.basename(path)

    def __len__(self) -> int:
        return self.size() or 0

    def __getitem__(self, span: slice) -> Any:
        return self.cf[self.filename, span]

    def __setitem__(self, span: Any, content: Any) -> None:
        if span != slice(None):
            raise KeyError(f"{_SLICE}{span}")
        self.put(content)


class ResumableTransfer:
    """A bulk copy that may be interrupted, resumed, and shared by several processes.

    What is done is recorded in a file, in the format of `pkgdata.stores.job`.

    Parameters
    ----------
    db_path : str
        The file.
    lease_msec : int
        Accepted without effect: work that a process has taken is given back when it ends.
    """

    def __init__(self, db_path: str, lease_msec: int = 0) -> None:
        self.db_path = os.fspath(db_path)

    def init(self, src: str, dest: str, paths: Any = None, reencode: Any = None) -> None:
        """Record what is to be copied, once.

        Parameters
        ----------
        src, dest : str
            Cloudpaths.
        paths : iterable of str, CloudFiles or str, optional
            A cloudpath means all below it; by default all below ``src``.
        reencode : str, optional
            How the copies are compressed; ``""`` for not at all.
        """
        self.close()
        if paths is None or isinstance(paths, str):
            paths = CloudFiles(paths or src)
        with Job(self.db_path, json.dumps([src, dest, reencode])) as job:
            job.plan(pairs(paths))

    def execute(self, progress: Any = False, block_size: int = 200) -> None:
        """Copy what is left.

        Parameters
        ----------
        progress : bool or str, default False
            Draw a bar; a text is shown next to it.
        block_size : int
            Accepted without effect.

        Raises
        ------
        StoreError
            The first failure; what failed is tried again by the next call.
        """
        words = self._words()

        def wrong(why: str) -> StoreError:
            return StoreError(f"{self.db_path}: not a job: {why}")

        found = parse_json(words, wrong)
        if not isinstance(found, list) or len(found) != 3:
            raise wrong("expected source, destination and compression")
        src, dest, reencode = found
        source = CloudFiles(src)
        copy = ObjectCopy(source.place, CloudFiles(dest).place, reencode)
        failure: Exception | None = None
        with Job(self.db_path, words) as job, bar_of(progress, "Transfer", None, job.left()) as bar:
            job.plan(())  # puts back what ended processes took, and what failed
            for pair, _, error in pool.run(copy.one, job.take(), source.threads):
                job.done(pair, error)
                failure = failure or error
                bar.update(1)
        if failure is not None:
            raise failure

    def _words(self) -> str:
        """Return what is copied where, as it was recorded."""
        if not os.path.exists(self.db_path):
            raise ConfigError(f"{self.db_path}: no such job", hint="call init() first")
        try:
            with contextlib.closing(sqlite3.connect(self.db_path)) as database:
                row = database.execute("select value from meta where key='job'").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"{self.db_path}: not a job: {error}") from error
        return str(row[0])

    def __len__(self) -> int:
        with Job(self.db_path, self._words()) as job:
            return job.left()

    def close(self) -> None:
        """Remove the file."""
        for suffix in ("", "-wal", "-shm"):
            fs.remove(self.db_path + suffix)
