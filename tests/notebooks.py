"""A notebook that shows our objects, executed as Jupyter does and written as a page."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import pkgdata

CELLS = """
# Data of a package
---
import pkgdata

samples = pkgdata.__path__[0] + "/data"
registry = pkgdata.declare("pkgdata").registry
data = pkgdata.declare("starmaps", dataurl=samples, registry=registry)
data
---
data.registry
---
data.where("stars.csv")
---
data.fetch(progress=True)
---
pkgdata.Store("mem://notebook", threads=4)
---
pkgdata.Catalog().search("nothing-has-this-name")
---
pkgdata.conf
"""


def executed(folder: Path) -> Any:
    """Return the notebook with its outputs; skip the test if Jupyter's libraries are missing."""
    for name in ("ipykernel", "nbconvert"):
        if find_spec(name) is None:  # not imported: that alone would tell of a notebook
            pytest.skip(f"needs {name}: pip install {name}")
    from nbclient import NotebookClient
    from nbformat import v4

    head, *cells = [cell.strip() for cell in CELLS.split("---\n")]
    book = v4.new_notebook(cells=[v4.new_markdown_cell(head), *map(v4.new_code_cell, cells)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(pkgdata.__file__)))
        patch.setenv("PKGDATA_PROGRESS", "auto")
        NotebookClient(book, timeout=120, kernel_name="python3").execute(cwd=str(folder))
    return book


def written(book: Any, path: Path, theme: str) -> Path:
    """Write a notebook as a page in the ``light`` or ``dark`` theme of JupyterLab."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(theme=theme).from_notebook_node(book)
    path.write_text(page, "utf-8")
    return path
