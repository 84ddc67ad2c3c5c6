"""Search terms.

``mnist`` matches names; ``tag:``, ``task:``, ``repo:`` (or ``repository:``) and ``type:`` what they
say. Each is a regular expression, upper and lower case alike; a type's must match one of its names
as a whole: its full name, or the last part of that. All terms must match.
"""

from __future__ import annotations

import re

from ..errors import CatalogError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


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
                f"the search term {regex!r} is no regular expression: {error}"
            ) from None

    def __repr__(self) -> str:
        return f"{self.of} ~ {self.regex.pattern}"

    def _any(self, texts: Iterable[str]) -> bool:
        return any(map(self.regex.search, texts))


class IDCondition(ReCondition):
    """A regular expression for the name."""

    of = "name"

    def match(self, dataset: Any) -> bool:
        return self.regex.search(dataset.id) is not None


class TagCondition(ReCondition):
    """A regular expression for a tag."""

    of = "tag"

    def match(self, dataset: Any) -> bool:
        return self._any(dataset.tags)


class TaskCondition(ReCondition):
    """A regular expression for a task."""

    of = "task"

    def match(self, dataset: Any) -> bool:
        return self._any(dataset.tasks)


class RepositoryCondition(ReCondition):
    """A regular expression for the repository."""

    of = "repository"

    def match(self, dataset: Any) -> bool:
        found = dataset.repository
        name = getattr(found, "id", found)
        return name is not None and self.regex.search(name) is not None


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
