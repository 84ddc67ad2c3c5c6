"""Dataset directories: named, immutable, pushed to and pulled from a repository, that is any store.

A dataset is a directory with at least one partition, ``data/<partition>/…``, nothing but partitions
in ``data/``, and anything else next to it: ``meta.json``, ``README.md``, other directories. Its
manifest is a `Registry`, and the digest of that is its identity.

>>> import pkgdata
>>> ds = pkgdata.dataset("flower", auto_pull=True)                     # doctest: +SKIP
>>> ds.keys(), ds["train"]                                             # doctest: +SKIP
({'test', 'train'}, PosixPath('/home/me/.local/share/pkgdata/datasets/flower/data/train'))

``docs/howto/datasets.md`` describes what a repository holds and where the settings come from.
"""

from __future__ import annotations

from .config import Config
from .operations import Dataset, create, dataset, diff, ls, purge, register, verify
from .repository import Outcome
from .transfers import pull, push

__all__ = [
    "Config",
    "Dataset",
    "Outcome",
    "create",
    "dataset",
    "diff",
    "ls",
    "pull",
    "purge",
    "push",
    "register",
    "verify",
]
