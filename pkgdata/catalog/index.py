"""Which repositories are installed, and the index: what is known of each definition unloaded.

The index is one file for each repository, ``<cache>/catalog-v2/<key>.json``; of it only the
definition files that changed are loaded again. It only saves work: where it cannot be written, or
is damaged, all definitions are loaded.

Search terms are matched with the index: ``mnist`` matches names; ``tag:``, ``task:``, ``repo:`` (or
``repository:``) and ``type:`` match the rest. Each is a regular expression that ignores case; one
of a type must match its whole name, or the whole last part of that.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import re
import sys
import types

from .. import __version__
from ..base import fs, hashes
from ..base.config import cache_dir
from ..base.report import read_json
from ..core.lookup import announcements
from ..errors import CacheError, CatalogError
from . import repository
from .repository import ForeignRepository, Repository

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.metadata import EntryPoint
    from typing import Any

    from .definition import Definition

#: Entry-point groups, ours first.
GROUP, FOREIGN_GROUP = "pkgdata.repositories", "datamaestro.repositories"

#: Bucket of the cache. A change of the format takes the next number.
BUCKET = "catalog-v2"

#: The key of all definitions of a repository that has no tree of definition modules.
_WHOLE = "*"


@dataclasses.dataclass(eq=False)
class Installed:
    """A repository that an entry point announces (``package`` or ``package:Class``)."""

    name: str
    value: str
    group: str = GROUP
    entry: EntryPoint | None = dataclasses.field(default=None, repr=False)
    loaded: Any = dataclasses.field(default=None, repr=False)

    @property
    def package(self) -> str:
        """The package that the entry point names."""
        return self.value.partition(":")[0].strip()

    @functools.cached_property
    def folder(self) -> str | None:
        """The folder of its package, found without loading it; None if it is not there."""
        if self.loaded is not None:
            return str(self.loaded.basedir)
        try:
            spec = importlib.util.find_spec(self.package)
        except (ImportError, ValueError, AttributeError):
            return None
        if spec is None:
            return None
        if spec.origin:
            return os.path.dirname(os.path.abspath(spec.origin))
        return next(iter(spec.submodule_search_locations or ()), None)

    @property
    def repository(self) -> Any:
        """The repository, loaded."""
        if self.loaded is None:
            try:
                self.loaded = self._load()
            except CatalogError:
                raise
            except Exception as error:  # whatever a foreign package raises when it is imported
                raise CatalogError(
                    f"the repository {self.name!r} ({self.group}: {self.value}) does not load: "
                    f"{type(error).__name__}: {error}",
                    hint=_missing_package(error),
                ) from error
        return self.loaded

    def _load(self) -> Any:
        assert self.entry is not None
        found = self.entry.load()
        if isinstance(found, types.ModuleType):
            known = repository.known(repository.package_of(found))
            return known or Repository(name=self.name, package=found)
        if isinstance(found, Repository):
            return found
        if isinstance(found, type) and issubclass(found, Repository):
            return found.instance()
        if isinstance(found, type) and hasattr(found, "instance"):
            return ForeignRepository(found, self.name)
        raise TypeError(f"{found!r} is neither a package nor a Repository")


def _missing_package(error: Exception) -> str | None:
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    return f"the package {name!r} is not installed" if name else None


#: pkgdata's own repository, for those who have no other yet.
SAMPLES = "pkgdata.catalog.samples"


def installed() -> list[Installed]:
    """Return the repositories that installed packages announce, by name.

    Next to others, pkgdata's samples would be in the way: in searches and on pages.
    """
    found: dict[tuple[str, str], Installed] = {}
    for group in (GROUP, FOREIGN_GROUP):
        for entry, _ in announcements(group):
            one = Installed(entry.name, entry.value, group, entry)
            # a package may be announced to both
            found.setdefault((entry.name, one.package), one)
    others = [one for one in found.values() if one.package != SAMPLES]
    return sorted(others or found.values(), key=lambda one: one.name)


@functools.lru_cache(4)
def _packages(path: tuple[str, ...]) -> list[Installed]:
    return installed()


def of_module(module: str) -> Repository | None:
    """Return the repository that a module belongs to."""
    for package in repository.made:
        if f"{module}.".startswith(f"{package}.config."):
            made = repository.known(package)
            if made is not None:
                return made
    for one in _packages(tuple(sys.path)):
        if f"{module}.".startswith(f"{one.package}.config.") and one.group == GROUP:
            found = one.repository
            return found if isinstance(found, Repository) else None
    return None


# -- the index -------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class IndexEntry:
    """A definition as the index knows it."""

    installed: Installed
    #: Its module, relative to its package.
    file: str
    #: Its repository's name.
    repository: str
    id: str
    aliases: list[str] = dataclasses.field(default_factory=list)
    title: str = ""
    description: str = ""
    tags: list[str] = dataclasses.field(default_factory=list)
    tasks: list[str] = dataclasses.field(default_factory=list)
    #: Names of the type of its data and of that type's bases.
    types: list[str] = dataclasses.field(default_factory=list)
    url: str | None = None
    #: Bytes, or the author's own words.
    size: int | str | None = None
    license: str | None = None
    line: int | None = None
    #: Names of the axes along which its variants differ.
    variants: list[str] = dataclasses.field(default_factory=list)

    @property
    def path(self) -> str:
        """The file that it stands in."""
        return os.path.join(self.installed.folder or "", *self.file.split("/"))

    def load(self) -> Definition:
        """Load the definition."""
        for one in _definitions(self.installed.repository, self.file):
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
        "size": getattr(one, "size", None) or _resource_bytes(one),
        "license": getattr(one, "license", None),
        "line": one.line,
        "variants": sorted(getattr(variants, "axes", ("...",))) if variants else [],
    }
    return {key: value for key, value in facts.items() if value}


def _resource_bytes(one: Any) -> int | None:
    """Return the sum of the sizes of a dataset's resources, if all are known."""
    found = [getattr(resource, "size", None) for resource in one.resources.values()]
    sizes = [size for size in found if isinstance(size, int)]
    return sum(sizes) if sizes and len(sizes) == len(found) else None


