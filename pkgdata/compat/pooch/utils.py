"""What pooch offers besides downloading: names, places, versions, hashes, registries."""

from __future__ import annotations

import os
import sys

from ...base import dirs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def words(text: str) -> list[str]:
    """Split a line of a registry as a shell would."""
    if text.isascii() and text.isprintable() and not any(mark in text for mark in "\"'\\"):
        return text.split()  # the same, and a hundred times faster
    import shlex

    return shlex.split(text)


def joined(path: Any) -> str:
    """Return a path given as a text, a path or its parts."""
    return os.path.join(*path) if isinstance(path, (list, tuple)) else str(path)


def location(path: Any, env: str | None = None, version: str | None = None) -> Path:
    """Return the folder of a storage; a variable may replace it, a version is appended."""
    from pathlib import Path

    chosen = joined((os.environ.get(env) if env else None) or path)
    if version is not None:
        chosen = os.path.join(chosen, version)
    return Path(os.path.expanduser(chosen))


def unique_name(url: str) -> str:
    """Return pooch's name for a URL: MD5 of the URL, a dash, the URL's last part."""
    from urllib.parse import urlsplit

    from ...base import hashes

    digest = hashes.short_key(url)
    last = (url if url.startswith("doi:") else urlsplit(url).path).split("/")[-1]
    return f"{digest}-{last[-(255 - len(digest) - 1) :]}"


def os_cache(project: str) -> Path:
    """Return the folder of a project in the user's cache folder.

    Parameters
    ----------
    project : str

    Returns
    -------
    pathlib.Path
    """
    from pathlib import Path

    from ...errors import CacheError

    if sys.platform == "linux":
        try:
            return Path(dirs.user_cache(), project)
        except CacheError:
            pass  # without a home directory pooch's answer is a path that cannot be used
    import platformdirs

    return Path(platformdirs.user_cache_dir(project))


def check_version(version: str, fallback: str = "master") -> str:
    """Return a version, or the fallback if it is one of development.

    Parameters
    ----------
    version : str
        As PEP 440 has it.
    fallback : str, default ``"master"``

    Returns
    -------
    str

    Raises
    ------
    packaging.version.InvalidVersion
        It is no version.
    """
    from packaging.version import Version

    return version if Version(version).local is None else fallback


def file_hash(fname: str | os.PathLike[str], alg: str = "sha256") -> str:
    """Return the hash of a file in hexadecimal digits.

    Parameters
    ----------
    fname : path-like
    alg : str, default ``"sha256"``

    Returns
    -------
    str

    Raises
    ------
    ValueError
        The algorithm is not known.
    """
    from ...base import hashes

    if alg in hashes.HEX_LENGTH:
        return hashes.hash_file(fname, alg).hex
    from .bring import pooch_module

    found: str = pooch_module("hashes").file_hash(fname, alg)  # what OpenSSL has beyond ours
    return found


def make_registry(
    directory: str | os.PathLike[str], output: str | os.PathLike[str], recursive: bool = True
) -> None:
    """Write the registry of a directory: a name and its SHA-256 a line.

    Parameters
    ----------
    directory : path-like
    output : path-like
    recursive : bool, default True
        Go into subdirectories.
    """
    import shlex

    from ...base import hashes
    from ...core import scan

    folder = os.fspath(directory)
    if recursive:
        found = {entry.name: entry.digest for entry in scan.make(folder).values()}
    else:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
        found = {name: hashes.hash_file(os.path.join(folder, name)) for name in names}
    with open(output, "w", encoding="utf-8") as file:
        for name, digest in found.items():
            file.write(f"{shlex.quote(name)} {digest.hex if digest else ''}\n")
