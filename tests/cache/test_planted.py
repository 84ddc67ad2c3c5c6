"""A cache whose folder a whole group may write to, and a colleague who plants things there."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import traceback
import warnings
from pathlib import Path

import pytest

import pkgdata
from pkgdata.base import fs, hashes
from pkgdata.base.hashes import Digest
from pkgdata.cache import partial, staging, stamps  # noqa: F401 - another user may not read them
from pkgdata.cache.objects import Cache, contents_file
from pkgdata.cache.stamps import key_of
from pkgdata.errors import CacheError
from pkgdata.transfer.fetch import Health

if os.name == "nt" or os.geteuid() != 0:
    pytest.skip("needs root, to become two other users", allow_module_level=True)

VICTIM, PLANTER, GROUP = 1000, 65534, 4242
CONTENT = b"a map of the sky\n" * 4096
DIGEST = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())
KEY = key_of(DIGEST)
NAME = "map.fits"


class Group:
    """Its cache, the folder of a victim, and what was warned of."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "cache"
        self.root.mkdir()
        os.chown(self.root, PLANTER, GROUP)
        os.chmod(self.root, 0o2775)
        self.home = top / "home"
        self.home.mkdir()
        self.own = self.home / "thesis.txt"
        self.own.write_bytes(b"the only copy")
        os.chown(self.home, VICTIM, GROUP)
        os.chown(self.own, VICTIM, GROUP)
        os.chmod(self.own, 0o600)

    def path(self, *parts: str) -> Path:
        """Return a path in the cache, whose folders the planter has made."""
        path = self.root.joinpath(*parts)
        for folder in reversed(path.parents):
            if self.root in folder.parents and not folder.exists():
                folder.mkdir()
                os.chown(folder, PLANTER, GROUP)
                os.chmod(folder, 0o2775)
        return path

    def plant(self, kind: str, path: Path, target: Path | None = None) -> None:
        """Put something there that belongs to the planter."""
        if kind == "link":
            path.symlink_to(target or self.own)
        elif kind == "second name":
            os.link(target or self.own, path)
            return
        elif kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        os.chown(path, PLANTER, GROUP, follow_symlinks=False)

    def write(self, path: Path, content: bytes, mode: int) -> None:
        path.write_bytes(content)
        os.chown(path, PLANTER, GROUP)
        os.chmod(path, mode)

    def untouched(self) -> bool:
        found = self.own.stat()
        names = {one.name for one in self.home.iterdir()}
        facts = (self.own.read_bytes(), stat.S_IMODE(found.st_mode), found.st_uid, names)
        return facts == (b"the only copy", 0o600, VICTIM, {"thesis.txt"})

    def run(self, work) -> list[str]:
        """Let the victim do something; return what it was warned of."""
        told = self.top / "told"
        told.touch()
        os.chown(told, VICTIM, GROUP)
        pid = os.fork()
        if not pid:
            try:
                os.setgroups([])
                os.setgid(GROUP)
                os.setuid(VICTIM)
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    work()
                told.write_text("".join(f"{one.message}\n" for one in caught))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        return told.read_text().splitlines()

    def fetch(self, size: int | None = None, verify: str = "once", timeout: float = 2) -> list[str]:
        """Let the victim bring the object in, and look that it is right."""

        def work() -> None:
            cache = Cache(str(self.root), lock_timeout=timeout, verify=verify)
            path = cache.obtain(DIGEST, NAME, size, fill, sync=False)
            assert Path(path).read_bytes() == CONTENT
            found = os.lstat(path)
            assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (VICTIM, 0o444)

        return self.run(work)

    def object(self) -> Path:
        return self.path("objects-v1", "sha256", DIGEST.hex[:2], DIGEST.hex[2:], NAME)


