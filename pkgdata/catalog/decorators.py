"""``@dataset``, ``@datatags``, ``@datatasks``, ``@metadataset`` and the class `Dataset`.

The forms are datamaestro's, those of its 0.8 line and of its current one::

    @datatags("image")
    @filedownloader("train.idx", "https://…/train-idx3-ubyte.gz")
    @dataset(ImageClassification, url="https://…")
    def mnist(train): ...

    @datatags("image")
    @dataset(url="https://…")
    class MNIST(Dataset):
        TRAIN = FileDownloader("train.idx", "https://…/train-idx3-ubyte.gz")

        def config(self) -> ImageClassification: ...

Decorators may stand in any order.
"""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

from ..errors import CatalogError
from . import active
from . import library as library  # sets `active.default`, which definitions are prepared by
from .definition import Definition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _DataPath:
    """``MyDataset.data_path``: the folder of its data."""

    def __get__(self, instance: object, owner: type) -> Path:
        found = active.of_class(owner)
        if found is None:
            raise AttributeError(f"{owner.__name__} is no dataset: @dataset is missing")
        return Path(found.datapath)


class DefinitionClass:
    """A definition as a class: its resources are attributes, ``config()`` returns the data."""

    data_path = _DataPath()

    def config(self) -> Any:
        """Return the data."""
        raise NotImplementedError(f"{type(self).__name__} has no method config()")


#: The name in definitions; datamaestro's, too.
Dataset = DefinitionClass


class dataset:
    """Make a definition from the function or class below.

    Parameters
    ----------
    base : type, optional
        Type of the data; by default what the function, or the method ``config()``, is annotated to
        return. A class below ``@metadataset`` stands for its type, and gives its tags and tasks.
    id : str, optional
        Its name, by default that of its place: a whole name (``org.example.custom``), an end after
        the module's name (``.v2`` or ``v2``), or ``""`` for the module's name alone.
    url, doi : str, optional
        A page and a paper about it.
    size : int or str, optional
        How large it is.
    timestamp : object, optional
        Which state of a dataset that changes.
    as_prepare : bool, default False
        The function gets the definition, and creates its resources itself.
    variants : Variants, optional
        How its variants differ; see `pkgdata.catalog.variants`.
    """

    def __init__(
        self,
        base: Any = None,
        *,
        id: str | None = None,
        url: str | None = None,
        doi: str | None = None,
        size: int | str | None = None,
        timestamp: Any = None,
        as_prepare: bool = False,
        variants: Any = None,
    ) -> None:
        self.meta = base.__dict__.get("__metadataset__") if isinstance(base, type) else None
        self.base = base if self.meta is None else self.meta.base
        self._notes_of = base
        self._options = {
            "id": id,
            "url": url,
            "doi": doi,
            "size": size,
            "timestamp": timestamp,
            "as_prepare": as_prepare,
            "variants": variants() if isinstance(variants, type) else variants,
        }

    def __call__(self, target: Any) -> Any:
        if active.of_class(target) is not None:
            raise CatalogError(f"{target!r} is a dataset already")
        if not (isinstance(target, type) or inspect.isfunction(target)):
            raise CatalogError(f"@dataset goes with a function or a class, not {target!r}")
        base = _inferred(target) if self.base is None else self.base
        made = Definition(target, base, **self._options)
        if self.meta is not None:
            own = active.notes_of(self._notes_of)
            made.tags |= own.tags | self.meta.tags
            made.tasks |= own.tasks | self.meta.tasks
            made.url = made.url or self.meta.url
        if isinstance(target, type):
            target.__dataset__ = made  # type: ignore[attr-defined]
            return target
        return made


def _inferred(target: Any) -> Any:
    """Return the type that a function or ``config()`` says that it returns, or the class itself."""
    is_class = isinstance(target, type)
    function = getattr(target, "config", None) if is_class else target
    if is_class and (function is None or function is Dataset.config):
        return target if not issubclass(target, Dataset) else None
    try:
        found = typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None  # a name that exists for type checkers alone
    return typing.get_origin(found) or found


class metadataset:
    """Mark a class as the description that several datasets share.

    Parameters
    ----------
    base : type, optional
        Type of their data.
    url : str, optional
        A page about them.
    """

    def __init__(self, base: Any = None, *, url: str | None = None) -> None:
        self.base = base
        self.url = url
        self.tags: set[str] = set()
        self.tasks: set[str] = set()

    def __call__(self, target: Any) -> Any:
        for cls in getattr(self.base, "__mro__", ()):
            own = cls.__dict__.get(active.ATTRIBUTE)
            self.tags |= getattr(own, "tags", set())
            self.tasks |= getattr(own, "tasks", set())
        target.__metadataset__ = self
        return target


class datatags:
    """Label a dataset, or all datasets of a type, with what they are about.

    Parameters
    ----------
    *tags : str
        Words or short phrases.
    """

    _kind = "tags"

    def __init__(self, *tags: str) -> None:
        self.words = tags

    def __call__(self, target: Any) -> Any:
        getattr(active.notes_of(target), self._kind).update(self.words)
        return target


class datatasks(datatags):
    """Label a dataset, or all datasets of a type, with what they are for.

    Parameters
    ----------
    *tasks : str
        Words or short phrases.
    """

    _kind = "tasks"

    def __init__(self, *tasks: str) -> None:
        super().__init__(*tasks)


def hook(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turn a function of a definition and more arguments into a decorator with these arguments.

    Parameters
    ----------
    name : str
        When the definition calls it: ``"pre-download"`` or ``"pre-use"``.
    """

    def annotate(function: Callable[..., Any]) -> Callable[..., Any]:
        def collect(*args: Any, **options: Any) -> Any:
            def decorate(target: Any) -> Any:
                found = active.of_class(target)
                if found is None:
                    raise CatalogError(f"{function.__name__} goes above @dataset")
                found.register_hook(name, lambda one: function(one, *args, **options))
                return target

            return decorate

        return collect

    return annotate
