"""The demo runs, and fails when a step does not do what it says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pkgdata.cli import demo


@pytest.mark.slow
def test_the_demo_passes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pkgdata", "demo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=None,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 of 7 steps did what they promise" in done.stdout
    assert "warning" not in done.stderr, "a step that went as it should looks like a fault"


def test_a_step_that_breaks_its_word_fails_the_demo(monkeypatch, capsys):
    monkeypatch.setattr(demo, "_LARGE", 1 << 20)
    monkeypatch.setattr(demo.Demo, "offline", lambda self: demo._check(False, "it was online"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert demo.run() == 1
    assert "AssertionError: it was online" in capsys.readouterr().out
