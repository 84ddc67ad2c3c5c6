"""datamaestro's names, for definitions and programs that change their imports alone.

``from datamaestro.definitions import dataset`` becomes ``from
pkgdata.compat.datamaestro.definitions import dataset``. Definitions of datamaestro's 0.8 line and
of its current line load; experimaestro is not needed. The modules have datamaestro's paths and
names, what they do is `pkgdata.catalog`'s. Data are where datamaestro keeps them,
``DATAMAESTRO_DIR`` or ``~/datamaestro``, so what was downloaded before is found.
"""

from __future__ import annotations

from ... import __version__
from ...catalog.decorators import Dataset, dataset
from .context import BaseRepository, Context, Repository, find_dataset, get_dataset, prepare_dataset
from .data import Base
from .definitions import metadata

__all__ = [
    "Base",
    "BaseRepository",
    "Context",
    "Dataset",
    "Repository",
    "__version__",
    "dataset",
    "find_dataset",
    "get_dataset",
    "metadata",
    "prepare_dataset",
]
