"""Variants of datasets."""

from __future__ import annotations

from ...catalog.decorators import AxesVariants as AxesVariants
from ...catalog.decorators import Axis as Axis
from ...catalog.decorators import Variants as Variants
from ...catalog.places import split_selector

split_id_selector = split_selector
