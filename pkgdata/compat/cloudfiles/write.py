"""Writing and removing objects, in cloud-files' words."""

from __future__ import annotations

import contextlib

from ...base import pool
from ...errors import ConfigError
from . import compression
from .base import Base
from .many import each, jsonify, listed, spread
from .monitor import IOEnum, TransmissionMonitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Names that go into one call of the store's bulk deletion.
_DELETED_AT_ONCE = 1000


class Writing(Base):
    """What changes objects."""

    def puts(
        self,
        files: Any,
        *,
        content_type: str | None = None,
        compress: Any = None,
        compression_level: int | None = None,
        cache_control: str | None = None,
        total: int | None = None,
        raw: bool = False,
        progress: Any = None,
        parallel: Any = 1,
        storage_class: str | None = None,
        return_recording: bool = False,
    ) -> Any:
        """Write one object or many.

        Parameters
        ----------
        files : (str, content) or dict, or iterable of them
            A mapping has ``"path"`` and ``"content"`` and, if wanted, the options below for itself.
        content_type, cache_control, storage_class : str, optional
        compress : str or bool, optional
            ``"gzip"``, ``"br"``, ``"zstd"``, ``"xz"`` or ``"bzip2"``; True means gzip.
        compression_level : int, optional
        total, progress, parallel
            See `get`.
        raw : bool
            The contents are compressed already, as ``compress`` says.
        return_recording : bool
            Return a `TransmissionMonitor` too.

        Returns
        -------
        int
            How many were written.
        """
        options = {
            "content_type": content_type,
            "compress": compress,
            "compression_level": compression_level,
            "cache_control": cache_control,
            "storage_class": storage_class,
        }
        compression.canonical(compress)  # a wrong word is told before anything is written
        monitor = TransmissionMonitor(IOEnum.TX)
        single = isinstance(files, tuple) and len(files) == 2 and isinstance(files[0], str)
        files, many = ([files], False) if single else listed(files)
        _refuse_duplicates(files)
        count = self._processes(parallel) if many else 1
        with self._bar("Upload", progress if many else False, files, total) as bar:
            if count > 1:
                written = len(spread(self, "puts", files, count, bar, raw=raw, **options))
            else:

                def upload(file: Any) -> None:
                    self._upload({**options, **_as_dict(file)}, raw, monitor)

                with self.place.store.bulk() if many else contextlib.nullcontext():
                    written = sum(1 for _ in each(upload, files, self._writers, bar))
        return (written, monitor) if return_recording else written

    def _upload(self, file: dict[str, Any], raw: bool, monitor: TransmissionMonitor) -> None:
        flight = monitor.start_io()
        try:
            size = self.place.write(
                file["path"],
                file["content"],
                file["compress"],
                raw,
                file["compression_level"],
                content_type=file["content_type"],
                cache_control=file["cache_control"],
                storage_class=file["storage_class"],
            )
        except BaseException:
            monitor.end_error(flight)
            raise
        monitor.end_io(flight, size)

    def put(
        self,
        path: str,
        content: Any,
        content_type: str | None = None,
        compress: Any = None,
        compression_level: int | None = None,
        cache_control: str | None = None,
        raw: bool = False,
        storage_class: str | None = None,
    ) -> int:
        """Write one object.

        Parameters
        ----------
        path : str
        content : bytes-like, str or binary file object
        content_type, compress, compression_level, cache_control, raw, storage_class
            See `puts`.

        Returns
        -------
        int
            1
        """
        file = {
            "path": path,
            "content": content,
            "content_type": content_type,
            "compress": compress,
            "compression_level": compression_level,
            "cache_control": cache_control,
            "storage_class": storage_class,
        }
        return int(self.puts(file, raw=raw))

    def put_jsons(
        self,
        files: Any,
        compress: Any = None,
        compression_level: int | None = None,
        cache_control: str | None = None,
        total: int | None = None,
        raw: bool = False,
        progress: Any = None,
        parallel: Any = 1,
        storage_class: str | None = None,
        return_recording: bool = False,
    ) -> Any:
        """Write one or many objects as JSON.

        Parameters
        ----------
        files : (str, object) or dict, or iterable of them
        compress, compression_level, cache_control, total, raw, progress, parallel, storage_class
            See `puts`.
        return_recording : bool

        Returns
        -------
        int
            See `puts`.
        """
        single = isinstance(files, tuple) and len(files) == 2 and isinstance(files[0], str)
        many = [files] if single else listed(files)[0]
        if total is None and hasattr(many, "__len__"):
            total = len(many)
        return self.puts(
            ({**_as_dict(one), "content": jsonify(_as_dict(one)["content"])} for one in many),
            compress=compress,
            compression_level=compression_level,
            content_type="application/json",
            cache_control=cache_control,
            storage_class=storage_class,
            total=total,
            raw=raw,
            progress=progress,
            parallel=parallel,
            return_recording=return_recording,
        )

    def put_json(
        self,
        path: str,
        content: Any,
        compress: Any = None,
        compression_level: int | None = None,
        cache_control: str | None = None,
        storage_class: str | None = None,
    ) -> int:
        """Write an object as JSON.

        Parameters
        ----------
        path : str
        content : object
        compress, compression_level, cache_control, storage_class
            See `puts`.

        Returns
        -------
        int
            1
        """
        return self.put(
            path,
            jsonify(content),
            "application/json",
            compress,
            compression_level,
            cache_control,
            storage_class=storage_class,
        )

    def touch(
        self, paths: Any, progress: Any = None, total: int | None = None, nocopy: bool = False
    ) -> None:
        """Make empty objects where there are none; others stay as they are.

        Parameters
        ----------
        paths : str or dict, or iterable of them
        progress, total
            See `get`.
        nocopy : bool
            Taken and not used, as in cloud-files.
        """
        asked = listed(paths)[0]
        with self._bar("Touch", progress, asked, total) as bar:
            names = (item["path"] if isinstance(item, dict) else item for item in asked)
            keys = (self.place.key(name) for name in names)
            for _ in each(self.place.store.touch, keys, self.threads, bar):
                pass

    def delete(
        self, paths: Any, total: int | None = None, progress: Any = None, parallel: Any = 1
    ) -> int:
        """Remove one object or many; what is not there is no error.

        Parameters
        ----------
        paths : str, or iterable of str
        total, progress, parallel
            See `get`.

        Returns
        -------
        int
            How many names were given.
        """
        asked, many = listed(paths)
        count, done = self._processes(parallel) if many else 1, 0
        with self._bar("Delete", progress, asked, total) as bar:
            if count > 1:
                return len(spread(self, "delete", asked, count, bar))
            for part in pool.chunks(asked, _DELETED_AT_ONCE):
                self.place.store.delete([self.place.key(name) for name in part])
                bar.update(len(part))
                done += len(part)
        return done


def _as_dict(file: Any) -> dict[str, Any]:
    if isinstance(file, (tuple, list)):
        path, content = file
        return {"path": path, "content": content}
    return dict(file)


def _refuse_duplicates(files: Any) -> None:
    """Refuse to write a name twice at once; of a generator that cannot be known before."""
    if not isinstance(files, (tuple, list)):
        return
    from collections import Counter

    counts = Counter(_as_dict(file)["path"] for file in files)
    double = [path for path, count in counts.items() if count > 1]
    if double:
        raise ConfigError(
            "Cannot write the same file multiple times in one pass. This causes a race condition. "
            f"Files: {', '.join(sorted(double))}"
        )
