"""What a repository holds of a dataset, in pkgdata's own form and in etcetera's.

::

  NAME.manifest.txt.gz                  the manifest, written last; a dataset exists if this does
  NAME/packs/<sha256>                   many small files, one after the other, each zstd or not
  NAME/objects/<aa>/<sha256>[.zstd]     one large file
  NAME.tgz                              etcetera's form

1. Packs and objects never change and are never removed by a push, so that readers of an older
   manifest find all of it. ``push --prune`` removes what the new one does not name.
2. A pack is named by the digest of its lines "<sha256> <stored bytes>", an object by that of its
   content. What is there with the right length need not be sent again.
3. Nothing is trusted: each file is compared with its digest when it is pulled.
4. No encoding of the store's own is used: names say how the bytes are stored, so that all kinds of
   stores, and a web server over a folder, hold the same bytes.

The manifest is a registry with comments::

  #: dataset=1                             the form; a reader refuses one that it does not know
  #: pack=<sha256> bytes=8388608           the first pack, number 0; the next line is number 1
  #: folder=data/empty                     a folder without files, quoted as in a URL
  #: size=512 at=0+7168 mode=755           512 bytes, in pack 0 from byte 7168 on; executable
  data/train/run.sh <sha256>
  #: size=512 at=0+7680 zstd=90            the same, stored as 90 bytes of zstd
  data/train/a.csv <sha256>
  #: size=104857600                        no pack: an object of its own
  data/train/large.bin <sha256>

A reader of registries, pooch's included, finds names and digests and skips the rest. The identity
of the dataset is that of the registry: names and digests, and nothing of where the bytes are.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote, unquote

from ..base import fs, urls
from ..base.config import is_offline
from ..base.hashes import Digest
from ..core.registry import Entry, Registry
from ..errors import ObjectNotFoundError, OfflineError, RegistryError, UnsupportedOperationError
from ..stores import Store, codecs
from .config import OWN, TGZ, Config

#: What this release writes; it reads no other.
FORM = 1

#: A larger file is an object of its own, so that it can be resumed and read over several ranges.
LARGE = 1 << 20

_MANIFEST, _TGZ = ".manifest.txt.gz", ".tgz"

#: A manifest that grows past this is none: a file of it takes some 200 bytes.
_MOST = 4 << 30

#: Stored, ten million files take less than this.
_STORED = 1 << 30

#: Nor is one that grows to more than this, or to so many times its size: digests hardly compress.
_SMALL, _RATIO = 16 << 20, 50

#: The highest mode that is kept: permission bits, no setuid or setgid.
_MODE = 0o777

# -- manifests ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """What was done, or with ``dry_run`` what would be.

    Attributes
    ----------
    name : str
        Of the dataset.
    path : str
        Where it is: a folder, or the address in the repository.
    form : str
        ``"pkgdata"`` or ``"etcetera"``.
    digest : Digest or None
        Identity of the dataset; None where it is not known without moving its bytes.
    files, size : int
        Files of the dataset, or of the partitions asked for, and their bytes.
    moved_files, moved_bytes : int
        Files that were not there yet, and the bytes transferred for them.
    objects : int
        Objects that held them.
    note : str
        Which files were left out unasked, for people; ``""`` if none were.
    """

    name: str
    path: str
    form: str
    digest: Digest | None = None
    files: int = 0
    size: int = 0
    moved_files: int = 0
    moved_bytes: int = 0
    objects: int = 0
    note: str = ""


class Spot(NamedTuple):
    """Where the bytes of a digest are: in a pack, or without one in an object of their own."""

    pack: int | None
    offset: int = 0
    #: Stored bytes, if they are compressed.
    zstd: int | None = None

    def facts(self) -> str:
        """Return what is written of it after the size."""
        at = "" if self.pack is None else f" at={self.pack}+{self.offset}"
        return at if self.zstd is None else f"{at} zstd={self.zstd}"

    def stored(self, size: int | None) -> int:
        """Return the stored bytes of a file of ``size`` bytes."""
        return (size or 0) if self.zstd is None else self.zstd


@dataclass(eq=False)
class Manifest:
    """Names, digests, and where the bytes are.

    ``packs`` are digests and sizes, ``folders`` those without files, ``modes`` the permission bits
    of executables by name.
    """

    registry: Registry
    spots: dict[Digest, Spot] = field(default_factory=dict)
    packs: list[tuple[str, int]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    modes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.entries = list(self.registry.values())  # read several times

    def dumps(self) -> str:
        """Return the text."""
        head = [f"#: dataset={FORM}"]
        head += [f"#: pack={name} bytes={size}" for name, size in self.packs]
        head += [f"#: folder={quote(name)}" for name in self.folders]
        lines = self.registry.dumps().split("\n")
        # a size and an entry for each, in this order, as no entry has URLs of its own
        for number, entry in enumerate(self.entries):
            assert entry.digest is not None
            mode = self.modes.get(entry.name)
            spot = self.spots.get(entry.digest)  # what is kept of an archive has none
            lines[2 * number] += "" if spot is None else spot.facts()
            lines[2 * number] += "" if mode is None else f" mode={mode:o}"
        return "\n".join([*head, *lines])

    @classmethod
    def parse(cls, text: str, source: str) -> Manifest:
        """Read the text; ``source`` says where it is from, for a `RegistryError`."""
        return _ManifestReader(text, source).manifest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size or 0 for entry in self.entries)

    def partitions(self) -> list[str]:
        """Return the names of the partitions, sorted."""
        return sorted({part for part in map(partition_of, [*self.registry, *self.folders]) if part})

    def part(self, partitions: Iterable[str] | None) -> Manifest:
        """Return the manifest of some partitions and of all that is in none; None for all of it."""
        if partitions is None:
            return self
        wanted = {*partitions, ""}
        entries = [entry for entry in self.entries if partition_of(entry.name) in wanted]
        folders = [name for name in self.folders if partition_of(name) in wanted]
        registry = Registry(entries, self.registry.file)
        return Manifest(registry, self.spots, self.packs, folders, self.modes)

    def located(self) -> Iterator[tuple[Entry, Digest, Spot]]:
        """Yield each digest once: the first entry that has it, and where its bytes are."""
        first: dict[Digest | None, Entry] = {}
        for entry in self.entries:
            first.setdefault(entry.digest, entry)
        for digest, entry in first.items():
            assert digest is not None
            yield entry, digest, self.spots[digest]


def partition_of(name: str) -> str:
    """Return the partition that a file or folder belongs to; ``""`` for what is in none."""
    head, _, rest = name.partition("/")
    return rest.partition("/")[0] if head == "data" else ""


class _ManifestReader:
    """Reads a manifest; its lines belong to the entries of the registry in their order."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._number = 0
        self._lines = text.split("\n")
        self._form = 0
        self._found = Manifest(Registry.parse(text, source))

    def manifest(self) -> Manifest:
        entries = iter(self._found.entries)
        facts: dict[str, str] = {}
        count = 0
        for number, line in enumerate(self._lines, 1):
            self._number = number
            if line.startswith("#:"):
                facts |= self._facts(line)
            elif line and line[0] != "#":
                count += 1
                entry = next(entries, None)
                if entry is None:
                    break
                self._take(entry, facts)
                facts = {}
        if count != len(self._found.entries):
            raise self._error("a name occurs twice")
        if self._form != FORM:
            raise RegistryError(
                f"{self._source} is no manifest of a dataset that this release can read",
                hint="a later release of pkgdata wrote it; update pkgdata",
                file=self._source,
            )
        return self._found

    def _facts(self, line: str) -> dict[str, str]:
        """Return the facts of an entry; keep those of the whole."""
        words = dict(word.partition("=")[::2] for word in line[2:].split())
        if "dataset" in words:
            self._form = self._whole(words["dataset"])
        elif "pack" in words:
            name = words["pack"]
            self._found.packs.append((name, self._whole(words.get("bytes", ""))))
            if len(name) != 64 or name.strip("0123456789abcdef"):
                raise self._error("expected the SHA-256 of a pack")
        elif "folder" in words:
            self._found.folders.append(fs.safe_name(unquote(words["folder"])))
        else:
            return words
        return {}

    def _take(self, entry: Entry, facts: dict[str, str]) -> None:
        if entry.digest is None or entry.size is None:
            raise self._error("expected a digest and a size")
        pack, offset = None, 0
        if "at" in facts:
            pack, offset = map(self._whole, facts["at"].partition("+")[::2])
        zstd = self._whole(facts["zstd"]) if "zstd" in facts else None
        spot = Spot(pack, offset, zstd)
        if "mode" in facts:
            mode = facts["mode"]
            if not mode or mode.strip("01234567") or len(mode) > 4:
                raise self._error("expected a mode in octal digits")
            self._found.modes[entry.name] = int(mode, 8) & _MODE
        if pack is not None:
            packs = self._found.packs
            if pack >= len(packs) or offset + spot.stored(entry.size) > packs[pack][1]:
                raise self._error("no pack has these bytes")
        self._found.spots[entry.digest] = spot

    def _whole(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise self._error(f"expected a whole number, found {text!r}")
        return int(text)

    def _error(self, problem: str) -> RegistryError:
        place = f"{self._source}, line {self._number}"
        return RegistryError(f"{place}: {problem}", file=self._source, line=self._number)


# -- the repository ----------------------------------------------------------------------------


def store_of(config: Config) -> Store:
    """Return the repository, unless it must not be asked."""
    store = config.store()
    if is_offline() and urls.scheme(store.url) not in ("file", "mem"):
        raise OfflineError(
            f"{store.url}: pkgdata is offline",
            hint="unset PKGDATA_OFFLINE, or use what 'pkgdata dataset ls' lists",
            name=store.url,
        )
    return store


def manifest_name(name: str) -> str:
    """Return the name of a dataset's manifest."""
    return name + _MANIFEST


def tgz_name(name: str) -> str:
    """Return the name of a dataset in etcetera's form."""
    return name + _TGZ


def pack_name(name: str, digest: str) -> str:
    """Return the name of a dataset's pack; the digest is in hexadecimal digits."""
    return f"{name}/packs/{digest}"


def object_name(name: str, digest: Digest, zstd: bool) -> str:
    """Return the name of a dataset's file that is an object of its own."""
    return f"{name}/objects/{digest.hex[:2]}/{digest.hex}" + (".zstd" if zstd else "")


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest's bytes as they are stored."""
    return gzip.compress(manifest.dumps().encode(), 6, mtime=0)


def read_manifest(store: Store, name: str) -> tuple[Manifest, int] | None:
    """Read the manifest of a dataset; return it with its stored bytes, or None if there is none."""
    stored = manifest_name(name)
    address, held = store.address(stored), bytearray()
    try:
        for block in store.blocks(stored):
            held += block
            if len(held) > _STORED:
                raise RegistryError(f"{address} has more than {_STORED} bytes", file=address)
    except ObjectNotFoundError:
        return None
    content, size = bytes(held), len(held)
    try:
        # a web server may declare the file encoded, and a proxy or client may have decoded it
        if content[:2] == b"\x1f\x8b":
            most = min(_MOST, max(_SMALL, _RATIO * size))
            content = decoded(content, "gzip", most)
            if len(content) > most:
                raise OSError(f"its {size} bytes grow past {most}")
        text = content.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RegistryError(f"{address} is damaged: {error}", file=address) from error
    return Manifest.parse(text, address), size


def decoded(content: bytes | memoryview, encoding: str, most: int, address: str = "") -> bytes:
    """Decompress bytes, but not far past the most that is expected: memory must hold them."""
    parts, size = [], 0
    for part in codecs.decode_blocks([content], encoding, address):
        size += len(part)
        parts.append(bytes(part))
        if size > most:
            break
    return b"".join(parts)


def forms(store: Store) -> dict[str, set[str]]:
    """Return the datasets of a repository by name, sorted, each with the forms that it has."""
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
        return list(forms(store))
    except UnsupportedOperationError:
        return []
