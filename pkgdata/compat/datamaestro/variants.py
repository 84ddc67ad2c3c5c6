"""Variants of datasets."""

from __future__ import annotations

from ...catalog.names import split_selector as split_id_selector
from ...catalog.variants import AxesVariants, Axis, Variants

__all__ = ["AxesVariants", "Axis", "Variants", "split_id_selector"]
