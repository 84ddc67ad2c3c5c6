"""Unpinned URLs, in astropy's own format, so that astropy and pkgdata read each other's downloads.

::

  <cache>/<pkgname>/download/url/<md5 of the normalised URL>/url       the URL, UTF-8
  <cache>/<pkgname>/download/url/<md5 of the normalised URL>/contents  the bytes

Nothing else lies in that tree (astropy 8, ``astropy.utils.data``). Next to it::

  <cache>/<pkgname>/download/names/<md5 of the URL>/<name>             a link to the bytes

for files that a package declares, so that their paths end as readers expect (``.csv.gz``). What we
need besides lies in the root of the pkgdata cache that goes with it
(`pkgdata.cache.unpinned_dirs.pkgdata_root`)::

  partial-v1/url-<md5>.<owner>.part                a download on its way
  locks-v1/url-<md5>.lock                          one process at a time fetches a URL
  validators-v1/<pkgname>/<md5>.json               what to ask a server with, whether it changed

1. An entry is complete when it appears: it is built aside, in ``download/<md5>.<owner>.tmp``, and
   renamed into place. The ``contents`` of one that is there are replaced by a rename.
2. A damaged entry is a miss, and is replaced by the next download.
3. Where that root cannot be written to, or is on another disk, a download is written next to
   ``url``, and where that cannot be either, to a temporary file.
4. The tree may be moved: nothing in it, and nothing about it, holds its path; links are relative.
5. A validator file holds the MD5 of the source's URL, the header that asks, and length and time of
   the bytes that it speaks of. Bytes of another length or time are asked for whole; a damaged file
   is no file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..base import disk, fs, owners
from ..base.hashes import short_key
from ..base.report import read_json
from ..base.urls import has_secret
from ..errors import CacheError, PkgdataWarning, warn
from . import staging
from .objects import Cache
from .partial import Partial
from .stamps import PARTIAL

#: The bucket of the validators. A change of their format takes the next number here.
VALIDATORS = "validators-v1"

#: Says, as the result of a ``fill``, that what the cache holds is what the server has.
UNCHANGED = "unchanged"

#: The folder of the links that end in files' own names.
_NAMES = "names"

_SCHEMES = ("http", "https", "ftp", "sftp", "ssh", "file")


def is_url(string: str) -> bool:
    """Return True if a text is a URL that `pkgdata.download_file` can cache.

    Parameters
    ----------
    string : str

    Returns
    -------
    bool
        Its scheme is http, https, ftp, sftp, ssh or file.
    """
    from urllib.parse import urlsplit

    return urlsplit(string).scheme in _SCHEMES


_is_url = is_url  # what astropy.io.fits calls it


#: Tries to put in an entry that others remove or make at the same time.
_TRIES = 5


def normalise(url: str) -> str:
    """Bring scheme and host to lower case and give an empty path its slash."""
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    path = parts.path
    if parts.scheme in ("http", "https") and parts.netloc and not path:
        path = "/"
    return urlunsplit(parts._replace(netloc=parts.netloc.lower(), path=path))


def folder_name(url: str) -> str:
    """Return the name of a URL's entry."""
    return short_key(normalise(url))


