"""Search conditions."""

from __future__ import annotations

from ...catalog.index import AndCondition as AndCondition
from ...catalog.index import Condition as Condition
from ...catalog.index import IDCondition as IDCondition
from ...catalog.index import OrCondition as OrCondition
from ...catalog.index import ReCondition as ReCondition
from ...catalog.index import RepositoryCondition as RepositoryCondition
from ...catalog.index import TagCondition as TagCondition
from ...catalog.index import TaskCondition as TaskCondition
from ...catalog.index import TypeCondition as TypeCondition
