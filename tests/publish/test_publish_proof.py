"""What publishing writes to the registry, and the download that proves what was published."""

from __future__ import annotations

import json
import os

import pytest
from nginx import Nginx
from publishing import (
    FILES,
    make,
    publish,
    run,
    sha,
    states,
)

import pkgdata
from pkgdata.base import hashes
from pkgdata.core.registry import Entry, Registry
from pkgdata.errors import (
    AlreadyPublishedError,
    PublishError,
)
from pkgdata.publish import (
    destination_for,
    plan,
    readback,
)
from pkgdata.publish.engine import Publication

# -- the registry ------------------------------------------------------------------------------


def test_comments_and_other_entries_of_the_registry_stay(here, web, registry):
    other = f"# of 2020\n#: url=https://b.example/x\nold.dat md5:{'0' * 32} https://a.example/x\n"
    md5 = hashes.hash_file(here / "stars.csv", "md5")
    registry.write_text(f"# mine\n\n{other}\n# stars\nstars.csv {md5}\n# the end\n")
    publish(here, f"file:{web}", registry)
    text = registry.read_text()
    size = len(FILES["stars.csv"])
    assert text.startswith(
        f"# mine\n\n{other}\n# stars\n#: size={size}\nstars.csv {md5}\n# the end\n#: size="
    )
    found = Registry.load(registry)
    assert found["old.dat"].urls == ("https://a.example/x", "https://b.example/x")
    assert found["stars.csv"].digest == md5
    assert set(found) == {*FILES, "old.dat"}


def test_a_file_of_sums_becomes_a_registry(here, web, registry):
    registry.write_text(f"{sha(FILES['stars.csv'])}  stars.csv\n{'a' * 64}  old.dat\n")
    publish(here, f"file:{web}", registry)
    found = Registry.load(registry)
    assert set(found) == {*FILES, "old.dat"}
    assert found["old.dat"].digest.hex == "a" * 64


def test_new_names_are_not_searched_for_in_a_large_registry(here, web, registry, monkeypatch):
    """The search for similar names, for errors, would take hours for thousands of files."""
    monkeypatch.setattr(Registry, "_unknown", lambda self, name: pytest.fail(f"{name} sought"))
    Registry([Entry(f"{i}.bin", pkgdata.Digest("md5", "0" * 32)) for i in range(100)]).write(
        registry
    )
    publish(here, f"file:{web}", registry)
    assert len(Registry.load(registry)) == 100 + len(FILES)


def test_what_others_have_added_meanwhile_stays(here, web, registry):
    with Publication(str(here), [destination_for(f"file:{web}")], str(registry)) as work:
        work.plan()
        work.upload()
        Registry([Entry("theirs", pkgdata.Digest("md5", "0" * 32))]).write(registry)
        work.record()
    assert set(Registry.load(registry)) == {*FILES, "theirs"}


def test_another_digest_that_has_come_meanwhile_is_refused(here, web, registry):
    with Publication(str(here), [destination_for(f"file:{web}")], str(registry)) as work:
        work.plan()
        work.upload()
        Registry([Entry("stars.csv", pkgdata.Digest("md5", "0" * 32))]).write(registry)
        with pytest.raises(AlreadyPublishedError, match="meanwhile"):
            work.record()


def test_a_registry_that_is_a_link_stays_one(tmp_path, here, web, registry):
    (tmp_path / "real").mkdir()
    registry.symlink_to(tmp_path / "real" / "registry.txt")
    publish(here, f"file:{web}", registry)
    assert registry.is_symlink()
    assert set(Registry.load(tmp_path / "real" / "registry.txt")) == set(FILES)


def test_a_broken_registry_is_an_error_before_anything_is_sent(here, web, registry):
    registry.write_text("only-a-name\n")
    done = run(here, "--to", f"file:{web}", "--registry", registry)
    assert done.returncode == 1
    assert "line 1" in done.stderr
    assert not web.exists()


@pytest.mark.parametrize("old", ["", "# only words\n", "a md5:" + "0" * 32 + "\n"])
def test_text_of_a_merged_registry_reads_as_the_merged_one(old):
    before = Registry.parse(old)
    after = Registry([*before.values(), Entry("b c", pkgdata.Digest("md5", "1" * 32), 3, ("u",))])
    assert dict(Registry.parse(plan.merged_text(old, before, after))) == dict(after)


# -- the proof ---------------------------------------------------------------------------------


def test_what_is_damaged_or_gone_is_found(here, web, registry):
    work, _, _ = publish(here, f"file:{web}", registry)
    (web / "stars.csv").write_bytes(b"name,mag\nSirius,-1.47\n")
    (web / "empty.dat").unlink()
    done = run("--check", "--url", f"file:{web}", "--registry", registry, "--json")
    assert done.returncode == 3
    found = {row["name"]: row["state"] for row in json.loads(done.stdout)["files"]}
    assert (found["stars.csv"], found["empty.dat"]) == ("wrong", "absent")
    assert found["maps/dust map.fits"] == "ok"
    assert states(work.prove())["stars.csv"] == "wrong"