class UrlCache:
    """The downloads of one package name, in ``<cache>/<pkgname>``."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._around = os.path.join(root, "download")
        #: The folder of the entries.
        self.folder = os.path.join(self._around, "url")

    def entry(self, url: str) -> str:
        """Return the folder of a URL's entry, whether or not it is there."""
        return os.path.join(self.folder, folder_name(url))

    def find(self, url: str) -> str | None:
        """Look for a URL's bytes; no lock, no write."""
        path = os.path.join(self.entry(url), "contents")
        return path if os.path.isfile(path) else None

    def named(self, url: str, name: str) -> str | None:
        """Return a path of a URL's bytes that ends in the last part of a name; None without them.

        Where no link can be made it is that of the bytes themselves.
        """
        path = self.find(url)
        if path is None:
            return None
        link = os.path.join(self._around, _NAMES, folder_name(url), name.rpartition("/")[2])
        try:
            if os.path.exists(link) and os.path.samefile(link, path):
                return link
            fs.make_dirs(os.path.dirname(link))
            aside = self._unique(folder_name(url))
            try:
                os.symlink(os.path.relpath(path, os.path.dirname(link)), aside)
            except OSError:  # on Windows it is a privilege
                os.link(path, aside)
            fs.replace(aside, link)
        except OSError:
            return path  # a site's tree, or a file system without links
        return link

    def entries(self) -> Iterator[tuple[str, str]]:
        """Yield (URL, path of its bytes); damaged ones are left out; OSError without the folder."""
        for name in sorted(os.listdir(self.folder)):
            folder = os.path.join(self.folder, name)
            url, path = read_url(folder), os.path.join(folder, "contents")
            if url is not None and os.path.isfile(path):
                yield url, path

    # -- bringing in -------------------------------------------------------------------------

    def obtain(
        self,
        url: str,
        locker: Cache | None,
        fill: Callable[[Partial], object],
        renew: bool = False,
        rescue: Callable[[str, OSError], str] | None = None,
    ) -> str:
        """Return the path of a URL's bytes; bring them in if they are not here, or to `renew` them.

        `locker` is the cache whose locks are used. `fill` writes the bytes into a `Partial`, or
        returns `UNCHANGED`; old bytes stay until the new ones came. Bytes that another process
        renewed since this call began are as good as our own. If bytes cannot enter the cache,
        `rescue` is given their file and the error, and what it returns is returned; with it, locks
        that cannot be had are done without.
        """
        before = self._facts(url) if renew else None

        def look() -> str | None:
            return None if self._facts(url) == before else self.find(url)

        if (found := look()) is not None:
            return found
        with contextlib.ExitStack() as lock:
            if locker is not None:
                try:
                    lock.enter_context(
                        locker.working_on(f"url-{folder_name(url)}", lambda: bool(look()), None)
                    )
                except CacheError:
                    if rescue is None:
                        raise
                    locker = None  # locks save work, no more
            if (found := look()) is not None:
                return found
            partial = lock.enter_context(self._staged(url, locker))
            if fill(partial) is UNCHANGED:
                with contextlib.suppress(OSError):  # a leftover, which the next one sweeps
                    fs.remove(partial.path)
                return os.path.join(self.entry(url), "contents")
            os.fsync(partial.fd)
            partial.close()
            try:
                return self.put(url, partial.path, replace=renew, move=True)
            except OSError as error:
                if rescue is None:
                    raise
                return rescue(partial.path, error)

    def _facts(self, url: str) -> tuple[int, int, int] | None:
        """Return what changes whenever the bytes of a URL are renewed, or found to be so."""
        try:
            found = os.stat(os.path.join(self.entry(url), "contents"))
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    def _staged(self, url: str, locker: Cache | None) -> Partial:
        """Return a new file for the bytes of a URL, on the disk of the cache if that can be."""
        key = f"url-{folder_name(url)}"
        folders = [self._around]
        try:
            fs.make_dirs(self._around)
            if locker is not None:
                bucket = locker.bucket(PARTIAL)
                # a sign of work for those who wait; on another disk it would have to be copied
                if _on_one_disk(bucket, self._around):
                    folders.insert(0, bucket)
        except OSError:
            pass  # then the next best
        for folder in folders:
            if os.access(folder, os.W_OK | os.X_OK):
                staging.sweep(folder, f"{key}.")  # nothing tells what they would become
                return Partial(folder, key, resume=False)
        return Scratch()

    def put(self, url: str, source: str, *, replace: bool = True, move: bool = False) -> str:
        """Make a file the bytes of a URL, which may take the place of others; return the new path.

        With `move` the source may be moved instead of copied.
        """
        entry = self.entry(url)
        fs.make_dirs(self.folder)
        staging.sweep(self._around, end=owners.ASIDE)  # astropy's own names carry no owner
        with staging.folder(self._unique(folder_name(url))) as aside:
            contents = os.path.join(aside, "contents")
            if not (move and _renamed(source, contents)):
                fs.copy(source, contents)
                disk.sync(contents)
                if move:
                    fs.remove(source)
            fs.follow_mode(contents, 0o666)
            secret = has_secret(url)  # then it is for this user alone, also where a group reads
            how: Any = {"mode": 0o600} if secret else {"follow": True}
            for left in reversed(range(_TRIES)):
                fs.write_blocks(os.path.join(aside, "url"), (url.encode(),), **how)
                try:
                    self._install(aside, entry, replace)
                    break
                except (FileNotFoundError, FileExistsError):
                    if not left:
                        raise  # else another process has removed or made the entry meanwhile
        return os.path.join(entry, "contents")

    def _unique(self, name: str) -> str:
        return owners.aside(os.path.join(self._around, name))

    def _install(self, aside: str, entry: str, replace: bool) -> None:
        try:
            if staging.place(aside, entry, replace=False):
                return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _warn_slow(error)
        if not replace and os.path.isfile(os.path.join(entry, "contents")):
            return  # another process was faster
        if not os.path.isdir(entry) or os.path.isdir(os.path.join(entry, "contents")):
            fs.discard(entry)
            os.makedirs(entry)
        for name in ("url", "contents"):
            _move(os.path.join(aside, name), os.path.join(entry, name))

    def remove(self, path: str) -> None:
        """Remove an entry, the folder of all entries, or a stray file; missing is no error."""
        inside = os.path.relpath(path, self.folder)
        fs.discard(os.path.normpath(os.path.join(self._around, _NAMES, inside)))
        try:
            staging.take_away(path, self._unique(os.path.basename(path)))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _warn_slow(error)
            fs.discard(path)


