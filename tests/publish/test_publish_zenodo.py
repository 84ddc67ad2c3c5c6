"""Zenodo: drafts, versions, publication, against an imitation of its protocol."""

from __future__ import annotations

import os
import sys

import pytest
from hosts import Killer, Sleeps, at_every_step, items_of, make_files, publish, put
from servers.zenodo import Zenodo as Server

from pkgdata import cli
from pkgdata.base.hashes import Digest
from pkgdata.core.registry import Registry
from pkgdata.errors import (
    AccessDeniedError,
    AlreadyPublishedError,
    IntegrityError,
    ObjectNotFoundError,
    PublishError,
)
from pkgdata.publish import destination_for
from pkgdata.publish.destination import Item
from pkgdata.publish.zenodo import LARGEST, MOST, Zenodo

FILES = {"a.fits": b"A" * 3500, "maps/dust map.fits": bytes(range(250)) * 8, "empty.txt": b""}
KIND = ("zenodo", "Zenodo")
METADATA = {"description": "What it is.", "creators": [{"name": "Doe, Jane"}]}


@pytest.fixture
def server():
    with Server() as server:
        server.token = server.make_token()
        yield server


@pytest.fixture
def folder(tmp_path):
    return make_files(tmp_path / "data", FILES)


def destination(server, url="zenodo:", **options):
    defaults = {
        "token": server.token,
        "endpoint": server.site,
        "metadata": METADATA,
        "publish": True,
        "sleep": Sleeps(),
        "timeout": 20,
    }
    return Zenodo(url, **{**defaults, **options})


def ready(server, folder, **options):
    """Return a destination that has begun, and its items by name."""
    place = destination(server, **options)
    items = items_of(folder)
    place.check(items)
    held = place.held()
    place.begin([item for item in items if item.name not in held], [])
    return place, {item.name: item for item in items}


def stored(server):
    """Return the keys of all uploads that were taken, in order."""
    done = [one for one in server.asked("PUT", "/api/files/") if one.status == 200]
    return [one.path.rpartition("/")[2] for one in done]


def check_complete(server, files=FILES, versions=1):
    """Make sure that everything is published, as it is here, and no draft is left."""
    assert len(server.published()) == len(server.depositions) == versions
    assert {f.name: f.content for f in server.published()[-1].files.values()} == {
        name.replace("/", "_"): content for name, content in files.items()
    }


# -- the whole way -----------------------------------------------------------------------------


def test_a_folder_is_published_and_read_back_by_anybody(server, folder):
    place = destination(server)
    sent, found = publish(folder, place, prove=True)
    assert sent == 3
    assert [(one.state, one.note) for one in found] == [("ok", "")] * 3
    check_complete(server)
    (record,) = server.published()
    assert place.url == f"zenodo:{record.id}"
    assert place.doi == record.doi
    assert place.dataurl == f"{server.site}/records/{record.id}/files/?download=1"
    registry = Registry.load(folder.parent / "data-registry.txt")
    assert registry["a.fits"].urls == ()
    own = f"{server.site}/records/{record.id}/files/maps_dust%20map.fits?download=1"
    assert registry["maps/dust map.fits"].urls == (own,)


def test_nothing_is_published_unless_asked_for(server, folder):
    place = destination(server, publish=False)
    sent, found = publish(folder, place, prove=True)
    assert sent == 3
    assert {(one.state, one.note) for one in found} == {
        ("ok", "read with credentials: it is not public")
    }
    assert server.published() == []
    assert place.private
    assert place.doi == f"10.5281/zenodo.{place.url[7:]}"  # reserved for it
    assert f"{place.url} and --publish, which cannot be undone" in place.advice()
    again = destination(server, place.url)
    assert publish(folder, again)[0] == 0
    check_complete(server)
    assert again.advice() is None
    assert len(stored(server)) == 3


@pytest.mark.parametrize("url", ["zenodo:", "zenodo:{id}"])
def test_a_second_run_sends_nothing_and_changes_nothing(server, folder, url):
    publish(folder, destination(server))
    before = len(server.requests)
    again = destination(server, url.format(id=server.published()[0].id))
    assert publish(folder, again) == (0, [])
    assert {one.method for one in server.requests[before:]} == {"GET"}


def test_files_are_added_in_a_new_version(server, folder):
    publish(folder, destination(server))
    first = server.published()[0]
    make_files(folder, {"new.txt": b"new"})
    place = destination(server, f"zenodo:{first.id}")
    sent, found = publish(folder, place, prove=True)
    assert (sent, {one.state for one in found}) == (1, {"ok"})
    check_complete(server, {**FILES, "new.txt": b"new"}, versions=2)
    assert len(first.files) == 3
    assert place.url == f"zenodo:{server.published()[1].id}"
    assert stored(server)[-1] == "new.txt"


