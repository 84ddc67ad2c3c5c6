"""What is remembered of files: the sizes of objects, and which local files were verified.

::

  sizes-v1/<alg>/<aa>.txt      lines "<rest> <bytes>", <aa><rest> is an object's digest
  stamps-v1/<md5 of folder>.txt
  packages-v1/<package>.txt    lines "<digest> <name>": which objects a package has used

A size is kept where no registry tells it, so that a hit notices a cut file. It never changes, so
nothing is ever taken out.

A stamp says that a file of a predefined folder, of this device, inode, size and modification time,
had this digest: it is checked once. Where nothing can be written the stamp lives in the process.

Lines are appended, many in one write. A line that was torn by a crash is not well-formed or does
not equal any file's facts, so it costs one more check and never a wrong answer.
"""

from __future__ import annotations

import os
import stat

from ..base import fs, hashes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ..base.hashes import Digest

#: Buckets of the cache that this module or `partial` writes; `objects` lists all.
OBJECTS, PARTIAL, SIZES, STAMPS = "objects-v1", "partial-v1", "sizes-v1", "stamps-v1"
PACKAGES = "packages-v1"
#: The file whose bytes batches lock, see `pkgdata.base.locks.Claims`.
CLAIMS = ".claims"


def split(digest: Digest) -> tuple[str, str, str]:
    """Return the folders that a digest stands for in a bucket."""
    return digest.alg, digest.hex[:2], digest.hex[2:]


def make_dirs_below(root: str, path: str) -> None:
    """Create a directory and those above it up to a cache's root; check each."""
    for part in os.path.relpath(path, root).split(os.sep):
        root = os.path.join(root, part)
        fs.make_dirs(root)


def key_of(digest: Digest) -> str:
    """Return the short name that locks and unfinished files of a digest carry.

    Forty digits keep the path short for Windows; two digests that shared them would share a lock
    and fail verification once, no more.
    """
    return f"{digest.alg}-{digest.hex[:40]}"


def _sizes_file(root: str, digest: Digest) -> str:
    return os.path.join(root, SIZES, digest.alg, f"{digest.hex[:2]}.txt")


def recorded_size(root: str, digest: Digest) -> int | None:
    """Return the size of an object of a cache; None if nothing well-formed tells."""
    try:
        with open(_sizes_file(root, digest), "rb", opener=fs.plain) as file:
            text = b"\n" + file.read()
    except OSError:
        return None
    mark = f"\n{digest.hex[2:]} ".encode()
    at = text.rfind(mark)
    end = text.find(b"\n", at + 1)
    number = text[at + len(mark) : end]
    # int() refuses thousands of digits
    right = at >= 0 and end > 0 and number.isdigit() and len(number) < 20
    return int(number) if right else None


def record_sizes(root: str, facts: Iterable[tuple[Digest, int]]) -> None:
    """Remember the sizes of objects of a cache."""
    lines: dict[str, list[str]] = {}
    for digest, size in facts:
        lines.setdefault(_sizes_file(root, digest), []).append(f"{digest.hex[2:]} {size}\n")
    for path, found in lines.items():
        make_dirs_below(root, os.path.dirname(path))
        try:
            fs.append(path, "".join(found).encode())
        except PermissionError:
            pass  # another user's; what is cut is then found by who verifies


def _packages_file(root: str, package: str) -> str:
    stem = "".join(c if c.isalnum() or c in "._-" else f"%{ord(c):x};" for c in package)
    return os.path.join(root, PACKAGES, f"{stem}.txt")


def used_by(root: str) -> dict[str, set[tuple[str, str]]]:
    """Return what each package has used of a cache, as far as is recorded: digests and names."""
    import re

    found = {}
    folder = os.path.join(root, PACKAGES)
    for file in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        package = re.sub("%([0-9a-f]+);", lambda c: chr(int(c[1], 16)), file.removesuffix(".txt"))
        found[package] = _uses(root, package)
    return found


def _uses(root: str, package: str) -> set[tuple[str, str]]:
    try:
        with open(_packages_file(root, package), encoding="utf-8", opener=fs.plain) as file:
            pairs = (line.rstrip("\n").partition(" ") for line in file if line.endswith("\n"))
            return {(digest, name) for digest, _, name in pairs if name}
    except (OSError, ValueError):
        return set()


def record_uses(
    root: str, package: str, facts: Iterable[tuple[Digest | None, str]], new: bool = False
) -> None:
    """Remember which objects a package uses, for `pkgdata cache`.

    With ``new`` what is recorded is not read.
    """
    there = set() if new else _uses(root, package)
    uses = dict.fromkeys((str(digest), name) for digest, name in facts if digest is not None)
    lines = [f"{digest} {name}\n" for digest, name in uses if (digest, name) not in there]
    path = _packages_file(root, package)
    try:
        if lines:
            make_dirs_below(root, os.path.dirname(path))
            fs.append(path, "".join(lines).encode())
    except OSError:
        pass  # a cache that is read only, or another user's record


def forget_uses(root: str, package: str, uses: Collection[tuple[str, str]]) -> None:
    """Take digests with these names out of a package's record."""
    path = _packages_file(root, package)
    kept = sorted(_uses(root, package).difference(uses))
    if kept:
        lines = "".join(f"{digest} {name}\n" for digest, name in kept)
        fs.write_atomic(path, lines.encode(), sync=False, follow=True)
    elif os.path.lexists(path):
        fs.discard(path)