def fill(part) -> None:
    """Write what is missing, as a transfer does that resumes; begin again if that is wrong."""
    os.lseek(part.fd, part.offset, os.SEEK_SET)
    fs.write_all(part.fd, CONTENT[part.offset :])
    os.lseek(part.fd, 0, os.SEEK_SET)
    if os.read(part.fd, 1 << 20) != CONTENT:
        part.restart()
        fs.write_all(part.fd, CONTENT)
    part.offset = len(CONTENT)


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory):
    """Load what the interpreter needs, which the other users may not be allowed to read."""
    top = tmp_path_factory.mktemp("loaded")
    (top / NAME).write_bytes(CONTENT)
    registry = {NAME: f"sha256:{DIGEST.hex}"}
    for verify in ("always", "owner"):
        root = str(top / verify)
        pkgdata.PackageData(
            "loaded", dataurl=top.as_uri(), registry=registry, cache_dir=root, verify=verify
        ).get(NAME)
        path = Cache(root).path(DIGEST, NAME)
        Cache(root).tree(DIGEST, [("a/b", path)])
        os.unlink(path)
        with pytest.raises(CacheError):
            Cache(root).obtain(DIGEST, NAME, None, interrupted)
        Cache(root).obtain(DIGEST, NAME, None, fill)
    "".encode("ascii")


def interrupted(part) -> None:
    part.offset = os.write(part.fd, CONTENT[:10])
    part.record(10, [])
    part.note("x", "y")
    raise ConnectionError


@pytest.fixture
def group():
    top = Path(tempfile.mkdtemp())
    os.chmod(top, 0o755)
    yield Group(top)
    shutil.rmtree(top)


@pytest.mark.parametrize("kind", ["link", "second name", "folder", "pipe"])
@pytest.mark.parametrize(
    "place",
    [
        f"partial-v1/{KEY}.part",
        f"sizes-v1/sha256/{DIGEST.hex[:2]}.txt",
        f"locks-v1/{KEY}.lock",
        ".lock",
        "object",
        f"partial-v1/{KEY}.note",
        f"partial-v1/{KEY}.spans",
    ],
)
def test_what_is_no_plain_file_is_neither_followed_nor_in_the_way(group, kind, place):
    if (kind, place) == ("second name", "object"):
        pytest.skip("contents of objects are believed")
    path = group.object() if place == "object" else group.path(*place.split("/"))
    group.plant(kind, path)
    told = group.fetch()
    assert group.untouched()
    assert len(told) <= 1, told
    assert group.fetch() == [], "it is told once"
    assert group.untouched()


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize(
    "place",
    [
        "objects-v1",
        "objects-v1/sha256",
        f"objects-v1/sha256/{DIGEST.hex[:2]}",
        f"objects-v1/sha256/{DIGEST.hex[:2]}/{DIGEST.hex[2:]}",
        "partial-v1",
        "locks-v1",
        "sizes-v1",
        "sizes-v1/sha256",
    ],
)
def test_a_link_to_a_folder_elsewhere_is_not_written_through(group, kind, place):
    group.plant(kind, group.path(*place.split("/")), group.home)
    told = group.fetch()
    assert group.untouched()
    assert len(told) == 1
    assert "is not followed or used" in told[0]


def test_records_that_are_links_are_replaced(group):
    key = f"tree-{KEY}"
    group.plant("link", group.path("contents-v1", f"{key}.txt"))
    group.plant(
        "link", group.path("trees-v1", "sha256", DIGEST.hex[:2], DIGEST.hex[2:]), group.home
    )
    folder = hashes.short_key(str(group.home))
    group.plant("link", group.path("stamps-v1", f"{folder}.txt"))
    group.plant("link", group.path("hosts-v1", f"{hashes.short_key('http://x.org')}.down"))

    def work() -> None:
        cache = Cache(str(group.root), lock_timeout=2)
        path = cache.obtain(DIGEST, NAME, None, fill, sync=False)
        tree = cache.tree(DIGEST, [("sub/map.fits", path)])
        assert (Path(tree) / "sub" / "map.fits").read_bytes() == CONTENT
        assert not os.path.islink(contents_file(cache.root, key))
        right = Digest("sha256", hashlib.sha256(b"the only copy").hexdigest())
        seen = stamps.Stamps(cache.root)
        assert stamps.check(str(group.home), "thesis.txt", right, None, "once", seen)[1] is None
        Health(cache.root).note("http://x.org/a", True)

    group.run(work)
    assert group.untouched()


