"""What a repository holds of a dataset, in pkgdata's own form and in etcetera's.

::

  NAME.manifest.txt.gz                  the manifest, written last; a dataset is there if this is
  NAME/packs/<sha256>                   many small files, one behind the other, each zstd or not
  NAME/objects/<aa>/<sha256>[.zstd]     one large file
  NAME.tgz                              etcetera's form

1. Packs and objects never change and are never removed by a push, so that whoever reads an older
   manifest finds all of it. ``push --prune`` removes what the new one does not name.
2. A pack is named by the digest of its lines "<sha256> <stored bytes>", an object by its content's.
   What is there with the right length need not be sent again.
3. Nothing is believed: each file is compared with its digest when it is pulled.
4. No encoding of the store's own is used: names say how the bytes are stored, so that all kinds of
   stores, and a web server over a folder, hold the same bytes.
"""

from __future__ import annotations

import gzip
import zlib

from ..errors import ObjectNotFoundError, RegistryError, UnsupportedOperationError
from .config import OWN, TGZ
from .manifest import Manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.hashes import Digest
    from ..stores import Info, Store

_MANIFEST, _TGZ = ".manifest.txt.gz", ".tgz"

#: A larger file is an object of its own, so that it can be resumed and read over several ranges.
LARGE = 1 << 20

#: A manifest that grows past this is none: a file of it takes some 200 bytes.
_MOST = 4 << 30


def manifest_name(name: str) -> str:
    """Return the name of a dataset's manifest."""
    return name + _MANIFEST


def tgz_name(name: str) -> str:
    """Return the name of a dataset in etcetera's form."""
    return name + _TGZ


def pack_name(name: str, digest: str) -> str:
    """Return the name of a pack.

    Parameters
    ----------
    name : str
        Of the dataset.
    digest : str
        Hexadecimal.
    """
    return f"{name}/packs/{digest}"


def object_name(name: str, digest: Digest, zstd: bool) -> str:
    """Return the name of a file that is an object of its own.

    Parameters
    ----------
    name : str
        Of the dataset.
    zstd : bool
        Whether it is stored compressed.
    """
    return f"{name}/objects/{digest.hex[:2]}/{digest.hex}" + (".zstd" if zstd else "")


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest's bytes as they are stored."""
    return gzip.compress(manifest.dumps().encode(), 6, mtime=0)


def read_manifest(store: Store, name: str) -> tuple[Manifest, int] | None:
    """Read the manifest of a dataset.

    Returns
    -------
    (Manifest, int) or None
        With its stored bytes; None if there is no such dataset in pkgdata's own form.

    Raises
    ------
    RegistryError
        It cannot be understood.
    """
    stored = manifest_name(name)
    try:
        content = store.get(stored, raw=True)
    except ObjectNotFoundError:
        return None
    address = store.address(stored)
    try:
        # a web server may call the file encoded, and whoever is between may have decoded it
        plain = _gunzip(content) if content[:2] == b"\x1f\x8b" else content
        text = plain.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RegistryError(f"{address} is damaged: {error}", file=address) from error
    return Manifest.parse(text, address), len(content)


def _gunzip(content: bytes) -> bytes:
    from ..stores import codecs

    parts, size = [], 0
    for part in codecs.decode_blocks([content], "gzip"):
        size += len(part)
        if size > _MOST:
            raise OSError(f"it grows past {_MOST} bytes")
        parts.append(bytes(part))
    return b"".join(parts)


def names(store: Store) -> dict[str, set[str]]:
    """List the datasets of a repository.

    Returns
    -------
    dict of str to set of str
        The forms of each, by name, sorted.

    Raises
    ------
    UnsupportedOperationError
        The repository cannot be listed.
    """
    found: dict[str, set[str]] = {}
    try:
        for name in store.list(flat=True):
            for suffix, form in ((_MANIFEST, OWN), (_TGZ, TGZ)):
                if name.endswith(suffix) and name != suffix:
                    found.setdefault(name.removesuffix(suffix), set()).add(form)
    except UnsupportedOperationError as error:
        raise UnsupportedOperationError(
            f"{store.url}: the datasets of a web server cannot be listed",
            hint="pull one by its name, which its owner knows",
            url=store.url,
        ) from error
    return dict(sorted(found.items()))


def known_names(store: Store) -> list[str]:
    """Return the names of the datasets of a repository; none where they cannot be listed."""
    try:
        return list(names(store))
    except UnsupportedOperationError:
        return []


def objects(store: Store, name: str) -> dict[str, Info]:
    """List the packs and objects of a dataset."""
    return dict(store.scan(f"{name}/"))