class Index:
    """What is known of the definitions of one repository."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed
        #: What did not load at the last look.
        self.problems: list[CatalogError] = []
        self._known: dict[str, Any] | None = None

    @property
    def file(self) -> str:
        """The index's file."""
        one = self.installed
        key = hashes.short_key(f"{one.group} {one.name} {one.value} {one.folder}")
        return os.path.join(cache_dir()[0], BUCKET, f"{key}.json")

    def _load(self) -> dict[str, Any]:
        if self._known is None:
            try:
                found = read_json(self.file, ValueError, fs.plain)
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
            pass  # the next search loads the definitions

    def _marks(self) -> dict[str, list[int]]:
        """Return the definition files and their marks; ``""`` has that of the package itself."""
        folder = self.installed.folder
        if folder is None:
            return {_WHOLE: []}
        found = {file: list(mark) for file, mark in repository.definition_files(folder).items()}
        own = list(repository.mark(os.path.join(folder, "__init__.py")))
        if found:
            return {**found, "": own}
        marks = (repository.mark(path) for _, path in fs.walk_files(folder) if path.endswith(".py"))
        return {_WHOLE: [sum(column) for column in zip(*marks, strict=True)], "": own}

    def records(self) -> Iterator[IndexEntry]:
        """Yield what is known of each definition; files that changed are loaded first."""
        content = self._fresh()
        name = content["name"]
        for file, entry in content["files"].items():
            for facts in entry["datasets"]:
                yield IndexEntry(self.installed, file, name, **facts)

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
            # no mark, so that it is tried again: the reason may be in another file
            return {"mark": None, "datasets": []}
        return {"mark": mark, "datasets": found}


def _holds(entry: Any, mark: list[int]) -> bool:
    return isinstance(entry, dict) and entry.get("mark") == mark


# -- search terms ----------------------------------------------------------------------------------


class Condition:
    """What must hold of a definition, or of what the index knows of it."""

    def match(self, dataset: Any) -> bool:
        """Return True if it holds."""
        raise NotImplementedError(f"{type(self).__name__} has no method match()")

    @staticmethod
    def parse(searchterm: str) -> Condition:
        """Read a search term."""
        kind, colon, rest = searchterm.partition(":")
        return _KINDS[kind](rest) if colon and kind in _KINDS else IDCondition(searchterm)


class AndCondition(Condition):
    """All of several conditions."""

    def __init__(self, *conditions: Condition) -> None:
        self.conditions = list(conditions)

    def append(self, condition: Condition) -> None:
        """Add one."""
        self.conditions.append(condition)

    def match(self, dataset: Any) -> bool:
        return all(one.match(dataset) for one in self.conditions)

    def __repr__(self) -> str:
        return " AND ".join(map(repr, self.conditions))


class OrCondition(AndCondition):
    """Any of several conditions."""

    def match(self, dataset: Any) -> bool:
        return any(one.match(dataset) for one in self.conditions)

    def __repr__(self) -> str:
        return " OR ".join(map(repr, self.conditions))


class ReCondition(Condition):
    """A regular expression."""

    #: What it is matched with, for `repr`.
    of = ""

    def __init__(self, regex: str) -> None:
        try:
            self.regex = re.compile(regex, re.IGNORECASE)
        except re.error as error:
            raise CatalogError(
                f"the search term {regex!r} is not a regular expression: {error}"
            ) from None

    def __repr__(self) -> str:
        return f"{self.of} ~ {self.regex.pattern}"

    def match(self, dataset: Any) -> bool:
        return any(map(self.regex.search, self._texts(dataset)))

    def _texts(self, dataset: Any) -> Iterable[str]:
        found: Iterable[str] = getattr(dataset, f"{self.of}s")
        return found


class IDCondition(ReCondition):
    """A regular expression for the name."""

    of = "name"

    def _texts(self, dataset: Any) -> Iterable[str]:
        return [dataset.id]


class TagCondition(ReCondition):
    """A regular expression for a tag."""

    of = "tag"


class TaskCondition(ReCondition):
    """A regular expression for a task."""

    of = "task"


class RepositoryCondition(ReCondition):
    """A regular expression for the repository."""

    of = "repository"

    def _texts(self, dataset: Any) -> Iterable[str]:
        found = dataset.repository
        return [] if found is None else [getattr(found, "id", found)]


class TypeCondition(ReCondition):
    """A regular expression for a name of the data's type, as a whole."""

    of = "type"

    def match(self, dataset: Any) -> bool:
        whole = self.regex.fullmatch
        return any(whole(name) or whole(name.rpartition(".")[2]) for name in dataset.types)


_KINDS: dict[str, type[ReCondition]] = {
    "tag": TagCondition,
    "task": TaskCondition,
    "type": TypeCondition,
    "repo": RepositoryCondition,
    "repository": RepositoryCondition,
}


def all_of(terms: Iterable[str]) -> AndCondition:
    """Return the condition that all search terms match."""
    return AndCondition(*map(Condition.parse, terms))
