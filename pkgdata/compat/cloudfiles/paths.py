"""URLs as cloud-files reads and writes them: its module ``paths``.

A *cloudpath* is ``[FORMAT://]PROTOCOL://[ENDPOINT/]BUCKET/PATH``, a plain path, or one that begins
with an alias of an endpoint. Aliases are kept in cloud-files' own file, which both libraries read.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...base import fs
from ...base.report import read_json
from ...base.urls import redact, scheme
from ...errors import ConfigError
from .exceptions import UnsupportedProtocolError

PRECOMPUTED_SUFFIX = "|neuroglancer-precomputed:"

OFFICIAL_ALIASES = {
    "nokura": "s3://https://c10s.pni.princeton.edu/",
    "matrix": "s3://https://s3-hpcrc.rc.princeton.edu/",
    "tigerdata": "s3://https://td.princeton.edu/",
}

#: Endpoints by their short names.
ALIASES = dict(OFFICIAL_ALIASES)

#: ``az`` is pkgdata's own; the last two are recognised, and refused where they would be used.
BASE_ALLOWED_PROTOCOLS = (
    *("gs", "file", "s3", "az", "http", "https", "mem"),
    *("middleauth+https", "ngauth+https"),
)

ALLOWED_FORMATS = (
    *("graphene", "precomputed", "boss", "n5", "zarr", "zarr2", "zarr3", "brainmaps"),
    *("deepzoom", "nggraph", "render", "vtk", "nifti", "dvid"),
)

#: Protocols whose URLs name a bucket.
CLOUD_PROTOCOLS = ("gs", "s3", "az", *OFFICIAL_ALIASES)

_BUCKET = r"^(/?[~\d\w_\.\-]+(?::\d+)?)(?:/|$)"

#: What the file of aliases holds, once it has been read.
_from_file: dict[str, dict[str, str]] | None = None


class ExtractedPath(NamedTuple):
    """The parts of a cloudpath."""

    format: str | None
    protocol: str
    bucket: str | None
    path: str | None
    host: str | None
    alias: str | None


def _unsupported(cloudpath: str) -> UnsupportedProtocolError:
    return UnsupportedProtocolError(
        f"{redact(cloudpath)}: expected [FORMAT://]PROTOCOL://PATH",
        hint=f"protocols: {', '.join((*BASE_ALLOWED_PROTOCOLS, *ALIASES))}",
    )


def listed(items: Any) -> tuple[Any, bool]:
    """Return an argument that may be one item or many as many, and whether it was many."""
    if isinstance(items, (str, dict)) or not hasattr(items, "__iter__"):
        return [items], False
    return items, True


# -- aliases -------------------------------------------------------------------------------------


def _alias_file() -> str:
    base = os.environ.get("CLOUD_FILES_DIR") or os.path.expanduser("~/.cloudfiles")
    return os.path.join(base, "aliases.json")


def _read_aliases() -> dict[str, dict[str, str]]:
    global _from_file
    if _from_file is None:
        path = _alias_file()
        try:
            empty = not os.path.getsize(path)
            found = {} if empty else read_json(path, lambda why: ConfigError(f"{path}: {why}"))
        except FileNotFoundError:
            found = {}
        try:
            hosts = {alias: str(value["host"]) for alias, value in found.items()}
        except (AttributeError, KeyError, TypeError):
            raise ConfigError(f'{path}: expected {{"ALIAS": {{"host": "URL"}}}}') from None
        for alias, host in hosts.items():
            add_alias(alias, host)
        _from_file = found
    return _from_file


def add_alias(alias: str, host: str) -> None:
    """Let ``ALIAS://bucket`` mean ``HOST/bucket`` in this process; HOST as in `ALIASES`."""
    if alias in BASE_ALLOWED_PROTOCOLS or alias in ALLOWED_FORMATS:
        raise ValueError(f"{alias!r} is the name of a protocol or format and cannot be an alias")
    ALIASES[alias] = host if host.endswith("/") else f"{host}/"


