"""Data types: what a prepared dataset is, as a Python object.

A type is a class derived from `Base`, a dataclass, any other class whose objects can be made of
keyword arguments, or a configuration class of experimaestro, where that is installed.
"""

from __future__ import annotations

#: Where each name lives.
_HOMES = {
    "Base": "base",
    "File": "base",
    "Folder": "base",
    "Generic": "base",
    "CSV": "csv",
    "Matrix": "csv",
    "IDX": "tensor",
    "Tensor": "tensor",
    "FolderBased": "ml",
    "ImageClassification": "ml",
    "LabelledImages": "ml",
    "Supervised": "ml",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    import importlib

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
