"""Figshare: articles, uploads in parts, publication, against an imitation of its protocols."""

from __future__ import annotations

import os
import re
import sys

import pytest
from hosts import Killer, Sleeps, at_every_step, items_of, make_files, publish, put
from servers.figshare import Figshare as Server

from pkgdata.core.registry import Registry
from pkgdata.errors import (
    AccessDeniedError,
    AlreadyPublishedError,
    IncompleteTransferError,
    IntegrityError,
    ObjectNotFoundError,
    PublishError,
    StoreError,
)
from pkgdata.publish import destination_for
from pkgdata.publish.figshare import Figshare

FILES = {"a.fits": b"A" * 3500, "maps/dust.fits": bytes(range(250)) * 8, "b.csv": b"b,c\n"}
#: Parts of the files at 1000 bytes each.
PARTS = 4 + 2 + 1
KIND = ("figshare", "Figshare")
METADATA = {"description": "What it is.", "categories": [1], "tags": ["data"]}


@pytest.fixture
def server():
    with Server() as server:
        server.token = server.make_token()
        yield server


@pytest.fixture
def folder(tmp_path):
    return make_files(tmp_path / "data", FILES)


def destination(server, url="figshare:", **options):
    defaults = {
        "token": server.token,
        "endpoint": server.api,
        "metadata": METADATA,
        "sleep": Sleeps(),
        "timeout": 20,
    }
    return Figshare(url, **{**defaults, **options})


def ready(server, folder, **options):
    """Return a destination that has begun, and its items by name."""
    place = destination(server, **options)
    items = items_of(folder)
    place.check(items)
    held = place.held()
    place.begin([item for item in items if item.name not in held], [])
    return place, {item.name: item for item in items}


def article_of(server):
    (article,) = server.articles.values()
    return article


def parts(server):
    """Return the address of each part that was taken, in order."""
    return [one.path for one in server.asked("PUT", "/upload/") if one.status == 200]


def check_complete(server, files=FILES, versions=1):
    """Make sure that everything is published, as it is here, once."""
    article = article_of(server)
    assert len(article.versions) == versions
    public = article.versions[-1]
    assert {f.name: f.content for f in public.values()} == {
        name.replace("/", "_"): content for name, content in files.items()
    }
    assert article.files == public


# -- the whole way -----------------------------------------------------------------------------


def test_a_folder_is_published_and_read_back_by_anybody(server, folder):
    place = destination(server)
    sent, found = publish(folder, place, prove=True)
    assert sent == 3
    assert [(one.state, one.note) for one in found] == [("ok", "")] * 3
    check_complete(server)
    assert place.url == f"figshare:{article_of(server).id}"
    assert place.doi == f"10.6084/m9.figshare.{article_of(server).id}.v1"
    assert not place.private
    registry = Registry.load(folder.parent / "data-registry.txt")
    for name, entry in registry.items():
        number = server.file(name.replace("/", "_")).id
        assert entry.urls == (f"{server.origin('downloads')}/files/{number}",)


def test_parts_are_what_the_service_wants_ends_included(server, folder):
    publish(folder, destination(server))
    assert [len(server.file("a.fits").parts[n]) for n in (1, 2, 3, 4)] == [1000, 1000, 1000, 500]
    assert len(parts(server)) == PARTS


def test_it_is_waited_until_the_service_has_computed_the_digest(server, folder):
    server.looks = 5
    sleeps = Sleeps()
    place, items = ready(server, folder, sleep=sleeps)
    put(place, items["b.csv"])
    assert len(sleeps) == 5
    assert sleeps == sorted(sleeps)


def test_a_file_that_is_never_put_together(server, folder):
    server.looks = 10**6
    place, items = ready(server, folder)
    with pytest.raises(PublishError, match="still puts its parts together") as caught:
        put(place, items["b.csv"])
    assert "nothing is sent twice" in str(caught.value)
    server.file("b.csv").looks = server.looks = 0
    assert publish(folder, destination(server))[0] == 3
    check_complete(server)
    assert len(parts(server)) == PARTS


@pytest.mark.parametrize("url", ["figshare:", "figshare:{id}"])
def test_a_second_run_sends_nothing_and_changes_nothing(server, folder, url):
    publish(folder, destination(server))
    before = len(server.requests)
    again = destination(server, url.format(id=article_of(server).id))
    assert publish(folder, again) == (0, [])
    assert {one.method for one in server.requests[before:]} == {"GET"}


