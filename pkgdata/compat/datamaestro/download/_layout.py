"""Where datamaestro puts folders, so that what it downloaded is found."""

from __future__ import annotations

from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....catalog.resources import Resource


def found(resource: Resource, own: Path, name: str) -> Path:
    """Return where a folder lies: at pkgdata's own place, unless only datamaestro's is there.

    datamaestro unpacks an archive into the dataset's own folder if that is its only resource, else
    into one of the given name.
    """
    if own.exists():
        return own
    folder = resource.owner.datapath
    if len(resource.owner.resources) > 1:
        theirs = folder / name
        return theirs if theirs.is_dir() else own
    return folder if _has_content(resource, folder) else own


def _has_content(resource: Resource, folder: Path) -> bool:
    """Return True if a dataset's folder holds more than notes, and folders of other datasets."""
    if not folder.is_dir():
        return False
    names = [one.name for one in folder.iterdir() if not one.name.startswith(".")]
    if not names:
        return False
    prefix = f"{resource.owner.id}."
    below = {
        one.id[len(prefix) :].partition(".")[0]
        for one in resource.owner.catalog.records()
        if one.id.startswith(prefix)
    }
    return not below.issuperset(names)
