"""Unpinned URLs, in astropy's own format, so that astropy and pkgdata read each other's downloads.

::

  <cache>/<pkgname>/download/url/<md5 of the normalised URL>/url       the URL, UTF-8
  <cache>/<pkgname>/download/url/<md5 of the normalised URL>/contents  the bytes

Nothing else lies in that tree (astropy 8, ``astropy.utils.data``). An entry is built aside, in
``download``, and renamed into place.
"""

from __future__ import annotations

import os

from . import _fs
from .partial import Partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .cache import Cache


def normalise(url: str) -> str:
    """Bring scheme and host to lower case and give an empty path its slash.

    Parameters
    ----------
    url : str

    Returns
    -------
    str
    """
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(url)
    path = parts.path
    if parts.scheme in ("http", "https") and parts.netloc and not path:
        path = "/"
    return urlunsplit(parts._replace(netloc=parts.netloc.lower(), path=path))


def folder_name(url: str) -> str:
    """Return the name of a URL's entry.

    Parameters
    ----------
    url : str

    Returns
    -------
    str
    """
    import hashlib

    return hashlib.md5(normalise(url).encode(), usedforsecurity=False).hexdigest()


class UrlCache:
    """The downloads of one package name.

    Parameters
    ----------
    root : str
        ``<cache>/<pkgname>``.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def _entry(self, url: str) -> str:
        return os.path.join(self.root, "download", "url", folder_name(url))

    def find(self, url: str) -> str | None:
        """Look for a URL's bytes; no lock, no write.

        Parameters
        ----------
        url : str

        Returns
        -------
        str or None
        """
        path = os.path.join(self._entry(url), "contents")
        return path if os.path.isfile(path) else None

    def _sweep(self) -> None:
        """Remove what killed processes left; astropy's own files are not touched."""
        folder = os.path.join(self.root, "download")
        for name in os.listdir(folder):
            parts = name.split(".")
            if len(parts) == 3 and parts[2] == "tmp" and _fs.owner_is_gone(parts[1]):
                _fs.remove_tree(os.path.join(folder, name))

    def obtain(
        self,
        url: str,
        locker: Cache,
        fill: Callable[[Partial], object],
    ) -> str:
        """Return the path of a URL's bytes; bring them in if they are not here.

        Parameters
        ----------
        url : str
        locker : Cache
            Whose locks are used.
        fill : callable
            Called with a `Partial`; writes the bytes into it.

        Returns
        -------
        str

        Raises
        ------
        CacheError
            The cache cannot be used.
        """
        found = self.find(url)
        if found is not None:
            return found
        entry = self._entry(url)
        with locker.working_on(f"url-{folder_name(url)}", lambda: self.find(url) is not None, None):
            found = self.find(url)
            if found is not None:
                return found
            os.makedirs(os.path.dirname(entry), exist_ok=True)
            self._sweep()
            aside = os.path.join(
                self.root, "download", f"{folder_name(url)}.{_fs.owner_token()}.tmp"
            )
            _fs.remove_tree(aside)
            _fs.make_dirs(aside)
            try:
                with Partial(aside, "contents", resume=False) as partial:
                    fill(partial)
                    os.fsync(partial.fd)
                    partial.close()
                    os.rename(partial.path, os.path.join(aside, "contents"))
                _fs.write_atomic(os.path.join(aside, "url"), url.encode(), follow=True)
                try:
                    os.rename(aside, entry)
                except OSError:
                    if self.find(url) is None:  # else another process was faster
                        raise
            finally:
                _fs.remove_tree(aside)
        return os.path.join(entry, "contents")