def remove_alias(alias: str) -> None:
    """Forget an alias in this process."""
    ALIASES.pop(alias, None)


def add_persistent_alias(alias: str, host: str) -> None:
    """Add an alias for later processes too."""
    known = _read_aliases()
    add_alias(alias, host)
    _write_aliases({**known, alias: {"host": host}})


def remove_persistent_alias(alias: str) -> None:
    """Remove an alias for later processes too."""
    known = _read_aliases()
    remove_alias(alias)
    _write_aliases({name: value for name, value in known.items() if name != alias})


def _write_aliases(known: dict[str, dict[str, str]]) -> None:
    global _from_file
    path = _alias_file()
    fs.make_dirs(os.path.dirname(path), follow=False)
    fs.write_blocks(path, [json.dumps(known).encode()])
    _from_file = known


# -- taking apart --------------------------------------------------------------------------------


def _split(cloudpath: str) -> tuple[str | None, str | None, str]:
    """Return the format, the protocol or alias, and the rest."""
    fmt = None
    head, found, rest = cloudpath.partition("://")
    if found and head in ALLOWED_FORMATS:
        fmt, cloudpath = head, rest
        head, found, rest = cloudpath.partition("://")
    if found and head not in BASE_ALLOWED_PROTOCOLS and head not in ALIASES:
        _read_aliases()
    if found and (head in BASE_ALLOWED_PROTOCOLS or head in ALIASES):
        return fmt, head, rest
    return fmt, None, cloudpath


def refuse_unknown(cloudpath: str) -> str:
    """Refuse an unknown protocol, which would otherwise name a folder of this computer."""
    if "://" in cloudpath and scheme(cloudpath) and get_protocol(_tail_format(cloudpath)) is None:
        raise _unsupported(cloudpath)
    return cloudpath


def get_protocol(cloudpath: str) -> str | None:
    """Return the protocol or alias that a cloudpath begins with."""
    return _split(cloudpath)[1]


def resolve_alias(cloudpath: str) -> tuple[str | None, str]:
    """Return the alias that a cloudpath begins with, and the cloudpath with its endpoint."""
    alias = get_protocol(cloudpath)
    if alias is None or alias not in ALIASES:
        return None, cloudpath
    return alias, cloudpath.replace(f"{alias}://", ALIASES[alias], 1)


def _tail_format(cloudpath: str) -> str:
    """Move a format that stands behind the path, as ``|zarr2:``, to the front."""
    cloudpath = cloudpath.removesuffix(PRECOMPUTED_SUFFIX)
    found = re.search(r"\|([\w-]+):$", cloudpath)
    return cloudpath if found is None else f"{found[1]}://{cloudpath[: found.start()]}"


def normalize(path: str) -> str:
    """Write a path as a cloudpath with a protocol."""
    path = _tail_format(path)
    fmt, protocol, rest = _split(path)
    if protocol is not None:
        return path
    return f"{fmt}://file://{_absolute(rest)}" if fmt else f"file://{_absolute(rest)}"


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _host_and_path(cloudpath: str) -> tuple[str, str]:
    scheme, _, rest = cloudpath.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}", path


def extract(cloudpath: str, windows: bool | None = None) -> ExtractedPath:
    """Take a cloudpath apart; `windows`: whether paths of files are Windows'."""
    if not cloudpath:
        return ExtractedPath("", "", "", "", "", None)
    alias, resolved = resolve_alias(_tail_format(cloudpath))
    fmt, protocol, path = _split(resolved)
    if protocol is None:
        raise _unsupported(cloudpath)
    host = bucket = None
    plain = protocol.rpartition("+")[2]
    if plain in ("http", "https"):
        host, path = _host_and_path(f"{plain}://{path}")
    elif protocol == "s3" and path.startswith(("http://", "https://")):
        host, path = _host_and_path(path)
    elif protocol == "file" and not (sys.platform == "win32" if windows is None else windows):
        path = _absolute(path)
    if protocol in (*CLOUD_PROTOCOLS, "mem"):
        bucket, path = _bucket(path, cloudpath)
    if path.partition("://")[1] and path.partition("://")[0].isidentifier():
        raise _unsupported(cloudpath)
    return ExtractedPath(fmt or "precomputed", protocol, bucket, path, host, alias)


