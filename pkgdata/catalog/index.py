"""The index: what is known of each definition without loading it.

One file for each repository, ``<cache>/catalog-v1/<key>.json``, rebuilt in part when a definition
file appears, changes or goes: then that file alone is loaded. It is only a memory: where it cannot
be written, or is damaged, the definitions are loaded instead.
"""

from __future__ import annotations

import json
import os

from .. import __version__
from ..base import fs
from ..base.config import cache_dir
from ..errors import CacheError, CatalogError
from . import repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from .definition import Definition
    from .repository import Installed

#: Bucket of the cache. A change of the format takes the next number.
BUCKET = "catalog-v1"

#: The key of all definitions of a repository that has no tree of definition modules.
_WHOLE = "*"


class Record:
    """A definition as the index knows it.

    Parameters
    ----------
    file : str
        Its module, relative to its package.
    repository : str
        Its repository's name.
    """

    __slots__ = ("_facts", "file", "installed", "repository")

    def __init__(
        self, installed: Installed, file: str, facts: Mapping[str, Any], repository: str
    ) -> None:
        self.installed = installed
        self.file = file
        self._facts = facts
        self.repository = repository

    def __repr__(self) -> str:
        return f"<Record {self.id} of {self.repository}>"

    @property
    def id(self) -> str:
        """Its name."""
        return str(self._facts["id"])

    @property
    def aliases(self) -> list[str]:
        """Names that it had before."""
        return list(self._facts.get("aliases", ()))

    @property
    def title(self) -> str:
        """What it is in one line."""
        return str(self._facts.get("title", ""))

    @property
    def description(self) -> str:
        """What its author says about it."""
        return str(self._facts.get("description", ""))

    @property
    def tags(self) -> list[str]:
        """What it is about."""
        return list(self._facts.get("tags", ()))

    @property
    def tasks(self) -> list[str]:
        """What it is for."""
        return list(self._facts.get("tasks", ()))

    @property
    def types(self) -> list[str]:
        """Names of the type of its data and of what that derives from."""
        return list(self._facts.get("types", ()))

    @property
    def url(self) -> str | None:
        """A page about it."""
        return self._facts.get("url")

    @property
    def variants(self) -> list[str]:
        """By what its variants differ."""
        return list(self._facts.get("variants", ()))

    @property
    def path(self) -> str:
        """The file that it stands in."""
        return os.path.join(self.installed.folder or "", *self.file.split("/"))

    @property
    def line(self) -> int | None:
        """The line where it begins."""
        return self._facts.get("line")

    def load(self) -> Definition:
        """Load the definition.

        Raises
        ------
        CatalogError
            Its module does not load, or has it no longer.
        """
        found = _definitions(self.installed.repository, self.file)
        for one in found:
            if one.id == self.id:
                return one
        raise CatalogError(f"{self.path} has no definition of {self.id}", file=self.path)


def _definitions(repo: Any, file: str) -> list[Definition]:
    return list(repo) if file == _WHOLE else list(repo.definitions_in(file))


def _facts(one: Any) -> dict[str, Any]:
    variants = getattr(one, "variants", None)
    facts = {
        "id": one.id,
        "aliases": sorted(set(one.aliases) - {one.id}),
        "title": one.name,
        "description": one.description,
        "tags": sorted(one.tags),
        "tasks": sorted(one.tasks),
        "types": one.types,
        "url": one.url,
        "line": one.line,
        "variants": sorted(getattr(variants, "axes", ("...",))) if variants else [],
    }
    return {key: value for key, value in facts.items() if value}


class Index:
    """What is known of the definitions of one repository."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed
        #: What did not load at the last look.
        self.problems: list[CatalogError] = []
        self._known: dict[str, Any] | None = None

    @property
    def file(self) -> str:
        """The index's file.

        Raises
        ------
        CacheError
            There is no cache.
        """
        import hashlib

        one = self.installed
        words = f"{one.group} {one.name} {one.value} {one.folder}"
        key = hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()[:32]
        return os.path.join(cache_dir()[0], BUCKET, f"{key}.json")

    def _load(self) -> dict[str, Any]:
        if self._known is None:
            try:
                with open(self.file, "rb") as file:
                    found = json.loads(file.read())
                good = found["release"] == __version__ and isinstance(found["files"], dict)
                self._known = found if good else {}
            except (OSError, ValueError, KeyError, TypeError, CacheError):
                self._known = {}
        return self._known

    def _save(self, content: dict[str, Any]) -> None:
        self._known = content
        try:
            path = self.file
            fs.make_dirs(os.path.dirname(path))
            text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
            fs.write_atomic(path, text.encode(errors="surrogateescape"), sync=False, follow=True)
        except (OSError, CacheError):
            pass  # a memory, no more

    def _marks(self) -> dict[str, list[int]]:
        """Return the definition files and their marks; those of the package's own beside them."""
        folder = self.installed.folder
        if folder is None:
            return {_WHOLE: []}
        found = {file: list(mark) for file, mark in repository.definition_files(folder).items()}
        own = _mark(os.path.join(folder, "__init__.py"))
        if found:
            return {**found, "": own}
        marks = (_mark(path) for _, path in fs.walk_files(folder) if path.endswith(".py"))
        return {_WHOLE: [sum(column) for column in zip(*marks, strict=True)], "": own}

    def records(self) -> Iterator[Record]:
        """Yield what is known of each definition; files that changed are loaded first."""
        content = self._fresh()
        name = content["name"]
        for file, entry in content["files"].items():
            for facts in entry["datasets"]:
                yield Record(self.installed, file, facts, name)

    def describe(self) -> tuple[str, str]:
        """Return the repository's name and what it is."""
        content = self._fresh()
        return content["name"], content["description"]

    def _fresh(self) -> dict[str, Any]:
        marks = self._marks()
        known = self._load()
        files = known.get("files", {}) if known.get("own") == marks.get("") else {}
        wanted = [file for file in marks if file]
        old = {file: files[file] for file in wanted if _holds(files.get(file), marks[file])}
        if known and known.get("own") == marks.get("") and list(files) == list(old) == wanted:
            self.problems = []
            return known
        return self._rebuild(marks, wanted, old)

    def _rebuild(
        self, marks: dict[str, list[int]], wanted: list[str], old: dict[str, Any]
    ) -> dict[str, Any]:
        self.problems = []
        content: dict[str, Any] = {"release": __version__, "own": marks.get(""), "files": {}}
        try:
            repo = self.installed.repository
        except CatalogError as error:
            self.problems.append(error)
            return {"name": self.installed.name, "description": "", "files": {}}
        content |= {"name": repo.id, "description": repo.description}
        for file in wanted:
            content["files"][file] = old.get(file) or self._entry(repo, file, marks[file])
        self._save(content)
        return content

    def _entry(self, repo: Any, file: str, mark: list[int]) -> dict[str, Any]:
        try:
            found = [_facts(one) for one in _definitions(repo, file)]
        except CatalogError as error:
            self.problems.append(error)
            # no mark: what failed is tried again, for the reason may be elsewhere
            return {"mark": None, "datasets": []}
        return {"mark": mark, "datasets": found}


def _holds(entry: Any, mark: list[int]) -> bool:
    return isinstance(entry, dict) and entry.get("mark") == mark


def _mark(path: str) -> list[int]:
    try:
        found = os.stat(path)
    except OSError:
        return [0, 0]
    return [found.st_mtime_ns, found.st_size]
