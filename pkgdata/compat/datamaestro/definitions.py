"""Decorators and base classes of definitions."""

from __future__ import annotations

from typing import Any

from ...catalog.active import of_class
from ...catalog.decorators import Dataset, dataset, datatags, datatasks, hook, metadataset
from ...catalog.definition import Definition, Part
from ...errors import CatalogError
from .context import Context, DatafolderPath, Repository
from .xpm import Config, Constant, Meta, Option, Param, argument, constant, field

#: datamaestro's names of a definition.
AbstractDataset = DatasetWrapper = DataDefinition = Definition
FutureAttr = Part

__all__ = [
    "AbstractDataset",
    "Config",
    "Constant",
    "Context",
    "DataAnnotation",
    "DataDefinition",
    "DatafolderPath",
    "Dataset",
    "DatasetAnnotation",
    "DatasetWrapper",
    "FutureAttr",
    "Meta",
    "Option",
    "Param",
    "Repository",
    "argument",
    "constant",
    "dataset",
    "datatags",
    "datatasks",
    "field",
    "hook",
    "metadata",
    "metadataset",
]


class DatasetAnnotation:
    """A decorator of definitions: derive from it and have a method ``annotate(definition)``."""

    def __call__(self, dataset: Any) -> Any:
        found = of_class(dataset)
        if found is None:
            raise CatalogError(f"{type(self).__name__} must stand above @dataset, not {dataset!r}")
        self.annotate(found)
        return dataset

    def annotate(self, dataset: Definition) -> None:
        """Note something of a definition."""
        raise NotImplementedError(f"{type(self).__name__} has no method annotate()")


DataAnnotation = DatasetAnnotation


class metadata:
    """Say what a dataset is about and for."""

    def __init__(self, tags: Any = (), tasks: Any = ()) -> None:
        self.tags = [tags] if isinstance(tags, str) else list(tags or ())
        self.tasks = [tasks] if isinstance(tasks, str) else list(tasks or ())

    def __call__(self, target: Any) -> Any:
        return datatasks(*self.tasks)(datatags(*self.tags)(target))
