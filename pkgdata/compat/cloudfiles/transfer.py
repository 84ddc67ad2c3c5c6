"""Objects from one `CloudFiles` to another: copies, moves, and copies that may be interrupted."""

from __future__ import annotations

import os
import posixpath

from ...base import pool
from ...errors import ConfigError, ObjectNotFoundError, StoreError
from ...stores import codecs
from ...stores.copying import copy_object
from . import compression
from .many import Bar, each
from .monitor import IOEnum, TransmissionMonitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from .files import CloudFiles
    from .place import Place


class Copy:
    """How objects are copied.

    Parameters
    ----------
    reencode : str or None
        None leaves stored bytes as they are; ``""`` stores them plain.
    allow_missing : bool
        Pass over what is not there.
    """

    def __init__(
        self,
        source: CloudFiles,
        dest: CloudFiles,
        reencode: Any = None,
        content_type: str | None = None,
        allow_missing: bool = False,
    ) -> None:
        self._source = source
        self._dest = dest
        self._reencode = None
        if reencode is not None:
            self._reencode = compression.canonical(reencode) or "none"
        self._content_type = content_type
        self._allow_missing = allow_missing
        self.monitor = TransmissionMonitor(IOEnum.TX)

    def one(self, pair: tuple[str, str]) -> None:
        """Copy an object.

        Parameters
        ----------
        pair : (str, str)
            Its name and the copy's.
        """
        flight = self.monitor.start_io()
        try:
            count = self._copied(*pair)
        except ObjectNotFoundError:
            self.monitor.end_error(flight)
            if not self._allow_missing:
                raise
        except BaseException:
            self.monitor.end_error(flight)
            raise
        else:
            self.monitor.end_io(flight, count)

    def _copied(self, name: str, new_name: str) -> int:
        source, dest = self._source.place, self._dest.place
        key, target = source.key(name), _target(source, dest, name, new_name, self._reencode)
        if self._content_type is not None:
            return self._typed(source, dest, key, target)
        count = copy_object(source.store, key, dest.store, target, self._reencode)
        if not count and dest.protocol == "file":  # elsewhere asking would be a request more
            count = dest.store.size(target) or 0
        return count

    def _typed(self, source: Place, dest: Place, key: str, target: str) -> int:
        """Copy with another content type, which no service does by itself."""
        info = source.store.trying(lambda: source.store.info(key))
        kept = info.attributes.replaced(content_type=self._content_type)
        blocks: Any = source.store.blocks(key)
        size = info.size
        if self._reencode is not None:
            blocks = codecs.decode_blocks(blocks, kept.encoding, source.store.address(key))
            kept = kept.replaced(encoding=codecs.canonical(self._reencode))
            blocks, size = codecs.encode_blocks(blocks, kept.encoding), None
        dest.store.write_blocks(target, blocks, kept, size=size)
        return info.size or 0


def _target(source: Place, dest: Place, name: str, new_name: str, reencode: str | None) -> str:
    """Return the name of a copy in its store; a suffix that its file will get is not doubled."""
    if posixpath.splitext(new_name)[1] not in codecs.SUFFIXES.values() or dest.protocol != "file":
        return dest.key(new_name)
    info = source.info(name)
    encoding = info.attributes.encoding if info is not None else None
    return dest.target(new_name, encoding if reencode is None else codecs.canonical(reencode))


def pairs(paths: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of objects and of their copies."""
    for item in paths:
        if isinstance(item, str):
            yield item, item
        elif isinstance(item, dict):
            yield item["path"], item.get("dest_path") or item["path"]
        else:
            name, new_name = item
            yield name, new_name or name


def transfer(copy: Copy, paths: Iterable[Any], threads: int, bar: Bar) -> TransmissionMonitor:
    """Copy many objects; the first error ends it.

    Parameters
    ----------
    paths : iterable
        See `pairs`.
    """
    for _ in each(copy.one, pairs(paths), threads, bar):
        pass
    return copy.monitor


def move(source: CloudFiles, dest: CloudFiles) -> Callable[[tuple[str, str]], None]:
    """Return what moves one object."""

    def one(pair: tuple[str, str]) -> None:
        name, new_name = pair
        here, there = source.place, dest.place
        if there.protocol == "file" and os.path.isdir(there.local(new_name)):
            new_name = posixpath.join(new_name, posixpath.basename(name))
        target = _target(here, there, name, new_name, None)
        here.store.move(here.key(name), target, there.store)

    return one


class ResumableTransfer:
    """A bulk copy that may be interrupted and shared by several processes.

    What is done is kept in a file, in the format of `pkgdata.stores.job`.

    Parameters
    ----------
    db_path : str
    lease_msec : int
        Taken for cloud-files' sake: what a process has taken comes free when that process ends.
    """

    def __init__(self, db_path: str, lease_msec: int = 0) -> None:
        self.db_path = os.fspath(db_path)

    def init(self, src: str, dest: str, paths: Any = None, reencode: Any = None) -> None:
        """Note what is to be copied, once.

        Parameters
        ----------
        src, dest : str
        paths : iterable of str, CloudFiles or str, optional
            A cloudpath means all below it.
        reencode : str, optional
        """
        import json

        from ...stores.job import Job
        from .files import CloudFiles

        self.close()
        if paths is None or isinstance(paths, str):
            paths = CloudFiles(paths or src)
        with Job(self.db_path, json.dumps([src, dest, reencode])) as job:
            job.plan(pairs(paths))

    def execute(self, progress: Any = False, block_size: int = 200) -> None:
        """Copy what is left.

        Parameters
        ----------
        progress : bool or str
        block_size : int
            Taken for cloud-files' sake.

        Raises
        ------
        StoreError
            The first that came up; what failed is tried again by the next call.
        """
        import json

        from ...stores.job import Job
        from .files import CloudFiles

        words = self._words()
        src, dest, reencode = json.loads(words)
        source, to = CloudFiles(src), CloudFiles(dest)
        copy = Copy(source, to, reencode)
        failure: Exception | None = None
        with Job(self.db_path, words) as job, Bar(progress, "Transfer", None, job.left()) as bar:
            job.plan(())  # puts back what ended processes took, and what failed
            for pair, _, error in pool.run(copy.one, job.take(), source.threads):
                job.done(pair, error)
                failure = failure or error
                bar.update(1)
        if failure is not None:
            raise failure

    def _words(self) -> str:
        """Return what is copied where, as it was noted."""
        import sqlite3

        if not os.path.exists(self.db_path):
            raise ConfigError(f"{self.db_path}: no such job", hint="call init() first")
        try:
            database = sqlite3.connect(self.db_path)
            try:
                row = database.execute("select value from meta where key='job'").fetchone()
            finally:
                database.close()
        except sqlite3.Error as error:
            raise StoreError(f"{self.db_path}: not a job: {error}") from error
        return str(row[0])

    def __len__(self) -> int:
        from ...stores.job import Job

        with Job(self.db_path, self._words()) as job:
            return job.left()

    def close(self) -> None:
        """Remove the file."""
        from ...base import fs

        for suffix in ("", "-wal", "-shm"):
            fs.remove(self.db_path + suffix)