#: Whether the mount of a cache keeps times of access, by root; asked once a process.
_keeps_times: dict[str, bool] = {}


def note_use(root: str, path: str) -> None:
    """Record that a file or folder of a cache is used, where its mount keeps no times of access.

    The time is set at most once a day, as other mounts do it; pruning by age goes by it.
    """
    keeps = _keeps_times.get(root)
    if keeps is None:
        try:  # systems that do not say so may keep none
            keeps = not os.statvfs(root).f_flag & os.ST_NOATIME
        except (OSError, AttributeError):
            keeps = False
        _keeps_times[root] = keeps
    if keeps:
        return
    import time

    try:
        if os.path.isdir(path):  # that of one file stands for all of them
            path = next((file for _, file in fs.walk_files(path)), path)
        found = os.stat(path)
        if max(found.st_atime, found.st_mtime) < time.time() - 86400:
            os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
    except OSError:
        pass  # a file of somebody else, or a link that leads nowhere


class Stamps:
    """The files of predefined folders that were verified; without a root, by this process."""

    def __init__(self, root: str | None) -> None:
        self.root = root
        self._known: dict[str, dict[str, str]] = {}

    def _file(self, folder: str) -> str:
        return os.path.join(self.root or "", STAMPS, f"{hashes.short_key(folder)}.txt")

    def _load(self, folder: str) -> dict[str, str]:
        known = self._known.get(folder)
        if known is None:
            known = self._known[folder] = {}
            if self.root is not None:
                try:
                    path = self._file(folder)
                    with open(path, encoding="utf-8", errors="replace", opener=fs.plain) as file:
                        for line in file:
                            facts, _, name = line.rstrip("\n").partition(" ")
                            known[name] = facts
                except OSError:
                    pass
        return known

    @staticmethod
    def _facts(found: os.stat_result, digest: Digest) -> str:
        numbers = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        return f"{digest},{','.join(map(str, numbers))}"

    def has(self, folder: str, name: str, found: os.stat_result, digest: Digest) -> bool:
        """Return True if this very file, `name` in the folder, was verified before."""
        return self._load(folder).get(name) == self._facts(found, digest)

    def add(self, folder: str, name: str, found: os.stat_result, digest: Digest) -> None:
        """Remember that this file has this digest."""
        facts = self._facts(found, digest)
        self._load(folder)[name] = facts
        if self.root is None:
            return
        try:
            os.makedirs(self.root, exist_ok=True)
            fs.make_dirs(os.path.join(self.root, STAMPS))
            fs.append(self._file(folder), f"{facts} {name}\n".encode())
        except OSError:
            pass  # a read-only or full cache: the stamp lives as long as the process


class Checks:
    """Which objects of a cache are hashed when they are found, by the setting ``verify``.

    With "once" that is so if others may write to another user's file, which is never so for what
    this library made; with "owner" for all of other users, once a process; with "always" for all.
    """

    def __init__(self, root: str, policy: str) -> None:
        self._policy = policy
        self._right = Stamps(root if policy == "once" else None)
        #: What was found wrong, so that a wait does not hash it again and again.
        self._wrong: dict[str, tuple[os.stat_result, str]] = {}

    def problem(self, path: str, found: os.stat_result, digest: Digest) -> str | None:
        """Return what is wrong with an object's bytes, if it is to be hashed, else None."""
        if self._policy in ("never", "size"):
            return None
        always = self._policy == "always"
        if not always and (
            not fs.is_foreign(found) or self._right.has(OBJECTS, path, found, digest)
        ):
            return None
        before, problem = self._wrong.get(path, (None, ""))
        if before == found:
            return problem
        try:
            actual = hashes.hash_file(path, digest.alg)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if actual != digest:
            problem = f"expected {digest}, found {actual}; it will be fetched again"
            self._wrong[path] = found, problem
            return problem
        if not always:
            self._right.add(OBJECTS, path, found, digest)
        return None


#: Values of the setting ``verify`` by which a file of a folder is hashed once, or once a process.
_ONCE = ("once", "owner")


def check(
    folder: str, name: str, digest: Digest | None, size: int | None, policy: str, stamps: Stamps
) -> tuple[str, str | None] | None:
    """Look for a file in a folder and check it; None if there is no such file.

    Returns its path and what is wrong with it, if anything. Without a digest any bytes are right;
    the policy is that of the setting ``verify``; with "owner" the stamps are without a root.
    """
    path = os.path.join(folder, *name.split("/"))
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    if digest is None or policy == "never":
        return path, None
    if size is not None and found.st_size != size:
        return path, f"expected {size} bytes, found {found.st_size}"
    if policy == "size" or (policy in _ONCE and stamps.has(folder, name, found, digest)):
        return path, None
    try:
        actual = hashes.hash_file(path, digest.alg)
    except OSError as error:
        return path, f"cannot be read: {error.strerror}"
    if actual != digest:
        return path, f"expected {digest}, found {actual}"
    if policy in _ONCE:
        stamps.add(folder, name, found, digest)
    return path, None
