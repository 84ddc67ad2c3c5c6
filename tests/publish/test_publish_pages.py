"""Publishing to a branch that the web shows: a real ``git http-backend`` behind nginx."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest
from nginx import Nginx
from publishing import FILES, command, contents, environment, make, need, publish, run, states
from servers.processes import Processes
from servers.proxy import Proxy, stall

from pkgdata import Digest
from pkgdata.core.registry import Registry
from pkgdata.errors import AccessDeniedError, AlreadyPublishedError, PublishError
from pkgdata.publish import Item, destination_for
from pkgdata.publish.engine import Publication
from pkgdata.publish.pages import FILE_LIMIT, SITE_LIMIT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="the server is made for Unix"),
]

_SETTINGS = """
location ~ ^/git(/.*) {{
    auth_basic "git";
    auth_basic_user_file {work}/users;
    client_max_body_size 300m;
    fastcgi_request_buffering off;
    fastcgi_pass unix:{work}/fcgi.socket;
    fastcgi_param SCRIPT_FILENAME {backend};
    fastcgi_param GIT_PROJECT_ROOT {work}/git;
    fastcgi_param GIT_HTTP_EXPORT_ALL "";
    fastcgi_param PATH_INFO $1;
    fastcgi_param REMOTE_USER $remote_user;
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param CONTENT_TYPE $content_type;
    fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
    fastcgi_param HTTP_GIT_PROTOCOL $http_git_protocol;
}}
"""

#: What GitHub does with large files.
_PRE_RECEIVE = """#!/bin/sh
limit=$(cat "$GIT_DIR/limit" 2>/dev/null || echo 104857600)
while read old new ref; do
  git rev-list --objects "$new" --not --all | cut -d' ' -f1 |
    git cat-file --batch-check='%(objecttype) %(objectsize) %(objectname)' |
    while read kind size name; do
      if [ "$kind" = blob ] && [ "$size" -gt "$limit" ]; then
        echo "error: GH001: Large files detected." >&2
        exit 1
      fi
    done || exit 1