def test_a_new_version_follows_the_last_one_whichever_is_named(server, folder):
    publish(folder, destination(server))
    first = server.published()[0]
    for number in (2, 3):
        make_files(folder, {f"{number}.txt": b"new"})
        assert publish(folder, destination(server, f"zenodo:{first.id}"))[0] == 1
    check_complete(server, {**FILES, "2.txt": b"new", "3.txt": b"new"}, versions=3)


def test_the_draft_of_a_new_version_is_found_again(server, folder):
    publish(folder, destination(server))
    url = f"zenodo:{server.published()[0].id}"
    make_files(folder, {"new.txt": b"new"})
    publish(folder, destination(server, url, publish=False))
    assert len(server.depositions) == 2
    assert publish(folder, destination(server, url))[0] == 0
    check_complete(server, {**FILES, "new.txt": b"new"}, versions=2)


def test_files_that_a_new_version_has_not_taken_over_are_sent_by_the_next_run(server, folder):
    publish(folder, destination(server))
    url = f"zenodo:{server.published()[0].id}"
    make_files(folder, {"new.txt": b"new"})
    server.inherits = False
    with pytest.raises(PublishError, match=r"lacks 3 files of the last version, 'a\.fits'"):
        publish(folder, destination(server, url))
    assert publish(folder, destination(server, url))[0] == 4
    check_complete(server, {**FILES, "new.txt": b"new"}, versions=2)


def test_a_record_that_lacks_fields_is_published_by_a_later_run(server, folder):
    with pytest.raises(PublishError, match="does not publish zenodo:") as caught:
        publish(folder, destination(server, metadata=None))
    told = str(caught.value)
    assert "metadata.creators Missing data for required field." in told
    (draft,) = server.depositions.values()
    assert f"/deposit/{draft.id}" in told
    draft.metadata.update(METADATA)  # as somebody does on the page
    assert publish(folder, destination(server))[0] == 0
    check_complete(server)


def test_it_is_waited_until_the_publication_shows(server, folder):
    server.looks = 4
    sleeps = Sleeps()
    publish(folder, destination(server, sleep=sleeps))
    assert len(sleeps) == 3
    check_complete(server)


def test_a_title_of_the_metadata_counts(server, folder):
    place = destination(server, metadata={**METADATA, "title": "Maps"})
    publish(folder, place)
    assert server.published()[0].metadata["title"] == "Maps"
    assert publish(folder, destination(server, title="Maps"))[0] == 0


def test_the_command(server, folder, monkeypatch, capsys):
    monkeypatch.setenv("ZENODO_TOKEN", server.token)
    words = ["publish", str(folder), "--to", "zenodo:", "--endpoint", server.site]
    assert cli.main(words) == 0
    (draft,) = server.depositions.values()
    assert not draft.submitted
    told = capsys.readouterr()
    assert f"zenodo:{draft.id} and --publish" in told.out + told.err
    draft.metadata.update(METADATA)  # as somebody does on the page
    words[3] = f"zenodo:{draft.id}"
    assert cli.main([*words, "--publish"]) == 0
    check_complete(server)
    told = capsys.readouterr()
    assert draft.doi in told.out + told.err


# -- before the first byte ---------------------------------------------------------------------


def item(name, size):
    return Item(name, "nowhere", Digest("sha256", "0" * 64), size)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([item("big", LARGEST + 1)], "over Zenodo's limit of 50000000000 bytes: big"),
        ([item(f"f{n}", 0) for n in range(MOST + 1)], "101 files, and Zenodo takes 100"),
        ([item(f"f{n}", LARGEST // 2 + 1) for n in range(2)], "50000000002 bytes in all"),
        ([item("a/b", 1), item("a_b", 1)], "would both be 'a_b' at Zenodo"),
    ],
)
def test_limits_are_checked_before_the_first_byte(server, items, message):
    with pytest.raises(PublishError, match=message):
        destination(server).check(items)
    assert server.requests == []


def test_files_of_the_last_version_count_too(server, tmp_path):
    old = make_files(tmp_path / "old", {f"{n}": b"x" for n in range(MOST - 1)})
    publish(old, destination(server, title="Maps"))
    new = make_files(tmp_path / "new", {"y": b"y", "z": b"z"})
    with pytest.raises(PublishError, match="the record would have 101 files"):
        publish(new, destination(server, title="Maps"))
    assert len(stored(server)) == MOST - 1


@pytest.mark.parametrize("url", ["zenodo:10.5281/zenodo.1", "zenodo:abc"])
def test_a_malformed_url(url):
    with pytest.raises(PublishError, match="expected zenodo: or zenodo:RECORD"):
        Zenodo(url)


def test_the_token_comes_from_the_environment(server, folder, monkeypatch):
    monkeypatch.setenv("ZENODO_TOKEN", server.token)
    place = destination_for("zenodo:", endpoint=server.site)
    assert publish(folder, place)[0] == 3
    assert server.published() == []


def test_the_sandbox_has_accounts_of_its_own(server, folder, monkeypatch):
    monkeypatch.setenv("ZENODO_TOKEN", "another")
    monkeypatch.setenv("ZENODO_SANDBOX_TOKEN", server.token)
    place = destination_for("zenodo:", endpoint=server.site, sandbox=True)
    assert publish(folder, place)[0] == 3


@pytest.mark.parametrize(
    ("sandbox", "site"), [(True, "https://sandbox.zenodo.org"), (False, "https://zenodo.org")]
)
def test_the_sandbox_is_another_site(sandbox, site):
    place = Zenodo("zenodo:12", sandbox=sandbox)
    assert place.dataurl == f"{site}/records/12/files/?download=1"


def test_no_token_is_a_clear_error(server, folder, monkeypatch):
    monkeypatch.delenv("ZENODO_TOKEN", raising=False)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PublishError, match="no token for zenodo"):
        publish(folder, destination(server, token=None))
    assert server.requests == []


