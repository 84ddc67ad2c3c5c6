"""Answers of services that are not as documented: each ends in an error of that service."""

from __future__ import annotations

import contextlib
import json
import random

import pytest
from hosts import Sleeps, make_files, publish
from servers import figshare, github, zenodo

from pkgdata.errors import PkgdataError, StoreError
from pkgdata.publish.figshare import Figshare
from pkgdata.publish.github import GitHub
from pkgdata.publish.rest import Rest
from pkgdata.publish.zenodo import Zenodo

FILES = {"a.fits": b"A" * 1500, "b.csv": b"b,c\n"}

#: What is read of answers, and the first ones of lists.
READ = {
    *("id", "name", "size", "state", "digest", "label", "draft", "private", "tag_name", 0),
    *("upload_url", "browser_download_url", "title", "files", "links", "bucket", "metadata"),
    *("location", "status", "parts", "partNo", "startOffset", "endOffset", "upload_token"),
    *("computed_md5", "supplied_md5", "download_url", "submitted", "filename", "filesize"),
    *("checksum", "latest_draft", "latest", "prereserve_doi", "doi", "key", "values", "data"),
    *("type", "value", "latestVersion", "dataFile", "directoryLabel", "md5", "originalFileName"),
}

#: What stands in the place of a value.
ODD = [None, True, -1, 10**30, 0.5, "", "x", "\ud800", "a\nb", "http://[", [], [[]], {}, {"id": 1}]


def _github(server):
    server.make_repo("org/data")
    return GitHub("github:org/data@v1", token=server.make_token(), endpoint=server.api, **quick())


def _figshare(server):
    metadata = {"description": "What it is.", "categories": [1], "tags": ["data"]}
    token = server.make_token()
    return Figshare("figshare:", token=token, endpoint=server.api, metadata=metadata, **quick())


def _zenodo(server):
    metadata = {"description": "What it is.", "creators": [{"name": "Doe, Jane"}]}
    options = {"token": server.make_token(), "endpoint": server.site, "metadata": metadata}
    return Zenodo("zenodo:", publish=True, **options, **quick())


def quick():
    return {"sleep": Sleeps(), "timeout": 20}


SERVICES = {
    "github": (github.GitHub, _github),
    "figshare": (figshare.Figshare, _figshare),
    "zenodo": (zenodo.Zenodo, _zenodo),
}


def places_of(value, path=()):
    """Yield the way to each value of an answer, itself first."""
    yield path
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_of(one, (*path, key))


def damaged(answer, rng):
    """Return an answer in which one value is another, or not there."""
    places = [way for way in places_of(answer) if not way or way[-1] in READ]
    *way, last = rng.choice(places) or [None]
    if last is None:
        return rng.choice(ODD)
    inner = answer
    for key in way:
        inner = inner[key]
    if rng.random() < 0.4:
        del inner[last]
    else:
        inner[last] = rng.choice(ODD)
    return answer


@pytest.fixture
def damage(monkeypatch):
    """Return a function: the answer of this number, and those after it, are damaged by a seed."""
    once = Rest._once

    def start(number, seed, every=False):
        rng, count = random.Random(seed), 0

        def damaging(self, *words):
            nonlocal count
            response = once(self, *words)
            if "json" in response.headers.get("Content-Type", ""):
                count += 1
                if count == number or (every and count > number):
                    told = damaged(json.loads(response.content), rng)
                    response._content = json.dumps(told).encode()
            return response

        monkeypatch.setattr(Rest, "_once", damaging)

    return start


@pytest.mark.parametrize("every", [False, True], ids=["one", "all after it"])
@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize(
    "seeds",
    [range(12), pytest.param(range(12, 60), marks=pytest.mark.slow)],  # each of 12 answers, once
    ids=["few", "many"],
)
def test_a_damaged_answer_is_an_error_of_the_service_or_does_no_harm(
    tmp_path, damage, kind, every, seeds
):
    serve, place_at = SERVICES[kind]
    for seed in seeds:
        folder = make_files(tmp_path / f"data{seed}", FILES)
        with serve() as server:
            damage(seed % 12 + 1, seed, every)
            with contextlib.suppress(PkgdataError):
                publish(folder, place_at(server))
            server.complaints.clear()  # what was damaged may have been asked for


def test_another_body_of_a_moved_repository_is_an_error_of_github(tmp_path, monkeypatch):
    with github.GitHub() as server:
        place = _github(server)
        once = Rest._once

        def moved(self, *words):
            response = once(self, *words)
            response._content = b'{"message": "Moved Permanently", "url": "https://x"}'
            return response

        monkeypatch.setattr(Rest, "_once", moved)
        with pytest.raises(StoreError, match=r"GitHub answers .*'private'.* not there") as caught:
            place.held()
        assert caught.value.url.endswith("repos/org/data")
