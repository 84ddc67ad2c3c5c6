"""Decompression."""

from __future__ import annotations

from . import Gunzip as Gunzip
