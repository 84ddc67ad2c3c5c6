"""cloud-files' names on pkgdata's stores: ``from pkgdata.compat.cloudfiles import CloudFiles``.

The same calls give the same results, in the same shapes, and each library reads the objects that
the other has written, compressed ones too. New: on every store a wrong checksum or a transfer that
ends early is an error, files appear whole or not at all, and credentials are found where the
provider's own tools find them. ``docs/howto/cloudfiles.md`` lists what differs on purpose.
"""

from __future__ import annotations

import posixpath
from typing import Any

from ...stores.other import _contents
from . import compression, exceptions, paths
from .compression import transcode
from .files import CloudFile, CloudFiles, ResumableTransfer
from .monitor import IOEnum, TransmissionMonitor, bar_of

__all__ = [
    "CloudFile",
    "CloudFiles",
    "IOEnum",
    "ResumableTransfer",
    "TransmissionMonitor",
    "clear_memory",
    "compression",
    "dl",
    "exceptions",
    "paths",
    "reset_connection_pools",
    "transcode",
]


def dl(cloudpaths: Any, raw: bool = False, **kwargs: Any) -> Any:
    """Read objects by their full cloudpaths, from several places at once.

    Parameters
    ----------
    cloudpaths : str or dict, or iterable of them
        A mapping has ``"path"`` and ``"byte_range"``.
    raw : bool, default False
        Return stored bytes as they are.
    **kwargs
        See `CloudFiles`.

    Returns
    -------
    dict, or list of dict
        Records as those of `CloudFiles.get`, sorted by bucket, with ``"fullpath"``.
    """
    many = paths.listed(cloudpaths)[1]
    progress = kwargs.pop("progress", False)
    buckets = paths.find_common_buckets(cloudpaths)
    total = sum(map(len, buckets.values()))
    found: list[dict[str, Any]] = []
    with bar_of(progress and total > 1, "Downloading", None, total) as bar:
        for bucket, asked in buckets.items():
            for record in CloudFiles(bucket, **kwargs).get(asked, raw=raw, progress=bar):
                record["fullpath"] = posixpath.join(bucket, record["path"])
                found.append(record)
    return found if many else found[0]


def clear_memory() -> None:
    """Forget all that was put into ``mem://``."""
    for objects in _contents.values():
        objects.clear()


def reset_connection_pools() -> None:
    """Forget all that was put into ``mem://``; connections need no reset."""
    clear_memory()
