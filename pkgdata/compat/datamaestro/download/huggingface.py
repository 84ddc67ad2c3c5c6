"""Datasets of the Hugging Face Hub, by the package ``datasets``, which has its own cache."""

from __future__ import annotations

import importlib
from typing import Any

from ....catalog.resources import ValueResource
from ....errors import MissingExtraError

__all__ = ["HFDownloader", "hf_download", "load"]


def load(repo_id: str, name: Any, split: Any, data_files: Any, local_path: Any) -> Any:
    """Load a dataset."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise MissingExtraError(
            f"the dataset {repo_id!r} of the Hugging Face Hub needs the package datasets",
            hint="pip install datasets",
        ) from error
    if local_path is not None:
        return datasets.load_from_disk(str(local_path))
    return datasets.load_dataset(repo_id, name=name, split=split, data_files=data_files)


class HFDownloader(ValueResource):
    """A dataset of the hub."""

    def __init__(
        self,
        varname: str,
        repo_id: str,
        *,
        name: str | None = None,
        split: str | None = None,
        data_files: Any = None,
        local_path: Any = None,
        transient: bool = False,
    ) -> None:
        super().__init__(varname, transient=transient)
        self.repo_id = repo_id
        self.config_name = name
        self.split = split
        self.data_files = data_files
        self.local_path = local_path

    def prepare(self) -> Any:
        return load(self.repo_id, self.config_name, self.split, self.data_files, self.local_path)


hf_download = HFDownloader
