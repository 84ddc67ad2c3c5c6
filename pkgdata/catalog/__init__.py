"""The catalog: datasets by qualified name, tag and task, prepared as Python objects.

>>> import pkgdata
>>> ds = pkgdata.prepare_dataset("com.lecun.mnist")                     # doctest: +SKIP
>>> ds.train.images.data().shape                                        # doctest: +SKIP
(60000, 28, 28)

A definition says what a dataset consists of and what is made of it; definitions lie in packages
that plug in by entry points. Everything that is fetched comes through the same transfer, locks and
cache as the files of packages. `docs/catalog.md` shows how a repository is written.

::

  names        qualified names
  places       where prepared data lie
  definition   what an author says about a dataset;  decorators  how
  resources/   what it consists of;  fetch  from a resource to the engine
  types/       what is made of it;  encode  as JSON
  prepare      bring it here
  repository   packages of definitions;  foreign  those of datamaestro
  index        what is known of each without loading it;  search  terms
  library      `Catalog`, which joins them
  upkeep, copying, site   what is done with a catalog besides
"""

from __future__ import annotations

#: Where each public name lives.
_HOMES = {
    "Catalog": "library",
    "find_dataset": "library",
    "get_dataset": "library",
    "prepare_dataset": "library",
    "Repository": "repository",
    "Definition": "definition",
    "Dataset": "decorators",
    "dataset": "decorators",
    "datatags": "decorators",
    "datatasks": "decorators",
    "hook": "decorators",
    "metadataset": "decorators",
    "AxesVariants": "variants",
    "Axis": "variants",
    "Variants": "variants",
    "DataFolder": "places",
    "FileChecker": "checks",
    "HashCheck": "checks",
}

#: Packages whose names are public here, too.
_PACKAGES = {
    "resources": (
        *("FileResource", "FolderResource", "Resource", "ValueResource"),
        *("FileDownloader", "filedownloader", "ConcatDownloader", "concatdownload"),
        *("ArchiveDownloader", "ZipDownloader", "zipdownloader", "TarDownloader", "tardownloader"),
        *("FilesDownloader", "FilesCopy", "links", "linkfile", "linkfolder", "reference"),
        *("manual", "custom_download", "processed", "wayback_documents"),
    ),
    "types": (
        *("Base", "File", "Folder", "Generic", "CSV", "Matrix", "IDX", "Tensor"),
        *("FolderBased", "ImageClassification", "LabelledImages", "Supervised"),
    ),
}
_HOMES |= {name: home for home, names in _PACKAGES.items() for name in names}

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    import importlib

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
