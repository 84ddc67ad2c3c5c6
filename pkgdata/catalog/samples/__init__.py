"""Samples of pkgdata: a table, an image and an array, which need no network."""