def test_files_are_added_in_a_new_version(server, folder):
    publish(folder, destination(server))
    make_files(folder, {"new.txt": b"new"})
    place = destination(server, f"figshare:{article_of(server).id}")
    assert publish(folder, place)[0] == 1
    check_complete(server, {**FILES, "new.txt": b"new"}, versions=2)
    assert place.doi.endswith(".v2")


def test_an_article_is_found_by_its_title(server, folder):
    publish(folder, destination(server, title="Maps of dust"))
    make_files(folder, {"new.txt": b"new"})
    assert publish(folder, destination(server, title="Maps of dust"))[0] == 1
    assert article_of(server).fields["title"] == "Maps of dust"


def test_an_article_is_found_among_many(server, folder):
    for number in range(25):
        publish(
            make_files(folder.parent / f"d{number}", {"x": b"%d" % number}), destination(server)
        )
    publish(folder, destination(server))
    before = len(server.articles)
    assert publish(folder, destination(server))[0] == 0
    assert len(server.articles) == before == 26


def test_progress_counts_what_is_sent(server, folder):
    place, items = ready(server, folder)
    _, told = put(place, items["a.fits"])
    assert told[-1] == 3500
    assert told == sorted(told)


def test_the_article_is_left_a_draft_if_so_asked(server, folder):
    place = destination(server, publish=False)
    sent, found = publish(folder, place, prove=True)
    assert sent == 3
    assert {(one.state, one.note) for one in found} == {
        ("ok", "read with credentials: it is not public")
    }
    assert place.private
    assert "is not public yet" in place.advice()
    assert article_of(server).versions == []
    place = destination(server)
    assert publish(folder, place)[0] == 0
    check_complete(server)
    assert place.advice() is None


def test_an_article_that_lacks_fields_is_published_by_a_later_run(server, folder):
    with pytest.raises(PublishError, match="does not publish figshare:") as caught:
        publish(folder, destination(server, metadata=None))
    assert "description ['This field is required.']" in str(caught.value)
    assert f"account/articles/{article_of(server).id}" in str(caught.value)
    article_of(server).fields.update(METADATA)  # as somebody does on the page
    assert publish(folder, destination(server))[0] == 0
    check_complete(server)
    assert len(parts(server)) == PARTS


# -- before the first byte ---------------------------------------------------------------------


def test_two_names_that_would_be_one_are_refused(server, tmp_path):
    folder = make_files(tmp_path / "data", {"a_b": b"1", "a/b": b"2"})
    with pytest.raises(PublishError, match="would both be 'a_b' at Figshare"):
        publish(folder, destination(server))
    assert server.requests == []


@pytest.mark.parametrize("title", ["ab", "x" * 1001])
def test_a_title_that_figshare_would_refuse(server, folder, title):
    with pytest.raises(PublishError, match="3 to 1000 characters"):
        publish(folder, destination(server, title=title))
    assert server.requests == []


@pytest.mark.parametrize("url", ["figshare:12/3", "figshare:abc", "figshare:１"])
def test_a_malformed_url(url):
    with pytest.raises(PublishError, match="expected figshare: or figshare:ARTICLE"):
        Figshare(url)


def test_no_token_is_a_clear_error(server, folder, monkeypatch):
    monkeypatch.delenv("FIGSHARE_TOKEN", raising=False)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PublishError, match="no token for figshare"):
        publish(folder, destination(server, token=None))
    assert server.requests == []


def test_the_token_comes_from_the_environment(server, folder, monkeypatch):
    monkeypatch.setenv("FIGSHARE_TOKEN", server.token)
    server.looks = 0
    place = destination_for("figshare:", endpoint=server.api, metadata=METADATA)
    assert publish(make_files(folder.parent / "one", {"x": b"x"}), place)[0] == 1


def test_a_wrong_token(server, folder):
    with pytest.raises(AccessDeniedError, match="403, Invalid token") as caught:
        publish(folder, destination(server, token="secretsecret"))
    assert "secretsecret" not in str(caught.value)


def test_an_article_that_is_not_there(server, folder):
    with pytest.raises(ObjectNotFoundError, match="404, Entity not found"):
        publish(folder, destination(server, "figshare:77"))


# -- troubles ----------------------------------------------------------------------------------

