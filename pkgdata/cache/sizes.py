"""How many bytes an object has, where no registry tells: what lets a hit notice a cut file.

::

  sizes-v1/<alg>/<aa>.txt    lines "<rest> <bytes>", <aa><rest> is the digest

Lines are appended, many in one write. Their facts never change, so nothing is ever taken out; a
line that was torn by a crash is not well-formed and is passed over.
"""

from __future__ import annotations

import os

from ..base import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.hashes import Digest

BUCKET = "sizes-v1"


def _file(root: str, digest: Digest) -> str:
    return os.path.join(root, BUCKET, digest.alg, f"{digest.hex[:2]}.txt")


def recorded(root: str, digest: Digest) -> int | None:
    """Return the size of an object.

    Parameters
    ----------
    root : str
        Of the cache.

    Returns
    -------
    int or None
        None if nothing well-formed tells.
    """
    try:
        with open(_file(root, digest), "rb") as file:
            text = b"\n" + file.read()
    except OSError:
        return None
    mark = f"\n{digest.hex[2:]} ".encode()
    at = text.rfind(mark)
    end = text.find(b"\n", at + 1)
    number = text[at + len(mark) : end]
    return int(number) if at >= 0 and end > 0 and number.isdigit() else None


def record(root: str, facts: Iterable[tuple[Digest, int]]) -> None:
    """Remember the sizes of objects.

    Parameters
    ----------
    root : str
        Of the cache.

    Raises
    ------
    OSError
        They cannot be written.
    """
    lines: dict[str, list[str]] = {}
    for digest, size in facts:
        lines.setdefault(_file(root, digest), []).append(f"{digest.hex[2:]} {size}\n")
    for path, found in lines.items():
        fs.append(path, "".join(found).encode())