def test_a_wrong_token(server, folder):
    with pytest.raises(AccessDeniedError, match="401, The server could not verify") as caught:
        publish(folder, destination(server, token="secretsecret"))
    assert "secretsecret" not in str(caught.value)


def test_a_token_that_may_not_write(server, folder):
    server._tokens[server.token] = set()
    with pytest.raises(AccessDeniedError, match="403, Permission denied"):
        server._tokens[server.token] = {"deposit:actions"}
        place, items = ready(server, folder)
        put(place, items["a.fits"])


def test_a_token_that_may_write_but_not_publish(server, folder):
    server._tokens[server.token] = {"deposit:write"}
    with pytest.raises(AccessDeniedError, match="403") as caught:
        publish(folder, destination(server))
    assert "deposit:write and deposit:actions" in str(caught.value)
    server._tokens[server.token].add("deposit:actions")
    assert publish(folder, destination(server))[0] == 0
    check_complete(server)


def test_a_record_that_is_not_there(server, folder):
    with pytest.raises(ObjectNotFoundError, match="404, PID does not exist"):
        publish(folder, destination(server, "zenodo:77"))


def test_a_record_of_somebody_else(server, folder):
    publish(folder, destination(server))
    place = destination(server, f"zenodo:{server.published()[0].id}", token=server.make_token())
    with pytest.raises(AccessDeniedError):
        publish(folder, place)


# -- troubles ----------------------------------------------------------------------------------

