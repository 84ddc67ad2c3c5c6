"""Replacing what is published on GitHub: old bytes go only when the new ones are there."""

from __future__ import annotations

import pytest
from hosts import Killer, Sleeps, at_every_step, make_files, publish
from servers.github import GitHub as Server

from pkgdata.errors import PublishError
from pkgdata.publish.github import GitHub

FILES = {"a.fits": b"A" * 5000, "maps/dust (1).fits": bytes(range(256)) * 40}
NEW = {**FILES, "a.fits": b"B" * 5000}


@pytest.fixture
def server():
    with published(Server()) as server:
        yield server


def published(server):
    """Return a server with a public release of `FILES`, as an earlier run has left it."""
    release = server.make_release(server.make_repo("org/data"), "v1")
    for (name, content), posted in zip(FILES.items(), ["a.fits", "maps.dust.1.fits"], strict=True):
        server.make_asset(release, posted, content).label = name
    return server


def options_of(server):
    return {"url": "github:org/data@v1", "endpoint": server.api, "token": server.make_token()}


def destination(server, **options):
    return GitHub(**options_of(server), sleep=Sleeps(), timeout=20, **options)


def assets(server):
    (release,) = server.repos["org/data"].releases.values()
    return {asset.label or asset.name: asset.content for asset in release.assets.values()}


def public(server, name="a.fits"):
    (release,) = server.repos["org/data"].releases.values()
    found = release.by_name().get(name)
    return None if found is None else found.content


@pytest.fixture
def folder(tmp_path):
    return make_files(tmp_path / "data", NEW)


def test_the_old_file_stays_until_the_new_one_is_there(server, folder):
    seen = []
    server.answered = lambda asked: seen.append((asked.method, public(server)))
    assert publish(folder, destination(server), replace=["a.fits"])[0] == 1
    assert [method for method, content in seen if content is None] == ["DELETE"]
    assert seen[[content for _, content in seen].index(None) + 1] == ("PATCH", NEW["a.fits"])
    assert assets(server) == NEW


@pytest.mark.parametrize("status", [502, 422])
def test_an_upload_that_is_refused_leaves_the_old_file(server, folder, status):
    server.fail("POST", "/assets$", status, times=50)
    with pytest.raises(PublishError, match=f"GitHub answers {status}"):
        publish(folder, destination(server), replace=["a.fits"])
    assert assets(server) == FILES


def test_damage_on_the_way_leaves_the_old_file(server, folder):
    server.damaging.append("name=pkgdata-")
    with pytest.raises(PublishError, match="GitHub has sha256:"):
        publish(folder, destination(server), replace=["a.fits"])
    assert assets(server) == FILES


TROUBLES = {
    "reset after the upload": lambda server: server.cut("POST", "/assets$", after=True),
    "502 of the upload": lambda server: server.fail("POST", "/assets$", 502),
    "reset after deleting": lambda server: server.cut("DELETE", "", after=True),
    "500 when deleting": lambda server: server.fail("DELETE", "", 500),
    "reset before renaming": lambda server: server.cut("PATCH", ""),
    "reset after renaming": lambda server: server.cut("PATCH", "", after=True),
    "502 when renaming": lambda server: server.fail("PATCH", "", 502, times=3),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_transient_troubles_are_overcome_and_nothing_is_sent_twice(server, folder, trouble):
    TROUBLES[trouble](server)
    assert publish(folder, destination(server), replace=["a.fits"])[0] == 1
    assert assets(server) == NEW
    assert len([one for one in server.asked("POST", "/assets$") if one.status == 201]) == 1


def test_an_older_server_without_digests(folder):
    server = Server()
    server.digests = False
    with published(server):
        publish(folder, destination(server), replace=["a.fits"])
        assert assets(server) == NEW


def test_a_replacement_that_was_given_up_is_removed_by_the_next_run(server, folder, tmp_path):
    server.fail("DELETE", "", 403)
    with pytest.raises(PublishError, match="403"):
        publish(folder, destination(server), replace=["a.fits"])
    assert len(assets(server)) == 3
    old = make_files(tmp_path / "old", FILES)
    assert publish(old, destination(server))[0] == 0
    assert assets(server) == FILES


def test_other_bytes_than_those_of_the_killed_run(server, folder):
    server.fail("DELETE", "", 403)
    with pytest.raises(PublishError, match="403"):
        publish(folder, destination(server), replace=["a.fits"])
    make_files(folder, {"a.fits": b"C" * 5000})
    assert publish(folder, destination(server), replace=["a.fits"])[0] == 1
    assert assets(server) == {**NEW, "a.fits": b"C" * 5000}


@pytest.mark.slow
def test_killed_at_every_step_and_run_again(tmp_path):
    with published(Server()) as server:
        publish(make_files(tmp_path / "count", NEW), destination(server), replace=["a.fits"])
        steps = len(server.requests)
    assert steps >= 8

    def act(step):
        folder = make_files(tmp_path / str(step) / "data", NEW)
        with published(Server()) as server:
            Killer(server, after=step).run(
                ("github", "GitHub"), folder, replace=["a.fits"], **options_of(server)
            )
            killed = server.requests[-1]
            assert public(server) is not None or killed.method == "DELETE"
            publish(folder, destination(server), replace=["a.fits"])
            assert assets(server) == NEW
            assert len([one for one in server.asked("POST", "/assets$") if one.status == 201]) == 1
            assert publish(folder, destination(server)) == (0, [])

    at_every_step(steps, act)
