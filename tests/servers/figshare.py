"""An imitation of Figshare: articles, the upload service with its parts, publication, downloads.

::

    with Figshare() as server:
        Figshare("figshare:", token=server.make_token(), endpoint=server.api)

It has three hosts: the interface, the upload service, and that of downloads. It cuts files into
parts of `part` bytes, puts them together only some looks after the last part (`looks`), takes no
part that is locked or of another length, and publishes no article without the fields that the
service asks for. Every publication is a version of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from .hosting import Asked, Hosting, Refusal, Reply, answer, page


@dataclass
class File:
    """A file of an article."""

    id: int
    name: str
    size: int
    supplied_md5: str
    token: str
    #: By number, from 1.
    parts: dict[int, bytes] = field(default_factory=dict)
    locked: set[int] = field(default_factory=set)
    status: str = "created"
    content: bytes | None = None
    #: Looks until it is put together.
    looks: int = 0
    link_only: bool = False
    #: Whether the upload has been given up.
    aborted: bool = False


@dataclass
class Article:
    """An article."""

    id: int
    owner: str
    fields: dict[str, Any]
    files: dict[int, File] = field(default_factory=dict)
    #: The files of each version that was published.
    versions: list[dict[int, File]] = field(default_factory=list)

    @property
    def doi(self) -> str:
        """The identifier of the last version."""
        return f"10.6084/m9.figshare.{self.id}.v{len(self.versions)}" if self.versions else ""


class Figshare(Hosting):
    """The service; see `Hosting` for the troubles it can make."""

    def __init__(self) -> None:
        super().__init__("api", "uploads", "downloads")
        self.articles: dict[int, Article] = {}
        #: Bytes of a part.
        self.part = 1000
        #: Looks at a complete file before it is put together.
        self.looks = 1
        #: Fields without which nothing is published.
        self.required = ("title", "description", "categories", "tags")
        self._tokens: set[str] = set()
        self._ids = itertools.count(3001)
        self.api = self.origin("api") + "/v2"

    # -- set-up ----------------------------------------------------------------------------

    def make_token(self) -> str:
        """Return a token, which is an account too."""
        token = secrets.token_hex(32)
        self._tokens.add(token)
        return token

    def file(self, name: str) -> File:
        """Return the only file of a name."""
        (found,) = [
            file
            for article in self.articles.values()
            for file in article.files.values()
            if file.name == name
        ]
        return found

    # -- requests --------------------------------------------------------------------------

    def route(self, asked: Asked) -> Reply:
        """Answer a request; see `Hosting.route`."""
        if asked.port == "uploads":
            return self._upload(asked)
        if asked.port == "downloads":
            return self._download(asked)
        path = asked.path.removeprefix("/v2")
        if path.startswith("/articles"):
            return self._public(asked, path)
        account = self._account(asked)
        if path == "/account/articles":
            return self._articles(asked, account)
        found = re.fullmatch(r"/account/articles/(\d+)(/files|/publish)?(?:/(\d+))?", path)
        if not found:
            raise Refusal(501, "not known here")
        article = self.articles.get(int(found[1]))
        if article is None or article.owner != account:
            raise _missing()
        if found[2] == "/publish":
            return self._publish(asked, article)
        if found[2] == "/files":
            return self._files(asked, article, found[3])
        _only(asked, "GET")
        return answer(self._tell(article))

    def _account(self, asked: Asked) -> str:
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if "access_token" in asked.query or "token" in asked.query:
            raise Refusal(501, "a token in an address")
        if scheme != "token" or token not in self._tokens:
            raise Refusal(403, {"message": "Invalid token", "code": "OAuthInvalidToken"})
        return token

    def _articles(self, asked: Asked, account: str) -> Reply:
        if asked.method == "GET":
            own = [one for one in self.articles.values() if one.owner == account]
            return answer([self._tell(one) for one in _paged(asked, own)])
        _only(asked, "POST")
        fields = asked.json()
        if not 3 <= len(fields.get("title", "")) <= 1000:
            raise Refusal(400, {"message": "Invalid title", "code": "BadRequest"})
        article = Article(next(self._ids), account, fields)
        self.articles[article.id] = article
        location = f"{self.api}/account/articles/{article.id}"
        return answer({"location": location, "entity_id": article.id, "warnings": []}, 201)

    def _publish(self, asked: Asked, article: Article) -> Reply:
        _only(asked, "POST")
        lacking = [name for name in self.required if not article.fields.get(name)]
        if lacking:
            told = {name: ["This field is required."] for name in lacking}
            raise Refusal(400, {"message": "Invalid article", "code": "Bad", "data": told})
        if any(file.status != "available" for file in article.files.values()):
            raise Refusal(400, {"message": "Files are being uploaded", "code": "BadRequest"})
        article.versions.append(dict(article.files))
        return answer({"location": f"{self.api}/articles/{article.id}"}, 201)

    # -- files -----------------------------------------------------------------------------

    def _files(self, asked: Asked, article: Article, number: str | None) -> Reply:
        if number is None:
            if asked.method == "GET":
                found = _paged(asked, list(article.files.values()))
                return answer([self._tell_file(article, file) for file in found])
            _only(asked, "POST")
            return self._initiate(asked, article)
        file = article.files.get(int(number))
        if file is None:
            raise _missing()
        if asked.method == "DELETE":
            del article.files[file.id]
            return answer(None, 204)
        if asked.method == "POST":
            if file.status != "created":
                raise Refusal(400, {"message": "The upload is complete", "code": "BadRequest"})
            if set(file.parts) != set(self._ranges(file)):
                raise Refusal(400, {"message": "Parts are missing", "code": "BadRequest"})
            file.status, file.looks = "ic_checking", self.looks
            return answer(None, 202)
        self._assemble(file)
        return answer(self._tell_file(article, file))

    def _initiate(self, asked: Asked, article: Article) -> Reply:
        fields = asked.json()
        if set(fields) != {"name", "size", "md5"}:
            raise Refusal(422, {"message": f"fields {sorted(fields)}", "code": "BadRequest"})
        file = File(
            next(self._ids), fields["name"], fields["size"], fields["md5"], secrets.token_hex(16)
        )
        article.files[file.id] = file
        location = f"{self.api}/account/articles/{article.id}/files/{file.id}"
        return answer({"location": location}, 201)

    def _assemble(self, file: File) -> None:
        """Put a file together once it has been looked at often enough."""
        if file.status != "ic_checking":
            return
        if file.looks:
            file.looks -= 1
            return
        file.content = b"".join(file.parts[number] for number in sorted(file.parts))
        file.status = "available"

    # -- the upload service ----------------------------------------------------------------

    def _ranges(self, file: File) -> dict[int, tuple[int, int]]:
        """Return the first and last byte of each part."""
        starts = range(0, file.size, self.part)
        return {
            number: (start, min(start + self.part, file.size) - 1)
            for number, start in enumerate(starts, 1)
        }

    def _upload(self, asked: Asked) -> Reply:
        found = re.fullmatch(r"/upload/([0-9a-f]+)(?:/(\d+))?", asked.path)
        every = [file for article in self.articles.values() for file in article.files.values()]
        file = next((one for one in every if found and one.token == found[1]), None)
        if found is None or file is None:
            raise Refusal(404)
        if found[2] is None:
            _only(asked, "GET")
            return answer(self._tell_upload(file))
        number = int(found[2])
        if number not in self._ranges(file):
            raise Refusal(404)
        if number in file.locked or file.status != "created":
            raise Refusal(409)
        if asked.method == "DELETE":
            file.parts.pop(number, None)
            return Reply(200)
        _only(asked, "PUT")
        first, last = self._ranges(file)[number]
        if len(asked.body) != last - first + 1:
            raise Refusal(501, f"part {number} has {len(asked.body)} bytes: this would hang")
        file.parts[number] = asked.body
        return Reply(200)

    def _tell_upload(self, file: File) -> dict[str, Any]:
        parts = [
            {
                "partNo": number,
                "startOffset": first,
                "endOffset": last,
                "status": "COMPLETE" if number in file.parts else "PENDING",
                "locked": number in file.locked,
            }
            for number, (first, last) in self._ranges(file).items()
        ]
        status = "PENDING" if file.status == "created" else "COMPLETED"
        return {
            "token": file.token,
            "name": f"{file.id}/{file.name}",
            "size": file.size,
            "md5": file.supplied_md5,
            "status": "ABORTED" if file.aborted else status,
            "parts": parts,
        }

    # -- what everybody may see ------------------------------------------------------------

    def _public(self, asked: Asked, path: str) -> Reply:
        _only(asked, "GET")
        if path == "/articles":
            wanted = asked.query.get("doi", "")
            found = [one for one in self.articles.values() if _has_doi(one, wanted)]
            return answer([self._tell(one) for one in _paged(asked, found)])
        part = re.fullmatch(r"/articles/(\d+)(?:/versions/(\d+))?(/files)?", path)
        article = self.articles.get(int(part[1])) if part else None
        if part is None or article is None or not article.versions:
            raise _missing()
        number = int(part[2] or len(article.versions))
        if not 1 <= number <= len(article.versions):
            raise _missing()
        files = [self._tell_file(article, one) for one in article.versions[number - 1].values()]
        public = ("id", "name", "size", "is_link_only", "download_url")
        kept = (*public, "supplied_md5", "computed_md5")
        told = [{key: file[key] for key in kept} for file in files]
        if part[3]:
            return answer(_paged(asked, told))
        return answer({**self._tell(article), "files": told, "version": number})

    def _download(self, asked: Asked) -> Reply:
        number = int(asked.path.removeprefix("/files/"))
        for article in self.articles.values():
            shown = {n: f for version in article.versions for n, f in version.items()}
            if number not in shown:
                if number not in article.files or self._account(asked) != article.owner:
                    continue
                shown = article.files
            content = shown[number].content
            if content is not None:
                return Reply(200, content, {"Content-Type": "application/octet-stream"})
        raise _missing()

    # -- what is told ----------------------------------------------------------------------

    def _tell(self, article: Article) -> dict[str, Any]:
        return {
            "id": article.id,
            "title": article.fields["title"],
            "doi": article.doi,
            "is_public": bool(article.versions),
            "version": len(article.versions),
            "url_private_html": f"https://figshare.example/account/articles/{article.id}",
            "url_public_api": f"{self.api}/articles/{article.id}",
        }

    def _tell_file(self, article: Article, file: File) -> dict[str, Any]:
        computed = "" if file.content is None else hashlib.md5(file.content).hexdigest()
        attached = bool(article.versions) and file.id in article.versions[-1]
        return {
            "id": file.id,
            "name": file.name,
            "size": file.size,
            "is_link_only": file.link_only,
            "download_url": f"{self.origin('downloads')}/files/{file.id}",
            "supplied_md5": file.supplied_md5,
            "computed_md5": computed,
            "status": file.status,
            "viewer_type": "",
            "preview_state": "preview_not_available",
            "upload_url": f"{self.origin('uploads')}/upload/{file.token}",
            "upload_token": file.token,
            "is_attached_to_public_version": attached,
        }


def _has_doi(article: Article, doi: str) -> bool:
    base, _, _ = article.doi.rpartition(".v")
    return bool(base) and doi in (base, article.doi)


def _paged(asked: Asked, entries: list[Any]) -> list[Any]:
    return page(entries, int(asked.query.get("page", 1)), int(asked.query.get("page_size", 10)))


def _only(asked: Asked, method: str) -> None:
    if asked.method != method:
        raise Refusal(501, f"not by {asked.method}")


def _missing() -> Refusal:
    return Refusal(404, {"message": "Entity not found", "code": "EntityNotFound"})
