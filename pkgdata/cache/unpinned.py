"""Unpinned URLs, in astropy's own format, so that astropy and pkgdata read each other's downloads.

::

  <cache>/<pkgname>/download/url/<md5 of the normalised URL>/url       the URL, UTF-8
  <cache>/<pkgname>/download/url/<md5 of the normalised URL>/contents  the bytes

Nothing else lies in that tree (astropy 8, ``astropy.utils.data``). What we need besides lies in the
root of the pkgdata cache that goes with it (`pkgdata.cache.unpinned_dirs.beside`)::

  partial-v1/url-<md5>.<owner>.part                a download on its way
  locks-v1/url-<md5>.lock                          one process at a time fetches a URL
  validators-v1/<pkgname>/<md5>.json               what to ask a server with, whether it changed

1. An entry is complete when it appears: it is built aside, in ``download/<md5>.<owner>.tmp``, and
   renamed into place. The ``contents`` of one that is there are replaced by a rename.
2. A damaged entry is a miss, and is mended by the next download.
3. Where that root cannot be written to, or is on another disk, a download is written beside
   ``url``, and where that cannot be either, to a temporary file.
4. The tree may be moved: nothing in it, and nothing about it, holds its path.
"""

from __future__ import annotations

import contextlib
import errno
import os

from ..base import fs, owners
from ..base.hashes import short_key
from ..errors import CacheError, PkgdataWarning, warn
from .objects import PARTIAL
from .partial import Partial, owner_of, unfinished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .objects import Cache

#: Says, as the result of a ``fill``, that what the cache holds is what the server has.
UNCHANGED = "unchanged"

#: What a rename onto a folder that is not empty says.
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EACCES)

_SCHEMES = ("http", "https", "ftp", "sftp", "ssh", "file")


def is_url(string: str) -> bool:
    """Say whether a text is a URL that `pkgdata.download_file` can cache.

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
    """The downloads of one package name.

    Parameters
    ----------
    root : str
        ``<cache>/<pkgname>``.
    """

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

    def entries(self) -> Iterator[tuple[str, str]]:
        """Yield (URL, path of its bytes); entries that are damaged are left out.

        Raises
        ------
        OSError
            The folder of the entries cannot be read.
        """
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
        """Return the path of a URL's bytes; bring them in if they are not here.

        Parameters
        ----------
        locker : Cache or None
            Whose locks are used, if any.
        fill : callable
            Called with a `Partial`; writes the bytes into it, or returns `UNCHANGED`.
        renew : bool, default False
            Bring them in even if they are here. Those that are stay until the new ones came.
        rescue : callable, optional
            Is given the new bytes' file and the error if they cannot enter the cache; what it
            returns is returned. With it, locks that cannot be had are done without.

        Raises
        ------
        CacheError
            The cache cannot be used.
        """
        found = None if renew else self.find(url)
        if found is not None:
            return found

        def here() -> bool:
            return not renew and self.find(url) is not None

        with contextlib.ExitStack() as lock:
            if locker is not None:
                try:
                    lock.enter_context(locker.working_on(f"url-{folder_name(url)}", here, None))
                except CacheError:
                    if rescue is None:
                        raise
                    locker = None  # locks save work, no more
            found = None if renew else self.find(url)
            return found or self._bring(url, locker, fill, renew, rescue)

    def _bring(
        self,
        url: str,
        locker: Cache | None,
        fill: Callable[[Partial], object],
        renew: bool,
        rescue: Callable[[str, OSError], str] | None,
    ) -> str:
        with self._staged(url, locker) as partial:
            if fill(partial) is UNCHANGED:
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
                _sweep_parts(folder, key)
                return Partial(folder, key, resume=False)
        return Scratch()

    def put(self, url: str, source: str, *, replace: bool = True, move: bool = False) -> str:
        """Make a file the bytes of a URL.

        Parameters
        ----------
        replace : bool, default True
            Take the place of bytes that are here.
        move : bool, default False
            The source may be moved instead of copied.

        Returns
        -------
        str
            Path in the cache.

        Raises
        ------
        OSError
            The cache cannot be written to.
        """
        entry = self.entry(url)
        with self._aside(folder_name(url)) as aside:
            contents = os.path.join(aside, "contents")
            if not (move and _renamed(source, contents)):
                fs.copy(source, contents)
                _sync(contents)
                if move:
                    fs.remove(source)
            fs.follow_mode(contents, 0o666)
            fs.write_atomic(os.path.join(aside, "url"), url.encode(), follow=True)
            self._install(aside, entry, replace)
        return os.path.join(entry, "contents")

    @contextlib.contextmanager
    def _aside(self, name: str) -> Iterator[str]:
        """Give a new folder beside the entries, and remove what is left of it."""
        fs.make_dirs(self.folder)
        _sweep_folders(self._around)
        path = self._unique(name)
        fs.make_dirs(path)
        try:
            yield path
        finally:
            fs.remove_tree(path)

    def _unique(self, name: str) -> str:
        return os.path.join(self._around, f"{name}.{owners.unique()}.tmp")

    def _install(self, aside: str, entry: str, replace: bool) -> None:
        try:
            fs.retry_denied(lambda: os.rename(aside, entry))
            return
        except OSError as error:
            if error.errno == errno.EXDEV:
                _warn_slow(error)
            elif error.errno not in _TAKEN or not os.path.lexists(entry):
                raise
        if not replace and os.path.isfile(os.path.join(entry, "contents")):
            return  # another process was faster
        if not os.path.isdir(entry) or os.path.isdir(os.path.join(entry, "contents")):
            _remove(entry)
            os.makedirs(entry)
        for name in ("url", "contents"):
            _move(os.path.join(aside, name), os.path.join(entry, name))

    # -- taking out --------------------------------------------------------------------------

    def remove(self, path: str) -> None:
        """Remove an entry, the folder of all entries, or a stray file; missing is no error.

        Raises
        ------
        OSError
            It cannot be removed.
        """
        if not os.path.lexists(path):
            return
        with self._trash(os.path.basename(path)) as trash:
            try:
                # out of sight at once, so that nobody meets half of it
                fs.retry_denied(lambda: os.rename(path, os.path.join(trash, "removed")))
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _warn_slow(error)
                _remove(path)

    @contextlib.contextmanager
    def _trash(self, name: str) -> Iterator[str]:
        path = self._unique(name)
        os.mkdir(path)
        try:
            yield path
        finally:
            fs.remove_tree(path)


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
            fs.remove(self.path)


def read_url(folder: str) -> str | None:
    """Return the URL of an entry; None if it cannot be read."""
    try:
        with open(os.path.join(folder, "url"), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def _sweep_parts(folder: str, key: str) -> None:
    """Remove the unfinished bytes of killed processes: nothing tells what they would become."""
    for path, _ in unfinished(folder, key):
        owner = owner_of(path)
        if owner is not None and owners.is_gone(owner):
            fs.remove(path)


def _sweep_folders(folder: str) -> None:
    """Remove the folders of killed processes; astropy's own are not touched."""
    for name in os.listdir(folder):
        owner, dot, end = name.rpartition(".")
        if end == "tmp" and dot and owners.is_gone(owner.rpartition(".")[2].rpartition("-")[0]):
            fs.remove_tree(os.path.join(folder, name))


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


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        fs.remove_tree(path)
    else:
        fs.remove(path)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _warn_slow(error: OSError) -> None:
    """Tell that a folder could not be renamed (some overlay file systems), and is moved slowly."""
    warn(f"{error.strerror or error}; the folder is moved file by file", PkgdataWarning)
