"""Variants of datasets."""

from __future__ import annotations

from ...catalog.variants import AxesVariants as AxesVariants
from ...catalog.variants import Axis as Axis
from ...catalog.variants import Variants as Variants
from ...catalog.variants import split_selector

split_id_selector = split_selector
