"""Variants of datasets."""

from __future__ import annotations

from ...catalog.names import split_selector
from ...catalog.variants import AxesVariants as AxesVariants
from ...catalog.variants import Axis as Axis
from ...catalog.variants import Variants as Variants

split_id_selector = split_selector