done
"""

#: Shows what was pushed.
_POST_RECEIVE = """#!/bin/sh
git archive gh-pages | tar -x -C "{site}"
"""


class Host:
    """A host of repositories, and of the site that one of them is."""

    def __init__(self, work, home):
        self.work = work
        self.site = work / "site"
        self.site.mkdir(parents=True)
        self.bare = work / "git" / "me" / "data.git"
        self.home = home

    def prepare(self):
        (self.work / "users").write_text("me:{PLAIN}secret\n")
        git("init", "--quiet", "--bare", str(self.bare))
        git("config", "http.receivepack", "true", cwd=self.bare)
        for name, text in (("pre-receive", _PRE_RECEIVE), ("post-receive", _POST_RECEIVE)):
            hook = self.bare / "hooks" / name
            hook.write_text(text.replace("{site}", str(self.site)))
            hook.chmod(0o755)

    def allow(self, port, password="secret"):
        """Let git know the password for a port, as its credential helper does."""
        with open(self.home / "credentials", "a") as file:
            file.write(f"http://me:{password}@127.0.0.1:{port}\n")

    def log(self):
        said = git("log", "--format=%s", "--reverse", "gh-pages", cwd=self.bare)
        return said.splitlines()

    def files(self):
        return set(
            git("ls-tree", "-r", "-z", "--name-only", "gh-pages", cwd=self.bare).split("\0")
        ) - {""}

    def push(self, files, cwd):
        """Push as somebody else would."""
        shutil.rmtree(cwd, ignore_errors=True)
        git("clone", "--quiet", str(self.bare), str(cwd))
        branch = ["gh-pages"] if git("branch", "-r", cwd=cwd) else ["--orphan", "gh-pages"]
        git("checkout", "--quiet", *branch, cwd=cwd)
        make(cwd, files)
        git("add", "-A", cwd=cwd)
        git("commit", "--quiet", "-m", "theirs", cwd=cwd)
        git("push", "--quiet", "origin", "gh-pages", cwd=cwd)


def git(*words, cwd=None):
    return subprocess.run(
        ["git", *words], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def host(tmp_path, monkeypatch):
    need(
        "git", "fcgiwrap", "git-http-backend",
        install="apt-get install git fcgiwrap nginx-light",
    )  # fmt: skip
    home = tmp_path / "home"
    (home / ".gitconfig").write_text(
        "[user]\nname = Test\nemail = test@example.org\n[init]\ndefaultBranch = main\n"
        f"[credential]\nhelper = store --file={home}/credentials\n[safe]\ndirectory = *\n"
    )
    for name in ("GITHUB_TOKEN", "GH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    host = Host(tmp_path / "host", home)
    host.prepare()
    processes = Processes(host.work)
    backend = shutil.which("git-http-backend", path=git("--exec-path").strip())
    socket = host.work / "fcgi.socket"
    program = shutil.which("fcgiwrap", path=f"/usr/sbin:{os.environ['PATH']}")
    processes.start("fcgiwrap", [program, "-c", "2", "-s", f"unix:{socket}"])
    try:
        processes.wait_until(socket.exists, "fcgiwrap listens")
        settings = _SETTINGS.format(work=host.work, backend=backend)
        with Nginx(tmp_path / "nginx", host.site, settings) as server:
            host.url = server.url
            host.allow(server.port)
            host.place = f"pages:{server.url}git/me/data.git"
            yield host
    finally:
        processes.stop()


def test_round_trip(host, here, registry):
    words = [here, "--to", host.place, "--url", host.url, "--registry", registry]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert host.files() == {*FILES, ".nojekyll"}
    assert host.log() == ["Publish 4 files"]
    again = run(*words)
    assert again.returncode == 0, again.stderr
    assert host.log() == ["Publish 4 files"]
    (here / "new.txt").write_text("new")
    assert run(*words, "--index").returncode == 0
    assert run(*words, "--index").returncode == 0
    assert host.log() == ["Publish 4 files", "Publish 1 file", "Publish 1 file"]
    assert set(Registry.load(registry)) == {*FILES, "new.txt"}


def test_a_site_that_is_there_is_added_to(host, here, registry, tmp_path):
    host.push({"index.html": b"my site", "other/page.html": b"x"}, tmp_path / "other")
    publish(here, host.place, registry, urls=[host.url])
    assert host.log() == ["theirs", "Publish 4 files"]
    assert host.files() == {*FILES, ".nojekyll", "index.html", "other/page.html"}
    done = run(here, "--to", host.place, "--url", host.url, "--registry", registry, "--index")
    assert done.returncode == 1
    assert "index.html that pkgdata did not write" in done.stderr
    assert (host.site / "index.html").read_bytes() == b"my site"


@pytest.mark.parametrize("content", [b"of another size", FILES["stars.csv"][::-1]])
def test_what_is_there_is_not_replaced(host, here, registry, tmp_path, content):
    host.push({"stars.csv": content}, tmp_path / "other")
    with pytest.raises(AlreadyPublishedError, match=r"stars\.csv"):
        publish(here, host.place, registry, urls=[host.url])
    assert host.log() == ["theirs"]
    _, sent, findings = publish(here, host.place, registry, urls=[host.url], replace=["stars.csv"])
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}


def test_a_push_in_between_is_kept(host, here, registry, tmp_path):
    """What we commit goes on top of what was pushed after we looked."""
    with Publication(
        str(here), [destination_for(host.place, public_url=host.url)], str(registry)
    ) as work:
        work.plan()
        host.push({"theirs.txt": b"theirs"}, tmp_path / "other")
        work.upload()
        assert set(states(work.prove()).values()) == {"ok"}
    assert host.log() == ["theirs", "Publish 4 files"]
    assert host.files() == {*FILES, ".nojekyll", "theirs.txt"}


def test_a_push_between_fetch_and_push_is_kept(host, here, registry, tmp_path):
    destination = destination_for(host.place, public_url=host.url)
    real = destination.put
    pushed = []

    def put(item, replace, moved):
        if not pushed:
            pushed.append(host.push({"theirs.txt": b"theirs"}, tmp_path / "other"))
        return real(item, replace, moved)

    destination.put, destination.threads = put, 1
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        work.upload()
    assert host.log() == ["theirs", "Publish 4 files"]
    assert host.files() == {*FILES, ".nojekyll", "theirs.txt"}


def test_a_name_that_was_pushed_in_between_is_not_replaced(host, here, registry, tmp_path):
    host.push({"first.txt": b"1"}, tmp_path / "other")
    destination = destination_for(host.place, public_url=host.url)
    real = destination.finish

    def finish():
        host.push({"stars.csv": b"theirs"}, tmp_path / "other")
        return real()

    destination.finish = finish
    with Publication(str(here), [destination], str(registry)) as work:
        work.plan()
        with pytest.raises(PublishError, match=r"somebody else has just published 'stars\.csv'"):
            work.upload()
    assert host.log() == ["theirs", "theirs"]


def test_the_limits_hold_before_anything_is_sent(host):
    destination = destination_for(host.place, public_url=host.url)
    digest = Digest("sha256", "0" * 64)
    with pytest.raises(PublishError, match=rf"{FILE_LIMIT + 1} bytes.*at most {FILE_LIMIT}"):
        destination.check([Item("large.bin", "unused", digest, FILE_LIMIT + 1)])
    destination.check([Item("large.bin", "unused", digest, FILE_LIMIT)])
    many = [Item(f"{i}.bin", "unused", digest, FILE_LIMIT) for i in range(11)]
    with pytest.raises(PublishError, match=f"the site would have .* at most {SITE_LIMIT}"):
        destination.check(many)
    assert FILE_LIMIT == 100 * 2**20
    assert SITE_LIMIT == 2**30


def test_what_is_there_counts_for_the_limit(host, here, registry, tmp_path, monkeypatch):
    from pkgdata.publish import pages

    host.push({"large.bin": bytes(5000)}, tmp_path / "other")
    total = sum(map(len, FILES.values()))
    monkeypatch.setattr(pages, "SITE_LIMIT", total + 4999)
    with pytest.raises(PublishError, match="the site would have"):
        publish(here, host.place, registry, urls=[host.url])
    monkeypatch.setattr(pages, "SITE_LIMIT", total + 5000)
    assert publish(here, host.place, registry, urls=[host.url])[1] == len(FILES)


def test_a_push_that_the_server_refuses(host, here, registry):
    (host.bare / "limit").write_text("1000")
    done = run(here, "--to", host.place, "--url", host.url, "--registry", registry)
    assert done.returncode == 1
    assert "GH001: Large files detected" in done.stderr
    assert not registry.exists()
    assert git("branch", "--list", cwd=host.bare) == ""


def test_a_wrong_password_is_not_shown(host, here, registry):
    (host.home / "credentials").unlink()
    port = host.url.rstrip("/").rpartition(":")[2]
    host.allow(port, "wrong-and-secret")
    with pytest.raises(AccessDeniedError) as caught:
        publish(here, host.place, registry, urls=[host.url])
    assert "wrong-and-secret" not in str(caught.value)


def test_no_password(host, here, registry):
    (host.home / "credentials").unlink()
    with pytest.raises(AccessDeniedError, match="GITHUB_TOKEN"):
        publish(here, host.place, registry, urls=[host.url])


def test_no_such_repository(host, here, registry):
    place = host.place.replace("data.git", "nosuch.git")
    with pytest.raises(PublishError, match="no such repository"):
        publish(here, place, registry, urls=[host.url])


def test_a_repository_of_this_machine(host, here, registry):
    _, sent, findings = publish(here, f"pages:{host.bare}", registry, urls=[host.url])
    assert sent == len(FILES)
    assert set(states(findings).values()) == {"ok"}


def test_the_token_reaches_git_by_the_environment_alone(tmp_path, monkeypatch):
    """A stand-in for git notes what it is given; nothing leaves this machine."""
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_verysecret")
    tool = make(
        tmp_path / "bin",
        {
            "git": b'#!/bin/sh\nprintf "%s\\n" "$@" >> "$NOTES"\n'
            b'echo "fatal: https://x:ghp_verysecret@github.com/ not found" >&2\nexit 128\n'
        },
    )
    (tool / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    destination = destination_for("pages:owner/repo")
    with pytest.raises(PublishError) as caught:
        destination.held()
    destination.close()
    assert "ghp_verysecret" not in (tmp_path / "notes").read_text()
    assert "PKGDATA_PAGES_TOKEN" in (tmp_path / "notes").read_text()
    assert "ghp_verysecret" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "site"),
    [
        ("pages:Owner/repo", "https://owner.github.io/repo/"),
        ("pages:owner/owner.github.io", "https://owner.github.io/"),
    ],
)
def test_the_address_of_a_site(place, site):
    assert destination_for(place).dataurl == site
    assert destination_for(place).delay > 0


def test_another_site_must_be_named(host, here, registry):
    done = run(here, "--to", host.place, "--registry", registry)
    assert done.returncode == 1
    assert "--url" in done.stderr


@pytest.mark.parametrize("path", ["info/refs", "git-receive-pack"])
def test_killed(host, here, registry, path):
    """Killed while it looks, and when the server has taken the push but did not tell."""
    with Proxy(host.url.rstrip("/")) as proxy:
        host.allow(proxy.port)
        place = f"pages:{proxy.url}/git/me/data.git"
        words = [here, "--to", place, "--url", host.url, "--registry", registry]
        method = "GET" if path == "info/refs" else "POST"
        proxy.script(stall(0), method=method, path=path)
        process = subprocess.Popen(
            command(*words),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        proxy.wait_for_stall()
        os.killpg(process.pid, signal.SIGKILL)  # git too, as when a machine goes down
        assert process.wait() == -signal.SIGKILL
        proxy.release()
        proxy.heal()
        assert not registry.exists()
        done = run(*words)
    assert done.returncode == 0, done.stderr
    assert host.log() == ["Publish 4 files"]
    assert contents(host.site) == {**FILES, ".nojekyll": b""}
    assert set(Registry.load(registry)) == set(FILES)
