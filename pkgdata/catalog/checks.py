"""Digests as definitions state them."""

from __future__ import annotations

import re
from pathlib import Path

from ..base import hashes
from ..base.hashes import Digest
from ..errors import CatalogError, IntegrityError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any


class FileChecker:
    """Checks a file after it is complete; subclass it for what no digest says."""

    def check(self, path: Path) -> Any:
        """Look at a file.

        Parameters
        ----------
        path : Path

        Returns
        -------
        object
            False if it is wrong; raising says so too.
        """
        raise NotImplementedError


class HashCheck(FileChecker):
    """Checks a file by its digest, in any of the ways that definitions write one.

    Nothing is computed or judged before a file is checked, so a definition with a wrong digest
    still loads.

    Parameters
    ----------
    hashstr : str
        The digest in hexadecimal, or as ``alg:hex``, or the name of an algorithm.
    hasherfn : callable or str, optional
        A function of `hashlib` or its name, MD5 by default; the digest, if the algorithm came
        first.

    Examples
    --------
    >>> HashCheck("0cc175b9c0f1b6a831c399e269772661").digest
    Digest('md5:0cc175b9c0f1b6a831c399e269772661')
    >>> HashCheck("md5", "0cc175b9c0f1b6a831c399e269772661").digest
    Digest('md5:0cc175b9c0f1b6a831c399e269772661')
    """

    def __init__(self, hashstr: str, hasherfn: Any = None) -> None:
        self.hashstr = hashstr
        self.hasherfn = hasherfn

    @property
    def digest(self) -> Digest:
        """The digest, parsed.

        Raises
        ------
        CatalogError
            It is none.
        """
        first, second = self.hashstr.strip(), self.hasherfn
        if isinstance(second, str) and first.lower().replace("-", "") in hashes.HEX_LENGTH:
            return parse(f"{first.lower().replace('-', '')}:{second}")
        if second is None:
            alg = "" if ":" in first else "md5:"
        else:
            alg = f"{second if isinstance(second, str) else second().name}:"
        return parse(alg + first)

    def check(self, path: Path) -> bool:
        """Hash a file and compare.

        Returns
        -------
        bool
            True.

        Raises
        ------
        IntegrityError
            The file has another digest.
        """
        verify(path, self.digest, str(path))
        return True


def parse(text: str | Digest) -> Digest:
    """Read a digest of a definition.

    Parameters
    ----------
    text : str or Digest
        ``alg:hex`` or a bare SHA-256.

    Raises
    ------
    CatalogError
        It is none.
    """
    if isinstance(text, Digest):
        return text
    try:
        return Digest.parse(re.sub(r"\s", "", text))
    except ValueError as error:
        raise CatalogError(f"{text!r} is no digest: {error}") from None


def verify(path: str | os.PathLike[str], digest: Digest, source: str) -> None:
    """Compare a file with a digest.

    Parameters
    ----------
    source : str
        Where it came from, for the error.

    Raises
    ------
    IntegrityError
        It has another.
    """
    actual = hashes.hash_file(path, digest.alg)
    if actual != digest:
        name = Path(path).name
        raise IntegrityError(
            f"wrong bytes for {name!r} from {source}: expected {digest}, found {actual}",
            hint="the source changed, or the definition is wrong; tell its authors",
            name=name,
            source=source,
            expected=str(digest),
            actual=str(actual),
        )
