"""What a package says of publishing in its pkgdata.toml, and where tokens come from."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from publishing import (
    FILES,
    contents,
    environment,
    make,
    run,
)

from pkgdata.core.registry import Registry
from pkgdata.errors import (
    PublishError,
)
from pkgdata.publish import destinations_for
from pkgdata.publish.destination import find_token, hide

# -- a package's own settings ------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, web):
    folder = tmp_path / "src" / "starpkg"
    make(folder, {"__init__.py": b"raise RuntimeError('imported')\n"})
    (folder / "pkgdata.toml").write_text(
        f'[package]\nname = "starpkg"\nversion = "1.2"\ndataurl = ["{web.as_uri()}/{{version}}"]\n'
        f'[publish]\nto = ["file:{web}/{{version}}"]\n'
    )
    return folder


def test_a_package_says_where_to(here, web, package):
    done = run(here, "--package", package)
    assert done.returncode == 0, done.stderr
    assert contents(web / "1.2") == FILES
    assert set(Registry.load(package / "registry.txt")) == set(FILES)
    assert "dataurl =" not in done.stderr, "the file says it already"
    assert run("--check", "--package", package).returncode == 0
    (web / "1.2" / "stars.csv").unlink()
    assert run("--check", "--package", package).returncode == 3


def test_variables_in_the_destination_are_expanded(here, web, package, monkeypatch):
    file = package / "pkgdata.toml"
    file.write_text(file.read_text().replace(f"file:{web}/", "file:$WEB_FOLDER/"))
    monkeypatch.setenv("WEB_FOLDER", str(web))
    assert run(here, "--package", package).returncode == 0
    assert contents(web / "1.2") == FILES
    monkeypatch.delenv("WEB_FOLDER")
    assert "pkgdata.toml: to = " in run(here, "--package", package).stderr


def test_where_to_on_the_command_line_wins(tmp_path, here, package):
    before = (package / "pkgdata.toml").read_text()
    done = run(here, "--package", package, "--to", f"file:{tmp_path}/else")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "else") == FILES
    assert f'dataurl = ["{(tmp_path / "else").as_uri()}"]' in done.stderr
    assert (package / "pkgdata.toml").read_text() == before


def test_a_package_without_a_declaration(tmp_path, here):
    (tmp_path / "bare").mkdir()
    done = run(here, "--package", tmp_path / "bare")
    assert done.returncode == 1
    assert "pkgdata.toml" in done.stderr


def test_no_folder_is_an_error():
    done = run("--to", "file:/somewhere")
    assert done.returncode == 1
    assert "pkgdata publish DIR" in done.stderr


# -- tokens ------------------------------------------------------------------------------------


def test_the_environment_holds_the_token(monkeypatch):
    monkeypatch.setenv("SECOND", "abc123secret")
    assert find_token("a service", ["FIRST", "SECOND"]) == "abc123secret"
    assert hide("https://x:abc123secret@host") == "https://x:***@host"


def test_no_token_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PublishError, match="no token for nosuch") as caught:
        find_token("nosuch", ["NOSUCH_TOKEN"])
    assert "NOSUCH_TOKEN" in caught.value.hint
    assert find_token("nosuch", ["NOSUCH_TOKEN"], needed=False) is None


@pytest.mark.parametrize("bad", ["two words", "line\nbreak", "ä"])
def test_a_token_that_could_not_be_sent_is_not_shown(monkeypatch, bad):
    monkeypatch.setenv("BAD_TOKEN", bad)
    with pytest.raises(PublishError, match="BAD_TOKEN") as caught:
        find_token("a service", ["BAD_TOKEN"])
    assert bad not in str(caught.value)


def test_a_keyring_is_asked_if_there_is_one(tmp_path):
    make(
        tmp_path / "lib",
        {
            "keyring/__init__.py": b"def get_password(a, b):\n"
            b"    if b == 'locked':\n        from .errors import KeyringError\n"
            b"        raise KeyringError\n"
            b"    return f'{a}-{b}-password'\n",
            "keyring/errors.py": b"class KeyringError(Exception): pass\n",
        },
    )
    code = (
        "from pkgdata.publish.destination import find_token\n"
        "print(find_token('zenodo', []), find_token('locked', [], needed=False))"
    )
    path = os.pathsep.join([str(tmp_path / "lib"), environment()["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment({"PYTHONPATH": path}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["pkgdata-zenodo-password", "None"]


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_token_is_asked_for_on_a_terminal_and_not_shown():
    import pty

    code = "from pkgdata.publish.destination import find_token as find\n"
    code += "print(len(find('nosuch', ['NOSUCH'])))"
    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(),
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(other)
    said = b""
    while b"shown" not in said:
        said += os.read(main, 1000)
    os.write(main, b"typed-secret\n")
    try:
        while True:
            part = os.read(main, 1000)
            if not part:
                break
            said += part
    except OSError:
        pass  # how Linux says that the other end is closed
    assert process.wait(30) == 0
    os.close(main)
    assert b"12" in said
    assert b"typed-secret" not in said


def _take_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("secret", ["me:sesame@h/d/", "h/d/?sig=sesame", "me:se/same@h/d/"])
def test_a_public_address_with_a_secret_is_refused_and_not_shown(tmp_path, secret):
    with pytest.raises(PublishError, match="to be public") as caught:
        destinations_for(f"file:{tmp_path}", f"https://{secret}")
    assert "same" not in str(caught.value)
