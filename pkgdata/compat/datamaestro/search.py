"""Search conditions."""

from __future__ import annotations

from ...catalog.search import (
    AndCondition,
    Condition,
    IDCondition,
    OrCondition,
    ReCondition,
    RepositoryCondition,
    TagCondition,
    TaskCondition,
    TypeCondition,
)

__all__ = [
    "AndCondition",
    "Condition",
    "IDCondition",
    "OrCondition",
    "ReCondition",
    "RepositoryCondition",
    "TagCondition",
    "TaskCondition",
    "TypeCondition",
]
