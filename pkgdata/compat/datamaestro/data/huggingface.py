"""Datasets of the Hugging Face Hub."""

from __future__ import annotations

from typing import Any

from . import Base


class HuggingFaceDataset(Base):
    """A dataset of the hub, or a copy of one on disk.

    Fields: ``repo_id``, ``name``, ``split``, ``data_files``, and ``local_path`` of a copy.
    """

    __xpmid__ = "datamaestro.data.huggingface.huggingfacedataset"

    repo_id: str = ""
    name: str | None = None
    split: str | None = None
    data_files: Any = None
    local_path: Any = None

    @property
    def data(self) -> Any:
        """The dataset, as the package ``datasets`` loads it."""
        from ..download.huggingface import load

        return load(self.repo_id, self.name, self.split, self.data_files, self.local_path)


DatasetHuggingFace = HuggingFaceDataset
