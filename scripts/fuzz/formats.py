"""Files in the formats that we read, damaged at random.

    python scripts/fuzz/formats.py [--seconds 60] [--seed 1] [--case N]

Registries, TOML (of packages and settings), the cache's records of sizes, manifests of datasets,
tar and zip archives: right ones with random damage. Right is: a result that keeps the promises
(safe names, nothing outside the folder), or an error of pkgdata. `wrong` counts broken promises,
`strange` other exceptions, `slow` cases that took too long, `large` those that took too much
memory. A finding prints its number, and ``--case N`` repeats it alone. The exit code is 1 if there
is one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import shutil
import sys
import tarfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import cases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds and bytes that a case may take; none of these files needs a tenth.
PATIENCE, MEMORY = 10.0, 300 << 20

#: What a text is likely to break on.
ODD = [
    *(b"../", b"/", b"\\", b'"', b"'", b"#", b"#:", b"=", b"\r", b"\n", b"\0", b" ", b"\t"),
    *(b"9" * 25, b"9" * 5000, b"-1", b"[", b"]", b"[[", b"{", b"[" * 3000, b"a/" * 3000),
    *(b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x1b[31m", b"file:///etc/"),
    *(b"size=", b"url=", b"at=", b"zstd=", b"mode=", b"pack=", b"folder=", b"sha256:", b"md5:"),
    *(b"true", b"nan", b"inf"),
]  # fmt: skip


class WrongError(Exception):
    """A promise that does not hold."""


def damage(rng: random.Random, data: bytes) -> bytes:
    """Change bytes, remove, double or cut some, or put odd ones in."""
    for _ in range(rng.choice([0, 1, 1, 2, 3, 8])):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice([1, 1, 4, 40, 600]))
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at] + rng.randbytes(end - at) + data[end:]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:end] + data[at:]
        elif kind == 3 and rng.random() < 0.3:
            data = data[:at]
        elif kind == 4 and data:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        else:
            data = data[:at] + rng.choice(ODD) + data[at:]
    return data


def _check(right: bool, words: str) -> None:
    if not right:
        raise WrongError(words)


def _safe(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _digest(rng: random.Random) -> str:
    return hashlib.sha256(rng.randbytes(4)).hexdigest()


def _registry(rng: random.Random) -> bytes:
    lines = []
    for number in range(rng.choice([1, 3, 20])):
        lines += [f"#: size={rng.randrange(10**9)}"] if rng.random() < 0.5 else []
        url = f" https://example.org/{number}?a=1" if rng.random() < 0.2 else ""
        name = rng.choice([f"d/{number}.fits", f'"with blank {number}"', f"ü{number}"])
        lines.append(f"{name} {rng.choice(['', 'sha256:'])}{_digest(rng)}{url}")
    if rng.random() < 0.2:
        lines = [f"{_digest(rng)}  file{number}" for number in range(3)]  # of sha256sum
    return "\n".join([*lines, ""]).encode()


# -- the formats -----------------------------------------------------------------------------------


def registry(rng: random.Random, folder: Path) -> None:
    """A registry, from its file."""
    from pkgdata.core.registry import Registry

    path = folder / "registry.txt"
    path.write_bytes(damage(rng, _registry(rng)))
    found = Registry.load(path)
    for entry in found.values():
        _check(_safe(entry.name), f"the name {entry.name!r}")
    again = Registry.parse(found.dumps())
    _check(list(again.values()) == list(found.values()), "it is another after it was written")


def toml(rng: random.Random, folder: Path) -> None:
    """A package's pkgdata.toml, and a file of settings."""
    from pkgdata.base import config
    from pkgdata.core import declaration

    package = '[package]\nname = "fuzzed"\nversion = "1.0"\ndataurl = ["https://example.org/{version}/"]\n'
    package += 'folders = ["/data"]\nenv = "FUZZED"\n[publish]\nto = ["zenodo"]\n'
    settings = 'retries = 3\nremote_timeout = 2.5\noffline = true\nsite_caches = ["/a", "~/b"]\n'
    settings += '[rewrite]\n"https://a/" = "https://b/"\n[headers."https://a.org/"]\nX = "1"\n'
    (folder / "pkgdata.toml").write_bytes(damage(rng, package.encode()))
    (folder / "settings.toml").write_bytes(damage(rng, settings.encode()))
    kinds = {name: field.kind for name, field in config.FIELDS.items()}
    if rng.random() < 0.5:
        config.read(str(folder / "settings.toml"), kinds)
    found = declaration._in_folder(str(folder))
    str(found), found.dataurl


def records(rng: random.Random, folder: Path) -> None:
    """The cache's records of the sizes of objects, which several users write."""
    from pkgdata.base.hashes import Digest
    from pkgdata.cache import stamps

    digest = Digest("sha256", "ab" + _digest(rng)[2:])
    lines = [
        f"{rng.choice([digest.hex, _digest(rng)])[2:]} {rng.randrange(10**6)}" for _ in range(9)
    ]
    path = folder / stamps.SIZES / "sha256" / "ab.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage(rng, "\n".join([*lines, ""]).encode()))
    size = stamps.recorded_size(str(folder), digest)
    _check(size is None or 0 <= size < 10**19, f"a size of {size}")


