"""The manifest of a dataset in pkgdata's own form: a registry, and where in a repository it lies.

::

  #: dataset=1                             the form; a reader refuses one that it does not know
  #: pack=<sha256> bytes=8388608           the first pack, number 0; the next line is number 1
  #: folder=data/empty                     a folder without files, quoted as in a URL
  #: size=512 at=0+7168 mode=755           512 bytes, in pack 0 from byte 7168 on; executable
  data/train/run.sh <sha256>
  #: size=512 at=0+7680 zstd=90            the same, stored as 90 bytes of zstd
  data/train/a.csv <sha256>
  #: size=104857600                        no pack: an object of its own
  data/train/large.bin <sha256>

A reader of registries, pooch's included, finds names and digests and passes over the rest. The
identity of the dataset is that of the registry: names and digests, and nothing of where they lie.
"""

from __future__ import annotations

from ..core.registry import Entry, Registry
from ..errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..base.hashes import Digest

#: What this release writes; it reads no other.
FORM = 1

_SIZE = "#: size="

#: The highest mode that is taken over: permission bits, nothing that lends rights to others.
_MODE = 0o777


class Spot:
    """Where the bytes of a digest lie.

    Parameters
    ----------
    pack : int or None
        Number of the pack; None for an object of its own.
    offset : int, default 0
        First byte in the pack.
    zstd : int or None, default None
        Stored bytes, if they are compressed.
    """

    __slots__ = ("offset", "pack", "zstd")

    def __init__(self, pack: int | None, offset: int = 0, zstd: int | None = None) -> None:
        self.pack = pack
        self.offset = offset
        self.zstd = zstd

    def facts(self) -> str:
        """Return what is written of it behind the size."""
        at = "" if self.pack is None else f" at={self.pack}+{self.offset}"
        return at if self.zstd is None else f"{at} zstd={self.zstd}"


class Manifest:
    """Names, digests, and where the bytes lie.

    Parameters
    ----------
    registry : Registry
        With a size and a digest for each name.
    packs : list of (str, int)
        Digest and bytes of each.
    folders : list of str
        Those without files.
    modes : dict of str to int
        Permission bits of the executables, by name.
    """

    def __init__(
        self,
        registry: Registry,
        spots: dict[Digest, Spot],
        packs: list[tuple[str, int]],
        folders: list[str],
        modes: dict[str, int],
    ) -> None:
        self.registry = registry
        #: Those of the registry, which are looked at several times.
        self.entries = list(registry.values())
        self.spots = spots
        self.packs = packs
        self.folders = folders
        self.modes = modes

    def dumps(self) -> str:
        """Return the text."""
        from urllib.parse import quote

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
        """Read the text.

        Parameters
        ----------
        source : str
            Where it is from, for errors.

        Raises
        ------
        RegistryError
            It is malformed, or of a form that this release does not know.
        """
        return _Reader(text, source).manifest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size or 0 for entry in self.entries)

    def partitions(self) -> list[str]:
        """Return the names of the partitions, sorted."""
        return sorted({part for part in map(partition_of, [*self.registry, *self.folders]) if part})

    def part(self, partitions: Iterable[str] | None) -> Manifest:
        """Return the manifest of some partitions and of all that is in none.

        Parameters
        ----------
        partitions : iterable of str or None
            None for all of it.
        """
        if partitions is None:
            return self
        wanted = {*partitions, ""}
        entries = [entry for entry in self.entries if partition_of(entry.name) in wanted]
        folders = [name for name in self.folders if partition_of(name) in wanted]
        registry = Registry(entries, self.registry.file)
        return Manifest(registry, self.spots, self.packs, folders, self.modes)


def partition_of(name: str) -> str:
    """Return the partition that a file or folder belongs to.

    Returns
    -------
    str
        ``""`` for what is in none.
    """
    head, _, rest = name.partition("/")
    return rest.partition("/")[0] if head == "data" else ""


class _Reader:
    """Reads a manifest; its lines belong to the entries of the registry in their order."""

    def __init__(self, text: str, source: str) -> None:
        self._source = source
        self._number = 0
        self._lines = text.split("\n")
        self._form = 0
        self._packs: list[tuple[str, int]] = []
        self._folders: list[str] = []
        self._spots: dict[Digest, Spot] = {}
        self._modes: dict[str, int] = {}
        self._registry = Registry.parse(text, source)

    def manifest(self) -> Manifest:
        entries = iter(self._registry.values())
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
        if count != len(self._registry):
            raise self._error("a name stands twice")
        if self._form != FORM:
            raise RegistryError(
                f"{self._source} is no manifest of a dataset that this release can read",
                hint="a later release of pkgdata wrote it; update pkgdata",
                file=self._source,
            )
        return Manifest(self._registry, self._spots, self._packs, self._folders, self._modes)

    def _facts(self, line: str) -> dict[str, str]:
        """Return the facts of an entry; take in those of the whole."""
        words = dict(word.partition("=")[::2] for word in line[2:].split())
        if "dataset" in words:
            self._form = self._whole(words["dataset"])
        elif "pack" in words:
            self._packs.append((words["pack"], self._whole(words.get("bytes", ""))))
            self._check_pack(words["pack"])
        elif "folder" in words:
            self._folders.append(self._folder(words["folder"]))
        else:
            return words
        return {}

    def _check_pack(self, name: str) -> None:
        if len(name) != 64 or name.strip("0123456789abcdef"):
            raise self._error("expected the SHA-256 of a pack")

    def _folder(self, text: str) -> str:
        from urllib.parse import unquote

        from ..base import fs

        return fs.safe_name(unquote(text))

    def _take(self, entry: Entry, facts: dict[str, str]) -> None:
        if entry.digest is None or entry.size is None:
            raise self._error("expected a digest and a size")
        spot = Spot(None)
        if "at" in facts:
            number, _, offset = facts["at"].partition("+")
            spot = Spot(self._whole(number), self._whole(offset))
        if "zstd" in facts:
            spot.zstd = self._whole(facts["zstd"])
        if "mode" in facts:
            self._modes[entry.name] = self._mode(facts["mode"])
        if spot.pack is not None:
            stored = entry.size if spot.zstd is None else spot.zstd
            if spot.pack >= len(self._packs) or spot.offset + stored > self._packs[spot.pack][1]:
                raise self._error("no pack has these bytes")
        self._spots[entry.digest] = spot

    def _mode(self, text: str) -> int:
        if not text or text.strip("01234567") or len(text) > 4:
            raise self._error("expected a mode in octal digits")
        return int(text, 8) & _MODE

    def _whole(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise self._error(f"expected a whole number, found {text!r}")
        return int(text)

    def _error(self, problem: str) -> RegistryError:
        return RegistryError(
            f"{self._source}, line {self._number}: {problem}",
            file=self._source,
            line=self._number,
        )


def located(manifest: Manifest) -> Iterator[tuple[Entry, Spot]]:
    """Yield each digest once: the first entry that has it, and where its bytes lie."""
    first: dict[Digest | None, Entry] = {}
    for entry in manifest.entries:
        first.setdefault(entry.digest, entry)
    for digest, entry in first.items():
        assert digest is not None
        yield entry, manifest.spots[digest]
