"""An imitation of GitHub's releases, checked against GitHub's own OpenAPI description.

::

    with GitHub() as server:
        repo = server.make_repo("org/data")
        GitHub("github:org/data@v1", token=server.make_token(), endpoint=server.api)

It has the hosts of the service: ``api`` (which is the web site too), ``uploads``, and ``objects``,
to which downloads are redirected. Every request and every answer that the description knows of is
validated against it with openapi-core; what does not fit is an error when the server is closed.

With ``enterprise`` it is at paths of one host, as GitHub Enterprise is. It renames assets, leaves
``starter`` assets where a body did not come whole, hides drafts from those who may not write, and
gives a draft's assets other addresses than those of a release.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import itertools
import json
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from .hosting import Asked, Hosting, Refusal, Reply, answer, page

_DESCRIPTION = Path(__file__).parents[1] / "data" / "github-openapi.json.gz"
_WHEN = "2026-01-02T03:04:05Z"

#: The hosts as the description has them.
_HOSTS = {"api": "https://api.github.com", "uploads": "https://uploads.github.com"}

#: What any request may be answered by, without being described.
_GENERAL = {307, 401, 403, 429, 500, 502, 503}


@functools.cache
def _description() -> tuple[Any, dict[str, Any]]:
    from openapi_core import OpenAPI

    content = json.loads(gzip.decompress(_DESCRIPTION.read_bytes()))
    return OpenAPI.from_dict(content), content


@dataclass
class Asset:
    """An asset; changing `content` alone is damage that the service does not notice."""

    id: int
    name: str
    label: str | None
    content: bytes
    state: str = "uploaded"
    digest: str | None = None


@dataclass
class Release:
    """A release or a draft of one."""

    id: int
    tag: str
    name: str
    draft: bool
    immutable: bool = False
    assets: dict[int, Asset] = field(default_factory=dict)
    secret: str = field(default_factory=lambda: f"untagged-{secrets.token_hex(10)}")

    def by_name(self) -> dict[str, Asset]:
        """Return the assets by their names."""
        return {asset.name: asset for asset in self.assets.values()}


@dataclass
class Repo:
    """A repository."""

    name: str
    private: bool = False
    releases: dict[int, Release] = field(default_factory=dict)


class GitHub(Hosting):
    """The service; see `Hosting` for the troubles it can make."""

    def __init__(self, *, enterprise: bool = False) -> None:
        super().__init__("api", "uploads", "objects")
        self.repos: dict[str, Repo] = {}
        #: Whether assets have digests; those of older servers have none.
        self.digests = True
        self._tokens: dict[str, bool] = {}
        self._ids = itertools.count(1001)
        self.site = self.origin("api")
        self.api = self.site + ("/api/v3" if enterprise else "")
        #: Where uploads go.
        self.uploads = f"{self.site}/api/uploads" if enterprise else self.origin("uploads")

    # -- set-up ----------------------------------------------------------------------------

    def make_repo(self, name: str, *, private: bool = False) -> Repo:
        """Make a repository."""
        self.repos[name] = Repo(name, private)
        return self.repos[name]

    def make_token(self, *, write: bool = True) -> str:
        """Return a token that may read everything, and perhaps write."""
        token = f"ghp_{secrets.token_hex(18)}"
        self._tokens[token] = write
        return token

    def make_release(self, repo: Repo, tag: str, *, draft: bool = False) -> Release:
        """Make a release."""
        release = Release(next(self._ids), tag, tag, draft)
        repo.releases[release.id] = release
        return release

    def make_asset(
        self, release: Release, name: str, content: bytes, state: str = "uploaded"
    ) -> Asset:
        """Make an asset."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        known = self.digests and state == "uploaded"
        asset = Asset(next(self._ids), name, None, content, state, digest if known else None)
        release.assets[asset.id] = asset
        return asset

    # -- checks ----------------------------------------------------------------------------

    def handle(self, asked: Asked) -> Reply:
        """Answer a request, and check both against the description; see `Hosting.handle`."""
        for prefix, port in (("/api/v3", "api"), ("/api/uploads", "uploads")):
            if asked.target.startswith(f"{prefix}/"):
                asked.port, asked.target = port, asked.target.removeprefix(prefix)
        reply = super().handle(asked)
        if asked.path.startswith("/repos/") and asked.whole and not reply.lost:
            with self.lock:
                self._check(asked, reply)
        return reply

    def _check(self, asked: Asked, reply: Reply) -> None:
        from openapi_core.exceptions import OpenAPIError

        openapi, content = _description()
        request, response = _Request(asked), _Response(reply)
        try:
            openapi.validate_request(request)
            known = _documented(content, asked)
            if str(reply.status) in known:
                openapi.validate_response(request, response)
            elif reply.status not in _GENERAL:
                self.complaints.append(f"{asked}: {reply.status} is not documented")
        except OpenAPIError as error:
            # what refuses a request as the description wants need not be told twice
            if reply.status < 400:
                wrong = getattr(error.__cause__, "schema_errors", ())
                told = "; ".join(f"{one.json_path}: {one.message[:200]}" for one in wrong)
                self.complaints.append(f"{asked}: {error!r} {told}")

    # -- requests --------------------------------------------------------------------------

    def route(self, asked: Asked) -> Reply:
        """Answer a request; see `Hosting.route`."""
        if asked.port == "objects":
            return self._object(asked)
        if "/releases/download/" in asked.path:
            return self._web(asked)
        if "x-github-api-version" not in asked.headers:
            raise Refusal(501, "no version of the interface is named")
        may_write = self._authenticate(asked)
        found = re.fullmatch(r"/repos/([^/]+/[^/]+)(?:/releases(.*))?", asked.path)
        if not found:
            raise Refusal(501, "not known here")
        repo = self.repos.get(found[1])
        if repo is None or (repo.private and may_write is None):
            raise _not_found()
        if found[2] is None:
            return answer(self._tell_repo(repo, bool(may_write)))
        if asked.method != "GET" and not may_write:
            raise Refusal(403, {"message": "Resource not accessible by personal access token"})
        return self._releases(asked, repo, found[2], bool(may_write))

    def _authenticate(self, asked: Asked) -> bool | None:
        """Return whether the token may write; None if there is none."""
        shown = asked.headers.get("authorization")
        if shown is None:
            return None
        scheme, _, token = shown.partition(" ")
        if scheme != "Bearer" or token not in self._tokens:
            raise Refusal(401, {"message": "Bad credentials"})
        return self._tokens[token]

    def _releases(self, asked: Asked, repo: Repo, rest: str, may_write: bool) -> Reply:
        every = [one for one in repo.releases.values() if may_write or not one.draft]
        tag = re.fullmatch(r"/tags/(.+)", rest)
        one = re.fullmatch(r"/(\d+)(/assets)?", rest)
        asset = re.fullmatch(r"/assets/(\d+)", rest)
        uploads = bool(one and one[2] and asked.method == "POST")
        if uploads != (asked.port == "uploads"):
            raise Refusal(501, "this is another host's")
        if not rest:
            return self._all(asked, repo, every)
        if tag:
            for release in every:
                if release.tag == unquote(tag[1]) and not release.draft:
                    return answer(self._tell(repo, release))
            raise _not_found()
        if one:
            release = next((r for r in every if r.id == int(one[1])), None)
            if release is None:
                raise _not_found()
            work = self._assets if one[2] else self._one
            return work(asked, repo, release)
        if asset:
            return self._asset(asked, repo, every, int(asset[1]))
        raise Refusal(501, "not known here")

    def _all(self, asked: Asked, repo: Repo, every: list[Release]) -> Reply:
        if asked.method == "GET":
            newest = sorted(every, key=lambda release: -release.id)
            return answer([self._tell(repo, release) for release in _paged(asked, newest)])
        wanted = asked.json()
        tag, draft = wanted["tag_name"], wanted.get("draft", False)
        if not draft and any(r.tag == tag and not r.draft for r in every):
            raise _invalid("Release", "tag_name", "already_exists")
        release = self.make_release(repo, tag, draft=draft)
        release.name = wanted.get("name", tag)
        told = self._tell(repo, release)
        return answer(told, 201, {"Location": told["url"]})

    def _one(self, asked: Asked, repo: Repo, release: Release) -> Reply:
        if asked.method == "PATCH":
            wanted = asked.json()
            taken = [r for r in repo.releases.values() if r.tag == release.tag and not r.draft]
            if release.draft and not wanted.get("draft", True) and taken:
                raise _invalid("Release", "tag_name", "already_exists")
            release.draft = wanted.get("draft", release.draft)
        elif asked.method == "DELETE":
            del repo.releases[release.id]
            return answer(None, 204)
        return answer(self._tell(repo, release))

    def _assets(self, asked: Asked, repo: Repo, release: Release) -> Reply:
        if asked.method == "GET":
            assets = _paged(asked, list(release.assets.values()))
            return answer([self._tell_asset(repo, release, asset) for asset in assets])
        name, label = _renamed(asked.query["name"]), asked.query.get("label") or None
        if release.immutable and not release.draft:
            raise Refusal(422, {"message": "Cannot upload assets to an immutable release."})
        if name in release.by_name():
            raise _invalid("ReleaseAsset", "name", "already_exists")
        if not asked.body:
            raise _invalid("ReleaseAsset", "size", "custom")
        if len(release.assets) >= 1000:
            raise _invalid("ReleaseAsset", "file_count", "custom")
        asset = self.make_asset(release, name, asked.body)
        asset.label = label
        return answer(self._tell_asset(repo, release, asset), 201)

    def broken(self, asked: Asked) -> None:
        """Leave a ``starter`` of an upload that did not come whole."""
        found = re.fullmatch(r"/repos/([^/]+/[^/]+)/releases/(\d+)/assets", asked.path)
        if found and asked.method == "POST":
            release = self.repos[found[1]].releases[int(found[2])]
            name = _renamed(asked.query["name"])
            if name not in release.by_name():
                self.make_asset(release, name, b"", state="starter")

    def _asset(self, asked: Asked, repo: Repo, every: list[Release], number: int) -> Reply:
        release = next((one for one in every if number in one.assets), None)
        if release is None:
            raise _not_found()
        asset = release.assets[number]
        if asked.method == "DELETE":
            del release.assets[number]
            return answer(None, 204)
        if asked.method == "PATCH":
            self._rename(asked, release, asset)
        if asked.headers.get("accept") == "application/octet-stream":
            return Reply(302, b"", {"Location": self._object_url(asset)})
        return answer(self._tell_asset(repo, release, asset))

    def _rename(self, asked: Asked, release: Release, asset: Asset) -> None:
        wanted = asked.json()
        name = _renamed(wanted.get("name", asset.name))
        if release.immutable and not release.draft:
            raise Refusal(422, {"message": "Cannot update assets of an immutable release."})
        if release.by_name().get(name, asset) is not asset:
            raise _invalid("ReleaseAsset", "name", "already_exists")
        asset.name, asset.label = name, wanted.get("label", asset.label)

    # -- downloads -------------------------------------------------------------------------

    def _object_url(self, asset: Asset) -> str:
        # another host name, to which no token may go
        return f"{self.origin('objects', 'localhost')}/{asset.id}?signature=1"

    def _object(self, asked: Asked) -> Reply:
        if "authorization" in asked.headers:
            raise Refusal(501, "a token was sent to the host of the objects")
        number = int(asked.path.strip("/"))
        for repo in self.repos.values():
            for release in repo.releases.values():
                if number in release.assets:
                    content = release.assets[number].content
                    return Reply(200, content, {"Content-Type": "application/octet-stream"})
        raise _not_found()

    def _web(self, asked: Asked) -> Reply:
        """Serve the public site, to which the interface's tokens mean nothing."""
        found = re.fullmatch(r"/([^/]+/[^/]+)/releases/download/(.+)/([^/]+)", asked.path)
        repo = self.repos.get(found[1]) if found else None
        if found is None or repo is None or repo.private:
            raise Refusal(404, "Not Found")
        for release in repo.releases.values():
            asset = release.by_name().get(unquote(found[3]))
            if asset and not release.draft and release.tag == unquote(found[2]):
                return Reply(302, b"", {"Location": self._object_url(asset)})
        raise Refusal(404, "Not Found")

    # -- what is told ----------------------------------------------------------------------

    def _tell_repo(self, repo: Repo, may_write: bool) -> dict[str, Any]:
        owner, _, name = repo.name.partition("/")
        example = _description()[1]["components"]["examples"]["full-repository-default-response"]
        facts = {"name": name, "full_name": repo.name, "private": repo.private, "language": None}
        # a plain repository is no fork, and made from no template
        kin = ("parent", "source", "template_repository")
        told: dict[str, Any] = {k: v for k, v in example["value"].items() if k not in kin}
        told |= facts
        told["permissions"] = {**told["permissions"], "push": may_write}
        told["owner"] = {**told["owner"], "login": owner}
        return told

    def _tell(self, repo: Repo, release: Release) -> dict[str, Any]:
        url = f"{self.api}/repos/{repo.name}/releases/{release.id}"
        uploads = f"{self.uploads}/repos/{repo.name}/releases/{release.id}/assets"
        return {
            "url": url,
            "html_url": f"{self.site}/{repo.name}/releases/tag/{quote(release.tag)}",
            "assets_url": f"{url}/assets",
            "upload_url": uploads + "{?name,label}",
            "tarball_url": None,
            "zipball_url": None,
            "id": release.id,
            "node_id": f"R{release.id}",
            "tag_name": release.tag,
            "target_commitish": "main",
            "name": release.name,
            "body": None,
            "draft": release.draft,
            "immutable": release.immutable,
            "prerelease": False,
            "created_at": _WHEN,
            "published_at": None if release.draft else _WHEN,
            "author": _user(),
            "assets": [self._tell_asset(repo, release, one) for one in release.assets.values()],
        }

    def _tell_asset(self, repo: Repo, release: Release, asset: Asset) -> dict[str, Any]:
        tag = release.secret if release.draft else quote(release.tag)
        return {
            "url": f"{self.api}/repos/{repo.name}/releases/assets/{asset.id}",
            "browser_download_url": f"{self.site}/{repo.name}/releases/download/{tag}/{asset.name}",
            "id": asset.id,
            "node_id": f"A{asset.id}",
            "name": asset.name,
            "label": asset.label,
            "state": asset.state,
            "content_type": "application/octet-stream",
            "size": len(asset.content),
            "digest": asset.digest,
            "download_count": 0,
            "created_at": _WHEN,
            "updated_at": _WHEN,
            "uploader": _user(),
        }