def manifest(rng: random.Random, folder: Path) -> None:
    """A dataset's manifest, in a repository."""
    from pkgdata.datasets import repository
    from pkgdata.stores import Store

    lines = ["#: dataset=1", f"#: pack={_digest(rng)} bytes=8388608", "#: folder=data/empty%20one"]
    for number in range(rng.choice([1, 20])):
        facts = rng.choice(["", f" at=0+{number * 600}", f" at=0+{number} zstd=90", " mode=755"])
        lines += [f"#: size={rng.randrange(600)}{facts}", f"data/train/{number} {_digest(rng)}"]
    packed = gzip.compress(damage(rng, "\n".join([*lines, ""]).encode()), mtime=0)
    if rng.random() < 0.2:
        packed = damage(rng, packed)
    if rng.random() < 0.02:
        packed = gzip.compress(rng.choice([b"\n", b"#: folder=a\n", b"a"]) * 10**7, mtime=0)
    (folder / repository.manifest_name("a")).write_bytes(packed)
    found = repository.read_manifest(Store(folder.as_uri()), "a")
    _check(found is not None, "it is not found")
    for name in [*found[0].registry, *found[0].folders] if found else ():
        _check(_safe(name), f"the name {name!r}")
    for entry, _, spot in found[0].located() if found else ():
        _check(spot.offset >= 0 and spot.stored(entry.size) >= 0, f"the spot {spot}")


def _tar(rng: random.Random) -> bytes:
    buffer, form = io.BytesIO(), rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for number in range(rng.choice([1, 5, 12])):
            info = tarfile.TarInfo(
                rng.choice([f"f{number}", f"d/f{number}", f"l{'o' * 150}{number}", "d"])
            )
            info.type = rng.choice([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE])
            if rng.random() < 0.3:
                info.type = rng.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
                info.linkname = rng.choice(
                    ["f0", "d", "..", "../outside", "/etc/passwd", ".", "d/../.."]
                )
            content = rng.randbytes(rng.choice([0, 10, 2000])) if info.isreg() else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _header(rng: random.Random, data: bytes) -> bytes:
    """Put odd values in fields of a tar's headers and give these right checksums again."""
    blocks = [bytearray(data[at : at + 512]) for at in range(0, len(data), 512)]
    heads = [block for block in blocks if block[257:262] == b"ustar" and len(block) == 512]
    for block in heads:
        if rng.random() < 0.3:
            start, size = rng.choice([(0, 100), (124, 12), (156, 1), (157, 100), (345, 155)])
            odd = rng.choice(
                [b"../x", b"/x", b"\xff" * 12, b"77777777777", b"\x80" + b"\xff" * 11, b"S", b"x"]
            )
            block[start : start + size] = (odd[:size]).ljust(size, b"\0")
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    return b"".join(blocks)


def _unpack(rng: random.Random, folder: Path, kind: str, content: bytes) -> None:
    from pkgdata.core import extract

    path, inside = folder / "archive", folder / "top" / "inside"
    path.write_bytes(content)
    inside.mkdir(parents=True)
    try:
        extract.unpack(kind, str(path), str(inside), list, extract.Growth(1, 1000))
    finally:
        _check(os.listdir(folder / "top") == ["inside"], "something is outside the folder")
        _check(sorted(os.listdir(folder)) == ["archive", "top"], "something is far outside")
        for at, folders, files in os.walk(inside):
            for name in [*folders, *files]:
                found = os.path.join(at, name)
                plain = os.path.isdir(found) or os.path.isfile(found)
                _check(plain and not os.path.islink(found), f"{name} is no plain file")


def tar(rng: random.Random, folder: Path) -> None:
    """A tar, plain or compressed."""
    content = _tar(rng)
    content = _header(rng, content) if rng.random() < 0.6 else damage(rng, content)
    if rng.random() < 0.4:
        content = gzip.compress(content, 1, mtime=0)
        content = damage(rng, content) if rng.random() < 0.3 else content
    _unpack(rng, folder, "Untar", content)


def archive_zip(rng: random.Random, folder: Path) -> None:
    """A zip archive."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", rng.choice([0, 8])) as archive:
        warnings.simplefilter("ignore")
        for number in range(rng.choice([1, 5])):
            info = zipfile.ZipInfo(rng.choice([f"f{number}", f"d/f{number}", "d/", "a\\b"]))
            info.external_attr = rng.choice([0, 0, 0o120777, 0o100644, 0o010644]) << 16
            archive.writestr(info, rng.choice([b"", b"f0", b"../..", b"x" * 3000]))
    _unpack(rng, folder, "Unzip", damage(rng, buffer.getvalue()))


FORMATS: dict[str, Callable[[random.Random, Path], None]] = {
    "registry": registry,
    "toml": toml,
    "records": records,
    "manifest": manifest,
    "tar": tar,
    "zip": archive_zip,
}


def _memory() -> int:
    """Return the most memory that this process had; 0 where that is not known."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def one_case(seed: int, number: int, top: Path, counts: dict[str, Counter[str]]) -> str:
    """Run a case; return what was found, in words."""
    from pkgdata.errors import PkgdataError

    rng = random.Random(f"{seed}-{number}")
    name = rng.choice(list(FORMATS))
    count, folder = counts[name], top / f"{number}"
    folder.mkdir()
    start, before, found, outcome = time.process_time(), _memory(), "", "right"
    try:
        FORMATS[name](rng, folder)
    except PkgdataError:
        outcome = "error"
    except WrongError as error:
        outcome, found = "wrong", str(error)
    except Exception:
        outcome, found = "strange", traceback.format_exc()
    if not found and time.process_time() - start > PATIENCE:
        outcome, found = "slow", f"{time.process_time() - start:.0f} s"
    if not found and _memory() - before > MEMORY:
        outcome, found = "large", f"{(_memory() - before) >> 20} MiB"
    shutil.rmtree(folder)
    count["tried"] += 1
    count[outcome] += 1
    return found and f"case {number}, {name}: {outcome}: {found}"


def main() -> int:
    """Run cases until the time is over."""
    columns = ["right", "error", "wrong", "strange", "slow", "large"]
    return cases.run(__doc__ or "", one_case, "format", FORMATS, columns)


if __name__ == "__main__":
    sys.exit(main())
