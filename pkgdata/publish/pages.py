"""GitHub Pages, or any site that is a branch of a git repository: ``pages:owner/repo``.

Plain git in a temporary clone of the branch's last commit: files become objects, these a tree, the
tree a commit on top of the branch, and one push makes all of it visible or nothing. A push of
somebody else in between is not overwritten: the commit is made again on top of it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from ..base import disk, hashes
from ..base.urls import redact
from ..errors import AccessDeniedError, PublishError, StoreError
from .destination import Destination, Held, Item, find_token, hide

#: What GitHub takes: bytes of a file, and of a site.
FILE_LIMIT, SITE_LIMIT = 100 << 20, 1 << 30

_BRANCH = "gh-pages"

#: Our name for the branch in the clone.
_OURS = "refs/heads/publish"

#: Keeps Pages from passing the files through Jekyll, which drops names that begin with ``_``.
_NO_JEKYLL = ".nojekyll"

#: Takes the token from the environment, so that no argument holds it.
_HELPER = '!f() { echo username=x-access-token; echo "password=$PKGDATA_PAGES_TOKEN"; }; f'


class Pages(Destination):
    """A branch ``gh-pages`` that a web server shows.

    Parameters
    ----------
    url : str
        ``pages:owner/repo`` on GitHub, or ``pages:PATH-OR-URL.git``.
    public_url : str, optional
        Where the web shows it; GitHub's own address by default.

    Raises
    ------
    PublishError
        The URL is malformed.
    """

    threads = 2  # git compresses on our processors
    shows_pages = True

    def __init__(self, url: str, public_url: str | None = None) -> None:
        rest = url.partition(":")[2]
        super().__init__(rest if "://" in rest else url)
        self.url = self.url if self.url.startswith("pages:") else f"pages:{self.url}"
        self._remote, own = _remote_of(rest, self.url)
        self._public = public_url or own
        #: GitHub takes minutes to show what was pushed.
        self.delay = 900.0 if own is not None and public_url is None else 0.0
        self._token = None
        self._lock = threading.Lock()
        self._work: str | None = None
        self._held = contextlib.ExitStack()
        self._tree: dict[str, tuple[str, int]] = {}
        self._staged: dict[str, str] = {}

    @property
    def dataurl(self) -> str:
        """Public base URL.

        Raises
        ------
        PublishError
            None was given, and the repository is not on GitHub.
        """
        return self._shown_at(self._public)

    def check(self, items: Sequence[Item]) -> None:
        _ = self.dataurl
        for item in items:
            if item.size > FILE_LIMIT:
                raise PublishError(
                    f"{self.url}: {item.name!r} has {item.size} bytes, and GitHub takes at most "
                    f"{FILE_LIMIT} in a file",
                    hint="a GitHub release takes files of up to 2 GiB: --to github:OWNER/REPO@TAG",
                )
            if item.name.split("/")[0] == ".git":
                raise PublishError(f"{self.url}: git takes no file {item.name!r}")
        self._check_site({item.name: item.size for item in items})

    def _check_site(self, sizes: Mapping[str, int]) -> None:
        total = sum(({name: size for name, (_, size) in self._tree.items()} | {**sizes}).values())
        if total > SITE_LIMIT:
            raise PublishError(
                f"{self.url}: the site would have {total} bytes, and GitHub takes at most "
                f"{SITE_LIMIT}",
                hint="publish the large files elsewhere, such as to a GitHub release",
            )

    def held(self) -> Mapping[str, Held]:
        self._fetch()
        return {name: Held(size) for name, (_, size) in self._tree.items() if name != _NO_JEKYLL}

    def same(self, item: Item, held: Held) -> bool:
        there = self._tree[item.name][0]
        return _object_name(item, "sha256" if len(there) == 64 else "sha1") == there

    def begin(self, new: Sequence[Item], replaced: Sequence[Item]) -> None:
        self._fetch()
        self._check_site({item.name: item.size for item in (*new, *replaced)})
        for item in new:
            parts = item.name.split("/")
            for depth in range(1, len(parts)):
                if "/".join(parts[:depth]) in self._tree:
                    raise PublishError(f"{self.url}: a file is in the way of {item.name!r}")

    def put(self, item: Item, replace: bool, moved: Callable[[int], None]) -> Held:
        path = os.path.abspath(item.path)
        made = self._git("hash-object", "-w", "--no-filters", "--", path).strip()
        item.check_unchanged()
        with self._lock:
            self._staged[item.name] = made
        moved(item.size)
        return Held(item.size, item.digest)

    def finish(self) -> Mapping[str, str]:
        if not self._staged:
            return {}
        try:
            self._push()
        except _NotFastForwardError:
            before = self._tree
            self._fetch()
            taken = [name for name in self._staged if self._differs(name, before)]
            if taken:
                raise PublishError(
                    f"{self.url}: somebody else has just published {taken[0]!r}",
                    hint="look at what is there, and run again",
                ) from None
            self._push()
        self._staged = {}
        return {}

    def _differs(self, name: str, before: Mapping[str, tuple[str, int]]) -> bool:
        """Return True if somebody has put another file where ours is to be."""
        now = self._tree.get(name)
        return now is not None and now != before.get(name) and now[0] != self._staged[name]

    def _push(self) -> None:
        tree = self._tree
        staged = {
            name: made
            for name, made in self._staged.items()
            if name not in tree or tree[name][0] != made
        }
        if not staged:
            return
        count = f"{len(staged)} file{'s' if len(staged) > 1 else ''}"
        if _NO_JEKYLL not in tree:
            staged[_NO_JEKYLL] = self._git("hash-object", "-w", "--stdin", given="").strip()
        rows = "".join(f"100644 {made}\t{name}\0" for name, made in staged.items())
        parents = []
        if tree:
            self._git("read-tree", _OURS)
            parents = ["-p", _OURS]
        else:
            self._git("read-tree", "--empty")
        self._git("update-index", "-z", "--index-info", given=rows)
        made = self._git("write-tree").strip()
        commit = self._git("commit-tree", made, *parents, given=f"Publish {count}\n").strip()
        self._git("push", "--quiet", "origin", f"{commit}:refs/heads/{_BRANCH}")

    def advice(self) -> str:
        return (
            f"The repository's settings must say: Pages, deploy from the branch {_BRANCH}, folder "
            "/ (root). A site shows what was pushed after some minutes: check again with "
            "'pkgdata publish --check'."
        )

    def close(self) -> None:
        self._work = None
        self._held.close()

    # -- git -----------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Bring the last commit of the branch, if there is one."""
        if self._work is None:
            self._work = self._held.enter_context(disk.temporary("pages"))
            self._git("init", "--quiet", "--bare", ".")
            self._git("remote", "add", "origin", self._remote)
        self._tree = {}
        branch = f"refs/heads/{_BRANCH}"
        if not self._git("ls-remote", "origin", branch).strip():
            return
        self._git("fetch", "--quiet", "--depth=1", "origin", f"+{branch}:{_OURS}")
        for row in self._git("ls-tree", "-r", "-l", "-z", _OURS).split("\0"):
            facts, _, name = row.partition("\t")
            if name:
                _, kind, digest, size = facts.split()
                self._tree[name] = (digest, int(size) if kind == "blob" else 0)

    def _environment(self) -> dict[str, str]:
        found = {
            **{key: value for key, value in os.environ.items() if not key.startswith("GIT_DIR")},
            "GIT_CONFIG_NOSYSTEM": os.environ.get("GIT_CONFIG_NOSYSTEM", "0"),
            "LC_ALL": "C",
        }
        for key in ("GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY"):
            found.pop(key, None)
        for role in ("AUTHOR", "COMMITTER"):
            found.setdefault(f"GIT_{role}_NAME", "pkgdata publish")
            found.setdefault(f"GIT_{role}_EMAIL", "pkgdata@localhost")
        if sys.stdin is None or not sys.stdin.isatty():
            found["GIT_TERMINAL_PROMPT"] = "0"
            found.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        return found

    def _git(self, *arguments: str, given: str | None = None) -> str:
        env = self._environment()
        helper: list[str] = []
        if self._remote.startswith("https://github.com/"):
            token = find_token("github", ("GITHUB_TOKEN", "GH_TOKEN"), needed=False)
            if token is not None:
                env["PKGDATA_PAGES_TOKEN"] = token
                helper = ["-c", "credential.helper=", "-c", f"credential.helper={_HELPER}"]
        try:
            done = subprocess.run(
                ["git", *helper, *arguments],
                cwd=self._work,
                env=env,
                input=None if given is None else given.encode(),
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise PublishError(f"{self.url}: git is not installed") from None
        if done.returncode:
            raise self._failure(arguments[0], done.stderr.decode(errors="replace"))
        return done.stdout.decode()

    def _failure(self, command: str, said: str) -> Exception:
        """Return the error that git's words stand for, without anything secret in them."""
        words = said.replace(self._remote, redact(self._remote))
        lines = [line.strip() for line in hide(words).splitlines() if line.strip()]
        text = " ".join(lines[-4:]) or "it failed"
        lower = said.lower()
        if "fetch first" in lower or "non-fast-forward" in lower or "cannot lock ref" in lower:
            return _NotFastForwardError(f"{self.url}: somebody else has just pushed")
        if "hook declined" in lower or "gh001" in lower:
            return PublishError(f"{self.url}: the server refused the push: {text}")
        denied = ("could not read username", "authentication failed", "permission", "403", "401")
        if any(sign in lower for sign in denied):
            return AccessDeniedError(
                f"{self.url}: no right to {command}: {text}",
                hint="set GITHUB_TOKEN, or let git's credential helper know the host",
                url=self.url,
            )
        if "not found" in lower or "does not exist" in lower or "not appear to be a git" in lower:
            return PublishError(f"{self.url}: there is no such repository, or it is private")
        return StoreError(f"{self.url}: git {command}: {text}", url=self.url)

    def read(self, name: str) -> Iterator[bytes]:
        self._fetch()
        process = subprocess.Popen(
            ["git", "cat-file", "blob", self._tree[name][0]],
            cwd=self._work,
            env=self._environment(),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        with process.stdout as output:
            while block := output.read(1 << 20):
                yield block
        process.wait()


def _object_name(item: Item, alg: str) -> str:
    """Return what git calls a file's content: the digest of its kind, size and bytes."""
    with open(item.path, "rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        return hashes.hash_blocks(chain([f"blob {item.size}\0".encode()], blocks), alg).hex


class _NotFastForwardError(StoreError):
    """The branch has got another commit since it was fetched."""


def _remote_of(rest: str, url: str) -> tuple[str, str | None]:
    """Return the address of the repository, and of its site if that follows from it."""
    rest = rest.removesuffix("/")
    if rest.endswith(".git") or "://" in rest:
        if rest.startswith("-"):
            raise PublishError(f"{url}: a repository's address does not begin with '-'")
        if "://" in rest and ":" in rest.partition("://")[2].partition("/")[0].rpartition("@")[0]:
            raise PublishError(
                f"{url} holds a password, which every user of this machine could read",
                hint="let git's credential helper know it",
            )
        return rest if ":" in rest else os.path.abspath(rest), None
    owner, slash, repo = rest.partition("/")
    good = slash and owner and repo and all(c.isalnum() or c in "-_." for c in owner + repo)
    if not good or owner.startswith("-"):
        raise PublishError(f"{url}: expected pages:OWNER/REPO or pages:PATH-OR-URL.git")
    host = f"https://{owner.lower()}.github.io/"
    site = host if repo.lower() == f"{owner.lower()}.github.io" else f"{host}{repo}/"
    return f"https://github.com/{owner}/{repo}.git", site
