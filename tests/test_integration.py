"""The whole path with a real web server, real data files, real processes and real disks."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flock_shim import build_shim
from nginx import Nginx

import pkgdata
from pkgdata import CacheError, Digest, Entry, PackageData, Registry
from pkgdata.base import fs
from pkgdata.cache import upkeep
from pkgdata.cache.objects import OBJECTS, PARTIAL, Cache
from pkgdata.core import scan
from pkgdata.core.declaration import find_package

pytestmark = [
    pytest.mark.slow,
    pytest.mark.integration,
    pytest.mark.skipif(os.name == "nt", reason="nginx, signals and mounts are used as on Linux"),
]

MEGABYTE = 1 << 20
PROCESSES = 32


def need(module: str) -> Path:
    """Return the folder of a package; skip without it, or fail where it is to be."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        ask = f"needs {module}: pip install '.[integration]'"
        pytest.fail(ask) if os.environ.get("CI") else pytest.skip(ask)
    return Path(spec.origin).parent


def paths_in(bucket: str, root: str | None = None) -> list[str]:
    top = os.path.join(root or os.environ["PKGDATA_CACHE_DIR"], bucket)
    return [path for _, path in fs.walk_files(top)] if os.path.isdir(top) else []


def python(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start an interpreter that imports the same pkgdata as this one."""
    checkout = os.path.dirname(os.path.dirname(pkgdata.__file__))
    paths = [checkout, *environment.pop("PYTHONPATH", "").split(os.pathsep)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# -- real files of a real package --------------------------------------------------------------


@pytest.fixture
def real_files(tmp_path):
    """A folder of FITS files, images and tables, as other projects ship them."""
    astropy = need("astropy")
    need("PIL")
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        os.makedirs(os.environ[name])  # astropy warns if they are named and not there
    folder = tmp_path / "served"
    kinds = {
        "fits": sorted((astropy / "io" / "fits" / "tests" / "data").glob("*.fits")),
        "images": sorted((astropy / "samp" / "data").glob("*.png")),
        "tables": sorted((astropy / "timeseries" / "tests" / "data").glob("*.csv")),
    }
    skimage = importlib.util.find_spec("skimage")
    if skimage is not None and skimage.origin is not None:
        shipped = (Path(skimage.origin).parent / "data").iterdir()
        kinds["images"] += sorted(p for p in shipped if p.suffix in (".png", ".jpg", ".jpeg"))
    for kind, sources in kinds.items():
        assert sources, f"the installed packages ship no {kind}"
        (folder / kind).mkdir(parents=True)
        for source in sources:
            shutil.copy(source, folder / kind)
    return folder


@pytest.fixture
def package(tmp_path, real_files, monkeypatch):
    """An importable package that declares the files; its folder and its server."""
    with Nginx(tmp_path / "nginx", real_files) as server:
        site = tmp_path / "site"
        folder = site / "realdatapkg"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        scan.make(real_files).write(folder / "registry.txt")
        (folder / "pkgdata.toml").write_text(
            f'[package]\nname = "realdatapkg"\ndataurl = "{server.url}"\n'
        )
        monkeypatch.syspath_prepend(str(site))
        yield site, server


OFFLINE = """
import sys
from pkgdata.core.declaration import find_package
found = find_package("realdatapkg").fetch().succeeded
print(len(found), "requests" in sys.modules)
"""


def test_real_files(package, real_files):
    site, server = package
    names = {name for name, _ in fs.walk_files(str(real_files))}
    report = find_package("realdatapkg").fetch()
    assert set(report.succeeded) == names
    for name, path in report.succeeded.items():
        assert Path(path).read_bytes() == (real_files / name).read_bytes()
        assert os.path.basename(path) == os.path.basename(name)
    read_with_their_libraries(real_files, report.succeeded)
    server.stop()
    assert sorted((hit.path, hit.status, hit.sent) for hit in server.hits()) == sorted(
        (f"/{name}", 200, (real_files / name).stat().st_size) for name in names
    )
    again = pkgdata.declare("realdatapkg")
    assert again.fetch().succeeded == report.succeeded, "all of it is here, the server is gone"
    assert pkgdata.get_data("fits/test0.fits", "realdatapkg") == report.succeeded["fits/test0.fits"]
    assert set(again.verify().values()) == {"ok"}
    process = python(OFFLINE, PKGDATA_OFFLINE="1", PYTHONPATH=str(site))
    assert process.communicate()[0] == f"{len(names)} False\n"
    assert process.returncode == 0


def read_with_their_libraries(folder: Path, paths: dict[str, str]) -> None:
    from astropy.io import fits
    from PIL import Image

    with fits.open(paths["fits/test0.fits"]) as ours, fits.open(folder / "fits/test0.fits") as own:
        assert len(ours) == len(own) > 1
        assert ours[1].header["EXTNAME"] == own[1].header["EXTNAME"]
        assert (ours[1].data == own[1].data).all()
    for image in (name for name in paths if name.startswith("images/")):
        with Image.open(paths[image]) as ours, Image.open(folder / image) as own:
            assert ours.size[0] > 1
            assert ours.tobytes() == own.tobytes()
    with open(paths["tables/sampled.csv"], newline="") as ours:
        rows = list(csv.DictReader(ours))
    assert len(rows) > 1
    assert {"Date", "A"} <= set(rows[0])


# -- many processes, one large file --------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder with a large file and a smaller one, and their registry."""
    folder = tmp_path_factory.mktemp("large")
    noise = random.Random(0)
    entries = []
    for name, megabytes in (("large.bin", 200), ("small.bin", 20)):
        block = bytearray(noise.randbytes(MEGABYTE))
        hasher = hashlib.sha256()
        with open(folder / name, "wb") as file:
            for i in range(megabytes):
                block[:8] = i.to_bytes(8, "little")  # no two blocks are the same
                file.write(block)
                hasher.update(block)
        digest = Digest("sha256", hasher.hexdigest())
        entries.append(Entry(name, digest, megabytes * MEGABYTE))
    return folder, Registry(entries)


CLIENT = """
import hashlib, json, sys, warnings
import pkgdata
url, listing, name = sys.argv[1:]
data = pkgdata.PackageData("p", dataurl=url, registry=pkgdata.Registry.parse(listing))
print("ready", flush=True)
sys.stdin.readline()

def note(event):
    if event.state == "bytes":
        print(event.done, flush=True)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    path = data.get(name, progress=note if "note" in pkgdata.conf.default_http_user_agent else None)
hasher = hashlib.sha256()
with open(path, "rb") as file:
    while block := file.read(1 << 20):
        hasher.update(block)
print(json.dumps({
    "path": path, "sha256": hasher.hexdigest(), "warnings": [str(one.message) for one in caught],
}))
"""


def ask_at_once(count: int, server: Nginx, registry: Registry, name: str, **environment: str):
    """Let many processes ask for one file at the same time; return what each one says.

    A file takes one connection: a busy machine would make several, and requests are counted.
    """
    environment["PKGDATA_CONNECTIONS"] = "1"
    clients = [
        python(CLIENT, server.url, registry.dumps(), name, **environment) for _ in range(count)
    ]
    try:
        for client in clients:
            assert client.stdout.readline() == "ready\n"
        for client in clients:
            client.stdin.write("go\n")
            client.stdin.flush()
        return [json.loads(client.communicate(timeout=240)[0]) for client in clients]
    finally:
        for client in clients:
            client.kill()
            client.communicate()


def check_results(results, registry: Registry, name: str) -> None:
    assert {result["sha256"] for result in results} == {registry[name].digest.hex}
    assert len({result["path"] for result in results}) == 1
    assert [result["warnings"] for result in results] == [[]] * PROCESSES
    assert paths_in(OBJECTS) == [results[0]["path"]]
    assert paths_in(PARTIAL) == []


def test_many_processes_download_once(large, tmp_path):
    folder, registry = large
    with Nginx(tmp_path / "nginx", folder) as server:
        results = ask_at_once(PROCESSES, server, registry, "large.bin")
        check_results(results, registry, "large.bin")
        server.stop()
        (hit,) = server.hits()
    assert (hit.path, hit.status, hit.sent) == ("/large.bin", 200, 200 * MEGABYTE)


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.skipif(sys.platform != "linux", reason="the shim is preloaded as on Linux")
@pytest.mark.parametrize("answer", ["granted", "ENOSYS", "ENOLCK"])
def test_many_processes_where_flock_is_not_what_it_seems(large, shim, tmp_path, answer):
    folder, registry = large
    env = {"LD_PRELOAD": shim, "FLOCK_SHIM": answer}
    with Nginx(tmp_path / "nginx", folder) as server:
        results = ask_at_once(PROCESSES, server, registry, "small.bin", **env)
        check_results(results, registry, "small.bin")
        server.stop()
        hits = server.hits()
    print(f"{answer}: {len(hits)} downloads for {PROCESSES} processes")
    assert {(hit.path, hit.sent) for hit in hits} == {("/small.bin", 20 * MEGABYTE)}
    if answer != "granted":
        assert len(hits) == 1, "the soft lock excludes the others"


# -- killed and started again -----------------------------------------------------------------


def test_only_the_rest_is_sent_after_a_kill(large, tmp_path):
    folder, registry = large
    env = {"PKGDATA_DEFAULT_HTTP_USER_AGENT": "note", "PKGDATA_CONNECTIONS": "1"}
    with Nginx(tmp_path / "nginx", folder, "limit_rate 100m;") as server:
        client = python(CLIENT, server.url, registry.dumps(), "large.bin", **env)
        assert client.stdout.readline() == "ready\n"
        client.stdin.write("go\n")
        client.stdin.flush()
        while int(client.stdout.readline()) < 100 * MEGABYTE:
            pass
        client.kill()
        client.communicate()
        (part,) = (path for path in paths_in(PARTIAL) if path.endswith(".part"))
        on_disk = os.path.getsize(part)
        assert 100 * MEGABYTE <= on_disk < 200 * MEGABYTE
        server.restart()
        (result,) = ask_at_once(1, server, registry, "large.bin")
        server.stop()
        first, second = server.hits()
    assert result["sha256"] == registry["large.bin"].digest.hex
    assert (first.range, second.range) == ("", f"bytes={on_disk}-")
    assert (second.status, second.sent) == (206, 200 * MEGABYTE - on_disk)
    assert paths_in(PARTIAL) == []


# -- disk full --------------------------------------------------------------------------------


def test_file_larger_than_the_disk(large, small_disk, tmp_path):
    folder, registry = large
    root = str(small_disk("10m") / "cache")
    with Nginx(tmp_path / "nginx", folder) as server:
        data = PackageData("p", dataurl=server.url, registry=registry, cache_dir=root)
        with pytest.raises(CacheError, match=f"{20 * MEGABYTE} bytes are needed") as caught:
            data.get("small.bin")
    assert "PKGDATA_CACHE_DIR" in caught.value.hint
    nothing_is_left(root)


def test_disk_that_fills_up_meanwhile(large, small_disk, tmp_path):
    folder, _ = large
    disk = small_disk("10m")
    root = str(disk / "cache")
    served = tmp_path / "served"
    served.mkdir()
    with open(folder / "small.bin", "rb") as file:
        (served / "part.bin").write_bytes(file.read(8 * MEGABYTE))
    other = disk / "other.bin"

    def fill_up(event) -> None:
        if event.state == "bytes" and not other.exists():
            other.write_bytes(bytes(5 * MEGABYTE))

    with Nginx(tmp_path / "nginx", served) as server:
        registry = scan.make(served)
        data = PackageData("p", dataurl=server.url, registry=registry, cache_dir=root)
        with pytest.raises(CacheError, match=r"no space for 'part\.bin'"):
            data.get("part.bin", progress=fill_up)
        nothing_is_left(root)
        other.unlink()
        path = data.get("part.bin")
    assert Path(path).read_bytes() == (served / "part.bin").read_bytes()


def nothing_is_left(root: str) -> None:
    """Neither an object nor unfinished bytes take space on the full disk."""
    assert list(upkeep.items(Cache(root))) == []
    assert paths_in(PARTIAL, root) == []
