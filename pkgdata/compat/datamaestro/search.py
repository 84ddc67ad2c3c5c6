"""Search conditions."""

from __future__ import annotations

from ...catalog.search import AndCondition as AndCondition
from ...catalog.search import Condition as Condition
from ...catalog.search import IDCondition as IDCondition
from ...catalog.search import OrCondition as OrCondition
from ...catalog.search import ReCondition as ReCondition
from ...catalog.search import RepositoryCondition as RepositoryCondition
from ...catalog.search import TagCondition as TagCondition
from ...catalog.search import TaskCondition as TaskCondition
from ...catalog.search import TypeCondition as TypeCondition
