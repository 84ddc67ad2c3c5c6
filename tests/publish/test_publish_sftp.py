"""Publishing over SFTP, with a real sshd and the real ssh; nginx shows the folder to the web."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from nginx import Nginx
from publishing import (
    FILES,
    command,
    contents,
    environment,
    make,
    publish,
    run,
    states,
)
from sshd import Sshd

from pkgdata.core.registry import Registry
from pkgdata.errors import (
    AccessDeniedError,
    AlreadyPublishedError,
    IntegrityError,
    ObjectExistsError,
    PublishError,
    StoreError,
)
from pkgdata.publish import destination_for
from pkgdata.publish.engine import Publication
from pkgdata.publish.places import _aside

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="sshd is started as on Unix"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture(autouse=True)
def path(server, monkeypatch):
    monkeypatch.setenv("PATH", server.path)


@pytest.fixture
def web(tmp_path):
    return tmp_path / "web" / "data folder"


def address(server, web):
    return server.url(str(web).replace(" ", "%20"))


def test_round_trip(tmp_path, server, here, web, registry):
    with Nginx(tmp_path / "nginx", web.parent) as nginx:
        shown = f"{nginx.url}data%20folder/"
        words = [here, "--to", address(server, web), "--url", shown, "--registry", registry]
        done = run(*words, "--index")
        assert done.returncode == 0, done.stderr
        files = contents(web)
        assert b"stars.csv" in files.pop("index.html")
        assert files == FILES
        assert set(Registry.load(registry)) == set(FILES)
        before = {name: (web / name).stat().st_ino for name in FILES}
        again = run(*words, "--index")
        assert again.returncode == 0, again.stderr
        assert "0 B to send" in again.stderr
    assert {name: (web / name).stat().st_ino for name in FILES} == before


def test_the_other_versions_of_a_folder(tmp_path, server):
    make(tmp_path / "versions", {"1.0/index.html": b"", "0.9/index.html": b"", "0.8/a": b""})
    place = destination_for(server.url(str(tmp_path / "versions" / "1.0")))
    assert place.versions("1.0") == ["0.9"]
    place.close()


def test_another_user_may_read(server, here, web, registry):
    old = os.umask(0o077)
    try:
        for path in here.rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        publish(here, address(server, web), registry, urls=[web.as_uri()])
    finally:
        os.umask(old)
    for path in [web, web.parent, *web.rglob("*")]:
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted, path


@pytest.mark.parametrize("content", [b"of another size", FILES["stars.csv"][::-1]])
def test_what_is_there_is_not_replaced(server, here, web, registry, content):
    make(web, {"stars.csv": content})
    with pytest.raises(AlreadyPublishedError, match=r"stars\.csv"):
        publish(here, address(server, web), registry, urls=[web.as_uri()])
    assert contents(web) == {"stars.csv": content}
    _, sent, findings = publish(
        here, address(server, web), registry, urls=[web.as_uri()], replace=["stars.csv"]
    )
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}


def test_what_others_put_there_meanwhile_is_not_replaced(server, here, web, registry):
    destination = destination_for(address(server, web), public_url=web.as_uri())
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        make(web, {"stars.csv": b"theirs"})
        with pytest.raises(PublishError, match="somebody else") as caught:
            work.upload()
    assert isinstance(caught.value.__cause__, ObjectExistsError)
    assert (web / "stars.csv").read_bytes() == b"theirs"


class NoExtensions:
    """Stands in for a server that is not OpenSSH's."""

    def __get__(self, owner, kind):
        return lambda extension: False


def test_a_server_without_extensions(server, here, web, registry, monkeypatch):
    from pkgdata.stores import sftp_protocol

    monkeypatch.setattr(sftp_protocol.Connection, "has", NoExtensions())
    make(web, {"stars.csv": b"old"})
    words = {"urls": [web.as_uri()], "replace": ["stars.csv"]}
    _, sent, findings = publish(here, address(server, web), registry, **words)
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}


