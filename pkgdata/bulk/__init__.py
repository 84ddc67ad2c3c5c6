"""Copying, moving, synchronising and removing many objects, as library functions."""