def _renamed(name: str) -> str:
    """Rename an asset as the site does: accents off, a point for each run of other characters."""
    plain = unicodedata.normalize("NFD", name)
    plain = re.sub(r"[\u0300-\u036f]", "", plain)
    if plain.startswith("."):
        plain = "default" + plain
    return re.sub(r"\.{2,}", ".", re.sub(r"[^\w.+@-]|[^\x00-\x7f]", ".", plain)).strip(".")


def _paged(asked: Asked, entries: list[Any]) -> list[Any]:
    size = min(int(asked.query.get("per_page", 30)), 100)
    return page(entries, int(asked.query.get("page", 1)), size)


def _documented(content: Mapping[str, Any], asked: Asked) -> set[str]:
    for path, methods in content["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
        if re.fullmatch(pattern, asked.path) and asked.method.lower() in methods:
            return set(methods[asked.method.lower()]["responses"])
    return set()


def _not_found() -> Refusal:
    told = {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}
    return Refusal(404, told)


def _invalid(resource: str, name: str, code: str) -> Refusal:
    errors = [{"resource": resource, "field": name, "code": code}]
    told = {"message": "Validation Failed", "documentation_url": "https://docs.github.com/rest"}
    return Refusal(422, {**told, "errors": errors})


def _user() -> dict[str, Any]:
    base = "https://api.github.com/users/octocat"
    names = (
        "avatar_url", "html_url", "followers_url", "following_url", "gists_url", "starred_url",
        "subscriptions_url", "organizations_url", "repos_url", "events_url", "received_events_url",
    )  # fmt: skip
    facts = {"login": "octocat", "id": 1, "node_id": "U1", "gravatar_id": "", "url": base}
    return {**facts, **dict.fromkeys(names, base), "type": "User", "site_admin": False}


class _Request:
    """A request as openapi-core wants it, at the host that the description has."""

    def __init__(self, asked: Asked) -> None:
        from openapi_core.datatypes import RequestParameters
        from werkzeug.datastructures import Headers, ImmutableMultiDict

        self.parameters = RequestParameters(
            query=ImmutableMultiDict(asked.query), header=Headers(asked.headers)
        )
        self.host_url = _HOSTS[asked.port]
        self.path = asked.path
        self.method = asked.method.lower()
        self.body = asked.body or None
        self.content_type = asked.headers.get("content-type", "")


class _Response:
    """An answer as openapi-core wants it."""

    def __init__(self, reply: Reply) -> None:
        from werkzeug.datastructures import Headers

        self.status_code = reply.status
        self.content_type = reply.headers.get("Content-Type", "").partition(";")[0]
        self.headers = Headers(reply.headers)
        # the description's own text tells of this state, its list of states does not
        self.data = reply.body.replace(b'"state": "starter"', b'"state": "open"')
