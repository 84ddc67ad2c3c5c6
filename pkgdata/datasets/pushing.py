"""Pushing in pkgdata's own form: what the repository lacks, and the manifest last.

All files are read once: hashed, and, if the repository does not have them, packed or sent. So what
is sent is what was hashed, even if files change meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import InitVar, dataclass

from ..base import fs, hashes, pool
from ..base.hashes import Digest
from ..base.progress import Callback, ended, silent
from ..base.text import Choice
from ..core import scan
from ..core.registry import Entry, Registry
from ..errors import DatasetError, ObjectExistsError
from ..stores import Attributes, Store, codecs
from . import repository
from .repository import Manifest, Outcome, Spot

#: A digest and the bytes of the file.
Member = tuple[Digest, bytes]

#: Bytes of a pack: as many as a store moves as one piece. Fewer would cost requests, more memory.
PACK = 8 << 20

#: Packs sent at once; each is held in memory.
_AT_ONCE = 8

_BLOCK = 1 << 20


@dataclass
class Push:
    """Sends one dataset to a repository, which has ``old`` under its name."""

    _store: Store
    _name: str
    _folder: str
    _choice: Choice
    old: InitVar[Manifest | None]
    _public: bool = False
    _zstd: bool = False
    _dry_run: bool = False
    _show: Callback = silent

    def __post_init__(self, old: Manifest | None) -> None:
        self._entries: list[Entry] = []
        self._modes: dict[str, int] = {}
        self._spots: dict[Digest, Spot] = {}
        self._packs: list[tuple[str, int]] = []
        self._there = dict(self._store.scan(f"{self._name}/"))
        if old is not None:
            self._take_over(old)

    def _take_over(self, old: Manifest) -> None:
        """Note what need not be sent, and the packs that are still worth keeping.

        A pack of which less than half is still used is dropped, else a dataset that changes often
        would end up in as many packs as it has files.
        """
        here = {name for name, _ in scan.files(self._folder, self._choice)}
        # whether the bytes are the same is not known yet; a changed file counts as still used
        used = [0] * len(old.packs)
        for entry, _, spot in old.located():
            if spot.pack is not None and entry.name in here:
                used[spot.pack] += spot.stored(entry.size)
        numbers: dict[int, int] = {}
        for number, (pack, size) in enumerate(old.packs):
            is_there = self._has(repository.pack_name(self._name, pack), size)
            if is_there and 2 * used[number] >= size:
                numbers[number] = len(self._packs)
                self._packs.append((pack, size))
        for entry, digest, spot in old.located():
            if spot.pack is None:
                name = repository.object_name(self._name, digest, spot.zstd is not None)
                if self._has(name, spot.stored(entry.size)):
                    self._spots[digest] = spot
            elif spot.pack in numbers:
                self._spots[digest] = spot._replace(pack=numbers[spot.pack])

    def _has(self, name: str, size: int) -> bool:
        info = self._there.get(name)
        return info is not None and info.size == size

    # -- the whole -----------------------------------------------------------------------------

    def run(self, outcome: Outcome, replace: bool, prune: bool) -> None:
        """Send what is missing, then the manifest; fill in the outcome.

        ``replace`` a manifest that is there; ``prune`` the packs and objects that it does not name.
        """
        self._send_all(outcome)
        manifest = self._manifest()
        outcome.digest = manifest.registry.digest()
        outcome.files, outcome.size = len(manifest.registry), manifest.size
        content = repository.encode_manifest(manifest)
        outcome.moved_bytes += len(content)
        if not self._dry_run:
            self._finish(content, replace)
            if prune:
                self._prune(manifest)

    def _send_all(self, outcome: Outcome) -> None:
        threads = min(self._store.threads, _AT_ONCE)
        with self._store.bulk():
            for _, (count, size) in pool.each(self._send, self._plan(), threads, ahead=1):
                outcome.moved_files += count
                outcome.moved_bytes += size
                outcome.objects += bool(count)

    def _finish(self, content: bytes, replace: bool) -> None:
        name = repository.manifest_name(self._name)
        try:
            self._store.put(name, content, if_absent=not replace, public=self._public)
        except ObjectExistsError as error:
            raise ObjectExistsError(
                f"{error.message}: another dataset of this name was pushed meanwhile", url=error.url
            ) from error

    def _manifest(self) -> Manifest:
        numbers: dict[int, int] = {}  # packs count in the order in which the files need them
        spots = {}
        for entry in self._entries:
            assert entry.digest is not None
            spot = self._spots[entry.digest]
            number = None if spot.pack is None else numbers.setdefault(spot.pack, len(numbers))
            spots[entry.digest] = spot._replace(pack=number)
        packs = [self._packs[number] for number in numbers]
        folders = [one for one in _empty_folders(self._folder) if self._choice(f"{one}/")]
        return Manifest(Registry(self._entries), spots, packs, folders, self._modes)

    def _prune(self, manifest: Manifest) -> None:
        named = {repository.pack_name(self._name, digest) for digest, _ in manifest.packs}
        for _, digest, spot in manifest.located():
            if spot.pack is None:
                named.add(repository.object_name(self._name, digest, spot.zstd is not None))
        self._store.delete(name for name in self._there if name not in named)

    # -- what is sent --------------------------------------------------------------------------

    def _plan(self) -> Iterator[list[Member] | Entry]:
        """Hash all files; yield those that are missing, small ones by the pack."""
        # all names are checked before the first byte is sent
        jobs = [(fs.safe_name(name), path) for name, path in scan.files(self._folder, self._choice)]
        coming: set[Digest] = set()
        pack: list[Member] = []
        size = 0
        for name, path in jobs:
            digest, count, content = self._read(name, path)
            self._entries.append(Entry(name, digest, count))
            self._show(ended(name, count))
            if digest in self._spots or digest in coming:
                continue
            coming.add(digest)
            if content is None:
                yield self._entries[-1]
                continue
            if size + count > PACK:
                yield pack
                pack, size = [], 0
            pack.append((digest, content))
            size += count
        if pack:
            yield pack

    def _read(self, name: str, path: str) -> tuple[Digest, int, bytes | None]:
        """Return digest, bytes, and the content of a small file."""
        if os.path.islink(path) and not os.path.exists(path):
            raise DatasetError(f"{path} is a link that leads nowhere", path=path)
        with open(path, "rb", buffering=0, opener=fs.regular) as file:
            found = os.fstat(file.fileno())
            if found.st_mode & 0o111:
                self._modes[name] = found.st_mode & 0o777
            if found.st_size <= repository.LARGE:
                content = file.read()
                return hashes.hash_blocks((content,)), len(content), content
        digest, size = hashes.measure_file(path)
        return digest, size, None

    def _send(self, item: list[Member] | Entry) -> tuple[int, int]:
        """Send a pack or a large file; return how many files, and their stored bytes."""
        if isinstance(item, Entry):
            return self._send_alone(item)
        return self._send_pack(item)

    def _send_pack(self, members: list[Member]) -> tuple[int, int]:
        parts, lines, spots = [], "", {}
        offset = 0
        for digest, content in members:
            packed = codecs.encode(content, "zstd") if self._zstd else content
            smaller = len(packed) < len(content)
            stored = packed if smaller else content
            parts.append(stored)
            spots[digest] = Spot(None, offset, len(stored) if smaller else None)
            lines += f"{digest.hex} {len(stored)}\n"
            offset += len(stored)
        name = hashes.hash_blocks((lines.encode(),)).hex
        self._packs.append((name, offset))
        number = self._packs.index((name, offset))
        stored_name = repository.pack_name(self._name, name)
        missing = not self._has(stored_name, offset)
        if missing and not self._dry_run:
            self._store.put(stored_name, b"".join(parts), public=self._public)
        self._spots |= {digest: spot._replace(pack=number) for digest, spot in spots.items()}
        return (len(members), offset) if missing else (0, 0)

    def _send_alone(self, entry: Entry) -> tuple[int, int]:
        digest, size = entry.digest, entry.size or 0
        assert digest is not None
        name = repository.object_name(self._name, digest, self._zstd)
        there = self._there.get(name)
        if there is not None and there.size is not None and (self._zstd or there.size == size):
            self._spots[digest] = Spot(None, 0, there.size if self._zstd else None)
            return 0, 0
        stored = 0

        def counted() -> Iterator[bytes | memoryview]:
            nonlocal stored
            stored = 0
            blocks = self._blocks(entry)
            for block in codecs.encode_blocks(blocks, "zstd") if self._zstd else blocks:
                stored += len(block)
                yield block

        if self._dry_run:
            stored = sum(map(len, counted()))
        else:
            self._store.trying(lambda: self._write(name, counted(), None if self._zstd else size))
        self._spots[digest] = Spot(None, 0, stored if self._zstd else None)
        return 1, stored

    def _write(self, name: str, blocks: Iterator[bytes | memoryview], size: int | None) -> None:
        attributes = Attributes("application/octet-stream", public=self._public)
        self._store.write_blocks(name, blocks, attributes, False, size)

    def _blocks(self, entry: Entry) -> Iterator[bytes]:
        """Read a large file; what changed since it was hashed is not stored."""
        path = os.path.join(self._folder, *entry.name.split("/"))
        hasher = hashes.new("sha256")
        with open(path, "rb", buffering=0, opener=fs.regular) as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
                yield block
        if entry.digest != Digest("sha256", hasher.hexdigest()):
            raise DatasetError(
                f"{path} changed while it was pushed; nothing was published",
                hint="push again when nobody writes to it",
                path=path,
            )


def _empty_folders(folder: str) -> Iterator[str]:
    """Yield the folders without anything in them, sorted."""
    found = []
    # links that lead back to a folder above were refused when the files were listed
    for path, folders, files in os.walk(folder, followlinks=True):
        if not folders and not files and path != folder:
            found.append(fs.safe_name(os.path.relpath(path, folder).replace(os.sep, "/")))
    yield from sorted(found)
