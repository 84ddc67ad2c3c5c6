"""Downloads as a ZIP archive, for another machine; astropy reads and writes the same."""

from __future__ import annotations

import os

from ...base import fs
from .contents import cache_of, checked, get_cached_urls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from typing import IO, Any


def export_download_cache(
    filename_or_obj: str | os.PathLike[str] | IO[bytes],
    urls: Iterable[str] | None = None,
    overwrite: bool = False,
    pkgname: str = "astropy",
) -> None:
    """Write downloads into a ZIP archive; a member's name is the quoted URL.

    Parameters
    ----------
    filename_or_obj : path-like or binary file
    urls : iterable of str, optional
        All that are cached, by default.
    overwrite : bool, default False
        The archive may exist.
    pkgname : str, default ``"astropy"``
        Whose cache.

    Raises
    ------
    KeyError
        A URL is not cached; nothing is written then.
    FileExistsError
        The archive exists.
    """
    from urllib.parse import quote

    cache = cache_of(pkgname)
    wanted = get_cached_urls(pkgname) if urls is None else list(urls)
    members: dict[str, str] = {}
    for url in wanted:
        path = cache.find(checked(url))
        if path is None:
            raise KeyError(f"{url} is not in the cache of {pkgname}")
        members[quote(url, safe="")] = path
    if isinstance(filename_or_obj, (str, os.PathLike)):
        _write_archive_file(os.fspath(filename_or_obj), members, overwrite)
    else:
        _write_archive(filename_or_obj, members)


def _write_archive_file(target: str, members: Mapping[str, str], overwrite: bool) -> None:
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(f"the archive exists and is not overwritten: {target}")
    with (
        fs.writing(target, sync=False, if_absent=not overwrite) as fd,
        open(fd, "wb", closefd=False) as file,
    ):
        _write_archive(file, members)


def _write_archive(file: IO[bytes], members: Mapping[str, str]) -> None:
    import zipfile

    # a file from before 1980 gets that year instead of an error
    with zipfile.ZipFile(file, "w", strict_timestamps=False) as archive:
        for name, path in members.items():
            archive.write(path, name)


def import_download_cache(
    filename_or_obj: str | os.PathLike[str] | IO[bytes],
    urls: Container[str] | None = None,
    update_cache: bool = False,
    pkgname: str = "astropy",
) -> None:
    """Take over the downloads of an archive that `export_download_cache` wrote.

    Parameters
    ----------
    filename_or_obj : path-like or binary file
    urls : container of str, optional
        All of the archive's, by default.
    update_cache : bool, default False
        They take the place of what is cached.
    pkgname : str, default ``"astropy"``
        Whose cache.

    Raises
    ------
    ValueError
        A member's name is no URL; nothing is taken over then.
    """
    import zipfile
    from urllib.parse import unquote

    from ...cache.unpinned import Scratch

    cache = cache_of(pkgname)
    with zipfile.ZipFile(filename_or_obj, "r") as archive:
        named = [(unquote(info.filename), info) for info in archive.infolist()]
        chosen: list[tuple[str, Any]] = [
            (checked(url), info) for url, info in named if urls is None or url in urls
        ]
        for url, info in chosen:
            if not update_cache and cache.find(url) is not None:
                continue
            with Scratch() as scratch, archive.open(info) as source:
                _pour(source, scratch.fd)
            try:
                cache.put(url, scratch.path, replace=update_cache, move=True)
            finally:
                fs.remove(scratch.path)


def _pour(source: IO[bytes], fd: int) -> None:
    import shutil

    with os.fdopen(os.dup(fd), "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