TROUBLES = {
    "draft: reset before": lambda server: server.cut("POST", "/depositions$"),
    "draft: reset after": lambda server: server.cut("POST", "/depositions$", after=True),
    "list: 500": lambda server: server.fail("GET", "/depositions$", 500, times=2),
    "file: reset before": lambda server: server.cut("PUT", ""),
    "file: reset after": lambda server: server.cut("PUT", "", after=True),
    "file: 503": lambda server: server.fail("PUT", "", 503, times=3),
    "file: 504": lambda server: server.fail("PUT", "a.fits", 504),
    "publish: reset before": lambda server: server.cut("POST", "/publish$"),
    "publish: reset after": lambda server: server.cut("POST", "/publish$", after=True),
    "publish: 500": lambda server: server.fail("POST", "/publish$", 500),
    "rate limit": lambda server: server.fail("PUT", "", 429, headers={"Retry-After": "9"}),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_passing_troubles_are_overcome_and_nothing_is_sent_twice(server, folder, trouble):
    TROUBLES[trouble](server)
    assert publish(folder, destination(server))[0] == 3
    check_complete(server)
    assert len(set(stored(server))) == len(stored(server)) == 3


@pytest.mark.parametrize("after", [False, True])
def test_a_new_version_whose_answer_is_lost_is_made_once(server, folder, after):
    publish(folder, destination(server))
    make_files(folder, {"new.txt": b"new"})
    server.cut("POST", "/newversion$", after=after)
    publish(folder, destination(server, f"zenodo:{server.published()[0].id}"))
    check_complete(server, {**FILES, "new.txt": b"new"}, versions=2)


def test_the_limit_of_zenodo_is_waited_for(server, folder):
    sleeps = Sleeps()
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000030"}
    server.fail("GET", "/depositions$", 429, headers=headers)
    publish(folder, destination(server, sleep=sleeps, now=lambda: 1_800_000_000.0))
    assert max(sleeps) == 31


def test_damage_on_the_way_is_found_and_removed(server, folder):
    server.damaging.append("a.fits")
    with pytest.raises(PublishError, match="Zenodo has md5:") as caught:
        publish(folder, destination(server))
    assert isinstance(caught.value.__cause__, IntegrityError)
    (draft,) = server.depositions.values()
    assert "a.fits" not in draft.files
    server.damaging.clear()
    publish(folder, destination(server))
    check_complete(server)


def test_a_full_account(server, folder):
    server.quota = 100
    with pytest.raises(PublishError, match="400, Bucket quota exceeded"):
        publish(folder, destination(server))
    server.quota = 10**6
    publish(folder, destination(server))
    check_complete(server)


def test_a_file_that_changes_while_it_is_sent_is_never_complete(server, tmp_path):
    size = 24 << 20  # more than the buffers between the two ends hold
    folder = make_files(tmp_path / "data", {"a.bin": b"\0" * size})
    place, items = ready(server, folder)

    def change(asked, count):
        server.reading = None
        with open(folder / "a.bin", "r+b") as file:
            file.seek(size - 1)
            file.write(b"\1")

    server.reading = change
    with pytest.raises(IntegrityError, match="changed while it was published"):
        put(place, items["a.bin"])
    assert place.held() == {}


def test_another_run_has_just_uploaded_other_bytes(server, folder):
    place, items = ready(server, folder)
    other = destination(server, place.url)
    elsewhere = items_of(make_files(folder.parent / "elsewhere", {"a.fits": b"other"}))
    other.check(elsewhere)
    other.held()
    other.begin(elsewhere, [])
    put(other, elsewhere[0])
    place.held()
    with pytest.raises(AlreadyPublishedError, match=r"'a\.fits' has other bytes at zenodo:"):
        put(place, items["a.fits"])


def test_what_differs_is_replaced_only_if_named(server, folder):
    publish(folder, destination(server, title="Maps"))
    (folder / "a.fits").write_bytes(b"B" * 3500)
    (folder.parent / "data-registry.txt").unlink()
    with pytest.raises(AlreadyPublishedError, match=r"a\.fits: md5:\w+ there"):
        publish(folder, destination(server, title="Maps"))
    place = destination(server, title="Maps")
    assert publish(folder, place, replace=["a.fits"])[0] == 1
    check_complete(server, {**FILES, "a.fits": b"B" * 3500}, versions=2)
    assert server.published()[0].files["a.fits"].content == b"A" * 3500


# -- interruption ------------------------------------------------------------------------------


def run_killed_at_every_step(tmp_path, files, prepare):
    """Kill a publication after each of its requests, and finish it by another run."""

    def serve(folder):
        server = Server()
        server.token = server.make_token()
        server.__enter__()
        return server, prepare(server, folder)

    server, url = serve(tmp_path / "count" / "data")
    before = len(server.requests)
    publish(make_files(tmp_path / "count" / "data", files), destination(server, url))
    steps = len(server.requests) - before
    server.__exit__(None)
    assert steps >= 10

    def act(step):
        folder = make_files(tmp_path / str(step) / "data", files)
        server, url = serve(folder)
        earlier = len(stored(server))
        options = {"endpoint": server.site, "token": server.token, "metadata": METADATA}
        Killer(server, after=step).run(KIND, folder, url=url, publish=True, **options)
        publish(folder, destination(server, url))
        check_complete(server, files, len(server.depositions))
        sent = stored(server)[earlier:]
        assert len(set(sent)) == len(sent)
        assert publish(folder, destination(server, url)) == (0, [])
        server.__exit__(None)

    at_every_step(steps, act)


@pytest.mark.slow
def test_killed_at_every_step_and_run_again(tmp_path):
    files = {"a.fits": b"A" * 1500, "b.csv": b"b"}
    run_killed_at_every_step(tmp_path, files, lambda server, folder: "zenodo:")


@pytest.mark.slow
def test_killed_at_every_step_of_a_new_version(tmp_path):
    def prepare(server, folder):
        old = make_files(folder.parent / "old", {"a.fits": b"A" * 1500})
        publish(old, destination(server))
        return f"zenodo:{server.published()[0].id}"

    run_killed_at_every_step(tmp_path, {"a.fits": b"A" * 1500, "b.csv": b"b"}, prepare)


@pytest.mark.slow
def test_killed_in_the_middle_of_a_file(server, tmp_path):
    content = os.urandom(1 << 16) * 400
    folder = make_files(tmp_path / "data", {"a.bin": content})

    def is_inside(asked, count):
        return asked.method == "PUT" and count > 1 << 20

    options = {"endpoint": server.site, "token": server.token, "metadata": METADATA}
    Killer(server, within=is_inside).run(KIND, folder, url="zenodo:", publish=True, **options)
    assert stored(server) == []
    publish(folder, destination(server))
    check_complete(server, {"a.bin": content})