@pytest.mark.parametrize("owner", [PLANTER, VICTIM])
def test_a_part_that_others_may_have_open_is_copied(group, owner):
    path = group.path("partial-v1", f"{KEY}.part")
    group.write(path, CONTENT[:5000], 0o666)
    os.chown(path, owner, GROUP)
    with open(path, "r+b") as held:
        group.fetch()
        held.write(b"WRONG")
    assert group.object().read_bytes() == CONTENT


def test_a_part_of_ones_own_is_resumed_in_place(group):
    path = group.path("partial-v1", f"{KEY}.part")
    group.write(path, CONTENT[:5000], 0o644)
    os.chown(path, VICTIM, GROUP)
    number = path.stat().st_ino
    group.fetch()
    assert group.object().stat().st_ino == number


@pytest.mark.parametrize(
    ("mode", "verify", "replaced"),
    [
        (0o444, "once", False),
        (0o664, "once", True),
        (0o444, "owner", True),
        (0o444, "always", True),
    ],
)
def test_wrong_bytes_of_another_user(group, mode, verify, replaced):
    group.write(group.object(), b"x" * len(CONTENT), mode)
    if replaced:
        group.fetch(len(CONTENT), verify)
    assert (group.object().read_bytes() == CONTENT) is replaced


def test_right_bytes_of_another_user_are_hashed_once_a_process(group, monkeypatch):
    group.write(group.object(), CONTENT, 0o444)
    calls = []
    monkeypatch.setattr(hashes, "hash_file", lambda *_: calls.append(1) or DIGEST)

    def work() -> None:
        cache = Cache(str(group.root), verify="owner")
        for _ in range(3):
            assert cache.find(DIGEST, NAME, len(CONTENT)) == str(group.object())
        assert calls == [1]

    group.run(work)


def test_an_object_that_is_a_link_of_another_user_is_replaced(group):
    elsewhere = group.top / "elsewhere"
    group.write(elsewhere, b"y" * len(CONTENT), 0o644)
    group.plant("link", group.object(), elsewhere)
    group.fetch(len(CONTENT))
    assert elsewhere.read_bytes() == b"y" * len(CONTENT)
    assert not group.object().is_symlink()


@pytest.mark.parametrize("temporary", [True, False])
def test_verified_always_a_damaged_object_that_cannot_be_replaced_is_not_returned(group, temporary):
    group.write(group.object(), b"x" * len(CONTENT), 0o444)
    group.path("partial-v1", "x")
    for folder in [group.root, *(one for one in group.root.rglob("*") if one.is_dir())]:
        os.chmod(folder, 0o555)
    mirror = group.top / "mirror"
    mirror.mkdir()
    (mirror / NAME).write_bytes(CONTENT)

    def work() -> None:
        data = pkgdata.PackageData(
            "shared",
            dataurl=mirror.as_uri(),
            registry={NAME: f"sha256:{DIGEST.hex}"},
            cache_dir=str(group.root),
            verify="always",
        )
        data._settings.may_be_temporary = temporary
        if not temporary:
            with pytest.raises(CacheError, match="nothing could be kept"):
                data.get(NAME)
            return
        path = data.get(NAME)
        assert Path(path).read_bytes() == CONTENT
        assert not path.startswith(str(group.root))

    (group.top / "tmp").mkdir(mode=0o777)
    os.chmod(group.top / "tmp", 0o777)
    told = group.run(work)
    assert any("expected sha256:" in one for one in told)
