"""The golden tree: what the header of ``pkgdata/cache/objects.py`` draws is what lies on disk."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import warnings
import zipfile

import pytest

import pkgdata
import pkgdata.cache.objects
from pkgdata import BatchError, Digest, Entry, PkgdataError, Registry
from pkgdata.base import fs
from pkgdata.base.hashes import short_key
from pkgdata.base.progress import BYTES
from pkgdata.stores.other import Kept, MemoryBody, MemoryStore
from pkgdata.transfer import one as transfer

#: What each placeholder of the drawing may stand for.
PLACEHOLDERS = {
    "<alg>": r"sha256|md5",
    "<aa>": r"[0-9a-f]{2}",
    "<rest>": r"[0-9a-f]{30}|[0-9a-f]{62}",
    "<name>": r"[^/]+",
    "<key>": r"(?:tree-|derived-)?sha256-[0-9a-f]{40}(?:-[0-9a-f]{16})?|[0-9a-f]{16}",
    "<owner>": r"[0-9a-f]{10}-\d+-[0-9a-f]{8}",
    "<md5 of folder>": r"[0-9a-f]{32}",
    "<md5 of server>": r"[0-9a-f]{32}",
    "<md5 of files>": r"[0-9a-f]{32}",
    "<package>": r"\w+",
}

LARGE = bytes(range(256)) * 10_000
CUT = LARGE[::-1]
SMALL = b"small\n"
UNSIZED = b"no size in the registry\n"


def drawing() -> list[str]:
    """Return the left column of the drawing in the docstring of the cache."""
    block = pkgdata.cache.objects.__doc__.split("::\n", 1)[1].split("\n1. ", 1)[0]
    rows = [re.split(r"\s{2,}", line.strip())[0] for line in block.splitlines() if line.strip()]
    # "note|spans" stands for two files
    return [re.sub(r"\w+\|\w+", kind, row) for row in rows for kind in _kinds(row)]


def _kinds(row: str) -> list[str]:
    found = re.search(r"\w+\|\w+", row)
    return found[0].split("|") if found else [""]


def pattern(line: str) -> re.Pattern[str]:
    """Return what matches the paths that a line of the drawing stands for."""
    text = re.sub(
        r"<[^>]+>|[^<]+",
        lambda m: f"(?:{PLACEHOLDERS[m[0]]})" if m[0] in PLACEHOLDERS else re.escape(m[0]),
        line,
    )
    return re.compile(text + ("(?:.+)?" if line.endswith("/") else ""))


def paths_below(root: str) -> set[str]:
    """Return every file below a root, as a relative name with ``/``."""
    return {name for name, _ in fs.walk_files(root)}


def unmatched(paths: set[str]) -> set[str]:
    patterns = [pattern(line) for line in drawing()]
    return {path for path in paths if not any(one.fullmatch(path) for one in patterns)}


def sha(content: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(content).hexdigest())


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("inside/one.txt"), b"one")  # always the same bytes
    return buffer.getvalue()


class BrokenBody(MemoryBody):
    """Ends at half of the object, as a connection that is lost, and gives it in small pieces."""

    def __init__(self, kept: Kept, start: int) -> None:
        super().__init__(kept, start)
        self.ranges = True
        self._rest = memoryview(kept.content)[start : len(kept.content) // 2]

    def readinto(self, buffer: memoryview) -> int:
        return super().readinto(buffer[:10_000])


@pytest.fixture
def data(tmp_path, request):
    """A package with pinned files, sized and not, and a folder that holds one of them."""
    url = f"mem://{request.node.name}"
    contents = {
        "maps/large.bin": LARGE,
        "cut.bin": CUT,
        "maps/small.txt": SMALL,
        "unsized.txt": UNSIZED,
        "pack.zip": archive(),
        "local.txt": b"in a folder\n",
    }
    store = MemoryStore(url)
    for name, content in contents.items():
        if name != "local.txt":
            store.write(name, content)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "local.txt").write_bytes(contents["local.txt"])
    entries = [
        Entry(name, sha(content), None if name == "unsized.txt" else len(content))
        for name, content in contents.items()
    ]
    return pkgdata.PackageData(
        "golden", dataurl=url, registry=Registry(entries), folders=[folder], retries=0
    )


def interrupt(data, monkeypatch) -> set[str]:
    """Fetch a large file over ranges that break; return the paths seen while it was written."""
    during: set[str] = set()

    def note(event) -> None:
        if event.state == BYTES:
            during.update(paths_below(data.cache.root))

    with monkeypatch.context() as patch:
        patch.setattr(
            MemoryStore,
            "open",
            lambda self, name, start=0, validator=None, stop=None: BrokenBody(
                self._objects[name], start
            ),
        )
        for limit in ("_LOOK_AFTER", "_WORTH_RANGES", "_WORTH_SECONDS"):
            patch.setattr(transfer, limit, 0)  # the first connection counts as slow at once
        with pytest.raises(PkgdataError, match="bytes came"):
            data.get("cut.bin", progress=note)
    return during


def in_the_making(data, monkeypatch) -> set[str]:
    """Return the paths that lie there while a tree, a second name and an unpacking are made."""
    during: set[str] = set()
    link = fs.link_or_copy

    def watch(source: str, target: str) -> None:
        link(source, target)
        during.update(paths_below(data.cache.root))

    with monkeypatch.context() as patch:
        patch.setattr(fs, "link_or_copy", watch)
        data.tree("maps")
        cache = data.cache
        cache.obtain(sha(SMALL), "second-name.txt", len(SMALL), lambda partial: None)
    return during


#: Nothing may listen on the lowest port, where only old system services ever did.
DEAD = "http://127.0.0.1:1/"


def past_a_dead_mirror(data) -> pkgdata.PackageData:
    return pkgdata.PackageData(
        "golden", dataurl=[DEAD, *data.dataurl], registry=data.registry, retries=0
    )


def do_everything(data, monkeypatch) -> set[str]:
    """Carry out every operation that leaves something; return the paths seen on the way."""
    past_a_dead_mirror(data).get("unsized.txt")
    with monkeypatch.context() as patch:
        patch.setattr("pkgdata.core.batch.FEW", 1)
        data.fetch("maps/small.txt")
        # a rank of a job tells the others what failed
        for number in ("PROCID", "LOCALID", "NODEID"):
            patch.setenv(f"SLURM_{number}", "0")
        nowhere = pkgdata.PackageData("golden", dataurl=DEAD, registry=data.registry, retries=0)
        with pytest.raises(BatchError):
            nowhere.fetch("maps/large.bin", on="job")
    for name in ("maps/large.bin", "maps/small.txt", "unsized.txt"):
        data.get(name)
    during = in_the_making(data, monkeypatch)
    data.get("pack.zip", pkgdata.Unzip())
    assert data.get("local.txt").endswith("folder/local.txt")
    return during | interrupt(data, monkeypatch)


def test_what_lies_at_rest_is_drawn(data, monkeypatch):
    do_everything(data, monkeypatch)
    paths = paths_below(data.cache.root)
    assert unmatched(paths) == set()
    momentary = [line for line in drawing() if "<owner>" in line or line.endswith(".soft")]
    for line in set(drawing()) - set(momentary):
        assert any(pattern(line).fullmatch(path) for path in paths), f"{line} is drawn, not made"
    for line in momentary:
        assert not any(pattern(line).fullmatch(path) for path in paths), f"{line} is left over"


def test_the_very_paths(data, monkeypatch):
    do_everything(data, monkeypatch)
    folder_key = hashlib.md5(data.folders[0].encode()).hexdigest()
    identity = data.registry.under("maps").digest()
    objects = {
        "large.bin": LARGE,
        "small.txt": SMALL,
        "second-name.txt": SMALL,
        "unsized.txt": UNSIZED,
        "pack.zip": archive(),
    }
    recipe = hashlib.sha256(b"Unzip [] ").hexdigest()[:16]
    key = f"sha256-{sha(CUT).hex[:40]}"
    asked = short_key("\n".join([data.cache.root, data.name, "maps/large.bin"]))
    expected = {"CACHEDIR.TAG", "README.txt", ".lock", ".claims"}
    for name, content in objects.items():
        expected.add(f"objects-v1/{at(sha(content))}/{name}")
    expected |= {
        f"sizes-v1/sha256/{sha(UNSIZED).hex[:2]}.txt",
        f"trees-v1/{at(identity)}/large.bin",
        f"trees-v1/{at(identity)}/small.txt",
        f"derived-v1/{at(sha(archive()))}/{recipe}/inside/one.txt",
        f"contents-v1/tree-sha256-{identity.hex[:40]}.txt",
        f"contents-v1/derived-sha256-{sha(archive()).hex[:40]}-{recipe}.txt",
        f"stamps-v1/{folder_key}.txt",
        f"packages-v1/{data.name}.txt",
        f"hosts-v1/{hashlib.md5(DEAD.rstrip('/').encode()).hexdigest()}.down",
        f"hosts-v1/job-{asked}.json",
        f"partial-v1/{key}.part",
        f"partial-v1/{key}.note",
        f"partial-v1/{key}.spans",
        f"locks-v1/{key}.lock",
    }
    assert paths_below(data.cache.root) == expected


def at(digest: Digest) -> str:
    return f"{digest.alg}/{digest.hex[:2]}/{digest.hex[2:]}"


def test_what_lies_there_for_a_moment_is_drawn(data, monkeypatch):
    during = do_everything(data, monkeypatch)
    assert unmatched(during) == set()
    for line in drawing():
        if "<owner>" in line:
            assert any(pattern(line).fullmatch(path) for path in during), f"{line} is drawn only"


def test_soft_lock_is_drawn(data, monkeypatch):
    seen: set[str] = set()
    monkeypatch.setattr("pkgdata.base.locks._try_flock", lambda fd, *_: None)
    data.get("unsized.txt", progress=lambda event: seen.update(paths_below(data.cache.root)))
    assert unmatched(seen) == set()
    assert any(path.endswith(".lock.soft") for path in seen)
    assert not any(path.endswith(".soft") for path in paths_below(data.cache.root))


def test_every_bucket_has_a_version_and_a_line():
    cache = pkgdata.cache.objects
    buckets = {
        cache.OBJECTS,
        cache.SIZES,
        cache.TREES,
        cache.DERIVED,
        cache.CONTENTS,
        cache.STAMPS,
        cache.PACKAGES,
        cache.PARTIAL,
        cache.HOSTS,
        cache.LOCKS,
    }
    drawn = {line.partition("/")[0] for line in drawing() if "/" in line}
    assert drawn == buckets
    assert all(re.fullmatch(r"[a-z]+-v\d+", bucket) for bucket in buckets)


def test_a_stray_path_would_be_noticed(data):
    data.get("unsized.txt")
    stray = os.path.join(data.cache.root, "objects-v1", "sha256", "surplus.tmp")
    with open(stray, "w"):
        pass
    assert unmatched(paths_below(data.cache.root)) == {"objects-v1/sha256/surplus.tmp"}


def test_tag_and_explanation(data):
    data.get("unsized.txt")
    with open(os.path.join(data.cache.root, "CACHEDIR.TAG"), "rb") as file:
        assert file.read(43) == b"Signature: 8a477f597d28d172789f06886806bc55"
    with open(os.path.join(data.cache.root, "README.txt"), encoding="utf-8") as file:
        assert "pkgdata cache clear" in file.read()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
@pytest.mark.parametrize("root_mode", [0o700, 0o755, 0o2775])
def test_modes_follow_the_root(data, monkeypatch, root_mode):
    root = data.cache.root
    os.mkdir(root)
    os.chmod(root, root_mode)
    umask = os.umask(0o077)  # the outcome must not depend on it
    try:
        do_everything(data, monkeypatch)
    finally:
        os.umask(umask)
    for folder, _, files in os.walk(root):
        bucket = os.path.relpath(folder, root).partition(os.sep)[0]
        assert stat.S_IMODE(os.stat(folder).st_mode) == root_mode, folder
        for name in files:
            drop = 0o222 if bucket in ("objects-v1", "trees-v1", "derived-v1") else 0
            if name.endswith(".part"):
                drop = 0o022  # nobody else writes to what is verified here
            mode = stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode)
            assert mode == root_mode & 0o666 & ~drop, os.path.join(folder, name)


def test_a_hit_writes_nothing(data, monkeypatch):
    do_everything(data, monkeypatch)
    again = pkgdata.PackageData(
        "golden", dataurl=data.dataurl, registry=data.registry, folders=data.folders
    )
    before = state(data.cache.root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("maps/small.txt", "unsized.txt", "local.txt"):
            again.get(name)
        again.tree("maps")
        again.get("pack.zip", pkgdata.Unzip())
    assert state(data.cache.root) == before


def state(root: str) -> dict[str, tuple[int, int, int]]:
    found = {}
    for folder, _, files in os.walk(root):
        for path in [folder, *(os.path.join(folder, name) for name in files)]:
            facts = os.stat(path)
            found[path] = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
    return found
