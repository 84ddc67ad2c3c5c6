"""The README's first steps, against a web server as a package's author would set it up."""

from __future__ import annotations

import hashlib

import pytest
from pytest_httpserver import HTTPServer

import pkgdata

CONTENT = b"name,mag\nSirius,-1.46\n"


@pytest.fixture
def served(httpserver: HTTPServer) -> HTTPServer:
    httpserver.expect_request("/v1.0/stars.csv").respond_with_data(
        CONTENT, content_type="text/csv", headers={"ETag": '"1"'}
    )
    return httpserver


def declare(*dataurl, **more):
    registry = {"stars.csv": hashlib.sha256(CONTENT).hexdigest()}
    return pkgdata.declare(
        "starpkg", dataurl=list(dataurl), registry=registry, version="1.0", retries=0, **more
    )


def test_a_file_is_fetched_once(served):
    get_data = declare(served.url_for("/v{version}/")).get
    with open(get_data("stars.csv"), "rb") as file:
        assert file.read() == CONTENT
    assert get_data("stars.csv") == declare(served.url_for("/v{version}/")).get("stars.csv")
    ((request, response),) = served.log
    assert response.status_code == 200
    assert request.headers["User-Agent"].startswith(f"pkgdata/{pkgdata.__version__} ")
    assert request.headers["Accept-Encoding"] == "identity"


def test_the_next_mirror_serves_what_the_first_lacks(served):
    data = declare(served.url_for("/v0.9/"), served.url_for("/v{version}/"))
    with data.open("stars.csv") as file:
        assert file.read() == CONTENT
    assert [response.status_code for _, response in served.log] == [500, 200]


def test_a_site_rule_leads_to_the_local_mirror(served):
    data = declare(
        "https://portal.example.org/data/",
        rewrite={"https://portal.example.org/data/": served.url_for("/v1.0/")},
    )
    with data.open("stars.csv") as file:
        assert file.read() == CONTENT


def test_without_a_declaration(served):
    with (
        pkgdata.conf.set_temp("dataurl", served.url_for("/v1.0/")),
        pkgdata.conf.set_temp("remote_timeout", 30),
    ):
        path = pkgdata.get_pkg_data_filename("stars.csv", package="json")
    with open(path, "rb") as file:
        assert file.read() == CONTENT
