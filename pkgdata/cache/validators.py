"""What to ask a server with, whether an unpinned URL changed; one small file for each.

::

  validators-v1/<pkgname>/<md5 of URL>.json

It holds the MD5 of the source's URL, the header that asks, and length and time of the bytes that it
speaks of. Bytes of another length or time are asked for whole; a damaged file is no file.
"""

from __future__ import annotations

import hashlib
import os

from ..base import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

#: The bucket. A change of the format takes the next number here.
BUCKET = "validators-v1"


class Validators:
    """What is known of one URL.

    Parameters
    ----------
    root : str
        Of the pkgdata cache.
    pkgname : str
        Whose download it is.
    key : str
        MD5 of the normalised URL.
    """

    def __init__(self, root: str, pkgname: str, key: str) -> None:
        self._path = os.path.join(root, BUCKET, pkgname, f"{key}.json")

    def conditions(self, source: str, path: str) -> dict[str, str]:
        """Return the headers that ask a source only for what changed.

        Parameters
        ----------
        source : str
            URL.
        path : str
            File with the bytes that are here.

        Returns
        -------
        dict of str to str
            Empty if nothing is known of those bytes.
        """
        import json

        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
            if found["source"] != _md5(source) or found["file"] != _mark(os.stat(path)):
                return {}
            return {str(key): str(value) for key, value in found["ask"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def note(self, source: str, ask: Mapping[str, str], file: os.stat_result) -> None:
        """Remember what to ask a source with for the bytes in a file; a rename keeps its time.

        Parameters
        ----------
        source : str
            URL.
        ask : mapping of str to str
            Headers; if there are none, what was known is forgotten.
        """
        import json

        try:
            if not ask:
                fs.remove(self._path)
                return
            text = json.dumps({"source": _md5(source), "ask": dict(ask), "file": _mark(file)})
            fs.make_dirs(os.path.dirname(self._path))
            fs.write_atomic(self._path, text.encode(), sync=False, follow=True)
        except OSError:
            pass  # then the next update fetches all of it

    def confirm(self, source: str, path: str) -> None:
        """Let a file's time tell that it was found unchanged just now.

        Parameters
        ----------
        source : str
            URL.
        """
        ask = self.conditions(source, path)
        try:
            os.utime(path)
        except OSError:
            return  # a file of somebody else
        self.note(source, ask, os.stat(path))


def _md5(url: str) -> str:
    # not the URL itself: it may hold a secret
    return hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()


def _mark(file: os.stat_result) -> list[int]:
    return [file.st_size, file.st_mtime_ns]