def test_a_later_run_goes_on_from_what_was_sent(server, tmp_path, web, registry):
    """The bytes that are there already are those of the file; they are not sent again."""
    content = os.urandom(3 << 20)
    here = make(tmp_path / "large", {"large.bin": content})
    destination = destination_for(address(server, web), public_url=web.as_uri())
    moved = []
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        (item,) = work.items
        make(web, {_aside(item): content[: 2 << 20]})
        destination.begin([item], [])
        destination.put(item, False, moved.append)
    assert moved[0] == (2 << 20) + (1 << 15)
    assert contents(web) == {"large.bin": content}


def test_wrong_bytes_of_an_earlier_run_are_not_gone_on_from(server, tmp_path, web, registry):
    content = os.urandom(100_000)
    here = make(tmp_path / "large", {"large.bin": content})
    destination = destination_for(address(server, web), public_url=web.as_uri())
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        (item,) = work.items
        make(web, {_aside(item): bytes(5000)})
        destination.begin([item], [])
        with pytest.raises(IntegrityError, match="did not arrive"):
            destination.put(item, False, lambda _: None)
        assert contents(web) == {}
        destination.put(item, False, lambda _: None)
    assert contents(web) == {"large.bin": content}


def test_killed_while_sending(server, tmp_path, web, registry):
    """Killed when the first file is there; the next run finishes and sends no file twice."""
    here = make(tmp_path / "many", {f"{i}.bin": os.urandom(4 << 20) for i in range(6)})
    words = [here, "--to", address(server, web), "--url", web.as_uri(), "--registry", registry]
    process = subprocess.Popen(
        command(*words), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not any(web.glob("*.bin")):
        pass
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not registry.exists()
    whole = {name for name in contents(web) if name.endswith(".bin")}
    assert whole
    for name in whole:
        assert (web / name).read_bytes() == (here / name).read_bytes()
    before = {name: (web / name).stat().st_ino for name in whole}
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert contents(web) == contents(here)
    assert {name: (web / name).stat().st_ino for name in whole} == before


# -- what is refused ---------------------------------------------------------------------------


def test_an_unknown_host_is_refused(server, here, web, registry):
    place = f"sftp://localhost:{server.port}{web.parent}"
    done = run(here, "--to", place, "--url", "http://unused/", "--registry", registry)
    assert done.returncode == 1
    assert "host key is not known" in done.stderr
    assert not web.parent.exists()


def test_a_host_with_another_key_is_refused(server, here, web, registry):
    known = server.work / "known"
    right = known.read_text()
    public = " ".join((server.work / "user.pub").read_text().split()[:2])
    known.write_text(f"[127.0.0.1]:{server.port} {public}\n")
    try:
        with pytest.raises(AccessDeniedError, match="host key"):
            publish(here, address(server, web), registry, urls=["http://unused/"])
    finally:
        known.write_text(right)


def test_no_permission_to_log_in(server, here, web, registry):
    authorized = server.work / "authorized"
    right = authorized.read_text()
    authorized.write_text("")
    try:
        with pytest.raises(AccessDeniedError, match="Permission denied"):
            publish(here, address(server, web), registry, urls=["http://unused/"])
    finally:
        authorized.write_text(right)


def test_a_host_that_is_down(here, registry):
    with pytest.raises(StoreError, match="Connection refused") as caught:
        publish(here, "sftp://127.0.0.1:9/web", registry, urls=["http://unused/"])
    assert caught.value.transient


def test_a_file_where_a_folder_should_be(server, here, web, registry):
    make(web, {"maps": b"in the way"})
    with pytest.raises(PublishError, match="maps"):
        publish(here, address(server, web), registry, urls=[web.as_uri()])


def test_where_the_web_shows_it_must_be_said(server, here, web, registry):
    done = run(here, "--to", address(server, web), "--registry", registry)
    assert done.returncode == 1
    assert "--url" in done.stderr
    assert not web.exists()


def test_without_ssh(here, registry, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PublishError, match="ssh is not installed"):
        publish(here, "sftp://host/web", registry, urls=["http://unused/"])


def test_no_room(server, here, web, registry, monkeypatch):
    from pkgdata.stores import sftp_protocol

    monkeypatch.setattr(sftp_protocol.Connection, "free_bytes", lambda self, path: 10)
    with pytest.raises(PublishError, match=r"no space at .*, 10 are free"):
        publish(here, address(server, web), registry, urls=[web.as_uri()])
    assert contents(web) == {}