class Scratch(Partial):
    """Bytes in a temporary file that only this user may read; it stays if all went well."""

    def __init__(self) -> None:
        import tempfile

        super().__init__(tempfile.gettempdir(), "pkgdata-download", resume=False)

    def __enter__(self) -> Scratch:
        import tempfile

        self.fd, self.path = tempfile.mkstemp(prefix=f"pkgdata-download-{os.getpid()}-")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        if kind is not None:
            try:
                fs.remove(self.path)
            except OSError:
                pass  # what went wrong before is the error to report


def read_url(folder: str) -> str | None:
    """Return the URL of an entry; None if it cannot be read."""
    try:
        with open(os.path.join(folder, "url"), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _on_one_disk(one: str, other: str) -> bool:
    return os.stat(one).st_dev == os.stat(other).st_dev


def _renamed(source: str, target: str) -> bool:
    try:
        os.rename(source, target)
    except OSError:
        return False  # another disk
    return True


def _move(source: str, target: str) -> None:
    try:
        fs.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        fs.remove(target)
        fs.copy(source, target)
        shutil.copymode(source, target)


def _warn_slow(error: OSError) -> None:
    """Warn that a folder cannot be renamed (some overlay file systems) and is moved slowly."""
    warn(f"{error.strerror or error}; the folder is moved file by file", PkgdataWarning)


class Validators:
    """What to ask a server with, whether one unpinned URL changed; `key` is its `folder_name`."""

    def __init__(self, root: str, pkgname: str, key: str) -> None:
        # not the URL itself anywhere: it may hold a secret
        self._path = os.path.join(root, VALIDATORS, pkgname, f"{key}.json")

    def conditions(self, source: str, path: str) -> dict[str, str]:
        """Return the headers that ask a source for the file only if it changed, or none."""
        try:
            found = read_json(self._path, ValueError, fs.plain)
            if found["source"] != short_key(source) or found["file"] != _mark(os.stat(path)):
                return {}
            return {str(key): str(value) for key, value in found["ask"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def note(self, source: str, ask: Mapping[str, str], file: os.stat_result) -> None:
        """Remember what to ask a source with for the bytes in a file; a rename keeps its time."""
        import json

        try:
            if not ask:
                fs.remove(self._path)
                return
            text = json.dumps({"source": short_key(source), "ask": dict(ask), "file": _mark(file)})
            fs.make_dirs(os.path.dirname(self._path))
            fs.write_atomic(self._path, text.encode(), sync=False, follow=True)
        except OSError:
            pass  # then the next update fetches all of it

    def confirm(self, source: str, path: str) -> None:
        """Let a file's time say that it was found unchanged just now."""
        ask = self.conditions(source, path)
        try:
            os.utime(path)
        except OSError:
            return  # a file of somebody else
        self.note(source, ask, os.stat(path))


def _mark(file: os.stat_result) -> list[int]:
    return [file.st_size, file.st_mtime_ns]
