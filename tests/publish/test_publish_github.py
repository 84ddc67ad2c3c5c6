"""GitHub releases: against an imitation that GitHub's own OpenAPI description checks."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from pathlib import Path

import pytest
import requests
from hosts import (
    Killer,
    Sleeps,
    at_every_step,
    items_of,
    make_files,
    publish,
    put,
)
from servers.github import GitHub as Server

from pkgdata import cli
from pkgdata.base.hashes import Digest
from pkgdata.core.registry import Registry
from pkgdata.errors import (
    AccessDeniedError,
    AlreadyPublishedError,
    IntegrityError,
    ObjectNotFoundError,
    PublishError,
    StoreError,
)
from pkgdata.publish import destination_for
from pkgdata.publish.destination import Item
from pkgdata.publish.github import MOST, TOO_LARGE, GitHub, asset_name

FILES = {
    "a.fits": b"A" * 5000,
    "maps/dust (1).fits": bytes(range(256)) * 40,
    "café.csv": b"name,mag\n",
}
KIND = ("github", "GitHub")
URL = "github:org/data@v1"


@pytest.fixture
def server():
    with Server() as server:
        server.make_repo("org/data")
        yield server


@pytest.fixture
def folder(tmp_path):
    return make_files(tmp_path / "data", FILES)


def destination(server, url=URL, **options):
    return GitHub(
        url,
        **{
            "token": server.make_token(),
            "endpoint": server.api,
            "sleep": Sleeps(),
            "timeout": 20,
            **options,
        },
    )


def ready(server, folder, **options):
    """Return a destination that has begun, and its items by name."""
    place = destination(server, **options)
    items = items_of(folder)
    place.check(items)
    held = place.held()
    place.begin([item for item in items if item.name not in held], [])
    return place, {item.name: item for item in items}


def release_of(server, repo="org/data"):
    (release,) = server.repos[repo].releases.values()
    return release


def uploads(server):
    """Return the names of all uploads that were taken, in order."""
    done = [one for one in server.asked("POST", "/assets$") if one.status == 201]
    return [one.query["name"] for one in done]


def check_complete(server, files=FILES, repo="org/data"):
    """Make sure that everything is published, as it is here, once."""
    release = release_of(server, repo)
    assert not release.draft
    assert {asset.label: asset.content for asset in release.assets.values()} == files
    assert {asset.state for asset in release.assets.values()} == {"uploaded"}


# -- the whole way -----------------------------------------------------------------------------


def test_a_folder_is_published_and_read_back_by_anybody(server, folder):
    place = destination(server)
    sent, found = publish(folder, place, prove=True)
    assert sent == 3
    assert [(one.state, one.note) for one in found] == [("ok", "")] * 3
    check_complete(server)
    registry = Registry.load(folder.parent / "data-registry.txt")
    base = f"{server.site}/org/data/releases/download/v1/"
    assert place.dataurl == base
    assert registry["a.fits"].urls == ()
    assert registry["maps/dust (1).fits"].urls == (base + "maps.dust.1.fits",)
    assert registry["café.csv"].urls == (base + "cafe.csv",)


def test_nobody_sees_a_release_before_it_is_complete(server, folder):
    seen = []
    server.answered = lambda asked: seen.append((asked.method, release_of(server).draft))
    with pytest.raises(ValueError):
        release_of(server)
    server.answered = None
    server.watch("POST", "/assets$", lambda _: seen.append(release_of(server).draft), skip=2)
    publish(folder, destination(server))
    assert seen == [True]
    assert [str(one) for one in server.asked("PATCH", "")] == [
        f"PATCH /repos/org/data/releases/{release_of(server).id}"
    ]


def test_a_second_run_sends_nothing_and_changes_nothing(server, folder):
    publish(folder, destination(server))
    before = len(server.requests)
    assert publish(folder, destination(server)) == (0, [])
    assert {one.method for one in server.requests[before:]} == {"GET"}


def test_files_are_added_to_a_published_release(server, folder):
    publish(folder, destination(server))
    make_files(folder, {"new.txt": b"new"})
    assert publish(folder, destination(server))[0] == 1
    check_complete(server, {**FILES, "new.txt": b"new"})


def test_the_tag_may_have_a_slash(server, folder):
    place = destination(server, "github:org/data@maps/v1")
    publish(folder, place)
    assert destination(server, "github:org/data@maps/v1").held().keys() == FILES.keys()
    assert requests.get(place.dataurl + "a.fits", timeout=20).content == FILES["a.fits"]


def test_progress_counts_what_is_sent(server, folder):
    place, items = ready(server, folder)
    _, told = put(place, items["maps/dust (1).fits"])
    assert told[0] == 0
    assert told[-1] == len(FILES["maps/dust (1).fits"])
    assert told == sorted(told)


def test_the_command(server, folder, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_TOKEN", server.make_token())
    words = ["publish", str(folder), "--to", URL, "--endpoint", server.api]
    assert cli.main(words) == 0
    check_complete(server)
    assert len(Registry.load(folder / "registry.txt")) == 3
    before = len(server.requests)
    assert cli.main(words) == 0
    assert {one.method for one in server.requests[before:]} == {"GET"}
    assert f'dataurl = ["{server.site}/org/data/releases/download/v1/"]' in capsys.readouterr().err


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.fits", "a.fits"),
        ("A_b-c+d@e.tar.gz", "A_b-c+d@e.tar.gz"),
        ("maps/dust.fits", "maps.dust.fits"),
        ("with blank (15-5).apk", "with.blank.15-5.apk"),
        ("buster~1.deb", "buster.1.deb"),
        ("a..b", "a.b"),
        (".hidden", "default.hidden"),
        ("ćafé.txt", "cafe.txt"),
        ("日本.dat", "default.dat"),
        ("日本", ""),
        ("256é!.txt", "256e.txt"),
    ],
)
def test_the_name_that_github_makes_is_known_before(name, expected):
    assert asset_name(name) == expected
    assert asset_name(expected) == expected


def test_the_server_takes_our_names_as_they_are(server, tmp_path):
    names = ["A_b-c+d@e.gz", "x..y", ".hidden", "日本.dat", "a b", "ü/ö"]
    folder = make_files(tmp_path / "data", dict.fromkeys(names, b"x"))
    publish(folder, destination(server))
    for asset in release_of(server).assets.values():
        assert asset.name == asset_name(asset.label)
    assert destination(server).held().keys() == set(names)


def test_two_names_that_would_be_one_are_refused(server, tmp_path):
    folder = make_files(tmp_path / "data", {"a b": b"1", "a/b": b"2"})
    with pytest.raises(PublishError, match=r"would both be 'a\.b' at GitHub"):
        publish(folder, destination(server))
    assert server.requests == []


def test_a_name_of_which_nothing_is_left_is_refused(server, tmp_path):
    folder = make_files(tmp_path / "data", {"日本": b"1"})
    with pytest.raises(PublishError, match="would leave nothing of this name"):
        publish(folder, destination(server))


def test_assets_of_others_are_known_by_their_own_names(server, folder):
    release = server.make_release(server.repos["org/data"], "v1")
    asset = server.make_asset(release, "other.zip", b"other")
    asset.label = "The whole thing"
    place = destination(server)
    place.check(items_of(folder))
    assert place.held().keys() == {"other.zip"}


def test_an_asset_uploaded_by_hand_is_found_by_the_name_it_got(server, folder):
    release = server.make_release(server.repos["org/data"], "v1")
    server.make_asset(release, "maps.dust.1.fits", FILES["maps/dust (1).fits"])
    place = destination(server)
    place.check(items_of(folder))
    held = place.held()["maps/dust (1).fits"]
    assert held.url == place.dataurl + "maps.dust.1.fits"
    assert publish(folder, destination(server))[0] == 2


# -- limits ------------------------------------------------------------------------------------


def item(name, size):
    return Item(name, "nowhere", Digest("sha256", "0" * 64), size)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([item("big", TOO_LARGE)], "over GitHub's limit of 2147483647 bytes: big"),
        ([item("empty", 0)], "'empty' is empty, and GitHub takes no empty assets"),
        (
            [item(f"f{n}", 1) for n in range(MOST + 1)],
            "1001 files, and GitHub takes 1000 for each release",
        ),
    ],
)
def test_limits_are_checked_before_the_first_byte(server, items, message):
    with pytest.raises(PublishError, match=re.escape(message)):
        destination(server).check(items)
    assert server.requests == []


def test_what_is_just_below_the_limits_is_taken(server):
    destination(server).check([item(f"f{n}", TOO_LARGE - 1) for n in range(MOST)])


@pytest.mark.slow
def test_assets_that_are_there_already_count_too(server, folder):
    release = server.make_release(server.repos["org/data"], "v1")
    for number in range(MOST - 2):
        server.make_asset(release, f"old{number}", b"x")
    with pytest.raises(PublishError, match="would have 1001 files"):
        publish(folder, destination(server))
    assert uploads(server) == []
    assert len(release.assets) == MOST - 2


def test_a_release_of_many_pages_is_read_to_its_end(server, folder):
    release = server.make_release(server.repos["org/data"], "v1")
    for number in range(230):
        server.make_asset(release, f"old{number}", b"x")
    server.make_asset(release, "a.fits", FILES["a.fits"])
    assert publish(folder, destination(server))[0] == 2


def test_a_draft_is_found_behind_many_releases(server, folder):
    repo = server.repos["org/data"]
    mine = server.make_release(repo, "v1", draft=True)
    for number in range(120):
        server.make_release(repo, f"other{number}")
    publish(folder, destination(server))
    assert len(repo.releases) == 121
    assert not mine.draft


def test_of_two_drafts_the_older_one_counts(server, folder):
    repo = server.repos["org/data"]
    older, newer = (server.make_release(repo, "v1", draft=True) for _ in range(2))
    publish(folder, destination(server))
    assert (older.draft, newer.draft) == (False, True)


# -- broken uploads ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["starter", "open"])
def test_what_a_broken_upload_has_left_is_replaced(server, folder, state):
    release = server.make_release(server.repos["org/data"], "v1", draft=True)
    server.make_asset(release, "a.fits", b"", state=state)
    place = destination(server)
    place.check(items_of(folder))
    assert place.held() == {}
    assert publish(folder, destination(server))[0] == 3
    check_complete(server)
    assert len(server.asked("DELETE", "")) == 1


def test_a_starter_of_a_file_that_is_not_ours_is_left_alone(server, folder):
    release = server.make_release(server.repos["org/data"], "v1", draft=True)
    server.make_asset(release, "other", b"", state="starter")
    publish(folder, destination(server))
    assert server.asked("DELETE", "") == []


TROUBLES = {
    "reset before": lambda server: server.cut("POST", "/assets$"),
    "reset after": lambda server: server.cut("POST", "/assets$", after=True),
    "502": lambda server: server.fail("POST", "/assets$", 502),
    "502 thrice": lambda server: server.fail("POST", "/assets$", 502, times=3),
    "reset of the list": lambda server: server.cut("GET", "/assets$", times=2),
    "503 of the list": lambda server: server.fail("GET", "/releases$", 503, times=2),
    "reset before the release": lambda server: server.cut("POST", "/releases$"),
    "reset after the release": lambda server: server.cut("POST", "/releases$", after=True),
    "reset before publishing": lambda server: server.cut("PATCH", ""),
    "reset after publishing": lambda server: server.cut("PATCH", "", after=True),
    "500 when publishing": lambda server: server.fail("PATCH", "", 500),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_passing_troubles_are_overcome_and_nothing_is_sent_twice(server, folder, trouble):
    TROUBLES[trouble](server)
    assert publish(folder, destination(server))[0] == 3
    check_complete(server)
    assert sorted(uploads(server)) == sorted(map(asset_name, FILES))


def leave_starter(server, asked):
    server.make_asset(release_of(server), asked.query["name"], b"", state="starter")


def test_a_502_that_leaves_a_starter(server, folder):
    server.watch("POST", "/assets$", lambda asked: leave_starter(server, asked))
    server.fail("POST", "/assets$", 502)
    publish(folder, destination(server))
    check_complete(server)
    assert len(server.asked("DELETE", "")) == 1


def test_another_run_has_just_uploaded_the_same_bytes(server, folder):
    place, items = ready(server, folder)
    server.make_asset(release_of(server), "a.fits", FILES["a.fits"])
    held, _ = put(place, items["a.fits"])
    assert held.size == 5000
    assert len(release_of(server).assets) == 1


def test_another_run_has_just_uploaded_other_bytes(server, folder):
    place, items = ready(server, folder)
    server.make_asset(release_of(server), "a.fits", b"other")
    with pytest.raises(AlreadyPublishedError, match=r"'a.fits' has other bytes") as caught:
        put(place, items["a.fits"])
    assert caught.value.names == ["a.fits"]
    assert release_of(server).by_name()["a.fits"].content == b"other"


def test_what_differs_is_replaced_only_if_named(server, folder):
    publish(folder, destination(server))
    (folder / "a.fits").write_bytes(b"B" * 5000)
    (folder.parent / "data-registry.txt").unlink()
    with pytest.raises(AlreadyPublishedError, match=r"a\.fits: sha256:\w+ there"):
        publish(folder, destination(server))
    assert publish(folder, destination(server), replace=["a.fits"])[0] == 1
    check_complete(server, {**FILES, "a.fits": b"B" * 5000})


def test_damage_on_the_way_is_found_and_removed(server, folder):
    server.damaging.append("name=a.fits")
    with pytest.raises(PublishError, match="GitHub has sha256:") as caught:
        publish(folder, destination(server))
    assert isinstance(caught.value.__cause__, IntegrityError)
    release = release_of(server)
    assert release.draft
    assert "a.fits" not in release.by_name()
    server.damaging.clear()
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
    with pytest.raises(IntegrityError, match="changed while it was published: expected sha256:"):
        put(place, items["a.bin"])
    assert uploads(server) == []
    assert place.held() == {}
    publish(folder, destination(server))
    assert release_of(server).by_name()["a.bin"].content == (folder / "a.bin").read_bytes()


def test_a_file_that_has_become_shorter(server, folder):
    place, items = ready(server, folder)
    (folder / "a.fits").write_bytes(b"A")
    with pytest.raises(IntegrityError, match="another size"):
        put(place, items["a.fits"])
    assert place.held() == {}


def test_a_file_that_has_vanished(server, folder):
    place, items = ready(server, folder)
    (folder / "a.fits").unlink()
    with pytest.raises(PublishError, match=r"a\.fits cannot be read: No such file"):
        put(place, items["a.fits"])


def test_the_draft_is_not_published_while_something_is_missing(server, folder):
    place, items = ready(server, folder)
    put(place, items["a.fits"])
    with pytest.raises(PublishError, match="2 files are not at github:org/data@v1"):
        place.finish()
    assert release_of(server).draft


# -- interruption ------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_every_step_and_run_again(tmp_path, monkeypatch):
    with Server() as server:
        server.make_repo("org/data")
        publish(make_files(tmp_path / "count" / "data", FILES), destination(server))
        steps = len(server.requests)
    assert steps >= 10

    def act(step):
        folder = make_files(tmp_path / str(step) / "data", FILES)
        with Server() as server:
            server.make_repo("org/data")
            options = {"url": URL, "endpoint": server.api, "token": server.make_token()}
            Killer(server, after=step).run(KIND, folder, **options)
            done = uploads(server)
            sent, _ = publish(folder, destination(server))
            assert sent == 3 - len(done)
            assert sorted(uploads(server)) == sorted(map(asset_name, FILES))
            assert len(server.repos["org/data"].releases) == 1
            check_complete(server)
            assert publish(folder, destination(server)) == (0, [])

    at_every_step(steps, act)


def test_killed_in_the_middle_of_a_file(server, tmp_path):
    content = os.urandom(1 << 16) * 400
    folder = make_files(tmp_path / "data", {"a.bin": content})

    def is_inside(asked, count):
        return asked.port == "uploads" and count > 1 << 20

    Killer(server, within=is_inside).run(
        KIND, folder, url=URL, endpoint=server.api, token=server.make_token()
    )
    assert uploads(server) == []
    assert publish(folder, destination(server))[0] == 1
    assert [asset.content for asset in release_of(server).assets.values()] == [content]
    check_complete(server, {"a.bin": content})


# -- rate limits -------------------------------------------------------------------------------

NOW = 1_800_000_000.0

LIMITS = [
    (403, {}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 100:.0f}"}, 101),
    (429, {}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 5:.0f}"}, 6),
    (403, {"message": "You have exceeded a secondary rate limit"}, {"Retry-After": "37"}, 37),
    (429, {}, {"Retry-After": "3"}, 3),
    (403, {"message": "You have exceeded a secondary rate limit."}, {}, 60),
    (429, {}, {}, 60),
]


@pytest.mark.parametrize(("status", "told", "headers", "wait"), LIMITS)
@pytest.mark.parametrize(("method", "path"), [("POST", "/assets$"), ("GET", "/releases$")])
def test_rate_limits_are_waited_for(
    server, folder, caplog, status, told, headers, wait, method, path
):
    sleeps = Sleeps()
    server.fail(method, path, status, told, headers=headers)
    place = destination(server, sleep=sleeps, now=lambda: NOW)
    place.threads = 1
    assert publish(folder, place)[0] == 3
    check_complete(server)
    assert max(sleeps) == wait
    assert f"GitHub limits the rate of requests; waiting {wait} s" in caplog.text


def test_a_limit_holds_the_other_requests_too(server, folder):
    sleeps = Sleeps()
    place, items = ready(server, folder, sleep=sleeps, now=lambda: NOW)
    place._rest._limited_until = NOW + 50
    put(place, items["a.fits"])
    assert sleeps == [50]


def test_a_limit_that_lasts_too_long_is_a_stop_that_can_be_resumed(server, folder):
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 3000:.0f}"}
    server.fail("POST", "/assets$", 403, {}, headers=headers, times=9, skip=1)
    sleeps = Sleeps()
    place = destination(server, sleep=sleeps, now=lambda: NOW)
    place.threads = 1
    with pytest.raises(
        PublishError, match=r"the rate limit ends in 3001 s; run the same"
    ) as caught:
        publish(folder, place)
    assert "1 of 3 files were uploaded" in str(caught.value)
    assert sleeps == []
    server._troubles.clear()
    assert publish(folder, destination(server))[0] == 2
    check_complete(server)


def test_a_plain_refusal_is_no_rate_limit(server, folder):
    headers = {"x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1"}
    server.fail("POST", "/releases$", 403, {"message": "Forbidden"}, headers=headers)
    with pytest.raises(AccessDeniedError, match="403, Forbidden"):
        publish(folder, destination(server))


# -- tokens and hosts --------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["GITHUB_TOKEN", "GH_TOKEN"])
def test_the_token_comes_from_the_environment(server, folder, monkeypatch, variable):
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    monkeypatch.delenv("GH_TOKEN", raising=False)
    monkeypatch.setenv(variable, server.make_token())
    monkeypatch.setenv("GITHUB_API_URL", server.api)
    place = destination_for(URL)
    assert publish(folder, place)[0] == 3


def test_no_token_is_a_clear_error(server, folder, monkeypatch):
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    monkeypatch.delenv("GH_TOKEN", raising=False)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PublishError, match="no token for github") as caught:
        publish(folder, destination(server, token=None))
    assert "GITHUB_TOKEN or GH_TOKEN" in str(caught.value)
    assert server.requests == []


def test_a_wrong_token(server, folder):
    with pytest.raises(AccessDeniedError, match="401, Bad credentials") as caught:
        publish(folder, destination(server, token="ghp_secretsecret"))
    assert "wrong or has expired" in str(caught.value)
    assert "secretsecret" not in repr(caught.value) + str(caught.value)


def test_a_token_without_the_permission(server, folder):
    place = destination(server, token=server.make_token(write=False))
    with pytest.raises(AccessDeniedError, match="not accessible") as caught:
        publish(folder, place)
    assert "contents: write" in str(caught.value)
    assert server.repos["org/data"].releases == {}


def test_a_repository_that_is_not_there(server, folder):
    with pytest.raises(ObjectNotFoundError, match=r"/repos/org/nothing: GitHub answers 404"):
        publish(folder, destination(server, "github:org/nothing@v1"))


def test_a_token_that_the_service_repeats_is_hidden(server, folder, monkeypatch):
    token = server.make_token()
    monkeypatch.setenv("GITHUB_TOKEN", token)
    server.fail("POST", "/releases$", 422, {"message": f"what is {token}?"})
    with pytest.raises(StoreError) as caught:
        publish(folder, destination(server, token=None))
    assert "what is ***?" in str(caught.value)
    assert token not in str(caught.value)


def test_a_login_of_the_netrc_does_not_take_the_tokens_place(server, folder, monkeypatch):
    netrc = Path(os.environ["HOME"]) / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\n")
    netrc.chmod(0o600)
    assert publish(folder, destination(server))[0] == 3
    kinds = {one.headers.get("authorization", "").split()[0] for one in server.requests}
    assert kinds == {"Bearer"}


def test_the_token_goes_to_no_host_that_an_answer_names(server, folder):
    server.uploads = server.origin("uploads", "localhost")
    with pytest.raises(PublishError, match="names the host 'localhost', which is none of its own"):
        publish(folder, destination(server))
    assert server.asked("POST", "/assets$") == []


@pytest.mark.parametrize(
    ("api", "url", "own"),
    [
        ("https://api.github.com", "https://uploads.github.com/x", True),
        ("https://api.github.com", "https://api.github.com/x", True),
        ("https://api.github.com", "http://uploads.github.com/x", False),
        ("https://api.github.com", "https://uploads.github.com.evil.org/x", False),
        ("https://api.github.com", "https://evilgithub.com/x", False),
        ("https://api.github.com", "https://user@uploads.github.com/x", False),
        ("https://api.acme.ghe.com", "https://uploads.acme.ghe.com/x", True),
        ("https://api.acme.ghe.com", "https://uploads.other.ghe.com/x", False),
        ("https://git.acme.org/api/v3", "https://git.acme.org/api/uploads/x", True),
        ("https://git.acme.org/api/v3", "https://uploads.git.acme.org/x", False),
        ("https://git.acme.org/api/v3", "https://git.acme.org:8443/x", False),
        ("https://git.acme.org/api/v3", "https://git.acme.org:port/x", False),
    ],
)
def test_which_hosts_are_the_services_own(api, url, own):
    rest = GitHub(URL, token="t", endpoint=api)._rest
    if own:
        assert rest.address(url) == url
    else:
        with pytest.raises(StoreError, match="none of its own"):
            rest.address(url)


@pytest.mark.parametrize(
    ("api", "dataurl"),
    [
        (None, "https://github.com/o/r/releases/download/v%201/"),
        ("https://git.acme.org/api/v3/", "https://git.acme.org/o/r/releases/download/v%201/"),
        ("https://api.acme.ghe.com", "https://acme.ghe.com/o/r/releases/download/v%201/"),
    ],
)
def test_the_public_address(monkeypatch, api, dataurl):
    monkeypatch.delenv("GITHUB_API_URL", raising=False)
    assert GitHub("github:o/r@v 1", endpoint=api).dataurl == dataurl


def test_an_address_at_which_the_token_could_be_overheard_is_refused():
    with pytest.raises(PublishError, match="no https address"):
        GitHub(URL, endpoint="http://git.acme.org/api/v3")


@pytest.mark.parametrize("url", ["github:", "github:org", "github:org/data", "github:a/b/c@v1",
                                 "github:org/@v1", "github:org/data@"])  # fmt: skip
def test_a_malformed_url(url):
    with pytest.raises(PublishError, match="expected github:OWNER/REPO@TAG"):
        GitHub(url)


def test_github_enterprise(folder):
    with Server(enterprise=True) as server:
        server.make_repo("org/data")
        sent, found = publish(folder, destination(server), prove=True)
        assert (sent, {one.state for one in found}) == (3, {"ok"})
        check_complete(server)


def test_a_host_that_is_down(server, folder):
    with Server() as gone:
        api = gone.api
    sleeps = Sleeps()
    with pytest.raises(StoreError, match="Connection refused") as caught:
        publish(folder, destination(server, endpoint=api, sleep=sleeps))
    assert caught.value.transient
    assert len(sleeps) == 5
    assert all(0 < wait <= 30 for wait in sleeps)


def test_a_repository_that_has_moved_is_not_written_to(server, folder):
    server.fail("POST", "/releases$", 307, headers={"Location": f"{server.api}/repositories/1"})
    with pytest.raises(StoreError, match="has moved to"):
        publish(folder, destination(server))


# -- what is private ---------------------------------------------------------------------------


def test_a_private_repository_is_read_back_with_the_token(folder):
    with Server() as server:
        server.make_repo("org/data", private=True)
        place = destination(server)
        sent, found = publish(folder, place, prove=True)
        assert sent == 3
        assert {(one.state, one.note) for one in found} == {
            ("ok", "read with credentials: it is not public")
        }
        assert place.private
        assert "private repository" in place.advice()
        # the server complains, when it is closed, of a token at the host of the objects
        assert len([one for one in server.requests if one.port == "objects"]) == 3


def test_reading_back_notices_damage(folder):
    with Server() as server:
        server.make_repo("org/data", private=True)
        publish(folder, destination(server))
        release_of(server).by_name()["a.fits"].content = b"B" * 5000
        place = destination(server)
        place.check(items_of(folder))
        place.held()
        assert b"".join(place.read("a.fits")) == b"B" * 5000


def test_a_server_without_digests_is_read_back(server, folder):
    server.digests = False
    publish(folder, destination(server))
    assert publish(folder, destination(server)) == (0, [])
    release_of(server).by_name()["a.fits"].content = b"B" * 5000
    with pytest.raises(AlreadyPublishedError, match=r"a\.fits: other bytes of the same size"):
        publish(folder, destination(server))


def test_an_immutable_release_takes_no_more_files(server, folder):
    release = server.make_release(server.repos["org/data"], "v1")
    release.immutable = True
    with pytest.raises(PublishError, match="the release v1 of org/data is immutable"):
        publish(folder, destination(server))
    assert uploads(server) == []


def test_a_draft_that_is_complete_is_published_by_the_next_run(server, folder):
    place, items = ready(server, folder)
    for one in items.values():
        put(place, one)
    assert release_of(server).draft
    assert place.private
    assert "is a draft" in place.advice()
    again = destination(server)
    assert publish(folder, again)[0] == 0
    check_complete(server)
    assert not again.private
    assert again.advice() is None


# -- the imitation -----------------------------------------------------------------------------


def test_the_imitation_complains_of_what_the_description_does_not_allow():
    server = Server()
    with pytest.raises(AssertionError, match="GitHub complains") as caught, server:
        server.make_repo("org/data")
        headers = {
            "Authorization": f"Bearer {server.make_token()}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        url = f"{server.api}/repos/org/data/releases"
        wrong = {"tag_name": "v1", "draft": "yes"}
        requests.post(url, json=wrong, headers=headers, timeout=20)
        release = server.make_release(server.repos["org/data"], "v2")
        release.name = 7
        requests.get(url, headers=headers, timeout=20)
        to_api = f"{url}/{release.id}/assets?name=a"
        requests.post(to_api, data=b"a", headers=headers, timeout=20)
    told = str(caught.value)
    assert "'yes' is not of type 'boolean'" in told
    assert "7 is not of type 'string'" in told
    assert "this is another host's" in told


def test_the_description_is_github_s_own():
    path = Path(__file__).parents[1] / "data" / "github-openapi.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    assert content["info"]["license"]["name"] == "MIT"
    assert content["info"]["x-license-text"].startswith("MIT License")
    assert content["info"]["title"].startswith("GitHub")
    upload = content["paths"]["/repos/{owner}/{repo}/releases/{release_id}/assets"]["post"]
    assert [one["url"] for one in upload["servers"]] == ["https://uploads.github.com"]
