"""Publishing step by step: what is refused, what is sent, and what is there afterwards.

The destinations here are folders; those of other kinds have tests of their own.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest
from nginx import Nginx
from publishing import (
    CHECKOUT,
    FILES,
    command,
    contents,
    environment,
    make,
    publish,
    run,
    run_json,
    sha,
    states,
)

import pkgdata
from pkgdata.base import disk, hashes, owners
from pkgdata.core.registry import Registry
from pkgdata.errors import (
    AccessDeniedError,
    AlreadyPublishedError,
    ConfigError,
    IntegrityError,
    PublishError,
    StoreError,
    UnsafeNameError,
)
from pkgdata.publish import (
    Destination,
    Held,
    Item,
    destination_for,
    destinations_for,
    plan,
)
from pkgdata.publish.engine import Publication

# -- the whole ---------------------------------------------------------------------------------


def test_round_trip_through_a_web_server(tmp_path, here, web, registry):
    with Nginx(tmp_path / "nginx", web) as server:
        done = run(here, "--to", f"file:{web}", "--url", server.url, "--registry", registry)
        assert done.returncode == 0, done.stderr
        read = {hit.path for hit in server.hits() if hit.status == 200}
    assert contents(web) == FILES
    assert len(read) == len(FILES)
    found = Registry.load(registry)
    assert {name: entry.digest.hex for name, entry in found.items()} == {
        name: sha(content) for name, content in FILES.items()
    }
    assert {name: entry.size for name, entry in found.items()} == {
        name: len(content) for name, content in FILES.items()
    }
    assert f'dataurl = ["{server.url}"]' in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["ok"] * len(FILES)


def test_what_was_published_is_what_a_user_gets(tmp_path, here, web, registry):
    publish(here, f"file:{web}", registry)
    data = pkgdata.declare("someone", dataurl=f"file:{web}", registry=str(registry))
    for name, content in FILES.items():
        with open(data.get(name), "rb") as file:
            assert file.read() == content


def test_a_second_run_sends_nothing(here, web, registry):
    publish(here, f"file:{web}", registry)
    before = {name: os.stat(web / name).st_mtime_ns for name in FILES}
    text, inode = registry.read_text(), registry.stat().st_ino
    _, sent, findings = publish(here, f"file:{web}", registry)
    assert sent == 0
    assert {name: os.stat(web / name).st_mtime_ns for name in FILES} == before
    assert (registry.read_text(), registry.stat().st_ino) == (text, inode)
    assert set(states(findings).values()) == {"ok"}


def test_what_is_new_is_added(here, web, registry):
    publish(here, f"file:{web}", registry)
    (here / "new.txt").write_text("new")
    _, sent, findings = publish(here, f"file:{web}", registry)
    assert sent == 1
    assert len(findings) == len(FILES) + 1
    assert "new.txt" in Registry.load(registry)


def test_several_destinations_become_the_list_of_mirrors(tmp_path, here, registry):
    places = [f"file:{tmp_path / name}" for name in ("first", "second")]
    done = run(here, "--to", places[0], "--to", places[1], "--registry", registry)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "first") == contents(tmp_path / "second") == FILES
    first, second = ((tmp_path / name).as_uri() for name in ("first", "second"))
    assert f'dataurl = ["{first}", "{second}"]' in done.stderr
    assert "MIRROR" in done.stdout


def test_the_registry_beside_the_files_is_not_one_of_them(here, web):
    done = run(here, "--to", f"file:{web}")
    assert done.returncode == 0, done.stderr
    assert contents(web) == FILES
    assert sorted(Registry.load(here / "registry.txt")) == sorted(FILES)
    assert run(here, "--to", f"file:{web}").returncode == 0


def test_a_dry_run_changes_nothing(here, web, registry):
    done = run(here, "--to", f"file:{web}", "--registry", registry, "--dry-run")
    assert done.returncode == 0
    assert done.stdout.count("new ") == len(FILES)
    assert not web.exists()
    assert not registry.exists()


def test_a_dry_run_tells_what_would_be_refused(here, web, registry):
    make(web, {"stars.csv": b"others"})
    done = run(here, "--to", f"file:{web}", "--registry", registry, "--dry-run", "--json")
    assert done.returncode == 3
    found = {row["name"].partition(":")[0]: row["state"] for row in json.loads(done.stdout)}
    assert found["stars.csv"] == "differs"
    assert found["empty.dat"] == "new"


def test_the_script_does_the_same(here, web, registry):
    script = CHECKOUT / "scripts" / "upload.py"
    if not script.exists():
        pytest.skip("needs a source checkout: the installed package has no scripts")
    words = [str(here), "--to", f"file:{web}", "--registry", str(registry)]
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert contents(web) == FILES
    usage = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True
    ).stdout
    known = run("--help").stdout
    assert usage.partition("options")[2] == known.partition("options")[2]


# -- published bytes do not change -------------------------------------------------------------


def test_bytes_that_differ_from_the_registry_are_refused(here, web, registry):
    publish(here, f"file:{web}", registry)
    (here / "stars.csv").write_text("other")
    before = registry.read_bytes()
    with pytest.raises(AlreadyPublishedError, match=r"stars\.csv") as caught:
        publish(here, f"file:{web}", registry)
    assert caught.value.names == ["stars.csv"]
    assert sha(b"other") in str(caught.value)
    assert contents(web) == FILES
    assert registry.read_bytes() == before


@pytest.mark.parametrize("other", [b"longer than before, by far", bytes(3)])
def test_bytes_that_differ_from_those_there_are_refused(here, web, registry, other):
    make(web, {"maps/ä+b%20&c=#d.bin": other})
    done = run(here, "--to", f"file:{web}", "--registry", registry)
    assert done.returncode == 1
    assert "published bytes do not change" in done.stderr
    assert list(contents(web)) == ["maps/ä+b%20&c=#d.bin"]
    assert not registry.exists()


def test_one_destination_that_differs_keeps_the_others_untouched(tmp_path, here, registry):
    make(tmp_path / "b", {"stars.csv": b"others"})
    with pytest.raises(AlreadyPublishedError):
        publish(here, [f"file:{tmp_path / 'a'}", f"file:{tmp_path / 'b'}"], registry)
    assert not (tmp_path / "a").exists()


def test_a_file_is_replaced_when_it_is_named(here, web, registry):
    publish(here, f"file:{web}", registry)
    (here / "stars.csv").write_text("other")
    (here / "empty.dat").write_text("changed too")
    with pytest.raises(AlreadyPublishedError, match="1 file differs"):
        publish(here, f"file:{web}", registry, replace=["stars.csv"])
    (here / "empty.dat").write_text("")
    _, sent, findings = publish(here, f"file:{web}", registry, replace=["stars.csv"])
    assert sent == 1
    assert (web / "stars.csv").read_text() == "other"
    assert Registry.load(registry)["stars.csv"].digest.hex == sha(b"other")
    assert set(states(findings).values()) == {"ok"}


def test_replacing_what_is_not_here_is_an_error(here, web, registry):
    with pytest.raises(PublishError, match="no file 'nosuch'"):
        publish(here, f"file:{web}", registry, replace=["nosuch"])


def test_a_name_taken_by_somebody_else_meanwhile_is_not_replaced(here, web, registry):
    destination = destination_for(f"file:{web}")
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        make(web, {"stars.csv": b"theirs"})
        with pytest.raises((PublishError, StoreError), match=r"there already|somebody else"):
            work.upload()
    assert (web / "stars.csv").read_bytes() == b"theirs"


# -- bad input ---------------------------------------------------------------------------------


def test_an_empty_folder(tmp_path, web, registry):
    (tmp_path / "nothing" / "below").mkdir(parents=True)
    with pytest.raises(PublishError, match="holds no file"):
        publish(tmp_path / "nothing", f"file:{web}", registry)
    with pytest.raises(PublishError, match="is not a directory"):
        publish(tmp_path / "nowhere", f"file:{web}", registry)


@pytest.mark.parametrize("kind", ["file", "folder", "beside"])
def test_a_link_that_leaves_the_folder(tmp_path, here, web, registry, kind):
    outside = make(tmp_path / "files-private", {"key": b"secret"})
    target = {"file": outside / "key", "folder": outside, "beside": outside / "key"}[kind]
    (here / "maps" / "innocent").symlink_to(
        os.path.relpath(target, here / "maps") if kind == "beside" else target
    )
    with pytest.raises(PublishError, match="leaves the folder"):
        publish(here, f"file:{web}", registry)
    assert not web.exists()


def test_a_link_within_the_folder_is_published_as_a_file(here, web, registry):
    (here / "alias").symlink_to("stars.csv")
    (here / "folder").symlink_to("maps")
    _, sent, _ = publish(here, f"file:{web}", registry)
    assert sent == len(FILES) + 3
    assert (web / "alias").read_bytes() == FILES["stars.csv"]
    assert not (web / "alias").is_symlink()


def test_a_link_that_leads_nowhere(here, web, registry):
    (here / "gone").symlink_to("nowhere")
    with pytest.raises(PublishError, match="leads nowhere"):
        publish(here, f"file:{web}", registry)


@pytest.mark.parametrize("name", ["a\\b", "new\nline"])
def test_a_name_that_could_not_be_fetched(here, web, registry, name):
    (here / name).write_text("x")
    with pytest.raises(UnsafeNameError):
        publish(here, f"file:{web}", registry)
    assert not web.exists()


def test_a_file_that_changes_before_it_is_sent(here, web, registry):
    destination = destination_for(f"file:{web}")
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        (here / "stars.csv").write_text("changed")
        with pytest.raises(PublishError, match="changed while it was published"):
            work.upload()
    assert not (web / "stars.csv").exists()
    assert not registry.exists()


class Meddled(Item):
    """A file to which another program writes while it is being sent."""

    def meddle(self):
        path = self.path
        found = os.stat(path)
        with open(path, "r+b") as file:
            file.write(b"X")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def test_a_file_that_changes_while_it_is_sent(here, web):
    path = here / "maps" / "dust map.fits"
    item = Meddled("a", str(path), *hashes.measure_file(path), plan.stamp_of(str(path)))
    destination = destination_for(f"file:{web}")
    destination.begin([item], [])
    with pytest.raises(IntegrityError, match="changed while it was published"):
        destination.put(item, False, lambda _: item.meddle())
    destination.close()
    assert contents(web) == {}


def test_a_file_that_vanishes(here, web, registry):
    with Publication(str(here), [destination_for(f"file:{web}")], str(registry)) as work:
        work.plan()
        (here / "stars.csv").unlink()
        with pytest.raises(PublishError, match="changed while it was published"):
            work.upload()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/folder", "nothing is known of publishing to 'ftp'"),
        ("bucket", "did you mean the folder ./bucket?"),
        ("file:relative", "absolute path"),
        ("file://other.host/folder", "absolute path"),
        ("sftp://host", "expected sftp://"),
        ("sftp://me:hunter2@host/folder", "holds a password"),
        ("sftp://-oProxyCommand=x/folder", "expected sftp://"),
        ("s3://", "BUCKET/PREFIX"),
        ("pages:owner", "OWNER/REPO"),
        ("pages:owner/re po", "OWNER/REPO"),
        ("pages:https://me:hunter2@host/x.git", "holds a password"),
    ],
)
def test_a_destination_that_is_none(url, said):
    with pytest.raises((PublishError, ConfigError), match=said) as caught:
        destination_for(url)
    assert "hunter2" not in str(caught.value)


def test_options_that_mean_nothing_anywhere(web):
    with pytest.raises(PublishError, match="--storage-class means nothing"):
        destinations_for([f"file:{web}"], storage_class="X")
    with pytest.raises(PublishError, match="public means nothing"):
        destination_for(f"file:{web}", public=True)
    with pytest.raises(PublishError, match="nowhere to publish to"):
        destinations_for([])


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not JSON"), ("[1]", "expected an object"), (None, "No such file")]
)
def test_metadata_of_a_record_that_are_none(tmp_path, here, text, said):
    path = tmp_path / "metadata.json"
    if text is not None:
        path.write_text(text)
    done = run(here, "--to", "zenodo:", "--metadata", path)
    assert done.returncode == 1
    assert said in done.stderr


def test_public_addresses_go_to_those_that_need_them(tmp_path):
    places = [f"file:{tmp_path}", "pages:me/it"]
    (folder, pages) = destinations_for(places, ["https://a/"])
    assert (folder.dataurl, pages.dataurl) == ("https://a/", "https://me.github.io/it/")
    (folder, pages) = destinations_for(places, ["https://a/", "https://b/"])
    assert (folder.dataurl, pages.dataurl) == ("https://a/", "https://b/")
    with pytest.raises(PublishError, match="3 public addresses for 2 destinations"):
        destinations_for(places, ["x", "y", "z"])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(here, web, registry):
    web.mkdir()
    web.chmod(0o555)
    with pytest.raises(AccessDeniedError, match="cannot be written to"):
        publish(here, f"file:{web}", registry)


def test_a_file_where_the_folder_should_be(tmp_path, here, registry):
    (tmp_path / "web").write_text("in the way")
    with pytest.raises(PublishError, match="is not a directory"):
        publish(here, f"file:{tmp_path / 'web' / 'data'}", registry)


def test_a_disk_without_room(here, web, registry, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda path: 10)
    with pytest.raises(PublishError, match=r"no space at .*, 10 are free"):
        publish(here, f"file:{web}", registry)
    assert not registry.exists()


class Failing(Destination):
    """A place that takes some files, then no more."""

    threads = 1

    def __init__(self, takes: int, error: Exception):
        super().__init__("failing://place")
        self.takes, self.error = takes, error
        self.names: list[str] = []
        self.finished = False
        self.closed = False

    dataurl = "https://unused.example/"

    def held(self):
        return {name: Held(None) for name in self.names}

    def put(self, item, replace, moved):
        if len(self.names) >= self.takes:
            raise self.error
        self.names.append(item.name)
        return Held(item.size)

    def finish(self):
        self.finished = True
        return {}

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    "error",
    [
        StoreError("quota exceeded", hint="ask for more"),
        AccessDeniedError("no permission"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_place_that_takes_no_more_is_a_stop_that_can_be_resumed(here, registry, error):
    place = Failing(2, error)
    with Publication(str(here), [place], str(registry)) as work:
        work.plan()
        with pytest.raises(PublishError, match="2 of 4 files were uploaded") as caught:
            work.upload()
    assert "run the same command again" in str(caught.value)
    assert caught.value.__cause__ is error
    assert not place.finished
    assert place.closed
    assert not registry.exists()
    place.takes = 4
    with Publication(str(here), [place], str(registry)) as work:
        work.plan()
        assert work.upload() == 2
    assert place.finished
    assert len(place.names) == len(set(place.names)) == 4


def test_a_bug_in_a_destination_is_not_dressed_up(here, registry):
    with Publication(str(here), [Failing(0, KeyError("oops"))], str(registry)) as work:
        work.plan()
        with pytest.raises(KeyError, match="oops"):
            work.upload()


class Unclosable(Failing):
    """Cannot say goodbye."""

    def close(self):
        super().close()
        raise StoreError("no goodbye")


def test_an_error_at_the_end_hides_no_other_and_keeps_no_place_open(here, registry):
    first, second = Unclosable(0, OSError("first of all")), Failing(9, KeyError())
    with (
        pytest.raises(PublishError, match="first of all"),
        Publication(str(here), [first, second], str(registry)) as work,
    ):
        work.plan()
        work.upload()
    assert second.closed
    with pytest.raises(StoreError, match="no goodbye"), Publication("x", [first], str(registry)):
        pass


class Unfinished(Failing):
    """Holds everything, as a draft that nobody has published."""

    def unfinished(self):
        return not self.finished


def test_a_draft_that_is_complete_is_still_published(here, registry):
    place = Unfinished(0, KeyError())
    place.names = list(FILES)
    with Publication(str(here), [place], str(registry)) as work:
        work.plan()
        assert work.upload() == 0
    assert place.finished


class Private(Failing):
    """Can be read only with credentials."""

    private = True
    damaged = False

    def read(self, name):
        yield b"bad" if self.damaged and name == "stars.csv" else FILES[name]


def test_a_private_place_is_read_with_credentials(here, registry):
    place = Private(99, KeyError())
    with Publication(str(here), [place], str(registry)) as work:
        work.plan()
        work.upload()
        findings = work.prove()
        assert set(states(findings).values()) == {"ok"}
        assert "not public" in findings[0].note
        place.damaged = True
        assert states(work.prove())["stars.csv"] == "wrong"


class Renaming(Failing):
    """Gives every file an address of its own, as those that number them do."""

    dataurl = None

    def __init__(self, web):
        super().__init__(99, KeyError())
        self.web = web

    def put(self, item, replace, moved):
        number = len(self.names)
        super().put(item, replace, moved)
        self.web.mkdir(exist_ok=True)
        (self.web / str(number)).write_bytes(FILES[item.name])
        return Held(item.size, None, (self.web / str(number)).as_uri())


def test_files_with_addresses_of_their_own_have_them_in_the_registry(tmp_path, here, registry):
    place = Renaming(tmp_path / "numbered")
    with Publication(str(here), [place], str(registry)) as work:
        work.plan()
        work.upload()
        work.record()
        assert set(states(work.prove()).values()) == {"ok"}
    found = Registry.load(registry)
    assert all(len(entry.urls) == 1 for entry in found.values())
    data = pkgdata.declare("someone", registry=str(registry))
    with open(data.get("stars.csv"), "rb") as file:
        assert file.read() == FILES["stars.csv"]
    checked = run_json("--check", "--registry", registry)
    assert {row["state"] for row in checked["files"]} == {"ok"}


# -- folders -----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="no permission bits")
def test_files_and_folders_can_be_read_by_a_web_server(here, web, registry):
    old = os.umask(0o077)
    try:
        for path in here.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        publish(here, f"file:{web}/sub/folder", registry)
    finally:
        os.umask(old)
    for path in [web, *web.rglob("*")]:
        wanted = 0o555 if path.is_dir() else 0o444
        assert stat.S_IMODE(path.stat().st_mode) & wanted == wanted, path


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root to become nobody")
def test_another_user_reads_what_was_published(here, registry, tmp_path):
    import pwd
    import tempfile

    with tempfile.TemporaryDirectory() as top:  # pytest's own folders are closed to others
        os.chmod(top, 0o755)
        publish(here, f"file:{top}/data", registry)
        nobody = pwd.getpwnam("nobody")
        done = subprocess.run(
            ["cat", f"{top}/data/maps/dust map.fits"],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            capture_output=True,
            check=True,
        )
    assert done.stdout == FILES["maps/dust map.fits"]


def test_leftovers_of_a_killed_run_are_removed_and_those_of_a_running_one_kept(here, web, registry):
    place = owners.token().rpartition("-")[0]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    make(
        web,
        {f"a.{place}-{dead.pid}-00000000.tmp": b"x", f"b.{owners.token()}-00000000.tmp": b""},
    )
    publish(here, f"file:{web}", registry)
    left = [name for name in contents(web) if name.endswith(".tmp")]
    assert left == [f"b.{owners.token()}-00000000.tmp"]


def test_files_are_synced_together_before_they_get_their_names(here, web, registry, monkeypatch):
    synced = []
    monkeypatch.setattr(disk, "can_sync_all", lambda: True)
    monkeypatch.setattr(disk, "sync_all", lambda folder: synced.append(contents(web).keys()))
    with Publication(str(here), [destination_for(f"file:{web}")], str(registry)) as work:
        work.plan()
        work.upload()
    assert contents(web) == FILES
    assert len(synced[0]) == len(FILES)
    assert not synced[0] & FILES.keys()
    assert len(synced) == 2, "once before the names, once after"


@pytest.mark.slow
def test_thousands_of_files_get_their_names(tmp_path, web, registry):
    many = {f"{i % 10}/{i}.bin": str(i).encode() for i in range(1200)}
    here = make(tmp_path / "many", many)
    _, sent, findings = publish(here, f"file:{web}", registry)
    assert sent == len(many)
    assert contents(web) == many
    assert set(states(findings).values()) == {"ok"}


# -- which files, and their names --------------------------------------------------------------


def test_junk_and_what_is_excluded_is_neither_hashed_nor_published(tmp_path, web, registry):
    here = make(tmp_path / "here", {"a.txt": b"a", ".git/config": b"x", "b~": b"b", "n/c.md": b"c"})
    (here / ".DS_Store").symlink_to("nosuch")
    done = run(here, "--to", f"file:{web}", "--registry", registry, "--exclude", "*.md")
    assert done.returncode == 0, done.stderr
    assert contents(web) == {"a.txt": b"a"}
    assert "3 files left out: .DS_Store, .git/config, b~" in done.stderr
    assert list(Registry.load(registry)) == ["a.txt"]
    done = run(here, "--to", f"file:{web}", "--registry", registry, "--include", "n/")
    assert done.returncode == 0, done.stderr
    assert contents(web) == {"a.txt": b"a", "n/c.md": b"c"}
    words = ["--registry", registry, "--include", "*.fits"]
    assert (
        "no file to publish of those that are chosen"
        in run(here, "--to", "figshare:", *words).stderr
    )


def test_names_that_some_systems_cannot_hold_are_published_with_a_warning(tmp_path, web, registry):
    odd = [*(f"{i}:x" for i in range(4)), "A.txt", "a.txt", "et al."]
    here = make(tmp_path / "here", dict.fromkeys(odd, b"x"))
    done = run(here, "--to", f"file:{web}", "--registry", registry)
    assert done.returncode == 0, done.stderr
    assert set(contents(web)) == set(odd)
    said = [line for line in done.stderr.splitlines() if "warning" in line]
    assert "'0:x' cannot be stored on every system: it holds a character" in said[0]
    assert (
        "'a.txt' cannot be stored on every system: macOS and Windows take it for 'A.txt'" in said[4]
    )
    assert said[5] == "pkgdata: warning: … and 1 more such names"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode alone")
def test_a_name_that_no_registry_holds_is_refused_before_anything_is_read(tmp_path, web):
    here = make(tmp_path / "here", {"a": b"a"})
    with open(os.fsencode(here) + b"/caf\xe9", "wb"):
        pass
    done = run(here, "--to", f"file:{web}")
    assert done.returncode == 1
    assert "not UTF-8" in done.stderr
    assert not web.exists()


# -- the end of it all -------------------------------------------------------------------------


@pytest.mark.slow
def test_an_interrupted_run_leaves_whole_files_and_no_registry(tmp_path, web, registry):
    """Ctrl-C in the midst: the exit code is 130, and the next run finishes."""
    import signal

    here = make(tmp_path / "big", {f"{i}.bin": os.urandom(3 << 20) for i in range(12)})
    process = subprocess.Popen(
        command(here, "--to", f"file:{web}", "--registry", registry),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process.stderr:
        process.stderr.readline()  # what is to be sent: the uploads begin
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    assert process.wait(60) in (0, 130)
    for name, content in contents(web).items() if web.exists() else ():
        if not name.endswith(".tmp"):
            assert content == (here / name).read_bytes()
    done = run(here, "--to", f"file:{web}", "--registry", registry)
    assert done.returncode == 0, done.stderr
    assert set(Registry.load(registry)) == {f"{i}.bin" for i in range(12)}
