"""The catalog: datasets by qualified name, tag and task, prepared as Python objects.

>>> import pkgdata
>>> ds = pkgdata.prepare_dataset("com.lecun.mnist")                     # doctest: +SKIP
>>> ds.train.images.data().shape                                        # doctest: +SKIP
(60000, 28, 28)

A definition says what a dataset consists of and what is made of it; definitions are in packages
that plug in by entry points. Everything that is fetched comes through the same transfer, locks and
cache as the files of packages. `docs/howto/catalog.md` shows how a repository is written.

::

  places       how datasets are named, and where they are
  objects      what is made of a dataset, as JSON too;  types  those that pkgdata has
  resources/   what a dataset consists of;  fetch  from a resource to the engine
  active       the catalog at work, and what decorators leave
  definition   what an author says about a dataset;  decorators  how, and variants
  repository   packages of definitions, datamaestro's too
  index        what is installed, and known without loading it;  search terms
  prepare      fetch and make a dataset
  library      `Catalog`, which joins them
  upkeep       further commands of ``pkgdata catalog``
"""

from __future__ import annotations

#: The public names of each module.
_NAMES = {
    "library": ("Catalog", "find_dataset", "get_dataset", "prepare_dataset"),
    "repository": ("Repository",),
    "definition": ("Definition",),
    "decorators": (
        *("Dataset", "dataset", "datatags", "datatasks", "hook", "metadataset"),
        *("AxesVariants", "Axis", "Variants"),
    ),
    "places": ("DataFolder",),
    "resources": (
        *("FileChecker", "HashCheck"),
        *("FileResource", "FolderResource", "Resource", "ValueResource"),
    ),
    "resources.files": (
        *("FileDownloader", "filedownloader", "ConcatDownloader", "concatdownload"),
        *("processed", "wayback_documents"),
    ),
    "resources.folders": (
        *("ArchiveDownloader", "ZipDownloader", "zipdownloader", "TarDownloader", "tardownloader"),
        *("FilesDownloader", "FilesCopy", "custom_download"),
    ),
    "resources.elsewhere": (*("links", "linkfile", "linkfolder", "manual", "reference"),),
    "objects": ("Base",),
    "types": (
        *("File", "Folder", "Generic", "CSV", "Matrix", "IDX", "Tensor"),
        *("FolderBased", "ImageClassification", "LabelledImages", "Supervised"),
    ),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}

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
