"""An imitation of Zenodo: depositions, buckets, versions, publication, and what the public reads.

::

    with Zenodo() as server:
        Zenodo("zenodo:", token=server.make_token(), endpoint=server.site)

A published record never changes; a new version begins with the files of the last one, and there is
one draft of it at a time. What comes through the bucket is told with ``md5:`` before its checksum,
what comes through the list of files without, as the service does.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from .hosting import Asked, Hosting, Refusal, Reply, answer, page


@dataclass
class File:
    """A file; changing `content` alone is damage that the service does not notice."""

    id: str
    name: str
    content: bytes
    md5: str


@dataclass
class Deposition:
    """A record or its draft."""

    id: int
    concept: int
    owner: str
    metadata: dict[str, Any]
    bucket: str
    submitted: bool = False
    files: dict[str, File] = field(default_factory=dict)
    #: Looks until a publication shows.
    looks: int = 0

    @property
    def doi(self) -> str:
        """Its identifier."""
        return f"10.5281/zenodo.{self.id}"


class Zenodo(Hosting):
    """The service; see `Hosting` for the troubles it can make."""

    def __init__(self) -> None:
        super().__init__("site")
        self.depositions: dict[int, Deposition] = {}
        #: Looks at a published deposition before it shows as such.
        self.looks = 1
        #: Whether a new version begins with the files of the last one.
        self.inherits = True
        #: Bytes of an account.
        self.quota = 10**9
        self._tokens: dict[str, set[str]] = {}
        self._ids = itertools.count(542201)
        self.site = self.origin("site")

    # -- set-up ----------------------------------------------------------------------------

    def make_token(self, *scopes: str) -> str:
        """Return a token, which is an account too; with both scopes if none is named."""
        token = secrets.token_hex(30)
        self._tokens[token] = set(scopes or ("deposit:write", "deposit:actions"))
        return token

    def published(self) -> list[Deposition]:
        """Return the published records, oldest first."""
        return [one for one in self.depositions.values() if one.submitted]

    # -- requests --------------------------------------------------------------------------

    def route(self, asked: Asked) -> Reply:
        """Answer a request; see `Hosting.route`."""
        path = asked.path
        if path.startswith(("/records/", "/api/records/")):
            return self._public(asked)
        account = self._account(asked)
        if path == "/api/deposit/depositions":
            return self._all(asked, account)
        if path.startswith("/api/files/"):
            return self._bucket(asked, account)
        found = re.fullmatch(r"/api/deposit/depositions/(\d+)(?:/(files|actions)(?:/(.+))?)?", path)
        if not found:
            raise Refusal(501, "not known here")
        one = self.depositions.get(int(found[1]))
        if one is None:
            raise _missing()
        if one.owner != account:
            raise _denied()
        if found[2] == "files":
            return self._files(asked, account, one, found[3])
        if found[2] == "actions":
            return self._act(asked, account, one, found[3])
        _only(asked, "GET")
        if one.submitted and one.looks:
            one.looks -= 1
        return answer(self._tell(one))

    def _account(self, asked: Asked) -> str:
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if "access_token" in asked.query:
            raise Refusal(501, "a token in an address")
        if scheme != "Bearer" or token not in self._tokens:
            message = "The server could not verify that you are authorized."
            raise Refusal(401, {"message": message, "status": 401})
        return token

    def _need(self, account: str, scope: str) -> None:
        if scope not in self._tokens[account]:
            raise _denied()

    def _all(self, asked: Asked, account: str) -> Reply:
        if asked.method == "GET":
            own = [one for one in self.depositions.values() if one.owner == account]
            # of each record the last version alone
            last = {one.concept: one for one in own}
            size = int(asked.query.get("size", 10))
            if size > 100:
                raise Refusal(400, {"message": "Page size is too large.", "status": 400})
            every = list(reversed(last.values()))
            return answer(
                [self._tell(one) for one in page(every, int(asked.query.get("page", 1)), size)]
            )
        _only(asked, "POST")
        self._need(account, "deposit:write")
        number = next(self._ids)
        one = self._make(number - 1, account, asked.json().get("metadata", {}), number)
        return answer(self._tell(one), 201)

    def _make(
        self, concept: int, account: str, metadata: dict[str, Any], number: int | None = None
    ) -> Deposition:
        number = number or next(self._ids)
        one = Deposition(number, concept, account, dict(metadata), secrets.token_hex(16))
        self.depositions[number] = one
        return one

    def _act(self, asked: Asked, account: str, one: Deposition, action: str) -> Reply:
        _only(asked, "POST")
        self._need(account, "deposit:actions")
        if action == "publish":
            self._check_metadata(one)
            one.submitted, one.looks = True, self.looks
            return answer(self._tell(one), 202)
        if action != "newversion":
            raise Refusal(501, "not known here")
        if not one.submitted or self._latest(one) is not one:
            raise Refusal(400, {"message": "Not the latest version.", "status": 400})
        if self._draft(one) is None:
            draft = self._make(one.concept, account, one.metadata)
            if self.inherits:
                draft.files = dict(one.files)
        # the answer is the published record: its links lead to the draft
        return answer(self._tell(one), 201)

    def _check_metadata(self, one: Deposition) -> None:
        wanted = ("title", "upload_type", "description", "creators")
        errors = [
            {"field": f"metadata.{name}", "message": "Missing data for required field."}
            for name in wanted
            if not one.metadata.get(name)
        ]
        if not one.files:
            errors.append({"field": "files", "message": "There are no files."})
        if one.submitted or errors:
            told = {"message": "Validation error.", "status": 400, "errors": errors}
            raise Refusal(400, told)

    # -- files -----------------------------------------------------------------------------

    def _files(self, asked: Asked, account: str, one: Deposition, number: str | None) -> Reply:
        if number is None:
            _only(asked, "GET")
            return answer([self._tell_file(one, file) for file in one.files.values()])
        _only(asked, "DELETE")
        self._need(account, "deposit:write")
        if one.submitted:
            raise _denied()
        found = [file for file in one.files.values() if file.id == number]
        if not found:
            raise _missing()
        del one.files[found[0].name]
        return answer(None, 204)

    def _bucket(self, asked: Asked, account: str) -> Reply:
        bucket, _, key = asked.path.removeprefix("/api/files/").partition("/")
        key = unquote(key)
        one = next((one for one in self.depositions.values() if one.bucket == bucket), None)
        if one is None or not key or "/" in key:
            raise _missing()
        if one.owner != account:
            raise _denied()
        if asked.method == "GET":
            if key not in one.files:
                raise _missing()
            return _content(one.files[key])
        _only(asked, "PUT")
        self._need(account, "deposit:write")
        if asked.headers.get("content-type") != "application/octet-stream":
            raise Refusal(415, {"message": "Unsupported media type.", "status": 415})
        if one.submitted:
            raise _denied()
        stored = sum(len(file.content) for file in one.files.values())
        if stored + len(asked.body) > self.quota:
            raise Refusal(400, {"message": "Bucket quota exceeded.", "status": 400})
        md5 = hashlib.md5(asked.body).hexdigest()
        file = File(secrets.token_hex(16), key, asked.body, md5)
        one.files[key] = file
        return answer(self._tell_object(one, file), 200)

    # -- what everybody may see ------------------------------------------------------------

    def _public(self, asked: Asked) -> Reply:
        if "authorization" in asked.headers:
            raise Refusal(501, "the public needs no token")
        _only(asked, "GET")
        found = re.fullmatch(r"/(api/)?records/(\d+)(?:/files/([^/]+)(/content)?)?", asked.path)
        if not found:
            raise Refusal(501, "not known here")
        number = int(found[2])
        versions = [one for one in self.published() if one.concept == number]
        if versions:
            newest = f"{self.site}/{found[1] or ''}records/{versions[-1].id}"
            return Reply(302, b"", {"Location": newest})
        one = self.depositions.get(number)
        if one is None or not one.submitted or one.looks:
            raise _missing()
        if found[3] is not None:
            file = one.files.get(unquote(found[3]))
            if file is None:
                raise _missing()
            return _content(file)
        if not found[1]:
            return Reply(
                200, b"<!doctype html><title>A record</title>", {"Content-Type": "text/html"}
            )
        return answer(self._tell_record(one))

    # -- what is told ----------------------------------------------------------------------

    def _latest(self, one: Deposition) -> Deposition:
        return [other for other in self.published() if other.concept == one.concept][-1]

    def _draft(self, one: Deposition) -> Deposition | None:
        drafts = [
            other
            for other in self.depositions.values()
            if other.concept == one.concept and not other.submitted
        ]
        return drafts[0] if drafts else None

    def _tell(self, one: Deposition) -> dict[str, Any]:
        base = f"{self.site}/api/deposit/depositions/{one.id}"
        shown = one.submitted and not one.looks
        links = {
            "self": base,
            "html": f"{self.site}/deposit/{one.id}",
            "files": f"{base}/files",
            "bucket": f"{self.site}/api/files/{one.bucket}",
            "publish": f"{base}/actions/publish",
            "newversion": f"{base}/actions/newversion",
        }
        draft = self._draft(one)
        if draft is not None:
            links["latest_draft"] = f"{self.site}/api/deposit/depositions/{draft.id}"
            links["latest_draft_html"] = f"{self.site}/deposit/{draft.id}"
        if one.submitted:
            links["latest"] = f"{self.site}/api/records/{self._latest(one).id}"
        reserved = {"prereserve_doi": {"doi": one.doi, "recid": one.id}}
        told = {
            "id": one.id,
            "record_id": one.id,
            "conceptrecid": str(one.concept),
            "title": one.metadata.get("title", ""),
            "metadata": {**one.metadata, **reserved},
            "state": "done" if shown else "unsubmitted",
            "submitted": shown,
            "files": [self._tell_file(one, file) for file in one.files.values()],
            "links": links,
        }
        return {**told, "doi": one.doi} if shown else told

    def _tell_file(self, one: Deposition, file: File) -> dict[str, Any]:
        link = f"{self.site}/api/files/{one.bucket}/{quote(file.name)}"
        return {
            "id": file.id,
            "filename": file.name,
            # a fraction, as the service writes it since it changed its software
            "filesize": float(len(file.content)),
            "checksum": file.md5,
            "links": {"download": link},
        }

    def _tell_object(self, one: Deposition, file: File) -> dict[str, Any]:
        return {
            "key": file.name,
            "mimetype": "application/octet-stream",
            "checksum": f"md5:{file.md5}",
            "version_id": file.id,
            "size": len(file.content),
            "links": {"self": f"{self.site}/api/files/{one.bucket}/{quote(file.name)}"},
            "is_head": True,
            "delete_marker": False,
        }

    def _tell_record(self, one: Deposition) -> dict[str, Any]:
        base = f"{self.site}/api/records/{one.id}"
        files = [
            {
                "id": file.id,
                "key": file.name,
                "size": len(file.content),
                "checksum": f"md5:{file.md5}",
                "links": {"self": f"{base}/files/{quote(file.name)}/content"},
            }
            for file in one.files.values()
        ]
        return {"id": one.id, "doi": one.doi, "files": files, "links": {"self": base}}


def _content(file: File) -> Reply:
    kind = {"Content-Type": "application/octet-stream", "Content-MD5": file.md5}
    return Reply(200, file.content, kind)


def _only(asked: Asked, method: str) -> None:
    if asked.method != method:
        raise Refusal(405, {"message": "Method not allowed.", "status": 405})


def _missing() -> Refusal:
    return Refusal(404, {"message": "PID does not exist.", "status": 404})


def _denied() -> Refusal:
    return Refusal(403, {"message": "Permission denied.", "status": 403})
