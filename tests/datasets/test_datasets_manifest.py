"""The manifest of a dataset: a golden text, and all that may be wrong with one."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkgdata import Digest, Entry, Registry, RegistryError, UnsafeNameError
from pkgdata.datasets import repository
from pkgdata.datasets.repository import Manifest, Spot, partition_of
from pkgdata.stores import Store

A, B, C, PACK = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)

GOLDEN = f"""#: dataset=1
#: pack={PACK} bytes=1000
#: folder=data/an%20empty%20one
#: size=100 at=0+0
README.md {A}
#: size=900 at=0+100 zstd=50 mode=755
'data/train/run it.sh' {B}
#: size=5000000
data/val/large.bin {C}
#: size=100 at=0+0
data/val/copy {A}
"""


def entry(name, digest, size):
    return Entry(name, Digest("sha256", digest), size)


@pytest.fixture
def golden():
    return Manifest.parse(GOLDEN, "test")


def test_the_golden_text_is_read(golden):
    assert list(golden.registry.values()) == [
        entry("README.md", A, 100),
        entry("data/train/run it.sh", B, 900),
        entry("data/val/large.bin", C, 5_000_000),
        entry("data/val/copy", A, 100),
    ]
    assert golden.packs == [(PACK, 1000)]
    assert golden.folders == ["data/an empty one"]
    assert golden.modes == {"data/train/run it.sh": 0o755}
    spots = {digest.hex: (s.pack, s.offset, s.zstd) for digest, s in golden.spots.items()}
    assert spots == {A: (0, 0, None), B: (0, 100, 50), C: (None, 0, None)}
    assert golden.size == 5_001_100


def test_the_golden_text_is_written(golden):
    assert golden.dumps() == GOLDEN


def test_readers_of_registries_can_read_it(golden):
    registry = Registry.parse(GOLDEN)
    assert registry.digest() == golden.registry.digest()
    assert registry["data/train/run it.sh"].size == 900


def test_pooch_reads_it(tmp_path):
    import pooch

    (tmp_path / "registry.txt").write_text(GOLDEN)
    reader = pooch.create(path=tmp_path, base_url="https://example.org/", registry=None)
    reader.load_registry(tmp_path / "registry.txt")
    assert reader.registry["data/train/run it.sh"] == B
    assert len(reader.registry) == 4


def test_partitions(golden):
    assert golden.partitions() == ["an empty one", "train", "val"]
    part = golden.part(["val"])
    assert list(part.registry) == ["README.md", "data/val/large.bin", "data/val/copy"]
    assert part.folders == []
    assert golden.part(["an empty one"]).folders == ["data/an empty one"]
    assert golden.part(None) is golden
    assert [partition_of(n) for n in ("data/a/b", "data/a", "data", "x/data/a")] == [
        "a",
        "a",
        "",
        "",
    ]


def test_each_digest_is_located_once(golden):
    found = [(one.name, one.digest.hex) for one, _, _ in golden.located()]
    assert [digest for _, digest in found] == [A, B, C]
    assert found[0][0] == "README.md"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("dataset=1", "dataset=2", "this release can read"),
        ("dataset=1", "dataset=x", "a whole number, found 'x'"),
        ("#: dataset=1\n", "", "this release can read"),
        (f"pack={PACK}", "pack=../../x", "line 2: expected the SHA-256 of a pack"),
        ("bytes=1000", "bytes=-1", "a whole number"),
        ("bytes=1000", "", "a whole number"),
        ("at=0+100", "at=1+100", "no pack has these bytes"),
        ("at=0+100", "at=0+951", "no pack has these bytes"),
        ("at=0+100", "at=0", "a whole number"),
        ("zstd=50", "zstd=1e9", "a whole number"),
        ("mode=755", "mode=9", "octal"),
        ("mode=755", "mode=100755", "octal"),
        ("#: size=5000000\n", "", "a digest and a size"),
        ("#: size=5000000\n", "#: size=x\n", "size="),
        ("data/val/copy", "README.md", "a name occurs twice"),
        (f" {C}", " cc", "64 hexadecimal digits"),
    ],
)
def test_what_is_malformed_is_reported(old, new, problem):
    assert old in GOLDEN
    with pytest.raises(RegistryError) as caught:
        Manifest.parse(GOLDEN.replace(old, new, 1), "source")
    assert problem in str(caught.value)
    assert "source" in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "data/../../x", "a//b"])
def test_names_that_leave_the_folder_are_refused(name):
    with pytest.raises(UnsafeNameError):
        Manifest.parse(GOLDEN.replace("README.md", name), "source")
    with pytest.raises(UnsafeNameError):
        Manifest.parse(GOLDEN.replace("data/an%20empty%20one", name), "source")


def test_modes_grant_no_rights_to_others():
    assert Manifest.parse(GOLDEN.replace("mode=755", "mode=4755"), "s").modes == {
        "data/train/run it.sh": 0o755
    }


#: Short enough for any file system, and no device of Windows.
NAMES = st.text(st.characters(exclude_categories=["C"], exclude_characters="/\\"), max_size=50)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        NAMES.map(lambda text: f"data/p/n{text}x"),
        st.tuples(st.integers(0, 1 << 40), st.integers(0, 255)),
        max_size=20,
    )
)
def test_any_names_survive(contents):
    entries = [entry(name, f"{digest:064x}", size) for name, (size, digest) in contents.items()]
    sizes: dict[Digest, int] = {}
    for one in entries:  # equal digests have equal sizes
        one.size = sizes.setdefault(one.digest, one.size)
    spots = {one.digest: Spot(None, 0, one.size) for one in entries}
    folders = [f"{one.name}.empty" for one in entries]
    made = Manifest(Registry(entries), spots, [], folders, {})
    back = Manifest.parse(made.dumps(), "test")
    assert list(back.registry.values()) == entries
    assert back.folders == folders
    assert back.dumps() == made.dumps()


# -- in a repository -------------------------------------------------------------------------


def test_a_manifest_that_is_not_there():
    assert repository.read_manifest(Store("mem://manifests-none"), "flower") is None


def test_a_manifest_that_was_decoded_on_the_way_is_read(golden):
    store = Store("mem://manifests-decoded")
    store["flower.manifest.txt.gz"] = GOLDEN.encode()
    assert repository.read_manifest(store, "flower")[0].dumps() == GOLDEN
    store["flower.manifest.txt.gz"] = repository.encode_manifest(golden)
    assert repository.read_manifest(store, "flower")[0].dumps() == GOLDEN


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(GOLDEN.encode())[:-20],
        gzip.compress(GOLDEN.encode())[:-8] + bytes(8),
        gzip.compress(b"\xff\xfe", mtime=0),
        b"\xff",
    ],
)
def test_a_damaged_manifest_is_an_error(content):
    store = Store("mem://manifests-damaged")
    store["flower.manifest.txt.gz"] = content
    with pytest.raises(RegistryError, match=r"flower.manifest.txt.gz is damaged"):
        repository.read_manifest(store, "flower")


def test_a_manifest_that_would_fill_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(repository, "_MOST", 1 << 20)
    store = Store("mem://manifests-bomb")
    store["flower.manifest.txt.gz"] = gzip.compress(bytes(64 << 20))
    with pytest.raises(RegistryError, match="grow past"):
        repository.read_manifest(store, "flower")


@pytest.mark.parametrize("line", [b"\n", b"#: folder=a\n", b"a"])
def test_a_manifest_grows_no_more_than_digests_can_be_compressed(line):
    store = Store("mem://manifests-growth")
    store["flower.manifest.txt.gz"] = gzip.compress(line * ((40 << 20) // len(line)), 1)
    tracemalloc.start()
    try:
        with pytest.raises(RegistryError, match="bytes grow past"):
            repository.read_manifest(store, "flower")
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_equal_datasets_have_equal_manifests(golden):
    assert repository.encode_manifest(golden) == repository.encode_manifest(
        Manifest.parse(GOLDEN, "x")
    )