def test_a_check_names_the_mirror_that_fails(tmp_path, here, registry):
    places = [f"file:{tmp_path / 'a'}", f"file:{tmp_path / 'b'}"]
    publish(here, places, registry)
    (tmp_path / "b" / "stars.csv").unlink()
    words = [word for place in places for word in ("--url", place)]
    done = run("--check", *words, "--registry", registry)
    assert done.returncode == 3
    bad = [line for line in done.stdout.splitlines() if not line.startswith(("ok", "STATE"))]
    assert len(bad) == 1
    assert bad[0].startswith("absent")
    assert str(tmp_path / "b") in bad[0]


def test_a_server_that_is_down(here, web, registry):
    publish(here, f"file:{web}", registry)
    words = ["--check", "--url", "http://127.0.0.1:9/", "--registry", registry, "--json"]
    done = run(*words, env={"PKGDATA_RETRIES": "0"})
    assert done.returncode == 3
    assert {row["state"] for row in json.loads(done.stdout)["files"]} == {"failed"}


def test_nothing_to_check(registry, tmp_path):
    registry.write_text("")
    done = run("--check", "--registry", registry)
    assert done.returncode == 1
    assert "nothing to check" in done.stderr
    assert run("--check").returncode == 1


def test_a_file_with_its_own_address_need_not_be_on_a_mirror(tmp_path):
    entry = Entry(
        "a",
        pkgdata.Digest("sha256", sha(b"a")),
        1,
        (make(tmp_path / "own", {"a": b"a"}).joinpath("a").as_uri(),),
    )
    (tmp_path / "mirror").mkdir()
    mirrors = readback.mirrors_of([(tmp_path / "mirror").as_uri()], Registry([entry]))
    found = [one for mirror in mirrors for one in readback.read_back(mirror, lambda _: None)]
    assert [one.state for one in found] == ["ok", "ok"]
    make(tmp_path / "mirror", {"a": b"b"})
    found = [one for mirror in mirrors for one in readback.read_back(mirror, lambda _: None)]
    assert [one.state for one in found] == ["wrong", "ok"]


@pytest.mark.parametrize(
    "name",
    ["AWS_ACCESS_KEY_ID", "GITHUB_TOKEN", "ZENODO_TOKEN", "PKGDATA_FOLDERS", "AZURE_STORAGE_KEY"],
)
def test_nobody_is_known_to_the_process_that_reads_back(monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")
    found = readback.clean_environment(str(tmp_path))
    assert name not in found
    assert found["HTTPS_PROXY"] == "http://proxy.example:1"
    assert found["HOME"] == str(tmp_path)


def test_reading_back_uses_neither_netrc_nor_local_folders(tmp_path, here, web, registry):
    """A server that wants a password is refused, though netrc holds it and a folder the files."""
    publish(here, f"file:{web}", registry)
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    (tmp_path / "users").write_text("me:{PLAIN}secret\n")
    settings = f'auth_basic "private"; auth_basic_user_file {tmp_path}/users;'
    make(tmp_path / "local" / "published", FILES)
    env = {"PKGDATA_FOLDERS": str(tmp_path / "local"), "NETRC": str(netrc)}
    with Nginx(tmp_path / "nginx", web, settings) as server:
        import requests

        assert requests.get(f"{server.url}stars.csv", timeout=10).status_code == 200
        done = run("--check", "--url", server.url, "--registry", registry, "--json", env=env)
    assert done.returncode == 3
    assert {row["state"] for row in json.loads(done.stdout)["files"]} == {"refused"}


def test_little_disk_is_needed_to_read_back(tmp_path, monkeypatch):
    files = {f"{i}.bin": os.urandom(1000) for i in range(10)}
    make(tmp_path / "web", files)
    entries = [
        Entry(name, pkgdata.Digest("sha256", sha(content)), 1000) for name, content in files.items()
    ]
    monkeypatch.setattr(readback, "_AT_ONCE", 3000)
    job = {
        "dataurl": (tmp_path / "web").as_uri(),
        "registry": Registry(entries).dumps(),
        "cache": str(tmp_path / "cache"),
    }
    most = 0
    told = []

    def tell(name, state, *_):
        nonlocal most
        told.append((name, state))
        most = max(
            most, sum(p.stat().st_size for p in tmp_path.glob("cache-*/objects-v1/**/*.bin"))
        )

    readback.do(job, tell)
    assert [row for row in told if row[1] != "bytes"] == [(name, "ok") for name in files]
    assert most == 3000
    assert not list(tmp_path.glob("cache-*"))


def test_a_reading_process_that_dies_is_an_error(monkeypatch):
    entry = Entry("a", pkgdata.Digest("sha256", "0" * 64), 1)
    monkeypatch.setattr(readback, "_KEPT", ())
    monkeypatch.setattr(
        readback, "clean_environment", lambda home: {"PYTHONPATH": home, "PYTHONHOME": home}
    )
    with pytest.raises(PublishError, match="failed"):
        readback.read_back(readback.Mirror("m", "file:/", [entry]), lambda _: None)


def test_a_late_place_is_looked_at_again(tmp_path, here, registry, monkeypatch):
    """The web shows the files only after the first look, as GitHub Pages does."""
    import time

    hidden, shown = tmp_path / "hidden", tmp_path / "shown"
    shown.mkdir()
    destination = destination_for(f"file:{hidden}", public_url=shown.as_uri())
    destination.delay = 60.0
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        make(shown, FILES)

    monkeypatch.setattr(time, "sleep", sleep)
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        work.upload()
        findings = work.prove()
    assert set(states(findings).values()) == {"ok"}
    assert len(looks) == 1