def _bucket(path: str, cloudpath: str) -> tuple[str, str]:
    found = re.match(_BUCKET, path)
    if found is None:
        raise _unsupported(cloudpath)
    return found[1].replace("/", ""), path[found.end(1) :].removeprefix("/")


# -- putting together ----------------------------------------------------------------------------


def _module(path: str) -> Any:
    return os.path if get_protocol(path) in (None, "file") else posixpath


def dirname(path: str) -> str:
    """Return what is before the last slash."""
    return str(_module(path).dirname(path))


def basename(path: str) -> str:
    """Return what is behind the last slash."""
    return str(_module(path).basename(path))


def asfilepath(epath: str | ExtractedPath) -> str:
    """Return the plain path of a ``file`` cloudpath."""
    epath = extract(epath) if isinstance(epath, str) else epath
    if epath.protocol != "file":
        raise ValueError(f'{epath.protocol} protocol must be "file".')
    return os.path.join("", *filter(None, (epath.bucket, epath.path)))


def asprotocolpath(epath: ExtractedPath) -> str:
    """Return the cloudpath without its format."""
    host = None if epath.alias else epath.host
    path = posixpath.join("", *filter(None, (host, epath.bucket, epath.path)))
    if epath.alias:
        return f"{epath.alias}://{path}"
    if path.startswith("http") and epath.protocol in ("http", "https"):
        return path
    return f"{epath.protocol}://{path}"


def ascloudpath(epath: ExtractedPath) -> str:
    """Return the whole cloudpath."""
    path = asprotocolpath(epath)
    return f"{epath.format}://{path}" if epath.format else path


def asbucketpath(cloudpath: str | ExtractedPath) -> str:
    """Return the cloudpath of the bucket alone."""
    epath = extract(cloudpath) if isinstance(cloudpath, str) else cloudpath
    return ascloudpath(epath._replace(path=None))


def to_https_protocol(cloudpath: Any) -> Any:
    """Return the public web address of a bucket, as str or `ExtractedPath` like the argument."""
    if isinstance(cloudpath, ExtractedPath):
        if cloudpath.protocol not in CLOUD_PROTOCOLS:
            return cloudpath
        return extract(to_https_protocol(ascloudpath(cloudpath)))
    get_protocol(cloudpath)  # reads the file of aliases if this may be one of them
    if "s3://http://" in cloudpath or "s3://https://" in cloudpath:
        return cloudpath.replace("s3://", "", 1)
    cloudpath = cloudpath.replace("gs://", "https://storage.googleapis.com/", 1)
    cloudpath = cloudpath.replace("s3://", "https://s3.amazonaws.com/", 1)
    for alias, host in ALIASES.items():
        cloudpath = cloudpath.replace(f"{alias}://", host, 1)
    return cloudpath.replace("s3://", "", 1)


def find_common_buckets(cloudpaths: Iterable[Any] | str) -> dict[str, list[dict[str, Any]]]:
    """Sort cloudpaths, or dicts of ``"path"`` and a range, by their buckets."""
    found: dict[str, list[dict[str, Any]]] = {}
    for item in listed(cloudpaths)[0]:
        asked: dict[str, Any] = item if isinstance(item, dict) else {"path": item}
        start, end = asked.get("byte_range") or (asked.get("start"), asked.get("end"))
        epath = extract(normalize(refuse_unknown(asked["path"])))
        if epath.protocol == "file":
            parts = asfilepath(epath).split(os.sep)
            bucket, path = f"file://{os.sep.join(parts[:2])}", os.sep.join(parts[2:])
            if not path:  # a file in the root itself
                bucket, path = "file:///", parts[1]
        else:
            bucket, path = asbucketpath(epath), epath.path or ""
        found.setdefault(bucket, []).append({"path": path, "start": start, "end": end})
    return found
