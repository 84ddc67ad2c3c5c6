"""`PackageData.fetch(on=...)`: which engine a value of ``on`` stands for."""

from __future__ import annotations

import pickle

import pytest

import pkgdata
from pkgdata.base.report import HostShare, Report


def test_what_is_no_engine_is_refused():
    data = pkgdata.PackageData("refused", registry={"a": "0" * 64})
    with pytest.raises(pkgdata.UnsupportedOperationError, match="nothing can be fetched on 3"):
        data.fetch(on=3)


def test_the_report_of_hosts_is_seen_and_crosses_processes():
    report = Report(lambda again: report)
    assert repr(report) == "<Report: 0 succeeded, 0 failed>"
    report.hosts = {"n1": HostShare(200, 0, 1.5, 2), "n2": HostShare(0, 200, 1.75, 2)}
    assert repr(report) == (
        "<Report: 0 succeeded, 0 failed, 2 hosts: 200 bytes from the origin, 200 from peers>"
    )
    again = pickle.loads(pickle.dumps(report))
    assert repr(again.hosts["n2"]) == "HostShare(origin=0, peers=200, seconds=1.75, files=2)"
