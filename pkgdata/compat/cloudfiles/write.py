"""Writing, copying and removing objects, in cloud-files' words."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import enum
import json
import os
import posixpath
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...base import pool
from ...errors import ConfigError, ObjectNotFoundError
from ...stores import codecs
from ...stores.copying import Recipe
from . import compression
from .monitor import IOEnum, TransmissionMonitor, recorded
from .paths import listed
from .place import Arguments, CloudPlace, each

#: Names that go into one call of the store's bulk deletion.
_DELETED_AT_ONCE = 1000
#: Options of a call, or of one file in it.
_ATTRIBUTES = ("content_type", "cache_control", "storage_class")
_COMPRESSION = ("compress", "compression_level")


class Writing(Arguments):
    """The calls that change objects."""

    def puts(
        self,
        files: Any,
        *,
        content_type: str | None = None,
        cache_control: str | None = None,
        storage_class: str | None = None,
        compress: Any = None,
        compression_level: int | None = None,
        raw: bool = False,
        total: int | None = None,
        progress: Any = None,
        parallel: Any = 1,
        return_recording: bool = False,
    ) -> Any:
        """Write one object or many.

        Parameters
        ----------
        files : (str, content) or dict, or iterable of them
            A mapping has ``"path"`` and ``"content"`` and may have, for itself, the options down to
            ``compression_level``.
        content_type, cache_control, storage_class : str, optional
            What the service keeps with an object.
        compress : str or bool, optional
            ``"gzip"``, ``"br"``, ``"zstd"``, ``"xz"`` or ``"bzip2"``; True means gzip.
        compression_level : int, optional
            By default 9 for gzip and the encoding's own for others.
        raw : bool, default False
            The contents are compressed already, as ``compress`` says.
        total, progress, parallel
            See `get`.
        return_recording : bool, default False
            Return a `TransmissionMonitor` too.

        Returns
        -------
        int
            How many were written.

        Raises
        ------
        UnsupportedCompressionType
            An encoding is not known.
        ConfigError
            A name is given twice.
        StoreError
            An object cannot be written.
        """
        options = _kept(locals())
        compression.canonical(compress)  # report a wrong word before anything is written
        monitor = TransmissionMonitor(IOEnum.TX)
        files, many = _files(files)
        _refuse_duplicates(files)
        count = self._processes(parallel) if many else 1
        with self._bar("Upload", progress if many else False, files, total) as bar:
            if count > 1:
                written = len(self._spread("puts", files, count, bar, raw=raw, **options))
            else:

                def upload(file: Any) -> None:
                    self._upload({**options, **_as_dict(file)}, raw, monitor)

                with self.place.store.bulk() if many else contextlib.nullcontext():
                    written = sum(1 for _ in each(upload, files, self._writers, bar))
        return (written, monitor) if return_recording else written

    def _upload(self, file: dict[str, Any], raw: bool, monitor: TransmissionMonitor) -> None:
        kept = {key: file[key] for key in _ATTRIBUTES}
        level = file["compression_level"]
        with recorded(monitor) as end_io:
            content, compress = file["content"], file["compress"]
            end_io(self.place.write(file["path"], content, compress, raw, level, **kept))

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
        options = _kept(locals())
        return int(self.puts({"path": path, "content": content}, raw=raw, **options))

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
        return_recording : bool, default False
            See `puts`.

        Returns
        -------
        int
            See `puts`.
        """
        options = _kept(locals())
        many = _files(files)[0]
        if total is None and hasattr(many, "__len__"):
            total = len(many)
        return self.puts(
            ({**_as_dict(one), "content": jsonify(_as_dict(one)["content"])} for one in many),
            **options,
            content_type="application/json",
            raw=raw,
            total=total,
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
        options = _kept(locals())
        return self.put(path, jsonify(content), "application/json", **options)

    def touch(
        self, paths: Any, progress: Any = None, total: int | None = None, nocopy: bool = False
    ) -> None:
        """Create empty objects where there are none; others stay as they are.

        Parameters
        ----------
        paths : str or dict, or iterable of them
        progress, total
            See `get`.
        nocopy : bool
            Accepted without effect, as in cloud-files.
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
        """Remove one object or many; a missing one is no error.

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
                return len(self._spread("delete", asked, count, bar))
            for part in pool.chunks(asked, _DELETED_AT_ONCE):
                self.place.store.delete([self.place.key(name) for name in part])
                bar.update(len(part))
                done += len(part)
        return done


def _kept(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a call's arguments that say how objects are stored."""
    return {key: arguments[key] for key in (*_ATTRIBUTES, *_COMPRESSION) if key in arguments}


def _files(files: Any) -> tuple[Any, bool]:
    """Return one file or many as many, and whether it was many; (name, content) is one."""
    if isinstance(files, tuple) and len(files) == 2 and isinstance(files[0], str):
        return [files], False
    return listed(files)


def _as_dict(file: Any) -> dict[str, Any]:
    if isinstance(file, (tuple, list)):
        path, content = file
        return {"path": path, "content": content}
    return dict(file)


def _refuse_duplicates(files: Any) -> None:
    """Refuse to write a name twice at once; of a generator that cannot be known before."""
    if not isinstance(files, (tuple, list)):
        return
    counts = collections.Counter(_as_dict(file)["path"] for file in files)
    double = [path for path, count in counts.items() if count > 1]
    if double:
        raise ConfigError(
            "Cannot write the same file multiple times in one pass. This causes a race condition. "
            f"Files: {', '.join(sorted(double))}"
        )


# -- JSON ----------------------------------------------------------------------------------------


def jsonify(value: Any) -> bytes:
    """Write JSON as cloud-files does: compact UTF-8, NumPy's numbers and arrays included."""
    try:
        return _dumps(value)
    except (TypeError, ValueError):
        return _dumps(_plain(value))


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    """Return what JSON has words for; it has none for NaN, which becomes null."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):  # of NumPy
        return _plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


# -- from one place to another -------------------------------------------------------------------


@dataclasses.dataclass(eq=False)
class ObjectCopy:
    """Copies objects; `reencode` None leaves stored bytes as they are, ``""`` stores them plain."""

    _source: CloudPlace
    _dest: CloudPlace
    _reencode: Any = None
    _content_type: str | None = None
    _allow_missing: bool = False

    def __post_init__(self) -> None:
        if self._reencode is not None:
            self._reencode = compression.canonical(self._reencode) or "none"
        self.monitor = TransmissionMonitor(IOEnum.TX)

    def one(self, pair: tuple[str, str]) -> None:
        """Copy an object, given its name and the copy's."""
        try:
            with recorded(self.monitor) as end_io:
                end_io(self._copied(*pair))
        except ObjectNotFoundError:
            if not self._allow_missing:
                raise

    def _copied(self, name: str, new_name: str) -> int:
        source, dest = self._source, self._dest
        key, target = source.key(name), _target(source, dest, name, new_name, self._reencode)
        if self._content_type is not None:
            return self._typed(key, target)
        count = Recipe(self._reencode).copy(source.store, key, dest.store, target) or 0
        if not count and dest.protocol == "file":  # elsewhere asking would be a request more
            count = dest.store.size(target) or 0
        return count

    def _typed(self, key: str, target: str) -> int:
        """Copy with another content type, which no service does by itself."""
        store = self._source.store
        info = store.trying(lambda: store.info(key))
        kept = info.attributes.replaced(content_type=self._content_type)
        blocks: Any = store.blocks(key)
        size = info.size
        if self._reencode is not None:
            blocks = codecs.decode_blocks(blocks, kept.encoding, store.address(key))
            kept = kept.replaced(encoding=codecs.canonical(self._reencode))
            blocks, size = codecs.encode_blocks(blocks, kept.encoding), None
        self._dest.store.write_blocks(target, blocks, kept, size=size)
        return info.size or 0


def _target(
    source: CloudPlace, dest: CloudPlace, name: str, new_name: str, reencode: str | None
) -> str:
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


def moved(source: CloudPlace, dest: CloudPlace, pair: tuple[str, str]) -> None:
    """Move an object, given its name and the new one."""
    name, new_name = pair
    if dest.protocol == "file" and os.path.isdir(dest.local(new_name)):
        new_name = posixpath.join(new_name, posixpath.basename(name))
    target = _target(source, dest, name, new_name, None)
    source.store.move(source.key(name), target, dest.store)
