"""Thin dialects of other libraries: their names and habits on pkgdata's engine."""