TROUBLES = {
    "article: reset before": lambda server: server.cut("POST", "/articles$"),
    "article: reset after": lambda server: server.cut("POST", "/articles$", after=True),
    "file: reset before": lambda server: server.cut("POST", "/files$"),
    "file: reset after": lambda server: server.cut("POST", "/files$", after=True),
    "part: reset before": lambda server: server.cut("PUT", "/2$"),
    "part: reset after": lambda server: server.cut("PUT", "/2$", after=True),
    "part: 409": lambda server: server.fail("PUT", "/1$", 409, times=3),
    "part: 500": lambda server: server.fail("PUT", "/1$", 500, times=3),
    "part: 503 by turns": lambda server: server.fail("PUT", "/", 503, times=5, skip=1),
    "state of the upload: 500": lambda server: server.fail("GET", "^/upload/", 500, times=2),
    "end: reset before": lambda server: server.cut("POST", r"/files/\d+$"),
    "end: reset after": lambda server: server.cut("POST", r"/files/\d+$", after=True),
    "end: 500": lambda server: server.fail("POST", r"/files/\d+$", 500),
    "look: reset": lambda server: server.cut("GET", r"/files/\d+$", times=2),
    "publish: reset before": lambda server: server.cut("POST", "/publish$"),
    "publish: reset after": lambda server: server.cut("POST", "/publish$", after=True),
    "rate limit": lambda server: server.fail("POST", "/files$", 429, headers={"Retry-After": "9"}),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_passing_troubles_are_overcome_and_nothing_is_sent_twice(server, folder, trouble):
    TROUBLES[trouble](server)
    assert publish(folder, destination(server))[0] == 3
    check_complete(server)
    assert len(set(parts(server))) == len(parts(server)) == PARTS


def test_a_part_that_is_never_taken(server, folder):
    server.fail("PUT", "/2$", 409, times=10**6)
    with pytest.raises(PublishError, match="1 parts are not taken by Figshare's upload") as caught:
        publish(folder, destination(server))
    assert isinstance(caught.value.__cause__, IncompleteTransferError)
    server._troubles.clear()
    publish(folder, destination(server))
    check_complete(server)
    assert len(set(parts(server))) == len(parts(server)) == PARTS


def test_the_address_of_an_upload_is_shown_to_nobody(server, folder):
    server.fail("PUT", "/1$", 400, {"message": "No"})
    with pytest.raises(PublishError, match="Figshare's upload service: Figshare answers 400") as e:
        publish(folder, destination(server))
    tokens = [file.token for file in article_of(server).files.values()]
    told = "".join(
        str(error) for error in (e.value, e.value.__cause__, e.value.__cause__.__cause__)
    )
    assert tokens
    assert not any(token in told for token in tokens)


def test_an_upload_that_the_service_has_dropped_begins_anew(server, folder):
    place, items = ready(server, folder)
    server.watch(
        "PUT", "/upload/", lambda _: setattr(server.file("a.fits"), "aborted", True), skip=1
    )
    held, _ = put(place, items["a.fits"])
    assert held.size == 3500
    assert server.file("a.fits").content == FILES["a.fits"]


def test_an_upload_that_the_service_has_forgotten_begins_anew(server, folder):
    place, items = ready(server, folder)
    server.fail("GET", "^/upload/", 404)
    put(place, items["a.fits"])
    assert len(article_of(server).files) == 1


def test_damage_on_the_way_is_found_and_removed(server, folder):
    server.damaging.append("/2")
    with pytest.raises(PublishError, match="Figshare has md5:") as caught:
        publish(folder, destination(server))
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert article_of(server).versions == []
    server.damaging.clear()
    publish(folder, destination(server))
    check_complete(server)


def test_a_file_that_changes_while_it_is_sent_is_never_complete(server, folder):
    place, items = ready(server, folder)

    def change(asked):
        (folder / "a.fits").write_bytes(b"B" * 3500)

    server.watch("PUT", "/upload/.*/2$", change)
    with pytest.raises(IntegrityError):
        put(place, items["a.fits"])
    assert place.held() == {}
    publish(folder, destination(server, place.url))
    check_complete(server, {**FILES, "a.fits": b"B" * 3500})


def test_a_file_that_has_become_shorter_is_told_before_the_service_hangs(server, folder):
    place, items = ready(server, folder)
    server.watch("PUT", "/1$", lambda _: (folder / "a.fits").write_bytes(b"A" * 1500))
    with pytest.raises(IntegrityError, match="another size"):
        put(place, items["a.fits"])


def test_another_run_has_just_uploaded_other_bytes(server, folder):
    publish(folder, destination(server, title="Maps"))
    (folder / "a.fits").write_bytes(b"B" * 3500)
    (folder.parent / "data-registry.txt").unlink()
    with pytest.raises(AlreadyPublishedError, match=r"a\.fits: md5:\w+ there"):
        publish(folder, destination(server, title="Maps"))
    place, items = ready(server, folder, title="Maps")
    with pytest.raises(AlreadyPublishedError, match="'a.fits' has other bytes".replace(".", r"\.")):
        put(place, items["a.fits"])


def test_what_is_replaced_stays_public_until_the_new_file_is(server, folder):
    publish(folder, destination(server, title="Maps"))
    (folder / "a.fits").write_bytes(b"B" * 3500)
    seen = []

    def see(asked):
        (old,) = [f for f in article_of(server).versions[-1].values() if f.name == "a.fits"]
        names = [f.name for f in article_of(server).files.values()]
        seen.append((old.content[:1], names.count("a.fits")))

    server.watch("PUT", "/4$", see)
    server.watch("POST", "/publish$", see)
    publish(folder, destination(server, title="Maps"), replace=["a.fits"])
    assert seen == [(b"A", 2), (b"A", 1)]
    check_complete(server, {**FILES, "a.fits": b"B" * 3500}, versions=2)


def test_a_replacement_that_was_interrupted_is_finished_without_asking_again(server, folder):
    publish(folder, destination(server, title="Maps"))
    (folder / "a.fits").write_bytes(b"B" * 3500)
    server.fail("DELETE", "", 403, {"message": "not now"})
    with pytest.raises(StoreError):
        publish(folder, destination(server, title="Maps"), replace=["a.fits"])
    (folder.parent / "data-registry.txt").unlink()
    assert publish(folder, destination(server, title="Maps"))[0] == 0
    check_complete(server, {**FILES, "a.fits": b"B" * 3500}, versions=2)


def test_a_link_of_the_same_name_is_not_replaced(server, folder):
    place, items = ready(server, folder)
    put(place, items["a.fits"])
    file = server.file("a.fits")
    file.link_only, file.content, file.supplied_md5, file.status = True, None, "", "created"
    place.held()
    with pytest.raises(AlreadyPublishedError):
        put(place, items["a.fits"])
    assert server.asked("DELETE", "") == []


# -- interruption ------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_every_step_and_run_again(tmp_path):
    files = {"a.fits": b"A" * 1500, "b.csv": b"b"}

    def serve():
        server = Server()
        server.token = server.make_token()
        server.looks = 0  # a process has no other sleep than the real one
        return server

    with serve() as server:
        publish(make_files(tmp_path / "count" / "data", files), destination(server))
        steps = len(server.requests)

    def act(step):
        folder = make_files(tmp_path / str(step) / "data", files)
        with serve() as server:
            options = {"endpoint": server.api, "token": server.token, "metadata": METADATA}
            Killer(server, after=step).run(KIND, folder, url="figshare:", **options)
            publish(folder, destination(server))
            check_complete(server, files)
            assert len(set(parts(server))) == len(parts(server)) == 3
            assert publish(folder, destination(server)) == (0, [])

    assert steps >= 15
    at_every_step(steps, act)


def test_killed_in_the_middle_of_a_part(server, tmp_path):
    server.part = 1 << 24
    content = os.urandom(1 << 16) * 400
    folder = make_files(tmp_path / "data", {"a.bin": content})

    def is_inside(asked, count):
        return asked.port == "uploads" and re.search("/2$", asked.path) and count > 1 << 20

    options = {"endpoint": server.api, "token": server.token, "metadata": METADATA}
    Killer(server, within=is_inside).run(KIND, folder, url="figshare:", **options)
    assert [path[-2:] for path in parts(server)] == ["/1"]
    publish(folder, destination(server))
    assert [path[-2:] for path in parts(server)] == ["/1", "/2"]
    check_complete(server, {"a.bin": content})


def test_a_damaged_part_of_an_earlier_run_is_sent_anew(server, folder):
    server.damaging.append("/1")
    place, items = ready(server, folder)
    server.fail("PUT", "/upload/.*/2$", 403)
    with pytest.raises(StoreError):
        put(place, items["a.fits"])
    server.damaging.clear()
    publish(folder, destination(server, place.url))
    check_complete(server)
