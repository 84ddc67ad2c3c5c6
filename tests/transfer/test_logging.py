"""What the logger ``pkgdata`` says of downloads."""

from __future__ import annotations

import hashlib
import logging

import pytest

import pkgdata
from pkgdata.base import retry
from pkgdata.testing import FaultServer, faults
from pkgdata.transfer import fetch

GOOD = b"right bytes" * 100


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.setattr(retry, "POLICY", retry.POLICY._replace(first=0.0))
    monkeypatch.setattr(fetch, "_warned", set())
    with FaultServer({"a.txt": GOOD}) as first, FaultServer({"a.txt": GOOD}) as second:
        yield first, second


def package(*servers, **names):
    digest = hashlib.sha256(GOOD).hexdigest()
    registry = names or {"a.txt": digest}
    return pkgdata.PackageData("logged", dataurl=[s.url for s in servers], registry=registry)


def said(caplog, level):
    return [one.getMessage() for one in caplog.records if one.levelno == level]


def test_each_download_is_logged_with_source_bytes_and_seconds(servers, caplog):
    caplog.set_level(logging.INFO, "pkgdata")
    data = package(servers[0])
    data.get("a.txt")
    (line,) = said(caplog, logging.INFO)
    assert line.startswith("a.txt: 1.1 kB in ")
    assert line.endswith(f" from {servers[0].url}a.txt")
    caplog.clear()
    data.get("a.txt")
    assert caplog.records == []


def test_a_failed_source_is_logged_and_the_one_that_stood_in_is_a_warning(servers, caplog):
    caplog.set_level(logging.INFO, "pkgdata")
    servers[0].script("a.txt", faults.forever(faults.status(503)))
    package(*servers).get("a.txt")
    assert "status 503" in said(caplog, logging.INFO)[0]
    assert "(try 1 of " in said(caplog, logging.INFO)[0]
    (warning,) = said(caplog, logging.WARNING)
    assert servers[0].url in warning
    assert warning.endswith(f"'a.txt' came from {servers[1].url}a.txt")


def test_wrong_bytes_are_a_warning(servers, caplog):
    servers[0].contents["a.txt"] = GOOD[::-1]
    package(*servers).get("a.txt")
    (warning,) = said(caplog, logging.WARNING)
    assert "wrong bytes for 'a.txt'" in warning


def test_many_small_files_are_logged_one_by_one(servers, caplog, tmp_path):
    caplog.set_level(logging.INFO, "pkgdata")
    contents = {f"{i}.txt": b"%d" % i for i in range(40)}
    servers[0].contents.update(contents)
    names = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    report = package(servers[0], **names).fetch()
    assert len(said(caplog, logging.INFO)) == len(contents)
    assert report.bytes == sum(map(len, contents.values()))
    assert report.seconds > 0
    assert f"40 new: {report.bytes} bytes in " in repr(report)


def test_requests_are_logged_for_debugging(servers, caplog):
    caplog.set_level(logging.DEBUG, "pkgdata")
    package(servers[0]).get("a.txt")
    assert said(caplog, logging.DEBUG) == [f"GET {servers[0].url}a.txt: status 200"]
